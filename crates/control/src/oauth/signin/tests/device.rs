//! A device without a browser (RFC 8628).

use std::time::Duration;

use http::StatusCode;
use serde_json::json;

use super::*;

const GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

/// A device asks: what it is told.
async fn ask(flow: &Flow) -> Value {
    let form = [("client_id", "web"), ("scope", "chat")];
    let answer = flow.post("/oauth/device_authorization", &form, &[("authorization", &basic())]).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    answer.json()
}

/// The device looks whether somebody has decided.
async fn poll(flow: &Flow, asked: &Value) -> Answer {
    flow.fixture.clock.advance(Duration::from_secs(5));
    let form = [("grant_type", GRANT), ("device_code", asked["device_code"].as_str().unwrap())];
    flow.fixture.ask_token(&encode(&owned(&form)), &[("authorization", &basic())]).await
}

/// The person opens the page and enters a code.
async fn enter(flow: &Flow, browser: &Visitor, code: &str) -> Answer {
    let page = flow.visit(browser, Method::GET, "/oauth/device", &[]).await;
    let csrf = field(&page.text, "csrf");
    flow.visit(browser, Method::POST, "/oauth/device", &[("user_code", code), ("csrf", &csrf)]).await
}

/// The person enters the code and signs in: the page with the question.
async fn question(flow: &Flow, asked: &Value) -> Answer {
    let page = enter(flow, &flow.browser, &asked["user_code"].as_str().unwrap().to_lowercase()).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.text);
    let at_provider = page.header("refresh").strip_prefix("0; url=").unwrap().to_owned();
    flow.get(&flow.op.visit(&at_provider)).await
}

async fn decide(flow: &Flow, page: &Answer, decision: &str) -> Answer {
    let (ticket, csrf) = (field(&page.text, "ticket"), field(&page.text, "csrf"));
    let form = [("ticket", ticket.as_str()), ("csrf", &csrf), ("decision", decision)];
    flow.visit(&flow.browser, Method::POST, "/oauth/consent", &form).await
}

fn error(answer: &Answer) -> String {
    answer.json()["error"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_device_gets_tokens_once_a_person_has_signed_in_and_approved() {
    let flow = Flow::new().await;
    let asked = ask(&flow).await;
    assert_eq!((&asked["expires_in"], &asked["interval"]), (&json!(600), &json!(5)));
    let page = format!("{EXTERNAL}/oauth/device");
    assert_eq!(asked["verification_uri"], page);
    let user_code = asked["user_code"].as_str().unwrap();
    assert_eq!((user_code.len(), user_code.as_bytes()[4]), (9, b'-'));
    assert_eq!(asked["verification_uri_complete"], format!("{page}?user_code={user_code}"));
    assert_eq!(error(&poll(&flow, &asked).await), "authorization_pending");

    assert!(question(&flow, &asked).await.text.contains(&format!("<dd>{}</dd>", testkit::op::SUBJECT)));
    flow.op.claim(json!({"name": "Alice", "email": "alice<b>@example.com"}));
    let page = question(&flow, &asked).await;
    assert!(page.text.contains("<dd>alice&lt;b&gt;@example.com</dd>"), "{}", page.text);
    for part in
        ["Connect this device?", user_code, "<dd>web</dd>", "<li>chat</li>", "Only continue if you started this"]
    {
        assert!(page.text.contains(part), "{part} {}", page.text);
    }
    assert_eq!(error(&poll(&flow, &asked).await), "authorization_pending", "signing in is not approving");
    let done = decide(&flow, &page, "allow").await;
    assert!(done.text.contains("Your device is connected"), "{}", done.text);

    let answer = poll(&flow, &asked).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
    let token = claims(answer.json()["access_token"].as_str().unwrap());
    assert_eq!((&token["scope"], &token["sub"]), (&json!("chat"), &json!(format!("corp|{}", testkit::op::SUBJECT))));
    assert_eq!(error(&poll(&flow, &asked).await), "invalid_grant", "once");
}

#[tokio::test]
async fn a_device_that_was_denied_is_told_so() {
    let flow = Flow::new().await;
    let asked = ask(&flow).await;
    let page = question(&flow, &asked).await;
    assert!(decide(&flow, &page, "deny").await.text.contains("Not connected"));
    assert_eq!(error(&poll(&flow, &asked).await), "access_denied");
}

#[tokio::test]
async fn a_link_fills_the_code_in_but_does_not_send_it_off() {
    let flow = Flow::new().await;
    let asked = ask(&flow).await;
    let page = flow.get(asked["verification_uri_complete"].as_str().unwrap()).await;
    assert_eq!(field(&page.text, "user_code"), asked["user_code"].as_str().unwrap());
    assert_eq!(flow.op.asked("/authorize"), 0);
    let page = flow.get("/oauth/device?user_code=%22%3E%3Cscript%3E").await;
    assert_eq!((field(&page.text, "user_code").as_str(), page.text.contains("<script")), ("", false));
}

#[tokio::test]
async fn nobody_decides_twice_and_a_decided_code_is_no_code() {
    let flow = Flow::new().await;
    let asked = ask(&flow).await;
    let (first, second) = (question(&flow, &asked).await, question(&flow, &asked).await);
    assert!(decide(&flow, &first, "deny").await.text.contains("Not connected"));
    assert!(is_refusal(&decide(&flow, &first, "allow").await), "the same page again");
    assert!(is_refusal(&decide(&flow, &second, "allow").await), "another page");
    assert_eq!(error(&poll(&flow, &asked).await), "access_denied");
    assert!(is_refusal(&enter(&flow, &flow.browser, asked["user_code"].as_str().unwrap()).await));
}

#[tokio::test]
async fn a_device_that_asks_too_fast_is_slowed_down_and_an_old_code_is_expired() {
    let flow = Flow::new().await;
    let asked = ask(&flow).await;
    assert_eq!(error(&poll(&flow, &asked).await), "authorization_pending");
    let form = [("grant_type", GRANT), ("device_code", asked["device_code"].as_str().unwrap())];
    let fast = flow.fixture.ask_token(&encode(&owned(&form)), &[("authorization", &basic())]).await;
    assert_eq!(error(&fast), "slow_down");
    flow.fixture.clock.advance(Duration::from_mins(10));
    assert_eq!(error(&poll(&flow, &asked).await), "expired_token");
    assert!(is_refusal(&enter(&flow, &flow.browser, asked["user_code"].as_str().unwrap()).await));
}

#[tokio::test]
async fn guessing_codes_is_stopped_for_an_address_and_nobody_else() {
    let flow = Flow::new().await;
    let asked = ask(&flow).await;
    let attacker = Visitor::from("198.51.100.9");
    let mut wrong = 0;
    let closed = loop {
        let answer = enter(&flow, &attacker, "BBBB-BBBB").await;
        assert!(is_refusal(&answer), "{}", answer.text);
        if answer.status == StatusCode::TOO_MANY_REQUESTS {
            break answer;
        }
        wrong += 1;
        assert!(wrong < 50);
    };
    assert_eq!(wrong, 8);
    assert!(!closed.header("retry-after").is_empty());
    let right = enter(&flow, &attacker, asked["user_code"].as_str().unwrap()).await;
    assert_eq!(right.status, StatusCode::TOO_MANY_REQUESTS, "not even the right one");
    assert_eq!(enter(&flow, &flow.browser, asked["user_code"].as_str().unwrap()).await.status, StatusCode::OK);
}

#[tokio::test]
async fn one_code_is_not_entered_for_ever() {
    let flow = Flow::new().await;
    let asked = ask(&flow).await;
    let code = asked["user_code"].as_str().unwrap();
    for _ in 0..8 {
        assert_eq!(enter(&flow, &flow.browser, code).await.status, StatusCode::OK);
    }
    assert!(is_refusal(&enter(&flow, &flow.browser, code).await));
}

#[tokio::test]
async fn a_form_without_its_token_or_from_another_site_or_browser_changes_nothing() {
    let flow = Flow::new().await;
    let asked = ask(&flow).await;
    let code = asked["user_code"].as_str().unwrap();
    let page = flow.get("/oauth/device").await;
    let csrf = field(&page.text, "csrf");
    let form = [("user_code", code), ("csrf", csrf.as_str())];
    let without = flow.visit(&flow.browser, Method::POST, "/oauth/device", &form[..1]).await;
    assert!(is_refusal(&without));
    let other = flow.visit(&Visitor::new(), Method::POST, "/oauth/device", &form).await;
    assert!(is_refusal(&other));
    for site in ["cross-site", "same-site", "none"] {
        let headers = [("sec-fetch-site", site)];
        let answer = flow.visit_with(&flow.browser, (Method::POST, "/oauth/device"), &form, &headers).await;
        assert!(is_refusal(&answer), "{site}");
    }

    let page = question(&flow, &asked).await;
    let (ticket, csrf) = (field(&page.text, "ticket"), field(&page.text, "csrf"));
    let form = [("ticket", ticket.as_str()), ("csrf", csrf.as_str()), ("decision", "allow")];
    let no_token = [form[0], form[2]];
    assert!(is_refusal(&flow.visit(&flow.browser, Method::POST, "/oauth/consent", &no_token).await));
    assert!(is_refusal(&flow.visit(&Visitor::new(), Method::POST, "/oauth/consent", &form).await));
    let headers = [("sec-fetch-site", "cross-site")];
    let cross = flow.visit_with(&flow.browser, (Method::POST, "/oauth/consent"), &form, &headers).await;
    assert!(is_refusal(&cross));
    assert_eq!(error(&poll(&flow, &asked).await), "authorization_pending");
    let headers = [("sec-fetch-site", "same-origin")];
    let own = flow.visit_with(&flow.browser, (Method::POST, "/oauth/consent"), &form, &headers).await;
    assert_eq!(own.status, StatusCode::OK, "{}", own.text);
}

#[tokio::test]
async fn a_client_without_the_grant_or_with_too_wide_a_scope_gets_no_code() {
    let flow = Flow::new().await;
    let ask = async |client: &str, form: &[(&str, &str)]| {
        let answer = flow.post("/oauth/device_authorization", form, &[("authorization", &basic_of(client))]).await;
        (answer.status.as_u16(), error(&answer))
    };
    assert_eq!(ask("batch", &[]).await, (400, "unauthorized_client".to_owned()));
    assert_eq!(ask("web", &[("scope", "admin")]).await, (400, "invalid_scope".to_owned()));
    assert_eq!(ask("web", &[("resource", "https://other.example")]).await, (400, "invalid_target".to_owned()));
    assert_eq!(ask("nobody", &[]).await, (401, "invalid_client".to_owned()));
}
