//! Tokens bound to a key, as the token endpoint gives them (RFC 9449 sections 5 and 8).

use std::time::Duration;

use base::Clock;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::{Value, json};
use testkit::dpop::Holder;

use super::support::{TOKEN_URL, access_token, claims, error, is, nonce, with_proof};
use crate::credential::FileHash;
use crate::fixture::{Answer, Fixture, NOW, Outside};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn config(more: &str) -> String {
    let hash = FileHash::of(SECRET).unwrap();
    let client = |name: &str, more: &str| {
        let auth = format!("auth = {{ method = \"client_secret\", hash = \"{hash}\" }}");
        format!("[[client]]\nname = \"{name}\"\nscopes = [\"chat\"]\n{auth}\n{more}\n")
    };
    let bound = client("bound", "require = [\"dpop\"]");
    let signing = client("signing", "require = [\"dpop\", \"signature\"]");
    format!("{more}\n{bound}{signing}{}", client("free", ""))
}

fn body(client: &str) -> String {
    format!("grant_type=client_credentials&client_id={client}&client_secret={SECRET}")
}

#[tokio::test]
async fn a_client_that_proves_a_key_gets_a_token_bound_to_it() {
    let fixture = Fixture::with(&config("")).await;
    for (client, alg) in [("bound", "ES256"), ("free", "EdDSA"), ("bound", "RS256"), ("bound", "PS256")] {
        let key = Holder::new(alg);
        let answer = with_proof(&fixture, &key, &body(client)).await;
        let token = access_token(&answer);
        assert_eq!(answer.json()["token_type"], "DPoP");
        assert_eq!(claims(&token)["cnf"], json!({ "jkt": key.jkt() }));
        assert_eq!(answer.header("cache-control"), "no-store");
        assert!(!answer.headers.contains_key("dpop-nonce"), "the nonce is still the current one");
    }
}

#[tokio::test]
async fn a_client_that_must_prove_a_key_and_does_not_gets_nothing() {
    let fixture = Fixture::with(&config("")).await;
    for client in ["bound", "signing"] {
        assert_eq!(error(&fixture.ask_token(&body(client), &[]).await), is(400, "invalid_dpop_proof"));
    }
    let free = fixture.ask_token(&body("free"), &[]).await;
    assert_eq!(free.json()["token_type"], "Bearer");
}

#[tokio::test]
async fn tokens_of_clients_that_sign_requests_carry_the_public_key_and_nothing_beside_it() {
    let fixture = Fixture::with(&config("")).await;
    let key = Holder::new("ES256");
    let nonce = nonce(&fixture, &key).await;
    let mut jwk = key.jwk();
    jwk.as_object_mut().unwrap().insert("extra".to_owned(), json!("x"));
    let proof = key.proof("POST", TOKEN_URL, NOW).nonce(&nonce).header("jwk", jwk).sign();
    let answer = fixture.ask_token(&body("signing"), &[("dpop", &proof)]).await;
    assert_eq!(claims(&access_token(&answer))["cnf"], json!({ "jkt": key.jkt(), "jwk": key.jwk() }));
}

#[tokio::test]
async fn a_36_a_nonce_is_asked_for_and_only_ours_for_this_key_counts() {
    let fixture = Fixture::with(&config("")).await;
    let (key, other) = (Holder::new("ES256"), Holder::new("ES256"));
    let ask = async |proof: String| fixture.ask_token(&body("bound"), &[("dpop", &proof)]).await;
    let challenged = |answer: &Answer| {
        assert_eq!(error(answer), is(400, "use_dpop_nonce"), "{}", answer.text);
        assert_eq!(answer.header("cache-control"), "no-store");
        assert_eq!(answer.headers.get_all("dpop-nonce").iter().count(), 1);
        answer.header("dpop-nonce").to_owned()
    };
    let ours = challenged(&ask(key.proof("POST", TOKEN_URL, NOW).sign()).await);
    let theirs = challenged(&ask(other.proof("POST", TOKEN_URL, NOW).sign()).await);
    assert_ne!(ours, theirs);
    for wrong in [theirs.as_str(), "", "x", &ours[1..], &format!("{ours}x")] {
        let answer = ask(key.proof("POST", TOKEN_URL, NOW).nonce(wrong).sign()).await;
        assert!(["use_dpop_nonce", "invalid_dpop_proof"].contains(&error(&answer).1.as_str()), "{wrong}");
    }
    assert_eq!(ask(key.proof("POST", TOKEN_URL, NOW).nonce(&ours).sign()).await.status, StatusCode::OK);

    // In the next slot it still counts, and a new one comes along; in the one after that it does not.
    fixture.clock.advance(Duration::from_mins(5));
    let later = ask(key.proof("POST", TOKEN_URL, NOW + 300).nonce(&ours).sign()).await;
    assert_eq!(later.status, StatusCode::OK, "{}", later.text);
    assert_ne!(later.header("dpop-nonce"), "");
    fixture.clock.advance(Duration::from_mins(5));
    challenged(&ask(key.proof("POST", TOKEN_URL, NOW + 600).nonce(&ours).sign()).await);
}

#[tokio::test]
async fn a_33_each_check_of_a_proof_negated_is_an_invalid_proof() {
    let fixture = Fixture::with(&config("")).await;
    let (key, other) = (Holder::new("ES256"), Holder::new("ES256"));
    let nonce = nonce(&fixture, &key).await;
    let proof = || key.proof("POST", TOKEN_URL, NOW).nonce(&nonce);
    let url = |url: &str| key.proof("POST", url, NOW).nonce(&nonce).sign();
    let mut private = key.jwk();
    private.as_object_mut().unwrap().insert("d".to_owned(), json!("AA"));
    let tries = [
        ("typ", proof().header("typ", json!("JWT")).sign()),
        ("alg none", proof().header("alg", json!("none")).sign()),
        ("alg symmetric", proof().header("alg", json!("HS256")).sign()),
        ("no key", proof().header("jwk", Value::Null).sign()),
        ("private key", proof().header("jwk", private).sign()),
        ("no jti", proof().claim("jti", Value::Null).sign()),
        ("no htm", proof().claim("htm", Value::Null).sign()),
        ("no htu", proof().claim("htu", Value::Null).sign()),
        ("no iat", proof().claim("iat", Value::Null).sign()),
        ("iat text", proof().claim("iat", json!("1800000000")).sign()),
        ("iat too old", proof().claim("iat", json!(NOW - 66)).sign()),
        ("iat ahead", proof().claim("iat", json!(NOW + 6)).sign()),
        ("another signer", proof().sign_with(other.key())),
        ("another method", key.proof("GET", TOKEN_URL, NOW).nonce(&nonce).sign()),
        ("method in lower case", key.proof("post", TOKEN_URL, NOW).nonce(&nonce).sign()),
        ("another endpoint", url("https://ai.example.com/oauth/revoke")),
        ("another host", url("https://evil.example/oauth/token")),
        ("another port", url("https://ai.example.com:8443/oauth/token")),
        ("a slash more", url("https://ai.example.com/oauth/token/")),
        ("two slashes", url("https://ai.example.com//oauth/token")),
        ("not a JWT", "x".to_owned()),
        ("two in one", format!("{0}, {0}", proof().sign())),
    ];
    for (what, proof) in tries {
        let answer = fixture.ask_token(&body("bound"), &[("dpop", &proof)]).await;
        assert_eq!(error(&answer), is(400, "invalid_dpop_proof"), "{what}");
    }
    let (one, two) = (proof().sign(), proof().sign());
    let answer = fixture.ask_token(&body("bound"), &[("dpop", &one), ("dpop", &two)]).await;
    assert_eq!(error(&answer), is(400, "invalid_dpop_proof"));
    for spelled in ["https://AI.example.com:443/oauth/token?x#y", "https://ai.example.com/oauth/%74oken"] {
        let answer = fixture.ask_token(&body("bound"), &[("dpop", &url(spelled))]).await;
        assert_eq!(answer.status, StatusCode::OK, "{spelled}");
    }
}

#[tokio::test]
async fn a_35_a_proof_counts_once_however_often_and_fast_it_is_sent() {
    let fixture = Fixture::with(&config("")).await;
    let key = Holder::new("ES256");
    let nonce = nonce(&fixture, &key).await;
    let proof = key.proof("POST", TOKEN_URL, NOW).nonce(&nonce);
    let text = proof.sign();
    let body = body("bound");
    let headers = [("dpop", text.as_str())];
    let answers = join_all((0..100).map(|_| fixture.ask_token(&body, &headers))).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == StatusCode::OK).count(), 1);
    let refused = answers.iter().filter(|answer| answer.status != StatusCode::OK);
    assert!(refused.map(error).all(|error| error == is(400, "invalid_dpop_proof")));
    // Signed again it is another signature of the same proof.
    let again = fixture.ask_token(&body, &[("dpop", &proof.sign())]).await;
    assert_eq!(error(&again), is(400, "invalid_dpop_proof"));
    assert_eq!(with_proof(&fixture, &key, &body).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_35_a_proof_from_before_a_restart_is_refused_even_where_nonces_are_optional() {
    let toml = config("[dpop]\nnonce = \"optional\"\n");
    let fixture = Fixture::with(&toml).await;
    // Longer than any proof from before the start is good for.
    fixture.clock.advance(Duration::from_secs(71));
    let now = fixture.clock.now().as_secs();
    let key = Holder::new("ES256");
    let proof = key.proof("POST", TOKEN_URL, now).sign();
    assert_eq!(fixture.ask_token(&body("bound"), &[("dpop", &proof)]).await.status, StatusCode::OK);
    let bad_nonce = key.proof("POST", TOKEN_URL, now).nonce("made-up").sign();
    assert_eq!(error(&fixture.ask_token(&body("bound"), &[("dpop", &bad_nonce)]).await), is(400, "use_dpop_nonce"));

    let fixture = fixture.restarted(&toml, Outside::default()).await;
    let replayed = fixture.ask_token(&body("bound"), &[("dpop", &proof)]).await;
    assert_eq!(error(&replayed), is(400, "use_dpop_nonce"));
    assert_eq!(with_proof(&fixture, &key, &body("bound")).await.status, StatusCode::OK);
}

#[tokio::test]
async fn with_a_full_replay_store_nothing_is_given() {
    let outside = Outside { replay_entries: 2, ..Outside::default() };
    let fixture = Fixture::reaching(&config(""), outside).await;
    let key = Holder::new("ES256");
    let nonce = nonce(&fixture, &key).await;
    let ask = async || {
        let proof = key.proof("POST", TOKEN_URL, fixture.clock.now().as_secs()).nonce(&nonce).sign();
        fixture.ask_token(&body("bound"), &[("dpop", &proof)]).await
    };
    assert_eq!((ask().await.status, ask().await.status), (StatusCode::OK, StatusCode::OK));
    assert_eq!(error(&ask().await), is(503, "temporarily_unavailable"));
    fixture.clock.advance(Duration::from_secs(80));
    assert_eq!(ask().await.status, StatusCode::OK);
}

#[tokio::test]
async fn whoever_does_not_prove_the_client_uses_no_proof_up() {
    let fixture = Fixture::with(&config("")).await;
    let key = Holder::new("ES256");
    let nonce = nonce(&fixture, &key).await;
    let proof = key.proof("POST", TOKEN_URL, NOW).nonce(&nonce).sign();
    let thief = body("bound").replace(SECRET, "fedcba9876543210fedcba9876543210");
    assert_eq!(error(&fixture.ask_token(&thief, &[("dpop", &proof)]).await), is(401, "invalid_client"));
    let unasked = body("bound").replace("client_credentials", "refresh_token");
    assert_eq!(error(&fixture.ask_token(&unasked, &[("dpop", &proof)]).await), is(400, "unauthorized_client"));
    assert_eq!(fixture.ask_token(&body("bound"), &[("dpop", &proof)]).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_proof_may_name_any_of_our_origins_and_no_other() {
    let fixture = Fixture::with(&format!("external_urls = [\"https://alt.example.com\"]\n{}", config(""))).await;
    let key = Holder::new("ES256");
    let nonce = nonce(&fixture, &key).await;
    let ask = async |origin: &str, host: &str| {
        let proof = key.proof("POST", &format!("{origin}/oauth/token"), NOW).nonce(&nonce).sign();
        fixture.ask_token(&body("bound"), &[("dpop", &proof), ("host", host)]).await
    };
    assert_eq!(ask("https://ai.example.com", "ai.example.com").await.status, StatusCode::OK);
    assert_eq!(ask("https://alt.example.com", "ai.example.com").await.status, StatusCode::OK);
    assert_eq!(error(&ask("https://evil.example", "evil.example").await), is(400, "invalid_dpop_proof"));
}

#[tokio::test]
async fn an_administrator_mints_no_token_that_is_good_for_whoever_has_it_where_the_client_requires_more() {
    let more = "trusted_proxies = [\"10.0.0.0/8\"]\n[[client]]\nname = \"by-certificate\"\nrequire = [\"mtls\"]\n\
                auth = { method = \"tls_client_auth\", subject_dn = \"CN=batch\" }\n";
    let fixture = Fixture::with(&config(more)).await;
    let key = Holder::new("ES256");
    let mint = async |client: &str, jkt: Option<&str>| {
        let body = json!({ "client": client, "jkt": jkt });
        fixture.owner(http::Method::POST, "/admin/v1/tokens", Some(body)).await
    };
    for client in ["bound", "signing", "by-certificate"] {
        assert_eq!(mint(client, None).await.code(), "not_allowed", "{client}");
    }
    assert_eq!(mint("by-certificate", Some(&key.jkt())).await.code(), "not_allowed");
    assert_eq!(mint("bound", Some("AAAA")).await.code(), "invalid_value");
    let minted = mint("bound", Some(&key.jkt())).await.json();
    assert_eq!(minted["token_type"], "DPoP");
    assert_eq!(claims(minted["access_token"].as_str().unwrap())["cnf"], json!({ "jkt": key.jkt() }));
    assert_eq!(mint("free", None).await.json()["token_type"], "Bearer");
}
