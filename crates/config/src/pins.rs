//! `[[pins]]` and `[app_config]`: what apps are told over the air.

use std::borrow::Cow;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use base::{Name, Span};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::alone::between;
use crate::fault::{Code, Faults};
use crate::resource::Alone;
use crate::text::{NameText, SpanText, ValueError, text_value};

const DAY: u64 = 86_400;

/// `[app_config]`: the signed configuration that apps fetch from `/.well-known/gateway-config/APP`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AppConfigSection {
    /// Files with the public root keys that are built into the apps (a JWK, a JWK Set or PEM; P-256): two, one of them a spare.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), with = "Vec<PathText>")]
    pub roots: Vec<PathBuf>,
    /// For how long a configuration counts. It is made anew after half of it.
    #[schemars(with = "SpanText")]
    pub lifetime: Span,
    /// For how long apps go on with one that counts no more, because they reach nobody who has a newer one. Keys are not
    /// dropped and not switched to before that is over too.
    #[schemars(with = "SpanText")]
    pub offline: Span,
    /// After how long apps ask for a newer one.
    #[schemars(with = "SpanText")]
    pub refresh_after: Span,
    /// The oldest version of the SDK that is served: numbers with dots.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub min_sdk: Option<String>,
}

impl Default for AppConfigSection {
    fn default() -> Self {
        Self {
            roots: Vec::new(),
            lifetime: Span::secs(14 * DAY),
            offline: Span::secs(7 * DAY),
            refresh_after: Span::secs(6 * 3600),
            min_sdk: None,
        }
    }
}

/// `[[pins]]`: a host whose keys apps are told, so that they refuse every other. What it shows now is the key of `server.tls`
/// unless `current` says it; what it will show is `next` or `next_file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PinSet {
    /// What it is called.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// The host, as in URLs: in small letters, without a port.
    #[schemars(length(min = 1, max = 253))]
    pub host: String,
    /// The apps that are told. Absent: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), with = "Vec<NameText>")]
    pub apps: Vec<Name>,
    /// What apps do when the host shows another key.
    #[serde(default)]
    pub mode: PinMode,
    /// The key the host shows, where TLS ends before Vouchgate. `vouchgate pins verify` looks from outside whether it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<PinHash>,
    /// The key it will show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<PinHash>,
    /// A file with the key it will show (PEM): a public key, a certificate, a certificate request or a private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kind" = "file-path"))]
    pub next_file: Option<PathBuf>,
    /// Keys it may show when the others are lost.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4))]
    pub backup: Vec<PinHash>,
    /// Files with such keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4), with = "Vec<PathText>")]
    pub backup_files: Vec<PathBuf>,
}

impl PinSet {
    /// The key that names a file of this machine, if one does.
    pub fn file_key(&self) -> Option<&'static str> {
        match (&self.next_file, self.backup_files.is_empty()) {
            (Some(_), _) => Some("next_file"),
            (None, false) => Some("backup_files"),
            (None, true) => None,
        }
    }
}

/// What apps do when a host shows a key that is not pinned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PinMode {
    /// They send nothing.
    #[default]
    Enforce,
    /// They go on, and say so later.
    Report,
}

/// The path of a file, in the schema.
struct PathText;

impl JsonSchema for PathText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "file-path".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "x-kind": "file-path", "description": "The path of a file." })
    }
}

/// SHA-256 of a key's `SubjectPublicKeyInfo`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PinHash([u8; 32]);

text_value!(
    PinHash,
    "pin",
    "The hash of a public key, `sha256/` and base64 with padding: `vouchgate pins hash FILE` prints it.",
    "sha256/AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
);

impl PinHash {
    /// Of these bytes.
    pub const fn new(hash: [u8; 32]) -> Self {
        Self(hash)
    }

    /// The hash.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl FromStr for PinHash {
    type Err = ValueError;
    fn from_str(text: &str) -> Result<Self, ValueError> {
        let hash = text.strip_prefix("sha256/").and_then(|text| STANDARD.decode(text).ok());
        hash.and_then(|hash| hash.try_into().ok()).map(Self).ok_or_else(|| {
            ValueError::new("not the hash of a key").hint("`vouchgate pins hash FILE` prints it: sha256/...=")
        })
    }
}

impl fmt::Display for PinHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256/{}", STANDARD.encode(self.0))
    }
}

impl Alone for AppConfigSection {
    fn alone(&self, faults: &mut Faults) {
        between(self.lifetime, Span::secs(3600), Span::secs(90 * DAY), "lifetime", faults);
        between(self.offline, Span::secs(0), Span::secs(365 * DAY), "offline", faults);
        between(self.refresh_after, Span::secs(60), Span::secs(30 * DAY), "refresh_after", faults);
        if self.refresh_after.duration().as_secs() * 2 > self.lifetime.duration().as_secs() {
            faults
                .add("refresh_after", Code::Conflict, "apps would not ask for a newer configuration in time")
                .hint("at most half of lifetime");
        }
        let dotted =
            |text: &str| text.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
        if self.min_sdk.as_deref().is_some_and(|version| !dotted(version)) {
            faults.add("min_sdk", Code::BadValue, "not a version").hint("numbers with dots: 1.2.0");
        }
    }
}

impl Alone for PinSet {
    fn alone(&self, faults: &mut Faults) {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]".contains(&b);
        let parsed = url::Host::parse(&self.host).is_ok_and(|host| host.to_string() == self.host);
        if !parsed || !self.host.bytes().all(allowed) {
            faults.add("host", Code::BadValue, "not a host as it stands in URLs").hint("for example ai.example.com");
        }
        if self.next.is_some() && self.next_file.is_some() {
            faults.add("next_file", Code::Conflict, "the next key is said twice").hint("give one of next, next_file");
        }
        let next = self.next.as_ref();
        if next.is_some() && next == self.current.as_ref() {
            faults.add("next", Code::Conflict, "the next key is the current one").hint("make a new key");
        }
        crate::alone::twice(&self.apps, "apps", faults);
        crate::alone::twice(&self.backup, "backup", faults);
    }
}
