//! Signed notes (c2sp.org/signed-note): text, and Ed25519 signatures under it; and the keys that make and verify them.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base::{Rng, Secret};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The longest note that is read, in bytes: a checkpoint with a good many witnesses.
pub const MAX_NOTE: usize = 16 * 1024;
/// How many signatures of a note are looked at. The specification asks for 16 at least.
const MAX_SIGNATURES: usize = 32;
/// The signature type of Ed25519.
const ED25519_TYPE: u8 = 1;
/// What a signature line begins with.
const DASH: &str = "\u{2014} ";

/// The notes in a file that they were appended to, one after the other. What is none, since whoever wrote it was killed while
/// writing, is passed over; where there is no note at all, everything is given, for whoever says what is wrong with it.
pub fn split(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut notes, mut start, mut at) = (Vec::new(), 0, 0);
    // Whether the line before was empty, and whether this one's note has a signature.
    let (mut empty, mut signed) = (false, false);
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let is_signature = line.starts_with(DASH.as_bytes());
        if is_signature && (empty || signed) {
            signed = true;
        } else if signed || empty {
            if signed {
                notes.extend(bytes.get(start..at));
            }
            (start, signed) = (at, false);
        }
        empty = line == b"\n";
        at += line.len();
        if empty && start + line.len() == at {
            start = at;
        }
    }
    if signed || notes.is_empty() {
        notes.extend(bytes.get(start..));
    }
    notes
}

/// Why a note or a key is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// It is not a signed note.
    #[error("this is not a signed note: {0}")]
    Malformed(&'static str),
    /// No signature is of the key that is trusted.
    #[error("the note is not signed by the key {0:?}")]
    Unsigned(KeyHash),
    /// A signature of the key that is trusted does not verify.
    #[error("the note's signature does not verify")]
    Signature,
    /// It is not a key in the form `NAME+HASH+KEY`.
    #[error("this is not a verifier key: {0}")]
    Key(&'static str),
    /// The cryptographic library failed.
    #[error("the cryptographic library failed")]
    Crypto,
}

impl NoteError {
    /// A short stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "note_malformed",
            Self::Unsigned(_) => "note_unsigned",
            Self::Signature => "note_signature",
            Self::Key(_) => "verifier_key_malformed",
            Self::Crypto => "crypto_failed",
        }
    }
}

/// The first 32 bits of the hash of a key and its name: tells keys apart, proves nothing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash(u32);

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// The public half of a key that signs notes, and its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    hash: KeyHash,
    key: [u8; 32],
}

impl Verifier {
    fn new(name: &str, key: [u8; 32]) -> Result<Self, NoteError> {
        if !is_key_name(name) {
            return Err(NoteError::Key("its name is empty, or has a space or a plus"));
        }
        let preimage = [name.as_bytes(), b"\n", &[ED25519_TYPE], &key].concat();
        let hash = digest(&SHA256, &preimage);
        let (first, _) = hash.as_ref().split_first_chunk::<4>().ok_or(NoteError::Crypto)?;
        Ok(Self { name: name.to_owned(), hash: KeyHash(u32::from_be_bytes(*first)), key })
    }

    /// Read `NAME+HASH+KEY`: the hash in 8 hexadecimal digits, the key (a byte for its type, and 32 bytes) in base64.
    pub fn parse(text: &str) -> Result<Self, NoteError> {
        let text = text.strip_suffix('\n').unwrap_or(text);
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(hash), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key("it has no three parts between plus signs"));
        };
        let lower = hash.len() == 8 && hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let hash = lower.then(|| u32::from_str_radix(hash, 16).ok()).flatten();
        let hash = hash.ok_or(NoteError::Key("its hash is not 8 hexadecimal digits"))?;
        let bytes = if key.len() == 44 { STANDARD.decode(key).ok() } else { None };
        let key = match bytes.as_deref().and_then(<[u8]>::split_first) {
            Some((&ED25519_TYPE, key)) => <[u8; 32]>::try_from(key).ok(),
            _ => None,
        };
        let verifier = Self::new(name, key.ok_or(NoteError::Key("it holds no Ed25519 key"))?)?;
        if verifier.hash == KeyHash(hash) { Ok(verifier) } else { Err(NoteError::Key("its hash is of another key")) }
    }

    /// Whose key it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What tells it from others of the name.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }
}

impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = STANDARD.encode([&[ED25519_TYPE], self.key.as_slice()].concat());
        write!(f, "{}+{:?}+{key}", self.name, self.hash)
    }
}

/// A key that signs notes.
pub struct Signer {
    verifier: Verifier,
    pair: Ed25519KeyPair,
    seed: Secret<[u8; 32]>,
}

impl Signer {
    /// A new random key.
    pub fn generate(name: &str, rng: &dyn Rng) -> Result<Self, NoteError> {
        let mut seed = Zeroizing::new([0u8; 32]);
        rng.fill(seed.as_mut());
        Self::from_seed(name, &seed)
    }

    /// The key of this seed (RFC 8032 section 5.1.5).
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| NoteError::Crypto)?;
        let key = <[u8; 32]>::try_from(pair.public_key().as_ref()).map_err(|_| NoteError::Crypto)?;
        Ok(Self { verifier: Verifier::new(name, key)?, pair, seed: Secret::new(*seed) })
    }

    /// The seed, to be sealed.
    pub fn seed(&self) -> &Secret<[u8; 32]> {
        &self.seed
    }

    /// The public half.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// A note: `text`, which ends with a line break, and the signature.
    pub fn sign(&self, text: &str) -> Result<String, NoteError> {
        sign(text, &[self])
    }

    /// The line of a signature under `text`.
    fn line(&self, text: &str) -> Result<String, NoteError> {
        let signature = self.pair.try_sign(text.as_bytes()).map_err(|_| NoteError::Crypto)?;
        let bytes = [self.verifier.hash.0.to_be_bytes().as_slice(), signature.as_ref()].concat();
        Ok(format!("{DASH}{} {}\n", self.verifier.name, STANDARD.encode(bytes)))
    }
}

/// A note: `text`, which ends with a line break, and the signatures of all these keys.
pub fn sign(text: &str, signers: &[&Signer]) -> Result<String, NoteError> {
    if !is_text(text) || signers.is_empty() {
        return Err(NoteError::Malformed("its text cannot be signed"));
    }
    let mut note = format!("{text}\n");
    for signer in signers {
        note.push_str(&signer.line(text)?);
    }
    Ok(note)
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}+{:?})", self.verifier.name, self.verifier.hash)
    }
}

/// A note as it was read: nothing of it is to be believed before [`Note::verify`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note<'a> {
    text: &'a str,
    signatures: Vec<(&'a str, KeyHash, Vec<u8>)>,
}

impl<'a> Note<'a> {
    /// Read a note.
    pub fn parse(note: &'a [u8]) -> Result<Self, NoteError> {
        let malformed = |why| Err(NoteError::Malformed(why));
        if note.len() > MAX_NOTE {
            return malformed("it is too long");
        }
        let Ok(note) = std::str::from_utf8(note) else { return malformed("it is not UTF-8") };
        if note.bytes().any(|byte| byte < b' ' && byte != b'\n') {
            return malformed("it has control characters");
        }
        // The last empty line is where the text ends.
        let Some(at) = note.rfind("\n\n") else { return malformed("it has no signatures") };
        let (text, lines) = note.split_at(at + 1);
        let Some(lines) = lines.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n')) else {
            return malformed("its last line has no end");
        };
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            if signatures.len() == MAX_SIGNATURES {
                return malformed("it has too many signatures");
            }
            let parts = line.strip_prefix(DASH).and_then(|line| line.split_once(' '));
            let Some((name, encoded)) = parts.filter(|(name, _)| is_key_name(name)) else {
                return malformed("a signature is not in its form");
            };
            let Ok(bytes) = STANDARD.decode(encoded) else { return malformed("a signature is not in base64") };
            let Some((hash, signature)) = bytes.split_first_chunk::<4>().filter(|(_, rest)| !rest.is_empty()) else {
                return malformed("a signature is too short");
            };
            signatures.push((name, KeyHash(u32::from_be_bytes(*hash)), signature.to_vec()));
        }
        Ok(Self { text, signatures })
    }

    /// The text, once a signature of `verifier` has been verified. Signatures of others are not looked at.
    pub fn verify(&self, verifier: &Verifier) -> Result<&'a str, NoteError> {
        let of = |(name, hash, _): &&(&str, KeyHash, Vec<u8>)| *name == verifier.name && *hash == verifier.hash;
        let mut signed = false;
        for (.., signature) in self.signatures.iter().filter(of) {
            let key = UnparsedPublicKey::new(&ED25519, &verifier.key);
            key.verify(self.text.as_bytes(), signature).map_err(|_| NoteError::Signature)?;
            signed = true;
        }
        if signed { Ok(self.text) } else { Err(NoteError::Unsigned(verifier.hash)) }
    }

    /// The text, which nobody may have signed.
    pub fn unverified(&self) -> &'a str {
        self.text
    }
}

fn is_key_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c == '+' || c.is_whitespace() || c.is_control())
}

/// Nothing in it could be taken for the signatures.
fn is_text(text: &str) -> bool {
    text.ends_with('\n') && text.len() <= MAX_NOTE / 2 && !text.bytes().any(|byte| byte < b' ' && byte != b'\n')
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::SeededRng;
    use proptest::prelude::*;

    // The example of Go's package note (golang.org/x/mod/sumdb/note), which defined the format.
    const GO_KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const GO_NOTE: &str = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";

    fn signer() -> Signer {
        Signer::generate("example.com/audit", &SeededRng::new(1)).unwrap()
    }

    #[test]
    fn notes_that_were_appended_are_told_apart() {
        let note = |size: &str| format!("o\n{size}\nroot\n\n\u{2014} o AAAA\n\u{2014} w BBBB\n");
        let (first, second) = (note("1"), note("22"));
        let told = |text: &str| {
            split(text.as_bytes()).into_iter().map(|n| String::from_utf8_lossy(n).into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(told(&first), [&*first]);
        assert_eq!(told(&format!("{first}{second}{first}")), [&*first, &*second, &*first]);
        assert_eq!(told(&format!("\n\n{first}\n{second}")), [&*first, &*second]);
        // Cut off in the middle of its text, and ended by the next start.
        assert_eq!(told(&format!("{first}o\n2\n\n{second}")), [&*first, &*second]);
        assert_eq!(told(&format!("{first}o\n2")), [&*first]);
        assert_eq!(told("no note"), ["no note"]);
        assert_eq!(told(""), [""]);
    }

    proptest! {
        #[test]
        fn no_bytes_are_split_into_more_than_there_are(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let notes = split(&bytes);
            prop_assert!(!notes.is_empty() && notes.iter().map(|note| note.len()).sum::<usize>() <= bytes.len());
        }
    }

    #[test]
    fn a_note_of_another_implementation_verifies() {
        let verifier = Verifier::parse(GO_KEY).unwrap();
        assert_eq!(verifier.to_string(), GO_KEY);
        let note = Note::parse(GO_NOTE.as_bytes()).unwrap();
        assert!(note.verify(&verifier).unwrap().ends_with("your problem is.\n"));
        let bent = GO_NOTE.replace("think", "thing");
        assert_eq!(Note::parse(bent.as_bytes()).unwrap().verify(&verifier), Err(NoteError::Signature));
    }

    #[test]
    fn what_is_signed_verifies_with_its_key_and_with_no_other() {
        let signer = signer();
        let note = signer.sign("a\n\nb\n").unwrap();
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_eq!(note.verify(signer.verifier()), Ok("a\n\nb\n"));
        let other = Signer::generate("example.com/audit", &SeededRng::new(2)).unwrap();
        assert!(matches!(note.verify(other.verifier()), Err(NoteError::Unsigned(_))));
        let again = Signer::from_seed("example.com/audit", signer.seed().expose()).unwrap();
        assert_eq!(again.verifier(), signer.verifier());
        assert_eq!(Verifier::parse(&signer.verifier().to_string()).as_ref(), Ok(signer.verifier()));
    }

    #[test]
    fn what_could_be_read_in_two_ways_is_no_note() {
        let good = signer().sign("x\n").unwrap();
        for bad in [
            "",
            "x\n",
            "x\n\n",
            good.trim_end(),
            &good.replace("\u{2014} ", "- "),
            &good.replace('x', "x\r"),
            &good.replace("example.com/audit", "example.com audit"),
            &good.replace('\u{2014}', "\n\u{2014}"),
            &format!("{good}\n"),
            &format!("x\n\n{}", "\u{2014} a AAAAAAAA\n".repeat(MAX_SIGNATURES + 1)),
            &"x".repeat(MAX_NOTE + 1),
        ] {
            let read = Note::parse(bad.as_bytes());
            let accepted = read.as_ref().is_ok_and(|note| note.verify(signer().verifier()) == Ok("x\n"));
            assert!(!accepted, "{bad:?}: {read:?}");
        }
        for bad in ["", "a+b", "a+00000000+AAAA", &GO_KEY.replace("c74f", "C74F"), &GO_KEY.replace("c74f", "c74e")] {
            assert!(Verifier::parse(bad).is_err(), "{bad}");
        }
        assert!(Signer::generate("a b", &SeededRng::new(1)).is_err());
        assert!(signer().sign("no end").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), text in ".{0,80}") {
            let _ = Note::parse(&bytes);
            let _ = Verifier::parse(&text);
            let note = [text.as_bytes(), b"\n\n\xe2\x80\x94 a ", &bytes, b"\n"].concat();
            let _ = Note::parse(&note);
        }

        #[test]
        fn a_note_with_any_byte_changed_says_what_it_said_or_is_refused(at in any::<prop::sample::Index>(), bit in 0u8..8) {
            let signer = signer();
            let mut note = signer.sign("example.com/audit\n7\nAAAA\n").unwrap().into_bytes();
            let at = at.index(note.len());
            note[at] ^= 1 << bit;
            if let Ok(read) = Note::parse(&note) {
                prop_assert!(read.verify(signer.verifier()).is_err());
            }
        }
    }
}
