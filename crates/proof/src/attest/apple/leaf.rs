//! What Apple writes into the certificate of an attested key.

use super::AppleError;
use crate::attest::asn1::{Der, Tag};
use crate::attest::chain::Certificate;

const NONCE: &str = "1.2.840.113635.100.8.2";
const ACCESS_CONTROL: &str = "1.2.840.113635.100.8.6";
const SYSTEM: &str = "1.2.840.113635.100.8.7";
const BASIC_CONSTRAINTS: &str = "2.5.29.19";
const EXTENDED_KEY_USAGE: &str = "2.5.29.37";

/// `SEQUENCE { 1.2.840.113635.100.4.24 }`, which leaves have since iOS 27 and had not before.
const APP_ATTEST_USE: [u8; 13] = [0x30, 0x0b, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x63, 0x64, 0x04, 0x18];

/// What Apple documents for macOS: signing and deletion need full security and system integrity protection.
const MACOS_ACCESS_CONTROL: [u8; 66] = *b"\x30\x40\x0c\x0211\x30\x3a\x30\x09\x0c\x02ok\xa1\x03\x01\x01\xff\
\x30\x09\x0c\x02oa\xa1\x03\x01\x01\xff\x30\x0b\x0c\x04odel\xa1\x03\x01\x01\xff\
\x30\x15\x0c\x04osgn\xa0\x06\x0c\x04rsec\x30\x05\xa6\x03\x02\x01\x01";

/// `SEQUENCE { [3] EXPLICIT OCTET STRING (66 bytes) }`, around it in the extension.
const WRAPPED: [u8; 6] = [0x30, 0x46, 0xa3, 0x44, 0x04, 0x42];

/// That the leaf is no authority and is for nothing else.
pub(super) fn check_use(leaf: &Certificate<'_>) -> Result<(), AppleError> {
    // An end entity's constraints are absent or the empty sequence; anything else could only widen them.
    if leaf.extension(BASIC_CONSTRAINTS).is_some_and(|constraints| constraints != [0x30, 0x00]) {
        return Err(AppleError::LeafAuthority);
    }
    match leaf.extension(EXTENDED_KEY_USAGE) {
        Some(usage) if usage != APP_ATTEST_USE => Err(AppleError::KeyUsage),
        _ => Ok(()),
    }
}

/// The nonce: `SEQUENCE { [1] EXPLICIT OCTET STRING (32 bytes) }` and nothing else.
pub(super) fn nonce<'a>(leaf: &Certificate<'a>) -> Option<&'a [u8; 32]> {
    leaf.extension(NONCE)?.strip_prefix(&[0x30, 0x24, 0xa1, 0x22, 0x04, 0x20])?.try_into().ok()
}

/// The system the key was made on, as far as it is said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct System {
    /// `iphoneos`, `macosx`; older systems do not say.
    pub(super) platform: Option<String>,
    /// Such as `27.0.1`.
    pub(super) version: Option<String>,
}

impl System {
    /// The extension is not documented: what is not understood in it is passed over.
    pub(super) fn of(leaf: &Certificate<'_>) -> Self {
        leaf.extension(SYSTEM).map(Self::parse).unwrap_or_default()
    }

    fn parse(extension: &[u8]) -> Self {
        let mut system = Self::default();
        let Ok(mut members) = Der::new(extension).sequence() else { return system };
        while let Ok((tag, content)) = members.any() {
            let text = Der::new(content).octets().ok().and_then(|text| std::str::from_utf8(text).ok());
            let text = text.filter(|text| text.len() <= 64 && text.bytes().all(|byte| byte.is_ascii_graphic()));
            match text {
                Some(version) if tag == Tag::context(1400) => system.version = Some(version.to_owned()),
                Some(platform) if tag == Tag::context(1026) => system.platform = Some(platform.to_owned()),
                // The one that matters is found wherever it stands.
                Some("macosx") => system.platform = Some("macosx".to_owned()),
                _ => {}
            }
        }
        system
    }
}

/// On macOS the key must not be usable with reduced security. iOS writes the extension too, with other content that
/// Apple does not document, so it is not compared there.
pub(super) fn check_access_control(leaf: &Certificate<'_>, system: &System) -> Result<(), AppleError> {
    if system.platform.as_deref() != Some("macosx") {
        return Ok(());
    }
    let found = leaf.extension(ACCESS_CONTROL).map(|found| found.strip_prefix(&WRAPPED).unwrap_or(found));
    if found == Some(&MACOS_ACCESS_CONTROL) { Ok(()) } else { Err(AppleError::AccessControl) }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;

    use super::*;

    #[test]
    fn the_access_control_of_macos_is_the_documented_one() {
        let documented = "MEAMAjExMDowCQwCb2uhAwEB/zAJDAJvYaEDAQH/MAsMBG9kZWyhAwEB/zAVDARvc2duoAYMBHJzZWMwBaYDAgEB";
        assert_eq!(base64::engine::general_purpose::STANDARD.decode(documented).unwrap(), MACOS_ACCESS_CONTROL);
    }

    #[test]
    fn the_system_is_read_and_what_is_not_understood_passed_over() {
        let member = |tag: &[u8], text: &str| {
            let text = [&[0x04, u8::try_from(text.len()).unwrap()], text.as_bytes()].concat();
            [tag, &[u8::try_from(text.len()).unwrap()], &text].concat()
        };
        let all = [
            member(&[0xbf, 0x8a, 0x78], "27.0"),
            vec![0xbf, 0x88, 0x50, 0x02, 0x05, 0x00],
            member(&[0xbf, 0x88, 0x02], "iphoneos"),
        ]
        .concat();
        let extension = [&[0x30, u8::try_from(all.len()).unwrap()], all.as_slice()].concat();
        let system = System::parse(&extension);
        assert_eq!((system.platform.as_deref(), system.version.as_deref()), (Some("iphoneos"), Some("27.0")));
        assert_eq!(System::parse(b"\x04\x01x"), System::default());
        assert_eq!(System::parse(&extension[..9]), System::default());
    }
}
