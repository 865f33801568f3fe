//! Jobs that are forgotten: when their retention is over, or because somebody says so.
//!
//! Only finished jobs are, which no claim is about: it is done beside the writer, on a connection of
//! its own, a bounded piece in each transaction.

use super::batch::{Batch, gone};
use super::fault::Fault;
use super::read::remembered_since;
use super::rows::{get, uuid};
use super::session::Session;
use crate::store::Deleted;
use anteroom_core::limits::{GONE_JOBS_MAX, GONE_KEPT};
use anteroom_core::{JobId, Timestamp};

/// Deletes all there is of the jobs `due`, and remembers their ids as gone at `$1`.
const FORGET: &str = "gone_jobs AS (DELETE FROM done USING due WHERE done.id = due.id), \
    gone_errors AS (DELETE FROM error USING due WHERE error.id = due.id AND due.errors > 0), \
    gone_reports AS (DELETE FROM report USING due WHERE report.id = due.id AND due.reports > 0), \
    gone_states AS (DELETE FROM state USING due WHERE state.id = due.id AND due.states > 0), \
    gone_settled AS (DELETE FROM settled USING due WHERE settled.id = due.id), \
    gone_specs AS (DELETE FROM job USING due WHERE job.id = due.id), \
    remembered AS (INSERT INTO gone (id, at) SELECT id, $1 FROM due ON CONFLICT DO NOTHING) \
    SELECT count(*) FROM due";

const FORGET_SUBMITS: &str = "DELETE FROM submit WHERE (scope, task, key) IN ( \
    SELECT scope, task, key FROM submit WHERE at <= $1 ORDER BY at LIMIT $2 \
    FOR UPDATE SKIP LOCKED)";
const FORGET_GONE: &str = "DELETE FROM gone WHERE id IN ( \
    SELECT id FROM gone WHERE at <= $1 ORDER BY at LIMIT $2 FOR UPDATE SKIP LOCKED)";
/// Whether there is anything to forget.
const IS_DUE: &str = "SELECT EXISTS (SELECT FROM done WHERE expires_at <= $1) \
    OR EXISTS (SELECT FROM submit WHERE at <= $2) OR EXISTS (SELECT FROM gone WHERE at <= $3)";
/// The latest instant such that enough ids are remembered of later ones.
const GONE_EXCESS: &str = "SELECT at FROM gone ORDER BY at DESC OFFSET $1 LIMIT 1";

/// Forgets up to `limit` jobs whose retention is over, and returns how many.
pub(super) async fn prune(session: &Session, limit: usize, now: Timestamp) -> Result<usize, Fault> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let (submits_since, gone_since) = (remembered_since(now), now.before(GONE_KEPT).as_millis());
    let due = session
        .query_opt(IS_DUE, &[&now.as_millis(), &submits_since, &gone_since])
        .await?;
    if !due.is_some_and(|row| row.get(0)) {
        return Ok(0);
    }
    let sql = format!(
        "WITH due AS MATERIALIZED (SELECT id, errors, reports, states FROM done \
         WHERE expires_at <= $1 ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED), {FORGET}"
    );
    let rows = session.query(&sql, &[&now.as_millis(), &most]).await?;
    let pruned: i64 = match rows.first() {
        Some(row) => get(row, 0)?,
        None => 0,
    };
    session
        .execute(FORGET_SUBMITS, &[&submits_since, &most])
        .await?;
    session.execute(FORGET_GONE, &[&gone_since, &most]).await?;
    if pruned > 0 {
        forget_excess(session, most).await?;
    }
    Ok(usize::try_from(pruned).unwrap_or(0))
}

/// Forgets the oldest ids where more are remembered than may be.
async fn forget_excess(session: &Session, most: i64) -> Result<(), Fault> {
    let kept = i64::try_from(GONE_JOBS_MAX).unwrap_or(i64::MAX);
    if let Some(row) = session.query_opt(GONE_EXCESS, &[&kept]).await? {
        let at: i64 = get(&row, 0)?;
        session.execute(FORGET_GONE, &[&at, &most]).await?;
    }
    Ok(())
}

/// Deletes a finished job.
pub(super) async fn delete(
    session: &Session,
    id: JobId,
    if_version: Option<u64>,
    now: Timestamp,
) -> Result<Deleted, Fault> {
    session.begin().await?;
    let deleted = delete_within(session, id, if_version, now).await;
    session.end(deleted).await
}

async fn delete_within(
    session: &Session,
    id: JobId,
    if_version: Option<u64>,
    now: Timestamp,
) -> Result<Deleted, Fault> {
    let mut batch = Batch::default();
    batch.lock(session, &[id]).await?;
    let Some(job) = batch.jobs.get(&id) else {
        let is_gone = !gone(session, [id].iter()).await?.is_empty();
        return Ok(if is_gone {
            Deleted::Gone
        } else {
            Deleted::Unknown
        });
    };
    if if_version.is_some_and(|version| version != job.status.version) {
        return Ok(Deleted::VersionDiffers(Box::new(job.job())));
    }
    if !job.status.state.is_final() {
        return Ok(Deleted::NotFinal(Box::new(job.job())));
    }
    let sql = format!(
        "WITH due AS MATERIALIZED (SELECT id, errors, reports, states FROM done WHERE id = $2), \
         {FORGET}"
    );
    session.query(&sql, &[&now.as_millis(), &uuid(id)]).await?;
    Ok(Deleted::Done)
}
