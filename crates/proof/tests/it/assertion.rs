//! Client assertions (RFC 7523): what lets a client in and what does not.

use base::Timestamp;
use proof::assertion::{
    Assertion, AssertionError, ExpectedAssertion, MAX_ASSERTION_JTI_LEN, MAX_ASSERTION_LEN, VerifiedAssertion,
    verify_client_assertion,
};
use proof::jose::{Alg, KeySet};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{NOW, TestKey, now, set};

const ISSUER: &str = "https://ai.example.com";
const ENDPOINT: &str = "https://ai.example.com/oauth/token";

struct Client {
    key: TestKey,
    keys: KeySet,
}

fn claims(changes: &Value) -> Value {
    let good = json!({"iss": "batch", "sub": "batch", "aud": ISSUER, "jti": "a-1", "iat": NOW, "exp": NOW + 60});
    crate::support::changed(good, changes)
}

impl Client {
    fn new() -> Self {
        let key = TestKey::p256();
        let keys = set(&[key.jwk_with(&json!({"kid": "c1"}))]);
        Self { key, keys }
    }

    fn sign(&self, changes: &Value) -> String {
        self.sign_with(r#"{"alg":"ES256","kid":"c1"}"#, changes)
    }

    fn sign_with(&self, header: &str, changes: &Value) -> String {
        self.key.token(header, claims(changes).to_string())
    }

    fn check(&self, assertion: &str) -> Result<VerifiedAssertion, AssertionError> {
        self.check_at(assertion, now())
    }

    fn check_at(&self, assertion: &str, now: Timestamp) -> Result<VerifiedAssertion, AssertionError> {
        let expected = ExpectedAssertion {
            client_id: "batch",
            audiences: &[ISSUER, ENDPOINT],
            algorithms: &[Alg::Es256, Alg::Ps256, Alg::Hs256],
            now,
        };
        verify_client_assertion(&Assertion::parse(assertion)?, &self.keys, &expected)
    }

    fn reason(&self, changes: &Value) -> &'static str {
        self.reason_of(&self.sign(changes))
    }

    fn reason_of(&self, assertion: &str) -> &'static str {
        self.check(assertion).map_or_else(AssertionError::reason, |_| "ok")
    }
}

#[test]
fn r_65_a_client_that_signs_who_it_is_is_let_in() {
    let client = Client::new();
    let assertion = client.sign(&json!({}));
    assert_eq!(Assertion::parse(&assertion).unwrap().client_id(), "batch");
    let verified = client.check(&assertion).unwrap();
    assert_eq!((verified.client_id(), verified.jti()), ("batch", "a-1"));
    assert_eq!(verified.acceptable_until(), Timestamp::from_secs(NOW + 120));
    for ok in [
        json!({"aud": ENDPOINT}),
        json!({"aud": [ISSUER]}),
        json!({"aud": [ISSUER, ENDPOINT]}),
        json!({"exp": NOW + 3600}),
        json!({"iat": null}),
        json!({"nbf": NOW, "extra": {"a": 1}}),
        json!({"jti": "j".repeat(MAX_ASSERTION_JTI_LEN)}),
    ] {
        assert_eq!(client.reason(&ok), "ok", "{ok}");
    }
    for typ in ["JWT", "jwt", "client-authentication+jwt", "application/client-authentication+jwt"] {
        let header = json!({"alg": "ES256", "kid": "c1", "typ": typ}).to_string();
        assert_eq!(client.reason_of(&client.sign_with(&header, &json!({}))), "ok", "{typ}");
    }
    let shown = format!("{verified:?}{:?}", Assertion::parse(&assertion).unwrap());
    assert!(!shown.contains("a-1"), "{shown}");
}

#[test]
fn r_65_each_claim_taken_away_or_bent() {
    let client = Client::new();
    for claim in ["iss", "sub", "aud", "jti", "exp"] {
        assert_eq!(client.reason(&json!({claim: null})), "missing_claim", "{claim}");
        for wrong in [json!({}), json!(true), json!([7])] {
            assert_eq!(client.reason(&json!({claim: wrong})), "bad_claim", "{claim} {wrong}");
        }
    }
    for (change, why) in [
        (json!({"iss": "other"}), "wrong_client"),
        (json!({"sub": "other"}), "wrong_client"),
        (json!({"iss": "other", "sub": "other"}), "wrong_client"),
        (json!({"iss": "Batch", "sub": "Batch"}), "wrong_client"),
        (json!({"iss": ""}), "bad_claim"),
        (json!({"sub": "b\u{0}"}), "bad_claim"),
        (json!({"sub": "b".repeat(300)}), "bad_claim"),
        (json!({"aud": []}), "bad_claim"),
        (json!({"aud": vec![ISSUER; 20]}), "bad_claim"),
        (json!({"aud": [ISSUER, 7]}), "bad_claim"),
        (json!({"aud": "https://ai.example.com/"}), "wrong_audience"),
        (json!({"aud": "https://other.example.com"}), "wrong_audience"),
        (json!({"aud": [ISSUER, "https://other.example.com"]}), "wrong_audience"),
        (json!({"jti": ""}), "bad_claim"),
        (json!({"jti": "j".repeat(MAX_ASSERTION_JTI_LEN + 1)}), "bad_claim"),
        (json!({"exp": "1800000060"}), "bad_claim"),
        (json!({"exp": 1e300}), "bad_claim"),
        (json!({"exp": NOW - 60}), "expired"),
        (json!({"exp": NOW + 3661}), "lifetime_too_long"),
        (json!({"iat": NOW + 61}), "issued_in_future"),
        (json!({"nbf": NOW + 61}), "issued_in_future"),
        (json!({"iat": "now"}), "bad_claim"),
    ] {
        assert_eq!(client.reason(&change), why, "{change}");
    }
    let long = client.sign(&json!({"extra": "x".repeat(MAX_ASSERTION_LEN)}));
    assert_eq!(client.reason_of(&long), "token_too_long");
    assert_eq!(client.reason(&json!({})), "ok");
}

#[test]
fn a_22_other_kinds_of_token_are_no_assertions() {
    let client = Client::new();
    for typ in [
        json!("at+jwt"),
        json!("dpop+jwt"),
        json!("secevent+jwt"),
        json!("logout+jwt"),
        json!("oauth-authz-req+jwt"),
        json!("application/at+jwt"),
        json!(""),
    ] {
        let header = json!({"alg": "ES256", "kid": "c1", "typ": typ}).to_string();
        assert_eq!(client.reason_of(&client.sign_with(&header, &json!({}))), "wrong_typ", "{typ}");
    }
    // A request object (RFC 9101) is by the same key to the same audience, but has no subject.
    assert_eq!(client.reason(&json!({"sub": null, "client_id": "batch"})), "missing_claim");
}

#[test]
fn a_03_only_the_clients_own_asymmetric_keys_count() {
    let client = Client::new();
    let hmac = TestKey::oct(client.key.jwk()["x"].as_str().unwrap().as_bytes());
    let forged = hmac.token(r#"{"alg":"HS256","kid":"c1"}"#, claims(&json!({})).to_string());
    assert_eq!(client.reason_of(&forged), "alg_not_allowed", "even though HS256 is listed");
    let stranger = TestKey::p256();
    let by = |header: &str| stranger.token(header, claims(&json!({})).to_string());
    assert_eq!(client.reason_of(&by(r#"{"alg":"ES256","kid":"c1"}"#)), "bad_signature");
    assert_eq!(client.reason_of(&by(r#"{"alg":"ES256"}"#)), "bad_signature");
    assert_eq!(client.reason_of(&by(r#"{"alg":"ES256","kid":"c2"}"#)), "unknown_key");
    assert!(client.check(&by(r#"{"alg":"ES256","kid":"c2"}"#)).unwrap_err().retryable());
    let embedded = json!({"alg": "ES256", "jwk": stranger.jwk()}).to_string();
    assert_eq!(client.reason_of(&by(&embedded)), "bad_signature", "a key in the header is not looked at");
    assert_eq!(client.reason_of(&client.sign_with(r#"{"alg":"none"}"#, &json!({}))), "unsupported_alg");
    assert_eq!(client.reason_of(&client.sign_with(r#"{"alg":"ES384","kid":"c1"}"#, &json!({}))), "alg_not_allowed");
    assert_eq!(client.reason_of(&client.sign_with(r#"{"alg":"PS256","kid":"c1"}"#, &json!({}))), "alg_key_mismatch");
    let crit = client.sign_with(r#"{"alg":"ES256","kid":"c1","crit":["x"],"x":1}"#, &json!({}));
    assert_eq!(client.reason_of(&crit), "crit_unsupported");
}

#[test]
fn a_35_what_is_used_up_is_the_clients_jti() {
    let client = Client::new();
    let key = |changes: &Value| client.check(&client.sign(changes)).unwrap().replay_key();
    let first = key(&json!({}));
    assert_eq!(key(&json!({"exp": NOW + 90, "aud": ENDPOINT})), first);
    assert_ne!(key(&json!({"jti": "A-1"})), first);
    // Until then it must be remembered: never shorter than it is accepted.
    let assertion = client.sign(&json!({}));
    let until = client.check(&assertion).unwrap().acceptable_until();
    assert_eq!(client.check_at(&assertion, until).unwrap_err().reason(), "expired");
    assert!(client.check_at(&assertion, Timestamp::from_millis(until.as_millis() - 1)).is_ok());
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text in "[A-Za-z0-9_.-]{0,80}|.{0,40}") {
        prop_assert!(Client::new().check(&text).is_err());
    }

    #[test]
    fn a_changed_claim_needs_a_new_signature(at in 0usize..200) {
        let client = Client::new();
        let good = client.sign(&json!({}));
        let mut bytes = good.clone().into_bytes();
        let at = at % bytes.len();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        prop_assert!(client.check(&changed).is_err());
    }
}
