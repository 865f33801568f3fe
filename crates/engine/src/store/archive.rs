//! All that a store keeps, as records: what moving a store to another place or kind goes by.
//!
//! An [`Archive`] is a store that is open for its content alone: no engine runs on it, nothing is
//! claimed, no lease is extended and no claim number drawn, so that reading leaves it as it is. The
//! way of the records into a file and back, and every check that is the same for all stores, is in
//! [`moving`](crate::moving); a store only reads pages and writes batches.
//!
//! Records have an order, that of their [keys](RecordKey), which is the same in every store: by it
//! two stores are compared, and an import that was interrupted finds where it stopped.

use super::{Document, KeptQueue, StoreError};
use anteroom_core::{
    ClaimNumber, Fingerprint, Idempotency, Job, JobEvent, JobId, Name, Pace, Payload, StateEvent,
    Timestamp,
};
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Records of a page, and of a batch that is written in one commit: bounds the memory of a move.
pub const PAGE_RECORDS_MAX: usize = 512;
/// Bytes of inputs, results and documents of a page or batch, unless its one record has more.
pub const PAGE_BYTES_MAX: usize = 8 * 1024 * 1024;
/// The kind of documents in which a store may note that an import is under way. They are no part of
/// its content.
pub const IMPORT_KIND: &str = "anteroom.import";

/// A store's content, to be read and written as records.
///
/// Whoever has one has the store for himself, or sees it as it was at one instant. Calls come one
/// after the other.
#[async_trait]
pub trait Archive: fmt::Debug + Send + Sync {
    /// Returns how far the numbers have come that must never come back.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn counters(&self) -> Result<Counters, StoreError>;

    /// Returns the next records of a kind after a key of that kind (none: its first), in the order
    /// of their keys, by bytes; none at all: there are no more.
    ///
    /// At most [`PAGE_RECORDS_MAX`], and no further one once they have [`PAGE_BYTES_MAX`]. What
    /// cannot be read stands there as damage, and the page goes on behind it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: nothing can be read on.
    async fn page(
        &self,
        kind: RecordKind,
        after: Option<&RecordKey>,
    ) -> Result<Vec<Entry>, StoreError>;

    /// Returns the mark of the import that is under way: begun and not ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn importing(&self) -> Result<Option<String>, StoreError>;

    /// Notes that an import is under way, and sees to it that claims and versions of documents drawn
    /// from now on are greater than those of `counters`. Until it has ended the store refuses to be
    /// opened for anything else. Durable on return.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn begin_import(&self, mark: &str, counters: Counters) -> Result<(), StoreError>;

    /// Writes records in one durable commit, all or none. They come in the order of their keys, and
    /// none is there yet. A job that is unfinished holds its unique key from then on.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: none was written, unless it is [`StoreError::Unknown`].
    async fn put(&self, records: Vec<Record>) -> Result<(), StoreError>;

    /// Notes that the import under way is complete. Durable on return.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn end_import(&self) -> Result<(), StoreError>;

    /// Looks for damage that records do not show: what the database says of itself, rows that belong
    /// to nothing, copies that differ, keys that nobody or somebody else holds. Each is a line for a
    /// person, and names what it is about.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: it could not be looked for.
    async fn check(&self) -> Result<Vec<String>, StoreError>;

    /// Lets go of the store, with all that was written on the disk.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    async fn close(&self) -> Result<(), StoreError>;
}

/// How far the numbers have come that must never come back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// No greater claim was ever drawn.
    pub claim: ClaimNumber,
    /// No greater version was ever given to a document.
    pub document_version: u64,
}

/// A record, or what stands in the place of one.
pub type Entry = Result<Record, Damage>;

/// Returns what an entry is known by.
pub(crate) fn key_of(entry: &Entry) -> RecordKey {
    match entry {
        Ok(record) => record.key(),
        Err(damage) => damage.key.clone(),
    }
}

/// Something in a store that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where.
    pub key: RecordKey,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, what } = self;
        write!(f, "{key}: {what}")
    }
}

/// What sorts of records there are, in their order: what later ones need comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKind {
    /// [`Record::Document`].
    Document,
    /// [`Record::Queue`].
    Queue,
    /// [`Record::Pace`].
    Pace,
    /// [`Record::Job`].
    Job,
    /// [`Record::Submit`].
    Submit,
    /// [`Record::Gone`].
    Gone,
}

impl RecordKind {
    /// All of them, in their order.
    pub const ALL: [Self; 6] = [
        Self::Document,
        Self::Queue,
        Self::Pace,
        Self::Job,
        Self::Submit,
        Self::Gone,
    ];

    /// Returns the word for it in a file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Queue => "queue",
            Self::Pace => "pace",
            Self::Job => "job",
            Self::Submit => "submit",
            Self::Gone => "gone",
        }
    }
}

/// What a record is known by: there is one of each key. Keys have the order of records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecordKey {
    /// A document, by its kind and name.
    Document(Name, Name),
    /// What was set for a queue, by its name.
    Queue(Name),
    /// How far the rate of a queue has come, by its name.
    Pace(Name),
    /// A job.
    Job(JobId),
    /// A submit that is remembered, by the scope, task and key.
    Submit(Arc<str>, Name, anteroom_core::IdempotencyKey),
    /// A job that is gone.
    Gone(JobId),
}

impl RecordKey {
    /// Returns what sort of record it is of.
    pub const fn kind(&self) -> RecordKind {
        match self {
            Self::Document(..) => RecordKind::Document,
            Self::Queue(_) => RecordKind::Queue,
            Self::Pace(_) => RecordKind::Pace,
            Self::Job(_) => RecordKind::Job,
            Self::Submit(..) => RecordKind::Submit,
            Self::Gone(_) => RecordKind::Gone,
        }
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document(kind, name) => write!(f, "document {kind} {name}"),
            Self::Queue(name) => write!(f, "queue {name}"),
            Self::Pace(queue) => write!(f, "the pace of queue {queue}"),
            Self::Job(id) => write!(f, "job {id}"),
            Self::Submit(scope, task, key) => {
                write!(f, "the idempotency key {key:?} of task {task}")?;
                if scope.is_empty() {
                    return Ok(());
                }
                write!(f, " and token {scope:?}")
            }
            Self::Gone(id) => write!(f, "the memory of job {id}, which is gone"),
        }
    }
}

/// A part of what a store keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// A document.
    Document(KeptDocument),
    /// What was set for a queue.
    Queue(KeptQueue),
    /// How far the rate of a queue has come; the default is no record.
    Pace(KeptPace),
    /// A job with all that belongs to it.
    Job(Box<KeptJob>),
    /// A submit that is remembered.
    Submit(KeptSubmit),
    /// The id of a job that is gone.
    Gone(KeptGone),
}

impl Record {
    /// Returns what it is known by.
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Document(it) => RecordKey::Document(it.kind.clone(), it.document.name.clone()),
            Self::Queue(it) => RecordKey::Queue(it.name.clone()),
            Self::Pace(it) => RecordKey::Pace(it.queue.clone()),
            Self::Job(it) => RecordKey::Job(it.job.spec.id),
            Self::Submit(it) => {
                let Idempotency { scope, key } = it.idempotency.clone();
                RecordKey::Submit(scope, it.task.clone(), key)
            }
            Self::Gone(it) => RecordKey::Gone(it.id),
        }
    }

    /// Returns the bytes that count towards [`PAGE_BYTES_MAX`].
    pub fn bytes(&self) -> usize {
        match self {
            Self::Document(it) => it.document.value.len(),
            Self::Job(it) => {
                let result = it.result.as_ref().map_or(0, |result| result.bytes.len());
                it.input.bytes.len() + result
            }
            Self::Queue(_) | Self::Pace(_) | Self::Submit(_) | Self::Gone(_) => 0,
        }
    }
}

/// A document and its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptDocument {
    /// What sort of document it is.
    pub kind: Name,
    /// The document.
    pub document: Document,
}

/// How far the starts of a queue have come that a rate holds for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptPace {
    /// The queue.
    pub queue: Name,
    /// How far.
    pub pace: Pace,
}

/// A job with all that belongs to it. That it holds its unique key follows from where it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptJob {
    /// The job, with its errors.
    pub job: Job,
    /// What the task is given.
    pub input: Payload,
    /// What it returned.
    pub result: Option<Payload>,
    /// The length of the lease of a running job, from when it was taken or last extended; none
    /// unless it runs.
    pub lease_for: Option<Duration>,
    /// What happened to it, as far as it is written down.
    pub told: KeptHistory,
    /// The claim whose holder ended its attempt in a way that may be said again, and what it said.
    pub settled: Option<(ClaimNumber, Fingerprint)>,
}

/// What is written down of a job's history.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct KeptHistory {
    /// How many reports were ever made.
    pub reports_made: u64,
    /// Those that are kept, oldest first.
    pub reports: Vec<JobEvent>,
    /// How many states were ever written down and are kept no longer.
    pub states_dropped: u64,
    /// Those that are kept, oldest first; none:
    /// [`straight`](anteroom_core::history::straight) tells them from where the job stands.
    pub states: Vec<StateEvent>,
}

/// What an idempotency key remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptSubmit {
    /// The key, and whose it is.
    pub idempotency: Idempotency,
    /// The task that it is a key of.
    pub task: Name,
    /// The digest of what was asked for.
    pub fingerprint: Fingerprint,
    /// The job that it gave. It may be gone.
    pub id: JobId,
    /// That job was there already, by its unique key.
    pub duplicate: bool,
    /// Since when it is remembered.
    pub at: Timestamp,
}

/// The id of a job whose retention is over or that was deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptGone {
    /// Its id.
    pub id: JobId,
    /// Since when it is gone.
    pub at: Timestamp,
}
