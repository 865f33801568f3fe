//! Lists, a page at a time, newest first: ids go up in the order of submission.
//!
//! The states that a filter names say which tables are gone through, each by its key: `job` where
//! none is named, else those in which jobs of these states lie. Each gives its newest that match,
//! and the newest of those are the page; only these are read whole. What a page may look at is
//! bounded by an id, below which it does not go; it is found first, by walking over keys.
//!
//! No term of a filter must lead the planner to another index, along which it would read and sort
//! all that matches: hence the empty text that is put to each name.

use super::fault::Fault;
use super::rows::{AFTER_STANDING, JOB, STANDING, attempt_error, get, state_number, stored};
use super::session::Session;
use crate::store::{Cursor, Filter, Listing, Page};
use anteroom_core::limits::{PAGE_LOOKED_AT_MAX, RESERVED_NAME_PREFIX};
use anteroom_core::{Job, Name, ShownState, State, Timestamp};
use std::iter;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

/// Returns a page of jobs.
pub(super) async fn list(
    session: &Session,
    filter: &Filter,
    page: Page,
    now: Timestamp,
) -> Result<Listing, Fault> {
    if filter.tasks_allowed.as_ref().is_some_and(Vec::is_empty) {
        return Ok(Listing::default());
    }
    let size = page.size.min(PAGE_LOOKED_AT_MAX);
    let before = Uuid::from_u128(page.after.map_or(u128::MAX, |cursor| cursor.0));
    if *filter == Filter::default() {
        let rows = rows_of(session, &plain(before, size)).await?;
        let listing = listing(&rows, size, None)?;
        // A callback on the page: the others are looked for.
        if listing.jobs.iter().all(|job| !job.spec.task.is_reserved()) {
            return Ok(listing);
        }
    }
    let through = Through::of(&filter.states, now);
    let floor = session.query_opt(&through.floor(), &[&before]).await?;
    let floor: Option<Uuid> = floor.map(|row| get(&row, 0)).transpose()?;
    let search = search(filter, &through, before, floor, size);
    let rows = rows_of(session, &search).await?;
    let mut listing = listing(&rows, size, floor)?;
    // What matches is said in one place; the statement only leaves out what cannot.
    listing
        .jobs
        .retain(|job| filter.matches(&job.spec, &job.status, now));
    Ok(listing)
}

/// Reads a page out of rows, of which there may be one more than it holds.
fn listing(rows: &[Row], size: usize, floor: Option<Uuid>) -> Result<Listing, Fault> {
    let shown = &rows[..rows.len().min(size)];
    let jobs: Vec<Job> = shown.iter().map(listed).collect::<Result<_, _>>()?;
    let next = match jobs.last() {
        Some(last) if rows.len() > size => Some(u128::from_be_bytes(*last.spec.id.as_bytes())),
        // The next page begins with the first job that this one did not look at.
        _ => floor.map(|floor| floor.as_u128().saturating_add(1)),
    };
    Ok(Listing {
        jobs,
        next: next.map(Cursor),
    })
}

/// Reads a job with its last error, if that is shown.
fn listed(row: &Row) -> Result<Job, Fault> {
    let has_error = get::<Option<i32>>(row, AFTER_STANDING)?.is_some();
    let error = has_error.then(|| attempt_error(row, AFTER_STANDING));
    Ok(stored(row)?.into_job(error.transpose()?.into_iter().collect()))
}

type Value = Box<dyn ToSql + Sync + Send>;

/// A statement, and what is bound to it.
struct Asked {
    sql: String,
    values: Vec<Value>,
}

async fn rows_of(session: &Session, asked: &Asked) -> Result<Vec<Row>, Fault> {
    let values = asked
        .values
        .iter()
        .map(|value| &**value as &(dyn ToSql + Sync));
    let values: Vec<_> = values.collect();
    Ok(session.query(&asked.sql, &values).await?)
}

/// The tables that a list goes through.
#[derive(Debug, PartialEq)]
enum Through {
    /// All jobs.
    Job,
    /// Those in which jobs of some states lie.
    Standing {
        /// Whether the `run_at` of a waiting job lies ahead of this instant; which answers do.
        waiting: Option<(i64, Vec<bool>)>,
        running: bool,
        /// Numbers of states.
        done: Vec<i16>,
    },
}

impl Through {
    fn of(states: &[ShownState], now: Timestamp) -> Self {
        if states.is_empty() {
            return Self::Job;
        }
        let mut is_ahead = Vec::new();
        let mut running = false;
        let mut done = Vec::new();
        for state in states {
            match state {
                ShownState::Scheduled => is_ahead.push(true),
                ShownState::Ready => is_ahead.push(false),
                ShownState::Running => running = true,
                ShownState::Succeeded | ShownState::Failed | ShownState::Cancelled => {
                    done.push(state_number(state.stored()));
                }
            }
        }
        Self::Standing {
            waiting: (!is_ahead.is_empty()).then(|| (now.as_millis(), is_ahead)),
            running,
            done,
        }
    }

    fn tables(&self) -> Vec<&'static str> {
        match self {
            Self::Job => vec!["job"],
            Self::Standing {
                waiting,
                running,
                done,
            } => {
                let waiting = waiting.as_ref().map(|_| "waiting");
                let done = (!done.is_empty()).then_some("done");
                let tables = [waiting, running.then_some("running"), done];
                tables.into_iter().flatten().collect()
            }
        }
    }

    /// Returns the statement for the newest id that a page which begins below `$1` does not look at.
    fn floor(&self) -> String {
        let one_more = PAGE_LOOKED_AT_MAX + 1;
        let below = |table| {
            format!("SELECT id FROM {table} WHERE id < $1 ORDER BY id DESC LIMIT {one_more}")
        };
        let looked_at = format!("LIMIT 1 OFFSET {PAGE_LOOKED_AT_MAX}");
        newest(self.tables().into_iter().map(below), &looked_at)
    }
}

/// Returns the statement for the newest of what some statements give, each its own newest.
fn newest(each: impl Iterator<Item = String>, limit: &str) -> String {
    let each: Vec<String> = each.collect();
    let each = each.join(") UNION ALL (");
    format!("SELECT id FROM (({each})) AS newest ORDER BY id DESC {limit}")
}

/// Asks for the newest jobs, whatever they are, and one more.
fn plain(before: Uuid, size: usize) -> Asked {
    // The bound that is written out tells the planner that few of all are wanted.
    let few = format!("ORDER BY id DESC LIMIT {}", PAGE_LOOKED_AT_MAX + 1);
    let ids = format!("SELECT id FROM job WHERE id < $1 {few}");
    let sql = page_of(&newest(iter::once(ids), "LIMIT $2"));
    Asked {
        sql,
        values: vec![Box::new(before), Box::new(one_more(size))],
    }
}

/// Asks for the newest jobs that match a filter, and one more.
fn search(
    filter: &Filter,
    through: &Through,
    before: Uuid,
    floor: Option<Uuid>,
    size: usize,
) -> Asked {
    let text = |text: Option<&str>| -> Value { Box::new(text.map(str::to_owned)) };
    let millis =
        |instant: Option<Timestamp>| -> Value { Box::new(instant.map(Timestamp::as_millis)) };
    let allowed = filter
        .tasks_allowed
        .as_ref()
        .map(|tasks| tasks.iter().map(ToString::to_string).collect::<Vec<_>>());
    let members = filter.tags.iter().map(member).collect::<Vec<_>>();
    let values: Vec<Value> = vec![
        Box::new(before),
        Box::new(floor.unwrap_or_default()),
        Box::new(one_more(size)),
        Box::new(allowed),
        text(filter.task.as_deref()),
        text(filter.queue.as_deref()),
        text(filter.group.as_deref()),
        millis(filter.created_after),
        millis(filter.created_before),
        Box::new((!members.is_empty()).then_some(members)),
    ];
    let mut asked = Asked {
        sql: String::new(),
        values,
    };
    let arms: Vec<String> = through
        .tables()
        .into_iter()
        .map(|table| asked.arm(table, through))
        .collect();
    asked.sql = page_of(&newest(arms.into_iter(), "LIMIT $3"));
    asked
}

impl Asked {
    /// Returns the statement for the newest of a table that match.
    fn arm(&mut self, table: &str, through: &Through) -> String {
        let in_job = || {
            let names = names("job");
            format!("(SELECT {names} AND {OF_JOB} FROM job WHERE job.id = {table}.id)")
        };
        let itself = || format!("{} AND {}", names(table), if_asked(table));
        let matches = match (through, table) {
            (Through::Job, _) => format!("{} AND {OF_JOB}", names(table)),
            (
                Through::Standing {
                    waiting: Some((now, is_ahead)),
                    ..
                },
                "waiting",
            ) => {
                let (now, is_ahead) = (self.bind(*now), self.bind(is_ahead.clone()));
                let stands = format!("(waiting.run_at > {now}) = ANY ({is_ahead})");
                format!("{stands} AND {}", itself())
            }
            (Through::Standing { done, .. }, "done") => {
                let states = self.bind(done.clone());
                format!("done.state = ANY ({states}) AND {}", in_job())
            }
            (Through::Standing { .. }, _) => itself(),
        };
        format!(
            "SELECT {table}.id FROM {table} WHERE {table}.id < $1 AND {table}.id > $2 \
             AND {matches} ORDER BY {table}.id DESC LIMIT $3"
        )
    }

    /// Binds a value and returns its mark.
    fn bind(&mut self, value: impl ToSql + Sync + Send + 'static) -> String {
        self.values.push(Box::new(value));
        format!("${}", self.values.len())
    }
}

/// Returns the terms about names, in a table that has them.
fn names(table: &str) -> String {
    format!(
        "($4::text[] IS NULL OR {table}.task || '' = ANY ($4)) \
         AND CASE WHEN $5::text IS NULL \
         THEN NOT starts_with({table}.task, '{RESERVED_NAME_PREFIX}') \
         ELSE {table}.task || '' = $5 END \
         AND ($6::text IS NULL OR {table}.queue || '' = $6) \
         AND ($7::text IS NULL OR {table}.\"group\" || '' = $7)"
    )
}

/// The terms about what only `job` says.
const OF_JOB: &str = "($8::bigint IS NULL OR job.created_at > $8) \
    AND ($9::bigint IS NULL OR job.created_at < $9) \
    AND ($10::text[] IS NULL OR (SELECT bool_and(strpos(coalesce(job.tags, ''), member) > 0) \
    FROM unnest($10) AS member))";

/// Returns [`OF_JOB`] for another table, for which `job` is looked at only if something is asked of
/// it.
fn if_asked(table: &str) -> String {
    format!(
        "($8::bigint IS NULL AND $9::bigint IS NULL AND $10::text[] IS NULL \
         OR (SELECT {OF_JOB} FROM job WHERE job.id = {table}.id))"
    )
}

/// Returns the statement for the jobs with some ids, each with its last error if it failed.
fn page_of(ids: &str) -> String {
    format!(
        "SELECT {JOB}, {STANDING}, error.attempt, error.at, error.kind, error.message \
         FROM ({ids}) AS page \
         CROSS JOIN LATERAL (SELECT * FROM job WHERE job.id = page.id OFFSET 0) AS job \
         CROSS JOIN LATERAL (SELECT * FROM standing WHERE standing.id = page.id OFFSET 0) AS standing \
         LEFT JOIN LATERAL (SELECT * FROM error WHERE error.id = page.id \
         AND error.ordinal = standing.errors - 1 OFFSET 0) AS error ON standing.state = {} \
         ORDER BY page.id DESC",
        state_number(State::Failed)
    )
}

/// Returns a tag as `tags_text` writes it. A quote within a value is escaped, so that a member is
/// found nowhere else.
fn member((name, value): &(Name, String)) -> String {
    format!("\"{name}\":{}", serde_json::Value::from(value.as_str()))
}

fn one_more(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::Label;

    #[test]
    fn the_states_say_which_tables_are_gone_through() {
        use ShownState::{Cancelled, Failed, Ready, Running, Scheduled, Succeeded};
        let tables =
            |states: &[ShownState]| Through::of(states, Timestamp::from_millis(7)).tables();
        assert_eq!(tables(&[]), ["job"]);
        assert_eq!(tables(&[Ready]), ["waiting"]);
        assert_eq!(tables(&[Ready, Scheduled]), ["waiting"]);
        assert_eq!(tables(&[Running]), ["running"]);
        assert_eq!(tables(&[Failed, Cancelled, Succeeded]), ["done"]);
        assert_eq!(
            tables(&[Succeeded, Scheduled, Running]),
            ["waiting", "running", "done"]
        );
    }

    /// A value for which there is no mark is refused by the database, and so is a mark without one.
    #[test]
    fn every_value_has_its_mark() {
        let now = Timestamp::from_millis(7);
        let every = Filter {
            tasks_allowed: Some(vec![Name::new("a").unwrap()]),
            task: Name::new("a").ok(),
            queue: Name::new("q").ok(),
            group: Label::new("g").ok(),
            tags: vec![(Name::new("t").unwrap(), "1".to_owned())],
            created_after: Some(now),
            created_before: Some(now),
            states: Vec::new(),
        };
        for states in [vec![], ShownState::ALL.to_vec(), vec![ShownState::Running]] {
            let through = Through::of(&states, now);
            for filter in [&Filter::default(), &every] {
                let asked = search(filter, &through, Uuid::max(), None, 50);
                let count = asked.values.len();
                for n in 1..=count {
                    assert!(
                        asked.sql.contains(&format!("${n}")),
                        "{states:?}: ${n} is missing"
                    );
                }
                assert!(
                    !asked.sql.contains(&format!("${}", count + 1)),
                    "{states:?}"
                );
            }
        }
    }

    #[test]
    fn a_tag_is_looked_for_as_it_is_written() {
        let value = "x \"y\"\n\u{1F980}";
        let tag = (Name::new("a.b").unwrap(), value.to_owned());
        let written = super::super::rows::tags_text(&[tag.clone()].into()).unwrap();
        assert!(written.contains(&member(&tag)), "{written}");
    }
}
