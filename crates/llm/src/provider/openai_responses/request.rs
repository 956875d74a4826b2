//! A canonical request as OpenAI's Responses API takes it.

use crate::json::{Array, Object, array, object};
use crate::model::{
    Body, Extra, Message, OPENAI_SIGNATURE, Output, Part, Reasoning, Request, Role, Source, Tool, ToolChoice, text_of,
};
use crate::provider::Flavour;
use crate::provider::neutral::{is_echo, neutral};
use crate::provider::openai::{audio_format, data_url, effort};
use crate::{Dialect, RequestError};

const NO_MEMBER: &str = "OpenAI's Responses API has no such member";

/// Members of OpenAI's chat completions that mean the same here, and that others may not know.
const SAME: [&str; 5] = ["metadata", "service_tier", "prompt_cache_key", "prompt_cache_retention", "safety_identifier"];

/// `request` as the body of `POST /responses`.
pub(crate) fn request(request: &Request, flavour: Flavour) -> Result<String, RequestError> {
    let is_same = |extra: &&Extra| {
        request.dialect == Dialect::OpenAiChat && flavour == Flavour::OpenAi && SAME.contains(&extra.name.as_str())
    };
    let verbosity = request.extra.iter().find(|extra| extra.name == "verbosity" || extra.name == "text.verbosity");
    let others = request.extra.iter().filter(|extra| !is_same(extra) && verbosity.is_none_or(|v| v.name != extra.name));
    others.into_iter().try_for_each(|extra| neutral(extra, "", NO_MEMBER))?;
    refuse(request)?;
    let input = input(request, flavour)?;
    let tools = tools(request)?;
    Ok(object(|o| {
        o.text("model", &request.model);
        if let Some(instructions) = instructions(request) {
            o.text("instructions", &instructions);
        }
        o.raw("input", &input);
        o.maybe_number("max_output_tokens", request.max_output_tokens);
        for (name, value) in [("temperature", &request.temperature), ("top_p", &request.top_p)] {
            if let Some(value) = value {
                o.raw(name, value.as_str());
            }
        }
        if let Some(tools) = &tools {
            o.raw("tools", tools);
            tool_choice(o, request);
        }
        text(o, &request.output, verbosity);
        reasoning(o, request);
        included(o, request);
        o.boolean("store", false);
        if request.stream {
            o.boolean("stream", true);
        }
        let has_identifier = request.extra.iter().filter(is_same).any(|extra| extra.name == "safety_identifier");
        let user = request.user.as_deref().filter(|_| flavour == Flavour::OpenAi && !has_identifier);
        o.maybe_text("user", user);
        request.extra.iter().filter(is_same).for_each(|extra| o.raw(&extra.name, extra.value.as_str()));
    }))
}

/// What there is no word for.
fn refuse(request: &Request) -> Result<(), RequestError> {
    let refuse = |name: &str| Err(RequestError::unsupported(name, NO_MEMBER));
    let sampling = crate::model::Sampling { logprobs: None, top_logprobs: None, ..request.sampling.clone() };
    if let Some((openai, gemini)) = sampling.asks() {
        return refuse(request.called(openai, gemini));
    }
    if request.top_k.is_some() {
        return refuse(request.called("top_k", "generationConfig.topK"));
    }
    if request.stop.iter().any(|stop| !stop.is_empty()) {
        let openai = if request.dialect == Dialect::AnthropicMessages { "stop_sequences" } else { "stop" };
        return refuse(request.called(openai, "generationConfig.stopSequences"));
    }
    if matches!(request.tool_choice, Some(ToolChoice::Other(_))) {
        let name = request.called("tool_choice", "toolConfig");
        return Err(RequestError::unsupported(name, "auto, none, required or one function"));
    }
    Ok(())
}

/// What stood apart from the conversation.
fn instructions(request: &Request) -> Option<String> {
    let first = request.messages.first().filter(|_| request.apart)?;
    let texts: Vec<String> = first.parts.iter().map(|part| text_of(std::slice::from_ref(part))).collect();
    Some(texts.join("\n\n"))
}

fn input(request: &Request, flavour: Flavour) -> Result<String, RequestError> {
    let mut items: Vec<String> = Vec::new();
    for (i, message) in request.messages.iter().enumerate() {
        let path = request.path(i);
        if message.name.is_some() {
            return Err(RequestError::unsupported(path.replace("content", "name"), "its messages have no names"));
        }
        let own = path.replace("content", "");
        message.extra.iter().filter(|extra| !is_echo(extra)).try_for_each(|extra| neutral(extra, &own, NO_MEMBER))?;
        for (j, part) in message.parts.iter().enumerate() {
            supported(request, message.role, part, &format!("{path}[{j}]"))?;
        }
        match message.role {
            Role::Assistant if i + 1 == request.messages.len() => {
                return Err(RequestError::unsupported(path, "an answer cannot be begun for the model"));
            }
            Role::Assistant => said(&mut items, message, flavour),
            _ if i == 0 && request.apart => {}
            _ => asked(&mut items, message),
        }
    }
    Ok(array(|a| items.iter().for_each(|item| a.raw(item))))
}

fn supported(request: &Request, role: Role, part: &Part, path: &str) -> Result<(), RequestError> {
    let refuse = |what: &str, why| Err(RequestError::unsupported(format!("{path}{what}"), why));
    part.extra.iter().try_for_each(|extra| neutral(extra, &format!("{path}."), NO_MEMBER))?;
    let fits = match &part.body {
        Body::Text(_) => true,
        Body::Refusal(_) | Body::ToolCall(_) | Body::Thinking { .. } | Body::RedactedThinking(_) => {
            role == Role::Assistant
        }
        Body::Image(_) | Body::Document { .. } | Body::Audio { .. } | Body::ToolResult { .. } => role == Role::User,
        Body::Other { kind, .. } => return refuse(&request.kind_of(kind), "OpenAI's Responses API has no such part"),
    };
    if !fits {
        return refuse("", "a message of its role has no such part");
    }
    match &part.body {
        Body::Image(Source::File(_)) | Body::Document { source: Source::File(_), .. } => {
            refuse("", "a stored file lives at one provider only")
        }
        Body::ToolResult { parts, .. } => parts
            .iter()
            .enumerate()
            .try_for_each(|(i, inner)| supported(request, role, inner, &format!("{path}.content[{i}]"))),
        _ => Ok(()),
    }
}

/// A turn of the user's, or instructions: results first, each an item.
fn asked(items: &mut Vec<String>, message: &Message) {
    let mut rest: Vec<&Part> = Vec::new();
    for part in &message.parts {
        let Body::ToolResult { call, parts, is_error } = &part.body else {
            rest.push(part);
            continue;
        };
        items.push(object(|o| {
            o.text("type", "function_call_output");
            o.text("call_id", call);
            result(o, parts, *is_error);
        }));
    }
    if rest.is_empty() && !message.parts.is_empty() {
        return;
    }
    items.push(object(|o| {
        o.text("type", "message");
        o.text(
            "role",
            match message.role {
                Role::System => "system",
                Role::Developer => "developer",
                Role::User | Role::Assistant => "user",
            },
        );
        match rest.as_slice() {
            [] => o.text("content", ""),
            [Part { body: Body::Text(text), .. }] => o.text("content", text),
            parts => o.array("content", |a| parts.iter().for_each(|part| piece(a, part))),
        }
    }));
}

fn result(o: &mut Object<'_>, parts: &[Part], is_error: bool) {
    let plain = parts.iter().all(|part| matches!(part.body, Body::Text(_)));
    if plain {
        let texts: Vec<String> = parts.iter().map(|part| text_of(std::slice::from_ref(part))).collect();
        let failed = if is_error { "Error: " } else { "" };
        return o.text("output", &format!("{failed}{}", texts.join("\n")));
    }
    o.array("output", |a| {
        if is_error {
            text_piece(a, "Error:");
        }
        for part in parts {
            piece(a, part);
        }
    });
}

fn text_piece(a: &mut Array<'_>, text: &str) {
    a.object(|o| {
        o.text("type", "input_text");
        o.text("text", text);
    });
}

fn piece(a: &mut Array<'_>, part: &Part) {
    match &part.body {
        Body::Text(text) | Body::Refusal(text) => text_piece(a, text),
        Body::Image(source) => a.object(|o| {
            o.text("type", "input_image");
            o.text("image_url", &data_url(source));
            match part.extra.iter().find(|extra| extra.name == "detail") {
                Some(detail) => o.raw("detail", detail.value.as_str()),
                None => o.text("detail", "auto"),
            }
        }),
        Body::Document { source: Source::Text(text), title } => match title {
            Some(title) => text_piece(a, &format!("{title}\n\n{text}")),
            None => text_piece(a, text),
        },
        Body::Document { source, title } => a.object(|o| {
            o.text("type", "input_file");
            if let Source::Url(url) = source {
                o.text("file_url", url);
            } else {
                o.text("filename", title.as_deref().unwrap_or("document.pdf"));
                o.text("file_data", &data_url(source));
            }
        }),
        Body::Audio { media_type, data } => a.object(|o| {
            o.text("type", "input_audio");
            o.object("input_audio", |o| {
                o.text("data", data);
                o.text("format", audio_format(media_type));
            });
        }),
        // Results stand for themselves, the rest is the assistant's.
        Body::ToolCall(_)
        | Body::ToolResult { .. }
        | Body::Thinking { .. }
        | Body::RedactedThinking(_)
        | Body::Other { .. } => {}
    }
}

/// A turn of the model's: texts in a row are one item.
fn said(items: &mut Vec<String>, message: &Message, flavour: Flavour) {
    let mut texts: Vec<&Part> = Vec::new();
    // OpenAI refuses reasoning that nothing follows.
    let mut thoughts: Vec<String> = Vec::new();
    for part in &message.parts {
        match &part.body {
            Body::Text(text) | Body::Refusal(text) if text.is_empty() => {}
            Body::Text(_) | Body::Refusal(_) => {
                items.append(&mut thoughts);
                texts.push(part);
            }
            Body::Thinking { text, signature } => {
                spoken(items, &mut texts);
                thoughts.extend(thought(text, signature.as_deref(), flavour));
            }
            Body::ToolCall(call) => {
                spoken(items, &mut texts);
                items.append(&mut thoughts);
                items.push(object(|o| {
                    o.text("type", "function_call");
                    o.text("call_id", &call.id);
                    o.text("name", &call.name);
                    o.text("arguments", if call.arguments.is_empty() { "{}" } else { &call.arguments });
                }));
            }
            _ => {}
        }
    }
    spoken(items, &mut texts);
}

fn spoken(items: &mut Vec<String>, texts: &mut Vec<&Part>) {
    if texts.is_empty() {
        return;
    }
    let parts = std::mem::take(texts);
    items.push(object(|o| {
        o.text("type", "message");
        o.text("role", "assistant");
        match parts.as_slice() {
            [Part { body: Body::Text(text), .. }] => o.text("content", text),
            parts => o.array("content", |a| {
                for part in parts {
                    a.object(|o| match &part.body {
                        Body::Refusal(text) => {
                            o.text("type", "refusal");
                            o.text("refusal", text);
                        }
                        body => {
                            o.text("type", "output_text");
                            o.text("text", if let Body::Text(text) = body { text } else { "" });
                        }
                    });
                }
            }),
        }
    }));
}

/// Earlier reasoning, where its maker gets it back: what it sealed itself, or what servers that seal nothing take.
fn thought(text: &str, signature: Option<&str>, flavour: Flavour) -> Option<String> {
    let own =
        signature.and_then(|signature| signature.strip_prefix(OPENAI_SIGNATURE)).and_then(|own| own.split_once(':'));
    let plain = signature.is_none() && flavour == Flavour::Thinking && !text.is_empty();
    if own.is_none() && !plain {
        return None;
    }
    Some(object(|o| {
        o.text("type", "reasoning");
        if let Some((id, sealed)) = own {
            o.maybe_text("id", Some(id).filter(|id| !id.is_empty()));
            o.array("summary", |a| {
                if !text.is_empty() {
                    a.object(|o| {
                        o.text("type", "summary_text");
                        o.text("text", text);
                    });
                }
            });
            o.text("encrypted_content", sealed);
        } else {
            o.array("summary", |_| {});
            o.array("content", |a| {
                a.object(|o| {
                    o.text("type", "reasoning_text");
                    o.text("text", text);
                });
            });
        }
    }))
}

fn tools(request: &Request) -> Result<Option<String>, RequestError> {
    if request.tools.is_empty() {
        return Ok(None);
    }
    for (i, tool) in request.tools.iter().enumerate() {
        if let Some((kind, _)) = &tool.native {
            let kind = request.kind_of(kind);
            return Err(RequestError::unsupported(format!("tools[{i}]{kind}"), "only functions can be translated"));
        }
        tool.extra
            .iter()
            .filter(|extra| extra.name != "defer_loading")
            .try_for_each(|extra| neutral(extra, &format!("tools[{i}]."), NO_MEMBER))?;
    }
    Ok(Some(array(|a| request.tools.iter().for_each(|t| tool(a, t)))))
}

fn tool(a: &mut Array<'_>, tool: &Tool) {
    a.object(|o| {
        o.text("type", "function");
        o.text("name", &tool.name);
        o.maybe_text("description", tool.description.as_deref());
        match &tool.schema {
            Some(schema) => o.raw("parameters", schema.as_str()),
            None => o.raw("parameters", r#"{"type":"object","properties":{}}"#),
        }
        o.boolean("strict", tool.strict.unwrap_or(false));
    });
}

fn tool_choice(o: &mut Object<'_>, request: &Request) {
    match &request.tool_choice {
        None | Some(ToolChoice::Other(_)) => {}
        Some(ToolChoice::Auto) => o.text("tool_choice", "auto"),
        Some(ToolChoice::None) => o.text("tool_choice", "none"),
        Some(ToolChoice::Required) => o.text("tool_choice", "required"),
        Some(ToolChoice::Tool(name)) => o.object("tool_choice", |o| {
            o.text("type", "function");
            o.text("name", name);
        }),
    }
    if let Some(parallel) = request.parallel_tool_calls {
        o.boolean("parallel_tool_calls", parallel);
    }
}

fn text(o: &mut Object<'_>, output: &Output, verbosity: Option<&Extra>) {
    if *output == Output::Text && verbosity.is_none() {
        return;
    }
    o.object("text", |o| {
        match output {
            Output::Text => {}
            Output::JsonObject => o.object("format", |o| o.text("type", "json_object")),
            Output::JsonSchema { name, description, schema, strict } => o.object("format", |o| {
                o.text("type", "json_schema");
                o.text("name", name.as_deref().unwrap_or("output"));
                o.maybe_text("description", description.as_deref());
                // Here, too, it is true by default.
                o.boolean("strict", strict.unwrap_or(false));
                o.raw("schema", schema.as_str());
            }),
        }
        if let Some(verbosity) = verbosity {
            o.raw("verbosity", verbosity.value.as_str());
        }
    });
}

fn reasoning(o: &mut Object<'_>, request: &Request) {
    let Some(reasoning) = &request.reasoning else { return };
    let effort = effort(reasoning, request.dialect == Dialect::OpenAiChat);
    // Only a client that asked to see it: some organisations may not ask for summaries.
    let thinking = request.extra.iter().any(|extra| extra.name == "thinking");
    let shown = request.dialect == Dialect::AnthropicMessages && thinking && *reasoning != Reasoning::Off;
    if effort.is_some() || shown {
        o.object("reasoning", |o| {
            o.maybe_text("effort", effort);
            o.maybe_text("summary", shown.then_some("auto"));
        });
    }
}

/// What else the answer is to hold. Models that do not reason refuse to be asked for sealed reasoning.
fn included(o: &mut Object<'_>, request: &Request) {
    let asked = request.reasoning.as_ref().is_some_and(|reasoning| *reasoning != Reasoning::Off);
    let sealed = asked || reasons(&request.model);
    let logprobs = request.sampling.logprobs == Some(true);
    if sealed || logprobs {
        o.array("include", |a| {
            if sealed {
                a.text("reasoning.encrypted_content");
            }
            if logprobs {
                a.text("message.output_text.logprobs");
            }
        });
    }
    o.maybe_number("top_logprobs", request.sampling.top_logprobs.filter(|_| logprobs));
}

/// Whether a model is one of OpenAI's or xAI's that reason, by its name.
fn reasons(model: &str) -> bool {
    let name = model.rsplit('/').next().unwrap_or(model);
    let name = name.strip_prefix("openai.").unwrap_or(name).to_ascii_lowercase();
    let numbered = name.strip_prefix('o').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let five = name.strip_prefix("gpt-").and_then(|rest| rest.split(['.', '-']).next()?.parse::<u32>().ok());
    let five = five.is_some_and(|major| (5..100).contains(&major)) && !name.contains("chat");
    let grok = name.starts_with("grok-4") && !name.contains("non-reasoning");
    numbered || five || grok
}

#[cfg(test)]
mod tests {
    use super::reasons;

    #[test]
    fn models_that_reason_are_known_by_their_names() {
        for yes in ["o3", "o4-mini", "gpt-5", "gpt-5.4", "openai/gpt-5-mini", "openai.gpt-5.5", "grok-4.3", "GPT-6"] {
            assert!(reasons(yes), "{yes}");
        }
        for no in ["gpt-4o", "gpt-4.1", "gpt-5-chat-latest", "gpt-oss-20b", "grok-4-fast-non-reasoning", "olmo", "m"] {
            assert!(!reasons(no), "{no}");
        }
    }
}
