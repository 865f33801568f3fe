//! Anteroom under test: an engine with two tasks, over HTTP or in this process.

use crate::process;
use anteroom::clock::Clock;
use anteroom::core::{Name, Payload};
use anteroom::run::{Attempt, Outcome, function};
use anteroom::store::Store;
use anteroom::store::memory::MemoryStore;
use anteroom::store::sqlite::SqliteStore;
use anteroom::{Engine, Options, Task, TaskRunner};
use anteroom_server::http::browsers::{Guard, loopback_guard};
use anteroom_server::http::serve::{self, ServeLimits};
use anteroom_server::http::{self, RouterOptions};
use anyhow::Context;
use bytes::Bytes;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::net::TcpListener;

/// The task whose jobs return [`RESULT`] at once.
pub(crate) const NOOP: &str = "noop";
/// The task whose jobs nobody runs, so that submits alone are measured.
pub(crate) const PULL: &str = "pull";
/// What a no-op returns: about 100 bytes of JSON.
pub(crate) const RESULT: &[u8] = br#"{"ok":true,"note":"a result of about a hundred bytes, as a small answer of a real task is; no more"}"#;

/// What the server says at its end, before the number of jobs that are not finished.
pub(crate) const UNFINISHED: &str = "unfinished ";

/// Which store is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// Nothing is durable: what the engine and HTTP cost without a disk.
    Memory,
    /// Durable.
    Sqlite,
}

impl Kind {
    /// Returns the word on the command line.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Sqlite => "sqlite",
        }
    }
}

/// Opens a store of this kind in `folder`.
fn open(kind: Kind, folder: &Path) -> anyhow::Result<Arc<dyn Store>> {
    match kind {
        Kind::Memory => Ok(Arc::new(MemoryStore::new(Clock::system()))),
        Kind::Sqlite => {
            let path = folder.join("anteroom.db");
            Ok(Arc::new(SqliteStore::open(path, Clock::system())?))
        }
    }
}

/// Is the Anteroom process: serves until its standard input ends.
pub(crate) async fn answer(
    kind: Kind,
    folder: &Path,
    concurrency: usize,
    connections: Option<usize>,
) -> anyhow::Result<()> {
    let _nothing = process::told()?;
    let (engine, _runs) = start(kind, folder, concurrency).await?;
    let mut limits = ServeLimits::default();
    limits.connections = connections.unwrap_or(limits.connections);
    serve_within(&engine, limits).await?;
    println!("{UNFINISHED}{}", unfinished(&engine).await?);
    engine.shutdown(Duration::ZERO).await;
    Ok(())
}

/// Serves an engine until standard input ends.
pub(crate) async fn serve(engine: &Engine) -> anyhow::Result<()> {
    serve_within(engine, ServeLimits::default()).await
}

async fn serve_within(engine: &Engine, limits: ServeLimits) -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    process::say_listening(listener.local_addr()?);
    // Guarded as in the binary.
    let guard = Guard {
        is_loopback: true,
        ..Guard::default()
    };
    let router = http::router(engine.clone(), &RouterOptions::default());
    let router = loopback_guard(router, guard);
    serve::serve(listener, router, limits, process::asked_to_end()).await;
    Ok(())
}

/// Starts an engine on a store in `folder`, and returns it with the count of no-ops run so far.
pub(crate) async fn start(
    kind: Kind,
    folder: &Path,
    concurrency: usize,
) -> anyhow::Result<(Engine, Arc<AtomicU64>)> {
    start_on(open(kind, folder)?, Some(concurrency)).await
}

/// Starts an engine on a store, and returns it with the count of no-ops run so far. Without a
/// concurrency workers would run them, and there are none.
pub(crate) async fn start_on(
    store: Arc<dyn Store>,
    concurrency: Option<usize>,
) -> anyhow::Result<(Engine, Arc<AtomicU64>)> {
    let result = Payload {
        content_type: "application/json".into(),
        bytes: Bytes::from_static(RESULT),
    };
    let run = move |_attempt| std::future::ready(Outcome::Succeeded(result.clone()));
    start_with(store, concurrency, run).await
}

/// Starts an engine as [`start_on`] does, whose no-ops are another function.
pub(crate) async fn start_with<F>(
    store: Arc<dyn Store>,
    concurrency: Option<usize>,
    run: impl Fn(Attempt) -> F + Send + Sync + 'static,
) -> anyhow::Result<(Engine, Arc<AtomicU64>)>
where
    F: Future<Output = Outcome> + Send + 'static,
{
    let runs = Arc::new(AtomicU64::new(0));
    let counted = runs.clone();
    let noop = function::bytes(move |attempt| {
        counted.fetch_add(1, Ordering::Relaxed);
        run(attempt)
    });
    let noop = match concurrency {
        Some(concurrency) => Task {
            concurrency,
            ..Task::new(NOOP, TaskRunner::Here(noop))?
        },
        None => Task::new(NOOP, TaskRunner::Pull)?,
    };
    let tasks = vec![noop, Task::new(PULL, TaskRunner::Pull)?];
    let engine = Engine::start(store, tasks, Options::default()).await?;
    Ok((engine, runs))
}

/// Returns an input of this many bytes of JSON.
pub(crate) fn input(bytes: usize) -> Payload {
    // Two quotes; the shortest JSON text has as many.
    let text = format!("\"{}\"", "x".repeat(bytes.saturating_sub(2)));
    Payload {
        content_type: "application/json".into(),
        bytes: text.into(),
    }
}

/// Returns the name of the no-op task.
pub(crate) fn noop() -> anyhow::Result<Name> {
    Name::new(NOOP).context("the task's name")
}

/// Returns how many jobs are not finished.
pub(crate) async fn unfinished(engine: &Engine) -> anyhow::Result<u64> {
    unfinished_where(engine, |_| true).await
}

/// Returns how many jobs of a task are not finished.
pub(crate) async fn unfinished_of(engine: &Engine, task: &str) -> anyhow::Result<u64> {
    unfinished_where(engine, |of| of == task).await
}

async fn unfinished_where(engine: &Engine, is_meant: impl Fn(&str) -> bool) -> anyhow::Result<u64> {
    let counts = engine.store().counts().await?;
    let each = counts.iter().filter(|count| is_meant(&count.task));
    Ok(each
        .map(|count| count.scheduled + count.ready + count.running)
        .sum())
}
