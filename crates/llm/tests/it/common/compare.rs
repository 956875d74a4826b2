//! What an answer says, read out of either dialect by means of its own: nothing here uses the translator.
//!
//! Another crate's tests include this file by path; it needs `serde_json` only.
#![allow(dead_code, unreachable_pub, missing_docs, clippy::indexing_slicing)]

use serde_json::Value;

/// What must survive a translation.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Said {
    pub(crate) text: String,
    pub(crate) refusal: String,
    pub(crate) reasoning: String,
    pub(crate) calls: Vec<Call>,
    /// In Anthropic's words.
    pub(crate) stop: String,
    pub(crate) usage: Used,
    pub(crate) model: String,
    pub(crate) error: Option<String>,
    pub(crate) answers: usize,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// Tokens, the input with its cached share. Zero stands for unknown.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write: u64,
    pub(crate) reasoning: u64,
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or("")
}

fn count(value: &Value, path: &[&str]) -> u64 {
    path.iter().try_fold(value, |value, key| value.get(key)).and_then(Value::as_u64).unwrap_or(0)
}

fn first(value: &Value, paths: &[&[&str]]) -> u64 {
    paths.iter().map(|path| count(value, path)).find(|count| *count > 0).unwrap_or(0)
}

impl Used {
    pub(crate) fn openai(usage: &Value) -> Self {
        Self {
            input: count(usage, &["prompt_tokens"]),
            output: count(usage, &["completion_tokens"]),
            cache_read: first(
                usage,
                &[
                    &["prompt_tokens_details", "cached_tokens"],
                    &["prompt_cache_hit_tokens"],
                    &["cache_read_input_tokens"],
                    &["cached_tokens"],
                    &["num_cached_tokens"],
                ],
            ),
            cache_write: first(
                usage,
                &[&["prompt_tokens_details", "cache_write_tokens"], &["cache_creation_input_tokens"]],
            ),
            reasoning: first(usage, &[&["completion_tokens_details", "reasoning_tokens"], &["reasoning_tokens"]]),
        }
    }

    /// What a piece tells, over what was told before.
    pub(crate) fn gemini(usage: &Value, before: Self) -> Self {
        let over = |now: u64, then: u64| if now > 0 { now } else { then };
        let output = count(usage, &["candidatesTokenCount"]) + count(usage, &["thoughtsTokenCount"]);
        let input = count(usage, &["promptTokenCount"]) + count(usage, &["toolUsePromptTokenCount"]);
        Self {
            input: over(input, before.input),
            output: over(output, before.output),
            cache_read: over(count(usage, &["cachedContentTokenCount"]), before.cache_read),
            cache_write: 0,
            reasoning: over(count(usage, &["thoughtsTokenCount"]), before.reasoning),
        }
    }

    pub(crate) fn anthropic(usage: &Value) -> Self {
        let cache_read = count(usage, &["cache_read_input_tokens"]);
        let cache_write = count(usage, &["cache_creation_input_tokens"]);
        Self {
            input: count(usage, &["input_tokens"]) + cache_read + cache_write,
            output: count(usage, &["output_tokens"]),
            cache_read,
            cache_write,
            reasoning: count(usage, &["output_tokens_details", "thinking_tokens"]),
        }
    }
}

/// Read one or more pieces of an answer of Gemini's: a whole answer is one piece.
pub(crate) fn gemini(pieces: &[Value]) -> Said {
    let mut said = Said { stop: "end_turn".to_owned(), ..Said::default() };
    let mut partial: Vec<(String, String)> = Vec::new();
    for piece in pieces {
        if let Some(error) = piece.get("error") {
            said.error = Some(text(error, "message").to_owned());
        }
        if said.model.is_empty() {
            text(piece, "modelVersion").clone_into(&mut said.model);
        }
        said.usage = Used::gemini(&piece["usageMetadata"], said.usage);
        for candidate in piece["candidates"].as_array().into_iter().flatten() {
            let index = count(candidate, &["index"]);
            said.answers = said.answers.max(usize::try_from(index).unwrap_or(0) + 1);
            if index > 0 {
                continue;
            }
            for part in candidate["content"]["parts"].as_array().into_iter().flatten() {
                if part["thought"] == true {
                    said.reasoning.push_str(text(part, "text"));
                } else {
                    said.text.push_str(text(part, "text"));
                }
                gemini_call(&part["functionCall"], &mut said, &mut partial);
            }
            if candidate["finishReason"] == "MAX_TOKENS" {
                "max_tokens".clone_into(&mut said.stop);
            } else if candidate["finishReason"] == "SAFETY" {
                "refusal".clone_into(&mut said.stop);
                text(candidate, "finishMessage").clone_into(&mut said.refusal);
            }
        }
    }
    if !said.calls.is_empty() && said.stop == "end_turn" {
        "tool_use".clone_into(&mut said.stop);
    }
    said
}

/// A call, or more of the last one: the recordings' pieces are texts, one member deep.
fn gemini_call(call: &Value, said: &mut Said, partial: &mut Vec<(String, String)>) {
    let Some(members) = call.as_object() else { return };
    if let Some(name) = members.get("name").and_then(Value::as_str) {
        partial.clear();
        let arguments = members.get("args").map_or_else(|| "{}".to_owned(), Value::to_string);
        said.calls.push(Call { id: text(call, "id").to_owned(), name: name.to_owned(), arguments });
    }
    for piece in members.get("partialArgs").and_then(Value::as_array).into_iter().flatten() {
        let name = text(piece, "jsonPath").trim_start_matches("$.").to_owned();
        match partial.iter_mut().find(|(known, _)| *known == name) {
            Some((_, value)) => value.push_str(text(piece, "stringValue")),
            None => partial.push((name, text(piece, "stringValue").to_owned())),
        }
        let whole: serde_json::Map<String, Value> =
            partial.iter().map(|(name, value)| (name.clone(), Value::from(value.clone()))).collect();
        if let Some(last) = said.calls.last_mut() {
            last.arguments = Value::Object(whole).to_string();
        }
    }
}

/// Read an answer of OpenAI's dialect.
pub(crate) fn openai(body: &Value) -> Said {
    let choices = body["choices"].as_array().cloned().unwrap_or_default();
    let choice = choices.first().cloned().unwrap_or_default();
    let message = &choice["message"];
    let mut said = Said {
        refusal: text(message, "refusal").to_owned(),
        stop: openai_stop(text(&choice, "finish_reason")).to_owned(),
        usage: Used::openai(&body["usage"]),
        model: text(body, "model").to_owned(),
        answers: choices.len(),
        ..Said::default()
    };
    openai_content(&message["content"], &mut said);
    openai_reasoning(message, &mut said);
    for call in message["tool_calls"].as_array().into_iter().flatten() {
        said.calls.push(openai_call(call));
    }
    if !text(&message["function_call"], "name").is_empty() {
        let call = &message["function_call"];
        said.calls.push(Call {
            id: String::new(),
            name: text(call, "name").to_owned(),
            arguments: text(call, "arguments").to_owned(),
        });
    }
    said.error = body.get("error").map(|error| text(error, "message").to_owned());
    said
}

fn openai_call(call: &Value) -> Call {
    let custom = &call["custom"];
    let name = text(&call["function"], "name");
    let arguments = match custom.get("input") {
        Some(input) if name.is_empty() || call["function"].get("arguments").is_none() => {
            serde_json::json!({ "input": input }).to_string()
        }
        _ => text(&call["function"], "arguments").to_owned(),
    };
    Call {
        id: text(call, "id").to_owned(),
        name: if name.is_empty() { text(custom, "name") } else { name }.to_owned(),
        arguments,
    }
}

fn openai_content(content: &Value, said: &mut Said) {
    if let Some(text) = content.as_str() {
        said.text.push_str(text);
    }
    for piece in content.as_array().into_iter().flatten() {
        said.text.push_str(text(piece, "text"));
        for thought in piece["thinking"].as_array().into_iter().flatten() {
            said.reasoning.push_str(text(thought, "text"));
        }
    }
}

fn openai_reasoning(message: &Value, said: &mut Said) {
    let plain = ["reasoning_content", "reasoning"].iter().map(|key| text(message, key)).find(|text| !text.is_empty());
    if let Some(plain) = plain {
        said.reasoning.push_str(plain);
        return;
    }
    for detail in message["reasoning_details"].as_array().into_iter().flatten() {
        said.reasoning.push_str(text(detail, "text"));
        said.reasoning.push_str(text(detail, "summary"));
    }
}

fn openai_stop(reason: &str) -> &'static str {
    match reason {
        "length" | "model_length" => "max_tokens",
        "tool_calls" | "function_call" => "tool_use",
        "content_filter" => "refusal",
        _ => "end_turn",
    }
}

/// Read an answer of Anthropic's dialect.
pub(crate) fn anthropic(body: &Value) -> Said {
    let mut said = Said {
        stop: text(body, "stop_reason").to_owned(),
        usage: Used::anthropic(&body["usage"]),
        model: text(body, "model").to_owned(),
        refusal: text(&body["stop_details"], "explanation").to_owned(),
        answers: 1,
        ..Said::default()
    };
    for block in body["content"].as_array().into_iter().flatten() {
        match text(block, "type") {
            "text" => said.text.push_str(text(block, "text")),
            "thinking" => said.reasoning.push_str(text(block, "thinking")),
            "tool_use" => said.calls.push(Call {
                id: text(block, "id").to_owned(),
                name: text(block, "name").to_owned(),
                arguments: block["input"].to_string(),
            }),
            _ => {}
        }
    }
    said.error = body.get("error").map(|error| text(error, "message").to_owned());
    said
}

/// The JSON payloads of an event stream.
pub(crate) fn payloads(stream: &str) -> Vec<Value> {
    let normal = stream.replace("\r\n", "\n").replace('\r', "\n");
    let events = normal.split("\n\n").map(|event| {
        let data = event
            .lines()
            .filter_map(|line| line.strip_prefix("data:"))
            .map(|data| data.strip_prefix(' ').unwrap_or(data));
        data.collect::<Vec<_>>().join("\n")
    });
    events.filter_map(|data| serde_json::from_str(&data).ok()).collect()
}

/// Read a stream of OpenAI's dialect.
pub(crate) fn openai_stream(stream: &str) -> Said {
    let mut said = Said::default();
    let mut calls: Vec<(u64, Call)> = Vec::new();
    for chunk in payloads(stream) {
        if let Some(error) = chunk.get("error") {
            said.error = Some(text(error, "message").to_owned());
        }
        let usage = if chunk["usage"].is_object() { &chunk["usage"] } else { &chunk["x_groq"]["usage"] };
        if usage.is_object() {
            said.usage = Used::openai(usage);
        }
        if said.model.is_empty() {
            text(&chunk, "model").clone_into(&mut said.model);
        }
        for choice in chunk["choices"].as_array().into_iter().flatten() {
            let index = count(choice, &["index"]);
            said.answers = said.answers.max(usize::try_from(index).unwrap_or(0) + 1);
            if index > 0 {
                continue;
            }
            let delta = &choice["delta"];
            openai_content(&delta["content"], &mut said);
            openai_reasoning(delta, &mut said);
            said.refusal.push_str(text(delta, "refusal"));
            for (position, call) in delta["tool_calls"].as_array().into_iter().flatten().enumerate() {
                let wire = call["index"].as_u64().unwrap_or(position as u64);
                let part = openai_call(call);
                match calls.iter_mut().find(|(index, _)| *index == wire) {
                    Some((_, known)) => known.arguments.push_str(&part.arguments),
                    None => calls.push((wire, part)),
                }
            }
            let reason = text(choice, "finish_reason");
            if !reason.is_empty() && said.stop.is_empty() {
                openai_stop(reason).clone_into(&mut said.stop);
            }
        }
    }
    said.calls = calls.into_iter().map(|(_, call)| call).collect();
    said
}

/// Read a stream of Anthropic's dialect, up to its first `message_stop`.
pub(crate) fn anthropic_stream(stream: &str) -> Said {
    let mut said = Said { answers: 1, ..Said::default() };
    let mut usage = serde_json::Map::new();
    let mut blocks: Vec<(u64, Option<Call>, String)> = Vec::new();
    for event in payloads(stream) {
        if said.model.is_empty() {
            text(&event["message"], "model").clone_into(&mut said.model);
        }
        let told = if event["usage"].is_object() { &event["usage"] } else { &event["message"]["usage"] };
        usage.extend(told.as_object().cloned().unwrap_or_default());
        let index = count(&event, &["index"]);
        match text(&event, "type") {
            "content_block_start" => {
                let block = &event["content_block"];
                said.text.push_str(text(block, "text"));
                said.reasoning.push_str(text(block, "thinking"));
                let call = (text(block, "type") == "tool_use").then(|| Call {
                    id: text(block, "id").to_owned(),
                    name: text(block, "name").to_owned(),
                    arguments: String::new(),
                });
                blocks.push((index, call, block["input"].to_string()));
            }
            "content_block_delta" => {
                let delta = &event["delta"];
                said.text.push_str(text(delta, "text"));
                said.reasoning.push_str(text(delta, "thinking"));
                if let Some((_, Some(call), _)) = blocks.iter_mut().rev().find(|(at, ..)| *at == index) {
                    call.arguments.push_str(text(delta, "partial_json"));
                }
            }
            "message_delta" => {
                text(&event["delta"], "stop_reason").clone_into(&mut said.stop);
                text(&event["delta"]["stop_details"], "explanation").clone_into(&mut said.refusal);
            }
            "error" => said.error = Some(text(&event["error"], "message").to_owned()),
            "message_stop" => break,
            _ => {}
        }
    }
    for (_, call, initial) in blocks {
        if let Some(mut call) = call {
            if call.arguments.is_empty() {
                call.arguments = initial;
            }
            said.calls.push(call);
        }
    }
    said.usage = Used::anthropic(&Value::Object(usage));
    said
}

/// Read an answer of OpenAI's Responses API.
pub(crate) fn responses(body: &Value) -> Said {
    let usage = &body["usage"];
    let mut said = Said {
        stop: match (text(body, "status"), text(&body["incomplete_details"], "reason")) {
            ("incomplete", "content_filter") => "refusal",
            ("incomplete", _) => "max_tokens",
            _ => "end_turn",
        }
        .to_owned(),
        usage: Used {
            input: count(usage, &["input_tokens"]),
            output: count(usage, &["output_tokens"]),
            cache_read: count(usage, &["input_tokens_details", "cached_tokens"]),
            cache_write: count(usage, &["input_tokens_details", "cache_write_tokens"]),
            reasoning: count(usage, &["output_tokens_details", "reasoning_tokens"]),
        },
        model: text(body, "model").to_owned(),
        answers: 1,
        ..Said::default()
    };
    for item in body["output"].as_array().into_iter().flatten() {
        responses_item(item, &mut said);
    }
    if !said.calls.is_empty() && said.stop == "end_turn" {
        "tool_use".clone_into(&mut said.stop);
    }
    said.error = body.get("error").filter(|error| !error.is_null()).map(|error| match error.as_str() {
        Some(message) => message.to_owned(),
        None => text(error, "message").to_owned(),
    });
    said
}

fn responses_item(item: &Value, said: &mut Said) {
    let texts = |name: &str| -> Vec<String> {
        item[name].as_array().into_iter().flatten().map(|piece| text(piece, "text").to_owned()).collect()
    };
    match text(item, "type") {
        "message" => {
            said.text.push_str(&texts("content").concat());
            for part in item["content"].as_array().into_iter().flatten() {
                said.refusal.push_str(text(part, "refusal"));
            }
        }
        "reasoning" => {
            let told = texts("content").concat();
            said.reasoning.push_str(&if told.is_empty() { texts("summary").join("\n\n") } else { told });
        }
        "function_call" => said.calls.push(Call {
            id: text(item, "call_id").to_owned(),
            name: text(item, "name").to_owned(),
            arguments: text(item, "arguments").to_owned(),
        }),
        "custom_tool_call" => said.calls.push(Call {
            id: text(item, "call_id").to_owned(),
            name: text(item, "name").to_owned(),
            arguments: serde_json::json!({ "input": text(item, "input") }).to_string(),
        }),
        _ => {}
    }
}

/// Read a stream of the Responses API: the items as each is told whole, the rest from its last event.
pub(crate) fn responses_stream(stream: &str) -> Said {
    let events = payloads(stream);
    let of = |kinds: &[&str]| events.iter().filter(|event| kinds.contains(&text(event, "type"))).collect::<Vec<_>>();
    let mut last = of(&["response.completed", "response.incomplete", "response.failed"])
        .last()
        .map(|event| event["response"].clone())
        .unwrap_or_default();
    let items: Vec<Value> = of(&["response.output_item.done"]).iter().map(|event| event["item"].clone()).collect();
    if !items.is_empty() {
        last["output"] = Value::Array(items);
    }
    let mut said = responses(&last);
    if let Some(event) = of(&["error"]).first() {
        let error = if event["error"].is_object() { &event["error"] } else { *event };
        said.error = Some(text(error, "message").to_owned());
    }
    said
}

/// What is wrong with a stream of the Responses API: its numbers, and whether the pieces of each item are what the item
/// and the last event say. `None` if nothing.
pub(crate) fn responses_fault(stream: &str) -> Option<String> {
    let events = payloads(stream);
    let mut pieces: std::collections::BTreeMap<String, String> = std::collections::BTreeMap::new();
    let mut items: Vec<Value> = Vec::new();
    for (number, event) in events.iter().enumerate() {
        if count(event, &["sequence_number"]) != number as u64 {
            return Some(format!("event {number} is numbered {}", event["sequence_number"]));
        }
        let kind = text(event, "type");
        let (item, part) = (text(event, "item_id"), event["content_index"].to_string());
        let place = format!("{item} {part}");
        if kind.strip_suffix(".delta").is_some() {
            pieces.entry(place).or_default().push_str(text(event, "delta"));
            continue;
        }
        let whole = ["text", "refusal", "arguments", "input"].iter().find_map(|name| event[*name].as_str());
        if let Some(whole) = whole.filter(|_| kind.strip_suffix(".done").is_some()) {
            let known = pieces.get(&place).cloned().unwrap_or_default();
            if known != whole && !(known.is_empty() && whole == "{}") {
                return Some(format!("{kind} says {whole:?} after {known:?}"));
            }
        }
        match kind {
            "response.output_item.added" => {
                if count(event, &["output_index"]) != items.len() as u64 || event["item"]["id"].as_str().is_none() {
                    return Some(format!("{event}"));
                }
                items.push(Value::Null);
            }
            "response.output_item.done" => {
                let at = usize::try_from(count(event, &["output_index"])).ok()?;
                let Some(slot) = items.get_mut(at) else { return Some(format!("{event}")) };
                *slot = event["item"].clone();
            }
            "response.completed" | "response.incomplete" => {
                if event["response"]["output"] != Value::Array(items.clone()) {
                    return Some(format!("the last event says {} of {items:?}", event["response"]["output"]));
                }
                return (number + 1 != events.len()).then(|| "more after the last event".to_owned());
            }
            _ => {}
        }
    }
    Some("there is no last event".to_owned())
}

/// Where `translated` says something else than `original`; `None` if nowhere. Allowed: a provider's empty or
/// missing call id may have been made up, arguments that are not JSON stand under `INVALID_JSON`, a turn with calls
/// waits for them whatever its provider called it, a refusal in words is a refusal, and stop sequences have no name
/// of their own in OpenAI's dialect.
pub(crate) fn difference(original: &Said, translated: &Said) -> Option<String> {
    let differ =
        |what: &str, a: &dyn std::fmt::Debug, b: &dyn std::fmt::Debug| Some(format!("{what}: {a:?} became {b:?}"));
    let spoken = |said: &Said| said.text.clone() + &said.refusal;
    if original.text != translated.text && spoken(original) != spoken(translated) {
        return differ("text", &original.text, &translated.text);
    }
    if original.reasoning != translated.reasoning {
        return differ("reasoning", &original.reasoning, &translated.reasoning);
    }
    if original.calls.len() != translated.calls.len() {
        return differ("calls", &original.calls, &translated.calls);
    }
    for (a, b) in original.calls.iter().zip(&translated.calls) {
        if a.name != b.name || (!a.id.is_empty() && a.id != b.id) || b.id.is_empty() {
            return differ("call", a, b);
        }
        if !same_arguments(&a.arguments, &b.arguments) {
            return differ("arguments", &a.arguments, &b.arguments);
        }
    }
    if stop_of(original) != stop_of(translated) {
        return differ("stop", &original.stop, &translated.stop);
    }
    let cached = original.usage.cache_read + original.usage.cache_write;
    let apart = compare_apart(&original.usage, cached);
    if original.usage != translated.usage && apart != Some(translated.usage) {
        return differ("usage", &original.usage, &translated.usage);
    }
    if original.model != translated.model {
        return differ("model", &original.model, &translated.model);
    }
    None
}

/// What becomes of counts that cannot all be parts of the input: a cached share that is larger stands apart, and
/// tokens told as both read and written count once.
fn compare_apart(usage: &Used, cached: u64) -> Option<Used> {
    if cached <= usage.input {
        return None;
    }
    let within = usage.cache_read <= usage.input && usage.cache_write <= usage.input;
    Some(if within {
        Used { cache_write: usage.input - usage.cache_read, ..*usage }
    } else {
        Used { input: usage.input + cached, ..*usage }
    })
}

fn same_arguments(a: &str, b: &str) -> bool {
    let read = |text: &str| serde_json::from_str::<Value>(if text.trim().is_empty() { "{}" } else { text }).ok();
    let wrapped = |value: Option<Value>, text: &str| value.is_some_and(|value| value["INVALID_JSON"] == text.trim());
    match (read(a), read(b)) {
        (Some(a), Some(b)) if a == b => true,
        (None, None) => a == b,
        (one, other) => wrapped(other, a) || wrapped(one, b),
    }
}

fn stop_of(said: &Said) -> &str {
    match said.stop.as_str() {
        "stop_sequence" | "pause_turn" | "end_turn" if !said.refusal.is_empty() => "refusal",
        "stop_sequence" | "pause_turn" | "end_turn" if !said.calls.is_empty() => "tool_use",
        "stop_sequence" | "pause_turn" | "" => "end_turn",
        "model_context_window_exceeded" => "max_tokens",
        other => other,
    }
}
