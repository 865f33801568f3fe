//! A part: all that waits is run, and counted in tenths.

use super::{SLOTS, float};
use crate::clock::now;
use crate::cpu::Usage;
use crate::held::Held;
use crate::server::PULL;
use anyhow::ensure;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

/// How long it may take in all.
const DRAIN_MAX: Duration = Duration::from_mins(10);
/// Pieces in which it is counted.
const PIECES: usize = 10;

/// What waits where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Orders {
    #[arg(long)]
    dir: PathBuf,
    /// Jobs that wait.
    #[arg(long)]
    jobs: usize,
}

/// Is the process: says CPU microseconds of a job for each tenth, and for all.
pub(super) async fn part(orders: Orders) -> anyhow::Result<Value> {
    let held = Held::start(&orders.dir, PULL, SLOTS, false).await?;
    let jobs = orders.jobs;
    let pid = std::process::id();
    let (first, begun) = (Usage::read(pid)?, now());
    held.release().await?;
    let (mut before, mut counted, mut pieces) = (first, 0, Vec::new());
    for piece in 1..=PIECES {
        let goal = jobs * piece / PIECES;
        let limit = DRAIN_MAX.saturating_sub(begun.elapsed());
        held.until(limit, |held| held.started() >= goal).await?;
        let (usage, started) = (Usage::read(pid)?, held.started());
        let used = usage.since(before, false).process.as_secs_f64();
        pieces.push(used * 1e6 / float(u64::try_from((started - counted).max(1))?));
        (before, counted) = (usage, started);
    }
    let left = held.settle().await?;
    let (used, span) = (Usage::read(pid)?.since(first, false), begun.elapsed());
    let started = held.started();
    held.end().await;
    ensure!(
        left == 0 && started == jobs,
        "{started} jobs of {jobs} started, {left} are left"
    );
    let jobs = float(u64::try_from(jobs)?);
    Ok(json!({
        "cpu_us": used.process.as_secs_f64() * 1e6 / jobs,
        "rate": jobs / span.as_secs_f64(),
        "elsewhere": used.elsewhere,
        "pieces_us": pieces,
    }))
}
