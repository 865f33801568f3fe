//! Looks for damage that no single record shows.

use super::in_words;
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::rows::{PROBED_KEYS, id};
use anteroom_core::JobId;
use anteroom_core::limits::ERRORS_MAX;
use rusqlite::{Connection, Result};

/// Damages of one sort that are named; of more than these it is said how many there are.
const NAMED_MAX: usize = 1_000;

/// A question about rows that should not be there: the id of a job (or none, and a key), and what is
/// wrong where there are some.
struct Search {
    /// Gives an id or NULL, and a text.
    sql: &'static str,
    what: &'static str,
}

const SEARCHES: &[Search] = &[
    Search {
        sql: "SELECT id, seq FROM job WHERE NOT EXISTS (SELECT 1 FROM live WHERE seq = job.seq) \
              AND NOT EXISTS (SELECT 1 FROM done WHERE seq = job.seq)",
        what: "it is neither finished nor not",
    },
    Search {
        sql: "SELECT job.id, job.seq FROM live JOIN done ON done.seq = live.seq \
              LEFT JOIN job ON job.seq = live.seq",
        what: "it is both finished and not",
    },
    Search {
        sql: "SELECT NULL, seq FROM live WHERE NOT EXISTS (SELECT 1 FROM job WHERE seq = live.seq)",
        what: "it stands among the unfinished jobs, and there is no such job",
    },
    Search {
        sql: "SELECT NULL, seq FROM done WHERE NOT EXISTS (SELECT 1 FROM job WHERE seq = done.seq)",
        what: "it stands among the finished jobs, and there is no such job",
    },
    Search {
        sql: "SELECT NULL, seq FROM (SELECT seq FROM error UNION SELECT seq FROM report UNION \
              SELECT seq FROM state UNION SELECT seq FROM settled) AS part \
              WHERE NOT EXISTS (SELECT 1 FROM job WHERE seq = part.seq)",
        what: "errors or events are kept of it, and there is no such job",
    },
    Search {
        sql: "SELECT job.id, job.seq FROM live JOIN job ON job.seq = live.seq \
              WHERE live.task IS NOT job.task OR live.queue IS NOT job.queue \
              OR live.priority IS NOT job.priority OR live.start_before IS NOT job.start_before \
              OR live.\"group\" IS NOT job.\"group\"",
        what: "it waits as another job than it is",
    },
    Search {
        sql: "SELECT job.id, job.seq FROM live JOIN job ON job.seq = live.seq \
              WHERE live.state NOT IN (0, 1)",
        what: "it has ended and stands among the unfinished jobs",
    },
    Search {
        sql: "SELECT job.id, job.seq FROM done JOIN job ON job.seq = done.seq \
              WHERE done.state NOT IN (2, 3, 4)",
        what: "it has not ended and stands among the finished jobs",
    },
    Search {
        sql: "SELECT job.id, job.seq FROM done JOIN job ON job.seq = done.seq \
              WHERE done.expires_at <> done.finished_at + job.retain_ms",
        what: "it is kept for another time than it was to be",
    },
    Search {
        sql: "SELECT job.id, job.seq FROM job JOIN gone ON gone.id = job.id",
        what: "it is there and is remembered as gone",
    },
    Search {
        sql: "SELECT job.id, job.seq FROM job JOIN live ON live.seq = job.seq \
              WHERE job.unique_key IS NOT NULL AND NOT EXISTS (SELECT 1 FROM unique_key AS held \
              WHERE held.task = job.task AND held.key = job.unique_key AND held.id = job.id)",
        what: "it is unfinished and does not hold its unique key",
    },
    Search {
        sql: "WITH owner AS MATERIALIZED (SELECT job.id, job.task, job.unique_key AS key \
              FROM job JOIN live ON live.seq = job.seq WHERE job.unique_key IS NOT NULL) \
              SELECT held.id, NULL FROM unique_key AS held LEFT JOIN owner \
              ON owner.id = held.id AND owner.task = held.task AND owner.key = held.key \
              WHERE owner.id IS NULL",
        what: "it holds a unique key and is no unfinished job that has it",
    },
];

pub(super) fn check(db: &Connection) -> std::result::Result<Vec<String>, Fault> {
    let mut damages = integrity(db)?;
    for search in SEARCHES {
        found(db, search, &mut damages)?;
    }
    misplaced(db, &mut damages)?;
    miscounted(db, &mut damages)?;
    numbers(db, &mut damages)?;
    Ok(damages)
}

/// Returns what the library finds wrong with the file.
fn integrity(db: &Connection) -> Result<Vec<String>> {
    let mut statement = db.prepare(&format!("PRAGMA integrity_check({NAMED_MAX})"))?;
    let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
    let lines = lines.collect::<Result<Vec<_>>>()?;
    let wrong = lines.into_iter().filter(|line| line != "ok");
    Ok(wrong.map(|line| format!("the database: {line}")).collect())
}

fn found(db: &Connection, search: &Search, damages: &mut Vec<String>) -> Result<()> {
    let mut statement = db.prepare(search.sql)?;
    let mut rows = statement.query([])?;
    let mut list = Damages::of(damages);
    while let Some(row) = rows.next()? {
        let name = match row.get::<_, Option<Vec<u8>>>(0)? {
            Some(bytes) => named(&bytes),
            None => format!("the job at key {}", row.get::<_, i64>(1)?),
        };
        list.add(|| format!("{name}: {}", search.what));
    }
    list.end(search.what);
    Ok(())
}

/// Finds jobs that lie where nobody looks for them.
fn misplaced(db: &Connection, damages: &mut Vec<String>) -> Result<()> {
    let mut statement = db.prepare("SELECT seq, id FROM job")?;
    let mut rows = statement.query([])?;
    let mut list = Damages::of(damages);
    while let Some(row) = rows.next()? {
        let seq: i64 = row.get(0)?;
        match id(row, 1) {
            Ok(id) => {
                let hint = id.order_key();
                if !(hint..hint + PROBED_KEYS).contains(&seq) {
                    list.add(|| {
                        format!("job {id}: it lies at key {seq}, where nobody looks for it")
                    });
                }
            }
            Err(error) => list.add(|| format!("the job at key {seq}: {}", in_words(&error))),
        }
    }
    list.end("they lie where nobody looks for them");
    Ok(())
}

/// Finds jobs of which other errors, reports or states are there than their rows say.
fn miscounted(db: &Connection, damages: &mut Vec<String>) -> Result<()> {
    let sql = format!(
        "SELECT job.id, stands.errors, stands.reports, stands.states, \
         (SELECT count(*) FROM error WHERE seq = job.seq), \
         (SELECT max(ordinal) FROM error WHERE seq = job.seq), \
         (SELECT max(ordinal) FROM report WHERE seq = job.seq), \
         (SELECT max(ordinal) FROM state WHERE seq = job.seq), \
         (SELECT count(*) - max(ordinal) + min(ordinal) FROM state WHERE seq = job.seq) \
         FROM (SELECT seq, errors, reports, states FROM live UNION ALL \
         SELECT seq, errors, reports, states FROM done) AS stands \
         JOIN job ON job.seq = stands.seq \
         WHERE min(stands.errors, {ERRORS_MAX}) IS NOT \
         (SELECT count(*) FROM error WHERE seq = job.seq) \
         OR (stands.errors > 0 AND stands.errors - 1 IS NOT \
         (SELECT max(ordinal) FROM error WHERE seq = job.seq)) \
         OR stands.reports < (SELECT ifnull(max(ordinal), 0) FROM report WHERE seq = job.seq) \
         OR stands.states IS NOT (SELECT ifnull(max(ordinal) + 1, 0) FROM state \
         WHERE seq = job.seq) \
         OR 1 IS NOT (SELECT ifnull(count(*) - max(ordinal) + min(ordinal), 1) FROM state \
         WHERE seq = job.seq)"
    );
    let mut statement = db.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut list = Damages::of(damages);
    while let Some(row) = rows.next()? {
        let name = named(row.get_ref(0)?.as_blob()?);
        let (errors, kept): (i64, i64) = (row.get(1)?, row.get(4)?);
        let (reports, states): (i64, i64) = (row.get(2)?, row.get(3)?);
        list.add(|| {
            format!(
                "{name}: it says that it has {errors} errors, {reports} reports and {states} states, \
                 and other ones are kept of it ({kept} errors)"
            )
        });
    }
    list.end("they say that they have other errors, reports or states than are kept of them");
    Ok(())
}

/// Compares the numbers that must never come back with those that are in use.
fn numbers(db: &Connection, damages: &mut Vec<String>) -> Result<()> {
    let number = |sql: &str| db.query_row(sql, [], |row| row.get::<_, Option<i64>>(0));
    let claim =
        number("SELECT max(claim) FROM (SELECT claim FROM live UNION ALL SELECT claim FROM done)")?;
    let opening = number("SELECT max(number) FROM opening")?;
    if claim.is_some_and(|claim| Some(claim >> 40) > opening) {
        damages.push("a job has a greater claim than the store ever drew".to_owned());
    }
    let version = number("SELECT max(version) FROM document")?;
    let last = number("SELECT max(number) FROM document_version")?;
    if version > last {
        damages.push("a document has a greater version than the store ever gave".to_owned());
    }
    for (table, rows) in [("opening", opening), ("document_version", last)] {
        if rows.is_none() {
            damages.push(format!("the database: its table {table} has no row"));
        }
    }
    Ok(())
}

fn named(bytes: &[u8]) -> String {
    match bytes.try_into() {
        Ok(bytes) => format!("job {}", JobId::from_bytes(bytes)),
        Err(_) => format!("a job whose id has {} bytes", bytes.len()),
    }
}

/// Damages of one sort.
struct Damages<'d> {
    list: &'d mut Vec<String>,
    count: usize,
}

impl<'d> Damages<'d> {
    fn of(list: &'d mut Vec<String>) -> Self {
        Self { list, count: 0 }
    }

    fn add(&mut self, damage: impl FnOnce() -> String) {
        self.count += 1;
        if self.count <= NAMED_MAX {
            self.list.push(damage());
        }
    }

    fn end(self, what: &str) {
        if let Some(more) = self.count.checked_sub(NAMED_MAX)
            && more > 0
        {
            self.list.push(format!("{more} further jobs: {what}"));
        }
    }
}
