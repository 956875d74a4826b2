//! What of a request decides where it goes.

use std::cell::OnceCell;

use config::Sticky;
use http::{HeaderMap, HeaderName};
use policy::Glob;
use serde_json::Value;

use crate::authenticate::Caller;

/// Bytes of input that count as one token: an estimate for choosing, never for billing.
const BYTES_PER_TOKEN: u64 = 4;

/// A request, as far as routes look at it. What is inside its body is looked for only if a route asks.
pub(crate) struct Facts<'a> {
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a [u8],
    /// Whether it brings tools, where that is known already.
    pub(crate) tools: Option<bool>,
    pub(crate) streamed: bool,
    /// The most output tokens it asks for.
    pub(crate) output: Option<u64>,
    /// Sizes somebody only supposes, instead of the body's.
    pub(crate) supposed: Supposed,
    pub(crate) parsed: OnceCell<Value>,
}

/// A request that is only supposed, to explain what would happen to it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Supposed {
    pub(crate) bytes: Option<u64>,
    pub(crate) images: Option<bool>,
}

impl<'a> Facts<'a> {
    /// A request with these header fields and this body.
    pub(crate) fn new(headers: &'a HeaderMap, body: &'a [u8]) -> Self {
        let (tools, output, supposed) = (None, None, Supposed::default());
        Self { headers, body, tools, streamed: false, output, supposed, parsed: OnceCell::new() }
    }

    /// The body's size.
    pub(crate) fn bytes(&self) -> u64 {
        self.supposed.bytes.unwrap_or(self.body.len() as u64)
    }

    /// About how many tokens its input has.
    pub(crate) fn input_tokens(&self) -> u64 {
        self.bytes().div_ceil(BYTES_PER_TOKEN)
    }

    fn has_tools(&self) -> bool {
        self.tools.unwrap_or_else(|| ["tools", "functions"].iter().any(|name| is_filled(self.parsed().get(name))))
    }

    fn has_images(&self) -> bool {
        // Most bodies need no second look: every way to bring an image has one of these in it.
        let hint =
            || ["image", "nline", "ile"].iter().any(|word| memchr::memmem::find(self.body, word.as_bytes()).is_some());
        self.supposed.images.unwrap_or_else(|| hint() && brings_image(self.parsed(), 0))
    }

    /// A text in its `metadata`.
    fn metadata(&self, key: &str) -> Option<&str> {
        self.parsed().get("metadata")?.get(key)?.as_str()
    }

    /// What the request calls its user.
    fn user(&self) -> Option<&str> {
        let own = |name: &str| self.parsed().get(name).and_then(Value::as_str);
        own("user").or_else(|| own("safety_identifier")).or_else(|| self.metadata("user_id"))
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as JSON; null where it is none. It was found well-formed and within limits before.
    pub(crate) fn parsed(&self) -> &Value {
        self.parsed.get_or_init(|| serde_json::from_slice(self.body).unwrap_or_default())
    }

    /// What this request has in common with those that are to go where it goes.
    pub(crate) fn sticky(&self, by: &Sticky, caller: &Caller) -> Option<u64> {
        let hashed = |parts: &[&str]| {
            // FNV-1a, with an end after each part.
            let bytes = parts.iter().flat_map(|part| part.bytes().map(u16::from).chain([256]));
            bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
        };
        match by {
            Sticky::Subject => Some(hashed(&[caller.issuer(), caller.subject()])),
            Sticky::Client => Some(hashed(&[caller.issuer(), caller.client()?])),
            // What callers write means nothing beyond their own requests.
            Sticky::User => Some(hashed(&[caller.issuer(), caller.client().unwrap_or_default(), self.user()?])),
            Sticky::Header(name) => Some(hashed(&[caller.issuer(), self.header(name)?])),
            Sticky::Metadata(key) => Some(hashed(&[caller.issuer(), self.metadata(key)?])),
        }
    }
}

fn is_filled(value: Option<&Value>) -> bool {
    value.and_then(Value::as_array).is_some_and(|list| !list.is_empty())
}

/// Whether an image is among what a model is to look at, as any dialect writes it: parts of type `image_url`, `input_image`
/// or `image`, Gemini's `inlineData` and `fileData` of an image's type, Ollama's `images`.
fn brings_image(value: &Value, depth: usize) -> bool {
    const DEEPEST: usize = 64;
    match value {
        _ if depth > DEEPEST => false,
        Value::Array(items) => items.iter().any(|item| brings_image(item, depth + 1)),
        Value::Object(members) => {
            let kind = members.get("type").and_then(Value::as_str);
            let of_image = |name: &str| {
                let data = members.get(name);
                let mime = data.and_then(|data| data.get("mimeType").or_else(|| data.get("mime_type")));
                mime.and_then(Value::as_str).is_some_and(|mime| mime.starts_with("image/"))
            };
            matches!(kind, Some("image_url" | "input_image" | "image"))
                || ["inlineData", "inline_data", "fileData", "file_data"].iter().any(|name| of_image(name))
                || is_filled(members.get("images"))
                // What tools are like brings nothing.
                || members.iter().any(|(name, value)| name != "tools" && brings_image(value, depth + 1))
        }
        _ => false,
    }
}

/// Conditions, compiled.
#[derive(Debug)]
pub(crate) struct Conditions {
    plain: config::When,
    client: Vec<Glob>,
    metadata: Vec<(String, Vec<Glob>)>,
    header: Vec<(HeaderName, Vec<Glob>)>,
}

impl Conditions {
    /// Compile them; `None` where there are none.
    pub(crate) fn compile(when: &config::When) -> Option<Self> {
        let globs = |patterns: &[config::Pattern]| patterns.iter().map(Glob::new).collect::<Vec<_>>();
        let header =
            when.header.iter().filter_map(|(name, values)| Some((HeaderName::try_from(name).ok()?, globs(values))));
        (!when.is_empty()).then(|| Self {
            plain: when.clone(),
            client: globs(&when.client),
            metadata: when.metadata.iter().map(|(key, values)| (key.clone(), globs(values))).collect(),
            header: header.collect(),
        })
    }

    /// The first condition that does not hold, by its name in the configuration.
    pub(crate) fn unmet(&self, facts: &Facts<'_>, client: Option<&str>) -> Option<&'static str> {
        let when = &self.plain;
        let is = |wanted: Option<bool>, has: &dyn Fn() -> bool| wanted.is_none_or(|wanted| wanted == has());
        let one_of =
            |globs: &[Glob], value: Option<&str>| value.is_some_and(|v| globs.iter().any(|glob| glob.matches(v)));
        let checks: [(&'static str, &dyn Fn() -> bool); 10] = [
            ("min_body", &|| when.min_body.is_none_or(|least| facts.bytes() >= least.as_u64())),
            ("max_body", &|| when.max_body.is_none_or(|most| facts.bytes() <= most.as_u64())),
            ("min_input_tokens", &|| when.min_input_tokens.is_none_or(|least| facts.input_tokens() >= least)),
            ("max_input_tokens", &|| when.max_input_tokens.is_none_or(|most| facts.input_tokens() <= most)),
            ("stream", &|| is(when.stream, &|| facts.streamed)),
            ("client", &|| self.client.is_empty() || one_of(&self.client, client)),
            ("header", &|| self.header.iter().all(|(name, globs)| one_of(globs, facts.header(name.as_str())))),
            ("tools", &|| is(when.tools, &|| facts.has_tools())),
            ("images", &|| is(when.images, &|| facts.has_images())),
            ("metadata", &|| self.metadata.iter().all(|(key, globs)| one_of(globs, facts.metadata(key)))),
        ];
        checks.into_iter().find(|(_, holds)| !holds()).map(|(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn unmet(when: Value, headers: &HeaderMap, body: &Value) -> Option<&'static str> {
        let when: config::When = serde_json::from_value(when).expect("conditions");
        let body = body.to_string();
        Conditions::compile(&when).expect("some").unmet(&Facts::new(headers, body.as_bytes()), Some("batch-1"))
    }

    #[test]
    fn every_condition_has_to_hold_and_the_first_that_does_not_is_named() {
        let mut headers = HeaderMap::new();
        headers.insert("x-tier", "gold".parse().expect("value"));
        let body =
            json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}], "metadata": {"team": "red"}});
        let of = |when| unmet(when, &headers, &body);
        assert_eq!(
            of(
                json!({"images": true, "client": "batch-*", "header": {"X-Tier": "gold"}, "metadata": {"team": ["blue", "r*"]}})
            ),
            None
        );
        assert_eq!(of(json!({"images": false})), Some("images"));
        assert_eq!(of(json!({"tools": true})), Some("tools"));
        assert_eq!(of(json!({"client": "app"})), Some("client"));
        assert_eq!(of(json!({"header": {"x-tier": "silver"}})), Some("header"));
        assert_eq!(of(json!({"header": {"x-none": "*"}})), Some("header"));
        assert_eq!(of(json!({"metadata": {"none": "*"}})), Some("metadata"));
        assert_eq!(of(json!({"max_body": "10B"})), Some("max_body"));
        assert_eq!(of(json!({"min_input_tokens": 1000})), Some("min_input_tokens"));
        assert_eq!(of(json!({"max_input_tokens": 1000, "stream": false})), None);
    }

    #[test]
    fn images_are_found_in_every_dialect_and_not_in_what_is_said_of_them() {
        let none = HeaderMap::new();
        for (with, body) in [
            (true, json!({"messages": [{"content": [{"type": "image_url", "image_url": {"url": "x"}}]}]})),
            (true, json!({"input": [{"content": [{"type": "input_image"}]}]})),
            (
                true,
                json!({"messages": [{"content": [{"type": "tool_result", "content": [{"type": "image", "source": {}}]}]}]}),
            ),
            (true, json!({"contents": [{"parts": [{"inlineData": {"mimeType": "image/png", "data": ""}}]}]})),
            (true, json!({"messages": [{"content": "x", "images": ["aGk="]}]})),
            (false, json!({"contents": [{"parts": [{"inlineData": {"mimeType": "audio/wav", "data": ""}}]}]})),
            (false, json!({"messages": [{"content": "an image in a file"}]})),
            (false, json!({"tools": [{"input_schema": {"type": "object", "properties": {"a": {"type": "image"}}}}]})),
        ] {
            assert_eq!(unmet(json!({"images": with}), &none, &body), None, "{body}");
        }
    }

    proptest! {
        #[test]
        fn any_body_is_looked_at_without_panic(body in "[\\[\\]{}\":,a-z_]{0,60}image") {
            let headers = HeaderMap::new();
            let facts = Facts::new(&headers, body.as_bytes());
            let _ = (facts.has_images(), facts.has_tools(), facts.user());
        }
    }
}
