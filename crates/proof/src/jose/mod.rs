//! A strict core of JSON Object Signing (RFC 7515, 7517, 7518, 7638, 7797, 8037, 8725, 9864, 9964).
//!
//! Only the compact serialisation of signed objects exists here. Encrypted objects, `crit` extensions,
//! unencoded payloads, compression, key references in headers and the `none` algorithm are refused or, where a
//! header member can only name a key (`jku`, `x5u`, `jwk`, `x5c`, `x5t`), never looked at.

mod alg;
mod assertion;
mod base64url;
mod claims;
mod compact;
pub mod json;
mod jwk;
mod key;
mod keyset;
mod pem;
mod secret;
mod sign;
mod weak;

pub use alg::{Alg, KeyType};
pub(crate) use alg::{array, sha256};
pub use assertion::AssertionKey;
pub use base64url::{decode as base64url_decode, encode as base64url_encode};
pub(crate) use claims::{Fault, audiences, required, text};
pub(crate) use compact::media_type;
pub use compact::{Compact, Header, JoseError, MAX_TOKEN_LEN, parse_compact, parse_compact_within};
pub use json::{JsonError, JsonObject};
pub use jwk::KeyError;
pub use key::{SignatureError, VerifyingKey};
pub use keyset::{KeySet, KeySetError, Lookup, RejectedKey};
pub use secret::{SecretError, check_secret};
pub use sign::{SignError, SigningAlg, SigningKey};
