//! How a credential is presented, what is said back, and where credentials go.

use http::{Method, Request};
use http_body_util::Full;
use serde_json::json;
use testkit::keys::{TestKey, b64};
use testkit::raw::{self, Connection};

use super::{PROVIDER_KEY, World, question};

/// Send this request head with a JSON body, exactly so.
async fn told(world: &World, headers: &str) -> raw::Response {
    let body = question().to_string();
    let mut connection = Connection::open(world.gateway.public).await;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{headers}\r\n",
        body.len()
    );
    connection.send(format!("{head}{body}").as_bytes()).await;
    connection.response().await
}

#[tokio::test]
async fn a_30_tokens_in_other_places() {
    let world = World::start().await;
    let good = world.good();
    let before = world.provider.count();
    // Alone in the query, a cookie, a form or the body it is no credential at all: 401 without an error code.
    let json_body = json!({"model": "prov/m1", "messages": [], "access_token": good}).to_string();
    let json_type = "application/json";
    for (path, cookie, kind, body) in [
        (format!("/v1/chat/completions?access_token={good}"), None, json_type, question().to_string()),
        (format!("/v1/chat/completions?key={good}&token={good}&jwt={good}"), None, json_type, question().to_string()),
        (
            "/v1/chat/completions".to_owned(),
            Some(format!("access_token={good}; token={good}")),
            json_type,
            question().to_string(),
        ),
        ("/v1/chat/completions".to_owned(), None, json_type, json_body),
    ] {
        let mut headers = vec![("content-type", kind)];
        headers.extend(cookie.as_deref().map(|cookie| ("cookie", cookie)));
        let answer = raw::request(world.gateway.public, "POST", &path, &headers, body.as_bytes()).await;
        assert_eq!(answer.status(), 401, "{path}: {}", answer.text());
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.starts_with("Bearer") && !challenge.contains("error="), "{challenge}");
    }
    let form = format!("access_token={good}");
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let answer = raw::request(world.gateway.public, "POST", "/v1/chat/completions", &kind, form.as_bytes()).await;
    assert_eq!(answer.status(), 401, "{}", answer.text());
    // Beside the header, a second one is one too many.
    for query in ["access_token=x", "access%5Ftoken=x", &format!("a=b&access_token={good}")] {
        let bearer = format!("Bearer {good}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        let path = format!("/v1/chat/completions?{query}");
        let answer =
            raw::request(world.gateway.public, "POST", &path, &headers, question().to_string().as_bytes()).await;
        assert_eq!(answer.status(), 400, "{query}");
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_request\""));
    }
    assert_eq!(world.provider.count(), before);
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_31_several_or_malformed_credentials() {
    let world = World::start().await;
    let good = world.good();
    let before = world.provider.count();
    let line = |value: &str| format!("Authorization: {value}\r\n");
    let bearer = line(&format!("Bearer {good}"));
    let twice = [
        format!("{bearer}{bearer}"),
        format!("{bearer}{}", line("Basic YTpi")),
        format!("{}{bearer}", line("DPoP x.y.z")),
        format!("{bearer}authorization: Bearer {good}\r\n"),
        format!("{bearer}X-Api-Key: {good}\r\n"),
        format!("X-Api-Key: {good}\r\nX-Goog-Api-Key: {good}\r\n"),
        format!("{bearer}x-portkey-api-key: {good}\r\n"),
        line(&format!("Bearer {good}, Bearer {good}")),
        line(&format!("Bearer {good},{good}")),
        line(&format!("Bearer {good} {good}")),
        line(&format!("Bearer a {good}")),
        line("Bearer"),
        line("Bearer "),
        line(&format!("Bearer\t{good}")),
        line(&format!("Bearer \"{good}\"")),
        line(&format!("Bearer={good}")),
        line(&good),
        line(""),
    ];
    for headers in twice {
        let answer = told(&world, &headers).await;
        let challenge = answer.header("www-authenticate").unwrap_or_default().to_owned();
        let malformed = answer.status() == 400 && challenge.contains("error=\"invalid_request\"");
        // A bare token reads as a scheme's name: no credential of ours.
        let absent = answer.status() == 401 && !challenge.contains("error=") && !headers.contains("Bearer");
        assert!(malformed || absent, "{headers:?}: {} {challenge}", answer.status());
        assert!(!answer.text().contains(&good) && !challenge.contains(&good));
    }
    // Schemes that are not spoken here: as if nothing had been sent.
    for headers in [line("Basic YTpi"), line("Negotiate x"), format!("Proxy-Authorization: Bearer {good}\r\n")] {
        let answer = told(&world, &headers).await;
        assert_eq!(answer.status(), 401, "{headers:?}");
        assert!(!answer.header("www-authenticate").unwrap().contains("error="), "{headers:?}");
    }
    // In trailers it comes too late to be one.
    let body = question().to_string();
    let late = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\nTrailer: authorization\r\n\r\n{:x}\r\n{body}\r\n0\r\nAuthorization: Bearer {good}\r\n\r\n",
        body.len()
    );
    let mut connection = Connection::open(world.gateway.public).await;
    connection.send(late.as_bytes()).await;
    assert_eq!(connection.response().await.status(), 401);
    assert_eq!(world.provider.count(), before, "none of it reached the provider");
    for headers in [
        line(&format!("bEaReR {good}")),
        line(&format!("Bearer   {good}")),
        format!("x-api-key: {good}\r\n"),
        format!("X-GOOG-API-KEY: {good}\r\n"),
    ] {
        assert_eq!(told(&world, &headers).await.status(), 200, "{headers:?}");
    }
}

#[tokio::test]
async fn a_31_two_credentials_over_http2() {
    let world = World::start().await;
    let good = world.good();
    let stream = tokio::net::TcpStream::connect(world.gateway.public).await.unwrap();
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        let _ = connection.await;
    });
    let mut statuses = Vec::new();
    for second in [None, Some("authorization"), Some("x-api-key")] {
        let mut request =
            Request::get(world.gateway.url("/v1/models")).header("authorization", format!("Bearer {good}"));
        if let Some(name) = second {
            request = request.header(name, format!("Bearer {good}"));
        }
        let (response, _) = sender.send_request(request.body(()).unwrap(), true).unwrap();
        statuses.push(testkit::patiently("an answer", response).await.unwrap().status().as_u16());
    }
    assert_eq!(statuses, [200, 400, 400]);
}

#[tokio::test]
async fn a_32_header_smuggling() {
    let world = World::start().await;
    let good = world.good();
    let before = world.provider.count();
    for headers in [
        format!("Authorization:\r\n Bearer {good}\r\n"),
        format!("X: y\r\n Authorization: Bearer {good}\r\n"),
        format!("Authorization\x0b: Bearer {good}\r\n"),
        format!("Authorization : Bearer {good}\r\n"),
        format!("X: y\nAuthorization: Bearer {good}\r\n"),
        format!("Author\0ization: Bearer {good}\r\n"),
        format!("Authorization: Bearer {good}\r\nx_auth_sub: admin\r\n"),
        format!("Authorization: Bearer {good}\r\nX_Forwarded_For: 127.0.0.1\r\n"),
        format!("Authorization: Bearer {good}\r\nTransfer-Encoding: chunked\r\n"),
    ] {
        assert_eq!(told(&world, &headers).await.status(), 400, "{headers:?}");
    }
    assert_eq!(world.provider.count(), before);
    // Fields that would name the caller to whoever trusts us never travel on, in any case or number.
    let identity = "X-Auth-Sub: admin\r\nx-auth-sub: root\r\nX-Forwarded-User: admin\r\nX-Remote-User: admin\r\nRemote-User: admin\r\nX-User-Id: 1\r\nX-Vouchgate-Subject: admin\r\nX-Real-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\nClient-Cert: :AAAA:\r\nConnection: X-Kept\r\nX-Kept: nominated\r\n";
    let answer = told(&world, &format!("Authorization: Bearer {good}\r\n{identity}")).await;
    assert_eq!(answer.status(), 200);
    let sent = world.provider.requests().last().unwrap().clone();
    for (name, value) in &sent.headers {
        assert!(
            !["admin", "root", "10.0.0.1", "nominated", ":AAAA:"].iter().any(|text| value.contains(text)),
            "{name}: {value}"
        );
    }
    // Line breaks in HTTP/2 fields: the stream or the connection ends, and no second field is born of them.
    let block = |value: &[u8]| {
        let mut block = vec![0x82, 0x86, 0x84, 0x41, 9];
        block.extend(b"localhost");
        block.extend([0x00, 3]);
        block.extend(b"x-a");
        block.push(u8::try_from(value.len()).unwrap());
        block.extend(value);
        block
    };
    for value in [&b"a\r\nx-auth-sub: b"[..], b"a\nb", b"a\0b", b"a\rb"] {
        let block = block(value);
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        bytes.extend([0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1]);
        bytes.extend(&block);
        // PING, then GOAWAY: whatever was not a reset would have been answered by then.
        bytes.extend(b"\0\0\x08\x06\0\0\0\0\0abcdefgh\0\0\x08\x07\0\0\0\0\0\0\0\0\0\0\0\0\0");
        let said = raw::exchange(world.gateway.public, &bytes).await;
        // No HEADERS frame comes back for stream 1: only SETTINGS, RST_STREAM, PING, GOAWAY.
        assert!(!frames(&said).contains(&1), "{value:?}: {:?}", frames(&said));
    }
    world.fine("afterwards").await;
}

/// The types of the HTTP/2 frames in these bytes.
fn frames(mut bytes: &[u8]) -> Vec<u8> {
    let mut kinds = Vec::new();
    while let [a, b, c, kind, _, _, _, _, _, rest @ ..] = bytes {
        kinds.push(*kind);
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        bytes = rest.get(length..).unwrap_or_default();
    }
    kinds
}

#[tokio::test]
async fn a_41_garbage_is_nobody_on_any_route() {
    let world = World::start().await;
    let before = world.provider.count();
    let garbage = [
        "Bearer garbage",
        "Bearer a.b.c",
        "Bearer null",
        "Bearer undefined",
        "Bearer vg_x",
        "Bearer vga_x",
        "Bearer sk-fake",
        "Bearer {}",
        "Basic YTpi",
        "garbage",
    ];
    let routes = [
        ("POST", "/v1/chat/completions"),
        ("POST", "/v1/messages"),
        ("POST", "/v1/embeddings"),
        ("GET", "/v1/models"),
        ("HEAD", "/v1/models"),
        ("GET", "/v1/models/prov/m1"),
        ("POST", "/providers/prov/v1/chat/completions"),
        ("GET", "/providers/prov/v1/files"),
        ("GET", "/openapi.json"),
        ("OPTIONS", "/v1/chat/completions"),
        ("GET", "/v1/realtime"),
        ("GET", "/nothing"),
    ];
    for (method, path) in routes {
        for credential in garbage {
            for event_stream in [false, true] {
                let mut headers = vec![("authorization", credential), ("content-type", "application/json")];
                if event_stream {
                    headers.extend([
                        ("accept", "text/event-stream"),
                        ("upgrade", "websocket"),
                        ("connection", "upgrade"),
                    ]);
                }
                let mut connection = Connection::open(world.gateway.public).await;
                connection.request(method, path, &headers, if method == "POST" { b"{}" } else { b"" }).await;
                let head = connection.head().await.unwrap();
                let refused = [400, 401, 403, 404, 405].contains(&head.status);
                assert!(refused, "{method} {path} {credential:?}: {}", head.status);
            }
        }
    }
    // The health of the gateway is nobody's secret, whatever is sent along; and nothing beyond it.
    for credential in garbage {
        let answer = raw::request(world.gateway.public, "GET", "/livez", &[("authorization", credential)], b"").await;
        assert_eq!((answer.status(), answer.text().as_str()), (200, "ok\n"));
    }
    // The admin API does not take callers' tokens, nor garbage.
    let good = format!("Bearer {}", world.good());
    for credential in garbage.iter().copied().chain([good.as_str()]) {
        for path in ["/admin/v1/clients", "/metrics", "/readyz", "/admin/v1/secrets"] {
            let answer = raw::request(world.gateway.admin, "GET", path, &[("authorization", credential)], b"").await;
            assert!([400, 401, 403].contains(&answer.status()), "{path} {credential:?}: {}", answer.status());
        }
    }
    assert_eq!(world.provider.count(), before);
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_44_refusals_say_nothing() {
    let world = World::start().await;
    let evil = TestKey::generate("ES256");
    let secret = "canary-in-a-claim";
    let claims = world.claims_with(&json!({"sub": secret}));
    let unknown_kid = evil.mint(&claims);
    let bad_signature = evil.mint_with(&json!({"alg": "ES256", "kid": world.es.kid}), &claims);
    let unknown_issuer = world.es.mint(&world.claims_with(&json!({"iss": "https://canary.example", "sub": secret})));
    let wrong_audience = world.es.mint(&world.claims_with(&json!({"aud": "x", "sub": secret})));
    let no_algorithm = format!("{}.{}.", b64("{\"alg\":\"canary-alg\"}"), b64(claims.to_string()));
    let mut said = Vec::new();
    for token in [&unknown_kid, &bad_signature, &unknown_issuer, &wrong_audience, &no_algorithm] {
        let answer = world.ask(token).await.unwrap();
        let challenge = answer.header("www-authenticate").unwrap().to_owned();
        let text = format!("{challenge} {}", answer.text());
        for part in token.split('.').filter(|part| part.len() > 8) {
            assert!(!text.contains(part), "{text}");
        }
        for word in ["canary", &world.es.kid, &world.idp.issuer(), "src/", ".rs", "panicked", "ES256"] {
            assert!(!text.contains(word), "{word}: {text}");
        }
        // RFC 6750 section 3: each attribute once, no quotes or backslashes inside.
        assert_eq!(challenge.matches("error=").count(), 1);
        assert_eq!(challenge.matches("error_description=").count(), 1);
        said.push(text);
    }
    said.dedup();
    assert_eq!(said.len(), 1, "unknown key, bad signature, unknown issuer read the same: {said:#?}");
    world.fine("afterwards").await;
}

#[tokio::test]
async fn a_46_credentials_stay_on_their_side() {
    let world = World::start().await;
    let good = world.good();
    let cookie = "session=canary-cookie";
    let request = Request::builder()
        .method(Method::POST)
        .uri(world.gateway.url("/v1/chat/completions?trace=canary-query"))
        .header("authorization", format!("Bearer {good}"))
        .header("cookie", cookie)
        .header("content-type", "application/json")
        .body(Full::from(question().to_string()))
        .unwrap();
    let answer = world.gateway.send(request).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = world.provider.requests().last().unwrap().clone();
    let everything = format!("{}{}", String::from_utf8_lossy(&sent.head), String::from_utf8_lossy(&sent.body));
    assert!(!everything.contains(&good) && !everything.contains("canary-cookie"), "{everything}");
    let authorization: Vec<_> =
        sent.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("authorization")).collect();
    assert_eq!(authorization.len(), 1);
    assert_eq!(authorization[0].1, format!("Bearer {PROVIDER_KEY}"));
    // Nothing of the provider's key comes back, neither when it answers nor when it repeats what it was sent.
    world.provider.push(
        testkit::mock::Answer::json(
            401,
            &json!({"error": {"message": format!("Incorrect API key provided: {PROVIDER_KEY}")}}),
        )
        .header("x-echo", PROVIDER_KEY),
    );
    let failed = world.ask(&good).await.unwrap();
    assert!(failed.status.as_u16() >= 400);
    let seen = format!("{:?} {}", failed.headers, failed.text());
    assert!(!seen.contains(PROVIDER_KEY), "{seen}");
    assert!(!format!("{:?}{}", answer.headers, answer.text()).contains(PROVIDER_KEY));
}
