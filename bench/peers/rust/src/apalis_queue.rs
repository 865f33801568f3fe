//! apalis, whichever database it is on: how orders are followed. [`crate::sqlite`] and
//! [`crate::postgres`] say how jobs are pushed, run and counted there.

use crate::follow::Follow;
use crate::latency::Times;
use crate::order::{Done, Order, SUBMITTERS};
use anyhow::{bail, ensure};
use apalis::prelude::*;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::JoinSet;

/// Jobs that a worker fetches at once, and those that it runs at once.
pub(crate) const FETCHED_MAX: usize = 500;
pub(crate) const CONCURRENCY: usize = 64;
/// Between two looks of a worker.
pub(crate) const POLL: Duration = Duration::from_millis(10);
/// The name of the queue.
pub(crate) const QUEUE: &str = "noop";
/// Between two looks at how many are recorded as done.
const LOOK: Duration = Duration::from_millis(5);

/// What a job is given.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Input(pub(crate) String);

/// What it returns.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Output {
    ok: bool,
    note: String,
}

/// How many have run, and who waits for one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Runs {
    count: Arc<AtomicU64>,
    more: Arc<Notify>,
}

/// Is the task.
pub(crate) async fn noop(_input: Input, runs: Data<Runs>) -> Result<Output, BoxDynError> {
    runs.count.fetch_add(1, Ordering::Relaxed);
    runs.more.notify_one();
    Ok(Output {
        ok: true,
        note: crate::NOTE.to_owned(),
    })
}

/// What is another on each database.
pub(crate) trait Backend: Clone + Send + 'static {
    /// Pushes jobs in one call: `push` for one, `push_bulk` for more.
    fn push(&mut self, jobs: usize) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Returns how many jobs there are that are recorded as done, and that are not.
    async fn count(&self) -> anyhow::Result<(u64, u64)>;

    /// Removes those that are done.
    async fn vacuum(&self) -> anyhow::Result<()>;
}

/// A client and a worker in one process.
#[derive(Debug)]
pub(crate) struct Apalis<B> {
    backend: B,
    runs: Runs,
    version: &'static str,
    /// Jobs that have to be recorded as done.
    expected: u64,
}

impl<B: Backend> Apalis<B> {
    /// What a started worker counts its runs in is given.
    pub(crate) fn new(backend: B, runs: Runs, version: &'static str) -> Self {
        Self {
            backend,
            runs,
            version,
            expected: 0,
        }
    }

    async fn live(&self, jobs: u64, batch: u64, submitters: usize) -> anyhow::Result<Done> {
        let left = Arc::new(AtomicU64::new(jobs));
        let mut running = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..submitters {
            let (left, mut backend) = (left.clone(), self.backend.clone());
            running.spawn(async move {
                loop {
                    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                        Some(left.saturating_sub(batch))
                    });
                    let count = taken.unwrap_or_default().min(batch);
                    if count == 0 {
                        return anyhow::Ok(());
                    }
                    backend.push(usize::try_from(count)?).await?;
                }
            });
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        while self.runs.count.load(Ordering::Relaxed) < jobs {
            tokio::time::sleep(LOOK).await;
        }
        while self.backend.count().await?.1 > 0 {
            tokio::time::sleep(LOOK).await;
        }
        Ok(Done::new(jobs, begun.elapsed()))
    }

    async fn time(&mut self, jobs: u64) -> anyhow::Result<Done> {
        let mut times = Times::default();
        let begun = Instant::now();
        for job in 1..=jobs {
            let begun = Instant::now();
            self.backend.push(1).await?;
            let submit = begun.elapsed();
            while self.runs.count.load(Ordering::Relaxed) < job {
                self.runs.more.notified().await;
            }
            times.add(submit, begun.elapsed());
        }
        let done = times.done(begun.elapsed());
        while self.backend.count().await?.1 > 0 {
            tokio::time::sleep(LOOK).await;
        }
        Ok(done)
    }
}

impl<B: Backend> Follow for Apalis<B> {
    fn version(&self) -> String {
        self.version.to_owned()
    }

    async fn follow(&mut self, order: Order) -> anyhow::Result<Done> {
        self.backend.vacuum().await?;
        self.runs.count.store(0, Ordering::Relaxed);
        let done = match order {
            Order::Each { jobs, connections } => {
                self.live(jobs, 1, usize::try_from(connections)?).await?
            }
            Order::Life { jobs, batch, .. } => self.live(jobs, batch, SUBMITTERS).await?,
            Order::Latency { jobs } => self.time(jobs).await?,
            _ => bail!("{order} is not measured side by side"),
        };
        self.expected = done.jobs;
        Ok(done)
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        let (done, left) = self.backend.count().await?;
        ensure!(
            done == self.expected && left == 0,
            "{done} jobs are done, not {}, and {left} are left",
            self.expected
        );
        Ok(())
    }
}
