//! How often something may happen: so often in a period, evenly, after what was saved up.
//!
//! This is the generic cell rate algorithm (ITU-T I.371, 1996) as a virtual schedule: each start
//! moves the instant on at which all earlier ones would have happened had they come evenly, and one
//! may happen while that instant lies no more than a period ahead, less one interval. What it
//! promises: in any time t no more than limit × (1 + t / period) happen.

use crate::Timestamp;
use std::time::Duration;

/// So many in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many, at least 1.
    pub limit: u32,
    /// In how long, at least a millisecond.
    pub period: Duration,
}

/// How far the starts have come that a [`RateLimit`] holds for. The default is that none was ever.
///
/// An instant in nanoseconds since the Unix epoch: the intervals of high rates are shorter than a
/// millisecond, and what they are rounded by must not add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pace(i64);

const NANOS_IN_A_MILLI: i64 = 1_000_000;

impl Pace {
    /// Returns the pace that [`Pace::as_nanos`] gave.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// Returns it as a number, to be kept.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }
}

impl RateLimit {
    /// Tells whether a period is of the grain that instants have.
    pub const fn is_whole_millis(period: Duration) -> bool {
        period.subsec_nanos().is_multiple_of(1_000_000)
    }

    /// Returns from when on the next one may happen.
    pub fn free_at(self, pace: Pace) -> Timestamp {
        let earliest = pace.0.saturating_sub(self.saved_up());
        // Not before the whole of it has passed.
        let millis = earliest.div_euclid(NANOS_IN_A_MILLI)
            + i64::from(earliest.rem_euclid(NANOS_IN_A_MILLI) > 0);
        Timestamp::from_millis(millis)
    }

    /// Returns the pace after one that happens at `now`.
    #[must_use]
    pub fn after_one(self, pace: Pace, now: Timestamp) -> Pace {
        let now = now.as_millis().saturating_mul(NANOS_IN_A_MILLI);
        Pace(pace.0.max(now).saturating_add(self.interval()))
    }

    /// Returns a pace that has come no further than this limit lets it by `now`: what was kept under
    /// a slower limit, or before the clock was set back, holds nothing up for longer than a period.
    #[must_use]
    pub fn clamped(self, pace: Pace, now: Timestamp) -> Pace {
        let ahead = i64::try_from(self.period.as_nanos()).unwrap_or(i64::MAX);
        let now = now.as_millis().saturating_mul(NANOS_IN_A_MILLI);
        Pace(pace.0.min(now.saturating_add(ahead)))
    }

    /// Returns the nanoseconds from one to the next at an even rate, rounded up.
    fn interval(self) -> i64 {
        let period = i64::try_from(self.period.as_nanos()).unwrap_or(i64::MAX);
        let limit = i64::from(self.limit.max(1));
        period / limit + i64::from(period % limit > 0)
    }

    /// How far the pace may run ahead of the time before it has to wait: all but one at once.
    fn saved_up(self) -> i64 {
        let others = i64::from(self.limit.max(1)) - 1;
        let period = i64::try_from(self.period.as_nanos()).unwrap_or(i64::MAX);
        self.interval()
            .saturating_mul(others)
            .min(period.saturating_sub(self.interval()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(limit: u32, period_ms: u64) -> RateLimit {
        RateLimit {
            limit,
            period: Duration::from_millis(period_ms),
        }
    }

    /// Lets as many happen as may at each of the instants, and returns when they did.
    fn starts(rate: RateLimit, instants: impl Iterator<Item = i64>) -> Vec<i64> {
        let mut pace = Pace::default();
        let mut starts = Vec::new();
        for millis in instants {
            let now = Timestamp::from_millis(millis);
            while rate.free_at(pace) <= now {
                pace = rate.after_one(pace, now);
                starts.push(millis);
            }
        }
        starts
    }

    #[test]
    fn no_more_than_the_limit_start_in_any_time_and_nearly_all_of_it_do() {
        for (limit, period) in [
            (1, 1),
            (1, 1_000),
            (3, 7),
            (50, 1_000),
            (1_000, 60),
            (7, 9_999),
        ] {
            let rate = rate(limit, period);
            let end = 10 * i64::try_from(period).unwrap();
            for step in [1, 3, 17] {
                let starts = starts(rate, (0..=end).step_by(step));
                let (limit, period) = (i64::from(limit), i64::try_from(period).unwrap());
                for (i, from) in starts.iter().enumerate().step_by(1 + starts.len() / 300) {
                    for (count, to) in (1_i64..).zip(&starts[i..]) {
                        let is_within = count * period <= limit * (period + to - from);
                        assert!(is_within, "{rate:?}: {count} in {from}..{to}");
                    }
                }
                let reached = i64::try_from(starts.len()).unwrap();
                let is_coarse = i64::try_from(step).unwrap() * limit > period;
                let is_enough = reached * 100 >= 95 * 10 * limit;
                assert!(
                    is_coarse || is_enough,
                    "{rate:?}, every {step} ms: {reached}"
                );
            }
        }
    }

    #[test]
    fn what_was_not_used_is_saved_up_for_one_period_only() {
        let instants = std::iter::repeat_n(1_000_000, 500);
        assert_eq!(starts(rate(5, 1_000), instants).len(), 5);
    }
}
