//! Looking for the answer to a request among those that are kept, before a provider is asked.

use std::sync::Arc;
use std::time::Duration;

use base::Money;
use bytes::Bytes;
use config::{ModelCache, SemanticCache};
use http::header::{HeaderMap, HeaderValue};
use llm::embeddings::Client;
use llm::passthrough::{Peek, peek};
use llm::sameness::{self, Sameness};
use llm::{Dialect, Usage};
use serde_json::{Value, json};

use super::Asked;
use super::attempts;
use super::embed::{self, Embedding};
use super::inference;
use crate::Reservation;
use crate::admit::Admitted;
use crate::budget::{self, Quote};
use crate::cache::key::{Part, Scope};
use crate::cache::{self, Directives, Entered, Entry, Flight, Freshness, Key, Nearness, Place};
use crate::metrics::Label;
use crate::problem::Refusal;
use crate::relay::{Answer, Content};
use crate::route;
use crate::settle::{Outcome, Receipt};
use crate::snapshot::Snapshot;

/// How long a request waits for the stream of one that is the same: its pace is that of somebody else's client.
const WAIT_FOR_STREAM: Duration = Duration::from_secs(5);

/// What came of looking.
pub(super) enum Looked {
    /// The model's answers are not kept.
    Off,
    /// This one is neither looked for nor kept.
    Bypass,
    /// Here it is.
    Found(Box<Answer>),
    /// It is not there; it goes here.
    Open(Box<Place>),
}

impl Looked {
    /// An answer that a provider gave.
    pub(super) fn keep(self, mut answer: Answer) -> Answer {
        match self {
            Self::Off => answer,
            Self::Bypass => {
                answer.headers.insert(cache::HEADER, HeaderValue::from_static("bypass"));
                answer
            }
            Self::Found(found) => *found,
            Self::Open(place) => {
                let mut answer = place.keep(answer);
                answer.headers.insert(cache::HEADER, HeaderValue::from_static("miss"));
                answer
            }
        }
    }
}

/// Pay for an answer that was kept: what the model's `cache.price` says, and one request.
pub(super) async fn paid(
    answer: Answer,
    (snapshot, model): (&Snapshot, &str),
    admitted: Admitted,
    receipt: &mut Receipt,
) -> Result<(Answer, Reservation), Refusal> {
    let rules = snapshot.model(model).and_then(|model| model.cache.as_ref());
    let price = rules.and_then(|rules| rules.config.price).unwrap_or(Money::ZERO);
    let place = budget::Place { asked: Some(Arc::from(model)), ..budget::Place::default() };
    let reservation = receipt.reserve(admitted, |_| vec![Quote::fixed(price, place)]).await?;
    receipt.kept_paid(&reservation);
    Ok((answer, reservation))
}

/// A request to a model whose answers are kept.
struct Look<'a> {
    asked: &'a Asked<'a>,
    dialect: Dialect,
    stream: bool,
    rules: &'a ModelCache,
    freshness: Freshness,
    model: Label,
}

/// Look for the answer to a request that is permitted and admitted. `names_stored`: something a provider keeps is its subject.
pub(super) async fn look(
    asked: &Asked<'_>,
    (dialect, seen, names_stored): (Dialect, &Peek, bool),
    admitted: &Admitted,
    receipt: &mut Receipt,
) -> Looked {
    let Some(model) = asked.snapshot.model(&seen.model) else { return Looked::Off };
    let Some(rules) = &model.cache else { return Looked::Off };
    let shared = Arc::clone(receipt.shared());
    let label = Label::Named(model.name.clone());
    shared.cache.resize(asked.snapshot.limits.cache);
    let wishes = Directives::of(&asked.head.headers);
    let same = sameness::of(dialect, &asked.body, &inference::json_limits(asked.snapshot, dialect));
    let same = match same {
        Ok(same) if !wishes.no_store && !names_stored => same,
        _ => {
            shared.metrics.cached(&label, "bypass");
            return Looked::Bypass;
        }
    };
    let scope = Scope {
        epoch: &asked.snapshot.cache_epoch,
        era: shared.cache.era(),
        permit: admitted.permit(),
        caller: receipt.caller(),
        model: model.name.as_str(),
        dialect,
        stream: seen.stream,
        headers: &asked.head.headers,
        rules,
    };
    let rules = &rules.config;
    let hasher = shared.cache.hasher();
    let key = hasher.key(&scope, (Part::Whole, &same.canonical));
    let rest = same.question.as_ref().map(|question| hasher.key(&scope, (Part::Rest, &question.rest)));
    let freshness = Freshness { ttl: rules.ttl.duration(), max_age: wishes.max_age };
    let look = Look { asked, dialect, stream: seen.stream, rules, freshness, model: label };
    // Boxed: most requests need no room for it.
    Box::pin(look.through((key, rest), (&same, wishes.no_cache), admitted, receipt)).await
}

impl Look<'_> {
    async fn through(
        &self,
        (key, rest): (Key, Option<Key>),
        (same, anew): (&Sameness, bool),
        admitted: &Admitted,
        receipt: &mut Receipt,
    ) -> Looked {
        let flight = if anew {
            None
        } else {
            match self.kept_or_asked(key, receipt).await {
                Ok(answer) => return Looked::Found(Box::new(answer)),
                Err(flight) => flight,
            }
        };
        let mut near = None;
        if let (Some(semantic), Some(question), Some(rest)) = (&self.rules.semantic, &same.question, rest)
            && let Some(vector) = self.meaning(semantic, &question.text, admitted, receipt).await
        {
            if !anew && let Some(answer) = self.near((&rest, &vector), semantic, receipt) {
                return Looked::Found(Box::new(answer));
            }
            near = Some(Nearness { rest, vector });
        }
        receipt.shared().metrics.cached(&self.model, "miss");
        Looked::Open(Box::new(Place {
            shared: Arc::clone(receipt.shared()),
            key,
            dialect: self.dialect,
            most: self.rules.max_entry.as_usize(),
            original: receipt.id(),
            near,
            flight,
        }))
    }

    /// The answer that is kept, or that somebody else is getting; else leave to ask, before all others or beside them.
    async fn kept_or_asked(&self, key: Key, receipt: &mut Receipt) -> Result<Answer, Option<Flight>> {
        if let Some(answer) = self.kept(&key, receipt) {
            return Ok(answer);
        }
        let shared = Arc::clone(receipt.shared());
        match shared.cache.enter(key) {
            // It may have been kept since.
            Entered::Leads(flight) => self.kept(&key, receipt).ok_or(Some(flight)),
            Entered::Follows(follower) => {
                let begun = shared.clock.monotonic();
                if self.stream {
                    let _whether = tokio::time::timeout(WAIT_FOR_STREAM, follower.landed()).await;
                } else {
                    follower.landed().await;
                }
                receipt.waited(shared.clock.monotonic().saturating_duration_since(begun));
                // Where the other one got nothing, nobody waits a second time.
                self.kept(&key, receipt).ok_or(None)
            }
        }
    }

    fn kept(&self, key: &Key, receipt: &mut Receipt) -> Option<Answer> {
        let shared = Arc::clone(receipt.shared());
        let (entry, age) = shared.cache.get(key, self.freshness, shared.clock.monotonic())?;
        Some(self.answer((&entry, age), "hit", receipt))
    }

    fn near(&self, (rest, vector): (&Key, &[f32]), semantic: &SemanticCache, receipt: &mut Receipt) -> Option<Answer> {
        let shared = Arc::clone(receipt.shared());
        let (now, threshold) = (shared.clock.monotonic(), semantic.threshold.as_f64());
        let (entry, age, similarity) = shared.cache.near((rest, vector), threshold, self.freshness, now)?;
        let mut answer = self.answer((&entry, age), "semantic", receipt);
        let told = |text: String| HeaderValue::try_from(text).ok();
        // Cut, not rounded: what is not the same is never said to be.
        let similarity = told(format!("{:.3}", (similarity * 1000.0).floor() / 1000.0));
        let original = told(entry.original().to_string());
        for (name, value) in [(cache::SIMILARITY, similarity), (cache::ORIGINAL, original)] {
            answer.headers.extend(value.map(|value| (name, value)));
        }
        Some(answer)
    }

    fn answer(&self, (entry, age): (&Entry, Duration), how: &'static str, receipt: &mut Receipt) -> Answer {
        receipt.shared().metrics.cached(&self.model, how);
        receipt.kept();
        let mut answer = entry.answer(age);
        answer.headers.insert(cache::HEADER, HeaderValue::from_static(how));
        answer
    }

    /// What a question means, as the embedding model says. This gateway asks for it, for a request that is permitted and
    /// admitted; without it the request goes on as if there were none.
    async fn meaning(
        &self,
        semantic: &SemanticCache,
        question: &str,
        admitted: &Admitted,
        receipt: &mut Receipt,
    ) -> Option<Vec<f32>> {
        let name = format!("{}/{}", semantic.provider, semantic.model);
        let plan = route::plan(self.asked.snapshot, admitted.permit(), &name).ok()?;
        let body = Bytes::from(json!({"model": name, "input": question}).to_string());
        let limits = &self.asked.snapshot.limits;
        let seen = embed::Seen::OpenAi(Box::new(peek(Dialect::OpenAiEmbeddings, &body, &limits.json).ok()?));
        // Nothing of the caller's head: it is not the caller who asks.
        let head = HeaderMap::new();
        let embedding = Embedding {
            client: Client::OpenAi,
            head: &head,
            body: &body,
            seen: &seen,
            model: &name,
            holders: None,
            limits: limits.json,
            limit: limits.response_body,
        };
        let reservation =
            receipt.reserve_beside(admitted, attempts::quotes(&embedding, &plan, Some(name.as_str().into())));
        let reservation = reservation.await.ok()?;
        let asked = attempts::reserved(&embedding, &plan, &reservation, receipt);
        let answer = tokio::time::timeout(semantic.timeout.duration(), asked).await;
        // What counts for the request is what its answer takes.
        receipt.usage(Usage::default());
        let Content::Whole(bytes, Outcome::Ok) = answer.ok()?.ok()?.content else { return None };
        let usage = llm::passthrough::peek_response(Dialect::OpenAiEmbeddings, &bytes).usage;
        receipt.spent_beside(usage);
        let provider = Label::Named(semantic.provider.clone());
        receipt.shared().metrics.tokens("input", &provider, &self.model, usage.input_tokens.unwrap_or(0));
        vector(&bytes)
    }
}

/// The vector in an answer to a request for one.
fn vector(answer: &[u8]) -> Option<Vec<f32>> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let numbers = answer.get("data")?.get(0)?.get("embedding")?.as_array()?;
    #[allow(clippy::cast_possible_truncation)] // providers' own vectors have no more digits
    numbers.iter().map(|number| number.as_f64().map(|number| number as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_read_where_there_is_one() {
        assert_eq!(vector(br#"{"data":[{"embedding":[1,-0.5]}]}"#), Some(vec![1.0, -0.5]));
        for other in [
            "",
            "[]",
            "{}",
            r#"{"data":[]}"#,
            r#"{"data":[{"embedding":"AAAA"}]}"#,
            r#"{"data":[{"embedding":[null]}]}"#,
        ] {
            assert_eq!(vector(other.as_bytes()), None, "{other}");
        }
    }
}
