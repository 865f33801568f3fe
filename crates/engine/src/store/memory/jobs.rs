//! The maps of the memory store, and each operation on them as one step.
//!
//! A job lies in `entries`; everything else is an index that [`Jobs::index`] and [`Jobs::unindex`]
//! derive from where it stands, so that no operation keeps one up by itself.

use super::super::{
    Applied, Change, Claimed, Counts, Cursor, Deleted, Filter, Found, Listing, NewJob, Overdue,
    OverdueReason, Page, PlaceOf, Refused, StoreError, Want,
};
use super::documents::Documents;
use super::keys::{Submits, UniqueKey};
use super::queues::Queues;
use super::told::Told;
use crate::callback::{another_id, callback_of};
use anteroom_core::limits::{
    GONE_JOBS_MAX, GONE_KEPT, PAGE_LOOKED_AT_MAX, POSITION_EXACT_MAX, PRIORITY_MAX,
};
use anteroom_core::{
    ClaimNumber, Event, Fingerprint, Job, JobId, Label, Name, Payload, Place, Position, ShownState,
    Spec, State, Timestamp, transition,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A job with its payloads.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) job: Job,
    pub(super) input: Payload,
    pub(super) result: Option<Payload>,
    /// What happened to it.
    pub(super) told: Told,
    /// The claim whose holder ended its attempt, and what it said.
    settled: Option<(ClaimNumber, Fingerprint)>,
    /// Its place in the order of submission.
    key: i64,
}

/// A waiting job's turn: by priority, then by `run_at`, then in the order of submission.
type Turn = (u8, Timestamp, i64);

/// When something is to happen to a job, and which.
type Timer = (Timestamp, i64, JobId);

#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) entries: HashMap<JobId, Entry>,
    /// All jobs in the order of submission.
    by_key: BTreeMap<i64, JobId>,
    /// Waiting jobs, due or not.
    waiting: BTreeMap<Turn, JobId>,
    /// Since when a lease has run out, or a deadline has passed.
    running_out: BTreeSet<Timer>,
    /// Since when a finished job may be forgotten.
    expiring: BTreeSet<Timer>,
    /// Which unfinished job has a unique key.
    pub(super) unique: HashMap<UniqueKey, JobId>,
    pub(super) submits: Submits,
    gone: Gone,
    last_claim: ClaimNumber,
    pub(super) queues: Queues,
    pub(super) documents: Documents,
}

impl Jobs {
    pub(super) fn new() -> Self {
        Self {
            entries: HashMap::new(),
            by_key: BTreeMap::new(),
            waiting: BTreeMap::new(),
            running_out: BTreeSet::new(),
            expiring: BTreeSet::new(),
            unique: HashMap::new(),
            submits: Submits::default(),
            gone: Gone::default(),
            last_claim: ClaimNumber::first_of_opening(1),
            queues: Queues::default(),
            documents: Documents::default(),
        }
    }

    /// Stores a new job.
    pub(super) fn store(&mut self, job: NewJob) {
        let NewJob {
            spec,
            status,
            input,
            idempotency: _,
        } = job;
        let id = spec.id;
        let key = self.free_key(id.order_key());
        let job = Job {
            spec: Arc::new(spec),
            status,
            errors: Vec::new(),
            result: None,
            progress: None,
        };
        let entry = Entry {
            told: Told::of_submitted(&job),
            job,
            input,
            result: None,
            settled: None,
            key,
        };
        self.by_key.insert(key, id);
        self.index(&entry);
        self.entries.insert(id, entry);
    }

    /// Refuses jobs if more would wait in a queue than may.
    pub(super) fn check_depths<'j>(
        &self,
        jobs: impl Iterator<Item = &'j NewJob>,
    ) -> Result<(), StoreError> {
        let mut more: BTreeMap<&Name, u64> = BTreeMap::new();
        for job in jobs {
            *more.entry(&job.spec.queue).or_default() += 1;
        }
        for (queue, more) in more {
            let Some(limit) = self.queues.rule(queue).max_depth else {
                continue;
            };
            let in_queue = |id: &&JobId| self.entries[*id].job.spec.queue == *queue;
            let waiting = self.waiting.values().filter(in_queue).count() as u64;
            if waiting + more > limit {
                let queue = queue.clone();
                return Err(StoreError::QueueFull {
                    queue,
                    waiting,
                    limit,
                });
            }
        }
        Ok(())
    }

    fn free_key(&self, wanted: i64) -> i64 {
        let mut key = wanted;
        while self.by_key.contains_key(&key) {
            key += 1;
        }
        key
    }

    /// Claims what is due, in the order of turns.
    pub(super) fn claim(&mut self, want: &Want, now: Timestamp) -> Vec<Claimed> {
        let mut claimed = Vec::new();
        let due: Vec<JobId> = (0..=PRIORITY_MAX)
            .flat_map(|priority| {
                let from = (priority, Timestamp::MIN, i64::MIN);
                self.waiting.range(from..=(priority, now, i64::MAX))
            })
            .map(|(_, id)| *id)
            .filter(|id| self.entries[id].is_wanted(want) && !self.entries[id].is_too_late(now))
            .filter(|id| !self.queues.rule(&self.entries[id].job.spec.queue).paused)
            .take(want.limit)
            .collect();
        for id in due {
            let claim = self.last_claim.next();
            let event = Event::Claimed {
                claim,
                lease: want.lease,
                lease_expires_at: want.held_until(&self.entries[&id].job.spec, now),
            };
            // Refused only if it is not due after all: then it is not claimed.
            if let Ok(job) = self.apply(Change::new(id, event), now) {
                self.last_claim = claim;
                let input = self.entries[&id].input.clone();
                claimed.push(Claimed { job, input });
            }
        }
        claimed
    }

    /// Returns when the next job comes due after `now`.
    pub(super) fn due_after(&self, now: Timestamp) -> Option<Timestamp> {
        let later = now.after(Duration::from_millis(1));
        (0..=PRIORITY_MAX)
            .filter_map(|priority| {
                let from = (priority, later, i64::MIN);
                let next = self.waiting.range(from..).next();
                next.filter(|((of, _, _), _)| *of == priority)
                    .map(|((_, run_at, _), _)| *run_at)
            })
            .min()
    }

    pub(super) fn apply(&mut self, change: Change, now: Timestamp) -> Applied {
        let mut entry = match self.take(change.id) {
            Found::Here(entry) => entry,
            Found::Gone => return Err(Refused::Gone),
            Found::Unknown => return Err(Refused::Unknown),
        };
        // Its own it holds no more: it was taken out.
        let key = entry.unique_key();
        let holder = key.and_then(|key| self.unique.get(&key).copied());
        let before = entry.job.status;
        let applied = entry.apply(change, holder, now);
        let callback = callback_of(&entry.job.spec, &before, &entry.job.status);
        self.put_back(entry);
        if let Some(callback) = callback {
            self.store_callback(callback);
        }
        applied
    }

    fn store_callback(&mut self, mut callback: NewJob) {
        while self.entries.contains_key(&callback.spec.id) {
            callback.spec.id = another_id(callback.spec.id);
        }
        self.store(callback);
    }

    pub(super) fn overdue(&self, limit: usize, now: Timestamp) -> Vec<Overdue> {
        let ran_out = self.running_out.range(..=(now, i64::MAX, LAST_ID));
        ran_out
            .take(limit)
            .map(|(_, _, id)| {
                let Job { spec, status, .. } = &self.entries[id].job;
                Overdue {
                    id: *id,
                    task: spec.task.clone(),
                    attempt: status.attempt,
                    reason: match status.state {
                        State::Running => OverdueReason::of_lease(spec, status),
                        State::Waiting | State::Succeeded | State::Failed | State::Cancelled => {
                            OverdueReason::Deadline
                        }
                    },
                }
            })
            .collect()
    }

    pub(super) fn prune(&mut self, limit: usize, now: Timestamp) -> usize {
        let expired = self.expiring.range(..=(now, i64::MAX, LAST_ID));
        let ids: Vec<JobId> = expired.take(limit).map(|(_, _, id)| *id).collect();
        for id in &ids {
            self.forget(*id, now);
        }
        self.gone.forget_until(now.before(GONE_KEPT));
        self.submits.forget_old(now);
        ids.len()
    }

    pub(super) fn delete(&mut self, id: JobId, if_version: Option<u64>, now: Timestamp) -> Deleted {
        let job = match self.find(id) {
            Found::Here(entry) => &entry.job,
            Found::Gone => return Deleted::Gone,
            Found::Unknown => return Deleted::Unknown,
        };
        if if_version.is_some_and(|version| version != job.status.version) {
            return Deleted::VersionDiffers(Box::new(job.clone()));
        }
        if !job.status.state.is_final() {
            return Deleted::NotFinal(Box::new(job.clone()));
        }
        self.forget(id, now);
        Deleted::Done
    }

    pub(super) fn find(&self, id: JobId) -> Found<&Entry> {
        match self.entries.get(&id) {
            Some(entry) => Found::Here(entry),
            None if self.gone.contains(id) => Found::Gone,
            None => Found::Unknown,
        }
    }

    pub(super) fn list(&self, filter: &Filter, page: Page, now: Timestamp) -> Listing {
        let before = page.after.map_or(i64::MAX, |Cursor(key)| key);
        let mut older = self.by_key.range(..before).rev();
        let mut listing = Listing::default();
        let mut last = before;
        for (key, id) in older.by_ref().take(PAGE_LOOKED_AT_MAX) {
            last = *key;
            let job = &self.entries[id].job;
            if filter.matches(&job.spec, &job.status, now) {
                listing.jobs.push(listed(job));
            }
            if listing.jobs.len() >= page.size {
                break;
            }
        }
        listing.next = older.next().map(|_| Cursor(last));
        listing
    }

    /// Returns where a waiting job stands.
    pub(super) fn place(&self, of: &PlaceOf, now: Timestamp) -> Option<Place> {
        match of {
            PlaceOf::Job(id) => {
                let entry = self.entries.get(id)?;
                let turn = entry.turn()?;
                let Spec { queue, group, .. } = &*entry.job.spec;
                Some(self.place_at(queue, group.as_ref(), turn, now))
            }
            PlaceOf::New {
                queue,
                group,
                priority,
            } => {
                let turn = (priority.get(), now, i64::MAX);
                Some(self.place_at(queue, group.as_ref(), turn, now))
            }
        }
    }

    fn place_at(&self, queue: &Name, group: Option<&Label>, turn: Turn, now: Timestamp) -> Place {
        let entries = self.entries.values();
        let in_queue = entries.filter(|entry| entry.job.spec.queue == *queue);
        let (mut ready, mut ahead, mut running, mut group_running) = (0, 0, 0, 0);
        for entry in in_queue {
            match entry.job.status.shown(now) {
                ShownState::Ready => {
                    ready += 1;
                    ahead += u64::from(entry.turn().is_some_and(|other| other < turn));
                }
                ShownState::Running => {
                    running += 1;
                    let other = entry.job.spec.group.as_ref();
                    group_running += u64::from(other.is_some() && other == group);
                }
                _ => {}
            }
        }
        let is_ready = turn.1 <= now;
        Place {
            position: is_ready.then_some(Position {
                ahead,
                is_exact: ahead <= POSITION_EXACT_MAX,
            }),
            starts_before: ahead,
            rule: self.queues.rule(queue),
            ready,
            running,
            group_running,
            next_start_at: None,
        }
    }

    pub(super) fn counts(&self, now: Timestamp) -> Vec<Counts> {
        let mut counts = BTreeMap::new();
        for Entry { job, .. } in self.entries.values() {
            let shown = job.status.shown(now);
            if shown.stored().is_final() {
                continue;
            }
            let (task, queue) = (&job.spec.task, &job.spec.queue);
            let of = counts.entry((task, queue)).or_insert_with(|| Counts {
                task: task.clone(),
                queue: queue.clone(),
                scheduled: 0,
                ready: 0,
                running: 0,
                oldest_ready: None,
            });
            match shown {
                ShownState::Scheduled => of.scheduled += 1,
                ShownState::Ready => {
                    let run_at = job.status.run_at;
                    let oldest = of.oldest_ready.unwrap_or(run_at);
                    of.oldest_ready = Some(oldest.min(run_at));
                    of.ready += 1;
                }
                ShownState::Running => of.running += 1,
                ShownState::Succeeded | ShownState::Failed | ShownState::Cancelled => {}
            }
        }
        counts.into_values().collect()
    }

    fn forget(&mut self, id: JobId, now: Timestamp) {
        if let Found::Here(entry) = self.take(id) {
            self.by_key.remove(&entry.key);
            self.gone.remember(id, now);
        }
    }

    /// Takes a job out of the maps, its place in the order of submission apart.
    fn take(&mut self, id: JobId) -> Found<Entry> {
        match self.entries.remove(&id) {
            Some(entry) => {
                self.unindex(&entry);
                Found::Here(entry)
            }
            None if self.gone.contains(id) => Found::Gone,
            None => Found::Unknown,
        }
    }

    fn put_back(&mut self, entry: Entry) {
        self.index(&entry);
        self.entries.insert(entry.job.spec.id, entry);
    }

    fn index(&mut self, entry: &Entry) {
        let id = entry.job.spec.id;
        self.waiting.extend(entry.turn().map(|turn| (turn, id)));
        self.running_out.extend(entry.runs_out());
        self.expiring.extend(entry.expires());
        self.unique.extend(entry.held_key().map(|key| (key, id)));
    }

    fn unindex(&mut self, entry: &Entry) {
        if let Some(turn) = entry.turn() {
            self.waiting.remove(&turn);
        }
        if let Some(timer) = entry.runs_out() {
            self.running_out.remove(&timer);
        }
        if let Some(timer) = entry.expires() {
            self.expiring.remove(&timer);
        }
        if let Some(key) = entry.held_key() {
            self.unique.remove(&key);
        }
    }
}

/// Returns a job as it is in a list: with the last error of one that failed, and no other.
fn listed(job: &Job) -> Job {
    let failed = job.status.state == State::Failed;
    let last = job.errors.last().filter(|_| failed);
    Job {
        errors: last.cloned().into_iter().collect(),
        ..job.clone()
    }
}

/// The greatest id there can be: the end of a range of timers.
const LAST_ID: JobId = JobId::from_bytes([0xff; 16]);

impl Entry {
    fn is_wanted(&self, want: &Want) -> bool {
        let spec = &self.job.spec;
        let in_queue = |queues: &Vec<_>| queues.contains(&spec.queue);
        want.tasks.contains(&spec.task) && want.queues.as_ref().is_none_or(in_queue)
    }

    fn is_too_late(&self, now: Timestamp) -> bool {
        self.job.status.is_too_late(now)
    }

    /// Makes of the job what the lifecycle says, or leaves it as it is. `holder` is another
    /// unfinished job that has its unique key.
    fn apply(&mut self, change: Change, holder: Option<JobId>, now: Timestamp) -> Applied {
        let job = &mut self.job;
        if change
            .if_version
            .is_some_and(|version| version != job.status.version)
        {
            return Err(Refused::VersionDiffers(Box::new(job.clone())));
        }
        let next = match transition(&job.status, &change.event, now) {
            Ok(next) => next,
            Err(_) if change.repeats(&job.status, self.settled) => {
                return Err(Refused::Repeated(Box::new(job.clone())));
            }
            Err(rejected) => return Err(Refused::Rejected(rejected, Box::new(job.clone()))),
        };
        if let Some(holder) = holder
            && !next.status.state.is_final()
        {
            return Err(Refused::UniqueKeyTaken { holder });
        }
        self.settled = change.settled().or(self.settled);
        self.told.change(job, &next.status, change.reports, now);
        job.status = next.status;
        if let Event::Amended { amendment } = &change.event {
            amendment.amend(Arc::make_mut(&mut job.spec));
        }
        if let Some(error) = next.error {
            job.push_error(error);
        }
        if matches!(change.event, Event::Succeeded { .. }) {
            job.result = change.result.as_ref().map(Payload::info);
            self.result = change.result;
        }
        Ok(job.clone())
    }

    fn turn(&self) -> Option<Turn> {
        let Job { spec, status, .. } = &self.job;
        let is_waiting = status.state == State::Waiting;
        is_waiting.then(|| (spec.priority.get(), status.run_at, self.key))
    }

    fn runs_out(&self) -> Option<Timer> {
        let Job { spec, status, .. } = &self.job;
        let at = match status.state {
            State::Running => Some(status.lease_expires_at),
            // It is still in time at the very instant.
            State::Waiting if status.started_at.is_none() => status
                .start_before
                .map(|deadline| deadline.after(Duration::from_millis(1))),
            State::Waiting | State::Succeeded | State::Failed | State::Cancelled => None,
        };
        at.map(|at| (at, self.key, spec.id))
    }

    fn expires(&self) -> Option<Timer> {
        let expires_at = self.job.expires_at();
        expires_at.map(|at| (at, self.key, self.job.spec.id))
    }
}

/// The ids of jobs that are no more, since when, oldest first.
#[derive(Debug, Default)]
struct Gone {
    since: VecDeque<(Timestamp, JobId)>,
    ids: HashSet<JobId>,
}

impl Gone {
    fn contains(&self, id: JobId) -> bool {
        self.ids.contains(&id)
    }

    fn remember(&mut self, id: JobId, now: Timestamp) {
        self.ids.insert(id);
        self.since.push_back((now, id));
        if self.since.len() > GONE_JOBS_MAX {
            self.forget_oldest();
        }
    }

    fn forget_until(&mut self, instant: Timestamp) {
        while self
            .since
            .front()
            .is_some_and(|(since, _)| *since <= instant)
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id)) = self.since.pop_front() {
            self.ids.remove(&id);
        }
    }
}
