//! Assertions we sign for others, with a key they gave us (RFC 7523 section 2.1): a service account's.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base::Secret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::json;
use zeroize::Zeroize as _;

use super::SignError;
use super::base64url;

/// An RSA key that signs assertions with RS256 (RFC 7518 section 3.3).
pub struct AssertionKey {
    pair: RsaKeyPair,
    kid: Option<String>,
}

impl AssertionKey {
    /// From PKCS#8 in PEM (RFC 7468 section 10), with the id the other side knows the key by.
    pub fn from_pem(pem: &str, kid: Option<&str>) -> Result<Self, SignError> {
        const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
        const END: &str = "-----END PRIVATE KEY-----";
        let (_, after) = pem.split_once(BEGIN).ok_or(SignError::Pkcs8)?;
        let (body, _) = after.split_once(END).ok_or(SignError::Pkcs8)?;
        let mut text: Vec<u8> = body.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
        let der = STANDARD.decode(&text).map(Secret::new);
        text.zeroize();
        let der = der.map_err(|_| SignError::Pkcs8)?;
        let pair = RsaKeyPair::from_pkcs8(der.expose()).map_err(|_| SignError::Pkcs8)?;
        Ok(Self { pair, kid: kid.map(str::to_owned) })
    }

    /// A claims set, signed, as a compact JWT.
    pub fn sign(&self, claims: &impl Serialize) -> Result<Secret<String>, SignError> {
        let mut header = json!({"alg": "RS256", "typ": "JWT"});
        if let (Some(header), Some(kid)) = (header.as_object_mut(), &self.kid) {
            header.insert("kid".to_owned(), kid.as_str().into());
        }
        let claims = serde_json::to_vec(claims).map_err(|_| SignError::Claims)?;
        let input = format!("{}.{}", base64url::encode(header.to_string()), base64url::encode(claims));
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), input.as_bytes(), &mut signature)
            .map_err(|_| SignError::Library)?;
        Ok(Secret::new(format!("{input}.{}", base64url::encode(signature))))
    }
}

impl std::fmt::Debug for AssertionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AssertionKey").field("kid", &self.kid).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_private_key_is_refused() {
        for pem in [
            "",
            "-----BEGIN PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\n!!\n-----END PRIVATE KEY-----",
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----",
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
        ] {
            assert!(matches!(AssertionKey::from_pem(pem, None), Err(SignError::Pkcs8)), "{pem}");
        }
    }
}
