//! A text taken apart into pieces that no token reaches across: words with what stands before them, numbers of up to three digits, runs of
//! signs, white space. The rules are those of the published patterns (github.com/openai/tiktoken, `tiktoken_ext/openai_public.py`): the first
//! alternative that matches, each as long as it can.

use std::str::Chars;

use unicode_properties::{GeneralCategory, UnicodeGeneralCategory};

use super::Vocabulary;

/// Finds where the first piece of a text ends.
#[derive(Debug)]
pub(super) struct Split {
    vocabulary: Vocabulary,
    #[cfg(test)]
    steps: std::cell::Cell<u64>,
}

/// What a character is to the patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// `\p{Lu}\p{Lt}`
    Upper,
    /// `\p{Ll}`
    Lower,
    /// `\p{Lm}\p{Lo}`: neither, and so both.
    Letter,
    /// `\p{M}`
    Mark,
    /// `\p{N}`
    Number,
    /// `[\r\n]`
    Newline,
    /// `\s`, the rest
    Space,
    /// Anything else.
    Sign,
    /// In no version of Unicode known here.
    Unknown,
}

impl Class {
    fn of(char: char) -> Self {
        match char {
            'a'..='z' => Self::Lower,
            'A'..='Z' => Self::Upper,
            '0'..='9' => Self::Number,
            '\r' | '\n' => Self::Newline,
            ' ' | '\t' | '\u{b}' | '\u{c}' => Self::Space,
            '\0'..='\u{7f}' => Self::Sign,
            _ if char.is_whitespace() => Self::Space,
            _ => match char.general_category() {
                GeneralCategory::UppercaseLetter | GeneralCategory::TitlecaseLetter => Self::Upper,
                GeneralCategory::LowercaseLetter => Self::Lower,
                GeneralCategory::ModifierLetter | GeneralCategory::OtherLetter => Self::Letter,
                GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark | GeneralCategory::EnclosingMark => {
                    Self::Mark
                }
                GeneralCategory::DecimalNumber | GeneralCategory::LetterNumber | GeneralCategory::OtherNumber => {
                    Self::Number
                }
                GeneralCategory::Unassigned => Self::Unknown,
                _ => Self::Sign,
            },
        }
    }

    const fn is_letter(self) -> bool {
        matches!(self, Self::Upper | Self::Lower | Self::Letter)
    }

    const fn is_space(self) -> bool {
        matches!(self, Self::Newline | Self::Space)
    }

    /// `[^\s\p{L}\p{N}]`
    const fn is_sign(self) -> bool {
        matches!(self, Self::Sign | Self::Mark)
    }

    /// `[^\r\n\p{L}\p{N}]`: what may stand before a word.
    const fn leads(self) -> bool {
        matches!(self, Self::Sign | Self::Mark | Self::Space)
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`: what the beginning of a word is of.
    const fn begins(self) -> bool {
        matches!(self, Self::Upper | Self::Letter | Self::Mark)
    }

    /// `[\p{Ll}\p{Lm}\p{Lo}\p{M}]`: what its end is of.
    const fn ends(self) -> bool {
        matches!(self, Self::Lower | Self::Letter | Self::Mark)
    }
}

/// What follows a word and belongs to it, `(?i:'s|'t|'re|'ve|'m|'ll|'d)`; the long s is an s too.
const ENDINGS: [&str; 8] = ["'s", "'\u{17f}", "'t", "'re", "'ve", "'m", "'ll", "'d"];

impl Split {
    pub(super) const fn of(vocabulary: Vocabulary) -> Self {
        Self {
            vocabulary,
            #[cfg(test)]
            steps: std::cell::Cell::new(0),
        }
    }

    /// The bytes of the first piece. `None`: it begins with, or is ended by, a character that nobody knows.
    pub(super) fn first(&self, text: &str) -> Option<usize> {
        let word = match self.vocabulary {
            Vocabulary::O200k => self.cased_word(text),
            Vocabulary::Cl100k => self.word(text),
        };
        let length = match word {
            Some(length) => length,
            None => number(text).or_else(|| self.signs(text)).or_else(|| self.space(text))?,
        };
        let next = text.get(length..)?.chars().next();
        next.is_none_or(|next| Class::of(next) != Class::Unknown).then_some(length)
    }

    /// `(?i:'s|...)|[^\r\n\p{L}\p{N}]?\p{L}+`
    fn word(&self, text: &str) -> Option<usize> {
        if let length @ 1.. = ending(text) {
            return Some(length);
        }
        let first = text.chars().next()?;
        let lead = if Class::of(first).leads() { first.len_utf8() } else { 0 };
        let letters = self.run(text.get(lead..)?, Class::is_letter);
        (letters > 0).then_some(lead + letters)
    }

    /// `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|...)?` or the same with what the beginning is
    /// of at least once and what the end is of maybe never.
    fn cased_word(&self, text: &str) -> Option<usize> {
        let first = text.chars().next()?;
        let lead = if Class::of(first).leads() { first.len_utf8() } else { 0 };
        // A mark may lead a word, or be a part of it.
        let leads = [lead, 0].into_iter().take(if lead > 0 { 2 } else { 1 });
        let ended = leads.clone().find_map(|lead| Some(lead + self.ended(text.get(lead..)?)?));
        let length = ended.or_else(|| {
            leads.clone().find_map(|lead| {
                let begun = self.run(text.get(lead..)?, Class::begins);
                (begun > 0).then_some(lead + begun)
            })
        })?;
        Some(length + ending(text.get(length..)?))
    }

    /// `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`
    fn ended(&self, text: &str) -> Option<usize> {
        let begun = self.run(text, Class::begins);
        let ended = self.run(text.get(begun..)?, Class::ends);
        if ended > 0 {
            return Some(begun + ended);
        }
        // The beginning gives back what could be the end as well.
        let (at, last) = text.get(..begun)?.char_indices().rfind(|(_, char)| Class::of(*char).ends())?;
        Some(at + last.len_utf8())
    }

    /// ` ?[^\s\p{L}\p{N}]+[\r\n]*`, or for the newer vocabulary with `[\r\n/]*`.
    fn signs(&self, text: &str) -> Option<usize> {
        let space = usize::from(text.starts_with(' '));
        let signs = self.run(text.get(space..)?, Class::is_sign);
        if signs == 0 {
            return None;
        }
        let slash = self.vocabulary == Vocabulary::O200k;
        let after = text.get(space + signs..)?;
        let end =
            after.find(|char| !matches!(char, '\r' | '\n' | '/') || (char == '/' && !slash)).unwrap_or(after.len());
        self.step(end);
        Some(space + signs + end)
    }

    /// `\s*[\r\n]+|\s+(?!\S)|\s+`
    fn space(&self, text: &str) -> Option<usize> {
        let length = self.run(text, Class::is_space);
        let run = text.get(..length)?;
        if let Some(newline) = run.rfind(['\r', '\n']) {
            return Some(newline + 1);
        }
        let last = run.chars().next_back()?.len_utf8();
        Some(if length == text.len() || length == last { length } else { length - last })
    }

    /// How many bytes at the beginning are of characters of which `of` holds.
    fn run(&self, text: &str, of: impl Fn(Class) -> bool) -> usize {
        let mut chars: Chars<'_> = text.chars();
        let mut left = text.len();
        while chars.next().is_some_and(|char| of(Class::of(char))) {
            left = chars.as_str().len();
        }
        self.step(text.len() - left + 1);
        text.len() - left
    }

    #[cfg(test)]
    fn step(&self, bytes: usize) {
        self.steps.set(self.steps.get() + bytes as u64);
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "counted in tests only")]
    const fn step(&self, _: usize) {}

    #[cfg(test)]
    pub(super) fn steps(&self) -> u64 {
        self.steps.get()
    }
}

/// `\p{N}{1,3}`
fn number(text: &str) -> Option<usize> {
    let digits = text.chars().take(3).take_while(|char| Class::of(*char) == Class::Number);
    Some(digits.map(char::len_utf8).sum()).filter(|length| *length > 0)
}

/// The length of an ending that stands there; 0: none does.
fn ending(text: &str) -> usize {
    if !text.starts_with('\'') {
        return 0;
    }
    let is = |ending: &&&str| text.get(..ending.len()).is_some_and(|text| text.eq_ignore_ascii_case(ending));
    ENDINGS.iter().find(is).map_or(0, |ending| ending.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(vocabulary: Vocabulary, text: &str) -> Vec<&str> {
        let split = Split::of(vocabulary);
        let (mut rest, mut pieces) = (text, Vec::new());
        while !rest.is_empty() {
            let length = split.first(rest).expect("known characters");
            let (piece, after) = rest.split_at(length);
            pieces.push(piece);
            rest = after;
        }
        pieces
    }

    #[test]
    fn words_take_what_stands_before_them_and_their_endings() {
        let text = "Hello HTTPServer's café, don't 'll IT'S x\u{301}y \u{301}AB 中A B中";
        assert_eq!(
            pieces(Vocabulary::O200k, text),
            [
                "Hello",
                " HTTPServer's",
                " café",
                ",",
                " don't",
                " '",
                "ll",
                " IT'S",
                " x\u{301}y",
                " \u{301}",
                "AB",
                " 中",
                "A",
                " B中"
            ]
        );
        assert_eq!(
            pieces(Vocabulary::Cl100k, text),
            [
                "Hello",
                " HTTPServer",
                "'s",
                " café",
                ",",
                " don",
                "'t",
                " '",
                "ll",
                " IT",
                "'S",
                " x",
                "\u{301}y",
                " \u{301}",
                "AB",
                " 中A",
                " B中"
            ]
        );
    }

    #[test]
    fn numbers_signs_and_white_space_have_pieces_of_their_own() {
        let text = "1234567 ++//\n\n  x = y;\r\n \t end  ";
        assert_eq!(
            pieces(Vocabulary::O200k, text),
            ["123", "456", "7", " ++//\n\n", " ", " x", " =", " y", ";\r\n", " \t", " end", "  "]
        );
        assert_eq!(pieces(Vocabulary::Cl100k, "/\n/a  \n b"), ["/\n", "/a", "  \n", " b"]);
        assert_eq!(pieces(Vocabulary::O200k, "/\n/a  \n b"), ["/\n/", "a", "  \n", " b"]);
    }

    #[test]
    fn what_is_in_no_version_of_unicode_is_split_by_nobody() {
        let unassigned = '\u{378}';
        assert_eq!(unassigned.general_category(), GeneralCategory::Unassigned);
        let split = Split::of(Vocabulary::O200k);
        assert_eq!(split.first("\u{378}a"), None);
        assert_eq!(split.first("a\u{378}"), None);
        assert_eq!(split.first("a b\u{378}"), Some(1));
    }
}
