//! Pauses and limits of queues: on the disk with their commit, and not without it.

use super::super::OpenError;
use super::faults::{fill, make_room};
use super::*;
use crate::store::{QueueChange, QueueSet};
use anteroom_core::{Label, QueueSettings};

fn change(paused: bool, max_depth: Option<u64>) -> Vec<QueueChange> {
    let settings = QueueSettings {
        paused: Some(paused),
        max_depth,
        ..QueueSettings::default()
    };
    vec![QueueChange {
        name: Name::new("q").unwrap(),
        settings,
        if_version: None,
    }]
}

async fn set(store: &SqliteStore, paused: bool, max_depth: Option<u64>) {
    let set = soon(store.set_queues(change(paused, max_depth)))
        .await
        .unwrap();
    assert!(matches!(set[0], QueueSet::Done(_)), "{set:?}");
}

#[tokio::test]
async fn a_pause_that_was_acknowledged_holds_after_a_crash() {
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1)]).await.unwrap();
    set(&store, true, Some(1)).await;
    let crashed = place.crashed();
    let again = crashed.open();
    let before = soon(store.queues()).await.unwrap();
    assert_eq!(soon(again.queues()).await.unwrap(), before);
    assert!(soon(again.claim(want(9))).await.unwrap().is_empty());
    let full = soon(again.insert(vec![job(2)])).await.unwrap_err();
    assert!(matches!(full, StoreError::QueueFull { .. }), "{full}");
    store.close().await;
    again.close().await;
}

/// How far a rate has come is in the commit of the starts, and not in that of a closing store.
#[tokio::test]
async fn a_rate_holds_after_a_crash() {
    let place = Place::new();
    let store = place.open();
    store.insert((1..9).map(job).collect()).await.unwrap();
    let rate_limit = Some(anteroom_core::RateLimit {
        limit: 2,
        period: std::time::Duration::from_hours(1),
    });
    let limited = QueueChange {
        settings: QueueSettings {
            rate_limit,
            ..QueueSettings::default()
        },
        ..change(false, None).remove(0)
    };
    soon(store.set_queues(vec![limited])).await.unwrap();
    assert_eq!(soon(store.claim(want(1))).await.unwrap().len(), 1);
    let crashed = place.crashed();
    let again = crashed.open();
    assert_eq!(soon(again.claim(want(9))).await.unwrap().len(), 1);
    let crashed = crashed.crashed();
    let again_and_again = crashed.open();
    assert!(
        soon(again_and_again.claim(want(9)))
            .await
            .unwrap()
            .is_empty()
    );
    for store in [store, again, again_and_again] {
        store.close().await;
    }
}

#[tokio::test]
async fn a_pause_that_could_not_be_written_does_not_hold() {
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1)]).await.unwrap();
    // The trigger stands for a disk that fills up between two statements.
    meddle(&store, |db| {
        db.execute_batch("CREATE TABLE filler (x)").unwrap();
        fill(db);
        db.execute_batch(
            "CREATE TEMP TRIGGER fills AFTER INSERT ON main.queue \
             BEGIN INSERT INTO filler VALUES (zeroblob(100000)); END",
        )
        .unwrap();
    })
    .await;
    let refused = soon(store.set_queues(change(true, Some(1)))).await;
    let passes = matches!(refused, Err(StoreError::Unavailable { .. }));
    assert!(passes, "{refused:?}");
    assert_eq!(soon(store.queues()).await.unwrap(), []);
    meddle(&store, make_room).await;
    store.insert(vec![job(2)]).await.unwrap();
    assert_eq!(soon(store.claim(want(9))).await.unwrap().len(), 2);
    set(&store, true, None).await;
    store.close().await;
}

/// A queue as a database of the version before limits has it, and the groups of its jobs.
#[tokio::test]
async fn a_database_from_before_there_were_limits_is_brought_forward() {
    const BEFORE: u32 = 5;
    let place = Place::of_the_first_version();
    let db = Connection::open(place.path()).unwrap();
    for migration in &MIGRATIONS[1..BEFORE as usize] {
        db.execute_batch(migration).unwrap();
    }
    db.pragma_update(None, "user_version", BEFORE).unwrap();
    let in_group = "INSERT INTO job SELECT seq + 1, x'00', task, queue, 'g', priority, created_at, \
                    max_attempts, timeout_ms, start_before, retain_ms, unique_key, callback_url, \
                    tags, content_type, input FROM job; \
                    INSERT INTO live (seq, task, queue, priority, state, version, run_at, attempt, \
                    claim, lease, cancel_requested, hand_backs, errors) SELECT seq + 1, task, queue, \
                    priority, 0, 1, 0, 0, 0, 0, 0, 0, 0 FROM live; \
                    INSERT INTO queue VALUES ('q', 3, 1, 7)";
    db.execute_batch(in_group).unwrap();
    db.close().unwrap();
    let store = place.open();
    assert_eq!(groups(&place), [None, Some("g".to_owned())]);
    let kept = soon(store.queues()).await.unwrap();
    assert_eq!((kept.len(), kept[0].version), (1, 3));
    let [QueueChange { settings, .. }] = change(true, Some(7)).try_into().unwrap();
    assert_eq!(kept[0].settings, settings);
    let limited = QueueSettings {
        max_concurrency: Some(1),
        ..settings
    };
    let changes = vec![QueueChange {
        name: Name::new("q").unwrap(),
        settings: limited,
        if_version: Some(3),
    }];
    soon(store.set_queues(changes)).await.unwrap();
    store.close().await;
    let store = place.open();
    assert_eq!(soon(store.queues()).await.unwrap()[0].settings, limited);
    store.close().await;
}

/// Returns the groups in the rows of unfinished jobs, in the order of their keys.
fn groups(place: &Place) -> Vec<Option<String>> {
    let db = Connection::open(place.path()).unwrap();
    let sql = "SELECT \"group\" FROM live ORDER BY seq";
    let mut statement = db.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get(0)).unwrap();
    rows.map(Result::unwrap).collect()
}

/// It is what the order is made of when the store is opened.
#[tokio::test]
async fn the_row_of_an_unfinished_job_has_its_group() {
    let place = Place::new();
    let store = place.open();
    let of_group = |number| {
        let mut job = job(number);
        job.spec_mut().group = Label::new("g").ok();
        job
    };
    store.insert(vec![job(1), of_group(2)]).await.unwrap();
    let g = || Some("g".to_owned());
    assert_eq!(groups(&place), [None, g()]);
    let claimed = soon(store.claim(want(9))).await.unwrap();
    // One that is inserted claimed, as a claim waits for it.
    let mut waiting = want(1);
    waiting.wait = Duration::from_mins(1);
    let (direct, _) = tokio::join!(soon(store.claim(waiting)), store.insert(vec![of_group(3)]));
    assert_eq!(groups(&place), [None, g(), g()]);
    for claimed in claimed.iter().chain(&direct.unwrap()) {
        succeed(&store, claimed).await.unwrap();
    }
    assert!(groups(&place).is_empty());
    store.close().await;
}

#[tokio::test]
async fn a_rate_without_its_period_is_damage() {
    let place = Place::new();
    let store = place.open();
    set(&store, false, None).await;
    store.close().await;
    let db = Connection::open(place.path()).unwrap();
    db.execute_batch("UPDATE queue SET rate_limit = 5").unwrap();
    db.close().unwrap();
    let error = SqliteStore::open(place.path(), Clock::system()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[tokio::test]
async fn a_database_from_before_there_were_queues_is_brought_forward() {
    let place = Place::of_the_first_version();
    let store = place.open();
    assert_eq!(soon(store.queues()).await.unwrap(), []);
    set(&store, true, None).await;
    assert!(soon(store.claim(want(9))).await.unwrap().is_empty());
    set(&store, false, None).await;
    assert_eq!(soon(store.claim(want(9))).await.unwrap().len(), 1);
    store.close().await;
}
