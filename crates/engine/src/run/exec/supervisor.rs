//! The launcher's first stage: one process for as long as an attempt has any.
//!
//! It ends when nothing of the attempt is left, and only then says how the program ended. Orders
//! come over the control socket, its standard input: bytes to send SIGTERM to the program's group
//! and to let its input end, the end to kill everything. It blocks every signal, so that nothing
//! but SIGKILL ends it early; the program then dies by its death signal.
//!
//! The program's input has two writing ends: the server's, through which all of it comes, and one
//! here, through which nothing does. So a server that dies in the middle does not end the input,
//! and no program takes a part of it for the whole.
//!
//! A process is only ever killed by a number that it still has: a child that was not waited for
//! keeps its number, and so does a group while its leader was not.

use super::EVENTS_DESCRIPTOR;
use super::confine::Confinement;
use super::launcher::{self, SELF};
use super::report::{Report, Step};
use super::session::{ORDER_INPUT_IS_WHOLE, ORDER_TERMINATE};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, close, dup2_stderr, dup2_stdout, getpid};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSliceMut, PipeReader, Read as _};
use std::os::fd::{AsFd as _, AsRawFd as _, RawFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};

/// How often it looks for children that it has to kill, in milliseconds: a backstop, since the end
/// of each wakes it.
const LOOK_AGAIN_MS: u16 = 100;

/// How many of the dead are left unwaited for: more than a limit of processes lets be, and few enough
/// that the machine does not run out of numbers for others.
const DEAD_MAX: usize = 4_096;

/// Runs `argv`'s program in `directory`, confined, and returns when nothing of it is left.
pub(super) fn supervise(
    confinement: &Confinement,
    directory: &OsStr,
    argv: &[OsString],
) -> io::Result<()> {
    close_inherited()?;
    prctl::set_name(c"anteroom-exec")?;
    prctl::set_child_subreaper(true)?;
    SigSet::all().thread_block()?;
    let (stdin, stdin_end) = receive_pipes(confinement)?;
    let signals = SignalFd::with_flags(
        &SigSet::from(Signal::SIGCHLD),
        SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK,
    )?;
    let (refusal, child) = match start(stdin, confinement, directory, argv) {
        Ok(started) => started,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(0);
            let step = Step::Launcher;
            return tell(Report::Refused { step, errno });
        }
    };
    release_output()?;
    let mut attempt = Processes {
        group: Pid::from_raw(child.id().cast_signed()),
        child,
        stdin_end: Some(stdin_end),
        ended: None,
        is_stopping: false,
        is_killing: false,
    };
    tell(Report::Started(attempt.group.as_raw()))?;
    attempt.watch(&signals)?;
    tell(last_word(refusal, attempt.ended))
}

/// Takes the program's pipes out of the control socket. Returns both ends of its input, and leaves
/// its events at the descriptor where it looks for them.
fn receive_pipes(confinement: &Confinement) -> io::Result<(File, File)> {
    let mut byte = [0];
    let mut space = nix::cmsg_space!([RawFd; 2]);
    let mut slices = [IoSliceMut::new(&mut byte)];
    let message = recvmsg::<UnixAddr>(
        io::stdin().as_raw_fd(),
        &mut slices,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(descriptors) = control
            && let [stdin, events] = descriptors[..]
        {
            return take_over(stdin, events, confinement);
        }
    }
    Err(io::Error::other("the control socket brought no pipes"))
}

/// Opens both anew, since a bare number cannot be owned safely, and the input for writing, too.
fn take_over(stdin: RawFd, events: RawFd, confinement: &Confinement) -> io::Result<(File, File)> {
    // Without waiting for the other end: should the server be gone, so is that.
    let mut options = OpenOptions::new();
    options.custom_flags(OFlag::O_NONBLOCK.bits());
    let path = |descriptor: RawFd| format!("/proc/self/fd/{descriptor}");
    let stdin_file = options.clone().read(true).open(path(stdin))?;
    let stdin_end = options.clone().write(true).open(path(stdin))?;
    let events_file = options.write(true).open(path(events))?;
    for file in [&stdin_file, &events_file] {
        fcntl(file, FcntlArg::F_SETFL(OFlag::empty()))?;
        confinement.give(file)?;
    }
    confinement.give(io::stdout())?;
    confinement.give(io::stderr())?;
    close(stdin)?;
    close(events)?;
    // Unlike the others this one outlives an exec, and this process starts only one child.
    if fcntl(&events_file, FcntlArg::F_DUPFD(EVENTS_DESCRIPTOR))? == EVENTS_DESCRIPTOR {
        Ok((stdin_file, stdin_end))
    } else {
        Err(io::Error::other("the descriptor of the events is taken"))
    }
}

/// Starts the second stage, and returns the pipe in which it says why it could not go on.
fn start(
    stdin: File,
    confinement: &Confinement,
    directory: &OsStr,
    argv: &[OsString],
) -> io::Result<(PipeReader, Child)> {
    let (refusal, refusal_of_child) = io::pipe()?;
    let inherited = fcntl(&refusal_of_child, FcntlArg::F_DUPFD(EVENTS_DESCRIPTOR + 1))?;
    let child = Command::new(SELF)
        .args(launcher::begin(
            getpid(),
            inherited,
            confinement,
            directory,
            argv,
        ))
        .stdin(Stdio::from(stdin))
        .process_group(0)
        .spawn()?;
    close(EVENTS_DESCRIPTOR)?;
    close(inherited)?;
    Ok((refusal, child))
}

/// Everything of one attempt.
struct Processes {
    /// The program, until it was waited for.
    child: Child,
    /// Its group, which has the program's number.
    group: Pid,
    /// Keeps its input from ending, until the server says that it wrote all of it.
    stdin_end: Option<File>,
    /// How the program ended, once it was waited for.
    ended: Option<ExitStatus>,
    /// Whether the group was told to end.
    is_stopping: bool,
    /// Whether everything is to be killed.
    is_killing: bool,
}

impl Processes {
    /// Follows orders until nothing is left.
    fn watch(&mut self, signals: &SignalFd) -> io::Result<()> {
        while self.reap()? {
            if self.is_killing {
                return self.clear_away(signals);
            }
            let control = io::stdin();
            let mut ready = [
                PollFd::new(signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(control.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut ready, PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue, // stopped and continued
                Err(error) => return Err(error.into()),
            }
            let is_ordered = ready[1].any() == Some(true);
            while signals.read_signal()?.is_some() {}
            if is_ordered {
                self.obey();
            }
            if self.is_killing {
                return self.clear_away(signals);
            }
        }
        Ok(())
    }

    /// Kills all that is left.
    ///
    /// Nobody who died is waited for before all have: the dead count among the processes that their
    /// user may have, so those who start others faster than they are killed run out of them.
    fn clear_away(&mut self, signals: &SignalFd) -> io::Result<()> {
        loop {
            let Children { living, dead } = kill_children()?;
            if (living == 0 || dead > DEAD_MAX) && !self.reap_all()? {
                return Ok(());
            }
            let mut ready = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
            match poll(&mut ready, PollTimeout::from(LOOK_AGAIN_MS)) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
            while signals.read_signal()?.is_some() {}
        }
    }

    /// Waits for those that have ended until everything is to be killed, and returns whether there
    /// are others.
    fn reap(&mut self) -> io::Result<bool> {
        while !self.is_killing {
            match self.reap_one()? {
                Reaped::One => {}
                Reaped::NoneYet => break,
                Reaped::NoneLeft => return Ok(false),
            }
        }
        // Told to end, the group has its time after the program too; others have not.
        if self.ended.is_some() && killpg(self.group, None) == Err(Errno::ESRCH) {
            self.is_killing = true;
        }
        // Most programs leave nothing behind: this spares a look at all processes there are.
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        Ok(waitid(Id::All, look) != Err(Errno::ECHILD))
    }

    /// Waits for all that have ended, and returns whether there are others.
    fn reap_all(&mut self) -> io::Result<bool> {
        loop {
            match self.reap_one()? {
                Reaped::One => {}
                Reaped::NoneYet => return Ok(true),
                Reaped::NoneLeft => return Ok(false),
            }
        }
    }

    fn reap_one(&mut self) -> io::Result<Reaped> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::All, look) {
            Ok(WaitStatus::StillAlive) => return Ok(Reaped::NoneYet),
            Err(Errno::ECHILD) => return Ok(Reaped::NoneLeft),
            // Once it was waited for, its number may be another's: those who start many processes
            // come round to it.
            Ok(status) if status.pid() == Some(self.group) && self.ended.is_none() => {
                if !self.is_stopping {
                    self.kill_all();
                }
                self.ended = self.child.try_wait()?;
            }
            Ok(status) => drop(waitpid(status.pid(), None)),
            // It was killed by a real-time signal, for which there is no word: who was it?
            Err(Errno::EINVAL) => {
                let had_ended = self.ended.is_some();
                self.ended = self.child.try_wait()?;
                if had_ended || self.ended.is_none() {
                    let _has_no_word = waitpid(None, Some(WaitPidFlag::WNOHANG));
                } else {
                    self.is_killing |= !self.is_stopping;
                }
            }
            Err(error) => return Err(error.into()),
        }
        Ok(Reaped::One)
    }

    /// Follows one order; the next poll finds those that came with it.
    fn obey(&mut self) {
        let mut order = [0];
        match nix::unistd::read(io::stdin(), &mut order) {
            Ok(1) if order[0] == ORDER_TERMINATE => {
                self.is_stopping = true;
                self.signal_group(Signal::SIGTERM);
            }
            Ok(1) if order[0] == ORDER_INPUT_IS_WHOLE => self.stdin_end = None,
            Err(Errno::EINTR) => {}
            Ok(_) | Err(_) => self.kill_all(),
        }
    }

    fn kill_all(&mut self) {
        self.is_killing = true;
        self.signal_group(Signal::SIGKILL);
    }

    /// Signals the group while its number is certainly its own.
    fn signal_group(&self, signal: Signal) {
        if self.ended.is_none() {
            let _gone_already = killpg(self.group, signal);
        }
    }
}

/// Whether one was waited for.
enum Reaped {
    One,
    /// None has ended yet.
    NoneYet,
    /// There is none.
    NoneLeft,
}

/// How many there are.
#[derive(Default)]
struct Children {
    living: usize,
    /// Not waited for.
    dead: usize,
}

/// Kills the children of this process. Theirs become its own then: the next look finds them.
fn kill_children() -> io::Result<Children> {
    let parent = getpid().as_raw();
    let mut children = Children::default();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // One that has gone meanwhile needs no killing.
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        match state_and_parent(&stat) {
            Some((state, of)) if of == parent => {
                let _not_allowed = kill(Pid::from_raw(pid), Signal::SIGKILL);
                if matches!(state, "Z" | "X") {
                    children.dead += 1;
                } else {
                    children.living += 1;
                }
            }
            _ => {}
        }
    }
    Ok(children)
}

/// Returns the two words after the name, which may hold any bytes.
fn state_and_parent(stat: &[u8]) -> Option<(&str, i32)> {
    let name_end = stat.iter().rposition(|byte| *byte == b')')?;
    let rest = str::from_utf8(&stat[name_end + 1..]).ok()?;
    let mut words = rest.split_ascii_whitespace();
    Some((words.next()?, words.next()?.parse().ok()?))
}

fn last_word(mut refusal: PipeReader, ended: Option<ExitStatus>) -> Report {
    let mut text = String::new();
    // Every other end of the pipe is closed: the stage that had it is over.
    let read = refusal.read_to_string(&mut text);
    let refused = read.ok().and_then(|_length| Report::parse(&text));
    let unknown = Report::Refused {
        step: Step::Launcher,
        errno: Errno::ECHILD as i32,
    };
    let ended = ended.and_then(|status| {
        let killed = status.signal().map(Report::Killed);
        killed.or(status.code().map(Report::Exited))
    });
    refused.or(ended).unwrap_or(unknown)
}

/// Says something to the server, which may be gone.
fn tell(report: Report) -> io::Result<()> {
    match nix::unistd::write(io::stdin(), format!("{report}\n").as_bytes()) {
        Ok(_) | Err(Errno::EPIPE) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Leaves the output to the program alone, so that its end can be seen.
fn release_output() -> io::Result<()> {
    let nowhere = OpenOptions::new().write(true).open("/dev/null")?;
    dup2_stdout(&nowhere)?;
    dup2_stderr(&nowhere)?;
    Ok(())
}

/// Closes what the server did not mean to pass on.
fn close_inherited() -> io::Result<()> {
    let mut descriptors = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name();
        descriptors.extend(name.to_str().and_then(|name| name.parse::<RawFd>().ok()));
    }
    for descriptor in descriptors.into_iter().filter(|number| *number > 2) {
        // One of them was the listing's own.
        let _closed_already = close(descriptor);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_hide_a_parent() {
        for (stat, found) in [
            (&b"12 (cat) S 7 12 12 0"[..], Some(("S", 7))),
            (b"12 (a) R 1 (b)) S 7 12 12 0", Some(("S", 7))),
            (b"12 (new\nline ) S 3) Z 70 1", Some(("Z", 70))),
            (b"12 (\xff\xfe) S 7 12", Some(("S", 7))),
            (b"", None),
            (b"12 (cat)", None),
        ] {
            assert_eq!(state_and_parent(stat), found, "{stat:?}");
        }
    }
}
