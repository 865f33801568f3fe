//! A worker without the job's current claim changes nothing.

use super::Trial;
use super::trial::{Held, LEASE_FOR, done, line, payload};
use crate::store::{Change, Found, Refused};
use anteroom_core::{ClaimNumber, Event, HandBack, Lease, Rejected, Retry, State};
use std::time::Duration;

/// Everything that a worker can say, under the claim that it holds.
fn everything_it_says(held: &Held, trial: &Trial) -> Vec<Change> {
    let soon = Retry::In(Duration::ZERO);
    let longer = trial.now().after(LEASE_FOR * 9);
    vec![
        held.success(payload("text/plain", "too late")),
        Change::new(held.id, held.failed(soon)),
        Change::new(held.id, held.failed(Retry::Never)),
        Change::new(held.id, held.released(HandBack::Drain)),
        Change::new(held.id, held.released(HandBack::Busy)),
        Change::new(held.id, held.extended(longer)),
        held.says(vec![line("too late")]),
    ]
}

/// Everything that is said of a claim by others than its holder.
fn everything_said_of(held: &Held) -> Vec<Change> {
    vec![
        Change::new(held.id, held.lease_expired()),
        Change::new(held.id, held.crashed()),
    ]
}

/// Sees that each of the changes is refused for the lost lease and changes nothing.
async fn all_are_refused(trial: &Trial, changes: Vec<Change>) {
    for change in changes {
        let (id, what) = (change.id, format!("{:?}", change.event));
        let before = done("result", trial.store().result(id).await);
        let Some((job, _)) = before.clone().here() else {
            panic!("{id} should be there");
        };
        let applied = trial.apply(change).await;
        let refused = Err(Refused::Rejected(Rejected::LeaseLost, Box::new(job)));
        assert_eq!(applied, refused, "{what}");
        let after = done("result", trial.store().result(id).await);
        assert_eq!(after, before, "{what} was refused and changed something");
    }
}

/// A worker whose job was taken back and claimed anew changes nothing, whatever it says.
pub async fn a_late_worker_changes_nothing(trial: &mut Trial) {
    for lease in [Lease::Node, Lease::Pulled] {
        let late = trial.running(lease).await;
        trial.advance(LEASE_FOR);
        trial.happen(late.id, late.lease_expired()).await;
        let says = || {
            let mut says = everything_it_says(&late, trial);
            says.extend(everything_said_of(&late));
            says
        };
        all_are_refused(trial, says()).await;
        let current = trial.claim_one_as(lease).await;
        assert_eq!(current.id, late.id);
        all_are_refused(trial, says()).await;
        let result = payload("text/plain", "in time");
        let ended = trial.apply(current.success(result)).await;
        assert!(ended.is_ok(), "{ended:?}");
        all_are_refused(trial, says()).await;
        all_are_refused(trial, everything_it_says(&current, trial)).await;
    }
}

/// A claim that was drawn for another job, or not drawn yet, or never, is no claim of this one.
pub async fn a_claim_of_another_job_is_no_claim(trial: &mut Trial) {
    let (first, second) = (
        trial.running(Lease::Node).await,
        trial.running(Lease::Node).await,
    );
    let waiting = trial.submit_plain().await;
    for claim in [
        ClaimNumber::NONE,
        ClaimNumber::new(1),
        second.claim,
        second.claim.next(),
        ClaimNumber::new(u64::from(u32::MAX) << 31),
    ] {
        for id in [first.id, waiting] {
            let held = Held {
                id,
                claim,
                ..first.clone()
            };
            all_are_refused(trial, everything_it_says(&held, trial)).await;
            all_are_refused(trial, everything_said_of(&held)).await;
        }
    }
    trial.happen(first.id, first.succeeded()).await;
}

/// A pulled lease is lost at the instant it runs out, although nobody took the job away.
pub async fn a_pulled_lease_that_ran_out_is_lost(trial: &mut Trial) {
    let held = trial.running(Lease::Pulled).await;
    trial.advance(LEASE_FOR);
    all_are_refused(trial, everything_it_says(&held, trial)).await;
    assert_eq!(trial.job(held.id).await.status.state, State::Running);
}

/// A node's lease that ran out still settles as long as nobody took the job away.
pub async fn a_node_lease_that_ran_out_still_settles(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    trial.advance(LEASE_FOR * 9);
    let job = trial.happen(held.id, held.succeeded()).await;
    assert_eq!(job.status.state, State::Succeeded);
}

/// A claim settles once: the first result stays, and a second is refused.
pub async fn a_claim_settles_once(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    let first = payload("text/plain", "first");
    let settled = trial.apply(held.success(first.clone())).await;
    all_are_refused(trial, everything_it_says(&held, trial)).await;
    let kept = done("result", trial.store().result(held.id).await);
    let settled = settled.ok().map(|job| (job, Some(first)));
    assert_eq!(Some(kept), settled.map(Found::Here));
}

/// Of several settles of one claim at once, one counts, and its result is the one that is kept.
pub async fn of_several_settles_at_once_one_counts(trial: &mut Trial) {
    for _ in 0..5 {
        let held = trial.running(Lease::Pulled).await;
        let mut settles = tokio::task::JoinSet::new();
        for n in 0..8 {
            let (store, held) = (trial.store().clone(), held.clone());
            let result = payload("text/plain", format!("result {n}"));
            settles.spawn(async move {
                let change = held.success(result.clone());
                let applied = done("apply", store.apply(vec![change]).await);
                applied.iter().all(Result::is_ok).then_some(result)
            });
        }
        let counted: Vec<_> = settles.join_all().await.into_iter().flatten().collect();
        assert_eq!(counted.len(), 1, "{counted:?}");
        let kept = done("result", trial.store().result(held.id).await);
        let kept = kept.here().and_then(|(_, result)| result);
        assert_eq!(kept.as_ref(), counted.first());
    }
}

/// Extending keeps a lease from running out, never shortens it, and keeps the job's version.
pub async fn extending_keeps_the_lease_and_the_version(trial: &mut Trial) {
    for lease in [Lease::Node, Lease::Pulled] {
        let held = trial.running(lease).await;
        let before = trial.job(held.id).await;
        let until = trial.now().after(LEASE_FOR * 2);
        let mut longer = before.clone();
        longer.status.lease_expires_at = until;
        for asked in [until, trial.now(), until.before(LEASE_FOR)] {
            let extended = trial.happen(held.id, held.extended(asked)).await;
            assert_eq!(extended, longer, "{lease:?} until {asked:?}");
            assert_eq!(trial.job(held.id).await, longer);
        }
        trial.advance_almost(LEASE_FOR * 2);
        assert!(trial.overdue().await.is_empty());
        let early = trial
            .apply(Change::new(held.id, held.lease_expired()))
            .await;
        let not_yet = Refused::Rejected(Rejected::NotYet, Box::new(longer));
        assert_eq!(early, Err(not_yet));
        let event = Event::Succeeded { claim: held.claim };
        trial.happen(held.id, event).await;
    }
}
