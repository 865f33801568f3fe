//! A part: single jobs are submitted at a steady rate while kept results are forgotten, or while none
//! are.
//!
//! Retention is over because the store's clock is set ahead. The engine's own upkeep forgets.

use super::life::single;
use super::{SLOTS, float};
use crate::clock::{micros, now};
use crate::disk::{self, Beside};
use crate::server;
use anteroom::Engine;
use anteroom::clock::Clock;
use anteroom::core::JobId;
use anteroom::core::limits::RETAIN_DEFAULT;
use anteroom::store::Found;
use anteroom::store::sqlite::SqliteStore;
use anyhow::{Context, ensure};
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;

/// Between two submits. One that is late counts from when it was due.
const BETWEEN: Duration = Duration::from_millis(5);
/// Submits under way.
const AT_ONCE_MAX: usize = 10_000;
/// Between two looks at whether all is forgotten.
const LOOK: Duration = Duration::from_millis(250);

/// What is watched where.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Orders {
    #[arg(long)]
    dir: PathBuf,
    /// Whether retention is over.
    #[arg(long)]
    over: bool,
    /// How long it is watched at most.
    #[arg(long)]
    seconds: u64,
    /// The ids of some of the kept jobs, in order.
    #[arg(long)]
    ids: PathBuf,
}

/// Is the process.
pub(super) async fn part(orders: Orders) -> anyhow::Result<Value> {
    let ids: Result<Vec<JobId>, _> = std::fs::read_to_string(&orders.ids)?
        .lines()
        .map(str::parse)
        .collect();
    let ids = ids.context("a line that is no id")?;
    let (clock, _hand) = clock(orders.over);
    let store = SqliteStore::open(orders.dir.join("anteroom.db"), clock)?;
    let (engine, _runs) = server::start_on(Arc::new(store), Some(SLOTS)).await?;
    let watched = watch(&orders, &engine, &ids).await;
    engine.shutdown(Duration::ZERO).await;
    let Watched {
        times,
        disk,
        span,
        gone,
    } = watched?;
    ensure!(orders.over || gone == 0, "{gone} jobs were forgotten early");
    let [p50, p99] = [0.5, 0.99].map(|q| times.value_at_quantile(q));
    Ok(json!({
        "p50_us": p50,
        "p99_us": p99,
        "max_us": times.max(),
        "submits": times.len(),
        "seconds": span.as_secs_f64(),
        "gone": float(u64::try_from(gone)?) / float(u64::try_from(ids.len().max(1))?),
        "disk_p99_us": disk.value_at_quantile(0.99),
        "disk_max_us": disk.max(),
    }))
}

/// Returns a clock by which everything that was kept for as long as by default is over, or the
/// machine's.
fn clock(over: bool) -> (Clock, impl Sized) {
    if !over {
        return (Clock::system(), None);
    }
    let ahead = RETAIN_DEFAULT + Duration::from_hours(1);
    let (clock, hand) = Clock::followed(Clock::system().now().after(ahead));
    (clock, Some(hand))
}

struct Watched {
    times: Histogram<u64>,
    disk: Histogram<u64>,
    span: Duration,
    /// How many of the sample are there no more.
    gone: usize,
}

async fn watch(orders: &Orders, engine: &Engine, ids: &[JobId]) -> anyhow::Result<Watched> {
    let last = *ids.last().context("no ids of kept jobs")?;
    let limit = Duration::from_secs(orders.seconds);
    let mut looking = JoinSet::new();
    looking.spawn(until_gone(engine.clone(), last));
    let mut times = disk::histogram();
    let mut submits = JoinSet::new();
    let beside = Beside::start(&orders.dir)?;
    let begun = now();
    let mut due = begun;
    while due < begun + limit {
        if let Some(ended) = looking.try_join_next() {
            ended??;
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        // Each on its own: one that is held up is not to hold up the next.
        let engine = engine.clone();
        submits.spawn(async move {
            single(&engine).await?;
            anyhow::Ok(due.elapsed())
        });
        while let Some(ended) = submits.try_join_next() {
            times.record(micros(ended??))?;
        }
        let at_once = submits.len();
        ensure!(at_once <= AT_ONCE_MAX, "{at_once} submits wait for answers");
        due += BETWEEN;
    }
    while let Some(ended) = submits.join_next().await {
        times.record(micros(ended??))?;
    }
    let (span, disk) = (begun.elapsed(), beside.finish()?);
    let mut gone = 0;
    for id in ids {
        gone += usize::from(!is_here(engine, *id).await?);
    }
    Ok(Watched {
        times,
        disk,
        span,
        gone,
    })
}

/// Looks now and then whether a job is there, until it is not. They are forgotten in the order in
/// which they ended, so that all of them are gone when the last one is.
async fn until_gone(engine: Engine, last: JobId) -> anyhow::Result<()> {
    while is_here(&engine, last).await? {
        tokio::time::sleep_until((now() + LOOK).into()).await;
    }
    Ok(())
}

async fn is_here(engine: &Engine, id: JobId) -> anyhow::Result<bool> {
    Ok(matches!(engine.store().get(id).await?, Found::Here(_)))
}
