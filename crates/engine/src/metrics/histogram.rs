//! A histogram that is added to without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How many observations lie at or below each of some bounds, and their sum.
#[derive(Debug)]
pub(super) struct Histogram {
    /// Rising, in the unit of what is observed.
    bounds: &'static [u64],
    /// Observations up to each bound and above the one before; the last: above all of them.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
        }
    }

    pub(super) fn observe(&self, value: u64) {
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// Observes microseconds.
    pub(super) fn observe_span(&self, span: Duration) {
        self.observe(u64::try_from(span.as_micros()).unwrap_or(u64::MAX));
    }

    /// Returns the bounds with their counts, and the sum, all in units of which `scale` make one.
    #[cfg(feature = "metrics")]
    #[expect(clippy::cast_precision_loss, reason = "shown as floating point")]
    pub(super) fn read(&self, scale: f64) -> (Vec<(f64, u64)>, f64) {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / scale);
        let counts = self.counts.iter().map(|it| it.load(Ordering::Relaxed));
        let buckets = bounds.chain([f64::INFINITY]).zip(counts).collect();
        (buckets, self.sum.load(Ordering::Relaxed) as f64 / scale)
    }
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::*;

    #[test]
    fn a_bound_includes_what_it_says() {
        let histogram = Histogram::new(&[1_000, 5_000]);
        for micros in [0, 1_000, 1_001, 5_000, 5_001, 90_000] {
            histogram.observe_span(Duration::from_micros(micros));
        }
        let (buckets, sum) = histogram.read(1e3);
        assert_eq!(buckets, [(1.0, 2), (5.0, 2), (f64::INFINITY, 2)]);
        assert!((sum - 102.002).abs() < 1e-9, "{sum}");
    }
}
