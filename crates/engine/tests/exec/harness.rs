//! Attempts to run, and a look at the processes that they leave.

use anteroom::core::{ClaimNumber, JobId, Name, Payload, Priority, RetryPolicy, Spec, Timestamp};
use anteroom::run::exec::{Exec, ExecRunner, Launcher};
use anteroom::run::{Attempt, Outcome, RetryHint, Runner as _, Stop};
use anteroom::store::memory::MemoryStore;
use anteroom::{Engine, Options, Submission, Task, TaskRunner};
use anteroom::{clock::Clock, core::PayloadInfo};
use bytes::Bytes;
use nix::unistd::geteuid;
use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// No test takes longer.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// The variable that tells a test's processes from all others.
const MARK: &str = "ANTEROOM_TEST_MARK";

pub(crate) fn exec(argv: &[&str]) -> Exec {
    Exec {
        argv: argv.iter().map(|&argument| argument.to_owned()).collect(),
        launcher: Some(Launcher::at(env!("CARGO_BIN_EXE_anteroom-launcher"))),
        ..Exec::default()
    }
}

/// A program of the shell's.
pub(crate) fn shell(script: &str) -> Exec {
    exec(&["sh", "-c", script])
}

pub(crate) fn runner(exec: Exec) -> ExecRunner {
    ExecRunner::new(exec).unwrap()
}

pub(crate) fn attempt(input: impl Into<Bytes>, stop: &Stop) -> Attempt {
    let input = Payload {
        content_type: "application/octet-stream".into(),
        bytes: input.into(),
    };
    let spec = Spec {
        id: JobId::from_parts(1_700_000_000_000, 7, 42),
        task: Name::new("wordcount").unwrap(),
        queue: Name::new("default").unwrap(),
        group: None,
        priority: Priority::default(),
        created_at: Timestamp::from_millis(1_700_000_000_000),
        timeout: Duration::from_mins(5),
        retain: Duration::from_hours(1),
        unique_key: None,
        callback_url: None,
        tags: BTreeMap::new(),
        input: PayloadInfo {
            content_type: input.content_type.clone(),
            bytes: input.bytes.len(),
        },
    };
    let deadline = Timestamp::from_millis(1_795_348_800_007);
    let claim = ClaimNumber::new(99);
    Attempt::new(Arc::new(spec), input, 2, 5, claim, deadline, stop.clone())
}

/// Runs `exec` to its end.
pub(crate) async fn run(exec: Exec, input: impl Into<Bytes>) -> Outcome {
    let attempt = attempt(input, &Stop::default());
    let runner = runner(exec);
    patiently(runner.run(attempt)).await
}

pub(crate) async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it should not take that long")
}

pub(crate) fn output(outcome: Outcome) -> Bytes {
    match outcome {
        Outcome::Succeeded(payload) => payload.bytes,
        other @ (Outcome::Failed { .. } | Outcome::Busy { .. }) => panic!("{other:?}"),
    }
}

pub(crate) fn text(outcome: Outcome) -> String {
    String::from_utf8(output(outcome).into()).unwrap()
}

/// Returns what a failure said, and whether it is for good.
pub(crate) fn failure(outcome: Outcome) -> (String, bool) {
    match outcome {
        Outcome::Failed { message, retry } => (message, retry == RetryHint::Never),
        other @ (Outcome::Succeeded(_) | Outcome::Busy { .. }) => panic!("{other:?}"),
    }
}

/// Tells the processes of one test from all others, whatever their group, session or parent.
#[derive(Clone, Debug)]
pub(crate) struct Mark(String);

impl Mark {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self(format!("{}-{number}", std::process::id()))
    }

    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Marks all that `exec` starts.
    pub(crate) fn on(&self, mut exec: Exec) -> Exec {
        exec.env.insert(MARK.to_owned(), self.0.clone());
        exec
    }

    /// Returns the marked processes that are alive, by id, with their names.
    pub(crate) fn processes(&self) -> BTreeMap<i32, String> {
        let wanted = format!("{MARK}={}", self.0);
        let is_marked = |pid: i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let mut variables = environment.split(|byte| *byte == 0);
            variables.any(|variable| variable == wanted.as_bytes())
        };
        let name = |pid: i32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .filter(|pid| is_marked(*pid))
            .map(|pid| (pid, name(pid).trim().to_owned()))
            .collect()
    }

    /// Waits until so many marked processes have `name`, and returns their ids.
    pub(crate) async fn wait_for(&self, name: &str, count: usize) -> Vec<i32> {
        let find = || {
            let all = self.processes().into_iter();
            let named = all.filter(|(_pid, other)| other == name);
            named.map(|(pid, _name)| pid).collect::<Vec<_>>()
        };
        until(PATIENCE, || {
            Some(find()).filter(|found| found.len() == count)
        })
        .await
    }

    /// Waits until no marked process is left.
    pub(crate) async fn wait_for_none(&self, limit: Duration) {
        until(limit, || self.processes().is_empty().then_some(())).await;
    }
}

/// Looks until there is something: the kernel has no event for processes that are not ours.
pub(crate) async fn until<T>(limit: Duration, look: impl Fn() -> Option<T>) -> T {
    let clock = Clock::system();
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    let found = tokio::time::timeout(limit, looking).await;
    found.unwrap_or_else(|_| panic!("not within {limit:?}"))
}

/// An engine whose one task runs `exec`, and tries again at once.
pub(crate) async fn engine(exec: Exec) -> Engine {
    let runner = TaskRunner::Here(Arc::new(runner(exec)));
    let mut task = Task::new("wordcount", runner).unwrap();
    task.retry = RetryPolicy {
        initial: Duration::ZERO,
        ..RetryPolicy::default()
    };
    let store = Arc::new(MemoryStore::new(Clock::system()));
    let started = Engine::start(store, vec![task], Options::default()).await;
    started.unwrap()
}

pub(crate) async fn submit(engine: &Engine) -> JobId {
    let input = Payload {
        content_type: "text/plain".into(),
        bytes: Bytes::new(),
    };
    let submission = Submission::new(Name::new("wordcount").unwrap(), input);
    engine.submit(submission).await.unwrap().job.spec.id
}

/// Tells whether programs may be run as other users, and if not, that a test is left out.
pub(crate) fn may_become_others() -> bool {
    let is_root = geteuid().is_root();
    if !is_root {
        eprintln!("left out: only root can run programs as another user");
    }
    is_root
}
