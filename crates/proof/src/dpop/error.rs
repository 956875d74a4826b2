//! Why a proof is refused.

use base::Who;

use super::TargetError;
use crate::jose::{JoseError, KeyError};

/// Why a proof is refused. [`DpopError::reason`] is for metrics and logs, [`DpopError::error_code`] for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DpopError {
    /// Not one signed object this verifier reads.
    #[error("the proof is not one well-formed signed object: {0}")]
    Malformed(#[from] JoseError),
    /// `typ` is not `dpop+jwt`.
    #[error("the proof's typ is not dpop+jwt")]
    WrongTyp,
    /// A symmetric algorithm, or one that is not accepted here.
    #[error("the proof's algorithm is not accepted")]
    AlgNotAllowed,
    /// The header has no `jwk`.
    #[error("the proof carries no public key")]
    MissingKey,
    /// The header's `jwk` is not a public key that may be used.
    #[error("the proof's key is refused: {0}")]
    Key(#[from] KeyError),
    /// The key in the header is for another algorithm.
    #[error("the proof's key is for another algorithm")]
    WrongAlg,
    /// The signature does not hold.
    #[error("the proof's signature is wrong")]
    BadSignature,
    /// A claim is missing.
    #[error("the proof has no {0}")]
    MissingClaim(&'static str),
    /// A claim has the wrong type, form or length.
    #[error("the proof's {0} is of the wrong type, form or length")]
    BadClaim(&'static str),
    /// `htu` is not a URI of HTTP.
    #[error("the proof's htu is refused: {0}")]
    BadTarget(#[from] TargetError),
    /// `htm` is another method.
    #[error("the proof is for another method")]
    WrongMethod,
    /// `htu` is another resource.
    #[error("the proof is for another target")]
    WrongTarget,
    /// `iat` is longer ago than a proof lives.
    #[error("the proof is too old")]
    TooOld,
    /// `iat` lies in the future.
    #[error("the proof was made in the future")]
    InFuture,
    /// `ath` is the hash of another token.
    #[error("the proof is for another access token")]
    WrongToken,
    /// The token is bound to another key.
    #[error("the access token is bound to another key")]
    WrongKey,
    /// A nonce is required and the proof has none (RFC 9449 sections 8, 9 and 11.3).
    #[error("the proof has no nonce and one is required")]
    NonceRequired,
    /// The proof's nonce is not one that is accepted now.
    #[error("the proof's nonce is not accepted")]
    WrongNonce,
}

impl DpopError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed(e) => e.reason(),
            Self::WrongTyp => "wrong_typ",
            Self::AlgNotAllowed => "alg_not_allowed",
            Self::MissingKey => "missing_jwk",
            Self::Key(e) => e.reason(),
            Self::WrongAlg => "alg_key_mismatch",
            Self::BadSignature => "bad_signature",
            Self::MissingClaim(_) => "missing_claim",
            Self::BadClaim(_) => "bad_claim",
            Self::BadTarget(_) => "bad_htu",
            Self::WrongMethod => "wrong_htm",
            Self::WrongTarget => "wrong_htu",
            Self::TooOld => "too_old",
            Self::InFuture => "issued_in_future",
            Self::WrongToken => "wrong_ath",
            Self::WrongKey => "wrong_jkt",
            Self::NonceRequired => "use_dpop_nonce",
            Self::WrongNonce => "wrong_nonce",
        }
    }

    /// The error code for the caller: a stale nonce asks for a new one as a missing one does (RFC 9449 section 8), a
    /// token of another key is an invalid token (section 7.1), everything else an invalid proof (section 5).
    pub const fn error_code(self) -> &'static str {
        match self {
            Self::NonceRequired | Self::WrongNonce => "use_dpop_nonce",
            Self::WrongKey => "invalid_token",
            _ => "invalid_dpop_proof",
        }
    }

    /// Whose fault it is: always the caller's.
    pub const fn who(self) -> Who {
        Who::Client
    }

    /// Whether a new proof by the same client, with the nonce it is told, would pass.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::NonceRequired | Self::WrongNonce)
    }
}
