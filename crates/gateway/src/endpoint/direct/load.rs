//! What a request to one of these endpoints asks to have done, as far as that costs.

use http::header::{self, HeaderMap};
use llm::passthrough::{Form, peek_completions};
use serde_json::Value;

use super::Direct;
use crate::budget::{Load, Tokens};
use crate::edge;

/// Of a request on a provider's own API, in whichever form.
pub(crate) fn of(direct: Direct, (headers, body): (&HeaderMap, &[u8])) -> Load {
    match headers.get(header::CONTENT_TYPE).filter(|kind| !edge::is_json(kind)) {
        None => json(direct, body),
        Some(kind) => match Form::read(kind.as_bytes(), body) {
            Ok(read) => form(direct, (&read, body)),
            Err(_) => Load::Opaque,
        },
    }
}

/// Of a request in JSON. (Completions say themselves what they generate.)
pub(crate) fn json(direct: Direct, body: &[u8]) -> Load {
    let Ok(asked) = serde_json::from_slice::<Value>(body) else { return Load::Opaque };
    let text = |name: &str| asked.get(name).and_then(Value::as_str).map(str::to_owned);
    match direct {
        Direct::Completions => completions(body),
        Direct::Moderations => Load::Tokens(Tokens::read(body)),
        // Written without a bound that could be set.
        Direct::Compact => Load::Tokens(unbounded(body)),
        Direct::ImageGenerations | Direct::ImageEdits | Direct::ImageVariations => {
            let count = asked.get("n").and_then(Value::as_u64).unwrap_or(1).max(1);
            pictures(count, (text("size"), text("quality")), body)
        }
        Direct::Speech => {
            let characters = text("input").map_or(body.len(), |input| input.chars().count()) as u64;
            Load::Speech { characters, tokens: unbounded(body) }
        }
        Direct::Transcriptions | Direct::Translations => Load::Sound { bytes: body.len() as u64, millis: None },
    }
}

/// Of a request in a form, with files.
pub(crate) fn form(direct: Direct, (form, body): (&Form, &[u8])) -> Load {
    let text = |name: &str| form.text(body, name).map(str::to_owned);
    match direct {
        Direct::ImageGenerations | Direct::ImageEdits | Direct::ImageVariations => {
            let count = text("n").and_then(|n| n.trim().parse().ok()).unwrap_or(1u64).max(1);
            pictures(count, (text("size"), text("quality")), b"{}")
        }
        Direct::Transcriptions | Direct::Translations => {
            let file = form.content(body, "file").unwrap_or(body);
            Load::Sound { bytes: body.len() as u64, millis: wave_millis(file) }
        }
        Direct::Completions | Direct::Compact | Direct::Moderations | Direct::Speech => Load::Opaque,
    }
}

/// Of a request for completions, on a provider's own API: nothing is set in it.
pub(crate) fn completions(body: &[u8]) -> Load {
    match peek_completions(body, &llm::Limits { nodes: usize::MAX, ..llm::Limits::REQUEST }) {
        // OpenAI generates 16 for those who say nothing; others say nothing of it.
        Ok(seen) if seen.max_output_tokens.is_some() => {
            Load::Tokens(Tokens::answered(body, seen.max_output_tokens, seen.answers))
        }
        _ => Load::Opaque,
    }
}

fn pictures(count: u64, (size, quality): (Option<String>, Option<String>), body: &[u8]) -> Load {
    Load::Pictures { count, size, quality, tokens: unbounded(body) }
}

/// What is generated where no bound can be set: as many tokens as fit, where it is priced by them.
fn unbounded(body: &[u8]) -> Tokens {
    Tokens { unbounded: true, ..Tokens::read(body) }
}

/// How long the sound in a WAVE file is that is not compressed, by the figures its readers go by
/// (RIFF, `fmt ` chunk: channels, samples a second, bits of each).
fn wave_millis(file: &[u8]) -> Option<u64> {
    let number = |at: usize, bytes: usize| {
        let part = file.get(at..at.checked_add(bytes)?)?;
        Some(part.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let plain = file.starts_with(b"RIFF") && file.get(8..16)? == b"WAVEfmt ";
    if !plain || !matches!(number(20, 2), Some(1 | 3)) {
        return None;
    }
    let (channels, rate, bits) = (number(22, 2)?, number(24, 4)?, number(34, 2)?);
    let each_second = channels.checked_mul(rate)?.checked_mul(bits)? / 8;
    (file.len() as u64).checked_mul(1000)?.checked_div(each_second).map(|millis| millis.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sound_that_is_not_compressed_says_how_long_it_is() {
        let mut wave = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\x01\0\x80\x3e\0\0\0\x7d\0\0\x02\0\x10\0data".to_vec();
        wave.resize(32_000, 0);
        // 16,000 samples a second of 2 bytes.
        assert_eq!(wave_millis(&wave), Some(1001));
        wave[20] = 2;
        assert_eq!(wave_millis(&wave), None);
        for other in [b"".as_slice(), b"RIFF", b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"] {
            assert_eq!(wave_millis(other), None);
        }
    }

    #[test]
    fn what_is_asked_for_is_counted_as_the_request_says_it() {
        let load = json(Direct::ImageGenerations, br#"{"prompt":"x","n":3,"size":"1024x1024"}"#);
        assert!(
            matches!(load, Load::Pictures { count: 3, size: Some(size), quality: None, .. } if size == "1024x1024")
        );
        let load = json(Direct::Speech, "{\"input\":\"\u{e9}\u{e9}\"}".as_bytes());
        assert!(matches!(load, Load::Speech { characters: 2, .. }));
        let load = json(Direct::Completions, br#"{"model":"m","prompt":["a","b"],"max_tokens":5,"n":2}"#);
        assert!(matches!(load, Load::Tokens(Tokens { asked: Some(5), answers: 4, .. })));
        assert!(matches!(json(Direct::Completions, br#"{"model":"m","prompt":"a"}"#), Load::Opaque));
    }
}
