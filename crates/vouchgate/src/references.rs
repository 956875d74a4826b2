//! Where `{ env = ".." }` and `{ file = ".." }` are read: the only place that looks at the environment.

use std::path::{Path, PathBuf};

use base::{Name, Rng, Secret};
use config::{Config, SecretRef, SharedAddress, StoreAddress};
use store::{SharedState, StoreError, StoreUrl};

/// A secret in a file or variable has at most this many bytes.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a reference gives no value.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// The environment variable is not set, is empty, or is not UTF-8.
    #[error(
        "environment variable {0} is not set; set it before starting, or store the value with `vouchgate secret set`"
    )]
    Unset(String),
    /// The file cannot be read.
    #[error("cannot read {path}: {error}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// The file is empty, too large, or not text.
    #[error("{0} does not hold a secret: it must be text of 1 byte to 64 KiB")]
    Content(PathBuf),
    /// Others may read the file.
    #[error("{0} can be read by every user of this machine; run `chmod 600 {0}`")]
    Exposed(PathBuf),
    /// The vault holds no secret of that name.
    #[error("the vault holds no secret named {0}; set it with `vouchgate secret set {0}`")]
    Missing(Name),
}

/// Read a reference to the environment or a file. Vault references are not read here: they are opened per request.
///
/// A relative file path starts at the working directory, like every path of the configuration.
pub fn read(reference: &SecretRef) -> Result<Secret<String>, ReferenceError> {
    match reference {
        SecretRef::Env(name) => variable(name.as_str()).ok_or_else(|| ReferenceError::Unset(name.as_str().to_owned())),
        SecretRef::File(path) => file(path),
        SecretRef::Secret(name) => Err(ReferenceError::Missing(name.clone())),
    }
}

/// Where the store is: as the configuration says it, or as what that refers to says.
pub fn store_url(config: &Config) -> Result<StoreUrl, StoreUrlError> {
    let (written, refer);
    let text = match &config.store.url {
        StoreAddress::Written(config::StoreUrl::Postgres(url)) => url.expose(),
        StoreAddress::Written(url) => {
            written = url.to_string();
            &written
        }
        StoreAddress::Referred(reference) => {
            refer = read(reference)?;
            refer.expose().as_str()
        }
    };
    Ok(StoreUrl::parse(text)?)
}

/// Where what nodes share beside the database is, if anywhere.
pub fn shared_url(config: &Config) -> Result<Option<Secret<String>>, ReferenceError> {
    Ok(match &config.store.shared {
        None => None,
        Some(SharedAddress::Written(url)) => Some(Secret::new(url.url().expose().to_owned())),
        Some(SharedAddress::Referred(reference)) => Some(read(reference)?),
    })
}

/// The state nodes share beside the database, if the configuration names one. Connects to nothing yet.
pub fn shared_state(config: &Config, rng: &dyn Rng) -> Result<Option<SharedState>, SharedUrlError> {
    let Some(url) = shared_url(config)? else { return Ok(None) };
    let ca = match &config.store.shared_ca {
        None => None,
        Some(path) => Some(
            std::fs::read(path)
                .map_err(|error| SharedUrlError::Ca(ReferenceError::File { path: path.clone(), error }))?,
        ),
    };
    Ok(Some(SharedState::open(url.expose(), ca.as_deref(), rng)?))
}

/// Why what nodes share cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum SharedUrlError {
    /// What `[store] shared` refers to cannot be read.
    #[error("[store] shared: {0}")]
    Reference(#[from] ReferenceError),
    /// `[store] shared_ca` cannot be read.
    #[error("[store] shared_ca: {0}")]
    Ca(ReferenceError),
    /// It is no URL of a server, or its certificates are none.
    #[error("[store] shared: {0}")]
    Url(#[from] StoreError),
}

/// Why it is not known where the store is.
#[derive(Debug, thiserror::Error)]
pub enum StoreUrlError {
    /// What `[store] url` refers to cannot be read.
    #[error("[store] url: {0}")]
    Reference(#[from] ReferenceError),
    /// It is no URL of a store.
    #[error("[store] url: {0}")]
    Url(#[from] StoreError),
}

/// The value of an environment variable, if it is set and not empty.
#[allow(clippy::disallowed_methods)] // the one home of the environment
pub fn variable(name: &str) -> Option<Secret<String>> {
    std::env::var(name).ok().filter(|value| !value.is_empty()).map(Secret::new)
}

fn file(path: &Path) -> Result<Secret<String>, ReferenceError> {
    let failed = |error| ReferenceError::File { path: path.to_owned(), error };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() || metadata.len() == 0 || metadata.len() > MAX_BYTES {
        return Err(ReferenceError::Content(path.to_owned()));
    }
    if readable_by_others(&metadata) {
        return Err(ReferenceError::Exposed(path.to_owned()));
    }
    let text = Secret::new(std::fs::read_to_string(path).map_err(failed)?);
    // Editors and `echo` end a file with a line break that is no part of the secret.
    let value = text.expose().trim_end_matches(['\r', '\n']);
    if value.is_empty() {
        return Err(ReferenceError::Content(path.to_owned()));
    }
    Ok(Secret::new(value.to_owned()))
}

#[cfg(unix)]
fn readable_by_others(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o004 != 0
}

#[cfg(not(unix))]
fn readable_by_others(_: &std::fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_secret_file_loses_its_last_line_break_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, " a b \r\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let value = read(&SecretRef::File(path)).unwrap();
        assert_eq!(value.expose(), " a b ");
    }

    #[test]
    fn a_file_that_everybody_can_read_is_no_place_for_a_secret() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        std::fs::write(&path, "value").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = read(&SecretRef::File(path)).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let error = read(&SecretRef::Env("VOUCHGATE_NO_SUCH_VARIABLE".parse().unwrap())).unwrap_err();
        assert!(error.to_string().contains("VOUCHGATE_NO_SUCH_VARIABLE"), "{error}");
    }
}
