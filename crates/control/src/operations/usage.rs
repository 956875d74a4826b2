//! What requests took and cost, and prices that were corrected.

use std::collections::BTreeMap;
use std::sync::Arc;

use base::{Money, Name, Timestamp};
use config::Config;
use llm::catalogue::Figures;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use store::{Basis, Bucket, Correction, Dimension, Ratable, UsageFilter, UsageRow, UsageSums};

use super::{OperationError, Operations};

/// How many records are looked at in one transaction.
const STEP: u32 = 250;
/// How many steps of one call: a call of any length would be cut by somebody's patience.
const STEPS: usize = 20;

/// Usage of one group.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct UsageView {
    /// When its period begins (RFC 3339), where periods are asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// The client that called; empty: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The configured name of the issuer that vouched for the caller.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The subject it called for: told apart by their issuers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The id of the Vouchgate key it used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<String>,
    /// The model asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The provider that answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// The policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// The service or upstream asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// A tag of the policy that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// How many requests.
    pub requests: i64,
    /// Of them, those that failed or were refused.
    pub failed: i64,
    /// What they cost, corrections included.
    pub cost: String,
    /// The same in nano-USD.
    pub cost_nano_usd: i64,
    /// What was charged when they were made, in nano-USD.
    pub charged_nano_usd: i64,
    /// What corrections add to that, in nano-USD.
    pub correction_nano_usd: i64,
    /// Of the requests, those whose cost is an estimate: their provider did not say all they took.
    pub estimated: i64,
    /// Of the requests, those whose provider counted more than was possible.
    pub clamped: i64,
    /// Of the requests, those whose price is not known; they are in no cost.
    pub unpriced: i64,
    /// Tokens in.
    pub input_tokens: i64,
    /// Of the tokens in, those read from a provider's cache.
    pub cached_tokens: i64,
    /// Of the tokens in, those written into one.
    pub cache_write_tokens: i64,
    /// Tokens out, those of reasoning included.
    pub output_tokens: i64,
    /// Tokens of reasoning.
    pub reasoning_tokens: i64,
    /// Of the tokens in, those of sound.
    pub audio_input_tokens: i64,
    /// Of the tokens out, those of sound.
    pub audio_output_tokens: i64,
    /// Sound heard, in milliseconds.
    pub audio_ms: i64,
    /// Pictures made.
    pub images: i64,
    /// How long the requests took together, in milliseconds.
    pub duration_ms: i64,
}

/// The columns of usage as CSV, after those it is counted by.
pub const USAGE_COLUMNS: &[&str] = &[
    "requests",
    "failed",
    "cost",
    "cost_nano_usd",
    "charged_nano_usd",
    "correction_nano_usd",
    "estimated",
    "clamped",
    "unpriced",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "audio_ms",
    "images",
    "duration_ms",
];

/// Usage as it was asked for.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UsageList {
    /// When the first period begins that counts (RFC 3339): sums are of whole hours or days.
    pub since: Option<String>,
    /// The groups: by period, then the dearest first.
    pub items: Vec<UsageView>,
    /// The sums over all groups, also those of other pages.
    pub total: UsageView,
    /// Where the next page begins.
    pub next_cursor: Option<String>,
}

/// Which usage, and how it is counted.
#[derive(Debug, Clone, Default)]
pub struct UsageQuestion {
    /// Of which requests.
    pub filter: UsageFilter,
    /// Counted by these.
    pub by: Vec<Dimension>,
    /// And by these periods.
    pub bucket: Option<Bucket>,
}

/// Compute costs anew by the prices that are in force now.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RerateUsage {
    /// Of requests since then: how long ago (`24h`), a moment (RFC 3339), or seconds since 1970.
    pub since: String,
    /// Of requests before then, written likewise; absent: up to now.
    pub until: Option<String>,
    /// Only of this provider.
    #[schemars(with = "Option<String>")]
    pub provider: Option<Name>,
    /// Only tell what would change.
    #[serde(default)]
    pub dry_run: bool,
    /// The `next` of the answer before, to go on.
    pub after: Option<i64>,
    /// The `run` of the answer before, so that all corrections have one name.
    pub run: Option<String>,
}

/// What came of it.
#[derive(Debug, Serialize, JsonSchema)]
pub struct RerateView {
    /// The name of these corrections.
    pub run: String,
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// How many records were looked at.
    pub looked_at: u64,
    /// Of them, those whose cost has changed.
    pub changed: u64,
    /// Of them, those for which no price is known now; they stay as they were.
    pub no_price: u64,
    /// What the costs change by together, in nano-USD.
    pub difference_nano_usd: i64,
    /// By provider and the provider's model, those that change.
    pub models: Vec<RerateModel>,
    /// Where to go on: there may be more; absent: that was all.
    pub next: Option<i64>,
}

/// What changes for one model.
#[derive(Debug, Clone, Default, Serialize, JsonSchema)]
pub struct RerateModel {
    /// The provider.
    pub provider: String,
    /// The provider's model.
    pub model: String,
    /// How many requests change.
    pub requests: u64,
    /// What they cost before, in nano-USD.
    pub before_nano_usd: i64,
    /// What they cost from now on, in nano-USD.
    pub after_nano_usd: i64,
    /// The price that counts from now on.
    pub price: Option<String>,
}

/// What is known of a model of a provider under a configuration: what it costs.
pub type FiguresOf = fn(&Config, &Name, &str) -> Option<Figures>;

impl Operations {
    /// Usage, `limit` groups from the `from`th on.
    pub async fn usage(&self, asked: &UsageQuestion, (from, limit): (u32, u32)) -> Result<UsageList, OperationError> {
        let table = self.store.usage().table(&asked.filter, (&asked.by, asked.bucket), (from, limit)).await?;
        Ok(UsageList {
            since: table.since.map(Timestamp::rfc3339),
            items: table.rows.iter().map(view).collect(),
            total: sums(&table.total),
            next_cursor: table.next.map(|next| next.to_string()),
        })
    }

    /// Compute costs of recorded requests anew, a part at a time. Records stay as they are; corrections are entries beside them,
    /// and budgets keep what was charged.
    pub async fn rerate(&self, asked: &RerateUsage, by: &str) -> Result<RerateView, OperationError> {
        let since = self.moment("since", &asked.since)?;
        let until = asked.until.as_deref().map(|until| self.moment("until", until)).transpose()?;
        let run = match &asked.run {
            Some(run) if run.len() <= 64 && run.starts_with("run_") => run.clone(),
            Some(_) => return Err(OperationError::value("run", "the run of the answer before")),
            None => self.store.new_run(),
        };
        let file = self.file();
        let config = self.merged_config(&file).await?.map_err(OperationError::Faults)?;
        let mut prices = Prices { config: &config, figures: self.figures, known: BTreeMap::new() };
        let mut view = RerateView {
            run,
            dry_run: asked.dry_run,
            looked_at: 0,
            changed: 0,
            no_price: 0,
            difference_nano_usd: 0,
            models: Vec::new(),
            next: asked.after,
        };
        let mut models: BTreeMap<(String, String), RerateModel> = BTreeMap::new();
        for _ in 0..STEPS {
            let after = view.next.unwrap_or(i64::MIN);
            let part = self.store.usage().ratable((since, until), asked.provider.as_ref(), (after, STEP)).await?;
            let last = part.last().map(|of| of.seq);
            let is_last = part.len() < STEP as usize;
            view.looked_at += part.len() as u64;
            let mut corrections = Vec::new();
            for of in part {
                match prices.rated(&of) {
                    None => view.no_price += 1,
                    Some((rated, price)) => {
                        let correction = Correction { of, rated, price };
                        if correction.added() != 0 || correction.of.cost.is_none() {
                            add(&mut view, &mut models, &correction);
                            corrections.push(correction);
                        }
                    }
                }
            }
            if !asked.dry_run && !corrections.is_empty() {
                self.store.usage().correct(&view.run, by, corrections).await?;
            }
            view.next = last.filter(|_| !is_last);
            if is_last {
                break;
            }
        }
        view.models = models.into_values().collect();
        Ok(view)
    }

    fn moment(&self, param: &'static str, text: &str) -> Result<Timestamp, OperationError> {
        crate::moment(text, self.clock.now()).ok_or_else(|| OperationError::value(param, crate::MOMENTS))
    }
}

fn add(view: &mut RerateView, models: &mut BTreeMap<(String, String), RerateModel>, correction: &Correction) {
    let record = &correction.of.record;
    let provider = record.provider.as_ref().map(ToString::to_string).unwrap_or_default();
    let model = record.charge.provider_model.as_deref().unwrap_or_default().to_owned();
    view.changed += 1;
    view.difference_nano_usd = view.difference_nano_usd.saturating_add(correction.added());
    let sum = models.entry((provider.clone(), model.clone())).or_default();
    (sum.provider, sum.model) = (provider, model);
    sum.requests += 1;
    sum.before_nano_usd = sum.before_nano_usd.saturating_add(correction.of.cost.unwrap_or(0));
    sum.after_nano_usd = sum.after_nano_usd.saturating_add(correction.cost());
    sum.price = correction.price.as_deref().map(str::to_owned);
}

/// Prices of models, each looked up once.
struct Prices<'a> {
    config: &'a Config,
    figures: FiguresOf,
    known: BTreeMap<(Name, Arc<str>), Option<Figures>>,
}

/// How many models are kept: a provider's models are named by callers too.
const KNOWN: usize = 10_000;

impl Prices<'_> {
    /// What a record's usage costs now, and by which price. `None`: no price is known.
    fn rated(&mut self, of: &Ratable) -> Option<(i64, Option<Arc<str>>)> {
        let (provider, model) = (of.record.provider.clone()?, of.record.charge.provider_model.clone()?);
        if self.known.len() >= KNOWN {
            self.known.clear();
        }
        let (config, figures) = (self.config, self.figures);
        let known = self.known.entry((provider, model));
        let known = known.or_insert_with_key(|(provider, model)| figures(config, provider, model));
        let figures = known.as_ref()?;
        let cost = cost(figures, of)?;
        Some((i64::try_from(cost.nano_usd()).ok()?, figures.price_version().map(Arc::from)))
    }
}

/// What the usage of a record costs, as the data plane computes it when a request ends.
fn cost(figures: &Figures, of: &Ratable) -> Option<Money> {
    let (record, charge) = (&of.record, &of.record.charge);
    let besides = figures.charges.request;
    let zero = || besides.unwrap_or(Money::ZERO);
    let usage = llm::Usage {
        input_tokens: record.input_tokens,
        output_tokens: record.output_tokens,
        cache_read_tokens: record.cached_tokens,
        cache_write_tokens: charge.cache_write_tokens,
        reasoning_tokens: charge.reasoning_tokens,
        audio_input_tokens: charge.audio_input_tokens,
        audio_output_tokens: charge.audio_output_tokens,
        ..llm::Usage::default()
    };
    match charge.basis? {
        Basis::Request => besides,
        Basis::Heard => plus(zero(), figures.charges.heard(charge.audio_ms?)?, 1),
        Basis::Tokens { factor, long_cache } => match &figures.price {
            Some(price) if long_cache => plus(zero(), price.long_cache().cost(&usage)?, factor),
            Some(price) => plus(zero(), price.cost(&usage)?, factor),
            None => besides,
        },
    }
}

fn plus(besides: Money, cost: Money, factor: u32) -> Option<Money> {
    let all = cost.nano_usd().checked_mul(i128::from(factor))?.checked_add(besides.nano_usd())?;
    Some(Money::from_nano_usd(all))
}

fn view(row: &UsageRow) -> UsageView {
    let of = |name: &str| row.of.iter().find(|(known, _)| *known == name).map(|(_, value)| value.clone());
    UsageView {
        start: row.start.map(Timestamp::rfc3339),
        client: of("client"),
        issuer: of("issuer"),
        subject: of("subject"),
        api_key: of("api_key"),
        model: of("model"),
        provider: of("provider"),
        policy: of("policy"),
        service: of("service"),
        tag: of("tag"),
        ..sums(&row.sums)
    }
}

fn sums(sums: &UsageSums) -> UsageView {
    let cost = sums.cost.saturating_add(sums.correction);
    UsageView {
        requests: sums.requests,
        failed: sums.failed,
        cost: Money::from_nano_usd(i128::from(cost)).to_string(),
        cost_nano_usd: cost,
        charged_nano_usd: sums.cost,
        correction_nano_usd: sums.correction,
        estimated: sums.estimated,
        clamped: sums.clamped,
        unpriced: sums.unpriced,
        input_tokens: sums.input_tokens,
        cached_tokens: sums.cached_tokens,
        cache_write_tokens: sums.cache_write_tokens,
        output_tokens: sums.output_tokens,
        reasoning_tokens: sums.reasoning_tokens,
        audio_input_tokens: sums.audio_input_tokens,
        audio_output_tokens: sums.audio_output_tokens,
        audio_ms: sums.audio_ms,
        images: sums.images,
        duration_ms: sums.duration_ms,
        ..UsageView::default()
    }
}
