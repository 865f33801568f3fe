//! What happened to a job, in the memory store: every state is written down as it is entered.

use super::super::History;
use super::super::archive::KeptHistory;
use anteroom_core::history::{came_due, entered, merge, straight, submitted};
use anteroom_core::limits::{REPORTS_KEPT_BYTES_MAX, REPORTS_KEPT_MAX, STATES_KEPT_MAX};
use anteroom_core::{
    EventId, EventPart, Happened, Job, JobEvent, Report, Reports, State, StateEvent, Status,
    Timestamp,
};
use std::collections::VecDeque;

/// The history of a job.
#[derive(Debug)]
pub(super) struct Told {
    states: VecDeque<StateEvent>,
    /// States that are kept no longer.
    states_dropped: u64,
    /// What its attempts said, with the bytes of each.
    reports: VecDeque<(JobEvent, usize)>,
    /// Their bytes.
    bytes: usize,
    /// Reports ever made.
    count: u64,
}

impl Told {
    pub(super) fn of_submitted(job: &Job) -> Self {
        Self {
            states: VecDeque::from([submitted(job.spec.created_at, &job.status)]),
            states_dropped: 0,
            reports: VecDeque::new(),
            bytes: 0,
            count: 0,
        }
    }

    /// Returns what is written down, as other stores keep it: states that are told by where the job
    /// stands are not written.
    pub(super) fn kept(&self, job: &Job, now: Timestamp) -> KeptHistory {
        let told = straight(job.spec.created_at, &job.status, self.count, now);
        let mut states: Vec<StateEvent> = self.states.iter().copied().collect();
        let passage = states
            .last()
            .and_then(|last| came_due(*last, &job.status, now));
        let is_straight = self.states_dropped == 0 && states.iter().chain(&passage).eq(&told);
        if is_straight {
            states.clear();
        }
        KeptHistory {
            reports_made: self.count,
            reports: self
                .reports
                .iter()
                .map(|(event, _)| event.clone())
                .collect(),
            states_dropped: self.states_dropped,
            states,
        }
    }

    /// Returns the history of a job that was kept elsewhere.
    pub(super) fn of_kept(kept: &KeptHistory, job: &Job, now: Timestamp) -> Self {
        let states = if kept.states.is_empty() {
            straight(job.spec.created_at, &job.status, kept.reports_made, now)
        } else {
            kept.states.clone()
        };
        let bytes = |event: &JobEvent| match &event.happened {
            Happened::Reported { report, .. } => report.bytes(),
            Happened::Entered { .. } => 0,
        };
        Self {
            states: states.into(),
            states_dropped: kept.states_dropped,
            reports: kept
                .reports
                .iter()
                .map(|it| (it.clone(), bytes(it)))
                .collect(),
            bytes: kept.reports.iter().map(bytes).sum(),
            count: kept.reports_made,
        }
    }

    /// Writes down what a change made of `job`, which is still as it was before.
    pub(super) fn change(&mut self, job: &mut Job, after: &Status, said: Reports, now: Timestamp) {
        let before = job.status;
        if let Some(last) = self.states.back()
            && let Some(passage) = came_due(*last, &before, now)
        {
            self.states.push_back(passage);
        }
        if before.state == State::Waiting && after.state == State::Running {
            job.progress = None;
        }
        if let Some(progress) = said.progress() {
            job.progress = Some(progress.clone());
        }
        self.count += said.skipped;
        for report in said.list {
            self.say(report, after.version, before.attempt);
        }
        self.trim_reports();
        self.states.extend(entered(&before, after, self.count, now));
        while self.states.len() > STATES_KEPT_MAX {
            self.states.pop_front();
            self.states_dropped += 1;
        }
    }

    fn say(&mut self, report: Report, version: u64, attempt: u32) {
        self.count += 1;
        let bytes = report.bytes();
        let id = EventId {
            version,
            reports: self.count,
            part: EventPart::Report,
        };
        let happened = Happened::Reported { attempt, report };
        self.reports.push_back((JobEvent { id, happened }, bytes));
        self.bytes += bytes;
    }

    /// Drops what is kept no longer: what was skipped counts, too.
    fn trim_reports(&mut self) {
        let last_dropped = self.count.saturating_sub(REPORTS_KEPT_MAX as u64);
        while let Some((oldest, bytes)) = self.reports.front()
            && (oldest.id.reports <= last_dropped || self.bytes > REPORTS_KEPT_BYTES_MAX)
        {
            self.bytes -= bytes;
            self.reports.pop_front();
        }
    }

    pub(super) fn page(&self, job: &Job, after: EventId, limit: usize, now: Timestamp) -> History {
        let last = self.states.back();
        let passage = last.and_then(|last| came_due(*last, &job.status, now));
        let states = self.states.iter().copied().chain(passage);
        let reports = self.reports.iter().map(|(event, _)| event.clone());
        let mut events = merge(after, states, reports, limit.saturating_add(1));
        let is_all = events.len() <= limit;
        events.truncate(limit);
        let first = self.states.front();
        let is_missing = first.is_some_and(|first| first.id > after);
        History {
            job: Job {
                errors: Vec::new(),
                ..job.clone()
            },
            events,
            states_missing: if is_missing { self.states_dropped } else { 0 },
            is_all,
        }
    }
}
