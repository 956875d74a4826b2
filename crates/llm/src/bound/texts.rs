//! What the texts of a request are in tokens.
//!
//! How a provider puts a request together is published in part only: names of roles, a mark before and after each turn, tools as
//! declarations of functions with their descriptions as comments. Each of that stands for a value of the request, and is less than
//! [`AROUND`] tokens; the names of members are counted too, whether the model reads them or not.

use crate::json::Node;
use crate::tokens::{Counter, Vocabulary};

use super::MOST_COUNTED;

/// Tokens around each value: a turn has three or four (github.com/openai/openai-cookbook, "How to count tokens"), a parameter of a tool at
/// most eight, and it is three values (itself, its type, its description).
const AROUND: u64 = 4;

/// No fewer tokens than the texts in `text`, of which `root` is the document, without `media`, which are parts of it.
pub(super) fn count(text: &str, root: &Node<'_>, (media, vocabulary): (Vec<&str>, Vocabulary)) -> Option<u64> {
    let begins = |data: &&str| data.as_ptr().addr().saturating_sub(text.as_ptr().addr());
    let mut apart: Vec<usize> = media.iter().map(begins).collect();
    apart.sort_unstable();
    let bytes = text.len().saturating_sub(media.iter().map(|data| data.len()).sum());
    if bytes > MOST_COUNTED {
        return None;
    }
    let mut texts = Texts { text, apart, counter: Counter::new(vocabulary), tokens: 0 };
    texts.add(root);
    Some(texts.tokens)
}

struct Texts<'a> {
    text: &'a str,
    /// Where begins what is no text.
    apart: Vec<usize>,
    counter: Counter,
    tokens: u64,
}

impl Texts<'_> {
    fn add(&mut self, at: &Node<'_>) {
        let mut own = AROUND;
        if at.is_string() {
            if self.apart.binary_search(&at.offset_in(self.text.as_bytes())).is_err() {
                own += self.said(at);
            }
        } else if at.items().is_empty() && at.members().is_empty() {
            own += at.raw.len() as u64;
        }
        self.tokens = self.tokens.saturating_add(own);
        for item in at.items() {
            self.add(item);
        }
        for (name, value) in at.members() {
            self.tokens = self.tokens.saturating_add(self.counter.count(name));
            self.add(value);
        }
    }

    /// A text: as it reads, or where it is put in as it is written, if that is more. A line may have a mark before it.
    fn said(&mut self, at: &Node<'_>) -> u64 {
        let read = at.text().map_or(0, |text| {
            let lines = text.bytes().filter(|byte| *byte == b'\n').count() as u64;
            self.counter.count(&text) + lines
        });
        if at.raw.contains('\\') { read.max(self.counter.count(at.raw)) } else { read }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Brought, counted};
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn tokens(body: &Value) -> u64 {
        counted(body.to_string().as_bytes(), Vocabulary::O200k).expect("JSON")
    }

    fn chat(content: &Value) -> Value {
        json!({"model": "gpt-5", "messages": [{"role": "user", "content": content}]})
    }

    #[test]
    fn long_texts_count_a_fraction_of_their_bytes() {
        let text = "The quick brown fox jumps over the lazy dog. ".repeat(400);
        let exact = Counter::new(Vocabulary::O200k).count(&text);
        let found = tokens(&chat(&json!(text)));
        assert!(found >= exact && found < exact + 48, "{found} of {exact}");
        assert!(found * 4 < text.len() as u64);
    }

    #[test]
    fn pictures_and_sound_are_no_text_wherever_they_stand() {
        let data = "A".repeat(100_000);
        for part in [
            json!([{"type": "image_url", "image_url": {"url": format!("data:image/png;base64,{data}")}}]),
            json!([{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}]),
            json!([{"type": "input_audio", "input_audio": {"data": data, "format": "mp3"}}]),
        ] {
            let found = tokens(&chat(&part));
            assert!(found < 120, "{found}: {}", &part.to_string()[..60]);
        }
        let text = format!("data:image/png;base64,{data}");
        assert!(tokens(&chat(&json!(text))) > 10_000, "what only looks like a picture is read as text");
    }

    #[test]
    fn escapes_and_lines_count_as_whatever_is_more() {
        let plain = tokens(&chat(&json!("a b c d")));
        assert!(tokens(&chat(&json!("a\nb\nc\nd"))) > plain);
        let quotes = "\"".repeat(64);
        assert!(tokens(&chat(&json!(quotes))) > plain + 8);
    }

    #[test]
    fn what_is_too_long_or_no_json_is_not_counted() {
        let long = chat(&json!("a ".repeat(MOST_COUNTED / 2))).to_string();
        assert_eq!(counted(long.as_bytes(), Vocabulary::O200k), None);
        assert_eq!(counted(b"{\"model\":", Vocabulary::O200k), None);
        assert_eq!(counted(b"\xff", Vocabulary::O200k), None);
        let data = format!("data:image/png;base64,{}", "A".repeat(MOST_COUNTED));
        let picture = chat(&json!([{"type": "image_url", "image_url": {"url": data}}])).to_string();
        assert!(counted(picture.as_bytes(), Vocabulary::O200k).is_some());
    }

    proptest! {
        #[test]
        fn what_is_counted_is_never_more_than_the_bound_by_bytes(text in "\\PC{0,400}", name in "[a-z_]{1,12}", n in 0_u64..99) {
            let body = json!({"model": "gpt-4o", name: n, "messages": [{"role": "user", "content": text}], "tools": []});
            let bytes = body.to_string();
            let brought = Brought::of(bytes.as_bytes()).expect("JSON");
            let texts = counted(bytes.as_bytes(), Vocabulary::O200k).expect("JSON");
            let exact = brought.tokens_as_counted(texts, "gpt-4o", None);
            prop_assert!(exact <= brought.tokens("gpt-4o", None));
        }
    }
}
