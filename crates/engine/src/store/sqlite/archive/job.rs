//! A job out of all the tables that have something of it.

use crate::store::archive::{KeptHistory, KeptJob};
use crate::store::sqlite::events::{report, state_event};
use crate::store::sqlite::rows::{
    AFTER_DONE, DONE, LIVE_JOB, Stored, attempt_error, payload, settled, stored,
};
use crate::store::sqlite::statements::ERRORS;
use anteroom_core::{Job, JobEvent, Payload, State, StateEvent};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result, params};
use std::time::Duration;

/// Reads the job with this key.
pub(super) fn job(db: &Connection, seq: i64) -> Result<KeptJob> {
    let sql = format!(
        "SELECT {LIVE_JOB}, {DONE}, live.lease_ms, job.content_type, job.input, \
         done.result_content_type, done.result FROM job \
         LEFT JOIN live ON live.seq = job.seq LEFT JOIN done ON done.seq = job.seq \
         WHERE job.seq = ?1"
    );
    let (stored, lease_ms, input, result) = db.prepare_cached(&sql)?.query_row([seq], |row| {
        let lease_ms: Option<i64> = row.get(AFTER_DONE)?;
        let result = match row.get_ref(AFTER_DONE + 3)? {
            ValueRef::Null => None,
            _ => Some(payload(row, AFTER_DONE + 3)?),
        };
        let input = payload(row, AFTER_DONE + 1)?;
        Ok((stored(row)?, lease_ms, input, result))
    })?;
    let settled = db
        .prepare_cached("SELECT claim, said FROM settled WHERE seq = ?1")?
        .query_row([seq], settled)
        .optional()?;
    let is_running = stored.status.state == State::Running;
    // One that was taken before lengths were always written has none.
    let length = Duration::from_millis(lease_ms.unwrap_or(0).unsigned_abs());
    Ok(KeptJob {
        told: history(db, &stored)?,
        job: with_errors(db, stored, result.as_ref())?,
        input,
        result,
        lease_for: is_running.then_some(length),
        settled,
    })
}

fn with_errors(db: &Connection, stored: Stored, result: Option<&Payload>) -> Result<Job> {
    let mut errors = Vec::new();
    if stored.errors > 0 {
        let mut statement = db.prepare_cached(ERRORS)?;
        let found = statement.query_map([stored.seq], attempt_error)?;
        errors = found.collect::<Result<_>>()?;
    }
    Ok(Job {
        result: result.map(Payload::info),
        ..stored.into_job(errors)
    })
}

fn history(db: &Connection, stored: &Stored) -> Result<KeptHistory> {
    let (seq, told) = (stored.seq, &stored.told);
    let mut history = KeptHistory {
        reports_made: told.reports,
        ..KeptHistory::default()
    };
    if told.reports > 0 {
        let mut statement = db.prepare_cached(
            "SELECT ordinal, version, attempt, stream, fraction, text FROM report \
             WHERE seq = ?1 ORDER BY ordinal",
        )?;
        let found = statement.query_map([seq], report)?;
        history.reports = found.collect::<Result<Vec<JobEvent>>>()?;
    }
    if told.states > 0 {
        let mut statement = db.prepare_cached(
            "SELECT version, reports, part, state, attempt FROM state \
             WHERE seq = ?1 ORDER BY ordinal",
        )?;
        let found = statement.query_map(params![seq], |row| state_event(row, 0))?;
        history.states = found.collect::<Result<Vec<StateEvent>>>()?;
        history.states_dropped = told.states.saturating_sub(history.states.len() as u64);
    }
    Ok(history)
}
