//! Callbacks: each end of a job that somebody asks about is told of, whatever the way to it.

use crate::harness::*;
use anteroom::core::limits::{CALLBACK_TASK, CALLBACKS_AT_ONCE_MAX};
use anteroom::core::{Job, JobId, Name, ShownState, State};
use anteroom::run::{Attempt, Outcome, Runner, function};
use anteroom::store::{Filter, Page, Store};
use anteroom::{
    BulkAction, CallbackUrl, Callbacks, CheckTarget, Engine, Options, StartAt, Submission,
    SubmitError, Task,
};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

#[derive(Debug, Default)]
struct Anywhere(AtomicUsize);

#[async_trait]
impl CheckTarget for Anywhere {
    async fn check(&self, url: &str) -> Result<(), String> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match url {
            "http://never.example/" => std::future::pending().await,
            "http://private.example/" => Err("it is private".to_owned()),
            _ => Ok(()),
        }
    }
}

fn callbacks(runner: Arc<dyn Runner>) -> Options {
    Options {
        callbacks: Some(Callbacks {
            runner,
            targets: Arc::new(Anywhere::default()),
        }),
        strict_queues: true,
        hold: false,
        ..Options::default()
    }
}

/// Tells of what is sent, instead of sending it.
fn recorder() -> (Arc<dyn Runner>, UnboundedReceiver<String>) {
    let (record, sent) = unbounded_channel();
    let runner = function::bytes(move |attempt: Attempt| {
        let event: serde_json::Value = serde_json::from_slice(&attempt.input.bytes).unwrap();
        let what = format!("{} {}", event["type"], event["data"]["id"]);
        record.send(what.replace('"', "")).unwrap();
        async { done("") }
    });
    (runner, sent)
}

async fn next(sent: &mut UnboundedReceiver<String>) -> String {
    tokio::time::timeout(LONG, sent.recv())
        .await
        .unwrap()
        .unwrap()
}

fn asking(input: &str) -> Submission {
    Submission {
        callback_url: CallbackUrl::new("http://hooks.example/").ok(),
        ..submission(input)
    }
}

async fn asked(engine: &Engine, submission: Submission) -> JobId {
    engine.submit(submission).await.unwrap().job.spec.id
}

/// Does what its input says.
fn work() -> Task {
    let runner = function::bytes(|attempt: Attempt| async move {
        match &attempt.input.bytes[..] {
            b"fail" => Outcome::failed_for_good("no"),
            b"panic" => panic!("no"),
            b"wait" => std::future::pending().await,
            _ => done("ok"),
        }
    });
    Task {
        max_attempts: 1,
        ..task("work", runner)
    }
}

async fn listed(store: &Arc<dyn Store>) -> Vec<Job> {
    let filter = Filter {
        task: Name::new(CALLBACK_TASK).ok(),
        ..Filter::default()
    };
    let page = Page {
        size: 100,
        after: None,
    };
    store.list(&filter, page).await.unwrap().jobs
}

#[tokio::test(start_paused = true)]
async fn each_way_to_an_end_is_told_of_once() {
    let (runner, mut sent) = recorder();
    let store = store();
    let engine = Engine::start(store.clone(), vec![work()], callbacks(runner))
        .await
        .unwrap();
    for (input, kind) in [("ok", "succeeded"), ("fail", "failed"), ("panic", "failed")] {
        let id = asked(&engine, asking(input)).await;
        assert_eq!(next(&mut sent).await, format!("job.{kind} {id}"));
    }
    let slow = Submission {
        timeout: Some(secs(5)),
        ..asking("wait")
    };
    let id = asked(&engine, slow).await;
    assert_eq!(next(&mut sent).await, format!("job.failed {id}"));
    let id = asked(&engine, asking("wait")).await;
    reached(&engine, id, ShownState::Running).await;
    engine.cancel(id, None).await.unwrap().unwrap();
    assert_eq!(next(&mut sent).await, format!("job.cancelled {id}"));
    let later = Submission {
        start: Some(StartAt::In(secs(60))),
        start_before: Some(engine.clock().now().after(secs(30))),
        ..asking("")
    };
    let id = asked(&engine, later.clone()).await;
    assert_eq!(
        next(&mut sent).await,
        format!("job.failed {id}"),
        "too late"
    );
    let later = Submission {
        start_before: None,
        ..later
    };
    let id = asked(&engine, later).await;
    let filter = Filter {
        task: Name::new("work").ok(),
        ..Filter::default()
    };
    engine.bulk(BulkAction::Cancel, &filter).await.unwrap();
    assert_eq!(next(&mut sent).await, format!("job.cancelled {id}"));
    // And again after a retry.
    engine.retry(id, None).await.unwrap().unwrap();
    assert_eq!(next(&mut sent).await, format!("job.succeeded {id}"));
    ended(&engine, submit(&engine, "ok").await).await;
    assert_eq!(listed(&store).await.len(), 8);
    assert!(sent.try_recv().is_err(), "more was told than happened");
}

#[tokio::test(start_paused = true)]
async fn a_callback_is_sent_again_after_the_waits_of_the_contract() {
    let at = Arc::new(AtomicUsize::new(0));
    let count = at.clone();
    let runner = function::bytes(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { Outcome::failed("nobody is there") }
    });
    let store = store();
    let engine = Engine::start(store.clone(), vec![work()], callbacks(runner))
        .await
        .unwrap();
    let id = asked(&engine, asking("ok")).await;
    ended(&engine, id).await;
    let callback = listed(&store).await.remove(0).spec.id;
    let waiting = reached(&engine, callback, ShownState::Scheduled).await;
    let wait = waiting.status.run_at.since(engine.clock().now());
    assert!(wait <= secs(6) && wait >= secs(4), "{wait:?}");
    // Past the third attempt, five minutes after the second.
    nap(secs(400)).await;
    let waiting = get(&engine, callback).await;
    assert_eq!((waiting.status.attempt, at.load(Ordering::SeqCst)), (3, 3));
    let wait = waiting.status.run_at.since(engine.clock().now());
    assert!(wait <= secs(33 * 60) && wait >= secs(24 * 60), "{wait:?}");
    assert_eq!(waiting.status.max_attempts, 10);
}

#[tokio::test(start_paused = true)]
async fn without_a_sender_a_callback_url_is_refused() {
    let engine = start(&store(), vec![work()]).await;
    let refused = engine.submit(asking("ok")).await.unwrap_err();
    assert!(
        matches!(refused, SubmitError::CallbacksUnsupported),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn targets_are_looked_at_before_a_submit_is_taken() {
    let (runner, _sent) = recorder();
    let options = callbacks(runner);
    let engine = Engine::start(store(), vec![work()], options).await.unwrap();
    let to = |url| Submission {
        callback_url: CallbackUrl::new(url).ok(),
        ..submission("")
    };
    let (good, private) = (to("http://hooks.example/"), to("http://private.example/"));
    let many = vec![submission(""), good.clone(), private.clone(), private];
    match engine.submit_all(many).await.unwrap_err() {
        SubmitError::CallbackRefused {
            index: 2, reason, ..
        } => assert_eq!(reason, "it is private"),
        other => panic!("{other:?}"),
    }
    // What nobody can tell in time is for the sender to find out.
    let taken = engine.submit_all(vec![good, to("http://never.example/")]);
    assert_eq!(taken.await.unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn nobody_submits_to_the_task_of_callbacks() {
    let (runner, _sent) = recorder();
    let engine = Engine::start(store(), vec![work()], callbacks(runner))
        .await
        .unwrap();
    let submission = Submission::new(Name::new(CALLBACK_TASK).unwrap(), text(""));
    let refused = engine.submit(submission).await.unwrap_err();
    assert!(
        matches!(refused, SubmitError::UnknownTask { .. }),
        "{refused:?}"
    );
    assert!(engine.task(CALLBACK_TASK).is_none());
    assert!(engine.tasks().all(|task| *task.name == *"work"));
}

/// The end of a job is committed by a process that sends nothing; the next one sends it.
#[cfg(feature = "sqlite")]
#[tokio::test]
async fn a_callback_of_a_process_that_died_is_sent_by_the_next() {
    use anteroom::clock::Clock;
    use anteroom::core::Event;
    use anteroom::store::Change;
    use anteroom::store::sqlite::SqliteStore;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jobs.db");
    let open =
        || -> Arc<dyn Store> { Arc::new(SqliteStore::open(&path, Clock::system()).unwrap()) };
    let (runner, mut unsent) = recorder();
    let first = Engine::start(open(), vec![work()], callbacks(runner))
        .await
        .unwrap();
    let later = Submission {
        start: Some(StartAt::In(secs(60))),
        ..asking("ok")
    };
    let id = asked(&first, later).await;
    first.stop(secs(0)).await;
    let cancel = Change::new(id, Event::CancelRequested);
    first
        .store()
        .apply(vec![cancel])
        .await
        .unwrap()
        .remove(0)
        .unwrap();
    let callback = listed(first.store()).await.remove(0);
    first.close().await;
    assert!(unsent.try_recv().is_err());
    drop(first);
    let (runner, mut sent) = recorder();
    let second = Engine::start(open(), vec![work()], callbacks(runner))
        .await
        .unwrap();
    assert_eq!(next(&mut sent).await, format!("job.cancelled {id}"));
    ended(&second, callback.spec.id).await;
    assert_eq!(listed(second.store()).await.len(), 1);
    second.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_callback_that_waits_says_for_what() {
    let store = store();
    let never = function::bytes(|_| std::future::pending());
    let engine = Engine::start(store.clone(), vec![work()], callbacks(never))
        .await
        .unwrap();
    for _ in 0..=CALLBACKS_AT_ONCE_MAX {
        let id = asked(&engine, asking("ok")).await;
        ended(&engine, id).await;
    }
    let running = async || {
        let jobs = listed(&store).await.into_iter();
        jobs.partition::<Vec<Job>, _>(|job| job.status.state == State::Running)
    };
    let waiting = loop {
        let (running, waiting) = running().await;
        if running.len() == CALLBACKS_AT_ONCE_MAX {
            break waiting;
        }
        tokio::task::yield_now().await;
    };
    let told = engine.waiting(&waiting[0]).await.unwrap().unwrap();
    let busy = "all 64 slots of task anteroom.callback on this node are busy";
    assert_eq!(told.reasons, [busy]);
}
