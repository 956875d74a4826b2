//! Endpoints of one form, which no dialect translates: completions, moderations, images, speech and transcription.

use super::{Peek, peek};
use crate::json::{Limits, Node, members, node};
use crate::model::Usage;
use crate::provider::usage::openai;
use crate::{Dialect, RequestError};

/// Look at a request for completions (OpenAI's `POST /v1/completions`): each prompt has its own answers, and `best_of` of
/// them are generated whatever `n` says.
pub fn peek_completions(body: &[u8], limits: &Limits) -> Result<Peek, RequestError> {
    let mut seen = peek(Dialect::OpenAiChat, body, limits)?;
    let mut prompts = 1;
    for member in members(body, limits)? {
        match member.name.as_ref() {
            "best_of" if member.raw != "null" => {
                let best = node(member.raw, limits)?.whole();
                seen.answers = seen.answers.max(best.ok_or_else(|| RequestError::wrong("best_of", "a whole number"))?);
            }
            "prompt" if member.raw.starts_with('[') => {
                let list = node(member.raw, limits)?;
                // One list of tokens is one prompt.
                if list.items().first().is_some_and(|first| first.whole().is_none()) {
                    prompts = list.items().len() as u64;
                }
            }
            _ => {}
        }
    }
    seen.answers = seen.answers.saturating_mul(prompts);
    Ok(seen)
}

/// What an answer about media says it took: tokens, seconds of audio, pictures. `None` if it is no JSON object.
pub fn media_usage(body: &[u8]) -> Option<Usage> {
    let mut usage = Usage::default();
    for member in members(body, &Limits { nodes: usize::MAX, ..Limits::RESPONSE }).ok()? {
        let value = || node(member.raw, &Limits::RESPONSE).ok();
        match member.name.as_ref() {
            "usage" => usage.merge(&value().map(|usage| told(&usage)).unwrap_or_default()),
            // In seconds: a transcription that tells everything, and providers that tell nothing else.
            "duration" => usage.audio_ms = usage.audio_ms.or_else(|| value().as_ref().and_then(millis)),
            "data" => usage.images = value().filter(Node::is_array).map(|data| data.items().len() as u64),
            _ => {}
        }
    }
    Some(usage)
}

/// A `usage` of any of them.
pub(super) fn told(usage: &Node<'_>) -> Usage {
    let audio_ms = usage.get("seconds").or_else(|| usage.get("prompt_audio_seconds")).and_then(millis);
    Usage { audio_ms, ..openai(usage) }
}

fn millis(seconds: &Node<'_>) -> Option<u64> {
    let seconds = seconds.number().or_else(|| seconds.text()?.parse().ok())?;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // checked: no day has more
    (0.0..=86_400.0).contains(&seconds).then(|| (seconds * 1000.0).round() as u64)
}

/// Most of an answer that is kept to be looked at.
const KEPT: usize = 256 * 1024;
/// Most of one text in it.
const TEXT: usize = 48;

/// Watches a JSON answer go by that is too large to be held, because of the pictures in it: keeps all but long texts, and
/// reads the usage at its end.
#[derive(Debug, Default)]
pub struct AnswerTap {
    kept: Vec<u8>,
    /// Bytes of the text it stands in; `None` outside.
    text: Option<usize>,
    /// Bytes of an escape still to come.
    escape: u8,
    is_full: bool,
}

impl AnswerTap {
    /// Take the next bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let keep = match &mut self.text {
                None => {
                    if byte == b'"' {
                        self.text = Some(0);
                    }
                    true
                }
                Some(length) => {
                    let at_start = self.escape == 0 && byte & 0xc0 != 0x80;
                    // Cut before a character or an escape, never inside.
                    let short = *length < TEXT || (*length < 2 * TEXT && !at_start);
                    match (self.escape, byte) {
                        (0, b'"') => self.text = None,
                        (0, b'\\') => self.escape = 1,
                        (1, b'u') => self.escape = 4,
                        (0, _) => {}
                        _ => self.escape -= 1,
                    }
                    if let Some(length) = &mut self.text {
                        *length = if short { *length + 1 } else { usize::MAX };
                    }
                    short || self.text.is_none()
                }
            };
            if keep && self.kept.len() < KEPT {
                self.kept.push(byte);
            } else {
                self.is_full |= keep;
            }
        }
    }

    /// What the answer has said it took; nothing, if it was no JSON or held too much besides texts.
    pub fn usage(&self) -> Usage {
        if self.is_full { Usage::default() } else { media_usage(&self.kept).unwrap_or_default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn all_answers_of_all_prompts_count() {
        for (body, answers) in [
            (r#"{"model":"m","prompt":"a"}"#, 1),
            (r#"{"model":"m","prompt":"a","n":2,"best_of":5,"max_tokens":7}"#, 5),
            (r#"{"model":"m","prompt":["a","b","c"],"n":2}"#, 6),
            (r#"{"model":"m","prompt":[1,2,3]}"#, 1),
            (r#"{"model":"m","prompt":[[1],[2,3]],"best_of":null}"#, 2),
        ] {
            assert_eq!(peek_completions(body.as_bytes(), &Limits::REQUEST).unwrap().answers, answers, "{body}");
        }
        assert!(peek_completions(br#"{"model":"m","best_of":"all"}"#, &Limits::REQUEST).is_err());
    }

    #[test]
    fn usage_is_read_in_tokens_seconds_and_pictures() {
        let read = |body: &str| media_usage(body.as_bytes()).unwrap();
        let told = read(
            r#"{"text":"a","usage":{"type":"tokens","input_tokens":54,"output_tokens":16,"total_tokens":70,"input_token_details":{"audio_tokens":50}}}"#,
        );
        assert_eq!((told.input_tokens, told.output_tokens, told.audio_input_tokens), (Some(54), Some(16), Some(50)));
        assert_eq!(read(r#"{"duration":36.709,"usage":{"type":"duration","seconds":37}}"#).audio_ms, Some(37_000));
        assert_eq!(read(r#"{"usage":{"seconds":6,"cost":0.1}}"#).audio_ms, Some(6_000));
        assert_eq!(read(r#"{"duration":5.495999813079834,"text":""}"#).audio_ms, Some(5_496));
        assert_eq!(read(r#"{"data":[{"url":"a"},{"url":"b"}],"created":1}"#).images, Some(2));
        assert_eq!(read(r#"{"duration":-1}"#).audio_ms, None);
        assert_eq!(media_usage(b"<html>"), None);
    }

    #[test]
    fn long_texts_are_not_kept_and_the_usage_behind_them_is_read() {
        let picture = "iVBORw0KGgo".repeat(100_000);
        let body = format!(
            r#"{{"data":[{{"b64_json":"{picture}"}},{{"b64_json":"\"\\{picture}\u00e9\\"}}],"usage":{{"input_tokens":3,"output_tokens":272,"total_tokens":275}}}}"#
        );
        let mut tap = AnswerTap::default();
        tap.feed(body.as_bytes());
        assert!(tap.kept.len() < 400, "{}", tap.kept.len());
        let usage = tap.usage();
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.images), (Some(3), Some(272), Some(2)));
        let mut tap = AnswerTap::default();
        tap.feed(format!("[{}]", "1,".repeat(KEPT)).as_bytes());
        assert_eq!((tap.kept.len(), tap.usage()), (KEPT, Usage::default()));
    }

    proptest! {
        #[test]
        fn any_text_cut_anywhere_leaves_the_answer_readable(text in any::<String>(), at in any::<prop::sample::Index>()) {
            let body = serde_json::json!({"a": text, "usage": {"total_tokens": 7}}).to_string().into_bytes();
            let (first, second) = body.split_at(at.index(body.len()));
            let mut tap = AnswerTap::default();
            tap.feed(first);
            tap.feed(second);
            prop_assert_eq!(tap.usage().total_tokens, Some(7));
        }
    }
}
