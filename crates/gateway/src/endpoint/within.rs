//! What a provider makes inside an answer: the containers of its code tools and the files they write. They are the
//! caller's from the moment it learns of them, and nobody else's.
//!
//! Ids are taken from where providers put them and from nowhere else: what a model writes, such as the arguments of a
//! tool, may name what is somebody else's.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Name, Problem};
use bytes::Bytes;
use config::ProviderDialect;
use futures_util::FutureExt;
use llm::passthrough::{Peek, Said, peek_response};
use llm::{Dialect, SseDecoder, SseEvent, Usage};
use serde_json::Value;
use store::StoredObject;

use crate::Shared;
use crate::objects;
use crate::relay::{Answer, Before, Content, Kind, Pipe, State};
use crate::settle::{Leg, Receipt};
use crate::snapshot::Provider;

/// An answer to one request makes no more than this.
const MOST: usize = 1000;

/// What an answer may speak of that was made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Makes {
    /// What tools made.
    Files,
    /// The answer itself is stored, too, and each item of it can be referred to.
    Items,
    /// The same of an answer that was made before.
    Fetched,
    /// What a batch or an operation of Google's made, a batch of OpenAI's, or a job of Cohere's.
    Results,
}

/// What the answer to a request in this dialect may speak of: tools make something, and the Responses API stores what it is
/// not asked not to.
pub(super) fn may_make(dialect: Dialect, seen: &Peek) -> Option<Makes> {
    match dialect {
        Dialect::OpenAiResponses if seen.store != Some(false) => Some(Makes::Items),
        Dialect::OpenAiResponses | Dialect::AnthropicMessages => seen.has_tools.then_some(Makes::Files),
        _ => None,
    }
}

/// The same for an answer of a provider's own API, below its base.
pub(super) fn may_make_below(dialect: ProviderDialect, below: &str, seen: Option<&(Dialect, Peek)>) -> Option<Makes> {
    if let Some((dialect, seen)) = seen {
        return may_make(*dialect, seen);
    }
    if dialect == ProviderDialect::Gemini {
        let done = below.starts_with("/batches/") || below.contains("/operations/");
        return done.then_some(Makes::Results);
    }
    if dialect == ProviderDialect::Cohere {
        let done = ["/embed-jobs/", "/batches/"].iter().any(|jobs| below.starts_with(jobs));
        return done.then_some(Makes::Results);
    }
    if below.starts_with("/batches/") {
        return Some(Makes::Results);
    }
    match below.strip_prefix("/responses")? {
        "" | "/" => Some(Makes::Items),
        rest => rest.starts_with('/').then_some(Makes::Fetched),
    }
}

/// Note whose is what an answer speaks of, before the caller learns of it: of a whole answer now, of a stream as it
/// goes by.
pub(super) async fn claimed(answer: Answer, makes: Makes, provider: &Provider, leg: &Leg) -> Result<Answer, Problem> {
    let claims = Claims { shared: Arc::clone(leg.shared()), provider: provider.name.clone(), maker: leg.maker() };
    let Answer { status, headers, content } = answer;
    let content = match content {
        Content::Whole(bytes, outcome) => {
            let mut made = Made::of(makes);
            if status.is_success() {
                made.see(&bytes);
            }
            claims.note(made.take()).await?;
            Content::Whole(bytes, outcome)
        }
        Content::Stream(first, body, pipe) => {
            let (decoder, made, counts) = (SseDecoder::default(), Made::of(makes), Arc::default());
            Content::Stream(first, body, Box::new(Claiming { pipe, decoder, made, claims, counts, lost: false }))
        }
        made @ (Content::Made(..) | Content::Session(_)) => made,
    };
    Ok(Answer { status, headers, content })
}

/// Count what a response took that was made in the background, where `answer` is that response at its end: when its maker first
/// fetches it so, and then never again.
pub(super) async fn count_late(answer: &[u8], provider: &Provider, receipt: &mut Receipt) -> Result<(), Problem> {
    let mut made = Made::of(Makes::Fetched);
    made.see(answer);
    for id in made.done {
        let first = receipt.shared().objects.forget(&provider.name, &objects::uncounted(&id)).await;
        if first.map_err(|error| objects::unavailable(&error))? {
            receipt.usage(peek_response(Dialect::OpenAiResponses, answer).usage);
        }
    }
    Ok(())
}

/// Whose they become, and of which provider.
#[derive(Clone)]
struct Claims {
    shared: Arc<Shared>,
    provider: Name,
    maker: StoredObject,
}

impl Claims {
    async fn note(&self, ids: Vec<String>) -> Result<(), Problem> {
        for id in ids {
            let claimed = self.shared.objects.claim(&self.provider, &id, &self.maker).await;
            claimed.map_err(|error| objects::unavailable(&error))?;
        }
        Ok(())
    }

    /// Note that these are done; whether what they took has still to be counted.
    async fn settle(&self, ids: Vec<String>) -> Result<bool, Problem> {
        let mut counts = false;
        for id in ids {
            let first = self.shared.objects.forget(&self.provider, &objects::uncounted(&id)).await;
            counts |= first.map_err(|error| objects::unavailable(&error))?;
        }
        Ok(counts)
    }
}

/// The ids an answer has told so far.
#[derive(Default)]
struct Made {
    known: HashSet<String>,
    new: Vec<String>,
    makes: Option<Makes>,
    /// Whether it is of a response that is made in the background.
    background: bool,
    /// Those responses, once they are done.
    done: Vec<String>,
}

impl Made {
    fn of(makes: Makes) -> Self {
        Self { makes: Some(makes), ..Self::default() }
    }

    /// Whether it is of a response, which is stored with its items.
    fn is_stored(&self) -> bool {
        matches!(self.makes, Some(Makes::Items | Makes::Fetched))
    }

    /// Look at an answer, or an event of one.
    fn see(&mut self, json: &[u8]) {
        if self.makes == Some(Makes::Results) {
            let value = serde_json::from_slice::<Value>(json).unwrap_or_default();
            let outputs = ["output_dataset_id", "output_file_id", "error_file_id"];
            // Cohere's batches stand inside another member.
            let told = value.get("batch").unwrap_or(&value);
            let outputs = outputs.iter().filter_map(|name| text(Some(told), name)).map(str::to_owned);
            self.note(objects::google::results(&value).into_iter().chain(outputs));
            return;
        }
        let told = |name: &str| memchr::memmem::find(json, name.as_bytes()).is_some();
        // An escape could hide a name.
        let stored = self.is_stored() && (told("\"item\"") || told("\"response\""));
        if !(stored || told("container") || told("file_id") || told("\\u00")) {
            return;
        }
        let Ok(value) = serde_json::from_slice::<Value>(json) else { return };
        let items = if self.is_stored() { stored_in(&value) } else { Vec::new() };
        if self.is_stored() {
            self.background_in(&value);
        }
        self.note(made_in(&value).into_iter().chain(items).map(str::to_owned));
    }

    /// What is made in the background is not known to have taken anything until it is done.
    fn background_in(&mut self, value: &Value) {
        let whole = |of: &&Value| of.get("object").and_then(Value::as_str) == Some("response");
        for response in [Some(value), value.get("response")].into_iter().flatten().filter(whole) {
            let background = response.get("background").and_then(Value::as_bool) == Some(true);
            let Some(id) = text(Some(response), "id").filter(|_| background) else { continue };
            self.background = true;
            match text(Some(response), "status") {
                // Told once more, it may have been counted in the meantime.
                Some("queued" | "in_progress") if self.makes == Some(Makes::Fetched) => {}
                Some("queued" | "in_progress") => self.note([objects::uncounted(id)]),
                _ => self.done.push(id.to_owned()),
            }
        }
    }

    fn note(&mut self, ids: impl IntoIterator<Item = String>) {
        for id in ids {
            if self.known.len() < MOST && self.known.insert(id.clone()) {
                self.new.push(id);
            }
        }
    }

    fn take(&mut self) -> Vec<String> {
        std::mem::take(&mut self.new)
    }
}

/// The ids in an answer or in an event of a streamed one, of Anthropic's Messages and `OpenAI`'s Responses.
fn made_in(value: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    for whole in [Some(value), value.get("message"), value.get("delta"), value.get("response")].into_iter().flatten() {
        found.extend(text(whole.get("container"), "id"));
        for blocks in [whole.get("content"), whole.get("output")].into_iter().flatten() {
            items(Some(blocks)).for_each(|block| block_in(block, &mut found));
        }
    }
    for block in ["content_block", "item", "part"].iter().filter_map(|name| value.get(name)) {
        block_in(block, &mut found);
    }
    annotation_in(value.get("annotation"), &mut found);
    found
}

/// The response that an answer is, or an event speaks of, and its items.
fn stored_in(value: &Value) -> Vec<&str> {
    let whole = |of: &&Value| of.get("object").and_then(Value::as_str) == Some("response");
    let mut found: Vec<&str> = text(value.get("item"), "id").into_iter().collect();
    for response in [Some(value), value.get("response")].into_iter().flatten().filter(whole) {
        found.extend(text(Some(response), "id"));
        found.extend(items(response.get("output")).filter_map(|item| text(Some(item), "id")));
    }
    found.retain(|id| !id.is_empty());
    found
}

/// A block of an answer, by the types of those that providers make themselves.
fn block_in<'a>(block: &'a Value, found: &mut Vec<&'a str>) {
    match block.get("type").and_then(Value::as_str).unwrap_or_default() {
        "code_interpreter_call" => found.extend(text(Some(block), "container_id")),
        "message" => items(block.get("content")).for_each(|part| block_in(part, found)),
        "output_text" => {
            items(block.get("annotations")).for_each(|annotation| annotation_in(Some(annotation), found));
        }
        "code_execution_tool_result" | "bash_code_execution_tool_result" => {
            let files = items(block.get("content").and_then(|result| result.get("content")));
            found.extend(files.filter_map(|file| text(Some(file), "file_id")));
        }
        _ => {}
    }
}

fn annotation_in<'a>(annotation: Option<&'a Value>, found: &mut Vec<&'a str>) {
    if text(annotation, "type") == Some("container_file_citation") {
        found.extend(["container_id", "file_id"].iter().filter_map(|name| text(annotation, name)));
    }
}

fn text<'a>(of: Option<&'a Value>, name: &str) -> Option<&'a str> {
    of?.get(name)?.as_str()
}

fn items(of: Option<&Value>) -> impl Iterator<Item = &Value> {
    of.and_then(Value::as_array).into_iter().flatten()
}

/// A stream that is held back where it tells of something new, until that is noted.
struct Claiming {
    pipe: Box<dyn Pipe>,
    decoder: SseDecoder,
    made: Made,
    claims: Claims,
    /// Whether a response that was made in the background was found to be counted here.
    counts: Arc<AtomicBool>,
    /// It cannot be followed any more.
    lost: bool,
}

impl Claiming {
    fn look(&mut self, event: &SseEvent) {
        self.made.see(event.data.as_bytes());
    }
}

impl Pipe for Claiming {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        let made = &mut self.made;
        self.lost |= self.decoder.feed(piece, |event, _| made.see(event.data.as_bytes())).is_err();
        self.pipe.feed(piece)
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        if let Some(event) = self.decoder.finish() {
            self.look(&event);
        }
        self.pipe.finish(clean)
    }

    fn interrupt(&mut self, problem: &Problem) -> Bytes {
        self.pipe.interrupt(problem)
    }

    fn before(&mut self) -> Option<Before> {
        let (ids, done) = (self.made.take(), std::mem::take(&mut self.made.done));
        if ids.is_empty() && done.is_empty() {
            return None;
        }
        let (claims, counts) = (self.claims.clone(), Arc::clone(&self.counts));
        let noted = async move {
            claims.note(ids).await?;
            counts.fetch_or(claims.settle(done).await?, Ordering::AcqRel);
            Ok(())
        };
        Some(noted.boxed())
    }

    fn is_well(&self) -> bool {
        self.pipe.is_well()
    }

    fn state(&self) -> State {
        match self.pipe.state() {
            State::Open if self.lost => State::Broken("upstream_invalid_stream"),
            state => state,
        }
    }

    fn failed(&self) -> Option<&'static str> {
        self.pipe.failed().or(self.lost.then_some("upstream_invalid_stream"))
    }

    fn usage(&self) -> Usage {
        // Who fetches it once more, or in the meantime, does not pay again.
        if self.made.background && !self.counts.load(Ordering::Acquire) {
            return Usage::default();
        }
        self.pipe.usage()
    }

    fn said(&self) -> Said {
        self.pipe.said()
    }

    fn kind(&self) -> Kind {
        self.pipe.kind()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn what_providers_make_is_found_where_they_tell_of_it() {
        let result = json!({"type": "bash_code_execution_tool_result", "content": {"type": "bash_code_execution_result",
            "content": [{"type": "bash_code_execution_output", "file_id": "file_1"}]}});
        let cited = json!({"type": "container_file_citation", "container_id": "cntr_1", "file_id": "cfile_1"});
        let text = json!({"type": "output_text", "annotations": [cited]});
        for (value, expected) in [
            (json!({"container": {"id": "container_1"}, "content": [result]}), vec!["container_1", "file_1"]),
            (json!({"type": "message_start", "message": {"container": {"id": "container_1"}}}), vec!["container_1"]),
            (json!({"type": "message_delta", "delta": {"container": {"id": "container_1"}}}), vec!["container_1"]),
            (json!({"type": "content_block_start", "content_block": result}), vec!["file_1"]),
            (
                json!({"output": [{"type": "code_interpreter_call", "container_id": "cntr_1"}, {"type": "message", "content": [text]}]}),
                vec!["cntr_1", "cntr_1", "cfile_1"],
            ),
            (json!({"response": {"output": [{"type": "message", "content": [text]}]}}), vec!["cntr_1", "cfile_1"]),
            (json!({"item": {"type": "code_interpreter_call", "container_id": "cntr_1"}}), vec!["cntr_1"]),
            (json!({"part": text}), vec!["cntr_1", "cfile_1"]),
            (json!({"annotation": cited}), vec!["cntr_1", "cfile_1"]),
        ] {
            assert_eq!(made_in(&value), expected, "{value}");
        }
    }

    #[test]
    fn what_a_model_writes_makes_nothing_the_callers() {
        let victim = json!({"file_id": "file_v", "container_id": "cntr_v", "container": {"id": "container_v"}});
        for value in [
            json!({"content": [{"type": "tool_use", "input": victim}]}),
            json!({"content": [{"type": "server_tool_use", "input": victim}]}),
            json!({"content": [{"type": "mcp_tool_result", "content": [victim]}]}),
            json!({"content": [{"type": "text", "text": victim.to_string()}]}),
            json!({"content_block": {"type": "tool_use", "input": victim}}),
            json!({"delta": {"type": "input_json_delta", "partial_json": victim.to_string()}}),
            json!({"output": [{"type": "function_call", "arguments": victim}]}),
            json!({"item": victim}),
        ] {
            assert_eq!(made_in(&value), [""; 0], "{value}");
        }
    }

    #[test]
    fn a_stored_response_and_its_items_are_found_and_only_where_they_are_stored() {
        let whole = json!({"object": "response", "id": "resp_1", "output": [{"type": "message", "id": "msg_1",
            "content": [{"type": "output_text", "text": "{\"item\":{\"id\":\"msg_v\"}}"}]}]});
        for (value, expected) in [
            (whole.clone(), vec!["resp_1", "msg_1"]),
            (json!({"type": "response.created", "response": {"object": "response", "id": "resp_1"}}), vec!["resp_1"]),
            (json!({"type": "response.output_item.added", "item": {"type": "reasoning", "id": "rs_1"}}), vec!["rs_1"]),
            (json!({"object": "list", "data": [whole]}), vec![]),
            (json!({"type": "response.output_text.delta", "item_id": "msg_1", "delta": "\"item\""}), vec![]),
        ] {
            let mut made = Made::of(Makes::Items);
            made.see(value.to_string().as_bytes());
            assert_eq!(made.take(), expected, "{value}");
            let mut made = Made::of(Makes::Files);
            made.see(value.to_string().as_bytes());
            assert!(made.take().is_empty(), "{value}");
        }
    }

    #[test]
    fn a_response_in_the_background_is_remembered_until_it_is_done() {
        let response = |status: &str, background: bool| json!({"object": "response", "id": "resp_1", "status": status, "background": background, "output": []});
        for (value, noted, done) in [
            (response("queued", true), vec!["resp_1", "uncounted:resp_1"], vec![]),
            (json!({"response": response("in_progress", true)}), vec!["resp_1", "uncounted:resp_1"], vec![]),
            (response("completed", true), vec!["resp_1"], vec!["resp_1"]),
            (response("cancelled", true), vec!["resp_1"], vec!["resp_1"]),
            (response("completed", false), vec!["resp_1"], vec![]),
        ] {
            let mut made = Made::of(Makes::Items);
            made.see(value.to_string().as_bytes());
            let mut told = made.take();
            told.sort_unstable();
            assert_eq!(
                (told, made.done),
                (noted.iter().map(ToString::to_string).collect(), done.iter().map(ToString::to_string).collect()),
                "{value}"
            );
        }
    }

    #[test]
    fn each_id_is_told_once_and_no_answer_makes_any_number() {
        let mut made = Made::default();
        made.see(br#"{"container":{"id":"container_1"}}"#);
        made.see(br#"{"contain\u0065r":{"id":"container_2"}}"#);
        made.see(br#"{"container":{"id":"container_1"}}"#);
        assert_eq!(made.take(), ["container_1", "container_2"]);
        for n in 0..2 * MOST {
            made.see(json!({"container": {"id": n.to_string()}}).to_string().as_bytes());
        }
        assert_eq!(made.take().len(), MOST - 2);
    }

    proptest! {
        #[test]
        fn any_answer_is_looked_at_without_panic(
            name in "container|content|output|item|annotation|message", inner in "[\\[\\]{}\":,a-z_]{0,40}",
        ) {
            Made::default().see(format!("{{\"{name}\":{{\"file_id\":{inner}}}}}").as_bytes());
        }
    }
}
