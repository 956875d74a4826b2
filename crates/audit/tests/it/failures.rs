//! What happens when the disk does not.

use std::path::{Path, PathBuf};

use audit::disk::RealDisk;
use audit::{AppendError, LogError, Options};
use base::{Rng, SeededRng};

use crate::disk::{Fault, MemDisk};
use crate::journal::{all, entry, open, open_with};

/// What somebody does to a file.
type Change = fn(&mut Vec<u8>);

/// What was acknowledged is there, in its place; what was not is there or not, in its order, and whole.
fn holds(found: &[Vec<u8>], sent: &[Vec<u8>], acknowledged: &[(u64, usize)], what: &str) {
    for (index, number) in acknowledged {
        assert_eq!(found.get(*index as usize), Some(&sent[*number]), "{what}: entry {index} was acknowledged");
    }
    let mut rest = sent.iter();
    for entry in found {
        assert!(
            rest.any(|sent| sent == entry),
            "{what}: {:?} was not sent, or not then",
            String::from_utf8_lossy(entry)
        );
    }
}

#[test]
fn a_killed_process_and_a_lost_power_lose_nothing_that_was_acknowledged() {
    for seed in 0..16u64 {
        let rng = SeededRng::new(seed);
        let draw = |below: u64| {
            let mut bytes = [0; 8];
            rng.fill(&mut bytes);
            u64::from_le_bytes(bytes) % below
        };
        let mut disk = MemDisk::new();
        let (mut sent, mut acknowledged) = (Vec::new(), Vec::new());
        for round in 0..5 {
            let what = format!("seed {seed}, round {round}");
            disk.fault(Fault::DeadIn(draw(120)));
            let fresh = [0, 500, 2 << 20][seed as usize % 3];
            let options = Options { segment: 2_000, fresh, ..Options::default() };
            if let Ok(log) = open_with(disk.clone(), Path::new("/log"), options) {
                for _ in 0..600 {
                    let number = sent.len();
                    sent.push([format!("{number}:").into_bytes(), entry(number)].concat());
                    if draw(3) == 0 {
                        let _ = log.append(&sent[number]);
                    } else if let Ok(ack) = log.append_awaited(&sent[number]) {
                        if draw(40) > 0 {
                            continue;
                        }
                        match ack.wait() {
                            Ok(index) => acknowledged.push((index, number)),
                            Err(_) => break,
                        }
                    }
                    if disk.is_dead() {
                        break;
                    }
                }
                if draw(2) == 0 {
                    let _ = log.checkpoint();
                }
                disk.fault(Fault::Dead);
                log.close();
            }
            disk.fault(Fault::None);
            disk = if draw(2) == 0 { disk.after_kill() } else { disk.after_power_loss(&rng) };
            let log = open(&disk).unwrap_or_else(|error| panic!("{what}: {error}"));
            holds(&all(&log), &sent, &acknowledged, &what);
            log.close();
            disk = disk.after_kill();
        }
    }
}

#[test]
fn on_a_full_disk_appending_fails_at_once_and_goes_on_by_itself_when_there_is_room() {
    for fault in [Fault::Full(20_000), Fault::ReadOnly, Fault::Sync] {
        let disk = MemDisk::new();
        let log = open(&disk).unwrap();
        let first = log.append_awaited(b"{\"first\":true}").unwrap().wait();
        assert_eq!(first, Ok(0));
        disk.fault(fault);
        let mut refused = None;
        for number in 0..2000 {
            match log.append_awaited(&entry(number)).map(audit::Ack::wait) {
                Ok(Ok(_)) => {}
                Ok(Err(error)) | Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        assert_eq!(refused, Some(AppendError::Unwritable), "{fault:?}");
        if matches!(fault, Fault::Full(_)) {
            // Less may have fitted in still.
            disk.fault(Fault::Full(0));
            while log.append_awaited(&entry(0)).is_ok_and(|ack| ack.wait().is_err()) {}
        }
        assert!(log.status().failing.is_some(), "{fault:?}");
        // Nobody waits for it, so that it can come later.
        log.append(b"{\"later\":true}").unwrap();
        disk.fault(Fault::None);
        let ack = loop {
            match log.append_awaited(b"{\"last\":true}") {
                Ok(ack) => match ack.wait() {
                    Ok(index) => break index,
                    Err(_) => continue,
                },
                Err(error) => assert_eq!(error, AppendError::Unwritable),
            }
            std::thread::yield_now();
        };
        let found = all(&log);
        assert_eq!(found.get(ack as usize).map(Vec::as_slice), Some(&b"{\"last\":true}"[..]), "{fault:?}");
        assert!(found.iter().any(|entry| entry == b"{\"later\":true}"), "{fault:?}");
        assert!(log.status().failing.is_none() && log.trouble().is_none());
        log.close();
        let again = open(&disk.after_kill()).unwrap();
        assert_eq!(all(&again), found, "{fault:?}");
    }
}

#[test]
fn what_a_failed_fsync_left_behind_is_not_taken_for_written() {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    log.append_awaited(b"{\"n\":0}").unwrap().wait().unwrap();
    disk.fault(Fault::Sync);
    assert_eq!(log.append_awaited(b"{\"n\":\"lost\"}").unwrap().wait(), Err(AppendError::Unwritable));
    disk.fault(Fault::None);
    while log.append_awaited(b"{\"n\":1}").map_or(true, |ack| ack.wait().is_err()) {
        std::thread::yield_now();
    }
    log.close();
    let log = open(&disk).unwrap();
    let found = all(&log);
    assert_eq!(found[0], b"{\"n\":0}");
    assert!(!found.iter().any(|entry| entry == b"{\"n\":\"lost\"}"), "its segment was given up");
}

fn filled() -> MemDisk {
    let disk = MemDisk::new();
    let log = open(&disk).unwrap();
    for number in 0..40 {
        log.append_awaited(&entry(number)).unwrap().wait().unwrap();
    }
    log.close();
    disk
}

#[test]
fn a_torn_end_is_cut_and_said() {
    let disk = filled();
    // Behind the last checkpoint, as if the process had died while writing.
    disk.edit(Path::new("/log/journal/0000000001.seg"), |bytes| bytes.extend([0, 0, 0, 40, 1, 2, 3]));
    let log = open(&disk).unwrap();
    assert_eq!(log.torn(), 7);
    assert_eq!(all(&log).len(), 40);
}

#[test]
fn a_log_that_was_changed_is_refused_at_the_start() {
    let segment = PathBuf::from("/log/journal/0000000001.seg");
    let changes: [(&str, Change); 5] = [
        ("a bit of an entry", |bytes| bytes[200] ^= 1),
        ("a bit of the head", |bytes| bytes[20] ^= 1),
        ("a cut end", |bytes| bytes.truncate(bytes.len() - 60)),
        ("another entry", |bytes| {
            let start = 40 + 12;
            bytes[start + 5] ^= 1;
        }),
        ("nothing left", Vec::clear),
    ];
    for (what, change) in changes {
        let disk = filled();
        disk.edit(&segment, change);
        let error = open(&disk).err().unwrap_or_else(|| panic!("{what}"));
        assert_eq!(error.reason(), "audit_damaged", "{what}: {error}");
    }
    let disk = filled();
    disk.edit(Path::new("/log/checkpoint"), |note| note[30] ^= 1);
    assert!(matches!(open(&disk), Err(LogError::Note(_) | LogError::Damaged { .. })));
    let disk = filled();
    disk.edit(Path::new("/log/tile/0/000.p/40"), |tile| tile[3] ^= 1);
    assert!(open(&disk).is_ok(), "what can be made anew from the journal is");
    assert!(disk.syncs() > 0);
}

/// A tmpfs of a megabyte, where this process may mount one; the failing disk above covers the rest.
#[test]
fn a_real_full_disk_is_survived() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().to_str().unwrap();
    let mount = std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs", place]).output();
    if !mount.is_ok_and(|out| out.status.success()) {
        return on_a_full_disk_appending_fails_at_once_and_goes_on_by_itself_when_there_is_room();
    }
    let log = open_with(RealDisk, &dir.path().join("audit"), Options::default()).unwrap();
    let big = vec![b'x'; 30_000];
    let mut kept = Vec::new();
    let failed = (0..100).any(|_| match log.append_awaited(&big).map(audit::Ack::wait) {
        Ok(Ok(index)) => {
            kept.push(index);
            false
        }
        _ => true,
    });
    assert!(failed && !kept.is_empty());
    let grow = std::process::Command::new("mount").args(["-o", "remount,size=16m", place]).output();
    assert!(grow.is_ok_and(|out| out.status.success()));
    while log.append_awaited(b"{}").map_or(true, |ack| ack.wait().is_err()) {
        std::thread::yield_now();
    }
    let found = all(&log);
    assert!(kept.iter().all(|index| found[*index as usize] == big));
    log.close();
    drop(log);
    let unmounted = std::process::Command::new("umount").arg(place).output();
    assert!(unmounted.is_ok_and(|out| out.status.success()));
}
