//! How the writer sets what holds for queues.

use super::fault::Fault;
use super::rows::{damaged, name, signed};
use super::writer::Writer;
use crate::store::queue::next_version;
use crate::store::{KeptQueue, QueueChange, QueueSet};
use anteroom_core::QueueSettings;
use rusqlite::{Connection, params};

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
        self.sql.put_queue.execute(params![
            &*name,
            signed(version),
            settings.paused,
            settings.max_depth.map(signed),
        ])?;
        let kept = KeptQueue {
            name,
            version,
            settings,
        };
        self.order.set_queue(kept.clone());
        Ok(QueueSet::Done(kept))
    }

    /// Returns what was set for queues, by name.
    pub(super) fn queues(&self) -> Vec<KeptQueue> {
        self.order.kept_queues().values().cloned().collect()
    }
}

/// Reads what was set for queues.
pub(super) fn read_queues(db: &Connection) -> rusqlite::Result<Vec<KeptQueue>> {
    let mut statement = db.prepare("SELECT name, version, paused, max_depth FROM queue")?;
    let rows = statement.query_map([], |row| {
        let unsigned =
            |at: usize, number: i64| u64::try_from(number).map_err(|error| damaged(at, error));
        let max_depth: Option<i64> = row.get(3)?;
        Ok(KeptQueue {
            name: name(row, 0)?,
            version: unsigned(1, row.get(1)?)?,
            settings: QueueSettings {
                paused: row.get(2)?,
                max_depth: max_depth.map(|depth| unsigned(3, depth)).transpose()?,
                ..QueueSettings::default()
            },
        })
    })?;
    rows.collect()
}
