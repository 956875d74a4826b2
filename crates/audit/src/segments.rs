//! The journal's segments as they are found at the start: which of their entries count, and where the last one was torn.
//!
//! A segment's entries count up to where the next one begins: a segment whose write or fsync failed was given up there, and
//! what it holds beyond was never acknowledged.

use std::path::{Path, PathBuf};

use crate::disk::{self, Disk};
use crate::error::LogError;
use crate::frame::{self, Frame, SEGMENT_HEADER, SegmentHeader};
use crate::queue::MAX_BYTES;

/// A segment is ended once it is this long, in bytes.
pub(crate) const SEGMENT: u64 = 8 << 20;
/// The longest one can be: it was about to be ended, and one full queue was written, each entry framed.
const MAX_SEGMENT: usize = (64 << 20) + 2 * MAX_BYTES;

/// A segment of the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) seq: u64,
    /// The index of its first entry.
    pub(crate) first: u64,
    /// The index after its last one.
    pub(crate) end: u64,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) segments: Vec<Segment>,
    /// How many bytes of the last one were cut off, if any.
    pub(crate) torn: u64,
    /// The number of the next one.
    pub(crate) next: u64,
}

/// Where the journal's segments are.
pub(crate) fn dir(log: &Path) -> PathBuf {
    log.join("journal")
}

pub(crate) fn path(log: &Path, seq: u64) -> PathBuf {
    dir(log).join(format!("{seq:010}.seg"))
}

/// The numbers of the segments that are there, in order.
pub(crate) fn numbers(disk: &dyn Disk, log: &Path) -> Result<Vec<u64>, LogError> {
    let dir = dir(log);
    let names = disk.list(&dir).map_err(|error| LogError::file(&dir, error))?;
    let number = |name: &String| name.strip_suffix(".seg").filter(|n| n.len() == 10).and_then(|n| n.parse().ok());
    let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Read all of a segment.
pub(crate) fn read(disk: &dyn Disk, log: &Path, seq: u64) -> Result<Vec<u8>, LogError> {
    let path = path(log, seq);
    disk::read(disk, &path, MAX_SEGMENT).map_err(|error| LogError::file(&path, error))
}

/// Look through the journal. Where the last segment is torn, or may not be on the disk although it can be read, it is written
/// anew: the system may have dropped what it could not write, and show it all the same until it is restarted.
pub(crate) fn recover(disk: &dyn Disk, log: &Path, id: [u8; 8]) -> Result<Found, LogError> {
    let mut heads = Vec::new();
    let mut next = 1;
    for seq in numbers(disk, log)? {
        next = seq + 1;
        let bytes = read(disk, log, seq)?;
        match SegmentHeader::parse(&bytes) {
            Some(head) if head.seq == seq && head.log == id => heads.push((head, bytes)),
            // Not written to the end of its head: no entry of it was acknowledged.
            None if bytes.len() < SEGMENT_HEADER || bytes.iter().all(|byte| *byte == 0) => {
                discard(disk, log, seq)?;
            }
            _ => {
                let index = heads.last().map_or(0, |(head, _): &(SegmentHeader, _)| head.first);
                let why = "the head of a segment of the journal is not as it was written";
                return Err(LogError::Damaged { path: path(log, seq), index, why });
            }
        }
    }
    let mut found = Found { next, ..Found::default() };
    let mut heads = heads.into_iter().peekable();
    while let Some((head, bytes)) = heads.next() {
        let limit = heads.peek().map(|(next, _)| next.first);
        let damaged = |index, why| Err(LogError::Damaged { path: path(log, head.seq), index, why });
        if found.segments.last().is_some_and(|before| before.end != head.first) {
            return damaged(head.first, "the journal's segments do not follow each other");
        }
        let body = bytes.get(SEGMENT_HEADER..).unwrap_or_default();
        let (mut rest, mut end) = (body, head.first);
        while let Some((_, after)) = Frame::parse(rest).filter(|_| limit.is_none_or(|limit| end < limit)) {
            rest = after;
            end += 1;
        }
        if limit.is_some_and(|limit| end < limit) || (limit.is_none() && frame::continues(rest)) {
            return damaged(end, "an entry of the journal is not as it was written");
        }
        if limit.is_none() {
            found.torn = rest.len() as u64;
            let whole = bytes.len() - rest.len();
            let path = path(log, head.seq);
            let kept = bytes.get(..whole).unwrap_or_default();
            disk::replace_durably(disk, &path, kept).map_err(|error| LogError::file(&path, error))?;
        }
        found.segments.push(Segment { seq: head.seq, first: head.first, end });
    }
    Ok(found)
}

/// Remove a segment.
pub(crate) fn discard(disk: &dyn Disk, log: &Path, seq: u64) -> Result<(), LogError> {
    let path = path(log, seq);
    disk.remove(&path).map_err(|error| LogError::file(&path, error))
}
