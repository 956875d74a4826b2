//! One call of an operation, from the request to the reply.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base::{Problem, Timestamp};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use proof::jose::json;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use store::Page;

use super::table::Operation;
use super::{Admin, Door, Refusal, access, audited, idempotency};
use crate::ClientAddress;
use crate::backup::Backup;
use crate::form::Form;
use crate::oauth::{BodyError, collect, matches_tag};
use crate::operations::{Condition, Listed, OperationError, Operations};
use crate::{MOMENTS, moment};

/// Items on a page unless it is said.
const PAGE: u32 = 50;
/// Items on a page at most.
const MAX_PAGE: u32 = 200;

/// A call that may be made.
pub(super) struct Call {
    pub(super) admin: Arc<Admin>,
    pub(super) operation: &'static Operation,
    pub(super) by: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    name: Option<String>,
    query: Form,
}

/// What an operation answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: Bytes,
    pub(super) etag: Option<String>,
    pub(super) replayed: bool,
    /// What the body is instead, where it is too long to be in memory.
    pub(super) stream: Option<Body>,
}

/// Check and make a call. `operation` is absent where the path leads nowhere: still nobody learns that without a token.
pub(super) async fn run(
    admin: &Arc<Admin>,
    door: Door,
    operation: Option<&'static Operation>,
    (request, name): (Request, Option<String>),
) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let principal = match access::enter(admin, door, operation, &parts).await {
        Ok(principal) => principal,
        Err(refusal) => {
            let ip = parts.extensions.get::<ClientAddress>().map(|address| address.0);
            admin.operations.refused("admin", refusal.code(), operation.map(|operation| operation.id), ip).await;
            return Err(refusal);
        }
    };
    let operation = operation.ok_or_else(nowhere)?;
    let query = query(operation, parts.uri.query().unwrap_or_default())?;
    let body = read(admin, operation, &parts.headers, body).await?;
    let by = principal.label();
    let call = Call { admin: Arc::clone(admin), operation, by, headers: parts.headers, body, name, query };
    let changes = operation.method != Method::GET;
    let audited = if changes && !operation.only_looks { Some(audited::begin(&call).await?) } else { None };
    let reply =
        if operation.method == Method::POST { idempotency::run(&call).await } else { (operation.run)(&call).await };
    if let Some(audited) = audited {
        let outcome = reply.as_ref().map(|reply| reply.status).map_err(Refusal::code);
        audited::end(&call, audited, outcome).await;
    }
    let reply = reply?;
    if let (true, Some(server)) = (changes && reply.status.is_success(), &admin.server)
        && !server.settled().await
    {
        tracing::warn!(operation = operation.id, "a change is stored but not in force yet");
    }
    Ok(reply.response(&call.headers))
}

/// The query, with no other parameters than the operation's.
fn query(operation: &Operation, text: &str) -> Result<Form, Refusal> {
    let wrong = |message: String| Refusal::from(Problem::client(StatusCode::BAD_REQUEST, "invalid_query", message));
    let form = Form::parse(text.as_bytes()).map_err(|error| wrong(format!("the query is not usable: {error}")))?;
    if let Some(name) = form.names().find(|name| !operation.query.contains(name)) {
        return Err(wrong(format!("there is no parameter {name}; it takes: {}", operation.query.join(", "))));
    }
    Ok(form)
}

async fn read(admin: &Admin, operation: &Operation, headers: &HeaderMap, body: Body) -> Result<Bytes, Refusal> {
    let body = collect(body, admin.body_limit).await.map_err(|error| match error {
        BodyError::TooLarge => {
            let message = format!("the body is over {} bytes", admin.body_limit);
            Problem::client(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", message)
        }
        BodyError::Cut => Problem::client(StatusCode::BAD_REQUEST, "invalid_body", "the body ended early"),
    })?;
    if body.is_empty() {
        return Ok(body);
    }
    if operation.request.is_none() {
        let message = "this operation takes no body";
        return Err(Problem::client(StatusCode::BAD_REQUEST, "invalid_body", message).into());
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") || headers.contains_key(header::CONTENT_ENCODING) {
        let message = "the body must be application/json, not encoded";
        return Err(Problem::client(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message).into());
    }
    Ok(body)
}

fn nowhere() -> Refusal {
    Problem::client(StatusCode::NOT_FOUND, "not_found", "the admin API has no such path").into()
}

impl Call {
    /// A call of another operation within one.
    pub(super) fn new(
        admin: &Arc<Admin>,
        operation: &'static Operation,
        by: String,
        (headers, body): (HeaderMap, Bytes),
        (name, query): (Option<String>, Form),
    ) -> Self {
        Self { admin: Arc::clone(admin), operation, by, headers, body, name, query }
    }

    /// The `{name}` of the path, if it has one.
    pub(super) fn given_name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    pub(super) fn operations(&self) -> &Operations {
        &self.admin.operations
    }

    /// The `{name}` of the path.
    pub(super) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or_default()
    }

    /// A parameter of the query.
    pub(super) fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name)
    }

    /// The body as a JSON object: no member twice, at any depth.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Refusal> {
        const LIMITS: json::Limits = json::Limits { bytes: usize::MAX, depth: 32, values: 20_000 };
        json::object(&self.body, LIMITS).map_err(|error| {
            let message = format!("the body is not usable: {error}");
            Problem::client(StatusCode::BAD_REQUEST, "invalid_json", message).into()
        })
    }

    /// The body as a type: unknown members are refused, read-only ones are unknown.
    pub(super) fn body<T: DeserializeOwned>(&self) -> Result<T, Refusal> {
        let object = self.object()?;
        serde_json::from_value(Value::Object(object)).map_err(|error| {
            let message = format!("the body is not usable: {error}");
            Problem::client(StatusCode::UNPROCESSABLE_ENTITY, "invalid_body", message).into()
        })
    }

    /// The body as a type, all of whose members may be left out; no body is an empty one.
    pub(super) fn body_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Refusal> {
        if self.body.is_empty() { Ok(T::default()) } else { self.body() }
    }

    /// A parameter of the query that is a moment.
    pub(super) fn moment(&self, name: &str) -> Result<Option<Timestamp>, Refusal> {
        let Some(text) = self.query(name) else { return Ok(None) };
        let wrong = || Problem::client(StatusCode::BAD_REQUEST, "invalid_query", format!("{name} is {MOMENTS}"));
        Ok(Some(moment(text, self.operations().clock().now()).ok_or_else(wrong)?))
    }

    /// The page asked for.
    pub(super) fn page(&self) -> Result<Page, Refusal> {
        let wrong = |message: &'static str| Problem::client(StatusCode::BAD_REQUEST, "invalid_query", message);
        let limit = match self.query("limit") {
            None => PAGE,
            Some(text) => match text.parse() {
                Ok(limit @ 1..=MAX_PAGE) => limit,
                _ => return Err(wrong("limit is a number from 1 to 200").into()),
            },
        };
        let after = self.query("cursor").map(str::to_owned);
        if after.as_ref().is_some_and(|cursor| cursor.len() > 512) {
            return Err(wrong("cursor is the next_cursor of the page before").into());
        }
        Ok(Page { after, limit })
    }

    /// What a write requires: `If-Match` with one tag or `*`, or `If-None-Match: *`.
    pub(super) fn condition(&self) -> Result<Condition<'_>, Refusal> {
        let wrong = || -> Refusal {
            let message = "a write takes If-Match with one entity tag or *, or If-None-Match: *";
            Problem::client(StatusCode::BAD_REQUEST, "invalid_precondition", message).into()
        };
        let one = |name: &header::HeaderName| {
            let mut values = self.headers.get_all(name).iter();
            match (values.next(), values.next()) {
                (None, _) => Ok(None),
                (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(|_| wrong()),
                (Some(_), Some(_)) => Err(wrong()),
            }
        };
        match (one(&header::IF_MATCH)?, one(&header::IF_NONE_MATCH)?) {
            (None, None) => Ok(Condition::None),
            (None, Some("*")) => Ok(Condition::Absent),
            (Some("*"), None) => Ok(Condition::Present),
            (Some(tag), None) if is_strong_tag(tag) => Ok(Condition::Is(tag)),
            _ => Err(wrong()),
        }
    }

    /// The tag of `If-Match`, where any other condition has no meaning.
    pub(super) fn if_match(&self) -> Result<Option<&str>, Refusal> {
        match self.condition()? {
            Condition::None | Condition::Present => Ok(None),
            Condition::Is(tag) => Ok(Some(tag)),
            Condition::Absent => Err(OperationError::Stale("resource").into()),
        }
    }
}

fn is_strong_tag(tag: &str) -> bool {
    tag.len() > 2 && tag.len() <= 128 && tag.starts_with('"') && tag.ends_with('"') && tag.matches('"').count() == 2
}

impl Reply {
    /// A JSON value.
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Refusal> {
        let body = serde_json::to_vec(value).map_err(|_| {
            Problem::us(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "the answer cannot be written as JSON")
        })?;
        let (content_type, body) = ("application/json", Bytes::from(body));
        Ok(Self { status, content_type, body, etag: None, replayed: false, stream: None })
    }

    /// A backup, as it is made.
    pub(super) fn backup(backup: Backup) -> Self {
        Self::stream("application/octet-stream", Body::from_stream(backup))
    }

    /// What is made as it is taken.
    pub(super) fn stream(content_type: &'static str, body: Body) -> Self {
        Self { status: StatusCode::OK, content_type, stream: Some(body), ..Self::empty() }
    }

    /// A text.
    pub(super) fn text(content_type: &'static str, text: String) -> Self {
        Self { status: StatusCode::OK, content_type, body: Bytes::from(text), ..Self::empty() }
    }

    /// A page of items.
    pub(super) fn page<T: Serialize>(listed: &Listed<T>) -> Result<Self, Refusal> {
        let items = serde_json::to_value(&listed.items).unwrap_or_default();
        Self::json(StatusCode::OK, &serde_json::json!({ "items": items, "next_cursor": listed.next }))
    }

    /// Done, and nothing to say.
    pub(super) fn empty() -> Self {
        Self {
            status: StatusCode::NO_CONTENT,
            content_type: "application/json",
            body: Bytes::new(),
            etag: None,
            replayed: false,
            stream: None,
        }
    }

    pub(super) fn etag(mut self, etag: &str) -> Self {
        self.etag = Some(etag.to_owned());
        self
    }

    fn response(self, request: &HeaderMap) -> Response {
        let body = self.stream.unwrap_or_else(|| Body::from(self.body));
        let mut response = Response::new(body);
        *response.status_mut() = self.status;
        if let Some(etag) = self.etag.as_deref().and_then(|etag| HeaderValue::from_str(etag).ok()) {
            let known = |value| self.etag.as_deref().is_some_and(|etag| matches_tag(value, etag));
            if self.status == StatusCode::OK && request.get_all(header::IF_NONE_MATCH).iter().any(known) {
                *response.status_mut() = StatusCode::NOT_MODIFIED;
                *response.body_mut() = Body::empty();
            }
            response.headers_mut().insert(header::ETAG, etag);
        }
        let headers = response.headers_mut();
        if self.status != StatusCode::NO_CONTENT {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        }
        if self.replayed {
            headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
        }
        response
    }
}
