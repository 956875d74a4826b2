//! From one version to the next: backups that older versions made, and nodes that start together on an older database.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};
use vectors::postgres::{Cluster, Disk};

use crate::support::{Program, command, run, write_config};

/// What `vouchgate backup` wrote when the schema was at 5: a client, a key, three secrets (one of them twice), a model and a
/// revocation made through the admin API, five requests under a budget, and the audit log of all that.
const OF_SCHEMA_5: &[u8] = include_bytes!("fixtures/schema-5.backup");

/// The 32 bytes it was sealed under.
const MASTER_KEY: &str = "Zml4dHVyZS1tYXN0ZXIta2V5LW5vdC1hLXNlY3JldCE=";

const CONFIG: &str = r#"
[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "1h"

[[policy]]
name = "app"
who = { issuer = "vouchgate", scope = ["chat"] }
may = { models = ["*"], services = ["*"], upstreams = ["*"] }

[[budget]]
name = "all"
tokens = 1000000
window = "1d"
"#;

fn place(dir: &Path, store: &str) {
    write_config(dir, "external_url = \"https://ai.example.com\"", &format!("{store}{CONFIG}"));
    std::fs::create_dir(dir.join("data")).unwrap();
    let key = dir.join("data/master.key");
    std::fs::write(&key, format!("vouchgate-master-key-v1\n{MASTER_KEY}\n")).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(dir.join("old.backup"), OF_SCHEMA_5).unwrap();
}

fn listed(dir: &Path, args: &[&str]) -> Vec<Value> {
    let found: Value = serde_json::from_str(&command(dir, &[args, &["--json"]].concat(), b"")).unwrap();
    found.as_array().or_else(|| found["items"].as_array()).unwrap_or_else(|| panic!("{args:?}: {found}")).clone()
}

fn names(dir: &Path, args: &[&str]) -> Vec<String> {
    listed(dir, args).iter().map(|item| item["name"].as_str().unwrap().to_owned()).collect()
}

async fn an_old_backup_is_restored_and_goes_on(store: &str) {
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), store);
    command(dir.path(), &["restore", "--drill", "old.backup"], b"");
    let said = command(dir.path(), &["restore", "old.backup"], b"");
    assert_eq!(said, "Restored: 32 rows, 7 files of the audit log.");

    assert_eq!(names(dir.path(), &["secret", "list"]), ["secret-0", "secret-1", "secret-2"]);
    assert_eq!(names(dir.path(), &["apikey", "list"]), ["ops"]);
    assert!(names(dir.path(), &["client", "list"]).contains(&"batch".to_owned()));
    let revoked = listed(dir.path(), &["token", "revocations"]);
    assert!(revoked.len() == 1 && revoked[0].to_string().contains("mallory"), "{revoked:?}");
    let keys = listed(dir.path(), &["key", "list"]);
    assert_eq!(keys[0]["kid"], "4tdfyiiu5coW3MhDZgqFiyKFsVsxSuovyAMkPc6lDCo");

    let mut program = Program::serve(dir.path(), &[]).await;
    let token = command(dir.path(), &["token", "mint", "--client", "app"], b"");
    // `fast` was made through the admin API.
    let ask = json!({"model": "fast", "messages": [{"role": "user", "content": "hello"}]});
    assert_eq!(program.post("/v1/chat/completions", &token, &ask).await.status(), 200);
    let stolen = command(dir.path(), &["token", "mint", "--client", "app", "--subject", "mallory"], b"");
    assert_eq!(program.post("/v1/chat/completions", &stolen, &ask).await.status(), 200, "revoked is what was before");
    command(dir.path(), &["backup", "new.backup"], b"");
    program.process.signal("TERM");
    assert!(program.process.ended().await.success());
    command(dir.path(), &["audit", "verify"], b"");
    command(dir.path(), &["restore", "--drill", "new.backup"], b"");

    // Nothing is overwritten, and a database that has been brought up to date takes no old backup any more.
    std::fs::remove_dir_all(dir.path().join("data/audit")).unwrap();
    let (exit, _, said) = run(&["restore", "old.backup", "--config", "vouchgate.toml"], dir.path(), b"");
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("new, empty database"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_an_older_schema_is_restored_and_brought_up_to_date() {
    an_old_backup_is_restored_and_goes_on("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_an_older_schema_is_restored_into_postgresql() {
    let Some(url) = vectors::postgres::database() else {
        return vectors::skip("an old backup goes into PostgreSQL", "PostgreSQL is not installed");
    };
    an_old_backup_is_restored_and_goes_on(&format!("[store]\nurl = \"{url}\"\n")).await;
}

#[test]
fn check_63_a_database_that_a_newer_version_brought_up_to_date_is_refused_with_a_sentence() {
    let Some(cluster) = Cluster::start(Disk::Careless) else {
        return vectors::skip("a newer schema is refused", "PostgreSQL is not installed");
    };
    let dir = tempfile::tempdir().unwrap();
    place(dir.path(), &format!("[store]\nurl = {:?}\n", cluster.database().unwrap()));
    command(dir.path(), &["key", "list"], b"");
    assert!(cluster.query("db0", "INSERT INTO schema_version VALUES (1000, 'from the future', 0)").is_some());
    let (exit, _, said) = run(&["serve", "--config", "vouchgate.toml"], dir.path(), b"");
    assert_eq!(exit, 1, "{said}");
    assert!(said.contains("schema version 1000") && said.contains("run the newer version"), "{said}");
    assert_eq!(cluster.query("db0", "SELECT MAX(version) FROM schema_version").as_deref(), Some("1000"));
}
