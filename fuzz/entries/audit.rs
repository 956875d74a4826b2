//! What the targets of the `audit` crate do with their input. Included by the targets and by a test of the crate.

use audit::checkpoint::Checkpoint;
use audit::note::{self, Verifier};
use audit::tile::{self, Tile};
use audit::verify::{self, Trusted};
use audit::{Frame, SegmentHeader};

/// What a target does with its input.
type Entry = fn(&[u8]);

/// Every target: its name, and what it does.
pub(crate) const ENTRIES: &[(&str, Entry)] =
    &[("audit_journal", journal), ("audit_tile", tile), ("audit_note", note), ("audit_export", export)];

/// A segment of the journal: nothing is read twice or out of nothing.
fn journal(data: &[u8]) {
    let _ = SegmentHeader::parse(data);
    let mut rest = data;
    while let Some((frame, after)) = Frame::parse(rest) {
        assert!(frame.entry.len() < rest.len() - after.len(), "a frame is longer than its entry");
        rest = after;
    }
}

/// A bundle of entries, a tile of hashes, and the path of either.
fn tile(data: &[u8]) {
    let read: Vec<_> = tile::entries(data).collect();
    if read.iter().all(Option::is_some) {
        let mut again = Vec::new();
        assert!(read.iter().flatten().all(|entry| tile::push_entry(&mut again, entry)));
        assert_eq!(again, data, "what was read is what was written");
    }
    for width in [1, 255, 256] {
        if let Some(hashes) = tile::decode_hashes(data, width) {
            assert_eq!(tile::encode_hashes(&hashes), data);
        }
    }
    if let Some(tile) = std::str::from_utf8(data).ok().and_then(Tile::parse) {
        assert_eq!(Tile::parse(&tile.to_string()), Some(tile));
    }
}

/// Notes that were appended to a file, and keys.
fn note(data: &[u8]) {
    for note in note::split(data) {
        let _ = Checkpoint::unverified(note);
    }
    if let Ok(verifier) = Verifier::parse(&String::from_utf8_lossy(data)) {
        assert_eq!(Verifier::parse(&verifier.to_string()), Ok(verifier));
    }
}

/// An export: what nobody signed is not valid.
fn export(mut data: &[u8]) {
    let report = verify::exported(&mut data, &Trusted::default());
    assert!(!report.valid || report.root.is_some());
}
