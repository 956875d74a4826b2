//! The built-in model on `POST /v1/completions`: each prompt repeated.

use super::{MODEL, PIECES, SILENCE, repeated, tokens};
use crate::RequestError;
use crate::json::{Limits, Node, Object, node, object};
use crate::model::{Stop, Usage};
use crate::passthrough::peek_completions;
use crate::translate::Answer;

/// A choice: its pieces and why it ended.
type Said = (Vec<String>, Stop);

/// The answer to a request for completions. `most`: the bound on tokens where the request has none.
pub fn complete(body: &[u8], most: Option<u64>, id: &str, now: u64) -> Result<Answer, RequestError> {
    let (choices, usage) = read(body, most)?;
    let body = object(|o| {
        head(o, id, now);
        o.array("choices", |a| {
            for (index, (pieces, stop)) in (0..).zip(&choices) {
                a.object(|o| choice(o, index, &pieces.concat(), Some(stop)));
            }
        });
        counts(o, &usage);
    });
    Ok(Answer { body: body.into_bytes(), usage, model: MODEL.to_owned() })
}

/// The same in server-sent events, with the usage.
pub fn stream(
    body: &[u8],
    most: Option<u64>,
    (id, now): (&str, u64),
    include_usage: bool,
) -> Result<(Vec<Vec<u8>>, Usage), RequestError> {
    let (choices, usage) = read(body, most)?;
    let event = |fill: &dyn Fn(&mut Object<'_>)| {
        let data = object(|o| {
            head(o, id, now);
            fill(o);
        });
        format!("data: {data}\n\n").into_bytes()
    };
    let mut events = Vec::new();
    for (index, (pieces, stop)) in (0..).zip(&choices) {
        let each = pieces.len().div_ceil(PIECES).max(1);
        for few in pieces.chunks(each) {
            let text = few.concat();
            events.push(event(&|o| o.array("choices", |a| a.object(|o| choice(o, index, &text, None)))));
        }
        events.push(event(&|o| o.array("choices", |a| a.object(|o| choice(o, index, "", Some(stop))))));
    }
    if include_usage {
        events.push(event(&|o| {
            o.array("choices", |_| {});
            counts(o, &usage);
        }));
    }
    events.push(b"data: [DONE]\n\n".to_vec());
    Ok((events, usage))
}

fn head(o: &mut Object<'_>, id: &str, now: u64) {
    o.text("id", id);
    o.text("object", "text_completion");
    o.number("created", now);
    o.text("model", MODEL);
}

fn choice(o: &mut Object<'_>, index: u64, text: &str, stop: Option<&Stop>) {
    o.text("text", text);
    o.number("index", index);
    o.raw("logprobs", "null");
    let reason = stop.map(|stop| if *stop == Stop::MaxTokens { "length" } else { "stop" });
    o.text_or_null("finish_reason", reason);
}

fn counts(o: &mut Object<'_>, usage: &Usage) {
    o.object("usage", |o| {
        o.number("prompt_tokens", usage.input_tokens.unwrap_or(0));
        o.number("completion_tokens", usage.output_tokens.unwrap_or(0));
        o.number("total_tokens", usage.total_tokens.unwrap_or(0));
    });
}

fn read(body: &[u8], most: Option<u64>) -> Result<(Vec<Said>, Usage), RequestError> {
    let seen = peek_completions(body, &Limits::REQUEST)?;
    let text = std::str::from_utf8(body).unwrap_or_default();
    let root = node(text, &Limits::REQUEST)?;
    if ["n", "best_of"].iter().any(|name| root.get(name).is_some_and(|n| n.whole() != Some(1))) {
        return Err(RequestError::unsupported("n", "the built-in model gives one answer"));
    }
    let stops: Vec<String> = match root.get("stop") {
        Some(stop) if stop.is_array() => stop.items().iter().filter_map(Node::text).map(Into::into).collect(),
        stop => stop.and_then(Node::text).map(Into::into).into_iter().collect(),
    };
    let most = seen.max_output_tokens.or(most);
    let (mut input, mut output) = (0, 0);
    let mut choices = Vec::new();
    for prompt in prompts(root.get("prompt"))? {
        input += tokens(&prompt).len() as u64;
        let prompt = if prompt.is_empty() { SILENCE.to_owned() } else { prompt };
        let said = repeated(prompt, &stops, most);
        output += said.0.len() as u64;
        choices.push(said);
    }
    let usage = Usage {
        input_tokens: Some(input),
        output_tokens: Some(output),
        total_tokens: Some(input + output),
        ..Usage::default()
    };
    Ok((choices, usage))
}

/// `prompt`: a text, texts, a list of tokens, or lists of tokens; a token is its number.
fn prompts(prompt: Option<&Node<'_>>) -> Result<Vec<String>, RequestError> {
    let wrong = || RequestError::wrong("prompt", "a text or a list of tokens, or several of them");
    let Some(prompt) = prompt else { return Ok(vec![String::new()]) };
    let numbers = |list: &Node<'_>| -> Option<String> {
        let numbers = list.items().iter().map(|token| token.whole().map(|token| token.to_string()));
        Some(numbers.collect::<Option<Vec<_>>>()?.join(" ")).filter(|_| list.is_array())
    };
    let one = |item: &Node<'_>| item.text().map(Into::into).or_else(|| numbers(item));
    if prompt.is_string() || prompt.items().first().is_some_and(|first| first.whole().is_some()) {
        return Ok(vec![one(prompt).ok_or_else(wrong)?]);
    }
    let found: Option<Vec<String>> = prompt.items().iter().map(one).collect();
    found.filter(|found| !found.is_empty()).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_prompt_is_repeated_in_a_choice_of_its_own() {
        let body = br#"{"model":"m","prompt":["one two","three"],"stop":"wo","max_tokens":5}"#;
        let answer = complete(body, None, "id", 7).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(value["choices"][0]["text"], "one t");
        assert_eq!((&value["choices"][1]["text"], &value["choices"][1]["index"]), (&"three".into(), &1.into()));
        assert_eq!(value["usage"]["prompt_tokens"], 4);
        let tokens = complete(br#"{"model":"m","prompt":[1,22,333]}"#, Some(2), "id", 7).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&tokens.body).unwrap();
        assert_eq!(
            (&value["choices"][0]["text"], &value["choices"][0]["finish_reason"]),
            (&"1 22".into(), &"length".into())
        );
        for wrong in
            [r#"{"model":"m","prompt":7}"#, r#"{"model":"m","prompt":[]}"#, r#"{"model":"m","prompt":"a","n":2}"#]
        {
            assert!(complete(wrong.as_bytes(), None, "id", 7).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stream_says_the_same() {
        let body = br#"{"model":"m","prompt":"one two three"}"#;
        let (events, usage) = stream(body, None, ("id", 7), true).unwrap();
        let text = String::from_utf8(events.concat()).unwrap();
        let pieces = text.split("\n\n").filter_map(|event| {
            let value: serde_json::Value = serde_json::from_str(event.strip_prefix("data: ")?).ok()?;
            Some(value["choices"][0]["text"].as_str()?.to_owned())
        });
        assert_eq!(pieces.collect::<String>(), "one two three");
        assert!(text.ends_with("data: [DONE]\n\n") && text.contains("\"completion_tokens\":4"), "{text}");
        assert_eq!(usage.output_tokens, Some(4));
    }
}
