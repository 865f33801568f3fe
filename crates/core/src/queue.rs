//! What holds for a queue: what the configuration says, and what was set while the server ran.
//!
//! A store keeps [`QueueSettings`] and is told the [`QueueDefaults`] of its process; what becomes of
//! the two is [`QueueDefaults::rule`] and nothing else.

use crate::RateLimit;
use crate::limits::{
    QUEUE_CONCURRENCY_MAX, QUEUE_DEPTH_MAX, RATE_LIMIT_MAX, RATE_PERIOD_MAX, RATE_PERIOD_MIN,
};
use crate::name::Name;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

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

/// A setting of a queue that is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{setting} {detail}")]
pub struct QueueSettingError {
    /// The setting, as it is written on the wire.
    pub setting: &'static str,
    /// What it is and what it may be.
    pub detail: String,
}

impl QueueSettings {
    /// Checks that each setting lies in its range. None of them is 0: a queue that is to take or
    /// start nothing is paused instead.
    ///
    /// # Errors
    ///
    /// [`QueueSettingError`] for the first one that does not.
    pub fn check(&self) -> Result<(), QueueSettingError> {
        let running = 1..=QUEUE_CONCURRENCY_MAX;
        check("max_depth", self.max_depth, 1..=QUEUE_DEPTH_MAX)?;
        check("max_concurrency", self.max_concurrency, running.clone())?;
        check("group_concurrency", self.group_concurrency, running)?;
        let Some(RateLimit { limit, period }) = self.rate_limit else {
            return Ok(());
        };
        check("rate_limit.limit", Some(limit), 1..=RATE_LIMIT_MAX)?;
        let wrong = |detail| {
            let setting = "rate_limit.period";
            Err(QueueSettingError { setting, detail })
        };
        if !(RATE_PERIOD_MIN..=RATE_PERIOD_MAX).contains(&period) {
            let (least, most) = (RATE_PERIOD_MIN, RATE_PERIOD_MAX);
            return wrong(format!("is {period:?}; it is from {least:?} to {most:?}"));
        }
        if !RateLimit::is_whole_millis(period) {
            return wrong(format!(
                "is {period:?}; it is a whole number of milliseconds"
            ));
        }
        Ok(())
    }

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

fn check<T: PartialOrd + std::fmt::Display>(
    setting: &'static str,
    value: Option<T>,
    range: RangeInclusive<T>,
) -> Result<(), QueueSettingError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let (least, most) = range.into_inner();
            let detail = format!("is {value}; it is from {least} to {most}");
            Err(QueueSettingError { setting, detail })
        }
        _ => Ok(()),
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
    use std::time::Duration;

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
    fn every_setting_has_its_range() {
        let depth = |max_depth| QueueSettings {
            max_depth: Some(max_depth),
            ..QueueSettings::default()
        };
        let running = |max_concurrency| QueueSettings {
            max_concurrency: Some(max_concurrency),
            ..QueueSettings::default()
        };
        let of_group = |group_concurrency| QueueSettings {
            group_concurrency: Some(group_concurrency),
            ..QueueSettings::default()
        };
        let rate = |limit, micros| QueueSettings {
            rate_limit: Some(RateLimit {
                limit,
                period: Duration::from_micros(micros),
            }),
            ..QueueSettings::default()
        };
        let most = 31 * 24 * 3_600_000_000;
        for (settings, expected) in [
            (QueueSettings::default(), None),
            (depth(1), None),
            (depth(1_000_000_000), None),
            (depth(0), Some("max_depth is 0; it is from 1 to 1000000000")),
            (depth(1_000_000_001), Some("max_depth is 1000000001; ")),
            (running(1), None),
            (running(1_000_000), None),
            (
                running(0),
                Some("max_concurrency is 0; it is from 1 to 1000000"),
            ),
            (running(1_000_001), Some("max_concurrency is 1000001; ")),
            (of_group(1_000_000), None),
            (of_group(0), Some("group_concurrency is 0; ")),
            (
                of_group(u64::MAX),
                Some("group_concurrency is 18446744073709551615; "),
            ),
            (rate(1, 1_000), None),
            (rate(1_000_000, most), None),
            (
                rate(0, 1_000),
                Some("rate_limit.limit is 0; it is from 1 to 1000000"),
            ),
            (
                rate(1_000_001, 1_000),
                Some("rate_limit.limit is 1000001; "),
            ),
            (
                rate(1, 999),
                Some("rate_limit.period is 999µs; it is from 1ms to 2678400s"),
            ),
            (
                rate(1, most + 1),
                Some("rate_limit.period is 2678400.000001s; it is from "),
            ),
            (
                rate(1, 1_500),
                Some("rate_limit.period is 1.5ms; it is a whole number of milli"),
            ),
        ] {
            let error = settings.check().err().map(|error| error.to_string());
            let is_expected = match (&error, expected) {
                (Some(error), Some(beginning)) => error.starts_with(beginning),
                (error, expected) => error.is_none() && expected.is_none(),
            };
            assert!(is_expected, "{settings:?}: {error:?}");
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
