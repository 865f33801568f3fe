//! Which waiting job starts next, and which may not yet.
//!
//! It holds the waiting jobs of a store by what matters for that: when each may start, its task,
//! queue, priority and group, and what limits their queue. A store that keeps it in memory puts each
//! job in where it waits, takes it out where it does not, and asks it for the next one. It decides,
//! and writes nothing down.
//!
//! A waiting job lies in exactly one of three places, and its [`Waiting`] and the time say which:
//! among the late ones (its deadline went by), the scheduled ones (`run_at` ahead) or the ready
//! ones. Ready jobs are served by these rules, from the outside in:
//!
//! - *Queues* of what is asked for take turns. One that is paused, whose `max_concurrency` runs, or
//!   whose rate is used up, is left out.
//! - *Priorities* of a queue have shares: each gets twice the starts of the next less urgent one,
//!   while both have jobs waiting. Every start moves its priority's mark on by 2 to the power of
//!   its number, and the one whose mark would come first is next (self-clocked fair queueing,
//!   Golestani 1994).
//! - *Groups* of a priority take turns, whatever their depth; the jobs without a group are one. A
//!   group that has jobs again goes on with the current turn, and never sooner than its own next
//!   one (start-time fair queueing, Goyal 1996, with all jobs of one size). One of which
//!   `group_concurrency` jobs run is left out.
//! - *Jobs* of a group and priority go by `run_at`, then as they were submitted.
//!
//! Nobody goes through what is left out: however many jobs are paused, the next one costs the same.
//! Turns and shares are forgotten with the process; limits are not: what runs is counted again, and
//! how far a rate has come is the store's to keep ([`Order::take_paces`]).

mod choice;
mod class;
mod lanes;
mod moves;
mod place;
mod queue;
mod ranked;
mod time;

pub use choice::Sources;
pub use lanes::LaneId;
pub use place::Asked;

use crate::{Name, Pace, QueueDefaults, QueueRule, QueueSettings, Status, Timestamp};
use lanes::{Flow, Group, Lane};
use queue::{Queue, QueueId, Task, TaskId};
use slab::Slab;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// A waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order of submission, its own.
    pub seq: i64,
    /// Where it waits, by [`Order::lane`].
    pub lane: LaneId,
    /// When it may start.
    pub run_at: Timestamp,
    /// When it has to have begun; none also for one that began before.
    pub deadline: Option<Timestamp>,
}

impl Waiting {
    /// Returns what is kept of a waiting job that stands at `status`.
    pub fn new(seq: i64, lane: LaneId, status: &Status) -> Self {
        Self {
            seq,
            lane,
            run_at: status.run_at,
            deadline: status.start_before.filter(|_| status.started_at.is_none()),
        }
    }
}

/// The unfinished jobs of a task in a queue: scheduled, ready, running.
pub type Tally = BTreeMap<(Name, Name), [u64; 3]>;

/// The waiting jobs of a store.
#[derive(Debug)]
pub struct Order {
    now: Timestamp,
    /// The ready jobs are those before it, by `run_at` and key: all that are due at `now`, unless
    /// some are still to be moved.
    ready_before: (Timestamp, i64),
    tasks: Vec<Task>,
    task_of: HashMap<Name, TaskId>,
    queues: Vec<Queue>,
    queue_of: HashMap<Name, QueueId>,
    groups: Slab<Group>,
    flows: Slab<Flow>,
    lanes: Slab<Lane>,
    /// Lanes that may have become empty.
    emptied: Vec<LaneId>,
    /// The turn that the latest start of any queue took.
    turn: u64,
    scheduled: BTreeMap<(Timestamp, i64), LaneId>,
    /// Waiting jobs with a deadline. Those whose deadline is before now are the late ones.
    deadlines: BTreeMap<(Timestamp, i64), Waiting>,
    /// When the rates of queues let their next jobs start.
    rate_waits: BTreeSet<(Timestamp, QueueId)>,
    /// Queues whose pace has moved since it was last taken.
    paced: BTreeSet<QueueId>,
    own: BTreeMap<Name, QueueSettings>,
    defaults: QueueDefaults,
    /// Whether a depth is limited anywhere: inserts into queues without limits look no further.
    has_depths: bool,
}

impl Order {
    /// Returns an order without jobs.
    pub fn new(now: Timestamp) -> Self {
        Self {
            now,
            ready_before: time::just_after(now),
            tasks: Vec::new(),
            task_of: HashMap::new(),
            queues: Vec::new(),
            queue_of: HashMap::new(),
            groups: Slab::new(),
            flows: Slab::new(),
            lanes: Slab::new(),
            emptied: Vec::new(),
            turn: 0,
            scheduled: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            rate_waits: BTreeSet::new(),
            paced: BTreeSet::new(),
            own: BTreeMap::new(),
            defaults: QueueDefaults::default(),
            has_depths: false,
        }
    }

    // --- what holds for queues ---

    /// Replaces what holds where nothing was set.
    pub fn configure(&mut self, defaults: QueueDefaults) {
        self.defaults = defaults;
        self.look_for_depths();
        for id in 0..self.queues.len() {
            self.rule_anew(id);
        }
    }

    /// Changes what was set for a queue; none: nothing any more.
    pub fn set_queue(&mut self, name: &Name, settings: Option<QueueSettings>) {
        match settings {
            Some(settings) => self.own.insert(name.clone(), settings),
            None => self.own.remove(name),
        };
        self.look_for_depths();
        if let Some(&id) = self.queue_of.get(name) {
            self.rule_anew(id);
        }
    }

    /// Returns what holds for a queue.
    pub fn rule(&self, name: &Name) -> QueueRule {
        let own = self.own.get(name).copied();
        self.defaults.rule(name, own.unwrap_or_default())
    }

    fn look_for_depths(&mut self) {
        let own = self.own.values().chain(self.defaults.of.values());
        self.has_depths = own.into_iter().any(|of| of.max_depth.is_some());
    }

    /// Tells whether any queue has a limit for how many jobs may wait in it.
    pub const fn has_depths(&self) -> bool {
        self.has_depths
    }

    /// Returns how many jobs wait in a queue.
    pub fn waiting(&self, name: &Name) -> u64 {
        let id = self.queue_of.get(name);
        id.map_or(0, |id| self.queues[*id].waiting)
    }

    // --- how far rates have come ---

    /// Returns the queues with a rate that had starts since this was last asked, and how far each
    /// has come: what a store keeps in the commit of those starts.
    pub fn take_paces(&mut self) -> Vec<(Name, Pace)> {
        let paced = std::mem::take(&mut self.paced);
        let queues = paced.into_iter().map(|id| &self.queues[id]);
        queues.map(|of| (of.name.clone(), of.pace)).collect()
    }

    /// Sets how far the rate of a queue has come.
    pub fn set_pace(&mut self, name: &Name, pace: Pace) {
        let id = self.queue(name);
        self.queues[id].pace = pace;
        self.settle(id);
    }

    // --- what is in it ---

    /// Counts the unfinished jobs of each task in each queue.
    pub fn tally(&self) -> Tally {
        let mut tally = Tally::new();
        for queue in &self.queues {
            for (task, part) in &queue.parts {
                let counts = [part.scheduled, part.ready, part.running];
                if counts != [0; 3] {
                    let key = (self.tasks[*task].name.clone(), queue.name.clone());
                    tally.insert(key, counts);
                }
            }
        }
        for (_, job) in self.late() {
            let counts = tally.entry(self.names_of(job.lane)).or_default();
            counts[usize::from(job.run_at <= self.now)] += 1;
        }
        tally
    }

    /// Tells whether no job is unfinished, as of the last [`Order::tidy`].
    pub fn is_empty(&self) -> bool {
        self.lanes.is_empty()
    }

    /// Returns the earliest `run_at` of the ready jobs of each task in each queue.
    pub fn oldest_ready(&self) -> BTreeMap<(Name, Name), Timestamp> {
        let lanes = self.lanes.iter().filter_map(|(id, lane)| {
            let (run_at, _) = lane.ready.first()?;
            Some((lanes::lane_id(id), run_at))
        });
        let mut oldest = BTreeMap::new();
        for (lane, run_at) in lanes {
            let lane = &self.lanes[lane as usize];
            let of = oldest.entry((lane.task, self.flows[lane.flow].queue));
            let of = of.or_insert(run_at);
            *of = run_at.min(*of);
        }
        let named = |((task, queue), at): ((TaskId, QueueId), Timestamp)| {
            let names = (
                self.tasks[task].name.clone(),
                self.queues[queue].name.clone(),
            );
            (names, at)
        };
        let mut oldest: BTreeMap<_, _> = oldest.into_iter().map(named).collect();
        for (_, job) in self.late().filter(|(_, job)| job.run_at <= self.now) {
            let of = oldest.entry(self.names_of(job.lane)).or_insert(job.run_at);
            *of = job.run_at.min(*of);
        }
        oldest
    }

    /// Returns the task and the queue of a lane.
    fn names_of(&self, lane: LaneId) -> (Name, Name) {
        let lane = &self.lanes[lane as usize];
        let queue = self.flows[lane.flow].queue;
        let task = self.tasks[lane.task].name.clone();
        (task, self.queues[queue].name.clone())
    }
}

#[cfg(test)]
mod tests;
