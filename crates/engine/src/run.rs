//! The ways to run a claimed job: each is a [`Runner`].
//!
//! A runner is given an [`Attempt`] and gives an [`Outcome`]. It never sees a store, and does not
//! decide what becomes of the job. It looks after what it starts: when it returns, nothing of the
//! attempt is left running, and soon after its future is dropped. Only a thread cannot be stopped
//! ([`function::blocking`]): it keeps its slot until it returns.

use crate::report::Reporter;
use anteroom_core::{ClaimNumber, LogStream, Payload, Progress, Report, Spec, Timestamp};
use async_trait::async_trait;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "push")]
mod answer;
#[cfg(feature = "push")]
pub mod callback;
#[cfg(feature = "push")]
pub mod client;
#[cfg(feature = "push")]
mod delivery;
#[cfg(target_os = "linux")]
pub mod exec;
pub mod function;
#[cfg(feature = "push")]
pub mod push;
#[cfg(feature = "push")]
pub mod targets;
mod trace;

/// Runs jobs of one task.
#[async_trait]
pub trait Runner: fmt::Debug + Send + Sync + 'static {
    /// Returns the word for this way of running: `function`, `exec`, `push`.
    fn kind(&self) -> &'static str;

    /// Runs one attempt to its end.
    ///
    /// Once `attempt.stop` is requested it has to return within the task's `kill_grace` and
    /// [`STOP_MARGIN`]; after that its future is dropped.
    async fn run(&self, attempt: Attempt) -> Outcome;
}

/// How much longer than its `kill_grace` a runner may take to return.
pub const STOP_MARGIN: Duration = Duration::from_secs(5);

/// One execution of a job, as a runner sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// What was submitted.
    pub job: Arc<Spec>,
    /// What the task is given.
    pub input: Payload,
    /// The number of this attempt, from 1.
    pub number: u32,
    /// How many there may be.
    pub max_attempts: u32,
    /// The fence: rises with every start of the job. Use it to fence writes of your own.
    pub claim: ClaimNumber,
    /// When the attempt times out.
    pub deadline: Timestamp,
    /// Whether the attempt should stop, and why.
    pub stop: Stop,
    /// The slot that it occupies for as long as any clone of the attempt is alive.
    pub(crate) slot: Option<Arc<OwnedSemaphorePermit>>,
    /// Where it says something; none: nobody listens.
    pub(crate) reporter: Option<Arc<Reporter>>,
}

impl Attempt {
    /// Returns an attempt that occupies no slot and that nobody listens to: for those who try a
    /// runner by itself.
    pub fn new(
        job: Arc<Spec>,
        input: Payload,
        number: u32,
        max_attempts: u32,
        claim: ClaimNumber,
        deadline: Timestamp,
        stop: Stop,
    ) -> Self {
        Self {
            job,
            input,
            number,
            max_attempts,
            claim,
            deadline,
            stop,
            slot: None,
            reporter: None,
        }
    }

    /// Says how far the attempt has come: the part that is done, from 0 to 1, and in words, which
    /// may be empty.
    ///
    /// Never waits. It is shown with the job and told to those who follow it within a moment; of
    /// several that come within it the last. Kept only as long as the attempt holds its lease.
    ///
    /// # Example
    ///
    /// ```
    /// use anteroom::run::{Outcome, Runner, function};
    ///
    /// let pages = function::bytes(|attempt| async move {
    ///     for page in 1..=8_u32 {
    ///         // The work itself, and then:
    ///         attempt.progress(f64::from(page) / 8.0, format!("page {page} of 8"));
    ///     }
    ///     Outcome::Succeeded(attempt.input)
    /// });
    /// assert_eq!(pages.kind(), "function");
    /// ```
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        if let Some(progress) = Progress::new(Some(fraction), Some(message.into())) {
            self.report(Report::Progress(progress));
        }
    }

    /// Writes to the attempt's log; each line of `text` is a line of its own.
    ///
    /// Never waits. The latest lines are kept with the job and told to those who follow it.
    pub fn log(&self, text: impl AsRef<str>) {
        for line in text.as_ref().lines() {
            self.report(Report::log(LogStream::Log, line));
        }
    }

    /// Says something: what [`progress`](Self::progress) and [`log`](Self::log) do, for runners.
    pub fn report(&self, report: Report) {
        if let Some(reporter) = &self.reporter {
            reporter.report(report);
        }
    }
}

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a result.
    Succeeded(Payload),
    /// It has none.
    Failed {
        /// What it said.
        message: String,
        /// Whether another attempt may help.
        retry: RetryHint,
    },
    /// It could not begin for lack of room: hand the job back.
    Busy {
        /// How long it should wait.
        delay: Duration,
    },
}

impl Outcome {
    /// Returns a failure that another attempt may mend.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            retry: RetryHint::ByPolicy,
        }
    }

    /// Returns a failure that would come again.
    pub fn failed_for_good(message: impl Into<String>) -> Self {
        Self::Failed {
            message: message.into(),
            retry: RetryHint::Never,
        }
    }
}

/// Whether another attempt may help, in a runner's opinion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryHint {
    /// It may: after the wait of the task's retry policy.
    ByPolicy,
    /// It may: after this wait.
    After(Duration),
    /// It would fail again.
    Never,
}

/// Tells an attempt to stop. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<StopState>);

#[derive(Debug, Default)]
struct StopState {
    requested: CancellationToken,
    reason: OnceLock<StopReason>,
}

/// Why an attempt should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// It ran past its timeout.
    Timeout,
    /// The job was cancelled. A result that it still reaches is kept.
    Cancelled,
    /// Its lease was lost: whatever it does is for nothing.
    LeaseLost,
    /// The node shuts down.
    Shutdown,
}

impl Stop {
    /// Tells the attempt to stop. The first reason stays.
    pub fn request(&self, reason: StopReason) {
        let _first_stays = self.0.reason.set(reason);
        self.0.requested.cancel();
    }

    /// Returns why the attempt should stop; none while it should go on.
    pub fn reason(&self) -> Option<StopReason> {
        self.0.reason.get().copied()
    }

    /// Waits until the attempt should stop.
    pub async fn requested(&self) {
        self.0.requested.cancelled().await;
    }
}
