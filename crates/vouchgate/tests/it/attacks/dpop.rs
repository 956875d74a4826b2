//! Proofs of possession: bent, for another request, left out, sent again.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use http::Request;
use serde_json::{Value, json};
use testkit::dpop::Holder;
use testkit::keys::{TestKey, b64};
use testkit::patiently;
use testkit::raw::{self, Response};

use super::{World, question};
use crate::caller::{Caller, PATH, bound_to, challenged, challenges, refused_as};

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
    async fn unheard(&self, what: &str, error: &str, attempt: impl Future<Output = Response>) {
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

#[tokio::test]
async fn a_35_a_proof_sent_again() {
    let world = World::start().await;
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let proof = caller.proof(&nonce);
    let text = proof.sign();
    assert_eq!(caller.ask(&text).await.status(), 200);
    world.unheard("the same", "invalid_dpop_proof", caller.ask(&text)).await;
    // Signed again: another text, the same identity (ECDSA signatures differ each time).
    assert_ne!(proof.sign(), text);
    world.unheard("signed again", "invalid_dpop_proof", caller.ask(&proof.sign())).await;
    let later = proof.clone().claim("iat", json!(caller.now() - 3)).sign();
    world.unheard("another iat", "invalid_dpop_proof", caller.ask(&later)).await;
    let spelled =
        proof.clone().claim("htu", json!(format!("HTTP://127.0.0.1:{}/v1/./chat/%63ompletions", caller.addr.port())));
    world.unheard("another spelling", "invalid_dpop_proof", caller.ask(&spelled.sign())).await;
    for path in [format!("{PATH}?x=1"), format!("{PATH}?"), format!("{PATH}?trace=2")] {
        world.unheard(&path, "invalid_dpop_proof", caller.ask_at(&path, &text)).await;
    }
    world.gateway.clock.advance(Duration::from_mins(1));
    world.unheard("a minute later", "invalid_dpop_proof", caller.ask(&text)).await;
    // Another jti is another proof, also where only the case differs.
    for jti in ["Abc", "abc"] {
        let other = caller.proof(&nonce).claim("jti", json!(jti)).sign();
        assert_eq!(caller.ask(&other).await.status(), 200, "{jti}");
    }
    // A refused proof is not used up: what failed for its token may be sent with the right one.
    let proof = caller.proof(&nonce).sign();
    let thief = world.caller();
    world.unheard("with another token", "invalid_dpop_proof", thief.ask(&proof)).await;
    assert_eq!(caller.ask(&proof).await.status(), 200);
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_35_a_longer_life_of_proofs_brings_none_back() {
    let world = World::start_configured("", super::GUESTS, "\n[dpop]\nmax_age = \"30s\"\nskew = \"0s\"\n").await;
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let proof = caller.proof(&nonce).sign();
    assert_eq!(caller.ask(&proof).await.status(), 200);
    // Its end has passed, and with it the memory of it; then proofs live longer.
    world.gateway.clock.advance(Duration::from_mins(1));
    for _ in 0..3 {
        caller.fine("others are remembered meanwhile").await;
    }
    world.unheard("at its end", "invalid_dpop_proof", caller.ask(&proof)).await;
    world.reload_with("max_age = \"30s\"", "max_age = \"120s\"").await;
    world.unheard("with a longer life", "invalid_dpop_proof", caller.ask(&proof)).await;
    let nonce = caller.nonce().await;
    let late = caller.proof(&nonce).claim("iat", json!(caller.now() - 25)).sign();
    assert_eq!(caller.ask(&late).await.status(), 200, "what was good anyhow still is");
    world.gateway.clock.advance(Duration::from_secs(100));
    let late = caller.proof(&nonce).claim("iat", json!(caller.now() - 90)).sign();
    assert_eq!(caller.ask(&late).await.status(), 200, "and the longer life comes");
}

#[tokio::test]
async fn a_35_a_clock_set_back_brings_no_proof_back() {
    let world = World::start().await;
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let then = world.gateway.clock.now();
    let (used, unused) = (caller.proof(&nonce).sign(), caller.proof(&nonce).sign());
    assert_eq!(caller.ask(&used).await.status(), 200);
    for minutes in [2, 4, 30] {
        // So long that it is forgotten, and then the moment at which it was good.
        world.gateway.clock.advance(Duration::from_mins(minutes));
        for _ in 0..3 {
            caller.fine("others are remembered meanwhile").await;
        }
        world.gateway.clock.set(then);
        for (what, proof) in [("used", &used), ("made before", &unused)] {
            world.unheard(what, "use_dpop_nonce", caller.ask(proof)).await;
        }
        caller.fine("with a nonce of the time after").await;
    }
}

#[tokio::test]
async fn a_35_a_hundred_times_at_once() {
    let world = World::start_configured("", super::GUESTS, super::CROWD).await;
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let proof = caller.proof(&nonce).sign();
    let before = world.provider.count();
    let mut connections = Vec::new();
    for _ in 0..100 {
        connections.push(caller.sent(&question(), &proof).await);
    }
    let mut statuses = Vec::new();
    for connection in &mut connections {
        statuses.push(connection.response().await.status());
    }
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200, "{statuses:?}");
    assert!(statuses[1..].iter().all(|status| *status == 401), "{statuses:?}");
    assert_eq!(world.provider.count(), before + 1);
    caller.fine("afterwards").await;
}

#[tokio::test]
async fn a_35_over_http2_as_over_http1() {
    let world = World::start().await;
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let stream = tokio::net::TcpStream::connect(caller.addr).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let url = world.gateway.url(PATH);
    let mut ask = async |proof: &str| {
        let request = Request::post(&url)
            .header("authorization", format!("DPoP {}", caller.token))
            .header("dpop", proof)
            .header("content-type", "application/json");
        let (response, mut body) = sender.send_request(request.body(()).unwrap(), false).unwrap();
        body.send_data(question().to_string().into(), true).unwrap();
        patiently("an answer", response).await.unwrap().status().as_u16()
    };
    let first = caller.proof(&nonce).sign();
    assert_eq!(ask(&first).await, 200);
    world.unheard("over HTTP/1.1", "invalid_dpop_proof", caller.ask(&first)).await;
    let second = caller.proof(&nonce).sign();
    assert_eq!(caller.ask(&second).await.status(), 200);
    assert_eq!(ask(&second).await, 401);
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_36_nonces() {
    let (world, elsewhere) = (World::start().await, World::start().await);
    let caller = world.caller();
    let nonce = caller.nonce().await;
    let other = world.caller().nonce().await;
    let foreign = {
        // The same key at another server, with a token that is good there.
        let token = elsewhere.es.mint(&elsewhere.claims_with(&json!({"cnf": bound_to(&caller.holder)})));
        let proof = caller.holder.proof("POST", &elsewhere.gateway.url(PATH), elsewhere.now()).token(&token).sign();
        let credential = format!("DPoP {token}");
        let headers = [("authorization", credential.as_str()), ("dpop", proof.as_str())];
        challenged(&raw::request(elsewhere.gateway.public, "POST", PATH, &headers, b"{}").await)
    };
    let mut tampered = nonce.clone().into_bytes();
    let last = tampered.last_mut().unwrap();
    *last = if *last == b'A' { b'B' } else { b'A' };
    let tampered = String::from_utf8(tampered).unwrap();
    for (what, nonce) in [
        ("another key's", other.as_str()),
        ("another server's", foreign.as_str()),
        ("tampered with", tampered.as_str()),
        ("empty-ish", "-"),
        ("longer", &format!("{nonce}A")),
        ("shorter", &nonce[..nonce.len() - 2]),
    ] {
        world.unheard(what, "use_dpop_nonce", caller.ask(&caller.proof(nonce).sign())).await;
    }
    // Once a nonce was given there is no way back (RFC 9449 section 11.3).
    world.unheard("left out", "use_dpop_nonce", caller.ask(&caller.bare().sign())).await;
    assert_eq!(caller.ask(&caller.proof(&nonce).sign()).await.status(), 200);
    // It may be used many times, and for two slots of five minutes; an answer brings the next one.
    world.gateway.clock.advance(Duration::from_mins(5));
    let renewed = caller.ask(&caller.proof(&nonce).sign()).await;
    assert_eq!(renewed.status(), 200, "{}", renewed.text());
    let next = renewed.header("dpop-nonce").expect("a new nonce with the answer").to_owned();
    assert_eq!(renewed.header("cache-control"), Some("no-store"), "{:?}", renewed.head);
    assert_ne!(next, nonce);
    let answer = caller.ask(&caller.proof(&next).sign()).await;
    assert_eq!((answer.status(), answer.header("dpop-nonce")), (200, None), "{:?}", answer.head);
    world.gateway.clock.advance(Duration::from_mins(5));
    let caller = world.caller_with("ES256", &json!({}));
    let stale = caller.nonce().await;
    world.gateway.clock.advance(Duration::from_mins(10));
    let token = world.es.mint(&world.claims_with(&json!({"cnf": bound_to(&caller.holder), "jti": "late"})));
    let caller = Caller::new(world.gateway.public, caller.holder, token, Arc::new(world.gateway.clock.clone()));
    world.unheard("stale", "use_dpop_nonce", caller.ask(&caller.proof(&stale).sign())).await;
    caller.fine("with a new nonce").await;
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_36_optional_nonces_are_required_after_a_start() {
    let world = World::start_configured(
        "",
        super::GUESTS,
        "\n[dpop]\nnonce = \"optional\"\nmax_age = \"30s\"\nskew = \"2s\"\n",
    )
    .await;
    let caller = world.caller();
    let early = caller.bare().sign();
    let answer = caller.ask(&early).await;
    challenged(&answer);
    world.gateway.clock.advance(Duration::from_secs(35));
    // Whatever was made before the start, its clock ahead of ours, is too old by now.
    world.unheard("from before", "invalid_dpop_proof", caller.ask(&early)).await;
    let answer = caller.ask(&caller.bare().sign()).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    let proof = caller.bare().sign();
    assert_eq!(caller.ask(&proof).await.status(), 200);
    world.unheard("again", "invalid_dpop_proof", caller.ask(&proof)).await;
    // Whoever sends one has to send a right one.
    let nonce = challenged(&caller.ask(&caller.proof("wrong").sign()).await);
    assert_eq!(caller.ask(&caller.proof(&nonce).sign()).await.status(), 200);
}

#[tokio::test]
async fn a_41_garbage_with_the_new_schemes_is_nobody_on_any_route() {
    let world = World::start().await;
    let caller = world.caller();
    let before = world.provider.count();
    let nonce = caller.nonce().await;
    let proof = caller.proof(&nonce).sign();
    let signature = ("signature", "gw=:AAAA:");
    let input = ("signature-input", "gw=(\"@method\");created=1");
    let good = format!("DPoP {}", caller.token);
    let bearer = format!("Bearer {}", caller.token);
    let sets: [Vec<(&str, &str)>; 9] = [
        vec![("authorization", "DPoP garbage"), ("dpop", proof.as_str())],
        vec![("authorization", "DPoP a.b.c"), ("dpop", "a.b.c")],
        vec![("authorization", "DPoP vg_x"), ("dpop", proof.as_str())],
        vec![("authorization", "DPoP null")],
        vec![("authorization", "dpop"), ("dpop", proof.as_str())],
        vec![("dpop", proof.as_str())],
        vec![("authorization", good.as_str()), ("dpop", "garbage")],
        vec![("authorization", bearer.as_str()), signature, input],
        vec![("x-api-key", caller.token.as_str()), signature, input],
    ];
    for (method, path) in [
        ("POST", PATH),
        ("POST", "/v1/messages"),
        ("GET", "/v1/models"),
        ("HEAD", "/v1/models"),
        ("POST", "/providers/prov/v1/chat/completions"),
        ("GET", "/openapi.json"),
        ("GET", "/v1/realtime"),
        ("GET", "/nothing"),
    ] {
        for headers in &sets {
            let body: &[u8] = if method == "POST" { b"{}" } else { b"" };
            let mut connection = raw::Connection::open(world.gateway.public).await;
            connection.request(method, path, headers, body).await;
            let status = connection.head().await.unwrap().status;
            assert!([400, 401, 403, 404, 405].contains(&status), "{method} {path} {headers:?}: {status}");
            assert!(
                path == "/nothing" || ![403, 404].contains(&status) || path == "/v1/realtime",
                "{method} {path} {headers:?}: {status}"
            );
        }
    }
    assert_eq!(world.provider.count(), before);
    world.fine("afterwards").await;
    caller.fine("afterwards").await;
}
