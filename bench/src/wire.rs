//! A client's end of one keep-alive connection: writes ready-made requests, reads whole answers.
//!
//! It parses the status and `Content-Length` and nothing else, because it shares the machine's
//! cores with the server that it measures. It does not read chunked bodies or pipelined answers,
//! which the servers here do not send.

use anyhow::{Context, bail, ensure};
use std::net::{IpAddr, SocketAddr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

/// Bytes of an answer: more than anything asked for here.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Bytes that there is room for at first.
const BUFFER_BYTES: usize = 8 * 1024;

/// A connection and room for an answer.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer, whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The status.
    pub(crate) status: u16,
    head: &'a [u8],
    /// The body.
    pub(crate) body: &'a [u8],
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Connects from an address of this machine, and takes no room until an answer comes: for a great
    /// many connections on which little happens.
    pub(crate) async fn open_from(source: IpAddr, address: SocketAddr) -> anyhow::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::new(source, 0))?;
        let stream = socket.connect(address).await;
        let stream = stream.with_context(|| format!("cannot connect {source} to {address}"))?;
        stream.set_nodelay(true)?;
        let buffer = Vec::new();
        Ok(Self { stream, buffer })
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer<'_>> {
        self.stream.write_all(request).await?;
        if self.buffer.is_empty() {
            self.stream.readable().await?;
            self.buffer.resize(BUFFER_BYTES, 0);
        }
        let mut filled = 0;
        let mut frame = None;
        loop {
            if filled == self.buffer.len() {
                ensure!(
                    filled < ANSWER_BYTES_MAX,
                    "an answer is longer than {ANSWER_BYTES_MAX} bytes"
                );
                self.buffer.resize(filled * 2, 0);
            }
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            ensure!(read > 0, "the server closed the connection in mid-answer");
            filled += read;
            if frame.is_none() {
                frame = Frame::parse(&self.buffer[..filled])?;
            }
            let Some(Frame { status, head, end }) = frame else {
                continue;
            };
            if filled < end {
                continue;
            }
            ensure!(filled == end, "the server sent more than one answer");
            return Ok(Answer {
                status,
                head: &self.buffer[..head],
                body: &self.buffer[head..end],
            });
        }
    }
}

impl<'a> Answer<'a> {
    /// Returns the fields of the head, each a name and a value.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let lines = self.head.split(|byte| *byte == b'\n').skip(1);
        lines.filter_map(|line| std::str::from_utf8(line).ok()?.trim().split_once(": "))
    }

    /// Returns the value of a field, whatever the case of its name.
    pub(crate) fn field(&self, name: &str) -> Option<&'a str> {
        let mut fields = self.fields();
        fields
            .find(|(given, _)| given.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// Refuses any other status.
    pub(crate) fn expect(&self, status: u16) -> anyhow::Result<()> {
        if self.status != status {
            let body = String::from_utf8_lossy(&self.body[..self.body.len().min(400)]);
            bail!("the answer is {}, not {status}: {body}", self.status);
        }
        Ok(())
    }
}

/// Where an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    status: u16,
    /// Bytes of the head, its empty line included.
    head: usize,
    /// Bytes of head and body.
    end: usize,
}

impl Frame {
    /// Reads the head, once it is there in full.
    fn parse(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(blank) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let line = bytes.get(..12).context("the status line is cut short")?;
        let status = line.strip_prefix(b"HTTP/1.1 ").and_then(number);
        let Some(status) = status.and_then(|status| u16::try_from(status).ok()) else {
            bail!("not a status line: {:?}", String::from_utf8_lossy(line));
        };
        let length = if status == 204 || status == 304 {
            0
        } else {
            length_of(&bytes[..blank]).context("an answer without Content-Length")?
        };
        let head = blank + 4;
        Ok(Some(Self {
            status,
            head,
            end: head + length,
        }))
    }
}

fn length_of(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let mut lines = head.split(|byte| *byte == b'\n');
    let line = lines.find(|line| {
        line.get(..NAME.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(NAME))
    })?;
    number(line[NAME.len()..].trim_ascii())
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_where_its_answer_ends() {
        let whole =
            b"HTTP/1.1 202 Accepted\r\nLocation: /v1/jobs/7\r\ncontent-LENGTH: 3\r\n\r\nabc";
        let frame = Frame::parse(whole).unwrap().unwrap();
        assert_eq!((frame.status, frame.end), (202, whole.len()));
        for cut in 0..frame.head {
            assert_eq!(Frame::parse(&whole[..cut]).unwrap(), None, "{cut} bytes");
        }
        let answer = Answer {
            status: 202,
            head: &whole[..frame.head],
            body: &whole[frame.head..],
        };
        assert_eq!(answer.field("location"), Some("/v1/jobs/7"));
        assert_eq!(answer.fields().count(), 2);
        assert!(answer.expect(200).unwrap_err().to_string().contains("abc"));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for bad in [
            "SMTP\r\n\r\n",
            "HTTP/1.1 abc Odd\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        ] {
            assert!(Frame::parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
        let none = b"HTTP/1.1 204 No Content\r\n\r\n";
        assert_eq!(Frame::parse(none).unwrap().unwrap().end, none.len());
    }
}
