//! A queue: what holds for it, what holds it back, and the first jobs of its lanes.

use super::class::Class;
use super::lanes::{GroupId, LaneId};
use crate::limits::PRIORITY_MAX;
use crate::{Label, Name, Pace, Priority, QueueRule, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};

pub(super) type TaskId = usize;
pub(super) type QueueId = usize;

pub(super) const PRIORITIES: usize = PRIORITY_MAX as usize + 1;

/// The first ready job of a lane: the turn of its flow, then `run_at` and key.
pub(super) type Head = (u64, Timestamp, i64);

/// A task, with the queues that have jobs of it to be started.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) name: Name,
    /// By turn; of one turn, the first that ever had jobs.
    pub(super) open: BTreeSet<(u64, QueueId)>,
}

impl Task {
    pub(super) const fn new(name: Name) -> Self {
        Self {
            name,
            open: BTreeSet::new(),
        }
    }
}

#[derive(Debug)]
pub(super) struct Queue {
    pub(super) name: Name,
    pub(super) rule: QueueRule,
    /// Jobs that are scheduled, ready or late.
    pub(super) waiting: u64,
    pub(super) ready: u64,
    pub(super) running: u64,
    /// How far its rate has come.
    pub(super) pace: Pace,
    /// Its next turn among the queues.
    pub(super) turn: u64,
    /// Where its latest start moved its mark.
    pub(super) mark: u64,
    /// None of its jobs may start now.
    pub(super) is_held: bool,
    /// Until when its rate holds it, where that is all that does.
    pub(super) rate_wait: Option<Timestamp>,
    classes: [Option<Box<Class>>; PRIORITIES],
    pub(super) parts: BTreeMap<TaskId, Part>,
    groups: HashMap<Label, GroupId>,
    groupless: Option<GroupId>,
}

/// The unfinished jobs of a task in a queue.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) scheduled: u64,
    pub(super) ready: u64,
    pub(super) running: u64,
    /// It is among the open queues of its task, at this turn.
    pub(super) open_at: Option<u64>,
    /// The first jobs of its lanes, by priority.
    heads: [BTreeMap<Head, LaneId>; PRIORITIES],
    /// Those of lanes whose group is full.
    full: [BTreeMap<Head, LaneId>; PRIORITIES],
    /// How many heads there are.
    count: usize,
}

impl Queue {
    pub(super) fn new(name: Name, rule: QueueRule) -> Self {
        Self {
            name,
            rule,
            waiting: 0,
            ready: 0,
            running: 0,
            pace: Pace::default(),
            turn: 0,
            mark: 0,
            is_held: false,
            rate_wait: None,
            classes: Default::default(),
            parts: BTreeMap::new(),
            groups: HashMap::new(),
            groupless: None,
        }
    }

    pub(super) fn class(&self, priority: Priority) -> Option<&Class> {
        self.classes[usize::from(priority.get())].as_deref()
    }

    pub(super) fn class_or_new(&mut self, priority: Priority) -> &mut Class {
        let class = &mut self.classes[usize::from(priority.get())];
        class.get_or_insert_with(|| Box::new(Class::new(priority)))
    }

    /// Returns the classes, the most urgent first.
    pub(super) fn classes(&self) -> impl Iterator<Item = (usize, &Class)> {
        let all = self.classes.iter().enumerate();
        all.filter_map(|(number, class)| Some((number, class.as_deref()?)))
    }

    pub(super) fn part(&mut self, task: TaskId) -> &mut Part {
        self.parts.entry(task).or_default()
    }

    pub(super) fn group(&self, label: Option<&Label>) -> Option<GroupId> {
        label.map_or(self.groupless, |label| self.groups.get(label).copied())
    }

    pub(super) fn add_group(&mut self, label: Option<&Label>, id: GroupId) {
        match label {
            Some(label) => drop(self.groups.insert(label.clone(), id)),
            None => self.groupless = Some(id),
        }
    }

    pub(super) fn remove_group(&mut self, label: Option<&Label>) {
        match label {
            Some(label) => drop(self.groups.remove(label)),
            None => self.groupless = None,
        }
    }

    pub(super) fn groups(&self) -> Vec<GroupId> {
        self.groups.values().copied().collect()
    }

    /// Returns when its rate lets the next job start; none: it does not hold any.
    pub(super) fn next_start_at(&self, now: Timestamp) -> Option<Timestamp> {
        let limit = self.rule.rate_limit?;
        let free_at = limit.free_at(limit.clamped(self.pace, now));
        Some(free_at).filter(|at| *at > now)
    }

    /// Tells whether none of its jobs may start, whatever its rate says.
    pub(super) fn is_stopped(&self) -> bool {
        let most = self.rule.max_concurrency;
        self.rule.paused || most.is_some_and(|most| self.running >= most)
    }
}

impl Part {
    /// Returns the first jobs of a priority's lanes; of those, with `full`, whose group is full.
    pub(super) fn heads(&self, priority: usize, full: bool) -> &BTreeMap<Head, LaneId> {
        if full {
            &self.full[priority]
        } else {
            &self.heads[priority]
        }
    }

    pub(super) const fn has_heads(&self) -> bool {
        self.count > 0
    }

    pub(super) fn add_head(&mut self, priority: Priority, full: bool, head: Head, lane: LaneId) {
        let priority = usize::from(priority.get());
        if full {
            self.full[priority].insert(head, lane);
        } else {
            self.heads[priority].insert(head, lane);
            self.count += 1;
        }
    }

    pub(super) fn remove_head(&mut self, priority: Priority, full: bool, head: Head) {
        let priority = usize::from(priority.get());
        if full {
            self.full[priority].remove(&head);
        } else if self.heads[priority].remove(&head).is_some() {
            self.count -= 1;
        }
    }
}
