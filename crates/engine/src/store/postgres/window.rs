//! What the writer keeps in memory of the order of waiting jobs.
//!
//! The database offers the first ready jobs of each lane, locked for this node; who of them is next is
//! for [`anteroom_core::Order`] to say. What was offered and not taken stays in it as a hint, so that
//! turns and shares go on from one transaction to the next, and is put right by the next offer of its
//! lane. A failed transaction forgets all of it: turns begin anew, and nothing else is lost.

use anteroom_core::order::{Asked, LaneId, Sources, Waiting};
use anteroom_core::{
    JobId, Label, Name, Order, Pace, Place, Priority, QueueDefaults, QueueRule, QueueSettings,
    Spec, Timestamp,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Where jobs of one task, queue and priority wait, of whatever group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Lane {
    pub(super) queue: Name,
    pub(super) task: Name,
    pub(super) priority: Priority,
}

impl Lane {
    pub(super) fn of(spec: &Spec) -> Self {
        Self {
            queue: spec.queue.clone(),
            task: spec.task.clone(),
            priority: spec.priority,
        }
    }
}

/// A ready job that this node may take.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    pub(super) id: JobId,
    pub(super) lane: Lane,
    pub(super) group: Option<Label>,
    pub(super) run_at: Timestamp,
    pub(super) deadline: Option<Timestamp>,
    pub(super) version: u64,
    /// More of its lane and group may be ready than were offered with it.
    pub(super) is_cut: bool,
}

/// How many jobs run of a lane and group.
pub(super) type RunningCounts = BTreeMap<(Lane, Option<Label>), u64>;

/// A place among the ready jobs of a lane.
pub(super) type Since = (Timestamp, JobId);

/// Before every job.
const BEGINNING: Since = (Timestamp::MIN, JobId::from_bytes([0; 16]));
/// After every job.
pub(super) const END: Since = (Timestamp::MAX, JobId::from_bytes([u8::MAX; 16]));

/// A ready job that the order has.
#[derive(Debug)]
struct Hint {
    lane: Lane,
    group: Option<Label>,
    waiting: Waiting,
}

#[derive(Debug)]
pub(super) struct Window {
    order: Order,
    /// What holds for queues, to begin anew with.
    own: BTreeMap<Name, QueueSettings>,
    defaults: QueueDefaults,
    hints: HashMap<JobId, Hint>,
    ids: HashMap<i64, JobId>,
    by_lane: HashMap<Lane, HashSet<JobId>>,
    /// How many hints there are of each of the order's lanes.
    left: HashMap<LaneId, usize>,
    /// The order's lanes of which more may be ready than it has.
    cut: HashSet<LaneId>,
    /// One of those has run out: who is next is not known.
    is_blind: bool,
    /// What runs of queues with limits, as the order counts it.
    running: RunningCounts,
    /// What started in this transaction in queues without limits: nobody counts it.
    uncounted: Vec<LaneId>,
    /// Before which place no job of a lane that has no group is known to be ready. The rows of those
    /// that started lie there, dead but not gone, and the next look need not go over them.
    since: HashMap<Lane, Since>,
    /// The last of what was offered in this transaction of a lane, of jobs that have no group.
    last_offered: HashMap<Lane, Since>,
}

impl Window {
    pub(super) fn new(now: Timestamp) -> Self {
        Self {
            order: Order::new(now),
            own: BTreeMap::new(),
            defaults: QueueDefaults::default(),
            hints: HashMap::new(),
            ids: HashMap::new(),
            by_lane: HashMap::new(),
            left: HashMap::new(),
            cut: HashSet::new(),
            is_blind: false,
            running: RunningCounts::new(),
            uncounted: Vec::new(),
            since: HashMap::new(),
            last_offered: HashMap::new(),
        }
    }

    /// Forgets all but what holds for queues.
    pub(super) fn forget(&mut self, now: Timestamp) {
        let own = std::mem::take(&mut self.own);
        let defaults = std::mem::take(&mut self.defaults);
        *self = Self::new(now);
        self.configure(defaults);
        self.set_queues(own);
    }

    // --- what holds for queues ---

    /// Replaces what holds where nothing was set.
    pub(super) fn configure(&mut self, defaults: QueueDefaults) {
        self.defaults = defaults.clone();
        self.order.configure(defaults);
    }

    /// Takes in what was set for queues, all of it.
    pub(super) fn set_queues(&mut self, own: BTreeMap<Name, QueueSettings>) {
        for name in self.own.keys().filter(|name| !own.contains_key(*name)) {
            self.order.set_queue(name, None);
        }
        for (name, settings) in &own {
            if self.own.get(name) != Some(settings) {
                self.order.set_queue(name, Some(*settings));
            }
        }
        self.own = own;
    }

    pub(super) fn rule(&self, queue: &Name) -> QueueRule {
        self.order.rule(queue)
    }

    /// Tells whether a queue has a limit that starts are counted for.
    pub(super) fn is_limited(&self, queue: &Name) -> bool {
        let rule = self.rule(queue);
        rule.max_concurrency.is_some()
            || rule.group_concurrency.is_some()
            || rule.rate_limit.is_some()
    }

    pub(super) fn set_pace(&mut self, queue: &Name, pace: Pace) {
        self.order.set_pace(queue, pace);
    }

    /// Returns how far the rates have come of the queues that this transaction took jobs from.
    pub(super) fn take_paces(&mut self) -> Vec<(Name, Pace)> {
        self.order.take_paces()
    }

    // --- what the database says ---

    pub(super) fn set_now(&mut self, now: Timestamp) {
        self.order.set_now(now, usize::MAX);
    }

    /// Returns when a rate lets the next job start, if that is what holds it back.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.order.next_due()
    }

    /// Takes in what was offered of some lanes, in the place of what was known of them.
    pub(super) fn offered(&mut self, lanes: &[Lane], offers: &[Offer]) {
        let ids: HashSet<JobId> = offers.iter().map(|offer| offer.id).collect();
        for lane in lanes {
            let known = self.by_lane.get(lane).into_iter().flatten();
            let vanished: Vec<JobId> = known.filter(|id| !ids.contains(id)).copied().collect();
            for id in vanished {
                self.remove(id);
            }
        }
        self.cut.clear();
        self.is_blind = false;
        for offer in offers {
            let lane = self.place(offer);
            if offer.is_cut {
                self.cut.insert(lane);
            }
        }
    }

    /// Notes that jobs wait in a lane from a place on: what is looked for begins no later.
    pub(super) fn look_from(&mut self, lane: &Lane, place: Since) {
        if let Some(since) = self.since.get_mut(lane) {
            *since = place.min(*since);
        }
    }

    /// Returns from where on jobs of a lane are to be looked for that have no group.
    pub(super) fn since(&self, lane: &Lane) -> Since {
        self.since.get(lane).copied().unwrap_or(BEGINNING)
    }

    /// Has all lanes be looked at from their beginning: another node may have put something there.
    pub(super) fn look_from_the_beginning(&mut self) {
        self.since.clear();
    }

    /// Notes what was offered, from the first of each lane on.
    pub(super) fn note_offered(&mut self, offers: &[Offer]) {
        for offer in offers.iter().filter(|offer| offer.group.is_none()) {
            let last = self.last_offered.entry(offer.lane.clone());
            let place = (offer.run_at, offer.id);
            let last = last.or_insert(place);
            *last = place.max(*last);
        }
    }

    /// Notes how far the jobs of lanes were taken, of what was offered of them.
    fn note_since(&mut self) {
        for (lane, last) in std::mem::take(&mut self.last_offered) {
            let hints = self.by_lane.get(&lane).into_iter().flatten();
            let hints = hints.filter_map(|id| Some((*id, self.hints.get(id)?)));
            let hints = hints.filter(|(_, hint)| hint.group.is_none());
            let first = hints.map(|(id, hint)| (hint.waiting.run_at, id)).min();
            self.since.insert(lane, first.unwrap_or(last));
        }
    }

    /// Returns the lanes that there are hints of.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        self.by_lane.keys()
    }

    /// Returns the lanes of a queue that there are hints of.
    pub(super) fn lanes_of<'a>(&'a self, queue: &'a Name) -> impl Iterator<Item = &'a Lane> {
        self.lanes().filter(move |lane| lane.queue == *queue)
    }

    /// Adds a ready job, if it is not there.
    pub(super) fn place(&mut self, offer: &Offer) -> LaneId {
        let (lane, group) = (&offer.lane, offer.group.as_ref());
        let id = self.lane_id(lane, group);
        if let Some(Hint { waiting, .. }) = self.hints.get(&offer.id) {
            if waiting.lane == id && waiting.run_at == offer.run_at {
                return id;
            }
            self.remove(offer.id);
        }
        let mut seq = offer.id.order_key();
        while self.ids.contains_key(&seq) {
            seq += 1;
        }
        let waiting = Waiting {
            seq,
            lane: id,
            run_at: offer.run_at,
            deadline: offer.deadline,
        };
        self.order.place(waiting);
        let hint = Hint {
            lane: lane.clone(),
            group: group.cloned(),
            waiting,
        };
        self.hints.insert(offer.id, hint);
        self.ids.insert(seq, offer.id);
        let of_lane = self.by_lane.entry(lane.clone()).or_default();
        of_lane.insert(offer.id);
        *self.left.entry(id).or_default() += 1;
        id
    }

    /// Takes a job away that waits no more, or elsewhere.
    pub(super) fn remove(&mut self, id: JobId) {
        if let Some(hint) = self.forget_hint(id) {
            self.order.displace(hint.waiting);
        }
    }

    fn forget_hint(&mut self, id: JobId) -> Option<Hint> {
        let hint = self.hints.remove(&id)?;
        self.ids.remove(&hint.waiting.seq);
        if let Some(of_lane) = self.by_lane.get_mut(&hint.lane) {
            of_lane.remove(&id);
            if of_lane.is_empty() {
                self.by_lane.remove(&hint.lane);
            }
        }
        if let Some(left) = self.left.get_mut(&hint.waiting.lane) {
            *left -= 1;
            if *left == 0 {
                self.left.remove(&hint.waiting.lane);
            }
        }
        Some(hint)
    }

    fn lane_id(&mut self, lane: &Lane, group: Option<&Label>) -> LaneId {
        let Lane {
            queue,
            task,
            priority,
        } = lane;
        self.order.lane(task, queue, group, *priority)
    }

    /// Takes in how many jobs of some queues run.
    pub(super) fn count_running(&mut self, queues: &[Name], counts: &RunningCounts) {
        let of_these = |key: &&(Lane, Option<Label>)| queues.contains(&key.0.queue);
        let known = self.running.keys().filter(of_these).cloned();
        let keys: HashSet<_> = known.chain(counts.keys().cloned()).collect();
        for key in keys {
            let now = counts.get(&key).copied().unwrap_or(0);
            let before = self.running.get(&key).copied().unwrap_or(0);
            let id = self.lane_id(&key.0, key.1.as_ref());
            for _ in before..now {
                self.order.begin(id);
            }
            for _ in now..before {
                self.order.end(id);
            }
            if now == 0 {
                self.running.remove(&key);
            } else {
                self.running.insert(key, now);
            }
        }
    }

    /// A job runs no more.
    pub(super) fn ended(&mut self, spec: &Spec) {
        let key = (Lane::of(spec), spec.group.clone());
        let Some(count) = self.running.get_mut(&key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            self.running.remove(&key);
        }
        let id = self.lane_id(&key.0, key.1.as_ref());
        self.order.end(id);
    }

    // --- who is next ---

    pub(super) fn sources(&self, tasks: &[Name], queues: Option<&[Name]>) -> Sources {
        self.order.sources(tasks, queues)
    }

    /// Lets the job start that is next, as far as that is known.
    pub(super) fn start_next(&mut self, sources: &Sources) -> Option<JobId> {
        if self.is_blind {
            return None;
        }
        let (seq, _) = self.order.next(sources)?;
        let id = *self.ids.get(&seq)?;
        let Hint {
            lane,
            group,
            waiting,
        } = self.forget_hint(id)?;
        self.order.start(waiting);
        if self.is_limited(&lane.queue) {
            *self.running.entry((lane, group)).or_default() += 1;
        } else {
            self.uncounted.push(waiting.lane);
        }
        let has_run_out = !self.left.contains_key(&waiting.lane);
        self.is_blind = has_run_out && self.cut.contains(&waiting.lane);
        Some(id)
    }

    /// Tells whether more may be ready than was offered.
    pub(super) const fn is_blind(&self) -> bool {
        self.is_blind
    }

    /// The transaction was committed.
    pub(super) fn keep(&mut self) {
        self.note_since();
        for lane in std::mem::take(&mut self.uncounted) {
            self.order.end(lane);
        }
        self.order.tidy();
    }

    // --- where jobs stand ---

    /// Returns where a ready job stands that the order has.
    pub(super) fn place_of(&self, id: JobId) -> Option<Place> {
        let hint = self.hints.get(&id)?;
        Some(self.order.place_of(hint.waiting))
    }

    /// Returns where a job would stand that comes now.
    pub(super) fn place_of_new(&self, asked: Asked<'_>) -> Place {
        self.order.place_of_new(asked)
    }
}
