//! What happened to jobs: written down where the row of the job does not tell it, and read back.
//!
//! A job whose life goes straight on has nothing in here, and costs nothing: its states are told
//! from its row ([`straight`]). The first change that its row would not tell writes down all that
//! it told, and from then on every state is written as it is entered.

use super::fault::Fault;
use super::read::Reader;
use super::rows::{Stored, signed};
use super::writer::Writer;
use crate::store::numbers::shown_number;
use crate::store::{Found, History};
use anteroom_core::history::{came_due, entered, merge, stays_straight, straight};
use anteroom_core::limits::{REPORTS_KEPT_BYTES_MAX, REPORTS_KEPT_MAX, STATES_KEPT_MAX};
use anteroom_core::{
    EventId, EventPart, Happened, JobEvent, JobId, LogStream, Progress, Report, Reports,
    ShownState, State, StateEvent, Status,
};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Result, Row, Statement, params};

/// How many columns [`Told::of`] reads.
pub(super) const TOLD_COLUMNS: usize = 4;

/// What is written down of a job's history, as its row has it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Told {
    /// How much its attempts ever said.
    pub(super) reports: u64,
    /// How many states were ever written down; none: the row tells them.
    pub(super) states: u64,
    /// What its latest attempt said last of how far it has come.
    pub(super) progress: Option<Progress>,
}

impl Told {
    /// Reads `reports, states, progress_fraction, progress_message`.
    pub(super) fn of(row: &Row<'_>, at: usize) -> Result<Self> {
        Ok(Self {
            reports: row.get::<_, i64>(at)?.unsigned_abs(),
            states: row.get::<_, i64>(at + 1)?.unsigned_abs(),
            progress: Progress::new(row.get(at + 2)?, row.get(at + 3)?),
        })
    }

    /// Tells whether rows of the job may lie in `report` or `state`.
    pub(super) const fn has_rows(&self) -> bool {
        self.reports > 0 || self.states > 0
    }
}

/// The writer's statements about events.
#[derive(Debug)]
pub(super) struct EventStatements<'c> {
    set_live: Statement<'c>,
    set_done: Statement<'c>,
    insert_report: Statement<'c>,
    bytes_said: Statement<'c>,
    oldest_report: Statement<'c>,
    delete_report: Statement<'c>,
    insert_state: Statement<'c>,
    last_state: Statement<'c>,
    trim_states: Statement<'c>,
    delete_reports: Statement<'c>,
    delete_states: Statement<'c>,
}

impl<'c> EventStatements<'c> {
    pub(super) fn prepare(db: &'c Connection) -> Result<Self> {
        let set = |table: &str| {
            db.prepare(&format!(
                "UPDATE {table} SET reports = ?2, states = ?3, progress_fraction = ?4, \
                 progress_message = ?5 WHERE seq = ?1"
            ))
        };
        Ok(Self {
            set_live: set("live")?,
            set_done: set("done")?,
            insert_report: db
                .prepare("INSERT INTO report VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?,
            bytes_said: db
                .prepare("SELECT bytes FROM report WHERE seq = ?1 ORDER BY ordinal DESC LIMIT 1")?,
            oldest_report: db.prepare(
                "SELECT ordinal, bytes, ifnull(length(CAST(text AS BLOB)), 0) FROM report \
                 WHERE seq = ?1 ORDER BY ordinal LIMIT 1",
            )?,
            delete_report: db.prepare("DELETE FROM report WHERE seq = ?1 AND ordinal = ?2")?,
            insert_state: db.prepare("INSERT INTO state VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?,
            last_state: db.prepare(LAST_STATE)?,
            trim_states: db.prepare("DELETE FROM state WHERE seq = ?1 AND ordinal < ?2")?,
            delete_reports: db.prepare("DELETE FROM report WHERE seq = ?1")?,
            delete_states: db.prepare("DELETE FROM state WHERE seq = ?1")?,
        })
    }

    /// Writes beside where a job stands what is written of it elsewhere.
    pub(super) fn set(&mut self, seq: i64, told: &Told, is_final: bool) -> Result<()> {
        let statement = if is_final {
            &mut self.set_done
        } else {
            &mut self.set_live
        };
        let progress = told.progress.as_ref();
        statement.execute(params![
            seq,
            signed(told.reports),
            signed(told.states),
            progress.and_then(Progress::fraction),
            progress.and_then(Progress::message),
        ])?;
        Ok(())
    }

    /// Deletes all that is written of a job's history.
    pub(super) fn delete(&mut self, seq: i64) -> Result<()> {
        self.delete_reports.execute([seq])?;
        self.delete_states.execute([seq])?;
        Ok(())
    }
}

const LAST_STATE: &str = "SELECT version, reports, part, state, attempt FROM state \
     WHERE seq = ?1 ORDER BY ordinal DESC LIMIT 1";

impl Writer<'_> {
    /// Writes down what a change of a job that stood as `job` says would be lost otherwise, and
    /// returns what is to be written beside where it stands.
    pub(super) fn record(
        &mut self,
        job: &Stored,
        after: &Status,
        said: &Reports,
    ) -> Result<Told, Fault> {
        let (seq, before) = (job.seq, &job.status);
        let mut told = job.told.clone();
        if before.state == State::Waiting && after.state == State::Running {
            told.progress = None;
        }
        if !said.is_empty() {
            if let Some(progress) = said.progress() {
                told.progress = Some(progress.clone());
            }
            told.reports = self.write_reports(job, after.version, said)?;
        }
        if told.states == 0 && stays_straight(before, after) {
            return Ok(told);
        }
        let mut states = Vec::new();
        let last = if told.states == 0 {
            states = straight(job.spec.created_at, before, job.told.reports, self.now);
            states.last().copied()
        } else {
            let mut last = self.sql.events.last_state.query([seq])?;
            last.next()?.map(|row| state_event(row, 0)).transpose()?
        };
        states.extend(last.and_then(|last| came_due(last, before, self.now)));
        states.extend(entered(before, after, told.reports, self.now));
        for state in &states {
            let ordinal = signed(told.states);
            self.sql.events.insert_state.execute(params![
                seq,
                ordinal,
                signed(state.id.version),
                signed(state.id.reports),
                signed(state.id.part.number()),
                shown_number(state.state),
                state.attempt,
            ])?;
            told.states += 1;
        }
        let excess = told.states.saturating_sub(STATES_KEPT_MAX as u64);
        if excess > 0 {
            let excess = signed(excess);
            self.sql.events.trim_states.execute([seq, excess])?;
        }
        Ok(told)
    }

    /// Writes down what an attempt said, and returns how much was ever said of the job.
    fn write_reports(&mut self, job: &Stored, version: u64, said: &Reports) -> Result<u64, Fault> {
        let (seq, attempt) = (job.seq, job.status.attempt);
        let sql = &mut self.sql.events;
        let mut bytes = match job.told.reports {
            0 => 0,
            _ => sql
                .bytes_said
                .query_row([seq], |row| row.get(0))
                .optional()?
                .unwrap_or(0),
        };
        let mut count = job.told.reports + said.skipped;
        // Of more than are kept only the last are worth writing.
        let excess = said.list.len().saturating_sub(REPORTS_KEPT_MAX);
        count += excess as u64;
        for report in &said.list[excess..] {
            count += 1;
            bytes += i64::try_from(report.bytes()).unwrap_or(0);
            let (stream, fraction, text) = match report {
                Report::Progress(progress) => (None, progress.fraction(), progress.message()),
                Report::Log { stream, line } => (Some(stream.as_str()), None, Some(&**line)),
            };
            sql.insert_report.execute(params![
                seq,
                signed(count),
                signed(version),
                attempt,
                stream,
                fraction,
                text,
                bytes,
            ])?;
        }
        self.trim_reports(seq, count, bytes)?;
        Ok(count)
    }

    /// Deletes the oldest of what is more than is kept.
    fn trim_reports(&mut self, seq: i64, count: u64, bytes: i64) -> Result<(), Fault> {
        let sql = &mut self.sql.events;
        let kept_from = signed(count.saturating_sub(REPORTS_KEPT_MAX as u64)) + 1;
        let bytes_from = bytes.saturating_sub(signed(REPORTS_KEPT_BYTES_MAX as u64));
        loop {
            let oldest = sql
                .oldest_report
                .query_row([seq], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
                .optional()?;
            let Some::<(i64, i64, i64)>((ordinal, until, own)) = oldest else {
                return Ok(());
            };
            if ordinal >= kept_from && until - own >= bytes_from {
                return Ok(());
            }
            sql.delete_report.execute([seq, ordinal])?;
        }
    }
}

impl Reader<'_> {
    /// Reads a part of a job's history.
    ///
    /// What was written after the job was read is left for the next time, or a later report could
    /// be told and an earlier state never.
    pub(super) fn events(
        &self,
        id: JobId,
        after: EventId,
        limit: usize,
    ) -> std::result::Result<Found<History>, Fault> {
        let job = match self.stored(id)? {
            Found::Here(job) => job,
            Found::Gone => return Ok(Found::Gone),
            Found::Unknown => return Ok(Found::Unknown),
        };
        let now = self.now();
        let mut states_missing = 0;
        let mut states = if job.told.states == 0 {
            straight(job.spec.created_at, &job.status, job.told.reports, now)
        } else {
            let (missing, states) = self.written_states(&job, after)?;
            states_missing = missing;
            states
        };
        let passage = states
            .last()
            .and_then(|last| came_due(*last, &job.status, now));
        states.extend(passage);
        let reports = match job.told.reports {
            said if said <= after.reports => Vec::new(),
            _ => self.written_reports(&job, after, limit)?,
        };
        let mut events = merge(after, states, reports, limit.saturating_add(1));
        let is_all = events.len() <= limit;
        events.truncate(limit);
        Ok(Found::Here(History {
            job: job.into_job(Vec::new()),
            events,
            states_missing,
            is_all,
        }))
    }

    /// Returns the states from the version of `after` on, and how many before them are missing.
    fn written_states(
        &self,
        job: &Stored,
        after: EventId,
    ) -> std::result::Result<(u64, Vec<StateEvent>), Fault> {
        let seq = job.seq;
        let mut statement = self.prepared(
            "SELECT version, reports, part, state, attempt, ordinal FROM state \
             WHERE seq = ?1 AND ordinal < ?2 AND version >= ?3 ORDER BY ordinal",
        )?;
        let written = signed(job.told.states);
        let mut rows = statement.query(params![seq, written, signed(after.version)])?;
        let mut states = Vec::new();
        let mut first_ordinal = 0;
        while let Some(row) = rows.next()? {
            if states.is_empty() {
                first_ordinal = row.get::<_, i64>(5)?.unsigned_abs();
            }
            states.push(state_event(row, 0)?);
        }
        let mut oldest = self.prepared("SELECT min(ordinal) FROM state WHERE seq = ?1")?;
        let oldest: Option<i64> = oldest.query_row([seq], |row| row.get(0))?;
        let is_first = oldest.map(i64::unsigned_abs) == Some(first_ordinal);
        let is_missing = is_first && states.first().is_some_and(|first| first.id > after);
        Ok((if is_missing { first_ordinal } else { 0 }, states))
    }

    /// Returns the reports after those that were made until `after`, up to one more than `limit`.
    fn written_reports(
        &self,
        job: &Stored,
        after: EventId,
        limit: usize,
    ) -> std::result::Result<Vec<JobEvent>, Fault> {
        let mut statement = self.prepared(
            "SELECT ordinal, version, attempt, stream, fraction, text FROM report \
             WHERE seq = ?1 AND ordinal > ?2 AND ordinal <= ?3 ORDER BY ordinal LIMIT ?4",
        )?;
        let (from, written) = (signed(after.reports), signed(job.told.reports));
        let limit = i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX);
        let rows = statement.query_map(params![job.seq, from, written, limit], report)?;
        Ok(rows.collect::<Result<_>>()?)
    }
}

/// Reads `version, reports, part, state, attempt`.
pub(super) fn state_event(row: &Row<'_>, at: usize) -> Result<StateEvent> {
    let part: i64 = row.get(at + 2)?;
    let part = EventPart::from_number(part.unsigned_abs());
    let state = usize::try_from(row.get::<_, i64>(at + 3)?).ok();
    let state = state.and_then(|number| ShownState::ALL.get(number).copied());
    let (Some(part), Some(state)) = (part, state) else {
        return Err(super::rows::damaged(at + 2, "there is no such event"));
    };
    Ok(StateEvent {
        id: EventId {
            version: row.get::<_, i64>(at)?.unsigned_abs(),
            reports: row.get::<_, i64>(at + 1)?.unsigned_abs(),
            part,
        },
        state,
        attempt: row.get(at + 4)?,
    })
}

/// Reads `ordinal, version, attempt, stream, fraction, text`.
pub(super) fn report(row: &Row<'_>) -> Result<JobEvent> {
    let report = match row.get_ref(3)? {
        ValueRef::Null => {
            let fraction = row.get(4)?;
            let progress = Progress::new(fraction, row.get(5)?);
            Report::Progress(
                progress.ok_or_else(|| super::rows::damaged(4, "a progress says nothing"))?,
            )
        }
        word => {
            let word = word.as_str()?;
            let stream = LogStream::from_word(word)
                .ok_or_else(|| super::rows::damaged(3, format!("there is no stream {word:?}")))?;
            Report::log(stream, row.get::<_, String>(5)?)
        }
    };
    Ok(JobEvent {
        id: EventId {
            version: row.get::<_, i64>(1)?.unsigned_abs(),
            reports: row.get::<_, i64>(0)?.unsigned_abs(),
            part: EventPart::Report,
        },
        happened: Happened::Reported {
            attempt: row.get(2)?,
            report,
        },
    })
}
