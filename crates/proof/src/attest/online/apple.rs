//! Apple's two services for a team's own servers: `DeviceCheck`
//! (<https://developer.apple.com/documentation/devicecheck/accessing-and-modifying-per-device-data>) and the fraud metric of
//! App Attest (<https://developer.apple.com/documentation/devicecheck/assessing-fraud-risk>). Both take a token that the
//! team's key signs.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base::{Secret, Timestamp};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{MAX_ANSWER_LEN, OnlineCheck, OnlineError, OnlineRequest};
use crate::attest::flag::Flags as _;
use crate::attest::{Evidence, Level, Summary};
use crate::jose::json::{self, Limits};
use crate::jose::{JsonObject, SignError, base64url_encode};

const LIMITS: Limits = Limits { bytes: MAX_ANSWER_LEN, depth: 4, values: 64 };

/// The longest device token, in characters of base64. They have some three thousand.
const MAX_DEVICE_TOKEN_LEN: usize = 16 << 10;

/// The longest receipt, in bytes.
const MAX_RECEIPT_LEN: usize = 32 << 10;

/// A key of the team's, as the developer site hands it out (`AuthKey_KEYID.p8`).
pub struct AppleKey {
    pair: EcdsaKeyPair,
    key_id: String,
    team: String,
}

impl AppleKey {
    /// From the file's text, with the ids of key and team.
    pub fn new(pem: &Secret<String>, key_id: &str, team: &str) -> Result<Self, SignError> {
        const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
        const END: &str = "-----END PRIVATE KEY-----";
        let (_, after) = pem.expose().split_once(BEGIN).ok_or(SignError::Pkcs8)?;
        let (body, _) = after.split_once(END).ok_or(SignError::Pkcs8)?;
        let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
        let der = Zeroizing::new(STANDARD.decode(body.as_bytes()).map_err(|_| SignError::Pkcs8)?);
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| SignError::Pkcs8)?;
        Ok(Self { pair, key_id: key_id.to_owned(), team: team.to_owned() })
    }

    /// A token that says which team asks: ES256 with `kid`, `iss` and `iat`, as for APNs.
    fn token(&self, now: Timestamp) -> Result<Secret<String>, OnlineError> {
        let header = json!({"alg": "ES256", "kid": self.key_id}).to_string();
        let claims = json!({"iss": self.team, "iat": now.as_secs()}).to_string();
        let input = format!("{}.{}", base64url_encode(header), base64url_encode(claims));
        let signature = self.pair.sign(&SystemRandom::new(), input.as_bytes());
        let signature = signature.map_err(|_| OnlineError::Key(SignError::Library))?;
        Ok(Secret::new(format!("{input}.{}", base64url_encode(signature))))
    }

    fn bearer(&self, now: Timestamp) -> Result<Option<Secret<String>>, OnlineError> {
        Ok(Some(Secret::new(format!("Bearer {}", self.token(now)?.expose()))))
    }
}

impl std::fmt::Debug for AppleKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AppleKey").field("key_id", &self.key_id).field("team", &self.team).finish_non_exhaustive()
    }
}

/// Which of Apple's two environments an app was built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Environment {
    /// Built for development.
    Development,
    /// Distributed.
    Production,
}

impl Environment {
    /// Where `DeviceCheck` answers.
    pub const fn device_check(self) -> &'static str {
        match self {
            Self::Development => "https://api.development.devicecheck.apple.com",
            Self::Production => "https://api.devicecheck.apple.com",
        }
    }

    /// Where the fraud metric is asked for.
    pub const fn fraud_metric(self) -> &'static str {
        match self {
            Self::Development => "https://data-development.appattest.apple.com",
            Self::Production => "https://data.appattest.apple.com",
        }
    }
}

/// The two bits Apple keeps for a team and a device beyond a new installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceBits {
    /// The first.
    pub first: bool,
    /// The second.
    pub second: bool,
}

/// A device token to be checked: it shows some genuine device of Apple's with an app of the team, and no more.
#[derive(Debug, Clone, Copy)]
pub struct DeviceCheck<'a> {
    /// The origin: [`Environment::device_check`].
    pub origin: &'a str,
    /// The team's key.
    pub key: &'a AppleKey,
    /// What the device made, in base64.
    pub token: &'a str,
    /// A name of this question's own.
    pub transaction: &'a str,
    /// What the bits are to be; `None` reads them.
    pub write: Option<DeviceBits>,
    /// The moment of the request.
    pub now: Timestamp,
}

impl OnlineCheck for DeviceCheck<'_> {
    type Answer = Summary;

    fn request(&self) -> Result<OnlineRequest, OnlineError> {
        let plausible = !self.token.is_empty() && self.token.len() <= MAX_DEVICE_TOKEN_LEN;
        if !plausible || STANDARD.decode(self.token).is_err() {
            return Err(OnlineError::Token);
        }
        let mut body = json!({"device_token": self.token, "transaction_id": self.transaction,
                              "timestamp": self.now.as_millis()});
        let mut path = "/v1/query_two_bits";
        if let (Some(bits), Some(members)) = (self.write, body.as_object_mut()) {
            path = "/v1/update_two_bits";
            members.insert("bit0".to_owned(), bits.first.into());
            members.insert("bit1".to_owned(), bits.second.into());
        }
        Ok(OnlineRequest {
            url: format!("{}{path}", self.origin),
            content_type: "application/json",
            authorization: self.key.bearer(self.now)?,
            body: Secret::new(body.to_string().into_bytes()),
        })
    }

    fn judge(&self, status: u16, body: &[u8]) -> Result<Summary, OnlineError> {
        match status {
            200 => {}
            400 => return Err(OnlineError::Failed),
            401 | 403 => return Err(OnlineError::Credentials),
            other => return Err(OnlineError::Unavailable(other)),
        }
        let (mut flags, mut facts) = (Vec::new(), JsonObject::new());
        // For a device without bits, and after writing them, there is a sentence or nothing.
        if self.write.is_none() && body.trim_ascii_start().starts_with(b"{") {
            let answer = json::object(body, LIMITS).map_err(OnlineError::Json)?;
            let bit = |name: &str| answer.get(name).and_then(Value::as_bool).ok_or(OnlineError::Answer);
            let bits = i64::from(bit("bit0")?) | i64::from(bit("bit1")?) << 1;
            if bits != 0 {
                flags.number("devicecheck_bits", bits);
            }
            if let Some(month) = answer.get("last_update_time").and_then(Value::as_str) {
                facts.insert("bits_changed".to_owned(), month.into());
            }
        }
        Ok(Summary { evidence: Evidence::DeviceCheck, level: Level::Verdict, flags, facts })
    }
}

/// A receipt to be exchanged for a newer one, in which Apple says how many keys this device attested lately.
#[derive(Debug, Clone, Copy)]
pub struct FraudMetric<'a> {
    /// The origin: [`Environment::fraud_metric`].
    pub origin: &'a str,
    /// The team's key.
    pub key: &'a AppleKey,
    /// The last receipt.
    pub receipt: &'a [u8],
    /// The moment of the request.
    pub now: Timestamp,
}

impl OnlineCheck for FraudMetric<'_> {
    /// The new receipt, to be verified like the first one.
    type Answer = Vec<u8>;

    fn request(&self) -> Result<OnlineRequest, OnlineError> {
        if self.receipt.is_empty() || self.receipt.len() > MAX_RECEIPT_LEN {
            return Err(OnlineError::Token);
        }
        Ok(OnlineRequest {
            url: format!("{}/v1/attestationData", self.origin),
            content_type: "application/octet-stream",
            // Without a scheme: so Apple documents it.
            authorization: Some(self.key.token(self.now)?),
            body: Secret::new(STANDARD.encode(self.receipt).into_bytes()),
        })
    }

    fn judge(&self, status: u16, body: &[u8]) -> Result<Vec<u8>, OnlineError> {
        match status {
            200 => {}
            // The receipt's own date for a newer one is not reached.
            304 => return Err(OnlineError::NothingNew),
            400 => return Err(OnlineError::Failed),
            401 | 403 => return Err(OnlineError::Credentials),
            // Kept for thirty days.
            404 => return Err(OnlineError::UsedOrOld),
            other => return Err(OnlineError::Unavailable(other)),
        }
        let text: Vec<u8> = body.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
        let receipt = STANDARD.decode(text).map_err(|_| OnlineError::Answer)?;
        if receipt.is_empty() || receipt.len() > MAX_RECEIPT_LEN { Err(OnlineError::Answer) } else { Ok(receipt) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::{Alg, KeySet, parse_compact};

    fn key() -> (AppleKey, KeySet) {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let der = pair.to_pkcs8v1().unwrap();
        let pem =
            format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", STANDARD.encode(der.as_ref()));
        let public = KeySet::from_operator(pem.as_bytes()).unwrap();
        (AppleKey::new(&Secret::new(pem), "KEYID12345", "TEAMID1234").unwrap(), public)
    }

    fn now() -> Timestamp {
        Timestamp::from_secs(1_800_000_000)
    }

    #[test]
    fn the_question_is_signed_by_the_teams_key() {
        let (key, public) = key();
        let check = DeviceCheck {
            origin: Environment::Production.device_check(),
            key: &key,
            token: "AAAA",
            transaction: "t-1",
            write: None,
            now: now(),
        };
        let request = check.request().unwrap();
        assert_eq!(request.url, "https://api.devicecheck.apple.com/v1/query_two_bits");
        let authorization = request.authorization.unwrap();
        let token = parse_compact(authorization.expose().strip_prefix("Bearer ").unwrap()).unwrap();
        assert_eq!((token.header.alg, token.header.kid.as_deref()), (Alg::Es256, Some("KEYID12345")));
        assert_eq!(token.claims().unwrap(), *json!({"iss": "TEAMID1234", "iat": 1_800_000_000}).as_object().unwrap());
        let signed =
            public.keys().first().unwrap().verify(Alg::Es256, token.signing_input.as_bytes(), &token.signature);
        assert_eq!(signed, Ok(()));
        let body: Value = serde_json::from_slice(request.body.expose()).unwrap();
        assert_eq!(body, json!({"device_token": "AAAA", "transaction_id": "t-1", "timestamp": 1_800_000_000_000_i64}));

        let write = Some(DeviceBits { first: true, second: false });
        let request = DeviceCheck { write, ..check }.request().unwrap();
        assert_eq!(request.url, "https://api.devicecheck.apple.com/v1/update_two_bits");
        let body: Value = serde_json::from_slice(request.body.expose()).unwrap();
        assert_eq!((&body["bit0"], &body["bit1"]), (&json!(true), &json!(false)));
        for token in ["", "not base64", "AAA"] {
            assert_eq!(DeviceCheck { token, ..check }.request().unwrap_err(), OnlineError::Token, "{token}");
        }
    }

    #[test]
    fn bits_are_read_and_a_device_without_them_passes() {
        let (key, _) = key();
        let origin = Environment::Development.device_check();
        let check = DeviceCheck { origin, key: &key, token: "AAAA", transaction: "t", write: None, now: now() };
        let bits = |body: &str| check.judge(200, body.as_bytes()).map(|summary| summary.flags);
        assert_eq!(bits("Failed to find bit state"), Ok(Vec::new()));
        assert_eq!(bits(r#"{"bit0":false,"bit1":false,"last_update_time":"2026-10"}"#), Ok(Vec::new()));
        let flags = bits(r#"{"bit0":true,"bit1":true,"last_update_time":"2026-10"}"#).unwrap();
        assert_eq!(flags.first().map(|flag| flag.value().clone()), Some(crate::attest::FlagValue::Number(3)));
        assert_eq!(bits(r#"{"bit0":true}"#), Err(OnlineError::Answer));
        for (status, error) in [
            (400, OnlineError::Failed),
            (401, OnlineError::Credentials),
            (429, OnlineError::Unavailable(429)),
            (503, OnlineError::Unavailable(503)),
        ] {
            assert_eq!(check.judge(status, b"").unwrap_err(), error);
        }
    }

    #[test]
    fn a_receipt_is_exchanged_for_a_newer_one() {
        let (key, _) = key();
        let origin = Environment::Production.fraud_metric();
        let check = FraudMetric { origin, key: &key, receipt: b"old", now: now() };
        let request = check.request().unwrap();
        assert_eq!(request.url, "https://data.appattest.apple.com/v1/attestationData");
        assert_eq!(request.body.expose(), b"b2xk");
        assert!(!request.authorization.unwrap().expose().contains(' '));
        assert_eq!(check.judge(200, b"bmV3\n"), Ok(b"new".to_vec()));
        for (status, body, error) in [
            (200, b"!".as_slice(), OnlineError::Answer),
            (200, b"", OnlineError::Answer),
            (304, b"", OnlineError::NothingNew),
            (401, b"", OnlineError::Credentials),
            (404, b"", OnlineError::UsedOrOld),
            (429, b"", OnlineError::Unavailable(429)),
        ] {
            assert_eq!(check.judge(status, body), Err(error), "{status}");
        }
        assert_eq!(FraudMetric { receipt: b"", ..check }.request().unwrap_err(), OnlineError::Token);
    }
}
