//! Messages for webhooks, in the form of Standard Webhooks (version 1,
//! <https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md>): `webhook-id`,
//! `webhook-timestamp` and `webhook-signature: v1,BASE64`, an HMAC-SHA256 over `ID.TIMESTAMP.BODY`.

use std::time::Duration;

use aws_lc_rs::hmac;
use base::{Secret, Timestamp};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use url::Url;
use zeroize::Zeroizing;

use crate::fetch::{patient, request_for};
use crate::{Egress, EgressError, FetchError, OutBody, Reach, Target, TargetError};

/// What the text of a key begins with whose bytes are in base64.
const PREFIX: &str = "whsec_";
/// Fewer bytes are no key.
const LEAST: usize = 24;
/// More are taken for a mistake.
const MOST: usize = 1024;

/// What messages are signed with.
#[derive(Debug, Clone)]
pub struct WebhookKey(hmac::Key);

/// Why a text is no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookKeyError {
    /// `whsec_` is not followed by base64.
    #[error("what follows whsec_ is not base64")]
    Encoding,
    /// Too short or too long.
    #[error("a key has 24 to 1,024 bytes")]
    Length,
}

impl WebhookKey {
    /// Of `whsec_` and base64, or of any other text its bytes.
    pub fn parse(text: &Secret<String>) -> Result<Self, WebhookKeyError> {
        let bytes = match text.expose().strip_prefix(PREFIX) {
            Some(encoded) => Zeroizing::new(STANDARD.decode(encoded).map_err(|_| WebhookKeyError::Encoding)?),
            None => Zeroizing::new(text.expose().as_bytes().to_vec()),
        };
        if !(LEAST..=MOST).contains(&bytes.len()) {
            return Err(WebhookKeyError::Length);
        }
        Ok(Self(hmac::Key::new(hmac::HMAC_SHA256, &bytes)))
    }

    /// The value of `webhook-signature` for a message sent at `seconds` since 1970.
    pub fn sign(&self, id: &str, seconds: i64, body: &str) -> String {
        let tag = hmac::sign(&self.0, format!("{id}.{seconds}.{body}").as_bytes());
        format!("v1,{}", STANDARD.encode(tag.as_ref()))
    }
}

/// Why a message was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// The URL or the id cannot be sent to or sent.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The request failed.
    #[error(transparent)]
    Egress(#[from] EgressError),
    /// Not a success. Redirects are not followed.
    #[error("it answered {0}")]
    Status(StatusCode),
    /// Over the time limit.
    #[error("it took too long")]
    Timeout,
}

impl WebhookError {
    /// A stable short code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Target(error) => error.reason(),
            Self::Egress(error) => error.reason(),
            Self::Status(_) => "webhook_status",
            Self::Timeout => "webhook_timeout",
        }
    }

    /// Whether whoever is there wants no more of them (410 Gone).
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Status(StatusCode::GONE))
    }
}

/// A message.
#[derive(Debug, Clone, Copy)]
pub struct WebhookMessage<'a> {
    /// Its id, the same at every attempt.
    pub id: &'a str,
    /// When this attempt is made.
    pub at: Timestamp,
    /// JSON.
    pub body: &'a str,
}

/// POST a message to `url`: TLS only (plain HTTP where `reach` allows private addresses, and only there), no redirects. Any
/// status from 200 to 299 means that it was taken; what else is answered is not looked at.
pub async fn send_webhook(
    egress: &Egress,
    (url, reach): (&Url, Reach),
    key: &WebhookKey,
    message: &WebhookMessage<'_>,
    time: Duration,
) -> Result<(), WebhookError> {
    let target = Target::new(url, reach)?;
    let mut request =
        request_for(url, OutBody::from(message.body.as_bytes().to_vec())).map_err(|error| match error {
            FetchError::Target(error) => WebhookError::Target(error),
            _ => WebhookError::Target(TargetError::Host),
        })?;
    *request.method_mut() = Method::POST;
    let seconds = message.at.as_secs();
    let fields = [
        ("content-type", "application/json".to_owned()),
        ("webhook-id", message.id.to_owned()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", key.sign(message.id, seconds, message.body)),
    ];
    for (name, value) in fields {
        let value = HeaderValue::try_from(value).map_err(|_| TargetError::Host)?;
        request.headers_mut().insert(HeaderName::from_static(name), value);
    }
    request.headers_mut().remove(header::ACCEPT);
    let patient = patient();
    let answer = tokio::time::timeout(time, egress.send(&target, request, &patient));
    let status = answer.await.map_err(|_| WebhookError::Timeout)??.status();
    if status.is_success() { Ok(()) } else { Err(WebhookError::Status(status)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<WebhookKey, WebhookKeyError> {
        WebhookKey::parse(&Secret::new(text.to_owned()))
    }

    /// The vector of the reference libraries of Standard Webhooks.
    #[test]
    fn a_message_is_signed_as_the_reference_libraries_do() {
        let key = key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = key.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn what_is_too_short_or_not_base64_is_no_key() {
        assert_eq!(key("whsec_***").err(), Some(WebhookKeyError::Encoding));
        assert_eq!(key("whsec_c2hvcnQ=").err(), Some(WebhookKeyError::Length));
        assert_eq!(key("").err(), Some(WebhookKeyError::Length));
        assert!(key(&"x".repeat(24)).is_ok() && key(&"x".repeat(1025)).is_err());
    }
}
