//! `GET /v1/models` and `/v1/models/{id}`: what the caller's policies let it use, in OpenAI's shape or in Anthropic's.

use base::Problem;
use http::{HeaderMap, StatusCode};
use llm::catalogue::TokenLimits;
use policy::{Ask, Target};
use serde_json::{Value, json};

use crate::problem::{Refusal, Surface};
use crate::relay::Answer;
use crate::route;
use crate::settle::Receipt;
use crate::snapshot::{ModelTarget, Snapshot};

/// List the models with names of their own.
pub(crate) fn list(snapshot: &Snapshot, headers: &HeaderMap, receipt: &Receipt) -> Answer {
    let names = snapshot.policies.visible_models(&receipt.caller().facts(), receipt.at());
    let anthropic = speaks_anthropic(headers);
    let data: Vec<Value> = names.iter().map(|name| entry(snapshot, name.as_str(), anthropic)).collect();
    let body = if anthropic {
        let id = |entry: Option<&Value>| entry.map_or(Value::Null, |entry| entry["id"].clone());
        json!({"first_id": id(data.first()), "last_id": id(data.last()), "has_more": false, "data": data})
    } else {
        json!({"object": "list", "data": data})
    };
    Answer::json(body.to_string())
}

/// Describe one model, which may also be named as `PROVIDER/MODEL`. One that may not be used is not there.
pub(crate) fn one(snapshot: &Snapshot, headers: &HeaderMap, id: &str, receipt: &Receipt) -> Result<Answer, Refusal> {
    let ask = Ask::new(Target::Model(id), receipt.at());
    let facts = receipt.caller().facts();
    let known = snapshot.policies.visible_models(&facts, receipt.at()).iter().any(|name| name.as_str() == id);
    let direct =
        || snapshot.policies.decide(&facts, &ask).is_ok_and(|permit| route::plan(snapshot, &permit, id).is_ok());
    if known || direct() {
        return Ok(Answer::json(entry(snapshot, id, speaks_anthropic(headers)).to_string()));
    }
    let problem = Problem::client(StatusCode::NOT_FOUND, "model_not_found", "There is no such model here.");
    Err(Refusal::from(problem.param("model")))
}

fn speaks_anthropic(headers: &HeaderMap) -> bool {
    Surface::of("/v1/models", headers) == Surface::Anthropic
}

fn entry(snapshot: &Snapshot, id: &str, anthropic: bool) -> Value {
    if !anthropic {
        // There is no place for limits in this shape.
        return json!({"id": id, "object": "model", "created": 0, "owned_by": config::OWN_NAME});
    }
    // What is configured is there to be used.
    let mut entry = json!({"type": "model", "id": id, "display_name": id, "created_at": "1970-01-01T00:00:00Z",
        "lifecycle": "active"});
    let (input, output) = fits(snapshot, id);
    for (name, tokens) in [("max_input_tokens", input), ("max_tokens", output)] {
        if let Some((tokens, entry)) = tokens.zip(entry.as_object_mut()) {
            entry.insert(name.to_owned(), tokens.into());
        }
    }
    entry
}

/// How many tokens of input and of output fit into whichever target answers; `None` where one of them is not known.
fn fits(snapshot: &Snapshot, id: &str) -> (Option<u64>, Option<u64>) {
    let limits = |target: &ModelTarget| match target {
        ModelTarget::Remote(provider, model) => provider.figures(model).limits,
        ModelTarget::Echo => TokenLimits::default(),
    };
    let all: Vec<TokenLimits> = if let Some(model) = snapshot.model(id) {
        model.targets.iter().map(limits).collect()
    } else {
        let direct = id.split_once('/').and_then(|(name, model)| Some((snapshot.provider(name)?, model)));
        direct.map(|(provider, model)| provider.figures(model).limits).into_iter().collect()
    };
    let least = |of: fn(&TokenLimits) -> Option<u64>| {
        let all: Option<Vec<u64>> = all.iter().map(of).collect();
        all?.into_iter().min()
    };
    (least(TokenLimits::input), least(|limits| limits.max_output))
}
