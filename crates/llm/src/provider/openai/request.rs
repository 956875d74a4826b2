//! A canonical request as OpenAI's.

use crate::json::{Array, Limits, Object, array, node, object};
use crate::model::{
    Body, Extra, Json, Message, Output, Part, Reasoning, Request, Role, Sampling, Source, Tool, ToolChoice,
};
use crate::provider::Flavour;
use crate::{Dialect, RequestError};

/// `request` as the body of `POST /chat/completions`.
pub(crate) fn request(request: &Request, flavour: Flavour) -> Result<String, RequestError> {
    let native = request.dialect == Dialect::OpenAiChat;
    if !native {
        let others = request.extra.iter().filter(|extra| extra.name != "text.verbosity");
        others.into_iter().try_for_each(|extra| neutral(extra, ""))?;
        if matches!(request.tool_choice, Some(ToolChoice::Other(_))) {
            let name = request.called("tool_choice", "toolConfig");
            return Err(RequestError::unsupported(name, "auto, none, any or one tool"));
        }
        if request.top_k.is_some() {
            return Err(RequestError::unsupported(
                request.called("top_k", "generationConfig.topK"),
                "OpenAI's dialect has no such member",
            ));
        }
    }
    let messages = messages(request, flavour)?;
    let tools = tools(request)?;
    let has = |name: &str| native && request.extra.iter().any(|extra| extra.name == name);
    Ok(object(|o| {
        o.text("model", &request.model);
        o.raw("messages", &messages);
        o.maybe_number(flavour.cap_name().as_str(), request.max_output_tokens);
        if let Some(temperature) = &request.temperature {
            o.raw("temperature", temperature.as_str());
        }
        if let Some(top_p) = &request.top_p {
            o.raw("top_p", top_p.as_str());
        }
        o.maybe_number("top_k", request.top_k);
        sampling(o, &request.sampling, flavour);
        if !request.stop.is_empty() {
            o.array("stop", |a| request.stop.iter().for_each(|stop| a.text(stop)));
        }
        if request.stream {
            o.boolean("stream", true);
            if request.include_usage {
                o.object("stream_options", |o| o.boolean("include_usage", true));
            }
        }
        if let Some(tools) = &tools {
            o.raw("tools", tools);
            tool_choice(o, request);
        }
        response_format(o, &request.output);
        if !["reasoning", "thinking", "enable_thinking"].into_iter().any(has) {
            o.maybe_text("reasoning_effort", request.reasoning.as_ref().and_then(|r| effort(r, native)));
        }
        let user = request.user.as_deref().filter(|_| native || flavour == Flavour::OpenAi);
        o.maybe_text("user", user.filter(|_| !has("safety_identifier")));
        let verbosity = request.extra.iter().find(|extra| extra.name == "text.verbosity");
        if let Some(verbosity) = verbosity {
            o.raw("verbosity", verbosity.value.as_str());
        }
        if native {
            for extra in &request.extra {
                o.raw(&extra.name, extra.value.as_str());
            }
        }
    }))
}

fn sampling(o: &mut Object<'_>, sampling: &Sampling, flavour: Flavour) {
    let mut raw = |name: &str, value: Option<&Json>| value.into_iter().for_each(|value| o.raw(name, value.as_str()));
    raw(if flavour == Flavour::Mistral { "random_seed" } else { "seed" }, sampling.seed.as_ref());
    raw("presence_penalty", sampling.presence_penalty.as_ref());
    raw("frequency_penalty", sampling.frequency_penalty.as_ref());
    o.maybe_number("n", sampling.answers);
    if let Some(logprobs) = sampling.logprobs {
        o.boolean("logprobs", logprobs);
    }
    o.maybe_number("top_logprobs", sampling.top_logprobs);
}

/// Whether a member that OpenAI does not have may be left out: it asks for nothing, or is only a hint.
fn neutral(extra: &Extra, path: &str) -> Result<(), RequestError> {
    let value = extra.value.as_str();
    let fine = value == "null"
        || match extra.name.as_str() {
            // The first two are read into the canonical model where they came in.
            "thinking"
            | "output_format"
            | "cache_control"
            | "anthropic_version"
            | "betas"
            | "anthropic_beta"
            | "defer_loading"
            | "eager_input_streaming"
            | "input_examples"
            | "caller" => true,
            "service_tier" => value == r#""auto""#,
            "speed" => value == r#""standard""#,
            "citations" => node(value, &Limits::REQUEST)
                .is_ok_and(|v| v.get("enabled").and_then(crate::json::Node::boolean) != Some(true)),
            "mcp_servers" => value.split_whitespace().collect::<String>() == "[]",
            "allowed_callers" => value.split_whitespace().collect::<String>() == r#"["direct"]"#,
            "output_config" => {
                let config = node(value, &Limits::REQUEST).map_err(RequestError::from)?;
                let odd = config.members().iter().find(|(name, _)| name != "effort" && name != "format");
                if let Some((name, _)) = odd {
                    return Err(RequestError::unsupported(
                        format!("output_config.{name}"),
                        "OpenAI's dialect has no such member",
                    ));
                }
                true
            }
            _ => false,
        };
    if fine {
        Ok(())
    } else {
        Err(RequestError::unsupported(format!("{path}{}", extra.name), "OpenAI's dialect has no such member"))
    }
}

fn messages(request: &Request, flavour: Flavour) -> Result<String, RequestError> {
    let native = request.dialect == Dialect::OpenAiChat;
    for (i, message) in request.messages.iter().enumerate() {
        if !native {
            message.extra.iter().try_for_each(|extra| neutral(extra, &request.path(i).replace("content", "")))?;
            if i + 1 == request.messages.len() && message.role == Role::Assistant {
                return Err(RequestError::unsupported(request.path(i), "an answer cannot be begun for the model"));
            }
        }
        for (j, part) in message.parts.iter().enumerate() {
            let path = format!("{}[{j}]", request.path(i));
            if !belongs(message.role, &part.body) {
                return Err(RequestError::unsupported(path, "a message of its role has no such part"));
            }
            supported(part, request, &path)?;
        }
    }
    Ok(array(|a| request.messages.iter().for_each(|m| message(a, m, flavour))))
}

/// Whether OpenAI's messages of `role` have room for `body`.
fn belongs(role: Role, body: &Body) -> bool {
    match body {
        Body::Text(_) | Body::Refusal(_) | Body::Other { .. } => true,
        Body::Image(_) | Body::Document { .. } | Body::Audio { .. } | Body::ToolResult { .. } => role == Role::User,
        Body::ToolCall(_) | Body::Thinking { .. } | Body::RedactedThinking(_) => role == Role::Assistant,
    }
}

fn supported(part: &Part, request: &Request, path: &str) -> Result<(), RequestError> {
    let native = request.dialect == Dialect::OpenAiChat;
    let refuse = |what: &str, why| Err(RequestError::unsupported(format!("{path}{what}"), why));
    if !native {
        let others = part.extra.iter().filter(|extra| extra.name != "detail");
        others.into_iter().try_for_each(|extra| neutral(extra, &format!("{path}.")))?;
    }
    match &part.body {
        Body::Other { kind, .. } if !native => refuse(&request.kind_of(kind), "OpenAI's dialect has no such part"),
        Body::Image(Source::File(_)) => refuse(".source", "a stored file lives at one provider only"),
        Body::Document { source: Source::File(_), .. } if !native => {
            refuse(".source", "a stored file lives at one provider only")
        }
        Body::Document { source: Source::Url(_), .. } if !native => {
            refuse(".source", "documents must be in the request")
        }
        Body::ToolResult { parts, .. } => {
            parts.iter().enumerate().try_for_each(|(i, part)| supported(part, request, &format!("{path}.content[{i}]")))
        }
        _ => Ok(()),
    }
}

/// One turn: its tool results as messages of their own, first.
fn message(a: &mut Array<'_>, message: &Message, flavour: Flavour) {
    let mut rest: Vec<&Part> = Vec::new();
    let mut results = false;
    for part in &message.parts {
        let Body::ToolResult { call, parts, is_error } = &part.body else {
            rest.push(part);
            continue;
        };
        results = true;
        let (texts, media): (Vec<&Part>, Vec<&Part>) =
            parts.iter().partition(|part| !matches!(part.body, Body::Image(_) | Body::Document { .. }));
        a.object(|o| {
            o.text("role", "tool");
            o.text("tool_call_id", call);
            result(o, &texts, media.is_empty(), *is_error);
        });
        rest.extend(media);
    }
    if results && rest.is_empty() {
        return;
    }
    a.object(|o| {
        let role = match message.role {
            Role::System => "system",
            Role::Developer => "developer",
            Role::User => "user",
            Role::Assistant => "assistant",
        };
        o.text("role", role);
        match message.role {
            Role::Assistant => assistant(o, &rest, flavour),
            Role::System | Role::Developer if flavour != Flavour::OpenAi => joined(o, &rest, "\n\n"),
            _ => content(o, &rest),
        }
        o.maybe_text("name", message.name.as_deref());
        for extra in message.extra.iter().filter(|extra| extra.value.as_str() != "null") {
            o.raw(&extra.name, extra.value.as_str());
        }
    });
}

fn result(o: &mut Object<'_>, texts: &[&Part], alone: bool, is_error: bool) {
    let mut text = texts.iter().filter_map(|part| said(part)).collect::<Vec<_>>().join("\n");
    if text.is_empty() && !alone {
        text.push_str("The result is attached below.");
    }
    if is_error {
        text.insert_str(0, "Error: ");
    }
    o.text("content", &text);
}

fn said(part: &Part) -> Option<&str> {
    match &part.body {
        Body::Text(text) | Body::Refusal(text) => Some(text),
        _ => None,
    }
}

fn joined(o: &mut Object<'_>, parts: &[&Part], between: &str) {
    o.text("content", &parts.iter().filter_map(|part| said(part)).collect::<Vec<_>>().join(between));
}

fn content(o: &mut Object<'_>, parts: &[&Part]) {
    match parts {
        [] => o.text("content", ""),
        [Part { body: Body::Text(text), .. }] => o.text("content", text),
        _ => o.array("content", |a| parts.iter().for_each(|part| piece(a, part))),
    }
}

fn piece(a: &mut Array<'_>, part: &Part) {
    match &part.body {
        Body::Other { raw, .. } => a.raw(raw.as_str()),
        Body::Text(text) | Body::Refusal(text) => text_piece(a, text),
        Body::Image(source) => a.object(|o| {
            o.text("type", "image_url");
            o.object("image_url", |o| {
                o.text("url", &data_url(source));
                for extra in part.extra.iter().filter(|extra| extra.name == "detail") {
                    o.raw("detail", extra.value.as_str());
                }
            });
        }),
        Body::Document { source: Source::Text(text), title } => match title {
            Some(title) => text_piece(a, &format!("{title}\n\n{text}")),
            None => text_piece(a, text),
        },
        Body::Document { source, title } => a.object(|o| {
            if let Source::Url(url) = source {
                o.text("type", "document_url");
                o.text("document_url", url);
                o.maybe_text("document_name", title.as_deref());
                return;
            }
            o.text("type", "file");
            o.object("file", |o| {
                if let Source::File(id) = source {
                    o.text("file_id", id);
                } else {
                    o.text("filename", title.as_deref().unwrap_or("document.pdf"));
                    o.text("file_data", &data_url(source));
                }
            });
        }),
        Body::Audio { media_type, data } => a.object(|o| {
            o.text("type", "input_audio");
            o.object("input_audio", |o| {
                o.text("data", data);
                o.text("format", audio_format(media_type));
            });
        }),
        // Only the assistant's; see `assistant`.
        Body::ToolCall(_) | Body::ToolResult { .. } | Body::Thinking { .. } | Body::RedactedThinking(_) => {}
    }
}

/// OpenAI knows `wav` and `mp3`, others more: what is no second name of these two stays.
pub(in crate::provider) fn audio_format(media_type: &str) -> &str {
    match media_type.strip_prefix("audio/").unwrap_or(media_type) {
        "mpeg" | "x-mp3" => "mp3",
        "x-wav" | "wave" => "wav",
        other => other,
    }
}

fn text_piece(a: &mut Array<'_>, text: &str) {
    a.object(|o| {
        o.text("type", "text");
        o.text("text", text);
    });
}

pub(crate) fn data_url(source: &Source) -> String {
    match source {
        Source::Base64 { media_type, data } => format!("data:{media_type};base64,{data}"),
        Source::Url(url) => url.clone(),
        Source::File(id) => id.clone(),
        Source::Text(text) => format!("data:text/plain,{text}"),
    }
}

fn assistant(o: &mut Object<'_>, parts: &[&Part], flavour: Flavour) {
    let mut text = String::new();
    let mut refusal = String::new();
    let mut thinking = String::new();
    let mut calls = Vec::new();
    for part in parts {
        match &part.body {
            Body::Text(more) => text.push_str(more),
            Body::Refusal(more) => refusal.push_str(more),
            Body::Thinking { text, .. } => thinking.push_str(text),
            Body::ToolCall(call) => calls.push(call),
            _ => {}
        }
    }
    if text.is_empty() && (!calls.is_empty() || !refusal.is_empty()) {
        o.raw("content", "null");
    } else {
        o.text("content", &text);
    }
    o.maybe_text("refusal", (!refusal.is_empty()).then_some(refusal.as_str()));
    if flavour == Flavour::Thinking && !thinking.is_empty() {
        o.text("reasoning_content", &thinking);
    }
    if calls.is_empty() {
        return;
    }
    o.array("tool_calls", |a| {
        for call in calls {
            a.object(|o| {
                o.text("id", &call.id);
                o.text("type", "function");
                o.object("function", |o| {
                    o.text("name", &call.name);
                    o.text("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments });
                });
            });
        }
    });
}

fn tools(request: &Request) -> Result<Option<String>, RequestError> {
    if request.tools.is_empty() {
        return Ok(None);
    }
    if request.dialect != Dialect::OpenAiChat {
        for (i, tool) in request.tools.iter().enumerate() {
            if let Some((kind, _)) = &tool.native {
                let kind = request.kind_of(kind);
                return Err(RequestError::unsupported(format!("tools[{i}]{kind}"), "only functions can be translated"));
            }
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
        o.text("type", "function");
        o.object("function", |o| {
            o.text("name", &tool.name);
            o.maybe_text("description", tool.description.as_deref());
            if let Some(schema) = &tool.schema {
                o.raw("parameters", schema.as_str());
            }
            if let Some(strict) = tool.strict {
                o.boolean("strict", strict);
            }
        });
    });
}

fn tool_choice(o: &mut Object<'_>, request: &Request) {
    match &request.tool_choice {
        None => {}
        Some(ToolChoice::Auto) => o.text("tool_choice", "auto"),
        Some(ToolChoice::None) => o.text("tool_choice", "none"),
        Some(ToolChoice::Required) => o.text("tool_choice", "required"),
        Some(ToolChoice::Tool(name)) => o.object("tool_choice", |o| {
            o.text("type", "function");
            o.object("function", |o| o.text("name", name));
        }),
        Some(ToolChoice::Other(raw)) => o.raw("tool_choice", raw.as_str()),
    }
    if let Some(parallel) = request.parallel_tool_calls {
        o.boolean("parallel_tool_calls", parallel);
    }
}

fn response_format(o: &mut Object<'_>, output: &Output) {
    match output {
        Output::Text => {}
        Output::JsonObject => o.object("response_format", |o| o.text("type", "json_object")),
        Output::JsonSchema { name, description, schema, strict } => o.object("response_format", |o| {
            o.text("type", "json_schema");
            o.object("json_schema", |o| {
                o.text("name", name.as_deref().unwrap_or("output"));
                o.maybe_text("description", description.as_deref());
                if let Some(strict) = strict {
                    o.boolean("strict", *strict);
                }
                o.raw("schema", schema.as_str());
            });
        }),
    }
}

/// `reasoning_effort`. Anthropic's `disabled` is left to the model: most know no `none`.
pub(in crate::provider) fn effort(reasoning: &Reasoning, native: bool) -> Option<&str> {
    match reasoning {
        Reasoning::Off => native.then_some("none"),
        Reasoning::Auto => None,
        Reasoning::Effort(effort) => Some(if effort == "max" { "xhigh" } else { effort }),
        Reasoning::Budget(0..=2048) => Some("low"),
        Reasoning::Budget(2049..=8192) => Some("medium"),
        Reasoning::Budget(_) => Some("high"),
    }
}
