//! Where a recording was made: which provider, of which kind, at which base path, and what its client calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use config::ProviderKind;
use serde_json::{Value, json};
use testkit::mock::Cassette;

/// What a recording is replayed with, and how it is asked for.
#[derive(Debug, Clone)]
pub(super) struct Home {
    /// The name of the provider here; one for each kind and base path.
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// What its base URL has after the host.
    pub(super) base: String,
    /// The recorded path, as an ordinary client writes it, and its query without credentials.
    pub(super) path: String,
    pub(super) query: Option<String>,
    /// Which of OpenAI's APIs it has to be configured for.
    pub(super) api: Option<&'static str>,
    /// The endpoint of ours that speaks the same dialect, if one does.
    pub(super) own: Option<Own>,
}

/// An endpoint of the public listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// The path of one whose body names the model.
    Body(&'static str),
    /// Gemini's: the path names model and method.
    Gemini,
}

/// Endpoints here, by how the path of their like at a provider ends.
const OWN: &[&str] = &[
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/moderations",
    "/v1/responses",
    "/v1/images/generations",
    "/v1/images/edits",
    "/v1/images/variations",
    "/v1/audio/speech",
    "/v1/audio/transcriptions",
    "/v1/audio/translations",
];

/// Methods of Gemini's that are endpoints here.
const GEMINI: &[&str] =
    &["generateContent", "streamGenerateContent", "countTokens", "embedContent", "batchEmbedContents"];

/// What a base path ends before.
const RESOURCES: &[&str] = &[
    "/chat/completions",
    "/completions",
    "/embeddings",
    "/responses",
    "/moderations",
    "/images/",
    "/audio/",
    "/vector_stores",
    "/batches",
    "/files",
    "/models",
    "/rerank",
];

/// Providers whose own API is not OpenAI's: what they have of that is at another base path.
const OTHERS: [&str; 4] = ["anthropic", "gemini", "bedrock", "vertex"];

/// A home for each recording, by its id.
pub(super) fn homes(all: &[Arc<Cassette>]) -> BTreeMap<String, Home> {
    let mut names: BTreeMap<(String, &'static str, String, Option<&'static str>), String> = BTreeMap::new();
    let mut taken: BTreeMap<String, usize> = BTreeMap::new();
    let mut homes = BTreeMap::new();
    for cassette in all {
        let mut home = Home::of(cassette);
        let provider = cassette.provider.replace('(', "-").replace(')', "");
        let key = (provider.clone(), home.kind, home.base.clone(), home.api);
        let called = names.entry(key).or_insert_with(|| {
            let count = taken.entry(provider.clone()).or_default();
            *count += 1;
            if *count == 1 { provider } else { format!("{provider}-{count}") }
        });
        home.name.clone_from(called);
        homes.insert(cassette.id.clone(), home);
    }
    homes
}

impl Home {
    fn of(cassette: &Cassette) -> Self {
        let (path, mut query) = path(&cassette.path);
        if cassette.is_stream && path.ends_with(":streamGenerateContent") && query.is_none() {
            // Events were recorded, and without this the answer is an array.
            query = Some("alt=sse".to_owned());
        }
        let kind = kind(cassette, &path);
        let base = base(kind, &path).to_owned();
        let own = match kind {
            "gemini" => path.rsplit_once(':').filter(|(_, method)| GEMINI.contains(method)).map(|_| Own::Gemini),
            // Cohere's and Voyage's own forms go where OpenAI's do not.
            _ => OWN.iter().find(|own| path.ends_with(own.trim_start_matches("/v1"))).map(|path| Own::Body(path)),
        };
        let own = own.filter(|_| cassette.method == "POST");
        let api = (kind == "openai-compatible" && path.contains("/responses")).then_some("responses");
        Self { name: String::new(), kind, base, path, query, api, own }
    }

    /// The path and query to call below `/providers/`.
    pub(super) fn native(&self) -> String {
        let query = self.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
        format!("/providers/{}{}{query}", self.name, self.path)
    }

    /// What the provider is to be called with then.
    pub(super) fn target(&self) -> String {
        let target = self.native().trim_start_matches("/providers/").trim_start_matches(&self.name).to_owned();
        // Amazon's own clients write a colon so, and so it is sent, whichever way it was written.
        if self.kind == "bedrock" { target.replace(':', "%3A") } else { target }
    }
}

/// The recorded path without what a recorder left in it: places to fill in, a slash too many, a credential.
fn path(recorded: &str) -> (String, Option<String>) {
    let (path, query) = recorded.split_once('?').map_or((recorded, ""), |(path, query)| (path, query));
    let mut plain = path.trim_start_matches('/').replace("{model}", "unknown").replace("%3A", ":");
    while let (Some(start), Some(end)) = (plain.find('<'), plain.find('>')) {
        plain.replace_range(start..=end, if start == 0 { "v1" } else { "us-central1" });
    }
    let parameters: Vec<&str> = query
        .split('&')
        .filter(|one| !one.is_empty() && !one.starts_with("key=") && !one.starts_with("upload_id="))
        .collect();
    (format!("/{plain}"), (!parameters.is_empty()).then(|| parameters.join("&")))
}

fn kind(cassette: &Cassette, path: &str) -> &'static str {
    let openai = RESOURCES.iter().any(|resource| path.ends_with(resource));
    match cassette.provider.as_str() {
        _ if path.contains("/v1/messages") => "anthropic",
        "vertex" => "openai-compatible",
        _ if path.contains(':') && path.contains("/models/") && !path.starts_with("/model/") => "gemini",
        provider if OTHERS.contains(&provider) && openai && !path.ends_with("/models") && !path.ends_with("/files") => {
            "openai-compatible"
        }
        "bedrock" if path.starts_with("/model/") => "bedrock",
        "azure" | "bedrock" => "openai-compatible",
        provider => ProviderKind::ALL
            .iter()
            .find(|kind| kind.as_str() == provider && kind.is_built())
            .map_or("openai-compatible", |kind| kind.as_str()),
    }
}

/// The part of `path` that is the provider's base, as its own SDK takes it.
fn base<'p>(kind: &str, path: &'p str) -> &'p str {
    let before = |mark: &str| path.find(mark).and_then(|at| path.get(..at));
    match kind {
        "anthropic" => before("/v1/").unwrap_or_default(),
        // Bytes go to the same root, behind a word of their own.
        "gemini" if path.starts_with("/upload/") => version(path.trim_start_matches("/upload")).unwrap_or_default(),
        "gemini" => before("/models/").or_else(|| version(path)).unwrap_or_default(),
        _ => RESOURCES.iter().find_map(|resource| before(resource)).or_else(|| version(path)).unwrap_or_default(),
    }
}

/// Up to and with the first segment that is a version: `/v1`, `/v1beta`.
fn version(path: &str) -> Option<&str> {
    let mut end = 0;
    for segment in path.split('/').skip(1) {
        end += 1 + segment.len();
        if segment.strip_prefix('v').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            return path.get(..end);
        }
    }
    None
}

/// The recorded request, or one like it where none was recorded, or one that is not the JSON it says it is.
pub(super) fn body(cassette: &Cassette) -> (Vec<u8>, Option<String>) {
    let json = || Some("application/json".to_owned());
    let kind = cassette.request_type.clone();
    let broken = kind.as_deref() == Some("application/json") && cassette.request_json().is_null();
    if !cassette.request_body.is_empty() && !broken {
        let media = || Some("application/octet-stream".to_owned());
        let is_json = !cassette.request_json().is_null();
        return (cassette.request_body.clone(), kind.or_else(|| if is_json { json() } else { media() }));
    }
    if cassette.method != "POST" {
        return (Vec::new(), None);
    }
    let hello = json!({"role": "user", "content": "Go on."});
    let mut made = match cassette.endpoint.as_str() {
        "audio.transcriptions" => {
            let part = |head: &str, content: &str| {
                format!("--made\r\nContent-Disposition: form-data; {head}\r\n\r\n{content}\r\n")
            };
            let file = part("name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav", "RIFF");
            let form = format!("{}{file}--made--\r\n", part("name=\"model\"", "unknown"));
            return (form.into_bytes(), Some("multipart/form-data; boundary=made".to_owned()));
        }
        "completions" => json!({"model": "unknown", "prompt": "Go on."}),
        "responses" | "embeddings" => json!({"model": "unknown", "input": "Go on."}),
        endpoint if endpoint.starts_with("generateContent") => {
            json!({"contents": [{"role": "user", "parts": [{"text": "Go on."}]}]})
        }
        _ => json!({"model": "unknown", "max_tokens": 1000, "messages": [hello]}),
    };
    if cassette.is_stream && cassette.status < 400 && !cassette.endpoint.starts_with("generateContent") {
        made["stream"] = true.into();
    }
    (made.to_string().into_bytes(), json())
}

/// The request as it goes to an endpoint of ours: the path, the body with the model named by its provider and not one
/// other byte different, and the body that is to reach the provider.
pub(super) fn own(cassette: &Cassette, home: &Home, own: Own) -> (String, Vec<u8>, Vec<u8>) {
    let (body, _) = body(cassette);
    match own {
        Own::Gemini => {
            let (_, rest) = home.path.rsplit_once("/models/").unwrap();
            let query = home.query.as_ref().map(|query| format!("?{query}")).unwrap_or_default();
            let path = format!("/v1beta/models/{}/{rest}{query}", home.name);
            if !rest.ends_with(":batchEmbedContents") {
                return (path, body.clone(), body);
            }
            // Each of a batch names the model once more.
            let text = String::from_utf8(body.clone()).unwrap();
            (path, text.replace("\"models/", &format!("\"models/{}/", home.name)).into_bytes(), body)
        }
        Own::Body(path) => {
            let Ok(value) = serde_json::from_slice::<Value>(&body) else {
                return (path.to_owned(), in_form(&body, &home.name), body);
            };
            let text = String::from_utf8(body.clone()).unwrap();
            let Some(model) = value["model"].as_str() else {
                // Azure names the model in the path, and of pictures OpenAI has one by default.
                let with = |model: &str| text.replacen('{', &format!("{{\"model\":\"{model}\","), 1).into_bytes();
                return (path.to_owned(), with(&format!("{}/unknown", home.name)), with("unknown"));
            };
            (path.to_owned(), with_model(&text, &value, &format!("{}/{model}", home.name)).into_bytes(), body)
        }
    }
}

/// A form with the provider before its model's name.
fn in_form(form: &[u8], provider: &str) -> Vec<u8> {
    let field = b"name=\"model\"\r\n\r\n";
    let at =
        form.windows(field.len()).position(|window| window == field).expect("the form names a model") + field.len();
    [&form[..at], provider.as_bytes(), b"/", &form[at..]].concat()
}

/// `text` with another value of its top-level `model`, found by trying each place that looks like it.
pub(super) fn with_model(text: &str, recorded: &Value, model: &str) -> String {
    let mut wanted = recorded.clone();
    wanted["model"] = model.into();
    let old = recorded["model"].to_string();
    for (at, _) in text.match_indices("\"model\"") {
        let Some(start) = text[at + 7..].find(&old).map(|offset| at + 7 + offset) else { continue };
        let candidate = format!("{}{}{}", &text[..start], Value::from(model), &text[start + old.len()..]);
        if serde_json::from_str::<Value>(&candidate).is_ok_and(|value| value == wanted) {
            return candidate;
        }
    }
    panic!("no top-level model in {text}");
}
