//! The `SQLite` store: durable, embedded, for one process on one machine.
//!
//! What an operation acknowledged is on the disk: it was committed with an fsync. All writing is
//! done by one thread, which gathers what waits for it into one transaction (`writer`); reading
//! is done beside it from what was committed (`read`). The order of the waiting jobs is kept in
//! memory (`order`) and rebuilt when the store is opened (`open`).
//!
//! A failure that passes (a full disk) is [`StoreError::Unavailable`]: the transaction is rolled
//! back, memory put back, and the store goes on by itself once there is room. After any other
//! (a failed fsync, damage) the store has failed for good, since it no longer knows what the disk
//! holds: nothing is acknowledged after it, and [`Store::failed`] says which file and why. Where it
//! was the commit that failed, its callers get [`StoreError::Unknown`]: it may be on the disk.

mod archive;
mod backup;
mod change;
mod documents;
mod events;
mod fault;
mod keys;
mod lock;
mod open;
mod operation;
mod order;
mod queues;
mod read;
mod rows;
mod schema;
mod shared;
mod statements;
#[cfg(test)]
mod tests;
mod writer;

pub use archive::SqliteArchive;
pub use backup::{BackupError, backup};
pub use fault::OpenError;

use crate::clock::Clock;
use crate::metrics::StoreMetrics;
use crate::store::{
    Applied, Change, Claimed, Counts, Deleted, Document, DocumentChange, DocumentPut, Filter,
    Found, History, Inserted, KeptQueue, Listing, NewJob, Overdue, Page, PlaceOf, QueueChange,
    QueueSet, Store, StoreError, Want,
};
use anteroom_core::{EventId, Idempotency, Job, JobId, Name, Payload, Place, QueueDefaults};
use async_trait::async_trait;
use operation::{Delivery, Operation, Parked, Reply};
use read::{Desk, Question};
use shared::Shared;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use tokio::sync::{OnceCell, oneshot};

/// Readers: the first reads lists, so that those hold up nobody else, the others single jobs.
const READERS: usize = 3;

/// Keeps jobs in an `SQLite` database.
///
/// Dropping it ends its threads as well, after what was begun, and waits for them; the log is
/// then merged when the store is opened again. Better [`close`](Store::close) it.
#[derive(Debug)]
pub struct SqliteStore {
    shared: Arc<Shared>,
    readers: Vec<Desk>,
    threads: Vec<JoinHandle<()>>,
    /// Set once it is closed.
    ended: OnceCell<()>,
}

impl SqliteStore {
    /// Opens the database at `path`, or makes it where there is nothing, and keeps other
    /// processes from it.
    ///
    /// Beside `path` lie its log (`-wal`), the index of that (`-shm`) and a lock file (`-lock`).
    /// Blocks while it reads the waiting jobs.
    ///
    /// # Errors
    ///
    /// [`OpenError`], which names the file and what to do. Never is a new database made in the
    /// place of one that is damaged or missing a part.
    pub fn open(path: impl AsRef<Path>, clock: Clock) -> Result<Self, OpenError> {
        let path = path.as_ref();
        let beginning = open::open(path, clock.now())?;
        let (operations, to_do) = mpsc::channel();
        let shared = Arc::new(Shared::new(path.to_owned(), clock, operations.clone()));
        let mut store = Self {
            shared: shared.clone(),
            readers: Vec::new(),
            threads: Vec::new(),
            ended: OnceCell::new(),
        };
        for _ in 0..READERS {
            let reader = store.start_reader()?;
            store.readers.push(reader);
        }
        // Last, since it is what a store that was begun in part must not wait for.
        let writer = {
            let shared = shared.clone();
            move || writer::run(beginning, &shared, to_do)
        };
        store.start("anteroom-writer", writer)?;
        shared.clock.on_advance(move || {
            // Ended: nothing waits for the clock any more.
            let _ended = operations.send(Operation::LookAgain).is_err();
        });
        Ok(store)
    }

    fn start_reader(&mut self) -> Result<Desk, OpenError> {
        let db = open::connect_reader(&self.shared.path)?;
        let (desk, questions) = Desk::new();
        let shared = self.shared.clone();
        self.start("anteroom-reader", move || {
            read::run(db, &shared, &questions);
        })?;
        Ok(desk)
    }

    fn start(&mut self, name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(work)
            .map_err(OpenError::file(&self.shared.path, "given a thread"))?;
        self.threads.push(thread);
        Ok(())
    }

    /// Has the writer do something, and waits for its answer.
    async fn write<T>(
        &self,
        operation: impl FnOnce(Reply<T>) -> Operation,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let done = match self.shared.send(operation(reply)) {
            Ok(()) => answer.await.unwrap_or_else(|_| Err(self.shared.ended())),
            Err(error) => Err(error),
        };
        done.inspect_err(|error| self.shared.metrics.failed(error))
    }

    /// Asks a reader, and waits for its answer.
    async fn read<T>(
        &self,
        reader: &Desk,
        question: impl FnOnce(Reply<T>) -> Question,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let done = match self.shared.refusal() {
            Some(error) => Err(error),
            None if reader.ask(question(reply)).is_err() => Err(self.shared.ended()),
            None => answer.await.unwrap_or_else(|_| Err(self.shared.ended())),
        };
        done.inspect_err(|error| self.shared.metrics.failed(error))
    }

    /// Returns who is to read a single job: the first, as long as it is not crowded. One that is awake
    /// takes several questions at once; one that sleeps has to be woken.
    fn reader(&self) -> &Desk {
        let of_jobs = self.readers[1..].iter();
        of_jobs
            .min_by_key(|desk| desk.transactions())
            .expect("there is more than one reader")
    }

    /// Tells the readers to end.
    fn close_readers(&self) -> Vec<oneshot::Receiver<()>> {
        let close = |reader: &Desk| {
            let (done, ended) = oneshot::channel();
            // If it has ended before, so has `ended`.
            let _ended_before = reader.ask(Question::Close(done)).is_err();
            ended
        };
        self.readers.iter().map(close).collect()
    }
}

#[async_trait]
impl Store for SqliteStore {
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
        let key = Box::new((task.clone(), idempotency.clone()));
        self.read(self.reader(), |reply| Question::Remembers(key, reply))
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
        self.write(|reply| Operation::Overdue(limit, reply)).await
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        let mut jobs = 0;
        loop {
            // Each pass is a transaction of its own, and others come in between.
            let rest = limit - jobs;
            let pruned = self.write(|reply| Operation::Prune(rest, reply)).await?;
            jobs += pruned.jobs;
            if !pruned.is_cut_short {
                return Ok(jobs);
            }
        }
    }

    async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<Deleted, StoreError> {
        self.write(|reply| Operation::Delete(id, if_version, reply))
            .await
    }

    async fn get(&self, id: JobId) -> Result<Found<Job>, StoreError> {
        self.read(self.reader(), |reply| Question::Get(id, reply))
            .await
    }

    fn is_idle(&self) -> bool {
        self.shared.is_idle()
    }

    async fn input(&self, id: JobId) -> Result<Found<Payload>, StoreError> {
        self.read(self.reader(), |reply| Question::Input(id, reply))
            .await
    }

    async fn result(&self, id: JobId) -> Result<Found<(Job, Option<Payload>)>, StoreError> {
        self.read(self.reader(), |reply| Question::Result(id, reply))
            .await
    }

    async fn events(
        &self,
        id: JobId,
        after: EventId,
        limit: usize,
    ) -> Result<Found<History>, StoreError> {
        self.read(self.reader(), |reply| {
            Question::Events(id, after, limit, reply)
        })
        .await
    }

    async fn place(&self, of: PlaceOf) -> Result<Option<Place>, StoreError> {
        self.write(|reply| Operation::Place(of, reply)).await
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing, StoreError> {
        let filter = Box::new(filter.clone());
        self.read(&self.readers[0], |reply| {
            Question::List(filter, page, reply)
        })
        .await
    }

    async fn counts(&self) -> Result<Vec<Counts>, StoreError> {
        self.write(Operation::Counts).await
    }

    async fn queues(&self) -> Result<Vec<KeptQueue>, StoreError> {
        self.write(Operation::Queues).await
    }

    async fn set_queues(&self, changes: Vec<QueueChange>) -> Result<Vec<QueueSet>, StoreError> {
        self.write(|reply| Operation::SetQueues(changes, reply))
            .await
    }

    async fn configure_queues(&self, defaults: QueueDefaults) -> Result<(), StoreError> {
        let defaults = Box::new(defaults);
        self.write(|reply| Operation::ConfigureQueues(defaults, reply))
            .await
    }

    async fn document(&self, kind: &Name, name: &Name) -> Result<Option<Document>, StoreError> {
        let key = (kind.clone(), name.clone());
        self.read(self.reader(), |reply| Question::Document(key, reply))
            .await
    }

    async fn documents(&self, kind: &Name) -> Result<Vec<Document>, StoreError> {
        let kind = kind.clone();
        self.read(&self.readers[0], |reply| Question::Documents(kind, reply))
            .await
    }

    async fn put_documents(
        &self,
        changes: Vec<DocumentChange>,
    ) -> Result<Vec<DocumentPut>, StoreError> {
        self.write(|reply| Operation::PutDocuments(changes, reply))
            .await
    }

    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        Some(self.shared.metrics.clone())
    }

    async fn failed(&self) -> StoreError {
        self.shared.failed().await
    }

    async fn close(&self) {
        self.shared.close();
        let end = async {
            for ended in self.close_readers() {
                // An error says that it has ended before.
                let _ended = ended.await;
            }
            let (done, ended) = oneshot::channel();
            self.shared.send_close(Operation::Close(true, done));
            // An error says that it has ended before.
            let _ended = ended.await;
        };
        // Whoever calls it as well waits for the same end.
        self.ended.get_or_init(|| end).await;
    }
}

impl Drop for SqliteStore {
    fn drop(&mut self) {
        self.shared.close();
        self.close_readers();
        let (done, _unheard) = oneshot::channel();
        self.shared.send_close(Operation::Close(false, done));
        for thread in self.threads.drain(..) {
            // A panic was noted as the store's failure.
            let _panicked = thread.join().is_err();
        }
    }
}
