//! What is told of a batch: whether it ended, and what its answers took.

use config::ProviderDialect;
use llm::passthrough::peek_response;
use llm::{Dialect, Usage};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::objects::google;

/// The most models of one batch that are counted apart.
const MODELS: usize = 64;

/// How a batch ended.
#[derive(Debug, PartialEq)]
pub(super) enum Ended {
    /// It says what it took.
    Took(Counted),
    /// It does not; this file of results does.
    Wrote(String),
    /// It took nothing.
    Nothing,
}

impl Ended {
    /// `None`: it has not ended.
    pub(super) fn of(dialect: ProviderDialect, answer: &[u8]) -> Option<Self> {
        let batch = serde_json::from_slice::<Value>(answer).unwrap_or_default();
        match dialect {
            ProviderDialect::Cohere => Self::of_cohere(batch.get("batch").unwrap_or(&batch)),
            // On the surface for OpenAI's clients Google speaks their form.
            ProviderDialect::Gemini if batch.get("status").is_none() => Self::of_google(&batch),
            _ => Self::of_openai(&batch, answer),
        }
    }

    fn of_openai(batch: &Value, answer: &[u8]) -> Option<Self> {
        let text = |name: &str| batch.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        if !matches!(text("status")?, "completed" | "failed" | "expired" | "cancelled") {
            return None;
        }
        let seen = peek_response(Dialect::OpenAiResponses, answer);
        Some(match (seen.model, text("output_file_id")) {
            (Some(model), _) if seen.usage.is_known() => Self::Took(Counted(vec![(model.into_owned(), seen.usage)])),
            (_, Some(file)) => Self::Wrote(file.to_owned()),
            (_, None) => Self::Nothing,
        })
    }

    /// An operation: its state, and in it the results or the name of their file, said twice.
    fn of_google(batch: &Value) -> Option<Self> {
        let metadata = batch.get("metadata").unwrap_or(batch);
        let state = metadata.get("state").and_then(Value::as_str).unwrap_or_default();
        let over = ["_SUCCEEDED", "_FAILED", "_CANCELLED", "_EXPIRED"].iter().any(|end| state.ends_with(end));
        if !over && batch.get("done").and_then(Value::as_bool) != Some(true) {
            return None;
        }
        let outputs = [batch.get("response"), metadata.get("output"), batch.get("output")];
        let model = metadata.get("model").and_then(Value::as_str).map_or("", plain_name);
        for output in outputs.into_iter().flatten() {
            if let Some(file) = output.get("responsesFile").and_then(Value::as_str) {
                return Some(Self::Wrote(google::key(file).unwrap_or(file).to_owned()));
            }
            let lists = ["inlinedResponses", "inlinedEmbedContentResponses"];
            let list = lists.iter().find_map(|name| output.get(name)?.get("inlinedResponses")?.as_array());
            if let Some(list) = list {
                let mut counted = Counted::default();
                for answer in list.iter().filter_map(|item| item.get("response")) {
                    counted.add_google(answer.to_string().as_bytes(), model);
                }
                return Some(Self::Took(counted));
            }
        }
        Some(Self::Nothing)
    }

    /// It says what it took in texts of digits.
    fn of_cohere(batch: &Value) -> Option<Self> {
        let text = |name: &str| batch.get(name).and_then(Value::as_str);
        let states = ["BATCH_STATUS_COMPLETED", "BATCH_STATUS_FAILED", "BATCH_STATUS_CANCELED"];
        if !states.contains(&text("status")?) {
            return None;
        }
        let count = |name: &str| batch.get(name)?.as_u64().or_else(|| text(name)?.parse().ok());
        let usage =
            Usage { input_tokens: count("input_tokens"), output_tokens: count("output_tokens"), ..Usage::default() };
        match text("model") {
            Some(model) if usage.is_known() => {
                // What is not said of it was none.
                let output_tokens = usage.output_tokens.or(Some(0));
                Some(Self::Took(Counted(vec![(model.to_owned(), Usage { output_tokens, ..usage })])))
            }
            _ => Some(Self::Nothing),
        }
    }
}

/// What was taken of each model.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Counted(pub(super) Vec<(String, Usage)>);

/// A line of results: `OpenAI`'s form, Google's, or Anthropic's.
#[derive(Deserialize)]
struct Line<'a> {
    /// With the answer in it; at Google the answer itself.
    #[serde(borrow, default)]
    response: Option<&'a RawValue>,
    #[serde(borrow, default)]
    result: Option<Part<'a>>,
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(borrow, default)]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    message: Option<&'a RawValue>,
}

impl Counted {
    /// What the lines say. Lines that are none say nothing.
    pub(super) fn in_lines(results: &[u8]) -> Self {
        let mut counted = Self::default();
        for line in results.split(|byte| *byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { continue };
            let part = line.response.and_then(|part| serde_json::from_str::<Part<'_>>(part.get()).ok());
            let body = part.and_then(|part| part.body);
            if let (None, Some(answer)) = (body, line.response) {
                counted.add_google(answer.get().as_bytes(), "");
            }
            let answers =
                [(body, Dialect::OpenAiChat), (line.result.and_then(|part| part.message), Dialect::AnthropicMessages)];
            for (answer, dialect) in answers {
                let Some(answer) = answer else { continue };
                let seen = peek_response(dialect, answer.get().as_bytes());
                if seen.usage.is_known() {
                    counted.add(seen.model.unwrap_or_default().into_owned(), &seen.usage);
                }
            }
        }
        counted
    }

    /// What an answer of Google's says: what it generated, or of a vector what it read (ai.google.dev/api/batch-api).
    fn add_google(&mut self, answer: &[u8], model: &str) {
        let seen = peek_response(Dialect::Gemini, answer);
        if seen.usage.is_known() {
            let model = seen.model.as_deref().unwrap_or(model);
            return self.add(plain_name(model).to_owned(), &seen.usage);
        }
        let read = serde_json::from_slice::<Vector>(answer).ok().and_then(|vector| vector.token_count);
        // Whose vector it is stands beside it only where the batch is told.
        if let Some(read) = read.filter(|_| !model.is_empty()) {
            let usage = Usage { input_tokens: Some(read), output_tokens: Some(0), ..Usage::default() };
            self.add(model.to_owned(), &usage);
        }
    }

    fn add(&mut self, model: String, usage: &Usage) {
        let full = self.0.len() >= MODELS;
        match self.0.iter_mut().find(|(known, _)| *known == model || (full && known.is_empty())) {
            Some((_, sum)) => sum.add(usage),
            // What is past the bound counts under no model's name.
            None if full => self.0.push((String::new(), *usage)),
            None => self.0.push((model, *usage)),
        }
    }
}

/// What a vector was made of.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Vector {
    #[serde(default, deserialize_with = "number")]
    token_count: Option<u64>,
}

/// Google writes whole numbers of 64 bits as texts.
fn number<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(from)?;
    Ok(value.as_u64().or_else(|| value.as_str()?.parse().ok()))
}

/// A model's name without its collection.
fn plain_name(model: &str) -> &str {
    model.strip_prefix("models/").unwrap_or(model)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn lines_are_added_up_for_each_model_and_what_is_no_line_is_passed_over() {
        let openai = |model: &str, input: u64| {
            json!({"custom_id": "a", "response": {"status_code": 200, "body": {"model": model, "usage":
                {"prompt_tokens": input, "completion_tokens": 3, "total_tokens": input + 3}}}, "error": null})
        };
        let anthropic = json!({"custom_id": "b", "result": {"type": "succeeded", "message": {"model": "c", "usage":
            {"input_tokens": 5, "output_tokens": 7, "cache_read_input_tokens": 2}}}});
        let failed = json!({"custom_id": "c", "result": {"type": "errored", "error": {"usage": {"input_tokens": 9}}}});
        // What a model wrote is no count.
        let said = json!({"custom_id": "d", "response": {"body": {"model": "m", "choices": [{"message":
            {"content": "{\"usage\":{\"prompt_tokens\":1000}}"}}]}}});
        let text =
            [openai("m", 10), openai("n", 1), openai("m", 20), anthropic, failed, said].map(|line| line.to_string());
        let counted = Counted::in_lines(format!("{}\n\nno line\n{{\"response\":3}}\n", text.join("\n")).as_bytes());
        let found: Vec<_> = counted
            .0
            .iter()
            .map(|(model, usage)| (model.as_str(), usage.input_tokens.unwrap(), usage.output_tokens.unwrap()))
            .collect();
        assert_eq!(found, [("m", 30, 6), ("n", 1, 3), ("c", 7, 7)]);
    }

    #[test]
    fn models_without_end_are_counted_under_no_name() {
        let mut counted = Counted::default();
        let one = Usage { input_tokens: Some(1), output_tokens: Some(1), ..Usage::default() };
        (0..1000).for_each(|n| counted.add(format!("m{n}"), &one));
        assert_eq!(counted.0.len(), MODELS + 1);
        assert_eq!(counted.0.iter().map(|(_, usage)| usage.input_tokens.unwrap()).sum::<u64>(), 1000);
    }

    fn ended(dialect: ProviderDialect, batch: &Value) -> Option<Ended> {
        Ended::of(dialect, batch.to_string().as_bytes())
    }

    #[test]
    fn googles_batches_say_it_in_their_results_and_once() {
        let google = |batch: &Value| ended(ProviderDialect::Gemini, batch);
        let answer = |read: u64, made: u64, thought: u64| {
            json!({"response": {"usageMetadata": {"promptTokenCount": read, "candidatesTokenCount": made,
                "thoughtsTokenCount": thought, "totalTokenCount": read + made + thought}, "modelVersion": "gemini-2.5-flash"}})
        };
        let list = json!({"inlinedResponses": {"inlinedResponses":
            [answer(13, 1, 43), answer(13, 2, 53), {"error": {"code": 3}}]}});
        let batch = |state: &str| json!({"name": "batches/b", "metadata": {"state": state, "model": "models/gemini-2.5-flash"}});
        assert_eq!(google(&batch("BATCH_STATE_RUNNING")), None);
        assert_eq!(google(&batch("BATCH_STATE_FAILED")), Some(Ended::Nothing));
        let mut done = batch("BATCH_STATE_SUCCEEDED");
        done["metadata"]["output"] = list.clone();
        done["response"] = list;
        let Some(Ended::Took(counted)) = google(&done) else { panic!("{done}") };
        let (model, usage) = &counted.0[0];
        assert_eq!((counted.0.len(), model.as_str(), usage.input_tokens), (1, "gemini-2.5-flash", Some(26)));
        assert_eq!(usage.generated(), Some(1 + 43 + 2 + 53));
        let mut wrote = batch("BATCH_STATE_SUCCEEDED");
        wrote["response"] = json!({"responsesFile": "files/batch-b"});
        assert_eq!(google(&wrote), Some(Ended::Wrote("files/batch-b".to_owned())));
        let line = json!({"key": "k", "response": answer(5, 7, 0)["response"]});
        let lines = Counted::in_lines(format!("{line}\n{line}\n").as_bytes());
        assert_eq!((lines.0.len(), lines.0[0].1.input_tokens, lines.0[0].1.generated()), (1, Some(10), Some(14)));
        let vectors = json!({"inlinedEmbedContentResponses": {"inlinedResponses":
            [{"response": {"embedding": {"values": [0.5]}, "tokenCount": "9"}}, {"response": {"embedding": {}, "tokenCount": 4}}]}});
        let mut embedded = batch("BATCH_STATE_SUCCEEDED");
        embedded["metadata"]["output"] = vectors;
        let Some(Ended::Took(counted)) = google(&embedded) else { panic!("{embedded}") };
        assert_eq!(counted.0[0].1.input_tokens, Some(13));
    }

    #[test]
    fn coheres_batches_say_it_in_digits() {
        let cohere = |batch: Value| ended(ProviderDialect::Cohere, &json!({"batch": batch}));
        let (done, model) = ("BATCH_STATUS_COMPLETED", "command-a-03-2025");
        assert_eq!(cohere(json!({"status": "BATCH_STATUS_IN_PROGRESS", "model": model, "input_tokens": "7"})), None);
        let told = cohere(json!({"status": done, "model": model, "input_tokens": "1200", "output_tokens": "34"}));
        let usage = Usage { input_tokens: Some(1200), output_tokens: Some(34), ..Usage::default() };
        assert_eq!(told, Some(Ended::Took(Counted(vec![(model.to_owned(), usage)]))));
        let embedded = cohere(json!({"status": done, "model": "embed-v4.0", "input_tokens": 5}));
        let usage = Usage { input_tokens: Some(5), output_tokens: Some(0), ..Usage::default() };
        assert_eq!(embedded, Some(Ended::Took(Counted(vec![("embed-v4.0".to_owned(), usage)]))));
        assert_eq!(cohere(json!({"status": "BATCH_STATUS_FAILED", "model": model})), Some(Ended::Nothing));
        assert_eq!(cohere(json!({"status": done, "model": model, "input_tokens": "-1"})), Some(Ended::Nothing));
    }

    proptest! {
        #[test]
        fn any_bytes_are_looked_through(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = Counted::in_lines(&bytes);
            for dialect in [ProviderDialect::OpenAi, ProviderDialect::Gemini, ProviderDialect::Cohere] {
                let _ = Ended::of(dialect, &bytes);
            }
        }
    }
}
