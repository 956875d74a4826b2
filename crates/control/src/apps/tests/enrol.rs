//! Enrolment: what is let in, and why others are not.

use vouchgate_client::simulator::Browser;
use vouchgate_client::simulator::{AndroidDefect, Boot};
use vouchgate_client::simulator::{Environment, IphoneDefect};

use super::*;
use crate::apps::visit::BEAT;

#[tokio::test]
async fn an_iphone_enrols_and_gets_a_token_that_says_what_it_is() {
    let world = World::new().await;
    let enrolled = world.enrol("chat", &world.iphone()).await;
    let answer = &enrolled.answer;
    assert_eq!((answer["token_type"].as_str(), answer["expires_in"].as_u64()), (Some("Bearer"), Some(300)));
    assert_eq!((answer["next_refresh"].as_u64(), answer["reattest_in"].as_u64()), (Some(270), Some(14 * 86_400)));
    let claims = enrolled.claims();
    for (name, value) in [
        ("iss", json!(EXTERNAL)),
        ("aud", json!(EXTERNAL)),
        ("sub", answer["instance"].clone()),
        ("client_id", json!("chat")),
        ("scope", json!("chat")),
        ("exp", json!(NOW + 300)),
        ("plat", json!("ios")),
        ("lvl", json!("hw-strong")),
        ("env", json!("production")),
        ("ver", json!("1")),
        ("att", json!(["apple-app-attest"])),
        ("anno", json!([])),
        ("pop", json!("signature")),
        ("arc", answer["arc"].clone()),
    ] {
        assert_eq!(claims[name], value, "{name}");
    }
    assert_eq!(claims["cnf"]["jkt"], enrolled.key.public_jwk().thumbprint());
    assert!(claims.get("pay").is_none());
    let device = world.fixture.operations.device_show(enrolled.id()).await.unwrap();
    assert_eq!((device.status.as_str(), device.category, device.counter), ("active", Some(4), 0));
    let arc = world.fixture.operations.arc_show(answer["arc"].as_str().unwrap()).await.unwrap();
    assert_eq!((arc.outcome, arc.device.as_deref()), ("granted", Some(enrolled.id())));
}

#[tokio::test]
async fn an_android_phone_enrols_with_the_key_that_is_attested() {
    let world = World::new().await;
    let phone = world.android();
    let enrolled = world.enrol("chat", &phone).await;
    let claims = enrolled.claims();
    assert_eq!(
        (claims["plat"].as_str(), claims["lvl"].as_str(), claims["ver"].as_str()),
        (Some("android"), Some("hw-strong"), Some("7"))
    );
    let device = world.fixture.operations.device_show(enrolled.id()).await.unwrap();
    assert!(device.certificates.contains(&phone.keybox.serial()), "{device:?}");
}

#[tokio::test]
async fn each_defect_of_an_iphone_is_refused_alike_and_told_to_the_operator_only() {
    let world = World::new().await;
    let mut texts = std::collections::BTreeSet::new();
    for (defect, reason) in [
        (IphoneDefect::OwnRoot, "chain_unknown_root"),
        (IphoneDefect::OtherClientData, "nonce_mismatch"),
        (IphoneDefect::OtherApp, "app_id_mismatch"),
        (IphoneDefect::CounterNotZero, "counter_not_zero"),
        (IphoneDefect::Expired, "chain_expired"),
    ] {
        let mut phone = world.iphone();
        phone.defect = Some(defect);
        let (body, _) = world.enrolment("chat", &phone).await;
        let answer = world.post("/attest/v1/enroll", &body).await;
        assert_eq!(world.why(&answer).await, reason, "{defect:?}");
        texts.insert(answer.text.replace(answer.json()["arc"].as_str().unwrap(), "ARC"));
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    let mut development = world.iphone();
    development.environment = Environment::Development;
    let (body, _) = world.enrolment("chat", &development).await;
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "environment_not_allowed");
    let mut testflight = world.iphone();
    testflight.category = 2;
    let (body, _) = world.enrolment("chat", &testflight).await;
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "category_not_allowed");
    let mut old = world.iphone();
    old.bundle_version = "0.9".to_owned();
    let (body, _) = world.enrolment("chat", &old).await;
    let answer = world.post("/attest/v1/enroll", &body).await;
    assert_eq!(
        (answer.json()["action"].as_str(), world.why(&answer).await.as_str()),
        (Some("update"), "app_version_too_old")
    );
    assert_eq!(world.fixture.operations.store().instances().counts().await.unwrap(), [], "nothing is kept of them");
}

#[tokio::test]
async fn android_phones_that_cannot_be_believed_are_refused() {
    let world = World::new().await;
    for (defect, reason) in [
        (AndroidDefect::Repackaged, "signing_digest_mismatch"),
        (AndroidDefect::SoftwareLevel, "security_level_software"),
        (AndroidDefect::OwnRoot, "chain_unknown_root"),
        (AndroidDefect::OtherChallenge, "challenge_mismatch"),
        (AndroidDefect::ExtendedChain, "key_description_above_leaf"),
    ] {
        let mut phone = world.android();
        phone.defect = Some(defect);
        let (body, _) = world.enrolment("chat", &phone).await;
        assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, reason, "{defect:?}");
    }
    let mut unlocked = world.android();
    unlocked.boot = Boot::Unlocked;
    let (body, _) = world.enrolment("chat", &unlocked).await;
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "level_too_low");

    let phone = world.android();
    *world.told.list.lock().unwrap() = Ok(Arc::new(StatusList::parse(phone.keybox.status_list().as_bytes()).unwrap()));
    let (body, _) = world.enrolment("chat", &phone).await;
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &body).await).await, "certificate_revoked");
    *world.told.list.lock().unwrap() = Err("revocation_list_stale");
    let (body, _) = world.enrolment("chat", &world.android()).await;
    let answer = world.post("/attest/v1/enroll", &body).await;
    assert_eq!(answer.json()["action"], "retry-after", "a list that is out of reach is no empty list");
    assert_eq!(world.why(&answer).await, "revocation_list_stale");
}

#[tokio::test]
async fn no_refusal_is_answered_before_its_beat_however_soon_it_was_clear() {
    let world = World::new().await;
    let (good, _) = world.enrolment("chat", &world.iphone()).await;
    let changed = |member: &str, value: Value| {
        let mut body = good.clone();
        body[member] = value;
        body
    };
    let unknown = client_data("enroll", "nobody", &json!("n"), None, &[]);
    for (body, reason) in [
        (changed("client_data", base64url_encode(unknown).into()), "app_unknown"),
        (changed("proof", "a.b.c".into()), "bad_base64url"),
        (changed("evidence", world.enrolment("chat", &world.iphone()).await.0["evidence"].clone()), "nonce_mismatch"),
    ] {
        let asked = tokio::time::Instant::now();
        let answer = world.post("/attest/v1/enroll", &body).await;
        assert!(asked.elapsed() >= BEAT, "{reason}");
        assert_eq!(world.why(&answer).await, reason);
    }
}

#[tokio::test]
async fn an_enrolment_counts_once_and_only_for_the_key_it_was_made_for() {
    let world = World::new().await;
    let phone = world.iphone();
    let (body, _) = world.enrolment("chat", &phone).await;
    let (mut swapped, _) = world.enrolment("chat", &world.iphone()).await;
    swapped["evidence"] = body["evidence"].clone();
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &swapped).await).await, "nonce_mismatch");
    let mut other_key = body.clone();
    other_key["jwk"] = world.enrolment("chat", &world.iphone()).await.0["jwk"].clone();
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &other_key).await).await, "client_data_key");
    let mut unproved = body.clone();
    unproved["proof"] = world.enrolment("chat", &world.iphone()).await.0["proof"].clone();
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &unproved).await).await, "possession_nonce");
    // Another's attested Android key, with a key of one's own.
    let (android, _) = world.enrolment("chat", &world.android()).await;
    let (mut stolen, key) = world.enrolment("chat", &world.android()).await;
    stolen["evidence"] = android["evidence"].clone();
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &stolen).await).await, "challenge_mismatch");
    drop(key);

    assert_eq!(world.post("/attest/v1/enroll", &body).await.status, 200);
    let again = world.post("/attest/v1/enroll", &body).await;
    assert_eq!((again.json()["action"].as_str(), world.why(&again).await.as_str()), (Some("refresh"), "nonce_used"));
    let (late, _) = world.enrolment("chat", &world.iphone()).await;
    world.advance(121);
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &late).await).await, "nonce_expired");
}

#[tokio::test]
async fn browsers_enrol_with_work_and_puzzles() {
    let world = World::new().await;
    let enrolled = world.enrol("web", &Browser::default()).await;
    let claims = enrolled.claims();
    assert_eq!(
        (claims["lvl"].as_str(), claims["pop"].as_str(), claims["att"][0].as_str()),
        (Some("web"), Some("dpop"), Some("altcha"))
    );
    assert_eq!(enrolled.answer["token_type"], "DPoP");

    let (body, _) = world.enrolment("web", &Browser::default()).await;
    let (mut lazy, _) = world.enrolment("web", &Browser::default()).await;
    lazy["evidence"] = body["evidence"].clone();
    let answer = world.post("/attest/v1/enroll", &lazy).await;
    assert_eq!(world.why(&answer).await, "context_mismatch", "work is done for one nonce");
    assert_eq!(answer.json()["reasons"][0], "context_mismatch", "this app is in development");

    let (mut puzzle, _) = world.enrolment("web", &Browser::default()).await;
    puzzle["evidence"] = json!({"type": "turnstile", "response": "solved"});
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &puzzle).await).await, "check_failed");
    *world.told.answer.lock().unwrap() = Ok(solved());
    let page = [("origin", "https://evil.example.com")];
    assert_eq!(world.why(&world.post_with("/attest/v1/enroll", &puzzle, &page).await).await, "origin_not_allowed");
    let page = [("origin", "https://app.example.com")];
    let answer = world.post_with("/attest/v1/enroll", &puzzle, &page).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("access-control-allow-origin")),
        (200, "https://app.example.com")
    );
    puzzle["evidence"] = json!({"type": "hcaptcha", "response": "solved"});
    assert_eq!(world.why(&world.post("/attest/v1/enroll", &puzzle).await).await, "evidence_not_accepted");
}

#[tokio::test]
async fn what_is_no_such_request_is_said_to_be_none() {
    let world = World::new().await;
    for body in [
        json!([]),
        json!({}),
        json!({"app": "chat"}),
        json!({"app": "chat", "platform": "toaster"}),
        json!({"app": "chat", "platform": "ios", "more": 1}),
    ] {
        let answer = world.post("/attest/v1/challenge", &body).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"), "{body}");
    }
    let twice = Body::from(r#"{"app":"chat","app":"web","platform":"ios"}"#);
    let mut request =
        Request::post("/attest/v1/challenge").header("content-type", "application/json").body(twice).unwrap();
    request.extensions_mut().insert(ClientAddress(ELSEWHERE.parse().unwrap()));
    assert_eq!(send(&world.router, request).await.status, 400);
    let unknown = world.post("/attest/v1/challenge", &json!({"app": "nobody", "platform": "ios"})).await;
    assert_eq!(world.why(&unknown).await, "app_unknown");
    let long = json!({"app": "a".repeat(200 * 1024), "platform": "ios"});
    assert_eq!(world.post("/attest/v1/challenge", &long).await.status, 413);
    let mut get = Request::get("/attest/v1/challenge").body(Body::empty()).unwrap();
    get.extensions_mut().insert(ClientAddress(ELSEWHERE.parse().unwrap()));
    assert_eq!(send(&world.router, get).await.status, 405);
}

#[tokio::test]
async fn a_flood_is_stopped_before_anything_is_reckoned_and_fills_nothing() {
    let world = World::with(
        &APPS.replace("name = \"chat\"", "name = \"chat\"\nenrolments_per_minute = 3"),
        AttemptLimits { per_minute: 200, ..AttemptLimits::default() },
    )
    .await;
    let (body, _) = world.enrolment("chat", &world.iphone()).await;
    let mut junk = body.clone();
    junk["evidence"]["attestation"] = "AAAA".into();
    for _ in 0..3 {
        assert_eq!(world.post("/attest/v1/enroll", &junk).await.status, 401);
    }
    let full = world.post("/attest/v1/enroll", &body).await;
    assert_eq!((full.status.as_u16(), full.header("retry-after")), (429, "61"), "the app's minute is full");
    let nobody = json!({"app": "nobody", "platform": "ios"});
    let answers = futures_util::future::join_all((0..400).map(|_| world.post("/attest/v1/challenge", &nobody))).await;
    let refused = answers.iter().filter(|answer| answer.status == 401).count();
    assert!(refused < 200, "{refused}");
    assert_eq!(world.fixture.operations.store().instances().counts().await.unwrap(), []);
    let counted = world.counted();
    assert!(counted["challenge too_many_requests"] > 200, "{counted:?}");
    // Of so many only some are kept.
    let kept = world.fixture.operations.store().instances();
    let now = world.fixture.clock.now().plus(Duration::from_secs(1));
    assert!(kept.delete_refusals(now, 100_000, 100_000).await.unwrap() <= 40);
}

#[tokio::test]
async fn who_has_no_nonce_or_key_and_who_has_one_network_stops_nobody_else_from_enrolling() {
    let toml = APPS.replace("name = \"chat\"", "name = \"chat\"\nenrolments_per_minute = 100");
    let world = World::with(&toml, AttemptLimits { per_minute: 1000, ..AttemptLimits::default() }).await;
    let (body, _) = world.enrolment("chat", &world.iphone()).await;
    let (other, _) = world.enrolment("chat", &world.iphone()).await;
    for _ in 0..60 {
        for part in ["proof", "client_data"] {
            let mut unproved = body.clone();
            unproved[part] = other[part].clone();
            assert_eq!(world.post("/attest/v1/enroll", &unproved).await.status, 401);
        }
    }
    assert_eq!(world.post("/attest/v1/enroll", &body).await.status, 200, "nothing of the app's minute was taken");
    // With a nonce, a key and no evidence.
    let mut junk = other.clone();
    junk["evidence"]["attestation"] = "AAAA".into();
    let mut outcomes = Vec::new();
    for _ in 0..30 {
        outcomes.push(world.post("/attest/v1/enroll", &junk).await.status.as_u16());
    }
    assert_eq!(outcomes.iter().filter(|status| **status == 401).count(), 9, "{outcomes:?}");
    assert_eq!(world.post("/attest/v1/enroll", &other).await.status, 429);
    assert_eq!(world.post_from("198.51.100.7", "/attest/v1/enroll", &other, &[]).await.status, 200);
}

#[tokio::test]
async fn reasons_of_refusals_elsewhere_are_kept_through_a_flood_from_one_network() {
    let world = World::new().await;
    let nobody = json!({"app": "nobody", "platform": "ios"});
    for _ in 0..60 {
        assert_eq!(world.post("/attest/v1/challenge", &nobody).await.status, 401);
    }
    let answer = world.post_from("198.51.100.7", "/attest/v1/challenge", &nobody, &[]).await;
    assert_eq!(world.why(&answer).await, "app_unknown");
}
