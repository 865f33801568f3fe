//! What time it is, which the database alone says: nodes whose own clocks differ agree on it.

use super::fault::Fault;
use super::rows::instant;
use super::session::Session;
use anteroom_core::Timestamp;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Row;

/// A reading that took longer says little.
const ROUND_TRIP_MAX: Duration = Duration::from_millis(500);
/// Of so many readings the quickest counts.
const READINGS: u32 = 3;

/// Returns what the clock of the database shows now, which it said in a row that was asked for at an
/// instant; none where that took too long to say much.
pub(super) fn shown(row: &Row, asked_at: Instant) -> Result<Option<Timestamp>, Fault> {
    let took = asked_at.elapsed();
    let shown = instant(row, 0)?.after(took / 2);
    Ok((took <= ROUND_TRIP_MAX).then_some(shown))
}

/// Returns what the clock of the database shows now: right to half of the quickest round trip.
pub(super) async fn now(session: &Session) -> Result<Timestamp, Fault> {
    let sql = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    session.prepared(sql).await?;
    let mut best: Option<(Duration, Instant, Timestamp)> = None;
    for _ in 0..READINGS {
        let asked_at = Instant::now();
        let row = session.query_opt(sql, &[]).await?;
        let took = asked_at.elapsed();
        let Some(row) = row else { continue };
        let middle = asked_at + took / 2;
        if best.is_none_or(|(quickest, ..)| took < quickest) {
            best = Some((took, middle, instant(&row, 0)?));
        }
    }
    match best {
        Some((took, middle, shown)) if took <= ROUND_TRIP_MAX => Ok(shown.after(middle.elapsed())),
        _ => Err(Fault::Passing(
            "the database takes too long to say what time it is".to_owned(),
        )),
    }
}
