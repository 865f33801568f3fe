//! The schedules as the timer of this node knows them.

use super::document::Kept;
use super::firing::Entry;
use anteroom_core::{Name, Timestamp};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// All schedules, and who waits for a change of them.
#[derive(Debug, Default)]
pub(super) struct Table {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<Name, Entry>,
    /// Rises with every change that did not come from a look at the store.
    changes: u64,
}

impl Table {
    /// Waits for a change by somebody else than the timer. One between two waits is not missed.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes in what was written or read, unless something later is known.
    pub(super) fn note(&self, name: &Name, entry: Entry, now: Timestamp) {
        let mut inner = self.inner();
        inner.changes += 1;
        // Versions rise for ever: what is older is no news.
        let known = inner.entries.get(name);
        if known.is_none_or(|known| known.version < entry.version) {
            take_in(&mut inner.entries, name, entry, now);
        }
        drop(inner);
        self.changed.notify_one();
    }

    pub(super) fn forget(&self, name: &Name) {
        let mut inner = self.inner();
        inner.changes += 1;
        inner.entries.remove(name);
    }

    /// Returns a mark of what is known, for [`replace`](Self::replace).
    pub(super) fn mark(&self) -> u64 {
        self.inner().changes
    }

    /// Takes in all that the store has, of which nothing was missing at `mark`. False, and nothing is
    /// taken in, where something changed since: the store has to be looked at again.
    pub(super) fn replace(
        &self,
        mark: u64,
        entries: BTreeMap<Name, Entry>,
        now: Timestamp,
    ) -> bool {
        let mut inner = self.inner();
        if inner.changes != mark {
            return false;
        }
        inner.entries.retain(|name, _| entries.contains_key(name));
        for (name, entry) in entries {
            let known = inner.entries.get(&name);
            if known.is_none_or(|known| known.version != entry.version) {
                take_in(&mut inner.entries, &name, entry, now);
            }
        }
        true
    }

    /// Puts all of them in place, at the start.
    pub(super) fn begin(&self, entries: BTreeMap<Name, Entry>) {
        self.inner().entries = entries;
    }

    /// Returns what is known of one, if its document has this version.
    pub(super) fn known(&self, name: &Name, version: u64) -> Option<Entry> {
        let inner = self.inner();
        let known = inner.entries.get(name);
        known.filter(|known| known.version == version).cloned()
    }

    /// Returns what is known to be kept of one.
    pub(super) fn kept(&self, name: &Name) -> Option<Kept> {
        let inner = self.inner();
        inner.entries.get(name).map(|entry| entry.kept.clone())
    }

    /// Returns when the next one has to be looked at.
    pub(super) fn wake_at(&self) -> Option<Timestamp> {
        let inner = self.inner();
        inner
            .entries
            .values()
            .filter_map(|entry| entry.wake_at)
            .min()
    }

    /// Returns up to `limit` that have to be looked at now.
    pub(super) fn due(&self, now: Timestamp, limit: usize) -> Vec<(Name, Entry)> {
        let inner = self.inner();
        let is_due = |entry: &Entry| entry.wake_at.is_some_and(|at| at <= now);
        let due = inner.entries.iter().filter(|(_, entry)| is_due(entry));
        due.take(limit)
            .map(|(name, entry)| (name.clone(), entry.clone()))
            .collect()
    }

    /// Changes one that the timer has looked at, unless its document was changed meanwhile.
    pub(super) fn update(&self, name: &Name, version: u64, change: impl FnOnce(&mut Entry)) {
        if let Some(entry) = self.inner().entries.get_mut(name)
            && entry.version == version
        {
            change(entry);
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Whatever panicked, an entry is whole.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_in(entries: &mut BTreeMap<Name, Entry>, name: &Name, mut entry: Entry, now: Timestamp) {
    match entries.get(name) {
        Some(known) => entry = entry.following(known, now),
        None => entry.wake(now),
    }
    entries.insert(name.clone(), entry);
}
