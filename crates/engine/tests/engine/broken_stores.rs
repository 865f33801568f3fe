//! The store contract has teeth: a store that breaks one promise fails the case about it.
//!
//! Each fault is one that a store could well have. The same store without it passes the case, so
//! that it is the fault that is caught.

use anteroom::clock::Clock;
use anteroom::contract::{self, StoreUnderTest, Trial};
use anteroom::core::{Event, Fingerprint, HandBack, Idempotency, Job, JobId, Name, Payload, Retry};
use anteroom::core::{Failure, FailureKind};
use anteroom::store::memory::MemoryStore;
use anteroom::store::{
    Applied, Change, Claimed, Counts, Deleted, Filter, Found, Inserted, Listing, NewJob, Overdue,
    Page, Refused, Store, StoreError, Want,
};
use async_trait::async_trait;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

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
    OverdueForgotten,
    DeletedIsUnknown,
    OpenAfterClose,
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
    let case = contract::list::a_list_is_newest_first_and_without_errors;
    is_caught(Fault::ErrorsListed, &case);
}

#[test]
fn a_store_that_forgets_what_ran_out_is_caught() {
    let case = contract::overdue::leases_that_ran_out_are_overdue;
    is_caught(Fault::OverdueForgotten, &case);
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
        Fault::OverdueForgotten,
        Fault::DeletedIsUnknown,
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
        })
    }
}

#[derive(Debug)]
struct BrokenStore {
    store: MemoryStore,
    fault: Fault,
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
            if self.has(Fault::ExtendRaisesTheVersion) && matches!(event, Event::Extended { .. }) {
                job.status.version += 1;
            }
            job
        })
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
        self.store.insert(jobs).await
    }

    async fn remembers(&self, task: &Name, idempotency: &Idempotency) -> Result<bool, StoreError> {
        self.store.remembers(task, idempotency).await
    }

    async fn claim(&self, mut want: Want) -> Result<Vec<Claimed>, StoreError> {
        if self.has(Fault::ClaimDoesNotWait) {
            want.wait = std::time::Duration::ZERO;
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

    async fn list(&self, filter: &Filter, page: Page) -> Result<Listing, StoreError> {
        let mut listing = self.store.list(filter, page).await?;
        if self.has(Fault::ErrorsListed) {
            for job in &mut listing.jobs {
                let whole = self.store.get(job.spec.id).await?.here();
                job.errors = whole.map(|job| job.errors).unwrap_or_default();
            }
        }
        Ok(listing)
    }

    async fn counts(&self) -> Result<Vec<Counts>, StoreError> {
        self.store.counts().await
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
