//! A program's pipes: its input is fed, its output collected, what else it says listened to.

use anteroom_core::limits::ERROR_MESSAGE_BYTES_MAX;
use bytes::{Bytes, BytesMut};
use nix::sys::signal::Signal;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;

/// Bytes of one read: what a pipe holds.
const READ_BYTES: usize = 64 * 1024;

/// Bytes of one read of what is told while the program runs.
const PIECE_BYTES: usize = 8 * 1024;

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

/// Reads to the end, and hands over each piece as it comes.
///
/// Others have their turn after each: a piece may be thousands of lines, and they never stop coming.
pub(super) async fn listen(mut pipe: impl AsyncRead + Unpin, mut take: impl FnMut(&[u8])) {
    let mut piece = vec![0; PIECE_BYTES];
    while let Ok(length @ 1..) = pipe.read(&mut piece).await {
        take(&piece[..length]);
        tokio::task::yield_now().await;
    }
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
    match Signal::try_from(number) {
        Ok(Signal::SIGXCPU) => " (SIGXCPU: its limit of processor time)".to_owned(),
        Ok(Signal::SIGXFSZ) => " (SIGXFSZ: its limit of the size of a file)".to_owned(),
        Ok(signal) => format!(" ({signal})"),
        Err(_) => String::new(),
    }
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

    #[test]
    fn signals_have_names_where_there_are_any() {
        assert_eq!(signal_name(9), " (SIGKILL)");
        assert_eq!(signal_name(24), " (SIGXCPU: its limit of processor time)");
        assert_eq!(signal_name(40), "");
    }
}
