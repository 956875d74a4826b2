//! What a call of a provider's own API asks to have done, as far as that costs. What nobody here knows is not taken to be free.

use http::Method;
use llm::Dialect;
use llm::passthrough::Peek;

use super::upload;
use crate::budget::{Load, Tokens};
use crate::endpoint::direct::{Direct, load};
use crate::endpoint::{Asked, bedrock};
use crate::snapshot::Provider;

/// Calls that only keep, count or take apart, by the end of their path: none of these providers charges for them.
const FREE: [&str; 8] = [
    "/files",
    "/uploads",
    "/count_tokens",
    "/responses/input_tokens",
    ":countTokens",
    "/tokenize",
    "/detokenize",
    "/api/show",
];

/// What a call asks for; `seen` of one in a dialect that is understood.
pub(super) fn of(
    provider: &Provider,
    (method, rest): (&Method, &str),
    seen: Option<&(Dialect, Peek)>,
    asked: &Asked<'_>,
) -> Load {
    let (body, below) = (&asked.body, provider.below(rest));
    let looks = [Method::GET, Method::HEAD, Method::OPTIONS, Method::DELETE].contains(method);
    if looks
        || upload::is_upload(provider, rest)
        || FREE.iter().any(|end| below.ends_with(end))
        || bedrock::only_counts(provider, below)
    {
        return Load::Free;
    }
    // Parts of a file, and answers that are stopped.
    if (below.starts_with("/uploads/") && method == Method::POST) || below.ends_with("/cancel") {
        return Load::Free;
    }
    match seen {
        Some((Dialect::OpenAiEmbeddings | Dialect::CohereEmbed, _)) => return Load::Tokens(Tokens::read(body)),
        Some((_, seen)) if embeds(below) => {
            return Load::Tokens(Tokens { answers: seen.answers, ..Tokens::read(body) });
        }
        Some((_, seen)) => return Load::Tokens(Tokens::seen(seen)),
        None => {}
    }
    if embeds(below) {
        return Load::Tokens(Tokens::read(body));
    }
    match Direct::of(&format!("/v1{below}")) {
        Some(Direct::Completions) => load::completions(body),
        Some(direct) => load::of(direct, (&asked.head.headers, body)),
        None => Load::Opaque,
    }
}

/// Calls that are answered with vectors or numbers: nothing is generated.
fn embeds(below: &str) -> bool {
    [":embedContent", ":batchEmbedContents", "/embeddings", "/api/embed", "/rerank", "/embed"]
        .iter()
        .any(|end| below.ends_with(end))
}
