//! A connection under watch: how long it may be silent, and in what state.
//!
//! The HTTP library bounds neither the idle time apart from the head, nor how slowly an answer
//! is taken, and answers what it cannot parse with nothing. [`Watched`] sits between it and the
//! socket, does these three things, and has [`Framing`] follow what comes.

use super::framing::{Framing, Violation};
use super::limits::LINGER;
use super::problem::{Kind, Problem};
use super::serve::ServeLimits;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};

/// Where a connection is in the round of requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Between two requests, or before the first.
    Idle,
    /// A head has begun to come.
    Head,
    /// A request is being answered.
    Busy,
    /// The answer is put together and being sent.
    Answered,
}

/// A connection's stage, shared between its socket and its service.
#[derive(Debug, Default)]
pub(crate) struct Round {
    stage: AtomicU8,
    /// The client may still be sending what nobody will read.
    is_refusing: AtomicBool,
}

impl Round {
    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Ordering::Acquire) {
            0 => Stage::Idle,
            1 => Stage::Head,
            2 => Stage::Busy,
            _ => Stage::Answered,
        }
    }

    fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    /// A request is there.
    pub(crate) fn begin(&self) {
        self.is_refusing.store(false, Ordering::Relaxed);
        self.enter(Stage::Busy);
    }

    /// The rest of the request's body will not be read.
    pub(crate) fn refuse(&self) {
        self.is_refusing.store(true, Ordering::Relaxed);
    }

    /// The answer is put together.
    pub(crate) fn answered(&self) {
        if self.stage() == Stage::Busy {
            self.enter(Stage::Answered);
        }
    }
}

/// What a deadline was set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    Nothing,
    Request,
    RestOfHead,
    Reader,
    End,
}

/// A socket under watch.
#[derive(Debug)]
pub(crate) struct Watched {
    socket: TcpStream,
    round: Arc<Round>,
    limits: ServeLimits,
    deadline: Pin<Box<Sleep>>,
    awaited: Awaited,
    framing: Framing,
    /// What came after the last sound request, and ends the connection.
    violation: Option<&'static str>,
}

impl Watched {
    pub(crate) fn new(socket: TcpStream, round: Arc<Round>, limits: &ServeLimits) -> Self {
        Self {
            socket,
            round,
            limits: limits.clone(),
            deadline: Box::pin(tokio::time::sleep_until(
                Instant::now() + limits.idle_timeout,
            )),
            awaited: Awaited::Nothing,
            framing: Framing::default(),
            violation: None,
        }
    }

    /// Waits for `awaited`, at most `span` from when it was first waited for.
    fn poll_late(&mut self, cx: &mut Context<'_>, awaited: Awaited, span: Duration) -> Poll<()> {
        if self.awaited != awaited {
            self.awaited = awaited;
            self.deadline.as_mut().reset(Instant::now() + span);
        }
        self.deadline.as_mut().poll(cx)
    }

    /// Sends a problem in place of an empty answer. Nothing else is on its way, so that it fits
    /// into the socket's buffer at once; if it does not, the connection closes without it.
    fn send_problem(&self, kind: Kind) {
        self.limits.metrics.head_refused();
        let detail = match kind {
            Kind::HeadersTooLarge => "the head of the request is too large",
            Kind::UriTooLong => "the path and query are too long",
            Kind::RequestTimeout => "the head of the request did not come in time",
            _ => "the request could not be read as HTTP/1.1",
        };
        self.send_detail(kind, detail);
    }

    fn send_detail(&self, kind: Kind, detail: &str) {
        let _best_effort = self.socket.try_write(&plain(&Problem::new(kind, detail)));
    }

    /// Follows what came, and hides what can be read in two ways. What came before it counts.
    fn follow(&mut self, buffer: &mut ReadBuf<'_>, before: usize) -> io::Result<()> {
        let Err(violation) = self.framing.follow(&buffer.filled()[before..]) else {
            return Ok(());
        };
        let Violation {
            sound,
            is_in_body,
            detail,
        } = violation;
        self.violation = Some(detail);
        if is_in_body && self.round.stage() == Stage::Busy {
            // Its head is being answered already: the answer is the handler's.
            buffer.set_filled(before);
            return Err(io::Error::new(io::ErrorKind::InvalidData, detail));
        }
        buffer.set_filled(before + sound);
        Ok(())
    }

    /// Ends the connection once what came before the violation is answered.
    fn poll_violation(&mut self, detail: &'static str) -> Poll<io::Result<()>> {
        match self.round.stage() {
            Stage::Idle | Stage::Head => {
                self.round.refuse();
                self.send_detail(Kind::MalformedRequest, detail);
                Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, detail)))
            }
            // Woken by the flush of the answer.
            Stage::Busy | Stage::Answered => Poll::Pending,
        }
    }
}

/// Writes a problem as HTTP/1.1, for when no service is there to answer.
fn plain(problem: &Problem) -> Vec<u8> {
    let (status, headers, body) = problem.to_parts("", "");
    let reason = status.canonical_reason().unwrap_or_default();
    let mut answer = format!("HTTP/1.1 {} {reason}\r\n", status.as_u16()).into_bytes();
    for (name, value) in &headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    let end = format!(
        "connection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    answer.extend_from_slice(end.as_bytes());
    answer.extend_from_slice(&body);
    answer
}

/// Returns the problem that the HTTP library means with an answer that it began itself.
fn meant(answer: &[u8]) -> Option<Kind> {
    let status = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    match status {
        b"431" => Some(Kind::HeadersTooLarge),
        b"414" => Some(Kind::UriTooLong),
        [b'4', ..] => Some(Kind::MalformedRequest),
        _ => None,
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(detail) = self.violation {
            return self.poll_violation(detail);
        }
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.socket).poll_read(cx, buffer) {
            let came = buffer.filled().len() > before;
            if came && self.round.stage() == Stage::Idle {
                self.round.enter(Stage::Head);
            }
            read?;
            self.follow(buffer, before)?;
            return match self.violation {
                // Nothing came before it: an empty read would mean the end to the library.
                Some(detail) if buffer.filled().len() == before => self.poll_violation(detail),
                Some(_) | None => Poll::Ready(Ok(())),
            };
        }
        match self.round.stage() {
            Stage::Idle => {
                let span = self.limits.idle_timeout;
                ready!(self.poll_late(cx, Awaited::Request, span));
                // As if the client had closed: nothing is lost.
                Poll::Ready(Ok(()))
            }
            Stage::Head => {
                let span = self.limits.head_timeout;
                ready!(self.poll_late(cx, Awaited::RestOfHead, span));
                self.send_problem(Kind::RequestTimeout);
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            // How fast a body comes is bounded where it is received.
            Stage::Busy | Stage::Answered => Poll::Pending,
        }
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.round.stage(), Stage::Idle | Stage::Head)
            && let Some(kind) = meant(bytes)
        {
            self.round.refuse();
            self.send_problem(kind);
            return Poll::Ready(Ok(bytes.len()));
        }
        if let Poll::Ready(written) = Pin::new(&mut self.socket).poll_write(cx, bytes) {
            self.awaited = Awaited::Nothing;
            return Poll::Ready(written);
        }
        let span = self.limits.write_timeout;
        ready!(self.poll_late(cx, Awaited::Reader, span));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if matches!(self.round.stage(), Stage::Idle | Stage::Head) {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(cx, first.map_or(&[], |slice| slice));
        }
        if let Poll::Ready(written) = Pin::new(&mut self.socket).poll_write_vectored(cx, slices) {
            self.awaited = Awaited::Nothing;
            return Poll::Ready(written);
        }
        let span = self.limits.write_timeout;
        ready!(self.poll_late(cx, Awaited::Reader, span));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.socket).poll_flush(cx));
        if self.round.stage() == Stage::Answered {
            self.round.enter(Stage::Idle);
            // The library has looked for the next request already and will not look again: its
            // deadline begins here. Once it passes, the read that it wakes finds it so.
            let span = match self.violation {
                None => self.limits.idle_timeout,
                Some(_) => Duration::ZERO,
            };
            let _begun = self.poll_late(cx, Awaited::Request, span);
        }
        Poll::Ready(flushed)
    }

    /// Says goodbye, and if a body was refused reads on for a while: what came for nobody would
    /// otherwise reset the connection before the client has read the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.awaited != Awaited::End {
            ready!(Pin::new(&mut self.socket).poll_shutdown(cx))?;
        }
        if !self.round.is_refusing.load(Ordering::Relaxed) {
            return Poll::Ready(Ok(()));
        }
        if self.poll_late(cx, Awaited::End, LINGER).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let mut scrap = [0; 8_192];
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            ready!(Pin::new(&mut self.socket).poll_read(cx, &mut buffer))?;
            if buffer.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_errors_of_the_library_are_replaced() {
        for (answer, kind) in [
            (
                &b"HTTP/1.1 400 Bad Request\r\n"[..],
                Some(Kind::MalformedRequest),
            ),
            (b"HTTP/1.0 431 Request Header", Some(Kind::HeadersTooLarge)),
            (b"HTTP/1.1 414 URI Too Long", Some(Kind::UriTooLong)),
            (b"HTTP/1.1 200 OK\r\n", None),
            (b"HTTP/1.1", None),
            (b"", None),
        ] {
            assert_eq!(meant(answer), kind, "{}", String::from_utf8_lossy(answer));
        }
    }

    #[test]
    fn a_problem_can_be_written_without_a_service() {
        let answer = plain(&Problem::new(Kind::MalformedRequest, "no"));
        let text = String::from_utf8(answer).unwrap();
        assert!(text.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{text}");
        assert!(
            text.contains("content-type: application/problem+json\r\n"),
            "{text}"
        );
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(
            head.contains(&format!("content-length: {}", body.len())),
            "{text}"
        );
    }
}
