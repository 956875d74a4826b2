//! The same dialect: what the provider sent is what the client gets, and the provider is sent what the client wrote.

use serde_json::Value;
use testkit::mock::{self, Cassette, Received};

use super::table::Table;
use super::world::{self, Spoken, World};
use crate::support::Answer;

/// How many bytes at once the mock sends, besides everything: odd places of lines, characters and events.
const ODD: usize = 41;

/// The recordings that do not come out as they went in, and why that is meant.
const KNOWN: &[&str] = &[
    // The provider's opinion of its key is the operator's affair, and its text may show part of the key.
    "anthropic messages 0c9616ad6086: 401 became 502 provider_key_refused",
    "anthropic messages 1771ac30d251: 401 became 502 provider_key_refused",
    "anthropic messages 75c5c7410b1b: 401 became 502 provider_key_refused",
    "anthropic messages 7ea8344cff16: 401 became 502 provider_key_refused",
    "anthropic messages adf269c38816: 401 became 502 provider_key_refused",
    "anthropic messages bc59e028b978: 401 became 502 provider_key_refused",
    "anthropic messages e9299f8c4dfe: 401 became 502 provider_key_refused",
    "anthropic messages f36517f3bfb2: 401 became 502 provider_key_refused",
    "azure embeddings d781360be2d6: 401 became 502 provider_key_refused",
    "deepseek chat.completions 81ecdf62a63d: 401 became 502 provider_key_refused",
    "mistral chat.completions 07700d48af11: 401 became 502 provider_key_refused",
    "ollama chat.completions 9e513dc9a030: 401 became 502 provider_key_refused",
    "openai chat.completions 1384ab290259: 401 became 502 provider_key_refused",
    "openai chat.completions b77fec43fda0: 401 became 502 provider_key_refused",
    "openrouter chat.completions d8ba5df1ad43: 401 became 502 provider_key_refused",
    "together chat.completions e6f4ce4cc6fc: 401 became 502 provider_key_refused",
    // A stream that calls itself JSON is called what it is.
    "openai chat.completions 098380a7126b: content type \"application/json\" became \"text/event-stream; charset=utf-8\"",
];

#[tokio::test]
async fn the_same_dialect_comes_out_byte_for_byte() {
    let Some((world, cassettes)) = World::start("the_same_dialect_comes_out_byte_for_byte").await else { return };
    let mut table = Table::new("Same dialect, byte for byte");
    for cassette in cassettes {
        let row = format!("{} {}", world::name(cassette), cassette.endpoint);
        let outcome = one(&world, cassette, &mut table).await;
        table.note(&row, &cassette.id, outcome);
    }
    table.finish(800, KNOWN);
    world.gateway.stop().await;
}

async fn one(world: &World, cassette: &Cassette, table: &mut Table) -> Result<(), String> {
    let spoken = Spoken::of(cassette).unwrap();
    let (sent, recorded) = world::request(cassette);
    let asked: Value = serde_json::from_slice(&sent).unwrap();
    let usage_asked = asked["stream_options"]["include_usage"] == true;
    for whole in [true, false] {
        let reply = mock::Answer::cassette(cassette);
        let reply = if whole { reply } else { reply.pieces(ODD) };
        let (answer, received) = world.ask_as_owner((spoken, &world::name(cassette)), &sent, &reply).await;
        let Some(received) = received else {
            return Err(format!("refused: {} {}", answer.status.as_u16(), answer.code()));
        };
        same_request(&received, &recorded, &asked)?;
        let streamed = asked["stream"] == true && cassette.status == 200 && spoken == Spoken::Chat && !usage_asked;
        let expected = if streamed { without_usage(&cassette.response_body) } else { cassette.response_body.clone() };
        if whole && expected != cassette.response_body {
            table.count("a usage chunk the client did not ask for was taken out of its stream");
        }
        same_answer(&answer, cassette, &expected)?;
    }
    Ok(())
}

/// The request reached the provider as its client wrote it, but for what the gateway has to set.
fn same_request(received: &Received, recorded: &[u8], asked: &Value) -> Result<(), String> {
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

fn same_answer(answer: &Answer, cassette: &Cassette, expected: &[u8]) -> Result<(), String> {
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
fn without_usage(stream: &[u8]) -> Vec<u8> {
    let text = String::from_utf8(stream.to_vec()).unwrap();
    let end = if text.contains("\r\n\r\n") { "\r\n\r\n" } else { "\n\n" };
    let usage_only = |event: &&str| {
        let data = event.lines().find_map(|line| line.strip_prefix("data:"));
        let chunk: Value = data.and_then(|data| serde_json::from_str(data).ok()).unwrap_or_default();
        chunk["choices"].as_array().is_some_and(Vec::is_empty) && chunk["usage"].is_object()
    };
    text.split_inclusive(end).filter(|event| !usage_only(event)).collect::<String>().into_bytes()
}
