//! One transaction: what is read and locked for it, what is decided, what is written.

use super::batch::{Batch, gone, there};
use super::change::Keys;
use super::claim::{self, Numbers};
use super::fault::Fault;
use super::insert::NewSubmit;
use super::known::Known;
use super::operation::{Operation, Parked};
use super::read::remembered_since;
use super::rows::{fingerprint, get, id, name};
use super::session::Session;
use super::window::{Lane, Window};
use crate::store::{Applied, Claimed, Inserted, NewJob, StoreError, Want};
use anteroom_core::{
    ClaimNumber, Event, Fingerprint, HandBack, Idempotency, IdempotencyKey, JobId, Name, Timestamp,
};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

/// What an idempotency key remembers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Remembered {
    pub(super) fingerprint: Fingerprint,
    pub(super) id: JobId,
    pub(super) duplicate: bool,
}

/// What is known and decided in one transaction.
pub(super) struct Decisions<'a> {
    pub(super) now: Timestamp,
    pub(super) window: &'a mut Window,
    /// Lanes that have jobs, as far as this node knows.
    pub(super) lanes: &'a BTreeSet<Lane>,
    /// An attempt ended in a queue with limits: another may begin.
    pub(super) is_freed: bool,
    /// What those who wait for jobs want.
    pub(super) wanted: Vec<&'a Want>,
    pub(super) batch: Batch,
    /// The versions of the jobs that are offered, whose rows are locked.
    pub(super) offered: HashMap<JobId, u64>,
    /// What is known of jobs without reading them.
    pub(super) known: &'a Known,
    /// Ids that jobs may not be inserted with.
    pub(super) taken: &'a mut HashSet<JobId>,
    /// Ids that were asked for, of jobs that are gone.
    pub(super) gone: HashSet<JobId>,
    pub(super) keys: Keys,
    pub(super) remembered: HashMap<(Name, Idempotency), Remembered>,
    /// Submits to be remembered.
    pub(super) submits: Vec<NewSubmit>,
    /// How many jobs wait in queues that have a limit for it.
    pub(super) depths: HashMap<Name, u64>,
    /// Jobs that tell of ends.
    pub(super) callbacks: Vec<JobId>,
}

/// What is answered once the transaction is committed.
#[derive(Debug)]
pub(super) enum Answer {
    Inserted(Result<Vec<Inserted>, StoreError>),
    Applied(Vec<Applied>),
    /// It is none of the transaction's business.
    None,
}

// Each key is looked for by itself (`OFFSET 0` keeps it so): a table that was small when the plan was
// made would be read as a whole, once it is large as well.
const REMEMBERED: &str = "SELECT asked.scope, asked.task, asked.key, submit.fingerprint, \
    submit.id, submit.duplicate \
    FROM unnest($1::text[], $2::text[], $3::text[]) AS asked (scope, task, key) \
    CROSS JOIN LATERAL (SELECT * FROM submit WHERE submit.scope = asked.scope \
        AND submit.task = asked.task AND submit.key = asked.key OFFSET 0) AS submit \
    WHERE submit.at > $4";
const HOLDERS: &str = "SELECT asked.task, asked.key, unique_key.id \
    FROM unnest($1::text[], $2::text[]) AS asked (task, key) \
    CROSS JOIN LATERAL (SELECT id FROM unique_key WHERE unique_key.task = asked.task \
        AND unique_key.key = asked.key OFFSET 0) AS unique_key";

impl Decisions<'_> {
    /// Reads and locks what the operations are about.
    pub(super) async fn read(
        &mut self,
        session: &Session,
        operations: &[Operation],
        is_careful: bool,
    ) -> Result<(), Fault> {
        let ids: Vec<JobId> = operations.iter().flat_map(changed).collect();
        if !ids.is_empty() {
            if is_careful {
                self.known.take(&ids);
            } else {
                self.batch.add_known(self.known.take(&ids));
            }
            self.batch.lock(session, &ids).await?;
            self.gone = gone(session, self.batch.missing(&ids)).await?;
            let said_again = operations.iter().flat_map(may_be_repeated);
            self.batch.read_settled(session, said_again).await?;
        }
        let jobs: Vec<&NewJob> = operations.iter().flat_map(inserted).collect();
        if is_careful {
            // Only where an id was in the way.
            let ids = jobs.iter().map(|job| &job.spec.id);
            self.taken.extend(there(session, ids).await?);
        }
        self.read_remembered(session, &jobs).await?;
        self.read_holders(session, &jobs).await?;
        self.read_depths(session, &jobs).await
    }

    /// Reads what idempotency keys remember, and the jobs that they gave.
    async fn read_remembered(&mut self, session: &Session, jobs: &[&NewJob]) -> Result<(), Fault> {
        let keyed = jobs.iter().filter_map(|job| {
            let (by, _) = job.idempotency.as_ref()?;
            Some((&*by.scope, &*job.spec.task, &*by.key))
        });
        let keyed: BTreeSet<(&str, &str, &str)> = keyed.collect();
        if keyed.is_empty() {
            return Ok(());
        }
        let scopes: Vec<&str> = keyed.iter().map(|key| key.0).collect();
        let tasks: Vec<&str> = keyed.iter().map(|key| key.1).collect();
        let keys: Vec<&str> = keyed.iter().map(|key| key.2).collect();
        let since = remembered_since(self.now);
        let rows = session
            .query(REMEMBERED, &[&scopes, &tasks, &keys, &since])
            .await?;
        let mut ids = Vec::new();
        for row in &rows {
            let key = IdempotencyKey::new(get(row, 2)?);
            let key = key.map_err(|why| super::rows::damaged(row, 2, why))?;
            let scope = get::<&str>(row, 0)?.into();
            let remembered = Remembered {
                fingerprint: fingerprint(row, 3)?,
                id: id(row, 4)?,
                duplicate: get(row, 5)?,
            };
            ids.push(remembered.id);
            let key = (name(row, 1)?, Idempotency { scope, key });
            self.remembered.insert(key, remembered);
        }
        self.read_jobs(session, &ids).await
    }

    /// Reads who has the unique keys of jobs that are inserted, or that may be unfinished again.
    async fn read_holders(&mut self, session: &Session, jobs: &[&NewJob]) -> Result<(), Fault> {
        let fresh = jobs.iter().filter_map(|job| Keys::key(&job.spec));
        let ended = self.batch.jobs.values();
        let ended = ended.filter(|job| job.status.state.is_final());
        let keys: BTreeSet<_> = fresh
            .chain(ended.filter_map(|job| Keys::key(&job.spec)))
            .collect();
        if keys.is_empty() {
            return Ok(());
        }
        let tasks: Vec<&str> = keys.iter().map(|key| &*key.0).collect();
        let words: Vec<&str> = keys.iter().map(|key| &*key.1).collect();
        let mut ids = Vec::new();
        for row in &session.query(HOLDERS, &[&tasks, &words]).await? {
            let holder = id(row, 2)?;
            self.keys.kept.insert((get(row, 0)?, get(row, 1)?), holder);
            ids.push(holder);
        }
        self.read_jobs(session, &ids).await?;
        let is_unfinished = |id: &JobId| {
            let job = self.batch.jobs.get(id);
            job.is_some_and(|job| !job.status.state.is_final())
        };
        if ids.iter().all(is_unfinished) {
            return Ok(());
        }
        Err(Fault::Conflict(
            "a unique key was let go meanwhile".to_owned(),
        ))
    }

    /// Reads jobs that nothing happens to.
    async fn read_jobs(&mut self, session: &Session, ids: &[JobId]) -> Result<(), Fault> {
        let unknown: Vec<JobId> = self.batch.missing(ids).copied().collect();
        self.batch.see(session, unknown.iter()).await
    }

    /// Counts what waits in queues that have a limit for it, and holds their rows.
    async fn read_depths(&mut self, session: &Session, jobs: &[&NewJob]) -> Result<(), Fault> {
        let queues: BTreeSet<&Name> = jobs.iter().map(|job| &job.spec.queue).collect();
        let has_depth = |queue: &&&Name| self.window.rule(queue).max_depth.is_some();
        let queues: Vec<Name> = queues.iter().filter(has_depth).copied().cloned().collect();
        if queues.is_empty() {
            return Ok(());
        }
        claim::hold_limited(session, &queues).await?;
        self.depths = claim::count_waiting(session, &queues).await?;
        Ok(())
    }

    /// Reads and locks what is offered to those who wait for jobs.
    pub(super) async fn read_offers(
        &mut self,
        session: &Session,
        most: usize,
    ) -> Result<(), Fault> {
        let is_open = |lane: &&Lane| self.is_wanted(lane) && !self.window.rule(&lane.queue).paused;
        let lanes: Vec<Lane> = self.lanes.iter().filter(is_open).cloned().collect();
        if lanes.is_empty() || most == 0 {
            return Ok(());
        }
        let queues: BTreeSet<&Name> = lanes.iter().map(|lane| &lane.queue).collect();
        let is_limited = |queue: &&&Name| self.window.is_limited(queue);
        let limited: Vec<Name> = queues.iter().filter(is_limited).copied().cloned().collect();
        if !limited.is_empty() {
            for (queue, pace) in claim::hold_limited(session, &limited).await? {
                self.window.set_pace(&queue, pace);
            }
            let counts = claim::count_running(session, &limited).await?;
            self.window.count_running(&limited, &counts);
        }
        let since: Vec<_> = lanes.iter().map(|lane| self.window.since(lane)).collect();
        let offers = claim::offers(session, &lanes, &since, most, self.now).await?;
        let versions = offers.iter().map(|offer| (offer.id, offer.version));
        self.offered = versions.collect();
        self.window.note_offered(&offers);
        // Of a lane that has nothing any more there may be hints still.
        let known = self.window.lanes().filter(|lane| self.is_wanted(lane));
        let scope: BTreeSet<Lane> = known.cloned().chain(lanes).collect();
        let scope: Vec<Lane> = scope.into_iter().collect();
        self.window.offered(&scope, &offers);
        Ok(())
    }

    /// Sees that the ids of jobs that tell of ends are free: only where that was in the way.
    pub(super) async fn check_callbacks(&mut self, session: &Session) -> Result<(), Fault> {
        let taken = there(session, self.callbacks.iter()).await?;
        if taken.is_empty() {
            return Ok(());
        }
        self.taken.extend(taken);
        Err(Fault::Conflict("the id of a callback is taken".to_owned()))
    }

    /// Decides about an operation.
    pub(super) fn decide(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Insert(_, jobs, _) => Answer::Inserted(self.insert(jobs)),
            Operation::Apply(changes, _) => {
                let applied = changes.iter().map(|change| self.change(change));
                Answer::Applied(applied.collect())
            }
            Operation::HandBack(claims) => {
                for (id, claim) in claims {
                    self.hand_back(*id, *claim);
                }
                Answer::None
            }
            Operation::Claim(_)
            | Operation::Place(..)
            | Operation::ConfigureQueues(..)
            | Operation::Came(_)
            | Operation::LookAgain
            | Operation::Close(_) => Answer::None,
        }
    }

    fn hand_back(&mut self, id: JobId, claim: ClaimNumber) {
        let event = Event::Released {
            claim,
            hand_back: HandBack::Drain,
            delay: Duration::ZERO,
        };
        // Refused: it was taken back already.
        let _refused = self.change(&crate::store::Change::new(id, event)).is_err();
    }

    /// Gives those who wait the jobs that they get.
    pub(super) async fn claim(
        &mut self,
        session: &Session,
        parked: &[Parked],
        numbers: &mut Numbers,
        node: i64,
    ) -> Result<Vec<Vec<Claimed>>, Fault> {
        let wants: Vec<&Want> = parked.iter().map(|parked| &parked.want).collect();
        let mut room = anteroom_core::limits::COMMIT_OPERATIONS_MAX;
        let mut chosen = Vec::with_capacity(wants.len());
        for (at, parked) in parked.iter().enumerate() {
            let ids = if parked.reply.is_closed() {
                Vec::new()
            } else {
                self.choose(&parked.want, room)
            };
            room -= ids.len();
            chosen.push((at, ids));
        }
        self.begin(session, numbers, node, &chosen, &wants).await
    }
}

/// The jobs that an operation is about and that are there already.
fn changed(operation: &Operation) -> Vec<JobId> {
    match operation {
        Operation::Apply(changes, _) => changes.iter().map(|change| change.id).collect(),
        Operation::HandBack(claims) => claims.iter().map(|(id, _)| *id).collect(),
        _ => Vec::new(),
    }
}

/// The jobs whose attempts an operation ends in a way that may have been said before.
fn may_be_repeated(operation: &Operation) -> impl Iterator<Item = &JobId> {
    let changes = match operation {
        Operation::Apply(changes, _) => &**changes,
        _ => &[],
    };
    let said = changes.iter().filter(|change| change.settled().is_some());
    said.map(|change| &change.id)
}

fn inserted(operation: &Operation) -> &[NewJob] {
    match operation {
        Operation::Insert(_, jobs, _) => jobs,
        _ => &[],
    }
}
