//! Names and ids that cannot be mistaken for one another.

use std::fmt;
use std::sync::Arc;

use crate::Rng;

/// The name an operator gives a resource: 1 to 128 characters of `A-Z a-z 0-9 . _ - / :`,
/// starting with a letter or digit. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

/// Why a text is not a [`Name`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Empty.
    #[error("a name cannot be empty")]
    Empty,
    /// Over 128 characters.
    #[error("a name has at most 128 characters")]
    TooLong,
    /// A character that names do not have, or a first one that is neither letter nor digit.
    #[error("a name starts with a letter or digit and holds only letters, digits and . _ - / :")]
    Character,
}

impl Name {
    /// Check and take a name.
    pub fn new(text: &str) -> Result<Self, NameError> {
        let first = text.bytes().next().ok_or(NameError::Empty)?;
        if text.len() > 128 {
            return Err(NameError::TooLong);
        }
        let inside = |b: u8| b.is_ascii_alphanumeric() || b"._-/:".contains(&b);
        if !first.is_ascii_alphanumeric() || !text.bytes().all(inside) {
            return Err(NameError::Character);
        }
        Ok(Self(Arc::from(text)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as a text to be held on to, without a copy.
    pub fn to_shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

/// Whose data a row is. One tenant, `default`, until multi-tenancy is built; every table has the column.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Tenant(Name);

impl Tenant {
    /// The tenant called `name`.
    pub fn new(name: Name) -> Self {
        Self(name)
    }

    /// The tenant as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The tenant as a text to be held on to, without a copy.
    pub fn to_shared(&self) -> Arc<str> {
        self.0.to_shared()
    }
}

impl Default for Tenant {
    fn default() -> Self {
        Self(Name(Arc::from("default")))
    }
}

/// Names one request in logs, errors and records: `req_` and 26 characters (128 random bits, base32).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId([u8; 30]);

impl RequestId {
    /// A new random id.
    pub fn new(rng: &dyn Rng) -> Self {
        const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
        let mut bytes = [0u8; 16];
        rng.fill(&mut bytes);
        let mut bits = u128::from_be_bytes(bytes);
        let mut text = *b"req_00000000000000000000000000";
        for slot in text.iter_mut().skip(4) {
            let index = (bits & 31) as usize;
            *slot = ALPHABET.get(index).copied().unwrap_or(b'0');
            bits >>= 5;
        }
        Self(text)
    }

    /// Read an id back, as one of ours was written.
    pub fn parse(text: &str) -> Option<Self> {
        let ours = text.strip_prefix("req_")?.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        text.as_bytes().try_into().ok().filter(|_| ours).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("req_")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededRng;

    #[test]
    fn a_name_refuses_what_could_be_taken_for_something_else() {
        assert!(Name::new("vouchgate/echo").is_ok());
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new("-x"), Err(NameError::Character));
        assert_eq!(Name::new("a b"), Err(NameError::Character));
        assert_eq!(Name::new("../x"), Err(NameError::Character));
        assert_eq!(Name::new(&"a".repeat(129)), Err(NameError::TooLong));
    }

    #[test]
    fn request_ids_differ_and_are_header_safe() {
        let rng = SeededRng::new(7);
        let (a, b) = (RequestId::new(&rng), RequestId::new(&rng));
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), 30);
        assert_eq!(RequestId::parse(a.as_str()), Some(a));
        assert_eq!(RequestId::parse("req_"), None);
        assert_eq!(RequestId::parse(&a.as_str().to_uppercase()), None);
        assert!(a.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
    }
}
