//! Nonces: who must have one, whose are accepted, and when a new one is told (RFC 9449 sections 8, 9 and 11.3).

use std::time::Duration;

use serde_json::json;
use testkit::dpop::Holder;

use super::{ANY, CHAT, Caller, ORIGIN, send};
use crate::harness::{NOW, World, request};

fn optional() -> World {
    World::new(&format!("{ANY}[dpop]\nnonce = \"optional\"\n"))
}

#[tokio::test]
async fn a_36_a_proof_without_a_nonce_is_told_one_and_what_it_is_for() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let answer = caller.chat(&world, &caller.proof().sign()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "use_dpop_nonce"));
    let challenge = answer.header("www-authenticate");
    assert!(challenge.starts_with("DPoP realm=\"vouchgate\", algs=\"ES256 "), "{challenge}");
    assert!(challenge.contains("error=\"use_dpop_nonce\""), "{challenge}");
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.headers.get_all("dpop-nonce").iter().count(), 1);
    let nonce = answer.header("dpop-nonce");
    let answer = caller.chat(&world, &caller.proof().nonce(nonce).sign()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.headers.contains_key("dpop-nonce"), "it has the current one");
    for line in ["{kind=\"dpop\",outcome=\"use_dpop_nonce\"} 1", "{kind=\"dpop\",outcome=\"ok\"} 1"] {
        assert!(world.metrics().contains(&format!("vouchgate_proofs_total{line}")), "{}", world.metrics());
    }
}

#[tokio::test]
async fn a_36_a_nonce_that_is_stale_tampered_or_somebody_elses_is_not_accepted() {
    let (world, other) = (World::new(ANY), World::new(ANY));
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    let elsewhere = Caller { holder: Holder::new("ES256"), token: String::new() };
    let token = world.token_with(&json!({"cnf": {"jkt": elsewhere.holder.jkt()}}));
    let neighbour = Caller { token, ..elsewhere };
    let theirs = neighbour.nonce(&world).await;
    let same_key_elsewhere =
        Caller { token: other.token_with(&json!({"cnf": {"jkt": caller.holder.jkt()}})), holder: Holder::new("ES256") };
    let proof = caller.holder.proof("POST", &format!("{ORIGIN}{CHAT}"), NOW).token(&same_key_elsewhere.token);
    let told = same_key_elsewhere.chat(&other, &proof.sign()).await;
    assert_eq!(told.code(), "use_dpop_nonce");
    let another_servers = told.header("dpop-nonce").to_owned();
    for wrong in [
        theirs,
        another_servers,
        nonce.to_lowercase(),
        format!("{nonce}x"),
        nonce[1..].to_owned(),
        format!("{nonce}="),
        " ".to_owned(),
    ] {
        let answer = caller.chat(&world, &caller.proof().nonce(&wrong).sign()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (401, "use_dpop_nonce"), "{wrong:?}");
        assert_eq!(answer.header("dpop-nonce"), nonce);
    }
    world.clock.advance(Duration::from_secs(601));
    let later = caller.proof().claim("iat", json!(NOW + 601)).nonce(&nonce);
    let token_is_over = caller.chat(&world, &later.sign()).await;
    assert_eq!(token_is_over.code(), "invalid_token");
    let renewed = world.token_with(&json!({"exp": NOW + 900, "iat": NOW + 600, "cnf": {"jkt": caller.holder.jkt()}}));
    let caller = Caller { token: renewed, holder: caller.holder };
    let stale = caller.holder.proof("POST", &format!("{ORIGIN}{CHAT}"), NOW + 601).token(&caller.token).nonce(&nonce);
    let answer = caller.chat(&world, &stale.sign()).await;
    assert_eq!(answer.code(), "use_dpop_nonce", "stale");
    assert_ne!(answer.header("dpop-nonce"), nonce);
}

#[tokio::test]
async fn a_nonce_of_the_slot_before_is_accepted_and_renewed_with_the_answer_whatever_it_is() {
    let world = World::new(ANY);
    let caller = Caller::new(&world);
    let nonce = caller.nonce(&world).await;
    // NOW lies in the middle of a slot: this is the next one, and tokens live on.
    world.clock.advance(Duration::from_secs(250));
    let fresh = || caller.proof().claim("iat", json!(NOW + 250)).nonce(&nonce);
    let answer = caller.chat(&world, &fresh().sign()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let renewed = answer.header("dpop-nonce").to_owned();
    assert!(!renewed.is_empty() && renewed != nonce);
    assert_eq!(answer.header("cache-control"), "no-store");
    let elsewhere = caller.holder.proof("GET", &format!("{ORIGIN}/v1/models/none"), NOW + 250).token(&caller.token);
    let proof = elsewhere.nonce(&nonce).sign();
    let headers = [("authorization", caller.credential()), ("dpop", proof)];
    let answer = send(&world, request("GET", "/v1/models/none", &super::borrowed(&headers), "")).await;
    assert_eq!((answer.status.as_u16(), answer.header("dpop-nonce")), (404, renewed.as_str()));
    let answer = caller.chat(&world, &fresh().nonce(&renewed).sign()).await;
    assert_eq!(answer.status, 200);
    assert!(!answer.headers.contains_key("dpop-nonce"));
}

#[tokio::test]
async fn a_35_after_a_start_no_proof_from_before_it_is_accepted() {
    let before = World::new(ANY);
    let caller = Caller::new(&before);
    let proof = caller.proof().nonce(&caller.nonce(&before).await).sign();
    assert_eq!(caller.chat(&before, &proof).await.status, 200);
    for config in [ANY.to_owned(), format!("{ANY}[dpop]\nnonce = \"optional\"\n")] {
        let after = World::with_issuer_of(&config, &before);
        assert_eq!(caller.chat(&after, &proof).await.code(), "use_dpop_nonce", "its nonce is not known any more");
        let nonce = caller.nonce(&after).await;
        assert_eq!(caller.chat(&after, &caller.proof().nonce(&nonce).sign()).await.status, 200);
    }
    let bare = caller.proof().sign();
    let after = World::with_issuer_of(&format!("{ANY}[dpop]\nnonce = \"optional\"\n"), &before);
    assert_eq!(caller.chat(&after, &bare).await.code(), "use_dpop_nonce", "it may have been used before the start");
}

#[tokio::test]
async fn where_nonces_are_optional_one_is_asked_for_only_while_old_proofs_could_still_be_good() {
    let world = optional();
    let caller = Caller::new(&world);
    let at = |secs: i64| caller.proof().claim("iat", json!(NOW + secs)).sign();
    world.clock.advance(Duration::from_secs(70));
    assert_eq!(caller.chat(&world, &at(70)).await.code(), "use_dpop_nonce");
    assert_eq!(caller.chat(&world, &at(5)).await.code(), "use_dpop_nonce");
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(caller.chat(&world, &at(71)).await.status, 200);
    assert_eq!(caller.chat(&world, &at(5)).await.code(), "invalid_dpop_proof", "by now too old");
    let wrong = caller.proof().claim("iat", json!(NOW + 71)).nonce("x").sign();
    assert_eq!(caller.chat(&world, &wrong).await.code(), "use_dpop_nonce", "one that is there is checked");
}

#[tokio::test]
async fn r_38_a_page_may_read_the_nonce_and_send_a_proof() {
    let world = World::new(&format!("[cors]\norigins = [\"https://app.example.com\"]\n{ANY}"));
    let caller = Caller::new(&world);
    let mut from_page = caller.request(CHAT, &caller.proof().sign());
    from_page.headers_mut().insert("origin", "https://app.example.com".parse().unwrap());
    let answer = send(&world, from_page).await;
    let exposed = answer.header("access-control-expose-headers");
    assert!(exposed.contains("www-authenticate") && exposed.contains("dpop-nonce"), "{exposed}");
    let headers = [("origin", "https://app.example.com"), ("access-control-request-method", "POST")];
    let answer = send(&world, request("OPTIONS", CHAT, &headers, "")).await;
    let allowed = answer.header("access-control-allow-headers");
    for name in ["authorization", "dpop", "signature", "signature-input", "content-digest"] {
        assert!(allowed.split(", ").any(|other| other == name), "{name}: {allowed}");
    }
}
