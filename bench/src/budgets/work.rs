//! The work whose instructions are counted: the same each time, call after call.
//!
//! Each kind does what the one before it does and one step more, so that their difference is that
//! step alone: opening the store, and what happens only once, cancel out. Ids, contents and the
//! clock are fixed. A call waits for the one before it, which fixes how the writer batches.

use anteroom::clock::Clock;
use anteroom::core::{
    ClaimNumber, Event, JobId, Lease, Name, Payload, Priority, Spec, State, Status, Timestamp,
};
use anteroom::store::sqlite::SqliteStore;
use anteroom::store::{Change, Inserted, NewJob, Store, Want};
use anteroom::{Engine, Options, Task, TaskRunner};
use anteroom_server::http::{RouterOptions, router};
use anyhow::{Context, ensure};
use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// Jobs that a count is of.
pub(crate) const JOBS: u32 = 1_000;
/// Jobs of one call to the store: a commit.
const BATCH: u32 = 50;
/// What the clock shows, all the time.
const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// Bytes of an input and of a result, JSON.
const INPUT_BYTES: usize = 200;
const RESULT_BYTES: usize = 100;

/// What is done, step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Work {
    /// A store is opened, and one batch lives its whole life.
    Open,
    /// Then all jobs are inserted.
    Submit,
    /// And claimed.
    Claim,
    /// And end with a result.
    Settle,
    /// And are read with it, one after the other.
    Read,
    /// An engine is started on a store, and one request asked of it.
    Serve,
    /// Then all jobs are submitted, each by a request of its own.
    Request,
}

/// What is counted: a name, the work, and the work without it.
pub(crate) const STEPS: [(&str, Work, Work); 5] = [
    ("submit", Work::Submit, Work::Open),
    ("claim", Work::Claim, Work::Submit),
    ("settle", Work::Settle, Work::Claim),
    ("read", Work::Read, Work::Settle),
    ("request", Work::Request, Work::Serve),
];

impl Work {
    /// Does it, with a store in `folder`.
    ///
    /// # Errors
    ///
    /// When the store or the engine answers otherwise than it should.
    pub(crate) fn run(self, folder: &Path) -> anyhow::Result<()> {
        let (clock, _hand) = Clock::manual(NOW);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let store: Arc<dyn Store> =
                Arc::new(SqliteStore::open(folder.join("anteroom.db"), clock)?);
            if self < Self::Serve {
                live(&*store, 0..BATCH, Self::Read).await?;
                live(&*store, BATCH..BATCH + JOBS, self).await?;
            } else {
                let tasks = vec![Task::new("task", TaskRunner::Pull)?];
                let engine = Engine::start(store.clone(), tasks, Options::default()).await?;
                let routes = router(engine, &RouterOptions::default());
                let requests = if self == Self::Serve { 1 } else { 1 + JOBS };
                for _ in 0..requests {
                    request(&routes).await?;
                }
            }
            // Nothing of it ends before the process does.
            std::mem::forget(store);
            Ok(())
        })
    }
}

/// Has jobs live as far as `until`.
async fn live(store: &dyn Store, jobs: std::ops::Range<u32>, until: Work) -> anyhow::Result<()> {
    let batches = || jobs.clone().step_by(BATCH as usize);
    if until >= Work::Submit {
        for first in batches() {
            let jobs = (first..first + BATCH).map(new_job);
            let inserted = store.insert(jobs.collect::<Result<_, _>>()?).await?;
            let are_new = inserted.iter().all(|one| matches!(one, Inserted::New(_)));
            ensure!(are_new, "a job was there before");
        }
    }
    let mut claims = Vec::new();
    if until >= Work::Claim {
        for _ in batches() {
            claims.push(claim(store).await?);
        }
    }
    if until >= Work::Settle {
        for claimed in &claims {
            let changes = claimed.iter().map(|(id, claim)| Change {
                result: Some(json(RESULT_BYTES)),
                ..Change::new(*id, Event::Succeeded { claim: *claim })
            });
            let applied = store.apply(changes.collect()).await?;
            ensure!(applied.iter().all(Result::is_ok), "an end was refused");
        }
    }
    if until >= Work::Read {
        for (id, _claim) in claims.iter().flatten() {
            let found = store.result(*id).await?.here();
            let (job, result) = found.with_context(|| format!("job {id} got lost"))?;
            let bytes = result.map(|result| result.bytes.len());
            ensure!(job.status.state == State::Succeeded && bytes == Some(RESULT_BYTES));
        }
    }
    Ok(())
}

async fn claim(store: &dyn Store) -> anyhow::Result<Vec<(JobId, ClaimNumber)>> {
    let want = Want {
        tasks: vec![Name::new("task")?],
        queues: None,
        limit: BATCH as usize,
        lease: Lease::Node,
        lease_for: Duration::from_secs(30),
        wait: Duration::ZERO,
    };
    let claimed = store.claim(want).await?;
    ensure!(claimed.len() == BATCH as usize, "{} jobs", claimed.len());
    let held = claimed.iter();
    Ok(held
        .map(|held| (held.job.spec.id, held.job.status.claim))
        .collect())
}

fn new_job(number: u32) -> anyhow::Result<NewJob> {
    let input = json(INPUT_BYTES);
    let millis = NOW.as_millis().unsigned_abs() + u64::from(number / 4_096);
    let counter = u16::try_from(number % 4_096)?;
    let random = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Ok(NewJob {
        spec: Arc::new(Spec {
            id: JobId::from_parts(millis, counter, random),
            task: Name::new("task")?,
            queue: Name::new("queue")?,
            group: None,
            priority: Priority::default(),
            created_at: NOW,
            timeout: Duration::from_mins(5),
            retain: Duration::from_hours(24),
            unique_key: None,
            callback_url: None,
            tags: BTreeMap::new(),
            input: input.info(),
        }),
        status: Status::submitted(NOW, None, 5),
        input,
        idempotency: None,
    })
}

fn json(bytes: usize) -> Payload {
    Payload {
        content_type: "application/json".into(),
        bytes: text(bytes).into(),
    }
}

/// Returns a JSON text of this many bytes.
fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

async fn request(routes: &Router) -> anyhow::Result<()> {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/tasks/task/jobs")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Body::from(text(INPUT_BYTES)))?;
    let answer = routes.clone().oneshot(request).await?;
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    ensure!(status == StatusCode::ACCEPTED, "{status}: {body:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum;

    #[test]
    fn every_step_can_be_done() {
        for work in Work::value_variants() {
            let folder = tempfile::tempdir().unwrap();
            work.run(folder.path()).unwrap();
        }
    }

    #[test]
    fn each_step_is_one_more_than_that_without_it() {
        for (name, work, without) in STEPS {
            assert!(without < work, "{name}");
        }
    }
}
