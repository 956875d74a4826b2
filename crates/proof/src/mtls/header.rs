//! The `Client-Cert` header of a proxy that ends TLS (RFC 9440). Whether the proxy is one to believe is the edge's to say.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};

use super::{CertificateError, MAX_CERTIFICATE_LEN};

/// Standard base64; padding may be missing, as structured fields allow (RFC 8941 section 4.2.7).
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The DER of the certificate in a `Client-Cert` header's one value: `:base64:` and nothing beside it (RFC 9440
/// section 2.2).
pub fn parse_client_cert_header(value: &str) -> Result<Vec<u8>, CertificateError> {
    let value = value.trim_matches([' ', '\t']);
    let inner = value.strip_prefix(':').and_then(|rest| rest.strip_suffix(':')).ok_or(CertificateError::Header)?;
    if inner.len() / 4 * 3 > MAX_CERTIFICATE_LEN {
        return Err(CertificateError::TooLong);
    }
    let der = BASE64.decode(inner).map_err(|_| CertificateError::Header)?;
    if der.is_empty() { Err(CertificateError::Header) } else { Ok(der) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_byte_sequence_is_read() {
        assert_eq!(parse_client_cert_header(":AQID:"), Ok(vec![1, 2, 3]));
        assert_eq!(parse_client_cert_header(" :AQ==: "), Ok(vec![1]));
        assert_eq!(parse_client_cert_header(":AQ:"), Ok(vec![1]));
    }

    #[test]
    fn a_37_anything_but_one_byte_sequence_is_refused() {
        for wrong in [
            "",
            ":",
            "::",
            "AQID",
            ":AQID",
            "AQID:",
            ":AQID:, :AQID:",
            ":AQID:;a=1",
            ":AQ ID:",
            ":AQI\n:",
            ":AQ-_:",
            ":AR==:",
            ":-----BEGIN CERTIFICATE-----:",
            "\":AQID:\"",
        ] {
            assert_eq!(parse_client_cert_header(wrong), Err(CertificateError::Header), "{wrong:?}");
        }
        let long = format!(":{}:", "AAAA".repeat(MAX_CERTIFICATE_LEN / 3 + 1));
        assert_eq!(parse_client_cert_header(&long), Err(CertificateError::TooLong));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,200}") {
            let _ = parse_client_cert_header(&text);
        }
    }
}
