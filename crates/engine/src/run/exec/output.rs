//! A program's pipes: its input is fed, its output collected, its complaints kept by their end.

use anteroom_core::limits::ERROR_MESSAGE_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use nix::sys::signal::Signal;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// Bytes of one read: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// Writes `input`, says in `is_whole` that it did, and closes the pipe.
///
/// A program that does not read it all is free not to.
pub(super) async fn feed(
    mut stdin: impl AsyncWrite + Unpin,
    input: Bytes,
    is_whole: &CancellationToken,
) {
    if stdin.write_all(&input).await.is_ok() {
        is_whole.cancel();
    }
}

/// Reads into `collected` until the end, or until there are more than `bytes_max` of them.
pub(super) async fn collect(
    mut stdout: impl AsyncRead + Unpin,
    collected: &mut BytesMut,
    bytes_max: usize,
) -> io::Result<()> {
    while collected.len() <= bytes_max {
        collected.reserve(READ_BYTES);
        if stdout.read_buf(collected).await? == 0 {
            break;
        }
    }
    Ok(())
}

/// Reads to the end and keeps the last [`ERROR_MESSAGE_BYTES_MAX`] bytes in `tail`.
pub(super) async fn keep_tail(mut stderr: impl AsyncRead + Unpin, tail: &mut Vec<u8>) {
    let mut piece = vec![0; ERROR_MESSAGE_BYTES_MAX];
    while let Ok(length @ 1..) = stderr.read(&mut piece).await {
        tail.extend_from_slice(&piece[..length]);
        let excess = tail.len().saturating_sub(ERROR_MESSAGE_BYTES_MAX);
        tail.drain(..excess);
    }
}

/// Reads to the end and keeps nothing, so that who writes is never held up.
pub(super) async fn discard(mut events: impl AsyncRead + Unpin) {
    let mut piece = vec![0; 4 * 1024];
    while let Ok(1..) = events.read(&mut piece).await {}
}

/// Returns `what`, and after it as much of the end of `stderr` as a message can hold.
pub(super) fn message(what: &str, stderr: &[u8]) -> String {
    let said = String::from_utf8_lossy(stderr);
    let said = said.trim_end();
    if said.is_empty() {
        return what.to_owned();
    }
    let room = ERROR_MESSAGE_BYTES_MAX.saturating_sub(what.len() + ": ".len());
    let from = said.ceil_char_boundary(said.len().saturating_sub(room));
    format!("{what}: {}", &said[from..])
}

/// Returns a signal's name in brackets, after a space; nothing for one without a name.
pub(super) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| String::new(), |signal| format!(" ({signal})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_the_end_of_what_was_said_and_fits() {
        assert_eq!(message("exit status 3", b""), "exit status 3");
        assert_eq!(message("exit status 3", b" \n"), "exit status 3");
        assert_eq!(message("exit status 3", b"no\n"), "exit status 3: no");
        for said in [
            vec![b'x'; 9_000],
            vec![0xff; 9_000],
            "ä".repeat(9_000).into(),
        ] {
            let mut said = said;
            said.extend_from_slice(b"the end");
            let message = message("exit status 3", &said);
            assert!(
                message.len() <= ERROR_MESSAGE_BYTES_MAX,
                "{}",
                message.len()
            );
            assert!(message.len() > ERROR_MESSAGE_BYTES_MAX - 4);
            assert!(message.starts_with("exit status 3: ") && message.ends_with("the end"));
        }
    }

    #[tokio::test]
    async fn the_tail_is_the_last_bytes() {
        let said: Vec<u8> = (0..100_000_u32)
            .map(|number| number.to_le_bytes()[0])
            .collect();
        let mut tail = Vec::new();
        keep_tail(said.as_slice(), &mut tail).await;
        assert_eq!(tail, said[said.len() - ERROR_MESSAGE_BYTES_MAX..]);
    }

    #[test]
    fn signals_have_names_where_there_are_any() {
        assert_eq!(signal_name(9), " (SIGKILL)");
        assert_eq!(signal_name(40), "");
    }
}
