//! An attempt: deadline, stop, panic, lease and fence.

use crate::failing_store::FailingStore;
use crate::harness::*;
use anteroom::core::{Event, FailureKind, Rejected, RetryPolicy, ShownState, State};
use anteroom::run::{Outcome, StopReason, function};
use anteroom::store::{Change, Found, Refused, Store};
use anteroom::{Options, Submission, Task, Until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

fn at_once() -> RetryPolicy {
    RetryPolicy {
        initial: Duration::ZERO,
        ..RetryPolicy::default()
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_runs_past_its_timeout_fails_and_is_dropped() {
    struct Dropped(mpsc::UnboundedSender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            let _ = self.0.send(());
        }
    }
    let (sender, mut drops) = mpsc::unbounded_channel();
    let engine = engine_of(move |_| {
        let dropped = Dropped(sender.clone());
        async move {
            std::future::pending::<()>().await;
            drop(dropped);
            done("")
        }
    })
    .await;
    let short = Submission {
        timeout: Some(secs(7)),
        max_attempts: Some(1),
        ..submission("")
    };
    let job = engine.submit(short).await.unwrap().job;
    let job = ended(&engine, job.spec.id).await;
    assert_eq!(errors(&job), [(1, FailureKind::Timeout)]);
    assert_eq!(job.status.finished_at, Some(START.after(secs(7))));
    drops.recv().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_an_outcome_and_the_others_run_on() {
    let engine = engine_of(|attempt| async move {
        assert_ne!(attempt.input.bytes, "bad", "cannot digest this");
        done("fine")
    })
    .await;
    let bad = Submission {
        max_attempts: Some(2),
        ..submission("bad")
    };
    let bad = engine.submit(bad).await.unwrap().job.spec.id;
    let good = submit(&engine, "good").await;
    let bad = ended(&engine, bad).await;
    assert_eq!(
        errors(&bad),
        [(1, FailureKind::Panic), (2, FailureKind::Panic)]
    );
    assert!(bad.errors[0].failure.message.contains("cannot digest this"));
    assert_eq!(ended(&engine, good).await.status.state, State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_waiting_job_is_cancelled_at_once_and_never_starts() {
    let starts = Arc::new(AtomicUsize::new(0));
    let count = starts.clone();
    let engine = engine_of(move |_| {
        count.fetch_add(1, Ordering::SeqCst);
        async { done("") }
    })
    .await;
    let later = Submission {
        start: Some(anteroom::StartAt::In(secs(5))),
        ..submission("")
    };
    let id = engine.submit(later).await.unwrap().job.spec.id;
    let job = engine.cancel(id, None).await.unwrap().unwrap();
    assert_eq!(job.status.state, State::Cancelled);
    nap(secs(10)).await;
    assert_eq!(starts.load(Ordering::SeqCst), 0);
    let again = engine.cancel(id, None).await.unwrap();
    assert!(matches!(
        again,
        Err(Refused::Rejected(Rejected::AlreadyFinal, _))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_running_attempt_is_told_to_stop_and_the_job_is_cancelled() {
    let engine = engine_of(|_| std::future::pending()).await;
    let id = submit(&engine, "").await;
    reached(&engine, id, ShownState::Running).await;
    let told = engine.cancel(id, None).await.unwrap().unwrap();
    assert_eq!(
        (told.status.state, told.status.cancel_requested),
        (State::Running, true)
    );
    let job = ended(&engine, id).await;
    assert_eq!(job.status.state, State::Cancelled);
    assert_eq!(errors(&job), [(1, FailureKind::Cancelled)]);
}

#[tokio::test(start_paused = true)]
async fn a_success_reached_after_the_cancel_is_kept() {
    let blocking = function::blocking(|attempt| {
        while attempt.stop.reason().is_none() {
            std::thread::yield_now();
        }
        assert_eq!(attempt.stop.reason(), Some(StopReason::Cancelled));
        done("in spite of all")
    });
    let engine = start(&store(), vec![task("work", blocking)]).await;
    let id = submit(&engine, "").await;
    reached(&engine, id, ShownState::Running).await;
    let cancelled = engine.cancel(id, None).await.unwrap().unwrap();
    assert!(cancelled.status.cancel_requested);
    let job = ended_in_real_time(&engine, id).await;
    assert_eq!(job.status.state, State::Succeeded);
    assert_eq!(result(&engine, id).await, "in spite of all");
}

/// Looks again and again: with a real thread at work, paused time would jump.
async fn ended_in_real_time(
    engine: &anteroom::Engine,
    id: anteroom::core::JobId,
) -> anteroom::core::Job {
    loop {
        let job = get(engine, id).await;
        if job.status.state.is_final() {
            return job;
        }
        std::thread::yield_now();
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_attempt_outlives_many_leases() {
    let slow = function::bytes(|_| async {
        nap(secs(600)).await;
        done("")
    });
    let slow = Task {
        timeout: secs(3600),
        ..task("work", slow)
    };
    let options = Options {
        lease: secs(3),
        ..Options::default()
    };
    let engine = anteroom::Engine::start(store(), vec![slow], options)
        .await
        .unwrap();
    let job = ended(&engine, submit(&engine, "").await).await;
    assert_eq!(
        (job.status.state, job.status.attempt),
        (State::Succeeded, 1)
    );
    assert_eq!(job.status.finished_at, Some(START.after(secs(600))));
}

#[tokio::test(start_paused = true)]
async fn a_late_worker_changes_nothing() {
    let gate = Arc::new(Semaphore::new(0));
    let pass = gate.clone();
    let slow_first = function::bytes(move |attempt| {
        let pass = pass.clone();
        async move {
            if attempt.number == 1 {
                pass.acquire().await.unwrap().forget();
                return done("of the late one");
            }
            done("of the second")
        }
    });
    let engine = start(
        &store(),
        vec![Task {
            retry: at_once(),
            ..task("work", slow_first)
        }],
    )
    .await;
    let id = submit(&engine, "").await;
    let first = reached(&engine, id, ShownState::Running).await;
    // Its process is taken for dead, and the job given to another attempt.
    let claim = first.status.claim;
    let crashed = Event::WorkerCrashed {
        claim,
        retry_in: Duration::ZERO,
    };
    engine
        .store()
        .apply(vec![Change::new(id, crashed)])
        .await
        .unwrap()[0]
        .clone()
        .unwrap();
    let second = ended(&engine, id).await;
    assert!(second.status.claim > claim);
    gate.add_permits(1);
    // The late settle goes through the same store before this does.
    engine.stop(secs(60)).await;
    assert_eq!(get(&engine, id).await, second);
    assert_eq!(result(&engine, id).await, "of the second");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_lost_its_lease_is_told_to_stop() {
    let (sender, mut stops) = mpsc::unbounded_channel();
    let tells = function::blocking(move |attempt| {
        let reason = loop {
            match attempt.stop.reason() {
                Some(reason) => break reason,
                None => std::thread::yield_now(),
            }
        };
        let _ = sender.send(reason);
        Outcome::failed("stopped")
    });
    let engine = start(&store(), vec![task("work", tells)]).await;
    let id = submit(&engine, "").await;
    let claim = reached(&engine, id, ShownState::Running).await.status.claim;
    let crashed = Event::WorkerCrashed {
        claim,
        retry_in: secs(600),
    };
    engine
        .store()
        .apply(vec![Change::new(id, crashed)])
        .await
        .unwrap()[0]
        .clone()
        .unwrap();
    assert_eq!(stops.recv().await, Some(StopReason::LeaseLost));
}

#[tokio::test(start_paused = true)]
async fn a_result_over_the_limit_fails_for_good() {
    let large = function::bytes(|_| async { done(&"x".repeat(11)) });
    let options = Options {
        result_bytes_max: 10,
        ..Options::default()
    };
    let tasks = vec![task("work", large)];
    let engine = anteroom::Engine::start(store(), tasks, options)
        .await
        .unwrap();
    let job = ended(&engine, submit(&engine, "").await).await;
    assert_eq!((job.status.state, job.status.attempt), (State::Failed, 1));
    assert_eq!(
        job.errors[0].failure.message,
        "the result is 11 bytes; the limit is 10"
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_starts_over_and_keeps_what_was_said() {
    let engine = engine_of(|attempt| async move {
        if attempt.claim.get() & 0xff <= 2 {
            Outcome::failed_for_good("no")
        } else {
            done("")
        }
    })
    .await;
    let id = submit(&engine, "").await;
    ended(&engine, id).await;
    engine.retry(id, None).await.unwrap().unwrap();
    let job = ended(&engine, id).await;
    assert_eq!(
        errors(&job),
        [(1, FailureKind::Error), (1, FailureKind::Error)]
    );
    engine.retry(id, None).await.unwrap().unwrap();
    assert_eq!(ended(&engine, id).await.status.state, State::Succeeded);
    let refused = engine.retry(id, None).await.unwrap();
    assert!(matches!(
        refused,
        Err(Refused::Rejected(Rejected::AlreadySucceeded, _))
    ));
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_waiters_of_one_job_all_learn_of_its_end() {
    let gate = Arc::new(Semaphore::new(0));
    let pass = gate.clone();
    let engine = engine_of(move |_| {
        let pass = pass.clone();
        async move {
            pass.acquire().await.unwrap().forget();
            done("")
        }
    })
    .await;
    let id = submit(&engine, "").await;
    let mut waiters = tokio::task::JoinSet::new();
    for _ in 0..10_000 {
        let engine = engine.clone();
        waiters.spawn(async move { engine.wait(id, Until::Done, LONG).await });
    }
    tokio::task::yield_now().await;
    gate.add_permits(1);
    let jobs = waiters.join_all().await;
    assert!(
        jobs.into_iter()
            .all(|job| job.unwrap().here().unwrap().status.state.is_final())
    );
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_change_of_a_deleted_job_is_told_that_it_is_gone() {
    let engine = engine_of(|_| async { Outcome::failed_for_good("no") }).await;
    for delete in [true, false] {
        let short = Submission {
            retain: Some(secs(60)),
            ..submission("")
        };
        let id = engine.submit(short).await.unwrap().job.spec.id;
        let job = ended(&engine, id).await;
        let seen = Until::Changed {
            version: job.status.version,
            shown: ShownState::Failed,
        };
        let before = engine.clock().now();
        let deletion = async {
            if delete {
                nap(secs(5)).await;
                engine.delete(id, None).await.unwrap();
            }
        };
        let (found, ()) = tokio::join!(engine.wait(id, seen, secs(100)), deletion);
        assert_eq!(found.unwrap(), Found::Gone);
        let waited = engine.clock().now().since(before);
        assert_eq!(waited, if delete { secs(5) } else { secs(100) });
    }
}

/// The store could not be written for longer than a lease. When it is back, upkeep may look
/// before the keeper does.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_lives_is_not_rescued_whatever_became_of_its_lease() {
    let slow = function::bytes(|_| async {
        nap(secs(600)).await;
        done("")
    });
    let failing = FailingStore::new();
    let store: Arc<dyn Store> = failing.clone();
    let slow = Task {
        timeout: secs(3600),
        ..task("work", slow)
    };
    let engine = start(&store, vec![slow]).await;
    let id = submit(&engine, "").await;
    reached(&engine, id, ShownState::Running).await;
    // Back at 95 s: the keeper comes by at 100 s, upkeep every second.
    nap(secs(5)).await;
    failing.set_down(true);
    nap(secs(90)).await;
    failing.set_down(false);
    let job = ended(&engine, id).await;
    assert_eq!(
        (job.status.state, job.status.attempt),
        (State::Succeeded, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn upkeep_rests_while_no_job_is_unfinished() {
    let watched = FailingStore::new();
    let store: Arc<dyn Store> = watched.clone();
    let long = function::bytes(|_| async {
        nap(secs(60)).await;
        done("")
    });
    let engine = start(&store, vec![task("work", long)]).await;
    watched.take_looks();
    nap(secs(61)).await;
    let at_rest = watched.take_looks();
    assert!((19..=21).contains(&at_rest), "{at_rest} looks in a minute");

    let id = submit(&engine, "").await;
    nap(Duration::from_millis(1_100)).await;
    assert_eq!(watched.take_looks(), 1, "the rest ends with a submit");
    ended(&engine, id).await;
    let at_work = watched.take_looks();
    assert!((57..=61).contains(&at_work), "{at_work} looks in a minute");
}

#[tokio::test(start_paused = true)]
async fn the_result_of_a_job_that_runs_here_is_waited_for_without_a_look() {
    let watched = FailingStore::new();
    let store: Arc<dyn Store> = watched.clone();
    let slow = function::bytes(|attempt| async move {
        nap(secs(60)).await;
        match &*attempt.input.bytes {
            b"fail" => Outcome::failed_for_good("no"),
            _ => done("well"),
        }
    });
    let engine = start(&store, vec![task("work", slow)]).await;
    for (input, waited_for, looks, state) in [
        ("", 100, 0, State::Succeeded),
        ("", 10, 1, State::Running),
        ("fail", 100, 1, State::Failed),
        ("", 0, 1, State::Running),
    ] {
        let id = submit(&engine, input).await;
        reached(&engine, id, ShownState::Running).await;
        let before = watched.reads();
        let found = engine.wait_for_result(id, secs(waited_for)).await.unwrap();
        let (job, result) = found.here().unwrap();
        assert_eq!((job.status.state, watched.reads() - before), (state, looks));
        assert_eq!(result.is_some(), state == State::Succeeded);
    }
}
