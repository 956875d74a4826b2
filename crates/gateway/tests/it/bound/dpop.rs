//! Each check of RFC 9449 section 4.3, and what is the same target.

use serde_json::{Value, json};
use testkit::dpop::{Holder, Proof};
use testkit::keys::TestKey;

use super::{ANY, CHAT, Caller, ORIGIN, counted, hello, send};
use crate::harness::{NOW, World, request};

/// A way to bend a proof, and the reason it must be refused for.
type Bent = (&'static str, &'static str, fn(Proof<'_>) -> Proof<'_>);

fn bent() -> Vec<Bent> {
    vec![
        ("no jti", "missing_claim", |p| p.claim("jti", Value::Null)),
        ("no htm", "missing_claim", |p| p.claim("htm", Value::Null)),
        ("no htu", "missing_claim", |p| p.claim("htu", Value::Null)),
        ("no iat", "missing_claim", |p| p.claim("iat", Value::Null)),
        ("no ath", "missing_claim", |p| p.claim("ath", Value::Null)),
        ("jti too long", "bad_claim", |p| p.claim("jti", json!("x".repeat(257)))),
        ("jti a number", "bad_claim", |p| p.claim("jti", json!(1))),
        ("typ JWT", "wrong_typ", |p| p.header("typ", json!("JWT"))),
        ("no typ", "wrong_typ", |p| p.header("typ", Value::Null)),
        ("at+jwt", "wrong_typ", |p| p.header("typ", json!("at+jwt"))),
        ("alg none", "unsupported_alg", |p| p.header("alg", json!("none"))),
        ("alg HS256", "alg_not_allowed", |p| p.header("alg", json!("HS256"))),
        ("no jwk", "missing_jwk", |p| p.header("jwk", Value::Null)),
        ("crit", "crit_unsupported", |p| p.header("crit", json!(["x"]))),
        ("get", "wrong_htm", |p| p.claim("htm", json!("GET"))),
        ("method in lower case", "wrong_htm", |p| p.claim("htm", json!("post"))),
        ("another host", "wrong_htu", |p| {
            p.claim("htu", json!("https://ai.example.com.evil.example/v1/chat/completions"))
        }),
        ("the host of the request", "wrong_htu", |p| {
            p.claim("htu", json!("http://localhost:8080/v1/chat/completions"))
        }),
        ("another scheme", "wrong_htu", |p| p.claim("htu", json!("http://ai.example.com/v1/chat/completions"))),
        ("another port", "wrong_htu", |p| p.claim("htu", json!("https://ai.example.com:8443/v1/chat/completions"))),
        ("trailing dot", "wrong_htu", |p| p.claim("htu", json!("https://ai.example.com./v1/chat/completions"))),
        ("another path", "wrong_htu", |p| p.claim("htu", json!("https://ai.example.com/v1/models"))),
        ("trailing slash", "wrong_htu", |p| p.claim("htu", json!("https://ai.example.com/v1/chat/completions/"))),
        ("two slashes", "wrong_htu", |p| p.claim("htu", json!("https://ai.example.com//v1/chat/completions"))),
        ("path in capitals", "wrong_htu", |p| p.claim("htu", json!("https://ai.example.com/V1/chat/completions"))),
        ("user in htu", "bad_htu", |p| {
            p.claim("htu", json!("https://ai.example.com@evil.example/v1/chat/completions"))
        }),
        ("relative", "bad_htu", |p| p.claim("htu", json!("/v1/chat/completions"))),
        ("too old", "too_old", |p| p.claim("iat", json!(NOW - 66))),
        ("in the future", "issued_in_future", |p| p.claim("iat", json!(NOW + 6))),
        ("iat a float", "bad_claim", |p| p.claim("iat", json!(1_795_000_000.5))),
        ("iat a string", "bad_claim", |p| p.claim("iat", json!("1795000000"))),
        ("another token", "wrong_ath", |p| p.token("another")),
        ("ath in base64", "wrong_ath", |p| p.claim("ath", json!("AAAA+///"))),
        ("nonce a number", "bad_claim", |p| p.claim("nonce", json!(7))),
    ]
}

#[tokio::test]
async fn a_33_a_proof_that_lacks_anything_is_refused_and_the_next_good_one_works() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    for (what, reason, bend) in bent() {
        let answer = caller.chat(&world, &bend(caller.proof().nonce(&nonce)).sign()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_dpop_proof"), "{what}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with("DPoP ") && challenge.contains("error=\"invalid_dpop_proof\""), "{what}");
        assert!(counted(&world, reason), "{what}: {}", world.metrics());
        assert!(!answer.headers.contains_key("dpop-nonce"), "{what}");
    }
    assert_eq!(caller.chat(&world, &caller.proof().nonce(&nonce).sign()).await.status, 200);
    assert_eq!(world.records.0.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_33_a_proof_by_another_key_is_refused() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    // The thief's own key, with everything else right.
    let thief = Holder::new("ES256");
    let proof = thief.proof("POST", &format!("{ORIGIN}{CHAT}"), NOW).token(&caller.token);
    let answer = caller.chat(&world, &proof.sign()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"));
    assert!(!answer.headers.contains_key("dpop-nonce"), "who does not hold the key is not helped");
    assert!(counted(&world, "wrong_jkt"));
    // The holder's key in the header, signed by the thief.
    let answer = caller.chat(&world, &caller.proof().nonce(&nonce).sign_with(thief.key())).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_dpop_proof"));
    // An HMAC keyed with the public key.
    let public = TestKey::hmac("HS256", caller.holder.jwk().to_string());
    let answer = caller.chat(&world, &caller.proof().header("alg", json!("HS256")).sign_with(&public)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_dpop_proof"));
    // A private key in the header.
    let mut private = caller.holder.jwk();
    private["d"] = json!("AAAA");
    let answer = caller.chat(&world, &caller.proof().header("jwk", private).sign()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_dpop_proof"));
    assert!(counted(&world, "private_key"));
}

#[tokio::test]
async fn a_33_two_proofs_are_a_bad_request_with_both_challenges() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let proof = caller.proof().nonce(&caller.nonce(&world).await).sign();
    let mut doubled = caller.request(CHAT, &proof);
    doubled.headers_mut().append("dpop", proof.parse().unwrap());
    let answer = send(&world, doubled).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"));
    let challenges: Vec<_> =
        answer.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(challenges[0].starts_with("Bearer ") && challenges[1].starts_with("DPoP "), "{challenges:?}");
    assert!(challenges.iter().all(|challenge| challenge.contains("error=\"invalid_request\"")));
    let joined = format!("{proof}, {proof}");
    assert_eq!(caller.chat(&world, &joined).await.code(), "invalid_dpop_proof");
    assert_eq!(caller.chat(&world, &proof).await.status, 200);
}

#[tokio::test]
async fn a_31_a_proof_beside_two_credentials_changes_nothing() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let proof = caller.proof().nonce(&caller.nonce(&world).await).sign();
    for other in [("authorization", format!("Bearer {}", caller.token)), ("x-api-key", caller.token.clone())] {
        let mut both = caller.request(CHAT, &proof);
        both.headers_mut().append(other.0, other.1.parse().unwrap());
        assert_eq!(send(&world, both).await.status, 400, "{}", other.0);
    }
}

#[tokio::test]
async fn another_spelling_of_the_same_target_is_the_same_target() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    for htu in [
        "https://ai.example.com/v1/chat/completions",
        "HTTPS://AI.Example.COM/v1/chat/completions",
        "https://ai.example.com:443/v1/chat/completions",
        "https://ai.example.com/v1/chat/completions?model=x#y",
        "https://ai.example.com/v1/%63hat/completions",
        "https://ai.example.com/v1/x/../chat/./completions",
    ] {
        let answer = caller.chat(&world, &caller.proof().nonce(&nonce).claim("htu", json!(htu)).sign()).await;
        assert_eq!(answer.status, 200, "{htu}: {}", answer.text());
    }
}

#[tokio::test]
async fn every_configured_origin_counts_and_no_other() {
    let world =
        World::new(&ANY.replace("[[policy]]", "external_urls = [\"https://alt.example.com:8443\"]\n[[policy]]"));
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    let at = |origin: &str| caller.proof().nonce(&nonce).claim("htu", json!(format!("{origin}{CHAT}"))).sign();
    assert_eq!(caller.chat(&world, &at("https://alt.example.com:8443")).await.status, 200);
    assert_eq!(caller.chat(&world, &at("https://alt.example.com")).await.status, 401);
    assert_eq!(caller.chat(&world, &at("http://192.0.2.1:8080")).await.status, 401, "the address listened on");
    let mut named = caller.request(CHAT, &at("https://ai.example.com"));
    named.headers_mut().insert("host", "alt.example.com:8443".parse().unwrap());
    assert_eq!(send(&world, named).await.status, 200, "the request's own host is not asked");
}

#[tokio::test]
async fn without_an_external_url_proofs_name_the_address_listened_on() {
    let world = World::new(
        "[[policy]]\nname = \"all\"\nmay = { models = [\"vouchgate/echo\"] }\n[dpop]\nnonce = \"optional\"\n",
    );
    world.clock.advance(std::time::Duration::from_secs(71));
    let caller = Caller::new(&world);
    let proof =
        |origin: &str| caller.holder.proof("POST", &format!("{origin}{CHAT}"), NOW + 71).token(&caller.token).sign();
    assert_eq!(caller.chat(&world, &proof("http://192.0.2.1:8080")).await.status, 200);
    for other in ["http://localhost:8080", "http://127.0.0.1:8080", "https://192.0.2.1:8080"] {
        assert_eq!(caller.chat(&world, &proof(other)).await.status, 401, "{other}");
    }
}

#[tokio::test]
async fn every_kind_of_key_can_prove_itself() {
    let world = World::new(ANY);
    for alg in ["ES256", "ES384", "EdDSA", "RS256", "PS256"] {
        let holder = Holder::new(alg);
        let token = world.token_with(&json!({"cnf": {"jkt": holder.jkt()}}));
        let caller = Caller { holder, token };
        let nonce = caller.nonce(&world).await;
        assert_eq!(caller.chat(&world, &caller.proof().nonce(&nonce).sign()).await.status, 200, "{alg}");
    }
}

#[tokio::test]
async fn a_22_an_access_token_or_an_assertion_is_no_proof() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    assert_eq!(caller.chat(&world, &caller.token).await.code(), "invalid_dpop_proof");
    let proof = caller.proof().nonce(&caller.nonce(&world).await).sign();
    let bearer = format!("Bearer {proof}");
    let answer = send(&world, request("POST", CHAT, &[("authorization", &bearer)], hello())).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_token"), "nor a proof a token");
}
