//! What a request of Ollama's own API says of itself.

use super::{Peek, Spans, boolean, refuse_steering};
use crate::RequestError;
use crate::json::{Limits, members, node};

/// Look at a request to `/api/chat`, `/api/generate` or `/api/embed`.
///
/// Ollama reads its members in any case, as Go does: a second `Options` would count.
pub(super) fn peek(body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let mut seen = Peek {
        model: String::new(),
        // Unless it is said otherwise.
        stream: true,
        include_usage: true,
        max_output_tokens: None,
        answers: 1,
        has_tools: false,
        tool_names: Vec::new(),
        other_models: Vec::new(),
        store: None,
        spans: Spans { open: body.iter().position(|b| *b == b'{').map_or(0, |at| at + 1), ..Spans::default() },
    };
    let mut model = None;
    for member in &members(body, limits)? {
        refuse_steering(&member.name)?;
        let null = member.raw == "null";
        match member.name.as_ref() {
            "model" => {
                let name = node(member.raw, limits)?.text().filter(|name| !name.is_empty());
                model = Some(name.ok_or_else(|| RequestError::wrong("model", "a non-empty string"))?.into_owned());
                seen.spans.model = Some((member.at, member.raw.len()));
            }
            "stream" if !null => seen.stream = boolean(member, limits)?,
            "tools" if !null => seen.tools(member, limits)?,
            "options" if null => seen.spans.null_config = Some((member.at, member.raw.len())),
            "options" => seen.options((member.at, member.raw), limits)?,
            name if name.eq_ignore_ascii_case("options") => {
                return Err(RequestError::Forbidden { param: name.to_owned(), why: "it is written `options`" });
            }
            _ => {}
        }
    }
    seen.model = model.ok_or_else(|| RequestError::missing("model"))?;
    Ok(seen)
}

impl Peek {
    fn options(&mut self, (at, raw): (usize, &str), limits: &Limits) -> Result<(), RequestError> {
        let inner = members(raw.as_bytes(), limits).map_err(|error| match error {
            crate::JsonError::NotObject => RequestError::wrong("options", "an object"),
            other => other.into(),
        })?;
        self.spans.config = Some(at + raw.find('{').map_or(0, |at| at + 1));
        self.spans.config_is_empty = inner.is_empty();
        for member in inner.iter().filter(|member| member.name == "num_predict") {
            self.spans.max_tokens = Some((at + member.at, member.raw.len()));
            // Below zero it is no bound: as much as the model likes.
            let value = node(member.raw, limits)?;
            let number = value.number().filter(|number| number.fract() == 0.0);
            if member.raw != "null" && number.is_none() {
                return Err(RequestError::wrong("options.num_predict", "a whole number"));
            }
            self.max_output_tokens = value.whole();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use crate::passthrough::Edits;

    fn look(body: &str) -> Result<Peek, RequestError> {
        peek(body.as_bytes(), &Limits::REQUEST)
    }

    #[test]
    fn a_request_streams_unless_it_says_otherwise() {
        let seen =
            look(r#"{"model":"m","messages":[],"tools":[{"type":"function","function":{"name":"f"}}]}"#).unwrap();
        assert_eq!((seen.model.as_str(), seen.stream, seen.tool_names), ("m", true, vec!["f".to_owned()]));
        assert!(!look(r#"{"model":"m","prompt":"p","stream":false}"#).unwrap().stream);
        assert_eq!(look(r#"{"model":"m","options":{"num_predict":7}}"#).unwrap().max_output_tokens, Some(7));
    }

    #[test]
    fn a_bound_is_set_in_its_place_and_nothing_else_changes() {
        let set = |body: &str| {
            let edits = Edits { max_output_tokens: Some(9), ..Edits::default() };
            String::from_utf8(look(body).unwrap().splice(Dialect::OllamaChat, body.as_bytes(), &edits)).unwrap()
        };
        assert_eq!(set(r#"{ "model":"m" }"#), r#"{"options":{"num_predict":9}, "model":"m" }"#);
        assert_eq!(set(r#"{"model":"m","options": { }}"#), r#"{"model":"m","options": {"num_predict":9 }}"#);
        assert_eq!(set(r#"{"model":"m","options":null}"#), r#"{"model":"m","options":{"num_predict":9}}"#);
        assert_eq!(
            set(r#"{"model":"m","options":{"seed":1,"num_predict": -1 }}"#),
            r#"{"model":"m","options":{"seed":1,"num_predict": 9 }}"#
        );
    }

    #[test]
    fn a_7_what_a_case_blind_reader_takes_for_a_bound_is_refused() {
        for body in [
            r#"{"model":"m","Options":{"num_predict":1}}"#,
            r#"{"model":"m","options":{},"OPTIONS":{"num_predict":99}}"#,
            r#"{"model":"m","options":{"num_predict":1,"num_predict":2}}"#,
            r#"{"model":"m","options":[]}"#,
            r#"{"model":"m","options":{"num_predict":"all"}}"#,
            r#"{"model":"m","Model":"other"}"#,
            r#"{"model":"m","Stream":true}"#,
            r#"{"messages":[]}"#,
            r#"{"model":""}"#,
        ] {
            assert!(look(body).is_err(), "{body}");
        }
    }
}
