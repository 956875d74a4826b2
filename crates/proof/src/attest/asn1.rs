//! DER as a verifier must read it (ITU-T X.690, sections 8 to 11): one spelling for one value, nothing behind it.
//!
//! Lengths are definite and as short as can be, integers too; a BOOLEAN is 0x00 or 0xFF; tags below 31 have the short form.
//! Everything borrows from the input, so what is read costs no memory, and the reader goes only as deep as its caller does.

/// Why bytes are not the DER that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerError {
    /// Ends before the value does.
    #[error("the DER is truncated")]
    Truncated,
    /// Something follows the value.
    #[error("something follows the DER")]
    Trailing,
    /// Not the shortest or not a definite form, or a value with a spelling DER does not have.
    #[error("not DER")]
    NotDer,
    /// Another type than the one that stands there.
    #[error("another type than expected")]
    WrongTag,
    /// An integer that is negative or larger than the field allows.
    #[error("a number is out of range")]
    Range,
}

impl DerError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Truncated => "der_truncated",
            Self::Trailing => "der_trailing",
            Self::NotDer => "der_malformed",
            Self::WrongTag => "der_wrong_type",
            Self::Range => "der_range",
        }
    }
}

/// A tag: class and constructed bit as in the first octet (X.690 section 8.1.2), and the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag {
    /// The top three bits of the first octet.
    pub class: u8,
    /// The number.
    pub number: u32,
}

impl Tag {
    /// BOOLEAN.
    pub const BOOLEAN: Self = Self::universal(1);
    /// INTEGER.
    pub const INTEGER: Self = Self::universal(2);
    /// BIT STRING.
    pub const BIT_STRING: Self = Self::universal(3);
    /// OCTET STRING.
    pub const OCTET_STRING: Self = Self::universal(4);
    /// NULL.
    pub const NULL: Self = Self::universal(5);
    /// OBJECT IDENTIFIER.
    pub const OBJECT_IDENTIFIER: Self = Self::universal(6);
    /// ENUMERATED.
    pub const ENUMERATED: Self = Self::universal(10);
    /// SEQUENCE.
    pub const SEQUENCE: Self = Self { class: 0x20, number: 16 };
    /// SET.
    pub const SET: Self = Self { class: 0x20, number: 17 };

    const fn universal(number: u32) -> Self {
        Self { class: 0, number }
    }

    /// An explicit context tag.
    pub const fn context(number: u32) -> Self {
        Self { class: 0xa0, number }
    }
}

/// What is left to read of one value's content.
#[derive(Debug, Clone, Copy)]
pub struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Begin with these bytes.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all is read.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That all is read.
    pub fn finish(self) -> Result<(), DerError> {
        if self.0.is_empty() { Ok(()) } else { Err(DerError::Trailing) }
    }

    fn octet(&mut self) -> Result<u8, DerError> {
        let (first, rest) = self.0.split_first().ok_or(DerError::Truncated)?;
        self.0 = rest;
        Ok(*first)
    }

    /// The next value: its tag and content.
    pub fn any(&mut self) -> Result<(Tag, &'a [u8]), DerError> {
        let tag = self.tag()?;
        let length = self.length()?;
        let (content, rest) = self.0.split_at_checked(length).ok_or(DerError::Truncated)?;
        self.0 = rest;
        Ok((tag, content))
    }

    /// X.690 section 8.1.2.
    fn tag(&mut self) -> Result<Tag, DerError> {
        let first = self.octet()?;
        let (class, low) = (first & 0xe0, first & 0x1f);
        if low < 31 {
            return Ok(Tag { class, number: low.into() });
        }
        let mut number = 0u32;
        for at in 0..4 {
            let octet = self.octet()?;
            if at == 0 && octet == 0x80 {
                return Err(DerError::NotDer);
            }
            number = (number << 7) | u32::from(octet & 0x7f);
            if octet & 0x80 == 0 {
                return if number < 31 { Err(DerError::NotDer) } else { Ok(Tag { class, number }) };
            }
        }
        Err(DerError::Range)
    }

    /// X.690 sections 8.1.3 and 10.1.
    fn length(&mut self) -> Result<usize, DerError> {
        let first = self.octet()?;
        if first < 0x80 {
            return Ok(first.into());
        }
        let octets = first & 0x7f;
        if octets == 0 || first == 0xff {
            return Err(DerError::NotDer);
        }
        if octets > 4 {
            return Err(DerError::Truncated);
        }
        let mut length = 0u32;
        for at in 0..octets {
            let octet = self.octet()?;
            if at == 0 && octet == 0 {
                return Err(DerError::NotDer);
            }
            length = (length << 8) | u32::from(octet);
        }
        let length = usize::try_from(length).map_err(|_| DerError::Truncated)?;
        if length < 0x80 { Err(DerError::NotDer) } else { Ok(length) }
    }

    /// The content of the next value, which has this tag.
    pub fn read(&mut self, tag: Tag) -> Result<&'a [u8], DerError> {
        let (found, content) = self.any()?;
        if found == tag { Ok(content) } else { Err(DerError::WrongTag) }
    }

    /// A constructed value, to be read on.
    pub fn inside(&mut self, tag: Tag) -> Result<Self, DerError> {
        self.read(tag).map(Self)
    }

    /// A SEQUENCE, to be read on.
    pub fn sequence(&mut self) -> Result<Self, DerError> {
        self.inside(Tag::SEQUENCE)
    }

    /// An OCTET STRING.
    pub fn octets(&mut self) -> Result<&'a [u8], DerError> {
        self.read(Tag::OCTET_STRING)
    }

    /// An INTEGER from 0 to 2^63 - 1.
    pub fn integer(&mut self) -> Result<u64, DerError> {
        unsigned(self.read(Tag::INTEGER)?)
    }

    /// An ENUMERATED from 0 to 2^63 - 1.
    pub fn enumerated(&mut self) -> Result<u64, DerError> {
        unsigned(self.read(Tag::ENUMERATED)?)
    }

    /// A BOOLEAN: 0x00 or 0xFF (X.690 section 11.1).
    pub fn boolean(&mut self) -> Result<bool, DerError> {
        match self.read(Tag::BOOLEAN)? {
            [0x00] => Ok(false),
            [0xff] => Ok(true),
            _ => Err(DerError::NotDer),
        }
    }
}

/// The content of an INTEGER or ENUMERATED (X.690 section 8.3.2: nine equal bits at the start are one too many).
fn unsigned(content: &[u8]) -> Result<u64, DerError> {
    match content {
        [] => return Err(DerError::NotDer),
        [0, next, ..] if next & 0x80 == 0 => return Err(DerError::NotDer),
        [0xff, next, ..] if next & 0x80 != 0 => return Err(DerError::NotDer),
        [first, ..] if first & 0x80 != 0 => return Err(DerError::Range),
        _ => {}
    }
    if content.len() > 8 {
        return Err(DerError::Range);
    }
    Ok(content.iter().fold(0, |sum, octet| (sum << 8) | u64::from(*octet)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_are_read_in_their_one_spelling() {
        let mut der = Der::new(&[0x02, 1, 5, 0x0a, 1, 2, 0x01, 1, 0xff, 0x01, 1, 0, 0x04, 2, 7, 8, 0x30, 0]);
        assert_eq!(der.integer(), Ok(5));
        assert_eq!(der.enumerated(), Ok(2));
        assert_eq!(der.boolean(), Ok(true));
        assert_eq!(der.boolean(), Ok(false));
        assert_eq!(der.octets(), Ok([7, 8].as_slice()));
        assert!(der.sequence().is_ok_and(|inside| inside.is_empty()));
        assert_eq!(der.finish(), Ok(()));
        // [704] EXPLICIT, as in an authorisation list.
        assert_eq!(Der::new(&[0xbf, 0x85, 0x40, 0]).any(), Ok((Tag::context(704), [].as_slice())));
    }

    #[test]
    fn other_spellings_are_refused() {
        for (bytes, error) in [
            (&[][..], DerError::Truncated),
            (&[0x02], DerError::Truncated),
            (&[0x02, 1], DerError::Truncated),
            (&[0x02, 0x80, 1, 0, 0], DerError::NotDer),
            (&[0x02, 0x81, 1, 5], DerError::NotDer),
            (&[0x02, 0x82, 0, 1, 5], DerError::NotDer),
            (&[0x02, 0xff, 1], DerError::NotDer),
            (&[0x02, 0x85, 1, 1, 1, 1, 1], DerError::Truncated),
            (&[0x02, 0], DerError::NotDer),
            (&[0x02, 2, 0, 5], DerError::NotDer),
            (&[0x02, 2, 0xff, 0xfe], DerError::NotDer),
            (&[0x02, 1, 0x80], DerError::Range),
            (&[0x02, 9, 1, 0, 0, 0, 0, 0, 0, 0, 0], DerError::Range),
            (&[0x03, 1, 5], DerError::WrongTag),
            (&[0x1f, 0x02, 1, 5], DerError::NotDer),
            (&[0x1f, 0x80, 0x40, 1, 5], DerError::NotDer),
            (&[0x1f, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], DerError::Range),
        ] {
            assert_eq!(Der::new(bytes).integer(), Err(error), "{bytes:x?}");
        }
        for octet in [1, 0x7f, 0x80, 0xfe] {
            assert_eq!(Der::new(&[1, 1, octet]).boolean(), Err(DerError::NotDer), "{octet:x}");
        }
        assert_eq!(Der::new(&[1, 2, 0xff, 0xff]).boolean(), Err(DerError::NotDer));
        assert_eq!(Der::new(&[0]).finish(), Err(DerError::Trailing));
    }

    proptest! {
        #[test]
        fn what_is_read_is_no_longer_than_what_there_was(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut der = Der::new(&bytes);
            let mut read = 0;
            while let Ok((_, content)) = der.any() {
                read += content.len() + 2;
            }
            prop_assert!(read <= bytes.len());
        }
    }
}
