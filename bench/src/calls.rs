//! Calls to a server under test whose answers are looked into: envelopes in bulk, JSON, pages.

use crate::clock::now;
use crate::wire::Connection;
use anyhow::{Context, ensure};
use serde_json::Value;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

/// Jobs of one bulk submit.
pub(crate) const BULK: usize = 5_000;
/// Jobs of one page, so that its answer fits into the room that a connection has for it.
const PAGE: usize = 500;
/// Between two looks at whether all is done.
const LOOK: Duration = Duration::from_millis(20);

/// A connection to a server under test.
#[derive(Debug)]
pub(crate) struct Calls(Connection);

impl Calls {
    /// Connects.
    pub(crate) async fn open(address: SocketAddr) -> anyhow::Result<Self> {
        Ok(Self(Connection::open(address).await?))
    }

    /// Returns the body of an answer to `GET path`, which has to be 200.
    pub(crate) async fn get(&mut self, path: &str) -> anyhow::Result<String> {
        let answer = self.0.exchange(get(path).as_bytes()).await?;
        answer.expect(200)?;
        Ok(String::from_utf8(answer.body.to_vec())?)
    }

    /// Returns the JSON of an answer to `GET path`, which has to be 200.
    pub(crate) async fn get_json(&mut self, path: &str) -> anyhow::Result<Value> {
        let body = self.get(path).await?;
        serde_json::from_str(&body).with_context(|| format!("GET {path} is no JSON"))
    }

    /// Changes what `path` names by JSON, which has to be answered 200.
    pub(crate) async fn patch(&mut self, path: &str, body: &str) -> anyhow::Result<()> {
        let answer = self.0.exchange(&with_body("PATCH", path, body)).await?;
        answer.expect(200)
    }

    /// Waits until no job of a queue is left unfinished.
    pub(crate) async fn until_done(&mut self, queue: &str) -> anyhow::Result<()> {
        loop {
            let shown = self.get_json(&format!("/v1/queues/{queue}")).await?;
            let depth = shown["depth"]
                .as_object()
                .context("a queue without depth")?;
            let unfinished: u64 = depth.values().filter_map(Value::as_u64).sum();
            if unfinished == 0 {
                return Ok(());
            }
            tokio::time::sleep_until((now() + LOOK).into()).await;
        }
    }

    /// Asks for `path` and returns the status and the body, whatever they are.
    pub(crate) async fn ask(&mut self, path: &str) -> anyhow::Result<(u16, Vec<u8>)> {
        let answer = self.0.exchange(get(path).as_bytes()).await?;
        Ok((answer.status, answer.body.to_vec()))
    }

    /// Submits so many jobs alike, in as few calls as may be, and returns their ids in order.
    pub(crate) async fn submit(
        &mut self,
        jobs: usize,
        envelope: &str,
    ) -> anyhow::Result<Vec<String>> {
        let mut ids = Vec::with_capacity(jobs);
        while ids.len() < jobs {
            let count = BULK.min(jobs - ids.len());
            let body = format!("[{}]", vec![envelope; count].join(","));
            let answer = self.0.exchange(&post("/v1/jobs", &body)).await?;
            answer.expect(202)?;
            let taken: Value = serde_json::from_slice(answer.body)?;
            let taken = taken["jobs"].as_array().context("an answer without jobs")?;
            ensure!(taken.len() == count, "{} jobs of {count}", taken.len());
            let each = taken.iter();
            let each = each.map(|job| Some(job["id"].as_str()?.to_owned()));
            let each: Option<Vec<_>> = each.collect();
            ids.extend(each.context("a job without an id")?);
        }
        Ok(ids)
    }

    /// Returns all jobs that match `filters`, newest first.
    pub(crate) async fn list(&mut self, filters: &str) -> anyhow::Result<Vec<Value>> {
        let mut jobs = Vec::new();
        let mut token = None::<String>;
        loop {
            let mut path = format!("/v1/jobs?page_size={PAGE}&{filters}");
            if let Some(token) = &token {
                write!(path, "&page_token={token}")?;
            }
            let mut page = self.get_json(&path).await?;
            let Value::Array(some) = page["jobs"].take() else {
                anyhow::bail!("a page without jobs");
            };
            jobs.extend(some);
            token = page["next_page_token"].as_str().map(str::to_owned);
            if token.is_none() {
                return Ok(jobs);
            }
        }
    }
}

/// Returns a request for `path`.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
}

/// Returns a request that posts JSON.
pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    with_body("POST", path, body)
}

fn with_body(method: &str, path: &str, body: &str) -> Vec<u8> {
    let bytes = body.len();
    format!(
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n\
         Content-Length: {bytes}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Returns the milliseconds since the Unix epoch that a member of a job says.
pub(crate) fn instant_ms(job: &Value, member: &str) -> anyhow::Result<i64> {
    let text = job[member].as_str();
    let text = text.with_context(|| format!("a job without {member}: {job}"))?;
    Ok(text.parse::<jiff::Timestamp>()?.as_millisecond())
}
