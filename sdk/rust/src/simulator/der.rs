//! DER (X.690) as far as certificates and key descriptions need it, written.

/// OBJECT IDENTIFIERs, as the content of their encoding.
pub(super) mod oid {
    pub(crate) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    pub(crate) const SERIAL_NUMBER: &[u8] = &[0x55, 0x04, 0x05];
    pub(crate) const ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
    pub(crate) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    pub(crate) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    pub(crate) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    pub(crate) const EC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
    pub(crate) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
    pub(crate) const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
    pub(crate) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
    pub(crate) const ECDSA_SHA384: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03];
    /// 1.2.840.113635.100.8.2
    pub(crate) const APPLE_NONCE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x63, 0x64, 0x08, 0x02];
    /// 1.2.840.113635.100.8.7
    pub(crate) const APPLE_SYSTEM: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x63, 0x64, 0x08, 0x07];
    /// 1.2.840.113635.100.4.24
    pub(crate) const APPLE_ATTEST_USE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x63, 0x64, 0x04, 0x18];
    /// 1.3.6.1.4.1.11129.2.1.17
    pub(crate) const KEY_DESCRIPTION: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x01, 0x11];
    /// 1.3.6.1.4.1.11129.2.1.30
    pub(crate) const PROVISIONING: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x01, 0x1e];
}

/// One value, with a tag below 31.
pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    length(&mut out, content.len());
    out.extend_from_slice(content);
    out
}

/// SEQUENCE of what is written already.
pub(super) fn sequence(parts: &[Vec<u8>]) -> Vec<u8> {
    value(0x30, &parts.concat())
}

/// SET OF what is written already.
pub(super) fn set(parts: &[Vec<u8>]) -> Vec<u8> {
    value(0x31, &parts.concat())
}

/// INTEGER.
pub(super) fn integer(number: u64) -> Vec<u8> {
    unsigned(&number.to_be_bytes())
}

/// INTEGER from the octets of a number that is not negative.
pub(super) fn unsigned(octets: &[u8]) -> Vec<u8> {
    let mut content: Vec<u8> = octets.iter().copied().skip_while(|octet| *octet == 0).collect();
    if content.first().is_none_or(|first| first & 0x80 != 0) {
        content.insert(0, 0);
    }
    value(0x02, &content)
}

/// ENUMERATED.
pub(super) fn enumerated(number: u8) -> Vec<u8> {
    value(0x0a, &[number])
}

/// BOOLEAN.
pub(super) fn boolean(of: bool) -> Vec<u8> {
    value(0x01, &[if of { 0xff } else { 0x00 }])
}

/// OCTET STRING.
pub(super) fn octets(content: &[u8]) -> Vec<u8> {
    value(0x04, content)
}

/// OBJECT IDENTIFIER.
pub(super) fn oid(content: &[u8]) -> Vec<u8> {
    value(0x06, content)
}

/// BIT STRING without unused bits.
pub(super) fn bits(content: &[u8]) -> Vec<u8> {
    value(0x03, &[&[0], content].concat())
}

/// `[number] EXPLICIT`: numbers above 30 take several octets (X.690 section 8.1.2.4).
pub(super) fn explicit(number: u16, content: &[u8]) -> Vec<u8> {
    if let Ok(low @ 0..=30) = u8::try_from(number) {
        return value(0xa0 | low, content);
    }
    let septet = |shift: u16| u8::try_from((number >> shift) & 0x7f).unwrap_or_default();
    let mut out = vec![0xbf];
    if number > 0x3fff {
        out.push(0x80 | septet(14));
    }
    if number > 0x7f {
        out.push(0x80 | septet(7));
    }
    out.push(septet(0));
    length(&mut out, content.len());
    out.extend_from_slice(content);
    out
}

fn length(out: &mut Vec<u8>, of: usize) {
    if let Ok(short @ 0..=0x7f) = u8::try_from(of) {
        out.push(short);
        return;
    }
    let octets: Vec<u8> = of.to_be_bytes().into_iter().skip_while(|octet| *octet == 0).collect();
    out.push(0x80 | u8::try_from(octets.len()).unwrap_or_default());
    out.extend(octets);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_one_spelling() {
        assert_eq!(integer(0), [2, 1, 0]);
        assert_eq!(integer(128), [2, 2, 0, 128]);
        assert_eq!(explicit(2, &[5, 0]), [0xa2, 2, 5, 0]);
        assert_eq!(explicit(503, &[5, 0]), [0xbf, 0x83, 0x77, 2, 5, 0]);
        assert_eq!(explicit(31, &[]), [0xbf, 31, 0]);
        assert_eq!(value(4, &[0; 200])[..3], [4, 0x81, 200]);
        assert_eq!(value(4, &[0; 300])[..4], [4, 0x82, 1, 44]);
    }
}
