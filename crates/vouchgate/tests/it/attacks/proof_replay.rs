//! Proofs sent again, in every way a proof can be, and the nonces that bound how long one may be kept.

use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use http::Request;
use serde_json::json;
use testkit::patiently;
use testkit::raw;

use super::{World, question};
use crate::caller::{Caller, PATH, bound_to, challenged};

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
