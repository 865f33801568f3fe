//! The one place that decides what a job becomes next.
//!
//! [`transition`] takes where a job stands, an [`Event`] and the time, and gives where it stands
//! then, or why the event is refused. Stores write what it returns. It knows nothing of inputs,
//! results, what attempts say and waiting clients.
//!
//! The fence: every event that comes from a worker names the claim it holds. It is refused with
//! [`Rejected::LeaseLost`] unless that claim is the job's current one, so that a worker that
//! comes back late changes nothing. `attempt` cannot serve (a hand-back lowers it) and neither
//! can `version` (an owner's change raises it under a valid lease).

use crate::limits::HAND_BACKS_FREE;
use crate::{Amendment, AttemptError, ClaimNumber, Failure, FailureKind, Timestamp};
use std::fmt;
use std::time::Duration;

/// What is stored of where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// For its first or its next attempt.
    Waiting,
    /// Somebody holds its current claim.
    Running,
    /// It has its result. Nothing changes it any more.
    Succeeded,
    /// Its attempts are used up, or it failed for good. A person may ask for a retry.
    Failed,
    /// A person cancelled it, and may ask for a retry.
    Cancelled,
}

impl State {
    /// Tells whether the job is done.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

/// What is shown of where a job stands: waiting is told apart by the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ShownState {
    /// Waiting, and its `run_at` lies ahead.
    Scheduled,
    /// Waiting, and may start.
    Ready,
    /// Running.
    Running,
    /// Done, with a result.
    Succeeded,
    /// Done, without one.
    Failed,
    /// Done, because somebody said so.
    Cancelled,
}

impl ShownState {
    /// All of them, in the order of a job's life.
    pub const ALL: [Self; 6] = [
        Self::Scheduled,
        Self::Ready,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Cancelled,
    ];

    /// Returns the word on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Returns the state with this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }

    /// Returns the stored state behind it.
    pub const fn stored(self) -> State {
        match self {
            Self::Scheduled | Self::Ready => State::Waiting,
            Self::Running => State::Running,
            Self::Succeeded => State::Succeeded,
            Self::Failed => State::Failed,
            Self::Cancelled => State::Cancelled,
        }
    }
}

impl fmt::Display for ShownState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// Waiting, running or one of the ends.
    pub state: State,
    /// Raised by one with every change that a client can see.
    pub version: u64,
    /// Not to be started before this.
    pub run_at: Timestamp,
    /// Not to be begun for the first time after this.
    pub start_before: Option<Timestamp>,
    /// Attempts begun so far, hand-backs taken off. Counts the present one while running.
    pub attempt: u32,
    /// Attempts that it may be given.
    pub max_attempts: u32,
    /// The number of the latest claim. It is the current one only while running.
    pub claim: ClaimNumber,
    /// Who holds the current claim. Means nothing unless running.
    pub lease: Lease,
    /// Until when the claim is held. Means nothing unless running.
    pub lease_expires_at: Timestamp,
    /// When the latest attempt began.
    pub started_at: Option<Timestamp>,
    /// When it came to its end; none before that.
    pub finished_at: Option<Timestamp>,
    /// Whether the running attempt was told to stop for good. False unless running.
    pub cancel_requested: bool,
    /// Times it was handed back, other than by a drain.
    pub hand_backs: u32,
}

impl Status {
    /// Returns where a job stands that was just submitted.
    pub const fn submitted(
        run_at: Timestamp,
        start_before: Option<Timestamp>,
        max_attempts: u32,
    ) -> Self {
        Self {
            state: State::Waiting,
            version: 1,
            run_at,
            start_before,
            attempt: 0,
            max_attempts,
            claim: ClaimNumber::NONE,
            lease: Lease::Node,
            lease_expires_at: Timestamp::MIN,
            started_at: None,
            finished_at: None,
            cancel_requested: false,
            hand_backs: 0,
        }
    }

    /// Returns what to show at `now`.
    pub fn shown(&self, now: Timestamp) -> ShownState {
        match self.state {
            State::Waiting if self.run_at > now => ShownState::Scheduled,
            State::Waiting => ShownState::Ready,
            State::Running => ShownState::Running,
            State::Succeeded => ShownState::Succeeded,
            State::Failed => ShownState::Failed,
            State::Cancelled => ShownState::Cancelled,
        }
    }

    /// Tells whether it can no longer begin in time. What began once is never too late.
    pub fn is_too_late(&self, now: Timestamp) -> bool {
        self.state == State::Waiting
            && self.started_at.is_none()
            && self.start_before.is_some_and(|deadline| deadline < now)
    }
}

/// Who holds a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lease {
    /// The node that runs the attempt. Its keeper extends the lease; a lease that ran out still
    /// settles as long as nobody took the job away, so that a node that slept loses nothing.
    Node,
    /// A worker that pulled the job. Once it ran out it is lost, taken away or not.
    Pulled,
}

/// What happens to a job.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A worker begins an attempt under a new claim.
    Claimed {
        /// Greater than any claim drawn before.
        claim: ClaimNumber,
        /// Who holds it.
        lease: Lease,
        /// Until when.
        lease_expires_at: Timestamp,
    },
    /// The holder of `claim` is still at work.
    Extended {
        /// What the worker holds.
        claim: ClaimNumber,
        /// Until when it now holds it.
        lease_expires_at: Timestamp,
    },
    /// The attempt says something, and goes on.
    Reported {
        /// What the worker holds.
        claim: ClaimNumber,
    },
    /// The attempt has a result.
    Succeeded {
        /// What the worker holds.
        claim: ClaimNumber,
    },
    /// The attempt has none.
    Failed {
        /// What the worker holds.
        claim: ClaimNumber,
        /// Why.
        failure: Failure,
        /// Whether another attempt may help.
        retry: Retry,
    },
    /// The worker hands the job back undone.
    Released {
        /// What the worker holds.
        claim: ClaimNumber,
        /// Why.
        hand_back: HandBack,
        /// How long it should wait.
        delay: Duration,
    },
    /// Nobody extended the lease in time, or it could be extended no further.
    LeaseExpired {
        /// The claim that it was held under.
        claim: ClaimNumber,
        /// The wait before the next attempt.
        retry_in: Duration,
        /// Whether it ended because the attempt had run for as long as it may.
        is_timeout: bool,
    },
    /// The process that ran the attempt died. A pulled lease outlives it.
    WorkerCrashed {
        /// The claim that it held.
        claim: ClaimNumber,
        /// The wait before the next attempt.
        retry_in: Duration,
    },
    /// Somebody wants the job not to run, or to stop.
    CancelRequested,
    /// Somebody wants the job to run again, or now.
    RetryRequested,
    /// Its owner changes what a waiting job was submitted with.
    ///
    /// Decided here is whether it may, and when the job starts then; the store writes the rest
    /// with [`Amendment::amend`].
    Amended {
        /// What.
        amendment: Box<Amendment>,
    },
    /// `start_before` went by.
    DeadlinePassed,
}

/// Whether and when a failed attempt may be followed by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// After this wait, if attempts are left.
    In(Duration),
    /// It would fail again.
    Never,
}

/// Why a job is handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandBack {
    /// The worker is shutting down. Always free of cost.
    Drain,
    /// The worker is too busy, or says so for its target. Free [`HAND_BACKS_FREE`] times.
    Busy,
}

/// What an event made of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Next {
    /// Where the job stands now.
    pub status: Status,
    /// What to add to its errors.
    pub error: Option<AttemptError>,
}

/// Why an event changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// The claim is not the job's current one, or its lease ran out.
    #[error("the lease is lost: the job was claimed anew, taken back or settled")]
    LeaseLost,
    /// It is not waiting, so that it can be neither claimed nor amended.
    #[error("the job is not waiting")]
    NotWaiting,
    /// Its `run_at` lies ahead.
    #[error("the job is not due yet")]
    NotDue,
    /// Its `start_before` went by: it has to be ended first.
    #[error("the job can no longer begin in time")]
    TooLate,
    /// Its lease is still good or belongs to no process, or its deadline is ahead.
    #[error("nothing ran out yet")]
    NotYet,
    /// It has its result, which never changes.
    #[error("the job succeeded already")]
    AlreadySucceeded,
    /// It is in an end that a cancel does not change.
    #[error("the job has ended already")]
    AlreadyFinal,
    /// It was asked for before.
    #[error("cancelling was requested already")]
    AlreadyRequested,
    /// It is ready or running: there is nothing to retry.
    #[error("the job is ready or running: there is nothing to retry")]
    NothingToRetry,
}

/// Decides what `event` makes of a job that stands at `status`.
///
/// # Errors
///
/// [`Rejected`]: the event changes nothing, and why.
pub fn transition(status: &Status, event: &Event, now: Timestamp) -> Result<Next, Rejected> {
    let step = Step { status, now };
    match event {
        Event::Claimed {
            claim,
            lease,
            lease_expires_at,
        } => step.claimed(*claim, *lease, *lease_expires_at),
        Event::Extended {
            claim,
            lease_expires_at,
        } => {
            step.check_fence(*claim)?;
            // Not a change that a client can see: the version stays.
            let longer = status.lease_expires_at.max(*lease_expires_at);
            Ok(Next {
                status: Status {
                    lease_expires_at: longer,
                    ..*status
                },
                error: None,
            })
        }
        Event::Reported { claim } => {
            step.check_fence(*claim)?;
            Ok(step.to(*status))
        }
        Event::Succeeded { claim } => {
            step.check_fence(*claim)?;
            Ok(step.end(State::Succeeded))
        }
        Event::Failed {
            claim,
            failure,
            retry,
        } => {
            step.check_fence(*claim)?;
            Ok(step.failed(failure.clone(), *retry))
        }
        Event::Released {
            claim,
            hand_back,
            delay,
        } => {
            step.check_fence(*claim)?;
            Ok(step.released(*hand_back, *delay))
        }
        Event::LeaseExpired {
            claim,
            retry_in,
            is_timeout,
        } => {
            step.check_current(*claim)?;
            if now < status.lease_expires_at {
                return Err(Rejected::NotYet);
            }
            let failure = if *is_timeout {
                Failure::new(FailureKind::Timeout, "ran past its timeout")
            } else {
                Failure::new(FailureKind::LeaseExpired, "the lease ran out")
            };
            Ok(step.failed(failure, Retry::In(*retry_in)))
        }
        Event::WorkerCrashed { claim, retry_in } => {
            step.check_current(*claim)?;
            if status.lease == Lease::Pulled {
                // It belongs to no process of ours: only its own time ends it.
                return Err(Rejected::NotYet);
            }
            let failure = Failure::new(FailureKind::Crash, "the server that ran the attempt died");
            Ok(step.failed(failure, Retry::In(*retry_in)))
        }
        Event::CancelRequested => step.cancel_requested(),
        Event::RetryRequested => step.retry_requested(),
        Event::Amended { amendment } => step.amended(amendment),
        Event::DeadlinePassed => {
            if !status.is_too_late(now) {
                return Err(Rejected::NotYet);
            }
            let failure = Failure::new(FailureKind::TooLate, "not begun by start_before");
            let next = step.end(State::Failed);
            Ok(Next {
                error: Some(step.error(failure)),
                ..next
            })
        }
    }
}

/// A status and the time of its change.
struct Step<'a> {
    status: &'a Status,
    now: Timestamp,
}

impl Step<'_> {
    /// A claim that is the current one, its lease good or not.
    fn check_current(&self, claim: ClaimNumber) -> Result<(), Rejected> {
        let current = self.status.state == State::Running && self.status.claim == claim;
        if current {
            Ok(())
        } else {
            Err(Rejected::LeaseLost)
        }
    }

    /// A claim under which its holder may still speak.
    fn check_fence(&self, claim: ClaimNumber) -> Result<(), Rejected> {
        self.check_current(claim)?;
        match self.status.lease {
            Lease::Pulled if self.status.lease_expires_at <= self.now => Err(Rejected::LeaseLost),
            Lease::Pulled | Lease::Node => Ok(()),
        }
    }

    fn claimed(
        &self,
        claim: ClaimNumber,
        lease: Lease,
        lease_expires_at: Timestamp,
    ) -> Result<Next, Rejected> {
        let status = self.status;
        if status.state != State::Waiting {
            return Err(Rejected::NotWaiting);
        }
        if status.run_at > self.now {
            return Err(Rejected::NotDue);
        }
        if status.is_too_late(self.now) {
            return Err(Rejected::TooLate);
        }
        if claim <= status.claim {
            return Err(Rejected::LeaseLost);
        }
        Ok(self.to(Status {
            state: State::Running,
            attempt: status.attempt + 1,
            claim,
            lease,
            lease_expires_at,
            started_at: Some(self.now),
            ..*status
        }))
    }

    fn failed(&self, failure: Failure, retry: Retry) -> Next {
        let status = self.status;
        let next = match retry {
            _ if status.cancel_requested => self.end(State::Cancelled),
            Retry::In(delay) if status.attempt < status.max_attempts => self.wait(delay),
            Retry::In(_) | Retry::Never => self.end(State::Failed),
        };
        Next {
            error: Some(self.error(failure)),
            ..next
        }
    }

    fn released(&self, hand_back: HandBack, delay: Duration) -> Next {
        let status = self.status;
        if status.cancel_requested {
            return self.end(State::Cancelled);
        }
        let (counted, free) = match hand_back {
            HandBack::Drain => (0, true),
            HandBack::Busy => (1, status.hand_backs < HAND_BACKS_FREE),
        };
        let hand_backs = status.hand_backs.saturating_add(counted);
        if free {
            let attempt = status.attempt.saturating_sub(1);
            let waiting = self.wait(delay).status;
            return Next {
                status: Status {
                    attempt,
                    hand_backs,
                    ..waiting
                },
                error: None,
            };
        }
        let message = format!("handed back more than {HAND_BACKS_FREE} times");
        let mut next = self.failed(Failure::new(FailureKind::Error, message), Retry::In(delay));
        next.status.hand_backs = hand_backs;
        next
    }

    fn cancel_requested(&self) -> Result<Next, Rejected> {
        match self.status.state {
            State::Waiting => Ok(self.end(State::Cancelled)),
            State::Running if self.status.cancel_requested => Err(Rejected::AlreadyRequested),
            State::Running => Ok(self.to(Status {
                cancel_requested: true,
                ..*self.status
            })),
            State::Succeeded | State::Failed | State::Cancelled => Err(Rejected::AlreadyFinal),
        }
    }

    fn retry_requested(&self) -> Result<Next, Rejected> {
        let status = self.status;
        let is_scheduled = status.state == State::Waiting && status.run_at > self.now;
        match status.state {
            State::Succeeded => return Err(Rejected::AlreadySucceeded),
            State::Failed | State::Cancelled => {}
            State::Waiting if is_scheduled => {}
            State::Waiting | State::Running => return Err(Rejected::NothingToRetry),
        }
        Ok(self.to(Status {
            state: State::Waiting,
            run_at: self.now,
            // A deadline that went by would end it again at once.
            start_before: status.start_before.filter(|deadline| *deadline >= self.now),
            attempt: 0,
            finished_at: None,
            cancel_requested: false,
            hand_backs: 0,
            ..*status
        }))
    }

    fn amended(&self, amendment: &Amendment) -> Result<Next, Rejected> {
        let status = *self.status;
        if status.state != State::Waiting {
            return Err(Rejected::NotWaiting);
        }
        if amendment.is_empty() {
            // Not a change that a client can see: the version stays.
            return Ok(Next {
                status,
                error: None,
            });
        }
        let run_at = match amendment.run_at {
            None => status.run_at,
            // Not moved back among those that may start already.
            Some(instant) if instant <= self.now => status.run_at.min(self.now),
            Some(instant) => instant,
        };
        Ok(self.to(Status { run_at, ..status }))
    }

    fn wait(&self, delay: Duration) -> Next {
        let run_at = self.now.after(delay);
        self.to(Status {
            state: State::Waiting,
            run_at,
            ..*self.status
        })
    }

    fn end(&self, state: State) -> Next {
        self.to(Status {
            state,
            finished_at: Some(self.now),
            // Nobody is left to be told.
            cancel_requested: false,
            ..*self.status
        })
    }

    fn to(&self, status: Status) -> Next {
        Next {
            status: Status {
                version: self.status.version + 1,
                ..status
            },
            error: None,
        }
    }

    fn error(&self, failure: Failure) -> AttemptError {
        AttemptError {
            attempt: self.status.attempt,
            at: self.now,
            failure,
        }
    }
}
