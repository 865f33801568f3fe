//! What the engine counts, read out of a registry of the embedder's.

use crate::failing_store::FailingStore;
use crate::harness::*;
use anteroom::core::{Event, JobId, Name, RetryPolicy, ShownState};
use anteroom::run::{Outcome, function};
use anteroom::store::{Change, Store};
use anteroom::{Engine, StartAt, Submission, Task, Until};
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::Semaphore;

/// The samples of an engine, in a registry that is not its own.
struct Scrape(Vec<String>);

impl Scrape {
    fn of(engine: &Engine) -> Self {
        let mut registry = Registry::default();
        engine.metrics().register(&mut registry);
        let mut text = String::new();
        encode(&mut text, &registry).unwrap();
        Self(text.lines().map(str::to_owned).collect())
    }

    /// Returns the value of a sample, by its name and labels as they are written.
    fn value(&self, sample: &str) -> f64 {
        let mut values = self.0.iter().filter_map(|line| {
            let rest = line.strip_prefix(sample)?;
            rest.strip_prefix(' ')?.parse().ok()
        });
        let value = values.next();
        assert!(values.next().is_none(), "{sample} twice");
        value.unwrap_or_else(|| panic!("no {sample} in {:#?}", self.0))
    }

    fn is(&self, expected: &[(&str, f64)]) {
        for (sample, value) in expected {
            let found = self.value(sample);
            assert!(
                (found - value).abs() < 1e-9,
                "{sample} is {found}, not {value}"
            );
        }
    }
}

/// Does what the input says.
fn obedient() -> Task {
    let function = function::bytes(|attempt| async move {
        match &attempt.input.bytes[..] {
            b"fail" => Outcome::failed_for_good("as told"),
            b"again" if attempt.number == 1 => Outcome::failed("once"),
            b"long" => {
                attempt.stop.requested().await;
                Outcome::failed("stopped")
            }
            _ => {
                nap(secs(2)).await;
                done("")
            }
        }
    });
    let mut task = task("work", function);
    task.retry = RetryPolicy {
        initial: secs(10),
        jitter: 0.0,
        ..RetryPolicy::default()
    };
    task
}

#[tokio::test(start_paused = true)]
async fn every_start_and_end_is_counted_once() {
    let engine = start(&store(), vec![obedient()]).await;
    let mut ids: Vec<JobId> = Vec::new();
    for input in ["well", "well", "well", "fail", "again"] {
        ids.push(submit(&engine, input).await);
    }
    let twice = vec![submission("well"), submission("fail")];
    for job in engine.submit_all(twice).await.unwrap() {
        ids.push(job.job.spec.id);
    }
    let late = Submission {
        start: Some(StartAt::In(secs(60))),
        ..submission("well")
    };
    ids.push(
        engine
            .submit_and_wait(late, LONG)
            .await
            .unwrap()
            .job
            .spec
            .id,
    );
    let stopped = submit(&engine, "long").await;
    reached(&engine, stopped, ShownState::Running).await;
    engine.cancel(stopped, None).await.unwrap().unwrap();
    ids.push(stopped);
    let unstarted = Submission {
        start: Some(StartAt::In(secs(60))),
        ..submission("well")
    };
    let unstarted = engine.submit(unstarted).await.unwrap().job.spec.id;
    engine.cancel(unstarted, None).await.unwrap().unwrap();
    ids.push(unstarted);
    for id in &ids {
        ended(&engine, *id).await;
    }
    Scrape::of(&engine).is(&[
        ("anteroom_jobs_submitted_total{task=\"work\"}", 10.0),
        (
            "anteroom_jobs_finished_total{task=\"work\",state=\"succeeded\"}",
            6.0,
        ),
        (
            "anteroom_jobs_finished_total{task=\"work\",state=\"failed\"}",
            2.0,
        ),
        (
            "anteroom_jobs_finished_total{task=\"work\",state=\"cancelled\"}",
            2.0,
        ),
        ("anteroom_attempts_started_total{task=\"work\"}", 10.0),
        (
            "anteroom_attempts_ended_total{task=\"work\",outcome=\"succeeded\"}",
            6.0,
        ),
        (
            "anteroom_attempts_ended_total{task=\"work\",outcome=\"failed\"}",
            2.0,
        ),
        (
            "anteroom_attempts_ended_total{task=\"work\",outcome=\"retried\"}",
            1.0,
        ),
        (
            "anteroom_attempts_ended_total{task=\"work\",outcome=\"cancelled\"}",
            1.0,
        ),
        (
            "anteroom_attempts_ended_total{task=\"work\",outcome=\"handed_back\"}",
            0.0,
        ),
        ("anteroom_attempts_running{task=\"work\"}", 0.0),
        (
            "anteroom_attempt_duration_seconds_count{task=\"work\"}",
            10.0,
        ),
        // Of the six that took their two seconds.
        ("anteroom_attempt_duration_seconds_sum{task=\"work\"}", 12.0),
        (
            "anteroom_attempt_duration_seconds_bucket{le=\"1.0\",task=\"work\"}",
            4.0,
        ),
        (
            "anteroom_attempt_duration_seconds_bucket{le=\"+Inf\",task=\"work\"}",
            10.0,
        ),
        ("anteroom_start_lateness_seconds_count{task=\"work\"}", 10.0),
        ("anteroom_start_lateness_seconds_sum{task=\"work\"}", 0.0),
        // The retry is no first start; the delayed job waited for its minute.
        ("anteroom_job_wait_seconds_count{task=\"work\"}", 9.0),
        ("anteroom_job_wait_seconds_sum{task=\"work\"}", 60.0),
    ]);
}

#[tokio::test(start_paused = true)]
async fn a_job_that_waits_for_a_slot_is_late() {
    let mut work = obedient();
    work.concurrency = 1;
    let engine = start(&store(), vec![work]).await;
    submit(&engine, "well").await;
    let second = submit(&engine, "well").await;
    ended(&engine, second).await;
    Scrape::of(&engine).is(&[
        ("anteroom_start_lateness_seconds_sum{task=\"work\"}", 2.0),
        ("anteroom_job_wait_seconds_sum{task=\"work\"}", 2.0),
    ]);
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_back_or_lost_is_told_apart() {
    let gate = Arc::new(Semaphore::new(0));
    let pass = gate.clone();
    let is_busy = AtomicBool::new(true);
    let busy_once = function::bytes(move |_| {
        let is_busy = is_busy.swap(false, Ordering::SeqCst);
        async move {
            if is_busy {
                return Outcome::Busy { delay: secs(9) };
            }
            done("")
        }
    });
    let held = function::bytes(move |_| {
        let pass = pass.clone();
        async move {
            pass.acquire().await.unwrap().forget();
            done("")
        }
    });
    let engine = start(&store(), vec![task("work", busy_once), task("held", held)]).await;
    let id = submit(&engine, "").await;
    ended(&engine, id).await;
    Scrape::of(&engine).is(&[
        ("anteroom_attempts_started_total{task=\"work\"}", 2.0),
        (
            "anteroom_attempts_ended_total{task=\"work\",outcome=\"handed_back\"}",
            1.0,
        ),
        (
            "anteroom_attempts_ended_total{task=\"work\",outcome=\"succeeded\"}",
            1.0,
        ),
        (
            "anteroom_jobs_finished_total{task=\"work\",state=\"succeeded\"}",
            1.0,
        ),
    ]);
    let held = Submission {
        max_attempts: Some(1),
        ..Submission::new(Name::new("held").unwrap(), text(""))
    };
    let id = engine.submit(held).await.unwrap().job.spec.id;
    let job = reached(&engine, id, ShownState::Running).await;
    Scrape::of(&engine).is(&[("anteroom_attempts_running{task=\"held\"}", 1.0)]);
    // Its process is taken for dead.
    let crashed = Event::WorkerCrashed {
        claim: job.status.claim,
        retry_in: Duration::ZERO,
    };
    let taken = engine.store().apply(vec![Change::new(id, crashed)]).await;
    taken.unwrap()[0].clone().unwrap();
    gate.add_permits(1);
    engine.stop(secs(60)).await;
    Scrape::of(&engine).is(&[
        (
            "anteroom_attempts_ended_total{task=\"held\",outcome=\"lost\"}",
            1.0,
        ),
        (
            "anteroom_attempts_ended_total{task=\"held\",outcome=\"succeeded\"}",
            0.0,
        ),
        (
            "anteroom_jobs_finished_total{task=\"held\",state=\"succeeded\"}",
            0.0,
        ),
        ("anteroom_attempts_running{task=\"held\"}", 0.0),
    ]);
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_left_is_counted_as_rescued() {
    let store = store();
    let old = vec![task("gone", function::bytes(|_| std::future::pending()))];
    let engine = start(&store, old).await;
    let late = Submission {
        start_before: Some(START.after(secs(5))),
        start: Some(StartAt::In(secs(60))),
        ..Submission::new(Name::new("gone").unwrap(), text(""))
    };
    engine.submit(late).await.unwrap();
    engine.stop(secs(1)).await;
    let engine = start(&store, vec![obedient()]).await;
    nap(secs(30)).await;
    Scrape::of(&engine).is(&[
        // Its task is not registered any more.
        (
            "anteroom_jobs_rescued_total{task=\"anteroom.other\",reason=\"too_late\"}",
            1.0,
        ),
        (
            "anteroom_jobs_rescued_total{task=\"work\",reason=\"too_late\"}",
            0.0,
        ),
        (
            "anteroom_jobs_finished_total{task=\"anteroom.other\",state=\"failed\"}",
            1.0,
        ),
        ("anteroom_jobs_submitted_total{task=\"work\"}", 0.0),
    ]);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_stored_is_not_counted_and_what_waits_is() {
    let store = FailingStore::new();
    let engine = start(&(store.clone() as Arc<dyn Store>), vec![obedient()]).await;
    store.set_down(true);
    engine.submit(submission("well")).await.unwrap_err();
    store.set_down(false);
    let submitted = "anteroom_jobs_submitted_total{task=\"work\"}";
    Scrape::of(&engine).is(&[(submitted, 0.0), ("anteroom_waiters", 0.0)]);
    let id = submit(&engine, "long").await;
    let waits = engine.wait(id, Until::Done, LONG);
    let mut waits = std::pin::pin!(waits);
    assert!(futures_util::poll!(&mut waits).is_pending());
    Scrape::of(&engine).is(&[(submitted, 1.0), ("anteroom_waiters", 1.0)]);
    engine.cancel(id, None).await.unwrap().unwrap();
    waits.await.unwrap();
    Scrape::of(&engine).is(&[("anteroom_waiters", 0.0)]);
}
