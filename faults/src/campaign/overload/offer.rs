//! The load: submits that are due at a steady rate, whether or not there are answers.
//!
//! A span counts from when a submit was due, so that a server that stalls is late for every one
//! that it held up. What is refused is counted and not written down: a history of what was taken
//! shows as well that nothing else was stored.

use super::{DEADLINE, ask};
use crate::client::{Answer, Ask, Client, Submitted};
use crate::history::now_us;
use crate::load::Acked;
use crate::pause;
use crate::wire::Connection;
use anyhow::{Context, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// Connections: more than wait for an answer at once on a server that keeps to its word.
const CONNECTIONS: usize = 256;

/// What came of the submits.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// How many were sent.
    pub(super) sent: u64,
    /// How many were due and not sent, since all connections waited for answers.
    pub(super) unsent: u64,
    /// Those that were acknowledged.
    pub(super) taken: Vec<Acked>,
    /// From when each was due to its acknowledgement.
    pub(super) taken_us: Vec<u64>,
    /// From when a submit was due to its refusal.
    pub(super) refusals_us: Vec<u64>,
    /// Without an answer within the deadline.
    pub(super) unanswered: u64,
}

/// Which submit is due next, over all connections.
#[derive(Debug)]
struct Schedule {
    next: AtomicU64,
    from_us: u64,
    to_us: u64,
    per_s: u64,
}

/// Offers `per_s` submits a second for `span`.
pub(super) async fn offer(client: &Client, per_s: u64, span: Duration) -> anyhow::Result<Seen> {
    let address = client.up().await?;
    let address = address.trim_start_matches("http://").to_owned();
    let mut open = Vec::new();
    for _ in 0..CONNECTIONS {
        open.push(Connection::open(&address).await?);
    }
    let from_us = now_us().1;
    let schedule = Arc::new(Schedule {
        next: AtomicU64::new(0),
        from_us,
        to_us: from_us + u64::try_from(span.as_micros())?,
        per_s,
    });
    let mut senders = JoinSet::new();
    for connection in open {
        let sender = Sender {
            connection,
            address: address.clone(),
            client: client.clone(),
            schedule: schedule.clone(),
            seen: Seen::default(),
        };
        senders.spawn(sender.send_all());
    }
    let mut seen = Seen::default();
    while let Some(ended) = senders.join_next().await {
        seen.add(ended.context("a sender panicked")??);
    }
    Ok(seen)
}

impl Seen {
    fn add(&mut self, other: Self) {
        self.sent += other.sent;
        self.unsent += other.unsent;
        self.unanswered += other.unanswered;
        self.taken.extend(other.taken);
        self.taken_us.extend(other.taken_us);
        self.refusals_us.extend(other.refusals_us);
    }
}

/// One connection and what it saw.
#[derive(Debug)]
struct Sender {
    connection: Connection,
    address: String,
    client: Client,
    schedule: Arc<Schedule>,
    seen: Seen,
}

impl Sender {
    async fn send_all(mut self) -> anyhow::Result<Seen> {
        loop {
            let number = self.schedule.next.fetch_add(1, Ordering::Relaxed);
            let due_us = self.schedule.from_us + number * 1_000_000 / self.schedule.per_s;
            if due_us >= self.schedule.to_us {
                return Ok(self.seen);
            }
            let now = now_us().1;
            if now > self.schedule.to_us {
                self.seen.unsent += 1;
                continue;
            }
            pause(Duration::from_micros(due_us.saturating_sub(now))).await;
            self.send(number, due_us).await?;
        }
    }

    async fn send(&mut self, number: u64, due_us: u64) -> anyhow::Result<()> {
        let ask = ask(number);
        let request = request(&ask);
        self.seen.sent += 1;
        let answer = tokio::time::timeout(DEADLINE, self.connection.exchange(&request)).await;
        let Ok(Ok(answer)) = answer else {
            self.seen.unanswered += 1;
            self.client
                .note_submitted(&ask, &Submitted::Unknown(None))?;
            self.connection = Connection::open(&self.address).await?;
            return Ok(());
        };
        // A submit may be late for want of a free connection, never early.
        let after_us = now_us().1.saturating_sub(due_us);
        if answer.status == 202 {
            let id = answer.job()?.id;
            let acked = Submitted::Acked(id.clone());
            self.client.note_submitted(&ask, &acked)?;
            self.seen.taken_us.push(after_us);
            self.seen.taken.push(Acked {
                id,
                expected: ask.expected,
                is_short: false,
            });
        } else {
            check_refusal(&answer)?;
            self.seen.refusals_us.push(after_us);
        }
        Ok(())
    }
}

fn request(ask: &Ask) -> Vec<u8> {
    let head = format!(
        "POST /v1/tasks/{}/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n",
        ask.task,
        ask.body.len()
    );
    [head.as_bytes(), &ask.body].concat()
}

/// A refusal says that it is one for now, and until when.
fn check_refusal(answer: &Answer) -> anyhow::Result<()> {
    let (status, problem) = (answer.status, answer.problem());
    match (status, &*problem) {
        (429, "queue-full") | (503, "overloaded") => {}
        _ => bail!("a submit is refused with {status} {problem:?}"),
    }
    let kind = answer.field("content-type");
    ensure!(
        kind.starts_with("application/problem+json"),
        "a refusal is {kind:?}"
    );
    let retry_after = answer.field("retry-after");
    ensure!(
        retry_after.parse::<u64>().is_ok_and(|seconds| seconds >= 1),
        "a refusal says Retry-After: {retry_after:?}"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use hyper::header::HeaderMap;

    fn refusal(status: u16, kind: &'static str, retry_after: &'static str, slug: &str) -> Answer {
        let mut headers = HeaderMap::new();
        headers.insert("content-type", kind.parse().unwrap());
        headers.insert("retry-after", retry_after.parse().unwrap());
        Answer {
            status,
            headers,
            body: Bytes::from(format!(r#"{{"type":"/problems/{slug}"}}"#)),
        }
    }

    #[test]
    fn only_a_whole_refusal_counts_as_one() {
        let problem = "application/problem+json";
        let check = |status, kind, after, slug| check_refusal(&refusal(status, kind, after, slug));
        assert!(check(429, problem, "1", "queue-full").is_ok());
        assert!(check(503, problem, "7", "overloaded").is_ok());
        assert!(check(429, "text/html", "1", "queue-full").is_err());
        assert!(check(429, problem, "soon", "queue-full").is_err());
        assert!(check(429, problem, "0", "queue-full").is_err());
        assert!(check(503, problem, "1", "store-unavailable").is_err());
        assert!(check(500, problem, "1", "internal-error").is_err());
    }
}
