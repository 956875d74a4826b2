//! Firebase App Check: Google's word, for whoever holds the token, that an app of a Firebase project is genuine
//! (<https://firebase.google.com/docs/app-check/custom-resource-backend>).
//!
//! A bearer token, bound to no key: it carries less than the evidence it was made from, and lets an app move over. Where it
//! is to count once, the caller uses up [`VerifiedAppCheck::jti`].

use std::time::Duration;

use base::Timestamp;
use serde_json::Value;

use super::flag::Flags as _;
use super::{Evidence, Level, Summary};
pub use crate::jose::MAX_TOKEN_LEN;
use crate::jose::{Alg, Fault, JoseError, JsonObject, KeySet, Lookup, audiences, parse_compact, required};

/// Where Google publishes the keys.
pub const JWKS_URL: &str = "https://firebaseappcheck.googleapis.com/v1/jwks";

/// What issuers are called, up to the project's number.
const ISSUER: &str = "https://firebaseappcheck.googleapis.com/";

/// The longest a token lives.
const MAX_LIFETIME: Duration = Duration::from_hours(7 * 24);

/// The clock difference that is forgiven.
const SKEW: Duration = Duration::from_mins(1);

/// The longest app id or token id, in bytes.
const MAX_ID_LEN: usize = 256;

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppCheckError {
    /// Not a signed token.
    #[error("{0}")]
    Jose(#[from] JoseError),
    /// Not signed with RS256.
    #[error("the token is not signed with RS256")]
    Algorithm,
    /// Not a JWT by its header.
    #[error("the token's typ is not JWT")]
    Type,
    /// No key of the set fits. A newer set may have one.
    #[error("no key of the set fits the token")]
    UnknownKey,
    /// The signature is not Google's.
    #[error("the signature of the token is wrong")]
    Signature,
    /// A claim is missing or has the wrong form.
    #[error("`{0}` is missing or has the wrong form")]
    Claim(&'static str),
    /// Another project's.
    #[error("the token was issued for another project")]
    Issuer,
    /// For another project.
    #[error("the token is for another project")]
    Audience,
    /// Another app's.
    #[error("the token is for another app")]
    App,
    /// Over.
    #[error("the token has expired")]
    Expired,
    /// From the future.
    #[error("the token is not yet valid")]
    NotYetValid,
    /// Longer than App Check makes them.
    #[error("the token lives longer than such tokens do")]
    Lifetime,
}

impl AppCheckError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Jose(error) => error.reason(),
            Self::Algorithm => "alg_not_allowed",
            Self::Type => "wrong_typ",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "bad_signature",
            Self::Claim(_) => "bad_claim",
            Self::Issuer => "wrong_issuer",
            Self::Audience => "wrong_audience",
            Self::App => "wrong_app",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Lifetime => "lifetime_too_long",
        }
    }
}

/// What a token is judged by.
#[derive(Debug, Clone, Copy)]
pub struct AppCheckRules<'a> {
    /// Google's keys ([`JWKS_URL`]).
    pub keys: &'a KeySet,
    /// The number of the Firebase project.
    pub project: &'a str,
    /// The ids of its apps that count: `1:1234567890:android:0123456789abcdef`.
    pub apps: &'a [String],
    /// The moment of the request.
    pub now: Timestamp,
}

/// A token that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifiedAppCheck {
    /// What a policy is told.
    pub summary: Summary,
    /// The app's id.
    pub app: String,
    /// The token's own id, where it has one.
    pub jti: Option<String>,
    /// When it ends.
    pub expires: Timestamp,
}

/// Verify a token.
pub fn verify(token: &str, rules: &AppCheckRules<'_>) -> Result<VerifiedAppCheck, AppCheckError> {
    let parsed = parse_compact(token)?;
    let header = &parsed.header;
    if header.alg != Alg::Rs256 {
        return Err(AppCheckError::Algorithm);
    }
    if header.typ.as_deref().is_some_and(|typ| typ != "jwt") {
        return Err(AppCheckError::Type);
    }
    let kid = header.kid.as_deref().ok_or(AppCheckError::UnknownKey)?;
    let Lookup::Found(key) = rules.keys.find(Some(kid), Alg::Rs256, &[Alg::Rs256]) else {
        return Err(AppCheckError::UnknownKey);
    };
    key.verify(Alg::Rs256, parsed.signing_input.as_bytes(), &parsed.signature).map_err(|_| AppCheckError::Signature)?;
    judge(&parsed.claims()?, rules)
}

fn judge(claims: &JsonObject, rules: &AppCheckRules<'_>) -> Result<VerifiedAppCheck, AppCheckError> {
    let text = |name: &'static str| required(claims, name, MAX_ID_LEN).map_err(|_: Fault| AppCheckError::Claim(name));
    if text("iss")?.strip_prefix(ISSUER) != Some(rules.project) {
        return Err(AppCheckError::Issuer);
    }
    let audience = audiences(claims).map_err(|_| AppCheckError::Claim("aud"))?;
    if !audience.iter().any(|one| one.strip_prefix("projects/") == Some(rules.project)) {
        return Err(AppCheckError::Audience);
    }
    let app = text("sub")?;
    if !rules.apps.iter().any(|known| known == app) {
        return Err(AppCheckError::App);
    }
    let moment = |name: &'static str| {
        let secs = claims.get(name).and_then(Value::as_i64).ok_or(AppCheckError::Claim(name))?;
        Ok::<_, AppCheckError>(Timestamp::from_secs(secs))
    };
    let (issued, expires) = (moment("iat")?, moment("exp")?);
    if rules.now >= expires {
        return Err(AppCheckError::Expired);
    }
    if issued > rules.now.plus(SKEW) {
        return Err(AppCheckError::NotYetValid);
    }
    if expires > issued.plus(MAX_LIFETIME) {
        return Err(AppCheckError::Lifetime);
    }
    let jti = match claims.get("jti") {
        None => None,
        Some(_) => Some(text("jti")?.to_owned()),
    };
    let mut flags = Vec::new();
    flags.set("appcheck_only");
    let mut facts = JsonObject::new();
    facts.insert("app".to_owned(), app.into());
    let summary = Summary { evidence: Evidence::AppCheck, level: Level::Verdict, flags, facts };
    Ok(VerifiedAppCheck { summary, app: app.to_owned(), jti, expires })
}
