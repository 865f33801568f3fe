//! The workers that wait for jobs of a task: how many jobs they would take, and when one asked last.

use crate::clock::Clock;
use crate::forecast::lock;
use anteroom_core::{Name, Timestamp};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// Who asks for jobs of a task.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asking(Arc<Mutex<Askers>>);

#[derive(Debug, Default)]
struct Askers {
    /// Jobs that those who take them from any queue would take.
    anywhere: u64,
    /// And those who take them from some queues: an entry for each that is asked for just now.
    in_queues: HashMap<Name, u64>,
    asked_at: Option<Timestamp>,
}

impl Asking {
    /// Counts a worker that asks for up to `max` jobs, until the guard is dropped.
    pub(crate) fn begin(&self, max: usize, queues: Option<Vec<Name>>, clock: &Clock) -> Asks {
        let max = max as u64;
        let mut askers = lock(&self.0);
        askers.asked_at = Some(clock.now());
        match &queues {
            None => askers.anywhere += max,
            Some(queues) => {
                for queue in queues {
                    *askers.in_queues.entry(queue.clone()).or_default() += max;
                }
            }
        }
        drop(askers);
        Asks {
            asking: self.clone(),
            clock: clock.clone(),
            max,
            queues,
        }
    }

    /// Returns how many jobs of a queue would be taken at once, and when somebody asked last.
    pub(crate) fn of(&self, queue: &Name) -> (u64, Option<Timestamp>) {
        let askers = lock(&self.0);
        let there = askers.in_queues.get(queue).copied().unwrap_or(0);
        (askers.anywhere + there, askers.asked_at)
    }
}

/// A worker that asks.
#[derive(Debug)]
pub(crate) struct Asks {
    asking: Asking,
    clock: Clock,
    max: u64,
    queues: Option<Vec<Name>>,
}

impl Drop for Asks {
    fn drop(&mut self) {
        let now = self.clock.now();
        let mut askers = lock(&self.asking.0);
        // Until now it has been asking.
        askers.asked_at = Some(now);
        let Some(queues) = &self.queues else {
            askers.anywhere -= self.max;
            return;
        };
        for queue in queues {
            let left = askers.in_queues.get_mut(queue);
            let is_last = left.is_some_and(|left| {
                *left -= self.max;
                *left == 0
            });
            if is_last {
                askers.in_queues.remove(queue);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_asks_is_counted_until_it_stops() {
        let name = |text| Name::new(text).unwrap();
        let (a, b) = (name("a"), name("b"));
        let asking = Asking::default();
        assert_eq!(asking.of(&a), (0, None));
        let now = Timestamp::from_millis(7);
        let (clock, hand) = Clock::manual(now);
        let anywhere = asking.begin(3, None, &clock);
        // Named twice, it is counted twice, and let go of twice.
        let in_a = asking.begin(2, Some(vec![a.clone(), a.clone()]), &clock);
        assert_eq!(asking.of(&a), (7, Some(now)));
        assert_eq!(asking.of(&b), (3, Some(now)));
        drop(anywhere);
        assert_eq!(asking.of(&b).0, 0);
        hand.advance(Duration::from_millis(3));
        drop(in_a);
        assert_eq!(asking.of(&a), (0, Some(Timestamp::from_millis(10))));
        assert!(lock(&asking.0).in_queues.is_empty(), "nothing is left over");
    }
}
