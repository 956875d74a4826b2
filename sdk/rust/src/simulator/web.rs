//! A browser: proof of work, or its user's passkey.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::certificate::{Curve, Key};
use super::{cbor, lock};
use crate::altcha;
use crate::attester::{AttestError, Attestation, Attester, Platform, Request, StepUp};
use crate::signer::{PublicJwk, Signer, SoftwareKey, base64url, sha256};

/// A browser that does the work it is asked for, or has its user touch a passkey.
#[derive(Debug, Default)]
pub struct Browser {
    keys: Mutex<Vec<Arc<SoftwareKey>>>,
    /// What its user has.
    pub passkey: Option<Passkey>,
    /// What the page says of its surroundings.
    pub reported: Vec<String>,
}

impl Browser {
    /// One whose user has this passkey.
    pub fn with_passkey(passkey: Passkey) -> Self {
        Self { passkey: Some(passkey), ..Self::default() }
    }
}

impl Attester for Browser {
    fn platform(&self) -> Platform {
        Platform::Web
    }

    fn reported(&self) -> Vec<String> {
        self.reported.clone()
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        let key = Arc::new(SoftwareKey::generate()?);
        lock(&self.keys).push(Arc::clone(&key));
        Ok(Some(key))
    }

    fn attest(&self, request: &Request<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        let signer = key.ok_or(AttestError::KeyGone)?;
        if let Some(passkey) = &self.passkey {
            let [client_data, attestation] = passkey.create(&sha256(request.client_data))?.map(base64url);
            let evidence = json!({"type": "webauthn", "client_data": client_data, "attestation": attestation});
            return Ok(Attestation { evidence, signer });
        }
        let asked = request.challenge.get("altcha").ok_or(AttestError::NotAccepted)?;
        let payload = altcha::solve(asked).map_err(|_| AttestError::NotAccepted)?;
        Ok(Attestation { evidence: json!({"type": "altcha", "payload": payload}), signer })
    }

    fn step_up(&self, asked: &StepUp<'_>) -> Result<Option<Value>, AttestError> {
        match &self.passkey {
            Some(passkey) if asked.kinds.iter().any(|kind| kind == "webauthn") => {
                passkey.shown(asked.client_data).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn key(&self, public: &PublicJwk) -> Option<Arc<dyn Signer>> {
        let found = lock(&self.keys).iter().find(|key| key.public_jwk() == *public).cloned()?;
        Some(found)
    }
}

/// A passkey of a site (W3C Web Authentication), in the hands of its user.
#[derive(Debug)]
pub struct Passkey {
    key: Key,
    id: [u8; 16],
    /// The relying party's identifier: a domain.
    rp_id: String,
    origin: String,
    /// Whether the user shows a PIN or a finger.
    pub user_verified: bool,
    counter: AtomicU32,
}

/// Present, and a key that is attested.
const PRESENT: u8 = 0x01;
const VERIFIED: u8 = 0x04;
const ATTESTED: u8 = 0x40;

impl Passkey {
    /// A new passkey for the site `rp_id`, used from pages of `origin`.
    pub fn new(rp_id: &str, origin: &str) -> Result<Self, AttestError> {
        let mut id = [0; 16];
        aws_lc_rs::rand::fill(&mut id).map_err(|_| AttestError::Unavailable)?;
        let (rp_id, origin) = (rp_id.to_owned(), origin.to_owned());
        let key = Key::generate(Curve::P256)?;
        Ok(Self { key, id, rp_id, origin, user_verified: true, counter: AtomicU32::new(0) })
    }

    /// Somebody else's copy of it, with the counter as it is now. No authenticator that counts gives its keys away.
    pub fn copied(&self) -> Self {
        Self {
            key: self.key.clone(),
            id: self.id,
            rp_id: self.rp_id.clone(),
            origin: self.origin.clone(),
            user_verified: self.user_verified,
            counter: AtomicU32::new(self.counter.load(Ordering::Relaxed)),
        }
    }

    /// What is shown of it besides evidence, over the client data of a request.
    pub fn shown(&self, client_data: &[u8]) -> Result<Value, AttestError> {
        let [client_data, authenticator_data, signature] = self.get(&sha256(client_data))?.map(base64url);
        Ok(json!({"type": "webauthn", "client_data": client_data, "authenticator_data": authenticator_data,
                  "signature": signature}))
    }

    /// `navigator.credentials.create` with attestation `none`: `clientDataJSON` and `attestationObject`.
    pub fn create(&self, challenge: &[u8]) -> Result<[Vec<u8>; 2], AttestError> {
        let key = cbor::cose_key(&self.key.point()?);
        let head = self.head(ATTESTED, 0);
        let auth_data = [&head[..], &[0; 16], &[0, 16], &self.id, &key].concat();
        let object = cbor::map(&[
            ("fmt", cbor::text("none")),
            ("attStmt", cbor::map(&[])),
            ("authData", cbor::bytes(&auth_data)),
        ]);
        Ok([self.client_data("webauthn.create", challenge), object])
    }

    /// `navigator.credentials.get`: `clientDataJSON`, `authenticatorData` and `signature`.
    pub fn get(&self, challenge: &[u8]) -> Result<[Vec<u8>; 3], AttestError> {
        let client_data = self.client_data("webauthn.get", challenge);
        let counter = self.counter.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let auth_data = self.head(0, counter);
        let signature = self.key.sign(&[auth_data.as_slice(), &sha256(&client_data)].concat())?;
        Ok([client_data, auth_data, signature])
    }

    fn client_data(&self, ceremony: &str, challenge: &[u8]) -> Vec<u8> {
        let members = json!({"type": ceremony, "challenge": base64url(challenge), "origin": self.origin,
                             "crossOrigin": false});
        Value::to_string(&members).into_bytes()
    }

    fn head(&self, flags: u8, counter: u32) -> Vec<u8> {
        let flags = flags | PRESENT | if self.user_verified { VERIFIED } else { 0 };
        [&sha256(self.rp_id.as_bytes())[..], &[flags], &counter.to_be_bytes()].concat()
    }
}
