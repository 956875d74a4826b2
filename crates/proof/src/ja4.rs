//! Which TLS stack a client has, by the first thing it says: the JA4 fingerprint of its `ClientHello` (RFC 8446 section 4.1.2),
//! as `FoxIO`'s public description of JA4 (TLS client) has it. Millions of devices share one: it tells programs apart, not people.

use std::fmt;

use crate::jose::sha256;

/// The most that is looked at: greetings are some 2 KiB with keys of post-quantum exchanges.
pub const MAX_LEN: usize = 16 << 10;

/// The most cipher suites, extensions, versions and algorithms there may be of each.
const MAX_ENTRIES: usize = 256;

const SERVER_NAME: u16 = 0;
const SIGNATURE_ALGORITHMS: u16 = 13;
const ALPN: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;

/// A fingerprint: `t13d1516h2_8daaf6152771_e5627efa2ab1`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ja4(String);

/// Why there is no fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ja4Error {
    /// More has to come.
    #[error("the greeting is not complete")]
    Short,
    /// It is no greeting of TLS, or too much of one.
    #[error("not a greeting of TLS")]
    Malformed,
    /// Not written as fingerprints are.
    #[error("not a JA4 fingerprint")]
    Text,
}

impl Ja4Error {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Short => "tls_greeting_short",
            Self::Malformed => "tls_greeting_malformed",
            Self::Text => "tls_fingerprint_malformed",
        }
    }
}

impl Ja4 {
    /// The fingerprint of the greeting these bytes begin with: records as they come over TCP. What follows is not looked at.
    pub fn of_records(bytes: &[u8]) -> Result<Self, Ja4Error> {
        let hello = Hello::read(&client_hello(bytes)?).ok_or(Ja4Error::Malformed)?;
        Ok(Self(hello.fingerprint()))
    }

    /// One that somebody else took, who is trusted: as it is written.
    pub fn parse(text: &str) -> Result<Self, Ja4Error> {
        let mut parts = text.split('_');
        let (first, rest) = (parts.next().unwrap_or_default(), [parts.next(), parts.next()]);
        let hex = |part: &str| part.len() == 12 && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let transport = first.starts_with(['t', 'q', 'd']);
        let plain = first.len() == 10 && first.bytes().all(|b| b.is_ascii_alphanumeric()) && transport;
        let good = plain && rest.iter().all(|part| part.is_some_and(hex)) && parts.next().is_none();
        if good { Ok(Self(text.to_owned())) } else { Err(Ja4Error::Text) }
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What stays the same from one connection of a client to its next: the version and the cipher suites. The extensions do
    /// not, since a session that goes on brings one more; nor do name and protocol, since those are of the connection.
    pub fn stack(&self) -> String {
        let version = self.0.get(1..3).unwrap_or_default();
        let ciphers = self.0.get(4..6).unwrap_or_default();
        format!("{version}{ciphers}_{}", self.0.split('_').nth(1).unwrap_or_default())
    }
}

impl fmt::Display for Ja4 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The body of the `ClientHello`, put together from the records it comes in.
fn client_hello(mut bytes: &[u8]) -> Result<Vec<u8>, Ja4Error> {
    const HANDSHAKE: u8 = 22;
    const CLIENT_HELLO: u8 = 1;
    let mut said = Vec::new();
    loop {
        if let Some((&[kind, a, b, c], body)) = said.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_be_bytes([0, a, b, c])).unwrap_or(usize::MAX);
            if kind != CLIENT_HELLO || length > MAX_LEN {
                return Err(Ja4Error::Malformed);
            }
            if let Some(body) = body.get(..length) {
                return Ok(body.to_vec());
            }
        }
        let (&[kind, major, _, a, b], rest) = bytes.split_first_chunk::<5>().ok_or(Ja4Error::Short)?;
        let length = usize::from(u16::from_be_bytes([a, b]));
        if kind != HANDSHAKE || major != 3 || length == 0 || said.len() + length > MAX_LEN + 4 {
            return Err(Ja4Error::Malformed);
        }
        said.extend_from_slice(rest.get(..length).ok_or(Ja4Error::Short)?);
        bytes = rest.get(length..).unwrap_or_default();
    }
}

/// What a fingerprint is made of.
#[derive(Debug)]
struct Hello {
    version: u16,
    ciphers: Vec<u16>,
    extensions: Vec<u16>,
    alpn: Vec<u8>,
    signatures: Vec<u16>,
}

impl Hello {
    fn read(body: &[u8]) -> Option<Self> {
        let mut rest = Reader(body);
        let legacy = rest.number()?;
        rest.take(32)?;
        rest.short_list()?;
        let ciphers = numbers(rest.list()?)?;
        rest.short_list()?;
        let mut hello = Self { version: legacy, ciphers, extensions: vec![], alpn: vec![], signatures: vec![] };
        if rest.0.is_empty() {
            // Before extensions there were none.
            return Some(hello);
        }
        let mut extensions = Reader(rest.list()?);
        if !rest.0.is_empty() {
            return None;
        }
        while !extensions.0.is_empty() {
            let (kind, said) = (extensions.number()?, extensions.list()?);
            if hello.extensions.len() == MAX_ENTRIES || hello.extensions.contains(&kind) {
                // None may be there twice (RFC 8446 section 4.2).
                return None;
            }
            let mut said = Reader(said);
            match kind {
                SIGNATURE_ALGORITHMS => hello.signatures = numbers(said.list()?)?,
                ALPN => hello.alpn = Reader(said.list()?).short_list()?.to_vec(),
                SUPPORTED_VERSIONS => {
                    let versions = numbers(said.short_list()?)?;
                    hello.version = versions.into_iter().filter(|one| !is_grease(*one)).max().unwrap_or(legacy);
                }
                _ => {}
            }
            hello.extensions.push(kind);
        }
        Some(hello)
    }

    fn fingerprint(self) -> String {
        let mut ciphers: Vec<u16> = self.ciphers.into_iter().filter(|one| !is_grease(*one)).collect();
        let mut extensions: Vec<u16> = self.extensions.into_iter().filter(|one| !is_grease(*one)).collect();
        let named = if extensions.contains(&SERVER_NAME) { 'd' } else { 'i' };
        let counts = (ciphers.len().min(99), extensions.len().min(99));
        ciphers.sort_unstable();
        extensions.retain(|one| ![SERVER_NAME, ALPN].contains(one));
        extensions.sort_unstable();
        let signatures: Vec<u16> = self.signatures.into_iter().filter(|one| !is_grease(*one)).collect();
        let mut third = in_hex(&extensions);
        if !signatures.is_empty() && !extensions.is_empty() {
            third = format!("{third}_{}", in_hex(&signatures));
        }
        let version = match self.version {
            0x0304 => "13",
            0x0303 => "12",
            0x0302 => "11",
            0x0301 => "10",
            0x0300 => "s3",
            0x0002 => "s2",
            _ => "00",
        };
        let (first, last) = ends(&self.alpn);
        let (second, third) = (short_hash(&in_hex(&ciphers)), short_hash(&third));
        format!("t{version}{named}{:02}{:02}{first}{last}_{second}_{third}", counts.0, counts.1)
    }
}

/// First and last character of the protocol that is asked for first; of one that is not text, of its hex.
fn ends(alpn: &[u8]) -> (char, char) {
    let (Some(first), Some(last)) = (alpn.first().copied(), alpn.last().copied()) else { return ('0', '0') };
    if first.is_ascii_alphanumeric() && last.is_ascii_alphanumeric() {
        return (char::from(first), char::from(last));
    }
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    (digit(first >> 4), digit(last & 15))
}

/// Values that mean nothing, for servers that trip over what they do not know (RFC 8701).
const fn is_grease(value: u16) -> bool {
    value & 0x0f0f == 0x0a0a && value >> 8 == value & 0xff
}

fn in_hex(values: &[u16]) -> String {
    values.iter().map(|value| format!("{value:04x}")).collect::<Vec<_>>().join(",")
}

/// The first 12 digits of its SHA-256 in hex; of nothing, zeroes.
fn short_hash(text: &str) -> String {
    if text.is_empty() {
        return "0".repeat(12);
    }
    let first = sha256(text.as_bytes()).iter().take(6).fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
    format!("{first:012x}")
}

fn numbers(bytes: &[u8]) -> Option<Vec<u16>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    (rest.is_empty() && pairs.len() <= MAX_ENTRIES).then(|| pairs.iter().copied().map(u16::from_be_bytes).collect())
}

/// Reads from the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self) -> Option<u16> {
        let (pair, rest) = self.0.split_first_chunk::<2>()?;
        self.0 = rest;
        Some(u16::from_be_bytes(*pair))
    }

    /// What comes after its length in two bytes.
    fn list(&mut self) -> Option<&'a [u8]> {
        let length = self.number()?;
        self.take(length.into())
    }

    /// What comes after its length in one byte.
    fn short_list(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.0.split_first()?;
        self.0 = rest;
        self.take((*length).into())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefixed(numbers: &[u16], short: bool) -> Vec<u8> {
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
        sized(&bytes, short)
    }

    fn sized(bytes: &[u8], short: bool) -> Vec<u8> {
        let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
        [if short { &length[1..] } else { &length[..] }, bytes].concat()
    }

    /// A greeting in records of at most `piece` bytes.
    fn greeting(ciphers: &[u16], extensions: &[(u16, Vec<u8>)], piece: usize) -> Vec<u8> {
        let mut body = [&[3, 3][..], &[7; 32], &sized(&[1, 2, 3], true), &prefixed(ciphers, false), &[1, 0]].concat();
        let extensions: Vec<u8> = extensions
            .iter()
            .flat_map(|(kind, said)| [&kind.to_be_bytes()[..], &sized(said, false)].concat())
            .collect();
        body.extend(sized(&extensions, false));
        let mut message = vec![1, 0];
        message.extend(sized(&body, false));
        message.chunks(piece).flat_map(|part| [&[22, 3, 1][..], &sized(part, false)].concat()).collect()
    }

    /// What Chrome says, in the example of the public description, in another order and with values that mean nothing.
    fn chrome(piece: usize) -> Vec<u8> {
        let ciphers = [
            0x2a2a, 0x1301, 0x1302, 0x1303, 0xc02b, 0xc02f, 0xc02c, 0xc030, 0xcca9, 0xcca8, 0xc013, 0xc014, 0x009c,
            0x009d, 0x002f, 0x0035,
        ];
        let signatures = prefixed(&[0x0403, 0x0804, 0x0401, 0x0503, 0x0805, 0x0501, 0x0806, 0x0601], false);
        let mut extensions: Vec<(u16, Vec<u8>)> = vec![
            (0x1a1a, vec![]),
            (0x0000, b"\0\x0e\0\0\x0bexample.com".to_vec()),
            (0x0010, sized(&[sized(b"h2", true), sized(b"http/1.1", true)].concat(), false)),
            (0x000d, signatures),
            (0x002b, prefixed(&[0x3a3a, 0x0304, 0x0303], true)),
        ];
        for kind in [0x001b, 0x0033, 0x4469, 0x0017, 0x002d, 0x0005, 0x0023, 0x0012, 0xff01, 0x000b, 0x000a, 0x0015] {
            extensions.push((kind, vec![0; 3]));
        }
        greeting(&ciphers, &extensions, piece)
    }

    #[test]
    fn the_example_of_the_public_description_has_its_fingerprint_however_it_is_cut() {
        for piece in [1, 7, 100, 16_384] {
            assert_eq!(
                Ja4::of_records(&chrome(piece)).unwrap().as_str(),
                "t13d1516h2_8daaf6152771_e5627efa2ab1",
                "{piece}"
            );
        }
        let more = [&chrome(600)[..], b"what follows"].concat();
        assert_eq!(Ja4::of_records(&more).unwrap().stack(), "1315_8daaf6152771");
    }

    #[test]
    fn a_session_that_goes_on_is_of_the_same_stack() {
        let suites = [0x1301, 0x1302];
        let first = Ja4::of_records(&greeting(&suites, &[(0x000a, vec![0])], 999)).unwrap();
        let again = Ja4::of_records(&greeting(&suites, &[(0x000a, vec![0]), (0x0029, vec![0])], 999)).unwrap();
        assert_ne!(first, again);
        assert_eq!(first.stack(), again.stack());
        let other = Ja4::of_records(&greeting(&[0x1301], &[(0x000a, vec![0])], 999)).unwrap();
        assert_ne!(first.stack(), other.stack());
    }

    #[test]
    fn of_nothing_there_are_zeroes() {
        let bare = Ja4::of_records(&greeting(&[], &[], 999)).unwrap();
        assert_eq!(bare.as_str(), "t12i000000_000000000000_000000000000");
        let alpn = |name: &[u8]| vec![(0x0010, sized(&sized(name, true), false))];
        let odd = Ja4::of_records(&greeting(&[], &alpn(&[0xab, 0xcd]), 999)).unwrap();
        assert_eq!(odd.as_str(), "t12i0001ad_000000000000_000000000000");
    }

    #[test]
    fn what_is_no_greeting_has_none() {
        let good = chrome(16_384);
        assert_eq!(Ja4::of_records(&good[..good.len() - 1]), Err(Ja4Error::Short));
        assert_eq!(Ja4::of_records(b""), Err(Ja4Error::Short));
        for (what, bytes) in [
            ("HTTP", b"GET / HTTP/1.1\r\n".to_vec()),
            ("another message", [&[22, 3, 1, 0, 4, 2, 0, 0, 0][..]].concat()),
            ("an endless greeting", [&[22, 3, 1, 0, 4, 1, 0xff, 0, 0][..]].concat()),
            ("an empty record", vec![22, 3, 1, 0, 0]),
            ("an extension twice", greeting(&[], &[(5, vec![]), (5, vec![])], 999)),
            ("half a number", greeting(&[], &[(13, vec![0, 1, 0])], 999)),
        ] {
            assert_eq!(Ja4::of_records(&bytes), Err(Ja4Error::Malformed), "{what}");
        }
    }

    #[test]
    fn only_what_is_written_like_one_is_read() {
        let one = "t13d1516h2_8daaf6152771_e5627efa2ab1";
        assert_eq!(Ja4::parse(one).unwrap().as_str(), one);
        for other in
            ["", "t13d1516h2", &one.to_uppercase(), &one.replace('t', "x"), &format!("{one}_1"), &format!("{one}1")]
        {
            assert_eq!(Ja4::parse(other), Err(Ja4Error::Text), "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_have_a_fingerprint_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
            let _ = Ja4::of_records(&bytes);
            let _ = Ja4::parse(&String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn any_greeting_has_one_that_can_be_read(
            ciphers in proptest::collection::vec(any::<u16>(), 0..64),
            kinds in proptest::collection::btree_set(100_u16..9000, 0..120),
            piece in 1_usize..500,
        ) {
            let extensions: Vec<(u16, Vec<u8>)> = kinds.into_iter().map(|kind| (kind, vec![])).collect();
            let ja4 = Ja4::of_records(&greeting(&ciphers, &extensions, piece)).unwrap();
            prop_assert_eq!(Ja4::parse(ja4.as_str()), Ok(ja4));
        }
    }
}
