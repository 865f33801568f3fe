//! Pauses and limits of queues: on the disk with their commit, and not without it.

use super::faults::{fill, make_room};
use super::*;
use crate::store::{QueueChange, QueueSet};
use anteroom_core::QueueSettings;

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
