//! What a request in Google's form says of itself, and what its path says.

use std::borrow::Cow;

use super::{Peek, refuse_steering, whole};
use crate::RequestError;
use crate::dialect::gemini::{member, snake};
use crate::json::{Limits, Node, document};

/// Look at a request whose path has not been read: see [`Peek::with_path`].
pub(super) fn peek(body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let root = document(body, limits)?;
    root.members().iter().try_for_each(|(name, _)| refuse_steering(name))?;
    let mut seen = Peek { include_usage: true, ..Peek::of(&root, body) };
    if let Some(model) = only(&root, "model")? {
        let name = model.text().map(Cow::into_owned);
        seen.model = name.ok_or_else(|| RequestError::wrong("model", "a string"))?;
        seen.spans.model = Some(model.span_in(body));
    }
    let config = only(&root, "generationConfig")?;
    seen.spans.null_config = config.filter(|config| config.is_null()).map(|config| config.span_in(body));
    if let Some(config) = config.filter(|config| !config.is_null()) {
        if !config.is_object() {
            return Err(RequestError::wrong("generationConfig", "an object"));
        }
        seen.configured(config, body);
        if let Some(most) = only(config, "maxOutputTokens")? {
            seen.spans.max_tokens = Some(most.span_in(body));
            if !most.is_null() {
                seen.max_output_tokens = Some(whole("generationConfig.maxOutputTokens", most)?);
            }
        }
        if let Some(answers) = only(config, "candidateCount")?.filter(|answers| !answers.is_null()) {
            seen.answers = whole("generationConfig.candidateCount", answers)?;
        }
    }
    if let Some(tools) = only(&root, "tools")?.filter(|tools| !tools.is_null()) {
        if !tools.is_array() {
            return Err(RequestError::wrong("tools", "an array"));
        }
        tools.items().iter().try_for_each(|tool| seen.tool(tool))?;
    }
    Ok(seen)
}

/// The member `name` in either spelling; both at once is refused, since readers disagree on which one counts.
fn only<'n, 'a>(of: &'n Node<'a>, name: &str) -> Result<Option<&'n Node<'a>>, RequestError> {
    let other = snake(name);
    let mut found = of.members().iter().filter(|(key, _)| key == name || *key == other).map(|(_, value)| value);
    match (found.next(), found.next()) {
        (one, None) => Ok(one),
        (_, Some(_)) => Err(RequestError::Forbidden { param: name.to_owned(), why: "it is there in two spellings" }),
    }
}

impl Peek {
    fn tool(&mut self, tool: &Node<'_>) -> Result<(), RequestError> {
        if !tool.is_object() {
            return Err(RequestError::wrong("tools", "an array of objects"));
        }
        for (name, value) in tool.members().iter().filter(|(_, value)| !value.is_null()) {
            self.has_tools = true;
            if name != "functionDeclarations" && name != "function_declarations" {
                self.tool_names.push(name.to_string());
                continue;
            }
            let names = value.items().iter().filter_map(|function| member(function, "name")?.text());
            self.tool_names.extend(names.map(Cow::into_owned));
        }
        Ok(())
    }

    /// What the path says: the model, and whether the answer is streamed. A body that names another model is refused.
    pub fn with_path(mut self, model: &str, stream: bool) -> Result<Self, RequestError> {
        if !self.model.is_empty() && self.model.strip_prefix("models/").unwrap_or(&self.model) != model {
            return Err(RequestError::Forbidden { param: "model".to_owned(), why: "the path names another one" });
        }
        model.clone_into(&mut self.model);
        self.stream = stream;
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Dialect;
    use crate::passthrough::Edits;

    fn look(body: &str) -> Result<Peek, RequestError> {
        peek(body.as_bytes(), &Limits::REQUEST)?.with_path("fast", true)
    }

    #[test]
    fn bounds_and_tools_are_seen_in_either_spelling() {
        for body in [
            r#"{"contents":[],"generationConfig":{"maxOutputTokens":7,"candidateCount":2},"tools":[{"functionDeclarations":[{"name":"f"}]},{"googleSearch":{}}]}"#,
            r#"{"contents":[],"generation_config":{"max_output_tokens":7,"candidate_count":2},"tools":[{"function_declarations":[{"name":"f"}]},{"googleSearch":{}}]}"#,
        ] {
            let seen = look(body).unwrap();
            assert_eq!((seen.max_output_tokens, seen.answers, seen.stream), (Some(7), 2, true));
            assert_eq!(seen.tool_names, ["f", "googleSearch"]);
            assert_eq!(seen.model, "fast");
        }
    }

    #[test]
    fn a_bound_is_set_in_its_place_and_nothing_else_changes() {
        let set = |body: &str| {
            let edits = Edits { model: Some("gemini-x"), max_output_tokens: Some(9), ..Edits::default() };
            String::from_utf8(look(body).unwrap().splice(Dialect::Gemini, body.as_bytes(), &edits)).unwrap()
        };
        assert_eq!(set(r#"{ "contents" : [] }"#), r#"{"generationConfig":{"maxOutputTokens":9}, "contents" : [] }"#);
        assert_eq!(
            set(r#"{"generationConfig":{"topK": 1}}"#),
            r#"{"generationConfig":{"maxOutputTokens":9,"topK": 1}}"#
        );
        assert_eq!(set(r#"{"generation_config": {}}"#), r#"{"generation_config": {"maxOutputTokens":9}}"#);
        assert_eq!(set(r#"{"generationConfig":null}"#), r#"{"generationConfig":{"maxOutputTokens":9}}"#);
        assert_eq!(
            set(r#"{"generation_config":{"max_output_tokens": 70 },"model":"models/fast"}"#),
            r#"{"generation_config":{"max_output_tokens": 9 },"model":"models/gemini-x"}"#
        );
    }

    #[test]
    fn a_7_two_spellings_of_one_member_and_another_model_are_refused() {
        for body in [
            r#"{"generationConfig":{},"generation_config":{"maxOutputTokens":1}}"#,
            r#"{"generationConfig":{"maxOutputTokens":1,"max_output_tokens":99}}"#,
            r#"{"model":"models/other"}"#,
            r#"{"base_url":"x"}"#,
            r#"{"Tools":[]}"#,
            r#"{"tools":{}}"#,
            r#"{"generationConfig":[]}"#,
            r#"{"generationConfig":{"maxOutputTokens":"many"}}"#,
        ] {
            assert!(look(body).is_err(), "{body}");
        }
    }
}
