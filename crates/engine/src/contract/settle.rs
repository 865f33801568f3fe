//! Every change of a job is what the lifecycle says, and its result and errors are kept.

use super::Trial;
use super::trial::{Held, LEASE_FOR, TICK, done, odd_payloads, payload, want};
use crate::store::{Change, Found, Refused};
use anteroom_core::limits::{ERROR_MESSAGE_BYTES_MAX, ERRORS_MAX, HAND_BACKS_FREE};
use anteroom_core::{
    ClaimNumber, Event, Failure, FailureKind, HandBack, Job, JobId, Lease, Rejected, Retry, State,
    Status, transition,
};
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// The situations that a job can be in, one for each row of the lifecycle.
#[derive(Clone, Copy, Debug)]
enum Situation {
    Ready,
    Scheduled,
    TooLate,
    Running(Lease),
    RanOut(Lease),
    LastAttempt,
    CancelRequested(Lease),
    Succeeded,
    Failed,
    Cancelled,
}

const SITUATIONS: [Situation; 12] = [
    Situation::Ready,
    Situation::Scheduled,
    Situation::TooLate,
    Situation::Running(Lease::Node),
    Situation::Running(Lease::Pulled),
    Situation::RanOut(Lease::Node),
    Situation::RanOut(Lease::Pulled),
    Situation::LastAttempt,
    Situation::CancelRequested(Lease::Node),
    Situation::Succeeded,
    Situation::Failed,
    Situation::Cancelled,
];

impl Situation {
    /// Brings a new job into the situation; the claim is the one that its last worker held.
    async fn arrange(self, trial: &Trial) -> (JobId, ClaimNumber) {
        let now = trial.now();
        match self {
            Self::Ready => (trial.submit_plain().await, ClaimNumber::NONE),
            Self::Scheduled => {
                let submit = trial.submit(|job| job.status.run_at = now.after(SECOND));
                (submit.await, ClaimNumber::NONE)
            }
            Self::TooLate => {
                let id = trial
                    .submit(|job| job.status.start_before = Some(now))
                    .await;
                trial.advance(SECOND);
                (id, ClaimNumber::NONE)
            }
            Self::Running(lease) => arrange_running(trial, lease).await,
            Self::RanOut(lease) => {
                let running = arrange_running(trial, lease).await;
                trial.advance(LEASE_FOR);
                running
            }
            Self::LastAttempt => {
                let submitted = Status::submitted(now, None, 1);
                trial.submit(|job| job.status = submitted).await;
                let held = trial.claim_one().await;
                (held.id, held.claim)
            }
            Self::CancelRequested(lease) => {
                let (id, claim) = arrange_running(trial, lease).await;
                trial.happen(id, Event::CancelRequested).await;
                (id, claim)
            }
            Self::Succeeded => {
                let held = trial.running(Lease::Node).await;
                trial.happen(held.id, held.succeeded()).await;
                (held.id, held.claim)
            }
            Self::Failed => {
                let held = trial.running(Lease::Node).await;
                trial.happen(held.id, held.failed(Retry::Never)).await;
                (held.id, held.claim)
            }
            Self::Cancelled => {
                let id = trial.submit_plain().await;
                trial.happen(id, Event::CancelRequested).await;
                (id, ClaimNumber::NONE)
            }
        }
    }
}

async fn arrange_running(trial: &Trial, lease: Lease) -> (JobId, ClaimNumber) {
    let held = trial.running(lease).await;
    (held.id, held.claim)
}

fn every_event(claim: ClaimNumber, trial: &Trial) -> Vec<Event> {
    let failed = |retry| Event::Failed {
        claim,
        failure: Failure::new(FailureKind::Timeout, "\u{e4}\0 it took \"too\" long\n"),
        retry,
    };
    let released = |hand_back| Event::Released {
        claim,
        hand_back,
        delay: SECOND,
    };
    let retry_in = SECOND;
    vec![
        Event::Extended {
            claim,
            lease_expires_at: trial.now().after(LEASE_FOR * 3),
        },
        Event::Reported { claim },
        Event::Succeeded { claim },
        failed(Retry::In(SECOND)),
        failed(Retry::Never),
        released(HandBack::Drain),
        released(HandBack::Busy),
        Event::LeaseExpired {
            claim,
            retry_in,
            is_timeout: false,
        },
        Event::WorkerCrashed { claim, retry_in },
        Event::CancelRequested,
        Event::RetryRequested,
        Event::DeadlinePassed,
        Event::Amended {
            amendment: Box::default(),
        },
        Event::Amended {
            amendment: Box::new(anteroom_core::Amendment {
                run_at: Some(trial.now().after(LEASE_FOR)),
                ..anteroom_core::Amendment::default()
            }),
        },
    ]
}

/// In every situation, each event makes of a job what the lifecycle says, or is refused.
pub async fn every_event_does_what_the_lifecycle_says(trial: &mut Trial) {
    for situation in SITUATIONS {
        for n in 0..every_event(ClaimNumber::NONE, trial).len() {
            let (id, claim) = situation.arrange(trial).await;
            let event = every_event(claim, trial).swap_remove(n);
            let what = format!("{situation:?}, {event:?}");
            let before = trial.job(id).await;
            let applied = trial.apply(Change::new(id, event.clone())).await;
            let after = trial.job(id).await;
            match transition(&before.status, &event, trial.now()) {
                Ok(next) => {
                    let mut expected = before;
                    expected.status = next.status;
                    expected.errors.extend(next.error);
                    assert_eq!(after, expected, "{what}");
                    assert_eq!(applied, Ok(expected), "{what}");
                }
                Err(rejected) => {
                    assert_eq!(after, before, "{what}");
                    let refused = Refused::Rejected(rejected, Box::new(before));
                    assert_eq!(applied, Err(refused), "{what}");
                }
            }
            put_out_of_the_way(trial, &after).await;
        }
    }
}

/// Ends a job, so that no later claim of the case gets it.
async fn put_out_of_the_way(trial: &Trial, job: &Job) {
    let id = job.spec.id;
    let _or_ended = trial.apply(Change::new(id, Event::CancelRequested)).await;
    let claim = job.status.claim;
    let released = Event::Released {
        claim,
        hand_back: HandBack::Drain,
        delay: Duration::ZERO,
    };
    let _or_ran_out = trial.apply(Change::new(id, released)).await;
    let event = Event::LeaseExpired {
        claim,
        retry_in: SECOND,
        is_timeout: false,
    };
    let _or_not_running = trial.apply(Change::new(id, event)).await;
    assert!(trial.job(id).await.status.state.is_final());
}

/// Results are kept byte for byte, with their content type, whatever they are.
pub async fn results_are_kept_byte_for_byte(trial: &mut Trial) {
    for result in odd_payloads() {
        let held = trial.running(Lease::Node).await;
        let applied = trial.apply(held.success(result.clone())).await;
        let Ok(job) = applied else {
            panic!("refused: {applied:?}");
        };
        assert_eq!(job.result, Some(result.info()));
        let read = done("result", trial.store().result(held.id).await);
        assert_eq!(read, Found::Here((job, Some(result))));
        let input = done("input", trial.store().input(held.id).await);
        assert_eq!(input, Found::Here(held.input), "the input stays");
    }
}

/// A running job that was asked to stop says so, and a success that it still reaches is kept.
pub async fn a_success_after_a_cancel_request_is_kept(trial: &mut Trial) {
    let held = trial.running(Lease::Pulled).await;
    let asked = trial.happen(held.id, Event::CancelRequested).await;
    assert_eq!(asked.status.state, State::Running);
    assert!(asked.status.cancel_requested);
    let again = Change::new(held.id, Event::CancelRequested);
    let refused = Refused::Rejected(Rejected::AlreadyRequested, Box::new(asked));
    assert_eq!(trial.apply(again).await, Err(refused));
    let result = payload("text/plain", "done all the same");
    let ended = trial.apply(held.success(result.clone())).await;
    let state = ended.as_ref().map(|job| job.status.state);
    assert_eq!(state, Ok(State::Succeeded), "{ended:?}");
    let kept = done("result", trial.store().result(held.id).await).here();
    assert_eq!(kept.and_then(|(_, kept)| kept), Some(result));
}

/// After a cancel request, any end but a success makes the job cancelled: no retry.
pub async fn any_other_end_after_a_cancel_request_cancels(trial: &mut Trial) {
    let ends: [fn(&Held) -> Event; 6] = [
        |held| held.failed(Retry::In(Duration::ZERO)),
        |held| held.failed(Retry::Never),
        |held| held.released(HandBack::Drain),
        |held| held.released(HandBack::Busy),
        Held::lease_expired,
        Held::crashed,
    ];
    for (n, end) in ends.into_iter().enumerate() {
        let held = trial.running(Lease::Node).await;
        trial.happen(held.id, Event::CancelRequested).await;
        trial.advance(LEASE_FOR);
        let ended = trial.happen(held.id, end(&held)).await;
        assert_eq!(ended.status.state, State::Cancelled, "end {n}");
        assert_eq!(ended.status.finished_at, Some(trial.now()), "end {n}");
        assert!(trial.claim(want(1)).await.is_empty(), "end {n}");
    }
}

/// A waiting job that is cancelled ends at once and is never claimed.
pub async fn a_cancelled_waiting_job_is_never_claimed(trial: &mut Trial) {
    let due = trial.now().after(SECOND);
    let ready = trial.submit_plain().await;
    let scheduled = trial.submit(|job| job.status.run_at = due).await;
    for id in [ready, scheduled] {
        let job = trial.happen(id, Event::CancelRequested).await;
        assert_eq!(job.status.state, State::Cancelled);
    }
    trial.advance(SECOND);
    assert!(trial.claim(want(9)).await.is_empty());
}

/// A failed attempt is followed by another once its wait is over, until none is left.
pub async fn attempts_follow_each_other_until_they_are_used_up(trial: &mut Trial) {
    let submitted = Status::submitted(trial.now(), None, 3);
    let id = trial.submit(|job| job.status = submitted).await;
    let wait = Duration::from_millis(1_500);
    for attempt in 1..=3 {
        let held = trial.claim_one().await;
        assert_eq!((held.id, held.job.status.attempt), (id, attempt));
        let job = trial.happen(id, held.failed(Retry::In(wait))).await;
        assert_eq!(job.errors.len(), usize::try_from(attempt).unwrap_or(0));
        if attempt < 3 {
            assert_eq!(job.status.run_at, trial.now().after(wait));
        } else {
            assert_eq!(job.status.state, State::Failed);
        }
        trial.advance_almost(wait);
        assert!(trial.claim(want(1)).await.is_empty(), "before its wait");
        trial.advance(TICK);
    }
    assert!(trial.claim(want(1)).await.is_empty(), "used up");
}

/// A hand-back costs no attempt: a drain never, being busy not until it happened too often.
pub async fn hand_backs_cost_nothing_until_there_are_too_many(trial: &mut Trial) {
    let submitted = Status::submitted(trial.now(), None, 1);
    let id = trial.submit(|job| job.status = submitted).await;
    for n in 1..=HAND_BACKS_FREE {
        let held = trial.claim_one().await;
        let job = trial.happen(id, held.released(HandBack::Busy)).await;
        assert_eq!((job.status.attempt, job.status.hand_backs), (0, n));
        assert_eq!(job.status.state, State::Waiting, "hand-back {n}");
    }
    let held = trial.claim_one().await;
    let job = trial.happen(id, held.released(HandBack::Drain)).await;
    assert_eq!((job.status.attempt, job.errors.len()), (0, 0));
    let held = trial.claim_one().await;
    let job = trial.happen(id, held.released(HandBack::Busy)).await;
    assert_eq!(job.status.state, State::Failed);
    assert_eq!((job.status.attempt, job.errors.len()), (1, 1));
}

/// A job asked for again starts over, and keeps its errors.
pub async fn a_retry_starts_over_and_keeps_the_errors(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    let failed = trial.happen(held.id, held.failed(Retry::Never)).await;
    trial.advance(SECOND);
    let job = trial.happen(held.id, Event::RetryRequested).await;
    assert_eq!(job.status.attempt, 0);
    assert_eq!(job.status.finished_at, None);
    assert_eq!(job.status.version, failed.status.version + 1);
    assert_eq!(job.errors, failed.errors);
    let again = trial.claim_one().await;
    assert_eq!((again.id, &again.job.errors), (held.id, &job.errors));
    let change = Change::new(held.id, held.succeeded());
    assert!(trial.apply(change).await.is_err(), "the old claim");
    trial.happen(again.id, again.succeeded()).await;
}

/// Errors are kept as they were, newest last, and no more of them than the limit.
pub async fn the_latest_errors_are_kept_newest_last(trial: &mut Trial) {
    let submitted = Status::submitted(trial.now(), None, 100);
    let id = trial.submit(|job| job.status = submitted).await;
    let mut said = Vec::new();
    for (n, kind) in (0..ERRORS_MAX + 5).zip(FailureKind::ALL.into_iter().cycle()) {
        let held = trial.claim_one().await;
        let message = match n % 3 {
            0 => format!("number {n}\0\u{e4}\n"),
            1 => "\u{e4}".repeat(ERROR_MESSAGE_BYTES_MAX),
            _ => String::new(),
        };
        let event = Event::Failed {
            claim: held.claim,
            failure: Failure::new(kind, message),
            retry: Retry::In(Duration::ZERO),
        };
        let job = trial.happen(id, event).await;
        said.extend(job.errors.last().cloned());
        assert!(job.errors.len() <= ERRORS_MAX);
        trial.advance(Duration::from_millis(7));
    }
    let job = trial.job(id).await;
    assert_eq!(job.errors, said[5..]);
}

/// A change that was made for another version of the job is refused and changes nothing.
pub async fn a_change_for_another_version_is_refused(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    let before = trial.job(held.id).await;
    let version = before.status.version;
    for other in [0, version - 1, version + 1, u64::MAX / 2] {
        for event in [Event::CancelRequested, held.succeeded()] {
            let change = Change {
                if_version: Some(other),
                ..Change::new(held.id, event)
            };
            let differs = Refused::VersionDiffers(Box::new(before.clone()));
            assert_eq!(trial.apply(change).await, Err(differs), "version {other}");
            assert_eq!(trial.job(held.id).await, before);
        }
    }
    let change = Change {
        if_version: Some(version),
        ..held.success(payload("text/plain", "done"))
    };
    assert!(trial.apply(change).await.is_ok());
}

/// The changes of one call happen in order, each on its own: a refused one stops none.
pub async fn changes_happen_in_order_each_on_its_own(trial: &mut Trial) {
    let (first, second) = (
        trial.running(Lease::Node).await,
        trial.running(Lease::Node).await,
    );
    let again = |held: &Held| Change::new(held.id, held.succeeded());
    let changes = vec![
        Change::new(first.id, Event::RetryRequested),
        Change::new(first.id, first.failed(Retry::Never)),
        Change::new(trial.new_job().spec.id, Event::CancelRequested),
        again(&first),
        Change::new(second.id, Event::CancelRequested),
        again(&second),
        Change::new(first.id, Event::RetryRequested),
        Change::new(first.id, Event::CancelRequested),
    ];
    let applied = trial.apply_all(changes).await;
    let seen: Vec<_> = applied
        .iter()
        .map(|applied| match applied {
            Ok(job) => Ok((job.status.state, job.status.version)),
            Err(Refused::Rejected(rejected, job)) => Err(Some((*rejected, job.status.version))),
            Err(_) => Err(None),
        })
        .collect();
    let expected = [
        Err(Some((Rejected::NothingToRetry, 2))),
        Ok((State::Failed, 3)),
        Err(None),
        Err(Some((Rejected::LeaseLost, 3))),
        Ok((State::Running, 3)),
        Ok((State::Succeeded, 4)),
        Ok((State::Waiting, 4)),
        Ok((State::Cancelled, 5)),
    ];
    assert_eq!(seen, expected);
    assert_eq!(applied[2], Err(Refused::Unknown));
}
