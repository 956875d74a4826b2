//! Nonces that need no storage: signed, dated, and bound to an app and a key. Only those that were used are kept, until they
//! end.

use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use base::{Rng, Timestamp};
use proof::jose::{base64url_decode, base64url_encode};
use vault::{HashPurpose, Vault};

/// How long a nonce of a challenge counts.
pub(crate) const CHALLENGE: Duration = Duration::from_mins(2);

/// Length of kind, end, randomness and code.
const LEN: usize = 1 + 8 + 16 + 16;

/// Why a nonce does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NonceError {
    /// Not one of ours, or given to another app or key.
    #[error("the nonce is not one that was given to this app and key")]
    Unknown,
    /// It has ended.
    #[error("the nonce has ended")]
    Expired,
}

impl NonceError {
    /// A stable code.
    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Unknown => "nonce_unknown",
            Self::Expired => "nonce_expired",
        }
    }
}

/// A nonce for an app and the thumbprint of a key, which is empty where the key is still to be made. Counts until `until`.
pub(crate) fn mint((vault, rng): (&Vault, &dyn Rng), app: &str, jkt: &str, until: Timestamp) -> String {
    let mut random = [0u8; 16];
    rng.fill(&mut random);
    let body = [&[1][..], &until.as_millis().to_be_bytes(), &random].concat();
    let code = vault.keyed_hash(HashPurpose::AttestNonce, &message(&body, app, jkt));
    base64url_encode([&body[..], code.get(..16).unwrap_or_default()].concat())
}

/// Until when a nonce counts, if it does now.
pub(crate) fn check(
    vault: &Vault,
    nonce: &str,
    (app, jkt): (&str, &str),
    now: Timestamp,
) -> Result<Timestamp, NonceError> {
    let bytes = base64url_decode(nonce).filter(|bytes| bytes.len() == LEN).ok_or(NonceError::Unknown)?;
    let (body, code) = bytes.split_at_checked(LEN - 16).ok_or(NonceError::Unknown)?;
    let message = message(body, app, jkt);
    // The key before the last one too: a rotation must not refuse what was given a moment ago.
    let fits = |hash: &[u8; 32]| hash.get(..16).is_some_and(|own| verify_slices_are_equal(own, code).is_ok());
    if !vault.keyed_hashes(HashPurpose::AttestNonce, &message).iter().any(fits) || body.first() != Some(&1) {
        return Err(NonceError::Unknown);
    }
    let until = body.get(1..9).and_then(|millis| millis.try_into().ok()).map(i64::from_be_bytes);
    let until = Timestamp::from_millis(until.ok_or(NonceError::Unknown)?);
    if now < until { Ok(until) } else { Err(NonceError::Expired) }
}

/// What is signed: each part with its length before it.
fn message(body: &[u8], app: &str, jkt: &str) -> Vec<u8> {
    let mut message = body.to_vec();
    for part in [app, jkt] {
        message.extend((part.len() as u64).to_be_bytes());
        message.extend(part.as_bytes());
    }
    message
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::SeededRng;
    use vault::MasterKey;

    use super::*;

    fn vault(seed: u64) -> Vault {
        let rng = Arc::new(SeededRng::new(seed));
        Vault::new(MasterKey::generate(&*rng).unwrap(), rng).unwrap()
    }

    #[test]
    fn a_nonce_counts_for_one_app_and_key_until_it_ends() {
        let (vault, other, rng) = (vault(1), vault(2), SeededRng::new(3));
        let (now, until) = (Timestamp::from_secs(100), Timestamp::from_secs(220));
        let nonce = mint((&vault, &rng), "chat", "key", until);
        assert_eq!(check(&vault, &nonce, ("chat", "key"), now), Ok(until));
        assert_eq!(check(&vault, &nonce, ("chat", "key"), until), Err(NonceError::Expired));
        for (app, jkt) in [("chat", ""), ("chat", "other"), ("chatk", "ey"), ("other", "key")] {
            assert_eq!(check(&vault, &nonce, (app, jkt), now), Err(NonceError::Unknown), "{app} {jkt}");
        }
        assert_eq!(check(&other, &nonce, ("chat", "key"), now), Err(NonceError::Unknown));
        assert_ne!(nonce, mint((&vault, &rng), "chat", "key", until), "no two are the same");
    }

    #[test]
    fn a_nonce_with_any_bit_changed_is_not_ours() {
        let (vault, rng) = (vault(1), SeededRng::new(3));
        let nonce = mint((&vault, &rng), "chat", "", Timestamp::from_secs(220));
        let bytes = base64url_decode(&nonce).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let changed = base64url_encode(changed);
            assert_eq!(
                check(&vault, &changed, ("chat", ""), Timestamp::from_secs(1)),
                Err(NonceError::Unknown),
                "{bit}"
            );
        }
        for other in ["", "AAAA", "not base64!", &nonce[1..]] {
            assert_eq!(check(&vault, other, ("chat", ""), Timestamp::from_secs(1)), Err(NonceError::Unknown));
        }
    }
}
