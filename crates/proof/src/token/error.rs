//! Why a token is refused.

use base::{Name, Who};

use crate::jose::JoseError;

/// Why a token is refused. What the caller is told is [`TokenError::description`]: a fixed text that says nothing
/// about the token, nor whether its key is known. [`TokenError::reason`] is for metrics and logs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not a token this verifier reads.
    #[error(transparent)]
    Malformed(#[from] JoseError),
    /// No issuer of that name is configured, or the token names none and none may be left out.
    #[error("no configured issuer is named by the token")]
    UnknownIssuer,
    /// The issuer's configuration does not list the token's algorithm.
    #[error("the algorithm is not allowed for issuer {issuer}")]
    AlgNotAllowed {
        /// The issuer.
        issuer: Name,
    },
    /// The issuer's current set has no key for the token. A newer one may: ask for it, then verify once more.
    #[error("issuer {issuer} has no such key")]
    UnknownKey {
        /// The issuer.
        issuer: Name,
    },
    /// There is no key set of the issuer yet. Not the caller's fault.
    #[error("the keys of issuer {issuer} are not available")]
    KeysUnavailable {
        /// The issuer.
        issuer: Name,
    },
    /// The token names no key and several of the issuer's would fit.
    #[error("the token names no key and several would fit")]
    AmbiguousKey,
    /// The key is for another algorithm.
    #[error("the key is for another algorithm")]
    WrongAlg,
    /// The signature does not hold.
    #[error("the signature is wrong")]
    BadSignature,
    /// `typ` is not that of an access token of this issuer.
    #[error("the token's typ is not accepted")]
    WrongType,
    /// Another kind of token: an ID token, a security event, a logout token.
    #[error("the token is not an access token")]
    NotAnAccessToken,
    /// A claim is missing, of the wrong type or not what is required.
    #[error("claim {claim}: {problem}")]
    Claim {
        /// Which one, by the name of its role: `exp`, `aud`, `sub`, `scope`.
        claim: &'static str,
        /// What is wrong with it.
        problem: ClaimProblem,
    },
    /// Meant for somebody else.
    #[error("the token is not for this audience")]
    WrongAudience,
    /// Its time has passed.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Issued in the future.
    #[error("the token was issued in the future")]
    IssuedInFuture,
    /// Lives longer than this issuer's tokens may.
    #[error("the token's lifetime is too long")]
    LifetimeTooLong,
    /// Bound to a key by a method that cannot be checked here (RFC 7800).
    #[error("the token is bound to its holder in a way that cannot be checked")]
    UnsupportedConfirmation,
}

/// What is wrong with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClaimProblem {
    /// Required and absent.
    #[error("missing")]
    Missing,
    /// Not of the JSON type it must have, or not of acceptable form.
    #[error("of the wrong type or form")]
    Malformed,
    /// Too long, or too many elements.
    #[error("too large")]
    TooLarge,
    /// Not the value this issuer's tokens must have.
    #[error("not the required value")]
    Mismatch,
}

impl TokenError {
    /// A stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(e) => e.reason(),
            Self::UnknownIssuer => "unknown_issuer",
            Self::AlgNotAllowed { .. } => "alg_not_allowed",
            Self::UnknownKey { .. } => "unknown_key",
            Self::KeysUnavailable { .. } => "keys_unavailable",
            Self::AmbiguousKey => "ambiguous_key",
            Self::WrongAlg => "alg_key_mismatch",
            Self::BadSignature => "bad_signature",
            Self::WrongType => "wrong_typ",
            Self::NotAnAccessToken => "not_an_access_token",
            Self::Claim { problem: ClaimProblem::Missing, .. } => "missing_claim",
            Self::Claim { .. } => "bad_claim",
            Self::WrongAudience => "wrong_audience",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::IssuedInFuture => "issued_in_future",
            Self::LifetimeTooLong => "lifetime_too_long",
            Self::UnsupportedConfirmation => "unsupported_confirmation",
        }
    }

    /// What the caller may be told (`error_description`, RFC 6750 section 3): one of three texts. Unknown issuer,
    /// unknown key and wrong signature read the same.
    pub const fn description(&self) -> &'static str {
        match self {
            Self::Expired => "The access token has expired",
            Self::KeysUnavailable { .. } => "The access token cannot be verified at the moment",
            _ => "The access token is not valid",
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::KeysUnavailable { .. } => Who::Us,
            _ => Who::Client,
        }
    }

    /// Whether the same token may be accepted later.
    pub const fn retryable(&self) -> bool {
        matches!(self, Self::KeysUnavailable { .. })
    }

    /// The issuer whose keys might have to be fetched before the token is verified once more.
    pub const fn refetch(&self) -> Option<&Name> {
        match self {
            Self::UnknownKey { issuer } | Self::KeysUnavailable { issuer } => Some(issuer),
            _ => None,
        }
    }
}
