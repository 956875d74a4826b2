//! Sums as they are asked for.

use std::fmt::Write;
use std::time::Duration;

use base::Timestamp;

use super::{DAY, HOUR, Usage};
use crate::StoreError;
use crate::engine::{Row, Statement, Text, Value, first};

/// What usage is counted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dimension {
    /// The client that called.
    Client,
    /// The subject it called for: the pair of issuer and subject.
    Subject,
    /// The Vouchgate key it used, by id.
    ApiKey,
    /// The model asked for.
    Model,
    /// The provider that answered.
    Provider,
    /// The policy that decided.
    Policy,
    /// The service or upstream asked for.
    Service,
    /// What the caller said it is for; requests with several count under each, those without under none.
    Tag,
    /// The issuer that vouched for the caller.
    Issuer,
}

impl Dimension {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Client,
        Self::Subject,
        Self::ApiKey,
        Self::Model,
        Self::Provider,
        Self::Policy,
        Self::Service,
        Self::Tag,
        Self::Issuer,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Subject => "subject",
            Self::ApiKey => "api_key",
            Self::Model => "model",
            Self::Provider => "provider",
            Self::Policy => "policy",
            Self::Service => "service",
            Self::Tag => "tag",
            Self::Issuer => "issuer",
        }
    }

    /// The one of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|dimension| dimension.as_str() == name)
    }

    /// The columns it is, each with its name.
    const fn columns(self) -> &'static [&'static str] {
        match self {
            Self::Subject => &["issuer", "subject"],
            Self::Client => &["client"],
            Self::ApiKey => &["api_key"],
            Self::Model => &["model"],
            Self::Provider => &["provider"],
            Self::Policy => &["policy"],
            Self::Service => &["service"],
            Self::Tag => &["tag"],
            Self::Issuer => &["issuer"],
        }
    }
}

/// How long the periods are that usage is told by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bucket {
    /// An hour.
    Hour,
    /// A day (UTC).
    Day,
}

impl Bucket {
    const fn span(self) -> i64 {
        match self {
            Self::Hour => HOUR,
            Self::Day => DAY,
        }
    }
}

/// Which usage; absent fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageFilter {
    /// From the period on that this moment is in.
    pub since: Option<Timestamp>,
    /// Before this moment: periods that begin earlier.
    pub until: Option<Timestamp>,
    /// Only where each of these is exactly that.
    pub only: Vec<(Dimension, String)>,
}

/// Sums over requests. Amounts are in nano-USD.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageSums {
    /// How many.
    pub requests: i64,
    /// Of them, those that failed or were refused.
    pub failed: i64,
    /// Of them, those whose price is not known.
    pub unpriced: i64,
    /// Of them, those whose cost is an estimate.
    pub estimated: i64,
    /// Of them, those whose provider counted more than was possible.
    pub clamped: i64,
    /// Tokens in.
    pub input_tokens: i64,
    /// Of the tokens in, those read from a provider's cache.
    pub cached_tokens: i64,
    /// Of the tokens in, those written into one.
    pub cache_write_tokens: i64,
    /// Tokens out, as providers count them.
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
    /// How long they took together, in milliseconds.
    pub duration_ms: i64,
    /// What was charged.
    pub cost: i64,
    /// What corrections add to that.
    pub correction: i64,
}

/// The columns of [`UsageSums`], in its order.
pub(super) const SUMS: [&str; 17] = [
    "requests",
    "failed",
    "unpriced",
    "estimated",
    "clamped",
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
    "cost",
    "correction",
];

impl UsageSums {
    pub(super) fn values(&self) -> [i64; SUMS.len()] {
        [
            self.requests,
            self.failed,
            self.unpriced,
            self.estimated,
            self.clamped,
            self.input_tokens,
            self.cached_tokens,
            self.cache_write_tokens,
            self.output_tokens,
            self.reasoning_tokens,
            self.audio_input_tokens,
            self.audio_output_tokens,
            self.audio_ms,
            self.images,
            self.duration_ms,
            self.cost,
            self.correction,
        ]
    }

    fn fields(&mut self) -> [&mut i64; SUMS.len()] {
        [
            &mut self.requests,
            &mut self.failed,
            &mut self.unpriced,
            &mut self.estimated,
            &mut self.clamped,
            &mut self.input_tokens,
            &mut self.cached_tokens,
            &mut self.cache_write_tokens,
            &mut self.output_tokens,
            &mut self.reasoning_tokens,
            &mut self.audio_input_tokens,
            &mut self.audio_output_tokens,
            &mut self.audio_ms,
            &mut self.images,
            &mut self.duration_ms,
            &mut self.cost,
            &mut self.correction,
        ]
    }

    pub(super) fn add(&mut self, more: &Self) {
        for (sum, more) in self.fields().into_iter().zip(more.values()) {
            *sum = sum.saturating_add(more);
        }
    }

    fn read(row: &mut Row) -> Result<Self, StoreError> {
        let mut sums = Self::default();
        for field in sums.fields() {
            *field = row.take::<Option<i64>>()?.unwrap_or(0);
        }
        Ok(sums)
    }
}

/// The sums of one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageRow {
    /// When its period begins, where periods are told apart.
    pub start: Option<Timestamp>,
    /// What it is the sum of: each with its name; empty text: requests that have none.
    pub of: Vec<(&'static str, String)>,
    /// The sums.
    pub sums: UsageSums,
}

/// Usage, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageTable {
    /// When the first period begins that counts; absent: with the first there is.
    pub since: Option<Timestamp>,
    /// The groups: by period, then the dearest first.
    pub rows: Vec<UsageRow>,
    /// Where the next rows begin; absent: these were the last.
    pub next: Option<u32>,
    /// The sums over everything the filter lets through, each request once: also where groups by tag count one with two tags twice,
    /// and one without tags in none. Where the filter itself names tags, a request counts under each of them.
    pub total: UsageSums,
}

/// The longest range that is summed up from hours where nobody asks for periods.
const BY_HOURS: Duration = Duration::from_hours(31 * 24);

impl Usage<'_> {
    /// Usage by these dimensions, `limit` groups (1 to 10,000) from the `from`th on.
    pub async fn table(
        self,
        filter: &UsageFilter,
        (by, bucket): (&[Dimension], Option<Bucket>),
        (from, limit): (u32, u32),
    ) -> Result<UsageTable, StoreError> {
        let span = bucket.map_or_else(|| self.span(filter), Bucket::span);
        let mut groups: Vec<&'static str> = Vec::new();
        for column in by.iter().flat_map(|dimension| dimension.columns()) {
            if !groups.contains(column) {
                groups.push(column);
            }
        }
        let limit = limit.clamp(1, 10_000);
        let only_tagged = filter.only.iter().any(|(only, _)| *only == Dimension::Tag);
        let tagged = only_tagged || by.contains(&Dimension::Tag);
        let mut columns: Vec<&str> = groups.clone();
        if bucket.is_some() {
            columns.insert(0, "start");
        }
        let (mut select, mut bounds) = self.select(filter, (span, tagged), &columns);
        let by_cost = "SUM(cost + correction) DESC, SUM(requests) DESC";
        let order = match (columns.as_slice(), bucket) {
            ([], _) => String::new(),
            (all, None) => format!(" GROUP BY {0} ORDER BY {by_cost}, {0}", all.join(", ")),
            (all, Some(_)) => format!(" GROUP BY {0} ORDER BY start, {by_cost}, {0}", all.join(", ")),
        };
        let at = bounds.len();
        let _ = write!(select, "{order} LIMIT ${} OFFSET ${}", at + 1, at + 2);
        bounds.extend([Value::from(i64::from(limit) + 1), Value::from(i64::from(from))]);
        let read = |mut row: Row| {
            let start = if bucket.is_some() { Some(row.take()?) } else { None };
            let of = groups.iter().map(|name| Ok((*name, row.take::<String>()?))).collect::<Result<_, StoreError>>()?;
            Ok(UsageRow { start, of, sums: UsageSums::read(&mut row)? })
        };
        let mut rows = self.0.read(statement(select, bounds), read).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let (select, bounds) = self.select(filter, (span, only_tagged), &[]);
        let total = first(self.0.fetch(statement(select, bounds)).await?);
        let total = total.map(|mut row| UsageSums::read(&mut row)).transpose()?.unwrap_or_default();
        let since = filter.since.map(|since| Timestamp::from_millis(super::rollup::start_of(since, span)));
        Ok(UsageTable { since, rows, next: more.then(|| from.saturating_add(limit)), total })
    }

    /// Forget sums of hours from before one moment and of days from before another, up to `limit` of each; how many there were.
    pub async fn delete_before(self, hours: Timestamp, days: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = |span: i64, before: Timestamp| {
            self.0
                .sql(
                    "DELETE FROM usage_rollups WHERE tenant = $1 AND span = $2 AND start < $3 AND key IN
                     (SELECT key FROM usage_rollups WHERE tenant = $1 AND span = $2 AND start < $3 LIMIT $4)",
                )
                .bind(span)
                .bind(before)
                .bind(i64::from(limit))
        };
        let corrections = self
            .0
            .sql(
                "DELETE FROM usage_corrections WHERE tenant = $1 AND made_at < $2 AND record IN
                 (SELECT record FROM usage_corrections WHERE tenant = $1 AND made_at < $2 LIMIT $3)",
            )
            .bind(days)
            .bind(i64::from(limit));
        let all = [delete(HOUR, hours), delete(DAY, days), corrections];
        self.0
            .write(move |tx| {
                Box::pin(async move {
                    let mut deleted = 0;
                    for statement in all {
                        deleted = tx.execute(statement).await?.max(deleted);
                    }
                    Ok(deleted)
                })
            })
            .await
    }

    /// The shortest periods that still tell a range of this length.
    fn span(self, filter: &UsageFilter) -> i64 {
        let until = filter.until.unwrap_or_else(|| self.0.now());
        match filter.since {
            Some(since) if since >= until.minus(BY_HOURS) && since >= self.0.now().minus(2 * BY_HOURS) => HOUR,
            _ => DAY,
        }
    }

    /// The beginning of a statement, and the values it has so far.
    fn select(self, filter: &UsageFilter, (span, tagged): (i64, bool), columns: &[&str]) -> (String, Vec<Value>) {
        let mut text = String::from("SELECT ");
        for column in columns {
            text.push_str(column);
            text.push_str(", ");
        }
        for (index, column) in SUMS.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}CAST(SUM({column}) AS BIGINT)");
        }
        text.push_str(" FROM usage_rollups WHERE tenant = $1 AND span = $2 AND start >= $3 AND start < $4");
        text.push_str(if tagged { " AND tag <> ''" } else { " AND tag = ''" });
        let since = filter.since.map_or(i64::MIN, |since| super::rollup::start_of(since, span));
        let until = filter.until.map_or(i64::MAX, Timestamp::as_millis);
        let mut values =
            vec![Value::from(self.0.tenant().as_str()), Value::from(span), Value::from(since), Value::from(until)];
        for (dimension, value) in &filter.only {
            values.push(Value::from(value.as_str()));
            let column = if *dimension == Dimension::Subject { "subject" } else { dimension.as_str() };
            let _ = write!(text, " AND {column} = ${}", values.len());
        }
        (text, values)
    }
}

fn statement(text: String, values: Vec<Value>) -> Statement {
    Statement { sql: Text::Made(text.into()), values, lock: None }
}
