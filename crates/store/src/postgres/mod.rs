//! PostgreSQL: several nodes on one database, each with its own connections, `READ COMMITTED`.

mod link;
mod listen;
mod migrate;
mod sink;
mod text;
mod url;
mod worker;

use std::path::Path;
use std::sync::Arc;

use base::Clock;
use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::Instant;

use crate::dump::{self, Loading, Table};
use crate::engine::{Connection, Engine, Job, Row, Statement, sql};
use crate::migrate::up_to;
use crate::{RecordSink, StoreError, dir};
use link::{Link, Links};
use migrate::{MIGRATIONS, migrate};
pub(crate) use url::Server;
use worker::{Message, Read, Worker};

/// How many jobs wait at most, and how many reads; more are refused.
const QUEUE: usize = 4096;

/// Every table's columns, tables in the order they were made in.
const TABLES: &str = "SELECT CAST(c.relname AS TEXT), CAST(a.attname AS TEXT), format_type(a.atttypid, NULL)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE n.nspname = current_schema() AND c.relkind = 'r' AND c.relname <> 'schema_version'
    AND a.attnum > 0 AND NOT a.attisdropped ORDER BY c.oid, a.attnum";

/// One transaction sees one moment, however long it takes, and whoever takes what it reads may be slow.
const AS_OF_NOW: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;
    BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";

/// Numbers that the database gives go on after those that were put in.
const RENUMBER: &str = "DO $$ DECLARE own record; BEGIN
    FOR own IN SELECT c.relname AS of, a.attname AS name FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE n.nspname = current_schema() AND c.relkind = 'r' AND a.attidentity <> ''
    LOOP EXECUTE format('SELECT setval(pg_get_serial_sequence(%L, %L), (SELECT COALESCE(MAX(%I), 0) + 1 FROM %I), false)',
        own.of, own.name, own.name, own.of);
    END LOOP; END $$";

/// An open PostgreSQL database.
#[derive(Debug)]
pub(crate) struct PgEngine {
    jobs: mpsc::Sender<Message>,
    reads: mpsc::Sender<Read>,
    hints: Mutex<watch::Receiver<u64>>,
    server: Server,
    schema: u64,
}

/// Connect to `server`, migrate its database (all the way, or up to a version), and start the thread that talks to it. The data directory, which holds what
/// is this node's alone, is locked as with SQLite.
pub(crate) async fn open(
    server: &Server,
    data_dir: &Path,
    (clock, sink): (&Arc<dyn Clock>, &RecordSink),
    version: Option<u64>,
) -> Result<PgEngine, StoreError> {
    let steps = version.map_or(Ok(MIGRATIONS), |version| up_to(version, MIGRATIONS))?;
    dir::prepare(data_dir)?;
    let locks = dir::lock(data_dir, None)?;
    let (jobs, inbox) = mpsc::channel(QUEUE);
    let (questions, reads) = mpsc::channel(QUEUE);
    let (hints, hinted) = watch::channel(0);
    let (tell, opened) = oneshot::channel();
    let (place, server, clock, sink) = (server.clone(), server.clone(), Arc::clone(clock), sink.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StoreError::file(data_dir, error))?;
    let serve = move || async move {
        let prepared = async {
            let mut link = Link::open(&server).await?;
            migrate(&mut link, &clock, steps).await?;
            Ok(link)
        };
        match prepared.await {
            Err(error) => drop(tell.send(Err(error))),
            Ok(link) => {
                let links = Links::new(server.clone(), link);
                if tell.send(Ok(())).is_ok() {
                    Worker { links, options: server.options().clone(), jobs: inbox, reads, sink, hints }
                        .run(locks)
                        .await;
                }
            }
        }
    };
    let thread = std::thread::Builder::new().name("store-postgres".to_owned());
    thread.spawn(move || runtime.block_on(serve())).map_err(|error| StoreError::file(data_dir, error))?;
    opened.await.unwrap_or(Err(StoreError::Closed))?;
    let schema = steps.last().map_or(0, |newest| newest.version);
    Ok(PgEngine { jobs, reads: questions, hints: Mutex::new(hinted), server: place, schema })
}

impl Engine for PgEngine {
    fn fetch(&self, statement: Statement) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move {
            if self.jobs.is_closed() {
                return Err(StoreError::Closed);
            }
            let (answer, answered) = oneshot::channel();
            self.reads.try_send((statement, answer, Instant::now())).map_err(|error| refused(&error))?;
            answered.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    fn submit(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        self.jobs.try_send(Message::Job(job, Instant::now())).map_err(|error| refused(&error))
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let (done, answer) = oneshot::channel();
            self.jobs.send(Message::Flush(done)).await.map_err(|_| StoreError::Closed)?;
            answer.await.unwrap_or(Err(StoreError::Closed))
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let (done, answer) = oneshot::channel();
            if self.jobs.send(Message::Close(done)).await.is_ok() {
                let _ = answer.await;
            }
        })
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let mut complaints = Vec::new();
            let invalid = "SELECT CAST(c.relname AS TEXT) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
                           JOIN pg_namespace n ON n.oid = c.relnamespace
                           WHERE n.nspname = current_schema() AND NOT (i.indisvalid AND i.indisready)";
            for mut row in self.fetch(sql(invalid)).await? {
                complaints.push(format!("the index {} is not valid: REINDEX it", row.take::<String>()?));
            }
            let damaged =
                "SELECT COALESCE(checksum_failures, 0) FROM pg_stat_database WHERE datname = current_database()";
            for mut row in self.fetch(sql(damaged)).await? {
                let pages: i64 = row.take()?;
                if pages > 0 {
                    complaints.push(format!("{pages} pages have failed their checksum"));
                }
            }
            Ok(complaints)
        })
    }

    fn risks(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let off = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'";
            let off = self.fetch(sql(off)).await?;
            let risk = |mut row: Row| {
                let name: String = row.take()?;
                Ok(format!("the database server has {name} off: when its machine fails, acknowledged writes are lost"))
            };
            off.into_iter().map(risk).collect()
        })
    }

    fn schema(&self) -> u64 {
        self.schema
    }

    fn tables(&self) -> BoxFuture<'_, Result<Vec<Table>, StoreError>> {
        Box::pin(async move { Table::all(self.fetch(sql(TABLES)).await?) })
    }

    fn loading(&self) -> Loading {
        Loading { overriding: "OVERRIDING SYSTEM VALUE", afterwards: Some(RENUMBER) }
    }

    fn dump(&self, mut to: dump::Writer) -> BoxFuture<'static, Result<(), StoreError>> {
        let (server, schema) = (self.server.clone(), self.schema());
        Box::pin(async move {
            let mut link = Link::open(&server).await?;
            link.raw(AS_OF_NOW).await?;
            to.schema(schema);
            for table in Table::all(link.fetch(sql(TABLES)).await?)? {
                to.table(&table)?;
                link.dump(&table, &mut to).await?;
            }
            link.rollback().await?;
            link.close().await;
            to.end().await
        })
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn hint(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            // Full or closed: whoever waits for hints looks by itself as well.
            let _ = self.jobs.try_send(Message::Listen);
            if self.hints.lock().await.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

fn refused<T>(error: &mpsc::error::TrySendError<T>) -> StoreError {
    match error {
        mpsc::error::TrySendError::Full(_) => StoreError::Busy,
        mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
    }
}
