//! The passage of time: scheduled jobs become ready, deadlines go by, rates let more start.

use super::lanes::{Turn, lane_id};
use super::{Order, Waiting};
use crate::Timestamp;
use std::time::Duration;

/// The least that two instants differ by.
const TICK: Duration = Duration::from_millis(1);

/// Returns what is after all that is due at `now`.
pub(super) fn just_after(now: Timestamp) -> Turn {
    (now.after(TICK), i64::MIN)
}

impl Order {
    /// Returns the time that it goes by.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// Moves jobs to where they belong at `now`, and tells whether it is all of them: no more than
    /// `limit` become ready at once, so that nobody waits for all of very many.
    pub fn set_now(&mut self, now: Timestamp, limit: usize) -> bool {
        if now < self.now {
            self.turn_back(now);
        }
        let before = std::mem::replace(&mut self.now, now);
        self.let_rates_go_on();
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
            let lane = first.remove();
            self.count_scheduled(lane, |scheduled| scheduled - 1);
            self.put_ready(lane, (run_at, seq));
        }
        for job in self.with_deadline_between(before, now) {
            self.take_due(job);
            self.lanes[job.lane as usize].others += 1;
        }
        self.ready_before == just_after(now)
    }

    /// Returns when there is more to start by the passage of time alone.
    pub fn next_due(&self) -> Option<Timestamp> {
        let scheduled = self.scheduled.first_key_value().map(|(key, _)| key.0);
        let rate = self.rate_waits.first().map(|(at, _)| *at);
        scheduled.into_iter().chain(rate).min()
    }

    /// Returns the waiting jobs whose deadline went by, the longest overdue first, each with the
    /// first instant at which it was too late.
    pub fn ran_out(&self) -> impl Iterator<Item = (Timestamp, i64)> {
        // A job is still in time at the very instant.
        let too_late = |((deadline, seq), _): (&Turn, _)| (deadline.after(TICK), *seq);
        self.late().map(too_late)
    }

    fn let_rates_go_on(&mut self) {
        while let Some(&(at, queue)) = self.rate_waits.first()
            && at <= self.now
        {
            self.settle(queue);
        }
    }

    /// The clock was set back: nothing may start early by it.
    fn turn_back(&mut self, now: Timestamp) {
        for job in self.with_deadline_between(now, self.now) {
            self.lanes[job.lane as usize].others -= 1;
            self.put_due(job);
        }
        let mut early = Vec::new();
        for (id, lane) in &self.lanes {
            let id = lane_id(id);
            lane.ready.walk(just_after(now), |job| {
                early.push((id, job));
                true
            });
        }
        for (lane, job) in early {
            self.take_ready(lane, job);
            self.scheduled.insert(job, lane);
            self.count_scheduled(lane, |scheduled| scheduled + 1);
        }
        self.now = now;
        for id in 0..self.queues.len() {
            self.settle(id);
        }
    }

    pub(super) fn is_late(&self, job: Waiting) -> bool {
        job.deadline.is_some_and(|deadline| deadline < self.now)
    }

    pub(super) fn late(&self) -> impl Iterator<Item = (&Turn, &Waiting)> {
        self.deadlines.range(..(self.now, i64::MIN))
    }

    fn with_deadline_between(&self, from: Timestamp, to: Timestamp) -> Vec<Waiting> {
        if from >= to {
            return Vec::new();
        }
        let range = (from, i64::MIN)..(to, i64::MIN);
        self.deadlines.range(range).map(|(_, job)| *job).collect()
    }

    pub(super) fn is_ready(&self, job: Waiting) -> bool {
        (job.run_at, job.seq) < self.ready_before
    }

    pub(super) fn put_due(&mut self, job: Waiting) {
        if self.is_ready(job) {
            self.put_ready(job.lane, (job.run_at, job.seq));
        } else {
            self.scheduled.insert((job.run_at, job.seq), job.lane);
            self.count_scheduled(job.lane, |scheduled| scheduled + 1);
        }
    }

    pub(super) fn take_due(&mut self, job: Waiting) {
        if self.is_ready(job) {
            self.take_ready(job.lane, (job.run_at, job.seq));
        } else {
            self.scheduled.remove(&(job.run_at, job.seq));
            self.count_scheduled(job.lane, |scheduled| scheduled - 1);
        }
    }

    fn count_scheduled(&mut self, lane: u32, count: impl Fn(u64) -> u64) {
        let (task, flow) = self.task_and_flow(lane);
        let part = self.queues[self.flows[flow].queue].part(task);
        part.scheduled = count(part.scheduled);
        let lane = &mut self.lanes[lane as usize];
        lane.others = count(lane.others);
    }
}
