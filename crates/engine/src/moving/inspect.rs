//! What must hold within a single record, whatever the store.

use crate::store::archive::{KeptHistory, KeptJob, Record};
use anteroom_core::limits::{
    ERRORS_MAX, REPORTS_KEPT_BYTES_MAX, REPORTS_KEPT_MAX, STATES_KEPT_MAX,
};
use anteroom_core::{ClaimNumber, Happened, JobEvent, State, Status};

/// Returns what cannot be as it is.
pub(super) fn faults(record: &Record) -> Vec<String> {
    match record {
        Record::Job(kept) => faults_of_job(kept),
        Record::Document(_)
        | Record::Queue(_)
        | Record::Pace(_)
        | Record::Submit(_)
        | Record::Gone(_) => Vec::new(),
    }
}

fn faults_of_job(kept: &KeptJob) -> Vec<String> {
    let KeptJob { job, result, .. } = kept;
    let mut faults = Vec::new();
    let mut must = |holds: bool, fault: &str| {
        if !holds {
            faults.push(fault.to_owned());
        }
    };
    let status = &job.status;
    let is_final = status.state.is_final();
    let is_running = status.state == State::Running;
    let succeeded = status.state == State::Succeeded;
    must(status.version > 0, "it has version 0");
    must(
        !succeeded || result.is_some(),
        "it succeeded and has no result",
    );
    must(
        succeeded || result.is_none(),
        "it has a result and did not succeed",
    );
    must(
        !is_final || status.finished_at.is_some(),
        "it has ended and does not say when",
    );
    must(
        is_final || status.finished_at.is_none(),
        "it has not ended and says when it did",
    );
    must(
        !is_running || (status.claim != ClaimNumber::NONE && status.started_at.is_some()),
        "it is running under no claim, or does not say since when",
    );
    must(
        !is_running || status.attempt > 0,
        "it is running and no attempt has begun",
    );
    must(
        is_running || !status.cancel_requested,
        "it is told to stop and is not running",
    );
    must(
        status.attempt <= status.max_attempts,
        "it has begun more attempts than it may be given",
    );
    must(
        is_running == kept.lease_for.is_some(),
        "a running job has a lease of some length, and no other has",
    );
    must(
        job.errors.len() <= ERRORS_MAX,
        "it has more errors than are kept",
    );
    must(
        kept.settled.is_none_or(|(claim, _)| claim <= status.claim),
        "an attempt ended under a later claim than was ever drawn for it",
    );
    must(
        job.result == result.as_ref().map(anteroom_core::Payload::info),
        "its result is not what it says of it",
    );
    must(
        job.spec.input == kept.input.info(),
        "its input is not what it says of it",
    );
    faults.extend(faults_of_history(&kept.told, &job.status));
    faults
}

fn faults_of_history(told: &KeptHistory, stands: &Status) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, fault: &str| {
        if !holds {
            faults.push(format!("its history: {fault}"));
        }
    };
    let bytes = |event: &JobEvent| match &event.happened {
        Happened::Reported { report, .. } => report.bytes(),
        Happened::Entered { .. } => 0,
    };
    let (reports, states) = (&told.reports, &told.states);
    must(
        reports.is_sorted_by(|one, next| one.id.reports < next.id.reports && one.id <= next.id),
        "reports are not in their order",
    );
    must(
        states.is_sorted_by(|one, next| one.id < next.id),
        "states are not in their order",
    );
    must(
        reports
            .last()
            .is_none_or(|last| last.id.reports <= told.reports_made),
        "a report has a greater number than were ever made",
    );
    must(
        reports.len() <= REPORTS_KEPT_MAX
            && reports.iter().map(bytes).sum::<usize>() <= REPORTS_KEPT_BYTES_MAX,
        "there are more reports than are kept",
    );
    must(
        states.len() <= STATES_KEPT_MAX,
        "there are more states than are kept",
    );
    must(
        !states.is_empty() || told.states_dropped == 0,
        "states are kept no longer, and no later one is there",
    );
    let last_report = reports.last().map(|last| last.id.version);
    let last_state = states.last().map(|last| last.id.version);
    must(
        last_report.max(last_state) <= Some(stands.version),
        "something happened under a later version than the job has",
    );
    must(
        states
            .last()
            .is_none_or(|last| last.state.stored() == stands.state),
        "the last state is not the one that the job is in",
    );
    faults
}
