//! The ways a text is written within others: as it is, escaped as URLs, JSON, JavaScript and HTML do, also twice over, and in
//! Base64 wherever it begins there.

use base::Secret;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// How often something may be escaped over again.
const DEPTHS: usize = 3;

/// Texts in all their spellings.
#[derive(Default)]
pub(super) struct Spellings {
    /// Sorted by the character.
    characters: Vec<(char, Vec<Vec<u8>>)>,
    texts: Vec<Secret<String>>,
    /// Bytes that one of the texts may begin with.
    first: Vec<u8>,
}

/// What a search found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// None of the texts.
    Nothing,
    /// What may be the beginning of one: where it begins, and how many characters there are of it.
    Begun(usize, usize),
    /// A whole one.
    Whole,
}

impl Spellings {
    /// Of a text.
    pub(super) fn add(&mut self, text: &str) {
        let coded = (0..3).flat_map(|before| {
            let standard = base64_within(before, text.as_bytes(), &STANDARD_NO_PAD);
            [standard, base64_within(before, text.as_bytes(), &URL_SAFE_NO_PAD)]
        });
        for text in std::iter::once(text.to_owned()).chain(coded) {
            if text.is_empty() || self.texts.iter().any(|known| *known.expose() == text) {
                continue;
            }
            for character in text.chars() {
                if let Err(place) = self.characters.binary_search_by_key(&character, |(known, _)| *known) {
                    self.characters.insert(place, (character, written(character)));
                }
            }
            let begins = text.chars().next().and_then(|character| self.spellings(character)).unwrap_or_default();
            let bytes: Vec<u8> = begins.iter().filter_map(|spelling| spelling.first().copied()).collect();
            self.first.extend(bytes);
            self.texts.push(Secret::new(text));
        }
        self.first.sort_unstable();
        self.first.dedup();
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Look for the texts.
    pub(super) fn search(&self, within: &[u8]) -> Found {
        let mut begun: Option<(usize, usize)> = None;
        for (place, byte) in within.iter().enumerate() {
            if self.first.binary_search(byte).is_err() {
                continue;
            }
            let rest = within.get(place..).unwrap_or_default();
            for text in &self.texts {
                match self.begins(rest, text.expose()) {
                    Found::Nothing => {}
                    Found::Begun(_, length) => {
                        let (first, longest) = begun.unwrap_or((place, 0));
                        begun = Some((first, longest.max(length)));
                    }
                    Found::Whole => return Found::Whole,
                }
            }
        }
        begun.map_or(Found::Nothing, |(place, length)| Found::Begun(place, length))
    }

    /// Whether this begins with that text. A character that stands for itself and for an escape is taken for either.
    fn begins(&self, within: &[u8], text: &str) -> Found {
        let (mut places, mut next) = (vec![0], Vec::new());
        let mut begun = None;
        for (length, character) in text.chars().enumerate() {
            let spellings = self.spellings(character).unwrap_or_default();
            for place in &places {
                let rest = within.get(*place..).unwrap_or_default();
                for spelling in spellings {
                    let same = |count: usize| match (rest.get(..count), spelling.get(..count)) {
                        (Some(here), Some(there)) => here.eq_ignore_ascii_case(there) && (count > 1 || here == there),
                        _ => false,
                    };
                    if same(spelling.len()) {
                        next.push(place + spelling.len());
                    } else if rest.len() < spelling.len() && same(rest.len()) {
                        begun = Some(length);
                    }
                }
            }
            next.sort_unstable();
            next.dedup();
            std::mem::swap(&mut places, &mut next);
            next.clear();
            if places.is_empty() {
                return begun.map_or(Found::Nothing, |length| Found::Begun(0, length));
            }
        }
        Found::Whole
    }

    fn spellings(&self, character: char) -> Option<&[Vec<u8>]> {
        let place = self.characters.binary_search_by_key(&character, |(known, _)| *known).ok()?;
        self.characters.get(place).map(|(_, spellings)| spellings.as_slice())
    }
}

/// What of a text in Base64 stays the same whatever stands before it, where that is `before` bytes over a multiple of three, and
/// behind it.
fn base64_within(before: usize, text: &[u8], alphabet: &impl Engine) -> String {
    let padded: Vec<u8> = std::iter::repeat_n(0, before).chain(text.iter().copied()).collect();
    let coded = alphabet.encode(&padded);
    let (begin, end) = ((before * 8).div_ceil(6), padded.len() * 8 / 6);
    coded.get(begin..end).unwrap_or_default().to_owned()
}

/// The ways one character is written. Those of more than one byte count in either case, which no two of them differ by.
fn written(character: char) -> Vec<Vec<u8>> {
    let (mut utf8, mut utf16) = ([0; 4], [0; 2]);
    let utf8 = character.encode_utf8(&mut utf8).as_bytes();
    let utf16 = character.encode_utf16(&mut utf16);
    let code = u32::from(character);
    let plain = character.is_ascii_alphanumeric();
    let mut all = vec![utf8.to_vec()];
    // What never needs escaping is escaped by few, and by nobody twice.
    for depth in 0..if plain { 1 } else { DEPTHS } {
        let again = "25".repeat(depth);
        all.push(utf8.iter().flat_map(|byte| format!("%{again}{byte:02x}").into_bytes()).collect());
        let slashes = "\\".repeat(depth + 1);
        all.push(utf16.iter().flat_map(|unit| format!("{slashes}u{unit:04x}").into_bytes()).collect());
        if code < 0x100 {
            all.push(format!("{slashes}x{code:02x}").into_bytes());
        }
        if character.is_ascii_punctuation() {
            all.push(format!("{slashes}{character}").into_bytes());
        }
        let again = "amp;".repeat(depth);
        let name = match character {
            '&' => "amp",
            '<' => "lt",
            '>' => "gt",
            '"' => "quot",
            '\'' => "apos",
            '/' => "sol",
            '+' => "plus",
            '=' => "equals",
            _ => "",
        };
        if !name.is_empty() {
            all.push(format!("&{again}{name};").into_bytes());
        }
        for zeros in ["", "0", "00"] {
            all.push(format!("&{again}#{zeros}{code};").into_bytes());
            all.push(format!("&{again}#x{zeros}{code:x};").into_bytes());
        }
    }
    if character == ' ' {
        all.push(b"+".to_vec());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Spellings {
        let mut spellings = Spellings::default();
        spellings.add(text);
        spellings
    }

    #[test]
    fn a_text_is_found_in_each_way_it_is_escaped() {
        let spellings = of("a/b&c\"d+e=é\\f %g");
        for spelled in [
            "a/b&c\"d+e=é\\f %g",
            r#"a\/b\u0026c\"d+e=\u00e9\\f %g"#,
            r#"a\/b\u0026c\"d\u002Be\u003D\u00E9\\f %g"#,
            r#"a\\/b\\u0026c\\\"d+e=é\\\\f %g"#,
            "a%2fb%26c%22d%2be%3d%c3%a9%5cf%20%25g",
            "a%2Fb%26c%22d%2Be%3D%C3%A9%5Cf+%25g",
            "a%252Fb%2526c%2522d%252Be%253D%25C3%25A9%255Cf%2520%2525g",
            "a/b&amp;c&quot;d+e=é\\f %g",
            "a&#x2F;b&#38;c&#34;d&#43;e&#61;&#233;&#92;f &#37;g",
            "a&#x2f;b&amp;amp;c&#034;d&plus;e=&#xE9;\\f %g",
            r"\x61\x2fb&c\u0022d+e=é\\f\x20%g",
        ] {
            assert_eq!(spellings.search(format!("x: {spelled}.").as_bytes()), Found::Whole, "{spelled}");
            for (end, _) in spelled.char_indices().skip(1) {
                let cut = format!("x: {}", &spelled[..end]);
                assert!(matches!(spellings.search(cut.as_bytes()), Found::Begun(3, _)), "{cut}");
            }
        }
        for other in ["A/b&c\"d+e=é\\f %g", "a/b&c\"d+e=é\\f %", "a%2fb%27c", "a/b&ampc\"d+e=é\\f %g"] {
            assert!(!matches!(spellings.search(other.as_bytes()), Found::Whole), "{other}");
        }
    }

    #[test]
    fn a_text_is_found_in_base64_wherever_it_begins_there() {
        let text = "s3cret/value+x\u{3ff}?>";
        let spellings = of(text);
        for before in 0..7 {
            for after in 0..4 {
                let whole = [&b"Basic: "[..before], text.as_bytes(), &b"\x00\xffz"[..after.min(3)]].concat();
                for coded in [STANDARD_NO_PAD.encode(&whole), URL_SAFE_NO_PAD.encode(&whole)] {
                    assert_eq!(spellings.search(coded.as_bytes()), Found::Whole, "{before} {after} {coded}");
                    let escaped = coded.replace('/', "\\/").replace('+', "%2B");
                    assert_eq!(spellings.search(escaped.as_bytes()), Found::Whole, "{escaped}");
                }
            }
        }
        assert_ne!(spellings.search(STANDARD_NO_PAD.encode("s3cret/value+y").as_bytes()), Found::Whole);
    }

    #[test]
    fn a_text_that_may_be_read_in_many_ways_is_read_in_bounded_time() {
        let text = "\\%".repeat(200);
        let spellings = of(&text);
        assert_eq!(spellings.search(text.replace('\\', "\\\\").replace('%', "%25").as_bytes()), Found::Whole);
        let slashes = "\\".repeat(2_000);
        assert!(!matches!(spellings.search(slashes.as_bytes()), Found::Whole));
    }
}
