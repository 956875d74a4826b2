//! The key of the audit log is replaced: by a command, on every node of a fleet, and whenever the process is killed meanwhile.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use audit::Reader;
use audit::disk::{Disk, RealDisk};
use audit::note::{Note, Verifier};
use audit::verify::{self, Trusted};
use control::operations::ReplaceAuditKey;
use serde_json::{Value, json};
use testkit::patiently;

use crate::fleet::Fleet;
use crate::support::{APP, Program, command, contents_below, run, write_config};

fn installed() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let kept = dir.path().join("kept").display().to_string();
    let published = format!("[[audit.publish]]\nname = \"disk\"\nfile = {kept:?}\n");
    let limits = "[limits]\npre_stop = \"0s\"\ndrain_timeout = \"1s\"\n";
    write_config(dir.path(), "external_url = \"https://ai.example.com\"", &format!("{limits}{APP}{published}"));
    dir
}

/// The verdict on the log where it lies: exit status and report.
fn verdict(dir: &Path, more: &[&str]) -> (i32, Value) {
    let (exit, out, said) = run(&[&["audit", "verify", "--config", "vouchgate.toml"], more].concat(), dir, b"");
    (exit, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{said}")))
}

fn vkey(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("data/audit/vkey")).unwrap().trim_end().to_owned()
}

async fn stop(mut program: Program) {
    program.process.signal("TERM");
    assert!(program.process.ended().await.success(), "{}", program.process.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_key_is_replaced_while_the_server_runs_and_what_was_and_what_comes_verifies() {
    let dir = installed();
    let at = dir.path();
    let program = Program::serve(at, &[]).await;
    let first = vkey(at);
    assert_eq!(command(at, &["audit", "keys"], b""), first);
    let made: Value = serde_json::from_str(&command(at, &["audit", "rotate-key", "--json"], b"")).unwrap();
    let second = made["log"]["key"].as_str().unwrap().to_owned();
    assert_ne!(first, second);
    assert_eq!(
        (&made["number"], &made["compromised"], &made["log"]["waiting"]),
        (&json!(1), &json!(false), &json!(false))
    );
    assert_eq!((vkey(at), command(at, &["audit", "keys"], b"")), (second.clone(), second.clone()));
    let by =
        |note: &str, key: &str| Note::parse(note.as_bytes()).unwrap().verify(&Verifier::parse(key).unwrap()).is_ok();
    command(at, &["client", "create", "later"], b"");
    let note = command(at, &["audit", "checkpoint"], b"") + "\n";
    assert!(by(&note, &first) && by(&note, &second), "{note}");
    // Not again, while both sign; unless it leaked.
    let (exit, _, said) = run(&["audit", "rotate-key", "--config", "vouchgate.toml"], at, b"");
    assert!(exit != 0 && said.contains("both keys sign until"), "{exit}: {said}");
    command(at, &["audit", "rotate-key", "--compromised"], b"");
    let third = vkey(at);
    let note = command(at, &["audit", "checkpoint"], b"") + "\n";
    assert!(!by(&note, &first) && !by(&note, &second) && by(&note, &third), "{note}");
    command(at, &["audit", "export", "whole"], b"");
    command(at, &["backup", "all.backup"], b"");
    stop(program).await;

    // The last that was published is of the newest key alone.
    let published = std::fs::read(at.join("kept")).unwrap();
    let last = String::from_utf8(audit::note::split(&published).last().unwrap().to_vec()).unwrap();
    assert!(!by(&last, &first) && !by(&last, &second) && by(&last, &third), "{last}");
    for key in [&first, &second, &third] {
        let (exit, report) = verdict(at, &["--checkpoint", "kept", "--key", key]);
        assert_eq!((exit, &report["changes"][1]["key"]), (0, &json!(third)), "{report}");
        assert_eq!(report["changes"][1]["compromised"], true);
        let (exit, out, said) = run(&["audit", "verify", "--export", "whole", "--key", key], at, b"");
        assert_eq!(exit, 0, "{out}{said}");
        assert!(said.contains(&third), "who verifies is told which key to trust: {said}");
    }
    // Restored elsewhere, it goes on with the newest key, and leads to what was published, also to what is newer.
    let other = installed();
    let other = other.path();
    std::fs::create_dir_all(other.join("data")).unwrap();
    std::fs::copy(at.join("data/master.key"), other.join("data/master.key")).unwrap();
    let (backup, kept) = (at.join("all.backup"), at.join("kept"));
    command(other, &["restore", backup.to_str().unwrap(), "--checkpoint", kept.to_str().unwrap()], b"");
    command(other, &["audit", "rotate-key", "--compromised"], b"");
    let (exit, report) = verdict(other, &["--key", &first]);
    assert_eq!((exit, report["changes"].as_array().unwrap().len()), (0, 3), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_log_is_not_gone_on_with_under_the_key_it_had() {
    let dir = installed();
    let at = dir.path();
    command(at, &["client", "create", "one"], b"");
    let log = at.join("data/audit");
    let before: Vec<_> = contents_below(&log);
    command(at, &["audit", "rotate-key", "--compromised"], b"");
    let newest = vkey(at);
    std::fs::remove_dir_all(&log).unwrap();
    for (path, bytes) in before {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
    assert_eq!(verdict(at, &[]).0, 0, "by itself it is whole");
    let (exit, report) = verdict(at, &["--key", &newest]);
    assert_eq!((exit, &report["reason"]), (1, &json!("note_unsigned")), "the key that was kept tells");
    let (exit, _, said) = run(&["serve", "--config", "vouchgate.toml"], at, b"");
    assert!(exit == 1 && said.contains("an older copy of it is in its place"), "{exit}: {said}");
}

/// Wherever the kill hits, the log verifies with the first key, and the next replacement is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn killed_while_the_key_is_replaced_the_log_goes_on_and_it_can_be_replaced_again() {
    let dir = installed();
    let at = dir.path();
    let mut program = Program::serve(at, &[]).await;
    let first = vkey(at);
    for round in 0..5u64 {
        let command_dir = at.to_owned();
        let asking = tokio::task::spawn_blocking(move || {
            run(&["audit", "rotate-key", "--compromised", "--config", "vouchgate.toml"], &command_dir, b"")
        });
        // By what the log says, not by a clock: at once, or when something of the replacement is on the disk.
        let keys = at.join("data/audit/keys");
        let had = std::fs::metadata(&keys).map_or(0, |file| file.len());
        let mut tries = 0;
        while round % 2 == 1 && !asking.is_finished() && tries < 10_000 {
            if std::fs::metadata(&keys).map_or(0, |file| file.len()) > had {
                break;
            }
            tries += 1;
            tokio::task::yield_now().await;
        }
        program.process.signal("KILL");
        program.process.ended().await;
        let _ = asking.await.unwrap();
        let (exit, report) = verdict(at, &["--key", &first]);
        assert_eq!(exit, 0, "round {round}: {report}");
        program = Program::serve(at, &[]).await;
        let made: Value =
            serde_json::from_str(&command(at, &["audit", "rotate-key", "--compromised", "--json"], b"")).unwrap();
        assert_eq!(made["log"]["waiting"], false, "round {round}: {made}");
        assert_eq!(made["log"]["key"], vkey(at));
        let (exit, report) = verdict(at, &["--key", &first]);
        let changes = report["changes"].as_array().unwrap();
        assert_eq!((exit, &changes.last().unwrap()["key"]), (0, &made["log"]["key"]), "round {round}: {report}");
    }
    stop(program).await;
}

fn asked(body: &Value) -> ReplaceAuditKey {
    serde_json::from_value(body.clone()).unwrap()
}

/// The keys a node's log has announced.
fn announced(fleet: &Fleet, node: usize) -> usize {
    let operations = fleet.nodes[node].server().operations();
    operations.audit().log().unwrap().keys().changes().len()
}

async fn follow(fleet: &Fleet, node: usize, count: usize) {
    patiently("the node follows", async {
        while announced(fleet, node) < count {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_node_of_a_fleet_replaces_the_key_of_its_own_log() {
    let Some(mut fleet) = Fleet::start(3, "", "nodes of a fleet replace their audit keys").await else { return };
    let operations =
        |fleet: &Fleet, node: usize| fleet.nodes[node].server().operations().audit().log().unwrap().clone();
    let first: Vec<Verifier> = (0..3).map(|node| operations(&fleet, node).verifier()).collect();
    let routine = asked(&json!({}));
    fleet.nodes[1].server().operations().audit_key_replace(&routine, "test").await.unwrap();
    for (node, before) in first.iter().enumerate() {
        follow(&fleet, node, 1).await;
        let log = operations(&fleet, node);
        let (_, note) = log.checkpoint().unwrap();
        let note = Note::parse(note.as_bytes()).unwrap();
        assert_ne!(log.verifier(), *before);
        assert!(note.verify(before).is_ok() && note.verify(&log.verifier()).is_ok(), "node {node}");
    }
    // Two at once, when the overlap is over: one is done, and no node has more than one key more.
    fleet.clock_on(Duration::from_hours(24 * 8));
    let both = futures_util::future::join(
        fleet.nodes[0].server().operations().audit_key_replace(&routine, "test"),
        fleet.nodes[2].server().operations().audit_key_replace(&routine, "test"),
    )
    .await;
    let done = [&both.0, &both.1].into_iter().filter(|done| done.is_ok()).count();
    assert!(done >= 1, "{both:?}");
    // A node that joins begins with a key of its own, and has nothing to follow.
    fleet.join().await;
    for node in 0..3 {
        follow(&fleet, node, 2).await;
    }
    let keys = fleet.nodes[0].server().operations().audit_keys_list().await.unwrap();
    let keys = serde_json::to_value(&keys).unwrap();
    assert_eq!(keys.as_array().unwrap().len(), 4, "{keys}");
    let logs: Vec<_> = (0..4).map(|node| operations(&fleet, node)).collect();
    for log in &logs {
        let listed = keys.as_array().unwrap().iter().find(|key| key["log"] == log.origin()).unwrap();
        assert_eq!(listed["key"], log.verifier().to_string());
    }
    assert_eq!((0..4).map(|node| announced(&fleet, node)).collect::<Vec<_>>(), [2, 2, 2, 0]);
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    for (log, first) in logs.iter().zip(&first) {
        log.checkpoint().unwrap();
        // With the key that was kept at the beginning.
        let trusted = Trusted { verifier: Some(first.clone()), checkpoints: Vec::new() };
        let report = verify::directory(&disk, log.dir(), &trusted);
        assert!(report.valid && report.changes.len() == 2, "{report:?}");
        assert_eq!(Reader::open(Arc::clone(&disk), log.dir(), first).unwrap().keys().newest(), &log.verifier());
    }
    fleet.stop().await;
}
