//! Values that are written as text with a form of their own, and their place in the JSON Schema.
//!
//! Every such type names its form with the schema keyword `x-kind`; the checker finds the parser by that
//! name, so that a wrong value is reported where it stands, together with every other fault.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::str::FromStr;

use base::{ByteSize, Money, Name, Span};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::fault::Code;

/// Why a text is not a value of its kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ValueError {
    /// The kind of fault it is.
    pub(crate) code: Code,
    /// What is wrong with it.
    pub message: Cow<'static, str>,
    /// What to write instead.
    pub hint: Option<Cow<'static, str>>,
}

impl ValueError {
    pub(crate) fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { code: Code::BadValue, message: message.into(), hint: None }
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

/// Check a text of the kind a schema names. Kinds that only describe are good as they are.
pub(crate) fn check(kind: &str, text: &str) -> Result<(), ValueError> {
    use crate::values;
    macro_rules! kinds {
        ($($type:ty),* $(,)?) => {
            match kind {
                $(<$type as TextValue>::KIND => <$type as TextValue>::check(text),)*
                "listen" => listen(text),
                "file-path" => file_path(text),
                "client-hash" => client_hash(text),
                "ip" => ip(text),
                "apple-team" => apple_team(text),
                "bundle" => bundle(text),
                "dotted-version" => dotted_version(text),
                _ => Ok(()),
            }
        };
    }
    kinds!(
        NameText,
        SpanText,
        SizeText,
        MoneyText,
        values::HttpUrl,
        values::Origin,
        values::Cidr,
        values::Pattern,
        crate::host::HostPattern,
        values::RoutePath,
        values::PathPattern,
        values::Method,
        values::HeaderName,
        values::EnvName,
        values::SharedUrl,
        values::StoreUrl,
        crate::app::Sha256Hex,
        crate::budget::BudgetWindow,
        crate::client::Scope,
        crate::bucket::Bucket,
        crate::cloud::PathName,
        crate::cloud::FieldText,
        crate::pins::PinHash,
        crate::redirect::RedirectUri,
        crate::hedge::HedgeAfter,
        crate::risk::Annotation,
        crate::risk::BootKey,
        crate::risk::Moment,
        crate::risk::FlagName,
        crate::routing::Sticky,
        crate::time_window::TimeWindow,
    )
}

/// An address to listen on.
fn listen(text: &str) -> Result<(), ValueError> {
    if text.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let error = ValueError::new("not an address and port");
    Err(match text.strip_prefix(':').or_else(|| text.strip_prefix("localhost:")) {
        Some(port) if port.parse::<u16>().is_ok() && text.starts_with(':') => {
            error.hint(format!("write \"0.0.0.0:{port}\" for all addresses, \"127.0.0.1:{port}\" for this machine"))
        }
        Some(port) if port.parse::<u16>().is_ok() => error.hint(format!("write \"127.0.0.1:{port}\"")),
        _ => error.hint("write \"127.0.0.1:8080\" or \"[::1]:8080\""),
    })
}

/// An IP address.
fn ip(text: &str) -> Result<(), ValueError> {
    text.parse::<std::net::IpAddr>().map(|_| ()).map_err(|_| ValueError::new("not an IP address"))
}

/// A path of a file or directory.
fn file_path(text: &str) -> Result<(), ValueError> {
    if text.is_empty() || text.contains('\0') || text.len() > 4096 {
        return Err(ValueError::new("not a path"));
    }
    Ok(())
}

/// The hash of a client's secret.
fn client_hash(text: &str) -> Result<(), ValueError> {
    let base64url = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    match text.strip_prefix("sha256:") {
        Some(hash) if hash.len() == 43 && hash.bytes().all(base64url) => Ok(()),
        _ => Err(ValueError::new("not the hash of a secret").hint("`vouchgate client hash` makes one: sha256:...")),
    }
}

/// A team of Apple's developer program.
fn apple_team(text: &str) -> Result<(), ValueError> {
    if text.len() == 10 && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
        return Ok(());
    }
    Err(ValueError::new("not the id of a team or key of Apple's").hint("10 capital letters and digits: \"ABCDE12345\""))
}

/// A bundle identifier or package name.
fn bundle(text: &str) -> Result<(), ValueError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    if (1..=255).contains(&text.len()) && text.bytes().all(good) {
        return Ok(());
    }
    Err(ValueError::new("not the identifier of an app").hint("write it as the store has it: \"com.example.chat\""))
}

/// A version that can be compared.
fn dotted_version(text: &str) -> Result<(), ValueError> {
    match crate::dotted_version(text) {
        Some(_) if text.len() <= 64 => Ok(()),
        _ => Err(ValueError::new("not a version").hint("numbers with dots: \"1.4.0\"")),
    }
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
base_value!(MoneyText, Money, "money", "An amount of money: a number and USD, to a nano-USD.", "0.25 USD");
