//! What apps are told over the air: a signed, sequenced, expiring configuration with the pins of the hosts they call.
//!
//! A configuration is a compact JWS (`typ` `gw-config+jws`, ES256) by a *configuration key*. Its header carries a
//! *delegation*: a compact JWS (`typ` `gw-delegation+jws`, ES256) by one of the *root keys* that are built into the app, over
//! the configuration key and the time in which it may sign. So the key that signs every day can be replaced without a
//! new app, and the root keys never have to be on a server.
//!
//! ```text
//! header      {"alg":"ES256","typ":"gw-config+jws","kid":K,"delegation":"<compact JWS>"}       K: thumbprint (RFC 7638)
//! delegation  {"alg":"ES256","typ":"gw-delegation+jws","kid":R} . {"jwk":{..},"iat":s,"nbf":s,"exp":s}
//! payload     {"v":1,"app":a,"seq":n,"iat":s,"exp":s,"min_sdk":"1.0.0",
//!              "hosts":[{"host":h,"enforce":true|"report","pins":[{"spki_sha256":b64,"role":"current|next|backup","nbf":s,"exp":s}]}],
//!              "endpoints":{..},"refresh_after":s,"kill":{"pinning":false,"attest":false}}
//! ```
//!
//! What whoever reads one has to check is what [`verify`] checks. A configuration lies wholly within the time of its
//! delegation, so that nobody has to compare that with a clock of their own. Unknown members are passed over.

mod pin;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use base::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Value, json};

use crate::jose::{
    Alg, Compact, JoseError, JsonError, KeyError, KeySet, SignError, SigningKey, VerifyingKey, parse_compact_within,
};

pub use pin::{MAX_PEM_LEN, PinError, pin_of_certificate, pin_of_pem, pin_text};

/// The `typ` of a configuration.
pub const CONFIG_TYP: &str = "gw-config+jws";

/// The `typ` of a delegation.
pub const DELEGATION_TYP: &str = "gw-delegation+jws";

/// The longest configuration, in bytes.
pub const MAX_CONFIG_LEN: usize = 64 << 10;

/// The longest delegation, in bytes.
pub const MAX_DELEGATION_LEN: usize = 4 << 10;

/// The version of the payload.
const VERSION: u64 = 1;

/// What an app is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppConfig {
    /// The version of this form: 1.
    pub v: u64,
    /// The app it is for.
    pub app: String,
    /// Grows with every configuration of the app.
    pub seq: u64,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// From when on it does not count, in seconds since 1970.
    pub exp: i64,
    /// The oldest version of the SDK that is served.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_sdk: Option<String>,
    /// The hosts that are pinned. Others are not.
    pub hosts: Vec<PinnedHost>,
    /// Where things are, as URLs by name.
    #[serde(default)]
    pub endpoints: BTreeMap<String, String>,
    /// After how many seconds to ask for a newer one.
    pub refresh_after: u64,
    /// What is switched off.
    #[serde(default)]
    pub kill: Kill,
}

/// A host and the keys it may show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PinnedHost {
    /// Its name.
    pub host: String,
    /// Whether another key is refused, or only reported.
    pub enforce: Enforce,
    /// The keys.
    pub pins: Vec<Pin>,
}

/// What becomes of a connection to a host that shows another key. Written as `true` and `"report"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforce {
    /// It is refused.
    Yes,
    /// It is used, and reported.
    Report,
}

impl Serialize for Enforce {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Yes => to.serialize_bool(true),
            Self::Report => to.serialize_str("report"),
        }
    }
}

impl<'de> Deserialize<'de> for Enforce {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        match Value::deserialize(from)? {
            Value::Bool(true) => Ok(Self::Yes),
            Value::String(text) if text == "report" => Ok(Self::Report),
            _ => Err(serde::de::Error::custom("enforce is true or \"report\"")),
        }
    }
}

/// A key a host may show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// SHA-256 of its `SubjectPublicKeyInfo` (DER), in base64 with padding, as RFC 7469 writes it.
    pub spki_sha256: String,
    /// What it is.
    pub role: Role,
    /// From when on it counts, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// From when on it counts no more, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exp: Option<i64>,
}

impl Pin {
    /// Whether it counts at a moment.
    pub fn counts(&self, now: Timestamp) -> bool {
        self.nbf.is_none_or(|from| from <= now.as_secs()) && self.exp.is_none_or(|end| now.as_secs() < end)
    }
}

/// What a pinned key is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// What the host shows.
    Current,
    /// What it will show.
    Next,
    /// What it may show: a key kept for the day the others are lost, or one that was current.
    Backup,
}

impl Role {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
            Self::Backup => "backup",
        }
    }
}

/// What is switched off.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Pins are not compared.
    #[serde(default)]
    pub pinning: bool,
    /// No evidence is asked of the platform.
    #[serde(default)]
    pub attest: bool,
}

/// Why a configuration or a delegation is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a signed object.
    #[error("the configuration is not a signed object: {0}")]
    Jose(JoseError),
    /// Another type of signed object.
    #[error("the signed object is of another type")]
    WrongTyp,
    /// Another algorithm than ES256.
    #[error("it is signed with another algorithm than ES256")]
    WrongAlg,
    /// The header carries no delegation.
    #[error("the configuration carries no delegation")]
    NoDelegation,
    /// The delegation is not a signed object of its type, or says nothing usable.
    #[error("the delegation is malformed")]
    Delegation,
    /// The key a delegation names cannot be used.
    #[error("the key of the delegation is refused: {0}")]
    DelegatedKey(KeyError),
    /// The delegation is by a key that is no root key.
    #[error("the delegation is by a key that is none of the root keys")]
    UnknownRoot,
    /// The delegation's signature is wrong.
    #[error("the signature of the delegation is wrong")]
    DelegationSignature,
    /// The delegation is older than one that was accepted before.
    #[error("the delegation is older than one that was accepted before")]
    DelegationReplaced,
    /// The configuration is by another key than the delegation names.
    #[error("the configuration is by another key than the delegation names")]
    OtherKey,
    /// The configuration's signature is wrong.
    #[error("the signature of the configuration is wrong")]
    Signature,
    /// The payload is no configuration.
    #[error("the payload is no configuration")]
    Payload,
    /// The payload is of another version.
    #[error("the configuration is of another version")]
    Version,
    /// The configuration does not lie within the time of its delegation.
    #[error("the configuration does not lie within the time of its delegation")]
    DelegationTime,
    /// It is another app's.
    #[error("the configuration is another app's")]
    WrongApp,
    /// Its time is over.
    #[error("the configuration has expired")]
    Expired,
    /// It is not newer than one that was accepted before.
    #[error("the configuration is older than one that was accepted before")]
    RolledBack,
}

impl ConfigError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Jose(error) => error.reason(),
            Self::WrongTyp => "wrong_typ",
            Self::WrongAlg => "unsupported_alg",
            Self::NoDelegation => "delegation_missing",
            Self::Delegation => "delegation_malformed",
            Self::DelegatedKey(error) => error.reason(),
            Self::UnknownRoot => "delegation_unknown_root",
            Self::DelegationSignature => "delegation_signature",
            Self::DelegationReplaced => "delegation_replaced",
            Self::OtherKey => "config_other_key",
            Self::Signature => "bad_signature",
            Self::Payload => "config_malformed",
            Self::Version => "config_version",
            Self::DelegationTime => "delegation_time",
            Self::WrongApp => "config_wrong_app",
            Self::Expired => "config_expired",
            Self::RolledBack => "config_rolled_back",
        }
    }
}

/// A configuration key, vouched for by a root key.
#[derive(Debug, Clone)]
pub struct Delegation {
    /// The key.
    pub key: Arc<VerifyingKey>,
    /// The thumbprint of the root key (RFC 7638).
    pub root: String,
    /// When it was made.
    pub iat: Timestamp,
    /// From when on the key may sign.
    pub nbf: Timestamp,
    /// Until when.
    pub exp: Timestamp,
}

/// What is asked of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Rules<'a> {
    /// The root keys.
    pub roots: &'a KeySet,
    /// The app.
    pub app: &'a str,
    /// What time it is.
    pub now: Timestamp,
    /// What was accepted before, if anything was.
    pub seen: Option<Seen>,
}

/// What was accepted last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its `seq`: a lower one is refused.
    pub seq: u64,
    /// When its delegation was made, in seconds since 1970: an older one is refused.
    pub delegated_at: i64,
}

/// A configuration that holds.
#[derive(Debug, Clone)]
pub struct Verified {
    /// What it says.
    pub config: AppConfig,
    /// By which key.
    pub delegation: Delegation,
}

/// The longest a delegation may last: 90 days, and one for clocks that differ. A configuration key that is stolen is of no use
/// after that, whatever was signed for it.
pub const LONGEST_DELEGATION: std::time::Duration = std::time::Duration::from_hours(91 * 24);

/// Vouch for a configuration key from `nbf` until `exp`, with a root key.
pub fn delegate(
    root: &SigningKey,
    public_jwk: &Value,
    (iat, nbf, exp): (Timestamp, Timestamp, Timestamp),
) -> Result<String, SignError> {
    let member = |name: &str| public_jwk.get(name).cloned().unwrap_or_default();
    // Only what the key is: what it is called, or is for, is not the root key's to say.
    let jwk = json!({ "kty": member("kty"), "crv": member("crv"), "x": member("x"), "y": member("y") });
    let claims = json!({ "jwk": jwk, "iat": iat.as_secs(), "nbf": nbf.as_secs(), "exp": exp.as_secs() });
    root.sign(DELEGATION_TYP, &claims)
}

/// Read a delegation and check that one of the root keys has made it. Whether its time has come is not looked at.
pub fn verify_delegation(text: &str, roots: &KeySet) -> Result<Delegation, ConfigError> {
    let compact = parse_compact_within(text, MAX_DELEGATION_LEN).map_err(|_| ConfigError::Delegation)?;
    if compact.header.typ.as_deref() != Some(DELEGATION_TYP) {
        return Err(ConfigError::Delegation);
    }
    if compact.header.alg != Alg::Es256 {
        return Err(ConfigError::WrongAlg);
    }
    let named = compact.header.kid.as_deref().ok_or(ConfigError::Delegation)?;
    let root = roots.keys().iter().find(|key| key.thumbprint_text() == named).ok_or(ConfigError::UnknownRoot)?;
    holds(root, &compact).ok_or(ConfigError::DelegationSignature)?;
    let claims = compact.claims().map_err(|_| ConfigError::Delegation)?;
    let moment = |name: &str| claims.get(name).and_then(Value::as_i64).map(Timestamp::from_secs);
    let (Some(iat), Some(nbf), Some(exp)) = (moment("iat"), moment("nbf"), moment("exp")) else {
        return Err(ConfigError::Delegation);
    };
    if exp > iat.min(nbf).plus(LONGEST_DELEGATION) {
        return Err(ConfigError::DelegationTime);
    }
    let jwk = claims.get("jwk").ok_or(ConfigError::Delegation)?;
    let key = VerifyingKey::from_confirmation(jwk).map_err(ConfigError::DelegatedKey)?;
    if key.bind(&[Alg::Es256]).is_none() {
        return Err(ConfigError::WrongAlg);
    }
    Ok(Delegation { key: Arc::new(key), root: named.to_owned(), iat, nbf, exp })
}

/// Sign a configuration with a key that `delegation` vouches for.
pub fn sign(key: &SigningKey, delegation: &str, config: &AppConfig) -> Result<String, SignError> {
    key.sign_with(CONFIG_TYP, &[("delegation", delegation.into())], config)
}

/// Check a configuration as an app has to.
pub fn verify(text: &str, rules: &Rules<'_>) -> Result<Verified, ConfigError> {
    let compact = parse_compact_within(text, MAX_CONFIG_LEN).map_err(ConfigError::Jose)?;
    if compact.header.typ.as_deref() != Some(CONFIG_TYP) {
        return Err(ConfigError::WrongTyp);
    }
    if compact.header.alg != Alg::Es256 {
        return Err(ConfigError::WrongAlg);
    }
    let delegation = compact.header.members().get("delegation").ok_or(ConfigError::NoDelegation)?;
    let delegation = verify_delegation(delegation.as_str().ok_or(ConfigError::Delegation)?, rules.roots)?;
    if compact.header.kid.as_deref() != Some(delegation.key.thumbprint_text().as_str()) {
        return Err(ConfigError::OtherKey);
    }
    holds(&delegation.key, &compact).ok_or(ConfigError::Signature)?;
    let config = read(&compact.payload)?;
    if config.iat < delegation.nbf.as_secs() || config.exp > delegation.exp.as_secs() {
        return Err(ConfigError::DelegationTime);
    }
    if rules.seen.is_some_and(|seen| delegation.iat.as_secs() < seen.delegated_at) {
        return Err(ConfigError::DelegationReplaced);
    }
    if config.app != rules.app {
        return Err(ConfigError::WrongApp);
    }
    if config.exp <= rules.now.as_secs() {
        return Err(ConfigError::Expired);
    }
    if rules.seen.is_some_and(|seen| config.seq < seen.seq) {
        return Err(ConfigError::RolledBack);
    }
    Ok(Verified { config, delegation })
}

/// Read a payload, verified or our own.
pub fn read(payload: &[u8]) -> Result<AppConfig, ConfigError> {
    let object = match crate::jose::json::object(payload, crate::jose::json::Limits::CLAIMS) {
        Ok(object) => object,
        Err(JsonError::DuplicateMember | JsonError::Syntax | JsonError::TooDeep) => return Err(ConfigError::Payload),
        Err(error) => return Err(ConfigError::Jose(JoseError::Claims(error))),
    };
    if object.get("v").and_then(Value::as_u64) != Some(VERSION) {
        return Err(ConfigError::Version);
    }
    serde_json::from_value(Value::Object(object)).map_err(|_| ConfigError::Payload)
}

fn holds(key: &VerifyingKey, compact: &Compact<'_>) -> Option<()> {
    key.verify(Alg::Es256, compact.signing_input.as_bytes(), &compact.signature).ok()
}
