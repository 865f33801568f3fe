//! Claims that nobody received come back, also at the end and where there is no room.

use super::faults::{LARGE, fill, make_room};
use super::*;
use crate::store::delivery::HandBack;
use crate::store::sqlite::operation::{Parked, Reply};
use std::sync::Barrier;

/// Has the writer meddle, so that what is sent meanwhile is the next batch.
pub(super) fn hold(store: &SqliteStore, how: fn(&Connection)) -> oneshot::Receiver<()> {
    let (done, is_done) = oneshot::channel();
    store.shared.send(Operation::Meddle(how, done)).unwrap();
    is_done
}

fn hand_back(store: &SqliteStore, claimed: &Claimed) {
    let claim = claimed.job.status.claim;
    store.shared.hand_back(vec![(claimed.job.spec.id, claim)]);
}

pub(super) fn send_insert(
    store: &SqliteStore,
    job: NewJob,
) -> oneshot::Receiver<Result<Vec<Inserted>, StoreError>> {
    let (reply, answer): (Reply<Vec<Inserted>>, _) = oneshot::channel();
    let place = store.shared.room.enter(1).unwrap();
    let insert = Operation::Insert(place, vec![job], reply);
    store.shared.send(insert).unwrap();
    answer
}

#[tokio::test]
async fn a_closing_store_claims_nothing_and_takes_back_what_nobody_received() {
    static GATE: Barrier = Barrier::new(2);
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1)]).await.unwrap();
    let claimed = store.claim(want(1)).await.unwrap();
    let (reply, delivery) = oneshot::channel();
    let (done, is_done) = oneshot::channel();
    let inserted = {
        let held = hold(&store, |_| {
            GATE.wait();
            GATE.wait();
        });
        GATE.wait();
        let inserted = send_insert(&store, job(2));
        let until = Timestamp::MAX;
        let want = want(1);
        let parked = Parked { want, until, reply };
        store.shared.send(Operation::Claim(parked)).unwrap();
        store.shared.send_close(Operation::Close(true, done));
        hand_back(&store, &claimed[0]);
        GATE.wait();
        soon(held).await.unwrap();
        inserted
    };
    soon(inserted).await.unwrap().unwrap();
    let delivered = soon(delivery).await.unwrap().unwrap().receive();
    assert!(delivered.is_empty(), "{delivered:?}");
    soon(is_done).await.unwrap();
    drop(store);
    let again = place.open();
    assert_eq!(tally(&again).await, [0, 2, 0]);
    let job = found(&again, id(1)).await.unwrap();
    assert_eq!(job.status.attempt, 0, "it cost no attempt");
    again.close().await;
}

#[tokio::test]
async fn each_call_that_closes_returns_once_it_is_closed() {
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1)]).await.unwrap();
    let closed = || async {
        soon(store.close()).await;
        let lock = std::fs::File::open(place.file("jobs.db-lock")).unwrap();
        lock.try_lock().is_ok()
    };
    // The second is begun while the first waits, and so is the third, which is dropped.
    let dropped = async {
        tokio::select! {
            biased;
            () = store.close() => {}
            () = std::future::ready(()) => {}
        }
    };
    let (first, (), second) = tokio::join!(closed(), dropped, closed());
    assert!(first && second, "the first: {first}, the second: {second}");
    assert!(closed().await);
}

#[tokio::test]
async fn what_nobody_received_outlives_a_full_disk() {
    static GATE: Barrier = Barrier::new(2);
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(1), job(2)]).await.unwrap();
    let claimed = store.claim(want(2)).await.unwrap();
    meddle(&store, fill).await;
    let refused = {
        let held = hold(&store, |_| {
            GATE.wait();
            GATE.wait();
        });
        GATE.wait();
        hand_back(&store, &claimed[0]);
        let refused = send_insert(&store, job_with(id(3), LARGE));
        // What is behind the operation that failed is not begun.
        hand_back(&store, &claimed[1]);
        GATE.wait();
        soon(held).await.unwrap();
        refused
    };
    let refused = soon(refused).await.unwrap();
    let passes = matches!(refused, Err(StoreError::Unavailable { .. }));
    assert!(passes, "{refused:?}");
    meddle(&store, make_room).await;
    let mut again = Vec::new();
    while again.len() < 2 {
        let wait = Duration::from_mins(5);
        let waiting = Want { wait, ..want(2) };
        again.extend(soon(store.claim(waiting)).await.unwrap());
    }
    for claimed in &again {
        assert_eq!(claimed.job.status.attempt, 1, "it cost no attempt");
    }
    store.close().await;
}
