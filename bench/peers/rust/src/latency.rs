//! Times of single jobs.

use crate::order::{Done, Latency};
use std::time::Duration;

/// Times of submits and of results, one of each for a job.
#[derive(Debug, Default)]
pub(crate) struct Times {
    submits: Vec<Duration>,
    results: Vec<Duration>,
}

impl Times {
    /// Adds those of a job.
    pub(crate) fn add(&mut self, submit: Duration, result: Duration) {
        self.submits.push(submit);
        self.results.push(result);
    }

    /// Says what they came to.
    pub(crate) fn done(mut self, span: Duration) -> Done {
        Done {
            latency: Some(Latency {
                submit: quantiles(&mut self.submits),
                result: quantiles(&mut self.results),
            }),
            ..Done::new(self.submits.len() as u64, span)
        }
    }
}

/// Returns p50 and p99, in milliseconds.
fn quantiles(times: &mut [Duration]) -> [f64; 2] {
    times.sort();
    [50, 99].map(|percent| {
        let index = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    })
}
