//! Which test stands for which attack and requirement: read by the documentation.

/// Attacks by number and the test in this binary. What an attack does on the wire is tested
/// again at the gateway's edge; of proofs of possession this is the verifier's half: one header
/// only, the replay store and the TLS handshake are elsewhere.
pub(crate) const ATTACKS: &[(&str, &str)] = &[
    ("A-1", "attacks::a_01_alg_none"),
    ("A-2", "attacks::a_02_signature_stripped_or_altered"),
    ("A-3", "forgeries::a_03_public_key_as_hmac_secret"),
    ("A-4", "forgeries::a_04_another_algorithm_of_the_same_key"),
    ("A-5", "forgeries::a_05_embedded_jwk"),
    ("A-6", "forgeries::a_06_jku_and_x5u"),
    ("A-7", "forgeries::a_07_x5c_and_x5t"),
    ("A-8", "forgeries::a_08_kid_injection"),
    ("A-9", "attacks::a_09_crit"),
    ("A-10", "attacks::a_10_unencoded_payload"),
    ("A-11", "forgeries::a_11_psychic_signatures"),
    ("A-12", "forgeries::a_12_ecdsa_malleability_makes_no_second_identity"),
    ("A-12", "signature::a_12_the_other_form_of_an_ecdsa_signature_is_the_same_use"),
    ("A-13", "forgeries::a_13_ed25519_small_order_and_non_canonical"),
    ("A-14", "forgeries::a_14_weak_hmac_secrets"),
    ("A-15", "forgeries::a_15_weak_rsa_keys"),
    ("A-16", "attacks::a_16_duplicate_members"),
    ("A-17", "attacks::a_17_claim_type_confusion"),
    ("A-18", "attacks::a_18_time"),
    ("A-19", "attacks::a_19_audience_confusion"),
    ("A-20", "issuers::a_20_issuer_mix_up"),
    ("A-21", "issuers::a_21_the_same_subject_of_two_issuers"),
    ("A-22", "issuers::a_22_other_kinds_of_token"),
    ("A-22", "assertion::a_22_other_kinds_of_token_are_no_assertions"),
    ("A-22", "secevent::a_22_other_kinds_of_token_are_no_events_and_only_the_transmitters_keys_count"),
    ("A-23", "attacks::a_23_encrypted_nested_and_json_forms"),
    ("A-24", "attacks::a_24_encodings"),
    ("A-25", "attacks::a_25_resource_exhaustion"),
    ("A-26", "attacks::a_26_malformed_json_in_every_place"),
    ("A-27", "cache::a_27_unknown_keys_name_their_issuer_and_are_not_remembered"),
    ("A-28", "forgeries::a_28_poisoned_key_sets"),
    ("A-29", "cache::a_29_rotation"),
    ("A-30", "attacks::a_30_a_token_is_only_a_token"),
    ("A-31", "attacks::a_31_joined_and_prefixed_credentials"),
    ("A-32", "attacks::a_32_control_characters_in_identities"),
    ("A-33", "dpop::a_33_each_check_of_a_proof_negated"),
    ("A-33", "dpop::a_33_the_target_in_every_disguise"),
    ("A-33", "signature::a_33_each_covered_component_taken_away_or_changed"),
    ("A-33", "signature::a_33_each_parameter_taken_away_or_bent"),
    ("A-35", "assertion::a_35_what_is_used_up_is_the_clients_jti"),
    ("A-35", "signature::a_35_the_replay_key_is_of_key_and_nonce_and_nothing_else"),
    ("A-35", "signature::a_35_after_a_restart_nothing_from_before_it_is_accepted"),
    ("A-35", "dpop::r_47_the_replay_key_is_one_for_all_spellings_and_signatures"),
    ("A-36", "dpop::a_36_a_nonce_that_is_asked_for_must_be_there_and_accepted"),
    ("A-37", "mtls::a_37_a_rule_fits_the_one_certificate_it_means"),
    ("A-40", "cache::a_40_tokens_that_share_parts_never_share_a_verdict"),
    ("A-41", "attacks::a_41_garbage_is_never_anybody"),
    ("A-42", "cache::a_42_the_cache_and_time"),
    ("A-44", "attacks::a_44_refusals_say_nothing"),
    ("A-45", "issuers::a_45_our_list_of_algorithms_wins"),
    ("A-46", "attacks::a_46_a_verdict_does_not_hold_the_token"),
    ("A-47", "attacks::a_47_lifetime"),
    ("A-48", "attacks::a_48_scope_confusables"),
];

/// Requirements by number and the test in this binary. concern HTTP and are the gateway's.
pub(crate) const REQUIREMENTS: &[(&str, &str)] = &[
    ("R-1", "requirements::r_01_three_parts_of_base64url"),
    ("R-2", "requirements::r_02_canonical_base64url"),
    ("R-3", "requirements::r_03_valid_json_in_utf_8"),
    ("R-4", "attacks::a_16_duplicate_members"),
    ("R-5", "requirements::r_05_alg_is_present_exact_and_allowed"),
    ("R-6", "forgeries::a_04_another_algorithm_of_the_same_key"),
    ("R-7", "attacks::a_01_alg_none"),
    ("R-8", "attacks::a_09_crit"),
    ("R-9", "attacks::a_10_unencoded_payload"),
    ("R-10", "attacks::a_23_encrypted_nested_and_json_forms"),
    ("R-11", "attacks::a_23_encrypted_nested_and_json_forms"),
    ("R-12", "attacks::a_23_encrypted_nested_and_json_forms"),
    ("R-13", "attacks::a_23_encrypted_nested_and_json_forms"),
    ("R-14", "requirements::r_14_typ_is_a_media_type"),
    ("R-15", "requirements::r_15_key_sizes"),
    ("R-16", "requirements::r_16_ecdsa_signatures_have_one_length"),
    ("R-17", "requirements::r_17_rsa_padding_belongs_to_the_algorithm"),
    ("R-18", "requirements::r_18_key_encodings"),
    ("R-19", "forgeries::a_05_embedded_jwk"),
    ("R-20", "attacks::a_18_time"),
    ("R-21", "attacks::a_17_claim_type_confusion"),
    ("R-22", "issuers::a_20_issuer_mix_up"),
    ("R-23", "attacks::a_19_audience_confusion"),
    ("R-24", "requirements::r_24_claims_of_rfc_9068"),
    ("R-25", "requirements::r_25_typ_of_an_access_token"),
    ("R-26", "attacks::a_44_refusals_say_nothing"),
    ("R-27", "requirements::r_27_every_listed_algorithm_verifies"),
    ("R-28", "requirements::r_28_unknown_claims_and_confirmations"),
    ("R-40", "dpop::r_40_one_well_formed_signed_object_with_a_public_key"),
    ("R-41", "dpop::a_36_a_nonce_that_is_asked_for_must_be_there_and_accepted"),
    ("R-42", "dpop::a_36_a_nonce_that_is_asked_for_must_be_there_and_accepted"),
    ("R-43", "dpop::r_43_a_proof_is_accepted_for_a_limited_time_only"),
    ("R-44", "dpop::r_44_the_type_is_a_proof_s_and_the_algorithm_asymmetric_and_allowed"),
    ("R-47", "dpop::r_47_the_replay_key_is_one_for_all_spellings_and_signatures"),
    ("R-50", "mtls::a_certificates_names_dates_and_thumbprint_are_read"),
    ("R-52", "signature::a_33_each_parameter_taken_away_or_bent"),
    ("R-52", "signature::a_33_each_covered_component_taken_away_or_changed"),
    ("R-65", "assertion::r_65_each_claim_taken_away_or_bent"),
    ("R-70", "secevent::r_70_every_refusal_has_the_code_of_rfc_8935"),
    ("R-71", "secevent::r_71_a_token_of_the_transmitter_is_read"),
    ("R-72", "secevent::r_72_the_events_that_are_acted_on_are_known"),
];

#[test]
fn every_number_names_a_test_that_exists() {
    let sources = [
        ("assertion", include_str!("assertion.rs")),
        ("attacks", include_str!("attacks.rs")),
        ("cache", include_str!("cache.rs")),
        ("dpop", include_str!("dpop.rs")),
        ("forgeries", include_str!("forgeries.rs")),
        ("issuers", include_str!("issuers.rs")),
        ("mtls", include_str!("mtls.rs")),
        ("requirements", include_str!("requirements.rs")),
        ("secevent", include_str!("secevent.rs")),
        ("signature", include_str!("signature.rs")),
    ];
    for (number, test) in ATTACKS.iter().chain(REQUIREMENTS) {
        let (module, function) = test.split_once("::").unwrap();
        let source = sources.iter().find(|(name, _)| *name == module).unwrap().1;
        assert!(source.contains(&format!("#[test]\nfn {function}()")), "{number}: {test}");
    }
    for number in (1..=33).chain(35..=37).chain(40..=42).chain(44..=48) {
        let number = format!("A-{number}");
        assert!(ATTACKS.iter().any(|(known, _)| *known == number), "{number}");
    }
    for number in (1..=28).chain(40..=44).chain([47, 50, 52, 65, 70, 71, 72]) {
        let number = format!("R-{number}");
        assert!(REQUIREMENTS.iter().any(|(known, _)| *known == number), "{number}");
    }
}
