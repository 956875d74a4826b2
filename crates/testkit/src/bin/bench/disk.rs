//! What requests leave on the disk: how much, and how many entries of the audit log and lines of the ledger.

use std::path::Path;

/// What lies in a data directory.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Left {
    /// Bytes of all files.
    pub(crate) bytes: u64,
    /// Entries the audit log's newest checkpoint covers.
    pub(crate) entries: u64,
    /// Lines of the ledger that entries hold: what was set aside, and what was settled.
    pub(crate) lines: u64,
}

/// What lies in `data` now.
pub(crate) fn left(data: &Path) -> Left {
    let mut left = Left { bytes: 0, entries: checkpoint(&data.join("audit")), lines: 0 };
    let mut dirs = vec![data.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => dirs.push(entry.path()),
                Ok(found) => left.bytes += found.len(),
                // It has gone meanwhile.
                Err(_) => {}
            }
        }
    }
    left
}

/// The same of a process that has ended, with the lines of the ledger counted.
pub(crate) fn left_at_last(data: &Path) -> Left {
    let mut dirs = vec![data.join("audit/tile/entries")];
    let mut lines = 0;
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            // Whole bundles only, so that nothing is counted twice: the last part is smaller than one of them.
            if path.is_dir() && path.extension().is_none_or(|end| end != "p") {
                dirs.push(path);
            } else if let Ok(bundle) = std::fs::read(&path) {
                lines += ledger_lines(&bundle);
            }
        }
    }
    Left { lines, ..left(data) }
}

/// Each is `[lease,"unit",amount]` in the list of a member `holds` or `settled`.
fn ledger_lines(bundle: &[u8]) -> u64 {
    let text = String::from_utf8_lossy(bundle);
    let lists = ["\"holds\":[", "\"settled\":["].map(|name| {
        let each = |list: &str| list.split("]]").next().map_or(0, |list| list.matches('[').count());
        text.split(name).skip(1).map(each).sum::<usize>()
    });
    lists.iter().sum::<usize>() as u64
}

/// The size of the tree in a checkpoint (c2sp.org/tlog-checkpoint): its second line.
fn checkpoint(audit: &Path) -> u64 {
    let note = std::fs::read_to_string(audit.join("checkpoint")).unwrap_or_default();
    note.lines().nth(1).and_then(|size| size.parse().ok()).unwrap_or(0)
}
