//! How many unfinished jobs there are.
//!
//! Counting goes once through an index of all that wait. What it took where many do is spread over
//! the time after it: the same answer is given again for a multiple of that time.

use super::fault::Fault;
use super::rows::{get, instant, name, unsigned};
use super::session::Session;
use crate::store::Counts;
use anteroom_core::{Name, Timestamp};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tokio_postgres::Row;

/// Up to so many unfinished jobs are counted whenever somebody asks: it takes milliseconds.
const COUNTED_ALWAYS_MAX: u64 = 20_000;
/// An answer is given again for so many times the time that it took: counting takes no more than a
/// twentieth of one core's time.
const KEPT_TIMES: u32 = 20;
/// And for no longer than this.
const KEPT_MAX: Duration = Duration::from_secs(30);

/// Of `waiting`, along its index. The second part has few rows.
const COUNT: &str = "SELECT task, queue, count(*) FILTER (WHERE run_at > $1), \
    count(*) FILTER (WHERE run_at <= $1), 0::bigint, min(run_at) FILTER (WHERE run_at <= $1) \
    FROM waiting GROUP BY queue, task \
    UNION ALL \
    SELECT task, queue, 0, 0, count(*), NULL FROM running GROUP BY queue, task";

/// What was counted last.
#[derive(Debug, Default)]
pub(super) struct Counting {
    last: Mutex<Option<Counted>>,
}

#[derive(Debug)]
struct Counted {
    counts: Vec<Counts>,
    until: Instant,
}

impl Counting {
    /// Returns how many unfinished jobs there are of each task in each queue. Where there are many
    /// it may say how many there were a while ago; who asks meanwhile waits for one count.
    pub(super) async fn counts(
        &self,
        session: &Session,
        now: Timestamp,
    ) -> Result<Vec<Counts>, Fault> {
        let mut last = self.last.lock().await;
        let began_at = Instant::now();
        if let Some(known) = last.as_ref().filter(|known| began_at < known.until) {
            return Ok(known.counts.clone());
        }
        *last = None;
        let rows = session.query(COUNT, &[&now.as_millis()]).await?;
        let counts = counts(&rows)?;
        let took = began_at.elapsed();
        if let Some(span) = kept_for(&counts, took) {
            *last = Some(Counted {
                counts: counts.clone(),
                until: began_at + took + span,
            });
        }
        Ok(counts)
    }
}

/// Returns for how long counts are given again; none where they are few.
fn kept_for(counts: &[Counts], took: Duration) -> Option<Duration> {
    let each = counts.iter();
    let all: u64 = each.map(|of| of.scheduled + of.ready + of.running).sum();
    (all > COUNTED_ALWAYS_MAX).then(|| took.saturating_mul(KEPT_TIMES).min(KEPT_MAX))
}

fn counts(rows: &[Row]) -> Result<Vec<Counts>, Fault> {
    let mut counts: BTreeMap<(Name, Name), Counts> = BTreeMap::new();
    for row in rows {
        let (task, queue) = (name(row, 0)?, name(row, 1)?);
        let key = (task.clone(), queue.clone());
        let of = counts.entry(key).or_insert_with(|| Counts {
            task,
            queue,
            scheduled: 0,
            ready: 0,
            running: 0,
            oldest_ready: None,
        });
        of.scheduled += unsigned(row, 2)?;
        of.ready += unsigned(row, 3)?;
        of.running += unsigned(row, 4)?;
        if get::<Option<i64>>(row, 5)?.is_some() {
            of.oldest_ready = Some(instant(row, 5)?);
        }
    }
    Ok(counts.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(ready: u64) -> Counts {
        Counts {
            task: Name::new("task").unwrap(),
            queue: Name::new("queue").unwrap(),
            scheduled: 1,
            ready,
            running: 1,
            oldest_ready: None,
        }
    }

    #[test]
    fn only_the_counts_of_many_jobs_are_given_again() {
        let took = Duration::from_millis(100);
        let few = COUNTED_ALWAYS_MAX - 2;
        assert_eq!(kept_for(&[], Duration::from_hours(1)), None);
        assert_eq!(kept_for(&[of(few)], Duration::from_hours(1)), None);
        assert_eq!(kept_for(&[of(few + 1)], took), Some(took * KEPT_TIMES));
        assert_eq!(kept_for(&[of(few), of(0)], took), Some(took * KEPT_TIMES));
        assert_eq!(kept_for(&[of(few + 1)], Duration::MAX), Some(KEPT_MAX));
    }
}
