//! Whether what went in came out: the request at the provider, the answer at the client.

use serde_json::Value;
use testkit::mock::{Cassette, Received};

use crate::support::Answer;

/// The request reached the provider as its client wrote it, but for what the gateway has to set.
pub(super) fn same_request(received: &Received, recorded: &[u8], asked: &Value) -> Result<(), String> {
    if received.body == recorded {
        return Ok(());
    }
    let mut expected: Value = serde_json::from_slice(recorded).unwrap();
    if asked["stream"] == true {
        expected["stream_options"]["include_usage"] = true.into();
    }
    let parsed = received.json();
    if parsed != expected {
        return Err(format!("another request: {parsed}"));
    }
    // One place differs, so nothing else was written anew.
    let same = |a: &mut dyn Iterator<Item = &u8>, b: &mut dyn Iterator<Item = &u8>| {
        a.zip(b).take_while(|(a, b)| a == b).count()
    };
    let front = same(&mut received.body.iter(), &mut recorded.iter());
    let back = same(&mut received.body.iter().rev(), &mut recorded.iter().rev());
    if front + back < recorded.len().saturating_sub("false".len()) {
        return Err(format!("rewritten: {} and {} of {} bytes kept", front, back, recorded.len()));
    }
    Ok(())
}

pub(super) fn same_answer(answer: &Answer, cassette: &Cassette, expected: &[u8]) -> Result<(), String> {
    let status = answer.status.as_u16();
    if status != cassette.status {
        return Err(format!("{} became {status} {}", cassette.status, answer.code()));
    }
    if answer.body != expected {
        let same = answer.body.iter().zip(expected).take_while(|(a, b)| a == b).count();
        return Err(format!("another body from byte {same} of {}", expected.len()));
    }
    let kind = answer.header("content-type").unwrap_or_default();
    if kind != cassette.content_type {
        return Err(format!("content type {:?} became {kind:?}", cassette.content_type));
    }
    Ok(())
}

/// The stream without the events that tell usage and nothing else.
pub(super) fn without_usage(stream: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(stream.to_vec()).unwrap();
    let end = if text.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
    let usage_only = |event: &&str| {
        let data = event.lines().find_map(|line| line.strip_prefix("data:"));
        let chunk: Value = data.and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        chunk["choices"].as_array().is_some_and(Vec::is_empty) && chunk["usage"].is_object()
    };
    text.split_inclusive(end).filter(|event| !usage_only(event)).collect::<String>().into_bytes()
}
