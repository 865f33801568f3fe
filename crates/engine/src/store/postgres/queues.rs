//! What was set for queues.
//!
//! Whoever sets something holds the row of `queue_change` for that long and raises its number in the
//! same transaction: who has seen the number knows all that was set.

use super::fault::Fault;
use super::rows::{damaged, get, millis, name, signed, small, unsigned};
use super::session::Session;
use crate::store::queue::next_version;
use crate::store::{KeptQueue, QueueChange, QueueSet};
use anteroom_core::{Name, QueueSettings, RateLimit};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio_postgres::Row;

/// The columns that [`kept_queue`] reads.
const QUEUE: &str = "queue.name, queue.version, queue.paused, queue.max_depth, \
    queue.max_concurrency, queue.group_concurrency, queue.rate_limit, queue.rate_period_ms";
/// How many they are.
const QUEUE_COLUMNS: usize = 8;

/// Returns what was set for queues, by name.
pub(super) async fn queues(session: &Session) -> Result<Vec<KeptQueue>, Fault> {
    Ok(queues_and_change(session).await?.1)
}

/// Returns what was set for queues, by name, also where the number of changes is lost.
pub(super) async fn queues_alone(session: &Session) -> Result<Vec<KeptQueue>, Fault> {
    let sql = format!("SELECT {QUEUE} FROM queue ORDER BY name");
    let rows = session.query(&sql, &[]).await?;
    rows.iter().map(kept_queue).collect()
}

/// Returns the number of the latest change of what was set, and all that was set by then.
pub(super) async fn queues_and_change(session: &Session) -> Result<(i64, Vec<KeptQueue>), Fault> {
    let sql = format!(
        "SELECT {QUEUE}, queue_change.number FROM queue_change LEFT JOIN queue ON true \
         WHERE queue_change.one = 1 ORDER BY queue.name"
    );
    let rows = session.query(&sql, &[]).await?;
    let first = rows.first().ok_or_else(no_number)?;
    let number = get(first, QUEUE_COLUMNS)?;
    // Where nothing was set there is one row, without a name.
    let is_set = get::<Option<&str>>(first, 0)?.is_some();
    let kept = rows.iter().filter(|_| is_set).map(kept_queue);
    Ok((number, kept.collect::<Result<_, _>>()?))
}

/// Returns the number of the latest change of what was set.
pub(super) async fn change_number(session: &Session) -> Result<i64, Fault> {
    let row = session
        .query_opt("SELECT number FROM queue_change WHERE one = 1", &[])
        .await?;
    get(&row.ok_or_else(no_number)?, 0)
}

/// Sets what holds for queues, each on its own, in this order, in one transaction.
///
/// Needs the session for itself, and must not be dropped while it runs: it would leave the
/// transaction open.
pub(super) async fn set_queues(
    session: &Session,
    changes: Vec<QueueChange>,
) -> Result<Vec<QueueSet>, Fault> {
    session.begin().await?;
    let set = set_in_transaction(session, changes).await;
    session.end(set).await
}

async fn set_in_transaction(
    session: &Session,
    changes: Vec<QueueChange>,
) -> Result<Vec<QueueSet>, Fault> {
    let lock = "SELECT number FROM queue_change WHERE one = 1 FOR UPDATE";
    session.query_opt(lock, &[]).await?.ok_or_else(no_number)?;
    // Another statement: it sees what was committed while this one waited for the lock.
    let (_, kept) = queues_and_change(session).await?;
    let each = kept.into_iter().map(|kept| (kept.name.clone(), kept));
    let mut kept: BTreeMap<Name, KeptQueue> = each.collect();
    let mut written: BTreeMap<Name, KeptQueue> = BTreeMap::new();
    let mut set = Vec::with_capacity(changes.len());
    for change in changes {
        set.push(
            match next_version(kept.get(&change.name), kept.len(), &change) {
                Err(refused) => refused,
                Ok(version) => {
                    let QueueChange { name, settings, .. } = change;
                    let queue = KeptQueue {
                        name,
                        version,
                        settings,
                    };
                    kept.insert(queue.name.clone(), queue.clone());
                    written.insert(queue.name.clone(), queue.clone());
                    QueueSet::Done(queue)
                }
            },
        );
    }
    if !written.is_empty() {
        write(session, written.values()).await?;
    }
    Ok(set)
}

/// Writes queues as they were set, and raises the number of changes.
pub(super) async fn write(
    session: &Session,
    queues: impl Iterator<Item = &KeptQueue> + Clone,
) -> Result<(), Fault> {
    let settings = queues.clone().map(|queue| queue.settings);
    let names: Vec<&str> = queues.clone().map(|queue| &*queue.name).collect();
    let versions: Vec<i64> = queues.map(|queue| signed(queue.version)).collect();
    let paused: Vec<Option<bool>> = settings.clone().map(|of| of.paused).collect();
    let limits = |limit: fn(&QueueSettings) -> Option<u64>| -> Vec<Option<i64>> {
        settings.clone().map(|of| limit(&of).map(signed)).collect()
    };
    let depths = limits(|of| of.max_depth);
    let running = limits(|of| of.max_concurrency);
    let of_group = limits(|of| of.group_concurrency);
    let rates = settings.clone().map(|of| of.rate_limit);
    let rate_limits: Vec<Option<i32>> = rates
        .clone()
        .map(|of| of.map(|it| small(it.limit)))
        .collect();
    let periods: Vec<Option<i64>> = rates.map(|of| of.map(|it| millis(it.period))).collect();
    let sql = "INSERT INTO queue (name, version, paused, max_depth, max_concurrency, \
         group_concurrency, rate_limit, rate_period_ms) \
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::boolean[], $4::bigint[], \
         $5::bigint[], $6::bigint[], $7::integer[], $8::bigint[]) \
         ON CONFLICT (name) DO UPDATE SET version = excluded.version, paused = excluded.paused, \
         max_depth = excluded.max_depth, max_concurrency = excluded.max_concurrency, \
         group_concurrency = excluded.group_concurrency, rate_limit = excluded.rate_limit, \
         rate_period_ms = excluded.rate_period_ms";
    session
        .execute(
            sql,
            &[
                &names,
                &versions,
                &paused,
                &depths,
                &running,
                &of_group,
                &rate_limits,
                &periods,
            ],
        )
        .await?;
    let raise = "UPDATE queue_change SET number = number + 1 WHERE one = 1";
    session.execute(raise, &[]).await?;
    Ok(())
}

/// Reads what was set for a queue.
fn kept_queue(row: &Row) -> Result<KeptQueue, Fault> {
    Ok(KeptQueue {
        name: name(row, 0)?,
        version: unsigned(row, 1)?,
        settings: QueueSettings {
            paused: get(row, 2)?,
            max_depth: limit(row, 3)?,
            max_concurrency: limit(row, 4)?,
            group_concurrency: limit(row, 5)?,
            rate_limit: rate_limit(row, 6)?,
        },
    })
}

fn limit(row: &Row, at: usize) -> Result<Option<u64>, Fault> {
    match get::<Option<i64>>(row, at)? {
        None => Ok(None),
        Some(_) => unsigned(row, at).map(Some),
    }
}

/// Reads a rate out of a column and the one after it.
fn rate_limit(row: &Row, at: usize) -> Result<Option<RateLimit>, Fault> {
    match (get::<Option<i32>>(row, at)?, limit(row, at + 1)?) {
        (None, None) => Ok(None),
        (Some(limit), Some(millis)) => Ok(Some(RateLimit {
            limit: limit.try_into().map_err(|why| damaged(row, at, why))?,
            period: Duration::from_millis(millis),
        })),
        _ => Err(damaged(row, at, "a rate has a limit and a period")),
    }
}

fn no_number() -> Fault {
    Fault::Damaged("the row of queue_change is missing".to_owned())
}
