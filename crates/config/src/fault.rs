//! What is wrong with a configuration, and where.

use std::fmt;

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
pub(crate) struct Faults(Vec<Fault>);

impl Faults {
    /// Add a fault at `path`.
    pub(crate) fn add(&mut self, path: impl Into<String>, code: Code, message: impl Into<String>) -> &mut Fault {
        self.0.push(Fault {
            line: 0,
            column: 0,
            path: path.into(),
            code: code.as_str(),
            message: message.into(),
            hint: None,
        });
        let last = self.0.len() - 1;
        #[allow(clippy::indexing_slicing)] // pushed just above
        &mut self.0[last]
    }

    /// Whether any fault lies at or below `path`.
    pub(crate) fn touch(&self, path: &str) -> bool {
        self.0.iter().any(|fault| {
            fault.path.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        })
    }

    /// The faults, as found.
    pub(crate) fn into_vec(self) -> Vec<Fault> {
        self.0
    }
}

impl Fault {
    /// Say what to write instead.
    pub(crate) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(hint.into());
        self
    }
}
