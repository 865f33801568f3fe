//! Starts a supervisor and hands it the program's pipes.
//!
//! The standard library passes three descriptors to a child, and this needs five: control, input,
//! output, complaints, events. Making one inheritable for a moment would leak it to whatever else
//! the process starts just then, so input and events travel over the control socket.

use super::session::Session;
use super::{Exec, Launcher, launcher};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};

/// A supervisor, and this side of everything that it was given.
pub(super) struct Started {
    pub(super) supervisor: Child,
    pub(super) session: Session,
}

/// Starts a supervisor for one run of `exec`'s program.
pub(super) fn start(
    launcher: &Launcher,
    exec: &Exec,
    environment: &BTreeMap<String, String>,
) -> io::Result<Started> {
    let (ours, theirs) = UnixStream::pair()?;
    let (stdin_of_program, stdin) = io::pipe()?;
    let (events, events_of_program) = io::pipe()?;
    hand_over(&ours, &stdin_of_program, &events_of_program)?;
    ours.set_nonblocking(true)?;
    let control = tokio::net::UnixStream::from_std(ours)?;
    let stdin = pipe::Sender::from_owned_fd(stdin.into())?;
    let events = pipe::Receiver::from_owned_fd(events.into())?;

    let mut supervisor = Command::new(launcher.program())
        .args(launcher::supervise(exec))
        .env_clear()
        .envs(environment)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // A Ctrl-C at the server's terminal is the server's to deal with.
        .process_group(0)
        .spawn()?;
    let no_pipe = || io::Error::other("the launcher has no pipe");
    Ok(Started {
        session: Session {
            control,
            stdin,
            stdout: supervisor.stdout.take().ok_or_else(no_pipe)?,
            stderr: supervisor.stderr.take().ok_or_else(no_pipe)?,
            events,
        },
        supervisor,
    })
}

/// Puts both pipe ends into the control socket, where the supervisor finds them first.
fn hand_over(control: &UnixStream, stdin: &impl AsRawFd, events: &impl AsRawFd) -> io::Result<()> {
    let pipes = [stdin.as_raw_fd(), events.as_raw_fd()];
    sendmsg::<UnixAddr>(
        control.as_raw_fd(),
        // A descriptor has to travel with at least one byte.
        &[IoSlice::new(b"\n")],
        &[ControlMessage::ScmRights(&pipes)],
        MsgFlags::empty(),
        None,
    )?;
    Ok(())
}
