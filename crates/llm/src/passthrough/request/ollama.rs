//! What a request of Ollama's own API says of itself.

use super::{Peek, boolean, refuse_steering};
use crate::RequestError;
use crate::json::{Limits, Node, document};

/// Look at a request to `/api/chat`, `/api/generate` or `/api/embed`.
///
/// Ollama reads its members in any case, as Go does: a second `Options` would count.
pub(super) fn peek(body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let root = document(body, limits)?;
    // It streams unless it is said otherwise.
    let mut seen = Peek { stream: true, include_usage: true, ..Peek::of(&root, body) };
    let mut model = None;
    for (name, value) in root.members() {
        refuse_steering(name)?;
        let null = value.is_null();
        match name.as_ref() {
            "model" => {
                let name = value.text().filter(|name| !name.is_empty());
                model = Some(name.ok_or_else(|| RequestError::wrong("model", "a non-empty string"))?.into_owned());
                seen.spans.model = Some(value.span_in(body));
            }
            "stream" if !null => seen.stream = boolean(name, value)?,
            "tools" if !null => seen.tools(name, value)?,
            "options" if null => seen.spans.null_config = Some(value.span_in(body)),
            "options" => seen.options(value, body)?,
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
    fn options(&mut self, options: &Node<'_>, body: &[u8]) -> Result<(), RequestError> {
        if !options.is_object() {
            return Err(RequestError::wrong("options", "an object"));
        }
        self.configured(options, body);
        for (_, value) in options.members().iter().filter(|(name, _)| name == "num_predict") {
            self.spans.max_tokens = Some(value.span_in(body));
            // Below zero it is no bound: as much as the model likes.
            let number = value.number().filter(|number| number.fract() == 0.0);
            if !value.is_null() && number.is_none() {
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
