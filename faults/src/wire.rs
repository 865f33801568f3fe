//! One keep-alive connection that sends ready-made requests: for loads that a client which is
//! ready for anything would be too slow for, on the cores that it shares with the server.
//!
//! It reads answers with a `Content-Length`, one after the other.

use crate::client::Answer;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects to `address`: a host and a port.
    ///
    /// # Errors
    ///
    /// When nobody listens there.
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("connect to {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(4 * 1024),
        })
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    ///
    /// When there is no whole answer.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: the connection is of no use after a call that was dropped.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await?;
            ensure!(read > 0, "the server closed the connection");
            if let Some(answer) = parse(&self.buffer)? {
                return Ok(answer);
            }
            ensure!(
                self.buffer.len() < ANSWER_BYTES_MAX,
                "an answer is longer than {ANSWER_BYTES_MAX} bytes"
            );
        }
    }
}

/// Reads an answer, once it is there in full.
fn parse(bytes: &[u8]) -> anyhow::Result<Option<Answer>> {
    let Some(blank) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Ok(None);
    };
    let head = std::str::from_utf8(&bytes[..blank]).context("a head that is not UTF-8")?;
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let status = line
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let Some(status) = status.and_then(|digits| digits.parse().ok()) else {
        bail!("an answer begins with {line:?}");
    };
    let mut headers = HeaderMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').context("a field without a colon")?;
        headers.append(
            name.parse::<HeaderName>()?,
            value.trim().parse::<HeaderValue>()?,
        );
    }
    let length = headers.get("content-length").map(HeaderValue::to_str);
    let length: usize = length
        .context("an answer without Content-Length")??
        .parse()?;
    let body = &bytes[blank + 4..];
    ensure!(body.len() <= length, "more than one answer");
    Ok((body.len() == length).then(|| Answer {
        status,
        headers,
        body: Bytes::copy_from_slice(body),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_once_it_is_whole() {
        let text =
            b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\ncontent-length: 2\r\n\r\nno";
        for cut in 0..text.len() {
            assert!(parse(&text[..cut]).unwrap().is_none(), "{cut}");
        }
        let answer = parse(text).unwrap().unwrap();
        assert_eq!((answer.status, &answer.body[..]), (429, &b"no"[..]));
        assert_eq!(answer.field("retry-after"), "1");
        assert_eq!(answer.field("location"), "");
        assert!(parse(&[&text[..], b"H"].concat()).is_err());
        assert!(parse(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(parse(b"SSH-2.0\r\n\r\n").is_err());
    }
}
