//! What the widget sends, in both versions: strict JSON in base64 (the standard alphabet, as `btoa` writes it).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{AltchaError, KEY_LEN, MAX_NUMBER, MAX_PAYLOAD_LEN};
use crate::jose::{JsonObject, json};

const LIMITS: json::Limits = json::Limits { bytes: MAX_PAYLOAD_LEN, depth: 4, values: 32 };

/// The longest salt of version 1.
const MAX_SALT_LEN: usize = 256;

const V2_ALGORITHM: &str = "PBKDF2/SHA-256";

pub(super) enum Payload {
    V1(V1),
    V2 { challenge: V2, signature: String, counter: u32, key: String },
}

/// Version 1: `{algorithm, challenge, number, salt, signature}`, and how long it took.
pub(super) struct V1 {
    pub(super) challenge: String,
    pub(super) number: u32,
    pub(super) salt: String,
    pub(super) signature: String,
}

/// The parameters of version 2.
pub(super) struct V2 {
    pub(super) cost: u32,
    pub(super) context: String,
    /// Seconds since the epoch.
    pub(super) expires: i64,
    pub(super) prefix: String,
    pub(super) nonce: String,
    pub(super) salt: String,
}

impl Payload {
    pub(super) fn parse(payload: &str) -> Result<Self, AltchaError> {
        if payload.len() > MAX_PAYLOAD_LEN {
            return Err(AltchaError::TooLong);
        }
        let bytes = STANDARD.decode(payload).map_err(|_| AltchaError::Encoding)?;
        let members = json::object(&bytes, LIMITS)?;
        let Some(challenge) = members.get("challenge").and_then(Value::as_object) else {
            return V1::parse(&members).map(Self::V1);
        };
        only(&members, &["challenge", "solution"], "challenge")?;
        only(challenge, &["parameters", "signature"], "challenge")?;
        let parameters = challenge.get("parameters").and_then(Value::as_object);
        let solution = members.get("solution").and_then(Value::as_object).ok_or(AltchaError::Member("solution"))?;
        only(solution, &["counter", "derivedKey", "time"], "solution")?;
        let counter = solution.get("counter").and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        Ok(Self::V2 {
            challenge: V2::parse(parameters.ok_or(AltchaError::Member("parameters"))?)?,
            signature: text(challenge, "signature")?,
            counter: counter.ok_or(AltchaError::Member("counter"))?,
            key: text(solution, "derivedKey")?,
        })
    }
}

impl V1 {
    fn parse(members: &JsonObject) -> Result<Self, AltchaError> {
        let known = ["algorithm", "challenge", "number", "salt", "signature", "took", "maxnumber"];
        only(members, &known, "member")?;
        if text(members, "algorithm")? != "SHA-256" {
            return Err(AltchaError::Algorithm);
        }
        let number = members.get("number").and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        let salt = text(members, "salt")?;
        if salt.len() > MAX_SALT_LEN {
            return Err(AltchaError::Member("salt"));
        }
        Ok(Self {
            challenge: text(members, "challenge")?,
            number: number.filter(|number| *number <= MAX_NUMBER).ok_or(AltchaError::Member("number"))?,
            salt,
            signature: text(members, "signature")?,
        })
    }

    /// The end and the context in the salt, in exactly the form we write.
    pub(super) fn bounds(&self) -> Option<(i64, &str)> {
        let (_, parameters) = self.salt.split_once("?expires=")?;
        let (expires, context) = parameters.strip_suffix('&')?.split_once("&ctx=")?;
        Some((expires.parse().ok()?, context))
    }
}

impl V2 {
    fn parse(members: &JsonObject) -> Result<Self, AltchaError> {
        let known = ["algorithm", "cost", "data", "expiresAt", "keyLength", "keyPrefix", "nonce", "salt"];
        only(members, &known, "parameters")?;
        if text(members, "algorithm")? != V2_ALGORITHM {
            return Err(AltchaError::Algorithm);
        }
        if members.get("keyLength").and_then(Value::as_u64) != Some(KEY_LEN as u64) {
            return Err(AltchaError::Member("keyLength"));
        }
        let data = members.get("data").and_then(Value::as_object).ok_or(AltchaError::Member("data"))?;
        only(data, &["ctx"], "data")?;
        let cost = members.get("cost").and_then(Value::as_u64).and_then(|cost| u32::try_from(cost).ok());
        Ok(Self {
            cost: cost.ok_or(AltchaError::Member("cost"))?,
            context: text(data, "ctx")?,
            expires: members.get("expiresAt").and_then(Value::as_i64).ok_or(AltchaError::Member("expiresAt"))?,
            prefix: text(members, "keyPrefix")?,
            nonce: text(members, "nonce")?,
            salt: text(members, "salt")?,
        })
    }

    /// In alphabetical order, which is the order that is signed.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "algorithm": V2_ALGORITHM,
            "cost": self.cost,
            "data": { "ctx": self.context },
            "expiresAt": self.expires,
            "keyLength": KEY_LEN,
            "keyPrefix": self.prefix,
            "nonce": self.nonce,
            "salt": self.salt,
        })
    }

    /// What is signed: written again from what was read, so no other spelling of it has a signature.
    pub(super) fn canonical(&self) -> String {
        self.to_json().to_string()
    }
}

fn only(members: &JsonObject, known: &[&str], of: &'static str) -> Result<(), AltchaError> {
    if members.keys().all(|name| known.contains(&name.as_str())) { Ok(()) } else { Err(AltchaError::Member(of)) }
}

fn text(members: &JsonObject, name: &'static str) -> Result<String, AltchaError> {
    members.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(AltchaError::Member(name))
}
