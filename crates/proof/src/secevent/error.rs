//! Why a security event token is refused.

use base::Who;

use crate::jose::JoseError;

/// Why a security event token is refused. [`SetError::reason`] is for metrics and logs, [`SetError::err_code`] for the
/// transmitter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Not one signed object this verifier reads.
    #[error("not one well-formed signed object: {0}")]
    Malformed(#[from] JoseError),
    /// `typ` is not `secevent+jwt`.
    #[error("the typ is not secevent+jwt")]
    WrongTyp,
    /// From somebody else than the transmitter.
    #[error("the issuer is not a configured transmitter")]
    WrongIssuer,
    /// For somebody else.
    #[error("the audience is somebody else")]
    WrongAudience,
    /// A symmetric algorithm, or one the transmitter does not use.
    #[error("the algorithm is not accepted from this transmitter")]
    AlgNotAllowed,
    /// The transmitter has no key of that name: a newer set may.
    #[error("the transmitter has no such key")]
    UnknownKey,
    /// The token names no key and several would fit.
    #[error("the token names no key and several would fit")]
    AmbiguousKey,
    /// The key is for another algorithm.
    #[error("the key is for another algorithm")]
    WrongAlg,
    /// The signature does not hold.
    #[error("the signature is wrong")]
    BadSignature,
    /// A claim that has no place in a security event token.
    #[error("a security event token has no {0}")]
    ForbiddenClaim(&'static str),
    /// A claim is missing.
    #[error("there is no {0}")]
    MissingClaim(&'static str),
    /// A claim has the wrong type, form or length.
    #[error("{0} is of the wrong type, form or length")]
    BadClaim(&'static str),
    /// `iat` lies in the future.
    #[error("the token is from the future")]
    InFuture,
}

impl SetError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed(e) => e.reason(),
            Self::WrongTyp => "wrong_typ",
            Self::WrongIssuer => "unknown_issuer",
            Self::WrongAudience => "wrong_audience",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::UnknownKey => "unknown_key",
            Self::AmbiguousKey => "ambiguous_key",
            Self::WrongAlg => "alg_key_mismatch",
            Self::BadSignature => "bad_signature",
            Self::ForbiddenClaim(_) => "forbidden_claim",
            Self::MissingClaim(_) => "missing_claim",
            Self::BadClaim(_) => "bad_claim",
            Self::InFuture => "issued_in_future",
        }
    }

    /// The code for the transmitter (RFC 8935 section 2.4).
    pub const fn err_code(self) -> &'static str {
        match self {
            Self::WrongIssuer => "invalid_issuer",
            Self::WrongAudience => "invalid_audience",
            Self::AlgNotAllowed | Self::UnknownKey | Self::AmbiguousKey | Self::WrongAlg | Self::BadSignature => {
                "invalid_key"
            }
            _ => "invalid_request",
        }
    }

    /// Whose fault it is: always the transmitter's.
    pub const fn who(self) -> Who {
        Who::Client
    }

    /// Whether the same token may pass once newer keys of the transmitter are fetched.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::UnknownKey)
    }
}
