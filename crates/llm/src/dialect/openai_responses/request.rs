//! Reading a request that is to be translated. What would need state at a provider is refused by name.

use crate::dialect::openai_chat::{audio, file_source, url_source};
use crate::dialect::read::{an_object, boolean, extras, json, list, needed, number, text, whole};
use crate::json::{Node, object};
use crate::model::{
    Body, Extra, GEMINI_SIGNATURE, Json, Message, Output, Part, Reasoning, Request, Role, Sampling, Source, Tool,
    ToolCall, ToolChoice,
};
use crate::{Dialect, RequestError};

use super::{Sealed, unseal};

/// Members read here, or that ask for nothing: nothing is stored, whatever `store` says, and the answer says so.
const KNOWN: [&str; 24] = [
    "model",
    "input",
    "instructions",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "max_output_tokens",
    "max_tool_calls",
    "temperature",
    "top_p",
    "top_logprobs",
    "include",
    "text",
    "reasoning",
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "stream",
    "stream_options",
    "truncation",
    "background",
    "prompt_cache_key",
    "prompt_cache_retention",
];

/// What `include` may ask for without changing the answer of a provider that has no tools of its own.
const INCLUDED: [&str; 7] = [
    "reasoning.encrypted_content",
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
];
const LOGPROBS: &str = "message.output_text.logprobs";

/// What needs a provider that remembers.
const STATE: [&str; 3] = ["previous_response_id", "conversation", "prompt"];
const STATELESS: &str = "this model's provider has no Responses API, and stores nothing";

/// `root` as a canonical request.
pub(crate) fn request(root: &Node<'_>) -> Result<Request, RequestError> {
    if let Some(name) = STATE.iter().find(|name| root.get(name).is_some()) {
        return Err(RequestError::unsupported(*name, STATELESS));
    }
    if boolean(root, "background", "")? == Some(true) {
        return Err(RequestError::unsupported("background", STATELESS));
    }
    if root.text_of("truncation").is_some_and(|kind| kind != "disabled") {
        return Err(RequestError::unsupported("truncation", "nothing is left out of a conversation"));
    }
    let mut turns = Turns::default();
    let instructions = text(root, "instructions", "")?;
    let apart = instructions.is_some();
    turns.messages.extend(instructions.map(|text| Message::new(Role::System, vec![Part::text(text)])));
    let input = root.get("input").ok_or_else(|| RequestError::missing("input"))?;
    match input.text() {
        Some(text) => turns.messages.push(Message::new(Role::User, vec![Part::text(text)])),
        None if input.is_array() => {
            for (i, item) in input.items().iter().enumerate() {
                turns.take(i, item, &format!("input[{i}]."))?;
            }
        }
        None => return Err(RequestError::wrong("input", "a string or an array of items")),
    }
    let tools = list(root, "tools", "")?.iter().enumerate().map(|(i, node)| tool(node, &format!("tools[{i}].")));
    let mut extra = extras(root.members(), &KNOWN);
    let (output, verbosity) = output(root)?;
    extra.extend(verbosity);
    let top_logprobs = whole(root, "top_logprobs", "")?.filter(|top| *top > 0);
    let logprobs = included(root)? || top_logprobs.is_some();
    Ok(Request {
        dialect: Dialect::OpenAiResponses,
        model: needed(root, "model", "")?,
        messages: turns.messages,
        apart,
        tools: tools.collect::<Result<_, _>>()?,
        tool_choice: root.get("tool_choice").map(tool_choice),
        parallel_tool_calls: boolean(root, "parallel_tool_calls", "")?,
        max_output_tokens: whole(root, "max_output_tokens", "")?,
        temperature: number(root, "temperature", "")?,
        top_p: number(root, "top_p", "")?,
        top_k: None,
        sampling: Sampling { logprobs: logprobs.then_some(true), top_logprobs, ..Sampling::default() },
        stop: Vec::new(),
        output,
        reasoning: reasoning(root)?,
        user: match text(root, "safety_identifier", "")? {
            Some(user) => Some(user),
            None => text(root, "user", "")?,
        },
        stream: boolean(root, "stream", "")?.unwrap_or(false),
        include_usage: true,
        extra,
    })
}

/// Whether probabilities are to be included.
fn included(root: &Node<'_>) -> Result<bool, RequestError> {
    let mut logprobs = false;
    for (i, item) in list(root, "include", "")?.iter().enumerate() {
        let name = item.text().ok_or_else(|| RequestError::wrong(format!("include[{i}]"), "a string"))?;
        logprobs |= name == LOGPROBS;
        if name != LOGPROBS && !INCLUDED.contains(&&*name) {
            return Err(RequestError::unsupported(format!("include[{i}]"), "nobody here knows what that is"));
        }
    }
    Ok(logprobs)
}

fn output(root: &Node<'_>) -> Result<(Output, Option<Extra>), RequestError> {
    let Some(config) = root.get("text") else { return Ok((Output::Text, None)) };
    let verbosity = text(an_object(config, "text")?, "verbosity", "text.")?.filter(|verbosity| verbosity != "medium");
    let verbosity = verbosity.and_then(|_| json(config, "verbosity"));
    let verbosity = verbosity.map(|value| Extra { name: "text.verbosity".to_owned(), value });
    let Some(format) = config.get("format") else { return Ok((Output::Text, verbosity)) };
    let path = "text.format.";
    let output = match needed(an_object(format, path)?, "type", path)?.as_str() {
        "text" => Output::Text,
        "json_object" => Output::JsonObject,
        "json_schema" => {
            let schema = format.get("schema").ok_or_else(|| RequestError::missing(format!("{path}schema")))?;
            Output::JsonSchema {
                name: text(format, "name", path)?,
                description: text(format, "description", path)?,
                schema: Json::trusted(schema.raw),
                strict: boolean(format, "strict", path)?,
            }
        }
        _ => {
            return Err(RequestError::unsupported(
                format!("{path}type"),
                "text, json_object and json_schema are known",
            ));
        }
    };
    Ok((output, verbosity))
}

/// How much to think. Other providers show their reasoning anyhow, whatever `summary` says.
fn reasoning(root: &Node<'_>) -> Result<Option<Reasoning>, RequestError> {
    let Some(reasoning) = root.get("reasoning") else { return Ok(None) };
    let effort = text(an_object(reasoning, "reasoning")?, "effort", "reasoning.")?;
    Ok(effort.map(|effort| if effort == "none" { Reasoning::Off } else { Reasoning::Effort(effort) }))
}

fn tool_choice(choice: &Node<'_>) -> ToolChoice {
    let other = || ToolChoice::Other(Json::trusted(choice.raw));
    let named = |node: &Node<'_>| node.text_of("name").map(|name| ToolChoice::Tool(name.into_owned()));
    match (choice.text().as_deref(), choice.text_of("type").as_deref()) {
        (Some("auto"), _) => ToolChoice::Auto,
        (Some("none"), _) => ToolChoice::None,
        (Some("required"), _) => ToolChoice::Required,
        (None, Some("function" | "custom")) => named(choice).unwrap_or_else(other),
        // One of one.
        (None, Some("allowed_tools")) if choice.text_of("mode").as_deref() == Some("required") => {
            match choice.get("tools").map(Node::items) {
                Some([only]) => named(only).unwrap_or_else(other),
                _ => other(),
            }
        }
        _ => other(),
    }
}

/// What a custom tool is called with, for providers whose tools are functions: one text.
pub(crate) fn free_input() -> Json {
    Json::trusted(&object(|o| {
        o.text("type", "object");
        o.object("properties", |o| o.object("input", |o| o.text("type", "string")));
        o.array("required", |a| a.text("input"));
        o.boolean("additionalProperties", false);
    }))
}

fn tool(node: &Node<'_>, path: &str) -> Result<Tool, RequestError> {
    let kind = needed(an_object(node, path)?, "type", path)?;
    let own = |schema, native, extra| -> Result<Tool, RequestError> {
        Ok(Tool {
            name: text(node, "name", path)?.unwrap_or_default(),
            description: text(node, "description", path)?,
            schema,
            strict: None,
            cache_control: None,
            native,
            extra,
        })
    };
    let free = node.get("format").is_none_or(|format| format.text_of("type").as_deref() == Some("text"));
    match kind.as_str() {
        "function" => {
            needed(node, "name", path)?;
            let extra = extras(node.members(), &["type", "name", "description", "parameters", "strict"]);
            Ok(Tool { strict: boolean(node, "strict", path)?, ..own(json(node, "parameters"), None, extra)? })
        }
        "custom" if free => {
            needed(node, "name", path)?;
            let extra = extras(node.members(), &["type", "name", "description", "format"]);
            own(Some(free_input()), None, extra)
        }
        _ => own(None, Some((kind, Json::trusted(node.raw))), Vec::new()),
    }
}

/// Items put together to turns: what the model said, thought and called between two turns of the user's is one.
#[derive(Default)]
struct Turns {
    messages: Vec<Message>,
}

impl Turns {
    fn take(&mut self, index: usize, item: &Node<'_>, path: &str) -> Result<(), RequestError> {
        let kind = text(an_object(item, path)?, "type", path)?;
        match kind.as_deref().unwrap_or("message") {
            "message" => self.message(index, item, path),
            "reasoning" => {
                let part = thought(item, path)?;
                self.said(index, part);
                Ok(())
            }
            kind @ ("function_call" | "custom_tool_call") => {
                let arguments = match kind {
                    "function_call" => needed(item, "arguments", path)?,
                    _ => object(|o| o.text("input", &item.text_of("input").unwrap_or_default())),
                };
                let call = ToolCall {
                    id: needed(item, "call_id", path)?,
                    name: needed(item, "name", path)?,
                    arguments,
                    signature: self.signature(),
                };
                self.said(index, Some(Part::new(Body::ToolCall(call))));
                Ok(())
            }
            "function_call_output" | "custom_tool_call_output" => {
                let call = needed(item, "call_id", path)?;
                let parts = content(item, "output", path)?;
                let result = Part::new(Body::ToolResult { call, parts, is_error: false });
                self.push(index, Role::User, vec![result]);
                Ok(())
            }
            "item_reference" => Err(RequestError::unsupported(format!("{path}type"), STATELESS)),
            _ => Err(RequestError::unsupported(format!("{path}type"), "another provider has no such item")),
        }
    }

    fn push(&mut self, index: usize, role: Role, parts: Vec<Part>) {
        self.messages.push(Message { item: Some(index), ..Message::new(role, parts) });
    }

    fn message(&mut self, index: usize, item: &Node<'_>, path: &str) -> Result<(), RequestError> {
        let parts = content(item, "content", path)?;
        let role = match needed(item, "role", path)?.as_str() {
            "user" => Role::User,
            "system" => Role::System,
            "developer" => Role::Developer,
            "assistant" => {
                // Two texts in a row are two turns, unless a call stands between them and its result.
                let is_text = |part: &Part| matches!(part.body, Body::Text(_) | Body::Refusal(_));
                let has_call = |parts: &[Part]| parts.iter().any(|part| matches!(part.body, Body::ToolCall(_)));
                let last = self.messages.last().filter(|message| message.role == Role::Assistant);
                if last.is_some_and(|last| last.parts.iter().any(is_text) && !has_call(&last.parts)) {
                    self.push(index, Role::Assistant, Vec::new());
                }
                if parts.is_empty() {
                    self.said(index, None);
                }
                for part in parts {
                    self.said(index, Some(part));
                }
                return Ok(());
            }
            _ => return Err(RequestError::wrong(format!("{path}role"), "user, assistant, system or developer")),
        };
        self.push(index, role, parts);
        Ok(())
    }

    /// More of the model's turn.
    fn said(&mut self, index: usize, part: Option<Part>) {
        if self.messages.last().is_none_or(|last| last.role != Role::Assistant) {
            self.push(index, Role::Assistant, Vec::new());
        }
        if let Some(last) = self.messages.last_mut() {
            last.parts.extend(part);
        }
    }

    /// Google's signature of the call that comes: it stands in an item of its own before it.
    fn signature(&mut self) -> Option<String> {
        let parts = &mut self.messages.last_mut().filter(|message| message.role == Role::Assistant)?.parts;
        let Body::Thinking { text, signature: Some(signature) } = &parts.last()?.body else { return None };
        let google = signature.strip_prefix(GEMINI_SIGNATURE).filter(|_| text.is_empty())?.to_owned();
        parts.pop();
        Some(google)
    }
}

/// A `reasoning` item: its text if that is told, else its summary.
fn thought(item: &Node<'_>, path: &str) -> Result<Option<Part>, RequestError> {
    let texts = |name| -> Result<Vec<String>, RequestError> {
        let pieces = list(item, name, path)?.iter().filter_map(|piece| piece.text_of("text"));
        Ok(pieces.map(std::borrow::Cow::into_owned).collect())
    };
    let text_told = texts("content")?.concat();
    let told = if text_told.is_empty() { texts("summary")?.join("\n\n") } else { text_told };
    let id = text(item, "id", path)?.unwrap_or_default();
    let sealed = text(item, "encrypted_content", path)?.filter(|sealed| !sealed.is_empty());
    Ok(match sealed.map(|sealed| unseal(&id, &sealed)) {
        Some(Sealed::Data(data)) => Some(Part::new(Body::RedactedThinking(data))),
        Some(Sealed::Signature(signature)) => {
            Some(Part::new(Body::Thinking { text: told, signature: Some(signature) }))
        }
        None if told.is_empty() => None,
        None => Some(Part::new(Body::Thinking { text: told, signature: None })),
    })
}

/// A string, or parts.
fn content(item: &Node<'_>, name: &str, path: &str) -> Result<Vec<Part>, RequestError> {
    let Some(content) = item.get(name) else { return Err(RequestError::missing(format!("{path}{name}"))) };
    if let Some(text) = content.text() {
        return Ok(vec![Part::text(text)]);
    }
    if !content.is_array() {
        return Err(RequestError::wrong(format!("{path}{name}"), "a string or an array of parts"));
    }
    content.items().iter().enumerate().map(|(i, node)| part(node, &format!("{path}{name}[{i}]."))).collect()
}

fn part(node: &Node<'_>, path: &str) -> Result<Part, RequestError> {
    let kind = needed(an_object(node, path)?, "type", path)?;
    let (body, known): (Body, &[&str]) = match kind.as_str() {
        "input_text" | "output_text" | "text" => {
            (Body::Text(needed(node, "text", path)?), &["text", "annotations", "logprobs"])
        }
        "refusal" => (Body::Refusal(needed(node, "refusal", path)?), &["refusal"]),
        "input_image" => {
            let source = match (text(node, "image_url", path)?, text(node, "file_id", path)?) {
                (Some(url), _) => url_source(&url),
                (None, Some(id)) => Source::File(id),
                (None, None) => return Err(RequestError::missing(format!("{path}image_url"))),
            };
            (Body::Image(source), &["image_url", "file_id"])
        }
        "input_file" => {
            let title = text(node, "filename", path)?;
            let (data, url) = (text(node, "file_data", path)?, text(node, "file_url", path)?);
            let source = match (data, url, text(node, "file_id", path)?) {
                (Some(data), ..) => file_source(&data),
                (None, Some(url), _) => Source::Url(url),
                (None, None, Some(id)) => Source::File(id),
                (None, None, None) => return Err(RequestError::missing(format!("{path}file_data"))),
            };
            let picture = matches!(&source, Source::Base64 { media_type, .. } if media_type.starts_with("image/"));
            let body = if picture { Body::Image(source) } else { Body::Document { source, title } };
            (body, &["filename", "file_data", "file_url", "file_id"])
        }
        "input_audio" => match audio(node.get("input_audio")) {
            Some(audio) => (audio, &["input_audio"]),
            None => return Err(RequestError::missing(format!("{path}input_audio.data"))),
        },
        _ => return Err(RequestError::unsupported(format!("{path}type"), "another provider has no such part")),
    };
    let mut extra = extras(node.members(), known);
    extra.retain(|extra| extra.name != "type");
    Ok(Part { extra, ..Part::new(body) })
}
