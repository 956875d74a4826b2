//! Whether a request certainly does not fit into a model.
//!
//! Nobody but the provider counts tokens exactly, so this counts what cannot be fewer: words. In every tokenizer that has
//! been published for the models below, a token begins with at most one white space and holds no other: text is cut into
//! words before tokens are made of them (the patterns of `tiktoken`, Llama 3, Qwen, `DeepSeek`, GLM and Mistral's Tekken;
//! `SentencePiece` splits at white space). A word, a run without white space that holds a letter or digit, is a token or more.
//! Other makers' tokenizers are not known, so nothing is certain there. A sixteenth is left for figures that are rounded.

use super::{Catalogue, Own};
use crate::json::{Limits, Node, node};

/// Bodies this short fit into everything.
const SHORT: usize = 1024;

/// A request that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow {
    /// It has at least so many tokens.
    pub at_least: u64,
    /// So many fit.
    pub limit: u64,
}

/// Whether `body` certainly does not fit into `model` at a provider of this `kind`, of which the deployment says `own`.
pub fn overflow(kind: &str, model: &str, own: &[Own], body: &[u8]) -> Option<Overflow> {
    if body.len() <= SHORT {
        return None;
    }
    let limit = certain_limit(kind, model, own)?;
    let limit_and_margin = limit.saturating_add(limit / 16);
    // Every word is at least a letter and what parts it from the next.
    if (body.len() as u64) / 2 < limit_and_margin {
        return None;
    }
    let at_least = words_of(body)?;
    (at_least > limit_and_margin).then_some(Overflow { at_least, limit })
}

/// How much input fits, where that is certain: the deployment says it, or the table does and the maker's tokenizer is known.
fn certain_limit(kind: &str, model: &str, own: &[Own]) -> Option<u64> {
    let said = own.iter().find(|own| own.model == model).or_else(|| own.iter().find(|own| own.model == "*"));
    if let Some(limit) = said.and_then(|own| own.limits.input()) {
        // Ollama cuts what is too long instead of refusing it.
        return (kind != "ollama").then_some(limit);
    }
    let entry = Catalogue::builtin().find(kind, model)?;
    let begins = |names: &[&str]| names.iter().any(|name| entry.name.starts_with(name));
    let known = match kind {
        "openai" | "azure" => begins(&["gpt-", "o1", "o3", "o4", "text-embedding-"]),
        "mistral" | "deepseek" => true,
        "groq" => begins(&["llama-", "meta-llama/", "openai/gpt-oss-", "qwen/"]),
        "cerebras" => begins(&["gpt-oss-", "zai-glm-"]),
        _ => false,
    };
    entry.limits.input().filter(|_| known)
}

/// How many words a model is certainly given; `None` where the provider may leave some of it out.
fn words_of(body: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(body).ok()?;
    let root = node(text, &Limits { nodes: usize::MAX, ..Limits::REQUEST }).ok()?;
    if ["truncation", "truncate", "transforms", "context_management"].iter().any(|name| root.get(name).is_some()) {
        return None;
    }
    let turns = ["messages", "contents", "system", "instructions", "systemInstruction", "system_instruction"];
    let said: u64 = turns.iter().filter_map(|name| root.get(name)).map(turn).sum();
    // Texts to be embedded each stand alone; turns of a conversation together.
    let input = root.get("input");
    let texts = input.map(Node::items).unwrap_or_default();
    let asked = match input {
        Some(input) if texts.iter().all(Node::is_string) && !texts.is_empty() => {
            input.items().iter().map(turn).max().unwrap_or(0)
        }
        Some(input) => turn(input),
        None => 0,
    };
    Some(said + asked)
}

/// The words of a text, of the texts among its parts, or of all turns of a list.
fn turn(value: &Node<'_>) -> u64 {
    if let Some(text) = value.text() {
        return words(&text);
    }
    let parts: u64 = value.items().iter().map(turn).sum();
    let kind = value.get("type").and_then(Node::text);
    let said = matches!(kind.as_deref(), None | Some("text" | "input_text" | "output_text" | "message"))
        && value.get("thought").is_none();
    let own = ["content", "parts", "text"].iter().filter(|_| said).filter_map(|name| value.get(name)).map(turn);
    parts + own.sum::<u64>()
}

/// Runs without white space that hold a letter or a digit, ASCII all of it: other alphabets are not needed for a bound.
fn words(text: &str) -> u64 {
    let words = text.split_ascii_whitespace().filter(|word| word.bytes().any(|b| b.is_ascii_alphanumeric()));
    words.count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Charges, TokenLimits};
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn over(kind: &str, model: &str, body: &Value) -> Option<Overflow> {
        overflow(kind, model, &[], body.to_string().as_bytes())
    }

    fn chat(words: usize) -> Value {
        json!({"messages": [{"role": "system", "content": "be brief"}, {"role": "user", "content": "a ".repeat(words)}]})
    }

    #[test]
    fn what_has_more_words_than_tokens_fit_is_too_long() {
        // gpt-4 holds 8192; a sixteenth more is left to the provider.
        assert_eq!(over("openai", "gpt-4", &chat(8704 - 2)), None);
        assert_eq!(over("openai", "gpt-4", &chat(8704 - 1)), Some(Overflow { at_least: 8705, limit: 8192 }));
        assert_eq!(over("openai", "gpt-4-turbo", &chat(20_000)), None);
        let parts = json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "a ".repeat(9000)}]}]});
        assert_eq!(over("openai", "gpt-4", &parts).map(|over| over.at_least), Some(9000));
        let gemini = json!({"contents": [{"parts": [{"text": "a ".repeat(9000)}]}]});
        assert!(over("openai", "gpt-4", &gemini).is_some(), "a client of any dialect");
        let responses = json!({"instructions": "a b", "input": [{"role": "user", "content": [{"type": "input_text", "text": "a ".repeat(9000)}]}]});
        assert_eq!(over("openai", "gpt-4", &responses).map(|over| over.at_least), Some(9002));
    }

    #[test]
    fn what_may_be_fewer_tokens_or_is_no_text_does_not_count() {
        let one = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
        for body in [
            one(json!("a".repeat(100_000))),
            one(json!("- ".repeat(100_000))),
            one(json!(" ".repeat(100_000))),
            one(json!([{"type": "image_url", "image_url": {"url": format!("data:{}", "a ".repeat(50_000))}}])),
            one(json!([{"type": "tool_use", "input": {"text": "a ".repeat(50_000)}}])),
            json!({"messages": [], "metadata": {"x": "a ".repeat(50_000)}}),
            json!({"truncation": "auto", "input": "a ".repeat(50_000)}),
        ] {
            assert_eq!(over("openai", "gpt-4", &body), None);
        }
    }

    #[test]
    fn texts_to_be_embedded_each_have_the_room_for_themselves() {
        let text = "a ".repeat(6000);
        assert_eq!(over("openai", "text-embedding-3-small", &json!({"input": [text, text, text]})), None);
        let long = "a ".repeat(9000);
        assert!(over("openai", "text-embedding-3-small", &json!({"input": [text, long]})).is_some());
        assert!(over("openai", "text-embedding-3-small", &json!({"input": long})).is_some());
    }

    #[test]
    fn nothing_is_certain_of_models_whose_tokenizer_is_not_known_unless_the_deployment_says_so() {
        let body = chat(3_000_000);
        for (kind, model) in [
            ("anthropic", "claude-haiku-4-5"),
            ("gemini", "gemini-3.5-flash"),
            ("groq", "groq/compound"),
            ("ollama", "x"),
        ] {
            assert_eq!(over(kind, model, &body), None, "{kind}");
        }
        assert!(over("groq", "llama-3.3-70b-versatile", &body).is_some());
        let limits = TokenLimits { context: Some(1000), ..TokenLimits::default() };
        let own = [Own { model: "*".to_owned(), price: None, limits, charges: Charges::default() }];
        let body = chat(2000).to_string();
        let said = |kind| overflow(kind, "any", &own, body.as_bytes()).map(|over| over.limit);
        assert_eq!((said("vllm"), said("anthropic"), said("ollama")), (Some(1000), Some(1000), None));
    }

    proptest! {
        /// What GPT-2's pattern, the loosest of those published, makes of a text: at least so many pieces.
        #[test]
        fn no_text_has_more_words_than_pieces(text in "[a-z0-9 .,'\\n\\t-]{0,200}") {
            let mut pieces = 0u64;
            let mut last = None;
            for c in text.chars() {
                let class = match c {
                    'a'..='z' | '\'' => 0,
                    '0'..='9' => 1,
                    ' ' | '\n' | '\t' => 2,
                    _ => 3,
                };
                // A piece is a run of one class; one white space may begin it, and contractions join two.
                if last != Some(class) && class != 2 {
                    pieces += 1;
                }
                last = Some(class);
            }
            prop_assert!(words(&text) <= pieces);
        }

        #[test]
        fn any_body_is_counted_without_panic(body in "\\PC{0,80}") {
            let _words = words_of(body.as_bytes());
        }
    }
}
