//! How clients prove who they are.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base::Clock;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use testkit::certs::{Authority, Identity};
use testkit::dpop::Holder;
use testkit::keys::{TestKey, b64, key_set};

use super::support::{Shelf, TOKEN_URL, access_token, error, is, nonce};
use crate::ClientCertificate;
use crate::fixture::{Answer, EXTERNAL, Fixture, NOW, Outside};

const TYPE: &str = "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer";
const JWKS_URL: &str = "https://client.example/jwks";

const SIGNER: &str = r#"
[[client]]
name = "signer"
auth = { method = "private_key_jwt", jwks_url = "https://client.example/jwks", algorithms = ["ES256"] }
scopes = ["chat"]

[[client]]
name = "other"
auth = { method = "private_key_jwt", jwks_url = "https://client.example/jwks", algorithms = ["ES256"] }
scopes = ["chat"]
"#;

struct Signer {
    fixture: Fixture,
    key: TestKey,
    shelf: Arc<Shelf>,
}

fn outside(shelf: &Arc<Shelf>) -> Outside {
    Outside { documents: Arc::clone(shelf) as _, ..Outside::default() }
}

async fn signer() -> Signer {
    let (key, shelf) = (TestKey::generate("ES256").with_kid("k1"), Arc::new(Shelf::default()));
    shelf.put(JWKS_URL, &key_set(&[&key]));
    Signer { fixture: Fixture::reaching(SIGNER, outside(&shelf)).await, key, shelf }
}

impl Signer {
    /// An assertion with these claims over the usual ones; `null` takes one out.
    fn assertion(&self, jti: &str, change: &Value) -> String {
        self.signed(&self.key, &json!({"alg": "ES256", "kid": "k1"}), jti, change)
    }

    fn signed(&self, key: &TestKey, header: &Value, jti: &str, change: &Value) -> String {
        let now = self.fixture.clock.now().as_secs();
        let mut claims = json!({
            "iss": "signer", "sub": "signer", "aud": EXTERNAL, "jti": jti, "iat": now, "exp": now + 60
        });
        let members = claims.as_object_mut().unwrap();
        for (name, value) in change.as_object().unwrap() {
            members.insert(name.clone(), value.clone());
        }
        members.retain(|_, value| !value.is_null());
        key.mint_with(header, &claims)
    }

    async fn ask(&self, assertion: &str) -> Answer {
        ask(&self.fixture, assertion).await
    }
}

async fn ask(fixture: &Fixture, assertion: &str) -> Answer {
    let body = format!("grant_type=client_credentials&client_assertion_type={TYPE}&client_assertion={assertion}");
    fixture.ask_token(&body, &[]).await
}

#[tokio::test]
async fn a_client_that_signs_who_it_is_gets_a_token_whichever_of_our_names_it_signs_for() {
    let signer = signer().await;
    for (n, aud) in [json!(EXTERNAL), json!(TOKEN_URL), json!([EXTERNAL, TOKEN_URL])].into_iter().enumerate() {
        let answer = signer.ask(&signer.assertion(&format!("j{n}"), &json!({ "aud": aud }))).await;
        assert_eq!(answer.status, StatusCode::OK, "{aud} {}", answer.text);
        assert_eq!(answer.json()["token_type"], "Bearer");
    }
    let named = format!(
        "grant_type=client_credentials&client_id=signer&client_assertion_type={TYPE}&client_assertion={}",
        signer.assertion("named", &json!({}))
    );
    assert_eq!(signer.fixture.ask_token(&named, &[]).await.status, StatusCode::OK);
    let misnamed = named.replace("client_id=signer", "client_id=other");
    assert_eq!(error(&signer.fixture.ask_token(&misnamed, &[]).await), is(400, "invalid_request"));
}

#[tokio::test]
async fn a_22_what_is_no_assertion_of_this_client_is_an_invalid_client() {
    let signer = signer().await;
    let stranger = TestKey::generate("ES256").with_kid("k1");
    let rsa = TestKey::generate("RS256").with_kid("k1");
    let header = json!({"alg": "ES256", "kid": "k1"});
    let typed = |typ: &str| json!({"alg": "ES256", "kid": "k1", "typ": typ});
    let nothing = json!({});
    let tries = [
        ("another key", signer.signed(&stranger, &header, "1", &nothing)),
        ("another algorithm", signer.signed(&rsa, &json!({"alg": "RS256", "kid": "k1"}), "2", &nothing)),
        ("an unknown key", signer.signed(&signer.key, &json!({"alg": "ES256", "kid": "k9"}), "3", &nothing)),
        ("an access token", signer.signed(&signer.key, &typed("at+jwt"), "4", &nothing)),
        ("a proof", signer.signed(&signer.key, &typed("dpop+jwt"), "5", &nothing)),
        ("a security event", signer.signed(&signer.key, &typed("secevent+jwt"), "6", &nothing)),
        ("another subject", signer.assertion("7", &json!({"sub": "other"}))),
        ("another issuer", signer.assertion("8", &json!({"iss": "other"}))),
        ("nobody", signer.assertion("9", &json!({"iss": "nobody", "sub": "nobody"}))),
        ("another audience", signer.assertion("10", &json!({"aud": "https://other.example"}))),
        ("another audience too", signer.assertion("11", &json!({"aud": [EXTERNAL, "https://other.example"]}))),
        ("no audience", signer.assertion("12", &json!({"aud": null}))),
        ("expired", signer.assertion("13", &json!({"exp": NOW - 120}))),
        ("no end", signer.assertion("14", &json!({"exp": null}))),
        ("too long", signer.assertion("15", &json!({"exp": NOW + 86_400}))),
        ("not yet", signer.assertion("16", &json!({"nbf": NOW + 3600}))),
        ("no id", signer.assertion("17", &json!({"jti": null}))),
        ("unsigned", testkit::keys::unsigned(&json!({"alg": "none"}), &json!({"iss": "signer", "sub": "signer"}))),
        ("no JWT", b64("x")),
    ];
    for (what, assertion) in tries {
        // Each from elsewhere: this is not about lockout.
        let fixture = &signer.fixture;
        fixture.clock.advance(Duration::from_millis(1));
        let body = format!("grant_type=client_credentials&client_assertion_type={TYPE}&client_assertion={assertion}");
        let from = format!("198.51.100.{}", what.len() * 7 % 250);
        let answer = fixture.ask_token_from(&body, &[], &from).await;
        assert_eq!(error(&answer), is(401, "invalid_client"), "{what}: {}", answer.text);
        assert!(!answer.text.contains(&assertion));
    }
    assert_eq!(signer.ask(&signer.assertion("good", &nothing)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_22_our_own_access_token_is_no_assertion() {
    let signer = signer().await;
    let token = access_token(&signer.ask(&signer.assertion("1", &json!({}))).await);
    assert_eq!(error(&signer.ask(&token).await), is(401, "invalid_client"));
}

#[tokio::test]
async fn an_assertion_counts_once_also_when_tried_at_once_and_after_a_restart() {
    let signer = signer().await;
    let assertion = signer.assertion("once", &json!({}));
    let tries = futures_util::future::join_all((0..20).map(|_| signer.ask(&assertion))).await;
    let passed = tries.iter().filter(|answer| answer.status == StatusCode::OK).count();
    assert_eq!(passed, 1);
    let Signer { fixture, shelf, .. } = signer;
    fixture.clock.advance(Duration::from_secs(1));
    let fixture = fixture.restarted(SIGNER, outside(&shelf)).await;
    assert_eq!(error(&ask(&fixture, &assertion).await), is(401, "invalid_client"));
}

#[tokio::test]
async fn two_clients_may_use_the_same_jti() {
    let signer = signer().await;
    assert_eq!(signer.ask(&signer.assertion("same", &json!({}))).await.status, StatusCode::OK);
    let other = signer.assertion("same", &json!({"iss": "other", "sub": "other"}));
    assert_eq!(signer.ask(&other).await.status, StatusCode::OK);
}

#[tokio::test]
async fn new_keys_of_a_client_are_fetched_when_they_are_used_but_not_for_every_unknown_one() {
    let signer = signer().await;
    let new = TestKey::generate("ES256").with_kid("k2");
    let header = json!({"alg": "ES256", "kid": "k2"});
    assert_eq!(signer.ask(&signer.assertion("1", &json!({}))).await.status, StatusCode::OK);
    signer.shelf.put(JWKS_URL, &key_set(&[&signer.key, &new]));
    signer.fixture.clock.advance(Duration::from_secs(31));
    assert_eq!(signer.ask(&signer.signed(&new, &header, "2", &json!({}))).await.status, StatusCode::OK);
    let fetched = signer.shelf.fetched.load(Ordering::SeqCst);
    for n in 0..40 {
        let unknown = json!({"alg": "ES256", "kid": format!("random-{n}")});
        let body = format!(
            "grant_type=client_credentials&client_assertion_type={TYPE}&client_assertion={}",
            signer.signed(&new, &unknown, &format!("u{n}"), &json!({}))
        );
        signer.fixture.ask_token_from(&body, &[], &format!("198.51.100.{n}")).await;
    }
    assert_eq!(signer.shelf.fetched.load(Ordering::SeqCst), fetched, "within the cooldown nothing is fetched");
    assert_eq!(signer.ask(&signer.assertion("3", &json!({}))).await.status, StatusCode::OK);
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_our_failure_and_those_held_serve_on_for_a_while() {
    let signer = signer().await;
    assert_eq!(signer.ask(&signer.assertion("1", &json!({}))).await.status, StatusCode::OK);
    signer.shelf.clear();
    signer.fixture.clock.advance(Duration::from_mins(90));
    assert_eq!(signer.ask(&signer.assertion("2", &json!({}))).await.status, StatusCode::OK);
    signer.fixture.clock.advance(Duration::from_hours(1));
    let answer = signer.ask(&signer.assertion("3", &json!({}))).await;
    assert_eq!((error(&answer), answer.header("retry-after")), (is(503, "temporarily_unavailable"), "5"));
}

#[tokio::test]
async fn a_client_proves_who_it_is_in_its_own_way_only() {
    let signer = signer().await;
    let fixture = &signer.fixture;
    let made = json!({ "name": "secretive", "scopes": ["chat"] });
    let made = fixture.owner(Method::POST, "/admin/v1/clients", Some(made)).await;
    let secret = made.json()["client_secret"].as_str().unwrap().to_owned();
    let grant = "grant_type=client_credentials";
    for body in [
        format!("{grant}&client_id=signer&client_secret={secret}"),
        format!("{grant}&client_id=signer"),
        format!("{grant}&client_id=secretive"),
    ] {
        assert_eq!(error(&fixture.ask_token(&body, &[]).await), is(401, "invalid_client"), "{body}");
    }
    let forged = signer.assertion("x", &json!({"iss": "secretive", "sub": "secretive"}));
    assert_eq!(error(&signer.ask(&forged).await), is(401, "invalid_client"));
    for body in [
        format!("{grant}&client_id=signer&client_assertion={forged}"),
        format!("{grant}&client_id=signer&client_assertion_type={TYPE}"),
        format!("{grant}&client_assertion={forged}&client_assertion_type=urn%3Aother"),
        format!("{grant}&client_assertion={forged}&client_assertion_type={TYPE}&client_secret={secret}"),
    ] {
        assert_eq!(error(&fixture.ask_token(&body, &[]).await), is(400, "invalid_request"), "{body}");
    }
}

fn shown(identity: &Identity, trusted: bool) -> ClientCertificate {
    ClientCertificate { der: identity.der().to_vec(), trusted }
}

const TLS: &str = r#"trusted_proxies = ["10.0.0.0/8"]
[[client]]
name = "by-name"
auth = { method = "tls_client_auth", subject_dn = "CN=batch" }
scopes = ["chat"]

[[client]]
name = "bound"
auth = { method = "tls_client_auth", subject_dn = "CN=batch" }
scopes = ["chat"]
require = ["mtls"]
"#;

#[tokio::test]
async fn a_37_a_certificate_proves_a_client_only_if_it_is_trusted_and_says_its_name() {
    let fixture = Fixture::with(TLS).await;
    let authority = Authority::new();
    let (batch, other) = (authority.client("batch"), authority.client("other"));
    let ask = async |client: &str, certificate| {
        let body = format!("grant_type=client_credentials&client_id={client}");
        fixture.post("/oauth/token", &body, &[], certificate).await
    };
    let good = ask("by-name", Some(shown(&batch, true))).await;
    assert_eq!(good.status, StatusCode::OK, "{}", good.text);
    assert!(super::support::claims(&access_token(&good)).get("cnf").is_none());
    for certificate in [
        None,
        Some(shown(&other, true)),
        Some(shown(&batch, false)),
        Some(shown(&Identity::self_signed("batch"), false)),
    ] {
        assert_eq!(error(&ask("by-name", certificate).await), is(401, "invalid_client"));
    }
    let garbage = Some(ClientCertificate { der: vec![0x30, 0x03, 1, 2, 3], trusted: true });
    assert_eq!(error(&ask("by-name", garbage).await), is(401, "invalid_client"));
}

#[tokio::test]
async fn a_token_of_a_client_that_requires_mtls_names_its_certificate() {
    let fixture = Fixture::with(TLS).await;
    let batch = Authority::new().client("batch");
    let body = "grant_type=client_credentials&client_id=bound";
    let answer = fixture.post("/oauth/token", body, &[], Some(shown(&batch, true))).await;
    let claims = super::support::claims(&access_token(&answer));
    assert_eq!(claims["cnf"], json!({ "x5t#S256": batch.thumbprint() }));
    assert_eq!(answer.json()["token_type"], "Bearer");
}

#[tokio::test]
async fn a_client_may_be_known_by_certificates_nobody_else_signed() {
    let (own, other) = (Identity::self_signed("mine"), Identity::self_signed("mine"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("client.pem");
    std::fs::write(&path, testkit_pem(&own)).unwrap();
    let fixture = Fixture::with(&format!(
        "trusted_proxies = [\"10.0.0.0/8\"]\n[[client]]\nname = \"self-signed\"\nscopes = [\"chat\"]\n\
         auth = {{ method = \"self_signed_tls_client_auth\", certificate = \"{}\" }}\nrequire = [\"mtls\"]\n",
        path.display()
    ))
    .await;
    let body = "grant_type=client_credentials&client_id=self-signed";
    let good = fixture.post("/oauth/token", body, &[], Some(shown(&own, false))).await;
    assert_eq!(super::support::claims(&access_token(&good))["cnf"]["x5t#S256"], own.thumbprint());
    for certificate in [None, Some(shown(&other, false)), Some(shown(&other, true))] {
        assert_eq!(error(&fixture.post("/oauth/token", body, &[], certificate).await), is(401, "invalid_client"));
    }
}

fn testkit_pem(identity: &Identity) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(identity.der());
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}

#[tokio::test]
async fn failed_assertions_and_certificates_close_a_name_like_wrong_secrets_do() {
    let signer = signer().await;
    let stranger = TestKey::generate("ES256").with_kid("k1");
    for n in 0..5 {
        let forged = signer.signed(&stranger, &json!({"alg": "ES256", "kid": "k1"}), &n.to_string(), &json!({}));
        assert_eq!(error(&signer.ask(&forged).await), is(401, "invalid_client"));
    }
    let closed = signer.ask(&signer.assertion("good", &json!({}))).await;
    assert_eq!(error(&closed), is(429, "temporarily_unavailable"));
}

#[tokio::test]
async fn a_35_a_proof_that_grew_old_while_the_clients_keys_were_fetched_is_not_taken() {
    let signer = signer().await;
    let Signer { fixture, shelf, .. } = &signer;
    let holder = Holder::new("ES256");
    let nonce = nonce(fixture, &holder).await;
    let ask = async |jti: &str, at: i64| {
        let proof = holder.proof("POST", TOKEN_URL, at).nonce(&nonce).sign();
        let assertion = signer.assertion(jti, &json!({}));
        let body = format!("grant_type=client_credentials&client_assertion_type={TYPE}&client_assertion={assertion}");
        fixture.ask_token(&body, &[("dpop", &proof)]).await
    };
    // Good for five seconds more than a minute: too old when the keys are there, when nobody would remember it for long.
    *shelf.slow.lock().unwrap() = Some((fixture.clock.clone(), Duration::from_secs(3)));
    assert_eq!(error(&ask("1", NOW - 64).await), is(400, "invalid_dpop_proof"));
    *shelf.slow.lock().unwrap() = None;
    assert_eq!(ask("2", NOW).await.status, StatusCode::OK);
}
