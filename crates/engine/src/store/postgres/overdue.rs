//! Jobs that something ran out for: leases, deadlines, and the life of nodes.

use super::fault::Fault;
use super::rows::{count, get, id, instant, name, unsigned};
use super::session::{Session, Values};
use crate::store::{Overdue, OverdueReason};
use anteroom_core::{ClaimNumber, Timestamp};
use tokio_postgres::Row;

/// What runs and should not any more: under the epoch of a node that is no more, or under a lease that
/// ran out, if it is a worker's or one of this node's own. The leases of other nodes are theirs to keep,
/// and where nodes may be late for the database's sake (`$4` false) only those are no more that have left.
/// What was submitted is looked at for those few that are told.
const OVERDUE: &str = "(SELECT overdue.id, overdue.task, overdue.attempt, overdue.claim, \
    overdue.node, overdue.started_at + (SELECT timeout_ms FROM job WHERE job.id = overdue.id), \
    overdue.lease_expires_at, overdue.is_orphan FROM ( \
    SELECT running.*, running.node IS NOT NULL AND node.epoch IS NULL AS is_orphan FROM running \
    LEFT JOIN node ON node.epoch = running.node \
        AND (node.epoch = $2 OR node.expires_at > $1 OR NOT $4::boolean) \
    WHERE (running.node IS NOT NULL AND node.epoch IS NULL) \
        OR ((running.node IS NULL OR running.node = $2) AND running.lease_expires_at <= $1) \
    ORDER BY CASE WHEN running.node IS NOT NULL AND node.epoch IS NULL THEN 0 \
        ELSE running.lease_expires_at END, running.id LIMIT $3) AS overdue) \
    UNION ALL (SELECT id, task, attempt, NULL, NULL, NULL, deadline, NULL FROM waiting \
    WHERE deadline IS NOT NULL AND deadline < $1 ORDER BY deadline LIMIT $3)";

/// Returns up to `limit` jobs that something ran out for, the longest overdue first.
pub(super) async fn overdue(
    session: &Session,
    limit: usize,
    node: i64,
    is_steady: bool,
    now: Timestamp,
) -> Result<Vec<Overdue>, Fault> {
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let now = now.as_millis();
    let values: Values<'_> = &[&now, &node, &most, &is_steady];
    let rows = session.query(OVERDUE, values).await?;
    let all: Result<Vec<_>, Fault> = rows.iter().map(overdue_one).collect();
    let mut all = all?;
    all.sort_by_key(|(since, overdue)| (*since, overdue.id));
    all.truncate(limit);
    Ok(all.into_iter().map(|(_, overdue)| overdue).collect())
}

fn overdue_one(row: &Row) -> Result<(Timestamp, Overdue), Fault> {
    let since = instant(row, 6)?;
    let (since, reason) = match get::<Option<bool>>(row, 7)? {
        None => (since, OverdueReason::Deadline),
        Some(true) => (Timestamp::MIN, OverdueReason::Process(claim(row)?)),
        Some(false) => {
            let is_pulled = get::<Option<i64>>(row, 4)?.is_none();
            if is_pulled && since >= instant(row, 5)? {
                (since, OverdueReason::Timeout(claim(row)?))
            } else {
                (since, OverdueReason::Lease(claim(row)?))
            }
        }
    };
    let overdue = Overdue {
        id: id(row, 0)?,
        task: name(row, 1)?,
        attempt: count(row, 2)?,
        reason,
    };
    Ok((since, overdue))
}

fn claim(row: &Row) -> Result<ClaimNumber, Fault> {
    Ok(ClaimNumber::new(unsigned(row, 3)?))
}
