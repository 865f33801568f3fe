//! What was seen while a server was being hurt: a JSON line for each event.
//!
//! Every party (a client, a handler, the injector) writes lines of its own with a sequence number
//! of its own, so that a line that went missing is noticed. Times are microseconds: `mono_us` is
//! the machine's monotonic clock, which orders the lines of all parties on one machine, `wall_us`
//! is the Unix time, which is compared with the times that jobs are given.
//!
//! [`check`] holds a history to the rules.

pub mod check;
mod job;
pub mod merge;
mod rules;

pub use rules::{Bounds, Report, Rule, Violation};

use anyhow::Context;
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// One event with who saw it and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Who wrote it. A process that is started again is another party.
    pub party: String,
    /// From 1, one more for each line of the party.
    pub seq: u64,
    /// The Unix time.
    pub wall_us: u64,
    /// The monotonic time of the machine.
    pub mono_us: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A client is about to submit a job.
    Submit(Submit),
    /// The submit was answered with a job.
    Ack {
        /// The `call` of the submit, by the same party.
        call: u64,
        /// The job's id.
        id: String,
        /// It was answered with a job that another submit made (`unique_key`).
        #[serde(default)]
        duplicate: bool,
    },
    /// The submit was refused, and nothing stored.
    Refused {
        /// The `call` of the submit, by the same party.
        call: u64,
        /// The HTTP status.
        status: u16,
    },
    /// It is unknown whether the submit was stored.
    Unknown {
        /// The `call` of the submit, by the same party.
        call: u64,
    },
    /// A client was told where a job stands.
    Get(Read),
    /// A client is about to cancel a job.
    CancelRequest {
        /// The job.
        id: String,
    },
    /// The cancel was answered.
    CancelReply {
        /// The job.
        id: String,
        /// The HTTP status.
        status: u16,
        /// Where the job stood in the answer.
        state: Seen,
    },
    /// A client is about to ask for a retry, or handing in again, of a job.
    RetryRequest {
        /// The job.
        id: String,
    },
    /// A handler began an attempt.
    Start {
        /// The job.
        id: String,
        /// The number of the attempt.
        attempt: u32,
        /// The claim it runs under.
        claim: u64,
        /// The node it runs on.
        node: String,
        /// The digest of its input.
        body: String,
    },
    /// A handler ended an attempt.
    End {
        /// The job.
        id: String,
        /// The number of the attempt.
        attempt: u32,
        /// The claim it ran under.
        claim: u64,
        /// How it ended.
        outcome: Ended,
        /// The digest of its result, when it succeeded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        result: Option<String>,
    },
    /// A server decided on an end that it was told. Servers need not write any.
    Settle {
        /// The job.
        id: String,
        /// The claim that was named.
        claim: u64,
        /// Whether it succeeded, as far as it was told.
        succeeded: bool,
        /// Whether it was accepted, or refused by the fence.
        accepted: bool,
    },
    /// The injector has hurt something; written once it has happened.
    Fault {
        /// In which way.
        kind: FaultKind,
        /// Which node; none: all of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node: Option<String>,
    },
    /// More is submitted from now on than the server can take, or no longer.
    Overload {
        /// Whether it begins.
        on: bool,
    },
}

/// A submit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// What its answer is found by: each party has numbers of its own.
    pub call: u64,
    /// The task.
    pub task: String,
    /// The digest of the body.
    pub body: String,
    /// The digest of the only right result, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The idempotency key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Not to be started before this Unix time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_at_us: Option<u64>,
    /// How urgent it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Whose turn it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// How long it is kept after its end; none: longer than the history lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retain_us: Option<u64>,
}

/// An answer that says where a job stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The job.
    pub id: String,
    /// The monotonic time at which it was asked for.
    pub sent_us: u64,
    /// Where it stands.
    pub state: Seen,
    /// Its attempts so far, where the answer says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// The digest of its result, where the answer has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// Where a job stands in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seen {
    /// Its time lies ahead.
    Scheduled,
    /// It may start.
    Ready,
    /// An attempt runs.
    Running,
    /// It has its result.
    Succeeded,
    /// It has none and will have none.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// 410: it was there, and its retention is over.
    Gone,
    /// 404: the server knows nothing of it.
    Missing,
}

impl Seen {
    /// Tells whether a job ends here.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }

    /// Returns the state with this word of the wire.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "scheduled" => Self::Scheduled,
            "ready" => Self::Ready,
            "running" => Self::Running,
            "succeeded" => Self::Succeeded,
            "failed" => Self::Failed,
            "cancelled" => Self::Cancelled,
            _ => return None,
        })
    }
}

/// How an attempt ended, in the handler's own words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ended {
    /// With a result.
    Succeeded,
    /// Without.
    Failed,
    /// It was told to stop.
    Stopped,
}

/// A way to hurt a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// SIGKILL.
    Kill,
    /// The power was cut: what had not been synced is lost.
    Cut,
    /// It could not reach the others.
    Partition,
    /// SIGSTOP.
    Pause,
    /// SIGTERM or SIGINT: a clean stop, which hands back what does not end in time. Written once
    /// the process has ended.
    Stop,
    /// Its disk was full or failed.
    Disk,
    /// Its database was stopped and came back, or connections to it were cut.
    Database,
}

impl FaultKind {
    /// Tells whether attempts that were running may be over, or unknown to their store, without
    /// a word of theirs, so that others of the same jobs may begin.
    pub const fn explains_overlap(self) -> bool {
        match self {
            Self::Kill | Self::Cut | Self::Partition | Self::Pause | Self::Stop => true,
            Self::Disk | Self::Database => false,
        }
    }
}

/// Returns the Unix time and the machine's monotonic time, in microseconds.
pub fn now_us() -> (u64, u64) {
    let read = |clock| {
        // Both clocks exist on every system that this is built for.
        let time = clock_gettime(clock).unwrap_or(TimeSpec::new(0, 0));
        let micros = time.tv_sec() * 1_000_000 + time.tv_nsec() / 1_000;
        u64::try_from(micros).unwrap_or_default()
    };
    (
        read(ClockId::CLOCK_REALTIME),
        read(ClockId::CLOCK_MONOTONIC),
    )
}

/// Writes the history of one party to the end of a file.
///
/// Each line is one write, so that a process killed in between leaves whole lines only. Several
/// processes may write to one file.
#[derive(Debug)]
pub struct Recorder {
    party: String,
    open: Mutex<(File, u64)>,
}

impl Recorder {
    /// Opens `path` for the lines of `party`, behind what is there.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened.
    pub fn open(path: &Path, party: impl Into<String>) -> anyhow::Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .with_context(|| format!("open the history {}", path.display()))?;
        Ok(Self {
            party: party.into(),
            open: Mutex::new((file, 0)),
        })
    }

    /// Returns whose lines these are.
    pub fn party(&self) -> &str {
        &self.party
    }

    /// Writes down an event that happens now.
    ///
    /// # Errors
    ///
    /// When the line could not be written.
    pub fn write(&self, event: Event) -> anyhow::Result<()> {
        // The time is taken under both locks, that of the process and that of the file: the lines
        // of a file are in the order of their times.
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.0.lock().context("lock the history")?;
        open.1 += 1;
        let (wall_us, mono_us) = now_us();
        let line = Line {
            party: self.party.clone(),
            seq: open.1,
            wall_us,
            mono_us,
            event,
        };
        let mut text = serde_json::to_vec(&line).context("write a line of history")?;
        text.push(b'\n');
        let written = open.0.write_all(&text).context("write a line of history");
        open.0.unlock().context("unlock the history")?;
        written
    }
}
