//! Credentials we make: 256 random bits behind a prefix that says what they are, so that scanners find leaked ones.

use aws_lc_rs::digest;
use base::{Rng, Secret};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What a credential is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Vouchgate key: `vg_`.
    ApiKey,
    /// An admin token: `vga_`.
    AdminToken,
    /// A client's secret: `vgs_`.
    ClientSecret,
    /// A refresh token: `vgr_`.
    RefreshToken,
}

/// Characters after the prefix: 256 bits in base64url.
const RANDOM_LENGTH: usize = 43;

impl Kind {
    /// What every credential of the kind begins with.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::ApiKey => "vg_",
            Self::AdminToken => "vga_",
            Self::ClientSecret => "vgs_",
            Self::RefreshToken => "vgr_",
        }
    }

    /// A new credential.
    pub fn generate(self, rng: &dyn Rng) -> Secret<String> {
        let mut random = Zeroizing::new([0u8; 32]);
        rng.fill(random.as_mut());
        // Room for all of it at once: growing would leave a piece of the secret behind.
        let mut text = String::with_capacity(self.prefix().len() + RANDOM_LENGTH);
        text.push_str(self.prefix());
        URL_SAFE_NO_PAD.encode_string(random.as_ref(), &mut text);
        Secret::new(text)
    }

    /// Whether a text has the form of the kind: prefix and 43 base64url characters, the last of them canonical.
    pub fn has_form(self, text: &str) -> bool {
        text.strip_prefix(self.prefix()).is_some_and(|rest| {
            rest.len() == RANDOM_LENGTH && URL_SAFE_NO_PAD.decode(rest).is_ok_and(|bytes| bytes.len() == 32)
        })
    }
}

/// The shortest secret a client of the configuration file may have, in bytes: its hash is no slower than SHA-256, so
/// the secret itself has to be beyond guessing.
pub const MIN_SECRET: usize = 32;

/// The longest client secret, in bytes.
pub const MAX_SECRET: usize = 256;

/// The hash of a client's secret as the configuration file holds it: `sha256:` and 43 base64url characters.
#[derive(Clone, PartialEq, Eq)]
pub struct FileHash([u8; 32]);

/// Why a text is no [`FileHash`], or a secret gets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// Not the form.
    #[error("a client's hash is \"sha256:\" and 43 base64url characters; `vouchgate client hash` prints one")]
    Form,
    /// Too short to be beyond guessing, too long, or holding characters that do not survive being typed.
    #[error("a client's secret has 32 to 256 printable ASCII characters; `vouchgate client hash` makes one")]
    Weak,
}

impl FileHash {
    /// The hash of a secret that was given to us.
    pub fn of(secret: &str) -> Result<Self, HashError> {
        let printable = secret.bytes().all(|b| (0x21..=0x7e).contains(&b));
        if !(MIN_SECRET..=MAX_SECRET).contains(&secret.len()) || !printable {
            return Err(HashError::Weak);
        }
        Ok(Self(sha256(secret.as_bytes())))
    }

    /// What stands in for the hash of a client that has none, so that comparing takes the same time.
    pub(crate) const fn stand_in() -> Self {
        Self([0; 32])
    }

    /// Read the form the configuration file holds.
    pub fn parse(text: &str) -> Result<Self, HashError> {
        let digits = text.strip_prefix("sha256:").ok_or(HashError::Form)?;
        let bytes = URL_SAFE_NO_PAD.decode(digits).map_err(|_| HashError::Form)?;
        bytes.try_into().map(Self).map_err(|_| HashError::Form)
    }

    /// Whether `secret` has this hash, in time that depends on the secret's length only.
    pub fn matches(&self, secret: &str) -> bool {
        bool::from(self.0.ct_eq(&sha256(secret.as_bytes()))) && secret.len() >= MIN_SECRET
    }
}

impl std::fmt::Display for FileHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "sha256:{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl std::fmt::Debug for FileHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FileHash")
    }
}

/// The last characters of a secret, to recognise it by; nothing of one that is too short to spare them.
pub(crate) fn last4(secret: &str) -> Option<String> {
    if secret.len() < 24 || !secret.is_ascii() {
        return None;
    }
    secret.get(secret.len() - 4..).map(str::to_owned)
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0u8; 32];
    for (to, from) in out.iter_mut().zip(digest::digest(&digest::SHA256, bytes).as_ref()) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::{SeededRng, SystemRng};

    #[test]
    fn credentials_are_long_different_and_say_what_they_are() {
        for kind in [Kind::ApiKey, Kind::AdminToken, Kind::ClientSecret, Kind::RefreshToken] {
            let (a, b) = (kind.generate(&SystemRng), kind.generate(&SystemRng));
            assert_ne!(a.expose(), b.expose());
            assert!(kind.has_form(a.expose()));
            assert_eq!(a.expose().len(), kind.prefix().len() + 43);
        }
        let key = Kind::ApiKey.generate(&SeededRng::new(1));
        assert!(!Kind::AdminToken.has_form(key.expose()));
        assert!(!Kind::ApiKey.has_form(&key.expose()[..45]));
        assert!(!Kind::ApiKey.has_form("vg_"));
    }

    #[test]
    fn a_file_hash_comes_back_from_its_text_and_matches_its_secret_only() {
        let secret = "0123456789abcdef0123456789abcdef";
        let hash = FileHash::of(secret).unwrap();
        assert_eq!(FileHash::parse(&hash.to_string()).unwrap(), hash);
        assert!(hash.matches(secret));
        assert!(!hash.matches("0123456789abcdef0123456789abcdeF"));
        assert!(!hash.matches(""));
    }

    #[test]
    fn a_guessable_secret_gets_no_hash_and_matches_none() {
        for weak in ["", "hunter2", "a secret with spaces that is long enough", &"x".repeat(257)] {
            assert_eq!(FileHash::of(weak).unwrap_err(), HashError::Weak, "{weak}");
        }
        assert!(!FileHash(sha256(b"hunter2")).matches("hunter2"));
    }

    #[test]
    fn other_hash_texts_are_refused() {
        for bad in
            ["", "sha256:", "sha256:abc", "md5:aaaa", "$argon2id$v=19$m=1", &format!("sha256:{}", "A".repeat(44))]
        {
            assert_eq!(FileHash::parse(bad).unwrap_err(), HashError::Form, "{bad}");
        }
    }

    #[test]
    fn the_end_of_a_short_secret_is_not_shown() {
        assert_eq!(last4("short"), None);
        assert_eq!(last4(&"x".repeat(23)), None);
        assert_eq!(last4("0123456789abcdef01234567wxyz").as_deref(), Some("wxyz"));
    }
}
