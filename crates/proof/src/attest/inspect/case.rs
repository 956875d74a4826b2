//! Where a case's expectations come from: the options, the case itself, the file around it.

use base::Timestamp;
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{File, InspectError, Options};
use crate::attest::chain::Anchors;
use crate::jose::JsonObject;

/// One case, and everything it is judged by.
pub(super) struct Case<'c> {
    pub(super) members: &'c JsonObject,
    pub(super) common: &'c JsonObject,
    pub(super) file: File<'c>,
    pub(super) options: &'c Options,
    /// The moment where nothing names one.
    pub(super) now: Timestamp,
}

impl<'c> Case<'c> {
    /// A member of the case, or else of the file around it.
    pub(super) fn get(&self, name: &str) -> Option<&'c Value> {
        self.members.get(name).or_else(|| self.common.get(name)).filter(|value| !value.is_null())
    }

    /// A member of what the case expects.
    pub(super) fn expect(&self, name: &str) -> Option<&'c Value> {
        self.get("expect")?.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn text(&self, name: &str) -> Option<&'c str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Bytes in base64, of either alphabet, padded or not.
    pub(super) fn bytes(&self, name: &'static str) -> Result<Option<Vec<u8>>, InspectError> {
        self.get(name).map(|value| decode(value).ok_or(InspectError::Malformed(name))).transpose()
    }

    /// The moment to judge by.
    pub(super) fn moment(&self) -> Result<Timestamp, InspectError> {
        Ok(self.named_moment()?.unwrap_or(self.now))
    }

    /// The moment that the options or the file name.
    pub(super) fn named_moment(&self) -> Result<Option<Timestamp>, InspectError> {
        if self.options.now.is_some() {
            return Ok(self.options.now);
        }
        if let Some(millis) = self.expect("now_millis").and_then(Value::as_i64) {
            return Ok(Some(Timestamp::from_millis(millis)));
        }
        let Some(named) = self.get("verify_at").or_else(|| self.get("now")) else { return Ok(None) };
        let moment = match named {
            Value::String(text) => Timestamp::parse_rfc3339(text),
            number => number.as_i64().map(Timestamp::from_secs),
        };
        moment.map(Some).ok_or(InspectError::Malformed("verify_at"))
    }

    /// The roots: the options', the file's, or else the maker's.
    pub(super) fn anchors(&self, maker: impl FnOnce() -> Option<Anchors>) -> Result<Anchors, InspectError> {
        if let Some(anchors) = &self.options.anchors {
            return Ok(anchors.clone());
        }
        match ["test_root_pem", "root_pem", "root"].iter().find_map(|name| self.text(name)) {
            Some(pem) => Anchors::from_pem(pem).map_err(|_| InspectError::Malformed("test_root_pem")),
            None => maker().ok_or(InspectError::Malformed("the built-in root")),
        }
    }

    /// Whether the roots are the maker's own.
    pub(super) fn has_makers_roots(&self) -> bool {
        let named = ["test_root_pem", "root_pem", "root"].iter().any(|name| self.text(name).is_some());
        self.options.anchors.is_none() && !named
    }
}

/// Bytes in base64, of either alphabet, padded or not.
pub(super) fn decode(value: &Value) -> Option<Vec<u8>> {
    let text: String = value.as_str()?.split_ascii_whitespace().collect();
    [STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD].iter().find_map(|engine| engine.decode(&text).ok())
}

/// The point of a P-256 key in a PEM text (`SubjectPublicKeyInfo`, RFC 5480): its last 65 bytes.
pub(super) fn point(pem: &str) -> Option<[u8; 65]> {
    const HEAD: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let der = STANDARD.decode(body.trim()).ok()?;
    der.strip_prefix(&HEAD)?.try_into().ok()
}
