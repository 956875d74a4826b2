//! Leaving out of a request what its provider cannot express, where the operator says that this is better than refusing it.
//!
//! Only members that say how an answer is sampled, counted or delivered are ever left out: the same thing is asked without them.
//! What is asked and what is allowed stays (messages, tools and their choice, the form of the answer, bounds, safety settings,
//! stored objects, and whatever nobody here knows), or the request is refused.

use crate::dialect::gemini::snake;
use crate::json::{Kind, Limits, Node, array, node, object};
use crate::passthrough::Edits;
use crate::{Dialect, RequestError, Translation};

/// Most members left out of one request: each costs another reading of it.
const MOST: usize = 16;

/// Members that may be left out, by their path without indices.
const OMISSIBLE: [&str; 52] = [
    // How often, and how, an answer is drawn.
    "n",
    "best_of",
    "seed",
    "random_seed",
    "temperature",
    "top_p",
    "top_k",
    "top_a",
    "min_p",
    "typical_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "repeat_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "generationConfig.candidateCount",
    "generationConfig.seed",
    "generationConfig.temperature",
    "generationConfig.topP",
    "generationConfig.topK",
    "generationConfig.presencePenalty",
    "generationConfig.frequencyPenalty",
    "generationConfig.responseLogprobs",
    "generationConfig.logprobs",
    // How much is thought about it, how wordy and how fast it is.
    "reasoning_effort",
    "reasoning_format",
    "reasoning",
    "include_reasoning",
    "thinking",
    "enable_thinking",
    "clear_thinking",
    "output_config.effort",
    "reasoning.effort",
    "reasoning.summary",
    "text.verbosity",
    "generationConfig.thinkingConfig",
    "generationConfig.mediaResolution",
    "verbosity",
    "service_tier",
    "speed",
    "prediction",
    // How calls come.
    "parallel_tool_calls",
    "tool_choice.disable_parallel_tool_use",
    // Who asks, and what is kept of it.
    "user",
    "metadata",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "messages.name",
    "labels",
];

/// Whether the member at `path` (`messages[0].name`) may be left out.
fn is_omissible(path: &str) -> bool {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    OMISSIBLE.contains(&plain.as_str())
}

impl Translation {
    /// [`Translation::request`], with what the provider cannot express left out as far as that may be: also says what was, by its
    /// path in the caller's own body.
    pub fn lenient_request(&self, body: &[u8], edits: &Edits<'_>) -> Result<(Vec<u8>, Vec<String>), RequestError> {
        let mut omitted: Vec<String> = Vec::new();
        let mut less: Option<String> = None;
        loop {
            let now = less.as_ref().map_or(body, String::as_bytes);
            let (param, error) = match self.request(now, edits) {
                Ok(request) => return Ok((request, omitted)),
                Err(RequestError::Unsupported { param, why }) => {
                    (param.clone(), RequestError::Unsupported { param, why })
                }
                Err(other) => return Err(other),
            };
            if omitted.len() >= MOST || !is_omissible(&param) {
                return Err(error);
            }
            // What is not where the path says cannot be left out.
            less = Some(without(now, &param, self.client()).ok_or(error)?);
            omitted.push(param);
        }
    }
}

/// `body` without the member at `path`; `None` if there is none. Every other value stays as it is written.
fn without(body: &[u8], path: &str, dialect: Dialect) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    let root = node(text, &Limits::REQUEST).ok()?;
    let steps: Vec<Step<'_>> = steps(path)?;
    rebuilt(&root, &steps, dialect == Dialect::Gemini)
}

enum Step<'p> {
    Member(&'p str),
    Item(usize),
}

/// `messages[0].name` as its steps.
fn steps(path: &str) -> Option<Vec<Step<'_>>> {
    let mut found = Vec::new();
    for piece in path.split('.') {
        let (name, mut indices) = piece.split_at(piece.find('[').unwrap_or(piece.len()));
        found.push(Step::Member(name));
        while let Some(rest) = indices.strip_prefix('[') {
            let (index, rest) = rest.split_once(']')?;
            found.push(Step::Item(index.parse().ok()?));
            indices = rest;
        }
    }
    Some(found)
}

/// The text of `node` without what `steps` lead to. `either`: members may be in either of Google's spellings.
fn rebuilt(node: &Node<'_>, steps: &[Step<'_>], either: bool) -> Option<String> {
    match (steps, &node.kind) {
        ([Step::Member(wanted), rest @ ..], Kind::Object(members)) => {
            let is = |name: &str| name == *wanted || (either && name == snake(wanted));
            let (_, value) = members.iter().find(|(name, _)| is(name))?;
            let changed = if rest.is_empty() { None } else { Some(rebuilt(value, rest, either)?) };
            Some(object(|o| {
                for (name, value) in members {
                    match &changed {
                        _ if !is(name) => o.raw(name, value.raw),
                        Some(changed) => o.raw(name, changed),
                        None => {}
                    }
                }
            }))
        }
        ([Step::Item(wanted), rest @ ..], Kind::Array(items)) if !rest.is_empty() => {
            let changed = rebuilt(items.get(*wanted)?, rest, either)?;
            Some(array(|a| {
                for (at, item) in items.iter().enumerate() {
                    a.raw(if at == *wanted { &changed } else { item.raw });
                }
            }))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::Options;

    fn lenient(client: Dialect, provider: Dialect, body: &Value) -> Result<(Value, Vec<String>), RequestError> {
        let translation = Translation::new(client, provider, Options::default()).unwrap();
        let edits = Edits { model: Some("m"), ..Edits::default() };
        let (request, omitted) = translation.lenient_request(body.to_string().as_bytes(), &edits)?;
        Ok((serde_json::from_slice(&request).unwrap(), omitted))
    }

    fn ask(more: &Value) -> Value {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hi"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    }

    #[test]
    fn what_tunes_an_answer_is_left_out_and_named() {
        let body = ask(&json!({"n": 2, "seed": 7, "logit_bias": {"5": 1}, "max_tokens": 9}));
        let (request, omitted) = lenient(Dialect::OpenAiChat, Dialect::AnthropicMessages, &body).unwrap();
        assert_eq!(request, json!({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}));
        let mut sorted = omitted;
        sorted.sort();
        assert_eq!(sorted, ["logit_bias", "n", "seed"]);
        let google = json!({"contents": [{"parts": [{"text": "hi"}]}], "generation_config": {"seed": 1, "top_k": 4}});
        let (request, omitted) = lenient(Dialect::Gemini, Dialect::OpenAiChat, &google).unwrap();
        assert_eq!((&request["seed"], omitted), (&json!(1), vec!["generationConfig.topK".to_owned()]));
        let named = json!({"model": "m", "messages": [{"role": "user", "content": "hi", "name": "ann"}]});
        let (request, omitted) = lenient(Dialect::OpenAiChat, Dialect::Gemini, &named).unwrap();
        assert_eq!(request["contents"][0]["parts"][0]["text"], "hi");
        assert_eq!(omitted, ["messages[0].name"]);
    }

    #[test]
    fn a_7_what_is_asked_and_what_is_allowed_is_never_left_out() {
        let openai = |more: Value| lenient(Dialect::OpenAiChat, Dialect::AnthropicMessages, &ask(&more));
        for more in [
            json!({"tools": [{"type": "web_search_preview"}]}),
            json!({"web_search_options": {}}),
            json!({"grammar": "root"}),
            json!({"provider": {"data_collection": "deny"}}),
            json!({"moderation": "strict"}),
            json!({"messages": [{"role": "user", "content": [{"type": "video_url", "video_url": {"url": "x"}}]}]}),
            json!({"tool_choice": {"type": "allowed_tools"}, "tools": [{"type": "function", "function": {"name": "f"}}]}),
            json!({"response_format": {"type": "grammar"}}),
        ] {
            let error = openai(more.clone()).unwrap_err();
            assert_eq!(error.reason(), "unsupported_parameter", "{more}");
        }
        let google = json!({"contents": [], "safetySettings": [{"category": "A", "threshold": "BLOCK_LOW_AND_ABOVE"}]});
        let error = lenient(Dialect::Gemini, Dialect::OpenAiChat, &google).unwrap_err();
        assert!(error.param().unwrap().starts_with("safetySettings"), "{error}");
        let forced =
            ask(&json!({"tool_choice": "required", "tools": [{"type": "function", "function": {"name": "f"}}]}));
        assert_eq!(
            lenient(Dialect::OpenAiChat, Dialect::OllamaChat, &forced).unwrap_err().param(),
            Some("tool_choice")
        );
    }

    #[test]
    fn every_other_value_stays_as_it_is_written() {
        let body = r#"{"a": 1.50, "messages" :[{"x":1,"name":"n"}, {"y":[ 1 ]}],"n":2}"#;
        let less = |path| without(body.as_bytes(), path, Dialect::OpenAiChat);
        assert_eq!(less("n").unwrap(), r#"{"a":1.50,"messages":[{"x":1,"name":"n"}, {"y":[ 1 ]}]}"#);
        assert_eq!(less("messages[0].name").unwrap(), r#"{"a":1.50,"messages":[{"x":1},{"y":[ 1 ]}],"n":2}"#);
        for nowhere in ["z", "messages[0]", "messages[2].name", "messages[1].name", "a.b", "messages[x].name", ""] {
            assert_eq!(less(nowhere), None, "{nowhere}");
        }
    }

    proptest! {
        #[test]
        fn any_path_is_followed_without_panic(path in "[a-z\\[\\]0-9.]{0,20}", body in "[{}\\[\\]\":,a-z0-9]{0,40}") {
            let _ = without(body.as_bytes(), &path, Dialect::Gemini);
            let _ = is_omissible(&path);
        }
    }
}
