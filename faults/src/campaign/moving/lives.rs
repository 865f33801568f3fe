//! Jobs with all that jobs may have, submitted to several servers and run through them, and what has
//! to hold of them afterwards.

use crate::pause;
use crate::server::Server;
use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client as Http;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Lines of a stream.
const LINES: usize = 2_000;
/// Jobs that are leased at once.
const LEASED: usize = 1_000;
/// Of so many jobs one is looked at again after the move.
const LOOKED_AT_EACH: usize = 500;
/// Jobs that are programs: as many as do not take long.
const PROGRAMS: usize = 100;
/// How long an answer may take.
const ANSWER_MAX: Duration = Duration::from_mins(2);
/// How long nothing may be left to lease before that is taken for all.
const IDLE_MAX: Duration = Duration::from_secs(30);

/// A server, as its clients see it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    address: String,
    http: Http<HttpConnector, Full<Bytes>>,
}

impl Node {
    pub(super) fn of(server: &Server) -> Self {
        Self {
            address: server.address().to_owned(),
            http: Http::builder(TokioExecutor::new()).build_http(),
        }
    }

    /// Asks for something, and returns its status and body.
    async fn ask(&self, method: Method, path: &str, body: Body) -> anyhow::Result<(u16, Bytes)> {
        let (content_type, bytes) = body;
        let mut request = Request::builder()
            .method(&method)
            .uri(format!("{}{path}", self.address));
        if let Some(content_type) = content_type {
            request = request.header("content-type", content_type);
        }
        let request = request.body(Full::new(bytes))?;
        let answer = async {
            let (head, body) = self.http.request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok((head.status.as_u16(), body))
        };
        let answer = tokio::time::timeout(ANSWER_MAX, answer).await;
        answer.with_context(|| format!("{method} {path} took longer than {ANSWER_MAX:?}"))?
    }

    /// Asks for something that has to go well, and returns the JSON of the answer; null for none.
    async fn asked(&self, method: Method, path: &str, body: Value) -> anyhow::Result<Value> {
        let body = match body {
            Value::Null => (None, Bytes::new()),
            body => (Some("application/json"), serde_json::to_vec(&body)?.into()),
        };
        let (status, answer) = self.ask(method, path, body).await?;
        if !(200..300).contains(&status) {
            let said = String::from_utf8_lossy(&answer);
            bail!("{path} is answered {status}: {said:.300}");
        }
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        Ok(serde_json::from_slice(&answer)?)
    }

    async fn job(&self, id: &str) -> anyhow::Result<Value> {
        self.asked(Method::GET, &format!("/v1/jobs/{id}"), Value::Null)
            .await
    }
}

type Body = (Option<&'static str>, Bytes);

/// What became of some jobs.
#[derive(Debug)]
pub(super) struct Lives {
    /// Jobs as a server showed them last.
    shown: Vec<Value>,
    /// An envelope with an idempotency key, and the id of its job.
    keyed: (String, String),
    /// The tokens of leases that are held.
    held: Vec<String>,
    figures: String,
}

impl Lives {
    /// Has servers take jobs, and runs most of them.
    pub(super) async fn lead(nodes: &[Node], jobs: usize) -> anyhow::Result<Self> {
        let began_at = Instant::now();
        let ids = submit(nodes, jobs).await?;
        let submitted = began_at.elapsed().as_secs_f64();
        let first = nodes.first().context("there is no server")?;
        let cancelled = first.asked(
            Method::POST,
            "/v1/jobs/cancel?tag.kind=cancelled",
            Value::Null,
        );
        let cancelled = cancelled.await?["changed"].clone();
        first
            .asked(
                Method::DELETE,
                "/v1/jobs?tag.kind=cancelled&tag.more=deleted",
                Value::Null,
            )
            .await?;
        let paused = json!({"paused": true, "rate_limit": {"limit": 9, "period": "1s"}});
        first
            .asked(Method::PATCH, "/v1/queues/paused", paused)
            .await?;
        let began_at = Instant::now();
        // Some stay ready.
        let settled = work(nodes, jobs * 7 / 10).await?;
        let ran = began_at.elapsed().as_secs_f64();
        let held = lease(first, 10).await?;
        ensure!(!held.is_empty(), "nothing is left to be leased");
        wait_for_programs(first).await?;
        let mut shown = Vec::new();
        for (at, id) in ids.iter().enumerate().step_by(LOOKED_AT_EACH) {
            let node = &nodes[at % nodes.len()];
            let (status, body) = node
                .ask(Method::GET, &format!("/v1/jobs/{id}"), (None, Bytes::new()))
                .await?;
            // What was deleted is gone.
            if status == 200 {
                shown.push(serde_json::from_slice(&body)?);
            }
        }
        let keyed = (envelope(KEYED), ids[KEYED].clone());
        let figures = format!(
            "{} jobs submitted in {submitted:.1} s ({:.0}/s), {settled} leased and settled in \
             {ran:.1} s ({:.0}/s), {cancelled} cancelled",
            ids.len(),
            per_second(ids.len(), submitted),
            per_second(settled, ran),
        );
        Ok(Self {
            shown,
            keyed,
            held,
            figures,
        })
    }

    pub(super) fn figures(&self) -> &str {
        &self.figures
    }

    /// Checks that a server goes on where the others stopped, and runs what is left.
    pub(super) async fn go_on(&self, node: &Node) -> anyhow::Result<()> {
        for before in &self.shown {
            let id = before["id"].as_str().unwrap_or_default();
            let now = node.job(id).await?;
            let mut before = before.clone();
            // One that is tried again may have come due meanwhile.
            if now["state"] == "ready" && before["state"] == "scheduled" {
                before["state"] = "ready".into();
            }
            ensure!(now == before, "{id} is {now}, and was {before}");
        }
        let (envelope, id) = &self.keyed;
        let body = (
            Some("application/json"),
            Bytes::from(envelope.clone().into_bytes()),
        );
        let (status, answer) = node.ask(Method::POST, "/v1/jobs", body).await?;
        let answer: Value = serde_json::from_slice(&answer)?;
        ensure!(
            status == 202 && answer["jobs"][0]["id"] == **id,
            "the same key gives {answer}, and gave {id}"
        );
        settle(node, &self.held).await.context("leases of before")?;
        let paused = node
            .asked(Method::GET, "/v1/queues/paused", Value::Null)
            .await?;
        ensure!(paused["paused"] == true, "the queue is not paused");
        let left = work(std::slice::from_ref(node), usize::MAX).await?;
        ensure!(left > 0, "nothing was left to run");
        Ok(())
    }
}

/// The first job with an idempotency key that is left alone afterwards.
const KEYED: usize = 5;

/// Returns the envelope of the job with this number.
fn envelope(number: usize) -> String {
    let task = if number % 200 == 10 && number / 200 < PROGRAMS {
        "echo"
    } else {
        "pulled"
    };
    let mut job = json!({
        "task": task,
        "input": {"number": number, "text": "\u{e4} \"quoted\""},
        "priority": number % 10,
    });
    let mut set = |member: &str, value: Value| {
        job[member] = value;
    };
    match number % 20 {
        1 => set("delay", "10h".into()),
        2 => set("tags", json!({"kind": "cancelled"})),
        4 => set("group", format!("group {}", number % 100).into()),
        // Of the number, so that a second submit of the same says the same.
        5 => set("idempotency_key", format!("key {number}").into()),
        6 => set("unique_key", format!("unique {number}").into()),
        7 => set("queue", "other".into()),
        8 => set("queue", "paused".into()),
        9 => set("start_before", long_ahead().into()),
        _ => {}
    }
    if number % 200 == 2 {
        job["tags"] = json!({"kind": "cancelled", "more": "deleted"});
    }
    job.to_string()
}

/// Returns an instant by which all has long been run.
fn long_ahead() -> String {
    let instant = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * 300);
    instant.to_string()
}

/// Submits jobs as streams, to each server a part, and returns their ids.
async fn submit(nodes: &[Node], jobs: usize) -> anyhow::Result<Vec<String>> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    for node in nodes {
        let (node, next) = (node.clone(), next.clone());
        senders.spawn(async move {
            let mut ids = Vec::new();
            loop {
                let from = next.fetch_add(LINES, Ordering::Relaxed);
                if from >= jobs {
                    return anyhow::Ok(ids);
                }
                ids.push((from, stream(&node, from..(from + LINES).min(jobs)).await?));
            }
        });
    }
    let mut parts = Vec::new();
    while let Some(sent) = senders.join_next().await {
        parts.extend(sent??);
    }
    parts.sort_unstable();
    Ok(parts.into_iter().flat_map(|(_, ids)| ids).collect())
}

/// Submits a stream, every line of which has to be taken.
async fn stream(node: &Node, numbers: std::ops::Range<usize>) -> anyhow::Result<Vec<String>> {
    let mut lines = String::new();
    for number in numbers.clone() {
        writeln!(lines, "{}", envelope(number))?;
    }
    let body = (Some("application/x-ndjson"), Bytes::from(lines));
    let (status, answer) = node.ask(Method::POST, "/v1/jobs", body).await?;
    ensure!(status == 200, "a stream is answered {status}");
    let mut ids = Vec::with_capacity(numbers.len());
    for line in answer.split(|byte| *byte == b'\n') {
        if line.is_empty() {
            continue;
        }
        let said: Value = serde_json::from_slice(line)?;
        let id = said["id"]
            .as_str()
            .with_context(|| format!("a line is refused: {said}"))?;
        ids.push(id.to_owned());
    }
    ensure!(
        ids.len() == numbers.len(),
        "{} lines are answered",
        ids.len()
    );
    Ok(ids)
}

/// Works for some servers until so many jobs are settled, or none is left, and returns how many
/// were.
async fn work(nodes: &[Node], most: usize) -> anyhow::Result<usize> {
    let settled = Arc::new(AtomicUsize::new(0));
    let mut workers = JoinSet::new();
    for node in nodes.iter().chain(nodes) {
        let (node, settled) = (node.clone(), settled.clone());
        workers.spawn(async move {
            let mut last_at = Instant::now();
            while settled.load(Ordering::Relaxed) < most && last_at.elapsed() < IDLE_MAX {
                let leases = lease(&node, LEASED).await?;
                if leases.is_empty() {
                    // Failed ones come back by and by.
                    pause(Duration::from_millis(200)).await;
                    continue;
                }
                settle(&node, &leases).await?;
                settled.fetch_add(leases.len(), Ordering::Relaxed);
                last_at = Instant::now();
            }
            anyhow::Ok(())
        });
    }
    while let Some(worked) = workers.join_next().await {
        worked??;
    }
    Ok(settled.load(Ordering::Relaxed))
}

/// Leases jobs, and returns the tokens.
async fn lease(node: &Node, most: usize) -> anyhow::Result<Vec<String>> {
    let wanted = json!({"max": most, "lease": "1h", "tasks": ["pulled"]});
    let answer = node.asked(Method::POST, "/v1/leases", wanted).await?;
    let leases = answer["leases"].as_array().into_iter().flatten();
    let tokens = leases.map(|lease| lease["lease"].as_str().map(str::to_owned));
    tokens
        .collect::<Option<_>>()
        .context("a lease without a token")
}

/// Settles leases: most are completed, some fail, and some say something first.
async fn settle(node: &Node, leases: &[String]) -> anyhow::Result<()> {
    let mut all = Vec::with_capacity(leases.len());
    for (at, lease) in leases.iter().enumerate() {
        if at % 50 == 1 {
            let progress = json!({"fraction": 0.5, "message": "half of it"});
            all.push(
                json!({"lease": lease, "action": "extend", "progress": progress,
                "log": ["a line", "another"]}),
            );
        }
        all.push(match at % 50 {
            2 => json!({"lease": lease, "action": "fail", "error": "it broke", "retry": false}),
            3 => json!({"lease": lease, "action": "fail", "error": "it broke once"}),
            4 => json!({"lease": lease, "action": "release"}),
            _ => json!({"lease": lease, "action": "complete", "result": {"at": at}}),
        });
    }
    for some in all.chunks(LEASED) {
        let body = Value::Array(some.to_vec());
        let answer = node.asked(Method::POST, "/v1/leases/settle", body).await?;
        let results = answer["results"].as_array();
        let results = results.context("no results are told")?;
        let refused = results.iter().find(|result| result["status"] != 200);
        ensure!(refused.is_none(), "a settle is refused: {refused:?}");
    }
    Ok(())
}

/// Waits until all programs have run.
async fn wait_for_programs(node: &Node) -> anyhow::Result<()> {
    let began_at = Instant::now();
    loop {
        let task = node
            .asked(Method::GET, "/v1/tasks/echo", Value::Null)
            .await?;
        let counts = &task["counts"];
        if counts["ready"] == 0 && counts["running"] == 0 {
            return Ok(());
        }
        ensure!(
            began_at.elapsed() < ANSWER_MAX,
            "programs do not end: {counts}"
        );
        pause(Duration::from_millis(200)).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn per_second(count: usize, seconds: f64) -> f64 {
    count as f64 / seconds.max(0.001)
}
