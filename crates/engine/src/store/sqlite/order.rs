//! What the writer keeps in memory: the order of the waiting jobs, and where the running ones
//! stand.
//!
//! Who is next is for [`anteroom_core::Order`] to say. Here it follows the transaction: whatever
//! changes is noted, and [`Order::undo`] puts all of it back when the transaction fails. Only
//! [`Order::set_now`], which the passage of time asks for, is no part of a transaction.

use super::events::Told;
use crate::store::{KeptQueue, StoreError};
use anteroom_core::order::{Asked, LaneId, Sources, Tally, Waiting};
use anteroom_core::{
    ClaimNumber, Label, Lease, Name, Pace, Place, Priority, QueueDefaults, Spec, State, Status,
    Timestamp,
};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// A running job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Running {
    pub(super) spec: Arc<Spec>,
    pub(super) status: Status,
    pub(super) lane: LaneId,
    /// How many errors were ever written of it.
    pub(super) errors: u32,
    pub(super) told: Told,
}

/// What ran out for a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RanOut {
    /// The claim of a running one, or the life of the process that held it.
    Claim(i64),
    /// The deadline of a waiting one.
    Deadline(i64),
}

/// What has to be done to put one change back.
#[derive(Debug)]
enum Undo {
    Displace(Waiting),
    Place(Waiting),
    Start(Waiting, Pace),
    End(i64),
    Begin(i64, Box<Running>),
    Restore(i64, Box<Running>),
    Keep(Name, Option<KeptQueue>),
}

/// The unfinished jobs, as the next transaction finds them.
#[derive(Debug)]
pub(super) struct Order {
    waiting: anteroom_core::Order,
    /// The number before the first claim of this opening: what is not above it was drawn before.
    opened_at: ClaimNumber,
    running: HashMap<i64, Running>,
    expiries: BTreeSet<(Timestamp, i64)>,
    /// What was set for queues.
    kept: BTreeMap<Name, KeptQueue>,
    undo: Vec<Undo>,
}

impl Order {
    /// Returns an empty order for claims above `opened_at`.
    pub(super) fn new(opened_at: ClaimNumber, now: Timestamp) -> Self {
        Self {
            waiting: anteroom_core::Order::new(now),
            opened_at,
            running: HashMap::new(),
            expiries: BTreeSet::new(),
            kept: BTreeMap::new(),
            undo: Vec::new(),
        }
    }

    /// Returns where jobs like this one wait.
    pub(super) fn lane(&mut self, spec: &Spec) -> LaneId {
        let group = spec.group.as_ref();
        self.lane_of(&spec.task, &spec.queue, group, spec.priority)
    }

    /// Returns where jobs of a task, queue, group and priority wait.
    pub(super) fn lane_of(
        &mut self,
        task: &Name,
        queue: &Name,
        group: Option<&Label>,
        priority: Priority,
    ) -> LaneId {
        self.waiting.lane(task, queue, group, priority)
    }

    // --- what a transaction changes ---

    /// Adds a waiting job.
    pub(super) fn place(&mut self, job: Waiting) {
        self.undo.push(Undo::Displace(job));
        self.waiting.place(job);
    }

    /// Takes a waiting job away.
    pub(super) fn displace(&mut self, job: Waiting) {
        self.undo.push(Undo::Place(job));
        self.waiting.displace(job);
    }

    /// Lets a waiting job start.
    pub(super) fn start(&mut self, waiting: Waiting, job: Running) {
        let pace = self.waiting.start(waiting);
        self.undo.push(Undo::Start(waiting, pace));
        self.add_running(waiting.seq, job);
    }

    /// Adds a job that was running before.
    pub(super) fn begin(&mut self, seq: i64, job: Running) {
        self.undo.push(Undo::End(seq));
        self.put_running(seq, job);
    }

    /// Takes a running job away.
    pub(super) fn end(&mut self, seq: i64) {
        if let Some(job) = self.take_running(seq) {
            self.undo.push(Undo::Begin(seq, Box::new(job)));
        }
    }

    /// Changes where a running job stands, while it goes on running.
    pub(super) fn change(&mut self, seq: i64, status: Status, errors: u32, told: Told) {
        let Some(before) = self.remove_running(seq) else {
            return;
        };
        let after = Running {
            status,
            errors,
            told,
            ..before.clone()
        };
        self.undo.push(Undo::Restore(seq, Box::new(before)));
        self.add_running(seq, after);
    }

    /// Changes what holds for a queue.
    pub(super) fn set_queue(&mut self, kept: KeptQueue) {
        let name = kept.name.clone();
        let before = self.keep_queue(&name, Some(kept));
        self.undo.push(Undo::Keep(name, before));
    }

    /// Returns the queues whose rates this transaction moved on, and how far each has come.
    pub(super) fn take_paces(&mut self) -> Vec<(Name, Pace)> {
        self.waiting.take_paces()
    }

    /// Keeps the changes without looking for empty lanes: many jobs are being placed.
    pub(super) fn keep_placed(&mut self) {
        self.undo.clear();
    }

    /// Keeps all changes: the transaction was committed.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
        self.waiting.tidy();
    }

    /// Puts all changes back: the transaction failed.
    pub(super) fn undo(&mut self) {
        while let Some(change) = self.undo.pop() {
            match change {
                Undo::Displace(job) => self.waiting.displace(job),
                Undo::Place(job) => self.waiting.place(job),
                Undo::Start(job, pace) => {
                    self.remove_running(job.seq);
                    self.waiting.undo_start(job, pace);
                }
                Undo::End(seq) => drop(self.take_running(seq)),
                Undo::Begin(seq, job) => self.put_running(seq, *job),
                Undo::Restore(seq, job) => {
                    self.remove_running(seq);
                    self.add_running(seq, *job);
                }
                Undo::Keep(name, kept) => drop(self.keep_queue(&name, kept)),
            }
        }
        self.waiting.tidy();
    }

    // --- what is asked of it ---

    /// Returns the running job at `seq`.
    pub(super) fn running(&self, seq: i64) -> Option<&Running> {
        self.running.get(&seq)
    }

    /// Returns where a claim's jobs come from.
    pub(super) fn sources(&self, tasks: &[Name], queues: Option<&[Name]>) -> Sources {
        self.waiting.sources(tasks, queues)
    }

    /// Tells whether any job may start now.
    pub(super) fn has_ready(&self) -> bool {
        self.waiting.has_ready()
    }

    /// Returns the job that is next, and where it waits.
    pub(super) fn next(&self, sources: &Sources) -> Option<(i64, LaneId)> {
        self.waiting.next(sources)
    }

    /// Returns when there is more to start by the passage of time alone.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.next_due()
    }

    /// Returns where a waiting job stands.
    pub(super) fn place_of(&self, job: Waiting) -> Place {
        self.waiting.place_of(job)
    }

    /// Returns where a job would stand that comes now.
    pub(super) fn place_of_new(&self, asked: Asked<'_>) -> Place {
        self.waiting.place_of_new(asked)
    }

    /// Returns up to `limit` jobs that something ran out for, the longest overdue first.
    pub(super) fn ran_out(&self, limit: usize) -> Vec<RanOut> {
        let now = self.waiting.now();
        let claims = self
            .expiries
            .iter()
            .take_while(|(expires_at, _)| *expires_at <= now)
            .map(|(at, seq)| (*at, *seq, RanOut::Claim(*seq)));
        let deadlines = self.waiting.ran_out();
        let deadlines = deadlines.map(|(at, seq)| (at, seq, RanOut::Deadline(seq)));
        let mut first: Vec<_> = claims.take(limit).chain(deadlines.take(limit)).collect();
        first.sort_unstable_by_key(|(at, seq, _)| (*at, *seq));
        first.truncate(limit);
        first.into_iter().map(|(_, _, job)| job).collect()
    }

    /// Tells whether a running job was held by a process that is no more.
    pub(super) fn is_orphan(&self, status: &Status) -> bool {
        status.lease == Lease::Node && status.claim <= self.opened_at
    }

    /// Tells whether no job is unfinished.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Counts the unfinished jobs of each task in each queue.
    pub(super) fn tally(&self) -> Tally {
        self.waiting.tally()
    }

    /// Returns the earliest `run_at` of the ready jobs of each task in each queue.
    pub(super) fn oldest_ready(&self) -> BTreeMap<(Name, Name), Timestamp> {
        self.waiting.oldest_ready()
    }

    /// Returns what was set for queues.
    pub(super) const fn kept_queues(&self) -> &BTreeMap<Name, KeptQueue> {
        &self.kept
    }

    /// Tells whether any queue has a limit for how many jobs may wait in it.
    pub(super) const fn has_depths(&self) -> bool {
        self.waiting.has_depths()
    }

    /// Returns why jobs are not to be inserted, which are here already, so many more of each
    /// queue: more wait in one than may.
    pub(super) fn full_queue(&self, more: &BTreeMap<Name, u64>) -> Option<StoreError> {
        more.iter().find_map(|(queue, &more)| {
            let limit = self.waiting.rule(queue).max_depth?;
            let waiting = self.waiting.waiting(queue).saturating_sub(more);
            (waiting + more > limit).then(|| StoreError::QueueFull {
                queue: queue.clone(),
                waiting,
                limit,
            })
        })
    }

    // --- what the process says of queues, and the passage of time: no part of a transaction ---

    /// Replaces what holds for queues where nothing was set.
    pub(super) fn configure_queues(&mut self, defaults: QueueDefaults) {
        self.waiting.configure(defaults);
    }

    /// Sets how far the rate of a queue has come, as it was kept.
    pub(super) fn set_pace(&mut self, name: &Name, pace: Pace) {
        self.waiting.set_pace(name, pace);
    }

    /// Moves jobs to where they belong at `now`, and tells whether it is all of them: no more than
    /// `limit` become ready at once. Not within a transaction.
    pub(super) fn set_now(&mut self, now: Timestamp, limit: usize) -> bool {
        debug_assert!(self.undo.is_empty(), "time stands still in a transaction");
        self.waiting.set_now(now, limit)
    }

    // --- the running jobs, without a note ---

    fn put_running(&mut self, seq: i64, job: Running) {
        self.waiting.begin(job.lane);
        self.add_running(seq, job);
    }

    fn take_running(&mut self, seq: i64) -> Option<Running> {
        let job = self.remove_running(seq)?;
        self.waiting.end(job.lane);
        Some(job)
    }

    fn add_running(&mut self, seq: i64, job: Running) {
        self.expiries.insert((self.expiry(&job.status), seq));
        self.running.insert(seq, job);
    }

    fn remove_running(&mut self, seq: i64) -> Option<Running> {
        let job = self.running.remove(&seq)?;
        self.expiries.remove(&(self.expiry(&job.status), seq));
        Some(job)
    }

    /// An orphan's lease ran out before every other.
    fn expiry(&self, status: &Status) -> Timestamp {
        debug_assert_eq!(status.state, State::Running, "only they have a lease");
        if self.is_orphan(status) {
            Timestamp::MIN
        } else {
            status.lease_expires_at
        }
    }

    fn keep_queue(&mut self, name: &Name, kept: Option<KeptQueue>) -> Option<KeptQueue> {
        let settings = kept.as_ref().map(|kept| kept.settings);
        self.waiting.set_queue(name, settings);
        match kept {
            Some(kept) => self.kept.insert(name.clone(), kept),
            None => self.kept.remove(name),
        }
    }
}

#[cfg(test)]
mod tests;
