//! Where a waiting job stands.

use super::class::Counted;
use super::lanes::{FlowId, Turn};
use super::queue::{PRIORITIES, Queue, TaskId};
use super::{Order, Waiting};
use crate::limits::POSITION_EXACT_MAX;
use crate::{Label, Name, Place, Position, Priority, Timestamp};

/// A job that is asked about before there is one.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// Its task.
    pub task: &'a Name,
    /// Its queue.
    pub queue: &'a Name,
    /// Its group.
    pub group: Option<&'a Label>,
    /// How urgent it is.
    pub priority: Priority,
}

/// Where a job stands in its flow, and its flow among the others.
#[derive(Clone, Copy)]
struct Standing {
    flow: Option<FlowId>,
    /// The turn that it has.
    turn: u64,
    job: Turn,
}

impl Order {
    /// Returns where a waiting job stands.
    pub fn place_of(&self, job: Waiting) -> Place {
        let (task, id) = self.task_and_flow(job.lane);
        let flow = &self.flows[id];
        let queue = &self.queues[flow.queue];
        let running = self.groups[flow.group].running;
        let has_group = self.groups[flow.group].label.is_some();
        let mut place = self.place_in(queue, Some(task), if has_group { running } else { 0 });
        if self.is_late(job) || !self.is_ready(job) {
            return place;
        }
        let key = (job.run_at, job.seq);
        let rank = self.before_in(id, key);
        let class = queue.class(flow.priority);
        let standing = Standing {
            flow: Some(id),
            turn: class.map_or(0, |class| class.turn_at(flow.turn, rank)),
            job: key,
        };
        self.position(&mut place, queue, flow.priority, standing);
        place
    }

    /// Returns where a job would stand that comes now.
    pub fn place_of_new(&self, asked: Asked<'_>) -> Place {
        let Some(&id) = self.queue_of.get(asked.queue) else {
            return Place {
                position: Some(position(0, true)),
                rule: self.rule(asked.queue),
                ..Place::default()
            };
        };
        let queue = &self.queues[id];
        let task = self.task_of.get(asked.task).copied();
        let group = queue.group(asked.group).map(|id| &self.groups[id]);
        let running = group.filter(|group| group.label.is_some());
        let mut place = self.place_in(queue, task, running.map_or(0, |group| group.running));
        let of_priority = |id: &&FlowId| self.flows[**id].priority == asked.priority;
        let flow = group.and_then(|group| group.flows.iter().find(of_priority));
        let (next, ready) = flow.map_or((0, 0), |id| (self.flows[*id].turn, self.flows[*id].ready));
        let class = queue.class(asked.priority);
        let turn = class.map_or(0, |class| class.turn_for(next) + ready);
        let standing = Standing {
            flow: flow.copied().filter(|_| ready > 0),
            turn,
            job: (Timestamp::MAX, i64::MAX),
        };
        self.position(&mut place, queue, asked.priority, standing);
        place
    }

    fn place_in(&self, queue: &Queue, task: Option<TaskId>, group_running: u64) -> Place {
        let part = task.and_then(|task| queue.parts.get(&task));
        Place {
            position: None,
            starts_before: 0,
            rule: queue.rule,
            ready: queue.ready,
            running: queue.running,
            task_ready: part.map_or(0, |part| part.ready),
            task_running: part.map_or(0, |part| part.running),
            group_running,
            next_start_at: queue.next_start_at(self.now),
        }
    }

    /// Adds how many jobs are ahead of one.
    fn position(&self, place: &mut Place, queue: &Queue, priority: Priority, standing: Standing) {
        let number = usize::from(priority.get());
        let classes = || queue.classes().map(|(other, class)| (other, class.ready));
        let urgent = classes().filter(|(other, _)| *other < number);
        let urgent: u64 = urgent.map(|(_, ready)| ready).sum();
        let (ahead, is_exact) = self.ahead_in_class(queue, priority, standing, urgent);
        let others = classes().filter(|(other, _)| *other != number);
        let starts = others.map(|(other, ready)| ready.min(share(ahead + 1, number, other)));
        place.position = Some(position(urgent + ahead, is_exact));
        place.starts_before = ahead + starts.sum::<u64>();
    }

    /// Returns how many jobs of its own priority are ahead of one, and whether that is certain.
    fn ahead_in_class(
        &self,
        queue: &Queue,
        priority: Priority,
        standing: Standing,
        urgent: u64,
    ) -> (u64, bool) {
        let Some(class) = queue.class(priority).filter(|class| class.ready > 0) else {
            return (0, true);
        };
        let Standing { flow, turn, job } = standing;
        let Counted {
            before,
            at,
            is_certain,
        } = class.before(turn, |flow| self.flows[flow].ready);
        // Its own flow has it, or would have it behind all others.
        let has_own = flow.is_some() && job.0 < Timestamp::MAX;
        let ties = at - u64::from(has_own);
        if ties == 0 || class.is_last(job) {
            return (before + ties, is_certain);
        }
        if urgent + before > POSITION_EXACT_MAX || !is_certain {
            return (before + ties / 2, false);
        }
        // No more flows than that have begun before, since each has a job there.
        let mut ahead = before;
        class.walk_before(turn, |other| {
            let rank = class.rank_at(self.flows[other].turn, turn);
            let is_ahead = rank.is_some_and(|rank| self.before_in(other, job) > rank);
            ahead += u64::from(flow != Some(other) && is_ahead);
        });
        let beginning = self.beginning_at(queue, priority, standing, POSITION_EXACT_MAX);
        (ahead + beginning, true)
    }

    /// Counts the flows whose first job has the turn of another and is ahead of it, up to a few more
    /// than `enough`.
    fn beginning_at(
        &self,
        queue: &Queue,
        priority: Priority,
        standing: Standing,
        enough: u64,
    ) -> u64 {
        let Standing { flow, turn, job } = standing;
        let range = (turn, Timestamp::MIN, i64::MIN)..(turn, job.0, job.1);
        let mut count = 0;
        for part in queue.parts.values() {
            for full in [false, true] {
                let heads = part.heads(usize::from(priority.get()), full);
                for lane in heads.range(range.clone()).map(|(_, lane)| *lane) {
                    if count > enough {
                        return count;
                    }
                    // A flow may have a lane for each of several tasks: it counts once.
                    let of = self.lanes[lane as usize].flow;
                    let lanes = self.flows[of].lanes.iter();
                    let first = lanes.filter_map(|id| Some((self.head(*id)?, *id))).min();
                    let is_first = first.is_some_and(|(_, id)| id == lane);
                    count += u64::from(flow != Some(of) && is_first);
                }
            }
        }
        count
    }

    /// Returns how many ready jobs of a flow are before one of its priority.
    fn before_in(&self, flow: FlowId, job: Turn) -> u64 {
        let lanes = self.flows[flow].lanes.iter();
        let lanes = lanes.map(|id| &self.lanes[*id as usize]);
        lanes.map(|lane| lane.ready.before(job).count).sum()
    }
}

/// Returns how many jobs of the priority `other` start while `starts` of the priority `own` do.
fn share(starts: u64, own: usize, other: usize) -> u64 {
    debug_assert!(own < PRIORITIES && other < PRIORITIES);
    if other < own {
        starts.saturating_mul(1 << (own - other))
    } else {
        starts >> (other - own)
    }
}

fn position(ahead: u64, is_exact: bool) -> Position {
    Position {
        ahead,
        is_exact: is_exact && ahead <= POSITION_EXACT_MAX,
    }
}
