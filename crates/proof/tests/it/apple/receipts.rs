//! Receipts of recorded devices, from attestations and from Apple's service.

use std::time::Duration;

use base::Timestamp;
use proof::attest::apple::{Environment, Receipt, ReceiptError, ReceiptRules, receipt_root, verify_receipt};
use proof::attest::chain::Anchors;
use serde_json::Value;

use super::{bytes, moment, point, real, recordings};

struct Recorded {
    receipt: Vec<u8>,
    anchors: Anchors,
    app_ids: [&'static str; 1],
    key: [u8; 65],
    at: Timestamp,
    properties: Value,
}

impl Recorded {
    fn judge<'r>(
        &'r self,
        receipt: &[u8],
        change: impl FnOnce(&mut ReceiptRules<'r>),
    ) -> Result<Receipt, ReceiptError> {
        let mut rules = ReceiptRules {
            anchors: &self.anchors,
            now: Some(self.at),
            app_ids: &self.app_ids,
            public_key: Some(&self.key),
            max_age: Some(Duration::from_mins(5)),
        };
        change(&mut rules);
        verify_receipt(receipt, &rules)
    }

    fn refused<'r>(&'r self, change: impl FnOnce(&mut ReceiptRules<'r>)) -> &'static str {
        self.judge(&self.receipt, change).unwrap_err().reason()
    }
}

fn all(test: &str) -> Option<Vec<Recorded>> {
    let root = recordings(test)?;
    let mut all = Vec::new();
    for (_, file) in real(&root, ".receipts.json") {
        for one in file["receipts"].as_array().unwrap() {
            all.push(Recorded {
                receipt: bytes(&one["receipt_b64"]),
                anchors: receipt_root().unwrap(),
                app_ids: [Box::leak(file["app_id"].as_str().unwrap().to_owned().into_boxed_str())],
                key: point(&file["public_key_pem"]),
                at: moment(&one["properties"]["creationTime"]).plus(Duration::from_secs(1)),
                properties: one["properties"].clone(),
            });
        }
    }
    Some(all)
}

#[test]
fn every_recorded_receipt_is_accepted_with_what_stands_in_it() {
    let Some(all) = all("every_recorded_receipt_is_accepted_with_what_stands_in_it") else { return };
    for one in &all {
        let receipt = one.judge(&one.receipt, |_| {}).unwrap();
        let (said, time) =
            (&one.properties, |name: &str| one.properties[name].as_str().and_then(Timestamp::parse_rfc3339));
        assert_eq!(receipt.client_hash, bytes(&said["clientHashBase64"]));
        assert_eq!(Some(receipt.created), time("creationTime"));
        assert_eq!(receipt.expires, time("expirationTime"));
        assert_eq!(receipt.not_before, time("notBefore"));
        assert_eq!(receipt.risk_metric.map(u64::from), said["riskMetric"].as_u64());
        assert_eq!(Some(receipt.token.as_str()), said["token"].as_str());
        assert_eq!(receipt.refreshed, said["type"] == "RECEIPT");
        assert_eq!(receipt.environment, Some(Environment::Development));
        assert_eq!(said["environment"], "sandbox");
        assert_eq!(receipt.public_key, one.key);
    }
}

#[test]
fn the_receipt_in_every_recorded_attestation_is_for_its_key() {
    let Some(root) = recordings("the_receipt_in_every_recorded_attestation_is_for_its_key") else { return };
    let anchors = receipt_root().unwrap();
    for (name, file) in real(&root, ".attestation.json") {
        let object = bytes(&file["attestation_b64"]);
        let limits = proof::attest::cbor::Limits { bytes: 64 << 10, depth: 8, items: 64, shortest: true };
        let value = proof::attest::cbor::read(&object, limits).unwrap();
        let statement = value.map().unwrap().get("attStmt").unwrap().map().unwrap();
        let receipt = statement.get("receipt").unwrap().bytes().unwrap();
        let key = point(&file["expected"]["public_key_pem"]);
        let rules = ReceiptRules {
            anchors: &anchors,
            now: Some(moment(&file["verify_at"])),
            app_ids: &[file["app_id"].as_str().unwrap()],
            public_key: Some(&key),
            max_age: None,
        };
        let verdict =
            verify_receipt(receipt, &ReceiptRules { now: Some(Timestamp::from_secs(i64::MAX / 2000)), ..rules });
        assert_eq!(verdict.map(|_| ()), Err(ReceiptError::Expired), "{name}");
        let verdict = verify_receipt(receipt, &rules);
        // The recordings name a moment for the chain, which may lie before the receipt.
        assert!(matches!(verdict, Ok(_) | Err(ReceiptError::Future)), "{name}: {verdict:?}");
    }
}

#[test]
fn a_receipt_is_for_one_app_and_key_and_some_time() {
    let Some(all) = all("a_receipt_is_for_one_app_and_key_and_some_time") else { return };
    let google = Anchors::google().unwrap();
    for one in &all {
        let apps = ["ABCDE12345.com.example.other"];
        let seconds = Duration::from_secs;
        assert_eq!(one.refused(|rules| rules.app_ids = &apps), "app_id_mismatch");
        assert_eq!(one.refused(|rules| rules.public_key = Some(&[4; 65])), "key_mismatch");
        assert_eq!(one.refused(|rules| rules.anchors = &google), "chain_unknown_root");
        assert_eq!(one.refused(|rules| rules.now = rules.now.map(|now| now.plus(seconds(301)))), "too_old");
        assert_eq!(one.refused(|rules| rules.now = rules.now.map(|now| now.minus(seconds(120)))), "issued_in_future");
        let later = one.refused(|rules| {
            rules.now = rules.now.map(|now| now.plus(seconds(91 * 86_400)));
            rules.max_age = None;
        });
        assert_eq!(later, "expired");
    }
}

#[test]
fn no_byte_of_a_receipt_that_counts_can_be_changed() {
    let Some(all) = all("no_byte_of_a_receipt_that_counts_can_be_changed") else { return };
    for one in all.iter().take(3) {
        let original = one.judge(&one.receipt, |_| {}).unwrap();
        for at in (0..one.receipt.len()).step_by(5) {
            let mut changed = one.receipt.clone();
            changed[at] ^= 1 << (at % 8);
            // What is not signed (versions, the root that came along) may change, what is read may not.
            if let Ok(receipt) = one.judge(&changed, |_| {}) {
                assert_eq!(receipt, original, "byte {at}");
            }
        }
        for length in (0..one.receipt.len()).step_by(101) {
            assert!(one.judge(&one.receipt[..length], |_| {}).is_err());
        }
        assert!(one.judge(&[one.receipt.as_slice(), &[0]].concat(), |_| {}).is_err());
        assert_eq!(one.judge(&vec![0x30; 70_000], |_| {}), Err(ReceiptError::TooLong));
    }
}
