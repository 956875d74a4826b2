//! The files of a log as of one moment, while it is being written: for a backup.
//!
//! Files are linked, not copied: tiles and bundles never change, the checkpoint is replaced and never written over, and of a
//! segment only what it had at that moment is to be read. Everything that has no durable tile yet is in the journal's
//! segments, so these are linked last; one that was removed meanwhile means that its tiles were made durable after ours were
//! linked, and all is linked anew.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::LogError;
use crate::segments;

/// The directory of the log within a data directory.
pub const DIR: &str = "audit";

/// How often it is tried.
const TRIES: u32 = 5;
/// How deep directories of tiles lie.
const DEPTH: u32 = 12;
/// What the directories with links begin with.
const PREFIX: &str = ".audit-held-";

/// The files of a log, held until dropped.
#[derive(Debug, Default)]
pub struct Held {
    dir: Option<PathBuf>,
    files: Vec<(String, PathBuf, u64)>,
}

impl Held {
    /// Each file's path below the log's directory, where to read it, and how much of it.
    pub fn files(&self) -> impl Iterator<Item = (&str, &Path, u64)> {
        self.files.iter().map(|(name, path, length)| (name.as_str(), path.as_path(), *length))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(dir) = &self.dir
            && let Err(error) = std::fs::remove_dir_all(dir)
        {
            tracing::warn!(dir = %dir.display(), %error, "links of a backup could not be removed");
        }
    }
}

/// Hold the files of the log in `log`, the directory [`DIR`] of a data directory. None where there is no log.
pub fn hold(log: &Path) -> Result<Held, LogError> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let Some(parent) = log.parent().filter(|_| log.is_dir()) else { return Ok(Held::default()) };
    let own = format!("{PREFIX}{}-", std::process::id());
    forget_others(parent, &own);
    for _ in 0..TRIES {
        let dir = parent.join(format!("{own}{}", NUMBER.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir(&dir).map_err(|error| LogError::file(&dir, error))?;
        let mut held = Held { dir: Some(dir.clone()), files: Vec::new() };
        let before = names(&segments::dir(log)).map_err(|error| LogError::file(log, error))?;
        link(log, "", &mut held, DEPTH, true).map_err(|error| LogError::file(log, error))?;
        link(log, "", &mut held, 2, false).map_err(|error| LogError::file(log, error))?;
        let oldest = before.first().is_none_or(|oldest| held.files.iter().any(|(name, ..)| name.ends_with(oldest)));
        if oldest {
            return Ok(held);
        }
    }
    Err(LogError::Late)
}

/// Links that a process left that was killed.
fn forget_others(parent: &Path, own: &str) {
    let left = |name: &String| name.starts_with(PREFIX) && !name.starts_with(own);
    for name in names(parent).unwrap_or_default().into_iter().filter(left) {
        let _ = std::fs::remove_dir_all(parent.join(name));
    }
}

/// Link what is below `log`/`below`: either everything but the journal, or the journal.
fn link(log: &Path, below: &str, held: &mut Held, depth: u32, tiles: bool) -> std::io::Result<()> {
    let Some(to) = held.dir.clone().filter(|_| depth > 0) else { return Ok(()) };
    for name in names(&log.join(below))? {
        let path = if below.is_empty() { name } else { format!("{below}/{name}") };
        let from = log.join(&path);
        let found = match std::fs::symlink_metadata(&from) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found?,
        };
        let journal = segments::dir(log).file_name().is_some_and(|dir| path.split('/').next() == dir.to_str());
        if found.is_dir() {
            if journal != tiles {
                link(log, &path, held, depth - 1, tiles)?;
            }
        } else if found.is_file() && path != "lock" && journal != tiles && !is_unfinished(&path) {
            let there = to.join(held.files.len().to_string());
            match std::fs::hard_link(&from, &there) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                done => {
                    done?;
                    let length = std::fs::metadata(&there)?.len();
                    held.files.push((path, there, length));
                }
            }
        }
    }
    Ok(())
}

/// What a directory holds, by name; nothing if there is none.
fn names(dir: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry?.file_name().into_string());
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether a file is still to take the place of another.
fn is_unfinished(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|end| end == "tmp")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(held: &Held) -> Vec<(String, Vec<u8>)> {
        let read = |(name, path, length): (&str, &Path, u64)| {
            let bytes = std::fs::read(path).unwrap();
            (name.to_owned(), bytes[..usize::try_from(length).unwrap()].to_vec())
        };
        held.files().map(read).collect()
    }

    #[test]
    fn what_is_held_stays_as_it_was_while_the_log_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(DIR);
        std::fs::create_dir_all(log.join("tile/0")).unwrap();
        std::fs::create_dir_all(log.join("journal")).unwrap();
        for (name, text) in
            [("checkpoint", "old"), ("tile/0/000", "tile"), ("journal/0000000001.seg", "one"), ("lock", "")]
        {
            std::fs::write(log.join(name), text).unwrap();
        }
        let held = hold(&log).unwrap();
        let before = files(&held);
        let names: Vec<&str> = before.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["checkpoint", "tile/0/000", "journal/0000000001.seg"]);
        std::fs::write(log.join("checkpoint.new"), "new").unwrap();
        std::fs::rename(log.join("checkpoint.new"), log.join("checkpoint")).unwrap();
        let segment = std::fs::OpenOptions::new().append(true).open(log.join("journal/0000000001.seg")).unwrap();
        std::io::Write::write_all(&mut &segment, b"two").unwrap();
        std::fs::remove_file(log.join("tile/0/000")).unwrap();
        assert_eq!(files(&held), before);
        drop(held);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "the links are gone");
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_no_log_is_no_error() {
        let dir = tempfile::tempdir().unwrap();
        let left = dir.path().join(format!("{PREFIX}1-0"));
        std::fs::create_dir(&left).unwrap();
        assert_eq!(hold(&dir.path().join(DIR)).unwrap().files().count(), 0);
        std::fs::create_dir(dir.path().join(DIR)).unwrap();
        drop(hold(&dir.path().join(DIR)).unwrap());
        assert!(!left.exists());
    }
}
