//! What passes and what does not: a full disk, damage, too much at once.

use super::*;
use anteroom_core::Amendment;
use anteroom_core::limits::STORE_QUEUE_MAX;
use std::fs;
use std::sync::Arc;

/// As if the disk were full: the database may not grow.
pub(super) fn fill(db: &Connection) {
    let pages: i64 = db
        .pragma_query_value(None, "page_count", |row| row.get(0))
        .unwrap();
    db.pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
        .unwrap();
}

pub(super) fn make_room(db: &Connection) {
    db.pragma_update_and_check(None, "max_page_count", 1_000_000, |_| Ok(()))
        .unwrap();
}

pub(super) const LARGE: &[u8] = &[7; 100_000];

#[tokio::test]
async fn a_full_disk_passes() {
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1), job(2)]).await.unwrap();
    let claimed = store.claim(want(1)).await.unwrap();
    meddle(&store, fill).await;
    // Small ones may still fit into the pages that there are.
    let refused = store
        .insert(vec![job(3), job_with(id(4), LARGE)])
        .await
        .unwrap_err();
    assert!(
        matches!(&refused, StoreError::Unavailable { reason } if reason.contains("full")),
        "{refused}"
    );
    let path = place.path().display().to_string();
    assert!(refused.to_string().contains(&path), "{refused}");
    assert_eq!(tally(&store).await, [0, 1, 1], "as if it had not been");
    assert_eq!(found(&store, id(3)).await, None);

    meddle(&store, make_room).await;
    store
        .insert(vec![job(3), job_with(id(4), LARGE)])
        .await
        .unwrap();
    succeed(&store, &claimed[0]).await.unwrap();
    assert_eq!(tally(&store).await, [0, 3, 0]);
    let next = store.claim(want(9)).await.unwrap();
    let order: Vec<JobId> = next.iter().map(|next| next.job.spec.id).collect();
    assert_eq!(order, [id(2), id(3), id(4)]);
    assert_eq!(next[2].input.bytes, LARGE);
    store.close().await;
}

/// Fills the disk, as far as it can be told, between two statements of a change.
async fn fill_during_an_update(store: &SqliteStore) {
    meddle(store, |db| {
        db.execute_batch("CREATE TABLE filler (x)").unwrap();
        fill(db);
        db.execute_batch(
            "CREATE TEMP TRIGGER fills AFTER UPDATE ON main.live \
             BEGIN INSERT INTO filler VALUES (zeroblob(100000)); END",
        )
        .unwrap();
    })
    .await;
}

#[tokio::test]
async fn an_amendment_that_could_not_be_written_is_put_back() {
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1), job(2)]).await.unwrap();
    let amend = || {
        let amendment = Box::new(Amendment {
            priority: Priority::new(0).ok(),
            queue: Name::new("other").ok(),
            ..Amendment::default()
        });
        store.apply(vec![Change::new(id(2), Event::Amended { amendment })])
    };
    fill_during_an_update(&store).await;
    let before = found(&store, id(2)).await;
    let refused = soon(amend()).await;
    let passes = matches!(refused, Err(StoreError::Unavailable { .. }));
    assert!(passes, "{refused:?}");
    assert_eq!(found(&store, id(2)).await, before);

    meddle(&store, make_room).await;
    let counts = soon(store.counts()).await.unwrap();
    let queues: Vec<_> = counts.iter().map(|of| (&*of.queue, of.ready)).collect();
    assert_eq!(queues, [("q", 2)], "in the order too it is where it was");
    assert!(soon(amend()).await.unwrap()[0].is_ok());
    let claimed = store.claim(want(9)).await.unwrap();
    let queues: Vec<_> = claimed
        .iter()
        .map(|next| (next.job.spec.id, &*next.job.spec.queue))
        .collect();
    assert_eq!(
        queues,
        [(id(1), "q"), (id(2), "other")],
        "queues take turns"
    );
    store.close().await;
}

#[tokio::test]
async fn a_claim_that_could_not_be_written_is_put_back() {
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1)]).await.unwrap();
    fill_during_an_update(&store).await;
    let before = found(&store, id(1)).await;
    let refused = store.claim(want(1)).await;
    let passes = matches!(refused, Err(StoreError::Unavailable { .. }));
    assert!(passes, "{refused:?}");
    assert_eq!(found(&store, id(1)).await, before);
    assert_eq!(tally(&store).await, [0, 1, 0]);

    meddle(&store, make_room).await;
    let claimed = store.claim(want(1)).await.unwrap();
    assert_eq!(claimed.len(), 1);
    assert_eq!(claimed[0].job.status.attempt, 1, "the first that began");
    store.close().await;
}

#[tokio::test]
async fn a_failed_commit_may_have_happened() {
    let place = Place::new();
    let store = place.open();
    // The broken reference stands for a disk that fails at the very commit.
    meddle(&store, |db| {
        db.execute_batch(
            "PRAGMA foreign_keys = true; \
             CREATE TABLE filler (x REFERENCES job (seq) DEFERRABLE INITIALLY DEFERRED); \
             CREATE TEMP TRIGGER breaks AFTER INSERT ON main.live \
             BEGIN INSERT INTO filler VALUES (-1); END",
        )
        .unwrap();
    })
    .await;
    let inserted = soon(store.insert(vec![job(1)])).await;
    let is_unknown = matches!(&inserted, Err(StoreError::Unknown { .. }));
    assert!(is_unknown, "{inserted:?}");
    let path = place.path().display().to_string();
    assert!(inserted.unwrap_err().to_string().contains(&path));
    let later = soon(store.insert(vec![job(2)])).await;
    let has_failed = matches!(later, Err(StoreError::Failed { .. }));
    assert!(has_failed, "{later:?}");
    assert!(matches!(
        soon(store.failed()).await,
        StoreError::Failed { .. }
    ));
    store.close().await;
}

#[tokio::test]
async fn damage_ends_the_store_and_is_named() {
    let place = Place::new();
    place.open().close().await;
    let empty_bytes = fs::read(place.path()).unwrap().len();
    let store = place.open();
    // Few enough that what the opening reads still fits into the pages that were there.
    for number in 0..20 {
        let new = job_with(id(number), LARGE);
        store.insert(vec![new]).await.unwrap();
    }
    store.close().await;
    let mut bytes = fs::read(place.path()).unwrap();
    bytes[empty_bytes..].fill(0x5a);
    fs::write(place.path(), bytes).unwrap();

    let store = place.open();
    let parked = Want {
        wait: Duration::from_mins(5),
        tasks: vec![Name::new("other").unwrap()],
        ..want(1)
    };
    let waiting = async { soon(store.claim(parked)).await.map(|claimed| claimed.len()) };
    let reading = async {
        let error = soon(store.get(id(10))).await.unwrap_err();
        assert!(matches!(error, StoreError::Failed { .. }), "{error}");
        let failed = soon(store.failed()).await;
        let path = place.path().display().to_string();
        assert!(failed.to_string().contains(&path), "{failed}");
        soon(store.insert(vec![job(900)])).await
    };
    let (waited, inserted) = tokio::join!(waiting, reading);
    for refused in [waited, inserted.map(|_| 0)] {
        let has_failed = matches!(refused, Err(StoreError::Failed { .. }));
        assert!(has_failed, "{refused:?}");
    }
    store.close().await;
}

#[tokio::test]
async fn too_many_submits_at_once_are_refused() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let full = store.shared.room.enter(STORE_QUEUE_MAX).unwrap();
    let refused = store.insert(vec![job(1)]).await;
    assert!(
        matches!(
            refused,
            Err(StoreError::Overloaded {
                waiting: STORE_QUEUE_MAX,
                limit: STORE_QUEUE_MAX
            })
        ),
        "{refused:?}"
    );
    drop(full);
    store.insert(vec![job(1)]).await.unwrap();
    assert_eq!(tally(&store).await, [0, 1, 0]);
    store.close().await;
}
