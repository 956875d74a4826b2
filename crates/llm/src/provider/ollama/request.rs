//! A canonical request as Ollama's.

use crate::json::{Array, Object, array, object, quoted};
use crate::model::{Body, Json, Message, Output, Part, Reasoning, Request, Role, Source, Tool, ToolChoice};
use crate::provider::anthropic::input;
use crate::provider::neutral::{is_echo, neutral};
use crate::{Dialect, RequestError};

/// Why what is refused here is refused.
const NO_MEMBER: &str = "Ollama has no such member";

/// `request` as the body of `POST /api/chat`.
pub(crate) fn request(request: &Request) -> Result<String, RequestError> {
    check(request)?;
    let messages = messages(request)?;
    let tools = tools(request)?;
    let options = object(|o| options(o, request));
    Ok(object(|o| {
        o.text("model", &request.model);
        o.raw("messages", &messages);
        // Absent it means true here.
        o.boolean("stream", request.stream);
        if let Some(tools) = &tools {
            o.raw("tools", tools);
        }
        match &request.output {
            Output::Text => {}
            Output::JsonObject => o.text("format", "json"),
            Output::JsonSchema { schema, .. } => o.raw("format", schema.as_str()),
        }
        if let Some(think) = think(request) {
            o.raw("think", &think);
        }
        if let Some(logprobs) = request.sampling.logprobs {
            o.boolean("logprobs", logprobs);
        }
        o.maybe_number("top_logprobs", request.sampling.top_logprobs);
        if options != "{}" {
            o.raw("options", &options);
        }
    }))
}

/// Refuse what Ollama has no word for, apart from messages and tools.
fn check(request: &Request) -> Result<(), RequestError> {
    let refuse = |openai, gemini, why| Err(RequestError::unsupported(request.called(openai, gemini), why));
    request.extra.iter().try_for_each(|extra| neutral(extra, "", NO_MEMBER))?;
    if request.sampling.answers.is_some_and(|answers| answers != 1) {
        return refuse("n", "generationConfig.candidateCount", "Ollama gives one answer");
    }
    if !request.tools.is_empty() {
        if request.parallel_tool_calls == Some(false) {
            let name = if request.dialect == Dialect::AnthropicMessages {
                "tool_choice.disable_parallel_tool_use"
            } else {
                "parallel_tool_calls"
            };
            return Err(RequestError::unsupported(name, "Ollama's models may always call several functions at once"));
        }
        let must =
            matches!(request.tool_choice, Some(ToolChoice::Required | ToolChoice::Tool(_) | ToolChoice::Other(_)));
        if must {
            return refuse("tool_choice", "toolConfig", "Ollama's models cannot be made to call a function");
        }
    }
    Ok(())
}

fn options(o: &mut Object<'_>, request: &Request) {
    let raw = |o: &mut Object<'_>, name: &str, value: Option<&Json>| {
        if let Some(value) = value {
            o.raw(name, value.as_str());
        }
    };
    let sampling = &request.sampling;
    o.maybe_number("num_predict", request.max_output_tokens);
    raw(o, "temperature", request.temperature.as_ref());
    raw(o, "top_p", request.top_p.as_ref());
    o.maybe_number("top_k", request.top_k);
    raw(o, "seed", sampling.seed.as_ref());
    raw(o, "presence_penalty", sampling.presence_penalty.as_ref());
    raw(o, "frequency_penalty", sampling.frequency_penalty.as_ref());
    if !request.stop.is_empty() {
        o.array("stop", |a| request.stop.iter().for_each(|stop| a.text(stop)));
    }
}

/// `think`: gpt-oss knows levels, the others that think only whether.
fn think(request: &Request) -> Option<String> {
    let level = request.model.contains("gpt-oss");
    Some(match request.reasoning.as_ref()? {
        Reasoning::Auto => return None,
        Reasoning::Off => "false".to_owned(),
        Reasoning::Effort(effort) if level => quoted(match effort.as_str() {
            "minimal" | "low" => "low",
            "medium" => "medium",
            _ => "high",
        }),
        Reasoning::Budget(budget) if level => quoted(match budget {
            0..=2048 => "low",
            2049..=8192 => "medium",
            _ => "high",
        }),
        Reasoning::Effort(_) | Reasoning::Budget(_) => "true".to_owned(),
    })
}

fn messages(request: &Request) -> Result<String, RequestError> {
    for (i, message) in request.messages.iter().enumerate() {
        let path = request.path(i);
        let member = |name: &str| format!("{}.{name}", request.message_path(i));
        if message.name.is_some() {
            return Err(RequestError::unsupported(member("name"), "Ollama's messages have no names"));
        }
        let extras = message.extra.iter().filter(|extra| !is_echo(extra));
        extras.into_iter().try_for_each(|extra| neutral(extra, &member(""), NO_MEMBER))?;
        let prefix = i + 1 == request.messages.len() && message.role == Role::Assistant;
        if prefix && request.dialect != Dialect::OpenAiChat {
            return Err(RequestError::unsupported(path, "an answer cannot be begun for the model"));
        }
        for (j, part) in message.parts.iter().enumerate() {
            supported(request, message.role, part, &format!("{path}[{j}]"))?;
        }
    }
    Ok(array(|a| request.messages.iter().enumerate().for_each(|(i, message)| turn(a, request, (i, message)))))
}

fn supported(request: &Request, role: Role, part: &Part, path: &str) -> Result<(), RequestError> {
    let refuse = |what: &str, why| Err(RequestError::unsupported(format!("{path}{what}"), why));
    part.extra.iter().try_for_each(|extra| neutral(extra, &format!("{path}."), NO_MEMBER))?;
    match &part.body {
        Body::Text(_) | Body::Refusal(_) => Ok(()),
        Body::ToolCall(_) | Body::Thinking { .. } | Body::RedactedThinking(_) if role == Role::Assistant => Ok(()),
        Body::Image(Source::Base64 { .. }) | Body::Document { source: Source::Text(_), .. } if role == Role::User => {
            Ok(())
        }
        Body::Image(Source::Url(_)) => refuse("", "Ollama fetches nothing: images must be in the request"),
        Body::Document { source: Source::File(_), .. } | Body::Image(Source::File(_)) => {
            refuse("", "a stored file lives at one provider only")
        }
        Body::Document { .. } => refuse("", "Ollama takes documents of plain text only"),
        Body::Audio { .. } => refuse("", "Ollama takes no audio"),
        Body::ToolResult { parts, .. } if role == Role::User => parts
            .iter()
            .enumerate()
            .try_for_each(|(i, inner)| supported(request, role, inner, &format!("{path}.content[{i}]"))),
        Body::Other { kind, .. } => refuse(&request.kind_of(kind), "Ollama has no such part"),
        _ => refuse("", "a message of its role has no such part"),
    }
}

/// One turn: its tool results as messages of their own, first.
fn turn(a: &mut Array<'_>, request: &Request, (at, message): (usize, &Message)) {
    let mut rest: Vec<&Part> = Vec::new();
    let mut results = false;
    for part in &message.parts {
        let Body::ToolResult { call, parts, is_error } = &part.body else {
            rest.push(part);
            continue;
        };
        results = true;
        let (media, said): (Vec<&Part>, Vec<&Part>) =
            parts.iter().partition(|part| matches!(part.body, Body::Image(_)));
        let mut text = texts(&said, "\n");
        if text.is_empty() && !media.is_empty() {
            text.push_str("The result is attached below.");
        }
        if *is_error {
            text.insert_str(0, "Error: ");
        }
        a.object(|o| {
            o.text("role", "tool");
            o.text("content", &text);
            o.maybe_text("tool_name", request.function_of(at, call));
            o.text("tool_call_id", call);
        });
        rest.extend(media);
    }
    if results && rest.is_empty() {
        return;
    }
    a.object(|o| match message.role {
        Role::Assistant => assistant(o, &rest),
        Role::System | Role::Developer => {
            o.text("role", "system");
            o.text("content", &texts(&rest, "\n\n"));
        }
        Role::User => {
            o.text("role", "user");
            o.text("content", &texts(&rest, "\n\n"));
            let images = rest.iter().filter_map(|part| match &part.body {
                Body::Image(Source::Base64 { data, .. }) => Some(data.as_str()),
                _ => None,
            });
            let images: Vec<&str> = images.collect();
            if !images.is_empty() {
                o.array("images", |a| images.iter().for_each(|data| a.text(data)));
            }
        }
    });
}

/// The text of `parts`, a document under its title.
fn texts(parts: &[&Part], between: &str) -> String {
    let said = parts.iter().filter_map(|part| match &part.body {
        Body::Document { source: Source::Text(text), title: Some(title) } => Some(format!("{title}\n\n{text}")),
        Body::Text(text) | Body::Refusal(text) | Body::Document { source: Source::Text(text), .. } => {
            Some(text.clone())
        }
        _ => None,
    });
    said.collect::<Vec<_>>().join(between)
}

fn assistant(o: &mut Object<'_>, parts: &[&Part]) {
    o.text("role", "assistant");
    o.text("content", &texts(parts, ""));
    let thoughts = parts.iter().filter_map(|part| match &part.body {
        Body::Thinking { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let thinking: String = thoughts.collect();
    o.maybe_text("thinking", Some(thinking.as_str()).filter(|text| !text.is_empty()));
    let calls = parts.iter().filter_map(|part| if let Body::ToolCall(call) = &part.body { Some(call) } else { None });
    let calls: Vec<_> = calls.collect();
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
                    o.raw("arguments", &input(&call.arguments));
                });
            });
        }
    });
}

fn tools(request: &Request) -> Result<Option<String>, RequestError> {
    for (i, tool) in request.tools.iter().enumerate() {
        if let Some((kind, _)) = &tool.native {
            let kind = request.kind_of(kind);
            return Err(RequestError::unsupported(format!("tools[{i}]{kind}"), "only functions can be translated"));
        }
        let extras = tool.extra.iter().filter(|extra| extra.name != "defer_loading");
        extras.into_iter().try_for_each(|extra| neutral(extra, &format!("tools[{i}]."), NO_MEMBER))?;
    }
    // A tool that is not there is not called.
    let none = request.tools.is_empty() || request.tool_choice == Some(ToolChoice::None);
    Ok((!none).then(|| array(|a| request.tools.iter().for_each(|tool| function(a, tool)))))
}

fn function(a: &mut Array<'_>, tool: &Tool) {
    a.object(|o| {
        o.text("type", "function");
        o.object("function", |o| {
            o.text("name", &tool.name);
            o.maybe_text("description", tool.description.as_deref());
            let schema = tool.schema.as_ref().map_or(r#"{"type":"object","properties":{}}"#, Json::as_str);
            o.raw("parameters", schema);
        });
    });
}
