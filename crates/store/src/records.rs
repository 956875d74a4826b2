//! What each request was: metadata, never contents.

mod insert;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use base::{Name, RequestId, Tenant, Timestamp};

use crate::engine::{Row, Statement, sql};
use crate::{Charge, Page, Paged, Store, StoreError};
pub(crate) use insert::{Inserts, Placeholder};

/// The longest text of a record, in bytes; what a caller chose may be longer and is cut.
const MAX_TEXT: usize = 256;
/// A key's last use is stored anew once it is this much later.
const LAST_USED_STEP: Duration = Duration::from_mins(1);

/// One request: who, what, when, with what outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// When it arrived.
    pub at: Timestamp,
    /// Its id.
    pub request_id: RequestId,
    /// The endpoint's route (`/v1/chat/completions`), not the path as sent.
    pub endpoint: Cow<'static, str>,
    /// The policy that decided.
    pub policy: Option<Name>,
    /// The configured name of the issuer that vouched for the caller.
    pub issuer: Option<Name>,
    /// The client that called.
    pub client: Option<Arc<str>>,
    /// The subject it called for.
    pub subject: Option<Arc<str>>,
    /// The id of the Vouchgate key it used, if it used one.
    pub api_key: Option<Arc<str>>,
    /// The model asked for.
    pub model: Option<Arc<str>>,
    /// The provider that answered.
    pub provider: Option<Name>,
    /// The HTTP status sent.
    pub status: u16,
    /// The error code sent.
    pub error: Option<Cow<'static, str>>,
    /// Tokens in, as the provider counted them.
    pub input_tokens: Option<u64>,
    /// Tokens out, those of reasoning included.
    pub output_tokens: Option<u64>,
    /// Of the tokens in, those read from a cache.
    pub cached_tokens: Option<u64>,
    /// From the first byte in to the last byte out, in milliseconds.
    pub duration_ms: u64,
    /// Until the first byte of the answer, in milliseconds.
    pub ttft_ms: Option<u64>,
    /// Whether the answer was streamed.
    pub stream: bool,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// What the cache of answers did for it: `hit`, `semantic`, `miss` or `bypass`. Absent: nothing is kept there.
    pub cache: Option<Cow<'static, str>>,
    /// With `semantic`: how alike the questions are, in thousandths.
    pub cache_similarity: Option<u16>,
    /// What else it took, and what it cost.
    pub charge: Charge,
}

/// Which records to list; absent fields match everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordFilter {
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Before this moment.
    pub until: Option<Timestamp>,
    /// Of this request.
    pub request_id: Option<String>,
    /// By this client.
    pub client: Option<String>,
    /// For this subject.
    pub subject: Option<String>,
    /// With this Vouchgate key, by id.
    pub api_key: Option<String>,
    /// For this model.
    pub model: Option<String>,
    /// Answered by this provider.
    pub provider: Option<String>,
    /// Decided by this policy.
    pub policy: Option<String>,
    /// With this error code.
    pub error: Option<String>,
    /// With at least this HTTP status.
    pub min_status: Option<u16>,
}

/// Request records. They are written through [`Store::sink`].
#[derive(Debug, Clone, Copy)]
pub struct Records<'a>(pub(crate) &'a Store);

impl Records<'_> {
    /// Records, newest first.
    pub async fn list(self, filter: &RecordFilter, page: &Page) -> Result<Paged<RequestRecord>, StoreError> {
        let before = match &page.after {
            None => i64::MAX,
            Some(cursor) => cursor.parse().map_err(|_| StoreError::Missing("page"))?,
        };
        let select = self
            .0
            .sql(concat!(
                "SELECT ",
                records_columns!(),
                ", (SELECT c.cost_after FROM usage_corrections c WHERE c.tenant = r.tenant AND c.record = r.seq
                        ORDER BY c.number DESC LIMIT 1)
                 FROM request_records r
                 WHERE tenant = $1 AND seq < $2
                   AND ($3 IS NULL OR at >= $3) AND ($4 IS NULL OR at < $4)
                   AND ($5 IS NULL OR request_id = $5) AND ($6 IS NULL OR client = $6)
                   AND ($7 IS NULL OR subject = $7) AND ($8 IS NULL OR api_key = $8)
                   AND ($9 IS NULL OR model = $9) AND ($10 IS NULL OR provider = $10)
                   AND ($11 IS NULL OR policy = $11) AND ($12 IS NULL OR error = $12)
                   AND ($13 IS NULL OR status >= $13)
                 ORDER BY seq DESC LIMIT $14"
            ))
            .bind(before)
            .bind(filter.since)
            .bind(filter.until)
            .bind(filter.request_id.as_deref())
            .bind(filter.client.as_deref())
            .bind(filter.subject.as_deref())
            .bind(filter.api_key.as_deref())
            .bind(filter.model.as_deref())
            .bind(filter.provider.as_deref())
            .bind(filter.policy.as_deref())
            .bind(filter.error.as_deref())
            .bind(filter.min_status)
            .bind(page.rows() + 1);
        let paged = Paged::cut(self.0.read(select, read_corrected).await?, page, |(seq, _)| seq.to_string());
        Ok(Paged { items: paged.items.into_iter().map(|(_, record)| record).collect(), next: paged.next })
    }

    /// Delete up to `limit` of the records from before `moment`, oldest first; how many there were. Call again
    /// until it deletes fewer: small steps let other writes through.
    pub async fn delete_before(self, moment: Timestamp, limit: u32) -> Result<u64, StoreError> {
        let delete = self
            .0
            .sql(
                "DELETE FROM request_records WHERE seq IN
                 (SELECT seq FROM request_records WHERE tenant = $1 AND at < $2 ORDER BY at LIMIT $3)",
            )
            .bind(moment)
            .bind(i64::from(limit));
        self.0.write(move |tx| Box::pin(async move { tx.execute(delete).await })).await
    }
}

/// The columns of a record, in the order [`read`] takes them.
macro_rules! records_columns {
    () => {
        "seq, at, request_id, endpoint, policy, issuer, client, subject, api_key, model, provider, status, error,
         input_tokens, output_tokens, cached_tokens, duration_ms, ttft_ms, stream, request_bytes, response_bytes,
         cache, cache_similarity, provider_model, service, tags, cache_write_tokens, reasoning_tokens, audio_input_tokens,
         audio_output_tokens, audio_ms, images, cost, cost_flags, rated, basis, price"
    };
}
pub(crate) use records_columns;

/// A record on its way to the database, and whose it is.
pub(crate) type Entry = (Tenant, RequestRecord);

/// One statement per key used, that notes its last use unless one nearly as late is noted.
pub(crate) fn last_used(records: &[Entry]) -> Vec<Statement> {
    let mut latest: Vec<(&Tenant, &str, Timestamp)> = Vec::new();
    for (tenant, record) in records {
        let Some(key) = record.api_key.as_deref() else { continue };
        match latest.iter_mut().find(|(t, k, _)| *t == tenant && *k == key) {
            Some((_, _, at)) => *at = record.at.max(*at),
            None => latest.push((tenant, key, record.at)),
        }
    }
    let note = |(tenant, key, at): (&Tenant, &str, Timestamp)| {
        sql("UPDATE api_keys SET last_used_at = $3
             WHERE tenant = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at <= $4)")
        .bind(tenant.as_str())
        .bind(key)
        .bind(at)
        .bind(at.minus(LAST_USED_STEP))
    };
    // In one order, so that no two nodes wait for each other.
    latest.sort_unstable_by_key(|(tenant, key, _)| (tenant.as_str(), *key));
    latest.into_iter().map(note).collect()
}

/// At most [`MAX_TEXT`] bytes, whole characters.
pub(crate) fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn read_corrected(mut row: Row) -> Result<(i64, RequestRecord), StoreError> {
    let (seq, mut record) = read(&mut row)?;
    record.charge.corrected = row.take()?;
    Ok((seq, record))
}

/// A record and its number.
pub(crate) fn read(row: &mut Row) -> Result<(i64, RequestRecord), StoreError> {
    let seq = row.take()?;
    let record = RequestRecord {
        at: row.take()?,
        request_id: RequestId::parse(&row.take::<String>()?).ok_or(StoreError::Row("not a request id"))?,
        endpoint: row.take()?,
        policy: row.take()?,
        issuer: row.take()?,
        client: row.take()?,
        subject: row.take()?,
        api_key: row.take()?,
        model: row.take()?,
        provider: row.take()?,
        status: row.take()?,
        error: row.take()?,
        input_tokens: row.take()?,
        output_tokens: row.take()?,
        cached_tokens: row.take()?,
        duration_ms: row.take()?,
        ttft_ms: row.take()?,
        stream: row.take()?,
        request_bytes: row.take()?,
        response_bytes: row.take()?,
        cache: row.take()?,
        cache_similarity: row.take()?,
        charge: read_charge(row)?,
    };
    Ok((seq, record))
}

fn read_charge(row: &mut Row) -> Result<Charge, StoreError> {
    let mut charge = Charge {
        provider_model: row.take()?,
        service: row.take()?,
        tags: Charge::read_tags(row.take()?)?,
        cache_write_tokens: row.take()?,
        reasoning_tokens: row.take()?,
        audio_input_tokens: row.take()?,
        audio_output_tokens: row.take()?,
        audio_ms: row.take()?,
        images: row.take()?,
        cost: row.take()?,
        ..Charge::default()
    };
    charge.set_flags(row.take()?);
    charge.rated = row.take()?;
    charge.basis = Charge::read_basis(row.take::<Option<String>>()?.as_deref())?;
    charge.price = row.take()?;
    Ok(charge)
}
