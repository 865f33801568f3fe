//! Runs a program for each job: input on standard input, result from standard output.
//!
//! One attempt is one program in a process group of its own, watched by one small supervisor (see
//! [`launcher`]). Everything of the attempt is gone when [`Runner::run`] returns. When its future
//! is dropped the supervisor is told by the closing of its control socket, kills everything and
//! ends; the attempt's slot stays occupied until it has.
//!
//! It does not decide whether there is another attempt, and it does not keep time: who runs the
//! attempt asks it to stop, and it passes that on.

mod check;
mod confine;
pub mod launcher;
mod output;
mod report;
mod said;
mod session;
mod spawner;
mod supervisor;
mod verdict;

pub use check::ExecError;
pub use confine::{Limits, User};
pub use launcher::Launcher;

use crate::clock::{Clock, rfc3339};
use crate::run::trace::traceparent;
use crate::run::{Attempt, Outcome, Runner};
use anteroom_core::limits::{KILL_GRACE_DEFAULT, RESULT_BYTES_MAX_DEFAULT};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;
use tracing::warn;
use verdict::{Verdict, is_shortage};

/// The exit status that says that the input is bad and always will be (`EX_DATAERR`).
pub const EXIT_DATA_ERROR: i32 = 65;

/// The descriptor on which a program may tell of its progress, in lines such as
/// `{"fraction": 0.5, "message": "page 4 of 8"}`. What is no such line is ignored.
pub const EVENTS_DESCRIPTOR: i32 = 3;

/// Bytes of an argument, and of an environment variable with its name: what Linux takes.
pub const ARGUMENT_BYTES_MAX: usize = 32 * 4_096 - 1;

/// The `PATH` of a program where the configuration gives it none.
pub const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Which program to run, and how.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The program and its arguments, handed over as they are: there is no shell. A program
    /// without a slash is looked for in its own `PATH`; a relative path starts at `current_dir`.
    pub argv: Vec<String>,
    /// What it finds in its environment. Wins over `env_inherit`.
    pub env: BTreeMap<String, String>,
    /// What it finds there of the server's own environment: names and values, as whoever builds
    /// this read them. `PATH` belongs here; without any it is [`PATH_DEFAULT`].
    pub env_inherit: Vec<(String, String)>,
    /// Where it starts. Default: where the server did.
    pub current_dir: Option<PathBuf>,
    /// What it may use. Default: no dumps of its memory, and otherwise what the server may.
    pub limits: Limits,
    /// As whom it runs; only root can say so. Default: as the server.
    pub user: Option<User>,
    /// Whether it may become more than it is, by programs such as `sudo` or by any others whose
    /// file gives rights. Default false.
    pub new_privileges: bool,
    /// How long it may take from SIGTERM to SIGKILL. Default 5 s.
    pub kill_grace: Duration,
    /// The media type of its output. Default `application/octet-stream`.
    pub result_content_type: String,
    /// How many bytes it may put out. Default 16 MiB.
    pub result_bytes_max: usize,
    /// The binary that starts it. There is no default: see [`Launcher`].
    pub launcher: Option<Launcher>,
}

impl Default for Exec {
    fn default() -> Self {
        Self {
            argv: Vec::new(),
            env: BTreeMap::new(),
            env_inherit: Vec::new(),
            current_dir: None,
            limits: Limits::default(),
            user: None,
            new_privileges: false,
            kill_grace: KILL_GRACE_DEFAULT,
            result_content_type: "application/octet-stream".to_owned(),
            result_bytes_max: RESULT_BYTES_MAX_DEFAULT,
            launcher: None,
        }
    }
}

/// Runs a program for each job.
#[derive(Debug)]
pub struct ExecRunner {
    exec: Exec,
    launcher: Launcher,
    result_content_type: Arc<str>,
    clock: Clock,
    /// Waits for the supervisors: each is reaped, and its slot freed, also when nobody waits for
    /// its attempt any more.
    supervisors: TaskTracker,
}

impl ExecRunner {
    /// Checks `exec`.
    ///
    /// Whether the program exists is found out by running it: it may be installed later.
    ///
    /// # Errors
    ///
    /// [`ExecError`] says what is wrong with it.
    pub fn new(exec: Exec) -> Result<Self, ExecError> {
        let launcher = exec.launcher.clone().ok_or(ExecError::NoLauncher)?;
        check::check(&exec)?;
        Ok(Self {
            result_content_type: exec.result_content_type.as_str().into(),
            exec,
            launcher,
            clock: Clock::system(),
            supervisors: TaskTracker::new(),
        })
    }

    /// Returns what the program finds in its environment, and there is nothing else in it.
    fn environment(&self, attempt: &Attempt) -> BTreeMap<String, String> {
        let inherited = self.exec.env_inherit.iter().cloned();
        let set = self.exec.env.clone();
        let ours = [
            ("ANTEROOM_JOB_ID", attempt.job.id.to_string()),
            ("ANTEROOM_TASK", attempt.job.task.to_string()),
            ("ANTEROOM_ATTEMPT", attempt.number.to_string()),
            ("ANTEROOM_MAX_ATTEMPTS", attempt.max_attempts.to_string()),
            ("ANTEROOM_CLAIM", attempt.claim.to_string()),
            ("ANTEROOM_DEADLINE", rfc3339(attempt.deadline)),
            ("ANTEROOM_EVENTS_FD", EVENTS_DESCRIPTOR.to_string()),
            ("TRACEPARENT", traceparent(attempt.job.id)),
        ];
        // The later one wins where a name comes twice.
        [("PATH".to_owned(), PATH_DEFAULT.to_owned())]
            .into_iter()
            .chain(inherited)
            .chain(set)
            .chain(ours.map(|(name, value)| (name.to_owned(), value)))
            .collect()
    }
}

#[async_trait]
impl Runner for ExecRunner {
    fn kind(&self) -> &'static str {
        "exec"
    }

    /// Runs the program to its end.
    ///
    /// What is left of the attempt when the program itself has ended is killed: children in the
    /// background do not outlive it, and do not hold it up by keeping its output open. Once
    /// `attempt.stop` is requested the others have until `kill_grace`, too.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future kills everything of the attempt.
    async fn run(&self, attempt: Attempt) -> Outcome {
        let environment = self.environment(&attempt);
        let verdict = Verdict {
            exec: &self.exec,
            result_content_type: &self.result_content_type,
            environment: &environment,
        };
        let started = match spawner::start(&self.launcher, &self.exec, &environment) {
            Ok(started) => started,
            Err(error) => {
                if is_shortage(&error) {
                    let (id, task) = (attempt.job.id, &attempt.job.task);
                    warn!(job.id = %id, %task, %error, "no room to start job {id}: {error}");
                }
                return verdict.of_no_launcher(&self.launcher, &error);
            }
        };
        let mut supervisor = started.supervisor;
        let slot = attempt.slot.clone();
        let gone = self.supervisors.spawn(async move {
            let _status = supervisor.wait().await; // it reports over its control socket
            drop(slot);
        });
        let ended = started
            .session
            .attend(&attempt, &self.exec, &self.clock)
            .await;
        // An error would mean that the runtime shuts down: there is nobody left to wait.
        let _reaped = gone.await;
        verdict.of(ended)
    }
}
