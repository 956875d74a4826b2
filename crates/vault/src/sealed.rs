//! The bytes of a sealed value.
//!
//! ```text
//! 1   format version, 1
//! 8   id of the master key
//! 12  nonce of the wrapped data key
//! 48  data key, wrapped: 32 bytes and a 16-byte tag
//! 12  nonce of the body
//! n   body: 0 to 65536 bytes and a 16-byte tag
//! ```

use std::fmt;

use aws_lc_rs::aead::NONCE_LEN;

use crate::{KeyId, VaultError};

/// The longest value that can be sealed, in bytes.
pub const MAX_PLAINTEXT: usize = 64 * 1024;

const VERSION: u8 = 1;
const TAG: usize = 16;
const WRAPPED: usize = 32 + TAG;
const OVERHEAD: usize = 1 + 8 + NONCE_LEN + WRAPPED + NONCE_LEN + TAG;

/// A sealed value: safe to store, useless without the master key. Its shape has been checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

impl Sealed {
    /// Check the shape of stored bytes. Whether they open is another question.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self, VaultError> {
        parse(&bytes)?;
        Ok(Self(bytes))
    }

    /// The bytes to store.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The id of the master key it was sealed with.
    pub fn key_id(&self) -> Result<KeyId, VaultError> {
        self.parts().map(|parts| parts.key_id)
    }

    pub(crate) fn assemble(
        key: KeyId,
        wrap_nonce: &[u8; NONCE_LEN],
        wrapped: &[u8],
        body_nonce: &[u8; NONCE_LEN],
        body: &[u8],
    ) -> Self {
        Self([&[VERSION], key.as_bytes().as_slice(), wrap_nonce, wrapped, body_nonce, body].concat())
    }

    pub(crate) fn parts(&self) -> Result<Parts<'_>, VaultError> {
        parse(&self.0)
    }
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sealed({} bytes)", self.0.len())
    }
}

pub(crate) struct Parts<'a> {
    pub(crate) key_id: KeyId,
    pub(crate) wrap_nonce: [u8; NONCE_LEN],
    pub(crate) wrapped: &'a [u8; WRAPPED],
    pub(crate) body_nonce: [u8; NONCE_LEN],
    pub(crate) body: &'a [u8],
}

fn parse(bytes: &[u8]) -> Result<Parts<'_>, VaultError> {
    if bytes.len() > MAX_PLAINTEXT + OVERHEAD {
        return Err(VaultError::Malformed("too long"));
    }
    match bytes.first() {
        Some(&VERSION) => {}
        Some(_) => return Err(VaultError::Malformed("unknown format version")),
        None => return Err(VaultError::Malformed("empty")),
    }
    let cut = VaultError::Malformed("too short");
    let fields = || {
        let (_, rest) = bytes.split_first_chunk::<1>()?;
        let (key_id, rest) = rest.split_first_chunk::<8>()?;
        let (wrap_nonce, rest) = rest.split_first_chunk::<NONCE_LEN>()?;
        let (wrapped, rest) = rest.split_first_chunk::<WRAPPED>()?;
        let (body_nonce, body) = rest.split_first_chunk::<NONCE_LEN>()?;
        let key_id = KeyId::from_bytes(*key_id);
        (body.len() >= TAG).then_some(Parts { key_id, wrap_nonce: *wrap_nonce, wrapped, body_nonce: *body_nonce, body })
    };
    fields().ok_or(cut)
}
