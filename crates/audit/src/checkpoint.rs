//! Checkpoints (c2sp.org/tlog-checkpoint): a note that says how many entries a log has, and the root over them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::note::{self, Note, NoteError, Signer, Verifier};
use crate::tree::Hash;

/// How large a log was, and the root of its tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Which log.
    pub origin: String,
    /// How many entries.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

impl Checkpoint {
    /// The note, signed.
    pub fn sign(&self, signer: &Signer) -> Result<String, NoteError> {
        self.sign_with(&[signer])
    }

    /// The note, signed by all these keys.
    pub fn sign_with(&self, signers: &[&Signer]) -> Result<String, NoteError> {
        if self.origin.is_empty() || self.origin.contains('\n') {
            return Err(NoteError::Malformed("its origin is no line"));
        }
        note::sign(&format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root)), signers)
    }

    /// Read a checkpoint that `verifier` has signed. Its origin has to be the key's name, as this program writes it.
    pub fn verify(note: &[u8], verifier: &Verifier) -> Result<Self, NoteError> {
        let checkpoint = Self::read(Note::parse(note)?.verify(verifier)?)?;
        if checkpoint.origin == verifier.name() {
            Ok(checkpoint)
        } else {
            Err(NoteError::Malformed("its origin is not the name of its key"))
        }
    }

    /// Read a checkpoint whoever has signed it: to find out which key is asked for, not to be believed.
    pub fn unverified(note: &[u8]) -> Result<Self, NoteError> {
        Self::read(Note::parse(note)?.unverified())
    }

    fn read(text: &str) -> Result<Self, NoteError> {
        let malformed = |why| Err(NoteError::Malformed(why));
        let mut lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return malformed("a checkpoint has three lines");
        };
        if lines.any(str::is_empty) || origin.is_empty() {
            return malformed("a checkpoint has no empty line");
        }
        let Some(size) = decimal(size) else { return malformed("its size is no number") };
        let root = if root.len() == 44 { STANDARD.decode(root).ok() } else { None };
        let Some(root) = root.and_then(|root| Hash::try_from(root).ok()) else {
            return malformed("its root is no hash in base64");
        };
        Ok(Self { origin: origin.to_owned(), size, root })
    }
}

/// Digits without a zero before them.
pub(crate) fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;
    use proptest::prelude::*;

    fn signer() -> Signer {
        Signer::generate("example.com/audit", &SeededRng::new(1)).unwrap()
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_signed() {
        let checkpoint = Checkpoint { origin: "example.com/audit".into(), size: 20_852_163, root: [9; 32] };
        let note = checkpoint.sign(&signer()).unwrap();
        assert!(note.starts_with("example.com/audit\n20852163\nCQkJ"), "{note}");
        assert_eq!(Checkpoint::verify(note.as_bytes(), signer().verifier()), Ok(checkpoint.clone()));
        let other = Checkpoint { origin: "example.com/other".into(), ..checkpoint };
        let note = other.sign(&signer()).unwrap();
        assert!(Checkpoint::verify(note.as_bytes(), signer().verifier()).is_err(), "another log's");
    }

    #[test]
    fn a_number_is_written_in_one_way_only() {
        for (text, size) in [("0", Some(0)), ("7", Some(7)), ("18446744073709551615", Some(u64::MAX))] {
            assert_eq!(decimal(text), size, "{text}");
        }
        for text in ["", "00", "07", "+7", "-7", " 7", "7 ", "18446744073709551616", "1e3"] {
            assert_eq!(decimal(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_written_back_alike(text in "[a-z/]{0,9}\n[0-9]{0,3}\n[A-Za-z+/=]{40,46}\n") {
            if let Ok(read) = Checkpoint::read(&text) {
                let again = format!("{}\n{}\n{}\n", read.origin, read.size, STANDARD.encode(read.root));
                prop_assert_eq!(again, text);
            }
        }
    }
}
