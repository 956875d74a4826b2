//! Security event tokens of other parties (RFC 8417), as Shared Signals, CAEP and RISC profile them: a session ended, a
//! device fell out of compliance, an account was disabled.
//!
//! [`Set::parse`] says who a token says it is from, so that the transmitter's keys can be found; [`verify_set`] checks it
//! with them. A token may come again: what it says is about a moment in the past, so obeying it twice changes nothing,
//! and a store of [`SecurityEventToken::jti`] only saves work.

mod error;
mod event;
mod subject;

pub use error::SetError;
pub use event::{Event, EventKind};
pub use subject::{ComplexSubject, SubjectId};

use std::fmt;
use std::time::Duration;

use base::Timestamp;
use serde_json::Value;

use crate::jose::{
    Alg, Compact, Fault, JsonObject, KeySet, Lookup, SignatureError, audiences, parse_compact_within, required, text,
};
use crate::token::date;

/// The longest token that is looked at, in bytes.
pub const MAX_SET_LEN: usize = 16 << 10;

/// The longest `jti`, `txn` and identifier of a subject, in bytes.
const MAX_STRING: usize = 1024;

/// How far in the future `iat` may lie.
const SKEW: Duration = Duration::from_mins(5);

/// A well-formed security event token. Nothing in it is verified.
pub struct Set<'t> {
    compact: Compact<'t>,
    claims: JsonObject,
    issuer: String,
}

impl<'t> Set<'t> {
    /// Read a token of at most [`MAX_SET_LEN`] bytes.
    pub fn parse(set: &'t str) -> Result<Self, SetError> {
        let compact = parse_compact_within(set, MAX_SET_LEN)?;
        // RFC 8417 section 2.3: other tokens of the same issuer must not be taken for events, nor events for tokens.
        if compact.header.typ.as_deref() != Some("secevent+jwt") {
            return Err(SetError::WrongTyp);
        }
        if compact.header.alg.is_symmetric() {
            return Err(SetError::AlgNotAllowed);
        }
        let claims = compact.claims()?;
        let issuer = required(&claims, "iss", MAX_STRING).map_err(|fault| failed("iss", fault))?.to_owned();
        Ok(Self { compact, claims, issuer })
    }

    /// Who it says it is from (`iss`), unverified: to find the transmitter.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }
}

/// Shows the header only: the rest is about people.
impl fmt::Debug for Set<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Set").field("compact", &self.compact).finish_non_exhaustive()
    }
}

/// What a security event token has to fit.
#[derive(Debug, Clone, Copy)]
pub struct ExpectedSet<'a> {
    /// The transmitter, by its exact `iss`.
    pub issuer: &'a str,
    /// What we are called in its tokens; one of these must be among theirs.
    pub audiences: &'a [String],
    /// The algorithms the transmitter uses; a symmetric one is refused even if listed.
    pub algorithms: &'a [Alg],
    /// The moment it was received.
    pub now: Timestamp,
}

/// A security event token that holds. Only [`verify_set`] makes one.
#[derive(Clone, PartialEq)]
pub struct SecurityEventToken {
    issuer: String,
    jti: String,
    issued_at: Timestamp,
    txn: Option<String>,
    subject: SubjectId,
    events: Vec<Event>,
}

impl SecurityEventToken {
    /// `iss`: the transmitter.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// `jti`, unique at its transmitter.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// `iat`.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// `txn`: the transaction it belongs to, for the record.
    pub fn txn(&self) -> Option<&str> {
        self.txn.as_deref()
    }

    /// `sub_id`: who or what the events are about.
    pub fn subject(&self) -> &SubjectId {
        &self.subject
    }

    /// The events, at least one.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// When an event happened: its own timestamp, or when the token was issued. Never in the future beyond the skew.
    pub fn happened_at(&self, event: &Event) -> Timestamp {
        event.at.map_or(self.issued_at, |at| at.min(self.issued_at.plus(SKEW)))
    }
}

/// Says which token it is and what happened; about whom stays out of logs.
impl fmt::Debug for SecurityEventToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SecurityEventToken");
        shown
            .field("issuer", &self.issuer)
            .field("jti", &self.jti)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}

/// Check a security event token with its transmitter's keys.
pub fn verify_set(set: &Set<'_>, keys: &KeySet, expected: &ExpectedSet<'_>) -> Result<SecurityEventToken, SetError> {
    let alg = set.compact.header.alg;
    if set.issuer != expected.issuer {
        return Err(SetError::WrongIssuer);
    }
    if alg.is_symmetric() || !expected.algorithms.contains(&alg) {
        return Err(SetError::AlgNotAllowed);
    }
    let key = match keys.find(set.compact.header.kid.as_deref(), alg, expected.algorithms) {
        Lookup::Found(key) if key.bind(expected.algorithms) == Some(alg) => key,
        Lookup::Found(_) => return Err(SetError::WrongAlg),
        Lookup::Unknown => return Err(SetError::UnknownKey),
        Lookup::Ambiguous => return Err(SetError::AmbiguousKey),
    };
    let signed = set.compact.signing_input.as_bytes();
    key.verify(alg, signed, &set.compact.signature).map_err(|error| match error {
        SignatureError::WrongAlg => SetError::WrongAlg,
        SignatureError::Invalid => SetError::BadSignature,
    })?;
    let claims = &set.claims;
    let to = audiences(claims).map_err(|fault| failed("aud", fault))?;
    if !to.iter().any(|name| expected.audiences.iter().any(|own| own == name)) {
        return Err(SetError::WrongAudience);
    }
    // Shared Signals Framework section 4.1: a token with exp or sub could be taken for one that lets somebody in.
    for name in ["exp", "sub"] {
        if claims.contains_key(name) {
            return Err(SetError::ForbiddenClaim(name));
        }
    }
    let jti = required(claims, "jti", MAX_STRING).map_err(|fault| failed("jti", fault))?;
    let issued_at = date(claims, "iat").map_err(|_| SetError::BadClaim("iat"))?.ok_or(SetError::MissingClaim("iat"))?;
    if issued_at > expected.now.plus(SKEW) {
        return Err(SetError::InFuture);
    }
    let txn = text(claims, "txn", MAX_STRING).map_err(|fault| failed("txn", fault))?;
    Ok(SecurityEventToken {
        issuer: set.issuer.clone(),
        jti: jti.to_owned(),
        issued_at,
        txn: txn.map(str::to_owned),
        subject: SubjectId::parse(object(claims, "sub_id")?)?,
        events: event::parse(object(claims, "events")?)?,
    })
}

fn object<'c>(claims: &'c JsonObject, name: &'static str) -> Result<&'c JsonObject, SetError> {
    claims.get(name).ok_or(SetError::MissingClaim(name))?.as_object().ok_or(SetError::BadClaim(name))
}

const fn failed(name: &'static str, fault: Fault) -> SetError {
    match fault {
        Fault::Missing => SetError::MissingClaim(name),
        Fault::Malformed => SetError::BadClaim(name),
    }
}

/// A member that is a string, if it is one.
fn word<'c>(object: &'c JsonObject, name: &str) -> Option<&'c str> {
    object.get(name).and_then(Value::as_str)
}
