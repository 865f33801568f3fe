//! The `PostgreSQL` store: durable, for many nodes.
//!
//! What an operation acknowledged was committed with `synchronous_commit = on`. All that one node
//! changes goes through three writers, each of which gathers what waits for it into one transaction: it
//! locks and reads the rows that it does not know (one round trip), decides in memory, writes and
//! commits (another). Reading is done beside them, on connections of its own.

mod among;
mod archive;
mod batch;
mod bulk;
mod change;
mod claim;
mod columns;
mod counts;
mod database;
mod days;
mod documents;
mod events;
mod fault;
mod forget;
mod insert;
mod known;
mod link;
mod list;
mod locks;
mod node;
mod open;
mod operation;
mod overdue;
mod place;
#[cfg(test)]
mod plans;
mod pooler;
mod publish;
mod queues;
mod read;
mod rows;
mod schema;
mod session;
mod shared;
#[cfg(test)]
mod tests;
mod time;
mod tls;
mod transact;
mod url;
mod wake;
mod window;
mod write;
mod writer;

pub use archive::PostgresArchive;
pub use open::{OpenError, PostgresOptions};
pub use schema::Migrated;
pub use url::{PostgresUrl, PostgresUrlError};

use crate::clock::{Clock, FollowedClock};
use crate::metrics::{Commit, StoreMetrics};
use crate::store::{
    Applied, Change, Claimed, Counts, Deleted, Document, DocumentChange, DocumentPut, Filter,
    Found, History, Inserted, KeptQueue, Listing, NewJob, Overdue, Page, PlaceOf, Published,
    QueueChange, QueueSet, Store, StoreError, Want,
};
use anteroom_core::{
    EventId, Idempotency, Job, JobId, Name, Payload, Place, QueueDefaults, Timestamp,
};
use async_trait::async_trait;
use bytes::Bytes;
use database::Database;
use fault::Fault;
use link::Link;
use operation::{Delivery, Operation, Parked, Reply};
use session::Session;
use shared::{Shared, Writers};
use std::sync::Arc;
use tokio::sync::{Mutex, OnceCell, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use writer::Writer;

/// Keeps jobs in a `PostgreSQL` database.
#[derive(Debug)]
pub struct PostgresStore {
    shared: Arc<Shared>,
    /// Reads single jobs.
    reading: Link,
    /// Reads lists, and does what takes long or is rare.
    beside: Mutex<Link>,
    /// Says that this node is alive, and tells the others of jobs.
    heart: Arc<Link>,
    node: i64,
    tasks: Mutex<JoinSet<()>>,
    /// Set once it is closed.
    ended: OnceCell<()>,
}

/// Brings the schema of a database forward, as opening a store does, and says from which version to
/// which.
///
/// # Errors
///
/// [`OpenError`].
pub async fn migrate(url: PostgresUrl, options: PostgresOptions) -> Result<Migrated, OpenError> {
    let (_database, migrated) = open::open(url, options).await?;
    Ok(migrated)
}

impl PostgresStore {
    /// Opens the store of a database, and makes its tables where there are none. It goes by the clock
    /// of the database.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub async fn open(url: PostgresUrl, options: PostgresOptions) -> Result<Self, OpenError> {
        let (database, _migrated) = open::open(url, options).await?;
        let link = Link::new(database.clone(), "clock");
        let shown = async { time::now(&*link.session().await?).await };
        let (clock, followed) = Clock::followed(shown.await.map_err(unreachable)?);
        Self::begin(&database, clock, Some(followed)).await
    }

    /// Opens the store of a database as [`open`](Self::open) does, and goes by another clock: one that
    /// all nodes go by.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which says what to do.
    pub async fn open_by(
        clock: Clock,
        url: PostgresUrl,
        options: PostgresOptions,
    ) -> Result<Self, OpenError> {
        let (database, _migrated) = open::open(url, options).await?;
        Self::begin(&database, clock, None).await
    }

    async fn begin(
        database: &Arc<Database>,
        clock: Clock,
        followed: Option<FollowedClock>,
    ) -> Result<Self, OpenError> {
        let (claims, to_claim) = mpsc::unbounded_channel();
        let (submits, to_submit) = mpsc::unbounded_channel();
        let (settles, to_settle) = mpsc::unbounded_channel();
        let writers = Writers {
            claims,
            submits,
            settles,
        };
        let shared = Arc::new(Shared::new(clock, writers));
        let link = |role| Link::new(database.clone(), role);
        let beside = link("beside");
        let mut told = Vec::new();
        let joined = join(&beside, shared.clock.now(), &mut told).await;
        let Some(node) = joined.map_err(unreachable)? else {
            let address = database.url().address();
            return Err(OpenError::HalfImported { address });
        };
        let mut tasks = JoinSet::new();
        for (role, to_do) in [
            ("claims", to_claim),
            ("submits", to_submit),
            ("settles", to_settle),
        ] {
            let (link, gives) = (Arc::new(link(role)), role == "claims");
            tasks.spawn(Writer::new(shared.clone(), link, to_do, node, gives).run());
        }
        let heart = Arc::new(link("heart"));
        tasks.spawn(wake::tell_others(shared.clone(), heart.clone()));
        tasks.spawn(node::beat(shared.clone(), heart.clone(), node, followed));
        tasks.spawn(days::keep(shared.clone(), database.clone(), told));
        let told = Arc::downgrade(&shared);
        shared.clock.on_advance(move || {
            if let Some(shared) = told.upgrade() {
                shared.look_again();
            }
        });
        Ok(Self {
            shared,
            reading: link("reader"),
            beside: Mutex::new(beside),
            heart,
            node,
            tasks: Mutex::new(tasks),
            ended: OnceCell::new(),
        })
    }

    /// Has the writer do something, and waits for its answer.
    async fn write<T>(
        &self,
        operation: impl FnOnce(Reply<T>) -> Operation,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.shared.send(operation(reply))?;
        answer.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Reads something on a connection that others read on as well.
    async fn read<T>(
        &self,
        look: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.shared.check_open()?;
        let done = async {
            let session = self.reading.session().await?;
            look(&session).await
        };
        self.shared.answer(done.await)
    }

    /// Does something on a connection of its own, one after the other.
    async fn beside<T>(
        &self,
        step: impl AsyncFnOnce(&Session) -> Result<T, Fault>,
    ) -> Result<T, StoreError> {
        self.shared.check_open()?;
        let done = async {
            let link = self.beside.lock().await;
            let session = link.session().await?;
            step(&session).await
        };
        self.shared.answer(done.await)
    }
}

/// Joins the other nodes, and returns the epoch of this one; none: an import is under way.
async fn join(link: &Link, now: Timestamp, told: &mut Vec<String>) -> Result<Option<i64>, Fault> {
    let session = link.session().await?;
    // Before the first job of this node is submitted, so that it finds its day.
    days::tell(&days::tend(&session, now).await, told);
    session.begin().await?;
    let joined = async {
        archive::hold_off_imports(&session).await?;
        match archive::import_mark(&session).await? {
            Some(_) => Ok(None),
            None => node::join(&session, now).await.map(Some),
        }
    };
    session.end(joined.await).await
}

/// A database that was there just now.
fn unreachable(fault: Fault) -> OpenError {
    let detail = fault.into_error().to_string();
    OpenError::Unreachable { detail }
}

#[async_trait]
impl Store for PostgresStore {
    fn clock(&self) -> Clock {
        self.shared.clock.clone()
    }

    async fn insert(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, StoreError> {
        let place = self.shared.room.enter(jobs.len());
        let place = place.inspect_err(|error| self.shared.metrics.failed(error))?;
        self.write(|reply| Operation::Insert(place, jobs, reply))
            .await
    }

    async fn remembers(&self, task: &Name, idempotency: &Idempotency) -> Result<bool, StoreError> {
        let now = self.shared.clock.now();
        self.read(async |session| read::remembers(session, task, idempotency, now).await)
            .await
    }

    async fn claim(&self, want: Want) -> Result<Vec<Claimed>, StoreError> {
        let until = self.shared.clock.now().after(want.wait);
        let parked = |reply| Parked { want, until, reply };
        let delivery: Delivery = self.write(|reply| Operation::Claim(parked(reply))).await?;
        Ok(delivery.receive())
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, StoreError> {
        self.write(|reply| Operation::Apply(changes, reply)).await
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<Overdue>, StoreError> {
        let (node, now) = (self.node, self.shared.clock.now());
        let is_steady = self.shared.is_steady(node::STEADY);
        self.read(async |session| overdue::overdue(session, limit, node, is_steady, now).await)
            .await
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.shared.clock.now();
        self.beside(async |session| forget::prune(session, limit, now).await)
            .await
    }

    async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<Deleted, StoreError> {
        let now = self.shared.clock.now();
        self.beside(async |session| forget::delete(session, id, if_version, now).await)
            .await
    }

    async fn get(&self, id: JobId) -> Result<Found<Job>, StoreError> {
        self.read(async |session| read::job(session, id).await)
            .await
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_alive(&self) -> bool {
        self.shared.is_alive()
    }

    async fn versions(&self, ids: &[JobId]) -> Result<Vec<(JobId, u64)>, StoreError> {
        self.read(async |session| read::versions(session, ids).await)
            .await
    }

    async fn input(&self, id: JobId) -> Result<Found<Payload>, StoreError> {
        self.read(async |session| read::input(session, id).await)
            .await
    }

    async fn result(&self, id: JobId) -> Result<Found<(Job, Option<Payload>)>, StoreError> {
        self.read(async |session| read::result(session, id).await)
            .await
    }

    async fn events(
        &self,
        id: JobId,
        after: EventId,
        limit: usize,
    ) -> Result<Found<History>, StoreError> {
        let now = self.shared.clock.now();
        self.read(async |session| events::events(session, id, after, limit, now).await)
            .await
    }

    async fn place(&self, of: PlaceOf) -> Result<Option<Place>, StoreError> {
        self.write(|reply| Operation::Place(of, reply)).await
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing, StoreError> {
        let now = self.shared.clock.now();
        self.read(async |session| list::list(session, filter, page, now).await)
            .await
    }

    async fn counts(&self) -> Result<Vec<Counts>, StoreError> {
        let now = self.shared.clock.now();
        self.read(async |session| self.shared.counting.counts(session, now).await)
            .await
    }

    async fn queues(&self) -> Result<Vec<KeptQueue>, StoreError> {
        self.read(queues::queues).await
    }

    async fn set_queues(&self, changes: Vec<QueueChange>) -> Result<Vec<QueueSet>, StoreError> {
        let set = self
            .beside(async |session| queues::set_queues(session, changes).await)
            .await;
        self.shared.look_again();
        set
    }

    async fn configure_queues(&self, defaults: QueueDefaults) -> Result<(), StoreError> {
        let mut answers = Vec::new();
        self.shared.send_each(|| {
            let (reply, answer) = oneshot::channel();
            answers.push(answer);
            Operation::ConfigureQueues(Box::new(defaults.clone()), reply)
        })?;
        for answer in answers {
            answer.await.unwrap_or(Err(StoreError::Closed))?;
        }
        Ok(())
    }

    async fn publish(&self, published: Published) -> Result<(), StoreError> {
        self.beside(async |session| publish::publish(session, &published).await)
            .await
    }

    async fn document(&self, kind: &Name, name: &Name) -> Result<Option<Document>, StoreError> {
        self.read(async |session| documents::document(session, kind, name).await)
            .await
    }

    async fn documents(&self, kind: &Name) -> Result<Vec<Document>, StoreError> {
        self.read(async |session| documents::documents(session, kind).await)
            .await
    }

    async fn put_documents(
        &self,
        changes: Vec<DocumentChange>,
    ) -> Result<Vec<DocumentPut>, StoreError> {
        let values = changes.iter().filter_map(|change| change.value.as_ref());
        let (operations, bytes) = (changes.len(), values.map(Bytes::len).sum());
        let began_at = Instant::now();
        let put = self
            .beside(async |session| documents::put_documents(session, &changes).await)
            .await?;
        self.shared.metrics.committed(Commit {
            operations,
            bytes,
            took: began_at.elapsed(),
            transaction: began_at.elapsed(),
        });
        Ok(put)
    }

    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        Some(self.shared.metrics.clone())
    }

    /// Waits for ever: a database that is in trouble comes back.
    async fn failed(&self) -> StoreError {
        std::future::pending().await
    }

    async fn close(&self) {
        self.shared.close();
        let end = async {
            self.shared.end_writers().await;
            self.tasks.lock().await.shutdown().await;
            let left = async {
                // On the connection of the last heartbeat, which may still be on its way: after it.
                let session = self.heart.session().await?;
                node::leave(&session, self.node).await
            };
            if let Err(fault) = left.await {
                let error = fault.into_error();
                tracing::warn!(%error, "this node could not leave the others: {error}");
            }
        };
        // Whoever calls it as well waits for the same end.
        self.ended.get_or_init(|| end).await;
    }
}
