//! What is said to the gateway and what it answers, byte for byte (docs/mobile.md).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderMap, header};
use serde_json::{Map, Value, json};
use time::PrimitiveDateTime;
use time::macros::format_description;

use crate::attester::Platform;
use crate::error::{Action, Error};

/// This client's version, which the gateway may find too old.
pub(crate) const SDK: &str = env!("CARGO_PKG_VERSION");

/// The longest answer of the endpoints here, in bytes.
pub(crate) const MAX_ANSWER: usize = 64 << 10;

/// The most seconds the gateway can make us wait.
const MAX_WAIT: u64 = 86_400;

/// The most seconds a request waits by itself.
const MAX_SOON: u64 = 10;

/// What the platform signs with its evidence: canonical JSON (RFC 8785), which is sent as it was hashed. The members are in
/// the order of their names.
pub(crate) struct ClientData<'a> {
    pub(crate) app: &'a str,
    pub(crate) app_version: Option<&'a str>,
    /// The number of what was told over the air, and what became of its pins.
    pub(crate) config: Option<(u64, &'static str)>,
    pub(crate) flags: &'a [String],
    /// Thumbprint of the installation's key, where it was made before the challenge.
    pub(crate) jkt: Option<&'a str>,
    pub(crate) nonce: &'a str,
    /// `enroll` or `refresh`.
    pub(crate) purpose: &'a str,
    /// Seconds since the epoch.
    pub(crate) now: i64,
}

impl ClientData<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut flags: Vec<&String> = self.flags.iter().collect();
        flags.sort_unstable();
        flags.dedup();
        let flags: Map<String, Value> = flags.into_iter().map(|name| (name.clone(), Value::Bool(true))).collect();
        let mut members = Map::new();
        let mut add = |name: &str, value: Value| members.insert(name.to_owned(), value);
        add("app", self.app.into());
        if let Some(version) = self.app_version {
            add("app_version", version.into());
        }
        if let Some((seq, pins)) = self.config {
            add("config", json!({"pins": pins, "seq": seq}));
        }
        add("flags", Value::Object(flags));
        if let Some(jkt) = self.jkt {
            add("jkt", jkt.into());
        }
        add("nonce", self.nonce.into());
        add("purpose", self.purpose.into());
        add("sdk", SDK.into());
        add("ts", self.now.into());
        add("v", 1.into());
        Value::Object(members).to_string().into_bytes()
    }
}

/// `POST /attest/v1/challenge`.
pub(crate) fn challenge(app: &str, platform: Platform, jkt: Option<&str>, step_up: bool) -> Value {
    let mut request = json!({"app": app, "platform": platform.name()});
    with(&mut request, "jkt", jkt);
    with(&mut request, "step_up", step_up.then_some("altcha"));
    request
}

/// With one more member, where there is one.
fn with(request: &mut Value, name: &str, value: Option<impl Into<Value>>) {
    if let (Some(value), Some(members)) = (value, request.as_object_mut()) {
        members.insert(name.to_owned(), value.into());
    }
}

/// `POST /attest/v1/enroll`.
pub(crate) fn enroll(
    client_data: &[u8],
    jwk: &Value,
    (evidence, step_up): (&Value, Option<Value>),
    proof: &str,
) -> Value {
    let client_data = URL_SAFE_NO_PAD.encode(client_data);
    let mut request = json!({"client_data": client_data, "jwk": jwk, "evidence": evidence, "proof": proof});
    with(&mut request, "step_up", step_up);
    request
}

/// `POST /attest/v1/token`.
pub(crate) fn token(
    instance: &str,
    client_data: &[u8],
    (assertion, step_up): (Option<&[u8]>, Option<Value>),
    proof: &str,
) -> Value {
    let client_data = URL_SAFE_NO_PAD.encode(client_data);
    let mut request = json!({"instance": instance, "client_data": client_data, "proof": proof});
    with(&mut request, "assertion", assertion.map(|assertion| URL_SAFE_NO_PAD.encode(assertion)));
    with(&mut request, "step_up", step_up);
    request
}

/// What an enrolment or a refresh gives.
pub(crate) struct Issued {
    pub(crate) instance: String,
    pub(crate) token: String,
    /// Seconds.
    pub(crate) expires_in: i64,
    pub(crate) arc: String,
    /// For the next refresh, which then takes no challenge.
    pub(crate) next_nonce: Option<String>,
}

impl Issued {
    pub(crate) fn read(answer: &Value) -> Option<Self> {
        let text = |name: &str| Some(answer.get(name)?.as_str()?.to_owned());
        Some(Self {
            instance: text("instance")?,
            token: text("access_token")?,
            expires_in: answer.get("expires_in")?.as_i64().filter(|seconds| (1..=86_400).contains(seconds))?,
            arc: text("arc").unwrap_or_default(),
            next_nonce: text("nonce"),
        })
    }
}

/// What a refusal says: a code and what to do.
pub(crate) fn refusal(status: u16, headers: &HeaderMap, body: &[u8]) -> Error {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str).unwrap_or_default();
    let retry_after = seconds(headers).map(|seconds| seconds.min(MAX_WAIT));
    let action = match (text("action"), status) {
        ("", 429 | 500..) => Action::RetryAfter,
        (action, _) => Action::from_name(action),
    };
    Error::Rejected { status, arc: text("arc").to_owned(), action, retry_after }
}

/// `Retry-After` in seconds; dates are not understood.
fn seconds(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok()
}

/// The seconds to wait where it is worth waiting for within one request.
pub(crate) fn soon(headers: &HeaderMap) -> Option<u64> {
    seconds(headers).filter(|seconds| *seconds <= MAX_SOON)
}

/// `Date` (RFC 9110 section 5.6.7, the form that is sent) in seconds since the epoch.
pub(crate) fn date(headers: &HeaderMap) -> Option<i64> {
    let format =
        format_description!("[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT");
    let text = headers.get(header::DATE)?.to_str().ok()?;
    Some(PrimitiveDateTime::parse(text, format).ok()?.assume_utc().unix_timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_data_is_canonical() {
        let flags = ["vpn".to_owned(), "debugger".to_owned(), "vpn".to_owned()];
        let data = ClientData {
            app: "chat-ios",
            app_version: Some("42"),
            config: Some((7, "ok")),
            flags: &flags,
            jkt: Some("k"),
            nonce: "n",
            purpose: "enroll",
            now: 1_795_219_200,
        };
        let expected = format!(
            r#"{{"app":"chat-ios","app_version":"42","config":{{"pins":"ok","seq":7}},"flags":{{"debugger":true,"vpn":true}},"jkt":"k","nonce":"n","purpose":"enroll","sdk":"{SDK}","ts":1795219200,"v":1}}"#
        );
        assert_eq!(String::from_utf8(data.bytes()).unwrap(), expected);
        let without = ClientData { app_version: None, config: None, flags: &[], jkt: None, ..data };
        assert!(without.bytes().starts_with(br#"{"app":"chat-ios","flags":{},"nonce":"n""#));
    }

    #[test]
    fn a_refusal_says_what_to_do() {
        let mut headers = HeaderMap::new();
        let body = br#"{"title":"attestation required","status":401,"arc":"K7QX2M4P","action":"re-enroll"}"#;
        let refused = refusal(401, &headers, body);
        assert!(refused.asks_for_new_key());
        assert_eq!(refused.arc(), Some("K7QX2M4P"));
        headers.insert(header::RETRY_AFTER, "90".parse().unwrap());
        let later = refusal(429, &headers, b"busy");
        assert_eq!((later.retry_after(), later.status().name()), (Some(90), "RETRY_LATER"));
        headers.insert(header::RETRY_AFTER, "99999999".parse().unwrap());
        assert_eq!(refusal(503, &headers, b"").retry_after(), Some(MAX_WAIT));
        assert_eq!(refusal(403, &headers, b"").status().name(), "REJECTED");
    }

    #[test]
    fn the_date_is_read() {
        let mut headers = HeaderMap::new();
        assert_eq!(date(&headers), None);
        headers.insert(header::DATE, "Sat, 21 Nov 2026 12:00:00 GMT".parse().unwrap());
        assert_eq!(date(&headers), Some(1_795_262_400));
        headers.insert(header::DATE, "yesterday".parse().unwrap());
        assert_eq!(date(&headers), None);
    }

    #[test]
    fn an_answer_needs_its_members() {
        let whole = json!({"instance": "i", "access_token": "t", "expires_in": 300, "arc": "A", "nonce": "n"});
        assert_eq!(Issued::read(&whole).unwrap().next_nonce.as_deref(), Some("n"));
        for (name, value) in [("instance", json!(1)), ("access_token", json!(null)), ("expires_in", json!(0))] {
            let mut wrong = whole.clone();
            wrong[name] = value;
            assert!(Issued::read(&wrong).is_none(), "{name}");
        }
    }
}
