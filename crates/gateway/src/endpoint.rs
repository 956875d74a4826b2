//! What each endpoint does between the caller's credential and the answer.

mod attempts;
pub(crate) mod bedrock;
mod cached;
pub(crate) mod count;
pub(crate) mod direct;
mod echo;
pub(crate) mod embed;
pub(crate) mod gemini;
pub(crate) mod inference;
pub(crate) mod models;
pub(crate) mod native;
pub(crate) mod openapi;
pub(crate) mod proxy;
pub(crate) mod realtime;
mod repeat;
pub(crate) mod service;
mod within;

use base::Problem;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::StatusCode;
use http::request::Parts;
use llm::Dialect;
use llm::embeddings::Client;

use self::gemini::Method;
use crate::Reservation;
use crate::edge::Endpoint;
use crate::problem::Refusal;
use crate::relay::Answer;
use crate::settle::Receipt;
use crate::snapshot::Snapshot;

/// A request whose sender is known and whose body has been read.
pub(crate) struct Asked<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) head: &'a Parts,
    pub(crate) body: Bytes,
}

/// An answer, and what was reserved for it.
pub(crate) type Answered = Result<(Answer, Option<Reservation>), Refusal>;

/// Do what the endpoint does.
pub(crate) fn answer<'a>(
    endpoint: &'a Endpoint,
    asked: Asked<'a>,
    receipt: &'a mut Receipt,
) -> BoxFuture<'a, Answered> {
    match endpoint {
        Endpoint::Chat => Box::pin(inference::answer(asked, (Dialect::OpenAiChat, None), receipt)),
        Endpoint::Responses => Box::pin(inference::answer(asked, (Dialect::OpenAiResponses, None), receipt)),
        Endpoint::StoredResponse(path) => Box::pin(native::stored(asked, path, receipt)),
        Endpoint::Embeddings => Box::pin(embed::answer(asked, Client::OpenAi, None, receipt)),
        Endpoint::Messages => Box::pin(inference::answer(asked, (Dialect::AnthropicMessages, None), receipt)),
        Endpoint::Gemini(path) => match path.method {
            Method::Generate => Box::pin(inference::answer(asked, (Dialect::Gemini, Some(path)), receipt)),
            Method::Embed => Box::pin(embed::answer(asked, Client::Gemini, Some(&path.model), receipt)),
            Method::BatchEmbed => Box::pin(embed::answer(asked, Client::GeminiBatch, Some(&path.model), receipt)),
            Method::CountTokens => Box::pin(count::answer(asked, Dialect::Gemini, Some(&path.model), receipt)),
        },
        Endpoint::CountTokens => Box::pin(count::answer(asked, Dialect::AnthropicMessages, None, receipt)),
        Endpoint::InputTokens => Box::pin(count::answer(asked, Dialect::OpenAiResponses, None, receipt)),
        Endpoint::Realtime => Box::pin(realtime::answer(asked, receipt)),
        Endpoint::Direct(direct) => Box::pin(direct::answer(asked, *direct, receipt)),
        Endpoint::Models => made(Ok(models::list(asked.snapshot, &asked.head.headers, receipt))),
        Endpoint::Model(id) => made(models::one(asked.snapshot, &asked.head.headers, id, receipt)),
        Endpoint::OpenApi => made(Ok(openapi::document(asked.snapshot, receipt))),
        Endpoint::Native(provider, rest) => Box::pin(native::answer(asked, provider, rest, receipt)),
        Endpoint::Service(service) => Box::pin(service::answer(asked, service, receipt)),
        Endpoint::Upstream(upstream, rest) => Box::pin(proxy::answer(asked, upstream, rest, receipt)),
    }
}

/// What takes no waiting.
fn made(answer: Result<Answer, Refusal>) -> BoxFuture<'static, Answered> {
    Box::pin(std::future::ready(answer.map(|answer| (answer, None))))
}

/// What a target is refused with whose provider has nothing for the request.
pub(crate) fn no_endpoint() -> llm::RequestError {
    llm::RequestError::Unsupported { param: "model".to_owned(), why: "its provider has no such endpoint" }
}

/// A request the llm crate does not take, as a problem of the caller's.
pub(crate) fn request_problem(error: &llm::RequestError) -> Problem {
    let problem = Problem::client(StatusCode::BAD_REQUEST, error.reason(), error.to_string());
    match error.param() {
        Some(param) => problem.param(param),
        None => problem,
    }
}
