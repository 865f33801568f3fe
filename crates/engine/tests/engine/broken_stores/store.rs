//! A store with a fault: the memory store, with what goes in or comes out of it altered.

use anteroom::clock::Clock;
use anteroom::contract::StoreUnderTest;
use anteroom::core::{
    Event, EventId, Failure, FailureKind, Fingerprint, HandBack, Happened, Idempotency, Job, JobId,
    Name, Payload, Place, QueueDefaults, QueueSettings, Reports, Retry, State, Status,
};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{
    Applied, Change, Claimed, Counts, Deleted, Document, DocumentChange, DocumentPut, Filter,
    Found, History, Inserted, KeptQueue, Listing, NewJob, Overdue, OverdueReason, Page, PlaceOf,
    QueueChange, QueueSet, Refused, Store, StoreError, Want,
};
use anteroom::{another_id, callback_of};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    None,
    FenceIgnored,
    VersionIgnored,
    ClaimedEarly,
    ClaimedInReverse,
    ClaimDoesNotWait,
    ClaimOverItsLimit,
    InsertedInHalves,
    ExtendRaisesTheVersion,
    ReleaseCostsAnAttempt,
    ResultCut,
    ErrorsListed,
    LastErrorNotListed,
    TasksAllowedIgnored,
    OverdueForgotten,
    ReportsUnfenced,
    LastWordsLost,
    StatesForgotten,
    HistoryCutShort,
    DeletedIsUnknown,
    OpenAfterClose,
    PauseIgnored,
    PauseMissesWaitingClaims,
    HoldIgnored,
    DepthIgnored,
    LimitIgnored(&'static str),
    GroupIgnored,
    PlaceBehindAll,
    DepthOfEachInsert,
    QueueVersionIgnored,
    OldestReadyUntold,
    EmptyAmendmentIsAChange,
    AmendedInPart(&'static str),
    DocumentVersionIgnored,
    DocumentCut,
    KeyForgotten,
    FingerprintIgnored,
    ScopeIgnored,
    RestOfReusedStored,
    GoneMadeAnew,
    DuplicateForgotten,
    UniqueIgnored,
    UniqueKeptAfterTheEnd,
    SaidForgotten,
    SaidConfused,
    TimeoutUntold,
    CallbackForgotten,
    CallbackTwice,
    CallbackOfRefused,
}

/// Opens a memory store with a fault.
#[derive(Debug)]
pub(super) struct Broken(pub(super) Fault);

#[async_trait]
impl StoreUnderTest for Broken {
    async fn open(&self, clock: Clock) -> Arc<dyn Store> {
        Arc::new(BrokenStore {
            store: MemoryStore::new(clock),
            fault: self.0,
            paused: Mutex::default(),
            depth: Mutex::default(),
            looked: AtomicUsize::new(0),
        })
    }
}

#[derive(Debug)]
struct BrokenStore {
    store: MemoryStore,
    fault: Fault,
    /// The queues that the store itself does not know are paused.
    paused: Mutex<BTreeSet<Name>>,
    /// The one limit of a depth that the store itself does not know.
    depth: Mutex<Option<(Name, u64)>>,
    /// Inserts that have looked whether there is room.
    looked: AtomicUsize,
}

impl BrokenStore {
    fn has(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    /// Drops a limit on its way to the store.
    fn alter_limits(&self, settings: &mut QueueSettings) {
        match self.fault {
            Fault::LimitIgnored("max_concurrency") => settings.max_concurrency = None,
            Fault::LimitIgnored("group_concurrency") => settings.group_concurrency = None,
            Fault::LimitIgnored("rate_limit") => settings.rate_limit = None,
            _ => {}
        }
    }

    /// Alters a change on its way to the store.
    async fn alter(&self, change: &mut Change) -> Result<(), StoreError> {
        if self.has(Fault::VersionIgnored) {
            change.if_version = None;
        }
        if self.has(Fault::SaidForgotten) {
            change.settle = None;
        }
        if self.has(Fault::SaidConfused) {
            change.settle = change.settle.map(|_| Fingerprint([0; 32]));
        }
        match &mut change.event {
            Event::Succeeded { .. } if self.has(Fault::LastWordsLost) => {
                change.reports = Reports::default();
            }
            Event::Reported { claim } if self.has(Fault::ReportsUnfenced) => {
                if let Found::Here(job) = self.store.get(change.id).await? {
                    *claim = job.status.claim;
                }
            }
            Event::Succeeded { claim } if self.has(Fault::FenceIgnored) => {
                if let Found::Here(job) = self.store.get(change.id).await? {
                    *claim = job.status.claim;
                }
            }
            Event::Released {
                claim,
                delay,
                hand_back: HandBack::Busy,
            } if self.has(Fault::ReleaseCostsAnAttempt) => {
                change.event = Event::Failed {
                    claim: *claim,
                    failure: Failure::new(FailureKind::Error, "handed back"),
                    retry: Retry::In(*delay),
                };
            }
            Event::Amended { amendment } => match self.fault {
                Fault::AmendedInPart("run_at") => amendment.run_at = None,
                Fault::AmendedInPart("priority") => amendment.priority = None,
                Fault::AmendedInPart("queue") => amendment.queue = None,
                Fault::AmendedInPart("tags") => amendment.tags = None,
                _ => {}
            },
            _ => {}
        }
        if let Some(result) = change
            .result
            .as_mut()
            .filter(|_| self.has(Fault::ResultCut))
        {
            result.bytes.truncate(result.bytes.len().saturating_sub(1));
        }
        Ok(())
    }

    /// Alters the answer to a change.
    fn altered(&self, event: &Event, applied: Applied) -> Applied {
        applied.map(|mut job| {
            let says_nothing =
                matches!(event, Event::Amended { amendment } if amendment.is_empty());
            if self.has(Fault::EmptyAmendmentIsAChange) && says_nothing {
                job.status.version += 1;
            }
            if self.has(Fault::ExtendRaisesTheVersion) && matches!(event, Event::Extended { .. }) {
                job.status.version += 1;
            }
            job
        })
    }

    /// Alters what a change made of callbacks, or would have made.
    async fn alter_callbacks(
        &self,
        before: Option<Job>,
        applied: &Applied,
    ) -> Result<(), StoreError> {
        let Some(before) = before else { return Ok(()) };
        let made = |after: &Status| callback_of(&before.spec, &before.status, after);
        match (applied, self.fault) {
            (Ok(job), Fault::CallbackForgotten) => {
                if let Some(callback) = made(&job.status) {
                    let id = callback.spec.id;
                    let cancel = Change::new(id, Event::CancelRequested);
                    self.store.apply(vec![cancel]).await?;
                    self.store.delete(id, None).await?;
                }
            }
            (Ok(job), Fault::CallbackTwice) => {
                if let Some(mut callback) = made(&job.status) {
                    callback.spec_mut().id = another_id(callback.spec.id);
                    self.store.insert(vec![callback]).await?;
                }
            }
            (Err(_), Fault::CallbackOfRefused) if !before.status.state.is_final() => {
                let ended = Status {
                    state: State::Succeeded,
                    finished_at: Some(self.clock().now()),
                    ..before.status
                };
                self.store
                    .insert(made(&ended).into_iter().collect())
                    .await?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Alters what is set for a queue on its way to the store.
    fn alter_queue(&self, change: &mut QueueChange) {
        let settings = &mut change.settings;
        if self.has(Fault::PauseIgnored) {
            settings.paused = None;
        }
        if self.has(Fault::PauseMissesWaitingClaims) {
            let mut paused = self.paused.lock().unwrap();
            if settings.paused.take() == Some(true) {
                paused.insert(change.name.clone());
            } else {
                paused.remove(&change.name);
            }
        }
        if self.has(Fault::DepthIgnored) {
            settings.max_depth = None;
        }
        if self.has(Fault::DepthOfEachInsert) {
            let depth = settings.max_depth.take();
            *self.depth.lock().unwrap() = depth.map(|depth| (change.name.clone(), depth));
        }
        if self.has(Fault::QueueVersionIgnored) {
            change.if_version = None;
        }
    }

    /// Looks whether there is room, as if nobody else would look before it is taken.
    async fn check_depth(&self, jobs: &[NewJob]) -> Result<(), StoreError> {
        let Some((queue, limit)) = self.depth.lock().unwrap().clone() else {
            return Ok(());
        };
        let counts = self.store.counts().await?;
        let waiting = counts.iter().map(|of| of.scheduled + of.ready).sum();
        if waiting + jobs.len() as u64 > limit {
            return Err(StoreError::QueueFull {
                queue,
                waiting,
                limit,
            });
        }
        // As many as overfill it, so that it is certain that they do.
        self.looked.fetch_add(1, Ordering::SeqCst);
        while self.looked.load(Ordering::SeqCst) as u64 <= limit {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Alters the keys of jobs on their way to the store.
    fn alter_keys(&self, jobs: &mut [NewJob]) {
        for job in jobs {
            if self.has(Fault::KeyForgotten) {
                job.idempotency = None;
            }
            if self.has(Fault::UniqueIgnored) {
                job.spec_mut().unique_key = None;
            }
            if let Some((by, fingerprint)) = &mut job.idempotency {
                if self.has(Fault::FingerprintIgnored) {
                    *fingerprint = Fingerprint([0; 32]);
                }
                if self.has(Fault::ScopeIgnored) {
                    by.scope = "".into();
                }
            }
        }
    }

    /// Takes a unique key for held although the job that had it has ended.
    async fn insert_never_freed(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, StoreError> {
        let page = Page {
            size: 1_000,
            after: None,
        };
        let mut all = Vec::new();
        for job in jobs {
            let listing = self.store.list(&Filter::default(), page).await?;
            let holder = listing.jobs.into_iter().find(|held| {
                let of_the_task = held.spec.task == job.spec.task;
                of_the_task
                    && job.spec.unique_key.is_some()
                    && held.spec.unique_key == job.spec.unique_key
            });
            match holder {
                Some(holder) => all.push(Inserted::Duplicate(Box::new(holder))),
                None => all.extend(self.store.insert(vec![job]).await?),
            }
        }
        Ok(all)
    }

    /// Stores some of what it refuses.
    async fn insert_what_is_refused(
        &self,
        mut jobs: Vec<NewJob>,
    ) -> Result<Vec<Inserted>, StoreError> {
        let refused = match self.store.insert(jobs.clone()).await {
            Err(refused) => refused,
            inserted => return inserted,
        };
        match refused {
            StoreError::KeyReused { index } if self.has(Fault::RestOfReusedStored) => {
                jobs.truncate(index);
                self.store.insert(jobs).await?;
                Err(refused)
            }
            StoreError::KeyGone { index, .. } if self.has(Fault::GoneMadeAnew) => {
                jobs[index].idempotency = None;
                self.store.insert(jobs).await
            }
            refused => Err(refused),
        }
    }

    fn without_gone<T>(&self, found: Found<T>) -> Found<T> {
        match found {
            Found::Gone if self.has(Fault::DeletedIsUnknown) => Found::Unknown,
            found => found,
        }
    }
}

fn without_duplicate(inserted: Inserted) -> Inserted {
    match inserted {
        Inserted::Replayed { job, .. } => Inserted::Replayed {
            job,
            duplicate: false,
        },
        inserted => inserted,
    }
}

#[async_trait]
impl Store for BrokenStore {
    fn clock(&self) -> Clock {
        self.store.clock()
    }

    async fn insert(&self, mut jobs: Vec<NewJob>) -> Result<Vec<Inserted>, StoreError> {
        if self.has(Fault::GroupIgnored) {
            for job in &mut jobs {
                job.spec_mut().group = None;
            }
        }
        if self.has(Fault::ClaimedEarly) {
            for job in &mut jobs {
                job.status.run_at = job.status.run_at.min(self.clock().now());
            }
        }
        self.alter_keys(&mut jobs);
        if self.has(Fault::UniqueKeptAfterTheEnd) {
            return self.insert_never_freed(jobs).await;
        }
        if self.has(Fault::RestOfReusedStored) || self.has(Fault::GoneMadeAnew) {
            return self.insert_what_is_refused(jobs).await;
        }
        if self.has(Fault::DuplicateForgotten) {
            let inserted = self.store.insert(jobs).await?;
            return Ok(inserted.into_iter().map(without_duplicate).collect());
        }
        if self.has(Fault::InsertedInHalves) {
            let rest = jobs.split_off(jobs.len() / 2);
            let mut inserted = self.store.insert(jobs).await?;
            tokio::task::yield_now().await;
            inserted.extend(self.store.insert(rest).await?);
            return Ok(inserted);
        }
        self.check_depth(&jobs).await?;
        self.store.insert(jobs).await
    }

    async fn remembers(&self, task: &Name, idempotency: &Idempotency) -> Result<bool, StoreError> {
        self.store.remembers(task, idempotency).await
    }

    async fn claim(&self, mut want: Want) -> Result<Vec<Claimed>, StoreError> {
        if self.has(Fault::ClaimDoesNotWait) {
            want.wait = std::time::Duration::ZERO;
        }
        if want.wait.is_zero() && !self.paused.lock().unwrap().is_empty() {
            return Ok(Vec::new());
        }
        if self.has(Fault::ClaimOverItsLimit) {
            want.limit += 1;
        }
        let mut claimed = self.store.claim(want).await?;
        if self.has(Fault::ClaimedInReverse) {
            claimed.reverse();
        }
        Ok(claimed)
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, StoreError> {
        let mut all = Vec::new();
        for mut change in changes {
            self.alter(&mut change).await?;
            let event = change.event.clone();
            let before = self.store.get(change.id).await?.here();
            for applied in self.store.apply(vec![change]).await? {
                self.alter_callbacks(before.clone(), &applied).await?;
                all.push(self.altered(&event, applied));
            }
        }
        if self.has(Fault::DeletedIsUnknown) {
            for applied in all.iter_mut().filter(|one| **one == Err(Refused::Gone)) {
                *applied = Err(Refused::Unknown);
            }
        }
        Ok(all)
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<Overdue>, StoreError> {
        let mut overdue = self.store.overdue(limit).await?;
        if self.has(Fault::OverdueForgotten) {
            overdue.pop();
        }
        if self.has(Fault::TimeoutUntold) {
            for overdue in &mut overdue {
                if let OverdueReason::Timeout(claim) = overdue.reason {
                    overdue.reason = OverdueReason::Lease(claim);
                }
            }
        }
        Ok(overdue)
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        self.store.prune(limit).await
    }

    async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<Deleted, StoreError> {
        self.store.delete(id, if_version).await
    }

    async fn get(&self, id: JobId) -> Result<Found<Job>, StoreError> {
        Ok(self.without_gone(self.store.get(id).await?))
    }

    async fn input(&self, id: JobId) -> Result<Found<Payload>, StoreError> {
        Ok(self.without_gone(self.store.input(id).await?))
    }

    async fn result(&self, id: JobId) -> Result<Found<(Job, Option<Payload>)>, StoreError> {
        Ok(self.without_gone(self.store.result(id).await?))
    }

    async fn events(
        &self,
        id: JobId,
        after: EventId,
        limit: usize,
    ) -> Result<Found<History>, StoreError> {
        let found = self.store.events(id, after, limit).await?;
        Ok(self.without_gone(found.map(|mut history| {
            let attempt = history.job.status.attempt;
            if self.has(Fault::StatesForgotten) {
                history.events.retain(|event| match event.happened {
                    Happened::Entered { attempt: of, .. } => of == attempt,
                    Happened::Reported { .. } => true,
                });
            }
            if self.has(Fault::HistoryCutShort) {
                history.is_all = true;
            }
            history
        })))
    }

    async fn place(&self, of: PlaceOf) -> Result<Option<Place>, StoreError> {
        let mut place = self.store.place(of).await?;
        if self.has(Fault::PlaceBehindAll)
            && let Some(place) = &mut place
            && let Some(position) = &mut place.position
        {
            position.ahead = place.ready;
        }
        Ok(place)
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing, StoreError> {
        let mut filter = filter.clone();
        if self.has(Fault::TasksAllowedIgnored) {
            filter.tasks_allowed = None;
        }
        let mut listing = self.store.list(&filter, page).await?;
        if self.has(Fault::ErrorsListed) {
            for job in &mut listing.jobs {
                let whole = self.store.get(job.spec.id).await?.here();
                job.errors = whole.map(|job| job.errors).unwrap_or_default();
            }
        }
        if self.has(Fault::LastErrorNotListed) {
            for job in &mut listing.jobs {
                job.errors.clear();
            }
        }
        Ok(listing)
    }

    async fn counts(&self) -> Result<Vec<Counts>, StoreError> {
        let mut counts = self.store.counts().await?;
        if self.has(Fault::OldestReadyUntold) {
            for of in &mut counts {
                of.oldest_ready = None;
            }
        }
        Ok(counts)
    }

    async fn queues(&self) -> Result<Vec<KeptQueue>, StoreError> {
        self.store.queues().await
    }

    async fn set_queues(&self, mut changes: Vec<QueueChange>) -> Result<Vec<QueueSet>, StoreError> {
        for change in &mut changes {
            self.alter_queue(change);
            self.alter_limits(&mut change.settings);
        }
        self.store.set_queues(changes).await
    }

    async fn configure_queues(&self, mut defaults: QueueDefaults) -> Result<(), StoreError> {
        if self.has(Fault::HoldIgnored) {
            defaults.hold = false;
        }
        self.store.configure_queues(defaults).await
    }

    async fn document(&self, kind: &Name, name: &Name) -> Result<Option<Document>, StoreError> {
        self.store.document(kind, name).await
    }

    async fn documents(&self, kind: &Name) -> Result<Vec<Document>, StoreError> {
        self.store.documents(kind).await
    }

    async fn put_documents(
        &self,
        mut changes: Vec<DocumentChange>,
    ) -> Result<Vec<DocumentPut>, StoreError> {
        for change in &mut changes {
            if self.has(Fault::DocumentVersionIgnored) {
                change.if_version = None;
            }
            if self.has(Fault::DocumentCut) {
                let value = change.value.take();
                change.value = value.map(|value| value.slice(..value.len().saturating_sub(1)));
            }
        }
        self.store.put_documents(changes).await
    }

    async fn failed(&self) -> StoreError {
        self.store.failed().await
    }

    async fn close(&self) {
        if !self.has(Fault::OpenAfterClose) {
            self.store.close().await;
        }
    }
}
