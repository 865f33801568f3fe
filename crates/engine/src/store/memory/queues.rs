//! What the memory store knows of queues: what was set for each, and what holds where nothing was.

use super::super::queue::next_version;
use super::super::{KeptQueue, QueueChange, QueueSet};
use anteroom_core::{Name, QueueDefaults, QueueRule};
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(super) struct Queues {
    kept: BTreeMap<Name, KeptQueue>,
    pub(super) defaults: QueueDefaults,
}

impl Queues {
    /// Returns what holds for a queue.
    pub(super) fn rule(&self, name: &Name) -> QueueRule {
        let own = self.kept.get(name).map(|kept| kept.settings);
        self.defaults.rule(name, own.unwrap_or_default())
    }

    pub(super) fn all(&self) -> Vec<KeptQueue> {
        self.kept.values().cloned().collect()
    }

    /// Keeps what was set, with its version.
    pub(super) fn keep(&mut self, kept: KeptQueue) {
        self.kept.insert(kept.name.clone(), kept);
    }

    pub(super) fn set(&mut self, change: QueueChange) -> QueueSet {
        let kept = self.kept.get(&change.name);
        let version = match next_version(kept, self.kept.len(), &change) {
            Ok(version) => version,
            Err(refused) => return refused,
        };
        let QueueChange { name, settings, .. } = change;
        let kept = KeptQueue {
            name: name.clone(),
            version,
            settings,
        };
        self.kept.insert(name, kept.clone());
        QueueSet::Done(kept)
    }
}
