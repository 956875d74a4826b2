//! A connection to the server: how it is made, what is run on it, and what its errors mean.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use futures_util::future::BoxFuture;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::query::Query;
use sqlx::{Arguments as _, AssertSqlSafe, ConnectOptions, Connection as _, Postgres, Row as _, TypeInfo, ValueRef};
use tokio::time::{Instant, timeout};

use super::text;
use super::url::Server;
use crate::StoreError;
use crate::dump::{self, Table};
use crate::engine::{Cell, Connection, Row, Statement, Value, first, sql};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(3);
/// A connection nobody has used for this long is tried before it is used: firewalls forget silently.
const STALE: Duration = Duration::from_secs(30);
/// How long that may take.
const TRY: Duration = Duration::from_secs(1);

/// The server gives up on a statement before we do, so that nothing goes on there that nobody waits for.
const SETUP: &str = "SET statement_timeout = '8s'; SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '20s'; SET default_transaction_isolation = 'read committed';
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'";

/// A connection. What is run on it outside [`Link::begin`] and [`Link::commit`] commits by itself.
pub(super) struct Link {
    connection: PgConnection,
    /// The first error since the transaction began: the server commits nothing after it.
    spoiled: Option<StoreError>,
    own_clock: bool,
}

impl Link {
    /// Connect, and see to it that what we rely on is so, whatever the server's configuration says.
    pub(super) async fn open(server: &Server) -> Result<Self, StoreError> {
        let connected = timeout(CONNECT, server.options().clone().disable_statement_logging().connect()).await;
        let connection = connected.map_err(|_| StoreError::Unreachable)?.map_err(|error| match error {
            sqlx::Error::Tls(error) => StoreError::Refused(format!("TLS: {error}").into()),
            // What was said is not what the protocol of TLS allows, a certificate that is not believed among it.
            sqlx::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                StoreError::Refused(format!("TLS: {error}").into())
            }
            error => translate(error),
        })?;
        let mut link = Self { connection, spoiled: None, own_clock: server.has_own_clock() };
        link.raw(SETUP).await?;
        let encoding = first(link.fetch(sql("SELECT current_setting('server_encoding')")).await?);
        if encoding.ok_or(StoreError::Corrupt)?.take::<String>()? != "UTF8" {
            return Err(StoreError::Refused("its encoding is not UTF8: make the database with ENCODING 'UTF8'".into()));
        }
        Ok(link)
    }

    pub(super) async fn begin(&mut self) -> Result<(), StoreError> {
        self.spoiled = None;
        self.raw("BEGIN").await
    }

    /// Commit, and tell other nodes with it if they are to be told. [`StoreError::Unknown`] if the connection was lost.
    pub(super) async fn commit(&mut self, notify: bool) -> Result<(), StoreError> {
        let text = if notify { "NOTIFY vouchgate; COMMIT" } else { "COMMIT" };
        self.raw(text).await.map_err(|error| match error {
            StoreError::Unreachable => StoreError::Unknown,
            error => error,
        })
    }

    pub(super) async fn rollback(&mut self) -> Result<(), StoreError> {
        self.spoiled = None;
        self.raw("ROLLBACK").await
    }

    /// The first error since the transaction began.
    pub(super) fn spoiled(&mut self) -> Option<StoreError> {
        self.spoiled.take()
    }

    pub(super) async fn raw(&mut self, text: &'static str) -> Result<(), StoreError> {
        sqlx::raw_sql(text).execute(&mut self.connection).await.map(drop).map_err(translate)
    }

    /// Write out a table.
    pub(super) async fn dump(&mut self, table: &Table, to: &mut dump::Writer) -> Result<(), StoreError> {
        let mut found = sqlx::query(AssertSqlSafe(table.select())).fetch(&mut self.connection);
        while let Some(row) = found.try_next().await.map_err(translate)? {
            to.row(cells(&row).map_err(translate)?).await?;
        }
        Ok(())
    }

    pub(super) async fn close(self) {
        let _ = timeout(TRY, self.connection.close()).await;
    }

    fn note<T>(&mut self, outcome: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(error) = &outcome {
            self.spoiled.get_or_insert_with(|| error.clone());
        }
        outcome
    }
}

impl Connection for Link {
    fn execute(&mut self, statement: Statement) -> BoxFuture<'_, Result<u64, StoreError>> {
        Box::pin(async move {
            let outcome = match query(statement) {
                Ok(query) => query.execute(&mut self.connection).await.map_err(translate),
                Err(error) => Err(error),
            };
            self.note(outcome.map(|done| done.rows_affected()))
        })
    }

    fn fetch(&mut self, statement: Statement) -> BoxFuture<'_, Result<Vec<Row>, StoreError>> {
        Box::pin(async move {
            let outcome = match query(statement) {
                Ok(query) => query.fetch_all(&mut self.connection).await.map_err(translate),
                Err(error) => Err(error),
            };
            self.note(outcome.and_then(|found| rows(&found)))
        })
    }

    fn clock(&self) -> Option<Statement> {
        // Its time goes on during a transaction.
        self.own_clock.then(|| sql("SELECT CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)"))
    }
}

/// The connections nobody is using. There are no more than there are users, which whoever takes one bounds.
pub(super) struct Links {
    server: Server,
    idle: RefCell<Vec<(Link, Instant)>>,
}

impl Links {
    pub(super) fn new(server: Server, first: Link) -> Self {
        Self { server, idle: RefCell::new(vec![(first, Instant::now())]) }
    }

    /// One that works, as far as can be told.
    pub(super) async fn take(&self) -> Result<Link, StoreError> {
        loop {
            let idle = self.idle.borrow_mut().pop();
            let Some((mut link, since)) = idle else { return Link::open(&self.server).await };
            if since.elapsed() < STALE || timeout(TRY, link.raw("SELECT 1")).await.is_ok_and(|tried| tried.is_ok()) {
                return Ok(link);
            }
        }
    }

    /// It may be used again.
    pub(super) fn give(&self, link: Link) {
        self.idle.borrow_mut().push((link, Instant::now()));
    }

    /// One was lost: the others have most likely been too.
    pub(super) fn forget(&self) {
        self.idle.borrow_mut().clear();
    }

    pub(super) async fn close(&self) {
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        for (link, _) in idle {
            link.close().await;
        }
    }
}

fn query(statement: Statement) -> Result<Query<'static, Postgres, PgArguments>, StoreError> {
    let mut arguments = PgArguments::default();
    arguments.reserve(statement.values.len(), 0);
    for value in statement.values {
        let added = match value {
            Value::Int(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text.map(text::encode)),
            Value::Shared(text) => arguments.add(text::encode(text.as_ref().to_owned())),
            Value::Bytes(bytes) => arguments.add(bytes),
        };
        added.map_err(|error| translate(sqlx::Error::Encode(error)))?;
    }
    let text = match statement.lock {
        None => statement.sql,
        Some(lock) => text::locking(&statement.sql, lock),
    };
    Ok(sqlx::query_with(text, arguments))
}

fn rows(rows: &[PgRow]) -> Result<Vec<Row>, StoreError> {
    rows.iter().map(|row| cells(row).map(Row::new).map_err(translate)).collect()
}

fn cells(row: &PgRow) -> Result<Vec<Cell>, sqlx::Error> {
    let cell = |row: &PgRow, index: usize| -> Result<Cell, sqlx::Error> {
        let raw = row.try_get_raw(index)?;
        if raw.is_null() {
            return Ok(Cell::Null);
        }
        match raw.type_info().name() {
            "INT8" => row.try_get(index).map(Cell::Int),
            "INT4" => row.try_get::<i32, _>(index).map(|number| Cell::Int(number.into())),
            "BOOL" => row.try_get::<bool, _>(index).map(|yes| Cell::Int(yes.into())),
            "BYTEA" => row.try_get(index).map(Cell::Bytes),
            _ => row.try_get::<String, _>(index).map(|text| Cell::Text(text::decode(text))),
        }
    };
    (0..row.len()).map(|index| cell(row, index)).collect()
}

/// What PostgreSQL's SQLSTATE codes (Appendix A of its documentation) mean here.
pub(super) fn translate(error: sqlx::Error) -> StoreError {
    match &error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::PoolTimedOut => StoreError::Unreachable,
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => StoreError::Closed,
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let refused = || StoreError::Refused(database.message().into());
            match &*code {
                "40001" | "40P01" => StoreError::Collided,
                // Waited too long for a lock or an answer; no more connections or memory.
                "55P03" | "57014" | "53000" | "53200" | "53300" | "53400" => StoreError::Busy,
                "53100" => StoreError::Full,
                // Its disk fails.
                "58030" => StoreError::Disk(Arc::new(error)),
                "25006" => StoreError::ReadOnly,
                "XX001" | "XX002" => StoreError::Corrupt,
                // Stopping, crashed, starting; a connection ended from the other side.
                "57P01" | "57P02" | "57P03" | "57P05" | "25P03" => StoreError::Unreachable,
                code if code.starts_with("08") => StoreError::Unreachable,
                // Authorisation, no such database, no right.
                "3D000" | "42501" => refused(),
                code if code.starts_with("28") => refused(),
                _ => StoreError::Database(Arc::new(error)),
            }
        }
        _ => StoreError::Database(Arc::new(error)),
    }
}
