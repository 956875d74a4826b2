//! The edge of the whole product, under clients that mean harm or know no better. Tests are named after the numbers of
//! the checklist; what needs an injected fault (a panic, a resolver that lies) is tested beside the code it is in.

mod edge;
mod load;
mod requests;

use std::sync::Arc;

use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::mock::{Answer as Reply, Mock};
use testkit::raw::{self, Connection};

use crate::support::{APP, Answer, Gateway, provider, secret_file};

pub(super) const KEY: &str = "fake-key-of-the-provider";

/// A gateway with a provider, a reverse-proxied API and a service, all of them one mock.
pub(super) struct World {
    pub(super) gateway: Gateway,
    pub(super) mock: Mock,
    pub(super) token: String,
}

/// The configuration of [`World`], without limits.
pub(super) fn configuration(dir: &std::path::Path, mock: &Mock) -> String {
    let key = secret_file(dir, "provider.key", KEY);
    let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    format!(
        "{APP}{prov}\n[[upstream]]\nname = \"maps\"\npath = \"/maps/\"\nurl = \"{}/api/\"\nallow_private = true\n\
         inject = {{ header = \"X-Maps-Key\", value = {{ file = {:?} }} }}\n\n\
         [[service]]\nname = \"summary\"\npath = \"/v1/summary\"\nmodel = \"prov/m\"\nprompt = \"{{{{input}}}}\"\n",
        mock.url(),
        key.display().to_string()
    )
}

impl World {
    pub(super) async fn start(limits: &str) -> Self {
        let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
        Self::start_on(limits, mock).await
    }

    pub(super) async fn start_on(limits: &str, mock: Mock) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let config = format!("[limits]\n{limits}\n{}", configuration(dir.path(), &mock));
        let gateway = Gateway::start_in(dir, &config).await;
        let token = gateway.token("app").await;
        Self { gateway, mock, token }
    }

    pub(super) fn bearer(&self) -> String {
        format!("Authorization: Bearer {}\r\n", self.token)
    }

    pub(super) async fn chat(&self, body: &Value) -> Answer {
        self.gateway.post("/v1/chat/completions", &self.token, body).await
    }

    /// Everything still works.
    pub(super) async fn fine(&self) {
        let answer = self.chat(&question()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// A chat request with this body, whatever it is.
    pub(super) async fn post_text(&self, path: &str, body: String) -> Answer {
        let request = self.gateway.request(Method::POST, path, &self.token).header("content-type", "application/json");
        self.gateway.send(request.body(Full::from(body)).unwrap()).await
    }

    /// Say these bytes on a connection of their own; the statuses of what comes back.
    pub(super) async fn tell(&self, bytes: &str) -> Vec<u16> {
        raw::split_responses(&raw::exchange(self.gateway.public, bytes.as_bytes()).await)
    }
}

pub(super) fn question() -> Value {
    json!({"model": "prov/m", "messages": [{"role": "user", "content": "hello"}]})
}

pub(super) fn stream_of(text: &str) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
           "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
}

#[tokio::test]
async fn check_35_no_client_chooses_where_a_request_goes() {
    let world = World::start("").await;
    let lure = Mock::start().await;
    let url = lure.url();
    for (member, value) in [
        ("api_base", json!(url)),
        ("base_url", json!(url)),
        ("API_BASE", json!(url)),
        ("api_key", json!("x")),
        ("extra_headers", json!({"host": "evil.example"})),
        ("custom_llm_provider", json!("openai")),
        ("litellm_params", json!({"api_base": url})),
        ("model_list", json!([{"litellm_params": {"api_base": url}}])),
        ("fallbacks", json!([{"model": "prov/m", "api_base": url}])),
        ("metadata", json!({"api_base": url, "nested": {"base_url": url}})),
        ("user_config", json!({"model_list": [{"api_base": url}]})),
        ("webhook_url", json!(url)),
    ] {
        for path in [
            "/v1/chat/completions",
            "/v1/messages",
            "/v1/embeddings",
            "/v1/summary",
            "/providers/prov/v1/chat/completions",
        ] {
            let mut body = question();
            body["max_tokens"] = json!(5);
            body["input"] = json!("hello");
            body[member] = value.clone();
            let status = world.post_text(path, body.to_string()).await.status.as_u16();
            assert!([200, 400, 403].contains(&status), "{path} {member}: {status}");
        }
    }
    for model in [format!("{url}/m"), format!("prov/{url}"), "prov/../../x".to_owned(), "//evil.example/m".to_owned()] {
        let mut body = question();
        body["model"] = json!(model);
        let status = world.chat(&body).await.status.as_u16();
        assert!([200, 400, 403, 404].contains(&status), "{model}: {status}");
    }
    for header in [
        "x-base-url",
        "x-portkey-custom-host",
        "x-target-url",
        "x-forwarded-host",
        "x-original-url",
        "helicone-target-url",
    ] {
        let request = world.gateway.request(Method::POST, "/v1/chat/completions", &world.token);
        let request = request.header("content-type", "application/json").header(header, &url);
        assert_eq!(world.gateway.send(request.body(Full::from(question().to_string())).unwrap()).await.status, 200);
        let sent = world.mock.requests().last().unwrap().clone();
        assert!(!String::from_utf8_lossy(&sent.head).contains(&url), "{header} reached the provider");
    }
    assert_eq!(lure.connections(), 0, "somebody was sent to the client's address");
    for sent in world.mock.requests() {
        assert!(sent.path().starts_with("/v1/"), "{}", sent.target);
    }
}

#[tokio::test]
async fn check_37_private_addresses_are_out_of_reach_unless_allowed() {
    let mock = Mock::start().await;
    let port = mock.addr().port();
    let dir = tempfile::tempdir().unwrap();
    let key = secret_file(dir.path(), "provider.key", KEY);
    let mut tried = Vec::new();
    for host in [
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "0.0.0.0",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "[::]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "169.254.169.254",
        "10.0.0.1",
        "100.64.0.1",
        "[fd00::1]",
        "[fe80::1]",
    ] {
        for scheme in ["https", "http"] {
            let prov = provider("prov", "openai-compatible", &format!("{scheme}://{host}:{port}/v1"), &key);
            let config = format!("{APP}{}", prov.replace("allow_private = true\n", ""));
            let text = format!("[server]\nlisten = \"127.0.0.1:0\"\nadmin_listen = \"127.0.0.1:0\"\n{config}");
            // Refused as configuration, or else when a request would go there.
            if vouchgate::preflight::read(&text).is_err() {
                tried.push("refused at check");
                continue;
            }
            let gateway = Gateway::start(&config).await;
            let token = gateway.token("app").await;
            let answer = gateway.post("/v1/chat/completions", &token, &question()).await;
            assert!([502, 503, 504].contains(&answer.status.as_u16()), "{scheme}://{host}: {}", answer.text());
            tried.push("refused at connect");
            gateway.stop().await;
        }
    }
    println!("{tried:?}");
    assert_eq!(mock.connections(), 0, "a private address was connected to");
}

#[tokio::test]
async fn check_39_redirects_are_not_followed_by_anything() {
    let world = World::start("").await;
    let lure = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    for status in [301, 302, 303, 307, 308] {
        for path in ["/v1/chat/completions", "/v1/messages", "/v1/summary", "/providers/prov/v1/chat/completions"] {
            world.mock.push(Reply::redirect(status, &format!("{}/v1/chat/completions", lure.url())));
            let body = json!({"model": "prov/m", "max_tokens": 5, "messages": [{"role": "user", "content": "x"}]});
            let answer = if path == "/v1/summary" {
                world.gateway.post(path, &world.token, &json!({"input": "x"})).await
            } else {
                world.gateway.post(path, &world.token, &body).await
            };
            assert!([502, 403].contains(&answer.status.as_u16()), "{status} {path}: {}", answer.text());
            assert!(answer.header("location").is_none());
        }
        world.mock.push(Reply::redirect(status, &lure.url()));
        let proxied = world.gateway.get("/maps/x", &world.token).await;
        assert!(proxied.header("location").is_none(), "a browser is not sent to where only we may go");
    }
    assert_eq!(lure.connections(), 0);
}

#[tokio::test]
async fn check_40_malformed_answers_are_a_typed_502() {
    let world = World::start("response_body = \"64KiB\"").await;
    let good = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n";
    for (what, reply) in [
        ("not HTTP", Reply::raw("SSH-2.0-OpenSSH_9.9\r\n")),
        ("nothing", Reply::nothing()),
        ("half a head", Reply::raw("HTTP/1.1 200 OK\r\ncontent-type: app")),
        ("two lengths", Reply::raw(format!("{good}content-length: 2\r\ncontent-length: 3\r\n\r\n{{}}"))),
        ("a negative length", Reply::raw(format!("{good}content-length: -1\r\n\r\n{{}}"))),
        ("a bad chunk", Reply::raw(format!("{good}transfer-encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"))),
        ("NUL in a header", Reply::raw(format!("{good}x: a\0b\r\n\r\n{{}}"))),
        ("a huge head", Reply::raw(format!("{good}{}\r\n{{}}", format!("x: {}\r\n", "a".repeat(1000)).repeat(2000)))),
        ("status 999x", Reply::raw("HTTP/1.1 99 x\r\n\r\n")),
        (
            "another protocol",
            Reply::raw("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n"),
        ),
        (
            "a cut body",
            Reply::json(200, &json!({"id": "x".repeat(100)})).framing(testkit::mock::Framing::WrongLength(5000)),
        ),
        ("too large", Reply::bytes(200, "application/json", "[1,2,3,4]".repeat(100)).repeat(1000)),
        ("compressed", Reply::json(200, &json!({})).header("content-encoding", "gzip")),
        ("a bomb", Reply::bytes(200, "application/json", vec![0x1f; 100]).header("content-encoding", "br")),
    ] {
        world.mock.push(reply.clone());
        world.mock.push(reply);
        let before = world.mock.count();
        let answer = world.chat(&question()).await;
        assert_eq!(answer.status, StatusCode::BAD_GATEWAY, "{what}: {}", answer.text());
        assert!(
            !answer.code().is_empty() && answer.json()["error"]["message"].is_string(),
            "{what}: {}",
            answer.text()
        );
        // What was pushed and not asked for is taken out, so that the next case meets its own.
        if world.mock.count() == before + 1 {
            let _ = world.chat(&question()).await;
        }
    }
    world.fine().await;
}

#[tokio::test]
async fn check_73_the_listeners_keep_to_themselves() {
    let world = World::start("").await;
    for path in ["/admin/v1/clients", "/metrics", "/console", "/admin/v1/secrets", "/admin"] {
        let answer = world.gateway.get(path, &world.token).await;
        assert_eq!(answer.status, 404, "{path} on the public listener");
    }
    assert_eq!(world.gateway.get("/readyz", &world.token).await.text(), "ok\n", "no detail in public");
    let bearer = format!("Bearer {}", world.token);
    for (method, path) in
        [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("POST", "/oauth/token"), ("GET", "/maps/x")]
    {
        let answer = raw::request(world.gateway.admin, method, path, &[("authorization", &bearer)], b"").await;
        assert!([401, 404].contains(&answer.status()), "{path} on the admin listener: {}", answer.status());
    }
    assert!(world.gateway.admin.ip().is_loopback() && config::Config::empty().server.admin_listen.ip().is_loopback());
    // From another site's page, or under another name, nothing is answered.
    for (name, value) in
        [("host", "evil.example"), ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")]
    {
        let mut connection = Connection::open(world.gateway.admin).await;
        connection.request("GET", "/admin/v1/clients", &[(name, value), ("authorization", &bearer)], b"").await;
        let status = connection.response().await.status();
        assert!([401, 403, 421].contains(&status), "{name}: {status}");
    }
}

#[test]
fn every_test_the_documentation_names_exists() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = std::fs::read_to_string(root.join("docs/security-tests.md")).unwrap();
    let mut named = 0;
    for line in table.lines().filter(|line| line.starts_with("| ")) {
        let quoted: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        for pair in quoted.chunks(2) {
            let source = std::fs::read_to_string(root.join(pair[0])).unwrap_or_else(|_| panic!("no file {}", pair[0]));
            assert!(source.contains(&format!("fn {}()", pair[1])), "{} is not in {}", pair[1], pair[0]);
            named += 1;
        }
    }
    for check in (1..=16).chain([22, 23]).chain(35..=41).chain([64, 66, 73]) {
        assert!(table.contains(&format!("\n| {check} | ")), "check {check}");
    }
    assert!(named > 50, "{named}");
}
