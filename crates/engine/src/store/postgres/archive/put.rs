//! Writes records into the database, as if it had always had them.

use crate::store::KeptQueue;
use crate::store::archive::{
    KeptDocument, KeptGone, KeptHistory, KeptJob, KeptPace, KeptSubmit, Record,
};
use crate::store::postgres::batch::{Said, Touched};
use crate::store::postgres::fault::Fault;
use crate::store::postgres::queues;
use crate::store::postgres::rows::{Told, id, millis, signed, uuid};
use crate::store::postgres::session::{Session, Values};
use crate::store::postgres::write::Writes;
use anteroom_core::{Happened, Lease, State, Timestamp};
use std::time::Duration;
use uuid::Uuid;

/// The epoch of no node: what ran under one when it was exported is run again by others.
const NO_NODE: i64 = 0;

const INSERT_DOCUMENTS: &str = "INSERT INTO document (kind, name, version, value) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[])";
const INSERT_PACES: &str = "INSERT INTO limited (queue, pace) \
    SELECT * FROM unnest($1::text[], $2::bigint[])";
const INSERT_SUBMITS: &str = "INSERT INTO submit (scope, task, key, fingerprint, id, duplicate, \
    at) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::uuid[], \
    $6::boolean[], $7::bigint[])";
const INSERT_GONE: &str = "INSERT INTO gone (id, at) \
    SELECT * FROM unnest($1::uuid[], $2::bigint[])";
/// Leaves out those that another job holds.
const HOLD_KEYS: &str = "INSERT INTO unique_key (task, key, id) \
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]) ON CONFLICT DO NOTHING";
const NOT_HELD: &str = "SELECT asked.id FROM unnest($1::text[], $2::text[], $3::uuid[]) \
    AS asked (task, key, id) LEFT JOIN unique_key AS held \
    ON held.task = asked.task AND held.key = asked.key \
    WHERE held.id IS DISTINCT FROM asked.id ORDER BY asked.id LIMIT 1";

/// Writes records in one transaction.
pub(super) async fn put(
    session: &Session,
    records: Vec<Record>,
    now: Timestamp,
) -> Result<(), Fault> {
    let mut batch = Batch::default();
    for record in records {
        batch.add(record, now);
    }
    session.begin().await?;
    match batch.write(session).await {
        // Sends the jobs, and the commit with them.
        Ok(()) => batch.jobs.commit(session).await,
        Err(fault) => session.end(Err(fault)).await,
    }
}

/// Records, column by column.
#[derive(Debug, Default)]
struct Batch {
    documents: (Vec<String>, Vec<String>, Vec<i64>, Vec<Vec<u8>>),
    queues: Vec<KeptQueue>,
    paces: (Vec<String>, Vec<i64>),
    jobs: Writes,
    unique_keys: (Vec<String>, Vec<String>, Vec<Uuid>),
    submits: Submits,
    gone: (Vec<Uuid>, Vec<i64>),
}

#[derive(Debug, Default)]
struct Submits {
    scope: Vec<String>,
    task: Vec<String>,
    key: Vec<String>,
    fingerprint: Vec<Vec<u8>>,
    id: Vec<Uuid>,
    duplicate: Vec<bool>,
    at: Vec<i64>,
}

impl Batch {
    fn add(&mut self, record: Record, now: Timestamp) {
        match record {
            Record::Document(it) => self.add_document(&it),
            Record::Queue(it) => self.queues.push(it),
            Record::Pace(it) => self.add_pace(&it),
            Record::Job(it) => self.add_job(*it, now),
            Record::Submit(it) => self.submits.add(&it),
            Record::Gone(it) => self.add_gone(it),
        }
    }

    fn add_document(&mut self, KeptDocument { kind, document }: &KeptDocument) {
        let to = &mut self.documents;
        to.0.push(kind.to_string());
        to.1.push(document.name.to_string());
        to.2.push(signed(document.version));
        to.3.push(document.value.to_vec());
    }

    fn add_pace(&mut self, kept: &KeptPace) {
        self.paces.0.push(kept.queue.to_string());
        self.paces.1.push(kept.pace.as_nanos());
    }

    fn add_gone(&mut self, kept: KeptGone) {
        self.gone.0.push(uuid(kept.id));
        self.gone.1.push(kept.at.as_millis());
    }

    fn add_job(&mut self, kept: KeptJob, now: Timestamp) {
        let spec = kept.job.spec.clone();
        if let Some(key) = &spec.unique_key
            && !kept.job.status.state.is_final()
        {
            let to = &mut self.unique_keys;
            to.0.push(spec.task.to_string());
            to.1.push(key.to_string());
            to.2.push(uuid(spec.id));
        }
        self.jobs.add(&touched(kept), now);
    }

    /// Writes all but the jobs.
    async fn write(&self, session: &Session) -> Result<(), Fault> {
        let (kinds, names, versions, values) = &self.documents;
        if !kinds.is_empty() {
            let values: Values<'_> = &[kinds, names, versions, values];
            session.execute(INSERT_DOCUMENTS, values).await?;
        }
        if !self.queues.is_empty() {
            queues::write(session, self.queues.iter()).await?;
        }
        let (queues, paces) = &self.paces;
        if !queues.is_empty() {
            session.execute(INSERT_PACES, &[queues, paces]).await?;
        }
        self.hold_keys(session).await?;
        self.submits.write(session).await?;
        let (ids, instants) = &self.gone;
        if !ids.is_empty() {
            session.execute(INSERT_GONE, &[ids, instants]).await?;
        }
        Ok(())
    }

    async fn hold_keys(&self, session: &Session) -> Result<(), Fault> {
        let (tasks, keys, ids) = &self.unique_keys;
        if ids.is_empty() {
            return Ok(());
        }
        let held = session.execute(HOLD_KEYS, &[tasks, keys, ids]).await?;
        if held == ids.len() as u64 {
            return Ok(());
        }
        let row = session.query_opt(NOT_HELD, &[tasks, keys, ids]).await?;
        let which = match row {
            Some(row) => format!("job {}", id(&row, 0)?),
            None => "a job".to_owned(),
        };
        let reason = format!("{which}: another unfinished job has its unique key");
        Err(Fault::Damaged(reason))
    }
}

impl Submits {
    fn add(&mut self, kept: &KeptSubmit) {
        self.scope.push(kept.idempotency.scope.to_string());
        self.task.push(kept.task.to_string());
        self.key.push(kept.idempotency.key.to_string());
        self.fingerprint.push(kept.fingerprint.0.to_vec());
        self.id.push(uuid(kept.id));
        self.duplicate.push(kept.duplicate);
        self.at.push(kept.at.as_millis());
    }

    async fn write(&self, session: &Session) -> Result<(), Fault> {
        let Self {
            scope,
            task,
            key,
            fingerprint,
            id,
            duplicate,
            at,
        } = self;
        if id.is_empty() {
            return Ok(());
        }
        let values: Values<'_> = &[scope, task, key, fingerprint, id, duplicate, at];
        session.execute(INSERT_SUBMITS, values).await?;
        Ok(())
    }
}

/// Returns a job as one that a server is about to insert as it stands.
fn touched(kept: KeptJob) -> Touched {
    let KeptJob {
        job,
        input,
        result,
        lease_for,
        told: history,
        settled,
    } = kept;
    let is_nodes = job.status.state == State::Running && job.status.lease == Lease::Node;
    let mut touched = Touched::fresh(job.spec, job.status, input);
    touched.node = is_nodes.then_some(NO_NODE);
    touched.lease_ms = millis(lease_for.unwrap_or(Duration::ZERO));
    touched.result = job.result;
    touched.new_result = result;
    touched.new_settled = settled;
    touched.new_errors = (0..).zip(job.errors).collect();
    touched.errors = u32::try_from(touched.new_errors.len()).unwrap_or(u32::MAX);
    touched.told = Told {
        reports: history.reports_made,
        states: history.states_dropped + history.states.len() as u64,
        progress: job.progress,
    };
    add_history(&mut touched, history);
    touched
}

fn add_history(touched: &mut Touched, history: KeptHistory) {
    touched.new_states = (history.states_dropped..).zip(history.states).collect();
    for event in history.reports {
        let Happened::Reported { attempt, report } = event.happened else {
            continue;
        };
        touched.bytes_said += signed(report.bytes() as u64);
        touched.new_reports.push(Said {
            ordinal: event.id.reports,
            version: event.id.version,
            attempt,
            report,
            bytes: touched.bytes_said,
        });
    }
}
