//! What the supervisor tells the server: a line each over the control socket.

use std::fmt;

/// One line of the supervisor's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// The program has this process id, which is that of its group too. The first line.
    Started(i32),
    /// Everything is gone; the program had ended with this status.
    Exited(i32),
    /// Everything is gone; the program had been killed by this signal.
    Killed(i32),
    /// The program could not be started.
    Refused { step: Step, errno: i32 },
}

/// What failed before the program began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Preparing: nothing that the program could help.
    Launcher,
    /// Keeping it from gaining privileges.
    Privileges,
    /// Setting its limits.
    Limits,
    /// Becoming its user.
    User,
    /// Entering its directory.
    Directory,
    /// Executing it.
    Program,
}

impl Step {
    const ALL: [Self; 6] = [
        Self::Launcher,
        Self::Privileges,
        Self::Limits,
        Self::User,
        Self::Directory,
        Self::Program,
    ];

    const fn word(self) -> &'static str {
        match self {
            Self::Launcher => "launcher",
            Self::Privileges => "privileges",
            Self::Limits => "limits",
            Self::User => "user",
            Self::Directory => "directory",
            Self::Program => "program",
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started(pid) => write!(f, "started {pid}"),
            Self::Exited(status) => write!(f, "exited {status}"),
            Self::Killed(signal) => write!(f, "killed {signal}"),
            Self::Refused { step, errno } => write!(f, "refused-{} {errno}", step.word()),
        }
    }
}

impl Report {
    /// Reads a line as [`fmt::Display`] writes it.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (word, number) = line.trim_end().split_once(' ')?;
        let number = number.parse().ok()?;
        match word {
            "started" => Some(Self::Started(number)),
            "exited" => Some(Self::Exited(number)),
            "killed" => Some(Self::Killed(number)),
            _ => {
                let word = word.strip_prefix("refused-")?;
                let step = Step::ALL.into_iter().find(|step| step.word() == word)?;
                Some(Self::Refused {
                    step,
                    errno: number,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_reads_back_and_nothing_else_does() {
        let refused = Step::ALL.map(|step| Report::Refused { step, errno: 13 });
        let ended = [Report::Started(7), Report::Exited(255), Report::Killed(9)];
        for report in ended.into_iter().chain(refused) {
            assert_eq!(Report::parse(&format!("{report}\n")), Some(report));
        }
        for line in [
            "",
            "started",
            "exited x",
            "refused 13",
            "refused- 13",
            "exited 1 2",
        ] {
            assert_eq!(Report::parse(line), None, "{line}");
        }
    }
}
