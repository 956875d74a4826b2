//! Signatures over requests (RFC 9421) by the key a token is bound to: unlike a DPoP proof they cover the query and, by
//! its digest, the body.
//!
//! One profile is read, told apart by label and tag: [`LABEL`] and [`TAG`]. A signature covers `@method`, `@target-uri`,
//! the field that holds the credential and, where there is a body, `content-digest` (RFC 9530), `content-type` and
//! `content-encoding`; more may be covered. It says when it was made and when it ends, at most [`MAX_LIFETIME`] later,
//! and has a nonce of the client's choice. [`SignedRequest::parse`] reads it, [`verify`] checks it and makes a
//! [`VerifiedSignature`], of which three things are left to do: compare the body
//! ([`VerifiedSignature::check_body`]), and have a replay store claim [`VerifiedSignature::replay_key`]; and the
//! edge must have seen to it that there is only one credential.

pub(crate) mod base;
mod error;
pub(crate) mod field;
#[cfg(test)]
mod tests;
pub(crate) mod verify;

pub use error::SignatureProofError;
pub use field::FieldError;
pub use verify::{ExpectedRequest, SignedRequest, VerifiedSignature, verify};

use std::time::Duration;

/// The label of the signature in `Signature` and `Signature-Input`; others are not ours.
pub const LABEL: &str = "gw";

/// What the signature is for (RFC 9421 section 2.3, `tag`): one that was made for somebody else's purpose does not count.
pub const TAG: &str = "gw-req";

/// How long a signature may live: from `created` to `expires`.
pub const MAX_LIFETIME: Duration = Duration::from_secs(30);

/// The clock difference that is forgiven, where nothing else is configured.
pub const DEFAULT_SKEW: Duration = Duration::from_secs(5);

/// The longest `nonce`, in characters.
pub const MAX_NONCE_LEN: usize = 128;

/// The longest `Signature` and `Signature-Input`, in bytes.
pub const MAX_FIELD_LEN: usize = 8 << 10;
