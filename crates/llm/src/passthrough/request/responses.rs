//! What a request of OpenAI's Responses API brings beside its `tools`.

use super::Peek;
use crate::json::Node;

impl Peek {
    /// Tools that stand among the items of `input` (`additional_tools`, `tool_search_output`), and a stored `prompt`, of
    /// which nobody here knows what tools it has.
    pub(super) fn brought(&mut self, name: &str, value: &Node<'_>) {
        if name == "prompt" {
            self.has_tools = true;
            self.tool_names.push("prompt".to_owned());
            return;
        }
        let tools = value.items().iter().filter_map(|item| item.get("tools"));
        tools.flat_map(Node::items).for_each(|tool| self.named_tool(tool));
    }
}

#[cfg(test)]
mod tests {
    use crate::passthrough::{Edits, peek};
    use crate::{Dialect, Limits, RequestError};

    const RESPONSES: Dialect = Dialect::OpenAiResponses;

    #[test]
    fn bounds_are_set_in_their_place_and_nothing_else_changes() {
        let edits = Edits { model: Some("m"), include_usage: true, max_output_tokens: Some(9), ..Edits::default() };
        for (body, expected) in [
            (r#"{ "model" : "fast","input":"hi"}"#, r#"{"max_output_tokens":9, "model" : "m","input":"hi"}"#),
            (r#"{"max_output_tokens": 70,"model":"fast"}"#, r#"{"max_output_tokens": 9,"model":"m"}"#),
            (r#"{"max_output_tokens":null,"model":"fast"}"#, r#"{"max_output_tokens":9,"model":"m"}"#),
            (
                r#"{"model":"fast","stream":true,"stream_options":{"include_obfuscation":false}}"#,
                r#"{"max_output_tokens":9,"model":"m","stream":true,"stream_options":{"include_obfuscation":false}}"#,
            ),
        ] {
            let seen = peek(RESPONSES, body.as_bytes(), &Limits::REQUEST).unwrap();
            assert!(seen.include_usage);
            let spliced = String::from_utf8(seen.splice(RESPONSES, body.as_bytes(), &edits)).unwrap();
            assert_eq!(spliced, expected);
        }
    }

    #[test]
    fn a_7_tools_are_seen_wherever_a_request_hides_them() {
        for (body, names) in [
            (
                r#"{"model":"m","tools":[{"type":"function","name":"f"},{"type":"web_search"}]}"#,
                vec!["f", "web_search"],
            ),
            (
                r#"{"model":"m","tools":[{"type":"namespace","name":"crm","tools":[{"type":"function","name":"g"}]}]}"#,
                vec!["crm", "g"],
            ),
            (
                r#"{"model":"m","input":[{"type":"additional_tools","role":"developer","tools":[{"type":"custom","name":"c"}]}]}"#,
                vec!["c"],
            ),
            (r#"{"model":"m","input":[{"t\u006fols":[{"type":"mcp","server_label":"x"}]}]}"#, vec!["mcp"]),
            (r#"{"model":"m","prompt":{"id":"pmpt_1"}}"#, vec!["prompt"]),
        ] {
            let seen = peek(RESPONSES, body.as_bytes(), &Limits::REQUEST).unwrap();
            assert!(seen.has_tools, "{body}");
            assert_eq!(seen.tool_names, names, "{body}");
        }
        let seen = peek(RESPONSES, br#"{"model":"m","input":"the \"tools\""}"#, &Limits::REQUEST).unwrap();
        assert!(!seen.has_tools);
        let body = br#"{"model":"m","tools":[{"type":"image_generation","model":"gpt-image-1"}]}"#;
        assert_eq!(peek(RESPONSES, body, &Limits::REQUEST).unwrap().other_models, ["gpt-image-1"]);
    }

    #[test]
    fn a_request_without_a_model_or_with_a_wrong_bound_is_refused() {
        for body in [r#"{"input":"x"}"#, r#"{"model":"m","max_output_tokens":"9"}"#, r#"{"model":"m","Input":"x"}"#] {
            let error = peek(RESPONSES, body.as_bytes(), &Limits::REQUEST).unwrap_err();
            assert!(!matches!(error, RequestError::Json(_)), "{body}");
        }
    }
}
