//! Leases of workers that pull: what ends them is known again, and no attempt outlives its timeout.

use super::Trial;
use super::trial::{Held, LEASE_FOR, TICK, payload, want};
use crate::store::{Change, Overdue, OverdueReason, Refused, Want};
use anteroom_core::{
    Event, FailureKind, Fingerprint, HandBack, Lease, Rejected, Retry, State, Timestamp,
};
use std::time::Duration;

/// The ways in which a holder ends its attempt.
fn every_end(held: &Held) -> Vec<Change> {
    vec![
        held.success(payload("text/plain", "done")),
        Change::new(held.id, held.failed(Retry::In(Duration::ZERO))),
        Change::new(held.id, held.failed(Retry::Never)),
        Change::new(held.id, held.released(HandBack::Busy)),
    ]
}

fn said(change: Change, digest: u8) -> Change {
    Change {
        settle: Some(Fingerprint([digest; 32])),
        ..change
    }
}

/// Sees what a change is refused for that the store must refuse, and that it changes nothing.
async fn refused(trial: &Trial, change: Change) -> Refused {
    let what = format!("{:?} saying {:?}", change.event, change.settle);
    let before = trial.job(change.id).await;
    let id = change.id;
    let refused = match trial.apply(change).await {
        Ok(job) => panic!("{what} was taken: {job:?}"),
        Err(refused) => refused,
    };
    assert_eq!(trial.job(id).await, before, "{what} changed something");
    let (Refused::Repeated(told) | Refused::Rejected(Rejected::LeaseLost, told)) = &refused else {
        panic!("{what} was refused otherwise: {refused:?}");
    };
    assert_eq!(**told, before, "{what}");
    refused
}

fn is_repeated(refused: &Refused) -> bool {
    matches!(refused, Refused::Repeated(_))
}

/// The same end of an attempt again, under the same claim, is told as such and changes nothing;
/// anything else said under it is late, as is what was not kept.
pub async fn a_settle_said_again_is_told_from_a_late_one(trial: &mut Trial) {
    for n in 0..4 {
        let held = trial.running(Lease::Pulled).await;
        let end = || every_end(&held).swap_remove(n);
        trial.applied(said(end(), 1)).await;
        for _ in 0..2 {
            assert!(is_repeated(&refused(trial, said(end(), 1)).await), "{n}");
        }
        assert!(!is_repeated(&refused(trial, said(end(), 2)).await), "{n}");
        assert!(!is_repeated(&refused(trial, end()).await), "{n}");
        // It counts for ends of an attempt only.
        let longer = held.extended(trial.now().after(LEASE_FOR));
        let extended = said(Change::new(held.id, longer), 1);
        assert!(!is_repeated(&refused(trial, extended).await), "{n}");
        put_away(trial, &held).await;

        let silent = trial.running(Lease::Pulled).await;
        trial.applied(every_end(&silent).swap_remove(n)).await;
        let again = said(every_end(&silent).swap_remove(n), 1);
        assert!(!is_repeated(&refused(trial, again).await), "{n}");
        put_away(trial, &silent).await;
    }
}

/// What ended an attempt is known again whatever happens to the job then, until it is claimed anew;
/// what ended the attempt before it is not.
pub async fn what_was_said_is_kept_until_another_attempt_begins(trial: &mut Trial) {
    let first = trial.running(Lease::Pulled).await;
    let fail = |held: &Held| said(Change::new(held.id, held.failed(Retry::Never)), 1);
    trial.applied(fail(&first)).await;
    assert!(is_repeated(&refused(trial, fail(&first)).await));
    trial.happen(first.id, Event::RetryRequested).await;
    assert!(is_repeated(&refused(trial, fail(&first)).await), "waiting");
    let second = trial.claim_one_as(Lease::Pulled).await;
    assert!(!is_repeated(&refused(trial, fail(&first)).await));
    trial.advance(LEASE_FOR);
    trial.happen(second.id, second.lease_expired()).await;
    assert!(!is_repeated(&refused(trial, fail(&first)).await));
    assert!(!is_repeated(&refused(trial, fail(&second)).await));
    let third = trial.claim_one_as(Lease::Pulled).await;
    trial.applied(fail(&third)).await;
    assert!(is_repeated(&refused(trial, fail(&third)).await));
}

/// What ended an attempt is known again by who opens a durable store next.
pub async fn what_was_said_survives_a_reopen(trial: &mut Trial) {
    let mut ended = Vec::new();
    for n in 0..4 {
        let held = trial.running(Lease::Pulled).await;
        trial
            .applied(said(every_end(&held).swap_remove(n), 1))
            .await;
        if !trial.job(held.id).await.status.state.is_final() {
            // Out of the way of the next claim; it is no other attempt.
            trial.happen(held.id, Event::CancelRequested).await;
        }
        ended.push((n, held));
    }
    if !trial.reopen().await {
        return;
    }
    for (n, held) in ended {
        let again = |digest| said(every_end(&held).swap_remove(n), digest);
        assert!(is_repeated(&refused(trial, again(1)).await), "{n}");
        assert!(!is_repeated(&refused(trial, again(2)).await), "{n}");
    }
}

/// A lease that a worker pulls ends when its attempt times out, and is told apart from one that
/// nobody extended. One of a node's own is as long as it was asked for: the node keeps the time.
pub async fn a_pulled_lease_is_no_longer_than_its_attempt_may_run(trial: &mut Trial) {
    let timeout = LEASE_FOR / 2;
    let submit = async |timeout| trial.submit(|job| job.spec_mut().timeout = timeout).await;
    let claim = async |lease| {
        let wanted = Want { lease, ..want(1) };
        Held::from(trial.claim(wanted).await.remove(0))
    };
    let until = |held: &Held| held.job.status.lease_expires_at;
    submit(timeout).await;
    let short = claim(Lease::Pulled).await;
    assert_eq!(until(&short), trial.now().after(timeout));
    submit(timeout).await;
    let node = claim(Lease::Node).await;
    assert_eq!(until(&node), trial.now().after(LEASE_FOR));
    submit(LEASE_FOR * 2).await;
    let long = claim(Lease::Pulled).await;
    assert_eq!(until(&long), trial.now().after(LEASE_FOR));

    trial.advance(timeout);
    expect_overdue(trial, &[(&short, OverdueReason::Timeout(short.claim))]).await;
    trial.happen(node.id, node.succeeded()).await;
    trial.advance(LEASE_FOR.saturating_sub(timeout + TICK));
    // As long as its attempt may run, and no longer.
    let most: Timestamp = trial.now().after(LEASE_FOR + TICK);
    trial.happen(long.id, long.extended(most)).await;
    trial.advance(LEASE_FOR + TICK);
    let expected = [
        (&short, OverdueReason::Timeout(short.claim)),
        (&long, OverdueReason::Timeout(long.claim)),
    ];
    expect_overdue(trial, &expected).await;
    let timed_out = Event::LeaseExpired {
        claim: long.claim,
        retry_in: Duration::ZERO,
        is_timeout: true,
    };
    let job = trial.happen(long.id, timed_out).await;
    assert_eq!(job.status.state, State::Waiting);
    let kind = job.errors.last().map(|error| error.failure.kind);
    assert_eq!(kind, Some(FailureKind::Timeout));
}

async fn expect_overdue(trial: &Trial, expected: &[(&Held, OverdueReason)]) {
    let overdue = trial.overdue().await.into_iter();
    let seen: Vec<_> = overdue
        .map(|Overdue { id, reason, .. }| (id, reason))
        .collect();
    let expected: Vec<_> = expected
        .iter()
        .map(|(held, reason)| (held.id, *reason))
        .collect();
    assert_eq!(seen, expected);
}

/// Ends a job, so that no later claim of the case gets it.
async fn put_away(trial: &Trial, held: &Held) {
    if !trial.job(held.id).await.status.state.is_final() {
        trial.happen(held.id, Event::CancelRequested).await;
    }
}
