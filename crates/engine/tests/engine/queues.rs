//! Queues: pause and resume, which there are, and how many.

use crate::failing_store::FailingStore;
use crate::harness::*;
use anteroom::core::limits::QUEUES_MADE_MAX;
use anteroom::core::{
    Idempotency, IdempotencyKey, JobId, Name, Patch, QueuePatch, QueueSettings, RateLimit, Spec,
};
use anteroom::run::{Outcome, function};
use anteroom::store::{NewJob, Store};
use anteroom::{
    Engine, Options, QueueError, StartError, Submission, SubmitError, Task, TaskRunner,
};
use std::collections::BTreeMap;
use std::sync::Arc;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn into(queue: &str) -> Submission {
    Submission {
        queue: Some(name(queue)),
        ..submission("")
    }
}

/// An engine with one task, `work`, that echoes.
async fn echoing(store: Arc<dyn Store>, options: Options) -> Engine {
    let echo = function::bytes(|attempt| async move { Outcome::Succeeded(attempt.input) });
    let mut work = Task::new("work", TaskRunner::Here(echo)).unwrap();
    work.queue = name("works");
    Engine::start(store, vec![work], options).await.unwrap()
}

async fn names(engine: &Engine) -> Vec<String> {
    let queues = engine.queues().await.unwrap();
    queues.iter().map(|queue| queue.name.to_string()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_paused_queue_starts_nothing_until_it_is_resumed() {
    let engine = echoing(store(), Options::default()).await;
    let paused = engine.pause(&name("q")).await.unwrap();
    assert!(paused.rule.paused);
    let held_back = engine.submit(into("q")).await.unwrap().job.spec.id;
    let free = engine.submit(into("works")).await.unwrap().job.spec.id;
    ended(&engine, free).await;
    nap(secs(3_600)).await;
    let job = get(&engine, held_back).await;
    assert_eq!(job.status.attempt, 0);
    let queue = engine.queue(&name("q")).await.unwrap().unwrap();
    assert_eq!((queue.ready, queue.running), (1, 0));
    let submitted_at = job.spec.created_at;
    assert_eq!(queue.oldest_ready, Some(submitted_at));
    let before = engine.clock().now();
    assert!(!engine.resume(&name("q")).await.unwrap().rule.paused);
    ended(&engine, held_back).await;
    assert_eq!(engine.clock().now(), before, "without a poll");
}

#[tokio::test(start_paused = true)]
async fn queues_are_those_that_are_named_and_those_that_were_made() {
    let options = Options {
        queues: BTreeMap::from([(name("configured"), QueueSettings::default())]),
        ..Options::default()
    };
    let engine = echoing(store(), options).await;
    assert_eq!(names(&engine).await, ["configured", "default", "works"]);
    assert_eq!(engine.queue(&name("made")).await.unwrap(), None);
    engine.submit(into("made")).await.unwrap();
    engine.pause(&name("paused")).await.unwrap();
    let all = ["configured", "default", "made", "paused", "works"];
    assert_eq!(names(&engine).await, all);
    let made = engine.queue(&name("made")).await.unwrap().unwrap();
    assert_eq!((made.version, made.rule.paused), (1, false));
    for reserved in ["anteroom.callback", "anteroom.x"] {
        let refused = engine.pause(&name(reserved)).await.unwrap_err();
        assert!(matches!(refused, QueueError::Unknown { .. }), "{refused}");
        assert_eq!(engine.queue(&name(reserved)).await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_queues_are_made_than_may() {
    let engine = echoing(store(), Options::default()).await;
    let fill = (0..QUEUES_MADE_MAX - 1).map(|n| into(&format!("q{n}")));
    engine.submit_all(fill.collect()).await.unwrap();
    // All or none: one would still fit.
    let two = vec![into("x"), into("y")];
    let refused = engine.submit_all(two).await.unwrap_err();
    let is_refused = matches!(
        &refused,
        SubmitError::TooManyQueues { limit: QUEUES_MADE_MAX, queue } if **queue == *"y"
    );
    assert!(is_refused, "{refused}");
    assert_eq!(names(&engine).await.len(), QUEUES_MADE_MAX - 1 + 2);
    engine.pause(&name("last")).await.unwrap();
    let refused = engine.pause(&name("more")).await.unwrap_err();
    assert!(matches!(refused, QueueError::TooMany { .. }), "{refused}");
    let refused = engine.submit(into("more")).await.unwrap_err();
    assert!(
        matches!(refused, SubmitError::TooManyQueues { .. }),
        "{refused}"
    );
    for known in ["q7", "last", "default", "works"] {
        engine.submit(into(known)).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn submits_at_once_make_no_more_queues_than_may() {
    let engine = echoing(store(), Options::default()).await;
    let fill = (0..QUEUES_MADE_MAX - 5).map(|n| into(&format!("q{n}")));
    engine.submit_all(fill.collect()).await.unwrap();
    let mut submits = tokio::task::JoinSet::new();
    for n in 0..20 {
        let engine = engine.clone();
        submits.spawn(async move { engine.submit(into(&format!("new{n}"))).await.is_ok() });
    }
    let taken = submits.join_all().await;
    assert_eq!(taken.iter().filter(|taken| **taken).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_strict_engine_makes_no_queues() {
    let store = store();
    let options = Options {
        queues: BTreeMap::from([(name("configured"), QueueSettings::default())]),
        strict_queues: true,
        ..Options::default()
    };
    let engine = echoing(store, options).await;
    for named in ["configured", "default", "works"] {
        engine.submit(into(named)).await.unwrap();
        engine.pause(&name(named)).await.unwrap();
    }
    let refused = engine.submit(into("other")).await.unwrap_err();
    assert!(
        matches!(refused, SubmitError::UnknownQueue { .. }),
        "{refused}"
    );
    let refused = engine.pause(&name("other")).await.unwrap_err();
    assert!(matches!(refused, QueueError::Unknown { .. }), "{refused}");
    assert_eq!(names(&engine).await, ["configured", "default", "works"]);
}

/// A replay was refused once its queue was no longer one to be made, though it makes nothing.
#[tokio::test(start_paused = true)]
async fn the_same_again_gives_its_job_whichever_queues_are_taken_since() {
    let keyed = |queue, key| Submission {
        idempotency: Some(Idempotency {
            scope: "".into(),
            key: IdempotencyKey::new(key).unwrap(),
        }),
        ..into(queue)
    };
    let store = store();
    let before = echoing(store.clone(), Options::default()).await;
    let job = before.submit(keyed("made", "k")).await.unwrap().job;
    ended(&before, job.spec.id).await;
    let options = Options {
        strict_queues: true,
        ..Options::default()
    };
    let engine = echoing(store, options).await;
    let again = engine.submit(keyed("made", "k")).await.unwrap();
    assert_eq!((again.job.spec.id, again.replayed), (job.spec.id, true));
    let both = vec![keyed("made", "k"), keyed("works", "other")];
    let both = engine.submit_all(both).await.unwrap();
    assert_eq!(
        both.iter().map(|one| one.replayed).collect::<Vec<_>>(),
        [true, false]
    );
    for fresh in [keyed("made", "new"), into("made")] {
        let both = vec![keyed("made", "k"), fresh];
        let refused = engine.submit_all(both).await.unwrap_err();
        let is_refused = matches!(refused, SubmitError::UnknownQueue { .. });
        assert!(is_refused, "{refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_holds_starts_nothing_of_any_queue_until_that_is_resumed() {
    let options = Options {
        hold: true,
        ..Options::default()
    };
    let store = store();
    let engine = echoing(store.clone(), options).await;
    let first = engine.submit(into("works")).await.unwrap().job.spec.id;
    let other = engine.submit(into("later")).await.unwrap().job.spec.id;
    nap(secs(3_600)).await;
    for queue in engine.queues().await.unwrap() {
        assert!(queue.rule.paused, "{queue:?}");
    }
    // A change of something else does not let it go.
    let patch = QueuePatch {
        max_depth: Patch::Set(9),
        ..QueuePatch::default()
    };
    let queue = engine.set_queue(&name("works"), patch, None).await.unwrap();
    assert!(queue.rule.paused);
    let queue = engine.resume(&name("works")).await.unwrap();
    assert!(!queue.rule.paused);
    ended(&engine, first).await;
    let again = engine.submit(into("works")).await.unwrap().job.spec.id;
    ended(&engine, again).await;
    assert!(engine.pause(&name("works")).await.unwrap().rule.paused);
    assert_eq!(get(&engine, other).await.status.attempt, 0);
    // It is the process's: another one that does not hold runs what waits.
    engine.stop(secs(1)).await;
    let next = echoing(store, Options::default()).await;
    ended(&next, other).await;
    let works = next.queue(&name("works")).await.unwrap().unwrap();
    assert!(works.rule.paused, "paused by a person");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_refuses_a_submit() {
    let engine = echoing(store(), Options::default()).await;
    let patch = QueuePatch {
        paused: Patch::Set(true),
        max_depth: Patch::Set(2),
        ..QueuePatch::default()
    };
    let queue = engine.set_queue(&name("q"), patch, None).await.unwrap();
    assert_eq!(queue.rule.max_depth, Some(2));
    engine.submit(into("q")).await.unwrap();
    let refused = engine.submit_all(vec![into("q"), into("q")]).await;
    let refused = refused.unwrap_err();
    let is_full = matches!(
        refused,
        SubmitError::QueueFull {
            waiting: 1,
            limit: 2,
            ..
        }
    );
    assert!(is_full, "{refused}");
    engine.submit(into("q")).await.unwrap();
}

/// Returns the limits that hold for the queue `q`, with that of its rate alone.
async fn limits(engine: &Engine) -> [Option<u64>; 4] {
    let rule = engine.queue(&name("q")).await.unwrap().unwrap().rule;
    let rate = rule.rate_limit.map(|rate| rate.limit.into());
    [
        rule.max_depth,
        rule.max_concurrency,
        rate,
        rule.group_concurrency,
    ]
}

/// What was set wins over the configuration, one by one, and outlasts the engine; what goes back
/// goes to what the configuration says then.
#[tokio::test(start_paused = true)]
async fn limits_are_those_that_were_set_and_else_those_of_the_configuration() {
    let rate = |limit| RateLimit {
        limit,
        period: secs(1),
    };
    let configured = |limit: u32| Options {
        queues: BTreeMap::from([(
            name("q"),
            QueueSettings {
                max_depth: Some(limit.into()),
                max_concurrency: Some(limit.into()),
                rate_limit: Some(rate(limit)),
                group_concurrency: Some(limit.into()),
                ..QueueSettings::default()
            },
        )]),
        ..Options::default()
    };
    let store = store();
    let engine = echoing(store.clone(), configured(5)).await;
    assert_eq!(limits(&engine).await, [Some(5); 4]);
    let patch = QueuePatch {
        max_concurrency: Patch::Set(6),
        rate_limit: Patch::Set(rate(7)),
        group_concurrency: Patch::Set(8),
        ..QueuePatch::default()
    };
    engine.set_queue(&name("q"), patch, None).await.unwrap();
    let set = [Some(5), Some(6), Some(7), Some(8)];
    assert_eq!(limits(&engine).await, set);
    // Another change leaves them.
    engine.pause(&name("q")).await.unwrap();
    assert_eq!(limits(&engine).await, set);
    engine.stop(secs(1)).await;
    let engine = echoing(store.clone(), configured(9)).await;
    assert_eq!(limits(&engine).await, [Some(9), Some(6), Some(7), Some(8)]);
    let patch = QueuePatch {
        max_concurrency: Patch::Reset,
        rate_limit: Patch::Reset,
        ..QueuePatch::default()
    };
    engine.set_queue(&name("q"), patch, None).await.unwrap();
    assert_eq!(limits(&engine).await, [Some(9), Some(9), Some(9), Some(8)]);
    engine.stop(secs(1)).await;
    let engine = echoing(store, Options::default()).await;
    assert_eq!(limits(&engine).await, [None, None, None, Some(8)]);
}

#[tokio::test(start_paused = true)]
async fn a_setting_out_of_its_range_is_refused() {
    let wrong = RateLimit {
        limit: 1,
        period: std::time::Duration::from_micros(1_500),
    };
    let options = Options {
        queues: BTreeMap::from([(
            name("q"),
            QueueSettings {
                rate_limit: Some(wrong),
                ..QueueSettings::default()
            },
        )]),
        ..Options::default()
    };
    let refused = Engine::start(store(), Vec::new(), options).await;
    let refused = refused.unwrap_err();
    assert!(matches!(refused, StartError::Queue { .. }), "{refused}");
    let expected = "of queue q, rate_limit.period is 1.5ms; it is a whole number of milliseconds";
    assert_eq!(refused.to_string(), expected);
    let engine = echoing(store(), Options::default()).await;
    for patch in [
        QueuePatch {
            max_concurrency: Patch::Set(0),
            ..QueuePatch::default()
        },
        QueuePatch {
            rate_limit: Patch::Set(wrong),
            ..QueuePatch::default()
        },
    ] {
        let refused = engine.set_queue(&name("default"), patch, None).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, QueueError::OutOfRange { .. }),
            "{refused}"
        );
    }
    let queue = engine.queue(&name("default")).await.unwrap().unwrap();
    assert_eq!(queue.version, 0, "nothing was set");
}

#[tokio::test(start_paused = true)]
async fn a_change_is_made_for_the_version_that_was_seen() {
    let engine = echoing(store(), Options::default()).await;
    let pause = QueuePatch {
        paused: Patch::Set(true),
        ..QueuePatch::default()
    };
    let q = name("default");
    let refused = engine.set_queue(&q, pause, Some(1)).await.unwrap_err();
    let differs = matches!(refused, QueueError::VersionDiffers { version: 0, .. });
    assert!(differs, "{refused}");
    let queue = engine.set_queue(&q, pause, Some(0)).await.unwrap();
    assert_eq!(queue.version, 1);
    // What changes nothing leaves the version.
    assert_eq!(engine.pause(&q).await.unwrap().version, 1);
    assert_eq!(engine.resume(&q).await.unwrap().version, 2);
}

#[tokio::test(start_paused = true)]
async fn rates_tell_of_the_last_minute() {
    let engine = echoing(store(), Options::default()).await;
    engine.pause(&name("q")).await.unwrap();
    let jobs = engine.submit_all(vec![into("q"); 30]).await.unwrap();
    let rates = async || engine.queue(&name("q")).await.unwrap().unwrap().rates;
    let seen = rates().await;
    assert_eq!(
        (seen.submitted, seen.started, seen.finished),
        (0.5, 0.0, 0.0)
    );
    engine.resume(&name("q")).await.unwrap();
    for submitted in jobs {
        ended(&engine, submitted.job.spec.id).await;
    }
    let seen = rates().await;
    assert_eq!(
        (seen.submitted, seen.started, seen.finished),
        (0.5, 0.5, 0.5)
    );
    nap(secs(61)).await;
    assert_eq!(rates().await, anteroom::Rates::default());
}

#[tokio::test(start_paused = true)]
async fn what_was_set_for_a_queue_outlasts_the_engine() {
    let store = store();
    let engine = echoing(store.clone(), Options::default()).await;
    let before = engine.pause(&name("q")).await.unwrap();
    let id = engine.submit(into("q")).await.unwrap().job.spec.id;
    engine.stop(secs(1)).await;
    let engine = echoing(store, Options::default()).await;
    let after = engine.queue(&name("q")).await.unwrap().unwrap();
    assert_eq!((after.version, after.rule), (before.version, before.rule));
    assert_eq!(get(&engine, id).await.status.attempt, 0);
    engine.resume(&name("q")).await.unwrap();
    ended(&engine, id).await;
}

/// A store may hold jobs from a time when no queues were kept.
#[tokio::test(start_paused = true)]
async fn queues_whose_jobs_a_store_brings_along_are_kept_from_then_on() {
    let store = store();
    let engine = echoing(store.clone(), Options::default()).await;
    engine.pause(&name("q")).await.unwrap();
    let job = engine.submit(into("q")).await.unwrap().job;
    let older = NewJob {
        spec: Arc::new(Spec {
            id: JobId::from_parts(1, 1, 1),
            queue: name("older"),
            task: name("nobodys"),
            ..(*job.spec).clone()
        }),
        status: job.status,
        input: text(""),
        idempotency: None,
    };
    store.insert(vec![older]).await.unwrap();
    let queue = engine.queue(&name("older")).await.unwrap().unwrap();
    assert_eq!((queue.version, queue.ready), (0, 1));
    engine.stop(secs(1)).await;
    let engine = echoing(store, Options::default()).await;
    let queue = engine.queue(&name("older")).await.unwrap().unwrap();
    assert_eq!((queue.version, queue.ready), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_the_store_could_not_keep_is_made_by_the_next_submit() {
    let store = FailingStore::new();
    let engine = echoing(store.clone(), Options::default()).await;
    store.set_down(true);
    assert!(engine.submit(into("q")).await.is_err());
    assert!(engine.pause(&name("q")).await.is_err());
    store.set_down(false);
    assert_eq!(engine.queue(&name("q")).await.unwrap(), None);
    let id = engine.submit(into("q")).await.unwrap().job.spec.id;
    ended(&engine, id).await;
    assert!(engine.queue(&name("q")).await.unwrap().is_some());
}
