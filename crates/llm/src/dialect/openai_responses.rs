//! OpenAI's Responses API, as clients speak it (platform.openai.com/docs/api-reference/responses).
//!
//! Answers of other providers are stateless: `store` is false. Reasoning is a `reasoning` item with its text as `summary`;
//! another provider's signature stands in `encrypted_content`, in a form that this gateway knows again, and that of a call
//! in a `reasoning` item before it. A custom tool is a function of one text, `input`, to other providers.

mod items;
mod request;
mod response;
mod stream;

pub(crate) use request::{free_input, request};
pub(crate) use response::response;
pub(crate) use stream::StreamWriter;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Failure, openai_type};
use crate::json::{Limits, Node, node, object};
use crate::model::{OPENAI_SIGNATURE, Stop};

/// An error event, the last of its stream: the form that OpenAI sends, which its SDKs raise as an error.
pub(crate) fn error_event(failure: &Failure, sequence: u64) -> Vec<u8> {
    let data = object(|o| {
        o.text("type", "error");
        o.number("sequence_number", sequence);
        o.object("error", |o| {
            o.text("type", failure.kind.as_deref().unwrap_or_else(|| openai_type(failure.status)));
            o.text_or_null("code", failure.code.as_deref());
            o.text("message", &failure.message);
            o.text_or_null("param", failure.param.as_deref());
        });
    });
    format!("event: error\ndata: {data}\n\n").into_bytes()
}

/// What of a request stands in its answer again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Names and values, as they were written.
    members: Vec<(&'static str, String)>,
    /// Tools that are called with free text.
    custom: Vec<String>,
}

/// Members of the answer that are the request's own, and what stands there without.
const ASKED: [(&str, &str); 13] = [
    ("instructions", "null"),
    ("max_output_tokens", "null"),
    ("metadata", "{}"),
    ("parallel_tool_calls", "true"),
    ("prompt_cache_key", "null"),
    ("reasoning", r#"{"effort":null,"summary":null}"#),
    ("safety_identifier", "null"),
    ("temperature", "null"),
    ("text", r#"{"format":{"type":"text"}}"#),
    ("tool_choice", r#""auto""#),
    ("tools", "[]"),
    ("top_p", "null"),
    ("user", "null"),
];

impl Asked {
    /// What `body` asks; nothing, if it cannot be read.
    pub(crate) fn of(body: &[u8]) -> Self {
        let Some(root) = std::str::from_utf8(body).ok().and_then(|text| node(text, &Limits::REQUEST).ok()) else {
            return Self::default();
        };
        let members = ASKED.iter().filter_map(|(name, _)| Some((*name, root.get(name)?.raw.to_owned())));
        let tools = root.get("tools").map(Node::items).unwrap_or_default().iter();
        let custom = tools.filter(|tool| tool.text_of("type").as_deref() == Some("custom"));
        Self {
            members: members.collect(),
            custom: custom.filter_map(|tool| tool.text_of("name").map(std::borrow::Cow::into_owned)).collect(),
        }
    }

    /// What a request for a chat completion asks that its answer depends on: which tools are called with free text.
    pub(crate) fn of_chat(body: &[u8]) -> Self {
        // Almost no request has one, and an escape could hide it.
        if memchr::memmem::find(body, b"custom").is_none() && memchr::memmem::find(body, b"\\u").is_none() {
            return Self::default();
        }
        let Some(root) = std::str::from_utf8(body).ok().and_then(|text| node(text, &Limits::REQUEST).ok()) else {
            return Self::default();
        };
        let tools = root.get("tools").map(Node::items).unwrap_or_default().iter();
        let custom = tools.filter(|tool| tool.text_of("type").as_deref() == Some("custom"));
        let named = custom.filter_map(|tool| Some(tool.get("custom")?.text_of("name")?.into_owned()));
        Self { members: Vec::new(), custom: named.collect() }
    }

    fn member(&self, name: &str, without: &'static str) -> &str {
        self.members.iter().find(|(known, _)| *known == name).map_or(without, |(_, value)| value)
    }

    /// Whether a tool is called with free text.
    pub(crate) fn is_custom(&self, tool: &str) -> bool {
        self.custom.iter().any(|name| name == tool)
    }
}

/// The free text of a custom tool's call, which other providers gave as an object.
pub(crate) fn free_text(arguments: &str) -> String {
    let input = node(arguments, &Limits::RESPONSE).ok().and_then(|root| Some(root.text_of("input")?.into_owned()));
    input.unwrap_or_else(|| arguments.to_owned())
}

/// The answer's id: OpenAI's begin so.
fn response_id(id: Option<&str>) -> String {
    match id {
        Some(id) if id.starts_with("resp_") => id.to_owned(),
        Some(id) => format!("resp_{id}"),
        None => "resp_vouchgate".to_owned(),
    }
}

/// What stands before another provider's signature, and before its sealed reasoning, inside the base64.
const OTHERS: &str = "vouchgate:signature:";
const SEALED: &str = "vouchgate:sealed:";

/// A signature as `encrypted_content`, with the item's own id where OpenAI gave it one.
fn sign(signature: &str) -> (Option<&str>, String) {
    match signature.strip_prefix(OPENAI_SIGNATURE).and_then(|own| own.split_once(':')) {
        Some((id, sealed)) => (Some(id).filter(|id| !id.is_empty()), sealed.to_owned()),
        None => (None, STANDARD.encode(format!("{OTHERS}{signature}"))),
    }
}

/// Sealed reasoning as `encrypted_content`.
fn seal(data: &str) -> String {
    STANDARD.encode(format!("{SEALED}{data}"))
}

/// What an `encrypted_content` holds.
#[derive(Debug, PartialEq, Eq)]
enum Sealed {
    /// A signature; OpenAI's with its mark.
    Signature(String),
    /// Another provider's sealed reasoning.
    Data(String),
}

fn unseal(id: &str, text: &str) -> Sealed {
    let inside = STANDARD.decode(text).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let inside = inside.as_deref();
    if let Some(signature) = inside.and_then(|inside| inside.strip_prefix(OTHERS)) {
        return Sealed::Signature(signature.to_owned());
    }
    match inside.and_then(|inside| inside.strip_prefix(SEALED)) {
        Some(data) => Sealed::Data(data.to_owned()),
        None => Sealed::Signature(openai_signature(id, text)),
    }
}

/// What `OpenAI` sealed, with its mark.
pub(crate) fn openai_signature(id: &str, sealed: &str) -> String {
    // An id that the mark cannot hold is left out: OpenAI does without.
    let id = if id.contains(':') { "" } else { id };
    format!("{OPENAI_SIGNATURE}{id}:{sealed}")
}

/// `status`, and why it is incomplete. `refused`: the refusal has its own words.
fn status(stop: Option<&Stop>, refused: bool) -> (&'static str, Option<&'static str>) {
    match stop {
        Some(Stop::MaxTokens | Stop::ContextWindow) => ("incomplete", Some("max_output_tokens")),
        Some(Stop::Refusal(_)) if !refused => ("incomplete", Some("content_filter")),
        _ => ("completed", None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_comes_back_as_what_it_was() {
        for signature in ["gemini:AbC+/=", "ErUB-anthropic", "", "openai:rs_1:gAAAA="] {
            let (id, text) = sign(signature);
            assert_eq!(unseal(id.unwrap_or_default(), &text), Sealed::Signature(signature.to_owned()));
        }
        assert_eq!(unseal("rs_1", &seal("data")), Sealed::Data("data".to_owned()));
        assert_eq!(unseal("a:b", "not base64!"), Sealed::Signature("openai::not base64!".to_owned()));
    }

    #[test]
    fn an_error_event_is_in_the_form_that_sdks_raise() {
        let event = String::from_utf8(error_event(&Failure::cut(), 7)).unwrap();
        let expected = "event: error\ndata: {\"type\":\"error\",\"sequence_number\":7,\"error\":{\"type\":\"server_error\",\
                        \"code\":\"upstream_cut\",\"message\":\"The provider's stream ended before the answer was complete.\",\
                        \"param\":null}}\n\n";
        assert_eq!(event, expected);
    }
}
