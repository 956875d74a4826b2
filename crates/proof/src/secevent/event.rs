//! What happened: the events of CAEP 1.0, RISC 1.0 and the Shared Signals Framework itself.

use base::Timestamp;
use serde_json::Value;

use super::{MAX_STRING, SetError, word};
use crate::jose::{JsonObject, text};
use crate::token::date;

/// The most events of one token. Profiles allow one; RFC 8417 allows several about the same thing.
const MAX_EVENTS: usize = 8;

const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";
/// What the framework was called before.
const SSE: &str = "https://schemas.openid.net/secevent/sse/event-type/";

/// One event of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When it happened (`event_timestamp`), if the event says.
    pub at: Option<Timestamp>,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// CAEP `session-revoked`; RISC `sessions-revoked` for all sessions of the subject.
    SessionRevoked,
    /// CAEP `credential-change`.
    CredentialChange {
        /// `credential_type`: `password`, `fido2-roaming`, ...
        credential: String,
        /// `change_type`: `create`, `revoke`, `update` or `delete`.
        change: String,
    },
    /// CAEP `token-claims-change`.
    TokenClaimsChange,
    /// CAEP `device-compliance-change`.
    DeviceComplianceChange {
        /// Whether the device complies now.
        compliant: bool,
    },
    /// CAEP `assurance-level-change`.
    AssuranceLevelChange {
        /// `current_level`.
        current: String,
        /// `change_direction`, `increase` or `decrease`, if told.
        direction: Option<String>,
    },
    /// CAEP `risk-level-change`.
    RiskLevelChange {
        /// `current_level`: `LOW`, `MEDIUM` or `HIGH`.
        current: String,
    },
    /// RISC `account-disabled`.
    AccountDisabled,
    /// RISC `account-purged`.
    AccountPurged,
    /// RISC `credential-compromise`.
    CredentialCompromise,
    /// `verification`: the transmitter shows that the stream works.
    Verification {
        /// What we asked to hear, if we asked.
        state: Option<String>,
    },
    /// `stream-updated`: `enabled`, `paused` or `disabled`.
    StreamUpdated {
        /// `status`.
        status: String,
    },
    /// An event that nothing here acts on, by its URI.
    Unknown(String),
}

/// Read the `events` claim.
pub(super) fn parse(events: &JsonObject) -> Result<Vec<Event>, SetError> {
    if events.is_empty() || events.len() > MAX_EVENTS {
        return Err(SetError::BadClaim("events"));
    }
    events.iter().map(|(uri, members)| one(uri, members)).collect()
}

fn one(uri: &str, members: &Value) -> Result<Event, SetError> {
    let bad = SetError::BadClaim("events");
    let members = members.as_object().ok_or(bad)?;
    let of = |name: &str| text(members, name, MAX_STRING).map_err(|_| bad);
    let must = |name: &str| of(name)?.map(str::to_owned).ok_or(bad);
    let (family, name) = family(uri);
    let kind = match (family, name) {
        (CAEP, "session-revoked") | (RISC, "sessions-revoked") => EventKind::SessionRevoked,
        (CAEP, "credential-change") => {
            EventKind::CredentialChange { credential: must("credential_type")?, change: must("change_type")? }
        }
        (CAEP, "token-claims-change") => EventKind::TokenClaimsChange,
        (CAEP, "device-compliance-change") => EventKind::DeviceComplianceChange {
            compliant: match must("current_status")?.as_str() {
                "compliant" => true,
                "not-compliant" => false,
                _ => return Err(bad),
            },
        },
        (CAEP, "assurance-level-change") => EventKind::AssuranceLevelChange {
            current: must("current_level")?,
            direction: of("change_direction")?.map(str::to_owned),
        },
        (CAEP, "risk-level-change") => EventKind::RiskLevelChange { current: must("current_level")? },
        (RISC, "account-disabled") => EventKind::AccountDisabled,
        (RISC, "account-purged") => EventKind::AccountPurged,
        (RISC, "credential-compromise") => EventKind::CredentialCompromise,
        (SSF | SSE, "verification") => EventKind::Verification { state: of("state")?.map(str::to_owned) },
        (SSF | SSE, "stream-updated") => EventKind::StreamUpdated { status: must("status")? },
        _ if uri.len() <= MAX_STRING && !uri.chars().any(char::is_control) => EventKind::Unknown(uri.to_owned()),
        _ => return Err(bad),
    };
    let at = date(members, "event_timestamp").map_err(|_| bad)?;
    // Older profiles name the subject within the event: such a token says nothing that could be obeyed.
    if word(members, "subject").is_some() || members.get("subject").is_some_and(Value::is_object) {
        return Err(bad);
    }
    Ok(Event { kind, at })
}

fn family(uri: &str) -> (&'static str, &str) {
    let found = [CAEP, RISC, SSF, SSE].into_iter().find_map(|family| Some((family, uri.strip_prefix(family)?)));
    found.unwrap_or(("", uri))
}
