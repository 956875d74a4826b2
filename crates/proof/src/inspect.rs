//! One token, a key file, a printable verdict: `vouchgate jwt verify`.
//!
//! The same parser, key import and signature check as for requests. What differs is that the operator hands over the
//! keys: they may be shared or private, their algorithm is taken from the key or from `--alg`, and only what the
//! options ask for is checked of the claims, beside times.

use base::Timestamp;
use serde::Serialize;
use serde_json::Value;

use crate::jose::{
    self, Alg, Compact, JsonObject, KeySet, KeySetError, MAX_TOKEN_LEN, VerifyingKey, base64url_encode,
    parse_compact_within,
};
use crate::token::{TokenError, date};

/// Keys an operator hands over.
#[derive(Debug)]
pub struct OperatorKeys(KeySet);

impl OperatorKeys {
    /// From a file: a JWK set, a single JWK (public, private or `oct`), or PEM. Of private keys the public half is used.
    pub fn from_file(text: &[u8]) -> Result<Self, KeySetError> {
        KeySet::from_operator(text).map(Self)
    }

    /// From a file that holds a shared secret as it is: its bytes, without the line break an editor leaves at the end
    /// (one LF or CRLF). Too short, guessable and well-known secrets are refused, as by the server.
    pub fn from_secret_file(bytes: &[u8], algorithms: &[Alg]) -> Result<Self, KeySetError> {
        let bytes = bytes.strip_suffix(b"\n").map_or(bytes, |line| line.strip_suffix(b"\r").unwrap_or(line));
        let algorithms = if algorithms.is_empty() { &[Alg::Hs256] } else { algorithms };
        KeySet::from_secret(&base::Secret::new(bytes.to_vec()), algorithms).map(Self)
    }

    /// The keys as they were read.
    pub fn set(&self) -> &KeySet {
        &self.0
    }
}

/// What is asked of the token.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Accepted algorithms; empty: whatever the key is for.
    pub algorithms: Vec<Alg>,
    /// The exact `iss`.
    pub issuer: Option<String>,
    /// An audience that must be among the token's.
    pub audience: Option<String>,
    /// The `typ` of the header, compared as a media type.
    pub typ: Option<String>,
    /// The moment to judge times by.
    pub now: Timestamp,
    /// The payload need not be a claims set; it is printed as it is.
    pub raw: bool,
}

/// The verdict, in the form it is printed.
#[derive(Debug, Clone, Serialize)]
pub struct Verdict {
    /// Whether everything holds.
    pub valid: bool,
    /// `ok`, or the first thing that does not hold.
    pub reason: &'static str,
    /// The header as sent, where it can be read. Not to be trusted unless `valid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<JsonObject>,
    /// The claims, where they can be read and `raw` is not set. Not to be trusted unless `valid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claims: Option<JsonObject>,
    /// With `raw`: the payload as base64url, only when `valid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
}

impl Verdict {
    /// The verdict when the key file itself is refused: no token is valid under keys that must not be used.
    pub fn keys_refused(error: &KeySetError) -> Self {
        refused(error.reason(), None, None)
    }

    /// The verdict when only algorithms are wanted that are never accepted.
    pub fn algorithm_refused() -> Self {
        refused("alg_not_allowed", None, None)
    }
}

/// Judge a token, as read from standard input: one line break at its end is not part of it.
pub fn jwt(token: &[u8], keys: &OperatorKeys, options: &Options) -> Verdict {
    let token = token.strip_suffix(b"\n").map_or(token, |line| line.strip_suffix(b"\r").unwrap_or(line));
    // Raw payloads may be larger than any token that travels in a header.
    let limit = if options.raw { 16 * MAX_TOKEN_LEN } else { MAX_TOKEN_LEN };
    let parsed = std::str::from_utf8(token)
        .map_err(|_| jose::JoseError::NotCompact)
        .and_then(|text| parse_compact_within(text, limit));
    let compact = match parsed {
        Ok(compact) => compact,
        Err(error) => return refused(error.reason(), None, None),
    };
    let header = Some(compact.header.members().clone());
    if let Err(reason) = check_signature(&compact, keys, options) {
        let claims = if options.raw { None } else { compact.claims().ok() };
        return refused(reason, header, claims);
    }
    if let Some(typ) = &options.typ
        && compact.header.typ != Some(jose::media_type(typ))
    {
        return refused("wrong_typ", header, None);
    }
    if options.raw {
        let payload = Some(base64url_encode(&compact.payload));
        return Verdict { valid: true, reason: "ok", header, claims: None, payload };
    }
    match compact.claims() {
        Err(error) => refused(error.reason(), header, None),
        Ok(claims) => match check_claims(&claims, options) {
            Err(reason) => refused(reason, header, Some(claims)),
            Ok(()) => Verdict { valid: true, reason: "ok", header, claims: Some(claims), payload: None },
        },
    }
}

fn refused(reason: &'static str, header: Option<JsonObject>, claims: Option<JsonObject>) -> Verdict {
    Verdict { valid: false, reason, header, claims, payload: None }
}

/// Try the keys the token may be meant for: of its `kid` if there are any, otherwise those without one.
fn check_signature(compact: &Compact<'_>, keys: &OperatorKeys, options: &Options) -> Result<(), &'static str> {
    let alg = compact.header.alg;
    if !options.algorithms.is_empty() && !options.algorithms.contains(&alg) {
        return Err("alg_not_allowed");
    }
    let all = keys.set().keys();
    let of = |wanted: Option<&str>| -> Vec<&VerifyingKey> {
        all.iter().filter(|key| key.kid() == wanted).map(AsRef::as_ref).collect()
    };
    let candidates = match compact.header.kid.as_deref().filter(|_| !keys.set().kid_is_free()) {
        None => all.iter().map(AsRef::as_ref).collect(),
        kid => Some(of(kid)).filter(|named| !named.is_empty()).unwrap_or_else(|| of(None)),
    };
    if candidates.is_empty() {
        return Err(why_no_key(keys.set(), compact.header.kid.as_deref()));
    }
    let signed = compact.signing_input.as_bytes();
    let mut reason = "alg_key_mismatch";
    for key in candidates {
        match key.verify(alg, signed, &compact.signature) {
            Ok(()) => return Ok(()),
            Err(error @ jose::SignatureError::Invalid) => reason = error.reason(),
            Err(jose::SignatureError::WrongAlg) => {}
        }
    }
    Err(reason)
}

/// The key that was meant may have been refused: then that is the reason.
fn why_no_key(set: &KeySet, kid: Option<&str>) -> &'static str {
    let meant = set.rejected().iter().find(|rejected| set.keys().is_empty() || rejected.kid.as_deref() == kid);
    meant.map_or("unknown_key", |rejected| rejected.error.reason())
}

fn check_claims(claims: &JsonObject, options: &Options) -> Result<(), &'static str> {
    let date = |claim| date(claims, claim).map_err(|error: TokenError| error.reason());
    let (exp, nbf, iat) = (date("exp")?, date("nbf")?, date("iat")?);
    if exp.is_some_and(|exp| options.now >= exp) {
        return Err("expired");
    }
    if nbf.is_some_and(|nbf| options.now < nbf) {
        return Err("not_yet_valid");
    }
    if iat.is_some_and(|iat| options.now < iat.minus(crate::token::MAX_LEEWAY)) {
        return Err("issued_in_future");
    }
    if let Some(issuer) = &options.issuer {
        match claims.get("iss") {
            None => return Err("missing_claim"),
            Some(Value::String(iss)) if iss == issuer => {}
            Some(Value::String(_)) => return Err("wrong_issuer"),
            Some(_) => return Err("bad_claim"),
        }
    }
    if let Some(audience) = &options.audience {
        let names = match claims.get("aud") {
            None => return Err("missing_claim"),
            Some(Value::Array(names)) if names.is_empty() => return Err("bad_claim"),
            Some(Value::Array(names)) => names.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        if !names.iter().all(Value::is_string) {
            return Err("bad_claim");
        }
        if !names.iter().any(|name| name.as_str() == Some(audience)) {
            return Err("wrong_audience");
        }
    }
    Ok(())
}
