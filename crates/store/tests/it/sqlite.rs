//! SQLite: the conformance suite, and what depends on there being a file.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base::{FakeClock, SeededRng, SystemClock, SystemRng, Tenant, Timestamp};
use proptest::prelude::*;
use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use store::{NewClient, Store, StoreError, StoreUrl};
use vault::{Label, Purpose, VaultError};

use crate::conformance::credentials::new_client;
use crate::conformance::ledger as ledgers;
use crate::conformance::secrets::seal;
use crate::conformance::{Backend, START, all, conformance, name, test_vault};

/// A directory of its own, gone with the value.
pub(crate) struct Sqlite {
    dir: tempfile::TempDir,
    clock: FakeClock,
    seed: AtomicU64,
}

impl Backend for Sqlite {
    fn fresh() -> Option<Self> {
        Some(Self::new())
    }

    fn clock(&self) -> &FakeClock {
        &self.clock
    }

    async fn open(&self) -> Store {
        self.try_open().await.unwrap()
    }

    fn place(&self) -> (StoreUrl, PathBuf) {
        (StoreUrl::default(), self.data())
    }
}

impl Sqlite {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, clock: FakeClock::at(Timestamp::from_secs(START)), seed: AtomicU64::new(1) }
    }

    async fn try_open(&self) -> Result<Store, StoreError> {
        let rng = Arc::new(SeededRng::new(self.seed.fetch_add(1, Ordering::Relaxed)));
        Store::open(&StoreUrl::default(), &self.data(), Arc::new(self.clock.clone()), rng).await
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn file(&self) -> PathBuf {
        self.data().join("vouchgate.db")
    }

    /// Change the file as somebody with access to the disk could.
    async fn tamper(&self, sql: &str) {
        let mut connection = SqliteConnection::connect(&format!("sqlite:{}", self.file().display())).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

conformance!(super::Sqlite);

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn data_is_readable_by_its_owner_only() {
    let place = Sqlite::new();
    let store = place.open().await;
    store.clients().create(new_client("c")).await.unwrap();
    assert_eq!(mode(&place.data()), 0o700);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(place.data()).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        files.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    files.sort();
    assert_eq!(files, ["vouchgate.db", "vouchgate.db-shm", "vouchgate.db-wal", "vouchgate.lock"]);
    store.close().await;
    assert!(!place.data().join("vouchgate.db-wal").exists(), "a clean close leaves one file to back up");
}

#[tokio::test]
async fn a_second_process_is_refused_until_the_first_has_closed() {
    let place = Sqlite::new();
    let first = place.open().await;
    let error = place.try_open().await.unwrap_err();
    assert_eq!(error.reason(), "store_locked");
    assert!(error.to_string().contains(place.data().to_str().unwrap()));
    first.ping().await.unwrap();
    first.close().await;
    place.open().await.ping().await.unwrap();
}

#[tokio::test]
async fn a_database_outside_the_data_directory_is_one_process_s_too() {
    let (place, other) = (Sqlite::new(), Sqlite::new());
    let file = place.dir.path().join("shared.db");
    let url = StoreUrl::parse(&format!("sqlite:{}", file.display())).unwrap();
    let open = |dir: PathBuf| {
        let url = url.clone();
        async move { Store::open(&url, &dir, Arc::new(SystemClock), Arc::new(SystemRng)).await }
    };
    let first = open(place.data()).await.unwrap();
    assert!(file.exists() && !place.file().exists());
    let error = open(other.data()).await.unwrap_err();
    assert_eq!(error.reason(), "store_locked");
    assert!(error.to_string().contains("shared.db"), "{error}");
    first.close().await;
    open(other.data()).await.unwrap().ping().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_is_refused_and_left_alone() {
    let place = Sqlite::new();
    place.open().await.close().await;
    place.tamper("INSERT INTO schema_version VALUES (1000, 'from the future', 0)").await;
    let before = std::fs::read(place.file()).unwrap();
    let error = place.try_open().await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 1000, .. }), "{error}");
    assert_eq!(std::fs::read(place.file()).unwrap(), before);
    place.tamper("DELETE FROM schema_version WHERE version = 1000").await;
    place.open().await.ping().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_vouchgate_database_is_refused_and_left_alone() {
    let place = Sqlite::new();
    std::fs::create_dir(place.data()).unwrap();
    std::fs::write(place.file(), "x".repeat(8192)).unwrap();
    assert_eq!(place.try_open().await.unwrap_err().reason(), "store_corrupt");
    assert_eq!(std::fs::read(place.file()).unwrap(), "x".repeat(8192).as_bytes());

    let place = Sqlite::new();
    std::fs::create_dir(place.data()).unwrap();
    std::fs::write(place.file(), "").unwrap();
    place.tamper("CREATE TABLE recipes (name TEXT)").await;
    assert_eq!(place.try_open().await.unwrap_err().reason(), "store_corrupt");
    place.tamper("INSERT INTO recipes VALUES ('soup')").await;
}

#[tokio::test]
async fn every_table_has_a_tenant_and_strict_types() {
    let place = Sqlite::new();
    place.open().await.close().await;
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", place.file().display())).await.unwrap();
    let tables = sqlx::query(
        "SELECT l.name, l.strict, EXISTS (SELECT 1 FROM pragma_table_info(l.name) c WHERE c.name = 'tenant')
         FROM pragma_table_list l WHERE l.type = 'table' AND l.schema = 'main' AND l.name NOT LIKE 'sqlite_%'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert_eq!(tables.len(), 49);
    for row in tables {
        let (table, strict, tenant): (String, bool, bool) = (row.get(0), row.get(1), row.get(2));
        assert!(strict, "{table}");
        assert!(tenant || table == "schema_version", "{table}");
    }
}

#[tokio::test]
async fn the_database_itself_refuses_more_than_a_limit() {
    let place = Sqlite::new();
    let store = place.open().await;
    let ledger = ledgers::open(&store, "a").await;
    drop(ledger.reserve(&[ledgers::want(&ledger, &ledgers::day("cap"), 100, 30)]).await.unwrap());
    ledger.close().await;
    store.close().await;
    let mut connection = SqliteConnection::connect(&format!("sqlite:{}", place.file().display())).await.unwrap();
    for change in ["spent = 101", "leased = 71", "held = 71", "held = -1", "leased = -1", "spent = -1", "cap = 29"] {
        let update = AssertSqlSafe(format!("UPDATE ledger_periods SET {change}"));
        let error = sqlx::raw_sql(update).execute(&mut connection).await.unwrap_err();
        assert!(error.to_string().contains("CHECK"), "{change}: {error}");
    }
}

#[tokio::test]
async fn rows_swapped_in_the_file_do_not_open() {
    let (place, vault, tenant) = (Sqlite::new(), test_vault(), Tenant::default());
    let store = place.open().await;
    store.secrets().put(seal(&vault, "a", 1, "old a")).await.unwrap();
    store.secrets().replace(seal(&vault, "a", 2, "new a"), Timestamp::from_secs(START + 600)).await.unwrap();
    store.secrets().put(seal(&vault, "b", 1, "the b")).await.unwrap();
    store.close().await;
    let whole = std::fs::read(place.file()).unwrap();
    let from_another_row = |to: &str, from: &str| {
        format!("UPDATE secret_versions SET sealed = (SELECT sealed FROM secret_versions WHERE {from}) WHERE {to}")
    };
    let attacks = [
        from_another_row("name = 'a' AND version = 2", "name = 'b'"),
        from_another_row("name = 'a' AND version = 2", "name = 'a' AND version = 1"),
        "UPDATE secret_versions SET origin = 'https://evil.example.com' WHERE name = 'a'".to_owned(),
        "UPDATE secret_versions SET origin = NULL WHERE name = 'a'".to_owned(),
        "DELETE FROM secret_versions WHERE version = 2; UPDATE secret_versions SET version = 2 WHERE name = 'a'"
            .to_owned(),
    ];
    for attack in attacks {
        std::fs::write(place.file(), &whole).unwrap();
        place.tamper(&attack).await;
        let store = place.open().await;
        let row = store.secrets().current(&name("a")).await.unwrap().unwrap();
        let label = Label::new(&tenant, Purpose::Secret, "a", row.version).origin(row.origin.as_deref());
        assert_eq!(vault.open(&label, &row.sealed).err(), Some(VaultError::Altered), "{attack}");
        store.close().await;
    }
}

#[tokio::test]
async fn a_row_changed_by_hand_is_an_error_never_a_panic() {
    let changes = [
        "UPDATE clients SET scopes = 'not json'",
        "UPDATE clients SET scopes = '[1]'",
        "UPDATE clients SET token_ttl_ms = -1",
        "UPDATE clients SET name = ' no name '",
    ];
    for change in changes {
        let place = Sqlite::new();
        let store = place.open().await;
        store.clients().create(new_client("c")).await.unwrap();
        store.close().await;
        place.tamper(change).await;
        let store = place.open().await;
        assert_eq!(store.clients().list(&all()).await.unwrap_err().reason(), "store_row", "{change}");
    }
    let (place, vault) = (Sqlite::new(), test_vault());
    let store = place.open().await;
    store.secrets().put(seal(&vault, "a", 1, "x")).await.unwrap();
    store.close().await;
    place.tamper("UPDATE secret_versions SET sealed = x'0102'").await;
    assert_eq!(place.open().await.secrets().list(&all()).await.unwrap_err().reason(), "store_row");
}

#[tokio::test]
async fn a_database_the_process_may_not_make_is_named() {
    let place = Sqlite::new();
    std::fs::write(place.data(), "a file where the directory should be").unwrap();
    let error = place.try_open().await.unwrap_err();
    assert_eq!(error.reason(), "store_file");
    assert!(error.to_string().contains(place.data().to_str().unwrap()), "{error}");
}

#[tokio::test]
async fn no_canary_is_in_any_file() {
    let place = Sqlite::new();
    let (store, vault, tenant) = (place.open().await, test_vault(), Tenant::default());
    let canary = "canary-sk-0123456789";
    store.secrets().put(seal(&vault, "a", 1, canary)).await.unwrap();
    let secret = vault.keyed_hash(vault::HashPurpose::ClientSecret, canary.as_bytes());
    store.clients().create(NewClient { secret: Some(secret), ..new_client("c") }).await.unwrap();
    let store::Begin::Proceed(attempt) = store.idempotency().begin("a", "k", [1; 32]).await.unwrap() else {
        panic!("it is new")
    };
    let label = Label::new(&tenant, Purpose::Answer, attempt.id(), 1);
    let answer = vault.seal(&label, format!(r#"{{"key":"{canary}"}}"#).as_bytes()).unwrap();
    store.idempotency().complete(attempt, 201, &answer, std::time::Duration::from_mins(1)).await.unwrap();
    let find = |place: &Sqlite| {
        for entry in std::fs::read_dir(place.data()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(canary.len()).any(|window| window == canary.as_bytes()));
        }
    };
    find(&place);
    store.close().await;
    find(&place);
}

#[test]
fn a_url_is_read_strictly_and_its_password_is_not_repeated() {
    assert_eq!(StoreUrl::parse("sqlite:").unwrap(), StoreUrl::default());
    assert_ne!(StoreUrl::parse("sqlite:other.db").unwrap(), StoreUrl::default());
    for wrong in ["", "sqlite", "sqlite::memory:", "sqlite://x", "sqlite:x?mode=ro", "sqlite:dir/", "mysql://x", "x"] {
        assert_eq!(StoreUrl::parse(wrong).unwrap_err().reason(), "store_url", "{wrong}");
    }
    let error = StoreUrl::parse("postgers://vouchgate:hunter2@db/x").unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let url = StoreUrl::parse("postgres://vouchgate:hunter2@db/x").unwrap();
    assert_eq!((url.to_string().as_str(), url.is_shared()), ("postgres://vouchgate@db/x", true));
    assert!(!format!("{url:?}").contains("hunter2"));
}

proptest! {
    #[test]
    fn any_text_is_a_url_or_an_error(text in "(sqlite:)?.{0,40}") {
        let _ = StoreUrl::parse(&text);
    }
}

#[tokio::test]
async fn ids_are_random() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Store::open(&StoreUrl::default(), dir.path(), Arc::new(SystemClock), Arc::new(SystemRng)).await.unwrap();
    let a = store.clients().create(new_client("a")).await.unwrap();
    let b = store.clients().create(new_client("b")).await.unwrap();
    assert_ne!(a.id, b.id);
    store.close().await;
}
