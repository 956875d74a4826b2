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
use crate::cache::{self, Directives, Entered, Entry, Flight, Form, Freshness, Key, Nearness, Place, Rules};
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
    /// An answer that a provider gave and that is for nobody else.
    pub(super) fn leave(self, answer: Answer) -> Answer {
        match self {
            Self::Off => answer,
            looked => {
                let name = if matches!(looked, Self::Open(_)) { "miss" } else { "bypass" };
                let mut answer = answer;
                answer.headers.insert(cache::HEADER, HeaderValue::from_static(name));
                answer
            }
        }
    }

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

/// Pay for an answer that was kept: what `cache.price` of the model or the provider says, and one request.
pub(super) async fn paid(
    answer: Answer,
    (snapshot, model, service): (&Snapshot, &str, Option<&str>),
    admitted: Admitted,
    receipt: &mut Receipt,
) -> Result<(Answer, Reservation), Refusal> {
    let price = rules(snapshot, model).and_then(|(rules, _)| rules.config.price).unwrap_or(Money::ZERO);
    let service = service.map(Arc::from);
    let place = budget::Place { asked: Some(Arc::from(model)), service, ..budget::Place::default() };
    let reservation = receipt.reserve(admitted, |_| vec![Quote::fixed(price, place)]).await?;
    receipt.kept_paid(&reservation);
    Ok((answer, reservation))
}

/// A request to a model whose answers are kept.
struct Look<'a> {
    asked: &'a Asked<'a>,
    form: Form,
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
    let Some((rules, label)) = rules(asked.snapshot, &seen.model) else { return Looked::Off };
    let limits = inference::json_limits(asked.snapshot, dialect);
    let same = if names_stored { None } else { sameness::of(dialect, &asked.body, &limits).ok() };
    let wanted = Wanted { name: &seen.model, form: Form::Model(dialect), dialect, stream: seen.stream, same };
    wanted.look(asked, (rules, label), admitted, receipt).await
}

/// The same for what a service asks of `model`: `canonical` are the same bytes for the same questions, and for no others.
pub(super) async fn look_for_service(
    asked: &Asked<'_>,
    (model, canonical, stream): (&str, Vec<u8>, bool),
    admitted: &Admitted,
    receipt: &mut Receipt,
) -> Looked {
    let Some((rules, label)) = rules(asked.snapshot, model) else { return Looked::Off };
    // By their meaning prompts are not compared: they are alike in most of their words.
    let same = Some(Sameness { canonical, question: None });
    let wanted = Wanted { name: model, form: Form::Service, dialect: Dialect::OpenAiChat, stream, same };
    wanted.look(asked, (rules, label), admitted, receipt).await
}

/// What is kept of the answers of a model that is asked for by this name, and what it is counted under.
fn rules<'a>(snapshot: &'a Snapshot, name: &str) -> Option<(&'a Rules, Label)> {
    if let Some(model) = snapshot.model(name) {
        return Some((model.cache.as_ref()?, Label::Named(model.name.clone())));
    }
    let provider = snapshot.provider(name.split_once('/')?.0)?;
    Some((provider.cache.as_ref()?, Label::Fixed("direct")))
}

/// What is looked for.
struct Wanted<'a> {
    /// The model, by the name it is asked for.
    name: &'a str,
    form: Form,
    dialect: Dialect,
    stream: bool,
    /// What it is the same as; `None`: its answer is for nobody else.
    same: Option<Sameness>,
}

impl Wanted<'_> {
    async fn look(
        self,
        asked: &Asked<'_>,
        (rules, label): (&Rules, Label),
        admitted: &Admitted,
        receipt: &mut Receipt,
    ) -> Looked {
        let shared = Arc::clone(receipt.shared());
        shared.cache.resize(asked.snapshot.limits.cache);
        let wishes = Directives::of(&asked.head.headers);
        let Some(same) = self.same.filter(|_| !wishes.no_store) else {
            shared.metrics.cached(&label, "bypass");
            receipt.cache("bypass", None);
            return Looked::Bypass;
        };
        let scope = Scope {
            epoch: &asked.snapshot.cache_epoch,
            era: shared.cache.era(),
            permit: admitted.permit(),
            caller: receipt.caller(),
            model: self.name,
            dialect: self.dialect,
            stream: self.stream,
            headers: &asked.head.headers,
            rules,
        };
        let rules = &rules.config;
        let hasher = shared.cache.hasher();
        let whole = if self.form == Form::Service { Part::Service } else { Part::Whole };
        let key = hasher.key(&scope, (whole, &same.canonical));
        let rest = same.question.as_ref().map(|question| hasher.key(&scope, (Part::Rest, &question.rest)));
        let freshness = Freshness { ttl: rules.ttl.duration(), max_age: wishes.max_age };
        let look = Look { asked, form: self.form, stream: self.stream, rules, freshness, model: label };
        // Boxed: most requests need no room for it.
        Box::pin(look.through((key, rest), (&same, wishes.no_cache), admitted, receipt)).await
    }
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
        receipt.cache("miss", None);
        Looked::Open(Box::new(Place {
            shared: Arc::clone(receipt.shared()),
            key,
            form: self.form,
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
        Some(self.answer((&entry, age), ("hit", None), receipt))
    }

    fn near(&self, (rest, vector): (&Key, &[f32]), semantic: &SemanticCache, receipt: &mut Receipt) -> Option<Answer> {
        let shared = Arc::clone(receipt.shared());
        let (now, threshold) = (shared.clock.monotonic(), semantic.threshold.as_f64());
        let (entry, age, similarity) = shared.cache.near((rest, vector), threshold, self.freshness, now)?;
        // Cut, not rounded: what is not the same is never said to be.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // from 0 to 1000
        let thousandths = (similarity.clamp(0.0, 1.0) * 1000.0).floor() as u16;
        let mut answer = self.answer((&entry, age), ("semantic", Some(thousandths)), receipt);
        let told = |text: String| HeaderValue::try_from(text).ok();
        let similarity = told(format!("{:.3}", f64::from(thousandths) / 1000.0));
        let original = told(entry.original().to_string());
        for (name, value) in [(cache::SIMILARITY, similarity), (cache::ORIGINAL, original)] {
            answer.headers.extend(value.map(|value| (name, value)));
        }
        Some(answer)
    }

    fn answer(
        &self,
        (entry, age): (&Entry, Duration),
        (how, similarity): (&'static str, Option<u16>),
        receipt: &mut Receipt,
    ) -> Answer {
        receipt.shared().metrics.cached(&self.model, how);
        receipt.cache(how, similarity);
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
