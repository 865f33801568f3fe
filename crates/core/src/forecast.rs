//! When a waiting job starts: an estimate by what starts before it, how long jobs take, and how many
//! run at once; and whether it can still start by a deadline.
//!
//! The wait for a slot is the queue-length estimator for a station of many servers: with `n` slots
//! to become free before it is served, a job waits for about `n` × mean service time ÷ slots
//! (W. Whitt, *Predicting queueing delays*, Management Science 45 (6), 1999). The mean is taken over
//! recent attempts, so that nothing is said where none has ended yet.

use crate::{Place, Timestamp};
use std::time::Duration;

/// Each attempt makes what is known of earlier ones weigh less by this part of it. Times spread widely, so
/// that it takes some hundreds for a mean; more would be slow to follow what changes.
const WINDOW: f64 = 250.0;
/// Attempts that have to have been seen before anything is refused for how long they take.
const SEEN_MIN: u32 = 3;
/// The most that is believed of the wait for a slot before anything is refused for it.
const BELIEVED: f64 = 0.5;
/// Standard deviations of luck that a job may have before anything is refused.
const LUCK: f64 = 2.0;

/// How long attempts took lately: their mean and how far they spread, later ones weighing more.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ServiceTimes {
    seen: u32,
    weight: f64,
    /// Of seconds, and of their squares.
    sum: f64,
    squares: f64,
}

impl ServiceTimes {
    /// Adds an attempt that has ended.
    pub fn add(&mut self, took: Duration) {
        let (kept, seconds) = (1.0 - 1.0 / WINDOW, took.as_secs_f64());
        self.seen = self.seen.saturating_add(1);
        self.weight = self.weight * kept + 1.0;
        self.sum = self.sum * kept + seconds;
        self.squares = self.squares * kept + seconds * seconds;
    }

    /// Returns the mean; none before the first.
    pub fn mean(&self) -> Option<Duration> {
        (self.seen > 0).then(|| span(self.sum / self.weight))
    }

    /// Returns the standard deviation as a share of the mean.
    fn spread(&self) -> f64 {
        let mean = self.sum / self.weight;
        let variance = (self.squares / self.weight - mean * mean).max(0.0);
        if mean > 0.0 {
            variance.sqrt() / mean
        } else {
            0.0
        }
    }
}

/// What runs the jobs of a task, as far as one node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    /// All of them; 0: nobody is known who runs it.
    pub all: u64,
    /// Those that are free.
    pub free: u64,
}

/// What the start of a job is forecast by.
#[derive(Clone, Copy, Debug)]
pub struct Outlook<'a> {
    /// Where it stands.
    pub place: &'a Place,
    /// It is not begun before this.
    pub run_at: Timestamp,
    /// The time.
    pub now: Timestamp,
    /// Of its task.
    pub slots: Slots,
    /// How long the jobs ahead of it take.
    pub service: ServiceTimes,
}

impl Outlook<'_> {
    /// Returns in how long it starts, about; none where that cannot be told: its queue is paused,
    /// nobody is known who runs its task, or all are busy and nothing is known of how long they take.
    pub fn starts_in(&self) -> Option<Duration> {
        if self.place.rule.paused || self.slots.all == 0 {
            return None;
        }
        let ahead = self.run_at.since(self.now);
        let by_rate = self.rate_wait(self.place.starts_before);
        let for_slot = self.slot_wait(self.place.starts_before)?;
        Some(ahead.max(by_rate).max(for_slot))
    }

    /// Tells whether it is known, as things stand, that it does not start by `deadline`.
    ///
    /// Of what is before it only jobs of its own task count, since others may be left waiting for
    /// workers. It is known where the rate of its queue does not let it, nine tenths of them counted;
    /// or where even half of the wait for a slot ends later, less what luck may make of it: two standard
    /// deviations of the mean of so many attempts, by what was seen. A paused queue may be resumed.
    pub fn misses(&self, deadline: Timestamp) -> bool {
        if self.place.rule.paused || self.slots.all == 0 {
            return false;
        }
        let spare = deadline.since(self.now);
        // Nobody may ask for those of other tasks: then they are in nobody's way.
        let before = self.place.task_before();
        let certain = before.saturating_sub(before / 10 + 1);
        self.rate_wait(certain) > spare || self.least_slot_wait(before) > spare
    }

    /// How many slots of its task have to become free before it has one, of how many.
    fn by_task(&self) -> (u64, u64) {
        let ends = (self.place.task_before().saturating_add(1)).saturating_sub(self.slots.free);
        let at_once = self.place.task_running.saturating_add(self.slots.free);
        (
            ends,
            if at_once == 0 {
                self.slots.all
            } else {
                at_once
            },
        )
    }

    /// How many jobs of its queue have to end before `others` others and it may run, of how many.
    fn by_queue(&self, others: u64) -> (u64, u64) {
        match self.place.rule.max_concurrency {
            None => (0, 1),
            Some(most) => {
                let free = most.saturating_sub(self.place.running);
                (others.saturating_add(1).saturating_sub(free), most)
            }
        }
    }

    /// How many ends it waits for, of how many that run at once, where that is the longest: those of
    /// its task, or those of its queue, which `others` come before it in.
    fn ends_needed(&self, others: u64) -> (u64, f64) {
        let rounds = |(ends, at_once): (u64, u64)| (ends, number(ends) / number(at_once.max(1)));
        let (task, queue) = (rounds(self.by_task()), rounds(self.by_queue(others)));
        if task.1 >= queue.1 { task } else { queue }
    }

    /// Returns how many of its group run at once, where one of them has to end before another starts.
    fn full_group(&self) -> Option<u64> {
        let Place {
            rule,
            group_running,
            ..
        } = self.place;
        let most = rule.group_concurrency?;
        (*group_running >= most).then_some(most)
    }

    /// Returns the wait for a slot with `others` of its queue before it; none where nothing is known
    /// of how long jobs take.
    fn slot_wait(&self, others: u64) -> Option<Duration> {
        let ((ends, rounds), most) = (self.ends_needed(others), self.full_group());
        if ends == 0 && most.is_none() {
            return Some(Duration::ZERO);
        }
        let mean = self.service.mean()?.as_secs_f64();
        let of_slots = mean * rounds;
        let of_group = most.map_or(0.0, |most| mean / number(most.max(1)));
        Some(span(of_slots.max(of_group)))
    }

    /// Returns what of the wait for a slot is known for certain.
    fn least_slot_wait(&self, others: u64) -> Duration {
        let ((ends, _), seen) = (self.ends_needed(others), self.service.seen);
        if ends == 0 || seen < SEEN_MIN {
            return Duration::ZERO;
        }
        // That the few which were seen are all alike proves little.
        let each = self.service.spread() + 1.0 / f64::from(seen);
        let of_all = each * (1.0 / number(ends) + 1.0 / f64::from(seen)).sqrt();
        let share = (1.0 - LUCK * of_all).clamp(0.0, BELIEVED);
        let wait = self.slot_wait(others).unwrap_or_default();
        span(wait.as_secs_f64() * share)
    }

    /// Returns how long the rate of its queue keeps it waiting after `before` others.
    fn rate_wait(&self, before: u64) -> Duration {
        let Some(rate) = self.place.rule.rate_limit else {
            return Duration::ZERO;
        };
        let limit = u64::from(rate.limit.max(1));
        let each = rate.period.as_secs_f64() / number(limit);
        match self.place.next_start_at {
            Some(next) => (next.since(self.now)).saturating_add(span(each * number(before))),
            // What was saved up may be as much as one period has.
            None => span(each * number(before.saturating_add(1).saturating_sub(limit))),
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "what is counted here is never exact"
)]
const fn number(count: u64) -> f64 {
    count as f64
}

fn span(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds.max(0.0)).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{QueueRule, RateLimit};

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn seen(times: &[u64]) -> ServiceTimes {
        let mut service = ServiceTimes::default();
        for seconds in times {
            service.add(secs(*seconds));
        }
        service
    }

    fn place(starts_before: u64, running: u64) -> Place {
        Place {
            starts_before,
            running,
            task_ready: starts_before,
            task_running: running,
            ..Place::default()
        }
    }

    /// Rounded: means are no whole numbers.
    fn millis(span: Duration) -> u128 {
        (span.as_micros() + 500) / 1_000
    }

    fn outlook(place: &Place, slots: (u64, u64), service: ServiceTimes) -> Outlook<'_> {
        Outlook {
            place,
            run_at: NOW,
            now: NOW,
            slots: Slots {
                all: slots.0,
                free: slots.1,
            },
            service,
        }
    }

    #[test]
    fn the_mean_follows_what_was_seen_last() {
        assert_eq!(ServiceTimes::default().mean(), None);
        assert_eq!(seen(&[4]).mean(), Some(secs(4)));
        let two = seen(&[2, 4]).mean().unwrap().as_secs_f64();
        assert!((two - 3.0).abs() < 0.01, "{two}");
        let mut service = seen(&[100; 500]);
        for _ in 0..2_500 {
            service.add(secs(1));
        }
        assert!(service.mean().unwrap() < Duration::from_millis(1_010));
        assert!(seen(&[0, 0, 0]).spread().abs() < f64::EPSILON);
    }

    #[test]
    fn a_job_starts_when_enough_slots_have_become_free() {
        let known = seen(&[10; 20]);
        let none = ServiceTimes::default();
        // Before it, running, (all slots, free ones), what is known, milliseconds.
        for (before, running, slots, service, expected) in [
            (0, 0, (4, 4), none, Some(0)),
            (3, 0, (4, 4), none, Some(0)),
            (4, 0, (4, 4), none, None),
            (4, 0, (4, 4), known, Some(2_500)),
            (0, 4, (4, 0), none, None),
            (0, 4, (4, 0), known, Some(2_500)),
            (399, 4, (4, 0), known, Some(1_000_000)),
            // Its task is busy with jobs of other queues.
            (0, 0, (4, 0), known, Some(2_500)),
            // Other tasks and other nodes run jobs of its queue, too.
            (9, 20, (4, 0), known, Some(5_000)),
            (0, 0, (0, 0), known, None),
        ] {
            let place = place(before, running);
            let starts_in = outlook(&place, slots, service).starts_in();
            let found = starts_in.map(millis);
            assert_eq!(found, expected, "{before}, {running}, {slots:?}");
        }
        let endless = place(u64::MAX, 1);
        let starts_in = outlook(&endless, (1, 0), known).starts_in();
        assert!(starts_in > Some(secs(1_000_000_000)), "{starts_in:?}");
    }

    #[test]
    fn limits_of_its_queue_and_group_keep_it_waiting() {
        let rule = |change: fn(&mut QueueRule)| {
            let mut rule = QueueRule::default();
            change(&mut rule);
            rule
        };
        let known = seen(&[10; 20]);
        let rate = |rule: &mut QueueRule| {
            rule.rate_limit = Some(RateLimit {
                limit: 2,
                period: secs(1),
            });
        };
        let next = Some(NOW.after(secs(3)));
        // What holds, before it, running, of its group, the next start by the rate, milliseconds.
        for (rule, before, running, of_group, next, expected) in [
            (rule(|it| it.paused = true), 0, 0, 0, None, None),
            (
                rule(|it| it.max_concurrency = Some(2)),
                0,
                1,
                0,
                None,
                Some(0),
            ),
            (
                rule(|it| it.max_concurrency = Some(2)),
                1,
                1,
                0,
                None,
                Some(5_000),
            ),
            (
                rule(|it| it.max_concurrency = Some(2)),
                3,
                2,
                0,
                None,
                Some(20_000),
            ),
            (
                rule(|it| it.group_concurrency = Some(2)),
                0,
                2,
                1,
                None,
                Some(0),
            ),
            (
                rule(|it| it.group_concurrency = Some(2)),
                0,
                2,
                2,
                None,
                Some(5_000),
            ),
            (rule(rate), 0, 0, 0, next, Some(3_000)),
            (rule(rate), 5, 0, 0, next, Some(5_500)),
            (rule(rate), 1, 0, 0, None, Some(0)),
            (rule(rate), 5, 0, 0, None, Some(2_000)),
        ] {
            let place = Place {
                rule,
                group_running: of_group,
                next_start_at: next,
                ..place(before, running)
            };
            let starts_in = outlook(&place, (8, 8), known).starts_in();
            assert_eq!(starts_in.map(millis), expected, "{place:?}");
        }
    }

    /// A task with free slots was told to wait for the jobs of another in the same queue, which had
    /// none, and its submits were refused.
    #[test]
    fn jobs_of_other_tasks_are_in_the_way_only_where_the_queue_has_a_limit() {
        let mut behind = Place {
            starts_before: 200,
            running: 4,
            ..Place::default()
        };
        let known = seen(&[60; 50]);
        let free = outlook(&behind, (16, 16), known);
        assert_eq!(free.starts_in(), Some(Duration::ZERO));
        assert!(!free.misses(NOW.after(secs(1))));
        behind.rule.max_concurrency = Some(4);
        let limited = outlook(&behind, (16, 16), known);
        assert_eq!(limited.starts_in().map(millis), Some(201 * 15_000));
        // Those others may have nobody who runs them.
        assert!(!limited.misses(NOW.after(secs(60))));
    }

    #[test]
    fn a_scheduled_job_starts_no_earlier_than_it_may() {
        let idle = place(0, 0);
        let at = |span| Outlook {
            run_at: NOW.after(span),
            ..outlook(&idle, (1, 1), ServiceTimes::default())
        };
        assert_eq!(at(secs(7)).starts_in(), Some(secs(7)));
        let busy = place(9, 1);
        let later = Outlook {
            run_at: NOW.after(secs(7)),
            ..outlook(&busy, (1, 0), seen(&[1; 9]))
        };
        assert_eq!(later.starts_in().map(millis), Some(10_000));
    }

    #[test]
    fn a_deadline_is_missed_only_where_that_is_known() {
        let paused = QueueRule {
            paused: true,
            ..QueueRule::default()
        };
        let steady = seen(&[1; 50]);
        let few = seen(&[1; 2]);
        // As from a log-normal distribution: most are short, some very long.
        let wild: Vec<u64> = (0..50).map(|n| if n % 10 == 0 { 8 } else { 1 }).collect();
        let wild = seen(&wild);
        // What holds, before it, what is known, seconds to the deadline.
        for (rule, before, service, spare, expected) in [
            (QueueRule::default(), 99, steady, 49, true),
            (QueueRule::default(), 99, steady, 51, false),
            (QueueRule::default(), 5, seen(&[1, 1, 1]), 2, true),
            (QueueRule::default(), 99, few, 1, false),
            (QueueRule::default(), 0, wild, 0, false),
            (QueueRule::default(), 1, wild, 1, false),
            (QueueRule::default(), 99, wild, 20, true),
            (paused, 99, steady, 1, false),
        ] {
            let place = Place {
                rule,
                ..place(before, 1)
            };
            let outlook = outlook(&place, (1, 0), service);
            let deadline = NOW.after(secs(spare));
            assert_eq!(
                outlook.misses(deadline),
                expected,
                "{before} before, {spare} s"
            );
        }
        let place = place(99, 1);
        let nobody = outlook(&place, (0, 0), steady);
        assert!(!nobody.misses(NOW), "somebody may come");
    }

    #[test]
    fn a_rate_makes_a_deadline_impossible_without_anything_seen() {
        let rule = QueueRule {
            rate_limit: Some(RateLimit {
                limit: 1,
                period: secs(1),
            }),
            ..QueueRule::default()
        };
        for (before, spare, expected) in [(100, 50, true), (100, 91, false), (0, 1, true)] {
            let place = Place {
                rule,
                next_start_at: Some(NOW.after(secs(2))),
                ..place(before, 0)
            };
            let outlook = outlook(&place, (9, 9), ServiceTimes::default());
            let deadline = NOW.after(secs(spare));
            assert_eq!(outlook.misses(deadline), expected, "{before}, {spare}");
        }
    }
}
