//! What a request becomes before Bedrock, by the family of the model that is asked for.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use llm::passthrough::Edits;
use llm::{Dialect, Options, RequestError, Translation};
use serde_json::{Value, json};

const CLAUDE: &str = "us.anthropic.claude-sonnet-4-5-20250929-v1:0";
const NOVA: &str = "us.amazon.nova-2-lite-v1:0";

fn sent(client: Dialect, model: &str, request: &Value) -> Result<Value, RequestError> {
    let translation = Translation::new(client, Dialect::BedrockConverse, Options::default()).unwrap();
    let edits = Edits { model: Some(model), ..Edits::default() };
    let body = translation.request(&serde_json::to_vec(request).unwrap(), &edits)?;
    Ok(serde_json::from_slice(&body).unwrap())
}

/// One question of an OpenAI client, with `more` beside it.
fn chat(model: &str, more: &Value) -> Result<Value, RequestError> {
    let mut request = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    sent(Dialect::OpenAiChat, model, &request)
}

fn refused(result: Result<Value, RequestError>) -> String {
    match result {
        Err(RequestError::Unsupported { param, .. }) => param,
        other => panic!("{other:?}"),
    }
}

fn tools() -> Value {
    json!([{"type": "function", "function": {"name": "f", "strict": true, "description": "d",
        "parameters": {"properties": {"a": {"type": "number"}}}}}])
}

#[test]
fn a_conversation_keeps_its_turns_its_calls_and_its_pictures() {
    let request = json!({"model": "m", "max_completion_tokens": 9, "temperature": 0.5, "top_p": 0.9, "stop": "END",
        "tools": tools(), "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}},
                {"type": "file", "file": {"filename": "a_b.pdf", "file_data": "data:application/pdf;base64,REVG"}}]},
            {"role": "assistant", "content": null, "tool_calls": [
                {"id": "functions.f:0", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1.50}"}},
                {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{\"a\":"}}]},
            {"role": "tool", "tool_call_id": "functions.f:0", "content": "{\"b\":2}"},
            {"role": "tool", "tool_call_id": "c2", "content": ""},
            {"role": "developer", "content": "Be kind."},
            {"role": "user", "content": "and?"}]});
    let got = sent(Dialect::OpenAiChat, CLAUDE, &request).unwrap();
    assert_eq!(
        got,
        json!({
            "messages": [
                {"role": "user", "content": [{"text": "look"},
                    {"image": {"format": "png", "source": {"bytes": "QUJD"}}},
                    {"document": {"format": "pdf", "name": "a b", "source": {"bytes": "REVG"}}}]},
                {"role": "assistant", "content": [
                    {"toolUse": {"toolUseId": "functions_46_f_58_0", "name": "f", "input": {"a": 1.50}}},
                    {"toolUse": {"toolUseId": "c2", "name": "f", "input": {"INVALID_JSON": "{\"a\":"}}}]},
                {"role": "user", "content": [
                    {"toolResult": {"toolUseId": "functions_46_f_58_0", "content": [{"text": "{\"b\":2}"}]}},
                    {"toolResult": {"toolUseId": "c2", "content": []}},
                    {"text": "and?"}]}],
            "system": [{"text": "Be brief."}, {"text": "Be kind."}],
            "inferenceConfig": {"maxTokens": 9, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
            "toolConfig": {"tools": [{"toolSpec": {"name": "f", "description": "d", "strict": true,
                "inputSchema": {"json": {"type": "object", "properties": {"a": {"type": "number"}}}}}}]},
            "additionalModelResponseFieldPaths": ["/stop_sequence"],
        })
    );
    // Ids of other makers' models go back to them as they are; what has no cache and no schema is not told of any.
    let kimi = sent(Dialect::OpenAiChat, "moonshot.kimi-k2-thinking", &request).unwrap();
    assert_eq!(kimi["messages"][1]["content"][0]["toolUse"]["toolUseId"], "functions.f:0");
    let nova = sent(Dialect::OpenAiChat, NOVA, &request).unwrap();
    assert_eq!(nova["toolConfig"]["tools"][0]["toolSpec"].get("strict"), None);
    assert_eq!(nova.get("additionalModelResponseFieldPaths"), None);
}

#[test]
fn the_choice_of_a_tool_is_told_in_converses_words_or_in_claudes() {
    let choose = |model: &str, choice: Value, parallel: Option<bool>| {
        let mut more = json!({"tools": tools(), "tool_choice": choice});
        if let Some(parallel) = parallel {
            more["parallel_tool_calls"] = parallel.into();
        }
        chat(model, &more)
    };
    let named = json!({"type": "function", "function": {"name": "f"}});
    for (choice, told) in [
        (json!("auto"), json!({"auto": {}})),
        (json!("required"), json!({"any": {}})),
        (named.clone(), json!({"tool": {"name": "f"}})),
    ] {
        for model in [CLAUDE, NOVA] {
            let got = choose(model, choice.clone(), Some(true)).unwrap();
            assert_eq!((&got["toolConfig"]["toolChoice"], got.get("additionalModelRequestFields")), (&told, None));
        }
    }
    let one = choose(CLAUDE, named, Some(false)).unwrap();
    assert_eq!(one["toolConfig"].get("toolChoice"), None);
    let field = json!({"tool_choice": {"type": "tool", "name": "f", "disable_parallel_tool_use": true}});
    assert_eq!(one["additionalModelRequestFields"], field);
    assert_eq!(refused(choose(NOVA, json!("auto"), Some(false))), "parallel_tool_calls");
    // Nothing to call: the model does without.
    for model in [CLAUDE, NOVA] {
        let none = choose(model, json!("none"), Some(false)).unwrap();
        assert_eq!(none, json!({"messages": [{"role": "user", "content": [{"text": "hi"}]}]}));
    }
}

#[test]
fn a_conversation_that_called_something_declares_it_and_forbids_to_call_it_again() {
    let turns = json!([{"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "c", "content": "b"}]);
    for (more, declared) in [
        (json!({}), json!({"type": "object", "properties": {}})),
        (
            json!({"tools": tools(), "tool_choice": "none"}),
            json!({"type": "object", "properties": {"a": {"type": "number"}}}),
        ),
    ] {
        let mut more = more;
        more["messages"] = turns.clone();
        let claude = chat(CLAUDE, &more).unwrap();
        assert_eq!(claude["toolConfig"]["tools"][0]["toolSpec"]["inputSchema"]["json"], declared);
        assert_eq!(claude["toolConfig"].get("toolChoice"), None);
        assert_eq!(claude["additionalModelRequestFields"], json!({"tool_choice": {"type": "none"}}));
        let nova = chat(NOVA, &more).unwrap();
        assert_eq!(nova["toolConfig"]["tools"][0]["toolSpec"]["name"], "f");
        assert_eq!(nova["system"], json!([{"text": "Do not call any tool."}]));
    }
}

#[test]
fn thinking_is_asked_for_as_each_family_takes_it() {
    let fields =
        |model: &str, more: Value| Ok::<_, RequestError>(chat(model, &more)?["additionalModelRequestFields"].clone());
    let effort = json!({"reasoning_effort": "high"});
    let budget = json!({"thinking": {"type": "enabled", "budget_tokens": 16384}});
    assert_eq!(fields(CLAUDE, effort.clone()).unwrap(), budget);
    let adaptive = json!({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}});
    assert_eq!(fields("us.anthropic.claude-sonnet-4-6", effort.clone()).unwrap(), adaptive);
    let nova = json!({"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}});
    assert_eq!(fields(NOVA, effort.clone()).unwrap(), nova);
    assert_eq!(fields("openai.gpt-oss-20b-1:0", effort.clone()).unwrap(), json!({"reasoning_effort": "high"}));
    for model in ["amazon.nova-lite-v1:0", "meta.llama3-1-70b-instruct-v1:0"] {
        assert_eq!(refused(chat(model, &effort)), "reasoning_effort", "{model}");
    }
    for model in [CLAUDE, NOVA, "meta.llama3-1-70b-instruct-v1:0"] {
        assert_eq!(fields(model, json!({"reasoning_effort": "none"})).unwrap(), Value::Null, "{model}");
    }
}

#[test]
fn json_is_held_to_its_schema_where_the_model_can_be_and_asked_for_in_words_elsewhere() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "number"}}, "additionalProperties": false});
    let format = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}});
    let claude = chat(CLAUDE, &format).unwrap();
    let told = &claude["outputConfig"]["textFormat"]["structure"]["jsonSchema"];
    assert_eq!(claude["outputConfig"]["textFormat"]["type"], "json_schema");
    assert_eq!(
        (told["name"].as_str(), serde_json::from_str::<Value>(told["schema"].as_str().unwrap()).unwrap()),
        (Some("n"), schema)
    );
    assert_eq!(claude.get("system"), None);
    for model in [NOVA, "anthropic.claude-3-haiku-20240307-v1:0"] {
        let other = chat(model, &format).unwrap();
        assert_eq!(other.get("outputConfig"), None);
        let said = other["system"][0]["text"].as_str().unwrap();
        assert!(said.contains("JSON Schema") && said.contains("\"additionalProperties\":false"), "{said}");
    }
    let any = chat(CLAUDE, &json!({"response_format": {"type": "json_object"}})).unwrap();
    assert!(any["system"][0]["text"].as_str().unwrap().contains("JSON object"));
}

#[test]
fn what_anthropics_clients_say_of_caches_thoughts_and_documents_arrives() {
    let request = json!({"model": "m", "max_tokens": 9, "top_k": 5,
        "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        "tools": [{"name": "f", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [
                {"type": "document", "title": "Facts", "context": "c", "citations": {"enabled": true},
                    "source": {"type": "text", "media_type": "text/plain", "data": "ab"}},
                {"type": "text", "text": "q", "cache_control": {"type": "ephemeral"}}]},
            {"role": "assistant", "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "thinking", "thinking": "google's", "signature": "gemini:c2ln"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {}}]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "is_error": true, "content": [
                {"type": "text", "text": "no", "cache_control": {"type": "ephemeral"}},
                {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "QUJD"}}]}]}]});
    let got = sent(Dialect::AnthropicMessages, CLAUDE, &request).unwrap();
    let point = json!({"cachePoint": {"type": "default"}});
    assert_eq!(got["system"], json!([{"text": "s"}, {"cachePoint": {"type": "default", "ttl": "1h"}}]));
    assert_eq!(got["toolConfig"]["tools"][1], point);
    assert_eq!(got["additionalModelRequestFields"], json!({"top_k": 5}));
    assert_eq!(
        got["messages"],
        json!([
            {"role": "user", "content": [
                {"document": {"format": "txt", "name": "Facts", "source": {"bytes": "YWI="}, "context": "c", "citations": {"enabled": true}}},
                {"text": "q"}, point]},
            {"role": "assistant", "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
                {"toolUse": {"toolUseId": "t", "name": "f", "input": {}}}]},
            {"role": "user", "content": [
                {"toolResult": {"toolUseId": "t", "status": "error", "content": [
                    {"text": "no"}, {"image": {"format": "webp", "source": {"bytes": "QUJD"}}}]}}, point]}])
    );
    let llama = sent(Dialect::AnthropicMessages, "meta.llama3-1-70b-instruct-v1:0", &{
        let mut plain = request.clone();
        plain.as_object_mut().unwrap().remove("top_k");
        plain
    });
    let llama = llama.unwrap().to_string();
    assert!(!llama.contains("cachePoint") && !llama.contains("reasoningContent"), "{llama}");
    assert_eq!(refused(sent(Dialect::AnthropicMessages, "meta.llama3-1-70b-instruct-v1:0", &request)), "top_k");
    let nova = sent(Dialect::AnthropicMessages, NOVA, &request).unwrap();
    assert_eq!(nova["additionalModelRequestFields"], json!({"inferenceConfig": {"topK": 5}}));
}

#[test]
fn what_converse_cannot_express_is_refused_by_name() {
    let part = |part: Value| json!({"messages": [{"role": "user", "content": [part]}]});
    for (more, param) in [
        (json!({"n": 2}), "n"),
        (json!({"seed": 1}), "seed"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"temperature": 1.5}), "temperature"),
        (json!({"guardrailConfig": {"guardrailIdentifier": "g"}}), "guardrailConfig"),
        (json!({"additionalModelRequestFields": {"max_tokens": 1}}), "additionalModelRequestFields"),
        (json!({"tools": [{"type": "web_search"}]}), "tools[0].type"),
        (
            part(json!({"type": "image_url", "image_url": {"url": "https://example.com/a.png"}})),
            "messages[0].content[0]",
        ),
        (part(json!({"type": "image_url", "image_url": {"url": "s3://bucket/a.png"}})), "messages[0].content[0]"),
        (
            part(json!({"type": "image_url", "image_url": {"url": "data:image/tiff;base64,QUJD"}})),
            "messages[0].content[0]",
        ),
        (part(json!({"type": "file", "file": {"file_id": "f"}})), "messages[0].content[0]"),
        (
            part(json!({"type": "video_url", "video_url": {"url": "data:video/mp4;base64,QUJD"}})),
            "messages[0].content[0].type",
        ),
        (json!({"messages": [{"role": "user", "name": "n", "content": "a"}]}), "messages[0].name"),
    ] {
        assert_eq!(refused(chat(CLAUDE, &more)), param, "{more}");
    }
    assert_eq!(chat(CLAUDE, &json!({"service_tier": "flex"})).unwrap()["serviceTier"], json!({"type": "flex"}));
    let sound = part(json!({"type": "input_audio", "input_audio": {"format": "wav", "data": "QUJD"}}));
    let got = chat("mistral.voxtral-mini-3b-2507", &sound).unwrap();
    assert_eq!(got["messages"][0]["content"][0], json!({"audio": {"format": "wav", "source": {"bytes": "QUJD"}}}));
}

#[test]
fn long_and_odd_ids_stay_apart_and_match_their_results() {
    let long = |end: &str| format!("call_{}{end}", "x".repeat(90));
    let turn = |id: &str| json!({"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}});
    let result = |id: &str| json!({"role": "tool", "tool_call_id": id, "content": "r"});
    let request = json!({"tools": tools(), "messages": [{"role": "user", "content": "a"},
        {"role": "assistant", "tool_calls": [turn(&long("1")), turn(&long("2")), turn("a|b")]},
        result(&long("2")), result(&long("1")), result("a|b")]});
    let got = chat(CLAUDE, &request).unwrap();
    let id =
        |turn: usize, at: usize, kind: &str| got["messages"][turn]["content"][at][kind]["toolUseId"].as_str().unwrap();
    assert_eq!((id(1, 0, "toolUse"), id(1, 1, "toolUse")), (id(2, 1, "toolResult"), id(2, 0, "toolResult")));
    assert_ne!(id(1, 0, "toolUse"), id(1, 1, "toolUse"));
    assert_eq!((id(1, 0, "toolUse").len(), id(1, 2, "toolUse")), (64, "a_124_b"));
}
