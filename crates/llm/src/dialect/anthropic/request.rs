//! Reading a request.

use crate::dialect::read::{an_object, boolean, extras, json, list, needed, number, text, whole};
use crate::json::Node;
use crate::model::{
    Body, GEMINI_SIGNATURE, Json, Message, Output, Part, Reasoning, Request, Role, Sampling, Source, Tool, ToolCall,
    ToolChoice,
};
use crate::{Dialect, RequestError};

/// Members read here. `thinking`, `output_config` and `output_format` are read too, but stay extras, so that the same
/// dialect gets them back as they came.
const KNOWN: [&str; 11] = [
    "model",
    "messages",
    "system",
    "max_tokens",
    "tools",
    "tool_choice",
    "temperature",
    "top_p",
    "top_k",
    "stop_sequences",
    "stream",
];

/// `root` as a canonical request.
pub(crate) fn request(root: &Node<'_>) -> Result<Request, RequestError> {
    let given = root.get("messages").ok_or_else(|| RequestError::missing("messages"))?;
    if !given.is_array() {
        return Err(RequestError::wrong("messages", "an array"));
    }
    let mut messages = Vec::with_capacity(given.items().len() + 1);
    if root.get("system").is_some() {
        messages.push(Message::new(Role::System, content(root, "system", "")?));
    }
    for (i, node) in given.items().iter().enumerate() {
        messages.push(message(node, &format!("messages[{i}]."))?);
    }
    let tools = list(root, "tools", "")?.iter().enumerate().map(|(i, node)| tool(node, &format!("tools[{i}].")));
    let stop = list(root, "stop_sequences", "")?.iter().map(|item| {
        let text = item.text().ok_or_else(|| RequestError::wrong("stop_sequences", "an array of strings"))?;
        Ok(text.into_owned())
    });
    let choice = root.get("tool_choice");
    let single = choice.and_then(|choice| choice.get("disable_parallel_tool_use")).and_then(Node::boolean);
    let mut extra = extras(root.members(), &KNOWN);
    let user = match root.get("metadata") {
        Some(metadata) => {
            let known_only = metadata.members().iter().all(|(name, _)| name == "user_id");
            let user = text(metadata, "user_id", "metadata.")?;
            extra.retain(|extra| extra.name != "metadata" || !known_only);
            user
        }
        None => None,
    };
    Ok(Request {
        dialect: Dialect::AnthropicMessages,
        model: needed(root, "model", "")?,
        messages,
        apart: root.get("system").is_some(),
        tools: tools.collect::<Result<_, RequestError>>()?,
        tool_choice: choice.map(tool_choice),
        parallel_tool_calls: single.map(|single| !single),
        max_output_tokens: whole(root, "max_tokens", "")?,
        temperature: number(root, "temperature", "")?,
        top_p: number(root, "top_p", "")?,
        top_k: whole(root, "top_k", "")?,
        sampling: Sampling::default(),
        stop: stop.collect::<Result<_, RequestError>>()?,
        output: output(root)?,
        reasoning: reasoning(root)?,
        user,
        stream: boolean(root, "stream", "")?.unwrap_or(false),
        include_usage: true,
        extra,
    })
}

/// `output_config.format`, or `output_format` as its beta had it.
fn output(root: &Node<'_>) -> Result<Output, RequestError> {
    let configured = root.get("output_config").and_then(|config| config.get("format"));
    let Some(format) = configured.or_else(|| root.get("output_format")) else { return Ok(Output::Text) };
    let path = if configured.is_some() { "output_config.format." } else { "output_format." };
    let kind = needed(an_object(format, path)?, "type", path)?;
    if kind != "json_schema" {
        return Err(RequestError::unsupported(format!("{path}type"), "json_schema is known"));
    }
    let schema = format.get("schema").ok_or_else(|| RequestError::missing(format!("{path}schema")))?;
    Ok(Output::JsonSchema { name: None, description: None, schema: Json::trusted(schema.raw), strict: Some(true) })
}

fn reasoning(root: &Node<'_>) -> Result<Option<Reasoning>, RequestError> {
    let config = root.get("output_config");
    let thinking = root.get("thinking");
    let kind = match thinking {
        Some(thinking) => Some(needed(an_object(thinking, "thinking")?, "type", "thinking.")?),
        None => None,
    };
    if kind.as_deref() == Some("disabled") {
        return Ok(Some(Reasoning::Off));
    }
    if let Some(effort) = config.map(|config| text(config, "effort", "output_config.")).transpose()?.flatten() {
        return Ok(Some(Reasoning::Effort(effort)));
    }
    let budget = thinking.map(|thinking| whole(thinking, "budget_tokens", "thinking.")).transpose()?.flatten();
    Ok(match (kind, budget) {
        (None, _) => None,
        (Some(_), Some(budget)) => Some(Reasoning::Budget(budget)),
        (Some(_), None) => Some(Reasoning::Auto),
    })
}

fn tool_choice(choice: &Node<'_>) -> ToolChoice {
    match (choice.text_of("type").as_deref(), choice.text_of("name")) {
        (Some("auto"), _) => ToolChoice::Auto,
        (Some("none"), _) => ToolChoice::None,
        (Some("any"), _) => ToolChoice::Required,
        (Some("tool"), Some(name)) => ToolChoice::Tool(name.into_owned()),
        _ => ToolChoice::Other(Json::trusted(choice.raw)),
    }
}

fn tool(node: &Node<'_>, path: &str) -> Result<Tool, RequestError> {
    let kind = text(an_object(node, path)?, "type", path)?;
    let native = kind.filter(|kind| kind != "custom").map(|kind| (kind, Json::trusted(node.raw)));
    let known = ["type", "name", "description", "input_schema", "strict", "cache_control"];
    let extra = if native.is_some() { Vec::new() } else { extras(node.members(), &known) };
    Ok(Tool {
        name: needed(node, "name", path)
            .or_else(|error| if native.is_some() { Ok(String::new()) } else { Err(error) })?,
        description: text(node, "description", path)?,
        schema: json(node, "input_schema"),
        strict: boolean(node, "strict", path)?,
        cache_control: json(node, "cache_control"),
        native,
        extra,
    })
}

fn message(node: &Node<'_>, path: &str) -> Result<Message, RequestError> {
    let role = match needed(an_object(node, path)?, "role", path)?.as_str() {
        "user" => Role::User,
        "assistant" => Role::Assistant,
        "system" => Role::System,
        _ => return Err(RequestError::wrong(format!("{path}role"), "user or assistant")),
    };
    if node.get("content").is_none() {
        return Err(RequestError::missing(format!("{path}content")));
    }
    let extra = extras(node.members(), &["role", "content"]);
    Ok(Message { role, parts: content(node, "content", path)?, name: None, item: None, extra })
}

/// A string, or blocks.
fn content(node: &Node<'_>, name: &str, path: &str) -> Result<Vec<Part>, RequestError> {
    let Some(content) = node.get(name) else { return Ok(Vec::new()) };
    if let Some(text) = content.text() {
        return Ok(vec![Part::text(text)]);
    }
    if !content.is_array() {
        return Err(RequestError::wrong(format!("{path}{name}"), "a string or an array of blocks"));
    }
    let blocks = content.items().iter().enumerate().map(|(i, block)| part(block, &format!("{path}{name}[{i}].")));
    Ok(signed(blocks.collect::<Result<_, _>>()?))
}

/// Google's signature of a call stands in a block before it: see [`super::response`].
fn signed(parts: Vec<Part>) -> Vec<Part> {
    let mut done: Vec<Part> = Vec::with_capacity(parts.len());
    for mut part in parts {
        if let Body::ToolCall(call) = &mut part.body
            && let Some(Part { body: Body::Thinking { text, signature: Some(signature) }, .. }) = done.last()
            && let Some(google) = signature.strip_prefix(GEMINI_SIGNATURE).filter(|_| text.is_empty())
        {
            call.signature = Some(google.to_owned());
            done.pop();
        }
        done.push(part);
    }
    done
}

fn part(block: &Node<'_>, path: &str) -> Result<Part, RequestError> {
    let kind = needed(an_object(block, path)?, "type", path)?;
    let (body, known): (Body, &[&str]) = match kind.as_str() {
        "text" => (Body::Text(needed(block, "text", path)?), &["text", "citations"]),
        "image" => match source(block, path)? {
            Some(source) => (Body::Image(source), &["source"]),
            None => return Ok(other(kind, block)),
        },
        "document" => match source(block, path)? {
            Some(source) => (Body::Document { source, title: text(block, "title", path)? }, &["source", "title"]),
            None => return Ok(other(kind, block)),
        },
        "tool_use" => {
            let input = block.get("input").filter(|input| input.is_object());
            input.ok_or_else(|| RequestError::wrong(format!("{path}input"), "an object"))?;
            let call = ToolCall {
                id: needed(block, "id", path)?,
                name: needed(block, "name", path)?,
                arguments: crate::provider::anthropic::arguments(block),
                signature: None,
            };
            (Body::ToolCall(call), &["id", "name", "input"])
        }
        "tool_result" => (
            Body::ToolResult {
                call: needed(block, "tool_use_id", path)?,
                parts: content(block, "content", path)?,
                is_error: boolean(block, "is_error", path)?.unwrap_or(false),
            },
            &["tool_use_id", "content", "is_error"],
        ),
        "thinking" => {
            let signature = text(block, "signature", path)?.filter(|signature| !signature.is_empty());
            (Body::Thinking { text: needed(block, "thinking", path)?, signature }, &["thinking", "signature"])
        }
        "redacted_thinking" => (Body::RedactedThinking(needed(block, "data", path)?), &["data"]),
        _ => return Ok(other(kind, block)),
    };
    let mut extra = extras(block.members(), known);
    extra.retain(|extra| extra.name != "type" && extra.name != "cache_control");
    Ok(Part { body, cache_control: json(block, "cache_control"), citations: Vec::new(), extra })
}

fn other(kind: String, block: &Node<'_>) -> Part {
    Part::new(Body::Other { kind, raw: Json::trusted(block.raw) })
}

/// Where an image or document is; `None` for a form that is passed on whole.
fn source(block: &Node<'_>, path: &str) -> Result<Option<Source>, RequestError> {
    let node = block.get("source").ok_or_else(|| RequestError::missing(format!("{path}source")))?;
    let path = format!("{path}source.");
    let kind = needed(an_object(node, &path)?, "type", &path)?;
    Ok(Some(match kind.as_str() {
        "base64" => {
            Source::Base64 { media_type: needed(node, "media_type", &path)?, data: needed(node, "data", &path)? }
        }
        "url" => Source::Url(needed(node, "url", &path)?),
        "file" => Source::File(needed(node, "file_id", &path)?),
        "text" => Source::Text(needed(node, "data", &path)?),
        _ => return Ok(None),
    }))
}
