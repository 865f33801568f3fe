//! The maps of the memory store, and each operation on them as one step.
//!
//! A job lies in `entries`; everything else is an index that [`Jobs::index`] and [`Jobs::unindex`]
//! derive from where it stands, so that no operation keeps one up by itself.

use super::super::{
    Applied, Change, Claimed, Counts, Cursor, Deleted, Filter, Found, Listing, NewJob, Overdue,
    OverdueReason, Page, PlaceOf, QueueChange, QueueSet, Refused, StoreError, Want,
};
use super::documents::Documents;
use super::keys::{Submits, UniqueKey};
use super::queues::Queues;
use super::told::Told;
use crate::callback::{another_id, callback_of};
use anteroom_core::limits::{GONE_JOBS_MAX, GONE_KEPT, PAGE_LOOKED_AT_MAX};
use anteroom_core::order::{Asked, LaneId, Waiting};
use anteroom_core::{
    ClaimNumber, Event, Fingerprint, Job, JobId, Name, Order, Pace, Payload, Place, QueueDefaults,
    ShownState, State, Timestamp, transition,
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
    pub(super) settled: Option<(ClaimNumber, Fingerprint)>,
    /// Its place in the order of submission.
    pub(super) key: i64,
}

/// When something is to happen to a job, and which.
type Timer = (Timestamp, i64, JobId);

#[derive(Debug)]
pub(super) struct Jobs {
    pub(super) entries: HashMap<JobId, Entry>,
    /// All jobs in the order of submission.
    by_key: BTreeMap<i64, JobId>,
    /// The waiting jobs, and how many run.
    pub(super) order: Order,
    /// How far the rates of queues have come.
    pub(super) paces: BTreeMap<Name, Pace>,
    /// Since when a lease has run out, or a deadline has passed.
    running_out: BTreeSet<Timer>,
    /// Since when a finished job may be forgotten.
    expiring: BTreeSet<Timer>,
    /// Which unfinished job has a unique key.
    pub(super) unique: HashMap<UniqueKey, JobId>,
    pub(super) submits: Submits,
    pub(super) gone: Gone,
    pub(super) last_claim: ClaimNumber,
    pub(super) queues: Queues,
    pub(super) documents: Documents,
    /// The mark of an import that is under way.
    pub(super) importing: Option<String>,
}

impl Jobs {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            entries: HashMap::new(),
            by_key: BTreeMap::new(),
            order: Order::new(now),
            paces: BTreeMap::new(),
            running_out: BTreeSet::new(),
            expiring: BTreeSet::new(),
            unique: HashMap::new(),
            submits: Submits::default(),
            gone: Gone::default(),
            last_claim: ClaimNumber::first_of_opening(1),
            queues: Queues::default(),
            documents: Documents::default(),
            importing: None,
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
            spec,
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
        self.enter_entry(entry);
    }

    /// Takes in a job that is not there, at a key that is free.
    pub(super) fn enter_entry(&mut self, entry: Entry) {
        let id = entry.job.spec.id;
        self.by_key.insert(entry.key, id);
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
            let waiting = self.order.waiting(queue);
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

    pub(super) fn free_key(&self, wanted: i64) -> i64 {
        let mut key = wanted;
        while self.by_key.contains_key(&key) {
            key += 1;
        }
        key
    }

    /// Claims what may start, in its order.
    pub(super) fn claim(&mut self, want: &Want, now: Timestamp) -> Vec<Claimed> {
        self.set_now(now);
        let sources = self.order.sources(&want.tasks, want.queues.as_deref());
        let mut claimed = Vec::new();
        while claimed.len() < want.limit
            && let Some((key, lane)) = self.order.next(&sources)
            && let Some(job) = self.claim_job(key, lane, want, now)
        {
            claimed.push(job);
        }
        self.paces.extend(self.order.take_paces());
        self.order.tidy();
        claimed
    }

    /// Claims these jobs, in this order, if each may start; or says why one may not, or which other
    /// one should have been claimed as well.
    #[cfg(feature = "contract")]
    pub(super) fn claim_these(
        &mut self,
        ids: &[JobId],
        want: &Want,
        now: Timestamp,
    ) -> Result<Vec<Claimed>, String> {
        self.set_now(now);
        let mut claimed = Vec::new();
        for id in ids {
            let Some(entry) = self.entries.get(id) else {
                return Err(format!("there is no job {id}"));
            };
            let spec = &entry.job.spec;
            let is_wanted = want.tasks.contains(&spec.task)
                && (want.queues.as_ref()).is_none_or(|queues| queues.contains(&spec.queue));
            let waiting = entry.waiting(&mut self.order);
            let place = self.order.place_of(waiting);
            let rule = place.rule;
            let is_full = |most: Option<u64>, running| most.is_some_and(|most| running >= most);
            let is_held = rule.paused
                || is_full(rule.max_concurrency, place.running)
                || (spec.group.is_some() && is_full(rule.group_concurrency, place.group_running))
                || place.next_start_at.is_some();
            if !is_wanted || is_held || place.position.is_none() {
                return Err(format!("job {id} may not start: {place:?}"));
            }
            let job = self.claim_job(waiting.seq, waiting.lane, want, now);
            claimed.push(job.ok_or_else(|| format!("job {id} is not due"))?);
        }
        self.paces.extend(self.order.take_paces());
        let sources = self.order.sources(&want.tasks, want.queues.as_deref());
        let other = self.order.next(&sources).filter(|_| ids.len() < want.limit);
        self.order.tidy();
        match other {
            Some((key, _)) => Err(format!("job {:?} may start as well", self.by_key.get(&key))),
            None => Ok(claimed),
        }
    }

    fn claim_job(
        &mut self,
        key: i64,
        lane: LaneId,
        want: &Want,
        now: Timestamp,
    ) -> Option<Claimed> {
        let id = *self.by_key.get(&key)?;
        let mut entry = self.entries.remove(&id)?;
        let waiting = Waiting::new(key, lane, &entry.job.status);
        let claim = self.last_claim.next();
        let event = Event::Claimed {
            claim,
            lease: want.lease,
            lease_expires_at: want.held_until(&entry.job.spec, now),
        };
        self.unset(&entry);
        let applied = entry.apply(Change::new(id, event), None, now);
        self.set(&entry);
        let input = entry.input.clone();
        self.entries.insert(id, entry);
        // Refused only if it is not due after all: then it is not claimed.
        let job = applied.ok()?;
        self.order.start(waiting);
        self.last_claim = claim;
        Some(Claimed { job, input })
    }

    /// Returns when there is more to claim by the passage of time alone.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.order.next_due()
    }

    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.order.set_now(now, usize::MAX);
    }

    // --- what holds for queues ---

    pub(super) fn set_queue(&mut self, change: QueueChange) -> QueueSet {
        let set = self.queues.set(change);
        if let QueueSet::Done(kept) = &set {
            self.order.set_queue(&kept.name, Some(kept.settings));
        }
        set
    }

    pub(super) fn configure_queues(&mut self, defaults: QueueDefaults) {
        self.queues.defaults = defaults.clone();
        self.order.configure(defaults);
    }

    /// Begins the turns of groups, priorities and queues anew, as in a process that opens a store.
    #[cfg(feature = "contract")]
    pub(super) fn forget_turns(&mut self, now: Timestamp) {
        let mut order = Order::new(now);
        order.configure(self.queues.defaults.clone());
        for kept in self.queues.all() {
            order.set_queue(&kept.name, Some(kept.settings));
        }
        let entries = || self.by_key.values().map(|id| &self.entries[id]);
        for entry in entries().filter(|entry| entry.job.status.state == State::Waiting) {
            let waiting = entry.waiting(&mut order);
            order.place(waiting);
        }
        for entry in entries().filter(|entry| entry.job.status.state == State::Running) {
            let lane = entry.lane(&mut order);
            order.begin(lane);
        }
        for (queue, pace) in &self.paces {
            order.set_pace(queue, *pace);
        }
        self.order = order;
    }

    pub(super) fn apply(&mut self, change: Change, now: Timestamp) -> Applied {
        let Some(mut entry) = self.entries.remove(&change.id) else {
            return Err(if self.gone.contains(change.id) {
                Refused::Gone
            } else {
                Refused::Unknown
            });
        };
        let was = entry.held(&mut self.order);
        self.unset(&entry);
        // Its own it holds no more: it was taken out.
        let key = entry.unique_key();
        let holder = key.and_then(|key| self.unique.get(&key).copied());
        let before = entry.job.status;
        let applied = entry.apply(change, holder, now);
        let callback = callback_of(&entry.job.spec, &before, &entry.job.status);
        let is = entry.held(&mut self.order);
        // One that stays where it is keeps its turn.
        if is != was {
            self.leave(was);
            self.enter(is);
        }
        self.set(&entry);
        self.entries.insert(entry.job.spec.id, entry);
        self.order.tidy();
        if let Some(callback) = callback {
            self.store_callback(callback);
        }
        applied
    }

    fn store_callback(&mut self, mut callback: NewJob) {
        while self.entries.contains_key(&callback.spec.id) {
            callback.spec_mut().id = another_id(callback.spec.id);
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
        let before = page.after.map_or(i64::MAX, Cursor::key);
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
        listing.next = older.next().map(|_| Cursor::from_key(last));
        listing
    }

    /// Returns where a waiting job stands.
    pub(super) fn place(&mut self, of: &PlaceOf) -> Option<Place> {
        match of {
            PlaceOf::Job(id) => {
                let entry = self.entries.get(id)?;
                if entry.job.status.state != State::Waiting {
                    return None;
                }
                let waiting = entry.waiting(&mut self.order);
                Some(self.order.place_of(waiting))
            }
            PlaceOf::New {
                task,
                queue,
                group,
                priority,
            } => Some(self.order.place_of_new(Asked {
                task,
                queue,
                group: group.as_ref(),
                priority: *priority,
            })),
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

    fn index(&mut self, entry: &Entry) {
        let held = entry.held(&mut self.order);
        self.enter(held);
        self.set(entry);
    }

    fn unindex(&mut self, entry: &Entry) {
        let held = entry.held(&mut self.order);
        self.leave(held);
        self.unset(entry);
    }

    fn enter(&mut self, held: Held) {
        match held {
            Held::Waiting(job) => self.order.place(job),
            Held::Running(lane) => self.order.begin(lane),
            Held::Nowhere => {}
        }
    }

    fn leave(&mut self, held: Held) {
        match held {
            Held::Waiting(job) => self.order.displace(job),
            Held::Running(lane) => self.order.end(lane),
            Held::Nowhere => {}
        }
    }

    /// Sets its timers, and that it holds its unique key.
    fn set(&mut self, entry: &Entry) {
        self.running_out.extend(entry.runs_out());
        self.expiring.extend(entry.expires());
        let id = entry.job.spec.id;
        self.unique.extend(entry.held_key().map(|key| (key, id)));
    }

    fn unset(&mut self, entry: &Entry) {
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

/// How a job lies in the order.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Held {
    Waiting(Waiting),
    Running(LaneId),
    Nowhere,
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
    /// Returns where jobs like it wait.
    fn lane(&self, order: &mut Order) -> LaneId {
        let spec = &self.job.spec;
        order.lane(&spec.task, &spec.queue, spec.group.as_ref(), spec.priority)
    }

    /// Returns how it lies in the order.
    fn held(&self, order: &mut Order) -> Held {
        match self.job.status.state {
            State::Waiting => Held::Waiting(self.waiting(order)),
            State::Running => Held::Running(self.lane(order)),
            State::Succeeded | State::Failed | State::Cancelled => Held::Nowhere,
        }
    }

    /// Returns it as it waits.
    fn waiting(&self, order: &mut Order) -> Waiting {
        let lane = self.lane(order);
        Waiting::new(self.key, lane, &self.job.status)
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
pub(super) struct Gone {
    /// Since when, and which: the longest first.
    pub(super) since: VecDeque<(Timestamp, JobId)>,
    ids: HashSet<JobId>,
}

impl Gone {
    fn contains(&self, id: JobId) -> bool {
        self.ids.contains(&id)
    }

    pub(super) fn remember(&mut self, id: JobId, since: Timestamp) {
        self.ids.insert(id);
        let place = self.since.partition_point(|(before, _)| *before <= since);
        self.since.insert(place, (since, id));
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
