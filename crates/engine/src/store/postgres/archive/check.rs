//! Looks for damage that no single record shows.

use crate::store::postgres::fault::Fault;
use crate::store::postgres::rows::{count, get, id, unsigned};
use crate::store::postgres::session::Session;
use anteroom_core::limits::ERRORS_MAX;

/// Damages of one sort that are named; of more than these it is said how many there are.
const NAMED_MAX: usize = 1_000;

/// Each question goes over all rows once, so that the planner may choose how.
const PLAN_FREELY: &str = "SAVEPOINT planning; SET LOCAL enable_seqscan = on; \
    SET LOCAL enable_hashjoin = on; SET LOCAL enable_mergejoin = on; \
    SET LOCAL enable_bitmapscan = on";
const PLAN_AS_BEFORE: &str = "ROLLBACK TO SAVEPOINT planning";

/// A question about rows that should not be there, which gives the ids of their jobs, and what is
/// wrong where there are some.
struct Search {
    sql: &'static str,
    what: &'static str,
}

const SEARCHES: &[Search] = &[
    Search {
        sql: "SELECT id FROM job WHERE NOT EXISTS (SELECT FROM waiting WHERE id = job.id) \
              AND NOT EXISTS (SELECT FROM running WHERE id = job.id) \
              AND NOT EXISTS (SELECT FROM done WHERE id = job.id)",
        what: "it neither waits nor runs, and has not ended",
    },
    Search {
        sql: "SELECT id FROM waiting WHERE EXISTS (SELECT FROM running WHERE id = waiting.id)",
        what: "it both waits and runs",
    },
    Search {
        sql: "SELECT id FROM done WHERE EXISTS (SELECT FROM waiting WHERE id = done.id) \
              OR EXISTS (SELECT FROM running WHERE id = done.id)",
        what: "it is both finished and not",
    },
    Search {
        sql: "SELECT id FROM (SELECT id FROM waiting UNION ALL SELECT id FROM running) AS live \
              WHERE NOT EXISTS (SELECT FROM job WHERE id = live.id)",
        what: "it stands among the unfinished jobs, and there is no such job",
    },
    Search {
        sql: "SELECT id FROM done WHERE NOT EXISTS (SELECT FROM job WHERE id = done.id)",
        what: "it stands among the finished jobs, and there is no such job",
    },
    Search {
        sql: "SELECT id FROM (SELECT id FROM error UNION SELECT id FROM report UNION \
              SELECT id FROM state UNION SELECT id FROM settled) AS part \
              WHERE NOT EXISTS (SELECT FROM job WHERE id = part.id)",
        what: "errors or events are kept of it, and there is no such job",
    },
    Search {
        sql: "SELECT id FROM (SELECT id, task, queue, priority, \"group\" FROM waiting UNION ALL \
              SELECT id, task, queue, priority, \"group\" FROM running) AS live \
              JOIN job USING (id) WHERE live.task <> job.task OR live.queue <> job.queue \
              OR live.priority <> job.priority OR live.\"group\" <> coalesce(job.\"group\", '')",
        what: "it waits or runs as another job than it is",
    },
    Search {
        sql: "SELECT id FROM waiting JOIN job USING (id) WHERE waiting.deadline IS DISTINCT FROM \
              CASE WHEN waiting.started_at IS NULL THEN job.start_before END",
        what: "it waits for another deadline than it has",
    },
    Search {
        sql: "SELECT id FROM running WHERE (node IS NULL) <> (lease = 1)",
        what: "it runs on a server under the lease of a worker, or on none without",
    },
    Search {
        sql: "SELECT id FROM done WHERE state NOT IN (2, 3, 4)",
        what: "it has not ended and stands among the finished jobs",
    },
    Search {
        sql: "SELECT id FROM done JOIN job USING (id) \
              WHERE done.expires_at <> done.finished_at + job.retain_ms",
        what: "it is kept for another time than it was to be",
    },
    Search {
        sql: "SELECT id FROM gone WHERE EXISTS (SELECT FROM job WHERE id = gone.id)",
        what: "it is there and is remembered as gone",
    },
    Search {
        sql: "SELECT id FROM job WHERE unique_key IS NOT NULL \
              AND (EXISTS (SELECT FROM waiting WHERE id = job.id) \
              OR EXISTS (SELECT FROM running WHERE id = job.id)) \
              AND NOT EXISTS (SELECT FROM unique_key AS held WHERE held.task = job.task \
              AND held.key = job.unique_key AND held.id = job.id)",
        what: "it is unfinished and does not hold its unique key",
    },
    Search {
        sql: "SELECT id FROM unique_key AS held WHERE NOT EXISTS (SELECT FROM job \
              WHERE id = held.id AND task = held.task AND unique_key = held.key) \
              OR (NOT EXISTS (SELECT FROM waiting WHERE id = held.id) \
              AND NOT EXISTS (SELECT FROM running WHERE id = held.id))",
        what: "it holds a unique key and is no unfinished job that has it",
    },
];

/// Jobs of which other errors, reports or states are there than their rows say.
const MISCOUNTED: &str = "SELECT standing.id, standing.errors, standing.reports, standing.states, \
    coalesce(said.kept, 0) AS kept FROM standing \
    LEFT JOIN (SELECT id, count(*) AS kept, max(ordinal) AS last FROM error GROUP BY id) AS said \
    ON said.id = standing.id \
    LEFT JOIN (SELECT id, max(ordinal) AS last FROM report GROUP BY id) AS told \
    ON told.id = standing.id \
    LEFT JOIN (SELECT id, count(*) AS kept, min(ordinal) AS first, max(ordinal) AS last \
    FROM state GROUP BY id) AS entered ON entered.id = standing.id \
    WHERE coalesce(said.kept, 0) <> least(standing.errors, $1) \
    OR coalesce(said.last + 1, 0) <> standing.errors \
    OR coalesce(told.last, 0) > standing.reports \
    OR coalesce(entered.last + 1, 0) <> standing.states \
    OR entered.kept <> entered.last - entered.first + 1";

/// Looks within the transaction that reads.
pub(super) async fn check(session: &Session) -> Result<Vec<String>, Fault> {
    let mut damages = Vec::new();
    session.run(PLAN_FREELY).await?;
    for search in SEARCHES {
        found(session, search, &mut damages).await?;
    }
    miscounted(session, &mut damages).await?;
    numbers(session, &mut damages).await?;
    session.run(PLAN_AS_BEFORE).await?;
    Ok(damages)
}

/// Returns the question for the first rows of another, and for how many those are in all, which
/// comes after the columns of a row.
fn first_of(sql: &str) -> String {
    format!(
        "SELECT found.*, count(*) OVER () FROM ({sql}) AS found ORDER BY found.id LIMIT {NAMED_MAX}"
    )
}

async fn found(session: &Session, search: &Search, damages: &mut Vec<String>) -> Result<(), Fault> {
    let rows = session.query(&first_of(search.sql), &[]).await?;
    for row in &rows {
        damages.push(format!("job {}: {}", id(row, 0)?, search.what));
    }
    if let Some(last) = rows.last() {
        further(unsigned(last, 1)?, search.what, damages);
    }
    Ok(())
}

async fn miscounted(session: &Session, damages: &mut Vec<String>) -> Result<(), Fault> {
    let kept = i32::try_from(ERRORS_MAX).unwrap_or(i32::MAX);
    let rows = session.query(&first_of(MISCOUNTED), &[&kept]).await?;
    for row in &rows {
        let (id, errors) = (id(row, 0)?, count(row, 1)?);
        let (reports, states, kept) = (unsigned(row, 2)?, unsigned(row, 3)?, unsigned(row, 4)?);
        damages.push(format!(
            "job {id}: it says that it has {errors} errors, {reports} reports and {states} states, \
             and other ones are kept of it ({kept} errors)"
        ));
    }
    if let Some(last) = rows.last() {
        let what = "they say that they have other errors, reports or states than are kept of them";
        further(unsigned(last, 5)?, what, damages);
    }
    Ok(())
}

/// Says how many more there are than were named.
fn further(all: u64, what: &str, damages: &mut Vec<String>) {
    if let Some(more) = all.checked_sub(NAMED_MAX as u64)
        && more > 0
    {
        damages.push(format!("{more} further jobs: {what}"));
    }
}

/// Compares the numbers that must never come back with those that are in use.
async fn numbers(session: &Session, damages: &mut Vec<String>) -> Result<(), Fault> {
    let sql = "SELECT coalesce((SELECT max(claim) FROM standing) > \
            (SELECT coalesce(last_value + increment_by, start_value) - 1 FROM pg_sequences \
            WHERE schemaname = 'anteroom' AND sequencename = 'claim'), false), \
        coalesce((SELECT max(version) FROM document) > \
            (SELECT number FROM document_version WHERE one = 1), false), \
        coalesce((SELECT max(node) FROM running) > (SELECT coalesce(last_value, 0) \
            FROM pg_sequences WHERE schemaname = 'anteroom' AND sequencename = 'node_epoch'), \
            false), \
        NOT EXISTS (SELECT FROM document_version WHERE one = 1), \
        NOT EXISTS (SELECT FROM queue_change WHERE one = 1)";
    let Some(row) = session.query_opt(sql, &[]).await? else {
        return Ok(());
    };
    let sorts = [
        "a job has a greater claim than the store ever drew",
        "a document has a greater version than the store ever gave",
        "a job runs under a greater epoch than a server ever had",
        "the database: its table document_version has no row",
        "the database: its table queue_change has no row",
    ];
    for (at, what) in sorts.into_iter().enumerate() {
        if get(&row, at)? {
            damages.push(what.to_owned());
        }
    }
    Ok(())
}
