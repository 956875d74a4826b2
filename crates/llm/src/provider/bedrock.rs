//! Amazon Bedrock's Converse and `ConverseStream` as a provider
//! (<https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html>).
//! The model stands in the path. One API before models of many makers: what only some of them take goes by [`Family`].
//!
//! | OpenAI, Anthropic, Gemini | Converse |
//! |---|---|
//! | `system`, `developer` messages, wherever they stood | `system` |
//! | messages of one role in a row | one message: roles must alternate |
//! | images, documents, audio | `image`, `document`, `audio` with their `bytes`; a document's name in the characters that are allowed, none twice |
//! | calls, results | `toolUse`, `toolResult` with `status: error` where it failed; an id in the characters and the length that are allowed |
//! | calls in the conversation, but no tools | `toolConfig` with their names, since it must be there |
//! | tools, their choice | `toolConfig`; `none` has no word: for Claude it goes into `additionalModelRequestFields`, for others the instructions say so |
//! | `parallel_tool_calls: false` | Claude: `additionalModelRequestFields.tool_choice.disable_parallel_tool_use`; else refused |
//! | signed reasoning | `reasoningContent` for Claude; all other reasoning is dropped |
//! | `cache_control` | a `cachePoint` after the part |
//! | JSON with a schema | `outputConfig.textFormat` for models that know it; for others the instructions say so |
//! | JSON without a schema | the instructions say so |
//! | reasoning effort or budget | in `additionalModelRequestFields`: Claude `thinking` and `output_config.effort`, Nova 2 `reasoningConfig`, gpt-oss `reasoning_effort`; else refused |
//! | `top_k` | in `additionalModelRequestFields`: Claude `top_k`, Nova `inferenceConfig.topK`; else refused |
//! | `service_tier: flex/priority` | `serviceTier` |
//! | which stop text was met | asked for with `additionalModelResponseFieldPaths`, of Claude |
//! | `user`, `metadata`, cache keys, neutral values | dropped: they do not change the answer |
//! | addresses, stored files, `n`, `seed`, penalties, `logprobs`, providers' own tools, guardrails, unknown members | refused by name |

mod family;
mod media;
mod request;
mod response;
mod stream;
mod tools;

pub(crate) use request::request;
pub(crate) use response::response;
pub(crate) use stream::{Stream, failure, named};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ProviderError;
use crate::json::Node;
use crate::model::{Citation, Stop};

/// Before sealed reasoning that is not Anthropic's text but bytes, which stay in base64.
const SEALED: &str = "bedrock:";

/// Why an answer ended.
enum Finish {
    Stop(Stop),
    /// What the model said cannot be read.
    Failed(ProviderError),
}

/// `stopReason`, and the stop text if that was asked for.
fn finish(node: &Node<'_>) -> Option<Finish> {
    let reason = node.text_of("stopReason")?;
    let failed = |message: &str| {
        let (code, message) = (Some(reason.to_string()), message.to_owned());
        Finish::Failed(ProviderError { code, message, ..ProviderError::default() })
    };
    Some(match reason.as_ref() {
        "max_tokens" => Finish::Stop(Stop::MaxTokens),
        "stop_sequence" => {
            let fields = node.get("additionalModelResponseFields");
            let met = fields.and_then(|fields| fields.text_of("stop_sequence"));
            Finish::Stop(Stop::StopSequence(met.map(std::borrow::Cow::into_owned)))
        }
        "tool_use" => Finish::Stop(Stop::ToolUse),
        "guardrail_intervened" | "content_filtered" => Finish::Stop(Stop::Refusal(None)),
        "model_context_window_exceeded" => Finish::Stop(Stop::ContextWindow),
        "malformed_tool_use" => failed("The model's call cannot be read."),
        "malformed_model_output" => failed("The model's answer cannot be read."),
        _ => Finish::Stop(Stop::EndTurn),
    })
}

/// A citation of a page; those into documents of the request have no address that another dialect could name.
fn citation(node: &Node<'_>) -> Option<Citation> {
    let cited = node.get("sourceContent").map(Node::items).unwrap_or_default();
    let cited: String = cited.iter().filter_map(|piece| piece.text_of("text")).collect();
    Some(Citation {
        url: node.get("location")?.get("web")?.text_of("url")?.into_owned(),
        title: node.text_of("title").map(std::borrow::Cow::into_owned),
        cited_text: (!cited.is_empty()).then_some(cited),
    })
}

/// `redactedContent`, a blob: inside is what Anthropic itself calls `data`, so that it can go to any of its places.
fn unsealed(blob: &str) -> String {
    let text = STANDARD.decode(blob).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.filter(|text| !text.starts_with(SEALED)).unwrap_or_else(|| format!("{SEALED}{blob}"))
}

/// The blob that [`unsealed`] read; `None` for what another provider sealed.
fn sealed(data: &str) -> Option<String> {
    match data.strip_prefix(SEALED) {
        Some(blob) => Some(blob.to_owned()),
        // Anthropic's is base64; others bear their maker's name before a colon.
        None => (!data.contains(':')).then(|| STANDARD.encode(data)),
    }
}
