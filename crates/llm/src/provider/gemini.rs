//! Google's Gemini API, v1beta, as a provider (ai.google.dev/api/generate-content).
//!
//! | OpenAI, Anthropic | Gemini |
//! |---|---|
//! | `system`, `developer` messages, wherever they stood | `systemInstruction` |
//! | `assistant`, `user` messages | `contents` of role `model`, `user` |
//! | images, documents, audio | `inlineData`; by URL `fileData`; plain text as text under its title |
//! | calls, results | `functionCall`, `functionResponse` with the name of its call; a result that is a JSON object as it is, another as `result`, a failed one as `error` |
//! | pictures and documents in a result | `functionResponse.parts` (Gemini 3 and later), else beside it |
//! | tools, their choice | `functionDeclarations` with `parametersJsonSchema`, `toolConfig.functionCallingConfig` |
//! | JSON, with a schema or without | `responseMimeType`, `responseJsonSchema` |
//! | reasoning effort or budget | `thinkingConfig`: a level for Gemini 3 and later, else a budget; thoughts are included |
//! | `n`, `seed`, penalties, `logprobs`, `top_logprobs`, `top_k`, stop texts | `candidateCount`, `seed`, ..., in `generationConfig` |
//! | Google's own signatures, sent back by the client | `thoughtSignature` on the part they came with; anybody else's are dropped with their reasoning |
//! | `user`, `metadata`, cache hints, a tool's `strict`, neutral values | dropped: they do not change the answer |
//! | `parallel_tool_calls: false`, providers' own tools, stored files, a message's `name`, unknown members | refused by name |

mod arguments;
mod request;
mod response;
mod stream;

pub(crate) use request::request;
pub(crate) use response::response;
pub(crate) use stream::Stream;

use crate::json::{Kind, Node};
use crate::model::{Citation, Json, Stop, TokenLogprob};
use crate::{ProviderError, ResponseError};

/// Why a candidate ended.
enum Finish {
    Stop(Stop),
    /// The model did not manage a call; nothing of the answer is of use.
    Failed(ProviderError),
}

/// `finishReason`, as a name or as the number some clients ask for.
fn finish(candidate: &Node<'_>) -> Option<Finish> {
    let reason = candidate.get("finishReason")?;
    let name = match reason.kind {
        Kind::Number => reason.whole().and_then(|number| NUMBERS.get(usize::try_from(number).ok()?).copied()),
        _ => None,
    };
    let text = reason.text();
    let name = name.or(text.as_deref())?;
    let message = || candidate.text_of("finishMessage").map(std::borrow::Cow::into_owned);
    Some(match name {
        "" | "FINISH_REASON_UNSPECIFIED" => return None,
        "STOP" | "OTHER" => Finish::Stop(Stop::EndTurn),
        "MAX_TOKENS" => Finish::Stop(Stop::MaxTokens),
        "MALFORMED_FUNCTION_CALL" | "UNEXPECTED_TOOL_CALL" | "TOO_MANY_TOOL_CALLS" | "MALFORMED_RESPONSE" => {
            let told = message().unwrap_or_else(|| "The model's call cannot be read.".to_owned());
            Finish::Failed(ProviderError { code: Some(name.to_owned()), message: told, ..ProviderError::default() })
        }
        // SAFETY, RECITATION, LANGUAGE, BLOCKLIST, PROHIBITED_CONTENT, SPII, IMAGE_SAFETY and what may follow.
        filtered => Finish::Stop(Stop::Refusal(Some(
            message().unwrap_or_else(|| format!("The answer was stopped: {filtered}.")),
        ))),
    })
}

/// Whether a candidate says why it ended.
pub(crate) fn has_ended(candidate: &Node<'_>) -> bool {
    finish(candidate).is_some()
}

/// `FinishReason` by its numbers.
const NUMBERS: [&str; 11] = [
    "FINISH_REASON_UNSPECIFIED",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "MODEL_ARMOR",
];

/// Why the prompt was refused, where it was.
fn blocked(root: &Node<'_>) -> Option<Stop> {
    let feedback = root.get("promptFeedback")?;
    let reason = feedback.get("blockReason")?;
    let message = feedback.text_of("blockReasonMessage").map(std::borrow::Cow::into_owned);
    let name = reason.text().unwrap_or(std::borrow::Cow::Borrowed(reason.raw));
    Some(Stop::Refusal(Some(message.unwrap_or_else(|| format!("The prompt was blocked: {name}.")))))
}

/// What a candidate leans on: pages found, and works recited.
fn citations(candidate: &Node<'_>) -> Vec<Citation> {
    let found = candidate.get("groundingMetadata").and_then(|grounding| grounding.get("groundingChunks"));
    let pages = found.map(Node::items).unwrap_or_default().iter().filter_map(|chunk| {
        let page = chunk.get("web").or_else(|| chunk.get("retrievedContext"))?;
        cited(page)
    });
    let recited = candidate.get("citationMetadata");
    let recited = recited.and_then(|of| of.get("citationSources").or_else(|| of.get("citations")));
    pages.chain(recited.map(Node::items).unwrap_or_default().iter().filter_map(cited)).collect()
}

fn cited(node: &Node<'_>) -> Option<Citation> {
    Some(Citation {
        url: node.text_of("uri")?.into_owned(),
        title: node.text_of("title").map(std::borrow::Cow::into_owned),
        cited_text: None,
    })
}

/// `logprobsResult`.
fn logprobs(candidate: &Node<'_>) -> Vec<TokenLogprob> {
    let Some(result) = candidate.get("logprobsResult") else { return Vec::new() };
    let one = |node: &Node<'_>| {
        let probability = node.get("logProbability").filter(|number| number.number().is_some());
        let token = node.text_of("token").unwrap_or_default().into_owned();
        Some((token, Json::trusted(probability.map_or("0", |number| number.raw))))
    };
    let top = result.get("topCandidates").map(Node::items).unwrap_or_default();
    let chosen = result.get("chosenCandidates").map(Node::items).unwrap_or_default();
    let tokens = chosen.iter().enumerate().filter_map(|(i, node)| {
        let (token, logprob) = one(node)?;
        let beside = top.get(i).and_then(|top| top.get("candidates")).map(Node::items).unwrap_or_default();
        Some(TokenLogprob { token, logprob, top: beside.iter().filter_map(one).collect() })
    });
    tokens.collect()
}

/// The id of a call Google gave none: unique beyond this answer, since histories hold many.
fn made_up(response: Option<&str>, number: usize) -> String {
    format!("call_{}_{number}", response.unwrap_or("0"))
}

impl From<ProviderError> for ResponseError {
    fn from(error: ProviderError) -> Self {
        Self::Failed(error)
    }
}
