//! How many jobs of each queue were submitted, started and finished on this node in the last minute.

use anteroom_core::limits::QUEUE_RATE_SECONDS;
use anteroom_core::{Job, Name, Timestamp};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Jobs of a queue a second, over the last minute, on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rates {
    /// Submitted.
    pub submitted: f64,
    /// Begun: every attempt counts.
    pub started: f64,
    /// Come to an end, whichever.
    pub finished: f64,
}

/// What happens to jobs and is counted.
#[derive(Clone, Copy, Debug)]
enum Happening {
    Submitted,
    Started,
    Finished,
}

/// Counts what happens to the jobs of each queue. There are as many entries as there are queues.
#[derive(Debug, Default)]
pub(crate) struct Meters(Mutex<HashMap<Name, [Meter; 3]>>);

impl Meters {
    /// Counts a job as submitted.
    pub(crate) fn submitted(&self, queue: &Name, at: Timestamp) {
        self.count(queue, Happening::Submitted, at);
    }

    /// Counts an attempt that begins.
    pub(crate) fn started(&self, job: &Job) {
        let at = job.status.started_at.unwrap_or(Timestamp::MIN);
        self.count(&job.spec.queue, Happening::Started, at);
    }

    /// Counts a job that came to its end, if it did.
    pub(crate) fn changed(&self, job: &Job) {
        if let Some(at) = job.status.finished_at {
            self.count(&job.spec.queue, Happening::Finished, at);
        }
    }

    /// Returns the rates of a queue.
    pub(crate) fn of(&self, queue: &Name, now: Timestamp) -> Rates {
        let meters = self.lock();
        let Some(meters) = meters.get(queue) else {
            return Rates::default();
        };
        let rate = |happening: Happening| {
            #[expect(
                clippy::cast_precision_loss,
                reason = "there are not that many in a minute"
            )]
            let rate =
                meters[happening as usize].sum(second(now)) as f64 / QUEUE_RATE_SECONDS as f64;
            rate
        };
        Rates {
            submitted: rate(Happening::Submitted),
            started: rate(Happening::Started),
            finished: rate(Happening::Finished),
        }
    }

    fn count(&self, queue: &Name, happening: Happening, at: Timestamp) {
        let mut meters = self.lock();
        if let Some(meters) = meters.get_mut(queue) {
            meters[happening as usize].count(second(at));
            return;
        }
        let new = meters.entry(queue.clone()).or_default();
        new[happening as usize].count(second(at));
    }

    /// A count that a panic cut short is one too few.
    fn lock(&self) -> MutexGuard<'_, HashMap<Name, [Meter; 3]>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn second(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(1_000)
}

/// Counts by the second.
#[derive(Debug)]
struct Meter {
    /// How many in each of the last seconds; the one of second `s` is at `s` modulo their number.
    seconds: [u32; QUEUE_RATE_SECONDS],
    latest: i64,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            seconds: [0; QUEUE_RATE_SECONDS],
            latest: i64::MIN,
        }
    }
}

impl Meter {
    fn count(&mut self, second: i64) {
        self.go_on_to(second);
        // What comes out of order, or from a clock that was set back, counts as just now.
        let now = slot(self.latest);
        self.seconds[now] = self.seconds[now].saturating_add(1);
    }

    /// Empties the seconds that were let go by.
    fn go_on_to(&mut self, second: i64) {
        let passed = second.saturating_sub(self.latest);
        if passed <= 0 {
            return;
        }
        let all = i64::try_from(QUEUE_RATE_SECONDS).unwrap_or(i64::MAX);
        for back in 0..passed.min(all) {
            self.seconds[slot(second - back)] = 0;
        }
        self.latest = second;
    }

    /// Returns how many there were in the last seconds up to this one.
    fn sum(&self, now: i64) -> u64 {
        let passed = now.saturating_sub(self.latest).max(0);
        let all = i64::try_from(QUEUE_RATE_SECONDS).unwrap_or(i64::MAX);
        let seen = (passed.min(all)..all).map(|ago| now.saturating_sub(ago));
        // With a clock that was set back, what is counted is told as it stands.
        let base = self.latest.saturating_sub(now).max(0);
        seen.map(|second| u64::from(self.seconds[slot(second.saturating_add(base))]))
            .sum()
    }
}

fn slot(second: i64) -> usize {
    let all = i64::try_from(QUEUE_RATE_SECONDS).unwrap_or(i64::MAX);
    usize::try_from(second.rem_euclid(all)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_happened_is_counted_for_a_minute() {
        let mut meter = Meter::default();
        assert_eq!(meter.sum(1_000), 0);
        for (second, times) in [(1_000, 3), (1_001, 1), (1_059, 2)] {
            for _ in 0..times {
                meter.count(second);
            }
        }
        for (now, expected) in [
            (1_059, 6),
            (1_060, 3),
            (1_061, 2),
            (1_118, 2),
            (1_119, 0),
            (9_999, 0),
        ] {
            assert_eq!(meter.sum(now), expected, "{now}");
        }
        meter.count(1_070);
        assert_eq!(meter.sum(1_070), 3);
        meter.count(9_000);
        assert_eq!(meter.sum(9_000), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_loses_no_count() {
        let mut meter = Meter::default();
        meter.count(1_000);
        meter.count(500);
        assert_eq!(meter.sum(500), 2);
        assert_eq!(meter.sum(1_000), 2);
        assert_eq!(meter.sum(1_060), 0);
    }

    #[test]
    fn each_queue_has_its_own_rates() {
        let meters = Meters::default();
        let (a, b) = (Name::new("a").unwrap(), Name::new("b").unwrap());
        let now = Timestamp::from_millis(1_800_000_000_500);
        for _ in 0..30 {
            meters.submitted(&a, now);
        }
        let expected = Rates {
            submitted: 0.5,
            ..Rates::default()
        };
        assert_eq!(meters.of(&a, now), expected);
        assert_eq!(meters.of(&b, now), Rates::default());
    }
}
