//! A set of keys of one issuer, or of one operator's file (RFC 7517 section 5).

use std::collections::HashMap;
use std::sync::Arc;

use base::Secret;
use serde_json::Value;

use super::json::{self, JsonError, JsonObject, Limits};
use super::jwk::{self, KeyError, Origin};
use super::{Alg, SecretError, VerifyingKey, check_secret, pem};

const MAX_KEYS: usize = 100;

/// The keys of one issuer. Looked up by exact `kid`; never shared between issuers.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<VerifyingKey>>,
    by_kid: HashMap<String, usize>,
    rejected: Vec<RejectedKey>,
    /// The only key is used whatever `kid` a token names: a shared secret, or the one key an operator handed over.
    kid_is_free: bool,
}

/// An entry of a set that is not used, while the others are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedKey {
    /// Its position, from zero.
    pub index: usize,
    /// Its `kid`, if it has a readable one.
    pub kid: Option<String>,
    /// Why.
    pub error: KeyError,
}

/// Why a whole set is refused. The last good set stays in use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// Not an acceptable JSON object.
    #[error("the key set is refused: {0}")]
    Json(#[from] JsonError),
    /// No `keys` array (RFC 7517 section 5.1).
    #[error("the key set has no keys array")]
    NoKeys,
    /// More keys than the limit of 100.
    #[error("the key set has too many keys")]
    TooMany,
    /// A private or shared key is published: whoever runs this issuer has lost it.
    #[error("the key set publishes a private or shared key (key {index})")]
    Private {
        /// Its position, from zero.
        index: usize,
    },
    /// Two keys have the same `kid`.
    #[error("two keys of the set have the same kid (key {index})")]
    DuplicateKid {
        /// The position of the second, from zero.
        index: usize,
    },
    /// Not one key of a PEM file is usable.
    #[error("the PEM text is refused: {0}")]
    Pem(KeyError),
    /// The shared secret is refused.
    #[error("the shared secret is refused: {0}")]
    Secret(#[from] SecretError),
}

impl KeySetError {
    /// A stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Json(e) => e.reason(),
            Self::NoKeys => "no_keys",
            Self::TooMany => "too_many_keys",
            Self::Private { .. } => "private_key",
            Self::DuplicateKid { .. } => "duplicate_kid",
            Self::Pem(e) => e.reason(),
            Self::Secret(e) => e.reason(),
        }
    }
}

/// The outcome of looking for a token's key.
#[derive(Debug)]
pub enum Lookup<'k> {
    /// This one.
    Found(&'k Arc<VerifyingKey>),
    /// The set has no such key: a newer set may.
    Unknown,
    /// The token names no key and several would fit.
    Ambiguous,
}

impl KeySet {
    /// A published set: `{"keys": [..]}`, public keys only.
    ///
    /// One unusable key (unknown type, `use` of `enc`, a weak modulus) is left out and listed in
    /// [`KeySet::rejected`]. A private or shared key, or a `kid` that occurs twice, refuses the whole set.
    pub fn from_published(text: &[u8]) -> Result<Self, KeySetError> {
        let object = json::object(text, Limits::KEYS)?;
        Self::from_entries(entries(&object)?, Origin::Published)
    }

    /// A file of the operator's own: a JWK set, a single JWK, or PEM (`PUBLIC KEY`, `RSA PUBLIC KEY`, and private keys,
    /// of which the public half is used). May hold `oct` keys.
    pub fn from_operator(text: &[u8]) -> Result<Self, KeySetError> {
        Self::from_text(text, Origin::Operator)
    }

    /// A file with an issuer's public keys: a JWK set, a single JWK, or PEM. As strict as a published set: private and
    /// shared keys refuse the file. A single key without `kid` verifies tokens that name any.
    pub fn from_issuer_file(text: &[u8]) -> Result<Self, KeySetError> {
        Self::from_text(text, Origin::IssuerFile)
    }

    fn from_text(text: &[u8], origin: Origin) -> Result<Self, KeySetError> {
        if text.trim_ascii_start().starts_with(b"-----BEGIN") {
            let keys = pem::read(text, origin).map_err(KeySetError::Pem)?;
            let one = keys.len() == 1;
            return Ok(Self::from_keys(keys, Vec::new(), one));
        }
        let object = json::object(text, Limits::KEYS)?;
        if object.contains_key("keys") {
            return Self::from_entries(entries(&object)?, origin);
        }
        // A single key is the key that is meant, whatever its kid.
        let set = Self::from_entries(&[Value::Object(object)], origin)?;
        Ok(Self { kid_is_free: true, ..set })
    }

    /// The one shared key of a shared-secret issuer, for each of `algorithms` it is long enough for. Refuses secrets
    /// that are too short for any of them, guessable or known from examples.
    pub fn from_secret(secret: &Secret<Vec<u8>>, algorithms: &[Alg]) -> Result<Self, KeySetError> {
        Self::from_secrets(secret, [], algorithms)
    }

    /// The same of a secret that is being replaced: what is made with it or with one of `others` is accepted.
    pub fn from_secrets<'a>(
        secret: &Secret<Vec<u8>>,
        others: impl IntoIterator<Item = &'a Secret<Vec<u8>>>,
        algorithms: &[Alg],
    ) -> Result<Self, KeySetError> {
        let mut key = symmetric(secret, algorithms)?;
        for other in others {
            key = key.and(symmetric(other, algorithms)?);
        }
        Ok(Self::from_keys(vec![key], Vec::new(), true))
    }

    /// The set of these keys, each found under its own `kid`: what an issuer that holds [`SigningKey`](super::SigningKey)s
    /// verifies with.
    pub fn of(keys: impl IntoIterator<Item = Arc<VerifyingKey>>) -> Self {
        Self::from_shared(keys.into_iter().collect(), Vec::new(), false)
    }

    fn from_entries(entries: &[Value], origin: Origin) -> Result<Self, KeySetError> {
        if entries.len() > MAX_KEYS {
            return Err(KeySetError::TooMany);
        }
        let mut kids: Vec<(&str, &Value)> = Vec::new();
        let mut keys = Vec::new();
        let mut rejected = Vec::new();
        for (index, entry) in entries.iter().enumerate() {
            let kid = entry.get("kid").and_then(Value::as_str);
            if let Some(kid) = kid {
                // An operator's file may hold keys of different types under one kid (RFC 7517 section 4.5).
                let kty = entry.get("kty").unwrap_or(&Value::Null);
                let same = |known: &(&str, &Value)| known.0 == kid && (origin != Origin::Operator || known.1 == kty);
                if kids.iter().any(same) {
                    return Err(KeySetError::DuplicateKid { index });
                }
                kids.push((kid, kty));
            }
            let imported = entry.as_object().ok_or(KeyError::Form).and_then(|jwk| jwk::import(jwk, origin));
            match imported {
                Ok(key) => keys.push(key),
                Err(KeyError::Private) => return Err(KeySetError::Private { index }),
                Err(error) => rejected.push(RejectedKey { index, kid: kid.map(str::to_owned), error }),
            }
        }
        // A single key of the operator's that has no kid of its own serves any token; a published one does not.
        let one = origin != Origin::Published && entries.len() == 1 && kids.is_empty();
        Ok(Self::from_keys(keys, rejected, one))
    }

    fn from_keys(keys: Vec<VerifyingKey>, rejected: Vec<RejectedKey>, kid_is_free: bool) -> Self {
        Self::from_shared(keys.into_iter().map(Arc::new).collect(), rejected, kid_is_free)
    }

    fn from_shared(keys: Vec<Arc<VerifyingKey>>, rejected: Vec<RejectedKey>, kid_is_free: bool) -> Self {
        let by_kid = keys.iter().enumerate().filter_map(|(index, key)| Some((key.kid()?.to_owned(), index))).collect();
        Self { keys, by_kid, rejected, kid_is_free }
    }

    /// The key for a token that names `kid`, of those that `allowed` algorithms bind to `alg`.
    ///
    /// A token without `kid` gets the only key that fits, or none.
    pub fn find(&self, kid: Option<&str>, alg: Alg, allowed: &[Alg]) -> Lookup<'_> {
        if let Some(kid) = kid.filter(|_| !self.kid_is_free) {
            let key = self.by_kid.get(kid).and_then(|&index| self.keys.get(index));
            return key.map_or(Lookup::Unknown, Lookup::Found);
        }
        let mut fitting = self.keys.iter().filter(|key| key.bind(allowed) == Some(alg));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Lookup::Found(key),
            (None, _) => Lookup::Unknown,
            (Some(_), Some(_)) => Lookup::Ambiguous,
        }
    }

    /// Whether the set is one key that is used whatever `kid` a token names.
    pub(crate) fn kid_is_free(&self) -> bool {
        self.kid_is_free
    }

    /// Whether this very key is still in the set.
    pub fn holds(&self, thumbprint: &[u8; 32], kid: Option<&str>) -> bool {
        self.keys.iter().any(|key| key.thumbprint() == thumbprint && key.kid() == kid)
    }

    /// The usable keys.
    pub fn keys(&self) -> &[Arc<VerifyingKey>] {
        &self.keys
    }

    /// The entries that are not used, with the reason.
    pub fn rejected(&self) -> &[RejectedKey] {
        &self.rejected
    }
}

fn entries(object: &JsonObject) -> Result<&[Value], KeySetError> {
    object.get("keys").and_then(Value::as_array).map(Vec::as_slice).ok_or(KeySetError::NoKeys)
}

/// A shared key that is fit for each of `algorithms`.
fn symmetric(secret: &Secret<Vec<u8>>, algorithms: &[Alg]) -> Result<VerifyingKey, KeySetError> {
    for &alg in algorithms.iter().filter(|alg| alg.is_symmetric()) {
        check_secret(secret.expose(), alg)?;
    }
    let too_short = KeySetError::Secret(SecretError::TooShort { have: secret.expose().len(), need: 32 });
    VerifyingKey::symmetric(secret.expose(), None).map_err(|_| too_short)
}
