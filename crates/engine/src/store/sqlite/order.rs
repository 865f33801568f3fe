//! What the writer keeps in memory: the order of the waiting jobs, and where the running ones
//! stand.
//!
//! It follows the transaction: whatever changes it is noted, and [`Order::undo`] puts all of it
//! back when the transaction fails. Only [`Order::set_now`], which the passage of time asks for,
//! is no part of a transaction.
//!
//! A waiting job lies in exactly one of three places, and its [`Waiting`] and the time say which:
//! among the late ones (its deadline went by), the scheduled ones (`run_at` ahead) or the ready
//! ones of its line. Where very many come due at once, they become ready piece by piece, so that
//! nobody waits for all of them. Claims look at the first ready job of each line, and the lines of a
//! paused queue show none: however many jobs are paused, nobody goes through them. A ready job costs 16 bytes and its share of a B-tree; nothing that is not
//! needed to find the next one is kept.

use super::events::Told;
use anteroom_core::{
    ClaimNumber, Lease, Name, Priority, QueueDefaults, Spec, State, Status, Timestamp,
};
mod queues;
use crate::store::{KeptQueue, StoreError};
use queues::{QueueId, Queues};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// Where the jobs of one task, queue and priority wait.
pub(super) type LineId = u32;

/// The least that two instants differ by.
const TICK: Duration = Duration::from_millis(1);

/// Order among ready jobs: most urgent, then by `run_at`, then as submitted.
type Place = (Priority, Timestamp, i64);

/// A waiting job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) seq: i64,
    pub(super) line: LineId,
    pub(super) run_at: Timestamp,
    /// When it has to have begun; none also for one that began before.
    pub(super) deadline: Option<Timestamp>,
}

impl Waiting {
    /// Returns what is kept of a waiting job that stands at `status`.
    pub(super) fn new(seq: i64, line: LineId, status: &Status) -> Self {
        Self {
            seq,
            line,
            run_at: status.run_at,
            deadline: status.start_before.filter(|_| status.started_at.is_none()),
        }
    }
}

/// A running job.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Running {
    pub(super) spec: Arc<Spec>,
    pub(super) status: Status,
    pub(super) line: LineId,
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

/// Where the next jobs of a claim come from.
#[derive(Debug)]
pub(super) enum Sources {
    /// Any queue of these tasks.
    Tasks(Vec<usize>),
    /// These lines.
    Lines(Vec<LineId>),
}

/// The unfinished jobs of a task in a queue: scheduled, ready, running.
pub(super) type Tally = BTreeMap<(Name, Name), [u64; 3]>;

#[derive(Debug)]
struct Line {
    task: usize,
    queue: Name,
    queue_id: QueueId,
    /// Its queue is paused: its first ready job is not among the heads of its task.
    paused: bool,
    priority: Priority,
    ready: BTreeSet<(Timestamp, i64)>,
    scheduled: u64,
    late: u64,
    running: u64,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.scheduled + self.late + self.running == 0
    }
}

/// A task, with the first ready job of each of its lines that is not paused.
#[derive(Debug)]
struct TaskHeads {
    name: Name,
    heads: BTreeMap<Place, LineId>,
}

/// What has to be done to put one change back.
#[derive(Debug)]
enum Undo {
    Displace(Waiting),
    Place(Waiting),
    End(i64),
    Begin(i64, Box<Running>),
    Restore(i64, Box<Running>),
    Keep(Name, Option<KeptQueue>),
}

/// The unfinished jobs, as the next transaction finds them.
#[derive(Debug)]
pub(super) struct Order {
    now: Timestamp,
    /// The ready jobs are those before it, by `run_at` and key: all that are due at `now`, unless
    /// some are still to be moved.
    ready_before: (Timestamp, i64),
    /// The number before the first claim of this opening: what is not above it was drawn before.
    opened_at: ClaimNumber,
    tasks: Vec<TaskHeads>,
    task_of: HashMap<Name, usize>,
    lines: Vec<Line>,
    line_of: HashMap<(usize, Name, Priority), LineId>,
    queues: Queues,
    /// Lines that are in no use.
    free: Vec<LineId>,
    /// Lines that may have become empty since the last transaction ended.
    emptied: Vec<LineId>,
    scheduled: BTreeMap<(Timestamp, i64), LineId>,
    /// Waiting jobs with a deadline. Those whose deadline is before now are the late ones.
    deadlines: BTreeMap<(Timestamp, i64), Waiting>,
    running: HashMap<i64, Running>,
    expiries: BTreeSet<(Timestamp, i64)>,
    undo: Vec<Undo>,
}

impl Order {
    /// Returns an empty order for claims above `opened_at`.
    pub(super) fn new(opened_at: ClaimNumber, now: Timestamp) -> Self {
        Self {
            now,
            ready_before: just_after(now),
            opened_at,
            tasks: Vec::new(),
            task_of: HashMap::new(),
            lines: Vec::new(),
            line_of: HashMap::new(),
            queues: Queues::default(),
            free: Vec::new(),
            emptied: Vec::new(),
            scheduled: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            running: HashMap::new(),
            expiries: BTreeSet::new(),
            undo: Vec::new(),
        }
    }

    /// Returns the line of a task, queue and priority.
    pub(super) fn line(&mut self, task: &Name, queue: &Name, priority: Priority) -> LineId {
        let task = match self.task_of.get(task) {
            Some(&index) => index,
            None => self.add_task(task),
        };
        let key = (task, queue.clone(), priority);
        if let Some(&id) = self.line_of.get(&key) {
            return id;
        }
        let queue_id = self.queues.add_line(queue);
        let line = Line {
            task,
            queue: key.1.clone(),
            queue_id,
            paused: self.queues.is_paused(queue_id),
            priority,
            ready: BTreeSet::new(),
            scheduled: 0,
            late: 0,
            running: 0,
        };
        let id = if let Some(id) = self.free.pop() {
            self.lines[id as usize] = line;
            id
        } else {
            self.lines.push(line);
            u32::try_from(self.lines.len() - 1).expect("a line has jobs, and they fit in memory")
        };
        self.line_of.insert(key, id);
        self.emptied.push(id);
        id
    }

    fn add_task(&mut self, name: &Name) -> usize {
        let index = self.tasks.len();
        self.tasks.push(TaskHeads {
            name: name.clone(),
            heads: BTreeMap::new(),
        });
        self.task_of.insert(name.clone(), index);
        index
    }

    // --- what a transaction changes ---

    /// Adds a waiting job.
    pub(super) fn place(&mut self, job: Waiting) {
        self.undo.push(Undo::Displace(job));
        self.put(job);
    }

    /// Takes a waiting job away.
    pub(super) fn displace(&mut self, job: Waiting) {
        self.undo.push(Undo::Place(job));
        self.take(job);
    }

    /// Adds a running job.
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
        let Some(before) = self.take_running(seq) else {
            return;
        };
        let after = Running {
            status,
            errors,
            told,
            ..before.clone()
        };
        self.undo.push(Undo::Restore(seq, Box::new(before)));
        self.put_running(seq, after);
    }

    /// Changes what holds for a queue.
    pub(super) fn set_queue(&mut self, kept: KeptQueue) {
        let name = kept.name.clone();
        let before = self.queues.keep(&name, Some(kept));
        self.settle_queue(&name);
        self.undo.push(Undo::Keep(name, before));
    }

    /// Keeps the changes without looking for empty lines: many jobs are being placed.
    pub(super) fn keep_placed(&mut self) {
        self.undo.clear();
    }

    /// Keeps all changes: the transaction was committed.
    pub(super) fn keep(&mut self) {
        self.undo.clear();
        self.free_empty_lines();
    }

    /// Puts all changes back: the transaction failed.
    pub(super) fn undo(&mut self) {
        while let Some(change) = self.undo.pop() {
            match change {
                Undo::Displace(job) => self.take(job),
                Undo::Place(job) => self.put(job),
                Undo::End(seq) => drop(self.take_running(seq)),
                Undo::Begin(seq, job) => self.put_running(seq, *job),
                Undo::Restore(seq, job) => {
                    self.take_running(seq);
                    self.put_running(seq, *job);
                }
                Undo::Keep(name, kept) => {
                    self.queues.keep(&name, kept);
                    self.settle_queue(&name);
                }
            }
        }
        self.free_empty_lines();
    }

    // --- what is asked of it ---

    /// Returns the running job at `seq`.
    pub(super) fn running(&self, seq: i64) -> Option<&Running> {
        self.running.get(&seq)
    }

    /// Returns where a claim's jobs come from.
    pub(super) fn sources(&self, tasks: &[Name], queues: Option<&[Name]>) -> Sources {
        let mut known: Vec<usize> = tasks
            .iter()
            .filter_map(|name| self.task_of.get(name).copied())
            .collect();
        known.sort_unstable();
        known.dedup();
        let Some(queues) = queues else {
            return Sources::Tasks(known);
        };
        let mut lines = Vec::new();
        for queue in queues {
            for &task in &known {
                for number in 0..=anteroom_core::limits::PRIORITY_MAX {
                    let priority = Priority::new(number.into()).unwrap_or_default();
                    let line = self.line_of.get(&(task, queue.clone(), priority));
                    lines.extend(line.filter(|id| !self.lines[**id as usize].paused));
                }
            }
        }
        Sources::Lines(lines)
    }

    /// Tells whether there is any ready job that is not paused.
    pub(super) fn has_ready(&self) -> bool {
        self.tasks.iter().any(|task| !task.heads.is_empty())
    }

    /// Returns the ready job that comes first.
    pub(super) fn first(&self, sources: &Sources) -> Option<i64> {
        let first = match sources {
            Sources::Tasks(tasks) => tasks
                .iter()
                .filter_map(|task| self.tasks[*task].heads.first_key_value())
                .map(|(place, _)| *place)
                .min(),
            Sources::Lines(lines) => lines
                .iter()
                .filter_map(|id| {
                    let line = &self.lines[*id as usize];
                    let (run_at, seq) = *line.ready.first()?;
                    Some((line.priority, run_at, seq))
                })
                .min(),
        };
        first.map(|(_, _, seq)| seq)
    }

    /// Returns when the next scheduled job comes due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.scheduled
            .first_key_value()
            .map(|((run_at, _), _)| *run_at)
    }

    /// Returns up to `limit` jobs that something ran out for, the longest overdue first.
    pub(super) fn ran_out(&self, limit: usize) -> Vec<RanOut> {
        let claims = self
            .expiries
            .iter()
            .take_while(|(expires_at, _)| *expires_at <= self.now)
            .map(|(at, seq)| (*at, *seq, RanOut::Claim(*seq)));
        let deadlines = self
            .late()
            // A job is still in time at the very instant.
            .map(|((deadline, seq), _)| (deadline.after(TICK), *seq, RanOut::Deadline(*seq)));
        let mut first: Vec<_> = claims.take(limit).chain(deadlines.take(limit)).collect();
        first.sort_unstable_by_key(|(at, seq, _)| (*at, *seq));
        first.truncate(limit);
        first.into_iter().map(|(_, _, job)| job).collect()
    }

    /// Tells whether a running job was held by a process that is no more.
    pub(super) fn is_orphan(&self, status: &Status) -> bool {
        status.lease == Lease::Node && status.claim <= self.opened_at
    }

    /// Returns where a job stands, or would stand, in its queue.
    pub(super) fn place_at(&self, queue: &Name, place: Place) -> anteroom_core::Place {
        let lines = self.lines.iter().filter(|line| line.queue == *queue);
        let (priority, run_at, seq) = place;
        let (mut ready, mut ahead, mut running) = (0, 0, 0);
        for line in lines {
            ready += line.ready.len() as u64;
            running += line.running;
            ahead += match line.priority.cmp(&priority) {
                std::cmp::Ordering::Less => line.ready.len(),
                std::cmp::Ordering::Equal => line.ready.range(..(run_at, seq)).count(),
                std::cmp::Ordering::Greater => 0,
            } as u64;
        }
        anteroom_core::Place {
            position: (run_at <= self.now).then_some(anteroom_core::Position {
                ahead,
                is_exact: ahead <= anteroom_core::limits::POSITION_EXACT_MAX,
            }),
            starts_before: ahead,
            rule: self.queues.rule(queue),
            ready,
            running,
            group_running: 0,
            next_start_at: None,
        }
    }

    /// Counts the unfinished jobs of each task in each queue.
    pub(super) fn tally(&self) -> Tally {
        let mut tally = Tally::new();
        let key = |line: &Line| (self.tasks[line.task].name.clone(), line.queue.clone());
        for line in self.lines.iter().filter(|line| !line.is_empty()) {
            let [scheduled, ready, running] = tally.entry(key(line)).or_default();
            *scheduled += line.scheduled;
            *ready += line.ready.len() as u64;
            *running += line.running;
        }
        for (_, job) in self.late() {
            let counts = tally
                .entry(key(&self.lines[job.line as usize]))
                .or_default();
            counts[usize::from(job.run_at <= self.now)] += 1;
        }
        tally
    }

    /// Returns the earliest `run_at` of the ready jobs of each task in each queue.
    pub(super) fn oldest_ready(&self) -> BTreeMap<(Name, Name), Timestamp> {
        let in_lines = self.lines.iter().filter_map(|line| {
            let (run_at, _) = line.ready.first()?;
            Some((line, *run_at))
        });
        let late = self.late().filter(|(_, job)| job.run_at <= self.now);
        let late = late.map(|(_, job)| (&self.lines[job.line as usize], job.run_at));
        let mut oldest = BTreeMap::new();
        for (line, run_at) in in_lines.chain(late) {
            let key = (self.tasks[line.task].name.clone(), line.queue.clone());
            let of_key = oldest.entry(key).or_insert(run_at);
            *of_key = run_at.min(*of_key);
        }
        oldest
    }

    /// Returns what was set for queues.
    pub(super) fn kept_queues(&self) -> &BTreeMap<Name, KeptQueue> {
        self.queues.kept()
    }

    /// Tells whether any queue has a limit for how many jobs may wait in it.
    pub(super) fn has_limits(&self) -> bool {
        self.queues.has_limits()
    }

    /// Returns why jobs are not to be inserted, which are here already, so many more of each
    /// queue: more wait in one than may.
    pub(super) fn full_queue(&self, more: &BTreeMap<Name, u64>) -> Option<StoreError> {
        more.iter().find_map(|(queue, &more)| {
            let limit = self.queues.rule(queue).max_depth?;
            let waiting = self.queues.waiting(queue).saturating_sub(more);
            (waiting + more > limit).then(|| StoreError::QueueFull {
                queue: queue.clone(),
                waiting,
                limit,
            })
        })
    }

    // --- what the process says of queues: no part of a transaction ---

    /// Replaces what holds for queues where nothing was set.
    pub(super) fn configure_queues(&mut self, defaults: QueueDefaults) {
        self.queues.configure(defaults);
        for name in self.queues.names() {
            self.settle_queue(&name);
        }
    }

    /// Shows or hides what is ready in a queue that was resumed or paused.
    fn settle_queue(&mut self, name: &Name) {
        let Some(queue_id) = self.queues.settle(name) else {
            return;
        };
        let paused = self.queues.is_paused(queue_id);
        for (id, line) in (0..).zip(&mut self.lines) {
            // One in no use is made anew before it is used again.
            if line.queue_id != queue_id || line.queue != *name {
                continue;
            }
            line.paused = paused;
            if let Some((run_at, seq)) = line.ready.first() {
                let heads = &mut self.tasks[line.task].heads;
                let place = (line.priority, *run_at, *seq);
                if paused {
                    heads.remove(&place);
                } else {
                    heads.insert(place, id);
                }
            }
        }
    }

    // --- the passage of time ---

    /// Moves jobs to where they belong at `now`, and tells whether it is all of them: no more than
    /// `limit` become ready at once. Not within a transaction.
    pub(super) fn set_now(&mut self, now: Timestamp, limit: usize) -> bool {
        debug_assert!(self.undo.is_empty(), "time stands still in a transaction");
        if now < self.now {
            self.turn_back(now);
        }
        let before = std::mem::replace(&mut self.now, now);
        let mut moved = 0;
        self.ready_before = just_after(now);
        while let Some(first) = self.scheduled.first_entry() {
            let (run_at, seq) = *first.key();
            if run_at > now {
                break;
            }
            if moved >= limit {
                self.ready_before = (run_at, seq);
                break;
            }
            moved += 1;
            let line = first.remove();
            self.lines[line as usize].scheduled -= 1;
            self.put_ready(line, run_at, seq);
        }
        for job in self.with_deadline_between(before, now) {
            self.take_due(job);
            self.lines[job.line as usize].late += 1;
        }
        self.ready_before == just_after(now)
    }

    /// The clock was set back: nothing may start early by it.
    fn turn_back(&mut self, now: Timestamp) {
        for job in self.with_deadline_between(now, self.now) {
            self.lines[job.line as usize].late -= 1;
            self.put_due(job);
        }
        let mut early = Vec::new();
        for (id, line) in (0..).zip(&self.lines) {
            early.extend(
                line.ready
                    .range(just_after(now)..)
                    .map(|(at, seq)| (id, *at, *seq)),
            );
        }
        for (line, run_at, seq) in early {
            self.take_ready(line, run_at, seq);
            self.scheduled.insert((run_at, seq), line);
            self.lines[line as usize].scheduled += 1;
        }
    }

    // --- the places, without a note ---

    fn is_late(&self, job: Waiting) -> bool {
        job.deadline.is_some_and(|deadline| deadline < self.now)
    }

    fn late(&self) -> impl Iterator<Item = (&(Timestamp, i64), &Waiting)> {
        self.deadlines.range(..(self.now, i64::MIN))
    }

    fn with_deadline_between(&self, from: Timestamp, to: Timestamp) -> Vec<Waiting> {
        if from >= to {
            return Vec::new();
        }
        let range = (from, i64::MIN)..(to, i64::MIN);
        self.deadlines.range(range).map(|(_, job)| *job).collect()
    }

    fn put(&mut self, job: Waiting) {
        if let Some(deadline) = job.deadline {
            self.deadlines.insert((deadline, job.seq), job);
        }
        self.queues.waits(self.lines[job.line as usize].queue_id);
        if self.is_late(job) {
            self.lines[job.line as usize].late += 1;
        } else {
            self.put_due(job);
        }
    }

    fn take(&mut self, job: Waiting) {
        self.emptied.push(job.line);
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, job.seq));
        }
        let queue_id = self.lines[job.line as usize].queue_id;
        self.queues.waits_no_more(queue_id);
        if self.is_late(job) {
            self.lines[job.line as usize].late -= 1;
        } else {
            self.take_due(job);
        }
    }

    fn is_ready(&self, job: Waiting) -> bool {
        (job.run_at, job.seq) < self.ready_before
    }

    fn put_due(&mut self, job: Waiting) {
        if self.is_ready(job) {
            self.put_ready(job.line, job.run_at, job.seq);
        } else {
            self.lines[job.line as usize].scheduled += 1;
            self.scheduled.insert((job.run_at, job.seq), job.line);
        }
    }

    fn take_due(&mut self, job: Waiting) {
        if self.is_ready(job) {
            self.take_ready(job.line, job.run_at, job.seq);
        } else {
            self.lines[job.line as usize].scheduled -= 1;
            self.scheduled.remove(&(job.run_at, job.seq));
        }
    }

    fn put_ready(&mut self, id: LineId, run_at: Timestamp, seq: i64) {
        let line = &mut self.lines[id as usize];
        let first = line.ready.first().copied();
        line.ready.insert((run_at, seq));
        if line.paused || first.is_some_and(|first| first < (run_at, seq)) {
            return;
        }
        let heads = &mut self.tasks[line.task].heads;
        if let Some((at, seq)) = first {
            heads.remove(&(line.priority, at, seq));
        }
        heads.insert((line.priority, run_at, seq), id);
    }

    fn take_ready(&mut self, id: LineId, run_at: Timestamp, seq: i64) {
        let line = &mut self.lines[id as usize];
        line.ready.remove(&(run_at, seq));
        let heads = &mut self.tasks[line.task].heads;
        if heads.remove(&(line.priority, run_at, seq)).is_some()
            && let Some((at, seq)) = line.ready.first()
        {
            heads.insert((line.priority, *at, *seq), id);
        }
    }

    fn put_running(&mut self, seq: i64, job: Running) {
        self.lines[job.line as usize].running += 1;
        self.expiries.insert((self.expiry(&job.status), seq));
        self.running.insert(seq, job);
    }

    fn take_running(&mut self, seq: i64) -> Option<Running> {
        let job = self.running.remove(&seq)?;
        self.lines[job.line as usize].running -= 1;
        self.emptied.push(job.line);
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

    fn free_empty_lines(&mut self) {
        while let Some(id) = self.emptied.pop() {
            let line = &self.lines[id as usize];
            let key = (line.task, line.queue.clone(), line.priority);
            // A line that was noted twice is freed once.
            if line.is_empty() && self.line_of.get(&key) == Some(&id) {
                self.queues.take_line(&key.1, line.queue_id);
                self.line_of.remove(&key);
                self.free.push(id);
            }
        }
    }
}

/// Returns what is after all that is due at `now`.
fn just_after(now: Timestamp) -> (Timestamp, i64) {
    (now.after(TICK), i64::MIN)
}

#[cfg(test)]
mod tests;
