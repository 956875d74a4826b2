//! Replacing the key of a log: what verifies across it, and what does not.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit::checkpoint::Checkpoint;
use audit::disk::Disk;
use audit::keys::{Change, Keys};
use audit::note::{Note, Signer};
use audit::verify::{self, Report, Trusted};
use audit::{Log, LogError, Options, Signers, export};
use base::{Clock, FakeClock, SeededRng, Timestamp};
use proptest::prelude::*;

use crate::disk::{Fault, MemDisk};
use crate::journal::{ORIGIN, entry};

const LOG: &str = "/log";
const DAY: Duration = Duration::from_hours(24);

/// The keys of the log, by their place.
fn key(place: u64) -> Signer {
    Signer::generate(ORIGIN, &SeededRng::new(100 + place)).unwrap()
}

fn first_keys(count: u64) -> Vec<Signer> {
    (0..count).map(key).collect()
}

fn clock() -> Arc<FakeClock> {
    Arc::new(FakeClock::at(Timestamp::from_millis(1_795_230_855_926)))
}

fn opened(disk: &MemDisk, keys: u64, announced: usize, clock: &Arc<FakeClock>) -> Result<Log, LogError> {
    let signers = Signers::new(first_keys(keys), announced);
    let options = Options { segment: 20_000, ..Options::default() };
    Log::open(Arc::new(disk.clone()), Path::new(LOG), signers, Arc::clone(clock) as Arc<dyn Clock>, options)
}

fn fill(log: &Log, count: usize) {
    for number in 0..count {
        let ack = log.append_awaited(&entry(number)).unwrap();
        if number.is_multiple_of(64) || number + 1 == count {
            ack.wait().unwrap();
        }
    }
}

fn on_disk(disk: &MemDisk, trusted: &Trusted) -> Report {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    verify::directory(&disk, Path::new(LOG), trusted)
}

fn trusting(place: u64, outside: &[&str]) -> Trusted {
    Trusted {
        verifier: Some(key(place).verifier().clone()),
        checkpoints: outside.iter().map(|note| note.as_bytes().to_vec()).collect(),
    }
}

fn signed_by(note: &str) -> Vec<u64> {
    let note = Note::parse(note.as_bytes()).unwrap();
    (0..9).filter(|place| note.verify(key(*place).verifier()).is_ok()).collect()
}

/// A log whose key was replaced twice, with 300 entries before, between and after; and a checkpoint of each time.
fn twice() -> (MemDisk, Vec<String>) {
    let (disk, clock) = (MemDisk::new(), clock());
    let log = opened(&disk, 1, 0, &clock).unwrap();
    let mut notes = Vec::new();
    fill(&log, 300);
    notes.push(log.checkpoint().unwrap().1.to_string());
    for place in 1..3 {
        let until = clock.now().plus(DAY);
        let (_, note) = log.replace_key(key(place), until, false).unwrap();
        assert_eq!(signed_by(&note), [place - 1, place]);
        fill(&log, 300);
        clock.advance(DAY);
        notes.push(log.checkpoint().unwrap().1.to_string());
    }
    log.close();
    (disk, notes)
}

#[test]
fn both_keys_sign_as_long_as_was_said_and_then_the_new_one_alone() {
    let (disk, clock) = (MemDisk::new(), clock());
    let log = opened(&disk, 1, 0, &clock).unwrap();
    fill(&log, 1);
    assert_eq!(signed_by(&log.checkpoint().unwrap().1), [0]);
    log.replace_key(key(1), clock.now().plus(DAY), false).unwrap();
    assert_eq!(log.verifier(), *key(1).verifier());
    fill(&log, 1);
    assert_eq!(signed_by(&log.checkpoint().unwrap().1), [0, 1]);
    // Also after a restart.
    log.close();
    drop(log);
    let log = opened(&disk, 2, 1, &clock).unwrap();
    clock.advance(DAY.saturating_sub(Duration::from_millis(1)));
    fill(&log, 1);
    assert_eq!(signed_by(&log.checkpoint().unwrap().1), [0, 1]);
    clock.advance(Duration::from_millis(1));
    fill(&log, 1);
    assert_eq!(signed_by(&log.checkpoint().unwrap().1), [1]);
    // One that leaked signs nothing more.
    let (_, note) = log.replace_key(key(2), clock.now(), true).unwrap();
    assert_eq!(signed_by(&note), [2]);
    let again = log.replace_key(key(2), clock.now().plus(DAY), false).unwrap();
    assert_eq!(again.1, note, "done before, so nothing is done");
    log.close();
    let vkey = disk.bytes(Path::new("/log/vkey")).unwrap();
    assert_eq!(String::from_utf8(vkey).unwrap().trim_end(), key(2).verifier().to_string());
}

#[test]
fn a_log_is_verified_across_its_keys_with_any_of_them_on_the_disk_and_exported() {
    let (disk, notes) = twice();
    let outside: Vec<&str> = notes.iter().map(String::as_str).collect();
    let log = opened(&disk, 3, 2, &clock()).unwrap();
    let ranges = [(0, u64::MAX), (0, 10), (310, 600), (700, 701)];
    let exports: Vec<Vec<u8>> = ranges
        .iter()
        .map(|(from, to)| {
            let mut out = Vec::new();
            export::write(&log.reader().unwrap(), *from..*to, &mut out).unwrap();
            out
        })
        .collect();
    log.close();
    for trusted in [Trusted::default(), trusting(0, &outside), trusting(1, &outside), trusting(2, &outside)] {
        let report = on_disk(&disk, &trusted);
        assert!(report.valid, "{report:?}");
        assert_eq!(report.changes.len(), 2);
        assert_eq!(report.changes[1].key, key(2).verifier().to_string());
        for (export, (from, _)) in exports.iter().zip(ranges) {
            let trusted = Trusted {
                checkpoints: if from == 0 { trusted.checkpoints.clone() } else { Vec::new() },
                ..trusted.clone()
            };
            let trusted = if export == &exports[1] { Trusted { checkpoints: Vec::new(), ..trusted } } else { trusted };
            let report = verify::exported(&mut BufReader::new(export.as_slice()), &trusted);
            assert!(report.valid, "{report:?}");
            assert_eq!(report.changes.len(), 2);
        }
    }
    assert_eq!(on_disk(&disk, &trusting(5, &[])).reason, "note_unsigned", "no key of this log");
}

#[test]
fn a_key_that_the_one_before_it_did_not_sign_is_refused() {
    let (disk, _) = twice();
    let path = Path::new("/log/keys");
    let text = String::from_utf8(disk.bytes(path).unwrap()).unwrap();
    // The same change, signed by the new key and by a stranger, or by the new key alone.
    let lines: Vec<&str> = text.lines().collect();
    let stranger = key(7);
    let change = Change::read(entry_of(lines[1])).unwrap();
    let statement = change_text(entry_of(lines[1]));
    for signers in [vec![&stranger, &key(2)], vec![&key(2)]] {
        let forged = audit::note::sign(&statement, &signers).unwrap();
        let entry = String::from_utf8(entry_of(lines[1]).to_vec()).unwrap();
        let old = serde_json::from_str::<serde_json::Value>(&entry).unwrap()["statement"].as_str().unwrap().to_owned();
        let quoted = |text: &str| serde_json::to_string(text).unwrap();
        let bent = text.replace(&quoted(&old), &quoted(&forged));
        assert_ne!(bent, text);
        let forged = disk.after_kill();
        forged.edit(path, |bytes| *bytes = bent.clone().into_bytes());
        assert_eq!(on_disk(&forged, &trusting(0, &[])).reason, "key_change_unsigned");
        assert_eq!(opened(&forged, 3, 2, &clock()).err().map(|e| e.reason()), Some("key_change_unsigned"));
    }
    assert_eq!((change.number, &change.from, &change.to), (2, key(1).verifier(), key(2).verifier()));
    // Without the file of changes the newest key is nobody's; with one more or less of them it is not what was logged.
    let without = disk.after_kill();
    without.remove_file(path);
    assert_eq!(on_disk(&without, &trusting(0, &[])).reason, "note_unsigned");
    let less = disk.after_kill();
    less.edit(path, |bytes| *bytes = format!("{}\n", lines[0]).into_bytes());
    assert_eq!(on_disk(&less, &trusting(0, &[])).reason, "note_unsigned");
}

fn entry_of(line: &str) -> &[u8] {
    let name = "\"announced\":";
    let at = line.find(name).unwrap() + name.len();
    &line.as_bytes()[at..line.len() - 1]
}

fn change_text(entry: &[u8]) -> String {
    let entry: serde_json::Value = serde_json::from_slice(entry).unwrap();
    let statement = entry["statement"].as_str().unwrap().to_owned();
    Note::parse(statement.as_bytes()).unwrap().unverified().to_owned()
}

/// Somebody who has the old key goes on with it as if it had not been replaced, or hides the replacement.
#[test]
fn the_old_key_alone_signs_nothing_from_the_announcement_on() {
    let (disk, notes) = twice();
    let outside = &notes[2];
    // A checkpoint of the whole log, signed by the key before only.
    let read = Checkpoint::unverified(outside.as_bytes()).unwrap();
    let forged = read.sign(&key(1)).unwrap();
    let bent = disk.after_kill();
    bent.edit(Path::new("/log/checkpoint"), |bytes| *bytes = forged.clone().into_bytes());
    for place in 0..3 {
        assert_eq!(on_disk(&bent, &trusting(place, &[])).reason, "note_unsigned", "{place}");
    }
    assert_eq!(on_disk(&disk, &trusting(0, &[&forged])).reason, "note_unsigned", "nor from elsewhere");
    // With the change taken out of the file as well: the log itself announces it.
    let text = String::from_utf8(disk.bytes(Path::new("/log/keys")).unwrap()).unwrap();
    bent.edit(Path::new("/log/keys"), |bytes| *bytes = format!("{}\n", text.lines().next().unwrap()).into_bytes());
    assert_eq!(
        on_disk(&bent, &trusting(0, &[])).reason,
        "note_unsigned",
        "an earlier one that was kept is of the new key"
    );
    bent.remove_file(Path::new("/log/history"));
    let report = on_disk(&bent, &trusting(0, &[]));
    assert_eq!((report.reason, report.first_bad), ("key_change_mismatch", Some(601)), "{report:?}");
    // An older copy of the log: whole by itself, but not what was published, and not what the installation knows.
    let older = MemDisk::new();
    let clock = clock();
    let log = opened(&older, 1, 0, &clock).unwrap();
    fill(&log, 300);
    log.close();
    drop(log);
    assert!(on_disk(&older, &trusting(0, &[])).valid);
    assert_eq!(on_disk(&older, &trusting(0, &[outside])).reason, "note_unsigned");
    assert_eq!(on_disk(&older, &trusting(2, &[])).reason, "note_unsigned", "the key that is kept elsewhere now");
    let error = opened(&older, 3, 2, &clock).err().unwrap();
    assert_eq!(error.reason(), "audit_key_rolled_back", "{error}");
    // And one that has announced keys this installation does not have.
    assert_eq!(opened(&disk, 2, 1, &clock).err().map(|e| e.reason()), Some("audit_key_unknown"));
}

#[test]
fn an_export_whose_changes_were_altered_is_refused() {
    let (disk, _) = twice();
    let log = opened(&disk, 3, 2, &clock()).unwrap();
    let mut out = Vec::new();
    export::write(&log.reader().unwrap(), 0..u64::MAX, &mut out).unwrap();
    log.close();
    let text = String::from_utf8(out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let verdict = |lines: &[&str], place: u64| {
        let text = lines.join("\n") + "\n";
        verify::exported(&mut BufReader::new(text.as_bytes()), &trusting(place, &[])).reason
    };
    assert!(lines[2].starts_with("{\"change\":300,") && lines[3].starts_with("{\"change\":601,"), "{}", lines[2]);
    assert_eq!(verdict(&lines, 0), "ok");
    let without =
        |place: usize| lines.iter().enumerate().filter(|(at, _)| *at != place).map(|(_, l)| *l).collect::<Vec<_>>();
    assert_eq!(verdict(&without(3), 0), "note_unsigned", "the newest key is nobody's");
    assert_eq!(verdict(&without(2), 0), "key_change_mismatch", "what is left does not begin with the first");
    assert_eq!(verdict(&without(2), 2), "key_change_mismatch", "whichever is trusted");
    // At another place than it was logged.
    let moved = lines[2].replace("{\"change\":300,", "{\"change\":299,");
    let mut bent = lines.clone();
    bent[2] = &moved;
    assert_eq!(verdict(&bent, 0), "key_change_mismatch");
}

/// The process is killed, or the power goes, before any change on the disk that a replacement makes; then it is repeated.
#[test]
fn a_replacement_that_was_cut_off_anywhere_loses_nothing_and_can_be_repeated() {
    let mut announced = 0;
    for after in 0..60 {
        let (disk, clock) = (MemDisk::new(), clock());
        let log = opened(&disk, 1, 0, &clock).unwrap();
        fill(&log, 10);
        let before = log.checkpoint().unwrap().1.to_string();
        disk.fault(Fault::DeadIn(after));
        let done = log.replace_key(key(1), clock.now().plus(DAY), false);
        log.close();
        drop(log);
        for disk in [disk.after_kill(), disk.after_power_loss(&SeededRng::new(after))] {
            // The store has both keys: it was given the second before.
            let log = opened(&disk, 2, 0, &clock).unwrap();
            let has = log.keys().changes().len();
            assert!(has == 1 || done.is_err(), "{after}: what was acknowledged is there");
            announced += has;
            let (checkpoint, note) = log.replace_key(key(1), clock.now().plus(DAY), false).unwrap();
            assert_eq!(signed_by(&note), [0, 1], "{after}");
            assert!(checkpoint.size >= 11);
            fill(&log, 10);
            log.close();
            drop(log);
            for place in [0, 1] {
                let report = on_disk(&disk, &trusting(place, &[&before, &note]));
                assert!(report.valid, "{after}: {report:?}");
                assert_eq!(report.changes.len(), 1, "{after}");
            }
        }
    }
    assert!((1..120).contains(&announced), "both were seen: {announced}");
}

#[test]
fn two_who_replace_at_once_leave_one_key_after_the_other() {
    let (disk, clock) = (MemDisk::new(), clock());
    let log = opened(&disk, 1, 0, &clock).unwrap();
    fill(&log, 5);
    let until = clock.now().plus(DAY);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                log.replace_key(key(1), until, false).unwrap();
                log.replace_key(key(2), until, false).unwrap();
            });
        }
        scope.spawn(|| fill(&log, 200));
    });
    log.checkpoint().unwrap();
    log.close();
    let report = on_disk(&disk, &trusting(0, &[]));
    assert!(report.valid && report.changes.len() == 2, "{report:?}");
    assert_eq!(log.keys().newest(), key(2).verifier());
}

#[test]
fn a_key_of_another_log_does_not_take_the_place_of_one() {
    let (disk, clock) = (MemDisk::new(), clock());
    let log = opened(&disk, 1, 0, &clock).unwrap();
    let other = Signer::generate("example.com/audit/node-2", &SeededRng::new(1)).unwrap();
    assert_eq!(log.replace_key(other, clock.now(), false).err().map(|e| e.reason()), Some("audit_origin"));
    fill(&log, 1);
    assert_eq!(signed_by(&log.checkpoint().unwrap().1), [0]);
    log.close();
}

#[test]
fn changes_stay_verifiable_when_retention_has_deleted_their_entries() {
    let (disk, _) = twice();
    let clock = clock();
    clock.advance(DAY * 500);
    let options = Options { retention: Some(DAY), segment: 20_000, ..Options::default() };
    let signers = Signers::new(first_keys(3), 2);
    let log = Log::open(Arc::new(disk.clone()), Path::new(LOG), signers, clock as Arc<dyn Clock>, options).unwrap();
    fill(&log, 300);
    log.checkpoint().unwrap();
    log.close();
    let report = on_disk(&disk, &trusting(0, &[]));
    assert!(report.valid && report.changes.len() == 2, "{report:?}");
}

proptest! {
    #[test]
    fn any_entry_is_read_or_refused_as_a_change(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = Change::read(&bytes);
        prop_assert!(Keys::of(key(0).verifier(), vec![(0, bytes)]).is_err());
    }
}
