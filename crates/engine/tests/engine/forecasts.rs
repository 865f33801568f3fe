//! When a job will start, and why it has not: what is foretold, and what comes of it.

use crate::harness::*;
use anteroom::core::{Label, Name, Patch, Priority, QueuePatch, RateLimit, ShownState, Timestamp};
use anteroom::run::function;
use anteroom::{
    Engine, LeaseRequest, Options, StartAt, Submission, SubmitError, Submitted, Task, TaskRunner,
    Waiting,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// An engine whose task `work` naps for as many milliseconds as its input says, `slots` at once.
async fn napping(slots: usize) -> Engine {
    let runner = function::bytes(|attempt| async move {
        let text = String::from_utf8(attempt.input.bytes.to_vec()).unwrap();
        nap(Duration::from_millis(text.parse().unwrap())).await;
        done("")
    });
    let work = Task {
        concurrency: slots,
        ..task("work", runner)
    };
    start(&store(), vec![work]).await
}

/// An engine whose task `work` ends no job before a permit is given, one job at a time.
async fn held() -> (Engine, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let pass = gate.clone();
    let runner = function::bytes(move |_| {
        let pass = pass.clone();
        async move {
            pass.acquire().await.unwrap().forget();
            done("")
        }
    });
    let work = Task {
        concurrency: 1,
        ..task("work", runner)
    };
    let pulled = Task::new("pulled", TaskRunner::Pull).unwrap();
    let engine = start(&store(), vec![work, pulled]).await;
    (engine, gate)
}

async fn waiting(engine: &Engine, submitted: &Submitted) -> Waiting {
    engine.waiting(&submitted.job).await.unwrap().unwrap()
}

/// Has `count` jobs run to their end, one after the other, each as long.
async fn seen(engine: &Engine, count: usize, millis: u64) {
    for _ in 0..count {
        let id = submit(engine, &millis.to_string()).await;
        ended(engine, id).await;
    }
}

fn queue() -> Name {
    Name::new("default").unwrap()
}

/// Milliseconds from a log-normal distribution with a mean of about a second, sigma 1, by the sums
/// of twelve numbers of a generator with a seed.
fn log_normal(seed: u64, count: usize) -> Vec<u64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut uniform = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let draw = u32::try_from(state >> 32).unwrap();
        f64::from(draw) / f64::from(u32::MAX)
    };
    let mut normal = || (0..12).map(|_| uniform()).sum::<f64>() - 6.0;
    let spans = (0..count).map(|_| Duration::from_secs_f64(0.6 * normal().exp()));
    spans
        .map(|span| u64::try_from(span.as_millis()).unwrap().max(1))
        .collect()
}

/// Over several draws, as one of 500 jobs has a mean that is off by a tenth itself.
#[tokio::test(start_paused = true)]
async fn what_is_foretold_of_500_jobs_comes_true_within_a_quarter() {
    let mut all = Vec::new();
    for seed in 1..=5 {
        let mut errors = errors_of_500(seed).await;
        let median = median(&mut errors);
        println!("seed {seed}: median relative error {median:.3}");
        all.append(&mut errors);
    }
    let median = median(&mut all);
    println!("all: median relative error {median:.3}");
    assert!(median <= 0.25, "{median}");
}

fn median(errors: &mut [f64]) -> f64 {
    errors.sort_by(f64::total_cmp);
    errors[errors.len() / 2]
}

/// Returns the relative errors of what is foretold of 500 jobs that come at once, in 4 slots, of 3 groups
/// and 2 priorities, after 200 others.
async fn errors_of_500(seed: u64) -> Vec<f64> {
    let engine = napping(4).await;
    let mut times = log_normal(seed, 700).into_iter();
    let warm_up: Vec<Submission> = (times.by_ref().take(200))
        .map(|millis| submission(&millis.to_string()))
        .collect();
    for Submitted { job, .. } in engine.submit_all(warm_up).await.unwrap() {
        ended(&engine, job.spec.id).await;
    }
    let jobs = times.enumerate().map(|(n, millis)| Submission {
        group: Label::new(["a", "b", "c"][n % 3]).ok(),
        priority: Priority::new([3, 5][n / 3 % 2]).ok(),
        ..submission(&millis.to_string())
    });
    let submitted_at = engine.clock().now();
    let submitted = engine.submit_all(jobs.collect()).await.unwrap();
    let mut foretold = Vec::new();
    for one in &submitted {
        foretold.push(waiting(&engine, one).await.starts_in.unwrap());
    }
    let mut errors = Vec::new();
    for (one, foretold) in submitted.iter().zip(foretold) {
        let job = ended(&engine, one.job.spec.id).await;
        let started_at = job.status.started_at.unwrap();
        let actual = started_at.since(submitted_at).as_secs_f64();
        // Those that start at once have no share to be wrong by.
        if actual > 0.0 {
            errors.push((foretold.as_secs_f64() - actual).abs() / actual);
        }
    }
    assert!(errors.len() >= 490, "{}", errors.len());
    errors
}

#[tokio::test(start_paused = true)]
async fn what_is_told_at_the_submit_comes_with_the_insert() {
    let (engine, gate) = held().await;
    let first = engine.submit(submission("")).await.unwrap();
    let told = engine.waiting_at(&first.job, first.place.as_ref().unwrap());
    assert_eq!(told.position.unwrap().ahead, 0);
    assert_eq!(told.starts_in, Some(Duration::ZERO));
    assert_eq!(told.reasons, ["it starts at once"]);
    reached(&engine, first.job.spec.id, ShownState::Running).await;
    assert_eq!(engine.waiting(&first.job).await.unwrap(), None, "it runs");

    let second = engine.submit(submission("")).await.unwrap();
    let third = engine.submit(submission("")).await.unwrap();
    let told = engine.waiting_at(&third.job, third.place.as_ref().unwrap());
    assert_eq!(told.position.unwrap().ahead, 1);
    assert_eq!(told.starts_in, None, "nothing has ended yet");
    let busy = "the only slot of task work on this node is busy";
    assert_eq!(told.reasons, [busy, "1 job is ahead of it"]);
    assert_eq!(told, waiting(&engine, &third).await);

    nap(secs(10)).await;
    gate.add_permits(1);
    ended(&engine, first.job.spec.id).await;
    reached(&engine, second.job.spec.id, ShownState::Running).await;
    let told = waiting(&engine, &third).await;
    assert_eq!(told.starts_in, Some(secs(10)), "as long as the one before");
    assert_eq!(told.done_in, Some(secs(20)));
    assert_eq!(told.reasons, [busy]);
    let running = get(&engine, second.job.spec.id).await;
    nap(secs(4)).await;
    assert_eq!(engine.done_in(&running), Some(secs(6)));
}

#[tokio::test(start_paused = true)]
async fn a_wait_leaves_no_place_that_is_over() {
    let (engine, _gate) = held().await;
    engine.submit(submission("")).await.unwrap();
    let waited = engine
        .submit_and_wait(submission(""), secs(1))
        .await
        .unwrap();
    assert_eq!(waited.place, None);
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_and_a_delay_are_told() {
    let engine = napping(1).await;
    let delayed = Submission {
        start: Some(StartAt::In(secs(60))),
        ..submission("1")
    };
    let delayed = engine.submit(delayed).await.unwrap();
    let told = waiting(&engine, &delayed).await;
    assert_eq!((told.position, told.starts_in), (None, Some(secs(60))));
    assert_eq!(told.reasons, ["run_at is ahead: 2027-01-15T08:01:00.000Z"]);

    engine.pause(&queue()).await.unwrap();
    let paused = engine.submit(submission("1")).await.unwrap();
    let told = waiting(&engine, &paused).await;
    assert_eq!(told.position.unwrap().ahead, 0);
    assert_eq!((told.starts_in, told.done_in), (None, None));
    assert_eq!(
        told.reasons,
        ["queue default is paused; resume it to go on"]
    );

    engine.drain();
    let told = waiting(&engine, &paused).await;
    assert!(
        told.reasons[0].starts_with("the server is draining"),
        "{told:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_job_that_failed_says_which_attempt_it_waits_for() {
    let engine = engine_of(|_| async { anteroom::run::Outcome::failed("no route") }).await;
    let submitted = engine.submit(submission("")).await.unwrap();
    let id = submitted.job.spec.id;
    let job = reached(&engine, id, ShownState::Scheduled).await;
    let told = engine.waiting(&job).await.unwrap().unwrap();
    let said = &told.reasons[0];
    assert!(said.starts_with("waiting for attempt 2 of 5 at "), "{said}");
    assert!(said.ends_with(", after error: no route"), "{said}");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_is_left_to_workers_says_whether_any_ask() {
    let (engine, _gate) = held().await;
    let task = Name::new("pulled").unwrap();
    let pulled = || Submission::new(task.clone(), text(""));
    let first = engine.submit(pulled()).await.unwrap();
    let told = waiting(&engine, &first).await;
    assert_eq!(told.starts_in, None);
    let nobody = "no worker has asked for task pulled in the last minute";
    assert_eq!(told.reasons, [nobody]);

    let request = |wait| LeaseRequest {
        holder: String::new(),
        tasks: vec![task.clone()],
        queues: None,
        max: 1,
        lease_for: secs(60),
        wait,
    };
    assert_eq!(
        engine.lease(request(Duration::ZERO)).await.unwrap().len(),
        1
    );
    let second = engine.submit(pulled()).await.unwrap();
    let told = waiting(&engine, &second).await;
    assert_eq!(
        told.reasons,
        ["no worker is waiting for task pulled just now"]
    );

    nap(secs(59)).await;
    assert_ne!(waiting(&engine, &second).await.reasons, [nobody]);
    nap(secs(1)).await;
    assert_eq!(waiting(&engine, &second).await.reasons, [nobody]);

    // Nothing is left, so that the next one asks and waits.
    engine.lease(request(Duration::ZERO)).await.unwrap();
    let mut asking = tokio::task::JoinSet::new();
    let waiter = engine.clone();
    let request = request(secs(60));
    asking.spawn(async move { waiter.lease(request).await.unwrap().len() });
    tokio::task::yield_now().await;
    let third = engine.submit(pulled()).await.unwrap();
    let told = engine.waiting_at(&third.job, third.place.as_ref().unwrap());
    assert_eq!(told.starts_in, Some(Duration::ZERO));
    assert_eq!(told.reasons, ["it starts at once"]);
    assert_eq!(asking.join_next().await.unwrap().unwrap(), 1);
}

fn by(deadline: Duration, engine: &Engine) -> Submission {
    Submission {
        start_before: Some(engine.clock().now().after(deadline)),
        ..submission("1000")
    }
}

#[tokio::test(start_paused = true)]
async fn a_submit_that_cannot_start_in_time_is_refused_at_once() {
    let engine = napping(1).await;
    seen(&engine, 10, 1_000).await;
    let backlog = engine.submit_all(vec![submission("1000"); 100]).await;
    let last = backlog.unwrap().pop().unwrap();
    reached_first(&engine).await;
    let before = engine.clock().now();
    match engine.submit(by(secs(20), &engine)).await {
        Err(SubmitError::StartsTooLate {
            before,
            starts_in,
            spare,
        }) => {
            assert_eq!((before, spare), (99, secs(20)));
            assert!((95..=105).contains(&starts_in.as_secs()), "{starts_in:?}");
        }
        other => panic!("{other:?}"),
    }
    let watched = engine.submit_and_watch(by(secs(20), &engine)).await;
    assert!(matches!(watched, Err(SubmitError::StartsTooLate { .. })));
    assert_eq!(engine.clock().now(), before, "at once");
    // It may be faster than is thought.
    engine.submit(by(secs(60), &engine)).await.unwrap();
    // What its submitter rules out is stored, and fails when its time has come.
    let never = Submission {
        start: Some(StartAt::In(secs(30))),
        ..by(secs(20), &engine)
    };
    engine.submit(never).await.unwrap();
    // One with a unique key may be there already: the store says.
    let unique = Submission {
        unique_key: Label::new("k").ok(),
        ..by(secs(20), &engine)
    };
    engine.submit(unique).await.unwrap();
    // Many at once are not looked at.
    engine
        .submit_all(vec![by(secs(20), &engine)])
        .await
        .unwrap();
    // A paused queue may be resumed.
    engine.pause(&queue()).await.unwrap();
    engine.submit(by(secs(20), &engine)).await.unwrap();
    engine.resume(&queue()).await.unwrap();
    ended(&engine, last.job.spec.id).await;
}

/// Waits until the first of many jobs that were stored together has begun.
async fn reached_first(engine: &Engine) {
    let queue = async || engine.queue(&queue()).await.unwrap().unwrap();
    while queue().await.running == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_submit_that_is_sent_again_gives_its_job_however_late_it_is() {
    use anteroom::core::{Idempotency, IdempotencyKey};

    let engine = napping(1).await;
    seen(&engine, 10, 1_000).await;
    let keyed = Submission {
        idempotency: Some(Idempotency {
            scope: "".into(),
            key: IdempotencyKey::new("k").unwrap(),
        }),
        ..by(secs(20), &engine)
    };
    let backlog = vec![submission("1000"); 10];
    engine.submit_all(backlog).await.unwrap();
    let first = engine.submit(keyed.clone()).await.unwrap();
    let urgent = Submission {
        priority: Priority::new(0).ok(),
        ..submission("1000")
    };
    engine.submit_all(vec![urgent; 200]).await.unwrap();
    let again = engine.submit(keyed).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.job.spec.id, first.job.spec.id);
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_says_when_there_is_room() {
    let options = Options {
        queues: [(
            queue(),
            anteroom::core::QueueSettings {
                max_depth: Some(10),
                ..Default::default()
            },
        )]
        .into(),
        ..Options::default()
    };
    let runner = function::bytes(|_| async {
        nap(secs(3)).await;
        done("")
    });
    let work = Task {
        concurrency: 1,
        ..task("work", runner)
    };
    let engine = Engine::start(store(), vec![work], options).await.unwrap();
    let room_for = async |count: usize| match engine.submit_all(vec![submission(""); count]).await {
        Err(SubmitError::QueueFull { room_in, .. }) => room_in,
        other => panic!("{other:?}"),
    };
    let jobs = engine.submit_all(vec![submission(""); 10]).await.unwrap();
    reached_first(&engine).await;
    // One runs, nine wait: two are one too many.
    assert_eq!(room_for(2).await, None, "nothing has ended yet");
    ended(&engine, jobs[0].job.spec.id).await;
    reached(&engine, jobs[1].job.spec.id, ShownState::Running).await;
    // Two ended or run: eight wait.
    assert_eq!(room_for(3).await, Some(secs(3)));
    assert_eq!(room_for(5).await, Some(secs(9)));
    assert_eq!(room_for(100).await, None, "so many will not go away");
    engine.pause(&queue()).await.unwrap();
    nap(secs(1)).await;
    assert_eq!(room_for(3).await, None, "somebody has to resume it");
}

#[tokio::test(start_paused = true)]
async fn the_rate_of_a_queue_is_told_once_it_holds() {
    let engine = napping(4).await;
    let patch = QueuePatch {
        rate_limit: Patch::Set(RateLimit {
            limit: 1,
            period: secs(10),
        }),
        max_concurrency: Patch::Set(1),
        ..QueuePatch::default()
    };
    engine.set_queue(&queue(), patch, None).await.unwrap();
    let submitted = engine.submit(submission("1")).await.unwrap();
    let mut place = *submitted.place.unwrap();
    let next: Timestamp = engine.clock().now().after(secs(4));
    (place.next_start_at, place.running) = (Some(next), 1);
    let told = engine.waiting_at(&submitted.job, &place);
    let expected = [
        "concurrency limit of queue default (1/1)",
        "rate limit of queue default (1 per 10s): the next start is in 4s",
    ];
    assert_eq!(told.reasons, expected);
}
