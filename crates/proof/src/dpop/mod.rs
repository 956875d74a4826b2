//! DPoP proofs: whoever presents a token shows that they hold the key it is bound to (RFC 9449).
//!
//! [`Proof::parse`] reads a proof and its key, [`verify`] checks it against what the request is and makes a
//! [`VerifiedProof`]. That a proof is used only once is for a replay store to say, which asks for
//! [`VerifiedProof::replay_key`] after everything else held. That a request has only one `DPoP` header is for the edge.

mod error;
mod inspect;
mod lifetime;
mod nonce;
mod target;
mod verify;

pub use error::DpopError;
pub use inspect::{Question, Verdict, inspect};
pub use lifetime::Lifetimes;
pub use nonce::{DEFAULT_NONCE_SLOT, Nonces};
pub use target::{MAX_TARGET_LEN, TargetError, TargetUri};
pub use verify::{
    ALGORITHMS, DEFAULT_MAX_AGE, DEFAULT_SKEW, Expectation, MAX_JTI_LEN, MAX_PROOF_LEN, Proof, VerifiedProof, verify,
};
