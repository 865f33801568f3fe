//! Says what an attempt came to, from how its program ended or why it did not begin.

use super::report::{Report, Step};
use super::session::Ended;
use super::{EXIT_DATA_ERROR, Exec, Launcher, User, output};
use crate::run::Outcome;
use anteroom_core::Payload;
use nix::errno::Errno;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long a job waits that there was no room to start.
const SHORTAGE_DELAY: Duration = Duration::from_secs(1);

/// Judges the attempts of one program.
pub(super) struct Verdict<'a> {
    pub(super) exec: &'a Exec,
    pub(super) result_content_type: &'a Arc<str>,
    /// What the program found in its environment.
    pub(super) environment: &'a BTreeMap<String, String>,
}

impl Verdict<'_> {
    /// Judges by how the program ended.
    pub(super) fn of(&self, ended: Ended) -> Outcome {
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
            Some(Report::Refused { step, errno }) => {
                self.refused(step, &io::Error::from_raw_os_error(errno))
            }
            Some(Report::Started(_)) | None => {
                let what = "the launcher ended without saying what became of the program";
                Outcome::failed(output::message(what, &stderr))
            }
        }
    }

    /// Judges a launcher that could not even be started.
    pub(super) fn of_no_launcher(&self, launcher: &Launcher, error: &io::Error) -> Outcome {
        if error.kind() == io::ErrorKind::ArgumentListTooLong {
            return self.refused(Step::Program, error);
        }
        if is_shortage(error) {
            return busy();
        }
        let launcher = launcher.program().display();
        Outcome::failed(format!("cannot start the launcher {launcher}: {error}"))
    }

    fn refused(&self, step: Step, error: &io::Error) -> Outcome {
        // Not the job's fault, and it would cost others their attempts, too.
        if is_shortage(error) {
            return busy();
        }
        let message = self.refusal(step, error);
        if step != Step::Launcher && !is_passing(error.kind()) {
            Outcome::failed_for_good(message)
        } else {
            Outcome::failed(message)
        }
    }

    fn refusal(&self, step: Step, error: &io::Error) -> String {
        let program = &self.exec.argv[0];
        let why = match (step, error.kind()) {
            (Step::Launcher, _) => {
                return format!("cannot prepare the start of {program:?}: {error}");
            }
            (Step::Privileges, _) => format!("cannot keep it from gaining privileges: {error}"),
            (Step::Limits, _) => format!("cannot set its limits: {error}"),
            (Step::User, _) => {
                let User { uid, gid } = self.exec.user.unwrap_or(User { uid: 0, gid: 0 });
                format!("cannot become user {uid} of group {gid}: {error}")
            }
            (Step::Directory, _) => {
                let directory = self.exec.current_dir.as_deref().unwrap_or("".as_ref());
                let directory = directory.display();
                return format!("cannot start {program:?} in {directory}: {error}");
            }
            (Step::Program, io::ErrorKind::NotFound) => {
                "no such program, or its interpreter is missing".to_owned()
            }
            (Step::Program, io::ErrorKind::PermissionDenied) => {
                "it is not executable, or permission is denied".to_owned()
            }
            (Step::Program, io::ErrorKind::ArgumentListTooLong) => {
                let bytes = self.argument_bytes();
                format!(
                    "its arguments and environment are {bytes} bytes, more than the system takes"
                )
            }
            (Step::Program, _) => error.to_string(),
        };
        format!("cannot start {program:?}: {why}")
    }

    /// Returns the bytes of all arguments and variables, each with the zero byte at its end.
    fn argument_bytes(&self) -> usize {
        let arguments = self.exec.argv.iter().map(|argument| argument.len() + 1);
        let variables = self.environment.iter();
        let variables = variables.map(|(name, value)| name.len() + 1 + value.len() + 1);
        arguments.chain(variables).sum()
    }
}

const fn busy() -> Outcome {
    Outcome::Busy {
        delay: SHORTAGE_DELAY,
    }
}

/// Whether the machine lacks room that it may have again soon: descriptors, processes, memory.
pub(super) fn is_shortage(error: &io::Error) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_refused_is_named_and_a_job_that_there_is_no_room_for_is_handed_back() {
        let exec = Exec {
            argv: vec!["true".to_owned()],
            user: Some(User { uid: 7, gid: 8 }),
            current_dir: Some("/somewhere".into()),
            ..Exec::default()
        };
        let environment = [("A".to_owned(), "b".to_owned())].into();
        let verdict = Verdict {
            exec: &exec,
            result_content_type: &"text/plain".into(),
            environment: &environment,
        };
        let denied = "Operation not permitted (os error 1)";
        for (step, errno, expected, is_for_good) in [
            (
                Step::Launcher,
                Errno::EPERM,
                "cannot prepare the start of \"true\": ",
                false,
            ),
            (
                Step::Privileges,
                Errno::EPERM,
                &format!("cannot start \"true\": cannot keep it from gaining privileges: {denied}"),
                true,
            ),
            (
                Step::Limits,
                Errno::EPERM,
                &format!("cannot start \"true\": cannot set its limits: {denied}"),
                true,
            ),
            (
                Step::User,
                Errno::EPERM,
                &format!("cannot start \"true\": cannot become user 7 of group 8: {denied}"),
                true,
            ),
            (
                Step::Directory,
                Errno::EPERM,
                &format!("cannot start \"true\" in /somewhere: {denied}"),
                true,
            ),
            (
                Step::Program,
                Errno::E2BIG,
                "cannot start \"true\": its arguments and environment are 9 bytes, more than the \
                 system takes",
                true,
            ),
            (
                Step::Program,
                Errno::ETXTBSY,
                "cannot start \"true\": Text file busy",
                false,
            ),
        ] {
            let outcome = verdict.refused(step, &errno.into());
            let Outcome::Failed { message, retry } = outcome else {
                panic!("{step:?} {errno}: {outcome:?}");
            };
            assert!(message.starts_with(expected), "{message}");
            assert_eq!(
                retry == crate::run::RetryHint::Never,
                is_for_good,
                "{message}"
            );
            for shortage in [Errno::EMFILE, Errno::ENFILE, Errno::EAGAIN, Errno::ENOMEM] {
                let outcome = verdict.refused(step, &shortage.into());
                assert_eq!(outcome, busy(), "{shortage} {step:?}");
            }
        }
    }
}
