//! How much of an answer has gone by: to tell a provider that goes on from one that keeps to what it was asked for.

use crate::json::Node;
use crate::model::Event;

/// The longest token of the published tokenizers, in bytes (`o200k_base`: a run of blanks).
const LONGEST_TOKEN: u64 = 128;
/// Pieces that no token stands behind, and bytes of the last.
const SLACK: u64 = 64;
/// Some servers cut what was said into smaller pieces than tokens.
const PIECES_PER_TOKEN: u64 = 8;

/// Text that was generated, as far as it is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Said {
    /// Bytes of it.
    pub bytes: u64,
    /// Events that held some.
    pub pieces: u64,
}

impl Said {
    /// So much at once.
    pub const fn once(bytes: u64) -> Self {
        Self { bytes, pieces: 1 }
    }

    /// Whether this is certainly more than so many tokens.
    pub const fn is_more_than(&self, tokens: u64) -> bool {
        let bytes = tokens.saturating_mul(LONGEST_TOKEN).saturating_add(SLACK);
        let pieces = tokens.saturating_mul(PIECES_PER_TOKEN).saturating_add(SLACK);
        self.bytes > bytes || self.pieces > pieces
    }

    fn add(&mut self, bytes: u64) {
        if bytes > 0 {
            self.bytes = self.bytes.saturating_add(bytes);
            self.pieces = self.pieces.saturating_add(1);
        }
    }

    /// Count an event of a provider's.
    pub(crate) fn hear(&mut self, data: &Node<'_>) {
        // What says its type says by it whether it is a piece; the whole of an answer is told again at its end.
        let piece = data.text_of("type").is_none_or(|kind| kind.ends_with("delta"));
        if piece {
            self.add(text(data));
        }
    }

    /// Count an event of the canonical model.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Text { text, .. } | Event::Thinking { text, .. } | Event::Refusal { text, .. } => {
                self.add(text.len() as u64);
            }
            Event::Arguments { json, .. } => self.add(json.len() as u64),
            _ => {}
        }
    }
}

fn text(at: &Node<'_>) -> u64 {
    const TEXTS: [&str; 14] = [
        "content",
        "text",
        "thinking",
        "reasoning",
        "reasoning_content",
        "refusal",
        "arguments",
        "partial_json",
        "delta",
        "transcript",
        "generation",
        "outputText",
        "completion",
        "response",
    ];
    let members = at.members().iter().map(|(name, value)| match value.text() {
        Some(said) if TEXTS.contains(&name.as_ref()) => said.len() as u64,
        Some(_) => 0,
        None => text(value),
    });
    members.sum::<u64>().saturating_add(at.items().iter().map(text).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::{Limits, node};

    fn heard(events: &[&str]) -> Said {
        let mut said = Said::default();
        for event in events {
            said.hear(&node(event, &Limits::RESPONSE).expect("JSON"));
        }
        said
    }

    #[test]
    fn pieces_of_every_dialect_are_counted_and_wholes_are_not_counted_again() {
        let four = Said::once(4);
        for event in [
            r#"{"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"four"}}]}"#,
            r#"{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\""}}]}}]}"#,
            r#"{"choices":[{"text":"four"}]}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"four"}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"thinking_delta","thinking":"four"}}"#,
            r#"{"type":"response.output_text.delta","delta":"four"}"#,
            r#"{"candidates":[{"content":{"role":"model","parts":[{"text":"four"}]}}]}"#,
            r#"{"contentBlockIndex":0,"delta":{"text":"four"}}"#,
            r#"{"message":{"role":"assistant","content":"four"},"done":false}"#,
        ] {
            assert_eq!(heard(&[event]), four, "{event}");
        }
        for event in [
            r#"{"type":"response.output_text.done","text":"four"}"#,
            r#"{"type":"response.completed","response":{"output":[{"content":[{"text":"four"}]}]}}"#,
            r#"{"type":"message_start","message":{"content":[]}}"#,
            r#"{"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}"#,
        ] {
            assert_eq!(heard(&[event]), Said::default(), "{event}");
        }
    }

    #[test]
    fn no_provider_that_keeps_to_its_tokens_is_taken_for_one_that_does_not() {
        let longest = Said { bytes: 10 * LONGEST_TOKEN, pieces: 10 };
        assert!(!longest.is_more_than(10));
        assert!(!Said { bytes: 40, pieces: 40 }.is_more_than(10));
        assert!(Said { bytes: 10_000, pieces: 10 }.is_more_than(10));
        assert!(Said { bytes: 500, pieces: 500 }.is_more_than(10));
    }
}
