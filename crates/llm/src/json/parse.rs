//! The one parser: walks a document once, checks it, and builds only what is asked for.

use std::borrow::Cow;
use std::collections::HashSet;

use super::tree::{Kind, Node};
use super::{JsonError, Limits};

/// Most members of the outermost object: a request has a few dozen.
const MEMBERS: usize = 4096;
/// How many numbers are kept of a list of them.
const KEPT: usize = 8;
/// Longest member name repeated back in an error.
const SHOWN: usize = 64;

/// One member of the outermost object.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    /// The name, decoded.
    pub(crate) name: Cow<'a, str>,
    /// The value's own text.
    pub(crate) raw: &'a str,
    /// Where that text starts in the body.
    pub(crate) at: usize,
}

/// The members of the object that is the whole of `body`; everything inside is checked, nothing is built.
pub(crate) fn members<'a>(body: &'a [u8], limits: &Limits) -> Result<Vec<Member<'a>>, JsonError> {
    let mut found = Vec::with_capacity(16);
    whole_object(body, limits, |parser, name, depth| {
        let at = parser.at;
        parser.skip(depth)?;
        if found.len() >= MEMBERS {
            return Err(JsonError::Nodes(MEMBERS));
        }
        found.push(Member { name, raw: parser.slice(at), at });
        Ok(())
    })?;
    Ok(found)
}

/// Read the object that is the whole of `body`, member by member. Gives its text.
fn whole_object<'a>(
    body: &'a [u8],
    limits: &Limits,
    member: impl FnMut(&mut Parser<'a>, Cow<'a, str>, usize) -> Result<(), JsonError>,
) -> Result<&'a str, JsonError> {
    let text = std::str::from_utf8(body).map_err(|error| JsonError::Utf8(error.valid_up_to()))?;
    let mut parser = Parser { is_brief: true, ..Parser::new(text, limits) };
    parser.space();
    if parser.peek() != Some(b'{') {
        return Err(if text.trim().is_empty() { JsonError::Syntax(0) } else { parser.not_an_object() });
    }
    let from = parser.at;
    parser.object(0, member)?;
    let object = parser.slice(from);
    parser.end()?;
    Ok(object)
}

/// Of the object that is the whole of `body` the members that are `wanted`, read; everything else is checked and not built.
pub(crate) fn picked<'a>(
    body: &'a [u8],
    limits: &Limits,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<(Cow<'a, str>, Node<'a>)>, JsonError> {
    let mut found = Vec::new();
    whole_object(body, limits, |parser, name, depth| {
        if !wanted(&name) {
            return parser.skip(depth);
        }
        if found.len() >= MEMBERS {
            return Err(JsonError::Nodes(MEMBERS));
        }
        found.push((name, parser.value(depth)?));
        Ok(())
    })?;
    Ok(found)
}

/// The object that is the whole of `body`, read at once for all that is to be known of a request. Of a list of numbers (tokens, a
/// vector) only the beginning is kept: nobody asks for more, and there may be a million.
pub(crate) fn document<'a>(body: &'a [u8], limits: &Limits) -> Result<Node<'a>, JsonError> {
    let mut found = Vec::with_capacity(8);
    let raw = whole_object(body, limits, |parser, name, depth| {
        if found.len() >= MEMBERS {
            return Err(JsonError::Nodes(MEMBERS));
        }
        found.push((name, parser.value(depth)?));
        Ok(())
    })?;
    Ok(Node { raw, kind: Kind::Object(found) })
}

/// The elements of the array that is the whole of `text`, each as written; everything inside is checked, nothing is built.
pub(crate) fn elements<'a>(text: &'a str, limits: &Limits) -> Result<Vec<&'a str>, JsonError> {
    let mut parser = Parser::new(text, limits);
    parser.space();
    if parser.peek() != Some(b'[') {
        return parser.wrong();
    }
    let mut found = Vec::new();
    parser.array(0, |parser, depth| {
        let at = parser.at;
        parser.skip(depth)?;
        found.push(parser.slice(at));
        Ok(())
    })?;
    parser.end()?;
    Ok(found)
}

/// `text` as a tree.
pub(crate) fn tree<'a>(text: &'a str, limits: &Limits) -> Result<Node<'a>, JsonError> {
    let mut parser = Parser::new(text, limits);
    parser.space();
    let node = parser.value(0)?;
    parser.end()?;
    Ok(node)
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    nodes: usize,
    limits: Limits,
    /// The names that the objects around the current place have used, outermost first.
    names: Vec<Cow<'a, str>>,
    /// Whether only the beginning of a list of numbers is kept.
    is_brief: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, limits: &Limits) -> Self {
        let names = if limits.unique_members { Vec::with_capacity(16) } else { Vec::new() };
        Self { text, at: 0, nodes: 0, limits: *limits, names, is_brief: false }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    fn slice(&self, from: usize) -> &'a str {
        self.text.get(from..self.at).unwrap_or_default()
    }

    fn wrong<T>(&self) -> Result<T, JsonError> {
        Err(JsonError::Syntax(self.at))
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), JsonError> {
        self.space();
        if self.at == self.text.len() { Ok(()) } else { self.wrong() }
    }

    fn not_an_object(mut self) -> JsonError {
        match self.skip(0).and_then(|()| self.end()) {
            Ok(()) => JsonError::NotObject,
            Err(error) => error,
        }
    }

    fn count(&mut self) -> Result<(), JsonError> {
        self.nodes += 1;
        if self.nodes > self.limits.nodes { Err(JsonError::Nodes(self.limits.nodes)) } else { Ok(()) }
    }

    fn enter(&self, depth: usize) -> Result<usize, JsonError> {
        if depth >= self.limits.depth { Err(JsonError::Depth(self.limits.depth)) } else { Ok(depth + 1) }
    }

    /// Check one value and build nothing.
    fn skip(&mut self, depth: usize) -> Result<(), JsonError> {
        match self.peek() {
            Some(b'{') if !self.limits.unique_members => self.unnamed(depth),
            Some(b'{') => self.object(depth, |parser, _, inner| parser.skip(inner)),
            Some(b'[') => self.array(depth, Self::skip),
            first => {
                self.count()?;
                match first {
                    Some(b'"') => self.string().map(drop),
                    Some(b't') => self.word(b"true"),
                    Some(b'f') => self.word(b"false"),
                    Some(b'n') => self.word(b"null"),
                    _ => self.number(),
                }
            }
        }
    }

    /// Check one value and build it.
    fn value(&mut self, depth: usize) -> Result<Node<'a>, JsonError> {
        let from = self.at;
        let kind = match self.peek() {
            Some(b'{') => {
                let mut members = Vec::new();
                self.object(depth, |parser, name, inner| {
                    let value = parser.value(inner)?;
                    members.push((name, value));
                    Ok(())
                })?;
                Kind::Object(members)
            }
            Some(b'[') => {
                let mut items = Vec::new();
                self.array(depth, |parser, inner| {
                    let value = parser.value(inner)?;
                    if !parser.is_brief || items.len() < KEPT || !matches!(value.kind, Kind::Number) {
                        items.push(value);
                    }
                    Ok(())
                })?;
                Kind::Array(items)
            }
            _ => {
                self.count()?;
                self.scalar()?
            }
        };
        Ok(Node { raw: self.slice(from), kind })
    }

    fn scalar(&mut self) -> Result<Kind<'a>, JsonError> {
        match self.peek() {
            Some(b'"') => self.string().map(|escaped| Kind::String { escaped }),
            Some(b't') => self.word(b"true").map(|()| Kind::Bool(true)),
            Some(b'f') => self.word(b"false").map(|()| Kind::Bool(false)),
            Some(b'n') => self.word(b"null").map(|()| Kind::Null),
            _ => self.number().map(|()| Kind::Number),
        }
    }

    /// Check an object whose names do not matter, and build none of them.
    fn unnamed(&mut self, depth: usize) -> Result<(), JsonError> {
        self.count()?;
        let inner = self.enter(depth)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let from = self.at;
            if self.peek() != Some(b'"') {
                return self.wrong();
            }
            if self.string()? && decode(self.slice(from), true).is_none() {
                return Err(JsonError::Syntax(from));
            }
            self.space();
            if self.peek() != Some(b':') {
                return self.wrong();
            }
            self.at += 1;
            self.space();
            self.skip(inner)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong(),
            }
            self.space();
        }
    }

    fn object(
        &mut self,
        depth: usize,
        mut member: impl FnMut(&mut Self, Cow<'a, str>, usize) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.count()?;
        let inner = self.enter(depth)?;
        let mut names = Names { from: self.names.len(), many: None };
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let from = self.at;
            if self.peek() != Some(b'"') {
                return self.wrong();
            }
            let escaped = self.string()?;
            let name = decode(self.slice(from), escaped).ok_or(JsonError::Syntax(from))?;
            if self.limits.unique_members && !names.add(&mut self.names, name.clone()) {
                return Err(JsonError::Duplicate(name.chars().take(SHOWN).collect()));
            }
            self.space();
            if self.peek() != Some(b':') {
                return self.wrong();
            }
            self.at += 1;
            self.space();
            member(self, name, inner)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    self.names.truncate(names.from);
                    return Ok(());
                }
                _ => return self.wrong(),
            }
            self.space();
        }
    }

    fn array(
        &mut self,
        depth: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<(), JsonError>,
    ) -> Result<(), JsonError> {
        self.count()?;
        let inner = self.enter(depth)?;
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            item(self, inner)?;
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return self.wrong(),
            }
            self.space();
        }
    }

    fn word(&mut self, word: &[u8]) -> Result<(), JsonError> {
        if self.rest().starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            self.wrong()
        }
    }

    fn digits(&mut self) -> usize {
        let count = self.rest().iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn number(&mut self) -> Result<(), JsonError> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let leading_zero = self.peek() == Some(b'0');
        match self.digits() {
            0 => return self.wrong(),
            1 => {}
            _ if leading_zero => return self.wrong(),
            _ => {}
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return self.wrong();
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return self.wrong();
            }
        }
        Ok(())
    }

    /// Check a string; says whether it has escapes.
    fn string(&mut self) -> Result<bool, JsonError> {
        let mut escaped = false;
        self.at += 1;
        loop {
            self.at += plain(self.rest());
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(escaped);
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return self.wrong(),
            }
        }
    }

    #[cold]
    fn escape(&mut self) -> Result<(), JsonError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                self.at += 1;
                let hex = self.rest().get(..4).is_some_and(|four| four.iter().all(u8::is_ascii_hexdigit));
                if !hex {
                    return self.wrong();
                }
                self.at += 4;
            }
            _ => return self.wrong(),
        }
        Ok(())
    }
}

/// The text of a checked string literal; `None` where an escape names half a surrogate pair.
pub(super) fn decode(literal: &str, escaped: bool) -> Option<Cow<'_, str>> {
    if escaped {
        return serde_json::from_str::<String>(literal).ok().map(Cow::Owned);
    }
    literal.get(1..literal.len().checked_sub(1)?).map(Cow::Borrowed)
}

/// How many bytes stand for themselves in a string: those before the first quote, backslash or control character.
fn plain(bytes: &[u8]) -> usize {
    const EACH: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    /// Most strings are names and short words.
    const LONG: usize = 24;
    // Marks the high bit of bytes below `than`, at most 0x80. Above the first one marked others may be, wrongly.
    // With one bit turned, the quote (0x22) is the one that follows the control characters, and these stay among themselves.
    let below = |word: u64, than: u64| word.wrapping_sub(EACH * than) & !word & HIGH;
    let mut at = 0;
    while let Some(word) = bytes.get(at..).and_then(<[u8]>::first_chunk::<8>) {
        let word = u64::from_le_bytes(*word);
        let special = below(word ^ (EACH * 0x02), 0x21) | below(word ^ (EACH * u64::from(b'\\')), 1);
        if special != 0 {
            return at + special.trailing_zeros() as usize / 8;
        }
        at += 8;
        if at == LONG {
            at += plain_blocks(bytes.get(at..).unwrap_or_default());
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)).count()
}

/// The same for a long text, in whole blocks: so many bytes at once that the compiler compares them side by side. What that takes is
/// not made ready for short ones.
#[inline(never)]
fn plain_blocks(bytes: &[u8]) -> usize {
    // Zero for those that end it, and for no other.
    let left = |b: u8| (b ^ b'"').min(b ^ b'\\').min(b & 0xe0);
    let (blocks, _) = bytes.as_chunks::<32>();
    let is_plain = |block: &&[u8; 32]| block.iter().fold(u8::MAX, |least, b| least.min(left(*b))) != 0;
    blocks.iter().take_while(is_plain).count() * 32
}

/// The names one object has used: the end of a list while they are few.
struct Names<'a> {
    /// Where in the list they begin.
    from: usize,
    many: Option<HashSet<Cow<'a, str>>>,
}

impl<'a> Names<'a> {
    /// Whether `name` is new.
    fn add(&mut self, list: &mut Vec<Cow<'a, str>>, name: Cow<'a, str>) -> bool {
        const FEW: usize = 24;
        if let Some(many) = &mut self.many {
            return many.insert(name);
        }
        let few = list.get(self.from..).unwrap_or_default();
        if few.contains(&name) {
            return false;
        }
        list.push(name);
        if list.len() - self.from > FEW {
            self.many = Some(list.drain(self.from..).collect());
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn plain_bytes_are_counted_as_one_by_one(bytes in proptest::collection::vec(
            prop_oneof![8 => any::<u8>(), 4 => b'a'..=b'z', 1 => Just(b'"'), 1 => Just(b'\\'), 1 => 0x1eu8..0x22], 0..100)) {
            let expected = bytes.iter().take_while(|b| !matches!(b, b'"' | b'\\' | 0..=0x1f)).count();
            prop_assert_eq!(plain(&bytes), expected);
        }

        #[test]
        fn what_is_only_checked_is_judged_as_what_is_read(text in r#"\{("[a\\"du80]{0,3}",?:?|[0-9.-]{0,3}|[\[\]{},: ]|null|true){0,12}\}"#) {
            let limits = Limits { depth: 4, nodes: 9, unique_members: false };
            let read = tree(&text, &limits).map(drop);
            prop_assert_eq!(members(text.as_bytes(), &limits).map(drop), read.clone());
            prop_assert_eq!(picked(text.as_bytes(), &limits, |_| false).map(drop), read.clone());
            prop_assert_eq!(picked(text.as_bytes(), &limits, |name| name == "a").map(drop), read);
        }
    }
}
