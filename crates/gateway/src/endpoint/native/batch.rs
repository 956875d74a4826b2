//! What a batch took is known when its results are first told: it is counted then, paid for, and never again. Where no budget has room
//! for it, they are not told yet.
//!
//! The batch itself says it where `OpenAI`'s form is spoken (`usage` and `model`,
//! platform.openai.com/docs/api-reference/batch/object) and at Cohere (docs.cohere.com/reference/get-batch). Where a server leaves that
//! out, at Anthropic (docs.anthropic.com/en/api/retrieving-message-batch-results) and at Google (ai.google.dev/gemini-api/docs/batch-api,
//! where a batch may have its results in it), it is added up from its results.

mod told;

use std::sync::Arc;

use base::Money;
use bytes::Bytes;
use config::ProviderDialect;
use http::Method;
use llm::Usage;
use serde_json::Value;
use store::StoredObject;

use self::told::{Counted, Ended};
use crate::Reservation;
use crate::budget::{Place, Quote, Spent};
use crate::metrics::Label;
use crate::objects::{self, google};
use crate::problem::Refusal;
use crate::settle::Receipt;
use crate::snapshot::Provider;

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
        if method != Method::GET {
            return None;
        }
        if dialect == ProviderDialect::Gemini {
            return Self::of_google(below);
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

    /// A batch, or a file that is downloaded: `/batches/b`, `/files/f:download`.
    fn of_google(below: &'a str) -> Option<Self> {
        let name = google::key(below)?;
        let path = below.trim_end_matches('/');
        let (collection, _) = name.split_once('/')?;
        if collection.eq_ignore_ascii_case("batches") && path.ends_with(name) {
            return Some(Self::Batch(name));
        }
        let content = path.ends_with(":download") || path.ends_with("/content");
        (collection.eq_ignore_ascii_case("files") && content).then_some(Self::File(name))
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
    let google = provider.dialect == ProviderDialect::Gemini;
    let begins = if google {
        [":batchGenerateContent", ":asyncBatchEmbedContent"].iter().any(|call| path.ends_with(call))
            || path.eq_ignore_ascii_case("openai/batches")
    } else {
        ["batches", "messages/batches"].iter().any(|known| path.eq_ignore_ascii_case(known))
    };
    if !begins {
        return Ok(());
    }
    let made = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let id = made.get("id").or_else(|| made.get("name").filter(|_| google)).or_else(|| made.get("batch")?.get("id"));
    let Some(id) = id.and_then(Value::as_str) else { return Ok(()) };
    let id = if google { google::key(id).unwrap_or(id) } else { id };
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
        Tells::Batch(_) => match Ended::of(provider.dialect, answer) {
            None => return Ok(()),
            Some(Ended::Took(counted)) => (counted, None),
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

#[cfg(test)]
mod tests {
    use super::*;

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
        let google = |below| Tells::of(ProviderDialect::Gemini, (&Method::GET, below));
        assert_eq!(google("/batches/b1"), Some(Tells::Batch("batches/b1")));
        assert_eq!(google("/openai/batches/batches/b1"), Some(Tells::Batch("batches/b1")));
        assert_eq!(google("/files/batch-b1:download"), Some(Tells::File("files/batch-b1")));
        for other in ["/batches", "/files/batch-b1", "/batches/b1:cancel", "/models/m", "/batches/b1/operations/x"] {
            assert_eq!(google(other), None, "{other}");
        }
        assert_eq!(Tells::of(ProviderDialect::Cohere, (&Method::GET, "/batches/b1")), Some(Tells::Batch("b1")));
    }
}
