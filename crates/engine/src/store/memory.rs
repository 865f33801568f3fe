//! The memory store: what every store does, as plainly as it can be said.
//!
//! It is the reference of the contract suite, and the store for tests. Whatever happens to a job
//! goes through [`anteroom_core::transition`] directly; all of it lies in maps under one mutex,
//! so that each call is one step that nobody sees the half of. It keeps nothing: jobs end with
//! the process. Which job is next is for [`anteroom_core::Order`] to say.

mod archive;
mod documents;
mod jobs;
mod told;
use super::{
    Applied, Change, Claimed, Counts, Deleted, Document, DocumentChange, DocumentPut, Filter,
    Found, History, Inserted, KeptQueue, Listing, NewJob, Overdue, Page, PlaceOf, QueueChange,
    QueueSet, Store, StoreError, Want,
};
use crate::clock::Clock;
use anteroom_core::{EventId, Idempotency, Job, JobId, Name, Payload, Place, QueueDefaults};
mod keys;
mod queues;
use async_trait::async_trait;
use jobs::Jobs;
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

/// A store that keeps jobs for as long as the process lives.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    /// None once it is closed.
    jobs: Mutex<Option<Jobs>>,
    /// Told of every change that a waiting claim may want to hear of.
    changed: Notify,
}

impl MemoryStore {
    /// Returns an empty store that goes by `clock`.
    pub fn new(clock: Clock) -> Self {
        let now = clock.now();
        Self {
            clock,
            jobs: Mutex::new(Some(Jobs::new(now))),
            changed: Notify::new(),
        }
    }

    /// Begins the turns of groups, priorities and queues anew, as in a process that opens a store:
    /// what a store on trial that was opened again is compared with.
    #[cfg(feature = "contract")]
    pub(crate) fn forget_turns(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        self.with(|jobs| jobs.forget_turns(now))
    }

    /// Claims these jobs, in this order, as a store did on trial that goes by turns of its own; or says
    /// what is wrong with that.
    #[cfg(feature = "contract")]
    pub(crate) fn claim_these(
        &self,
        ids: &[JobId],
        want: &Want,
    ) -> Result<Result<Vec<Claimed>, String>, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| jobs.claim_these(ids, want, now))
    }

    /// Does something to the jobs, in one step.
    fn with<T>(&self, step: impl FnOnce(&mut Jobs) -> T) -> Result<T, StoreError> {
        self.lock()?.as_mut().map(step).ok_or(StoreError::Closed)
    }

    fn lock(&self) -> Result<MutexGuard<'_, Option<Jobs>>, StoreError> {
        // What panicked may have left half a step: nothing is told from then on.
        self.jobs.lock().map_err(|_| StoreError::Failed {
            reason: "a step in the memory store panicked".to_owned(),
        })
    }
}

#[async_trait]
impl Store for MemoryStore {
    fn clock(&self) -> Clock {
        self.clock.clone()
    }

    async fn insert(&self, jobs: Vec<NewJob>) -> Result<Vec<Inserted>, StoreError> {
        let now = self.clock.now();
        let inserted = self.with(|all| all.insert(jobs, now))??;
        self.changed.notify_waiters();
        Ok(inserted)
    }

    async fn remembers(&self, task: &Name, idempotency: &Idempotency) -> Result<bool, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| jobs.submits.contains(task, idempotency, now))
    }

    async fn claim(&self, want: Want) -> Result<Vec<Claimed>, StoreError> {
        let until = self.clock.now().after(want.wait);
        // A closed store refuses the call; one that is closed during the call ends it.
        self.with(|_| ())?;
        loop {
            // Registered before looking: what changes after the look ends the wait.
            let changed = self.changed.notified();
            let now = self.clock.now();
            let look = self.with(|jobs| (jobs.claim(&want, now), jobs.next_due()));
            let next_due = match look {
                Ok((claimed, _)) if !claimed.is_empty() || until <= now => return Ok(claimed),
                Ok((_, next_due)) => next_due,
                Err(StoreError::Closed) => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let wake_at = next_due.map_or(until, |due| due.min(until));
            tokio::select! {
                () = changed => {}
                () = self.clock.sleep_until(wake_at) => {}
            }
        }
    }

    async fn apply(&self, changes: Vec<Change>) -> Result<Vec<Applied>, StoreError> {
        let now = self.clock.now();
        let applied = self.with(|jobs| {
            let each = changes.into_iter();
            jobs.set_now(now);
            each.map(|change| jobs.apply(change, now)).collect()
        })?;
        self.changed.notify_waiters();
        Ok(applied)
    }

    async fn overdue(&self, limit: usize) -> Result<Vec<Overdue>, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| jobs.overdue(limit, now))
    }

    async fn prune(&self, limit: usize) -> Result<usize, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| jobs.prune(limit, now))
    }

    async fn delete(&self, id: JobId, if_version: Option<u64>) -> Result<Deleted, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| jobs.delete(id, if_version, now))
    }

    async fn get(&self, id: JobId) -> Result<Found<Job>, StoreError> {
        self.with(|jobs| jobs.find(id).map(|entry| entry.job.clone()))
    }

    fn is_idle(&self) -> bool {
        self.with(|jobs| jobs.order.is_empty()).unwrap_or(false)
    }

    async fn input(&self, id: JobId) -> Result<Found<Payload>, StoreError> {
        self.with(|jobs| jobs.find(id).map(|entry| entry.input.clone()))
    }

    async fn result(&self, id: JobId) -> Result<Found<(Job, Option<Payload>)>, StoreError> {
        self.with(|jobs| {
            jobs.find(id)
                .map(|entry| (entry.job.clone(), entry.result.clone()))
        })
    }

    async fn events(
        &self,
        id: JobId,
        after: EventId,
        limit: usize,
    ) -> Result<Found<History>, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| {
            jobs.find(id)
                .map(|entry| entry.told.page(&entry.job, after, limit, now))
        })
    }

    async fn place(&self, of: PlaceOf) -> Result<Option<Place>, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| {
            jobs.set_now(now);
            jobs.place(&of)
        })
    }

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| jobs.list(filter, page, now))
    }

    async fn counts(&self) -> Result<Vec<Counts>, StoreError> {
        let now = self.clock.now();
        self.with(|jobs| jobs.counts(now))
    }

    async fn queues(&self) -> Result<Vec<KeptQueue>, StoreError> {
        self.with(|jobs| jobs.queues.all())
    }

    async fn set_queues(&self, changes: Vec<QueueChange>) -> Result<Vec<QueueSet>, StoreError> {
        let set = self.with(|jobs| {
            let each = changes.into_iter();
            each.map(|change| jobs.set_queue(change)).collect()
        })?;
        self.changed.notify_waiters();
        Ok(set)
    }

    async fn configure_queues(&self, defaults: QueueDefaults) -> Result<(), StoreError> {
        self.with(|jobs| jobs.configure_queues(defaults))?;
        self.changed.notify_waiters();
        Ok(())
    }

    async fn document(&self, kind: &Name, name: &Name) -> Result<Option<Document>, StoreError> {
        self.with(|jobs| jobs.documents.one(kind, name))
    }

    async fn documents(&self, kind: &Name) -> Result<Vec<Document>, StoreError> {
        self.with(|jobs| jobs.documents.all(kind))
    }

    async fn put_documents(
        &self,
        changes: Vec<DocumentChange>,
    ) -> Result<Vec<DocumentPut>, StoreError> {
        self.with(|jobs| {
            let each = changes.into_iter();
            each.map(|change| jobs.documents.put(change)).collect()
        })
    }

    /// Waits for ever: memory does not fail.
    async fn failed(&self) -> StoreError {
        std::future::pending().await
    }

    async fn close(&self) {
        if let Ok(mut jobs) = self.lock() {
            *jobs = None;
        }
        self.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anteroom_core::{Lease, Priority, Spec, Status, Timestamp};
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Duration;

    fn started_at() -> Timestamp {
        Timestamp::from_millis(1_700_000_000_000)
    }

    fn due_after(span: Duration) -> NewJob {
        let input = Payload {
            content_type: "text/plain".into(),
            bytes: "hello".into(),
        };
        NewJob {
            spec: Arc::new(Spec {
                id: JobId::from_parts(1_700_000_000_000, 0, 1),
                task: Name::new("t").unwrap(),
                queue: Name::new("q").unwrap(),
                group: None,
                priority: Priority::default(),
                created_at: started_at(),
                timeout: Duration::from_secs(1),
                retain: Duration::from_secs(1),
                unique_key: None,
                callback_url: None,
                tags: BTreeMap::new(),
                input: input.info(),
            }),
            status: Status::submitted(started_at().after(span), None, 1),
            input,
            idempotency: None,
        }
    }

    fn want(wait: Duration) -> Want {
        Want {
            tasks: vec![Name::new("t").unwrap()],
            queues: None,
            limit: 1,
            lease: Lease::Node,
            lease_for: Duration::from_secs(30),
            wait,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn under_paused_time_a_claim_waits_for_the_moment_a_job_is_due() {
        let store = MemoryStore::new(Clock::runtime(started_at()));
        let due_in = Duration::from_hours(3);
        store.insert(vec![due_after(due_in)]).await.unwrap();
        let claimed = store.claim(want(Duration::from_hours(9))).await.unwrap();
        assert_eq!(claimed.len(), 1);
        assert_eq!(store.clock().now(), started_at().after(due_in));
    }

    #[tokio::test(start_paused = true)]
    async fn under_paused_time_a_claim_waits_no_longer_than_it_was_told() {
        let store = MemoryStore::new(Clock::runtime(started_at()));
        let wait = Duration::from_secs(20);
        let later = due_after(Duration::from_hours(3));
        store.insert(vec![later]).await.unwrap();
        assert!(store.claim(want(wait)).await.unwrap().is_empty());
        assert_eq!(store.clock().now(), started_at().after(wait));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_claims_share_what_is_inserted_at_once() {
        let store = Arc::new(MemoryStore::new(Clock::runtime(started_at())));
        let mut claims = tokio::task::JoinSet::new();
        for _ in 0..2 {
            let store = store.clone();
            claims.spawn(async move { store.claim(want(Duration::from_secs(20))).await });
        }
        tokio::task::yield_now().await;
        store.insert(vec![due_after(Duration::ZERO)]).await.unwrap();
        let counts: Vec<usize> = claims
            .join_all()
            .await
            .into_iter()
            .map(|claimed| claimed.unwrap().len())
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), 1, "{counts:?}");
    }
}
