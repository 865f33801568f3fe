//! What a row means: jobs out of rows, and the numbers that stand for words in them.

use super::events::{TOLD_COLUMNS, Told};
pub(super) use crate::store::numbers::{lease_number, millis, signed, state_number, tags_text};
use crate::store::numbers::{lease_of, parse_tags, state_of};
use anteroom_core::{
    AttemptError, ClaimNumber, Failure, FailureKind, Fingerprint, Job, JobId, Label, Name, Payload,
    PayloadInfo, Priority, Spec, State, Status, Timestamp,
};
use bytes::Bytes;
use rusqlite::types::{Type, ValueRef};
use rusqlite::{Error, Result, Row};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How far from its hint a job's key may lie.
pub(super) const PROBED_KEYS: i64 = 64;

/// The columns that [`stored`] reads, in their order, of a job that is in `live`.
pub(super) const LIVE_JOB: &str = "job.seq, job.id, job.task, job.queue, job.\"group\", \
    job.priority, job.created_at, job.timeout_ms, job.retain_ms, job.unique_key, \
    job.callback_url, job.tags, job.content_type, length(job.input), job.start_before, \
    job.max_attempts, live.state, live.version, live.run_at, live.attempt, live.claim, \
    live.lease, live.lease_expires_at, live.started_at, live.cancel_requested, live.hand_backs, \
    live.errors, live.reports, live.states, live.progress_fraction, live.progress_message";

/// What comes after [`LIVE_JOB`] where the job may be in `done` instead.
pub(super) const DONE: &str = "done.state, done.version, done.run_at, done.attempt, done.claim, \
    done.lease, done.lease_expires_at, done.started_at, done.cancel_requested, done.hand_backs, \
    done.errors, done.finished_at, done.result_content_type, length(done.result), \
    done.reports, done.states, done.progress_fraction, done.progress_message";

/// Where a job may lie, given the hint and its id.
pub(super) const WHERE_ID: &str = "job.seq BETWEEN ?1 AND ?1 + 63 AND job.id = ?2 LIMIT 1";

const LIVE_AT: usize = 16;
const LIVE_TOLD_AT: usize = LIVE_AT + 11;
const DONE_AT: usize = LIVE_TOLD_AT + TOLD_COLUMNS;
const DONE_TOLD_AT: usize = DONE_AT + 14;
/// The first column after [`LIVE_JOB`].
pub(super) const AFTER_LIVE_JOB: usize = DONE_AT;
/// The first column after [`LIVE_JOB`] and [`DONE`].
pub(super) const AFTER_DONE: usize = DONE_TOLD_AT + TOLD_COLUMNS;

/// A job as it is stored, without what its attempts said.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) seq: i64,
    pub(super) spec: Arc<Spec>,
    pub(super) status: Status,
    /// How many errors were ever written of it.
    pub(super) errors: u32,
    pub(super) result: Option<PayloadInfo>,
    pub(super) told: Told,
}

impl Stored {
    /// Returns the job, with what its attempts said.
    pub(super) fn into_job(self, errors: Vec<AttemptError>) -> Job {
        Job {
            spec: self.spec,
            status: self.status,
            errors,
            result: self.result,
            progress: self.told.progress,
        }
    }
}

/// Reads [`LIVE_JOB`].
pub(super) fn live_job(row: &Row<'_>) -> Result<Stored> {
    Ok(Stored {
        seq: row.get(0)?,
        spec: Arc::new(spec(row)?),
        status: status(row, LIVE_AT)?,
        errors: row.get(LIVE_AT + 10)?,
        result: None,
        told: Told::of(row, LIVE_TOLD_AT)?,
    })
}

/// Reads [`LIVE_JOB`] and [`DONE`] of a job that is in either.
pub(super) fn stored(row: &Row<'_>) -> Result<Stored> {
    if row.get_ref(LIVE_AT)? != ValueRef::Null {
        return live_job(row);
    }
    if row.get_ref(DONE_AT)? == ValueRef::Null {
        let id = id(row, 1)?;
        return Err(damaged(
            LIVE_AT,
            format!("job {id} is neither finished nor not"),
        ));
    }
    let status = Status {
        finished_at: Some(instant(row, DONE_AT + 11)?),
        ..status(row, DONE_AT)?
    };
    let result = match row.get_ref(DONE_AT + 12)? {
        ValueRef::Null => None,
        content_type => Some(PayloadInfo {
            content_type: content_type.as_str()?.into(),
            bytes: length(row, DONE_AT + 13)?,
        }),
    };
    Ok(Stored {
        seq: row.get(0)?,
        spec: Arc::new(spec(row)?),
        status,
        errors: row.get(DONE_AT + 10)?,
        result,
        told: Told::of(row, DONE_TOLD_AT)?,
    })
}

/// Reads a group or a unique key, or that there is none.
pub(super) fn label(row: &Row<'_>, at: usize) -> Result<Option<Label>> {
    match row.get_ref(at)? {
        ValueRef::Null => Ok(None),
        text => Label::new(text.as_str()?)
            .map(Some)
            .map_err(|error| damaged(at, error)),
    }
}

fn spec(row: &Row<'_>) -> Result<Spec> {
    Ok(Spec {
        id: id(row, 1)?,
        task: name(row, 2)?,
        queue: name(row, 3)?,
        group: label(row, 4)?,
        priority: priority(row, 5)?,
        created_at: instant(row, 6)?,
        timeout: span(row, 7)?,
        retain: span(row, 8)?,
        unique_key: label(row, 9)?,
        callback_url: match row.get_ref(10)? {
            ValueRef::Null => None,
            url => Some(url.as_str()?.into()),
        },
        tags: match row.get_ref(11)? {
            ValueRef::Null => BTreeMap::new(),
            object => parse_tags(object.as_str()?).map_err(|error| damaged(11, error))?,
        },
        input: PayloadInfo {
            content_type: row.get_ref(12)?.as_str()?.into(),
            bytes: length(row, 13)?,
        },
    })
}

/// Reads what `live` and `done` have alike, and of `job` what changes with it.
fn status(row: &Row<'_>, at: usize) -> Result<Status> {
    Ok(Status {
        state: state(row, at)?,
        version: row.get::<_, i64>(at + 1)?.unsigned_abs(),
        run_at: instant(row, at + 2)?,
        start_before: number(row, 14)?.map(Timestamp::from_millis),
        attempt: row.get(at + 3)?,
        max_attempts: row.get(15)?,
        claim: ClaimNumber::new(row.get::<_, i64>(at + 4)?.unsigned_abs()),
        lease: lease_of(row.get(at + 5)?).map_err(|why| damaged(at + 5, why))?,
        lease_expires_at: number(row, at + 6)?.map_or(Timestamp::MIN, Timestamp::from_millis),
        started_at: number(row, at + 7)?.map(Timestamp::from_millis),
        finished_at: None,
        cancel_requested: row.get(at + 8)?,
        hand_backs: row.get(at + 9)?,
    })
}

/// Reads `attempt, at, kind, message`.
pub(super) fn attempt_error(row: &Row<'_>) -> Result<AttemptError> {
    attempt_error_at(row, 0)
}

/// Reads the same further on in a row.
pub(super) fn attempt_error_at(row: &Row<'_>, at: usize) -> Result<AttemptError> {
    let word = row.get_ref(at + 2)?.as_str()?;
    let kind = FailureKind::from_word(word)
        .ok_or_else(|| damaged(at + 2, format!("there is no failure {word:?}")))?;
    Ok(AttemptError {
        attempt: row.get(at)?,
        at: instant(row, at + 1)?,
        failure: Failure {
            kind,
            message: row.get(at + 3)?,
        },
    })
}

/// Reads a claim whose holder ended its attempt, and what it said.
pub(super) fn settled(row: &Row<'_>) -> Result<(ClaimNumber, Fingerprint)> {
    let claim = ClaimNumber::new(row.get::<_, i64>(0)?.unsigned_abs());
    match row.get_ref(1)?.as_blob()?.try_into() {
        Ok(digest) => Ok((claim, Fingerprint(digest))),
        Err(_) => Err(damaged(1, "a digest has 32 bytes")),
    }
}

/// Reads a content type and the bytes after it.
pub(super) fn payload(row: &Row<'_>, at: usize) -> Result<Payload> {
    Ok(Payload {
        content_type: row.get_ref(at)?.as_str()?.into(),
        bytes: bytes(row, at + 1)?,
    })
}

pub(super) fn bytes(row: &Row<'_>, at: usize) -> Result<Bytes> {
    Ok(Bytes::copy_from_slice(row.get_ref(at)?.as_blob()?))
}

pub(super) fn id(row: &Row<'_>, at: usize) -> Result<JobId> {
    match row.get_ref(at)?.as_blob()?.try_into() {
        Ok(bytes) => Ok(JobId::from_bytes(bytes)),
        Err(_) => Err(damaged(at, "an id has 16 bytes")),
    }
}

pub(super) fn name(row: &Row<'_>, at: usize) -> Result<Name> {
    Name::new(row.get_ref(at)?.as_str()?).map_err(|error| damaged(at, error))
}

pub(super) fn priority(row: &Row<'_>, at: usize) -> Result<Priority> {
    Priority::new(row.get(at)?).map_err(|error| damaged(at, error))
}

pub(super) fn instant(row: &Row<'_>, at: usize) -> Result<Timestamp> {
    row.get(at).map(Timestamp::from_millis)
}

pub(super) fn state(row: &Row<'_>, at: usize) -> Result<State> {
    state_of(row.get(at)?).map_err(|why| damaged(at, why))
}

fn span(row: &Row<'_>, at: usize) -> Result<Duration> {
    row.get::<_, i64>(at)
        .map(|millis| Duration::from_millis(millis.unsigned_abs()))
}

fn length(row: &Row<'_>, at: usize) -> Result<usize> {
    let length: i64 = row.get(at)?;
    usize::try_from(length).map_err(|error| damaged(at, error))
}

pub(super) fn number(row: &Row<'_>, at: usize) -> Result<Option<i64>> {
    row.get(at)
}

/// What a column holds is not what it should.
pub(super) fn damaged(
    at: usize,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::FromSqlConversionFailure(at, Type::Null, why.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probed_keys_are_those_of_the_statement() {
        let last = format!("?1 + {} ", PROBED_KEYS - 1);
        assert!(WHERE_ID.contains(&last), "{WHERE_ID}");
        let columns = |text: &str| text.split(", ").count();
        assert_eq!(columns(LIVE_JOB), AFTER_LIVE_JOB);
        assert_eq!(columns(LIVE_JOB) + columns(DONE), AFTER_DONE);
    }
}
