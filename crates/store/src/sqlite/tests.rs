//! Faults that need a hand inside: a full disk, a read-only one, a queue that overflows, a commit that breaks.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use base::{Clock, FakeClock, Name, RequestId, SeededRng, Tenant, Timestamp};
use futures_util::FutureExt;
use futures_util::future::join_all;
use proptest::prelude::*;

use super::*;
use crate::{Expect, Page, RecordFilter, RequestRecord, Store, StoreUrl};

async fn open_in(dir: &Path) -> Store {
    // A clock that stands still never ends a batch by time.
    let clock = Arc::new(FakeClock::at(Timestamp::from_secs(1_800_000_000)));
    Store::open(&StoreUrl::default(), dir, clock, Arc::new(SeededRng::new(1))).await.unwrap()
}

/// Run a statement on the writer's own connection.
async fn on_writer(store: &Store, text: &'static str) -> i64 {
    let run = store.write(move |tx| {
        Box::pin(async move { first(tx.fetch(sql(text)).await?).map_or(Ok(0), |mut row| row.take()) })
    });
    run.await.unwrap()
}

async fn put(store: &Store, text: &str, size: usize) -> Result<(), StoreError> {
    let name = Name::new(text).unwrap();
    store.resources().put(("m", &name), "x".repeat(size), Expect::Any, "a").await.map(drop)
}

async fn names(store: &Store) -> Vec<String> {
    store.resources().all().await.unwrap().into_iter().map(|resource| resource.name.to_string()).collect()
}

/// Keep the writer inside a transaction until the sender is used or dropped; what is queued meanwhile joins it.
async fn hold(store: &Store) -> (oneshot::Sender<()>, tokio::task::JoinHandle<Result<(), StoreError>>) {
    let (release, released) = oneshot::channel();
    let (inside, is_inside) = oneshot::channel();
    let holder = store.clone();
    // A job may be run again, and so can be copied; this one is not.
    let once = Arc::new(std::sync::Mutex::new(Some((inside, released))));
    #[allow(clippy::disallowed_methods)] // ends with its test
    let task = tokio::spawn(async move {
        holder
            .write(move |_| {
                Box::pin(async move {
                    let taken = once.lock().unwrap().take();
                    let (inside, released) = taken.unwrap();
                    let _ = inside.send(());
                    let _ = released.await;
                    Ok(())
                })
            })
            .await
    });
    is_inside.await.unwrap();
    (release, task)
}

fn record(n: u64) -> RequestRecord {
    RequestRecord {
        at: Timestamp::from_secs(1_800_000_000),
        request_id: RequestId::new(&SeededRng::new(n)),
        endpoint: "/v1/messages".into(),
        policy: None,
        issuer: None,
        client: None,
        subject: None,
        api_key: None,
        model: None,
        provider: None,
        status: 200,
        error: None,
        input_tokens: None,
        output_tokens: None,
        cached_tokens: None,
        duration_ms: 0,
        ttft_ms: None,
        stream: false,
        request_bytes: 0,
        response_bytes: 0,
        cache: None,
        cache_similarity: None,
        charge: crate::Charge::default(),
    }
}

#[tokio::test]
async fn the_writer_is_durable_and_checks_references() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    let full = 2;
    assert_eq!(on_writer(&store, "PRAGMA synchronous").await, full);
    assert_eq!(on_writer(&store, "PRAGMA foreign_keys").await, 1);
    assert_eq!(on_writer(&store, "SELECT journal_mode = 'wal' FROM pragma_journal_mode").await, 1);
    assert_eq!(on_writer(&store, "PRAGMA trusted_schema").await, 0);
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_what_was_acknowledged_and_recovers_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    put(&store, "before", 10_000).await.unwrap();
    let version = store.version();
    on_writer(&store, "PRAGMA max_page_count = 1").await; // no more than there are now
    for n in 0..5 {
        let error = put(&store, &format!("during-{n}"), 100_000).await.unwrap_err();
        assert_eq!((error.reason(), error.retryable()), ("store_full", true));
    }
    assert_eq!((names(&store).await, store.version()), (vec!["before".to_owned()], version));

    // Request records wait for better times.
    for n in 0..400 {
        store.sink().push(record(n));
    }
    assert_eq!(store.flush().await.unwrap_err().reason(), "store_full");
    assert_eq!((store.sink().waiting(), store.sink().dropped()), (400, 0));

    on_writer(&store, "PRAGMA max_page_count = 100000").await; // somebody made room
    put(&store, "after", 100_000).await.unwrap();
    store.flush().await.unwrap();
    assert_eq!(names(&store).await, ["after", "before"]);
    let page = Page::first(1000);
    assert_eq!(store.records().list(&RecordFilter::default(), &page).await.unwrap().items.len(), 400);
    assert_eq!((store.sink().waiting(), store.sink().dropped()), (0, 0));
    store.close().await;
    let again = open_in(dir.path()).await;
    assert_eq!(names(&again).await, ["after", "before"]);
    assert_eq!(again.check().await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_read_only_database_still_reads_and_refuses_writes_until_it_may_write() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    put(&store, "before", 10).await.unwrap();
    // Within one transaction, so that it ends before the next begins.
    let (release, holder) = hold(&store).await;
    let switch = |text| store.write(move |tx| Box::pin(async move { tx.fetch(sql(text)).await.map(drop) }));
    let (on, during, off, after, ()) = tokio::join!(
        switch("PRAGMA query_only = 1"),
        put(&store, "during", 10),
        switch("PRAGMA query_only = 0"),
        put(&store, "after", 10),
        async { release.send(()).unwrap() },
    );
    holder.await.unwrap().unwrap();
    assert!(on.is_ok() && off.is_ok() && after.is_ok());
    let error = during.unwrap_err();
    assert_eq!((error.reason(), error.retryable()), ("store_read_only", true));
    assert_eq!(names(&store).await, ["after", "before"]);

    // From one transaction to the next.
    let _ = switch("PRAGMA query_only = 1").await;
    for _ in 0..3 {
        assert_eq!(put(&store, "later", 10).await.unwrap_err().reason(), "store_read_only");
        store.sink().push(record(1));
        assert_eq!(store.flush().await.unwrap_err().reason(), "store_read_only");
    }
    assert_eq!(names(&store).await, ["after", "before"]);
    assert_eq!((store.sink().waiting(), store.sink().dropped()), (3, 0));
    store.close().await;
    let again = open_in(dir.path()).await;
    put(&again, "later", 10).await.unwrap();
    assert_eq!(names(&again).await, ["after", "before", "later"]);
}

#[tokio::test]
async fn jobs_that_wait_together_share_a_commit_and_fail_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    let commits = || on_writer_commits(&store);
    let before = commits().await;
    let (release, holder) = hold(&store).await;
    let key = |text| Name::new(text).unwrap();
    let (a, b, c) = (key("a"), key("b"), key("c"));
    let resources = store.resources();
    let together = async {
        tokio::join!(
            resources.put(("m", &a), "1".into(), Expect::Absent, "x"),
            resources.put(("m", &b), "2".into(), Expect::Version(77), "x"),
            resources.put(("m", &a), "3".into(), Expect::Absent, "x"),
            resources.put(("m", &c), "4".into(), Expect::Absent, "x"),
            async {
                release.send(()).unwrap();
            },
        )
    };
    let (first, second, third, fourth, ()) = together.await;
    holder.await.unwrap().unwrap();
    assert!(first.is_ok() && fourth.is_ok());
    assert_eq!(second.unwrap_err().reason(), "conflict");
    assert_eq!(third.unwrap_err().reason(), "already_exists", "it saw the first, not yet committed");
    assert_eq!(names(&store).await, ["a", "c"]);
    assert_eq!(store.version(), 2, "failed changes make no version");
    assert_eq!(commits().await - before, 1);
}

/// How many transactions have changed the file: SQLite counts them for other connections.
async fn on_writer_commits(store: &Store) -> i64 {
    let mut rows = store.fetch(sql("PRAGMA data_version")).await.unwrap();
    rows.pop().unwrap().take().unwrap()
}

#[tokio::test]
async fn a_broken_commit_acknowledges_nothing_of_its_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    put(&store, "before", 10).await.unwrap();
    on_writer(&store, "PRAGMA max_page_count = 1").await;
    let (release, holder) = hold(&store).await;
    let (small, large, ()) = tokio::join!(put(&store, "small", 10), put(&store, "large", 500_000), async {
        release.send(()).unwrap();
    });
    let outcomes = [holder.await.unwrap(), small, large];
    assert_eq!(outcomes[2].as_ref().unwrap_err().reason(), "store_full");
    let stored = names(&store).await;
    // Whether SQLite gave up the job alone or the whole transaction: who was told yes is there, who was told no is not.
    assert_eq!(outcomes[1].is_ok(), stored.contains(&"small".to_owned()));
    assert!(!stored.contains(&"large".to_owned()) && stored.contains(&"before".to_owned()));
    on_writer(&store, "PRAGMA max_page_count = 100000").await;
    put(&store, "after", 10).await.unwrap();
}

#[tokio::test]
async fn a_transaction_lost_under_a_job_fails_its_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    let (release, holder) = hold(&store).await;
    // What SQLite does by itself after some errors.
    let lose = store.write(|tx| Box::pin(async move { tx.execute(sql("ROLLBACK")).await }));
    let (innocent, ended, ()) = tokio::join!(put(&store, "innocent", 10), lose, async {
        release.send(()).unwrap();
    });
    assert!(innocent.is_err() && ended.is_err() && holder.await.unwrap().is_err());
    assert!(names(&store).await.is_empty());
    put(&store, "after", 10).await.unwrap();
    assert_eq!(names(&store).await, ["after"]);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_loses_nothing_it_took() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    let (release, holder) = hold(&store).await;
    let released = AtomicBool::new(false);
    let writes = (0..QUEUE + 100).map(|n| {
        let store = &store;
        async move { store.meta().set(&format!("k{n}"), "v").await }
    });
    let all = join_all(writes);
    let let_go = async {
        // Polled after all writes have been: each is queued or refused by now.
        released.store(true, Ordering::SeqCst);
        release.send(()).unwrap();
    };
    let (outcomes, ()) = tokio::join!(all, let_go);
    holder.await.unwrap().unwrap();
    assert!(released.load(Ordering::SeqCst));
    let refused = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    assert!(refused >= 99, "{refused}");
    assert!(
        outcomes.iter().filter_map(|outcome| outcome.as_ref().err()).all(|error| matches!(error, StoreError::Busy))
    );
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(store.meta().get(&format!("k{n}")).await.unwrap().is_some(), outcome.is_ok(), "{n}");
    }
}

#[tokio::test]
async fn a_write_stands_although_whoever_asked_has_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    let (release, holder) = hold(&store).await;
    let mut watch = store.watch();
    assert!(put(&store, "orphan", 10).now_or_never().is_none(), "queued, then forgotten");
    release.send(()).unwrap();
    holder.await.unwrap().unwrap();
    watch.changed().await.unwrap();
    assert_eq!(names(&store).await, ["orphan"]);
}

#[tokio::test]
async fn what_is_queued_when_the_store_closes_is_still_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    let (release, holder) = hold(&store).await;
    let (written, (), ()) = tokio::join!(put(&store, "queued", 10), store.close(), async {
        release.send(()).unwrap();
    });
    written.unwrap();
    holder.await.unwrap().unwrap();
    assert_eq!(names(&open_in(dir.path()).await).await, ["queued"]);
}

#[tokio::test]
async fn records_are_written_without_a_flush() {
    let dir = tempfile::tempdir().unwrap();
    let store = open_in(dir.path()).await;
    // More than a batch, and of no round number: every size of statement is used.
    for n in 0..1500 {
        store.sink().push(record(n));
    }
    let patience = tokio::time::timeout(Duration::from_secs(20), async {
        // A ping is behind whatever the writer did first.
        while store.sink().waiting() > 0 {
            store.ping().await.unwrap();
        }
    });
    patience.await.unwrap();
    store.ping().await.unwrap();
    let newest = store.records().list(&RecordFilter::default(), &Page::first(1000)).await.unwrap();
    let older = Page { after: newest.next, limit: 1000 };
    let older = store.records().list(&RecordFilter::default(), &older).await.unwrap();
    let ids: Vec<_> = newest.items.iter().chain(&older.items).rev().map(|record| record.request_id).collect();
    assert_eq!(ids, (0..1500).map(|n| record(n).request_id).collect::<Vec<_>>(), "each once, in order");
}

#[test]
fn a_full_sink_drops_and_counts() {
    let sink = RecordSink::with_capacity(10);
    (0..15).for_each(|n| sink.push(record(n)));
    assert_eq!((sink.waiting(), sink.dropped()), (10, 5));
    let taken = sink.take();
    (20..25).for_each(|n| sink.push(record(n)));
    sink.put_back(taken);
    assert_eq!((sink.waiting(), sink.dropped()), (10, 10), "what is being written keeps its room");
    let oldest = sink.take();
    assert_eq!(oldest[0].1.request_id, record(0).request_id);
    sink.lost();
    assert_eq!((sink.waiting(), sink.dropped()), (0, 20));
}

#[tokio::test]
async fn a_migration_that_fails_midway_changes_nothing() {
    static STEPS: &[Migration] = &[
        Migration { version: 1, name: "good", sql: "CREATE TABLE a (tenant TEXT) STRICT; INSERT INTO a VALUES ('x');" },
        Migration {
            version: 2,
            name: "bad",
            sql: "CREATE TABLE b (tenant TEXT) STRICT; INSERT INTO nowhere VALUES (1);",
        },
    ];
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.db");
    let options = SqliteConnectOptions::new().filename(&file).create_if_missing(true);
    let mut connection = options.connect().await.unwrap();
    let clock: Arc<dyn Clock> = Arc::new(FakeClock::at(Timestamp::from_secs(0)));
    assert_eq!(migrate(&mut connection, &clock, STEPS).await.unwrap_err().reason(), "store_failed");
    let tables = sql("SELECT COUNT(*) FROM sqlite_master");
    let count: u64 = Connection::fetch(&mut connection, tables).await.unwrap().remove(0).take().unwrap();
    assert_eq!(count, 0);
    for _ in 0..2 {
        migrate(&mut connection, &clock, &STEPS[..1]).await.unwrap();
    }
    let steps = sql("SELECT COUNT(*) FROM schema_version");
    let count: u64 = Connection::fetch(&mut connection, steps).await.unwrap().remove(0).take().unwrap();
    assert_eq!(count, 1, "a step is taken once");
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        proptest::option::of(any::<i64>()).prop_map(Value::Int),
        proptest::option::of(any::<String>()).prop_map(Value::Text),
        any::<String>().prop_map(|text| Value::Shared(text.into())),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..50)).prop_map(Value::Bytes),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_value_that_is_bound_reads_back(values in proptest::collection::vec(any_value(), 3)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
            let select = Statement { sql: crate::engine::Text::Fixed("SELECT $1, $2, $3"), values: values.clone(), lock: None };
            let mut row = Connection::fetch(&mut connection, select).await.unwrap().remove(0);
            for value in values {
                match value {
                    Value::Int(number) => prop_assert_eq!(row.take::<Option<i64>>().unwrap(), number),
                    Value::Text(text) => prop_assert_eq!(row.take::<Option<String>>().unwrap(), text),
                    Value::Shared(text) => prop_assert_eq!(row.take::<String>().unwrap(), text.as_ref()),
                    Value::Bytes(bytes) => prop_assert_eq!(row.take::<Option<Vec<u8>>>().unwrap(), bytes),
                }
            }
            prop_assert!(row.take::<Option<i64>>().is_err(), "there is no fourth column");
            Ok(())
        })?;
    }
}

#[test]
fn a_cell_of_another_type_is_an_error() {
    use crate::engine::FromCell;
    assert!(u64::from_cell(Cell::Int(-1)).is_err());
    assert!(u16::from_cell(Cell::Int(70_000)).is_err());
    assert!(bool::from_cell(Cell::Int(2)).is_err());
    assert!(String::from_cell(Cell::Int(1)).is_err());
    assert!(i64::from_cell(Cell::Null).is_err());
    assert!(<[u8; 32]>::from_cell(Cell::Bytes(vec![0; 31])).is_err());
    assert!(Vec::<String>::from_cell(Cell::Text("{".into())).is_err());
    assert_eq!(Option::<i64>::from_cell(Cell::Null).ok(), Some(None));
    assert_eq!(Tenant::default().as_str(), "default");
}
