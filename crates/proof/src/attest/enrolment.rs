//! What an installation sends to enrol and to get its next token: one strict JSON object around the client data, the evidence
//! and the proof of its key.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Evidence;
use super::client_data::MAX_LEN;
use crate::jose::json::{self, JsonError, Limits};

/// The longest body, in bytes: a chain of certificates, or an attestation object, in base64.
pub const MAX_BODY_LEN: usize = 128 << 10;

const LIMITS: Limits = Limits { bytes: MAX_BODY_LEN, depth: 8, values: 512 };

/// Why a body is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an acceptable JSON object.
    #[error("not one strict JSON object: {0}")]
    Json(JsonError),
    /// A member is missing, unknown or of another type.
    #[error("a member is missing, unknown or of another type")]
    Members,
    /// The client data is over its limit even in base64url.
    #[error("client_data is too long")]
    ClientDataTooLong,
    /// The client data is not base64url.
    #[error("client_data is not base64url")]
    ClientData,
}

impl EnvelopeError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Json(error) => error.reason(),
            Self::Members => "envelope_members",
            Self::ClientDataTooLong => "client_data_too_long",
            Self::ClientData => "client_data_encoding",
        }
    }
}

/// Read a body: no member twice, nothing unknown.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, EnvelopeError> {
    let object = json::object(bytes, LIMITS).map_err(EnvelopeError::Json)?;
    serde_json::from_value(Value::Object(object)).map_err(|_| EnvelopeError::Members)
}

/// The client data as it was sent.
pub fn client_data(text: &str) -> Result<Vec<u8>, EnvelopeError> {
    if text.len() > MAX_LEN * 2 {
        return Err(EnvelopeError::ClientDataTooLong);
    }
    crate::jose::base64url_decode(text).ok_or(EnvelopeError::ClientData)
}

/// To enrol.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enrolment {
    /// What the app says, in base64url.
    pub client_data: String,
    /// The installation's public key.
    pub jwk: Value,
    /// What it is.
    pub evidence: Given,
    /// That it holds its key.
    pub proof: String,
    /// What it shows besides.
    #[serde(default)]
    pub step_up: Option<Besides>,
}

/// To get the next token.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Refresh {
    /// Which installation it is.
    pub instance: String,
    /// What the app says, in base64url.
    pub client_data: String,
    /// What its attested key signed, where it has one that signs assertions.
    #[serde(default)]
    pub assertion: Option<String>,
    /// That it holds its key.
    pub proof: String,
    /// The device's token for `DeviceCheck`: looked at only where the installation was revoked.
    #[serde(default)]
    pub device_check: Option<String>,
    /// What it shows besides.
    #[serde(default)]
    pub step_up: Option<Besides>,
}

/// What is shown besides evidence.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Besides {
    /// Proof of work, asked for by `step_up` of `/attest/v1/challenge`.
    #[serde(rename = "altcha")]
    Altcha {
        /// What the widget sends.
        payload: String,
    },
    /// Cloudflare Turnstile, with the thumbprint of the installation's key as `cdata`.
    #[serde(rename = "turnstile")]
    Turnstile {
        /// What the widget got.
        response: String,
    },
    /// hCaptcha.
    #[serde(rename = "hcaptcha")]
    Hcaptcha {
        /// What the widget got.
        response: String,
    },
    /// Google reCAPTCHA.
    #[serde(rename = "recaptcha")]
    Recaptcha {
        /// What the widget got.
        response: String,
    },
    /// An assertion of the passkey the installation enrolled with.
    #[serde(rename = "webauthn")]
    WebAuthn {
        /// What the browser says it is for: the challenge is the SHA-256 of the client data around it.
        client_data: String,
        /// The authenticator's data.
        authenticator_data: String,
        /// The passkey's signature.
        signature: String,
    },
}

/// Evidence as it is sent. Binaries are base64 or base64url.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", deny_unknown_fields)]
pub enum Given {
    /// Apple App Attest.
    #[serde(rename = "apple-app-attest")]
    AppAttest {
        /// The key's identifier, as the device says it.
        key_id: String,
        /// The attestation object.
        attestation: String,
        /// The device's token for `DeviceCheck` besides.
        #[serde(default)]
        device_check: Option<String>,
    },
    /// Android Key Attestation.
    #[serde(rename = "android-key")]
    AndroidKey {
        /// The certificates, the key's own first.
        chain: Vec<String>,
        /// Google's verdict besides.
        #[serde(default)]
        play_integrity: Option<String>,
    },
    /// Google Play Integrity, on its own.
    #[serde(rename = "play-integrity")]
    Play {
        /// Google's verdict, encrypted and signed.
        token: String,
    },
    /// ALTCHA proof of work.
    #[serde(rename = "altcha")]
    Altcha {
        /// What the widget sends.
        payload: String,
    },
    /// Cloudflare Turnstile.
    #[serde(rename = "turnstile")]
    Turnstile {
        /// What the widget got.
        response: String,
    },
    /// hCaptcha.
    #[serde(rename = "hcaptcha")]
    Hcaptcha {
        /// What the widget got.
        response: String,
    },
    /// Google reCAPTCHA.
    #[serde(rename = "recaptcha")]
    Recaptcha {
        /// What the widget got.
        response: String,
    },
    /// A registration by W3C Web Authentication.
    #[serde(rename = "webauthn")]
    WebAuthn {
        /// What the browser says it is for.
        client_data: String,
        /// The attestation object.
        attestation: String,
    },
    /// Firebase App Check.
    #[serde(rename = "appcheck")]
    AppCheck {
        /// Firebase's token.
        token: String,
    },
    /// Approov.
    #[serde(rename = "approov")]
    Approov {
        /// Approov's token.
        token: String,
    },
}

impl Given {
    /// What kind it is.
    pub const fn evidence(&self) -> Evidence {
        match self {
            Self::AppAttest { .. } => Evidence::AppleAppAttest,
            Self::AndroidKey { .. } => Evidence::AndroidKey,
            Self::Play { .. } => Evidence::PlayIntegrity,
            Self::Altcha { .. } => Evidence::Altcha,
            Self::Turnstile { .. } => Evidence::Turnstile,
            Self::Hcaptcha { .. } => Evidence::HCaptcha,
            Self::Recaptcha { .. } => Evidence::ReCaptcha,
            Self::WebAuthn { .. } => Evidence::WebAuthn,
            Self::AppCheck { .. } => Evidence::AppCheck,
            Self::Approov { .. } => Evidence::Approov,
        }
    }

    /// The device's token for `DeviceCheck`, where it came along.
    pub fn device_check(&self) -> Option<&str> {
        match self {
            Self::AppAttest { device_check, .. } => device_check.as_deref(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn body() -> Value {
        json!({"client_data": "e30", "jwk": {"kty": "EC"}, "evidence": {"type": "altcha", "payload": "p"}, "proof": "a.b.c"})
    }

    fn read_with(name: &str, value: Value) -> Result<Enrolment, &'static str> {
        let mut body = body();
        body[name] = value;
        read(body.to_string().as_bytes()).map_err(EnvelopeError::reason)
    }

    #[test]
    fn each_kind_of_evidence_is_read_by_its_name() {
        for (evidence, kind) in [
            (json!({"type": "apple-app-attest", "key_id": "a", "attestation": "b"}), Evidence::AppleAppAttest),
            (
                json!({"type": "apple-app-attest", "key_id": "a", "attestation": "b", "device_check": "t"}),
                Evidence::AppleAppAttest,
            ),
            (json!({"type": "android-key", "chain": ["a", "b"]}), Evidence::AndroidKey),
            (json!({"type": "android-key", "chain": [], "play_integrity": "t"}), Evidence::AndroidKey),
            (json!({"type": "play-integrity", "token": "t"}), Evidence::PlayIntegrity),
            (json!({"type": "altcha", "payload": "p"}), Evidence::Altcha),
            (json!({"type": "turnstile", "response": "r"}), Evidence::Turnstile),
            (json!({"type": "hcaptcha", "response": "r"}), Evidence::HCaptcha),
            (json!({"type": "recaptcha", "response": "r"}), Evidence::ReCaptcha),
            (json!({"type": "webauthn", "client_data": "c", "attestation": "a"}), Evidence::WebAuthn),
            (json!({"type": "appcheck", "token": "t"}), Evidence::AppCheck),
            (json!({"type": "approov", "token": "t"}), Evidence::Approov),
        ] {
            let named = evidence["type"].as_str().and_then(Evidence::from_name);
            assert_eq!(read_with("evidence", evidence).unwrap().evidence.evidence(), kind);
            assert_eq!(named, Some(kind));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for (name, value) in [
            ("extra", json!(1)),
            ("proof", json!(null)),
            ("evidence", json!({"type": "altcha"})),
            ("evidence", json!({"type": "altcha", "payload": "p", "more": 1})),
            ("evidence", json!({"type": "somebodys-word", "payload": "p"})),
            ("evidence", json!("altcha")),
            ("step_up", json!({"type": "altcha", "payload": 1})),
        ] {
            assert_eq!(read_with(name, value.clone()).err(), Some("envelope_members"), "{name} {value}");
        }
        let twice = body().to_string().replacen("\"proof\"", "\"proof\":\"x\",\"proof\"", 1);
        assert!(matches!(read::<Enrolment>(twice.as_bytes()), Err(EnvelopeError::Json(_))));
        let long = " ".repeat(MAX_BODY_LEN);
        assert!(read::<Enrolment>(format!("{long}{}", body()).as_bytes()).is_err());
        assert_eq!(client_data("not base64url!"), Err(EnvelopeError::ClientData));
        assert_eq!(client_data(&"A".repeat(MAX_LEN * 2 + 1)), Err(EnvelopeError::ClientDataTooLong));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = read::<Enrolment>(&bytes);
            let _ = read::<Refresh>(&bytes);
        }
    }
}
