//! A log, or a part of it, in one file that needs nothing else to be verified.
//!
//! ```text
//! {"export":1,"origin":"..","vkey":"..","size":N,"from":A,"to":B}
//! {"checkpoint":".."}                        the newest checkpoint, as a note
//! {"change":I,"proof":["..",..],"announced":{..}} entries that announced another key, each with its proof against the checkpoint
//! {"kept":".."}                              checkpoints that were kept earlier
//! {"tree":[level,index],"hash":".."}         the subtrees over the entries before A, if there are any
//! {"i":A,"hash":"..","entry":{..}}           each entry with its leaf hash; no entry where it was deleted by retention
//! {"tree":[level,index],"hash":".."}         the subtrees over the entries from B on, if there are any
//! ```

use std::io::{self, Write};
use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::checkpoint::Checkpoint;
use crate::error::LogError;
use crate::follower::HISTORY;
use crate::reader::Reader;
use crate::tile::{MAX_ENTRY, WIDTH};
use crate::tree::{self, Hash, MAX_PROOF, Source};

/// The longest line of an export, in bytes.
pub const MAX_LINE: usize = MAX_ENTRY + 1024;

/// Why an export could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The file.
    #[error("the export cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// What an export says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The version of the format.
    pub export: u8,
    /// Which log.
    pub origin: String,
    /// The public key its checkpoint is signed with: to be believed no more than the rest of the file.
    pub vkey: String,
    /// How many entries the log has.
    pub size: u64,
    /// The first that is in the file.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
}

/// A line of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line<'a> {
    /// An entry, or its hash alone.
    Entry {
        /// Which.
        index: u64,
        /// Its leaf hash.
        hash: Hash,
        /// Its bytes.
        entry: Option<&'a [u8]>,
    },
    /// The root of a perfect subtree.
    Tree {
        /// Its height.
        level: u32,
        /// Which one of that height.
        index: u64,
        /// The root.
        hash: Hash,
    },
    /// An entry that announced another key of the log.
    Change {
        /// Which.
        index: u64,
        /// The proof that it is in the log.
        proof: Vec<Hash>,
        /// Its bytes.
        entry: &'a [u8],
    },
    /// A checkpoint that was kept earlier.
    Kept(String),
    /// The newest checkpoint.
    Checkpoint(String),
}

impl<'a> Line<'a> {
    /// Read a line without its end. Each has one form only.
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        if let Some(rest) = line.strip_prefix(b"{\"i\":") {
            let (index, rest) = number(rest)?;
            let (hash, rest) = hash(rest.strip_prefix(b",\"hash\":\"")?)?;
            let entry = match rest {
                b"\"}" => None,
                rest => Some(rest.strip_prefix(b"\",\"entry\":")?.strip_suffix(b"}")?),
            };
            return Some(Self::Entry { index, hash, entry });
        }
        if let Some(rest) = line.strip_prefix(b"{\"tree\":[") {
            let (level, rest) = number(rest)?;
            let (index, rest) = number(rest.strip_prefix(b",")?)?;
            let (hash, rest) = hash(rest.strip_prefix(b"],\"hash\":\"")?)?;
            let level = u32::try_from(level).ok().filter(|level| *level < 64)?;
            return (rest == b"\"}").then_some(Self::Tree { level, index, hash });
        }
        if let Some(rest) = line.strip_prefix(b"{\"change\":") {
            let (index, rest) = number(rest)?;
            let (proof, rest) = hashes(rest.strip_prefix(b",\"proof\":[")?)?;
            let entry = rest.strip_prefix(b"],\"announced\":")?.strip_suffix(b"}")?;
            return Some(Self::Change { index, proof, entry });
        }
        let Value::Object(members) = serde_json::from_slice(line).ok()? else { return None };
        let mut members = members.into_iter();
        match (members.next()?, members.next()) {
            ((name, Value::String(note)), None) if name == "kept" => Some(Self::Kept(note)),
            ((name, Value::String(note)), None) if name == "checkpoint" => Some(Self::Checkpoint(note)),
            _ => None,
        }
    }

    /// Write the line, with its end.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Entry { index, hash, entry } => {
                write!(out, "{{\"i\":{index},\"hash\":\"{}\"", STANDARD.encode(hash))?;
                if let Some(entry) = entry {
                    out.write_all(b",\"entry\":")?;
                    out.write_all(entry)?;
                }
                out.write_all(b"}\n")
            }
            Self::Tree { level, index, hash } => {
                writeln!(out, "{{\"tree\":[{level},{index}],\"hash\":\"{}\"}}", STANDARD.encode(hash))
            }
            Self::Change { index, proof, entry } => {
                let proof: Vec<_> = proof.iter().map(|hash| format!("\"{}\"", STANDARD.encode(hash))).collect();
                write!(out, "{{\"change\":{index},\"proof\":[{}],\"announced\":", proof.join(","))?;
                out.write_all(entry)?;
                out.write_all(b"}\n")
            }
            Self::Kept(note) => writeln!(out, "{}", serde_json::json!({ "kept": note })),
            Self::Checkpoint(note) => writeln!(out, "{}", serde_json::json!({ "checkpoint": note })),
        }
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take(20).take_while(|byte| byte.is_ascii_digit()).count();
    let (number, rest) = bytes.split_at_checked(digits)?;
    Some((crate::checkpoint::decimal(std::str::from_utf8(number).ok()?)?, rest))
}

fn hash(bytes: &[u8]) -> Option<(Hash, &[u8])> {
    let (text, rest) = bytes.split_at_checked(44)?;
    Some((STANDARD.decode(text).ok()?.try_into().ok()?, rest))
}

/// Hashes between commas, to the bracket that ends them.
fn hashes(mut bytes: &[u8]) -> Option<(Vec<Hash>, &[u8])> {
    let mut hashes = Vec::new();
    while let Some(rest) = bytes.strip_prefix(b"\"") {
        let (hash, rest) = hash(rest)?;
        hashes.push(hash);
        bytes = rest.strip_prefix(b"\"")?;
        if hashes.len() > MAX_PROOF {
            return None;
        }
        match bytes.strip_prefix(b",") {
            Some(after) if after.starts_with(b"\"") => bytes = after,
            Some(_) => return None,
            None => break,
        }
    }
    Some((hashes, bytes))
}

/// Write the entries of `range` and what verifies them; the whole log with `0..u64::MAX`.
pub fn write(reader: &Reader, range: Range<u64>, out: &mut dyn Write) -> Result<u64, ExportError> {
    let (size, minimum) = (reader.checkpoint().size, reader.minimum()?);
    let (from, to) = (range.start.min(size), range.end.min(size));
    let to = to.max(from);
    let head = serde_json::json!({
        "export": 1, "origin": reader.checkpoint().origin, "vkey": reader.keys().at(size).to_string(), "size": size, "from": from,
        "to": to,
    });
    writeln!(out, "{head}")?;
    Line::Checkpoint(reader.note().to_owned()).write(out)?;
    for announced in reader.keys().changes().iter().filter(|announced| announced.index < size) {
        let proof = reader.inclusion(announced.index)?;
        Line::Change { index: announced.index, proof, entry: &announced.entry }.write(out)?;
    }
    for note in kept(reader) {
        // One that was signed since would be no checkpoint of what is exported.
        if Checkpoint::unverified(note.as_bytes()).is_ok_and(|kept| kept.size <= size) {
            Line::Kept(note).write(out)?;
        }
    }
    let mut source = reader.source();
    let mut trees = |from, to, out: &mut dyn Write| -> Result<(), ExportError> {
        for (level, index) in tree::cover(from, to) {
            Line::Tree { level, index, hash: source.node(level, index)? }.write(out)?;
        }
        Ok(())
    };
    trees(0, from, out)?;
    let mut index = from;
    while index < to {
        let first = index / WIDTH * WIDTH;
        let entries = if first + WIDTH <= minimum { None } else { Some(reader.bundle(index / WIDTH)?) };
        for place in index..to.min(first + WIDTH) {
            let entry = entries.as_ref().and_then(|entries| entries.get(usize::try_from(place - first).ok()?));
            Line::Entry { index: place, hash: reader.leaf(place)?, entry: entry.map(Vec::as_slice) }.write(out)?;
        }
        index = first + WIDTH;
    }
    trees(to, size, out)?;
    Ok(to - from)
}

/// The checkpoints that were kept, oldest first. What is no line of them is left out: they are looked at beside the newest.
pub(crate) fn kept(reader: &Reader) -> Vec<String> {
    const MOST: usize = 64 << 20;
    let files = reader.files();
    let bytes = crate::disk::read(&*files.disk, &files.dir.join(HISTORY), MOST).unwrap_or_default();
    let note = |line: &[u8]| {
        let value: Value = serde_json::from_slice(line).ok()?;
        Some(value.get("checkpoint")?.as_str()?.to_owned())
    };
    bytes.split(|byte| *byte == b'\n').filter_map(note).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_has_one_form() {
        let hash = STANDARD.encode([7; 32]);
        let good = format!("{{\"i\":7,\"hash\":\"{hash}\",\"entry\":{{}}}}");
        assert!(Line::parse(good.as_bytes()).is_some());
        for bad in [
            good.replace(":7,", ":07,"),
            good.replace(":7,", ": 7,"),
            good.replace("}}", "}"),
            good.replace("\"i\"", "\"I\""),
            format!("{good} "),
            format!("{{\"tree\":[64,0],\"hash\":\"{hash}\"}}"),
            "{\"checkpoint\":\"a\",\"kept\":\"b\"}".to_owned(),
            "{\"checkpoint\":7}".to_owned(),
            String::new(),
        ] {
            let entry = Line::parse(bad.as_bytes());
            assert!(!matches!(entry, Some(Line::Entry { entry: Some(b"{}"), .. })), "{bad}");
            assert!(bad.contains("entry") || entry.is_none(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn lines_are_read_back(index in any::<u64>(), level in 0u32..64, hash in any::<[u8; 32]>(), text in "[ -~]{0,40}") {
            let entry = format!("{{\"a\":{}}}", serde_json::Value::from(text.clone()));
            for line in [
                Line::Entry { index, hash, entry: Some(entry.as_bytes()) },
                Line::Entry { index, hash, entry: None },
                Line::Tree { level, index, hash },
                Line::Change { index, proof: vec![hash; level as usize % 3], entry: entry.as_bytes() },
                Line::Kept(text.clone()),
                Line::Checkpoint(text.clone()),
            ] {
                let mut bytes = Vec::new();
                line.write(&mut bytes).unwrap();
                prop_assert_eq!(bytes.pop(), Some(b'\n'));
                prop_assert_eq!(Line::parse(&bytes), Some(line));
            }
        }

        #[test]
        fn any_line_is_read_or_refused(line in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = Line::parse(&line);
            let _ = Line::parse(&[b"{\"i\":".as_slice(), &line].concat());
            let _ = Line::parse(&[b"{\"tree\":[".as_slice(), &line].concat());
            let _ = Line::parse(&[b"{\"change\":7,\"proof\":[".as_slice(), &line].concat());
        }
    }
}
