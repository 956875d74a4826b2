//! Cohere's chat API, v2, as a provider (docs.cohere.com/reference/chat and /reference/chat-stream).
//!
//! | OpenAI, Anthropic, Gemini | Cohere |
//! |---|---|
//! | `system`, `developer` messages | messages of `system` |
//! | text and images of the user | `text`, `image_url` parts |
//! | calls | `tool_calls`; reasoning that stands beside calls goes back as `tool_plan`, other reasoning is dropped |
//! | results | messages of `tool`; documents of plain text in them as `document`; pictures in them follow in a `user` message; a failed one begins `Error: ` |
//! | tools; all of them strict | `tools`; `strict_tools` |
//! | one named tool must be called | `tools` holds that one only, `tool_choice` is `REQUIRED` |
//! | JSON, with a schema or without | `response_format` of `json_object`, with `json_schema` |
//! | reasoning effort or budget | `thinking` with a `token_budget`; `disabled` for models that think of their own accord |
//! | `top_p`, `top_k`, `stop`, `seed`, penalties from 0 to 1, `logprobs` | `p`, `k`, `stop_sequences`, ... |
//! | `documents`, `citation_options`, `safety_mode`, `strict_tools`, `priority` of an OpenAI client | the same: they are Cohere's own |
//! | `user`, `metadata`, hints, neutral values | dropped: they do not change the answer |
//! | documents that are no plain text, audio, `n`, `top_logprobs`, `parallel_tool_calls: false`, penalties beyond 0 to 1, providers' own tools, a message's `name`, unknown members | refused by name |
//!
//! In answers `tool_plan` and `thinking` are reasoning; citations are told where their source has an address.

mod request;
mod response;
mod stream;

pub(crate) use request::request;
pub(crate) use response::response;
pub(crate) use stream::Stream;

use crate::ProviderError;
use crate::json::Node;
use crate::model::{Citation, Json, Stop, TokenLogprob};

/// Why an answer ended, in Cohere's words.
enum Finish {
    Stop(Stop),
    /// The answer is not whole.
    Failed(ProviderError),
}

/// `finish_reason`; what is unknown counts as the model's own end. `told`: what Cohere says of an error beside it.
fn finish(reason: &str, told: Option<&str>) -> Finish {
    Finish::Stop(match reason {
        "MAX_TOKENS" => Stop::MaxTokens,
        "STOP_SEQUENCE" => Stop::StopSequence(None),
        "TOOL_CALL" => Stop::ToolUse,
        "ERROR_LIMIT" => Stop::ContextWindow,
        "ERROR_TOXIC" => Stop::Refusal(None),
        "ERROR" | "TIMEOUT" | "USER_CANCEL" => {
            let usual = if reason == "TIMEOUT" { "The provider took too long." } else { "The provider failed." };
            let message = super::clean(told.unwrap_or(usual), super::MESSAGE);
            let code = Some(reason.to_owned());
            return Finish::Failed(ProviderError { code, message, ..ProviderError::default() });
        }
        _ => Stop::EndTurn,
    })
}

/// The sources of one of `citations` that have an address.
fn cited(citation: &Node<'_>) -> impl Iterator<Item = Citation> {
    let text = citation.text_of("text").map(std::borrow::Cow::into_owned);
    let sources = citation.get("sources").map(Node::items).unwrap_or_default();
    sources.iter().filter_map(move |source| {
        let inside = source.get("document").or_else(|| source.get("tool_output"));
        let is_address = |text: &str| text.starts_with("https://") || text.starts_with("http://");
        let url = inside.and_then(|inside| inside.text_of("url")).or_else(|| source.text_of("id"));
        Some(Citation {
            url: url.filter(|url| is_address(url))?.into_owned(),
            title: inside.and_then(|inside| inside.text_of("title")).map(std::borrow::Cow::into_owned),
            cited_text: text.clone(),
        })
    })
}

/// `logprobs`: one entry has the probabilities of one or more tokens and their text together. Where it is one token it is told.
fn logprobs(list: &[Node<'_>]) -> Vec<TokenLogprob> {
    let one = |node: &Node<'_>| {
        let [only] = node.get("logprobs").map(Node::items)? else { return None };
        only.number()?;
        Some(TokenLogprob {
            token: node.text_of("text").unwrap_or_default().into_owned(),
            logprob: Json::trusted(only.raw),
            top: Vec::new(),
        })
    };
    list.iter().filter_map(one).collect()
}
