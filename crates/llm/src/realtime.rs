//! OpenAI's Realtime API: the JSON events of one session, as they pass through
//! (platform.openai.com/docs/api-reference/realtime-client-events and -server-events).
//!
//! Events pass as they are. Of the client's, the gateway looks at what a policy decides on: the models named, the tools, the
//! bound on tokens generated. Of the provider's, at the usage told.

use std::borrow::Cow;

use crate::json::{Limits, Node, node, object, quoted};
use crate::model::Usage;
use crate::passthrough::{Models, apply, refuse_steering};
use crate::provider::usage;
use crate::{Failure, JsonError, RequestError};

/// What the gateway must know of a client's event before it is passed on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientEvent {
    /// Its `type`.
    pub kind: String,
    /// Its `event_id`, which an error names.
    pub id: Option<String>,
    /// The session's model, where the event names it.
    pub model: Option<String>,
    /// Further models named in it, such as the one that transcribes: a policy decides on each.
    pub other_models: Vec<String>,
    /// Whether the model is given tools of any kind.
    pub has_tools: bool,
    /// The names of those tools, or their `type` where they have no name.
    pub tool_names: Vec<String>,
    /// The largest bound on the tokens of an answer. `"inf"` is none.
    pub max_output_tokens: Option<u64>,
    /// Where `"inf"` stands.
    unbound_at: Option<(usize, usize)>,
    /// Where the model's name stands: offset and length.
    model_at: Option<(usize, usize)>,
    /// Where a bound would be added: just inside `session` or `response`, and whether that object is empty.
    open_at: Option<(usize, bool)>,
}

/// Read a client's event. What steers a gateway is refused as in any other request.
pub fn client_event(text: &str, limits: &Limits) -> Result<ClientEvent, RequestError> {
    let root = node(text, limits)?;
    if !root.is_object() {
        return Err(JsonError::NotObject.into());
    }
    let mut event = ClientEvent {
        kind: root.text_of("type").ok_or_else(|| RequestError::missing("type"))?.into_owned(),
        id: root.text_of("event_id").map(Cow::into_owned),
        ..ClientEvent::default()
    };
    let mut others = Models::default();
    for (name, value) in root.members() {
        refuse_steering(name)?;
        if matches!(name.as_ref(), "session" | "response") && value.is_object() {
            event.settings(text, value, &mut others)?;
        } else {
            others.collect(value)?;
        }
    }
    event.other_models = others.others;
    Ok(event)
}

impl ClientEvent {
    /// Whether it asks for an answer.
    pub fn asks(&self) -> bool {
        self.kind == "response.create"
    }

    /// Whether it sets what later answers are made by.
    pub fn configures(&self) -> bool {
        self.kind == "session.update"
    }

    /// The event with the model's name as its provider knows it, and a bound on tokens where it has none.
    pub fn splice<'t>(&self, text: &'t str, model: &str, bound: Option<(&str, u64)>) -> Cow<'t, str> {
        let mut changes = Vec::new();
        if let Some((at, length)) = self.model_at {
            changes.push((at, length, quoted(model)));
        }
        if let Some((name, bound)) = bound.filter(|_| self.max_output_tokens.is_none()) {
            match (self.unbound_at, self.open_at) {
                (Some((at, length)), _) => changes.push((at, length, bound.to_string())),
                (None, Some((at, empty))) => {
                    let comma = if empty { "" } else { "," };
                    changes.push((at, 0, format!("{}:{bound}{comma}", quoted(name))));
                }
                (None, None) => {}
            }
        }
        if changes.is_empty() {
            return Cow::Borrowed(text);
        }
        // Whole JSON values were replaced in text that was UTF-8.
        Cow::Owned(String::from_utf8(apply(text.as_bytes(), changes)).unwrap_or_default())
    }

    fn settings(&mut self, text: &str, of: &Node<'_>, others: &mut Models) -> Result<(), RequestError> {
        self.open_at = Some((of.offset_in(text.as_bytes()).saturating_add(1), of.members().is_empty()));
        for (name, value) in of.members() {
            refuse_steering(name)?;
            match name.as_ref() {
                "model" if value.is_null() => {}
                "model" => {
                    let model = value.text().ok_or_else(|| RequestError::wrong("session.model", "a string"))?;
                    self.model = Some(model.into_owned());
                    self.model_at = Some((value.offset_in(text.as_bytes()), value.raw.len()));
                }
                "max_output_tokens" | "max_response_output_tokens" if value.text().as_deref() == Some("inf") => {
                    self.unbound_at = Some((value.offset_in(text.as_bytes()), value.raw.len()));
                }
                "max_output_tokens" | "max_response_output_tokens" if !value.is_null() => {
                    let wrong = || RequestError::wrong(name.as_ref(), "a whole number or \"inf\"");
                    let bound = value.whole().ok_or_else(wrong)?;
                    self.max_output_tokens = self.max_output_tokens.max(Some(bound));
                }
                "tools" => {
                    for tool in value.items() {
                        self.has_tools = true;
                        let called = ["name", "server_label", "type"].iter().find_map(|name| tool.text_of(name));
                        self.tool_names.extend(called.map(Cow::into_owned));
                    }
                    others.collect(value)?;
                }
                _ => others.collect(value)?,
            }
        }
        Ok(())
    }
}

/// What a provider's event says of tokens taken: by one answer (`response.done`), or by transcribing what was heard. `None` for
/// events that say nothing of it.
pub fn server_usage(text: &str) -> Option<Usage> {
    // Most events are pieces of sound.
    memchr::memmem::find(text.as_bytes(), b"\"usage\"")?;
    let root = node(text, &Limits::RESPONSE).ok()?;
    let told = match root.text_of("type")?.as_ref() {
        "response.done" => root.get("response")?.get("usage")?,
        "conversation.item.input_audio_transcription.completed" => root.get("usage")?,
        _ => return None,
    };
    Some(usage::openai(told)).filter(|usage| usage.is_known() || usage.suspect)
}

/// What a provider's event says of the answer under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEvent {
    /// It begins (`response.created`).
    Begun,
    /// It is over (`response.done`), well or not.
    Done,
}

/// What a provider's event says of the answer under way, if anything.
pub fn server_event(text: &str) -> Option<ServerEvent> {
    // Most events are pieces of sound.
    memchr::memmem::find(text.as_bytes(), b"\"response.created\"")
        .or_else(|| memchr::memmem::find(text.as_bytes(), b"\"response.done\""))?;
    match node(text, &Limits::RESPONSE).ok()?.text_of("type")?.as_ref() {
        "response.created" => Some(ServerEvent::Begun),
        "response.done" => Some(ServerEvent::Done),
        _ => None,
    }
}

/// An `error` event of this gateway's own; `event` names the client's event it is about.
pub fn error_event(failure: &Failure, event: Option<&str>) -> String {
    let optional = |text: Option<&str>| text.map_or_else(|| "null".to_owned(), quoted);
    let kind = failure.kind.as_deref().unwrap_or(match failure.status {
        500.. => "server_error",
        _ => "invalid_request_error",
    });
    let error = object(|o| {
        o.raw("type", &quoted(kind));
        o.raw("code", &optional(failure.code.as_deref()));
        o.raw("message", &quoted(&failure.message));
        o.raw("param", &optional(failure.param.as_deref()));
        o.raw("event_id", &optional(event));
    });
    object(|o| {
        o.raw("type", "\"error\"");
        o.raw("error", &error);
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> ClientEvent {
        client_event(text, &Limits::REQUEST).expect("event")
    }

    #[test]
    fn what_a_policy_decides_on_is_found_wherever_an_event_says_it() {
        let update = read(
            r#"{"type":"session.update","event_id":"e1","session":{"type":"realtime","model":"voice","max_output_tokens":"inf",
               "tools":[{"type":"function","name":"weather"},{"type":"mcp","server_label":"docs"}],
               "audio":{"input":{"transcription":{"model":"gpt-4o-transcribe"}}}}}"#,
        );
        assert!(update.configures() && !update.asks() && update.has_tools);
        assert_eq!((update.id.as_deref(), update.model.as_deref()), (Some("e1"), Some("voice")));
        assert_eq!(update.tool_names, ["weather", "docs"]);
        assert_eq!(update.other_models, ["gpt-4o-transcribe"]);
        assert_eq!(update.max_output_tokens, None);
        let create =
            read(r#"{"type":"response.create","response":{"max_output_tokens":200,"instructions":"Be brief."}}"#);
        assert!(create.asks());
        assert_eq!(create.max_output_tokens, Some(200));
        assert_eq!(read(r#"{"type":"input_audio_buffer.append","audio":"AAAA"}"#).other_models, [""; 0]);
    }

    #[test]
    fn the_models_name_and_a_missing_bound_are_set_and_nothing_else() {
        let text = r#"{"type":"session.update","session":{ "model" : "voice","voice":"alloy"}}"#;
        assert_eq!(
            read(text).splice(text, "gpt-realtime", Some(("max_output_tokens", 50))),
            r#"{"type":"session.update","session":{"max_output_tokens":50, "model" : "gpt-realtime","voice":"alloy"}}"#
        );
        let empty = r#"{"type":"response.create","response":{}}"#;
        let bound = read(empty).splice(empty, "x", Some(("max_output_tokens", 50))).into_owned();
        assert_eq!(bound, r#"{"type":"response.create","response":{"max_output_tokens":50}}"#);
        let endless = r#"{"type":"response.create","response":{"max_output_tokens": "inf" }}"#;
        assert_eq!(
            read(endless).splice(endless, "x", Some(("max_output_tokens", 50))),
            r#"{"type":"response.create","response":{"max_output_tokens": 50 }}"#
        );
        assert_eq!(read(endless).splice(endless, "x", None), endless);
        let bare = r#"{"type":"response.create"}"#;
        assert_eq!(read(bare).splice(bare, "x", Some(("max_output_tokens", 50))), bare);
        let set = r#"{"type":"response.create","response":{"max_output_tokens":7}}"#;
        assert_eq!(read(set).splice(set, "x", Some(("max_output_tokens", 50))), set);
    }

    #[test]
    fn what_steers_or_is_no_event_is_refused() {
        for text in [
            "[]",
            "{}",
            r#"{"type":7}"#,
            r#"{"type":"session.update","type":"x"}"#,
            r#"{"type":"session.update","session":{"Model":"x"}}"#,
            r#"{"type":"session.update","session":{"api_key":"x"}}"#,
            r#"{"type":"session.update","session":{"model":["x"]}}"#,
            r#"{"type":"session.update","session":{"max_output_tokens":-1}}"#,
            r#"{"type":"response.create","response":{"max_output_tokens":"lots"}}"#,
        ] {
            assert!(client_event(text, &Limits::REQUEST).is_err(), "{text}");
        }
    }

    #[test]
    fn usage_is_read_where_it_is_told() {
        let done = r#"{"type":"response.done","response":{"usage":{"total_tokens":253,"input_tokens":132,"output_tokens":121,
            "input_token_details":{"text_tokens":119,"audio_tokens":13,"cached_tokens":64},
            "output_token_details":{"text_tokens":30,"audio_tokens":91}}}}"#;
        let usage = server_usage(done).expect("usage");
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.total_tokens), (Some(132), Some(121), Some(253)));
        assert_eq!((usage.cache_read_tokens, usage.audio_input_tokens), (Some(64), Some(13)));
        assert_eq!(usage.audio_output_tokens, Some(91));
        let heard = r#"{"type":"conversation.item.input_audio_transcription.completed",
            "usage":{"type":"tokens","total_tokens":26,"input_tokens":17,"output_tokens":9}}"#;
        assert_eq!(server_usage(heard).and_then(|usage| usage.total_tokens), Some(26));
        for silent in [
            r#"{"type":"response.done","response":{"usage":null}}"#,
            r#"{"type":"response.output_audio.delta","delta":"usage"}"#,
            r#"{"type":"x","usage":{"total_tokens":1}}"#,
            r#"{"usage""#,
        ] {
            assert_eq!(server_usage(silent), None, "{silent}");
        }
    }

    #[test]
    fn an_error_names_the_event_it_is_about() {
        let failure = Failure {
            status: 403,
            kind: None,
            code: Some("tool_not_allowed".into()),
            param: None,
            message: "No \"tools\".".into(),
        };
        let text = error_event(&failure, Some("e1"));
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!((value["type"].as_str(), value["error"]["event_id"].as_str()), (Some("error"), Some("e1")));
        assert_eq!(value["error"]["message"], "No \"tools\".");
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_fault_and_spliced_into_json(text in ".{0,200}", model in ".{0,20}") {
            let _ = server_usage(&text);
            if let Ok(event) = client_event(&text, &Limits::REQUEST) {
                let spliced = event.splice(&text, &model, Some(("max_output_tokens", 1)));
                prop_assert!(client_event(&spliced, &Limits::REQUEST).is_ok());
            }
        }

        #[test]
        fn a_session_keeps_every_other_member(voice in "[a-z]{0,9}", model in "\\PC{1,20}", bound in any::<u32>()) {
            let session = serde_json::json!({"voice": voice, "model": "a", "audio": {"input": {"format": voice}}});
            let text = serde_json::json!({"type": "session.update", "session": session}).to_string();
            let spliced = read(&text).splice(&text, &model, Some(("max_output_tokens", u64::from(bound)))).into_owned();
            let mut expected = session;
            expected["model"] = model.into();
            expected["max_output_tokens"] = bound.into();
            let value: serde_json::Value = serde_json::from_str(&spliced).expect("JSON");
            prop_assert_eq!(&value["session"], &expected);
        }
    }
}
