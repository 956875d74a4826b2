//! Recorded traffic of real providers, through the gateway: the same dialect comes out byte for byte.

use std::collections::BTreeMap;

use serde_json::Value;
use testkit::mock::{Answer, Cassette, Mock};

use crate::harness::World;

fn world(mock: &Mock) -> World {
    World::new(&format!(
        "[[provider]]\nname = \"o\"\nkind = \"openai-compatible\"\nbase_url = \"{0}/v1\"\nallow_private = true\n\
         [[provider]]\nname = \"a\"\nkind = \"anthropic\"\nbase_url = \"{0}\"\nallow_private = true\n\
         [[policy]]\nname = \"all\"\nmay = {{ models = [\"*\"] }}\n",
        mock.url()
    ))
}

/// The request as a client of the gateway sends it, and where.
fn request(cassette: &Cassette) -> Option<(&'static str, Value)> {
    let (path, provider) = match cassette.endpoint.as_str() {
        "chat.completions" => ("/v1/chat/completions", "o"),
        "embeddings" => ("/v1/embeddings", "o"),
        "messages" => ("/v1/messages", "a"),
        _ => return None,
    };
    let mut body = cassette.request_json();
    let model = body.get("model").and_then(Value::as_str).unwrap_or("unknown").to_owned();
    if !body.is_object() {
        body = serde_json::json!({});
    }
    body["model"] = format!("{provider}/{model}").into();
    if cassette.is_stream {
        body["stream"] = true.into();
    }
    Some((path, body))
}

#[tokio::test]
async fn every_recorded_answer_comes_out_as_it_was() {
    let Some(cassettes) = Cassette::all() else {
        vectors::skipped("every_recorded_answer_comes_out_as_it_was");
        return;
    };
    let mock = Mock::start().await;
    let world = world(&mock);
    let mut counts: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    let mut others: Vec<String> = Vec::new();
    for cassette in cassettes {
        let Some((path, body)) = request(cassette) else { continue };
        // What providers send in Gemini's or Cohere's own form is not this dialect.
        if matches!(cassette.provider.as_str(), "cohere" | "bedrock" | "voyage") {
            continue;
        }
        mock.push(Answer::cassette(cassette).pieces(997));
        let before = mock.count();
        let answer = world.post(path, &body).await;
        let count = counts.entry(cassette.provider.as_str()).or_default();
        count.1 += 1;
        if mock.count() == before {
            // Refused here, with the reason; the queued answer goes to nobody.
            others.push(format!("{} {}: refused: {}", cassette.provider, cassette.id, answer.text()));
            world.post("/v1/chat/completions", &serde_json::json!({"model": "o/m", "messages": []})).await;
            continue;
        }
        let expected = expected(cassette, &body);
        if answer.status.as_u16() == cassette.status && answer.body == expected {
            count.0 += 1;
        } else {
            others.push(format!(
                "{} {}: {} {}",
                cassette.provider,
                cassette.id,
                answer.status,
                answer.text().chars().take(160).collect::<String>()
            ));
        }
    }
    let (passed, tried) = counts.values().fold((0, 0), |(p, t), (passed, tried)| (p + passed, t + tried));
    println!("{passed} of {tried} byte for byte: {counts:?}");
    for other in &others {
        println!("{other}");
    }
    let unexplained: Vec<&String> = others.iter().filter(|other| !explained(other)).collect();
    assert!(unexplained.is_empty(), "{unexplained:#?}");
    assert!(tried > 500, "the data holds more than {tried} recordings");
}

/// A usage chunk nobody asked for does not reach the client: the recording's client did not ask, so it is taken out.
fn expected(cassette: &Cassette, body: &Value) -> Vec<u8> {
    let asked = body["stream_options"]["include_usage"].as_bool().unwrap_or(false);
    if !cassette.is_stream || asked || cassette.endpoint != "chat.completions" {
        return cassette.response_body.clone();
    }
    let text = String::from_utf8_lossy(&cassette.response_body).into_owned();
    let usage_only = |event: &str| {
        let Some(data) = event.trim().strip_prefix("data:") else { return false };
        let Ok(value) = serde_json::from_str::<Value>(data) else { return false };
        value["choices"].as_array().is_some_and(Vec::is_empty) && value["usage"].is_object()
    };
    text.split_inclusive("\n\n").filter(|event| !usage_only(event)).collect::<String>().into_bytes()
}

/// Differences that are meant.
fn explained(other: &str) -> bool {
    // The provider's opinion of its key is the operator's affair (and its text may show part of the key). Files and
    // containers that were not made through this gateway are nobody's.
    other.contains("provider_key_refused") || other.contains("refused: ") && other.contains("object_not_found")
}
