//! The full life of jobs in bulk, inside this process: batches are submitted while a no-op
//! function runs, until every job has its durable result.

use crate::clock::now;
use crate::cpu::{Usage, Used};
use crate::disk::Beside;
use crate::server::{self, Kind, NOOP, RESULT};
use anteroom::core::{JobId, State};
use anteroom::{Engine, Submission};
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

/// How long a life may take in all.
const LIFE_MAX: Duration = Duration::from_mins(5);
/// Between two looks at whether all is done.
const LOOK: Duration = Duration::from_millis(1);
/// Of each so many jobs the result of one is read again at the end.
const CHECKED_ONE_IN: usize = 997;

/// How many jobs, and how they are handed in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Life {
    /// The store under test.
    pub(crate) store: Kind,
    /// Jobs in all.
    pub(crate) jobs: usize,
    /// Jobs of one submit.
    pub(crate) batch: usize,
    /// Submits at once.
    pub(crate) submitters: usize,
    /// No-ops at once.
    pub(crate) concurrency: usize,
    /// Bytes of an input.
    pub(crate) input_bytes: usize,
}

/// What a life came to.
#[derive(Debug)]
pub(crate) struct Lived {
    /// From the first submit until all are done.
    pub(crate) span: Duration,
    /// CPU time: submits, store, dispatch and functions are one process here.
    pub(crate) used: Used,
    /// Times of appends to the disk meanwhile, in microseconds.
    pub(crate) disk: Histogram<u64>,
    /// Some of the jobs, whose results were read again.
    pub(crate) checked: Vec<JobId>,
}

impl Life {
    /// Lives it, with a store in `folder`.
    ///
    /// # Errors
    ///
    /// When a job gets lost, has another result than it should, or does not end in time.
    pub(crate) fn run(self, folder: &Path) -> anyhow::Result<Lived> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let (engine, runs) = server::start(self.store, folder, self.concurrency).await?;
            let lived = tokio::time::timeout(LIFE_MAX, self.live(&engine, &runs, folder)).await;
            engine.shutdown(Duration::ZERO).await;
            lived.with_context(|| format!("{} jobs took more than {LIFE_MAX:?}", self.jobs))?
        })
    }

    /// Lives it on an engine that was started just now, with the count of its no-ops.
    ///
    /// # Errors
    ///
    /// When a job gets lost, or has another result than it should.
    pub(crate) async fn live(
        self,
        engine: &Engine,
        runs: &AtomicU64,
        folder: &Path,
    ) -> anyhow::Result<Lived> {
        let pid = std::process::id();
        let beside = Beside::start(folder)?;
        let before = Usage::read(pid)?;
        let begun = now();
        let jobs = u64::try_from(self.jobs)?;
        let left = Arc::new(AtomicU64::new(jobs));
        let batch = u64::try_from(self.batch)?;
        let checked = submit(engine, &left, batch, self.submitters, self.input_bytes).await?;
        while runs.load(Ordering::Relaxed) < jobs || server::unfinished_of(engine, NOOP).await? > 0
        {
            engine.clock().sleep(LOOK).await;
        }
        let span = begun.elapsed();
        let used = Usage::read(pid)?.since(before, false);
        let disk = beside.finish()?;
        for id in &checked {
            check(engine, *id).await?;
        }
        Ok(Lived {
            span,
            used,
            disk,
            checked,
        })
    }
}

/// Submits no-ops in batches until none is left, so many batches at once, and returns the ids of some.
///
/// # Errors
///
/// When the engine refuses.
pub(crate) async fn submit(
    engine: &Engine,
    left: &Arc<AtomicU64>,
    batch: u64,
    submitters: usize,
    input_bytes: usize,
) -> anyhow::Result<Vec<JobId>> {
    let submission = Submission::new(server::noop()?, server::input(input_bytes));
    let mut running = JoinSet::new();
    for _ in 0..submitters {
        let (engine, left, submission) = (engine.clone(), left.clone(), submission.clone());
        running.spawn(async move {
            let mut checked = Vec::new();
            loop {
                let count = take(&left, batch)?;
                if count == 0 {
                    return anyhow::Ok(checked);
                }
                let jobs = engine.submit_all(vec![submission.clone(); count]).await?;
                ensure!(jobs.len() == count, "{} jobs of {count}", jobs.len());
                checked.extend(
                    jobs.iter()
                        .step_by(CHECKED_ONE_IN)
                        .map(|one| one.job.spec.id),
                );
            }
        });
    }
    let mut checked = Vec::new();
    while let Some(ended) = running.join_next().await {
        checked.extend(ended??);
    }
    Ok(checked)
}

/// Takes up to so many of those that are left.
pub(crate) fn take(left: &AtomicU64, batch: u64) -> anyhow::Result<usize> {
    let before = left
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
            Some(left.saturating_sub(batch))
        })
        .unwrap_or_default();
    Ok(usize::try_from(before.min(batch))?)
}

/// Looks whether a job has the result that it should.
///
/// # Errors
///
/// When it has not.
pub(crate) async fn check(engine: &Engine, id: JobId) -> anyhow::Result<()> {
    let found = engine.store().result(id).await?.here();
    let (job, result) = found.with_context(|| format!("job {id} got lost"))?;
    let right = result.is_some_and(|result| result.bytes == RESULT);
    ensure!(
        right && job.status.state == State::Succeeded,
        "job {id} is {:?}, its result right: {right}",
        job.status.state
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_gets_its_result() {
        let folder = tempfile::tempdir().unwrap();
        for store in [Kind::Memory, Kind::Sqlite] {
            let life = Life {
                store,
                jobs: 2_345,
                batch: 100,
                submitters: 2,
                concurrency: 64,
                input_bytes: 200,
            };
            let lived = life.run(folder.path()).unwrap();
            assert!(lived.span < LIFE_MAX, "{store:?}: {:?}", lived.span);
        }
    }
}
