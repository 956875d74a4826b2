//! CBOR (RFC 8949), bounded and strict: one item, no trailing bytes, no member twice, no indefinite lengths.
//!
//! What authenticators and Apple's devices write is the canonical form of CTAP2 (section 8 of its specification); a
//! reader asks for shortest forms where only such a device writes. The order of members is nobody's business.

/// What a reader takes at most.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Bytes of the whole item.
    pub bytes: usize,
    /// Levels of arrays, maps and tags; a single value is level 1.
    pub depth: usize,
    /// Items, counting each element, name and value.
    pub items: usize,
    /// Whether numbers and lengths must be written as short as they can be (RFC 8949 section 4.2.1).
    pub shortest: bool,
}

/// Why bytes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// More bytes than [`Limits::bytes`].
    #[error("over the size limit")]
    TooLong,
    /// Ends within an item.
    #[error("ends within an item")]
    Truncated,
    /// Goes on after the item.
    #[error("bytes after the item")]
    Trailing,
    /// Nested deeper than [`Limits::depth`].
    #[error("nested too deep")]
    TooDeep,
    /// More items than [`Limits::items`].
    #[error("too many items")]
    TooMany,
    /// Indefinite length, a reserved head, a simple value written twice as long as it may be, text that is no UTF-8.
    #[error("not well-formed")]
    Malformed,
    /// A number or length longer than it need be.
    #[error("a number is not in its shortest form")]
    NotShortest,
    /// One name twice in a map.
    #[error("a map has one name twice")]
    Duplicate,
}

impl CborError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Truncated => "cbor_truncated",
            Self::Trailing => "trailing_bytes",
            Self::TooDeep => "cbor_too_deep",
            Self::TooMany => "cbor_too_many",
            Self::Malformed => "malformed_cbor",
            Self::NotShortest => "cbor_not_shortest",
            Self::Duplicate => "duplicate_key",
        }
    }
}

/// An item, with strings borrowed from the input.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A number of 0 and above.
    Unsigned(u64),
    /// -1 - n.
    Negative(u64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// Text.
    Text(&'a str),
    /// An array.
    Array(Vec<Value<'a>>),
    /// A map, in the order written.
    Map(Map<'a>),
    /// A tagged item.
    Tagged(u64, Box<Value<'a>>),
    /// `false`, `true`, `null`, `undefined` and unassigned simple values, by number.
    Simple(u8),
    /// A floating-point number of 2, 4 or 8 bytes, as its bits.
    Float(u64, u8),
}

/// A map without duplicate names.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Map<'a>(Vec<(Value<'a>, Value<'a>)>);

impl<'a> Value<'a> {
    /// The bytes of a byte string.
    pub fn bytes(&self) -> Option<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Some(bytes) } else { None }
    }

    /// Text.
    pub fn text(&self) -> Option<&'a str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// A whole number, where it fits.
    pub fn integer(&self) -> Option<i64> {
        match self {
            Self::Unsigned(n) => i64::try_from(*n).ok(),
            Self::Negative(n) => i64::try_from(*n).ok().map(|n| -1 - n),
            _ => None,
        }
    }

    /// The elements of an array.
    pub fn array(&self) -> Option<&[Value<'a>]> {
        if let Self::Array(elements) = self { Some(elements) } else { None }
    }

    /// A map.
    pub fn map(&self) -> Option<&Map<'a>> {
        if let Self::Map(map) = self { Some(map) } else { None }
    }
}

impl<'a> Map<'a> {
    /// The value under a text name.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        self.0.iter().find(|(key, _)| key.text() == Some(name)).map(|(_, value)| value)
    }

    /// The value under a number, as COSE labels its members (RFC 9052 section 1.5).
    pub fn label(&self, label: i64) -> Option<&Value<'a>> {
        self.0.iter().find(|(key, _)| key.integer() == Some(label)).map(|(_, value)| value)
    }

    /// How many members there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Names and values in the order written.
    pub fn iter(&self) -> impl Iterator<Item = &(Value<'a>, Value<'a>)> {
        self.0.iter()
    }
}

/// Read one item that is all of `bytes`.
pub fn read(bytes: &[u8], limits: Limits) -> Result<Value<'_>, CborError> {
    let (value, rest) = read_prefix(bytes, limits)?;
    if rest.is_empty() { Ok(value) } else { Err(CborError::Trailing) }
}

/// Read the item at the start of `bytes`, and say what follows it. All of `bytes` counts against the size limit.
pub fn read_prefix(bytes: &[u8], limits: Limits) -> Result<(Value<'_>, &[u8]), CborError> {
    if bytes.len() > limits.bytes {
        return Err(CborError::TooLong);
    }
    let mut reader = Reader { rest: bytes, items: limits.items, shortest: limits.shortest };
    let value = reader.value(limits.depth)?;
    Ok((value, reader.rest))
}

struct Reader<'a> {
    rest: &'a [u8],
    /// How many more items are taken.
    items: usize,
    shortest: bool,
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], CborError> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(CborError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<u64, CborError> {
        Ok(self.take(N)?.iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    fn string(&mut self, len: u64) -> Result<&'a [u8], CborError> {
        self.take(usize::try_from(len).map_err(|_| CborError::Truncated)?)
    }

    /// One item; `depth` levels may be used, its own included.
    fn value(&mut self, depth: usize) -> Result<Value<'a>, CborError> {
        let depth = depth.checked_sub(1).ok_or(CborError::TooDeep)?;
        self.items = self.items.checked_sub(1).ok_or(CborError::TooMany)?;
        let head = u8::try_from(self.number::<1>()?).map_err(|_| CborError::Malformed)?;
        let (major, info) = (head >> 5, head & 0x1f);
        let argument = self.argument(info)?;
        if major == 7 {
            return simple_or_float(info, argument);
        }
        if self.shortest && !is_shortest(info, argument) {
            return Err(CborError::NotShortest);
        }
        Ok(match major {
            0 => Value::Unsigned(argument),
            1 => Value::Negative(argument),
            2 => Value::Bytes(self.string(argument)?),
            3 => Value::Text(std::str::from_utf8(self.string(argument)?).map_err(|_| CborError::Malformed)?),
            4 => self.array(argument, depth)?,
            5 => self.map(argument, depth)?,
            _ => Value::Tagged(argument, Box::new(self.value(depth)?)),
        })
    }

    /// The number a head carries. Indefinite lengths (31) and reserved heads (28 to 30) are refused.
    fn argument(&mut self, info: u8) -> Result<u64, CborError> {
        match info {
            0..=23 => Ok(u64::from(info)),
            24 => self.number::<1>(),
            25 => self.number::<2>(),
            26 => self.number::<4>(),
            27 => self.number::<8>(),
            _ => Err(CborError::Malformed),
        }
    }

    /// Nothing is reserved for what a head merely announces: each element must be there.
    fn array(&mut self, len: u64, depth: usize) -> Result<Value<'a>, CborError> {
        let mut elements = Vec::new();
        for _ in 0..len {
            elements.push(self.value(depth)?);
        }
        Ok(Value::Array(elements))
    }

    fn map(&mut self, len: u64, depth: usize) -> Result<Value<'a>, CborError> {
        let mut members: Vec<(Value<'a>, Value<'a>)> = Vec::new();
        for _ in 0..len {
            let name = self.value(depth)?;
            if members.iter().any(|(known, _)| *known == name) {
                return Err(CborError::Duplicate);
            }
            let value = self.value(depth)?;
            members.push((name, value));
        }
        Ok(Value::Map(Map(members)))
    }
}

/// Whether a number could not have been written with fewer bytes.
fn is_shortest(info: u8, argument: u64) -> bool {
    match info {
        24 => argument > 23,
        25 => argument > 0xff,
        26 => argument > 0xffff,
        27 => argument > 0xffff_ffff,
        _ => true,
    }
}

/// Major type 7. A simple value below 32 in two bytes is not well-formed (RFC 8949 section 3.3).
fn simple_or_float<'a>(info: u8, argument: u64) -> Result<Value<'a>, CborError> {
    match info {
        25 => Ok(Value::Float(argument, 2)),
        26 => Ok(Value::Float(argument, 4)),
        27 => Ok(Value::Float(argument, 8)),
        24 if argument < 32 => Err(CborError::Malformed),
        _ => u8::try_from(argument).map(Value::Simple).map_err(|_| CborError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { bytes: 4096, depth: 8, items: 64, shortest: true };

    fn refused(bytes: &[u8]) -> CborError {
        read(bytes, LIMITS).unwrap_err()
    }

    #[test]
    fn examples_of_the_specification_are_read() {
        // RFC 8949 appendix A.
        assert_eq!(read(&[0x18, 0x64], LIMITS).unwrap().integer(), Some(100));
        assert_eq!(read(&[0x39, 0x03, 0xe7], LIMITS).unwrap().integer(), Some(-1000));
        assert_eq!(read(&[0x3b, 255, 255, 255, 255, 255, 255, 255, 255], LIMITS).unwrap().integer(), None);
        assert_eq!(read(b"\x44\x01\x02\x03\x04", LIMITS).unwrap().bytes(), Some(&[1, 2, 3, 4][..]));
        assert_eq!(read(b"\x64IETF", LIMITS).unwrap().text(), Some("IETF"));
        assert_eq!(read(&[0xf5], LIMITS), Ok(Value::Simple(21)));
        assert_eq!(read(&[0xf9, 0x3c, 0x00], LIMITS), Ok(Value::Float(0x3c00, 2)));
        assert_eq!(read(&[0xc1, 0x01], LIMITS), Ok(Value::Tagged(1, Box::new(Value::Unsigned(1)))));
        let value = read(b"\xa2\x61a\x01\x61b\x82\x02\x03", LIMITS).unwrap();
        let map = value.map().unwrap();
        assert_eq!(map.len(), 2);
        assert_eq!(map.get("a").and_then(Value::integer), Some(1));
        assert_eq!(map.get("b").and_then(Value::array).map(<[_]>::len), Some(2));
        let cose = read(&[0xa2, 0x01, 0x02, 0x20, 0x01], LIMITS).unwrap();
        assert_eq!(cose.map().unwrap().label(-1).and_then(Value::integer), Some(1));
    }

    #[test]
    fn what_is_not_one_well_formed_item_is_refused() {
        assert_eq!(refused(b""), CborError::Truncated);
        assert_eq!(refused(b"\x01\x02"), CborError::Trailing);
        assert_eq!(refused(b"\x43\x01"), CborError::Truncated);
        assert_eq!(refused(b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff"), CborError::Truncated);
        assert_eq!(refused(b"\x9b\x00\x00\x00\x01\x00\x00\x00\x00"), CborError::Truncated);
        assert_eq!(refused(b"\x9f\x01\xff"), CborError::Malformed);
        assert_eq!(refused(b"\x5f\x41\x01\xff"), CborError::Malformed);
        assert_eq!(refused(b"\x1c"), CborError::Malformed);
        assert_eq!(refused(b"\xf8\x14"), CborError::Malformed);
        assert_eq!(refused(b"\x61\xff"), CborError::Malformed);
        assert_eq!(refused(b"\xff"), CborError::Malformed);
    }

    #[test]
    fn one_name_twice_is_refused_however_it_is_written() {
        assert_eq!(refused(b"\xa2\x61a\x01\x61a\x02"), CborError::Duplicate);
        let lenient = Limits { shortest: false, ..LIMITS };
        assert_eq!(read(b"\xa2\x01\x01\x18\x01\x02", lenient), Err(CborError::Duplicate));
        assert!(read(b"\xa2\x61a\x01\x41a\x02", LIMITS).is_ok(), "text and bytes are different names");
    }

    #[test]
    fn numbers_longer_than_need_be_are_refused_where_asked() {
        for long in [&[0x18, 23][..], &[0x19, 0, 255], &[0x1a, 0, 0, 255, 255], &[0x58, 1, 7], &[0xb8, 0]] {
            assert_eq!(refused(long), CborError::NotShortest);
            assert!(read(long, Limits { shortest: false, ..LIMITS }).is_ok());
        }
    }

    #[test]
    fn depth_size_and_number_of_items_are_limited() {
        let nested = |levels: usize| [vec![0x81; levels - 1], vec![0x00]].concat();
        assert!(read(&nested(8), LIMITS).is_ok());
        assert_eq!(refused(&nested(9)), CborError::TooDeep);
        assert_eq!(refused(&[0xc1; 20]), CborError::TooDeep);
        let wide = |n: u8| [vec![0x98, n], vec![0; n.into()]].concat();
        assert!(read(&wide(63), LIMITS).is_ok());
        assert_eq!(refused(&wide(64)), CborError::TooMany);
        assert_eq!(refused(&[0; 4097]), CborError::TooLong);
    }

    #[test]
    fn what_follows_an_item_is_handed_back() {
        let (value, rest) = read_prefix(b"\x41x\xa0\x00", LIMITS).unwrap();
        assert_eq!((value.bytes(), rest), (Some(&b"x"[..]), &b"\xa0\x00"[..]));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), shortest: bool) {
            let limits = Limits { shortest, ..LIMITS };
            if let Ok((_, rest)) = read_prefix(&bytes, limits) {
                let item = &bytes[..bytes.len() - rest.len()];
                prop_assert!(read(item, limits).is_ok());
                for cut in 0..item.len() {
                    prop_assert!(read(&item[..cut], LIMITS).is_err());
                }
            }
        }
    }
}
