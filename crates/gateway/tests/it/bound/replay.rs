//! A proof is good for one request (RFC 9449 section 11.1).

use std::sync::Arc;

use http::Version;
use serde_json::json;
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use super::{ANY, CHAT, Caller, counted, send};
use crate::harness::{NOW, REPLAY_ENTRIES, World, peer};

#[tokio::test]
async fn a_35_a_proof_is_used_up_by_the_first_request() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    let proof = caller.proof().nonce(&nonce).claim("jti", json!("once"));
    let text = proof.sign();
    assert_eq!(caller.chat(&world, &text).await.status, 200);
    let answer = caller.chat(&world, &text).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "invalid_dpop_proof"));
    assert!(answer.header("www-authenticate").starts_with("DPoP "));
    assert!(counted(&world, "proof_replayed"));
    for (what, again) in [
        ("a new signature", proof.clone().sign()),
        ("another iat", proof.clone().claim("iat", json!(NOW - 3)).sign()),
        (
            "another spelling",
            proof.clone().claim("htu", json!("HTTPS://ai.example.com:443/v1/chat/completions?x")).sign(),
        ),
        ("another claim", proof.clone().claim("extra", json!(1)).sign()),
    ] {
        assert_eq!(caller.chat(&world, &again).await.code(), "invalid_dpop_proof", "{what}");
    }
    let with_query = caller.request("/v1/chat/completions?again=1", &text);
    assert_eq!(send(&world, with_query).await.code(), "invalid_dpop_proof", "the query is no part of the target");
    let mut over_h2 = caller.request(CHAT, &text);
    *over_h2.version_mut() = Version::HTTP_2;
    assert_eq!(send(&world, over_h2).await.code(), "invalid_dpop_proof");
    assert_eq!(caller.chat(&world, &proof.clone().claim("jti", json!("ONCE")).sign()).await.status, 200, "another jti");
    assert_eq!(world.records.0.lock().unwrap().len(), 2);
}

#[tokio::test]
async fn a_35_a_proof_for_one_endpoint_is_none_for_another() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    let proof = caller.proof().nonce(&nonce).sign();
    let elsewhere = send(&world, caller.request("/v1/messages", &proof)).await;
    assert_eq!(elsewhere.status, 401);
    assert!(elsewhere.header("www-authenticate").contains("invalid_dpop_proof"));
    assert_eq!(caller.chat(&world, &proof).await.status, 200, "and it is not used up by that");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_35_of_a_hundred_requests_with_one_proof_one_succeeds() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let proof = caller.proof().nonce(&caller.nonce(&world).await).sign();
    let gate = Arc::new(Barrier::new(100));
    let mut requests = JoinSet::new();
    for _ in 0..100 {
        let (gateway, gate, request) = (world.gateway.clone(), Arc::clone(&gate), caller.request(CHAT, &proof));
        requests.spawn(async move {
            gate.wait().await;
            gateway.handle(request, &peer()).await.status().as_u16()
        });
    }
    let statuses = requests.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 99, "{statuses:?}");
}

#[tokio::test]
async fn a_full_replay_store_refuses_and_forgets_nothing() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    let first = caller.proof().nonce(&nonce).sign();
    assert_eq!(caller.chat(&world, &first).await.status, 200);
    for _ in 1..REPLAY_ENTRIES {
        assert_eq!(caller.chat(&world, &caller.proof().nonce(&nonce).sign()).await.status, 200);
    }
    let answer = caller.chat(&world, &caller.proof().nonce(&nonce).sign()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "replay_store_full"));
    assert!(!answer.headers.contains_key("www-authenticate"), "the caller has done nothing wrong");
    assert_eq!(answer.header("retry-after"), "5");
    assert_eq!(caller.chat(&world, &first).await.code(), "invalid_dpop_proof", "still remembered");
    let bearer = format!("Bearer {}", world.token("alice"));
    let others = world.send("GET", "/v1/models", &[("authorization", &bearer)], "").await;
    assert_eq!(others.status, 200, "who brings no proof does not notice");
}

#[tokio::test]
async fn a_35_a_proof_that_is_refused_is_not_used_up_and_uses_no_room() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    let thief = testkit::dpop::Holder::new("ES256");
    let good = caller.proof().nonce(&nonce);
    // The thief knows the proof's jti, and uses it first, signed with their own key.
    for _ in 0..REPLAY_ENTRIES {
        assert_eq!(caller.chat(&world, &good.sign_with(thief.key())).await.status.as_u16() / 100, 4);
    }
    assert_eq!(
        caller.chat(&world, &good.sign()).await.status,
        429,
        "the holder's requests from the thief's own address wait"
    );
    let elsewhere = gateway::Peer { addr: "198.51.100.7:1".parse().unwrap(), ..peer() };
    let answer = super::send_from(&world, &elsewhere, caller.request(CHAT, &good.sign())).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let stranger = Caller::new(&world);
    let nonce = stranger.nonce(&world).await;
    assert_eq!(
        stranger.chat(&world, &stranger.proof().nonce(&nonce).sign()).await.status,
        200,
        "others at that address do not"
    );
}

#[tokio::test]
async fn wrong_signatures_are_verified_only_so_often_for_one_address() {
    let world = World::new(ANY);
    let known = format!("Bearer {}", world.token("alice"));
    let models = async |credential: &str| world.send("GET", "/v1/models", &[("authorization", credential)], "").await;
    assert_eq!(models(&known).await.status, 200);
    let forged = |n: u32| {
        let token = world.token_with(&json!({"jti": format!("f{n}")}));
        let (signed, _) = token.rsplit_once('.').unwrap();
        let (_, other) = known.rsplit_once('.').unwrap();
        format!("Bearer {signed}.{other}")
    };
    for n in 0..1000 {
        assert_eq!(models(&forged(n)).await.status, 401);
    }
    let answer = models(&forged(1001)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "too_many_failures"));
    assert_eq!(answer.header("retry-after"), "60");
    assert!(!answer.headers.contains_key("www-authenticate"));
    assert_eq!(models(&known).await.status, 200, "a token that is known needs no verification");
    let unknown = format!("Bearer {}", world.token("bob"));
    assert_eq!(models(&unknown).await.status, 429);
    let elsewhere = gateway::Peer { addr: "198.51.100.7:1".parse().unwrap(), ..peer() };
    let request = crate::harness::request("GET", "/v1/models", &[("authorization", &unknown)], "");
    assert_eq!(super::send_from(&world, &elsewhere, request).await.status, 200);
    world.clock.advance(std::time::Duration::from_mins(1));
    assert_eq!(models(&unknown).await.status, 200);
}
