//! How jobs are read: each question is one statement, so that what it tells was there at once.
//!
//! No transaction lasts from one statement to the next: several callers may share a session, and
//! each of them may stop waiting at any time. Statements are meant for generic plans (they have
//! one shape whatever the values), since planning costs more than any of them.

use super::among::{among, sorted};
use super::fault::Fault;
use super::rows::{
    self, AFTER_STANDING, JOB, STANDING, bytes, damaged, get, payload, stored, uuid,
};
use super::session::{Session, Values};
use crate::store::Found;
use anteroom_core::limits::IDEMPOTENCY_KEPT;
use anteroom_core::{
    AttemptError, Failure, FailureKind, Idempotency, Job, JobId, Name, Payload, Timestamp,
};
use std::sync::LazyLock;
use tokio_postgres::Row;

/// What [`errors`] reads, out of [`OF_ERRORS`].
pub(super) const ERRORS: &str = "said.attempts, said.instants, said.kinds, said.messages";

/// The errors of a job, oldest first, beside `job` and `standing`. They are looked for only where
/// there are any.
pub(super) const OF_ERRORS: &str = "CROSS JOIN LATERAL ( \
    SELECT array_agg(attempt) AS attempts, array_agg(at) AS instants, \
        array_agg(kind) AS kinds, array_agg(message) AS messages FROM ( \
        SELECT attempt, at, kind, message FROM error \
        WHERE error.id = job.id AND standing.errors > 0 ORDER BY error.id, error.ordinal \
    ) AS error \
    ) AS said";

/// How many columns [`errors`] reads.
const ERROR_COLUMNS: usize = 4;

/// Returns a job.
pub(super) async fn job(session: &Session, id: JobId) -> Result<Found<Job>, Fault> {
    let row = row_of(session, id, "").await?;
    found(session, id, row, whole).await
}

/// Returns a job's input.
pub(super) async fn input(session: &Session, id: JobId) -> Result<Found<Payload>, Fault> {
    let sql = "SELECT content_type, input FROM job WHERE id = $1";
    let row = session.query_opt(sql, &[&uuid(id)]).await?;
    found(session, id, row, |row| payload(row, 0)).await
}

/// Returns a job and its result, which is there once it succeeded.
pub(super) async fn result(
    session: &Session,
    id: JobId,
) -> Result<Found<(Job, Option<Payload>)>, Fault> {
    // Read for this job alone: the view has the length, for which the result is not looked at.
    let result = ", (SELECT result FROM done WHERE done.id = $1 AND standing.state > 1)";
    let row = row_of(session, id, result).await?;
    found(session, id, row, |row| {
        let job = whole(row)?;
        let result = match &job.result {
            Some(info) => Some(Payload {
                content_type: info.content_type.clone(),
                bytes: bytes(row, AFTER_STANDING + ERROR_COLUMNS)?,
            }),
            None => None,
        };
        Ok((job, result))
    })
    .await
}

/// Tells whether an insert of a job of `task` under this key would be a replay now.
pub(super) async fn remembers(
    session: &Session,
    task: &Name,
    by: &Idempotency,
    now: Timestamp,
) -> Result<bool, Fault> {
    let sql = "SELECT FROM submit WHERE scope = $1 AND task = $2 AND key = $3 AND at > $4";
    let since = remembered_since(now);
    let (scope, task, key) = (&*by.scope, &**task, &*by.key);
    let values: Values<'_> = &[&scope, &task, &key, &since];
    Ok(session.query_opt(sql, values).await?.is_some())
}

/// Returns the instant after which a submit was made that is still remembered.
pub(super) fn remembered_since(now: Timestamp) -> i64 {
    now.before(IDEMPOTENCY_KEPT).as_millis()
}

/// Returns what is read of a row under an id, or what is known of the id where there is no row.
///
/// A job goes and its id is written down in one commit, so that a later look at what is gone misses
/// nothing.
pub(super) async fn found<T>(
    session: &Session,
    id: JobId,
    row: Option<Row>,
    read: impl FnOnce(&Row) -> Result<T, Fault>,
) -> Result<Found<T>, Fault> {
    if let Some(row) = row {
        return read(&row).map(Found::Here);
    }
    let sql = "SELECT FROM gone WHERE id = $1";
    match session.query_opt(sql, &[&uuid(id)]).await? {
        Some(_) => Ok(Found::Gone),
        None => Ok(Found::Unknown),
    }
}

/// Returns the row of a job that [`whole`] reads, with `further` columns.
async fn row_of(session: &Session, id: JobId, further: &str) -> Result<Option<Row>, Fault> {
    let sql = format!(
        "SELECT {JOB}, {STANDING}, {ERRORS}{further} \
         FROM job JOIN standing ON standing.id = job.id {OF_ERRORS} WHERE job.id = $1"
    );
    Ok(session.query_opt(&sql, &[&uuid(id)]).await?)
}

/// Reads a job: [`JOB`], [`STANDING`] and [`ERRORS`].
pub(super) fn whole(row: &Row) -> Result<Job, Fault> {
    Ok(stored(row)?.into_job(errors(row, AFTER_STANDING)?))
}

/// Reads [`ERRORS`].
pub(super) fn errors(row: &Row, at: usize) -> Result<Vec<AttemptError>, Fault> {
    let Some(attempts) = get::<Option<Vec<i32>>>(row, at)? else {
        return Ok(Vec::new());
    };
    let instants: Vec<i64> = get(row, at + 1)?;
    let kinds: Vec<&str> = get(row, at + 2)?;
    let messages: Vec<&[u8]> = get(row, at + 3)?;
    let mut errors = Vec::with_capacity(attempts.len());
    for (((attempt, instant), kind), message) in
        attempts.into_iter().zip(instants).zip(kinds).zip(messages)
    {
        let kind = FailureKind::from_word(kind)
            .ok_or_else(|| damaged(row, at + 2, format!("there is no failure {kind:?}")))?;
        let message = std::str::from_utf8(message).map_err(|why| damaged(row, at + 3, why))?;
        let failure = Failure {
            kind,
            message: message.to_owned(),
        };
        errors.push(AttemptError {
            attempt: attempt.try_into().map_err(|why| damaged(row, at, why))?,
            at: Timestamp::from_millis(instant),
            failure,
        });
    }
    Ok(errors)
}
static VERSIONS: LazyLock<String> =
    LazyLock::new(|| format!("SELECT id, version FROM standing WHERE {}", among("id")));

/// Returns the versions of those of some jobs that are there.
pub(super) async fn versions(session: &Session, ids: &[JobId]) -> Result<Vec<(JobId, u64)>, Fault> {
    let ids = sorted(ids);
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let rows = session.query(&VERSIONS, &[&ids]).await?;
    let version = |row: &Row| Ok((rows::id(row, 0)?, rows::unsigned(row, 1)?));
    rows.iter().map(version).collect()
}
