//! PostgreSQL's texts cannot hold U+0000, which callers may send (a `sub` of `"\u0000"` is good JSON). It is written as two
//! characters that begin with one from the private use area, and so is that one.

use crate::engine::Text;

const ESCAPE: char = '\u{E000}';

/// As the database can hold it. What begins with a text begins with its encoding too.
pub(super) fn encode(text: String) -> String {
    if !text.contains(['\0', ESCAPE]) {
        return text;
    }
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\0' => out.extend([ESCAPE, '0']),
            ESCAPE => out.extend([ESCAPE, '1']),
            c => out.push(c),
        }
    }
    out
}

/// As it was given to [`encode`].
pub(super) fn decode(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            ESCAPE => match chars.next() {
                Some('0') => out.push('\0'),
                Some('1') => out.push(ESCAPE),
                // Written by hand.
                other => out.extend([Some(ESCAPE), other].into_iter().flatten()),
            },
            c => out.push(c),
        }
    }
    out
}

/// The text of a statement that locks what it reads.
pub(super) fn locking(sql: &str, lock: crate::engine::Lock) -> Text {
    let how = match lock {
        crate::engine::Lock::Update => "UPDATE",
        crate::engine::Lock::Share => "SHARE",
    };
    Text::Made(format!("{sql} FOR {how}").into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_text_comes_back_and_no_two_are_the_same(
            a in "[\\x00\u{E000}01a]{0,8}", b in "[\\x00\u{E000}01a]{0,8}"
        ) {
            let encoded = encode(a.clone());
            prop_assert!(!encoded.contains('\0'));
            prop_assert_eq!(decode(encoded.clone()), a.clone());
            prop_assert_eq!(encoded == encode(b.clone()), a == b);
            prop_assert!(encode(a + &b).starts_with(&encoded));
        }

        #[test]
        fn a_text_written_by_hand_is_read_without_a_panic(text in "[\u{E000}01a]{0,8}") {
            let _ = decode(text);
        }
    }
}
