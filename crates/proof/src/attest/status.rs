//! Google's list of attestation certificates that no longer count: `https://android.googleapis.com/attestation/status`.
//!
//! An entry is keyed by a serial number, in hex; older entries are in decimal, and nothing says which is which. A
//! certificate is on the list if either spelling of its serial number is. `SUSPENDED` counts like `REVOKED`, and so does
//! a status of tomorrow: whatever is listed is not to be trusted now.

use std::collections::HashMap;

use serde_json::Value;

use crate::jose::json::{self, JsonError, Limits};

/// What a list may cost. Google's had a few thousand entries in 2026.
const LIMITS: Limits = Limits { bytes: 32 << 20, depth: 8, values: 2_000_000 };

/// The longest key of an entry: a serial number has at most 20 octets (RFC 5280 section 4.1.2.2), some more in practice.
const MAX_KEY_LEN: usize = 128;

/// Why a list is refused. The last good one stays in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StatusError {
    /// Not an acceptable JSON object.
    #[error("the revocation list is refused: {0}")]
    Json(#[from] JsonError),
    /// No `entries` object.
    #[error("the revocation list has no entries")]
    NoEntries,
    /// A key that is no serial number.
    #[error("the revocation list has an entry under something that is no serial number")]
    Key,
}

impl StatusError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Json(error) => error.reason(),
            Self::NoEntries => "status_list_no_entries",
            Self::Key => "status_list_bad_key",
        }
    }
}

/// Why a certificate is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revocation {
    /// `REVOKED`, or a status that is not known.
    Revoked,
    /// `SUSPENDED`.
    Suspended,
}

impl Revocation {
    /// The word of the list.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Revoked => "revoked",
            Self::Suspended => "suspended",
        }
    }
}

/// A list that was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StatusList {
    entries: HashMap<String, Revocation>,
}

impl StatusList {
    /// A list without entries, where an operator's file stands in for Google's.
    pub fn empty() -> Self {
        Self::default()
    }

    /// Read a list: `{"entries": {"<serial>": {"status": ".."}}}`.
    pub fn parse(bytes: &[u8]) -> Result<Self, StatusError> {
        let list = json::object(bytes, LIMITS)?;
        let listed = list.get("entries").and_then(Value::as_object).ok_or(StatusError::NoEntries)?;
        let mut entries = HashMap::with_capacity(listed.len());
        for (key, entry) in listed {
            if key.is_empty() || key.len() > MAX_KEY_LEN || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(StatusError::Key);
            }
            let suspended = entry.get("status").and_then(Value::as_str) == Some("SUSPENDED");
            entries.insert(normal(key), if suspended { Revocation::Suspended } else { Revocation::Revoked });
        }
        Ok(Self { entries })
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a certificate with this serial number, in hex, is listed.
    pub fn of_serial(&self, hex: &str) -> Option<Revocation> {
        let by_hex = self.entries.get(&normal(hex));
        by_hex.or_else(|| self.entries.get(&decimal(hex)?)).copied()
    }
}

/// Lower case, without leading zeros.
fn normal(key: &str) -> String {
    key.trim_start_matches('0').to_ascii_lowercase()
}

/// A number in hex as one in decimal, without leading zeros.
fn decimal(hex: &str) -> Option<String> {
    if hex.len() > MAX_KEY_LEN {
        return None;
    }
    // Digits, the last one first.
    let mut digits: Vec<u8> = Vec::new();
    for digit in hex.chars() {
        let mut carry = digit.to_digit(16)?;
        for place in &mut digits {
            let value = u32::from(*place) * 16 + carry;
            *place = u8::try_from(value % 10).ok()?;
            carry = value / 10;
        }
        while carry > 0 {
            digits.push(u8::try_from(carry % 10).ok()?);
            carry /= 10;
        }
    }
    Some(digits.iter().rev().map(|digit| char::from(b'0' + digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> StatusList {
        StatusList::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn both_spellings_of_a_serial_number_are_found() {
        let list = list(
            r#"{"entries":{"abc123":{"status":"REVOKED"},"11256099":{"status":"SUSPENDED","reason":"X"},
            "00FF":{"status":"REVOKED"}, "7":{"status":"SOMETHING_NEW"}}}"#,
        );
        assert_eq!(list.of_serial("abc123"), Some(Revocation::Revoked));
        assert_eq!(list.of_serial("00ABC123"), Some(Revocation::Revoked));
        assert_eq!(list.of_serial("ff"), Some(Revocation::Revoked));
        assert_eq!(list.of_serial("7"), Some(Revocation::Revoked), "an unknown status counts");
        assert_eq!(list.of_serial("abc124"), None);
        assert_eq!((list.len(), list.is_empty()), (4, false));
        let by_decimal = super::StatusList::parse(br#"{"entries":{"11256099":{"status":"SUSPENDED"}}}"#).unwrap();
        assert_eq!(by_decimal.of_serial("ABC123"), Some(Revocation::Suspended));
        assert_eq!(by_decimal.of_serial("abc124"), None);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (text, reason) in [
            ("", "malformed_json"),
            ("[]", "not_an_object"),
            ("{}", "status_list_no_entries"),
            (r#"{"entries":[]}"#, "status_list_no_entries"),
            (r#"{"entries":{"":{}}}"#, "status_list_bad_key"),
            (r#"{"entries":{"xyz":{"status":"REVOKED"}}}"#, "status_list_bad_key"),
            (r#"{"entries":{},"entries":{"1":{}}}"#, "duplicate_member"),
        ] {
            assert_eq!(StatusList::parse(text.as_bytes()).unwrap_err().reason(), reason, "{text}");
        }
        assert!(list(r#"{"entries":{}}"#).is_empty());
    }

    proptest! {
        #[test]
        fn decimal_is_the_same_number(number in any::<u128>()) {
            prop_assert_eq!(decimal(&format!("{number:x}")), Some(if number == 0 { String::new() } else { number.to_string() }));
        }
    }
}
