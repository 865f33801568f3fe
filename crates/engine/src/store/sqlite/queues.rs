//! How the writer sets what holds for queues.

use super::fault::Fault;
use super::rows::{damaged, millis, name, number, signed};
use super::statements::Statements;
use super::writer::Writer;
use crate::store::queue::next_version;
use crate::store::{KeptQueue, QueueChange, QueueSet};
use anteroom_core::{Name, Pace, QueueSettings, RateLimit};
use rusqlite::{Connection, Result, Row, params};
use std::time::Duration;

impl Writer<'_> {
    /// Sets what holds for a queue, from this transaction on.
    pub(super) fn set_queue(&mut self, change: QueueChange) -> Result<QueueSet, Fault> {
        let kept = self.order.kept_queues();
        let version = match next_version(kept.get(&change.name), kept.len(), &change) {
            Ok(version) => version,
            Err(refused) => return Ok(refused),
        };
        self.begin()?;
        let QueueChange { name, settings, .. } = change;
        let kept = KeptQueue {
            name,
            version,
            settings,
        };
        put_queue(&mut self.sql, &kept)?;
        self.order.set_queue(kept.clone());
        Ok(QueueSet::Done(kept))
    }

    /// Writes how far the rates have come of the queues that this transaction took jobs from.
    pub(super) fn write_paces(&mut self) -> Result<(), Fault> {
        for (queue, pace) in self.order.take_paces() {
            self.sql
                .put_pace
                .execute(params![&*queue, pace.as_nanos()])?;
        }
        Ok(())
    }

    /// Returns what was set for queues, by name.
    pub(super) fn queues(&self) -> Vec<KeptQueue> {
        self.order.kept_queues().values().cloned().collect()
    }
}

/// Writes what is set for a queue.
pub(super) fn put_queue(sql: &mut Statements<'_>, kept: &KeptQueue) -> Result<()> {
    let settings = kept.settings;
    sql.put_queue.execute(params![
        &*kept.name,
        signed(kept.version),
        settings.paused,
        settings.max_depth.map(signed),
        settings.max_concurrency.map(signed),
        settings.rate_limit.map(|rate| rate.limit),
        settings.rate_limit.map(|rate| millis(rate.period)),
        settings.group_concurrency.map(signed),
    ])?;
    Ok(())
}

/// Reads how far the rates of queues have come.
pub(super) fn read_paces(db: &Connection) -> rusqlite::Result<Vec<(Name, Pace)>> {
    let mut statement = db.prepare("SELECT queue, nanos FROM pace")?;
    let rows = statement.query_map([], |row| Ok((name(row, 0)?, Pace::from_nanos(row.get(1)?))))?;
    rows.collect()
}

/// Reads what was set for queues.
pub(super) fn read_queues(db: &Connection) -> Result<Vec<KeptQueue>> {
    let mut statement = db.prepare(
        "SELECT name, version, paused, max_depth, max_concurrency, group_concurrency, \
         rate_limit, rate_period_ms FROM queue",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(KeptQueue {
            name: name(row, 0)?,
            version: unsigned(1, row.get(1)?)?,
            settings: QueueSettings {
                paused: row.get(2)?,
                max_depth: limit(row, 3)?,
                max_concurrency: limit(row, 4)?,
                group_concurrency: limit(row, 5)?,
                rate_limit: rate_limit(row, 6)?,
            },
        })
    })?;
    rows.collect()
}

fn limit(row: &Row<'_>, at: usize) -> Result<Option<u64>> {
    number(row, at)?.map(|it| unsigned(at, it)).transpose()
}

/// Reads a rate out of a column and the one after it.
fn rate_limit(row: &Row<'_>, at: usize) -> Result<Option<RateLimit>> {
    match (row.get(at)?, limit(row, at + 1)?) {
        (None, None) => Ok(None),
        (Some(limit), Some(millis)) => Ok(Some(RateLimit {
            limit,
            period: Duration::from_millis(millis),
        })),
        _ => Err(damaged(at, "a rate has a limit and a period")),
    }
}

fn unsigned(at: usize, number: i64) -> Result<u64> {
    u64::try_from(number).map_err(|error| damaged(at, error))
}
