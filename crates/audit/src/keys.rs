//! The keys of a log, one after the other. A key is replaced by an entry of the log itself that both keys have signed; from that
//! entry on checkpoints are of the new key, and for a while of the old one too, for whoever knows only that.
//!
//! An entry that was deleted by retention is still needed to tell whose a checkpoint is, so that all such entries are kept in a
//! file of their own, too. What that file says counts only as far as the tree has the same.

use std::str::Lines;

use base::Timestamp;
use serde::Deserialize;

use crate::checkpoint::{Checkpoint, decimal};
use crate::export::{Line, MAX_LINE};
use crate::json::Object;
use crate::note::{self, KeyHash, Note, NoteError, Signer, Verifier};
use crate::recorder::SCHEMA;

/// What such an entry is called.
pub const KIND: &str = "audit.key_replaced";
/// The file with all such entries.
pub(crate) const KEYS: &str = "keys";
/// The largest such file: thousands of keys.
pub(crate) const MAX_KEYS: usize = 16 << 20;
/// How such an entry begins, and no other: all others say the time first.
const BEGINNING: &[u8] = b"{\"v\":1,\"kind\":\"audit.key_replaced\",";
/// The first line of what is signed. No log can be called so, so that it is never taken for a checkpoint.
const TITLE: &str = "vouchgate audit key change v1";

/// Why a change of keys is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// It is not in its form.
    #[error("a change of the log's key is not in its form: {0}")]
    Malformed(&'static str),
    /// The key before it, or the new one, has not signed it.
    #[error("change {number} of the log's key is not signed by the key {key:?}")]
    Unsigned {
        /// Which change.
        number: u64,
        /// Whose signature is missing or wrong.
        key: KeyHash,
    },
    /// The changes do not follow each other, or are not those the log has.
    #[error("the changes of the log's key are not those that were logged: {0}")]
    Mismatch(&'static str),
    /// The key that is trusted is none the log has ever had.
    #[error("the log has never had the key {0:?}")]
    Foreign(KeyHash),
}

impl KeysError {
    /// A short stable code.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "key_change_malformed",
            Self::Unsigned { .. } => "key_change_unsigned",
            Self::Mismatch(_) => "key_change_mismatch",
            Self::Foreign(_) => "note_unsigned",
        }
    }
}

/// The replacement of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The how-manieth of the log, from 1.
    pub number: u64,
    /// The key until then.
    pub from: Verifier,
    /// The key from then on.
    pub to: Verifier,
    /// When it was made.
    pub at: Timestamp,
    /// Until when checkpoints are signed by both.
    pub until: Timestamp,
    /// Whether the key before it may be known to others.
    pub compromised: bool,
}

impl Change {
    fn text(&self) -> String {
        let Self { number, from, to, at, until, compromised } = self;
        let (at, until) = (at.as_millis(), until.as_millis());
        format!(
            "{TITLE}\n{number}\n{from}\n{to}\n{at}\n{until}\n{}\n",
            if *compromised { "compromised" } else { "routine" }
        )
    }

    /// The entry that announces it. It is signed by both keys, the one before it first.
    pub(crate) fn entry(&self, from: &Signer, to: &Signer) -> Result<Vec<u8>, NoteError> {
        Ok(self.with_statement(&note::sign(&self.text(), &[from, to])?))
    }

    /// What the statement says is said again for people; it is the statement that counts.
    fn with_statement(&self, statement: &str) -> Vec<u8> {
        let mut entry = Object::new();
        entry.number("v", SCHEMA).text("kind", KIND).time("at", self.at).number("number", self.number);
        entry.text("from", &self.from.to_string()).text("to", &self.to.to_string()).time("until", self.until);
        entry.flag("compromised", self.compromised);
        // Not as a text, which would be cut.
        entry.value("statement", &statement.into());
        entry.finish()
    }

    /// Read an entry, and verify both signatures of it.
    pub fn read(entry: &[u8]) -> Result<Self, KeysError> {
        #[derive(Deserialize)]
        struct Entry {
            statement: String,
        }
        let malformed = KeysError::Malformed;
        let parsed = serde_json::from_slice::<Entry>(entry).map_err(|_| malformed("it has no statement"))?;
        let note =
            Note::parse(parsed.statement.as_bytes()).map_err(|_| malformed("its statement is no signed note"))?;
        let change = Self::parse(note.unverified()).ok_or(malformed("its statement is another"))?;
        for key in [&change.from, &change.to] {
            note.verify(key).map_err(|_| KeysError::Unsigned { number: change.number, key: key.hash() })?;
        }
        if change.with_statement(&parsed.statement) == entry {
            Ok(change)
        } else {
            Err(malformed("it says what its statement does not"))
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.strip_prefix(TITLE)?.strip_prefix('\n')?.lines();
        let key = |lines: &mut Lines<'_>| Verifier::parse(lines.next()?).ok();
        let moment = |lines: &mut Lines<'_>| Some(Timestamp::from_millis(i64::try_from(decimal(lines.next()?)?).ok()?));
        let change = Self {
            number: decimal(lines.next()?)?,
            from: key(&mut lines)?,
            to: key(&mut lines)?,
            at: moment(&mut lines)?,
            until: moment(&mut lines)?,
            compromised: lines.next()? == "compromised",
        };
        // Each has one form only.
        (change.text() == text && change.from.name() == change.to.name() && change.from != change.to).then_some(change)
    }
}

/// A change, and the entry that announced it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Which entry.
    pub index: u64,
    /// The entry.
    pub entry: Vec<u8>,
    /// What it says.
    pub change: Change,
}

/// The keys a log has had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    first: Verifier,
    changes: Vec<Announced>,
}

impl Keys {
    /// Those of a log whose key was never replaced.
    pub fn only(key: Verifier) -> Self {
        Self { first: key, changes: Vec::new() }
    }

    /// The keys by these entries with their places. `trusted` is one of them, whichever: each change is signed by the keys before
    /// and after it, so that each vouches for the others.
    pub fn of(trusted: &Verifier, entries: Vec<(u64, Vec<u8>)>) -> Result<Self, KeysError> {
        let mut keys: Option<Self> = None;
        for (index, entry) in entries {
            let change = Change::read(&entry)?;
            let keys = keys.get_or_insert_with(|| Self::only(change.from.clone()));
            keys.push(Announced { index, entry, change })?;
        }
        let keys = keys.unwrap_or_else(|| Self::only(trusted.clone()));
        if keys.has(trusted) { Ok(keys) } else { Err(KeysError::Foreign(trusted.hash())) }
    }

    /// What [`Keys::of`] takes, out of the file [`KEYS`].
    pub(crate) fn lines(bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, KeysError> {
        let malformed = KeysError::Malformed("a line of the file of changes is none");
        let Some(text) = bytes.strip_suffix(b"\n") else {
            return if bytes.is_empty() { Ok(Vec::new()) } else { Err(malformed) };
        };
        let line = |line: &[u8]| match Line::parse(line) {
            Some(Line::Change { index, proof, entry }) if proof.is_empty() && line.len() < MAX_LINE => {
                Ok((index, entry.to_vec()))
            }
            _ => Err(malformed),
        };
        text.split(|byte| *byte == b'\n').map(line).collect()
    }

    /// The file [`KEYS`].
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for Announced { index, entry, .. } in &self.changes {
            // Into memory: it cannot fail.
            let _ = Line::Change { index: *index, proof: Vec::new(), entry }.write(&mut out);
        }
        out
    }

    /// Take the next change up.
    pub(crate) fn push(&mut self, announced: Announced) -> Result<(), KeysError> {
        let change = &announced.change;
        if change.from != *self.newest() || change.number != self.changes.len() as u64 + 1 {
            return Err(KeysError::Mismatch("one does not begin with the key the one before it ended with"));
        }
        if self.changes.last().is_some_and(|last| last.index >= announced.index) {
            return Err(KeysError::Mismatch("they are not in their order"));
        }
        if self.has(&change.to) {
            return Err(KeysError::Mismatch("a key comes back"));
        }
        self.changes.push(announced);
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Verifier> {
        std::iter::once(&self.first).chain(self.changes.iter().map(|announced| &announced.change.to))
    }

    /// Whether it has, or has had, this key.
    pub fn has(&self, key: &Verifier) -> bool {
        self.all().any(|known| known == key)
    }

    /// The key it has now.
    pub fn newest(&self) -> &Verifier {
        self.changes.last().map_or(&self.first, |announced| &announced.change.to)
    }

    /// Whose signature a checkpoint of so many entries has to have: from the announcement on the new key's.
    pub fn at(&self, size: u64) -> &Verifier {
        let announced = self.changes.iter().rev().find(|announced| announced.index < size);
        announced.map_or(&self.first, |announced| &announced.change.to)
    }

    /// The changes, oldest first.
    pub fn changes(&self) -> &[Announced] {
        &self.changes
    }

    /// Read a checkpoint that the key due for its size has signed.
    pub fn verify(&self, note: &[u8]) -> Result<Checkpoint, NoteError> {
        let size = Checkpoint::unverified(note)?.size;
        Checkpoint::verify(note, self.at(size))
    }

    /// Whether an entry of the log agrees with these: one that announces a key has to be one of theirs, or to say again which key
    /// there is already.
    pub(crate) fn agree(&self, index: u64, entry: &[u8]) -> Result<(), KeysError> {
        if !announces(entry) || self.changes.iter().any(|known| known.index == index && known.entry == entry) {
            return Ok(());
        }
        let again = Change::read(entry)?;
        if self.changes.iter().any(|known| known.index < index && known.change.to == again.to)
            && again.to == *self.at(index)
        {
            return Ok(());
        }
        Err(KeysError::Mismatch("an entry announces a key that is not among them"))
    }
}

/// Whether an entry announces another key.
pub(crate) fn announces(entry: &[u8]) -> bool {
    entry.starts_with(BEGINNING)
}
