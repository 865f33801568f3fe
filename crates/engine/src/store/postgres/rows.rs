//! What a row means: jobs out of rows, and the numbers that stand for words in them.

use super::fault::Fault;
pub(super) use crate::store::numbers::{lease_number, millis, signed, state_number, tags_text};
use crate::store::numbers::{lease_of, parse_tags, state_of};
use anteroom_core::{
    AttemptError, ClaimNumber, Failure, FailureKind, Fingerprint, Job, JobId, Label, Lease, Name,
    Payload, PayloadInfo, Priority, Progress, Spec, State, Status, Timestamp,
};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// The columns of `job` that [`stored`] reads first.
pub(super) const JOB: &str = "job.id, job.task, job.queue, job.\"group\", job.priority, \
    job.created_at, job.timeout_ms, job.retain_ms, job.unique_key, job.callback_url, job.tags, \
    job.content_type, octet_length(job.input), job.start_before, job.max_attempts";

/// The columns that [`stored`] reads after [`JOB`], of the view `standing`.
pub(super) const STANDING: &str = "standing.state, standing.version, standing.run_at, \
    standing.attempt, standing.claim, standing.lease, standing.lease_expires_at, \
    standing.started_at, standing.cancel_requested, standing.hand_backs, standing.errors, \
    standing.reports, standing.states, standing.progress_fraction, standing.progress_message, \
    standing.finished_at, standing.result_content_type, standing.result_bytes";

/// The first column after [`JOB`].
pub(super) const AFTER_JOB: usize = 15;
/// The first column after [`JOB`] and [`STANDING`].
pub(super) const AFTER_STANDING: usize = AFTER_JOB + 18;

/// A job as it is stored, without what its attempts said.
#[derive(Clone, Debug)]
pub(super) struct Stored {
    pub(super) spec: Arc<Spec>,
    pub(super) status: Status,
    /// How many errors were ever written of it.
    pub(super) errors: u32,
    pub(super) result: Option<PayloadInfo>,
    pub(super) told: Told,
}

/// What is written down of a job's history, as its row has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// How much its attempts ever said.
    pub(super) reports: u64,
    /// How many states were ever written down; none: the row tells them.
    pub(super) states: u64,
    /// What its latest attempt said last of how far it has come.
    pub(super) progress: Option<Progress>,
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

/// Reads [`JOB`] and [`STANDING`].
pub(super) fn stored(row: &Row) -> Result<Stored, Fault> {
    stored_apart(row, row, AFTER_JOB)
}

/// Reads [`JOB`] of one row, and [`STANDING`] of another one from a column on.
pub(super) fn stored_apart(of_job: &Row, row: &Row, at: usize) -> Result<Stored, Fault> {
    let status = Status {
        state: state(row, at)?,
        version: unsigned(row, at + 1)?,
        run_at: instant(row, at + 2)?,
        start_before: optional_instant(of_job, 13)?,
        attempt: count(row, at + 3)?,
        max_attempts: count(of_job, 14)?,
        claim: ClaimNumber::new(unsigned(row, at + 4)?),
        lease: lease(row, at + 5)?,
        lease_expires_at: optional_instant(row, at + 6)?.unwrap_or(Timestamp::MIN),
        started_at: optional_instant(row, at + 7)?,
        finished_at: optional_instant(row, at + 15)?,
        cancel_requested: get(row, at + 8)?,
        hand_backs: count(row, at + 9)?,
    };
    let result = match get::<Option<String>>(row, at + 16)? {
        None => None,
        Some(content_type) => Some(PayloadInfo {
            content_type: content_type.into(),
            bytes: length(row, at + 17)?,
        }),
    };
    Ok(Stored {
        spec: Arc::new(spec(of_job)?),
        status,
        errors: count(row, at + 10)?,
        result,
        told: Told {
            reports: unsigned(row, at + 11)?,
            states: unsigned(row, at + 12)?,
            progress: progress(row, at + 13)?,
        },
    })
}

/// Reads [`JOB`].
fn spec(row: &Row) -> Result<Spec, Fault> {
    Ok(Spec {
        id: id(row, 0)?,
        task: name(row, 1)?,
        queue: name(row, 2)?,
        group: label(row, 3)?,
        priority: priority(row, 4)?,
        created_at: instant(row, 5)?,
        timeout: span(row, 6)?,
        retain: span(row, 7)?,
        unique_key: label(row, 8)?,
        callback_url: get::<Option<String>>(row, 9)?.map(Into::into),
        tags: match get::<Option<String>>(row, 10)? {
            None => BTreeMap::new(),
            Some(object) => parse_tags(&object).map_err(|why| damaged(row, 10, why))?,
        },
        input: PayloadInfo {
            content_type: get::<String>(row, 11)?.into(),
            bytes: length(row, 12)?,
        },
    })
}

/// Reads `attempt, at, kind, message`.
pub(super) fn attempt_error(row: &Row, at: usize) -> Result<AttemptError, Fault> {
    let word: String = get(row, at + 2)?;
    let kind = FailureKind::from_word(&word)
        .ok_or_else(|| damaged(row, at + 2, format!("there is no failure {word:?}")))?;
    Ok(AttemptError {
        attempt: count(row, at)?,
        at: instant(row, at + 1)?,
        failure: Failure {
            kind,
            message: text(row, at + 3)?,
        },
    })
}

/// Reads a claim whose holder ended its attempt, and what it said.
pub(super) fn settled(row: &Row, at: usize) -> Result<(ClaimNumber, Fingerprint), Fault> {
    let claim = ClaimNumber::new(unsigned(row, at)?);
    Ok((claim, fingerprint(row, at + 1)?))
}

pub(super) fn fingerprint(row: &Row, at: usize) -> Result<Fingerprint, Fault> {
    let digest: &[u8] = get(row, at)?;
    let digest = digest.try_into();
    digest
        .map(Fingerprint)
        .map_err(|_| damaged(row, at, "a digest has 32 bytes"))
}

/// Reads the fraction and the words of a progress; none where nothing is said.
pub(super) fn progress(row: &Row, at: usize) -> Result<Option<Progress>, Fault> {
    let message = match get::<Option<&[u8]>>(row, at + 1)? {
        None => None,
        Some(_) => Some(text(row, at + 1)?),
    };
    Ok(Progress::new(get(row, at)?, message))
}

/// Reads a content type and the bytes after it.
pub(super) fn payload(row: &Row, at: usize) -> Result<Payload, Fault> {
    Ok(Payload {
        content_type: get::<String>(row, at)?.into(),
        bytes: bytes(row, at + 1)?,
    })
}

pub(super) fn bytes(row: &Row, at: usize) -> Result<Bytes, Fault> {
    get::<&[u8]>(row, at).map(Bytes::copy_from_slice)
}

/// Reads a text that is kept as bytes, since a zero may stand in it.
pub(super) fn text(row: &Row, at: usize) -> Result<String, Fault> {
    let bytes: Vec<u8> = get(row, at)?;
    String::from_utf8(bytes).map_err(|why| damaged(row, at, why))
}

pub(super) fn id(row: &Row, at: usize) -> Result<JobId, Fault> {
    get::<Uuid>(row, at).map(|id| JobId::from_bytes(*id.as_bytes()))
}

pub(super) fn name(row: &Row, at: usize) -> Result<Name, Fault> {
    Name::new(get(row, at)?).map_err(|why| damaged(row, at, why))
}

/// Reads a group or a unique key, or that there is none.
pub(super) fn label(row: &Row, at: usize) -> Result<Option<Label>, Fault> {
    let label = get::<Option<&str>>(row, at)?.filter(|label| !label.is_empty());
    let label = label.map(Label::new).transpose();
    label.map_err(|why| damaged(row, at, why))
}

pub(super) fn priority(row: &Row, at: usize) -> Result<Priority, Fault> {
    let number: i16 = get(row, at)?;
    Priority::new(number.into()).map_err(|why| damaged(row, at, why))
}

pub(super) fn state(row: &Row, at: usize) -> Result<State, Fault> {
    state_of(get::<i16>(row, at)?.into()).map_err(|why| damaged(row, at, why))
}

fn lease(row: &Row, at: usize) -> Result<Lease, Fault> {
    lease_of(get::<i16>(row, at)?.into()).map_err(|why| damaged(row, at, why))
}

pub(super) fn instant(row: &Row, at: usize) -> Result<Timestamp, Fault> {
    get(row, at).map(Timestamp::from_millis)
}

pub(super) fn optional_instant(row: &Row, at: usize) -> Result<Option<Timestamp>, Fault> {
    Ok(get::<Option<i64>>(row, at)?.map(Timestamp::from_millis))
}

fn span(row: &Row, at: usize) -> Result<Duration, Fault> {
    unsigned(row, at).map(Duration::from_millis)
}

/// Reads a `bigint` that is never negative.
pub(super) fn unsigned(row: &Row, at: usize) -> Result<u64, Fault> {
    let number: i64 = get(row, at)?;
    number.try_into().map_err(|why| damaged(row, at, why))
}

/// Reads an `integer` that is never negative.
pub(super) fn count(row: &Row, at: usize) -> Result<u32, Fault> {
    let number: i32 = get(row, at)?;
    number.try_into().map_err(|why| damaged(row, at, why))
}

fn length(row: &Row, at: usize) -> Result<usize, Fault> {
    let number: i32 = get(row, at)?;
    number.try_into().map_err(|why| damaged(row, at, why))
}

/// Reads a column.
pub(super) fn get<'a, T: tokio_postgres::types::FromSql<'a>>(
    row: &'a Row,
    at: usize,
) -> Result<T, Fault> {
    row.try_get(at).map_err(|why| damaged(row, at, why))
}

/// What a column holds is not what it should.
pub(super) fn damaged(row: &Row, at: usize, why: impl Display) -> Fault {
    let column = row.columns().get(at).map_or("?", |column| column.name());
    Fault::Damaged(format!("a row is damaged: {column}: {why}"))
}

pub(super) fn uuid(id: JobId) -> Uuid {
    Uuid::from_bytes(*id.as_bytes())
}

/// Returns a count as an `integer` holds it. None of ours come near the end of the range.
pub(super) fn small(count: u32) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}
