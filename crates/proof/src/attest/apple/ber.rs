//! BER (ITU-T X.690 section 8), bounded: Apple's receipts have indefinite lengths and strings in pieces.
//!
//! Only what such a message may have: tags below 31, lengths of at most four octets, a limited depth. Content is
//! borrowed; only a string in pieces is put together.

/// The deepest nesting, which covers a certificate within a message.
const MAX_DEPTH: usize = 24;

/// End of contents (X.690 section 8.1.5).
const END: u8 = 0x00;

/// Not BER, or beyond the limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// One value.
#[derive(Debug, Clone, Copy)]
pub(super) struct Element<'a> {
    /// The first octet: class, constructed bit, number.
    pub(super) tag: u8,
    /// Without the end of contents.
    pub(super) content: &'a [u8],
    /// With tag, length and end of contents.
    pub(super) whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// To read what is inside a constructed value of this tag.
    pub(super) fn inside(&self, tag: u8) -> Result<Ber<'a>, Malformed> {
        if self.tag == tag && tag & 0x20 != 0 { Ok(Ber { rest: self.content }) } else { Err(Malformed) }
    }

    /// The content of a value of this tag.
    pub(super) fn expect(&self, tag: u8) -> Result<&'a [u8], Malformed> {
        if self.tag == tag { Ok(self.content) } else { Err(Malformed) }
    }

    /// An OCTET STRING, whole or in pieces (X.690 section 8.7), the pieces whole.
    pub(super) fn octets(&self) -> Result<Vec<u8>, Malformed> {
        match self.tag {
            0x04 => Ok(self.content.to_vec()),
            0x24 => {
                let (mut pieces, mut string) = (Ber { rest: self.content }, Vec::new());
                while !pieces.is_empty() {
                    string.extend_from_slice(pieces.next()?.expect(0x04)?);
                }
                Ok(string)
            }
            _ => Err(Malformed),
        }
    }
}

/// What is left to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ber<'a> {
    rest: &'a [u8],
}

impl<'a> Ber<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// That all is read.
    pub(super) fn finish(self) -> Result<(), Malformed> {
        if self.rest.is_empty() { Ok(()) } else { Err(Malformed) }
    }

    /// The tag of the next value, if there is one.
    pub(super) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The next value.
    pub(super) fn next(&mut self) -> Result<Element<'a>, Malformed> {
        self.element(MAX_DEPTH)
    }

    /// The next value, a constructed one of this tag, to be read on.
    pub(super) fn inside(&mut self, tag: u8) -> Result<Self, Malformed> {
        self.next()?.inside(tag)
    }

    fn octet(&mut self) -> Result<u8, Malformed> {
        let (first, rest) = self.rest.split_first().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*first)
    }

    fn element(&mut self, depth: usize) -> Result<Element<'a>, Malformed> {
        let depth = depth.checked_sub(1).ok_or(Malformed)?;
        let start = self.rest;
        let tag = self.octet()?;
        if tag & 0x1f == 0x1f || tag == END {
            return Err(Malformed);
        }
        let content = match self.length()? {
            Some(length) => {
                let (content, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
                self.rest = rest;
                content
            }
            // Only a constructed value may end by a mark.
            None if tag & 0x20 != 0 => self.until_end(depth)?,
            None => return Err(Malformed),
        };
        let length = start.len() - self.rest.len();
        Ok(Element { tag, content, whole: start.get(..length).ok_or(Malformed)? })
    }

    /// The content up to the end-of-contents mark of this level. Values of definite length are stepped over, so the work
    /// is at most the length times the depth.
    fn until_end(&mut self, depth: usize) -> Result<&'a [u8], Malformed> {
        let start = self.rest;
        while self.peek().ok_or(Malformed)? != END {
            self.element(depth)?;
        }
        let content = start.get(..start.len() - self.rest.len()).ok_or(Malformed)?;
        self.octet()?;
        if self.octet()? == 0 { Ok(content) } else { Err(Malformed) }
    }

    /// X.690 section 8.1.3; `None` is the indefinite form.
    fn length(&mut self) -> Result<Option<usize>, Malformed> {
        let first = self.octet()?;
        match first {
            0..=0x7f => Ok(Some(first.into())),
            0x80 => Ok(None),
            0x81..=0x84 => {
                let mut length = 0usize;
                for _ in 0..(first & 0x7f) {
                    length = (length << 8) | usize::from(self.octet()?);
                }
                Ok(Some(length))
            }
            _ => Err(Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn indefinite_lengths_end_at_their_own_mark() {
        let bytes = [0x30, 0x80, 0x24, 0x80, 0x04, 1, b'a', 0x04, 1, b'b', 0, 0, 0x02, 1, 7, 0, 0, 0x05, 0];
        let mut ber = Ber::new(&bytes);
        let outer = ber.next().unwrap();
        assert_eq!(outer.whole.len(), 17);
        let mut inside = outer.inside(0x30).unwrap();
        assert_eq!(inside.next().unwrap().octets(), Ok(b"ab".to_vec()));
        assert_eq!(inside.next().unwrap().expect(0x02), Ok(&[7][..]));
        assert_eq!(inside.finish(), Ok(()));
        assert_eq!(ber.next().unwrap().tag, 0x05);
        assert_eq!(ber.finish(), Ok(()));
    }

    #[test]
    fn what_has_no_end_or_too_many_levels_is_refused() {
        for bad in [
            &[][..],
            &[0x30],
            &[0x30, 0x80],
            &[0x30, 0x80, 0x00],
            &[0x30, 0x80, 0x00, 0x01],
            &[0x04, 0x80, 0x00, 0x00],
            &[0x04, 5, 1],
            &[0x04, 0x85, 0, 0, 0, 0, 1, 1],
            &[0x1f, 0x81, 0x01, 0x00],
            &[0x00, 0x00],
        ] {
            assert!(Ber::new(bad).next().is_err(), "{bad:x?}");
        }
        let deep = |levels| [[0x30, 0x80].repeat(levels), [0, 0].repeat(levels)].concat();
        assert!(Ber::new(&deep(MAX_DEPTH)).next().is_ok());
        assert!(Ber::new(&deep(MAX_DEPTH + 1)).next().is_err());
        assert!(Ber::new(&[0x30, 0x80].repeat(30_000)).next().is_err());
    }

    #[test]
    fn pieces_of_a_string_are_strings() {
        assert!(Ber::new(&[0x24, 3, 0x02, 1, 7]).next().unwrap().octets().is_err());
        assert!(Ber::new(&[0x24, 4, 0x24, 2, 0x04, 0]).next().unwrap().octets().is_err());
        assert!(Ber::new(&[0x02, 1, 7]).next().unwrap().octets().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            if let Ok(element) = Ber::new(&bytes).next() {
                prop_assert!(bytes.starts_with(element.whole));
                prop_assert!(element.content.len() < element.whole.len());
            }
        }
    }
}
