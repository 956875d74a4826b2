//! The master key and its file.
//!
//! The file is two lines of text, readable by its owner only:
//!
//! ```text
//! vouchgate-master-key-v1
//! <32 random bytes in base64>
//! ```

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Salt};
use base::{Rng, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::{VaultError, hex};

const HEADER: &str = "vouchgate-master-key-v1";
const SALT: &[u8] = b"vouchgate vault v1";
/// The file has 69 bytes; anything much longer is another file named by mistake.
const MAX_FILE: u64 = 256;

/// The key all others come from: 256 random bits. Wiped when dropped, never printed.
#[derive(Clone)]
pub struct MasterKey {
    bytes: Secret<[u8; 32]>,
    id: KeyId,
}

/// Names a master key without revealing it: 64 bits derived from the key.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; 8]);

/// Why a master key file could not be read or made.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// No such file.
    #[error("the master key file {} does not exist; restore the one this data was sealed with, or for a new data directory let a command make one: `vouchgate key list --config FILE`", .0.display())]
    Missing(PathBuf),
    /// There is one already; a master key is never overwritten.
    #[error("the master key file {} exists already; it is never overwritten", .0.display())]
    Exists(PathBuf),
    /// Others than the owner may read or write it.
    #[error("the master key file {} is open to other users (mode {mode:04o}); run: chmod 600 {}", .path.display(), .path.display())]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A directory, device or pipe, or a text that is not a master key.
    #[error("{} is not a master key file: {why}", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The file system failed.
    #[error("the master key file {}: {error}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
}

impl KeyFileError {
    /// A short stable code for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Missing(_) => "master_key_missing",
            Self::Exists(_) => "master_key_exists",
            Self::Permissions { .. } => "master_key_permissions",
            Self::Malformed { .. } => "master_key_malformed",
            Self::Io { .. } => "master_key_io",
        }
    }
}

impl MasterKey {
    /// A new random key.
    pub fn generate(rng: &dyn Rng) -> Result<Self, VaultError> {
        let mut bytes = Zeroizing::new([0u8; 32]);
        rng.fill(bytes.as_mut());
        Self::from_bytes(&bytes)
    }

    /// Read the key file. Refuses a file that anybody but its owner may read or write; one that root put there for the
    /// group of this process to read (as orchestrators mount secrets) is as private.
    pub fn read_file(path: &Path) -> Result<Self, KeyFileError> {
        let io = |error: std::io::Error| match error.kind() {
            ErrorKind::NotFound => KeyFileError::Missing(path.to_owned()),
            _ => KeyFileError::Io { path: path.to_owned(), error },
        };
        let malformed = |why| KeyFileError::Malformed { path: path.to_owned(), why };
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            // Before opening it: to open a pipe would wait for a writer.
            return Err(malformed("it is not a regular file"));
        }
        let file = File::open(path).map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if !metadata.is_file() {
            return Err(malformed("it is not a regular file"));
        }
        if !is_private(mode, metadata.uid(), rustix::process::geteuid().as_raw()) {
            return Err(KeyFileError::Permissions { path: path.to_owned(), mode });
        }
        if metadata.len() > MAX_FILE {
            return Err(malformed("it is too long"));
        }
        // Room for everything from the start: growing would leave a copy of the key behind.
        let mut text = Zeroizing::new(Vec::with_capacity(512));
        file.take(MAX_FILE).read_to_end(&mut text).map_err(io)?;
        Self::parse(&text).map_err(malformed)
    }

    /// Write the key to a new file that only its owner can read (mode 0600), and make sure it is on the disk.
    pub fn create_file(&self, path: &Path) -> Result<(), KeyFileError> {
        let io = |error: std::io::Error| match error.kind() {
            ErrorKind::AlreadyExists => KeyFileError::Exists(path.to_owned()),
            _ => KeyFileError::Io { path: path.to_owned(), error },
        };
        let mut text = Zeroizing::new([0u8; 44]);
        STANDARD.encode_slice(self.bytes.expose(), text.as_mut()).map_err(|error| io(std::io::Error::other(error)))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
        file.write_all(HEADER.as_bytes())
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.write_all(text.as_ref()))
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.sync_all())
            .map_err(io)?;
        // The name is in the directory: without this a crash could lose the file and keep what it sealed.
        let parent = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)
    }

    /// The key's public name.
    pub const fn id(&self) -> KeyId {
        self.id
    }

    /// The key of these bytes.
    pub(crate) fn from_bytes(bytes: &[u8; 32]) -> Result<Self, VaultError> {
        let mut id = [0u8; 8];
        expand(bytes, &["key id", ""], &mut id)?;
        Ok(Self { bytes: Secret::new(*bytes), id: KeyId(id) })
    }

    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let encoded = text
            .strip_prefix(HEADER.as_bytes())
            .and_then(|rest| rest.strip_prefix(b"\n"))
            .ok_or("its first line is not \"vouchgate-master-key-v1\"")?;
        let wrong = "its second line is not 32 bytes in base64";
        if encoded.len() != 44 {
            return Err(wrong);
        }
        // One byte more than a key has, because the decoder asks for room by the length of the text.
        let mut decoded = Zeroizing::new([0u8; 33]);
        let length = STANDARD.decode_slice(encoded, decoded.as_mut()).map_err(|_| wrong)?;
        let (key, _) = decoded.split_first_chunk::<32>().filter(|_| length == 32).ok_or(wrong)?;
        if key.iter().all(|byte| Some(byte) == key.first()) {
            return Err("its key is a placeholder, not random");
        }
        Self::from_bytes(key).map_err(|_| "no key can be derived from it")
    }

    /// Its bytes, to be sealed.
    pub(crate) fn bytes(&self) -> &[u8; 32] {
        self.bytes.expose()
    }

    /// The 256-bit key for one use of this master key.
    pub(crate) fn derive(&self, kind: &str, purpose: &str) -> Result<Zeroizing<[u8; 32]>, VaultError> {
        let mut out = Zeroizing::new([0u8; 32]);
        expand(self.bytes.expose(), &[kind, purpose], out.as_mut())?;
        Ok(out)
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.id)
    }
}

impl KeyId {
    /// The id of these bytes, as a sealed value has them.
    pub const fn from_bytes(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as a sealed value has them.
    pub const fn as_bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(self.0.iter()))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for KeyId {
    type Err = VaultError;

    /// Reads what `Display` writes: 16 lower-case hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, VaultError> {
        let wrong = VaultError::Malformed("a key id is 16 hexadecimal digits");
        let hexadecimal = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = hexadecimal.then(|| u64::from_str_radix(text, 16).ok()).flatten().ok_or(wrong)?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// Whether only this process's user, or root, can read a file with this mode and owner, and nobody else can write it.
///
/// Kubernetes and systemd hand a secret over as root's file that the group of the process may read. A process that
/// is root itself has no use for that, and its group may have members.
const fn is_private(mode: u32, owner: u32, user: u32) -> bool {
    match mode & 0o077 {
        0 => true,
        0o040 => owner == 0 && user != 0,
        _ => false,
    }
}

/// HKDF-SHA256 (RFC 5869) with `info` = the parts, each ended by a zero byte.
fn expand(key: &[u8; 32], info: &[&str], out: &mut [u8]) -> Result<(), VaultError> {
    struct Length(usize);
    impl KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut joined = Vec::new();
    for part in info {
        joined.extend_from_slice(part.as_bytes());
        joined.push(0);
    }
    Salt::new(HKDF_SHA256, SALT)
        .extract(key)
        .expand(&[&joined], Length(out.len()))
        .and_then(|okm| okm.fill(out))
        .map_err(|_| VaultError::Crypto)
}

#[cfg(test)]
mod tests {
    use super::is_private;

    #[test]
    fn only_root_may_lend_a_key_to_a_group_and_only_to_read() {
        const ROOT: u32 = 0;
        const USER: u32 = 65532;
        assert!(is_private(0o400, USER, USER) && is_private(0o600, ROOT, ROOT));
        assert!(is_private(0o440, ROOT, USER) && is_private(0o640, ROOT, USER));
        assert!(!is_private(0o440, ROOT, ROOT), "root's group may have members");
        assert!(!is_private(0o440, USER, USER), "a group of the user's own choosing");
        for mode in [0o444, 0o460, 0o464, 0o640 | 0o001, 0o660, 0o620] {
            assert!(!is_private(mode, ROOT, USER), "{mode:o}");
        }
    }
}
