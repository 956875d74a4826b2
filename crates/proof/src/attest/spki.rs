//! A public key as consoles and tokens hand it out: `SubjectPublicKeyInfo` in base64.

use std::sync::Arc;

use crate::jose::{Alg, KeySet, VerifyingKey};

/// A key on P-256, or nothing.
pub(super) fn p256(base64: &str) -> Option<Arc<VerifyingKey>> {
    let body: String = base64.split_ascii_whitespace().collect();
    if body.len() > 1024 {
        return None;
    }
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let set = KeySet::from_issuer_file(pem.as_bytes()).ok()?;
    match set.keys() {
        [key] if key.bind(&[Alg::Es256]).is_some() => Some(Arc::clone(key)),
        _ => None,
    }
}
