//! The only place where a provider's key is opened: just before it is sent, and only for the origin it is bound to.

use std::sync::{Arc, OnceLock};

use base::{Secret, Tenant};
use http::HeaderValue;
use vault::{DataKey, HashPurpose, Label, Purpose, Sealed, Vault, VaultError};

/// A sealed key and where it may be sent.
#[derive(Clone)]
pub struct Credential {
    vault: Arc<Vault>,
    /// Absent: the key could not be had, and whatever needs it is refused.
    sealed: Option<Sealed>,
    /// The inner of the two layers it is sealed in, once it has been opened: every request opens it anew.
    data_key: Arc<OnceLock<DataKey>>,
    tenant: Tenant,
    name: String,
    version: u64,
    origin: String,
    /// What it was sealed as.
    purpose: Purpose,
}

/// Why a key is not sent.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It is bound to another origin than the request goes to.
    #[error("the secret is bound to another origin; set it again for the new one")]
    Origin,
    /// It could not be had when the configuration came into force.
    #[error("the secret could not be read")]
    Missing,
    /// It does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// It holds what no header field may hold.
    #[error("the secret holds characters that cannot be sent in a header")]
    Characters,
}

impl CredentialError {
    /// A stable short code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Origin => "secret_origin",
            Self::Missing => "secret_missing",
            Self::Vault(_) => "secret_unreadable",
            Self::Characters => "secret_characters",
        }
    }
}

impl Credential {
    /// A secret of the vault: `sealed` under the label made of the other values. `origin` is the one it was set for
    /// (`https://api.openai.com`).
    pub fn stored(vault: Arc<Vault>, sealed: Sealed, name: &str, version: u64, origin: &str) -> Self {
        let (name, origin, sealed) = (name.to_owned(), origin.to_owned(), Some(sealed));
        let data_key = Arc::default();
        Self { vault, sealed, data_key, tenant: Tenant::default(), name, version, origin, purpose: Purpose::Secret }
    }

    /// The same of a runtime secret; one that may be given to devices as well (`delivered`) was sealed as another kind.
    #[must_use]
    pub fn of_runtime(self, delivered: bool) -> Self {
        let purpose = if delivered { Purpose::DeliveredSecret } else { Purpose::RuntimeSecret };
        Self { purpose, data_key: Arc::default(), ..self }
    }

    /// A secret read from a file or the environment: kept sealed in memory and bound to `origin` from now on.
    pub fn seal(vault: Arc<Vault>, name: &str, origin: &str, value: &Secret<String>) -> Result<Self, VaultError> {
        let tenant = Tenant::default();
        let label = Label::new(&tenant, Purpose::Secret, name, 0).origin(Some(origin));
        let sealed = Some(vault.seal(&label, value.expose().as_bytes())?);
        let (name, origin, data_key) = (name.to_owned(), origin.to_owned(), Arc::default());
        Ok(Self { sealed, data_key, tenant, name, version: 0, origin, vault, purpose: Purpose::Secret })
    }

    /// In the place of a key that could not be had: whatever needs it is refused, and nothing goes out without it.
    pub fn missing(vault: Arc<Vault>, name: &str) -> Self {
        let (name, origin, tenant) = (name.to_owned(), String::new(), Tenant::default());
        let data_key = Arc::default();
        Self { vault, sealed: None, data_key, tenant, name, version: 0, origin, purpose: Purpose::Secret }
    }

    fn label(&self) -> Label<'_> {
        Label::new(&self.tenant, self.purpose, &self.name, self.version).origin(Some(&self.origin))
    }

    /// The origin it may be sent to.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What tells two keys apart, without telling anything of them: a keyed hash of the key and where it may be sent. All
    /// zeros where it cannot be read.
    pub(crate) fn fingerprint(&self) -> [u8; 32] {
        let label = self.label();
        let Some(Ok(key)) = self.sealed.as_ref().map(|sealed| self.vault.open(&label, sealed)) else { return [0; 32] };
        let mut both = Vec::with_capacity(key.expose().len() + 1 + self.origin.len());
        both.extend_from_slice(key.expose());
        both.push(0);
        both.extend_from_slice(self.origin.as_bytes());
        let both = Secret::new(both);
        self.vault.keyed_hash(HashPurpose::Fingerprint, both.expose())
    }

    /// Why it cannot be sent to `origin`, as far as that shows without opening it.
    pub(crate) fn trouble(&self, origin: &str) -> Option<CredentialError> {
        match &self.sealed {
            None => Some(CredentialError::Missing),
            Some(_) if self.origin != origin => Some(CredentialError::Origin),
            Some(_) => None,
        }
    }

    /// Open it as it is, to sign or ask for something with it that goes to `origin`.
    pub(super) fn read(&self, origin: &str) -> Result<Secret<Vec<u8>>, CredentialError> {
        if let Some(trouble) = self.trouble(origin) {
            return Err(trouble);
        }
        let sealed = self.sealed.as_ref().ok_or(CredentialError::Missing)?;
        if let Some(data_key) = self.data_key.get() {
            return Ok(data_key.open(sealed)?);
        }
        let data_key = self.vault.data_key(&self.label(), sealed)?;
        Ok(self.data_key.get_or_init(|| data_key).open(sealed)?)
    }

    /// What tells texts apart without showing any (a keyed hash).
    pub(super) fn digest(&self, texts: &[&str]) -> [u8; 32] {
        let whole = Secret::new(texts.join("\0"));
        self.vault.keyed_hash(vault::HashPurpose::Fingerprint, whole.expose().as_bytes())
    }

    /// Open it as a header value for a request to `origin`: `prefix` and the key.
    pub(crate) fn open(&self, origin: &str, prefix: &str) -> Result<HeaderValue, CredentialError> {
        let key = self.read(origin)?;
        // Full size from the start: growing would leave a copy of the key behind.
        let mut text = Vec::with_capacity(prefix.len() + key.expose().len());
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(key.expose());
        let text = Secret::new(text);
        let mut value = HeaderValue::from_bytes(text.expose()).map_err(|_| CredentialError::Characters)?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// Whether `text` repeats the key. A few characters are no key, and would be found in any text.
    pub(crate) fn is_repeated_in(&self, text: &[u8]) -> bool {
        const SHORTEST: usize = 8;
        let label = self.label();
        let Some(Ok(key)) = self.sealed.as_ref().map(|sealed| self.vault.open(&label, sealed)) else { return false };
        let key = key.expose();
        key.len() >= SHORTEST && text.windows(key.len()).any(|window| window == key.as_slice())
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("name", &self.name).field("origin", &self.origin).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;
    use vault::MasterKey;

    const ORIGIN: &str = "https://api.example.com";

    fn sealed(value: &str) -> Credential {
        let rng = Arc::new(SeededRng::new(3));
        let vault = Vault::new(MasterKey::generate(rng.as_ref()).expect("master key"), rng).expect("vault");
        Credential::seal(Arc::new(vault), "openai", ORIGIN, &Secret::new(value.to_owned())).expect("sealed")
    }

    #[test]
    fn a_key_opens_for_its_own_origin_only() {
        let credential = sealed("fake-key-1");
        let value = credential.open(ORIGIN, "Bearer ").expect("opens");
        assert_eq!(value.as_bytes(), b"Bearer fake-key-1");
        assert!(value.is_sensitive());
        assert_eq!(credential.read(ORIGIN).expect("opens").expose().len(), 10);
        for other in ["https://api.example.com:8443", "http://api.example.com", "https://evil.example"] {
            assert!(matches!(credential.read(other), Err(CredentialError::Origin)), "{other}");
            assert!(matches!(credential.open(other, "Bearer "), Err(CredentialError::Origin)), "{other}");
        }
    }

    #[test]
    fn in_the_place_of_a_missing_key_nothing_is_sent() {
        let missing = Credential::missing(sealed("fake-key-1").vault, "openai");
        for origin in [ORIGIN, ""] {
            assert!(matches!(missing.open(origin, "Bearer "), Err(CredentialError::Missing)), "{origin}");
        }
    }

    #[test]
    fn a_relabelled_key_does_not_open() {
        let mut moved = sealed("fake-key-1");
        "https://evil.example".clone_into(&mut moved.origin);
        assert!(matches!(moved.open("https://evil.example", ""), Err(CredentialError::Vault(_))));
    }

    #[test]
    fn a_key_with_line_breaks_is_not_sent() {
        assert!(matches!(sealed("a\r\nx-evil: 1").open(ORIGIN, ""), Err(CredentialError::Characters)));
    }

    #[test]
    fn a_text_that_repeats_the_key_is_recognised() {
        let credential = sealed("fake-key-1");
        assert!(credential.is_repeated_in(b"no such key: fake-key-1."));
        assert!(!credential.is_repeated_in(b"no such key: fake-key-2."));
        assert!(!credential.is_repeated_in(b"fake"));
        assert!(!sealed("key").is_repeated_in(b"the key is missing"), "too short to be told from a word");
    }

    #[test]
    fn nothing_of_the_key_is_printed() {
        assert!(!format!("{:?}", sealed("fake-key-1")).contains("fake-key"));
    }
}
