//! Step 2 of a job's path: where jobs are kept, and what every store promises.
//!
//! A store writes and never decides: whatever happens to a job is an [`Event`], and what it makes
//! of the job is what [`anteroom_core::transition`] says. A store that has to do it in bulk by
//! other means is held to that by the contract suite (`contract`, a feature), in which the memory
//! store, which calls the function directly, is the reference.
//!
//! What every store promises:
//! - *Durable*: an operation that returned `Ok` survives what the store says it survives.
//! - *Atomic*: each call of [`Store::insert`], and each change within an [`Store::apply`], happens
//!   whole or not at all; calls in flight at once may share a commit.
//! - *Fenced*: claim numbers rise for ever, over restarts; a change that names another claim than
//!   the current one is refused and changes nothing.
//! - *Bounded*: nothing it holds grows without a limit named in [`anteroom_core::limits`].

use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use anteroom_core::{
    ClaimNumber, Event, Job, JobId, Label, Lease, Name, Payload, Rejected, ShownState, Spec,
    Status, Timestamp,
};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub mod memory;
#[cfg(feature = "sqlite")]
pub mod sqlite;

/// Keeps jobs.
///
/// All operations take batches and may be called at any time from any number of callers.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns the clock that everything about its jobs goes by.
    fn clock(&self) -> Clock;

    /// Inserts jobs, all or none, and returns once they are durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: none was stored, unless it is [`StoreError::Unknown`].
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have inserted the jobs, all or none of them.
    async fn insert(&self, jobs: Vec<NewJob>) -> Result<(), StoreError>;

    /// Claims up to `want.limit` due jobs: most urgent first, then by `run_at`, then in the order
    /// of submission. Returns once the claims are durable.
    ///
    /// Where no job is due it waits for one, at most `want.wait`, and then returns none. A job
    /// that comes due or is inserted meanwhile is claimed at once, an inserted one in the commit
    /// that inserts it: a waiting claim cannot miss a wake-up.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was claimed.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: jobs claimed for a call that was dropped are handed back and cost no attempt.
    async fn claim(&self, want: Want) -> Result<Vec<Claimed>, StoreError>;

    /// Lets each event happen to its job, each on its own, in this order, and returns once all
    /// that changed is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing changed, unless it is [`StoreError::Unknown`]. What a single change
    /// was refused for is in its own answer.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have changed the jobs.
    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, StoreError>;

    /// Returns up to `limit` jobs that something ran out for and nobody has dealt with.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn overdue(&self, limit: usize) -> Result<Vec<Overdue>, StoreError>;

    /// Forgets up to `limit` finished jobs whose retention is over, and returns how many.
    /// Remembers their ids for a while, and forgets ids remembered for long enough.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn prune(&self, limit: usize) -> Result<usize, StoreError>;

    /// Deletes a finished job with its input and result, and remembers its id as gone.
    ///
    /// With `if_version` only if that is the version it has.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it was not deleted, unless it is [`StoreError::Unknown`].
    async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<Deleted, StoreError>;

    /// Returns a job.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn get(&self, id: JobId) -> Result<Found<Job>, StoreError>;

    /// Returns a job's input.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn input(&self, id: JobId) -> Result<Found<Payload>, StoreError>;

    /// Returns a job and its result, which is there once it succeeded.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn result(&self, id: JobId) -> Result<Found<(Job, Option<Payload>)>, StoreError>;

    /// Returns a page of jobs, newest first, without their errors.
    ///
    /// Looks at no more than [`PAGE_LOOKED_AT_MAX`](anteroom_core::limits::PAGE_LOOKED_AT_MAX)
    /// jobs, so that a page may hold fewer than asked for although there are more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing, StoreError>;

    /// Returns how many unfinished jobs there are of each task in each queue.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn counts(&self) -> Result<Vec<Counts>, StoreError>;

    /// Returns what it counts of itself, if it counts anything: none unless it says otherwise. One
    /// that stands before another passes on what that counts.
    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        None
    }

    /// Waits until the store has failed for good, and returns why. After that it acknowledges
    /// nothing, and the process should end.
    async fn failed(&self) -> StoreError;

    /// Finishes what was begun, takes no more and lets go of its files. Waiting claims return
    /// none. Everything called after it is [`StoreError::Closed`].
    async fn close(&self);
}

/// A job to be inserted.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// What was submitted.
    pub spec: Spec,
    /// Where it stands: [`Status::submitted`].
    pub status: Status,
    /// What the task is given.
    pub input: Payload,
}

/// What a claim asks for.
#[derive(Clone, Debug)]
pub struct Want {
    /// Of these tasks.
    pub tasks: Vec<Name>,
    /// In these queues; none: in any.
    pub queues: Option<Vec<Name>>,
    /// At most this many, at least 1.
    pub limit: usize,
    /// Who will hold the claims.
    pub lease: Lease,
    /// For how long.
    pub lease_for: Duration,
    /// How long to wait for the first.
    pub wait: Duration,
}

/// A job claimed, its attempt about to begin.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The job, running under its new claim.
    pub job: Job,
    /// What the task is given.
    pub input: Payload,
}

/// Something that happens to a job.
#[derive(Clone, Debug)]
pub struct Change {
    /// Which job.
    pub id: JobId,
    /// What.
    pub event: Event,
    /// The result, with [`Event::Succeeded`].
    pub result: Option<Payload>,
    /// Refuse it unless the job has this version.
    pub if_version: Option<u64>,
}

impl Change {
    /// Returns a change without a result or condition.
    pub const fn new(id: JobId, event: Event) -> Self {
        Self {
            id,
            event,
            result: None,
            if_version: None,
        }
    }
}

/// What became of a [`Change`]: the job as it stands now, or why nothing changed.
pub type Applied = Result<Job, Refused>;

/// Why a change or a deletion did not happen.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// There is no such job.
    Unknown,
    /// There was one; its retention is over or it was deleted.
    Gone,
    /// Its lifecycle does not allow it.
    Rejected(Rejected, Box<Job>),
    /// It has another version than the change was made for.
    VersionDiffers(Box<Job>),
}

/// What became of a deletion.
#[derive(Clone, Debug, PartialEq)]
pub enum Deleted {
    /// It is gone.
    Done,
    /// There is no such job.
    Unknown,
    /// It was gone before.
    Gone,
    /// It is not finished, and stays.
    NotFinal(Box<Job>),
    /// It has another version than the one named, and stays.
    VersionDiffers(Box<Job>),
}

/// What there is under an id.
#[derive(Clone, Debug, PartialEq)]
pub enum Found<T> {
    /// This.
    Here(T),
    /// A job whose retention is over or that was deleted.
    Gone,
    /// Nothing, or nothing any more that is remembered.
    Unknown,
}

impl<T> Found<T> {
    /// Returns what is there, if anything is.
    pub fn here(self) -> Option<T> {
        match self {
            Self::Here(value) => Some(value),
            Self::Gone | Self::Unknown => None,
        }
    }

    /// Turns what is there into something else.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Found<U> {
        match self {
            Self::Here(value) => Found::Here(f(value)),
            Self::Gone => Found::Gone,
            Self::Unknown => Found::Unknown,
        }
    }
}

/// A job that something ran out for.
#[derive(Clone, Debug, PartialEq)]
pub struct Overdue {
    /// Which job.
    pub id: JobId,
    /// Of which task.
    pub task: Name,
    /// Its attempts so far.
    pub attempt: u32,
    /// What ran out.
    pub reason: OverdueReason,
}

/// What ran out for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverdueReason {
    /// The lease of this claim.
    Lease(ClaimNumber),
    /// The life of the process that held this claim.
    Process(ClaimNumber),
    /// Its `start_before`.
    Deadline,
}

/// Which jobs to list. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this task.
    pub task: Option<Name>,
    /// In this queue.
    pub queue: Option<Name>,
    /// Of this group.
    pub group: Option<Label>,
    /// In one of these states; none named: in any.
    pub states: Vec<ShownState>,
    /// With all of these tags.
    pub tags: Vec<(Name, String)>,
    /// Submitted later than this.
    pub created_after: Option<Timestamp>,
    /// Submitted earlier than this.
    pub created_before: Option<Timestamp>,
}

impl Filter {
    /// Tells whether a job is one of those to list.
    pub fn matches(&self, spec: &Spec, status: &Status, now: Timestamp) -> bool {
        self.task.as_ref().is_none_or(|task| *task == spec.task)
            && self.queue.as_ref().is_none_or(|queue| *queue == spec.queue)
            && self
                .group
                .as_ref()
                .is_none_or(|group| spec.group.as_ref() == Some(group))
            && (self.states.is_empty() || self.states.contains(&status.shown(now)))
            && self
                .tags
                .iter()
                .all(|(name, value)| spec.tags.get(name) == Some(value))
            && self
                .created_after
                .is_none_or(|instant| spec.created_at > instant)
            && self
                .created_before
                .is_none_or(|instant| spec.created_at < instant)
    }
}

/// Which part of a list.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// At most this many jobs.
    pub size: usize,
    /// Those after the page that gave this cursor; none: the newest.
    pub after: Option<Cursor>,
}

/// A place in the list of all jobs. Stays valid while jobs are inserted and forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub i64);

/// A page of jobs.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The jobs, newest first, without their errors.
    pub jobs: Vec<Job>,
    /// Where the next page begins; none: there is no more.
    pub next: Option<Cursor>,
}

/// How many unfinished jobs there are of a task in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// The task.
    pub task: Name,
    /// The queue.
    pub queue: Name,
    /// Jobs whose `run_at` lies ahead.
    pub scheduled: u64,
    /// Jobs that may start.
    pub ready: u64,
    /// Jobs with a current claim.
    pub running: u64,
}

/// Why a store could not do what it was asked for.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// It cannot be written or reached just now. Worth a retry.
    #[error("the store is unavailable: {reason}")]
    Unavailable {
        /// Why.
        reason: String,
    },
    /// Too much is waiting for it. Worth a retry, later.
    #[error("the store has {waiting} operations waiting; the limit is {limit}")]
    Overloaded {
        /// How many are waiting.
        waiting: usize,
        /// How many may.
        limit: usize,
    },
    /// It is not known whether it happened. Worth a retry if that does no harm.
    #[error("it is unknown whether the store did it: {reason}")]
    Unknown {
        /// Why.
        reason: String,
    },
    /// A job to be inserted has an id that is taken. Not worth a retry.
    #[error("there is a job {id} already")]
    Exists {
        /// The id.
        id: JobId,
    },
    /// It was closed. Not worth a retry.
    #[error("the store is closed")]
    Closed,
    /// It failed for good, and may be damaged. Not worth a retry: the process should end.
    #[error("the store failed: {reason}")]
    Failed {
        /// What failed, and where.
        reason: String,
    },
}

impl StoreError {
    /// Tells whether the same call may succeed later.
    pub const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unavailable { .. } | Self::Overloaded { .. } | Self::Unknown { .. }
        )
    }
}
