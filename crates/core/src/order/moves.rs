//! What happens to jobs: they come to wait and go, start and end.

use super::lanes::{Flow, FlowId, GroupId, LaneId, Turn};
use super::queue::{Head, Part, QueueId};
use super::{Order, Waiting};
use crate::{Pace, Priority};

impl Order {
    /// Adds a waiting job.
    pub fn place(&mut self, job: Waiting) {
        if let Some(deadline) = job.deadline {
            self.deadlines.insert((deadline, job.seq), job);
        }
        let queue = self.queue_at(job.lane);
        self.queues[queue].waiting += 1;
        if self.is_late(job) {
            self.lanes[job.lane as usize].others += 1;
        } else {
            self.put_due(job);
        }
    }

    /// Takes a waiting job away.
    pub fn displace(&mut self, job: Waiting) {
        self.leave(job);
        if self.is_late(job) {
            self.lanes[job.lane as usize].others -= 1;
        } else {
            self.take_due(job);
        }
        self.note_if_empty(job.lane);
    }

    fn leave(&mut self, job: Waiting) {
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, job.seq));
        }
        let queue = self.queue_at(job.lane);
        self.queues[queue].waiting -= 1;
    }

    /// Lets a waiting job start that [`Order::next`] gave: takes it away, moves turns and rates on,
    /// and counts it as running. Returns how far its queue's rate had come before.
    pub fn start(&mut self, job: Waiting) -> Pace {
        let flow = self.lanes[job.lane as usize].flow;
        let (turn, queue) = (self.flows[flow].turn, self.flows[flow].queue);
        let mark = self.queues[queue].mark;
        let (next, mark) = self.class_mut(flow).start(turn, mark);
        self.leave(job);
        self.take_from_flow(job.lane, (job.run_at, job.seq), next);
        let of = &mut self.queues[queue];
        of.mark = mark;
        self.turn = self.turn.max(of.turn);
        of.turn = self.turn + 1;
        let before = of.pace;
        if let Some(limit) = of.rule.rate_limit {
            of.pace = limit.after_one(limit.clamped(before, self.now), self.now);
            self.paced.insert(queue);
        }
        self.begin(job.lane);
        self.forget_passed(queue, self.flows[flow].priority);
        before
    }

    /// Undoes a start, and what it did to its queue's rate. Turns stay where they are.
    pub fn undo_start(&mut self, job: Waiting, before: Pace) {
        let queue = self.queue_at(job.lane);
        self.queues[queue].pace = before;
        self.end(job.lane);
        self.place(job);
    }

    /// Counts a job as running.
    pub fn begin(&mut self, lane: LaneId) {
        self.lanes[lane as usize].others += 1;
        self.count_running(lane, |running| running + 1);
    }

    /// Counts a running job no more.
    pub fn end(&mut self, lane: LaneId) {
        self.lanes[lane as usize].others -= 1;
        self.count_running(lane, |running| running - 1);
        self.note_if_empty(lane);
    }

    fn note_if_empty(&mut self, id: LaneId) {
        let lane = &self.lanes[id as usize];
        if lane.others == 0 && lane.ready.is_empty() {
            self.emptied.push(id);
        }
    }

    fn count_running(&mut self, lane: LaneId, count: impl Fn(u64) -> u64) {
        let (task, flow) = self.task_and_flow(lane);
        let (queue, group) = (self.flows[flow].queue, self.flows[flow].group);
        let of = &mut self.groups[group];
        of.running = count(of.running);
        let of = &mut self.queues[queue];
        of.running = count(of.running);
        let part = of.part(task);
        part.running = count(part.running);
        self.settle_group(group);
        self.settle(queue);
    }

    // --- ready jobs ---

    pub(super) fn put_ready(&mut self, id: LaneId, job: Turn) {
        let (task, flow) = self.task_and_flow(id);
        let (queue, ready) = (self.flows[flow].queue, self.flows[flow].ready);
        let mark = self.queues[queue].mark;
        if self.queues[queue].ready == 0 {
            let of = &mut self.queues[queue];
            of.turn = of.turn.max(self.turn);
        }
        let turn = self.flows[flow].turn;
        let class = self.class_mut(flow);
        let begins = if ready == 0 {
            class.turn_for(turn)
        } else {
            turn
        };
        class.add(job, mark);
        class.move_flow(flow, (turn, ready), (begins, ready + 1));
        self.flows[flow].turn = begins;
        self.flows[flow].ready += 1;
        self.with_head(id, |order| order.lanes[id as usize].ready.insert(job));
        let of = &mut self.queues[queue];
        of.ready += 1;
        of.part(task).ready += 1;
        self.settle(queue);
    }

    pub(super) fn take_ready(&mut self, id: LaneId, job: Turn) {
        let flow = &self.flows[self.lanes[id as usize].flow];
        let (queue, turn) = (flow.queue, flow.turn);
        self.take_from_flow(id, job, turn);
        self.settle(queue);
    }

    /// Takes a ready job out of its flow, whose first one has the turn `next` then.
    fn take_from_flow(&mut self, id: LaneId, job: Turn, next: u64) {
        let (task, flow) = self.task_and_flow(id);
        let Flow {
            queue, turn, ready, ..
        } = self.flows[flow];
        if turn == next {
            self.with_head(id, |order| order.take_from_lane(id, job));
        } else {
            self.heads_of(flow, |part, priority, is_full, head, _| {
                part.remove_head(priority, is_full, head);
            });
            self.take_from_lane(id, job);
            self.flows[flow].turn = next;
            self.heads_of(flow, Part::add_head);
        }
        self.flows[flow].ready -= 1;
        let class = self.class_mut(flow);
        class.move_flow(flow, (turn, ready), (next, ready - 1));
        class.subtract();
        let of = &mut self.queues[queue];
        of.ready -= 1;
        of.part(task).ready -= 1;
    }

    fn take_from_lane(&mut self, id: LaneId, job: Turn) {
        let was_there = self.lanes[id as usize].ready.remove(job);
        debug_assert!(was_there, "it was among the ready jobs of its lane");
    }

    /// Changes a lane, and with it its head.
    fn with_head(&mut self, id: LaneId, change: impl FnOnce(&mut Self)) {
        let before = self.head(id);
        change(self);
        let after = self.head(id);
        if before != after {
            let (part, priority, is_full) = self.part_of(id);
            if let Some(before) = before {
                part.remove_head(priority, is_full, before);
            }
            if let Some(after) = after {
                part.add_head(priority, is_full, after, id);
            }
        }
    }

    /// Does something with the heads of all lanes of a flow.
    fn heads_of(&mut self, flow: FlowId, what: impl Fn(&mut Part, Priority, bool, Head, LaneId)) {
        for at in 0..self.flows[flow].lanes.len() {
            let lane = self.flows[flow].lanes[at];
            if let Some(head) = self.head(lane) {
                let (part, priority, is_full) = self.part_of(lane);
                what(part, priority, is_full, head, lane);
            }
        }
    }

    pub(super) fn head(&self, id: LaneId) -> Option<Head> {
        let lane = &self.lanes[id as usize];
        let (run_at, seq) = lane.ready.first()?;
        Some((self.flows[lane.flow].turn, run_at, seq))
    }

    fn part_of(&mut self, id: LaneId) -> (&mut Part, Priority, bool) {
        let (task, flow) = self.task_and_flow(id);
        let flow = &self.flows[flow];
        let is_full = self.groups[flow.group].is_full;
        (self.queues[flow.queue].part(task), flow.priority, is_full)
    }

    pub(super) fn task_and_flow(&self, id: LaneId) -> (usize, FlowId) {
        let lane = &self.lanes[id as usize];
        (lane.task, lane.flow)
    }

    pub(super) fn queue_at(&self, id: LaneId) -> QueueId {
        self.flows[self.lanes[id as usize].flow].queue
    }

    /// Forgets flows of a priority whose turn has passed while they had nothing.
    fn forget_passed(&mut self, queue: QueueId, priority: Priority) {
        // More than a start adds, and never so many that anybody waits for it.
        for _ in 0..8 {
            let class = self.queues[queue].class_or_new(priority);
            let Some(flow) = class.next_passed() else {
                return;
            };
            self.forget_flow(flow);
        }
    }

    // --- what limits hold back ---

    /// Takes in what holds for a queue after that changed.
    pub(super) fn rule_anew(&mut self, id: QueueId) {
        let rule = self.rule(&self.queues[id].name);
        let before = std::mem::replace(&mut self.queues[id].rule, rule);
        if before.group_concurrency != rule.group_concurrency {
            for group in self.queues[id].groups() {
                self.settle_group(group);
            }
        }
        self.settle(id);
    }

    /// Hides or shows the heads of a group that has become full, or is so no more.
    fn settle_group(&mut self, id: GroupId) {
        let group = &self.groups[id];
        let most = self.queues[group.queue].rule.group_concurrency;
        let most = most.filter(|_| group.label.is_some());
        let is_full = most.is_some_and(|most| group.running >= most);
        if is_full == group.is_full {
            return;
        }
        for flow in self.groups[id].flows.clone() {
            self.heads_of(flow, |part, priority, was_full, head, lane| {
                part.remove_head(priority, was_full, head);
                part.add_head(priority, is_full, head, lane);
            });
        }
        self.groups[id].is_full = is_full;
    }

    /// Finds what holds a queue back, and opens it to its tasks or closes it.
    pub(super) fn settle(&mut self, id: QueueId) {
        let queue = &mut self.queues[id];
        let next_start_at = queue.next_start_at(self.now);
        let is_stopped = queue.is_stopped();
        let rate_wait = next_start_at.filter(|_| queue.ready > 0 && !is_stopped);
        if rate_wait != queue.rate_wait {
            if let Some(at) = queue.rate_wait {
                self.rate_waits.remove(&(at, id));
            }
            self.rate_waits.extend(rate_wait.map(|at| (at, id)));
            queue.rate_wait = rate_wait;
        }
        queue.is_held = is_stopped || next_start_at.is_some();
        for (task, part) in &mut queue.parts {
            let is_open = !queue.is_held && part.has_heads();
            let open_at = is_open.then_some(queue.turn);
            if open_at == part.open_at {
                continue;
            }
            let open = &mut self.tasks[*task].open;
            if let Some(turn) = part.open_at {
                open.remove(&(turn, id));
            }
            open.extend(open_at.map(|turn| (turn, id)));
            part.open_at = open_at;
        }
    }
}
