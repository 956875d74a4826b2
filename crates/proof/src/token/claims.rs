//! What a token claims, checked against its issuer's rules (RFC 7519 section 4, RFC 9068 sections 2 and 4).

use std::sync::Arc;
use std::time::Duration;

use base::Timestamp;
use serde_json::Value;

use super::{ClaimProblem, Confirmation, IssuerRules, MAX_LEEWAY, TokenError, TypRule};
use crate::jose::{Header, JsonObject, VerifyingKey, base64url_decode};

const MAX_STRING: usize = 1024;
const MAX_SCOPES: usize = 256;
const MAX_GROUPS: usize = 512;
const MAX_AUDIENCES: usize = 64;
/// Seconds of the last moment of the year 9999: no date beyond it is meant seriously.
const MAX_DATE: i64 = 253_402_300_799;

/// The claims that matter here, in their right types.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) subject: String,
    pub(super) client_id: Option<String>,
    pub(super) scopes: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) expires_at: Timestamp,
    pub(super) not_before: Option<Timestamp>,
    pub(super) issued_at: Option<Timestamp>,
    pub(super) jti: Option<String>,
    pub(super) confirmation: Option<Confirmation>,
}

/// Whether `typ` is one of this issuer's. Costs nothing, so it comes before the signature.
pub(super) fn check_typ(header: &Header, rules: &IssuerRules) -> Result<(), TokenError> {
    let typ = header.typ.as_deref();
    let fits = match &rules.typ {
        TypRule::AccessToken => typ == Some("at+jwt"),
        TypRule::Lenient => matches!(typ, None | Some("jwt" | "at+jwt")),
        // Whatever is listed: these are never access tokens (RFC 9449 section 11.5, RFC 8417 section 2.3).
        TypRule::OneOf(_) if matches!(typ, Some("dpop+jwt" | "logout+jwt" | "secevent+jwt")) => false,
        TypRule::OneOf(types) => typ.is_some_and(|typ| types.iter().any(|listed| listed == typ)),
    };
    if fits { Ok(()) } else { Err(TokenError::WrongType) }
}

/// Check every claim.
pub(super) fn check(
    header: &Header,
    claims: &JsonObject,
    rules: &IssuerRules,
    now: Timestamp,
) -> Result<Checked, TokenError> {
    check_kind(header, claims, rules)?;
    let expires_at = date(claims, "exp")?.ok_or(missing("exp"))?;
    let not_before = date(claims, "nbf")?;
    let issued_at = date(claims, "iat")?;
    check_time(expires_at, not_before, rules.leeway, now)?;
    if issued_at.is_some_and(|iat| now < iat.minus(rules.leeway.max(MAX_LEEWAY))) {
        return Err(TokenError::IssuedInFuture);
    }
    if rules.max_lifetime.is_some_and(|longest| expires_at > issued_at.unwrap_or(now).plus(longest)) {
        return Err(TokenError::LifetimeTooLong);
    }
    check_audience(claims, rules)?;
    check_required(claims, rules)?;
    let checked = Checked {
        subject: subject(claims, rules)?,
        client_id: client(claims, rules)?,
        scopes: scopes(claims, rules)?,
        groups: groups(claims, rules)?,
        expires_at,
        not_before,
        issued_at,
        jti: text(claims.get("jti"), "jti")?,
        confirmation: confirmation(claims)?,
    };
    if rules.typ == TypRule::AccessToken {
        // RFC 9068 section 2.2.
        checked.client_id.as_ref().ok_or(missing("client_id"))?;
        checked.issued_at.ok_or(missing("iat"))?;
        checked.jti.as_ref().ok_or(missing("jti"))?;
    }
    Ok(checked)
}

/// Who a claims set speaks of, read by an issuer's mapping. Nothing here has been verified: for explanations only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The subject.
    pub subject: String,
    /// The client.
    pub client_id: Option<String>,
    /// The scopes.
    pub scopes: Vec<String>,
    /// Groups and roles.
    pub groups: Vec<String>,
}

impl IssuerRules {
    /// Read who a claims set speaks of, as for a token of this issuer. Checks no time, audience or signature.
    pub fn identity(&self, claims: &JsonObject) -> Result<Identity, TokenError> {
        Ok(Identity {
            subject: subject(claims, self)?,
            client_id: client(claims, self)?,
            scopes: scopes(claims, self)?,
            groups: groups(claims, self)?,
        })
    }
}

/// `exp` and `nbf`: of a new token and of one from the cache alike.
pub(super) fn check_time(
    expires_at: Timestamp,
    not_before: Option<Timestamp>,
    leeway: Duration,
    now: Timestamp,
) -> Result<(), TokenError> {
    if now >= expires_at.plus(leeway) {
        return Err(TokenError::Expired);
    }
    if not_before.is_some_and(|nbf| now < nbf.minus(leeway)) {
        return Err(TokenError::NotYetValid);
    }
    Ok(())
}

/// Refuse the other kinds of token that the same issuer may sign with the same key (RFC 8725 section 3.11): security
/// events and logout tokens (RFC 8417), DPoP proofs, and ID tokens where they do not count as access tokens.
fn check_kind(header: &Header, claims: &JsonObject, rules: &IssuerRules) -> Result<(), TokenError> {
    let has = |name: &str| claims.contains_key(name);
    if has("events") || (has("htm") && has("htu")) {
        return Err(TokenError::NotAnAccessToken);
    }
    // An issuer that marks the kind in the token, by typ or a claim of its own, has said what it is.
    let marked = header.typ.as_deref() == Some("at+jwt") || rules.require.iter().any(|must| !must.optional);
    let id_token = has("at_hash") || has("c_hash") || (has("nonce") && !marked);
    if id_token && !rules.id_tokens { Err(TokenError::NotAnAccessToken) } else { Ok(()) }
}

fn check_audience(claims: &JsonObject, rules: &IssuerRules) -> Result<(), TokenError> {
    let mut ours = false;
    let mut any = false;
    let aud = rules.claims.audience.find(claims);
    // Whatever the mapping, a malformed aud is a malformed token.
    for (value, counts) in [(aud, true), (claims.get("aud"), false)] {
        let Some(value) = value else { continue };
        let list = match value {
            Value::Array(list) if list.is_empty() => return Err(malformed("aud")),
            Value::Array(list) if list.len() > MAX_AUDIENCES => return Err(too_large("aud")),
            Value::Array(list) => list.as_slice(),
            one => std::slice::from_ref(one),
        };
        for name in list {
            let name = name.as_str().ok_or(malformed("aud"))?;
            any |= counts;
            ours |= counts && rules.audience.iter().any(|own| own == name);
        }
    }
    match (ours, any) {
        (true, _) => Ok(()),
        // RFC 7519 section 4.1.3: a token without audience is for anybody, which only a shared secret may say.
        (false, false) if rules.shared_secret && rules.audience.is_empty() => Ok(()),
        (false, false) => Err(missing("aud")),
        (false, true) => Err(TokenError::WrongAudience),
    }
}

fn check_required(claims: &JsonObject, rules: &IssuerRules) -> Result<(), TokenError> {
    for must in &rules.require {
        let claim = must.claim;
        match claims.get(claim) {
            None if must.optional => {}
            None => return Err(missing(claim)),
            Some(Value::String(value)) if must.values.contains(value) => {}
            Some(Value::String(_)) => return Err(TokenError::Claim { claim, problem: ClaimProblem::Mismatch }),
            Some(_) => return Err(malformed(claim)),
        }
    }
    Ok(())
}

fn subject(claims: &JsonObject, rules: &IssuerRules) -> Result<String, TokenError> {
    let value = rules.claims.subject.find(claims);
    // `jwt.sign({ id: 17 }, SECRET)`: a database key is a subject where the operator says so.
    if let Some(Value::Number(number)) = value
        && rules.shared_secret
        && !number.is_f64()
    {
        return Ok(number.to_string());
    }
    let subject = text(value, "sub")?.ok_or(missing("sub"))?;
    if subject.is_empty() { Err(malformed("sub")) } else { Ok(subject) }
}

fn client(claims: &JsonObject, rules: &IssuerRules) -> Result<Option<String>, TokenError> {
    let found = rules.claims.client.iter().find_map(|path| path.find(claims));
    text(found, "client_id")
}

/// Scope tokens (RFC 6749 section 3.3), separated by spaces and nothing else, or one each in an array.
fn scopes(claims: &JsonObject, rules: &IssuerRules) -> Result<Vec<String>, TokenError> {
    let mut scopes = Vec::new();
    let mut add = |scope: &str| {
        let in_charset = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
        if scope.is_empty() || !scope.bytes().all(in_charset) {
            return Err(malformed("scope"));
        }
        if scope.len() > MAX_STRING || scopes.len() >= MAX_SCOPES {
            return Err(too_large("scope"));
        }
        if !scopes.iter().any(|known| known == scope) {
            scopes.push(scope.to_owned());
        }
        Ok(())
    };
    for path in &rules.claims.scopes {
        match path.find(claims) {
            None => {}
            Some(Value::String(list)) => list.split(' ').filter(|scope| !scope.is_empty()).try_for_each(&mut add)?,
            // RFC 9068 section 2.2.3 knows only the string; Okta's scp and Auth0's permissions are arrays.
            Some(Value::Array(list)) if rules.typ != TypRule::AccessToken && path.as_str() != "scope" => {
                for scope in list {
                    add(scope.as_str().ok_or(malformed("scope"))?)?;
                }
            }
            Some(_) => return Err(malformed("scope")),
        }
    }
    Ok(scopes)
}

fn groups(claims: &JsonObject, rules: &IssuerRules) -> Result<Vec<String>, TokenError> {
    let mut groups: Vec<String> = Vec::new();
    for path in &rules.claims.groups {
        let list = match path.find(claims) {
            None => continue,
            Some(Value::Array(list)) => list.as_slice(),
            Some(one) => std::slice::from_ref(one),
        };
        if list.len() > MAX_GROUPS {
            return Err(too_large("groups"));
        }
        for group in list {
            let group = text(Some(group), "groups")?.ok_or(malformed("groups"))?;
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    if groups.len() > MAX_GROUPS { Err(too_large("groups")) } else { Ok(groups) }
}

/// `cnf` (RFC 7800): methods we know are kept, unknown ones beside them ignored; if there are only unknown ones nobody
/// could be asked for a proof, so the token is refused.
fn confirmation(claims: &JsonObject) -> Result<Option<Confirmation>, TokenError> {
    let Some(cnf) = claims.get("cnf") else { return Ok(None) };
    let cnf = cnf.as_object().ok_or(malformed("cnf"))?;
    let hash = |name: &str| match cnf.get(name) {
        None => Ok(None),
        Some(value) => {
            let bytes = value.as_str().and_then(base64url_decode).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            bytes.map(Some).ok_or(malformed("cnf"))
        }
    };
    let jwk = cnf.get("jwk").map(VerifyingKey::from_confirmation).transpose().map_err(|_| malformed("cnf"))?;
    let mut confirmation = Confirmation { jkt: hash("jkt")?, x5t_s256: hash("x5t#S256")?, jwk: jwk.map(Arc::new) };
    if let Some(key) = &confirmation.jwk
        && *confirmation.jkt.get_or_insert(*key.thumbprint()) != *key.thumbprint()
    {
        return Err(malformed("cnf"));
    }
    if confirmation.jkt.is_none() && confirmation.x5t_s256.is_none() {
        return Err(TokenError::UnsupportedConfirmation);
    }
    Ok(Some(confirmation))
}

/// A `NumericDate` (RFC 7519 section 2): a JSON number of seconds, whole or not, before the year 10000.
pub(crate) fn date(claims: &JsonObject, claim: &'static str) -> Result<Option<Timestamp>, TokenError> {
    let Some(value) = claims.get(claim) else { return Ok(None) };
    if let Some(secs) = value.as_i64().filter(|secs| (-MAX_DATE..=MAX_DATE).contains(secs)) {
        return Ok(Some(Timestamp::from_secs(secs)));
    }
    #[allow(clippy::cast_precision_loss)] // twelve digits fit
    let limit = MAX_DATE as f64;
    match value.as_f64() {
        // The bound keeps the product far inside i64.
        #[allow(clippy::cast_possible_truncation)]
        Some(secs) if secs.abs() <= limit => Ok(Some(Timestamp::from_millis((secs * 1000.0).floor() as i64))),
        _ => Err(malformed(claim)),
    }
}

/// A string of sensible length without control characters, or nothing.
fn text(value: Option<&Value>, claim: &'static str) -> Result<Option<String>, TokenError> {
    let Some(value) = value else { return Ok(None) };
    let text = value.as_str().ok_or(malformed(claim))?;
    if text.len() > MAX_STRING {
        return Err(too_large(claim));
    }
    if text.chars().any(char::is_control) {
        return Err(malformed(claim));
    }
    Ok(Some(text.to_owned()))
}

const fn missing(claim: &'static str) -> TokenError {
    TokenError::Claim { claim, problem: ClaimProblem::Missing }
}

const fn malformed(claim: &'static str) -> TokenError {
    TokenError::Claim { claim, problem: ClaimProblem::Malformed }
}

const fn too_large(claim: &'static str) -> TokenError {
    TokenError::Claim { claim, problem: ClaimProblem::TooLarge }
}
