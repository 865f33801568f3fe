//! The writer's statements, each prepared once, and the meaning of their parameters.

use super::events::EventStatements;
use super::keys::KeyStatements;
use super::rows::{
    DONE, LIVE_JOB, WHERE_ID, lease_number, millis, signed, state_number, tags_text,
};
use anteroom_core::{
    AttemptError, ClaimNumber, Fingerprint, Payload, Spec, State, Status, Timestamp,
};
use rusqlite::{Connection, Result, Statement, params};

/// The writer's statements.
#[derive(Debug)]
pub(super) struct Statements<'c> {
    pub(super) begin: Statement<'c>,
    pub(super) commit: Statement<'c>,
    pub(super) roll_back: Statement<'c>,
    insert_job: Statement<'c>,
    insert_live: Statement<'c>,
    update_live: Statement<'c>,
    insert_done: Statement<'c>,
    insert_error: Statement<'c>,
    trim_errors: Statement<'c>,
    insert_gone: Statement<'c>,
    pub(super) delete_job: Statement<'c>,
    pub(super) delete_live: Statement<'c>,
    pub(super) delete_done: Statement<'c>,
    pub(super) delete_errors: Statement<'c>,
    pub(super) delete_settled: Statement<'c>,
    put_settled: Statement<'c>,
    /// What ended the latest attempt of a job, by its key.
    pub(super) settled: Statement<'c>,
    set_start_before: Statement<'c>,
    copy_start_before: Statement<'c>,
    amend_job: Statement<'c>,
    amend_live: Statement<'c>,
    /// Up to 64 keys in use, from one upwards.
    pub(super) keys: Statement<'c>,
    /// A job by its hint and id.
    pub(super) find: Statement<'c>,
    pub(super) is_gone: Statement<'c>,
    /// An unfinished job with its input, by its key.
    pub(super) take: Statement<'c>,
    pub(super) task_and_id: Statement<'c>,
    pub(super) errors: Statement<'c>,
    pub(super) expired: Statement<'c>,
    pub(super) forget_gone_until: Statement<'c>,
    pub(super) forget_oldest_gone: Statement<'c>,
    pub(super) put_queue: Statement<'c>,
    pub(super) put_pace: Statement<'c>,
    pub(super) document_version: Statement<'c>,
    pub(super) count_documents: Statement<'c>,
    pub(super) next_document_version: Statement<'c>,
    pub(super) put_document: Statement<'c>,
    pub(super) delete_document: Statement<'c>,
    pub(super) log_frames: Statement<'c>,
    pub(super) checkpoint: Statement<'c>,
    pub(super) restart_log: Statement<'c>,
    pub(super) events: EventStatements<'c>,
    /// About idempotency keys and unique keys.
    pub(super) by_key: KeyStatements<'c>,
}

impl<'c> Statements<'c> {
    pub(super) fn prepare(db: &'c Connection) -> Result<Self> {
        let take = format!(
            "SELECT {LIVE_JOB}, job.content_type, job.input \
             FROM live JOIN job ON job.seq = live.seq WHERE live.seq = ?1"
        );
        Ok(Self {
            begin: db.prepare("BEGIN IMMEDIATE")?,
            commit: db.prepare("COMMIT")?,
            roll_back: db.prepare("ROLLBACK")?,
            insert_job: db.prepare(
                "INSERT INTO job VALUES \
                 (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?,
            insert_live: db.prepare(
                "INSERT INTO live (seq, task, queue, priority, start_before, state, version, \
                 run_at, attempt, claim, lease, lease_expires_at, started_at, cancel_requested, \
                 hand_backs, errors, lease_ms, \"group\") VALUES \
                 (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)",
            )?,
            update_live: db.prepare(
                "UPDATE live SET state = ?2, version = ?3, run_at = ?4, attempt = ?5, \
                 claim = ?6, lease = ?7, lease_expires_at = ?8, started_at = ?9, \
                 cancel_requested = ?10, hand_backs = ?11, errors = ?12, \
                 lease_ms = CASE WHEN ?13 IS NULL THEN NULL \
                 WHEN lease_expires_at IS ?8 THEN ifnull(lease_ms, ?13) ELSE ?13 END \
                 WHERE seq = ?1",
            )?,
            insert_done: db.prepare(
                "INSERT INTO done (seq, state, version, run_at, attempt, claim, lease, \
                 lease_expires_at, started_at, cancel_requested, hand_backs, errors, \
                 finished_at, expires_at, result_content_type, result) VALUES \
                 (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
            )?,
            insert_error: db.prepare("INSERT INTO error VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?,
            trim_errors: db.prepare("DELETE FROM error WHERE seq = ?1 AND ordinal < ?2")?,
            insert_gone: db.prepare("INSERT OR IGNORE INTO gone VALUES (?1, ?2)")?,
            delete_job: db.prepare("DELETE FROM job WHERE seq = ?1")?,
            delete_live: db.prepare("DELETE FROM live WHERE seq = ?1")?,
            delete_done: db.prepare("DELETE FROM done WHERE seq = ?1")?,
            delete_errors: db.prepare("DELETE FROM error WHERE seq = ?1")?,
            delete_settled: db.prepare("DELETE FROM settled WHERE seq = ?1")?,
            put_settled: db.prepare("INSERT OR REPLACE INTO settled VALUES (?1, ?2, ?3)")?,
            settled: db.prepare("SELECT claim, said FROM settled WHERE seq = ?1")?,
            set_start_before: db.prepare("UPDATE job SET start_before = ?2 WHERE seq = ?1")?,
            copy_start_before: db.prepare("UPDATE live SET start_before = ?2 WHERE seq = ?1")?,
            amend_job: db
                .prepare("UPDATE job SET queue = ?2, priority = ?3, tags = ?4 WHERE seq = ?1")?,
            amend_live: db.prepare("UPDATE live SET queue = ?2, priority = ?3 WHERE seq = ?1")?,
            keys: db.prepare("SELECT seq, id FROM job WHERE seq >= ?1 ORDER BY seq LIMIT 64")?,
            find: db.prepare(&find_sql(""))?,
            is_gone: db.prepare(IS_GONE)?,
            take: db.prepare(&take)?,
            task_and_id: db.prepare("SELECT task, id FROM job WHERE seq = ?1")?,
            errors: db.prepare(ERRORS)?,
            // The lengths are in the heads of their rows, which are read alone.
            expired: db.prepare(
                "SELECT done.seq, job.id, length(job.input) + ifnull(length(done.result), 0), \
                 done.reports, done.states FROM done JOIN job ON job.seq = done.seq \
                 WHERE done.expires_at <= ?1 ORDER BY done.expires_at LIMIT ?2",
            )?,
            forget_gone_until: db.prepare(
                "DELETE FROM gone WHERE id IN \
                 (SELECT id FROM gone WHERE at <= ?1 ORDER BY at LIMIT ?2)",
            )?,
            forget_oldest_gone: db.prepare(
                "DELETE FROM gone WHERE id IN (SELECT id FROM gone ORDER BY at LIMIT ?1)",
            )?,
            put_pace: db.prepare("INSERT OR REPLACE INTO pace (queue, nanos) VALUES (?1, ?2)")?,
            put_queue: db.prepare(
                "INSERT INTO queue (name, version, paused, max_depth, max_concurrency, \
                 rate_limit, rate_period_ms, group_concurrency) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
                 ON CONFLICT (name) DO UPDATE SET version = excluded.version, \
                 paused = excluded.paused, max_depth = excluded.max_depth, \
                 max_concurrency = excluded.max_concurrency, rate_limit = excluded.rate_limit, \
                 rate_period_ms = excluded.rate_period_ms, \
                 group_concurrency = excluded.group_concurrency",
            )?,
            document_version: db
                .prepare("SELECT version FROM document WHERE kind = ?1 AND name = ?2")?,
            count_documents: db.prepare("SELECT count(*) FROM document WHERE kind = ?1")?,
            next_document_version: db
                .prepare("UPDATE document_version SET number = number + 1 RETURNING number")?,
            put_document: db.prepare(
                "INSERT INTO document (kind, name, version, value) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (kind, name) DO UPDATE \
                 SET version = excluded.version, value = excluded.value",
            )?,
            delete_document: db.prepare("DELETE FROM document WHERE kind = ?1 AND name = ?2")?,
            log_frames: db.prepare("PRAGMA wal_checkpoint(NOOP)")?,
            checkpoint: db.prepare("PRAGMA wal_checkpoint(PASSIVE)")?,
            restart_log: db.prepare("PRAGMA wal_checkpoint(TRUNCATE)")?,
            events: EventStatements::prepare(db)?,
            by_key: KeyStatements::prepare(db)?,
        })
    }

    pub(super) fn insert_job(
        &mut self,
        seq: i64,
        job: &Spec,
        start: &Status,
        input: &[u8],
    ) -> Result<()> {
        self.insert_job.execute(params![
            seq,
            job.id.as_bytes().as_slice(),
            &*job.task,
            &*job.queue,
            job.group.as_deref(),
            job.priority.get(),
            job.created_at.as_millis(),
            start.max_attempts,
            millis(job.timeout),
            start.start_before.map(Timestamp::as_millis),
            millis(job.retain),
            job.unique_key.as_deref(),
            job.callback_url.as_deref(),
            tags_text(&job.tags),
            &*job.input.content_type,
            input,
        ])?;
        Ok(())
    }

    pub(super) fn insert_live(
        &mut self,
        seq: i64,
        job: &Spec,
        status: &Status,
        errors: u32,
        now: Timestamp,
    ) -> Result<()> {
        self.insert_live.execute(params![
            seq,
            &*job.task,
            &*job.queue,
            job.priority.get(),
            status.start_before.map(Timestamp::as_millis),
            state_number(status.state),
            signed(status.version),
            status.run_at.as_millis(),
            status.attempt,
            signed(status.claim.get()),
            lease_number(status.lease),
            lease_expires_at(status),
            status.started_at.map(Timestamp::as_millis),
            status.cancel_requested,
            status.hand_backs,
            errors,
            lease_ms(status, now),
            job.group.as_deref(),
        ])?;
        Ok(())
    }

    pub(super) fn update_live(
        &mut self,
        seq: i64,
        status: &Status,
        errors: u32,
        now: Timestamp,
    ) -> Result<usize> {
        self.update_live.execute(params![
            seq,
            state_number(status.state),
            signed(status.version),
            status.run_at.as_millis(),
            status.attempt,
            signed(status.claim.get()),
            lease_number(status.lease),
            lease_expires_at(status),
            status.started_at.map(Timestamp::as_millis),
            status.cancel_requested,
            status.hand_backs,
            errors,
            lease_ms(status, now),
        ])
    }

    pub(super) fn insert_done(
        &mut self,
        seq: i64,
        status: &Status,
        errors: u32,
        expires_at: Timestamp,
        result: Option<&Payload>,
    ) -> Result<()> {
        self.insert_done.execute(params![
            seq,
            state_number(status.state),
            signed(status.version),
            status.run_at.as_millis(),
            status.attempt,
            signed(status.claim.get()),
            lease_number(status.lease),
            lease_expires_at(status),
            status.started_at.map(Timestamp::as_millis),
            status.cancel_requested,
            status.hand_backs,
            errors,
            status.finished_at.map(Timestamp::as_millis),
            expires_at.as_millis(),
            result.map(|result| &*result.content_type),
            result.map(|result| &*result.bytes),
        ])?;
        Ok(())
    }

    pub(super) fn insert_error(
        &mut self,
        seq: i64,
        ordinal: u32,
        error: &AttemptError,
    ) -> Result<()> {
        self.insert_error.execute(params![
            seq,
            ordinal,
            error.attempt,
            error.at.as_millis(),
            error.failure.kind.as_str(),
            error.failure.message,
        ])?;
        Ok(())
    }

    /// Keeps what the holder of a claim ended its attempt with.
    pub(super) fn put_settled(
        &mut self,
        seq: i64,
        claim: ClaimNumber,
        said: Fingerprint,
    ) -> Result<()> {
        self.put_settled
            .execute(params![seq, signed(claim.get()), said.0.as_slice()])?;
        Ok(())
    }

    pub(super) fn trim_errors(&mut self, seq: i64, from: u32) -> Result<()> {
        self.trim_errors.execute(params![seq, from])?;
        Ok(())
    }

    /// Changes the deadline of a job, and its copy if it is unfinished.
    pub(super) fn set_start_before(&mut self, seq: i64, instant: Option<i64>) -> Result<()> {
        self.set_start_before.execute(params![seq, instant])?;
        self.copy_start_before.execute(params![seq, instant])?;
        Ok(())
    }

    /// Changes what of an unfinished job its owner may change, and the copies of it.
    pub(super) fn amend(&mut self, seq: i64, job: &Spec) -> Result<()> {
        let (queue, priority) = (&*job.queue, job.priority.get());
        let tags = tags_text(&job.tags);
        self.amend_job
            .execute(params![seq, queue, priority, tags])?;
        self.amend_live.execute(params![seq, queue, priority])?;
        Ok(())
    }

    pub(super) fn insert_gone(&mut self, id: &[u8], at: Timestamp) -> Result<usize> {
        self.insert_gone.execute(params![id, at.as_millis()])
    }
}

/// Finds a job by its hint and id, with further columns.
pub(super) fn find_sql(further: &str) -> String {
    format!(
        "SELECT {LIVE_JOB}, {DONE}{further} FROM job \
         LEFT JOIN live ON live.seq = job.seq LEFT JOIN done ON done.seq = job.seq \
         WHERE {WHERE_ID}"
    )
}

pub(super) const IS_GONE: &str = "SELECT 1 FROM gone WHERE id = ?1";
pub(super) const ERRORS: &str =
    "SELECT attempt, at, kind, message FROM error WHERE seq = ?1 ORDER BY ordinal";

/// The end of the latest lease; none where there never was one.
fn lease_expires_at(status: &Status) -> Option<i64> {
    let instant = status.lease_expires_at;
    (instant != Timestamp::MIN).then(|| instant.as_millis())
}

/// The length of a running job's lease from now on. Kept where its end changes, as that is when it was
/// taken or extended.
fn lease_ms(status: &Status, now: Timestamp) -> Option<i64> {
    let is_held = status.state == State::Running;
    is_held.then(|| millis(status.lease_expires_at.since(now)))
}
