//! What was acknowledged is there after a crash, and in its order.

use super::*;
use anteroom_core::State;
use anteroom_core::limits::COMMIT_OPERATIONS_MAX;
use std::sync::Arc;
use tokio::task::JoinSet;

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let place = Place::new();
    let store = place.open();
    for number in 0..20 {
        store.insert(vec![job(number)]).await.unwrap();
    }
    let claimed = store.claim(want(10)).await.unwrap();
    for claimed in &claimed[..5] {
        succeed(&store, claimed).await.unwrap();
    }
    let crashed = place.crashed();
    let again = crashed.open();
    for number in 0..20 {
        let (before, after) = (
            found(&store, id(number)).await,
            found(&again, id(number)).await,
        );
        assert!(before.is_some(), "{number}");
        assert_eq!(before, after, "{number}");
    }
    assert_eq!(tally(&again).await, [0, 10, 5]);
    assert_eq!(soon(again.overdue(99)).await.unwrap().len(), 5);
    let next = again.claim(want(99)).await.unwrap();
    let order: Vec<JobId> = next.iter().map(|next| next.job.spec.id).collect();
    let expected: Vec<JobId> = (10..20).map(id).collect();
    assert_eq!(order, expected);
    assert!(next[0].job.status.claim > claimed[9].job.status.claim);
    store.close().await;
    again.close().await;
}

#[tokio::test]
async fn a_dropped_store_can_be_opened_at_once() {
    let place = Place::new();
    for number in 0..5 {
        let store = place.open();
        assert_eq!(tally(&store).await, [0, u64::from(number), 0]);
        store.insert(vec![job(number)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_taken_under_load_has_all_that_was_acknowledged_before() {
    let place = Place::new();
    let store = Arc::new(place.open());
    let mut producers = JoinSet::new();
    for producer in 0..8_u16 {
        let store = store.clone();
        producers.spawn(async move {
            for number in 0..25 {
                let id = id(producer * 100 + number);
                store.insert(vec![job_with(id, b"x")]).await.unwrap();
            }
            producer
        });
    }
    let first = soon(producers.join_next()).await.unwrap().unwrap();
    // Some of the others are still at it, or have just ended.
    let crashed = place.crashed();
    while let Some(ended) = soon(producers.join_next()).await {
        ended.unwrap();
    }
    let again = crashed.open();
    for number in 0..25 {
        let id = id(first * 100 + number);
        assert!(found(&again, id).await.is_some(), "{id}");
    }
    store.close().await;
    again.close().await;
}

#[tokio::test]
async fn jobs_with_taken_keys_are_found_until_no_key_is_free() {
    let place = Place::new();
    let store = place.open();
    let same_key = |random| JobId::from_parts(1_800_000_000_000, 5, random);
    for random in 0..64 {
        let new = job_with(same_key(random), b"x");
        store.insert(vec![new]).await.unwrap();
    }
    let refused = store
        .insert(vec![job(900), job_with(same_key(64), b"x")])
        .await;
    let is_refused = matches!(refused, Err(StoreError::Unavailable { .. }));
    assert!(is_refused, "{refused:?}");
    assert_eq!(found(&store, id(900)).await, None, "all or none");
    assert_eq!(tally(&store).await, [0, 64, 0]);

    let claimed = store.claim(want(64)).await.unwrap();
    assert_eq!(claimed.len(), 64);
    for claimed in claimed.iter().rev() {
        let job = succeed(&store, claimed).await.unwrap();
        assert_eq!(job.spec.id, claimed.job.spec.id);
    }
    // A key that is free again is taken again, and hides none of the others.
    soon(store.delete(same_key(3), None)).await.unwrap();
    let new = job_with(same_key(99), b"x");
    store.insert(vec![new]).await.unwrap();
    for random in (0..64).chain([99]) {
        let job = found(&store, same_key(random)).await;
        let state = job.map(|job| job.status.state);
        let expected = match random {
            3 => None,
            99 => Some(State::Waiting),
            _ => Some(State::Succeeded),
        };
        assert_eq!(state, expected, "{random}");
    }
    store.close().await;
}

#[tokio::test]
async fn a_claim_gets_the_last_of_many_jobs_that_come_due_at_once() {
    let place = Place::new();
    let (clock, hands) = Clock::manual(Timestamp::from_millis(0));
    let store = SqliteStore::open(place.path(), clock).unwrap();
    let many = u16::try_from(COMMIT_OPERATIONS_MAX).unwrap() + 100;
    let id = |number| JobId::from_parts(1_800_000_000_000 + u64::from(number), 0, 7);
    let jobs = (0..=many).map(|number| {
        let mut job = job_with(id(number), b"input");
        job.status.run_at = Timestamp::from_millis(1_000);
        if number == many {
            job.spec_mut().task = Name::new("other").unwrap();
        }
        job
    });
    store.insert(jobs.collect()).await.unwrap();
    let waiting = Want {
        tasks: vec![Name::new("other").unwrap()],
        wait: Duration::from_mins(5),
        ..want(1)
    };
    let come_due = async { hands.advance(Duration::from_secs(1)) };
    let (claimed, ()) = tokio::join!(soon(store.claim(waiting)), come_due);
    assert_eq!(claimed.unwrap()[0].job.spec.id, id(many));
    assert_eq!(tally(&store).await, [0, u64::from(many), 1]);
    store.close().await;
}

#[tokio::test]
async fn one_pass_of_pruning_frees_no_more_bytes_than_a_commit_brings() {
    let place = Place::new();
    let (clock, hands) = Clock::manual(Timestamp::from_millis(0));
    let store = SqliteStore::open(place.path(), clock).unwrap();
    for number in 0..5 {
        // With its result, which is the input, each is more than half of a commit.
        let large = &LARGE[..2_500_000];
        store
            .insert(vec![job_with(id(number), large)])
            .await
            .unwrap();
    }
    for claimed in store.claim(want(2)).await.unwrap() {
        succeed(&store, &claimed).await.unwrap();
    }
    for claimed in store.claim(want(3)).await.unwrap() {
        succeed(&store, &claimed).await.unwrap();
    }
    hands.advance(Duration::from_hours(2));
    let pass = |limit| soon(store.write(move |reply| Operation::Prune(limit, reply)));
    let pruned = pass(9).await.unwrap();
    assert_eq!((pruned.jobs, pruned.is_cut_short), (2, true));
    let pruned = pass(1).await.unwrap();
    assert_eq!((pruned.jobs, pruned.is_cut_short), (1, false));
    store.insert(vec![job(9)]).await.unwrap();
    assert_eq!(soon(store.prune(9)).await.unwrap(), 2, "all that are left");
    assert_eq!(soon(store.prune(9)).await.unwrap(), 0);
    store.close().await;
}

static LARGE: [u8; 7_000_000] = [1; 7_000_000];

#[tokio::test]
async fn a_reader_from_outside_holds_up_no_commit_for_long() {
    let place = Place::new();
    let store = place.open();
    store.insert(vec![job(0)]).await.unwrap();
    let outside = Connection::open(place.path()).unwrap();
    outside
        .execute_batch("BEGIN; SELECT count(*) FROM job;")
        .unwrap();
    // Far more pages than the log should have: it cannot begin anew while the reader reads.
    for number in 1..=12 {
        let large = job_with(id(number), &LARGE);
        soon(store.insert(vec![large])).await.unwrap();
    }
    let log = || std::fs::metadata(place.file("jobs.db-wal")).unwrap().len();
    assert!(log() > 80_000_000, "{}", log());
    outside.execute_batch("COMMIT").unwrap();
    // It is tried again once as much has come as is merged at once, and not at each commit.
    for number in 13..=15 {
        let large = job_with(id(number), &LARGE);
        soon(store.insert(vec![large])).await.unwrap();
    }
    store.insert(vec![job(900)]).await.unwrap();
    // The log is tended after the answer; the next operation comes after that.
    assert_eq!(tally(&store).await, [0, 17, 0]);
    // The file is as long as what came after it began anew.
    assert!(log() < 22_000_000, "{} after it began anew", log());
    store.close().await;
}
