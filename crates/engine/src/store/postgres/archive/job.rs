//! Jobs out of all the tables that have something of them, a page at a time.
//!
//! First it is looked at which jobs make a page, by the lengths of their payloads. Then each table
//! is asked once for all that it has of them, all at the same time.

use super::pages::limit;
use crate::store::archive::{
    Damage, Entry, KeptHistory, KeptJob, PAGE_BYTES_MAX, Record, RecordKey,
};
use crate::store::postgres::batch::state_event;
use crate::store::postgres::events::report;
use crate::store::postgres::fault::Fault;
use crate::store::postgres::rows::{
    AFTER_STANDING, JOB, STANDING, attempt_error, bytes, count, damaged, get, id, payload, settled,
    stored, text, unsigned, uuid,
};
use crate::store::postgres::session::{Session, Values};
use anteroom_core::{EventId, EventPart, Happened, JobEvent, JobId, Payload, State};
use futures_util::try_join;
use std::collections::HashMap;
use std::time::Duration;
use tokio_postgres::Row;
use uuid::Uuid;

/// The questions of one page: of each table what it has of the jobs from the first to the last.
const LEASES: &str = "SELECT id, lease_ms FROM running WHERE id BETWEEN $1 AND $2 ORDER BY id";
const RESULTS: &str = "SELECT id, result_content_type, result FROM done \
    WHERE id BETWEEN $1 AND $2 AND result_content_type IS NOT NULL ORDER BY id";
const ERRORS: &str = "SELECT id, attempt, at, kind, message FROM error \
    WHERE id BETWEEN $1 AND $2 ORDER BY id, ordinal";
const STATES: &str = "SELECT id, version, reports, part, state, attempt FROM state \
    WHERE id BETWEEN $1 AND $2 ORDER BY id, ordinal";
const REPORTS: &str = "SELECT id, ordinal, version, attempt, stream, fraction, text FROM report \
    WHERE id BETWEEN $1 AND $2 ORDER BY id, ordinal";
const SETTLED: &str = "SELECT id, claim, said FROM settled WHERE id BETWEEN $1 AND $2 ORDER BY id";

/// Reads the jobs after one, or the first.
pub(super) async fn jobs(session: &Session, after: Option<JobId>) -> Result<Vec<Entry>, Fault> {
    let ids = next_ids(session, after).await?;
    let (Some(first), Some(last)) = (ids.first(), ids.last()) else {
        return Ok(Vec::new());
    };
    let jobs = format!(
        "SELECT {JOB}, {STANDING}, job.input FROM job JOIN standing ON standing.id = job.id \
         WHERE job.id BETWEEN $1 AND $2 AND standing.id BETWEEN $1 AND $2 ORDER BY job.id"
    );
    let (first, last) = (uuid(*first), uuid(*last));
    let values: Values<'_> = &[&first, &last];
    let (jobs, leases, results, errors, states, reports, settled) = try_join!(
        session.query(&jobs, values),
        session.query(LEASES, values),
        session.query(RESULTS, values),
        session.query(ERRORS, values),
        session.query(STATES, values),
        session.query(REPORTS, values),
        session.query(SETTLED, values),
    )?;
    let parts = Parts {
        jobs: Rows::of(&jobs)?,
        leases: Rows::of(&leases)?,
        results: Rows::of(&results)?,
        errors: Rows::of(&errors)?,
        states: Rows::of(&states)?,
        reports: Rows::of(&reports)?,
        settled: Rows::of(&settled)?,
    };
    let entry = |id: JobId| match parts.job(id) {
        Ok(job) => Ok(Ok(Record::Job(Box::new(job)))),
        Err(Fault::Damaged(why)) => Ok(Err(Damage {
            key: RecordKey::Job(id),
            what: format!("it cannot be read: {why}"),
        })),
        Err(fault) => Err(fault),
    };
    ids.into_iter().map(entry).collect()
}

/// Returns the jobs of a page.
async fn next_ids(session: &Session, after: Option<JobId>) -> Result<Vec<JobId>, Fault> {
    let (from, after) = match after {
        Some(id) => (">", uuid(id)),
        None => (">=", Uuid::nil()),
    };
    // Lengths are known without reading what they are of.
    let sql = format!(
        "SELECT id, octet_length(input)::bigint + coalesce((SELECT octet_length(result) FROM done \
         WHERE done.id = job.id), 0) FROM job WHERE id {from} $1 ORDER BY id LIMIT $2"
    );
    let rows = session.query(&sql, &[&after, &limit()]).await?;
    let mut ids = Vec::with_capacity(rows.len());
    let mut bytes = 0;
    for row in &rows {
        ids.push(id(row, 0)?);
        bytes += unsigned(row, 1)?;
        if bytes >= PAGE_BYTES_MAX as u64 {
            break;
        }
    }
    Ok(ids)
}

/// Rows of one table, by the job that they are of, in their order.
struct Rows<'r>(HashMap<JobId, &'r [Row]>);

impl<'r> Rows<'r> {
    /// Takes rows in the order of their ids.
    fn of(rows: &'r [Row]) -> Result<Self, Fault> {
        let mut by_job = HashMap::new();
        for rows in rows.chunk_by(is_of_the_same) {
            if let Some(row) = rows.first() {
                by_job.insert(id(row, 0)?, rows);
            }
        }
        Ok(Self(by_job))
    }

    fn each(&self, id: JobId) -> &'r [Row] {
        self.0.get(&id).copied().unwrap_or_default()
    }

    fn one(&self, id: JobId) -> Option<&'r Row> {
        self.each(id).first()
    }
}

fn is_of_the_same(one: &Row, next: &Row) -> bool {
    matches!((id(one, 0), id(next, 0)), (Ok(one), Ok(next)) if one == next)
}

/// All that the tables have of the jobs of a page.
struct Parts<'r> {
    jobs: Rows<'r>,
    leases: Rows<'r>,
    results: Rows<'r>,
    errors: Rows<'r>,
    states: Rows<'r>,
    reports: Rows<'r>,
    settled: Rows<'r>,
}

impl Parts<'_> {
    fn job(&self, id: JobId) -> Result<KeptJob, Fault> {
        let row = match self.jobs.each(id) {
            [row] => row,
            [] => return Err(misplaced("it neither waits nor runs, and has not ended")),
            _ => return Err(misplaced("it stands in more than one place")),
        };
        let stored = stored(row)?;
        let input = Payload {
            content_type: stored.spec.input.content_type.clone(),
            bytes: bytes(row, AFTER_STANDING)?,
        };
        let result = match self.results.one(id) {
            Some(row) => Some(payload(row, 1)?),
            None => None,
        };
        let lease_for = match self.leases.one(id) {
            Some(row) if stored.status.state == State::Running => {
                Some(Duration::from_millis(unsigned(row, 1)?))
            }
            Some(_) | None => None,
        };
        let settled = match self.settled.one(id) {
            Some(row) => Some(settled(row, 1)?),
            None => None,
        };
        let errors = self.errors.each(id).iter();
        let errors = errors.map(|row| attempt_error(row, 1));
        let errors = errors.collect::<Result<_, Fault>>()?;
        Ok(KeptJob {
            told: self.history(id, stored.told.reports, stored.told.states)?,
            job: stored.into_job(errors),
            input,
            result,
            lease_for,
            settled,
        })
    }

    fn history(&self, id: JobId, reports: u64, states: u64) -> Result<KeptHistory, Fault> {
        let mut history = KeptHistory {
            reports_made: reports,
            ..KeptHistory::default()
        };
        if reports > 0 {
            let rows = self.reports.each(id).iter();
            history.reports = rows.map(reported).collect::<Result<_, _>>()?;
        }
        if states > 0 {
            let rows = self.states.each(id).iter();
            let rows = rows.map(|row| state_event(row, 1));
            history.states = rows.collect::<Result<_, _>>()?;
            history.states_dropped = states.saturating_sub(history.states.len() as u64);
        }
        Ok(history)
    }
}

fn misplaced(what: &str) -> Fault {
    Fault::Damaged(what.to_owned())
}

/// Reads `ordinal, version, attempt, stream, fraction, text` after the id.
fn reported(row: &Row) -> Result<JobEvent, Fault> {
    let words = match get::<Option<&[u8]>>(row, 6)? {
        Some(_) => Some(text(row, 6)?),
        None => None,
    };
    let said = report(get(row, 4)?, get(row, 5)?, words.as_deref());
    Ok(JobEvent {
        id: EventId {
            version: unsigned(row, 2)?,
            reports: unsigned(row, 1)?,
            part: EventPart::Report,
        },
        happened: Happened::Reported {
            attempt: count(row, 3)?,
            report: said.map_err(|why| damaged(row, 4, why))?,
        },
    })
}
