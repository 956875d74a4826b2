//! Values that are written as text with a form of their own, and their place in the JSON Schema.
//!
//! Every such type names its form with the schema keyword `x-kind`; the checker finds the parser by that
//! name, so that a wrong value is reported where it stands, together with every other fault.

use std::borrow::Cow;
use std::str::FromStr;

use base::{ByteSize, Name, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// Why a text is not a value of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueError {
    /// What is wrong with it.
    pub message: Cow<'static, str>,
    /// What to write instead.
    pub hint: Option<Cow<'static, str>>,
}

impl ValueError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub(crate) fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A text with a form of its own.
pub(crate) trait TextValue {
    /// The name of the form, for `x-kind`.
    const KIND: &'static str;
    /// What an editor shows.
    const DESCRIPTION: &'static str;
    /// One good value.
    const EXAMPLE: &'static str;
    /// Check a text.
    fn check(text: &str) -> Result<(), ValueError>;
}

/// The schema of a [`TextValue`].
pub(crate) fn text_schema<T: TextValue>() -> Schema {
    json_schema!({
        "type": "string",
        "x-kind": T::KIND,
        "description": T::DESCRIPTION,
        "examples": [T::EXAMPLE],
    })
}

/// Serde and schema for a type that has `FromStr<Err = ValueError>` and `Display`.
macro_rules! text_value {
    ($type:ty, $kind:literal, $description:literal, $example:literal) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(from)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
        impl $crate::text::TextValue for $type {
            const KIND: &'static str = $kind;
            const DESCRIPTION: &'static str = $description;
            const EXAMPLE: &'static str = $example;
            fn check(text: &str) -> Result<(), $crate::text::ValueError> {
                text.parse::<$type>().map(|_| ())
            }
        }
        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> std::borrow::Cow<'static, str> {
                $kind.into()
            }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                $crate::text::text_schema::<$type>()
            }
        }
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}
pub(crate) use text_value;

/// Stand-ins in the schema for the text types of `base`, which knows no schemas.
macro_rules! base_value {
    ($standin:ident, $type:ty, $kind:literal, $description:literal, $example:literal) => {
        #[doc = $description]
        pub(crate) struct $standin;
        impl TextValue for $standin {
            const KIND: &'static str = $kind;
            const DESCRIPTION: &'static str = $description;
            const EXAMPLE: &'static str = $example;
            fn check(text: &str) -> Result<(), ValueError> {
                <$type>::from_str(text).map(|_| ()).map_err(|e| ValueError::new(e.to_string()))
            }
        }
        impl JsonSchema for $standin {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                $kind.into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                text_schema::<$standin>()
            }
        }
    };
}
base_value!(NameText, Name, "name", "A name: letters, digits and . _ - / :, at most 128.", "openai");
base_value!(SpanText, Span, "duration", "A duration: a whole number and ms, s, m, h or d.", "30s");
base_value!(SizeText, ByteSize, "size", "A size: a whole number and B, KiB, MiB or GiB.", "10MiB");
