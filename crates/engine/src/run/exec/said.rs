//! What a program says while it runs: complaints become lines of the log and the end of an error's
//! message, events become progress.
//!
//! Both come as bytes in pieces of any length. No line is kept beyond a bound, however long it is,
//! and no line is lost: the last one needs no end. Nothing here ever waits.

use crate::run::Attempt;
use anteroom_core::limits::{ERROR_MESSAGE_BYTES_MAX, REPORT_BYTES_MAX};
use anteroom_core::{LogStream, Progress, Report};
use serde::Deserialize;
use tracing::debug;

/// Bytes of a line of events: room for the longest message, were each of its bytes written as six.
const EVENT_LINE_BYTES_MAX: usize = 64 * 1024;

/// Bytes kept of a line of complaints: those that are told, and what the last character may take.
const COMPLAINT_BYTES_MAX: usize = REPORT_BYTES_MAX + char::MAX_LEN_UTF8;

/// What a program writes to its standard error.
pub(super) struct Complaints<'a> {
    attempt: &'a Attempt,
    lines: Lines,
    tail: Vec<u8>,
}

impl<'a> Complaints<'a> {
    pub(super) fn of(attempt: &'a Attempt) -> Self {
        Self {
            attempt,
            lines: Lines::new(COMPLAINT_BYTES_MAX),
            tail: Vec::new(),
        }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let (attempt, kept) = (self.attempt, ERROR_MESSAGE_BYTES_MAX);
        self.lines.take(piece, |line| log(attempt, line));
        self.tail
            .extend_from_slice(&piece[piece.len().saturating_sub(kept)..]);
        let excess = self.tail.len().saturating_sub(kept);
        self.tail.drain(..excess);
    }

    /// Tells a last line without an end, and returns the last [`ERROR_MESSAGE_BYTES_MAX`] bytes.
    pub(super) fn end(mut self) -> Vec<u8> {
        let attempt = self.attempt;
        self.lines.finish(|line| log(attempt, line));
        self.tail
    }
}

fn log(attempt: &Attempt, line: &[u8]) {
    let line = String::from_utf8_lossy(line);
    attempt.report(Report::log(LogStream::Stderr, line));
}

/// What a program writes to descriptor 3.
pub(super) struct Events<'a> {
    attempt: &'a Attempt,
    lines: Lines,
    /// How many of them were no progress.
    ignored: u64,
}

impl<'a> Events<'a> {
    pub(super) fn of(attempt: &'a Attempt) -> Self {
        Self {
            attempt,
            lines: Lines::new(EVENT_LINE_BYTES_MAX),
            ignored: 0,
        }
    }

    /// Takes the next piece.
    pub(super) fn take(&mut self, piece: &[u8]) {
        let (attempt, ignored) = (self.attempt, &mut self.ignored);
        self.lines.take(piece, |line| event(attempt, line, ignored));
    }

    /// Takes a last line without an end.
    pub(super) fn end(mut self) {
        let (attempt, ignored) = (self.attempt, &mut self.ignored);
        self.lines.finish(|line| event(attempt, line, ignored));
        if self.ignored > 0 {
            let (id, number, lines) = (attempt.job.id, attempt.number, self.ignored);
            debug!(job.id = %id, attempt = number, lines,
                "{lines} lines that attempt {number} of job {id} wrote to descriptor 3 are no \
                 progress");
        }
    }
}

fn event(attempt: &Attempt, line: &[u8], ignored: &mut u64) {
    match progress(line) {
        Some(progress) => attempt.report(Report::Progress(progress)),
        None if line.trim_ascii().is_empty() => {}
        None => *ignored += 1,
    }
}

/// Reads a line such as `{"fraction": 0.5, "message": "half"}`; either member may be missing or
/// null, and others may be there.
fn progress(line: &[u8]) -> Option<Progress> {
    #[derive(Deserialize)]
    struct Said {
        fraction: Option<f64>,
        message: Option<String>,
    }
    // A list of the two is none of what programs are told to write.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let Said { fraction, message } = serde_json::from_slice(line).ok()?;
    Progress::new(fraction, message)
}

/// Takes pieces apart into lines.
struct Lines {
    /// Bytes that are kept of a line.
    bytes_max: usize,
    /// The line that has not ended.
    line: Vec<u8>,
    /// Whether as much of it as is kept has been told.
    is_told: bool,
}

impl Lines {
    const fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            is_told: false,
        }
    }

    /// Tells every line that ends in `piece`, without its end, and every one that grows too long in
    /// it: of that one nothing more is told.
    fn take(&mut self, piece: &[u8], mut tell: impl FnMut(&[u8])) {
        for part in piece.split_inclusive(|byte| *byte == b'\n') {
            let (part, is_end) = match part.strip_suffix(b"\n") {
                Some(part) => (part, true),
                None => (part, false),
            };
            if !self.is_told {
                let room = self.bytes_max - self.line.len();
                self.line.extend_from_slice(&part[..part.len().min(room)]);
            }
            if is_end {
                self.end(&mut tell);
            } else if self.line.len() == self.bytes_max {
                self.end(&mut tell);
                self.is_told = true;
            }
        }
    }

    /// Tells what has not ended, if anything has begun: nothing comes after it.
    fn finish(&mut self, tell: impl FnMut(&[u8])) {
        if !self.line.is_empty() {
            self.end(tell);
        }
    }

    fn end(&mut self, mut tell: impl FnMut(&[u8])) {
        if !std::mem::take(&mut self.is_told) {
            tell(self.line.strip_suffix(b"\r").unwrap_or(&self.line));
        }
        self.line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the lines of `pieces`, of which so many bytes are kept.
    fn lines(bytes_max: usize, pieces: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut told = Vec::new();
        let mut lines = Lines::new(bytes_max);
        for piece in pieces {
            lines.take(piece, |line| told.push(line.to_vec()));
            assert!(lines.line.len() < bytes_max);
        }
        lines.finish(|line| told.push(line.to_vec()));
        told
    }

    #[test]
    fn a_text_is_taken_apart_into_lines_wherever_it_is_cut() {
        let text = b"one\n\ntwo\r\nmuch too long\n12345678\n1234567\r\nlast";
        let expected: [&[u8]; 7] = [
            b"one",
            b"",
            b"two",
            b"much too",
            b"12345678",
            b"1234567",
            b"last",
        ];
        for length in 1..=text.len() {
            let pieces: Vec<&[u8]> = text.chunks(length).collect();
            assert_eq!(lines(8, &pieces), expected, "in pieces of {length}");
        }
    }

    #[test]
    fn what_never_ends_is_told_once_as_far_as_it_is_kept() {
        let piece = [b'x'; 1_000];
        assert_eq!(lines(4, &[&piece[..]; 100]), [b"xxxx"]);
        assert_eq!(lines(4, &[]), [b""; 0]);
        assert_eq!(lines(4, &[b"\n\n"]), [b"", b""]);
    }

    #[test]
    fn a_line_of_events_says_how_far_it_has_come_or_nothing() {
        for (line, expected) in [
            (
                r#"{"fraction": 0.5, "message": "half"}"#,
                Some((Some(0.5), Some("half"))),
            ),
            (r#" {"fraction": 1} "#, Some((Some(1.0), None))),
            (r#"{"message": "a\nb"}"#, Some((None, Some("a\nb")))),
            (
                r#"{"fraction": -7, "message": null}"#,
                Some((Some(0.0), None)),
            ),
            (r#"{"fraction": 9.5, "step": [1]}"#, Some((Some(1.0), None))),
            ("{}", None),
            (r#"{"fraction": null, "message": ""}"#, None),
            (r#"{"fraction": "half"}"#, None),
            (r#"{"fraction": NaN}"#, None),
            (r#"{"fraction": 1e999}"#, None),
            (r#"{"fraction": 0.5"#, None),
            (r#"{"fraction": 0.5} {"fraction": 0.6}"#, None),
            (r#"{"fraction": 0.5, "fraction": 0.6}"#, None),
            (r#"[0.5, "half"]"#, None),
            ("0.5", None),
            ("", None),
            ("\u{0}", None),
        ] {
            let said = progress(line.as_bytes());
            let said = said.as_ref().map(|said| (said.fraction(), said.message()));
            assert_eq!(said, expected, "{line}");
        }
        assert_eq!(progress(b"{\"message\": \"\xff\"}"), None);
    }
}
