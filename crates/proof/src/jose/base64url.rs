//! base64url without padding, in its one canonical form (RFC 7515 section 2).

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Encode without padding.
pub fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Decode, or `None` for anything but the canonical encoding: padding, line breaks, white space, characters of
/// plain base64 and non-zero trailing bits are refused, so that one value has exactly one spelling.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_spelling_is_read() {
        assert_eq!(decode("AQAB"), Some(vec![1, 0, 1]));
        assert_eq!(decode(""), Some(Vec::new()));
        for wrong in ["AQ==", "AQ=", "AQAB=", "AQ A", "AQA\n", "A+A", "A/A", "A", "AB", "AAB", "AQAB\0", "ÄQ"] {
            assert_eq!(decode(wrong), None, "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_encodes_back_to_the_same_text(text in "[A-Za-z0-9_=+/ -]{0,40}") {
            if let Some(bytes) = decode(&text) {
                prop_assert_eq!(encode(bytes), text);
            }
        }

        #[test]
        fn every_value_survives(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(decode(&encode(&bytes)), Some(bytes));
        }
    }
}
