//! Where a request would go, between the admin API's words and the data plane's.

use control::route::{RouteExplanation, RouteKey, RouteQuestion, RouteTarget};
use gateway::{Explained, ExplainedKey, ExplainedTarget, Question};

/// The question as the data plane takes it.
pub(crate) fn question(asked: &RouteQuestion) -> Question {
    let pairs = |map: &std::collections::BTreeMap<String, String>| map.clone().into_iter().collect();
    Question {
        model: asked.model.clone(),
        input_tokens: asked.input_tokens,
        max_output_tokens: asked.max_output_tokens,
        tools: asked.tools,
        images: asked.images,
        stream: asked.stream,
        client: asked.client.clone(),
        metadata: pairs(&asked.metadata),
        headers: pairs(&asked.header),
    }
}

/// The data plane's answer.
pub(crate) fn explanation(model: &str, told: Explained) -> RouteExplanation {
    RouteExplanation {
        model: model.to_owned(),
        strategy: told.strategy.to_owned(),
        sticky: told.sticky,
        hedge: told.hedge,
        targets: told.targets.into_iter().map(target).collect(),
    }
}

fn target(told: ExplainedTarget) -> RouteTarget {
    RouteTarget {
        target: told.target,
        place: told.place,
        why: told.why,
        ready: told.ready,
        expected_ms: told.expected_ms,
        cost: told.cost_nano_usd.map(|nano| base::Money::from_nano_usd(nano).to_string()),
        active: told.active,
        breaker: told.breaker.to_owned(),
        keys: told.keys.into_iter().map(key).collect(),
    }
}

fn key(told: ExplainedKey) -> RouteKey {
    RouteKey { name: told.name, breaker: told.breaker.to_owned(), accepted: told.accepted, rests_ms: told.rests_ms }
}
