//! Client certificates (RFC 8705): the thumbprint tokens are bound to, and who a certificate names.
//!
//! Nothing here verifies a chain or a handshake: that a certificate's key was used is TLS's to say, that an authority
//! vouches for it the listener's. A [`ClientCertificate`] is only what stands in it.

mod certificate;
mod header;
mod name;

pub use certificate::{ClientCertificate, MAX_CERTIFICATE_LEN, TlsClientRule, certificate_thumbprint};
pub use header::parse_client_cert_header;
pub use name::DistinguishedName;

use base::Who;

/// Why a certificate, its header or a name to compare it with is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than [`MAX_CERTIFICATE_LEN`].
    #[error("the certificate is too long")]
    TooLong,
    /// Not one X.509 certificate in DER.
    #[error("not one X.509 certificate in DER")]
    Malformed,
    /// More alternative names than anybody needs.
    #[error("the certificate has too many names")]
    TooManyNames,
    /// The `Client-Cert` header is not one byte sequence (RFC 9440 section 2.2).
    #[error("the Client-Cert header is not one byte sequence")]
    Header,
    /// Not a distinguished name as text (RFC 4514).
    #[error("not a distinguished name as in RFC 4514")]
    Name,
}

impl CertificateError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "certificate_too_long",
            Self::Malformed => "malformed_certificate",
            Self::TooManyNames => "certificate_names",
            Self::Header => "bad_client_cert",
            Self::Name => "bad_subject_dn",
        }
    }

    /// Whose fault it is: always the client's.
    pub const fn who(self) -> Who {
        Who::Client
    }

    /// Whether the same would pass later.
    pub const fn retryable(self) -> bool {
        false
    }
}
