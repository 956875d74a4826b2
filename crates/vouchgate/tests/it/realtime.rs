//! Realtime sessions through the running server: its listener gives the connection up, and keeps it counted.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use testkit::patiently;
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_async, client_async};

use crate::support::{self, APP, Gateway};

/// A provider that greets, and answers each `response.create` with a piece of text and its usage.
#[allow(clippy::disallowed_methods)]
async fn provider() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = accept_async(stream).await.unwrap();
                let say = |event: Value| Message::text(event.to_string());
                let created = json!({"type": "session.created", "event_id": "event_1", "session": {"id": "sess_1",
                    "type": "realtime", "object": "realtime.session", "model": "gpt-realtime"}});
                socket.send(say(created)).await.unwrap();
                while let Some(Ok(Message::Text(text))) = socket.next().await {
                    let event: Value = serde_json::from_str(&text).unwrap();
                    if event["type"] != "response.create" {
                        continue;
                    }
                    let delta = json!({"type": "response.output_text.delta", "event_id": "event_2", "response_id": "resp_1",
                        "item_id": "item_1", "output_index": 0, "content_index": 0, "delta": "Hello."});
                    let usage = json!({"total_tokens": 12, "input_tokens": 9, "output_tokens": 3});
                    let done = json!({"type": "response.done", "event_id": "event_3", "response": {"id": "resp_1",
                        "object": "realtime.response", "status": "completed", "output": [], "usage": usage}});
                    socket.send(say(delta)).await.unwrap();
                    socket.send(say(done)).await.unwrap();
                }
            });
        }
    });
    format!("http://{address}/v1")
}

async fn gateway() -> Gateway {
    let model = "[[model]]\nname = \"voice\"\ntargets = [{ provider = \"o\", model = \"gpt-realtime\" }]\n";
    let dir = tempfile::tempdir().unwrap();
    let key = support::secret_file(dir.path(), "key", "fake-provider-key-canary");
    Gateway::start(&format!("{APP}{}{model}", support::provider("o", "openai", &provider().await, &key))).await
}

async fn open(gateway: &Gateway) -> WebSocketStream<TcpStream> {
    let mut request = format!("ws://{}/v1/realtime?model=voice", gateway.public).into_client_request().unwrap();
    let bearer = format!("Bearer {}", gateway.token("app").await);
    request.headers_mut().insert("authorization", bearer.parse().unwrap());
    let stream = TcpStream::connect(gateway.public).await.unwrap();
    patiently("a session", client_async(request, stream)).await.unwrap().0
}

async fn said(socket: &mut WebSocketStream<TcpStream>) -> Value {
    match patiently("an event", socket.next()).await {
        Some(Ok(Message::Text(text))) => serde_json::from_str(&text).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_session_goes_through_the_server_and_frames_are_not_taken_for_requests() {
    let gateway = gateway().await;
    let mut socket = open(&gateway).await;
    assert_eq!(said(&mut socket).await["type"], "session.created");
    // Line feeds and what looks like a request: after the switch none of it is HTTP.
    let odd = json!({"type": "conversation.item.create", "item": "\n\nGET / HTTP/1.1\r\nTransfer-Encoding: x\n"});
    socket.send(Message::text(odd.to_string().replace("\\n", "\\n \n"))).await.unwrap();
    socket.send(Message::text(format!("{{\n\"type\":\n\"response.create\"\n}}{}", "\n".repeat(5000)))).await.unwrap();
    let mut kinds = Vec::new();
    while kinds.last().is_none_or(|kind| kind != "response.done") {
        kinds.push(said(&mut socket).await["type"].as_str().unwrap().to_owned());
    }
    assert_eq!(kinds.last().map(String::as_str), Some("response.done"));
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = patiently("the end", socket.next()).await {}
    gateway.stop().await;
}

#[tokio::test]
async fn open_sessions_are_told_when_the_server_stops() {
    let gateway = gateway().await;
    let mut socket = open(&gateway).await;
    assert_eq!(said(&mut socket).await["type"], "session.created");
    let ((), told) = tokio::join!(gateway.stop(), async {
        let event = said(&mut socket).await;
        let close = patiently("a goodbye", socket.next()).await;
        (event, close)
    });
    assert_eq!(told.0["error"]["code"], "draining");
    assert!(matches!(told.1, Some(Ok(Message::Close(Some(CloseFrame { .. }))))), "{:?}", told.1);
}

#[tokio::test]
async fn a_refusal_is_an_answer_as_any_other() {
    let gateway = gateway().await;
    let request = format!("ws://{}/v1/realtime?model=voice", gateway.public).into_client_request().unwrap();
    let stream = TcpStream::connect(gateway.public).await.unwrap();
    let Err(Error::Http(answer)) = patiently("an answer", client_async(request, stream)).await else {
        panic!("let in without a token")
    };
    assert_eq!(answer.status().as_u16(), 401);
    assert!(answer.headers().contains_key("www-authenticate"));
    gateway.stop().await;
}

#[tokio::test]
async fn the_official_sdk_speaks_and_is_answered() {
    let gateway = gateway().await;
    let job = json!({"url": gateway.url(""), "token": gateway.token("app").await, "model": "voice"});
    let test = "the_official_sdk_speaks_and_is_answered";
    let Some(told) = support::client("openai_realtime.py", test, &job).await else { return };
    assert_eq!(told, json!({"text": "Hello.", "usage": {"input": 9, "output": 3}, "refused": "invalid_request"}));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_the_real_program_ends_with_its_budget_and_what_it_took_is_in_the_books() {
    let dir = tempfile::tempdir().unwrap();
    let key = support::secret_file(dir.path(), "key", "fake-provider-key-canary");
    let prov = support::provider("o", "openai", &provider().await, &key);
    let model = "[[model]]\nname = \"voice\"\ntargets = [{ provider = \"o\", model = \"gpt-realtime\" }]\n\
        [[price]]\nprovider = \"o\"\nmodel = \"gpt-realtime\"\ninput = \"0 USD\"\noutput = \"1000 USD\"\ncontext = 100\nmax_output = 100\n\
        [[budget]]\nname = \"cap\"\nlimit = \"0.11 USD\"\nwindow = \"total\"\n";
    support::write_config(dir.path(), "", &format!("[limits]\npre_stop = \"0s\"\n{APP}{prov}{model}"));
    let mut program = support::Program::serve(dir.path(), &[]).await;
    let token = support::command(dir.path(), &["token", "mint", "--client", "app"], b"");
    let session = async || {
        let mut request = format!("ws://{}/v1/realtime?model=voice", program.public).into_client_request().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let stream = TcpStream::connect(program.public).await.unwrap();
        patiently("a session", client_async(request, stream)).await
    };
    let mut socket = session().await.unwrap().0;
    assert_eq!(said(&mut socket).await["type"], "session.created");
    // Each answer takes 0.003 of the 0.1 that are held for it: until what is left does not do for another.
    let mut answers = 0;
    let over = loop {
        assert!(answers < 10, "a session ends with its budget");
        socket.send(Message::text(json!({"type": "response.create"}).to_string())).await.unwrap();
        let over = loop {
            let event = said(&mut socket).await;
            match event["type"].as_str().unwrap() {
                "response.done" => break None,
                "error" => break Some(event),
                _ => {}
            }
        };
        match over {
            Some(over) => break over,
            None => answers += 1,
        }
    };
    assert_eq!((&over["error"]["code"], answers), (&json!("budget_exhausted"), 4), "{over}");
    let Err(Error::Http(refused)) = session().await else { panic!("let in without a budget") };
    assert_eq!(refused.status().as_u16(), 429);
    let told = support::command(dir.path(), &["budget", "show", "cap", "--json"], b"");
    assert!(told.contains("12000000") || told.contains("0.012"), "{told}");
    program.process.signal("TERM");
    assert!(program.process.ended().await.success(), "{}", program.process.output());
}
