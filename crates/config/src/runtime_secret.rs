//! `[[runtime_secret]]`: a secret that apps use and do not carry.

use base::{Name, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::fault::{Code, Faults};
use crate::level::AttestationLevel;
use crate::resource::Alone;
use crate::text::{NameText, SpanText};
use crate::values::HeaderName;

/// The longest that a device may keep a secret it was given.
const LONGEST_KEPT: Span = Span::secs(300);

/// Who may use a secret, where, and how. Its values are in the vault, versions of them: `vouchgate secret runtime set NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSecret {
    /// What requests call it: `{{secret:NAME}}`.
    #[schemars(with = "NameText")]
    pub name: Name,
    /// The apps (the clients of our own tokens) that may use it.
    #[schemars(with = "Vec<NameText>", length(min = 1, max = 64))]
    pub apps: Vec<Name>,
    /// How well an instance of the app must have been attested.
    #[serde(default = "default_level")]
    pub minimum_level: AttestationLevel,
    /// Where `{{secret:NAME}}` is replaced by the value: `[[upstream]]`s of one origin.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(with = "Vec<NameText>", length(max = 64))]
    pub upstreams: Vec<Name>,
    /// In the values of these header fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub headers: Vec<HeaderName>,
    /// In the values of these parameters of the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 64)))]
    pub query: Vec<String>,
    /// Whether `POST /attest/v1/secrets` gives the value to instances of the apps. Whoever controls a device can read what it
    /// is given.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub deliver: bool,
    /// For how long an instance may keep what it was given.
    #[serde(default = "default_keep")]
    #[schemars(with = "SpanText")]
    pub keep: Span,
}

const fn default_level() -> AttestationLevel {
    AttestationLevel::HwStrong
}

const fn default_keep() -> Span {
    LONGEST_KEPT
}

impl Alone for RuntimeSecret {
    fn alone(&self, faults: &mut Faults) {
        crate::alone::own_name(self.name.as_str(), faults);
        for (list, key) in [(&self.apps, "apps"), (&self.upstreams, "upstreams")] {
            crate::alone::twice(list, key, faults);
        }
        crate::alone::twice(&self.query, "query", faults);
        for (index, header) in self.headers.iter().enumerate() {
            let lower = header.as_str().to_ascii_lowercase();
            if self.headers.iter().take(index).any(|before| before.as_str().eq_ignore_ascii_case(&lower)) {
                faults.add(format!("headers[{index}]"), Code::BadValue, "named twice");
            }
            if NEVER_SENT_ON.contains(&lower.as_str()) {
                faults
                    .add(format!("headers[{index}]"), Code::BadValue, "a caller's field of this name is never sent on")
                    .hint("name another, or let the upstream inject the value");
            }
        }
        for (index, name) in self.query.iter().enumerate() {
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~".contains(&b)) {
                faults
                    .add(format!("query[{index}]"), Code::BadValue, "not the name of a parameter")
                    .hint("letters, digits and - . _ ~ belong here");
            }
        }
        let places = !(self.headers.is_empty() && self.query.is_empty());
        if !self.upstreams.is_empty() && !places {
            faults.add("upstreams", Code::MissingKey, "nothing says where in a request the value may stand").hint(
                "name header fields (headers) or parameters (query): anywhere else an API might repeat it to the caller",
            );
        }
        if self.upstreams.is_empty() && places {
            let key = if self.headers.is_empty() { "query" } else { "headers" };
            faults.add(key, Code::Conflict, "no upstream is named that these would be sent to").hint("add upstreams");
        }
        if self.upstreams.is_empty() && !self.deliver {
            faults.add("", Code::MissingKey, "nothing says what the secret is for").hint(
                "name upstreams, in whose requests it is put here, or deliver = true, which gives it to the apps",
            );
        }
        if self.deliver && self.minimum_level == AttestationLevel::None {
            faults
                .add("minimum_level", Code::Conflict, "a secret is given to no app that has shown nothing")
                .hint("web is the least; hw-strong is the default");
        }
        if self.keep > LONGEST_KEPT || self.keep < Span::secs(10) {
            faults.add("keep", Code::BadValue, "from 10s to 5m");
        }
    }
}

/// Fields of a caller that no upstream is sent, or that do not hold what a caller chose.
const NEVER_SENT_ON: [&str; 11] = [
    "authorization",
    "cookie",
    "x-api-key",
    "x-goog-api-key",
    "api-key",
    "x-portkey-api-key",
    "dpop",
    "signature",
    "signature-input",
    "accept-encoding",
    "range",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(change: serde_json::Value) -> Vec<String> {
        let mut json = serde_json::json!({
            "name": "maps-key", "apps": ["chat-ios"], "upstreams": ["maps"], "headers": ["X-Maps-Key"]
        });
        let (Some(json), serde_json::Value::Object(change)) = (json.as_object_mut(), change) else { panic!("objects") };
        json.extend(change);
        match crate::read::<RuntimeSecret>(&serde_json::Value::Object(json.clone())) {
            Ok(_) => Vec::new(),
            Err(faults) => faults.into_iter().map(|fault| fault.path.trim_start_matches('.').to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_said_must_make_sense() {
        use serde_json::json;
        for (change, path) in [
            (json!({}), &[][..]),
            (json!({ "query": ["key", "api.key"] }), &[]),
            (json!({ "apps": [] }), &["apps"]),
            (json!({ "apps": ["a", "a"] }), &["apps[1]"]),
            (json!({ "headers": [] }), &["upstreams"]),
            (json!({ "headers": ["X-A", "x-a"] }), &["headers[1]"]),
            (json!({ "headers": ["Authorization"] }), &["headers[0]"]),
            (json!({ "query": ["a b"] }), &["query[0]"]),
            (json!({ "upstreams": [] }), &["headers", ""]),
            (json!({ "upstreams": [], "headers": [], "deliver": true }), &[]),
            (json!({ "deliver": true, "minimum_level": "none" }), &["minimum_level"]),
            (json!({ "minimum_level": "none" }), &[]),
            (json!({ "minimum_level": "best" }), &["minimum_level"]),
            (json!({ "keep": "6m" }), &["keep"]),
        ] {
            let mut found = faults(change.clone());
            found.sort();
            let mut expected = path.to_vec();
            expected.sort_unstable();
            assert_eq!(found, expected, "{change}");
        }
    }
}
