//! What would happen to a request: which targets, in which order, and how each is doing.

use std::sync::Arc;

use config::{HedgeAfter, Strategy};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::facts::{Facts, Supposed};
use super::order::{Left, cost, order};
use crate::health::{Choice, Key, Position, TargetState, any_accepted};
use crate::snapshot::{Model, ModelTarget, Provider, Snapshot};

/// A request that is only supposed.
#[derive(Debug, Clone, Default)]
pub struct Question {
    /// The model asked for.
    pub model: String,
    /// Tokens of input, about.
    pub input_tokens: Option<u64>,
    /// The most tokens of output it asks for.
    pub max_output_tokens: Option<u64>,
    /// Whether it brings tools.
    pub tools: bool,
    /// Whether it brings images.
    pub images: bool,
    /// Whether it asks for a stream.
    pub stream: bool,
    /// The client it comes from.
    pub client: Option<String>,
    /// Texts in its `metadata`.
    pub metadata: Vec<(String, String)>,
    /// Its header fields.
    pub headers: Vec<(String, String)>,
}

/// What would happen to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// How a target is chosen: a strategy, or `direct`.
    pub strategy: &'static str,
    /// What keeps requests together.
    pub sticky: Option<String>,
    /// When another target is asked beside the first, if ever.
    pub hedge: Option<String>,
    /// The targets in the order they are tried, then those that are not.
    pub targets: Vec<ExplainedTarget>,
}

/// One target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedTarget {
    /// `PROVIDER/MODEL`.
    pub target: String,
    /// Its place in the order, from 1; `None`: it is not tried.
    pub place: Option<usize>,
    /// Why it has this place, or none.
    pub why: String,
    /// Whether it could be called now.
    pub ready: bool,
    /// What its answers take to begin, in milliseconds, as far as known.
    pub expected_ms: Option<u64>,
    /// What the request costs there, in nano-USD, about.
    pub cost_nano_usd: Option<i128>,
    /// Calls under way.
    pub active: u32,
    /// How calls for its model have been doing: `closed`, `half_open` or `open`.
    pub breaker: &'static str,
    /// The provider's keys.
    pub keys: Vec<ExplainedKey>,
}

/// One key of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExplainedKey {
    /// What it is called; `none` for a provider that takes no key.
    pub name: String,
    /// How calls with it have been doing.
    pub breaker: &'static str,
    /// Whether the provider accepts it, as far as known.
    pub accepted: bool,
    /// For how many milliseconds more it rests for this model.
    pub rests_ms: u64,
}

impl Snapshot {
    /// What would happen to a request. `None`: there is no such model.
    pub fn explain(&self, question: &Question) -> Option<Explained> {
        match self.model(&question.model) {
            Some(model) => Some(of_model(model, question)),
            None => direct(|name| self.provider(name), question),
        }
    }
}

impl Snapshot {
    /// Providers that are left alone now with some key, each with why: by name.
    pub fn left_alone(&self) -> Vec<(base::Name, String)> {
        let mut all: Vec<(base::Name, String)> = self.providers().filter_map(|provider| alone(provider)).collect();
        all.sort();
        all
    }
}

fn alone(provider: &Provider) -> Option<(base::Name, String)> {
    let now = provider.keys.care().states.now();
    let of = |key: &Arc<Key>| {
        let name = &key.name;
        let refused = key.slots.first().is_some_and(|slot| slot.position(now) != Position::Closed);
        match (any_accepted(&key.slots, now), key.state.health.position(now)) {
            (true, Position::Closed) if refused => Some(format!("key {name} is refused; another value of it is used")),
            (true, Position::Closed) => None,
            (true, Position::HalfOpen) => Some(format!("calls with key {name} failed; the next finds out")),
            (true, Position::Open(wait)) => {
                Some(format!("calls with key {name} fail; left alone for {} s", wait.div_ceil(1000)))
            }
            _ => Some(format!("key {name} is refused")),
        }
    };
    let why: Vec<String> = provider.keys.iter().filter_map(of).collect();
    (!why.is_empty()).then(|| (provider.name.clone(), why.join("; ")))
}

/// What would happen to a request for a model by its own name.
fn direct<'a>(provider: impl FnOnce(&str) -> Option<&'a Arc<Provider>>, question: &Question) -> Option<Explained> {
    let target = if question.model == config::ECHO_MODEL {
        ModelTarget::Echo
    } else {
        let (name, model) = question.model.split_once('/')?;
        ModelTarget::Remote(Arc::clone(provider(name)?), model.into())
    };
    let explained = described(&target, (None, question.stream), (Some(1), "it was asked for by name".to_owned()));
    Some(Explained { strategy: "direct", sticky: None, hedge: None, targets: vec![explained] })
}

/// What would happen to a request of a configuration that no server runs, as if nothing had been called yet.
pub fn explain(config: &config::Config, question: &Question) -> Result<Option<Explained>, crate::SnapshotError> {
    let routes = Snapshot::routes(config)?;
    Ok(match routes.models.get(question.model.as_str()) {
        Some(model) => Some(of_model(model, question)),
        None => direct(|name| routes.providers.get(name), question),
    })
}

fn of_model(model: &Model, question: &Question) -> Explained {
    let headers: HeaderMap = question
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((HeaderName::try_from(name.as_str()).ok()?, HeaderValue::from_str(value).ok()?))
        })
        .collect();
    let metadata: Map<String, Value> =
        question.metadata.iter().map(|(key, value)| (key.clone(), Value::from(value.as_str()))).collect();
    let body = json!({ "metadata": metadata }).to_string();
    let facts = Facts {
        tools: Some(question.tools),
        streamed: question.stream,
        output: question.max_output_tokens,
        supposed: Supposed {
            bytes: Some(question.input_tokens.unwrap_or(0).saturating_mul(4)),
            images: Some(question.images),
        },
        ..Facts::new(&headers, body.as_bytes())
    };
    let now = model.targets.iter().find_map(ModelTarget::now).unwrap_or(0);
    // The same every time: what is left to chance is said.
    let rng = base::SeededRng::new(0);
    let choice = Choice { sticky: None, rng: &rng };
    let mut order = order(model, &facts, question.client.as_deref(), (choice, now));
    let weight = |index: usize| model.routes.get(index).map_or(1, |route| route.weight);
    let canary = |index: usize| model.routes.get(index).and_then(|route| route.canary);
    let (canaries, mut tried): (Vec<usize>, Vec<usize>) =
        order.tried.iter().copied().partition(|index| canary(*index).is_some());
    order.left.extend(canaries.into_iter().map(|index| (index, Left::Canary)));
    match model.strategy {
        Strategy::Weighted => tried.sort_by_key(|index| std::cmp::Reverse(weight(*index))),
        Strategy::Latency => tried.sort_by(|a, b| {
            let score = |index: usize| {
                model.states.get(index).and_then(Option::as_ref).map_or(0.0, |state| state.score(question.stream, now))
            };
            score(*a).total_cmp(&score(*b))
        }),
        Strategy::Fallback | Strategy::Cost => {}
    }
    let all: u32 = tried.iter().map(|index| weight(*index)).sum();
    let mut targets = Vec::new();
    for (place, index) in tried.iter().enumerate() {
        let Some(target) = model.targets.get(*index) else { continue };
        let cost = cost(model, *index, &facts);
        let why = match model.strategy {
            Strategy::Fallback => "in the order written".to_owned(),
            Strategy::Weighted => format!("first for {} of {all} requests", weight(*index)),
            Strategy::Latency => "by what its answers took to begin, and calls under way".to_owned(),
            Strategy::Cost if cost.is_none() => "its price is not known".to_owned(),
            Strategy::Cost => "by what the request costs".to_owned(),
        };
        let state = model.states.get(*index).and_then(Option::as_ref);
        let described = described(target, (state, question.stream), (Some(place + 1), why));
        targets.push(ExplainedTarget { cost_nano_usd: cost.map(base::Money::nano_usd), ..described });
    }
    order.left.sort_by_key(|(index, _)| *index);
    for (index, left) in order.left {
        let Some(target) = model.targets.get(index) else { continue };
        let why = match left {
            Left::Unmet(condition) => format!("its condition {condition} does not hold"),
            Left::Shadow => {
                let share = model.routes.get(index).and_then(|route| route.shadow).unwrap_or(0.0);
                format!("a shadow: it gets a copy of {share} of the requests, and nobody hears its answer")
            }
            Left::Canary => format!("a canary: first for {} of 100 requests", canary(index).unwrap_or(0)),
        };
        let state = model.states.get(index).and_then(Option::as_ref);
        targets.push(described(target, (state, question.stream), (None, why)));
    }
    let sticky = model.sticky.as_ref().map(ToString::to_string);
    Explained { strategy: model.strategy.as_str(), sticky, hedge: hedge(model, question.stream, now), targets }
}

/// When another target is asked beside the first, in words.
fn hedge(model: &Model, streamed: bool, now: u64) -> Option<String> {
    let rules = &model.hedging.as_ref()?.rules;
    let when = match rules.after {
        HedgeAfter::Time(time) => format!("after {time}"),
        HedgeAfter::Percentile(percent) => {
            let first = model.states.iter().flatten().next();
            let known = first.and_then(|state| state.within(streamed, now, percent));
            let known = known.map_or_else(|| "not known yet".to_owned(), |millis| format!("{millis} ms"));
            format!("after the {percent}th percentile of the first ({known} for the first written)")
        }
    };
    Some(format!("another target is asked beside the first {when}, for {} of 100 requests at most", rules.budget))
}

type State<'a> = Option<&'a Arc<TargetState>>;

fn described(
    target: &ModelTarget,
    (state, streamed): (State<'_>, bool),
    (place, why): (Option<usize>, String),
) -> ExplainedTarget {
    let now = target.now().unwrap_or(0);
    let (name, model) = (target.key(), target.model());
    let breaker = state.map_or(Position::Closed, |state| state.health.position(now));
    let keys = target.provider().map(|provider| keys(provider, model, now)).unwrap_or_default();
    let latency = state.and_then(|state| if streamed { &state.streamed } else { &state.whole }.expected(now));
    let open = |breaker: &str| breaker == Position::Open(0).as_str();
    let usable = |key: &ExplainedKey| key.accepted && key.rests_ms == 0 && !open(key.breaker);
    ExplainedTarget {
        ready: !open(breaker.as_str()) && (keys.is_empty() || keys.iter().any(usable)),
        target: name,
        place,
        why,
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // milliseconds, never negative
        expected_ms: latency.map(|millis| millis.round() as u64),
        cost_nano_usd: None,
        active: state.map_or(0, |state| state.active()),
        breaker: breaker.as_str(),
        keys,
    }
}

fn keys(provider: &Provider, model: &str, now: u64) -> Vec<ExplainedKey> {
    let describe = |key: &Arc<Key>| ExplainedKey {
        name: key.name.clone(),
        breaker: key.state.health.position(now).as_str(),
        accepted: any_accepted(&key.slots, now),
        rests_ms: key.state.resting(model, now).unwrap_or(0),
    };
    provider.keys.iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(lines: &str, question: &Question) -> Explained {
        let text = format!(
            "[[provider]]\nname = \"a\"\nkind = \"ollama\"\n[[provider]]\nname = \"b\"\nkind = \"ollama\"\n[[model]]\nname = \"m\"\n{lines}\n"
        );
        explain(&config::parse(&text).expect("good"), question).expect("builds").expect("a model")
    }

    #[test]
    fn each_target_is_told_with_its_place_and_why() {
        let lines = r#"strategy = "weighted"
sticky = "header:x-s"
targets = [{ provider = "a", model = "x" }, { provider = "b", model = "y", weight = 3 },
    { provider = "a", model = "z", when = { min_input_tokens = 1000, metadata = { tier = "gold" } } }, { provider = "b", model = "c", canary = 5 },
    { provider = "b", model = "s", shadow = 0.05 }]"#;
        let question = Question { model: "m".to_owned(), input_tokens: Some(10), ..Question::default() };
        let told = explained(lines, &question);
        let brief: Vec<(&str, Option<usize>, &str)> =
            told.targets.iter().map(|t| (t.target.as_str(), t.place, t.why.as_str())).collect();
        assert_eq!(
            brief,
            [
                ("b/y", Some(1), "first for 3 of 4 requests"),
                ("a/x", Some(2), "first for 1 of 4 requests"),
                ("a/z", None, "its condition min_input_tokens does not hold"),
                ("b/c", None, "a canary: first for 5 of 100 requests"),
                ("b/s", None, "a shadow: it gets a copy of 0.05 of the requests, and nobody hears its answer"),
            ]
        );
        assert_eq!((told.strategy, told.sticky.as_deref()), ("weighted", Some("header:x-s")));
        assert!(told.targets.iter().all(|target| target.ready && target.breaker == "closed"));
        let metadata = vec![("tier".to_owned(), "gold".to_owned())];
        let told = explained(lines, &Question { input_tokens: Some(1000), metadata, ..question });
        assert_eq!(told.targets.iter().filter(|target| target.place.is_some()).count(), 3);
    }

    #[test]
    fn a_hedge_is_told() {
        let told = |hedge: &str| {
            let lines = format!(
                "targets = [{{ provider = \"a\", model = \"x\" }}, {{ provider = \"b\", model = \"y\" }}]\nhedge = {hedge}"
            );
            let question = Question { model: "m".to_owned(), ..Question::default() };
            explained(&lines, &question).hedge.expect("a hedge")
        };
        let words = "another target is asked beside the first after 2s, for 5 of 100 requests at most";
        assert_eq!(told("{ after = \"2s\" }"), words);
        assert!(told("{ after = \"p95\", budget = 10 }").contains("95th percentile of the first (not known yet"));
    }

    #[test]
    fn a_model_by_its_own_name_is_one_target_and_an_unknown_one_none() {
        let config = config::parse("[[provider]]\nname = \"a\"\nkind = \"ollama\"\n").expect("good");
        let of = |model: &str| {
            explain(&config, &Question { model: model.to_owned(), ..Question::default() }).expect("builds")
        };
        assert_eq!(
            of("a/b/c").map(|told| (told.strategy, told.targets[0].target.clone())),
            Some(("direct", "a/b/c".to_owned()))
        );
        assert!(of(config::ECHO_MODEL).is_some());
        assert_eq!((of("nothing"), of("b/x")), (None, None));
    }
}
