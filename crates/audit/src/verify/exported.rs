//! Reading an export.

use std::io::{BufRead, Read};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Expected, Finding, Report, Trusted, covered};
use crate::checkpoint::Checkpoint;
use crate::export::{Head, Line, MAX_LINE};
use crate::keys::Keys;
use crate::note::Verifier;
use crate::tree::{Frontier, Hash, leaf_hash, verify_inclusion};

/// How many changes of keys an export has at most.
const MAX_CHANGES: usize = 10_000;

/// Read an export to its end.
pub(super) fn read(input: &mut dyn BufRead, trusted: &Trusted, report: &mut Report) -> Result<(), Finding> {
    let mut line = Vec::new();
    if !next_line(input, &mut line, 0)? {
        return Err(malformed(1, 0, "is missing"));
    }
    let head: Head = serde_json::from_slice(&line).map_err(|_| malformed(1, 0, "is not the head of an export"))?;
    if head.export != 1 || head.from > head.to || head.to > head.size {
        return Err(malformed(1, 0, "is not the head of an export of this version"));
    }
    report.origin = Some(head.origin.clone());
    report.size = head.size;
    let (keys, own, mut more) = signed(input, &mut line, &head, trusted)?;
    report.root = Some(STANDARD.encode(own.root));
    report.changes = covered(&keys, own.size);
    let (mut tree, mut kept, mut expected, mut sound) = (Frontier::new(), Vec::new(), None, 0);
    // The head, its checkpoint, and what came before this line.
    let mut number = 2 + keys.changes().len() as u64;
    while more {
        number += 1;
        let parsed = Line::parse(&line).ok_or_else(|| malformed(number, tree.size(), "is not a line of an export"))?;
        if let (Line::Kept(note), None) = (&parsed, &expected) {
            kept.push(note.clone());
            more = next_line(input, &mut line, tree.size())?;
            continue;
        }
        let expected = match &mut expected {
            Some(expected) => expected,
            None => expected.insert(Expected::of(trusted, &keys, &own, &kept)?),
        };
        expected.check(&tree, &mut sound)?;
        match parsed {
            Line::Tree { level, index, hash } => {
                let outside = tree.size() < head.from || tree.size() >= head.to;
                if !outside || Some(index) != tree.size().checked_shr(level) || !tree.push_subtree(level, hash) {
                    return Err(malformed(number, tree.size(), "is a subtree in the wrong place"));
                }
            }
            Line::Entry { index, hash, entry } => {
                one_entry((&head, &keys), &tree, (index, hash, entry), report)?;
                tree.push(hash);
            }
            Line::Change { .. } | Line::Kept(_) | Line::Checkpoint(_) => {
                return Err(malformed(number, tree.size(), "is out of its place"));
            }
        }
        expected.check(&tree, &mut sound)?;
        more = next_line(input, &mut line, tree.size())?;
    }
    if tree.size() != own.size {
        let detail =
            format!("the export ends with entry {}, and its checkpoint says there are {}", tree.size(), own.size);
        return Err(Finding::at("log_truncated", tree.size(), detail));
    }
    match expected {
        Some(_) => Ok(()),
        // A log without entries.
        None => Expected::of(trusted, &keys, &own, &kept)?.check(&tree, &mut sound),
    }
}

fn malformed(line: u64, index: u64, why: &str) -> Finding {
    Finding::at("line_malformed", index, format!("line {line} {why}: entry {index} or what stands in its place"))
}

/// The checkpoint of an export and the keys of its log; the line after them, if there is one.
fn signed(
    input: &mut dyn BufRead,
    line: &mut Vec<u8>,
    head: &Head,
    trusted: &Trusted,
) -> Result<(Keys, Checkpoint, bool), Finding> {
    let trusted = match &trusted.verifier {
        Some(verifier) => verifier.clone(),
        None => Verifier::parse(&head.vkey)?,
    };
    let (true, Some(Line::Checkpoint(note))) = (next_line(input, line, 0)?, Line::parse(line)) else {
        return Err(Finding::at("checkpoint_missing", 0, "line 2 of the export is not its checkpoint"));
    };
    let (mut entries, mut proofs) = (Vec::new(), Vec::new());
    let mut more = next_line(input, line, 0)?;
    while let Some(Line::Change { index, proof, entry }) = Line::parse(line).filter(|_| more) {
        if entries.len() == MAX_CHANGES {
            return Err(malformed(entries.len() as u64, 0, "is one of too many changes of keys"));
        }
        proofs.push((index, leaf_hash(entry), proof));
        entries.push((index, entry.to_vec()));
        more = next_line(input, line, 0)?;
    }
    let keys = Keys::of(&trusted, entries)?;
    let own = keys.verify(note.as_bytes())?;
    if (&own.origin, own.size) != (&head.origin, head.size) {
        return Err(malformed(1, 0, "does not say what its checkpoint says"));
    }
    for (index, leaf, proof) in proofs {
        if !verify_inclusion(&leaf, index, own.size, &proof, &own.root) {
            let detail = format!("entry {index} is not the one that is said to have announced a key");
            return Err(Finding::at("key_change_mismatch", index, detail));
        }
    }
    Ok((keys, own, more))
}

fn one_entry(
    (head, keys): (&Head, &Keys),
    tree: &Frontier,
    (index, hash, entry): (u64, Hash, Option<&[u8]>),
    report: &mut Report,
) -> Result<(), Finding> {
    let due = tree.size();
    if index != due || due < head.from || due >= head.to {
        let reason = if index > due { "entry_missing" } else { "entry_added" };
        return Err(Finding::at(reason, due, format!("entry {index} stands where entry {due} belongs")));
    }
    match entry {
        Some(entry) if leaf_hash(entry) != hash => {
            Err(Finding::at("entry_altered", index, format!("entry {index} is not the one that was logged")))
        }
        Some(entry) => {
            keys.agree(index, entry).map_err(|error| Finding::at(error.reason(), index, error.to_string()))?;
            report.entries += 1;
            Ok(())
        }
        None => {
            report.hashes_only += 1;
            Ok(())
        }
    }
}

/// The next line, without its end. `false` after the last. `index` is the entry that is due.
fn next_line(input: &mut dyn BufRead, line: &mut Vec<u8>, index: u64) -> Result<bool, Finding> {
    line.clear();
    let read = input.take(MAX_LINE as u64).read_until(b'\n', line);
    let read = read.map_err(|error| Finding::somewhere("unreadable", format!("the export cannot be read: {error}")))?;
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read > 0 {
        return Err(Finding::at("line_malformed", index, "a line is too long, or the last has no end"));
    }
    Ok(read > 0)
}
