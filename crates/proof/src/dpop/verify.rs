//! The checks of RFC 9449 section 4.3. The first, that there is only one proof, is the edge's; a text that joins
//! several is not one signed object and fails the second.

use std::fmt;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{Context, SHA256};
use base::Timestamp;
use serde_json::Value;

use super::{DpopError, TargetUri};
use crate::jose::{
    Alg, Compact, JoseError, JsonObject, SignatureError, VerifyingKey, base64url_encode, parse_compact_within,
};

/// The longest proof that is looked at, in bytes.
pub const MAX_PROOF_LEN: usize = 8 << 10;

/// The longest `jti`, in bytes (RFC 9449 section 11.1: bounded, or an attacker fills the replay store's time).
pub const MAX_JTI_LEN: usize = 256;

/// The longest `nonce`, in bytes.
const MAX_NONCE_LEN: usize = 1024;

/// Seconds of the last moment of the year 9999.
const MAX_DATE: i64 = 253_402_300_799;

/// How long a proof lives, where nothing else is configured.
pub const DEFAULT_MAX_AGE: Duration = Duration::from_mins(1);

/// The clock difference that is forgiven in both directions, where nothing else is configured.
pub const DEFAULT_SKEW: Duration = Duration::from_secs(5);

/// The algorithms that are accepted, where nothing else is configured. All are asymmetric (RFC 9449 section 11.6).
pub const ALGORITHMS: [Alg; 10] = [
    Alg::Es256,
    Alg::Es384,
    Alg::Es512,
    Alg::EdDsa,
    Alg::Ps256,
    Alg::Ps384,
    Alg::Ps512,
    Alg::Rs256,
    Alg::Rs384,
    Alg::Rs512,
];

/// A well-formed proof with a key that may be used. Nothing in it is verified.
pub struct Proof<'t> {
    compact: Compact<'t>,
    key: VerifyingKey,
    jti: String,
    htm: String,
    htu: TargetUri,
    issued_at: Timestamp,
    ath: Option<String>,
    nonce: Option<String>,
}

impl<'t> Proof<'t> {
    /// Read a proof: one signed object of at most [`MAX_PROOF_LEN`] bytes with the right `typ`, an asymmetric algorithm,
    /// a public key that passes the same import as every other key, and claims of the right types.
    pub fn parse(text: &'t str) -> Result<Self, DpopError> {
        let compact = parse_compact_within(text, MAX_PROOF_LEN)?;
        if compact.header.typ.as_deref() != Some("dpop+jwt") {
            return Err(DpopError::WrongTyp);
        }
        let alg = compact.header.alg;
        if alg.is_symmetric() {
            return Err(DpopError::AlgNotAllowed);
        }
        // Claims before the key: they cost less.
        let claims = compact.claims()?;
        let jti = required(&claims, "jti", MAX_JTI_LEN)?;
        let htm = required(&claims, "htm", MAX_PROOF_LEN)?;
        let htu = TargetUri::parse(&required(&claims, "htu", MAX_PROOF_LEN)?)?;
        let issued_at = issued_at(&claims)?;
        let ath = optional(&claims, "ath", MAX_PROOF_LEN)?;
        let nonce = optional(&claims, "nonce", MAX_NONCE_LEN)?;
        let key = compact.header.members().get("jwk").ok_or(DpopError::MissingKey)?;
        let key = VerifyingKey::from_embedded(key, alg)?;
        Ok(Self { compact, key, jti, htm, htu, issued_at, ath, nonce })
    }

    /// The thumbprint of the proof's own key (RFC 7638), which nonces are bound to. Nobody has vouched for it yet.
    pub fn jkt(&self) -> &[u8; 32] {
        self.key.thumbprint()
    }

    /// The header as sent, unverified.
    pub fn header(&self) -> &JsonObject {
        self.compact.header.members()
    }

    /// The target the proof is for, unverified: to find which of several origins it means.
    pub fn target(&self) -> &TargetUri {
        &self.htu
    }

    /// The nonce the proof names, unverified.
    pub fn nonce(&self) -> Option<&str> {
        self.nonce.as_deref()
    }
}

/// Shows the header only: the rest can be replayed.
impl fmt::Debug for Proof<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("compact", &self.compact).finish_non_exhaustive()
    }
}

/// What a proof has to fit.
#[derive(Debug, Clone, Copy)]
pub struct Expectation<'a> {
    /// The request's method, compared with case (RFC 9110 section 9.1).
    pub method: &'a str,
    /// The request's target under the configured external origin, never one taken from a Host header.
    pub target: &'a TargetUri,
    /// SHA-256 of the access token that comes with the proof; then `ath` is required. `None`: there is no token, as at
    /// the token endpoint.
    pub token_hash: Option<[u8; 32]>,
    /// The thumbprint the token is bound to (`cnf.jkt`).
    pub jkt: Option<[u8; 32]>,
    /// The nonces that are accepted now; the proof must have one of them. `None`: no nonce was asked for.
    pub nonces: Option<&'a [&'a str]>,
    /// Accepted algorithms; a symmetric one is refused even if listed.
    pub algorithms: &'a [Alg],
    /// How long a proof lives.
    pub max_age: Duration,
    /// Forgiven clock difference: a proof may be this much older than `max_age`, or made this far in the future.
    pub skew: Duration,
    /// The moment of the request.
    pub now: Timestamp,
}

impl<'a> Expectation<'a> {
    /// A request without a token and without a nonce, under the default algorithms and times.
    pub fn new(method: &'a str, target: &'a TargetUri, now: Timestamp) -> Self {
        Self {
            method,
            target,
            token_hash: None,
            jkt: None,
            nonces: None,
            algorithms: &ALGORITHMS,
            max_age: DEFAULT_MAX_AGE,
            skew: DEFAULT_SKEW,
            now,
        }
    }
}

/// A proof that fits its request. Only [`verify`] makes one.
///
/// ```
/// fn holder(proof: &proof::dpop::VerifiedProof) -> &[u8; 32] {
///     proof.jkt()
/// }
/// ```
///
/// Nobody else can:
///
/// ```compile_fail,E0451
/// fn forge(proof: proof::dpop::VerifiedProof) -> proof::dpop::VerifiedProof {
///     proof::dpop::VerifiedProof { jkt: [0; 32], ..proof }
/// }
/// ```
pub struct VerifiedProof {
    jkt: [u8; 32],
    jti: String,
    issued_at: Timestamp,
    acceptable_until: Timestamp,
    replay_key: [u8; 32],
}

impl VerifiedProof {
    /// The thumbprint of the key whose possession is proved.
    pub fn jkt(&self) -> &[u8; 32] {
        &self.jkt
    }

    /// The thumbprint as base64url, as in `cnf.jkt`.
    pub fn jkt_text(&self) -> String {
        base64url_encode(self.jkt)
    }

    /// `jti`.
    pub fn jti(&self) -> &str {
        &self.jti
    }

    /// `iat`.
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// The last moment at which the same proof would be accepted again: so long its replay key must be remembered.
    pub fn acceptable_until(&self) -> Timestamp {
        self.acceptable_until
    }

    /// What is used up: SHA-256 of key, method, normalised target and `jti` (RFC 9449 section 11.1). A new signature,
    /// another `iat` or another spelling of the target does not change it; any prefix of 16 bytes is enough for a store.
    pub fn replay_key(&self) -> [u8; 32] {
        self.replay_key
    }
}

/// Says which key it is of; the `jti` stays out of logs.
impl fmt::Debug for VerifiedProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("VerifiedProof");
        shown.field("jkt", &self.jkt_text()).field("issued_at", &self.issued_at).finish_non_exhaustive()
    }
}

/// Check a proof against its request. What costs little comes before the signature; the nonce comes last, so that only
/// who holds the key is told to fetch one.
pub fn verify(proof: &Proof<'_>, expected: &Expectation<'_>) -> Result<VerifiedProof, DpopError> {
    let alg = proof.compact.header.alg;
    if alg.is_symmetric() || !expected.algorithms.contains(&alg) {
        return Err(DpopError::AlgNotAllowed);
    }
    if proof.htm != expected.method {
        return Err(DpopError::WrongMethod);
    }
    if proof.htu != *expected.target {
        return Err(DpopError::WrongTarget);
    }
    let acceptable_until = proof.issued_at.plus(expected.max_age.saturating_add(expected.skew));
    if expected.now > acceptable_until {
        return Err(DpopError::TooOld);
    }
    if proof.issued_at > expected.now.plus(expected.skew) {
        return Err(DpopError::InFuture);
    }
    if let Some(hash) = expected.token_hash {
        let ath = proof.ath.as_deref().ok_or(DpopError::MissingClaim("ath"))?;
        if ath != base64url_encode(hash) {
            return Err(DpopError::WrongToken);
        }
    }
    if expected.jkt.is_some_and(|jkt| jkt != *proof.jkt()) {
        return Err(DpopError::WrongKey);
    }
    let signed = proof.compact.signing_input.as_bytes();
    proof.key.verify(alg, signed, &proof.compact.signature).map_err(|error| match error {
        SignatureError::WrongAlg => DpopError::WrongAlg,
        SignatureError::Invalid => DpopError::BadSignature,
    })?;
    if let Some(nonces) = expected.nonces {
        let nonce = proof.nonce.as_deref().ok_or(DpopError::NonceRequired)?.as_bytes();
        // In constant time, because a nonce may be a MAC.
        if !nonces.iter().any(|accepted| verify_slices_are_equal(accepted.as_bytes(), nonce).is_ok()) {
            return Err(DpopError::WrongNonce);
        }
    }
    Ok(VerifiedProof {
        jkt: *proof.jkt(),
        jti: proof.jti.clone(),
        issued_at: proof.issued_at,
        acceptable_until,
        replay_key: replay_key(proof),
    })
}

/// Method and target equal the request's by now, and neither can hold the zero byte that ends it.
fn replay_key(proof: &Proof<'_>) -> [u8; 32] {
    let mut hash = Context::new(&SHA256);
    hash.update(proof.jkt());
    for part in [proof.htm.as_str(), proof.htu.as_str()] {
        hash.update(part.as_bytes());
        hash.update(&[0]);
    }
    hash.update(proof.jti.as_bytes());
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(hash.finish().as_ref()) {
        *to = *from;
    }
    key
}

/// A string claim of 1 to `longest` bytes without control characters, which have no place in any of them.
fn optional(claims: &JsonObject, name: &'static str, longest: usize) -> Result<Option<String>, DpopError> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let text = value.as_str().ok_or(DpopError::BadClaim(name))?;
    if text.is_empty() || text.len() > longest || text.chars().any(char::is_control) {
        return Err(DpopError::BadClaim(name));
    }
    Ok(Some(text.to_owned()))
}

fn required(claims: &JsonObject, name: &'static str, longest: usize) -> Result<String, DpopError> {
    optional(claims, name, longest)?.ok_or(DpopError::MissingClaim(name))
}

/// `iat` in whole seconds: no client writes fractions, and one spelling of a moment is enough.
fn issued_at(claims: &JsonObject) -> Result<Timestamp, DpopError> {
    let value: &Value = claims.get("iat").ok_or(DpopError::MissingClaim("iat"))?;
    let secs = value.as_i64().filter(|secs| (0..=MAX_DATE).contains(secs)).ok_or(DpopError::BadClaim("iat"))?;
    Ok(Timestamp::from_secs(secs))
}

/// Text from bytes, as a header or a file gives them.
pub(super) fn text(bytes: &[u8]) -> Result<&str, DpopError> {
    std::str::from_utf8(bytes).map_err(|_| DpopError::Malformed(JoseError::NotCompact))
}
