//! The authorization code flow as it should go.

use super::*;
use http::StatusCode;

#[tokio::test]
async fn a_person_signs_in_and_the_client_gets_tokens_about_them() {
    let flow = Flow::new().await;
    flow.op.claim(serde_json::json!({"groups": ["staff"]}));
    let answer = flow.get(&authorize(&GOOD)).await;
    let at_provider = location(&answer);
    let asked = told(&at_provider);
    assert_eq!(asked["redirect_uri"], format!("{EXTERNAL}/oauth/callback"));
    assert_eq!(asked["scope"], "openid profile");
    assert_eq!((asked["code_challenge_method"].as_str(), asked["code_challenge"].len()), ("S256", 43));
    assert!(asked["state"].len() >= 43 && asked["nonce"].len() >= 43);
    for ours in ["the client's own state", "the client's nonce", CHALLENGE] {
        assert!(asked.values().all(|value| value != ours), "the provider is told nothing of the client's");
    }
    let cookie = answer.header("set-cookie");
    for part in ["__Host-vouchgate-browser=", "; Secure", "; HttpOnly", "; SameSite=Lax", "; Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }

    let back = location(&flow.get(&flow.op.visit(&at_provider)).await);
    assert!(back.starts_with(&format!("{WEB}?")), "{back}");
    let told = told(&back);
    assert_eq!((told["state"].as_str(), told["iss"].as_str()), ("the client's own state", EXTERNAL));
    assert!(told["code"].len() >= 43 && !flow.fixture.stores(&told["code"]), "stored as a hash");
    assert!(!flow.fixture.stores(testkit::op::SUBJECT), "who signed in is sealed");

    let answer = flow.redeem(&told["code"], &[("code_verifier", VERIFIER), ("redirect_uri", WEB)]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let tokens = answer.json();
    let access = claims(tokens["access_token"].as_str().unwrap());
    assert_eq!(access["sub"], format!("corp|{}", testkit::op::SUBJECT));
    assert_eq!((&access["client_id"], &access["scope"]), (&"web".into(), &"openid chat".into()));
    let id = claims(tokens["id_token"].as_str().unwrap());
    assert_eq!((&id["aud"], &id["nonce"]), (&"web".into(), &"the client's nonce".into()));
    assert_eq!(id["sid"], access["sid"]);
    assert!(tokens["refresh_token"].as_str().unwrap().starts_with("vgr_"), "{tokens}");
}

#[tokio::test]
async fn a_pushed_request_is_good_once_and_for_its_client() {
    let flow = Flow::new().await;
    let form = but(&[("client_id", "pushes")]);
    let answer = flow.post("/oauth/par", &form, &[("authorization", &basic_of("pushes"))]).await;
    assert_eq!(answer.status, StatusCode::CREATED, "{}", answer.text);
    let pushed = answer.json();
    let uri = pushed["request_uri"].as_str().unwrap();
    assert!(uri.starts_with("urn:ietf:params:oauth:request_uri:") && uri.len() > 70);
    assert_eq!((pushed["expires_in"].as_u64(), answer.header("cache-control")), (Some(90), "no-store"));

    let wrong = flow.get(&authorize(&[("client_id", "web"), ("request_uri", uri)])).await;
    assert!(is_refusal(&wrong), "another client");
    let answer = flow.post("/oauth/par", &form, &[("authorization", &basic_of("pushes"))]).await.json();
    let uri = answer["request_uri"].as_str().unwrap();
    // What stands beside it does not count.
    let beside =
        [("client_id", "pushes"), ("request_uri", uri), ("redirect_uri", "https://evil.example/"), ("scope", "x")];
    let back = flow.sign_in(&beside).await;
    assert!(back.starts_with(WEB) && told(&back).contains_key("code"), "{back}");
    assert!(is_refusal(&flow.get(&authorize(&beside)).await), "used");
}

#[tokio::test]
async fn a_client_that_must_push_is_refused_without() {
    let flow = Flow::new().await;
    let answer = flow.get(&authorize(&but(&[("client_id", "pushes")]))).await;
    let told = told(&location(&answer));
    assert_eq!((told["error"].as_str(), told.contains_key("code")), ("invalid_request", false));
}

#[tokio::test]
async fn what_is_wrong_with_a_pushed_request_is_said_at_once() {
    let flow = Flow::new().await;
    for (change, code) in [
        (("redirect_uri", "https://evil.example/"), "invalid_request"),
        (("code_challenge_method", "plain"), "invalid_request"),
        (("response_type", "token"), "invalid_request"),
        (("scope", "admin"), "invalid_scope"),
        (("resource", "https://other.example"), "invalid_target"),
        (("request_uri", "urn:ietf:params:oauth:request_uri:x"), "invalid_request"),
        (("request", "eyJ.e30.x"), "invalid_request"),
        (("client_secret", SECRET), "invalid_request"),
    ] {
        let form = but(&[("client_id", "pushes"), change]);
        let answer = flow.post("/oauth/par", &form, &[("authorization", &basic_of("pushes"))]).await;
        assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (400, Some(code)), "{change:?}");
    }
    let answer = flow.post("/oauth/par", &but(&[("client_id", "pushes")]), &[]).await;
    assert_eq!((answer.status.as_u16(), answer.json()["error"].as_str()), (401, Some("invalid_client")));
}

#[tokio::test]
async fn a_public_client_on_a_port_of_this_machine_asks_the_person_first() {
    let flow = Flow::new().await;
    let request = but(&[("client_id", "tool"), ("redirect_uri", LOOPBACK_URI)]);
    let callback = flow.to_callback(&request).await;
    let page = flow.get(&callback).await;
    assert_eq!((page.status, page.headers.get("location")), (StatusCode::OK, None));
    for part in ["Sign in to this app?", "<dd>tool</dd>", "<li>chat</li>"] {
        assert!(page.text.contains(part), "{part} {}", page.text);
    }
    let form = [("ticket", field(&page.text, "ticket")), ("csrf", field(&page.text, "csrf"))];
    let form: Vec<(&str, &str)> = form.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let allow = [form.clone(), vec![("decision", "allow")]].concat();
    let done = flow.visit(&flow.browser, Method::POST, "/oauth/consent", &allow).await;
    assert_eq!(done.status, StatusCode::OK, "{}", done.text);
    let onward = done.header("refresh").strip_prefix("0; url=").unwrap().to_owned();
    assert!(onward.starts_with(&format!("{LOOPBACK_URI}?code=")), "{onward}");
    assert!(done.text.contains("Continue"));
    let again = flow.visit(&flow.browser, Method::POST, "/oauth/consent", &allow).await;
    assert!(is_refusal(&again), "once");

    let callback = flow.to_callback(&request).await;
    let page = flow.get(&callback).await;
    let (ticket, csrf) = (field(&page.text, "ticket"), field(&page.text, "csrf"));
    let deny = [("ticket", ticket.as_str()), ("csrf", &csrf), ("decision", "deny")];
    let done = flow.visit(&flow.browser, Method::POST, "/oauth/consent", &deny).await;
    assert!(done.header("refresh").contains("error=access_denied"), "{:?}", done.headers);
}

#[tokio::test]
async fn a_public_client_with_a_host_of_its_own_is_answered_at_once_and_an_app_by_a_redirect() {
    let flow = Flow::new().await;
    let back = flow.sign_in(&but(&[("client_id", "tool"), ("redirect_uri", "https://tool.example.com/cb")])).await;
    assert!(told(&back).contains_key("code"));

    let request = but(&[("client_id", "tool"), ("redirect_uri", "com.example.tool:/cb")]);
    let page = flow.get(&flow.to_callback(&request).await).await;
    assert!(page.header("content-security-policy").contains("form-action 'self' com.example.tool:;"));
    let (ticket, csrf) = (field(&page.text, "ticket"), field(&page.text, "csrf"));
    let allow = [("ticket", ticket.as_str()), ("csrf", &csrf), ("decision", "allow")];
    let done = flow.visit(&flow.browser, Method::POST, "/oauth/consent", &allow).await;
    assert!(location(&done).starts_with("com.example.tool:/cb?code="));
}

#[tokio::test]
async fn a_silent_request_is_never_answered_by_a_question() {
    let flow = Flow::new().await;
    let silent = but(&[("prompt", "none")]);
    assert_eq!(told(&location(&flow.get(&authorize(&silent)).await))["prompt"], "none");
    assert!(told(&flow.sign_in(&silent).await).contains_key("code"));
    let tool = but(&[("client_id", "tool"), ("redirect_uri", LOOPBACK_URI), ("prompt", "none")]);
    assert_eq!(told(&flow.sign_in(&tool).await)["error"], "consent_required");
    flow.op.wrong(testkit::op::Faults { error: Some("login_required".to_owned()), ..Default::default() });
    assert_eq!(told(&flow.sign_in(&silent).await)["error"], "login_required");
}

#[tokio::test]
async fn wishes_reach_the_provider_and_an_old_sign_in_does_not_pass_for_a_new_one() {
    let flow = Flow::new().await;
    let request = but(&[("prompt", "login"), ("max_age", "60"), ("login_hint", "alice@example.com")]);
    let asked = told(&location(&flow.get(&authorize(&request)).await));
    assert_eq!((asked["prompt"].as_str(), asked["max_age"].as_str()), ("login", "60"));
    assert_eq!(asked["login_hint"], "alice@example.com");
    assert!(told(&flow.sign_in(&request).await).contains_key("code"));
    flow.op.claim(serde_json::json!({"auth_time": NOW - 3600}));
    assert_eq!(told(&flow.sign_in(&request).await)["error"], "login_required");
    flow.op.claim(serde_json::json!({"auth_time": null}));
    assert_eq!(told(&flow.sign_in(&request).await)["error"], "server_error");
}

#[tokio::test]
async fn the_provider_may_rotate_its_keys_and_know_us_by_other_means() {
    let flow = Flow::new().await;
    assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"));
    let new = Arc::new(testkit::keys::TestKey::generate("RS256"));
    flow.op.change(|op| {
        op.published = vec![Arc::clone(&new)];
        op.key = new;
        op.metadata = serde_json::json!({"token_endpoint_auth_methods_supported": ["client_secret_post"]});
    });
    assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"));
    flow.fixture.clock.advance(std::time::Duration::from_mins(16));
    flow.op.change(|op| op.now = Some(NOW + 16 * 60));
    assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"), "by the metadata of now");
    let token = flow.op.mock().requests().into_iter().rfind(|request| request.path() == "/token").unwrap();
    assert_eq!(token.header("authorization"), None);
    assert!(String::from_utf8_lossy(&token.body).contains("client_secret="));
}

#[tokio::test]
async fn a_provider_that_is_down_is_asked_once_in_a_while_however_many_visit() {
    let flow = Flow::new().await;
    let discovery = "/.well-known/openid-configuration";
    flow.op.change(|op| op.metadata = serde_json::json!({"token_endpoint": "no URL"}));
    for _ in 0..5 {
        assert_eq!(told(&location(&flow.get(&authorize(&GOOD)).await))["error"], "temporarily_unavailable");
    }
    assert_eq!(flow.op.asked(discovery), 1);
    flow.op.change(|op| op.metadata = serde_json::json!({}));
    flow.fixture.clock.advance(std::time::Duration::from_secs(10));
    for _ in 0..5 {
        assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"));
    }
    assert_eq!(flow.op.asked(discovery), 2);
}

#[tokio::test]
async fn without_a_provider_nobody_signs_in_and_the_client_is_told() {
    let flow = Flow::new().await;
    let alone = Fixture::with(&config("https://id.example.com")).await;
    let request = Request::get(authorize(&GOOD)).extension(ClientAddress(flow.browser.address));
    let answer = send(&alone.public, request.body(Body::empty()).unwrap()).await;
    assert_eq!(told(&location(&answer))["error"], "temporarily_unavailable");
}

#[tokio::test]
async fn a_session_that_was_revoked_leads_to_the_password_once_more() {
    let flow = Flow::new().await;
    let store = flow.fixture.operations.store();
    let new = store::NewRevocation {
        what: store::Revoke::Subject { issuer: "corp".to_owned(), subject: testkit::op::SUBJECT.to_owned() },
        not_before: base::Timestamp::from_secs(NOW - 5),
        expires_at: None,
        by: "test".to_owned(),
        reason: "test".to_owned(),
    };
    store.revocations().revoke(new).await.unwrap();
    assert!(told(&flow.sign_in(&GOOD).await).contains_key("code"), "signed in after it");
    flow.op.claim(serde_json::json!({"auth_time": NOW - 3600}));
    let answer = flow.get(&flow.to_callback(&GOOD).await).await;
    let again = location(&answer);
    assert!(again.starts_with(&flow.op.issuer()) && told(&again)["prompt"] == "login", "{again}");
    let back = location(&flow.get(&flow.op.visit(&again)).await);
    assert_eq!(told(&back)["error"], "login_required", "not round in circles");
}

#[tokio::test]
async fn two_tabs_of_one_browser_sign_in_side_by_side_and_a_request_may_be_posted() {
    let flow = Flow::new().await;
    let first = flow.to_callback(&GOOD).await;
    let posted = flow.visit(&flow.browser, Method::POST, "/oauth/authorize", &but(&[("state", "second")])).await;
    let second = flow.op.visit(&location(&posted));
    for (callback, state) in [(second, "second"), (first, "the client's own state")] {
        let told = told(&location(&flow.get(&callback).await));
        assert_eq!((told["state"].as_str(), told.contains_key("code")), (state, true));
    }
}

#[tokio::test]
async fn another_method_is_refused_with_those_that_are_not() {
    let flow = Flow::new().await;
    for (path, allowed) in [
        ("/oauth/authorize", "GET, HEAD, POST"),
        ("/oauth/device", "GET, HEAD, POST"),
        ("/oauth/callback", "GET, HEAD"),
        ("/oauth/consent", "POST"),
        ("/oauth/par", "POST"),
        ("/oauth/device_authorization", "POST"),
    ] {
        let answer = flow.visit(&flow.browser, Method::DELETE, path, &[]).await;
        assert_eq!((answer.status, answer.header("allow")), (StatusCode::METHOD_NOT_ALLOWED, allowed), "{path}");
    }
}
