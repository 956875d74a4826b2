//! The only place where a provider's key is opened: just before it is sent, and only for the origin it is bound to.

use std::sync::Arc;

use base::{Secret, Tenant};
use http::HeaderValue;
use vault::{Label, Purpose, Sealed, Vault, VaultError};

/// A sealed key and where it may be sent.
#[derive(Clone)]
pub struct Credential {
    vault: Arc<Vault>,
    sealed: Sealed,
    tenant: Tenant,
    name: String,
    version: u64,
    origin: String,
}

/// Why a key is not sent.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// It is bound to another origin than the request goes to.
    #[error("the secret is bound to another origin; set it again for the new one")]
    Origin,
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
            Self::Vault(_) => "secret_unreadable",
            Self::Characters => "secret_characters",
        }
    }
}

impl Credential {
    /// A secret of the vault: `sealed` under the label made of the other values. `origin` is the one it was set for
    /// (`https://api.openai.com`).
    pub fn stored(vault: Arc<Vault>, sealed: Sealed, name: &str, version: u64, origin: &str) -> Self {
        let (name, origin) = (name.to_owned(), origin.to_owned());
        Self { vault, sealed, tenant: Tenant::default(), name, version, origin }
    }

    /// A secret read from a file or the environment: kept sealed in memory and bound to `origin` from now on.
    pub fn seal(vault: Arc<Vault>, name: &str, origin: &str, value: &Secret<String>) -> Result<Self, VaultError> {
        let tenant = Tenant::default();
        let label = Label::new(&tenant, Purpose::Secret, name, 0).origin(Some(origin));
        let sealed = vault.seal(&label, value.expose().as_bytes())?;
        Ok(Self { sealed, tenant, name: name.to_owned(), version: 0, origin: origin.to_owned(), vault })
    }

    /// The origin it may be sent to.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Open it as a header value for a request to `origin`: `prefix` and the key.
    pub(crate) fn open(&self, origin: &str, prefix: &str) -> Result<HeaderValue, CredentialError> {
        if self.origin != origin {
            return Err(CredentialError::Origin);
        }
        let label = Label::new(&self.tenant, Purpose::Secret, &self.name, self.version).origin(Some(&self.origin));
        let key = self.vault.open(&label, &self.sealed)?;
        // Full size from the start: growing would leave a copy of the key behind.
        let mut text = Vec::with_capacity(prefix.len() + key.expose().len());
        text.extend_from_slice(prefix.as_bytes());
        text.extend_from_slice(key.expose());
        let text = Secret::new(text);
        let mut value = HeaderValue::from_bytes(text.expose()).map_err(|_| CredentialError::Characters)?;
        value.set_sensitive(true);
        Ok(value)
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
        for other in ["https://api.example.com:8443", "http://api.example.com", "https://evil.example"] {
            assert!(matches!(credential.open(other, "Bearer "), Err(CredentialError::Origin)), "{other}");
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
    fn nothing_of_the_key_is_printed() {
        assert!(!format!("{:?}", sealed("fake-key-1")).contains("fake-key"));
    }
}
