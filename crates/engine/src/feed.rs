//! The feed: what happens to all jobs, as far as this node brings it about, for whoever follows it.
//!
//! A ring of the latest events, filled only while somebody follows. Every follower reads in it at
//! its own pace; one that is too slow is told how many events it missed. It is a best effort, as
//! the store is not asked: what other nodes do is not in it. That a job came due is told for those
//! that were told to be scheduled, unless something else is told of them first. A follower that comes back soon after it left, on the same node, goes on where it was.

use crate::engine::{Engine, Shared};
use crate::store::{Applied, Change};
use anteroom_core::limits::{FEED_BYTES_MAX, FEED_EVENTS_MAX, HAND_BACKS_FREE};
use anteroom_core::{
    Event, HandBack, Happened, Job, JobId, MalformedEventId, Report, ShownState, Spec, State,
    Timestamp,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long events are gathered after the last follower left: it may come back.
const LINGER: Duration = Duration::from_secs(30);

/// The place of an event in the feed: later ones are greater, over restarts too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeedId {
    /// When the node began to gather events.
    epoch: u64,
    /// Counts them.
    number: u64,
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

impl FromStr for FeedId {
    type Err = MalformedEventId;

    fn from_str(text: &str) -> Result<Self, MalformedEventId> {
        let (epoch, number) = text.split_once('.').ok_or(MalformedEventId)?;
        let read = |text: &str| text.parse().map_err(|_| MalformedEventId);
        let id = Self {
            epoch: read(epoch)?,
            number: read(number)?,
        };
        // One place has one id: no plus, no leading zeros.
        if id.to_string() == text {
            Ok(id)
        } else {
            Err(MalformedEventId)
        }
    }
}

/// Something that happened to some job.
#[derive(Clone, Debug, PartialEq)]
pub struct FeedEvent {
    /// Its place.
    pub id: FeedId,
    /// The job, as it was submitted.
    pub job: Arc<Spec>,
    /// What happened to it.
    pub happened: Happened,
}

/// What a follower of the feed is told.
#[derive(Clone, Debug, PartialEq)]
pub enum FeedTold {
    /// This happened.
    Event(Arc<FeedEvent>),
    /// Something happened that it is not told.
    Missing {
        /// The place of the last of it.
        id: FeedId,
        /// How many events of all jobs; none: nobody counted.
        count: Option<u64>,
    },
}

/// The events of all jobs.
#[derive(Debug)]
pub(crate) struct Feed {
    /// Whether somebody follows, or did a moment ago. All that jobs cost where nobody does.
    is_followed: AtomicBool,
    ring: Mutex<Ring>,
    /// The number of the latest event.
    latest: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    followers: usize,
    /// Until when events are gathered though nobody follows.
    until: Option<Timestamp>,
    epoch: u64,
    latest: u64,
    events: VecDeque<Arc<FeedEvent>>,
    bytes: usize,
    /// The latest version told of the jobs in the ring, and the number of the event that told it.
    versions: HashMap<JobId, (u64, u64)>,
    /// Jobs that were told to be scheduled, by when they come due: the nearest of them.
    scheduled: BTreeMap<(Timestamp, JobId), Scheduled>,
}

/// A job that was told to be scheduled.
#[derive(Debug)]
struct Scheduled {
    job: Arc<Spec>,
    version: u64,
    attempt: u32,
}

/// What a change may make known, once it is made.
pub(crate) struct Heard {
    reports: Vec<Report>,
    enters: Enters,
}

/// Whether a change makes the job enter a state.
#[derive(Clone, Copy, PartialEq)]
enum Enters {
    Always,
    Never,
    UnlessRunning,
    /// It does, and its attempt may have had the next number before.
    HandedBack(HandBack),
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            is_followed: AtomicBool::new(false),
            ring: Mutex::default(),
            latest: watch::Sender::new(0),
        }
    }
}

impl Feed {
    /// Tells whether anybody follows.
    pub(crate) fn is_followed(&self) -> bool {
        self.is_followed.load(Ordering::Acquire)
    }

    /// Notes what changes are about to be made, if anybody follows.
    pub(crate) fn hear(&self, changes: &[Change]) -> Option<Vec<Heard>> {
        let heard = |change: &Change| Heard {
            reports: change.reports.list.clone(),
            enters: match change.event {
                Event::Extended { .. } | Event::Reported { .. } => Enters::Never,
                Event::Amended { ref amendment } if amendment.run_at.is_none() => Enters::Never,
                Event::CancelRequested => Enters::UnlessRunning,
                Event::Released { hand_back, .. } => Enters::HandedBack(hand_back),
                _ => Enters::Always,
            },
        };
        self.is_followed()
            .then(|| changes.iter().map(heard).collect())
    }

    /// Tells of changes that were made.
    pub(crate) fn tell_changes(&self, heard: Vec<Heard>, applied: &[Applied], now: Timestamp) {
        for (heard, applied) in heard.into_iter().zip(applied) {
            let Ok(job) = applied else { continue };
            let attempt = match heard.enters {
                Enters::HandedBack(hand_back) if was_free(hand_back, job) => job.status.attempt + 1,
                _ => job.status.attempt,
            };
            let mut ring = self.ring();
            for report in heard.reports {
                let happened = Happened::Reported { attempt, report };
                ring.push(&job.spec, job.status.version, happened);
            }
            drop(ring);
            let enters = match heard.enters {
                Enters::Always | Enters::HandedBack(_) => true,
                Enters::Never => false,
                Enters::UnlessRunning => job.status.state != State::Running,
            };
            if enters {
                self.enter(job, now);
            } else {
                self.wake();
            }
        }
    }

    /// Tells of the state that a job is in, if anybody follows.
    pub(crate) fn tell(&self, job: &Job, now: Timestamp) {
        if self.is_followed() {
            self.enter(job, now);
        }
    }

    fn enter(&self, job: &Job, now: Timestamp) {
        let state = job.status.shown(now);
        let attempt = job.status.attempt;
        let mut ring = self.ring();
        ring.push(
            &job.spec,
            job.status.version,
            Happened::Entered { state, attempt },
        );
        if state == ShownState::Scheduled {
            ring.wait_for(job);
        }
        drop(ring);
        self.wake();
    }

    fn wake(&self) {
        let latest = self.ring().latest;
        self.latest.send_if_modified(|told| {
            let is_new = *told != latest;
            *told = latest;
            is_new
        });
    }

    /// Tells of jobs that came due, and stops gathering where nobody came back.
    pub(crate) fn tend(&self, now: Timestamp) {
        if !self.is_followed() {
            return;
        }
        let mut ring = self.ring();
        if ring.until.is_some_and(|until| until <= now) {
            ring.until = None;
            ring.clear();
            self.is_followed.store(false, Ordering::Release);
            return;
        }
        ring.come_due(now);
        drop(ring);
        self.wake();
    }

    // Nothing in here panics while it holds the lock, so a poisoned one is still good.
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells whether a hand-back, which is the latest change of a job, cost no attempt.
fn was_free(hand_back: HandBack, job: &Job) -> bool {
    let is_free = match hand_back {
        HandBack::Drain => true,
        HandBack::Busy => job.status.hand_backs <= HAND_BACKS_FREE,
    };
    is_free && job.status.state == State::Waiting
}

impl Ring {
    fn push(&mut self, job: &Arc<Spec>, version: u64, happened: Happened) {
        let id = job.id;
        // Answers of two commits may overtake each other on their way here.
        if self
            .versions
            .get(&id)
            .is_some_and(|(told, _)| *told > version)
        {
            return;
        }
        self.latest += 1;
        self.versions.insert(id, (version, self.latest));
        self.bytes += bytes(&happened);
        self.events.push_back(Arc::new(FeedEvent {
            id: FeedId {
                epoch: self.epoch,
                number: self.latest,
            },
            job: job.clone(),
            happened,
        }));
        while self.events.len() > FEED_EVENTS_MAX || self.bytes > FEED_BYTES_MAX {
            let Some(oldest) = self.events.pop_front() else {
                break;
            };
            self.bytes -= bytes(&oldest.happened);
            let number = oldest.id.number;
            if self.versions.get(&oldest.job.id).map(|(_, told)| *told) == Some(number) {
                self.versions.remove(&oldest.job.id);
            }
        }
    }

    /// Remembers when a scheduled job comes due.
    fn wait_for(&mut self, job: &Job) {
        let scheduled = Scheduled {
            job: job.spec.clone(),
            version: job.status.version,
            attempt: job.status.attempt,
        };
        self.scheduled
            .insert((job.status.run_at, job.spec.id), scheduled);
        if self.scheduled.len() > FEED_EVENTS_MAX {
            self.scheduled.pop_last();
        }
    }

    /// Tells of those that came due and of which nothing else was told since.
    fn come_due(&mut self, now: Timestamp) {
        while let Some(first) = self.scheduled.first_entry()
            && first.key().0 <= now
        {
            let ((_, id), scheduled) = first.remove_entry();
            let Scheduled {
                job,
                version,
                attempt,
            } = scheduled;
            if self.versions.get(&id).map(|(told, _)| *told) == Some(version) {
                let state = ShownState::Ready;
                self.push(&job, version, Happened::Entered { state, attempt });
            }
        }
    }

    fn clear(&mut self) {
        self.scheduled = BTreeMap::new();
        self.events = VecDeque::new();
        self.versions = HashMap::new();
        self.bytes = 0;
    }
}

fn bytes(happened: &Happened) -> usize {
    match happened {
        Happened::Entered { .. } => 0,
        Happened::Reported { report, .. } => report.bytes(),
    }
}

/// Follows the feed. Dropping it ends that.
#[derive(Debug)]
pub struct FollowAll {
    shared: Arc<Shared>,
    latest: watch::Receiver<u64>,
    /// The last that was told.
    last: FeedId,
    /// Whether it is still to be told that something is missing which nobody counted.
    has_lost: bool,
}

impl Engine {
    /// Follows what happens to all jobs, from now on, or from after an event on.
    pub fn follow_all(&self, after: Option<FeedId>) -> FollowAll {
        let feed = &self.shared.feed;
        let mut ring = feed.ring();
        if !feed.is_followed() {
            ring.clear();
            let now = self.shared.clock.now().as_millis().unsigned_abs();
            ring.epoch = now.max(ring.epoch + 1);
            ring.latest = 0;
            feed.latest.send_replace(0);
            feed.is_followed.store(true, Ordering::Release);
        }
        ring.until = None;
        ring.followers += 1;
        let now = FeedId {
            epoch: ring.epoch,
            number: ring.latest,
        };
        drop(ring);
        let is_known = |id: &FeedId| id.epoch == now.epoch && id.number <= now.number;
        FollowAll {
            shared: self.shared.clone(),
            latest: feed.latest.subscribe(),
            last: after.filter(is_known).unwrap_or(now),
            has_lost: after.is_some_and(|id| !is_known(&id)),
        }
    }
}

impl FollowAll {
    /// Waits for the next to be told. None: the engine has stopped.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is told to a call that was dropped.
    pub async fn next(&mut self) -> Option<FeedTold> {
        loop {
            // Marked as seen before looking, so that what comes after the look ends the wait.
            self.latest.borrow_and_update();
            if let Some(told) = self.ready() {
                return Some(told);
            }
            tokio::select! {
                changed = self.latest.changed() => changed.ok()?,
                () = self.shared.phases.stopped() => return None,
            }
        }
    }

    /// Returns what is there to be told already.
    pub fn ready(&mut self) -> Option<FeedTold> {
        if std::mem::take(&mut self.has_lost) {
            let (id, count) = (self.last, None);
            return Some(FeedTold::Missing { id, count });
        }
        let ring = self.shared.feed.ring();
        let at = ring
            .events
            .partition_point(|event| event.id.number <= self.last.number);
        let event = ring.events.get(at)?.clone();
        drop(ring);
        let count = event.id.number - self.last.number - 1;
        if count > 0 {
            self.last.number += count;
            let (id, count) = (self.last, Some(count));
            return Some(FeedTold::Missing { id, count });
        }
        self.last = event.id;
        Some(FeedTold::Event(event))
    }
}

impl Drop for FollowAll {
    fn drop(&mut self) {
        let mut ring = self.shared.feed.ring();
        ring.followers -= 1;
        if ring.followers == 0 {
            ring.until = Some(self.shared.clock.now().after(LINGER));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::{LogStream, Name, PayloadInfo, Priority, Status};
    use std::collections::BTreeMap;

    fn job(version: u64) -> Job {
        let spec = Spec {
            id: JobId::from_bytes([7; 16]),
            task: Name::new("t").unwrap(),
            queue: Name::new("q").unwrap(),
            group: None,
            priority: Priority::default(),
            created_at: Timestamp::MIN,
            timeout: Duration::ZERO,
            retain: Duration::ZERO,
            unique_key: None,
            callback_url: None,
            tags: BTreeMap::new(),
            input: PayloadInfo {
                content_type: "text/plain".into(),
                bytes: 0,
            },
        };
        Job {
            spec: Arc::new(spec),
            status: Status {
                version,
                ..Status::submitted(Timestamp::MIN, None, 5)
            },
            errors: Vec::new(),
            result: None,
            progress: None,
        }
    }

    fn said(text: String) -> Happened {
        Happened::Reported {
            attempt: 1,
            report: Report::log(LogStream::Log, text),
        }
    }

    #[test]
    fn an_id_reads_back_and_nothing_else_does() {
        let id = FeedId {
            epoch: 1_800_000_000_000,
            number: 7,
        };
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "7", "1.", ".7", "1.07", "+1.7", "1.7.7", "a.b"] {
            assert_eq!(text.parse::<FeedId>(), Err(MalformedEventId), "{text:?}");
        }
    }

    #[test]
    fn what_is_overtaken_is_not_told() {
        let mut ring = Ring::default();
        for version in [2, 1, 2, 3] {
            ring.push(&job(version).spec, version, said(version.to_string()));
        }
        let told: Vec<_> = ring.events.iter().map(|event| &event.happened).collect();
        let expected = [2, 2, 3].map(|version: u64| said(version.to_string()));
        assert_eq!(told, expected.iter().collect::<Vec<_>>());
    }

    #[test]
    fn a_ring_is_bounded_by_its_bytes_too() {
        let mut ring = Ring::default();
        for version in 0..1_000 {
            ring.push(&job(version).spec, version, said("x".repeat(8_000)));
        }
        assert!(ring.bytes <= FEED_BYTES_MAX);
        assert_eq!(ring.bytes, ring.events.len() * 8_000);
        assert_eq!(ring.versions.len(), 1);
        for _ in 0..FEED_EVENTS_MAX + 1_000 {
            ring.push(&job(1_000).spec, 1_000, said(String::new()));
        }
        assert_eq!((ring.bytes, ring.events.len()), (0, FEED_EVENTS_MAX));
    }

    #[test]
    fn a_handed_back_attempt_spoke_under_its_own_number() {
        let feed = Feed::default();
        feed.is_followed.store(true, Ordering::Release);
        let held = anteroom_core::ClaimNumber::new(1);
        for (hand_back, hand_backs, number) in [
            (HandBack::Drain, 200, 4),
            (HandBack::Busy, HAND_BACKS_FREE, 4),
            (HandBack::Busy, HAND_BACKS_FREE + 1, 3),
        ] {
            let mut change = Change::new(
                job(1).spec.id,
                Event::Released {
                    claim: held,
                    hand_back,
                    delay: Duration::ZERO,
                },
            );
            change.reports.list = vec![Report::log(LogStream::Log, "bye")];
            let mut after = job(9);
            after.status.attempt = 3;
            after.status.hand_backs = hand_backs;
            let heard = feed.hear(&[change]).unwrap();
            feed.tell_changes(heard, &[Ok(after)], Timestamp::MIN);
            let mut ring = feed.ring();
            let told = ring.events.pop_front().unwrap();
            ring.clear();
            let is_right =
                matches!(told.happened, Happened::Reported { attempt, .. } if attempt == number);
            assert!(is_right, "{hand_back:?} {hand_backs}: {told:?}");
        }
    }
}
