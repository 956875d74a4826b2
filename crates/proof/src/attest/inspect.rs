//! One file of evidence, a printable verdict for each case in it: `vouchgate attest verify`.
//!
//! The same verifiers as for requests. What differs is where the expectations come from: the file may say when it was
//! recorded, for which app and with which challenge, and the operator's options go before what the file says. No I/O: what
//! a file names beside itself is asked for.

mod apple;
mod case;
mod google;

use base::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::chain::{Anchors, ChainError};
use super::status::{StatusError, StatusList};
use super::{Evidence, Flag, Level, Summary};
use crate::jose::JsonObject;
use case::Case;

/// The longest file, in bytes.
pub const MAX_FILE_LEN: usize = 8 << 20;

/// The most cases of one file.
const MAX_CASES: usize = 10_000;

/// What the operator asks for; each goes before what the file says.
#[derive(Debug, Default)]
pub struct Options {
    /// Other roots than the makers'.
    pub anchors: Option<Anchors>,
    /// The list of revoked certificates, for Android.
    pub status: Option<StatusList>,
    /// The app: `TEAMID.bundle.id`, or a package.
    pub app: Option<String>,
    /// The challenge: for App Attest the client data, whose hash the app passed.
    pub challenge: Option<Vec<u8>>,
    /// The moment to judge by.
    pub now: Option<Timestamp>,
}

impl Options {
    /// Other roots, from certificates in PEM.
    pub fn roots(pem: &str) -> Result<Anchors, ChainError> {
        Anchors::from_pem(pem)
    }

    /// A list of revoked certificates as Google publishes it.
    pub fn status(list: &[u8]) -> Result<StatusList, StatusError> {
        StatusList::parse(list)
    }
}

/// Why a file cannot be judged: an answer neither way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    /// Longer than [`MAX_FILE_LEN`].
    #[error("it is over 8 MiB")]
    TooLong,
    /// Neither JSON nor certificates in PEM.
    #[error("it is neither JSON nor certificates in PEM")]
    Form,
    /// JSON without anything that is evidence.
    #[error("there is no evidence of a known kind in it")]
    Unknown,
    /// More cases than are judged.
    #[error("it has over 10,000 cases")]
    TooMany,
    /// Something to judge by is neither in the file nor among the options.
    #[error("{0} is not in the file: give {1}")]
    Missing(&'static str, &'static str),
    /// Something to judge by cannot be read.
    #[error("{0} in the file cannot be read")]
    Malformed(&'static str),
    /// What the file names beside itself is not there.
    #[error("the file names {0:?}, which cannot be read beside it")]
    Beside(String),
}

impl InspectError {
    /// A stable code, for a case among others that can be judged.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLong | Self::Form | Self::Unknown | Self::TooMany => "no_evidence",
            Self::Missing(..) => "expectation_missing",
            Self::Malformed(_) => "expectation_malformed",
            Self::Beside(_) => "file_missing",
        }
    }
}

/// The verdict on one case, in the form it is printed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verdict {
    /// Whether the evidence holds. What it says is for a policy to weigh: see `level` and `flags`.
    pub valid: bool,
    /// `ok`, or the first thing that does not hold.
    pub reason: &'static str,
    /// The name of the case, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// What kind of evidence it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// How far it carries; `none` for what does not hold. Absent for assertions and receipts, which are worth what the
    /// attestation before them was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What a policy may act on.
    pub flags: Vec<Flag>,
    /// What else stands in it.
    #[serde(skip_serializing_if = "JsonObject::is_empty")]
    pub facts: JsonObject,
}

impl Verdict {
    fn refused(evidence: Evidence, reason: &'static str) -> Self {
        let (case, evidence, level) = (None, Some(evidence), Some(Level::None));
        Self { valid: false, reason, case, evidence, level, flags: Vec::new(), facts: JsonObject::new() }
    }

    /// Nothing to go by: not valid, since nothing was shown.
    fn not_judged(members: Option<&JsonObject>, error: &InspectError) -> Self {
        let (reason, case) = (error.reason(), members.and_then(name_of));
        Self { valid: false, reason, case, evidence: None, level: None, flags: Vec::new(), facts: JsonObject::new() }
    }

    fn holds(summary: Summary) -> Self {
        let Summary { evidence, level, flags, facts } = summary;
        Self { valid: true, reason: "ok", case: None, evidence: Some(evidence), level: Some(level), flags, facts }
    }

    /// Without a level of its own.
    fn without_level(self) -> Self {
        Self { level: None, ..self }
    }
}

/// A file, and how to read what lies beside it.
#[derive(Clone, Copy)]
pub struct File<'f> {
    /// Its content.
    pub bytes: &'f [u8],
    /// Its name without directories and without its ending.
    pub stem: &'f str,
    /// The content of a file in the same directory, by its bare name.
    pub beside: &'f dyn Fn(&str) -> Option<Vec<u8>>,
}

/// Judge every case of a file, in its order, `now` being the moment to judge by where neither the file nor the options
/// name one. A case that cannot be judged is not valid; it is an error if none can.
pub fn inspect(file: File<'_>, options: &Options, now: Timestamp) -> Result<Vec<Verdict>, InspectError> {
    if file.bytes.len() > MAX_FILE_LEN {
        return Err(InspectError::TooLong);
    }
    let text = std::str::from_utf8(file.bytes).map_err(|_| InspectError::Form)?;
    if !text.trim_start().starts_with(['{', '/']) {
        if !text.contains("-----BEGIN ") {
            return Err(InspectError::Form);
        }
        let empty = JsonObject::new();
        let case = Case { members: &empty, common: &empty, file, options, now };
        return google::chain_in_pem(text, &case).map(|verdict| vec![verdict]);
    }
    // Some of Google's recordings begin with a comment.
    let json: String = text.lines().filter(|line| !line.starts_with("//")).flat_map(|line| [line, "\n"]).collect();
    let value: Value = serde_json::from_str(&json).map_err(|_| InspectError::Form)?;
    let common = value.as_object().ok_or(InspectError::Form)?;
    let listed = ["cases", "receipts"].iter().find_map(|name| common.get(*name)?.as_array());
    let Some(listed) = listed else {
        let case = Case { members: common, common, file, options, now };
        return judge(&case).map(|verdict| vec![verdict]);
    };
    if listed.len() > MAX_CASES {
        return Err(InspectError::TooMany);
    }
    let (mut verdicts, mut first, mut judged) = (Vec::new(), None, listed.is_empty());
    for case in listed {
        let members = case.as_object();
        let verdict =
            members.map_or(Err(InspectError::Unknown), |members| judge(&Case { members, common, file, options, now }));
        judged |= verdict.is_ok();
        verdicts.push(verdict.unwrap_or_else(|error| {
            let verdict = Verdict::not_judged(members, &error);
            first.get_or_insert(error);
            verdict
        }));
    }
    match first {
        Some(error) if !judged => Err(error),
        _ => Ok(verdicts),
    }
}

fn name_of(members: &JsonObject) -> Option<String> {
    members.get("name").and_then(Value::as_str).map(str::to_owned)
}

/// Judge one case by what evidence it holds.
fn judge(case: &Case<'_>) -> Result<Verdict, InspectError> {
    let has = |name: &str| case.members.contains_key(name);
    let verdict = if has("attestation_b64") {
        apple::attestation(case)?
    } else if has("assertion_b64") {
        apple::assertion(case)?
    } else if has("receipt_b64") {
        apple::receipt(case)?
    } else if has("chain_b64") || has("chain") || has("attestationVersion") {
        google::chain(case)?
    } else if has("token") && case.get("decryption_key_b64").is_some() {
        google::play(case)?
    } else if has("token") && case.get("secret_b64").is_some() {
        google::approov(case)?
    } else {
        return Err(InspectError::Unknown);
    };
    Ok(Verdict { case: name_of(case.members), ..verdict })
}
