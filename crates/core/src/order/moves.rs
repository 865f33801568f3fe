//! What happens to jobs: they come to wait and go, start and end.

use super::lanes::{GroupId, LaneId, LineId, Turn};
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
        self.emptied.push(job.lane);
        if let Some(deadline) = job.deadline {
            self.deadlines.remove(&(deadline, job.seq));
        }
        let queue = self.queue_at(job.lane);
        self.queues[queue].waiting -= 1;
        if self.is_late(job) {
            self.lanes[job.lane as usize].others -= 1;
        } else {
            self.take_due(job);
        }
    }

    /// Lets a waiting job start that [`Order::next`] gave: takes it away, moves turns and rates on,
    /// and counts it as running. Returns how far its queue's rate had come before.
    pub fn start(&mut self, job: Waiting) -> Pace {
        let line = self.lanes[job.lane as usize].line;
        let (turn, queue) = (self.lines[line].turn, self.lines[line].queue);
        let mark = self.queues[queue].mark;
        let (next, mark) = self.class_mut(line).start(turn, mark);
        self.displace(job);
        self.set_turn(line, next);
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
        self.forget_passed(queue, self.lines[line].priority);
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
        self.emptied.push(lane);
        self.lanes[lane as usize].others -= 1;
        self.count_running(lane, |running| running - 1);
    }

    fn count_running(&mut self, lane: LaneId, count: impl Fn(u64) -> u64) {
        let (task, line) = self.task_and_line(lane);
        let (queue, group) = (self.lines[line].queue, self.lines[line].group);
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
        let (task, line) = self.task_and_line(id);
        let (queue, ready) = (self.lines[line].queue, self.lines[line].ready);
        let mark = self.queues[queue].mark;
        if self.queues[queue].ready == 0 {
            let of = &mut self.queues[queue];
            of.turn = of.turn.max(self.turn);
        }
        let turn = self.lines[line].turn;
        let class = self.class_mut(line);
        let begins = if ready == 0 {
            class.turn_for(turn)
        } else {
            turn
        };
        class.add(job, mark);
        class.move_line(line, (turn, ready), (begins, ready + 1));
        self.lines[line].turn = begins;
        self.lines[line].ready += 1;
        self.with_head(id, |order| order.lanes[id as usize].ready.insert(job));
        let of = &mut self.queues[queue];
        of.ready += 1;
        of.part(task).ready += 1;
        self.settle(queue);
    }

    pub(super) fn take_ready(&mut self, id: LaneId, job: Turn) {
        let (task, line) = self.task_and_line(id);
        let (queue, turn, ready) = {
            let line = &self.lines[line];
            (line.queue, line.turn, line.ready)
        };
        let mut was_there = false;
        self.with_head(id, |order| {
            was_there = order.lanes[id as usize].ready.remove(job);
        });
        debug_assert!(was_there, "it was among the ready jobs of its lane");
        let class = self.class_mut(line);
        class.move_line(line, (turn, ready), (turn, ready - 1));
        class.subtract();
        self.lines[line].ready -= 1;
        let of = &mut self.queues[queue];
        of.ready -= 1;
        of.part(task).ready -= 1;
        self.settle(queue);
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

    /// Gives a line another turn.
    fn set_turn(&mut self, id: LineId, turn: u64) {
        let (before, ready) = (self.lines[id].turn, self.lines[id].ready);
        let class = self.class_mut(id);
        class.move_line(id, (before, ready), (turn, ready));
        for at in 0..self.lines[id].lanes.len() {
            let lane = self.lines[id].lanes[at];
            let Some(head) = self.head(lane) else {
                continue;
            };
            let (part, priority, is_full) = self.part_of(lane);
            part.remove_head(priority, is_full, head);
            part.add_head(priority, is_full, (turn, head.1, head.2), lane);
        }
        self.lines[id].turn = turn;
    }

    pub(super) fn head(&self, id: LaneId) -> Option<Head> {
        let lane = &self.lanes[id as usize];
        let (run_at, seq) = lane.ready.first()?;
        Some((self.lines[lane.line].turn, run_at, seq))
    }

    fn part_of(&mut self, id: LaneId) -> (&mut Part, Priority, bool) {
        let (task, line) = self.task_and_line(id);
        let line = &self.lines[line];
        let is_full = self.groups[line.group].is_full;
        (self.queues[line.queue].part(task), line.priority, is_full)
    }

    pub(super) fn task_and_line(&self, id: LaneId) -> (usize, LineId) {
        let lane = &self.lanes[id as usize];
        (lane.task, lane.line)
    }

    pub(super) fn queue_at(&self, id: LaneId) -> QueueId {
        self.lines[self.lanes[id as usize].line].queue
    }

    /// Forgets lines of a priority whose turn has passed while they had nothing.
    fn forget_passed(&mut self, queue: QueueId, priority: Priority) {
        while let Some(line) = self.queues[queue].class_or_new(priority).next_passed() {
            self.forget_line(line);
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
        let queue = group.queue;
        self.groups[id].is_full = is_full;
        for line in self.groups[id].lines.clone() {
            let (priority, lanes) = (self.lines[line].priority, self.lines[line].lanes.clone());
            for lane in lanes {
                let Some(head) = self.head(lane) else {
                    continue;
                };
                let task = self.lanes[lane as usize].task;
                let part = self.queues[queue].part(task);
                part.remove_head(priority, !is_full, head);
                part.add_head(priority, is_full, head, lane);
            }
        }
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
