//! The same again: idempotency keys are remembered for a day, unique keys have one job at a time.

use super::Trial;
use super::trial::{TICK, done, name, payload, poll_once, soon, want};
use crate::store::{Change, Deleted, Found, Inserted, NewJob, Refused, StoreError};
use anteroom_core::limits::IDEMPOTENCY_KEPT;
use anteroom_core::{
    Event, Fingerprint, Idempotency, IdempotencyKey, JobId, Label, Lease, Rejected, Retry, State,
};
use futures_util::future::join_all;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

fn idempotency(scope: &str, key: &str) -> Idempotency {
    let key = IdempotencyKey::new(key).unwrap_or_else(|error| panic!("{key:?} {error}"));
    let scope = scope.into();
    Idempotency { scope, key }
}

pub(super) fn label(text: &str) -> Label {
    Label::new(text).unwrap_or_else(|error| panic!("{text:?} {error}"))
}

/// Returns a job to be inserted under a key, asking for what `asks_for` stands for.
fn keyed(trial: &Trial, key: &str, asks_for: u8) -> NewJob {
    NewJob {
        idempotency: Some((idempotency("", key), Fingerprint([asks_for; 32]))),
        ..trial.new_job()
    }
}

/// Returns a job to be inserted with a unique key.
fn unique(trial: &Trial, key: &str) -> NewJob {
    let mut job = trial.new_job();
    job.spec_mut().unique_key = Some(label(key));
    job
}

async fn insert(trial: &Trial, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, StoreError> {
    soon("insert", trial.store().insert(jobs)).await
}

async fn insert_one(trial: &Trial, job: NewJob) -> Inserted {
    let mut inserted = done("insert", insert(trial, vec![job]).await);
    assert_eq!(inserted.len(), 1, "answers to one job");
    inserted.remove(0)
}

/// Inserts a job that must be new, and returns its id.
async fn new(trial: &Trial, job: NewJob) -> JobId {
    let id = job.spec.id;
    let inserted = insert_one(trial, job).await;
    assert!(matches!(inserted, Inserted::New(_)), "{inserted:?}");
    id
}

/// Sees that inserting `job` gives job `id`, as it stands, under the key.
async fn is_replay(trial: &Trial, job: NewJob, id: JobId) {
    let not_stored = job.spec.id;
    let replayed = Inserted::Replayed {
        job: Box::new(trial.job(id).await),
        duplicate: false,
    };
    assert_eq!(insert_one(trial, job).await, replayed);
    assert_eq!(trial.found(not_stored).await, Found::Unknown);
}

/// Sees that inserting `job` gives job `id`, as it stands, by the unique key.
async fn is_duplicate(trial: &Trial, job: NewJob, id: JobId) {
    let not_stored = job.spec.id;
    let duplicate = Inserted::Duplicate(Box::new(trial.job(id).await));
    assert_eq!(insert_one(trial, job).await, duplicate);
    assert_eq!(trial.found(not_stored).await, Found::Unknown);
}

async fn unfinished(trial: &Trial) -> u64 {
    let counts = done("counts", soon("counts", trial.store().counts()).await);
    let each = counts.iter();
    each.map(|of| of.scheduled + of.ready + of.running).sum()
}

async fn remembers(trial: &Trial, key: &str) -> bool {
    let by = idempotency("", key);
    done(
        "remembers",
        trial.store().remembers(&name("task"), &by).await,
    )
}

/// A key gives its job again, as it stands by then, and stores no other.
pub async fn a_key_gives_its_job_again(trial: &mut Trial) {
    assert!(!remembers(trial, "k").await);
    let id = new(trial, keyed(trial, "k", 1)).await;
    assert!(remembers(trial, "k").await);
    is_replay(trial, keyed(trial, "k", 1), id).await;
    let held = trial.claim_one().await;
    is_replay(trial, keyed(trial, "k", 1), id).await;
    trial.happen(id, held.failed(Retry::In(SECOND))).await;
    assert_eq!(trial.job(id).await.errors.len(), 1);
    is_replay(trial, keyed(trial, "k", 1), id).await;
    trial.advance(SECOND);
    let held = trial.claim_one().await;
    let result = payload("text/plain", "done");
    assert!(trial.apply(held.success(result)).await.is_ok());
    is_replay(trial, keyed(trial, "k", 1), id).await;
    assert_eq!(unfinished(trial).await, 0);
}

/// A key is one of its task and of whoever it belongs to.
pub async fn a_key_is_one_of_its_task_and_scope(trial: &mut Trial) {
    let first = new(trial, keyed(trial, "k", 1)).await;
    let mut other_task = keyed(trial, "k", 2);
    other_task.spec_mut().task = name("other");
    let mut other_scope = keyed(trial, "k", 3);
    other_scope.idempotency = Some((idempotency("web", "k"), Fingerprint([3; 32])));
    let mut case = keyed(trial, "K", 4);
    case.spec_mut().queue = name("q");
    for job in [other_task, other_scope, case] {
        let id = new(trial, job.clone()).await;
        let mut again = job;
        again.spec_mut().id = trial.new_job().spec.id;
        is_replay(trial, again, id).await;
    }
    is_replay(trial, keyed(trial, "k", 1), first).await;
}

/// An insert with a key that was used for something else names it, and nothing of it is stored: no
/// job, no key and no unique key.
pub async fn a_reused_key_stores_nothing(trial: &mut Trial) {
    new(trial, keyed(trial, "k", 1)).await;
    let holder = new(trial, unique(trial, "held")).await;
    let mut with_both = unique(trial, "u");
    with_both.idempotency = Some((idempotency("", "both"), Fingerprint([1; 32])));
    let mut duplicate = unique(trial, "held");
    duplicate.idempotency = Some((idempotency("", "duplicate"), Fingerprint([1; 32])));
    let jobs = vec![
        trial.new_job(),
        keyed(trial, "new", 1),
        with_both,
        // Of one that is in the store, and of one that comes with it.
        duplicate,
        unique(trial, "u"),
        keyed(trial, "new", 1),
        keyed(trial, "k", 2),
        trial.new_job(),
    ];
    let all: Vec<JobId> = jobs.iter().map(|job| job.spec.id).collect();
    let refused = insert(trial, jobs).await;
    let is_named = matches!(refused, Err(StoreError::KeyReused { index: 6 }));
    assert!(is_named, "{refused:?}");
    for id in all {
        assert_eq!(trial.found(id).await, Found::Unknown);
    }
    for key in ["new", "both", "duplicate"] {
        assert!(!remembers(trial, key).await, "{key}");
    }
    assert_eq!(unfinished(trial).await, 2);
    new(trial, unique(trial, "u")).await;
    new(trial, keyed(trial, "new", 2)).await;
    is_duplicate(trial, unique(trial, "held"), holder).await;
    assert_eq!(trial.claim(want(99)).await.len(), 4);
}

/// A key twice in one insert: the second is a replay of the first, or refuses the whole.
pub async fn a_key_twice_in_one_insert_is_one_job(trial: &mut Trial) {
    let (first, second) = (keyed(trial, "k", 1), keyed(trial, "k", 1));
    let id = first.spec.id;
    let inserted = done("insert", insert(trial, vec![first, second]).await);
    let job = Box::new(trial.job(id).await);
    let duplicate = false;
    assert_eq!(
        inserted,
        [Inserted::New(None), Inserted::Replayed { job, duplicate }]
    );
    let refused = insert(trial, vec![keyed(trial, "l", 1), keyed(trial, "l", 2)]).await;
    let is_named = matches!(refused, Err(StoreError::KeyReused { index: 1 }));
    assert!(is_named, "{refused:?}");
    assert!(!remembers(trial, "l").await);
    assert_eq!(unfinished(trial).await, 1);
}

/// However many come at once, one is new, and the others give it.
pub async fn of_the_same_at_once_one_is_new(trial: &mut Trial) {
    let trial = &*trial;
    for round in 0..5 {
        let key = format!("round {round}");
        let inserts = (0..20).map(|_| {
            let job = keyed(trial, &key, 1);
            let id = job.spec.id;
            async move { (id, insert_one(trial, job).await) }
        });
        let mut given: Vec<JobId> = Vec::new();
        let mut stored = 0;
        for (id, inserted) in soon("20 inserts", join_all(inserts)).await {
            match inserted {
                Inserted::New(_) => {
                    stored += 1;
                    given.push(id);
                }
                Inserted::Replayed { job, duplicate } => {
                    assert!(!duplicate);
                    given.push(job.spec.id);
                }
                Inserted::Duplicate(job) => panic!("it has no unique key: {job:?}"),
            }
        }
        assert_eq!(stored, 1, "new jobs of 20 of the same");
        assert!(given.iter().all(|id| *id == given[0]), "{given:?}");
        assert_eq!(unfinished(trial).await, round + 1);
    }
}

/// A key whose job is gone refuses the whole insert: it makes no new one.
pub async fn a_key_whose_job_is_gone_makes_no_other(trial: &mut Trial) {
    let mut job = keyed(trial, "pruned", 1);
    job.spec_mut().retain = Duration::ZERO;
    let pruned = new(trial, job).await;
    let deleted = new(trial, keyed(trial, "deleted", 1)).await;
    for id in [pruned, deleted] {
        trial.happen(id, Event::CancelRequested).await;
    }
    assert_eq!(done("prune", trial.store().prune(9).await), 1);
    let delete = trial.store().delete(deleted, None).await;
    assert_eq!(done("delete", delete), Deleted::Done);
    trial.advance(IDEMPOTENCY_KEPT.saturating_sub(TICK));
    done("prune", trial.store().prune(9).await);
    for (key, id) in [("pruned", pruned), ("deleted", deleted)] {
        let plain = trial.new_job();
        let before = plain.spec.id;
        let refused = insert(trial, vec![plain, keyed(trial, key, 1)]).await;
        let Err(StoreError::KeyGone { index: 1, id: gone }) = refused else {
            panic!("{key}: {refused:?}");
        };
        assert_eq!(gone, id);
        assert_eq!(trial.found(before).await, Found::Unknown);
        let refused = insert(trial, vec![keyed(trial, key, 2)]).await;
        let is_reused = matches!(refused, Err(StoreError::KeyReused { index: 0 }));
        assert!(is_reused, "{refused:?}");
    }
    trial.advance(TICK);
    for key in ["pruned", "deleted"] {
        new(trial, keyed(trial, key, 1)).await;
    }
}

/// A key is remembered for a day by the store's clock, and is free for something else then,
/// pruned or not. A replay does not prolong it.
pub async fn a_key_is_remembered_for_a_day(trial: &mut Trial) {
    let first = new(trial, keyed(trial, "k", 1)).await;
    trial.advance(SECOND);
    let later = new(trial, keyed(trial, "later", 1)).await;
    trial.advance_almost(IDEMPOTENCY_KEPT.saturating_sub(SECOND));
    done("prune", trial.store().prune(9).await);
    assert!(remembers(trial, "k").await);
    is_replay(trial, keyed(trial, "k", 1), first).await;
    trial.advance(TICK);
    assert!(!remembers(trial, "k").await);
    let second = new(trial, keyed(trial, "k", 2)).await;
    is_replay(trial, keyed(trial, "k", 2), second).await;
    trial.advance_almost(SECOND);
    is_replay(trial, keyed(trial, "later", 1), later).await;
    trial.advance(TICK);
    // Forgetting the old one leaves the new one.
    done("prune", trial.store().prune(9).await);
    assert!(!remembers(trial, "later").await);
    is_replay(trial, keyed(trial, "k", 2), second).await;
    trial.advance_almost(IDEMPOTENCY_KEPT.saturating_sub(SECOND));
    is_replay(trial, keyed(trial, "k", 2), second).await;
    trial.advance(TICK);
    done("prune", trial.store().prune(9).await);
    new(trial, keyed(trial, "k", 3)).await;
}

/// An insert that was dropped in the middle is remembered with its job, or there is neither.
pub async fn a_dropped_insert_is_remembered_with_its_job_or_not_at_all(trial: &mut Trial) {
    for round in 0..10 {
        let key = format!("round {round}");
        let mut insert = trial.store().insert(vec![keyed(trial, &key, 1)]);
        let _dropped = poll_once(insert.as_mut()).await;
        drop(insert);
        let again = keyed(trial, &key, 1);
        let id = again.spec.id;
        let given = match insert_one(trial, again).await {
            Inserted::New(_) => id,
            Inserted::Replayed { job, .. } => job.spec.id,
            Inserted::Duplicate(job) => panic!("it has no unique key: {job:?}"),
        };
        assert_eq!(trial.job(given).await.status.state, State::Waiting);
        assert_eq!(unfinished(trial).await, round + 1);
    }
}

/// While a job of the task is unfinished, however it stands, none other has its unique key.
pub async fn a_unique_key_has_one_unfinished_job(trial: &mut Trial) {
    let due = trial.now().after(SECOND);
    let mut scheduled = unique(trial, "u");
    scheduled.status.run_at = due;
    let id = new(trial, scheduled).await;
    is_duplicate(trial, unique(trial, "u"), id).await;
    trial.advance(SECOND);
    is_duplicate(trial, unique(trial, "u"), id).await;
    let held = trial.claim_one().await;
    is_duplicate(trial, unique(trial, "u"), id).await;
    trial.happen(id, held.failed(Retry::In(SECOND))).await;
    is_duplicate(trial, unique(trial, "u"), id).await;
    trial.advance(SECOND);
    trial.claim_one().await;
    trial.happen(id, Event::CancelRequested).await;
    is_duplicate(trial, unique(trial, "u"), id).await;

    let mut other_task = unique(trial, "u");
    other_task.spec_mut().task = name("other");
    new(trial, other_task).await;
    new(trial, unique(trial, "U")).await;
    assert_eq!(unfinished(trial).await, 3);
    let (first, second) = (unique(trial, "v"), unique(trial, "v"));
    let id = first.spec.id;
    let inserted = done("insert", insert(trial, vec![first, second]).await);
    let job = Box::new(trial.job(id).await);
    assert_eq!(inserted, [Inserted::New(None), Inserted::Duplicate(job)]);
}

/// Every end frees a unique key, and nothing that happens to a finished job frees another's.
pub async fn every_end_frees_a_unique_key(trial: &mut Trial) {
    for end in 0..6 {
        let mut job = unique(trial, "u");
        job.status.start_before = (end == 5).then(|| trial.now());
        let id = new(trial, job).await;
        let claimed = trial.claim(want(usize::from(end < 4))).await;
        let held = claimed.into_iter().next().map(super::trial::Held::from);
        match (end, held) {
            (0, Some(held)) => {
                let result = payload("text/plain", "done");
                assert!(trial.apply(held.success(result)).await.is_ok());
            }
            (1, Some(held)) => drop(trial.happen(id, held.failed(Retry::Never)).await),
            (2, Some(held)) => {
                trial.happen(id, Event::CancelRequested).await;
                trial.happen(id, held.failed(Retry::In(SECOND))).await;
            }
            (3, Some(held)) => {
                trial.happen(id, Event::CancelRequested).await;
                trial.happen(id, held.crashed()).await;
            }
            (4, None) => drop(trial.happen(id, Event::CancelRequested).await),
            (_, None) => {
                trial.advance(TICK);
                trial.happen(id, Event::DeadlinePassed).await;
            }
            (_, Some(held)) => panic!("{held:?} was claimed"),
        }
        assert!(trial.job(id).await.status.state.is_final(), "{end}");
        let next = new(trial, unique(trial, "u")).await;
        let deleted = done("delete", trial.store().delete(id, None).await);
        assert_eq!(deleted, Deleted::Done);
        is_duplicate(trial, unique(trial, "u"), next).await;
        trial.happen(next, Event::CancelRequested).await;
    }
}

/// A retry takes the unique key again. Where another unfinished job has it, it is refused and
/// changes nothing; what else it is refused for comes first.
pub async fn a_retry_takes_its_unique_key_or_is_refused(trial: &mut Trial) {
    let first = new(trial, unique(trial, "u")).await;
    trial.happen(first, Event::CancelRequested).await;
    let second = new(trial, unique(trial, "u")).await;
    let before = trial.job(first).await;
    let retry = Change::new(first, Event::RetryRequested);
    let taken = Err(Refused::UniqueKeyTaken { holder: second });
    assert_eq!(trial.apply(retry.clone()).await, taken);
    assert_eq!(trial.job(first).await, before);
    let other_version = Change {
        if_version: Some(before.status.version + 1),
        ..retry.clone()
    };
    let refused = trial.apply(other_version).await;
    assert_eq!(refused, Err(Refused::VersionDiffers(Box::new(before))));
    let result = payload("text/plain", "done");
    let held = trial.claim_one().await;
    assert!(trial.apply(held.success(result)).await.is_ok());
    let third = new(trial, unique(trial, "u")).await;
    let again = trial
        .apply(Change::new(second, Event::RetryRequested))
        .await;
    let succeeded = matches!(again, Err(Refused::Rejected(Rejected::AlreadySucceeded, _)));
    assert!(succeeded, "{again:?}");
    trial.happen(third, Event::CancelRequested).await;

    // Of two in one call the first is served.
    let both = [first, third].map(|id| Change::new(id, Event::RetryRequested));
    let applied = trial.apply_all(both.to_vec()).await;
    assert_eq!(applied[0].as_ref().map(|job| job.spec.id), Ok(first));
    let taken = Err(Refused::UniqueKeyTaken { holder: first });
    assert_eq!(applied[1], taken);
    is_duplicate(trial, unique(trial, "u"), first).await;

    // One that is scheduled has its own.
    let held = trial.claim_one().await;
    trial.happen(first, held.failed(Retry::In(SECOND))).await;
    trial.happen(first, Event::RetryRequested).await;
    is_duplicate(trial, unique(trial, "u"), first).await;
}

/// A key remembers that its submit was a duplicate, and of what, also once that has ended. It is
/// looked at before the unique key.
pub async fn a_key_remembers_a_duplicate(trial: &mut Trial) {
    let both = || {
        let mut job = unique(trial, "u");
        job.idempotency = Some((idempotency("", "k"), Fingerprint([1; 32])));
        job
    };
    let first = new(trial, unique(trial, "u")).await;
    is_duplicate(trial, both(), first).await;
    let replayed = async || Inserted::Replayed {
        job: Box::new(trial.job(first).await),
        duplicate: true,
    };
    assert_eq!(insert_one(trial, both()).await, replayed().await);
    trial.happen(first, Event::CancelRequested).await;
    assert_eq!(insert_one(trial, both()).await, replayed().await);
    let second = new(trial, unique(trial, "u")).await;
    assert_eq!(insert_one(trial, both()).await, replayed().await);
    is_duplicate(trial, unique(trial, "u"), second).await;
}

/// Keys of both sorts are after a reopen what they were before.
pub async fn keys_survive_a_reopen(trial: &mut Trial) {
    let held = new(trial, unique(trial, "held")).await;
    let running = trial.claim_one_as(Lease::Pulled).await;
    let kept = new(trial, keyed(trial, "kept", 1)).await;
    let gone = new(trial, keyed(trial, "gone", 1)).await;
    trial.happen(gone, Event::CancelRequested).await;
    done("delete", trial.store().delete(gone, None).await);
    let ended = new(trial, unique(trial, "u")).await;
    trial.happen(ended, Event::CancelRequested).await;
    let unfinished = new(trial, unique(trial, "u")).await;
    trial.advance(SECOND);
    let mut duplicate = unique(trial, "u");
    duplicate.idempotency = Some((idempotency("", "duplicate"), Fingerprint([1; 32])));
    is_duplicate(trial, duplicate.clone(), unfinished).await;
    if !trial.reopen().await {
        return;
    }
    is_replay(trial, keyed(trial, "kept", 1), kept).await;
    let refused = insert(trial, vec![keyed(trial, "kept", 2)]).await;
    let is_reused = matches!(refused, Err(StoreError::KeyReused { index: 0 }));
    assert!(is_reused, "{refused:?}");
    let refused = insert(trial, vec![keyed(trial, "gone", 1)]).await;
    let is_gone = matches!(refused, Err(StoreError::KeyGone { index: 0, id }) if id == gone);
    assert!(is_gone, "{refused:?}");
    let replayed = Inserted::Replayed {
        job: Box::new(trial.job(unfinished).await),
        duplicate: true,
    };
    assert_eq!(insert_one(trial, duplicate).await, replayed);
    is_duplicate(trial, unique(trial, "u"), unfinished).await;
    let retried = trial.apply(Change::new(ended, Event::RetryRequested)).await;
    let taken = Err(Refused::UniqueKeyTaken { holder: unfinished });
    assert_eq!(retried, taken);
    is_duplicate(trial, unique(trial, "held"), held).await;
    trial.happen(running.id, running.succeeded()).await;
    new(trial, unique(trial, "held")).await;
    trial.advance(IDEMPOTENCY_KEPT.saturating_sub(SECOND));
    assert!(!remembers(trial, "kept").await);
    assert!(remembers(trial, "duplicate").await);
}
