//! The store contract has teeth: a store that breaks one promise fails the case about it.
//!
//! Each fault is one that a store could well have. The same store without it passes the case, so
//! that it is the fault that is caught.

use anteroom::clock::Clock;
use anteroom::contract::{self, StoreUnderTest, Trial};
use anteroom::core::{
    Event, EventId, Failure, FailureKind, Fingerprint, HandBack, Happened, Idempotency, Job, JobId,
    Name, Payload, QueueDefaults, Reports, Retry,
};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{
    Applied, Change, Claimed, Counts, Deleted, Document, DocumentChange, DocumentPut, Filter,
    Found, History, Inserted, KeptQueue, Listing, NewJob, Overdue, Page, QueueChange, QueueSet,
    Refused, Store, StoreError, Want,
};
use async_trait::async_trait;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What is wrong with a store.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
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
}

/// Fails unless `case` passes over a good store and not over one with `fault`.
fn is_caught(fault: Fault, case: &impl AsyncFn(&mut Trial)) {
    contract::run(Broken(Fault::None), case);
    let broken = AssertUnwindSafe(|| contract::run(Broken(fault), case));
    assert!(catch_unwind(broken).is_err(), "{fault:?} went unnoticed");
}

#[test]
fn a_store_that_ignores_the_fence_is_caught() {
    is_caught(
        Fault::FenceIgnored,
        &contract::fence::a_late_worker_changes_nothing,
    );
}

#[test]
fn a_store_that_ignores_the_version_is_caught() {
    let case = contract::settle::a_change_for_another_version_is_refused;
    is_caught(Fault::VersionIgnored, &case);
}

#[test]
fn a_store_that_claims_early_is_caught() {
    let case = contract::claim::nothing_is_claimed_before_it_is_due;
    is_caught(Fault::ClaimedEarly, &case);
}

#[test]
fn a_store_that_claims_out_of_order_is_caught() {
    let case = contract::claim::claims_go_by_priority_then_run_at_then_submission;
    is_caught(Fault::ClaimedInReverse, &case);
}

#[test]
fn a_store_whose_claims_do_not_wait_is_caught() {
    let case = contract::waiting::a_waiting_claim_gets_an_inserted_job_at_once;
    is_caught(Fault::ClaimDoesNotWait, &case);
}

#[test]
fn a_store_that_claims_more_than_its_limit_is_caught() {
    let case = contract::claim::a_claim_takes_no_more_than_its_limit;
    is_caught(Fault::ClaimOverItsLimit, &case);
}

#[test]
fn a_store_that_inserts_in_halves_is_caught() {
    let case = contract::insert::an_insert_is_seen_whole_or_not_at_all;
    is_caught(Fault::InsertedInHalves, &case);
    let case = contract::insert::a_dropped_insert_stores_all_or_none;
    is_caught(Fault::InsertedInHalves, &case);
    let case = contract::insert::an_insert_with_a_taken_id_stores_nothing;
    is_caught(Fault::InsertedInHalves, &case);
}

#[test]
fn a_store_whose_extend_raises_the_version_is_caught() {
    let case = contract::fence::extending_keeps_the_lease_and_the_version;
    is_caught(Fault::ExtendRaisesTheVersion, &case);
}

#[test]
fn a_store_whose_release_costs_an_attempt_is_caught() {
    let case = contract::settle::hand_backs_cost_nothing_until_there_are_too_many;
    is_caught(Fault::ReleaseCostsAnAttempt, &case);
}

#[test]
fn a_store_that_cuts_results_is_caught() {
    is_caught(
        Fault::ResultCut,
        &contract::settle::results_are_kept_byte_for_byte,
    );
}

#[test]
fn a_store_that_lists_errors_is_caught() {
    let case = contract::list::a_list_is_newest_first_and_has_the_last_error_of_what_failed;
    is_caught(Fault::ErrorsListed, &case);
    is_caught(Fault::LastErrorNotListed, &case);
}

#[test]
fn a_store_that_lists_what_may_not_be_seen_is_caught() {
    let case = contract::list::a_list_shows_what_its_filter_names;
    is_caught(Fault::TasksAllowedIgnored, &case);
}

#[test]
fn a_store_that_amends_in_part_is_caught() {
    let case = contract::amend::an_amendment_changes_what_it_names;
    for part in ["run_at", "priority", "queue", "tags"] {
        is_caught(Fault::AmendedInPart(part), &case);
    }
    let case = contract::amend::an_amended_job_is_claimed_where_it_was_moved;
    for part in ["run_at", "priority", "queue"] {
        is_caught(Fault::AmendedInPart(part), &case);
    }
    let case = contract::amend::lists_and_counts_follow_an_amendment;
    is_caught(Fault::AmendedInPart("tags"), &case);
}

#[test]
fn a_store_that_takes_nothing_for_a_change_is_caught() {
    let case = contract::amend::an_amendment_that_says_nothing_is_no_change;
    is_caught(Fault::EmptyAmendmentIsAChange, &case);
}

#[test]
fn a_store_that_amends_what_has_changed_is_caught() {
    let case = contract::amend::an_amendment_that_comes_late_changes_nothing;
    is_caught(Fault::VersionIgnored, &case);
}

#[test]
fn a_store_that_forgets_what_ran_out_is_caught() {
    let case = contract::overdue::leases_that_ran_out_are_overdue;
    is_caught(Fault::OverdueForgotten, &case);
}

#[test]
fn a_store_that_hears_late_workers_is_caught() {
    let case = contract::history::what_a_late_worker_says_is_not_kept;
    is_caught(Fault::ReportsUnfenced, &case);
}

#[test]
fn a_store_that_loses_what_comes_with_a_settle_is_caught() {
    let case = contract::history::what_an_attempt_says_is_kept_in_its_order;
    is_caught(Fault::LastWordsLost, &case);
}

#[test]
fn a_store_that_tells_of_the_latest_attempt_only_is_caught() {
    let case = contract::history::every_state_is_told_of_a_life_that_is_not_straight;
    is_caught(Fault::StatesForgotten, &case);
}

#[test]
fn a_store_that_ends_a_history_early_is_caught() {
    let case = contract::history::a_page_of_a_history_goes_on_where_the_last_ended;
    is_caught(Fault::HistoryCutShort, &case);
}

#[test]
fn a_store_that_does_not_remember_the_deleted_is_caught() {
    let case = contract::forget::only_a_finished_job_can_be_deleted;
    is_caught(Fault::DeletedIsUnknown, &case);
}

#[test]
fn a_store_that_goes_on_after_close_is_caught() {
    let case = contract::reopen::a_closed_store_refuses_everything;
    is_caught(Fault::OpenAfterClose, &case);
}

#[test]
fn a_store_that_ignores_a_pause_is_caught() {
    let case = contract::queues::a_paused_queue_takes_jobs_and_gives_none;
    is_caught(Fault::PauseIgnored, &case);
    let case = contract::queues::running_jobs_of_a_paused_queue_go_on;
    is_caught(Fault::PauseIgnored, &case);
    let case = contract::queues::a_waiting_claim_gets_nothing_paused_and_is_woken_by_a_resume;
    is_caught(Fault::PauseIgnored, &case);
    is_caught(Fault::PauseMissesWaitingClaims, &case);
}

#[test]
fn a_store_that_ignores_a_hold_is_caught() {
    let case = contract::queues::a_hold_pauses_every_queue_until_it_is_released;
    is_caught(Fault::HoldIgnored, &case);
}

#[test]
fn a_store_that_ignores_the_depth_of_a_queue_is_caught() {
    let case = contract::queues::a_full_queue_takes_no_more_jobs;
    is_caught(Fault::DepthIgnored, &case);
    let case = contract::queues::a_limit_holds_under_submits_at_once;
    is_caught(Fault::DepthIgnored, &case);
    is_caught(Fault::DepthOfEachInsert, &case);
}

#[test]
fn a_store_that_ignores_the_version_of_a_queue_is_caught() {
    let case = contract::queues::a_change_of_another_version_of_a_queue_is_refused;
    is_caught(Fault::QueueVersionIgnored, &case);
    let case = contract::queues::of_several_changes_of_a_queue_at_once_one_is_made;
    is_caught(Fault::QueueVersionIgnored, &case);
}

#[test]
fn a_store_that_does_not_tell_of_the_oldest_ready_job_is_caught() {
    let case = contract::queues::counts_tell_of_the_oldest_ready_job;
    is_caught(Fault::OldestReadyUntold, &case);
}

#[test]
fn a_store_that_ignores_the_version_of_a_document_is_caught() {
    let case = contract::documents::a_change_of_another_version_of_a_document_is_refused;
    is_caught(Fault::DocumentVersionIgnored, &case);
    let case = contract::documents::of_several_changes_of_a_document_at_once_one_is_made;
    is_caught(Fault::DocumentVersionIgnored, &case);
}

#[test]
fn a_store_that_cuts_documents_is_caught() {
    let case = contract::documents::documents_are_kept_byte_for_byte;
    is_caught(Fault::DocumentCut, &case);
}

#[test]
fn a_store_that_forgets_keys_is_caught() {
    let fault = Fault::KeyForgotten;
    is_caught(fault, &contract::keys::a_key_gives_its_job_again);
    is_caught(fault, &contract::keys::of_the_same_at_once_one_is_new);
    is_caught(fault, &contract::keys::a_key_is_remembered_for_a_day);
}

#[test]
fn a_store_that_does_not_ask_what_a_key_was_for_is_caught() {
    let fault = Fault::FingerprintIgnored;
    is_caught(fault, &contract::keys::a_reused_key_stores_nothing);
    is_caught(fault, &contract::keys::a_key_twice_in_one_insert_is_one_job);
}

#[test]
fn a_store_that_mixes_up_whose_a_key_is_is_caught() {
    let case = contract::keys::a_key_is_one_of_its_task_and_scope;
    is_caught(Fault::ScopeIgnored, &case);
}

#[test]
fn a_store_that_stores_what_came_with_a_reused_key_is_caught() {
    let case = contract::keys::a_reused_key_stores_nothing;
    is_caught(Fault::RestOfReusedStored, &case);
}

#[test]
fn a_store_that_makes_anew_what_is_gone_is_caught() {
    let case = contract::keys::a_key_whose_job_is_gone_makes_no_other;
    is_caught(Fault::GoneMadeAnew, &case);
}

#[test]
fn a_store_that_forgets_duplicates_is_caught() {
    let case = contract::keys::a_key_remembers_a_duplicate;
    is_caught(Fault::DuplicateForgotten, &case);
}

#[test]
fn a_store_that_ignores_unique_keys_is_caught() {
    let fault = Fault::UniqueIgnored;
    is_caught(fault, &contract::keys::a_unique_key_has_one_unfinished_job);
    let case = contract::keys::a_retry_takes_its_unique_key_or_is_refused;
    is_caught(fault, &case);
}

#[test]
fn a_store_that_frees_no_unique_key_is_caught() {
    let case = contract::keys::every_end_frees_a_unique_key;
    is_caught(Fault::UniqueKeptAfterTheEnd, &case);
}

#[test]
fn random_lives_catch_what_they_are_not_about() {
    for fault in [
        Fault::FenceIgnored,
        Fault::VersionIgnored,
        Fault::ClaimedEarly,
        Fault::ClaimedInReverse,
        Fault::ClaimOverItsLimit,
        Fault::ExtendRaisesTheVersion,
        Fault::ReleaseCostsAnAttempt,
        Fault::ResultCut,
        Fault::ErrorsListed,
        Fault::LastErrorNotListed,
        Fault::TasksAllowedIgnored,
        Fault::AmendedInPart("run_at"),
        Fault::AmendedInPart("priority"),
        Fault::AmendedInPart("queue"),
        Fault::AmendedInPart("tags"),
        Fault::EmptyAmendmentIsAChange,
        Fault::OverdueForgotten,
        Fault::ReportsUnfenced,
        Fault::LastWordsLost,
        Fault::StatesForgotten,
        Fault::HistoryCutShort,
        Fault::DeletedIsUnknown,
        Fault::PauseIgnored,
        Fault::OldestReadyUntold,
        Fault::KeyForgotten,
        Fault::FingerprintIgnored,
        Fault::ScopeIgnored,
        Fault::RestOfReusedStored,
        Fault::GoneMadeAnew,
        Fault::DuplicateForgotten,
        Fault::UniqueIgnored,
        Fault::UniqueKeptAfterTheEnd,
    ] {
        is_caught(
            fault,
            &contract::random::random_lives_agree_with_the_memory_store,
        );
    }
}

/// Opens a memory store with a fault.
#[derive(Debug)]
struct Broken(Fault);

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

    /// Alters a change on its way to the store.
    async fn alter(&self, change: &mut Change) -> Result<(), StoreError> {
        if self.has(Fault::VersionIgnored) {
            change.if_version = None;
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
                job.spec.unique_key = None;
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
            for applied in self.store.apply(vec![change]).await? {
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
