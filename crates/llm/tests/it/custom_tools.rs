//! Tools that are called with free text, for clients of chat completions in front of providers that have functions only.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fmt::Write;

use llm::passthrough::Edits;
use llm::{Dialect, Options, Translation};
use serde_json::{Value, json};

fn ask() -> Value {
    json!({"model": "m", "messages": [
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "custom", "custom": {"name": "run", "input": "print(\"2\" + '2')"}}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "22"}],
        "tools": [{"type": "custom", "custom": {"name": "run", "description": "Runs it.", "format": {"type": "text"}}},
            {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}],
        "tool_choice": {"type": "custom", "custom": {"name": "run"}}})
}

fn translation(provider: Dialect, body: &Value) -> Translation {
    Translation::new(Dialect::OpenAiChat, provider, Options::default()).unwrap().answering(body.to_string().as_bytes())
}

fn sent(provider: Dialect, body: &Value) -> Result<Value, String> {
    let sent = translation(provider, body).request(body.to_string().as_bytes(), &Edits::default());
    sent.map(|sent| serde_json::from_slice(&sent).unwrap()).map_err(|error| error.to_string())
}

fn input() -> Value {
    json!({"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"], "additionalProperties": false})
}

#[test]
fn a_custom_tool_is_a_function_of_one_text_elsewhere() {
    let anthropic = sent(Dialect::AnthropicMessages, &ask()).unwrap();
    assert_eq!(anthropic["tools"][0]["name"], "run");
    assert_eq!(
        (&anthropic["tools"][0]["description"], &anthropic["tools"][0]["input_schema"]),
        (&json!("Runs it."), &input())
    );
    assert_eq!(anthropic["tool_choice"], json!({"type": "tool", "name": "run"}));
    let call = &anthropic["messages"][1]["content"][0];
    assert_eq!((&call["type"], &call["input"]), (&json!("tool_use"), &json!({"input": "print(\"2\" + '2')"})));
    let responses = sent(Dialect::OpenAiResponses, &ask()).unwrap();
    assert_eq!((&responses["tools"][0]["type"], &responses["tools"][0]["parameters"]), (&json!("function"), &input()));
    let call = responses["input"].as_array().unwrap().iter().find(|item| item["type"] == "function_call").unwrap();
    assert_eq!(call["arguments"], json!({"input": "print(\"2\" + '2')"}).to_string());
    for other in [Dialect::Gemini, Dialect::BedrockConverse, Dialect::CohereChat, Dialect::OllamaChat] {
        let sent = sent(
            other,
            &json!({"model": "m", "messages": [{"role": "user", "content": "x"}], "tools": ask()["tools"]}),
        );
        assert!(sent.as_ref().is_ok_and(|sent| sent.to_string().contains("\"run\"")), "{other:?}: {sent:?}");
    }
}

#[test]
fn what_a_function_cannot_promise_or_nobody_can_read_is_refused_by_name() {
    for (tool, param) in [
        (
            json!({"type": "custom", "custom": {"name": "x", "format": {"type": "grammar", "grammar": {}}}}),
            "tools[0].type",
        ),
        (json!({"type": "custom"}), "tools[0].custom"),
        (json!({"type": "custom", "custom": {}}), "tools[0].custom.name"),
        (json!({"type": "custom", "custom": {"name": "x", "something": 1}}), "tools[0]"),
    ] {
        let body =
            json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}], "tools": [tool]});
        let refused = sent(Dialect::AnthropicMessages, &body).unwrap_err();
        assert!(refused.contains(param), "{param}: {refused}");
    }
}

#[test]
fn its_call_comes_back_as_one_of_a_custom_tool_and_others_as_functions() {
    let answer = json!({"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use",
        "content": [{"type": "tool_use", "id": "t1", "name": "run", "input": {"input": "a \"b\"\n"}},
            {"type": "tool_use", "id": "t2", "name": "add", "input": {"input": "x"}}],
        "usage": {"input_tokens": 1, "output_tokens": 1}});
    let told = translation(Dialect::AnthropicMessages, &ask()).response(answer.to_string().as_bytes()).unwrap();
    let told: Value = serde_json::from_slice(&told.body).unwrap();
    let calls = &told["choices"][0]["message"]["tool_calls"];
    assert_eq!(calls[0], json!({"id": "t1", "type": "custom", "custom": {"name": "run", "input": "a \"b\"\n"}}));
    assert_eq!((&calls[1]["type"], &calls[1]["function"]["name"]), (&json!("function"), &json!("add")));
}

#[test]
fn streamed_the_text_comes_when_it_is_whole_however_it_is_cut() {
    let events = [
        json!({"type": "message_start", "message": {"id": "m", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": {"input_tokens": 1, "output_tokens": 1}}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t1", "name": "run", "input": {}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "{\"input\": \"a \\\"b"}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": "\\\"\\n\"}"}}),
        json!({"type": "content_block_stop", "index": 0}),
        json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}),
        json!({"type": "message_stop"}),
    ];
    let mut stream = String::new();
    for event in &events {
        write!(stream, "event: {}\ndata: {event}\n\n", event["type"].as_str().unwrap()).unwrap();
    }
    let mut wholes = Vec::new();
    for size in [1, 7, stream.len()] {
        let mut translation = translation(Dialect::AnthropicMessages, &ask()).stream(false);
        let mut out = Vec::new();
        stream.as_bytes().chunks(size).for_each(|piece| out.extend(translation.feed(piece)));
        out.extend(translation.finish(true));
        wholes.push(String::from_utf8(out).unwrap());
    }
    assert!(wholes.iter().all(|whole| *whole == wholes[0]), "any chunking gives the same");
    let chunks: Vec<Value> =
        wholes[0].lines().filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).collect();
    let calls: Vec<&Value> =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["tool_calls"].get(0)).collect();
    assert_eq!(calls[0], &json!({"index": 0, "id": "t1", "type": "custom", "custom": {"name": "run", "input": ""}}));
    let text: String = calls.iter().filter_map(|call| call["custom"]["input"].as_str()).collect();
    assert_eq!(text, "a \"b\"\n");
    assert!(wholes[0].contains("\"finish_reason\":\"tool_calls\"") && wholes[0].ends_with("data: [DONE]\n\n"));
}
