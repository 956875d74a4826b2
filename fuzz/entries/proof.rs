//! What the targets of the `proof` crate do with their input. Included by the targets and by a test of the crate.

use proof::assertion::Assertion;
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
];

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
