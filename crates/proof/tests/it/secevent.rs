//! Security event tokens (RFC 8417, Shared Signals): what is obeyed and what is not.

use base::Timestamp;
use proof::jose::{Alg, KeySet};
use proof::secevent::{
    Event, EventKind, ExpectedSet, MAX_SET_LEN, SecurityEventToken, Set, SetError, SubjectId, verify_set,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::support::{NOW, TestKey, changed, now, set};

const ISS: &str = "https://id.example.com/";
const AUD: &str = "https://ai.example.com/oauth/events";
const CAEP: &str = "https://schemas.openid.net/secevent/caep/event-type/";
const RISC: &str = "https://schemas.openid.net/secevent/risc/event-type/";
const SSF: &str = "https://schemas.openid.net/secevent/ssf/event-type/";

struct Transmitter {
    key: TestKey,
    keys: KeySet,
}

fn claims(changes: &Value) -> Value {
    let events = json!({format!("{CAEP}session-revoked"): {"event_timestamp": NOW - 10}});
    let subject = json!({"format": "iss_sub", "iss": ISS, "sub": "user-1"});
    changed(json!({"iss": ISS, "aud": AUD, "jti": "e-1", "iat": NOW, "sub_id": subject, "events": events}), changes)
}

impl Transmitter {
    fn new() -> Self {
        let key = TestKey::p256();
        let keys = set(&[key.jwk_with(&json!({"kid": "t1"}))]);
        Self { key, keys }
    }

    fn sign(&self, changes: &Value) -> String {
        self.sign_with(r#"{"alg":"ES256","kid":"t1","typ":"secevent+jwt"}"#, changes)
    }

    fn sign_with(&self, header: &str, changes: &Value) -> String {
        self.key.token(header, claims(changes).to_string())
    }

    fn check(&self, text: &str) -> Result<SecurityEventToken, SetError> {
        let expected = ExpectedSet {
            issuer: ISS,
            audiences: &[AUD.to_owned()],
            algorithms: &[Alg::Es256, Alg::Rs256, Alg::Hs256],
            now: now(),
        };
        verify_set(&Set::parse(text)?, &self.keys, &expected)
    }

    fn verdict(&self, text: &str) -> (&'static str, &'static str) {
        self.check(text).map_or_else(|error| (error.reason(), error.err_code()), |_| ("ok", ""))
    }

    fn of(&self, changes: &Value) -> (&'static str, &'static str) {
        self.verdict(&self.sign(changes))
    }

    /// The one event of a token with this one.
    fn event(&self, uri: &str, members: &Value) -> Result<Event, SetError> {
        self.check(&self.sign(&json!({"events": {uri: members}}))).map(|token| token.events()[0].clone())
    }

    fn subject(&self, subject: &Value) -> Result<SubjectId, SetError> {
        self.check(&self.sign(&json!({"sub_id": subject}))).map(|token| token.subject().clone())
    }
}

#[test]
fn r_71_a_token_of_the_transmitter_is_read() {
    let transmitter = Transmitter::new();
    let text = transmitter.sign(&json!({"txn": "t-9"}));
    assert_eq!(Set::parse(&text).unwrap().issuer(), ISS);
    let token = transmitter.check(&text).unwrap();
    assert_eq!((token.issuer(), token.jti(), token.txn()), (ISS, "e-1", Some("t-9")));
    assert_eq!(token.issued_at(), now());
    assert_eq!(*token.subject(), SubjectId::IssSub { iss: ISS.into(), sub: "user-1".into() });
    assert_eq!(token.events(), [Event { kind: EventKind::SessionRevoked, at: Some(Timestamp::from_secs(NOW - 10)) }]);
    assert_eq!(token.happened_at(&token.events()[0]), Timestamp::from_secs(NOW - 10));
    let shown = format!("{token:?}{:?}", Set::parse(&text).unwrap());
    assert!(shown.contains("e-1") && !shown.contains("user-1"), "{shown}");
    assert_eq!(transmitter.of(&json!({"aud": ["x", AUD]})).0, "ok");
}

#[test]
fn r_70_every_refusal_has_the_code_of_rfc_8935() {
    let transmitter = Transmitter::new();
    let bad = ("bad_claim", "invalid_request");
    for (change, verdict) in [
        (json!({"iss": null}), ("missing_claim", "invalid_request")),
        (json!({"iss": 7}), bad),
        (json!({"iss": "https://id.example.com"}), ("unknown_issuer", "invalid_issuer")),
        (json!({"iss": "https://evil.example/"}), ("unknown_issuer", "invalid_issuer")),
        (json!({"aud": "https://other.example.com"}), ("wrong_audience", "invalid_audience")),
        (json!({"aud": null}), ("missing_claim", "invalid_request")),
        (json!({"aud": {"x": AUD}}), bad),
        (json!({"exp": NOW + 60}), ("forbidden_claim", "invalid_request")),
        (json!({"sub": "user-1"}), ("forbidden_claim", "invalid_request")),
        (json!({"jti": null}), ("missing_claim", "invalid_request")),
        (json!({"jti": ""}), bad),
        (json!({"iat": null}), ("missing_claim", "invalid_request")),
        (json!({"iat": "x"}), bad),
        (json!({"iat": NOW + 301}), ("issued_in_future", "invalid_request")),
        (json!({"txn": 7}), bad),
        (json!({"sub_id": null}), ("missing_claim", "invalid_request")),
        (json!({"sub_id": "user-1"}), bad),
        (json!({"events": null}), ("missing_claim", "invalid_request")),
        (json!({"events": {}}), bad),
        (json!({"events": []}), bad),
        (json!({"events": {"urn:x": 7}}), bad),
        (json!({"events": (0..9).map(|n| (format!("urn:{n}"), json!({}))).collect::<serde_json::Map<_, _>>()}), bad),
    ] {
        assert_eq!(transmitter.of(&change), verdict, "{change}");
    }
    assert_eq!(transmitter.of(&json!({"iat": NOW - 400 * 86_400})).0, "ok", "late is better than never");
    let long = transmitter.sign(&json!({"extra": "x".repeat(MAX_SET_LEN)}));
    assert_eq!(transmitter.verdict(&long), ("token_too_long", "invalid_request"));
    assert_eq!(transmitter.verdict("x"), ("not_compact_jws", "invalid_request"));
}

#[test]
fn a_22_other_kinds_of_token_are_no_events_and_only_the_transmitters_keys_count() {
    let transmitter = Transmitter::new();
    for typ in [json!(null), json!("JWT"), json!("at+jwt"), json!("logout+jwt"), json!("dpop+jwt"), json!("secevent")] {
        let header = changed(json!({"alg": "ES256", "kid": "t1"}), &json!({"typ": typ})).to_string();
        assert_eq!(
            transmitter.verdict(&transmitter.sign_with(&header, &json!({}))),
            ("wrong_typ", "invalid_request"),
            "{typ}"
        );
    }
    let stranger = TestKey::p256();
    let by = |key: &TestKey, header: &str| key.token(header, claims(&json!({})).to_string());
    let key = "invalid_key";
    let typ = r#""typ":"secevent+jwt""#;
    assert_eq!(
        transmitter.verdict(&by(&stranger, &format!(r#"{{"alg":"ES256","kid":"t1",{typ}}}"#))),
        ("bad_signature", key)
    );
    assert_eq!(
        transmitter.verdict(&by(&stranger, &format!(r#"{{"alg":"ES256","kid":"t2",{typ}}}"#))),
        ("unknown_key", key)
    );
    let hmac = TestKey::oct(transmitter.key.jwk().to_string().as_bytes());
    assert_eq!(
        transmitter.verdict(&by(&hmac, &format!(r#"{{"alg":"HS256","kid":"t1",{typ}}}"#))),
        ("alg_not_allowed", key)
    );
    let es384 = format!(r#"{{"alg":"ES384","kid":"t1",{typ}}}"#);
    assert_eq!(transmitter.verdict(&by(&TestKey::p384(), &es384)), ("alg_not_allowed", key));
    let none = format!(r#"{{"alg":"none",{typ}}}"#);
    assert_eq!(transmitter.verdict(&transmitter.sign_with(&none, &json!({}))).0, "unsupported_alg");
}

#[test]
fn r_72_the_events_that_are_acted_on_are_known() {
    let transmitter = Transmitter::new();
    let kind = |uri: String, members: Value| transmitter.event(&uri, &members).map(|event| event.kind);
    let caep = |name: &str, members| kind(format!("{CAEP}{name}"), members);
    let risc = |name: &str| kind(format!("{RISC}{name}"), json!({}));
    assert_eq!(caep("session-revoked", json!({"initiating_entity": "policy"})), Ok(EventKind::SessionRevoked));
    assert_eq!(
        caep("credential-change", json!({"credential_type": "password", "change_type": "update"})),
        Ok(EventKind::CredentialChange { credential: "password".into(), change: "update".into() })
    );
    assert_eq!(caep("token-claims-change", json!({"claims": {"role": "a"}})), Ok(EventKind::TokenClaimsChange));
    for (current, compliant) in [("compliant", true), ("not-compliant", false)] {
        let members = json!({"previous_status": "compliant", "current_status": current});
        assert_eq!(caep("device-compliance-change", members), Ok(EventKind::DeviceComplianceChange { compliant }));
    }
    assert_eq!(
        caep(
            "assurance-level-change",
            json!({"namespace": "NIST-AAL", "current_level": "nist-aal1", "change_direction": "decrease"})
        ),
        Ok(EventKind::AssuranceLevelChange { current: "nist-aal1".into(), direction: Some("decrease".into()) })
    );
    let high = json!({"principal": "USER", "current_level": "HIGH"});
    assert_eq!(caep("risk-level-change", high), Ok(EventKind::RiskLevelChange { current: "HIGH".into() }));
    assert_eq!(risc("account-disabled"), Ok(EventKind::AccountDisabled));
    assert_eq!(risc("account-purged"), Ok(EventKind::AccountPurged));
    assert_eq!(risc("credential-compromise"), Ok(EventKind::CredentialCompromise));
    assert_eq!(risc("sessions-revoked"), Ok(EventKind::SessionRevoked));
    for family in [SSF, "https://schemas.openid.net/secevent/sse/event-type/"] {
        let answer = EventKind::Verification { state: Some("VGhpcw".into()) };
        assert_eq!(kind(format!("{family}verification"), json!({"state": "VGhpcw"})), Ok(answer));
    }
    let paused = EventKind::StreamUpdated { status: "paused".into() };
    assert_eq!(kind(format!("{SSF}stream-updated"), json!({"status": "paused"})), Ok(paused));
    for unknown in ["urn:example:other", "https://schemas.openid.net/secevent/risc/event-type/session-revoked"] {
        assert_eq!(kind(unknown.into(), json!({})), Ok(EventKind::Unknown(unknown.into())));
    }
}

#[test]
fn an_event_that_does_not_say_what_it_must_is_refused() {
    let transmitter = Transmitter::new();
    for (name, members) in [
        ("credential-change", json!({"credential_type": "password"})),
        ("credential-change", json!({"change_type": "update"})),
        ("device-compliance-change", json!({"current_status": "unknown"})),
        ("device-compliance-change", json!({"current_status": true})),
        ("device-compliance-change", json!({})),
        ("assurance-level-change", json!({})),
        ("risk-level-change", json!({"current_level": 3})),
        ("session-revoked", json!({"event_timestamp": "yesterday"})),
        ("session-revoked", json!({"subject": {"format": "email", "email": "a@example.com"}})),
    ] {
        let refused = transmitter.event(&format!("{CAEP}{name}"), &members).unwrap_err();
        assert_eq!(refused, SetError::BadClaim("events"), "{name} {members}");
    }
    assert!(transmitter.event("urn:\u{7}", &json!({})).is_err());
}

#[test]
fn an_event_of_the_future_happened_when_it_was_told() {
    let transmitter = Transmitter::new();
    let uri = format!("{CAEP}session-revoked");
    for (members, secs) in [
        (json!({}), NOW),
        (json!({"event_timestamp": NOW - 86_400}), NOW - 86_400),
        (json!({"event_timestamp": NOW + 10}), NOW + 10),
        (json!({"event_timestamp": NOW + 100_000}), NOW + 300),
    ] {
        let token = transmitter.check(&transmitter.sign(&json!({"events": {&uri: members}}))).unwrap();
        assert_eq!(token.happened_at(&token.events()[0]), Timestamp::from_secs(secs), "{members}");
    }
}

#[test]
fn subjects_of_every_format_are_read() {
    let transmitter = Transmitter::new();
    let subject = |value: Value| transmitter.subject(&value).unwrap();
    let text = |text: &str| text.to_owned();
    assert_eq!(subject(json!({"format": "email", "email": "a@b.c"})), SubjectId::Email(text("a@b.c")));
    assert_eq!(subject(json!({"format": "phone_number", "phone_number": "+49"})), SubjectId::PhoneNumber(text("+49")));
    assert_eq!(subject(json!({"format": "account", "uri": "acct:a@b"})), SubjectId::Account(text("acct:a@b")));
    assert_eq!(subject(json!({"format": "opaque", "id": "x"})), SubjectId::Opaque(text("x")));
    assert_eq!(subject(json!({"format": "uri", "uri": "urn:x"})), SubjectId::Uri(text("urn:x")));
    assert_eq!(subject(json!({"format": "did", "url": "did:x"})), SubjectId::Did(text("did:x")));
    let jwt = subject(json!({"format": "jwt_id", "iss": ISS, "jti": "j"}));
    assert_eq!(jwt, SubjectId::JwtId { iss: text(ISS), jti: text("j") });
    let saml = subject(json!({"format": "saml_assertion_id", "issuer": ISS, "assertion_id": "_1"}));
    assert_eq!(saml, SubjectId::SamlAssertionId { issuer: text(ISS), assertion_id: text("_1") });
    assert_eq!(subject(json!({"format": "urn:other", "a": [1]})), SubjectId::Unknown(text("urn:other")));
    let (mail, opaque) = (json!({"format": "email", "email": "a@b.c"}), json!({"format": "opaque", "id": "x"}));
    let aliases = json!({"format": "aliases", "identifiers": [mail, opaque]});
    let both = vec![SubjectId::Email(text("a@b.c")), SubjectId::Opaque(text("x"))];
    assert_eq!(subject(aliases.clone()), SubjectId::Aliases(both.clone()));
    let complex =
        json!({"format": "complex", "user": aliases, "device": opaque, "x-new": {"format": "opaque", "id": "1"}});
    let SubjectId::Complex(complex) = subject(complex) else { panic!("not complex") };
    assert_eq!((complex.user, complex.device), (Some(SubjectId::Aliases(both)), Some(SubjectId::Opaque(text("x")))));
    assert_eq!((complex.session, complex.unknown), (None, vec![text("x-new")]));
}

#[test]
fn subjects_that_say_less_or_more_than_their_format_are_refused() {
    let transmitter = Transmitter::new();
    let opaque = json!({"format": "opaque", "id": "x"});
    for wrong in [
        json!({}),
        json!({"format": 7}),
        json!({"id": "x"}),
        json!({"format": "iss_sub", "iss": ISS}),
        json!({"format": "iss_sub", "sub": "x"}),
        json!({"format": "iss_sub", "iss": ISS, "sub": 7}),
        json!({"format": "iss_sub", "iss": ISS, "sub": ""}),
        json!({"format": "email", "uri": "a@b.c"}),
        json!({"format": "aliases"}),
        json!({"format": "aliases", "identifiers": []}),
        json!({"format": "aliases", "identifiers": [7]}),
        json!({"format": "aliases", "identifiers": [{"format": "aliases", "identifiers": [opaque]}]}),
        json!({"format": "aliases", "identifiers": vec![opaque.clone(); 17]}),
        json!({"format": "complex"}),
        json!({"format": "complex", "user": "x"}),
        json!({"format": "complex", "user": {"format": "complex", "user": opaque}}),
    ] {
        assert_eq!(transmitter.subject(&wrong), Err(SetError::BadClaim("sub_id")), "{wrong}");
    }
}

proptest! {
    #[test]
    fn any_subject_and_event_is_read_or_refused(format in "[a-z_]{0,9}|complex|aliases|iss_sub", name in "[a-z-]{0,12}", value in ".{0,12}") {
        let transmitter = Transmitter::new();
        let subject = json!({"format": format, &name: {"format": value}, "iss": value, "identifiers": [{"format": value}]});
        let events = json!({format!("{CAEP}{name}"): {&name: value, "event_timestamp": 7}});
        let _ = transmitter.check(&transmitter.sign(&json!({"sub_id": subject, "events": events})));
    }
}
