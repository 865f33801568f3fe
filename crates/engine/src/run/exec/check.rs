//! Says whether an [`Exec`] can be run at all.

use super::{ARGUMENT_BYTES_MAX, Exec, User};
use nix::unistd::geteuid;

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
    /// An argument, or an environment variable with its name, that is longer than the system takes.
    #[error("{what} is {bytes} bytes; the limit is {ARGUMENT_BYTES_MAX}")]
    TooLong {
        /// Which one.
        what: String,
        /// How long it is.
        bytes: usize,
    },
    /// A name that no environment variable can have.
    #[error("{name:?} is no name of an environment variable: it is empty or has an equals sign")]
    VariableName {
        /// The name.
        name: String,
    },
    /// A number of a user or group that stands for none: it would change nothing.
    #[error("exec is to run as user {} of group {}, one of which is none", user.uid, user.gid)]
    NoUser {
        /// The user.
        user: User,
    },
    /// It is to run as another user, and only root can do that.
    #[error("exec is to run as user {}, and only root can become another user", user.uid)]
    NotRoot {
        /// The other user.
        user: User,
    },
    /// A limit of processes for root, whom it does not hold back.
    #[error("exec limits the processes of root, for whom there is no such limit: name a user")]
    ProcessesOfRoot,
}

/// Checks what can be checked before it is run.
pub(super) fn check(exec: &Exec) -> Result<(), ExecError> {
    if exec.argv.first().is_none_or(String::is_empty) {
        return Err(ExecError::NoProgram);
    }
    for (place, argument) in exec.argv.iter().enumerate() {
        check_text(argument, argument.len(), || {
            format!("argument {place} of exec")
        })?;
    }
    let inherited = exec.env_inherit.iter().map(|(name, value)| (name, value));
    for (name, value) in exec.env.iter().chain(inherited) {
        let what = || format!("the environment variable {name:?}");
        check_text(name, name.len(), what)?;
        check_text(value, name.len() + "=".len() + value.len(), what)?;
        if name.is_empty() || name.contains('=') {
            return Err(ExecError::VariableName { name: name.clone() });
        }
    }
    check_user(exec, geteuid().is_root())
}

/// Checks a text that has so many bytes with what belongs to it.
fn check_text(text: &str, bytes: usize, what: impl Fn() -> String) -> Result<(), ExecError> {
    if text.contains('\0') {
        Err(ExecError::ZeroByte { what: what() })
    } else if bytes > ARGUMENT_BYTES_MAX {
        Err(ExecError::TooLong {
            what: what(),
            bytes,
        })
    } else {
        Ok(())
    }
}

fn check_user(exec: &Exec, is_root: bool) -> Result<(), ExecError> {
    let runs_as_root = exec.user.map_or(is_root, |user| user.uid == 0);
    match exec.user {
        Some(user) if user.uid.max(user.gid) == u32::MAX => Err(ExecError::NoUser { user }),
        Some(user) if !is_root => Err(ExecError::NotRoot { user }),
        _ if runs_as_root && exec.limits.processes.is_some() => Err(ExecError::ProcessesOfRoot),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Launcher, Limits};
    use super::*;

    fn well() -> Exec {
        Exec {
            argv: vec!["true".to_owned()],
            launcher: Some(Launcher::at("/bin/false")),
            ..Exec::default()
        }
    }

    #[test]
    fn what_no_program_can_be_given_is_refused() {
        assert_eq!(check(&well()), Ok(()));
        let broken = |change: fn(&mut Exec)| {
            let mut exec = well();
            change(&mut exec);
            check(&exec).unwrap_err().to_string()
        };
        for (error, expected) in [
            (broken(|exec| exec.argv.clear()), "exec names no program"),
            (broken(|exec| exec.argv[0].clear()), "exec names no program"),
            (
                broken(|exec| exec.argv.push("a\0b".to_owned())),
                "argument 1 of exec has a zero byte",
            ),
            (
                broken(|exec| exec.argv.push("x".repeat(ARGUMENT_BYTES_MAX + 1))),
                "argument 1 of exec is 131072 bytes; the limit is 131071",
            ),
            (
                broken(|exec| exec.env_inherit.push(("A".to_owned(), "\0".to_owned()))),
                "the environment variable \"A\" has a zero byte",
            ),
            (
                broken(|exec| {
                    let value = "x".repeat(ARGUMENT_BYTES_MAX - 1);
                    exec.env_inherit.push(("A".to_owned(), value));
                }),
                "the environment variable \"A\" is 131072 bytes; the limit is 131071",
            ),
            (
                broken(|exec| drop(exec.env.insert("A=B".to_owned(), String::new()))),
                "\"A=B\" is no name",
            ),
        ] {
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn only_root_becomes_another_user_and_only_others_have_a_limit_of_processes() {
        let root = Some(User { uid: 0, gid: 0 });
        let other = User { uid: 7, gid: 7 };
        let none = User {
            uid: 7,
            gid: u32::MAX,
        };
        let another = Some(other);
        for (is_root, user, processes, expected) in [
            (true, None, None, Ok(())),
            (true, another, Some(8), Ok(())),
            (true, root, None, Ok(())),
            (
                true,
                Some(none),
                None,
                Err(ExecError::NoUser { user: none }),
            ),
            (true, root, Some(8), Err(ExecError::ProcessesOfRoot)),
            (true, None, Some(8), Err(ExecError::ProcessesOfRoot)),
            (false, None, Some(8), Ok(())),
            (
                false,
                another,
                None,
                Err(ExecError::NotRoot { user: other }),
            ),
        ] {
            let limits = Limits {
                processes,
                ..Limits::default()
            };
            let exec = Exec {
                limits,
                user,
                ..well()
            };
            assert_eq!(check_user(&exec, is_root), expected, "{is_root} {exec:?}");
        }
    }
}
