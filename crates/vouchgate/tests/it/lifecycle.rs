//! Starting, reloading, stopping and dying: the real program, signals and all.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::mock::{Answer, Gate, Mock, Outcome};
use testkit::patiently;
use testkit::raw::{self, Connection};

use crate::support::{APP, Program, command, provider, run, secret_file, write_config};

const LIMITS: &str = "[limits]\npre_stop = \"500ms\"\ndrain_timeout = \"2s\"\n";

/// A directory with a configuration whose provider is `mock`.
fn installed(mock: &Mock, more: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), mock, more);
    dir
}

fn configure(dir: &Path, mock: &Mock, more: &str) {
    let key = secret_file(dir, "provider.key", "fake-provider-key");
    let base = format!("{}/v1", mock.url());
    let openai = provider("prov", "openai-compatible", &base, &key);
    let anthropic = provider("claude", "anthropic", &mock.url(), &key);
    write_config(dir, "external_url = \"https://ai.example.com\"", &format!("{LIMITS}{APP}{openai}{anthropic}{more}"));
}

fn chunk(text: &str) -> Value {
    json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
           "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": null}]})
}

/// A stream whose first event is sent at once, and whose rest waits at the gate.
fn held(gate: &Gate) -> Answer {
    let finish = json!({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m",
                        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let first = format!("data: {}\n\n", chunk("first"));
    Answer::openai_stream(&[chunk("first"), chunk("second"), finish]).stall_after(first.len(), gate)
}

fn ask(stream: bool) -> Value {
    json!({"model": "prov/m", "stream": stream, "messages": [{"role": "user", "content": "hello"}]})
}

/// Ask for a stream and read up to its first text.
async fn streaming(program: &Program, token: &str) -> (Connection, String) {
    let mut connection = Connection::open(program.public).await;
    let bearer = format!("Bearer {token}");
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    connection.request("POST", "/v1/chat/completions", &headers, ask(true).to_string().as_bytes()).await;
    let head = connection.head().await.unwrap();
    assert_eq!(head.status, 200, "{}", program.process.output());
    let mut text = String::new();
    while !text.contains("first") {
        text.push_str(&String::from_utf8_lossy(&connection.piece().await.unwrap().unwrap()));
    }
    (connection, text)
}

/// The rest of a stream, and whether it ended as its framing promises.
async fn rest(connection: &mut Connection) -> (String, bool) {
    let mut text = String::new();
    loop {
        match connection.piece().await {
            Ok(Some(piece)) => text.push_str(&String::from_utf8_lossy(&piece)),
            Ok(None) => return (text, true),
            Err(_) => return (text, false),
        }
    }
}

#[tokio::test]
async fn check_64_sigterm_finishes_a_running_stream_and_exits_with_0() {
    let mock = Mock::start().await;
    let dir = installed(&mock, "");
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    let gate = Gate::closed();
    mock.push(held(&gate));
    let (mut stream, _) = streaming(&program, &token).await;
    program.process.signal("TERM");
    program.process.line("draining").await;
    // At once `/readyz` says no, while connections are still accepted and `/livez` says yes.
    let mut said = Vec::new();
    while said.last() != Some(&503) {
        said.push(raw::request(program.public, "GET", "/readyz", &[], b"").await.status());
        assert!(said.len() < 100, "{said:?}");
    }
    assert_eq!(raw::request(program.public, "GET", "/livez", &[], b"").await.status(), 200);
    gate.open();
    let (text, complete) = rest(&mut stream).await;
    assert!(complete && text.contains("second") && text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert_eq!(program.process.ended().await.code(), Some(0), "{}", program.process.output());
    assert!(!dir.path().join("data/admin.sock").exists(), "the socket is gone");
}

#[tokio::test]
async fn check_64_an_interrupt_finishes_what_runs_and_takes_nothing_new() {
    let mock = Mock::start().await;
    let dir = installed(&mock, "");
    // Whoever pressed Ctrl-C would wait for an hour.
    let file = dir.path().join("vouchgate.toml");
    let patient = std::fs::read_to_string(&file).unwrap().replace("pre_stop = \"500ms\"", "pre_stop = \"1h\"");
    assert!(patient.contains("pre_stop = \"1h\""), "{patient}");
    std::fs::write(&file, patient.replace("drain_timeout = \"2s\"", "drain_timeout = \"60s\"")).unwrap();
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    let gate = Gate::closed();
    mock.push(held(&gate));
    let (mut stream, _) = streaming(&program, &token).await;
    program.process.signal("INT");
    program.process.line("draining").await;
    let turned_away = async { while tokio::net::TcpStream::connect(program.public).await.is_ok() {} };
    patiently("the listener to close", turned_away).await;
    gate.open();
    let (text, complete) = rest(&mut stream).await;
    assert!(complete && text.trim_end().ends_with("data: [DONE]"), "{text}");
    assert_eq!(program.process.ended().await.code(), Some(0), "{}", program.process.output());
}

#[tokio::test]
async fn without_a_master_key_a_start_says_which_command_makes_one_and_that_command_does() {
    let mock = Mock::start().await;
    let dir = installed(&mock, "");
    let (exit, _, said) = run(&["serve", "--config", "vouchgate.toml"], dir.path(), b"");
    assert_eq!(exit, 1, "{said}");
    let told = said.lines().find_map(|line| line.trim().strip_prefix("vouchgate ")).expect(&said).to_owned();
    assert_eq!(told, "key list --config vouchgate.toml");
    let (exit, _, said) = run(&told.split(' ').collect::<Vec<_>>(), dir.path(), b"");
    assert_eq!(exit, 0, "{said}");
    let mut program = Program::serve(dir.path(), &[]).await;
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
    // One that is missing later is not made anew.
    std::fs::rename(dir.path().join("data/master.key"), dir.path().join("kept")).unwrap();
    let (exit, _, said) = run(&told.split(' ').collect::<Vec<_>>(), dir.path(), b"");
    assert_ne!(exit, 0, "{said}");
    assert!(said.contains("restore the one"), "{said}");
}

#[tokio::test]
async fn check_64_what_outlives_the_drain_timeout_ends_with_an_error_event() {
    let mock = Mock::start().await;
    let dir = installed(&mock, "");
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    mock.push(held(&Gate::closed()));
    let (mut stream, _) = streaming(&program, &token).await;
    program.process.signal("TERM");
    let (text, _) = rest(&mut stream).await;
    assert!(text.contains("\"error\"") && !text.contains("[DONE]"), "an error, not a clean end: {text:?}");
    assert_eq!(program.process.ended().await.code(), Some(0), "{}", program.process.output());
    assert_eq!(mock.request(0).await.settled().await, Outcome::Dropped);
}

#[tokio::test]
async fn check_66_sighup_puts_a_new_snapshot_in_force_and_what_runs_keeps_the_old_one() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let dir = installed(&mock, "");
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    let gate = Gate::closed();
    mock.push(held(&gate));
    let (mut stream, _) = streaming(&program, &token).await;
    // The new configuration has no policy for this caller.
    let before = std::fs::read_to_string(dir.path().join("vouchgate.toml")).unwrap();
    std::fs::write(dir.path().join("vouchgate.toml"), before.replace("models = [\"*\"]", "models = [\"prov/other\"]"))
        .unwrap();
    program.process.signal("HUP");
    program.process.line("generation=2").await;
    let refused = program.post("/v1/chat/completions", &token, &ask(false)).await;
    assert_eq!(refused.status(), 403, "{}", program.process.output());
    gate.open();
    let (text, complete) = rest(&mut stream).await;
    assert!(complete && text.contains("second") && text.contains("[DONE]"), "{text}");
    // A file with a fault changes nothing and says where.
    std::fs::write(dir.path().join("vouchgate.toml"), before.replace("[[policy]]", "[[polizy]]")).unwrap();
    program.process.signal("HUP");
    let said = program.process.line("not reloaded").await;
    assert!(said.contains("ERROR") && said.contains("polizy"), "{said}");
    assert_eq!(program.post("/v1/chat/completions", &token, &ask(false)).await.status(), 403, "the last good one");
    // Back in order.
    std::fs::write(dir.path().join("vouchgate.toml"), &before).unwrap();
    program.process.signal("HUP");
    program.process.line("generation=3").await;
    assert_eq!(program.post("/v1/chat/completions", &token, &ask(false)).await.status(), 200);
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn a_second_program_on_the_same_data_directory_is_refused_with_a_sentence() {
    let mock = Mock::start().await;
    let dir = installed(&mock, "");
    let mut first = Program::serve(dir.path(), &[]).await;
    let (exit, _, said) = run(&["serve", "--config", "vouchgate.toml"], dir.path(), b"");
    assert_ne!(exit, 0);
    assert!(said.contains("data") && (said.contains("another") || said.contains("in use")), "{said}");
    assert_eq!(raw::request(first.public, "GET", "/livez", &[], b"").await.status(), 200, "the first is unharmed");
    assert!(dir.path().join("data/admin.sock").exists());
    first.process.signal("TERM");
    assert!(first.process.ended().await.success());
}

#[tokio::test]
async fn after_kill_9_everything_acknowledged_is_still_there() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let key_policy = "\n[[policy]]\nname = \"keys\"\nwho = { key = \"laptop\" }\nmay = { models = [\"*\"] }\n\n[[provider]]\nname = \"sealed\"\nkind = \"openai-compatible\"\n";
    let sealed = format!(
        "{key_policy}base_url = \"{}/v1\"\nallow_private = true\napi_key = {{ secret = \"sealed-key\" }}\n",
        mock.url()
    );
    let dir = installed(&mock, &sealed);
    let at = dir.path();
    command(at, &["secret", "set", "sealed-key"], b"fake-sealed-key");
    let mut program = Program::serve(at, &[]).await;
    let secret = command(at, &["client", "create", "made", "--scope", "chat"], b"");
    let token = command(at, &["token", "mint", "--client", "app"], b"");
    let key = command(at, &["apikey", "create", "laptop"], b"");
    assert_eq!(program.post("/v1/chat/completions", &key, &ask(false)).await.status(), 200);
    program.process.signal("KILL");
    program.process.ended().await;

    let mut program = Program::serve(at, &[]).await;
    assert_eq!(program.post("/v1/chat/completions", &token, &ask(false)).await.status(), 200, "the token verifies");
    assert_eq!(program.post("/v1/chat/completions", &key, &ask(false)).await.status(), 200, "the key is known");
    let form = format!("grant_type=client_credentials&client_id=made&client_secret={secret}");
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    let answer = raw::request(program.public, "POST", "/oauth/token", &kind, form.as_bytes()).await;
    assert_eq!(answer.status(), 200, "the client is known: {}", answer.text());
    let through_vault = json!({"model": "sealed/m", "messages": [{"role": "user", "content": "hello"}]});
    assert_eq!(program.post("/v1/chat/completions", &token, &through_vault).await.status(), 200);
    let sent = mock.requests().last().unwrap().clone();
    assert_eq!(sent.header("authorization"), Some("Bearer fake-sealed-key"), "the secret opens");
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn a_client_that_leaves_cancels_the_provider_s_work_within_a_second() {
    let mock = Mock::start().await;
    let dir = installed(&mock, "");
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    // In the middle of a stream, and while nothing has come yet.
    mock.push(held(&Gate::closed()));
    let (stream, _) = streaming(&program, &token).await;
    let sent = mock.request(0).await;
    drop(stream);
    let gone = tokio::time::timeout(Duration::from_secs(1), sent.settled()).await;
    assert_eq!(gone.expect("cancelled within a second"), Outcome::Dropped);
    for stream in [true, false] {
        mock.push(held(&Gate::closed()).hold_head(&Gate::closed()));
        let before = mock.count();
        let mut connection = Connection::open(program.public).await;
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
        connection.request("POST", "/v1/chat/completions", &headers, ask(stream).to_string().as_bytes()).await;
        let sent = mock.request(before).await;
        drop(connection);
        let gone = tokio::time::timeout(Duration::from_secs(1), sent.settled()).await;
        assert_eq!(gone.expect("cancelled within a second"), Outcome::Dropped, "stream: {stream}");
    }
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
}

#[tokio::test]
async fn a_provider_cut_off_mid_stream_is_an_error_event_in_the_caller_s_dialect() {
    let mock = Mock::start().await;
    let dir = installed(&mock, "");
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    let first = format!("data: {}\n\n", chunk("first")).len();
    let start = json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "c", "content": [], "stop_reason": null, "usage": {"input_tokens": 1, "output_tokens": 1}}});
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let delta = json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "first"}});
    let events = [start, block, delta];
    let whole: usize =
        events.iter().map(|event| format!("event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()).len()).sum();
    for (path, model, anthropic_provider) in [
        ("/v1/chat/completions", "prov/m", false),
        ("/v1/chat/completions", "claude/m", true),
        ("/v1/messages", "prov/m", false),
        ("/v1/messages", "claude/m", true),
    ] {
        for cut in [0, 7] {
            mock.push(if anthropic_provider {
                Answer::anthropic_stream(&events).cut_after(whole - cut)
            } else {
                Answer::openai_stream(&[chunk("first"), chunk("second")]).cut_after(first + cut)
            });
            let body = json!({"model": model, "stream": true, "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]});
            let answer = program.post(path, &token, &body).await;
            let text = answer.text();
            assert_eq!(answer.status(), 200, "{text}");
            let last = text.trim_end().rsplit("\n\n").next().unwrap().to_owned();
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{path} {model}: {text}");
            if path == "/v1/messages" {
                assert!(last.starts_with("event: error\n") && last.contains("\"type\":\"error\""), "{model}: {text}");
            } else {
                assert!(last.starts_with("data: {\"error\":"), "{model}: {text}");
            }
        }
    }
    program.process.signal("TERM");
    patiently("the end", program.process.ended()).await;
}
