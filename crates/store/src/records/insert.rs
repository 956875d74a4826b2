//! Records into the database, many by one statement.
//!
//! What is bound is what costs, and of most requests half of the columns say nothing: a statement names those that have said
//! something since the start, the others are `NULL` by themselves.

use std::sync::Arc;

use base::{Name, Tenant};

use super::{Entry, MAX_TEXT, RequestRecord, cut};
use crate::engine::{Statement, Text, Value};
use crate::usage::Basis;

/// What the n-th placeholder is called, counted from 1.
pub(crate) type Placeholder = fn(&mut String, usize);

/// A column: its name, whether nearly every record says something in it, and what one says.
type Column = (&'static str, bool, fn(&Tenant, &RequestRecord, &mut Repeated) -> Value);

const COLUMNS: [Column; 37] = [
    ("tenant", true, |tenant, _, _| Value::Shared(tenant.to_shared())),
    ("at", true, |_, record, _| record.at.into()),
    ("request_id", true, |_, record, _| Value::Shared(record.request_id.as_str().into())),
    ("endpoint", true, |_, record, repeated| repeated.endpoint(&record.endpoint)),
    ("policy", true, |_, record, _| name(record.policy.as_ref())),
    ("issuer", true, |_, record, _| name(record.issuer.as_ref())),
    ("client", true, |_, record, _| text(record.client.as_ref())),
    ("subject", true, |_, record, _| text(record.subject.as_ref())),
    ("api_key", false, |_, record, _| text(record.api_key.as_ref())),
    ("model", true, |_, record, _| text(record.model.as_ref())),
    ("provider", true, |_, record, _| name(record.provider.as_ref())),
    ("status", true, |_, record, _| record.status.into()),
    ("error", false, |_, record, _| record.error.as_deref().map(cut).into()),
    ("input_tokens", true, |_, record, _| record.input_tokens.into()),
    ("output_tokens", true, |_, record, _| record.output_tokens.into()),
    ("cached_tokens", false, |_, record, _| record.cached_tokens.into()),
    ("duration_ms", true, |_, record, _| record.duration_ms.into()),
    ("ttft_ms", true, |_, record, _| record.ttft_ms.into()),
    ("stream", true, |_, record, _| record.stream.into()),
    ("request_bytes", true, |_, record, _| record.request_bytes.into()),
    ("response_bytes", true, |_, record, _| record.response_bytes.into()),
    ("cache", false, |_, record, _| record.cache.as_deref().map(cut).into()),
    ("cache_similarity", false, |_, record, _| record.cache_similarity.into()),
    ("provider_model", true, |_, record, _| text(record.charge.provider_model.as_ref())),
    ("service", false, |_, record, _| text(record.charge.service.as_ref())),
    ("tags", false, |_, record, _| record.charge.tags_text().into()),
    ("cache_write_tokens", false, |_, record, _| record.charge.cache_write_tokens.into()),
    ("reasoning_tokens", false, |_, record, _| record.charge.reasoning_tokens.into()),
    ("audio_input_tokens", false, |_, record, _| record.charge.audio_input_tokens.into()),
    ("audio_output_tokens", false, |_, record, _| record.charge.audio_output_tokens.into()),
    ("audio_ms", false, |_, record, _| record.charge.audio_ms.into()),
    ("images", false, |_, record, _| record.charge.images.into()),
    ("cost", true, |_, record, _| record.charge.cost.into()),
    ("cost_flags", true, |_, record, _| record.charge.flags().into()),
    ("rated", true, |_, record, _| record.charge.rated.into()),
    ("basis", true, |_, record, repeated| repeated.basis(record.charge.basis)),
    ("price", true, |_, record, _| text(record.charge.price.as_ref())),
];

/// How records are inserted. Kept from batch to batch: which columns are used settles soon, and each text is made once.
#[derive(Debug)]
pub(crate) struct Inserts {
    /// How many records a statement takes, largest first, down to one: a few fixed sizes, because each is prepared once and kept.
    sizes: &'static [usize],
    placeholder: Placeholder,
    /// Which columns are named.
    used: [bool; COLUMNS.len()],
    /// The text for each size, once it was needed.
    texts: Vec<Option<Arc<str>>>,
    repeated: Repeated,
}

impl Inserts {
    pub(crate) fn new(sizes: &'static [usize], placeholder: Placeholder) -> Self {
        let (used, texts) = (COLUMNS.map(|(_, usual, _)| usual), vec![None; sizes.len()]);
        Self { sizes, placeholder, used, texts, repeated: Repeated::default() }
    }

    /// The statement that inserts the first of `records`, and those it does not. `None`: there are none.
    pub(crate) fn next<'a>(&mut self, records: &'a [Entry]) -> Option<(Statement, &'a [Entry])> {
        let fits = |(at, size): (usize, &usize)| Some((at, records.split_at_checked(*size).filter(|_| *size > 0)?));
        let (at, (part, rest)) = self.sizes.iter().enumerate().find_map(fits)?;
        self.take_up(part);
        let columns = self.used.iter().filter(|used| **used).count();
        let mut values = Vec::with_capacity(part.len() * columns);
        for (tenant, record) in part {
            let named = COLUMNS.iter().zip(&self.used).filter(|(_, used)| **used);
            values.extend(named.map(|((_, _, value), _)| value(tenant, record, &mut self.repeated)));
        }
        Some((Statement { sql: Text::Made(self.text(at, part.len())), values, lock: None }, rest))
    }

    /// Name the columns too in which one of these says something.
    fn take_up(&mut self, records: &[Entry]) {
        for ((_, _, value), used) in COLUMNS.iter().zip(&mut self.used).filter(|(_, used)| !**used) {
            *used = records.iter().any(|(tenant, record)| !value(tenant, record, &mut self.repeated).is_null());
            if *used {
                self.texts.fill(None);
            }
        }
    }

    fn text(&mut self, at: usize, rows: usize) -> Arc<str> {
        let made = self.texts.get(at).and_then(Clone::clone);
        made.unwrap_or_else(|| {
            let text: Arc<str> = text_of(&self.used, rows, self.placeholder).into();
            if let Some(place) = self.texts.get_mut(at) {
                *place = Some(Arc::clone(&text));
            }
            text
        })
    }
}

fn text_of(used: &[bool], rows: usize, placeholder: Placeholder) -> String {
    let named: Vec<&str> = COLUMNS.iter().zip(used).filter(|(_, used)| **used).map(|((name, ..), _)| *name).collect();
    let mut text = format!("INSERT INTO request_records ({}) VALUES ", named.join(", "));
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 1..=named.len() {
            text.push_str(if column == 1 { "" } else { ", " });
            placeholder(&mut text, row * named.len() + column);
        }
        text.push(')');
    }
    text
}

/// Texts that are nearly always the same as that of the record before.
#[derive(Debug, Default)]
struct Repeated {
    endpoint: Option<Arc<str>>,
    basis: Option<(Basis, Arc<str>)>,
}

impl Repeated {
    fn endpoint(&mut self, endpoint: &str) -> Value {
        let endpoint = cut(endpoint);
        if self.endpoint.as_deref() != Some(endpoint) {
            self.endpoint = Some(endpoint.into());
        }
        self.endpoint.clone().map_or(Value::Text(None), Value::Shared)
    }

    fn basis(&mut self, basis: Option<Basis>) -> Value {
        let Some(basis) = basis else { return Value::Text(None) };
        if self.basis.as_ref().is_none_or(|(last, _)| *last != basis) {
            self.basis = Some((basis, basis.text().into()));
        }
        self.basis.as_ref().map_or(Value::Text(None), |(_, text)| Value::Shared(Arc::clone(text)))
    }
}

fn name(name: Option<&Name>) -> Value {
    name.map_or(Value::Text(None), |name| Value::Shared(name.to_shared()))
}

fn text(text: Option<&Arc<str>>) -> Value {
    match text {
        Some(text) if text.len() <= MAX_TEXT => Value::Shared(Arc::clone(text)),
        text => Value::from(text.map(|text| cut(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{RequestId, SeededRng, Timestamp};

    fn record() -> RequestRecord {
        RequestRecord {
            at: Timestamp::from_secs(1),
            request_id: RequestId::new(&SeededRng::new(1)),
            endpoint: "/v1/chat/completions".into(),
            policy: None,
            issuer: None,
            client: None,
            subject: None,
            api_key: None,
            model: None,
            provider: None,
            status: 200,
            error: None,
            input_tokens: None,
            output_tokens: None,
            cached_tokens: None,
            duration_ms: 1,
            ttft_ms: None,
            stream: false,
            request_bytes: 1,
            response_bytes: 1,
            cache: None,
            cache_similarity: None,
            charge: crate::Charge::default(),
        }
    }

    fn question(text: &mut String, _: usize) {
        text.push('?');
    }

    #[test]
    fn a_column_is_named_from_the_first_record_on_that_says_something_in_it() {
        let mut inserts = Inserts::new(&[2, 1], question);
        let plain = || (Tenant::default(), record());
        let mut tagged = plain();
        tagged.1.charge.tags = vec!["a".into()];
        let mut named = |records: &[Entry]| {
            let (statement, rest) = inserts.next(records).unwrap();
            assert_eq!(statement.sql.matches('?').count(), statement.values.len());
            (statement.sql.contains("tags"), statement.values.len(), rest.len())
        };
        let usual = COLUMNS.iter().filter(|(_, usual, _)| *usual).count();
        assert_eq!(named(&[plain(), plain(), plain()]), (false, 2 * usual, 1));
        assert_eq!(named(&[plain(), tagged]), (true, 2 * usual + 2, 0));
        assert_eq!(named(&[plain()]), (true, usual + 1, 0), "and stays");
        assert!(inserts.next(&[]).is_none());
    }

    #[test]
    fn what_a_table_demands_is_always_named() {
        for name in ["tenant", "at", "request_id", "endpoint", "status", "duration_ms", "stream", "request_bytes"] {
            assert!(COLUMNS.iter().any(|(column, usual, _)| *column == name && *usual), "{name}");
        }
        assert!(COLUMNS.iter().any(|(column, usual, _)| *column == "response_bytes" && *usual));
    }

    #[test]
    fn what_was_said_before_is_not_said_of_another() {
        let mut repeated = Repeated::default();
        for endpoint in ["/a", "/a", "/b", "/a"] {
            assert_eq!(repeated.endpoint(endpoint), Value::Shared(endpoint.into()));
        }
        for (basis, text) in [(Basis::Heard, "heard"), (Basis::Request, "request"), (Basis::Heard, "heard")] {
            assert_eq!(repeated.basis(Some(basis)), Value::Shared(text.into()));
        }
        assert_eq!(repeated.basis(None), Value::Text(None));
    }
}
