//! The built-in model `vouchgate/echo`: repeats the last thing the user said, so that everything works with no
//! provider at all. Deterministic. A token is a word, or each four bytes of a longer one.

pub mod completions;

use base64::Engine as _;

use crate::dialect::openai_responses::{self, Asked};
use crate::json::{Limits, Node, node, object};
use crate::model::{Body, Choice, Event, Output, Part, Request, Response, Stop, Usage};
use crate::passthrough::peek;
use crate::translate::{Answer, Encoder, decode_request};
use crate::{Dialect, RequestError};

/// The model's name.
pub const MODEL: &str = "vouchgate/echo";

/// What it says to silence.
const SILENCE: &str = "Say something, and I will repeat it.";

/// Most texts of one embeddings request, as at OpenAI.
const INPUTS: usize = 2048;
/// Length of an embedding where the request does not say.
const DIMENSIONS: u64 = 64;
/// Longest embedding.
const MOST_DIMENSIONS: u64 = 1024;
/// Most pieces a streamed answer comes in.
const PIECES: usize = 64;

/// The answer to `request`. `id` and `now` (seconds since the epoch) go into it.
pub fn answer(request: &Request, id: &str, now: u64) -> Response {
    let (pieces, stop, usage) = said(request);
    Response {
        dialect: request.dialect,
        id: Some(id.to_owned()),
        model: MODEL.to_owned(),
        created: Some(now),
        choices: vec![Choice { index: 0, parts: vec![Part::text(pieces.concat())], stop, logprobs: Vec::new() }],
        usage,
    }
}

/// The same answer as events, in several pieces.
pub fn events(request: &Request, id: &str, now: u64) -> Vec<Event> {
    let (pieces, stop, usage) = said(request);
    let mut events = vec![Event::Start { id: Some(id.to_owned()), model: MODEL.to_owned(), created: Some(now) }];
    let each = pieces.len().div_ceil(PIECES).max(1);
    events.extend(pieces.chunks(each).map(|few| Event::Text { choice: 0, text: few.concat() }));
    events.extend([Event::Stop { choice: 0, stop }, Event::Usage(usage), Event::End]);
    events
}

/// A client's request of `dialect` answered whole.
pub fn complete(dialect: Dialect, body: &[u8], id: &str, now: u64) -> Result<Answer, RequestError> {
    if dialect == Dialect::OpenAiEmbeddings {
        return embeddings(body);
    }
    let response = answer(&read(dialect, body, false)?, id, now);
    let text = match dialect {
        Dialect::AnthropicMessages => crate::dialect::anthropic::response(&response),
        Dialect::Gemini => Ok(crate::dialect::gemini::response(&response)),
        Dialect::OpenAiResponses => openai_responses::response(&response, &Asked::of(body), now),
        _ => Ok(crate::dialect::openai_chat::response(&response, &Asked::default(), now)),
    };
    // One answer always fits.
    let body = text.unwrap_or_default().into_bytes();
    Ok(Answer { body, usage: response.usage, model: response.model })
}

/// A client's streaming request of `dialect` answered in server-sent events, piece by piece, with the usage.
pub fn stream(dialect: Dialect, body: &[u8], id: &str, now: u64) -> Result<(Vec<Vec<u8>>, Usage), RequestError> {
    let request = read(dialect, body, true)?;
    let mut encoder = match dialect {
        Dialect::OpenAiResponses => Encoder::responses(Asked::of(body), now),
        dialect => Encoder::new(dialect, request.include_usage, now),
    };
    let mut usage = Usage::default();
    let pieces = events(&request, id, now).into_iter().filter_map(|event| {
        if let Event::Usage(total) = &event {
            usage = *total;
        }
        let mut out = String::new();
        encoder.write(&event, &mut out);
        (!out.is_empty()).then(|| out.into_bytes())
    });
    Ok((pieces.collect(), usage))
}

/// How many tokens it reads in a client's request of `dialect`.
pub fn count(dialect: Dialect, body: &[u8]) -> Result<u64, RequestError> {
    Ok(said(&decode_request(dialect, body, false)?).2.input_tokens.unwrap_or(0))
}

fn read(dialect: Dialect, body: &[u8], stream: bool) -> Result<Request, RequestError> {
    let request = decode_request(dialect, body, stream)?;
    if request.sampling.answers.is_some_and(|answers| answers != 1) {
        let name = request.called("n", "generationConfig.candidateCount");
        return Err(RequestError::unsupported(name, "the built-in model gives one answer"));
    }
    Ok(request)
}

/// The tokens of the answer, why it ended, and the usage.
fn said(request: &Request) -> (Vec<String>, Stop, Usage) {
    let mut text = request.last_user_text();
    if text.is_empty() {
        SILENCE.clone_into(&mut text);
    }
    if request.output != Output::Text {
        text = object(|o| o.text("echo", &text));
    }
    let (pieces, stop) = repeated(text, &request.stop, request.max_output_tokens);
    let heard = |part: &Part| match &part.body {
        Body::Text(text) => tokens(text).len() as u64,
        _ => 0,
    };
    let input: u64 = request.messages.iter().flat_map(|message| &message.parts).map(heard).sum();
    let output = pieces.len() as u64;
    let usage = Usage {
        input_tokens: Some(input),
        output_tokens: Some(output),
        total_tokens: Some(input + output),
        ..Usage::default()
    };
    (pieces, stop, usage)
}

/// `text` up to a stop text and a number of tokens, and why it ends there.
fn repeated(mut text: String, stops: &[String], most: Option<u64>) -> (Vec<String>, Stop) {
    let mut stop = Stop::EndTurn;
    let met = stops.iter().filter(|stop| !stop.is_empty());
    if let Some((at, sequence)) = met.filter_map(|stop| text.find(stop.as_str()).map(|at| (at, stop))).min() {
        text.truncate(at);
        stop = Stop::StopSequence(Some(sequence.clone()));
    }
    let mut pieces = tokens(&text);
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    if pieces.len() > most {
        pieces.truncate(most);
        stop = Stop::MaxTokens;
    }
    (pieces, stop)
}

/// `text` in tokens that together are `text`: a word with the white space before it, cut every four bytes.
fn tokens(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut token = String::new();
    let mut length = 0;
    for c in text.chars() {
        let full = length + c.len_utf8() > 4 && length > 0;
        if (c.is_whitespace() && length > 0) || full {
            found.push(std::mem::take(&mut token));
            length = 0;
        }
        token.push(c);
        if !c.is_whitespace() {
            length += c.len_utf8();
        }
    }
    if !token.is_empty() {
        found.push(token);
    }
    found
}

/// Embeddings: texts that share words lie near each other; nothing more is promised.
fn embeddings(body: &[u8]) -> Result<Answer, RequestError> {
    let seen = peek(Dialect::OpenAiEmbeddings, body, &Limits::EMBEDDINGS)?;
    let text = std::str::from_utf8(body).unwrap_or_default();
    let root = node(text, &Limits::EMBEDDINGS)?;
    let input = root.get("input").ok_or_else(|| RequestError::missing("input"))?;
    let texts = inputs(input)?;
    let dimensions = match root.get("dimensions") {
        Some(value) => value.whole().filter(|count| (1..=MOST_DIMENSIONS).contains(count)),
        None => Some(DIMENSIONS),
    };
    let dimensions = dimensions.ok_or_else(|| RequestError::wrong("dimensions", "a whole number from 1 to 1024"))?;
    let base64 = match root.text_of("encoding_format").as_deref() {
        None | Some("float") => false,
        Some("base64") => true,
        Some(_) => return Err(RequestError::wrong("encoding_format", "float or base64")),
    };
    let total: u64 = texts.iter().map(|words| words.len() as u64).sum();
    let body = object(|o| {
        o.text("object", "list");
        o.array("data", |a| {
            for (index, words) in texts.iter().enumerate() {
                let vector = embed(words, dimensions);
                a.object(|o| {
                    o.text("object", "embedding");
                    o.number("index", index as u64);
                    if base64 {
                        let bytes: Vec<u8> = vector.iter().flat_map(|x| x.to_le_bytes()).collect();
                        o.text("embedding", &base64::engine::general_purpose::STANDARD.encode(bytes));
                    } else {
                        o.array("embedding", |a| vector.iter().for_each(|x| a.raw(&format!("{x:?}"))));
                    }
                });
            }
        });
        o.text("model", MODEL);
        o.object("usage", |o| {
            o.number("prompt_tokens", total);
            o.number("total_tokens", total);
        });
    });
    let usage = Usage { input_tokens: Some(total), total_tokens: Some(total), ..Usage::default() };
    Ok(Answer { body: body.into_bytes(), usage, model: seen.model })
}

/// `input`: a text, texts, a list of tokens, or lists of tokens; each as its words.
fn inputs(input: &Node<'_>) -> Result<Vec<Vec<String>>, RequestError> {
    let wrong = || RequestError::wrong("input", "a non-empty text or list of tokens, or up to 2048 of them");
    let one = |item: &Node<'_>| -> Option<Vec<String>> {
        if let Some(text) = item.text() {
            return Some(tokens(&text.to_lowercase()).iter().map(|word| word.trim().to_owned()).collect());
        }
        let numbers = item.items().iter().map(|token| token.whole().map(|token| token.to_string()));
        if item.is_array() { numbers.collect() } else { None }
    };
    let tokens_alone = input.is_array() && input.items().first().is_some_and(|first| first.whole().is_some());
    let found: Option<Vec<_>> = if input.is_string() || tokens_alone {
        one(input).map(|words| vec![words])
    } else {
        input.items().iter().map(one).collect()
    };
    let found = found.ok_or_else(wrong)?;
    let fine = !found.is_empty() && found.len() <= INPUTS && found.iter().all(|words| !words.is_empty());
    if fine { Ok(found) } else { Err(wrong()) }
}

/// A unit vector: the sum of one pseudo-random vector per word.
fn embed(words: &[String], dimensions: u64) -> Vec<f32> {
    let mut sum = vec![0f32; usize::try_from(dimensions).unwrap_or(0)];
    for word in words {
        // FNV-1a seeds SplitMix64.
        let mut state = word
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
        for slot in &mut sum {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            // The top 16 bits, from -1 to 1.
            let top = u16::try_from((z ^ (z >> 31)) >> 48).unwrap_or(0);
            *slot += f32::from(top) / 32_767.5 - 1.0;
        }
    }
    let length = sum.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
    sum.iter().map(|x| x / length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(dialect: Dialect, body: &str) -> serde_json::Value {
        let answer = complete(dialect, body.as_bytes(), "id1", 7).unwrap();
        serde_json::from_slice(&answer.body).unwrap()
    }

    #[test]
    fn it_repeats_the_last_user_text_to_each_dialect() {
        let openai = ask(
            Dialect::OpenAiChat,
            r#"{"model":"vouchgate/echo","messages":[{"role":"system","content":"x"},{"role":"user","content":"Hello there"}]}"#,
        );
        assert_eq!(openai["choices"][0]["message"]["content"], "Hello there");
        assert_eq!(openai["choices"][0]["finish_reason"], "stop");
        assert_eq!(openai["usage"]["completion_tokens"], 4);
        let anthropic = ask(
            Dialect::AnthropicMessages,
            r#"{"model":"vouchgate/echo","max_tokens":2,"messages":[{"role":"user","content":[{"type":"text","text":"Hello there"}]}]}"#,
        );
        assert_eq!(anthropic["content"][0]["text"], "Hello");
        assert_eq!(anthropic["stop_reason"], "max_tokens");
        assert_eq!(anthropic["usage"]["output_tokens"], 2);
    }

    #[test]
    fn a_stop_text_and_json_mode_are_honoured() {
        let stopped = ask(
            Dialect::OpenAiChat,
            r#"{"model":"m","stop":["C","B"],"messages":[{"role":"user","content":"aaBbCc"}]}"#,
        );
        assert_eq!(stopped["choices"][0]["message"]["content"], "aa");
        let json = ask(
            Dialect::OpenAiChat,
            r#"{"model":"m","response_format":{"type":"json_object"},"messages":[{"role":"user","content":"a \"b\""}]}"#,
        );
        assert_eq!(json["choices"][0]["message"]["content"], r#"{"echo":"a \"b\""}"#);
    }

    #[test]
    fn a_stream_says_the_same_in_several_pieces() {
        let body = r#"{"model":"m","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"one two three four"}]}"#;
        let (pieces, usage) = stream(Dialect::OpenAiChat, body.as_bytes(), "id", 0).unwrap();
        assert!(pieces.len() > 5, "{}", pieces.len());
        let text = String::from_utf8(pieces.concat()).unwrap();
        assert!(text.ends_with("data: [DONE]\n\n"), "{text}");
        assert!(text.contains(r#""usage":{"prompt_tokens":5,"completion_tokens":5"#), "{text}");
        assert_eq!(usage.output_tokens, Some(5));
    }

    #[test]
    fn embeddings_are_deterministic_unit_vectors_and_near_for_like_texts() {
        let body = r#"{"model":"vouchgate/echo","input":["the red fox","the red dog","quantum"],"dimensions":128}"#;
        let (one, two) = (ask(Dialect::OpenAiEmbeddings, body), ask(Dialect::OpenAiEmbeddings, body));
        assert_eq!(one, two);
        let vector = |i: usize| -> Vec<f64> {
            one["data"][i]["embedding"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect()
        };
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        assert!((dot(&vector(0), &vector(0)) - 1.0).abs() < 1e-3);
        assert!(dot(&vector(0), &vector(1)) > dot(&vector(0), &vector(2)) + 0.2);
        let tokens = ask(Dialect::OpenAiEmbeddings, r#"{"model":"m","input":[1,2,3],"encoding_format":"base64"}"#);
        assert_eq!(tokens["data"][0]["embedding"].as_str().unwrap().len(), 344);
        assert_eq!(tokens["usage"]["prompt_tokens"], 3);
        for wrong in [r#""""#, "[]", "[\"\"]", "7", "[[1],\"a\",{}]", "[-1]"] {
            let body = format!(r#"{{"model":"m","input":{wrong}}}"#);
            assert!(complete(Dialect::OpenAiEmbeddings, body.as_bytes(), "", 0).is_err(), "{wrong}");
        }
    }
}
