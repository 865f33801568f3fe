//! The partitions of `job` and `done`, one for each day on which jobs are submitted.
//!
//! An id begins with the time of its submit, so that a day is a range of ids. Partitions are made
//! some days ahead, by any node; where one is missing its jobs lie in the partition that takes the
//! rest, and all goes on. A day that is over and has few jobs left gives them to the rest and is
//! dropped: its space is given back at once, and nothing is ever vacuumed in it again. Jobs are
//! forgotten elsewhere (`forget`): what is dropped here has been moved before.

use super::database::Database;
use super::fault::{Fault, words};
use super::session::Session;
use super::shared::Shared;
use anteroom_core::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;
use tracing::{info, warn};
use uuid::Uuid;

/// How often days are looked after. One that could not be made is tried again as often.
const INTERVAL: Duration = Duration::from_mins(10);
/// So many days after today have a partition.
const DAYS_AHEAD: i64 = 3;
/// So many days before today are left alone, however few jobs they have.
const DAYS_LEFT_ALONE: i64 = 1;
/// A day is dropped once it has no more rows than this: moving them takes milliseconds.
const MOVED_ROWS_MAX: i64 = 1_000;
/// And no more bytes of inputs or results than this.
const MOVED_BYTES_MAX: i64 = 8 * 1024 * 1024;
/// Rows that take longer to count lie among many dead ones, which are vacuumed first.
const COUNTING_MAX: Duration = Duration::from_millis(100);
/// So many days are dropped at a time, at most.
const DROPPED_MAX: usize = 16;
/// Held by whoever makes partitions or drops them: "Anteroom", and the letter of days.
const LOCK: i64 = 0x616e_7465_726f_6f44;
/// What all of it is given: who waits for a lock has others wait behind it.
const PATIENCE: &str = "SET LOCAL lock_timeout = '200ms'; SET LOCAL statement_timeout = '2s'";

const DAY_MS: i64 = 86_400_000;

/// A table with days.
#[derive(Clone, Copy, Debug)]
struct Table {
    name: &'static str,
    /// What of a row may be large.
    bytes: &'static str,
    has_rest_between: &'static str,
}

const TABLES: [Table; 2] = [
    Table {
        name: "job",
        bytes: "input",
        has_rest_between: "SELECT EXISTS (SELECT FROM job_rest WHERE id >= $1 AND id < $2)",
    },
    Table {
        name: "done",
        bytes: "result",
        has_rest_between: "SELECT EXISTS (SELECT FROM done_rest WHERE id >= $1 AND id < $2)",
    },
];

/// Which partitions a table has, and whether this user may make more.
const PARTITIONS: &str = "SELECT partition.relname::text, \
    pg_has_role(parent.relowner, 'USAGE') AND has_schema_privilege(parent.relnamespace, 'CREATE') \
    FROM pg_class AS parent JOIN pg_inherits ON inhparent = parent.oid \
    JOIN pg_class AS partition ON partition.oid = inhrelid \
    WHERE parent.oid = to_regclass('anteroom.' || $1)";

/// A day of UTC, counted from 1 January 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Day(i64);

impl Day {
    const fn of(instant: Timestamp) -> Self {
        Self(instant.as_millis().div_euclid(DAY_MS))
    }

    /// Returns the least id of a job that was submitted on it; none for a day that ids do not reach.
    fn first_id(self) -> Option<Uuid> {
        let millis = u64::try_from(self.0.checked_mul(DAY_MS)?).ok()?;
        let is_reached = millis < 1 << 48;
        is_reached.then(|| Uuid::from_u128(u128::from(millis) << 80))
    }

    /// Returns how its partition of a table is called: `job_20261128`.
    fn partition(self, table: Table) -> Option<String> {
        let days = jiff::Span::new().try_days(self.0).ok()?;
        let date = jiff::civil::date(1970, 1, 1).checked_add(days).ok()?;
        Some(format!("{}_{}", table.name, date.strftime("%Y%m%d")))
    }

    /// Returns the day that a partition of a table is of.
    fn of_partition(name: &str, table: Table) -> Option<Self> {
        let date = name.strip_prefix(table.name)?.strip_prefix('_')?;
        let date = Some(date).filter(|date| date.len() == 8)?;
        let date = jiff::civil::Date::strptime("%Y%m%d", date).ok()?;
        let days = jiff::civil::date(1970, 1, 1).until(date).ok()?.get_days();
        Some(Self(days.into()))
    }
}

/// What was found, and done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Tended {
    /// Partitions that were made.
    pub(super) made: Vec<String>,
    /// Partitions that were dropped.
    pub(super) dropped: Vec<String>,
    /// What was in the way of others.
    pub(super) hindrances: Vec<String>,
}

/// Makes the partitions of the next days, and drops those of days that have hardly any jobs left.
///
/// What cannot be done now is told and left for the next time: jobs have their place in any case.
pub(super) async fn tend(session: &Session, now: Timestamp) -> Result<Tended, Fault> {
    let mut tended = Tended::default();
    let today = Day::of(now);
    for table in TABLES {
        let (days, may_make) = existing(session, table).await?;
        let missing = (today.0..=today.0 + DAYS_AHEAD).map(Day);
        let missing: Vec<Day> = missing.filter(|day| !days.contains(day)).collect();
        let over = days.range(..Day(today.0 - DAYS_LEFT_ALONE)).copied();
        let over: Vec<Day> = over.collect();
        if !may_make {
            if !missing.is_empty() {
                tended.hindrances.push(format!(
                    "its user does not own the table {}: jobs go to {0}_rest",
                    table.name
                ));
            }
            continue;
        }
        if !missing.is_empty() {
            let made = step(session, async || make(session, table, &missing).await).await;
            tended.note(table, "its next days", made)?;
        }
        for day in over.into_iter().take(DROPPED_MAX) {
            let Some(name) = day.partition(table) else {
                continue;
            };
            if has_few_rows(session, table, &name).await? {
                let done = step(session, async || drop_day(session, table, &name).await).await;
                tended.note(table, &name, done)?;
            }
        }
    }
    Ok(tended)
}

impl Tended {
    /// Adds what came of a step, or what was in its way.
    fn note(&mut self, table: Table, what: &str, done: Result<Self, Error>) -> Result<(), Fault> {
        match done {
            Ok(done) => {
                self.made.extend(done.made);
                self.dropped.extend(done.dropped);
                self.hindrances.extend(done.hindrances);
            }
            Err(error) if error.code().is_some() => {
                let why = if error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE) {
                    "others are at it".to_owned()
                } else {
                    words(&error)
                };
                let name = table.name;
                self.hindrances.push(format!("{name}, {what}: {why}"));
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

/// Returns the days that a table has a partition for, and whether this user may make more.
async fn existing(session: &Session, table: Table) -> Result<(BTreeSet<Day>, bool), Error> {
    let rows = session.query(PARTITIONS, &[&table.name]).await?;
    let day = |row: &tokio_postgres::Row| Day::of_partition(row.get(0), table);
    let may_make = rows.first().is_some_and(|row| row.get(1));
    Ok((rows.iter().filter_map(day).collect(), may_make))
}

/// Does something in a transaction of its own, while nobody else makes or drops days.
async fn step<T>(
    session: &Session,
    work: impl AsyncFnOnce() -> Result<T, Error>,
) -> Result<T, Error> {
    session.begin().await?;
    let done = async {
        session.run(PATIENCE).await?;
        let sql = "SELECT pg_advisory_xact_lock($1)";
        session.query(sql, &[&LOCK]).await?;
        work().await
    };
    let done = done.await;
    let end = if done.is_ok() { "COMMIT" } else { "ROLLBACK" };
    let ended = session.run(end).await;
    let done = done?;
    ended?;
    Ok(done)
}

/// Makes partitions of a table, but for days of which there are jobs already.
async fn make(session: &Session, table: Table, days: &[Day]) -> Result<Tended, Error> {
    let mut tended = Tended::default();
    let (known, _) = existing(session, table).await?;
    let parent = table.name;
    // Nothing is inserted from here on: what is not in the rest now will not be.
    let lock = format!("LOCK TABLE ONLY {parent} IN ACCESS EXCLUSIVE MODE");
    session.run(&lock).await?;
    for day in days.iter().filter(|day| !known.contains(day)) {
        let next = Day(day.0 + 1);
        let (Some(first), Some(end)) = (day.first_id(), next.first_id()) else {
            continue;
        };
        let Some(name) = day.partition(table) else {
            continue;
        };
        let rows = session
            .query(table.has_rest_between, &[&first, &end])
            .await?;
        if rows.first().is_some_and(|row| row.get(0)) {
            let said = format!("{name} is not made: {parent}_rest has jobs of that day already");
            tended.hindrances.push(said);
            continue;
        }
        let sql = format!(
            "CREATE TABLE {name} PARTITION OF {parent} FOR VALUES FROM ('{first}') TO ('{end}')"
        );
        session.run(&sql).await?;
        tended.made.push(name);
    }
    Ok(tended)
}

/// Tells whether a partition has so few rows left that they can be moved in no time.
async fn has_few_rows(session: &Session, table: Table, name: &str) -> Result<bool, Error> {
    let began_at = Instant::now();
    let bytes = table.bytes;
    let sql = format!(
        "SELECT count(*), coalesce(sum(octet_length({bytes})), 0)::bigint \
         FROM (SELECT {bytes} FROM {name} LIMIT {MOVED_ROWS_MAX} + 1) AS left_over"
    );
    let rows = session.query(&sql, &[]).await;
    let rows = match rows {
        Ok(rows) => rows,
        // Somebody else dropped it.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => return Ok(false),
        Err(error) => return Err(error),
    };
    let (count, bytes): (i64, i64) = match rows.first() {
        Some(row) => (row.get(0), row.get(1)),
        None => return Ok(false),
    };
    let is_quick = began_at.elapsed() <= COUNTING_MAX;
    Ok(is_quick && count <= MOVED_ROWS_MAX && bytes <= MOVED_BYTES_MAX)
}

/// Moves what is left of a day to the rest, and drops its partition.
async fn drop_day(session: &Session, table: Table, name: &str) -> Result<Tended, Error> {
    let mut tended = Tended::default();
    let parent = table.name;
    // A partition cannot be detached concurrently beside one that takes the rest. So nobody reads or
    // writes from here on, for the milliseconds that it takes.
    let lock = format!("LOCK TABLE ONLY {parent} IN ACCESS EXCLUSIVE MODE");
    session.run(&lock).await?;
    let (days, _) = existing(session, table).await?;
    let is_there = Day::of_partition(name, table).is_some_and(|day| days.contains(&day));
    if !is_there || !has_few_rows(session, table, name).await? {
        return Ok(tended);
    }
    let sql = format!(
        "ALTER TABLE {parent} DETACH PARTITION {name}; \
         INSERT INTO {parent} SELECT * FROM {name}; DROP TABLE {name}"
    );
    session.run(&sql).await?;
    tended.dropped.push(name.to_owned());
    Ok(tended)
}

/// Tells what was done, and what was in the way, unless that was told before.
pub(super) fn tell(tended: &Result<Tended, Fault>, told: &mut Vec<String>) {
    let hindrances = match tended {
        Ok(tended) => {
            if !tended.made.is_empty() {
                info!("made partitions: {}", tended.made.join(", "));
            }
            if !tended.dropped.is_empty() {
                info!("dropped partitions: {}", tended.dropped.join(", "));
            }
            tended.hindrances.clone()
        }
        Err(fault) => vec![fault.clone().into_error().to_string()],
    };
    for hindrance in hindrances.iter().filter(|this| !told.contains(this)) {
        warn!("partitions of a day have to wait: {hindrance}");
    }
    *told = hindrances;
}

/// Looks after days again and again. What was `told` already is not told again.
#[expect(
    clippy::disallowed_methods,
    reason = "days are looked after by the time that passes, whatever the clock says"
)]
pub(super) async fn keep(shared: Arc<Shared>, database: Arc<Database>, mut told: Vec<String>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let tended = async {
            // It is long until the next time: no connection is kept for that.
            let session = database.connect("days").await?;
            tend(&session, shared.clock.now()).await
        };
        tell(&tended.await, &mut told);
    }
}

#[cfg(test)]
mod tests;
