//! The rate of a token's submits: the generic cell rate algorithm, in memory, on this node alone.

use anteroom::core::Timestamp;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many of something there may be: in any time `t` no more than `limit × (1 + t / period)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    /// How many at once, and how many more within each period.
    pub limit: NonZeroU32,
    /// How long it takes until all of them are there again.
    pub period: Duration,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoRoom {
    /// There never is any for so many at once.
    Ever,
    /// There is again after this.
    For(Duration),
}

/// What is left of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Left {
    /// How many there may be now.
    pub(crate) count: u128,
    /// When all of them may be again.
    pub(crate) whole_after: Duration,
}

/// Counts against a rate.
///
/// Time is in units of `1 / limit` nanoseconds, so that everything is a whole number: one of the
/// counted costs a period, and a period is what all of them cost together.
#[derive(Debug)]
pub(crate) struct Meter {
    rate: RateLimit,
    /// When everything that was counted is made up for, in units since the epoch.
    made_up_at: Mutex<u128>,
}

impl Meter {
    pub(crate) fn new(rate: RateLimit) -> Self {
        Self {
            rate,
            made_up_at: Mutex::default(),
        }
    }

    pub(crate) const fn rate(&self) -> RateLimit {
        self.rate
    }

    /// Counts so many if there is room for all of them; none of them if not.
    pub(crate) fn take(&self, count: usize, now: Timestamp) -> Result<(), NoRoom> {
        self.count(count, now, true)
    }

    /// Tells whether there is room for so many, and counts none.
    pub(crate) fn has_room(&self, count: usize, now: Timestamp) -> Result<(), NoRoom> {
        self.count(count, now, false)
    }

    fn count(&self, count: usize, now: Timestamp, keep: bool) -> Result<(), NoRoom> {
        if count > usize::try_from(self.limit()).unwrap_or(usize::MAX) {
            return Err(NoRoom::Ever);
        }
        let now = self.units(now);
        let mut made_up_at = self.lock();
        *made_up_at = self.within(*made_up_at, now);
        let then = *made_up_at + count as u128 * self.cost();
        let latest = now + self.burst();
        if then > latest {
            return Err(NoRoom::For(self.span(then - latest)));
        }
        if keep {
            *made_up_at = then;
        }
        Ok(())
    }

    /// Returns what is left.
    pub(crate) fn left(&self, now: Timestamp) -> Left {
        let now = self.units(now);
        let mut lock = self.lock();
        *lock = self.within(*lock, now);
        let made_up_at = *lock;
        let free = now + self.burst() - made_up_at;
        Left {
            count: free.checked_div(self.cost()).unwrap_or(self.limit()),
            whole_after: self.span(made_up_at - now),
        }
    }

    /// Returns an instant no earlier than now, and no later than all of the rate can bring it: a
    /// clock that was set back would otherwise leave no room for as long as it was set back. It is
    /// kept, so that time goes on from there.
    fn within(&self, instant: u128, now: u128) -> u128 {
        instant.clamp(now, now + self.burst())
    }

    fn limit(&self) -> u128 {
        u128::from(self.rate.limit.get())
    }

    fn cost(&self) -> u128 {
        self.rate.period.as_nanos()
    }

    fn burst(&self) -> u128 {
        self.limit() * self.cost()
    }

    fn units(&self, now: Timestamp) -> u128 {
        let millis = u128::try_from(now.as_millis()).unwrap_or_default();
        millis * 1_000_000 * self.limit()
    }

    /// Returns the least span that is so many units long.
    fn span(&self, units: u128) -> Duration {
        let nanos = u64::try_from(units.div_ceil(self.limit()));
        Duration::from_nanos(nanos.unwrap_or(u64::MAX))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, u128> {
        // A number is whole whatever panicked.
        self.made_up_at
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whole seconds, rounded up.
pub(crate) fn seconds(span: Duration) -> u64 {
    span.as_secs() + u64::from(span.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meter(limit: u32, period: Duration) -> Meter {
        let limit = NonZeroU32::new(limit).unwrap();
        Meter::new(RateLimit { limit, period })
    }

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(1_763_812_800_000 + millis)
    }

    #[test]
    fn all_of_it_at_once_and_then_one_by_one() {
        let meter = meter(3, Duration::from_secs(3));
        for _ in 0..3 {
            assert_eq!(meter.take(1, at(0)), Ok(()));
        }
        let second = Duration::from_secs(1);
        assert_eq!(meter.take(1, at(0)), Err(NoRoom::For(second)));
        let half = Duration::from_millis(500);
        assert_eq!(meter.take(1, at(500)), Err(NoRoom::For(half)));
        assert_eq!(meter.take(2, at(1_000)), Err(NoRoom::For(second)));
        assert_eq!(meter.take(1, at(1_000)), Ok(()));
        assert_eq!(meter.take(4, at(100_000)), Err(NoRoom::Ever));
        assert_eq!(meter.take(3, at(100_000)), Ok(()));
    }

    #[test]
    fn looking_takes_nothing_and_what_is_left_is_told() {
        let meter = meter(600, Duration::from_mins(1));
        for _ in 0..1_000 {
            assert_eq!(meter.has_room(600, at(0)), Ok(()));
        }
        assert_eq!(meter.take(450, at(0)), Ok(()));
        let left = |count, seconds| Left {
            count,
            whole_after: Duration::from_secs(seconds),
        };
        assert_eq!(meter.left(at(0)), left(150, 45));
        assert_eq!(meter.left(at(15_000)), left(300, 30));
        assert_eq!(meter.left(at(60_000)), left(600, 0));
    }

    /// A rate that does not divide its period was once rounded, to more than was promised.
    #[test]
    fn in_any_time_there_are_never_more_than_promised() {
        for (limit, period_ms) in [
            (1, 1_000),
            (7, 1_000),
            (600, 60_000),
            (1_000_000_000, 1_000),
        ] {
            let meter = meter(limit, Duration::from_millis(period_ms));
            let mut taken: Vec<(i64, u128)> = Vec::new();
            let (mut now, mut step) = (0_i64, 1_i64);
            for round in 0..400 {
                let piece = usize::try_from(limit.div_ceil(7)).unwrap();
                let mut here = 0;
                while meter.take(piece, at(now)).is_ok() {
                    here += piece as u128;
                }
                taken.push((now, here));
                step = step * 31 % 997;
                now += if round % 10 == 0 { step * 7 } else { step };
            }
            let (limit, period) = (u128::from(limit), u128::from(period_ms));
            for (index, (from, _)) in taken.iter().enumerate() {
                let mut sum = 0;
                for (until, count) in &taken[index..] {
                    sum += count;
                    let t = u128::try_from(until - from).unwrap();
                    assert!(
                        sum * period <= limit * (period + t),
                        "{limit}/{period}: {sum}"
                    );
                }
            }
            let whole: u128 = taken.iter().map(|(_, count)| count).sum();
            assert!(whole > 2 * limit, "it lets something through: {whole}");
        }
    }

    #[test]
    fn a_clock_set_back_costs_a_period_at_most() {
        let meter = meter(10, Duration::from_secs(1));
        assert_eq!(meter.take(10, at(0)), Ok(()));
        let long_ago = -86_400_000;
        let second = Duration::from_secs(1);
        assert_eq!(meter.take(10, at(long_ago)), Err(NoRoom::For(second)));
        assert_eq!(meter.take(10, at(long_ago + 1_000)), Ok(()));
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (millis, expected) in [(0, 0), (1, 1), (1_000, 1), (1_001, 2)] {
            assert_eq!(seconds(Duration::from_millis(millis)), expected, "{millis}");
        }
    }
}
