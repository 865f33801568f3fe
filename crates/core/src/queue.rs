//! What holds for a queue: what the configuration says, and what was set while the server ran.
//!
//! A store keeps [`QueueSettings`] and is told the [`QueueDefaults`] of its process; what becomes of
//! the two is [`QueueDefaults::rule`] and nothing else.

use crate::RateLimit;
use crate::name::Name;
use std::collections::{BTreeMap, BTreeSet};

/// What was set for a queue while the server ran; `None`: what its configuration says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueSettings {
    /// Whether its jobs are held back from being started.
    pub paused: Option<bool>,
    /// How many jobs may wait in it.
    pub max_depth: Option<u64>,
    /// How many of its jobs may run at once, over all nodes.
    pub max_concurrency: Option<u64>,
    /// How many of its jobs may start in a period, over all nodes.
    pub rate_limit: Option<RateLimit>,
    /// How many jobs of one of its groups may run at once, over all nodes.
    pub group_concurrency: Option<u64>,
}

impl QueueSettings {
    /// Returns the settings after a change.
    #[must_use]
    pub const fn patched(self, patch: QueuePatch) -> Self {
        Self {
            paused: patch.paused.of(self.paused),
            max_depth: patch.max_depth.of(self.max_depth),
            max_concurrency: patch.max_concurrency.of(self.max_concurrency),
            rate_limit: patch.rate_limit.of(self.rate_limit),
            group_concurrency: patch.group_concurrency.of(self.group_concurrency),
        }
    }
}

/// A change of a queue's settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueuePatch {
    /// As in [`QueueSettings`].
    pub paused: Patch<bool>,
    /// As in [`QueueSettings`].
    pub max_depth: Patch<u64>,
    /// As in [`QueueSettings`].
    pub max_concurrency: Patch<u64>,
    /// As in [`QueueSettings`].
    pub rate_limit: Patch<RateLimit>,
    /// As in [`QueueSettings`].
    pub group_concurrency: Patch<u64>,
}

/// What becomes of one setting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// It stays as it is.
    #[default]
    Keep,
    /// It goes back to what the configuration says.
    Reset,
    /// It becomes this.
    Set(T),
}

impl<T: Copy> Patch<T> {
    const fn of(self, before: Option<T>) -> Option<T> {
        match self {
            Self::Keep => before,
            Self::Reset => None,
            Self::Set(value) => Some(value),
        }
    }
}

/// What holds for a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueRule {
    /// None of its jobs is started. It takes submits, and what runs goes on.
    pub paused: bool,
    /// How many jobs may wait in it, scheduled and ready ones together; none: any number.
    pub max_depth: Option<u64>,
    /// How many of its jobs may run at once; none: any number. Leased ones count.
    pub max_concurrency: Option<u64>,
    /// How many of its jobs may start in a period; none: any number.
    pub rate_limit: Option<RateLimit>,
    /// How many jobs of one of its groups may run at once; none: any number. Jobs without a group
    /// are not limited by it.
    pub group_concurrency: Option<u64>,
}

/// What holds for queues where nothing was set while the server ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueDefaults {
    /// What the configuration says, by queue.
    pub of: BTreeMap<Name, QueueSettings>,
    /// Every queue is paused whatever else is said, those apart that the server keeps for itself:
    /// nobody could resume them.
    pub hold: bool,
    /// The queues that `hold` does not hold any more.
    pub released: BTreeSet<Name>,
}

impl QueueDefaults {
    /// Returns what holds for a queue for which `own` was set. Nothing ever holds for those that the
    /// server keeps for itself.
    pub fn rule(&self, name: &Name, own: QueueSettings) -> QueueRule {
        if name.is_reserved() {
            return QueueRule::default();
        }
        let configured = self.of.get(name).copied().unwrap_or_default();
        let is_held = self.hold && !self.released.contains(name);
        QueueRule {
            paused: is_held || own.paused.or(configured.paused).unwrap_or(false),
            max_depth: own.max_depth.or(configured.max_depth),
            max_concurrency: own.max_concurrency.or(configured.max_concurrency),
            rate_limit: own.rate_limit.or(configured.rate_limit),
            group_concurrency: own.group_concurrency.or(configured.group_concurrency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[test]
    fn what_was_set_wins_over_the_configuration() {
        for (own, configured, expected) in [
            (None, None, (false, None)),
            (None, Some((true, 5)), (true, Some(5))),
            (Some((false, 7)), Some((true, 5)), (false, Some(7))),
            (Some((true, 7)), None, (true, Some(7))),
        ] {
            let settings = |given: Option<(bool, u64)>| QueueSettings {
                paused: given.map(|(paused, _)| paused),
                max_depth: given.map(|(_, depth)| depth),
                ..QueueSettings::default()
            };
            let defaults = QueueDefaults {
                of: BTreeMap::from([(name("q"), settings(configured))]),
                ..QueueDefaults::default()
            };
            let rule = defaults.rule(&name("q"), settings(own));
            let found = (rule.paused, rule.max_depth);
            assert_eq!(found, expected, "{own:?} over {configured:?}");
        }
    }

    #[test]
    fn a_hold_holds_every_queue_until_it_is_released() {
        let defaults = QueueDefaults {
            hold: true,
            released: BTreeSet::from([name("free"), name("again")]),
            ..QueueDefaults::default()
        };
        for (queue, paused, expected) in [
            ("q", None, true),
            ("q", Some(false), true),
            ("free", None, false),
            ("free", Some(false), false),
            ("again", Some(true), true),
            ("anteroom.callback", None, false),
            ("anteroom.callback", Some(true), false),
        ] {
            let own = QueueSettings {
                paused,
                ..QueueSettings::default()
            };
            let rule = defaults.rule(&name(queue), own);
            assert_eq!(rule.paused, expected, "{queue}, {paused:?}");
        }
    }

    #[test]
    fn a_change_keeps_what_it_does_not_name() {
        let before = QueueSettings {
            paused: Some(true),
            max_depth: Some(3),
            ..QueueSettings::default()
        };
        assert_eq!(before.patched(QueuePatch::default()), before);
        let patch = QueuePatch {
            paused: Patch::Reset,
            max_depth: Patch::Set(4),
            ..QueuePatch::default()
        };
        let after = QueueSettings {
            paused: None,
            max_depth: Some(4),
            ..QueueSettings::default()
        };
        assert_eq!(before.patched(patch), after);
    }
}
