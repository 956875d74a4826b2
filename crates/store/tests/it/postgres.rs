//! PostgreSQL: the conformance suite, several nodes on one database, and a server that goes away.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base::{FakeClock, SeededRng, Timestamp};
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection, PgConnection, SqliteConnection};
use store::{
    Claim, Expect, NewFamily, NewRevocation, OWN_ISSUER, OneTime, RecordFilter, Revoke, Rotate, Rotation, Store,
    StoreError, StoreUrl, TokenFacts,
};
use vectors::postgres::{Cluster, Disk};

use crate::conformance::dump::{Pieces, dumped, fill};
use crate::conformance::ledger as ledgers;
use crate::conformance::refresh::{family, rotation};
use crate::conformance::{Backend, START, all, conformance, name};
use crate::sqlite::Sqlite;

/// A database of its own, and data directories for the nodes that use it.
pub(crate) struct Postgres {
    url: String,
    dir: tempfile::TempDir,
    clock: FakeClock,
    seed: AtomicU64,
}

impl Postgres {
    pub(crate) fn with(url: String) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { url, dir, clock: FakeClock::at(Timestamp::from_secs(START)), seed: AtomicU64::new(1) }
    }

    /// A store of the node with that number.
    pub(crate) async fn node(&self, number: u32) -> Result<Store, StoreError> {
        let rng = Arc::new(SeededRng::new(self.seed.fetch_add(1, Ordering::Relaxed)));
        let url = StoreUrl::parse(&self.url)?.with_node_clock();
        Store::open(&url, &self.data(number), Arc::new(self.clock.clone()), rng).await
    }

    fn data(&self, number: u32) -> PathBuf {
        self.dir.path().join(format!("data-{number}"))
    }
}

impl Backend for Postgres {
    fn fresh() -> Option<Self> {
        let url = vectors::postgres::database();
        if url.is_none() {
            vectors::skip("the conformance suite on PostgreSQL", "PostgreSQL is not installed");
        }
        url.map(Self::with)
    }

    fn clock(&self) -> &FakeClock {
        &self.clock
    }

    async fn open(&self) -> Store {
        self.node(0).await.unwrap()
    }

    fn place(&self) -> (StoreUrl, PathBuf) {
        (StoreUrl::parse(&self.url).unwrap().with_node_clock(), self.data(0))
    }
}

conformance!(super::Postgres);

/// How an installation grows from one node to several, and back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_in_sqlite_goes_to_postgresql_and_back() {
    let (Some(small), Some(large), Some(again)) = (Sqlite::fresh(), Postgres::fresh(), Sqlite::fresh()) else { return };
    let store = small.open().await;
    fill(&store).await;
    let first = dumped(&store).await;
    let grown = large.open().await;
    grown.load(Pieces::of(&first, 5000)).await.unwrap();
    let second = dumped(&grown).await;
    let back = again.open().await;
    let rows = back.load(Pieces::of(&second, 5000)).await.unwrap();
    assert!(rows > 307, "{rows}");
    let every = RecordFilter::default();
    let listed = back.records().list(&every, &all()).await.unwrap();
    assert_eq!(listed.items, store.records().list(&every, &all()).await.unwrap().items);
    assert_eq!(back.meta().get("odd").await.unwrap(), store.meta().get("odd").await.unwrap());
    assert_eq!(dumped(&back).await.len(), first.len());
}

fn fresh() -> Option<Postgres> {
    Postgres::fresh()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_at_each_of_three_processes_exactly_as_many_as_fit_are_let_in() {
    let Some(place) = fresh() else { return };
    let stores = join_all((0..3).map(|number| place.node(number))).await;
    let stores: Vec<Store> = stores.into_iter().map(Result::unwrap).collect();
    let ledgers = join_all(stores.iter().zip(["a", "b", "c"]).map(|(store, node)| ledgers::open(store, node))).await;
    let cap = ledgers::day("cap");
    let holds = join_all(ledgers.iter().map(|ledger| ledgers::rush(ledger, &cap, 1000))).await;
    let counts: Vec<_> = holds.iter().map(Vec::len).collect();
    assert_eq!(counts.iter().sum::<usize>(), 50, "{counts:?}");
    drop(holds);
    join_all(ledgers.iter().map(store::Ledger::close)).await;
    ledgers::books(&ledgers[0], &cap, (5 * ledgers::USD, 0, 0)).await;
}

/// Run SQL as somebody with access to the database could.
async fn by_hand(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn put(store: &Store, text: &str) -> Result<u64, StoreError> {
    let put = store.resources().put(("m", &name(text)), text.to_owned(), Expect::Absent, "a").await;
    put.map(|resource| resource.version)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_at_once_migrate_one_database_once() {
    let Some(place) = fresh() else { return };
    let stores = join_all((0..4).map(|node| place.node(node))).await;
    for store in stores {
        let store = store.unwrap();
        store.ping().await.unwrap();
        store.close().await;
    }
}

#[tokio::test]
async fn one_data_directory_is_one_process_s_also_with_a_database_for_many() {
    let Some(place) = fresh() else { return };
    let first = place.node(0).await.unwrap();
    assert_eq!(place.node(0).await.unwrap_err().reason(), "store_locked");
    let second = place.node(1).await.unwrap();
    first.close().await;
    place.node(0).await.unwrap().ping().await.unwrap();
    second.ping().await.unwrap();
}

#[tokio::test]
async fn a_newer_schema_and_other_tables_are_refused_and_left_alone() {
    let Some(place) = fresh() else { return };
    place.node(0).await.unwrap().close().await;
    by_hand(&place.url, "INSERT INTO schema_version VALUES (1000, 'from the future', 0)").await;
    let error = place.node(0).await.unwrap_err();
    assert!(matches!(error, StoreError::NewerSchema { found: 1000, .. }), "{error}");
    by_hand(&place.url, "DELETE FROM schema_version WHERE version = 1000").await;
    place.node(0).await.unwrap().ping().await.unwrap();

    let Some(place) = fresh() else { return };
    by_hand(&place.url, "CREATE TABLE recipes (name TEXT)").await;
    assert_eq!(place.node(0).await.unwrap_err().reason(), "store_corrupt");
    by_hand(&place.url, "INSERT INTO recipes VALUES ('soup')").await;
}

#[tokio::test]
async fn both_engines_have_the_same_tables_and_columns() {
    let Some(place) = fresh() else { return };
    place.node(0).await.unwrap().close().await;
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(place.clock.clone());
    let other = Store::open(&StoreUrl::default(), dir.path(), clock, Arc::new(SeededRng::new(1))).await.unwrap();
    other.close().await;
    let mut sqlite =
        SqliteConnection::connect(&format!("sqlite:{}", dir.path().join("vouchgate.db").display())).await.unwrap();
    let there: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT l.name, c.name, c.\"notnull\" <> 0 OR c.pk > 0 FROM pragma_table_list l, pragma_table_info(l.name) c
         WHERE l.type = 'table' AND l.schema = 'main' AND l.name NOT LIKE 'sqlite_%' ORDER BY 1, 2",
    )
    .fetch_all(&mut sqlite)
    .await
    .unwrap();
    let mut postgres = PgConnection::connect(&place.url).await.unwrap();
    let here: Vec<(String, String, bool)> = sqlx::query_as(
        "SELECT CAST(table_name AS TEXT) COLLATE \"C\", CAST(column_name AS TEXT) COLLATE \"C\", is_nullable = 'NO'
         FROM information_schema.columns WHERE table_schema = current_schema() ORDER BY 1, 2",
    )
    .fetch_all(&mut postgres)
    .await
    .unwrap();
    assert_eq!(here, there);
    let texts: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = current_schema()
         AND table_name <> 'schema_version' AND data_type = 'text' AND collation_name IS DISTINCT FROM 'C'",
    )
    .fetch_one(&mut postgres)
    .await
    .unwrap();
    assert_eq!(texts, 0, "texts compare by their bytes, as in SQLite");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_several_nodes_make_one_version_each() {
    let Some(place) = fresh() else { return };
    let nodes = [place.node(0).await.unwrap(), place.node(1).await.unwrap(), place.node(2).await.unwrap()];
    let made = join_all((0..30).map(|n| {
        let node = nodes[n % 3].clone();
        async move { put(&node, &format!("r{n}")).await.unwrap() }
    }))
    .await;
    let versions: HashSet<u64> = made.into_iter().collect();
    assert_eq!(versions, (1..=30).collect());
    for node in &nodes {
        node.sync().await.unwrap();
        assert_eq!(node.version(), 30);
        assert_eq!(node.resources().all().await.unwrap().len(), 30);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_all_nodes_one_uses_what_is_used_once() {
    let Some(place) = fresh() else { return };
    let nodes = [place.node(0).await.unwrap(), place.node(1).await.unwrap(), place.node(2).await.unwrap()];
    let until = Timestamp::from_secs(START + 60);
    for round in 0..5u8 {
        let jti = format!("jti-{round}");
        let claims = join_all((0..30).map(|n| {
            let (node, jti) = (nodes[n % 3].clone(), jti.clone());
            async move { node.used_once().claim(OneTime::AccessToken, &["corp", &jti], until).await.unwrap() }
        }));
        assert_eq!(claims.await.into_iter().filter(|claim| *claim == Claim::First).count(), 1, "round {round}");

        let new = NewFamily { session: Some(format!("session-{round}")), ..family("app") };
        nodes[0].refresh().create(new, [round; 32], Duration::from_mins(5)).await.unwrap();
        let rotations = join_all((0..12u8).map(|n| {
            let node = nodes[usize::from(n) % 3].clone();
            let rotate = Rotate { grace: Duration::ZERO, ..rotation(round, 100 + 12 * round + n) };
            async move { node.refresh().rotate(rotate).await.unwrap() }
        }))
        .await;
        let won = rotations.iter().filter(|rotation| matches!(rotation, Rotation::Rotated(_))).count();
        assert_eq!(won, 1, "round {round}: {rotations:?}");
    }
}

fn subject(text: &str) -> NewRevocation {
    NewRevocation {
        what: Revoke::Subject { issuer: OWN_ISSUER.to_owned(), subject: text.to_owned() },
        not_before: Timestamp::from_secs(START + 1),
        expires_at: None,
        by: "operator".to_owned(),
        reason: "test".to_owned(),
    }
}

fn is_revoked(store: &Store, subject: &str) -> bool {
    let issued_at = Some(Timestamp::from_secs(START));
    let facts = TokenFacts { issuer: OWN_ISSUER, subject, issued_at, ..TokenFacts::default() };
    store.revoked().check(&facts).is_some()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_node_revokes_or_lifts_the_others_see() {
    let Some(place) = fresh() else { return };
    let (here, there) = (place.node(0).await.unwrap(), place.node(1).await.unwrap());
    let entry = here.revocations().revoke(subject("alice")).await.unwrap();
    assert!(is_revoked(&here, "alice") && !is_revoked(&there, "alice"));
    there.sync().await.unwrap();
    assert!(is_revoked(&there, "alice"));
    there.revocations().lift(entry.seq, "operator").await.unwrap();
    assert!(!is_revoked(&there, "alice") && is_revoked(&here, "alice"));
    let again = there.revocations().revoke(subject("bob")).await.unwrap();
    here.sync().await.unwrap();
    assert!(!is_revoked(&here, "alice") && is_revoked(&here, "bob"));
    // Only what is new is read, and what is known already does not come back.
    here.revocations().lift(again.seq, "operator").await.unwrap();
    there.revocations().revoke(subject("carol")).await.unwrap();
    here.sync().await.unwrap();
    assert!(!is_revoked(&here, "bob") && is_revoked(&here, "carol"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revocations_of_many_nodes_at_once_are_in_force_on_all() {
    let Some(place) = fresh() else { return };
    let nodes = [place.node(0).await.unwrap(), place.node(1).await.unwrap(), place.node(2).await.unwrap()];
    let following = nodes.clone().map(|node| {
        #[allow(clippy::disallowed_methods)] // ends with its test
        tokio::spawn(async move { node.follow().await })
    });
    join_all((0..60).map(|n| {
        let node = nodes[n % 3].clone();
        async move {
            node.revocations().revoke(subject(&format!("s{n}"))).await.unwrap();
            assert!(is_revoked(&node, &format!("s{n}")), "in force where it was acknowledged");
        }
    }))
    .await;
    for node in &nodes {
        let mut epochs = node.revoked().watch();
        while !(0..60).all(|n| is_revoked(node, &format!("s{n}"))) {
            tokio::time::timeout(Duration::from_secs(5), epochs.changed()).await.unwrap().unwrap();
        }
    }
    for task in following {
        task.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_from_before_another_node_s_revocation_begins_no_family() {
    let Some(place) = fresh() else { return };
    let (here, there) = (place.node(0).await.unwrap(), place.node(1).await.unwrap());
    let NewFamily { subject: whose, .. } = family("app");
    there.revocations().revoke(subject(&whose)).await.unwrap();
    assert!(!is_revoked(&here, &whose), "it has not looked yet");
    let error = here.refresh().create(family("app"), [1; 32], Duration::from_mins(5)).await.unwrap_err();
    assert_eq!(error.reason(), "conflict");

    // Of a revocation and a beginning at the same moment, the family is refused or ended.
    for round in 10..20u8 {
        let who = format!("person-{round}");
        let new = NewFamily { subject: who.clone(), ..family("app") };
        let begun = here.refresh().create(new, [round; 32], Duration::from_mins(5));
        let (begun, revoked) = tokio::join!(begun, there.revocations().revoke(subject(&who)));
        revoked.unwrap();
        if begun.is_ok() {
            let (_, state) = here.refresh().find([round; 32]).await.unwrap().unwrap();
            assert_eq!(state, store::RefreshState::Revoked, "round {round}");
        }
    }
}

#[tokio::test]
async fn a_text_with_a_nul_is_kept_as_it_is() {
    let Some(place) = fresh() else { return };
    let store = place.node(0).await.unwrap();
    for text in ["a\0b", "\u{E000}0", "\0", "\u{E000}\0\u{E000}1"] {
        store.meta().set("key", text).await.unwrap();
        assert_eq!(store.meta().get("key").await.unwrap().as_deref(), Some(text));
    }
}

fn own_server(disk: Disk) -> Option<(Cluster, Postgres)> {
    let Some(cluster) = Cluster::start(disk) else {
        vectors::skip("a PostgreSQL server that goes away", "PostgreSQL is not installed");
        return None;
    };
    let place = Postgres::with(cluster.database().unwrap());
    Some((cluster, place))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_is_used_again_without_a_restart() {
    let Some((mut cluster, place)) = own_server(Disk::Durable) else { return };
    let store = place.node(0).await.unwrap();
    put(&store, "before").await.unwrap();
    for end in [Cluster::stop, Cluster::crash] {
        // Several connections, all of them lost.
        join_all((0..8).map(|_| store.ping())).await;
        assert!(end(&mut cluster));
        let error = put(&store, "meanwhile").await.unwrap_err();
        assert_eq!(error.reason(), "store_unreachable");
        assert!(error.retryable());
        assert_eq!(store.resources().all().await.unwrap_err().reason(), "store_unreachable");
        assert_eq!(store.sync().await.unwrap_err().reason(), "store_unreachable");
        assert!(cluster.restart());
        assert_eq!(store.resources().all().await.unwrap().len(), 1);
    }
    // Whoever was connected all the time notices nothing of a restart in between.
    join_all((0..8).map(|_| store.ping())).await;
    assert!(cluster.crash() && cluster.restart());
    put(&store, "after").await.unwrap();
    store.sync().await.unwrap();
    assert_eq!(store.version(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_unknown_and_never_done_twice() {
    let Some((mut cluster, place)) = own_server(Disk::Durable) else { return };
    let store = place.node(0).await.unwrap();
    // A standby that never answers: a commit is on the disk, and is not acknowledged.
    by_hand(&place.url, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    by_hand(&place.url, "SELECT pg_reload_conf()").await;
    let mut looking = PgConnection::connect(&place.url).await.unwrap();
    // The server takes its settings up when it comes to it: until then commits are acknowledged as ever.
    let mut acknowledged = 0;
    let waiting = loop {
        let (store, text) = (store.clone(), format!("once-{acknowledged}"));
        #[allow(clippy::disallowed_methods)] // ends with its test
        let put = tokio::spawn(async move { put(&store, &text).await });
        if is_held(&mut looking, &put).await {
            break put;
        }
        put.await.unwrap().unwrap();
        acknowledged += 1;
    };
    drop(looking);
    assert!(cluster.crash());
    assert_eq!(waiting.await.unwrap().unwrap_err().reason(), "store_unknown");
    assert!(cluster.restart());
    assert_eq!(store.resources().all().await.unwrap().len(), acknowledged + 1, "it was written, and once");
}

/// Whether a commit waits for a standby; not, once it has ended without.
async fn is_held<T>(looking: &mut PgConnection, commit: &tokio::task::JoinHandle<T>) -> bool {
    let waiting = "SELECT COUNT(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    loop {
        let ended = commit.is_finished();
        let held: i64 = sqlx::query_scalar(waiting).fetch_one(&mut *looking).await.unwrap();
        if held == 1 || ended {
            return held == 1;
        }
    }
}
