//! What is wrong with a configuration, and where.

use std::fmt;

use crate::tree::{Node, line_and_column};

/// One fault. `line` and `column` are 1-based and count characters; both are 0 where there is no file
/// (a resource from the admin API).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// The column, from 1, in characters.
    pub column: usize,
    /// The place in the document: `provider[0].kind`. Empty for the document as a whole.
    pub path: String,
    /// A stable code: see [`Code`].
    pub code: &'static str,
    /// What is wrong. Never holds a value that may be secret.
    pub message: String,
    /// What to write instead, where that can be said.
    pub hint: Option<String>,
}

impl fmt::Display for Fault {
    /// `LINE:COLUMN: path: message (hint)`: put the file's name and a colon before it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.line > 0 {
            write!(f, "{}:{}: ", self.line, self.column)?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// The codes of faults.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// The text is not TOML.
    Syntax,
    /// Longer than [`crate::MAX_TEXT`].
    TooLarge,
    /// A key that does not exist.
    UnknownKey,
    /// A key that must be there is not.
    MissingKey,
    /// A number where a text belongs, and the like.
    WrongType,
    /// The right type, but not a value this key can have.
    BadValue,
    /// A secret written out where a reference belongs.
    SecretLiteral,
    /// Two resources of one kind with one name.
    DuplicateName,
    /// A name that no resource has.
    UnknownReference,
    /// Two keys, or two resources, that exclude each other.
    Conflict,
    /// A feature this version does not have.
    NotBuilt,
}

impl Code {
    /// The code as it is printed.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "syntax",
            Self::TooLarge => "too_large",
            Self::UnknownKey => "unknown_key",
            Self::MissingKey => "missing_key",
            Self::WrongType => "wrong_type",
            Self::BadValue => "bad_value",
            Self::SecretLiteral => "secret_literal",
            Self::DuplicateName => "duplicate_name",
            Self::UnknownReference => "unknown_reference",
            Self::Conflict => "conflict",
            Self::NotBuilt => "not_built",
        }
    }
}

/// Faults as they are found: by path; the line and column are looked up at the end.
#[derive(Debug, Default)]
pub struct Faults {
    found: Vec<Found>,
    /// Takes what comes after [`MAX_FAULTS`].
    more: Option<Found>,
}

/// So many faults are reported; who has more begins with these.
const MAX_FAULTS: usize = 500;

/// A fault that has no line yet.
#[derive(Debug)]
pub(crate) struct Found {
    fault: Fault,
    /// Whether the key is meant, not its value.
    at_key: bool,
    /// The path of another place the message is about.
    other: Option<String>,
}

impl Faults {
    /// Add a fault at `path`.
    pub(crate) fn add(&mut self, path: impl Into<String>, code: Code, message: impl Into<String>) -> &mut Found {
        let (path, message) = (path.into(), message.into());
        let fault = Fault { line: 0, column: 0, path, code: code.as_str(), message, hint: None };
        let found = Found { fault, at_key: false, other: None };
        if self.found.len() >= MAX_FAULTS {
            return self.more.insert(found);
        }
        self.found.push_mut(found)
    }

    /// Whether any fault lies at or below `path`.
    pub(crate) fn touch(&self, path: &str) -> bool {
        self.below(path).next().is_some()
    }

    /// Whether a fault lies exactly at `path`.
    pub(crate) fn hit(&self, path: &str) -> bool {
        self.found.iter().any(|found| found.fault.path == path)
    }

    /// Whether all faults at or below `path` are keys that do not belong there, without which the rest is whole.
    pub(crate) fn only_strange_keys(&self, path: &str) -> bool {
        self.below(path).all(|found| found.at_key)
    }

    fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a Found> {
        let below = move |found: &&Found| match found.fault.path.strip_prefix(path) {
            Some(rest) => path.is_empty() || rest.is_empty() || rest.starts_with(['.', '[']),
            None => false,
        };
        self.found.iter().filter(below)
    }

    /// Take over the faults of a part that stands at `path`.
    pub(crate) fn extend_at(&mut self, path: &str, part: Self) {
        let place = |inner: &str| match inner {
            "" => path.to_owned(),
            inner if inner.starts_with('[') => format!("{path}{inner}"),
            inner => format!("{path}.{inner}"),
        };
        let room = MAX_FAULTS.saturating_sub(self.found.len());
        self.found.extend(part.found.into_iter().take(room).map(|mut found| {
            found.fault.path = place(&found.fault.path);
            found.other = found.other.map(|other| place(&other));
            found
        }));
    }

    /// The faults with their lines and columns in `text`, in its order.
    pub(crate) fn locate(self, text: &str, root: &Node) -> Vec<Fault> {
        let mut faults: Vec<Fault> = self.found.into_iter().map(|found| found.locate(text, root)).collect();
        faults.sort_by_key(|fault| (fault.line, fault.column));
        faults.dedup();
        faults
    }

    /// The faults where there is no text.
    pub(crate) fn without_lines(self) -> Vec<Fault> {
        let finish = |Found { mut fault, other, .. }: Found| {
            if let Some(other) = other {
                fault.message = format!("{}: see {other}", fault.message);
            }
            fault
        };
        self.found.into_iter().map(finish).collect()
    }
}

impl Found {
    /// Say what to write instead.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.fault.hint = Some(hint.into());
        self
    }

    /// Point at the key, not its value.
    pub(crate) fn at_key(&mut self) -> &mut Self {
        self.at_key = true;
        self
    }

    /// Name the other place the message is about.
    pub(crate) fn see(&mut self, other: impl Into<String>) -> &mut Self {
        self.other = Some(other.into());
        self
    }

    fn locate(self, text: &str, root: &Node) -> Fault {
        let Self { mut fault, at_key, other } = self;
        (fault.line, fault.column) = line_and_column(text, root.locate(&fault.path, at_key));
        if let Some(other) = other {
            let (line, _) = line_and_column(text, root.locate(&other, false));
            fault.message = format!("{}: see {other} at line {line}", fault.message);
        }
        fault
    }
}
