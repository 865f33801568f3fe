//! Jobs turned into the columns of their tables.

use super::batch::Touched;
use super::bulk::{Column, Group};
use super::rows::{lease_number, millis, signed, small, state_number, tags_text, uuid};
use super::write::Sent;
use anteroom_core::{Progress, Timestamp};
use bytes::Bytes;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

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
        sent.push_insert(
            "job",
            &[
                Column::own("id", "uuid", &self.id),
                Column::own("created_at", "bigint", &self.created_at),
                Column::own("input", "bytea", &self.input),
                Column::of(Group::Kind, "task", "text", &self.task),
                Column::of(Group::Kind, "queue", "text", &self.queue),
                Column::of(Group::Kind, "\"group\"", "text", &self.group),
                Column::of(Group::Kind, "priority", "smallint", &self.priority),
                Column::of(Group::Kind, "max_attempts", "integer", &self.max_attempts),
                Column::of(Group::Kind, "timeout_ms", "bigint", &self.timeout_ms),
                Column::of(Group::Kind, "retain_ms", "bigint", &self.retain_ms),
                Column::of(Group::Kind, "content_type", "text", &self.content_type),
                Column::of(Group::Rare, "start_before", "bigint", &self.start_before),
                Column::of(Group::Rare, "unique_key", "text", &self.unique_key),
                Column::of(Group::Rare, "callback_url", "text", &self.callback_url),
                Column::of(Group::Rare, "tags", "text", &self.tags),
            ],
        );
    }
}

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
        let mut columns = self.kind();
        columns.extend([
            Column::of(Group::Attempt, "claim", "bigint", &s.claim),
            Column::of(Group::Attempt, "started_at", "bigint", &s.started_at),
            Column::of(
                Group::Attempt,
                "lease_expires_at",
                "bigint",
                &s.lease_expires_at,
            ),
            Column::of(Group::Rare, "is_scheduled", "boolean", &self.is_scheduled),
            Column::of(Group::Rare, "deadline", "bigint", &self.deadline),
        ]);
        columns.extend(s.columns());
        sent.push_insert("waiting", &columns);
    }

    pub(super) fn send_running<'a>(&'a self, sent: &mut Sent<'a>) {
        let s = &self.standing;
        if s.id.is_empty() {
            return;
        }
        let mut columns = self.kind();
        columns.extend([
            Column::own("claim", "bigint", &s.claim),
            Column::of(Group::Attempt, "node", "bigint", &self.node),
            Column::of(Group::Attempt, "lease_ms", "bigint", &self.lease_ms),
            Column::of(Group::Attempt, "started_at", "bigint", &s.started_at),
            Column::of(
                Group::Attempt,
                "lease_expires_at",
                "bigint",
                &s.lease_expires_at,
            ),
            Column::of(
                Group::Rare,
                "cancel_requested",
                "boolean",
                &s.cancel_requested,
            ),
        ]);
        columns.extend(s.columns());
        sent.push_insert("running", &columns);
    }

    fn kind(&self) -> Vec<Column<'_>> {
        vec![
            Column::of(Group::Kind, "task", "text", &self.task),
            Column::of(Group::Kind, "queue", "text", &self.queue),
            Column::of(Group::Kind, "\"group\"", "text", &self.group),
            Column::of(Group::Kind, "priority", "smallint", &self.priority),
        ]
    }
}

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
        let mut columns = vec![
            Column::own("claim", "bigint", &s.claim),
            Column::own("started_at", "bigint", &s.started_at),
            Column::own("lease_expires_at", "bigint", &s.lease_expires_at),
            Column::own("result", "bytea", &self.result),
            Column::of(Group::Kind, "state", "smallint", &self.state),
            Column::of(Group::Kind, "finished_at", "bigint", &self.finished_at),
            Column::of(Group::Kind, "expires_at", "bigint", &self.expires_at),
            Column::of(
                Group::Kind,
                "result_content_type",
                "text",
                &self.result_content_type,
            ),
            Column::of(
                Group::Rare,
                "cancel_requested",
                "boolean",
                &s.cancel_requested,
            ),
        ];
        columns.extend(s.columns());
        sent.push_insert("done", &columns);
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
    /// Returns the columns that the three tables have alike, but for what tells of the latest attempt.
    fn columns(&self) -> [Column<'_>; 11] {
        use Group::Rare;
        [
            Column::own("id", "uuid", &self.id),
            Column::own("run_at", "bigint", &self.run_at),
            Column::of(Rare, "version", "bigint", &self.version),
            Column::of(Rare, "attempt", "integer", &self.attempt),
            Column::of(Rare, "lease", "smallint", &self.lease),
            Column::of(Rare, "hand_backs", "integer", &self.hand_backs),
            Column::of(Rare, "errors", "integer", &self.errors),
            Column::of(Rare, "reports", "bigint", &self.reports),
            Column::of(Rare, "states", "bigint", &self.states),
            Column::of(
                Rare,
                "progress_fraction",
                "double precision",
                &self.progress_fraction,
            ),
            Column::of(Rare, "progress_message", "bytea", &self.progress_message),
        ]
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
