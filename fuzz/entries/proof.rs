//! What the targets of the `proof` crate do with their input. Included by the targets and by a test of the crate.

use proof::app_config::Rules;
use proof::assertion::Assertion;
use proof::attest::android::{self, AndroidRules, KeyDescription};
use proof::attest::approov::{self, ApproovKeys, ApproovRules};
use proof::attest::chain::Anchors;
use proof::attest::online::{CaptchaKind, CaptchaRules, OnlineCheck, Siteverify};
use proof::attest::play::{self, Binding, PlayKeys, PlayRules};
use proof::attest::status::StatusList;
use proof::dpop::{Proof, TargetUri};
use proof::jose::{KeySet, parse_compact};
use proof::mtls::{ClientCertificate, parse_client_cert_header};
use proof::secevent::Set;
use proof::signature::SignedRequest;

/// What a target does with its input.
type Entry = fn(&[u8]);

/// Every target: its name, and what it does.
pub(crate) const ENTRIES: &[(&str, Entry)] = &[
    ("jws", |data| {
        on_text(data, |text| {
            if let Ok(token) = parse_compact(text) {
                let _ = token.claims();
            }
        });
    }),
    ("key_set", |data| {
        let _ = KeySet::from_published(data);
        let _ = KeySet::from_operator(data);
    }),
    ("dpop_proof", |data| on_text(data, |text| drop(Proof::parse(text)))),
    ("target_uri", target_uri),
    ("client_assertion", |data| on_text(data, |text| drop(Assertion::parse(text)))),
    ("security_event", |data| on_text(data, |text| drop(Set::parse(text)))),
    ("client_certificate", |data| drop(ClientCertificate::parse(data))),
    ("client_cert_header", |data| on_text(data, |text| drop(parse_client_cert_header(text)))),
    ("message_signature", message_signature),
    ("android_key_description", |data| drop(KeyDescription::parse(data))),
    ("attestation_chain", attestation_chain),
    ("attestation_status_list", status_list),
    ("play_verdict", play_verdict),
    ("play_token", play_token),
    ("approov_claims", approov_claims),
    ("siteverify_answer", siteverify_answer),
    ("app_config", app_config),
    ("ja4", ja4),
];

/// The greeting of a TLS client, as it comes over TCP, and a fingerprint as it is written.
fn ja4(data: &[u8]) {
    if let Ok(found) = proof::ja4::Ja4::of_records(data) {
        assert_eq!(proof::ja4::Ja4::parse(found.as_str()).as_ref(), Ok(&found));
    }
    on_text(data, |text| drop(proof::ja4::Ja4::parse(text)));
}

/// A signed configuration, its payload, and a file with a key to be pinned.
fn app_config(data: &[u8]) {
    let roots = KeySet::of([]);
    on_text(data, |text| {
        let _ = proof::app_config::verify(text, &Rules { roots: &roots, app: "app", now: now(), seen: None });
        let _ = proof::app_config::verify_delegation(text, &roots);
    });
    let _ = proof::app_config::pin_of_pem(data);
    let _ = proof::app_config::pin_of_certificate(data);
    if let Ok(config) = proof::app_config::read(data) {
        let again = serde_json::to_vec(&config).unwrap_or_default();
        assert_eq!(proof::app_config::read(&again).as_ref(), Ok(&config));
    }
}

fn on_text(data: &[u8], then: impl FnOnce(&str)) {
    if let Ok(text) = std::str::from_utf8(data) {
        then(text);
    }
}

/// What is taken is in its normal form.
fn target_uri(data: &[u8]) {
    on_text(data, |text| {
        if let Ok(uri) = TargetUri::parse(text) {
            let again = TargetUri::parse(uri.as_str());
            assert!(again.is_ok_and(|again| again.as_str() == uri.as_str()), "{text}");
        }
    });
}

/// Header fields, one a line.
fn message_signature(data: &[u8]) {
    on_text(data, |text| {
        let fields: Vec<(String, &[u8])> = text
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.as_bytes()))
            .collect();
        let _ = SignedRequest::parse(fields.iter().map(|(name, value)| (name.as_str(), *value)));
    });
}

/// The moment everything happens at.
fn now() -> base::Timestamp {
    base::Timestamp::from_secs(1_795_219_200)
}

/// Certificates, each after its length in two bytes; the last one's key is trusted.
fn attestation_chain(data: &[u8]) {
    let (mut ders, mut rest) = (Vec::new(), data);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(after.len());
        let (der, after) = after.split_at(length);
        ders.push(der);
        rest = after;
    }
    let Ok(anchors) = Anchors::from_der(ders.last().copied()) else { return };
    let status = StatusList::empty();
    let rules =
        AndroidRules { anchors: &anchors, status: &status, now: now(), challenge: None, app: None, boot_keys: &[] };
    if let Ok(verified) = android::verify(&ders, &rules) {
        assert!(verified.public_key.starts_with(&[4]));
    }
}

/// Every serial number of the list that is found in hex is found however it is written.
fn status_list(data: &[u8]) {
    let Ok(list) = StatusList::parse(data) else { return };
    let Ok(entries) = serde_json::from_slice::<serde_json::Value>(data) else { return };
    for key in entries["entries"].as_object().into_iter().flat_map(serde_json::Map::keys) {
        assert!(list.of_serial(key).is_some(), "{key}");
        assert!(list.of_serial(&format!("00{}", key.to_uppercase())).is_some(), "{key}");
    }
}

fn app() -> android::AndroidApp {
    android::AndroidApp { package: "com.example.app".into(), digests: vec![[7; 32]], least_version: Some(1) }
}

fn play_rules(app: &android::AndroidApp) -> PlayRules<'_> {
    let binding = Binding::Nonce("bm9uY2U");
    PlayRules { app, binding, now: now(), max_age: play::DEFAULT_MAX_AGE, allow_testing: true }
}

/// A payload, as Google decodes it.
fn play_verdict(data: &[u8]) {
    let app = app();
    let _ = play::judge_decoded(data, &play_rules(&app));
}

/// A token for the key that is eight in every byte.
fn play_token(data: &[u8]) {
    let key = base::Secret::new("CAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg=".to_owned());
    let public = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE7EgIkQ+HmqAWaJ6jPs+Ar6UlSy+6UJ2wPGDlBj8sNnhc1YVrBRf+J5ZG9cPtfazLHqedx3R3tPt8NK13xy2x4w==";
    let Ok(keys) = PlayKeys::new(&key, public) else { return };
    let app = app();
    on_text(data, |text| assert!(play::verify(text, &keys, &play_rules(&app)).is_err(), "nobody can sign"));
}

/// Claims whose signature held.
fn approov_claims(data: &[u8]) {
    let Ok(claims) = serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(data) else { return };
    let Ok(keys) = KeySet::from_published(br#"{"keys":[]}"#) else { return };
    let keys = ApproovKeys::key_set(std::sync::Arc::new(keys));
    let rules =
        ApproovRules { keys: &keys, issuer: None, binding: Some("Bearer x"), binding_required: false, now: now() };
    if let Ok(verified) = approov::judge(&claims, &rules) {
        assert!(verified.expires > now());
    }
}

fn siteverify_answer(data: &[u8]) {
    let (secret, hostnames) = (base::Secret::new("s".to_owned()), ["app.example.com".to_owned()]);
    for kind in [CaptchaKind::Turnstile, CaptchaKind::HCaptcha, CaptchaKind::ReCaptcha] {
        let rules =
            CaptchaRules { hostnames: &hostnames, action: None, bound: None, least_score: Some(50), now: now() };
        let check = Siteverify { kind, url: kind.url(), secret: &secret, response: "r", remote: None, rules };
        for status in [200, 400] {
            let _ = check.judge(status, data);
        }
    }
}
