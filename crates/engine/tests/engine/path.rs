//! The path of a job: submit → dispatch → attempt → settle → notify.

use crate::harness::*;
use anteroom::core::{FailureKind, Name, RetryPolicy, ShownState, State};
use anteroom::run::{Outcome, RetryHint, function};
use anteroom::store::{Filter, Page};
use anteroom::{StartAt, Submission, SubmitError, Submitted, Task, Until};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

#[tokio::test(start_paused = true)]
async fn a_submitted_job_runs_and_its_result_is_kept() {
    let engine = engine_of(|attempt| async move {
        assert_eq!((attempt.number, attempt.max_attempts), (1, 5));
        Outcome::Succeeded(attempt.input)
    })
    .await;
    let job = engine.submit(submission("hello")).await.unwrap().job;
    assert_eq!(job.status.shown(engine.clock().now()), ShownState::Ready);
    let job = ended(&engine, job.spec.id).await;
    assert_eq!(job.status.state, State::Succeeded);
    assert_eq!(job.status.attempt, 1);
    assert_eq!(result(&engine, job.spec.id).await, "hello");
}

#[tokio::test(start_paused = true)]
async fn a_submit_that_waits_is_answered_with_the_end() {
    let engine = engine_of(|_| async { done("ok") }).await;
    let job = engine
        .submit_and_wait(submission(""), secs(5))
        .await
        .unwrap()
        .job;
    assert_eq!(job.status.state, State::Succeeded);
}

#[tokio::test(start_paused = true)]
async fn a_submit_that_waits_in_vain_is_answered_with_the_job_as_it_stands() {
    let engine = engine_of(|_| std::future::pending()).await;
    let before = engine.clock().now();
    let job = engine
        .submit_and_wait(submission(""), secs(5))
        .await
        .unwrap()
        .job;
    assert_eq!(job.status.state, State::Running);
    assert_eq!(engine.clock().now().since(before), secs(5));
}

#[tokio::test(start_paused = true)]
async fn json_goes_in_and_out_of_a_typed_function() {
    let double = function::json(|number: i64, _| async move {
        if number < 0 {
            Err("negative")
        } else {
            Ok(number * 2)
        }
    });
    let engine = start(&store(), vec![task("work", double)]).await;
    let id = submit(&engine, "21").await;
    ended(&engine, id).await;
    assert_eq!(result(&engine, id).await, "42");

    let unfit = ended(&engine, submit(&engine, "\"x\"").await).await;
    assert_eq!(
        (unfit.status.state, unfit.status.attempt),
        (State::Failed, 1)
    );
    assert!(
        unfit.errors[0]
            .failure
            .message
            .starts_with("the input does not fit: ")
    );

    let refused = ended(&engine, submit(&engine, "-1").await).await;
    assert_eq!(
        (refused.status.state, refused.status.attempt),
        (State::Failed, 5)
    );
    assert_eq!(refused.errors[0].failure.message, "negative");
}

#[tokio::test(start_paused = true)]
async fn a_failed_attempt_is_retried_after_its_backoff() {
    let policy = RetryPolicy {
        initial: secs(10),
        jitter: 0.0,
        ..RetryPolicy::default()
    };
    let flaky = function::bytes(|attempt| async move {
        if attempt.number < 3 {
            Outcome::failed("not yet")
        } else {
            done("at last")
        }
    });
    let engine = start(
        &store(),
        vec![Task {
            retry: policy,
            ..task("work", flaky)
        }],
    )
    .await;
    let id = submit(&engine, "").await;
    let waiting = reached(&engine, id, ShownState::Scheduled).await;
    assert_eq!(waiting.status.run_at, START.after(secs(10)));
    let job = ended(&engine, id).await;
    assert_eq!(
        (job.status.state, job.status.attempt),
        (State::Succeeded, 3)
    );
    assert_eq!(
        errors(&job),
        [(1, FailureKind::Error), (2, FailureKind::Error)]
    );
    assert_eq!(job.status.finished_at, Some(START.after(secs(10 + 20))));
}

#[tokio::test(start_paused = true)]
async fn a_runner_may_name_the_wait_or_give_up() {
    let engine = engine_of(|attempt| async move {
        match attempt.number {
            1 => Outcome::Failed {
                message: "later".to_owned(),
                retry: RetryHint::After(secs(77)),
            },
            _ => Outcome::failed_for_good("never"),
        }
    })
    .await;
    let job = ended(&engine, submit(&engine, "").await).await;
    assert_eq!((job.status.state, job.status.attempt), (State::Failed, 2));
    assert_eq!(job.status.finished_at, Some(START.after(secs(77))));
}

#[tokio::test(start_paused = true)]
async fn a_busy_runner_hands_back_and_costs_no_attempt() {
    let calls = Arc::new(AtomicUsize::new(0));
    let engine = engine_of(move |attempt| {
        let call = calls.fetch_add(1, Ordering::SeqCst);
        async move {
            assert_eq!(attempt.number, 1);
            if call < 3 {
                Outcome::Busy { delay: secs(1) }
            } else {
                done("")
            }
        }
    })
    .await;
    let job = ended(&engine, submit(&engine, "").await).await;
    assert_eq!(
        (job.status.state, job.status.attempt),
        (State::Succeeded, 1)
    );
    assert_eq!(job.status.hand_backs, 3);
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_run_at_once_than_there_are_slots() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let seen = most.clone();
    let nap = function::bytes(move |_| {
        let (now, most) = (now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            nap(secs(1)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            done("")
        }
    });
    let engine = start(
        &store(),
        vec![Task {
            concurrency: 100,
            ..task("work", nap)
        }],
    )
    .await;
    let jobs = engine
        .submit_all((0..500).map(|_| submission("")).collect())
        .await
        .unwrap();
    for Submitted { job, .. } in jobs {
        ended(&engine, job.spec.id).await;
    }
    assert_eq!(seen.load(Ordering::SeqCst), 100);
    assert_eq!(
        engine.clock().now(),
        START.after(secs(5)),
        "500 naps of 1 s in 100 slots"
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_comes_while_others_run_takes_a_free_slot_at_once() {
    let gate = Arc::new(Semaphore::new(0));
    let pass = gate.clone();
    let engine = engine_of(move |attempt| {
        let pass = pass.clone();
        async move {
            if attempt.input.bytes == "slow" {
                pass.acquire().await.unwrap().forget();
            }
            done("")
        }
    })
    .await;
    let slow = submit(&engine, "slow").await;
    reached(&engine, slow, ShownState::Running).await;
    let quick = ended(&engine, submit(&engine, "quick").await).await;
    assert_eq!(
        quick.status.finished_at,
        Some(START),
        "slow work blocks nobody"
    );
    gate.add_permits(1);
    ended(&engine, slow).await;
}

#[tokio::test(start_paused = true)]
async fn a_delayed_job_starts_when_it_is_due_and_the_passage_is_seen() {
    let engine = engine_of(|_| async { done("") }).await;
    let delayed = Submission {
        start: Some(StartAt::In(secs(60))),
        ..submission("")
    };
    let job = engine.submit(delayed).await.unwrap().job;
    assert_eq!(job.status.shown(START), ShownState::Scheduled);
    let job = ended(&engine, job.spec.id).await;
    assert_eq!(job.status.started_at, Some(START.after(secs(60))));

    // A task that nobody runs here: only the clock moves its jobs.
    let pull = Task::new("left", anteroom::TaskRunner::Pull).unwrap();
    let engine = start(&store(), vec![pull]).await;
    let left = Submission {
        start: Some(StartAt::In(secs(60))),
        ..Submission::new(Name::new("left").unwrap(), text(""))
    };
    let job = engine.submit(left).await.unwrap().job;
    let seen = Until::Changed {
        version: job.status.version,
        shown: ShownState::Scheduled,
    };
    engine.wait(job.spec.id, seen, LONG).await.unwrap();
    assert_eq!(
        get(&engine, job.spec.id)
            .await
            .status
            .shown(engine.clock().now()),
        ShownState::Ready
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_did_not_begin_in_time_fails_as_too_late() {
    let engine = engine_of(|_| std::future::pending()).await;
    let late = Submission {
        start: Some(StartAt::In(secs(100))),
        start_before: Some(START.after(secs(10))),
        ..submission("")
    };
    let job = engine.submit(late).await.unwrap().job;
    let job = ended(&engine, job.spec.id).await;
    assert_eq!((job.status.state, job.status.attempt), (State::Failed, 0));
    assert_eq!(errors(&job), [(0, FailureKind::TooLate)]);
}

#[tokio::test(start_paused = true)]
async fn a_finished_job_is_forgotten_when_its_retention_is_over() {
    let engine = engine_of(|_| async { done("") }).await;
    let short = Submission {
        retain: Some(secs(60)),
        ..submission("")
    };
    let id = engine.submit(short).await.unwrap().job.spec.id;
    ended(&engine, id).await;
    nap(secs(59)).await;
    assert!(engine.store().get(id).await.unwrap().here().is_some());
    nap(secs(3)).await;
    assert_eq!(
        engine.store().get(id).await.unwrap(),
        anteroom::store::Found::Gone
    );
}

type Spoil = fn(&mut Submission);

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_refused_and_nothing_is_stored() {
    let engine = engine_of(|_| async { done("") }).await;
    let cases: [(&str, Spoil); 9] = [
        ("there is no task other", |s| {
            s.task = Name::new("other").unwrap();
        }),
        ("max_attempts is 0; it is from 1 to 100", |s| {
            s.max_attempts = Some(0);
        }),
        ("max_attempts is 101; it is from 1 to 100", |s| {
            s.max_attempts = Some(101);
        }),
        ("timeout is 99ms; it is from 100ms to 604800s", |s| {
            s.timeout = Some(std::time::Duration::from_millis(99));
        }),
        ("retain is 7776001s; it is from 0ns to 7776000s", |s| {
            s.retain = Some(secs(7_776_001));
        }),
        ("delay lies more than a year ahead", |s| {
            s.start = Some(StartAt::In(secs(40_000_000)));
        }),
        ("start_before has passed; it lies ahead", |s| {
            s.start_before = Some(START);
        }),
        ("the input is 1048577 bytes; the limit is 1048576", |s| {
            s.input.bytes = vec![0; 1_048_577].into();
        }),
        (
            "queue anteroom.x begins with what the server keeps for itself",
            |s| {
                s.queue = Some(Name::new("anteroom.x").unwrap());
            },
        ),
    ];
    for (expected, spoil) in cases {
        let mut spoilt = submission("");
        spoil(&mut spoilt);
        let good_and_bad = vec![submission(""), spoilt];
        let error = engine.submit_all(good_and_bad).await.unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let too_many = engine
        .submit_all(vec![submission(""); 10_001])
        .await
        .unwrap_err();
    assert!(matches!(
        too_many,
        SubmitError::TooMany {
            jobs: 10_001,
            limit: 10_000
        }
    ));
    let page = Page {
        size: 10,
        after: None,
    };
    assert!(
        engine
            .store()
            .list(&Filter::default(), page)
            .await
            .unwrap()
            .jobs
            .is_empty()
    );
}
