//! Words, keys and moments in rules.

use std::fmt;
use std::str::FromStr;

use base::Timestamp;

use crate::text::{ValueError, text_value};

/// A word in tokens.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Annotation(String);

text_value!(Annotation, "annotation", "A word for tokens: lower-case letters, digits and . _ -, at most 64.", "old-os");

impl Annotation {
    /// As written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Annotation {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(&b);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(plain) {
            return Err(
                ValueError::new("not a word for tokens").hint("lower-case letters, digits and . _ -, at most 64")
            );
        }
        if text == FORCED_PASS {
            return Err(ValueError::new("this word is set by a forced pass only"));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Annotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The word in tokens of an instance that has a forced pass.
pub const FORCED_PASS: &str = "forced-pass";

/// SHA-256 of the key a device's system is signed with, in lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootKey(String);

text_value!(
    BootKey,
    "boot-key",
    "The key a device's system is signed with: SHA-256 in hex.",
    "1111111111111111111111111111111111111111111111111111111111111111"
);

impl BootKey {
    /// In lower-case hex.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for BootKey {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ValueError::new("not the hash of a key").hint("64 hexadecimal digits"));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for BootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A day, from its beginning, or a moment, both in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(Timestamp);

text_value!(Moment, "moment", "A day (2026-12-01, from 00:00 UTC) or a moment (RFC 3339).", "2026-12-01");

impl Moment {
    /// When it is.
    pub const fn at(self) -> Timestamp {
        self.0
    }
}

impl FromStr for Moment {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let day = text.len() == 10;
        let moment =
            if day { Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")) } else { Timestamp::parse_rfc3339(text) };
        moment.map(Self).ok_or_else(|| ValueError::new("not a moment").hint("2026-12-01, or 2026-12-01T09:00:00Z"))
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.rfc3339())
    }
}
