//! Recorded attestations, assertions and receipts of App Attest.

use serde_json::Value;

use super::case::{Case, decode, point};
use super::{Evidence, InspectError, Summary, Verdict};
use crate::attest::apple::{
    self, AssertionRules, AttestationRules, ClientData, Environment, ReceiptError, ReceiptRules,
};
use crate::attest::flag::Flags as _;
use crate::jose::JsonObject;

const APP: Evidence = Evidence::AppleAppAttest;

/// `{app_id, attestation_b64, key_id_b64?, environment?, challenge..}`
pub(super) fn attestation(case: &Case<'_>) -> Result<Verdict, InspectError> {
    let Some(object) = evidence(case, "attestation_b64") else { return Ok(Verdict::refused(APP, "bad_base64")) };
    let (app, data) = (app(case)?, client_data(case)?);
    let anchors = case.anchors(|| apple::attestation_root().ok())?;
    let environments = match case.text("environment") {
        None => vec![Environment::Production, Environment::Development],
        Some(name) => vec![Environment::from_name(name).ok_or(InspectError::Malformed("environment"))?],
    };
    let key_id = case.bytes("key_id_b64")?;
    let rules = AttestationRules {
        anchors: &anchors,
        now: case.moment()?,
        app_ids: &[app],
        environments: &environments,
        client_data: data.as_ref(),
        key_id: key_id.as_deref(),
    };
    Ok(match apple::verify_attestation(&object, &rules) {
        Err(error) => Verdict::refused(APP, error.reason()),
        Ok(verified) => {
            let mut summary = verified.summary;
            if case.has_makers_roots() {
                let rules = ReceiptRules {
                    anchors: &apple::receipt_root().map_err(|_| InspectError::Malformed("the built-in root"))?,
                    now: None,
                    app_ids: &[app],
                    public_key: Some(&verified.public_key),
                    max_age: None,
                };
                let receipt = apple::verify_receipt(&verified.receipt, &rules);
                let said = receipt.map_or_else(ReceiptError::reason, |_| "ok");
                summary.facts.insert("receipt".into(), said.into());
            }
            Verdict::holds(summary)
        }
    })
}

/// `{app_id, public_key_pem, assertion_b64, previous_counter?, client_data..}`
pub(super) fn assertion(case: &Case<'_>) -> Result<Verdict, InspectError> {
    let Some(object) = evidence(case, "assertion_b64") else { return Ok(Verdict::refused(APP, "bad_base64")) };
    let (app, data) = (app(case)?, client_data(case)?);
    let pem = case.text("public_key_pem").ok_or(InspectError::Malformed("public_key_pem"))?;
    let public_key = point(pem).ok_or(InspectError::Malformed("public_key_pem"))?;
    let previous = case.get("previous_counter").map_or(Some(0), Value::as_u64);
    let previous_counter = previous.and_then(|counter| u32::try_from(counter).ok());
    let previous_counter = previous_counter.ok_or(InspectError::Malformed("previous_counter"))?;
    let rules =
        AssertionRules { public_key: &public_key, app_ids: &[app], previous_counter, client_data: data.as_ref() };
    let verdict = match apple::verify_assertion(&object, &rules) {
        Err(error) => Verdict::refused(APP, error.reason()),
        Ok(verified) => {
            let (mut flags, mut facts) = (Vec::new(), JsonObject::new());
            if let Some(category) = verified.extensions.category {
                flags.number("category", category.into());
            }
            facts.insert("app_id".into(), verified.app_id.into());
            facts.insert("counter".into(), verified.counter.into());
            verified.extensions.describe(&mut facts);
            Verdict::holds(Summary { evidence: APP, level: super::Level::None, flags, facts })
        }
    };
    Ok(verdict.without_level())
}

/// `{receipt_b64}` in a file with `app_id` and `public_key_pem`.
pub(super) fn receipt(case: &Case<'_>) -> Result<Verdict, InspectError> {
    let Some(receipt) = evidence(case, "receipt_b64") else { return Ok(Verdict::refused(APP, "bad_base64")) };
    let app = app(case)?;
    let anchors = case.anchors(|| apple::receipt_root().ok())?;
    let key = case.text("public_key_pem").map(|pem| point(pem).ok_or(InspectError::Malformed("public_key_pem")));
    let key = key.transpose()?;
    let now = case.named_moment()?;
    let rules = ReceiptRules { anchors: &anchors, now, app_ids: &[app], public_key: key.as_ref(), max_age: None };
    let verdict = match apple::verify_receipt(&receipt, &rules) {
        Err(error) => Verdict::refused(APP, error.reason()),
        Ok(receipt) => {
            let mut flags = Vec::new();
            if let Some(metric) = receipt.risk_metric {
                flags.number("fraud_metric", metric.into());
            }
            Verdict::holds(Summary { evidence: APP, level: super::Level::None, flags, facts: receipt.facts() })
        }
    };
    Ok(verdict.without_level())
}

/// The evidence itself: that it cannot be decoded is an answer.
fn evidence(case: &Case<'_>, name: &str) -> Option<Vec<u8>> {
    case.members.get(name).and_then(decode)
}

fn app<'c>(case: &Case<'c>) -> Result<&'c str, InspectError> {
    case.options.app.as_deref().or_else(|| case.text("app_id")).ok_or(InspectError::Missing("the app", "--app"))
}

/// What the app passed, as far as it is known.
enum Data {
    Plain(Vec<u8>),
    AsHash(Vec<u8>),
}

impl Data {
    fn as_ref(&self) -> ClientData<'_> {
        match self {
            Self::Plain(data) => ClientData::Plain(data),
            Self::AsHash(hash) => ClientData::AsHash(hash),
        }
    }
}

/// `challenge_b64` or `client_data_b64`, whose hash was passed; `client_data_hash: {mode, challenge_b64, value_b64}` with
/// `mode` `raw` where the challenge itself was passed as if it were a hash; or only `client_data_hash_b64`.
fn client_data(case: &Case<'_>) -> Result<Data, InspectError> {
    let hash = case.get("client_data_hash").and_then(Value::as_object);
    let raw = hash.and_then(|hash| hash.get("mode")).and_then(Value::as_str) == Some("raw");
    let known = |data| if raw { Data::AsHash(data) } else { Data::Plain(data) };
    if let Some(challenge) = &case.options.challenge {
        return Ok(known(challenge.clone()));
    }
    let of_hash = |name: &'static str| {
        let value = hash.and_then(|hash| hash.get(name)).filter(|value| !value.is_null());
        value.map(|value| decode(value).ok_or(InspectError::Malformed(name))).transpose()
    };
    let plain = [of_hash("challenge_b64")?, case.bytes("challenge_b64")?, case.bytes("client_data_b64")?];
    if let Some(data) = plain.into_iter().flatten().next() {
        return Ok(known(data));
    }
    let hashes = [of_hash("value_b64")?, case.bytes("client_data_hash_b64")?];
    hashes.into_iter().flatten().next().map(Data::AsHash).ok_or(InspectError::Missing("the challenge", "--challenge"))
}
