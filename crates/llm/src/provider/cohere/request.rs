//! A canonical request as Cohere's.

use crate::json::{Array, Object, array, object};
use crate::model::{Body, Extra, Json, Message, Output, Part, Reasoning, Request, Role, Source, Tool, ToolChoice};
use crate::provider::neutral::{is_echo, neutral};
use crate::provider::openai::data_url;
use crate::{Dialect, RequestError};

/// Why what is refused here is refused.
const NO_MEMBER: &str = "Cohere has no such member";

/// Cohere's own members: an OpenAI client that sends one means it.
const OWN: [&str; 5] = ["documents", "citation_options", "safety_mode", "strict_tools", "priority"];

fn is_own(request: &Request, extra: &Extra) -> bool {
    request.dialect == Dialect::OpenAiChat && OWN.contains(&extra.name.as_str()) && extra.value.as_str() != "null"
}

/// `request` as the body of `POST /v2/chat`.
pub(crate) fn request(request: &Request) -> Result<String, RequestError> {
    check(request)?;
    let messages = messages(request)?;
    let tools = tools(request)?;
    let own = || request.extra.iter().filter(|extra| is_own(request, extra));
    Ok(object(|o| {
        o.text("model", &request.model);
        o.raw("messages", &messages);
        o.boolean("stream", request.stream);
        if let Some(tools) = &tools {
            o.raw("tools", tools);
            match &request.tool_choice {
                Some(ToolChoice::None) => o.text("tool_choice", "NONE"),
                Some(ToolChoice::Required | ToolChoice::Tool(_)) => o.text("tool_choice", "REQUIRED"),
                _ => {}
            }
            let strict = request.tools.iter().all(|tool| tool.strict == Some(true));
            if strict && own().all(|extra| extra.name != "strict_tools") {
                o.boolean("strict_tools", true);
            }
        }
        generation(o, request);
        own().for_each(|extra| o.raw(&extra.name, extra.value.as_str()));
    }))
}

/// Refuse what Cohere has no word for, apart from messages and tools.
fn check(request: &Request) -> Result<(), RequestError> {
    let refuse = |openai, gemini, why| Err(RequestError::unsupported(request.called(openai, gemini), why));
    let others = request.extra.iter().filter(|extra| !is_own(request, extra));
    others.into_iter().try_for_each(|extra| neutral(extra, "", NO_MEMBER))?;
    let sampling = &request.sampling;
    if sampling.answers.is_some_and(|answers| answers != 1) {
        return refuse("n", "generationConfig.candidateCount", "Cohere gives one answer");
    }
    if sampling.top_logprobs.is_some_and(|top| top > 0) {
        return refuse(
            "top_logprobs",
            "generationConfig.logprobs",
            "Cohere tells the probability of the chosen token only",
        );
    }
    for (value, openai, gemini) in [
        (&sampling.presence_penalty, "presence_penalty", "generationConfig.presencePenalty"),
        (&sampling.frequency_penalty, "frequency_penalty", "generationConfig.frequencyPenalty"),
    ] {
        if value.as_ref().and_then(Json::as_f64).is_some_and(|penalty| !(0.0..=1.0).contains(&penalty)) {
            return refuse(openai, gemini, "Cohere takes a penalty from 0 to 1");
        }
    }
    if !request.tools.is_empty() {
        if request.parallel_tool_calls == Some(false) {
            let name = if request.dialect == Dialect::AnthropicMessages {
                "tool_choice.disable_parallel_tool_use"
            } else {
                "parallel_tool_calls"
            };
            return Err(RequestError::unsupported(name, "Cohere may always call several functions at once"));
        }
        if matches!(request.tool_choice, Some(ToolChoice::Other(_))) {
            return refuse("tool_choice", "toolConfig", "auto, none, required or one function");
        }
    }
    Ok(())
}

fn generation(o: &mut Object<'_>, request: &Request) {
    let raw = |o: &mut Object<'_>, name: &str, value: Option<&Json>| {
        if let Some(value) = value {
            o.raw(name, value.as_str());
        }
    };
    let sampling = &request.sampling;
    o.maybe_number("max_tokens", request.max_output_tokens);
    raw(o, "temperature", request.temperature.as_ref());
    // 1 is no limit, and more than Cohere takes.
    raw(o, "p", request.top_p.as_ref().filter(|p| p.as_f64() != Some(1.0)));
    o.maybe_number("k", request.top_k);
    raw(o, "seed", sampling.seed.as_ref());
    raw(o, "presence_penalty", sampling.presence_penalty.as_ref());
    raw(o, "frequency_penalty", sampling.frequency_penalty.as_ref());
    if sampling.logprobs == Some(true) {
        o.boolean("logprobs", true);
    }
    if !request.stop.is_empty() {
        o.array("stop_sequences", |a| request.stop.iter().for_each(|stop| a.text(stop)));
    }
    match &request.output {
        Output::Text => {}
        Output::JsonObject => o.object("response_format", |o| o.text("type", "json_object")),
        Output::JsonSchema { schema, .. } => o.object("response_format", |o| {
            o.text("type", "json_object");
            o.raw("json_schema", schema.as_str());
        }),
    }
    thinking(o, request);
}

fn thinking(o: &mut Object<'_>, request: &Request) {
    let budget = match &request.reasoning {
        None | Some(Reasoning::Auto) => return,
        // Others do not think, and do not take the member.
        Some(Reasoning::Off) if !thinks_unasked(&request.model) => return,
        Some(Reasoning::Off) => return o.object("thinking", |o| o.text("type", "disabled")),
        Some(Reasoning::Budget(budget)) => Some(*budget),
        Some(Reasoning::Effort(effort)) => match effort.as_str() {
            "minimal" | "low" => Some(1024),
            "medium" => Some(8192),
            _ => None,
        },
    };
    o.object("thinking", |o| {
        o.text("type", "enabled");
        o.maybe_number("token_budget", budget);
    });
}

/// Models that think unless they are told not to.
fn thinks_unasked(model: &str) -> bool {
    model.contains("reasoning") || model.contains("command-a-plus")
}

fn messages(request: &Request) -> Result<String, RequestError> {
    for (i, message) in request.messages.iter().enumerate() {
        let path = request.path(i);
        let member = |name: &str| format!("{}.{name}", request.message_path(i));
        if message.name.is_some() {
            return Err(RequestError::unsupported(member("name"), "Cohere's messages have no names"));
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
    Ok(array(|a| request.messages.iter().for_each(|message| turn(a, message))))
}

fn supported(request: &Request, role: Role, part: &Part, path: &str) -> Result<(), RequestError> {
    let refuse = |what: &str, why| Err(RequestError::unsupported(format!("{path}{what}"), why));
    part.extra
        .iter()
        .filter(|extra| extra.name != "detail")
        .try_for_each(|extra| neutral(extra, &format!("{path}."), NO_MEMBER))?;
    match &part.body {
        Body::Text(_) | Body::Refusal(_) => Ok(()),
        Body::ToolCall(_) | Body::Thinking { .. } | Body::RedactedThinking(_) if role == Role::Assistant => Ok(()),
        Body::Image(Source::Base64 { .. } | Source::Url(_)) | Body::Document { source: Source::Text(_), .. }
            if role == Role::User =>
        {
            Ok(())
        }
        Body::Document { source: Source::File(_), .. } | Body::Image(Source::File(_)) => {
            refuse("", "a stored file lives at one provider only")
        }
        Body::Document { .. } => refuse("", "Cohere takes documents of plain text only"),
        Body::Audio { .. } => refuse("", "Cohere takes no audio"),
        Body::ToolResult { parts, .. } if role == Role::User => parts
            .iter()
            .enumerate()
            .try_for_each(|(i, inner)| supported(request, role, inner, &format!("{path}.content[{i}]"))),
        Body::Other { kind, .. } => refuse(&request.kind_of(kind), "Cohere has no such part"),
        _ => refuse("", "a message of its role has no such part"),
    }
}

/// One turn: its tool results as messages of their own, first.
fn turn(a: &mut Array<'_>, message: &Message) {
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
        a.object(|o| {
            o.text("role", "tool");
            o.text("tool_call_id", call);
            result(o, &said, !media.is_empty(), *is_error);
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
            o.text("content", &rest.iter().filter_map(|part| said(part)).collect::<Vec<_>>().join("\n\n"));
        }
        Role::User => {
            o.text("role", "user");
            content(o, &rest);
        }
    });
}

fn said(part: &Part) -> Option<&str> {
    match &part.body {
        Body::Text(text) | Body::Refusal(text) => Some(text),
        _ => None,
    }
}

fn result(o: &mut Object<'_>, parts: &[&Part], attached: bool, is_error: bool) {
    if parts.iter().any(|part| matches!(part.body, Body::Document { .. })) {
        return o.array("content", |a| {
            if is_error {
                text(a, "Error:");
            }
            for part in parts {
                document(a, part);
            }
        });
    }
    let mut text = parts.iter().filter_map(|part| said(part)).collect::<Vec<_>>().join("\n");
    if text.is_empty() && attached {
        text.push_str("The result is attached below.");
    }
    if is_error {
        text.insert_str(0, "Error: ");
    }
    o.text("content", &text);
}

/// A piece of a result: what is cited by its title is a document.
fn document(a: &mut Array<'_>, part: &Part) {
    match &part.body {
        Body::Document { source: Source::Text(words), title } => a.object(|o| {
            o.text("type", "document");
            o.object("document", |o| {
                o.object("data", |o| {
                    o.maybe_text("title", title.as_deref());
                    o.text("text", words);
                });
            });
        }),
        _ => said(part).into_iter().for_each(|words| text(a, words)),
    }
}

fn text(a: &mut Array<'_>, text: &str) {
    a.object(|o| {
        o.text("type", "text");
        o.text("text", text);
    });
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
        Body::Text(words) | Body::Refusal(words) => text(a, words),
        Body::Image(source) => a.object(|o| {
            o.text("type", "image_url");
            o.object("image_url", |o| {
                o.text("url", &data_url(source));
                for extra in part.extra.iter().filter(|extra| extra.name == "detail") {
                    o.raw("detail", extra.value.as_str());
                }
            });
        }),
        Body::Document { source: Source::Text(words), title } => match title {
            Some(title) => text(a, &format!("{title}\n\n{words}")),
            None => text(a, words),
        },
        // `supported` has refused the others.
        _ => {}
    }
}

fn assistant(o: &mut Object<'_>, parts: &[&Part]) {
    let calls: Vec<_> =
        parts.iter().filter_map(|part| if let Body::ToolCall(call) = &part.body { Some(call) } else { None }).collect();
    let words: String = parts.iter().filter_map(|part| said(part)).collect();
    o.text("role", "assistant");
    if calls.is_empty() {
        return o.text("content", &words);
    }
    if !words.is_empty() {
        o.text("content", &words);
    }
    let thoughts = parts.iter().filter_map(|part| match &part.body {
        Body::Thinking { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let plan: String = thoughts.collect();
    o.maybe_text("tool_plan", Some(plan.as_str()).filter(|plan| !plan.is_empty()));
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
    for (i, tool) in request.tools.iter().enumerate() {
        if let Some((kind, _)) = &tool.native {
            let kind = request.kind_of(kind);
            return Err(RequestError::unsupported(format!("tools[{i}]{kind}"), "only functions can be translated"));
        }
        let extras = tool.extra.iter().filter(|extra| extra.name != "defer_loading");
        extras.into_iter().try_for_each(|extra| neutral(extra, &format!("tools[{i}]."), NO_MEMBER))?;
    }
    let wanted = |tool: &&Tool| match &request.tool_choice {
        Some(ToolChoice::Tool(name)) => tool.name == *name,
        _ => true,
    };
    let tools: Vec<&Tool> = request.tools.iter().filter(wanted).collect();
    if let (Some(ToolChoice::Tool(_)), true, false) = (&request.tool_choice, tools.is_empty(), request.tools.is_empty())
    {
        return Err(RequestError::wrong(request.called("tool_choice", "toolConfig"), "one of the tools"));
    }
    Ok((!tools.is_empty()).then(|| array(|a| tools.iter().for_each(|tool| function(a, tool)))))
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
