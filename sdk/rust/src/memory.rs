//! What outlives the process: which installation this is, and what it was told last.

use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Value, json};

use crate::app_config::public_key;
use crate::attester::Attester;
use crate::signer::{PublicJwk, Signer};

/// A small store of the app's own. Nothing in it is secret, but whoever can change it can make the app accept older
/// configurations: it belongs where only the app writes.
pub trait Memory: Send + Sync + std::fmt::Debug {
    /// What was saved last.
    fn load(&self) -> Option<Vec<u8>>;

    /// Save it in place of what was there.
    fn save(&self, bytes: &[u8]);
}

/// Forgets with the process.
#[derive(Debug, Default)]
pub struct Volatile(Mutex<Option<Vec<u8>>>);

impl Memory for Volatile {
    fn load(&self) -> Option<Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn save(&self, bytes: &[u8]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(bytes.to_vec());
    }
}

/// What is kept, as JSON.
pub(crate) struct Kept(Value);

impl Kept {
    pub(crate) fn of(app: &str, session: Option<(String, PublicJwk)>, config: Option<&str>) -> Self {
        let (instance, key) = session.map(|(instance, key)| (instance, key.to_json())).unzip();
        Self(json!({"app": app, "instance": instance, "jwk": key, "config": config}))
    }

    pub(crate) fn load(memory: &dyn Memory) -> Self {
        Self(memory.load().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default())
    }

    pub(crate) fn save(&self, memory: &dyn Memory) {
        memory.save(self.0.to_string().as_bytes());
    }

    /// The installation, if its key is still there.
    pub(crate) fn session(&self, app: &str, device: &dyn Attester) -> Option<(String, Arc<dyn Signer>)> {
        if self.0.get("app")?.as_str()? != app {
            return None;
        }
        let signer = device.key(&public_key(self.0.get("jwk")?)?)?;
        Some((self.0.get("instance")?.as_str()?.to_owned(), signer))
    }

    pub(crate) fn config(&self) -> Option<&str> {
        self.0.get("config")?.as_str().filter(|text| !text.is_empty())
    }
}
