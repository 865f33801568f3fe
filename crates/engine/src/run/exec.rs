//! Runs a program for each job: input on standard input, result from standard output.
//!
//! One attempt is one program in a process group of its own, watched by one small supervisor (see
//! [`launcher`]). Everything of the attempt is gone when [`Runner::run`] returns. When its future
//! is dropped the supervisor is told by the closing of its control socket, kills everything and
//! ends; the attempt's slot stays occupied until it has.
//!
//! It does not decide whether there is another attempt, and it does not keep time: who runs the
//! attempt asks it to stop, and it passes that on.

pub mod launcher;
mod output;
mod report;
mod said;
mod session;
mod spawner;
mod supervisor;

pub use launcher::Launcher;

use crate::clock::Clock;
use crate::run::trace::traceparent;
use crate::run::{Attempt, Outcome, Runner};
use anteroom_core::Payload;
use anteroom_core::limits::{KILL_GRACE_DEFAULT, RESULT_BYTES_MAX_DEFAULT};
use async_trait::async_trait;
use nix::errno::Errno;
use report::{Report, Step};
use session::Ended;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::task::TaskTracker;
use tracing::warn;

/// How long a job waits that there was no room to start.
const SHORTAGE_DELAY: Duration = Duration::from_secs(1);

/// The exit status that says that the input is bad and always will be (`EX_DATAERR`).
pub const EXIT_DATA_ERROR: i32 = 65;

/// The descriptor on which a program may tell of its progress, in lines such as
/// `{"fraction": 0.5, "message": "page 4 of 8"}`. What is no such line is ignored.
pub const EVENTS_DESCRIPTOR: i32 = 3;

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
            kill_grace: KILL_GRACE_DEFAULT,
            result_content_type: "application/octet-stream".to_owned(),
            result_bytes_max: RESULT_BYTES_MAX_DEFAULT,
            launcher: None,
        }
    }
}

/// Why an [`Exec`] cannot be run. None is worth a retry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError {
    /// There is no program.
    #[error("exec names no program")]
    NoProgram,
    /// There is no launcher.
    #[error("exec needs a launcher: a binary whose main begins with launcher::run_if_asked()")]
    NoLauncher,
    /// A text that a program cannot be given, since it ends at the zero byte.
    #[error("{what} has a zero byte, which no program can be given")]
    ZeroByte {
        /// Where it is.
        what: String,
    },
    /// A name that no environment variable can have.
    #[error("{name:?} is no name of an environment variable: it is empty or has an equals sign")]
    VariableName {
        /// The name.
        name: String,
    },
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
        check(&exec)?;
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

    fn judge(&self, ended: Ended) -> Outcome {
        let limit = self.exec.result_bytes_max;
        if ended.is_too_long {
            return Outcome::failed_for_good(format!(
                "the output is longer than {limit} bytes, the limit of a result"
            ));
        }
        let stderr = ended.stderr_tail;
        match ended.report {
            Some(Report::Exited(0)) => match ended.stdout {
                Ok(bytes) => Outcome::Succeeded(Payload {
                    content_type: self.result_content_type.clone(),
                    bytes,
                }),
                Err(error) => Outcome::failed(format!("cannot read the output: {error}")),
            },
            Some(Report::Exited(status)) => {
                let message = output::message(&format!("exit status {status}"), &stderr);
                if status == EXIT_DATA_ERROR {
                    Outcome::failed_for_good(message)
                } else {
                    Outcome::failed(message)
                }
            }
            Some(Report::Killed(number)) => {
                let signal = output::signal_name(number);
                let what = format!("killed by signal {number}{signal}");
                Outcome::failed(output::message(&what, &stderr))
            }
            Some(Report::Refused { step, errno }) => self.refused(step, errno),
            Some(Report::Started(_)) | None => {
                let what = "the launcher ended without saying what became of the program";
                Outcome::failed(output::message(what, &stderr))
            }
        }
    }

    fn refused(&self, step: Step, errno: i32) -> Outcome {
        let error = io::Error::from_raw_os_error(errno);
        let program = &self.exec.argv[0];
        let message = match (step, error.kind()) {
            (Step::Launcher, _) => format!("cannot prepare the start of {program:?}: {error}"),
            (Step::Directory, _) => {
                let directory = self.exec.current_dir.as_deref().unwrap_or("".as_ref());
                format!(
                    "cannot start {program:?} in {}: {error}",
                    directory.display()
                )
            }
            (Step::Program, io::ErrorKind::NotFound) => {
                format!("cannot start {program:?}: no such program, or its interpreter is missing")
            }
            (Step::Program, io::ErrorKind::PermissionDenied) => {
                format!("cannot start {program:?}: it is not executable, or permission is denied")
            }
            (Step::Program, _) => format!("cannot start {program:?}: {error}"),
        };
        if is_shortage(&error) {
            Outcome::Busy {
                delay: SHORTAGE_DELAY,
            }
        } else if step != Step::Launcher && !is_passing(error.kind()) {
            Outcome::failed_for_good(message)
        } else {
            Outcome::failed(message)
        }
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
        let started = match spawner::start(&self.launcher, &self.exec, &environment) {
            Ok(started) => started,
            // Not the job's fault, and it would cost others their attempts, too.
            Err(error) if is_shortage(&error) => {
                let (id, task) = (attempt.job.id, &attempt.job.task);
                warn!(job.id = %id, %task, %error, "no room to start job {id}: {error}");
                return Outcome::Busy {
                    delay: SHORTAGE_DELAY,
                };
            }
            Err(error) => {
                let launcher = self.launcher.program().display();
                return Outcome::failed(format!("cannot start the launcher {launcher}: {error}"));
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
        self.judge(ended)
    }
}

fn check(exec: &Exec) -> Result<(), ExecError> {
    if exec.argv.first().is_none_or(String::is_empty) {
        return Err(ExecError::NoProgram);
    }
    let zero_byte = |what: String| Err(ExecError::ZeroByte { what });
    for (place, argument) in exec.argv.iter().enumerate() {
        if argument.contains('\0') {
            return zero_byte(format!("argument {place} of exec"));
        }
    }
    let inherited = exec.env_inherit.iter().map(|(name, value)| (name, value));
    for (name, value) in exec.env.iter().chain(inherited) {
        if name.contains('\0') || value.contains('\0') {
            return zero_byte(format!("the environment variable {name:?}"));
        }
        if name.is_empty() || name.contains('=') {
            return Err(ExecError::VariableName { name: name.clone() });
        }
    }
    Ok(())
}

/// Whether the machine lacks room that it may have again soon: descriptors, processes, memory.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EMFILE | Errno::ENFILE | Errno::EAGAIN | Errno::ENOMEM)
    )
}

/// Whether another attempt may go better.
fn is_passing(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ExecutableFileBusy | io::ErrorKind::Interrupted
    )
}

/// Writes an instant as on the wire; one beyond the years that RFC 3339 can write is the last one.
fn rfc3339(instant: anteroom_core::Timestamp) -> String {
    let instant =
        jiff::Timestamp::from_millisecond(instant.as_millis()).unwrap_or(jiff::Timestamp::MAX);
    format!("{instant:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::Timestamp;

    #[test]
    fn a_deadline_is_written_in_utc_with_milliseconds() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_348_800_007, "2026-11-22T12:00:00.007Z"),
            (i64::MAX, "9999-12-30T22:00:00.999Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), expected);
        }
    }

    #[test]
    fn a_job_that_there_is_no_room_for_is_handed_back() {
        let launcher = Some(Launcher::at("/bin/false"));
        let argv = vec!["true".to_owned()];
        let exec = Exec {
            argv,
            launcher,
            ..Exec::default()
        };
        let runner = ExecRunner::new(exec).unwrap();
        for (errno, is_busy) in [
            (Errno::EMFILE, true),
            (Errno::ENFILE, true),
            (Errno::EAGAIN, true),
            (Errno::ENOMEM, true),
            (Errno::ENOENT, false),
            (Errno::E2BIG, false),
            (Errno::ETXTBSY, false),
        ] {
            for step in [Step::Launcher, Step::Program] {
                let outcome = runner.refused(step, errno as i32);
                assert_eq!(
                    matches!(outcome, Outcome::Busy { .. }),
                    is_busy,
                    "{errno} {step:?}"
                );
            }
        }
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        let launcher = Some(Launcher::at("/bin/false"));
        let well = Exec {
            argv: vec!["true".to_owned()],
            launcher,
            ..Exec::default()
        };
        assert_eq!(ExecRunner::new(well.clone()).err(), None);
        let broken = |change: fn(&mut Exec)| {
            let mut exec = well.clone();
            change(&mut exec);
            ExecRunner::new(exec).unwrap_err().to_string()
        };
        for (error, expected) in [
            (broken(|exec| exec.argv.clear()), "exec names no program"),
            (broken(|exec| exec.argv[0].clear()), "exec names no program"),
            (broken(|exec| exec.launcher = None), "exec needs a launcher"),
            (
                broken(|exec| exec.argv.push("a\0b".to_owned())),
                "argument 1 of exec has a zero byte",
            ),
            (
                broken(|exec| exec.env_inherit.push(("A".to_owned(), "\0".to_owned()))),
                "the environment variable \"A\" has a zero byte",
            ),
            (
                broken(|exec| drop(exec.env.insert("A=B".to_owned(), String::new()))),
                "\"A=B\" is no name",
            ),
        ] {
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
