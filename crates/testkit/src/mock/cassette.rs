//! Recorded provider traffic: one interaction a file, as described beside the shared data.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// One recorded interaction with a real provider.
#[derive(Debug)]
pub struct Cassette {
    /// Twelve hexadecimal digits.
    pub id: String,
    /// Whose answer it is: `openai`, `anthropic`, `groq`, ...
    pub provider: String,
    /// What was called: `chat.completions`, `messages`, ...
    pub endpoint: String,
    /// The method of the request.
    pub method: String,
    /// The path of the request, without the host.
    pub path: String,
    /// The type of the request's body, where it was recorded.
    pub request_type: Option<String>,
    /// The body of the request; empty if there was none.
    pub request_body: Vec<u8>,
    /// The status of the answer.
    pub status: u16,
    /// The type of the answer.
    pub content_type: String,
    /// The other headers of the answer.
    pub response_headers: Vec<(String, String)>,
    /// The body of the answer.
    pub response_body: Vec<u8>,
    /// Whether the answer is a stream of server-sent events.
    pub is_stream: bool,
    /// What is notable about it: `tools`, `stream`, `error`, ...
    pub features: Vec<String>,
    /// How true to the wire it is: `raw`, `parsed`, ...
    pub fidelity: String,
}

impl Cassette {
    /// Every recording of the shared data, in order of path; `None` where the data is absent.
    pub fn all() -> Option<&'static [Arc<Self>]> {
        static ALL: OnceLock<Option<Vec<Arc<Cassette>>>> = OnceLock::new();
        ALL.get_or_init(|| {
            let mut files = Vec::new();
            collect(&vectors::data()?.join("cassettes"), &mut files);
            files.sort();
            Some(files.iter().filter_map(|file| Self::read(file)).map(Arc::new).collect())
        })
        .as_deref()
    }

    /// The recordings of one provider and endpoint.
    pub fn of(provider: &str, endpoint: &str) -> Option<Vec<Arc<Self>>> {
        let fits = |one: &&Arc<Self>| one.provider == provider && one.endpoint == endpoint;
        Some(Self::all()?.iter().filter(fits).cloned().collect())
    }

    /// The request as JSON (`null` if it is not).
    pub fn request_json(&self) -> Value {
        serde_json::from_slice(&self.request_body).unwrap_or(Value::Null)
    }

    /// The answer as JSON (`null` if it is not).
    pub fn response_json(&self) -> Value {
        serde_json::from_slice(&self.response_body).unwrap_or(Value::Null)
    }

    /// Whether it is noted for this.
    pub fn has(&self, feature: &str) -> bool {
        self.features.iter().any(|other| other == feature)
    }

    /// Read a file; `None` if it is no recording (the collection has a few lists beside them).
    fn read(file: &Path) -> Option<Self> {
        let text = std::fs::read_to_string(file).ok()?;
        let wire: Wire = serde_json::from_str(&text).ok()?;
        let mut headers: Vec<(String, String)> = wire
            .response_headers
            .into_iter()
            .map(|(name, value)| {
                (name.to_ascii_lowercase(), value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            })
            // The mock frames the body itself, and the recorder has undone any compression.
            .filter(|(name, value)| !FRAMING.contains(&name.as_str()) && !value.contains(['\r', '\n']))
            .collect();
        let is_stream = wire.response_body.kind == "sse";
        let default = if is_stream { "text/event-stream" } else { "application/json" };
        let recorded = headers.iter().find(|(name, _)| name == "content-type").map(|(_, value)| value.clone());
        headers.retain(|(name, _)| name != "content-type");
        Some(Self {
            id: wire.id,
            provider: wire.provider,
            endpoint: wire.endpoint,
            method: wire.method,
            path: wire.path,
            request_type: wire
                .request_headers
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case("content-type"))
                .and_then(|(_, value)| value.as_str().map(str::to_owned)),
            request_body: wire.request_body.bytes(),
            status: wire.status.unwrap_or(200),
            content_type: recorded.unwrap_or_else(|| default.to_owned()),
            response_headers: headers,
            response_body: wire.response_body.bytes(),
            is_stream,
            features: wire.features,
            fidelity: wire.fidelity,
        })
    }
}

const FRAMING: [&str; 5] = ["content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive"];

#[derive(Deserialize)]
struct Wire {
    id: String,
    provider: String,
    endpoint: String,
    method: String,
    path: String,
    #[serde(default)]
    request_headers: serde_json::Map<String, Value>,
    request_body: Body,
    status: Option<u16>,
    response_headers: serde_json::Map<String, Value>,
    response_body: Body,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    fidelity: String,
}

#[derive(Deserialize)]
struct Body {
    kind: String,
    /// Kept as the text it is in the file: numbers, key order and white space stay.
    json: Option<Box<RawValue>>,
    text: Option<String>,
    data: Option<String>,
}

impl Body {
    fn bytes(self) -> Vec<u8> {
        match self.kind.as_str() {
            "json" => self.json.map(|json| json.get().as_bytes().to_vec()).unwrap_or_default(),
            "base64" => self.data.and_then(|data| STANDARD.decode(data).ok()).unwrap_or_default(),
            _ => self.text.unwrap_or_default().into_bytes(),
        }
    }
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
}
