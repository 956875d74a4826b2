//! CBOR (RFC 8949) in its shortest form, as App Attest and `WebAuthn` have it, written.

fn head(major: u8, of: usize) -> Vec<u8> {
    let major = major << 5;
    match (u8::try_from(of), u16::try_from(of)) {
        (Ok(short @ 0..=0x17), _) => vec![major | short],
        (Ok(one), _) => vec![major | 0x18, one],
        (_, Ok(two)) => [&[major | 0x19][..], &two.to_be_bytes()].concat(),
        _ => [&[major | 0x1a][..], &u32::try_from(of).unwrap_or(u32::MAX).to_be_bytes()].concat(),
    }
}

pub(super) fn text(of: &str) -> Vec<u8> {
    [head(3, of.len()), of.as_bytes().to_vec()].concat()
}

pub(super) fn bytes(of: &[u8]) -> Vec<u8> {
    [head(2, of.len()), of.to_vec()].concat()
}

pub(super) fn unsigned(of: usize) -> Vec<u8> {
    head(0, of)
}

/// An array of items that are written already.
pub(super) fn array(items: &[Vec<u8>]) -> Vec<u8> {
    [head(4, items.len()), items.concat()].concat()
}

/// A map of members that are written already.
pub(super) fn map(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let written = members.iter().flat_map(|(name, value)| [text(name), value.clone()].concat());
    [head(5, members.len()), written.collect()].concat()
}

/// A `COSE_Key` of an ES256 key (RFC 9053 sections 2.1 and 7.1.1).
pub(super) fn cose_key(point: &[u8; 65]) -> Vec<u8> {
    let (x, y) = point.split_at(33);
    let x = x.get(1..).unwrap_or_default();
    [&[0xa5, 0x01, 0x02, 0x03, 0x26, 0x20, 0x01, 0x21][..], &bytes(x), &[0x22], &bytes(y)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_as_short_as_can_be() {
        assert_eq!(bytes(&[7; 23])[..2], [0x57, 7]);
        assert_eq!(bytes(&[7; 24])[..3], [0x58, 24, 7]);
        assert_eq!(bytes(&[7; 300])[..4], [0x59, 1, 44, 7]);
        assert_eq!(map(&[("a", unsigned(1)), ("b", array(&[text("c")]))]), b"\xa2\x61a\x01\x61b\x81\x61c");
        assert_eq!(cose_key(&[4; 65]).len(), 77);
    }
}
