//! What the app is told over the air: the pins of the hosts it calls, and switches.
//!
//! A configuration is signed by a *configuration key*, for which one of the *root keys* in the app vouches (the
//! `delegation` in its header). It is fetched without pins, because its signature is what counts: so a wrong set of pins
//! can be put right without a new version of the app.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::Value;

use crate::jws::Compact;
use crate::signer::{PublicJwk, sha256};

/// The longest configuration, in bytes.
pub const MAX_LEN: usize = 64 << 10;

const MAX_DELEGATION_LEN: usize = 4 << 10;

/// The most hosts, and pins of one host.
const MAX_MEMBERS: usize = 64;

/// The longest a delegation may last, in seconds: 90 days, and one for clocks that differ.
const LONGEST_DELEGATION: i64 = 91 * 86_400;

/// Why a configuration is not accepted. The last good one goes on counting until its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not a signed configuration.
    #[error("not a signed configuration")]
    Malformed,
    /// The delegation is missing, or is none.
    #[error("the delegation is missing or malformed")]
    Delegation,
    /// None of the root keys in the app made the delegation.
    #[error("the delegation is by none of the root keys")]
    UnknownRoot,
    /// The delegation's signature is wrong.
    #[error("the signature of the delegation is wrong")]
    DelegationSignature,
    /// The configuration does not lie within the delegation's time, or the delegation is older than the last one.
    #[error("the delegation does not cover the configuration")]
    DelegationTime,
    /// The signature is not by the key of the delegation.
    #[error("the signature is wrong")]
    Signature,
    /// For another app.
    #[error("for another app")]
    App,
    /// Its time is over.
    #[error("expired")]
    Expired,
    /// Older than the last one that was accepted, or another one of the same number.
    #[error("older than the last one")]
    RolledBack,
}

impl ConfigError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "config_malformed",
            Self::Delegation => "delegation_malformed",
            Self::UnknownRoot => "delegation_unknown_root",
            Self::DelegationSignature => "delegation_signature",
            Self::DelegationTime => "delegation_time",
            Self::Signature => "bad_signature",
            Self::App => "config_wrong_app",
            Self::Expired => "config_expired",
            Self::RolledBack => "config_rolled_back",
        }
    }
}

/// A configuration that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppConfig {
    /// Grows with every configuration.
    pub seq: u64,
    /// When it ends, in seconds since the epoch.
    pub exp: i64,
    /// The oldest version of this client that is served.
    pub min_sdk: Option<String>,
    /// The pinned hosts.
    pub hosts: Vec<HostPins>,
    /// After how many seconds to ask for a newer one.
    pub refresh_after: u64,
    /// Whether pins are not to be compared.
    pub kill_pinning: bool,
    /// Whether no evidence is to be asked of the platform.
    pub kill_attest: bool,
    /// When the delegation was made: an older one is not accepted afterwards.
    delegated_at: i64,
    /// SHA-256 of it as it was signed: there is one of each number.
    digest: [u8; 32],
}

/// A host and the keys it may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPins {
    /// Its name or address, in lower case.
    pub host: String,
    /// Whether another key is refused, or only reported.
    pub enforce: bool,
    /// The keys.
    pub pins: Vec<Pin>,
}

/// A key a host may show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// SHA-256 of its `SubjectPublicKeyInfo`.
    pub spki: [u8; 32],
    /// From when on it counts, in seconds since the epoch.
    pub nbf: Option<i64>,
    /// From when on it counts no more.
    pub exp: Option<i64>,
}

/// What a configuration says of a key that a host shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The host is not pinned.
    NotPinned,
    /// The key is pinned.
    Matches,
    /// Another key, to be reported.
    Report,
    /// Another key: nothing is to be sent.
    Refuse,
}

impl AppConfig {
    /// Accept a configuration: by a key that one of `roots` vouches for, for `app`, in time at `now` (seconds), and not
    /// older than `last`.
    pub fn accept(
        text: &str,
        roots: &[PublicJwk],
        app: &str,
        now: i64,
        last: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let signed = Some(text).filter(|text| text.len() <= MAX_LEN).and_then(Compact::parse);
        let signed = signed.filter(|signed| signed.header_text("typ") == Some("gw-config+jws"));
        let signed = signed.ok_or(ConfigError::Malformed)?;
        let delegation = Delegation::accept(signed.header_text("delegation").unwrap_or_default(), roots)?;
        if !signed.is_by(&delegation.key) {
            return Err(ConfigError::Signature);
        }
        let payload = Value::Object(signed.payload);
        let made = (delegation.iat, sha256(text.as_bytes()));
        let (config, iat, of_app) = Self::read(&payload, made).ok_or(ConfigError::Malformed)?;
        if of_app != app {
            return Err(ConfigError::App);
        }
        if iat < delegation.nbf || config.exp > delegation.exp {
            return Err(ConfigError::DelegationTime);
        }
        if let Some(last) = last {
            if config.is_before(last) {
                return Err(ConfigError::RolledBack);
            }
            if config.delegated_at < last.delegated_at {
                return Err(ConfigError::DelegationTime);
            }
        }
        if config.is_over(now) { Err(ConfigError::Expired) } else { Ok(config) }
    }

    /// Whether it is older than `last`, or another one of the same number.
    pub(crate) fn is_before(&self, last: &Self) -> bool {
        self.seq < last.seq || (self.seq == last.seq && self.digest != last.digest)
    }

    /// Whether its time is over.
    pub const fn is_over(&self, now: i64) -> bool {
        now >= self.exp
    }

    /// What is to be thought of a key that `host` shows.
    pub fn judge(&self, host: &str, spki: &[u8; 32], now: i64) -> Verdict {
        let pinned = self.hosts.iter().find(|pinned| pinned.host.eq_ignore_ascii_case(host));
        let Some(pinned) = pinned.filter(|_| !self.kill_pinning) else { return Verdict::NotPinned };
        let counts = |pin: &Pin| pin.nbf.is_none_or(|from| from <= now) && pin.exp.is_none_or(|end| now < end);
        if pinned.pins.iter().any(|pin| pin.spki == *spki && counts(pin)) {
            Verdict::Matches
        } else if pinned.enforce {
            Verdict::Refuse
        } else {
            Verdict::Report
        }
    }

    /// The payload, when it was made, and for which app.
    fn read(payload: &Value, (delegated_at, digest): (i64, [u8; 32])) -> Option<(Self, i64, &str)> {
        let number = |name: &str| payload.get(name)?.as_i64();
        let switch = |name: &str| match payload.get("kill").and_then(|kill| kill.get(name)) {
            None => Some(false),
            Some(value) => value.as_bool(),
        };
        if number("v") != Some(1) {
            return None;
        }
        let hosts = payload.get("hosts")?.as_array().filter(|hosts| hosts.len() <= MAX_MEMBERS)?;
        let config = Self {
            seq: payload.get("seq")?.as_u64()?,
            exp: number("exp")?,
            min_sdk: payload.get("min_sdk").and_then(Value::as_str).map(str::to_owned),
            hosts: hosts.iter().map(HostPins::read).collect::<Option<_>>()?,
            refresh_after: payload.get("refresh_after")?.as_u64()?,
            kill_pinning: switch("pinning")?,
            kill_attest: switch("attest")?,
            delegated_at,
            digest,
        };
        Some((config, number("iat")?, payload.get("app")?.as_str()?))
    }
}

impl HostPins {
    fn read(value: &Value) -> Option<Self> {
        let enforce = match value.get("enforce")? {
            Value::Bool(true) => true,
            Value::String(text) if text == "report" => false,
            _ => return None,
        };
        let pins = value.get("pins")?.as_array().filter(|pins| pins.len() <= MAX_MEMBERS)?;
        let pins = pins.iter().map(Pin::read).collect::<Option<_>>()?;
        Some(Self { host: value.get("host")?.as_str()?.to_ascii_lowercase(), enforce, pins })
    }
}

impl Pin {
    fn read(value: &Value) -> Option<Self> {
        let time = |name: &str| match value.get(name) {
            None => Some(None),
            Some(value) => value.as_i64().map(Some),
        };
        let spki = STANDARD.decode(value.get("spki_sha256")?.as_str()?).ok()?.try_into().ok()?;
        Some(Self { spki, nbf: time("nbf")?, exp: time("exp")? })
    }
}

/// A root key's word for a configuration key.
struct Delegation {
    key: PublicJwk,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl Delegation {
    fn accept(text: &str, roots: &[PublicJwk]) -> Result<Self, ConfigError> {
        let signed = Some(text).filter(|text| text.len() <= MAX_DELEGATION_LEN).and_then(Compact::parse);
        let signed = signed.filter(|signed| signed.header_text("typ") == Some("gw-delegation+jws"));
        let signed = signed.ok_or(ConfigError::Delegation)?;
        let named = signed.header_text("kid").ok_or(ConfigError::Delegation)?;
        let root = roots.iter().find(|root| root.thumbprint() == named).ok_or(ConfigError::UnknownRoot)?;
        if !signed.is_by(root) {
            return Err(ConfigError::DelegationSignature);
        }
        let number = |name: &str| signed.payload.get(name).and_then(Value::as_i64).ok_or(ConfigError::Delegation);
        let key = signed.payload.get("jwk").and_then(public_key).ok_or(ConfigError::Delegation)?;
        let (iat, nbf, exp) = (number("iat")?, number("nbf")?, number("exp")?);
        if exp.saturating_sub(iat.min(nbf)) > LONGEST_DELEGATION {
            return Err(ConfigError::DelegationTime);
        }
        Ok(Self { key, iat, nbf, exp })
    }
}

/// A public JWK on P-256.
pub fn public_key(jwk: &Value) -> Option<PublicJwk> {
    let text = |name: &str| jwk.get(name)?.as_str();
    if text("kty") != Some("EC") || text("crv") != Some("P-256") || jwk.get("d").is_some() {
        return None;
    }
    let coordinate = |name| URL_SAFE_NO_PAD.decode(text(name)?).ok().filter(|bytes| bytes.len() == 32);
    PublicJwk::from_point(&[&[4][..], &coordinate("x")?, &coordinate("y")?].concat())
}

#[cfg(test)]
mod tests;
