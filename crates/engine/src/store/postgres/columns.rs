//! Jobs turned into columns: an insert of many rows is one statement over arrays.

use super::batch::Touched;
use super::rows::{lease_number, millis, signed, small, state_number, tags_text, uuid};
use super::write::Sent;
use anteroom_core::{Progress, Timestamp};
use bytes::Bytes;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

const INSERT_JOBS: &str = "INSERT INTO job (id, task, queue, \"group\", priority, created_at, \
    max_attempts, timeout_ms, start_before, retain_ms, unique_key, callback_url, tags, \
    content_type, input) SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], \
    $5::smallint[], $6::bigint[], $7::integer[], $8::bigint[], $9::bigint[], $10::bigint[], \
    $11::text[], $12::text[], $13::text[], $14::text[], $15::bytea[])";

/// Rows of `job`.
#[derive(Debug, Default)]
pub(super) struct JobColumns {
    id: Vec<Uuid>,
    task: Vec<String>,
    queue: Vec<String>,
    group: Vec<Option<String>>,
    priority: Vec<i16>,
    created_at: Vec<i64>,
    max_attempts: Vec<i32>,
    timeout_ms: Vec<i64>,
    start_before: Vec<Option<i64>>,
    retain_ms: Vec<i64>,
    unique_key: Vec<Option<String>>,
    callback_url: Vec<Option<String>>,
    tags: Vec<Option<String>>,
    content_type: Vec<String>,
    input: Vec<Raw>,
}

/// Bytes that are written as they are, without a copy.
#[derive(Debug)]
struct Raw(Bytes);

impl ToSql for Raw {
    fn to_sql(
        &self,
        _type: &tokio_postgres::types::Type,
        out: &mut bytes::BytesMut,
    ) -> Result<tokio_postgres::types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
        out.extend_from_slice(&self.0);
        Ok(tokio_postgres::types::IsNull::No)
    }

    fn accepts(kind: &tokio_postgres::types::Type) -> bool {
        *kind == tokio_postgres::types::Type::BYTEA
    }

    tokio_postgres::types::to_sql_checked!();
}

impl JobColumns {
    pub(super) fn push(&mut self, job: &Touched) {
        let (spec, status) = (&job.spec, &job.status);
        self.id.push(uuid(spec.id));
        self.task.push(spec.task.to_string());
        self.queue.push(spec.queue.to_string());
        self.group
            .push(spec.group.as_ref().map(ToString::to_string));
        self.priority.push(spec.priority.get().into());
        self.created_at.push(spec.created_at.as_millis());
        self.max_attempts.push(small(status.max_attempts));
        self.timeout_ms.push(millis(spec.timeout));
        self.start_before
            .push(status.start_before.map(Timestamp::as_millis));
        self.retain_ms.push(millis(spec.retain));
        self.unique_key
            .push(spec.unique_key.as_ref().map(ToString::to_string));
        self.callback_url
            .push(spec.callback_url.as_ref().map(ToString::to_string));
        self.tags.push(tags_text(&spec.tags));
        self.content_type.push(spec.input.content_type.to_string());
        let input = job.input.as_ref().map(|input| input.bytes.clone());
        self.input.push(Raw(input.unwrap_or_default()));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.id.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.input.iter().map(|input| input.0.len()).sum()
    }

    pub(super) fn send<'a>(&'a self, sent: &mut Sent<'a>) {
        if self.is_empty() {
            return;
        }
        sent.push((
            INSERT_JOBS,
            vec![
                &self.id,
                &self.task,
                &self.queue,
                &self.group,
                &self.priority,
                &self.created_at,
                &self.max_attempts,
                &self.timeout_ms,
                &self.start_before,
                &self.retain_ms,
                &self.unique_key,
                &self.callback_url,
                &self.tags,
                &self.content_type,
                &self.input,
            ],
        ));
    }
}

const INSERT_WAITING: &str = "INSERT INTO waiting (id, task, queue, \"group\", priority, \
    is_scheduled, deadline, version, run_at, attempt, claim, lease, lease_expires_at, started_at, \
    hand_backs, errors, reports, states, progress_fraction, progress_message) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], \
    $6::boolean[], $7::bigint[], $8::bigint[], $9::bigint[], $10::integer[], $11::bigint[], \
    $12::smallint[], $13::bigint[], $14::bigint[], $15::integer[], $16::integer[], \
    $17::bigint[], $18::bigint[], $19::double precision[], $20::bytea[])";

const INSERT_RUNNING: &str = "INSERT INTO running (id, task, queue, \"group\", priority, node, \
    lease_ms, cancel_requested, version, run_at, attempt, claim, lease, lease_expires_at, \
    started_at, hand_backs, errors, reports, states, progress_fraction, progress_message) \
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::smallint[], \
    $6::bigint[], $7::bigint[], $8::boolean[], $9::bigint[], $10::bigint[], $11::integer[], \
    $12::bigint[], $13::smallint[], $14::bigint[], $15::bigint[], $16::integer[], \
    $17::integer[], $18::bigint[], $19::bigint[], $20::double precision[], $21::bytea[])";

/// Rows of `waiting` or `running`.
#[derive(Debug, Default)]
pub(super) struct LiveColumns {
    task: Vec<String>,
    queue: Vec<String>,
    group: Vec<String>,
    priority: Vec<i16>,
    is_scheduled: Vec<bool>,
    deadline: Vec<Option<i64>>,
    node: Vec<Option<i64>>,
    lease_ms: Vec<i64>,
    standing: StandingColumns,
}

impl LiveColumns {
    pub(super) fn push(&mut self, job: &Touched, now: Timestamp) {
        let spec = &job.spec;
        self.task.push(spec.task.to_string());
        self.queue.push(spec.queue.to_string());
        let group = spec.group.as_ref();
        self.group
            .push(group.map(ToString::to_string).unwrap_or_default());
        self.priority.push(spec.priority.get().into());
        self.is_scheduled.push(job.status.run_at > now);
        self.deadline.push(job.deadline().map(Timestamp::as_millis));
        self.node.push(job.node);
        self.lease_ms.push(job.lease_ms);
        self.standing.push(job);
    }

    pub(super) fn send_waiting<'a>(&'a self, sent: &mut Sent<'a>) {
        let s = &self.standing;
        if s.id.is_empty() {
            return;
        }
        sent.push((
            INSERT_WAITING,
            s.values(&[
                &self.task,
                &self.queue,
                &self.group,
                &self.priority,
                &self.is_scheduled,
                &self.deadline,
            ]),
        ));
    }

    pub(super) fn send_running<'a>(&'a self, sent: &mut Sent<'a>) {
        let s = &self.standing;
        if s.id.is_empty() {
            return;
        }
        sent.push((
            INSERT_RUNNING,
            s.values(&[
                &self.task,
                &self.queue,
                &self.group,
                &self.priority,
                &self.node,
                &self.lease_ms,
                &s.cancel_requested,
            ]),
        ));
    }
}

const INSERT_DONE: &str = "INSERT INTO done (id, state, finished_at, expires_at, \
    result_content_type, result, cancel_requested, version, run_at, attempt, claim, lease, \
    lease_expires_at, started_at, hand_backs, errors, reports, states, progress_fraction, \
    progress_message) \
    SELECT * FROM unnest($1::uuid[], $2::smallint[], $3::bigint[], $4::bigint[], $5::text[], \
    $6::bytea[], $7::boolean[], $8::bigint[], $9::bigint[], $10::integer[], $11::bigint[], \
    $12::smallint[], $13::bigint[], $14::bigint[], $15::integer[], $16::integer[], \
    $17::bigint[], $18::bigint[], $19::double precision[], $20::bytea[])";

/// Rows of `done`.
#[derive(Debug, Default)]
pub(super) struct DoneColumns {
    state: Vec<i16>,
    finished_at: Vec<i64>,
    expires_at: Vec<i64>,
    result_content_type: Vec<Option<String>>,
    result: Vec<Option<Raw>>,
    standing: StandingColumns,
}

impl DoneColumns {
    pub(super) fn push(&mut self, job: &Touched, now: Timestamp) {
        let end = job.status.finished_at.unwrap_or(now);
        self.state.push(state_number(job.status.state));
        self.finished_at.push(end.as_millis());
        self.expires_at.push(end.after(job.spec.retain).as_millis());
        let result = job.new_result.as_ref();
        self.result_content_type
            .push(result.map(|result| result.content_type.to_string()));
        self.result
            .push(result.map(|result| Raw(result.bytes.clone())));
        self.standing.push(job);
    }

    pub(super) fn bytes(&self) -> usize {
        let results = self.result.iter().flatten();
        results.map(|result| result.0.len()).sum()
    }

    pub(super) fn send<'a>(&'a self, sent: &mut Sent<'a>) {
        let s = &self.standing;
        if s.id.is_empty() {
            return;
        }
        sent.push((
            INSERT_DONE,
            s.values(&[
                &self.state,
                &self.finished_at,
                &self.expires_at,
                &self.result_content_type,
                &self.result,
                &s.cancel_requested,
            ]),
        ));
    }
}

/// What the three tables have alike.
#[derive(Debug, Default)]
struct StandingColumns {
    id: Vec<Uuid>,
    version: Vec<i64>,
    run_at: Vec<i64>,
    attempt: Vec<i32>,
    claim: Vec<i64>,
    lease: Vec<i16>,
    lease_expires_at: Vec<Option<i64>>,
    started_at: Vec<Option<i64>>,
    cancel_requested: Vec<bool>,
    hand_backs: Vec<i32>,
    errors: Vec<i32>,
    reports: Vec<i64>,
    states: Vec<i64>,
    progress_fraction: Vec<Option<f64>>,
    progress_message: Vec<Option<Vec<u8>>>,
}

impl StandingColumns {
    /// Returns the values of an insert: the ids, what its table has of its own, and the rest in the
    /// order of the three statements.
    fn values<'a>(&'a self, own: &[&'a (dyn ToSql + Sync)]) -> Vec<&'a (dyn ToSql + Sync)> {
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![&self.id];
        values.extend_from_slice(own);
        let alike: [&(dyn ToSql + Sync); 13] = [
            &self.version,
            &self.run_at,
            &self.attempt,
            &self.claim,
            &self.lease,
            &self.lease_expires_at,
            &self.started_at,
            &self.hand_backs,
            &self.errors,
            &self.reports,
            &self.states,
            &self.progress_fraction,
            &self.progress_message,
        ];
        values.extend(alike);
        values
    }

    fn push(&mut self, job: &Touched) {
        let status = &job.status;
        self.id.push(uuid(job.spec.id));
        self.version.push(signed(status.version));
        self.run_at.push(status.run_at.as_millis());
        self.attempt.push(small(status.attempt));
        self.claim.push(signed(status.claim.get()));
        self.lease.push(lease_number(status.lease));
        let expires_at = status.lease_expires_at;
        let expires_at = (expires_at != Timestamp::MIN).then(|| expires_at.as_millis());
        self.lease_expires_at.push(expires_at);
        self.started_at
            .push(status.started_at.map(Timestamp::as_millis));
        self.cancel_requested.push(status.cancel_requested);
        self.hand_backs.push(small(status.hand_backs));
        self.errors.push(small(job.errors));
        self.reports.push(signed(job.told.reports));
        self.states.push(signed(job.told.states));
        let progress = job.told.progress.as_ref();
        self.progress_fraction
            .push(progress.and_then(Progress::fraction));
        let message = progress.and_then(Progress::message);
        self.progress_message
            .push(message.map(|message| message.as_bytes().to_vec()));
    }
}
