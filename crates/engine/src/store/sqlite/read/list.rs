//! Lists, a page at a time.
//!
//! The filter is part of the statement, so that no job is made of a row that does not match, and
//! the states say which table is gone through: for unfinished jobs alone `live`, for finished ones
//! alone `done`, and `job` for both. What a page may look at is bounded by a key, below which it
//! does not go; it is found first, by walking over keys.

use super::Reader;
use crate::store::sqlite::fault::Fault;
use crate::store::sqlite::rows::{
    AFTER_DONE, DONE, LIVE_JOB, attempt_error_at, state_number, stored,
};
use crate::store::{Cursor, Filter, Listing, Page};
use anteroom_core::limits::{PAGE_LOOKED_AT_MAX, RESERVED_NAME_PREFIX};
use anteroom_core::{ShownState, State, Timestamp};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{OptionalExtension, params, params_from_iter};

impl Reader<'_> {
    pub(super) fn list(&self, filter: &Filter, page: Page) -> Result<Listing, Fault> {
        let now = self.shared.clock.now();
        let Some(mut search) = Search::new(filter, now) else {
            return Ok(Listing::default());
        };
        if search.terms.is_empty() {
            if let Some(listing) = self.page(filter, page, search.clone(), now)? {
                return Ok(listing);
            }
            search.leave_out_reserved();
        }
        let listing = self.page(filter, page, search, now)?;
        Ok(listing.unwrap_or_default())
    }

    /// Returns a page of what a search finds; none where that is every row, and one of them does
    /// not match.
    fn page(
        &self,
        filter: &Filter,
        page: Page,
        search: Search,
        now: Timestamp,
    ) -> Result<Option<Listing>, Fault> {
        let before = page.after.map_or(i64::MAX, Cursor::key);
        // Where every row matches, the size of the page is the bound.
        let floor = match search.terms.as_slice() {
            [] => None,
            _ => self.floor(search.through, before)?,
        };
        let is_plain = search.terms.is_empty();
        let (sql, values) = search.statement(before, floor, page.size);
        let mut statement = self.prepared(&sql)?;
        let mut rows = statement.query(params_from_iter(values))?;
        let mut listing = Listing::default();
        let mut last = before;
        while let Some(row) = rows.next()? {
            if listing.jobs.len() >= page.size {
                listing.next = Some(Cursor::from_key(last));
                return Ok(Some(listing));
            }
            let job = stored(row)?;
            last = job.seq;
            // What matches is said in one place; the statement only leaves out what cannot.
            if !filter.matches(&job.spec, &job.status, now) {
                if is_plain {
                    return Ok(None);
                }
                continue;
            }
            let error = match row.get_ref(AFTER_DONE)? {
                ValueRef::Null => None,
                _ => Some(attempt_error_at(row, AFTER_DONE)?),
            };
            listing.jobs.push(job.into_job(error.into_iter().collect()));
        }
        // The next page begins with the first job that this one did not look at.
        listing.next = floor.map(|floor| Cursor::from_key(floor + 1));
        Ok(Some(listing))
    }

    /// Returns the newest key that a page which begins below `before` does not look at.
    fn floor(&self, through: Through, before: i64) -> Result<Option<i64>, Fault> {
        let table = through.table();
        let sql = format!(
            "SELECT seq FROM {table} WHERE seq < ?1 ORDER BY seq DESC \
             LIMIT 1 OFFSET {PAGE_LOOKED_AT_MAX}"
        );
        let mut statement = self.prepared(&sql)?;
        let floor = statement.query_row(params![before], |row| row.get(0));
        Ok(floor.optional()?)
    }
}

/// The table that a list goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Through {
    Job,
    Live,
    Done,
}

impl Through {
    fn of(states: &[ShownState]) -> Self {
        let is_final = |state: &ShownState| state.stored().is_final();
        if states.is_empty() {
            Self::Job
        } else if states.iter().all(is_final) {
            Self::Done
        } else if states.iter().any(is_final) {
            Self::Job
        } else {
            Self::Live
        }
    }

    const fn table(self) -> &'static str {
        match self {
            Self::Job => "job",
            Self::Live => "live",
            Self::Done => "done",
        }
    }

    /// Returns the tables, the one that is gone through first. `CROSS JOIN` keeps them in order.
    const fn tables(self) -> &'static str {
        match self {
            Self::Job => {
                "job LEFT JOIN live ON live.seq = job.seq LEFT JOIN done ON done.seq = job.seq"
            }
            Self::Live => {
                "live CROSS JOIN job ON job.seq = live.seq LEFT JOIN done ON done.seq = live.seq"
            }
            Self::Done => {
                "done CROSS JOIN job ON job.seq = done.seq LEFT JOIN live ON live.seq = done.seq"
            }
        }
    }

    /// Returns the nearest table that has the names of tasks and queues.
    const fn names(self) -> &'static str {
        match self {
            Self::Job | Self::Done => "job",
            Self::Live => "live",
        }
    }
}

/// A filter as a statement asks for it.
#[derive(Clone)]
struct Search {
    through: Through,
    terms: Vec<String>,
    values: Vec<Value>,
}

impl Search {
    /// Returns the search for `filter`; none where nothing can match.
    fn new(filter: &Filter, now: Timestamp) -> Option<Self> {
        let mut search = Self {
            through: Through::of(&filter.states),
            terms: Vec::new(),
            values: Vec::new(),
        };
        let names = search.through.names();
        search.states(&filter.states, now);
        if let Some(tasks) = &filter.tasks_allowed {
            if tasks.is_empty() {
                return None;
            }
            let marks = vec!["?"; tasks.len()].join(", ");
            search.terms.push(format!("{names}.task IN ({marks})"));
            let tasks = tasks.iter().map(|task| text(task));
            search.values.extend(tasks);
        }
        let task = filter.task.as_deref().map(text);
        search.term(&format!("{names}.task = ?"), task);
        let queue = filter.queue.as_deref().map(text);
        search.term(&format!("{names}.queue = ?"), queue);
        let group = filter.group.as_deref().map(text);
        search.term("job.\"group\" = ?", group);
        let millis = |instant: Timestamp| Value::from(instant.as_millis());
        search.term("job.created_at > ?", filter.created_after.map(millis));
        search.term("job.created_at < ?", filter.created_before.map(millis));
        for (name, value) in &filter.tags {
            // As `tags_text` writes it. A quote within a value is escaped, so that a member is
            // found nowhere else.
            let value = serde_json::Value::from(value.as_str());
            let member = format!("\"{name}\":{value}");
            search.term("instr(job.tags, ?) > 0", Some(Value::from(member)));
        }
        // A plain list costs nothing for it where no callback is on its page.
        if filter.task.is_none() && !search.terms.is_empty() {
            search.leave_out_reserved();
        }
        Some(search)
    }

    /// Leaves out the jobs of the tasks that the server keeps for itself.
    fn leave_out_reserved(&mut self) {
        let names = self.through.names();
        let pattern = Value::from(format!("{RESERVED_NAME_PREFIX}*"));
        self.term(&format!("{names}.task NOT GLOB ?"), Some(pattern));
    }

    fn term(&mut self, term: &str, value: Option<Value>) {
        if let Some(value) = value {
            self.terms.push(term.to_owned());
            self.values.push(value);
        }
    }

    fn states(&mut self, states: &[ShownState], now: Timestamp) {
        let has = |state| states.contains(&state);
        let waiting = state_number(State::Waiting);
        let mut any = Vec::new();
        match (has(ShownState::Scheduled), has(ShownState::Ready)) {
            (true, true) => any.push(format!("live.state = {waiting}")),
            (false, false) => {}
            (is_ahead, _) => {
                let side = if is_ahead { ">" } else { "<=" };
                any.push(format!("live.state = {waiting} AND live.run_at {side} ?"));
                self.values.push(now.as_millis().into());
            }
        }
        let others = states.iter().map(|state| state.stored());
        for state in others.filter(|state| *state != State::Waiting) {
            let table = if state.is_final() { "done" } else { "live" };
            any.push(format!("{table}.state = {}", state_number(state)));
        }
        if !any.is_empty() {
            self.terms.push(format!("({})", any.join(" OR ")));
        }
    }

    /// Returns the statement for one job more than a page holds, and what is bound to it.
    fn statement(mut self, before: i64, floor: Option<i64>, size: usize) -> (String, Vec<Value>) {
        let table = self.through.table();
        self.term(&format!("{table}.seq < ?"), Some(before.into()));
        self.term(&format!("{table}.seq > ?"), floor.map(Value::from));
        let one_more = i64::try_from(size).unwrap_or(i64::MAX).saturating_add(1);
        self.values.push(one_more.into());
        let sql = format!(
            "SELECT {LIVE_JOB}, {DONE}, error.attempt, error.at, error.kind, error.message \
             FROM {} LEFT JOIN error ON error.seq = done.seq AND done.state = {} \
             AND error.ordinal = done.errors - 1 \
             WHERE {} ORDER BY {table}.seq DESC LIMIT ?",
            self.through.tables(),
            state_number(State::Failed),
            self.terms.join(" AND "),
        );
        (sql, self.values)
    }
}

fn text(text: &str) -> Value {
    Value::from(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::open;
    use anteroom_core::{Label, Name};

    fn filters() -> Vec<Filter> {
        let mut filters = vec![Filter::default()];
        for state in ShownState::ALL {
            for other in ShownState::ALL {
                filters.push(Filter {
                    states: vec![state, other],
                    ..Filter::default()
                });
            }
        }
        for mut filter in filters.clone() {
            filter.tasks_allowed = Some(vec![Name::new("a").unwrap(), Name::new("b").unwrap()]);
            filter.task = Name::new("a").ok();
            filter.queue = Name::new("q").ok();
            filter.group = Label::new("g").ok();
            filter.tags = vec![(Name::new("t").unwrap(), "1".to_owned())];
            filter.created_after = Some(Timestamp::from_millis(1));
            filter.created_before = Some(Timestamp::from_millis(2));
            filters.push(filter);
        }
        filters
    }

    /// A page that sorted would read all jobs there are, and one that went through the wrong table
    /// would look at millions that cannot match.
    #[test]
    fn every_list_goes_through_one_table_by_its_key_and_sorts_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("jobs.db");
        let now = Timestamp::from_millis(0);
        let db = open::open(&path, now).unwrap().db;
        for filter in filters() {
            let search = Search::new(&filter, now).unwrap();
            let table = search.through.table();
            let (sql, values) = search.statement(7, Some(3), 50);
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let steps = plan.query_map(params_from_iter(values), |row| row.get::<_, String>(3));
            let steps: Vec<String> = steps.unwrap().collect::<Result<_, _>>().unwrap();
            let first = format!("SEARCH {table} USING INTEGER PRIMARY KEY");
            assert!(steps[0].starts_with(&first), "{filter:?}: {steps:?}");
            for step in &steps[1..] {
                let by_key = step.starts_with("SEARCH ") && step.contains("PRIMARY KEY");
                assert!(by_key, "{filter:?}: {steps:?}");
            }
        }
    }

    #[test]
    fn who_may_see_no_task_is_shown_nothing() {
        let filter = Filter {
            tasks_allowed: Some(Vec::new()),
            ..Filter::default()
        };
        assert!(Search::new(&filter, Timestamp::from_millis(0)).is_none());
    }
}
