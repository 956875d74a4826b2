//! Backing up the real program while it works, and putting it back elsewhere.

use std::path::Path;

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::mock::{Answer, Mock};

use crate::support::{APP, Program, command, provider, run, secret_file, write_config};

fn configure(dir: &Path, mock: &Mock) {
    let key = secret_file(dir, "provider.key", "fake-provider-key");
    let openai = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    write_config(dir, "external_url = \"https://ai.example.com\"", &format!("{APP}{openai}"));
}

/// The names of what a list shows.
fn names(dir: &Path, args: &[&str]) -> Vec<String> {
    let listed: Value = serde_json::from_str(&command(dir, &[args, &["--json"]].concat(), b"")).unwrap();
    let items = listed.as_array().cloned().unwrap_or_default();
    items.iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

fn secret(dir: &Path, name: &str, value: &str) {
    command(dir, &["secret", "set", name, "--origin", "https://api.example.com"], value.as_bytes());
}

/// Run a command with the configuration of `dir`, however it ends.
fn try_command(dir: &Path, args: &[&str]) -> (i32, String, String) {
    run(&[args, &["--config", "vouchgate.toml"]].concat(), dir, b"")
}

fn ask() -> Value {
    json!({"model": "prov/m", "messages": [{"role": "user", "content": "hello"}]})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_62_a_backup_taken_under_load_holds_all_that_was_acknowledged_before() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    configure(dir.path(), &mock);
    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    for n in 0..5 {
        secret(dir.path(), &format!("secret-{n}"), &format!("value-{n}"));
    }
    let work = join_all((0..40).map(|_| async { program.post("/v1/chat/completions", &token, &ask()).await.status() }));
    let from = dir.path().to_owned();
    let backup = tokio::task::spawn_blocking(move || try_command(&from, &["backup", "all.backup"]));
    let (statuses, backup) = tokio::join!(work, backup);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let (exit, _, said) = backup.unwrap();
    assert_eq!(exit, 0, "{said}");
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());

    let file = dir.path().join("all.backup");
    let bytes = std::fs::read(&file).unwrap();
    for canary in ["value-0", "secret-0", "fake-provider-key", "\"app\""] {
        assert!(!bytes.windows(canary.len()).any(|part| part == canary.as_bytes()), "{canary}");
    }

    // Elsewhere: the configuration and the master key, which are kept apart from it.
    configure(other.path(), &mock);
    std::fs::create_dir_all(other.path().join("data")).unwrap();
    let restored = |key: bool| {
        if key {
            std::fs::copy(dir.path().join("data/master.key"), other.path().join("data/master.key")).unwrap();
        }
        try_command(other.path(), &["restore", file.to_str().unwrap()])
    };
    let (exit, _, said) = restored(false);
    assert_eq!(exit, 2, "{said}");
    assert!(said.contains("master key"), "{said}");
    let (exit, out, said) = restored(true);
    assert_eq!(exit, 0, "{said}");
    assert!(out.starts_with("Restored: "), "{out}");
    assert_eq!(names(other.path(), &["secret", "list"]), (0..5).map(|n| format!("secret-{n}")).collect::<Vec<_>>());
    // The audit log came along, and says who took the backup.
    let journal = std::fs::read_dir(other.path().join("data/audit/journal")).unwrap();
    let said: Vec<u8> = journal.flat_map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
    assert!(said.windows(14).any(|part| part == b"\"backup.taken\""), "{} bytes", said.len());
    // The token that was minted before is good where the keys are the same.
    let program = Program::serve(other.path(), &[]).await;
    assert_eq!(program.post("/v1/chat/completions", &token, &ask()).await.status(), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_62_what_cannot_be_restored_is_told_and_changes_nothing() {
    let mock = Mock::start().await;
    let dir = tempfile::tempdir().unwrap();
    configure(dir.path(), &mock);
    secret(dir.path(), "kept", "value");
    command(dir.path(), &["backup", "all.backup"], b"");
    let refused = |args: &[&str], why: &str| {
        let (exit, _, said) = try_command(dir.path(), args);
        assert_eq!(exit, 1, "{args:?}: {said}");
        assert!(said.contains(why), "{args:?}: {said}");
    };
    refused(&["backup", "all.backup"], "never replaces a file");
    refused(&["restore", "all.backup"], "restore into a new data directory");
    assert_eq!(names(dir.path(), &["secret", "list"]), ["kept"]);

    let bytes = std::fs::read(dir.path().join("all.backup")).unwrap();
    let with = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
    with("cut.backup", &bytes[..bytes.len() - 1]);
    refused(&["restore", "--drill", "cut.backup"], "altered");
    let mut flipped = bytes.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    with("flipped.backup", &flipped);
    refused(&["restore", "--drill", "flipped.backup"], "altered");
    with("other.backup", b"SQLite format 3\0 and more that is no backup of ours");
    refused(&["restore", "--drill", "other.backup"], "not a backup");
    with("empty.backup", b"");
    refused(&["restore", "--drill", "empty.backup"], "not a backup");

    let drill = command(dir.path(), &["restore", "--drill", "all.backup"], b"");
    assert!(drill.starts_with("The backup can be restored: "), "{drill}");
    let left: Vec<_> = std::fs::read_dir(dir.path().join("data")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".restore")), "{left:?}");

    // Another installation's key.
    let other = tempfile::tempdir().unwrap();
    configure(other.path(), &mock);
    command(other.path(), &["key", "list"], b"");
    std::fs::remove_file(other.path().join("data/vouchgate.db")).unwrap();
    let backup = dir.path().join("all.backup");
    let (exit, _, said) = try_command(other.path(), &["restore", backup.to_str().unwrap()]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("was sealed with master key"), "{said}");
}

/// What one installation is configured with, wherever its state lies.
fn configure_at(dir: &Path, mock: &Mock, store: &str) {
    let key = secret_file(dir, "provider.key", "fake-provider-key");
    let openai = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    let budgets = "[[budget]]\nname = \"few\"\nover = { issuer = \"vouchgate\", subject = \"bob\" }\nrequests = 5\nwindow = \"total\"\n\
        [[budget]]\nname = \"all\"\nper = \"subject\"\ntokens = 100000000\nwindow = \"day\"\n";
    let limits = "[limits]\npre_stop = \"0s\"\ndrain_timeout = \"1s\"\n";
    write_config(dir, "external_url = \"https://ai.example.com\"", &format!("{limits}{store}{APP}{openai}{budgets}"));
}

/// Take a backup while requests come, stop, and put it back elsewhere.
async fn move_house(from: &Path, to: &Path, token: &str, store: &str, mock: &Mock) {
    let mut program = Program::serve(from, &[]).await;
    let work = join_all((0..40).map(|_| async { program.post("/v1/chat/completions", token, &ask()).await.status() }));
    let here = from.to_owned();
    let backup = tokio::task::spawn_blocking(move || try_command(&here, &["backup", "all.backup"]));
    let (statuses, backup) = tokio::join!(work, backup);
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    let (exit, _, said) = backup.unwrap();
    assert_eq!(exit, 0, "{said}");
    // The data directory is one process's.
    let (exit, _, said) = try_command(from, &["serve"]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("in use by another vouchgate process"), "{said}");
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());

    configure_at(to, mock, store);
    std::fs::create_dir_all(to.join("data")).unwrap();
    let backup = from.join("all.backup");
    // Another master key first.
    let other = tempfile::tempdir().unwrap();
    configure_at(other.path(), mock, "");
    command(other.path(), &["key", "list"], b"");
    std::fs::copy(other.path().join("data/master.key"), to.join("data/master.key")).unwrap();
    let (exit, _, said) = try_command(to, &["restore", backup.to_str().unwrap()]);
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("was sealed with master key"), "{said}");
    std::fs::copy(from.join("data/master.key"), to.join("data/master.key")).unwrap();
    command(to, &["restore", "--drill", backup.to_str().unwrap()], b"");
    command(to, &["restore", backup.to_str().unwrap()], b"");
    command(to, &["audit", "verify"], b"");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn check_62_from_postgresql_to_sqlite_and_back_under_load_everything_comes_along() {
    let (Some(first), Some(last)) = (vectors::postgres::database(), vectors::postgres::database()) else {
        return vectors::skip("backups between databases", "PostgreSQL is not installed");
    };
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let dirs = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let [large, small, again] = dirs.each_ref().map(tempfile::TempDir::path);
    configure_at(large, &mock, &format!("[store]\nurl = {first:?}\n"));
    command(large, &["key", "list"], b"");
    secret(large, "kept", "value");
    command(large, &["apikey", "create", "ops"], b"");
    let token =
        |dir: &Path, subject: &str| command(dir, &["token", "mint", "--client", "app", "--subject", subject], b"");
    let (alice, bob, mallory) = (token(large, "alice"), token(large, "bob"), token(large, "mallory"));
    {
        let mut program = Program::serve(large, &[]).await;
        for _ in 0..5 {
            assert_eq!(program.post("/v1/chat/completions", &bob, &ask()).await.status(), 200);
        }
        let over = program.post("/v1/chat/completions", &bob, &ask()).await;
        assert_eq!(over.status(), 429, "{}", over.text());
        let revoked = async {
            while program.post("/v1/chat/completions", &mallory, &ask()).await.status() != 401 {
                command(large, &["token", "revoke", "--subject", "mallory"], b"");
            }
        };
        testkit::patiently("what was issued before this second to be revoked", revoked).await;
        program.process.signal("TERM");
        assert!(program.process.ended().await.success());
    }
    for (from, to, store) in [(large, small, String::new()), (small, again, format!("[store]\nurl = {last:?}\n"))] {
        move_house(from, to, &alice, &store, &mock).await;
        assert_eq!(names(to, &["secret", "list"]), ["kept"]);
        assert_eq!(names(to, &["apikey", "list"]), ["ops"]);
        let mut program = Program::serve(to, &[]).await;
        let status = async |token: &str| program.post("/v1/chat/completions", token, &ask()).await.status();
        assert_eq!(status(&alice).await, 200, "the signing keys came along");
        assert_eq!(status(&bob).await, 429, "and what was spent");
        assert_eq!(status(&mallory).await, 401, "and what is revoked");
        program.process.signal("TERM");
        assert!(program.process.ended().await.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_is_compared_with_checkpoints_from_elsewhere_before_anything_is_written() {
    let mock = Mock::start().await;
    let (dir, branch) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    configure(dir.path(), &mock);
    secret(dir.path(), "first", "value");
    let before = command(dir.path(), &["audit", "checkpoint"], b"") + "\n";
    command(dir.path(), &["backup", "all.backup"], b"");
    secret(dir.path(), "second", "value");
    let after = command(dir.path(), &["audit", "checkpoint"], b"") + "\n";
    let all = dir.path().join("all.backup");
    let kept = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (older, newer) = (kept("older", &before), kept("newer", &after));
    let both = kept("both", &format!("{before}\n{after}"));

    let drill = |file: &Path, checkpoints: &str| {
        try_command(dir.path(), &["restore", file.to_str().unwrap(), "--drill", "--json", "--checkpoint", checkpoints])
    };
    for (checkpoints, missing) in [(&older, false), (&both, true)] {
        let (exit, out, said) = drill(&all, checkpoints);
        assert_eq!(exit, 0, "{said}");
        let told = &serde_json::from_str::<Value>(&out).unwrap()["checkpoints"];
        assert_eq!((&told["compared"], told["missing"].as_u64().unwrap() > 0), (&json!(1), missing), "{told}");
    }
    let refused = |file: &Path, checkpoints: &str, why: &str| {
        let (exit, out, said) = drill(file, checkpoints);
        assert_eq!((exit, out.as_str()), (1, ""), "{said}");
        assert!(said.contains(why), "{said}");
    };
    refused(&all, &newer, "newer than the backup");
    // From an address, and in another place.
    let place = Mock::start_with(move |_| Answer::bytes(200, "text/plain", both_text(&before, &after))).await;
    let (exit, _, said) = drill(&all, &format!("{}/kept", place.url()));
    assert_eq!(exit, 0, "{said}");
    std::fs::create_dir_all(branch.path().join("data")).unwrap();
    configure(branch.path(), &mock);
    std::fs::copy(dir.path().join("data/master.key"), branch.path().join("data/master.key")).unwrap();
    let out = command(branch.path(), &["restore", all.to_str().unwrap(), "--checkpoint", &both], b"");
    assert!(out.contains("leads to 1 checkpoints from elsewhere") && out.contains("published since"), "{out}");
    assert_eq!(names(branch.path(), &["secret", "list"]), ["first"]);

    // The restored log goes another way than the one it is from, under the same key: neither leads to the other's checkpoints.
    secret(branch.path(), "another", "value");
    let other_way = kept("other-way", &(command(branch.path(), &["audit", "checkpoint"], b"") + "\n"));
    for n in 0..5 {
        secret(dir.path(), &format!("more-{n}"), "value");
    }
    command(dir.path(), &["backup", "later.backup"], b"");
    let later = dir.path().join("later.backup");
    refused(&later, &other_way, "log_rewritten");
    // Another log's.
    let stranger = tempfile::tempdir().unwrap();
    configure(stranger.path(), &mock);
    let strange = kept("strange", &(command(stranger.path(), &["audit", "checkpoint"], b"") + "\n"));
    refused(&later, &strange, "a checkpoint from elsewhere");
    let left: Vec<_> = std::fs::read_dir(dir.path().join("data")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".restore")), "{left:?}");
}

fn both_text(one: &str, other: &str) -> String {
    format!("{one}\n{other}")
}
