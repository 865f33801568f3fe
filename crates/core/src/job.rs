//! A job: what was submitted, where it stands, and what its attempts said.

use crate::limits::{ERROR_MESSAGE_BYTES_MAX, ERRORS_MAX, PRIORITY_DEFAULT, PRIORITY_MAX};
use crate::{JobId, Label, Name, Progress, Status, Timestamp};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// One submitted run of a task.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What was submitted.
    pub spec: Arc<Spec>,
    /// Where it stands.
    pub status: Status,
    /// What its failed attempts said, newest last, at most [`ERRORS_MAX`]. Kept when a person
    /// asks for a retry.
    pub errors: Vec<AttemptError>,
    /// What it returned: there once it succeeded, and the same for ever.
    pub result: Option<PayloadInfo>,
    /// How far the latest attempt said last that it has come.
    pub progress: Option<Progress>,
}

impl Job {
    /// Returns when the job is forgotten: its retention after its end, none before that.
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.status
            .finished_at
            .map(|end| end.after(self.spec.retain))
    }

    /// Adds what a failed attempt said, dropping the oldest beyond [`ERRORS_MAX`].
    pub fn push_error(&mut self, error: AttemptError) {
        self.errors.push(error);
        let excess = self.errors.len().saturating_sub(ERRORS_MAX);
        self.errors.drain(..excess);
    }
}

/// What was submitted. Only the owner's change of a waiting job alters it.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// The job's id.
    pub id: JobId,
    /// The kind of work.
    pub task: Name,
    /// The line that it waits in.
    pub queue: Name,
    /// Whose turn it takes within the queue, if anybody's.
    pub group: Option<Label>,
    /// How urgent it is.
    pub priority: Priority,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// How long an attempt may run.
    pub timeout: Duration,
    /// How long it is kept after its end.
    pub retain: Duration,
    /// No second unfinished job of the task has the same.
    pub unique_key: Option<Label>,
    /// Who is told of its end.
    pub callback_url: Option<Arc<str>>,
    /// The submitter's own labels.
    pub tags: BTreeMap<Name, String>,
    /// What the task is given, as far as it can be told without its bytes.
    pub input: PayloadInfo,
}

/// What its owner changes of a waiting job. What is `None` stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amendment {
    /// When to start. An instant that has passed means at once, and a job that may start already
    /// keeps its turn.
    pub run_at: Option<Timestamp>,
    /// How urgent it is.
    pub priority: Option<Priority>,
    /// The line to wait in.
    pub queue: Option<Name>,
    /// All of its labels.
    pub tags: Option<BTreeMap<Name, String>>,
}

impl Amendment {
    /// Tells whether it says nothing at all.
    pub const fn is_empty(&self) -> bool {
        self.run_at.is_none() && !self.changes_spec()
    }

    /// Tells whether it says anything of what was submitted, apart from when to start.
    pub const fn changes_spec(&self) -> bool {
        self.priority.is_some() || self.queue.is_some() || self.tags.is_some()
    }

    /// Writes into `spec` what the amendment says of it. [`transition`](crate::transition) has the
    /// rest, and says first whether any of it may be.
    pub fn amend(&self, spec: &mut Spec) {
        if let Some(priority) = self.priority {
            spec.priority = priority;
        }
        if let Some(queue) = &self.queue {
            spec.queue = queue.clone();
        }
        if let Some(tags) = &self.tags {
            spec.tags.clone_from(tags);
        }
    }
}

/// Bytes of some content type: an input or a result. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The media type, as it was given.
    pub content_type: Arc<str>,
    /// The bytes, as they were given.
    pub bytes: Bytes,
}

impl Payload {
    /// Returns the payload's description.
    pub fn info(&self) -> PayloadInfo {
        PayloadInfo {
            content_type: self.content_type.clone(),
            bytes: self.bytes.len(),
        }
    }
}

/// A payload without its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadInfo {
    /// The media type.
    pub content_type: Arc<str>,
    /// How many bytes there are.
    pub bytes: usize,
}

/// How urgent a job is: 0 is the most urgent, 9 the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(u8);

/// A priority that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a priority is a whole number from 0 (most urgent) to {PRIORITY_MAX}, not {0}")]
pub struct PriorityOutOfRange(pub i64);

impl Priority {
    /// Checks `number`.
    ///
    /// # Errors
    ///
    /// [`PriorityOutOfRange`] unless it is 0 to 9.
    pub fn new(number: i64) -> Result<Self, PriorityOutOfRange> {
        match u8::try_from(number) {
            Ok(priority) if priority <= PRIORITY_MAX => Ok(Self(priority)),
            Ok(_) | Err(_) => Err(PriorityOutOfRange(number)),
        }
    }

    /// Returns the number.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(PRIORITY_DEFAULT)
    }
}

/// What a failed attempt said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptError {
    /// The attempt's number; 0 where none had begun.
    pub attempt: u32,
    /// When it was written down.
    pub at: Timestamp,
    /// What went wrong.
    pub failure: Failure,
}

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The sort of end.
    pub kind: FailureKind,
    /// What it said, at most [`ERROR_MESSAGE_BYTES_MAX`] bytes.
    pub message: String,
}

impl Failure {
    /// Returns a failure whose message is cut to what is kept.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        let mut message = message.into();
        if message.len() > ERROR_MESSAGE_BYTES_MAX {
            message.truncate(message.floor_char_boundary(ERROR_MESSAGE_BYTES_MAX));
        }
        Self { kind, message }
    }
}

/// The sort of end that an unsuccessful attempt came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// The work said so.
    Error,
    /// It ran past its timeout.
    Timeout,
    /// The function panicked.
    Panic,
    /// The lease ran out: nobody extended it.
    LeaseExpired,
    /// The server that ran it died.
    Crash,
    /// It was told to stop because the job was cancelled.
    Cancelled,
    /// It had not begun by `start_before`.
    TooLate,
}

impl FailureKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Error,
        Self::Timeout,
        Self::Panic,
        Self::LeaseExpired,
        Self::Crash,
        Self::Cancelled,
        Self::TooLate,
    ];

    /// Returns the word on the wire and in the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Panic => "panic",
            Self::LeaseExpired => "lease_expired",
            Self::Crash => "crash",
            Self::Cancelled => "cancelled",
            Self::TooLate => "too_late",
        }
    }

    /// Returns the kind with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let failure = Failure::new(FailureKind::Error, "ä".repeat(ERROR_MESSAGE_BYTES_MAX));
        assert_eq!(failure.message.len(), ERROR_MESSAGE_BYTES_MAX);
        let odd = Failure::new(FailureKind::Error, format!("a{}", "ä".repeat(5_000)));
        assert_eq!(odd.message.len(), ERROR_MESSAGE_BYTES_MAX - 1);
    }

    #[test]
    fn priorities_are_0_to_9() {
        for (number, fits) in [(0, true), (9, true), (10, false), (-1, false), (300, false)] {
            assert_eq!(Priority::new(number).is_ok(), fits, "{number}");
        }
    }

    #[test]
    fn every_kind_has_a_word_of_its_own() {
        for kind in FailureKind::ALL {
            assert_eq!(FailureKind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(FailureKind::from_word("nope"), None);
    }
}
