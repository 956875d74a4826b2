//! What a sound log does.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use audit::disk::{Disk, RealDisk};
use audit::note::Signer;
use audit::tree::{leaf_hash, verify_consistency, verify_inclusion};
use audit::{AppendError, Log, LogError, Options};
use base::{SeededRng, SystemClock};

use crate::disk::MemDisk;

pub(crate) const ORIGIN: &str = "example.com/audit/node-1";

pub(crate) fn signer() -> Signer {
    Signer::generate(ORIGIN, &SeededRng::new(1)).unwrap()
}

pub(crate) fn open_with(disk: impl Disk + 'static, dir: &Path, options: Options) -> Result<Log, LogError> {
    Log::open(Arc::new(disk), dir, signer(), Arc::new(SystemClock), options)
}

pub(crate) fn open(disk: &MemDisk) -> Result<Log, LogError> {
    open_with(disk.clone(), Path::new("/log"), Options::default())
}

pub(crate) fn entry(number: usize) -> Vec<u8> {
    format!("{{\"v\":1,\"kind\":\"test\",\"number\":{number},\"pad\":\"{}\"}}", "x".repeat(number % 50)).into_bytes()
}

/// All entries, out of the bundles of the newest checkpoint.
pub(crate) fn all(log: &Log) -> Vec<Vec<u8>> {
    log.checkpoint().unwrap();
    let reader = log.reader().unwrap();
    let bundles = reader.checkpoint().size.div_ceil(256);
    (0..bundles).flat_map(|bundle| reader.bundle(bundle).unwrap()).collect()
}

#[test]
fn entries_are_on_the_disk_when_they_are_acknowledged_and_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("audit");
    let mut expected = Vec::new();
    for round in 0..3 {
        let log = open_with(RealDisk, &dir, Options::default()).unwrap();
        for number in 0..300 {
            log.append(&entry(number)).unwrap();
            expected.push(entry(number));
        }
        let ack = log.append_awaited(&entry(7)).unwrap();
        expected.push(entry(7));
        assert_eq!(ack.wait(), Ok(expected.len() as u64 - 1), "round {round}");
        assert_eq!(all(&log), expected, "round {round}");
        assert_eq!(log.torn(), 0);
        log.close();
        assert_eq!(log.append(&entry(1)), Err(AppendError::Closed));
    }
    let mode = |path: &str| std::fs::metadata(dir.join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("checkpoint"), mode("tile/0/000"), mode("tile")), (0o700, 0o600, 0o600, 0o700));
}

#[test]
fn every_entry_is_provable_and_every_checkpoint_continues_the_last() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    let mut before: Option<(u64, [u8; 32])> = None;
    for round in [1, 255, 1, 44, 700] {
        let first = log.status().entries as usize;
        let acks: Vec<_> = (0..round).map(|more| log.append_awaited(&entry(first + more)).unwrap()).collect();
        assert!(acks.into_iter().all(|ack| ack.wait().is_ok()));
        let (checkpoint, _) = log.checkpoint().unwrap();
        assert_eq!(checkpoint.size as usize, first + round);
        let reader = log.reader().unwrap();
        if let Some((size, root)) = before {
            let proof = reader.consistency(size).unwrap();
            assert!(verify_consistency((size, &root), (checkpoint.size, &checkpoint.root), &proof));
            assert_eq!(reader.root_at(size).unwrap(), root);
        }
        for index in 0..checkpoint.size {
            let proof = reader.inclusion(index).unwrap();
            let leaf = leaf_hash(&reader.entry(index).unwrap());
            assert!(verify_inclusion(&leaf, index, checkpoint.size, &proof, &checkpoint.root), "{index}");
        }
        assert!(matches!(reader.entry(checkpoint.size), Err(LogError::Missing(_))));
        before = Some((checkpoint.size, checkpoint.root));
    }
    // Partial tiles go when the full one is there.
    let names: Vec<_> = disk.files().iter().map(|path| path.display().to_string()).collect();
    assert!(names.contains(&"/log/tile/entries/003.p/233".to_owned()), "{names:?}");
    assert!(!names.iter().any(|name| name.contains("000.p/") && !name.contains("/1/")), "{names:?}");
}

#[test]
fn many_who_wait_share_one_fsync() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    let acks: Vec<_> = (0..5000).map(|number| log.append_awaited(&entry(number)).unwrap()).collect();
    for (place, ack) in acks.into_iter().enumerate() {
        assert_eq!(ack.wait(), Ok(place as u64));
    }
    let status = log.status();
    assert_eq!(status.entries, 5000);
    assert!(status.writes < 500, "{} writes", status.writes);
}

#[test]
fn segments_are_removed_once_their_entries_are_in_tiles_that_are_on_the_disk() {
    let disk = MemDisk::new();
    let mut expected = Vec::new();
    // Whether the tree is made of what is in memory, of what is on the disk, or of now one and now the other.
    for (round, fresh) in [2 << 20, 0, 2_000, 40_000].into_iter().enumerate() {
        let small = Options { segment: 10_000, fresh, ..Options::default() };
        let log = open_with(disk.clone(), Path::new("/log"), small).unwrap();
        for number in 0..1500 {
            let ack = log.append_awaited(&entry(number)).unwrap();
            expected.push(entry(number));
            if number % 100 == 99 {
                ack.wait().unwrap();
            }
        }
        assert_eq!(all(&log), expected, "round {round}");
        log.close();
        let segments = disk.files().iter().filter(|path| path.extension().is_some_and(|seg| seg == "seg")).count();
        assert!(segments < 8, "{segments} segments are left");
    }
    let log = open(&disk).unwrap();
    let mut replayed = Vec::new();
    log.replay(5_990, |index, entry| replayed.push((index, entry.to_vec()))).unwrap();
    assert_eq!(replayed.len(), 10);
    assert_eq!(replayed[0], (5_990, expected[5_990].clone()));
}

#[test]
fn a_log_is_one_processs_at_a_time_and_one_nodes_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let log = open_with(RealDisk, dir.path(), Options::default()).unwrap();
    assert_eq!(open_with(RealDisk, dir.path(), Options::default()).err().map(|e| e.reason()), Some("audit_locked"));
    log.append_awaited(b"{}").unwrap().wait().unwrap();
    drop(log);
    let other = Signer::generate("example.com/audit/node-2", &SeededRng::new(1)).unwrap();
    let clock = Arc::new(SystemClock);
    let error = Log::open(Arc::new(RealDisk), dir.path(), other, clock.clone(), Options::default()).err().unwrap();
    assert!(matches!(error, LogError::Damaged { .. } | LogError::Origin { .. }), "{error}");
    let other = Signer::generate(ORIGIN, &SeededRng::new(2)).unwrap();
    let error = Log::open(Arc::new(RealDisk), dir.path(), other, clock, Options::default()).err().unwrap();
    assert_eq!(error.reason(), "note_unsigned");
    assert!(open_with(RealDisk, dir.path(), Options::default()).is_ok());
}

#[test]
fn checkpoints_are_told_of_and_signed_by_the_logs_key() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&told);
    let announce: audit::Announce = Box::new(move |checkpoint, note| {
        let read = audit::checkpoint::Checkpoint::verify(note.as_bytes(), signer().verifier()).unwrap();
        assert_eq!(read, *checkpoint);
        hear.lock().unwrap().push(checkpoint.size);
    });
    let disk = MemDisk::new();
    let options = Options { announce: Some(announce), ..Options::default() };
    let log = open_with(disk.clone(), Path::new("/log"), options).unwrap();
    while log.status().checkpoint.is_none() {
        std::thread::yield_now();
    }
    assert_eq!(*told.lock().unwrap(), [0], "one at the beginning, nobody having asked for it");
    log.append_awaited(b"{}").unwrap().wait().unwrap();
    log.checkpoint().unwrap();
    log.append(b"{}").unwrap();
    log.close();
    assert_eq!(*told.lock().unwrap(), [0, 1, 2], "and the last one at the end");
    let again = open(&disk).unwrap();
    assert_eq!(again.status().checkpoint.map(|checkpoint| checkpoint.size), Some(2));
}
