//! What an answer tells, read straight out of the wire of either dialect.

use serde_json::Value;

/// What must be the same in both dialects.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Told {
    pub(crate) text: String,
    pub(crate) thinking: String,
    pub(crate) calls: Vec<Call>,
    /// In OpenAI's words.
    pub(crate) finish: String,
    /// All tokens read, wherever from.
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cached: u64,
    pub(crate) model: String,
    /// How many answers there were.
    pub(crate) answers: usize,
    /// The message of an error.
    pub(crate) error: Option<String>,
    /// Whether it refused in so many words.
    refused: bool,
    /// Whether the stream ended as its dialect ends streams.
    pub(crate) ended: bool,
}

#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// The text of a member; nothing where there is none.
fn text<'v>(of: &'v Value, member: &str) -> &'v str {
    of[member].as_str().unwrap_or_default()
}

fn list(of: &Value) -> &[Value] {
    of.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn number(of: &Value, pointer: &str) -> u64 {
    of.pointer(pointer).and_then(Value::as_u64).unwrap_or_default()
}

/// The first of these that is not zero: providers put the same figure in different places.
fn either(of: &Value, pointers: &[&str]) -> u64 {
    pointers.iter().map(|pointer| number(of, pointer)).find(|count| *count > 0).unwrap_or_default()
}

impl Told {
    /// A complete answer of OpenAI's dialect.
    pub(crate) fn chat(body: &Value) -> Self {
        let mut told =
            Self { answers: list(&body["choices"]).len(), model: text(body, "model").to_owned(), ..Self::default() };
        let choice = &body["choices"][0];
        told.chat_message(&choice["message"]);
        // Some servers fill in calls of nothing.
        told.calls.retain(|call| *call != Call::default());
        told.finish = chat_finish(text(choice, "finish_reason"), &told.calls, told.refused);
        told.chat_usage(&body["usage"]);
        told.error = message_of(body);
        told
    }

    /// A stream of OpenAI's dialect.
    pub(crate) fn chat_stream(body: &[u8]) -> Self {
        let mut told = Self::default();
        for event in events(body) {
            if event == "[DONE]" {
                told.ended = true;
            }
            let Ok(chunk) = serde_json::from_str::<Value>(&event) else { continue };
            told.error = told.error.or(message_of(&chunk));
            for usage in [&chunk["usage"], &chunk["x_groq"]["usage"]] {
                if usage.is_object() {
                    told.chat_usage(usage);
                }
            }
            if told.model.is_empty() {
                text(&chunk, "model").clone_into(&mut told.model);
            }
            for choice in list(&chunk["choices"]) {
                let index = usize::try_from(number(choice, "/index")).unwrap();
                told.answers = told.answers.max(index + 1);
                if index == 0 {
                    told.chat_message(&choice["delta"]);
                    let finish = text(choice, "finish_reason");
                    if told.finish.is_empty() && !finish.is_empty() {
                        finish.clone_into(&mut told.finish);
                    }
                }
            }
        }
        told.finish = chat_finish(&told.finish, &told.calls, told.refused);
        told
    }

    /// A message, or a piece of one.
    fn chat_message(&mut self, message: &Value) {
        match &message["content"] {
            Value::String(content) => self.text.push_str(content),
            content => {
                for part in list(content) {
                    self.text.push_str(text(part, "text"));
                    for thought in list(&part["thinking"]) {
                        self.thinking.push_str(text(thought, "text"));
                    }
                }
            }
        }
        self.text.push_str(text(message, "refusal"));
        self.refused |= !text(message, "refusal").is_empty();
        let plain =
            [text(message, "reasoning_content"), text(message, "reasoning")].into_iter().find(|text| !text.is_empty());
        match plain {
            Some(plain) => self.thinking.push_str(plain),
            None => {
                for detail in list(&message["reasoning_details"]) {
                    self.thinking.push_str(text(detail, "text"));
                    self.thinking.push_str(text(detail, "summary"));
                }
            }
        }
        for (position, call) in list(&message["tool_calls"]).iter().enumerate() {
            let index = call["index"].as_u64().map_or(position, |index| usize::try_from(index).unwrap());
            while self.calls.len() <= index {
                self.calls.push(Call::default());
            }
            let known = &mut self.calls[index];
            if known.id.is_empty() {
                text(call, "id").clone_into(&mut known.id);
            }
            let (function, custom) = (&call["function"], &call["custom"]);
            for name in [text(function, "name"), text(custom, "name")] {
                if known.name.is_empty() {
                    name.clone_into(&mut known.name);
                }
            }
            known.arguments.push_str(text(function, "arguments"));
            if !text(custom, "name").is_empty() {
                // A call with free text has that text as its one argument.
                known.arguments = serde_json::json!({"input": custom["input"]}).to_string();
            }
        }
        let legacy = &message["function_call"];
        if legacy.is_object() {
            let (name, arguments) = (text(legacy, "name").to_owned(), text(legacy, "arguments").to_owned());
            self.calls.push(Call { id: String::new(), name, arguments });
        }
    }

    fn chat_usage(&mut self, usage: &Value) {
        self.input = number(usage, "/prompt_tokens");
        self.output = number(usage, "/completion_tokens");
        let places = [
            "/prompt_tokens_details/cached_tokens",
            "/prompt_cache_hit_tokens",
            "/cached_tokens",
            "/num_cached_tokens",
        ];
        self.cached = either(usage, &places);
    }

    /// A complete answer of Anthropic's dialect.
    pub(crate) fn messages(body: &Value) -> Self {
        let mut told = Self { answers: 1, model: text(body, "model").to_owned(), ..Self::default() };
        for block in list(&body["content"]) {
            told.block(block);
            if block["type"] == "tool_use"
                && let Some(call) = told.calls.last_mut()
            {
                call.arguments = block["input"].to_string();
            }
        }
        told.stop(body);
        told.messages_usage(&body["usage"]);
        told.error = message_of(body);
        told
    }

    /// A stream of Anthropic's dialect.
    pub(crate) fn messages_stream(body: &[u8]) -> Self {
        let mut told = Self { answers: 1, ..Self::default() };
        let mut usage = serde_json::Map::new();
        // Which call the block of an index is.
        let mut blocks: Vec<(u64, usize)> = Vec::new();
        for event in events(body) {
            let Ok(event) = serde_json::from_str::<Value>(&event) else { continue };
            for told in [&event["message"]["usage"], &event["usage"]] {
                usage.extend(told.as_object().cloned().unwrap_or_default());
            }
            match text(&event, "type") {
                "message_start" => text(&event["message"], "model").clone_into(&mut told.model),
                "content_block_start" => {
                    let before = told.calls.len();
                    told.block(&event["content_block"]);
                    if told.calls.len() > before {
                        blocks.push((number(&event, "/index"), before));
                    }
                }
                "content_block_delta" => {
                    let delta = &event["delta"];
                    told.text.push_str(text(delta, "text"));
                    told.thinking.push_str(text(delta, "thinking"));
                    let index = number(&event, "/index");
                    if let Some((_, call)) = blocks.iter().rev().find(|(at, _)| *at == index) {
                        told.calls[*call].arguments.push_str(text(delta, "partial_json"));
                    }
                }
                "message_delta" => told.stop(&event["delta"]),
                "message_stop" => told.ended = true,
                "error" => told.error = message_of(&event),
                _ => {}
            }
        }
        told.messages_usage(&Value::Object(usage));
        told
    }

    /// Why it stopped. What a refusal explains belongs to what was said.
    fn stop(&mut self, of: &Value) {
        self.finish = messages_finish(text(of, "stop_reason"));
        if self.text.is_empty() {
            self.text.push_str(text(&of["stop_details"], "explanation"));
        }
    }

    fn block(&mut self, block: &Value) {
        match text(block, "type") {
            "text" => self.text.push_str(text(block, "text")),
            "thinking" => self.thinking.push_str(text(block, "thinking")),
            "tool_use" => {
                let (id, name) = (text(block, "id").to_owned(), text(block, "name").to_owned());
                self.calls.push(Call { id, name, arguments: String::new() });
            }
            _ => {}
        }
    }

    fn messages_usage(&mut self, usage: &Value) {
        self.cached = number(usage, "/cache_read_input_tokens");
        self.input = number(usage, "/input_tokens") + self.cached + number(usage, "/cache_creation_input_tokens");
        self.output = number(usage, "/output_tokens");
    }

    /// Field by field, what a translation tells differently; empty if nothing.
    pub(crate) fn differences(&self, translated: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut differ = |same: bool, what: &str, this: &dyn std::fmt::Debug, that: &dyn std::fmt::Debug| {
            if !same {
                let short = |value: &dyn std::fmt::Debug| format!("{value:?}").chars().take(90).collect::<String>();
                found.push(format!("{what} {} became {}", short(this), short(that)));
            }
        };
        differ(self.text == translated.text, "text", &self.text, &translated.text);
        differ(self.thinking == translated.thinking, "thinking", &self.thinking, &translated.thinking);
        differ(self.finish == translated.finish, "finish", &self.finish, &translated.finish);
        differ(self.input == translated.input, "input", &self.input, &translated.input);
        differ(self.output == translated.output, "output", &self.output, &translated.output);
        differ(self.cached == translated.cached, "cached", &self.cached, &translated.cached);
        differ(self.model == translated.model, "model", &self.model, &translated.model);
        differ(self.calls.len() == translated.calls.len(), "calls", &self.calls, &translated.calls);
        for (this, that) in self.calls.iter().zip(&translated.calls) {
            // An id the provider left out is made up: Anthropic's SDKs insist on one.
            let made_up = this.id.is_empty() && !that.id.is_empty();
            differ(this.id == that.id || made_up, "call id", &this.id, &that.id);
            differ(this.name == that.name, "call name", &this.name, &that.name);
            let same = arguments(&this.arguments) == arguments(&that.arguments);
            differ(same, "arguments", &this.arguments, &that.arguments);
        }
        found
    }
}

/// Arguments as a value: no arguments are an empty object.
pub(crate) fn arguments(written: &str) -> Value {
    let written = if written.is_empty() { "{}" } else { written };
    serde_json::from_str(written).unwrap_or_else(|_| Value::from(written))
}

/// A provider that names no reason, or one of its own, has stopped, unless it waits for calls. A refusal in words is one.
fn chat_finish(reason: &str, calls: &[Call], refused: bool) -> String {
    match reason {
        "length" | "tool_calls" | "content_filter" => reason,
        "function_call" => "tool_calls",
        "model_length" => "length",
        _ if !calls.is_empty() => "tool_calls",
        _ if refused => "content_filter",
        _ => "stop",
    }
    .to_owned()
}

fn messages_finish(reason: &str) -> String {
    match reason {
        "end_turn" | "stop_sequence" | "pause_turn" => "stop",
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        other => other,
    }
    .to_owned()
}

/// The message of an error answer, in whatever form.
pub(crate) fn message_of(body: &Value) -> Option<String> {
    let body = if body.is_array() { &body[0] } else { body };
    let error = body.get("error").filter(|error| !error.is_null());
    let inner = match error {
        Some(error) => error,
        None if body.get("choices").is_none() && body.get("content").is_none() => body,
        None => return None,
    };
    let places = [inner, &inner["message"], &inner["detail"], &inner["detail"][0]["msg"], &inner["msg"]];
    places.into_iter().find_map(Value::as_str).map(str::to_owned)
}

/// The data of each event of a stream, with any of the three line endings.
pub(crate) fn events(stream: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stream).replace("\r\n", "\n").replace('\r', "\n");
    let data = |event: &str| {
        let lines = event.lines().filter_map(|line| line.strip_prefix("data:"));
        lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n")
    };
    text.split("\n\n").map(data).filter(|data| !data.is_empty()).collect()
}
