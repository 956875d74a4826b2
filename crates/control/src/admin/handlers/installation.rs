//! The installation as a whole: its requests, decisions, configuration, metrics and health.

use std::sync::Arc;

use base::{Money, Problem};
use bytes::Bytes;
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;
use store::RequestRecord;

use crate::admin::call::{Call, Reply};
use crate::admin::{Refusal, Server, openapi};
use crate::explain::ExplainRequest;
use crate::operations::OperationError;
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
    /// Tokens out, those of reasoning included.
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
    /// The model as the provider that answered calls it.
    provider_model: Option<String>,
    /// The service or upstream that was asked for.
    service: Option<String>,
    /// What the policy that decided says it is for.
    tags: Vec<String>,
    /// Of the tokens in, those written into a cache.
    cache_write_tokens: Option<u64>,
    /// Tokens of reasoning.
    reasoning_tokens: Option<u64>,
    /// Of the tokens in, those of sound.
    audio_input_tokens: Option<u64>,
    /// Of the tokens out, those of sound.
    audio_output_tokens: Option<u64>,
    /// Sound heard, in milliseconds.
    audio_ms: Option<u64>,
    /// Pictures made.
    images: Option<u64>,
    /// What it cost, corrections included; absent: its price is not known.
    cost: Option<String>,
    /// The same in nano-USD.
    cost_nano_usd: Option<i64>,
    /// What was charged when it was made, in nano-USD.
    charged_nano_usd: Option<i64>,
    /// Whether the cost is an estimate: the provider did not say all it took.
    estimated: bool,
    /// Whether the provider counted more than was possible.
    clamped: bool,
    /// Which price it was charged by: where it is from, and a digest of it.
    price: Option<String>,
}

impl RequestView {
    /// Its members in order, as columns.
    pub(super) const COLUMNS: &[&str] = &[
        "at",
        "request_id",
        "endpoint",
        "policy",
        "issuer",
        "client",
        "subject",
        "api_key",
        "model",
        "provider",
        "provider_model",
        "service",
        "tags",
        "status",
        "error",
        "input_tokens",
        "cached_tokens",
        "cache_write_tokens",
        "output_tokens",
        "reasoning_tokens",
        "audio_input_tokens",
        "audio_output_tokens",
        "audio_ms",
        "images",
        "cost",
        "cost_nano_usd",
        "charged_nano_usd",
        "estimated",
        "clamped",
        "price",
        "duration_ms",
        "ttft_ms",
        "stream",
        "request_bytes",
        "response_bytes",
        "cache",
        "cache_similarity",
    ];
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

pub(super) fn view(record: RequestRecord) -> RequestView {
    let text = |text: Option<Arc<str>>| text.map(|text| text.to_string());
    let charge = record.charge;
    let cost = charge.corrected.or(charge.cost);
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
        provider_model: text(charge.provider_model),
        service: text(charge.service),
        tags: charge.tags.iter().map(ToString::to_string).collect(),
        cache_write_tokens: charge.cache_write_tokens,
        reasoning_tokens: charge.reasoning_tokens,
        audio_input_tokens: charge.audio_input_tokens,
        audio_output_tokens: charge.audio_output_tokens,
        audio_ms: charge.audio_ms,
        images: charge.images,
        cost: cost.map(|cost| Money::from_nano_usd(i128::from(cost)).to_string()),
        cost_nano_usd: cost,
        charged_nano_usd: charge.cost,
        estimated: charge.estimated,
        clamped: charge.clamped,
        price: text(charge.price),
    }
}
