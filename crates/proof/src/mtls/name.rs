//! Distinguished names, as they stand in certificates and as operators write them (RFC 4514).

use std::fmt;

use x509_parser::asn1_rs::{Any, FromDer, Tag, ToDer};
use x509_parser::x509::X509Name;

use super::CertificateError;

/// The most attributes that are read.
const MAX_ATTRIBUTES: usize = 64;

/// The longest text that is read, in bytes.
const MAX_TEXT: usize = 4096;

/// Attribute types by their short names: those of RFC 4514 section 3, and others that tools print.
const TYPES: [(&str, &str); 16] = [
    ("CN", "2.5.4.3"),
    ("SN", "2.5.4.4"),
    ("serialNumber", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("title", "2.5.4.12"),
    ("GN", "2.5.4.42"),
    ("organizationIdentifier", "2.5.4.97"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("emailAddress", "1.2.840.113549.1.9.1"),
    ("E", "1.2.840.113549.1.9.1"),
];

/// A name: sets of attributes, the most significant first. Compared value for value, with case, whatever string type
/// the values are encoded in: narrower than X.500's matching, so never another name than the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DistinguishedName(Vec<Vec<Attribute>>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Attribute {
    /// Dotted decimal.
    kind: String,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Text(String),
    /// DER of anything that is not text.
    Other(Vec<u8>),
}

impl DistinguishedName {
    /// Read a name as text: `CN=batch,O=Example`, the most significant last. Space around names and values does not
    /// count unless it is escaped.
    pub fn parse(text: &str) -> Result<Self, CertificateError> {
        if text.len() > MAX_TEXT || text.trim().is_empty() {
            return Err(CertificateError::Name);
        }
        let mut sets = Vec::new();
        let mut attributes = 0;
        for set in split(text, ',') {
            let mut members = Vec::new();
            for attribute in split(set, '+') {
                attributes += 1;
                if attributes > MAX_ATTRIBUTES {
                    return Err(CertificateError::Name);
                }
                members.push(attribute_of(attribute).ok_or(CertificateError::Name)?);
            }
            members.sort();
            sets.push(members);
        }
        sets.reverse();
        Ok(Self(sets))
    }

    pub(crate) fn of(name: &X509Name<'_>) -> Result<Self, CertificateError> {
        let mut sets = Vec::new();
        let mut attributes = 0;
        for set in name.iter_rdn() {
            let mut members = Vec::new();
            for attribute in set.iter() {
                attributes += 1;
                if attributes > MAX_ATTRIBUTES {
                    return Err(CertificateError::TooManyNames);
                }
                let value = Value::of(attribute.attr_value()).ok_or(CertificateError::Malformed)?;
                members.push(Attribute { kind: attribute.attr_type().to_id_string(), value });
            }
            members.sort();
            sets.push(members);
        }
        Ok(Self(sets))
    }

    /// Whether it names nobody.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// As RFC 4514 writes it.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, set) in self.0.iter().rev().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            for (at, attribute) in set.iter().enumerate() {
                f.write_str(if at == 0 { "" } else { "+" })?;
                let known = TYPES.iter().find(|(_, oid)| *oid == attribute.kind);
                f.write_str(known.map_or(attribute.kind.as_str(), |(name, _)| name))?;
                f.write_str("=")?;
                attribute.value.write(f)?;
            }
        }
        Ok(())
    }
}

impl Value {
    fn of(any: &Any<'_>) -> Option<Self> {
        let data = any.data;
        let text = match any.tag() {
            Tag::Utf8String | Tag::PrintableString | Tag::NumericString | Tag::Ia5String | Tag::VisibleString => {
                Some(std::str::from_utf8(data).ok()?.to_owned())
            }
            // T.61 in name; what stands in it is Latin-1.
            Tag::TeletexString => Some(data.iter().copied().map(char::from).collect()),
            Tag::BmpString => {
                let units = data.chunks(2).map(|pair| <[u8; 2]>::try_from(pair).ok().map(u16::from_be_bytes));
                Some(String::from_utf16(&units.collect::<Option<Vec<u16>>>()?).ok()?)
            }
            _ => None,
        };
        match text {
            Some(text) => Some(Self::Text(text)),
            None => any.to_der_vec().ok().map(Self::Other),
        }
    }

    fn write(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Text(text) => text,
            Self::Other(der) => {
                f.write_str("#")?;
                return der.iter().try_for_each(|byte| write!(f, "{byte:02x}"));
            }
        };
        let last = text.chars().count().saturating_sub(1);
        for (at, c) in text.chars().enumerate() {
            match c {
                '"' | '+' | ',' | ';' | '<' | '>' | '\\' => write!(f, "\\{c}")?,
                '#' | ' ' if at == 0 => write!(f, "\\{c}")?,
                ' ' if at == last => f.write_str("\\ ")?,
                // Legal as they are, but a name must not write lines of its own.
                c if c.is_ascii_control() => write!(f, "\\{:02x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// The parts between separators that are not escaped.
fn split(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut escaped = false;
    text.split(move |c: char| {
        let divides = c == separator && !escaped;
        escaped = c == '\\' && !escaped;
        divides
    })
}

fn attribute_of(text: &str) -> Option<Attribute> {
    let (kind, value) = text.split_once('=')?;
    let kind = kind.trim();
    let known = TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind)).map(|(_, oid)| *oid);
    let dotted = |kind: &&str| kind.contains('.') && kind.split('.').all(is_arc);
    let kind = known.or_else(|| Some(kind).filter(dotted))?.to_owned();
    Some(Attribute { kind, value: value_of(value)? })
}

fn is_arc(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'))
}

fn value_of(text: &str) -> Option<Value> {
    let text = text.trim_start_matches(' ');
    if let Some(hex) = text.strip_prefix('#') {
        let der = from_hex(hex.trim_end_matches(' '))?;
        let (rest, any) = Any::from_der(&der).ok()?;
        return if rest.is_empty() { Value::of(&any) } else { None };
    }
    let mut bytes = Vec::new();
    // Up to where the value reaches, not counting trailing space that is not escaped.
    let mut kept = 0;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                push_escaped(&mut rest, &mut bytes)?;
                kept = bytes.len();
            }
            '"' | '+' | ',' | ';' | '<' | '>' | '\0' => return None,
            c => {
                bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                if c != ' ' {
                    kept = bytes.len();
                }
            }
        }
    }
    bytes.truncate(kept);
    String::from_utf8(bytes).ok().map(Value::Text)
}

/// After a backslash: one special character, or two digits of a byte (RFC 4514 section 3, `pair`).
fn push_escaped(rest: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) -> Option<()> {
    let first = rest.next()?;
    if " \"#+,;<>=\\".contains(first) {
        bytes.push(u8::try_from(first).ok()?);
        return Some(());
    }
    let (high, low) = (first.to_digit(16)?, rest.next()?.to_digit(16)?);
    bytes.push(u8::try_from(high * 16 + low).ok()?);
    Some(())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if text.is_empty() || !text.len().is_multiple_of(2) {
        return None;
    }
    let digit = |b: &u8| char::from(*b).to_digit(16);
    text.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shown(text: &str) -> String {
        DistinguishedName::parse(text).unwrap().to_string()
    }

    #[test]
    fn the_examples_of_rfc_4514_are_read() {
        for (text, form) in [
            ("UID=jsmith,DC=example,DC=net", "UID=jsmith,DC=example,DC=net"),
            ("OU=Sales+CN=J.  Smith,DC=example,DC=net", "OU=Sales+CN=J.  Smith,DC=example,DC=net"),
            (r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#, r#"CN=James \"Jim\" Smith\, III,DC=example,DC=net"#),
            (r"CN=Before\0dAfter,DC=example,DC=net", r"CN=Before\0dAfter,DC=example,DC=net"),
            ("1.3.6.1.4.1.1466.0=#04024869", "1.3.6.1.4.1.1466.0=#04024869"),
            (r"CN=Lu\C4\8Di\C4\87", "CN=Lučić"),
        ] {
            assert_eq!(shown(text), form);
        }
    }

    #[test]
    fn spelling_does_not_matter_but_order_and_case_of_values_do() {
        let name = |text: &str| DistinguishedName::parse(text).unwrap();
        let one = name("CN=batch,O=Example");
        for same in [
            "cn=batch,o=Example",
            " CN = batch , O = Example ",
            "2.5.4.3=batch,2.5.4.10=Example",
            "CN=#0c056261746368,O=Example",
            "CN=#1305 6261746368",
        ] {
            match DistinguishedName::parse(same) {
                Ok(same) => assert_eq!(same, one),
                Err(_) => assert!(same.contains("1305 "), "{same}"),
            }
        }
        assert_eq!(name("CN=a+OU=b"), name("OU=b+CN=a"));
        for other in [
            "O=Example,CN=batch",
            "CN=Batch,O=Example",
            "CN=batch",
            "CN=batch\\ ,O=Example",
            "CN=batch+O=Example",
            "CN=batch,O=Example,C=DE",
            "OU=batch,O=Example",
        ] {
            assert_ne!(name(other), one, "{other}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        let many = vec!["CN=a"; MAX_ATTRIBUTES + 1].join(",");
        let long = format!("CN={}", "a".repeat(MAX_TEXT));
        for wrong in [
            "",
            " ",
            ",",
            "CN",
            "CN=a,",
            ",CN=a",
            "=a",
            "XX=a",
            "2=a",
            "2.=a",
            "2.05=a",
            "CN=\"a\"",
            "CN=a;O=b",
            "CN=a<",
            "CN=a\\",
            "CN=a\\x",
            "CN=a\\4",
            "CN=\\ff",
            "CN=#",
            "CN=#0",
            "CN=#zz",
            "CN=#0c05626174",
            "CN=#0c0161ff",
            "CN=a\0",
            "/CN=a/O=b",
            &many,
            &long,
        ] {
            assert_eq!(DistinguishedName::parse(wrong), Err(CertificateError::Name), "{wrong:?}");
        }
        assert_eq!(shown("CN="), "CN=");
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in r#"([A-Za-z.0-9]{0,4}=?[#\\"+,; a-f0-9é\x00]{0,6}){0,6}"#) {
            let _ = DistinguishedName::parse(&text);
        }

        #[test]
        fn what_is_written_reads_back_as_the_same_name(values in prop::collection::vec("\\PC{0,12}|[ #\\\\\",+]{1,4}", 1..5)) {
            let sets = values.into_iter().map(|value| {
                vec![Attribute { kind: "2.5.4.3".into(), value: Value::Text(value) }]
            });
            let name = DistinguishedName(sets.collect());
            prop_assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name));
        }
    }
}
