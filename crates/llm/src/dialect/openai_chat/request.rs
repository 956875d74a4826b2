//! Reading a request.

use crate::dialect::openai_responses::free_input;
use crate::dialect::read::{an_object, boolean, extras, json, list, needed, number, text, whole};
use crate::json::Node;
use crate::model::{
    Body, Extra, Json, Message, Output, Part, Reasoning, Request, Role, Sampling, Source, Tool, ToolCall, ToolChoice,
};
use crate::{Dialect, RequestError};

/// Members read here. What `reasoning`, `thinking` and the like say is read too, but they stay extras, so that the
/// same dialect gets them back as they came.
const KNOWN: [&str; 23] = [
    "model",
    "messages",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_tokens",
    "max_completion_tokens",
    "temperature",
    "top_p",
    "top_k",
    "n",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "logprobs",
    "top_logprobs",
    "stop",
    "response_format",
    "reasoning_effort",
    "user",
    "stream",
    "stream_options",
    "function_call",
];

/// `root` as a canonical request.
pub(crate) fn request(root: &Node<'_>) -> Result<Request, RequestError> {
    let messages = root.get("messages").ok_or_else(|| RequestError::missing("messages"))?;
    if !messages.is_array() {
        return Err(RequestError::wrong("messages", "an array"));
    }
    let messages = messages.items().iter().enumerate().map(|(i, node)| message(node, &format!("messages[{i}].")));
    let tools = list(root, "tools", "")?.iter().enumerate().map(|(i, node)| tool(node, &format!("tools[{i}].")));
    let bounds = [whole(root, "max_completion_tokens", "")?, whole(root, "max_tokens", "")?];
    let mut extra = extras(root.members(), &KNOWN);
    if let Some(call) = json(root, "function_call").filter(|_| root.get("functions").is_some()) {
        extra.push(Extra { name: "function_call".to_owned(), value: call });
    }
    Ok(Request {
        dialect: Dialect::OpenAiChat,
        model: needed(root, "model", "")?,
        messages: messages.collect::<Result<_, _>>()?,
        apart: false,
        tools: tools.collect::<Result<_, _>>()?,
        tool_choice: root.get("tool_choice").map(tool_choice),
        parallel_tool_calls: boolean(root, "parallel_tool_calls", "")?,
        max_output_tokens: bounds.into_iter().flatten().max(),
        temperature: number(root, "temperature", "")?,
        top_p: number(root, "top_p", "")?,
        top_k: whole(root, "top_k", "")?,
        sampling: Sampling {
            answers: whole(root, "n", "")?,
            seed: number(root, "seed", "")?,
            presence_penalty: number(root, "presence_penalty", "")?,
            frequency_penalty: number(root, "frequency_penalty", "")?,
            logprobs: boolean(root, "logprobs", "")?,
            top_logprobs: whole(root, "top_logprobs", "")?,
        },
        stop: stops(root)?,
        output: output(root)?,
        reasoning: reasoning(root)?,
        user: match text(root, "user", "")? {
            Some(user) => Some(user),
            None => text(root, "safety_identifier", "")?,
        },
        stream: boolean(root, "stream", "")?.unwrap_or(false),
        include_usage: match root.get("stream_options") {
            Some(options) => boolean(an_object(options, "stream_options")?, "include_usage", "stream_options.")?,
            None => None,
        }
        .unwrap_or(false),
        extra,
    })
}

fn stops(root: &Node<'_>) -> Result<Vec<String>, RequestError> {
    let wrong = || RequestError::wrong("stop", "a string or an array of strings");
    let Some(stop) = root.get("stop") else { return Ok(Vec::new()) };
    if let Some(text) = stop.text() {
        return Ok(vec![text.into_owned()]);
    }
    if !stop.is_array() {
        return Err(wrong());
    }
    stop.items().iter().map(|item| item.text().map(std::borrow::Cow::into_owned).ok_or_else(wrong)).collect()
}

fn output(root: &Node<'_>) -> Result<Output, RequestError> {
    let Some(format) = root.get("response_format") else { return Ok(Output::Text) };
    let kind = needed(an_object(format, "response_format")?, "type", "response_format.")?;
    match kind.as_str() {
        "text" => Ok(Output::Text),
        "json_object" => Ok(Output::JsonObject),
        "json_schema" => {
            let path = "response_format.json_schema";
            let inner = format.get("json_schema").ok_or_else(|| RequestError::missing(path))?;
            let schema = inner.get("schema").ok_or_else(|| RequestError::missing(format!("{path}.schema")))?;
            Ok(Output::JsonSchema {
                name: text(inner, "name", "response_format.json_schema.")?,
                description: text(inner, "description", "response_format.json_schema.")?,
                schema: Json::trusted(schema.raw),
                strict: boolean(inner, "strict", "response_format.json_schema.")?,
            })
        }
        _ => Err(RequestError::unsupported("response_format.type", "text, json_object and json_schema are known")),
    }
}

/// `reasoning_effort`; `reasoning` (`OpenRouter`); `thinking` (`DeepSeek`, Z.ai); `enable_thinking` (Qwen).
fn reasoning(root: &Node<'_>) -> Result<Option<Reasoning>, RequestError> {
    let effort = |effort: String| if effort == "none" { Reasoning::Off } else { Reasoning::Effort(effort) };
    if let Some(value) = text(root, "reasoning_effort", "")? {
        return Ok(Some(effort(value)));
    }
    if let Some(reasoning) = root.get("reasoning") {
        if let Some(value) = text(reasoning, "effort", "reasoning.")? {
            return Ok(Some(effort(value)));
        }
        if let Some(budget) = whole(reasoning, "max_tokens", "reasoning.")? {
            return Ok(Some(Reasoning::Budget(budget)));
        }
        let enabled = boolean(reasoning, "enabled", "reasoning.")?;
        return Ok(enabled.map(|on| if on { Reasoning::Auto } else { Reasoning::Off }));
    }
    if let Some(thinking) = root.get("thinking") {
        if let Some(budget) = whole(thinking, "budget_tokens", "thinking.")? {
            return Ok(Some(Reasoning::Budget(budget)));
        }
        let kind = text(thinking, "type", "thinking.")?;
        return Ok(kind.map(|kind| if kind == "disabled" { Reasoning::Off } else { Reasoning::Auto }));
    }
    let enabled = boolean(root, "enable_thinking", "")?;
    Ok(enabled.map(|on| if on { Reasoning::Auto } else { Reasoning::Off }))
}

fn tool_choice(choice: &Node<'_>) -> ToolChoice {
    match choice.text().as_deref() {
        Some("auto") => return ToolChoice::Auto,
        Some("none") => return ToolChoice::None,
        // Mistral says `any`.
        Some("required" | "any") => return ToolChoice::Required,
        _ => {}
    }
    match choice.get("function").or_else(|| choice.get("custom")).and_then(|function| function.text_of("name")) {
        Some(name) => ToolChoice::Tool(name.into_owned()),
        None => ToolChoice::Other(Json::trusted(choice.raw)),
    }
}

fn tool(node: &Node<'_>, path: &str) -> Result<Tool, RequestError> {
    let kind = text(an_object(node, path)?, "type", path)?.unwrap_or_else(|| "function".to_owned());
    let native = |kind: String| Tool {
        name: node.text_of("name").unwrap_or_default().into_owned(),
        description: None,
        schema: None,
        strict: None,
        cache_control: None,
        native: Some((kind, Json::trusted(node.raw))),
        extra: Vec::new(),
    };
    if kind == "custom" {
        return custom(node, path).map(|tool| tool.unwrap_or_else(|| native(kind)));
    }
    if kind != "function" {
        return Ok(native(kind));
    }
    let inner = format!("{path}function.");
    let function = node.get("function").ok_or_else(|| RequestError::missing(format!("{path}function")))?;
    let mut extra = extras(node.members(), &["type", "function", "cache_control"]);
    extra.extend(extras(function.members(), &["name", "description", "parameters", "strict"]));
    Ok(Tool {
        name: needed(an_object(function, &inner)?, "name", &inner)?,
        description: text(function, "description", &inner)?,
        schema: json(function, "parameters"),
        strict: boolean(function, "strict", &inner)?,
        cache_control: json(node, "cache_control"),
        native: None,
        extra,
    })
}

/// A tool that is called with free text: a function of one text, `input`. `None`: the text has to follow a grammar, which no other
/// provider's function can promise.
fn custom(node: &Node<'_>, path: &str) -> Result<Option<Tool>, RequestError> {
    let inner = format!("{path}custom.");
    let custom = node.get("custom").ok_or_else(|| RequestError::missing(format!("{path}custom")))?;
    let name = needed(an_object(custom, &inner)?, "name", &inner)?;
    if custom.get("format").is_some_and(|format| format.text_of("type").as_deref() != Some("text")) {
        return Ok(None);
    }
    let mut extra = extras(node.members(), &["type", "custom", "cache_control"]);
    extra.extend(extras(custom.members(), &["name", "description", "format"]));
    Ok(Some(Tool {
        name,
        description: text(custom, "description", &inner)?,
        schema: Some(free_input()),
        strict: None,
        cache_control: json(node, "cache_control"),
        native: None,
        extra,
    }))
}

/// Members of a message read here.
const MESSAGE: [&str; 12] = [
    "role",
    "content",
    "name",
    "refusal",
    "tool_calls",
    "tool_call_id",
    "reasoning",
    "reasoning_content",
    "reasoning_details",
    "cache_control",
    "prefix",
    "function_call",
];

fn message(node: &Node<'_>, path: &str) -> Result<Message, RequestError> {
    let role = needed(an_object(node, path)?, "role", path)?;
    let mut parts = content(node, path)?;
    let mut extra = extras(node.members(), &MESSAGE);
    if boolean(node, "prefix", path)? == Some(true) {
        extra.push(Extra { name: "prefix".to_owned(), value: Json::trusted("true") });
    }
    let mut name = text(node, "name", path)?;
    let role = match role.as_str() {
        "system" => Role::System,
        "developer" => Role::Developer,
        "user" => Role::User,
        "assistant" => {
            let thought = crate::provider::openai::thought_parts(node);
            parts.splice(0..0, thought);
            let refusal = text(node, "refusal", path)?.filter(|refusal| !refusal.is_empty());
            parts.extend(refusal.map(|refusal| Part::new(Body::Refusal(refusal))));
            for (i, call) in list(node, "tool_calls", path)?.iter().enumerate() {
                parts.push(tool_call(call, &format!("{path}tool_calls[{i}]"))?);
            }
            if node.get("function_call").is_some() {
                return Err(RequestError::unsupported(format!("{path}function_call"), "use tool_calls"));
            }
            Role::Assistant
        }
        "tool" => {
            // The function's name stands with its call.
            name = None;
            let call = needed(node, "tool_call_id", path)?;
            parts = vec![Part::new(Body::ToolResult { call, parts, is_error: false })];
            Role::User
        }
        "function" => return Err(RequestError::unsupported(format!("{path}role"), "use the role tool")),
        _ => return Err(RequestError::wrong(format!("{path}role"), "system, developer, user, assistant or tool")),
    };
    if let (Some(cache), Some(last)) = (json(node, "cache_control"), parts.last_mut()) {
        last.cache_control.get_or_insert(cache);
    }
    Ok(Message { role, parts, name, item: None, extra })
}

fn tool_call(node: &Node<'_>, path: &str) -> Result<Part, RequestError> {
    let call = crate::provider::openai::tool_call(an_object(node, path)?);
    let call = call.ok_or_else(|| RequestError::missing(format!("{path}.function.name")))?;
    if call.id.is_empty() {
        return Err(RequestError::missing(format!("{path}.id")));
    }
    let cache_control = json(node, "cache_control");
    Ok(Part { cache_control, ..Part::new(Body::ToolCall(ToolCall { ..call })) })
}

fn content(node: &Node<'_>, path: &str) -> Result<Vec<Part>, RequestError> {
    let Some(content) = node.get("content") else { return Ok(Vec::new()) };
    if let Some(text) = content.text() {
        return Ok(vec![Part::text(text)]);
    }
    if !content.is_array() {
        return Err(RequestError::wrong(format!("{path}content"), "a string or an array of parts"));
    }
    content.items().iter().enumerate().map(|(i, node)| part(node, &format!("{path}content[{i}]."))).collect()
}

fn part(node: &Node<'_>, path: &str) -> Result<Part, RequestError> {
    let kind = needed(an_object(node, path)?, "type", path)?;
    let mut extra = extras(node.members(), &["type", kind.as_str(), "cache_control", "document_name"]);
    let body = match kind.as_str() {
        "text" => Body::Text(needed(node, "text", path)?),
        "refusal" => Body::Refusal(needed(node, "refusal", path)?),
        "image_url" => {
            let image = node.get("image_url").ok_or_else(|| RequestError::missing(format!("{path}image_url")))?;
            // Mistral takes the URL itself, too.
            let url = image.text().or_else(|| image.text_of("url"));
            let url = url.ok_or_else(|| RequestError::missing(format!("{path}image_url.url")))?;
            extra.extend(extras(image.members(), &["url"]));
            Body::Image(url_source(&url))
        }
        "file" => {
            let path = format!("{path}file.");
            let file = node.get("file").ok_or_else(|| RequestError::missing(path.as_str()))?;
            let title = text(file, "filename", &path)?;
            let source = match (text(file, "file_data", &path)?, text(file, "file_id", &path)?) {
                (Some(data), _) => file_source(&data),
                (None, Some(id)) => Source::File(id),
                (None, None) => return Err(RequestError::missing(format!("{path}file_data"))),
            };
            Body::Document { source, title }
        }
        "document_url" => {
            let url = needed(node, "document_url", path)?;
            Body::Document { source: url_source(&url), title: text(node, "document_name", path)? }
        }
        // Mistral's reasoning models get theirs back so.
        "thinking" => {
            let pieces = list(node, "thinking", path)?.iter().filter_map(|piece| piece.text_of("text"));
            extra.clear();
            Body::Thinking { text: pieces.collect(), signature: None }
        }
        "input_audio" => match audio(node.get("input_audio")) {
            Some(audio) => audio,
            None => Body::Other { kind, raw: Json::trusted(node.raw) },
        },
        _ => Body::Other { kind, raw: Json::trusted(node.raw) },
    };
    if matches!(body, Body::Other { .. }) {
        extra.clear();
    }
    Ok(Part { body, cache_control: json(node, "cache_control"), citations: Vec::new(), extra })
}

/// `input_audio`: base64, and a `format` that is the media type's second half.
pub(in crate::dialect) fn audio(node: Option<&Node<'_>>) -> Option<Body> {
    let (data, format) = (node?.text_of("data")?, node?.text_of("format")?);
    Some(Body::Audio { media_type: format!("audio/{format}"), data: data.into_owned() })
}

/// A `data:` URL (RFC 2397) in base64 as data, any other URL as itself.
pub(in crate::dialect) fn url_source(url: &str) -> Source {
    let data = url.strip_prefix("data:").and_then(|rest| rest.split_once(";base64,"));
    match data {
        Some((media_type, data)) => {
            // Parameters of the media type (`;charset=..`) are of no use to a picture.
            let media_type = media_type.split(';').next().unwrap_or(media_type);
            Source::Base64 { media_type: media_type.to_ascii_lowercase(), data: data.to_owned() }
        }
        None => Source::Url(url.to_owned()),
    }
}

/// `file_data`: a `data:` URL, or bare base64, which OpenAI takes for a PDF. Plain text is read.
pub(in crate::dialect) fn file_source(data: &str) -> Source {
    use base64::Engine as _;
    match url_source(data) {
        Source::Base64 { media_type, data } if media_type.starts_with("text/") => {
            let bytes = base64::engine::general_purpose::STANDARD.decode(&data);
            match bytes.ok().and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(text) => Source::Text(text),
                None => Source::Base64 { media_type, data },
            }
        }
        Source::Url(bare) if !bare.contains(':') => {
            Source::Base64 { media_type: "application/pdf".to_owned(), data: bare }
        }
        other => other,
    }
}
