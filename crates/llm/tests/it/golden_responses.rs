//! Translations from and to OpenAI's Responses API by example: each snapshot shows what goes in and what must come out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use llm::passthrough::Edits;
use llm::{Dialect, Flavour, Options, Translation};
use serde_json::{Value, json};

const RESPONSES: Dialect = Dialect::OpenAiResponses;
const OPENAI: Dialect = Dialect::OpenAiChat;
const ANTHROPIC: Dialect = Dialect::AnthropicMessages;
const GOOGLE: Dialect = Dialect::Gemini;

fn between(client: Dialect, provider: Dialect) -> Translation {
    let flavour = Flavour::of_kind("openai");
    Translation::new(client, provider, Options { now: 1_700_000_000, flavour, ..Options::default() }).unwrap()
}

fn request(client: Dialect, provider: Dialect, body: &Value) -> Value {
    let edits = Edits { model: body["model"].as_str().or(Some("m")), ..Edits::default() };
    match between(client, provider).request(body.to_string().as_bytes(), &edits) {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Err(error) => json!(error.to_string()),
    }
}

fn response(client: Dialect, provider: Dialect, body: &Value) -> Value {
    serde_json::from_slice(&between(client, provider).response(body.to_string().as_bytes()).unwrap().body).unwrap()
}

fn stream(translation: &Translation, events: &[Value]) -> String {
    let framed = events.iter().flat_map(|event| ["data: ".to_owned(), event.to_string(), "\n\n".to_owned()]);
    let text: String = framed.collect();
    let mut stream = translation.stream(true);
    let mut out = stream.feed(text.as_bytes());
    out.extend(stream.finish(true));
    String::from_utf8(out).unwrap()
}

fn conversation() -> Value {
    json!({
        "model": "some-model",
        "instructions": "Be brief.",
        "input": [
            {"role": "developer", "content": "Answer in French."},
            {"type": "message", "role": "user", "content": [
                {"type": "input_text", "text": "What is on these?"},
                {"type": "input_image", "image_url": "data:image/PNG;base64,AAAA", "detail": "high"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}
            ]},
            {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "OpenAI's own"}],
                "encrypted_content": "gAAAA="},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": "I look.", "annotations": [], "logprobs": []}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{\"at\": 1.50}"},
            {"type": "custom_tool_call", "call_id": "call_2", "name": "sum", "input": "1 + \"1\""},
            {"type": "function_call_output", "call_id": "call_1", "output": [{"type": "input_text", "text": "a cat"}]},
            {"type": "custom_tool_call_output", "call_id": "call_2", "output": "2"}
        ],
        "tools": [
            {"type": "function", "name": "look", "description": "Looks.", "strict": true,
                "parameters": {"type": "object", "properties": {"at": {"type": "number"}}, "additionalProperties": false}},
            {"type": "custom", "name": "sum", "description": "Adds.", "format": {"type": "text"}}
        ],
        "tool_choice": {"type": "function", "name": "look"}, "parallel_tool_calls": true,
        "text": {"format": {"type": "json_schema", "name": "x", "strict": true, "schema": {"type": "object"}}},
        "reasoning": {"effort": "medium", "summary": "auto"}, "include": ["reasoning.encrypted_content"],
        "max_output_tokens": 5000, "temperature": 0.70, "top_p": 0.9, "metadata": {"k": "v"}, "user": "u-1",
        "store": true, "stream": true
    })
}

#[test]
fn a_responses_request_for_everybody() {
    insta::assert_json_snapshot!("for_openai", request(RESPONSES, OPENAI, &conversation()));
    insta::assert_json_snapshot!("for_anthropic", request(RESPONSES, ANTHROPIC, &conversation()));
    insta::assert_json_snapshot!("for_gemini", request(RESPONSES, GOOGLE, &conversation()));
}

#[test]
fn what_another_provider_cannot_express_is_refused_by_name() {
    for (name, value, param) in [
        ("previous_response_id", json!("resp_1"), "previous_response_id"),
        ("conversation", json!("conv_1"), "conversation"),
        ("prompt", json!({"id": "pmpt_1"}), "prompt"),
        ("background", json!(true), "background"),
        ("truncation", json!("auto"), "truncation"),
        ("context_management", json!([]), "context_management"),
        ("include", json!(["new.thing"]), "include[0]"),
        ("tools", json!([{"type": "web_search"}]), "tools[0].type"),
        ("tools", json!([{"type": "custom", "name": "c", "format": {"type": "grammar"}}]), "tools[0].type"),
        ("tool_choice", json!({"type": "file_search"}), "tool_choice"),
        ("input", json!([{"type": "item_reference", "id": "msg_1"}]), "input[0].type"),
        ("input", json!(["x"]), "input[0]"),
        ("input", json!([{"role": "user", "content": []}, {"type": "web_search_call", "id": "ws_1"}]), "input[1].type"),
        (
            "input",
            json!([{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}]}]),
            "input[0].content[0]",
        ),
        ("text", json!({"verbosity": "low"}), "text.verbosity"),
        ("top_logprobs", json!(3), "logprobs"),
    ] {
        let mut body = json!({"model": "m", "input": "hi"});
        body[name] = value;
        let error = between(RESPONSES, ANTHROPIC).request(body.to_string().as_bytes(), &Edits::default()).unwrap_err();
        assert_eq!(error.param(), Some(param), "{body}: {error}");
    }
    // What asks for nothing is taken.
    let neutral = json!({"model": "m", "input": "hi", "store": true, "background": false, "truncation": "disabled",
        "service_tier": "auto", "text": {"verbosity": "medium"}, "top_logprobs": 0, "include": ["web_search_call.results"],
        "stream_options": {"include_obfuscation": false}, "prompt_cache_key": "k", "previous_response_id": null});
    assert!(request(RESPONSES, ANTHROPIC, &neutral).is_object(), "{}", request(RESPONSES, ANTHROPIC, &neutral));
    assert_eq!(
        request(RESPONSES, OPENAI, &json!({"model": "m", "input": "hi", "text": {"verbosity": "low"}}))["verbosity"],
        "low"
    );
}

#[test]
fn everybodys_request_for_a_provider_of_responses() {
    insta::assert_json_snapshot!(
        "from_openai",
        request(
            OPENAI,
            RESPONSES,
            &json!({
                "model": "gpt-5-mini",
                "messages": [
                    {"role": "system", "content": "Be brief."},
                    {"role": "user", "content": [
                        {"type": "text", "text": "What is on these?"},
                        {"type": "image_url", "image_url": {"url": "https://example.com/cat.png", "detail": "high"}},
                        {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
                        {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}
                    ]},
                    {"role": "assistant", "content": null,
                        "reasoning_details": [{"type": "reasoning.text", "text": "sealed", "signature": "openai:rs_1:gAAAA=",
                            "format": "openai-responses-v1", "index": 0}],
                        "tool_calls": [
                            {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": 1.50}"}},
                            {"id": "call_2", "type": "function", "function": {"name": "wait", "arguments": ""}}
                        ]},
                    {"role": "tool", "tool_call_id": "call_1", "content": "a cat"},
                    {"role": "tool", "tool_call_id": "call_2", "content": "done"}
                ],
                "tools": [
                    {"type": "function", "function": {"name": "look", "description": "Looks.", "strict": true,
                        "parameters": {"type": "object", "properties": {"at": {"type": "number"}}, "additionalProperties": false}}},
                    {"type": "function", "function": {"name": "wait"}}
                ],
                "tool_choice": "required", "parallel_tool_calls": false,
                "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
                "max_completion_tokens": 500, "temperature": 0.70, "user": "u-1", "n": 1, "verbosity": "low",
                "logprobs": true, "top_logprobs": 3, "reasoning_effort": "medium", "metadata": {"k": "v"}, "service_tier": "flex",
                "stream": true, "stream_options": {"include_usage": true}
            })
        )
    );
    insta::assert_json_snapshot!(
        "from_anthropic",
        request(
            ANTHROPIC,
            RESPONSES,
            &json!({
                "model": "gpt-5-mini", "max_tokens": 4096,
                "system": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral"}}],
                "thinking": {"type": "enabled", "budget_tokens": 2048},
                "messages": [
                    {"role": "user", "content": "hi"},
                    {"role": "assistant", "content": [
                        {"type": "thinking", "thinking": "sealed", "signature": "openai:rs_1:gAAAA="},
                        {"type": "thinking", "thinking": "Anthropic's", "signature": "ErUB"},
                        {"type": "text", "text": "I look."},
                        {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1.5}}
                    ]},
                    {"role": "user", "content": [
                        {"type": "tool_result", "tool_use_id": "toolu_1", "is_error": true, "content": [
                            {"type": "text", "text": "dark"},
                            {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
                        ]},
                        {"type": "text", "text": "So?"}
                    ]}
                ],
                "tools": [{"name": "look", "input_schema": {"type": "object"}}],
                "tool_choice": {"type": "auto", "disable_parallel_tool_use": true}, "metadata": {"user_id": "u-1"}
            })
        )
    );
    insta::assert_json_snapshot!(
        "from_gemini",
        request(
            GOOGLE,
            RESPONSES,
            &json!({
                "systemInstruction": {"parts": [{"text": "Be brief."}]},
                "contents": [
                    {"role": "user", "parts": [{"text": "hi"}]},
                    {"role": "model", "parts": [{"functionCall": {"name": "look", "args": {"at": 1}}}]},
                    {"role": "user", "parts": [{"functionResponse": {"name": "look", "response": {"result": "a cat"}}}]}
                ],
                "tools": [{"functionDeclarations": [{"name": "look", "parameters": {"type": "OBJECT"}}]}],
                "generationConfig": {"maxOutputTokens": 100, "responseMimeType": "application/json", "thinkingConfig": {"thinkingBudget": 0}}
            })
        )
    );
}

fn answer() -> Value {
    json!({
        "id": "resp_1", "object": "response", "created_at": 1_700_000_001.0, "status": "completed", "model": "gpt-5-mini",
        "output": [
            {"type": "reasoning", "id": "rs_1", "encrypted_content": "gAAAA=",
                "summary": [{"type": "summary_text", "text": "One."}, {"type": "summary_text", "text": "Two."}]},
            {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "cats"}},
            {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [
                {"type": "output_text", "text": "A cat.", "annotations": [
                    {"type": "url_citation", "start_index": 0, "end_index": 6, "url": "https://example.com", "title": "Cats"},
                    {"type": "file_citation", "file_id": "file-1", "index": 1}]}]},
            {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "look", "arguments": "{\"at\": 1.50}"},
            {"type": "custom_tool_call", "id": "ctc_1", "call_id": "call_2", "name": "sum", "input": "1 + 1"}
        ],
        "usage": {"input_tokens": 75, "input_tokens_details": {"cached_tokens": 64}, "output_tokens": 1186,
            "output_tokens_details": {"reasoning_tokens": 1024}, "total_tokens": 1261}
    })
}

#[test]
fn an_answer_of_the_responses_api_for_everybody() {
    insta::assert_json_snapshot!("answer_for_openai", response(OPENAI, RESPONSES, &answer()));
    insta::assert_json_snapshot!("answer_for_anthropic", response(ANTHROPIC, RESPONSES, &answer()));
    insta::assert_json_snapshot!("answer_for_gemini", response(GOOGLE, RESPONSES, &answer()));
}

#[test]
fn an_answer_that_failed_is_an_error_and_one_that_goes_on_is_none() {
    let mut failed = answer();
    failed["status"] = "failed".into();
    failed["error"] = json!({"code": "server_error", "message": "No."});
    let error = between(OPENAI, RESPONSES).response(failed.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "The provider reported an error: No.");
    let mut queued = answer();
    queued["status"] = "queued".into();
    assert!(between(OPENAI, RESPONSES).response(queued.to_string().as_bytes()).is_err());
}

#[test]
fn everybodys_answer_for_a_client_of_responses() {
    let asked = conversation().to_string();
    let answered = |provider, body: &Value| -> Value {
        let translation = between(RESPONSES, provider).answering(asked.as_bytes());
        serde_json::from_slice(&translation.response(body.to_string().as_bytes()).unwrap().body).unwrap()
    };
    insta::assert_json_snapshot!(
        "answered_by_openai",
        answered(
            OPENAI,
            &json!({
                "id": "chatcmpl-1", "created": 1_700_000_001, "model": "gpt-4o",
                "choices": [{"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": "A cat.",
                    "annotations": [{"type": "url_citation", "url_citation": {"url": "https://example.com", "title": "Cats"}}],
                    "reasoning_content": "I think.",
                    "tool_calls": [{"id": "call_2", "type": "function", "function": {"name": "sum", "arguments": "{\"input\":\"1 + 1\"}"}}]},
                    "logprobs": {"content": [{"token": "A", "logprob": -0.1, "top_logprobs": [{"token": "A", "logprob": -0.1}]}]}}],
                "usage": {"prompt_tokens": 75, "completion_tokens": 1186, "total_tokens": 1261,
                    "prompt_tokens_details": {"cached_tokens": 64}, "completion_tokens_details": {"reasoning_tokens": 1024}}
            })
        )
    );
    insta::assert_json_snapshot!(
        "answered_by_anthropic",
        answered(
            ANTHROPIC,
            &json!({
                "id": "msg_1", "model": "claude", "stop_reason": "tool_use", "content": [
                    {"type": "thinking", "thinking": "I think.", "signature": "ErUB"},
                    {"type": "redacted_thinking", "data": "sealed"},
                    {"type": "text", "text": "I look."},
                    {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1.5}}
                ], "usage": {"input_tokens": 5, "output_tokens": 7}
            })
        )
    );
    insta::assert_json_snapshot!(
        "refused_by_gemini",
        answered(
            GOOGLE,
            &json!({
                "candidates": [{"content": {"parts": [{"functionCall": {"name": "look", "args": {}}, "thoughtSignature": "c2ln"}]},
                    "finishReason": "SAFETY", "finishMessage": "Not this."}], "modelVersion": "gemini", "responseId": "r1"
            })
        )
    );
}

#[test]
fn a_stream_for_a_client_of_responses() {
    let asked = conversation().to_string();
    let translation = between(RESPONSES, OPENAI).answering(asked.as_bytes());
    let chunk = |delta: Value| json!({"id": "c1", "model": "gpt-4o", "created": 1_700_000_001, "choices": [{"index": 0, "delta": delta}]});
    let call = |index: u64, id: Value, name: Value, arguments: &str| {
        chunk(json!({"tool_calls": [{"index": index, "id": id, "function": {"name": name, "arguments": arguments}}]}))
    };
    insta::assert_snapshot!(
        "streamed_by_openai",
        stream(
            &translation,
            &[
                chunk(json!({"role": "assistant", "reasoning_content": "I "})),
                chunk(json!({"reasoning_content": "think."})),
                chunk(json!({"content": "A c"})),
                chunk(json!({"content": "at."})),
                call(0, json!("call_1"), json!("look"), "{\"a\""),
                call(1, json!("call_2"), json!("sum"), "{\"input\":"),
                call(0, Value::Null, Value::Null, ":1}"),
                call(1, Value::Null, Value::Null, "\"1 + 1\"}"),
                json!({"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}),
                json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}}),
            ]
        )
    );
}

#[test]
fn a_stream_of_the_responses_api_for_everybody() {
    let item = |at: u64, item: Value| json!({"type": "response.output_item.added", "output_index": at, "item": item});
    let done = |at: u64, item: Value| json!({"type": "response.output_item.done", "output_index": at, "item": item});
    let whole = answer();
    let mut events = vec![
        json!({"type": "response.created", "response": {"id": "resp_1", "model": "gpt-5-mini", "created_at": 7, "status": "in_progress"}}),
        item(0, json!({"type": "reasoning", "id": "rs_1", "summary": []})),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "One."}),
        json!({"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 1, "delta": "Two."}),
    ];
    let output = whole["output"].as_array().unwrap().clone();
    events.push(done(0, output[0].clone()));
    events.push(item(2, json!({"type": "message", "id": "msg_1", "content": []})));
    events.push(json!({"type": "response.output_text.delta", "output_index": 2, "content_index": 0, "delta": "A c"}));
    events.push(json!({"type": "response.output_text.delta", "output_index": 2, "content_index": 0, "delta": "at."}));
    for (at, whole) in output.iter().enumerate().skip(1) {
        events.push(done(at as u64, whole.clone()));
    }
    events.push(json!({"type": "response.completed", "response": whole}));
    for (name, client) in [("openai", OPENAI), ("anthropic", ANTHROPIC), ("gemini", GOOGLE)] {
        insta::assert_snapshot!(format!("stream_for_{name}"), stream(&between(client, RESPONSES), &events));
    }
}
