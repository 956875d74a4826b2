//! The cache of verdicts: it must be impossible to tell from the answers that there is one.

use std::sync::Arc;

use base::Timestamp;
use proof::jose::{base64url_decode, base64url_encode};
use proof::token::{CacheLimits, Issuer, Issuers, TokenError};
use serde_json::{Value, json};

use crate::support::{NOW, Swappable, TestKey, World, claims, claims_with, fixed, name, now, rules};

const HEADER: &str = r#"{"alg":"ES256","kid":"k1"}"#;

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn swappable(limits: CacheLimits) -> (Arc<Swappable>, Issuers) {
    let source = Arc::new(Swappable::default());
    let issuer = Issuer::new(rules(), Arc::clone(&source) as Arc<_>);
    (source, Issuers::new(vec![issuer], limits, 1).unwrap())
}

fn jwks(keys: &[(&TestKey, &str)]) -> Value {
    json!({"keys": keys.iter().map(|(key, kid)| key.jwk_with(&json!({"kid": kid}))).collect::<Vec<_>>()})
}

#[test]
fn a_27_unknown_keys_name_their_issuer_and_are_not_remembered() {
    let (source, issuers) = swappable(CacheLimits::default());
    let key = TestKey::p256();
    let token = key.token(HEADER, claims().to_string());
    let unavailable = issuers.verify(&token, now()).unwrap_err();
    assert_eq!(unavailable, TokenError::KeysUnavailable { issuer: name("corp") });
    assert!(unavailable.retryable());
    source.set(&json!({"keys": []}));
    let unknown = issuers.verify(&token, now()).unwrap_err();
    assert_eq!(unknown, TokenError::UnknownKey { issuer: name("corp") });
    assert_eq!(unknown.refetch(), Some(&name("corp")));
    source.set(&jwks(&[(&key, "k1")]));
    assert!(issuers.verify(&token, now()).is_ok(), "as soon as the key is there");
}

#[test]
fn a_29_rotation() {
    let (source, issuers) = swappable(CacheLimits::default());
    let (old, new) = (TestKey::p256(), TestKey::p256());
    let old_token = old.token(HEADER, claims().to_string());
    let new_token = new.token(r#"{"alg":"ES256","kid":"k2"}"#, claims().to_string());
    source.set(&jwks(&[(&old, "k1")]));
    assert!(issuers.verify(&old_token, now()).is_ok());
    assert!(matches!(issuers.verify(&new_token, now()), Err(TokenError::UnknownKey { .. })));
    source.set(&jwks(&[(&old, "k1"), (&new, "k2")]));
    assert!(issuers.verify(&old_token, now()).is_ok(), "the key survived the new set");
    assert!(issuers.verify(&new_token, now()).is_ok());
    source.set(&jwks(&[(&new, "k2")]));
    assert!(
        matches!(issuers.verify(&old_token, now()), Err(TokenError::UnknownKey { .. })),
        "cached, but its key is gone"
    );
    assert!(issuers.verify(&new_token, now()).is_ok());
    // Another key under the old kid brings nothing back.
    source.set(&jwks(&[(&new, "k1")]));
    assert_eq!(issuers.verify(&old_token, now()).unwrap_err(), TokenError::BadSignature);
    source.set(&jwks(&[(&old, "k1")]));
    assert!(issuers.verify(&old_token, now()).is_ok(), "a refusal does not outlive the set it was made with");
}

#[test]
fn a_40_tokens_that_share_parts_never_share_a_verdict() {
    let world = World::new();
    // The same header and the same first claims: long common prefixes.
    let a = world.sign_with(HEADER, claims_with(&json!({"sub": "alice"})).to_string());
    let b = world.sign_with(HEADER, claims_with(&json!({"sub": "bob"})).to_string());
    assert_eq!(a.split('.').next(), b.split('.').next());
    assert_eq!(world.verify(&a).unwrap().subject(), "alice");
    assert_eq!(world.verify(&b).unwrap().subject(), "bob");
    assert_eq!(world.verify(&a).unwrap().subject(), "alice");
    // Header and payload of a good token, another signature.
    let (signed, signature) = a.rsplit_once('.').unwrap();
    let mut bytes = base64url_decode(signature).unwrap();
    bytes[63] ^= 1;
    let forged = format!("{signed}.{}", base64url_encode(bytes));
    assert!(world.verify(&forged).is_err());
    assert!(world.verify(&forged).is_err());
    assert!(world.verify(&a).is_ok());
    // The same jti, other claims.
    let c = world.sign(&claims_with(&json!({"sub": "carol"})));
    assert_eq!(world.verify(&c).unwrap().subject(), "carol");
    // The same claims from another issuer with the same kid.
    let (one, two) = (TestKey::p256(), TestKey::p256());
    let source = |key: &TestKey| fixed(&[key.jwk_with(&json!({"kid": "k1"}))]);
    let mut other = rules();
    other.name = name("other");
    other.issuer = Some("https://other.example.com/".into());
    let both = crate::support::issuers(vec![Issuer::new(rules(), source(&one)), Issuer::new(other, source(&two))]);
    assert!(both.verify(&one.token(HEADER, claims().to_string()), now()).is_ok());
    assert!(both.verify(&two.token(HEADER, claims().to_string()), now()).is_err());
}

#[test]
fn a_42_the_cache_and_time() {
    let world = World::new();
    let token = world.sign(&claims_with(&json!({"exp": NOW + 20, "nbf": NOW})));
    let verify = |secs: i64| world.issuers.verify(&token, at(secs)).map(|_| ());
    assert_eq!(verify(NOW), Ok(()));
    assert_eq!(verify(NOW + 19), Ok(()));
    assert_eq!(verify(NOW + 20), Err(TokenError::Expired), "cached, and expired all the same");
    assert_eq!(verify(NOW + 400), Err(TokenError::Expired));
    assert_eq!(verify(NOW + 5), Ok(()), "the clock was set back");
    assert_eq!(verify(NOW - 1), Err(TokenError::NotYetValid));
    // What is refused for a time is not refused once the time has come.
    let later = world.sign(&claims_with(&json!({"nbf": NOW + 5})));
    assert_eq!(world.issuers.verify(&later, at(NOW)).unwrap_err(), TokenError::NotYetValid);
    assert!(world.issuers.verify(&later, at(NOW + 5)).is_ok());
    // A verdict is reached again after five minutes.
    let long = world.sign(&claims_with(&json!({"exp": NOW + 3600})));
    for secs in [0, 299, 300, 301, 1000, 3599] {
        assert!(world.issuers.verify(&long, at(NOW + secs)).is_ok(), "{secs}");
    }
    assert!(world.issuers.verify(&long, at(NOW + 3600)).is_err());
}

#[test]
fn a_hit_is_the_very_same_verdict() {
    let world = World::new();
    let good = world.good();
    let (first, second) = (world.verify(&good).unwrap(), world.verify(&good).unwrap());
    assert!(Arc::ptr_eq(&first, &second));
    assert_eq!(world.issuers.cache_size().0, 1);
}

#[test]
fn garbage_does_not_push_good_tokens_out() {
    let key = TestKey::p256();
    let keys = fixed(&[key.jwk_with(&json!({"kid": "k1"}))]);
    let limits = CacheLimits { bytes: 1 << 20, refused: 64 };
    let issuers = Issuers::new(vec![Issuer::new(rules(), keys)], limits, 1).unwrap();
    let good = key.token(HEADER, claims().to_string());
    let first = issuers.verify(&good, now()).unwrap();
    let signed = good.rsplit_once('.').unwrap().0;
    for i in 0..500u64 {
        let junk = [[0u8; 56].as_slice(), &i.to_be_bytes()].concat();
        assert!(issuers.verify(&format!("{signed}.{}", base64url_encode(junk)), now()).is_err());
    }
    assert!(Arc::ptr_eq(&first, &issuers.verify(&good, now()).unwrap()));
}

#[test]
fn the_cache_stays_within_its_bytes() {
    let key = TestKey::p256();
    let keys = fixed(&[key.jwk_with(&json!({"kid": "k1"}))]);
    let limits = CacheLimits { bytes: 200_000, refused: 0 };
    let issuers = Issuers::new(vec![Issuer::new(rules(), keys)], limits, 1).unwrap();
    for i in 0..300 {
        let token =
            key.token(HEADER, claims_with(&json!({"sub": format!("user-{i}"), "x": "y".repeat(i)})).to_string());
        assert!(issuers.verify(&token, now()).is_ok());
    }
    let (tokens, bytes) = issuers.cache_size();
    assert!(tokens > 20 && bytes <= 200_000, "{tokens} tokens, {bytes} bytes");
}

#[test]
fn without_a_cache_everything_is_the_same() {
    let key = TestKey::p256();
    let keys = fixed(&[key.jwk_with(&json!({"kid": "k1"}))]);
    let issuers = Issuers::new(vec![Issuer::new(rules(), keys)], CacheLimits { bytes: 0, refused: 0 }, 1).unwrap();
    let good = key.token(HEADER, claims().to_string());
    for _ in 0..3 {
        assert!(issuers.verify(&good, now()).is_ok());
        assert!(issuers.verify(&format!("{good}A"), now()).is_err());
    }
    assert_eq!(issuers.cache_size(), (0, 0));
}

#[test]
fn a_new_configuration_starts_without_verdicts() {
    let key = TestKey::p256();
    let source = fixed(&[key.jwk_with(&json!({"kid": "k1"}))]);
    let old = crate::support::issuers(vec![Issuer::new(rules(), Arc::clone(&source))]);
    let good = key.token(HEADER, claims().to_string());
    assert!(old.verify(&good, now()).is_ok());
    let mut stricter = rules();
    stricter.audience = vec!["https://elsewhere.example".into()];
    let new = old.renew(vec![Issuer::new(stricter, source)], 2).unwrap();
    assert_eq!(new.verify(&good, now()).unwrap_err(), TokenError::WrongAudience);
    assert!(old.verify(&good, now()).is_ok(), "requests under way keep the configuration they began with");
}
