//! The seam between repositories and a database.
//!
//! A repository speaks [`Statement`]s: one SQL text for every engine (`$1` placeholders, `BIGINT`-sized integers,
//! `RETURNING`, `ON CONFLICT`), with typed values, so that no engine has to guess the type of a `NULL`. An engine
//! runs them: [`Engine::fetch`] reads what has been committed, [`Engine::submit`] runs a [`Job`] in a transaction
//! and reports only once it is durable. Only the DDL differs between engines.
//!
//! Transactions of one engine come one after the other (SQLite), those of the other run at the same time, also from
//! other nodes, each statement seeing what was committed before it began (PostgreSQL, `READ COMMITTED`). So a
//! transaction that decides by what it read locks that first: [`Statement::for_update`], or an `UPDATE` or upsert of a
//! row that all who decide the same thing change. A job may be run again, from its beginning, after its transaction was
//! undone: its body changes nothing but the database. A statement that fails spoils its transaction: the body ends with
//! that error.

use std::borrow::Cow;
use std::ops::Deref;
use std::sync::Arc;

use base::{Name, Timestamp};
use futures_util::future::BoxFuture;
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};
use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock, oneshot, watch};
use vault::Sealed;

use crate::StoreError;
use crate::dump::{self, Loading, Table};
use crate::revoked::{Change, Mirror};

/// A value bound to a placeholder. The variant names its type even when it is absent.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Int(Option<i64>),
    Text(Option<String>),
    /// A text that others hold too: bound without a copy where the engine can.
    Shared(Arc<str>),
    Bytes(Option<Vec<u8>>),
}

/// The text of a statement.
#[derive(Debug, Clone)]
pub(crate) enum Text {
    Fixed(&'static str),
    /// Built of fixed pieces, names of ours and placeholders only: nothing from outside is ever in it.
    Made(Arc<str>),
}

/// SQL and the values of its placeholders, in order.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: Text,
    pub(crate) values: Vec<Value>,
    /// What becomes of the rows a `SELECT` finds, where transactions run at the same time.
    pub(crate) lock: Option<Lock>,
}

/// How rows that were read are kept from others until the transaction ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lock {
    /// Nobody else changes them or locks them so.
    Update,
    /// Nobody changes them.
    Share,
}

/// A column of a row that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// A row that was read, taken apart column by column from the left.
#[derive(Debug)]
pub(crate) struct Row(std::vec::IntoIter<Cell>);

/// An open transaction.
pub(crate) trait Connection: Send {
    /// Run a statement; the number of rows it changed.
    fn execute(&mut self, statement: Statement) -> BoxFuture<'_, Result<u64, StoreError>>;
    /// Run a statement; the rows it returned.
    fn fetch(&mut self, statement: Statement) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;
    /// What to ask for the moment (milliseconds since the Unix epoch), where the database has a clock of its own that is the
    /// same for all nodes. Otherwise the store's clock is the database's.
    fn clock(&self) -> Option<Statement> {
        None
    }
}

/// A database.
pub(crate) trait Engine: Send + Sync {
    /// Read what has been committed.
    fn fetch(&self, statement: Statement) -> BoxFuture<'_, Result<Vec<Row>, StoreError>>;
    /// Queue a job. It is finished once its transaction is durable, or has failed. Refuses when the queue is full.
    fn submit(&self, job: Box<dyn Job>) -> Result<(), StoreError>;
    /// Write the queued request records now.
    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>>;
    /// Finish what is queued, then close.
    fn close(&self) -> BoxFuture<'_, ()>;
    /// The database's own check of its files: its complaints, none when sound.
    fn check(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;
    /// Settings of the database under which what is promised does not hold.
    fn risks(&self) -> BoxFuture<'_, Result<Vec<String>, StoreError>>;
    /// The version of the schema this program knows.
    fn schema(&self) -> u64;
    /// Every table but `schema_version`, in the order they were made in.
    fn tables(&self) -> BoxFuture<'_, Result<Vec<Table>, StoreError>>;
    /// What it wants said when rows are put in that have their numbers already.
    fn loading(&self) -> Loading;
    /// Write out every table as of one moment, on a connection of its own.
    fn dump(&self, to: dump::Writer) -> BoxFuture<'static, Result<(), StoreError>>;
    /// Whether other nodes may change what this one has in memory.
    fn is_shared(&self) -> bool;
    /// Wakes when another node may have changed something, as a hint: it may come late, or never.
    fn hint(&self) -> BoxFuture<'_, ()>;
}

/// Work for one transaction, which it may share with others.
pub(crate) trait Job: Send {
    /// Do the work, each time anew.
    fn run<'a>(&'a mut self, tx: &'a mut dyn Connection) -> BoxFuture<'a, Ran>;
    /// Whether other nodes are to be told that something changed.
    fn notifies(&self) -> bool;
    /// Tell whoever waits, now that the transaction is durable or has failed.
    fn finish(self: Box<Self>, committed: Result<(), StoreError>);
}

/// What is to become of the transaction a [`Job`] has run in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ran {
    /// Commit it.
    Keep,
    /// Undo it.
    Undo,
    /// Undo it and run the job again: it was in the way of another transaction, or the connection was lost.
    Again,
}

impl Ran {
    pub(crate) const fn of<T>(outcome: &Result<T, StoreError>) -> Self {
        match outcome {
            Ok(_) => Self::Keep,
            Err(StoreError::Collided | StoreError::Unreachable) => Self::Again,
            Err(_) => Self::Undo,
        }
    }
}

/// What a [`Job`] does: a value, and what is to be seen of it in memory once it is durable.
pub(crate) type Outcome<T> = Result<(T, Effects), StoreError>;

/// What comes into force in memory with a commit: here, and not with whoever asked, since that one may have gone.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// The new configuration version, if it made one.
    pub(crate) version: Option<u64>,
    /// Revocations written and lifted.
    pub(crate) changes: Vec<Change>,
}

/// Where [`Effects`] are seen.
#[derive(Debug, Clone)]
pub(crate) struct Memory {
    pub(crate) version: watch::Sender<u64>,
    pub(crate) mirror: Arc<Mirror>,
    pub(crate) order: Order,
}

/// Revocations that are added come into force in any order. Who takes some away, or reads anew what is in force, must not
/// do so over one that was added since it read: it waits for those under way, and holds others up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Order(Arc<RwLock<()>>);

/// Held from before a transaction begins until its effects are seen.
#[derive(Debug)]
#[allow(dead_code)] // held, never looked at
pub(crate) enum Held {
    Nothing,
    Adding(OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
}

impl Order {
    pub(crate) const fn none() -> Held {
        Held::Nothing
    }

    pub(crate) async fn adding(&self) -> Held {
        Held::Adding(Arc::clone(&self.0).read_owned().await)
    }

    pub(crate) async fn alone(&self) -> Held {
        Held::Alone(Arc::clone(&self.0).write_owned().await)
    }
}

impl Memory {
    fn apply(&self, effects: Effects) {
        self.mirror.apply(effects.changes);
        if let Some(version) = effects.version {
            self.saw_version(version);
        }
    }

    pub(crate) fn saw_version(&self, version: u64) {
        self.version.send_if_modified(|seen| std::mem::replace(seen, version.max(*seen)) < version);
    }
}

/// A [`Job`] with a typed answer.
pub(crate) struct Task<T, F> {
    pub(crate) body: F,
    pub(crate) outcome: Option<Outcome<T>>,
    pub(crate) reply: oneshot::Sender<Result<T, StoreError>>,
    pub(crate) memory: Memory,
    pub(crate) order: Held,
}

impl<T, F> Job for Task<T, F>
where
    T: Send,
    F: for<'c> FnOnce(&'c mut dyn Connection) -> BoxFuture<'c, Outcome<T>> + Clone + Send,
{
    fn run<'a>(&'a mut self, tx: &'a mut dyn Connection) -> BoxFuture<'a, Ran> {
        Box::pin(async move {
            let outcome = (self.body.clone())(tx).await;
            let ran = Ran::of(&outcome);
            self.outcome = Some(outcome);
            ran
        })
    }

    fn notifies(&self) -> bool {
        let Some(Ok((_, effects))) = &self.outcome else { return false };
        effects.version.is_some() || !effects.changes.is_empty()
    }

    fn finish(self: Box<Self>, committed: Result<(), StoreError>) {
        let answer = match (self.outcome, committed) {
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(StoreError::Closed),
            (Some(Ok((value, effects))), Ok(())) => {
                self.memory.apply(effects);
                Ok(value)
            }
        };
        drop(self.order);
        // Whoever asked may have gone; the work stands.
        let _ = self.reply.send(answer);
    }
}

/// A statement of fixed text.
pub(crate) fn sql(text: &'static str) -> Statement {
    Statement { sql: Text::Fixed(text), values: Vec::new(), lock: None }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Fixed(text) => text,
            Self::Made(text) => text,
        }
    }
}

impl SqlSafeStr for Text {
    fn into_sql_str(self) -> SqlStr {
        match self {
            Self::Fixed(text) => text.into_sql_str(),
            Self::Made(text) => AssertSqlSafe(text).into_sql_str(),
        }
    }
}

impl Value {
    /// Whether it says nothing.
    pub(crate) fn is_null(&self) -> bool {
        match self {
            Self::Int(number) => number.is_none(),
            Self::Text(text) => text.is_none(),
            Self::Shared(_) => false,
            Self::Bytes(bytes) => bytes.is_none(),
        }
    }
}

impl Statement {
    /// Of a `SELECT` of rows: nobody else changes these rows, or reads them so, until the transaction ends. A row another
    /// transaction was changing is read as that one leaves it.
    pub(crate) fn for_update(self) -> Self {
        Self { lock: Some(Lock::Update), ..self }
    }

    /// Of a `SELECT` of rows: nobody changes these rows until the transaction ends.
    pub(crate) fn for_share(self) -> Self {
        Self { lock: Some(Lock::Share), ..self }
    }

    /// The value of the next placeholder.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }
}

impl Row {
    pub(crate) fn new(cells: Vec<Cell>) -> Self {
        Self(cells.into_iter())
    }

    /// The next column.
    pub(crate) fn take<T: FromCell>(&mut self) -> Result<T, StoreError> {
        let cell = self.0.next().ok_or(StoreError::Row("a column is missing"))?;
        T::from_cell(cell)
    }
}

/// The only row, if there is one.
pub(crate) fn first(rows: Vec<Row>) -> Option<Row> {
    rows.into_iter().next()
}

/// A type a column can be read as.
pub(crate) trait FromCell: Sized {
    fn from_cell(cell: Cell) -> Result<Self, StoreError>;
}

impl FromCell for i64 {
    fn from_cell(cell: Cell) -> Result<Self, StoreError> {
        match cell {
            Cell::Int(number) => Ok(number),
            _ => Err(StoreError::Row("a number was expected")),
        }
    }
}

impl FromCell for String {
    fn from_cell(cell: Cell) -> Result<Self, StoreError> {
        match cell {
            Cell::Text(text) => Ok(text),
            _ => Err(StoreError::Row("a text was expected")),
        }
    }
}

impl FromCell for Vec<u8> {
    fn from_cell(cell: Cell) -> Result<Self, StoreError> {
        match cell {
            Cell::Bytes(bytes) => Ok(bytes),
            _ => Err(StoreError::Row("bytes were expected")),
        }
    }
}

impl<T: FromCell> FromCell for Option<T> {
    fn from_cell(cell: Cell) -> Result<Self, StoreError> {
        match cell {
            Cell::Null => Ok(None),
            cell => T::from_cell(cell).map(Some),
        }
    }
}

/// Types stored as another: how each reads back.
macro_rules! read_as {
    ($($kind:ty as $stored:ty, $convert:expr;)*) => {$(
        impl FromCell for $kind {
            fn from_cell(cell: Cell) -> Result<Self, StoreError> {
                let convert: fn($stored) -> Option<$kind> = $convert;
                convert(<$stored>::from_cell(cell)?).ok_or(StoreError::Row(concat!("not a ", stringify!($kind))))
            }
        }
    )*};
}
read_as! {
    u64 as i64, |n| n.try_into().ok();
    u16 as i64, |n| n.try_into().ok();
    bool as i64, |n| match n { 0 => Some(false), 1 => Some(true), _ => None };
    Timestamp as i64, |n| Some(Timestamp::from_millis(n));
    Name as String, |text| Name::new(&text).ok();
    Arc<str> as String, |text| Some(text.into());
    Cow<'static, str> as String, |text| Some(Cow::Owned(text));
    [u8; 32] as Vec<u8>, |bytes| bytes.try_into().ok();
    Sealed as Vec<u8>, |bytes| Sealed::from_bytes(bytes).ok();
    Vec<String> as String, |text| serde_json::from_str(&text).ok();
}

/// Types bound as another, and their optional forms.
macro_rules! bind_as {
    ($($kind:ty as $variant:ident, $convert:expr;)*) => {$(
        impl From<$kind> for Value {
            fn from(value: $kind) -> Self {
                Self::from(Some(value))
            }
        }
        impl From<Option<$kind>> for Value {
            fn from(value: Option<$kind>) -> Self {
                Self::$variant(value.map($convert))
            }
        }
    )*};
}
bind_as! {
    i64 as Int, |n| n;
    // Counters and sizes: past i64::MAX they stay at it rather than turn negative.
    u64 as Int, |n| i64::try_from(n).unwrap_or(i64::MAX);
    u16 as Int, i64::from;
    bool as Int, i64::from;
    Timestamp as Int, Timestamp::as_millis;
    String as Text, |text| text;
    &str as Text, str::to_owned;
    &Name as Text, |name| name.as_str().to_owned();
    Vec<u8> as Bytes, |bytes| bytes;
    [u8; 32] as Bytes, |bytes| bytes.to_vec();
    &Sealed as Bytes, |sealed| sealed.as_bytes().to_vec();
}

impl From<&[String]> for Value {
    /// A list of texts is stored as a JSON array.
    fn from(list: &[String]) -> Self {
        Self::Text(Some(serde_json::Value::from(list.to_vec()).to_string()))
    }
}
