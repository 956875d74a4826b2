//! What was used once stays used: a hundred times at once, and after the program was killed and started again.

use base::{Clock, SystemClock};
use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::keys::unverified;
use testkit::raw::Response;

use crate::caller::refused_as;
use crate::oauth::{asserted, send};
use crate::real::Real;

#[tokio::test]
async fn a_35_a_proof_a_hundred_times_at_once_and_after_kill_9() {
    for nonce in ["required", "optional"] {
        let mut world = Real::start(&format!("[dpop]\nnonce = \"{nonce}\"\n")).await;
        let mut caller = world.caller();
        let issued = caller.nonce().await;
        let (used, unused) = (caller.proof(&issued).sign(), caller.proof(&issued).sign());
        let answers = join_all((0..100).map(|_| caller.ask(&used))).await;
        let mut statuses: Vec<u16> = answers.iter().map(Response::status).collect();
        statuses.sort_unstable();
        assert_eq!((statuses[0], statuses[1], statuses[99]), (200, 401, 401), "{nonce}: {statuses:?}");
        assert_eq!(world.provider.count(), 1, "{nonce}");
        world.kill_and_restart().await;
        caller.addr = world.program.public;
        for (what, proof) in
            [("used", &used), ("made before, not used", &unused), ("without a nonce", &caller.bare().sign())]
        {
            let answer = caller.ask(proof).await;
            refused_as(&answer, "use_dpop_nonce");
            assert_eq!(world.provider.count(), 1, "{nonce}: {what}");
        }
        caller.fine("with a nonce of the new process").await;
    }
}

#[tokio::test]
async fn a_38_an_access_token_that_is_good_once_stays_used_after_kill_9() {
    let mut world = Real::start("").await;
    let token = world.token("once", &json!({}));
    let answers = join_all((0..50).map(|_| world.bearer(&token))).await;
    let mut statuses: Vec<u16> = answers.iter().map(Response::status).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1], statuses[49]), (200, 401, 401), "{statuses:?}");
    assert_eq!(world.provider.count(), 1);
    // Other claims under the same jti are the same token; another jti is another.
    world
        .refused("the same jti, signed again", &world.token("once", &json!({"jti": unverified(&token)["jti"], "x": 1})))
        .await;
    assert_eq!(world.bearer(&world.token("once", &json!({}))).await.status(), 200);
    world.kill_and_restart().await;
    world.refused("after a restart", &token).await;
    // A token that cannot be told apart from another cannot be good once.
    world.refused("without a jti", &world.token("once", &json!({"jti": null}))).await;
    assert_eq!(world.bearer(&world.token("once", &json!({}))).await.status(), 200);
    // Elsewhere tokens may be used as often as one likes.
    let often = world.token("chat", &json!({}));
    for _ in 0..3 {
        assert_eq!(world.bearer(&often).await.status(), 200);
    }
}

#[tokio::test]
async fn a_35_a_client_assertion_stays_used_after_kill_9() {
    let mut world = Real::start("").await;
    let assertion = world.agent().assertion(&json!({}));
    let ask = async |world: &Real, assertion: &str| {
        let mut pairs = asserted(assertion);
        pairs.push(("grant_type".to_owned(), "client_credentials".to_owned()));
        send(world.program.public, "/oauth/token", &pairs, None).await
    };
    let answers = join_all((0..20).map(|_| ask(&world, &assertion))).await;
    let mut statuses: Vec<u16> = answers.iter().map(Response::status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses[0], 200, "{statuses:?}");
    assert!(statuses[1..].iter().all(|status| [400, 401, 429].contains(status)), "{statuses:?}");
    world.kill_and_restart().await;
    let again = ask(&world, &assertion).await;
    assert_eq!((again.status(), again.json()["error"].as_str()), (401, Some("invalid_client")), "{}", again.text());
    world.agent().access_token().await;
    // Bent ones.
    let now = SystemClock.now().as_secs();
    for changes in [
        json!({"aud": "https://evil.example"}),
        json!({"aud": null}),
        json!({"iss": "web"}),
        json!({"sub": "web"}),
        json!({"exp": null}),
        json!({"exp": now - 120}),
        json!({"exp": now + 86_400}),
        json!({"jti": null}),
        json!({"jti": "j".repeat(300)}),
    ] {
        let answer = ask(&world, &world.agent().assertion(&changes)).await;
        assert!([400, 401].contains(&answer.status()), "{changes}: {}", answer.text());
        assert_eq!(answer.json()["error"], "invalid_client", "{changes}: {}", answer.text());
    }
    world.agent().access_token().await;
}

#[tokio::test]
async fn a_43_refresh_tokens_and_codes_stay_used_after_kill_9() {
    let mut world = Real::start("[token]\nrefresh_grace = \"0s\"\n").await;
    let client = world.web();
    let member = |json: &Value, name: &str| json[name].as_str().unwrap().to_owned();
    let first = client.sign_in(&world.op, "openid chat").await;
    let second = client.refresh(&member(&first, "refresh_token")).await.json();
    let (code, verifier) = client.code(&world.op, "openid chat").await;
    let redeem = [
        ("grant_type", "authorization_code"),
        ("code", code.as_str()),
        ("code_verifier", verifier.as_str()),
        ("redirect_uri", crate::oauth::REDIRECT),
    ];
    let redeemed = client.granted(&redeem).await;
    world.kill_and_restart().await;
    let client = world.web();
    // What was not used yet works on.
    let third = client.refresh(&member(&second, "refresh_token")).await;
    assert_eq!(third.status(), 200, "{}", third.text());
    let access = member(&third.json(), "access_token");
    assert_eq!(world.bearer(&access).await.status(), 200);
    let used = member(&first, "refresh_token");
    client.refused("used before", "invalid_grant", &[("grant_type", "refresh_token"), ("refresh_token", &used)]).await;
    let last = member(&third.json(), "refresh_token");
    client.refused("its family", "invalid_grant", &[("grant_type", "refresh_token"), ("refresh_token", &last)]).await;
    world.refused("its access token", &access).await;
    client.refused("a code again", "invalid_grant", &redeem).await;
    let token = member(&redeemed, "refresh_token");
    client
        .refused("what came of it", "invalid_grant", &[("grant_type", "refresh_token"), ("refresh_token", &token)])
        .await;
}

#[tokio::test]
async fn a_39_a_token_its_client_gave_back_stays_revoked_after_kill_9() {
    let mut world = Real::start("").await;
    let client = world.web();
    let (given_back, kept) = (client.access_token().await, client.access_token().await);
    for token in [&given_back, &kept] {
        assert_eq!(world.bearer(token).await.status(), 200);
    }
    assert_eq!(client.post("/oauth/revoke", &[("token", &given_back)]).await.status(), 200);
    world.refused("at once", &given_back).await;
    assert!(!client.active(&given_back).await);
    world.kill_and_restart().await;
    world.refused("after a restart", &given_back).await;
    assert!(!world.web().active(&given_back).await);
    assert_eq!(world.bearer(&kept).await.status(), 200);
}
