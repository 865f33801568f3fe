//! Shutdown in its four phases, and a store that fails.

use crate::failing_store::FailingStore;
use crate::harness::*;
use anteroom::core::{Payload, ShownState, State};
use anteroom::run::{Outcome, function};
use anteroom::store::{Filter, Page, Store, StoreError};
use anteroom::{Phase, SubmitError, Submitted, Task, Until};
use std::sync::Arc;

#[tokio::test(start_paused = true)]
async fn attempts_that_end_within_the_grace_keep_their_results() {
    let engine = engine_of(|_| async {
        nap(secs(5)).await;
        done("in time")
    })
    .await;
    let id = submit(&engine, "").await;
    reached(&engine, id, ShownState::Running).await;
    engine.stop(secs(30)).await;
    assert_eq!(engine.phase(), Phase::Stopped);
    assert_eq!(
        engine.clock().now(),
        START.after(secs(5)),
        "no longer than needed"
    );
    assert_eq!(result(&engine, id).await, "in time");
}

#[tokio::test(start_paused = true)]
async fn attempts_that_do_not_end_are_handed_back_and_cost_nothing() {
    let shared = store();
    let tasks = || vec![task("work", function::bytes(|_| std::future::pending()))];
    let engine = start(&shared, tasks()).await;
    let ids = [submit(&engine, "").await, submit(&engine, "").await];
    for id in ids {
        reached(&engine, id, ShownState::Running).await;
    }
    engine.stop(secs(30)).await;
    assert_eq!(engine.clock().now(), START.after(secs(30)));
    for id in ids {
        let job = get(&engine, id).await;
        assert_eq!((job.status.state, job.status.attempt), (State::Waiting, 0));
        assert_eq!((job.status.hand_backs, job.errors.len()), (0, 0));
    }
    let next = start(&shared, tasks()).await;
    for id in ids {
        assert_eq!(
            reached(&next, id, ShownState::Running).await.status.attempt,
            1
        );
    }
}

#[tokio::test(start_paused = true)]
async fn while_it_drains_nothing_is_taken_or_begun_and_waits_go_on() {
    let engine = engine_of(|_| async {
        nap(secs(10)).await;
        done("")
    })
    .await;
    let running = submit(&engine, "").await;
    reached(&engine, running, ShownState::Running).await;
    engine.drain();
    assert_eq!(engine.phase(), Phase::Draining);
    let refused = engine.submit(submission("")).await.unwrap_err();
    assert!(matches!(refused, SubmitError::Draining));
    let wait = engine.wait(running, Until::Done, LONG);
    let (job, ()) = tokio::join!(wait, engine.stop(secs(60)));
    assert_eq!(job.unwrap().here().unwrap().status.state, State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn waits_end_when_the_engine_has_stopped() {
    let engine = engine_of(|_| std::future::pending()).await;
    let id = submit(&engine, "").await;
    reached(&engine, id, ShownState::Running).await;
    let (job, ()) = tokio::join!(engine.wait(id, Until::Done, LONG), engine.stop(secs(1)));
    assert!(!job.unwrap().here().unwrap().status.state.is_final());
    assert!(engine.clock().now() < START.after(secs(60)));
}

#[tokio::test(start_paused = true)]
async fn a_closed_store_takes_nothing() {
    let engine = engine_of(|_| async { done("") }).await;
    engine.shutdown(secs(1)).await;
    let page = Page {
        size: 1,
        after: None,
    };
    let closed = engine.store().list(&Filter::default(), page).await;
    assert!(matches!(closed, Err(StoreError::Closed)));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_is_kept_until_the_store_is_back() {
    let failing = FailingStore::new();
    let store: Arc<dyn Store> = failing.clone();
    let slow = function::bytes(|_| async {
        nap(secs(5)).await;
        done("kept")
    });
    let engine = start(
        &store,
        vec![Task {
            concurrency: 4,
            ..task("work", slow)
        }],
    )
    .await;
    let id = submit(&engine, "").await;
    reached(&engine, id, ShownState::Running).await;
    failing.set_down(true);
    let refused = engine.submit(submission("")).await.unwrap_err();
    assert!(matches!(
        refused,
        SubmitError::Store(StoreError::Unavailable { .. })
    ));
    nap(secs(100)).await;
    assert!(failing.refused() > 10, "it went on trying");
    assert_eq!(get(&engine, id).await.status.state, State::Running);
    failing.set_down(false);
    let job = ended(&engine, id).await;
    assert_eq!(
        (job.status.state, job.status.attempt),
        (State::Succeeded, 1)
    );
    assert_eq!(result(&engine, id).await, "kept");
    // And it dispatches as before.
    let next = ended(&engine, submit(&engine, "").await).await;
    assert_eq!(next.status.state, State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_a_busy_shutdown_is_all_or_handed_back() {
    let engine = engine_of(|attempt| async move {
        let seconds = u64::from(attempt.input.bytes[0]);
        nap(secs(seconds)).await;
        Outcome::Succeeded(attempt.input)
    })
    .await;
    let inputs: Vec<Payload> = (0..50)
        .map(|nap: u8| Payload {
            bytes: vec![nap].into(),
            ..text("")
        })
        .collect();
    let submissions = inputs.iter().map(|input| {
        let mut submission = submission("");
        submission.input = input.clone();
        submission
    });
    let jobs = engine.submit_all(submissions.collect()).await.unwrap();
    reached(&engine, jobs[49].job.spec.id, ShownState::Running).await;
    engine.stop(secs(25)).await;
    for (nap, Submitted { job, .. }) in jobs.iter().enumerate() {
        let job = get(&engine, job.spec.id).await;
        let expected = if nap <= 25 {
            (State::Succeeded, 1)
        } else {
            (State::Waiting, 0)
        };
        assert_eq!(
            (job.status.state, job.status.attempt),
            expected,
            "nap of {nap} s"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_stop_ends_although_the_store_is_down() {
    let failing = FailingStore::new();
    let store: Arc<dyn Store> = failing.clone();
    let slow = function::bytes(|_| async {
        nap(secs(5)).await;
        done("")
    });
    let engine = start(&store, vec![task("work", slow)]).await;
    let id = submit(&engine, "").await;
    reached(&engine, id, ShownState::Running).await;
    failing.set_down(true);
    engine.stop(secs(30)).await;
    let took = engine.clock().now().since(START);
    assert!(took >= secs(30) && took < secs(60), "{took:?}");
}
