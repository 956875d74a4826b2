//! Tokens of installations of apps: what policies see of them, and what they demand of requests.

use std::time::Duration;

use serde_json::{Value, json};
use testkit::dpop::Holder;
use testkit::signature::Signing;

use super::{CHAT, ORIGIN, counted, hello, send};
use crate::harness::{Answer, ISSUER, NOW, World, request};

const LATER: i64 = NOW + 20;

const CONFIG: &str = "[server]\nexternal_url = \"https://ai.example.com\"\n\
    [[app]]\nname = \"app\"\nuser_token = \"X-User\"\nios = { team = \"ABCDE12345\", bundle = \"com.example.chat\" }\n\
    [[policy]]\nname = \"phones\"\n\
    who = { attested = [\"apple-app-attest\"], level = \"hw\", not_annotated = [\"limited\"] }\n\
    may = { models = [\"vouchgate/echo\"] }\n";

fn world() -> World {
    let world = World::new(CONFIG);
    world.clock.advance(Duration::from_secs(20));
    world
}

/// An installation's token, with these claims changed.
fn token(world: &World, holder: &Holder, changes: &Value) -> String {
    let mut claims = json!({
        "iss": ORIGIN, "cnf": {"jkt": holder.jkt(), "jwk": holder.jwk()}, "lvl": "hw-strong", "att": ["apple-app-attest"], "anno": [],
        "pop": "signature", "plat": "ios",
    });
    for (name, value) in changes.as_object().unwrap() {
        claims[name] = value.clone();
    }
    world.token_with(&claims)
}

async fn signed(world: &World, changes: &Value, more: &[(&str, &str)]) -> Answer {
    let holder = Holder::new("ES256");
    let bearer = format!("Bearer {}", token(world, &holder, changes));
    let url = format!("{ORIGIN}{CHAT}");
    let signing = Signing::new(&holder, "POST", &url, ("authorization", &bearer), LATER);
    let fields = signing.body("application/json", &hello()).sign();
    let mut headers = vec![("authorization", bearer.as_str())];
    headers.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    headers.extend(more);
    send(world, request("POST", CHAT, &headers, hello())).await
}

#[tokio::test]
async fn a_policy_lets_in_installations_by_what_they_proved() {
    let world = world();
    assert_eq!(signed(&world, &json!({}), &[]).await.status, 200);
    for (changes, why) in [
        (json!({"att": ["altcha"]}), "evidence"),
        (json!({"lvl": "verdict"}), "level"),
        (json!({"lvl": "the-best"}), "a level there is not"),
        (json!({"anno": ["limited"]}), "annotation"),
        (json!({"lvl": Value::Null}), "no installation at all"),
        (json!({"iss": ISSUER}), "another issuer's word"),
    ] {
        let answer = signed(&world, &changes, &[]).await;
        assert_eq!(answer.status, 403, "{why}: {}", answer.text());
    }
}

#[tokio::test]
async fn an_app_that_signs_is_not_let_in_by_a_dpop_proof() {
    let world = world();
    let holder = Holder::new("ES256");
    let token = token(&world, &holder, &json!({}));
    let proof = holder.proof("POST", &format!("{ORIGIN}{CHAT}"), LATER).token(&token);
    let credential = format!("DPoP {token}");
    let headers =
        |proof: &str| vec![("authorization".to_owned(), credential.clone()), ("dpop".to_owned(), proof.to_owned())];
    let sent = async |proof: String| {
        let headers = headers(&proof);
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        send(&world, request("POST", CHAT, &headers, hello())).await
    };
    let nonce = sent(proof.clone().sign()).await.header("dpop-nonce").to_owned();
    let answer = sent(proof.nonce(&nonce).sign()).await;
    assert_eq!(answer.status, 401, "{}", answer.text());
    assert!(counted(&world, "signature_missing"), "{}", world.metrics());
}

#[tokio::test]
async fn a_token_that_goes_with_a_users_token_is_good_beside_that_one_only() {
    let world = world();
    let pay = json!({"pay": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="});
    let right = {
        use base64::Engine as _;
        let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"Bearer alice");
        json!({"pay": base64::engine::general_purpose::STANDARD.encode(hash)})
    };
    let alice = [("x-user", "Bearer alice")];
    assert_eq!(signed(&world, &right, &alice).await.status, 200);
    for (claims, headers, why) in [
        (&right, &[][..], "absent"),
        (&right, &[("x-user", "Bearer mallory")][..], "another's"),
        (&right, &[("x-user", "Bearer alice"), ("x-user", "Bearer mallory")][..], "two"),
        (&pay, &alice[..], "another hash"),
    ] {
        let answer = signed(&world, claims, headers).await;
        assert_eq!(
            (answer.status.as_u16(), answer.code().as_str()),
            (401, "invalid_token"),
            "{why}: {}",
            answer.text()
        );
    }
    assert!(counted(&world, "user_token_mismatch"), "{}", world.metrics());
    assert_eq!(signed(&world, &json!({}), &[]).await.status, 200, "where there is none, none is asked for");
}

#[tokio::test]
async fn a_copied_token_says_not_what_it_needs_or_whether_it_is_revoked() {
    let world = world();
    let mut texts = std::collections::BTreeSet::new();
    let mut note = |answer: &Answer| {
        assert_eq!(answer.status, 401, "{}", answer.text());
        let headers =
            ["www-authenticate", "accept-signature", "retry-after"].map(|name| answer.header(name).to_owned());
        texts.insert((answer.text().replace(answer.header("x-request-id"), "ID"), headers));
    };
    // For another user's token; unsigned; signed by another key, for another body, and twice.
    note(&signed(&world, &json!({"pay": "AAAA"}), &[("x-user", "Bearer mallory")]).await);
    let (holder, other) = (Holder::new("ES256"), Holder::new("ES256"));
    let bearer = format!("Bearer {}", token(&world, &holder, &json!({})));
    note(&send(&world, request("POST", CHAT, &[("authorization", &bearer)], hello())).await);
    let url = format!("{ORIGIN}{CHAT}");
    let fields = |by: &Holder, body: &[u8]| {
        let signing = Signing::new(by, "POST", &url, ("authorization", &bearer), LATER);
        signing.body("application/json", body).sign()
    };
    let call = async |fields: &[(String, String)]| {
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(fields.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        send(&world, request("POST", CHAT, &headers, hello())).await
    };
    note(&call(&fields(&other, &hello())).await);
    note(&call(&fields(&holder, b"{}")).await);
    let good = fields(&holder, &hello());
    assert_eq!(call(&good).await.status, 200);
    note(&call(&good).await);
    assert_eq!(texts.len(), 1, "{texts:#?}");
    for reason in ["user_token_mismatch", "wrong_keyid", "signature_replayed"] {
        assert!(counted(&world, reason), "{reason}: {}", world.metrics());
    }
}
