//! How long a failed job waits for its next attempt.

use std::time::Duration;

/// A draw from -1 to 1 that spreads retries. Drawn by whoever calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Jitter(f64);

impl Jitter {
    /// No spread at all.
    pub const NONE: Self = Self(0.0);

    /// Takes `draw`, cut to -1..=1; what is not a number counts as 0.
    pub fn new(draw: f64) -> Self {
        if draw.is_nan() {
            Self::NONE
        } else {
            Self(draw.clamp(-1.0, 1.0))
        }
    }
}

/// The wait before attempt 2, 3, 4 …: `initial`, times `factor` each time, at most `max`,
/// spread by `jitter` either way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RetryPolicy {
    /// The wait after the first attempt. Default 1 s.
    pub initial: Duration,
    /// What each wait is of the one before. At least 1; default 2.
    pub factor: f64,
    /// The longest wait, before the spread. Default 1 h.
    pub max: Duration,
    /// The spread, as a share of the wait, from 0 to 1. Default 0.1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            initial: Duration::from_secs(1),
            factor: 2.0,
            max: Duration::from_hours(1),
            jitter: 0.1,
        }
    }
}

impl RetryPolicy {
    /// Returns the wait after attempt number `attempt` (counted from 1) failed.
    pub fn delay(&self, attempt: u32, jitter: Jitter) -> Duration {
        let max = self.max.as_secs_f64();
        // An exponent past the cap overflows to infinity, and `min` brings it back.
        let exponent = f64::from(attempt.saturating_sub(1));
        let wait = (self.initial.as_secs_f64() * self.factor.max(1.0).powf(exponent)).min(max);
        let wait = if wait.is_nan() { max } else { wait };
        let spread = wait * (1.0 + jitter.0 * self.jitter.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(spread).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn delays_double_until_the_cap() {
        let policy = RetryPolicy {
            initial: secs(1),
            max: secs(60),
            ..RetryPolicy::default()
        };
        for (attempt, expected) in [(0, 1), (1, 1), (2, 2), (3, 4), (7, 60), (u32::MAX, 60)] {
            assert_eq!(
                policy.delay(attempt, Jitter::NONE),
                secs(expected),
                "attempt {attempt}"
            );
        }
    }

    #[test]
    fn jitter_spreads_either_way_within_its_share() {
        let policy = RetryPolicy {
            initial: secs(10),
            ..RetryPolicy::default()
        };
        for (draw, expected) in [(-1.0, 9), (1.0, 11), (9.0, 11), (f64::NAN, 10)] {
            assert_eq!(
                policy.delay(1, Jitter::new(draw)),
                secs(expected),
                "draw {draw}"
            );
        }
    }

    #[test]
    fn odd_policies_give_a_wait_all_the_same() {
        let zero = RetryPolicy {
            initial: Duration::ZERO,
            ..RetryPolicy::default()
        };
        assert_eq!(
            zero.delay(u32::MAX, Jitter::NONE),
            zero.max,
            "0 times infinity"
        );
        assert_eq!(zero.delay(3, Jitter::NONE), Duration::ZERO);
        let huge = RetryPolicy {
            max: Duration::MAX,
            ..RetryPolicy::default()
        };
        assert_eq!(huge.delay(u32::MAX, Jitter::new(1.0)), Duration::MAX);
        let shrinking = RetryPolicy {
            factor: 0.1,
            ..RetryPolicy::default()
        };
        assert_eq!(shrinking.delay(5, Jitter::NONE), secs(1));
    }
}
