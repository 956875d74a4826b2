//! A disk in memory that can be full, read-only, failing or without power, and forgets what was not made durable.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use audit::disk::{Disk, Input, Output};
use base::{Rng, SeededRng};

/// What is wrong with the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// It holds no more than this many bytes.
    Full(usize),
    /// It can only be read.
    ReadOnly,
    /// What is written does not get to the disk.
    Sync,
    /// After so many more changes nothing works any more: the power is gone, or the process.
    DeadIn(u64),
    Dead,
}

#[derive(Debug, Default)]
struct Inode {
    data: Vec<u8>,
    durable: Vec<u8>,
}

#[derive(Debug)]
struct Mem {
    inodes: BTreeMap<u64, Inode>,
    names: BTreeMap<PathBuf, u64>,
    durable_names: BTreeMap<PathBuf, u64>,
    dirs: BTreeSet<PathBuf>,
    locks: BTreeSet<PathBuf>,
    next: u64,
    fault: Fault,
    syncs: u64,
}

/// A disk in memory. Clones are the same disk.
#[derive(Debug, Clone)]
pub(crate) struct MemDisk(Arc<Mutex<Mem>>);

struct File(MemDisk, u64);

impl MemDisk {
    pub(crate) fn new() -> Self {
        let (inodes, names, durable_names) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (dirs, locks) = (BTreeSet::new(), BTreeSet::new());
        let mem = Mem { inodes, names, durable_names, dirs, locks, next: 0, fault: Fault::None, syncs: 0 };
        Self(Arc::new(Mutex::new(mem)))
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.lock_mem().fault = fault;
    }

    pub(crate) fn is_dead(&self) -> bool {
        self.lock_mem().fault == Fault::Dead
    }

    pub(crate) fn syncs(&self) -> u64 {
        self.lock_mem().syncs
    }

    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.lock_mem().names.keys().cloned().collect()
    }

    pub(crate) fn bytes(&self, path: &Path) -> Option<Vec<u8>> {
        let mem = self.lock_mem();
        mem.names.get(path).and_then(|inode| mem.inodes.get(inode)).map(|inode| inode.data.clone())
    }

    /// Remove a file, as somebody with access to the disk does.
    pub(crate) fn remove_file(&self, path: &Path) {
        let mut mem = self.lock_mem();
        mem.names.remove(path);
        mem.durable_names.remove(path);
    }

    /// Change the bytes of a file, as somebody with access to the disk does.
    pub(crate) fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut mem = self.lock_mem();
        let inode = mem.names[path];
        let inode = mem.inodes.get_mut(&inode).unwrap();
        change(&mut inode.data);
        inode.durable.clone_from(&inode.data);
    }

    /// The disk as it is found after the process was killed: all that was written is there.
    pub(crate) fn after_kill(&self) -> Self {
        let mem = self.lock_mem();
        let disk = Self::new();
        let mut new = disk.lock_mem();
        for (path, inode) in &mem.names {
            let data = mem.inodes[inode].data.clone();
            new.put(path, data);
        }
        new.dirs.clone_from(&mem.dirs);
        drop(new);
        disk
    }

    /// The disk as it may be found after its power was gone: of what was not made durable anything may be missing.
    pub(crate) fn after_power_loss(&self, rng: &SeededRng) -> Self {
        let mem = self.lock_mem();
        let disk = Self::new();
        let mut new = disk.lock_mem();
        let draw = |below: usize| {
            let mut bytes = [0; 8];
            rng.fill(&mut bytes);
            u64::from_le_bytes(bytes) as usize % below.max(1)
        };
        let paths: BTreeSet<&PathBuf> = mem.names.keys().chain(mem.durable_names.keys()).collect();
        for path in paths {
            let (now, then) = (mem.names.get(path), mem.durable_names.get(path));
            let inode = if now == then || draw(2) == 0 { now } else { then };
            let Some(inode) = inode.map(|inode| &mem.inodes[inode]) else { continue };
            let data = match inode.data.strip_prefix(inode.durable.as_slice()) {
                // Some of what was appended, or room for it without its bytes.
                Some(more) => {
                    let kept = draw(more.len() + 1);
                    let mut data = [&inode.durable, &more[..kept]].concat();
                    if draw(4) == 0 {
                        data.resize(inode.data.len(), 0);
                    }
                    data
                }
                None if draw(2) == 0 => inode.data.clone(),
                None => inode.durable.clone(),
            };
            new.put(path, data);
        }
        new.dirs.clone_from(&mem.dirs);
        drop(new);
        disk
    }

    fn lock_mem(&self) -> MutexGuard<'_, Mem> {
        self.0.lock().unwrap()
    }
}

impl Mem {
    fn put(&mut self, path: &Path, data: Vec<u8>) {
        self.next += 1;
        let (next, durable) = (self.next, data.clone());
        self.inodes.insert(next, Inode { data, durable });
        self.names.insert(path.to_owned(), next);
        self.durable_names.insert(path.to_owned(), next);
    }

    /// Before every change: whether it fails.
    fn change(&mut self, bytes: usize) -> io::Result<()> {
        match self.fault {
            Fault::None | Fault::Sync => Ok(()),
            Fault::Full(limit) => {
                let used: usize = self.names.values().map(|inode| self.inodes[inode].data.len()).sum();
                if used + bytes <= limit { Ok(()) } else { Err(ErrorKind::StorageFull.into()) }
            }
            Fault::ReadOnly => Err(ErrorKind::ReadOnlyFilesystem.into()),
            Fault::DeadIn(0) | Fault::Dead => {
                self.fault = Fault::Dead;
                Err(io::Error::other("dead"))
            }
            Fault::DeadIn(left) => {
                self.fault = Fault::DeadIn(left - 1);
                Ok(())
            }
        }
    }

    fn inode(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| ErrorKind::NotFound.into())
    }
}

impl Disk for MemDisk {
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        let mut mem = self.lock_mem();
        if mem.dirs.contains(path) {
            return Ok(());
        }
        mem.change(0)?;
        mem.dirs.extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let mut mem = self.lock_mem();
        if path.parent().is_some_and(|dir| !mem.dirs.contains(dir)) {
            return Err(ErrorKind::NotFound.into());
        }
        mem.change(0)?;
        mem.next += 1;
        let inode = mem.next;
        mem.inodes.insert(inode, Inode::default());
        mem.names.insert(path.to_owned(), inode);
        Ok(Box::new(File(self.clone(), inode)))
    }

    fn extend(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        let there = self.lock_mem().inode(path);
        match there {
            Ok(inode) => Ok(Box::new(File(self.clone(), inode))),
            Err(_) => self.create(path),
        }
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Input>> {
        let mem = self.lock_mem();
        if mem.fault == Fault::Dead {
            return Err(io::Error::other("dead"));
        }
        Ok(Box::new(File(self.clone(), mem.inode(path)?)))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mem = self.lock_mem();
        let within = mem.names.keys().filter(|name| name.parent() == Some(path));
        Ok(within.filter_map(|name| Some(name.file_name()?.to_str()?.to_owned())).collect())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut mem = self.lock_mem();
        mem.change(0)?;
        let inode = mem.inode(from)?;
        mem.names.remove(from);
        mem.names.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut mem = self.lock_mem();
        mem.change(0)?;
        mem.inode(path)?;
        mem.names.remove(path);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut mem = self.lock_mem();
        if !mem.dirs.contains(path) {
            return Err(ErrorKind::NotFound.into());
        }
        mem.change(0)?;
        mem.names.retain(|name, _| !name.starts_with(path));
        mem.dirs.retain(|dir| !dir.starts_with(path));
        Ok(())
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        let mut mem = self.lock_mem();
        mem.change(0)?;
        if mem.fault == Fault::Sync {
            return Err(io::Error::other("input or output"));
        }
        if let Ok(inode) = mem.inode(path) {
            let inode = mem.inodes.get_mut(&inode).unwrap();
            inode.durable.clone_from(&inode.data);
        }
        let Mem { names, durable_names, .. } = &mut *mem;
        durable_names.retain(|name, _| name.parent() != Some(path));
        durable_names
            .extend(names.iter().filter(|(name, _)| name.parent() == Some(path)).map(|(n, i)| (n.clone(), *i)));
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Any + Send + Sync>> {
        struct Held(MemDisk, PathBuf);
        impl Drop for Held {
            fn drop(&mut self) {
                self.0.lock_mem().locks.remove(&self.1);
            }
        }
        if !self.lock_mem().locks.insert(path.to_owned()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Held(self.clone(), path.to_owned())))
    }
}

impl Output for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut mem = self.0.lock_mem();
        let outcome = mem.change(bytes.len());
        // A write that fails may have written some.
        let written = if outcome.is_ok() { bytes.len() } else { bytes.len() / 2 };
        let read_only = mem.fault == Fault::ReadOnly;
        let inode = mem.inodes.get_mut(&self.1).unwrap();
        if !read_only {
            inode.data.extend_from_slice(&bytes[..written]);
        }
        outcome
    }

    fn sync(&mut self) -> io::Result<()> {
        let mut mem = self.0.lock_mem();
        mem.change(0)?;
        mem.syncs += 1;
        if mem.fault == Fault::Sync {
            return Err(io::Error::other("input or output"));
        }
        let inode = mem.inodes.get_mut(&self.1).unwrap();
        inode.durable.clone_from(&inode.data);
        Ok(())
    }

    fn cut(&mut self, length: u64) -> io::Result<()> {
        let mut mem = self.0.lock_mem();
        mem.change(0)?;
        mem.inodes.get_mut(&self.1).unwrap().data.truncate(length as usize);
        Ok(())
    }
}

impl Input for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mem = self.0.lock_mem();
        let data = mem.inodes[&self.1].data.get(offset as usize..).unwrap_or_default();
        let length = data.len().min(buffer.len());
        buffer[..length].copy_from_slice(&data[..length]);
        Ok(length)
    }
}
