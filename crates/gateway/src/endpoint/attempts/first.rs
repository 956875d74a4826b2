//! Holding back the beginning of a stream until it says something: as long as nothing has gone to the caller, another target
//! can answer instead.

use std::collections::VecDeque;
use std::time::Duration;

use base::Problem;
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use llm::passthrough::Said;
use llm::{SseDecoder, Usage};
use net::UpstreamBody;
use serde_json::Value;
use tokio::time::Instant;

use super::Failed;
use crate::relay::{Answer, Before, Content, Kind, Pipe, State};
use crate::settle::Outcome;
use crate::upstream::UpstreamError;

/// No stream is held back for longer where nobody else is asked: its caller waits for a sign of life.
pub(super) const LONGEST: Duration = Duration::from_secs(5);
/// No more than this is held back.
const MOST: usize = 64 * 1024;

/// What an answer begins with: read until it says something, for as long as may be. An error in place of an answer is one.
pub(super) async fn begun(answer: Answer, longest: Duration) -> Result<Answer, Failed> {
    let Answer { status, headers, content } = answer;
    let content = match content {
        Content::Stream(ready, body, pipe) if pipe.kind() == Kind::Events => {
            Box::pin(stream((ready, body), pipe, longest)).await?
        }
        Content::Whole(bytes, Outcome::Ok) if is_error(&bytes) => return Err(UpstreamError::Begun.into()),
        other => other,
    };
    Ok(Answer { status, headers, content })
}

/// Some gateways answer 200 with an error for a body.
fn is_error(body: &[u8]) -> bool {
    const ANSWERS: [&str; 9] =
        ["choices", "content", "candidates", "output", "data", "embeddings", "message", "results", "text"];
    // Most answers are told by one look.
    let named = memchr::memmem::find(body.get(..body.len().min(512)).unwrap_or_default(), b"\"error\"").is_some();
    let parsed = || serde_json::from_slice::<Value>(body).ok();
    named
        && parsed().is_some_and(|answer| {
            answer.get("error").is_some_and(|error| error.is_object() || error.is_string())
                && !ANSWERS.iter().any(|name| answer.get(name).is_some_and(|value| !value.is_null()))
        })
}

async fn stream(
    (mut ready, mut body): (VecDeque<Bytes>, UpstreamBody),
    mut pipe: Box<dyn Pipe>,
    longest: Duration,
) -> Result<Content, Failed> {
    let until = Instant::now() + longest;
    let mut held = BytesMut::new();
    let mut heard = Heard::default();
    let mut over = false;
    while !heard.anything && !over && held.len() < MOST {
        let piece = match ready.pop_front() {
            Some(piece) => Some(piece),
            None => match tokio::time::timeout_at(until, body.frame()).await {
                Err(_) => break,
                Ok(None) => None,
                Ok(Some(frame)) => Some(frame.map_err(UpstreamError::from)?.into_data().unwrap_or_default()),
            },
        };
        let out = match &piece {
            Some(piece) => pipe.feed(piece),
            None => pipe.finish(true),
        };
        over = piece.is_none();
        heard.listen(&out);
        if let Some(reason) = pipe.failed().filter(|_| !heard.anything) {
            tracing::debug!(reason, "a stream failed before it said anything");
            return Err(UpstreamError::Begun.into());
        }
        if let Some(before) = pipe.before()
            && let Err(problem) = before.await
        {
            // What cannot be noted is not told, and nobody else's to answer: it may have been made.
            held.extend_from_slice(&pipe.interrupt(&problem));
            over = true;
            break;
        }
        held.extend_from_slice(&out);
    }
    // An empty piece goes first, for which the pipe gives what was held.
    ready.push_front(Bytes::new());
    Ok(Content::Stream(ready, body, Box::new(Begun { pipe, held: held.freeze(), over })))
}

/// Whether a stream has said anything yet.
#[derive(Default)]
struct Heard {
    decoder: SseDecoder,
    anything: bool,
}

impl Heard {
    fn listen(&mut self, out: &Bytes) {
        let mut says = false;
        let read = self.decoder.feed(out, |event, _| says |= !event.comment && is_said(&event.data));
        // What is no event stream to us is content.
        self.anything |= says || read.is_err();
    }
}

/// Whether an event says something: not that an answer begins, that it goes on, or that there will be none.
fn is_said(data: &str) -> bool {
    const FILLED: [&str; 8] =
        ["content", "tool_calls", "function_call", "reasoning", "reasoning_content", "refusal", "audio", "annotations"];
    let Ok(event) = serde_json::from_str::<Value>(data) else { return true };
    let kind = event.get("type").and_then(Value::as_str);
    if kind.is_some() {
        const NOTHING: [&str; 8] = [
            "message_start",
            "ping",
            "error",
            "response.created",
            "response.in_progress",
            "response.queued",
            "response.failed",
            "response.error",
        ];
        return !kind.is_some_and(|kind| NOTHING.contains(&kind));
    }
    if event.get("error").is_some_and(|error| !error.is_null()) {
        return false;
    }
    let Some(choices) = event.get("choices").and_then(Value::as_array) else { return true };
    choices.iter().any(|choice| {
        let filled = |value: &Value| match value {
            Value::Null => false,
            Value::String(text) => !text.is_empty(),
            Value::Array(items) => !items.is_empty(),
            _ => true,
        };
        let delta = choice.get("delta");
        choice.get("finish_reason").is_some_and(filled)
            || choice.get("text").is_some_and(filled)
            || FILLED.iter().any(|name| delta.and_then(|delta| delta.get(name)).is_some_and(filled))
    })
}

/// A pipe whose first output has been made already.
struct Begun {
    pipe: Box<dyn Pipe>,
    held: Bytes,
    /// The upstream body has ended, and the pipe has been told.
    over: bool,
}

impl Begun {
    fn after_held(&mut self, rest: Bytes) -> Bytes {
        if self.held.is_empty() {
            return rest;
        }
        let held = std::mem::take(&mut self.held);
        if rest.is_empty() { held } else { Bytes::from([held, rest].concat()) }
    }
}

impl Pipe for Begun {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        let rest = if piece.is_empty() { Bytes::new() } else { self.pipe.feed(piece) };
        self.after_held(rest)
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        let rest = if self.over { Bytes::new() } else { self.pipe.finish(clean) };
        self.over = true;
        self.after_held(rest)
    }

    fn interrupt(&mut self, problem: &Problem) -> Bytes {
        let rest = if self.over { Bytes::new() } else { self.pipe.interrupt(problem) };
        self.over = true;
        self.after_held(rest)
    }

    fn before(&mut self) -> Option<Before> {
        self.pipe.before()
    }

    fn is_well(&self) -> bool {
        self.pipe.is_well()
    }

    fn state(&self) -> State {
        self.pipe.state()
    }

    fn failed(&self) -> Option<&'static str> {
        self.pipe.failed()
    }

    fn usage(&self) -> Usage {
        self.pipe.usage()
    }

    fn said(&self) -> Said {
        self.pipe.said()
    }

    fn kind(&self) -> Kind {
        self.pipe.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_an_answer_says_nothing_yet() {
        for data in [
            r#"{"type":"message_start","message":{"content":[]}}"#,
            r#"{"type":"ping"}"#,
            r#"{"type":"response.created","response":{}}"#,
            r#"{"choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
            r#"{"choices":[],"prompt_filter_results":[]}"#,
            r#"{"type":"error","error":{"type":"overloaded_error"}}"#,
            r#"{"error":{"message":"no"},"choices":[{"delta":{"content":""},"finish_reason":"error"}]}"#,
            r#"{"type":"response.failed","response":{}}"#,
        ] {
            assert!(!is_said(data), "{data}");
        }
        for data in [
            r#"{"type":"content_block_start","index":0}"#,
            r#"{"type":"response.output_item.added"}"#,
            r#"{"choices":[{"delta":{"content":"a"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{}]}}]}"#,
            r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#,
            r#"{"choices":[{"text":"a"}]}"#,
            r#"{"candidates":[]}"#,
            "[DONE]",
        ] {
            assert!(is_said(data), "{data}");
        }
    }

    #[test]
    fn an_error_in_place_of_an_answer_is_known() {
        assert!(is_error(br#"{"error":{"message":"overloaded","code":502},"user_id":"u"}"#));
        assert!(is_error(br#"{"id":"x","error":"no"}"#));
        for answer in [
            r#"{"choices":[{"message":{"content":"\"error\""}}]}"#,
            r#"{"id":"resp","error":null,"output":[]}"#,
            r#"{"id":"resp","error":{"code":"x"},"output":[],"status":"failed"}"#,
            r#"{"error":null}"#,
            "[]",
        ] {
            assert!(!is_error(answer.as_bytes()), "{answer}");
        }
    }
}
