//! JSON as it lies in the body: bounded, strict (RFC 8259), and with every value's own text kept.
//!
//! A general parser loses what a gateway must not change: the digits of a number, the order and the duplicates of
//! members, the place of a value in the body. Tool arguments and schemas pass through here as they were written.

mod parse;
#[cfg(test)]
mod tests;
mod tree;
mod write;

pub(crate) use parse::{Member, document, elements, members, picked};
pub(crate) use tree::{Kind, Node, node};
pub(crate) use write::{Array, Object, array, line, object, quoted};

/// Bounds on one JSON document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How deep arrays and objects may nest.
    pub depth: usize,
    /// How many values (members, elements, and the document itself) there may be.
    pub nodes: usize,
    /// Whether an object that names a member twice is refused: readers disagree on which one counts.
    pub unique_members: bool,
}

impl Limits {
    /// What a caller may send: 64 levels, 100,000 values, no duplicate members.
    pub const REQUEST: Self = Self { depth: 64, nodes: 100_000, unique_members: true };
    /// What a caller may send to be embedded: token lists are long, so 1,000,000 values.
    pub const EMBEDDINGS: Self = Self { depth: 64, nodes: 1_000_000, unique_members: true };
    /// What a provider may answer: 128 levels, 2,000,000 values.
    pub const RESPONSE: Self = Self { depth: 128, nodes: 2_000_000, unique_members: false };
}

impl Default for Limits {
    fn default() -> Self {
        Self::REQUEST
    }
}

/// Why a body is not JSON we take. Offsets are bytes from the start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not UTF-8.
    #[error("the body is not UTF-8 (byte {0})")]
    Utf8(usize),
    /// Not JSON.
    #[error("the body is not valid JSON (byte {0})")]
    Syntax(usize),
    /// Nested too deeply.
    #[error("the body nests deeper than {0} levels")]
    Depth(usize),
    /// Too many values.
    #[error("the body has more than {0} values")]
    Nodes(usize),
    /// A member named twice in one object.
    #[error("the member {0:?} is there twice")]
    Duplicate(String),
    /// The document is not an object.
    #[error("the body is not a JSON object")]
    NotObject,
}

impl JsonError {
    /// A stable code for metrics and logs.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Utf8(_) | Self::Syntax(_) | Self::NotObject => "invalid_json",
            Self::Depth(_) => "json_too_deep",
            Self::Nodes(_) => "json_too_large",
            Self::Duplicate(_) => "duplicate_member",
        }
    }
}
