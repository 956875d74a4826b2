//! Anthropic's Messages API, version 2023-06-01, as a provider (docs.anthropic.com/en/api/messages).
//!
//! # From an OpenAI client
//!
//! | OpenAI | Anthropic |
//! |---|---|
//! | `messages` of role `system`, `developer` | `system`, in their order, wherever they stood |
//! | a call's `id` | the same, with characters Anthropic refuses as `_CODE_` |
//! | `tool` messages in a row and the `user` message after them | one `user` message, results first |
//! | `image_url`, `file` (PDF, plain text), `document_url` | `image`, `document` blocks |
//! | `max_completion_tokens`, `max_tokens`, none | `max_tokens`; a default, since it is required |
//! | `stop`, `user` or `safety_identifier` | `stop_sequences`, `metadata.user_id` |
//! | `tool_choice`, `parallel_tool_calls: false` | `tool_choice`, `disable_parallel_tool_use` |
//! | `response_format: json_schema` | `output_config.format`; the schema's name and description are labels, dropped |
//! | `response_format: json_object` | a line added to `system`: there is no schema to hold the model to |
//! | `reasoning_effort`, `reasoning`, `thinking`, `enable_thinking` | `thinking` adaptive with `output_config.effort` (Claude 4.6 and later), else a budget |
//! | `reasoning_details` with a signature | `thinking`, `redacted_thinking` blocks; reasoning without one is dropped: Anthropic refuses it |
//! | `prefix: true` on a last `assistant` message | nothing: a last assistant message is a prefix |
//! | `cache_control` | `cache_control` |
//! | `metadata`, `store: false`, `service_tier: auto/default`, `prompt_cache_key`, `prediction`, image `detail`, neutral values (`n: 1`, `logprobs: false`, zero penalties) | dropped: they do not change the answer |
//! | everything else (`n > 1`, `logprobs`, `seed`, penalties, `logit_bias`, audio, `functions`, a message's `name`, unknown members) | refused by name |

mod request;
mod response;
mod stream;

pub(crate) use request::{Thinking, input, request, schema, thinking};
pub(crate) use response::{arguments, as_written, response};
pub(crate) use stream::Stream;

use crate::json::Node;
use crate::model::{Citation, Stop};

/// The member an argument text that is no JSON object is put under, as Anthropic's guide to fine-grained tool
/// streaming has it, since `input` must be an object.
pub(crate) const INVALID_JSON: &str = "INVALID_JSON";

/// `stop_reason`, with what stands beside it.
fn stop(delta: &Node<'_>) -> Option<Stop> {
    let owned = |text: std::borrow::Cow<'_, str>| text.into_owned();
    Some(match delta.text_of("stop_reason")?.as_ref() {
        "max_tokens" => Stop::MaxTokens,
        "stop_sequence" => Stop::StopSequence(delta.text_of("stop_sequence").map(owned)),
        "tool_use" => Stop::ToolUse,
        "refusal" => {
            let details = delta.get("stop_details");
            Stop::Refusal(details.and_then(|details| details.text_of("explanation")).map(owned))
        }
        "model_context_window_exceeded" => Stop::ContextWindow,
        "pause_turn" => Stop::Pause,
        _ => Stop::EndTurn,
    })
}

/// A citation with a URL; those into documents of the request have none that another dialect could name.
fn citation(node: &Node<'_>) -> Option<Citation> {
    Some(Citation {
        url: node.text_of("url")?.into_owned(),
        title: node.text_of("title").map(std::borrow::Cow::into_owned),
        cited_text: node.text_of("cited_text").map(std::borrow::Cow::into_owned),
    })
}
