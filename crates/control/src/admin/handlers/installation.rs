//! The installation as a whole: its requests, decisions, configuration, metrics and health.

use std::sync::Arc;

use base::{Problem, Span, Timestamp};
use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use store::{RecordFilter, RequestRecord};

use crate::admin::call::{Call, Reply};
use crate::admin::{Refusal, Server, openapi};
use crate::explain::ExplainRequest;
use crate::operations::{Listed, OperationError};
use crate::route::RouteQuestion;

/// What one request was.
#[derive(Debug, Serialize, JsonSchema)]
pub(in crate::admin) struct RequestView {
    /// When it arrived (RFC 3339).
    at: String,
    /// Its id: the `x-request-id` it was answered with.
    request_id: String,
    /// The endpoint's route.
    endpoint: String,
    /// The policy that decided.
    policy: Option<String>,
    /// The configured name of the issuer that vouched for the caller.
    issuer: Option<String>,
    /// The client that called.
    client: Option<String>,
    /// The subject it called for.
    subject: Option<String>,
    /// The id of the Vouchgate key it used.
    api_key: Option<String>,
    /// The model asked for.
    model: Option<String>,
    /// The provider that answered.
    provider: Option<String>,
    /// The HTTP status sent.
    status: u16,
    /// The error code sent.
    error: Option<String>,
    /// Tokens in, as the provider counted them.
    input_tokens: Option<u64>,
    /// Tokens out.
    output_tokens: Option<u64>,
    /// Of the tokens in, those read from a cache.
    cached_tokens: Option<u64>,
    /// From the first byte in to the last byte out, in milliseconds.
    duration_ms: u64,
    /// Until the first byte of the answer, in milliseconds.
    ttft_ms: Option<u64>,
    /// Whether the answer was streamed.
    stream: bool,
    /// Bytes of the request's body.
    request_bytes: u64,
    /// Bytes of the answer's body.
    response_bytes: u64,
    /// What the cache of answers did for it: `hit`, `semantic`, `miss` or `bypass`. Absent: nothing is kept there.
    cache: Option<String>,
    /// With `semantic`: how alike the questions are, from 0 to 1, in thousandths.
    cache_similarity: Option<f64>,
}

pub(in crate::admin) async fn requests(call: &Call) -> Result<Reply, Refusal> {
    let (filter, page) = (filter(call)?, call.page()?);
    let found = call.operations().store().records().list(&filter, &page).await.map_err(OperationError::from)?;
    Reply::page(&Listed { items: found.items.into_iter().map(view).collect(), next: found.next })
}

pub(in crate::admin) async fn explain(call: &Call) -> Result<Reply, Refusal> {
    let request: ExplainRequest = call.body()?;
    let operations = call.operations();
    let file = operations.file();
    let config = operations.merged_config(&file).await?.map_err(OperationError::Faults)?;
    let explanation = crate::explain::explain(&config, &request, operations.clock().now())?;
    Reply::json(StatusCode::OK, &explanation)
}

#[allow(clippy::unused_async)] // operations are async, this one has nothing to wait for
pub(in crate::admin) async fn explain_route(call: &Call) -> Result<Reply, Refusal> {
    let question: RouteQuestion = call.body()?;
    let told = server(call)?.explain_route(&question);
    let told = told.ok_or_else(|| OperationError::NotFound { kind: "model", name: question.model.clone() })?;
    Reply::json(StatusCode::OK, &told)
}

#[allow(clippy::unused_async)] // operations are async, this one has nothing to wait for
pub(in crate::admin) async fn clear_cache(call: &Call) -> Result<Reply, Refusal> {
    server(call)?.forget_answers();
    Ok(Reply::empty())
}

pub(in crate::admin) async fn backup(call: &Call) -> Result<Reply, Refusal> {
    Ok(Reply::backup(call.operations().backup(&call.by).await?))
}

pub(in crate::admin) async fn reload(call: &Call) -> Result<Reply, Refusal> {
    match server(call)?.reload().await {
        Ok(()) => Ok(Reply::empty()),
        Err(faults) => {
            let message = "the configuration file is not valid, so nothing was changed";
            let problem = Problem::client(StatusCode::UNPROCESSABLE_ENTITY, "invalid_configuration", message);
            Err(Refusal::with_faults(problem, faults))
        }
    }
}

#[allow(clippy::unused_async)] // operations are async, this one has nothing to wait for
pub(in crate::admin) async fn openapi(_: &Call) -> Result<Reply, Refusal> {
    Reply::json(StatusCode::OK, &openapi::document())
}

#[allow(clippy::unused_async)] // operations are async, this one has nothing to wait for
pub(in crate::admin) async fn metrics(call: &Call) -> Result<Reply, Refusal> {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    let mut reply = Reply::empty();
    (reply.status, reply.content_type) = (StatusCode::OK, content_type);
    reply.body = Bytes::from(server(call)?.metrics());
    Ok(reply)
}

pub(in crate::admin) async fn readyz(call: &Call) -> Result<Reply, Refusal> {
    let readiness = server(call)?.readiness().await;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Reply::json(status, &readiness)
}

fn server(call: &Call) -> Result<&Arc<dyn Server>, Refusal> {
    call.admin.server.as_ref().ok_or_else(|| {
        let message = "no server runs in this data directory";
        Problem::client(StatusCode::CONFLICT, "not_running", message).into()
    })
}

fn filter(call: &Call) -> Result<RecordFilter, Refusal> {
    let text = |name: &str| call.query(name).map(str::to_owned);
    let min_status = call.query("min_status").map(str::parse::<u16>).transpose().map_err(|_| {
        Problem::client(StatusCode::BAD_REQUEST, "invalid_query", "min_status is an HTTP status, such as 400")
    })?;
    Ok(RecordFilter {
        since: moment(call, "since")?,
        until: moment(call, "until")?,
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

/// `24h`: that long ago; or seconds since 1970.
fn moment(call: &Call, name: &str) -> Result<Option<Timestamp>, Refusal> {
    let Some(text) = call.query(name) else { return Ok(None) };
    if let Ok(seconds) = text.parse::<i64>() {
        return Ok(Some(Timestamp::from_secs(seconds)));
    }
    let Ok(ago) = text.parse::<Span>() else {
        let message = format!("{name} is how long ago (24h) or seconds since 1970");
        return Err(Problem::client(StatusCode::BAD_REQUEST, "invalid_query", message).into());
    };
    Ok(Some(call.operations().clock().now().minus(ago.duration())))
}

fn view(record: RequestRecord) -> RequestView {
    let text = |text: Option<Arc<str>>| text.map(|text| text.to_string());
    RequestView {
        at: record.at.rfc3339(),
        request_id: record.request_id.to_string(),
        endpoint: record.endpoint.into_owned(),
        policy: record.policy.map(|name| name.to_string()),
        issuer: record.issuer.map(|name| name.to_string()),
        client: text(record.client),
        subject: text(record.subject),
        api_key: text(record.api_key),
        model: text(record.model),
        provider: record.provider.map(|name| name.to_string()),
        status: record.status,
        error: record.error.map(std::borrow::Cow::into_owned),
        input_tokens: record.input_tokens,
        output_tokens: record.output_tokens,
        cached_tokens: record.cached_tokens,
        duration_ms: record.duration_ms,
        ttft_ms: record.ttft_ms,
        stream: record.stream,
        request_bytes: record.request_bytes,
        response_bytes: record.response_bytes,
        cache: record.cache.map(std::borrow::Cow::into_owned),
        cache_similarity: record.cache_similarity.map(|thousandths| f64::from(thousandths) / 1000.0),
    }
}
