//! What ran out is told of until somebody deals with it.

use super::Trial;
use super::trial::{LEASE_FOR, TICK, done};
use crate::store::{Overdue, OverdueReason};
use anteroom_core::{Event, FailureKind, Job, Lease, State};
use std::time::Duration;

fn overdue(job: &Job, reason: OverdueReason) -> Overdue {
    Overdue {
        id: job.spec.id,
        task: job.spec.task.clone(),
        attempt: job.status.attempt,
        reason,
    }
}

/// Leases of both kinds are overdue from the instant they run out, until they are dealt with.
pub async fn leases_that_ran_out_are_overdue(trial: &mut Trial) {
    let node = trial.running(Lease::Node).await;
    let pulled = trial.running(Lease::Pulled).await;
    let extended = trial.running(Lease::Node).await;
    let settled = trial.running(Lease::Pulled).await;
    let later = trial.now().after(LEASE_FOR + Duration::from_secs(1));
    trial.happen(extended.id, extended.extended(later)).await;
    trial.happen(settled.id, settled.succeeded()).await;
    trial.advance_almost(LEASE_FOR);
    assert_eq!(trial.overdue().await, [], "1 ms early");
    trial.advance(TICK);
    let expected =
        [&node, &pulled].map(|held| overdue(&held.job, OverdueReason::Lease(held.claim)));
    assert_eq!(trial.overdue().await, expected);
    assert_eq!(trial.overdue().await, expected, "nobody dealt with them");

    for held in [&node, &pulled] {
        let job = trial.happen(held.id, held.lease_expired()).await;
        assert_eq!(job.status.state, State::Waiting);
        let kind = job.errors.last().map(|error| error.failure.kind);
        assert_eq!(kind, Some(FailureKind::LeaseExpired));
    }
    assert_eq!(trial.overdue().await, []);
    let again = trial.claim(super::trial::want(9)).await;
    assert_eq!(super::trial::ids(&again), [node.id, pulled.id]);
}

/// A store that says of itself that it is idle has no job that something could run out for, whether it
/// waits, runs or is late.
pub async fn a_store_with_an_unfinished_job_is_not_idle(trial: &mut Trial) {
    // What it says holds as of the latest that was done.
    assert_eq!(trial.overdue().await, []);
    let knows = trial.store().is_idle();
    let held = trial.running(Lease::Pulled).await;
    assert!(!trial.store().is_idle(), "one runs");
    let deadline = trial.now().after(Duration::from_secs(1));
    let late = trial.submit(move |job| job.status.start_before = Some(deadline));
    let late = late.await;
    trial.happen(held.id, held.succeeded()).await;
    assert!(!trial.store().is_idle(), "one waits");
    trial.advance(Duration::from_secs(2));
    assert_eq!(trial.overdue().await.len(), 1);
    assert!(!trial.store().is_idle(), "one is late");
    trial.happen(late, Event::DeadlinePassed).await;
    assert_eq!(trial.store().is_idle(), knows, "both are over");
}

/// A job past its `start_before` is overdue until it is ended, ready or scheduled.
pub async fn deadlines_that_passed_are_overdue(trial: &mut Trial) {
    let deadline = trial.now().after(Duration::from_secs(1));
    let far = trial.now().after(Duration::from_hours(1));
    let submit = |run_at| {
        trial.submit(move |job| {
            job.status.run_at = run_at;
            job.status.start_before = Some(deadline);
        })
    };
    let mut late = Vec::new();
    for id in [submit(trial.now()).await, submit(far).await] {
        late.push(trial.job(id).await);
    }
    let cancelled = submit(far).await;
    trial.happen(cancelled, Event::CancelRequested).await;
    trial.advance(Duration::from_secs(1));
    assert_eq!(trial.overdue().await, [], "in time at the very instant");
    trial.advance(TICK);
    let expected: Vec<Overdue> = late
        .iter()
        .map(|job| overdue(job, OverdueReason::Deadline))
        .collect();
    assert_eq!(trial.overdue().await, expected);
    for job in late {
        let ended = trial.happen(job.spec.id, Event::DeadlinePassed).await;
        assert_eq!(ended.status.state, State::Failed);
        let kind = ended.errors.last().map(|error| error.failure.kind);
        assert_eq!(kind, Some(FailureKind::TooLate));
    }
    assert_eq!(trial.overdue().await, []);
}

/// A deadline is forgotten once the job began, and holds again for nobody after a hand-back.
pub async fn a_deadline_is_met_by_beginning(trial: &mut Trial) {
    let deadline = trial.now().after(Duration::from_secs(1));
    trial
        .submit(|job| job.status.start_before = Some(deadline))
        .await;
    let held = trial.claim_one().await;
    trial.advance(Duration::from_secs(2));
    assert_eq!(trial.overdue().await, [], "while running");
    let back = held.released(anteroom_core::HandBack::Drain);
    trial.happen(held.id, back).await;
    assert_eq!(trial.overdue().await, [], "handed back");
    assert_eq!(trial.claim_one().await.id, held.id);
}

/// No more than the limit is told of at a time, and the rest after those were dealt with.
pub async fn overdue_jobs_are_told_of_up_to_the_limit(trial: &mut Trial) {
    for _ in 0..5 {
        trial.running(Lease::Node).await;
    }
    trial.advance(LEASE_FOR);
    let mut seen = Vec::new();
    for expected in [2, 2, 1, 0] {
        let some = done("overdue", trial.store().overdue(2).await);
        assert_eq!(some.len(), expected);
        for overdue in some {
            assert!(!seen.contains(&overdue.id), "{overdue:?} was dealt with");
            seen.push(overdue.id);
            let OverdueReason::Lease(claim) = overdue.reason else {
                panic!("{overdue:?} has another reason");
            };
            let retry_in = Duration::from_secs(1);
            let event = Event::LeaseExpired {
                claim,
                retry_in,
                is_timeout: false,
            };
            trial.happen(overdue.id, event).await;
        }
    }
}
