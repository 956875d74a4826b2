//! The data directory: private, and one process's at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use crate::StoreError;

/// Make the directory, for its owner only, unless it is there.
pub(crate) fn prepare(dir: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|error| StoreError::file(dir, error))
}

/// A lock that is held until this is dropped; the system lets go of it when a process dies.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A program that is being started has a copy of the open file until it is itself: closing would leave the lock to that.
        let _ = self.0.unlock();
    }
}

/// Take the lock of the directory, and of a database file that lies outside it.
pub(crate) fn lock(dir: &Path, database: Option<&Path>) -> Result<Vec<Lock>, StoreError> {
    let mut locks = vec![lock_file(&dir.join("vouchgate.lock"), dir)?];
    if let Some(database) = database.filter(|database| database.parent() != Some(dir)) {
        let mut name = database.as_os_str().to_owned();
        name.push(".lock");
        locks.push(lock_file(Path::new(&name), database)?);
    }
    Ok(locks)
}

fn lock_file(path: &Path, guarded: &Path) -> Result<Lock, StoreError> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| StoreError::file(path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock(file)),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked(guarded.to_owned())),
        Err(TryLockError::Error(error)) => Err(StoreError::file(path, error)),
    }
}

/// Make an empty file that only its owner can read, unless there is a file. SQLite gives its WAL the same mode.
pub(crate) fn create_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::file(path, error)),
    }
}
