//! Sealed secrets. What the store keeps is ciphertext; the master key stays outside it, in a file.
//!
//! Envelope encryption: every sealed value has its own random data key, which is wrapped under a key derived
//! (HKDF-SHA256, RFC 5869) from the master key for that [`Purpose`]. Both layers are AES-256-GCM
//! (NIST SP 800-38D) with random 96-bit nonces, and both authenticate the [`Label`]: whose value it is, what it
//! is for, its name, its version and the origin it may be sent to. A value moved to another row, field, version
//! or origin does not open.
//!
//! A [`Vault`] holds one or more master keys: it seals with the newest and opens with any, so that a key can be
//! rotated while older values wait to be sealed anew. Hashes of credentials cannot be made anew: of a master key that is gone
//! what hashed them is kept, sealed under a newer one ([`Vault::hash_keys`]). Hashes that are compared with later ones are made
//! with a key of their own, which stays the same ([`Vault::lasting_key`]).

mod label;
mod master;
mod ring;
mod sealed;
mod stream;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base::{Rng, Secret, Tenant, Who};
use zeroize::Zeroizing;

use self::ring::{HashKeys, Ring};
pub use label::{HashPurpose, Label, Purpose};
pub use master::{KeyFileError, KeyId, MasterKey};
pub use sealed::{MAX_PLAINTEXT, Sealed};
pub use stream::{PIECE, StreamOpener, StreamSealer};

/// How many values one master key may seal: with random 96-bit nonces the chance of a repeated one stays under
/// 2^-32 up to 2^32 uses (NIST SP 800-38D section 8.3).
const MAX_SEALS: u64 = 1 << 32;

/// The inner layer of one sealed value, ready: the value itself stays sealed. The library wipes the key when it goes. Whoever can
/// read it in memory could read what opens it there, too.
pub struct DataKey {
    key: LessSafeKey,
    body_data: Vec<u8>,
}

impl DataKey {
    /// Open the value whose data key this is.
    pub fn open(&self, sealed: &Sealed) -> Result<Secret<Vec<u8>>, VaultError> {
        let parts = sealed.parts()?;
        decrypt(&self.key, parts.body_nonce, &self.body_data, parts.body)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey")
    }
}

/// Why a value could not be sealed or opened. Never says what the value was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The bytes are not a sealed value: damaged, cut, or written by a newer version.
    #[error("this is not a sealed value: {0}")]
    Malformed(&'static str),
    /// Sealed under a master key that this vault does not hold.
    #[error(
        "the value was sealed with master key {0}, which is not the key in use; start with the key file it was sealed with"
    )]
    WrongKey(KeyId),
    /// The right master key, but the value was altered or belongs to another tenant, purpose, name, version or origin.
    #[error("the sealed value was altered, or belongs to another name, version or origin")]
    Altered,
    /// The plaintext is over [`MAX_PLAINTEXT`] bytes.
    #[error("a sealed value holds at most 65536 bytes")]
    TooLong,
    /// The newest master key has sealed as much as it may.
    #[error("master key {0} has sealed 2^32 values; a new master key is needed")]
    Exhausted(KeyId),
    /// The cryptographic library refused; never expected.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl VaultError {
    /// A short stable code for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "sealed_malformed",
            Self::WrongKey(_) => "vault_wrong_key",
            Self::Altered => "sealed_altered",
            Self::TooLong => "secret_too_long",
            Self::Exhausted(_) => "vault_key_exhausted",
            Self::Crypto => "vault_crypto",
        }
    }

    /// Whose fault it is.
    pub const fn who(&self) -> Who {
        match self {
            Self::TooLong => Who::Client,
            _ => Who::Us,
        }
    }

    /// Whether the same call may succeed later: never, these are states, not accidents.
    pub const fn retryable(&self) -> bool {
        false
    }
}

/// Seals and opens values, and computes keyed hashes. Share it behind an `Arc`.
pub struct Vault {
    ring: ArcSwap<Ring>,
    rng: Arc<dyn Rng>,
    seals: AtomicU64,
}

impl Vault {
    /// A vault with one master key.
    #[allow(clippy::needless_pass_by_value)] // taken, so that it is wiped once the keys are derived
    pub fn new(master: MasterKey, rng: Arc<dyn Rng>) -> Result<Self, VaultError> {
        Self::with_older(master, Vec::new(), rng)
    }

    /// A vault that seals with `newest` and also opens what the `older` master keys sealed.
    #[allow(clippy::needless_pass_by_value)] // taken, so that they are wiped once the keys are derived
    pub fn with_older(newest: MasterKey, older: Vec<MasterKey>, rng: Arc<dyn Rng>) -> Result<Self, VaultError> {
        Ok(Self { ring: ArcSwap::from_pointee(Ring::new(&newest, &older)?), rng, seals: AtomicU64::new(0) })
    }

    /// Seal with `newest` from now on. Everything held before goes on opening what it sealed, for as long as this process
    /// lives.
    #[allow(clippy::needless_pass_by_value)] // taken, so that they are wiped once the keys are derived
    pub fn adopt(&self, newest: MasterKey, older: Vec<MasterKey>) -> Result<(), VaultError> {
        let ring = Ring::new(&newest, &older)?;
        if newest.id() != self.key_id() {
            self.seals.store(0, Ordering::Relaxed);
        }
        let before = self.ring.load_full();
        self.ring.store(Arc::new(ring.keeping(&before)));
        Ok(())
    }

    /// What hashes under the master key `id`, sealed with the newest: to be kept for when that key is gone. `None` if it is
    /// not held.
    pub fn hash_keys(&self, tenant: &Tenant, id: KeyId) -> Result<Option<Sealed>, VaultError> {
        let ring = self.ring.load();
        let Some(keys) = ring.keys(id) else { return Ok(None) };
        let name = id.to_string();
        self.seal(&Label::new(tenant, Purpose::HashKeys, &name, 1), keys.hash.written().expose()).map(Some)
    }

    /// Know credentials again that were hashed under the master key `id`, of what [`Vault::hash_keys`] gave.
    pub fn remember(&self, tenant: &Tenant, id: KeyId, sealed: &Sealed) -> Result<(), VaultError> {
        let name = id.to_string();
        let written = self.open(&Label::new(tenant, Purpose::HashKeys, &name, 1), sealed)?;
        let keys = HashKeys::read(written.expose())?;
        if keys.id != id {
            return Err(VaultError::Altered);
        }
        let ring = self.ring.load().with_retired(keys);
        self.ring.store(Arc::new(ring));
        Ok(())
    }

    /// A new key for hashes that outlast master keys ([`HashPurpose::lasts`]), sealed with the newest: to be kept, and given to
    /// [`Vault::take_lasting`] at each start.
    pub fn lasting_key(&self, tenant: &Tenant) -> Result<Sealed, VaultError> {
        let seed = MasterKey::generate(&*self.rng)?;
        self.seal(&lasting_label(tenant), seed.bytes())
    }

    /// Make hashes that outlast master keys with what [`Vault::lasting_key`] gave. Those that were made before, under a master
    /// key, are known still.
    pub fn take_lasting(&self, tenant: &Tenant, sealed: &Sealed) -> Result<(), VaultError> {
        let opened = self.open(&lasting_label(tenant), sealed)?;
        let (seed, more) =
            opened.expose().split_first_chunk::<32>().ok_or(VaultError::Malformed("this is no lasting hash key"))?;
        if !more.is_empty() {
            return Err(VaultError::Malformed("this is no lasting hash key"));
        }
        let lasting = HashKeys::of(&MasterKey::from_bytes(seed)?)?;
        let ring = self.ring.load().with_lasting(lasting);
        self.ring.store(Arc::new(ring));
        Ok(())
    }

    /// What [`Vault::lasting_key`] gave, sealed with the newest master key.
    pub fn lasting_anew(&self, tenant: &Tenant, sealed: &Sealed) -> Result<Sealed, VaultError> {
        let label = lasting_label(tenant);
        self.seal(&label, self.open(&label, sealed)?.expose())
    }

    /// Derive what nodes share ([`HashPurpose::Shared`]) from the master key `id` from now on, whichever is the newest: all nodes
    /// have to name the same. The newest at the time this vault was made, if nothing is said.
    pub fn agree_on(&self, id: KeyId) {
        let ring = self.ring.load().with_anchor(id);
        self.ring.store(Arc::new(ring));
    }

    /// The id of the master key that seals: what the store remembers, to refuse a start with the wrong key.
    pub fn key_id(&self) -> KeyId {
        self.ring.load().newest.id
    }

    /// The ids of the master keys held besides the one that seals.
    pub fn older_ids(&self) -> Vec<KeyId> {
        self.ring.load().older.iter().map(|keys| keys.id).collect()
    }

    /// Whether a value sealed under the master key `id` can be opened.
    pub fn holds(&self, id: KeyId) -> bool {
        self.ring.load().keys(id).is_some()
    }

    /// How many values this process has sealed. Secrets and signing keys leave a row each; what the token service seals
    /// for minutes does not, and comes to far less than [`MAX_SEALS`] over a key's life: 100 in each second of a year.
    pub fn seals(&self) -> u64 {
        self.seals.load(Ordering::Relaxed)
    }

    /// Seal `plaintext` (at most [`MAX_PLAINTEXT`] bytes) so that it opens only under the same `label`.
    pub fn seal(&self, label: &Label<'_>, plaintext: &[u8]) -> Result<Sealed, VaultError> {
        if plaintext.len() > MAX_PLAINTEXT {
            return Err(VaultError::TooLong);
        }
        let ring = self.ring.load();
        let id = ring.newest.id;
        if self.seals.fetch_add(1, Ordering::Relaxed) >= MAX_SEALS {
            return Err(VaultError::Exhausted(id));
        }
        let mut data_key = Zeroizing::new([0u8; 32]);
        let (mut wrap_nonce, mut body_nonce) = ([0u8; NONCE_LEN], [0u8; NONCE_LEN]);
        self.rng.fill(data_key.as_mut());
        self.rng.fill(&mut wrap_nonce);
        self.rng.fill(&mut body_nonce);

        let wrapping = ring.newest.wrapping(label.purpose)?;
        let wrapped = encrypt(wrapping, wrap_nonce, &label.wrap_data(id), data_key.as_ref())?;
        let body = encrypt(&aes(data_key.as_ref())?, body_nonce, &label.body_data(id), plaintext)?;
        Ok(Sealed::assemble(id, &wrap_nonce, &wrapped, &body_nonce, &body))
    }

    /// Open a value that was sealed under the same `label`.
    pub fn open(&self, label: &Label<'_>, sealed: &Sealed) -> Result<Secret<Vec<u8>>, VaultError> {
        self.data_key(label, sealed)?.open(sealed)
    }

    /// The data key of a value that was sealed under the same `label`: for a value that is opened again and again.
    pub fn data_key(&self, label: &Label<'_>, sealed: &Sealed) -> Result<DataKey, VaultError> {
        let parts = sealed.parts()?;
        let ring = self.ring.load();
        let keys = ring.keys(parts.key_id).ok_or(VaultError::WrongKey(parts.key_id))?;
        let wrapping = keys.wrapping(label.purpose)?;
        let data_key = decrypt(wrapping, parts.wrap_nonce, &label.wrap_data(parts.key_id), parts.wrapped)?;
        Ok(DataKey { key: aes(data_key.expose())?, body_data: label.body_data(parts.key_id) })
    }

    /// HMAC-SHA256 (RFC 2104) of `bytes` under a key derived for `purpose` from the newest master key, or from the key that
    /// outlasts it ([`HashPurpose::lasts`]): how a high-entropy credential is stored. Without the master key a stolen database is not even a list to guess against.
    pub fn keyed_hash(&self, purpose: HashPurpose, bytes: &[u8]) -> [u8; 32] {
        let ring = self.ring.load();
        let anchored = ring.hashing().find(|keys| purpose == HashPurpose::Shared && keys.id == ring.anchor);
        let first = || ring.hashing_for(purpose).next();
        let keys = anchored.or_else(first).unwrap_or(&ring.newest.hash);
        // The newest has all purposes.
        keys.hash(purpose, bytes).or_else(|| ring.newest.hash.hash(purpose, bytes)).unwrap_or_default()
    }

    /// [`Vault::keyed_hash`] under every master key held or remembered, newest first: what to look a credential up by.
    pub fn keyed_hashes(&self, purpose: HashPurpose, bytes: &[u8]) -> Vec<[u8; 32]> {
        self.ring.load().hashing_for(purpose).filter_map(|keys| keys.hash(purpose, bytes)).collect()
    }

    /// Whether `expected` is the keyed hash of `bytes` under any master key held or remembered. Takes the same time whichever
    /// it is.
    pub fn matches(&self, purpose: HashPurpose, bytes: &[u8], expected: &[u8]) -> bool {
        let ring = self.ring.load();
        let keys = ring.hashing_for(purpose).filter_map(|keys| keys.key(purpose));
        keys.fold(false, |found, key| found | hmac::verify(key, bytes, expected).is_ok())
    }

    /// Tells two values apart without showing either: 16 hexadecimal digits of their keyed hash.
    pub fn fingerprint(&self, bytes: &[u8]) -> String {
        hex(self.keyed_hash(HashPurpose::Fingerprint, bytes).iter().take(8))
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ring = self.ring.load();
        f.debug_struct("Vault")
            .field("key_id", &ring.newest.id)
            .field("older", &ring.older.len())
            .finish_non_exhaustive()
    }
}

const fn lasting_label(tenant: &Tenant) -> Label<'_> {
    Label::new(tenant, Purpose::LastingHashKey, "lasting", 1)
}

fn aes(key: &[u8]) -> Result<LessSafeKey, VaultError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| VaultError::Crypto)
}

fn encrypt(key: &LessSafeKey, nonce: [u8; NONCE_LEN], aad: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, VaultError> {
    // Room for the tag from the start: growing would leave a copy of the plaintext behind.
    let mut buffer = Vec::with_capacity(plaintext.len() + AES_256_GCM.tag_len());
    buffer.extend_from_slice(plaintext);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer)
        .map_err(|_| VaultError::Crypto)?;
    Ok(buffer)
}

fn decrypt(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    aad: &[u8],
    ciphertext: &[u8],
) -> Result<Secret<Vec<u8>>, VaultError> {
    let mut buffer = Zeroizing::new(ciphertext.to_vec());
    let length = key
        .open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut buffer)
        .map_err(|_| VaultError::Altered)?
        .len();
    // The plaintext stands where the ciphertext did, from its beginning.
    buffer.truncate(length);
    Ok(Secret::new(std::mem::take(&mut *buffer)))
}

fn hex<'a>(bytes: impl Iterator<Item = &'a u8>) -> String {
    bytes.fold(String::new(), |mut text, byte| {
        for digit in [byte >> 4, byte & 15] {
            text.extend(char::from_digit(u32::from(digit), 16));
        }
        text
    })
}
