//! The injected clock: the only place that asks what time it is, and the only one that sleeps.

use anteroom_core::Timestamp;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

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
    /// Stands still until a test sets it.
    Manual(Arc<Hand>),
    /// Goes with the time that passes here, and is put right by what somebody else's clock shows.
    Followed(Arc<Followed>),
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

    /// Returns a clock that shows `now`, goes on by itself, and is put right by [`FollowedClock`].
    ///
    /// For a store whose database alone says what time it is.
    pub fn followed(now: Timestamp) -> (Self, FollowedClock) {
        let followed = Arc::new(Followed {
            started: tokio::time::Instant::now(),
            ahead_ms: AtomicI64::new(now.as_millis()),
            shown_ms: AtomicI64::new(i64::MIN),
        });
        let clock = Self(Kind::Followed(followed.clone()));
        (clock, FollowedClock(followed))
    }

    /// Tells whether it is the machine's clock.
    pub(crate) const fn is_system(&self) -> bool {
        matches!(self.0, Kind::System)
    }

    /// Returns a clock that shows `started_at`, and the hand that alone moves it.
    ///
    /// For tests of what has threads of its own, which paused time does not reach.
    pub fn manual(started_at: Timestamp) -> (Self, ManualClock) {
        let hand = Arc::new(Hand {
            time: watch::Sender::new(started_at),
            callbacks: Mutex::default(),
        });
        (Self(Kind::Manual(hand.clone())), ManualClock(hand))
    }

    /// Calls `callback` after each move of a clock that is set by hand; other kinds never call it.
    ///
    /// A thread that waits for the next due job by itself has itself woken by this. The callback
    /// lives as long as the clock: let it hold on to no more than it needs for that.
    pub fn on_advance(&self, callback: impl Fn() + Send + Sync + 'static) {
        match &self.0 {
            Kind::System | Kind::Runtime { .. } | Kind::Followed(_) => {}
            Kind::Manual(hand) => hand.callbacks().push(Arc::new(callback)),
        }
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
            Kind::Manual(hand) => *hand.time.borrow(),
            Kind::Followed(followed) => followed.now(),
        }
    }

    /// Waits for `span`.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that the others wait on"
    )]
    pub async fn sleep(&self, span: Duration) {
        match &self.0 {
            Kind::System | Kind::Runtime { .. } | Kind::Followed(_) => {
                tokio::time::sleep(span).await;
            }
            Kind::Manual(hand) => hand.reach(self.now().after(span)).await,
        }
    }

    /// Waits until the clock shows `instant`, and returns at once if it does already.
    ///
    /// Sleeps at most an hour at a stretch (a second by a clock that is put right), so that a
    /// corrected clock is noticed.
    pub async fn sleep_until(&self, instant: Timestamp) {
        loop {
            let ahead = instant.since(self.now());
            if ahead.is_zero() {
                return;
            }
            let stretch = match self.0 {
                Kind::Followed(_) => Duration::from_secs(1),
                Kind::System | Kind::Runtime { .. } | Kind::Manual(_) => Duration::from_hours(1),
            };
            self.sleep(ahead.min(stretch)).await;
        }
    }
}

/// Moves a clock that is set by hand ([`Clock::manual`]). Cheap to clone.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Hand>);

impl ManualClock {
    /// Moves the clock on by `span` and wakes everybody whose instant has come.
    pub fn advance(&self, span: Duration) {
        self.0.time.send_modify(|now| *now = now.after(span));
        // Called without the lock, so that a callback may register another.
        let callbacks = self.0.callbacks().clone();
        for callback in callbacks {
            callback();
        }
    }
}

/// Puts a clock right that follows another one ([`Clock::followed`]). Cheap to clone.
#[derive(Clone, Debug)]
pub struct FollowedClock(Arc<Followed>);

impl FollowedClock {
    /// Says what the other clock shows now.
    ///
    /// Where that is less than this one has shown, this one stands still until the other has caught
    /// up; it goes back only where that would take longer than ten seconds.
    pub fn set(&self, now: Timestamp) {
        self.0.set(now);
    }
}

/// The farthest that a clock that follows another one stands still rather than to go back.
const STANDSTILL_MS_MAX: i64 = 10_000;

/// The state of a clock that follows another one.
#[derive(Debug)]
struct Followed {
    started: tokio::time::Instant,
    /// What it would have shown when it was started, by what is known now.
    ahead_ms: AtomicI64,
    /// The latest that it has shown.
    shown_ms: AtomicI64,
}

impl Followed {
    fn now(&self) -> Timestamp {
        let now = self.ahead_ms.load(Ordering::Acquire) + self.passed_ms();
        let shown = self.shown_ms.fetch_max(now, Ordering::AcqRel);
        Timestamp::from_millis(now.max(shown))
    }

    fn set(&self, now: Timestamp) {
        let now = now.as_millis();
        self.ahead_ms
            .store(now - self.passed_ms(), Ordering::Release);
        if self.shown_ms.load(Ordering::Acquire) - now > STANDSTILL_MS_MAX {
            self.shown_ms.store(now, Ordering::Release);
        }
    }

    fn passed_ms(&self) -> i64 {
        i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX / 2)
    }
}

/// The state of a clock that is set by hand.
struct Hand {
    time: watch::Sender<Timestamp>,
    callbacks: Mutex<Vec<Callback>>,
}

type Callback = Arc<dyn Fn() + Send + Sync>;

impl Hand {
    async fn reach(&self, instant: Timestamp) {
        let mut reached = self.time.subscribe();
        // Fails only once the sender is gone, and `self` has it.
        let _always = reached.wait_for(|now| *now >= instant).await;
    }

    fn callbacks(&self) -> MutexGuard<'_, Vec<Callback>> {
        // A list that was pushed to is whole whatever panicked.
        self.callbacks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Hand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hand")
            .field("time", &*self.time.borrow())
            .finish_non_exhaustive()
    }
}

/// Writes an instant as on the wire; one beyond the years that RFC 3339 can write is the last one.
pub(crate) fn rfc3339(instant: Timestamp) -> String {
    let instant =
        jiff::Timestamp::from_millisecond(instant.as_millis()).unwrap_or(jiff::Timestamp::MAX);
    format!("{instant:.3}")
}

/// Writes a span as people say it, and as an option of a submit takes it: below a second in milliseconds
/// (`87ms`), below a minute in tenths of a second (`3.2s`), and from there on in whole seconds (`1h2m5s`).
pub fn about(span: Duration) -> String {
    let millis = (span.as_micros() + 500) / 1_000;
    let tenths = (millis + 50) / 100;
    match (millis, tenths) {
        (0, _) => "0s".to_owned(),
        (..1_000, _) => format!("{millis}ms"),
        (_, ..600) if tenths.is_multiple_of(10) => format!("{}s", tenths / 10),
        (_, ..600) => format!("{}.{}s", tenths / 10, tenths % 10),
        (_, _) => in_units((millis + 500) / 1_000),
    }
}

/// Writes whole seconds in the units that have a part in them.
fn in_units(seconds: u128) -> String {
    let parts = [
        (seconds / 3_600, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let mut text = String::new();
    for (count, unit) in parts {
        if count > 0 {
            text.extend([count.to_string(), unit.to_string()]);
        }
    }
    text
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

    #[tokio::test]
    async fn a_clock_set_by_hand_wakes_sleepers_and_calls_back() {
        let (clock, hand) = Clock::manual(Timestamp::from_millis(1_000));
        let (told, hears) = std::sync::mpsc::channel();
        let (seen_by, seen_at) = (clock.clone(), Timestamp::from_millis(3_000));
        clock.on_advance(move || told.send(seen_by.now()).unwrap());
        let mut sleeper = tokio::task::JoinSet::new();
        sleeper.spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(seen_at).await }
        });
        hand.advance(Duration::from_secs(1));
        tokio::task::yield_now().await;
        assert!(sleeper.try_join_next().is_none(), "not yet 3 s");
        hand.advance(Duration::from_secs(1));
        sleeper.join_next().await.unwrap().unwrap();
        assert_eq!(hears.try_iter().last(), Some(seen_at));
        assert_eq!(clock.now(), seen_at);
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_follows_another_stands_still_rather_than_to_go_back() {
        let at = Timestamp::from_millis;
        let (clock, other) = Clock::followed(at(1_000_000));
        clock.sleep(Duration::from_secs(5)).await;
        assert_eq!(clock.now(), at(1_005_000), "it goes on by itself");
        other.set(at(1_008_000));
        assert_eq!(clock.now(), at(1_008_000), "ahead at once");
        other.set(at(1_006_000));
        assert_eq!(clock.now(), at(1_008_000), "not back");
        clock.sleep(Duration::from_secs(1)).await;
        assert_eq!(clock.now(), at(1_008_000), "until the other has caught up");
        clock.sleep(Duration::from_secs(2)).await;
        assert_eq!(clock.now(), at(1_009_000), "and on with it");
        other.set(at(900_000));
        assert_eq!(
            clock.now(),
            at(900_000),
            "a clock that was wrong by far is not waited for"
        );
        clock.sleep_until(at(1_000_000)).await;
        assert!(clock.now() >= at(1_000_000));
    }

    #[test]
    fn an_instant_is_written_in_utc_with_milliseconds() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_795_348_800_007, "2026-11-22T12:00:00.007Z"),
            (i64::MAX, "9999-12-30T22:00:00.999Z"),
        ] {
            assert_eq!(rfc3339(Timestamp::from_millis(millis)), expected);
        }
    }

    #[test]
    fn spans_are_written_as_people_say_them() {
        for (micros, expected) in [
            (0, "0s"),
            (499, "0s"),
            (87_400, "87ms"),
            (999_400, "999ms"),
            (999_600, "1s"),
            (3_249_000, "3.2s"),
            (3_250_000, "3.3s"),
            (59_940_000, "59.9s"),
            (59_960_000, "1m"),
            (3_725_400_000, "1h2m5s"),
            (36_000_000_000, "10h"),
        ] {
            assert_eq!(about(Duration::from_micros(micros)), expected);
        }
    }
}
