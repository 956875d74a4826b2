//! Which members of another dialect's request may be left out.

use crate::RequestError;
use crate::json::{Limits, Node, node};
use crate::model::Extra;

/// Whether a member that a provider does not have may be left out: it asks for nothing, or is only a hint. If not, `why` it is
/// refused.
pub(crate) fn neutral(extra: &Extra, path: &str, why: &'static str) -> Result<(), RequestError> {
    let value = extra.value.as_str();
    let parsed = || node(value, &Limits::REQUEST);
    let fine = value == "null"
        || match extra.name.as_str() {
            "metadata" | "prompt_cache_key" | "prompt_cache_retention" | "prediction" | "usage" | "safety_identifier"
            // These are read into the canonical model where they came in.
            | "reasoning" | "thinking" | "enable_thinking" | "include_reasoning" | "output_format"
            // Anthropic's hints.
            | "cache_control" | "anthropic_version" | "betas" | "anthropic_beta" | "eager_input_streaming"
            | "input_examples" | "caller" | "detail" => true,
            "store" | "echo" | "clear_thinking" => value == "false",
            "service_tier" => matches!(value, r#""auto""# | r#""default""#),
            "verbosity" => value == r#""medium""#,
            "speed" => value == r#""standard""#,
            "modalities" => parsed().is_ok_and(|list| list.items().iter().all(|item| item.text().as_deref() == Some("text"))),
            "best_of" => value == "1",
            "repetition_penalty" => extra.value.as_f64() == Some(1.0),
            "min_p" => extra.value.as_f64() == Some(0.0),
            "logit_bias" | "functions" | "mcp_servers" => parsed().is_ok_and(|v| v.members().is_empty() && v.items().is_empty()),
            "citations" => parsed().is_ok_and(|v| v.get("enabled").and_then(Node::boolean) != Some(true)),
            "allowed_callers" => value.split_whitespace().collect::<String>() == r#"["direct"]"#,
            "output_config" => parsed().is_ok_and(|v| v.members().iter().all(|(name, _)| name == "effort" || name == "format")),
            _ => false,
        };
    if fine { Ok(()) } else { Err(RequestError::unsupported(format!("{path}{}", extra.name), why)) }
}

/// Whether a member of a message is what a provider put there itself, or a hint that is read elsewhere.
pub(crate) fn is_echo(extra: &Extra) -> bool {
    matches!(
        extra.name.as_str(),
        "annotations" | "provider_metadata" | "extra_content" | "index" | "padding" | "provider_content" | "prefix"
    )
}
