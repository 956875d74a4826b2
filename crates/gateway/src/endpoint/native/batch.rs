//! What a batch took is known when its results are first told: it is counted then, paid for, and never again. Where no budget has room
//! for it, they are not told yet.
//!
//! The batch itself says it where `OpenAI`'s form is spoken (`usage` and `model`,
//! platform.openai.com/docs/api-reference/batch/object). Where a server leaves that out, and at Anthropic
//! (docs.anthropic.com/en/api/retrieving-message-batch-results), it is added up from the lines of its results.

use std::sync::Arc;

use base::Money;
use bytes::Bytes;
use config::ProviderDialect;
use http::Method;
use llm::passthrough::peek_response;
use llm::{Dialect, Usage};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use store::StoredObject;

use crate::Reservation;
use crate::budget::{Place, Quote, Spent};
use crate::metrics::Label;
use crate::objects;
use crate::problem::Refusal;
use crate::settle::Receipt;
use crate::snapshot::Provider;

/// The most models of one batch that are counted apart.
const MODELS: usize = 64;

/// What a call tells of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells<'a> {
    /// The batch itself.
    Batch(&'a str),
    /// Its results.
    Results(&'a str),
    /// A file, which may be its results.
    File(&'a str),
}

impl<'a> Tells<'a> {
    /// What a call below a provider's base tells, in whatever case its path is.
    pub(super) fn of(dialect: ProviderDialect, (method, below): (&Method, &'a str)) -> Option<Self> {
        if method != Method::GET || matches!(dialect, ProviderDialect::Gemini | ProviderDialect::Cohere) {
            return None;
        }
        let mut parts = below.trim_matches('/').split('/');
        let mut next = || parts.next().unwrap_or_default();
        let is = |part: &str, name: &str| part.eq_ignore_ascii_case(name);
        let (first, second, third, fourth) = (next(), next(), next(), next());
        if !next().is_empty() {
            return None;
        }
        match (second, third, fourth) {
            (id, "", "") if is(first, "batches") && !id.is_empty() => Some(Self::Batch(id)),
            (id, end, "") if is(first, "files") && is(end, "content") => Some(Self::File(id)),
            (kind, id, end) if is(first, "messages") && is(kind, "batches") && is(end, "results") => {
                Some(Self::Results(id))
            }
            _ => None,
        }
    }

    const fn id(self) -> &'a str {
        match self {
            Self::Batch(id) | Self::Results(id) | Self::File(id) => id,
        }
    }

    /// Whether what the batch took has still to be counted.
    pub(super) async fn is_uncounted(self, provider: &Provider, receipt: &Receipt) -> Result<bool, Refusal> {
        let made = receipt.shared().objects.made(&provider.name, &objects::uncounted(self.id())).await;
        made.map(|made| made.is_some()).map_err(|error| objects::unavailable(&error).into())
    }
}

/// A batch has begun: remember that what it takes has to be counted.
pub(super) async fn begun(
    below: &str,
    body: &[u8],
    (provider, maker): (&Provider, &StoredObject),
    receipt: &Receipt,
) -> Result<(), Refusal> {
    let path = below.trim_matches('/');
    if !["batches", "messages/batches"].iter().any(|known| path.eq_ignore_ascii_case(known)) {
        return Ok(());
    }
    let made = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let Some(id) = made.get("id").and_then(Value::as_str) else { return Ok(()) };
    let claimed = receipt.shared().objects.claim(&provider.name, &objects::uncounted(id), maker).await;
    claimed.map_err(|error| objects::unavailable(&error).into())
}

/// Count and pay for what the batch took, if `answer` says it at last.
pub(super) async fn count(
    tells: Tells<'_>,
    answer: &Bytes,
    (provider, maker): (&Provider, &StoredObject),
    (reservation, receipt): (&Reservation, &mut Receipt),
) -> Result<(), Refusal> {
    let (counted, file) = match tells {
        Tells::Batch(_) => match Ended::of(answer) {
            None => return Ok(()),
            Some(Ended::Took(part)) => (Counted(vec![part]), None),
            Some(Ended::Wrote(file)) => (Counted::default(), Some(file)),
            Some(Ended::Nothing) => (Counted::default(), None),
        },
        Tells::Results(_) | Tells::File(_) => (Counted::in_lines(answer), None),
    };
    // All of it is held before it is known whether this is the first to tell it: of two at once one gives it back.
    let mut held = Vec::new();
    let mut all = Usage::default();
    for (model, usage) in &counted.0 {
        let place = Place {
            provider: Some(provider.name.as_str().into()),
            model: Some(Arc::from(model.as_str())),
            ..Place::default()
        };
        let cost = price(provider, model, usage);
        let paid = receipt.reserve_beside(reservation.admitted(), |_| vec![Quote::known(cost, usage, place)]).await?;
        held.push((paid, *usage));
        all.add(usage);
    }
    let first = receipt.shared().objects.forget(&provider.name, &objects::uncounted(tells.id())).await;
    if !first.map_err(|error| Refusal::from(objects::unavailable(&error)))? {
        return Ok(());
    }
    if let Some(file) = file {
        // Its lines say what the batch does not; until somebody reads them they are uncounted.
        let claimed = receipt.shared().objects.claim(&provider.name, &objects::uncounted(&file), maker).await;
        claimed.map_err(|error| Refusal::from(objects::unavailable(&error)))?;
    }
    for (paid, usage) in held {
        let stake = paid.funding().and_then(|funding| funding.stake_here(0));
        if let Some(stake) = stake {
            stake.settle(Spent { usage, ended: true });
        }
    }
    if let [(model, _)] = counted.0.as_slice() {
        receipt.model(model, &Label::Fixed("batch"));
    }
    receipt.usage(all);
    Ok(())
}

/// What so much of a model costs in a batch: half, everywhere (platform.openai.com/docs/guides/batch,
/// docs.anthropic.com/en/docs/build-with-claude/batch-processing). What is paid for each request was paid when it began.
fn price(provider: &Provider, model: &str, usage: &Usage) -> Option<Money> {
    let figures = provider.figures(model);
    match (&figures.price, figures.charges.request) {
        (Some(price), _) => {
            let whole = price.cost(usage)?.nano_usd();
            Some(Money::from_nano_usd(whole / 2 + whole % 2))
        }
        (None, Some(_)) => Some(Money::ZERO),
        (None, None) => None,
    }
}

/// How a batch of `OpenAI`'s form ended.
enum Ended {
    /// It says what it took.
    Took((String, Usage)),
    /// It does not; this file of results does.
    Wrote(String),
    /// It took nothing.
    Nothing,
}

impl Ended {
    /// `None`: it has not ended.
    fn of(answer: &[u8]) -> Option<Self> {
        let batch = serde_json::from_slice::<Value>(answer).unwrap_or_default();
        let text = |name: &str| batch.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if !matches!(text("status")?, "completed" | "failed" | "expired" | "cancelled") {
            return None;
        }
        let seen = peek_response(Dialect::OpenAiResponses, answer);
        Some(match (seen.model, text("output_file_id")) {
            (Some(model), _) if seen.usage.is_known() => Self::Took((model, seen.usage)),
            (_, Some(file)) => Self::Wrote(file.to_owned()),
            (_, None) => Self::Nothing,
        })
    }
}

/// What was taken of each model.
#[derive(Debug, Default, PartialEq)]
struct Counted(Vec<(String, Usage)>);

/// A line of results: `OpenAI`'s form, or Anthropic's.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow, default)]
    response: Option<Part<'a>>,
    #[serde(borrow, default)]
    result: Option<Part<'a>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

impl Counted {
    /// What the lines say. Lines that are none say nothing.
    fn in_lines(results: &[u8]) -> Self {
        let mut counted = Self::default();
        for line in results.split(|byte| *byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { continue };
            let answers = [
                (line.response.and_then(|part| part.body), Dialect::OpenAiChat),
                (line.result.and_then(|part| part.message), Dialect::AnthropicMessages),
            ];
            for (answer, dialect) in answers {
                let Some(answer) = answer else { continue };
                let seen = peek_response(dialect, answer.get().as_bytes());
                if seen.usage.is_known() {
                    counted.add(seen.model.unwrap_or_default(), &seen.usage);
                }
            }
        }
        counted
    }

    fn add(&mut self, model: String, usage: &Usage) {
        let full = self.0.len() >= MODELS;
        match self.0.iter_mut().find(|(known, _)| *known == model || (full && known.is_empty())) {
            Some((_, sum)) => sum.add(usage),
            // What is past the bound counts under no model's name.
            None if full => self.0.push((String::new(), *usage)),
            None => self.0.push((model, *usage)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn tells(below: &str) -> Option<Tells<'_>> {
        Tells::of(ProviderDialect::OpenAi, (&Method::GET, below))
    }

    #[test]
    fn a_batch_and_its_results_are_known_by_their_paths_in_any_case() {
        assert_eq!(tells("/batches/b1"), Some(Tells::Batch("b1")));
        assert_eq!(tells("/Batches/b1/"), Some(Tells::Batch("b1")));
        assert_eq!(tells("/messages/batches/b1/results"), Some(Tells::Results("b1")));
        assert_eq!(tells("/MESSAGES/batches/b1/Results"), Some(Tells::Results("b1")));
        assert_eq!(tells("/files/f1/content"), Some(Tells::File("f1")));
        for other in
            ["/batches", "/batches/b1/cancel", "/messages/batches/b1", "/files/f1", "/files/f1/content/x", "/x"]
        {
            assert_eq!(tells(other), None, "{other}");
        }
        assert_eq!(Tells::of(ProviderDialect::OpenAi, (&Method::DELETE, "/batches/b1")), None);
        assert_eq!(Tells::of(ProviderDialect::Gemini, (&Method::GET, "/batches/b1")), None);
    }

    #[test]
    fn lines_are_added_up_for_each_model_and_what_is_no_line_is_passed_over() {
        let openai = |model: &str, input: u64| {
            json!({"custom_id": "a", "response": {"status_code": 200, "body": {"model": model, "usage":
                {"prompt_tokens": input, "completion_tokens": 3, "total_tokens": input + 3}}}, "error": null})
        };
        let anthropic = json!({"custom_id": "b", "result": {"type": "succeeded", "message": {"model": "c", "usage":
            {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 2}}}});
        let failed = json!({"custom_id": "c", "result": {"type": "errored", "error": {"usage": {"input_tokens": 9}}}});
        // What a model wrote is no count.
        let said = json!({"custom_id": "d", "response": {"body": {"model": "m", "choices": [{"message":
            {"content": "{\"usage\":{\"prompt_tokens\":1000}}"}}]}}});
        let text =
            [openai("m", 10), openai("n", 1), openai("m", 20), anthropic, failed, said].map(|line| line.to_string());
        let counted = Counted::in_lines(format!("{}\n\nno line\n{{\"response\":3}}\n", text.join("\n")).as_bytes());
        let found: Vec<_> = counted
            .0
            .iter()
            .map(|(model, usage)| (model.as_str(), usage.input_tokens.unwrap(), usage.output_tokens.unwrap()))
            .collect();
        assert_eq!(found, [("m", 30, 6), ("n", 1, 3), ("c", 7, 7)]);
    }

    #[test]
    fn models_without_end_are_counted_under_no_name() {
        let mut counted = Counted::default();
        let one = Usage { input_tokens: Some(1), output_tokens: Some(1), ..Usage::default() };
        (0..1000).for_each(|n| counted.add(format!("m{n}"), &one));
        assert_eq!(counted.0.len(), MODELS + 1);
        assert_eq!(counted.0.iter().map(|(_, usage)| usage.input_tokens.unwrap()).sum::<u64>(), 1000);
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_through(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Counted::in_lines(&bytes);
            let _ = Ended::of(&bytes);
        }
    }
}
