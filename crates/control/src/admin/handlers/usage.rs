//! Usage and cost: in sums, as records for other programs, and corrected.

use axum::body::Body;
use base::Problem;
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use store::{Bucket, Dimension, Page, RecordFilter, Store, StoreError, UsageFilter};

use super::installation::{RequestView, view};
use crate::admin::Refusal;
use crate::admin::call::{Call, Reply};
use crate::csv;
use crate::operations::{OperationError, RerateUsage, USAGE_COLUMNS, UsageQuestion};

/// Groups in a table of text.
const MOST: u32 = 10_000;
/// Records read at a time for an export.
const STEP: u32 = 500;

/// How an answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Json,
    JsonLines,
    Csv,
}

impl Format {
    fn of(call: &Call, lines: bool) -> Result<Self, Refusal> {
        match call.query("format") {
            None | Some("json") => Ok(Self::Json),
            Some("jsonl") if lines => Ok(Self::JsonLines),
            Some("csv") => Ok(Self::Csv),
            Some(_) if lines => Err(wrong("format is json, jsonl or csv")),
            Some(_) => Err(wrong("format is json or csv")),
        }
    }
}

fn wrong(message: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Problem::client(StatusCode::BAD_REQUEST, "invalid_query", message).into()
}

pub(in crate::admin) async fn list(call: &Call) -> Result<Reply, Refusal> {
    let question = question(call)?;
    let format = Format::of(call, false)?;
    let page = call.page()?;
    let from = page.after.as_deref().map_or(Ok(0), str::parse);
    let from: u32 = from.map_err(|_| wrong("cursor is the next_cursor of the page before"))?;
    if format == Format::Json {
        return Reply::json(StatusCode::OK, &call.operations().usage(&question, (from, page.limit)).await?);
    }
    let listed = call.operations().usage(&question, (from, MOST)).await?;
    let mut columns: Vec<&str> = Vec::new();
    if question.bucket.is_some() {
        columns.push("start");
    }
    for dimension in &question.by {
        if *dimension == Dimension::Subject && !columns.contains(&"issuer") {
            columns.push("issuer");
        }
        if !columns.contains(&dimension.as_str()) {
            columns.push(dimension.as_str());
        }
    }
    columns.extend(USAGE_COLUMNS);
    let mut text = csv::header(&columns);
    for item in &listed.items {
        text.push_str(&csv::row(&columns, &serde_json::to_value(item).unwrap_or_default()));
    }
    Ok(Reply::text("text/csv; charset=utf-8; header=present", text))
}

fn question(call: &Call) -> Result<UsageQuestion, Refusal> {
    let mut by = Vec::new();
    for name in call.query("by").unwrap_or_default().split(',').filter(|name| !name.is_empty()) {
        let dimension = Dimension::parse(name).ok_or_else(|| {
            let names: Vec<&str> = Dimension::ALL.into_iter().map(Dimension::as_str).collect();
            wrong(format!("by is one or more of {}, with commas between", names.join(", ")))
        })?;
        if !by.contains(&dimension) {
            by.push(dimension);
        }
    }
    let bucket = match call.query("bucket") {
        None => None,
        Some("hour") => Some(Bucket::Hour),
        Some("day") => Some(Bucket::Day),
        Some(_) => return Err(wrong("bucket is hour or day")),
    };
    let only = Dimension::ALL.into_iter().filter_map(|dimension| {
        let value = call.query(dimension.as_str())?;
        Some((dimension, value.to_owned()))
    });
    let filter = UsageFilter { since: call.moment("since")?, until: call.moment("until")?, only: only.collect() };
    Ok(UsageQuestion { filter, by, bucket })
}

pub(in crate::admin) async fn rerate(call: &Call) -> Result<Reply, Refusal> {
    let asked: RerateUsage = call.body()?;
    Reply::json(StatusCode::OK, &call.operations().rerate(&asked, &call.by).await?)
}

pub(in crate::admin) async fn requests(call: &Call) -> Result<Reply, Refusal> {
    let filter = filter(call)?;
    let format = Format::of(call, true)?;
    let store = call.operations().store();
    if format == Format::Json {
        let page = call.page()?;
        let found = store.records().list(&filter, &page).await.map_err(OperationError::from)?;
        let items = found.items.into_iter().map(view).collect();
        return Reply::page(&crate::operations::Listed { items, next: found.next });
    }
    if call.query("limit").is_some() || call.query("cursor").is_some() {
        return Err(wrong("csv and jsonl are of all that match: they have no pages"));
    }
    let content_type =
        if format == Format::Csv { "text/csv; charset=utf-8; header=present" } else { "application/jsonl" };
    Ok(Reply::stream(content_type, Body::from_stream(export(store.clone(), filter, format))))
}

/// The record of one request.
pub(in crate::admin) async fn request(call: &Call) -> Result<Reply, Refusal> {
    let filter = RecordFilter { request_id: Some(call.name().to_owned()), ..RecordFilter::default() };
    let page = Page { after: None, limit: 1 };
    let found = call.operations().store().records().list(&filter, &page).await.map_err(OperationError::from)?;
    let missing = || OperationError::NotFound { kind: "record of a request", name: call.name().to_owned() };
    Reply::json(StatusCode::OK, &view(found.items.into_iter().next().ok_or_else(missing)?))
}

/// All records that match, a part at a time: the next is read once there is room for it. An error cuts the answer off, so
/// that nobody takes a part for all.
fn export(
    store: Store,
    filter: RecordFilter,
    format: Format,
) -> impl stream::Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    let start = match format {
        Format::Csv => csv::header(RequestView::COLUMNS),
        Format::Json | Format::JsonLines => String::new(),
    };
    let first = (store, filter, Some((None, start)));
    stream::try_unfold(first, move |(store, filter, at)| async move {
        let Some((after, mut text)) = at else { return Ok(None) };
        let page = Page { after, limit: STEP };
        let found = store.records().list(&filter, &page).await?;
        for record in found.items {
            let view = view(record);
            match format {
                Format::Csv => text.push_str(&csv::row(RequestView::COLUMNS, &json(&view))),
                Format::Json | Format::JsonLines => {
                    text.push_str(&json(&view).to_string());
                    text.push('\n');
                }
            }
        }
        let next = found.next.map(|next| (Some(next), String::new()));
        Ok(Some((Bytes::from(text), (store, filter, next))))
    })
}

fn json(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn filter(call: &Call) -> Result<RecordFilter, Refusal> {
    let text = |name: &str| call.query(name).map(str::to_owned);
    let min_status = call.query("min_status").map(str::parse::<u16>).transpose();
    let min_status = min_status.map_err(|_| wrong("min_status is an HTTP status, such as 400"))?;
    Ok(RecordFilter {
        since: call.moment("since")?,
        until: call.moment("until")?,
        request_id: text("request_id"),
        client: text("client"),
        subject: text("subject"),
        api_key: text("api_key"),
        model: text("model"),
        provider: text("provider"),
        policy: text("policy"),
        error: text("error"),
        min_status,
    })
}
