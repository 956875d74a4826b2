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
use http::StatusCode;
use http::request::Parts;

use crate::Reservation;
use crate::problem::Refusal;
use crate::relay::Answer;
use crate::snapshot::Snapshot;

/// A request whose sender is known and whose body has been read.
pub(crate) struct Asked<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) head: &'a Parts,
    pub(crate) body: Bytes,
}

/// An answer, and what was reserved for it.
pub(crate) type Answered = Result<(Answer, Option<Reservation>), Refusal>;

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
