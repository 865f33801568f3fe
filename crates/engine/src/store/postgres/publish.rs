//! What a node says of itself to those who submit by SQL (`migrations/0002_submit.sql`).
//!
//! Tasks stay when their nodes go: submits are taken while no server runs. Nodes may have different
//! ones; of queues all of them are to be told the same, and the node that started last has said it.

use super::fault::Fault;
use super::rows::{millis, signed, small};
use super::session::Session;
use crate::store::Published;

/// Held while a node says what holds.
const HOLD: &str = "SELECT one FROM submit_rule WHERE one = 1 FOR UPDATE";
const PUT_TASKS: &str = "INSERT INTO task (name, queue, max_attempts, timeout_ms, retain_ms, \
    input_bytes_max, content_type, has_schema) SELECT * FROM unnest($1::text[], $2::text[], \
    $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[], $8::boolean[]) \
    ON CONFLICT (name) DO UPDATE SET queue = excluded.queue, \
    max_attempts = excluded.max_attempts, timeout_ms = excluded.timeout_ms, \
    retain_ms = excluded.retain_ms, input_bytes_max = excluded.input_bytes_max, \
    content_type = excluded.content_type, has_schema = excluded.has_schema";
const FORGET_QUEUES: &str = "DELETE FROM named_queue WHERE name <> ALL ($1)";
const PUT_QUEUES: &str = "INSERT INTO named_queue (name, max_depth) \
    SELECT * FROM unnest($1::text[], $2::bigint[]) \
    ON CONFLICT (name) DO UPDATE SET max_depth = excluded.max_depth";
const PUT_RULE: &str = "UPDATE submit_rule SET strict_queues = $1 WHERE one = 1";

/// Writes down what holds for submits, in one transaction.
///
/// Needs the session for itself, and must not be dropped while it runs: it would leave the
/// transaction open.
pub(super) async fn publish(session: &Session, published: &Published) -> Result<(), Fault> {
    session.begin().await?;
    let written = write(session, published).await;
    session.end(written).await
}

async fn write(session: &Session, published: &Published) -> Result<(), Fault> {
    session.query(HOLD, &[]).await?;
    let tasks = &published.tasks;
    let names: Vec<&str> = tasks.iter().map(|task| &*task.name).collect();
    let queues: Vec<&str> = tasks.iter().map(|task| &*task.queue).collect();
    let attempts: Vec<i32> = tasks.iter().map(|task| small(task.max_attempts)).collect();
    let timeouts: Vec<i64> = tasks.iter().map(|task| millis(task.timeout)).collect();
    let retained: Vec<i64> = tasks.iter().map(|task| millis(task.retain)).collect();
    let sizes = tasks.iter().map(|task| task.input_bytes_max);
    let sizes: Vec<i64> = sizes
        .map(|bytes| i64::try_from(bytes).unwrap_or(i64::MAX))
        .collect();
    let types: Vec<Option<&str>> = tasks
        .iter()
        .map(|task| task.content_type.as_deref())
        .collect();
    let checked: Vec<bool> = tasks.iter().map(|task| task.has_schema).collect();
    session
        .execute(
            PUT_TASKS,
            &[
                &names, &queues, &attempts, &timeouts, &retained, &sizes, &types, &checked,
            ],
        )
        .await?;
    let names: Vec<&str> = published.queues.keys().map(|name| &**name).collect();
    let depths = published.queues.values();
    let depths: Vec<Option<i64>> = depths.map(|depth| depth.map(signed)).collect();
    session.execute(FORGET_QUEUES, &[&names]).await?;
    session.execute(PUT_QUEUES, &[&names, &depths]).await?;
    session
        .execute(PUT_RULE, &[&published.strict_queues])
        .await?;
    Ok(())
}
