//! Jobs that are forgotten: when their retention is over, or because somebody says so.
//!
//! Only finished jobs are, which no claim is about: it is done beside the writer, on a connection of
//! its own, a bounded piece in each transaction.

use super::among::{among, sorted};
use super::batch::{Batch, gone};
use super::fault::Fault;
use super::read::remembered_since;
use super::rows::{get, id};
use super::session::{Session, Values};
use crate::store::Deleted;
use anteroom_core::limits::{GONE_JOBS_MAX, GONE_KEPT};
use anteroom_core::{JobId, Timestamp};
use futures_util::try_join;
use std::sync::LazyLock;

/// Jobs whose retention is over, locked, but for those that somebody else is at.
const DUE: &str = "SELECT id, errors, reports, states FROM done WHERE expires_at <= $1 \
    ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED";
static FORGET_DONE: LazyLock<String> =
    LazyLock::new(|| format!("DELETE FROM done WHERE {}", among("id")));
static FORGET_SPECS: LazyLock<String> =
    LazyLock::new(|| format!("DELETE FROM job WHERE {}", among("id")));
const FORGET_SETTLED: &str = "DELETE FROM settled WHERE id = ANY ($1)";
const FORGET_ERRORS: &str = "DELETE FROM error WHERE id = ANY ($1)";
const FORGET_REPORTS: &str = "DELETE FROM report WHERE id = ANY ($1)";
const FORGET_STATES: &str = "DELETE FROM state WHERE id = ANY ($1)";
const REMEMBER: &str =
    "INSERT INTO gone (id, at) SELECT *, $2 FROM unnest($1::uuid[]) ON CONFLICT DO NOTHING";

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
    session.begin().await?;
    let pruned = prune_within(session, most, now).await;
    let pruned = session.end(pruned).await?;
    session
        .execute(FORGET_SUBMITS, &[&submits_since, &most])
        .await?;
    session.execute(FORGET_GONE, &[&gone_since, &most]).await?;
    if pruned > 0 {
        forget_excess(session, most).await?;
    }
    Ok(pruned)
}

async fn prune_within(session: &Session, most: i64, now: Timestamp) -> Result<usize, Fault> {
    let rows = session.query(DUE, &[&now.as_millis(), &most]).await?;
    let mut due = Due::default();
    for row in &rows {
        let count = |at| get::<i64>(row, at);
        let errors: i32 = get(row, 1)?;
        due.add(id(row, 0)?, errors > 0, count(2)? > 0, count(3)? > 0);
    }
    due.forget(session, now).await?;
    Ok(rows.len())
}

/// Jobs to be forgotten, and those of them that there is more of than of most.
#[derive(Default)]
struct Due {
    all: Vec<JobId>,
    with_errors: Vec<JobId>,
    with_reports: Vec<JobId>,
    with_states: Vec<JobId>,
}

impl Due {
    fn add(&mut self, id: JobId, errors: bool, reports: bool, states: bool) {
        self.all.push(id);
        let further = [
            (errors, &mut self.with_errors),
            (reports, &mut self.with_reports),
            (states, &mut self.with_states),
        ];
        for (_, ids) in further.into_iter().filter(|(has, _)| *has) {
            ids.push(id);
        }
    }

    /// Deletes all there is of them, and remembers their ids as gone.
    async fn forget(&self, session: &Session, now: Timestamp) -> Result<(), Fault> {
        if self.all.is_empty() {
            return Ok(());
        }
        let all = sorted(&self.all);
        for (sql, ids) in [
            (FORGET_ERRORS, &self.with_errors),
            (FORGET_REPORTS, &self.with_reports),
            (FORGET_STATES, &self.with_states),
        ] {
            if !ids.is_empty() {
                session.execute(sql, &[&sorted(ids)]).await?;
            }
        }
        let now = now.as_millis();
        let values: Values<'_> = &[&all];
        let at: Values<'_> = &[&all, &now];
        try_join!(
            session.execute(&FORGET_DONE, values),
            session.execute(FORGET_SETTLED, values),
            session.execute(&FORGET_SPECS, values),
            session.execute(REMEMBER, at),
        )?;
        Ok(())
    }
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
    let mut due = Due::default();
    due.add(
        id,
        job.errors > 0,
        job.told.reports > 0,
        job.told.states > 0,
    );
    due.forget(session, now).await?;
    Ok(Deleted::Done)
}
