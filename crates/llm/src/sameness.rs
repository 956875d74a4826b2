//! When two requests are the same, so that the answer to one is an answer to the other; and whether an answer is whole.
//!
//! White space, the order of members and the way characters are escaped mean nothing. Everything else does, also members
//! nobody modelled and the digits of numbers.

use crate::json::{Kind, Limits, Node, node};
use crate::model::{Event, Stop};
use crate::provider::{self, Decoder};
use crate::{Dialect, JsonError};

/// A request whose answer may be given again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sameness {
    /// The same bytes for the same request, and for no other.
    pub canonical: Vec<u8>,
    /// The last question, where the request is made of words only.
    pub question: Option<Question>,
}

/// What somebody asks last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The words.
    pub text: String,
    /// The same bytes for requests that differ in nothing but these words.
    pub rest: Vec<u8>,
}

/// Why an answer is for one request only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Once {
    /// The body cannot be read.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// Not a dialect whose requests are understood well enough.
    #[error("requests of this dialect are not compared")]
    Dialect,
    /// The provider keeps something of it, or continues what it kept.
    #[error("the provider keeps state for it")]
    State,
    /// The provider runs tools for it: searches, code, computers.
    #[error("the provider runs tools for it")]
    Tools,
    /// It names a stored file, or something at an address, which may change.
    #[error("it names what is stored elsewhere")]
    Elsewhere,
    /// Several answers are asked for: whoever does wants them to differ.
    #[error("it asks for several answers")]
    Several,
}

impl Once {
    /// A stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Json(error) => error.reason(),
            Self::Dialect => "dialect",
            Self::State => "state",
            Self::Tools => "tools",
            Self::Elsewhere => "elsewhere",
            Self::Several => "several_answers",
        }
    }
}

/// Read a request in `dialect` for what it is the same as.
pub fn of(dialect: Dialect, body: &[u8], limits: &Limits) -> Result<Sameness, Once> {
    let text = std::str::from_utf8(body).map_err(|error| JsonError::Utf8(error.valid_up_to()))?;
    let root = node(text, limits)?;
    let turns = match dialect {
        Dialect::OpenAiChat | Dialect::AnthropicMessages => Some("messages"),
        Dialect::OpenAiResponses => Some("input"),
        Dialect::Gemini => Some("contents"),
        Dialect::OpenAiEmbeddings => None,
        #[allow(unreachable_patterns)] // a dialect that is added is not compared until somebody has thought about it
        _ => return Err(Once::Dialect),
    };
    repeatable(&root)?;
    // It stores what it answers unless told not to.
    if dialect == Dialect::OpenAiResponses && root.get("store").and_then(Node::boolean) != Some(false) {
        return Err(Once::State);
    }
    let mut canonical = Vec::with_capacity(body.len());
    write(&root, None, &mut canonical);
    let question = turns.and_then(|turns| question(&root, turns, body.len()));
    Ok(Sameness { canonical, question })
}

/// Members that make a provider keep or continue something.
const STATE: [&str; 9] = [
    "previous_response_id",
    // A stored one.
    "prompt",
    "conversation",
    "background",
    "container",
    "cachedContent",
    "cached_content",
    "session_id",
    "mcp_servers",
];

/// Members that make it search or run something.
const SERVER_TOOLS: [&str; 5] =
    ["web_search_options", "search_parameters", "plugins", "webSearchOptions", "providerOptions"];

fn repeatable(root: &Node<'_>) -> Result<(), Once> {
    if STATE.iter().any(|name| root.get(name).is_some())
        || root.get("store").is_some_and(|s| s.boolean() != Some(false))
    {
        return Err(Once::State);
    }
    if SERVER_TOOLS.iter().any(|name| root.get(name).is_some()) {
        return Err(Once::Tools);
    }
    let answers = |of: Option<&Node<'_>>| of.is_some_and(|n| n.whole() != Some(1));
    let config = root.get("generationConfig").or_else(|| root.get("generation_config"));
    let candidates = config.and_then(|config| config.get("candidateCount").or_else(|| config.get("candidate_count")));
    if answers(root.get("n")) || answers(candidates) {
        return Err(Once::Several);
    }
    if let Some(tools) = root.get("tools")
        && !tools.items().iter().all(is_function)
    {
        return Err(Once::Tools);
    }
    for name in ["messages", "contents", "system", "systemInstruction", "system_instruction", "input"] {
        if root.get(name).is_some_and(|value| points_elsewhere(value)) {
            return Err(Once::Elsewhere);
        }
    }
    Ok(())
}

/// Whether a tool is a function of the caller's: everything else is run by the provider.
fn is_function(tool: &Node<'_>) -> bool {
    let declarations = |name: &str| matches!(name, "functionDeclarations" | "function_declarations");
    match tool.get("type") {
        Some(kind) => kind.text().is_some_and(|kind| matches!(kind.as_ref(), "function" | "custom")),
        None => tool.get("name").is_some() || tool.members().iter().all(|(name, _)| declarations(name)),
    }
}

/// Whether something in it names a stored file or an address.
fn points_elsewhere(value: &Node<'_>) -> bool {
    const FILES: [&str; 7] = ["file_id", "fileId", "file_uri", "fileUri", "fileData", "file_data_uri", "container_id"];
    const ADDRESSES: [&str; 4] = ["url", "image_url", "file_url", "document_url"];
    let points = |(name, value): &(std::borrow::Cow<'_, str>, Node<'_>)| {
        let name = name.as_ref();
        let inline = || value.text().is_none_or(|text| text.starts_with("data:"));
        let reference = name == "type" && value.text().as_deref() == Some("item_reference");
        reference || FILES.contains(&name) || (ADDRESSES.contains(&name) && !inline()) || points_elsewhere(value)
    };
    value.members().iter().any(points) || value.items().iter().any(points_elsewhere)
}

/// The last words, if a user says them last and the request holds nothing but words and calls of functions.
fn question(root: &Node<'_>, turns: &str, size: usize) -> Option<Question> {
    let turned = root.get(turns)?;
    if turned.is_string() {
        return asked(root, turned, size);
    }
    let all = turned.items();
    let last = all.last()?;
    let is_user = match last.get("role") {
        Some(role) => role.text().as_deref() == Some("user"),
        None => turns == "contents",
    };
    if !is_user || !all.iter().all(is_words) {
        return None;
    }
    let content = last.get(if turns == "contents" { "parts" } else { "content" })?;
    let words = match content.items() {
        [] => content,
        [part] => {
            let plain = part.members().iter().all(|(name, _)| matches!(name.as_ref(), "type" | "text"));
            part.get("text").filter(|_| plain)?
        }
        _ => return None,
    };
    asked(root, words, size)
}

/// The question that `words` are.
fn asked(root: &Node<'_>, words: &Node<'_>, size: usize) -> Option<Question> {
    let text = words.exact()?.into_owned();
    if text.trim().is_empty() {
        return None;
    }
    let mut rest = Vec::with_capacity(size.saturating_sub(text.len()));
    write(root, Some(words.raw), &mut rest);
    Some(Question { text, rest })
}

/// Whether a turn holds nothing but words and calls of functions: no picture, no sound, no document.
fn is_words(turn: &Node<'_>) -> bool {
    let content = turn.get("content").or_else(|| turn.get("parts"));
    let Some(content) = content else { return true };
    content.is_string() || (content.is_array() && content.items().iter().all(is_word_part))
}

fn is_word_part(part: &Node<'_>) -> bool {
    const KINDS: [&str; 8] =
        ["input_text", "output_text", "text", "tool_use", "tool_result", "thinking", "redacted_thinking", "refusal"];
    const MEMBERS: [&str; 8] = [
        "text",
        "functionCall",
        "function_call",
        "functionResponse",
        "function_response",
        "thought",
        "thoughtSignature",
        "thought_signature",
    ];
    let kind = part.get("type").and_then(Node::text);
    match kind.as_deref() {
        Some("tool_result") => is_words(part),
        Some(kind) => KINDS.contains(&kind),
        None => part.is_string() || part.members().iter().all(|(name, _)| MEMBERS.contains(&name.as_ref())),
    }
}

/// Write `value` so that equal values, and no others, are the same bytes: each with its kind and its length. The value whose
/// very text is `without` is written as a gap.
fn write(value: &Node<'_>, without: Option<&str>, out: &mut Vec<u8>) {
    if without.is_some_and(|gap| std::ptr::eq(gap, value.raw)) {
        out.push(b'?');
        return;
    }
    match &value.kind {
        Kind::Null => out.push(b'n'),
        Kind::Bool(true) => out.push(b't'),
        Kind::Bool(false) => out.push(b'f'),
        Kind::Number => bytes(b'#', value.raw.as_bytes(), out),
        Kind::String { .. } => match value.exact() {
            Some(text) => bytes(b'"', text.as_bytes(), out),
            None => bytes(b'\\', value.raw.as_bytes(), out),
        },
        Kind::Array(items) => {
            count(b'[', items.len(), out);
            for item in items {
                write(item, without, out);
            }
        }
        Kind::Object(members) => {
            count(b'{', members.len(), out);
            let mut members: Vec<_> = members.iter().collect();
            members.sort_by(|(a, _), (b, _)| a.cmp(b));
            for (name, value) in members {
                bytes(b'"', name.as_bytes(), out);
                write(value, without, out);
            }
        }
    }
}

fn count(kind: u8, length: usize, out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(length as u64).to_be_bytes());
}

fn bytes(kind: u8, text: &[u8], out: &mut Vec<u8>) {
    count(kind, text.len(), out);
    out.extend_from_slice(text);
}

/// Whether an answer in `dialect` is whole and well: neither an error nor refused, paused or cut off by what fits into the
/// model's context. `pieces`: the answer as it went out; `streamed`: as events.
pub fn is_whole_answer<P: AsRef<[u8]>>(dialect: Dialect, pieces: &[P], streamed: bool) -> bool {
    if streamed {
        return is_whole_stream(dialect, pieces);
    }
    let [body] = pieces else { return false };
    if dialect == Dialect::OpenAiEmbeddings {
        let text = std::str::from_utf8(body.as_ref()).unwrap_or_default();
        let limits = Limits { nodes: usize::MAX, ..Limits::RESPONSE };
        return node(text, &limits).is_ok_and(|root| root.get("data").is_some_and(|data| !data.items().is_empty()));
    }
    let answer = provider::decode(dialect, body.as_ref());
    answer.is_ok_and(|answer| !answer.choices.is_empty() && answer.choices.iter().all(|choice| is_well(&choice.stop)))
}

fn is_whole_stream<P: AsRef<[u8]>>(dialect: Dialect, pieces: &[P]) -> bool {
    let (mut decoder, mut events) = (Decoder::new(dialect), Vec::new());
    let read = pieces.iter().all(|piece| decoder.feed(piece.as_ref(), &mut events).is_ok());
    let whole = decoder.finish(true, &mut events);
    let well = events.iter().all(|event| match event {
        Event::Error(_) => false,
        Event::Stop { stop, .. } => is_well(stop),
        _ => true,
    });
    read && whole && well && events.iter().any(|event| matches!(event, Event::Stop { .. }))
}

/// Whether an answer that ended so may be given to somebody else: nobody declined it, and it was not cut off by what fits into
/// the model's context.
pub fn is_well(stop: &Stop) -> bool {
    match stop {
        Stop::EndTurn | Stop::StopSequence(_) | Stop::MaxTokens | Stop::ToolUse => true,
        Stop::Refusal(_) | Stop::ContextWindow | Stop::Pause => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn same(body: &str) -> Result<Sameness, Once> {
        of(Dialect::OpenAiChat, body.as_bytes(), &Limits::REQUEST)
    }

    fn canonical(body: &str) -> Vec<u8> {
        same(body).expect("compared").canonical
    }

    fn why(dialect: Dialect, body: &Value) -> Option<&'static str> {
        of(dialect, body.to_string().as_bytes(), &Limits::REQUEST).err().map(|once| once.reason())
    }

    #[test]
    fn white_space_member_order_and_escapes_do_not_tell_requests_apart() {
        let one = canonical(r#"{"model":"m","messages":[{"role":"user","content":"h\u00e9/"}],"temperature":0.5}"#);
        let two = canonical(
            "{ \"temperature\" : 0.5,\n \"messages\":[{\"content\":\"hé\\/\",\"role\":\"user\"}],\"model\":\"m\" }",
        );
        assert_eq!(one, two);
    }

    #[test]
    fn a_response_is_for_others_only_where_nothing_is_stored_or_named() {
        let why = |changes: &Value| {
            let mut body = json!({"model": "m", "input": "hi", "store": false});
            body.as_object_mut().expect("object").extend(changes.as_object().expect("object").clone());
            why(Dialect::OpenAiResponses, &body)
        };
        assert_eq!(why(&json!({})), None);
        assert_eq!(why(&json!({"input": [{"role": "user", "content": "hi"}], "tools": [{"type": "function"}]})), None);
        for (changes, reason) in [
            (json!({"store": null}), "state"),
            (json!({"store": true}), "state"),
            (json!({"previous_response_id": "resp_1"}), "state"),
            (json!({"conversation": "conv_1"}), "state"),
            (json!({"background": true}), "state"),
            (json!({"prompt": {"id": "pmpt_1"}}), "state"),
            (json!({"input": [{"type": "item_reference", "id": "msg_1"}]}), "elsewhere"),
            (json!({"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "f"}]}]}), "elsewhere"),
            (json!({"tools": [{"type": "web_search"}]}), "tools"),
        ] {
            assert_eq!(why(&changes), Some(reason), "{changes}");
        }
        let stored = json!({"model": "m", "input": "hi"});
        assert_eq!(super::tests::why(Dialect::OpenAiResponses, &stored), Some("state"));
        let of = |input: Value| {
            let body = json!({"model": "m", "input": input, "store": false}).to_string();
            of(Dialect::OpenAiResponses, body.as_bytes(), &Limits::REQUEST).expect("compared").question
        };
        let asked = |input| of(input).map(|question| question.text);
        assert_eq!(asked(json!("hi")), Some("hi".to_owned()));
        let said = json!([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}]);
        assert_eq!(asked(said), Some("hi".to_owned()));
        let picture = json!([{"role": "user", "content": [{"type": "input_image", "image_url": "data:,"}]}]);
        assert_eq!(asked(picture), None);
    }

    #[test]
    fn everything_else_does() {
        let bodies = [
            r#"{"a":1}"#,
            r#"{"a":1.0}"#,
            r#"{"a":"1"}"#,
            r#"{"a":null}"#,
            r"{}",
            r#"{"a":[]}"#,
            r#"{"a":{}}"#,
            r#"{"a":[1]}"#,
            r#"{"a":[[1]]}"#,
            r#"{"a":true}"#,
            r#"{"a":"true"}"#,
            r#"{"b":1}"#,
            r#"{"a":1,"b":2}"#,
            r#"{"a":{"b":2}}"#,
            r#"{"a":18446744073709551616}"#,
            r#"{"a":18446744073709551617}"#,
            r#"{"a":1e400}"#,
            r#"{"a":1e401}"#,
            r#"{"a":"\ud800"}"#,
            r#"{"a":"\ud801"}"#,
            r#"{"a":"\ufffd"}"#,
            r#"{"a":"\u00e9"}"#,
            r#"{"a":"e\u0301"}"#,
        ];
        let mut all: Vec<Vec<u8>> = bodies.iter().map(|body| canonical(body)).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), bodies.len());
    }

    #[test]
    fn a_request_with_effects_or_references_is_for_itself() {
        use Dialect::{AnthropicMessages, Gemini, OpenAiChat};
        let turn = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        for (dialect, body, expected) in [
            (OpenAiChat, json!({"store": true}), "state"),
            (OpenAiChat, json!({"previous_response_id": "r"}), "state"),
            (AnthropicMessages, json!({"container": "c"}), "state"),
            (AnthropicMessages, json!({"mcp_servers": []}), "state"),
            (Gemini, json!({"cachedContent": "cachedContents/1"}), "state"),
            (OpenAiChat, json!({"n": 2}), "several_answers"),
            (Gemini, json!({"generationConfig": {"candidateCount": 2}}), "several_answers"),
            (OpenAiChat, json!({"web_search_options": {}}), "tools"),
            (OpenAiChat, json!({"tools": [{"type": "function"}, {"type": "web_search"}]}), "tools"),
            (AnthropicMessages, json!({"tools": [{"type": "bash_20250124", "name": "bash"}]}), "tools"),
            (Gemini, json!({"tools": [{"googleSearch": {}}]}), "tools"),
            (Gemini, json!({"tools": [{"functionDeclarations": [], "codeExecution": {}}]}), "tools"),
            (OpenAiChat, turn(json!([{"type": "file", "file": {"file_id": "f"}}])), "elsewhere"),
            (
                OpenAiChat,
                turn(json!([{"type": "image_url", "image_url": {"url": "https://x.example/a"}}])),
                "elsewhere",
            ),
            (
                AnthropicMessages,
                turn(json!([{"type": "image", "source": {"type": "url", "url": "http://x"}}])),
                "elsewhere",
            ),
            (Gemini, json!({"contents": [{"parts": [{"fileData": {"fileUri": "u"}}]}]}), "elsewhere"),
        ] {
            assert_eq!(why(dialect, &body), Some(expected), "{body}");
        }
        for (dialect, body) in [
            (OpenAiChat, json!({"store": false, "n": 1, "tools": [{"type": "function"}, {"type": "custom"}]})),
            (OpenAiChat, turn(json!([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}]))),
            (AnthropicMessages, json!({"tools": [{"name": "f", "input_schema": {}}]})),
            (Gemini, json!({"tools": [{"functionDeclarations": []}]})),
        ] {
            assert_eq!(why(dialect, &body), None, "{body}");
        }
    }

    #[test]
    fn questions_differ_in_their_last_words_only() {
        let ask = |system: &str, last: Value| json!({"messages": [{"role": "system", "content": system}, {"role": "user", "content": last}]});
        let question = |body: &Value| same(&body.to_string()).expect("compared").question;
        let (one, two) = (question(&ask("s", json!("how?"))), question(&ask("s", json!("why?"))));
        let (one, two) = (one.expect("words"), two.expect("words"));
        assert_eq!((one.text.as_str(), two.text.as_str(), one.rest == two.rest), ("how?", "why?", true));
        assert_ne!(question(&ask("other", json!("how?"))).expect("words").rest, one.rest);
        let parts = question(&ask("s", json!([{"type": "text", "text": "how?"}]))).expect("words");
        assert_ne!(parts.rest, one.rest);
        let mut tools = ask("s", json!("how?"));
        tools["tools"] = json!([{"type": "function", "function": {"name": "f"}}]);
        assert_ne!(question(&tools).expect("words").rest, one.rest);
        for wordless in [
            ask("s", json!("  ")),
            ask("s", json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])),
            ask("s", json!([{"type": "text", "text": "a", "cache_control": {}}])),
            ask("s", json!([{"type": "image_url", "image_url": {"url": "data:"}}])),
            json!({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}, {"role": "user", "content": "a"}]}),
            json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}),
            json!({"messages": []}),
        ] {
            assert_eq!(question(&wordless), None, "{wordless}");
        }
    }

    #[test]
    fn a_text_that_stands_twice_is_left_out_only_where_it_is_asked() {
        let body = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}]});
        let other = json!({"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "a"}]});
        let rest = |body: &Value| same(&body.to_string()).expect("compared").question.expect("words").rest;
        assert_ne!(rest(&body), rest(&other));
    }

    #[test]
    fn only_whole_answers_that_ended_well_count() {
        let whole = |reason: &str| {
            let body = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": reason}]});
            is_whole_answer(Dialect::OpenAiChat, &[body.to_string()], false)
        };
        assert!(whole("stop") && whole("length") && whole("tool_calls"));
        assert!(!whole("content_filter"));
        assert!(!is_whole_answer(Dialect::OpenAiChat, &["{\"error\":{\"message\":\"no\"}}"], false));
        assert!(!is_whole_answer(Dialect::OpenAiChat, &["{\"choices\":[]}"], false));
        let chunk = |finish: &str| {
            format!(
                "data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"x\"}},\"finish_reason\":{finish}}}]}}\n\n"
            )
        };
        let stream = |pieces: &[String]| is_whole_answer(Dialect::OpenAiChat, pieces, true);
        let done = "data: [DONE]\n\n".to_owned();
        assert!(stream(&[chunk("null"), chunk("\"stop\""), done.clone()]));
        assert!(!stream(&[chunk("null")]));
        assert!(!stream(&[chunk("null"), chunk("\"content_filter\""), done.clone()]));
        assert!(!stream(&[chunk("null"), "data: {\"error\":{\"message\":\"cut\"}}\n\n".to_owned()]));
        assert!(is_whole_answer(Dialect::OpenAiEmbeddings, &["{\"data\":[{\"embedding\":[1]}]}"], false));
        assert!(!is_whole_answer(Dialect::OpenAiEmbeddings, &["{\"data\":[]}"], false));
    }

    /// Any JSON object, written once plainly and once with its members in another order, spaced and escaped.
    fn object() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from),
        ];
        let value = leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map("[a-z]{1,3}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        });
        proptest::collection::hash_map("[x-z]{1,3}", value, 0..5)
            .prop_map(|map| Value::Object(map.into_iter().collect()))
    }

    fn otherwise(value: &Value) -> String {
        match value {
            Value::Object(members) => {
                let members: Vec<String> = members
                    .iter()
                    .rev()
                    .map(|(name, value)| format!("\n {} :\t{}", escaped(name), otherwise(value)))
                    .collect();
                format!("{{ {} }}", members.join(" ,"))
            }
            Value::Array(items) => format!("[ {} ]", items.iter().map(otherwise).collect::<Vec<_>>().join(" , ")),
            Value::String(text) => escaped(text),
            other => other.to_string(),
        }
    }

    fn escaped(text: &str) -> String {
        let units: Vec<String> = text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        format!("\"{}\"", units.concat())
    }

    proptest! {
        #[test]
        fn equal_requests_share_a_form_and_others_never(one in object(), two in object()) {
            prop_assert_eq!(canonical(&one.to_string()), canonical(&otherwise(&one)));
            prop_assert_eq!(canonical(&one.to_string()) == canonical(&two.to_string()), one == two);
        }

        #[test]
        fn any_body_is_looked_at_without_panic(body in "\\PC{0,60}") {
            let _same = same(&body);
            let _whole = is_whole_answer(Dialect::Gemini, &[&body], true);
        }
    }
}
