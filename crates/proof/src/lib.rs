//! Who is calling: bytes, keys and a moment in time go in, a verified identity comes out. No I/O.
//!
//! [`jose`] is a strict, small JOSE core on aws-lc-rs: it refuses everything a gateway has no use for
//! (RFC 8725). [`token`] verifies access tokens of several issuers and caches the verdicts. [`inspect`] is the
//! same verification for an operator's hands: one token, a key file, a printable verdict. [`dpop`] verifies proofs that
//! the presenter of a token holds the key it is bound to, [`signature`] verifies signatures over whole requests by that
//! key, [`mtls`] reads client certificates. [`assertion`] verifies how clients authenticate with a key of their own,
//! [`secevent`] the security events of other parties. [`attest`] says what is calling: evidence from platforms that an app
//! and its device are genuine. [`app_config`] is what such apps are told: pins and switches, signed.
//! [`ja4`] says by which TLS stack somebody calls.

pub mod app_config;
pub mod assertion;
pub mod attest;
pub mod dpop;
pub mod inspect;
pub mod ja4;
pub mod jose;
pub mod mtls;
pub mod secevent;
pub mod signature;
pub mod token;
