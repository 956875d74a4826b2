//! A canonical request as Anthropic's.

use super::INVALID_JSON;
use crate::json::{Array, Limits, Object, array, node, object};
use crate::model::{
    Body, Extra, GEMINI_SIGNATURE, Json, Message, OPENAI_SIGNATURE, Output, Part, Reasoning, Request, Role, Source,
    Tool, ToolChoice,
};
use crate::{Dialect, RequestError};

/// What the model is told where JSON is asked for without a schema.
const JSON_ONLY: &str = "Answer with one valid JSON object and nothing else.";

/// Fewest tokens Anthropic takes as a thinking budget.
const LEAST_BUDGET: u64 = 1024;

/// `request` as the body of `POST /v1/messages`. `max_output_tokens` must be set.
pub(crate) fn request(request: &Request) -> Result<String, RequestError> {
    let native = request.dialect == Dialect::AnthropicMessages;
    if !native {
        request.extra.iter().try_for_each(|extra| neutral(extra, "").map(drop))?;
    }
    if let Some((openai, gemini)) = request.sampling.asks() {
        return Err(RequestError::unsupported(request.called(openai, gemini), "Anthropic has no such member"));
    }
    if !native && matches!(request.tool_choice, Some(ToolChoice::Other(_))) {
        let name = request.called("tool_choice", "toolConfig");
        return Err(RequestError::unsupported(name, "auto, none, required or one function"));
    }
    let Some(max_tokens) = request.max_output_tokens else {
        return Err(RequestError::missing("max_tokens"));
    };
    if request.temperature.as_ref().and_then(Json::as_f64).is_some_and(|value| value > 1.0) {
        return Err(RequestError::unsupported("temperature", "it takes 0 to 1"));
    }
    let system = system(request)?;
    let messages = messages(request)?;
    let tools = tools(request)?;
    let has = |name: &str| native && request.extra.iter().any(|extra| extra.name == name);
    let thinking = if has("thinking") { Thinking::default() } else { thinking(request, max_tokens)? };
    Ok(object(|o| {
        o.text("model", &request.model);
        o.number("max_tokens", max_tokens);
        if let Some(system) = &system {
            o.raw("system", system);
        }
        o.raw("messages", &messages);
        if let Some(tools) = &tools {
            o.raw("tools", tools);
            tool_choice(o, request);
        }
        if let Some(temperature) = &request.temperature {
            o.raw("temperature", temperature.as_str());
        }
        if let Some(top_p) = &request.top_p {
            o.raw("top_p", top_p.as_str());
        }
        o.maybe_number("top_k", request.top_k);
        if !request.stop.is_empty() {
            o.array("stop_sequences", |a| request.stop.iter().for_each(|stop| a.text(stop)));
        }
        thinking.write(o);
        if !has("output_config") {
            output_config(o, request, thinking.effort.as_deref(), has("output_format"));
        }
        if let Some(user) = &request.user {
            o.object("metadata", |o| o.text("user_id", user));
        }
        if request.stream {
            o.boolean("stream", true);
        }
        if native {
            for extra in &request.extra {
                o.raw(&extra.name, extra.value.as_str());
            }
        }
    }))
}

/// Whether a member that Anthropic does not have may be left out: it asks for nothing, or is only a hint.
fn neutral(extra: &Extra, path: &str) -> Result<(), RequestError> {
    let value = extra.value.as_str();
    let zero = || extra.value.as_f64() == Some(0.0);
    let fine = value == "null"
        || match extra.name.as_str() {
            "metadata" | "prompt_cache_key" | "prompt_cache_retention" | "prediction" | "usage"
            // These are read into the canonical model where they came in.
            | "reasoning" | "thinking" | "enable_thinking" | "include_reasoning" | "safety_identifier" => true,
            "store" | "echo" | "clear_thinking" => value == "false",
            "service_tier" => matches!(value, r#""auto""# | r#""default""#),
            "verbosity" => value == r#""medium""#,
            "modalities" => node(value, &Limits::REQUEST)
                .is_ok_and(|list| list.items().iter().all(|item| item.text().is_some_and(|text| text == "text"))),
            "best_of" => value == "1",
            "repetition_penalty" => extra.value.as_f64() == Some(1.0),
            "min_p" => zero(),
            "logit_bias" | "functions" => {
                node(value, &Limits::REQUEST).is_ok_and(|v| v.members().is_empty() && v.items().is_empty())
            }
            _ => false,
        };
    if fine {
        Ok(())
    } else {
        Err(RequestError::unsupported(format!("{path}{}", extra.name), "Anthropic has no such member"))
    }
}

fn is_instruction(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

fn system(request: &Request) -> Result<Option<String>, RequestError> {
    let mut parts: Vec<(String, &Part)> = Vec::new();
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| is_instruction(message)) {
        message_extras(request, message, i)?;
        let texts = message.parts.iter().enumerate().map(|(j, part)| (format!("{}[{j}]", request.path(i)), part));
        parts.extend(texts.filter(|(_, part)| !matches!(&part.body, Body::Text(text) if text.is_empty())));
    }
    let json_only = Part::text(JSON_ONLY);
    if request.output == Output::JsonObject {
        parts.push((String::new(), &json_only));
    }
    if let [(_, Part { body: Body::Text(text), cache_control: None, .. })] = parts.as_slice() {
        return Ok(Some(crate::json::quoted(text)));
    }
    if parts.is_empty() {
        return Ok(None);
    }
    for (path, part) in &parts {
        if !matches!(part.body, Body::Text(_)) {
            return Err(RequestError::unsupported(path.as_str(), "instructions are text"));
        }
    }
    Ok(Some(array(|a| parts.iter().for_each(|(_, part)| block(a, part)))))
}

/// Everything but the instructions. Messages that follow one another with tool results are one message.
fn messages(request: &Request) -> Result<String, RequestError> {
    let mut turns: Vec<(Role, Vec<&Part>)> = Vec::new();
    let last = request.messages.len().saturating_sub(1);
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| !is_instruction(message)) {
        message_extras(request, message, i)?;
        let prefix = message.extra.iter().any(|extra| extra.name == "prefix" && extra.value.as_str() == "true");
        if prefix && (i != last || message.role != Role::Assistant) {
            return Err(RequestError::unsupported(format!("messages[{i}].prefix"), "only the last message can be one"));
        }
        let mut kept = Vec::new();
        for (j, part) in message.parts.iter().enumerate() {
            if let Some(part) = supported(request, message, part, &format!("{}[{j}]", request.path(i)))? {
                kept.push(part);
            }
        }
        // Anthropic refuses an empty text beside other blocks.
        if kept.len() > 1 {
            kept.retain(|part| !matches!(&part.body, Body::Text(text) if text.is_empty()));
        }
        let result = |part: &&Part| matches!(part.body, Body::ToolResult { .. });
        match turns.last_mut() {
            Some((Role::User, parts)) if message.role == Role::User && parts.first().is_some_and(result) => {
                parts.extend(kept);
            }
            _ => turns.push((message.role, kept)),
        }
    }
    for (_, parts) in &mut turns {
        // Results must come first in the turn that answers the calls.
        parts.sort_by_key(|part| !matches!(part.body, Body::ToolResult { .. }));
    }
    Ok(array(|a| {
        for (role, parts) in &turns {
            a.object(|o| {
                o.text("role", if *role == Role::Assistant { "assistant" } else { "user" });
                content(o, parts);
            });
        }
    }))
}

fn message_extras(request: &Request, message: &Message, index: usize) -> Result<(), RequestError> {
    let path = format!("messages[{index}].");
    if message.name.is_some() {
        return Err(RequestError::unsupported(format!("{path}name"), "Anthropic's messages have no names"));
    }
    if request.dialect == Dialect::AnthropicMessages {
        return Ok(());
    }
    for extra in &message.extra {
        let hint = matches!(
            extra.name.as_str(),
            "prefix" | "annotations" | "provider_metadata" | "extra_content" | "index" | "padding" | "provider_content"
        );
        if !hint {
            neutral(extra, &path)?;
        }
    }
    Ok(())
}

/// The part, `None` if it is one Anthropic does without, or the reason why it cannot be sent.
fn supported<'a>(
    request: &Request,
    message: &Message,
    part: &'a Part,
    path: &str,
) -> Result<Option<&'a Part>, RequestError> {
    let native = request.dialect == Dialect::AnthropicMessages;
    if !native {
        part.extra.iter().filter(|e| e.name != "detail").try_for_each(|extra| neutral(extra, &format!("{path}.")))?;
    }
    let refuse = |what: &str, why| Err(RequestError::unsupported(format!("{path}{what}"), why));
    match &part.body {
        Body::Thinking { signature: None, .. } => return Ok(None),
        // Only its maker takes it back.
        Body::Thinking { signature: Some(signature), .. }
            if signature.starts_with(GEMINI_SIGNATURE) || signature.starts_with(OPENAI_SIGNATURE) =>
        {
            return Ok(None);
        }
        Body::Other { kind, .. } if !native => return refuse(&request.kind_of(kind), "Anthropic has no such part"),
        Body::Audio { .. } => return refuse(&request.kind_of("inlineData"), "Anthropic takes no audio"),
        Body::Image(source) | Body::Document { source, .. } => match source {
            Source::File(_) if !native => return refuse("", "a stored file lives at one provider only"),
            Source::Base64 { media_type, .. }
                if matches!(part.body, Body::Document { .. }) && media_type != "application/pdf" =>
            {
                return refuse(".file", "documents are PDF or plain text");
            }
            _ => {}
        },
        Body::ToolResult { parts, .. } => {
            for (i, inner) in parts.iter().enumerate() {
                supported(request, message, inner, &format!("{path}.content[{i}]"))?;
            }
        }
        Body::ToolCall(_) if message.role != Role::Assistant => return refuse("", "only the assistant calls tools"),
        _ => {}
    }
    Ok(Some(part))
}

/// `content`: text alone as a string, anything else as blocks.
fn content(o: &mut Object<'_>, parts: &[&Part]) {
    match parts {
        [] => o.text("content", ""),
        [Part { body: Body::Text(text), cache_control: None, extra, .. }] if extra.is_empty() => {
            o.text("content", text);
        }
        _ => o.array("content", |a| parts.iter().for_each(|part| block(a, part))),
    }
}

fn block(a: &mut Array<'_>, part: &Part) {
    if let Body::Other { raw, .. } = &part.body {
        a.raw(raw.as_str());
        return;
    }
    a.object(|o| {
        match &part.body {
            Body::Text(text) | Body::Refusal(text) => {
                o.text("type", "text");
                o.text("text", text);
            }
            Body::Image(at) => {
                o.text("type", "image");
                o.object("source", |o| source(o, at));
            }
            Body::Document { source: at, title } => {
                o.text("type", "document");
                o.object("source", |o| source(o, at));
                o.maybe_text("title", title.as_deref());
            }
            Body::ToolCall(call) => {
                o.text("type", "tool_use");
                o.text("id", &tool_id(&call.id));
                o.text("name", &call.name);
                o.raw("input", &input(&call.arguments));
            }
            Body::ToolResult { call, parts, is_error } => {
                o.text("type", "tool_result");
                o.text("tool_use_id", &tool_id(call));
                content(o, &parts.iter().collect::<Vec<_>>());
                if *is_error {
                    o.boolean("is_error", true);
                }
            }
            Body::Thinking { text, signature } => {
                o.text("type", "thinking");
                o.text("thinking", text);
                o.text("signature", signature.as_deref().unwrap_or_default());
            }
            Body::RedactedThinking(data) => {
                o.text("type", "redacted_thinking");
                o.text("data", data);
            }
            Body::Audio { .. } | Body::Other { .. } => {}
        }
        if let Some(cache) = &part.cache_control {
            o.raw("cache_control", cache.as_str());
        }
        for extra in part.extra.iter().filter(|extra| extra.name != "detail") {
            o.raw(&extra.name, extra.value.as_str());
        }
    });
}

/// A call's id as Anthropic takes it: letters, digits, `_` and `-`. Ids of other providers
/// (`functions.weather:0`) have more; each such character becomes its code, so that two ids stay two.
fn tool_id(id: &str) -> String {
    id.chars().fold(String::with_capacity(id.len()), |mut out, c| {
        if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') {
            out.push(c);
        } else {
            out.extend(["_", &u32::from(c).to_string(), "_"]);
        }
        out
    })
}

fn source(o: &mut Object<'_>, source: &Source) {
    match source {
        Source::Base64 { media_type, data } => {
            o.text("type", "base64");
            o.text("media_type", media_type);
            o.text("data", data);
        }
        Source::Url(url) => {
            o.text("type", "url");
            o.text("url", url);
        }
        Source::File(id) => {
            o.text("type", "file");
            o.text("file_id", id);
        }
        Source::Text(text) => {
            o.text("type", "text");
            o.text("media_type", "text/plain");
            o.text("data", text);
        }
    }
}

/// Arguments as `input`, digit for digit; what is no JSON object is kept under [`INVALID_JSON`].
pub(crate) fn input(arguments: &str) -> String {
    let arguments = arguments.trim();
    if arguments.is_empty() {
        return "{}".to_owned();
    }
    match node(arguments, &Limits::RESPONSE) {
        Ok(value) if value.is_object() => arguments.to_owned(),
        _ => object(|o| o.text(INVALID_JSON, arguments)),
    }
}

fn tools(request: &Request) -> Result<Option<String>, RequestError> {
    if request.tools.is_empty() {
        return Ok(None);
    }
    let native = request.dialect == Dialect::AnthropicMessages;
    for (i, tool) in request.tools.iter().enumerate() {
        if let Some((kind, _)) = tool.native.as_ref().filter(|_| !native) {
            let kind = request.kind_of(kind);
            return Err(RequestError::unsupported(format!("tools[{i}]{kind}"), "only functions can be translated"));
        }
        if !native {
            tool.extra.iter().try_for_each(|extra| neutral(extra, &format!("tools[{i}].")))?;
        }
    }
    Ok(Some(array(|a| request.tools.iter().for_each(|t| tool(a, t)))))
}

fn tool(a: &mut Array<'_>, tool: &Tool) {
    if let Some((_, raw)) = &tool.native {
        a.raw(raw.as_str());
        return;
    }
    a.object(|o| {
        o.text("name", &tool.name);
        o.maybe_text("description", tool.description.as_deref().filter(|text| !text.is_empty()));
        o.raw("input_schema", &schema(tool.schema.as_ref()));
        if tool.strict == Some(true) {
            o.boolean("strict", true);
        }
        if let Some(cache) = &tool.cache_control {
            o.raw("cache_control", cache.as_str());
        }
        for extra in &tool.extra {
            o.raw(&extra.name, extra.value.as_str());
        }
    });
}

/// `input_schema`, which must say that it is an object; OpenAI's may leave that out, or the whole schema.
pub(crate) fn schema(schema: Option<&Json>) -> String {
    let Some(text) = schema.map(Json::as_str) else {
        return r#"{"type":"object","properties":{}}"#.to_owned();
    };
    match node(text, &Limits::REQUEST) {
        Ok(value) if value.is_object() && value.get("type").is_none() => object(|o| {
            o.text("type", "object");
            for (name, member) in value.members().iter().filter(|(name, _)| name != "type") {
                o.raw(name, member.raw);
            }
        }),
        _ => text.to_owned(),
    }
}

fn tool_choice(o: &mut Object<'_>, request: &Request) {
    let single = request.parallel_tool_calls == Some(false);
    let (kind, name) = match &request.tool_choice {
        None if single => ("auto", None),
        None => return,
        Some(ToolChoice::Auto) => ("auto", None),
        Some(ToolChoice::None) => ("none", None),
        Some(ToolChoice::Required) => ("any", None),
        Some(ToolChoice::Tool(name)) => ("tool", Some(name)),
        Some(ToolChoice::Other(raw)) => {
            o.raw("tool_choice", raw.as_str());
            return;
        }
    };
    o.object("tool_choice", |o| {
        o.text("type", kind);
        o.maybe_text("name", name.map(String::as_str));
        if single && kind != "none" {
            o.boolean("disable_parallel_tool_use", true);
        }
    });
}

/// How a request has the model think.
#[derive(Default)]
pub(crate) struct Thinking {
    json: Option<String>,
    effort: Option<String>,
}

impl Thinking {
    /// `thinking`.
    pub(crate) fn write(&self, o: &mut Object<'_>) {
        if let Some(json) = &self.json {
            o.raw("thinking", json);
        }
    }

    /// `output_config.effort`.
    pub(crate) fn effort(&self) -> Option<&str> {
        self.effort.as_deref()
    }
}

/// Thinking: adaptive with an effort where the model knows it, else a token budget below `max_tokens`.
pub(crate) fn thinking(request: &Request, max_tokens: u64) -> Result<Thinking, RequestError> {
    let enabled = |budget: u64| {
        let budget = budget.min(max_tokens.saturating_sub(1));
        if budget < LEAST_BUDGET {
            return Err(RequestError::unsupported("reasoning_effort", "thinking needs max_tokens over 1024"));
        }
        let json = object(|o| {
            o.text("type", "enabled");
            o.number("budget_tokens", budget);
        });
        Ok(Thinking { json: Some(json), effort: None })
    };
    let adaptive = |effort: Option<&str>| Thinking {
        json: Some(r#"{"type":"adaptive"}"#.to_owned()),
        effort: effort.map(|effort| if effort == "minimal" { "low" } else { effort }.to_owned()),
    };
    match &request.reasoning {
        None => Ok(Thinking::default()),
        Some(Reasoning::Off) => Ok(Thinking { json: Some(r#"{"type":"disabled"}"#.to_owned()), effort: None }),
        Some(Reasoning::Budget(budget)) if !thinks_adaptively(&request.model) => enabled(*budget),
        Some(Reasoning::Budget(_) | Reasoning::Auto) if thinks_adaptively(&request.model) => Ok(adaptive(None)),
        Some(Reasoning::Effort(effort)) if thinks_adaptively(&request.model) => Ok(adaptive(Some(effort))),
        Some(Reasoning::Effort(effort)) => enabled(match effort.as_str() {
            "minimal" | "low" => 2048,
            "high" => 16_384,
            "xhigh" | "max" => 32_768,
            _ => 8192,
        }),
        Some(_) => enabled(8192),
    }
}

/// Claude 4.6 and later (and models whose name tells no version) decide themselves how long to think.
fn thinks_adaptively(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let mut version =
        name.split(['-', '.']).filter_map(|piece| piece.parse::<u32>().ok()).filter(|number| *number < 100);
    match (version.next(), version.next().unwrap_or(0)) {
        (Some(major), minor) => (major, minor) >= (4, 6),
        (None, _) => true,
    }
}

fn output_config(o: &mut Object<'_>, request: &Request, effort: Option<&str>, has_format: bool) {
    let format = match &request.output {
        Output::JsonSchema { schema, .. } if !has_format => Some(schema),
        _ => None,
    };
    if effort.is_none() && format.is_none() {
        return;
    }
    o.object("output_config", |o| {
        o.maybe_text("effort", effort);
        if let Some(schema) = format {
            o.object("format", |o| {
                o.text("type", "json_schema");
                o.raw("schema", schema.as_str());
            });
        }
    });
}
