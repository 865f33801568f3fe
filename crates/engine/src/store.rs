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
//! - *Remembered*: an idempotency key gives the job that its first submit gave for 24 h, in the
//!   same commit or not at all; a unique key belongs to one unfinished job of a task at a time.
//! - *Told of*: a change that ends a job with a `callback_url` stores the job that
//!   [`callback_of`](crate::callback_of) gives in the same commit, ready to be claimed, once.
//! - *Bounded*: nothing it holds grows without a limit named in [`anteroom_core::limits`].

use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use anteroom_core::{
    ClaimNumber, Event, EventId, Fingerprint, Idempotency, Job, JobEvent, JobId, Label, Lease,
    Name, Payload, Place, Priority, QueueDefaults, Rejected, Reports, ShownState, Spec, Status,
    Timestamp,
};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub mod archive;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod delivery;
mod document;
pub mod memory;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod numbers;
#[cfg(feature = "postgres")]
pub mod postgres;
mod published;
mod queue;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod room;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use document::{Document, DocumentChange, DocumentPut};
pub use published::{Published, PublishedTask};
pub use queue::{KeptQueue, QueueChange, QueueSet};

/// Keeps jobs.
///
/// All operations take batches and may be called at any time from any number of callers.
#[async_trait]
pub trait Store: fmt::Debug + Send + Sync + 'static {
    /// Returns the clock that everything about its jobs goes by.
    fn clock(&self) -> Clock;

    /// Inserts jobs, all or none, and returns once they are durable what became of each, in their
    /// order.
    ///
    /// One by one: a job whose idempotency key is remembered for its task (for 24 h by the store's
    /// clock, from the commit that inserted it) is a replay; else one whose unique key an
    /// unfinished job of its task has is a duplicate; neither is stored. Jobs before it in the same
    /// call count. What a key remembers is as durable as the job: it is the same commit.
    ///
    /// None is stored where one of the new ones is [too late](Status::is_too_late) already, nor where
    /// more would wait in a queue than its `max_depth` lets, however many
    /// inserts are under way.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: none was stored and no key is remembered, unless it is
    /// [`StoreError::Unknown`]. [`StoreError::KeyReused`] and [`StoreError::KeyGone`] where a key
    /// cannot be replayed.
    ///
    /// # Cancel safety
    ///
    /// A dropped call may or may not have inserted the jobs, all or none of them.
    async fn insert(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, StoreError>;

    /// Tells whether an insert of a job of `task` under this key would be a replay now.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn remembers(&self, task: &Name, idempotency: &Idempotency) -> Result<bool, StoreError>;

    /// Claims up to `want.limit` due jobs, in the order that [`anteroom_core::order`] describes:
    /// queues take turns, priorities have shares, groups take turns, and jobs of one group and
    /// priority go by `run_at`, then in the order of submission. Returns once the claims are
    /// durable.
    ///
    /// What limits a queue holds over everybody who claims: no more of its jobs run than
    /// `max_concurrency`, no more of a group than `group_concurrency`, leased ones included; and in
    /// any time t no more start than `rate_limit` × (1 + t / period). How far a rate has come is as
    /// durable as the claims; turns and shares may begin anew where a store is opened.
    ///
    /// Where no job is due it waits for one, at most `want.wait`, and then returns none. A job
    /// that comes due or is inserted meanwhile is claimed at once, an inserted one in the commit
    /// that inserts it: a waiting claim cannot miss a wake-up. Jobs that a pause or a limit holds
    /// back are not claimed, and a waiting claim gets them when they are let go.
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
    /// Where one brings a job to its end, [`callback_of`](crate::callback_of) says whether somebody
    /// asked to be told, by which job: it is stored in the same commit, whatever holds for its
    /// queue, and a waiting claim gets it at once. The same goes for every other way to an end.
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
    /// Remembers their ids for a while, and forgets ids and idempotency keys remembered for long
    /// enough.
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

    /// Tells whether other processes may change its jobs: whoever waits here for one of them is to be
    /// told of that. None unless it says otherwise.
    fn is_shared(&self) -> bool {
        false
    }

    /// Tells whether no other process takes this one for dead, by the time that passes here: one that
    /// may be taken for dead stops its attempts, since others may begin them again. Always, unless it
    /// says otherwise.
    fn is_alive(&self) -> bool {
        true
    }

    /// Tells whether it knows without a look that no job is unfinished, so that nothing can run out.
    /// Never, unless it says otherwise.
    fn is_idle(&self) -> bool {
        false
    }

    /// Returns the versions of those of some jobs that are there.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn versions(&self, ids: &[JobId]) -> Result<Vec<(JobId, u64)>, StoreError> {
        let mut versions = Vec::with_capacity(ids.len());
        for id in ids {
            if let Found::Here(job) = self.get(*id).await? {
                versions.push((*id, job.status.version));
            }
        }
        Ok(versions)
    }

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

    /// Returns a job and up to `limit` of its events after `after`, oldest first: the states that
    /// it entered, and what its attempts said.
    ///
    /// Every state is kept, up to [`STATES_KEPT_MAX`](anteroom_core::limits::STATES_KEPT_MAX), and
    /// of what was said the latest, up to
    /// [`REPORTS_KEPT_MAX`](anteroom_core::limits::REPORTS_KEPT_MAX) and
    /// [`REPORTS_KEPT_BYTES_MAX`](anteroom_core::limits::REPORTS_KEPT_BYTES_MAX). What is missing
    /// can be told from the ids. An event has its id for ever, and later ones have greater ids.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn events(
        &self,
        id: JobId,
        after: EventId,
        limit: usize,
    ) -> Result<Found<History>, StoreError>;

    /// Returns where a waiting job stands; none if it does not wait, or there is none.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn place(&self, of: PlaceOf) -> Result<Option<Place>, StoreError>;

    /// Returns a page of jobs, newest first, with the last error of those that failed and without
    /// all others.
    ///
    /// Looks at no more than [`PAGE_LOOKED_AT_MAX`](anteroom_core::limits::PAGE_LOOKED_AT_MAX)
    /// jobs, so that a page may hold fewer than asked for although there are more.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing, StoreError>;

    /// Returns how many unfinished jobs there are of each task in each queue, callbacks included.
    /// Where there are many thousands it may say how many there were up to half a minute ago.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn counts(&self) -> Result<Vec<Counts>, StoreError>;

    /// Returns what was set for queues, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn queues(&self) -> Result<Vec<KeptQueue>, StoreError>;

    /// Sets what holds for queues, each on its own, in this order, and returns once it is durable.
    ///
    /// It holds from that very commit on, and in a store that is opened again before the first
    /// claim. The queue need not have jobs.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing was set, unless it is [`StoreError::Unknown`].
    async fn set_queues(&self, changes: Vec<QueueChange>) -> Result<Vec<QueueSet>, StoreError>;

    /// Tells the store what holds for queues where nothing was set. It replaces what it was told
    /// before, and is forgotten with the process; before the first call there are no defaults.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: what held before may still hold.
    async fn configure_queues(&self, defaults: QueueDefaults) -> Result<(), StoreError>;

    /// Tells those who submit to it without an engine, if it lets anybody do so, what holds for
    /// submits. Nobody can unless it says otherwise.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: what was told before still holds, unless it is [`StoreError::Unknown`].
    async fn publish(&self, published: Published) -> Result<(), StoreError> {
        drop(published);
        Ok(())
    }

    /// Returns a document.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn document(&self, kind: &Name, name: &Name) -> Result<Option<Document>, StoreError>;

    /// Returns all documents of a kind, by name.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn documents(&self, kind: &Name) -> Result<Vec<Document>, StoreError>;

    /// Writes or removes documents, each on its own, in this order, and returns once it is durable.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing changed, unless it is [`StoreError::Unknown`].
    async fn put_documents(
        &self,
        changes: Vec<DocumentChange>,
    ) -> Result<Vec<DocumentPut>, StoreError>;

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
    /// What was submitted. Shared, as whoever submits it goes on with it as well.
    pub spec: Arc<Spec>,
    /// Where it stands: [`Status::submitted`].
    pub status: Status,
    /// What the task is given.
    pub input: Payload,
    /// What the submit is remembered by, and the digest of what it asks for.
    pub idempotency: Option<(Idempotency, Fingerprint)>,
}

impl NewJob {
    /// Returns what was submitted, to be changed before it is.
    pub fn spec_mut(&mut self) -> &mut Spec {
        Arc::make_mut(&mut self.spec)
    }
}

/// What became of a [`NewJob`].
#[derive(Clone, Debug, PartialEq)]
pub enum Inserted {
    /// It is stored, as it was given. Where it stands, if it was inserted alone.
    New(Option<Box<Place>>),
    /// It is not: this unfinished job of its task has its unique key.
    Duplicate(Box<Job>),
    /// It is not: its idempotency key remembers a submit of the same, which gave this job.
    Replayed {
        /// The job as it stands now.
        job: Box<Job>,
        /// The first submit was a duplicate of it already.
        duplicate: bool,
    },
}

/// Whose place is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlaceOf {
    /// That of this job.
    Job(JobId),
    /// That which a job would have that is submitted now, ready at once.
    New {
        /// Its task.
        task: Name,
        /// Its queue.
        queue: Name,
        /// Its group.
        group: Option<Label>,
        /// Its priority.
        priority: Priority,
    },
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

impl Want {
    /// Returns until when a claim of `job` that is made now is held: a pulled one no longer than
    /// its attempt may run, since nobody else keeps the time of it.
    pub fn held_until(&self, job: &Spec, now: Timestamp) -> Timestamp {
        match self.lease {
            Lease::Node => now.after(self.lease_for),
            Lease::Pulled => now.after(self.lease_for.min(job.timeout)),
        }
    }
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
    /// What the attempt said since it was last asked: with [`Event::Reported`], and with the
    /// events by which its holder ends it. They are kept if the event is not refused, and come
    /// before it.
    pub reports: Reports,
    /// With an event by which the holder of a claim ends its attempt, where the same may be sent
    /// again: what it says, as a digest. It is kept if the event is not refused, until another
    /// attempt begins, and the same again is [`Refused::Repeated`].
    pub settle: Option<Fingerprint>,
}

impl Change {
    /// Returns a change without a result or condition.
    pub const fn new(id: JobId, event: Event) -> Self {
        Self {
            id,
            event,
            result: None,
            if_version: None,
            reports: Reports {
                skipped: 0,
                list: Vec::new(),
            },
            settle: None,
        }
    }
}

impl Change {
    /// Returns the claim under which its holder ends its attempt with this, and what it says, where
    /// that is to be kept.
    pub(crate) fn settled(&self) -> Option<(ClaimNumber, Fingerprint)> {
        match self.event {
            Event::Succeeded { claim }
            | Event::Failed { claim, .. }
            | Event::Released { claim, .. } => Some((claim, self.settle?)),
            _ => None,
        }
    }

    /// Tells whether this, which was refused, is what ended the latest attempt of a job that stands
    /// at `status`, and of which `kept` was kept.
    pub(crate) fn repeats(
        &self,
        status: &Status,
        kept: Option<(ClaimNumber, Fingerprint)>,
    ) -> bool {
        let settled = self.settled();
        settled.is_some_and(|(claim, _)| claim == status.claim) && settled == kept
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
    /// It is what ended the latest attempt, and happened before. The job as it stands now.
    Repeated(Box<Job>),
    /// It would be unfinished again, and another unfinished job of its task has its unique key.
    UniqueKeyTaken {
        /// That job.
        holder: JobId,
    },
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

/// A part of what happened to a job.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// The job as it stands after all that ever happened to it, without its errors.
    pub job: Job,
    /// The events, oldest first.
    pub events: Vec<JobEvent>,
    /// How many states are missing before the first of them: kept no longer.
    pub states_missing: u64,
    /// Whether there are no later events yet.
    pub is_all: bool,
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
    /// The lease of this claim, which a worker pulled: as long as the attempt may run.
    Timeout(ClaimNumber),
    /// The life of the process that held this claim.
    Process(ClaimNumber),
    /// Its `start_before`.
    Deadline,
}

impl OverdueReason {
    /// Returns what ran out for a running job whose lease did.
    pub fn of_lease(job: &Spec, status: &Status) -> Self {
        let began_at = status.started_at.unwrap_or(status.run_at);
        let times_out_at = began_at.after(job.timeout);
        match status.lease {
            Lease::Pulled if status.lease_expires_at >= times_out_at => Self::Timeout(status.claim),
            Lease::Pulled | Lease::Node => Self::Lease(status.claim),
        }
    }
}

/// Which jobs to list. The default is all of them but the callbacks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Of one of these tasks, whatever else is asked for; none: of any. What the asker may see.
    pub tasks_allowed: Option<Vec<Name>>,
    /// Of this task; none: of any, those apart that the server keeps for itself.
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
        self.tasks_allowed
            .as_ref()
            .is_none_or(|tasks| tasks.contains(&spec.task))
            && match &self.task {
                Some(task) => *task == spec.task,
                None => !spec.task.is_reserved(),
            }
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
///
/// What the number says is the store's own affair: a key, or a whole id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor(pub u128);

impl Cursor {
    /// Returns the cursor that stands for a key.
    pub(crate) fn from_key(key: i64) -> Self {
        Self(key.cast_unsigned().into())
    }

    /// Returns the key that it stands for. One of another store means nothing: the greatest.
    pub(crate) fn key(self) -> i64 {
        u64::try_from(self.0).map_or(i64::MAX, u64::cast_signed)
    }
}

/// A page of jobs.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// The jobs, newest first, with the last error of those that failed and without all others.
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
    /// The earliest `run_at` of its ready jobs; none if it has none.
    pub oldest_ready: Option<Timestamp>,
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
    /// As many jobs wait in a queue as may. Worth a retry, later.
    #[error("{waiting} jobs wait in queue {queue}; the limit is {limit}")]
    QueueFull {
        /// The queue.
        queue: Name,
        /// How many wait.
        waiting: u64,
        /// How many may.
        limit: u64,
    },
    /// A job to be inserted can no longer begin in time: its `start_before` went by while the insert
    /// waited for its turn. Not worth a retry, unless with another deadline.
    #[error("start_before went by before job {id} was stored")]
    TooLate {
        /// The job.
        id: JobId,
    },
    /// An idempotency key of jobs to be inserted remembers another submit. Not worth a retry.
    #[error("the idempotency key of job number {index} was used for another submit")]
    KeyReused {
        /// Which of the jobs, from 0.
        index: usize,
    },
    /// The job that an idempotency key remembers is gone. Not worth a retry.
    #[error("the idempotency key of job number {index} remembers job {id}, which is gone")]
    KeyGone {
        /// Which of the jobs to be inserted, from 0.
        index: usize,
        /// The job that is gone.
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
            Self::Unavailable { .. }
                | Self::Overloaded { .. }
                | Self::Unknown { .. }
                | Self::QueueFull { .. }
        )
    }
}
