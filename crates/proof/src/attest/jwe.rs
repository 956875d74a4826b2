//! One kind of encrypted object (RFC 7516 section 7.1): A256KW around A256GCM, compact, and no other.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrap as _};
use base::Secret;
use zeroize::Zeroizing;

use crate::jose::json::{self, JsonError, Limits};
use crate::jose::{JsonObject, base64url_decode};

/// Bytes of a key that is wrapped: the key and eight more (RFC 3394 section 2.2.1).
const WRAPPED_LEN: usize = 40;

const TAG_LEN: usize = 16;

/// Why a text is not an encrypted object of this kind, or cannot be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JweError {
    /// Longer than the limit.
    #[error("the token is too long")]
    TooLong,
    /// Not five parts in base64url, or a part has the wrong length.
    #[error("the token is not five base64url parts joined by dots")]
    NotCompact,
    /// The header is not an acceptable JSON object.
    #[error("the token's header is refused: {0}")]
    Header(JsonError),
    /// Another algorithm than A256KW with A256GCM.
    #[error("the token is not encrypted with A256KW and A256GCM")]
    Algorithm,
    /// `zip`: the content is compressed.
    #[error("compressed tokens are not accepted")]
    Compressed,
    /// `crit`: the token demands an extension.
    #[error("the token demands an extension that is not supported")]
    Crit,
    /// Encrypted for another key, or changed.
    #[error("the token was encrypted for another key, or changed")]
    Decrypt,
}

impl JweError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "token_too_long",
            Self::NotCompact => "not_compact_jwe",
            Self::Header(error) => error.reason(),
            Self::Algorithm => "jwe_algorithm",
            Self::Compressed => "jwe_compressed",
            Self::Crit => "crit_unsupported",
            Self::Decrypt => "jwe_decrypt",
        }
    }
}

/// Open a token of at most `most` bytes.
pub fn open(token: &str, key: &Secret<[u8; 32]>, most: usize) -> Result<Zeroizing<Vec<u8>>, JweError> {
    if token.len() > most {
        return Err(JweError::TooLong);
    }
    let parts: Vec<&str> = token.splitn(6, '.').collect();
    let [header, wrapped, iv, content, tag] = parts.as_slice() else { return Err(JweError::NotCompact) };
    let decode = |part: &str| base64url_decode(part).ok_or(JweError::NotCompact);
    check_header(&json::object(&decode(header)?, Limits::HEADER).map_err(JweError::Header)?)?;
    let (wrapped, iv) = (decode(wrapped)?, decode(iv)?);
    let mut sealed = Zeroizing::new(decode(content)?);
    let tag = decode(tag)?;
    if wrapped.len() != WRAPPED_LEN || iv.len() != NONCE_LEN || tag.len() != TAG_LEN {
        return Err(JweError::NotCompact);
    }
    sealed.extend_from_slice(&tag);
    let mut content_key = Zeroizing::new([0u8; WRAPPED_LEN]);
    let kek = AesKek::new(&AES_256, key.expose()).map_err(|_| JweError::Decrypt)?;
    let content_key = kek.unwrap(&wrapped, content_key.as_mut_slice()).map_err(|_| JweError::Decrypt)?;
    let content_key = UnboundKey::new(&AES_256_GCM, content_key).map_err(|_| JweError::Decrypt)?;
    let nonce = Nonce::try_assume_unique_for_key(&iv).map_err(|_| JweError::NotCompact)?;
    let opened = LessSafeKey::new(content_key).open_in_place(nonce, Aad::from(header.as_bytes()), &mut sealed);
    let len = opened.map_err(|_| JweError::Decrypt)?.len();
    sealed.truncate(len);
    Ok(sealed)
}

fn check_header(header: &JsonObject) -> Result<(), JweError> {
    if header.contains_key("zip") {
        return Err(JweError::Compressed);
    }
    if header.contains_key("crit") {
        return Err(JweError::Crit);
    }
    let is = |name: &str, wanted: &str| header.get(name).and_then(|value| value.as_str()) == Some(wanted);
    if is("alg", "A256KW") && is("enc", "A256GCM") { Ok(()) } else { Err(JweError::Algorithm) }
}
