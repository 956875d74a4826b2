//! What a request's body names of what providers store: searched for wherever it may stand, in JSON and in forms.

use llm::{JsonError, Limits};
use serde_json::Value;

use super::address::{self, Place};
use super::google;

/// Members that name a stored object, wherever they stand in a request.
const REFERENCES: [&str; 20] = [
    "previous_response_id",
    "response_id",
    "file_id",
    "file_ids",
    "input_file_id",
    "training_file",
    "validation_file",
    "conversation",
    "conversation_id",
    "vector_store_id",
    "vector_store_ids",
    "thread_id",
    "assistant_id",
    "container",
    "container_id",
    "batch_id",
    "upload_id",
    "skill_id",
    "dataset_id",
    "input_dataset_id",
];

/// What stands in `type` where a member `id`, or nothing at all, says which.
const SPOKEN_OF: [&str; 5] = ["item_reference", "stored_completions", "responses", MANAGED[0], MANAGED[1]];

/// How Azure is told to read a search index or database with its own identity, for a place that the caller names
/// (learn.microsoft.com/azure/ai-foundry/openai/references/on-your-data).
const MANAGED: [&str; 2] = ["system_assigned_managed_identity", "user_assigned_managed_identity"];

/// In the place of an id where a request asks for what everybody has stored: nobody ever owns it.
pub(super) const OF_EVERYBODY: &str = "*";

/// A request has been measured by the limits of the configuration, which may be wide.
const ALL_OF_IT: Limits = Limits { depth: 512, nodes: usize::MAX, unique_members: false };

/// Members that name what Google stores: a file by its address or its name, and others by theirs.
const GOOGLES: [&str; 22] = [
    "fileUri",
    "file_uri",
    "fileName",
    "file_name",
    "cachedContent",
    "cached_content",
    "fileSearchStoreNames",
    "file_search_store_names",
    "operationName",
    "operation_name",
    "previous_interaction_id",
    "previousInteractionId",
    "tunedModel",
    // What tools read of the operator's.
    "vertexAiSearch",
    "vertex_ai_search",
    "vertexRagStore",
    "vertex_rag_store",
    "externalApi",
    "external_api",
    "apiKeySecret",
    "apiKeySecretVersion",
    "api_key_secret_version",
];

/// The member by which Bedrock is told to read from a bucket.
const BUCKET: &str = "s3Location";

/// The stored objects a request names. Almost every request names none, which is seen without parsing it.
pub(crate) fn references(body: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    if may_name_object(body) || address::may_be_in(body) {
        match llm::read_json(body, &ALL_OF_IT) {
            Ok(value) => collect(&value, Place::Request, &mut found),
            // Nobody knows what it names.
            Err(JsonError::Depth(_) | JsonError::Nodes(_)) => found.push(OF_EVERYBODY.to_owned()),
            // No JSON: what may be sent on all the same has been decided.
            Err(_) => {}
        }
    }
    // One object named a hundred thousand times is looked up once.
    found.sort_unstable();
    found.dedup();
    found
}

/// Whether a string begins as one of [`REFERENCES`] does, or has an escape that could hide one: all names are ASCII.
fn may_name_object(body: &[u8]) -> bool {
    memchr::memchr2_iter(b'"', b'\\', body).any(|at| match body.get(at..) {
        // Almost no string begins with the same two letters.
        Some([b'"', first, second, rest @ ..]) => BEGINNINGS
            .names(*first, *second)
            .any(|name| name.as_bytes().get(2..).is_some_and(|end| rest.starts_with(end))),
        Some([b'\\', b'u', b'0', b'0', b'2'..=b'7', ..]) => true,
        _ => false,
    })
}

/// The letters that the names of [`may_name_object`] begin with, first and second, each name with a bit of its own.
struct Beginnings {
    first: [u64; 256],
    second: [u64; 256],
}

static NAMES: [&[&str]; 4] = [&REFERENCES, &SPOKEN_OF, &GOOGLES, &[BUCKET]];

static BEGINNINGS: Beginnings = Beginnings::of(NAMES);

impl Beginnings {
    #[allow(clippy::indexing_slicing)] // while compiling: out of bounds does not compile
    const fn of(lists: [&[&str]; 4]) -> Self {
        let mut table = Self { first: [0; 256], second: [0; 256] };
        let (mut list, mut bit) = (0, 0);
        while list < lists.len() {
            let mut at = 0;
            while at < lists[list].len() {
                let name = lists[list][at].as_bytes();
                table.first[name[0] as usize] |= 1 << bit;
                table.second[name[1] as usize] |= 1 << bit;
                (at, bit) = (at + 1, bit + 1);
            }
            list += 1;
        }
        table
    }

    /// The names that begin with these two: for almost all there are none.
    fn names(&self, first: u8, second: u8) -> impl Iterator<Item = &'static str> {
        let (first, second) = (self.first.get(usize::from(first)), self.second.get(usize::from(second)));
        let mut bits = first.zip(second).map_or(0, |(first, second)| first & second);
        std::iter::from_fn(move || {
            let bit = (bits != 0).then(|| bits.trailing_zeros())?;
            bits &= bits - 1;
            NAMES.iter().copied().flatten().nth(bit as usize).copied()
        })
    }
}

/// Whether a multipart form has a field that names a stored object. Such fields are rare, so they are not looked up.
///
/// Header fields and their parameters are named in any case, may be folded and quoted (RFC 2045, RFC 7578), so each
/// `Content-Disposition` is read up to the empty line after it as the most lenient reader would.
pub(crate) fn form_names_object(body: &[u8]) -> bool {
    const FIELD: &[u8] = b"ontent-disposition";
    // How far parameters have been looked at: a body that holds nothing but such names is still read once only.
    let mut seen = 0;
    // The first letter in either case; what follows is compared whole.
    for at in memchr::memchr2_iter(b'c', b'C', body) {
        let (before, from) = body.split_at_checked(at).unwrap_or_default();
        let Some((field, header)) = from.get(1..).and_then(|from| from.split_at_checked(FIELD.len())) else { break };
        let begins_line = matches!(before.last(), None | Some(b'\r' | b'\n'));
        if !(begins_line && field.eq_ignore_ascii_case(FIELD)) {
            continue;
        }
        let start = body.len() - header.len();
        // From the parameter on that the one before has not seen to its end.
        let known = body.get(start..seen).unwrap_or_default();
        let from = start + memchr::memrchr3(b';', b'\r', b'\n', known).unwrap_or(0);
        let until = header_end(body, from, start + LONGEST_HEADER);
        if is_endless(header) || header_names_object(body.get(from..until).unwrap_or_default()) {
            return true;
        }
        seen = until;
    }
    false
}

/// Where a header that has been read as far as `from` ends: before its empty line, or where nobody looks any further.
fn header_end(body: &[u8], from: usize, most: usize) -> usize {
    let rest = body.get(from..most.min(body.len())).unwrap_or_default();
    let ends = [b"\r\n\r\n".as_slice(), b"\n\n"];
    from + ends.iter().filter_map(|end| memchr::memmem::find(rest, end)).min().unwrap_or(rest.len())
}

/// No part has a longer header; what is past it is its content.
const LONGEST_HEADER: usize = 8 * 1024;

/// Whether what follows its name is a header field so long that the end of it is not looked at: nobody means well by that.
fn is_endless(header: &[u8]) -> bool {
    let Some(looked_at) = header.get(..LONGEST_HEADER) else { return false };
    let is_field = looked_at.trim_ascii_start().first() == Some(&b':');
    // A line that begins with space goes on with the one before.
    let folded = |at: usize| matches!(looked_at.get(at + 1), None | Some(b' ' | b'\t' | b'\r'));
    is_field && memchr::memchr_iter(b'\n', looked_at).all(folded)
}

/// Whether a parameter `name` (or `name*`, RFC 5987) of this header field begins with the name of a reference.
fn header_names_object(header: &[u8]) -> bool {
    String::from_utf8_lossy(header).split([';', '\r', '\n']).any(|parameter| {
        let Some((name, value)) = parameter.split_once('=') else { return false };
        let name = name.trim().to_ascii_lowercase();
        // In pieces (RFC 2231 section 3), which nothing that uploads a file has a reason for.
        if name.strip_prefix("name*").is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit())) {
            return true;
        }
        if name != "name" && !name.starts_with("name*") {
            return false;
        }
        let value: String = value.chars().filter(|c| !matches!(c, '"' | '\'' | '\\') && !c.is_whitespace()).collect();
        let value = value.to_ascii_lowercase();
        let value = value.strip_prefix("utf-8").unwrap_or(&value);
        // `file_id`, `file_ids[]`, `image[file_id]`, `images.0.file_id`
        let names = |part: &str| REFERENCES.iter().any(|known| part.starts_with(&known.to_ascii_lowercase()));
        value.contains('%') || value.split(['[', ']', '.']).any(names)
    })
}

fn collect(value: &Value, place: Place, found: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, place, found)),
        Value::Object(members) => {
            match members.get("type").and_then(Value::as_str) {
                Some("item_reference" | "file_id") => {
                    found.extend(members.get("id").and_then(Value::as_str).map(str::to_owned));
                }
                Some("stored_completions") => found.push(OF_EVERYBODY.to_owned()),
                Some(kind) if MANAGED.contains(&kind) => found.push(OF_EVERYBODY.to_owned()),
                _ => {}
            }
            if members.get("source").and_then(|source| source.get("type")?.as_str()) == Some("responses") {
                found.push(OF_EVERYBODY.to_owned());
            }
            for (name, value) in members {
                if REFERENCES.contains(&name.as_str()) {
                    named(value, found);
                }
                if GOOGLES.contains(&name.as_str()) {
                    google::named(name, value, found);
                }
                if name == BUCKET {
                    found.extend(value.get("uri").and_then(Value::as_str).map(str::to_owned));
                }
                let place = place.below(name, value);
                if address::is_address(name) {
                    found.extend(texts(value).into_iter().filter_map(|text| place.named(text)));
                }
                collect(value, place, found);
            }
        }
        _ => {}
    }
}

/// A text, or a list of texts.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// An id, a list of ids, or an object with an `id`.
fn named(value: &Value, found: &mut Vec<String>) {
    match value {
        // "auto" asks for a new one.
        Value::String(id) if id != "auto" && !id.is_empty() => found.push(id.clone()),
        Value::Array(ids) => found.extend(ids.iter().filter_map(Value::as_str).map(str::to_owned)),
        Value::Object(members) => found.extend(members.get("id").and_then(Value::as_str).map(str::to_owned)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_a_stored_object_is_seen() {
        let seen = |body: &str| references(body.as_bytes());
        assert_eq!(seen(r#"{"previous_response_id":"resp_1"}"#), ["resp_1"]);
        assert_eq!(seen(r#"{"input":[{"content":[{"type":"input_file","file_id":"file-1"}]}]}"#), ["file-1"]);
        assert_eq!(seen(r#"{"f\u0069le_id":"file-1"}"#), ["file-1"]);
        assert_eq!(seen(r#"{"tools":[{"vector_store_ids":["vs_1","vs_2"]}]}"#), ["vs_1", "vs_2"]);
        assert_eq!(seen(r#"{"conversation":{"id":"conv_1"}}"#), ["conv_1"]);
        assert_eq!(seen(r#"{"input":[{"type":"item_reference","id":"msg_1"}]}"#), ["msg_1"]);
        assert_eq!(seen(r#"{"tools":[{"container":{"type":"auto","file_ids":["file-2"]}}]}"#), ["file-2"]);
        assert!(
            seen(r#"{"container":"auto","messages":[{"content":"a file_id is an id"}],"file_id":null}"#).is_empty()
        );
        // Evaluations name what they read like this, and may ask for everybody's.
        assert_eq!(seen(r#"{"data_source":{"source":{"type":"file_id","id":"file-1"}}}"#), ["file-1"]);
        assert_eq!(seen(r#"{"data_source":{"source":{"type":"responses"}}}"#), [OF_EVERYBODY]);
        assert_eq!(seen(r#"{"data_source":{"type":"stored_completions"}}"#), [OF_EVERYBODY]);
        // Google's names have their collection before them.
        assert_eq!(seen(r#"{"cachedContent":"projects/p/cachedContents/c"}"#), ["cachedContents/c"]);
        assert_eq!(seen(r#"{"contents":[{"parts":[{"fileData":{"fileUri":"files/f"}}]}]}"#), ["files/f"]);
        assert_eq!(seen(r#"{"batch":{"input_config":{"file_name":"files/f"}}}"#), ["files/f"]);
        assert!(seen(r#"{"functionCall":{"args":{"file_name":"a.txt"}}}"#).is_empty(), "a tool's argument");
        assert_eq!(
            seen(r#"{"tools":[{"fileSearch":{"fileSearchStoreNames":["fileSearchStores/s"]}}]}"#),
            ["fileSearchStores/s"]
        );
        assert_eq!(seen(r#"{"previous_interaction_id":"v1_x"}"#), ["interactions/v1_x"]);
        // Whatever a dialect calls an address: with the provider's rights it would be read.
        for body in [
            r#"{"messages":[{"content":[{"type":"image_url","image_url":{"url":"gs://b/x"}}]}]}"#,
            r#"{"messages":[{"content":[{"type":"image_url","image_url":"gs:\/\/b\/x"}]}]}"#,
            r#"{"input":[{"content":[{"type":"input_file","file_url":"gs://b/x"}]}]}"#,
            r#"{"messages":[{"content":[{"type":"image","source":{"type":"url","url":"gs:\u002f/b/x"}}]}]}"#,
            r#"{"messages":[{"content":[{"type":"input_audio","input_audio":{"data":"gs://b/x"}}]}]}"#,
            r#"{"instances":[{"image":{"gcsUri":"gs://b/x"}}]}"#,
            r#"{"inputConfig":{"gcsSource":{"uris":["gs://b/x"]}}}"#,
            r#"{"contents":[{"parts":[{"fileData":{"fileUri":"gs://b/x"}}]}]}"#,
        ] {
            assert_eq!(seen(body), ["gs://b/x"], "{body}");
        }
        assert_eq!(
            seen(r#"{"image_url":{"url":"https://generativelanguage.googleapis.com/v1beta/files/f"}}"#),
            ["files/f"]
        );
        assert_eq!(seen(r#"{"source":{"s3Location":{"uri":"s3://b/x"}}}"#), ["s3://b/x"]);
        for body in [
            r#"{"parameters":{"storageUri":"gs://b/x"}}"#,
            r#"{"outputConfig":{"gcsDestination":{"outputUriPrefix":"gs://b/x"}}}"#,
            r#"{"outputDataConfig":{"s3OutputDataConfig":{"s3Uri":"s3://b/x"}}}"#,
        ] {
            assert_eq!(seen(body), [OF_EVERYBODY], "written: {body}");
        }
        for body in [
            r#"{"messages":[{"content":"gs://b/x"}]}"#,
            r#"{"messages":[{"content":[{"type":"tool_use","input":{"url":"gs://b/x"}}]}]}"#,
            r#"{"contents":[{"parts":[{"functionCall":{"args":{"url":"gs://b/x"}}}]}]}"#,
            r#"{"contents":[{"parts":[{"functionResponse":{"response":{"uri":"gs://b/x"}}}]}]}"#,
            r#"{"image_url":{"url":"https://storage.googleapis.com/public/x.png"}}"#,
        ] {
            assert!(seen(body).is_empty(), "{body}");
        }
        // Azure's own identity, shown to whomever the caller names.
        let search = |kind: &str| {
            let at = r#""endpoint":"https://evil.search.windows.net""#;
            seen(&format!(
                r#"{{"data_sources":[{{"type":"azure_search","parameters":{{{at},"authentication":{{"type":"{kind}"}}}}}}]}}"#
            ))
        };
        assert_eq!(search("system_assigned_managed_identity"), [OF_EVERYBODY]);
        assert_eq!(search("user_assigned_managed_identity"), [OF_EVERYBODY]);
        assert!(search("api_key").is_empty(), "the caller's own");
        // What tools of Google's would read of the operator's.
        for tool in [
            r#"{"retrieval":{"vertexAiSearch":{"datastore":"projects/p/d"}}}"#,
            r#"{"retrieval":{"vertex_rag_store":{"rag_corpora":["c"]}}}"#,
            r#"{"retrieval":{"externalApi":{"apiAuth":{"apiKeyConfig":{"apiKeySecretVersion":"projects/p/secrets/s"}}}}}"#,
        ] {
            assert_eq!(seen(&format!(r#"{{"tools":[{tool}]}}"#)), [OF_EVERYBODY], "{tool}");
        }
        // Other parsers stumble over these, and would see nothing; providers do not.
        for beside in [r#""\ud800""#, "1e400", "-2.5e310", &("[".repeat(200) + &"]".repeat(200))] {
            assert_eq!(seen(&format!(r#"{{"file_id":"file-1","beside":{beside}}}"#)), ["file-1"], "{beside}");
        }
        let deep = format!(r#"{{"file_id":"file-1","beside":{}{}}}"#, "[".repeat(600), "]".repeat(600));
        assert_eq!(seen(&deep), [OF_EVERYBODY]);
        assert!(seen("not json file_id").is_empty());
        for name in REFERENCES {
            assert_eq!(seen(&format!(r#"{{"a":[{{"{name}":"x-1"}}]}}"#)), ["x-1"], "{name}");
        }
    }

    #[test]
    fn a_form_field_that_names_an_object_is_seen() {
        let form =
            |name: &str| format!("--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\nfile-1\r\n--b--");
        assert!(form_names_object(form("file_id").as_bytes()));
        assert!(form_names_object(form("file_ids[]").as_bytes()));
        for header in [
            "content-disposition: form-data; name=file_id",
            "CONTENT-DISPOSITION: form-data; NAME=\"file_id\"",
            "Content-Disposition: form-data; filename=\"a;b\"; name = \"file_id\"",
            "Content-Disposition: form-data;\r\n name=\"file_id\"",
            "Content-Disposition: form-data; name=\"f\\ile_id\"",
            "Content-Disposition: form-data; name*=utf-8''file%5Fid",
            "Content-Disposition: form-data; name*0=file; name*1=_id",
            "Content-Disposition: form-data; name=\"image[file_id]\"",
            "Content-Disposition: form-data; name=\"images.0.file_id\"",
        ] {
            assert!(form_names_object(format!("--b\r\n{header}\r\n\r\nfile-1\r\n--b--").as_bytes()), "{header}");
        }
        for padding in ["x=\"".to_owned() + &"a".repeat(9000) + "\";", "\r\n ".repeat(4000)] {
            let header = format!("Content-Disposition: form-data; {padding} name=\"file_id\"");
            assert!(form_names_object(format!("--b\r\n{header}\r\n\r\nfile-1\r\n--b--").as_bytes()), "padded");
        }
        let text = format!("a content-disposition\nin a long text {}", "word ".repeat(4000));
        let upload = format!("--b\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n{text}\r\n--b--");
        assert!(!form_names_object(upload.as_bytes()), "the words may stand in a file");
        let many = "\ncontent-disposition: form-data; a=b".repeat(20_000);
        assert!(!form_names_object(many.as_bytes()), "and is read once, however often");
        assert!(form_names_object((many + "; name=file_id").as_bytes()));
        let upload = "--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"conversation.jsonl\"\r\n\r\n\
                      {\"a\":\"; name=\\\"file_id\\\"\"}\r\n--b--";
        assert!(!form_names_object(upload.as_bytes()), "a file may be called and hold what it likes");
        assert!(!form_names_object(form("purpose").as_bytes()));
    }
}
