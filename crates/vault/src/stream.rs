//! A sealed stream: what is too long for one sealed value, such as a backup.
//!
//! The STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", 2015) over AES-256-GCM: pieces of [`PIECE`] bytes under a random key of this one stream, which is
//! sealed as any other value; the nonce of a piece is its number and whether it is the last. So no piece opens in another
//! place, and a stream that was cut, also between two pieces, does not open to its end.
//!
//! ```text
//! 2   length of the sealed key, big-endian
//! n   the sealed key
//!     then pieces: PIECE bytes and a 16-byte tag each, the last one shorter or as long
//! ```

use aws_lc_rs::aead::{LessSafeKey, NONCE_LEN};
use base::Secret;
use zeroize::Zeroizing;

use crate::{Label, Sealed, Vault, VaultError, aes, decrypt, encrypt};

/// Bytes of plaintext in a piece.
pub const PIECE: usize = 64 * 1024;

/// Bytes a piece is longer sealed than open.
const TAG: usize = 16;

const DOMAIN: &[u8] = b"vouchgate vault v1 stream";

/// Seals a stream piece by piece.
pub struct StreamSealer {
    key: LessSafeKey,
    number: u64,
    waiting: Zeroizing<Vec<u8>>,
}

/// Opens the key of a stream.
type OpenKey = Box<dyn Fn(&Sealed) -> Result<Secret<Vec<u8>>, VaultError> + Send>;

/// Opens one.
pub struct StreamOpener {
    open: OpenKey,
    key: Option<LessSafeKey>,
    number: u64,
    waiting: Vec<u8>,
}

impl Vault {
    /// Begin a stream that opens only under the same `label`. Gives what it begins with.
    pub fn seal_stream(&self, label: &Label<'_>) -> Result<(Vec<u8>, StreamSealer), VaultError> {
        let mut key = Zeroizing::new([0u8; 32]);
        self.rng.fill(key.as_mut());
        let sealed = self.seal(label, key.as_ref())?;
        let length = u16::try_from(sealed.as_bytes().len()).map_err(|_| VaultError::TooLong)?;
        let head = [length.to_be_bytes().as_slice(), sealed.as_bytes()].concat();
        let waiting = Zeroizing::new(Vec::with_capacity(2 * PIECE));
        Ok((head, StreamSealer { key: aes(key.as_ref())?, number: 0, waiting }))
    }
}

impl StreamSealer {
    /// Take in more. Gives what is sealed by now, which may be nothing.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>, VaultError> {
        let mut out = Vec::new();
        for part in bytes.chunks(PIECE) {
            self.waiting.extend_from_slice(part);
            // One more than a piece has to be there: only then it is known not to be the last.
            if self.waiting.len() > PIECE {
                let rest = Zeroizing::new(self.waiting.split_off(PIECE));
                out.extend(self.piece(false)?);
                self.waiting.clear();
                self.waiting.extend_from_slice(&rest);
            }
        }
        Ok(out)
    }

    /// End it. Gives the last piece.
    pub fn finish(mut self) -> Result<Vec<u8>, VaultError> {
        self.piece(true)
    }

    fn piece(&mut self, last: bool) -> Result<Vec<u8>, VaultError> {
        let nonce = nonce(self.number, last);
        self.number = self.number.checked_add(1).ok_or(VaultError::TooLong)?;
        encrypt(&self.key, nonce, DOMAIN, &self.waiting)
    }
}

impl StreamOpener {
    /// A stream whose key `open` opens: [`Vault::open`] under the label it was sealed under.
    pub fn new(open: impl Fn(&Sealed) -> Result<Secret<Vec<u8>>, VaultError> + Send + 'static) -> Self {
        Self { open: Box::new(open), key: None, number: 0, waiting: Vec::new() }
    }

    /// Take in more. Gives what is open by now, which may be nothing: nothing that was altered is ever given.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Secret<Vec<u8>>, VaultError> {
        const SEALED: usize = PIECE + TAG;
        let mut out = Zeroizing::new(Vec::new());
        for part in bytes.chunks(PIECE) {
            self.waiting.extend_from_slice(part);
            self.begin()?;
            if self.waiting.len() > SEALED && self.key.is_some() {
                let rest = self.waiting.split_off(SEALED);
                out.extend_from_slice(self.piece(false)?.expose());
                self.waiting = rest;
            }
        }
        Ok(Secret::new(out.to_vec()))
    }

    /// There is no more. Gives the last piece; a stream that was cut fails here.
    pub fn finish(mut self) -> Result<Secret<Vec<u8>>, VaultError> {
        self.begin()?;
        if self.key.is_none() {
            return Err(VaultError::Malformed("the sealed stream ends within its head"));
        }
        self.piece(true)
    }

    /// Open the key, once it is there whole.
    fn begin(&mut self) -> Result<(), VaultError> {
        if self.key.is_some() {
            return Ok(());
        }
        let Some((length, rest)) = self.waiting.split_first_chunk::<2>() else { return Ok(()) };
        let Some((sealed, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            return Ok(());
        };
        let key = (self.open)(&Sealed::from_bytes(sealed.to_vec())?)?;
        self.key = Some(aes(key.expose())?);
        self.waiting = rest.to_vec();
        Ok(())
    }

    fn piece(&mut self, last: bool) -> Result<Secret<Vec<u8>>, VaultError> {
        let key = self.key.as_ref().ok_or(VaultError::Crypto)?;
        let nonce = nonce(self.number, last);
        self.number = self.number.checked_add(1).ok_or(VaultError::TooLong)?;
        decrypt(key, nonce, DOMAIN, &self.waiting)
    }
}

impl std::fmt::Debug for StreamSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamSealer").field("number", &self.number).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for StreamOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamOpener").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Three zero bytes, the piece's number, whether it is the last. The key is of this stream alone, so that no nonce comes
/// twice under it.
fn nonce(number: u64, last: bool) -> [u8; NONCE_LEN] {
    let mut nonce = [0u8; NONCE_LEN];
    let parts = [0u8; 3].into_iter().chain(number.to_be_bytes()).chain([u8::from(last)]);
    nonce.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    nonce
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base::{SeededRng, Tenant};
    use proptest::prelude::*;

    use super::*;
    use crate::{MasterKey, Purpose};

    fn vault(seed: u64) -> Arc<Vault> {
        let rng = Arc::new(SeededRng::new(seed));
        Arc::new(Vault::new(MasterKey::generate(&*rng).unwrap(), rng).unwrap())
    }

    fn opener(vault: &Arc<Vault>, purpose: Purpose) -> StreamOpener {
        let vault = Arc::clone(vault);
        StreamOpener::new(move |key| vault.open(&Label::new(&Tenant::default(), purpose, "backup", 1), key))
    }

    fn label(tenant: &Tenant) -> Label<'_> {
        Label::new(tenant, Purpose::Backup, "backup", 1)
    }

    fn seal(vault: &Vault, plaintext: &[u8], step: usize) -> Vec<u8> {
        let tenant = Tenant::default();
        let (mut out, mut sealer) = vault.seal_stream(&label(&tenant)).unwrap();
        for part in plaintext.chunks(step.max(1)) {
            out.extend(sealer.push(part).unwrap());
        }
        out.extend(sealer.finish().unwrap());
        out
    }

    fn open(vault: &Arc<Vault>, sealed: &[u8], step: usize) -> Result<Vec<u8>, VaultError> {
        let mut opener = opener(vault, Purpose::Backup);
        let mut out = Vec::new();
        for part in sealed.chunks(step.max(1)) {
            out.extend_from_slice(opener.push(part)?.expose());
        }
        out.extend_from_slice(opener.finish()?.expose());
        Ok(out)
    }

    fn text(length: usize) -> Vec<u8> {
        (0u32..).flat_map(u32::to_be_bytes).take(length).collect()
    }

    #[test]
    fn a_stream_of_any_length_opens_as_it_was_sealed() {
        let vault = vault(1);
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, 2 * PIECE + 1, 5 * PIECE + 77] {
            let sealed = seal(&vault, &text(length), 10_000);
            assert_eq!(open(&vault, &sealed, 7_777).unwrap(), text(length), "{length}");
            assert_eq!(open(&vault, &sealed, usize::MAX).unwrap(), text(length), "{length}");
        }
    }

    #[test]
    fn a_stream_cut_at_a_piece_does_not_open_to_its_end() {
        let vault = vault(1);
        let sealed = seal(&vault, &text(3 * PIECE), PIECE);
        let head = sealed.len() - 3 * (PIECE + TAG);
        for pieces in 0..3 {
            let cut = &sealed[..head + pieces * (PIECE + TAG)];
            assert!(open(&vault, cut, PIECE).is_err(), "{pieces} pieces");
        }
        assert!(open(&vault, &sealed[..head - 1], PIECE).is_err());
        assert!(open(&vault, &[sealed.as_slice(), b"more"].concat(), PIECE).is_err());
    }

    #[test]
    fn pieces_do_not_change_places_nor_streams() {
        let vault = vault(1);
        let (one, other) = (seal(&vault, &text(3 * PIECE), PIECE), seal(&vault, &text(3 * PIECE), PIECE));
        let head = one.len() - 3 * (PIECE + TAG);
        let mut swapped = one.clone();
        let (first, second) = (head..head + PIECE + TAG, head + PIECE + TAG..head + 2 * (PIECE + TAG));
        swapped[first.clone()].copy_from_slice(&one[second.clone()]);
        swapped[second].copy_from_slice(&one[first.clone()]);
        assert_eq!(open(&vault, &swapped, PIECE), Err(VaultError::Altered));
        let mut spliced = one;
        spliced[first.clone()].copy_from_slice(&other[first]);
        assert_eq!(open(&vault, &spliced, PIECE), Err(VaultError::Altered));
    }

    #[test]
    fn another_master_key_or_label_is_named_as_the_reason() {
        let sealed = seal(&vault(1), b"text", 10);
        assert!(matches!(open(&vault(2), &sealed, 10), Err(VaultError::WrongKey(_))));
        let mut opener = opener(&vault(1), Purpose::Secret);
        assert!(matches!(opener.push(&sealed), Err(VaultError::Altered)));
    }

    proptest! {
        #[test]
        fn a_flipped_bit_anywhere_is_noticed(at in any::<proptest::sample::Index>(), bit in 0u8..8) {
            let vault = vault(1);
            let mut sealed = seal(&vault, &text(PIECE + 100), PIECE);
            let at = at.index(sealed.len());
            sealed[at] ^= 1 << bit;
            prop_assert!(open(&vault, &sealed, 50_000).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_open_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), step in 1usize..300) {
            prop_assert!(open(&vault(1), &bytes, step).is_err());
        }
    }
}
