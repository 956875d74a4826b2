//! SQLite: WAL, one writer with group commit, readers beside it.

#[cfg(test)]
mod tests;
mod writer;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{Arguments as _, AssertSqlSafe, ConnectOptions, Connection as _, Row as _, Sqlite, TypeInfo, ValueRef};
use tokio::sync::{mpsc, oneshot};

use crate::dump::{self, Loading, Table};
use crate::engine::{Cell, Connection, Engine, Job, Row, Statement, Value, first, sql};
use crate::migrate::{Migration, pending, up_to};
use crate::{RecordSink, StoreError, dir};
use writer::{Message, Writer};

/// The steps of the schema, oldest first.
static MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "first", sql: include_str!("../../migrations/sqlite/0001_first.sql") },
    Migration {
        version: 2,
        name: "token service",
        sql: include_str!("../../migrations/sqlite/0002_token_service.sql"),
    },
    Migration { version: 3, name: "ledger", sql: include_str!("../../migrations/sqlite/0003_ledger.sql") },
    Migration { version: 4, name: "fleet", sql: include_str!("../../migrations/sqlite/0004_fleet.sql") },
    Migration { version: 5, name: "audit", sql: include_str!("../../migrations/sqlite/0005_audit.sql") },
    Migration { version: 6, name: "cache_use", sql: include_str!("../../migrations/sqlite/0006_cache_use.sql") },
    Migration { version: 7, name: "usage", sql: include_str!("../../migrations/sqlite/0007_usage.sql") },
    Migration { version: 8, name: "money", sql: include_str!("../../migrations/sqlite/0008_money.sql") },
    Migration { version: 9, name: "instances", sql: include_str!("../../migrations/sqlite/0009_instances.sql") },
    Migration { version: 10, name: "app_configs", sql: include_str!("../../migrations/sqlite/0010_app_configs.sql") },
    Migration { version: 11, name: "risk", sql: include_str!("../../migrations/sqlite/0011_risk.sql") },
    Migration {
        version: 12,
        name: "runtime secrets",
        sql: include_str!("../../migrations/sqlite/0012_runtime_secrets.sql"),
    },
    Migration { version: 13, name: "rotation", sql: include_str!("../../migrations/sqlite/0013_rotation.sql") },
    Migration { version: 14, name: "step_ups", sql: include_str!("../../migrations/sqlite/0014_step_ups.sql") },
    Migration { version: 15, name: "devices", sql: include_str!("../../migrations/sqlite/0015_devices.sql") },
    Migration { version: 16, name: "sightings", sql: include_str!("../../migrations/sqlite/0016_sightings.sql") },
    Migration { version: 17, name: "receipts", sql: include_str!("../../migrations/sqlite/0017_receipts.sql") },
];

/// Every table's columns, tables in the order they were made in.
const TABLES: &str = "SELECT m.name, p.name, p.type FROM sqlite_master m JOIN pragma_table_info(m.name) p
    WHERE m.type = 'table' AND m.name <> 'schema_version' AND substr(m.name, 1, 7) <> 'sqlite_'
    ORDER BY m.rowid, p.cid";

/// How many jobs wait at most; more are refused.
const QUEUE: usize = 4096;
/// How many reads run at once.
const READERS: u32 = 4;
/// How long to wait for a lock another program holds on the file (`sqlite3`, a backup).
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// An open SQLite database.
#[derive(Debug)]
pub(crate) struct SqliteEngine {
    jobs: mpsc::Sender<Message>,
    readers: SqlitePool,
    /// How to open another connection that only reads.
    reading: SqliteConnectOptions,
    schema: u64,
}

/// Open `file`, creating it as needed, migrate it (all the way, or up to a version), and start its writer.
pub(crate) async fn open(
    file: &Path,
    data_dir: &Path,
    (clock, sink): (&Arc<dyn Clock>, &RecordSink),
    version: Option<u64>,
) -> Result<SqliteEngine, StoreError> {
    let steps = version.map_or(Ok(MIGRATIONS), |version| up_to(version, MIGRATIONS))?;
    dir::prepare(data_dir)?;
    let locks = dir::lock(data_dir, Some(file))?;
    dir::create_private(file)?;
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(false)
        .foreign_keys(true)
        .busy_timeout(LOCK_WAIT)
        .pragma("trusted_schema", "OFF")
        .disable_statement_logging();
    let writer_options = options
        .clone()
        .journal_mode(SqliteJournalMode::Wal)
        // FULL: a commit is on the disk before it is acknowledged, also when the power fails.
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", "67108864")
        .statement_cache_capacity(256);
    let mut connection = writer_options.connect().await.map_err(translate)?;
    migrate(&mut connection, clock, steps).await?;

    let reading = options.read_only(true);
    let readers = SqlitePoolOptions::new()
        .max_connections(READERS)
        .acquire_timeout(LOCK_WAIT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .connect_lazy_with(reading.clone());
    let (jobs, inbox) = mpsc::channel(QUEUE);
    Writer::new(connection, inbox, Arc::clone(clock), sink.clone())
        .start(locks)
        .map_err(|error| StoreError::file(file, error))?;
    let schema = steps.last().map_or(0, |newest| newest.version);
    Ok(SqliteEngine { jobs, readers, reading, schema })
}

impl Engine for SqliteEngine {
    fn fetch(&self, statement: Statement) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move { rows(&query(statement)?.fetch_all(&self.readers).await.map_err(translate)?) })
    }

    fn submit(&self, job: Box<dyn Job>) -> Result<(), StoreError> {
        self.jobs.try_send(Message::Job(job)).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })
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
            // Readers first, so that the writer is the last and folds the WAL into the database.
            self.readers.close().await;
            let (done, answer) = oneshot::channel();
            if self.jobs.send(Message::Close(done)).await.is_ok() {
                let _ = answer.await;
            }
        })
    }

    // All that matters is set with each connection.
    fn risks(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(std::future::ready(Ok(Vec::new())))
    }

    fn is_shared(&self) -> bool {
        false
    }

    fn hint(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>> {
        Box::pin(async move {
            let mut complaints = Vec::new();
            for mut row in self.fetch(sql("PRAGMA integrity_check")).await? {
                let line: String = row.take()?;
                if line != "ok" {
                    complaints.push(line);
                }
            }
            for mut row in self.fetch(sql("PRAGMA foreign_key_check")).await? {
                let table: String = row.take()?;
                complaints.push(format!("a row of {table} refers to one that does not exist"));
            }
            Ok(complaints)
        })
    }

    fn schema(&self) -> u64 {
        self.schema
    }

    fn tables(&self) -> BoxFuture<'_, Result<Vec<Table>, StoreError>> {
        Box::pin(async move { Table::all(self.fetch(sql(TABLES)).await?) })
    }

    fn loading(&self) -> Loading {
        Loading::default()
    }

    fn dump(&self, mut to: dump::Writer) -> BoxFuture<'static, Result<(), StoreError>> {
        let (options, schema) = (self.reading.clone(), self.schema());
        Box::pin(async move {
            let mut connection = options.connect().await.map_err(translate)?;
            // One transaction sees one moment, however long it takes.
            let mut tx = connection.begin().await.map_err(translate)?;
            to.schema(schema);
            for table in Table::all(Connection::fetch(&mut *tx, sql(TABLES)).await?)? {
                to.table(&table)?;
                let mut found = sqlx::query(AssertSqlSafe(table.select())).fetch(&mut *tx);
                while let Some(row) = found.try_next().await.map_err(translate)? {
                    to.row(cells(&row).map_err(translate)?).await?;
                }
            }
            to.end().await
        })
    }
}

impl Connection for SqliteConnection {
    // One transaction at a time: a row that was read is nobody else's anyway.
    fn execute(&mut self, statement: Statement) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(
            async move { query(statement)?.execute(self).await.map(|done| done.rows_affected()).map_err(translate) },
        )
    }

    fn fetch(&mut self, statement: Statement) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move { rows(&query(statement)?.fetch_all(self).await.map_err(translate)?) })
    }
}

/// Bring the schema up to date, all steps in one transaction: killed midway, nothing has happened.
async fn migrate(
    connection: &mut SqliteConnection,
    clock: &Arc<dyn Clock>,
    steps: &'static [Migration],
) -> Result<(), StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(translate)?;
    let known = "SELECT COUNT(*), COALESCE(SUM(name = 'schema_version'), 0) FROM sqlite_master WHERE type = 'table'";
    let mut row = first(Connection::fetch(&mut *tx, sql(known)).await?).ok_or(StoreError::Corrupt)?;
    let (tables, ours): (u64, bool) = (row.take()?, row.take()?);
    let found = match (ours, tables) {
        (true, _) => {
            let newest = sql("SELECT COALESCE(MAX(version), 0) FROM schema_version");
            first(Connection::fetch(&mut *tx, newest).await?).ok_or(StoreError::Corrupt)?.take()?
        }
        (false, 0) => {
            let create = "CREATE TABLE schema_version
                          (version INTEGER PRIMARY KEY, name TEXT NOT NULL, applied_at INTEGER NOT NULL) STRICT";
            Connection::execute(&mut *tx, sql(create)).await?;
            0
        }
        // Somebody else's tables.
        (false, _) => return Err(StoreError::Corrupt),
    };
    for step in pending(found, steps)? {
        sqlx::raw_sql(step.sql).execute(&mut *tx).await.map_err(translate)?;
        let note = sql("INSERT INTO schema_version (version, name, applied_at) VALUES ($1, $2, $3)")
            .bind(step.version)
            .bind(step.name)
            .bind(clock.now());
        Connection::execute(&mut *tx, note).await?;
    }
    tx.commit().await.map_err(translate)
}

fn query(statement: Statement) -> Result<Query<'static, Sqlite, SqliteArguments>, StoreError> {
    // Collected first: binding one after the other would move the whole query each time.
    let mut arguments = SqliteArguments::default();
    arguments.reserve(statement.values.len(), 0);
    for value in statement.values {
        let added = match value {
            Value::Int(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Shared(text) => arguments.add(text),
            Value::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(|error| translate(sqlx::Error::Encode(error)))?;
    }
    Ok(sqlx::query_with(statement.sql, arguments))
}

fn rows(rows: &[SqliteRow]) -> Result<Vec<Row>, StoreError> {
    rows.iter().map(|row| cells(row).map(Row::new).map_err(translate)).collect()
}

fn cells(row: &SqliteRow) -> Result<Vec<Cell>, sqlx::Error> {
    let cell = |row: &SqliteRow, index: usize| -> Result<Cell, sqlx::Error> {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        match raw.type_info().name() {
            "TEXT" => row.try_get_unchecked(index).map(Cell::Text),
            "BLOB" => row.try_get_unchecked(index).map(Cell::Bytes),
            _ => row.try_get_unchecked(index).map(Cell::Int),
        }
    };
    (0..row.len()).map(|index| cell(row, index)).collect()
}

/// What SQLite's result codes (the low byte of the extended ones) mean here.
fn translate(error: sqlx::Error) -> StoreError {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const READONLY: i32 = 8;
    const IOERR: i32 = 10;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const NOTADB: i32 = 26;
    match &error {
        sqlx::Error::PoolTimedOut => StoreError::Busy,
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => StoreError::Closed,
        sqlx::Error::Database(database) => {
            let code: i32 = database.code().and_then(|code| code.parse().ok()).unwrap_or_default();
            match code & 0xff {
                BUSY | LOCKED => StoreError::Busy,
                READONLY => StoreError::ReadOnly,
                IOERR => StoreError::Disk(Arc::new(error)),
                CORRUPT | NOTADB => StoreError::Corrupt,
                FULL => StoreError::Full,
                _ => StoreError::Database(Arc::new(error)),
            }
        }
        _ => StoreError::Database(Arc::new(error)),
    }
}
