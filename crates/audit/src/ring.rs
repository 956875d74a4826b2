//! The keys a running log signs with: shared by the thread that signs and by whoever replaces one.

use std::sync::{Mutex, MutexGuard, PoisonError};

use base::Timestamp;

use crate::checkpoint::Checkpoint;
use crate::disk;
use crate::error::LogError;
use crate::keys::{Announced, Change, KEYS, Keys, KeysError, MAX_KEYS};
use crate::log::VERIFIER;
use crate::note::{NoteError, Signer, Verifier};
use crate::reader::Files;

/// The keys of a log, oldest first: the first it began with, then each that took another's place, or is about to.
#[derive(Debug)]
pub struct Signers {
    pub(crate) all: Vec<Signer>,
    /// How many replacements the log is known to have announced: it is refused where it has fewer.
    pub(crate) announced: usize,
}

impl Signers {
    /// `announced`: how many replacements the log is known to have.
    pub fn new(all: Vec<Signer>, announced: usize) -> Self {
        Self { all, announced }
    }
}

impl From<Signer> for Signers {
    fn from(only: Signer) -> Self {
        Self { all: vec![only], announced: 0 }
    }
}

/// They, and what the log has announced of them.
#[derive(Debug)]
pub(crate) struct Ring {
    name: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    signers: Vec<Signer>,
    keys: Keys,
}

impl Ring {
    /// Those of the log in `files`: what it has announced has to be what its signers are.
    pub(crate) fn open(files: &Files, signers: Signers) -> Result<Self, LogError> {
        let Signers { all, announced } = signers;
        let first = all.first().ok_or(NoteError::Key("a log needs one"))?.verifier().clone();
        let keys = Keys::of(&first, read(files)?)?;
        let known = std::iter::once(&first).chain(keys.changes().iter().map(|change| &change.change.to));
        if keys.changes().len() >= all.len() || !known.zip(&all).all(|(key, signer)| key == signer.verifier()) {
            return Err(LogError::KeyUnknown { path: files.dir.join(KEYS) });
        }
        if keys.changes().len() < announced {
            return Err(LogError::KeyRolledBack { path: files.dir.clone(), has: keys.changes().len(), announced });
        }
        if all.iter().any(|signer| signer.verifier().name() != first.name()) {
            return Err(NoteError::Key("all keys of a log have its name").into());
        }
        Ok(Self { name: first.name().to_owned(), state: Mutex::new(State { signers: all, keys }) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the log calls itself.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// The key in force.
    pub(crate) fn newest(&self) -> Verifier {
        self.lock().keys.newest().clone()
    }

    /// All keys, as far as announced.
    pub(crate) fn keys(&self) -> Keys {
        self.lock().keys.clone()
    }

    /// How many keys it has, announced or not.
    pub(crate) fn count(&self) -> usize {
        self.lock().signers.len()
    }

    /// The entry that announces `next`, which from now on is known; none where that was done. A key that was to be
    /// announced and perhaps was not comes first.
    pub(crate) fn announcement(
        &self,
        next: Signer,
        (at, until): (Timestamp, Timestamp),
        compromised: bool,
    ) -> Result<Option<Vec<u8>>, LogError> {
        let mut state = self.lock();
        if next.verifier().name() != self.name {
            let (expected, found) = (self.name.clone(), next.verifier().name().to_owned());
            return Err(LogError::Origin { path: KEYS.into(), found, expected });
        }
        if state.keys.has(next.verifier()) {
            return Ok(None);
        }
        let number = state.keys.changes().len() + 1;
        match state.signers.get(number) {
            Some(waiting) if waiting.verifier() == next.verifier() => {}
            Some(_) => return Err(KeysError::Mismatch("another key is to be announced first").into()),
            None => state.signers.push(next),
        }
        let (Some(from), Some(to)) = (state.signers.get(number - 1), state.signers.get(number)) else {
            return Err(KeysError::Mismatch("there is no key before it").into());
        };
        let (old, new) = (from.verifier().clone(), to.verifier().clone());
        let change = Change { number: number as u64, from: old, to: new, at, until, compromised };
        Ok(Some(change.entry(from, to)?))
    }

    /// The log has this entry, which announces a key: gives all keys with it, where it is not among them yet.
    pub(crate) fn followed(&self, index: u64, entry: &[u8]) -> Result<Option<Keys>, KeysError> {
        let state = self.lock();
        if state.keys.agree(index, entry).is_ok() {
            return Ok(None);
        }
        let change = Change::read(entry)?;
        let number = state.keys.changes().len() + 1;
        if state.signers.get(number).is_none_or(|signer| *signer.verifier() != change.to) {
            return Err(KeysError::Mismatch("an entry announces a key that was not given to the log"));
        }
        let mut keys = state.keys.clone();
        keys.push(Announced { index, entry: entry.to_vec(), change })?;
        Ok(Some(keys))
    }

    /// Sign with the last of these from now on: they are on the disk.
    pub(crate) fn adopt(&self, keys: Keys) {
        self.lock().keys = keys;
    }

    /// The note of a checkpoint: of the key in force, and of the one before it as long as that is said to sign too.
    pub(crate) fn sign(&self, checkpoint: &Checkpoint, now: Timestamp) -> Result<String, NoteError> {
        let state = self.lock();
        let newest = state.keys.changes().len();
        let both =
            state.keys.changes().last().is_some_and(|last| last.index < checkpoint.size && now < last.change.until);
        let first = if both { newest.saturating_sub(1) } else { newest };
        let mut signers: Vec<&Signer> = state.signers.get(first..=newest).unwrap_or_default().iter().collect();
        signers.reverse();
        checkpoint.sign_with(&signers)
    }
}

/// The entries that announce keys, as their file has them.
pub(crate) fn read(files: &Files) -> Result<Vec<(u64, Vec<u8>)>, LogError> {
    let path = files.dir.join(KEYS);
    match disk::read(&*files.disk, &path, MAX_KEYS) {
        Ok(bytes) => Ok(Keys::lines(&bytes)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(LogError::file(&path, error)),
    }
}

/// Put them in their file, and the newest into its own; only then may a checkpoint cover the last of the entries.
pub(crate) fn write(files: &Files, keys: &Keys) -> Result<(), LogError> {
    let path = files.dir.join(KEYS);
    disk::replace_durably(&*files.disk, &path, &keys.file()).map_err(|error| LogError::file(&path, error))?;
    write_newest(files, keys.newest())
}

/// Say whose signatures count, for whoever verifies the log where it lies.
pub(crate) fn write_newest(files: &Files, newest: &Verifier) -> Result<(), LogError> {
    let path = files.dir.join(VERIFIER);
    disk::replace(&*files.disk, &path, format!("{newest}\n").as_bytes()).map_err(|error| LogError::file(&path, error))
}
