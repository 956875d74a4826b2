//! Whether a request may be asked of two targets at once: only where nothing but an answer comes of it. A tool that the
//! provider runs itself may do something in the world, and would do it twice.

use llm::Dialect;
use llm::passthrough::Peek;
use serde_json::Value;

/// Members that bring tools of the provider's in other ways.
const OTHERS: [&str; 5] = ["mcp_servers", "plugins", "connectors", "search_parameters", "web_search_options"];

/// Whether no tool of a request is run by the provider: what the caller runs itself, it runs once, for the answer it gets.
/// What is not known is not repeated.
pub(super) fn is_harmless(dialect: Dialect, seen: &Peek, body: &[u8]) -> bool {
    if !seen.has_tools {
        return true;
    }
    let Ok(request) = serde_json::from_slice::<Value>(body) else { return false };
    let given = |name: &str| request.get(name).is_some_and(|value| !value.is_null());
    if OTHERS.iter().any(|name| given(name)) {
        return false;
    }
    let tools = match request.get("tools") {
        None | Some(Value::Null) => return given("functions"),
        Some(Value::Array(tools)) => tools,
        Some(_) => return false,
    };
    let kind = |tool: &Value| tool.get("type").map(|kind| kind.as_str().unwrap_or_default().to_owned());
    tools.iter().all(|tool| match dialect {
        Dialect::OpenAiChat | Dialect::OpenAiResponses => {
            kind(tool).is_some_and(|kind| matches!(kind.as_str(), "function" | "custom"))
        }
        Dialect::AnthropicMessages => kind(tool).is_none_or(|kind| kind == "custom"),
        Dialect::Gemini => tool.as_object().is_some_and(|tool| {
            tool.keys().all(|key| matches!(key.as_str(), "functionDeclarations" | "function_declarations"))
        }),
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn harmless(dialect: Dialect, body: &str) -> bool {
        let limits = llm::Limits::default();
        let seen = llm::passthrough::peek(dialect, body.as_bytes(), &limits).expect("a request");
        is_harmless(dialect, &seen, body.as_bytes())
    }

    #[test]
    fn tools_that_the_caller_runs_are_and_those_of_the_provider_are_not() {
        let chat = |more: &str| harmless(Dialect::OpenAiChat, &format!(r#"{{"model":"m","messages":[]{more}}}"#));
        assert!(chat("") && chat(r#","tools":[{"type":"function","function":{"name":"f"}}]"#));
        assert!(chat(r#","functions":[{"name":"f"}]"#));
        assert!(!chat(r#","web_search_options":{}"#));
        assert!(!chat(r#","plugins":[{"id":"web"}],"tools":[{"type":"function","function":{"name":"f"}}]"#));
        assert!(!chat(r#","tools":[{"type":"function","function":{"name":"f"}},{"type":"web_search"}]"#));
        let responses = |tool: &str| {
            harmless(Dialect::OpenAiResponses, &format!(r#"{{"model":"m","input":"x","tools":[{tool}]}}"#))
        };
        assert!(responses(r#"{"type":"function","name":"f"}"#));
        for tool in [r#"{"type":"mcp","server_url":"https://x"}"#, r#"{"type":"code_interpreter"}"#, r#"{"name":"f"}"#]
        {
            assert!(!responses(tool), "{tool}");
        }
        let messages = |more: &str| {
            harmless(
                Dialect::AnthropicMessages,
                &format!(
                    r#"{{"model":"m","max_tokens":1,"messages":[],"tools":[{{"name":"f","input_schema":{{}}}}{more}}}"#
                ),
            )
        };
        assert!(messages("]"));
        assert!(!messages(r#",{"type":"code_execution_20250825","name":"code_execution"}]"#));
        assert!(!messages(r#"],"mcp_servers":[{"url":"https://x"}]"#));
    }
}
