//! What requests are counted to have, against what their providers say they had: every recording of a model whose vocabulary is public.
#![allow(clippy::print_stderr, clippy::indexing_slicing, clippy::unwrap_used)]

use std::path::Path;

use llm::bound::{Brought, counted};
use llm::passthrough::peek;
use llm::tokens::Vocabulary;
use llm::{Dialect, Limits};
use serde_json::Value;

/// A request, and the tokens that its provider read.
struct Read {
    name: String,
    request: Value,
    vocabulary: Vocabulary,
    told: u64,
}

/// The usage of an answer, or of the last event that has one.
fn told(answer: &Value) -> Option<u64> {
    let input = |value: &Value| {
        let usage = value.get("usage").or_else(|| value.get("response")?.get("usage"))?;
        ["prompt_tokens", "input_tokens"].iter().find_map(|name| usage.get(name)?.as_u64())
    };
    if let Some(body) = answer.get("json") {
        return input(body);
    }
    let events = answer["text"].as_str()?.lines().filter_map(|line| line.strip_prefix("data: "));
    events.filter_map(|event| input(&serde_json::from_str(event).ok()?)).next_back()
}

fn recordings(data: &Path) -> Vec<Read> {
    let mut found = Vec::new();
    for provider in ["openai", "azure", "groq", "together", "cerebras", "openrouter"] {
        for file in std::fs::read_dir(data.join("cassettes").join(provider)).into_iter().flatten().flatten() {
            let Ok(recording) = serde_json::from_slice::<Value>(&std::fs::read(file.path()).unwrap()) else { continue };
            let (Some(request), Some(told)) =
                (recording["request_body"].get("json"), told(&recording["response_body"]))
            else {
                continue;
            };
            let model = request["model"].as_str().unwrap_or_default();
            let Some(vocabulary) = Vocabulary::of(provider, model) else { continue };
            let name = format!("{provider}/{}", recording["id"].as_str().unwrap_or_default());
            found.push(Read { name, request: request.clone(), vocabulary, told });
        }
    }
    found
}

#[test]
fn what_a_request_brings_is_the_same_seen_along_with_the_rest_or_by_itself() {
    let Some(data) = vectors::data() else { return vectors::skipped("tokens: what requests bring") };
    let limits = Limits { nodes: usize::MAX, ..Limits::REQUEST };
    let mut compared = 0;
    for (provider, dialect) in [
        ("openai", Dialect::OpenAiChat),
        ("anthropic", Dialect::AnthropicMessages),
        ("gemini", Dialect::Gemini),
        ("bedrock", Dialect::BedrockConverse),
        ("ollama", Dialect::OllamaChat),
        ("openrouter", Dialect::OpenAiChat),
    ] {
        for file in std::fs::read_dir(data.join("cassettes").join(provider)).into_iter().flatten().flatten() {
            let Ok(recording) = serde_json::from_slice::<Value>(&std::fs::read(file.path()).unwrap()) else { continue };
            let Some(request) = recording["request_body"].get("json") else { continue };
            let body = request.to_string();
            let Ok(seen) = peek(dialect, body.as_bytes(), &limits) else { continue };
            assert_eq!(Some(seen.brought), Brought::of(body.as_bytes()), "{}", file.path().display());
            compared += 1;
        }
    }
    assert!(compared > 300, "{compared}");
}

#[test]
fn no_request_is_counted_to_have_less_than_its_provider_read_and_long_ones_not_much_more() {
    let Some(data) = vectors::data() else { return vectors::skipped("tokens: recordings") };
    let recordings = recordings(data);
    assert!(recordings.len() > 150, "{}", recordings.len());
    let (mut compared, mut sums, mut long) = (0, [0_u64; 3], [0_u64; 3]);
    for read in &recordings {
        let body = read.request.to_string();
        let brought = Brought::of(body.as_bytes()).unwrap();
        let texts = counted(body.as_bytes(), read.vocabulary).unwrap();
        let Some(most) = brought.tokens_as_counted(texts, read.request["model"].as_str().unwrap(), None) else {
            continue;
        };
        let bytes = brought.tokens(read.request["model"].as_str().unwrap(), None).unwrap();
        assert!(most >= read.told, "{}: counted {most}, was {}", read.name, read.told);
        assert!(most <= bytes, "{}", read.name);
        compared += 1;
        // Pictures and sound have bounds of their own.
        if brought.images == 0 && brought.audio_bytes == 0 {
            for sums in [&mut sums, &mut long].into_iter().take(if read.told > 1000 { 2 } else { 1 }) {
                sums[0] += read.told;
                sums[1] += most;
                sums[2] += bytes;
            }
        }
    }
    eprintln!(
        "{compared} of {} recordings compared; texts: read {}, counted at most {}, by bytes {}; of more than 1,000 tokens: {}, {}, {}",
        recordings.len(),
        sums[0],
        sums[1],
        sums[2],
        long[0],
        long[1],
        long[2]
    );
    assert!(compared > 150);
    assert!(long[1] * 3 < long[2] && long[1] * 2 < long[0] * 3, "counting is worth it");
}
