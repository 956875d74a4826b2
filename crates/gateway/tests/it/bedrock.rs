//! Amazon Bedrock behind every client and on its own paths: signed or with a key, and every recording of it.

use std::fmt::Write as _;

use aws_lc_rs::{digest, hmac};
use llm::event_stream_message;
use serde_json::{Value, json};
use testkit::mock::{Answer, Cassette, Mock, Received};

use crate::harness::{NOW, PROVIDER_KEY, World};
use crate::{compare, converse};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const PATH: &str = "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0";

fn config(mock: &Mock, key: &str) -> String {
    format!(
        "[[provider]]\nname = \"b\"\nkind = \"bedrock\"\nbase_url = \"{}\"\nallow_private = true\n{key}\n\
         [[model]]\nname = \"fast\"\ntargets = [{{ provider = \"b\", model = \"{CLAUDE}\" }}]\nretry = {{ attempts = 1 }}\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"], providers = [\"b\"], max_output_tokens = 900 }}\n",
        mock.url()
    )
}

const API_KEY: &str = "api_key = { env = \"K\" }";
const SIGNED: &str = "region = \"eu-central-1\"\naccess_key_id = \"AKIDEXAMPLE\"\nsecret_access_key = { env = \"K\" }\nsession_token = { env = \"T\" }";

fn ask() -> Value {
    json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}], "inferenceConfig": {"maxTokens": 50}})
}

fn chat(stream: bool) -> Value {
    json!({"model": "fast", "stream": stream, "max_tokens": 50, "messages": [{"role": "user", "content": "hi"}]})
}

fn answered() -> Value {
    json!({"metrics": {"latencyMs": 1}, "output": {"message": {"role": "assistant", "content": [{"text": "hello"}]}},
        "stopReason": "end_turn", "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 27, "cacheReadInputTokens": 20}})
}

fn event(name: &str, payload: &Value) -> Vec<u8> {
    let headers = [(":event-type", name), (":content-type", "application/json"), (":message-type", "event")];
    event_stream_message(&headers, payload.to_string().as_bytes())
}

fn said(text: &str) -> Vec<u8> {
    event("contentBlockDelta", &json!({"contentBlockIndex": 0, "delta": {"text": text}, "p": "abcd"}))
}

fn ended() -> Vec<u8> {
    let usage = json!({"usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7}, "metrics": {"latencyMs": 1}});
    [event("messageStop", &json!({"stopReason": "end_turn"})), event("metadata", &usage)].concat()
}

fn events(pieces: &[Vec<u8>]) -> Answer {
    Answer::bytes(200, "application/vnd.amazon.eventstream", pieces.concat()).pieces(7)
}

#[tokio::test]
async fn clients_of_every_dialect_reach_converse_with_the_key_and_nothing_of_the_callers() {
    let mock = Mock::start_with(|_| Answer::json(200, &answered())).await;
    let world = World::new(&config(&mock, API_KEY));
    let contents =
        json!({"contents": [{"role": "user", "parts": [{"text": "hi"}]}], "generationConfig": {"maxOutputTokens": 50}});
    let mut told = Vec::new();
    for (path, body) in [
        ("/v1/chat/completions", chat(false)),
        ("/v1/messages", chat(false)),
        ("/v1beta/models/fast:generateContent", contents),
    ] {
        let answer = world.post(path, &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        told.push(answer.json());
    }
    assert_eq!(told[0]["choices"][0]["message"]["content"], "hello");
    assert_eq!((&told[0]["model"], &told[1]["content"][0]["text"]), (&json!(CLAUDE), &json!("hello")));
    assert_eq!(told[2]["candidates"][0]["content"]["parts"][0]["text"], "hello");
    for at in 0..3 {
        let got = mock.request(at).await;
        assert_eq!((got.method.as_str(), got.target.as_str()), ("POST", format!("{PATH}/converse").as_str()));
        assert_eq!(got.json(), ask());
        assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
        assert!(!String::from_utf8_lossy(&got.head).contains(&world.token("alice")));
    }
    let record = world.record();
    assert_eq!((record.input_tokens, record.output_tokens), (Some(25), Some(2)));
}

#[tokio::test]
async fn a_stream_of_amazons_events_is_told_in_the_clients() {
    let mock = Mock::start_with(|_| events(&[said("hel"), said("lo"), ended()])).await;
    let world = World::new(&config(&mock, API_KEY));
    let streamed = world.post("/v1/chat/completions", &chat(true)).await;
    assert_eq!(streamed.header("content-type").split(';').next(), Some("text/event-stream"));
    let told = compare::openai_stream(&streamed.text());
    assert_eq!((told.text.as_str(), told.stop.as_str(), told.model.as_str()), ("hello", "end_turn", CLAUDE));
    let told = compare::anthropic_stream(&world.post("/v1/messages", &chat(true)).await.text());
    assert_eq!((told.text.as_str(), told.usage.input, told.usage.output), ("hello", 5, 2));
    let got = mock.request(0).await;
    assert_eq!(got.target, format!("{PATH}/converse-stream"));
    assert_eq!(got.header("accept"), Some("application/vnd.amazon.eventstream"));
    assert_eq!(world.record().output_tokens, Some(2));
}

/// Check a request's signature by the steps AWS documents, on what came in.
fn verify(got: &Received, secret: &[u8], region: &str) {
    let hex = |bytes: &[u8]| {
        bytes.iter().fold(String::new(), |mut out, byte| {
            write!(out, "{byte:02x}").unwrap();
            out
        })
    };
    let hash = |bytes: &[u8]| hex(digest::digest(&digest::SHA256, bytes).as_ref());
    let mac =
        |key: &[u8], text: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec();
    let shown = got.header("authorization").expect("signed");
    let rest = shown.strip_prefix("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/").expect("scheme");
    let (scope, rest) = rest.split_once(", SignedHeaders=").expect("scope");
    let (names, signature) = rest.split_once(", Signature=").expect("signature");
    let lines: Vec<String> =
        names.split(';').map(|name| format!("{name}:{}\n", got.header(name).expect(name))).collect();
    let lines = lines.concat();
    let (path, query) = got.target.split_once('?').unwrap_or((&got.target, ""));
    assert_eq!(query, "");
    let path = path.replace('%', "%25").replace(':', "%3A");
    let canonical = format!("{}\n{path}\n\n{lines}\n{names}\n{}", got.method, hash(&got.body));
    let time = got.header("x-amz-date").expect("a date");
    assert_eq!(scope, format!("{}/{region}/bedrock/aws4_request", &time[..8]));
    let text = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hash(canonical.as_bytes()));
    let key = scope.split('/').fold([b"AWS4", secret].concat(), |key, part| mac(&key, part));
    assert_eq!(signature, hex(&mac(&key, &text)));
}

#[tokio::test]
async fn requests_are_signed_as_they_are_sent_and_the_secret_is_not_among_them() {
    let mock = Mock::start_with(|_| Answer::json(200, &answered())).await;
    let world = World::new(&config(&mock, SIGNED));
    assert_eq!(world.post("/v1/chat/completions", &chat(false)).await.status, 200);
    assert_eq!(world.post(&format!("/providers/b{PATH}/converse"), &ask()).await.status, 200);
    let token = world.token("alice");
    let arn = "/model/arn%3Aaws%3Abedrock%3Aeu-central-1%3A000000000000%3Ainference-profile%2Feu.amazon.nova-lite-v1%3A0/converse";
    let headers = [
        ("authorization", format!("Bearer {token}")),
        ("x-amzn-bedrock-trace", "ENABLED".to_owned()),
        ("x-amz-date", "20000101T000000Z".to_owned()),
        ("x-amz-security-token", "mine".to_owned()),
    ];
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let answer = world.send("POST", &format!("/providers/b{arn}"), &headers, ask().to_string()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    for at in 0..3 {
        let got = mock.request(at).await;
        verify(&got, PROVIDER_KEY.as_bytes(), "eu-central-1");
        let head = String::from_utf8_lossy(&got.head).into_owned();
        assert!(!head.contains(&token) && !head.contains("mine"), "{head}");
        // The harness has one secret for everything: here it is the session's token, the only place where it is sent.
        assert_eq!((head.matches(PROVIDER_KEY).count(), got.header("x-amz-security-token")), (1, Some(PROVIDER_KEY)));
        assert_eq!(got.header("x-amz-date"), Some("20261118T110640Z"), "{NOW}");
    }
    assert_eq!(mock.request(2).await.target, arn);
    assert_eq!(mock.request(2).await.header("x-amzn-bedrock-trace"), Some("ENABLED"));
}

#[tokio::test]
async fn a_key_that_amazon_does_not_accept_is_the_operators_affair_and_an_access_denied_the_callers() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, SIGNED));
    let failed = |status, kind: &str| {
        let kind = format!("{kind}:http://internal.amazon.com/coral/com.amazon.coral.service/");
        Answer::json(status, &json!({"message": "No."})).header("x-amzn-errortype", &kind)
    };
    for path in ["/v1/chat/completions".to_owned(), format!("/providers/b{PATH}/converse")] {
        let body = if path.starts_with("/v1/") { chat(false) } else { ask() };
        for (status, kind) in
            [(403, "UnrecognizedClientException"), (403, "InvalidSignatureException"), (400, "ExpiredTokenException")]
        {
            mock.push(failed(status, kind));
            let answer = world.post(&path, &body).await;
            assert_eq!(answer.status, 502, "{kind}");
            assert!(
                answer.text().contains("provider_key_refused") && !answer.text().contains("No."),
                "{}",
                answer.text()
            );
        }
        mock.push(failed(403, "AccessDeniedException"));
        let answer = world.post(&path, &body).await;
        assert_eq!((answer.status.as_u16(), answer.text().contains("No.")), (403, true));
    }
    mock.push(failed(429, "ThrottlingException"));
    let answer = world.post("/v1/chat/completions", &chat(false)).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (429, "ThrottlingException"));
}

#[tokio::test]
async fn its_own_paths_pass_byte_for_byte_with_the_policys_bound_set_and_usage_seen() {
    let stream = [event("messageStart", &json!({"role": "assistant"})), said("hel"), said("lo"), ended()];
    let whole = stream.concat();
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, API_KEY));
    mock.push(events(&stream));
    let answer = world.post(&format!("/providers/b{PATH}/converse-stream"), &json!({"messages": []})).await;
    assert_eq!(
        (answer.body.as_ref(), answer.header("content-type")),
        (whole.as_slice(), "application/vnd.amazon.eventstream")
    );
    assert_eq!(mock.request(0).await.json(), json!({"messages": [], "inferenceConfig": {"maxTokens": 900}}));
    let record = world.record();
    assert_eq!((record.stream, record.input_tokens, record.output_tokens), (true, Some(5), Some(2)));
    assert_eq!(record.model.as_deref(), Some(CLAUDE));

    let body = "{ \"id\" : \"msg\", \"usage\":{\"input_tokens\":1} }";
    mock.push(
        Answer::bytes(200, "application/json", body)
            .header("x-amzn-bedrock-input-token-count", "4")
            .header("x-amzn-bedrock-cache-read-input-token-count", "10")
            .header("x-amzn-bedrock-output-token-count", "3")
            .header("x-amzn-requestid", "r1")
            .header("set-cookie", "a=b"),
    );
    let invoke = json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": []});
    let answer = world.post(&format!("/providers/b{PATH}/invoke"), &invoke).await;
    assert_eq!((answer.text().as_str(), answer.header("x-amzn-requestid")), (body, "r1"));
    assert_eq!((answer.header("x-amzn-bedrock-output-token-count"), answer.header("set-cookie")), ("3", ""));
    assert_eq!(mock.request(1).await.json(), invoke);
    let record = world.record();
    assert_eq!((record.input_tokens, record.output_tokens), (Some(14), Some(3)));
}

#[tokio::test]
async fn what_a_policy_says_of_models_tokens_and_tools_holds_on_its_own_paths() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"inputTokens": 3}))).await;
    let policy = "may = { models = [\"*\"], providers = [\"b\"], max_output_tokens = 900 }";
    let narrow = "may = { passthrough = [{ provider = \"b\", methods = [\"POST\"], paths = [\"/model/*/*\"], models = [\"amazon.nova-*\"] }], max_output_tokens = 900, tools = false }";
    let world = World::new(&config(&mock, API_KEY).replace(policy, narrow));
    let post = async |path: &str, body: Value| world.post(&format!("/providers/b{path}"), &body).await.status.as_u16();
    let nova = "/model/amazon.nova-lite-v1%3A0";
    assert_eq!(post(&format!("{nova}/converse"), ask()).await, 200);
    // The model is the path's, whatever the body names; a second name is asked for too.
    assert_eq!(post(&format!("{PATH}/converse"), ask()).await, 403);
    let mut renamed = ask();
    renamed["model"] = CLAUDE.into();
    assert_eq!(post(&format!("{nova}/converse"), renamed).await, 403);
    for (what, body) in [
        ("too many tokens", json!({"messages": [], "inferenceConfig": {"maxTokens": 901}})),
        ("in the model's own fields", json!({"messages": [], "additionalModelRequestFields": {"max_tokens": 901}})),
        ("a tool", json!({"messages": [], "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}})),
        (
            "one of the maker's",
            json!({"messages": [], "additionalModelRequestFields": {"tools": [{"name": "computer"}]}}),
        ),
    ] {
        assert_eq!(post(&format!("{nova}/converse"), body).await, 403, "{what}");
    }
    // A form nobody knows says neither; a known one does.
    assert_eq!(post(&format!("{nova}/invoke"), json!({"inputText": "x"})).await, 403);
    let known = json!({"schemaVersion": "messages-v1", "messages": [], "inferenceConfig": {"max_new_tokens": 5}});
    assert_eq!(post(&format!("{nova}/invoke"), known).await, 200);
    let counted =
        json!({"input": {"converse": {"messages": [], "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}}}});
    assert_eq!(post(&format!("{nova}/count-tokens"), counted.clone()).await, 200);
    assert_eq!(post(&format!("{PATH}/count-tokens"), counted).await, 403);
    assert_eq!(mock.count(), 3);
}

#[tokio::test]
async fn this_gateways_own_errors_are_amazons_and_a_bucket_is_nobodys() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, API_KEY));
    let path = format!("/providers/b{PATH}/converse");
    let answer = world.send("POST", &path, &[("content-type", "application/json")], "{}").await;
    assert_eq!((answer.status.as_u16(), &answer.json()["__type"]), (401, &json!("AccessDeniedException")));
    // AWS's SDKs sign for AWS, not for us.
    let signed = [(
        "authorization",
        "AWS4-HMAC-SHA256 Credential=AKID/20261118/eu-central-1/bedrock/aws4_request, SignedHeaders=host, Signature=00",
    )];
    assert_eq!(world.send("POST", &path, &signed, "{}").await.status, 401);
    let pictured = json!({"messages": [{"role": "user", "content": [{"image": {"format": "png", "source": {"s3Location": {"uri": "s3://b/a.png"}}}}]}]});
    let answer = world.post(&path, &pictured).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["__type"]), (404, &json!("ResourceNotFoundException")));
    for path in ["/providers/b/model/x%2F..%2Fy/converse", "/providers/b/model/arn%3Aaws%3Abedrock%2F..%2Fy/converse"] {
        assert_eq!(world.post(path, &ask()).await.status, 400, "{path}");
    }
    for path in
        ["/providers/b/async-invoke", "/providers/b/guardrail/g/version/1/apply", &format!("/providers/b{PATH}/other")]
    {
        assert_eq!(world.post(path, &ask()).await.status, 403, "{path}");
    }
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn what_breaks_off_or_fails_in_a_stream_is_an_exception_there_and_an_error_event_elsewhere() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, API_KEY));
    let path = format!("/providers/b{PATH}/converse-stream");
    mock.push(events(&[said("hel"), said("lo")]).cut_after(said("hel").len() + 9));
    let cut = world.post(&path, &ask()).await;
    let told = converse::messages(&cut.body);
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].0.as_str(), told[1].0.as_str()), ("contentBlockDelta", "internalServerException"));
    assert_eq!(told[1].1["code"], "upstream_cut");
    mock.push(events(&[said("hel")]));
    let chat_told = world.post("/v1/chat/completions", &chat(true)).await.text();
    assert!(chat_told.contains("upstream_cut") && !chat_told.contains("[DONE]"), "{chat_told}");
    let exception = event_stream_message(
        &[(":exception-type", "throttlingException"), (":message-type", "exception")],
        br#"{"message":"slow"}"#,
    );
    mock.push(events(&[said("hel"), exception.clone()]));
    let failed = world.post(&path, &ask()).await;
    assert_eq!(failed.body, [said("hel"), exception.clone()].concat());
    mock.push(events(&[said("hel"), exception]));
    let chat_told = world.post("/v1/chat/completions", &chat(true)).await.text();
    assert!(chat_told.contains("\"message\":\"slow\"") && chat_told.contains("ThrottlingException"), "{chat_told}");
    let mut bent = said("lo");
    bent[30] ^= 1;
    mock.push(events(&[said("hel"), bent]));
    let chat_told = world.post("/v1/chat/completions", &chat(true)).await.text();
    assert!(chat_told.contains("upstream_invalid_stream") && chat_told.contains("hel"), "{chat_told}");
}

#[tokio::test]
async fn its_surface_of_openais_dialects_is_asked_where_it_is() {
    let completion = json!({"id": "c", "model": "m", "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}});
    let mock = Mock::start_with(move |_| Answer::json(200, &completion)).await;
    let world = World::new(&config(&mock, SIGNED));
    let body =
        json!({"model": "openai.gpt-oss-20b-1:0", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    for prefix in ["/openai/v1", "/v1"] {
        let answer = world.post(&format!("/providers/b{prefix}/chat/completions"), &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(world.record().output_tokens, Some(4));
    }
    assert_eq!(mock.request(0).await.target, "/openai/v1/chat/completions");
    assert_eq!(mock.request(1).await.target, "/v1/chat/completions");
    verify(mock.request(0).await.as_ref(), PROVIDER_KEY.as_bytes(), "eu-central-1");
    let answer = world.post("/v1/embeddings", &json!({"model": "b/anthropic.claude-x", "input": "x"})).await;
    assert_eq!((answer.status.as_u16(), answer.code().as_str()), (400, "unsupported_parameter"));
}

#[tokio::test]
async fn its_surface_of_anthropics_dialect_is_anthropics_in_everything() {
    let told = json!({"id": "msg_1", "type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}],
        "model": "m", "stop_reason": "end_turn", "usage": {"input_tokens": 5, "output_tokens": 6}});
    let mock = Mock::start_with(move |_| Answer::json(200, &told)).await;
    let open =
        "passthrough = [{ provider = \"b\", methods = [\"POST\"], paths = [\"/anthropic/v1/messages\"] }], providers";
    let world = World::new(&config(&mock, API_KEY).replace("providers", open));
    let ask =
        json!({"model": "anthropic.claude-opus-4-7", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]});
    let answer = world.post("/providers/b/anthropic/v1/messages", &ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let got = mock.request(0).await;
    assert_eq!((got.target.as_str(), got.header("anthropic-version")), ("/anthropic/v1/messages", Some("2023-06-01")));
    assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    assert_eq!(world.record().output_tokens, Some(6));
    let mut much = ask;
    much["max_tokens"] = 901.into();
    let refused = world.post("/providers/b/anthropic/v1/messages", &much).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["type"]), (403, &json!("error")), "{}", refused.text());
}

/// Whether what was recorded is what AWS thinks of the key: that is not the caller's to see.
fn is_about_the_key(cassette: &Cassette) -> bool {
    let kinds = ["UnrecognizedClientException", "ExpiredTokenException"];
    cassette.response_headers.iter().any(|(_, value)| kinds.iter().any(|kind| value.starts_with(kind)))
}

/// What stands in for a recorded request that names what is stored at AWS, or for one that was not recorded.
fn plain(path: &str) -> Value {
    if path.contains("/converse") {
        ask()
    } else {
        json!({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": []})
    }
}

#[tokio::test]
async fn every_recording_of_bedrock_comes_out_as_it_was() {
    let Some(all) = Cassette::all() else {
        vectors::skipped("every_recording_of_bedrock");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, SIGNED).replace(", max_output_tokens = 900", ""));
    let token = format!("Bearer {}", world.token("alice"));
    let (mut exact, mut refused, mut replaced) = (0, 0, 0);
    for cassette in all.iter().filter(|cassette| cassette.provider == "bedrock") {
        let path = cassette.path.replace("{model}", "us.amazon.nova-lite-v1%3A0");
        let stored = String::from_utf8_lossy(&cassette.request_body).contains("s3Location");
        let recorded = (!stored && cassette.request_json().is_object()).then(|| cassette.request_body.clone());
        replaced += usize::from(recorded.is_none() && cassette.method == "POST");
        let body = recorded.unwrap_or_else(|| {
            if cassette.method == "GET" { Vec::new() } else { plain(&path).to_string().into_bytes() }
        });
        mock.push(Answer::cassette(cassette).pieces(997));
        let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
        let headers = if body.is_empty() { &headers[..1] } else { &headers[..] };
        let answer = world.send(&cassette.method, &format!("/providers/b{path}"), headers, body.clone()).await;
        let key = is_about_the_key(cassette);
        if key {
            assert_eq!(answer.status, 502, "{}", cassette.id);
            refused += 1;
            continue;
        }
        assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
        // One was written down in the middle of its answer: it ends in an exception.
        let (same, rest) = answer.body.split_at_checked(cassette.response_body.len()).unwrap_or((&answer.body, &[]));
        assert_eq!(same, cassette.response_body, "{}", cassette.id);
        assert!(rest.is_empty() || cassette.id == "22203cef6da8", "{}", cassette.id);
        exact += 1;
        let got = mock.request(mock.count() - 1).await;
        // As AWS's own clients write it, whichever way it was written.
        let path = path.replace(':', "%3A");
        assert_eq!((got.target.as_str(), got.body.as_ref()), (path.as_str(), body.as_slice()), "{}", cassette.id);
        verify(&got, PROVIDER_KEY.as_bytes(), "eu-central-1");
    }
    println!("bedrock: {exact} byte for byte, {refused} refused keys, {replaced} asked in the place of others");
    assert!(exact >= 104 && refused <= 2);
}

#[tokio::test]
async fn every_recording_of_converse_says_the_same_to_other_clients() {
    let Some(all) = Cassette::all() else {
        vectors::skipped("every_recording_of_converse");
        return;
    };
    let mock = Mock::start().await;
    let world = World::new(&config(&mock, API_KEY).replace(", max_output_tokens = 900", ""));
    let contents = json!({"contents": [{"role": "user", "parts": [{"text": "Go on."}]}]});
    let mut translated = 0;
    for cassette in all.iter().filter(|c| c.provider == "bedrock" && c.endpoint.starts_with("converse")) {
        let key = is_about_the_key(cassette);
        if key || cassette.id == "22203cef6da8" {
            continue;
        }
        let stream = cassette.endpoint == "converse-stream";
        let mut body = json!({"model": "b/us.x-v1:0", "max_tokens": 500, "stream": stream, "messages": [{"role": "user", "content": "Go on."}]});
        let method = if stream { "streamGenerateContent?alt=sse" } else { "generateContent" };
        for client in ["openai", "anthropic", "gemini"] {
            mock.push(Answer::cassette(cassette).pieces(41));
            if client == "openai" && stream {
                body["stream_options"] = json!({"include_usage": true});
            }
            let answer = match client {
                "openai" => world.post("/v1/chat/completions", &body).await,
                "anthropic" => {
                    body.as_object_mut().unwrap().remove("stream_options");
                    world.post("/v1/messages", &body).await
                }
                _ => world.post(&format!("/v1beta/models/b/us.x-v1:0:{method}"), &contents).await,
            };
            assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
            translated += 1;
            if cassette.status >= 400 {
                assert_eq!(answer.json()["error"]["message"], cassette.response_json()["message"], "{}", cassette.id);
                continue;
            }
            let lines = cassette.content_type.contains("jsonl");
            let mut expected = match (stream, lines) {
                (true, true) => converse::streamed(&converse::lines(&String::from_utf8_lossy(&cassette.response_body))),
                (true, false) => converse::streamed(&converse::messages(&cassette.response_body)),
                _ => converse::whole(&cassette.response_json()),
            };
            "us.x-v1:0".clone_into(&mut expected.model);
            let told = match (client, stream) {
                ("openai", true) => compare::openai_stream(&answer.text()),
                ("openai", false) => compare::openai(&answer.json()),
                ("anthropic", true) => compare::anthropic_stream(&answer.text()),
                ("anthropic", false) => compare::anthropic(&answer.json()),
                (_, true) => compare::gemini(&compare::payloads(&answer.text())),
                _ => compare::gemini(&[answer.json()]),
            };
            if client == "gemini" {
                // Google has no word for what was written into a cache.
                expected.usage.cache_write = 0;
            }
            expected.answers = told.answers;
            let difference = compare::difference(&expected, &told);
            assert_eq!(difference, None, "{} for {client}", cassette.id);
        }
    }
    println!("converse: {translated} translated");
    assert!(translated >= 216);
}
