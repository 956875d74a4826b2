//! A canonical request as Google's.

use crate::json::{Array, Limits, Object, array, node, object};
use crate::model::{
    Body, Extra, GEMINI_SIGNATURE, Json, Message, Output, Part, Reasoning, Request, Role, Source, Tool, ToolChoice,
};
use crate::provider::anthropic::input;
use crate::provider::neutral::is_echo;
use crate::{Dialect, RequestError};

/// `request` as the body of `:generateContent` or `:streamGenerateContent`; the model and whether it streams go into the path.
pub(crate) fn request(request: &Request) -> Result<String, RequestError> {
    let native = request.dialect == Dialect::Gemini;
    if !native {
        request.extra.iter().try_for_each(|extra| neutral(extra, ""))?;
        if matches!(request.tool_choice, Some(ToolChoice::Other(_))) {
            return Err(RequestError::unsupported("tool_choice", "auto, none, required or one function"));
        }
    }
    // Where one certain function has to be called, one call is what is asked for in any case.
    let forced = match &request.tool_choice {
        Some(ToolChoice::Tool(_)) => true,
        Some(ToolChoice::Required) => request.tools.len() == 1,
        _ => false,
    };
    if request.parallel_tool_calls == Some(false) && !request.tools.is_empty() && !forced {
        let name = if request.dialect == Dialect::AnthropicMessages {
            "tool_choice.disable_parallel_tool_use"
        } else {
            "parallel_tool_calls"
        };
        return Err(RequestError::unsupported(name, "Gemini may always call several functions at once"));
    }
    let system = system(request)?;
    let contents = contents(request)?;
    let tools = tools(request)?;
    Ok(object(|o| {
        if let Some(system) = &system {
            o.object("systemInstruction", |o| o.raw("parts", system));
        }
        o.raw("contents", &contents);
        if let Some(tools) = &tools {
            o.raw("tools", tools);
        }
        tool_choice(o, request);
        let config = object(|o| generation(o, request));
        if config != "{}" {
            o.raw("generationConfig", &config);
        }
        if native {
            let own = request.extra.iter().filter(|extra| !extra.name.contains('.'));
            own.for_each(|extra| o.raw(&extra.name, extra.value.as_str()));
        }
    }))
}

/// See [`crate::provider::neutral::neutral`].
fn neutral(extra: &Extra, path: &str) -> Result<(), RequestError> {
    crate::provider::neutral::neutral(extra, path, "Gemini has no such member")
}

fn is_instruction(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

fn system(request: &Request) -> Result<Option<String>, RequestError> {
    let mut texts = Vec::new();
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| is_instruction(message)) {
        message_extras(request, message, i)?;
        for (j, part) in message.parts.iter().enumerate() {
            match &part.body {
                Body::Text(text) if text.is_empty() => {}
                Body::Text(text) => texts.push(text),
                _ => {
                    let path = format!("{}[{j}]", request.path(i));
                    return Err(RequestError::unsupported(path, "instructions are text"));
                }
            }
        }
    }
    let written = || array(|a| texts.iter().for_each(|text| a.object(|o| o.text("text", text))));
    Ok((!texts.is_empty()).then(written))
}

fn message_extras(request: &Request, message: &Message, index: usize) -> Result<(), RequestError> {
    let path = format!("{}.", request.message_path(index));
    if message.name.is_some() {
        return Err(RequestError::unsupported(format!("{path}name"), "Gemini's contents have no names"));
    }
    for extra in message.extra.iter().filter(|_| request.dialect != Dialect::Gemini) {
        if !is_echo(extra) {
            neutral(extra, &path)?;
        }
    }
    Ok(())
}

/// Everything but the instructions. Google wants the results of a turn's calls in one turn.
fn contents(request: &Request) -> Result<String, RequestError> {
    let mut turns: Vec<(Role, Vec<(usize, &Part)>)> = Vec::new();
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| !is_instruction(message)) {
        message_extras(request, message, i)?;
        for (j, part) in message.parts.iter().enumerate() {
            supported(request, message, part, &format!("{}[{j}]", request.path(i)))?;
        }
        let result = |(_, part): &(usize, &Part)| matches!(part.body, Body::ToolResult { .. });
        let parts = message.parts.iter().map(|part| (i, part));
        match turns.last_mut() {
            Some((Role::User, kept)) if message.role == Role::User && kept.first().is_some_and(result) => {
                kept.extend(parts);
            }
            _ => turns.push((message.role, parts.collect())),
        }
    }
    let mut failed = None;
    let written = array(|a| {
        for (role, parts) in &turns {
            let written = array(|a| {
                failed = failed.take().or(turn(a, request, parts).err());
            });
            // Google refuses a turn without parts.
            let written = if written == "[]" { r#"[{"text":""}]"# } else { written.as_str() };
            a.object(|o| {
                o.text("role", if *role == Role::Assistant { "model" } else { "user" });
                o.raw("parts", written);
            });
        }
    });
    failed.map_or(Ok(written), Err)
}

fn supported(request: &Request, message: &Message, part: &Part, path: &str) -> Result<(), RequestError> {
    let native = request.dialect == Dialect::Gemini;
    let refuse = |what: &str, why| Err(RequestError::unsupported(format!("{path}{what}"), why));
    if !native {
        part.extra.iter().try_for_each(|extra| neutral(extra, &format!("{path}.")))?;
    }
    match &part.body {
        Body::Other { .. } if !native => refuse(".type", "Gemini has no such part"),
        Body::Image(Source::File(_)) | Body::Document { source: Source::File(_), .. } if !native => {
            refuse("", "a stored file lives at one provider only")
        }
        Body::ToolCall(_) if message.role != Role::Assistant => refuse("", "only the assistant calls tools"),
        Body::ToolResult { parts, .. } => parts
            .iter()
            .enumerate()
            .try_for_each(|(i, inner)| supported(request, message, inner, &format!("{path}.content[{i}]"))),
        _ => Ok(()),
    }
}

/// The parts of one turn, results first.
fn turn(a: &mut Array<'_>, request: &Request, parts: &[(usize, &Part)]) -> Result<(), RequestError> {
    let is_result = |part: &Part| matches!(part.body, Body::ToolResult { .. });
    let mut beside: Vec<&Part> = Vec::new();
    for (at, part) in parts.iter().filter(|(_, part)| is_result(part)) {
        let Body::ToolResult { call, parts, is_error } = &part.body else { continue };
        let Some(name) = request.function_of(*at, call) else {
            return Err(RequestError::unsupported(request.path(*at), "no call with this id came before its result"));
        };
        let (texts, media): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| {
            matches!(part.body, Body::Text(_) | Body::Refusal(_) | Body::Thinking { .. } | Body::RedactedThinking(_))
        });
        let inside = at_least_three(&request.model) && !media.is_empty();
        a.object(|o| {
            o.object("functionResponse", |o| {
                o.text("id", call);
                o.text("name", name);
                o.raw("response", &result(&texts, *is_error));
                if inside {
                    o.array("parts", |a| media.iter().for_each(|part| piece(a, part)));
                }
            });
        });
        if !inside {
            beside.extend(media);
        }
    }
    for part in beside {
        piece(a, part);
    }
    for (_, part) in parts.iter().filter(|(_, part)| !is_result(part)) {
        match &part.body {
            // An empty text says nothing beside other parts.
            Body::Text(said) if said.is_empty() && parts.len() > 1 => {}
            _ => piece(a, part),
        }
    }
    Ok(())
}

/// `response`, which must be an object.
fn result(texts: &[&Part], is_error: bool) -> String {
    let said = texts.iter().filter_map(|part| match &part.body {
        Body::Text(text) | Body::Refusal(text) => Some(text.as_str()),
        _ => None,
    });
    let text = said.collect::<Vec<_>>().join("\n");
    let object_already = node(text.trim(), &Limits::REQUEST).is_ok_and(|value| value.is_object());
    match (is_error, object_already) {
        (false, true) => text.trim().to_owned(),
        (true, _) => object(|o| o.text("error", &text)),
        (false, false) => object(|o| o.text("result", &text)),
    }
}

fn piece(a: &mut Array<'_>, part: &Part) {
    match &part.body {
        Body::Text(text) | Body::Refusal(text) => a.object(|o| o.text("text", text)),
        Body::Image(at) => source(a, at, "image/jpeg"),
        Body::Document { source: Source::Text(text), title } => a.object(|o| match title {
            Some(title) => o.text("text", &format!("{title}\n\n{text}")),
            None => o.text("text", text),
        }),
        Body::Document { source: at, .. } => source(a, at, "application/pdf"),
        Body::Audio { media_type, data } => inline(a, media_type, data),
        Body::ToolCall(call) => a.object(|o| {
            o.object("functionCall", |o| {
                o.text("id", &call.id);
                o.text("name", &call.name);
                o.raw("args", &input(&call.arguments));
            });
            o.maybe_text("thoughtSignature", call.signature.as_deref());
        }),
        // Only Google's own thoughts go back to it.
        Body::Thinking { text, signature: Some(sealed) } => {
            if let Some(own) = sealed.strip_prefix(GEMINI_SIGNATURE) {
                a.object(|o| {
                    o.text("text", text);
                    // Without a text it is the signature of what was said.
                    if !text.is_empty() {
                        o.boolean("thought", true);
                    }
                    o.text("thoughtSignature", own);
                });
            }
        }
        Body::Other { raw, .. } => a.raw(raw.as_str()),
        Body::Thinking { .. } | Body::RedactedThinking(_) | Body::ToolResult { .. } => {}
    }
}

fn inline(a: &mut Array<'_>, media_type: &str, data: &str) {
    a.object(|o| {
        o.object("inlineData", |o| {
            o.text("mimeType", media_type);
            o.text("data", data);
        });
    });
}

fn source(a: &mut Array<'_>, source: &Source, usual: &str) {
    match source {
        Source::Base64 { media_type, data } => inline(a, media_type, data),
        Source::Text(text) => a.object(|o| o.text("text", text)),
        Source::Url(uri) | Source::File(uri) => a.object(|o| {
            o.object("fileData", |o| {
                o.text("mimeType", media_type_of(uri).unwrap_or(usual));
                o.text("fileUri", uri);
            });
        }),
    }
}

/// The media type a URL's last letters tell.
fn media_type_of(uri: &str) -> Option<&'static str> {
    let path = uri.split(['?', '#']).next().unwrap_or(uri);
    Some(match path.rsplit('.').next()?.to_ascii_lowercase().as_str() {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "webp" => "image/webp",
        "gif" => "image/gif",
        "heic" => "image/heic",
        "pdf" => "application/pdf",
        "txt" => "text/plain",
        _ => return None,
    })
}

fn tools(request: &Request) -> Result<Option<String>, RequestError> {
    if request.tools.is_empty() {
        return Ok(None);
    }
    let native = request.dialect == Dialect::Gemini;
    for (i, tool) in request.tools.iter().enumerate().filter(|_| !native) {
        if tool.native.is_some() {
            return Err(RequestError::unsupported(format!("tools[{i}].type"), "only functions can be translated"));
        }
        tool.extra.iter().try_for_each(|extra| match extra.name.as_str() {
            "defer_loading" => Ok(()),
            _ => neutral(extra, &format!("tools[{i}].")),
        })?;
    }
    Ok(Some(array(|a| {
        if request.tools.iter().any(|tool| tool.native.is_none()) {
            a.object(|o| {
                o.array("functionDeclarations", |a| {
                    request.tools.iter().filter(|tool| tool.native.is_none()).for_each(|tool| function(a, tool));
                });
            });
        }
        request.tools.iter().filter_map(|tool| tool.native.as_ref()).for_each(|(_, raw)| a.raw(raw.as_str()));
    })))
}

fn function(a: &mut Array<'_>, tool: &Tool) {
    a.object(|o| {
        o.text("name", &tool.name);
        o.maybe_text("description", tool.description.as_deref());
        if let Some(schema) = &tool.schema {
            o.raw("parametersJsonSchema", schema.as_str());
        }
    });
}

fn tool_choice(o: &mut Object<'_>, request: &Request) {
    let (mode, name) = match &request.tool_choice {
        None => return,
        Some(ToolChoice::Other(raw)) => return o.raw("toolConfig", raw.as_str()),
        Some(_) if request.tools.is_empty() => return,
        Some(ToolChoice::Auto) => ("AUTO", None),
        Some(ToolChoice::None) => ("NONE", None),
        Some(ToolChoice::Required) => ("ANY", None),
        Some(ToolChoice::Tool(name)) => ("ANY", Some(name)),
    };
    o.object("toolConfig", |o| {
        o.object("functionCallingConfig", |o| {
            o.text("mode", mode);
            if let Some(name) = name {
                o.array("allowedFunctionNames", |a| a.text(name));
            }
        });
    });
}

fn generation(o: &mut Object<'_>, request: &Request) {
    let raw = |o: &mut Object<'_>, name: &str, value: Option<&Json>| {
        if let Some(value) = value {
            o.raw(name, value.as_str());
        }
    };
    let sampling = &request.sampling;
    o.maybe_number("maxOutputTokens", request.max_output_tokens);
    raw(o, "temperature", request.temperature.as_ref());
    raw(o, "topP", request.top_p.as_ref());
    o.maybe_number("topK", request.top_k);
    o.maybe_number("candidateCount", sampling.answers.filter(|answers| *answers != 1));
    raw(o, "seed", sampling.seed.as_ref());
    raw(o, "presencePenalty", sampling.presence_penalty.as_ref());
    raw(o, "frequencyPenalty", sampling.frequency_penalty.as_ref());
    if sampling.logprobs == Some(true) {
        o.boolean("responseLogprobs", true);
        o.maybe_number("logprobs", sampling.top_logprobs);
    }
    if !request.stop.is_empty() {
        o.array("stopSequences", |a| request.stop.iter().for_each(|stop| a.text(stop)));
    }
    match &request.output {
        Output::Text => {}
        Output::JsonObject => o.text("responseMimeType", "application/json"),
        Output::JsonSchema { schema, .. } => {
            o.text("responseMimeType", "application/json");
            o.raw("responseJsonSchema", schema.as_str());
        }
    }
    if let Some(reasoning) = &request.reasoning {
        o.object("thinkingConfig", |o| thinking(o, reasoning, at_least_three(&request.model)));
    }
    let own = request.extra.iter().filter(|_| request.dialect == Dialect::Gemini);
    let own = own.filter_map(|extra| Some((extra.name.strip_prefix("generationConfig.")?, &extra.value)));
    own.for_each(|(name, value)| o.raw(name, value.as_str()));
}

/// Gemini 3 and later think by levels, earlier ones by budgets.
fn thinking(o: &mut Object<'_>, reasoning: &Reasoning, by_level: bool) {
    match reasoning {
        Reasoning::Off if by_level => return o.text("thinkingLevel", "low"),
        Reasoning::Off => return o.number("thinkingBudget", 0),
        Reasoning::Auto if by_level => {}
        Reasoning::Auto => o.raw("thinkingBudget", "-1"),
        Reasoning::Budget(budget) => o.number("thinkingBudget", *budget),
        Reasoning::Effort(effort) if by_level => o.text(
            "thinkingLevel",
            match effort.as_str() {
                known @ ("minimal" | "low" | "medium" | "high") => known,
                _ => "high",
            },
        ),
        Reasoning::Effort(effort) => o.number(
            "thinkingBudget",
            match effort.as_str() {
                "minimal" | "low" => 1024,
                "medium" => 8192,
                _ => 24_576,
            },
        ),
    }
    o.boolean("includeThoughts", true);
}

/// Whether a model is Gemini 3 or later; one whose name tells no version is.
fn at_least_three(model: &str) -> bool {
    let version = model.split_once("gemini-").map(|(_, rest)| rest.split(['.', '-']).next().unwrap_or(rest));
    version.and_then(|version| version.parse::<u32>().ok()).is_none_or(|major| major >= 3)
}
