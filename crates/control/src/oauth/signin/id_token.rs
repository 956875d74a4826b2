//! The provider's ID token (OpenID Connect Core 1.0 section 3.1.3.7), checked as strictly as an access token: nothing in
//! it counts before its signature does.

use std::time::Duration;

use aws_lc_rs::digest;
use base::Timestamp;
use proof::jose::{self, Alg, JoseError, JsonObject, KeySet, Lookup, SignatureError};
use proof::token::{IssuerRules, TokenError};
use serde_json::Value;

/// How far the provider's clock may be ahead of ours.
const MAX_AHEAD: Duration = Duration::from_mins(1);
/// A session id has at most so many bytes.
const MAX_SID: usize = 256;
/// A name that is longer than this is not shown.
const MAX_NAME: usize = 128;
const MAX_AUDIENCES: usize = 16;

/// Why an ID token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(in crate::oauth) enum IdTokenError {
    /// Not a signed token we read.
    #[error("the ID token is refused: {0}")]
    Jose(#[from] JoseError),
    /// Another kind of token (RFC 8725 section 3.11).
    #[error("the token is not an ID token")]
    WrongType,
    /// An algorithm that is not among the issuer's, or an HMAC.
    #[error("the ID token's algorithm is not allowed for this issuer")]
    AlgNotAllowed,
    /// The issuer has no such key: a newer set may.
    #[error("the ID token names a key the provider does not publish")]
    UnknownKey,
    /// It names no key, and several would do.
    #[error("the ID token names no key, and the provider publishes several")]
    AmbiguousKey,
    /// The signature is not that of the key.
    #[error("the ID token's signature is wrong")]
    BadSignature,
    /// A claim that is missing.
    #[error("the ID token has no {0}")]
    Missing(&'static str),
    /// A claim of another type than it must have.
    #[error("the ID token's {0} has the wrong form")]
    Malformed(&'static str),
    /// A claim that says something else than it must.
    #[error("the ID token's {0} is not the expected one")]
    Mismatch(&'static str),
    /// Past `exp`.
    #[error("the ID token has expired")]
    Expired,
    /// Before `nbf`, or issued in the future.
    #[error("the ID token is from the future")]
    Future,
    /// The person signed in longer ago than the client allows.
    #[error("the sign-in is older than max_age")]
    TooOld,
    /// The identity cannot be read by the issuer's claim mapping.
    #[error("the ID token names nobody: {0}")]
    Identity(TokenError),
}

impl IdTokenError {
    /// A stable code, for logs.
    pub(in crate::oauth) const fn reason(&self) -> &'static str {
        match self {
            Self::Jose(error) => error.reason(),
            Self::WrongType => "wrong_typ",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::BadSignature => "bad_signature",
            Self::Missing(_) => "missing_claim",
            Self::Malformed(_) | Self::Mismatch(_) => "bad_claim",
            Self::Expired => "expired",
            Self::Future => "issued_in_future",
            Self::TooOld => "sign_in_too_old",
            Self::Identity(_) => "id_token_no_identity",
        }
    }
}

/// What an ID token has to agree with.
#[derive(Debug, Clone, Copy)]
pub(in crate::oauth) struct Expected<'a> {
    /// What we are called at the provider.
    pub(in crate::oauth) client_id: &'a str,
    /// The nonce we sent.
    pub(in crate::oauth) nonce: &'a str,
    /// The access token that came with it, for `at_hash`.
    pub(in crate::oauth) access_token: Option<&'a str>,
    /// How long ago the person may have signed in, if it was asked for.
    pub(in crate::oauth) max_age: Option<Duration>,
    /// Now.
    pub(in crate::oauth) now: Timestamp,
}

/// What an ID token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::oauth) struct IdToken {
    /// Who, by the issuer's claim mapping: as in the same issuer's access tokens.
    pub(in crate::oauth) subject: String,
    /// Groups, by the issuer's claim mapping.
    pub(in crate::oauth) groups: Vec<String>,
    /// When they authenticated, or when the token was issued.
    pub(in crate::oauth) auth_time: Timestamp,
    /// The provider's session.
    pub(in crate::oauth) sid: Option<String>,
    /// What they are called there, for a page they look at themselves. Decides nothing.
    pub(in crate::oauth) called: Option<String>,
}

/// Check an ID token of the issuer with these rules and keys.
pub(in crate::oauth) fn verify(
    text: &str,
    rules: &IssuerRules,
    keys: &KeySet,
    expected: Expected<'_>,
) -> Result<IdToken, IdTokenError> {
    let compact = jose::parse_compact(text)?;
    // Access tokens, proofs, security events and logout tokens say what they are.
    if !matches!(compact.header.typ.as_deref(), None | Some("jwt")) {
        return Err(IdTokenError::WrongType);
    }
    let alg = compact.header.alg;
    if alg.is_symmetric() || !rules.algorithms.contains(&alg) {
        return Err(IdTokenError::AlgNotAllowed);
    }
    let key = match keys.find(compact.header.kid.as_deref(), alg, &rules.algorithms) {
        Lookup::Found(key) if key.bind(&rules.algorithms) == Some(alg) => key,
        Lookup::Found(_) => return Err(IdTokenError::AlgNotAllowed),
        Lookup::Unknown => return Err(IdTokenError::UnknownKey),
        Lookup::Ambiguous => return Err(IdTokenError::AmbiguousKey),
    };
    key.verify(alg, compact.signing_input.as_bytes(), &compact.signature).map_err(|error| match error {
        SignatureError::WrongAlg => IdTokenError::AlgNotAllowed,
        SignatureError::Invalid => IdTokenError::BadSignature,
    })?;
    let claims = compact.claims()?;
    if claims.contains_key("events") || claims.contains_key("htm") {
        return Err(IdTokenError::WrongType);
    }
    check_parties(&claims, rules, expected.client_id)?;
    let auth_time = check_time(&claims, rules.leeway, &expected)?;
    same(&claims, "nonce", expected.nonce)?;
    check_at_hash(&claims, alg, expected.access_token)?;
    let identity = rules.identity(&claims).map_err(IdTokenError::Identity)?;
    let sid = text_of(&claims, "sid")?;
    if sid.is_some_and(|sid| sid.is_empty() || sid.len() > MAX_SID) {
        return Err(IdTokenError::Malformed("sid"));
    }
    let sid = sid.map(str::to_owned);
    Ok(IdToken { subject: identity.subject, groups: identity.groups, auth_time, sid, called: called(&claims) })
}

/// A short name by which a person knows which of their accounts it is.
fn called(claims: &JsonObject) -> Option<String> {
    let names = ["email", "preferred_username", "name"];
    let mut texts = names.iter().filter_map(|name| claims.get(*name).and_then(Value::as_str));
    texts.find(|text| !text.is_empty() && text.len() <= MAX_NAME).map(str::to_owned)
}

/// `iss`, `aud`, `azp`: from this provider, for us, and requested by us.
fn check_parties(claims: &JsonObject, rules: &IssuerRules, client_id: &str) -> Result<(), IdTokenError> {
    same(claims, "iss", rules.issuer.as_deref().unwrap_or_default())?;
    let audience = match claims.get("aud") {
        None => return Err(IdTokenError::Missing("aud")),
        Some(Value::Array(list)) if list.len() > MAX_AUDIENCES => return Err(IdTokenError::Malformed("aud")),
        Some(Value::Array(list)) => list.as_slice(),
        Some(one) => std::slice::from_ref(one),
    };
    if !audience.iter().all(Value::is_string) {
        return Err(IdTokenError::Malformed("aud"));
    }
    if !audience.iter().any(|name| name == client_id) {
        return Err(IdTokenError::Mismatch("aud"));
    }
    match text_of(claims, "azp")? {
        Some(azp) if azp != client_id => Err(IdTokenError::Mismatch("azp")),
        // With others beside us it must say that it was us who asked.
        None if audience.iter().any(|name| name != client_id) => Err(IdTokenError::Missing("azp")),
        _ => Ok(()),
    }
}

/// The times; gives that of the sign-in.
fn check_time(claims: &JsonObject, leeway: Duration, expected: &Expected<'_>) -> Result<Timestamp, IdTokenError> {
    let now = expected.now;
    let expires = date(claims, "exp")?.ok_or(IdTokenError::Missing("exp"))?;
    let issued = date(claims, "iat")?.ok_or(IdTokenError::Missing("iat"))?;
    if now >= expires.plus(leeway) {
        return Err(IdTokenError::Expired);
    }
    let ahead = leeway.max(MAX_AHEAD);
    if now < issued.minus(ahead) || date(claims, "nbf")?.is_some_and(|nbf| now < nbf.minus(leeway)) {
        return Err(IdTokenError::Future);
    }
    let auth_time = date(claims, "auth_time")?;
    if auth_time.is_some_and(|at| now < at.minus(ahead)) {
        return Err(IdTokenError::Future);
    }
    if let Some(max_age) = expected.max_age {
        let at = auth_time.ok_or(IdTokenError::Missing("auth_time"))?;
        if now.since(at) > max_age.saturating_add(ahead) {
            return Err(IdTokenError::TooOld);
        }
    }
    Ok(auth_time.unwrap_or(issued))
}

/// `at_hash`: the left half of the access token's hash, by the hash of the signature (section 3.1.3.6).
fn check_at_hash(claims: &JsonObject, alg: Alg, access_token: Option<&str>) -> Result<(), IdTokenError> {
    let (Some(sent), Some(token)) = (text_of(claims, "at_hash")?, access_token) else { return Ok(()) };
    let algorithm = match alg {
        Alg::Rs256 | Alg::Ps256 | Alg::Es256 => &digest::SHA256,
        Alg::Rs384 | Alg::Ps384 | Alg::Es384 => &digest::SHA384,
        Alg::Rs512 | Alg::Ps512 | Alg::Es512 | Alg::EdDsa => &digest::SHA512,
        // No document says which hash goes with the others.
        _ => return Ok(()),
    };
    let hash = digest::digest(algorithm, token.as_bytes());
    let half = hash.as_ref().get(..hash.as_ref().len() / 2).unwrap_or_default();
    if jose::base64url_encode(half) == sent { Ok(()) } else { Err(IdTokenError::Mismatch("at_hash")) }
}

/// A claim that must be exactly this text.
fn same(claims: &JsonObject, claim: &'static str, wanted: &str) -> Result<(), IdTokenError> {
    match text_of(claims, claim)? {
        None => Err(IdTokenError::Missing(claim)),
        Some(text) if text == wanted && !wanted.is_empty() => Ok(()),
        Some(_) => Err(IdTokenError::Mismatch(claim)),
    }
}

fn text_of<'c>(claims: &'c JsonObject, claim: &'static str) -> Result<Option<&'c str>, IdTokenError> {
    match claims.get(claim) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(IdTokenError::Malformed(claim)),
    }
}

/// Whole seconds before the year 10000; a fraction is cut off.
fn date(claims: &JsonObject, claim: &'static str) -> Result<Option<Timestamp>, IdTokenError> {
    const LAST: i64 = 253_402_300_799;
    let Some(value) = claims.get(claim) else { return Ok(None) };
    #[allow(clippy::cast_possible_truncation)] // saturates, and the range is checked
    let seconds = value.as_i64().or_else(|| value.as_f64().map(|secs| secs.floor() as i64));
    match seconds {
        Some(seconds) if (0..=LAST).contains(&seconds) => Ok(Some(Timestamp::from_secs(seconds))),
        _ => Err(IdTokenError::Malformed(claim)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::Name;
    use proptest::prelude::*;
    use serde_json::json;
    use testkit::keys::{TestKey, b64, key_set, unsigned};

    const NOW: i64 = 1_800_000_000;
    const ISS: &str = "https://id.example.com/";
    const US: &str = "vouchgate-at-op";

    fn rules() -> IssuerRules {
        let mut rules = IssuerRules::new(Name::new("corp").unwrap(), ISS, vec!["https://ai.example.com".to_owned()]);
        rules.algorithms = vec![Alg::Es256, Alg::EdDsa];
        rules
    }

    fn claims() -> Value {
        json!({"iss": ISS, "sub": "alice", "aud": US, "iat": NOW, "exp": NOW + 300, "nonce": "n", "sid": "s",
               "auth_time": NOW - 20})
    }

    fn check(key: &TestKey, text: &str) -> Result<IdToken, IdTokenError> {
        let keys = KeySet::from_published(key_set(&[key]).to_string().as_bytes()).unwrap();
        let now = Timestamp::from_secs(NOW);
        verify(
            text,
            &rules(),
            &keys,
            Expected { client_id: US, nonce: "n", access_token: Some("at"), max_age: None, now },
        )
    }

    fn with(key: &TestKey, change: impl FnOnce(&mut Value)) -> Result<IdToken, IdTokenError> {
        let mut claims = claims();
        change(&mut claims);
        check(key, &key.mint_with(&json!({"alg": key.alg, "kid": key.kid, "typ": "JWT"}), &claims))
    }

    #[test]
    fn an_honest_id_token_says_who_signed_in_and_when() {
        let key = TestKey::generate("ES256");
        let token = with(&key, |_| {}).unwrap();
        assert_eq!((token.subject.as_str(), token.sid.as_deref()), ("alice", Some("s")));
        assert_eq!(token.auth_time, Timestamp::from_secs(NOW - 20));
        let untold = with(&key, |claims| drop(claims.as_object_mut().unwrap().remove("auth_time"))).unwrap();
        assert_eq!(untold.auth_time, Timestamp::from_secs(NOW));
    }

    #[test]
    fn a_01_an_id_token_without_a_signature_is_refused_in_every_spelling() {
        let key = TestKey::generate("ES256");
        for alg in ["none", "None", "NONE", "nOnE"] {
            let text = unsigned(&json!({"alg": alg, "kid": key.kid}), &claims());
            assert!(matches!(check(&key, &text), Err(IdTokenError::Jose(_))), "{alg}");
            assert!(matches!(check(&key, &format!("{text}AAAA")), Err(IdTokenError::Jose(_))), "{alg}");
        }
    }

    #[test]
    fn a_03_an_hmac_under_the_public_key_is_no_signature() {
        let key = TestKey::generate("ES256");
        let hmac = TestKey::hmac("HS256", key.public_pem().into_bytes());
        let text = hmac.mint_with(&json!({"alg": "HS256", "kid": key.kid}), &claims());
        assert_eq!(check(&key, &text), Err(IdTokenError::AlgNotAllowed));
    }

    #[test]
    fn a_22_another_kind_of_token_is_no_id_token() {
        let key = TestKey::generate("ES256");
        for typ in
            ["at+jwt", "application/at+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "client-authentication+jwt"]
        {
            let text = key.mint_with(&json!({"alg": "ES256", "kid": key.kid, "typ": typ}), &claims());
            assert_eq!(check(&key, &text), Err(IdTokenError::WrongType), "{typ}");
        }
        assert_eq!(with(&key, |claims| claims["events"] = json!({})), Err(IdTokenError::WrongType));
    }

    #[test]
    fn a_signature_of_another_key_or_algorithm_is_refused() {
        let (key, other) = (TestKey::generate("ES256"), TestKey::generate("ES256"));
        let text = other.mint_with(&json!({"alg": "ES256", "kid": key.kid}), &claims());
        assert_eq!(check(&key, &text), Err(IdTokenError::BadSignature));
        let text = other.mint_with(&json!({"alg": "ES256", "kid": other.kid}), &claims());
        assert_eq!(check(&key, &text), Err(IdTokenError::UnknownKey));
        let wider = TestKey::generate("ES384");
        let text = wider.mint_with(&json!({"alg": "ES384", "kid": wider.kid}), &claims());
        assert_eq!(check(&wider, &text), Err(IdTokenError::AlgNotAllowed), "not in the issuer's list");
        let embedded =
            other.mint_with(&json!({"alg": "ES256", "kid": other.kid, "jwk": other.public_jwk()}), &claims());
        assert_eq!(check(&key, &embedded), Err(IdTokenError::UnknownKey), "a token never brings its own key");
    }

    #[test]
    fn every_claim_that_ties_it_to_us_is_checked_exactly() {
        use IdTokenError::{Malformed, Mismatch, Missing};
        let key = TestKey::generate("ES256");
        for (claim, value, error) in [
            ("iss", json!("https://id.example.com"), Mismatch("iss")),
            ("iss", json!(["https://id.example.com/"]), Malformed("iss")),
            ("iss", Value::Null, Malformed("iss")),
            ("aud", json!("https://ai.example.com"), Mismatch("aud")),
            ("aud", json!([US, "another"]), Missing("azp")),
            ("aud", json!([US, 7]), Malformed("aud")),
            ("aud", json!([]), Mismatch("aud")),
            ("aud", json!({"a": US}), Malformed("aud")),
            ("azp", json!("another"), Mismatch("azp")),
            ("nonce", json!("m"), Mismatch("nonce")),
            ("nonce", json!(1), Malformed("nonce")),
            ("exp", json!(NOW - 120), IdTokenError::Expired),
            ("exp", json!("soon"), Malformed("exp")),
            ("exp", json!(1e300), Malformed("exp")),
            ("iat", json!(NOW + 120), IdTokenError::Future),
            ("nbf", json!(NOW + 120), IdTokenError::Future),
            ("auth_time", json!(NOW + 120), IdTokenError::Future),
            ("at_hash", json!(b64([0; 16])), Mismatch("at_hash")),
            ("sid", json!(""), Malformed("sid")),
        ] {
            assert_eq!(with(&key, |claims| claims[claim] = value.clone()), Err(error), "{claim} {value}");
        }
        for claim in ["iss", "aud", "exp", "iat", "nonce"] {
            let without = with(&key, |claims| drop(claims.as_object_mut().unwrap().remove(claim)));
            assert_eq!(without, Err(Missing(claim)));
        }
        let nobody = with(&key, |claims| drop(claims.as_object_mut().unwrap().remove("sub")));
        assert_eq!(nobody.unwrap_err().reason(), "id_token_no_identity");
        assert!(
            with(&key, |claims| {
                claims["aud"] = json!([US, "another"]);
                claims["azp"] = json!(US);
            })
            .is_ok()
        );
    }

    #[test]
    fn at_hash_follows_the_hash_of_the_signature() {
        for (alg, algorithm) in [("ES256", &digest::SHA256), ("EdDSA", &digest::SHA512)] {
            let key = TestKey::generate(alg);
            let hash = digest::digest(algorithm, b"at");
            let half = b64(&hash.as_ref()[..hash.as_ref().len() / 2]);
            assert!(with(&key, |claims| claims["at_hash"] = json!(half)).is_ok(), "{alg}");
        }
    }

    #[test]
    fn a_sign_in_older_than_asked_for_is_refused() {
        let key = TestKey::generate("ES256");
        let keys = KeySet::from_published(key_set(&[&key]).to_string().as_bytes()).unwrap();
        let ask = |auth_time: Option<i64>| {
            let mut claims = claims();
            claims["auth_time"] = json!(auth_time);
            if auth_time.is_none() {
                claims.as_object_mut().unwrap().remove("auth_time");
            }
            let text = key.mint_with(&json!({"alg": "ES256", "kid": key.kid}), &claims);
            let max_age = Some(Duration::from_mins(5));
            let now = Timestamp::from_secs(NOW);
            let expected = Expected { client_id: US, nonce: "n", access_token: None, max_age, now };
            verify(&text, &rules(), &keys, expected)
        };
        assert!(ask(Some(NOW - 300)).is_ok());
        assert_eq!(ask(Some(NOW - 3600)), Err(IdTokenError::TooOld));
        assert_eq!(ask(None), Err(IdTokenError::Missing("auth_time")));
    }

    proptest! {
        #[test]
        fn any_text_is_refused_without_fault(text in "[A-Za-z0-9_.-]{0,120}|\\PC{0,40}") {
            let key = TestKey::hmac("HS256", vec![1; 32]);
            let keys = KeySet::default();
            let now = Timestamp::from_secs(NOW);
            let expected = Expected { client_id: US, nonce: "n", access_token: None, max_age: None, now };
            prop_assert!(verify(&text, &rules(), &keys, expected).is_err());
            drop(key);
        }

        #[test]
        fn any_signed_claims_are_judged_without_fault(claim in "iss|aud|azp|exp|iat|nbf|nonce|sid|sub|auth_time|at_hash",
                                                       value in any_value()) {
            let key = TestKey::generate("EdDSA");
            let _ = with(&key, |claims| claims[&claim] = value);
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "\\PC{0,20}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..4).prop_map(Value::from),
        ]
    }
}
