//! The endpoints of one form: completions, moderations, images, speech and transcription.

use http::StatusCode;
use serde_json::{Value, json};
use testkit::mock::{Answer, Cassette, Mock};

use crate::harness::{self, PROVIDER_KEY, World};

fn config(mock: &Mock) -> String {
    let provider = |name: &str, kind: &str, base: &str| {
        format!(
            "[[provider]]\nname = \"{name}\"\nkind = \"{kind}\"\nbase_url = \"{}{base}\"\nallow_private = true\n\
             api_key = {{ env = \"K\" }}\n",
            mock.url()
        )
    };
    format!(
        "[limits]\nbody = \"64KiB\"\nupload = \"256KiB\"\nresponse_body = \"64KiB\"\n{}{}{}{}\
         [[model]]\nname = \"any\"\ntargets = [{{ provider = \"a\", model = \"claude\" }}, {{ provider = \"o\", model = \"one\" }}]\n\
         [[model]]\nname = \"omni-moderation-latest\"\ntargets = [{{ provider = \"o\", model = \"omni-moderation-latest\" }}]\n\
         [[policy]]\nname = \"small\"\nwho = {{ scope = [\"small\"] }}\nmay = {{ models = [\"o/*\"], max_output_tokens = 60 }}\n\
         [[policy]]\nname = \"all\"\nwho = {{ scope = [\"chat\"] }}\nmay = {{ models = [\"any\", \"o/*\", \"m/*\", \"g/*\", \"a/*\", \"omni-*\", \"vouchgate/*\"] }}\n",
        provider("o", "openai-compatible", "/v1"),
        provider("m", "mistral", "/v1"),
        provider("g", "gemini", "/v1beta"),
        provider("a", "anthropic", ""),
    )
}

const BOUNDARY: &str = "form-0f8";

fn form(fields: &[(&str, &str)]) -> String {
    let part = |(name, text): &(&str, &str)| {
        let header = if *name == "file" || name.starts_with("image") {
            format!("form-data; name=\"{name}\"; filename=\"a.bin\"\r\nContent-Type: application/octet-stream")
        } else {
            format!("form-data; name=\"{name}\"")
        };
        format!("--{BOUNDARY}\r\nContent-Disposition: {header}\r\n\r\n{text}\r\n")
    };
    fields.iter().map(part).collect::<String>() + &format!("--{BOUNDARY}--\r\n")
}

async fn send_form(world: &World, path: &str, body: String) -> harness::Answer {
    let token = format!("Bearer {}", world.token("alice"));
    let kind = format!("multipart/form-data; boundary={BOUNDARY}");
    world.send("POST", path, &[("authorization", &token), ("content-type", &kind)], body).await
}

#[tokio::test]
async fn a_json_request_goes_to_the_same_endpoint_with_only_model_and_key_changed() {
    let mock =
        Mock::start_with(|_| Answer::json(200, &json!({"usage": {"prompt_tokens": 3, "completion_tokens": 2}}))).await;
    let world = World::new(&config(&mock));
    let token = format!("Bearer {}", world.token("alice"));
    let headers = [("authorization", token.as_str()), ("content-type", "application/json")];
    let sent =
        |model: &str| format!("{{ \"x_unknown\":1.0, \"model\" :\"{model}\",\"prompt\": \"h\\u00e9\" ,\"input\":[] }}");
    let paths =
        ["completions", "moderations", "images/generations", "images/edits", "images/variations", "audio/speech"];
    for (at, path) in paths.into_iter().enumerate() {
        let answer = world.send("POST", &format!("/v1/{path}"), &headers, sent("o/some/model")).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        let got = mock.request(at).await;
        assert_eq!(got.target, format!("/v1/{path}"));
        assert_eq!(String::from_utf8_lossy(&got.body), sent("some/model"), "{path}");
        assert_eq!(got.header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
        let record = world.record();
        assert_eq!((record.input_tokens, record.output_tokens), (Some(3), Some(2)), "{path}");
    }
    let answer = world.send("POST", "/v1/images/generations", &headers, sent("g/imagen")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(mock.request(paths.len()).await.target, "/v1beta/openai/images/generations");
}

#[tokio::test]
async fn a_form_goes_on_with_only_the_models_name_changed() {
    let mock =
        Mock::start_with(|_| Answer::json(200, &json!({"text": "a", "usage": {"type": "duration", "seconds": 6}})))
            .await;
    let world = World::new(&config(&mock));
    let audio = "R\0\u{1}IFF--form-0f\r\n--".repeat(8000);
    for (at, path) in ["audio/transcriptions", "audio/translations", "images/edits"].into_iter().enumerate() {
        let body = |model| form(&[("file", &audio), ("model", model), ("temperature", "0.50")]);
        let answer = send_form(&world, &format!("/v1/{path}"), body("o/whisper-1")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        let got = mock.request(at).await;
        assert_eq!(got.target, format!("/v1/{path}"));
        assert!(got.body == body("whisper-1").into_bytes(), "{path}");
        assert_eq!(got.header("content-type"), Some(format!("multipart/form-data; boundary={BOUNDARY}").as_str()));
    }
    let larger = form(&[("file", &"x".repeat(300_000)), ("model", "o/whisper-1")]);
    let answer = send_form(&world, "/v1/audio/transcriptions", larger).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"));
    let json = json!({"model": "o/m", "input": "x".repeat(100_000)});
    let answer = world.post("/v1/audio/speech", &json).await;
    assert_eq!(answer.code(), "body_too_large", "only files may be larger");
}

#[tokio::test]
async fn a_model_left_out_is_the_documented_one_and_must_be_allowed() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"results": []}))).await;
    let world = World::new(&config(&mock));
    let answer = world.post("/v1/moderations", &json!({"input": "hello"})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(mock.request(0).await.json(), json!({"model": "omni-moderation-latest", "input": "hello"}));
    let answer = world.post("/v1/moderations", &json!({})).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(mock.request(1).await.json(), json!({"model": "omni-moderation-latest"}));
    let answer = world.post("/v1/images/generations", &json!({"prompt": "a cat"})).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::FORBIDDEN, "model_not_allowed"));
    let answer = send_form(&world, "/v1/audio/transcriptions", form(&[("file", "RIFF")])).await;
    assert_eq!((answer.status, answer.code().as_str()), (StatusCode::BAD_REQUEST, "missing_parameter"));
}

#[tokio::test]
async fn a_target_without_the_endpoint_is_passed_over() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"choices": []}))).await;
    let world = World::new(&config(&mock));
    let answer = world.post("/v1/completions", &json!({"model": "any", "prompt": "a"})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(mock.request(0).await.json()["model"], "one");
    for (path, model) in
        [("completions", "a/claude"), ("completions", "m/large"), ("moderations", "g/m"), ("images/edits", "m/m")]
    {
        let answer = world.post(&format!("/v1/{path}"), &json!({"model": model, "prompt": "a"})).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (StatusCode::BAD_REQUEST, "unsupported_parameter"),
            "{path} {model}"
        );
    }
    assert_eq!(mock.count(), 1);
}

#[tokio::test]
async fn a_bound_of_the_policy_holds_for_all_completions_together() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"choices": []}))).await;
    let world = World::new(&config(&mock));
    let token = format!("Bearer {}", world.token_with(&json!({"scope": "small"})));
    let headers = [("authorization", token.as_str())];
    let send = |body: Value| world.send("POST", "/v1/completions", &headers, body.to_string());
    let answer = send(json!({"model": "o/m", "prompt": ["a", "b", "c"], "n": 2})).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    assert_eq!(mock.request(0).await.json()["max_tokens"], 10);
    for beyond in [
        json!({"max_tokens": 61}),
        json!({"max_tokens": 20, "best_of": 4}),
        json!({"max_tokens": 31, "prompt": ["a", "b"]}),
    ] {
        let mut body = json!({"model": "o/m", "prompt": "a"});
        beyond.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
        let answer = send(body).await;
        assert_eq!(answer.code(), "max_output_tokens_exceeded", "{beyond}");
    }
}

#[tokio::test]
async fn a_form_that_could_be_read_in_two_ways_or_names_a_stored_file_goes_nowhere() {
    let mock = Mock::start_with(|_| Answer::json(200, &json!({"text": "a"}))).await;
    let world = World::new(&config(&mock));
    let fine = form(&[("file", "RIFF"), ("model", "o/m")]);
    for (body, status, code) in [
        (form(&[("model", "o/m"), ("model", "o/other")]), 400, "forbidden_parameter"),
        (form(&[("model", "o/m"), ("Model", "o/other")]), 400, "forbidden_parameter"),
        (form(&[("model", "o/m"), ("model[]", "o/other")]), 400, "forbidden_parameter"),
        (form(&[("model", "o/m"), ("base_url", "http://evil.example")]), 400, "forbidden_parameter"),
        (form(&[("model", "secret/m"), ("file", "x")]), 403, "model_not_allowed"),
        (form(&[("model", "o/m"), ("file_id", "file-1")]), 404, "object_not_found"),
        (format!("x{fine}"), 400, "invalid_form"),
        (fine.replace("\r\n", "\n"), 400, "invalid_form"),
        (
            fine.replace("RIFF", &format!("R\n--{BOUNDARY}\nContent-Disposition: form-data; name=\"model\"\n\nx")),
            400,
            "invalid_form",
        ),
        (String::new(), 400, "invalid_form"),
    ] {
        let answer = send_form(&world, "/v1/audio/transcriptions", body.clone()).await;
        assert_eq!((answer.status.as_u16(), answer.code().as_str()), (status, code), "{body}");
    }
    let edit = json!({"model": "o/m", "prompt": "a", "images": [{"file_id": "file-1"}]});
    assert_eq!(world.post("/v1/images/edits", &edit).await.code(), "object_not_found");
    let token = format!("Bearer {}", world.token("alice"));
    for (path, kind) in
        [("audio/transcriptions", "text/plain"), ("audio/speech", "multipart/form-data; boundary=form-0f8")]
    {
        let headers = [("authorization", token.as_str()), ("content-type", kind)];
        let answer = world.send("POST", &format!("/v1/{path}"), &headers, fine.clone()).await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE, "{path}");
    }
    assert_eq!(mock.count(), 0);
}

#[tokio::test]
async fn sound_passes_as_it_comes_and_breaks_where_it_broke() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let sound: Vec<u8> = (0..200_000u32).map(|n| u8::try_from(n * 7 % 251).unwrap()).collect();
    let ask = json!({"model": "o/tts", "input": "hi", "voice": "alloy"});
    mock.push(Answer::bytes(200, "audio/mpeg", sound.clone()));
    let answer = world.post("/v1/audio/speech", &ask).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "audio/mpeg"));
    assert!(answer.body == sound && !answer.broken);
    mock.push(Answer::bytes(200, "audio/mpeg", sound).pieces(1000).cut_after(150_000));
    let cut = world.post("/v1/audio/speech", &ask).await;
    assert!(cut.broken, "nobody takes half of it for all of it");
    assert_eq!(world.record().error.as_deref(), Some("body_cut"));
    mock.push(Answer::bytes(200, "text/html; charset=utf-8", "<html>Sign in"));
    let page = world.post("/v1/audio/speech", &ask).await;
    assert_eq!((page.status, page.code().as_str()), (StatusCode::BAD_GATEWAY, "upstream_invalid_stream"));
    mock.push(Answer::bytes(200, "text/plain", "WEBVTT"));
    let text = send_form(&world, "/v1/audio/transcriptions", form(&[("file", "R"), ("model", "o/m")])).await;
    assert_eq!((text.text().as_str(), text.header("content-type")), ("WEBVTT", "text/plain"));
    mock.push(Answer::bytes(200, "text/plain", "flagged"));
    assert_eq!(world.post("/v1/moderations", &json!({"model": "o/m"})).await.code(), "upstream_invalid_stream");
}

#[tokio::test]
async fn pictures_larger_than_what_is_held_pass_and_are_counted() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let ask = json!({"model": "o/gpt-image-1", "prompt": "a cat"});
    let body = json!({"created": 1, "data": [{"b64_json": "iVBO".repeat(50_000)}, {"b64_json": "R0lG".repeat(50_000)}],
        "usage": {"input_tokens": 14, "output_tokens": 272, "total_tokens": 286}});
    mock.push(Answer::json(200, &body).pieces(4099));
    let answer = world.post("/v1/images/generations", &ask).await;
    assert!(answer.body == body.to_string().into_bytes() && !answer.broken);
    assert_eq!((world.record().input_tokens, world.record().output_tokens), (Some(14), Some(272)));
    mock.push(Answer::json(200, &body).pieces(4099).cut_after(300_000));
    assert!(world.post("/v1/images/generations", &ask).await.broken);
    let key = json!({"error": {"message": format!("bad key {PROVIDER_KEY}")}});
    mock.push(Answer::json(400, &key));
    let answer = world.post("/v1/images/generations", &ask).await;
    assert_eq!(answer.code(), "provider_key_refused");
    assert!(!answer.text().contains(PROVIDER_KEY));
}

#[tokio::test]
async fn streams_end_in_an_error_unless_they_are_complete() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let event = |kind: &str, usage: bool| {
        let usage = if usage { r#","usage":{"input_tokens":5,"output_tokens":7,"total_tokens":12}"# } else { "" };
        format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{usage}}}\n\n")
    };
    for (path, body, delta, done) in [
        (
            "audio/speech",
            json!({"model": "o/m", "input": "a", "stream_format": "sse"}),
            "speech.audio.delta",
            "speech.audio.done",
        ),
        (
            "images/generations",
            json!({"model": "o/m", "prompt": "a", "stream": true}),
            "image_generation.partial_image",
            "image_generation.completed",
        ),
        (
            "images/edits",
            json!({"model": "o/m", "prompt": "a", "stream": true}),
            "image_edit.partial_image",
            "image_edit.completed",
        ),
        (
            "audio/transcriptions",
            json!({"model": "o/m", "stream": true}),
            "transcript.text.delta",
            "transcript.text.done",
        ),
    ] {
        let whole = event(delta, false) + &event(done, true);
        mock.push(Answer::sse(whole.clone()).pieces(13));
        let answer = world.post(&format!("/v1/{path}"), &body).await;
        assert_eq!(answer.text(), whole, "{path}");
        let record = world.record();
        assert_eq!((record.input_tokens, record.output_tokens, record.stream), (Some(5), Some(7), true), "{path}");
        mock.push(Answer::sse(event(delta, false)).pieces(13));
        let cut = world.post(&format!("/v1/{path}"), &body).await.text();
        assert!(cut.starts_with(&event(delta, false)) && cut.contains("upstream_cut"), "{path}: {cut}");
    }
    let chunk = json!({"choices": [{"index": 0, "text": "a", "finish_reason": null}]});
    mock.push(Answer::sse(format!("data: {chunk}\n\n")));
    let cut = world.post("/v1/completions", &json!({"model": "o/m", "prompt": "a", "stream": true})).await.text();
    assert!(cut.contains("upstream_cut") && !cut.contains("[DONE]"), "{cut}");
}

#[tokio::test]
async fn usage_is_asked_for_in_streamed_completions_and_taken_out_where_nobody_asked() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let events = [
        json!({"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}),
        json!({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 1}}),
    ];
    mock.push(Answer::openai_stream(&events));
    let ask = json!({"model": "o/m", "prompt": "a", "stream": true});
    let answer = world.post("/v1/completions", &ask).await.text();
    assert_eq!(answer, format!("data: {}\n\ndata: [DONE]\n\n", events[0]));
    assert_eq!(mock.request(0).await.json()["stream_options"]["include_usage"], true);
    assert_eq!(world.record().input_tokens, Some(3));
}

#[tokio::test]
async fn the_built_in_model_completes_and_does_nothing_else() {
    let mock = Mock::start().await;
    let world = World::new(&config(&mock));
    let ask = json!({"model": "vouchgate/echo", "prompt": "Hello there"});
    let whole = world.post("/v1/completions", &ask).await.json();
    assert_eq!((&whole["choices"][0]["text"], &whole["object"]), (&json!("Hello there"), &json!("text_completion")));
    let mut streamed = ask.clone();
    streamed["stream"] = true.into();
    let streamed = world.post("/v1/completions", &streamed).await.text();
    assert!(streamed.ends_with("data: [DONE]\n\n"), "{streamed}");
    for path in ["moderations", "images/generations", "audio/speech"] {
        let answer = world.post(&format!("/v1/{path}"), &ask).await;
        assert_eq!((answer.status, answer.code().as_str()), (StatusCode::NOT_FOUND, "model_not_found"), "{path}");
    }
}

/// The request of a recording, for the provider `o`; and with which type.
fn request(cassette: &Cassette) -> (Vec<u8>, String) {
    let kind = cassette.request_type.as_deref().unwrap_or_default();
    if kind.starts_with("multipart/") && !cassette.request_body.is_empty() {
        let marked = b"name=\"model\"\r\n\r\n".as_slice();
        let at = cassette.request_body.windows(marked.len()).position(|window| window == marked).expect("a model");
        let (before, after) = cassette.request_body.split_at(at + marked.len());
        return ([before, b"o/", after].concat(), kind.to_owned());
    }
    if cassette.endpoint.starts_with("audio.tran") && cassette.request_body.is_empty() {
        let body = form(&[("file", "RIFF"), ("model", "o/whisper-1")]);
        return (body.into_bytes(), format!("multipart/form-data; boundary={BOUNDARY}"));
    }
    let mut body = cassette.request_json();
    if !body.is_object() {
        body = json!({"prompt": "a", "stream": cassette.is_stream, "stream_options": {"include_usage": true}});
    }
    body["model"] = format!("o/{}", body["model"].as_str().unwrap_or("m")).into();
    (body.to_string().into_bytes(), "application/json".to_owned())
}

#[tokio::test]
async fn every_recording_of_these_endpoints_comes_out_as_it_was() {
    let Some(all) = Cassette::all() else {
        vectors::skipped("every_recording_of_these_endpoints_comes_out_as_it_was");
        return;
    };
    let mock = Mock::start().await;
    let config = config(&mock).replace("256KiB", "4MiB").replace("response_body = \"64KiB\"\n", "");
    let world = World::new(&config.replace("body = \"64KiB\"\n", ""));
    let token = format!("Bearer {}", world.token("alice"));
    let (mut exact, mut tried) = (0, 0);
    for cassette in all {
        let path = match cassette.endpoint.as_str() {
            "completions" | "moderations" => cassette.endpoint.clone(),
            "images.generations" | "images.edits" | "audio.speech" | "audio.transcriptions" => {
                cassette.endpoint.replace('.', "/")
            }
            _ => continue,
        };
        tried += 1;
        let (body, kind) = request(cassette);
        mock.push(Answer::cassette(cassette).pieces(997));
        let before = mock.count();
        let answer = world
            .send("POST", &format!("/v1/{path}"), &[("authorization", &token), ("content-type", &kind)], body.clone())
            .await;
        if cassette.status == 401 {
            assert_eq!(answer.code(), "provider_key_refused", "{}", cassette.id);
            continue;
        }
        assert_eq!(answer.status.as_u16(), cassette.status, "{}: {}", cassette.id, answer.text());
        assert!(answer.body == cassette.response_body, "{} {}", cassette.endpoint, cassette.id);
        assert_eq!(answer.header("content-type"), cassette.content_type, "{}", cassette.id);
        assert!(!answer.broken, "{}", cassette.id);
        let got = mock.request(before).await;
        let same = |text: &str| text.replace("\"model\":\"o/", "\"model\":\"").replace("\r\n\r\no/", "\r\n\r\n");
        if !cassette.is_stream && !cassette.request_body.is_empty() {
            assert!(same(&String::from_utf8_lossy(&body)) == String::from_utf8_lossy(&got.body), "{}", cassette.id);
        }
        exact += 1;
    }
    println!("direct: {exact} of {tried} byte for byte");
    assert!(exact >= 46, "{exact} of {tried}");
}
