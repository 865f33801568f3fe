//! What is inserted can be read, as it was, whole or not at all.

use super::Trial;
use super::trial::{TICK, done, ids, name, odd_payloads, payload, poll_once, priority, soon, want};
use crate::store::{Change, Deleted, Filter, Found, Inserted, NewJob, Page, Refused, StoreError};
use anteroom_core::limits::{TAG_VALUE_BYTES_MAX, TAGS_MAX};
use anteroom_core::{Event, Job, JobId, Label, State, Timestamp};
use std::pin::pin;
use std::time::Duration;

/// Jobs of one insert, in cases about inserts that must not be seen half done.
const BATCH: usize = 100;

/// A job can be read as it was submitted, with its input and without a result.
pub async fn an_inserted_job_can_be_read(trial: &mut Trial) {
    let mut plain = trial.new_job();
    plain.status = anteroom_core::Status::submitted(trial.now(), None, 1);
    for new in [plain, job_with_everything(trial)] {
        let NewJob {
            spec,
            status,
            input,
            idempotency: _,
        } = new.clone();
        let id = spec.id;
        let job = Job {
            spec,
            status,
            errors: Vec::new(),
            result: None,
            progress: None,
        };
        trial.insert(vec![new]).await;
        assert_eq!(trial.job(id).await, job);
        let read = done("input", trial.store().input(id).await);
        assert_eq!(read, Found::Here(input));
        let read = done("result", trial.store().result(id).await);
        assert_eq!(read, Found::Here((job, None)));
    }
}

fn job_with_everything(trial: &Trial) -> NewJob {
    let mut job = trial.new_job();
    let label = |text: &str| Label::new(text).ok();
    job.spec_mut().group = label("Customer \u{e4}/7");
    job.spec_mut().priority = priority(0);
    job.spec_mut().created_at = Timestamp::from_millis(1);
    job.spec_mut().timeout = Duration::from_millis(101);
    job.spec_mut().retain = Duration::ZERO;
    job.spec_mut().unique_key = label(&"k".repeat(255));
    job.spec_mut().callback_url = Some("https://example.org/?a=b".into());
    let value = "\u{e4}".repeat(TAG_VALUE_BYTES_MAX / 2);
    job.spec_mut().tags = (0..TAGS_MAX)
        .map(|n| (name(&format!("tag-{n}")), value.clone()))
        .collect();
    let start_before = trial.now().after(Duration::from_millis(5_001));
    let run_at = trial.now().after(Duration::from_millis(1_001));
    job.status = anteroom_core::Status::submitted(run_at, Some(start_before), 100);
    job
}

/// Inputs are kept byte for byte, with their content type, whatever they are.
pub async fn inputs_are_kept_byte_for_byte(trial: &mut Trial) {
    for input in odd_payloads() {
        let id = trial
            .submit(|job| {
                job.spec_mut().input = input.info();
                job.input = input.clone();
            })
            .await;
        let read = done("input", trial.store().input(id).await);
        assert_eq!(read, Found::Here(input.clone()));
        let held = trial.claim_one().await;
        assert_eq!((held.id, held.input), (id, input));
    }
}

/// Nobody sees a part of the jobs of one insert.
pub async fn an_insert_is_seen_whole_or_not_at_all(trial: &mut Trial) {
    let batches: Vec<Vec<NewJob>> = (0..10)
        .map(|_| (0..BATCH).map(|_| trial.new_job()).collect())
        .collect();
    let inserts = async {
        for batch in batches {
            trial.insert(batch).await;
        }
    };
    let mut inserts = pin!(inserts);
    loop {
        let is_done = poll_once(inserts.as_mut()).await.is_ready();
        let ready = ready_jobs(trial).await;
        assert_eq!(ready % BATCH, 0, "{ready} jobs are there");
        if is_done {
            assert_eq!(ready, 10 * BATCH);
            return;
        }
        tokio::task::yield_now().await;
    }
}

/// An insert that was dropped in the middle stored all of its jobs or none.
pub async fn a_dropped_insert_stores_all_or_none(trial: &mut Trial) {
    for _ in 0..10 {
        let batch = (0..BATCH).map(|_| trial.new_job()).collect();
        let mut insert = trial.store().insert(batch);
        let _dropped = poll_once(insert.as_mut()).await;
        drop(insert);
        trial.round_trip().await;
        let ready = ready_jobs(trial).await;
        assert_eq!(ready % BATCH, 0, "{ready} jobs are there");
    }
}

/// Counts the ready jobs, those of round trips apart.
async fn ready_jobs(trial: &Trial) -> usize {
    let counts = done("counts", soon("counts", trial.store().counts()).await);
    let counted = counts.iter().filter(|of| of.task == name("task"));
    let ready: u64 = counted.map(|of| of.ready).sum();
    usize::try_from(ready).unwrap_or(usize::MAX)
}

/// An insert with an id that is taken stores none of its jobs and leaves the one that has it.
pub async fn an_insert_with_a_taken_id_stores_nothing(trial: &mut Trial) {
    let first = trial.submit_plain().await;
    let before = trial.job(first).await;
    let batch = || vec![trial.new_job(), trial.new_job(), trial.new_job()];
    let mut taken = batch();
    taken[1].spec_mut().id = first;
    let mut twice = batch();
    twice[2].spec_mut().id = twice[0].spec.id;
    for jobs in [taken, twice] {
        let repeated = jobs[1..].iter().map(|job| job.spec.id);
        let repeated = repeated
            .clone()
            .find(|id| *id == first || *id == jobs[0].spec.id);
        let new: Vec<JobId> = jobs.iter().map(|job| job.spec.id).collect();
        let refused = trial.store().insert(jobs).await;
        let named = match &refused {
            Err(StoreError::Exists { id }) => Some(*id),
            _ => None,
        };
        assert_eq!(named, repeated, "{refused:?}");
        for id in new.into_iter().filter(|id| *id != first) {
            assert_eq!(trial.found(id).await, Found::Unknown, "{id}");
        }
        assert_eq!(trial.job(first).await, before);
    }
    let claimed = trial.claim(want(10)).await;
    assert_eq!(ids(&claimed), [first]);
}

/// Under an id that no job has, there is nothing to read, change or delete.
pub async fn an_unknown_id_is_unknown(trial: &mut Trial) {
    // A neighbour with the same place in the order must not be taken for it.
    let neighbour = trial.submit_plain().await;
    let mut bytes = *neighbour.as_bytes();
    bytes[15] ^= 1;
    for id in [JobId::from_bytes(bytes), trial.new_job().spec.id] {
        assert_eq!(trial.found(id).await, Found::Unknown);
        let input = done("input", trial.store().input(id).await);
        assert_eq!(input, Found::Unknown);
        let result = done("result", trial.store().result(id).await);
        assert_eq!(result, Found::Unknown);
        let change = Change::new(id, Event::CancelRequested);
        assert_eq!(trial.apply(change).await, Err(Refused::Unknown));
        let deleted = done("delete", trial.store().delete(id, None).await);
        assert_eq!(deleted, Deleted::Unknown);
    }
    assert_eq!(trial.job(neighbour).await.status.state, State::Waiting);
}

/// Jobs with the same order key are different jobs, in one order everywhere: that of their insertion,
/// or, where several nodes insert and nobody's clock tells it, that of their ids.
pub async fn jobs_with_one_order_key_are_told_apart(trial: &mut Trial) {
    let mut jobs: Vec<NewJob> = (0..5).map(|_| trial.new_job()).collect();
    let first = *jobs[0].spec.id.as_bytes();
    for (n, job) in (0..).zip(&mut jobs) {
        // The last byte is random in a UUIDv7; falling here, so that it cannot be the order.
        let mut bytes = first;
        bytes[15] = 100 - n;
        job.spec_mut().id = JobId::from_bytes(bytes);
        job.input = payload("text/plain", format!("number {n}"));
    }
    let inputs: Vec<_> = jobs.iter().map(|job| job.input.clone()).collect();
    let all: Vec<JobId> = jobs.iter().map(|job| job.spec.id).collect();
    trial.insert(jobs.split_off(2)).await;
    trial.insert(jobs).await;
    for (id, input) in all.iter().zip(inputs) {
        assert_eq!(trial.job(*id).await.spec.id, *id);
        let read = done("input", trial.store().input(*id).await);
        assert_eq!(read, Found::Here(input));
    }
    let by_insertion = vec![all[2], all[3], all[4], all[0], all[1]];
    let by_id: Vec<JobId> = all.iter().rev().copied().collect();
    let page = Page {
        size: 10,
        after: None,
    };
    let listing = done("list", trial.store().list(&Filter::default(), page).await);
    let listed: Vec<JobId> = listing.jobs.iter().rev().map(|job| job.spec.id).collect();
    assert!(listed == by_insertion || listed == by_id, "{listed:?}");
    assert_eq!(ids(&trial.claim(want(10)).await), listed, "claimed");
}

/// A job whose deadline for the start has passed when it is stored is refused, and with it all of its
/// insert. What is none the less known already is answered as ever.
pub async fn a_job_that_is_too_late_already_is_not_stored(trial: &mut Trial) {
    let deadline = trial.now().after(TICK);
    let late = || {
        let mut job = trial.new_job();
        job.status.start_before = Some(deadline);
        job
    };
    let (in_time, mut known) = (late(), late());
    known.spec_mut().unique_key = Some(super::keys::label("k"));
    trial.advance(TICK);
    trial.insert(vec![in_time, known.clone()]).await;
    trial.advance(TICK);
    let (other, late_one) = (trial.new_job(), late());
    let ids = [other.spec.id, late_one.spec.id];
    let refused = trial.store().insert(vec![other, late_one]).await;
    assert!(
        matches!(&refused, Err(StoreError::TooLate { id }) if *id == ids[1]),
        "{refused:?}"
    );
    for id in ids {
        assert_eq!(trial.found(id).await, Found::Unknown);
    }
    let mut again = late();
    again
        .spec_mut()
        .unique_key
        .clone_from(&known.spec.unique_key);
    let inserted = done("insert", trial.store().insert(vec![again]).await);
    assert!(
        matches!(&inserted[..], [Inserted::Duplicate(_)]),
        "{inserted:?}"
    );
}
