//! Realtime sessions: OpenAI's API over a WebSocket, with a provider of the same kind behind.

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{Request, Response};
use http_body_util::Full;
use serde_json::{Value, json};
use testkit::patiently;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::handshake::server;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use crate::harness::{PROVIDER_KEY, World, read, request};

/// A provider of realtime sessions.
struct Provider(TcpListener);

type There = WebSocketStream<TcpStream>;
type Here = WebSocketStream<DuplexStream>;

impl Provider {
    async fn start() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.unwrap())
    }

    fn config(&self, policy: &str) -> String {
        format!(
            "[[provider]]\nname = \"o\"\nkind = \"openai\"\nbase_url = \"http://{}/v1\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n\
             [[model]]\nname = \"voice\"\ntargets = [{{ provider = \"o\", model = \"gpt-realtime\" }}]\n\
             [[policy]]\nname = \"all\"\n{policy}\n",
            self.0.local_addr().unwrap()
        )
    }

    /// The next session: the request that asked for it, and the socket.
    #[allow(clippy::result_large_err)] // tungstenite's signature
    async fn session(&self) -> (server::Request, There) {
        let (stream, _) = patiently("a connection", self.0.accept()).await.unwrap();
        let mut asked = None;
        let socket = accept_hdr_async(stream, |request: &server::Request, mut answer: server::Response| {
            asked = Some(request.clone());
            if let Some(offered) = request.headers().get("sec-websocket-protocol") {
                answer.headers_mut().insert("sec-websocket-protocol", offered.clone());
            }
            Ok(answer)
        });
        let socket = patiently("a handshake", socket).await.unwrap();
        (asked.unwrap(), socket)
    }
}

const EVERYTHING: &str = "may = { models = [\"*\"], tools = true }";

fn ask(world: &World, path: &str, more: &[(&str, &str)]) -> Request<Full<Bytes>> {
    let token = format!("Bearer {}", world.token("alice"));
    let mut headers = vec![
        ("authorization", token.as_str()),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    headers.extend(more);
    request("GET", path, &headers, "")
}

#[allow(clippy::disallowed_methods)]
fn serve(mut response: Response<gateway::GatewayBody>) -> (Here, JoinHandle<()>) {
    assert_eq!(response.status().as_u16(), 101, "{response:?}");
    let tunnel = response.body_mut().take_tunnel().expect("a tunnel");
    let (client, ours) = tokio::io::duplex(64 * 1024);
    let running = tokio::spawn(tunnel.run(Box::new(ours)));
    let client = futures_util::FutureExt::now_or_never(WebSocketStream::from_raw_socket(client, Role::Client, None));
    (client.expect("no waiting"), running)
}

/// A session of alice's with both ends in hand.
async fn open(world: &World, provider: &Provider) -> (Here, There, JoinHandle<()>) {
    let (response, (_, there)) =
        tokio::join!(world.raw(ask(world, "/v1/realtime?model=voice", &[])), provider.session());
    let (here, running) = serve(response);
    (here, there, running)
}

async fn said<S>(socket: &mut WebSocketStream<S>) -> Value
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    match patiently("an event", socket.next()).await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

async fn closed<S>(socket: &mut WebSocketStream<S>) -> Option<CloseFrame>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    match patiently("a goodbye", socket.next()).await {
        Some(Ok(Message::Close(frame))) => frame,
        other => panic!("{other:?}"),
    }
}

async fn say<S>(socket: &mut WebSocketStream<S>, event: &Value)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    socket.send(Message::text(event.to_string())).await.unwrap();
}

#[tokio::test]
async fn a_session_carries_events_both_ways_with_our_key_and_is_on_record() {
    let provider = Provider::start().await;
    let world = World::new(&provider.config(EVERYTHING));
    let asking = ask(
        &world,
        "/v1/realtime?model=voice",
        &[("sec-websocket-protocol", "realtime"), ("openai-beta", "realtime=v1")],
    );
    let (response, (asked, mut there)) = tokio::join!(world.raw(asking), provider.session());
    assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(response.headers()["sec-websocket-protocol"], "realtime");
    assert_eq!(asked.uri().to_string(), "/v1/realtime?model=gpt-realtime");
    assert_eq!(asked.headers()["authorization"], format!("Bearer {PROVIDER_KEY}"));
    assert_eq!(asked.headers()["openai-beta"], "realtime=v1");
    assert_ne!(asked.headers()["sec-websocket-key"], "dGhlIHNhbXBsZSBub25jZQ==");
    assert!(!format!("{asked:?}").contains(&world.token("alice")));
    let (mut here, running) = serve(response);
    let text = "{ \"type\":\"input_audio_buffer.append\",  \"audio\":\"AAAA\"}";
    here.send(Message::text(text)).await.unwrap();
    assert_eq!(there.next().await.unwrap().unwrap(), Message::text(text), "as it was written");
    say(&mut here, &json!({"type": "session.update", "session": {"type": "realtime", "model": "voice"}})).await;
    assert_eq!(said(&mut there).await["session"]["model"], "gpt-realtime");
    for (input, output) in [(10, 5), (30, 7)] {
        let usage = json!({"input_tokens": input, "output_tokens": output, "total_tokens": input + output});
        let event = json!({"type": "response.done", "response": {"usage": usage}});
        say(&mut there, &event).await;
        assert_eq!(said(&mut here).await, event);
    }
    assert!(world.metrics().contains("vouchgate_streams_open 1"));
    here.close(None).await.unwrap();
    assert_eq!(closed(&mut there).await, None);
    patiently("the end", running).await.unwrap();
    let record = world.record();
    assert_eq!((record.endpoint.as_ref(), record.status, record.error), ("realtime", 101, None));
    assert_eq!((record.input_tokens, record.output_tokens), (Some(40), Some(12)));
    assert!(world.metrics().contains("vouchgate_streams_open 0"));
}

#[tokio::test]
async fn an_event_the_policy_does_not_allow_is_an_error_event_and_goes_nowhere() {
    let provider = Provider::start().await;
    let policy = "may = { models = [\"voice\"], tools = false, max_output_tokens = 100 }";
    let world = World::new(&provider.config(policy));
    let (mut here, mut there, _running) = open(&world, &provider).await;
    // Answers the provider begins by itself are bounded too.
    assert_eq!(
        said(&mut there).await,
        json!({"type": "session.update", "session": {"type": "realtime", "max_output_tokens": 100}})
    );
    for (event, code) in [
        (
            json!({"type": "session.update", "event_id": "e", "session": {"tools": [{"type": "function", "name": "f"}]}}),
            "tools_not_allowed",
        ),
        (
            json!({"type": "response.create", "event_id": "e", "response": {"max_output_tokens": 101}}),
            "max_output_tokens_exceeded",
        ),
        (json!({"type": "session.update", "event_id": "e", "session": {"model": "gpt-other"}}), "invalid_request"),
        (
            json!({"type": "session.update", "event_id": "e", "session": {"input_audio_transcription": {"model": "whisper-1"}}}),
            "model_not_allowed",
        ),
        (json!({"type": "conversation.item.create", "event_id": "e", "x": {"model": "another"}}), "model_not_allowed"),
    ] {
        say(&mut here, &event).await;
        let error = said(&mut here).await;
        assert_eq!((&error["type"], &error["error"]["event_id"]), (&json!("error"), &json!("e")), "{error}");
        assert_eq!(error["error"]["code"], code, "{event}: {error}");
    }
    for (text, code) in [
        ("{", "invalid_json"),
        ("{\"type\":1}", "invalid_request"),
        ("{\"type\":\"a\",\"type\":\"b\"}", "duplicate_member"),
    ] {
        here.send(Message::text(text)).await.unwrap();
        let error = said(&mut here).await;
        assert!(error["error"]["code"].is_string(), "{text} {code}: {error}");
    }
    say(&mut here, &json!({"type": "response.create", "response": {"max_output_tokens": "inf"}})).await;
    assert_eq!(said(&mut there).await["response"]["max_output_tokens"], 100, "the first thing that got through");
}

#[tokio::test]
async fn each_answer_asked_for_counts_against_the_rate() {
    let provider = Provider::start().await;
    let policy = format!(
        "{EVERYTHING}\nrate = [{{ requests = 3, per = \"subject\", window = \"1m\" }}, {{ concurrent = 1, per = \"subject\" }}]"
    );
    let world = World::new(&provider.config(&policy));
    let (mut here, mut there, running) = open(&world, &provider).await;
    for _ in 0..2 {
        say(&mut here, &json!({"type": "response.create"})).await;
        assert_eq!(said(&mut there).await["type"], "response.create");
    }
    say(&mut here, &json!({"type": "response.create"})).await;
    assert_eq!(said(&mut here).await["error"]["code"], "rate_limited");
    let other = read(world.raw(ask(&world, "/v1/realtime?model=voice", &[])).await).await;
    assert_eq!((other.status.as_u16(), other.code().as_str()), (429, "rate_limited"), "one session at a time");
    drop(here);
    patiently("the end", running).await.unwrap();
    assert_eq!(world.record().error.as_deref(), Some("client_gone"));
}

#[tokio::test]
async fn a_session_that_is_quite_unlike_its_caller_is_refused_answers_and_then_cut() {
    let provider = Provider::start().await;
    let rules = "[anomaly]\nsurge = \"suspend\"\nrequests = 3\nfactor = 2\nlearn = \"1h\"\n";
    let world = World::new(&format!("{rules}{}", provider.config(EVERYTHING)));
    let create = json!({"type": "response.create"});
    let (mut here, mut there, running) = open(&world, &provider).await;
    say(&mut here, &create).await;
    assert_eq!(said(&mut there).await["type"], "response.create");
    // Known by now, and much faster than ever.
    world.clock.advance(std::time::Duration::from_mins(61));
    let mut let_in = 0;
    let refused = loop {
        assert!(let_in < 10, "a surge is stopped");
        say(&mut here, &create).await;
        tokio::select! {
            told = said(&mut here) => break told,
            _ = said(&mut there) => let_in += 1,
        }
    };
    assert_eq!(refused["error"]["code"], "caller_suspended", "{refused}");
    assert!(!world.stopped.is_empty());
    // What its provider begins by itself is not heard any more.
    let usage = json!({"total_tokens": 12, "input_tokens": 9, "output_tokens": 3});
    say(
        &mut there,
        &json!({"type": "response.done", "response": {"id": "r", "object": "realtime.response", "usage": usage}}),
    )
    .await;
    assert_eq!(said(&mut here).await["type"], "response.done");
    assert_eq!(said(&mut here).await["error"]["code"], "caller_suspended");
    assert_eq!(closed(&mut here).await.unwrap().code, CloseCode::Policy);
    patiently("the end", running).await.unwrap();
    assert_eq!(world.record().error.as_deref(), Some("caller_suspended"));
}

#[tokio::test]
async fn what_the_answers_of_a_session_cost_is_seen_while_it_runs() {
    let provider = Provider::start().await;
    let rules = "[anomaly]\nsurge = \"suspend\"\nspend = \"0.02 USD\"\nfactor = 2\nlearn = \"1h\"\n\
        [[price]]\nprovider = \"o\"\nmodel = \"gpt-realtime\"\ninput = \"0 USD\"\noutput = \"1000 USD\"\ncontext = 1000\nmax_output = 1000\n\
        [[budget]]\nname = \"ample\"\nlimit = \"1000 USD\"\nwindow = \"total\"\n";
    let world = World::with_budgets(&format!("{rules}{}", provider.config(EVERYTHING))).await;
    let (mut here, mut there, running) = open(&world, &provider).await;
    let done = |tokens: u64| {
        let usage = json!({"total_tokens": tokens, "input_tokens": 0, "output_tokens": tokens});
        json!({"type": "response.done", "response": {"id": "r", "object": "realtime.response", "usage": usage}})
    };
    say(&mut there, &done(1)).await;
    assert_eq!(said(&mut here).await["type"], "response.done");
    world.clock.advance(std::time::Duration::from_mins(61));
    // Thirty times a tenth of a cent at once, by voice: nobody asks for the answer.
    say(&mut there, &done(30)).await;
    assert_eq!(said(&mut here).await["type"], "response.done");
    assert_eq!(said(&mut here).await["error"]["code"], "caller_suspended");
    assert_eq!(closed(&mut here).await.unwrap().code, CloseCode::Policy);
    patiently("the end", running).await.unwrap();
    assert_eq!(world.record().charge.cost, Some(31_000_000));
}

#[tokio::test]
async fn what_is_revoked_is_told_and_cut_and_so_is_a_session_when_the_server_stops() {
    let provider = Provider::start().await;
    let world = World::new(&provider.config(EVERYTHING));
    let (mut here, mut there, running) = open(&world, &provider).await;
    world.revoked.subject("alice");
    assert_eq!(said(&mut here).await["error"]["code"], "token_revoked");
    assert_eq!(closed(&mut here).await.map(|frame| frame.code), Some(CloseCode::Policy));
    assert_eq!(closed(&mut there).await.map(|frame| frame.code), Some(CloseCode::Normal));
    drop((here, there));
    patiently("the end", running).await.unwrap();
    assert_eq!(world.record().error.as_deref(), Some("token_revoked"));

    let world = World::new(&provider.config(EVERYTHING));
    let (mut here, _there, _running) = open(&world, &provider).await;
    world.drain.send(true).unwrap();
    assert_eq!(said(&mut here).await["error"]["code"], "draining");
    assert_eq!(closed(&mut here).await.map(|frame| frame.code), Some(CloseCode::Restart));
}

#[tokio::test]
async fn a_provider_that_goes_without_a_word_is_an_error_and_one_that_says_why_is_quoted() {
    let provider = Provider::start().await;
    let world = World::new(&provider.config(EVERYTHING));
    let (mut here, there, _running) = open(&world, &provider).await;
    drop(there);
    assert_eq!(said(&mut here).await["error"]["code"], "upstream_cut");
    assert_eq!(closed(&mut here).await.map(|frame| frame.code), Some(CloseCode::Error));

    let (mut here, mut there, running) = open(&world, &provider).await;
    let why = CloseFrame { code: CloseCode::Away, reason: Utf8Bytes::from_static("session expired") };
    there.close(Some(why.clone())).await.unwrap();
    assert_eq!(closed(&mut here).await, Some(why));
    drop((here, there));
    patiently("the end", running).await.unwrap();
    assert_eq!(world.record().error, None);
}

#[tokio::test]
async fn messages_of_another_kind_or_size_end_the_session() {
    let provider = Provider::start().await;
    let world = World::new(&format!("[limits]\nbody = \"1KiB\"\n{}", provider.config(EVERYTHING)));
    let (mut here, _there, _running) = open(&world, &provider).await;
    here.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(closed(&mut here).await.map(|frame| frame.code), Some(CloseCode::Unsupported));
    let (mut here, _there, running) = open(&world, &provider).await;
    here.send(Message::text("x".repeat(2000))).await.unwrap();
    assert_eq!(closed(&mut here).await.map(|frame| frame.code), Some(CloseCode::Size));
    patiently("the end", running).await.unwrap();
    assert_eq!(world.record().error.as_deref(), Some("body_too_large"));
}

#[tokio::test]
async fn a_request_that_asks_for_no_websocket_or_no_realtime_model_is_refused() {
    let provider = Provider::start().await;
    let world = World::new(&provider.config("may = { models = [\"voice\", \"vouchgate/echo\"] }"));
    let plain = world.get_as("alice", "/v1/realtime?model=voice").await;
    assert_eq!((plain.status.as_u16(), plain.code().as_str()), (426, "upgrade_required"));
    assert_eq!((plain.header("upgrade"), plain.header("sec-websocket-version")), ("websocket", "13"));
    for (path, status, code) in [
        ("/v1/realtime", 400, "invalid_request"),
        ("/v1/realtime?model=voice&call_id=1", 400, "invalid_request"),
        ("/v1/realtime?model=other", 403, "model_not_allowed"),
        ("/v1/realtime?model=vouchgate/echo", 400, "unsupported_parameter"),
    ] {
        let answer = read(world.raw(ask(&world, path, &[])).await).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{path}");
    }
    let mut nobody = ask(&world, "/v1/realtime?model=voice", &[]);
    nobody.headers_mut().remove("authorization");
    assert_eq!(read(world.raw(nobody).await).await.status.as_u16(), 401);
    // A browser's habit: a key among the subprotocols is no credential here.
    let mut browser = ask(&world, "/v1/realtime?model=voice", &[]);
    let token = browser.headers_mut().remove("authorization").unwrap();
    let offered =
        format!("realtime, openai-insecure-api-key.{}", token.to_str().unwrap().trim_start_matches("Bearer "));
    browser.headers_mut().insert("sec-websocket-protocol", offered.parse().unwrap());
    assert_eq!(read(world.raw(browser).await).await.status.as_u16(), 401);
}

#[tokio::test]
async fn a_provider_that_does_not_switch_properly_is_no_answer_and_its_error_is_passed_on() {
    use testkit::mock::{Answer, Mock};
    let config = |mock: &Mock| {
        format!(
            "[[provider]]\nname = \"o\"\nkind = \"openai\"\nbase_url = \"{}/v1\"\nallow_private = true\n\
             [[model]]\nname = \"voice\"\ntargets = [{{ provider = \"o\", model = \"m\" }}]\nretry = {{ attempts = 1 }}\n\
             [[policy]]\nname = \"all\"\n{EVERYTHING}\n",
            mock.url()
        )
    };
    for (status, expected) in [(404, 404), (200, 502), (429, 429)] {
        let mock =
            Mock::start_with(move |_| Answer::bytes(status, "application/json", "{\"error\":{\"message\":\"no\"}}"))
                .await;
        let world = World::new(&config(&mock));
        let answer = read(world.raw(ask(&world, "/v1/realtime?model=voice", &[])).await).await;
        assert_eq!(answer.status.as_u16(), expected, "{}", answer.text());
    }
}

#[tokio::test]
async fn azures_sessions_are_opened_with_the_deployment_in_either_form() {
    for (more, target) in [
        ("", "/openai/v1/realtime?model=gpt-realtime"),
        ("api_version = \"preview\"\ndeployment = \"prod\"", "/openai/v1/realtime?model=prod"),
        (
            "api_version = \"2025-04-01-preview\"",
            "/openai/realtime?api-version=2025-04-01-preview&deployment=gpt-realtime",
        ),
    ] {
        let provider = Provider::start().await;
        let azure = provider
            .config(EVERYTHING)
            .replace("kind = \"openai\"", &format!("kind = \"azure\"\n{more}"))
            .replace("/v1\"", "\"");
        let world = World::new(&azure);
        let (response, (asked, _there)) =
            tokio::join!(world.raw(ask(&world, "/v1/realtime?model=voice", &[])), provider.session());
        assert_eq!(response.status().as_u16(), 101, "{more}");
        assert_eq!(asked.uri().to_string(), target);
        assert_eq!(asked.headers().get("api-key").map(|key| key.to_str().unwrap()), Some(PROVIDER_KEY));
        assert!(asked.headers().get("authorization").is_none());
    }
}
