//! Authenticator data (Web Authentication section 6.1). Here, unlike with App Attest, the flag bits say what follows.

use super::{CredentialKey, WebAuthnError};
use crate::attest::cbor::{self, Limits};

const COSE: Limits = Limits { bytes: super::MAX_ATTESTATION_LEN, depth: 4, items: 32, shortest: false };
const EXTENSIONS: Limits = Limits { bytes: 4 << 10, depth: 8, items: 128, shortest: false };

/// The longest identifier of a credential (section 7.1 step 25).
const MAX_ID_LEN: usize = 1023;

/// A flag bit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Flag {
    UserPresent = 0x01,
    UserVerified = 0x04,
    BackupEligible = 0x08,
    BackedUp = 0x10,
    Attested = 0x40,
    Extensions = 0x80,
}

/// A new credential.
pub(super) struct Attested<'a> {
    pub(super) id: &'a [u8],
    pub(super) key: CredentialKey,
}

pub(super) struct AuthData<'a> {
    pub(super) rp_id_hash: [u8; 32],
    flags: u8,
    pub(super) counter: u32,
    pub(super) attested: Option<Attested<'a>>,
}

impl<'a> AuthData<'a> {
    /// All of `bytes`: what the flags do not announce must not be there.
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, WebAuthnError> {
        let fixed = || {
            let (rp_id_hash, rest) = bytes.split_first_chunk::<32>()?;
            let (flags, rest) = rest.split_first()?;
            let (counter, rest) = rest.split_first_chunk::<4>()?;
            let counter = u32::from_be_bytes(*counter);
            Some((Self { rp_id_hash: *rp_id_hash, flags: *flags, counter, attested: None }, rest))
        };
        let (mut auth_data, mut rest) = fixed().ok_or(WebAuthnError::AuthData)?;
        if auth_data.is(Flag::Attested) {
            let (attested, after) = Attested::parse(rest)?;
            auth_data.attested = Some(attested);
            rest = after;
        }
        if auth_data.is(Flag::Extensions) {
            let extensions = cbor::read(rest, EXTENSIONS).map_err(|_| WebAuthnError::AuthData)?;
            extensions.map().ok_or(WebAuthnError::AuthData)?;
            rest = &[];
        }
        if rest.is_empty() { Ok(auth_data) } else { Err(WebAuthnError::AuthData) }
    }

    pub(super) const fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u8 != 0
    }
}

impl<'a> Attested<'a> {
    /// Attested credential data (section 6.5.1), and what follows it.
    fn parse(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), WebAuthnError> {
        let split = || {
            let (_aaguid, rest) = bytes.split_first_chunk::<16>()?;
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let length = usize::from(u16::from_be_bytes(*length));
            rest.split_at_checked(length).filter(|(id, _)| (1..=MAX_ID_LEN).contains(&id.len()))
        };
        let (id, rest) = split().ok_or(WebAuthnError::AuthData)?;
        let (key, after) = cbor::read_prefix(rest, COSE).map_err(|_| WebAuthnError::AuthData)?;
        let key = key.map().and_then(CredentialKey::from_cose).ok_or(WebAuthnError::Key)?;
        Ok((Self { id, key }, after))
    }
}
