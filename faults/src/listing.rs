//! What the server's own list says of its jobs.

use crate::client::Client;
use anyhow::Context;
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use std::fmt::Write;

/// A job as it is listed: what campaigns look at.
#[derive(Clone, Debug, Deserialize)]
pub struct Listed {
    /// Its id.
    pub id: String,
    /// Its task.
    pub task: String,
    /// Whose turns it takes.
    pub group: Option<String>,
    /// Its state, in the word of the wire.
    pub state: String,
    /// Its attempts so far.
    pub attempt: u32,
    /// When it was submitted.
    pub created_at: Instant,
    /// When its last attempt began.
    pub started_at: Option<Instant>,
    /// When it ended.
    pub finished_at: Option<Instant>,
    /// Why it failed, if it has.
    pub error: Option<Failure>,
}

/// Why an attempt failed.
#[derive(Clone, Debug, Deserialize)]
pub struct Failure {
    /// In which way, in the word of the wire.
    pub kind: String,
    /// What the server says of it.
    pub message: String,
}

/// An instant by the server's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub struct Instant(i64);

impl Instant {
    /// Returns the milliseconds since the Unix epoch.
    pub const fn ms(self) -> i64 {
        self.0
    }
}

impl TryFrom<String> for Instant {
    type Error = jiff::Error;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
            .map(|at: jiff::Timestamp| Self(at.as_millisecond()))
    }
}

/// Lists all jobs that match `filters`, as in the query of the URL, newest first.
///
/// # Errors
///
/// When the server gives no list.
pub async fn list(client: &Client, filters: &str) -> anyhow::Result<Vec<Listed>> {
    #[derive(Deserialize)]
    struct Page {
        jobs: Vec<Listed>,
        next_page_token: Option<String>,
    }
    let mut listed = Vec::new();
    let mut token = None::<String>;
    loop {
        let mut path = format!("/v1/jobs?page_size=1000&{filters}");
        if let Some(token) = &token {
            write!(path, "&page_token={token}")?;
        }
        let answer = client.call(Method::GET, &path, &[], Bytes::new()).await?;
        let page: Page = serde_json::from_slice(&answer.body)
            .with_context(|| format!("GET {path} is answered {}", answer.status))?;
        listed.extend(page.jobs);
        token = page.next_page_token;
        if token.is_none() {
            return Ok(listed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_to_the_millisecond() {
        let read = serde_json::from_str::<Instant>(r#""2026-11-22T12:00:00.052Z""#).unwrap();
        assert_eq!(read.ms(), 1_795_348_800_052);
        assert!(serde_json::from_str::<Instant>(r#""noon""#).is_err());
    }
}
