//! What is refused before anybody is called.

use serde_json::json;
use testkit::mock::{Answer, Mock};

use crate::harness::{API_KEY, NOW, World, request};

const ECHO: &str = r#"
[cors]
origins = ["https://app.example.com"]

[[policy]]
name = "all"
who = { scope = ["chat"] }
may = { models = ["vouchgate/echo"], max_output_tokens = 50 }
"#;

fn hello() -> serde_json::Value {
    json!({"model": "vouchgate/echo", "messages": [{"role": "user", "content": "hello there"}]})
}

#[tokio::test]
async fn a_verified_token_gets_an_answer_and_a_record() {
    let world = World::new(ECHO);
    let answer = world.post("/v1/chat/completions", &hello()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json()["choices"][0]["message"]["content"], "hello there");
    assert!(answer.header("x-request-id").starts_with("req_"));
    let record = world.record();
    assert_eq!((record.status, record.endpoint.as_ref(), record.stream), (200, "chat", false));
    assert_eq!(record.subject.as_deref(), Some("alice"));
    assert_eq!(record.policy.as_ref().map(base::Name::as_str), Some("all"));
    assert!(record.input_tokens.is_some() && record.output_tokens.is_some());
    assert_eq!(record.request_id.as_str(), answer.header("x-request-id"));
}

#[tokio::test]
async fn every_place_of_an_sdk_carries_a_credential() {
    let world = World::new(ECHO);
    let token = world.token("alice");
    let bearer = format!("bearer {token}");
    for (name, value) in [("authorization", &bearer), ("x-api-key", &token), ("x-goog-api-key", &token)] {
        let answer = world.send("POST", "/v1/chat/completions", &[(name, value)], hello().to_string()).await;
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
}

#[tokio::test]
async fn r_33_no_credential_is_a_bare_challenge() {
    let world = World::new(ECHO);
    for (query, headers) in [
        ("?access_token=x", vec![]),
        ("", vec![("authorization", "Basic YTpi")]),
        ("", vec![("authorization", "Digest x.y.z")]),
    ] {
        let path = format!("/v1/chat/completions{query}");
        let answer = world.send("POST", &path, &headers, hello().to_string()).await;
        assert_eq!(answer.status, 401);
        let challenges: Vec<_> = answer.headers.get_all("www-authenticate").iter().collect();
        let place = "resource_metadata=\"http://192.0.2.1:8080/.well-known/oauth-protected-resource\"";
        assert_eq!(challenges.len(), 2);
        assert_eq!(challenges[0], format!("Bearer realm=\"vouchgate\", {place}").as_str());
        assert!(challenges[1].to_str().unwrap().starts_with("DPoP realm=\"vouchgate\", algs=\"ES256 "));
        assert!(challenges.iter().all(|challenge| !challenge.to_str().unwrap().contains("error=")));
        assert_eq!(answer.header("x-should-retry"), "false");
    }
    assert!(world.records.0.lock().unwrap().is_empty(), "nobody's requests are not recorded");
    assert!(world.metrics().contains("vouchgate_blocked_total{reason=\"credential_missing\"} 3"));
}

#[tokio::test]
async fn r_34_a_token_that_is_not_accepted_is_invalid_and_never_shown() {
    let world = World::new(ECHO);
    let other = testkit::keys::TestKey::generate("ES256").with_kid("unknown");
    let claims = json!({"iss": crate::harness::ISSUER, "aud": crate::harness::AUDIENCE, "sub": "a", "iat": NOW, "exp": NOW + 60});
    let bound = world.token_with(&json!({"cnf": {"jkt": "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}));
    let expired = world.token_with(&json!({"exp": NOW - 120, "iat": NOW - 400}));
    for (scheme, token) in [
        ("Bearer", expired),
        ("Bearer", other.mint(&claims)),
        ("DPoP", bound),
        ("Bearer", "garbage".to_owned()),
        ("Bearer", "a.b.c".to_owned()),
        ("Bearer", "vg_unknown".to_owned()),
    ] {
        let bearer = format!("Bearer {token}");
        let answer =
            world.send("POST", "/v1/chat/completions", &[("authorization", &bearer)], hello().to_string()).await;
        assert_eq!(answer.status, 401, "{token}");
        let challenge = answer.header("www-authenticate");
        assert!(challenge.starts_with(&format!("{scheme} realm=\"vouchgate\"")), "{challenge}");
        assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
        assert!(!answer.text().contains(&token) && !answer.header("www-authenticate").contains(&token));
    }
}

#[tokio::test]
async fn r_32_two_credentials_are_a_bad_request() {
    let world = World::new(ECHO);
    let token = world.token("alice");
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("x-api-key", token.as_str())];
    let answer = world.send("POST", "/v1/chat/completions", &headers, hello().to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "invalid_request"));
    assert!(answer.header("www-authenticate").contains("error=\"invalid_request\""));
}

#[tokio::test]
async fn a_41_garbage_never_becomes_an_anonymous_caller_on_any_route() {
    let world = World::new(ECHO);
    for (method, path) in [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/embeddings"),
        ("POST", "/v1/messages"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/x"),
        ("GET", "/openapi.json"),
        ("HEAD", "/v1/models"),
    ] {
        let answer = world.send(method, path, &[("authorization", "Bearer garbage")], "{}").await;
        assert_eq!(answer.status, 401, "{method} {path}");
    }
}

#[tokio::test]
async fn a_missing_scope_is_named() {
    let world = World::new(ECHO);
    let bearer = format!("Bearer {}", world.token_with(&json!({"scope": "other"})));
    let answer = world.send("POST", "/v1/chat/completions", &[("authorization", &bearer)], hello().to_string()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (403, "insufficient_scope"));
    assert!(answer.header("www-authenticate").contains("error=\"insufficient_scope\", scope=\"chat\""));
    assert_eq!(world.record().error.as_deref(), Some("insufficient_scope"));
}

#[tokio::test]
async fn vouchgate_keys_are_off_until_a_policy_names_them() {
    let bearer = format!("Bearer {API_KEY}");
    let world = World::new(ECHO);
    let answer = world.send("POST", "/v1/chat/completions", &[("authorization", &bearer)], hello().to_string()).await;
    assert_eq!(answer.status, 401);
    let world =
        World::new("[[policy]]\nname = \"keys\"\nwho = { key = \"tool\" }\nmay = { models = [\"vouchgate/echo\"] }\n");
    let answer = world.send("POST", "/v1/chat/completions", &[("authorization", &bearer)], hello().to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(world.record().api_key.as_deref(), Some("key_1"));
    world.clock.advance(std::time::Duration::from_secs(1000));
    let answer = world.send("POST", "/v1/chat/completions", &[("authorization", &bearer)], hello().to_string()).await;
    assert_eq!(answer.status, 401, "an expired key");
}

#[tokio::test]
async fn hosts_paths_methods_and_names_are_checked_first() {
    let world = World::new(ECHO);
    let status = async |method: &str, path: &str, headers: &[(&str, &str)]| world.send(method, path, headers, "").await;
    assert_eq!(status("GET", "/nothing", &[]).await.status, 404);
    assert_eq!(status("GET", "/v1//models", &[]).await.code(), "path_invalid");
    assert_eq!(status("GET", "/v1/%6dodels", &[]).await.code(), "path_invalid");
    assert_eq!(status("GET", "/V1/models", &[]).await.status, 404);
    assert_eq!(status("GET", "/v1/models", &[("x_auth_user", "root")]).await.code(), "header_name_invalid");
    let wrong = status("GET", "/v1/chat/completions", &[]).await;
    assert_eq!((wrong.status.as_u16(), wrong.header("allow")), (405, "POST"));
    for method in ["TRACE", "CONNECT", "BREW"] {
        let answer = status(method, "/v1/models", &[]).await;
        assert_eq!(answer.status, 405, "{method}");
        assert!(!answer.header("allow").is_empty());
    }
    assert_eq!(status("GET", &format!("/v1/models?{}", "a".repeat(9000)), &[]).await.status, 414);
    let mut elsewhere = request("GET", "/v1/models", &[], "");
    elsewhere.headers_mut().insert("host", http::HeaderValue::from_static("evil.example"));
    let answer = crate::harness::read(world.raw(elsewhere).await).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (421, "host_unknown"));
}

#[tokio::test]
async fn errors_speak_the_dialect_of_the_endpoint() {
    let world = World::new(ECHO);
    let anthropic = world.send("POST", "/v1/messages", &[], "{}").await;
    assert_eq!(anthropic.json()["type"], "error");
    assert_eq!(anthropic.json()["error"]["type"], "authentication_error");
    assert_eq!(anthropic.header("request-id"), anthropic.header("x-request-id"));
    let gemini = world.send("POST", "/v1beta/models/x:unknownMethod", &[], "{}").await;
    assert_eq!(gemini.json()["error"]["status"], "NOT_FOUND");
}

#[tokio::test]
async fn a_browser_learns_what_it_may_and_sees_what_it_needs() {
    let world = World::new(ECHO);
    let preflight = [("origin", "https://app.example.com"), ("access-control-request-method", "POST")];
    let answer = world.send("OPTIONS", "/v1/chat/completions", &preflight, "").await;
    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("access-control-allow-origin"), "https://app.example.com");
    assert_eq!(answer.header("access-control-allow-methods"), "POST");
    let elsewhere = [("origin", "https://evil.example"), ("access-control-request-method", "POST")];
    let answer = world.send("OPTIONS", "/v1/chat/completions", &elsewhere, "").await;
    assert_eq!(answer.header("access-control-allow-origin"), "");
    let answer = world.send("GET", "/v1/models", &[("origin", "https://app.example.com")], "").await;
    assert!(answer.header("access-control-expose-headers").contains("www-authenticate"));
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
}

#[tokio::test]
async fn bodies_out_of_bounds_reach_nobody() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({}))).await;
    let world = World::new(&format!(
        "[limits]\nbody = \"1KiB\"\n[[provider]]\nname = \"p\"\nkind = \"openai-compatible\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], max_output_tokens = 10, tools = false }}\n",
        mock.url()
    ));
    let bearer = format!("Bearer {}", world.token("alice"));
    let post = async |body: String, more: &[(&str, &str)]| {
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend_from_slice(more);
        world.send("POST", "/v1/chat/completions", &headers, body).await
    };
    assert_eq!(post("x".repeat(1025), &[]).await.code(), "body_too_large");
    assert_eq!(post("{}".to_owned(), &[("content-length", "99999")]).await.status, 413);
    assert_eq!(post("{}".to_owned(), &[("content-encoding", "gzip")]).await.status, 415);
    assert_eq!(post("{}".to_owned(), &[("content-type", "text/plain")]).await.status, 415);
    // Who is not known is told so, and not which bodies are taken.
    for odd in [("content-type", "text/plain"), ("content-encoding", "gzip"), ("content-length", "99999")] {
        let answer = world.send("POST", "/v1/chat/completions", &[odd], "{}".to_owned()).await;
        assert_eq!(answer.status, 401, "{odd:?}");
    }
    assert_eq!(post("{".to_owned(), &[]).await.status, 400);
    assert_eq!(post(r#"{"model":"p/a","model":"p/b","messages":[]}"#.to_owned(), &[]).await.status, 400);
    assert_eq!(
        post(r#"{"model":"p/a","messages":[],"api_base":"http://evil.example"}"#.to_owned(), &[]).await.status,
        400
    );
    assert_eq!(post(format!("{}1{}", "[".repeat(70), "]".repeat(70)), &[]).await.status, 400);
    let denied = post(r#"{"model":"p/a","messages":[],"max_tokens":11}"#.to_owned(), &[]).await;
    assert_eq!((denied.status.as_u16(), denied.code().as_str()), (403, "max_output_tokens_exceeded"));
    let tools = r#"{"model":"p/a","messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#;
    assert_eq!(post(tools.to_owned(), &[]).await.code(), "tools_not_allowed");
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn a_29_a_new_key_is_fetched_once_and_the_token_accepted() {
    let world = World::with_keys_after_refresh(ECHO);
    for _ in 0..3 {
        let answer = world.post("/v1/chat/completions", &hello()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(world.refreshes(), 1);
}

#[tokio::test]
async fn keys_that_cannot_be_had_are_our_fault_and_no_challenge() {
    let world = World::without_keys(ECHO);
    let answer = world.post("/v1/chat/completions", &hello()).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (503, "keys_unavailable"));
    assert_eq!((answer.header("retry-after"), answer.header("www-authenticate")), ("30", ""));
}

#[tokio::test]
async fn who_comes_over_tls_is_told_to_stay_there() {
    let world = World::new(ECHO);
    let peer =
        gateway::Peer { addr: "203.0.113.7:50000".parse().unwrap(), tls: true, certificate: None, fingerprint: None };
    let response = world.gateway.handle(request("GET", "/v1/models", &[], ""), &peer).await;
    assert_eq!(response.headers().get("strict-transport-security").unwrap(), "max-age=31536000");
    assert!(!world.send("GET", "/v1/models", &[], "").await.headers.contains_key("strict-transport-security"));
}
