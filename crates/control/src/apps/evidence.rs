//! Evidence: what a request brings, judged by what the app is registered as.

mod kinds;

use std::sync::Arc;

use base::Timestamp;
use config::EvidenceKind;
use proof::attest::enrolment::Given;
use proof::attest::possession::InstanceKey;
use proof::attest::{Flag, Level, status::StatusList};
use proof::jose::JsonObject;
use serde_json::Value;
use store::UseUp;

pub(super) use kinds::{
    NEW_RECEIPT, binary, judge, judge_assertion, level_of, of_key, once, play_rules, relying_party, sha256,
    work_context, work_done,
};

use super::in_force::AppInForce;
use super::refusal::{Action, Refused};

/// What kind evidence is, as configuration names it.
pub(super) const fn kind_of(given: &Given) -> EvidenceKind {
    match given {
        Given::AppAttest { .. } => EvidenceKind::AppleAppAttest,
        Given::AndroidKey { .. } => EvidenceKind::AndroidKey,
        Given::Play { .. } => EvidenceKind::PlayIntegrity,
        Given::Altcha { .. } => EvidenceKind::Altcha,
        Given::Turnstile { .. } => EvidenceKind::Turnstile,
        Given::Hcaptcha { .. } => EvidenceKind::Hcaptcha,
        Given::Recaptcha { .. } => EvidenceKind::Recaptcha,
        Given::WebAuthn { .. } => EvidenceKind::Webauthn,
        Given::AppCheck { .. } => EvidenceKind::Appcheck,
        Given::Approov { .. } => EvidenceKind::Approov,
    }
}

/// On which kind of device evidence is made.
pub(super) const fn platform(kind: EvidenceKind) -> Option<&'static str> {
    match kind {
        EvidenceKind::AppleAppAttest => Some("ios"),
        EvidenceKind::AndroidKey | EvidenceKind::PlayIntegrity => Some("android"),
        EvidenceKind::Altcha
        | EvidenceKind::Turnstile
        | EvidenceKind::Hcaptcha
        | EvidenceKind::Recaptcha
        | EvidenceKind::Webauthn => Some("web"),
        EvidenceKind::Appcheck | EvidenceKind::Approov => None,
    }
}

/// What evidence is judged by, besides the app.
#[derive(Debug)]
pub(super) struct Circumstances {
    /// The app.
    pub(super) app: Arc<AppInForce>,
    /// The client data, as sent.
    pub(super) client_data: Vec<u8>,
    /// The nonce in it.
    pub(super) nonce: String,
    /// The installation's key.
    pub(super) key: InstanceKey,
    /// The moment.
    pub(super) now: Timestamp,
    /// What is revoked, or why that is not known.
    pub(super) revoked: Result<Arc<StatusList>, &'static str>,
    /// Keys that proofs of work are signed with: the present one and the one before.
    pub(super) work_keys: Vec<[u8; 32]>,
}

/// Evidence that holds.
#[derive(Debug)]
pub(super) struct Judged {
    /// What it is; the first is what the installation enrols with.
    pub(super) kinds: Vec<EvidenceKind>,
    /// How far it carries.
    pub(super) level: Level,
    /// What a policy may act on.
    pub(super) flags: Vec<Flag>,
    /// What else stands in it.
    pub(super) facts: JsonObject,
    /// What it is known by.
    pub(super) evidence_key: [u8; 32],
    /// The key that signs assertions.
    pub(super) attested_key: Option<Vec<u8>>,
    /// Where the counter of a passkey begins.
    pub(super) counter: u32,
    /// `production` or `development`.
    pub(super) environment: Option<&'static str>,
    /// How the app was distributed.
    pub(super) category: Option<u16>,
    /// The app's version.
    pub(super) version: Option<String>,
    /// Serial numbers to look up again.
    pub(super) serials: Vec<String>,
    /// The receipt that came with it, where it is kept, and from when on there is another for it.
    pub(super) receipt: Option<(Vec<u8>, Option<Timestamp>)>,
    /// What counts once.
    pub(super) used: Vec<UseUp>,
    /// What somebody else calls the device.
    pub(super) device: Option<String>,
    /// What somebody else noted.
    pub(super) annotations: Vec<String>,
}

impl Judged {
    /// Evidence of one kind, known by `evidence_key`.
    pub(super) fn new(kind: EvidenceKind, summary: proof::attest::Summary, evidence_key: [u8; 32]) -> Self {
        Self {
            kinds: vec![kind],
            level: summary.level,
            flags: summary.flags,
            facts: summary.facts,
            evidence_key,
            attested_key: None,
            counter: 0,
            environment: None,
            category: None,
            version: None,
            serials: Vec::new(),
            receipt: None,
            used: Vec::new(),
            device: None,
            annotations: Vec::new(),
        }
    }
}

impl Judged {
    /// Google's verdict beside it.
    pub(super) fn add_play(&mut self, verdict: proof::attest::Summary) {
        self.kinds.push(EvidenceKind::PlayIntegrity);
        self.flags.extend(verdict.flags);
        self.facts.insert("play_integrity".to_owned(), verdict.facts.into());
    }
}

/// Evidence does not hold. What is old can be updated, what could not be looked up can be tried again; all else is told alike.
fn refused(reason: &'static str) -> Refused {
    let action = match reason {
        "app_version_too_old" => Action::Update,
        "revocation_list_missing" | "revocation_list_stale" => Action::RetryAfter,
        _ => Action::None,
    };
    Refused::new(action, reason)
}

/// Flags as they are kept.
pub(super) fn kept(flags: &[Flag]) -> String {
    serde_json::to_string(flags).unwrap_or_else(|_| "[]".to_owned())
}

/// Flags that were kept, but for those the app reported of itself.
pub(super) fn not_reported(kept: &str) -> Vec<Flag> {
    let kept: Vec<Value> = serde_json::from_str(kept).unwrap_or_default();
    let flag = |flag: &Value| {
        let value = match flag.get("value")? {
            Value::Bool(set) => proof::attest::FlagValue::Set(*set),
            Value::Number(number) => proof::attest::FlagValue::Number(number.as_i64()?),
            Value::String(text) => proof::attest::FlagValue::Text(text.clone()),
            _ => return None,
        };
        Flag::new(flag.get("name")?.as_str()?, value)
    };
    let reported = |flag: &Flag| flag.provenance() == proof::attest::Provenance::Reported;
    kept.iter().filter_map(flag).filter(|flag| !reported(flag)).collect()
}
