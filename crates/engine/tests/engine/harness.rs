//! Engines over the memory store, in paused time.

use anteroom::clock::Clock;
use anteroom::core::{FailureKind, Job, JobId, Name, Payload, ShownState, Timestamp};
use anteroom::run::{Attempt, Outcome, Runner, function};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{Found, Store};
use anteroom::{Engine, Options, Submission, Task, TaskRunner, Until};
use std::sync::Arc;
use std::time::Duration;

pub(crate) const START: Timestamp = Timestamp::from_millis(1_800_000_000_000);
/// Longer than anything that a test waits for; in paused time it costs nothing.
pub(crate) const LONG: Duration = Duration::from_hours(48);

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

pub(crate) fn store() -> Arc<dyn Store> {
    Arc::new(MemoryStore::new(Clock::runtime(START)))
}

pub(crate) fn task(name: &str, runner: Arc<dyn Runner>) -> Task {
    Task::new(name, TaskRunner::Here(runner)).unwrap()
}

pub(crate) async fn start(store: &Arc<dyn Store>, tasks: Vec<Task>) -> Engine {
    Engine::start(store.clone(), tasks, Options::default())
        .await
        .unwrap()
}

/// An engine with one task, `work`, that does what `function` says.
pub(crate) async fn engine_of<F, Fut>(function: F) -> Engine
where
    F: Fn(Attempt) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Outcome> + Send + 'static,
{
    start(&store(), vec![task("work", function::bytes(function))]).await
}

pub(crate) fn text(text: &str) -> Payload {
    Payload {
        content_type: "text/plain".into(),
        bytes: text.to_owned().into(),
    }
}

pub(crate) fn done(result: &str) -> Outcome {
    Outcome::Succeeded(text(result))
}

pub(crate) fn submission(input: &str) -> Submission {
    Submission::new(Name::new("work").unwrap(), text(input))
}

pub(crate) async fn submit(engine: &Engine, input: &str) -> JobId {
    engine.submit(submission(input)).await.unwrap().job.spec.id
}

pub(crate) async fn get(engine: &Engine, id: JobId) -> Job {
    engine.store().get(id).await.unwrap().here().unwrap()
}

pub(crate) async fn ended(engine: &Engine, id: JobId) -> Job {
    let job = engine
        .wait(id, Until::Done, LONG)
        .await
        .unwrap()
        .here()
        .unwrap();
    assert!(
        job.status.state.is_final(),
        "job {id} did not end: {:?}",
        job.status
    );
    job
}

pub(crate) async fn reached(engine: &Engine, id: JobId, state: ShownState) -> Job {
    tokio::time::timeout(LONG, async {
        loop {
            let job = get(engine, id).await;
            let shown = job.status.shown(engine.clock().now());
            if shown == state {
                return job;
            }
            let seen = Until::Changed {
                version: job.status.version,
                shown,
            };
            engine.wait(id, seen, LONG).await.unwrap();
        }
    })
    .await
    .unwrap_or_else(|_| panic!("job {id} never became {state}"))
}

pub(crate) async fn result(engine: &Engine, id: JobId) -> String {
    match engine.store().result(id).await.unwrap() {
        Found::Here((_, Some(result))) => String::from_utf8(result.bytes.to_vec()).unwrap(),
        other => panic!("no result of {id}: {other:?}"),
    }
}

/// What its attempts said, as (attempt, kind).
pub(crate) fn errors(job: &Job) -> Vec<(u32, FailureKind)> {
    job.errors
        .iter()
        .map(|error| (error.attempt, error.failure.kind))
        .collect()
}

/// Lets paused time go on.
pub(crate) async fn nap(span: Duration) {
    Clock::system().sleep(span).await;
}
