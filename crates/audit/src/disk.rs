//! The few things the log asks of a file system, so that a test can have one that fails.

use std::any::Any;
use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file system. Errors are the system's own.
pub trait Disk: Send + Sync + fmt::Debug {
    /// Make a directory and those above it (mode 0700), unless it is there.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    /// Make an empty file (mode 0600) in the place of any that was there.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Open a file (mode 0600) to write after what it holds, making it unless it is there.
    fn extend(&self, path: &Path) -> io::Result<Box<dyn Output>>;
    /// Open a file to read it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>>;
    /// The names in a directory, in no order.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Give a file another name, in place of any that has it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Remove a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Remove a directory and all in it.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Wait until what was written to a file, or the names in a directory, would survive a loss of power.
    fn sync(&self, path: &Path) -> io::Result<()>;
    /// The same for many files: each is begun before the first is waited for. The one that fails is named.
    fn sync_all(&self, paths: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
        paths.iter().try_for_each(|path| self.sync(path).map_err(|error| (path.clone(), error)))
    }
    /// Hold a lock until what is returned is dropped. [`io::ErrorKind::WouldBlock`] while somebody else has it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>>;
}

/// A file that is written to its end.
pub trait Output: Send {
    /// Write all of it.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Wait until what was written would survive a loss of power.
    fn sync(&mut self) -> io::Result<()>;
    /// Cut the file to this length.
    fn cut(&mut self, length: u64) -> io::Result<()>;
}

/// A file that is read.
pub trait Input: Send {
    /// Read from `offset` on; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
}

/// The machine's own file system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)?;
        Ok(Box::new(file))
    }

    fn extend(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(OpenOptions::new().create(true).append(true).mode(0o600).open(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        Ok(Box::new(File::open(path)?))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let name = |entry: io::Result<std::fs::DirEntry>| Ok(entry?.file_name().to_string_lossy().into_owned());
        std::fs::read_dir(path)?.map(name).collect()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_dir_all(path)
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn sync_all(&self, paths: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
        /// How many are open at once.
        const TOGETHER: usize = 64;
        for paths in paths.chunks(TOGETHER) {
            let open = |path: &PathBuf| File::open(path).map_err(|error| (path.clone(), error));
            let files = paths.iter().map(open).collect::<Result<Vec<_>, _>>()?;
            for file in &files {
                // Linux begins to write what such a file has in memory, and waits for nothing. It is advice: what comes of it
                // does not matter.
                let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
            }
            for (file, path) in files.iter().zip(paths) {
                file.sync_all().map_err(|error| (path.clone(), error))?;
            }
        }
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        let file = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)?;
        file.try_lock().map_err(io::Error::from)?;
        Ok(Box::new(Lock(file)))
    }
}

/// A lock that is held until this is dropped; the system lets go of it when a process dies.
struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // A program that is being started has a copy of the open file until it is itself: closing would leave the lock to that.
        let _ = self.0.unlock();
    }
}

impl Output for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        self.set_len(length)
    }
}

impl Input for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

/// A whole file of at most `limit` bytes.
pub(crate) fn read(disk: &dyn Disk, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    struct From<'a>(&'a dyn Input, u64);
    impl Read for From<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.0.read_at(buffer, self.1)?;
            self.1 += read as u64;
            Ok(read)
        }
    }
    let input = disk.open(path)?;
    let mut bytes = Vec::new();
    From(input.as_ref(), 0).take(limit as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is larger than it can be"));
    }
    Ok(bytes)
}

/// Put `bytes` in a file's place so that a reader sees the old or the new, never a part. Nothing is waited for.
pub(crate) fn replace(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(disk, path, bytes, false)
}

/// The same, and wait until it would survive a loss of power.
pub(crate) fn replace_durably(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> io::Result<()> {
    put(disk, path, bytes, true)?;
    path.parent().map_or(Ok(()), |dir| disk.sync(dir))
}

fn put(disk: &dyn Disk, path: &Path, bytes: &[u8], sync: bool) -> io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let beside = Path::new(&name);
    let mut file = disk.create(beside)?;
    file.append(bytes)?;
    if sync {
        file.sync()?;
    }
    drop(file);
    disk.rename(beside, path)
}
