//! What a request in Bedrock's own forms says of itself: of Converse, and of `InvokeModel`, whose body is in the form of the
//! model's maker.

use std::borrow::Cow;

use super::{Peek, fold, refuse_steering};
use crate::RequestError;
use crate::json::{Limits, Node, document, members};

/// Members that matter: a name that only a case-blind reader takes for one is refused.
const SENSITIVE: [&str; 8] = [
    "inferenceConfig",
    "toolConfig",
    "additionalModelRequestFields",
    "guardrailConfig",
    "promptVariables",
    "textGenerationConfig",
    "maxTokens",
    "maxTokenCount",
];

/// Under which names makers bound what is generated.
const BOUNDS: [&str; 8] = [
    "maxTokens",
    "max_tokens",
    "max_completion_tokens",
    "max_new_tokens",
    "max_gen_len",
    "max_tokens_to_sample",
    "maxTokenCount",
    "max_output_tokens",
];

/// Look at a request of either form whose path has not been read: see [`Peek::with_path`].
pub(super) fn peek(body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let root = document(body, limits)?;
    let mut seen = Peek { include_usage: true, ..Peek::of(&root, body) };
    for (name, value) in root.members() {
        refuse_steering(name)?;
        let folded = fold(name);
        if SENSITIVE.iter().any(|known| known != name && folded.eq_ignore_ascii_case(known)) {
            let param = name.chars().take(64).collect();
            return Err(RequestError::Forbidden { param, why: "its name differs from a known one only in case" });
        }
        match name.as_ref() {
            "inferenceConfig" => {
                seen.config(value, body)?;
                seen.bounds(value, "inferenceConfig.")?;
            }
            "textGenerationConfig" => seen.bounds(value, "textGenerationConfig.")?,
            // What a model's own fields say holds beside Converse's.
            "additionalModelRequestFields" => {
                seen.bounds(value, "additionalModelRequestFields.")?;
                for inner in ["inferenceConfig", "textGenerationConfig"] {
                    let path = format!("additionalModelRequestFields.{inner}.");
                    value.get(inner).map_or(Ok(()), |config| seen.bounds(config, &path))?;
                }
                seen.given(value.get("tools"), "additionalModelRequestFields.tools")?;
                seen.given(value.get("mcp_servers"), "additionalModelRequestFields.mcp_servers")?;
            }
            "toolConfig" => seen.given(value.get("tools"), "toolConfig.tools")?,
            "tools" | "functions" | "mcp_servers" => {
                seen.given(Some(value).filter(|value| !value.is_null()), name)?;
            }
            "n" | "num_generations" if !value.is_null() => {
                seen.answers = value.whole().ok_or_else(|| RequestError::wrong(name.as_ref(), "a whole number"))?;
            }
            // In the body of a model whose maker has it there; the path says which one it is.
            "model" | "modelId" => seen.other_models.extend(value.text().map(Cow::into_owned)),
            name if BOUNDS.contains(&name) => seen.bound_of(value, name)?,
            _ => {}
        }
    }
    Ok(seen)
}

/// Whether the body of an `InvokeModel` is of a form that is known well enough to say what it asks for: Anthropic's, Nova's, and
/// Llama's.
pub fn is_familiar(body: &[u8], limits: &Limits) -> bool {
    let Ok(all) = members(body, limits) else { return false };
    let has = |name: &str| all.iter().any(|member| member.name == name);
    has("anthropic_version")
        || (has("messages") && ["inferenceConfig", "toolConfig", "schemaVersion"].into_iter().any(has))
        || (has("prompt") && has("max_gen_len"))
}

impl Peek {
    /// Where a bound can be set.
    fn config(&mut self, config: &Node<'_>, body: &[u8]) -> Result<(), RequestError> {
        if config.is_null() {
            self.spans.null_config = Some(config.span_in(body));
            return Ok(());
        }
        if !config.is_object() {
            return Err(RequestError::wrong("inferenceConfig", "an object"));
        }
        self.configured(config, body);
        if let Some((_, most)) = config.members().iter().find(|(name, _)| name == "maxTokens") {
            self.spans.max_tokens = Some(most.span_in(body));
        }
        Ok(())
    }

    /// Every bound in `config`: the largest is the one to reckon with.
    fn bounds(&mut self, config: &Node<'_>, path: &str) -> Result<(), RequestError> {
        for (name, value) in config.members() {
            let known = BOUNDS.iter().find(|known| name.eq_ignore_ascii_case(known));
            if known.is_some() {
                self.bound_of(value, &format!("{path}{name}"))?;
            }
        }
        Ok(())
    }

    fn bound_of(&mut self, value: &Node<'_>, name: &str) -> Result<(), RequestError> {
        if !value.is_null() {
            let bound = value.whole().ok_or_else(|| RequestError::wrong(name, "a whole number"))?;
            self.max_output_tokens = self.max_output_tokens.max(Some(bound));
        }
        Ok(())
    }

    /// Tools: Converse's, or those of a model's maker.
    fn given(&mut self, tools: Option<&Node<'_>>, path: &str) -> Result<(), RequestError> {
        let Some(tools) = tools else { return Ok(()) };
        if !tools.is_array() {
            return Err(RequestError::wrong(path, "an array"));
        }
        for tool in tools.items().iter().filter(|tool| tool.get("cachePoint").is_none()) {
            self.has_tools = true;
            let inner = ["toolSpec", "systemTool", "function", "custom"].iter().find_map(|name| tool.get(name));
            let inner = inner.unwrap_or(tool);
            let name = inner.text_of("name").or_else(|| tool.text_of("type"));
            self.tool_names.push(name.map_or_else(|| "unknown".to_owned(), Cow::into_owned));
            self.other_models.extend(inner.text_of("model").map(Cow::into_owned));
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
        peek(body.as_bytes(), &Limits::REQUEST)?.with_path("us.amazon.nova-2-lite-v1:0", true)
    }

    #[test]
    fn bounds_and_tools_are_seen_wherever_they_stand() {
        let seen = look(
            r#"{"messages":[],"inferenceConfig":{"maxTokens":7},"additionalModelRequestFields":{"max_tokens":9,"tools":[{"type":"computer_20250124","name":"computer"}]},
                "toolConfig":{"tools":[{"toolSpec":{"name":"f"}},{"systemTool":{"name":"nova_grounding"}},{"cachePoint":{"type":"default"}}]}}"#,
        )
        .unwrap();
        assert_eq!(seen.max_output_tokens, Some(9));
        assert_eq!(seen.tool_names, ["computer", "f", "nova_grounding"]);
        assert_eq!((seen.model.as_str(), seen.stream), ("us.amazon.nova-2-lite-v1:0", true));
        for body in [
            r#"{"anthropic_version":"bedrock-2023-05-31","max_tokens":7,"tools":[{"name":"f"}]}"#,
            r#"{"textGenerationConfig":{"maxTokenCount":7},"tools":[{"function":{"name":"f"}}]}"#,
            r#"{"max_gen_len":7,"additionalModelRequestFields":{"inferenceConfig":{"max_new_tokens":3},"tools":[{"name":"f"}]}}"#,
        ] {
            let seen = look(body).unwrap();
            assert_eq!((seen.max_output_tokens, seen.tool_names), (Some(7), vec!["f".to_owned()]), "{body}");
        }
    }

    #[test]
    fn a_bound_is_set_in_its_place_and_nothing_else_changes() {
        let set = |body: &str| {
            let edits = Edits { max_output_tokens: Some(9), ..Edits::default() };
            String::from_utf8(look(body).unwrap().splice(Dialect::BedrockConverse, body.as_bytes(), &edits)).unwrap()
        };
        assert_eq!(set(r#"{ "messages" : [] }"#), r#"{"inferenceConfig":{"maxTokens":9}, "messages" : [] }"#);
        assert_eq!(set(r#"{"inferenceConfig":{"topP": 1}}"#), r#"{"inferenceConfig":{"maxTokens":9,"topP": 1}}"#);
        assert_eq!(set(r#"{"inferenceConfig": {}}"#), r#"{"inferenceConfig": {"maxTokens":9}}"#);
        assert_eq!(set(r#"{"inferenceConfig":null}"#), r#"{"inferenceConfig":{"maxTokens":9}}"#);
        assert_eq!(set(r#"{"inferenceConfig":{"maxTokens": 70 }}"#), r#"{"inferenceConfig":{"maxTokens": 9 }}"#);
    }

    #[test]
    fn a_7_what_another_reader_may_take_for_a_bound_or_for_a_model_is_refused_or_told() {
        for body in [
            r#"{"InferenceConfig":{"maxTokens":1}}"#,
            r#"{"toolconfig":{}}"#,
            r#"{"inferenceConfig":{"maxTokens":"many"}}"#,
            r#"{"toolConfig":{"tools":{}}}"#,
            r#"{"inferenceConfig":[]}"#,
            r#"{"endpoint_url":"x"}"#,
            r#"{"messages":[],"messages":[]}"#,
        ] {
            assert!(look(body).is_err(), "{body}");
        }
        assert_eq!(look(r#"{"inferenceConfig":{"MAXTOKENS":70}}"#).unwrap().max_output_tokens, Some(70));
        assert_eq!(look(r#"{"model":"other"}"#).unwrap().other_models, ["other"]);
    }

    #[test]
    fn a_known_form_is_told_from_an_unknown_one() {
        let familiar = |body: &str| is_familiar(body.as_bytes(), &Limits::REQUEST);
        assert!(familiar(r#"{"anthropic_version":"bedrock-2023-05-31"}"#));
        assert!(familiar(r#"{"messages":[],"schemaVersion":"messages-v1"}"#));
        assert!(!familiar(r#"{"messages":[],"max_tokens":3}"#) && !familiar(r#"{"inputText":"x"}"#) && !familiar("[]"));
    }
}
