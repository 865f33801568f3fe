//! What a program may use, and as whom it runs: set by the launcher's second stage, for the program
//! and for all that it starts.
//!
//! Bounds are those of the kernel for each process (`setrlimit`). They can only be lowered here: where
//! the server itself has a lower one, that one stays.

use super::Exec;
use super::report::Step;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, fchown, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

/// What a program may use. A process that it starts has bounds of its own of the same size,
/// `processes` apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// The processor time of a process; a part of a second counts as a whole one. At its end it gets
    /// SIGXCPU, a second later SIGKILL. Default: no limit.
    pub cpu: Option<Duration>,
    /// The address space of a process, in bytes: beyond it, it is given no memory. Default: no limit.
    pub memory: Option<u64>,
    /// Open descriptors of a process. Default: the server's.
    pub open_files: Option<u64>,
    /// Processes and threads at once of the program's *user*, all that he has on the machine; no
    /// more are started then. Does not hold for root. Default: no limit.
    pub processes: Option<u64>,
    /// The size of a file that it writes, in bytes: beyond it, it gets SIGXFSZ. Default: no limit.
    pub file_size: Option<u64>,
    /// The size of a dump of its memory should it crash, in bytes. Default 0: there is none.
    pub core_dump: u64,
}

/// As whom a program runs, by numbers; it is in no other group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user.
    pub uid: u32,
    /// The group.
    pub gid: u32,
}

/// All of it, as one stage of the launcher hands it to the next.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Confinement {
    bounds: Vec<(Bound, u64)>,
    user: Option<User>,
    new_privileges: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Bound {
    CoreDump,
    Cpu,
    FileSize,
    Memory,
    OpenFiles,
    Processes,
}

impl Confinement {
    pub(super) fn of(exec: &Exec) -> Self {
        let Limits {
            cpu,
            memory,
            open_files,
            processes,
            file_size,
            core_dump,
        } = exec.limits;
        let bounds = [
            (Bound::CoreDump, Some(core_dump)),
            (Bound::Cpu, cpu.map(whole_seconds)),
            (Bound::FileSize, file_size),
            (Bound::Memory, memory),
            (Bound::OpenFiles, open_files),
            (Bound::Processes, processes),
        ];
        Self {
            bounds: bounds
                .into_iter()
                .filter_map(|(bound, most)| Some((bound, most?)))
                .collect(),
            user: exec.user,
            new_privileges: exec.new_privileges,
        }
    }

    /// Writes it as one argument.
    pub(super) fn to_argument(&self) -> OsString {
        // Numbers and words: there is nothing in it that JSON could not hold.
        serde_json::to_string(self).unwrap_or_default().into()
    }

    /// Reads it as [`to_argument`](Self::to_argument) writes it.
    pub(super) fn of_argument(argument: &OsStr) -> io::Result<Self> {
        Ok(serde_json::from_slice(argument.as_encoded_bytes())?)
    }

    /// Makes a pipe the user's, so that he may open it by its name, such as `/dev/stderr`.
    pub(super) fn give(&self, pipe: impl AsFd) -> io::Result<()> {
        if let Some(User { uid, gid }) = self.user {
            fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
        Ok(())
    }

    /// Does all of it but for the memory, which this process itself may still need.
    ///
    /// A change of the user clears the death signal: that has to be set after.
    pub(super) fn enter(&self) -> Result<(), (Step, io::Error)> {
        let at = |step| move |errno: Errno| (step, io::Error::from(errno));
        if !self.new_privileges {
            prctl::set_no_new_privs().map_err(at(Step::Privileges))?;
        }
        let mut bounds = self.bounds.iter();
        bounds
            .try_for_each(|(bound, most)| match bound {
                Bound::Memory => Ok(()),
                other => other.lower_to(*most),
            })
            .map_err(at(Step::Limits))?;
        if let Some(User { uid, gid }) = self.user {
            become_user(Uid::from_raw(uid), Gid::from_raw(gid)).map_err(at(Step::User))?;
        }
        Ok(())
    }

    /// Does the rest, right before the program begins.
    pub(super) fn bound_memory(&self) -> io::Result<()> {
        for (bound, most) in &self.bounds {
            if *bound == Bound::Memory {
                bound.lower_to(*most)?;
            }
        }
        Ok(())
    }
}

impl Bound {
    /// Sets the bound to `most`, unless it is lower.
    fn lower_to(self, most: u64) -> nix::Result<()> {
        let resource = match self {
            Self::CoreDump => Resource::RLIMIT_CORE,
            Self::Cpu => Resource::RLIMIT_CPU,
            Self::FileSize => Resource::RLIMIT_FSIZE,
            Self::Memory => Resource::RLIMIT_AS,
            Self::OpenFiles => Resource::RLIMIT_NOFILE,
            Self::Processes => Resource::RLIMIT_NPROC,
        };
        // The first second is for those who want to end by themselves.
        let beyond = u64::from(matches!(self, Self::Cpu));
        let (_soft, hard) = getrlimit(resource)?;
        let hard_most = most.saturating_add(beyond);
        setrlimit(resource, most.min(hard), hard_most.min(hard))
    }
}

/// Groups first: it takes the old user's rights to change them.
fn become_user(uid: Uid, gid: Gid) -> nix::Result<()> {
    setgroups(&[])?;
    setresgid(gid, gid, gid)?;
    setresuid(uid, uid, uid)
}

fn whole_seconds(span: Duration) -> u64 {
    let part = u64::from(span.subsec_nanos() > 0);
    span.as_secs().saturating_add(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_confinement_reads_back_and_nothing_else_does() {
        let exec = Exec {
            limits: Limits {
                cpu: Some(Duration::from_millis(1_001)),
                processes: Some(u64::MAX),
                ..Limits::default()
            },
            user: Some(User {
                uid: u32::MAX - 1,
                gid: 7,
            }),
            ..Exec::default()
        };
        let confinement = Confinement::of(&exec);
        assert_eq!(
            confinement.bounds,
            [
                (Bound::CoreDump, 0),
                (Bound::Cpu, 2),
                (Bound::Processes, u64::MAX)
            ]
        );
        let argument = confinement.to_argument();
        assert_eq!(Confinement::of_argument(&argument).unwrap(), confinement);
        for text in ["", "{}", "{", "root"] {
            assert!(Confinement::of_argument(text.as_ref()).is_err(), "{text}");
        }
    }
}
