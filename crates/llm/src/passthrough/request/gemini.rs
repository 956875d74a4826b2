//! What a request in Google's form says of itself, and what its path says.

use std::borrow::Cow;

use super::{Peek, Spans, refuse_steering};
use crate::RequestError;
use crate::dialect::gemini::{member, snake};
use crate::json::{Limits, Member, Node, members, node};

/// Look at a request whose path has not been read: see [`Peek::with_path`].
pub(super) fn peek(body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let all = members(body, limits)?;
    all.iter().try_for_each(|member| refuse_steering(&member.name))?;
    let mut seen = Peek {
        model: String::new(),
        stream: false,
        include_usage: true,
        max_output_tokens: None,
        answers: 1,
        has_tools: false,
        tool_names: Vec::new(),
        store: None,
        other_models: Vec::new(),
        spans: Spans {
            open: body.iter().position(|b| *b == b'{').map_or(0, |at| at + 1),
            is_bare: all.is_empty(),
            ..Spans::default()
        },
    };
    if let Some(model) = only(&all, "model")? {
        let name = node(model.raw, limits)?.text().map(Cow::into_owned);
        seen.model = name.ok_or_else(|| RequestError::wrong("model", "a string"))?;
        seen.spans.model = Some((model.at, model.raw.len()));
    }
    let config = only(&all, "generationConfig")?;
    seen.spans.null_config = config.filter(|config| config.raw == "null").map(|config| (config.at, config.raw.len()));
    if let Some(config) = config.filter(|config| config.raw != "null") {
        let inner = members(config.raw.as_bytes(), limits).map_err(|error| match error {
            crate::JsonError::NotObject => RequestError::wrong("generationConfig", "an object"),
            other => other.into(),
        })?;
        seen.spans.config = Some(config.at + config.raw.find('{').map_or(0, |at| at + 1));
        seen.spans.config_is_empty = inner.is_empty();
        if let Some(most) = only(&inner, "maxOutputTokens")? {
            seen.spans.max_tokens = Some((config.at + most.at, most.raw.len()));
            if most.raw != "null" {
                seen.max_output_tokens = Some(whole(most, "generationConfig.maxOutputTokens", limits)?);
            }
        }
        if let Some(answers) = only(&inner, "candidateCount")?.filter(|answers| answers.raw != "null") {
            seen.answers = whole(answers, "generationConfig.candidateCount", limits)?;
        }
    }
    if let Some(tools) = only(&all, "tools")?.filter(|tools| tools.raw != "null") {
        let list = node(tools.raw, limits)?;
        let wrong = || RequestError::wrong("tools", "an array");
        let items = if list.is_array() { list.items() } else { return Err(wrong()) };
        items.iter().try_for_each(|tool| seen.tool(tool))?;
    }
    Ok(seen)
}

/// The member `name` in either spelling; both at once is refused, since readers disagree on which one counts.
fn only<'m, 'a>(all: &'m [Member<'a>], name: &str) -> Result<Option<&'m Member<'a>>, RequestError> {
    let other = snake(name);
    let mut found = all.iter().filter(|member| member.name == name || member.name == other);
    match (found.next(), found.next()) {
        (one, None) => Ok(one),
        (_, Some(_)) => Err(RequestError::Forbidden { param: name.to_owned(), why: "it is there in two spellings" }),
    }
}

fn whole(member: &Member<'_>, name: &str, limits: &Limits) -> Result<u64, RequestError> {
    node(member.raw, limits)?.whole().ok_or_else(|| RequestError::wrong(name, "a whole number"))
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
