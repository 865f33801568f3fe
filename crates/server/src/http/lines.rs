//! The lines of a body that never has to end: cut out as they come, in chunks, within bounds.
//!
//! Nothing is read ahead of what is asked for: whoever does not take the answers stops the reading.

use super::body::{Buffered, Room};
use super::limits::{BODY_PIECE_MAX, STREAM_CHUNK_BYTES_MAX, STREAM_CHUNK_LINES_MAX};
use super::problem::{Kind, Problem};
use axum::body::Body;
use bytes::{Buf, Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use memchr::memchr;
use std::mem::take;
use tokio::task::yield_now;
use tokio::time::{Instant, timeout_at};

/// Cuts a body into lines.
pub(crate) struct Lines {
    body: Body,
    buffered: Buffered,
    /// Bytes of a line.
    limit: usize,
    /// What has come of a line that has not ended, and what came after.
    buffer: BytesMut,
    /// Bytes of it in which there is no end of a line.
    searched: usize,
    /// What has come and does not fit into the buffer's room yet.
    pending: Bytes,
    /// The room of the buffer: twice its bytes, for what is kept of them.
    room: Room,
    /// The line that begins the buffer, from 1; or the one that is being skipped.
    number: usize,
    /// The rest of a line that was refused is let go.
    is_skipping: bool,
    end: Option<End>,
}

/// How a body ended.
#[derive(Clone, Debug)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// It broke off, or nothing came for too long.
    Broken(Problem),
}

/// Lines to be dealt with together, and their room.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) lines: Vec<(usize, Line)>,
    /// Bytes of the lines.
    pub(crate) bytes: usize,
    pub(crate) room: Room,
    /// There is no chunk after it.
    pub(crate) end: Option<End>,
}

/// A line that is not blank.
#[derive(Debug)]
pub(crate) enum Line {
    /// Without its end.
    Whole(Bytes),
    /// It is too long, or there was no room for it.
    Refused(Problem),
}

impl Lines {
    pub(crate) fn new(body: Body, limit: usize, buffered: Buffered) -> Self {
        Self {
            body,
            limit,
            buffer: BytesMut::new(),
            searched: 0,
            pending: Bytes::new(),
            room: Room::none(buffered.clone()),
            buffered,
            number: 1,
            is_skipping: false,
            end: None,
        }
    }

    /// Returns the next lines: those that are at hand, up to a bound; where there are none, waits
    /// for the first. A chunk without lines is the last.
    pub(crate) async fn next(&mut self) -> Chunk {
        let mut chunk = Chunk {
            lines: Vec::new(),
            bytes: 0,
            room: Room::none(self.buffered.clone()),
            end: None,
        };
        loop {
            self.cut(&mut chunk);
            if chunk.is_full() {
                return chunk;
            }
            if !self.pending.is_empty() {
                if self.take_in(&mut chunk) {
                    continue;
                }
                // There is room again once these are stored.
                return chunk;
            }
            if let Some(end) = &self.end {
                chunk.end = Some(end.clone());
                return chunk;
            }
            if chunk.lines.is_empty() {
                self.wait().await;
            } else if !self.is_at_hand().await {
                return chunk;
            }
        }
    }

    /// Waits for the next piece.
    async fn wait(&mut self) {
        let piece_by = Instant::now() + BODY_PIECE_MAX;
        if let Ok(frame) = timeout_at(piece_by, self.body.frame()).await {
            self.came(frame);
            return;
        }
        let detail = "no line came for a minute; what was not answered was not stored";
        let problem = Problem::new(Kind::RequestTimeout, detail).closing();
        self.end = Some(End::Broken(problem));
    }

    /// Takes the next piece if it is there.
    async fn is_at_hand(&mut self) -> bool {
        for is_first in [true, false] {
            if let Some(frame) = self.body.frame().now_or_never() {
                self.came(frame);
                return true;
            }
            if is_first {
                // The connection reads on only while nobody is busy with what it has read.
                yield_now().await;
            }
        }
        false
    }

    fn came(&mut self, frame: Option<Result<http_body::Frame<Bytes>, axum::Error>>) {
        match frame {
            // Trailers are let go.
            Some(Ok(frame)) => self.pending = frame.into_data().unwrap_or_default(),
            None => self.end = Some(End::Whole),
            Some(Err(error)) => {
                let detail = format!("the body broke off: {error}");
                let problem = Problem::new(Kind::MalformedRequest, detail).closing();
                self.end = Some(End::Broken(problem));
            }
        }
    }

    /// Takes what came into the buffer; false if there is no room before these lines are dealt with.
    fn take_in(&mut self, chunk: &mut Chunk) -> bool {
        if self.is_skipping {
            match memchr(b'\n', &self.pending) {
                None => self.pending.clear(),
                Some(at) => {
                    self.pending.advance(at + 1);
                    self.is_skipping = false;
                    self.number += 1;
                }
            }
            return true;
        }
        match self.buffered.reserve(&self.room, 2 * self.pending.len()) {
            Ok(()) => {
                self.buffer.extend_from_slice(&self.pending);
                self.pending = Bytes::new();
                true
            }
            Err(_) if !chunk.lines.is_empty() => false,
            Err(problem) => {
                self.refuse(problem, chunk);
                true
            }
        }
    }

    /// Moves whole lines from the buffer to the chunk, as many as it may hold.
    fn cut(&mut self, chunk: &mut Chunk) {
        while !chunk.is_full() && !self.is_skipping {
            let found = memchr(b'\n', &self.buffer[self.searched..]);
            let end = match (found, &self.end) {
                (Some(at), _) => self.searched + at,
                (None, Some(End::Whole)) if self.pending.is_empty() && !self.buffer.is_empty() => {
                    self.buffer.len()
                }
                (None, _) => {
                    self.searched = self.buffer.len();
                    if self.buffer.len() > self.limit {
                        self.refuse(self.too_long(), chunk);
                    }
                    return;
                }
            };
            self.searched = 0;
            let line = self.buffer.split_to(end).freeze();
            let ending = self.buffer.len().min(1);
            self.buffer.advance(ending);
            let number = self.number;
            self.number += 1;
            let is_blank = line.trim_ascii().is_empty();
            if is_blank || line.len() > self.limit {
                self.room.give_back(2 * (line.len() + ending));
                if !is_blank {
                    let line = Line::Refused(self.too_long());
                    chunk.lines.push((number, line));
                }
            } else {
                self.room.give_back(2 * ending);
                self.room.hand_over(&chunk.room, 2 * line.len());
                chunk.bytes += line.len();
                chunk.lines.push((number, Line::Whole(line)));
            }
        }
    }

    /// Answers the line that begins the buffer with a problem, and lets its rest go.
    fn refuse(&mut self, problem: Problem, chunk: &mut Chunk) {
        chunk.lines.push((self.number, Line::Refused(problem)));
        let buffer = take(&mut self.buffer);
        self.room.give_back(2 * buffer.len());
        self.searched = 0;
        self.is_skipping = true;
    }

    fn too_long(&self) -> Problem {
        let detail = format!("the line is longer than {} bytes, the limit", self.limit);
        Problem::new(Kind::PayloadTooLarge, detail)
    }
}

impl Chunk {
    fn is_full(&self) -> bool {
        self.lines.len() >= STREAM_CHUNK_LINES_MAX || self.bytes >= STREAM_CHUNK_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::{self, StreamExt};
    use std::convert::Infallible;
    use std::time::Duration;

    const LIMIT: usize = 10;

    fn lines_of(pieces: Vec<Vec<u8>>, buffered: &Buffered) -> Lines {
        let pieces = pieces.into_iter().map(Ok::<_, Infallible>);
        let body = Body::from_stream(stream::iter(pieces));
        Lines::new(body, LIMIT, buffered.clone())
    }

    /// Reads all chunks, and gives back their room as whoever deals with them does.
    async fn all(mut lines: Lines) -> Vec<(usize, String)> {
        let mut all = Vec::new();
        loop {
            let chunk = lines.next().await;
            for (number, line) in chunk.lines {
                let text = match line {
                    Line::Whole(line) => String::from_utf8(line.to_vec()).unwrap(),
                    Line::Refused(problem) => problem.kind().slug().to_owned(),
                };
                all.push((number, text));
            }
            chunk.room.release();
            if chunk.end.is_some() {
                return all;
            }
        }
    }

    #[tokio::test]
    async fn lines_are_the_same_however_they_come() {
        let long = "x".repeat(LIMIT);
        let body = format!("a\n\n  \r\nbc\r\n{long}\n{long}y\n{long}{long}{long}\nd\n\ne");
        let expected = [
            (1, "a"),
            (4, "bc\r"),
            (5, long.as_str()),
            (6, "payload-too-large"),
            (7, "payload-too-large"),
            (8, "d"),
            (10, "e"),
        ]
        .map(|(number, text)| (number, text.to_owned()));
        for size in 1..=body.len() {
            let buffered = Buffered::new(10_000);
            let pieces = body.as_bytes().chunks(size).map(<[u8]>::to_vec).collect();
            let found = all(lines_of(pieces, &buffered)).await;
            assert_eq!(found, expected, "pieces of {size}");
            assert_eq!(buffered.taken(), 0, "pieces of {size}");
        }
    }

    #[tokio::test]
    async fn a_body_without_lines_has_none() {
        for body in ["", "\n", " \n\t\r\n", "  "] {
            let buffered = Buffered::new(10_000);
            let pieces = vec![body.as_bytes().to_vec()];
            assert_eq!(all(lines_of(pieces, &buffered)).await, [], "{body:?}");
        }
    }

    #[tokio::test]
    async fn a_chunk_holds_no_more_lines_than_are_committed_together() {
        let buffered = Buffered::new(10_000_000);
        let body = b"a\n".repeat(2 * STREAM_CHUNK_LINES_MAX + 1);
        let mut lines = lines_of(vec![body], &buffered);
        for expected in [STREAM_CHUNK_LINES_MAX, STREAM_CHUNK_LINES_MAX, 1] {
            assert_eq!(lines.next().await.lines.len(), expected);
        }
    }

    /// A line that would take more than there is must not end the stream of its client.
    #[tokio::test]
    async fn a_line_that_finds_no_room_is_refused_and_the_next_is_taken() {
        let buffered = Buffered::new(22);
        let pieces = ["123456", "789", "0\n", "ab\ncd\n"];
        let pieces: Vec<Vec<u8>> = pieces.map(Vec::from).into();
        let found = all(lines_of(pieces.clone(), &buffered)).await;
        assert_eq!(
            found,
            [
                (1, "1234567890".to_owned()),
                (2, "ab".to_owned()),
                (3, "cd".to_owned())
            ]
        );
        let others = Room::none(buffered.clone());
        buffered.reserve(&others, 10).unwrap();
        let found = all(lines_of(pieces, &buffered)).await;
        let refused = (1, "overloaded".to_owned());
        assert_eq!(found, [refused, (2, "ab".to_owned()), (3, "cd".to_owned())]);
        drop(others);
        assert_eq!(buffered.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_is_silent_for_a_minute_has_ended() {
        let first = stream::iter([Ok::<_, Infallible>(b"a\nb".to_vec())]);
        let body = Body::from_stream(first.chain(stream::pending()));
        let mut lines = Lines::new(body, LIMIT, Buffered::new(10_000));
        let chunk = lines.next().await;
        assert_eq!(
            chunk.lines.len(),
            1,
            "it is not waited for what is not at hand"
        );
        assert!(chunk.end.is_none());
        let begun = Instant::now();
        let chunk = lines.next().await;
        assert!(chunk.lines.is_empty());
        assert!(
            matches!(&chunk.end, Some(End::Broken(problem)) if problem.kind() == Kind::RequestTimeout)
        );
        assert_eq!(begun.elapsed().as_secs(), Duration::from_mins(1).as_secs());
    }
}
