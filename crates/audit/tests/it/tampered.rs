//! What `audit verify` finds, in a log where it lies and in an export of it.

use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use audit::disk::Disk;
use audit::export;
use audit::verify::{self, Report, Trusted};
use audit::{Log, Options};

use crate::disk::MemDisk;
use crate::journal::{entry, open, open_with, signer};

const LOG: &str = "/log";

/// A log of this many entries, and its checkpoint when it had `early` of them.
fn filled(count: usize, early: usize) -> (MemDisk, Vec<u8>) {
    filled_with(count, early, entry)
}

fn filled_with(count: usize, early: usize, entry: impl Fn(usize) -> Vec<u8>) -> (MemDisk, Vec<u8>) {
    let disk = MemDisk::new();
    let log = open_with(disk.clone(), Path::new(LOG), Options { segment: 30_000, ..Options::default() }).unwrap();
    let append = |log: &Log, number: usize| {
        let ack = log.append_awaited(&entry(number)).unwrap();
        if number.is_multiple_of(64) || number + 1 == early {
            ack.wait().unwrap();
        }
    };
    (0..early).for_each(|number| append(&log, number));
    let outside = log.checkpoint().unwrap().1;
    (early..count).for_each(|number| append(&log, number));
    log.close();
    (disk, outside.as_bytes().to_vec())
}

fn on_disk(disk: &MemDisk, trusted: &Trusted) -> Report {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    verify::directory(&disk, Path::new(LOG), trusted)
}

fn given(outside: Option<&[u8]>) -> Trusted {
    Trusted {
        verifier: Some(signer().verifier().clone()),
        checkpoints: outside.iter().map(|note| note.to_vec()).collect(),
    }
}

fn export_of(disk: &MemDisk, from: u64, to: u64) -> Vec<u8> {
    let log = open(disk).unwrap();
    let mut out = Vec::new();
    export::write(&log.reader().unwrap(), from..to, &mut out).unwrap();
    out
}

fn exported(bytes: &[u8], trusted: &Trusted) -> Report {
    verify::exported(&mut BufReader::new(bytes), trusted)
}

fn found(report: &Report) -> (Option<&'static str>, Option<u64>) {
    (Some(report.reason).filter(|reason| *reason != "ok"), report.first_bad)
}

#[test]
fn a_log_as_it_was_written_is_valid_on_the_disk_and_exported_whole_and_in_part() {
    for count in [0, 1, 255, 256, 257, 700] {
        let (disk, outside) = filled(count, count / 2);
        for trusted in [Trusted::default(), given(None), given(Some(&outside))] {
            let report = on_disk(&disk, &trusted);
            assert!(report.valid, "{count}: {report:?}");
            assert_eq!((report.size, report.entries), (count as u64, count as u64));
            let report = exported(&export_of(&disk, 0, u64::MAX), &trusted);
            assert!(report.valid, "{count}: {report:?}");
            assert_eq!(report.entries, count as u64);
        }
        for (from, to) in [(0, 100), (100, 300), (256, 512), (300, 300), (699, 700)] {
            let report = exported(&export_of(&disk, from, to), &given(None));
            assert!(report.valid, "{count}, {from} to {to}: {report:?}");
        }
    }
    let (disk, outside) = filled(700, 100);
    let part = export_of(&disk, 300, 700);
    let report = exported(&part, &given(Some(&outside)));
    assert_eq!(report.reason, "checkpoint_not_covered", "said, not passed over");
}

#[test]
fn any_bit_flipped_in_any_file_is_found_and_in_an_entry_it_is_named() {
    let (disk, outside) = filled(300, 100);
    let bundle = PathBuf::from("/log/tile/entries/000");
    let files: Vec<PathBuf> = disk.files().into_iter().filter(|path| !path.ends_with("lock")).collect();
    assert!(files.contains(&bundle));
    for path in files {
        let text = path.display().to_string();
        // What retention and the newest checkpoint no longer need, and copies of the key that was given.
        if text.contains("entries/000.p") || text.contains("/vkey") || text.contains("history") {
            continue;
        }
        let stale = text.contains(".p/") && !text.ends_with(".p/44") && !text.ends_with(".p/1");
        if stale {
            continue;
        }
        for at in [0usize, 1, 9, 21, 45, 60, 200] {
            let bent = disk.after_kill();
            let mut length = 0;
            bent.edit(&path, |bytes| {
                length = bytes.len();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (at % 8);
                }
            });
            if at < length {
                let report = on_disk(&bent, &given(Some(&outside)));
                assert!(!report.valid, "{text} at {at}: {report:?}");
            }
        }
    }
    // Each entry of a bundle is named.
    let mut start = 0;
    for index in 0..256 {
        let bent = disk.after_kill();
        bent.edit(&bundle, |bytes| bytes[start + 2 + 10] ^= 4);
        assert_eq!(found(&on_disk(&bent, &given(None))), (Some("entry_altered"), Some(index as u64)));
        start += 2 + entry(index).len();
    }
}

#[test]
fn entries_removed_added_and_reordered_on_the_disk_are_named() {
    let (disk, _) = filled(600, 100);
    let bundle = PathBuf::from("/log/tile/entries/001");
    let rewritten = |change: fn(&mut Vec<Vec<u8>>)| {
        let bent = disk.after_kill();
        bent.edit(&bundle, |bytes| {
            let mut entries: Vec<Vec<u8>> = audit::tile::entries(bytes).map(|entry| entry.unwrap().to_vec()).collect();
            change(&mut entries);
            bytes.clear();
            for entry in &entries {
                assert!(audit::tile::push_entry(bytes, entry));
            }
        });
        let report = on_disk(&bent, &given(None));
        found(&report)
    };
    assert_eq!(rewritten(|entries| drop(entries.remove(40))), (Some("entry_altered"), Some(296)));
    assert_eq!(rewritten(|entries| drop(entries.pop())), (Some("entry_missing"), Some(511)));
    assert_eq!(rewritten(|entries| entries.insert(7, b"{}".to_vec())), (Some("entry_altered"), Some(263)));
    assert_eq!(rewritten(|entries| entries.swap(3, 90)), (Some("entry_altered"), Some(259)));
    assert_eq!(rewritten(Vec::clear), (Some("entry_missing"), Some(256)));
    let bent = disk.after_kill();
    bent.edit(Path::new("/log/tile/entries/002.p/88"), |bytes| assert!(audit::tile::push_entry(bytes, b"{}")));
    assert_eq!(found(&on_disk(&bent, &given(None))), (Some("entry_added"), Some(600)));
}

#[test]
fn an_entry_changed_together_with_its_hash_is_narrowed_down() {
    let (disk, outside) = filled(600, 100);
    let bent = disk.after_kill();
    let mut leaf = [0; 32];
    bent.edit(Path::new("/log/tile/entries/001"), |bytes| {
        bytes[12] ^= 1;
        leaf = audit::tree::leaf_hash(audit::tile::entries(bytes).next().unwrap().unwrap());
    });
    bent.edit(Path::new("/log/tile/0/001"), |bytes| bytes[..32].copy_from_slice(&leaf));
    let report = on_disk(&bent, &given(Some(&outside)));
    assert_eq!((found(&report), report.before), ((Some("entry_altered"), Some(256)), Some(512)), "{report:?}");
}

#[test]
fn a_cut_log_and_one_written_anew_are_found_with_a_checkpoint_from_elsewhere_only() {
    let (_, outside) = filled(700, 600);
    // As if the last hundreds of entries had never been, by somebody who has the key.
    let (shorter, _) = filled(500, 100);
    assert!(on_disk(&shorter, &given(None)).valid, "nobody can tell");
    assert_eq!(found(&on_disk(&shorter, &given(Some(&outside)))), (Some("log_truncated"), Some(500)));
    let export = export_of(&shorter, 0, u64::MAX);
    assert!(exported(&export, &given(None)).valid);
    assert_eq!(found(&exported(&export, &given(Some(&outside)))), (Some("log_truncated"), Some(500)));
    // The same entries but one.
    let (anew, _) = filled_with(700, 100, |number| if number == 42 { b"{}".to_vec() } else { entry(number) });
    assert!(on_disk(&anew, &given(None)).valid, "nobody can tell");
    let report = on_disk(&anew, &given(Some(&outside)));
    assert_eq!((report.reason, report.before), ("log_rewritten", Some(600)), "{report:?}");
    let export = export_of(&anew, 0, u64::MAX);
    assert_eq!(exported(&export, &given(Some(&outside))).reason, "log_rewritten");
    // A checkpoint of somebody else's proves nothing.
    let other = audit::note::Signer::generate("example.com/audit/node-1", &base::SeededRng::new(9)).unwrap();
    let report = on_disk(&anew, &Trusted { verifier: Some(other.verifier().clone()), checkpoints: Vec::new() });
    assert_eq!(report.reason, "note_unsigned");
}

#[test]
fn a_cut_end_without_the_key_is_found_without_anything_from_elsewhere() {
    let (disk, _) = filled(300, 100);
    let bent = disk.after_kill();
    bent.edit(Path::new("/log/tile/entries/001.p/44"), |bytes| bytes.truncate(700));
    assert_eq!(on_disk(&bent, &given(None)).reason, "entry_missing");
    let bent = disk.after_kill();
    let last = bent.files().into_iter().rfind(|path| path.extension().is_some_and(|seg| seg == "seg")).unwrap();
    bent.edit(&last, |bytes| bytes.truncate(bytes.len() - 10));
    assert_eq!(found(&on_disk(&bent, &given(None))), (Some("log_truncated"), Some(299)));
}

#[test]
fn every_kind_of_change_to_an_export_is_found_and_named() {
    let (disk, outside) = filled(300, 100);
    let good = String::from_utf8(export_of(&disk, 0, u64::MAX)).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    let at = |index: usize| lines.iter().position(|line| line.starts_with(&format!("{{\"i\":{index},"))).unwrap();
    let verdict = |lines: &[&str]| {
        let text: String = lines.iter().flat_map(|line| [line, "\n"]).collect();
        let report = exported(text.as_bytes(), &given(None));
        assert!(!report.valid);
        found(&report)
    };
    let mut changed = lines.clone();
    let bent = lines[at(77)].replace("\"test\"", "\"tesu\"");
    changed[at(77)] = &bent;
    assert_eq!(verdict(&changed), (Some("entry_altered"), Some(77)));
    let mut removed = lines.clone();
    removed.remove(at(100));
    assert_eq!(verdict(&removed), (Some("entry_missing"), Some(100)));
    let mut added = lines.clone();
    added.insert(at(30), lines[at(29)]);
    assert_eq!(verdict(&added), (Some("entry_added"), Some(30)));
    let mut swapped = lines.clone();
    swapped.swap(at(8), at(9));
    assert_eq!(verdict(&swapped), (Some("entry_missing"), Some(8)));
    assert_eq!(verdict(&lines[..=at(250)]), (Some("log_truncated"), Some(251)));
    assert_eq!(verdict(&lines[..1]), (Some("checkpoint_missing"), Some(0)));
    let renamed = lines[at(5)].replace("{\"i\":5", "{\"i\":6");
    let mut changed = lines.clone();
    changed[at(5)] = &renamed;
    assert_eq!(verdict(&changed), (Some("entry_missing"), Some(5)));
    // Any bit at all.
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] ^= 1 << (at % 7);
        let report = exported(&bytes, &given(Some(&outside)));
        // The key in the head is not looked at where one is given.
        let vkey = good.find("\"vkey\"").unwrap()..good.find("\"size\"").unwrap();
        assert!(!report.valid || vkey.contains(&at), "byte {at}: {:?}", &good[at.saturating_sub(20)..at]);
    }
}
