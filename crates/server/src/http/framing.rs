//! Where requests begin and end: read strictly, beside the HTTP library.
//!
//! The library is lenient where RFC 9112 lets it be: it takes lines that end in a bare line feed,
//! a `Content-Length` beside a `Transfer-Encoding`, and the same length twice. Behind a proxy that
//! reads these otherwise, a body of one client becomes the next one's request. So the bytes of a
//! connection are followed here as well, and what two readers could take differently is a
//! [`Violation`]: the connection ends with it.

use super::limits::{CHUNK_LINE_BYTES_MAX, HEAD_BYTES_MAX};

/// Follows the bytes of one connection, from request to request.
#[derive(Debug, Default)]
pub(crate) struct Framing {
    part: Part,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// What the present head says of its body.
    length: Option<u64>,
    is_chunked: bool,
    head_bytes: usize,
}

/// What the next bytes belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    /// The line of the request, or the empty ones that may come before it.
    #[default]
    Request,
    Fields,
    /// So many bytes of a body.
    Body(u64),
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    ChunkEnd,
    Trailers,
    /// A head beyond all bounds, which the library refuses.
    Beyond,
}

/// Something that two readers of the same bytes could take differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// How many of the bytes belong to requests before it.
    pub(crate) sound: usize,
    /// Whether it is in the body of the request whose head came in earlier bytes.
    pub(crate) is_in_body: bool,
    /// What it is.
    pub(crate) detail: &'static str,
}

impl Framing {
    /// Follows the next bytes.
    pub(crate) fn follow(&mut self, bytes: &[u8]) -> Result<(), Violation> {
        let began_in_body = !matches!(self.part, Part::Request | Part::Fields);
        let mut at = 0;
        let mut sound = 0;
        while at < bytes.len() {
            let step = match self.part {
                Part::Body(left) => Ok(self.pass(left, bytes.len() - at, Part::Request)),
                Part::Chunk(left) => Ok(self.pass(left, bytes.len() - at, Part::ChunkEnd)),
                Part::Beyond => return Ok(()),
                Part::Request
                | Part::Fields
                | Part::ChunkSize
                | Part::ChunkEnd
                | Part::Trailers => self.follow_line(&bytes[at..]),
            };
            at += step.map_err(|detail| Violation {
                sound,
                is_in_body: began_in_body && sound == 0,
                detail,
            })?;
            if self.part == Part::Request && self.line.is_empty() {
                sound = at;
            }
        }
        Ok(())
    }

    /// Passes over bytes that nothing is read from.
    fn pass(&mut self, left: u64, there: usize, next: Part) -> usize {
        let taken = usize::try_from(left).map_or(there, |left| left.min(there));
        let left = left - taken as u64;
        self.part = match self.part {
            _ if left == 0 => next,
            Part::Chunk(_) => Part::Chunk(left),
            _ => Part::Body(left),
        };
        taken
    }

    /// Takes the rest of a line, or as much of it as there is, and returns how much that was.
    fn follow_line(&mut self, bytes: &[u8]) -> Result<usize, &'static str> {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            let most = match self.part {
                Part::ChunkSize | Part::ChunkEnd => CHUNK_LINE_BYTES_MAX,
                _ => HEAD_BYTES_MAX,
            };
            if self.line.len() + bytes.len() <= most {
                self.line.extend_from_slice(bytes);
            } else if matches!(self.part, Part::Request | Part::Fields) {
                self.part = Part::Beyond;
            } else {
                return Err("a line within the body is too long");
            }
            return Ok(bytes.len());
        };
        let mut carried = std::mem::take(&mut self.line);
        let line = if carried.is_empty() {
            &bytes[..end]
        } else {
            carried.extend_from_slice(&bytes[..end]);
            &carried
        };
        let Some(line) = line.strip_suffix(b"\r") else {
            return Err("a line ends in a line feed without a carriage return");
        };
        self.end_line(line)?;
        carried.clear();
        // Kept for its room.
        self.line = carried;
        Ok(end + 1)
    }

    fn end_line(&mut self, line: &[u8]) -> Result<(), &'static str> {
        match self.part {
            Part::Request if line.is_empty() => Ok(()),
            Part::Request => {
                (self.length, self.is_chunked) = (None, false);
                self.head_bytes = line.len();
                self.part = Part::Fields;
                Ok(())
            }
            Part::Fields if line.is_empty() => {
                self.part = self.body()?;
                Ok(())
            }
            Part::Fields => {
                self.head_bytes += line.len();
                if self.head_bytes > HEAD_BYTES_MAX {
                    self.part = Part::Beyond;
                    return Ok(());
                }
                self.field(line)
            }
            Part::ChunkSize => {
                self.part = match chunk_size(line)? {
                    0 => Part::Trailers,
                    size => Part::Chunk(size),
                };
                Ok(())
            }
            Part::ChunkEnd if line.is_empty() => {
                self.part = Part::ChunkSize;
                Ok(())
            }
            Part::ChunkEnd => Err("a chunk is longer than its size says"),
            Part::Trailers if line.is_empty() => {
                self.part = Part::Request;
                Ok(())
            }
            Part::Trailers => not_folded(line),
            Part::Body(_) | Part::Chunk(_) | Part::Beyond => Ok(()),
        }
    }

    /// Takes note of a field that says where the body ends.
    fn field(&mut self, line: &[u8]) -> Result<(), &'static str> {
        not_folded(line)?;
        let first = line.first().map(u8::to_ascii_lowercase);
        if !matches!(first, Some(b'c' | b't')) {
            return Ok(());
        }
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return Ok(());
        };
        // With white space before the colon it is another name to some.
        let (name, value) = (
            line[..colon].trim_ascii_end(),
            line[colon + 1..].trim_ascii(),
        );
        if name.eq_ignore_ascii_case(b"content-length") {
            let length = whole_number(value).ok_or("Content-Length is no whole number")?;
            if self.length.replace(length).is_some() {
                return Err("Content-Length is given more than once");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") {
                return Err("Transfer-Encoding is something else than chunked");
            }
            if std::mem::replace(&mut self.is_chunked, true) {
                return Err("Transfer-Encoding is given more than once");
            }
        }
        Ok(())
    }

    /// Returns what follows the head.
    fn body(&self) -> Result<Part, &'static str> {
        match (self.is_chunked, self.length) {
            (true, Some(_)) => Err("Content-Length and Transfer-Encoding exclude each other"),
            (true, None) => Ok(Part::ChunkSize),
            (false, None | Some(0)) => Ok(Part::Request),
            (false, Some(length)) => Ok(Part::Body(length)),
        }
    }
}

fn not_folded(line: &[u8]) -> Result<(), &'static str> {
    match line.first() {
        Some(b' ' | b'\t') => Err("a field goes on in the next line"),
        Some(_) | None => Ok(()),
    }
}

/// Reads digits and nothing else: no sign, no list, no blanks.
fn whole_number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Reads the size of a chunk. Extensions after a semicolon mean nothing here.
fn chunk_size(line: &[u8]) -> Result<u64, &'static str> {
    const MALFORMED: &str = "the size of a chunk is no hexadecimal number";
    let size = line.split(|byte| *byte == b';').next().unwrap_or_default();
    if size.is_empty() || !size.iter().all(u8::is_ascii_hexdigit) {
        return Err(MALFORMED);
    }
    let text = std::str::from_utf8(size).map_err(|_| MALFORMED)?;
    u64::from_str_radix(text, 16).map_err(|_| "the size of a chunk is beyond all bounds")
}

#[cfg(test)]
mod tests {
    use super::*;

    const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\n";

    /// Follows bytes in pieces of a size.
    fn followed(bytes: &[u8], piece: usize) -> Result<Part, &'static str> {
        let mut framing = Framing::default();
        for piece in bytes.chunks(piece) {
            framing
                .follow(piece)
                .map_err(|violation| violation.detail)?;
        }
        Ok(framing.part)
    }

    #[test]
    fn sound_requests_end_where_the_next_begins() {
        for request in [
            "GET / HTTP/1.1\r\nhost: a\r\n\r\n".to_owned(),
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_owned(),
            format!("{POST}content-length: 3\r\n\r\n\n\n\n"),
            format!("{POST}Content-Length:0\r\n\r\n"),
            format!("{POST}transfer-encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n"),
            format!(
                "{POST}TRANSFER-ENCODING:\tCHUNKED \r\n\r\nA;a=b\r\n0123456789\r\n0\r\nx: y\r\n\r\n"
            ),
            format!("{POST}cookie: a\r\ntrailer: x\r\n\r\n"),
        ] {
            let twice = request.repeat(2);
            for piece in [1, 2, 7, twice.len()] {
                assert_eq!(
                    followed(twice.as_bytes(), piece),
                    Ok(Part::Request),
                    "{request:?} by {piece}"
                );
            }
        }
    }

    #[test]
    fn what_can_be_read_in_two_ways_is_a_violation() {
        for (rest, said) in [
            (
                "content-length: 1\r\ncontent-length: 1\r\n\r\na",
                "more than once",
            ),
            ("content-length: 1, 1\r\n\r\na", "no whole number"),
            ("content-length: +1\r\n\r\na", "no whole number"),
            ("content-length:\r\n\r\n", "no whole number"),
            (
                "content-length: 99999999999999999999\r\n\r\n",
                "no whole number",
            ),
            (
                "content-length : 1\r\ncontent-length: 2\r\n\r\na",
                "more than once",
            ),
            (
                "content-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
                "exclude each other",
            ),
            (
                "transfer-encoding: chunked\r\ncontent-length: 1\r\n\r\n",
                "exclude each other",
            ),
            (
                "transfer-encoding: gzip, chunked\r\n\r\n",
                "something else than chunked",
            ),
            (
                "transfer-encoding: identity\r\n\r\n",
                "something else than chunked",
            ),
            (
                "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n",
                "more than once",
            ),
            (
                "x: a\ncontent-length: 1\r\n\r\na",
                "without a carriage return",
            ),
            (
                "x: a\r\n content-length: 1\r\n\r\na",
                "goes on in the next line",
            ),
            ("transfer-encoding:\r\n\tchunked\r\n\r\n", "something else"),
        ] {
            let request = format!("{POST}{rest}");
            for piece in [1, 5, request.len()] {
                let detail = followed(request.as_bytes(), piece).unwrap_err();
                assert!(detail.contains(said), "{rest:?} by {piece}: {detail}");
            }
        }
    }

    #[test]
    fn odd_chunks_are_violations() {
        for (chunks, said) in [
            ("0x1\r\n", "hexadecimal"),
            ("+1\r\n", "hexadecimal"),
            (" 1\r\n", "hexadecimal"),
            ("1 \r\n", "hexadecimal"),
            ("\r\n", "hexadecimal"),
            ("g\r\n", "hexadecimal"),
            ("1\n", "carriage return"),
            ("1\r\na\n", "carriage return"),
            ("1\r\nab\r\n", "longer than its size"),
            ("fffffffffffffffff\r\n", "beyond all bounds"),
            ("0\r\nx: y\n\r\n", "carriage return"),
            ("0\r\n x: y\r\n\r\n", "next line"),
        ] {
            let request = format!("{POST}transfer-encoding: chunked\r\n\r\n{chunks}");
            for piece in [1, request.len()] {
                let detail = followed(request.as_bytes(), piece).unwrap_err();
                assert!(detail.contains(said), "{chunks:?}: {detail}");
            }
        }
        let endless = format!(
            "{POST}transfer-encoding: chunked\r\n\r\n1;{}",
            "a".repeat(100_000)
        );
        assert!(followed(endless.as_bytes(), 1_000).is_err());
    }

    #[test]
    fn a_violation_leaves_the_requests_before_it_sound() {
        let good = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
        let bytes = format!("{good}{good}GET / HTTP/1.1\nhost: a\n\n");
        let violation = Framing::default().follow(bytes.as_bytes()).unwrap_err();
        assert_eq!(
            (violation.sound, violation.is_in_body),
            (2 * good.len(), false)
        );
        let chunked = format!("{good}{POST}transfer-encoding: chunked\r\n\r\nx\r\n");
        let violation = Framing::default().follow(chunked.as_bytes()).unwrap_err();
        assert_eq!((violation.sound, violation.is_in_body), (good.len(), false));
        let mut framing = Framing::default();
        let (head, body) = (&chunked[..chunked.len() - 3], &chunked[chunked.len() - 3..]);
        framing.follow(head.as_bytes()).unwrap();
        let violation = framing.follow(body.as_bytes()).unwrap_err();
        assert_eq!((violation.sound, violation.is_in_body), (0, true));
    }

    /// However the bytes are cut into pieces, they come to the same.
    #[test]
    fn pieces_make_no_difference() {
        const WORDS: [&str; 14] = [
            "GET / HTTP/1.1",
            "content-length:",
            "transfer-encoding:",
            "chunked",
            "\r\n",
            "\n",
            "\r\n\r\n",
            " ",
            "0",
            "1",
            "a",
            ";",
            "x: y",
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
        ];
        bolero::check!()
            .with_type::<(Vec<u8>, u8)>()
            .for_each(|(choices, piece)| {
                let words = choices
                    .iter()
                    .map(|choice| WORDS[usize::from(*choice) % WORDS.len()]);
                let bytes: String = words.collect();
                let whole = followed(bytes.as_bytes(), bytes.len().max(1));
                let pieces = followed(bytes.as_bytes(), usize::from(*piece).max(1));
                assert_eq!(pieces, whole, "{bytes:?}");
            });
    }

    #[test]
    fn a_head_beyond_all_bounds_is_left_to_the_library() {
        for head in [
            "x".repeat(HEAD_BYTES_MAX + 10),
            format!("{POST}x: {}\r\n\r\n", "x".repeat(HEAD_BYTES_MAX)),
        ] {
            assert_eq!(followed(head.as_bytes(), 4_096), Ok(Part::Beyond));
        }
    }
}
