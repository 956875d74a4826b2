//! Whether a provider's answer says that it does not accept the key it was sent.

use http::{HeaderMap, Response, StatusCode};
use net::UpstreamBody;
use serde_json::Value;

use super::{AWS_KEY_ERRORS, UpstreamError, error_type};

/// What is not read further than this.
const LONGEST: usize = 16 * 1024;

/// Whether an answer says so. What of an error's body is looked at stays in it.
pub(crate) async fn said(response: &mut Response<UpstreamBody>) -> Result<bool, UpstreamError> {
    if by_head(response.status(), response.headers()) {
        return Ok(true);
    }
    if !matches!(response.status(), StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) {
        return Ok(false);
    }
    let status = response.status();
    let first = response.body_mut().ahead().await?;
    Ok(first.is_some_and(|first| by_body(status, first)))
}

/// Whether the head of an answer says so: 401 in any dialect, 407 of something in between, or one of AWS's errors.
pub(super) fn by_head(status: StatusCode, headers: &HeaderMap) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED)
        || error_type(headers).is_some_and(|kind| AWS_KEY_ERRORS.contains(&kind))
}

/// Whether the beginning of an error's body says so. Only members that the provider fills are looked at, never a text that may
/// repeat what a caller sent.
pub(super) fn by_body(status: StatusCode, first: &[u8]) -> bool {
    if !matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN) || first.len() > LONGEST {
        return false;
    }
    let Ok(answer) = serde_json::from_slice::<Value>(first) else { return false };
    // A streamed call of Google's answers with an array of one.
    let answer = answer.get(0).unwrap_or(&answer);
    let error = answer.get("error").unwrap_or(answer);
    let text = |name: &str| error.get(name).and_then(Value::as_str);
    // OpenAI and whoever speaks as it does; Anthropic.
    let named = [text("code"), text("type")].into_iter().flatten();
    if named.into_iter().any(|code| OPENAI.contains(&code)) {
        return true;
    }
    // google.rpc.ErrorInfo (cloud.google.com/apis/design/errors).
    let details = error.get("details").and_then(Value::as_array).into_iter().flatten();
    if details.filter_map(|detail| detail.get("reason")?.as_str()).any(|reason| GOOGLE.contains(&reason)) {
        return true;
    }
    // Google, of a key it found in public; xAI, whose `error` is a text.
    let begins = |text: &str| BEGINNINGS.iter().any(|beginning| text.starts_with(beginning));
    text("message").is_some_and(begins) || error.as_str().is_some_and(begins)
}

const OPENAI: [&str; 7] = [
    "invalid_api_key",
    "incorrect_api_key",
    "invalid_key",
    "wrong_api_key",
    "account_deactivated",
    "expired_api_key",
    "authentication_error",
];
const GOOGLE: [&str; 4] = ["API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "CONSUMER_SUSPENDED"];
const BEGINNINGS: [&str; 2] = ["Your API key was reported as leaked", "Incorrect API key provided"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn said(status: u16, body: &Value) -> bool {
        by_body(StatusCode::from_u16(status).expect("a status"), body.to_string().as_bytes())
    }

    #[test]
    fn what_providers_say_of_a_bad_key_is_understood() {
        let google = json!({"code": 400, "message": "API key not valid. Please pass a valid API key.",
            "status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID", "domain": "googleapis.com"}]});
        assert!(said(400, &json!({"error": google})));
        assert!(said(400, &json!([{"error": google}])));
        let leaked = "Your API key was reported as leaked. Please use another API key.";
        assert!(said(403, &json!({"error": {"code": 403, "message": leaked, "status": "PERMISSION_DENIED"}})));
        let xai = "Incorrect API key provided: fa***ke. You can obtain an API key from https://console.x.ai.";
        assert!(said(400, &json!({"code": "Client specified an invalid argument", "error": xai})));
        assert!(said(403, &json!({"error": {"message": "x", "code": "invalid_api_key"}})));
        let mut headers = HeaderMap::new();
        assert!(by_head(StatusCode::UNAUTHORIZED, &headers) && !by_head(StatusCode::FORBIDDEN, &headers));
        headers.insert("x-amzn-errortype", http::HeaderValue::from_static("ExpiredTokenException:http://x"));
        assert!(by_head(StatusCode::FORBIDDEN, &headers));
    }

    #[test]
    fn what_a_caller_may_not_do_and_what_a_caller_wrote_is_no_bad_key() {
        let texts = ["you wrote: API_KEY_INVALID", "the model says Incorrect API key provided", ""];
        for text in texts {
            for status in [400, 403] {
                assert!(!said(status, &json!({"error": {"message": text, "type": "invalid_request_error"}})), "{text}");
            }
        }
        assert!(!said(403, &json!({"error": {"type": "permission_error", "message": "no access to this model"}})));
        assert!(!said(404, &json!({"error": {"code": "invalid_api_key"}})));
        assert!(!by_body(StatusCode::BAD_REQUEST, b"API_KEY_INVALID"));
        assert!(!by_body(StatusCode::BAD_REQUEST, &vec![b' '; LONGEST + 1]));
    }

    proptest::proptest! {
        #[test]
        fn any_body_is_read_without_a_fault(body in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _said = by_body(StatusCode::FORBIDDEN, &body);
        }
    }
}
