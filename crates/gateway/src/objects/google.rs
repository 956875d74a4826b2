//! What Google stores for callers, by the names it gives: `files/abc`, `cachedContents/abc` (ai.google.dev/api).
//!
//! A name is remembered with its collection before it, since callers choose the names of some: what is called the same elsewhere
//! is another object.

use serde_json::Value;

use super::references::OF_EVERYBODY;
use super::{Resource, address};

/// Collections in which Google keeps what callers make, and what their long operations are called.
const COLLECTIONS: [&str; 11] = [
    "files",
    "cachedContents",
    "batches",
    "tunedModels",
    "fileSearchStores",
    "generatedFiles",
    "corpora",
    "interactions",
    // Vertex AI's.
    "tuningJobs",
    "batchPredictionJobs",
    "operations",
];

/// Calls of models that leave something behind: an operation or a batch.
const LASTING: [&str; 3] = ["batchGenerateContent", "asyncBatchEmbedContent", "predictLongRunning"];

/// What `below` (`/files/abc:download`) is about.
pub(super) fn resource(below: &str) -> Resource<'_> {
    if let Some(name) = key(below) {
        return Resource::Object(name);
    }
    match collection(below) {
        Some(_) => Resource::Collection,
        None => Resource::Other,
    }
}

/// The collection a path ends in.
pub(crate) fn collection(below: &str) -> Option<&'static str> {
    let last = below.trim_end_matches('/').rsplit('/').next()?;
    let last = last.split(':').next()?;
    COLLECTIONS.into_iter().find(|collection| collection.eq_ignore_ascii_case(last))
}

/// The name in a path or in a longer name (`projects/p/locations/l/cachedContents/1`), as it is remembered: the outermost
/// collection of a caller's and what follows it. An operation on an object is the object's.
pub(crate) fn key(text: &str) -> Option<&str> {
    let mut start = 0;
    for segment in text.split('/') {
        let rest = text.get(start..)?;
        let end = start + segment.len() + 1;
        let next = text.get(end..).unwrap_or_default();
        let id = next.split(['/', ':', '?', '#']).next().unwrap_or_default();
        let known = |name: &str| COLLECTIONS.iter().any(|collection| collection.eq_ignore_ascii_case(name));
        // On the surface for OpenAI's clients a batch's id is a name: `/batches/batches/abc`.
        if known(segment) && !id.is_empty() && !id.eq_ignore_ascii_case(segment) {
            return rest.get(..segment.len() + 1 + id.len());
        }
        start = end;
    }
    None
}

/// Whether a call that is no collection's leaves something behind.
pub(crate) fn lasts(below: &str) -> bool {
    below.rsplit_once(':').is_some_and(|(_, method)| LASTING.contains(&method))
}

/// The file an address names, or itself if it leads into a bucket; what cannot be told is nobody's. `None`: a page anybody may
/// read.
pub(super) fn file(uri: &str) -> Option<String> {
    if address::is_bucket(uri) {
        return Some(uri.to_owned());
    }
    let lower = uri.to_ascii_lowercase();
    let page = lower.starts_with("http") && lower.contains("://") && !lower.contains("googleapis.com");
    let mut segments = uri.rsplit('/');
    let id = segments.next().unwrap_or_default().split([':', '?', '#']).next().unwrap_or_default();
    let (collection, version) = (segments.next(), segments.next());
    let is_name = !id.is_empty() && id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    let versions = ["v1", "v1beta", "v1alpha"];
    if collection == Some("files") && is_name && version.is_none_or(|version| versions.contains(&version)) {
        return Some(format!("files/{id}"));
    }
    (!page).then(|| OF_EVERYBODY.to_owned())
}

/// Tools that read what is the operator's, and secrets of the operator's that they would show.
const OPERATORS: [&str; 9] = [
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

/// What of Google's the member `name` of a request names.
pub(super) fn named(name: &str, value: &Value, found: &mut Vec<String>) {
    if OPERATORS.contains(&name) {
        found.extend((!value.is_null()).then(|| OF_EVERYBODY.to_owned()));
        return;
    }
    let texts: Vec<&str> = match value {
        Value::String(text) => vec![text.as_str()],
        Value::Array(items) => items.iter().filter_map(Value::as_str).collect(),
        _ => return,
    };
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        match name {
            "fileUri" | "file_uri" => found.extend(file(text)),
            // Arguments of tools are called so too: a file of Google's says that it is one.
            "fileName" | "file_name" if text.starts_with("files/") => found.push(key(text).unwrap_or(text).to_owned()),
            "fileName" | "file_name" => {}
            "previous_interaction_id" | "previousInteractionId" => found.push(format!("interactions/{text}")),
            _ => found.push(key(text).unwrap_or(text).to_owned()),
        }
    }
}

/// What a call made, by its answer or an event of it. `collection`: of the path, where an answer has the id alone.
pub(crate) fn made(value: &Value, collection: Option<&str>) -> Vec<String> {
    let told = [
        value.get("name"),
        value.get("id"),
        value.get("file").and_then(|file| file.get("name")),
        value.get("interaction").and_then(|interaction| interaction.get("id")),
    ];
    let several = value.get("files").and_then(Value::as_array).into_iter().flatten().map(|file| file.get("name"));
    let texts = told.into_iter().chain(several).flatten().filter_map(Value::as_str);
    texts.filter_map(|text| name_of(text, collection)).collect()
}

/// The name of one of a list.
pub(crate) fn item(item: &Value, collection: Option<&str>) -> Option<String> {
    let text = item.get("name").or_else(|| item.get("id"))?.as_str()?;
    name_of(text, collection)
}

fn name_of(text: &str, collection: Option<&str>) -> Option<String> {
    if let Some(name) = key(text) {
        return Some(name.to_owned());
    }
    let plain = !text.is_empty() && !text.contains('/');
    collection.filter(|_| plain).map(|collection| format!("{collection}/{text}"))
}

/// The files that a batch or an operation has made: where Google tells of them, and nowhere else.
pub(crate) fn results(value: &Value) -> Vec<String> {
    let files = ["/response/responsesFile", "/metadata/output/responsesFile", "/output/responsesFile"];
    let files = files.iter().filter_map(|place| value.pointer(place)?.as_str());
    let lists = ["/response/generateVideoResponse/generatedSamples", "/response/generatedSamples"];
    let videos = lists.iter().filter_map(|place| value.pointer(place)?.as_array()).flatten();
    let videos = videos.filter_map(|sample| sample.pointer("/video/uri")?.as_str());
    files.chain(videos).filter_map(file).filter(|name| name.starts_with("files/")).collect()
}

/// A batch as lists show it: without its results, which are paid for where the batch itself is asked for.
pub(crate) fn without_results(mut item: Value) -> Value {
    let is_batch =
        item.get("name").and_then(Value::as_str).and_then(key).is_some_and(|name| name.starts_with("batches/"));
    if is_batch {
        for place in ["", "/metadata"] {
            if let Some(members) = item.pointer_mut(place).and_then(Value::as_object_mut) {
                members.retain(|name, _| !matches!(name.as_str(), "response" | "output"));
            }
        }
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_path_is_about_what_a_caller_made_however_it_is_written() {
        for (below, expected) in [
            ("/files", Resource::Collection),
            ("/files/", Resource::Collection),
            ("/files/abc", Resource::Object("files/abc")),
            ("/files/abc:download", Resource::Object("files/abc")),
            ("/batches/x:cancel", Resource::Object("batches/x")),
            ("/openai/batches/batches/x", Resource::Object("batches/x")),
            ("/openai/batches", Resource::Collection),
            ("/tunedModels/t/permissions/1", Resource::Object("tunedModels/t")),
            ("/tunedModels/t/operations/o", Resource::Object("tunedModels/t")),
            ("/models/veo/operations/o", Resource::Object("operations/o")),
            ("/models/veo/operations", Resource::Collection),
            ("/fileSearchStores/s/documents/d", Resource::Object("fileSearchStores/s")),
            ("/fileSearchStores/s:uploadToFileSearchStore", Resource::Object("fileSearchStores/s")),
            ("/Files/abc", Resource::Object("Files/abc")),
            ("/models/gemini:generateContent", Resource::Other),
            ("/models", Resource::Other),
        ] {
            assert_eq!(resource(below), expected, "{below}");
        }
        assert_eq!(key("projects/p/locations/l/cachedContents/1"), Some("cachedContents/1"));
        assert_eq!(key("files/"), None);
    }

    #[test]
    fn an_address_of_google_names_a_file_or_what_is_nobodys() {
        for (uri, name) in [
            ("https://generativelanguage.googleapis.com/v1beta/files/abc-1", Some("files/abc-1")),
            ("https://generativelanguage.googleapis.com/v1beta/files/abc:download?alt=media", Some("files/abc")),
            ("http://127.0.0.1:80/v1beta/files/abc", Some("files/abc")),
            ("files/abc", Some("files/abc")),
            ("https://generativelanguage.googleapis.com/v1beta/fi%6ces/abc", Some("*")),
            ("https://storage.googleapis.com/bucket/files/abc", Some("*")),
            ("gs://bucket/abc", Some("gs://bucket/abc")),
            ("gs://bucket/files/abc", Some("gs://bucket/files/abc")),
            ("GS://bucket/files/abc", Some("GS://bucket/files/abc")),
            (" gs://bucket/files/abc", Some("*")),
            ("https://www.youtube.com/watch?v=abc", None),
            ("https://example.com/files/abc.pdf", None),
        ] {
            assert_eq!(file(uri).as_deref(), name, "{uri}");
        }
    }

    #[test]
    fn what_a_call_made_is_where_google_says_it() {
        assert_eq!(made(&json!({"file": {"name": "files/abc", "uri": "x"}}), Some("files")), ["files/abc"]);
        assert_eq!(made(&json!({"name": "batches/b", "metadata": {"name": "batches/v"}}), None), ["batches/b"]);
        assert_eq!(made(&json!({"name": "models/veo/operations/o"}), None), ["operations/o"]);
        assert_eq!(made(&json!({"id": "v1_x", "object": "interaction"}), Some("interactions")), ["interactions/v1_x"]);
        assert_eq!(made(&json!({"interaction": {"id": "v1_x"}}), Some("interactions")), ["interactions/v1_x"]);
        assert_eq!(made(&json!({"name": "models/m", "id": ""}), None), [""; 0]);
        let told = json!({"response": {"responsesFile": "files/batch-1", "inlinedResponses": {"inlinedResponses": [{"response":
            {"candidates": [{"content": {"parts": [{"text": "files/victim"}]}}], "responsesFile": "files/victim"}}]}}});
        assert_eq!(results(&told), ["files/batch-1"]);
        assert_eq!(results(&json!({"response": {"responsesFile": "gs://bucket/files/x"}})), [""; 0]);
        let video = json!({"response": {"generateVideoResponse": {"generatedSamples": [
            {"video": {"uri": "https://generativelanguage.googleapis.com/v1beta/files/v:download?alt=media"}}]}}});
        assert_eq!(results(&video), ["files/v"]);
    }
}
