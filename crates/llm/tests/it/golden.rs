//! Translations by example: each snapshot shows what goes in and what must come out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use llm::passthrough::Edits;
use llm::{Dialect, Flavour, Options, Translation};
use serde_json::{Value, json};

const TO_ANTHROPIC: (Dialect, Dialect) = (Dialect::OpenAiChat, Dialect::AnthropicMessages);
const TO_OPENAI: (Dialect, Dialect) = (Dialect::AnthropicMessages, Dialect::OpenAiChat);

fn between((client, provider): (Dialect, Dialect), flavour: Flavour) -> Translation {
    let options = Options { flavour, now: 1_700_000_000, ..Options::default() };
    Translation::new(client, provider, options).unwrap()
}

fn request(pair: (Dialect, Dialect), flavour: Flavour, body: &Value) -> Value {
    let translated = between(pair, flavour).request(body.to_string().as_bytes(), &Edits::default());
    match translated {
        Ok(bytes) => serde_json::from_slice(&bytes).unwrap(),
        Err(error) => json!({ "reason": error.reason(), "param": error.param(), "message": error.to_string() }),
    }
}

fn refused(pair: (Dialect, Dialect), body: &Value) -> String {
    request(pair, Flavour::default(), body)["message"].as_str().unwrap_or("taken").to_owned()
}

fn response(pair: (Dialect, Dialect), body: &Value) -> Value {
    let answer = between(pair, Flavour::default()).response(body.to_string().as_bytes()).unwrap();
    serde_json::from_slice(&answer.body).unwrap()
}

fn stream(pair: (Dialect, Dialect), events: &[Value]) -> String {
    let mut text: String =
        events.iter().flat_map(|event| ["data: ".to_owned(), event.to_string(), "\n\n".to_owned()]).collect();
    if pair.1 == Dialect::OpenAiChat {
        text.push_str("data: [DONE]\n\n");
    }
    let mut stream = between(pair, Flavour::default()).stream(true);
    let mut out = stream.feed(text.as_bytes());
    out.extend(stream.finish(true));
    String::from_utf8(out).unwrap()
}

#[test]
fn an_openai_request_for_anthropic() {
    insta::assert_json_snapshot!(request(
        TO_ANTHROPIC,
        Flavour::default(),
        &json!({
            "model": "claude-sonnet-4-5",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is on these?", "cache_control": {"type": "ephemeral"}},
                    {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,AAAA", "detail": "high"}},
                    {"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}},
                    {"type": "file", "file": {"filename": "a.txt", "file_data": "data:text/plain;base64,aGVsbG8="}}
                ]},
                {"role": "assistant", "content": null, "refusal": null, "reasoning_content": "unsigned", "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": 1.50, \"n\": 123456789012345678901}"}},
                    {"id": "call_2", "type": "function", "function": {"name": "look", "arguments": ""}}
                ]},
                {"role": "tool", "tool_call_id": "call_1", "name": "look", "content": "a cat"},
                {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "a dog"}]},
                {"role": "user", "content": "So?"},
                {"role": "developer", "content": "Answer in French."}
            ],
            "tools": [
                {"type": "function", "function": {"name": "look", "description": "Looks.", "strict": true,
                    "parameters": {"type": "object", "properties": {"at": {"type": "number"}}, "additionalProperties": false}}},
                {"type": "function", "function": {"name": "wait"}}
            ],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
            "parallel_tool_calls": false,
            "max_completion_tokens": 500, "temperature": 0.70, "top_p": 0.9, "stop": "END", "user": "u-1",
            "stream": true, "stream_options": {"include_usage": true},
            "n": 1, "logprobs": false, "presence_penalty": 0.0, "store": false, "metadata": {"team": "x"}, "service_tier": "auto"
        })
    ));
}

#[test]
fn structured_output_and_reasoning_for_anthropic() {
    let format = json!({"type": "json_schema", "json_schema": {"name": "city", "strict": true,
        "schema": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"], "additionalProperties": false}}});
    let ask = |model: &str, more: Value| {
        let mut body = json!({"model": model, "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        request(TO_ANTHROPIC, Flavour::default(), &body)
    };
    insta::assert_json_snapshot!([
        ask("claude-haiku-4-5", json!({"response_format": format})),
        ask("claude-haiku-4-5", json!({"response_format": {"type": "json_object"}})),
        ask("claude-3-7-sonnet-20250219", json!({"reasoning_effort": "high", "max_tokens": 20_000})),
        ask("claude-opus-4-7", json!({"reasoning_effort": "minimal", "response_format": format})),
        ask("claude-opus-5", json!({"reasoning": {"max_tokens": 2000}})),
        ask("claude-sonnet-4-20250514", json!({"reasoning_effort": "low", "max_tokens": 800})),
        ask("claude-sonnet-4-5", json!({"reasoning_effort": "none"})),
    ]);
}

#[test]
fn what_anthropic_cannot_express_is_refused_by_name() {
    let ask = |more: Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(TO_ANTHROPIC, &body)
    };
    let part = |part: Value| ask(json!({"messages": [{"role": "user", "content": [part]}]}));
    insta::assert_json_snapshot!([
        ask(json!({"n": 2})),
        ask(json!({"logprobs": true})),
        ask(json!({"seed": 7})),
        ask(json!({"presence_penalty": 0.5})),
        ask(json!({"logit_bias": {"5": 1}})),
        ask(json!({"temperature": 1.5})),
        ask(json!({"modalities": ["text", "audio"]})),
        ask(json!({"functions": [{"name": "f"}]})),
        ask(json!({"store": true})),
        ask(json!({"service_tier": "flex"})),
        ask(json!({"web_search_options": {}})),
        ask(json!({"something_new": {"a": 1}})),
        ask(json!({"tools": [{"type": "custom", "custom": {"name": "x", "format": {"type": "grammar"}}}]})),
        ask(json!({"messages": [{"role": "user", "content": "x", "name": "bob"}]})),
        ask(json!({"messages": [{"role": "function", "name": "f", "content": "x"}]})),
        ask(json!({"response_format": {"type": "grammar"}})),
        part(json!({"type": "input_audio", "input_audio": {"data": "", "format": "mp3"}})),
        part(json!({"type": "file", "file": {"file_id": "file-1"}})),
        part(json!({"type": "file", "file": {"file_data": "data:image/png;base64,AA"}})),
    ]);
}

#[test]
fn an_anthropic_request_for_openai() {
    let body = json!({
        "model": "gpt-5-mini",
        "max_tokens": 1000,
        "system": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "text", "text": "Look."},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}},
                {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERg=="}, "title": "a.pdf"},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "plain"}, "title": "b.txt"}
            ]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xx"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"at": 1.50, "deep": {"n": "x"}}},
                {"type": "tool_use", "id": "toolu_2", "name": "look", "input": {}}
            ]},
            {"role": "user", "content": [
                {"type": "tool_result", "tool_use_id": "toolu_1", "content": [
                    {"type": "text", "text": "seen"},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/x.png"}}]},
                {"type": "tool_result", "tool_use_id": "toolu_2", "content": "no light", "is_error": true},
                {"type": "text", "text": "Go on."}
            ]}
        ],
        "tools": [{"name": "look", "description": "Looks.", "input_schema": {"type": "object"}, "strict": true, "cache_control": {"type": "ephemeral"}}],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": true},
        "thinking": {"type": "enabled", "budget_tokens": 4000},
        "output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
        "temperature": 1, "stop_sequences": ["END"], "metadata": {"user_id": "u-1"}, "stream": true
    });
    insta::assert_json_snapshot!([
        request(TO_OPENAI, Flavour::OpenAi, &body),
        request(TO_OPENAI, Flavour::Thinking, &body),
        request(
            TO_OPENAI,
            Flavour::Strict,
            &json!({"model": "m", "max_tokens": 5, "stream": true, "messages": [{"role": "user", "content": "x"}]})
        ),
    ]);
}

#[test]
fn what_openai_cannot_express_is_refused_by_name() {
    let ask = |more: Value| {
        let mut body = json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        refused(TO_OPENAI, &body)
    };
    let block = |block: Value| ask(json!({"messages": [{"role": "user", "content": [block]}]}));
    insta::assert_json_snapshot!([
        ask(json!({"top_k": 5})),
        ask(json!({"system": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]})),
        ask(
            json!({"system": "x", "messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]})
        ),
        ask(json!({"tool_choice": {"type": "new"}})),
        ask(
            json!({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}]})
        ),
        ask(json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]})),
        ask(json!({"mcp_servers": [{"type": "url", "url": "https://x", "name": "y"}]})),
        ask(json!({"container": "c1"})),
        ask(json!({"service_tier": "standard_only"})),
        ask(json!({"inference_geo": "eu"})),
        ask(json!({"output_config": {"task_budget": {}}})),
        ask(json!({"context_management": {"edits": []}})),
        block(json!({"type": "container_upload", "file_id": "f"})),
        block(json!({"type": "image", "source": {"type": "file", "file_id": "f"}})),
        block(json!({"type": "document", "source": {"type": "url", "url": "https://x/a.pdf"}})),
        block(
            json!({"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}, "citations": {"enabled": true}})
        ),
    ]);
}

#[test]
fn an_anthropic_answer_for_an_openai_client() {
    insta::assert_json_snapshot!(response(
        TO_ANTHROPIC,
        &json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "sig"},
                {"type": "redacted_thinking", "data": "xx"},
                {"type": "text", "text": "Café ", "citations": [
                    {"type": "web_search_result_location", "url": "https://example.com", "title": "T", "cited_text": "c", "encrypted_index": "e"}]},
                {"type": "text", "text": "open."},
                {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
                {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": [1, 2]}}
            ],
            "stop_reason": "tool_use", "stop_sequence": null,
            "usage": {"input_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20, "output_tokens": 7,
                      "output_tokens_details": {"thinking_tokens": 3}}
        })
    ));
}

#[test]
fn an_openai_answer_for_an_anthropic_client() {
    insta::assert_json_snapshot!([
        response(
            TO_OPENAI,
            &json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 5, "model": "gpt-x",
                "choices": [{"index": 0, "finish_reason": "stop", "message": {
                    "role": "assistant", "content": "Hi", "reasoning_content": "Hm.", "refusal": null,
                    "tool_calls": [
                        {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
                        {"id": "", "type": "function", "function": {"name": "g", "arguments": ""}},
                        {"id": "call_3", "type": "function", "function": {"name": "h", "arguments": "{\"cut\": \"of"}}
                    ]}}],
                "usage": {"prompt_tokens": 30, "completion_tokens": 4, "total_tokens": 34, "prompt_tokens_details": {"cached_tokens": 10},
                          "completion_tokens_details": {"reasoning_tokens": 2}}
            })
        ),
        response(
            TO_OPENAI,
            &json!({
                "id": "c2", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "message": {"content": null, "refusal": "No."}}]
            })
        ),
        response(
            TO_OPENAI,
            &json!({
                "id": "c3", "model": "m", "choices": [{"index": 0, "finish_reason": "stop", "stop_reason": "###", "message": {"content": "x"}}]
            })
        ),
    ]);
}

#[test]
fn a_stream_of_anthropic_for_an_openai_client() {
    insta::assert_snapshot!(stream(
        TO_ANTHROPIC,
        &[
            json!({"type": "message_start", "message": {"id": "msg_1", "model": "claude-x", "usage": {"input_tokens": 9, "cache_read_input_tokens": 1, "output_tokens": 1}}}),
            json!({"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Hm."}}),
            json!({"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "sig"}}),
            json!({"type": "content_block_stop", "index": 0}),
            json!({"type": "ping"}),
            json!({"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "Hi"}}),
            json!({"type": "content_block_delta", "index": 1, "delta": {"type": "citations_delta", "citation":
            {"type": "web_search_result_location", "url": "https://example.com", "title": "T", "cited_text": "c"}}}),
            json!({"type": "content_block_stop", "index": 1}),
            json!({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ""}}),
            json!({"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": "{\"a\":1}"}}),
            json!({"type": "content_block_stop", "index": 2}),
            json!({"type": "content_block_start", "index": 4, "content_block": {"type": "server_tool_use", "id": "s", "name": "web", "input": {}}}),
            json!({"type": "content_block_delta", "index": 4, "delta": {"type": "input_json_delta", "partial_json": "{\"q\":1}"}}),
            json!({"type": "content_block_stop", "index": 4}),
            json!({"type": "content_block_start", "index": 3, "content_block": {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}}),
            json!({"type": "content_block_stop", "index": 3}),
            json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 12}}),
            json!({"type": "message_stop"}),
        ]
    ));
}

#[test]
fn a_stream_of_openai_for_an_anthropic_client() {
    let chunk = |delta: Value, finish: Option<&str>| json!({"id": "c1", "model": "gpt-x", "created": 5, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let call = |index: u64, id: &str, name: &str| json!({"tool_calls": [{"index": index, "id": id, "type": "function", "function": {"name": name, "arguments": ""}}]});
    let arguments = |index: u64, text: &str| json!({"tool_calls": [{"index": index, "function": {"arguments": text}}]});
    insta::assert_snapshot!(stream(
        TO_OPENAI,
        &[
            chunk(json!({"role": "assistant", "content": ""}), None),
            chunk(json!({"reasoning_content": "Hm."}), None),
            chunk(json!({"content": "Hi"}), None),
            // Two calls whose arguments come mixed.
            chunk(call(0, "call_1", "f"), None),
            chunk(call(1, "call_2", "g"), None),
            chunk(arguments(1, "{\"b\":"), None),
            chunk(arguments(0, "{\"a\":\"}"), None),
            chunk(arguments(1, "2}"), None),
            chunk(arguments(0, "\"}"), None),
            chunk(json!({}), Some("tool_calls")),
            json!({"id": "c1", "choices": [], "usage": {"prompt_tokens": 20, "completion_tokens": 8, "total_tokens": 28}}),
        ]
    ));
}

#[test]
fn an_error_in_a_stream_is_told_and_ends_it() {
    let error = json!({"error": {"message": "overloaded", "type": "server_error", "code": "busy"}});
    let openai = stream(
        TO_OPENAI,
        &[json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}), error],
    );
    let anthropic = stream(
        TO_ANTHROPIC,
        &[
            json!({"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 1, "output_tokens": 1}}}),
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
            json!({"type": "message_stop"}),
        ],
    );
    let garbage = stream(TO_OPENAI, &[json!("not a chunk")]);
    insta::assert_snapshot!(format!("{openai}---\n{anthropic}---\n{garbage}"));
}

#[test]
fn a_stream_that_closes_right_behind_its_last_line_is_complete_but_not_behind_half_of_it() {
    let whole = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"m\",\"model\":\"c\"}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}";
    for (body, clean, complete) in
        [(whole, true, true), (whole, false, false), (&whole[..whole.len() - 1], true, false)]
    {
        let mut stream = between(TO_ANTHROPIC, Flavour::default()).stream(false);
        stream.feed(body.as_bytes());
        stream.finish(clean);
        assert_eq!(*stream.outcome() == llm::Outcome::Complete, complete, "{clean} {body}");
        let mut tap = llm::passthrough::StreamTap::new(Dialect::AnthropicMessages, false);
        tap.feed(&bytes::Bytes::copy_from_slice(body.as_bytes()));
        tap.finish(clean);
        assert_eq!(*tap.outcome() == llm::Outcome::Complete, complete, "{clean} {body}");
    }
}

#[test]
fn calls_mixed_beyond_measure_end_in_an_error_and_lose_nothing_silently() {
    let chunk = |index: u64, text: &str| {
        json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": index, "id": format!("c{index}"), "function": {"name": "f", "arguments": text}}]}}]})
    };
    let mut events = vec![chunk(0, "{"), chunk(1, "{")];
    events.extend((0..11_000).map(|_| chunk(1, " ")));
    let out = stream(TO_OPENAI, &events);
    assert!(out.ends_with("\n\n") && out.contains("mixed too many tool calls"), "{}", out.len());
    assert!(!out.contains("message_stop"));
}

#[test]
fn an_error_that_calls_itself_a_success_is_an_error() {
    let body = json!({"error": {"message": "no capacity", "code": 502}, "user_id": "x"}).to_string();
    let error = between(TO_OPENAI, Flavour::default()).response(body.as_bytes()).unwrap_err();
    assert_eq!((error.reason(), error.to_string().contains("no capacity")), ("provider_error", true));
}

#[test]
fn calls_that_share_an_index_are_told_apart_by_their_ids() {
    let call = |id: &str, arguments: &str| {
        json!({"id": "c", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": 0, "id": id, "type": "function", "function": {"name": "f", "arguments": arguments}}]}}]})
    };
    let end = json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]});
    let out = stream(TO_OPENAI, &[call("one", "{\"a\":1}"), call("two", "{\"b\":2}"), end]);
    assert_eq!(out.matches(r#""type":"tool_use""#).count(), 2, "{out}");
    assert!(out.contains(r#""stop_reason":"tool_use""#), "{out}");
}

#[test]
fn results_come_first_in_the_turn_that_answers_the_calls() {
    let call = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let body = request(
        TO_ANTHROPIC,
        Flavour::default(),
        &json!({"model": "m", "messages": [
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": null, "tool_calls": [call("a.1"), call("b")]},
            {"role": "tool", "tool_call_id": "a.1", "content": "1"},
            {"role": "user", "content": "meanwhile"},
            {"role": "tool", "tool_call_id": "b", "content": "2"}
        ]}),
    );
    let turn = body["messages"][2]["content"].as_array().unwrap();
    let kinds: Vec<_> = turn.iter().map(|block| block["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["tool_result", "tool_result", "text"]);
    // An id with a character Anthropic refuses is rewritten alike on both sides.
    assert_eq!(turn[0]["tool_use_id"], body["messages"][1]["content"][0]["id"]);
    assert_eq!(turn[0]["tool_use_id"], "a_46_1");
}

#[test]
fn only_reasoning_anthropic_signed_is_sent_back_to_it() {
    let ask = |format: &str| {
        let detail = json!({"type": "reasoning.text", "text": "Hm.", "signature": "sig", "format": format, "index": 0});
        let body = json!({"model": "m", "messages": [
            {"role": "user", "content": "x"}, {"role": "assistant", "content": "y", "reasoning_details": [detail]},
            {"role": "user", "content": "z"}]});
        request(TO_ANTHROPIC, Flavour::default(), &body)["messages"][1]["content"].clone()
    };
    assert_eq!(ask("anthropic-claude-v1")[0], json!({"type": "thinking", "thinking": "Hm.", "signature": "sig"}));
    assert_eq!(ask("google-gemini-v1"), "y");
}

#[test]
fn a_later_zero_does_not_undo_a_count() {
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "model": "c", "usage": {"input_tokens": 25, "output_tokens": 1}}}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"input_tokens": 0, "output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ];
    let out = stream(TO_ANTHROPIC, &events);
    assert!(out.contains(r#""prompt_tokens":25,"completion_tokens":9,"total_tokens":34"#), "{out}");
}
