//! What the engine counts: submits, starts and ends of attempts, ends of jobs, and how long it all
//! took.
//!
//! It stands beside a job's path: each step adds to counters that it holds, a few atomic additions
//! and no look-up in a table of series. It decides nothing and logs nothing. Whoever embeds the
//! engine puts the numbers into a registry of his own ([`Metrics::register`], the feature
//! `metrics`). Labels are tasks, as many as are registered, and words of ours: never a job, a group
//! or a tag.

#[cfg(feature = "metrics")]
mod export;
mod histogram;
mod store;

pub use store::{Commit, StoreMetrics};

use anteroom_core::{Job, Name, State};
use histogram::Histogram;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// What an engine has counted since it was started. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    tasks: BTreeMap<Name, Arc<TaskMetrics>>,
    /// Of jobs whose task is not registered any more.
    others: TaskMetrics,
    /// Of jobs of the server's own, which are told to nobody.
    reserved: TaskMetrics,
    waiters: AtomicUsize,
    /// Of the store, if it counts.
    #[cfg_attr(
        not(feature = "metrics"),
        expect(dead_code, reason = "read by a scrape")
    )]
    store: Option<Arc<StoreMetrics>>,
}

/// What is counted of a task.
#[derive(Debug)]
pub(crate) struct TaskMetrics {
    /// Its attempts run elsewhere: one may begin on this node and end on another, or never.
    #[cfg_attr(
        not(feature = "metrics"),
        expect(dead_code, reason = "read by a scrape")
    )]
    is_pulled: bool,
    submitted: AtomicU64,
    started: AtomicU64,
    ended: [AtomicU64; AttemptEnd::ALL.len()],
    finished: [AtomicU64; FINAL_STATES.len()],
    rescued: [AtomicU64; Rescue::ALL.len()],
    /// From submit to the start of a first attempt.
    wait: Histogram,
    /// From `run_at` to the start.
    lateness: Histogram,
    /// From the start to the outcome.
    duration: Histogram,
}

/// The final states, as they are counted.
const FINAL_STATES: [(State, &str); 3] = [
    (State::Succeeded, "succeeded"),
    (State::Failed, "failed"),
    (State::Cancelled, "cancelled"),
];

/// What became of an attempt that this node ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AttemptEnd {
    /// Its result is the job's.
    Succeeded,
    /// It failed, and with it the job.
    Failed,
    /// Its job is cancelled.
    Cancelled,
    /// It failed, and its job waits for the next one.
    Retried,
    /// Its job was handed back undone.
    HandedBack,
    /// It came to its end after its lease was lost, or its job was gone: nothing changed.
    Lost,
    /// The store could not write its outcome down.
    Unsettled,
}

impl AttemptEnd {
    const ALL: [(Self, &str); 7] = [
        (Self::Succeeded, "succeeded"),
        (Self::Failed, "failed"),
        (Self::Cancelled, "cancelled"),
        (Self::Retried, "retried"),
        (Self::HandedBack, "handed_back"),
        (Self::Lost, "lost"),
        (Self::Unsettled, "unsettled"),
    ];
}

/// Why upkeep had to deal with a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rescue {
    /// Its lease ran out.
    LeaseExpired,
    /// Its lease ran out, as long as the attempt might run.
    Timeout,
    /// The process that ran it died.
    Crash,
    /// It had not begun by its `start_before`.
    TooLate,
}

impl Rescue {
    const ALL: [(Self, &str); 4] = [
        (Self::LeaseExpired, "lease_expired"),
        (Self::Timeout, "timeout"),
        (Self::Crash, "crash"),
        (Self::TooLate, "too_late"),
    ];
}

impl Metrics {
    pub(crate) fn new<'a>(
        tasks: impl Iterator<Item = (&'a Name, &'a Arc<TaskMetrics>)>,
        store: Option<Arc<StoreMetrics>>,
    ) -> Self {
        Self(Arc::new(Counted {
            tasks: tasks
                .map(|(name, task)| (name.clone(), task.clone()))
                .collect(),
            others: TaskMetrics::default(),
            reserved: TaskMetrics::default(),
            waiters: AtomicUsize::new(0),
            store,
        }))
    }

    /// Returns what is counted of a task.
    pub(crate) fn of(&self, task: &Name) -> &TaskMetrics {
        match self.0.tasks.get(task) {
            Some(task) => task,
            None if task.is_reserved() => &self.0.reserved,
            None => &self.0.others,
        }
    }

    /// Counts somebody who waits for a job, until the guard is dropped.
    pub(crate) fn waits(&self) -> Waiting<'_> {
        self.0.waiters.fetch_add(1, Ordering::Relaxed);
        Waiting(&self.0.waiters)
    }
}

/// Somebody who waits for a job.
#[derive(Debug)]
pub(crate) struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for TaskMetrics {
    fn default() -> Self {
        Self {
            is_pulled: false,
            submitted: AtomicU64::default(),
            started: AtomicU64::default(),
            ended: Default::default(),
            finished: Default::default(),
            rescued: Default::default(),
            wait: Histogram::new(&SPAN_BOUNDS),
            lateness: Histogram::new(&SPAN_BOUNDS),
            duration: Histogram::new(&SPAN_BOUNDS),
        }
    }
}

/// Microseconds: from what a function takes to what a night's work takes.
const SPAN_BOUNDS: [u64; 16] = [
    1_000,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    15_000_000,
    60_000_000,
    300_000_000,
    1_800_000_000,
    7_200_000_000,
];

impl TaskMetrics {
    /// Returns what is counted of a task that workers run, or that this node does.
    pub(crate) fn new(is_pulled: bool) -> Self {
        Self {
            is_pulled,
            ..Self::default()
        }
    }

    /// A job is durable.
    pub(crate) fn submitted(&self) {
        self.submitted.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt of this job has begun.
    pub(crate) fn started(&self, job: &Job) {
        let status = &job.status;
        let started_at = status.started_at.unwrap_or(status.run_at);
        self.lateness.observe_span(started_at.since(status.run_at));
        if status.attempt == 1 {
            self.wait
                .observe_span(started_at.since(job.spec.created_at));
        }
        // Last, and read first: whose start is seen is in the histograms.
        self.started.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt has come to its end, `span` after it began.
    pub(crate) fn ended(&self, end: AttemptEnd, span: Duration) {
        self.duration.observe_span(span);
        // Last, and read first.
        count(&self.ended, &AttemptEnd::ALL, end);
    }

    /// A job has come to its end, if this is one.
    pub(crate) fn finished(&self, state: State) {
        count(&self.finished, &FINAL_STATES, state);
    }

    /// Upkeep has dealt with a job.
    pub(crate) fn rescued(&self, reason: Rescue) {
        count(&self.rescued, &Rescue::ALL, reason);
    }
}

/// Adds one to the counter of a word; what has none is not counted.
fn count<T: Copy + PartialEq>(counters: &[AtomicU64], words: &[(T, &str)], word: T) {
    let at = words.iter().position(|(known, _)| *known == word);
    if let Some(counter) = at.and_then(|at| counters.get(at)) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
