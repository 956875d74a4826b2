//! Whom an entry is about, so that it can be told again and matched, read by who may, and forgotten.
//!
//! Each subject has a random key of its own, kept sealed in the store. What is personal stands in an entry as a keyed hash
//! (equal values are equal, and say nothing) and sealed under that key. Once the key is destroyed neither can be made or
//! opened by anybody, and the tree over the entries is as it was.

use std::fmt;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use base::{Rng, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::json::{Object, push_text};

/// The longest value that is sealed, in bytes; of a longer one the beginning is.
const MAX_VALUE: usize = 512;

/// A future on the heap.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Why a subject's key cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the key of an audited subject cannot be had: {0}")]
pub struct KeyError(pub &'static str);

/// Where subjects' keys are kept.
pub trait SubjectKeys: Send + Sync {
    /// The key of a subject of an issuer, made if there is none. It is durable when this returns.
    fn of<'a>(&'a self, issuer: &'a str, subject: &'a str) -> BoxFuture<'a, Result<SubjectKey, KeyError>>;

    /// The key an entry names, unless it has been destroyed.
    fn by_id<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<SubjectKey>, KeyError>>;
}

/// A subject's key, and the name it has in entries: random, so that without the key it leads to nobody.
pub struct SubjectKey {
    id: Arc<str>,
    sealing: LessSafeKey,
    marking: hmac::Key,
}

impl SubjectKey {
    /// The key made of these random bytes.
    pub fn new(id: &str, secret: &Secret<[u8; 32]>) -> Result<Self, KeyError> {
        let root = hmac::Key::new(hmac::HMAC_SHA256, secret.expose());
        let sealing = hmac::sign(&root, b"vouchgate audit subject seal");
        let marking = hmac::sign(&root, b"vouchgate audit subject mark");
        let key = UnboundKey::new(&AES_256_GCM, sealing.as_ref()).map_err(|_| KeyError("crypto_failed"))?;
        let marking = hmac::Key::new(hmac::HMAC_SHA256, marking.as_ref());
        Ok(Self { id: id.into(), sealing: LessSafeKey::new(key), marking })
    }

    /// Its name in entries.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Equal for equal values of this kind and subject, and for nothing else: 128 bits in base64url.
    pub fn mark(&self, kind: &str, value: &str) -> String {
        let mut context = hmac::Context::with_key(&self.marking);
        for part in [kind.as_bytes(), &[0], value.as_bytes()] {
            context.update(part);
        }
        URL_SAFE_NO_PAD.encode(context.sign().as_ref().get(..16).unwrap_or_default())
    }

    /// The value, to be read by who has the key.
    pub fn seal(&self, rng: &dyn Rng, kind: &str, value: &str) -> String {
        let value = value.get(..value.floor_char_boundary(MAX_VALUE)).unwrap_or_default();
        let mut nonce = [0; NONCE_LEN];
        rng.fill(&mut nonce);
        let mut buffer = value.as_bytes().to_vec();
        let aad = Aad::from(format!("{}\0{kind}", self.id));
        match self.sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut buffer) {
            Ok(()) => URL_SAFE_NO_PAD.encode([nonce.as_slice(), &buffer].concat()),
            Err(_) => String::new(),
        }
    }

    /// Read a sealed value.
    pub fn open(&self, kind: &str, sealed: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).ok().filter(|bytes| bytes.len() <= MAX_VALUE + 64)?;
        let (nonce, rest) = bytes.split_first_chunk::<NONCE_LEN>()?;
        let mut buffer = rest.to_vec();
        let aad = Aad::from(format!("{}\0{kind}", self.id));
        let opened = self.sealing.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut buffer).ok()?;
        String::from_utf8(opened.to_vec()).ok()
    }

    /// How a value of this kind stands in an entry.
    pub(crate) fn value(&self, rng: &dyn Rng, kind: &str, value: &str) -> Vec<u8> {
        let mut json = b"{\"mark\":".to_vec();
        push_text(&mut json, &self.mark(kind, value));
        json.extend_from_slice(b",\"sealed\":");
        push_text(&mut json, &self.seal(rng, kind, value));
        json.push(b'}');
        json
    }
}

impl fmt::Debug for SubjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SubjectKey({})", self.id)
    }
}

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub struct Sender<'a> {
    /// The subject, ready to be written; absent where its key could not be had.
    pub whom: Option<&'a Whom>,
    /// The configured name of the issuer.
    pub issuer: &'a str,
    /// The client the credential was given to.
    pub client: Option<&'a str>,
    /// The id of the Vouchgate key.
    pub key: Option<&'a str>,
    /// The client's address.
    pub ip: IpAddr,
}

/// Somebody entries are about, ready to be written into them.
#[derive(Debug)]
pub struct Whom {
    key: SubjectKey,
    /// `{"id":..,"sealed":..}`
    subject: Vec<u8>,
    /// The address seen last, as it stands in entries.
    address: Mutex<Option<(IpAddr, Arc<[u8]>)>>,
    /// What was last said of a request of theirs.
    sender: Mutex<Option<Kept>>,
}

/// Who sent a request, as its entries have it: the same for many.
#[derive(Debug)]
struct Kept {
    issuer: Box<str>,
    client: Option<Box<str>>,
    key: Option<Box<str>>,
    ip: IpAddr,
    members: Arc<[u8]>,
}

impl Kept {
    fn is_of(&self, sender: &Sender<'_>) -> bool {
        *self.issuer == *sender.issuer
            && self.client.as_deref() == sender.client
            && self.key.as_deref() == sender.key
            && self.ip == sender.ip
    }
}

impl Whom {
    pub(crate) fn new(key: SubjectKey, rng: &dyn Rng, subject: &str) -> Self {
        let mut json = b"{\"id\":".to_vec();
        push_text(&mut json, key.id());
        json.extend_from_slice(b",\"sealed\":");
        push_text(&mut json, &key.seal(rng, "subject", subject));
        json.push(b'}');
        Self { key, subject: json, address: Mutex::default(), sender: Mutex::default() }
    }

    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    /// The members of an entry that say who sent a request. Written once for as long as they stay the same.
    pub(crate) fn sender(&self, rng: &dyn Rng, sender: &Sender<'_>) -> Arc<[u8]> {
        let mut last = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(kept) = last.as_ref().filter(|kept| kept.is_of(sender)) {
            return Arc::clone(&kept.members);
        }
        let mut entry = Object::new();
        entry.text("issuer", sender.issuer).maybe("client", sender.client).maybe("key", sender.key);
        let ip = self.key.value(rng, "ip", &sender.ip.to_canonical().to_string());
        entry.raw("subject", self.subject()).raw("ip", &ip);
        let members: Arc<[u8]> = entry.into_members().into();
        let (issuer, client, key) = (sender.issuer.into(), sender.client.map(Into::into), sender.key.map(Into::into));
        *last = Some(Kept { issuer, client, key, ip: sender.ip, members: Arc::clone(&members) });
        members
    }

    /// The address as it stands in entries. Sealed once for as long as it stays the same.
    pub(crate) fn address(&self, rng: &dyn Rng, ip: IpAddr) -> Arc<[u8]> {
        let mut last = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, json)) = last.as_ref().filter(|(known, _)| *known == ip) {
            return Arc::clone(json);
        }
        let json: Arc<[u8]> = self.key.value(rng, "ip", &ip.to_canonical().to_string()).into();
        *last = Some((ip, Arc::clone(&json)));
        json
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;

    fn key(id: &str, byte: u8) -> SubjectKey {
        SubjectKey::new(id, &Secret::new([byte; 32])).unwrap()
    }

    #[test]
    fn a_value_is_matched_and_read_with_its_key_and_with_no_other() {
        let (mine, other) = (key("a", 1), key("b", 2));
        let rng = SeededRng::new(1);
        assert_eq!(mine.mark("ip", "10.0.0.1"), mine.mark("ip", "10.0.0.1"));
        assert_ne!(mine.mark("ip", "10.0.0.1"), mine.mark("subject", "10.0.0.1"));
        assert_ne!(mine.mark("ip", "10.0.0.1"), other.mark("ip", "10.0.0.1"));
        let sealed = mine.seal(&rng, "ip", "10.0.0.1");
        assert_eq!(mine.open("ip", &sealed).as_deref(), Some("10.0.0.1"));
        assert_eq!(mine.open("subject", &sealed), None, "of another kind");
        assert_eq!(key("c", 1).open("ip", &sealed), None, "of another subject");
        assert_eq!(other.open("ip", &sealed), None);
        for bad in ["", "AAAA", &sealed.replace('A', "B"), &"A".repeat(5000)] {
            assert!(mine.open("ip", bad).is_none() || bad == sealed);
        }
    }

    #[test]
    fn an_address_is_sealed_and_a_sender_written_once_while_they_stay() {
        let whom = Whom::new(key("a", 1), &SeededRng::new(1), "user-7");
        let rng = SeededRng::new(2);
        let first = whom.address(&rng, [10, 0, 0, 1].into());
        assert!(Arc::ptr_eq(&first, &whom.address(&rng, [10, 0, 0, 1].into())));
        assert_ne!(first, whom.address(&rng, [10, 0, 0, 2].into()));
        let sender =
            |client, last| Sender { whom: None, issuer: "main", client, key: None, ip: [10, 0, 0, last].into() };
        let kept = whom.sender(&rng, &sender(Some("app"), 1));
        assert!(Arc::ptr_eq(&kept, &whom.sender(&rng, &sender(Some("app"), 1))));
        let other = whom.sender(&rng, &sender(None, 1));
        assert!(!String::from_utf8_lossy(&other).contains("app"), "of another client");
        assert_ne!(whom.sender(&rng, &sender(None, 2)), other, "from elsewhere");
        let text = String::from_utf8_lossy(&first).into_owned() + &String::from_utf8_lossy(whom.subject());
        assert!(!text.contains("10.0.0.1") && !text.contains("user-7"), "{text}");
    }
}
