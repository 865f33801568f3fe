//! All that a store keeps can be moved, through a file, into another store of its kind.
//!
//! Kinds that have no [`Archive`](crate::store::archive::Archive) are not tried.

use super::Trial;
use super::reopen::everything;
use super::trial::{Held, done, ids, label, line, name, odd_payloads, payload, progress, want};
use crate::moving::MoveError;
use crate::store::archive::RecordKind;
use crate::store::{
    Change, Deleted, DocumentChange, DocumentPut, Found, Inserted, NewJob, OverdueReason,
    QueueChange, QueueSet, Refused, StoreError, Want,
};
use anteroom_core::limits::IDEMPOTENCY_KEPT;
use anteroom_core::{
    Event, Fingerprint, HandBack, Idempotency, IdempotencyKey, JobId, Lease, QueueDefaults,
    QueueSettings, RateLimit, Report, Reports, Retry, State,
};
use std::collections::BTreeMap;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// Makes jobs in every state but running, with all that a job may have, and returns their ids.
async fn lives(trial: &Trial) -> Vec<JobId> {
    let mut all = Vec::new();
    // Longer than all that is kept of what is said, handed back, and begun again.
    let told = trial.running(Lease::Pulled).await;
    let lines = (0..1_200).map(|n| line(&format!("line {n}")));
    trial.say(&told, lines.collect()).await;
    let said = vec![Report::Progress(progress(0.1 + 0.2, "a\u{e4}\0b"))];
    trial.say(&told, said).await;
    trial.happen(told.id, told.released(HandBack::Busy)).await;
    let told = trial.claim_one().await;
    let skipped = Change {
        reports: Reports {
            skipped: 3,
            list: vec![line("after a gap")],
        },
        ..Change::new(told.id, told.failed(Retry::In(SECOND)))
    };
    trial.applied(skipped).await;
    all.push(told.id);
    // More errors than are kept.
    let many = trial.submit(|job| job.status.max_attempts = 30).await;
    for _ in 0..25 {
        let held = trial.claim_one().await;
        trial
            .happen(many, held.failed(Retry::In(Duration::ZERO)))
            .await;
    }
    trial.happen(many, Event::CancelRequested).await;
    all.push(many);
    for result in odd_payloads() {
        let held = trial.running(Lease::Node).await;
        trial.applied(held.success(result)).await;
        all.push(held.id);
    }
    let failed = trial.running(Lease::Node).await;
    trial.happen(failed.id, failed.failed(Retry::Never)).await;
    all.push(failed.id);
    let retried = trial.running(Lease::Node).await;
    trial.happen(retried.id, retried.failed(Retry::Never)).await;
    trial.happen(retried.id, Event::RetryRequested).await;
    all.push(retried.id);
    let whole = trial
        .submit(|job| {
            job.spec_mut().group = Some(label("group \u{1F980}"));
            job.spec_mut().priority = super::trial::priority(9);
            job.spec_mut().callback_url = Some("https://example.com/?a=b".into());
            job.spec_mut().tags = BTreeMap::from([
                (name("empty"), String::new()),
                (name("odd"), "\"\\\n\u{1F980}".to_owned()),
            ]);
            job.status.run_at = job.status.run_at.after(SECOND * 9);
            job.status.start_before = Some(job.status.run_at.after(SECOND));
            job.input = odd_payloads().swap_remove(0);
            job.spec_mut().input = job.input.info();
        })
        .await;
    all.push(whole);
    all
}

/// Claims the next job of several.
async fn first_claimed(trial: &Trial, lease: Lease) -> Held {
    let mut claimed = trial.claim(Want { lease, ..want(1) }).await;
    assert_eq!(claimed.len(), 1);
    Held::from(claimed.remove(0))
}

/// Jobs read the same after a move: what was submitted, where each stands, inputs, results, errors, and
/// every event under its id; lists and counts too.
pub async fn jobs_are_moved_with_all_that_belongs_to_them(trial: &mut Trial) {
    let ids = lives(trial).await;
    let before = everything(trial).await;
    let mut histories = Vec::new();
    for id in &ids {
        histories.push(trial.history(*id).await);
    }
    let counts = done("counts", trial.store().counts().await);
    if !trial.moves().await {
        return;
    }
    assert_eq!(everything(trial).await, before);
    for (id, history) in ids.iter().zip(histories) {
        assert_eq!(trial.history(*id).await, history, "{id}");
    }
    assert_eq!(done("counts", trial.store().counts().await), counts);
    // Their histories go on where they were.
    trial.advance(SECOND);
    let held = first_claimed(trial, Lease::Node).await;
    let earlier = trial
        .history(held.id)
        .await
        .events
        .pop()
        .map(|last| last.id);
    trial.say(&held, vec![line("moved")]).await;
    let success = held.success(payload("text/plain", "done"));
    trial.applied(success).await;
    let events = trial.history(held.id).await.events;
    assert!(
        events.is_sorted_by(|one, next| one.id < next.id),
        "{events:#?}"
    );
    assert!(events.last().map(|last| last.id) > earlier, "{events:#?}");
}

/// Waiting jobs are claimed in the order in which they would have been.
pub async fn the_order_of_claims_is_moved(trial: &mut Trial) {
    let mut expected = Vec::new();
    for (n, priority) in [5, 1, 5, 3, 1].into_iter().enumerate() {
        let priority = super::trial::priority(priority);
        let early = Duration::from_secs(n as u64 % 2);
        let id = trial
            .submit(|job| {
                job.spec_mut().priority = priority;
                job.status.run_at = job.status.run_at.before(early);
            })
            .await;
        let job = trial.job(id).await;
        expected.push((priority, job.status.run_at, n, id));
    }
    expected.sort_unstable();
    if !trial.moves().await {
        return;
    }
    // Each priority has its share, and in it the order that it had.
    let claimed = ids(&trial.claim(want(9)).await);
    for priority in [1, 3, 5] {
        let of = |id: &&JobId| {
            let is_it = |(p, _, _, it): &&(_, _, _, JobId)| {
                *p == super::trial::priority(priority) && it == *id
            };
            expected.iter().any(|one| is_it(&one))
        };
        let wanted = expected.iter().map(|(_, _, _, id)| id).filter(of);
        assert!(
            claimed.iter().filter(of).eq(wanted),
            "{priority}: {claimed:?}"
        );
    }
    assert_eq!(claimed.len(), expected.len());
}

/// Whoever pulled a job settles it after a move under the lease that he has; what a process ran that
/// is no more comes back, and every later claim is greater.
pub async fn running_jobs_are_moved_under_their_claims(trial: &mut Trial) {
    let pulled = trial.running(Lease::Pulled).await;
    let stopped = trial.running(Lease::Pulled).await;
    trial.happen(stopped.id, Event::CancelRequested).await;
    let node = trial.running(Lease::Node).await;
    if !trial.moves().await {
        return;
    }
    let next = trial.running(Lease::Node).await;
    assert!(
        next.claim > node.claim,
        "{} after {}",
        next.claim,
        node.claim
    );
    let job = trial.job(stopped.id).await;
    assert!(job.status.cancel_requested && job.status.claim == stopped.claim);
    let success = pulled.success(payload("text/plain", "done"));
    assert_eq!(trial.applied(success).await.status.state, State::Succeeded);
    if !trial.is_durable() {
        return;
    }
    let overdue = trial.overdue().await;
    assert_eq!(overdue.len(), 1, "{overdue:?}");
    let reason = OverdueReason::Process(node.claim);
    assert_eq!((overdue[0].id, overdue[0].reason), (node.id, reason));
}

/// What ended an attempt is answered again after a move, and another is late.
pub async fn what_was_said_is_moved(trial: &mut Trial) {
    let said = |held: &Held, digest: u8| Change {
        settle: Some(Fingerprint([digest; 32])),
        ..held.success(payload("text/plain", "done"))
    };
    let held = trial.running(Lease::Pulled).await;
    trial.applied(said(&held, 1)).await;
    if !trial.moves().await {
        return;
    }
    let again = trial.apply(said(&held, 1)).await;
    assert!(matches!(again, Err(Refused::Repeated(_))), "{again:?}");
    let other = trial.apply(said(&held, 2)).await;
    assert!(matches!(other, Err(Refused::Rejected(..))), "{other:?}");
}

fn keyed(trial: &Trial, key: &str, digest: u8) -> NewJob {
    let idempotency = Idempotency {
        scope: "token".into(),
        key: IdempotencyKey::new(key).unwrap_or_else(|error| panic!("{error}")),
    };
    NewJob {
        idempotency: Some((idempotency, Fingerprint([digest; 32]))),
        ..trial.new_job()
    }
}

/// Keys give the jobs that they gave, for as long as they would have; unique keys have their jobs.
pub async fn keys_are_moved(trial: &mut Trial) {
    let first = keyed(trial, "key; \"\u{e4}\"", 1);
    let id = first.spec.id;
    trial.insert(vec![first]).await;
    let unique = trial
        .submit(|job| job.spec_mut().unique_key = Some(label("unique")))
        .await;
    let ended = trial
        .submit(|job| job.spec_mut().unique_key = Some(label("ended")))
        .await;
    trial.happen(ended, Event::CancelRequested).await;
    trial.advance(SECOND);
    if !trial.moves().await {
        return;
    }
    let again = vec![keyed(trial, "key; \"\u{e4}\"", 1)];
    let replayed = done("insert", trial.store().insert(again).await);
    let is_replay =
        |one: &Inserted| matches!(one, Inserted::Replayed { job, .. } if job.spec.id == id);
    assert!(is_replay(&replayed[0]), "{replayed:?}");
    let other = vec![keyed(trial, "key; \"\u{e4}\"", 2)];
    let reused = trial.store().insert(other).await;
    assert!(
        matches!(reused, Err(StoreError::KeyReused { .. })),
        "{reused:?}"
    );
    let with_unique = |key: &str| {
        let mut job = trial.new_job();
        job.spec_mut().unique_key = Some(label(key));
        vec![job]
    };
    let inserted = done("insert", trial.store().insert(with_unique("unique")).await);
    let is_duplicate = matches!(&inserted[0], Inserted::Duplicate(job) if job.spec.id == unique);
    assert!(is_duplicate, "{inserted:?}");
    let inserted = done("insert", trial.store().insert(with_unique("ended")).await);
    assert!(matches!(inserted[0], Inserted::New(_)), "{inserted:?}");
    trial.happen(unique, Event::CancelRequested).await;
    let inserted = done("insert", trial.store().insert(with_unique("unique")).await);
    assert!(matches!(inserted[0], Inserted::New(_)), "{inserted:?}");
    // Remembered from the submit on, and no longer for the move.
    trial.advance(IDEMPOTENCY_KEPT.saturating_sub(SECOND));
    trial.insert(vec![keyed(trial, "key; \"\u{e4}\"", 2)]).await;
    done("prune", trial.store().prune(9).await);
}

/// What was set for queues holds after a move, and rates go on where they were.
pub async fn queues_are_moved(trial: &mut Trial) {
    let settings = QueueSettings {
        paused: Some(true),
        max_depth: Some(7),
        max_concurrency: Some(3),
        group_concurrency: Some(2),
        rate_limit: None,
    };
    let rated = QueueSettings {
        rate_limit: Some(RateLimit {
            limit: 1,
            period: Duration::from_mins(1),
        }),
        ..QueueSettings::default()
    };
    let change = |queue: &str, settings| QueueChange {
        name: name(queue),
        settings,
        if_version: None,
    };
    let changes = vec![
        change("paused", settings),
        change("queue", rated),
        change("queue", rated),
    ];
    done("set_queues", trial.store().set_queues(changes).await);
    trial
        .submit(|job| job.spec_mut().queue = name("paused"))
        .await;
    trial.submit_plain().await;
    trial.submit_plain().await;
    assert_eq!(trial.claim(want(9)).await.len(), 1, "what the rate lets");
    let before = done("queues", trial.store().queues().await);
    if !trial.moves().await {
        return;
    }
    assert_eq!(done("queues", trial.store().queues().await), before);
    let defaults = trial
        .store()
        .configure_queues(QueueDefaults::default())
        .await;
    done("configure_queues", defaults);
    assert_eq!(trial.claim(want(9)).await.len(), 0, "the rate is used up");
    trial.advance(Duration::from_mins(1));
    assert_eq!(trial.claim(want(9)).await.len(), 1);
    let later = QueueChange {
        if_version: Some(2),
        ..change("queue", settings)
    };
    let set = done("set_queues", trial.store().set_queues(vec![later]).await);
    assert!(
        matches!(&set[0], QueueSet::Done(kept) if kept.version == 3),
        "{set:?}"
    );
}

/// Documents are moved byte for byte with their versions, and no version ever comes again.
pub async fn documents_are_moved(trial: &mut Trial) {
    let put = |kind: &str, one: &str, value: Option<Vec<u8>>| DocumentChange {
        kind: name(kind),
        name: name(one),
        value: value.map(Into::into),
        if_version: None,
    };
    let every_byte: Vec<u8> = (0..=u8::MAX).collect();
    let changes = vec![
        put("b", "one", Some(every_byte)),
        put("a.b", "two", Some(Vec::new())),
        put("b", "removed", Some(vec![1])),
        put("b", "removed", None),
    ];
    let put_before = done("put", trial.store().put_documents(changes).await);
    let mut before = Vec::new();
    for kind in ["a.b", "b"] {
        before.push(done(
            "documents",
            trial.store().documents(&name(kind)).await,
        ));
    }
    if !trial.moves().await {
        return;
    }
    for (kind, before) in ["a.b", "b"].into_iter().zip(before) {
        let after = done("documents", trial.store().documents(&name(kind)).await);
        assert_eq!(after, before);
    }
    let changes = vec![put("b", "removed", Some(vec![2]))];
    let put_after = done("put", trial.store().put_documents(changes).await);
    let version = |put: &DocumentPut| match put {
        DocumentPut::Done(version) => *version,
        other => panic!("{other:?}"),
    };
    let latest = put_before.iter().filter_map(version).max();
    assert!(
        version(&put_after[0]) > latest,
        "{put_after:?} after {latest:?}"
    );
}

/// Ids of jobs that are gone are gone after a move, and what is to be forgotten is, in its time.
pub async fn what_is_gone_is_gone_after_a_move(trial: &mut Trial) {
    let deleted = trial.submit_plain().await;
    trial.happen(deleted, Event::CancelRequested).await;
    let gone = done("delete", trial.store().delete(deleted, None).await);
    assert_eq!(gone, Deleted::Done);
    let short = trial.submit(|job| job.spec_mut().retain = SECOND).await;
    trial.happen(short, Event::CancelRequested).await;
    if !trial.moves().await {
        return;
    }
    assert_eq!(trial.found(deleted).await, Found::Gone);
    assert!(matches!(trial.found(short).await, Found::Here(_)));
    trial.advance(SECOND);
    assert_eq!(done("prune", trial.store().prune(9).await), 1);
    assert_eq!(trial.found(short).await, Found::Gone);
    trial.advance(anteroom_core::limits::GONE_KEPT.saturating_sub(SECOND));
    done("prune", trial.store().prune(9).await);
    assert_eq!(trial.found(deleted).await, Found::Unknown);
    assert_eq!(trial.found(short).await, Found::Gone);
}

/// The store that was moved into has the same content as the one before, and is not damaged.
pub async fn a_moved_store_has_the_same_content(trial: &mut Trial) {
    lives(trial).await;
    trial
        .insert(vec![keyed(trial, "a", 1), keyed(trial, "b", 1)])
        .await;
    first_claimed(trial, Lease::Pulled).await;
    let Some(first) = trial.export().await else {
        return;
    };
    let jobs = first.content.count(RecordKind::Job);
    assert_eq!(first.content.states.iter().sum::<u64>(), jobs);
    let imported = trial.import(&first.file).await;
    let imported = imported.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(imported.content, first.content);
    assert_eq!(imported.added, first.content.total());
    let verified = trial.verified().await;
    assert_eq!(verified, (first.content.clone(), Vec::new()));
    let second = trial.export().await;
    assert_eq!(second.map(|second| second.content), Some(first.content));
}

/// An import that ended in the middle of its file goes on where it stopped, and not with another file.
pub async fn an_interrupted_import_goes_on(trial: &mut Trial) {
    for _ in 0..3 {
        let jobs = (0..500).map(|_| trial.new_job());
        trial.insert(jobs.collect()).await;
    }
    let Some(other) = trial.export().await else {
        return;
    };
    let Some(whole) = trial.export().await else {
        return;
    };
    let total = whole.content.total();
    let cut = &whole.file[..whole.file.len() * 4 / 5];
    let into = trial.another();
    let cut_short = trial.import_into(&*into, cut).await;
    assert!(
        matches!(cut_short, Err(MoveError::Cut { .. })),
        "{cut_short:?}"
    );
    let refused = trial.import_into(&*into, &other.file).await;
    assert!(
        matches!(refused, Err(MoveError::AnotherImport { .. })),
        "{refused:?}"
    );
    let (_, damages) = trial.verified_in(&*into).await;
    assert_eq!(damages.len(), 1, "an import is under way: {damages:?}");
    let went_on = trial.import_into(&*into, &whole.file).await;
    let went_on = went_on.unwrap_or_else(|error| panic!("{error}"));
    assert!((1..total).contains(&went_on.added), "{went_on:?}");
    assert_eq!(went_on.content, whole.content);
    let again = trial.import_into(&*into, &whole.file).await;
    assert_eq!(again.map(|again| again.added).ok(), Some(0));
    assert_eq!(trial.verified_in(&*into).await, (whole.content, Vec::new()));
}

/// A store that holds anything else is not imported into: it stays as it is.
pub async fn a_store_that_holds_something_else_stays_as_it_is(trial: &mut Trial) {
    trial.submit_plain().await;
    let Some(first) = trial.export().await else {
        return;
    };
    let into = trial.another();
    let imported = trial.import_into(&*into, &first.file).await;
    assert!(imported.is_ok(), "{imported:?}");
    trial.resume().await;
    let id = trial.submit_plain().await;
    let Some(second) = trial.export().await else {
        return;
    };
    let refused = trial.import_into(&*into, &second.file).await;
    let is_named = matches!(
        &refused,
        Err(MoveError::NotEmpty { key, .. }) if key.to_string() == format!("job {id}")
    );
    assert!(is_named, "{refused:?}");
    assert_eq!(trial.verified_in(&*into).await, (first.content, Vec::new()));
    trial.resume().await;
    trial.happen(id, Event::CancelRequested).await;
    let Some(third) = trial.export().await else {
        return;
    };
    let into = trial.another();
    let imported = trial.import_into(&*into, &second.file).await;
    assert!(imported.is_ok(), "{imported:?}");
    let refused = trial.import_into(&*into, &third.file).await;
    let is_named = matches!(
        &refused,
        Err(MoveError::Differs { key, .. }) if key.to_string() == format!("job {id}")
    );
    assert!(is_named, "{refused:?}");
    assert_eq!(
        trial.verified_in(&*into).await,
        (second.content, Vec::new())
    );
}
