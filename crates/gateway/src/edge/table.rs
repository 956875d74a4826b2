//! Which endpoint a path and method mean. The fixed paths come first, then what the configuration declares.

use std::sync::Arc;

use http::{HeaderValue, Method};

use super::{is_json, path};
use crate::endpoint::direct::Direct;
use crate::endpoint::{gemini, native};
use crate::objects;
use crate::snapshot::{Limits, Provider, Service, Snapshot, Upstream};

/// What a request is for.
#[derive(Debug, Clone)]
pub(crate) enum Endpoint {
    /// `POST /v1/chat/completions`
    Chat,
    /// `POST /v1/responses`
    Responses,
    /// `GET` and `DELETE /v1/responses/{id}`, `POST .../cancel`, `GET .../input_items`: what follows `/v1`
    StoredResponse(String),
    /// `POST /v1/embeddings`
    Embeddings,
    /// `POST /v1/messages`
    Messages,
    /// `POST /v1/messages/count_tokens`
    CountTokens,
    /// `POST /v1/responses/input_tokens`
    InputTokens,
    /// `POST /v1beta/models/{model}:generateContent` and `:streamGenerateContent`, and under `/v1/models/`
    Gemini(gemini::Path),
    /// `GET /v1/realtime` (WebSocket)
    Realtime,
    /// `POST /v1/completions`, `/v1/moderations`, `/v1/images/...`, `/v1/audio/...`
    Direct(Direct),
    /// `GET /v1/models`
    Models,
    /// `GET /v1/models/{id}`
    Model(String),
    /// `GET /openapi.json`
    OpenApi,
    /// `ANY /providers/{name}/{rest}`: the provider, and the path as policies see it (`/v1/files`).
    Native(Arc<Provider>, String),
    /// `POST` a service's path.
    Service(Arc<Service>),
    /// A reverse-proxied API, and the path below its prefix.
    Upstream(Arc<Upstream>, String),
}

impl Endpoint {
    /// A short stable name for metrics and records.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Responses | Self::StoredResponse(_) => "responses",
            Self::Embeddings => "embeddings",
            Self::Messages => "messages",
            Self::CountTokens | Self::InputTokens => "count_tokens",
            Self::Gemini(path) => match path.method {
                gemini::Method::Generate => "gemini",
                gemini::Method::CountTokens => "count_tokens",
                gemini::Method::Embed | gemini::Method::BatchEmbed => "embeddings",
            },
            Self::Direct(direct) => direct.label(),
            Self::Models | Self::Model(_) => "models",
            Self::Realtime => "realtime",
            Self::OpenApi => "openapi",
            Self::Native(..) => "native",
            Self::Service(_) => "service",
            Self::Upstream(..) => "upstream",
        }
    }

    /// Whether the endpoint takes a body of this type.
    pub(crate) fn takes(&self, kind: &HeaderValue) -> bool {
        match self {
            Self::Direct(direct) if direct.takes_files() => is_json(kind) || is_form(kind),
            Self::Chat
            | Self::Responses
            | Self::Embeddings
            | Self::Messages
            | Self::CountTokens
            | Self::InputTokens
            | Self::Gemini(_)
            | Self::Direct(_)
            | Self::Service(_) => is_json(kind),
            _ => true,
        }
    }

    /// How large its body may be.
    pub(crate) fn most(&self, limits: &Limits) -> usize {
        match self {
            Self::Direct(direct) if direct.takes_files() => limits.upload.max(limits.body),
            Self::Native(provider, rest) if native::is_upload(provider, rest) => limits.upload.max(limits.body),
            _ => limits.body,
        }
    }
}

const GET: HeaderValue = HeaderValue::from_static("GET, HEAD");
const GET_DELETE: HeaderValue = HeaderValue::from_static("GET, HEAD, DELETE");
const POST: HeaderValue = HeaderValue::from_static("POST");
const ANY: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE");

/// Find the endpoint of `path` and the methods it accepts. The path has been found clean.
pub(crate) fn resolve(snapshot: &Snapshot, path: &str) -> Option<(Endpoint, HeaderValue)> {
    Some(match path {
        "/v1/chat/completions" => (Endpoint::Chat, POST),
        "/v1/responses" => (Endpoint::Responses, POST),
        "/v1/embeddings" => (Endpoint::Embeddings, POST),
        "/v1/messages" => (Endpoint::Messages, POST),
        "/v1/messages/count_tokens" => (Endpoint::CountTokens, POST),
        "/v1/responses/input_tokens" => (Endpoint::InputTokens, POST),
        "/v1/models" => (Endpoint::Models, GET),
        "/v1/realtime" => (Endpoint::Realtime, HeaderValue::from_static("GET")),
        "/openapi.json" => (Endpoint::OpenApi, GET),
        path if let Some(direct) = Direct::of(path) => (Endpoint::Direct(direct), POST),
        _ => return declared(snapshot, path),
    })
}

fn declared(snapshot: &Snapshot, path: &str) -> Option<(Endpoint, HeaderValue)> {
    if let Some(path) = path.starts_with("/v1").then(|| gemini::Path::of(path)).flatten() {
        return Some((Endpoint::Gemini(path), POST));
    }
    if let Some(rest) = path.strip_prefix("/v1/responses/") {
        let allow = match rest.split_once('/') {
            None if objects::resource(path.strip_prefix("/v1")?) == objects::Resource::Object(rest) => GET_DELETE,
            Some((_, "cancel")) => POST,
            Some((_, "input_items")) => GET,
            _ => return None,
        };
        return Some((Endpoint::StoredResponse(path.strip_prefix("/v1")?.to_owned()), allow));
    }
    if let Some(id) = path::model_id(path) {
        return Some((Endpoint::Model(id.into_owned()), GET));
    }
    if let Some(native) = path.strip_prefix("/providers/") {
        let (name, rest) = native.split_at_checked(native.find('/')?)?;
        let provider = snapshot.provider(name)?;
        // AWS's clients write a colon so; it means itself in a path (RFC 3986 section 3.3), and only one spelling goes on.
        // The one escaped slash that has been found clean is that of an ARN.
        let rest = rest.replace("%3A", ":").replace("%3a", ":").replace("%2f", "%2F");
        return (rest.len() > 1).then(|| (Endpoint::Native(Arc::clone(provider), rest), ANY));
    }
    if let Some(service) = snapshot.service_at(path) {
        return Some((Endpoint::Service(Arc::clone(service)), POST));
    }
    let (upstream, rest) = snapshot.upstream_at(path)?;
    let allow = upstream.allow().clone();
    Some((Endpoint::Upstream(Arc::clone(upstream), rest), allow))
}

/// Whether a body is a form with files, by its type.
fn is_form(kind: &HeaderValue) -> bool {
    let essence = kind.as_bytes().split(|b| *b == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"multipart/form-data")
}

/// Whether `method` is among `allow`.
pub(crate) fn accepts(allow: &HeaderValue, method: &Method) -> bool {
    allow.as_bytes().split(|b| *b == b',').any(|listed| listed.trim_ascii() == method.as_str().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn methods_are_compared_whole_and_case_sensitively() {
        assert!(accepts(&GET, &Method::GET));
        assert!(accepts(&GET, &Method::HEAD));
        assert!(!accepts(&ANY, &Method::TRACE));
        assert!(!accepts(&ANY, &Method::CONNECT));
        assert!(!accepts(&POST, &Method::from_bytes(b"post").expect("method")));
        assert!(!accepts(&POST, &Method::from_bytes(b"POS").expect("method")));
    }
}
