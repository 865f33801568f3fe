//! Where jobs wait: a flow, as fair queueing calls it, for each priority of a group, and in it a
//! lane for each task.

use super::Order;
use super::class::Class;
use super::queue::{Queue, QueueId, Task, TaskId};
use super::ranked::{Key, Ranked};
use crate::{Label, Name, Priority, Timestamp};

/// Where the jobs of one task, queue, priority and group wait.
pub type LaneId = u32;

pub(super) type FlowId = usize;
pub(super) type GroupId = usize;

/// Order among the ready jobs of a lane.
pub(super) type Turn = (Timestamp, i64);

impl Key for Turn {
    fn weight(self) -> u64 {
        0
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) task: TaskId,
    pub(super) flow: FlowId,
    pub(super) ready: Ranked<Turn>,
    /// Its other jobs: scheduled, late and running ones.
    pub(super) others: u64,
}

/// The jobs of a group of one priority.
#[derive(Debug)]
pub(super) struct Flow {
    pub(super) queue: QueueId,
    pub(super) priority: Priority,
    pub(super) group: GroupId,
    pub(super) lanes: Vec<LaneId>,
    /// The turn of its first ready job; without one, that of the next to come.
    pub(super) turn: u64,
    pub(super) ready: u64,
}

/// The jobs of a queue that name the same group, or none.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) queue: QueueId,
    pub(super) label: Option<Label>,
    pub(super) flows: Vec<FlowId>,
    pub(super) running: u64,
    /// As many of its jobs run as may: none is among the heads.
    pub(super) is_full: bool,
}

pub(super) fn lane_id(index: usize) -> LaneId {
    LaneId::try_from(index).expect("a lane has jobs, and they fit in memory")
}

impl Order {
    /// Returns where jobs of a task, queue, group and priority wait. It stays for as long as there
    /// are any, and until the next [`Order::tidy`].
    pub fn lane(
        &mut self,
        task: &Name,
        queue: &Name,
        group: Option<&Label>,
        priority: Priority,
    ) -> LaneId {
        let task = self.task(task);
        let queue = self.queue(queue);
        let group = self.group(queue, group);
        let flow = self.flow(group, priority);
        let lanes = self.flows[flow].lanes.iter();
        if let Some(lane) = lanes
            .copied()
            .find(|id| self.lanes[*id as usize].task == task)
        {
            return lane;
        }
        let lane = self.lanes.insert(Lane {
            task,
            flow,
            ready: Ranked::new(),
            others: 0,
        });
        let lane = lane_id(lane);
        self.flows[flow].lanes.push(lane);
        self.queues[queue].part(task);
        self.emptied.push(lane);
        lane
    }

    fn task(&mut self, name: &Name) -> TaskId {
        if let Some(&id) = self.task_of.get(name) {
            return id;
        }
        let id = self.tasks.len();
        self.tasks.push(Task::new(name.clone()));
        self.task_of.insert(name.clone(), id);
        id
    }

    pub(super) fn queue(&mut self, name: &Name) -> QueueId {
        if let Some(&id) = self.queue_of.get(name) {
            return id;
        }
        let id = self.queues.len();
        let rule = self.rule(name);
        self.queues.push(Queue::new(name.clone(), rule));
        self.queue_of.insert(name.clone(), id);
        self.settle(id);
        id
    }

    fn group(&mut self, queue: QueueId, label: Option<&Label>) -> GroupId {
        if let Some(id) = self.queues[queue].group(label) {
            return id;
        }
        let id = self.groups.insert(Group {
            queue,
            label: label.cloned(),
            flows: Vec::new(),
            running: 0,
            is_full: false,
        });
        self.queues[queue].add_group(label, id);
        id
    }

    fn flow(&mut self, group: GroupId, priority: Priority) -> FlowId {
        let flows = self.groups[group].flows.iter();
        if let Some(flow) = flows
            .copied()
            .find(|id| self.flows[*id].priority == priority)
        {
            return flow;
        }
        let queue = self.groups[group].queue;
        self.queues[queue].class_or_new(priority);
        let flow = self.flows.insert(Flow {
            queue,
            priority,
            group,
            lanes: Vec::new(),
            turn: 0,
            ready: 0,
        });
        self.groups[group].flows.push(flow);
        flow
    }

    /// Returns the class of a flow.
    pub(super) fn class_mut(&mut self, flow: FlowId) -> &mut Class {
        let Flow {
            queue, priority, ..
        } = self.flows[flow];
        self.queues[queue].class_or_new(priority)
    }

    /// Forgets where nobody waits any more. The lanes of a transaction that may still be undone are
    /// not to be forgotten before its end.
    pub fn tidy(&mut self) {
        while let Some(id) = self.emptied.pop() {
            // One that was noted twice is forgotten once.
            let Some(lane) = self.lanes.get(id as usize) else {
                continue;
            };
            if lane.others > 0 || !lane.ready.is_empty() {
                continue;
            }
            let flow = lane.flow;
            self.lanes.remove(id as usize);
            self.flows[flow].lanes.retain(|lane| *lane != id);
            self.forget_flow(flow);
        }
    }

    /// Forgets a flow without lanes, unless the turn that it took last is still to count.
    pub(super) fn forget_flow(&mut self, id: FlowId) {
        let flow = &self.flows[id];
        if !flow.lanes.is_empty() {
            return;
        }
        let (turn, group, queue) = (flow.turn, flow.group, flow.queue);
        if !self.class_mut(id).may_forget(id, turn) {
            return;
        }
        self.flows.remove(id);
        let of = &mut self.groups[group];
        of.flows.retain(|flow| *flow != id);
        if of.flows.is_empty() {
            let group = self.groups.remove(group);
            self.queues[queue].remove_group(group.label.as_ref());
        }
    }
}
