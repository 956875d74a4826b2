//! The next token, signed calls, and what ends an installation.

use vouchgate_client::simulator::Browser;

use super::*;
use crate::apps::recheck;
use crate::operations::ChangeDevice;

#[tokio::test]
async fn an_installation_gets_one_token_after_the_other_with_the_nonce_of_the_last() {
    let world = World::new().await;
    let phone = world.iphone();
    let mut of = world.enrol("chat", &phone).await;
    for counter in 1..=3u64 {
        world.advance(270);
        let answer = world.post("/attest/v1/token", &next_token("chat", &phone, &of)).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.json()["instance"], of.answer["instance"]);
        of.answer = answer.json();
        let device = world.fixture.operations.device_show(of.id()).await.unwrap();
        assert_eq!(device.counter, counter);
    }
    let again = next_token("chat", &phone, &of);
    assert_eq!(world.post("/attest/v1/token", &again).await.status, 200);
    let replayed = world.post("/attest/v1/token", &again).await;
    assert_eq!(
        (replayed.json()["action"].as_str(), world.why(&replayed).await.as_str()),
        (Some("refresh"), "nonce_used")
    );
    world.advance(400);
    let late = world.post("/attest/v1/token", &again).await;
    assert_eq!(world.why(&late).await, "nonce_expired");
    of.answer["nonce"] = world.challenge("chat", "ios", Some(&of.key.public_jwk().thumbprint())).await["nonce"].clone();
    assert_eq!(world.post("/attest/v1/token", &next_token("chat", &phone, &of)).await.status, 200);
}

#[tokio::test]
async fn a_copied_installation_is_found_by_its_counter_and_loses_its_tokens() {
    let world = World::new().await;
    let phone = world.iphone();
    let of = world.enrol("chat", &phone).await;
    let copy = phone.cloned();
    let answer = world.post("/attest/v1/token", &next_token("chat", &phone, &of)).await;
    assert_eq!(answer.status, 200);
    let stolen = Enrolled { key: Arc::clone(&of.key), answer: answer.json() };
    let refused = world.post("/attest/v1/token", &next_token("chat", &copy, &stolen)).await;
    assert_eq!(world.why(&refused).await, "counter_regression");
    let device = world.fixture.operations.device_show(of.id()).await.unwrap();
    assert_eq!((device.status.as_str(), device.status_by.as_deref()), ("quarantined", Some("attestation")));
    let mut mine = stolen;
    mine.answer["nonce"] =
        world.challenge("chat", "ios", Some(&mine.key.public_jwk().thumbprint())).await["nonce"].clone();
    assert_eq!(
        world.why(&world.post("/attest/v1/token", &next_token("chat", &phone, &mine)).await).await,
        "instance_barred"
    );
    let change = ChangeDevice { reason: "talked to its owner".to_owned() };
    world.fixture.operations.device_set_status(of.id(), store::InstanceStatus::Active, (&change, "ops")).await.unwrap();
    mine.answer["nonce"] =
        world.challenge("chat", "ios", Some(&mine.key.public_jwk().thumbprint())).await["nonce"].clone();
    assert_eq!(world.post("/attest/v1/token", &next_token("chat", &phone, &mine)).await.status, 200);
}

#[tokio::test]
async fn a_refresh_needs_the_key_the_assertion_and_the_installation() {
    let world = World::new().await;
    let phone = world.iphone();
    let of = world.enrol("chat", &phone).await;
    let good = next_token("chat", &phone, &of);
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    let other = world.enrol("chat", &world.iphone()).await;
    for (body, reason) in [
        (with("assertion", Value::Null), "assertion_missing"),
        (with("assertion", json!("AAAA")), "malformed_cbor"),
        (with("instance", json!("in_nobody")), "instance_unknown"),
        (with("instance", other.answer["instance"].clone()), "instance_unknown"),
        (with("proof", next_token("chat", &phone, &other)["proof"].clone()), "possession_nonce"),
    ] {
        let answer = world.post("/attest/v1/token", &body).await;
        let why = world.why(&answer).await;
        assert!(why == reason || reason == "malformed_cbor", "{why} {reason}");
    }
    let mut reported = world.iphone();
    reported.reported = vec!["frida".to_owned()];
    let of = world.enrol("chat", &reported).await;
    let device = world.fixture.operations.device_show(of.id()).await.unwrap();
    let flags = device.flags.to_string();
    assert!(flags.contains("\"frida\"") && flags.contains("\"category\""), "{flags}");
    reported.reported.clear();
    assert_eq!(world.post("/attest/v1/token", &next_token("chat", &reported, &of)).await.status, 200);
    let flags = world.fixture.operations.device_show(of.id()).await.unwrap().flags.to_string();
    assert!(!flags.contains("frida") && flags.contains("\"category\""), "{flags}");
}

#[tokio::test]
async fn evidence_ends_and_has_to_be_shown_anew() {
    let world = World::new().await;
    let browser = Browser::default();
    let mut of = world.enrol("web", &browser).await;
    world.advance(86_400);
    of.answer["nonce"] = world.challenge("web", "web", Some(&of.key.public_jwk().thumbprint())).await["nonce"].clone();
    let answer = world.post("/attest/v1/token", &next_token("web", &browser, &of)).await;
    assert_eq!(
        (answer.json()["action"].as_str(), world.why(&answer).await.as_str()),
        (Some("re-enroll"), "reattestation_due")
    );
}

#[tokio::test]
async fn a_keybox_that_leaks_ends_what_was_enrolled_with_it() {
    let world = World::new().await;
    let (leaked, fine) = (world.android(), world.android());
    let (one, two) = (world.enrol("chat", &leaked).await, world.enrol("chat", &fine).await);
    let list = Arc::new(StatusList::parse(leaked.keybox.status_list().as_bytes()).unwrap());
    assert_eq!(recheck(&world.fixture.operations, &list).await.unwrap(), 1);
    assert_eq!(recheck(&world.fixture.operations, &list).await.unwrap(), 0);
    *world.told.list.lock().unwrap() = Ok(list);
    assert_eq!(
        world.why(&world.post("/attest/v1/token", &next_token("chat", &leaked, &one)).await).await,
        "instance_barred"
    );
    assert_eq!(world.post("/attest/v1/token", &next_token("chat", &fine, &two)).await.status, 200);
    let token = one.answer["access_token"].as_str().unwrap();
    assert!(world.apps.parts.oauth.app_token(token).await.unwrap().is_none(), "revoked at once");
}

#[tokio::test]
async fn a_token_is_bound_to_the_apps_own_users_token_where_there_is_one() {
    let world = World::new().await;
    let phone = world.iphone();
    let (body, key) = world.enrolment("chat", &phone).await;
    let user = [("x-user-authorization", "Bearer alice")];
    let answer = world.post_with("/attest/v1/enroll", &body, &user).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    // printf 'Bearer alice' | sha256sum | xxd -r -p | base64
    let expected = {
        use base64::Engine;
        base64::engine::general_purpose::STANDARD.encode(sha256(b"Bearer alice"))
    };
    let of = Enrolled { key, answer: answer.json() };
    assert_eq!(of.claims()["pay"], expected);
    let next = world.post("/attest/v1/token", &next_token("chat", &phone, &of)).await;
    assert!(claims(&next.json()).get("pay").is_none(), "without it there is none");
    // Its calls count beside that user's token only.
    let bearer = format!("Bearer {}", of.answer["access_token"].as_str().unwrap());
    let leave = async |user: &[&str], nonce: &str| {
        let signed = signature(&of, &bearer, "DELETE", nonce);
        let mut request = Request::delete("/attest/v1/instance").header("authorization", &bearer);
        for user in user {
            request = request.header("x-user-authorization", *user);
        }
        let request = request.header("signature-input", &signed.0).header("signature", &signed.1);
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ClientAddress(ELSEWHERE.parse().unwrap()));
        send(&world.router, request).await
    };
    for (other, nonce) in
        [(&[][..], "u-1"), (&["Bearer bob"][..], "u-2"), (&["Bearer alice", "Bearer alice"][..], "u-3")]
    {
        assert_eq!(world.why(&leave(other, nonce).await).await, "user_token_mismatch", "{other:?}");
    }
    assert_eq!(leave(&["Bearer alice"], "u-4").await.status, 204);
}

#[tokio::test]
async fn an_installation_that_goes_is_forgotten() {
    let world = World::new().await;
    let of = world.enrol("chat", &world.iphone()).await;
    let token = of.answer["access_token"].as_str().unwrap().to_owned();
    let delete = async |headers: &[(&str, &str)]| {
        let mut request = Request::delete("/attest/v1/instance");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(Body::empty()).unwrap();
        request.extensions_mut().insert(ClientAddress(ELSEWHERE.parse().unwrap()));
        send(&world.router, request).await
    };
    let bearer = format!("Bearer {token}");
    assert_eq!(world.why(&delete(&[]).await).await, "token_missing");
    assert_eq!(world.why(&delete(&[("authorization", &bearer)]).await).await, "signature_missing");
    let signed = signature(&of, &bearer, "DELETE", "n-1");
    let headers = [("authorization", bearer.as_str()), ("signature-input", &signed.0), ("signature", &signed.1)];
    let other = signature(&world.enrol("chat", &world.iphone()).await, &bearer, "DELETE", "n-2");
    let stolen = [("authorization", bearer.as_str()), ("signature-input", &other.0), ("signature", &other.1)];
    assert_eq!(world.why(&delete(&stolen).await).await, "wrong_keyid");
    assert_eq!(delete(&headers).await.status, 204);
    assert!(world.fixture.operations.device_show(of.id()).await.is_err());
    assert_eq!(world.why(&delete(&headers).await).await, "token_invalid", "its token has ended too");
}

/// A signature over a request without body, as `docs/tokens.md` has it.
fn signature(of: &Enrolled, bearer: &str, method: &str, nonce: &str) -> (String, String) {
    use base64::Engine;
    let jkt = of.key.public_jwk().thumbprint();
    let parameters = format!(
        "(\"@method\" \"@target-uri\" \"authorization\");created={NOW};expires={};nonce=\"{nonce}\";keyid=\"{jkt}\";\
         alg=\"ecdsa-p256-sha256\";tag=\"gw-req\"",
        NOW + 20
    );
    let base = format!(
        "\"@method\": {method}\n\"@target-uri\": {EXTERNAL}/attest/v1/instance\n\"authorization\": {bearer}\n\
         \"@signature-params\": {parameters}"
    );
    let signature = of.key.sign(base.as_bytes()).unwrap();
    let signature = base64::engine::general_purpose::STANDARD.encode(signature);
    (format!("gw={parameters}"), format!("gw=:{signature}:"))
}

#[tokio::test]
async fn a_signature_from_before_the_last_start_is_not_taken() {
    let world = World::new().await;
    let of = world.enrol("chat", &world.iphone()).await;
    let restarted = Arc::new(Apps::new(crate::apps::AppsParts {
        remembered_since: base::Timestamp::from_secs(NOW),
        ..world.apps.parts.clone()
    }));
    let bearer = format!("Bearer {}", of.answer["access_token"].as_str().unwrap());
    let signed = signature(&of, &bearer, "DELETE", "n-1");
    let request = Request::delete("/attest/v1/instance").header("authorization", &bearer);
    let request = request.header("signature-input", &signed.0).header("signature", &signed.1);
    let mut request = request.body(Body::empty()).unwrap();
    request.extensions_mut().insert(ClientAddress(ELSEWHERE.parse().unwrap()));
    let answer = send(&router(restarted), request).await;
    assert_eq!(answer.json()["action"], "retry-after");
    assert_eq!(world.why(&answer).await, "made_before_start");
}

#[tokio::test]
async fn a_version_that_is_attested_is_not_replaced_by_what_the_app_says() {
    let world = World::new().await;
    let said = async |app: &str, device: &dyn Attester, of: &Enrolled| {
        let jkt = of.key.public_jwk().thumbprint();
        let nonce = world.challenge(app, device.platform().name(), Some(&jkt)).await["nonce"].clone();
        let data = client_data("refresh", app, &nonce, Some(&jkt), &[]);
        let mut data: Value = serde_json::from_slice(&data).unwrap();
        data["app_version"] = "99".into();
        let data = data.to_string().into_bytes();
        let mut body = json!({
            "instance": of.id(),
            "client_data": base64url_encode(&data),
            "proof": proof(&*of.key, "token", &nonce, &data),
        });
        if let Some(assertion) = device.assert(&data).unwrap() {
            body["assertion"] = base64url_encode(assertion).into();
        }
        let answer = world.post("/attest/v1/token", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        claims(&answer.json())["ver"].clone()
    };
    let (android, browser) = (world.android(), Browser::default());
    let of = world.enrol("chat", &android).await;
    assert_eq!(said("chat", &android, &of).await, "7", "the attested one");
    let iphone = world.iphone();
    let of = world.enrol("chat", &iphone).await;
    assert_eq!(said("chat", &iphone, &of).await, iphone.bundle_version.as_str());
    let of = world.enrol("web", &browser).await;
    assert_eq!(said("web", &browser, &of).await, "99", "nobody else says one");
}
