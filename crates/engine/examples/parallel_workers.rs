//! N workers in parallel: eight jobs of a tenth of a second, four at a time.
//!
//! In the small pattern this is `[asyncio.create_task(worker(queue)) for _ in range(4)]`. Here the
//! number of workers is the task's `concurrency`, and the queue is a file: a job that was
//! submitted survives the process.
//!
//! Run it with `cargo run -p anteroom --features sqlite --example parallel_workers`.

use anteroom::clock::Clock;
use anteroom::core::{Name, Payload};
use anteroom::run::{Outcome, function};
use anteroom::store::sqlite::SqliteStore;
use anteroom::{Engine, Options, Submission, Task, TaskRunner, Until};
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let store = SqliteStore::open(folder.path().join("jobs.db"), Clock::system())?;

    // How many workers are at it, and how many were at most.
    let (busy, busiest) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let most = busiest.clone();
    let work = function::bytes(move |attempt| {
        let (busy, most) = (busy.clone(), most.clone());
        async move {
            most.fetch_max(busy.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            Clock::system().sleep(Duration::from_millis(100)).await;
            busy.fetch_sub(1, Ordering::SeqCst);
            Outcome::Succeeded(attempt.input)
        }
    });
    let task = Task {
        concurrency: 4,
        ..Task::new("work", TaskRunner::Here(work))?
    };
    let engine = Engine::start(Arc::new(store), vec![task], Options::default()).await?;

    let submission = |number: u8| {
        let input = Payload {
            content_type: "text/plain".into(),
            bytes: vec![b'0' + number].into(),
        };
        Ok::<_, Box<dyn Error>>(Submission::new(Name::new("work")?, input))
    };
    let jobs = engine
        .submit_all((0..8).map(submission).collect::<Result<_, _>>()?)
        .await?;
    for submitted in &jobs {
        engine
            .wait(submitted.job.spec.id, Until::Done, Duration::from_secs(10))
            .await?;
    }
    println!(
        "{} jobs done, {} at a time",
        jobs.len(),
        busiest.load(Ordering::SeqCst)
    );
    engine.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
