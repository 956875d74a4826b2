//! What a request may be: its size, its JSON, its boundaries, its fields, its path, its method, its host.

use serde_json::json;
use testkit::mock::{Answer as Reply, Mock};
use testkit::raw::{self, Connection};

use super::{KEY, World, question};

#[tokio::test]
async fn check_01_large_heads_are_431_and_long_targets_414() {
    let world = World::start("").await;
    let head = |target: &str, headers: &str| {
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{}{headers}\r\n", world.bearer())
    };
    let line = format!("x: {}\r\n", "a".repeat(1000));
    assert_eq!(world.tell(&head("/v1/models", &line.repeat(33))).await, [431]);
    assert_eq!(world.tell(&head("/v1/models", &format!("x: {}\r\n", "a".repeat(40_000)))).await, [431]);
    assert_eq!(world.tell(&head("/v1/models", &"a: b\r\n".repeat(101))).await, [431]);
    assert_eq!(world.tell(&head(&format!("/v1/{}", "a".repeat(9000)), "")).await, [414]);
    assert_eq!(world.tell(&head(&format!("/v1/models?{}", "a".repeat(9000)), "")).await, [414]);
    assert_eq!(world.mock.count(), 0);
    let large = raw::request(
        world.gateway.public,
        "GET",
        "/v1/models",
        &[("authorization", &format!("Bearer {}", world.token)), ("x", &"a".repeat(20_000))],
        b"",
    )
    .await;
    assert_eq!(large.status(), 200, "what is below the limits is served");
    world.fine().await;
}

#[tokio::test]
async fn check_02_bodies_over_the_limit_are_413_declared_or_not() {
    let world = World::start("body = \"64KiB\"\ntoken_body = \"4KiB\"\nadmin_body = \"4KiB\"").await;
    let json_type = "Content-Type: application/json\r\n";
    for path in [
        "/v1/chat/completions",
        "/v1/messages",
        "/v1/embeddings",
        "/v1/summary",
        "/providers/prov/v1/chat/completions",
        "/maps/x",
    ] {
        let start = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{}{json_type}", world.bearer());
        // Declared: answered before a byte of it is sent.
        let mut connection = Connection::open(world.gateway.public).await;
        connection.send(format!("{start}Content-Length: 65537\r\n\r\n").as_bytes()).await;
        assert_eq!(connection.response().await.status(), 413, "{path} declared");
        let mut connection = Connection::open(world.gateway.public).await;
        connection
            .send(format!("{start}Content-Length: 99999999999999\r\nExpect: 100-continue\r\n\r\n").as_bytes())
            .await;
        assert_eq!(connection.response().await.status(), 413, "{path} expected");
        // Chunked: at the first byte too many.
        let mut connection = Connection::open(world.gateway.public).await;
        connection
            .send(format!("{start}Transfer-Encoding: chunked\r\n\r\n10000\r\n{}\r\n", "a".repeat(65_536)).as_bytes())
            .await;
        connection.send(b"1\r\na\r\n").await;
        assert_eq!(connection.response().await.status(), 413, "{path} chunked");
    }
    assert_eq!(world.mock.count(), 0, "the provider was called");
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let long = "a".repeat(5000);
    let token = raw::request(world.gateway.public, "POST", "/oauth/token", &form, long.as_bytes()).await;
    assert_eq!(token.status(), 413, "the token endpoint: {}", token.text());
    let admin = world.gateway.server().operations();
    let made = control::operations::CreateAdminToken { name: "me".to_owned(), role: "owner".to_owned(), expires: None };
    let made = admin.admin_token_create(&made, "test").await.unwrap();
    let bearer = format!("Bearer {}", made.admin_token.expose());
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let body = json!({"name": "x", "scopes": [], "note": long}).to_string();
    let answer = raw::request(world.gateway.admin, "POST", "/admin/v1/clients", &headers, body.as_bytes()).await;
    assert_eq!(answer.status(), 413, "the admin API: {}", answer.text());
    world.fine().await;
}

#[tokio::test]
async fn check_03_json_bombs_are_400() {
    let world = World::start("").await;
    let around = |inner: &str| {
        format!(
            "{{\"model\":\"prov/m\",\"messages\":[{{\"role\":\"user\",\"content\":\"x\"}}],\"max_tokens\":5,\"input\":\"x\",{inner}}}"
        )
    };
    let deep = |depth: usize| around(&format!("\"z\":{}{}", "[".repeat(depth), "]".repeat(depth)));
    let bombs = [
        deep(65),
        deep(10_000),
        around(&format!("\"z\":{}", "[".repeat(100_000))),
        around(&format!("\"z\":{}1{}", "{\"a\":".repeat(5000), "}".repeat(5000))),
        around(&format!("\"z\":[{}1]", "0,".repeat(100_001))),
        around(&format!("\"z\":[{}{{}}]", "{},".repeat(100_001))),
        around("\"model\":\"prov/other\""),
        around("\"mod\\u0065l\":\"prov/other\""),
        around("\"stream\":true,\"stream\":false"),
        around("\"max_tokens\":999999"),
        around("\"api_base\":\"http://x\",\"api_base\":\"http://y\""),
        around("\"Model\":\"prov/other\""),
        around("\"z\":{\"a\":1,\"a\":2}"),
        around("\"z\":1e99999999999"),
        around("\"z\":\"\u{0}\""),
        around("\"z\":NaN"),
        around("\"z\":1,"),
        "{".repeat(50_000),
        String::new(),
    ];
    for path in ["/v1/chat/completions", "/v1/messages"] {
        for bomb in &bombs {
            let answer = world.post_text(path, bomb.clone()).await;
            let lenient = bomb.contains("1e9999");
            assert!(
                answer.status == 400 || (lenient && answer.status == 200),
                "{path} {:.120}: {} {}",
                bomb,
                answer.status,
                answer.text()
            );
        }
    }
    for sent in world.mock.requests() {
        assert!(sent.body.len() < 1000, "a bomb reached the provider");
    }
    world.fine().await;
}

#[tokio::test]
async fn check_10_compressed_requests_are_415_and_compressed_answers_502() {
    let world = World::start("").await;
    for coding in ["gzip", "br", "deflate", "zstd", "x-gzip", "gzip, identity", "identity, gzip"] {
        for path in ["/v1/chat/completions", "/v1/summary", "/maps/x", "/providers/prov/v1/chat/completions"] {
            let bearer = format!("Bearer {}", world.token);
            let headers = [
                ("authorization", bearer.as_str()),
                ("content-type", "application/json"),
                ("content-encoding", coding),
            ];
            let answer = raw::request(world.gateway.public, "POST", path, &headers, &[0x1f, 0x8b, 8, 0]).await;
            assert_eq!(answer.status(), 415, "{coding} {path}");
        }
    }
    assert_eq!(world.mock.count(), 0);
    world.mock.push(Reply::json(200, &json!({})).header("content-encoding", "gzip"));
    assert_eq!(world.chat(&question()).await.status, 502);
    assert_eq!(world.mock.requests()[0].header("accept-encoding"), Some("identity"), "nobody asked for it");
}

#[tokio::test]
async fn check_12_a_request_that_could_end_in_two_places_is_400_or_exactly_one_request() {
    let world = World::start("").await;
    let inner =
        format!("POST /maps/smuggled HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 0\r\n\r\n", world.bearer());
    let chunked = format!("0\r\n\r\n{inner}");
    let length = chunked.len();
    for headers in [
        format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"),
        format!("Content-Length: 0, {length}\r\n"),
        format!("Content-Length: +{length}\r\n"),
        format!("Content-Length : {length}\r\n"),
        "Content-Length: -5\r\n".to_owned(),
        "Content-Length: 18446744073709551616\r\n".to_owned(),
        "Transfer-Encoding: xchunked\r\n".to_owned(),
        "Transfer-Encoding : chunked\r\n".to_owned(),
        "Transfer-Encoding:\x0bchunked\r\n".to_owned(),
        "Transfer-Encoding: chunked, identity\r\n".to_owned(),
        "Transfer-Encoding: gzip, chunked\r\n".to_owned(),
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n".to_owned(),
        "Transfer-Encoding:\r\n chunked\r\n".to_owned(),
        "X: y\r\n Transfer-Encoding: chunked\r\n".to_owned(),
        "X: y\nTransfer-Encoding: chunked\r\n".to_owned(),
        "X: y\r\rTransfer-Encoding: chunked\r\n".to_owned(),
        "X y: z\r\n".to_owned(),
        "no colon\r\n".to_owned(),
    ] {
        let bytes = format!("POST /maps/outer HTTP/1.1\r\nHost: localhost\r\n{}{headers}\r\n{chunked}", world.bearer());
        assert_eq!(world.tell(&bytes).await, [400], "{headers:?}");
        assert_eq!(world.mock.count(), 0, "{headers:?}");
    }
    let tenth = format!(
        "POST /maps/outer HTTP/1.0\r\nHost: localhost\r\n{}Transfer-Encoding: chunked\r\n\r\n{chunked}",
        world.bearer()
    );
    assert_eq!(world.tell(&tenth).await, [400]);
    // A body that breaks within: whatever the caller is told, the provider got nothing of what is behind it.
    for chunks in [
        "3\nabc\n0\n\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc\r\n",
        "3;\nabc\r\n0\r\n\r\n",
        "0\n\n",
    ] {
        let bytes = format!(
            "POST /maps/outer HTTP/1.1\r\nHost: localhost\r\n{}Transfer-Encoding: chunked\r\n\r\n{chunks}{inner}",
            world.bearer()
        );
        let answers = world.tell(&bytes).await;
        assert_eq!(answers, [400], "{chunks:?}");
        assert!(world.mock.requests().iter().all(|sent| !sent.target.contains("smuggled")), "{chunks:?}");
    }
    assert_eq!(world.mock.count(), 0);
    // What is unusual but clear is one request with the same boundaries.
    for (request, body) in [
        ("Content-Length: 3\r\n\r\nabc", "abc"),
        ("Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", "abc"),
        ("Transfer-Encoding: chunked\r\n\r\n3;name=\"value\"\r\nabc\r\n0\r\nX-Trailer: y\r\n\r\n", "abc"),
        ("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        (
            "Connection: upgrade, http2-settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nContent-Length: 3\r\n\r\nabc",
            "abc",
        ),
    ] {
        let before = world.mock.count();
        let bytes = format!(
            "POST /maps/outer HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n{}{request}",
            world.bearer()
        );
        let mut connection = Connection::open(world.gateway.public).await;
        connection.send(bytes.as_bytes()).await;
        assert_eq!(connection.response().await.status(), 200, "{request:?}");
        let sent = world.mock.requests();
        assert_eq!((sent.len(), sent.last().unwrap().body.as_slice()), (before + 1, body.as_bytes()), "{request:?}");
        assert!(sent.last().unwrap().header("upgrade").is_none() && sent.last().unwrap().header("x-trailer").is_none());
    }
    // Two in one piece are two, and both are checked.
    let two = format!(
        "POST /maps/one HTTP/1.1\r\nHost: localhost\r\n{}Content-Length: 3\r\n\r\nabcGET /maps/two HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        world.bearer()
    );
    assert_eq!(world.tell(&two).await, [200, 401], "the second has no token");
}

#[tokio::test]
async fn check_13_nothing_of_the_caller_but_the_question_reaches_a_provider() {
    let world = World::start("").await;
    let secret = "canary-value";
    let fields = [
        "cookie",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-user",
        "forwarded",
        "via",
        "x-real-ip",
        "proxy-authorization",
        "x-vouchgate-subject",
        "x-auth-request-user",
        "x-remote-user",
        "te",
        "keep-alive",
        "proxy-connection",
        "x-amzn-oidc-data",
        "cf-access-jwt-assertion",
        "dpop",
        "api-key-x",
        "x-request-id",
        "traceparent",
        "referer",
        "origin",
        "x-original-url",
        "true-client-ip",
    ];
    for path in ["/v1/chat/completions", "/providers/prov/v1/chat/completions", "/v1/summary", "/maps/x"] {
        let before = world.mock.count();
        let mut head =
            format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\n", world.bearer());
        for field in fields {
            if path == "/maps/x" && field == "api-key-x" {
                continue;
            }
            head = format!("{head}{field}: {secret}\r\n");
        }
        head = format!("{head}Connection: x-nominated\r\nX-Nominated: {secret}\r\n");
        let body = if path == "/v1/summary" { json!({"input": "x"}).to_string() } else { question().to_string() };
        let mut connection = Connection::open(world.gateway.public).await;
        connection.send(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
        let answer = connection.response().await;
        if path.starts_with("/providers") {
            // Not allowed by the policy of this test, so nothing is sent at all.
            assert_eq!(answer.status(), 403);
            continue;
        }
        assert_eq!(answer.status(), 200, "{path}: {}", answer.text());
        assert_eq!(world.mock.count(), before + 1);
        let sent = world.mock.requests().last().unwrap().clone();
        let text = String::from_utf8_lossy(&sent.head).into_owned();
        assert!(!text.contains(&world.token) && !text.contains(secret), "{path}: {text}");
        assert!(text.contains(KEY), "its own key is sent");
        assert!(!answer.text().contains(KEY) && answer.head.headers.iter().all(|(_, value)| !value.contains(KEY)));
    }
    for name in ["x_forwarded_for", "x_auth_user", "content_length", "transfer_encoding", "a_b"] {
        let request = format!(
            "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n{}{name}: 1\r\nConnection: close\r\n\r\n",
            world.bearer()
        );
        assert_eq!(world.tell(&request).await, [400], "{name}");
    }
    // And of the provider's answer only what concerns the caller comes back.
    world.mock.push(
        crate::attacks::chat_answer()
            .header("set-cookie", "session=provider")
            .header("openai-organization", "org-operator")
            .header("x-ratelimit-remaining-tokens", "5")
            .header("server", "provider")
            .header("alt-svc", "h3=\":443\"")
            .header("access-control-allow-origin", "*")
            .header("strict-transport-security", "max-age=1"),
    );
    let answer = world.chat(&question()).await;
    for name in [
        "set-cookie",
        "openai-organization",
        "x-ratelimit-remaining-tokens",
        "server",
        "alt-svc",
        "access-control-allow-origin",
        "strict-transport-security",
    ] {
        assert!(answer.header(name).is_none(), "{name}");
    }
}

#[tokio::test]
async fn check_14_methods_and_hosts_that_are_not_ours() {
    let world = World::start("").await;
    let ask = |method: &str, target: &str, host: &str| {
        format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{}Connection: close\r\nContent-Length: 0\r\n\r\n",
            world.bearer()
        )
    };
    for method in ["TRACE", "CONNECT", "BREW", "get", "PRI", "PROPFIND", "DELETE", "PUT", "PATCH"] {
        for path in ["/v1/chat/completions", "/v1/models", "/v1/summary"] {
            let target = if method == "CONNECT" { "localhost:443" } else { path };
            let host = if method == "CONNECT" { "localhost:443" } else { "localhost" };
            let bytes = raw::exchange(world.gateway.public, ask(method, target, host).as_bytes()).await;
            let answer = String::from_utf8_lossy(&bytes).into_owned();
            let statuses = raw::split_responses(&bytes);
            assert!(statuses == [405] || (method == "PRI" && statuses != [200]), "{method} {path}: {answer:.200}");
            assert!(
                method == "PRI" || answer.to_ascii_lowercase().contains("\r\nallow: "),
                "{method} {path}: {answer:.300}"
            );
        }
    }
    for host in [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost.",
        "ai.example.com",
        "user@localhost",
        "localhost:99999999",
    ] {
        for path in ["/v1/models", "/oauth/token", "/.well-known/jwks.json", "/maps/x", "/nothing"] {
            let statuses = world.tell(&ask("GET", path, host)).await;
            assert!(statuses == [421] || statuses == [400], "{host} {path}: {statuses:?}");
        }
    }
    assert_eq!(world.tell(&ask("GET", "/v1/models", "evil.example")).await, [421]);
    assert_eq!(world.tell(&ask("GET", "http://evil.example/v1/models", "localhost")).await, [400]);
    let none = format!("GET /v1/models HTTP/1.1\r\n{}Connection: close\r\n\r\n", world.bearer());
    assert_eq!(world.tell(&none).await, [400]);
    let two = format!(
        "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n{}Connection: close\r\n\r\n",
        world.bearer()
    );
    assert_eq!(world.tell(&two).await, [400]);
    assert_eq!(world.mock.count(), 0);
    world.fine().await;
}

#[tokio::test]
async fn check_15_a_path_has_one_spelling() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let world = World::start_on("", mock).await;
    let good = world.gateway.get("/maps/places", &world.token).await;
    assert_eq!(good.status, 200, "{}", good.text());
    assert_eq!(world.mock.requests()[0].target, "/api/places");
    for path in [
        "//maps/places",
        "/maps//places",
        "/maps/./places",
        "/maps/../maps/places",
        "/maps/..%2fplaces",
        "/maps/%2e%2e/places",
        "/maps/%2E%2E/admin",
        "/maps%2fplaces",
        "/maps/places%00",
        "/maps/places;x=y",
        "/maps;/places",
        "/%6daps/places",
        "/maps/places%5c..",
        "/maps\\places",
        "/maps/%252e%252e/places",
        "/MAPS/places",
        "/Maps/places",
        "/maps/..",
        "/maps/../v1/models",
        "/v1/../maps/places",
        "/v1/chat/completions/",
        "/v1/chat%2fcompletions",
        "/v1//chat/completions",
        "/V1/chat/completions",
        "/v1/Chat/Completions",
        "/v1/chat/completions;a",
        "/v1/chat/completions%20",
        "/v1/chat/completions/.",
        "/providers/prov/../other/x",
        "/providers/PROV/v1/models",
        "/providers/prov%2fx",
        "/providers//v1/models",
        "/maps/\u{7f}",
        "/./maps/places",
        "/maps/places/../../secret",
    ] {
        for method in ["GET", "POST"] {
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{{}}",
                world.bearer()
            );
            let statuses = world.tell(&request).await;
            assert!(
                statuses.len() == 1 && [400, 403, 404, 405].contains(&statuses[0]),
                "{method} {path}: {statuses:?}"
            );
        }
    }
    assert_eq!(world.mock.count(), 1, "a second spelling reached the provider");
    // A dot at the end of the host is another host; the query is no part of the path.
    assert_eq!(world.gateway.get("/maps/places?next=/../admin", &world.token).await.status, 200);
    assert_eq!(world.mock.requests()[1].path(), "/api/places");
}
