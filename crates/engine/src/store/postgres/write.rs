//! What a transaction writes: a statement for each table and kind of change, whatever the number of
//! jobs, all sent at once.

use super::batch::{Lies, Touched, belongs};
use super::bulk::{Column, Value, insert};
use super::columns::{DoneColumns, JobColumns, LiveColumns};
use super::fault::Fault;
use super::read::remembered_since;
use super::rows::{small, tags_text, uuid};
use super::session::Session;
use super::transact::Decisions;
use crate::store::numbers::shown_number;
use anteroom_core::limits::{ERRORS_MAX, REPORTS_KEPT_BYTES_MAX, STATES_KEPT_MAX};
use anteroom_core::{LogStream, Report};
use futures_util::future::join_all;
use std::borrow::Cow;
use std::collections::HashSet;
use uuid::Uuid;

const INSERT_ERRORS: &str = "INSERT INTO error (id, ordinal, attempt, at, kind, message) \
    SELECT * FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::bigint[], $5::text[], \
    $6::bytea[])";
const TRIM_ERRORS: &str = "DELETE FROM error USING unnest($1::uuid[], $2::integer[]) \
    AS kept (id, first) WHERE error.id = kept.id AND error.ordinal < kept.first";
const INSERT_STATES: &str = "INSERT INTO state (id, ordinal, version, reports, part, state, \
    attempt) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::bigint[], \
    $5::smallint[], $6::smallint[], $7::integer[])";
const TRIM_STATES: &str = "DELETE FROM state USING unnest($1::uuid[], $2::bigint[]) \
    AS kept (id, first) WHERE state.id = kept.id AND state.ordinal < kept.first";
const INSERT_REPORTS: &str = "INSERT INTO report (id, ordinal, version, attempt, stream, fraction, \
    text, bytes) SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bigint[], $4::integer[], \
    $5::text[], $6::double precision[], $7::bytea[], $8::bigint[])";
const TRIM_REPORTS: &str = "DELETE FROM report USING unnest($1::uuid[], $2::bigint[], $3::bigint[]) \
    AS kept (id, first, bytes) WHERE report.id = kept.id AND (report.ordinal < kept.first \
    OR report.bytes - coalesce(octet_length(report.text), 0) < kept.bytes)";
const PUT_SETTLED: &str = "INSERT INTO settled (id, claim, said) \
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[]) \
    ON CONFLICT (id) DO UPDATE SET claim = excluded.claim, said = excluded.said";
const AMEND: &str = "UPDATE job SET queue = changed.queue, priority = changed.priority, \
    tags = changed.tags FROM unnest($1::uuid[], $2::text[], $3::smallint[], $4::text[]) \
    AS changed (id, queue, priority, tags) WHERE job.id = changed.id";
const SET_START_BEFORE: &str = "UPDATE job SET start_before = changed.start_before \
    FROM unnest($1::uuid[], $2::bigint[]) AS changed (id, start_before) \
    WHERE job.id = changed.id";
const REMEMBER: &str = "INSERT INTO submit (scope, task, key, fingerprint, id, duplicate, at) \
    SELECT *, $7::bigint FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::uuid[], \
    $6::boolean[])";
/// By its key: `+ 0` keeps the planner from going through all whose time is over.
const FORGET_EXPIRED: &str = "DELETE FROM submit USING unnest($1::text[], $2::text[], $3::text[]) \
    AS asked (scope, task, key) WHERE submit.scope = asked.scope AND submit.task = asked.task \
    AND submit.key = asked.key AND submit.at + 0 <= $4";
/// A key that another node's job has taken since is not let go.
const RELEASE_KEYS: &str = "DELETE FROM unique_key \
    USING unnest($1::text[], $2::text[], $3::uuid[]) AS let_go (task, key, id) \
    WHERE unique_key.task = let_go.task AND unique_key.key = let_go.key \
    AND unique_key.id = let_go.id";
const HOLD_KEYS: &str = "INSERT INTO unique_key (task, key, id) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[])";
const SET_PACES: &str = "UPDATE limited SET pace = reached.pace \
    FROM unnest($1::text[], $2::bigint[]) AS reached (queue, pace) \
    WHERE limited.queue = reached.queue";

/// Some of them were not read: the transaction fails where a row has another version than is known.
const LEAVE_RUNNING: &str = "WITH gone AS (DELETE FROM running \
    USING unnest($1::uuid[], $2::bigint[]) AS known (id, version) \
    WHERE running.id = known.id AND running.version = known.version RETURNING 1) \
    SELECT agree((SELECT count(*) FROM gone), $3)";

/// Statements that are to be sent at once, each with its values.
#[derive(Default)]
pub(super) struct Sent<'a>(Vec<(Cow<'static, str>, Vec<Value<'a>>)>);

impl<'a> Sent<'a> {
    fn push(&mut self, sql: &'static str, values: Vec<Value<'a>>) {
        self.0.push((Cow::Borrowed(sql), values));
    }

    /// Adds an insert of many rows.
    pub(super) fn push_insert(&mut self, table: &str, columns: &[Column<'a>]) {
        let (sql, values) = insert(table, columns);
        self.0.push((Cow::Owned(sql), values));
    }
}

/// All that is to be written, as columns.
#[derive(Debug, Default)]
pub(super) struct Writes {
    left: [Vec<Uuid>; 2],
    left_running: (Vec<Uuid>, Vec<i64>),
    left_running_count: i64,
    jobs: JobColumns,
    waiting: LiveColumns,
    running: LiveColumns,
    done: DoneColumns,
    errors: ErrorColumns,
    errors_kept: (Vec<Uuid>, Vec<i32>),
    states: StateColumns,
    states_kept: (Vec<Uuid>, Vec<i64>),
    reports: ReportColumns,
    reports_kept: (Vec<Uuid>, Vec<i64>, Vec<i64>),
    settled: (Vec<Uuid>, Vec<i64>, Vec<Vec<u8>>),
    amended: (Vec<Uuid>, Vec<String>, Vec<i16>, Vec<Option<String>>),
    start_before: (Vec<Uuid>, Vec<Option<i64>>),
    submits: SubmitColumns,
    let_go: (Vec<String>, Vec<String>, Vec<Uuid>),
    held: (Vec<String>, Vec<String>, Vec<Uuid>),
    paces: (Vec<String>, Vec<i64>),
    now: i64,
    /// Keys that were used before this are free again.
    remembered_since: i64,
}

#[derive(Debug, Default)]
struct ErrorColumns {
    id: Vec<Uuid>,
    ordinal: Vec<i32>,
    attempt: Vec<i32>,
    at: Vec<i64>,
    kind: Vec<&'static str>,
    message: Vec<Vec<u8>>,
}

#[derive(Debug, Default)]
struct StateColumns {
    id: Vec<Uuid>,
    ordinal: Vec<i64>,
    version: Vec<i64>,
    reports: Vec<i64>,
    part: Vec<i16>,
    state: Vec<i16>,
    attempt: Vec<i32>,
}

#[derive(Debug, Default)]
struct ReportColumns {
    id: Vec<Uuid>,
    ordinal: Vec<i64>,
    version: Vec<i64>,
    attempt: Vec<i32>,
    stream: Vec<Option<&'static str>>,
    fraction: Vec<Option<f64>>,
    text: Vec<Option<Vec<u8>>>,
    bytes: Vec<i64>,
}

#[derive(Debug, Default)]
struct SubmitColumns {
    scope: Vec<String>,
    task: Vec<String>,
    key: Vec<String>,
    fingerprint: Vec<Vec<u8>>,
    id: Vec<Uuid>,
    duplicate: Vec<bool>,
}

impl Writes {
    /// Gathers what was decided.
    pub(super) fn of(decisions: &mut Decisions<'_>) -> Self {
        let mut writes = Self {
            now: decisions.now.as_millis(),
            remembered_since: remembered_since(decisions.now),
            ..Self::default()
        };
        // In one order on every node, so that two transactions wait for each other in one direction.
        let mut ids: Vec<_> = decisions.batch.jobs.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            let job = &decisions.batch.jobs[&id];
            if job.is_changed {
                writes.add(job, decisions.now);
            }
        }
        for submit in &decisions.submits {
            let to = &mut writes.submits;
            to.scope.push(submit.by.scope.to_string());
            to.task.push(submit.task.to_string());
            to.key.push(submit.by.key.to_string());
            to.fingerprint
                .push(submit.remembered.fingerprint.0.to_vec());
            to.id.push(uuid(submit.remembered.id));
            to.duplicate.push(submit.remembered.duplicate);
        }
        writes.add_keys(decisions);
        for (queue, pace) in decisions.window.take_paces() {
            writes.paces.0.push(queue.to_string());
            writes.paces.1.push(pace.as_nanos());
        }
        writes
    }

    fn add_keys(&mut self, decisions: &Decisions<'_>) {
        let keys = &decisions.keys;
        let let_go: HashSet<_> = keys.let_go.iter().map(|(key, _)| key).collect();
        for (key, holder) in &keys.let_go {
            self.let_go.0.push(key.0.clone());
            self.let_go.1.push(key.1.clone());
            self.let_go.2.push(uuid(*holder));
        }
        for (key, holder) in &keys.held {
            if let Some(holder) = holder
                && (let_go.contains(key) || keys.kept.get(key) != Some(holder))
            {
                self.held.0.push(key.0.clone());
                self.held.1.push(key.1.clone());
                self.held.2.push(uuid(*holder));
            }
        }
    }

    /// Adds all that is to be written of a job.
    pub(super) fn add(&mut self, job: &Touched, now: anteroom_core::Timestamp) {
        let id = uuid(job.spec.id);
        match job.lies {
            Lies::Nowhere => self.jobs.push(job),
            Lies::Waiting => self.left[0].push(id),
            Lies::Running => {
                self.left_running.0.push(id);
                self.left_running
                    .1
                    .push(super::rows::signed(job.version_read));
                self.left_running_count += 1;
            }
            Lies::Done => self.left[1].push(id),
        }
        match belongs(job.status.state) {
            Lies::Nowhere | Lies::Waiting => self.waiting.push(job, now),
            Lies::Running => self.running.push(job, now),
            Lies::Done => self.done.push(job, now),
        }
        self.add_history(job, id);
        if let Some((claim, said)) = job.new_settled {
            self.settled.0.push(id);
            self.settled.1.push(super::rows::signed(claim.get()));
            self.settled.2.push(said.0.to_vec());
        }
        if job.is_amended {
            self.amended.0.push(id);
            self.amended.1.push(job.spec.queue.to_string());
            self.amended.2.push(job.spec.priority.get().into());
            self.amended.3.push(tags_text(&job.spec.tags));
        }
        if job.start_before_changed {
            let start_before = job.status.start_before;
            self.start_before.0.push(id);
            self.start_before
                .1
                .push(start_before.map(anteroom_core::Timestamp::as_millis));
        }
    }

    /// Adds what is written of what happened to a job.
    fn add_history(&mut self, job: &Touched, id: Uuid) {
        for (ordinal, error) in &job.new_errors {
            let to = &mut self.errors;
            to.id.push(id);
            to.ordinal.push(small(*ordinal));
            to.attempt.push(small(error.attempt));
            to.at.push(error.at.as_millis());
            to.kind.push(error.failure.kind.as_str());
            to.message.push(error.failure.message.clone().into_bytes());
        }
        let kept = u32::try_from(ERRORS_MAX).unwrap_or(u32::MAX);
        if !job.new_errors.is_empty() && job.errors > kept {
            self.errors_kept.0.push(id);
            self.errors_kept.1.push(small(job.errors - kept));
        }
        for (ordinal, state) in &job.new_states {
            let to = &mut self.states;
            to.id.push(id);
            to.ordinal.push(super::rows::signed(*ordinal));
            to.version.push(super::rows::signed(state.id.version));
            to.reports.push(super::rows::signed(state.id.reports));
            to.part
                .push(i16::try_from(state.id.part.number()).unwrap_or(i16::MAX));
            to.state.push(shown_number(state.state));
            to.attempt.push(small(state.attempt));
        }
        let excess = job.told.states.saturating_sub(STATES_KEPT_MAX as u64);
        if !job.new_states.is_empty() && excess > 0 {
            self.states_kept.0.push(id);
            self.states_kept.1.push(super::rows::signed(excess));
        }
        for said in &job.new_reports {
            self.reports.push(id, said);
        }
        if let Some(first) = job.reports_kept_from {
            let bytes = super::rows::signed(REPORTS_KEPT_BYTES_MAX as u64);
            self.reports_kept.0.push(id);
            self.reports_kept.1.push(super::rows::signed(first));
            self.reports_kept
                .2
                .push(job.bytes_said.saturating_sub(bytes));
        }
    }

    /// Tells whether there is nothing to write.
    pub(super) fn is_empty(&self) -> bool {
        let moved = self.left.iter().map(Vec::len).sum::<usize>();
        moved == 0
            && self.left_running.0.is_empty()
            && self.jobs.is_empty()
            && self.submits.id.is_empty()
            && self.let_go.0.is_empty()
            && self.paces.0.is_empty()
    }

    /// Returns how many bytes of inputs and results there are in it.
    pub(super) fn bytes(&self) -> usize {
        self.jobs.bytes() + self.done.bytes()
    }

    /// Sends all of it and the commit, and returns once that is answered.
    pub(super) async fn commit(&self, session: &Session) -> Result<(), Fault> {
        let mut sent = Sent::default();
        self.send_leavings(&mut sent);
        self.jobs.send(&mut sent);
        self.waiting.send_waiting(&mut sent);
        self.running.send_running(&mut sent);
        self.done.send(&mut sent);
        self.send_histories(&mut sent);
        self.send_keys(&mut sent);
        // Once all of them are prepared they go out in this order, and the commit after them.
        for (sql, _) in &sent.0 {
            session.prepared(sql).await?;
        }
        let each = sent
            .0
            .iter()
            .map(|(sql, values)| session.execute(sql, values));
        let (written, committed) = tokio::join!(join_all(each), session.run("COMMIT"));
        // A statement that failed makes a roll-back of the commit, which is no error. Where there was no
        // answer to one, the commit had been sent as well.
        for written in written {
            written.map_err(|error| Fault::of_commit(&error))?;
        }
        committed.map_err(|error| Fault::of_commit(&error))
    }

    /// Takes jobs out of the tables that they lay in.
    fn send_leavings<'a>(&'a self, sent: &mut Sent<'a>) {
        const DELETES: [&str; 2] = [
            "DELETE FROM waiting WHERE id = ANY ($1)",
            // `among`, written out: they are in their order.
            "DELETE FROM done WHERE id = ANY ($1) AND id >= ($1::uuid[])[1] \
                AND id <= ($1::uuid[])[cardinality($1::uuid[])]",
        ];
        for (sql, ids) in DELETES.into_iter().zip(&self.left) {
            if !ids.is_empty() {
                sent.push(sql, vec![ids]);
            }
        }
        let (ids, versions) = &self.left_running;
        if !ids.is_empty() {
            sent.push(LEAVE_RUNNING, vec![ids, versions, &self.left_running_count]);
        }
    }

    fn send_histories<'a>(&'a self, sent: &mut Sent<'a>) {
        let Self {
            errors: e,
            errors_kept,
            states: s,
            states_kept,
            reports: r,
            reports_kept,
            ..
        } = self;
        if !e.id.is_empty() {
            sent.push(
                INSERT_ERRORS,
                vec![&e.id, &e.ordinal, &e.attempt, &e.at, &e.kind, &e.message],
            );
        }
        if !errors_kept.0.is_empty() {
            sent.push(TRIM_ERRORS, vec![&errors_kept.0, &errors_kept.1]);
        }
        if !s.id.is_empty() {
            sent.push(
                INSERT_STATES,
                vec![
                    &s.id, &s.ordinal, &s.version, &s.reports, &s.part, &s.state, &s.attempt,
                ],
            );
        }
        if !states_kept.0.is_empty() {
            sent.push(TRIM_STATES, vec![&states_kept.0, &states_kept.1]);
        }
        if !r.id.is_empty() {
            sent.push(
                INSERT_REPORTS,
                vec![
                    &r.id,
                    &r.ordinal,
                    &r.version,
                    &r.attempt,
                    &r.stream,
                    &r.fraction,
                    &r.text,
                    &r.bytes,
                ],
            );
        }
        if !reports_kept.0.is_empty() {
            sent.push(
                TRIM_REPORTS,
                vec![&reports_kept.0, &reports_kept.1, &reports_kept.2],
            );
        }
    }

    fn send_keys<'a>(&'a self, sent: &mut Sent<'a>) {
        let Self {
            settled,
            amended,
            start_before,
            submits,
            let_go,
            held,
            paces,
            now,
            remembered_since,
            ..
        } = self;
        if !settled.0.is_empty() {
            sent.push(PUT_SETTLED, vec![&settled.0, &settled.1, &settled.2]);
        }
        if !amended.0.is_empty() {
            sent.push(AMEND, vec![&amended.0, &amended.1, &amended.2, &amended.3]);
        }
        if !start_before.0.is_empty() {
            sent.push(SET_START_BEFORE, vec![&start_before.0, &start_before.1]);
        }
        if !submits.id.is_empty() {
            let SubmitColumns {
                scope,
                task,
                key,
                fingerprint,
                id,
                duplicate,
            } = submits;
            // One that was remembered for long enough stands in the way, and nobody asks for it. One that
            // another node has committed since this one looked is left to be in the way.
            sent.push(FORGET_EXPIRED, vec![scope, task, key, remembered_since]);
            sent.push(
                REMEMBER,
                vec![scope, task, key, fingerprint, id, duplicate, now],
            );
        }
        if !let_go.0.is_empty() {
            sent.push(RELEASE_KEYS, vec![&let_go.0, &let_go.1, &let_go.2]);
        }
        if !held.0.is_empty() {
            sent.push(HOLD_KEYS, vec![&held.0, &held.1, &held.2]);
        }
        if !paces.0.is_empty() {
            sent.push(SET_PACES, vec![&paces.0, &paces.1]);
        }
    }
}

impl ReportColumns {
    fn push(&mut self, id: Uuid, said: &super::batch::Said) {
        let (stream, fraction, text) = match &said.report {
            Report::Progress(progress) => (None, progress.fraction(), progress.message()),
            Report::Log { stream, line } => (Some(*stream), None, Some(&**line)),
        };
        self.id.push(id);
        self.ordinal.push(super::rows::signed(said.ordinal));
        self.version.push(super::rows::signed(said.version));
        self.attempt.push(small(said.attempt));
        self.stream.push(stream.map(LogStream::as_str));
        self.fraction.push(fraction);
        self.text.push(text.map(|text| text.as_bytes().to_vec()));
        self.bytes.push(said.bytes);
    }
}
