//! Dictionaries of structured fields (RFC 8941 section 3.2), read strictly: what the grammar does not allow, and what it
//! resolves by "the last one counts", is refused.

use std::fmt::Write as _;

use base64::Engine;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD};

/// The most members of a dictionary.
const MAX_MEMBERS: usize = 16;

/// The most items of an inner list.
const MAX_ITEMS: usize = 32;

/// The most parameters of one item or list.
const MAX_PARAMETERS: usize = 16;

/// Padding may be missing (RFC 8941 section 4.2.7); other liberties are not taken.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Why a field is not a dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// Longer than its limit, or with more parts.
    #[error("too long or of too many parts")]
    TooLarge,
    /// Not of the grammar.
    #[error("not a dictionary of structured fields")]
    Syntax,
    /// A key occurs twice.
    #[error("a key occurs twice")]
    DuplicateKey,
}

impl FieldError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "field_too_large",
            Self::Syntax => "malformed_field",
            Self::DuplicateKey => "duplicate_key",
        }
    }
}

/// A value without parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Bare {
    Integer(i64),
    /// As written: nothing here computes with one.
    Decimal(String),
    String(String),
    Token(String),
    Bytes(Vec<u8>),
    Boolean(bool),
}

pub(crate) type Parameters = Vec<(String, Bare)>;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) value: Bare,
    pub(crate) parameters: Parameters,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct InnerList {
    pub(crate) items: Vec<Item>,
    pub(crate) parameters: Parameters,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Member {
    Item(Item),
    List(InnerList),
}

/// Read a dictionary. An empty text is an empty dictionary.
pub(crate) fn dictionary(text: &str) -> Result<Vec<(String, Member)>, FieldError> {
    let mut reader = Reader(text.as_bytes());
    let mut members: Vec<(String, Member)> = Vec::new();
    reader.skip(b" ");
    while reader.peek().is_some() {
        let key = reader.key()?;
        let member = if !reader.take(b'=') {
            Member::Item(Item { value: Bare::Boolean(true), parameters: reader.parameters()? })
        } else if reader.peek() == Some(b'(') {
            Member::List(reader.inner_list()?)
        } else {
            Member::Item(reader.item()?)
        };
        push(&mut members, key, member, MAX_MEMBERS)?;
        reader.skip(b" \t");
        if reader.peek().is_none() {
            break;
        }
        if !reader.take(b',') {
            return Err(FieldError::Syntax);
        }
        reader.skip(b" \t");
        // A comma has something after it.
        reader.peek().ok_or(FieldError::Syntax)?;
    }
    Ok(members)
}

fn push<T>(list: &mut Vec<(String, T)>, key: String, value: T, most: usize) -> Result<(), FieldError> {
    if list.len() >= most {
        return Err(FieldError::TooLarge);
    }
    if list.iter().any(|(known, _)| *known == key) {
        return Err(FieldError::DuplicateKey);
    }
    list.push((key, value));
    Ok(())
}

struct Reader<'t>(&'t [u8]);

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, wanted: u8) -> bool {
        self.next_if(|b| b == wanted).is_some()
    }

    fn next_if(&mut self, wanted: impl Fn(u8) -> bool) -> Option<u8> {
        if wanted(self.peek()?) { self.next() } else { None }
    }

    fn skip(&mut self, spaces: &[u8]) {
        while self.next_if(|b| spaces.contains(&b)).is_some() {}
    }

    /// The characters that follow and belong.
    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> String {
        let mut text = String::new();
        while let Some(b) = self.next_if(&belongs) {
            text.push(char::from(b));
        }
        text
    }

    fn key(&mut self) -> Result<String, FieldError> {
        if !self.peek().is_some_and(|b| b.is_ascii_lowercase() || b == b'*') {
            return Err(FieldError::Syntax);
        }
        Ok(self.run(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.*".contains(&b)))
    }

    fn inner_list(&mut self) -> Result<InnerList, FieldError> {
        if !self.take(b'(') {
            return Err(FieldError::Syntax);
        }
        let mut items = Vec::new();
        loop {
            self.skip(b" ");
            if self.take(b')') {
                return Ok(InnerList { items, parameters: self.parameters()? });
            }
            if items.len() >= MAX_ITEMS {
                return Err(FieldError::TooLarge);
            }
            items.push(self.item()?);
            if !matches!(self.peek(), Some(b' ' | b')')) {
                return Err(FieldError::Syntax);
            }
        }
    }

    fn item(&mut self) -> Result<Item, FieldError> {
        Ok(Item { value: self.bare()?, parameters: self.parameters()? })
    }

    fn parameters(&mut self) -> Result<Parameters, FieldError> {
        let mut parameters = Vec::new();
        while self.take(b';') {
            self.skip(b" ");
            let key = self.key()?;
            let value = if self.take(b'=') { self.bare()? } else { Bare::Boolean(true) };
            push(&mut parameters, key, value, MAX_PARAMETERS)?;
        }
        Ok(parameters)
    }

    fn bare(&mut self) -> Result<Bare, FieldError> {
        match self.peek().ok_or(FieldError::Syntax)? {
            b'"' => self.string(),
            b':' => self.bytes(),
            b'?' => self.boolean(),
            b'-' | b'0'..=b'9' => self.number(),
            b if b.is_ascii_alphabetic() || b == b'*' => {
                Ok(Bare::Token(self.run(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~:/".contains(&b))))
            }
            _ => Err(FieldError::Syntax),
        }
    }

    fn string(&mut self) -> Result<Bare, FieldError> {
        self.next();
        let mut text = String::new();
        loop {
            match self.next().ok_or(FieldError::Syntax)? {
                b'"' => return Ok(Bare::String(text)),
                b'\\' => text.push(char::from(self.next_if(|b| b == b'"' || b == b'\\').ok_or(FieldError::Syntax)?)),
                b @ 0x20..=0x7e => text.push(char::from(b)),
                _ => return Err(FieldError::Syntax),
            }
        }
    }

    fn bytes(&mut self) -> Result<Bare, FieldError> {
        self.next();
        let encoded = self.run(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
        if !self.take(b':') {
            return Err(FieldError::Syntax);
        }
        BASE64.decode(encoded).map(Bare::Bytes).map_err(|_| FieldError::Syntax)
    }

    fn boolean(&mut self) -> Result<Bare, FieldError> {
        self.next();
        match self.next() {
            Some(b'0') => Ok(Bare::Boolean(false)),
            Some(b'1') => Ok(Bare::Boolean(true)),
            _ => Err(FieldError::Syntax),
        }
    }

    /// An integer of up to 15 digits, or a decimal of up to 12 and 3.
    fn number(&mut self) -> Result<Bare, FieldError> {
        let sign = if self.take(b'-') { "-" } else { "" };
        let whole = self.run(|b| b.is_ascii_digit());
        if whole.is_empty() {
            return Err(FieldError::Syntax);
        }
        if self.take(b'.') {
            let fraction = self.run(|b| b.is_ascii_digit());
            if whole.len() > 12 || fraction.is_empty() || fraction.len() > 3 {
                return Err(FieldError::Syntax);
            }
            return Ok(Bare::Decimal(format!("{sign}{whole}.{fraction}")));
        }
        if whole.len() > 15 {
            return Err(FieldError::Syntax);
        }
        format!("{sign}{whole}").parse().map(Bare::Integer).map_err(|_| FieldError::Syntax)
    }
}

impl InnerList {
    /// In its one canonical form (RFC 8941 section 4.1.1.1), which a signature covers (RFC 9421 section 2.3).
    pub(crate) fn canonical(&self) -> String {
        let mut out = String::from("(");
        for (at, item) in self.items.iter().enumerate() {
            out.push_str(if at == 0 { "" } else { " " });
            item.value.write(&mut out);
            write_parameters(&item.parameters, &mut out);
        }
        out.push(')');
        write_parameters(&self.parameters, &mut out);
        out
    }
}

fn write_parameters(parameters: &Parameters, out: &mut String) {
    for (key, value) in parameters {
        out.push(';');
        out.push_str(key);
        if *value != Bare::Boolean(true) {
            out.push('=');
            value.write(out);
        }
    }
}

impl Bare {
    fn write(&self, out: &mut String) {
        // Writing into a string does not fail.
        let _ = match self {
            Self::Integer(number) => write!(out, "{number}"),
            Self::Decimal(text) | Self::Token(text) => write!(out, "{text}"),
            Self::String(text) => write!(out, "\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"")),
            Self::Bytes(bytes) => write!(out, ":{}:", STANDARD.encode(bytes)),
            Self::Boolean(value) => write!(out, "?{}", u8::from(*value)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn list(text: &str) -> InnerList {
        match dictionary(&format!("a={text}")).unwrap().pop() {
            Some((_, Member::List(list))) => list,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_type_is_read() {
        let text = r#"a=1, b=-0.5;x, c="q\"\\", d=tok/en:*, e=:AQI=:, f=?0, g, h=("x" "y";k=2);p="v""#;
        let members = dictionary(text).unwrap();
        let item = |value| Member::Item(Item { value, parameters: Vec::new() });
        let get = |key: &str| members.iter().find(|(known, _)| known == key).unwrap().1.clone();
        assert_eq!(get("a"), item(Bare::Integer(1)));
        let with = vec![("x".into(), Bare::Boolean(true))];
        assert_eq!(get("b"), Member::Item(Item { value: Bare::Decimal("-0.5".into()), parameters: with }));
        assert_eq!(get("c"), item(Bare::String("q\"\\".into())));
        assert_eq!(get("d"), item(Bare::Token("tok/en:*".into())));
        assert_eq!(get("e"), item(Bare::Bytes(vec![1, 2])));
        assert_eq!(get("f"), item(Bare::Boolean(false)));
        assert_eq!(get("g"), item(Bare::Boolean(true)));
        assert!(matches!(get("h"), Member::List(list) if list.canonical() == r#"("x" "y";k=2);p="v""#));
        assert_eq!(dictionary(""), Ok(Vec::new()));
        assert_eq!(dictionary("  "), Ok(Vec::new()));
    }

    #[test]
    fn the_canonical_form_forgets_liberties_of_spacing() {
        assert_eq!(list(r#"(  "a"   "b" );  x=?1;y=007"#).canonical(), r#"("a" "b");x;y=7"#);
        assert_eq!(list("()").canonical(), "()");
        assert_eq!(list(r#"("a\\b\"");z=:AQ:"#).canonical(), r#"("a\\b\"");z=:AQ==:"#);
    }

    #[test]
    fn what_the_grammar_does_not_allow_is_refused() {
        for wrong in [
            ",",
            "a=",
            "a=1,",
            "a=1,,b=2",
            "a=1 b=2",
            "A=1",
            "1=1",
            "a =1",
            "a= 1",
            "a=(",
            "a=(\"x\"",
            "a=(\"x\"\"y\")",
            "a=(\"x\",\"y\")",
            "a=(\"x\"\t\"y\")",
            "a=\"x",
            "a=\"\\x\"",
            "a=\"\u{e9}\"",
            "a=\"\n\"",
            "a=:A:",
            "a=:AQ",
            "a=:A Q:",
            "a=:AR==:",
            "a=:A-_A:",
            "a=?2",
            "a=?",
            "a=-",
            "a=1.",
            "a=.5",
            "a=1.2345",
            "a=1234567890123456",
            "a=1234567890123.1",
            "a=--1",
            "a=1;",
            "a=1;B",
            "a=1;b=",
            "\ta=1",
            "a=((\"x\"))",
            "a=(\"x\")x",
            "a=@x",
            "a=1;\tb",
        ] {
            assert_eq!(dictionary(wrong), Err(FieldError::Syntax), "{wrong:?}");
        }
        for twice in ["a=1, a=2", "a=1;b;b", "a=(\"x\";b=1;b=1)"] {
            assert_eq!(dictionary(twice), Err(FieldError::DuplicateKey), "{twice}");
        }
        let many = |n: usize, of: &dyn Fn(usize) -> String| (0..n).map(of).collect::<Vec<_>>();
        for large in [
            many(MAX_MEMBERS + 1, &|n| format!("a{n}=1")).join(", "),
            format!("a=({})", many(MAX_ITEMS + 1, &|_| "1".into()).join(" ")),
            format!("a=1{}", many(MAX_PARAMETERS + 1, &|n| format!(";p{n}")).concat()),
        ] {
            assert_eq!(dictionary(&large), Err(FieldError::TooLarge), "{large}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,120}") {
            let _ = dictionary(&text);
        }

        #[test]
        fn the_canonical_form_reads_back_as_itself(text in r#"\(( ?("[a-z@\-\\]{0,5}"|[0-9]{1,3}|t[a-z]{0,3}|:AQID:|\?[01]) ){0,3}\)(;[a-z]{1,2}(=("x"|1|-2\.5|:AQ==:))?){0,3}"#) {
            let text = format!("a={text}");
            if let Ok(members) = dictionary(&text) {
                let [(_, Member::List(first))] = members.as_slice() else { panic!("{text}") };
                prop_assert_eq!(&list(&first.canonical()), first);
            }
        }
    }
}
