//! What holds for the queues of an order, and how many jobs wait in each that has lines.

use crate::store::KeptQueue;
use anteroom_core::{Name, QueueDefaults, QueueRule};
use std::collections::{BTreeMap, HashMap};

/// Where a queue with lines is found.
pub(super) type QueueId = usize;

#[derive(Debug, Default)]
pub(super) struct Queues {
    kept: BTreeMap<Name, KeptQueue>,
    defaults: QueueDefaults,
    /// Whether a depth is limited anywhere: inserts into queues without limits look no further.
    has_limits: bool,
    with_lines: Vec<QueueWithLines>,
    id_of: HashMap<Name, QueueId>,
    /// Places of `with_lines` that are in no use.
    free: Vec<QueueId>,
}

#[derive(Debug)]
struct QueueWithLines {
    paused: bool,
    waiting: u64,
    lines: usize,
}

impl Queues {
    /// Returns what was set, by name.
    pub(super) fn kept(&self) -> &BTreeMap<Name, KeptQueue> {
        &self.kept
    }

    /// Returns what holds for a queue.
    pub(super) fn rule(&self, name: &Name) -> QueueRule {
        let own = self.kept.get(name).map(|kept| kept.settings);
        self.defaults.rule(name, own.unwrap_or_default())
    }

    /// Notes what was set for a queue, and returns what it was before.
    pub(super) fn keep(&mut self, name: &Name, kept: Option<KeptQueue>) -> Option<KeptQueue> {
        let before = match kept {
            Some(kept) => self.kept.insert(name.clone(), kept),
            None => self.kept.remove(name),
        };
        self.look_for_limits();
        before
    }

    /// Replaces what holds where nothing was set.
    pub(super) fn configure(&mut self, defaults: QueueDefaults) {
        self.defaults = defaults;
        self.look_for_limits();
    }

    fn look_for_limits(&mut self) {
        let kept = self.kept.values().map(|kept| kept.settings.max_depth);
        let configured = self.defaults.of.values().map(|of| of.max_depth);
        self.has_limits = kept.chain(configured).any(|limit| limit.is_some());
    }

    /// Tells whether the depth of any queue is limited.
    pub(super) const fn has_limits(&self) -> bool {
        self.has_limits
    }

    /// Returns how many jobs wait in a queue.
    pub(super) fn waiting(&self, name: &Name) -> u64 {
        let id = self.id_of.get(name);
        id.map_or(0, |id| self.with_lines[*id].waiting)
    }

    pub(super) fn is_paused(&self, id: QueueId) -> bool {
        self.with_lines[id].paused
    }

    /// Counts a job more, or one fewer, that waits.
    pub(super) fn waits(&mut self, id: QueueId) {
        self.with_lines[id].waiting += 1;
    }

    pub(super) fn waits_no_more(&mut self, id: QueueId) {
        self.with_lines[id].waiting -= 1;
    }

    /// Adds a line to a queue.
    pub(super) fn add_line(&mut self, name: &Name) -> QueueId {
        if let Some(&id) = self.id_of.get(name) {
            self.with_lines[id].lines += 1;
            return id;
        }
        let queue = QueueWithLines {
            paused: self.rule(name).paused,
            waiting: 0,
            lines: 1,
        };
        let id = if let Some(id) = self.free.pop() {
            self.with_lines[id] = queue;
            id
        } else {
            self.with_lines.push(queue);
            self.with_lines.len() - 1
        };
        self.id_of.insert(name.clone(), id);
        id
    }

    /// Takes a line away that is empty.
    pub(super) fn take_line(&mut self, name: &Name, id: QueueId) {
        let queue = &mut self.with_lines[id];
        queue.lines -= 1;
        if queue.lines == 0 {
            self.id_of.remove(name);
            self.free.push(id);
        }
    }

    /// Brings a queue in line with what holds for it, and tells whether it was paused or resumed by
    /// that.
    pub(super) fn settle(&mut self, name: &Name) -> Option<QueueId> {
        let paused = self.rule(name).paused;
        let id = *self.id_of.get(name)?;
        let before = std::mem::replace(&mut self.with_lines[id].paused, paused);
        (before != paused).then_some(id)
    }

    /// Returns the names of the queues with lines.
    pub(super) fn names(&self) -> Vec<Name> {
        self.id_of.keys().cloned().collect()
    }
}
