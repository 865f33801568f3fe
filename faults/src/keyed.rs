//! Clients that submit to several nodes, by an idempotency key each, until it is known that the job is
//! there: to one node, and after any trouble to another, one by one and many in a call.

use crate::client::{Answer, Ask, Client, Whereabouts};
use crate::load::{Acked, Mix};
use crate::pause;
use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long a client waits for an answer before it asks another node.
const PATIENCE: Duration = Duration::from_secs(5);
/// How often a submit is tried: longer than all nodes may be in trouble.
const TRIES_MAX: u32 = 400;
/// Jobs of one call at the most.
const BULK_MAX: usize = 8;
/// Between two calls of a submitter, in milliseconds, at the most.
const GAP_MS_MAX: u64 = 80;
const BYTES: &str = "application/octet-stream";
/// What stands in the answer of a node that does not know what became of a commit.
const NOT_KNOWN: &str = "it is not known whether it was done";
/// An answer to a submit whose fate is not known, as it is counted.
pub const UNKNOWN: &str = "503 store-unavailable, not known";

/// Nodes to ask.
#[derive(Clone, Debug)]
pub struct Nodes(Vec<Whereabouts>);

impl Nodes {
    /// Returns those that are found in `all`.
    pub fn new(all: Vec<Whereabouts>) -> Self {
        Self(all)
    }

    /// Draws a node that is up; any where none is.
    pub fn draw(&self, random: &mut fastrand::Rng) -> Whereabouts {
        let up = self.0.iter().filter(|node| node.borrow().is_some());
        let up: Vec<_> = up.collect();
        let drawn = random.choice(&up).copied();
        drawn
            .unwrap_or(&self.0[random.usize(0..self.0.len())])
            .clone()
    }
}

/// A job with its key.
#[derive(Clone, Debug)]
pub struct Keyed {
    /// What is submitted.
    pub ask: Ask,
    /// Under which key.
    pub key: String,
}

/// What answers there were but those that acknowledge.
#[derive(Debug, Default)]
pub struct Answers(Mutex<BTreeMap<String, u64>>);

impl Answers {
    fn note(&self, answer: String) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(answer).or_default() += 1;
    }

    /// Returns how often each was given.
    pub fn counts(&self) -> BTreeMap<String, u64> {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }
}

/// Load on nodes: runs until it is stopped.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    clients: JoinSet<anyhow::Result<()>>,
}

#[derive(Debug)]
struct Shared {
    mix: Mix,
    nodes: Nodes,
    acked: Mutex<Vec<Acked>>,
    answers: Answers,
    /// Keys that were ever given.
    keys: AtomicU64,
    news: Notify,
    stop: CancellationToken,
}

impl Load {
    /// Starts a submitter for each client of `submitters`, and for each of `waiters` one that waits
    /// for ends.
    pub fn start(
        mix: Mix,
        nodes: Nodes,
        submitters: Vec<Client>,
        waiters: Vec<Client>,
        seed: u64,
    ) -> Self {
        let shared = Arc::new(Shared {
            mix,
            nodes,
            acked: Mutex::default(),
            answers: Answers::default(),
            keys: AtomicU64::new(0),
            news: Notify::new(),
            stop: CancellationToken::new(),
        });
        let mut random = fastrand::Rng::with_seed(seed);
        let mut clients = JoinSet::new();
        for client in submitters {
            clients.spawn(submit_all(client, shared.clone(), random.fork()));
        }
        for client in waiters {
            clients.spawn(wait_for_ends(client, shared.clone(), random.fork()));
        }
        Self { shared, clients }
    }

    /// Returns how many jobs were acknowledged.
    pub fn acked_count(&self) -> usize {
        self.shared.acked().len()
    }

    /// Waits until another job is acknowledged.
    ///
    /// # Errors
    ///
    /// When it takes longer than `limit`.
    pub async fn another(&self, limit: Duration) -> anyhow::Result<()> {
        let before = self.acked_count();
        let acknowledged = async {
            loop {
                let news = self.shared.news.notified();
                if self.acked_count() > before {
                    return;
                }
                news.await;
            }
        };
        let in_time = tokio::time::timeout(limit, acknowledged).await;
        in_time.with_context(|| format!("nothing was acknowledged for {limit:?}"))
    }

    /// Returns how often each answer was given that acknowledged nothing.
    pub fn answers(&self) -> BTreeMap<String, u64> {
        self.shared.answers.counts()
    }

    /// Lets every submit that was begun come to its end, and returns what was acknowledged.
    ///
    /// # Errors
    ///
    /// When a client was given an answer that no node may give.
    pub async fn stop(mut self) -> anyhow::Result<Vec<Acked>> {
        self.shared.stop.cancel();
        while let Some(ended) = self.clients.join_next().await {
            ended.context("a client panicked")??;
        }
        let acked = std::mem::take(&mut *self.shared.acked());
        Ok(acked)
    }
}

impl Shared {
    fn acked(&self) -> std::sync::MutexGuard<'_, Vec<Acked>> {
        self.acked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn submit_all(
    client: Client,
    shared: Arc<Shared>,
    mut random: fastrand::Rng,
) -> anyhow::Result<()> {
    while !shared.stop.is_cancelled() {
        let count = if random.u32(0..4) == 0 {
            random.usize(2..=BULK_MAX)
        } else {
            1
        };
        let number = shared.keys.fetch_add(1, Ordering::Relaxed);
        let jobs: Vec<_> = (0..count)
            .map(|at| Keyed {
                ask: shared.mix.ask(&mut random),
                key: format!("{number}-{at}"),
            })
            .collect();
        let (nodes, answers) = (&shared.nodes, &shared.answers);
        let acked = submit_until_known(&client, nodes, &jobs, answers, &mut random).await?;
        shared.acked().extend(acked);
        shared.news.notify_waiters();
        pause(Duration::from_millis(random.u64(0..GAP_MS_MAX))).await;
    }
    Ok(())
}

/// Waits for the ends of jobs that were acknowledged just now, at whichever node.
async fn wait_for_ends(
    client: Client,
    shared: Arc<Shared>,
    mut random: fastrand::Rng,
) -> anyhow::Result<()> {
    while !shared.stop.is_cancelled() {
        let id = {
            let acked = shared.acked();
            let recent = acked.len().saturating_sub(30);
            (!acked.is_empty()).then(|| acked[random.usize(recent..acked.len())].id.clone())
        };
        if let Some(id) = id {
            let there = client.at(shared.nodes.draw(&mut random));
            let waited = there.job(&id, Some(Duration::from_secs(3)));
            tokio::select! {
                // A node in trouble gives no answer; a wrong one is for the checker to find.
                _answered = tokio::time::timeout(PATIENCE, waited) => {}
                () = shared.stop.cancelled() => {}
            }
        }
        pause(Duration::from_millis(random.u64(0..GAP_MS_MAX))).await;
    }
    Ok(())
}

/// Submits jobs, again and again, each time at any node, until they are acknowledged.
///
/// # Errors
///
/// When a node gives an answer that it may not give, or none for too long.
pub async fn submit_until_known(
    client: &Client,
    nodes: &Nodes,
    jobs: &[Keyed],
    answers: &Answers,
    random: &mut fastrand::Rng,
) -> anyhow::Result<Vec<Acked>> {
    for _ in 0..TRIES_MAX {
        let there = client.at(nodes.draw(random));
        let mut calls = Vec::new();
        for job in jobs {
            calls.push(there.note_asked(&job.ask, Some(&job.key))?);
        }
        let answer = tokio::time::timeout(PATIENCE, send(&there, jobs, random)).await;
        if let Ok(Ok(answer)) = answer {
            if matches!(answer.status, 200 | 202) {
                return acknowledged(&there, jobs, &calls, &answer);
            }
            check_trouble(&answer, jobs.len())?;
            answers.note(named(&answer));
        }
        for call in calls {
            there.note_answered(call, &crate::client::Submitted::Unknown(None))?;
        }
        pause(Duration::from_millis(random.u64(1..50))).await;
    }
    bail!("{} submits were tried {TRIES_MAX} times", jobs.len())
}

async fn send(
    there: &Client,
    jobs: &[Keyed],
    random: &mut fastrand::Rng,
) -> anyhow::Result<Answer> {
    if let [Keyed { ask, key }] = jobs {
        let path = format!("/v1/tasks/{}/jobs?{}", ask.task, ask.options);
        let mut headers = vec![("content-type", BYTES), ("idempotency-key", &**key)];
        if random.u32(0..5) == 0 {
            headers.push(("prefer", "wait=2"));
        }
        return there
            .call(Method::POST, &path, &headers, ask.body.clone())
            .await;
    }
    let envelope = |job: &Keyed| {
        json!({
            "task": job.ask.task, "input_base64": BASE64_STANDARD.encode(&job.ask.body),
            "content_type": BYTES, "idempotency_key": job.key,
        })
    };
    let envelopes: Vec<_> = jobs.iter().map(envelope).collect();
    let body = Bytes::from(json!(envelopes).to_string());
    let headers = [("content-type", "application/json")];
    there.call(Method::POST, "/v1/jobs", &headers, body).await
}

fn acknowledged(
    there: &Client,
    jobs: &[Keyed],
    calls: &[u64],
    answer: &Answer,
) -> anyhow::Result<Vec<Acked>> {
    #[derive(Deserialize)]
    struct Made {
        jobs: Vec<Id>,
    }
    #[derive(Deserialize)]
    struct Id {
        id: String,
    }
    let ids: Vec<String> = if jobs.len() == 1 {
        vec![answer.job()?.id]
    } else {
        let made: Made = serde_json::from_slice(&answer.body)?;
        made.jobs.into_iter().map(|job| job.id).collect()
    };
    ensure!(
        ids.len() == jobs.len(),
        "{} ids for {}",
        ids.len(),
        jobs.len()
    );
    let mut acked = Vec::new();
    for ((job, call), id) in jobs.iter().zip(calls).zip(ids) {
        there.note_answered(*call, &crate::client::Submitted::Acked(id.clone()))?;
        acked.push(Acked {
            id,
            expected: job.ask.expected.clone(),
            is_short: false,
        });
    }
    Ok(acked)
}

/// A node whose database is in trouble says so, and when to come again.
fn check_trouble(answer: &Answer, jobs: usize) -> anyhow::Result<()> {
    let problem = answer.problem();
    let is_allowed = answer.status == 503 && ["store-unavailable", "draining"].contains(&&*problem);
    ensure!(
        is_allowed && !answer.field("retry-after").is_empty(),
        "a submit of {jobs} is answered {} {problem}: {:.300}",
        answer.status,
        String::from_utf8_lossy(&answer.body)
    );
    Ok(())
}

fn named(answer: &Answer) -> String {
    let text = String::from_utf8_lossy(&answer.body);
    if text.contains(NOT_KNOWN) {
        return UNKNOWN.to_owned();
    }
    format!("{} {}", answer.status, answer.problem())
}
