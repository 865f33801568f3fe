//! Keys on the disk: after a crash, a failed transaction and an upgrade.

use super::faults::{LARGE, fill, make_room};
use super::returning::{hold, send_insert};
use super::*;
use anteroom_core::limits::IDEMPOTENCY_KEPT;
use anteroom_core::{Fingerprint, Idempotency, IdempotencyKey, Label};
use std::sync::Barrier;

fn keyed(number: u16, key: &str, asks_for: u8) -> NewJob {
    let key = IdempotencyKey::new(key).unwrap();
    let scope = "".into();
    NewJob {
        idempotency: Some((Idempotency { scope, key }, Fingerprint([asks_for; 32]))),
        ..job(number)
    }
}

fn unique(number: u16) -> NewJob {
    let mut job = job(number);
    job.spec_mut().unique_key = Label::new("u").ok();
    job
}

async fn insert(store: &SqliteStore, job: NewJob) -> Result<Inserted, StoreError> {
    let mut inserted = soon(store.insert(vec![job])).await?;
    Ok(inserted.pop().unwrap())
}

/// Returns the job that an insert gave in place of a new one.
fn given(inserted: Inserted) -> Option<JobId> {
    match inserted {
        Inserted::New(_) => None,
        Inserted::Duplicate(job) | Inserted::Replayed { job, .. } => Some(job.spec.id),
    }
}

fn rows(place: &Place, table: &str) -> i64 {
    let db = Connection::open(place.path()).unwrap();
    let count = format!("SELECT count(*) FROM {table}");
    db.query_row(&count, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn keys_are_there_after_a_crash() {
    let place = Place::new();
    let store = place.open();
    insert(&store, keyed(1, "k", 1)).await.unwrap();
    insert(&store, unique(2)).await.unwrap();
    let crashed = place.crashed();
    let again = crashed.open();
    for store in [&store, &again] {
        let replayed = insert(store, keyed(3, "k", 1)).await.unwrap();
        assert_eq!(given(replayed), Some(id(1)));
        let duplicate = insert(store, unique(4)).await.unwrap();
        assert_eq!(given(duplicate), Some(id(2)));
        assert_eq!(tally(store).await, [0, 2, 0]);
    }
    store.close().await;
    again.close().await;
}

#[tokio::test]
async fn a_database_from_before_keys_takes_them() {
    let place = Place::of_the_first_version();
    let store = place.open();
    assert!(found(&store, id(1)).await.is_some());
    insert(&store, keyed(2, "k", 1)).await.unwrap();
    let replayed = insert(&store, keyed(3, "k", 1)).await.unwrap();
    assert_eq!(given(replayed), Some(id(2)));
    insert(&store, unique(4)).await.unwrap();
    let duplicate = insert(&store, unique(5)).await.unwrap();
    assert_eq!(given(duplicate), Some(id(4)));
    store.close().await;
}

#[tokio::test]
async fn a_transaction_that_failed_is_not_remembered() {
    let place = Place::new();
    let store = place.open();
    meddle(&store, fill).await;
    let large = |number, unique_key| {
        let mut large = keyed(number, "k", 1);
        large.input.bytes = Bytes::from_static(LARGE);
        large.spec_mut().unique_key = unique_key;
        large
    };
    let refused = insert(&store, large(1, Label::new("u").ok())).await;
    let passes = matches!(refused, Err(StoreError::Unavailable { .. }));
    assert!(passes, "{refused:?}");
    meddle(&store, make_room).await;
    let other = insert(&store, keyed(2, "k", 2)).await.unwrap();
    assert_eq!(given(other), None, "it asks for something else");
    assert_eq!(given(insert(&store, unique(3)).await.unwrap()), None);
    store.close().await;
}

/// It was told of at once, and stayed refused for what was rolled back.
#[tokio::test]
async fn a_refusal_for_what_is_not_committed_waits_for_the_commit() {
    static GATE: Barrier = Barrier::new(2);
    let place = Place::new();
    let store = place.open();
    for room in [false, true] {
        if !room {
            meddle(&store, fill).await;
        }
        let answers = {
            let held = hold(&store, |_| {
                GATE.wait();
                GATE.wait();
            });
            GATE.wait();
            let first = send_insert(&store, keyed(1, "k", 1));
            let reused = send_insert(&store, keyed(2, "k", 2));
            let large = send_insert(&store, job_with(id(3), LARGE));
            GATE.wait();
            soon(held).await.unwrap();
            [first, reused, large]
        };
        let [first, reused, large] = answers.map(soon);
        let first = first.await.unwrap();
        let reused = reused.await.unwrap();
        let large = large.await.unwrap();
        if room {
            assert!(first.is_ok() && large.is_ok(), "{first:?} {large:?}");
            let is_reused = matches!(reused, Err(StoreError::KeyReused { index: 0 }));
            assert!(is_reused, "{reused:?}");
        } else {
            for answer in [first, reused, large] {
                let passes = matches!(answer, Err(StoreError::Unavailable { .. }));
                assert!(passes, "{answer:?}");
            }
            meddle(&store, make_room).await;
        }
    }
    store.close().await;
}

#[tokio::test]
async fn keys_are_forgotten_in_pieces() {
    let place = Place::new();
    let (clock, hands) = Clock::manual(Timestamp::from_millis(0));
    let store = SqliteStore::open(place.path(), clock).unwrap();
    for number in 0..5 {
        insert(&store, keyed(number, &format!("key {number}"), 1))
            .await
            .unwrap();
    }
    let tick = Duration::from_millis(1);
    hands.advance(IDEMPOTENCY_KEPT.checked_sub(tick).unwrap());
    insert(&store, keyed(9, "young", 1)).await.unwrap();
    for (by, left) in [(Duration::ZERO, 6), (tick, 4), (tick, 2), (tick, 1)] {
        hands.advance(by);
        assert_eq!(soon(store.prune(2)).await.unwrap(), 0, "unfinished jobs");
        assert_eq!(rows(&place, "submit"), left);
    }
    let replayed = insert(&store, keyed(10, "young", 1)).await.unwrap();
    assert_eq!(given(replayed), Some(id(9)));
    store.close().await;
}

#[tokio::test]
async fn what_ended_leaves_no_unique_key_behind() {
    let place = Place::new();
    let store = place.open();
    for number in 1..4 {
        insert(&store, unique(number)).await.unwrap();
        assert_eq!(rows(&place, "unique_key"), 1);
        let claimed = store.claim(want(1)).await.unwrap();
        succeed(&store, &claimed[0]).await.unwrap();
        assert_eq!(rows(&place, "unique_key"), 0);
    }
    store.close().await;
}

#[tokio::test]
async fn a_unique_key_of_no_unfinished_job_is_damage_and_named() {
    let place = Place::new();
    let store = place.open();
    insert(&store, unique(1)).await.unwrap();
    meddle(&store, |db| {
        let nobody = id(77);
        db.execute("UPDATE unique_key SET id = ?1", [nobody.as_bytes()])
            .unwrap();
    })
    .await;
    let refused = insert(&store, unique(2)).await.unwrap_err();
    assert!(matches!(refused, StoreError::Failed { .. }), "{refused}");
    let text = refused.to_string();
    assert!(text.contains(&id(77).to_string()), "{text}");
    store.close().await;
}
