//! One proof, one request, a printable verdict: `vouchgate dpop verify`.

use std::time::Duration;

use base::Timestamp;
use serde::Serialize;

use super::verify::text;
use super::{DpopError, Expectation, MAX_PROOF_LEN, Proof, TargetUri, verify};
use crate::jose::{
    JsonObject, VerifyingKey, base64url_decode, base64url_encode, parse_compact, parse_compact_within, sha256,
};

/// What an operator asks of a proof.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The request's method.
    pub method: &'a str,
    /// The request's target.
    pub target: &'a TargetUri,
    /// The access token the proof came with. It is not verified; but if it is a JWT that names its holder's key
    /// (`cnf.jkt`), the proof must be by that key.
    pub token: Option<&'a [u8]>,
    /// The nonce the server had given.
    pub nonce: Option<&'a str>,
    /// How long a proof lives.
    pub max_age: Duration,
    /// The moment of the request.
    pub now: Timestamp,
}

/// The verdict, in the form it is printed.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Whether every check holds. Whether the proof was used before is not among them.
    pub valid: bool,
    /// `ok`, or the first thing that does not hold.
    pub reason: &'static str,
    /// The header as sent, where it can be read. Not to be trusted unless `valid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<JsonObject>,
    /// The claims, where they can be read. Not to be trusted unless `valid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<JsonObject>,
    /// The thumbprint of the proof's key, only when `valid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jkt: Option<String>,
}

/// Judge a proof, as read from standard input: one line break at its end is not part of it, nor of the token.
pub fn inspect(proof: &[u8], question: &Question<'_>) -> Verdict {
    let proof = line(proof);
    let compact = std::str::from_utf8(proof).ok().and_then(|text| parse_compact_within(text, MAX_PROOF_LEN).ok());
    let claims = compact.as_ref().and_then(|compact| compact.claims().ok());
    let header = compact.map(|compact| compact.header.members().clone());
    match judge(proof, question) {
        Ok(jkt) => Verdict { valid: true, reason: "ok", header, claims, jkt: Some(jkt) },
        Err(error) => Verdict { valid: false, reason: error.reason(), header, claims, jkt: None },
    }
}

fn judge(proof: &[u8], question: &Question<'_>) -> Result<String, DpopError> {
    let proof = Proof::parse(text(proof)?)?;
    let token = question.token.map(line);
    let nonces = question.nonce.map(|nonce| [nonce]);
    let expected = Expectation {
        token_hash: token.map(sha256),
        jkt: token.map(bound_to).transpose()?.flatten(),
        nonces: nonces.as_ref().map(<[&str; 1]>::as_slice),
        max_age: question.max_age,
        ..Expectation::new(question.method, question.target, question.now)
    };
    verify(&proof, &expected).map(|verified| base64url_encode(verified.jkt()))
}

/// The thumbprint of the key in the token's `cnf`, if the token is a JWT that names one there by `jkt` or holds it as
/// `jwk`. One that no key can have fits no key.
fn bound_to(token: &[u8]) -> Result<Option<[u8; 32]>, DpopError> {
    let claims = std::str::from_utf8(token).ok().and_then(|token| parse_compact(token).ok()?.claims().ok());
    let Some(cnf) = claims.as_ref().and_then(|claims| claims.get("cnf")) else { return Ok(None) };
    let named = match (cnf.get("jkt"), cnf.get("jwk")) {
        (Some(jkt), _) => jkt.as_str().and_then(base64url_decode).and_then(|jkt| <[u8; 32]>::try_from(jkt).ok()),
        (None, Some(jwk)) => VerifyingKey::from_confirmation(jwk).ok().map(|key| *key.thumbprint()),
        (None, None) => return Ok(None),
    };
    named.map(Some).ok_or(DpopError::WrongKey)
}

/// Without the line break an editor leaves at the end (one LF or CRLF).
fn line(bytes: &[u8]) -> &[u8] {
    bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line))
}
