//! A clean stop on Ctrl-C: what runs may end, what does not is handed back, nothing is lost.
//!
//! In the small pattern Ctrl-C cancels the workers and waits for `queue.join()`, and whatever the
//! queue still held is gone. Here it stays in the file: run this twice and the second run begins
//! with what the first one left.
//!
//! Run it with `cargo run -p anteroom --features sqlite --example clean_stop -- jobs.db`.

use anteroom::clock::Clock;
use anteroom::core::{Name, Payload};
use anteroom::run::{Outcome, function};
use anteroom::store::sqlite::SqliteStore;
use anteroom::{Engine, Options, Submission, Task, TaskRunner};
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Listened for from here on, so that no Ctrl-C comes too early to be a clean stop.
    let mut ctrl_c = signal(SignalKind::interrupt())?;
    let path = std::env::args().nth(1).ok_or("usage: clean_stop FILE")?;
    let store = Arc::new(SqliteStore::open(path, Clock::system())?);

    // Ends on its own, unless its input says that it takes for ever.
    let work = function::bytes(|attempt| async move {
        if attempt.input.bytes == "for ever" {
            std::future::pending::<()>().await;
        }
        Outcome::Succeeded(attempt.input)
    });
    let task = Task::new("work", TaskRunner::Here(work))?;
    let engine = Engine::start(store, vec![task], Options::default()).await?;
    let left: u64 = engine
        .store()
        .counts()
        .await?
        .iter()
        .map(|c| c.ready + c.running)
        .sum();
    println!("{left} jobs left by the run before");

    // The slow one does not hold up the quick one.
    for (input, wait) in [("for ever", 0), ("quick", 10)] {
        let payload = Payload {
            content_type: "text/plain".into(),
            bytes: input.into(),
        };
        let submission = Submission::new(Name::new("work")?, payload);
        let wait = Duration::from_secs(wait);
        let submitted = engine.submit_and_wait(submission, wait).await?;
        println!("{input}: job {}", submitted.job.spec.id);
    }

    println!("working; Ctrl-C stops");
    ctrl_c.recv().await;
    // Half a second for what runs, then its jobs are handed back: that costs them no attempt.
    engine.shutdown(Duration::from_millis(500)).await;
    println!("stopped");
    Ok(())
}
