//! Entries are written once, straight into their bytes: one JSON object, on one line, whatever anybody called themselves.

use base::Timestamp;
use serde_json::Value;

/// The longest text of others that is kept as it is, in bytes; what is longer is cut and ends with an ellipsis.
const MAX_TEXT: usize = 512;

/// An object that is being written.
#[derive(Debug)]
pub struct Object {
    bytes: Vec<u8>,
    first: bool,
}

impl Object {
    /// An object with nothing in it yet.
    pub fn new() -> Self {
        let mut bytes = Vec::with_capacity(768);
        bytes.push(b'{');
        Self { bytes, first: true }
    }

    /// Names stand in this program: there is nothing to escape in them.
    fn name(&mut self, name: &'static str) {
        let before: &[u8] = if std::mem::take(&mut self.first) { b"\"" } else { b",\"" };
        self.bytes.extend_from_slice(before);
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.extend_from_slice(b"\":");
    }

    /// A text; a long one is cut.
    pub fn text(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.name(name);
        if value.len() <= MAX_TEXT {
            push_text(&mut self.bytes, value);
        } else {
            let cut = value.get(..value.floor_char_boundary(MAX_TEXT)).unwrap_or_default();
            push_text(&mut self.bytes, &format!("{cut}\u{2026}"));
        }
        self
    }

    /// A text, if there is one.
    pub fn maybe(&mut self, name: &'static str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.text(name, value),
            None => self,
        }
    }

    /// A whole number.
    pub fn number(&mut self, name: &'static str, value: impl Into<i128>) -> &mut Self {
        self.name(name);
        push_number(&mut self.bytes, value.into());
        self
    }

    /// A whole number, if there is one.
    pub fn maybe_number(&mut self, name: &'static str, value: Option<u64>) -> &mut Self {
        match value {
            Some(value) => self.number(name, value),
            None => self,
        }
    }

    /// Yes; nothing is said where it is no.
    pub fn flag(&mut self, name: &'static str, value: bool) -> &mut Self {
        if value {
            self.raw(name, b"true");
        }
        self
    }

    /// A moment.
    pub fn time(&mut self, name: &'static str, at: Timestamp) -> &mut Self {
        self.name(name);
        self.bytes.push(b'"');
        push_time(&mut self.bytes, at);
        self.bytes.push(b'"');
        self
    }

    /// JSON that this module has written.
    pub(crate) fn raw(&mut self, name: &'static str, json: &[u8]) -> &mut Self {
        self.name(name);
        self.bytes.extend_from_slice(json);
        self
    }

    /// Members that [`Object::into_members`] has given.
    pub(crate) fn members(&mut self, members: &[u8]) -> &mut Self {
        if !members.is_empty() {
            if !std::mem::take(&mut self.first) {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(members);
        }
        self
    }

    /// Any JSON value, under a name that somebody else may have chosen.
    pub fn value(&mut self, name: &str, value: &Value) -> &mut Self {
        if !std::mem::take(&mut self.first) {
            self.bytes.push(b',');
        }
        push_text(&mut self.bytes, name);
        self.bytes.push(b':');
        push_value(&mut self.bytes, value);
        self
    }

    /// A list of lines: each a number, what is counted, and more numbers.
    pub(crate) fn lines<'a, const N: usize>(
        &mut self,
        name: &'static str,
        lines: impl Iterator<Item = (i64, &'a str, [i64; N])>,
    ) -> &mut Self {
        self.name(name);
        self.bytes.push(b'[');
        for (place, (first, text, numbers)) in lines.enumerate() {
            self.bytes.extend_from_slice(if place == 0 { b"[" } else { b",[" });
            push_number(&mut self.bytes, first.into());
            self.bytes.push(b',');
            push_text(&mut self.bytes, text);
            for number in numbers {
                self.bytes.push(b',');
                push_number(&mut self.bytes, number.into());
            }
            self.bytes.push(b']');
        }
        self.bytes.push(b']');
        self
    }

    /// What is in it, to be put into others.
    pub(crate) fn into_members(mut self) -> Vec<u8> {
        self.bytes.drain(..1);
        self.bytes
    }

    /// The object, whole.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(b'}');
        self.bytes
    }
}

impl Default for Object {
    fn default() -> Self {
        Self::new()
    }
}

/// Write a JSON value.
pub(crate) fn push_value(out: &mut Vec<u8>, value: &Value) {
    let mut between = false;
    let mut comma = |out: &mut Vec<u8>| {
        if std::mem::replace(&mut between, true) {
            out.push(b',');
        }
    };
    match value {
        Value::String(text) => push_text(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                comma(out);
                push_value(out, item);
            }
            out.push(b']');
        }
        Value::Object(members) => {
            out.push(b'{');
            for (name, member) in members {
                comma(out);
                push_text(out, name);
                out.push(b':');
                push_value(out, member);
            }
            out.push(b'}');
        }
        plain => out.extend_from_slice(plain.to_string().as_bytes()),
    }
}

/// Write a JSON string in which nothing is left that a terminal, an editor or another reader of lines would act on: control
/// characters of both sets, line and paragraph separators, and what turns the direction of text are escaped.
pub(crate) fn push_text(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    if is_plain(text.as_bytes()) {
        out.extend_from_slice(text.as_bytes());
    } else {
        for character in text.chars() {
            push_char(out, character);
        }
    }
    out.push(b'"');
}

/// Whether all of it is printable ASCII without quotes and backslashes: eight bytes at a time, as there are hundreds in each
/// request.
fn is_plain(text: &[u8]) -> bool {
    const EACH: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x80 * EACH;
    // The high bit of each byte below `bound`, where no byte has its own.
    let below = |word: u64, bound: u64| (word | HIGH).wrapping_sub(bound * EACH) & HIGH ^ HIGH;
    let odd = |word: &[u8; 8]| {
        let word = u64::from_ne_bytes(*word);
        let (quotes, slashes) = (word ^ (u64::from(b'"') * EACH), word ^ (u64::from(b'\\') * EACH));
        let controls = below(word, u64::from(b' ')) | word.wrapping_add(EACH);
        (word | controls | below(quotes, 1) | below(slashes, 1)) & HIGH
    };
    let (words, rest) = text.as_chunks::<8>();
    // What is left over, filled up with what is plain.
    let mut last = [b' '; 8];
    last.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
    words.iter().fold(odd(&last), |found, word| found | odd(word)) == 0
}

fn push_char(out: &mut Vec<u8>, character: char) {
    const HEX: [u8; 16] = *b"0123456789abcdef";
    match character {
        '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
        '\n' => out.extend_from_slice(b"\\n"),
        '\0'..='\u{1f}'
        | '\u{7f}'..='\u{9f}'
        | '\u{ad}'
        | '\u{61c}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => {
            out.extend_from_slice(b"\\u");
            let code = u32::from(character);
            let digit = |shift: u32| HEX.get((code >> shift & 15) as usize).copied().unwrap_or(b'0');
            out.extend([12, 8, 4, 0].map(digit));
        }
        other => out.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
}

fn push_number(out: &mut Vec<u8>, number: i128) {
    let mut digits = [0u8; 40];
    let mut rest = number.unsigned_abs();
    let mut used = 0;
    let mut slots = digits.iter_mut().rev();
    // Dividing what fits into 64 bits is much cheaper, and nearly all does.
    while rest > u128::from(u64::MAX) {
        let Some(slot) = slots.next() else { break };
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
    }
    let mut rest = u64::try_from(rest).unwrap_or(0);
    for slot in slots {
        *slot = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        used += 1;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(digits.get(40 - used..).unwrap_or_default());
}

/// RFC 3339 in UTC with milliseconds, as `Timestamp::rfc3339` has it, without its allocations: there are two in each request.
fn push_time(out: &mut Vec<u8>, at: Timestamp) {
    let (days, millis) = (at.as_millis().div_euclid(86_400_000), at.as_millis().rem_euclid(86_400_000));
    // Civil from days: years begin in March, so that the day that is sometimes there comes last.
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day = shifted.rem_euclid(146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    if !(0..=9999).contains(&year) {
        out.extend_from_slice(at.rfc3339().as_bytes());
        return;
    }
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let mut part = |place: std::ops::Range<usize>, value: i64| {
        let mut rest = u32::try_from(value).unwrap_or(0);
        for digit in text.get_mut(place).unwrap_or_default().iter_mut().rev() {
            *digit += u8::try_from(rest % 10).unwrap_or(0);
            rest /= 10;
        }
    };
    part(0..4, year);
    part(5..7, month);
    part(8..10, date);
    part(11..13, millis / 3_600_000);
    part(14..16, millis / 60_000 % 60);
    part(17..19, millis / 1000 % 60);
    part(20..23, millis % 1000);
    out.extend_from_slice(&text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_object_says_what_it_was_told_and_nothing_of_what_it_was_not() {
        let mut object = Object::new();
        object.text("a", "x").maybe("b", None).maybe("c", Some("y")).number("d", -7).maybe_number("e", None);
        object.flag("f", false).flag("g", true).value("h", &serde_json::json!({"i": [1, null, "z"]}));
        let bytes = object.finish();
        assert_eq!(bytes, br#"{"a":"x","c":"y","d":-7,"g":true,"h":{"i":[1,null,"z"]}}"#);
    }

    #[test]
    fn members_that_were_kept_are_put_in_as_they_were() {
        let mut kept = Object::new();
        kept.text("b", "x").number("c", 1);
        let kept = kept.into_members();
        let mut object = Object::new();
        object.number("a", 0).members(&kept).members(&Object::new().into_members()).flag("d", true);
        assert_eq!(object.finish(), br#"{"a":0,"b":"x","c":1,"d":true}"#);
    }

    #[test]
    fn lines_are_lists_of_what_each_holds() {
        let mut object = Object::new();
        object.lines("none", std::iter::empty::<(i64, &str, [i64; 1])>());
        object.lines("some", [(7, "usd", [1, -2]), (8, "tokens", [3, 4])].into_iter());
        assert_eq!(object.finish(), br#"{"none":[],"some":[[7,"usd",1,-2],[8,"tokens",3,4]]}"#);
    }

    #[test]
    fn nothing_anybody_calls_themselves_leaves_its_line_or_its_string() {
        let hostile = "a\r\n{\"v\":1}\u{1b}[2J\u{9b}2J\"\\\u{2028}\u{202e}evil\u{feff}\u{0}\u{7f}";
        let mut object = Object::new();
        object.text("a", hostile).value(hostile, &Value::from(hostile));
        let bytes = object.finish();
        let text = std::str::from_utf8(&bytes).unwrap();
        assert!(!text.contains(|c: char| c.is_control() || ('\u{200b}'..='\u{206f}').contains(&c)), "{text}");
        let read: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read, serde_json::json!({ "a": hostile, hostile: hostile }));
    }

    #[test]
    fn a_long_text_is_cut_at_a_character() {
        let mut object = Object::new();
        object.text("a", &"\u{1f600}".repeat(1000));
        let bytes = object.finish();
        assert!(bytes.len() < 600);
        let read: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(read["a"].as_str().unwrap().ends_with('\u{2026}'));
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(text in any::<String>()) {
            let mut out = Vec::new();
            push_text(&mut out, &text);
            prop_assert!(out.iter().all(|byte| *byte >= b' ' && *byte != 0x7f));
            prop_assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }

        #[test]
        fn eight_bytes_at_a_time_are_judged_as_one_is(text in any::<Vec<u8>>(), plain in "[ -~]{0,40}", other in any::<u8>()) {
            let one = |byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\\');
            let mut among = plain.into_bytes();
            among.insert(among.len() / 2, other);
            for text in [text, among] {
                prop_assert_eq!(is_plain(&text), text.iter().all(one), "{:?}", text);
            }
        }

        #[test]
        fn a_moment_is_written_as_everywhere_else(millis in -62_135_596_800_000i64..253_402_300_799_999) {
            let mut out = Vec::new();
            push_time(&mut out, Timestamp::from_millis(millis));
            prop_assert_eq!(String::from_utf8(out).unwrap(), Timestamp::from_millis(millis).rfc3339());
        }

        #[test]
        fn a_number_is_written_in_decimal(number in any::<i128>()) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            prop_assert_eq!(String::from_utf8(out).unwrap(), number.to_string());
        }
    }
}
