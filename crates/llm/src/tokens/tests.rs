//! Counts of known texts, of hostile ones, and of any.

use super::*;
use proptest::prelude::*;

const BOTH: [Vocabulary; 2] = [Vocabulary::O200k, Vocabulary::Cl100k];

fn count(vocabulary: Vocabulary, text: &str) -> u64 {
    Counter::new(vocabulary).count(text)
}

#[test]
fn known_texts_have_the_tokens_their_maker_counts() {
    for (text, o200k, cl100k) in &KNOWN {
        assert_eq!((count(Vocabulary::O200k, text), count(Vocabulary::Cl100k, text)), (*o200k, *cl100k), "{text:?}");
    }
}

/// What is hard to take apart or to join: a mebibyte of what is one piece, less of what takes a test long.
fn hostile() -> Vec<String> {
    const MIB: usize = 1 << 20;
    const PART: usize = 1 << 16;
    let mut seed = 88_172_645_463_325_252_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let letters = (0..MIB).map(|_| char::from(b'a' + u8::try_from(random() % 26).unwrap())).collect();
    let bytes: String = (0..PART).map(|_| char::from(u8::try_from(random() % 256).unwrap())).collect();
    let marks: String = (0..PART).map(|n| if n % 3 == 0 { '\u{301}' } else { 'A' }).collect();
    let mut texts: Vec<String> =
        ["x'", "中A", "'s", " \n x", "1", "\u{1f469}\u{200d}"].iter().map(|part| part.repeat(PART)).collect();
    texts.extend(["a", "A", " ", "=", "\n", "\u{3000}", "ab"].iter().map(|part| part.repeat(MIB / part.len())));
    texts.extend([letters, bytes, marks, format!("{}x", " ".repeat(MIB)), "=".repeat(LONGEST_PIECE) + "a"]);
    // Words as long as are joined, one after the other.
    texts.push(("a".repeat(LONGEST_PIECE - 1) + " ").repeat(PART / LONGEST_PIECE));
    texts.push(("ab".repeat(LONGEST_PIECE / 2 - 1) + "\n").repeat(PART / LONGEST_PIECE));
    texts
}

#[test]
fn no_text_takes_more_than_some_steps_for_each_of_its_bytes() {
    for vocabulary in BOTH {
        for text in hostile() {
            let mut counter = Counter::new(vocabulary);
            let (tokens, bytes) = (counter.count(&text), text.len() as u64);
            let begins: String = text.chars().take(8).collect();
            assert!(tokens <= bytes, "{begins:?}");
            assert!(counter.steps() <= 8 * bytes, "{begins:?}: {} steps for {bytes} bytes", counter.steps());
        }
    }
}

#[test]
fn a_piece_longer_than_any_word_counts_as_its_bytes() {
    for vocabulary in BOTH {
        let long = LONGEST_PIECE as u64;
        assert_eq!(count(vocabulary, &"a".repeat(LONGEST_PIECE)), long / 8);
        assert_eq!(count(vocabulary, &"a".repeat(LONGEST_PIECE + 1)), long + 1);
    }
}

#[test]
fn a_text_that_nobody_can_split_counts_as_its_bytes() {
    let text = "Some words and then one \u{378} of no script.";
    for vocabulary in BOTH {
        assert_eq!(count(vocabulary, text), text.len() as u64);
    }
}

proptest! {
    #[test]
    fn no_text_has_more_tokens_than_bytes_nor_none(text in "(\\PC|[ -~]|[a-zA-Z '\n]){0,300}") {
        for vocabulary in BOTH {
            let tokens = count(vocabulary, &text);
            prop_assert!(tokens <= text.len() as u64);
            prop_assert_eq!(tokens == 0, text.is_empty());
        }
    }

    #[test]
    fn a_counter_counts_the_same_again(texts in proptest::collection::vec("[a-z =\n]{0,60}", 1..6)) {
        let mut counter = Counter::new(Vocabulary::O200k);
        for text in &texts {
            prop_assert_eq!(counter.count(text), count(Vocabulary::O200k, text));
        }
    }
}

/// Texts, and what each vocabulary makes of them: by another implementation (github.com/github/rust-gems, `bpe-openai` 0.3.2).
const KNOWN: [(&str, u64, u64); 14] = [
    ("", 0, 0),
    ("hello world", 2, 2),
    ("Hello, world! It's 12345 o'clock.", 11, 12),
    ("    def f(x):\n        return x ** 2\n\n\n", 12, 12),
    ("日本語のテキストと한국어 텍스트", 12, 16),
    ("Здравствуй, мир! Как дела?", 10, 14),
    ("👩\u{200d}👩\u{200d}👧\u{200d}👦 🇩🇪 ❤\u{fe0f}", 16, 26),
    ("https://example.com/a/b?c=d&e=f#g", 12, 12),
    ("{\"type\":\"object\",\"properties\":{\"city\":{\"type\":\"string\"}}}", 14, 14),
    ("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", 5, 5),
    ("x\u{301}y ʼn ǅabc 'S \u{3000}\u{3000}a", 15, 17),
    ("ไม\u{e48}ม\u{e35}ช\u{e48}องว\u{e48}างระหว\u{e48}างคำในภาษาไทย", 10, 30),
    ("\t\t\n\n \r\n  \n", 3, 3),
    ("café naïve Straße İstanbul", 6, 8),
];
