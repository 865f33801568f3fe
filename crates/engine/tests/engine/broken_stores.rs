//! The store contract has teeth: a store that breaks one promise fails the case about it.
//!
//! Each fault is one that a store could well have. The same store without it passes the case, so
//! that it is the fault that is caught.

mod store;

use anteroom::contract::{self, Trial};
use std::panic::{AssertUnwindSafe, catch_unwind};
use store::{Broken, Fault};

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
fn a_store_that_does_not_know_a_settle_again_is_caught() {
    let case = contract::leases::a_settle_said_again_is_told_from_a_late_one;
    is_caught(Fault::SaidForgotten, &case);
    is_caught(Fault::SaidConfused, &case);
    let case = contract::leases::what_was_said_is_kept_until_another_attempt_begins;
    is_caught(Fault::SaidForgotten, &case);
}

#[test]
fn a_store_that_takes_a_timeout_for_a_lost_worker_is_caught() {
    let case = contract::leases::a_pulled_lease_is_no_longer_than_its_attempt_may_run;
    is_caught(Fault::TimeoutUntold, &case);
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
fn a_store_that_forgets_callbacks_is_caught() {
    let fault = Fault::CallbackForgotten;
    is_caught(fault, &contract::callbacks::every_end_makes_one_callback);
    let case = contract::callbacks::each_end_makes_a_callback_of_its_own;
    is_caught(fault, &case);
    let case = contract::callbacks::many_ends_at_once_make_as_many_callbacks;
    is_caught(fault, &case);
}

#[test]
fn a_store_that_tells_of_an_end_twice_is_caught() {
    let fault = Fault::CallbackTwice;
    is_caught(fault, &contract::callbacks::every_end_makes_one_callback);
    let case = contract::callbacks::a_refused_change_makes_no_callback;
    is_caught(fault, &case);
}

#[test]
fn a_store_that_tells_of_an_end_that_was_refused_is_caught() {
    let case = contract::callbacks::a_refused_change_makes_no_callback;
    is_caught(Fault::CallbackOfRefused, &case);
}

#[test]
fn a_store_that_holds_callbacks_back_is_caught() {
    let case = contract::callbacks::a_waiting_claim_gets_a_callback_at_once;
    is_caught(Fault::ClaimDoesNotWait, &case);
}

#[test]
fn a_store_that_ignores_a_limit_is_caught() {
    use contract::limits;
    let most = Fault::LimitIgnored("max_concurrency");
    is_caught(most, &limits::no_more_of_a_queue_run_than_may);
    is_caught(
        most,
        &limits::a_waiting_claim_gets_a_job_that_a_limit_held_back,
    );
    let group = Fault::LimitIgnored("group_concurrency");
    is_caught(group, &limits::no_more_of_a_group_run_than_may);
    let rate = Fault::LimitIgnored("rate_limit");
    is_caught(rate, &limits::no_more_start_than_a_rate_lets);
    is_caught(
        rate,
        &limits::a_waiting_claim_gets_a_job_that_a_rate_held_back,
    );
}

#[test]
fn a_store_that_takes_no_turns_is_caught() {
    use contract::turns;
    is_caught(
        Fault::GroupIgnored,
        &turns::groups_take_turns_whatever_their_depth,
    );
    is_caught(
        Fault::ClaimedInReverse,
        &turns::jobs_of_a_group_keep_their_order,
    );
    is_caught(Fault::ClaimedInReverse, &turns::priorities_have_shares);
}

#[test]
fn a_store_that_tells_a_wrong_place_is_caught() {
    let case = contract::turns::a_waiting_job_can_be_told_its_place;
    is_caught(Fault::PlaceBehindAll, &case);
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
        Fault::LimitIgnored("max_concurrency"),
        Fault::LimitIgnored("group_concurrency"),
        Fault::LimitIgnored("rate_limit"),
        Fault::PlaceBehindAll,
        Fault::OldestReadyUntold,
        Fault::KeyForgotten,
        Fault::FingerprintIgnored,
        Fault::ScopeIgnored,
        Fault::RestOfReusedStored,
        Fault::GoneMadeAnew,
        Fault::DuplicateForgotten,
        Fault::UniqueIgnored,
        Fault::UniqueKeptAfterTheEnd,
        Fault::CallbackForgotten,
        Fault::CallbackTwice,
        Fault::CallbackOfRefused,
    ] {
        is_caught(
            fault,
            &contract::random::random_lives_agree_with_the_memory_store,
        );
    }
}
