//! Jobs that something ran out for: leases, deadlines, and the life of nodes.

use super::fault::Fault;
use super::rows::{count, get, id, instant, name, optional_instant, unsigned};
use super::session::{Session, Values};
use crate::store::{Overdue, OverdueReason};
use anteroom_core::{ClaimNumber, Timestamp};
use futures_util::try_join;
use tokio_postgres::Row;

/// What runs and should not any more: under the epoch of a node that is no more, or under a lease that
/// ran out, if it is a worker's or one of this node's own. The leases of other nodes are theirs to keep,
/// and where nodes may be late for the database's sake (`$4` false) only those are no more that have left.
const RUNNING: &str = "SELECT running.id, running.task, running.attempt, running.claim, \
    running.node, running.started_at + job.timeout_ms, running.lease_expires_at, \
    running.node IS NOT NULL AND node.epoch IS NULL AS is_orphan \
    FROM running JOIN job ON job.id = running.id \
    LEFT JOIN node ON node.epoch = running.node \
        AND (node.epoch = $2 OR node.expires_at > $1 OR NOT $4::boolean) \
    WHERE (running.node IS NOT NULL AND node.epoch IS NULL) \
        OR ((running.node IS NULL OR running.node = $2) AND running.lease_expires_at <= $1) \
    ORDER BY CASE WHEN running.node IS NOT NULL AND node.epoch IS NULL THEN 0 \
        ELSE running.lease_expires_at END, running.id LIMIT $3";

/// What waits and can no longer begin in time.
const WAITING: &str = "SELECT id, task, attempt, deadline FROM waiting \
    WHERE deadline IS NOT NULL AND deadline < $1 ORDER BY deadline LIMIT $2";

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
    let of_running: Values<'_> = &[&now, &node, &most, &is_steady];
    let of_waiting: Values<'_> = &[&now, &most];
    let (running, waiting) = try_join!(
        session.query(RUNNING, of_running),
        session.query(WAITING, of_waiting),
    )?;
    let mut all = Vec::with_capacity(running.len() + waiting.len());
    for row in &running {
        all.push(running_one(row)?);
    }
    for row in &waiting {
        let since = optional_instant(row, 3)?.unwrap_or(Timestamp::MIN);
        let overdue = Overdue {
            id: id(row, 0)?,
            task: name(row, 1)?,
            attempt: count(row, 2)?,
            reason: OverdueReason::Deadline,
        };
        all.push((since, overdue));
    }
    all.sort_by_key(|(since, overdue)| (*since, overdue.id));
    all.truncate(limit);
    Ok(all.into_iter().map(|(_, overdue)| overdue).collect())
}

fn running_one(row: &Row) -> Result<(Timestamp, Overdue), Fault> {
    let claim = ClaimNumber::new(unsigned(row, 3)?);
    let is_pulled = get::<Option<i64>>(row, 4)?.is_none();
    let (times_out_at, expires_at) = (instant(row, 5)?, instant(row, 6)?);
    let is_orphan: bool = get(row, 7)?;
    let (since, reason) = if is_orphan {
        (Timestamp::MIN, OverdueReason::Process(claim))
    } else if is_pulled && expires_at >= times_out_at {
        (expires_at, OverdueReason::Timeout(claim))
    } else {
        (expires_at, OverdueReason::Lease(claim))
    };
    let overdue = Overdue {
        id: id(row, 0)?,
        task: name(row, 1)?,
        attempt: count(row, 2)?,
        reason,
    };
    Ok((since, overdue))
}
