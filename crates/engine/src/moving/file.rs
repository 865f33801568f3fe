//! Reads a file line by line, and holds it to its last line.

use super::content::{Content, Tally};
use super::line::{Head, Line, Tail, counts};
use super::wire::hex;
use super::{MoveError, inspect};
use crate::store::archive::{Record, RecordKey};
use sha2::{Digest, Sha256};
use std::io::{BufRead, Read};

/// Bytes of a line: an input and a result of the greatest size that a server can be told to take, in
/// base64, and room for the rest.
const LINE_BYTES_MAX: u64 = 1_536 * 1024 * 1024;

/// Reads a file to its end and returns what it holds, if it is whole and unaltered.
///
/// # Errors
///
/// [`MoveError`], which names the line.
pub fn examine(input: &mut (dyn BufRead + Send)) -> Result<Content, MoveError> {
    let mut file = File::begin(input)?;
    while file.next()?.is_some() {}
    file.end()
}

/// A file that is being read.
pub(super) struct File<'i> {
    input: &'i mut (dyn BufRead + Send),
    pub(super) head: Head,
    /// The lines read so far: the number of the last.
    pub(super) number: u64,
    /// The last line.
    line: Vec<u8>,
    sha256: Sha256,
    tally: Tally,
    /// The last record.
    last: Option<RecordKey>,
    tail: Option<Tail>,
}

impl<'i> File<'i> {
    /// Reads the first line.
    pub(super) fn begin(input: &'i mut (dyn BufRead + Send)) -> Result<Self, MoveError> {
        let mut line = Vec::new();
        if !read_line(input, &mut line, 0)? {
            return Err(MoveError::Cut { lines: 0 });
        }
        let wrong = |what| MoveError::Line { number: 1, what };
        let head = text(&line).and_then(Line::head).map_err(wrong)?;
        Ok(Self {
            input,
            head,
            number: 1,
            sha256: Sha256::new_with_prefix(&line),
            line,
            tally: Tally::default(),
            last: None,
            tail: None,
        })
    }

    /// Returns the next record; none: the line that ends the file was read, and is right.
    pub(super) fn next(&mut self) -> Result<Option<Record>, MoveError> {
        if !read_line(self.input, &mut self.line, self.number)? {
            return Err(MoveError::Cut { lines: self.number });
        }
        self.number += 1;
        let line = text(&self.line)
            .and_then(Line::read)
            .map_err(|what| self.wrong(what))?;
        if let Line::End(tail) = line {
            self.tail = Some(tail);
            return Ok(None);
        }
        let record = line.record().map_err(|what| self.wrong(what))?;
        let record = record.ok_or_else(|| self.wrong("a second first line".to_owned()))?;
        if let Some(fault) = inspect::faults(&record).into_iter().next() {
            return Err(self.wrong(format!("{}: {fault}", record.key())));
        }
        let key = record.key();
        if self.last.as_ref().is_some_and(|last| *last >= key) {
            return Err(self.wrong(format!("{key} is out of its order")));
        }
        self.last = Some(key);
        self.sha256.update(&self.line);
        self.tally.add(&record, &self.line);
        Ok(Some(record))
    }

    /// Returns what the file holds, once the line that ends it was read.
    pub(super) fn end(self) -> Result<Content, MoveError> {
        let Some(tail) = self.tail else {
            return Err(MoveError::Cut { lines: self.number });
        };
        let (sha256, content) = (hex(&self.sha256.finalize()), self.tally.content());
        let altered = |what| Err(MoveError::Altered { what });
        if sha256 != tail.sha256 {
            let said = tail.sha256;
            return altered(format!(
                "the lines before its last one have the SHA-256 {sha256}, and that says {said}"
            ));
        }
        if content.digest != tail.digest || counts(&content.counts) != tail.counts {
            return altered("its last line says other counts or another digest".to_owned());
        }
        let mut more = [0];
        // An end, or an error that comes in the place of it.
        if self.input.read(&mut more).map_err(MoveError::Read)? > 0 {
            return altered("something comes after its last line".to_owned());
        }
        Ok(content)
    }

    fn wrong(&self, what: String) -> MoveError {
        let number = self.number;
        MoveError::Line { number, what }
    }
}

/// Reads a line with its end, and tells whether there was one. One without an end is none.
fn read_line(
    input: &mut (dyn BufRead + Send),
    line: &mut Vec<u8>,
    number: u64,
) -> Result<bool, MoveError> {
    line.clear();
    let read = input.take(LINE_BYTES_MAX).read_until(b'\n', line);
    let read = read.map_err(MoveError::Read)?;
    if read as u64 == LINE_BYTES_MAX && !line.ends_with(b"\n") {
        return Err(MoveError::Line {
            number: number + 1,
            what: format!("is longer than {LINE_BYTES_MAX} bytes"),
        });
    }
    Ok(line.ends_with(b"\n"))
}

fn text(line: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(line).map_err(|error| format!("it is not UTF-8: {error}"))
}
