//! What was acknowledged is there after a restart, and a dead process's jobs come back.
//!
//! Stores that do not survive being closed are not tried by the cases that open one again.

use super::Trial;
use super::trial::{Held, done, ids, poll_once, soon, want, want_and_wait};
use crate::store::{Change, Deleted, Filter, Found, OverdueReason, Page, StoreError};
use anteroom_core::limits::{LEASE_GRACE_MAX, LEASE_MAX};
use anteroom_core::{
    Event, HandBack, Idempotency, Job, JobId, Lease, Payload, QueueDefaults, Rejected, Retry, State,
};
use std::time::Duration;

/// All that a store knows: the list with inputs and results, and counts.
pub(super) async fn everything(trial: &Trial) -> Vec<(Job, Payload, Option<Payload>)> {
    let page = Page {
        size: 1_000,
        after: None,
    };
    let listing = done("list", trial.store().list(&Filter::default(), page).await);
    let mut all = Vec::new();
    for job in listing.jobs {
        let id = job.spec.id;
        let result = done("result", trial.store().result(id).await).here();
        let input = done("input", trial.store().input(id).await).here();
        let (Some((job, result)), Some(input)) = (result, input) else {
            panic!("{id} is listed and not there");
        };
        all.push((job, input, result));
    }
    all
}

/// Jobs in every state are after a reopen what they were before, and ready ones in their order.
pub async fn jobs_in_every_state_survive_a_reopen(trial: &mut Trial) {
    let failed = trial.running(Lease::Node).await;
    trial.happen(failed.id, failed.failed(Retry::Never)).await;
    let cancelled = trial.submit_plain().await;
    trial.happen(cancelled, Event::CancelRequested).await;
    for result in super::trial::odd_payloads() {
        let held = trial.running(Lease::Node).await;
        assert!(trial.apply(held.success(result)).await.is_ok());
    }
    let second = Duration::from_secs(1);
    let retried = trial.running(Lease::Node).await;
    let later = retried.failed(Retry::In(second));
    trial.happen(retried.id, later).await;
    let deleted = trial.submit_plain().await;
    trial.happen(deleted, Event::CancelRequested).await;
    let gone = done("delete", trial.store().delete(deleted, None).await);
    assert_eq!(gone, Deleted::Done);
    let plain = trial.submit_plain().await;
    let urgent = super::trial::priority(1);
    let urgent = trial.submit(|job| job.spec_mut().priority = urgent).await;
    let before = everything(trial).await;
    let counts = done("counts", trial.store().counts().await);
    if !trial.reopen().await {
        return;
    }
    assert_eq!(everything(trial).await, before);
    assert_eq!(done("counts", trial.store().counts().await), counts);
    assert_eq!(trial.found(deleted).await, Found::Gone);
    assert_eq!(ids(&trial.claim(want(9)).await), [urgent, plain]);
    let claiming = trial.store().claim(want_and_wait(9));
    trial.advance(second);
    let claimed = done("claim", soon("the scheduled job", claiming).await);
    assert_eq!(ids(&claimed), [retried.id]);
}

/// Timers go on after a reopen: retention, deadlines and the memory of what is gone.
pub async fn what_runs_out_runs_out_after_a_reopen_too(trial: &mut Trial) {
    let second = Duration::from_secs(1);
    let finished = trial.submit(|job| job.spec_mut().retain = second).await;
    trial.happen(finished, Event::CancelRequested).await;
    let deadline = trial.now().after(second);
    let waiting = trial
        .submit(|job| job.status.start_before = Some(deadline))
        .await;
    if !trial.reopen().await {
        return;
    }
    assert_eq!(done("prune", trial.store().prune(9).await), 0);
    assert_eq!(trial.overdue().await, []);
    trial.advance(second * 2);
    let overdue = trial.overdue().await;
    assert_eq!(overdue.len(), 1, "{overdue:?}");
    assert_eq!(
        (overdue[0].id, overdue[0].reason),
        (waiting, OverdueReason::Deadline)
    );
    assert_eq!(done("prune", trial.store().prune(9).await), 1);
    assert_eq!(trial.found(finished).await, Found::Gone);
    assert!(trial.reopen().await);
    assert_eq!(trial.found(finished).await, Found::Gone);
}

/// Claims drawn after a reopen have greater numbers than any drawn before, used or not.
pub async fn claim_numbers_rise_over_a_reopen(trial: &mut Trial) {
    let mut last = trial.running(Lease::Node).await;
    for _ in 0..3 {
        if !trial.reopen().await {
            return;
        }
        let next = trial.running(Lease::Node).await;
        assert!(
            next.claim > last.claim,
            "{} after {}",
            next.claim,
            last.claim
        );
        last = next;
    }
}

/// Jobs that a process ran when it died are overdue at once when the store is opened again.
pub async fn running_jobs_of_a_dead_process_are_overdue(trial: &mut Trial) {
    let dead: [Held; 2] = [
        trial.running(Lease::Node).await,
        trial.running(Lease::Node).await,
    ];
    trial.happen(dead[1].id, Event::CancelRequested).await;
    if !trial.reopen().await {
        return;
    }
    let alive = trial.running(Lease::Node).await;
    let overdue = trial.overdue().await;
    let seen: Vec<_> = overdue.iter().map(|job| (job.id, job.reason)).collect();
    let expected = dead
        .each_ref()
        .map(|held| (held.id, OverdueReason::Process(held.claim)));
    assert_eq!(seen, expected);
    assert!(overdue.iter().all(|job| job.attempt == 1), "{overdue:?}");
    for (held, state) in dead.iter().zip([State::Waiting, State::Cancelled]) {
        let job = trial.happen(held.id, held.crashed()).await;
        assert_eq!(job.status.state, state);
    }
    assert_eq!(trial.overdue().await, []);
    let again = trial.claim_one().await;
    assert_eq!((again.id, again.job.status.attempt), (dead[0].id, 2));
    // Nobody holds the claims of before any more.
    for held in &dead {
        let late = trial.apply(Change::new(held.id, held.succeeded())).await;
        let lost = matches!(
            late,
            Err(crate::store::Refused::Rejected(Rejected::LeaseLost, _))
        );
        assert!(lost, "{late:?}");
    }
    trial.happen(again.id, again.succeeded()).await;
    trial.happen(alive.id, alive.succeeded()).await;
}

/// A pulled lease belongs to no process: after a reopen it can be extended and settled.
pub async fn pulled_leases_survive_a_reopen(trial: &mut Trial) {
    let settles = trial.running(Lease::Pulled).await;
    let is_lost = trial.running(Lease::Pulled).await;
    if !trial.reopen().await {
        return;
    }
    assert_eq!(trial.overdue().await, []);
    let until = trial.now().after(LEASE_MAX);
    trial.happen(settles.id, settles.extended(until)).await;
    let settled = trial.happen(settles.id, settles.succeeded()).await;
    assert_eq!(settled.status.state, State::Succeeded);
    // A store may give it longer than it had, and no more than that.
    trial.advance(super::trial::LEASE_FOR.max(LEASE_GRACE_MAX));
    let overdue = trial.overdue().await;
    let seen: Vec<_> = overdue.iter().map(|job| (job.id, job.reason)).collect();
    assert_eq!(seen, [(is_lost.id, OverdueReason::Lease(is_lost.claim))]);
}

/// After a reopen a pulled lease is good for as long as it was taken for, whatever happened to its job
/// since: its holder could not extend it while nobody listened.
pub async fn a_pulled_lease_has_its_own_length_after_a_reopen(trial: &mut Trial) {
    let held = trial.running(Lease::Pulled).await;
    let tick = Duration::from_millis(1);
    trial.advance(super::trial::LEASE_FOR.saturating_sub(tick));
    trial.happen(held.id, Event::CancelRequested).await;
    trial.happen(held.id, held.extended(trial.now())).await;
    if !trial.reopen().await {
        return;
    }
    trial.advance(super::trial::LEASE_FOR.saturating_sub(tick));
    trial.happen(held.id, held.succeeded()).await;
}

/// A lease that is taken at the very instant at which another of the same job was taken and handed back
/// ends when that would have ended. It was kept without its length, and was lost by a restart.
pub async fn a_lease_taken_again_at_once_has_its_own_length_after_a_reopen(trial: &mut Trial) {
    let first = trial.running(Lease::Pulled).await;
    trial
        .happen(first.id, first.released(HandBack::Drain))
        .await;
    let held = trial.claim_one_as(Lease::Pulled).await;
    let tick = Duration::from_millis(1);
    trial.advance(super::trial::LEASE_FOR.saturating_sub(tick));
    if !trial.reopen().await {
        return;
    }
    trial.advance(super::trial::LEASE_FOR.saturating_sub(tick));
    trial.happen(held.id, held.succeeded()).await;
}

/// A closed store refuses everything.
pub async fn a_closed_store_refuses_everything(trial: &mut Trial) {
    let held = trial.running(Lease::Node).await;
    let store = trial.store().clone();
    soon("close", store.close()).await;
    let page = Page {
        size: 9,
        after: None,
    };
    let (id, all) = (held.id, Filter::default());
    let change = Change::new(id, held.succeeded());
    let job = trial.new_job();
    let refused = |what: &str, error: Option<StoreError>| {
        let is_closed = matches!(error, Some(StoreError::Closed));
        assert!(is_closed, "{what}: {error:?}");
    };
    refused("insert", store.insert(vec![job]).await.err());
    let key = anteroom_core::IdempotencyKey::new("k");
    let key = key.unwrap_or_else(|error| panic!("{error}"));
    let by = Idempotency {
        scope: "".into(),
        key,
    };
    let task = super::trial::name("task");
    refused("remembers", store.remembers(&task, &by).await.err());
    refused("claim", store.claim(want(1)).await.err());
    refused("waiting claim", store.claim(want_and_wait(1)).await.err());
    refused("apply", store.apply(vec![change]).await.err());
    refused("overdue", store.overdue(9).await.err());
    refused("prune", store.prune(9).await.err());
    refused("delete", store.delete(id, None).await.err());
    refused("get", store.get(id).await.err());
    refused("input", store.input(id).await.err());
    refused("result", store.result(id).await.err());
    refused("list", store.list(&all, page).await.err());
    refused("counts", store.counts().await.err());
    refused("queues", store.queues().await.err());
    refused("set_queues", store.set_queues(Vec::new()).await.err());
    let configured = store.configure_queues(QueueDefaults::default()).await;
    refused("configure_queues", configured.err());
    let kind = super::trial::name("kind");
    refused("document", store.document(&kind, &kind).await.err());
    refused("documents", store.documents(&kind).await.err());
    refused("put_documents", store.put_documents(Vec::new()).await.err());
    // Once more does no harm.
    soon("close", store.close()).await;
}

/// Closing finishes what was begun: what it then acknowledges is there, and nothing else is.
pub async fn closing_finishes_what_was_begun(trial: &mut Trial) {
    let store = trial.store().clone();
    let mut inserted: Vec<(JobId, bool)> = Vec::new();
    {
        let mut inserts = Vec::new();
        for _ in 0..20 {
            let job = trial.new_job();
            let id = job.spec.id;
            let mut insert = store.insert(vec![job]);
            let polled = poll_once(insert.as_mut()).await;
            inserts.push((id, insert, polled));
        }
        soon("close", store.close()).await;
        for (id, insert, polled) in inserts {
            let answer = match polled {
                std::task::Poll::Ready(answer) => answer,
                std::task::Poll::Pending => soon("the insert", insert).await,
            };
            match answer {
                Ok(_) => inserted.push((id, true)),
                Err(StoreError::Closed) => inserted.push((id, false)),
                Err(error) => panic!("the insert failed: {error}"),
            }
        }
    }
    drop(store);
    if !trial.reopen().await {
        return;
    }
    for (id, is_there) in inserted {
        let found = trial.found(id).await.here();
        assert_eq!(found.is_some(), is_there, "{id}");
    }
}
