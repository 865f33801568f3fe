//! Bulk calls stop in time, go on where they stopped, and come to an end.

use crate::failing_store::FailingStore;
use crate::harness::*;
use anteroom::core::limits::{BULK_MATCHES_MAX, BULK_TIME_MAX};
use anteroom::core::{Amendment, Event, JobId, Name, Priority, State};
use anteroom::run::{Outcome, function};
use anteroom::store::{Change, Filter, Store};
use anteroom::{Bulk, BulkAction, Engine, Submission, Task, TaskRunner};
use std::sync::Arc;

/// An engine with a task that nobody runs, and one whose jobs fail for good at once.
async fn engine() -> (Engine, Arc<FailingStore>) {
    let store = FailingStore::new();
    let shared: Arc<dyn Store> = store.clone();
    let fails = function::bytes(|_| async {
        nap(std::time::Duration::from_millis(1)).await;
        Outcome::failed_for_good("broken")
    });
    let waits = Task::new("waits", TaskRunner::Pull).unwrap();
    let engine = start(&shared, vec![waits, task("work", fails)]).await;
    (engine, store)
}

async fn submit_many(engine: &Engine, task: &str, count: usize) -> Vec<JobId> {
    let mut submission = Submission::new(Name::new(task).unwrap(), text(""));
    submission.queue = Name::new("q").ok();
    let mut ids = Vec::new();
    while ids.len() < count {
        let some = (count - ids.len()).min(5_000);
        let jobs = engine.submit_all(vec![submission.clone(); some]).await;
        ids.extend(jobs.unwrap().iter().map(|submitted| submitted.job.spec.id));
    }
    ids
}

fn of_task(task: &str) -> Filter {
    Filter {
        task: Name::new(task).ok(),
        ..Filter::default()
    }
}

async fn bulk(engine: &Engine, action: BulkAction, filter: &Filter) -> Bulk {
    engine.bulk(action, filter).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_long_stops_and_is_gone_on_with() {
    let (engine, store) = engine().await;
    submit_many(&engine, "waits", 3_000).await;
    store.set_list_takes(secs(2));
    let (mut changed, mut calls) = (0, 0);
    loop {
        let before = engine.clock().now();
        let done = bulk(&engine, BulkAction::Cancel, &of_task("waits")).await;
        let span = engine.clock().now().since(before);
        assert!(span <= BULK_TIME_MAX + secs(2), "{span:?}");
        assert_eq!(done.matched, done.changed);
        changed += done.changed;
        calls += 1;
        if !done.more {
            break;
        }
        assert!(done.changed > 0, "it does not get on");
    }
    assert_eq!(changed, 3_000);
    assert!(calls > 1, "it never stopped");
}

/// However long a call has to look: one that stopped before would begin anew, and never get there.
#[tokio::test(start_paused = true)]
async fn a_call_goes_on_until_it_has_changed_something() {
    let (engine, store) = engine().await;
    let rare = submit_many(&engine, "work", 2).await;
    for id in &rare {
        ended(&engine, *id).await;
    }
    submit_many(&engine, "waits", 20_500).await;
    store.set_list_takes(secs(3));
    let before = engine.clock().now();
    let filter = Filter {
        // All states, so that every job is looked at.
        ..of_task("work")
    };
    let done = bulk(&engine, BulkAction::Delete, &filter).await;
    assert!(engine.clock().now().since(before) > BULK_TIME_MAX);
    let expected = Bulk {
        matched: 2,
        changed: 2,
        more: false,
    };
    assert_eq!(done, expected);
}

/// Each of them failed again before the next call, so that a call which took what it had retried
/// before would never come to the others, nor to an end.
#[tokio::test(start_paused = true)]
async fn a_retry_of_jobs_that_fail_again_comes_to_an_end() {
    let (engine, _store) = engine().await;
    let count = BULK_MATCHES_MAX + 500;
    let ids = submit_many(&engine, "work", count).await;
    for id in &ids {
        ended(&engine, *id).await;
    }
    let mut retried = Vec::new();
    loop {
        nap(secs(1)).await;
        let done = bulk(&engine, BulkAction::Retry, &of_task("work")).await;
        retried.push(done.changed);
        for id in &ids {
            ended(&engine, *id).await;
        }
        if !done.more {
            break;
        }
        assert!(retried.len() < 5, "it goes on and on: {retried:?}");
    }
    assert_eq!(retried, [BULK_MATCHES_MAX, 500]);
    for id in ids {
        assert_eq!(get(&engine, id).await.errors.len(), 2, "each once");
    }
    // It is over: what failed since may be retried by a new one.
    nap(secs(1)).await;
    let done = bulk(&engine, BulkAction::Retry, &of_task("work")).await;
    assert!(done.changed == BULK_MATCHES_MAX && done.more);
}

/// What changes between the look and the change is looked at again: it may match all the same.
#[tokio::test(start_paused = true)]
async fn a_match_that_changed_meanwhile_is_looked_at_again() {
    let (engine, store) = engine().await;
    let ids = submit_many(&engine, "waits", 4).await;
    let amended = |id, amendment| {
        let amendment = Box::new(amendment);
        Change::new(id, Event::Amended { amendment })
    };
    let urgent = Amendment {
        priority: Priority::new(0).ok(),
        ..Amendment::default()
    };
    let away = Amendment {
        queue: Name::new("elsewhere").ok(),
        ..Amendment::default()
    };
    store.set_after_list(vec![
        amended(ids[0], urgent),
        amended(ids[1], away),
        Change::new(ids[2], Event::CancelRequested),
    ]);
    let filter = Filter {
        queue: Name::new("q").ok(),
        ..Filter::default()
    };
    let done = bulk(&engine, BulkAction::Cancel, &filter).await;
    let expected = Bulk {
        matched: 4,
        changed: 2,
        more: false,
    };
    assert_eq!(done, expected);
    let mut states = Vec::new();
    for id in ids {
        states.push(get(&engine, id).await.status.state);
    }
    let expected = [
        State::Cancelled,
        State::Waiting,
        State::Cancelled,
        State::Cancelled,
    ];
    assert_eq!(states, expected);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_the_store_refuses_says_so_and_can_be_repeated() {
    let (engine, store) = engine().await;
    submit_many(&engine, "waits", 600).await;
    store.set_down(true);
    let refused = engine.bulk(BulkAction::Cancel, &of_task("waits")).await;
    assert!(refused.is_err_and(|error| error.is_retryable()));
    store.set_down(false);
    let done = bulk(&engine, BulkAction::Cancel, &of_task("waits")).await;
    assert_eq!((done.changed, done.more), (600, false));
}

#[tokio::test(start_paused = true)]
async fn only_jobs_of_allowed_tasks_are_changed() {
    let (engine, _store) = engine().await;
    let ids = submit_many(&engine, "waits", 2).await;
    let of = |tasks: &[&str]| Filter {
        tasks_allowed: Some(tasks.iter().map(|task| Name::new(task).unwrap()).collect()),
        queue: Name::new("q").ok(),
        ..Filter::default()
    };
    for tasks in [&[][..], &["work", "other"]] {
        let done = bulk(&engine, BulkAction::Cancel, &of(tasks)).await;
        assert_eq!(done, Bulk::default(), "{tasks:?}");
    }
    let done = bulk(&engine, BulkAction::Cancel, &of(&["work", "waits"])).await;
    assert_eq!(done.changed, ids.len());
}
