//! The store contract: every promise of [`Store`] as a case to be run.
//!
//! For authors of stores. A store is right when all cases pass; each is a sentence that says what
//! is promised, and the reason is in its doc comment. Name how to open yours, and
//! [`store_contract!`](crate::store_contract) makes a test of each case:
//!
//! ```
//! use anteroom::clock::Clock;
//! use anteroom::contract::StoreUnderTest;
//! use anteroom::store::{Store, memory::MemoryStore};
//! use std::sync::Arc;
//!
//! #[derive(Debug)]
//! struct Memory;
//!
//! #[async_trait::async_trait]
//! impl StoreUnderTest for Memory {
//!     async fn open(&self, clock: Clock) -> Arc<dyn Store> {
//!         Arc::new(MemoryStore::new(clock))
//!     }
//! }
//!
//! mod memory {
//!     anteroom::store_contract!(super::Memory);
//! }
//! # fn main() {}
//! ```
//!
//! Design facts: the clock is one that only the case moves ([`Clock::manual`]), so that a store
//! with threads of its own is under the same time as its test; it has such a thread woken by
//! [`Clock::on_advance`]. No case sleeps, and each ends within [`CASE_MAX`]. In
//! [`random`], random lives of jobs are led in the store on trial and in the memory store side by
//! side, and every answer is compared.
#![expect(
    clippy::missing_panics_doc,
    reason = "a case that panics is a promise broken: that is what it is for"
)]

use crate::clock::Clock;
use crate::store::Store;
use crate::store::archive::Archive;
use async_trait::async_trait;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub mod amend;
pub mod callbacks;
pub mod claim;
pub mod documents;
pub mod fence;
pub mod forget;
pub mod history;
pub mod insert;
pub mod keys;
pub mod leases;
pub mod limits;
pub mod list;
pub mod moving;
pub mod overdue;
pub mod queues;
pub mod random;
pub mod reopen;
pub mod settle;
mod transfer;
mod trial;
pub mod turns;
pub mod waiting;

pub use trial::Trial;

/// How long a case may take on a slow machine under load.
pub const CASE_MAX: Duration = Duration::from_mins(5);

/// Opens the store that is on trial: one for each case.
#[async_trait]
pub trait StoreUnderTest: fmt::Debug + Send + Sync + 'static {
    /// Opens the store, empty the first time, which goes by `clock`.
    ///
    /// Called once, and where it [is durable](Self::is_durable) again each time it was closed: then
    /// it is the same store, opened by another process as far as it can tell.
    async fn open(&self, clock: Clock) -> Arc<dyn Store>;

    /// Tells whether the store survives being closed. Default: no, and some cases try nothing.
    fn is_durable(&self) -> bool {
        false
    }

    /// Opens all that the store keeps as records, and makes the store where it never was. Nobody has
    /// it open, unless it is one that [is not durable](Self::is_durable). Default: this kind has no
    /// [`Archive`], and some cases try nothing.
    async fn archive(&self, _clock: Clock) -> Option<Arc<dyn Archive>> {
        None
    }

    /// Returns another store of the same kind, empty, to move into. There is one where there is an
    /// [`archive`](Self::archive).
    fn another(&self) -> Option<Box<dyn StoreUnderTest>> {
        None
    }

    /// Tells whether whose turn it is follows from all jobs that wait, to the last one: then claims and
    /// places are the very same as the memory store's. A store that looks at the first jobs of each
    /// lane is as fair, and not the same. Default: yes.
    fn keeps_every_turn(&self) -> bool {
        true
    }
}

/// Runs one case over one store.
///
/// # Panics
///
/// When the store breaks the promise that the case is about, or takes longer than [`CASE_MAX`], or is
/// damaged at the end (where it is durable and has an archive).
pub fn run(subject: impl StoreUnderTest, case: impl AsyncFnOnce(&mut Trial)) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => panic!("the case could not be begun: {error}"),
    };
    runtime.block_on(async {
        let mut trial = Trial::begin(Box::new(subject)).await;
        let ended = tokio::time::timeout(CASE_MAX, async {
            case(&mut trial).await;
            trial.store().close().await;
            trial.is_whole().await;
        });
        assert!(
            ended.await.is_ok(),
            "the case took longer than {CASE_MAX:?}"
        );
    });
}

/// Makes a test of each case of the [store contract](crate::contract) over a store.
///
/// Takes an expression that gives a [`StoreUnderTest`](crate::contract::StoreUnderTest); it is
/// evaluated anew for each test. Put it in a module of its own, named for the store.
#[macro_export]
macro_rules! store_contract {
    ($subject:expr) => {
        $crate::store_contract! { @cases $subject;
            insert::an_inserted_job_can_be_read,
            insert::inputs_are_kept_byte_for_byte,
            insert::an_insert_is_seen_whole_or_not_at_all,
            insert::a_dropped_insert_stores_all_or_none,
            insert::an_insert_with_a_taken_id_stores_nothing,
            insert::a_job_that_is_too_late_already_is_not_stored,
            insert::an_unknown_id_is_unknown,
            insert::jobs_with_one_order_key_are_told_apart,

            claim::claims_go_by_priority_then_run_at_then_submission,
            claim::a_job_that_comes_due_takes_its_turn,
            claim::nothing_is_claimed_before_it_is_due,
            claim::a_claim_takes_no_more_than_its_limit,
            claim::a_claim_takes_wanted_tasks_and_queues_only,
            claim::a_claim_begins_an_attempt,
            claim::claim_numbers_rise,
            claim::no_job_is_claimed_by_two,
            claim::a_job_past_its_deadline_is_not_claimed,
            claim::a_job_that_began_once_is_never_too_late,

            turns::groups_take_turns_whatever_their_depth,
            turns::jobs_of_a_group_keep_their_order,
            turns::priorities_have_shares,
            turns::what_does_not_move_a_job_leaves_it_its_turn,
            turns::queues_take_turns,
            turns::a_waiting_job_can_be_told_its_place,
            turns::a_place_tells_what_holds_a_job_back,

            limits::no_more_of_a_queue_run_than_may,
            limits::a_waiting_claim_gets_a_job_that_a_limit_held_back,
            limits::no_more_of_a_group_run_than_may,
            limits::no_more_start_than_a_rate_lets,
            limits::a_waiting_claim_gets_a_job_that_a_rate_held_back,
            limits::limits_hold_after_a_reopen,

            waiting::a_claim_without_a_wait_returns_at_once,
            waiting::a_waiting_claim_gets_an_inserted_job_at_once,
            waiting::every_waiting_claim_gets_a_job,
            waiting::a_waiting_claim_gets_a_job_that_comes_due,
            waiting::a_waiting_claim_gets_a_job_that_became_ready_again,
            waiting::a_waiting_claim_leaves_unwanted_jobs_alone,
            waiting::a_waiting_claim_ends_with_its_wait,
            waiting::a_dropped_waiting_claim_takes_nothing,
            waiting::a_dropped_claim_hands_its_jobs_back,
            waiting::what_a_dropped_claim_hands_back_wakes_another,
            waiting::closing_ends_waiting_claims_with_none,

            fence::a_late_worker_changes_nothing,
            fence::a_claim_of_another_job_is_no_claim,
            fence::a_pulled_lease_that_ran_out_is_lost,
            fence::a_node_lease_that_ran_out_still_settles,
            fence::a_claim_settles_once,
            fence::of_several_settles_at_once_one_counts,
            fence::extending_keeps_the_lease_and_the_version,

            leases::a_settle_said_again_is_told_from_a_late_one,
            leases::what_was_said_is_kept_until_another_attempt_begins,
            leases::what_was_said_survives_a_reopen,
            leases::a_pulled_lease_is_no_longer_than_its_attempt_may_run,

            settle::every_event_does_what_the_lifecycle_says,
            settle::results_are_kept_byte_for_byte,
            settle::a_success_after_a_cancel_request_is_kept,
            settle::any_other_end_after_a_cancel_request_cancels,
            settle::a_cancelled_waiting_job_is_never_claimed,
            settle::attempts_follow_each_other_until_they_are_used_up,
            settle::hand_backs_cost_nothing_until_there_are_too_many,
            settle::a_retry_starts_over_and_keeps_the_errors,
            settle::the_latest_errors_are_kept_newest_last,
            settle::a_change_for_another_version_is_refused,
            settle::changes_happen_in_order_each_on_its_own,

            amend::an_amendment_changes_what_it_names,
            amend::an_amendment_that_says_nothing_is_no_change,
            amend::an_amended_job_is_claimed_where_it_was_moved,
            amend::a_start_that_has_passed_means_at_once,
            amend::a_waiting_claim_gets_a_job_that_was_amended,
            amend::only_a_waiting_job_can_be_amended,
            amend::an_amendment_that_comes_late_changes_nothing,
            amend::lists_and_counts_follow_an_amendment,
            amend::an_amendment_survives_a_reopen,

            callbacks::every_end_makes_one_callback,
            callbacks::what_is_no_end_makes_no_callback,
            callbacks::a_refused_change_makes_no_callback,
            callbacks::each_end_makes_a_callback_of_its_own,
            callbacks::a_waiting_claim_gets_a_callback_at_once,
            callbacks::nothing_holds_callbacks_back,
            callbacks::many_ends_at_once_make_as_many_callbacks,
            callbacks::callbacks_are_listed_by_name_only,
            callbacks::a_callback_survives_a_reopen,

            overdue::leases_that_ran_out_are_overdue,
            overdue::a_store_with_an_unfinished_job_is_not_idle,
            overdue::deadlines_that_passed_are_overdue,
            overdue::a_deadline_is_met_by_beginning,
            overdue::overdue_jobs_are_told_of_up_to_the_limit,

            forget::only_a_finished_job_can_be_deleted,
            forget::a_deletion_of_another_version_is_refused,
            forget::jobs_are_forgotten_once_their_retention_is_over,
            forget::a_retried_job_is_kept_until_its_second_end,
            forget::pruning_stops_at_its_limit,
            forget::gone_ids_are_remembered_for_a_day,

            history::a_straight_life_is_told_as_it_happened,
            history::every_state_is_told_of_a_life_that_is_not_straight,
            history::a_job_becomes_ready_without_a_change,
            history::what_an_attempt_says_is_kept_in_its_order,
            history::what_a_late_worker_says_is_not_kept,
            history::progress_is_what_the_latest_attempt_said_last,
            history::the_latest_reports_are_kept,
            history::the_oldest_of_very_many_states_are_told_as_missing,
            history::what_was_skipped_leaves_a_gap,
            history::what_was_skipped_pushes_out_what_is_older,
            history::a_page_of_a_history_goes_on_where_the_last_ended,
            history::a_history_goes_with_its_job,
            history::a_history_survives_a_reopen,

            list::a_list_is_newest_first_and_has_the_last_error_of_what_failed,
            list::a_list_shows_what_its_filter_names,
            list::pages_are_stable_while_jobs_come_and_go,
            list::a_page_looks_at_no_more_jobs_than_its_bound,
            list::counts_follow_the_jobs,

            queues::a_paused_queue_takes_jobs_and_gives_none,
            queues::a_waiting_claim_gets_nothing_paused_and_is_woken_by_a_resume,
            queues::a_pause_leaves_other_queues_alone,
            queues::running_jobs_of_a_paused_queue_go_on,
            queues::what_was_set_for_queues_survives_a_reopen,
            queues::limits_are_kept_and_survive_a_reopen,
            queues::a_change_of_another_version_of_a_queue_is_refused,
            queues::of_several_changes_of_a_queue_at_once_one_is_made,
            queues::settings_are_kept_of_so_many_queues_only,
            queues::what_the_process_says_of_queues_holds_where_nothing_was_set,
            queues::a_hold_pauses_every_queue_until_it_is_released,
            queues::a_full_queue_takes_no_more_jobs,
            queues::a_limit_counts_what_waits_already,
            queues::a_limit_holds_under_submits_at_once,
            queues::counts_tell_of_the_oldest_ready_job,

            documents::documents_are_kept_byte_for_byte,
            documents::a_change_of_another_version_of_a_document_is_refused,
            documents::of_several_changes_of_a_document_at_once_one_is_made,
            documents::documents_are_bounded_in_size_and_number,
            documents::documents_survive_a_reopen,

            keys::a_key_gives_its_job_again,
            keys::a_key_is_one_of_its_task_and_scope,
            keys::a_reused_key_stores_nothing,
            keys::a_key_twice_in_one_insert_is_one_job,
            keys::of_the_same_at_once_one_is_new,
            keys::a_key_whose_job_is_gone_makes_no_other,
            keys::a_key_is_remembered_for_a_day,
            keys::a_dropped_insert_is_remembered_with_its_job_or_not_at_all,
            keys::a_unique_key_has_one_unfinished_job,
            keys::every_end_frees_a_unique_key,
            keys::a_retry_takes_its_unique_key_or_is_refused,
            keys::a_key_remembers_a_duplicate,
            keys::keys_survive_a_reopen,

            reopen::jobs_in_every_state_survive_a_reopen,
            reopen::what_runs_out_runs_out_after_a_reopen_too,
            reopen::claim_numbers_rise_over_a_reopen,
            reopen::running_jobs_of_a_dead_process_are_overdue,
            reopen::pulled_leases_survive_a_reopen,
            reopen::a_pulled_lease_has_its_own_length_after_a_reopen,
            reopen::a_lease_taken_again_at_once_has_its_own_length_after_a_reopen,
            reopen::a_closed_store_refuses_everything,
            reopen::closing_finishes_what_was_begun,

            moving::jobs_are_moved_with_all_that_belongs_to_them,
            moving::the_order_of_claims_is_moved,
            moving::running_jobs_are_moved_under_their_claims,
            moving::what_was_said_is_moved,
            moving::keys_are_moved,
            moving::queues_are_moved,
            moving::documents_are_moved,
            moving::what_is_gone_is_gone_after_a_move,
            moving::a_moved_store_has_the_same_content,
            moving::an_interrupted_import_goes_on,
            moving::a_store_that_holds_something_else_stays_as_it_is,

            random::random_lives_agree_with_the_memory_store,
        }
    };
    (@cases $subject:expr; $($theme:ident::$case:ident,)*) => {
        $(
            #[test]
            fn $case() {
                $crate::contract::run($subject, $crate::contract::$theme::$case);
            }
        )*
    };
}

#[cfg(test)]
mod tests {
    /// A case that the macro leaves out would never be run by anybody.
    #[test]
    fn the_macro_names_every_case() {
        let themes = [
            ("amend", include_str!("contract/amend.rs")),
            ("callbacks", include_str!("contract/callbacks.rs")),
            ("claim", include_str!("contract/claim.rs")),
            ("documents", include_str!("contract/documents.rs")),
            ("fence", include_str!("contract/fence.rs")),
            ("forget", include_str!("contract/forget.rs")),
            ("history", include_str!("contract/history.rs")),
            ("insert", include_str!("contract/insert.rs")),
            ("keys", include_str!("contract/keys.rs")),
            ("leases", include_str!("contract/leases.rs")),
            ("limits", include_str!("contract/limits.rs")),
            ("list", include_str!("contract/list.rs")),
            ("moving", include_str!("contract/moving.rs")),
            ("overdue", include_str!("contract/overdue.rs")),
            ("queues", include_str!("contract/queues.rs")),
            ("random", include_str!("contract/random.rs")),
            ("reopen", include_str!("contract/reopen.rs")),
            ("settle", include_str!("contract/settle.rs")),
            ("turns", include_str!("contract/turns.rs")),
            ("waiting", include_str!("contract/waiting.rs")),
        ];
        let this_file = include_str!("contract.rs");
        for (theme, text) in themes {
            let cases = text.split("\npub async fn ").skip(1);
            let names: Vec<_> = cases.filter_map(|case| case.split('(').next()).collect();
            assert!(!names.is_empty(), "{theme}");
            for name in names {
                let listed = format!("            {theme}::{name},\n");
                assert!(this_file.contains(&listed), "{theme}::{name}");
            }
        }
    }
}
