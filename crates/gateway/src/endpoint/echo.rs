//! The built-in model: answers with what it was asked, so that everything works with no provider at all.

use bytes::Bytes;
use http::HeaderMap;
use llm::Dialect;
use llm::passthrough::{Edits, Peek};

use super::attempts::Failed;
use super::service::Finished;
use crate::relay::{Answer, Content};
use crate::settle::Receipt;

/// Answer a request in `dialect`, with at most `most` tokens if it asks for no number of its own.
pub(super) fn answer(
    dialect: Dialect,
    (body, seen): (&Bytes, &Peek),
    most: Option<u64>,
    receipt: &mut Receipt,
) -> Result<Answer, Failed> {
    let now = u64::try_from(receipt.at().as_secs()).unwrap_or(0);
    let id = receipt.id();
    let edits = Edits { max_output_tokens: most.filter(|_| seen.max_output_tokens.is_none()), ..Edits::default() };
    let bounded =
        if edits.max_output_tokens.is_some() { Bytes::from(seen.splice(dialect, body, &edits)) } else { body.clone() };
    if seen.stream && dialect != Dialect::OpenAiEmbeddings {
        let (events, usage) = llm::echo::stream(dialect, &bounded, id.as_str(), now).map_err(Failed::Request)?;
        let events = events.into_iter().map(Bytes::from).collect();
        return Ok(Answer::events(HeaderMap::new(), Content::Made(events, Box::new(Finished(usage)))));
    }
    let answer = llm::echo::complete(dialect, &bounded, id.as_str(), now).map_err(Failed::Request)?;
    receipt.usage(answer.usage);
    Ok(Answer::json(answer.body))
}

/// Answer a request for completions, each with at most `most` tokens if it asks for no number of its own.
pub(super) fn completion(
    (body, seen): (&Bytes, &Peek),
    most: Option<u64>,
    receipt: &mut Receipt,
) -> Result<Answer, Failed> {
    let now = u64::try_from(receipt.at().as_secs()).unwrap_or(0);
    let id = receipt.id();
    if seen.stream {
        let made = llm::echo::completions::stream(body, most, (id.as_str(), now), seen.include_usage);
        let (events, usage) = made.map_err(Failed::Request)?;
        let events = events.into_iter().map(Bytes::from).collect();
        return Ok(Answer::events(HeaderMap::new(), Content::Made(events, Box::new(Finished(usage)))));
    }
    let answer = llm::echo::completions::complete(body, most, id.as_str(), now).map_err(Failed::Request)?;
    receipt.usage(answer.usage);
    Ok(Answer::json(answer.body))
}
