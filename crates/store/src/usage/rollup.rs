//! Records added up: into which rows, and by which statement.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::digest;
use base::{Tenant, Timestamp};

use super::read::{SUMS, UsageSums};
use super::{DAY, HOUR};
use crate::engine::{Statement, Text, Value};
use crate::records::{Entry, Placeholder, cut};
use crate::{Charge, RequestRecord};

/// The most tokens, milliseconds or pictures of one record that are added: more is no count, and sums must not run over.
const MOST: u64 = 1_000_000_000_000;
/// The most nano-USD of one record that are added.
const MOST_COST: i64 = 1_000_000_000_000_000;
/// The most tags of one record that it is counted under.
const MOST_TAGS: usize = 8;
/// Rows per statement, largest first: a few fixed sizes, because each is prepared once and kept.
const ROWS: [usize; 3] = [32, 8, 1];
/// Columns of a row before its sums.
const KEYS: usize = 13;

/// What a row is counted by, in the order of the table's columns.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    tenant: String,
    span: i64,
    start: i64,
    hash: [u8; 32],
    parts: [String; 9],
}

impl Key {
    fn new(tenant: &Tenant, (span, start): (i64, i64), parts: [&str; 9]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&span.to_be_bytes());
        context.update(&start.to_be_bytes());
        for part in &parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut hash = [0; 32];
        hash.copy_from_slice(context.finish().as_ref());
        Self { tenant: tenant.as_str().to_owned(), span, start, hash, parts: parts.map(str::to_owned) }
    }
}

/// Rows to be added to those there are.
#[derive(Debug, Default)]
pub(super) struct Rows(BTreeMap<Key, UsageSums>);

impl Rows {
    /// Count sums under everything a record is counted under.
    pub(super) fn add(&mut self, tenant: &Tenant, record: &RequestRecord, sums: &UsageSums) {
        let charge = &record.charge;
        let mut tags: Vec<&str> = charge.tags.iter().map(|tag| &**tag).filter(|tag| !tag.is_empty()).collect();
        tags.truncate(MOST_TAGS);
        tags.sort_unstable();
        tags.dedup();
        for span in [HOUR, DAY] {
            let start = start_of(record.at, span);
            for tag in std::iter::once("").chain(tags.iter().copied()) {
                let key = Key::new(tenant, (span, start), parts(record, tag));
                self.0.entry(key).or_default().add(sums);
            }
        }
    }

    /// The statements that add them, in one order, so that no two nodes wait for each other.
    pub(super) fn statements(self, placeholder: Placeholder) -> Vec<Statement> {
        let rows: Vec<(Key, UsageSums)> = self.0.into_iter().collect();
        let (mut statements, mut rest) = (Vec::new(), rows.as_slice());
        for size in ROWS {
            while let Some((part, more)) = rest.split_at_checked(size) {
                statements.push(upsert(part, placeholder));
                rest = more;
            }
        }
        statements
    }
}

/// The statements that add these records to the sums.
pub(crate) fn upserts(records: &[Entry], placeholder: Placeholder) -> Vec<Statement> {
    // Of the many of a busy moment most are alike: they are added up before their rows are named.
    let mut alike: HashMap<Alike<'_>, (&Entry, UsageSums)> = HashMap::new();
    // One caller's often come in a row, and say the same by the same texts: then there is nothing to look up.
    let mut run: Option<(Alike<'_>, &Entry, UsageSums)> = None;
    for entry in records {
        let (tenant, record) = entry;
        let key =
            Alike { tenant, start: start_of(record.at, HOUR), parts: parts(record, ""), tags: &record.charge.tags };
        let more = sums(record);
        if let Some((_, _, sums)) = run.as_mut().filter(|(last, ..)| last.is_plainly(&key)) {
            sums.add(&more);
        } else if let Some((key, entry, sums)) = run.replace((key, entry, more)) {
            alike.entry(key).or_insert_with(|| (entry, UsageSums::default())).1.add(&sums);
        }
    }
    if let Some((key, entry, sums)) = run {
        alike.entry(key).or_insert_with(|| (entry, UsageSums::default())).1.add(&sums);
    }
    let mut rows = Rows::default();
    for ((tenant, record), sums) in alike.into_values() {
        rows.add(tenant, record, &sums);
    }
    rows.statements(placeholder)
}

/// What records have in common that are counted in the same rows.
#[derive(PartialEq, Eq, Hash)]
struct Alike<'a> {
    tenant: &'a Tenant,
    /// The hour they are of, and so the day.
    start: i64,
    parts: [&'a str; 9],
    tags: &'a [Arc<str>],
}

impl Alike<'_> {
    /// Whether they are the same by where their texts are: where not, they may be the same all the same.
    fn is_plainly(&self, other: &Self) -> bool {
        let same = |(one, other): (&&str, &&str)| std::ptr::eq(*one, *other);
        self.start == other.start
            && self.parts.iter().zip(&other.parts).all(same)
            && self.tags == other.tags
            && self.tenant == other.tenant
    }
}

/// What one record adds.
pub(super) fn sums(record: &RequestRecord) -> UsageSums {
    let charge = &record.charge;
    let count = |count: Option<u64>| i64::try_from(count.unwrap_or(0).min(MOST)).unwrap_or(0);
    UsageSums {
        requests: 1,
        failed: i64::from(record.status >= 400 || record.error.is_some()),
        unpriced: i64::from(is_unpriced(charge)),
        estimated: i64::from(charge.estimated),
        clamped: i64::from(charge.clamped),
        input_tokens: count(record.input_tokens),
        cached_tokens: count(record.cached_tokens),
        cache_write_tokens: count(charge.cache_write_tokens),
        output_tokens: count(record.output_tokens),
        reasoning_tokens: count(charge.reasoning_tokens),
        audio_input_tokens: count(charge.audio_input_tokens),
        audio_output_tokens: count(charge.audio_output_tokens),
        audio_ms: count(charge.audio_ms),
        images: count(charge.images),
        duration_ms: count(Some(record.duration_ms)),
        cost: within(charge.cost.unwrap_or(0)),
        correction: 0,
    }
}

/// An amount as sums hold it.
pub(super) fn within(amount: i64) -> i64 {
    amount.clamp(-MOST_COST, MOST_COST)
}

/// Whether a provider did something whose price nobody knows.
pub(super) fn is_unpriced(charge: &Charge) -> bool {
    charge.cost.is_none() && charge.provider_model.is_some()
}

/// When the period of this length begins that a moment is in (milliseconds).
pub(super) fn start_of(at: Timestamp, span: i64) -> i64 {
    let length = span * 1000;
    at.as_millis().div_euclid(length).saturating_mul(length)
}

fn parts<'a>(record: &'a RequestRecord, tag: &'a str) -> [&'a str; 9] {
    fn name(name: Option<&base::Name>) -> &str {
        name.map(base::Name::as_str).unwrap_or_default()
    }
    fn text(text: Option<&str>) -> &str {
        text.map(cut).unwrap_or_default()
    }
    let charge = &record.charge;
    // Callers may make up names without end; they count once something came of one.
    let came_of_it = charge.is_named || record.status < 400 || charge.cost.is_some_and(|cost| cost > 0);
    [
        name(record.issuer.as_ref()),
        text(record.client.as_deref()),
        text(record.subject.as_deref()),
        text(record.api_key.as_deref()),
        text(record.model.as_deref().filter(|_| came_of_it)),
        name(record.provider.as_ref()),
        name(record.policy.as_ref()),
        text(charge.service.as_deref()),
        cut(tag),
    ]
}

fn upsert(rows: &[(Key, UsageSums)], placeholder: Placeholder) -> Statement {
    let columns = KEYS + SUMS.len();
    let mut text = String::from(
        "INSERT INTO usage_rollups (tenant, span, start, key, issuer, client, subject, api_key, model, provider, policy, \
         service, tag, ",
    );
    text.push_str(&SUMS.join(", "));
    text.push_str(") VALUES ");
    for row in 0..rows.len() {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=columns {
            text.push_str(if column == 1 { "" } else { ", " });
            placeholder(&mut text, row * columns + column);
        }
        text.push(')');
    }
    text.push_str(" ON CONFLICT (tenant, span, start, key) DO UPDATE SET ");
    for (index, column) in SUMS.iter().enumerate() {
        let comma = if index == 0 { "" } else { ", " };
        let _ = write!(text, "{comma}{column} = usage_rollups.{column} + excluded.{column}");
    }
    let values = rows.iter().flat_map(|(key, sums)| {
        let own =
            [Value::from(key.tenant.as_str()), Value::from(key.span), Value::from(key.start), Value::from(key.hash)];
        let parts = key.parts.iter().map(|part| Value::from(part.as_str()));
        own.into_iter().chain(parts).chain(sums.values().map(Value::from)).collect::<Vec<_>>()
    });
    Statement { sql: Text::Made(text.into()), values: values.collect(), lock: None }
}
