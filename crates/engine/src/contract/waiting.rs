//! A claim that finds nothing waits, misses no wake-up, and takes nothing along when dropped.

use super::Trial;
use super::trial::{Held, TICK, done, ids, name, poll_once, soon, want, want_and_wait};
use crate::store::{Change, Claimed, StoreError, Want};
use anteroom_core::{Event, HandBack, JobId, Lease, Retry, State};
use std::collections::HashSet;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

type Claiming<'a> = Pin<Box<dyn Future<Output = Result<Vec<Claimed>, StoreError>> + Send + 'a>>;

/// Begins a claim that finds nothing, and sees that it waits.
async fn waiting(trial: &Trial, want: Want) -> Claiming<'_> {
    let mut claiming = trial.store().claim(want);
    still_waits(trial, &mut claiming).await;
    claiming
}

/// Sees that a claim waits, however long the store is given to answer it.
async fn still_waits(trial: &Trial, claiming: &mut Claiming<'_>) {
    waits_now(claiming).await;
    // By then the store has dealt with the claim and with what came before.
    trial.round_trip().await;
    waits_now(claiming).await;
    trial.round_trip().await;
    // Left asleep: a wake-up that is still under way would hide that one is missing.
    waits_now(claiming).await;
}

async fn waits_now(claiming: &mut Claiming<'_>) {
    let polled = poll_once(claiming.as_mut()).await;
    assert!(polled.is_pending(), "should wait, and gave {polled:?}");
}

async fn gets(claiming: Claiming<'_>) -> Vec<JobId> {
    ids(&done("claim", soon("the waiting claim", claiming).await))
}

/// A claim that does not want to wait returns at once with what there is, or none.
pub async fn a_claim_without_a_wait_returns_at_once(trial: &mut Trial) {
    assert!(trial.claim(want(3)).await.is_empty());
    let id = trial.submit_plain().await;
    assert_eq!(ids(&trial.claim(want_and_wait(3)).await), [id]);
}

/// A waiting claim gets a job as it is inserted, without the clock being moved.
pub async fn a_waiting_claim_gets_an_inserted_job_at_once(trial: &mut Trial) {
    let claiming = waiting(trial, want_and_wait(3)).await;
    let id = trial.submit_plain().await;
    assert_eq!(gets(claiming).await, [id]);
}

/// Each of several waiting claims gets a job of those inserted.
pub async fn every_waiting_claim_gets_a_job(trial: &mut Trial) {
    let mut claims = Vec::new();
    for _ in 0..4 {
        claims.push(waiting(trial, want_and_wait(1)).await);
    }
    let jobs: Vec<_> = (0..4).map(|_| trial.new_job()).collect();
    let all: HashSet<JobId> = jobs.iter().map(|job| job.spec.id).collect();
    trial.insert(jobs).await;
    let mut claimed = HashSet::new();
    for claiming in claims {
        claimed.extend(gets(claiming).await);
    }
    assert_eq!(claimed, all);
}

/// A waiting claim gets a scheduled job when it comes due, and not before.
pub async fn a_waiting_claim_gets_a_job_that_comes_due(trial: &mut Trial) {
    let (near, far) = (Duration::from_secs(2), Duration::from_mins(5));
    let far = trial.now().after(far);
    trial.submit(|job| job.status.run_at = far).await;
    let mut claiming = waiting(trial, want_and_wait(1)).await;
    // Comes due before the one that the claim may wait for.
    let due = trial.now().after(near);
    let id = trial.submit(|job| job.status.run_at = due).await;
    still_waits(trial, &mut claiming).await;
    trial.advance_almost(near);
    still_waits(trial, &mut claiming).await;
    trial.advance(TICK);
    assert_eq!(gets(claiming).await, [id]);
}

/// A waiting claim gets a job that was handed back, failed with attempts left, or asked for again.
pub async fn a_waiting_claim_gets_a_job_that_became_ready_again(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    let claiming = waiting(trial, want_and_wait(1)).await;
    trial.happen(held.id, held.released(HandBack::Drain)).await;
    assert_eq!(gets(claiming).await, [held.id], "released");

    let held = Held {
        claim: trial.job(held.id).await.status.claim,
        ..held
    };
    let claiming = waiting(trial, want_and_wait(1)).await;
    let retry = Retry::In(Duration::from_secs(1));
    trial.happen(held.id, held.failed(retry)).await;
    trial.advance(Duration::from_secs(1));
    assert_eq!(gets(claiming).await, [held.id], "failed");

    trial.happen(held.id, Event::CancelRequested).await;
    let held = Held {
        claim: trial.job(held.id).await.status.claim,
        ..held
    };
    let ended = trial.happen(held.id, held.crashed()).await;
    assert_eq!(ended.status.state, State::Cancelled);
    let claiming = waiting(trial, want_and_wait(1)).await;
    trial.happen(held.id, Event::RetryRequested).await;
    assert_eq!(gets(claiming).await, [held.id], "asked for again");
}

/// A waiting claim leaves alone what it does not want, due or coming due.
pub async fn a_waiting_claim_leaves_unwanted_jobs_alone(trial: &mut Trial) {
    let wanted = Want {
        queues: Some(vec![name("queue")]),
        ..want_and_wait(1)
    };
    let mut claiming = waiting(trial, wanted).await;
    let soon_due = trial.now().after(Duration::from_secs(1));
    trial
        .submit(|job| job.spec_mut().queue = name("other"))
        .await;
    trial
        .submit(|job| {
            job.spec_mut().queue = name("other");
            job.status.run_at = soon_due;
        })
        .await;
    trial.advance(Duration::from_secs(1));
    still_waits(trial, &mut claiming).await;
    let id = trial.submit_plain().await;
    assert_eq!(gets(claiming).await, [id]);
}

/// A waiting claim ends with none when its wait is over, by the clock.
pub async fn a_waiting_claim_ends_with_its_wait(trial: &mut Trial) {
    let wait = Duration::from_secs(20);
    let wanted = Want { wait, ..want(1) };
    let mut claiming = waiting(trial, wanted).await;
    trial.advance_almost(wait);
    still_waits(trial, &mut claiming).await;
    trial.advance(TICK);
    assert!(gets(claiming).await.is_empty());
}

/// A waiting claim that was dropped takes no job that is inserted later.
pub async fn a_dropped_waiting_claim_takes_nothing(trial: &mut Trial) {
    for _ in 0..5 {
        drop(waiting(trial, want_and_wait(9)).await);
    }
    let id = trial.submit_plain().await;
    let claimed = trial.claim(want_and_wait(9)).await;
    assert_eq!(ids(&claimed), [id]);
    assert_eq!(claimed[0].job.status.attempt, 1);
}

/// Jobs claimed for a call that was dropped, at whatever moment, come back at no cost.
pub async fn a_dropped_claim_hands_its_jobs_back(trial: &mut Trial) {
    for round in 0..20 {
        let id = trial.submit_plain().await;
        let mut claiming = trial.store().claim(want_and_wait(1));
        let polled = poll_once(claiming.as_mut()).await;
        if round % 2 == 0 {
            // The answer lies ready by then, and nobody will take it.
            trial.round_trip().await;
        }
        drop(claiming);
        let claimed = match polled {
            Poll::Ready(claimed) => done("claim", claimed),
            // Waits until it was handed back.
            Poll::Pending => trial.claim(want_and_wait(1)).await,
        };
        assert_eq!(ids(&claimed), [id], "round {round}");
        let job = &claimed[0].job;
        assert_eq!(job.status.attempt, 1, "round {round}");
        assert_eq!(job.status.hand_backs, 0, "round {round}");
        let event = Event::Succeeded {
            claim: job.status.claim,
        };
        trial.happen(id, event).await;
    }
}

/// A job handed back from a dropped call wakes a claim that waits.
pub async fn what_a_dropped_claim_hands_back_wakes_another(trial: &mut Trial) {
    for round in 0..20 {
        let first = waiting(trial, want_and_wait(1)).await;
        let second = waiting(trial, want_and_wait(1)).await;
        let id = trial.submit_plain().await;
        // Whichever got it is dropped without being asked again, or after it.
        if round % 2 == 0 {
            drop(first);
            assert_eq!(gets(second).await, [id], "round {round}");
        } else {
            drop(second);
            assert_eq!(gets(first).await, [id], "round {round}");
        }
        let status = trial.job(id).await.status;
        assert_eq!(status.attempt, 1, "round {round}");
        let change = Change::new(
            id,
            Event::Succeeded {
                claim: status.claim,
            },
        );
        assert!(trial.apply(change).await.is_ok());
    }
}

/// Closing the store ends waiting claims with none.
pub async fn closing_ends_waiting_claims_with_none(trial: &mut Trial) {
    let near = waiting(trial, want_and_wait(1)).await;
    let due = trial.now().after(Duration::from_secs(1));
    trial.submit(|job| job.status.run_at = due).await;
    let scheduled = waiting(trial, want_and_wait(1)).await;
    soon("close", trial.store().close()).await;
    assert!(gets(near).await.is_empty());
    assert!(gets(scheduled).await.is_empty());
}
