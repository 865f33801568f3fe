//! The injected clock: the only place that asks what time it is, and the only one that sleeps.

use anteroom_core::Timestamp;
use std::time::{Duration, SystemTime};

/// Tells the time and waits for it. Cheap to clone.
///
/// A store has one and everything about its jobs goes by it: "never early" means by this clock.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    /// Follows the runtime's time, which tests pause.
    Runtime {
        started: tokio::time::Instant,
        started_at: Timestamp,
    },
}

impl Clock {
    /// Returns the machine's clock.
    pub const fn system() -> Self {
        Self(Kind::System)
    }

    /// Returns a clock that begins at `started_at` and goes with the runtime's time, so that
    /// paused time drives it. Needs a Tokio runtime around it.
    pub fn runtime(started_at: Timestamp) -> Self {
        Self(Kind::Runtime {
            started: tokio::time::Instant::now(),
            started_at,
        })
    }

    /// Returns the time.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that the others ask"
    )]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::System => {
                let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                Timestamp::from_millis(0).after(since_epoch.unwrap_or_default())
            }
            Kind::Runtime {
                started,
                started_at,
            } => started_at.after(started.elapsed()),
        }
    }

    /// Waits for `span`.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that the others wait on"
    )]
    pub async fn sleep(&self, span: Duration) {
        tokio::time::sleep(span).await;
    }

    /// Waits until the clock shows `instant`, and returns at once if it does already.
    ///
    /// Sleeps at most an hour at a stretch, so that a corrected clock is noticed.
    pub async fn sleep_until(&self, instant: Timestamp) {
        loop {
            let ahead = instant.since(self.now());
            if ahead.is_zero() {
                return;
            }
            self.sleep(ahead.min(Duration::from_hours(1))).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_time_drives_the_runtime_clock() {
        let clock = Clock::runtime(Timestamp::from_millis(1_000));
        assert_eq!(clock.now(), Timestamp::from_millis(1_000));
        clock.sleep(Duration::from_secs(7)).await;
        assert_eq!(clock.now(), Timestamp::from_millis(8_000));
        clock.sleep_until(Timestamp::from_millis(10_000_000)).await;
        assert!(clock.now() >= Timestamp::from_millis(10_000_000));
    }
}
