//! The jobs that a transaction touches: as they were read and locked, and what becomes of them.

use super::among::sorted;
use super::fault::Fault;
use super::locks::{
    LOCK_DONE, LOCK_RUNNING, LOCK_WAITING, SPECS, SPECS_WITH_INPUTS, STAND, STANDING_AT, TAKE,
    THERE,
};
use super::rows::{
    AFTER_JOB, AFTER_STANDING, Stored, Told, attempt_error, damaged, get, id, payload, settled,
    stored_apart, unsigned, uuid,
};
use super::session::{Session, Values};
use super::window::{END, Lane, Offer, Since};
use anteroom_core::{
    AttemptError, ClaimNumber, EventId, EventPart, Fingerprint, Job, JobId, Payload, Report,
    ShownState, Spec, State, StateEvent, Status, Timestamp,
};
use futures_util::try_join;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use tokio_postgres::Row;
use uuid::Uuid;

/// The table that a job's row lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lies {
    /// It was not there before.
    Nowhere,
    Waiting,
    Running,
    Done,
}

/// How a transaction knows a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// Its row is locked, or is to be inserted.
    Locked,
    /// Its row is as this node's writers left it, or else the transaction fails.
    Before,
}

/// A job that a transaction has locked or inserts.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) spec: Arc<Spec>,
    pub(super) status: Status,
    pub(super) errors: u32,
    pub(super) told: Told,
    /// The result that it has, or gets.
    pub(super) result: Option<anteroom_core::PayloadInfo>,
    pub(super) lies: Lies,
    /// The version that its row has.
    pub(super) version_read: u64,
    pub(super) seen: Seen,
    /// Whose epoch it runs under.
    pub(super) node: Option<i64>,
    /// How long its lease was when it was taken or last extended.
    pub(super) lease_ms: i64,

    // What else was read of it, where there is any.
    pub(super) said: Vec<AttemptError>,
    pub(super) settled: Option<(ClaimNumber, Fingerprint)>,
    pub(super) last_state: Option<StateEvent>,
    pub(super) bytes_said: i64,

    // What is to be written of it.
    pub(super) is_changed: bool,
    pub(super) is_amended: bool,
    pub(super) start_before_changed: bool,
    /// The input of one that is inserted.
    pub(super) input: Option<Payload>,
    /// The result of one that has just succeeded.
    pub(super) new_result: Option<Payload>,
    pub(super) new_errors: Vec<(u32, AttemptError)>,
    pub(super) new_states: Vec<(u64, StateEvent)>,
    pub(super) new_reports: Vec<Said>,
    /// The first that is kept, where something was said or skipped: what is older has to go.
    pub(super) reports_kept_from: Option<u64>,
    pub(super) new_settled: Option<(ClaimNumber, Fingerprint)>,
}

/// Something that an attempt said, to be written.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) ordinal: u64,
    pub(super) version: u64,
    pub(super) attempt: u32,
    pub(super) report: Report,
    /// Of all that was said of the job up to this.
    pub(super) bytes: i64,
}

impl Touched {
    fn new(job: Stored, lies: Lies) -> Self {
        Self {
            spec: job.spec,
            version_read: job.status.version,
            seen: Seen::Locked,
            status: job.status,
            errors: job.errors,
            told: job.told,
            result: job.result,
            lies,
            node: None,
            lease_ms: 0,
            said: Vec::new(),
            settled: None,
            last_state: None,
            bytes_said: 0,
            is_changed: false,
            is_amended: false,
            start_before_changed: false,
            input: None,
            new_result: None,
            new_errors: Vec::new(),
            new_states: Vec::new(),
            new_reports: Vec::new(),
            reports_kept_from: None,
            new_settled: None,
        }
    }

    /// Returns a job that is to be inserted.
    pub(super) fn fresh(spec: Arc<Spec>, status: Status, input: Payload) -> Self {
        let stored = Stored {
            spec,
            status,
            errors: 0,
            result: None,
            told: Told::default(),
        };
        Self {
            is_changed: true,
            input: Some(input),
            ..Self::new(stored, Lies::Nowhere)
        }
    }

    /// Returns the job as its transaction left it.
    pub(super) fn left(self) -> Self {
        let stored = Stored {
            spec: self.spec,
            status: self.status,
            errors: self.errors,
            told: self.told,
            result: self.result,
        };
        let lies = belongs(stored.status.state);
        Self {
            seen: if lies == Lies::Running {
                Seen::Before
            } else {
                Seen::Locked
            },
            input: self.input.filter(|_| lies == Lies::Waiting),
            node: self.node,
            lease_ms: self.lease_ms,
            said: self.said,
            settled: self.settled,
            last_state: self.last_state,
            bytes_said: self.bytes_said,
            ..Self::new(stored, lies)
        }
    }

    /// Returns the job as it stands.
    pub(super) fn job(&self) -> Job {
        Job {
            spec: self.spec.clone(),
            status: self.status,
            errors: self.said.clone(),
            result: self.result.clone(),
            progress: self.told.progress.clone(),
        }
    }

    /// Returns what an order of waiting jobs has of it, if it is ready.
    pub(super) fn offer(&self, now: Timestamp) -> Option<Offer> {
        let is_ready = self.status.shown(now) == ShownState::Ready && !self.status.is_too_late(now);
        is_ready.then(|| Offer {
            id: self.spec.id,
            lane: Lane::of(&self.spec),
            group: self.spec.group.clone(),
            run_at: self.status.run_at,
            deadline: self.deadline(),
            version: self.status.version,
            is_cut: false,
        })
    }

    /// Returns when it has to have begun; none also for one that began before.
    pub(super) fn deadline(&self) -> Option<Timestamp> {
        let status = &self.status;
        status.start_before.filter(|_| status.started_at.is_none())
    }
}

/// The jobs of a transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) jobs: HashMap<JobId, Touched>,
}

const ERRORS: &str = "SELECT attempt, at, kind, message, id FROM error \
    WHERE id = ANY ($1) ORDER BY id, ordinal";
const LAST_STATES: &str = "SELECT asked.id, last.version, last.reports, last.part, last.state, \
        last.attempt FROM unnest($1::uuid[]) AS asked (id) CROSS JOIN LATERAL ( \
        SELECT version, reports, part, state, attempt FROM state \
        WHERE state.id = asked.id ORDER BY ordinal DESC LIMIT 1) AS last";
const BYTES_SAID: &str = "SELECT asked.id, last.bytes \
    FROM unnest($1::uuid[]) AS asked (id) CROSS JOIN LATERAL ( \
        SELECT bytes FROM report \
        WHERE report.id = asked.id ORDER BY ordinal DESC LIMIT 1) AS last";
const SETTLED: &str = "SELECT id, claim, said FROM settled WHERE id = ANY ($1)";

impl Batch {
    /// Locks jobs and reads them, those that are not known. One that is not there has no entry.
    ///
    /// A job that moves from one table to another while it is looked for may be found in neither: the
    /// look is a conflict then, and is to be repeated.
    pub(super) async fn lock(&mut self, session: &Session, ids: &[JobId]) -> Result<(), Fault> {
        let ids = sorted(self.missing(ids));
        if ids.is_empty() {
            return Ok(());
        }
        let values: Values<'_> = &[&ids];
        // What was submitted is read once its row is locked: an owner may have changed it.
        let (running, waiting, specs) = try_join!(
            session.query(&LOCK_RUNNING, values),
            session.query(&LOCK_WAITING, values),
            session.query(&SPECS, values),
        )?;
        let specs = by_id(&specs)?;
        self.add_all(&specs, &running, Lies::Running)?;
        self.add_all(&specs, &waiting, Lies::Waiting)?;
        let rest = || specs.keys().filter(|id| !self.jobs.contains_key(id));
        let rest = sorted(rest());
        if !rest.is_empty() {
            let done = session.query(&LOCK_DONE, &[&rest]).await?;
            if done.len() < rest.len() {
                return Err(Fault::Conflict("a job was on the move".to_owned()));
            }
            self.add_all(&specs, &done, Lies::Done)?;
        }
        self.read_more(session).await
    }

    /// Reads jobs that wait and are locked already, and returns their inputs.
    pub(super) async fn take(
        &mut self,
        session: &Session,
        ids: &[JobId],
    ) -> Result<HashMap<JobId, Payload>, Fault> {
        let ids = sorted(ids);
        let values: Values<'_> = &[&ids];
        let (waiting, specs) = try_join!(
            session.query(&TAKE, values),
            session.query(&SPECS_WITH_INPUTS, values),
        )?;
        let specs = by_id(&specs)?;
        self.add_all(&specs, &waiting, Lies::Waiting)?;
        let input = |(id, row): (&JobId, &&Row)| Ok((*id, payload(row, AFTER_JOB)?));
        let inputs = specs.iter().map(input).collect::<Result<_, Fault>>()?;
        self.read_more(session).await?;
        Ok(inputs)
    }

    /// Reads jobs that nothing happens to.
    pub(super) async fn see(
        &mut self,
        session: &Session,
        ids: impl Iterator<Item = &JobId>,
    ) -> Result<(), Fault> {
        let ids = sorted(ids);
        if ids.is_empty() {
            return Ok(());
        }
        let values: Values<'_> = &[&ids];
        let (standing, specs) =
            try_join!(session.query(&STAND, values), session.query(&SPECS, values))?;
        let specs = by_id(&specs)?;
        for row in &standing {
            // One without was forgotten in between.
            if let Some(spec) = specs.get(&id(row, 0)?) {
                let job = stored_apart(spec, row, STANDING_AT)?;
                let lies = belongs(job.status.state);
                self.jobs.insert(job.spec.id, Touched::new(job, lies));
            }
        }
        self.read_more(session).await
    }

    /// Returns those of some ids that it has no job of.
    pub(super) fn missing<'a>(&self, ids: &'a [JobId]) -> impl Iterator<Item = &'a JobId> {
        ids.iter().filter(|id| !self.jobs.contains_key(id))
    }

    /// Adds jobs that lie in a table: rows of it, and of what was submitted.
    fn add_all(
        &mut self,
        specs: &HashMap<JobId, &Row>,
        rows: &[Row],
        lies: Lies,
    ) -> Result<(), Fault> {
        for row in rows {
            let spec = specs.get(&id(row, 0)?);
            let spec = spec.ok_or_else(|| damaged(row, 0, "nobody submitted it"))?;
            let mut touched = Touched::new(stored_apart(spec, row, STANDING_AT)?, lies);
            if lies == Lies::Running {
                let at = STANDING_AT + AFTER_STANDING - AFTER_JOB;
                touched.node = get(row, at)?;
                touched.lease_ms = get(row, at + 1)?;
            }
            self.jobs.insert(touched.spec.id, touched);
        }
        Ok(())
    }

    /// Adds jobs that are known.
    pub(super) fn add_known(&mut self, jobs: Vec<Touched>) {
        let jobs = jobs.into_iter();
        self.jobs.extend(jobs.map(|job| (job.spec.id, job)));
    }

    /// Tells whether something was decided by what is known of a job and will not be written: nothing
    /// would show then whether it was so.
    pub(super) fn has_guess(&self) -> bool {
        let mut jobs = self.jobs.values();
        jobs.any(|job| job.seen == Seen::Before && !job.is_changed)
    }

    /// Returns the lanes of the jobs that were left to wait, and from where on they are to be looked for.
    pub(super) fn waiting(&self, now: Timestamp) -> BTreeMap<Lane, Since> {
        let mut waiting = BTreeMap::new();
        let is_left = |job: &&Touched| job.is_changed && job.status.state == State::Waiting;
        for job in self.jobs.values().filter(is_left) {
            let ready = job.offer(now);
            let since = ready.map_or(END, |offer| (offer.run_at, offer.id));
            let first = waiting.entry(Lane::of(&job.spec)).or_insert(END);
            *first = since.min(*first);
        }
        waiting
    }

    /// Reads what else there is of the jobs: of most there is nothing, and nothing is asked.
    pub(super) async fn read_more(&mut self, session: &Session) -> Result<(), Fault> {
        let of = |has: fn(&Touched) -> bool| -> Vec<Uuid> {
            let those = self.jobs.values().filter(|job| !job.is_changed && has(job));
            those.map(|job| uuid(job.spec.id)).collect()
        };
        let with_errors = of(|job| job.errors > 0 && job.said.is_empty());
        let with_states = of(|job| job.told.states > 0 && job.last_state.is_none());
        let with_reports = of(|job| job.told.reports > 0 && job.bytes_said == 0);
        let (errors, states, reports) = try_join!(
            some(session, ERRORS, &with_errors),
            some(session, LAST_STATES, &with_states),
            some(session, BYTES_SAID, &with_reports),
        )?;
        for row in &errors {
            let error = attempt_error(row, 0)?;
            if let Some(job) = self.jobs.get_mut(&id(row, 4)?) {
                job.said.push(error);
            }
        }
        for row in &states {
            let state = state_event(row, 1)?;
            if let Some(job) = self.jobs.get_mut(&id(row, 0)?) {
                job.last_state = Some(state);
            }
        }
        for row in &reports {
            if let Some(job) = self.jobs.get_mut(&id(row, 0)?) {
                job.bytes_said = get(row, 1)?;
            }
        }
        Ok(())
    }

    /// Reads what ended the latest attempts of jobs, of which it may be said again.
    pub(super) async fn read_settled<'a>(
        &mut self,
        session: &Session,
        ids: impl Iterator<Item = &'a JobId>,
    ) -> Result<(), Fault> {
        let ids: Vec<Uuid> = ids.map(|id| uuid(*id)).collect();
        for row in &some(session, SETTLED, &ids).await? {
            let kept = settled(row, 1)?;
            if let Some(job) = self.jobs.get_mut(&id(row, 0)?) {
                job.settled = Some(kept);
            }
        }
        Ok(())
    }
}

/// Returns which of some jobs are gone.
pub(super) async fn gone(
    session: &Session,
    ids: impl Iterator<Item = &JobId>,
) -> Result<HashSet<JobId>, Fault> {
    which(session, "SELECT id FROM gone WHERE id = ANY ($1)", ids).await
}

/// Returns which of some ids jobs have.
pub(super) async fn there(
    session: &Session,
    ids: impl Iterator<Item = &JobId>,
) -> Result<HashSet<JobId>, Fault> {
    which(session, &THERE, ids).await
}

async fn which(
    session: &Session,
    sql: &str,
    ids: impl Iterator<Item = &JobId>,
) -> Result<HashSet<JobId>, Fault> {
    let rows = some(session, sql, &sorted(ids)).await?;
    rows.iter().map(|row| id(row, 0)).collect()
}

/// Returns rows by the ids that they begin with.
fn by_id(rows: &[Row]) -> Result<HashMap<JobId, &Row>, Fault> {
    rows.iter().map(|row| Ok((id(row, 0)?, row))).collect()
}

/// Returns the rows about some jobs, and asks for none about none.
async fn some(session: &Session, sql: &str, ids: &[Uuid]) -> Result<Vec<Row>, Fault> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    Ok(session.query(sql, &[&ids]).await?)
}

/// Reads `version, reports, part, state, attempt`.
pub(super) fn state_event(row: &Row, at: usize) -> Result<StateEvent, Fault> {
    let damaged = || super::rows::damaged(row, at + 2, "there is no such event");
    let part: i16 = get(row, at + 2)?;
    let part = EventPart::from_number(u64::from(part.unsigned_abs())).ok_or_else(damaged)?;
    let state: i16 = get(row, at + 3)?;
    let state = usize::from(state.unsigned_abs());
    let state = ShownState::ALL.get(state).copied().ok_or_else(damaged)?;
    Ok(StateEvent {
        id: EventId {
            version: unsigned(row, at)?,
            reports: unsigned(row, at + 1)?,
            part,
        },
        state,
        attempt: super::rows::count(row, at + 4)?,
    })
}

/// Returns the table that a job belongs in.
pub(super) const fn belongs(state: State) -> Lies {
    match state {
        State::Waiting => Lies::Waiting,
        State::Running => Lies::Running,
        State::Succeeded | State::Failed | State::Cancelled => Lies::Done,
    }
}
