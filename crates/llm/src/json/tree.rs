//! A parsed document, each value with its own text.

use std::borrow::Cow;

use super::parse::{decode, tree};
use super::{JsonError, Limits};

/// One JSON value.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    /// The value as written.
    pub(crate) raw: &'a str,
    /// What it is.
    pub(crate) kind: Kind<'a>,
}

/// The kind of a value and what is inside.
#[derive(Debug, Clone)]
pub(crate) enum Kind<'a> {
    Null,
    Bool(bool),
    Number,
    String { escaped: bool },
    Array(Vec<Node<'a>>),
    Object(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// Parse `text`.
pub(crate) fn node<'a>(text: &'a str, limits: &Limits) -> Result<Node<'a>, JsonError> {
    tree(text, limits)
}

impl<'a> Node<'a> {
    /// The member `name` unless it is absent or null. Of duplicates the last counts, as for most readers.
    pub(crate) fn get(&self, name: &str) -> Option<&Node<'a>> {
        self.members().iter().rev().find(|(key, _)| key == name).map(|(_, value)| value).filter(|v| !v.is_null())
    }

    /// Where it begins in `text`, which it was read from.
    pub(crate) fn offset_in(&self, text: &[u8]) -> usize {
        self.raw.as_ptr().addr().saturating_sub(text.as_ptr().addr())
    }

    /// Where it stands in `text`, which it was read from: offset and length.
    pub(crate) fn span_in(&self, text: &[u8]) -> (usize, usize) {
        (self.offset_in(text), self.raw.len())
    }

    /// The members of an object; none for anything else.
    pub(crate) fn members(&self) -> &[(Cow<'a, str>, Node<'a>)] {
        match &self.kind {
            Kind::Object(members) => members,
            _ => &[],
        }
    }

    /// The elements of an array; none for anything else.
    pub(crate) fn items(&self) -> &[Node<'a>] {
        match &self.kind {
            Kind::Array(items) => items,
            _ => &[],
        }
    }

    /// The text of a string. Half a surrogate pair reads as U+FFFD.
    pub(crate) fn text(&self) -> Option<Cow<'a, str>> {
        let Kind::String { escaped } = self.kind else { return None };
        decode(self.raw, escaped).or_else(|| lossy(self.raw).map(Cow::Owned))
    }

    /// The text of a string whose escapes are all characters.
    pub(crate) fn exact(&self) -> Option<Cow<'a, str>> {
        let Kind::String { escaped } = self.kind else { return None };
        decode(self.raw, escaped)
    }

    /// The text of a string member.
    pub(crate) fn text_of(&self, name: &str) -> Option<Cow<'a, str>> {
        self.get(name)?.text()
    }

    /// A boolean.
    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.kind {
            Kind::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// A whole number from 0 to 2^64-1.
    pub(crate) fn whole(&self) -> Option<u64> {
        self.raw.parse().ok().filter(|_| matches!(self.kind, Kind::Number))
    }

    /// Any number.
    pub(crate) fn number(&self) -> Option<f64> {
        self.raw.parse().ok().filter(|_| matches!(self.kind, Kind::Number))
    }

    /// The same as a value. Of duplicates the last counts.
    pub(crate) fn to_value(&self) -> serde_json::Value {
        match &self.kind {
            Kind::Null => serde_json::Value::Null,
            Kind::Bool(value) => (*value).into(),
            Kind::Number => serde_json::from_str(self.raw).unwrap_or_default(),
            Kind::String { .. } => self.text().unwrap_or_default().into(),
            Kind::Array(items) => items.iter().map(Self::to_value).collect(),
            Kind::Object(members) => {
                let members = members.iter().map(|(name, value)| (name.clone().into_owned(), value.to_value()));
                serde_json::Value::Object(members.collect())
            }
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Null)
    }

    pub(crate) fn is_object(&self) -> bool {
        matches!(self.kind, Kind::Object(_))
    }

    pub(crate) fn is_array(&self) -> bool {
        matches!(self.kind, Kind::Array(_))
    }

    pub(crate) fn is_string(&self) -> bool {
        matches!(self.kind, Kind::String { .. })
    }
}

/// A string literal whose escapes are not all characters: what cannot be read becomes U+FFFD.
fn lossy(literal: &str) -> Option<String> {
    let inner = literal.get(1..literal.len().checked_sub(1)?)?;
    let mut units: Vec<u16> = Vec::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        let c = if c == '\\' {
            match chars.next()? {
                'u' => {
                    let hex: String = chars.by_ref().take(4).collect();
                    units.push(u16::from_str_radix(&hex, 16).ok()?);
                    continue;
                }
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                other => other,
            }
        } else {
            c
        };
        units.extend(c.encode_utf16(&mut [0; 2]).iter());
    }
    Some(String::from_utf16_lossy(&units))
}
