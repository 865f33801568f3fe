//! Which job is next.

use super::Order;
use super::lanes::LaneId;
use super::queue::{PRIORITIES, QueueId, TaskId};
use crate::Name;

/// Where the next jobs of a claim come from.
#[derive(Debug)]
pub struct Sources {
    tasks: Vec<TaskId>,
    /// None: any queue.
    queues: Option<Vec<QueueId>>,
}

impl Order {
    /// Returns where a claim's jobs come from, as far as there are any.
    pub fn sources(&self, tasks: &[Name], queues: Option<&[Name]>) -> Sources {
        let tasks = tasks.iter().filter_map(|name| self.task_of.get(name));
        let mut tasks: Vec<TaskId> = tasks.copied().collect();
        tasks.sort_unstable();
        tasks.dedup();
        let known = |queues: &[Name]| {
            let known = queues.iter().filter_map(|name| self.queue_of.get(name));
            known.copied().collect()
        };
        Sources {
            tasks,
            queues: queues.map(known),
        }
    }

    /// Tells whether any job may start now.
    pub fn has_ready(&self) -> bool {
        self.tasks.iter().any(|task| !task.open.is_empty())
    }

    /// Returns the job that is next, by its place in the order of submission, and where it waits.
    pub fn next(&self, sources: &Sources) -> Option<(i64, LaneId)> {
        let queue = self.next_queue(sources)?;
        let priority = self.next_priority(queue, &sources.tasks)?;
        let parts = &self.queues[queue].parts;
        let parts = sources.tasks.iter().filter_map(|task| parts.get(task));
        let heads = parts.filter_map(|part| part.heads(priority, false).first_key_value());
        let ((_, _, seq), lane) = heads.min()?;
        Some((*seq, *lane))
    }

    fn next_queue(&self, sources: &Sources) -> Option<QueueId> {
        let Some(queues) = &sources.queues else {
            let tasks = sources.tasks.iter();
            let first = tasks.filter_map(|task| self.tasks[*task].open.first());
            return first.min().map(|(_, queue)| *queue);
        };
        let is_open = |queue: &&QueueId| {
            let parts = &self.queues[**queue].parts;
            let mut parts = sources.tasks.iter().filter_map(|task| parts.get(task));
            parts.any(|part| part.open_at.is_some())
        };
        let turn = |queue: &&QueueId| (self.queues[**queue].turn, **queue);
        queues.iter().filter(is_open).min_by_key(turn).copied()
    }

    /// Returns the priority whose turn it is, of those with jobs of these tasks.
    fn next_priority(&self, queue: QueueId, tasks: &[TaskId]) -> Option<usize> {
        let queue = &self.queues[queue];
        let has_heads = |priority: usize| {
            let mut parts = tasks.iter().filter_map(|task| queue.parts.get(task));
            parts.any(|part| !part.heads(priority, false).is_empty())
        };
        debug_assert_eq!(PRIORITIES, 10, "few enough to look at each");
        let classes = queue.classes().filter(|(priority, _)| has_heads(*priority));
        let next = classes.min_by_key(|(priority, class)| (class.mark, *priority));
        next.map(|(priority, _)| priority)
    }
}
