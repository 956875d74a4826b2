//! Token exchange (RFC 8693).

use http::StatusCode;
use serde_json::{Value, json};
use store::{NewRevocation, Revoke};
use testkit::dpop::Holder;
use testkit::keys::TestKey;

use super::support::{CORP, Corp, TOKEN_URL, access_token, claims, encode, error, is, nonce, with_proof};
use crate::credential::FileHash;
use crate::fixture::{Answer, EXTERNAL, Fixture, NOW};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const GRANT: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
const TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

fn config() -> String {
    let hash = FileHash::of(SECRET).unwrap();
    let issuer = |name: &str, url: &str| {
        format!(
            "[[issuer]]\nname = \"{name}\"\nissuer = \"{url}\"\naudience = [\"{EXTERNAL}\"]\njwks_url = \"{url}jwks\"\n"
        )
    };
    let client = |name: &str, more: &str| {
        format!(
            "[[client]]\nname = \"{name}\"\nscopes = [\"chat\", \"embed\"]\ngrants = [\"token_exchange\"]\n{more}\n\
             auth = {{ method = \"client_secret\", hash = \"{hash}\" }}\n"
        )
    };
    [
        issuer("corp", CORP),
        issuer("partner", "https://partner.example/"),
        client("portal", "exchange = [\"corp\"]"),
        client("bound", "exchange = [\"corp\"]\nrequire = [\"dpop\"]"),
    ]
    .concat()
}

fn body(client: &str, token: &str) -> String {
    format!(
        "grant_type={}&client_id={client}&client_secret={SECRET}&subject_token={token}&subject_token_type={}",
        encode(GRANT),
        encode(TYPE)
    )
}

async fn installation() -> (Fixture, std::sync::Arc<Corp>) {
    let corp = Corp::new();
    (Fixture::reaching(&config(), corp.outside()).await, corp)
}

async fn exchange(fixture: &Fixture, token: &str, more: &str) -> Answer {
    fixture.ask_token(&format!("{}{more}", body("portal", token)), &[]).await
}

#[tokio::test]
async fn a_company_token_becomes_a_short_one_of_ours_that_names_both_sides() {
    let (fixture, corp) = installation().await;
    let answer = exchange(&fixture, &corp.token(&json!({})), "&scope=chat").await;
    let said = answer.json();
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    assert_eq!((&said["issued_token_type"], &said["token_type"]), (&json!(TYPE), &json!("Bearer")));
    assert_eq!((&said["scope"], &said["expires_in"]), (&json!("chat"), &json!(300)));
    assert!(said.get("refresh_token").is_none());
    let claims = claims(&access_token(&answer));
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(EXTERNAL), &json!(EXTERNAL)));
    assert_eq!((&claims["sub"], &claims["act"]), (&json!("corp|alice"), &json!({"sub": "portal"})));
    assert_eq!((&claims["client_id"], &claims["groups"]), (&json!("portal"), &json!(["staff"])));
    assert_eq!((&claims["orig_sid"], &claims["device_id"]), (&json!("corp-session"), &json!("laptop-7")));
    assert!(claims.get("sid").is_none());
}

#[tokio::test]
async fn ours_never_outlives_theirs_nor_has_more_scopes_than_the_client() {
    let (fixture, corp) = installation().await;
    let short = exchange(&fixture, &corp.token(&json!({"exp": NOW + 20})), "").await;
    assert_eq!(short.json()["expires_in"], 20);
    assert_eq!(claims(&access_token(&short))["exp"], NOW + 20);
    let greedy = exchange(&fixture, &corp.token(&json!({"scope": "chat admin"})), "&scope=admin").await;
    assert_eq!(error(&greedy), is(400, "invalid_scope"));
}

#[tokio::test]
async fn what_the_data_plane_would_not_take_is_not_exchanged_either() {
    let (fixture, corp) = installation().await;
    let stranger = TestKey::generate("ES256").with_kid("corp-1");
    let usual = json!({"iss": CORP, "sub": "alice", "aud": EXTERNAL, "exp": NOW + 60});
    let tries = [
        ("expired", corp.token(&json!({"exp": NOW - 1}))),
        ("no end", corp.token(&json!({"exp": null}))),
        ("another audience", corp.token(&json!({"aud": "https://other.example"}))),
        ("another issuer", corp.token(&json!({"iss": "https://evil.example/"}))),
        ("an issuer this client may not exchange", corp.token(&json!({"iss": "https://partner.example/"}))),
        ("another key", stranger.mint(&usual)),
        ("unsigned", testkit::keys::unsigned(&json!({"alg": "none"}), &usual)),
        ("a proof", corp.key.mint_with(&json!({"alg": "ES256", "kid": "corp-1", "typ": "dpop+jwt"}), &usual)),
        (
            "a security event",
            corp.key.mint_with(&json!({"alg": "ES256", "kid": "corp-1", "typ": "secevent+jwt"}), &usual),
        ),
        ("no token", "x".to_owned()),
    ];
    for (what, token) in tries {
        let answer = exchange(&fixture, &token, "").await;
        assert_eq!(error(&answer), is(400, "invalid_request"), "{what}");
        assert!(!answer.text.contains(&token));
    }
}

#[tokio::test]
async fn a_22_our_own_access_token_is_no_subject_token() {
    let (fixture, corp) = installation().await;
    let ours = access_token(&exchange(&fixture, &corp.token(&json!({})), "").await);
    assert_eq!(error(&exchange(&fixture, &ours, "").await), is(400, "invalid_request"));
}

#[tokio::test]
async fn parameters_of_an_exchange_are_those_of_rfc_8693_or_refused() {
    let (fixture, corp) = installation().await;
    let token = corp.token(&json!({}));
    let with = |name: &str, value: &str| format!("&{name}={}", encode(value));
    let kind = |kind: &str| format!("urn:ietf:params:oauth:token-type:{kind}");
    for (more, expected) in [
        (with("actor_token", "x"), is(400, "invalid_request")),
        (with("requested_token_type", &kind("refresh_token")), is(400, "invalid_request")),
        (with("requested_token_type", &kind("saml2")), is(400, "invalid_request")),
        (with("audience", "https://other.example"), is(400, "invalid_target")),
        (with("resource", "https://ai.example.com/v1"), is(400, "invalid_target")),
        (with("scope", "a\"b"), is(400, "invalid_scope")),
    ] {
        assert_eq!(error(&exchange(&fixture, &token, &more).await), expected, "{more}");
    }
    for more in
        [with("audience", EXTERNAL), with("resource", "https://ai.example.com/"), with("requested_token_type", TYPE)]
    {
        assert_eq!(exchange(&fixture, &token, &more).await.status, StatusCode::OK, "{more}");
    }
    let jwt = exchange(&fixture, &token, &with("requested_token_type", &kind("jwt"))).await;
    assert_eq!(jwt.json()["issued_token_type"], kind("jwt"));
    let good = body("portal", &token);
    for (from, to) in [("subject_token_type=", "x="), ("subject_token=", "y="), (TYPE, &kind("saml1"))] {
        let bad = good.replace(&encode(from).replace("%3D", "="), &encode(to).replace("%3D", "="));
        assert_ne!(bad, good);
        assert_eq!(error(&fixture.ask_token(&bad, &[]).await), is(400, "invalid_request"), "{to}");
    }
}

#[tokio::test]
async fn a_bound_company_token_is_exchanged_only_by_who_holds_its_key() {
    let (fixture, corp) = installation().await;
    let (key, thief) = (Holder::new("ES256"), Holder::new("ES256"));
    let token = corp.token(&json!({"cnf": {"jkt": key.jkt()}}));
    assert_eq!(error(&exchange(&fixture, &token, "").await), is(400, "invalid_request"));
    assert_eq!(error(&with_proof(&fixture, &thief, &body("portal", &token)).await), is(400, "invalid_request"));
    let answer = with_proof(&fixture, &key, &body("portal", &token)).await;
    assert_eq!(claims(&access_token(&answer))["cnf"], json!({"jkt": key.jkt()}));
    let bound = json!({"x5t#S256": testkit::dpop::sha256("a certificate")});
    let token = corp.token(&json!({"cnf": bound}));
    assert_eq!(error(&exchange(&fixture, &token, "").await), is(400, "invalid_request"));
    let over = async |der: &[u8]| {
        let shown = crate::ClientCertificate { der: der.to_vec(), trusted: false };
        fixture.post("/oauth/token", &body("portal", &token), &[], Some(shown)).await
    };
    assert_eq!(error(&over(b"another").await), is(400, "invalid_request"));
    assert_eq!(claims(&access_token(&over(b"a certificate").await))["cnf"], bound, "ours is bound to it, too");
}

#[tokio::test]
async fn a_client_that_requires_a_key_exchanges_for_bound_tokens_only() {
    let (fixture, corp) = installation().await;
    let token = corp.token(&json!({}));
    assert_eq!(error(&fixture.ask_token(&body("bound", &token), &[]).await), is(400, "invalid_dpop_proof"));
    let key = Holder::new("ES256");
    let nonce = nonce(&fixture, &key).await;
    let proof = key.proof("POST", TOKEN_URL, NOW).nonce(&nonce).sign();
    let answer = fixture.ask_token(&body("bound", &token), &[("dpop", &proof)]).await;
    assert_eq!((answer.status, answer.json()["token_type"].clone()), (StatusCode::OK, json!("DPoP")));
}

#[tokio::test]
async fn a_39_a_revoked_subject_token_is_not_exchanged() {
    let corp_issuer = || "corp".to_owned();
    for what in [
        Revoke::Subject { issuer: corp_issuer(), subject: "alice".to_owned() },
        Revoke::Token { issuer: corp_issuer(), jti: "corp-jti".to_owned() },
        Revoke::Session { issuer: corp_issuer(), session: "corp-session".to_owned() },
        Revoke::Device { issuer: corp_issuer(), device: "laptop-7".to_owned() },
        Revoke::Issuer { issuer: corp_issuer() },
        Revoke::Key { issuer: corp_issuer(), kid: "corp-1".to_owned() },
    ] {
        let (fixture, corp) = installation().await;
        let token: Value = json!({});
        let ours = access_token(&exchange(&fixture, &corp.token(&token), "").await);
        let revocations = fixture.operations.store().revocations();
        let new = NewRevocation {
            what: what.clone(),
            not_before: revocations.now(),
            expires_at: None,
            by: "test".to_owned(),
            reason: "test".to_owned(),
        };
        revocations.revoke(new).await.unwrap();
        assert_eq!(error(&exchange(&fixture, &corp.token(&token), "").await), is(400, "invalid_request"), "{what:?}");
        // What it gave before is dead too, unless only the one token or its key was named.
        let introspected = fixture
            .post("/oauth/introspect", &format!("client_id=portal&client_secret={SECRET}&token={ours}"), &[], None)
            .await;
        let named = matches!(what, Revoke::Token { .. } | Revoke::Key { .. });
        assert_eq!(introspected.json()["active"], json!(named), "{what:?}");
    }
}
