//! How much a request can take of a model at the very most, before anybody is asked.
//!
//! Tokens are bounded by bytes: published tokenizers work on bytes and make at least one of each token, and what a provider puts
//! around a text (roles, turns) is shorter than the JSON around it; what it puts before all of them has an allowance. Pictures and sound
//! are bounded by what providers document of them. What is not in the request itself (an earlier answer, a file, what the provider's own tools
//! read) is bounded only by what fits into the model.
//!
//! Where that bound is too much, and the model's vocabulary is public, the texts are counted ([`counted`]).

mod texts;

use crate::json::{JsonError, Limits, Node, node};
use crate::tokens::Vocabulary;

/// What providers put before a request by themselves: the longest published chat template (gpt-oss) has some 70 tokens.
const ALLOWANCE: u64 = 128;
/// What they put there where there are tools: Anthropic says up to 530 (docs.claude.com, "Tool use system prompt").
const TOOLS_ALLOWANCE: u64 = 1024;
/// The tokens of a picture: Anthropic up to 4,784, Google 2,240, OpenAI 1,445 (tiles) and 3,779 (patches), Mistral some 4,160.
const IMAGE: u64 = 8192;
/// With gpt-4o-mini a picture is 2,833 tokens and 5,667 for each of up to 8 tiles (platform.openai.com/docs/guides/images-vision).
const IMAGE_GPT_4O_MINI: u64 = 2833 + 8 * 5667;
/// Bytes of sound for each token: 32 tokens a second (Google), and no codec in use needs less than 512 bytes a second.
const BYTES_PER_AUDIO_TOKEN: u64 = 16;

/// Texts longer than this in all are not counted: it would take tens of milliseconds.
pub const MOST_COUNTED: usize = 1 << 20;

/// No fewer tokens than all but the pictures and the sound of a request in JSON are to a model of this vocabulary, for
/// [`Brought::tokens_as_counted`]. `None`: it is no JSON, or too long.
pub fn counted(body: &[u8], vocabulary: Vocabulary) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let root = root(text).ok()?;
    let mut walk = Walk::default();
    walk.walk(&root, "");
    texts::count(text, &root, (walk.media, vocabulary))
}

fn root(text: &str) -> Result<Node<'_>, JsonError> {
    node(text, &Limits { nodes: usize::MAX, ..Limits::REQUEST })
}

/// What a request brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    /// Bytes of all but pictures and sound.
    pub bytes: u64,
    /// Pictures.
    pub images: u64,
    /// Bytes of sound, as they are in the request (base64).
    pub audio_bytes: u64,
    /// Whether there is more than is in it: what the provider holds, reads by itself or fetches.
    pub beyond: bool,
    /// Whether the model is given tools.
    pub tools: bool,
    /// Whether a cache is to keep something for an hour, which costs twice what reading it does
    /// (docs.claude.com, "Prompt caching").
    pub long_cache: bool,
    /// What a tier of service costs for each 1 that the usual one does.
    pub factor: u32,
    /// Bytes of what the request says the answer will be: what of it is wrong is charged as generated (OpenAI).
    pub predicted: u64,
}

impl Brought {
    /// What a request in JSON brings, in whichever dialect. `None` for what is no JSON.
    pub fn of(body: &[u8]) -> Option<Self> {
        let root = root(std::str::from_utf8(body).ok()?).ok()?;
        Some(Self::read(&root, body.len()))
    }

    /// The same of one that has been read; it has so many bytes.
    pub(crate) fn read(root: &Node<'_>, bytes: usize) -> Self {
        let bytes = bytes as u64;
        let brought = Self { bytes, factor: 1, beyond: names_more(root), ..Self::default() };
        let mut walk = Walk { brought, ..Walk::default() };
        walk.walk(root, "");
        let mut brought = walk.brought;
        brought.tools =
            root.get("tools").or_else(|| root.get("functions")).or_else(|| root.get("toolConfig")).is_some();
        brought.factor = factor(root);
        brought.predicted = root.get("prediction").map_or(0, |prediction| prediction.raw.len() as u64);
        brought
    }

    /// What is certainly no fewer tokens than the input of `model` has; `fits`: the most input that fits into it. `None` where there is
    /// no bound.
    pub fn tokens(&self, model: &str, fits: Option<u64>) -> Option<u64> {
        self.tokens_as_counted(self.bytes, model, fits)
    }

    /// The same, where all but pictures and sound is known to be no more tokens than `texts`.
    pub fn tokens_as_counted(&self, texts: u64, model: &str, fits: Option<u64>) -> Option<u64> {
        if self.beyond {
            return fits;
        }
        let each = if model.contains("gpt-4o-mini") { IMAGE_GPT_4O_MINI } else { IMAGE };
        let counted = texts
            .min(self.bytes)
            .saturating_add(self.images.saturating_mul(each))
            .saturating_add(self.audio_bytes.div_ceil(BYTES_PER_AUDIO_TOKEN))
            .saturating_add(ALLOWANCE)
            .saturating_add(if self.tools { TOOLS_ALLOWANCE } else { 0 });
        Some(counted.min(fits.unwrap_or(u64::MAX)))
    }
}

/// Looks through a request.
#[derive(Debug, Default)]
struct Walk<'a> {
    brought: Brought,
    /// Pictures and sound, as they are written.
    media: Vec<&'a str>,
}

impl<'a> Walk<'a> {
    fn walk(&mut self, at: &Node<'a>, name: &str) {
        for item in at.items() {
            // Ollama's pictures are texts in a list of that name.
            if name == "images" && item.is_string() {
                self.picture(Some(item.raw));
            } else {
                self.walk(item, name);
            }
        }
        if at.is_string() && matches!(name, "image_url" | "url" | "image" | "document_url" | "video_url" | "audio_url")
        {
            self.linked(at, name);
        }
        let members = at.members();
        if members.is_empty() {
            return;
        }
        if matches!(at.text_of("type").as_deref(), Some("document" | "file" | "input_file" | "video")) && !is_text(at) {
            self.brought.beyond = true;
        }
        match kind_of(at, name) {
            Some(Media::Other) => self.brought.beyond = true,
            Some(media) => {
                let data = members.iter().find(|(name, _)| matches!(name.as_ref(), "data" | "bytes"));
                let data = data.map(|(_, data)| data.raw);
                match media {
                    Media::Image => self.picture(data),
                    _ => self.sound(data),
                }
                return;
            }
            None => {}
        }
        for (name, value) in members {
            match name.as_ref() {
                // References to what is elsewhere.
                "file_id" | "file_url" | "fileUri" | "file_uri" | "fileData" | "file_data" if !value.is_null() => {
                    self.brought.beyond = true;
                }
                "ttl" if value.text().as_deref() == Some("1h") => self.brought.long_cache = true,
                // The model reads these as text, whatever they look like.
                "metadata" | "text" | "parameters" | "input_schema" | "inputSchema" | "schema" | "args"
                | "arguments" | "response" | "json" => {}
                "input" if value.is_object() => {}
                _ => self.walk(value, name),
            }
        }
    }

    /// A text that is a picture or leads to one.
    fn linked(&mut self, text: &Node<'a>, name: &str) {
        let raw = text.raw.trim_start_matches('"');
        let begins = |start: &str| raw.get(..start.len()).is_some_and(|text| text.eq_ignore_ascii_case(start));
        if begins("data:image/") {
            self.picture(Some(text.raw));
        } else if begins("data:audio/") {
            self.sound(Some(text.raw));
        } else if begins("data:application/")
            || begins("data:video/")
            || matches!(name, "document_url" | "video_url" | "audio_url")
        {
            self.brought.beyond = true;
        } else {
            self.brought.images += 1;
        }
    }

    fn picture(&mut self, data: Option<&'a str>) {
        self.brought.images += 1;
        self.apart(data);
    }

    fn sound(&mut self, data: Option<&'a str>) {
        let bytes = data.map_or(0, |data| data.len() as u64);
        self.brought.audio_bytes = self.brought.audio_bytes.saturating_add(bytes);
        self.apart(data);
    }

    /// It is no text.
    fn apart(&mut self, data: Option<&'a str>) {
        let Some(data) = data else { return };
        self.brought.bytes = self.brought.bytes.saturating_sub(data.len() as u64);
        self.media.push(data);
    }
}

/// Whether a document is text that stands in the request (Anthropic).
fn is_text(document: &Node<'_>) -> bool {
    let kind = document.get("source").and_then(|source| source.text_of("type"));
    matches!(kind.as_deref(), Some("text" | "content"))
}

enum Media {
    Image,
    Audio,
    /// A document, a film: as long as it likes to be.
    Other,
}

/// What an object is that holds data with its type beside it (Anthropic's `source`, Google's `inlineData`, OpenAI's
/// `input_audio`), or inside something that says it (Bedrock).
fn kind_of(at: &Node<'_>, name: &str) -> Option<Media> {
    let data = at.get("data").or_else(|| at.get("bytes"))?;
    if !data.is_string() {
        return None;
    }
    if name == "input_audio" {
        return Some(Media::Audio);
    }
    let mime = ["media_type", "mimeType", "mime_type"].iter().find_map(|name| at.text_of(name));
    match mime.as_deref() {
        Some(mime) if mime.starts_with("image/") => Some(Media::Image),
        Some(mime) if mime.starts_with("audio/") => Some(Media::Audio),
        // Text in a document is text.
        Some(mime) if mime.starts_with("text/") => None,
        Some(_) => Some(Media::Other),
        None if at.get("bytes").is_some() && name == "source" => Some(Media::Other),
        None => None,
    }
}

/// Whether the model will read more than the request says.
fn names_more(root: &Node<'_>) -> bool {
    const MEMBERS: [&str; 10] = [
        "previous_response_id",
        "conversation",
        "container",
        "cachedContent",
        "cached_content",
        "mcp_servers",
        "web_search_options",
        "search_parameters",
        "connectors",
        "plugins",
    ];
    let said = |name: &&str| root.get(name).is_some_and(|value| !value.is_null());
    // A prompt is text for completions, and something stored for responses.
    let stored = root.get("prompt").is_some_and(Node::is_object);
    MEMBERS.iter().any(said) || stored || root.get("tools").is_some_and(runs_tools)
}

/// Whether there are tools among these that the provider runs itself.
fn runs_tools(tools: &Node<'_>) -> bool {
    tools.items().iter().any(|tool| match tool.text_of("type").as_deref() {
        // Anthropic's own tools that the client runs have names with a date; those of the server are known by theirs.
        Some(kind) if kind.starts_with("web_") || kind.starts_with("code_execution") => true,
        Some("function" | "custom") => false,
        Some(kind) => {
            !["bash_", "text_editor_", "computer_", "memory_"].iter().any(|own| kind.starts_with(own))
                && tool.get("input_schema").is_none()
                && tool.get("parameters").is_none()
        }
        // Google's: whatever is no list of functions.
        None => {
            let functions = ["functionDeclarations", "function_declarations", "name", "function", "toolSpec"];
            !functions.iter().any(|name| tool.get(name).is_some())
        }
    })
}

/// What the tier of service asked for costs for each 1: OpenAI's `priority` at most 2 (openai.com/api-priority-processing), Anthropic's
/// fast mode 6 (docs.claude.com, "Fast mode").
fn factor(root: &Node<'_>) -> u32 {
    if root.text_of("speed").as_deref() == Some("fast") {
        return 6;
    }
    if root.text_of("service_tier").as_deref() == Some("priority") { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn brought(body: &Value) -> Brought {
        Brought::of(body.to_string().as_bytes()).expect("JSON")
    }

    fn with(content: &Value) -> Brought {
        brought(&json!({"model": "m", "messages": [{"role": "user", "content": content}]}))
    }

    #[test]
    fn text_is_bounded_by_its_bytes_and_by_what_fits() {
        let body = json!({"model": "m", "messages": [{"role": "user", "content": "a ".repeat(1000)}]});
        let bytes = body.to_string().len() as u64;
        let text = brought(&body);
        assert_eq!((text.bytes, text.images, text.beyond, text.factor), (bytes, 0, false, 1));
        assert_eq!(text.tokens("gpt-5", None), Some(bytes + ALLOWANCE));
        assert_eq!(text.tokens("gpt-5", Some(500)), Some(500));
        let tools = brought(&json!({"tools": [{"type": "function", "function": {"name": "f"}}]}));
        assert_eq!(tools.tokens("m", None), Some(tools.bytes + ALLOWANCE + TOOLS_ALLOWANCE));
    }

    #[test]
    fn pictures_count_as_what_providers_say_and_not_by_their_bytes() {
        let data = "A".repeat(100_000);
        for part in [
            json!([{"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}}]),
            json!([{"type": "input_image", "image_url": format!("data:image/png;base64,{data}")}]),
            json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}]),
            json!([{"inlineData": {"mimeType": "image/jpeg", "data": data}}]),
        ] {
            let seen = with(&part);
            assert!(seen.images == 1 && seen.bytes < 300 && !seen.beyond, "{seen:?}");
            assert_eq!(seen.tokens("gpt-5", None), Some(seen.bytes + IMAGE + ALLOWANCE));
            assert!(seen.tokens("gpt-4o-mini", None) > Some(48_000));
        }
        let ollama = brought(&json!({"messages": [{"role": "user", "content": "x", "images": [data]}]}));
        assert_eq!((ollama.images, ollama.bytes < 200), (1, true));
        let linked = with(&json!([{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]));
        assert_eq!(linked.images, 1);
    }

    #[test]
    fn sound_counts_by_the_longest_it_can_be() {
        let data = "A".repeat(16_000);
        let seen = with(&json!([{"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}]));
        assert_eq!(seen.audio_bytes, 16_002);
        assert_eq!(seen.tokens("m", None), Some(seen.bytes + 1001 + ALLOWANCE));
    }

    #[test]
    fn what_is_not_in_the_request_is_bounded_by_what_fits_only() {
        let data = "A".repeat(1000);
        for body in [
            json!({"previous_response_id": "resp_1"}),
            json!({"conversation": "conv_1"}),
            json!({"prompt": {"id": "pmpt_1"}}),
            json!({"cachedContent": "cachedContents/1"}),
            json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}),
            json!({"tools": [{"type": "file_search", "vector_store_ids": ["x"]}]}),
            json!({"tools": [{"type": "mcp", "server_label": "x"}]}),
            json!({"tools": [{"googleSearch": {}}]}),
            json!({"mcp_servers": [{}]}),
            json!({"messages": [{"content": [{"type": "file", "file": {"file_id": "file_1"}}]}]}),
            json!({"messages": [{"content": [{"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": data}}]}]}),
            json!({"contents": [{"parts": [{"fileData": {"fileUri": "x"}}]}]}),
            json!({"contents": [{"parts": [{"inlineData": {"mimeType": "video/mp4", "data": data}}]}]}),
            json!({"messages": [{"content": [{"document": {"format": "pdf", "source": {"bytes": data}}}]}]}),
            json!({"messages": [{"content": [{"type": "document_url", "document_url": "https://example.com/a.pdf"}]}]}),
        ] {
            let seen = brought(&body);
            assert!(seen.beyond, "{body}");
            assert_eq!((seen.tokens("m", Some(1000)), seen.tokens("m", None)), (Some(1000), None));
        }
        for body in [
            json!({"prompt": "text"}),
            json!({"prompt": ["a", "b"]}),
            json!({"previous_response_id": null}),
            json!({"tools": [{"type": "function", "name": "f", "parameters": {}}, {"name": "g", "input_schema": {}}]}),
            json!({"tools": [{"type": "bash_20250124", "name": "bash"}, {"functionDeclarations": [{"name": "f"}]}]}),
            json!({"tools": [{"type": "custom", "name": "f"}]}),
            json!({"metadata": {"file_id": "x"}}),
            json!({"messages": [{"content": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}]}]}),
        ] {
            assert!(!brought(&body).beyond, "{body}");
        }
    }

    #[test]
    fn text_that_looks_like_a_picture_is_text() {
        let data = format!("data:image/png;base64,{}", "a ".repeat(50_000));
        for content in [
            json!(data),
            json!([{"type": "text", "text": data}]),
            json!([{"type": "tool_use", "id": "t", "name": "f", "input": {"url": data, "source": {"media_type": "image/png", "data": data}}}]),
            json!([{"functionCall": {"name": "f", "args": {"image_url": data}}}]),
            json!([{"functionResponse": {"name": "f", "response": {"inlineData": {"mimeType": "image/png", "data": data}}}}]),
        ] {
            let seen = with(&content);
            assert!(seen.images == 0 && seen.bytes > 100_000, "{seen:?}");
        }
    }

    #[test]
    fn tiers_and_long_caches_are_seen() {
        assert_eq!(brought(&json!({"service_tier": "priority"})).factor, 2);
        assert_eq!(brought(&json!({"speed": "fast"})).factor, 6);
        assert_eq!(brought(&json!({"service_tier": "flex"})).factor, 1);
        let cached = with(&json!([{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]));
        assert!(cached.long_cache);
    }

    proptest! {
        #[test]
        fn any_body_is_looked_at_without_panic_and_text_never_counts_less_than_its_bytes(text in "\\PC{0,200}") {
            let _seen = Brought::of(text.as_bytes());
            let seen = with(&json!(text));
            if seen.images == 0 && !seen.beyond {
                prop_assert!(seen.tokens("m", None).unwrap_or(0) >= text.len() as u64);
            }
        }
    }
}
