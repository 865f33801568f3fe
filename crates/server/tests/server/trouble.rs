//! A store that a test can stall, and whose results it can make unreadable.

use anteroom::clock::Clock;
use anteroom::core::{EventId, Idempotency, Job, JobId, Name, Payload, Place, QueueDefaults};
use anteroom::metrics::StoreMetrics;
use anteroom::store::{
    Applied, Change, Claimed, Counts, Deleted, Document, DocumentChange, DocumentPut, Filter,
    Found, History, Inserted, KeptQueue, Listing, NewJob, Overdue, Page, PlaceOf, QueueChange,
    QueueSet, Store, StoreError, Want,
};
use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;

/// What a test holds of its store's troubles. None befall it at first.
#[derive(Clone, Debug)]
pub(crate) struct Trouble(Arc<Switches>);

#[derive(Debug)]
struct Switches {
    stalled: AtomicBool,
    /// One permit for each insert that has come while the store was stalled.
    stalling: Semaphore,
    /// One permit for each insert that may go on.
    going_on: Semaphore,
    inserts_fail: AtomicBool,
    results_fail: AtomicBool,
}

impl Default for Trouble {
    fn default() -> Self {
        Self(Arc::new(Switches {
            stalled: AtomicBool::new(false),
            stalling: Semaphore::new(0),
            going_on: Semaphore::new(0),
            inserts_fail: AtomicBool::new(false),
            results_fail: AtomicBool::new(false),
        }))
    }
}

impl Trouble {
    /// Puts the troubles before a store.
    pub(crate) fn of(&self, inner: Arc<dyn Store>) -> Arc<dyn Store> {
        let trouble = self.clone();
        Arc::new(TroubledStore { inner, trouble })
    }

    /// Holds inserts back from now on.
    pub(crate) fn stall(&self) {
        self.0.stalled.store(true, Ordering::SeqCst);
    }

    /// Waits until one insert more is held back.
    pub(crate) async fn stalls_one(&self) {
        self.0.stalling.acquire().await.unwrap().forget();
    }

    /// Holds back no more, and lets one insert go on.
    pub(crate) fn go_on(&self) {
        self.0.stalled.store(false, Ordering::SeqCst);
        self.0.going_on.add_permits(1);
    }

    /// Lets inserts fail, or not any more.
    pub(crate) fn fail_inserts(&self, is_down: bool) {
        self.0.inserts_fail.store(is_down, Ordering::SeqCst);
    }

    /// Makes results unreadable.
    pub(crate) fn fail_results(&self) {
        self.0.results_fail.store(true, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct TroubledStore {
    inner: Arc<dyn Store>,
    trouble: Trouble,
}

#[async_trait]
impl Store for TroubledStore {
    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    async fn insert(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, StoreError> {
        let switches = &self.trouble.0;
        if switches.stalled.load(Ordering::SeqCst) {
            switches.stalling.add_permits(1);
            switches.going_on.acquire().await.unwrap().forget();
        }
        if switches.inserts_fail.load(Ordering::SeqCst) {
            let reason = "the test says so".to_owned();
            return Err(StoreError::Unavailable { reason });
        }
        self.inner.insert(jobs).await
    }

    async fn remembers(&self, task: &Name, idempotency: &Idempotency) -> Result<bool, StoreError> {
        self.inner.remembers(task, idempotency).await
    }

    async fn claim(&self, want: Want) -> Result<Vec<Claimed>, StoreError> {
        self.inner.claim(want).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, StoreError> {
        self.inner.apply(changes).await
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<Overdue>, StoreError> {
        self.inner.overdue(limit).await
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        self.inner.prune(limit).await
    }

    async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<Deleted, StoreError> {
        self.inner.delete(id, if_version).await
    }

    async fn get(&self, id: JobId) -> Result<Found<Job>, StoreError> {
        self.inner.get(id).await
    }

    async fn input(&self, id: JobId) -> Result<Found<Payload>, StoreError> {
        self.inner.input(id).await
    }

    async fn result(&self, id: JobId) -> Result<Found<(Job, Option<Payload>)>, StoreError> {
        if self.trouble.0.results_fail.load(Ordering::SeqCst) {
            let reason = "the test says so".to_owned();
            return Err(StoreError::Unavailable { reason });
        }
        self.inner.result(id).await
    }

    async fn events(
        &self,
        id: JobId,
        after: EventId,
        limit: usize,
    ) -> Result<Found<History>, StoreError> {
        self.inner.events(id, after, limit).await
    }

    async fn place(&self, of: PlaceOf) -> Result<Option<Place>, StoreError> {
        self.inner.place(of).await
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing, StoreError> {
        self.inner.list(filter, page).await
    }

    async fn counts(&self) -> Result<Vec<Counts>, StoreError> {
        self.inner.counts().await
    }

    async fn queues(&self) -> Result<Vec<KeptQueue>, StoreError> {
        self.inner.queues().await
    }

    async fn set_queues(&self, changes: Vec<QueueChange>) -> Result<Vec<QueueSet>, StoreError> {
        self.inner.set_queues(changes).await
    }

    async fn configure_queues(&self, defaults: QueueDefaults) -> Result<(), StoreError> {
        self.inner.configure_queues(defaults).await
    }

    async fn document(&self, kind: &Name, name: &Name) -> Result<Option<Document>, StoreError> {
        self.inner.document(kind, name).await
    }

    async fn documents(&self, kind: &Name) -> Result<Vec<Document>, StoreError> {
        self.inner.documents(kind).await
    }

    async fn put_documents(
        &self,
        changes: Vec<DocumentChange>,
    ) -> Result<Vec<DocumentPut>, StoreError> {
        self.inner.put_documents(changes).await
    }

    fn metrics(&self) -> Option<Arc<StoreMetrics>> {
        self.inner.metrics()
    }

    async fn failed(&self) -> StoreError {
        self.inner.failed().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
