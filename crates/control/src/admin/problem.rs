//! Errors of the admin API: RFC 9457 `application/problem+json`.

use axum::response::Response;
use base::{Problem, RequestId};
use bytes::Bytes;
use config::Fault;
use http::{HeaderValue, header};
use serde_json::json;

/// What went wrong, and for a resource that is not valid, every fault in it.
#[derive(Debug, Clone)]
pub struct Refusal {
    problem: Box<Problem>,
    faults: Vec<Fault>,
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::with_faults(problem, Vec::new())
    }
}

impl Refusal {
    /// A problem, and the faults that make it.
    pub fn with_faults(problem: Problem, faults: Vec<Fault>) -> Self {
        Self { problem: Box::new(problem), faults }
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.problem.code
    }

    /// The response. `type` is `about:blank`, so `title` is the status phrase (RFC 9457 section 4.2.1) and
    /// `code` is what programs look at.
    pub fn response(self, id: RequestId) -> Response {
        let Self { problem, faults } = self;
        let problem = *problem;
        let mut body = json!({
            "type": "about:blank",
            "title": problem.status.canonical_reason().unwrap_or("Error"),
            "status": problem.status.as_u16(),
            "code": problem.code,
            "detail": problem.message,
            "request_id": id.as_str(),
        });
        if let Some(object) = body.as_object_mut() {
            if let Some(param) = problem.param {
                object.insert("param".into(), param.into());
            }
            if !faults.is_empty() {
                object.insert("errors".into(), faults.iter().map(fault).collect());
            }
        }
        let mut response = Response::new(axum::body::Body::from(Bytes::from(body.to_string())));
        *response.status_mut() = problem.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !problem.retryable {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        if let Some(after) = problem.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_millis().div_ceil(1000).min(86_400) as u64));
        }
        for challenge in problem.challenges {
            if let Ok(value) = HeaderValue::from_str(&challenge) {
                headers.append(header::WWW_AUTHENTICATE, value);
            }
        }
        response
    }
}

/// One fault. A resource has no lines, so only its path is named.
fn fault(fault: &Fault) -> serde_json::Value {
    let mut value = json!({ "path": fault.path, "code": fault.code, "message": fault.message });
    if let (Some(object), Some(hint)) = (value.as_object_mut(), &fault.hint) {
        object.insert("hint".into(), hint.as_str().into());
    }
    value
}
