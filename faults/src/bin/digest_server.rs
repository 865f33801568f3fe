//! A server whose tasks write down each attempt: what an embedder's own binary looks like.
//!
//! `digest` is a function, `digest-exec` is this binary as a program; both give the SHA-256 of
//! their input. `nap` does the same in a time that is known, and `doze` in a long one when it is done for
//! the first time. `pulled` is left to workers. `poison` is a function that kills the process, as its
//! input says. The engine, the store and the HTTP are those of the server under test.

use anteroom::clock::Clock;
use anteroom::core::RetryPolicy;
use anteroom::run::exec::{Exec, ExecRunner, Launcher, launcher};
use anteroom::run::{Attempt, Outcome, function};
use anteroom::store::Store;
use anteroom::store::postgres::{PostgresOptions, PostgresStore, PostgresUrl};
use anteroom::store::sqlite::SqliteStore;
use anteroom::{Engine, Options, Task, TaskRunner};
use anteroom_faults::campaign::node;
use anteroom_faults::campaign::nodes::cut_off::DOZE;
use anteroom_faults::campaign::overload::{NAP, NAP_SLOTS};
use anteroom_faults::client::digest;
use anteroom_faults::history::{Ended, Event, Recorder, now_us};
use anteroom_server::http::serve::{ServeLimits, serve};
use anteroom_server::http::{RouterOptions, router};
use anyhow::{Context, bail};
use bytes::Bytes;
use clap::Parser;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

const SHUTDOWN_GRACE: Duration = Duration::from_secs(3);
/// Between two deaths by one job.
const POISON_DELAY: Duration = Duration::from_millis(300);

/// Serves the tasks `digest`, `digest-exec`, `nap`, `doze`, `pulled` and `poison`.
#[derive(Debug, Parser)]
struct Arguments {
    /// The address to listen on.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: String,
    /// The store, `sqlite:PATH` or `postgres://...`.
    #[arg(long)]
    store: Option<String>,
    /// The file that every attempt is written to.
    #[arg(long)]
    history: PathBuf,
    /// Is the program of a job of `digest-exec`, on the node of this name.
    #[arg(long)]
    program_on: Option<String>,
}

fn main() -> anyhow::Result<ExitCode> {
    launcher::run_if_asked();
    let arguments = Arguments::parse();
    match &arguments.program_on {
        Some(node) => program(&arguments.history, node),
        None => server(&arguments),
    }
}

#[tokio::main]
async fn server(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let listener = TcpListener::bind(&arguments.listen).await?;
    let address = listener.local_addr()?;
    let store = open(arguments.store.as_deref().unwrap_or_default()).await?;
    let tasks = vec![
        function_task(arguments)?,
        program_task(arguments)?,
        nap_task(arguments)?,
        doze_task(arguments)?,
        many_attempts(Task::new("pulled", TaskRunner::Pull)?),
        poison_task(arguments)?,
    ];
    let engine = Engine::start(store, tasks, Options::default()).await?;
    let stopping = CancellationToken::new();
    let mut http = tokio::task::JoinSet::new();
    http.spawn(serve(
        listener,
        router(engine.clone(), &RouterOptions::default()),
        ServeLimits::default(),
        stopping.clone().cancelled_owned(),
    ));
    let line = format!("listening on http://{address}\n");
    eprint!("{line}");
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        failed = engine.failed() => bail!("stopping at once: {failed}"),
    }
    let drained = async {
        engine.stop(SHUTDOWN_GRACE).await;
        stopping.cancel();
        while http.join_next().await.is_some() {}
        engine.close().await;
    };
    tokio::select! {
        () = drained => Ok(ExitCode::SUCCESS),
        failed = engine.failed() => bail!("stopping at once: {failed}"),
    }
}

async fn open(url: &str) -> anyhow::Result<Arc<dyn Store>> {
    if let Some(path) = url.strip_prefix("sqlite:") {
        return Ok(Arc::new(SqliteStore::open(path, Clock::system())?));
    }
    let url = PostgresUrl::new(url).context("--store is sqlite:PATH or postgres://...")?;
    let store = PostgresStore::open(url, PostgresOptions::default()).await?;
    Ok(Arc::new(store))
}

/// A crash costs an attempt, and there are many.
fn many_attempts(mut task: Task) -> Task {
    task.max_attempts = 100;
    task.retry = RetryPolicy {
        initial: Duration::from_millis(20),
        factor: 1.0,
        max: Duration::from_millis(20),
        jitter: 0.0,
    };
    task
}

fn own_node() -> anyhow::Result<String> {
    Ok(node(i32::try_from(std::process::id())?))
}

/// Names a process among all that write to one history.
fn party(what: &str) -> String {
    format!("{what}-{}-{}", std::process::id(), now_us().1)
}

fn function_task(arguments: &Arguments) -> anyhow::Result<Task> {
    let recorder = Arc::new(Recorder::open(&arguments.history, party("server"))?);
    let node = own_node()?;
    let runner = function::bytes(move |attempt| {
        // A few milliseconds, so that a kill finds attempts at work.
        let wait = Duration::from_micros(fastrand::u64(0..5_000));
        run(attempt, recorder.clone(), node.clone(), wait)
    });
    Ok(many_attempts(Task::new(
        "digest",
        TaskRunner::Here(runner),
    )?))
}

async fn run(attempt: Attempt, recorder: Arc<Recorder>, node: String, wait: Duration) -> Outcome {
    let body = match begin(&attempt, &recorder, node) {
        Ok(body) => body,
        Err(error) => return Outcome::failed(format!("{error:#}")),
    };
    Clock::system().sleep(wait).await;
    let end = Event::End {
        id: attempt.job.id.to_string(),
        attempt: attempt.number,
        claim: attempt.claim.get(),
        outcome: Ended::Succeeded,
        result: Some(digest(body.as_bytes())),
    };
    if let Err(error) = recorder.write(end) {
        return Outcome::failed(format!("{error:#}"));
    }
    Outcome::Succeeded(anteroom::core::Payload {
        content_type: "text/plain".into(),
        bytes: Bytes::from(body),
    })
}

/// As many jobs a second as are known beforehand: slots by the time that each takes.
fn nap_task(arguments: &Arguments) -> anyhow::Result<Task> {
    let recorder = Arc::new(Recorder::open(&arguments.history, party("nap"))?);
    let node = own_node()?;
    let runner = function::bytes(move |attempt| run(attempt, recorder.clone(), node.clone(), NAP));
    let mut task = many_attempts(Task::new("nap", TaskRunner::Here(runner))?);
    task.concurrency = NAP_SLOTS;
    Ok(task)
}

/// The first attempt takes longer than its node may be out of reach of its database, unless it is told
/// to stop; the next ones take no time.
fn doze_task(arguments: &Arguments) -> anyhow::Result<Task> {
    let recorder = Arc::new(Recorder::open(&arguments.history, party("doze"))?);
    let node = own_node()?;
    let runner = function::bytes(move |attempt| doze(attempt, recorder.clone(), node.clone()));
    Ok(many_attempts(Task::new("doze", TaskRunner::Here(runner))?))
}

async fn doze(attempt: Attempt, recorder: Arc<Recorder>, node: String) -> Outcome {
    if attempt.number > 1 {
        return run(attempt, recorder, node, Duration::ZERO).await;
    }
    let stop = attempt.stop.clone();
    let (id, number, claim) = (attempt.job.id, attempt.number, attempt.claim);
    let dozing = run(attempt, recorder.clone(), node, DOZE);
    tokio::select! {
        outcome = dozing => outcome,
        () = stop.requested() => {
            let end = Event::End {
                id: id.to_string(),
                attempt: number,
                claim: claim.get(),
                outcome: Ended::Stopped,
                result: None,
            };
            match recorder.write(end) {
                Ok(()) => Outcome::failed("was told to stop"),
                Err(error) => Outcome::failed(format!("{error:#}")),
            }
        }
    }
}

/// Writes down that an attempt begins, and returns the digest of its input.
fn begin(attempt: &Attempt, recorder: &Recorder, node: String) -> anyhow::Result<String> {
    let body = digest(&attempt.input.bytes);
    recorder.write(Event::Start {
        id: attempt.job.id.to_string(),
        attempt: attempt.number,
        claim: attempt.claim.get(),
        node,
        body: body.clone(),
    })?;
    Ok(body)
}

/// One at a time, so that each death is that of one job; and some time between two of a job.
fn poison_task(arguments: &Arguments) -> anyhow::Result<Task> {
    let recorder = Arc::new(Recorder::open(&arguments.history, party("poison"))?);
    let node = own_node()?;
    let runner = function::bytes(move |attempt| {
        let begun = begin(&attempt, &recorder, node.clone());
        if begun.is_ok() {
            die(&attempt.input.bytes);
        }
        std::future::ready(Outcome::failed("the input names no way to die"))
    });
    let mut task = many_attempts(Task::new("poison", TaskRunner::Here(runner))?);
    task.concurrency = 1;
    task.retry.initial = POISON_DELAY;
    task.retry.max = POISON_DELAY;
    Ok(task)
}

/// Kills this process in the way that the first word of the input names, if it names one.
fn die(input: &[u8]) {
    match input.split(|byte| *byte == b' ').next() {
        Some(b"abort") => std::process::abort(),
        Some(b"exit") => std::process::exit(1),
        Some(b"kill") => {
            // It does not come back.
            let _dead = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
        }
        _ => {}
    }
}

fn program_task(arguments: &Arguments) -> anyhow::Result<Task> {
    let own = std::env::current_exe()?;
    let history = std::path::absolute(&arguments.history)?;
    let argv = vec![
        own.display().to_string(),
        "--history".to_owned(),
        history.display().to_string(),
        "--program-on".to_owned(),
        own_node()?,
    ];
    let exec = Exec {
        argv,
        launcher: Some(Launcher::this_binary()),
        ..Exec::default()
    };
    let runner = TaskRunner::Here(Arc::new(ExecRunner::new(exec)?));
    let mut task = many_attempts(Task::new("digest-exec", runner)?);
    task.concurrency = 8;
    Ok(task)
}

/// What a job of `digest-exec` runs.
fn program(history: &Path, node: &str) -> anyhow::Result<ExitCode> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input)?;
    let recorder = Recorder::open(history, party("program"))?;
    let (id, attempt, claim) = (
        variable("ANTEROOM_JOB_ID")?,
        variable("ANTEROOM_ATTEMPT")?.parse()?,
        variable("ANTEROOM_CLAIM")?.parse()?,
    );
    let body = digest(&input);
    recorder.write(Event::Start {
        id: id.clone(),
        attempt,
        claim,
        node: node.to_owned(),
        body: body.clone(),
    })?;
    let output = format!("{body}  -\n");
    recorder.write(Event::End {
        id,
        attempt,
        claim,
        outcome: Ended::Succeeded,
        result: Some(digest(output.as_bytes())),
    })?;
    std::io::stdout().write_all(output.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

#[expect(
    clippy::disallowed_methods,
    reason = "a program of a job is told about it in its environment"
)]
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("read {name}"))
}
