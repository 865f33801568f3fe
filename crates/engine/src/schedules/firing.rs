//! What the timer knows of a schedule, and which of its firings is to be submitted now.

use super::document::{Begun, Kept};
use super::{CatchUp, Schedule};
use anteroom_core::Timestamp;
use anteroom_core::limits::{FIRING_LATE_MAX, IDEMPOTENCY_KEPT};
use std::sync::Arc;
use std::time::Duration;

/// The waits after the first and after later submits that could not be done.
const RETRY_DELAYS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// How long another node that began a firing is left to it.
const TAKE_OVER_AFTER: Duration = Duration::from_secs(5);
/// How much sooner than it may be forgotten a key is taken for forgotten: clocks are corrected.
const KEY_MARGIN: Duration = Duration::from_hours(1);

/// A schedule as the timer knows it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// That of its document; 0: there is none.
    pub(super) version: u64,
    pub(super) schedule: Arc<Schedule>,
    pub(super) kept: Kept,
    /// Firings up to here are left out, besides those that were dealt with.
    pub(super) left_out: Timestamp,
    /// When it has to be looked at; none: never, as it is.
    pub(super) wake_at: Option<Timestamp>,
    /// The firing that this node tries to submit, with the next wait if that fails.
    trying: Option<(Timestamp, Duration)>,
}

/// What is to be done about a schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Nothing yet.
    Nothing,
    /// This firing is to be submitted.
    Submit(Timestamp),
    /// Firings up to this one come too late.
    LeaveOut(Timestamp),
}

impl Entry {
    pub(super) fn new(version: u64, schedule: Arc<Schedule>, kept: Kept) -> Self {
        Self {
            version,
            schedule,
            kept,
            left_out: Timestamp::MIN,
            wake_at: None,
            trying: None,
        }
    }

    /// Leaves out what came due before `now`, as nobody was there for it; the last of it is made up
    /// for where that is asked for.
    pub(super) fn begin(&mut self, now: Timestamp) {
        let handled = self.handled();
        let cron = &self.schedule.cron;
        let last = match self.schedule.catch_up {
            CatchUp::None => None,
            CatchUp::Last => cron.last_within(handled, now),
        };
        self.left_out = last.map_or(now, |last| last.before(Duration::from_millis(1)));
        self.wake_at = Some(now);
    }

    /// Takes over what is known beside the document from what was known before.
    pub(super) fn following(mut self, before: &Self, now: Timestamp) -> Self {
        self.left_out = before.left_out;
        self.trying = before.trying;
        self.wake(now);
        self
    }

    /// Firings up to here are no more to be done.
    fn handled(&self) -> Timestamp {
        self.kept.handled_at.max(self.left_out)
    }

    /// Sets when it has to be looked at, after its document changed.
    pub(super) fn wake(&mut self, now: Timestamp) {
        let begun = self.begun();
        let from = begun.map_or(Timestamp::MIN, |begun| begun.at);
        let next = self.schedule.cron.next_after(self.handled().max(from));
        let begun = begun.map(|begun| match self.trying {
            Some((at, _)) if at == begun.at => now,
            // By another node, which may be at it.
            Some(_) | None => now.after(TAKE_OVER_AFTER),
        });
        let earliest = next.into_iter().chain(begun).min();
        self.wake_at = earliest.filter(|_| !self.schedule.paused);
    }

    /// Looks at it again later, as what it tries to submit could not be.
    pub(super) fn put_off(&mut self, at: Timestamp, now: Timestamp) {
        let delay = match self.trying {
            Some((tried, delay)) if tried == at => delay,
            Some(_) | None => RETRY_DELAYS.0,
        };
        self.trying = Some((at, (delay * 2).min(RETRY_DELAYS.1)));
        let next = self.schedule.cron.next_after(at.max(now));
        let again = now.after(delay);
        self.wake_at = Some(next.map_or(again, |next| next.min(again)));
    }

    /// Leaves what it was at to whoever changed the document meanwhile.
    pub(super) fn give_way(&mut self, now: Timestamp) {
        self.trying = None;
        self.wake_at = Some(now.after(TAKE_OVER_AFTER));
    }

    /// Tells whether no submit of this firing has failed yet.
    pub(super) fn is_first_try(&self, at: Timestamp) -> bool {
        self.trying.is_none_or(|(tried, _)| tried != at)
    }

    /// Notes that this node is at a firing.
    pub(super) fn try_now(&mut self, at: Timestamp) {
        if self.is_first_try(at) {
            self.trying = Some((at, RETRY_DELAYS.0));
        }
    }

    /// Returns the firing that was begun and not ended.
    fn begun(&self) -> Option<Begun> {
        let begun = self.kept.begun;
        begun.filter(|begun| begun.at > self.kept.handled_at)
    }

    /// Says what is to be done about it now. Of several firings that came due, it is the last: the
    /// others were missed.
    pub(super) fn due(&self, now: Timestamp) -> Due {
        if self.schedule.paused {
            return Due::Nothing;
        }
        let last = self.schedule.cron.last_within(self.handled(), now);
        let begun = self.begun();
        let Some(at) = last.max(begun.map(|begun| begun.at)) else {
            return Due::Nothing;
        };
        let is_late = now.since(at) > FIRING_LATE_MAX && self.schedule.catch_up == CatchUp::None;
        let kept_for = IDEMPOTENCY_KEPT.saturating_sub(KEY_MARGIN);
        // It may have been submitted, and nobody knows any more.
        let is_forgotten =
            begun.is_some_and(|begun| begun.at == at && now.since(begun.since) > kept_for);
        if is_late || is_forgotten {
            Due::LeaveOut(at)
        } else {
            Due::Submit(at)
        }
    }

    /// Returns what is kept once this firing is begun; none if it is already.
    pub(super) fn begun_by(&self, at: Timestamp, now: Timestamp) -> Option<Kept> {
        if self.kept.begun.is_some_and(|begun| begun.at == at) {
            return None;
        }
        let begun = Some(Begun { at, since: now });
        Some(Kept {
            begun,
            ..self.kept.clone()
        })
    }

    /// Returns what is kept once firings up to this one were dealt with.
    pub(super) fn ended(&self, at: Timestamp) -> Kept {
        Kept {
            handled_at: self.kept.handled_at.max(at),
            begun: None,
            ..self.kept.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::submit::Submission;
    use anteroom_core::{Cron, Name, Payload, Zone};

    /// 2027-01-15T08:00:00Z.
    const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_000);

    fn minutes(count: u64) -> Duration {
        Duration::from_mins(count)
    }

    fn entry(cron: &str, catch_up: CatchUp, handled_at: Timestamp) -> Entry {
        let input = Payload {
            content_type: "text/plain".into(),
            bytes: bytes::Bytes::new(),
        };
        let schedule = Arc::new(Schedule {
            cron: Cron::new(cron, Zone::utc()).unwrap(),
            submission: Submission::new(Name::new("t").unwrap(), input),
            paused: false,
            catch_up,
        });
        let kept = Kept::put(schedule.clone(), None, handled_at);
        let mut entry = Entry::new(1, schedule, kept);
        entry.wake(handled_at);
        entry
    }

    fn begun(entry: &mut Entry, at: Timestamp, since: Timestamp) {
        entry.kept.begun = Some(Begun { at, since });
    }

    #[test]
    fn a_firing_is_due_from_its_time_on_and_not_before() {
        let entry = entry("*/10 * * * *", CatchUp::None, NOW);
        let first = NOW.after(minutes(10));
        assert_eq!(entry.wake_at, Some(first));
        let early = first.before(Duration::from_millis(1));
        assert_eq!(entry.due(early), Due::Nothing);
        assert_eq!(entry.due(first), Due::Submit(first));
        assert_eq!(entry.due(first.after(minutes(9))), Due::Submit(first));
        let third = NOW.after(minutes(30));
        assert_eq!(entry.due(third), Due::Submit(third), "the last of three");
    }

    #[test]
    fn what_was_missed_before_the_start_is_left_out_or_its_last_made_up_for() {
        let down = NOW.before(Duration::from_hours(48));
        let last = NOW.before(minutes(60 * 5));
        for (catch_up, expected) in [
            (CatchUp::None, Due::Nothing),
            (CatchUp::Last, Due::Submit(last)),
        ] {
            let mut entry = entry("0 3 * * *", catch_up, down);
            entry.begin(NOW);
            assert_eq!(entry.due(NOW), expected, "{catch_up:?}");
            // And then it goes on.
            entry.kept = entry.ended(last);
            let next = last.after(Duration::from_hours(24));
            entry.wake(NOW);
            assert_eq!(entry.wake_at, Some(next));
            assert_eq!(entry.due(next), Due::Submit(next));
        }
        let mut nothing_missed = entry("0 3 * * *", CatchUp::Last, NOW.before(minutes(1)));
        nothing_missed.begin(NOW);
        assert_eq!(nothing_missed.due(NOW), Due::Nothing);
    }

    #[test]
    fn a_late_firing_is_left_out_unless_it_is_to_be_made_up_for() {
        let at = NOW.after(minutes(60 * 19));
        for (late, catch_up, expected) in [
            (minutes(60), CatchUp::None, Due::Submit(at)),
            (minutes(61), CatchUp::None, Due::LeaveOut(at)),
            (minutes(61), CatchUp::Last, Due::Submit(at)),
            (minutes(23 * 60), CatchUp::Last, Due::Submit(at)),
        ] {
            let entry = entry("0 3 * * *", catch_up, NOW);
            assert_eq!(entry.due(at.after(late)), expected, "{late:?} {catch_up:?}");
        }
    }

    #[test]
    fn one_that_was_begun_is_ended_whoever_began_it_while_its_key_is_remembered() {
        let at = NOW.before(minutes(5));
        let mut entry = entry("0 * * * *", CatchUp::Last, at.before(minutes(1)));
        begun(&mut entry, at, at);
        entry.begin(NOW);
        assert_eq!(entry.due(NOW), Due::Submit(NOW), "a later one is due");
        let mut daily = super::tests::entry("55 7 * * *", CatchUp::Last, at.before(minutes(1)));
        begun(&mut daily, at, at);
        assert_eq!(daily.due(NOW), Due::Submit(at));
        assert_eq!(daily.begun_by(at, NOW), None);
        daily.wake(NOW);
        assert_eq!(
            daily.wake_at,
            Some(NOW.after(TAKE_OVER_AFTER)),
            "by another"
        );
        daily.try_now(at);
        daily.wake(NOW);
        assert_eq!(daily.wake_at, Some(NOW), "by this one");
        let mut weekly = super::tests::entry("55 7 * * 5", CatchUp::Last, at.before(minutes(1)));
        begun(&mut weekly, at, at);
        assert_eq!(weekly.due(at.after(minutes(23 * 60))), Due::Submit(at));
        let forgotten = at.after(minutes(23 * 60 + 1));
        assert_eq!(weekly.due(forgotten), Due::LeaveOut(at));
    }

    #[test]
    fn what_fails_is_tried_again_ever_later_but_not_beyond_the_next() {
        let mut entry = entry("*/10 * * * *", CatchUp::None, NOW);
        let at = NOW.after(minutes(10));
        let mut now = at;
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(entry.is_first_try(at), waits.is_empty());
            entry.put_off(at, now);
            let wake_at = entry.wake_at.unwrap();
            waits.push(wake_at.since(now).as_secs());
            now = wake_at;
        }
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        let just_before = NOW.after(minutes(20)).before(Duration::from_secs(3));
        entry.put_off(at, just_before);
        assert_eq!(entry.wake_at, Some(NOW.after(minutes(20))));
    }

    #[test]
    fn a_paused_one_never_fires() {
        let mut entry = entry("* * * * *", CatchUp::Last, NOW);
        let paused = Schedule {
            paused: true,
            ..(*entry.schedule).clone()
        };
        entry.schedule = Arc::new(paused);
        begun(&mut entry, NOW.after(minutes(1)), NOW);
        entry.wake(NOW);
        assert_eq!(entry.wake_at, None);
        assert_eq!(entry.due(NOW.after(minutes(5))), Due::Nothing);
    }
}
