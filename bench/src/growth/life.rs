//! A part: a store is opened, which is timed and weighed; single jobs are submitted, then no-op jobs
//! live through in bulk.

use super::part::Figures;
use super::{SLOTS, float};
use crate::clock::{micros, now};
use crate::disk;
use crate::life::{Life, Lived};
use crate::memory;
use crate::server::{self, Kind, PULL};
use anteroom::core::{JobId, Name};
use anteroom::{Engine, Submission};
use anyhow::ensure;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// Bytes of an input.
const INPUT_BYTES: usize = 200;
/// Jobs of one submit, and submits at once.
const BATCH: usize = 1_000;
const SUBMITTERS: usize = 4;
/// Single submits before any is timed.
const WARM_SINGLES: u64 = 50;

/// What is done on which store.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Orders {
    #[arg(long)]
    dir: PathBuf,
    /// No-op jobs that live through.
    #[arg(long)]
    jobs: usize,
    /// Single submits that are timed, of jobs that nobody runs.
    #[arg(long)]
    singles: u64,
    /// How many such jobs there have to be at the beginning.
    #[arg(long)]
    waiting: u64,
    /// A file that the ids of some no-op jobs are written to.
    #[arg(long)]
    ids: Option<PathBuf>,
}

impl Orders {
    /// Has a process of its own live through `jobs` on the store in `folder`.
    pub(super) fn run(
        folder: &Path,
        jobs: u64,
        singles: u64,
        waiting: u64,
        ids: Option<&Path>,
    ) -> anyhow::Result<Figures> {
        let mut options = vec![
            format!("--jobs={jobs}"),
            format!("--singles={singles}"),
            format!("--waiting={waiting}"),
        ];
        options.extend(ids.map(|ids| format!("--ids={}", ids.display())));
        Figures::of("life", folder, &options)
    }
}

/// Returns how many jobs that nobody runs are added where so many single ones are timed.
pub(super) const fn added_by(singles: u64) -> u64 {
    if singles == 0 {
        0
    } else {
        singles + WARM_SINGLES
    }
}

/// Is the process.
pub(super) async fn part(orders: Orders) -> anyhow::Result<Value> {
    let begun = now();
    let (engine, runs) = server::start(Kind::Sqlite, &orders.dir, SLOTS).await?;
    let opened = begun.elapsed();
    let resident = memory::resident(std::process::id())?;
    let lived = live(&orders, &engine, &runs).await;
    engine.shutdown(Duration::ZERO).await;
    let (singles, lived) = lived?;
    if let Some(path) = &orders.ids {
        write_ids(path, &lived.checked)?;
    }
    let jobs = float(u64::try_from(orders.jobs)?);
    let [p50, p99] = [0.5, 0.99].map(|q| singles.value_at_quantile(q));
    Ok(json!({
        "opened_ms": opened.as_secs_f64() * 1e3,
        "resident": resident,
        "single_p50_us": p50,
        "single_p99_us": p99,
        "cpu_us": lived.used.process.as_secs_f64() * 1e6 / jobs,
        "rate": jobs / lived.span.as_secs_f64(),
        "elsewhere": lived.used.elsewhere,
        "disk_p50_us": lived.disk.value_at_quantile(0.5),
        "disk_p99_us": lived.disk.value_at_quantile(0.99),
    }))
}

async fn live(
    orders: &Orders,
    engine: &Engine,
    runs: &AtomicU64,
) -> anyhow::Result<(Histogram<u64>, Lived)> {
    waits(engine, orders.waiting).await?;
    let mut times = disk::histogram();
    if orders.singles > 0 {
        for number in 0..added_by(orders.singles) {
            let took = single(engine).await?;
            if number >= WARM_SINGLES {
                times.record(micros(took))?;
            }
        }
    }
    let life = Life {
        store: Kind::Sqlite,
        jobs: orders.jobs,
        batch: BATCH,
        submitters: SUBMITTERS,
        concurrency: SLOTS,
        input_bytes: INPUT_BYTES,
    };
    let lived = life.live(engine, runs, &orders.dir).await?;
    waits(engine, orders.waiting + added_by(orders.singles)).await?;
    Ok((times, lived))
}

/// Refuses a store in which another number of jobs waits.
async fn waits(engine: &Engine, expected: u64) -> anyhow::Result<()> {
    let waiting = server::unfinished_of(engine, PULL).await?;
    ensure!(waiting == expected, "{waiting} jobs wait, not {expected}");
    Ok(())
}

/// Submits one job that nobody runs, and returns how long that took.
pub(super) async fn single(engine: &Engine) -> anyhow::Result<Duration> {
    let submission = Submission::new(Name::new(PULL)?, server::input(INPUT_BYTES));
    let begun = now();
    engine.submit(submission).await?;
    Ok(begun.elapsed())
}

fn write_ids(path: &Path, ids: &[JobId]) -> anyhow::Result<()> {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    Ok(std::fs::write(path, ids.join("\n"))?)
}
