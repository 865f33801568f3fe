//! Finished jobs are deleted or forgotten, no others, and their ids are remembered for a while.

use super::Trial;
use super::trial::{TICK, done, payload, want};
use crate::store::{Change, Deleted, Filter, Found, Page, Refused};
use anteroom_core::limits::GONE_KEPT;
use anteroom_core::{Event, JobId, Lease, Retry};
use std::time::Duration;

const PAGE: Page = Page {
    size: 100,
    after: None,
};

async fn succeeded(trial: &Trial, retain: Duration) -> JobId {
    let id = trial.submit(|job| job.spec_mut().retain = retain).await;
    let held = trial.claim_one().await;
    let result = payload("text/plain", "done");
    assert!(trial.apply(held.success(result)).await.is_ok());
    id
}

/// Sees that nothing is left of a job but that there was one.
async fn is_gone(trial: &Trial, id: JobId) {
    assert_eq!(trial.found(id).await, Found::Gone);
    let input = done("input", trial.store().input(id).await);
    assert_eq!(input, Found::Gone);
    let result = done("result", trial.store().result(id).await);
    assert_eq!(result, Found::Gone);
    for event in [Event::RetryRequested, Event::CancelRequested] {
        let applied = trial.apply(Change::new(id, event)).await;
        assert_eq!(applied, Err(Refused::Gone));
    }
    let deleted = done("delete", trial.store().delete(id, None).await);
    assert_eq!(deleted, Deleted::Gone);
    let listing = done("list", trial.store().list(&Filter::default(), PAGE).await);
    assert!(listing.jobs.iter().all(|job| job.spec.id != id));
}

async fn prune(trial: &Trial, limit: usize) -> usize {
    done("prune", trial.store().prune(limit).await)
}

/// A finished job can be deleted, whatever its end; one that is not finished stays.
pub async fn only_a_finished_job_can_be_deleted(trial: &mut Trial) {
    let due = trial.now().after(Duration::from_secs(1));
    let scheduled = trial.submit(|job| job.status.run_at = due).await;
    let running = trial.running(Lease::Node).await;
    let ready = trial.submit_plain().await;
    for id in [scheduled, running.id, ready] {
        let job = trial.job(id).await;
        let deleted = done("delete", trial.store().delete(id, None).await);
        assert_eq!(deleted, Deleted::NotFinal(Box::new(job.clone())));
        assert_eq!(trial.job(id).await, job);
    }
    for id in [scheduled, ready] {
        trial.happen(id, Event::CancelRequested).await;
    }
    let failed = running.failed(Retry::Never);
    trial.happen(running.id, failed).await;
    let succeeded = succeeded(trial, Duration::from_secs(9)).await;
    for id in [scheduled, running.id, ready, succeeded] {
        let deleted = done("delete", trial.store().delete(id, None).await);
        assert_eq!(deleted, Deleted::Done);
        is_gone(trial, id).await;
    }
    trial.advance(Duration::from_secs(9));
    assert_eq!(prune(trial, 100).await, 0, "there is nothing left");
    assert!(trial.claim(want(9)).await.is_empty());
}

/// A deletion that was meant for another version of the job leaves it alone.
pub async fn a_deletion_of_another_version_is_refused(trial: &mut Trial) {
    let id = succeeded(trial, Duration::from_secs(9)).await;
    let job = trial.job(id).await;
    let version = job.status.version;
    for other in [0, version - 1, version + 1] {
        let deleted = done("delete", trial.store().delete(id, Some(other)).await);
        assert_eq!(deleted, Deleted::VersionDiffers(Box::new(job.clone())));
        assert_eq!(trial.job(id).await, job);
    }
    let deleted = done("delete", trial.store().delete(id, Some(version)).await);
    assert_eq!(deleted, Deleted::Done);
}

/// A finished job is forgotten once its retention is over, and no unfinished one ever.
pub async fn jobs_are_forgotten_once_their_retention_is_over(trial: &mut Trial) {
    let at_once = succeeded(trial, Duration::ZERO).await;
    let short = succeeded(trial, Duration::from_secs(10)).await;
    let long = succeeded(trial, Duration::from_secs(20)).await;
    let unfinished = trial
        .submit(|job| job.spec_mut().retain = Duration::ZERO)
        .await;
    assert_eq!(prune(trial, 100).await, 1);
    is_gone(trial, at_once).await;
    trial.advance_almost(Duration::from_secs(10));
    assert_eq!(prune(trial, 100).await, 0, "1 ms early");
    trial.job(short).await;
    trial.advance(TICK);
    assert_eq!(prune(trial, 100).await, 1);
    is_gone(trial, short).await;
    trial.job(long).await;
    trial.advance(Duration::from_secs(10));
    assert_eq!(prune(trial, 100).await, 1);
    is_gone(trial, long).await;
    assert_eq!(trial.claim_one().await.id, unfinished);
}

/// A job that was asked for again is kept, and forgotten by its second end.
pub async fn a_retried_job_is_kept_until_its_second_end(trial: &mut Trial) {
    let retain = Duration::from_secs(10);
    let id = trial.submit(|job| job.spec_mut().retain = retain).await;
    trial.happen(id, Event::CancelRequested).await;
    trial.advance(Duration::from_secs(9));
    trial.happen(id, Event::RetryRequested).await;
    trial.advance(Duration::from_secs(9));
    assert_eq!(prune(trial, 100).await, 0);
    trial.happen(id, Event::CancelRequested).await;
    trial.advance(Duration::from_secs(9));
    assert_eq!(prune(trial, 100).await, 0);
    trial.advance(Duration::from_secs(1));
    assert_eq!(prune(trial, 100).await, 1);
    is_gone(trial, id).await;
}

/// One call forgets no more jobs than its limit; the next goes on.
pub async fn pruning_stops_at_its_limit(trial: &mut Trial) {
    let mut all = Vec::new();
    for _ in 0..5 {
        all.push(succeeded(trial, Duration::ZERO).await);
    }
    let mut left = 5;
    for expected in [2, 2, 1, 0] {
        assert_eq!(prune(trial, 2).await, expected);
        left -= expected;
        let listing = done("list", trial.store().list(&Filter::default(), PAGE).await);
        assert_eq!(listing.jobs.len(), left);
    }
    for id in all {
        is_gone(trial, id).await;
    }
}

/// Ids are remembered as gone for a day after the job went, and then forgotten too.
pub async fn gone_ids_are_remembered_for_a_day(trial: &mut Trial) {
    let pruned = succeeded(trial, Duration::ZERO).await;
    assert_eq!(prune(trial, 100).await, 1);
    let second = Duration::from_secs(1);
    trial.advance(second);
    let deleted = succeeded(trial, GONE_KEPT * 2).await;
    done("delete", trial.store().delete(deleted, None).await);
    trial.advance(GONE_KEPT.saturating_sub(second * 2));
    prune(trial, 100).await;
    is_gone(trial, pruned).await;
    is_gone(trial, deleted).await;
    trial.advance(second);
    prune(trial, 100).await;
    assert_eq!(trial.found(pruned).await, Found::Unknown);
    is_gone(trial, deleted).await;
    trial.advance(second);
    prune(trial, 100).await;
    assert_eq!(trial.found(deleted).await, Found::Unknown);
}
