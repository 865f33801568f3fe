//! A walk over every job that can come about within a bound, with what must hold at each step.

use crate::harness::{at, claimed, extended, failed, moved_to, reported, ticks};
use anteroom_core::limits::HAND_BACKS_FREE;
use anteroom_core::{
    ClaimNumber, Event, FailureKind, HandBack, Lease, Next, Rejected, Retry, State, Status,
    transition,
};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// Jobs that changed this often are not followed further: two attempts, a cancel and a retry fit.
const VERSION_MAX: u64 = 6;
/// The last instant of the walk's clock, which begins at 0.
const TICK_MAX: i64 = 4;

/// Where a job stands, and the time.
type Place = (Status, i64);

#[test]
fn every_step_of_every_job_keeps_the_rules() {
    let mut seen = HashSet::new();
    let mut next_up = submitted_jobs();
    let (mut accepted, mut refused) = (BTreeMap::new(), BTreeMap::new());
    seen.extend(next_up.iter().copied());
    while let Some((status, tick)) = next_up.pop() {
        check_place(&status, tick);
        let mut found = Vec::new();
        if tick < TICK_MAX {
            found.push((status, tick + 1));
        }
        for event in events(&status, tick) {
            let kind = kind_of(&event);
            match transition(&status, &event, at(tick)) {
                Ok(next) => {
                    check_step(&status, &event, tick, &next);
                    *accepted.entry(kind).or_insert(0) += 1;
                    found.push((next.status, tick));
                }
                Err(rejected) => {
                    check_refusal(&status, &event, rejected);
                    *refused.entry(format!("{rejected:?}")).or_insert(0) += 1;
                }
            }
        }
        found.retain(|(status, _)| status.version <= VERSION_MAX);
        next_up.extend(found.into_iter().filter(|place| seen.insert(*place)));
    }
    println!(
        "{} places; accepted {accepted:?}; refused {refused:?}",
        seen.len()
    );
    // The walk is worth nothing where it does not get to.
    assert_eq!(
        accepted.len(),
        12,
        "every event was accepted somewhere: {accepted:?}"
    );
    assert_eq!(
        refused.len(),
        9,
        "every refusal was met somewhere: {refused:?}"
    );
    for state in [
        State::Waiting,
        State::Running,
        State::Succeeded,
        State::Failed,
        State::Cancelled,
    ] {
        assert!(
            seen.iter().any(|(status, _)| status.state == state),
            "{state:?} was reached"
        );
    }
}

/// Every sort of submitted job; the last free hand-back is near for half of them.
fn submitted_jobs() -> Vec<Place> {
    let mut jobs = Vec::new();
    for run_at in [0, 2] {
        for start_before in [None, Some(at(1))] {
            for max_attempts in [1, 2] {
                for hand_backs in [0, HAND_BACKS_FREE - 1] {
                    let submitted = Status::submitted(at(run_at), start_before, max_attempts);
                    jobs.push((
                        Status {
                            hand_backs,
                            ..submitted
                        },
                        0,
                    ));
                }
            }
        }
    }
    jobs
}

/// What may happen to the job, with the claim that it has, the one before and the one after.
fn events(status: &Status, tick: i64) -> Vec<Event> {
    let earlier = ClaimNumber::new(status.claim.get().saturating_sub(1));
    let later = status.claim.next();
    let mut events = vec![
        Event::CancelRequested,
        Event::RetryRequested,
        Event::DeadlinePassed,
        Event::Amended {
            amendment: Box::default(),
        },
        moved_to(tick),
        moved_to(tick + 2),
        claimed(status.claim, Lease::Node, tick + 1),
        claimed(later, Lease::Node, tick + 1),
        claimed(later, Lease::Pulled, tick + 1),
        claimed(later, Lease::Pulled, tick + 3),
    ];
    for claim in [earlier, status.claim, later] {
        events.push(extended(claim, tick + 2));
        events.push(reported(claim));
        events.push(Event::Succeeded { claim });
        events.push(failed(claim, Retry::Never));
        for wait in [Duration::ZERO, ticks(1)] {
            events.push(failed(claim, Retry::In(wait)));
            for is_timeout in [false, true] {
                events.push(Event::LeaseExpired {
                    claim,
                    retry_in: wait,
                    is_timeout,
                });
            }
            events.push(Event::WorkerCrashed {
                claim,
                retry_in: wait,
            });
        }
        for hand_back in [HandBack::Busy, HandBack::Drain] {
            events.push(Event::Released {
                claim,
                hand_back,
                delay: ticks(1),
            });
        }
    }
    events
}

/// What holds of a job wherever it stands.
fn check_place(status: &Status, tick: i64) {
    let place = || format!("at {tick}: {status:#?}");
    let is_final = status.state.is_final();
    assert_eq!(status.finished_at.is_some(), is_final, "{}", place());
    assert_eq!(status.shown(at(tick)).stored(), status.state, "{}", place());
    assert!(status.attempt <= status.max_attempts, "{}", place());
    let is_begun = status.started_at.is_some();
    assert_eq!(is_begun, status.claim > ClaimNumber::NONE, "{}", place());
    match status.state {
        State::Running => assert!(status.attempt >= 1 && is_begun, "{}", place()),
        State::Waiting => {
            assert!(!status.cancel_requested, "{}", place());
            assert!(status.attempt < status.max_attempts, "{}", place());
        }
        State::Succeeded | State::Failed | State::Cancelled => {
            assert!(!status.cancel_requested, "{}", place());
        }
    }
    assert!(
        is_final || comes_to_an_end(*status, tick),
        "stuck {}",
        place()
    );
}

/// Tells whether the job ends if every worker that gets it dies, and nobody else does anything.
fn comes_to_an_end(mut status: Status, mut tick: i64) -> bool {
    for _ in 0..=2 * status.max_attempts {
        let (event, due) = match status.state {
            State::Waiting => {
                tick = tick.max(status.run_at.as_millis());
                if status.is_too_late(at(tick)) {
                    (Event::DeadlinePassed, tick)
                } else {
                    let claim = status.claim.next();
                    (claimed(claim, Lease::Pulled, tick + 1), tick)
                }
            }
            State::Running => {
                let claim = status.claim;
                let retry_in = Duration::ZERO;
                let expires = status.lease_expires_at.as_millis();
                let event = Event::LeaseExpired {
                    claim,
                    retry_in,
                    is_timeout: false,
                };
                (event, expires)
            }
            State::Succeeded | State::Failed | State::Cancelled => return true,
        };
        tick = tick.max(due);
        match transition(&status, &event, at(tick)) {
            Ok(next) => status = next.status,
            Err(_) => return false,
        }
    }
    status.state.is_final()
}

/// What holds of every change.
fn check_step(before: &Status, event: &Event, tick: i64, next: &Next) {
    let after = &next.status;
    let step = || format!("{event:?} at {tick}\n{before:#?}\n{after:#?}");
    let is_extension = matches!(event, Event::Extended { .. });
    if is_extension {
        let lease_expires_at = after.lease_expires_at;
        assert!(lease_expires_at >= before.lease_expires_at, "{}", step());
        let longer = Status {
            lease_expires_at,
            ..*before
        };
        assert_eq!(*after, longer, "an extension is invisible: {}", step());
    } else if is_empty_amendment(event) {
        assert_eq!(after, before, "it says nothing: {}", step());
    } else {
        assert_eq!(after.version, before.version + 1, "{}", step());
    }
    if matches!(event, Event::Reported { .. }) {
        let version = after.version;
        let heard = Status { version, ..*before };
        assert_eq!(*after, heard, "a report changes no more: {}", step());
    }
    if let Event::Amended { .. } = event {
        assert_eq!(before.state, State::Waiting, "{}", step());
        let moved = Status {
            version: after.version,
            run_at: after.run_at,
            ..*before
        };
        assert_eq!(*after, moved, "it moves the start alone: {}", step());
    }
    assert_ne!(
        before.state,
        State::Succeeded,
        "it never changes: {}",
        step()
    );
    let is_retry = *event == Event::RetryRequested;
    assert!(!before.state.is_final() || is_retry, "{}", step());

    let is_claim = matches!(event, Event::Claimed { .. });
    assert_eq!(after.claim > before.claim, is_claim, "{}", step());
    assert!(after.claim >= before.claim, "{}", step());
    assert_eq!(after.max_attempts, before.max_attempts, "{}", step());
    if is_claim {
        assert_eq!(before.state, State::Waiting, "{}", step());
        assert!(before.run_at <= at(tick), "never early: {}", step());
        assert_eq!(after.attempt, before.attempt + 1, "{}", step());
        assert_eq!(after.started_at, Some(at(tick)), "{}", step());
    } else {
        assert_eq!(after.started_at, before.started_at, "{}", step());
        let is_hand_back = matches!(event, Event::Released { .. });
        let is_lower = after.attempt < before.attempt;
        assert!(after.attempt <= before.attempt, "{}", step());
        assert!(!is_lower || is_hand_back || is_retry, "{}", step());
    }
    if after.state.is_final() {
        assert_eq!(after.finished_at, Some(at(tick)), "{}", step());
    }
    let is_told = after.cancel_requested && !before.cancel_requested;
    let is_cancel = *event == Event::CancelRequested;
    assert!(!is_told || is_cancel, "{}", step());
    if before.cancel_requested && after.state != State::Running {
        let is_success = matches!(event, Event::Succeeded { .. });
        let expected = if is_success {
            State::Succeeded
        } else {
            State::Cancelled
        };
        assert_eq!(after.state, expected, "{}", step());
    }
    check_error(before, event, tick, next);
}

fn is_empty_amendment(event: &Event) -> bool {
    matches!(event, Event::Amended { amendment } if amendment.is_empty())
}

/// An error is written down for what failed, and for nothing else.
fn check_error(before: &Status, event: &Event, tick: i64, next: &Next) {
    let is_costly_hand_back = matches!(event, Event::Released { .. })
        && next.status.attempt == before.attempt
        && !before.cancel_requested;
    let expected = match event {
        Event::Failed { failure, .. } => Some(failure.kind),
        Event::LeaseExpired {
            is_timeout: true, ..
        } => Some(FailureKind::Timeout),
        Event::LeaseExpired { .. } => Some(FailureKind::LeaseExpired),
        Event::WorkerCrashed { .. } => Some(FailureKind::Crash),
        Event::DeadlinePassed => Some(FailureKind::TooLate),
        Event::Released { .. } => is_costly_hand_back.then_some(FailureKind::Error),
        Event::Claimed { .. }
        | Event::Extended { .. }
        | Event::Reported { .. }
        | Event::Succeeded { .. }
        | Event::CancelRequested
        | Event::RetryRequested
        | Event::Amended { .. } => None,
    };
    let step = || format!("{event:?} at {tick}\n{before:#?}");
    let kind = next.error.as_ref().map(|error| error.failure.kind);
    assert_eq!(kind, expected, "{}", step());
    if let Some(error) = &next.error {
        assert_eq!(
            (error.attempt, error.at),
            (before.attempt, at(tick)),
            "{}",
            step()
        );
    }
}

/// A worker is only ever told that its lease is lost, or that nothing ran out.
fn check_refusal(status: &Status, event: &Event, rejected: Rejected) {
    let from_holder = match event {
        Event::Extended { claim, .. }
        | Event::Reported { claim }
        | Event::Succeeded { claim }
        | Event::Failed { claim, .. }
        | Event::Released { claim, .. } => Some((*claim, false)),
        Event::LeaseExpired { claim, .. } | Event::WorkerCrashed { claim, .. } => {
            Some((*claim, true))
        }
        Event::Claimed { .. }
        | Event::CancelRequested
        | Event::RetryRequested
        | Event::Amended { .. }
        | Event::DeadlinePassed => None,
    };
    if let Event::Amended { .. } = event {
        assert_eq!(rejected, Rejected::NotWaiting, "{event:?}\n{status:#?}");
    }
    let Some((claim, is_rescue)) = from_holder else {
        return;
    };
    let is_current = status.state == State::Running && status.claim == claim;
    let expected = if is_rescue && is_current {
        Rejected::NotYet
    } else {
        Rejected::LeaseLost
    };
    assert_eq!(rejected, expected, "{event:?}\n{status:#?}");
}

fn kind_of(event: &Event) -> &'static str {
    match event {
        Event::Claimed { .. } => "claimed",
        Event::Extended { .. } => "extended",
        Event::Reported { .. } => "reported",
        Event::Succeeded { .. } => "succeeded",
        Event::Failed { .. } => "failed",
        Event::Released { .. } => "released",
        Event::LeaseExpired { .. } => "lease expired",
        Event::WorkerCrashed { .. } => "worker crashed",
        Event::CancelRequested => "cancel requested",
        Event::RetryRequested => "retry requested",
        Event::Amended { .. } => "amended",
        Event::DeadlinePassed => "deadline passed",
    }
}
