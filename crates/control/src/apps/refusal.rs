//! One answer for everything that is not shown well enough: a client learns a code to tell the operator and what to try, never
//! why. The operator finds the reason by the code.

use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use base::Rng;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

/// What a client that is refused can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The same again with a new nonce.
    Refresh,
    /// Begin again, with a new key.
    ReEnroll,
    /// Nothing before the app is updated.
    Update,
    /// The same again later.
    RetryAfter,
    /// The same again, and what `step_up` of `/attest/v1/challenge` asks for besides.
    StepUp,
    /// Nothing.
    None,
}

impl Action {
    /// The word a client is told.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::ReEnroll => "re-enroll",
            Self::Update => "update",
            Self::RetryAfter => "retry-after",
            Self::StepUp => "step-up",
            Self::None => "none",
        }
    }
}

/// Why somebody is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// What it can do.
    pub action: Action,
    /// Stable codes: for the operator.
    pub reasons: Vec<&'static str>,
    /// What else is known, for the operator. No identifiers of devices, no credentials.
    pub detail: Map<String, Value>,
}

impl Refused {
    /// For one reason.
    pub fn new(action: Action, reason: &'static str) -> Self {
        Self { action, reasons: vec![reason], detail: Map::new() }
    }

    /// With another detail.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.detail.insert(name.to_owned(), value.into());
        self
    }
}

/// Why a request has no good answer.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum AppsError {
    /// What was shown does not do.
    #[error("attestation required")]
    Refused(Box<Refused>),
    /// Not such a request at all.
    #[error("{0}")]
    Request(&'static str),
    /// The body is too long.
    #[error("the body is too long")]
    TooLarge,
    /// Too many requests; when to come back.
    #[error("too many requests")]
    TooMany(Duration),
    /// We cannot decide now.
    #[error("attestation is not available at the moment")]
    Unavailable(&'static str),
    /// Another method.
    #[error("method not allowed")]
    Method(&'static str),
    /// Nothing is here.
    #[error("not found")]
    NotFound,
}

impl From<Refused> for AppsError {
    fn from(refused: Refused) -> Self {
        Self::Refused(Box::new(refused))
    }
}

impl AppsError {
    /// A stable code, for metrics and the log.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(refused) => refused.reasons.first().copied().unwrap_or("refused"),
            Self::Request(_) => "invalid_request",
            Self::TooLarge => "body_too_large",
            Self::TooMany(_) => "too_many_requests",
            Self::Unavailable(reason) => reason,
            Self::Method(_) => "method_not_allowed",
            Self::NotFound => "not_found",
        }
    }

    /// Whether the same request may succeed later: where only the moment was wrong.
    fn retryable(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.action == Action::RetryAfter,
            Self::TooMany(_) | Self::Unavailable(_) => true,
            Self::Request(_) | Self::TooLarge | Self::Method(_) | Self::NotFound => false,
        }
    }

    const fn status(&self) -> StatusCode {
        match self {
            Self::Refused(_) => StatusCode::UNAUTHORIZED,
            Self::Request(_) => StatusCode::BAD_REQUEST,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooMany(_) => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
        }
    }

    /// The answer (RFC 9457). `arc` is what the operator finds the reason by; reasons are shown where the app is set so.
    pub fn response(&self, arc: &str, show: bool) -> Response {
        let status = self.status();
        let mut body = Map::new();
        body.insert("type".into(), "about:blank".into());
        match self {
            Self::Refused(refused) => {
                body.insert("title".into(), "attestation required".into());
                body.insert("status".into(), status.as_u16().into());
                body.insert("arc".into(), arc.into());
                body.insert("action".into(), refused.action.as_str().into());
                if show {
                    body.insert("reasons".into(), json!(refused.reasons));
                }
            }
            other => {
                body.insert("title".into(), status.canonical_reason().unwrap_or("Error").into());
                body.insert("status".into(), status.as_u16().into());
                let code = match other {
                    Self::Unavailable(_) => "attestation_unavailable",
                    other => other.reason(),
                };
                body.insert("code".into(), code.into());
                body.insert("detail".into(), other.to_string().into());
            }
        }
        let mut response = Response::new(Body::from(Value::Object(body).to_string()));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if !self.retryable() {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        }
        match self {
            Self::Refused(refused) => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("DPoP error=\"invalid_token\""));
                if refused.action == Action::RetryAfter {
                    headers.insert(header::RETRY_AFTER, HeaderValue::from_static("6"));
                }
            }
            Self::TooMany(after) => {
                let seconds = after.as_secs().saturating_add(1).min(86_400);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            Self::Unavailable(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::Method(allow) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Self::Request(_) | Self::TooLarge | Self::NotFound => {}
        }
        response
    }
}

/// Letters and digits that are not taken for one another (Crockford's base 32).
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// The length of a code.
pub const ARC_LEN: usize = 8;

/// A new code: 40 random bits, in a form that can be read out on the telephone.
pub(crate) fn arc(rng: &dyn Rng) -> String {
    let mut bytes = [0u8; ARC_LEN];
    rng.fill(&mut bytes);
    bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte % 32))).map(|letter| char::from(*letter)).collect()
}

/// A code as it was typed: case does not matter, `O` is 0, `I` and `L` are 1. `None` if it is none.
pub(crate) fn typed(text: &str) -> Option<String> {
    let letter = |c: char| match c.to_ascii_uppercase() {
        'O' => Some('0'),
        'I' | 'L' => Some('1'),
        c if c.is_ascii() && ALPHABET.contains(&(c as u8)) => Some(c),
        _ => None,
    };
    let code: Option<String> = text.chars().filter(|c| *c != '-').map(letter).collect();
    code.filter(|code| code.len() == ARC_LEN)
}

#[cfg(test)]
mod tests {
    use base::SeededRng;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn a_refusal_says_the_same_whatever_the_reason() {
        let text = async |refused: Refused, show| {
            let response = AppsError::from(refused).response("K7QX2M4P", show);
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            assert_eq!(response.headers().get("x-should-retry").map(HeaderValue::as_bytes), Some(b"false".as_slice()));
            String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
        };
        let one = text(Refused::new(Action::None, "certificate_revoked").with("app", "chat"), false).await;
        assert_eq!(one, text(Refused::new(Action::None, "nonce_mismatch"), false).await);
        assert_eq!(
            serde_json::from_str::<Value>(&one).unwrap(),
            json!({"type": "about:blank", "title": "attestation required", "status": 401, "arc": "K7QX2M4P", "action": "none"})
        );
        assert!(text(Refused::new(Action::None, "nonce_mismatch"), true).await.contains("nonce_mismatch"));
    }

    #[test]
    fn only_what_the_moment_was_wrong_for_may_be_tried_again_as_it_is() {
        for (error, again) in [
            (AppsError::TooMany(Duration::from_secs(1)), true),
            (AppsError::Unavailable("list_missing"), true),
            (Refused::new(Action::RetryAfter, "asked_nobody").into(), true),
            (Refused::new(Action::Refresh, "nonce_mismatch").into(), false),
            (Refused::new(Action::StepUp, "step_up").into(), false),
            (AppsError::Request("no"), false),
            (AppsError::NotFound, false),
        ] {
            let response = error.response("K7QX2M4P", false);
            assert_eq!(!response.headers().contains_key("x-should-retry"), again, "{error}");
        }
    }

    #[test]
    fn a_code_is_found_as_people_type_it() {
        let code = arc(&SeededRng::new(7));
        assert_eq!((code.len(), typed(&code.to_lowercase())), (ARC_LEN, Some(code.clone())));
        assert_eq!(typed("oi-l1-kkkk").as_deref(), Some("0111KKKK"));
        for no in ["", "UUUUUUUU", "ABCDEFG", "ABCDEFGHJ", "ABCDEFG\u{e9}"] {
            assert_eq!(typed(no), None, "{no}");
        }
    }
}
