//! Reading a request. The model and whether the answer is streamed stand in the path.

use super::schema::json_schema;
use super::{Signature, member, snake, unsign};
use crate::dialect::read::an_object;
use crate::json::{Limits, Node, node};
use crate::model::{
    Body, Extra, Json, Message, Output, Part, Reasoning, Request, Role, Sampling, Source, Tool, ToolCall, ToolChoice,
};
use crate::{Dialect, RequestError};

/// Members read here.
const KNOWN: [&str; 6] = ["contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "model"];

/// Members of `generationConfig` read here.
const CONFIG: [&str; 15] = [
    "maxOutputTokens",
    "temperature",
    "topP",
    "topK",
    "candidateCount",
    "seed",
    "presencePenalty",
    "frequencyPenalty",
    "responseLogprobs",
    "logprobs",
    "stopSequences",
    "responseMimeType",
    "responseSchema",
    "responseJsonSchema",
    "thinkingConfig",
];

/// `root` as a canonical request for `model`.
pub(crate) fn request(root: &Node<'_>, model: &str, stream: bool) -> Result<Request, RequestError> {
    let contents = member(root, "contents").ok_or_else(|| RequestError::missing("contents"))?;
    let mut messages = Vec::with_capacity(contents.items().len() + 1);
    let system = member(root, "systemInstruction");
    let mut ids = Ids::default();
    if let Some(system) = system {
        messages.push(Message::new(Role::System, parts(system, "systemInstruction.", &mut ids)?));
    }
    // One content alone, or even a text alone, is taken by Google too; its SDKs send lists.
    if !contents.is_array() {
        return Err(RequestError::wrong("contents", "an array"));
    }
    for (i, node) in contents.items().iter().enumerate() {
        messages.push(message(node, &format!("contents[{i}]."), &mut ids)?);
    }
    let empty = object_of(&[]);
    let config = member(root, "generationConfig").unwrap_or(&empty);
    an_object(config, "generationConfig")?;
    let mut extra: Vec<Extra> = others(root, &KNOWN, "");
    extra.extend(others(config, &CONFIG, "generationConfig."));
    extra.retain(|extra| !is_neutral(extra));
    Ok(Request {
        dialect: Dialect::Gemini,
        model: model.to_owned(),
        messages,
        apart: system.is_some(),
        tools: tools(root)?,
        tool_choice: member(root, "toolConfig").and_then(tool_choice),
        parallel_tool_calls: None,
        max_output_tokens: whole(config, "maxOutputTokens")?,
        temperature: number(config, "temperature")?,
        top_p: number(config, "topP")?,
        top_k: match number(config, "topK")? {
            // It is a floating-point number in Google's definition.
            Some(k) => {
                let whole = k.as_str().strip_suffix(".0").unwrap_or(k.as_str()).parse().ok();
                Some(whole.ok_or_else(|| RequestError::wrong("generationConfig.topK", "a whole number"))?)
            }
            None => None,
        },
        sampling: sampling(config)?,
        stop: stops(config)?,
        output: output(config)?,
        reasoning: reasoning(config)?,
        user: None,
        stream,
        include_usage: true,
        extra,
    })
}

fn object_of<'a>(members: &[(std::borrow::Cow<'a, str>, Node<'a>)]) -> Node<'a> {
    Node { raw: "{}", kind: crate::json::Kind::Object(members.to_vec()) }
}

/// The members that nobody reads, under their path in `camelCase` or as written.
fn others(node: &Node<'_>, known: &[&str], path: &str) -> Vec<Extra> {
    let is_known = |name: &str| known.iter().any(|known| *known == name || snake(known) == name);
    let unknown = node.members().iter().filter(|(name, value)| !is_known(name) && !value.is_null());
    unknown.map(|(name, value)| Extra { name: format!("{path}{name}"), value: Json::trusted(value.raw) }).collect()
}

/// Whether a member no other dialect has a word for asks for nothing.
fn is_neutral(extra: &Extra) -> bool {
    let value = || node(extra.value.as_str(), &Limits::REQUEST).ok();
    match extra.name.as_str() {
        "labels" => true,
        // Nothing is to be filtered, or nothing but the usual.
        "safetySettings" | "safety_settings" => value().is_some_and(|list| {
            list.items().iter().all(|setting| {
                let threshold = setting.text_of("threshold");
                matches!(threshold.as_deref(), None | Some("BLOCK_NONE" | "OFF" | "HARM_BLOCK_THRESHOLD_UNSPECIFIED"))
            })
        }),
        "generationConfig.responseModalities" | "generationConfig.response_modalities" => value().is_some_and(|list| {
            list.items().iter().all(|kind| kind.text().is_some_and(|kind| kind.eq_ignore_ascii_case("text")))
        }),
        "store" => extra.value.as_str() == "false",
        _ => false,
    }
}

fn text(node: &Node<'_>, name: &str, path: &str) -> Result<Option<String>, RequestError> {
    let Some(value) = member(node, name) else { return Ok(None) };
    let text = value.text().ok_or_else(|| RequestError::wrong(format!("{path}{name}"), "a string"))?;
    Ok(Some(text.into_owned()))
}

fn needed(node: &Node<'_>, name: &str, path: &str) -> Result<String, RequestError> {
    text(node, name, path)?.ok_or_else(|| RequestError::missing(format!("{path}{name}")))
}

fn list<'n, 'a>(node: &'n Node<'a>, name: &str, path: &str) -> Result<&'n [Node<'a>], RequestError> {
    match member(node, name) {
        None => Ok(&[]),
        Some(value) if value.is_array() => Ok(value.items()),
        Some(_) => Err(RequestError::wrong(format!("{path}{name}"), "an array")),
    }
}

/// A member of `generationConfig`.
fn whole(config: &Node<'_>, name: &str) -> Result<Option<u64>, RequestError> {
    let Some(value) = member(config, name) else { return Ok(None) };
    let wrong = || RequestError::wrong(format!("generationConfig.{name}"), "a whole number");
    value.whole().map(Some).ok_or_else(wrong)
}

fn number(config: &Node<'_>, name: &str) -> Result<Option<Json>, RequestError> {
    let Some(value) = member(config, name) else { return Ok(None) };
    let wrong = || RequestError::wrong(format!("generationConfig.{name}"), "a number");
    value.number().filter(|number| number.is_finite()).map(|_| Some(Json::trusted(value.raw))).ok_or_else(wrong)
}

fn sampling(config: &Node<'_>) -> Result<Sampling, RequestError> {
    let told = member(config, "responseLogprobs").map(|value| {
        value.boolean().ok_or_else(|| RequestError::wrong("generationConfig.responseLogprobs", "true or false"))
    });
    Ok(Sampling {
        answers: whole(config, "candidateCount")?,
        seed: number(config, "seed")?,
        presence_penalty: number(config, "presencePenalty")?,
        frequency_penalty: number(config, "frequencyPenalty")?,
        logprobs: told.transpose()?,
        top_logprobs: whole(config, "logprobs")?,
    })
}

fn stops(config: &Node<'_>) -> Result<Vec<String>, RequestError> {
    let wrong = || RequestError::wrong("generationConfig.stopSequences", "an array of strings");
    let stops = list(config, "stopSequences", "generationConfig.")?.iter();
    stops.map(|stop| stop.text().map(std::borrow::Cow::into_owned).ok_or_else(wrong)).collect()
}

fn output(config: &Node<'_>) -> Result<Output, RequestError> {
    let path = "generationConfig.";
    let schema = match (member(config, "responseJsonSchema"), member(config, "responseSchema")) {
        (Some(schema), _) => Some(Json::trusted(schema.raw)),
        (None, Some(schema)) => Some(json_schema(schema)),
        (None, None) => None,
    };
    match (text(config, "responseMimeType", path)?.as_deref(), schema) {
        (None | Some("text/plain" | ""), None) => Ok(Output::Text),
        (Some("application/json"), None) => Ok(Output::JsonObject),
        (None | Some("application/json"), Some(schema)) => {
            Ok(Output::JsonSchema { name: None, description: None, schema, strict: None })
        }
        _ => Err(RequestError::unsupported(format!("{path}responseMimeType"), "text and application/json are known")),
    }
}

fn reasoning(config: &Node<'_>) -> Result<Option<Reasoning>, RequestError> {
    let Some(thinking) = member(config, "thinkingConfig") else { return Ok(None) };
    let path = "generationConfig.thinkingConfig.";
    if let Some(level) = text(thinking, "thinkingLevel", path)? {
        let level = level.to_ascii_lowercase();
        return Ok(Some(Reasoning::Effort(level)).filter(|_| !level_unspecified(thinking)));
    }
    let Some(budget) = member(thinking, "thinkingBudget") else { return Ok(None) };
    match (budget.whole(), budget.number()) {
        (Some(0), _) => Ok(Some(Reasoning::Off)),
        (Some(budget), _) => Ok(Some(Reasoning::Budget(budget))),
        (None, Some(negative)) if negative < 0.0 => Ok(Some(Reasoning::Auto)),
        _ => Err(RequestError::wrong(format!("{path}thinkingBudget"), "a whole number")),
    }
}

fn level_unspecified(thinking: &Node<'_>) -> bool {
    member(thinking, "thinkingLevel").and_then(Node::text).is_some_and(|level| level.ends_with("UNSPECIFIED"))
}

fn tools(root: &Node<'_>) -> Result<Vec<Tool>, RequestError> {
    let mut found = Vec::new();
    for (i, tool) in list(root, "tools", "")?.iter().enumerate() {
        let path = format!("tools[{i}].");
        for (j, function) in list(tool, "functionDeclarations", &path)?.iter().enumerate() {
            found.push(function_declaration(function, &format!("{path}functionDeclarations[{j}]."))?);
        }
        for extra in others(tool, &["functionDeclarations"], "") {
            let raw = crate::json::object(|o| o.raw(&extra.name, extra.value.as_str()));
            found.push(Tool {
                name: String::new(),
                description: None,
                schema: None,
                strict: None,
                cache_control: None,
                native: Some((extra.name, Json::trusted(&raw))),
                extra: Vec::new(),
            });
        }
    }
    Ok(found)
}

fn function_declaration(node: &Node<'_>, path: &str) -> Result<Tool, RequestError> {
    let schema = match (member(node, "parametersJsonSchema"), member(node, "parameters")) {
        (Some(schema), _) => Some(Json::trusted(schema.raw)),
        (None, schema) => schema.map(json_schema),
    };
    let mut extra = others(an_object(node, path)?, &["name", "description", "parameters", "parametersJsonSchema"], "");
    // What a function gives is no part of how it is called.
    extra.retain(|extra| {
        let usual = extra.name == "behavior" && extra.value.as_str() == r#""BLOCKING""#;
        !usual && !matches!(extra.name.as_str(), "response" | "responseJsonSchema" | "response_json_schema")
    });
    Ok(Tool {
        name: needed(node, "name", path)?,
        description: text(node, "description", path)?,
        schema,
        strict: None,
        cache_control: None,
        native: None,
        extra,
    })
}

fn tool_choice(config: &Node<'_>) -> Option<ToolChoice> {
    let other = || Some(ToolChoice::Other(Json::trusted(config.raw)));
    let Some(calling) = member(config, "functionCallingConfig") else {
        return if config.members().is_empty() { None } else { other() };
    };
    let allowed = member(calling, "allowedFunctionNames").map(Node::items).unwrap_or_default();
    match (calling.text_of("mode").as_deref(), allowed) {
        // Validated is automatic, with calls held to their schemas: others do that as far as they can in any case.
        (None | Some("AUTO" | "MODE_UNSPECIFIED" | "VALIDATED"), []) => Some(ToolChoice::Auto),
        (Some("NONE"), _) => Some(ToolChoice::None),
        (Some("ANY"), []) => Some(ToolChoice::Required),
        (Some("ANY"), [name]) => name.text().map(|name| ToolChoice::Tool(name.into_owned())).or_else(other),
        _ => other(),
    }
}

/// Ids of calls without one, so that results without one find theirs.
#[derive(Default)]
struct Ids {
    made: usize,
    /// Calls without a result so far: id and function.
    open: Vec<(String, String)>,
}

impl Ids {
    fn call(&mut self, id: Option<String>, name: &str) -> String {
        let id = id.filter(|id| !id.is_empty()).unwrap_or_else(|| {
            self.made += 1;
            format!("call_{}", self.made)
        });
        self.open.push((id.clone(), name.to_owned()));
        id
    }

    fn result(&mut self, id: Option<String>, name: &str) -> Option<String> {
        let at = match &id {
            Some(id) => self.open.iter().position(|(open, _)| open == id),
            None => self.open.iter().position(|(_, open)| open == name),
        };
        let found = at.map(|at| self.open.remove(at).0);
        id.or(found)
    }
}

fn message(node: &Node<'_>, path: &str, ids: &mut Ids) -> Result<Message, RequestError> {
    let role = match an_object(node, path)?.text_of("role").as_deref() {
        None | Some("user" | "function" | "") => Role::User,
        Some("model") => Role::Assistant,
        Some("system") => Role::System,
        Some(_) => return Err(RequestError::wrong(format!("{path}role"), "user or model")),
    };
    Ok(Message {
        role,
        parts: parts(node, path, ids)?,
        name: None,
        item: None,
        extra: others(node, &["role", "parts"], ""),
    })
}

fn parts(node: &Node<'_>, path: &str, ids: &mut Ids) -> Result<Vec<Part>, RequestError> {
    let mut found = Vec::new();
    if let Some(text) = node.text() {
        return Ok(vec![Part::text(text)]);
    }
    // Google takes one part for a list of one.
    let single = member(node, "parts").filter(|parts| parts.is_object());
    let items = match single {
        Some(one) => std::slice::from_ref(one),
        None => list(node, "parts", path)?,
    };
    for (i, item) in items.iter().enumerate() {
        part(item, &format!("{path}parts[{i}]."), ids, &mut found)?;
    }
    Ok(found)
}

fn part(node: &Node<'_>, path: &str, ids: &mut Ids, found: &mut Vec<Part>) -> Result<(), RequestError> {
    let signature = text(an_object(node, path)?, "thoughtSignature", path)?.filter(|signature| !signature.is_empty());
    let thought = member(node, "thought").and_then(Node::boolean) == Some(true);
    let (body, known) = if let Some(said) = text(node, "text", path)? {
        let body = match (thought, signature.as_deref().map(unsign)) {
            (_, Some(Signature::Sealed(data))) => Body::RedactedThinking(data),
            (true, Some(Signature::Of(signature))) => Body::Thinking { text: said, signature: Some(signature) },
            (true, None) => Body::Thinking { text: said, signature: None },
            (false, Some(Signature::Of(signature))) => {
                if !said.is_empty() {
                    found.push(Part::text(said));
                }
                Body::Thinking { text: String::new(), signature: Some(signature) }
            }
            (false, None) => Body::Text(said),
        };
        (body, "text")
    } else if let Some(call) = member(node, "functionCall") {
        let inner = format!("{path}functionCall.");
        let name = needed(call, "name", &inner)?;
        let args = call.get("args").filter(|args| args.is_object());
        let signature = signature.as_deref().map(unsign).and_then(|signature| match signature {
            Signature::Of(text) => text.strip_prefix(crate::model::GEMINI_SIGNATURE).map(str::to_owned),
            Signature::Sealed(_) => None,
        });
        let id = ids.call(text(call, "id", &inner)?, &name);
        let arguments = args.map_or_else(|| "{}".to_owned(), crate::provider::anthropic::as_written);
        (Body::ToolCall(ToolCall { id, name, arguments, signature }), "functionCall")
    } else if let Some(result) = member(node, "functionResponse") {
        (function_response(result, &format!("{path}functionResponse."), ids)?, "functionResponse")
    } else if let Some(media) = member(node, "inlineData").or_else(|| member(node, "fileData")) {
        let name = if member(node, "inlineData").is_some() { "inlineData" } else { "fileData" };
        (media_body(media, node, &format!("{path}{name}."))?, name)
    } else {
        let kind = node.members().iter().map(|(name, _)| name).find(|name| !name.starts_with("thought"));
        let Some(kind) = kind else {
            // A thought's signature alone.
            return Ok(());
        };
        (Body::Other { kind: kind.to_string(), raw: Json::trusted(node.raw) }, "")
    };
    let extra = match body {
        Body::Other { .. } => Vec::new(),
        _ => others(node, &[known, "thought", "thoughtSignature"], ""),
    };
    found.push(Part { extra, ..Part::new(body) });
    Ok(())
}

fn function_response(node: &Node<'_>, path: &str, ids: &mut Ids) -> Result<Body, RequestError> {
    let name = needed(node, "name", path)?;
    let id = text(node, "id", path)?.filter(|id| !id.is_empty());
    let call =
        ids.result(id, &name).ok_or_else(|| RequestError::wrong(format!("{path}name"), "a function called before"))?;
    let response = node.get("response");
    let one = match response.map(Node::members) {
        Some([(name, value)]) if value.is_string() => Some((name.as_ref(), value.text().unwrap_or_default())),
        _ => None,
    };
    let (said, is_error) = match one {
        Some(("result" | "output", text)) => (text.into_owned(), false),
        Some(("error", text)) => (text.into_owned(), true),
        _ => (response.map_or_else(|| "{}".to_owned(), |response| response.raw.to_owned()), false),
    };
    let mut parts = vec![Part::text(said)];
    for (i, part) in list(node, "parts", path)?.iter().enumerate() {
        let inner = format!("{path}parts[{i}].");
        let media = member(part, "inlineData").or_else(|| member(part, "fileData"));
        let media = media.ok_or_else(|| RequestError::missing(format!("{inner}inlineData")))?;
        parts.push(Part::new(media_body(media, part, &inner)?));
    }
    Ok(Body::ToolResult { call, parts, is_error })
}

/// `inlineData` or `fileData`, by its media type.
fn media_body(media: &Node<'_>, part: &Node<'_>, path: &str) -> Result<Body, RequestError> {
    let media_type = text(media, "mimeType", path)?.unwrap_or_default();
    let uri = text(media, "fileUri", path)?;
    let title = text(media, "displayName", path)?;
    let source = match uri {
        Some(uri) if is_stored(&uri) => Source::File(uri),
        Some(uri) => Source::Url(uri),
        // Google takes base64url too; nobody else does.
        None => {
            let data = needed(media, "data", path)?.replace('-', "+").replace('_', "/");
            Source::Base64 { media_type: media_type.clone(), data }
        }
    };
    let other = || Body::Other { kind: "inlineData.mimeType".to_owned(), raw: Json::trusted(part.raw) };
    Ok(match (media_type.split('/').next().unwrap_or_default(), source) {
        ("image", source) => Body::Image(source),
        ("audio", Source::Base64 { media_type, data }) => Body::Audio { media_type, data },
        ("text", Source::Base64 { data, media_type }) => {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(&data).ok();
            match bytes.and_then(|bytes| String::from_utf8(bytes).ok()) {
                Some(text) => Body::Document { source: Source::Text(text), title },
                None => Body::Document { source: Source::Base64 { media_type, data }, title },
            }
        }
        ("audio" | "video", _) => other(),
        (_, source) => Body::Document { source, title },
    })
}

/// Whether a URI names what is stored at Google for a caller.
fn is_stored(uri: &str) -> bool {
    uri.starts_with("gs://") || uri.starts_with("https://generativelanguage.googleapis.com/") || !uri.contains("://")
}
