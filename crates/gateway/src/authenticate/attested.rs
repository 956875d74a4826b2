//! Tokens of installations of apps: what they say the installation has proved to be, and what they demand of a request besides.
//!
//! Only our own tokens say such things: the same claims of another issuer mean nothing here.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use base::Money;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use config::{AttestationLevel, RiskThrottle};
use http::HeaderMap;
use policy::Attested;
use proof::token::VerifiedToken;
use serde_json::Value;

use super::AuthenticateError;
use crate::snapshot::Snapshot;

/// What an installation has proved to be.
pub(super) fn of(token: &VerifiedToken) -> Option<Attested<'_>> {
    let level = own(token, "lvl")?.as_str().and_then(AttestationLevel::from_name)?;
    let list = |name| own(token, name).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    Some(Attested { level, evidence: list("att"), annotations: list("anno"), throttle: throttle(token) })
}

/// Whose installation it is, and the TLS stack it enrolled with.
pub(super) fn installation(token: &VerifiedToken) -> Option<(&str, Option<&str>)> {
    own(token, "lvl")?;
    Some((token.client_id()?, own(token, "tls").and_then(Value::as_str)))
}

/// How much an installation may ask and spend. What cannot be read lets nothing through that could be counted.
fn throttle(token: &VerifiedToken) -> Option<RiskThrottle> {
    let throttle = own(token, "thr")?;
    let number = |name| throttle.get(name).filter(|value| !value.is_null());
    let rpm = number("rpm").map(|rpm| rpm.as_u64().and_then(|rpm| rpm.try_into().ok()).unwrap_or(1));
    let usd_day = number("nano_usd_day").map(|nano| Money::from_nano_usd(nano.as_u64().unwrap_or(0).into()));
    Some(RiskThrottle { rpm, usd_day })
}

/// Whether every request with the token has to be signed (RFC 9421), and a `DPoP` proof alone does not do.
pub(super) fn demands_signature(token: &VerifiedToken) -> bool {
    own(token, "pop").and_then(Value::as_str) == Some("signature")
}

/// A token that was given together with the app's own user's token is good beside that one only.
pub(super) fn check_user(
    token: &VerifiedToken,
    headers: &HeaderMap,
    snapshot: &Snapshot,
) -> Result<(), AuthenticateError> {
    let Some(bound) = own(token, "pay") else { return Ok(()) };
    let bound = bound.as_str().unwrap_or_default();
    let header = token.client_id().and_then(|client| snapshot.user_tokens.get(client));
    let mut values = headers.get_all(header.ok_or(AuthenticateError::UserToken)?).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return Err(AuthenticateError::UserToken) };
    let found = STANDARD.encode(digest::digest(&digest::SHA256, value.as_bytes()));
    verify_slices_are_equal(found.as_bytes(), bound.as_bytes()).map_err(|_| AuthenticateError::UserToken)
}

/// A claim of a token of ours.
fn own<'t>(token: &'t VerifiedToken, name: &str) -> Option<&'t Value> {
    if token.issuer().as_str() == config::OWN_NAME { token.claims().get(name) } else { None }
}
