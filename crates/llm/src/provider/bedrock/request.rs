//! A canonical request as Converse's.

use super::family::Family;
use super::media::{audio_format, document_format, image_format, names};
use super::sealed;
use super::tools::{Calls, tools};
use crate::RequestError;
use crate::json::{Array, Limits, Object, array, node, object, quoted};
use crate::model::{Body, Extra, Json, Message, Output, Part, Reasoning, Request, Role, Source, ToolChoice};
use crate::provider::anthropic::{self, input};
use crate::provider::neutral::{is_echo, neutral};

/// What the model is told where JSON is asked for without a schema.
const JSON_ONLY: &str = "Answer with one valid JSON object and nothing else.";
/// What it is told where no tool may be called and there is no switch for that.
const NO_CALLS: &str = "Do not call any tool.";
/// Why a member is refused.
const UNKNOWN: &str = "Bedrock's Converse has no such member";
/// Longest id of a call.
const ID: usize = 64;

/// `request` as the body of `/model/{model}/converse` or `/converse-stream`; the path says which.
pub(crate) fn request(request: &Request) -> Result<String, RequestError> {
    let family = Family::of(&request.model);
    request.extra.iter().filter(|extra| tier(extra).is_none()).try_for_each(|extra| member(extra, ""))?;
    if let Some((openai, gemini)) = request.sampling.asks() {
        return Err(RequestError::unsupported(request.called(openai, gemini), UNKNOWN));
    }
    if matches!(request.tool_choice, Some(ToolChoice::Other(_))) {
        let name = request.called("tool_choice", "toolConfig");
        return Err(RequestError::unsupported(name, "auto, none, required or one function"));
    }
    if request.temperature.as_ref().and_then(Json::as_f64).is_some_and(|value| value > 1.0) {
        return Err(RequestError::unsupported("temperature", "it takes 0 to 1"));
    }
    let calls = Calls::of(request, family)?;
    let fields = fields(request, family, &calls)?;
    let system = system(request, family, &calls)?;
    let messages = messages(request, family)?;
    let tools = tools(request, family, &calls)?;
    Ok(object(|o| {
        o.raw("messages", &messages);
        if let Some(system) = &system {
            o.raw("system", system);
        }
        let config = object(|o| inference(o, request));
        if config != "{}" {
            o.raw("inferenceConfig", &config);
        }
        if let Some(tools) = &tools {
            o.object("toolConfig", |o| {
                o.raw("tools", tools);
                calls.choice(o);
            });
        }
        output(o, request, family);
        if fields != "{}" {
            o.raw("additionalModelRequestFields", &fields);
        }
        if family.is_surely_claude() && !request.stop.is_empty() {
            o.raw("additionalModelResponseFieldPaths", r#"["/stop_sequence"]"#);
        }
        if let Some(tier) = request.extra.iter().find_map(tier) {
            o.object("serviceTier", |o| o.text("type", tier));
        }
    }))
}

/// Refuse a member that Converse does not have, unless it may be left out.
pub(super) fn member(extra: &Extra, path: &str) -> Result<(), RequestError> {
    neutral(extra, path, UNKNOWN)
}

/// `service_tier`, where Bedrock has one of that name.
fn tier(extra: &Extra) -> Option<&'static str> {
    match (extra.name.as_str(), extra.value.as_str()) {
        ("service_tier", r#""flex""#) => Some("flex"),
        ("service_tier", r#""priority""#) => Some("priority"),
        _ => None,
    }
}

/// `additionalModelRequestFields`.
fn fields(request: &Request, family: Family, calls: &Calls<'_>) -> Result<String, RequestError> {
    let refused = |openai: &'static str, gemini: &'static str| {
        Err(RequestError::unsupported(request.called(openai, gemini), "this model has no such setting"))
    };
    if request.top_k.is_some() && !(family.is_claude() || matches!(family, Family::Nova(_))) {
        return refused("top_k", "generationConfig.topK");
    }
    let thinking = if family.is_claude() {
        anthropic::thinking(request, request.max_output_tokens.unwrap_or(u64::MAX))?
    } else {
        anthropic::Thinking::default()
    };
    let level = match (&request.reasoning, family) {
        (None | Some(Reasoning::Off), _) | (_, Family::Claude { .. }) => None,
        (Some(reasoning), Family::GptOss | Family::Nova(2..)) => Some(level(reasoning)),
        (Some(_), _) => return refused("reasoning_effort", "generationConfig.thinkingConfig"),
    };
    Ok(object(|o| {
        let nova = matches!(family, Family::Nova(_));
        if let Some(top_k) = request.top_k.filter(|_| nova) {
            o.object("inferenceConfig", |o| o.number("topK", top_k));
        }
        if let Some(level) = level.filter(|_| nova) {
            o.object("reasoningConfig", |o| {
                o.text("type", "enabled");
                o.text("maxReasoningEffort", level);
            });
        }
        if !nova {
            o.maybe_number("top_k", request.top_k);
            o.maybe_text("reasoning_effort", level);
        }
        // Claude does not think unless it is asked to, and earlier versions do not know the word for that.
        if request.reasoning != Some(Reasoning::Off) {
            thinking.write(o);
        }
        if let Some(effort) = thinking.effort() {
            o.object("output_config", |o| o.text("effort", effort));
        }
        calls.field(o);
    }))
}

/// How much to think, where there are three levels.
fn level(reasoning: &Reasoning) -> &'static str {
    match reasoning {
        Reasoning::Budget(0..=2048) => "low",
        Reasoning::Budget(2049..=8192) | Reasoning::Auto | Reasoning::Off => "medium",
        Reasoning::Budget(_) => "high",
        Reasoning::Effort(effort) => match effort.as_str() {
            "minimal" | "low" => "low",
            "medium" => "medium",
            _ => "high",
        },
    }
}

fn is_instruction(message: &Message) -> bool {
    matches!(message.role, Role::System | Role::Developer)
}

fn system(request: &Request, family: Family, calls: &Calls<'_>) -> Result<Option<String>, RequestError> {
    let mut blocks: Vec<String> = Vec::new();
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| is_instruction(message)) {
        message_members(message, i)?;
        for (j, part) in message.parts.iter().enumerate() {
            let path = format!("{}[{j}]", request.path(i));
            part.extra.iter().try_for_each(|extra| member(extra, &format!("{path}.")))?;
            let Body::Text(text) = &part.body else {
                return Err(RequestError::unsupported(path, "instructions are text"));
            };
            if !text.is_empty() {
                blocks.push(text_block(text));
                blocks.extend(cache_point(part.cache_control.as_ref(), family));
            }
        }
    }
    match &request.output {
        Output::JsonObject => blocks.push(text_block(JSON_ONLY)),
        Output::JsonSchema { schema, .. } if !family.is_structured() => {
            let told = format!(
                "Answer with one JSON value that is valid against this JSON Schema and nothing else:\n{}",
                schema.as_str()
            );
            blocks.push(text_block(&told));
        }
        _ => {}
    }
    if calls.in_words {
        blocks.push(text_block(NO_CALLS));
    }
    Ok((!blocks.is_empty()).then(|| format!("[{}]", blocks.join(","))))
}

fn text_block(text: &str) -> String {
    object(|o| o.text("text", text))
}

/// What Anthropic's `cache_control` asks for; nothing for a model that has no cache, where it would be an error.
pub(super) fn cache_point(control: Option<&Json>, family: Family) -> Option<String> {
    let control = node(control?.as_str(), &Limits::REQUEST).ok().filter(|_| family.caches())?;
    let ttl = control.text_of("ttl").filter(|ttl| matches!(ttl.as_ref(), "5m" | "1h"));
    Some(object(|o| {
        o.object("cachePoint", |o| {
            o.text("type", "default");
            o.maybe_text("ttl", ttl.as_deref());
        });
    }))
}

fn message_members(message: &Message, index: usize) -> Result<(), RequestError> {
    let path = format!("messages[{index}].");
    if message.name.is_some() {
        return Err(RequestError::unsupported(format!("{path}name"), "Converse's messages have no names"));
    }
    message.extra.iter().filter(|extra| !is_echo(extra)).try_for_each(|extra| member(extra, &path))
}

/// Everything but the instructions, in turns that alternate.
fn messages(request: &Request, family: Family) -> Result<String, RequestError> {
    let mut turns: Vec<(Role, Vec<&Part>)> = Vec::new();
    let last = request.messages.len().saturating_sub(1);
    for (i, message) in request.messages.iter().enumerate().filter(|(_, message)| !is_instruction(message)) {
        message_members(message, i)?;
        let prefix = message.extra.iter().any(|extra| extra.name == "prefix" && extra.value.as_str() == "true");
        if prefix && (i != last || message.role != Role::Assistant) {
            return Err(RequestError::unsupported(format!("messages[{i}].prefix"), "only the last message can be one"));
        }
        for (j, part) in message.parts.iter().enumerate() {
            supported(request, message, part, &format!("{}[{j}]", request.path(i)))?;
        }
        let kept = message.parts.iter().filter(|part| is_sent(part, family));
        match turns.last_mut() {
            Some((role, parts)) if *role == message.role => parts.extend(kept),
            _ => turns.push((message.role, kept.collect())),
        }
    }
    // An answer of which nothing is left is no turn; what was said before and after it is one.
    let mut merged: Vec<(Role, Vec<&Part>)> = Vec::new();
    for (role, parts) in turns {
        match merged.last_mut() {
            _ if parts.is_empty() && role == Role::Assistant => {}
            Some((before, kept)) if *before == role => kept.extend(parts),
            _ => merged.push((role, parts)),
        }
    }
    let mut documents = names();
    Ok(array(|a| {
        for (role, mut parts) in merged {
            // Results must come first in the turn that answers the calls.
            parts.sort_by_key(|part| !matches!(part.body, Body::ToolResult { .. }));
            a.object(|o| {
                o.text("role", if role == Role::Assistant { "assistant" } else { "user" });
                o.array("content", |a| {
                    for part in &parts {
                        block(a, part, family, &mut documents);
                        let inner =
                            if let Body::ToolResult { parts, .. } = &part.body { parts.as_slice() } else { &[] };
                        let control = part.cache_control.as_ref();
                        let control = control.or_else(|| inner.iter().find_map(|part| part.cache_control.as_ref()));
                        if let Some(point) = cache_point(control, family) {
                            a.raw(&point);
                        }
                    }
                    if parts.is_empty() {
                        a.object(|o| o.text("text", ""));
                    }
                });
            });
        }
    }))
}

/// Whether a part goes out: empty texts do not, and of reasoning only Claude's own.
fn is_sent(part: &Part, family: Family) -> bool {
    match &part.body {
        Body::Text(text) | Body::Refusal(text) => !text.is_empty(),
        // Others' signatures bear their maker's name before a colon.
        Body::Thinking { signature, .. } => {
            family.is_claude() && signature.as_ref().is_some_and(|signature| !signature.contains(':'))
        }
        Body::RedactedThinking(data) => family.is_claude() && sealed(data).is_some(),
        _ => true,
    }
}

fn supported(request: &Request, message: &Message, part: &Part, path: &str) -> Result<(), RequestError> {
    let refuse = |what: &str, why| Err(RequestError::unsupported(format!("{path}{what}"), why));
    let cited = matches!(part.body, Body::Document { .. });
    let carried = |extra: &&Extra| !(cited && matches!(extra.name.as_str(), "citations" | "context"));
    part.extra.iter().filter(carried).try_for_each(|extra| member(extra, &format!("{path}.")))?;
    match &part.body {
        Body::Image(source) => match source {
            Source::Base64 { media_type, .. } if image_format(media_type).is_some() => Ok(()),
            Source::Base64 { .. } | Source::Text(_) => refuse("", "pictures are png, jpeg, gif or webp"),
            Source::Url(_) => refuse("", "Bedrock fetches no pictures: send the data"),
            Source::File(_) => refuse("", "a stored file lives at one provider only"),
        },
        Body::Document { source, title } => match source {
            Source::Base64 { media_type, .. } if document_format(media_type, title.as_deref()).is_some() => Ok(()),
            Source::Base64 { .. } => refuse("", "documents are pdf, csv, doc, docx, xls, xlsx, html, txt or md"),
            Source::Text(_) => Ok(()),
            Source::Url(_) => refuse("", "Bedrock fetches no documents: send the data"),
            Source::File(_) => refuse("", "a stored file lives at one provider only"),
        },
        Body::Audio { media_type, .. } if audio_format(media_type).is_none() => {
            refuse(&request.kind_of("inlineData"), "Bedrock does not take this kind of sound")
        }
        Body::Other { kind, .. } => refuse(&request.kind_of(kind), "Converse has no such part"),
        Body::ToolCall(_) if message.role != Role::Assistant => refuse("", "only the assistant calls tools"),
        Body::ToolResult { parts, .. } => parts.iter().enumerate().try_for_each(|(i, inner)| match &inner.body {
            Body::Audio { .. } => refuse(&format!(".content[{i}]"), "a result holds no sound"),
            _ => supported(request, message, inner, &format!("{path}.content[{i}]")),
        }),
        _ => Ok(()),
    }
}

fn block(a: &mut Array<'_>, part: &Part, family: Family, documents: &mut impl FnMut(Option<&str>) -> String) {
    match &part.body {
        Body::Text(text) | Body::Refusal(text) => a.raw(&text_block(text)),
        Body::Image(Source::Base64 { media_type, data }) => a.object(|o| {
            o.object("image", |o| {
                o.text("format", image_format(media_type).unwrap_or("png"));
                o.object("source", |o| o.text("bytes", data));
            });
        }),
        Body::Document { source, title } => a.object(|o| {
            o.object("document", |o| document(o, part, (source, title.as_deref()), documents));
        }),
        Body::Audio { media_type, data } => a.object(|o| {
            o.object("audio", |o| {
                o.text("format", audio_format(media_type).unwrap_or("wav"));
                o.object("source", |o| o.text("bytes", data));
            });
        }),
        Body::ToolCall(call) => a.object(|o| {
            o.object("toolUse", |o| {
                o.text("toolUseId", &tool_id(&call.id, family));
                o.text("name", &call.name);
                o.raw("input", &input(&call.arguments));
            });
        }),
        Body::ToolResult { call, parts, is_error } => a.object(|o| {
            o.object("toolResult", |o| {
                o.text("toolUseId", &tool_id(call, family));
                o.array("content", |a| {
                    let said = |part: &&Part| !matches!(&part.body, Body::Text(text) if text.is_empty());
                    parts.iter().filter(said).for_each(|part| block(a, part, family, &mut *documents));
                });
                if *is_error {
                    o.text("status", "error");
                }
            });
        }),
        Body::Thinking { text, signature: Some(signature) } => a.object(|o| {
            o.object("reasoningContent", |o| {
                o.object("reasoningText", |o| {
                    o.text("text", text);
                    o.text("signature", signature);
                });
            });
        }),
        Body::RedactedThinking(data) => {
            if let Some(blob) = sealed(data) {
                a.object(|o| o.object("reasoningContent", |o| o.text("redactedContent", &blob)));
            }
        }
        Body::Image(_) | Body::Thinking { .. } | Body::Other { .. } => {}
    }
}

fn document(
    o: &mut Object<'_>,
    part: &Part,
    (source, title): (&Source, Option<&str>),
    names: &mut impl FnMut(Option<&str>) -> String,
) {
    let cited = part.extra.iter().find(|extra| extra.name == "citations");
    let cited = cited.filter(|extra| neutral(extra, "", UNKNOWN).is_err());
    match source {
        Source::Base64 { media_type, data } => {
            o.text("format", document_format(media_type, title).unwrap_or("pdf"));
            o.text("name", &names(title));
            o.object("source", |o| o.text("bytes", data));
        }
        Source::Text(text) | Source::Url(text) | Source::File(text) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.encode(text);
            o.text("format", "txt");
            o.text("name", &names(title));
            o.object("source", |o| o.text("bytes", &bytes));
        }
    }
    if let Some(context) = part.extra.iter().find(|extra| extra.name == "context") {
        o.raw("context", context.value.as_str());
    }
    if cited.is_some() {
        o.raw("citations", r#"{"enabled":true}"#);
    }
}

/// A call's id as Converse takes it: letters, digits, `_`, `-`, and where it is not Claude's also `.` and `:`; any other
/// character becomes its code, so that two ids stay two. What is too long keeps its beginning and the hash of all of it.
fn tool_id(id: &str, family: Family) -> String {
    let plain = |c: char| {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (!family.is_claude() && matches!(c, '.' | ':'))
    };
    let written = id.chars().fold(String::with_capacity(id.len()), |mut out, c| {
        if plain(c) {
            out.push(c);
        } else {
            out.extend(["_", &u32::from(c).to_string(), "_"]);
        }
        out
    });
    if written.len() <= ID {
        return written;
    }
    // FNV-1a: the callers are one conversation's own ids, not adversaries of each other.
    let hash = id
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let kept: String = written.chars().take(ID - 17).collect();
    format!("{kept}_{hash:016x}")
}

fn inference(o: &mut Object<'_>, request: &Request) {
    o.maybe_number("maxTokens", request.max_output_tokens);
    if let Some(temperature) = &request.temperature {
        o.raw("temperature", temperature.as_str());
    }
    if let Some(top_p) = &request.top_p {
        o.raw("topP", top_p.as_str());
    }
    if !request.stop.is_empty() {
        o.array("stopSequences", |a| request.stop.iter().for_each(|stop| a.text(stop)));
    }
}

/// `outputConfig.textFormat`: the schema as text.
fn output(o: &mut Object<'_>, request: &Request, family: Family) {
    let Output::JsonSchema { name, description, schema, .. } = &request.output else { return };
    if !family.is_structured() {
        return;
    }
    o.object("outputConfig", |o| {
        o.object("textFormat", |o| {
            o.text("type", "json_schema");
            o.object("structure", |o| {
                o.object("jsonSchema", |o| {
                    o.raw("schema", &quoted(schema.as_str()));
                    o.maybe_text("name", name.as_deref());
                    o.maybe_text("description", description.as_deref());
                });
            });
        });
    });
}
