//! Where a waiting job stands in its queue, and what holds it back.

use crate::{QueueRule, Timestamp};

/// Where a waiting job stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// What is ahead of it; none while its `run_at` lies ahead.
    pub position: Option<Position>,
    /// How many jobs of its queue are likely to start before it, those that come later apart.
    /// Fewer than are ahead of it where others are more urgent, and more where it is: priorities
    /// have shares.
    pub starts_before: u64,
    /// What holds for its queue.
    pub rule: QueueRule,
    /// Jobs of its queue that may start.
    pub ready: u64,
    /// Jobs of its queue that run.
    pub running: u64,
    /// Jobs of its queue and task that may start.
    pub task_ready: u64,
    /// Jobs of its queue and task that run.
    pub task_running: u64,
    /// Jobs of its group that run, in its queue; 0 where it has no group.
    pub group_running: u64,
    /// When its queue's rate lets the next job start; none: it is not the rate that holds it.
    pub next_start_at: Option<Timestamp>,
}

impl Place {
    /// Returns how many jobs of its own task are likely to start before it, at most.
    pub fn task_before(&self) -> u64 {
        self.starts_before.min(self.task_ready)
    }
}

/// What is ahead of a ready job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Ready jobs of its queue ahead of it by priority and order.
    pub ahead: u64,
    /// Whether that is their number and no estimate: up to
    /// [`POSITION_EXACT_MAX`](crate::limits::POSITION_EXACT_MAX) it is.
    pub is_exact: bool,
}
