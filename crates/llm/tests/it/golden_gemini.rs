//! Translations from and to Google's dialect by example: each snapshot shows what goes in and what must come out.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use llm::passthrough::Edits;
use llm::{Dialect, Options, Translation};
use serde_json::{Value, json};

const GOOGLE: Dialect = Dialect::Gemini;
const OPENAI: Dialect = Dialect::OpenAiChat;
const ANTHROPIC: Dialect = Dialect::AnthropicMessages;

fn between(client: Dialect, provider: Dialect) -> Translation {
    Translation::new(client, provider, Options { now: 1_700_000_000, ..Options::default() }).unwrap()
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

fn stream(client: Dialect, provider: Dialect, events: &[Value]) -> String {
    let framed = events.iter().flat_map(|event| ["data: ".to_owned(), event.to_string(), "\n\n".to_owned()]);
    let text: String = framed.collect();
    let mut stream = between(client, provider).stream(true);
    let mut out = stream.feed(text.as_bytes());
    out.extend(stream.finish(true));
    String::from_utf8(out).unwrap()
}

#[test]
fn an_openai_request_for_gemini() {
    insta::assert_json_snapshot!(request(
        OPENAI,
        GOOGLE,
        &json!({
            "model": "gemini-2.5-flash",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": [
                    {"type": "text", "text": "What is on these?"},
                    {"type": "image_url", "image_url": {"url": "data:image/PNG;base64,AAAA", "detail": "high"}},
                    {"type": "image_url", "image_url": {"url": "https://example.com/cat.webp?x"}},
                    {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBERg=="}}
                ]},
                {"role": "assistant", "content": null, "reasoning_content": "unsigned", "tool_calls": [
                    {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": "{\"at\": 1.50}"},
                        "extra_content": {"google": {"thought_signature": "c2ln"}}},
                    {"id": "call_2", "type": "function", "function": {"name": "wait", "arguments": ""}}
                ]},
                {"role": "tool", "tool_call_id": "call_1", "content": "{\"seen\": \"a cat\"}"},
                {"role": "tool", "tool_call_id": "call_2", "content": "done"},
                {"role": "developer", "content": "Answer in French."}
            ],
            "tools": [
                {"type": "function", "function": {"name": "look", "description": "Looks.", "strict": true,
                    "parameters": {"type": "object", "properties": {"at": {"type": "number"}}, "additionalProperties": false}}},
                {"type": "function", "function": {"name": "wait"}}
            ],
            "tool_choice": {"type": "function", "function": {"name": "look"}},
            "response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
            "max_completion_tokens": 500, "temperature": 0.70, "stop": "END", "user": "u-1", "n": 2, "seed": 7,
            "logprobs": true, "top_logprobs": 3, "presence_penalty": 0.5, "reasoning_effort": "medium", "stream": true
        })
    ));
}

#[test]
fn an_anthropic_request_for_gemini() {
    insta::assert_json_snapshot!(request(
        ANTHROPIC,
        GOOGLE,
        &json!({
            "model": "gemini-3-pro", "max_tokens": 500, "thinking": {"type": "enabled", "budget_tokens": 2000}, "top_k": 5,
            "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
            "messages": [
                {"role": "user", "content": "Look."},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": "Anthropic's", "signature": "ErUB"},
                    {"type": "thinking", "thinking": "", "signature": "gemini:c2ln"},
                    {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}
                ]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "is_error": true, "content": [
                        {"type": "text", "text": "too dark"},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
                    ]},
                    {"type": "text", "text": "Again."}
                ]}
            ],
            "tools": [{"name": "look", "input_schema": {"type": "object"}}], "tool_choice": {"type": "any"}
        })
    ));
}

fn a_gemini_request() -> Value {
    json!({
        "systemInstruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"role": "user", "parts": [
                {"text": "What is on these?"},
                {"inlineData": {"mimeType": "image/png", "data": "AA-_"}},
                {"file_data": {"mime_type": "image/png", "file_uri": "https://example.com/a.png"}}
            ]},
            {"role": "model", "parts": [
                {"text": "thought", "thought": true},
                {"functionCall": {"name": "look", "args": {"at": 1.50}}, "thoughtSignature": "c2ln"},
                {"functionCall": {"name": "look", "args": {"at": 2}}}
            ]},
            {"role": "user", "parts": [
                {"functionResponse": {"name": "look", "response": {"result": "a cat"}}},
                {"functionResponse": {"name": "look", "response": {"seen": ["a dog"]}}}
            ]}
        ],
        "tools": [{"functionDeclarations": [{"name": "look", "description": "Looks.", "parameters": {
            "type": "OBJECT", "properties": {"at": {"type": "NUMBER", "nullable": true}}}}]}],
        "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["look"]}},
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generationConfig": {"maxOutputTokens": 9000, "temperature": 0.70, "topP": 0.9, "stopSequences": ["END"],
            "responseMimeType": "application/json", "responseSchema": {"type": "OBJECT"},
            "responseModalities": ["TEXT"], "thinkingConfig": {"thinkingBudget": 4096, "includeThoughts": true}}
    })
}

#[test]
fn a_gemini_request_for_openai() {
    insta::assert_json_snapshot!(request(GOOGLE, OPENAI, &a_gemini_request()));
}

#[test]
fn a_gemini_request_for_anthropic() {
    let mut body = a_gemini_request();
    body["model"] = "claude-sonnet-4-5".into();
    insta::assert_json_snapshot!(request(GOOGLE, ANTHROPIC, &body));
}

fn a_gemini_answer() -> Value {
    json!({
        "candidates": [{"index": 0, "finishReason": "STOP", "content": {"role": "model", "parts": [
            {"text": "Let me see.", "thought": true},
            {"text": "Looking.", "thoughtSignature": "dGV4dA=="},
            {"functionCall": {"name": "look", "args": {"at": 1.50}}, "thoughtSignature": "c2ln"},
            {"functionCall": {"name": "look", "args": {}}}
        ]}, "groundingMetadata": {"groundingChunks": [{"web": {"uri": "https://example.com", "title": "Example"}}]},
            "logprobsResult": {"chosenCandidates": [{"token": "Look", "logProbability": -0.5}],
                "topCandidates": [{"candidates": [{"token": "Look", "logProbability": -0.5}, {"token": "See", "logProbability": -1.25}]}]}}],
        "usageMetadata": {"promptTokenCount": 20, "cachedContentTokenCount": 8, "candidatesTokenCount": 5, "thoughtsTokenCount": 7,
            "totalTokenCount": 32},
        "modelVersion": "gemini-2.5-flash", "responseId": "r1"
    })
}

#[test]
fn a_gemini_answer_for_an_openai_client() {
    insta::assert_json_snapshot!(response(OPENAI, GOOGLE, &a_gemini_answer()));
}

#[test]
fn a_gemini_answer_for_an_anthropic_client() {
    insta::assert_json_snapshot!(response(ANTHROPIC, GOOGLE, &a_gemini_answer()));
}

#[test]
fn an_anthropic_answer_for_a_gemini_client() {
    insta::assert_json_snapshot!(response(
        GOOGLE,
        ANTHROPIC,
        &json!({
            "id": "m1", "type": "message", "role": "assistant", "model": "claude", "stop_reason": "tool_use", "content": [
                {"type": "thinking", "thinking": "Let me see.", "signature": "ErUB"},
                {"type": "redacted_thinking", "data": "sealed"},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1.50}}
            ],
            "usage": {"input_tokens": 12, "cache_read_input_tokens": 8, "output_tokens": 5}
        })
    ));
}

#[test]
fn a_stream_of_gemini_for_an_openai_client() {
    let part =
        |part: Value| json!({"candidates": [{"content": {"parts": [part]}}], "modelVersion": "g", "responseId": "r1"});
    let last = json!({"candidates": [{"content": {"parts": [{"text": ""}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}});
    insta::assert_snapshot!(stream(
        OPENAI,
        GOOGLE,
        &[
            part(json!({"text": "Hm.", "thought": true})),
            part(json!({"functionCall": {"name": "look", "willContinue": true}, "thoughtSignature": "c2ln"})),
            part(
                json!({"functionCall": {"partialArgs": [{"jsonPath": "$.at", "stringValue": "he"}], "willContinue": true}})
            ),
            part(
                json!({"functionCall": {"partialArgs": [{"jsonPath": "$.at", "stringValue": "re"}], "willContinue": true}})
            ),
            part(json!({"functionCall": {}})),
            last
        ]
    ));
}

#[test]
fn a_stream_of_openai_for_a_gemini_client() {
    let delta = |delta: Value, finish: Value| json!({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]});
    let call = |index: u64, more: Value| {
        let mut call = json!({"index": index, "function": more});
        if call["function"].get("name").is_some() {
            call["id"] = format!("call_{index}").into();
        }
        delta(json!({"tool_calls": [call]}), Value::Null)
    };
    insta::assert_snapshot!(stream(
        GOOGLE,
        OPENAI,
        &[
            delta(json!({"role": "assistant", "content": "Looking."}), Value::Null),
            call(0, json!({"name": "look", "arguments": ""})),
            call(1, json!({"name": "wait", "arguments": "{"})),
            call(0, json!({"arguments": "{\"at\":1.50}"})),
            call(1, json!({"arguments": "}"})),
            delta(json!({}), json!("tool_calls")),
            json!({"id": "c1", "model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 9,
                "completion_tokens_details": {"reasoning_tokens": 4}}})
        ]
    ));
}

#[test]
fn a_blocked_prompt_and_a_filtered_answer_are_refusals() {
    let blocked = json!({"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 3}});
    let answer = response(OPENAI, GOOGLE, &blocked);
    assert_eq!(answer["choices"][0]["finish_reason"], "content_filter");
    assert_eq!(answer["choices"][0]["message"]["refusal"], "The prompt was blocked: SAFETY.");
    let filtered =
        json!({"candidates": [{"content": {"parts": [{"text": "Wel"}]}, "finishReason": "PROHIBITED_CONTENT"}]});
    let answer = response(ANTHROPIC, GOOGLE, &filtered);
    assert_eq!((&answer["stop_reason"], &answer["content"][0]["text"]), (&json!("refusal"), &json!("Wel")));
    let told = stream(ANTHROPIC, GOOGLE, &[blocked]);
    assert!(told.contains("\"stop_reason\":\"refusal\"") && told.contains("message_stop"), "{told}");
    let failed = json!({"candidates": [{"finishReason": "MALFORMED_FUNCTION_CALL", "finishMessage": "f(("}]});
    let error = between(OPENAI, GOOGLE).response(failed.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.to_string(), "The provider reported an error: f((");
}

#[test]
fn what_has_no_word_on_the_other_side_is_refused_by_name() {
    let refused = |client, provider, change: Value| {
        let mut body = match client {
            GOOGLE => json!({"contents": [{"parts": [{"text": "hi"}]}]}),
            _ => json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}],
                "tools": [{"type": "function", "function": {"name": "f"}}]}),
        };
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        request(client, provider, &body).as_str().unwrap_or("taken").to_owned()
    };
    let found: Vec<String> = [
        (GOOGLE, OPENAI, json!({"tools": [{"googleSearch": {}}]})),
        (GOOGLE, ANTHROPIC, json!({"cachedContent": "cachedContents/1"})),
        (GOOGLE, OPENAI, json!({"safetySettings": [{"threshold": "BLOCK_LOW_AND_ABOVE"}]})),
        (GOOGLE, ANTHROPIC, json!({"generationConfig": {"candidateCount": 2}})),
        (GOOGLE, ANTHROPIC, json!({"generationConfig": {"responseModalities": ["IMAGE"]}})),
        (GOOGLE, OPENAI, json!({"contents": [{"parts": [{"executableCode": {}}]}]})),
        (GOOGLE, OPENAI, json!({"contents": [{"parts": [{"text": "a", "videoMetadata": {}}]}]})),
        (
            GOOGLE,
            OPENAI,
            json!({"contents": [{"parts": [{"fileData": {"fileUri": "gs://a/b", "mimeType": "image/png"}}]}]}),
        ),
        (
            GOOGLE,
            OPENAI,
            json!({"toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["a", "b"]}}}),
        ),
        (OPENAI, GOOGLE, json!({"parallel_tool_calls": false})),
        (OPENAI, GOOGLE, json!({"logit_bias": {"1": 2}})),
        (OPENAI, GOOGLE, json!({"messages": [{"role": "tool", "tool_call_id": "x", "content": "y"}]})),
        (OPENAI, ANTHROPIC, json!({"seed": 1})),
    ]
    .into_iter()
    .map(|(client, provider, change)| refused(client, provider, change))
    .collect();
    insta::assert_json_snapshot!(found);
}
