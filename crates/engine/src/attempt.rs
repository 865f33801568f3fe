//! Step 4 of a job's path: one attempt, from its claim to its outcome.
//!
//! It watches over the runner: deadline, stop and panic all become an outcome. What the outcome
//! makes of the job is decided when it is settled.

use crate::engine::{Registered, Shared};
use crate::report::{Outbox, Reporter};
use crate::run::{Attempt, Outcome, RetryHint, Runner, STOP_MARGIN, Stop, StopReason};
use crate::running::Entered;
use crate::settle::{self, Ended};
use crate::store::{Change, Claimed};
use anteroom_core::{
    Event, Failure, FailureKind, HandBack, Jitter, Payload, Reports, Retry, RetryPolicy,
};
use futures_util::FutureExt;
use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tracing::{debug, info};

/// Makes the attempt that a claim begins.
pub(crate) fn begin(
    claimed: Claimed,
    stop: Stop,
    slot: OwnedSemaphorePermit,
    outbox: &Arc<Outbox>,
) -> Attempt {
    let status = claimed.job.status;
    let started_at = status.started_at.unwrap_or(status.run_at);
    let reporter = Reporter::new(claimed.job.spec.id, status.claim, outbox.clone());
    Attempt {
        deadline: started_at.after(claimed.job.spec.timeout),
        job: claimed.job.spec,
        input: claimed.input,
        number: status.attempt,
        max_attempts: status.max_attempts,
        claim: status.claim,
        stop,
        slot: Some(Arc::new(slot)),
        reporter: Some(reporter),
    }
}

/// Runs an attempt to its end and settles it.
pub(crate) async fn run(
    shared: Arc<Shared>,
    registered: Arc<Registered>,
    runner: Arc<dyn Runner>,
    attempt: Attempt,
    entered: Entered,
) {
    let (id, task, number) = (attempt.job.id, attempt.job.task.clone(), attempt.number);
    debug!(job.id = %id, %task, attempt = number, "began attempt {number} of job {id}");
    let (claim, stop, slot) = (attempt.claim, attempt.stop.clone(), attempt.slot.clone());
    let reporter = attempt.reporter.clone();
    let began_at = Instant::now();
    let end = supervise(&shared, &registered, &*runner, attempt).await;
    let took = began_at.elapsed();
    let reports = match reporter {
        Some(reporter) => reporter.last_words().await,
        None => Reports::default(),
    };
    let limit = shared.options.result_bytes_max;
    let (event, result) = match end.into_outcome(stop.reason(), limit) {
        Settled::Succeeded(payload) => (Event::Succeeded { claim }, Some(payload)),
        Settled::Failed(failure, hint) => {
            info!(job.id = %id, %task, attempt = number, kind = %failure.kind,
                "attempt {number} of job {id} ended: {}", failure.kind);
            let retry = retry(hint, &registered.retry(number), number);
            (
                Event::Failed {
                    claim,
                    failure,
                    retry,
                },
                None,
            )
        }
        Settled::HandedBack(hand_back, delay) => (
            Event::Released {
                claim,
                hand_back,
                delay,
            },
            None,
        ),
    };
    let change = Change {
        result,
        reports,
        ..Change::new(id, event)
    };
    let ended = Ended {
        entered: &entered,
        took,
    };
    settle::settle(&shared, &registered.metrics, change, ended).await;
    // Until here the slot was taken.
    drop((entered, slot));
}

/// How a runner's future ended.
#[derive(Debug)]
enum End {
    Outcome(Outcome),
    Panicked(String),
    /// It was dropped: it had not returned in time after it was told to stop.
    Dropped,
}

/// What is told to the store.
#[derive(Debug, PartialEq)]
enum Settled {
    Succeeded(Payload),
    Failed(Failure, RetryHint),
    HandedBack(HandBack, Duration),
}

/// Runs it until it ends, its time is over, or it is told to stop and given the time to.
async fn supervise(
    shared: &Shared,
    registered: &Registered,
    runner: &dyn Runner,
    attempt: Attempt,
) -> End {
    let (stop, timeout) = (attempt.stop.clone(), attempt.job.timeout);
    // The future is not used again after a panic.
    let mut run = std::pin::pin!(AssertUnwindSafe(runner.run(attempt)).catch_unwind());
    tokio::select! {
        biased;
        ended = &mut run => return End::of(ended),
        () = stop.requested() => {}
        () = shared.clock.sleep(timeout) => stop.request(StopReason::Timeout),
    }
    let grace = registered.task.kill_grace.saturating_add(STOP_MARGIN);
    tokio::select! {
        biased;
        ended = &mut run => End::of(ended),
        () = shared.clock.sleep(grace) => End::Dropped,
    }
}

impl End {
    fn of(ended: Result<Outcome, Box<dyn Any + Send>>) -> Self {
        match ended {
            Ok(outcome) => Self::Outcome(outcome),
            Err(panic) => Self::Panicked(panic_message(&*panic)),
        }
    }

    fn into_outcome(self, stopped: Option<StopReason>, limit: usize) -> Settled {
        let failed = |kind, message: String| {
            Settled::Failed(Failure::new(kind, message), RetryHint::ByPolicy)
        };
        match (self, stopped) {
            (_, Some(StopReason::Timeout)) => {
                failed(FailureKind::Timeout, "ran past its timeout".to_owned())
            }
            (Self::Outcome(Outcome::Succeeded(result)), _) if result.bytes.len() > limit => {
                let message = format!(
                    "the result is {} bytes; the limit is {limit}",
                    result.bytes.len()
                );
                Settled::Failed(Failure::new(FailureKind::Error, message), RetryHint::Never)
            }
            (Self::Outcome(Outcome::Succeeded(result)), _) => Settled::Succeeded(result),
            (_, Some(StopReason::Shutdown)) => Settled::HandedBack(HandBack::Drain, Duration::ZERO),
            (_, Some(StopReason::Cancelled)) => failed(
                FailureKind::Cancelled,
                "stopped because the job was cancelled".to_owned(),
            ),
            (Self::Outcome(Outcome::Failed { message, retry }), _) => {
                Settled::Failed(Failure::new(FailureKind::Error, message), retry)
            }
            (Self::Outcome(Outcome::Busy { delay }), _) => {
                Settled::HandedBack(HandBack::Busy, delay)
            }
            (Self::Panicked(message), _) => failed(FailureKind::Panic, message),
            // Dropped after a lost lease: the store refuses whatever is said.
            (Self::Dropped, _) => failed(FailureKind::Error, "stopped".to_owned()),
        }
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "panicked without a message".to_owned())
}

/// Turns a runner's opinion into what the lifecycle is told.
pub(crate) fn retry(hint: RetryHint, policy: &RetryPolicy, attempt: u32) -> Retry {
    match hint {
        RetryHint::ByPolicy => Retry::In(policy.delay(attempt, jitter())),
        RetryHint::After(delay) => Retry::In(delay),
        RetryHint::Never => Retry::Never,
    }
}

/// Draws a jitter.
pub(crate) fn jitter() -> Jitter {
    Jitter::new(rand::random::<f64>() * 2.0 - 1.0)
}
