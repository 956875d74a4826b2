//! The master keys a vault holds, and everything derived from them.

use std::sync::Arc;

use aws_lc_rs::aead::LessSafeKey;
use aws_lc_rs::hmac;
use base::Secret;
use zeroize::Zeroizing;

use crate::{HashPurpose, KeyId, MasterKey, Purpose, VaultError, aes};

/// The keys held at one moment.
#[derive(Clone)]
pub(crate) struct Ring {
    /// Seals.
    pub(crate) newest: Arc<Keys>,
    /// Open what they sealed. Newest first, as far as is known.
    pub(crate) older: Vec<Arc<Keys>>,
    /// Master keys that are gone, of which only the keyed hashes are known.
    pub(crate) retired: Vec<Arc<HashKeys>>,
    /// By whose keyed hash nodes agree on what they share: the first this installation had.
    pub(crate) anchor: KeyId,
    /// What hashes that outlast master keys are made with, once it is known.
    pub(crate) lasting: Option<Arc<HashKeys>>,
}

impl Ring {
    pub(crate) fn new(newest: &MasterKey, older: &[MasterKey]) -> Result<Self, VaultError> {
        let older = older.iter().map(|key| Keys::derive(key).map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        let newest = Arc::new(Keys::derive(newest)?);
        Ok(Self { anchor: newest.id, newest, older, retired: Vec::new(), lasting: None })
    }

    /// This one, with everything that `before` held: what was sealed by it in this process goes on opening.
    pub(crate) fn keeping(mut self, before: &Self) -> Self {
        for keys in std::iter::once(&before.newest).chain(&before.older) {
            if self.keys(keys.id).is_none() {
                self.older.push(Arc::clone(keys));
            }
        }
        self.retired.clone_from(&before.retired);
        self.anchor = before.anchor;
        self.lasting.clone_from(&before.lasting);
        self
    }

    pub(crate) fn with_retired(&self, retired: HashKeys) -> Self {
        let mut ring = self.clone();
        if !ring.retired.iter().any(|keys| keys.id == retired.id) {
            ring.retired.push(Arc::new(retired));
        }
        ring
    }

    pub(crate) fn with_anchor(&self, anchor: KeyId) -> Self {
        Self { anchor, ..self.clone() }
    }

    pub(crate) fn with_lasting(&self, lasting: HashKeys) -> Self {
        Self { lasting: Some(Arc::new(lasting)), ..self.clone() }
    }

    pub(crate) fn keys(&self, id: KeyId) -> Option<&Arc<Keys>> {
        std::iter::once(&self.newest).chain(&self.older).find(|keys| keys.id == id)
    }

    /// What hashes, newest first; each master key once.
    pub(crate) fn hashing(&self) -> impl Iterator<Item = &HashKeys> {
        let held = std::iter::once(&self.newest).chain(&self.older).map(|keys| &keys.hash);
        let gone = self.retired.iter().map(AsRef::as_ref);
        held.chain(gone.filter(|gone| self.keys(gone.id).is_none()))
    }

    /// What hashes for `purpose`, in the order to look things up in: what is to last first, as far as it is known.
    pub(crate) fn hashing_for(&self, purpose: HashPurpose) -> impl Iterator<Item = &HashKeys> {
        self.lasting.as_deref().filter(|_| purpose.lasts()).into_iter().chain(self.hashing())
    }
}

/// Everything derived from one master key. The library wipes each key when it goes.
pub(crate) struct Keys {
    pub(crate) id: KeyId,
    /// In the order of [`Purpose::ALL`].
    wrapping: Vec<LessSafeKey>,
    pub(crate) hash: HashKeys,
}

impl Keys {
    fn derive(master: &MasterKey) -> Result<Self, VaultError> {
        let wrapping = Purpose::ALL.iter().map(|purpose| aes(master.derive("wrap", purpose.as_str())?.as_ref()));
        Ok(Self { id: master.id(), wrapping: wrapping.collect::<Result<_, _>>()?, hash: HashKeys::of(master)? })
    }

    pub(crate) fn wrapping(&self, purpose: Purpose) -> Result<&LessSafeKey, VaultError> {
        self.wrapping.get(purpose as usize).ok_or(VaultError::Crypto)
    }
}

/// What of a master key hashes credentials: all that has to be kept of one that seals nothing any more, since who has a
/// credential is known by its hash alone.
pub(crate) struct HashKeys {
    pub(crate) id: KeyId,
    /// In the order of [`HashPurpose::ALL`], as far as there were purposes when it was written down.
    keys: Vec<hmac::Key>,
    bytes: Vec<Zeroizing<[u8; 32]>>,
}

/// What a written one begins with.
const FORM: u8 = 1;

impl HashKeys {
    /// Those of a key that is used for nothing else.
    pub(crate) fn of(seed: &MasterKey) -> Result<Self, VaultError> {
        let hashing = HashPurpose::ALL.iter().map(|purpose| seed.derive("hash", purpose.as_str()));
        Ok(Self::new(seed.id(), hashing.collect::<Result<Vec<_>, _>>()?))
    }

    fn new(id: KeyId, bytes: Vec<Zeroizing<[u8; 32]>>) -> Self {
        let keys = bytes.iter().map(|bytes| hmac::Key::new(hmac::HMAC_SHA256, bytes.as_ref())).collect();
        Self { id, keys, bytes }
    }

    pub(crate) fn key(&self, purpose: HashPurpose) -> Option<&hmac::Key> {
        self.keys.get(purpose as usize)
    }

    pub(crate) fn hash(&self, purpose: HashPurpose, bytes: &[u8]) -> Option<[u8; 32]> {
        let tag = hmac::sign(self.key(purpose)?, bytes);
        let mut out = [0u8; 32];
        for (to, from) in out.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        Some(out)
    }

    /// As it is written down, to be sealed.
    pub(crate) fn written(&self) -> Secret<Vec<u8>> {
        let mut text = Vec::with_capacity(9 + 32 * self.bytes.len());
        text.push(FORM);
        text.extend_from_slice(self.id.as_bytes());
        for key in &self.bytes {
            text.extend_from_slice(key.as_ref());
        }
        Secret::new(text)
    }

    /// Read what [`Self::written`] wrote.
    pub(crate) fn read(text: &[u8]) -> Result<Self, VaultError> {
        let wrong = VaultError::Malformed("these are not a master key's hash keys");
        let Some((&FORM, rest)) = text.split_first() else { return Err(wrong) };
        let Some((id, rest)) = rest.split_first_chunk::<8>() else { return Err(wrong) };
        let (keys, more) = rest.as_chunks::<32>();
        if !more.is_empty() || keys.is_empty() || keys.len() > HashPurpose::ALL.len() {
            return Err(wrong);
        }
        Ok(Self::new(KeyId::from_bytes(*id), keys.iter().map(|key| Zeroizing::new(*key)).collect()))
    }
}
