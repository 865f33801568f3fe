//! Submits jobs to Anteroom in a transaction of sqlx, beside what the application writes itself: a
//! commit gives the data and the job, a rollback neither.
//!
//! ```no_run
//! use serde_json::json;
//!
//! # async fn order(pool: sqlx::PgPool) -> Result<(), sqlx::Error> {
//! let mut transaction = pool.begin().await?;
//! let insert = sqlx::query("INSERT INTO orders (id) VALUES ($1)").bind(7);
//! insert.execute(&mut *transaction).await?;
//! let options = json!({"priority": 2, "unique_key": "order 7"});
//! let job = anteroom_sqlx::submit(&mut *transaction, "receipt", &json!({"order": 7}), &options).await?;
//! transaction.commit().await?;
//! println!("job {job}");
//! # Ok(())
//! # }
//! ```
//!
//! The work is done by functions of the database, `anteroom.submit` and `anteroom.submit_many`; which
//! options there are, what they mean and when a job is refused is told by
//! `docs/transactional-submit.md`. A refusal is a [`sqlx::Error::Database`], and its
//! [`constraint`](sqlx::error::DatabaseError::constraint) names the problem, `queue-full` say. As after
//! any statement that fails, the transaction is over then.
//!
//! A commit that is refused with SQLSTATE `40001` met somebody who was quicker with the same key: the
//! same transaction again gets that job.

use anteroom_core::JobId;
use serde::Serialize;
use sqlx::PgExecutor;

/// A job of [`submit_many`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Submitted {
    /// Its id.
    pub id: JobId,
    /// Whether it was there already, by its `unique_key` or its `idempotency_key`.
    pub duplicate: bool,
}

/// Submits a job with a JSON input, and returns its id.
///
/// `options` is an object with the members of an envelope; `()` or an empty one: the task's defaults.
///
/// # Errors
///
/// What the database says, or [`sqlx::Error::Encode`] for what cannot be written as JSON.
///
/// # Cancel safety
///
/// Not cancel safe: whether a dropped call has submitted the job shows at the end of the transaction.
pub async fn submit<'e>(
    executor: impl PgExecutor<'e>,
    task: &str,
    input: &(impl Serialize + ?Sized),
    options: &(impl Serialize + ?Sized),
) -> Result<JobId, sqlx::Error> {
    // As text: the function takes the very bytes, which `jsonb` would write anew.
    let sql = "SELECT anteroom.submit($1, $2::text::json, coalesce($3::text::jsonb, '{}'))::text";
    let submit = sqlx::query_scalar(sql).bind(task).bind(json(input)?);
    let id: String = submit.bind(object(options)?).fetch_one(executor).await?;
    job_id(&id)
}

/// Submits a job with any bytes as its input, and returns its id. `content_type` is one of the
/// options; without it the bytes are `application/octet-stream`.
///
/// # Errors
///
/// What the database says, or [`sqlx::Error::Encode`] for options that cannot be written as JSON.
///
/// # Cancel safety
///
/// Not cancel safe: whether a dropped call has submitted the job shows at the end of the transaction.
pub async fn submit_bytes<'e>(
    executor: impl PgExecutor<'e>,
    task: &str,
    input: &[u8],
    options: &(impl Serialize + ?Sized),
) -> Result<JobId, sqlx::Error> {
    let sql = "SELECT anteroom.submit($1, $2::bytea, coalesce($3::text::jsonb, '{}'))::text";
    let submit = sqlx::query_scalar(sql).bind(task).bind(input);
    let id: String = submit.bind(object(options)?).fetch_one(executor).await?;
    job_id(&id)
}

/// Submits 1 to 10,000 jobs, all or none, and returns them in their order. Each is an envelope, as in
/// `POST /v1/jobs`.
///
/// # Errors
///
/// What the database says, which tells the job that it is about, or [`sqlx::Error::Encode`] for what
/// cannot be written as JSON.
///
/// # Cancel safety
///
/// Not cancel safe: whether a dropped call has submitted the jobs shows at the end of the transaction.
pub async fn submit_many<'e>(
    executor: impl PgExecutor<'e>,
    jobs: &[impl Serialize],
) -> Result<Vec<Submitted>, sqlx::Error> {
    let sql =
        "SELECT id::text, duplicate FROM anteroom.submit_many($1::text::json) ORDER BY ordinal";
    let submit = sqlx::query_as(sql).bind(json(jobs)?);
    let rows: Vec<(String, bool)> = submit.fetch_all(executor).await?;
    let submitted = |(id, duplicate): (String, bool)| {
        let id = job_id(&id)?;
        Ok(Submitted { id, duplicate })
    };
    rows.into_iter().map(submitted).collect()
}

fn json(value: &(impl Serialize + ?Sized)) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// Returns options as JSON; none for `()`, which is JSON's `null`.
fn object(options: &(impl Serialize + ?Sized)) -> Result<Option<String>, sqlx::Error> {
    let options = json(options)?;
    Ok((options != "null").then_some(options))
}

fn job_id(text: &str) -> Result<JobId, sqlx::Error> {
    text.parse()
        .map_err(|error| sqlx::Error::Decode(Box::new(error)))
}
