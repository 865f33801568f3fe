//! This node among the others: the epoch that its attempts run under, and how it is seen to be alive.

use super::fault::Fault;
use super::link::Link;
use super::rows::{get, millis};
use super::session::Session;
use super::shared::Shared;
use super::wake::Listening;
use crate::clock::FollowedClock;
use anteroom_core::Timestamp;
use anteroom_core::limits::LEASE_GRACE_MAX;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a node is taken for alive after it has said so.
const NODE_KEPT: Duration = Duration::from_secs(20);
/// How long after it said so a node counts on that: its attempts have the rest of the time to end.
pub(super) const KEPT: Duration = Duration::from_secs(17);
/// How often it says so.
const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
/// How long the database has to have been reached before a node that is late is taken for dead.
pub(super) const STEADY: Duration = Duration::from_secs(10);

const JOIN: &str = "INSERT INTO node (epoch, started_at, expires_at) \
    VALUES (nextval('node_epoch'), $1, $2) RETURNING epoch";
const BEAT: &str = "INSERT INTO node (epoch, started_at, expires_at) VALUES ($1, $2, $3) \
    ON CONFLICT (epoch) DO UPDATE SET expires_at = excluded.expires_at \
    RETURNING (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
const LEAVE: &str = "DELETE FROM node WHERE epoch = $1";
/// Nodes that are gone and that nothing runs under any more.
const FORGET: &str = "DELETE FROM node WHERE expires_at <= $1 \
    AND NOT EXISTS (SELECT FROM running WHERE running.node = node.epoch)";
/// A worker that could not reach anybody while no node was there gets its lease once more.
const HONOUR_LEASES: &str = "UPDATE running \
    SET lease_expires_at = greatest(lease_expires_at, $1 + least(lease_ms, $2)) \
    WHERE node IS NULL AND NOT EXISTS (SELECT FROM node WHERE expires_at > $1)";

/// Joins the others, and returns the epoch of this node.
pub(super) async fn join(session: &Session, now: Timestamp) -> Result<i64, Fault> {
    let grace = millis(LEASE_GRACE_MAX);
    session
        .execute(HONOUR_LEASES, &[&now.as_millis(), &grace])
        .await?;
    session.execute(FORGET, &[&now.as_millis()]).await?;
    let expires_at = now.after(NODE_KEPT).as_millis();
    let rows = session
        .query(JOIN, &[&now.as_millis(), &expires_at])
        .await?;
    match rows.first() {
        Some(row) => get(row, 0),
        None => Err(Fault::Passing("no epoch was drawn".to_owned())),
    }
}

/// Leaves the others: what still runs here is theirs to rescue.
pub(super) async fn leave(session: &Session, node: i64) -> Result<(), Fault> {
    session.execute(LEAVE, &[&node]).await?;
    Ok(())
}

/// Says again and again that this node is alive.
#[expect(
    clippy::disallowed_methods,
    reason = "a node is alive by the time that passes, whatever its clock says"
)]
pub(super) async fn beat(
    shared: Arc<Shared>,
    link: Arc<Link>,
    node: i64,
    followed: Option<FollowedClock>,
) {
    let started_at = shared.clock.now().as_millis();
    let mut was_well = true;
    let mut listening = Listening::default();
    loop {
        let beaten = async {
            let session = link.session().await?;
            let listens = listening.over(&session).await?;
            let sent_at = Instant::now();
            let expires_at = shared.clock.now().after(NODE_KEPT).as_millis();
            let row = session
                .query_opt(BEAT, &[&node, &started_at, &expires_at])
                .await?;
            shared.beaten(sent_at, listens);
            if let (Some(followed), Some(row)) = (&followed, row) {
                let shown = super::time::shown(&row, sent_at)?;
                if let Some(shown) = shown {
                    followed.set(shown);
                }
            }
            Ok::<_, Fault>(())
        };
        let beaten = beaten.await;
        shared.reached(beaten.is_ok());
        let is_well = beaten.is_ok();
        if let Err(fault) = beaten
            && was_well
        {
            let error = fault.into_error();
            tracing::warn!(%error, "this node could not say that it is alive: {error}");
        }
        was_well = is_well;
        tokio::time::sleep(HEARTBEAT_INTERVAL).await;
    }
}
