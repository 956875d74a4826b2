//! Attacks on signing in (RFC 9700 section 4, RFC 8252 section 8).

use http::StatusCode;
use testkit::keys::TestKey;
use testkit::op::{Faults, SUBJECT};

use super::*;

#[tokio::test]
async fn a_redirect_uri_that_is_not_registered_to_the_byte_leads_nowhere() {
    let flow = Flow::new().await;
    for uri in [
        "https://evil.example/cb",
        "https://app.example.com/cb/",
        "https://app.example.com/cb2",
        "https://app.example.com/cb?x=1",
        "https://app.example.com/cb#x",
        "https://app.example.com/cb/../other",
        "https://app.example.com/x/../cb",
        "https://app.example.com/%63b",
        "https://app.example.com/CB",
        "https://APP.example.com/cb",
        "https://app.example.com:443/cb",
        "https://app.example.com.evil.example/cb",
        "https://app.example.com@evil.example/cb",
        "https://evil.example@app.example.com/cb",
        "https://app.example.com\\@evil.example/cb",
        "https://app.example.com%2F@evil.example/cb",
        "http://app.example.com/cb",
        "//app.example.com/cb",
        "/cb",
        "javascript:alert(1)//app.example.com/cb",
        " https://app.example.com/cb",
        "https://app.example.com/cb\r\nset-cookie: a=b",
        "http://127.0.0.1:1/callback",
    ] {
        let answer = flow.get(&authorize(&but(&[("redirect_uri", uri)]))).await;
        assert!(is_refusal(&answer), "{uri} {:?}", answer.headers);
        assert!(!answer.text.contains("evil.example"), "{uri}");
    }
    assert_eq!(flow.op.mock().count(), 0);
    assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"));
}

#[tokio::test]
async fn any_port_of_loopback_is_fine_and_nothing_else_of_it_changes() {
    let flow = Flow::new().await;
    let ask = async |uri: &str| flow.get(&authorize(&but(&[("client_id", "tool"), ("redirect_uri", uri)]))).await;
    for uri in ["http://127.0.0.1/callback", "http://127.0.0.1:1/callback", "http://127.0.0.1:65535/callback"] {
        assert!(location(&ask(uri).await).starts_with(&flow.op.issuer()), "{uri}");
    }
    for uri in [
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:65536/callback",
        "http://127.0.0.1:80:80/callback",
        "http://127.0.0.1:1/callback/",
        "http://127.0.0.1:1/",
        "http://127.0.0.1:1/callback?x",
        "http://127.0.0.1:1@evil.example/callback",
        "http://127.0.0.1.evil.example/callback",
        "http://127.0.0.1:evil/callback",
        "http://127.0.0.2:1/callback",
        "http://localhost:1/callback",
        "http://[::1]:1/callback",
        "https://127.0.0.1:1/callback",
        "http://2130706433:1/callback",
        "com.example.tool://cb",
        "com.example.tool:/cb2",
        "com.example.toolx:/cb",
    ] {
        assert!(is_refusal(&ask(uri).await), "{uri}");
    }
}

#[tokio::test]
async fn a_missing_redirect_uri_is_fine_for_a_client_with_one_only() {
    let flow = Flow::new().await;
    let back = flow.sign_in(&but(&[("redirect_uri", "")])).await;
    assert!(back.starts_with(WEB));
    let code = told(&back)["code"].clone();
    assert_eq!(flow.redeem(&code, &[("code_verifier", VERIFIER)]).await.status, StatusCode::OK);
    assert!(is_refusal(&flow.get(&authorize(&but(&[("client_id", "many"), ("redirect_uri", "")]))).await));
    let query = but(&[("client_id", "many"), ("redirect_uri", "https://app.example.com/cb?tenant=1")]);
    assert!(flow.sign_in(&query).await.starts_with("https://app.example.com/cb?tenant=1&code="));
}

#[tokio::test]
async fn a_client_that_is_not_known_is_told_about_to_the_person_only() {
    let flow = Flow::new().await;
    for client in ["", "nobody", "../web", "WEB", "web ", "batch\"><script>"] {
        let answer = flow.get(&authorize(&but(&[("client_id", client)]))).await;
        assert!(is_refusal(&answer) && !answer.text.contains("script>"), "{client}");
    }
    // One that has no redirect URI cannot be told either.
    assert!(is_refusal(&flow.get(&authorize(&but(&[("client_id", "batch"), ("redirect_uri", "")]))).await));
}

#[tokio::test]
async fn everything_else_that_is_wrong_is_told_to_the_client() {
    let flow = Flow::new().await;
    let long = "x".repeat(2100);
    for (change, code) in [
        (("response_type", ""), "invalid_request"),
        (("response_type", "token"), "unsupported_response_type"),
        (("response_type", "code id_token"), "unsupported_response_type"),
        (("response_mode", "fragment"), "invalid_request"),
        (("scope", "openid admin"), "invalid_scope"),
        (("scope", "cha"), "invalid_scope"),
        (("resource", "https://other.example"), "invalid_target"),
        (("request", "eyJ.e30.x"), "request_not_supported"),
        (("prompt", "none login"), "invalid_request"),
        (("max_age", "-1"), "invalid_request"),
        (("nonce", &long), "invalid_request"),
        (("dpop_jkt", "short"), "invalid_request"),
        (("login_hint", "a\nb"), "invalid_request"),
    ] {
        let told = told(&location(&flow.get(&authorize(&but(&[change]))).await));
        assert_eq!((told["error"].as_str(), told.contains_key("code")), (code, false), "{change:?}");
        assert_eq!((told["state"].as_str(), told["iss"].as_str()), ("the client's own state", EXTERNAL));
    }
    let told = told(&location(&flow.get(&authorize(&but(&[("state", &long)]))).await));
    assert_eq!((told["error"].as_str(), told.contains_key("state")), ("invalid_request", false));
    assert_eq!(flow.op.mock().count(), 0);
}

#[tokio::test]
async fn a_parameter_sent_twice_is_no_request() {
    let flow = Flow::new().await;
    for twice in ["&redirect_uri=https%3A%2F%2Fevil.example", "&client_id=tool", "&state=x", "&code_challenge=x"] {
        assert!(is_refusal(&flow.get(&format!("{}{twice}", authorize(&GOOD))).await), "{twice}");
    }
    assert!(is_refusal(&flow.get(&format!("/oauth/authorize?{}", "a".repeat(9000))).await));
}

#[tokio::test]
async fn pkce_cannot_be_left_out_or_weakened() {
    let flow = Flow::new().await;
    for (challenge, method) in [
        ("", ""),
        ("", "S256"),
        (CHALLENGE, ""),
        (CHALLENGE, "plain"),
        (VERIFIER, "plain"),
        (CHALLENGE, "s256"),
        ("short", "S256"),
    ] {
        let request = but(&[("code_challenge", challenge), ("code_challenge_method", method)]);
        let told = told(&location(&flow.get(&authorize(&request)).await));
        assert_eq!(
            (told["error"].as_str(), told.contains_key("code")),
            ("invalid_request", false),
            "{challenge} {method}"
        );
    }
    for verifier in [Some("x".repeat(43)), Some(CHALLENGE.to_owned()), None] {
        let code = told(&flow.sign_in(&GOOD).await)["code"].clone();
        let mut form = vec![("redirect_uri", WEB)];
        form.extend(verifier.as_deref().map(|verifier| ("code_verifier", verifier)));
        let answer = flow.redeem(&code, &form).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{verifier:?}");
    }
}

#[tokio::test]
async fn a_stolen_code_is_worth_nothing_and_its_second_use_ends_the_first() {
    let flow = Flow::new().await;
    let right = [("code_verifier", VERIFIER), ("redirect_uri", WEB)];
    let code = told(&flow.sign_in(&GOOD).await)["code"].clone();
    // Another client that knows the verifier.
    let form = [("grant_type", "authorization_code"), ("code", &code), right[0], right[1]];
    let other = flow.fixture.ask_token(&encode(&owned(&form)), &[("authorization", &basic_of("many"))]).await;
    assert_eq!(other.json()["error"], "invalid_grant");
    let answer = flow.redeem(&code, &right).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let refresh = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    assert_eq!(flow.redeem(&code, &right).await.json()["error"], "invalid_grant");
    let form = [("grant_type", "refresh_token"), ("refresh_token", refresh.as_str())];
    let after = flow.fixture.ask_token(&encode(&owned(&form)), &[("authorization", &basic())]).await;
    assert_eq!(after.json()["error"], "invalid_grant", "what it gave has ended");

    let code = told(&flow.sign_in(&GOOD).await)["code"].clone();
    let elsewhere = [("code_verifier", VERIFIER), ("redirect_uri", "https://app.example.com/other")];
    assert_eq!(flow.redeem(&code, &elsewhere).await.json()["error"], "invalid_grant");
    let code = told(&flow.sign_in(&GOOD).await)["code"].clone();
    flow.fixture.clock.advance(std::time::Duration::from_mins(1));
    assert_eq!(flow.redeem(&code, &right).await.json()["error"], "invalid_grant", "a minute old");
}

#[tokio::test]
async fn a_code_that_is_bound_to_a_key_is_not_redeemed_without() {
    let flow = Flow::new().await;
    let jkt = b64([7; 32]);
    let code = told(&flow.sign_in(&but(&[("dpop_jkt", &jkt)])).await)["code"].clone();
    let answer = flow.redeem(&code, &[("code_verifier", VERIFIER), ("redirect_uri", WEB)]).await;
    assert_eq!(answer.json()["error"], "invalid_grant");
}

#[tokio::test]
async fn an_answer_counts_only_in_the_browser_that_asked_and_once() {
    let flow = Flow::new().await;
    // The attacker's sign-in, brought to the victim's browser (login CSRF).
    let callback = flow.to_callback(&GOOD).await;
    for victim in [Visitor::new(), Visitor::from("192.0.2.45")] {
        assert!(is_refusal(&flow.visit(&victim, Method::GET, &callback, &[]).await));
    }
    let victim = Visitor::new();
    flow.visit(&victim, Method::GET, &authorize(&GOOD), &[]).await;
    let callback = flow.to_callback(&GOOD).await;
    let before = flow.op.asked("/token");
    assert!(is_refusal(&flow.visit(&victim, Method::GET, &callback, &[]).await), "a browser of its own");
    assert_eq!(flow.op.asked("/token"), before, "the code is not even sent");
    assert!(is_refusal(&flow.get(&callback).await), "and the state is spent");

    let callback = flow.to_callback(&GOOD).await;
    assert!(told(&location(&flow.get(&callback).await)).contains_key("code"));
    assert!(is_refusal(&flow.get(&callback).await), "the state is spent");
    let callback = flow.to_callback(&GOOD).await;
    for (from, to) in [("state=", "state=x"), ("state=", "stat=")] {
        assert!(is_refusal(&flow.get(&callback.replace(from, to)).await), "{to}");
    }
    let late = flow.to_callback(&GOOD).await;
    flow.fixture.clock.advance(std::time::Duration::from_mins(15));
    assert!(is_refusal(&flow.get(&late).await), "too late");
}

#[tokio::test]
async fn a_code_of_another_sign_in_is_not_redeemed_here() {
    let flow = Flow::new().await;
    // The attacker puts the code of one sign-in into the answer to another.
    let victims = flow.to_callback(&GOOD).await;
    let stolen = told(&victims)["code"].clone();
    let attacker = Visitor::new();
    let answer = flow.visit(&attacker, Method::GET, &authorize(&GOOD), &[]).await;
    let own = flow.op.visit(&location(&answer));
    let injected = own.replace(&told(&own)["code"], &stolen);
    let back = location(&flow.visit(&attacker, Method::GET, &injected, &[]).await);
    assert_eq!(told(&back)["error"], "server_error", "PKCE at the provider");

    // A provider that does not check PKCE: the nonce shows it.
    flow.op.wrong(Faults { ignore_pkce: true, ..Faults::default() });
    let stolen = told(&flow.to_callback(&GOOD).await)["code"].clone();
    let answer = flow.visit(&attacker, Method::GET, &authorize(&GOOD), &[]).await;
    let own = flow.op.visit(&location(&answer));
    let injected = own.replace(&told(&own)["code"], &stolen);
    let back = location(&flow.visit(&attacker, Method::GET, &injected, &[]).await);
    assert_eq!((told(&back)["error"].as_str(), told(&back).contains_key("code")), ("server_error", false));
}

#[tokio::test]
async fn a_20_an_answer_of_another_provider_is_not_mixed_up_with_ours() {
    let flow = Flow::new().await;
    for iss in ["https://evil.example", "", &format!("{}/", flow.op.issuer())] {
        flow.op.wrong(Faults { answer_iss: Some(iss.to_owned()), ..Faults::default() });
        let before = flow.op.asked("/token");
        let told = told(&flow.sign_in(&GOOD).await);
        assert_eq!(
            (told["error"].as_str(), flow.op.asked("/token")),
            ("server_error", before),
            "{iss}: the code stays here"
        );
    }
    // A provider that does not say it names itself may leave it out, but not name another.
    let op = Op::start("ES256").await;
    op.change(|op| op.metadata = serde_json::json!({"authorization_response_iss_parameter_supported": null}));
    let flow = Flow::with(op).await;
    flow.op.wrong(Faults { answer_iss: Some(String::new()), ..Faults::default() });
    assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"));
    flow.op.wrong(Faults { answer_iss: Some("https://evil.example".to_owned()), ..Faults::default() });
    assert_eq!(told(&flow.sign_in(&GOOD).await)["error"], "server_error");
}

#[tokio::test]
async fn a_01_an_id_token_that_is_not_the_providers_signs_nobody_in() {
    let flow = Flow::new().await;
    let other = Arc::new(TestKey::generate("ES256"));
    for faults in [
        Faults { alg: Some("none".to_owned()), ..Faults::default() },
        Faults { alg: Some("HS256".to_owned()), ..Faults::default() },
        Faults { signed_by: Some(other), ..Faults::default() },
        Faults { typ: Some("at+jwt".to_owned()), ..Faults::default() },
        Faults { typ: Some("logout+jwt".to_owned()), ..Faults::default() },
        Faults { without: vec!["nonce"], ..Faults::default() },
        Faults { without: vec!["sub"], ..Faults::default() },
        Faults { without: vec!["exp"], ..Faults::default() },
    ] {
        flow.op.wrong(faults.clone());
        let told = told(&flow.sign_in(&GOOD).await);
        assert_eq!((told["error"].as_str(), told.contains_key("code")), ("server_error", false), "{faults:?}");
    }
    flow.op.wrong(Faults::default());
    for claims in [
        serde_json::json!({"aud": "another client"}),
        serde_json::json!({"iss": "https://evil.example"}),
        serde_json::json!({"exp": NOW - 3600}),
        serde_json::json!({"nonce": "another"}),
        serde_json::json!({"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
    ] {
        flow.op.claim(claims.clone());
        assert_eq!(told(&flow.sign_in(&GOOD).await)["error"], "server_error", "{claims}");
    }
    flow.op.claim(serde_json::json!({}));
    assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"), "and then an honest one");
}

#[tokio::test]
async fn a_token_endpoint_that_answers_nonsense_signs_nobody_in_and_shows_nothing_of_it() {
    use testkit::mock::Answer as Canned;
    let flow = Flow::new().await;
    for answer in [
        Canned::json(200, &serde_json::json!({"access_token": "x"})),
        Canned::json(400, &serde_json::json!({"error": "invalid_grant"})),
        Canned::json(401, &serde_json::json!({"error": "<script>"})),
        Canned::json(200, &serde_json::json!([1])),
        Canned::bytes(200, "application/json", "{\"id_token\":\"a\",\"id_token\":\"b\"}"),
        Canned::bytes(200, "text/html", "<html>"),
        Canned::redirect(302, "http://127.0.0.1:1/steal"),
        Canned::bytes(500, "application/json", "{}"),
    ] {
        flow.op.wrong(Faults { token_answer: Some(answer), ..Faults::default() });
        let back = flow.sign_in(&GOOD).await;
        let told = told(&back);
        assert!(["server_error", "temporarily_unavailable"].contains(&told["error"].as_str()), "{back}");
        assert!(
            !told.contains_key("code") && !back.contains("script") && !back.contains("error_description"),
            "{back}"
        );
    }
}

#[tokio::test]
async fn an_error_of_the_provider_is_told_on_without_its_words() {
    let flow = Flow::new().await;
    for (error, code) in [("access_denied", "access_denied"), ("x\"><script>&code=1", "server_error")] {
        flow.op.wrong(Faults { error: Some(error.to_owned()), ..Faults::default() });
        let back = flow.sign_in(&GOOD).await;
        assert_eq!(told(&back)["error"], code, "{back}");
        assert!(!told(&back).contains_key("code"));
    }
    assert_eq!(flow.op.asked("/token"), 0);
}

#[tokio::test]
async fn a_44_nothing_of_a_sign_in_is_kept_in_the_clear() {
    let flow = Flow::new().await;
    let callback = flow.to_callback(&GOOD).await;
    let (state, code) = (told(&callback)["state"].clone(), told(&callback)["code"].clone());
    let back = location(&flow.get(&callback).await);
    let cookie = flow.browser.cookies.lock().unwrap().values().next().unwrap().clone();
    for secret in [&state, &code, &told(&back)["code"], &cookie, SUBJECT, "the client's own state"] {
        assert!(!flow.fixture.stores(secret), "{secret}");
    }
}

#[tokio::test]
async fn too_many_visits_from_one_address_have_to_wait() {
    let flow = Flow::new().await;
    let attacker = Visitor::from("198.51.100.9");
    let mut last = flow.visit(&attacker, Method::GET, "/oauth/callback?state=x", &[]).await;
    for _ in 0..400 {
        if last.status == StatusCode::TOO_MANY_REQUESTS {
            break;
        }
        last = flow.visit(&attacker, Method::GET, "/oauth/callback?state=x", &[]).await;
    }
    assert_eq!(last.status, StatusCode::TOO_MANY_REQUESTS);
    assert!(!last.header("retry-after").is_empty());
    assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"), "others are not affected");
}
