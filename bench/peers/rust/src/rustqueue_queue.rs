//! rustqueue as a library: its queue manager on a file of redb, and loops that pull and acknowledge.

use crate::follow::Follow;
use crate::latency::Times;
use crate::order::{Done, Order};
use anyhow::{anyhow, bail, ensure};
use rustqueue::QueueManager;
use rustqueue::engine::queue::{BatchAckItem, BatchPushItem};
use rustqueue::storage::{BufferedRedbConfig, BufferedRedbStorage, RedbStorage};
use serde_json::{Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// The queue.
const QUEUE: &str = "bench";
/// Producers, and as many loops that pull, in bulk.
const PAIRS: u64 = 4;
/// How long a loop that found nothing waits.
const PAUSE: Duration = Duration::from_millis(1);

/// A client and its workers in one process.
pub(crate) struct RustQueue {
    manager: Arc<QueueManager>,
    acknowledged: u64,
}

impl RustQueue {
    /// Opens a file in a folder.
    pub(crate) fn start(folder: &str) -> anyhow::Result<Self> {
        let storage = RedbStorage::new(Path::new(folder).join("rustqueue.redb"))?;
        // Gathers single writes for up to 10 ms; each waits until they are committed.
        let gathering = BufferedRedbStorage::new(Arc::new(storage), BufferedRedbConfig::default());
        Ok(Self {
            manager: Arc::new(QueueManager::new(Arc::new(gathering))),
            acknowledged: 0,
        })
    }

    async fn live(&self, jobs: u64, pairs: u64, batch: u64) -> anyhow::Result<Done> {
        let (left, undone) = (
            Arc::new(AtomicU64::new(jobs)),
            Arc::new(AtomicU64::new(jobs)),
        );
        let mut running = JoinSet::new();
        let begun = Instant::now();
        for _ in 0..pairs {
            running.spawn(produce(self.manager.clone(), left.clone(), batch));
            running.spawn(consume(self.manager.clone(), undone.clone(), batch));
        }
        while let Some(ended) = running.join_next().await {
            ended??;
        }
        Ok(Done::new(jobs, begun.elapsed()))
    }

    async fn time(&self, jobs: u64) -> anyhow::Result<Done> {
        let mut times = Times::default();
        let begun = Instant::now();
        for _ in 0..jobs {
            let begun = Instant::now();
            push(&self.manager, 1).await?;
            let submit = begun.elapsed();
            let done = pull(&self.manager, 1).await?;
            ensure!(done == 1, "a job that was pushed is not there");
            times.add(submit, begun.elapsed());
        }
        Ok(times.done(begun.elapsed()))
    }
}

async fn produce(
    manager: Arc<QueueManager>,
    left: Arc<AtomicU64>,
    batch: u64,
) -> anyhow::Result<()> {
    loop {
        let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(batch))
        });
        let count = taken.unwrap_or_default().min(batch);
        if count == 0 {
            return Ok(());
        }
        push(&manager, count).await?;
    }
}

async fn consume(
    manager: Arc<QueueManager>,
    undone: Arc<AtomicU64>,
    batch: u64,
) -> anyhow::Result<()> {
    while undone.load(Ordering::Relaxed) > 0 {
        let done = pull(&manager, u32::try_from(batch)?).await?;
        undone.fetch_sub(done, Ordering::Relaxed);
        if done == 0 {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

async fn push(manager: &QueueManager, count: u64) -> anyhow::Result<()> {
    let input = || Value::String(crate::input());
    if count == 1 {
        let pushed = manager.push(QUEUE, "noop", input(), None).await;
        pushed.map_err(|error| anyhow!("{error}"))?;
        return Ok(());
    }
    let items = (0..count).map(|_| BatchPushItem {
        name: "noop".into(),
        data: input(),
        options: None,
    });
    let pushed = manager.push_batch(QUEUE, items.collect()).await;
    pushed.map_err(|error| anyhow!("{error}"))?;
    Ok(())
}

/// Pulls up to so many, and acknowledges them with their results.
async fn pull(manager: &QueueManager, most: u32) -> anyhow::Result<u64> {
    let result = || Some(json!({ "ok": true, "note": crate::NOTE }));
    let pulled = manager.pull(QUEUE, most).await;
    let jobs = pulled.map_err(|error| anyhow!("{error}"))?;
    match &jobs[..] {
        [] => {}
        [only] => {
            let acknowledged = manager.ack(only.id, result()).await;
            acknowledged.map_err(|error| anyhow!("{error}"))?;
        }
        many => {
            let items = many.iter().map(|job| BatchAckItem {
                id: job.id,
                result: result(),
            });
            let acknowledged = manager.ack_batch(items.collect()).await;
            acknowledged.map_err(|error| anyhow!("{error}"))?;
        }
    }
    Ok(jobs.len() as u64)
}

impl Follow for RustQueue {
    fn version(&self) -> String {
        "0.3.0".to_owned()
    }

    async fn follow(&mut self, order: Order) -> anyhow::Result<Done> {
        let done = match order {
            Order::Each { jobs, connections } => self.live(jobs, connections / 2, 1).await?,
            Order::Life { jobs, batch, .. } => self.live(jobs, PAIRS, batch).await?,
            Order::Latency { jobs } => self.time(jobs).await?,
            _ => bail!("{order} is not measured side by side"),
        };
        self.acknowledged += done.jobs;
        Ok(done)
    }

    async fn check(&mut self) -> anyhow::Result<()> {
        let counts = self.manager.get_queue_stats(QUEUE).await;
        let counts = counts.map_err(|error| anyhow!("{error}"))?;
        ensure!(
            counts.completed == self.acknowledged && counts.waiting == 0 && counts.active == 0,
            "{} jobs are done, not {}",
            counts.completed,
            self.acknowledged
        );
        Ok(())
    }
}
