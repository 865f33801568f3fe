//! What the tests share: a small clock and short ways to write statuses and events.

use anteroom_core::{
    Amendment, ClaimNumber, Event, Failure, FailureKind, HandBack, Lease, Retry, Status, Timestamp,
    transition,
};
use std::time::Duration;

pub(crate) const CLAIM: ClaimNumber = ClaimNumber::new(7);
pub(crate) const EARLIER_CLAIM: ClaimNumber = ClaimNumber::new(6);
pub(crate) const LATER_CLAIM: ClaimNumber = ClaimNumber::new(8);

/// The instant `tick` milliseconds after the epoch.
pub(crate) const fn at(tick: i64) -> Timestamp {
    Timestamp::from_millis(tick)
}

/// A wait of `ticks` milliseconds.
pub(crate) const fn ticks(ticks: u64) -> Duration {
    Duration::from_millis(ticks)
}

/// Applies events one after the other, each at its time.
///
/// Panics, naming the event, where one is refused.
pub(crate) fn after_all<const N: usize>(mut status: Status, events: [(i64, Event); N]) -> Status {
    for (tick, event) in events {
        match transition(&status, &event, at(tick)) {
            Ok(next) => status = next.status,
            Err(rejected) => panic!("{event:?} at {tick} was refused: {rejected}\n{status:#?}"),
        }
    }
    status
}

pub(crate) fn claimed(claim: ClaimNumber, lease: Lease, expires: i64) -> Event {
    Event::Claimed {
        claim,
        lease,
        lease_expires_at: at(expires),
    }
}

pub(crate) fn extended(claim: ClaimNumber, expires: i64) -> Event {
    Event::Extended {
        claim,
        lease_expires_at: at(expires),
    }
}

pub(crate) const fn reported(claim: ClaimNumber) -> Event {
    Event::Reported { claim }
}

pub(crate) const fn succeeded(claim: ClaimNumber) -> Event {
    Event::Succeeded { claim }
}

pub(crate) fn failed(claim: ClaimNumber, retry: Retry) -> Event {
    let failure = Failure::new(FailureKind::Error, "no such file");
    Event::Failed {
        claim,
        failure,
        retry,
    }
}

pub(crate) fn released(claim: ClaimNumber, hand_back: HandBack) -> Event {
    Event::Released {
        claim,
        hand_back,
        delay: ticks(2),
    }
}

pub(crate) fn lease_expired(claim: ClaimNumber) -> Event {
    Event::LeaseExpired {
        claim,
        retry_in: ticks(3),
        is_timeout: false,
    }
}

pub(crate) fn timed_out(claim: ClaimNumber) -> Event {
    Event::LeaseExpired {
        claim,
        retry_in: ticks(3),
        is_timeout: true,
    }
}

pub(crate) fn worker_crashed(claim: ClaimNumber) -> Event {
    Event::WorkerCrashed {
        claim,
        retry_in: ticks(3),
    }
}

/// An owner's change of when the job starts.
pub(crate) fn moved_to(run_at: i64) -> Event {
    let amendment = Box::new(Amendment {
        run_at: Some(at(run_at)),
        ..Amendment::default()
    });
    Event::Amended { amendment }
}
