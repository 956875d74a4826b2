//! Why a request's signature is refused.

use base::Who;

use super::FieldError;

/// Why a request's signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureProofError {
    /// A field is not a dictionary as in RFC 8941.
    #[error("{field} is malformed: {error}")]
    Field {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        error: FieldError,
    },
    /// One of the two fields has the label and the other has not (RFC 9421 section 4.1).
    #[error("Signature and Signature-Input do not go together")]
    Unpaired,
    /// A component that must be covered is not.
    #[error("{0} is not covered")]
    NotCovered(&'static str),
    /// A component is covered twice, is not known, has parameters, or is not in the request.
    #[error("a covered component is refused")]
    BadComponent,
    /// A parameter is missing.
    #[error("the signature has no {0}")]
    MissingParameter(&'static str),
    /// A parameter has the wrong type, form or length, or is not known.
    #[error("the signature's {0} is refused")]
    BadParameter(&'static str),
    /// The tag is of another purpose.
    #[error("the signature is for another purpose")]
    WrongTag,
    /// `keyid` is another key's thumbprint.
    #[error("the signature is by another key than the token's")]
    WrongKey,
    /// The token names the thumbprint of its key but does not hold the key (`cnf.jwk`).
    #[error("the access token does not hold its key")]
    NoKey,
    /// `alg` is not the key's, or the key is for nothing that RFC 9421 registers.
    #[error("the signature's algorithm is not the key's")]
    WrongAlg,
    /// `expires` is too long after `created`, or before it.
    #[error("the signature lives too long")]
    LifetimeTooLong,
    /// `expires` is past.
    #[error("the signature has expired")]
    Expired,
    /// `created` lies in the future.
    #[error("the signature was made in the future")]
    InFuture,
    /// `created` lies before what the replay store remembers.
    #[error("the signature is from before the last start")]
    BeforeStart,
    /// The signature does not hold.
    #[error("the signature is wrong")]
    BadSignature,
    /// `Content-Digest` has no usable SHA-256 (RFC 9530).
    #[error("the content digest has no sha-256")]
    BadDigest,
    /// The body is not the one that was signed.
    #[error("the body is not the one that was signed")]
    WrongBody,
}

impl SignatureProofError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Field { error, .. } => error.reason(),
            Self::Unpaired => "signature_unpaired",
            Self::NotCovered(_) => "component_not_covered",
            Self::BadComponent => "bad_component",
            Self::MissingParameter(_) => "missing_parameter",
            Self::BadParameter(_) => "bad_parameter",
            Self::WrongTag => "wrong_tag",
            Self::WrongKey => "wrong_keyid",
            Self::NoKey => "token_without_key",
            Self::WrongAlg => "alg_key_mismatch",
            Self::LifetimeTooLong => "lifetime_too_long",
            Self::Expired => "expired",
            Self::InFuture => "issued_in_future",
            Self::BeforeStart => "made_before_start",
            Self::BadSignature => "bad_signature",
            Self::BadDigest => "bad_content_digest",
            Self::WrongBody => "wrong_content_digest",
        }
    }

    /// Whose fault it is: always the caller's.
    pub const fn who(self) -> Who {
        Who::Client
    }

    /// Whether a new signature by the same client would pass without the client changing its ways.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::Expired | Self::BeforeStart)
    }
}
