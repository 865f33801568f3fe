//! What becomes of the jobs of a transaction, decided in memory.
//!
//! What becomes of a job is what [`transition`] says; here it is noted for `write`.

use super::batch::{Said, Touched};
use super::rows::{Told, signed};
use super::transact::Decisions;
use crate::callback::callback_of;
use crate::store::{Applied, Change, Refused};
use anteroom_core::history::{came_due, entered, stays_straight, straight};
use anteroom_core::limits::{ERRORS_MAX, REPORTS_KEPT_MAX};
use anteroom_core::{
    Amendment, Event, JobId, Next, Payload, Reports, Spec, State, Status, Timestamp, transition,
};
use std::collections::HashMap;
use std::sync::Arc;

impl Decisions<'_> {
    /// Lets an event happen to its job.
    pub(super) fn change(&mut self, change: &Change) -> Applied {
        let Some(job) = self.batch.jobs.get(&change.id) else {
            return Err(if self.gone.contains(&change.id) {
                Refused::Gone
            } else {
                Refused::Unknown
            });
        };
        let differs = |version| version != job.status.version;
        if change.if_version.is_some_and(differs) {
            return Err(Refused::VersionDiffers(Box::new(job.job())));
        }
        let next = match transition(&job.status, &change.event, self.now) {
            Ok(next) => next,
            Err(_) if change.repeats(&job.status, job.settled) => {
                return Err(Refused::Repeated(Box::new(job.job())));
            }
            Err(rejected) => return Err(Refused::Rejected(rejected, Box::new(job.job()))),
        };
        let is_unfinished_again = job.status.state.is_final() && !next.status.state.is_final();
        if is_unfinished_again && let Some(holder) = self.keys.holder_of(&job.spec) {
            return Err(Refused::UniqueKeyTaken { holder });
        }
        match &change.event {
            Event::Amended { amendment } => self.amend(change.id, next.status, amendment),
            _ => self.go_on(change.id, next, change),
        }
        let job = &self.batch.jobs[&change.id];
        Ok(job.job())
    }

    /// Notes what became of a job.
    fn go_on(&mut self, id: JobId, next: Next, change: &Change) {
        let now = self.now;
        let Some(job) = self.batch.jobs.get_mut(&id) else {
            return;
        };
        let (before, after) = (job.status, next.status);
        record(job, &after, &change.reports, now);
        if let Some(error) = next.error {
            job.new_errors.push((job.errors, error.clone()));
            job.errors += 1;
            job.said.push(error);
            let excess = job.said.len().saturating_sub(ERRORS_MAX);
            job.said.drain(..excess);
        }
        let result = change.result.as_ref();
        let result = result.filter(|_| after.state == State::Succeeded);
        job.result = result.map(Payload::info);
        job.new_result = result.cloned();
        if let Some(settled) = change.settled() {
            job.settled = Some(settled);
            job.new_settled = Some(settled);
        }
        job.start_before_changed |= before.start_before != after.start_before;
        if after.state == State::Running && before.lease_expires_at != after.lease_expires_at {
            job.lease_ms = super::rows::millis(after.lease_expires_at.since(now));
        }
        if after.state != State::Running {
            job.node = None;
        }
        job.status = after;
        job.is_changed = true;
        let spec = job.spec.clone();
        self.moved(&spec, &before, &after);
    }

    /// Follows a job in what is known of keys and of the order, and makes the job that tells of its
    /// end, if somebody asked to be told of it.
    fn moved(&mut self, spec: &Arc<Spec>, before: &Status, after: &Status) {
        match (before.state.is_final(), after.state.is_final()) {
            (false, true) => self.keys.release(spec),
            (true, false) => self.keys.hold(spec),
            (false, false) | (true, true) => {}
        }
        if before.state == State::Running && after.state != State::Running {
            self.window.ended(spec);
            self.is_freed |= self.window.is_limited(&spec.queue);
        }
        if before.state == State::Waiting {
            self.window.remove(spec.id);
        }
        if after.state == State::Waiting {
            self.waits(spec.id);
        }
        if let Some(callback) = callback_of(spec, before, after) {
            self.insert_callback(callback);
        }
    }

    /// Notes what its owner changed of a waiting job.
    fn amend(&mut self, id: JobId, after: Status, amendment: &Amendment) {
        let now = self.now;
        let Some(job) = self.batch.jobs.get_mut(&id) else {
            return;
        };
        if amendment.is_empty() {
            return;
        }
        record(job, &after, &Reports::default(), now);
        let mut spec = Spec::clone(&job.spec);
        amendment.amend(&mut spec);
        let is_moved = job.status.run_at != after.run_at
            || job.spec.queue != spec.queue
            || job.spec.priority != spec.priority;
        job.is_amended |= amendment.changes_spec();
        job.spec = Arc::new(spec);
        job.status = after;
        job.is_changed = true;
        // One that stays where it is keeps its turn.
        if is_moved {
            self.window.remove(id);
            self.waits(id);
        }
    }
}

/// Notes what a change of a job would lose otherwise of its history.
pub(super) fn record(job: &mut Touched, after: &Status, said: &Reports, now: Timestamp) {
    let before = job.status;
    let told = job.told.clone();
    if before.state == State::Waiting && after.state == State::Running {
        job.told.progress = None;
    }
    if !said.is_empty() {
        if let Some(progress) = said.progress() {
            job.told.progress = Some(progress.clone());
        }
        note_reports(job, after.version, said);
    }
    if told.states == 0 && stays_straight(&before, after) {
        return;
    }
    let mut states = Vec::new();
    let last = if told.states == 0 {
        states = straight(job.spec.created_at, &before, told.reports, now);
        states.last().copied()
    } else {
        job.last_state
    };
    states.extend(last.and_then(|last| came_due(last, &before, now)));
    states.extend(entered(&before, after, job.told.reports, now));
    for state in states {
        job.new_states.push((job.told.states, state));
        job.told.states += 1;
        job.last_state = Some(state);
    }
}

/// Notes what an attempt said.
fn note_reports(job: &mut Touched, version: u64, said: &Reports) {
    let Told { reports, .. } = job.told;
    // Of more than are kept only the last are worth writing.
    let excess = said.list.len().saturating_sub(REPORTS_KEPT_MAX);
    let mut count = reports + said.skipped + excess as u64;
    for report in &said.list[excess..] {
        count += 1;
        job.bytes_said += signed(report.bytes() as u64);
        job.new_reports.push(Said {
            ordinal: count,
            version,
            attempt: job.status.attempt,
            report: report.clone(),
            bytes: job.bytes_said,
        });
    }
    job.told.reports = count;
    job.reports_kept_from = Some(count.saturating_sub(REPORTS_KEPT_MAX as u64) + 1);
}

/// Which unfinished job has each unique key that a transaction is about.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// As the database has it.
    pub(super) kept: HashMap<(String, String), JobId>,
    /// As it becomes.
    pub(super) held: HashMap<(String, String), Option<JobId>>,
    /// Keys of jobs that ended, and which.
    pub(super) let_go: Vec<((String, String), JobId)>,
}

impl Keys {
    pub(super) fn key(spec: &Spec) -> Option<(String, String)> {
        let key = spec.unique_key.as_ref()?;
        Some((spec.task.to_string(), key.to_string()))
    }

    pub(super) fn holder_of(&self, spec: &Spec) -> Option<JobId> {
        let key = Self::key(spec)?;
        match self.held.get(&key) {
            Some(holder) => *holder,
            None => self.kept.get(&key).copied(),
        }
    }

    pub(super) fn hold(&mut self, spec: &Spec) {
        if let Some(key) = Self::key(spec) {
            self.held.insert(key, Some(spec.id));
        }
    }

    pub(super) fn release(&mut self, spec: &Spec) {
        if let Some(key) = Self::key(spec) {
            self.held.insert(key.clone(), None);
            self.let_go.push((key, spec.id));
        }
    }
}
