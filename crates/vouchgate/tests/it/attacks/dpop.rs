//! Proofs of possession: bent, for another request, left out, sent again.

use std::sync::Arc;

use serde_json::{Value, json};
use testkit::dpop::Holder;
use testkit::keys::{TestKey, b64};
use testkit::raw::Response;

use super::World;
use crate::caller::{Caller, PATH, bound_to, challenges, refused_as};

impl World {
    /// A caller with a key and a token of the first issuer that is bound to it.
    pub(super) fn caller(&self) -> Caller {
        self.caller_with("ES256", &json!({}))
    }

    /// With a key of this algorithm and more in its token.
    pub(super) fn caller_with(&self, alg: &str, claims: &Value) -> Caller {
        let holder = Holder::new(alg);
        let mut changes = json!({"cnf": bound_to(&holder), "jti": testkit::dpop::random(), "exp": self.now() + 3000});
        for (name, value) in claims.as_object().unwrap() {
            changes[name] = value.clone();
        }
        let token = self.es.mint(&self.claims_with(&changes));
        Caller::new(self.gateway.public, holder, token, Arc::new(self.gateway.clock.clone()))
    }

    /// What `attempt` sends is refused as this error, and the provider hears nothing of it.
    pub(super) async fn unheard(&self, what: &str, error: &str, attempt: impl Future<Output = Response>) {
        let before = self.provider.count();
        let answer = attempt.await;
        assert_eq!(self.provider.count(), before, "{what}: the provider was asked");
        assert_ne!(answer.status(), 200, "{what}");
        refused_as(&answer, error);
    }
}

#[tokio::test]
async fn a_33_each_check_of_a_proof_negated() {
    let world = World::start().await;
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let good = || caller.proof(&nonce);
    for claim in ["jti", "htm", "htu", "iat", "ath"] {
        let proof = good().claim(claim, Value::Null).sign();
        world.unheard(claim, "invalid_dpop_proof", caller.ask(&proof)).await;
    }
    for (claim, value) in [
        ("jti", json!("")),
        ("jti", json!(7)),
        ("jti", json!("j".repeat(257))),
        ("htm", json!("GET")),
        ("htm", json!("post")),
        ("htm", json!("")),
        ("htm", json!(["POST"])),
        ("htu", json!("")),
        ("htu", json!(["x"])),
        ("iat", json!(caller.now() - 66)),
        ("iat", json!(caller.now() + 6)),
        ("iat", json!(caller.now().to_string())),
        ("iat", json!(0.5)),
        ("iat", json!(-1)),
        ("iat", json!(u64::MAX)),
        ("ath", json!("")),
        ("ath", json!(b64([0; 32]))),
        ("ath", json!(caller.token)),
        ("nonce", json!(7)),
    ] {
        let proof = good().claim(claim, value.clone()).sign();
        world.unheard(&format!("{claim} {value}"), "invalid_dpop_proof", caller.ask(&proof)).await;
    }
    let stranger = TestKey::generate("ES256");
    let private = {
        let mut jwk = caller.holder.jwk();
        jwk["d"] = json!(b64([7; 32]));
        jwk
    };
    for (member, value) in [
        ("typ", json!("JWT")),
        ("typ", json!("at+jwt")),
        ("typ", Value::Null),
        ("alg", json!("none")),
        ("alg", json!("HS256")),
        ("alg", json!("ES384")),
        ("alg", json!("RS256")),
        ("jwk", Value::Null),
        ("jwk", private),
        ("jwk", json!("text")),
        ("jwk", json!({"kty": "oct", "k": b64([1; 32])})),
        ("crit", json!(["exp"])),
        ("b64", json!(false)),
    ] {
        let proof = good().header(member, value.clone()).sign();
        world.unheard(&format!("{member} {value}"), "invalid_dpop_proof", caller.ask(&proof)).await;
    }
    let by_secret = TestKey::hmac("HS256", vec![1; 32]);
    let shared = good()
        .header("alg", json!("HS256"))
        .header("jwk", json!({"kty": "oct", "k": b64([1; 32])}))
        .sign_with(&by_secret);
    let text = good().sign();
    let (head, signature) = text.rsplit_once('.').unwrap();
    for (what, proof) in [
        ("a shared secret", shared),
        ("another key's signature", good().sign_with(&stranger)),
        ("another key's signature over its own name", good().header("kid", json!(stranger.kid)).sign_with(&stranger)),
        ("no signature", format!("{head}.")),
        ("a cut signature", format!("{head}.{}", &signature[..signature.len() - 4])),
        ("two parts", head.to_owned()),
        ("five parts", format!("{text}.x.y")),
        ("two proofs in one field", format!("{}, {}", good().sign(), good().sign())),
        ("no proof at all", "proof".to_owned()),
        ("the token itself", caller.token.clone()),
        ("one that is too long", good().claim("jti", json!("j".repeat(12_000))).sign()),
    ] {
        world.unheard(what, "invalid_dpop_proof", caller.ask(&proof)).await;
    }
    world.fine("after bent proofs").await;
    caller.fine("after bent proofs").await;
}

#[tokio::test]
async fn a_33_a_proof_for_another_place() {
    let world = World::start().await;
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let at = |htu: &str| caller.proof(&nonce).claim("htu", json!(htu)).sign();
    let origin = &caller.origin;
    let port = caller.addr.port();
    for other in [
        format!("https://127.0.0.1:{port}{PATH}"),
        format!("http://127.0.0.1{PATH}"),
        format!("http://127.0.0.1:1{PATH}"),
        format!("http://127.0.0.1.:{port}{PATH}"),
        format!("http://localhost.evil.example:{port}{PATH}"),
        format!("{origin}{PATH}/"),
        format!("{origin}/{PATH}"),
        format!("{origin}/v1/chat"),
        format!("{origin}/v1//chat/completions"),
        format!("{origin}/v1/Chat/completions"),
        format!("{origin}/v1%2Fchat/completions"),
        format!("{origin}{PATH}/%2e%2e"),
        format!("{origin}/v1/messages"),
        format!("http://user@127.0.0.1:{port}{PATH}"),
        PATH.to_owned(),
    ] {
        world.unheard(&other, "invalid_dpop_proof", caller.ask(&at(&other))).await;
    }
    // What the Host header or a proxy's headers claim is no place of ours: proofs are for the configured origin.
    for (name, value) in
        [("host", "evil.example"), ("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")]
    {
        let before = world.provider.count();
        let credential = format!("DPoP {}", caller.token);
        let proof = at(&format!("http://evil.example{PATH}"));
        let headers = [("authorization", credential.as_str()), ("dpop", proof.as_str()), (name, value)];
        let answer = caller.ask_with(PATH, &headers).await;
        assert!([400, 401, 421].contains(&answer.status()), "{name}: {}", answer.text());
        assert_eq!(world.provider.count(), before);
    }
    // The same place in another spelling is the same place (RFC 3986 sections 6.2.2 and 6.2.3).
    for same in [
        format!("HTTP://127.0.0.1:{port}{PATH}"),
        format!("{origin}/v1/x/%2e%2e/%63hat/completions"),
        format!("{origin}{PATH}?query#fragment"),
    ] {
        assert_eq!(caller.ask(&at(&same)).await.status(), 200, "{same}");
    }
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_33_one_proof_of_the_token_s_own_key() {
    let world = World::start().await;
    let (caller, thief) = (world.caller(), world.caller());
    let credential = format!("DPoP {}", caller.token);
    let before = world.provider.count();
    // Two proofs, both good.
    let nonce = caller.nonce().await;
    let (one, two) = (caller.proof(&nonce).sign(), caller.proof(&nonce).sign());
    let headers = [("authorization", credential.as_str()), ("dpop", one.as_str()), ("DPoP", two.as_str())];
    let answer = caller.ask_with(PATH, &headers).await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
    assert!(challenges(&answer).contains("error=\"invalid_request\""), "{:?}", answer.head);
    // Token and a good proof, but of who found the token.
    let nonce = thief.nonce().await;
    let proof = thief.holder.proof("POST", &format!("{}{PATH}", caller.origin), caller.now());
    let proof = proof.token(&caller.token).nonce(&nonce).sign();
    world.unheard("another key's proof", "invalid_token", caller.ask(&proof)).await;
    // A proof made for another token of the same key.
    let other = world.es.mint(&world.claims_with(&json!({"cnf": bound_to(&caller.holder), "jti": "other"})));
    let nonce = caller.nonce().await;
    let proof = caller.proof(&nonce).token(&other).sign();
    world.unheard("another token's proof", "invalid_dpop_proof", caller.ask(&proof)).await;
    assert_eq!(world.provider.count(), before);
    caller.fine("its own").await;
}

#[tokio::test]
async fn a_33_keys_and_times_that_are_good() {
    let world = World::start().await;
    for alg in ["ES256", "ES384", "EdDSA", "RS256", "PS256"] {
        world.caller_with(alg, &json!({})).fine(alg).await;
    }
    let caller = world.caller();
    let nonce = caller.nonce().await;
    for age in [-5, 0, 60, 64] {
        let proof = caller.proof(&nonce).claim("iat", json!(caller.now() - age)).sign();
        assert_eq!(caller.ask(&proof).await.status(), 200, "{age} seconds old");
    }
}

#[tokio::test]
async fn a_34_a_bound_token_without_its_proof() {
    let world = World::start().await;
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let bearer = format!("Bearer {}", caller.token);
    let proof = caller.proof(&nonce).sign();
    for headers in [
        vec![("authorization", bearer.as_str())],
        vec![("authorization", bearer.as_str()), ("dpop", proof.as_str())],
        vec![("x-api-key", caller.token.as_str())],
        vec![("x-api-key", caller.token.as_str()), ("dpop", proof.as_str())],
        vec![("x-goog-api-key", caller.token.as_str())],
    ] {
        world.unheard(&format!("{:?}", headers[0].0), "invalid_token", caller.ask_with(PATH, &headers)).await;
    }
    // The scheme without a proof.
    let credential = format!("DPoP {}", caller.token);
    let alone = [("authorization", credential.as_str())];
    world.unheard("no proof", "invalid_dpop_proof", caller.ask_with(PATH, &alone)).await;
    // Two schemes at once: RFC 9449 section 7.2 shows what is answered.
    let before = world.provider.count();
    let both = [("authorization", credential.as_str()), ("authorization", bearer.as_str()), ("dpop", proof.as_str())];
    let answer = caller.ask_with(PATH, &both).await;
    assert_eq!(answer.status(), 400, "{}", answer.text());
    assert_eq!(challenges(&answer).matches("error=\"invalid_request\"").count(), 2, "{:?}", answer.head);
    assert_eq!(world.provider.count(), before);
    caller.fine("afterwards").await;
}

#[tokio::test]
async fn a_34_an_unbound_token_with_a_proof() {
    let world = World::start().await;
    let key = {
        let new = serde_json::from_value(json!({"name": "laptop", "scopes": ["chat"]})).unwrap();
        let issued = world.gateway.server().operations().apikey_create(&new, "test").await.unwrap();
        world.gateway.settled().await;
        serde_json::to_value(&issued).unwrap()["api_key"].as_str().unwrap().to_owned()
    };
    let mut unbound = vec![("no cnf", world.good()), ("a key of ours", key)];
    for (what, cnf) in [
        ("cnf that is text", json!("jkt")),
        ("cnf that is null", json!(null)),
        ("cnf that is a list", json!([])),
        ("an empty cnf", json!({})),
        ("a jkt that is a number", json!({"jkt": 7})),
        ("a jkt of another length", json!({"jkt": "abc"})),
        ("only what nobody here can check", json!({"kid": "somebody"})),
        ("only a certificate", json!({"x5t#S256": b64([1; 32])})),
    ] {
        let mut claims = world.claims();
        claims["cnf"] = cnf;
        unbound.push((what, world.es.mint(&claims)));
    }
    for (what, token) in unbound {
        let caller =
            Caller::new(world.gateway.public, Holder::new("ES256"), token, Arc::new(world.gateway.clock.clone()));
        // Whoever it is for, the proof itself is in order.
        let nonce = world.caller().nonce().await;
        world.unheard(what, "invalid_token", caller.ask(&caller.proof(&nonce).sign())).await;
        let bearer = format!("Bearer {}", caller.token);
        let answer = caller.ask_with(PATH, &[("authorization", bearer.as_str())]).await;
        let as_bearer = if what == "no cnf" { 200 } else { 401 };
        assert_eq!(answer.status(), as_bearer, "{what} as bearer token: {}", answer.text());
    }
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_34_a_policy_that_asks_for_a_proof() {
    let strict = "name = \"guests\"\nwho = { issuer = [\"corp\", \"other\"], scope = [\"chat\"], bound = [\"dpop\"] }\n\
                  may = { models = [\"*\"] }\n";
    let world = World::start_as(strict).await;
    let caller = world.caller();
    caller.fine("with a proof").await;
    let before = world.provider.count();
    let answer = world.ask(world.good()).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "proof_required"), "{}", answer.text());
    let challenge = answer.headers.get_all("www-authenticate").iter().map(|value| value.to_str().unwrap());
    let challenge = challenge.collect::<Vec<_>>().join(", ");
    assert!(challenge.contains("DPoP ") && challenge.contains("error=\"invalid_token\""), "{challenge}");
    assert_eq!(world.provider.count(), before);
    caller.fine("afterwards").await;
}
