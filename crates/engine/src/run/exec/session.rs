//! The server's side of one attempt: feeds and reads the program, passes on that it should stop.

use super::report::Report;
use super::said::{Complaints, Events};
use super::{Exec, output};
use crate::clock::Clock;
use crate::run::{Attempt, Stop};
use anteroom_core::limits::EXEC_DRAIN_MAX;
use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io;
use std::pin::pin;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedWriteHalf, pipe};
use tokio::process::{ChildStderr, ChildStdout};
use tokio_util::sync::CancellationToken;

/// Bytes of all that a supervisor says: it has two short lines.
const REPORTS_BYTES_MAX: u64 = 4 * 1024;

/// The order to send SIGTERM to the program's group. The closing of the socket is the order to
/// kill everything, so that a server that dies gives it too.
pub(super) const ORDER_TERMINATE: u8 = b'T';

/// The order to let the program's input end: all of it is in the pipe. Until then the supervisor
/// keeps it open, so that a server that dies does not end it.
pub(super) const ORDER_INPUT_IS_WHOLE: u8 = b'W';

/// One attempt's connection with its supervisor and its program.
pub(super) struct Session {
    pub(super) control: UnixStream,
    pub(super) stdin: pipe::Sender,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
    pub(super) events: pipe::Receiver,
}

/// How it went.
pub(super) struct Ended {
    /// The supervisor's last word, if it had one.
    pub(super) report: Option<Report>,
    /// What the program put out.
    pub(super) stdout: io::Result<Bytes>,
    /// Whether that was more than it may.
    pub(super) is_too_long: bool,
    /// The end of its complaints.
    pub(super) stderr_tail: Vec<u8>,
}

impl Session {
    /// Serves the program until everything of the attempt is gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the control socket: the supervisor kills everything.
    pub(super) async fn attend(self, attempt: &Attempt, exec: &Exec, clock: &Clock) -> Ended {
        let mut stdout = BytesMut::new();
        let (mut complaints, mut events) = (Complaints::of(attempt), Events::of(attempt));
        let mut read = Ok(());
        let kill = CancellationToken::new();
        let is_whole = CancellationToken::new();
        let report = {
            let collect = async {
                read = output::collect(self.stdout, &mut stdout, exec.result_bytes_max).await;
                if stdout.len() > exec.result_bytes_max {
                    kill.cancel();
                }
            };
            let pipes = pin!(async {
                tokio::join!(
                    output::feed(self.stdin, attempt.input.bytes.clone(), &is_whole),
                    collect,
                    output::listen(self.stderr, |piece| complaints.take(piece)),
                    output::listen(self.events, |piece| events.take(piece)),
                )
            });
            let watch = pin!(watch(
                self.control,
                &attempt.stop,
                &kill,
                &is_whole,
                exec.kill_grace,
                clock
            ));
            match select(watch, pipes).await {
                Either::Left((report, pipes)) => {
                    // What lies in the pipes still counts. Their end comes at once, unless the
                    // program gave one to a stranger: that one is not waited for.
                    let _read_or_not = tokio::time::timeout(EXEC_DRAIN_MAX, pipes).await;
                    report
                }
                Either::Right((_ended, watch)) => watch.await,
            }
        };
        events.end();
        Ended {
            report,
            is_too_long: stdout.len() > exec.result_bytes_max,
            stdout: read.map(|()| stdout.freeze()),
            stderr_tail: complaints.end(),
        }
    }
}

/// Passes orders to the supervisor until it is gone, and returns its last word.
async fn watch(
    control: UnixStream,
    stop: &Stop,
    kill: &CancellationToken,
    is_whole: &CancellationToken,
    kill_grace: Duration,
    clock: &Clock,
) -> Option<Report> {
    let (reports, orders) = control.into_split();
    let mut lines = BufReader::new(reports.take(REPORTS_BYTES_MAX)).lines();
    let mut orders = Some(orders);
    let mut program = None;
    let mut last = None;
    let mut stopping = pin!(async {
        stop.requested().await;
        clock.sleep(kill_grace).await;
    });
    let mut is_told_to_stop = false;
    let mut is_told_of_input = false;
    loop {
        tokio::select! {
            line = lines.next_line() => match line {
                Ok(Some(line)) => match Report::parse(&line) {
                    Some(Report::Started(pid)) => program = Some(pid),
                    report => last = report,
                },
                Ok(None) | Err(_) => break,
            },
            () = stop.requested(), if !is_told_to_stop => {
                is_told_to_stop = true;
                send(&mut orders, ORDER_TERMINATE).await;
            }
            () = is_whole.cancelled(), if !is_told_of_input => {
                is_told_of_input = true;
                send(&mut orders, ORDER_INPUT_IS_WHOLE).await;
            }
            () = &mut stopping, if orders.is_some() => orders = None,
            () = kill.cancelled(), if orders.is_some() => orders = None,
        }
    }
    if let (None, Some(program)) = (last, program) {
        // Somebody killed the supervisor, and with it only the program itself. Its group still
        // has its number: numbers come round much later than this.
        let _none_left = killpg(Pid::from_raw(program), Signal::SIGKILL);
    }
    last
}

/// Sends an order, unless all are given: a supervisor that kills everything needs no other.
async fn send(orders: &mut Option<OwnedWriteHalf>, order: u8) {
    if let Some(orders) = orders {
        // Nor does one that is gone.
        let _gone = orders.write_all(&[order]).await;
    }
}
