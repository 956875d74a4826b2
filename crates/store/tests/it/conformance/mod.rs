//! What every engine must do. Each case is generic over a [`Backend`]; `conformance!` runs all of them on one.

pub(crate) mod app_configs;
pub(crate) mod concurrency;
pub(crate) mod credentials;
pub(crate) mod dump;
pub(crate) mod instances;
pub(crate) mod ledger;
pub(crate) mod ledger_cycles;
pub(crate) mod once;
pub(crate) mod receipts;
pub(crate) mod records;
pub(crate) mod refresh;
pub(crate) mod resources;
pub(crate) mod revocations;
pub(crate) mod risk;
pub(crate) mod runtime_secrets;
pub(crate) mod secrets;
pub(crate) mod small;
pub(crate) mod told;
pub(crate) mod usage;

use std::path::PathBuf;
use std::sync::Arc;

use base::{FakeClock, Name, SeededRng, Timestamp};
use store::{Page, Store, StoreUrl};
use vault::{MasterKey, Vault};

/// A place for one database.
pub(crate) trait Backend: Sized {
    /// An empty place; `None` where this machine cannot have it, which has been said.
    fn fresh() -> Option<Self>;
    /// The clock its stores read.
    fn clock(&self) -> &FakeClock;
    /// Open what is there. Each opening draws other random ids.
    async fn open(&self) -> Store;
    /// Where its database is, and the data directory.
    fn place(&self) -> (StoreUrl, PathBuf);
}

/// Run every case on a backend, each as a test of its own.
macro_rules! conformance {
    ($backend:ty) => {
        conformance!($backend, credentials: a_client_is_made_found_changed_and_deleted,
            a_second_client_of_a_name_is_refused, a_rotated_secret_overlaps_and_then_expires,
            a_key_is_live_until_it_expires_or_is_revoked, a_revoked_key_leaves_its_name,
            an_admin_token_is_live_until_it_expires_or_is_revoked, use_of_a_key_is_noted_to_the_minute);
        conformance!($backend, secrets: a_secret_that_is_set_has_one_version, a_rotated_secret_keeps_the_old_version_for_a_while,
            a_next_version_waits_until_it_is_activated, it_is_known_since_when_a_key_is_there,
            what_is_sealed_is_found_by_its_master_key_and_replaced_unless_it_changed, a_stale_version_is_refused,
            a_deleted_secret_never_repeats_a_version, a_stored_secret_opens_only_as_itself,
            signing_keys_go_from_next_to_gone, one_key_per_algorithm_signs);
        conformance!($backend, runtime_secrets: versions_follow_one_another_and_overlap, the_oldest_versions_are_forgotten,
            an_ended_version_has_no_value, uses_add_up_and_go_with_their_version);
        conformance!($backend, resources: a_resource_is_written_only_as_expected, a_version_is_never_used_twice,
            the_version_grows_with_each_change_and_wakes_watchers, lists_page_without_gaps_or_repeats,
            any_resource_reads_back);
        conformance!($backend, records: records_are_listed_newest_first_and_filtered, records_page_by_cursor,
            old_records_are_deleted_in_steps, long_texts_are_cut_at_a_character, any_record_reads_back);
        conformance!($backend, usage: records_and_their_sums_agree_however_they_are_counted,
            sums_outlive_their_records_and_are_forgotten_in_their_own_time, tags_count_under_each_of_them_and_once_in_all,
            a_correction_changes_the_sums_and_no_record, a_correction_of_what_was_corrected_meanwhile_is_refused_whole,
            names_made_up_by_callers_make_no_rows, hostile_counts_do_not_spoil_the_sums, usage_pages_dearest_first,
            tenants_count_for_themselves);
        conformance!($backend, small: a_key_set_is_kept_unless_a_later_one_is, an_object_is_its_makers_alone,
            an_idempotency_key_does_its_request_once, an_abandoned_or_expired_key_is_free_again,
            a_fact_is_set_and_set_once, tenants_do_not_see_one_another, everything_survives_reopening,
            values_over_their_limits_are_refused, a_closed_store_says_so);
        conformance!($backend, once: what_is_used_once_stays_used_after_a_restart,
            of_many_who_use_one_thing_one_is_first, a_code_is_taken_once_and_its_second_use_noticed,
            what_a_code_stands_for_changes_only_from_what_was_read, tenants_do_not_share_what_is_used);
        conformance!($backend, instances: an_installation_is_written_with_what_it_showed,
            what_was_shown_counts_once, the_same_key_is_the_same_installation, a_counter_that_does_not_rise_is_a_copy,
            of_many_who_show_one_counter_one_goes_on, one_that_may_not_loses_its_tokens_and_gets_no_more,
            installations_are_found_counted_and_forgotten, why_one_was_refused_is_kept_and_bounded,
            tenants_have_installations_of_their_own);
        conformance!($backend, receipts: a_receipt_is_exchanged_once_and_goes_with_its_installation);
        conformance!($backend, app_configs: of_an_apps_configurations_each_follows_the_last,
            a_configuration_key_signs_once_it_is_vouched_for);
        conformance!($backend, told: a_message_is_due_until_it_was_taken, who_is_stopped_is_so_until_it_is_let_in_again,
            habits_are_kept_for_each_node);
        conformance!($backend, risk: decisions_of_one_kind_are_one_row, sightings_add_up_for_an_hour_and_changes_of_place_count,
            a_forced_pass_ends_by_itself_and_is_one_instances_alone);
        conformance!($backend, revocations: each_kind_of_revocation_reaches_its_tokens_and_survives_a_restart,
            what_another_issuer_vouches_for_ends_with_it, up_to_now_reaches_the_whole_second,
            the_later_of_two_revocations_counts_and_lifting_gives_the_other_back,
            a_revocation_is_forgotten_when_it_may_be_and_no_sooner,
            what_is_said_again_and_again_is_kept_once, a_revocation_counts_although_whoever_asked_has_gone, many_revocations_at_once_are_all_in_force,
            a_compromised_key_dies_with_all_it_signed, tenants_revoke_their_own_only);
        conformance!($backend, refresh: a_token_is_rotated_and_its_successor_lives,
            a_43_a_token_used_again_ends_its_family_and_session, within_the_grace_the_same_successor_is_given_again,
            a_43_of_many_who_use_one_token_at_once_one_rotates_it, another_client_changes_nothing,
            a_43_another_key_ends_the_family, a_token_ends_by_idleness_and_its_family_absolutely,
            revocations_end_the_families_they_reach, a_code_from_before_a_revocation_begins_no_family,
            a_43_nothing_of_it_is_forgotten_by_a_restart);
        conformance!($backend, ledger: of_a_thousand_at_once_exactly_as_many_as_fit_are_let_in,
            of_a_thousand_at_each_of_three_nodes_exactly_as_many_as_fit_are_let_in,
            with_a_node_killed_never_more_than_fit_and_the_rest_after_its_journal,
            all_budgets_of_a_request_are_reserved_or_none, opposite_orders_of_budgets_do_not_deadlock,
            a_hold_is_settled_to_what_was_used_and_never_past_it,
            a_new_period_has_its_own_limit_and_the_old_one_its_own_end,
            what_a_rolling_window_used_leaves_it_by_and_by, a_budget_in_shadow_mode_counts_and_refuses_nobody,
            a_lowered_limit_holds_at_once_and_keeps_what_is_committed, accounts_are_listed_with_what_they_used);
        conformance!($backend, dump: a_dump_loads_into_a_new_store_and_dumps_the_same,
            a_dump_is_of_one_moment_while_writes_go_on, a_damaged_dump_loads_nothing, a_store_with_data_takes_no_dump,
            a_dump_of_an_older_schema_is_put_in_and_brought_up_to_date);
        conformance!($backend, ledger_cycles: ten_thousand_random_cycles_balance,
            a_window_boundary_under_load_grants_each_period_once, whoever_asks_and_goes_loses_nothing,
            a_silent_node_is_charged_in_full_until_its_journal_turns_up, an_estimate_is_corrected_once,
            what_is_released_and_used_after_all_is_charged_as_far_as_there_is_room,
            what_was_charged_and_not_written_into_the_journal_is_not_charged_twice,
            a_lost_journal_charges_all_that_was_leased, a_raise_lets_more_in_until_it_ends,
            what_lies_idle_is_given_to_those_who_ask, what_nobody_else_wants_is_kept, memory_is_bounded_and_full_memory_refuses,
            periods_long_past_are_forgotten_and_all_time_is_not);
        conformance!($backend, concurrency: of_many_who_change_one_version_one_succeeds,
            of_many_with_one_idempotency_key_one_proceeds, every_acknowledged_write_is_there,
            a_reader_sees_what_was_acknowledged_to_it);
    };
    ($backend:ty, $part:ident: $($case:ident),+ $(,)?) => {
        mod $part {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                crate::conformance::$part::$case::<$backend>().await;
            })+
        }
    };
}
pub(crate) use conformance;

pub(crate) fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub(crate) fn secs(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// When the clock of a fresh backend starts.
pub(crate) const START: i64 = 1_800_000_000;

pub(crate) fn all() -> Page {
    Page::first(1000)
}

pub(crate) fn test_vault() -> Vault {
    let rng = Arc::new(SeededRng::new(42));
    Vault::new(MasterKey::generate(&*rng).unwrap(), rng).unwrap()
}
