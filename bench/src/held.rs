//! An engine in this process whose jobs wait until they are let go: what waits is there before the
//! first claim.

use crate::clock::{micros, now};
use crate::disk;
use crate::server::input;
use anteroom::clock::Clock;
use anteroom::core::{JobId, Label, Name, Timestamp};
use anteroom::run::{Attempt, Outcome, function};
use anteroom::store::PlaceOf;
use anteroom::store::sqlite::SqliteStore;
use anteroom::{Engine, Options, Submission, Task, TaskRunner};
use anyhow::{Context, ensure};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Jobs of one submit.
const BATCH: usize = 5_000;
/// Bytes of an input.
const INPUT_BYTES: usize = 200;
/// Between two looks at how many have run.
const LOOK: Duration = Duration::from_millis(1);
/// How long what has started may take to end.
const SETTLE_MAX: Duration = Duration::from_secs(30);

/// A start of a job.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Start {
    /// The number of its claim: the order of all starts.
    pub(crate) claim: u64,
    /// When.
    pub(crate) at: Timestamp,
    /// Whose turn it was.
    pub(crate) group: Option<Label>,
}

/// The engine, and what has started.
#[derive(Debug)]
pub(crate) struct Held {
    engine: Engine,
    task: Name,
    queue: Name,
    count: Arc<AtomicUsize>,
    starts: Arc<Mutex<Vec<Start>>>,
}

impl Held {
    /// Starts an engine on a database in `folder` with a no-op named `task` in so many slots. It writes
    /// its starts down if it is `told` to.
    pub(crate) async fn start(
        folder: &Path,
        task: &str,
        slots: usize,
        told: bool,
    ) -> anyhow::Result<Self> {
        let store = SqliteStore::open(folder.join("anteroom.db"), Clock::system())?;
        let count = Arc::new(AtomicUsize::new(0));
        let starts = Arc::new(Mutex::new(Vec::new()));
        let (counted, noted) = (count.clone(), starts.clone());
        let noop = function::bytes(move |attempt| {
            if told {
                let mut starts = noted.lock().unwrap_or_else(PoisonError::into_inner);
                starts.push(start_of(&attempt));
            }
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Outcome::Succeeded(attempt.input))
        });
        let task = Task {
            concurrency: slots,
            ..Task::new(task, TaskRunner::Here(noop))?
        };
        let name = task.name.clone();
        let options = Options {
            hold: true,
            ..Options::default()
        };
        Ok(Self {
            engine: Engine::start(Arc::new(store), vec![task], options).await?,
            task: name,
            queue: Name::new("default")?,
            count,
            starts,
        })
    }

    /// Submits so many jobs, and returns the ids of the first, the middle and the last; `group` says
    /// whose the job of each number is.
    pub(crate) async fn submit(
        &self,
        jobs: usize,
        group: impl Fn(usize) -> Option<String>,
    ) -> anyhow::Result<Vec<JobId>> {
        let submission = Submission::new(self.task.clone(), input(INPUT_BYTES));
        let told = [0, jobs / 2, jobs.saturating_sub(1)];
        let mut ids = Vec::new();
        let mut submitted = 0;
        while submitted < jobs {
            let some = submitted..jobs.min(submitted + BATCH);
            let batch = some.clone().map(|number| {
                let group = group(number).map(|group| Label::new(&group));
                anyhow::Ok(Submission {
                    group: group.transpose()?,
                    ..submission.clone()
                })
            });
            let batch = batch.collect::<anyhow::Result<Vec<_>>>()?;
            let jobs = self.engine.submit_all(batch).await?;
            ensure!(jobs.len() == some.len(), "{} jobs of {some:?}", jobs.len());
            let within = told.iter().filter(|number| some.contains(number));
            ids.extend(within.map(|number| jobs[number - submitted].job.spec.id));
            submitted = some.end;
        }
        ensure!(self.started() == 0, "a job started although all are held");
        Ok(ids)
    }

    /// Lets jobs start.
    pub(crate) async fn release(&self) -> anyhow::Result<()> {
        self.engine.resume(&self.queue).await?;
        Ok(())
    }

    /// Lets no more start, waits until what has started has ended, and returns how many are left.
    pub(crate) async fn settle(&self) -> anyhow::Result<u64> {
        self.engine.pause(&self.queue).await?;
        let settled = async {
            loop {
                let counts = self.engine.store().counts().await?;
                if counts.iter().all(|count| count.running == 0) {
                    return Ok(counts
                        .iter()
                        .map(|count| count.scheduled + count.ready)
                        .sum());
                }
                self.engine.clock().sleep(LOOK).await;
            }
        };
        let settled = tokio::time::timeout(SETTLE_MAX, settled).await;
        settled.with_context(|| format!("jobs were still running after {SETTLE_MAX:?}"))?
    }

    /// Waits until `is_enough` of what has started, which takes no longer than `limit`.
    pub(crate) async fn until(
        &self,
        limit: Duration,
        is_enough: impl Fn(&Self) -> bool,
    ) -> anyhow::Result<()> {
        let clock = self.engine.clock();
        let all = async {
            while !is_enough(self) {
                clock.sleep(LOOK).await;
            }
        };
        let waited = tokio::time::timeout(limit, all).await;
        waited.with_context(|| format!("{} jobs started in {limit:?}", self.started()))
    }

    /// Tells the place of a job so many times, and returns the microseconds that it took, the median.
    pub(crate) async fn place_us(&self, id: JobId, times: usize) -> anyhow::Result<u64> {
        let mut took = disk::histogram();
        for _ in 0..times {
            let begun = now();
            let place = self.engine.store().place(PlaceOf::Job(id)).await?;
            took.record(micros(begun.elapsed()))?;
            place.with_context(|| format!("job {id} does not wait"))?;
        }
        Ok(took.value_at_quantile(0.5))
    }

    /// Returns how many have started.
    pub(crate) fn started(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Looks at the starts, in no order.
    pub(crate) fn with_starts<T>(&self, look: impl FnOnce(&[Start]) -> T) -> T {
        look(&self.starts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets no more start, and ends.
    pub(crate) async fn end(self) {
        self.engine.shutdown(Duration::ZERO).await;
    }
}

fn start_of(attempt: &Attempt) -> Start {
    Start {
        claim: attempt.claim.get(),
        at: attempt.deadline.before(attempt.job.timeout),
        group: attempt.job.group.clone(),
    }
}
