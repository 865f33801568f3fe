//! A memory store that can be made unavailable for writing, slow to list, and changed by others
//! between a list and what is made of it.

use crate::harness::START;
use anteroom::clock::Clock;
use anteroom::core::{EventId, Idempotency, Job, JobId, Name, Payload, Place, QueueDefaults};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{
    Applied, Change, Claimed, Counts, Deleted, Document, DocumentChange, DocumentPut, Filter,
    Found, History, Inserted, KeptQueue, Listing, NewJob, Overdue, Page, PlaceOf, QueueChange,
    QueueSet, Store, StoreError, Want,
};
use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A store that can be made unavailable for writing.
#[derive(Debug)]
pub(crate) struct FailingStore {
    inner: MemoryStore,
    is_down: AtomicBool,
    refused: AtomicUsize,
    /// How often it was asked what ran out.
    looks: AtomicUsize,
    /// How often results were read.
    reads: AtomicUsize,
    /// How long a list takes, in milliseconds.
    list_takes_ms: AtomicU64,
    /// What happens once the next list was read.
    after_list: Mutex<Vec<Change>>,
}

impl FailingStore {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inner: MemoryStore::new(Clock::runtime(START)),
            is_down: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            looks: AtomicUsize::new(0),
            reads: AtomicUsize::new(0),
            list_takes_ms: AtomicU64::new(0),
            after_list: Mutex::default(),
        })
    }

    pub(crate) fn set_down(&self, is_down: bool) {
        self.is_down.store(is_down, Ordering::SeqCst);
    }

    pub(crate) fn set_list_takes(&self, span: Duration) {
        let millis = u64::try_from(span.as_millis()).unwrap();
        self.list_takes_ms.store(millis, Ordering::SeqCst);
    }

    /// Has changes happen right after the next list.
    pub(crate) fn set_after_list(&self, changes: Vec<Change>) {
        *self.after_list.lock().unwrap() = changes;
    }

    /// Returns how many operations it has refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.load(Ordering::SeqCst)
    }

    /// Returns how often it was asked what ran out, since it was last asked for this.
    pub(crate) fn take_looks(&self) -> usize {
        self.looks.swap(0, Ordering::SeqCst)
    }

    /// Returns how often results were read.
    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    fn check(&self) -> Result<(), StoreError> {
        if !self.is_down.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.refused.fetch_add(1, Ordering::SeqCst);
        Err(StoreError::Unavailable {
            reason: "the test says so".to_owned(),
        })
    }
}

#[async_trait]
impl Store for FailingStore {
    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    fn is_idle(&self) -> bool {
        self.inner.is_idle()
    }

    async fn insert(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, StoreError> {
        self.check()?;
        self.inner.insert(jobs).await
    }

    async fn remembers(&self, task: &Name, idempotency: &Idempotency) -> Result<bool, StoreError> {
        self.inner.remembers(task, idempotency).await
    }

    async fn claim(&self, want: Want) -> Result<Vec<Claimed>, StoreError> {
        self.check()?;
        self.inner.claim(want).await
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, StoreError> {
        self.check()?;
        self.inner.apply(changes).await
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<Overdue>, StoreError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        self.check()?;
        self.inner.overdue(limit).await
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        self.check()?;
        self.inner.prune(limit).await
    }

    async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<Deleted, StoreError> {
        self.check()?;
        self.inner.delete(id, if_version).await
    }

    async fn get(&self, id: JobId) -> Result<Found<Job>, StoreError> {
        self.inner.get(id).await
    }

    async fn input(&self, id: JobId) -> Result<Found<Payload>, StoreError> {
        self.inner.input(id).await
    }

    async fn result(&self, id: JobId) -> Result<Found<(Job, Option<Payload>)>, StoreError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
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
        let millis = self.list_takes_ms.load(Ordering::SeqCst);
        self.inner
            .clock()
            .sleep(Duration::from_millis(millis))
            .await;
        let listing = self.inner.list(filter, page).await?;
        let changes = std::mem::take(&mut *self.after_list.lock().unwrap());
        for applied in self.inner.apply(changes).await? {
            applied.unwrap();
        }
        Ok(listing)
    }

    async fn counts(&self) -> Result<Vec<Counts>, StoreError> {
        self.inner.counts().await
    }

    async fn queues(&self) -> Result<Vec<KeptQueue>, StoreError> {
        self.inner.queues().await
    }

    async fn set_queues(&self, changes: Vec<QueueChange>) -> Result<Vec<QueueSet>, StoreError> {
        self.check()?;
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
        self.check()?;
        self.inner.put_documents(changes).await
    }

    async fn failed(&self) -> StoreError {
        self.inner.failed().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
