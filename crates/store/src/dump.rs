//! Everything there is, as of one moment, in a form that either database takes: what a backup is made of.
//!
//! ```text
//! V  u64                            the schema's version
//! T  name, u16, (name, kind)...     a table and its columns; a kind is I(nteger), T(ext) or B(ytes)
//! R  cells                          a row of it: - for NULL, I and i64, T or B and u32 and bytes
//! E  u64                            the end, and how many rows there were
//! ```
//!
//! Numbers are big-endian, names have a u16 length before them. Tables come in the order they were made in, so that a row
//! comes after those it refers to.

use std::fmt::Write as _;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use base::{Clock, Rng};
use futures_util::Stream;
use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use crate::engine::{Cell, Connection, Row, Statement, Text, Value, sql};
use crate::{Store, StoreError, StoreUrl};

/// Pieces are sent on once they have this many bytes.
const PIECE: usize = 64 * 1024;
/// The longest piece there can be: a row of the longest cells could not be split.
pub const MAX_PIECE: usize = PIECE + 2 * MAX_CELL;
/// Pieces made ahead of whoever takes them.
const AHEAD: usize = 4;
/// The longest text or bytes of a cell, the most columns of a table and the longest name that are read.
const MAX_CELL: usize = 64 << 20;
const MAX_COLUMNS: usize = 200;
const MAX_NAME: usize = 200;

/// Tables a new database has rows in, which give way to those of a dump.
const OWN_ROWS: [&str; 3] = ["counters", "leases", "nodes"];

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Int,
    Text,
    Bytes,
}

/// A table's name and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) columns: Vec<(String, Kind)>,
}

/// Everything in the store, in pieces, as of the moment it was asked for. Writes go on meanwhile.
pub struct Dump {
    work: Option<BoxFuture<'static, Result<(), StoreError>>>,
    pieces: mpsc::Receiver<Vec<u8>>,
}

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dump").field("done", &self.work.is_none()).finish_non_exhaustive()
    }
}

impl Stream for Dump {
    type Item = Result<Vec<u8>, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // What has been made first, then more is made: the work waits for room.
        loop {
            if let Poll::Ready(piece) = self.pieces.poll_recv(context) {
                return Poll::Ready(piece.map(Ok));
            }
            let Some(work) = &mut self.work else { return Poll::Pending };
            let Poll::Ready(done) = work.as_mut().poll(context) else { return Poll::Pending };
            self.work = None;
            if let Err(error) = done {
                self.pieces.close();
                return Poll::Ready(Some(Err(error)));
            }
        }
    }
}

/// The version of the schema a dump was made with, which its first piece says.
pub fn schema_of(first: &[u8]) -> Option<u64> {
    let (letter, rest) = first.split_first()?;
    rest.first_chunk().filter(|_| *letter == b'V').map(|version| u64::from_be_bytes(*version))
}

/// Where the bytes of a dump come from: the next piece, none at its end.
pub trait Source: Send {
    /// The next piece.
    fn next(&mut self) -> Result<Option<Vec<u8>>, StoreError>;
}

impl Store {
    /// All tables of all tenants, request records that are queued among them.
    pub async fn dump(&self) -> Result<Dump, StoreError> {
        self.flush().await?;
        let (out, pieces) = mpsc::channel(AHEAD);
        let work = self.shared.engine.dump(Writer { out, buffer: Vec::new(), rows: 0 });
        Ok(Dump { work: Some(work), pieces })
    }

    /// Put a dump of the schema `schema` (see [`schema_of`]) into a store that must be new: all of it, or nothing. An older one
    /// is put in as what it is; the next [`Store::open`] brings it up to date like any database of that age. Gives the number
    /// of rows.
    pub async fn restore(
        place: (&StoreUrl, &Path),
        by: (Arc<dyn Clock>, Arc<dyn Rng>),
        schema: u64,
        source: Box<dyn Source>,
    ) -> Result<u64, StoreError> {
        let opened = Self::open_at(place, by, schema).await;
        let store = opened.map_err(|error| match error {
            StoreError::NewerSchema { known, .. } if known == schema => {
                StoreError::NotNew("there is a database with a newer schema than the backup's")
            }
            error => error,
        })?;
        let loaded = store.load(source).await;
        store.close().await;
        loaded
    }

    /// Put a dump of the newest schema into this store, which must be new: all of it, or nothing. Gives the number of rows.
    /// What is in memory knows nothing of it: close the store and open it again.
    pub async fn load(&self, source: Box<dyn Source>) -> Result<u64, StoreError> {
        let reader = Arc::new(Mutex::new(Reader { source, buffer: Vec::new(), at: 0 }));
        let ours = Ours {
            schema: self.shared.engine.schema(),
            tables: self.shared.engine.tables().await?,
            loading: self.shared.engine.loading(),
        };
        self.write(move |tx| Box::pin(load(tx, reader, ours))).await
    }
}

/// What rows are put into.
#[derive(Clone)]
struct Ours {
    schema: u64,
    tables: Vec<Table>,
    loading: Loading,
}

/// What an engine wants said when rows are put in that have their numbers already.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Loading {
    /// Before the `VALUES` of an `INSERT`.
    pub(crate) overriding: &'static str,
    /// After the last row.
    pub(crate) afterwards: Option<&'static str>,
}

/// Where an engine writes what it reads.
pub(crate) struct Writer {
    out: mpsc::Sender<Vec<u8>>,
    buffer: Vec<u8>,
    rows: u64,
}

impl Writer {
    pub(crate) fn schema(&mut self, version: u64) {
        self.buffer.push(b'V');
        self.buffer.extend(version.to_be_bytes());
    }

    pub(crate) fn table(&mut self, table: &Table) -> Result<(), StoreError> {
        self.buffer.push(b'T');
        self.name(&table.name)?;
        let columns = u16::try_from(table.columns.len()).map_err(|_| StoreError::Corrupt)?;
        self.buffer.extend(columns.to_be_bytes());
        for (name, kind) in &table.columns {
            self.name(name)?;
            self.buffer.push(kind.letter());
        }
        Ok(())
    }

    pub(crate) async fn row(&mut self, cells: impl IntoIterator<Item = Cell>) -> Result<(), StoreError> {
        self.buffer.push(b'R');
        for cell in cells {
            match cell {
                Cell::Null => self.buffer.push(b'-'),
                Cell::Int(number) => {
                    self.buffer.push(b'I');
                    self.buffer.extend(number.to_be_bytes());
                }
                Cell::Text(text) => self.bytes(b'T', text.as_bytes())?,
                Cell::Bytes(bytes) => self.bytes(b'B', &bytes)?,
            }
        }
        self.rows += 1;
        if self.buffer.len() >= PIECE { self.send().await } else { Ok(()) }
    }

    pub(crate) async fn end(mut self) -> Result<(), StoreError> {
        self.buffer.push(b'E');
        self.buffer.extend(self.rows.to_be_bytes());
        self.send().await
    }

    async fn send(&mut self) -> Result<(), StoreError> {
        // Whoever asked has gone: the rest need not be read.
        self.out.send(std::mem::take(&mut self.buffer)).await.map_err(|_| StoreError::Closed)
    }

    fn name(&mut self, name: &str) -> Result<(), StoreError> {
        let length = u16::try_from(name.len()).map_err(|_| StoreError::Corrupt)?;
        self.buffer.extend(length.to_be_bytes());
        self.buffer.extend_from_slice(name.as_bytes());
        Ok(())
    }

    fn bytes(&mut self, letter: u8, bytes: &[u8]) -> Result<(), StoreError> {
        let length = u32::try_from(bytes.len()).map_err(|_| StoreError::Corrupt)?;
        self.buffer.push(letter);
        self.buffer.extend(length.to_be_bytes());
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

impl Table {
    /// Whether it has the same name and columns, in whatever order.
    fn is_alike(&self, other: &Self) -> bool {
        self.name == other.name
            && self.columns.len() == other.columns.len()
            && self.columns.iter().all(|column| other.columns.contains(column))
    }

    /// From rows of a table's name, a column's name and its type, in order.
    pub(crate) fn all(rows: Vec<Row>) -> Result<Vec<Self>, StoreError> {
        let mut tables: Vec<Self> = Vec::new();
        for mut row in rows {
            let (table, column, declared): (String, String, String) = (row.take()?, row.take()?, row.take()?);
            let kind = match declared.to_ascii_lowercase().as_str() {
                "integer" | "bigint" => Kind::Int,
                "text" => Kind::Text,
                "blob" | "bytea" => Kind::Bytes,
                _ => return Err(StoreError::Corrupt),
            };
            match tables.last_mut().filter(|last| last.name == table) {
                Some(last) => last.columns.push((column, kind)),
                None => tables.push(Self { name: table, columns: vec![(column, kind)] }),
            }
        }
        Ok(tables)
    }

    /// The statement that reads all of it.
    pub(crate) fn select(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| name.as_str()).collect();
        format!("SELECT {} FROM {}", names.join(", "), self.name)
    }
}

impl Kind {
    const fn letter(self) -> u8 {
        match self {
            Self::Int => b'I',
            Self::Text => b'T',
            Self::Bytes => b'B',
        }
    }

    const fn null(self) -> Value {
        match self {
            Self::Int => Value::Int(None),
            Self::Text => Value::Text(None),
            Self::Bytes => Value::Bytes(None),
        }
    }
}

/// Reads a dump, however its bytes come.
struct Reader {
    source: Box<dyn Source>,
    buffer: Vec<u8>,
    at: usize,
}

/// A part of a dump.
enum Part {
    Schema(u64),
    Table(Table),
    /// Its cells are as the table's columns say.
    Row,
    End(u64),
}

const DAMAGED: StoreError = StoreError::Row("the dump is damaged");

impl Reader {
    fn part(&mut self) -> Result<Part, StoreError> {
        Ok(match self.byte()? {
            b'V' => Part::Schema(self.number()?),
            b'T' => {
                let name = self.name()?;
                let columns = usize::from(u16::from_be_bytes(self.take()?));
                if columns > MAX_COLUMNS {
                    return Err(DAMAGED);
                }
                let column = |reader: &mut Self| {
                    let name = reader.name()?;
                    let kind = match reader.byte()? {
                        b'I' => Kind::Int,
                        b'T' => Kind::Text,
                        b'B' => Kind::Bytes,
                        _ => return Err(DAMAGED),
                    };
                    Ok((name, kind))
                };
                let columns = (0..columns).map(|_| column(self)).collect::<Result<_, _>>()?;
                Part::Table(Table { name, columns })
            }
            b'R' => Part::Row,
            b'E' => Part::End(self.number()?),
            _ => return Err(DAMAGED),
        })
    }

    fn cell(&mut self, kind: Kind) -> Result<Value, StoreError> {
        Ok(match (self.byte()?, kind) {
            (b'-', kind) => kind.null(),
            (b'I', Kind::Int) => Value::Int(Some(i64::from_be_bytes(self.take()?))),
            (b'T', Kind::Text) => Value::Text(Some(String::from_utf8(self.bytes()?).map_err(|_| DAMAGED)?)),
            (b'B', Kind::Bytes) => Value::Bytes(Some(self.bytes()?)),
            _ => return Err(DAMAGED),
        })
    }

    /// Nothing follows the end.
    fn is_over(&mut self) -> Result<bool, StoreError> {
        Ok(self.buffer.len() == self.at && self.source.next()?.is_none_or(|more| more.is_empty()))
    }

    fn name(&mut self) -> Result<String, StoreError> {
        let length = usize::from(u16::from_be_bytes(self.take()?));
        if length > MAX_NAME {
            return Err(DAMAGED);
        }
        String::from_utf8(self.some(length)?.to_vec()).map_err(|_| DAMAGED)
    }

    fn bytes(&mut self) -> Result<Vec<u8>, StoreError> {
        let length = usize::try_from(u32::from_be_bytes(self.take()?)).map_err(|_| DAMAGED)?;
        if length > MAX_CELL {
            return Err(DAMAGED);
        }
        self.some(length).map(<[u8]>::to_vec)
    }

    fn number(&mut self) -> Result<u64, StoreError> {
        self.take().map(u64::from_be_bytes)
    }

    fn byte(&mut self) -> Result<u8, StoreError> {
        let [byte] = self.take()?;
        Ok(byte)
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        self.some(N)?.first_chunk().copied().ok_or(DAMAGED)
    }

    fn some(&mut self, length: usize) -> Result<&[u8], StoreError> {
        while self.buffer.len() - self.at < length {
            let more = self.source.next()?.ok_or(StoreError::Row("the dump ends early"))?;
            self.buffer.drain(..self.at);
            self.at = 0;
            self.buffer.extend(more);
        }
        let from = self.at;
        self.at += length;
        self.buffer.get(from..self.at).ok_or(DAMAGED)
    }
}

async fn load(tx: &mut dyn Connection, reader: Arc<Mutex<Reader>>, ours: Ours) -> Result<u64, StoreError> {
    for table in &ours.tables {
        let name = &table.name;
        if OWN_ROWS.contains(&name.as_str()) {
            tx.execute(owned(format!("DELETE FROM {name}"))).await?;
        } else if !tx.fetch(owned(format!("SELECT 1 FROM {name} LIMIT 1"))).await?.is_empty() {
            return Err(StoreError::NotNew("there is data in this database"));
        }
    }
    let next = || reader.lock().unwrap_or_else(PoisonError::into_inner).part();
    let Part::Schema(found) = next()? else { return Err(DAMAGED) };
    if found > ours.schema {
        return Err(StoreError::NewerSchema { found, known: ours.schema });
    }
    if found < ours.schema {
        return Err(StoreError::Row("the dump has an older schema than the store"));
    }
    let (mut rows, mut table): (u64, Option<(Table, Arc<str>)>) = (0, None);
    loop {
        match next()? {
            Part::Schema(_) => return Err(DAMAGED),
            Part::Table(found) => {
                // Names from outside never become SQL: the table has to be exactly one of ours.
                let known = ours.tables.iter().any(|ours| ours.is_alike(&found));
                if !known {
                    return Err(StoreError::Row("the dump has other tables"));
                }
                let insert = insert(&found, ours.loading.overriding);
                table = Some((found, insert));
            }
            Part::Row => {
                let (table, insert) = table.as_ref().ok_or(DAMAGED)?;
                let values = {
                    let mut reader = reader.lock().unwrap_or_else(PoisonError::into_inner);
                    table.columns.iter().map(|(_, kind)| reader.cell(*kind)).collect::<Result<Vec<_>, _>>()?
                };
                tx.execute(Statement { sql: Text::Made(Arc::clone(insert)), values, lock: None }).await?;
                rows += 1;
            }
            Part::End(count) => {
                let over = reader.lock().unwrap_or_else(PoisonError::into_inner).is_over()?;
                if !over || count != rows {
                    return Err(DAMAGED);
                }
                if let Some(afterwards) = ours.loading.afterwards {
                    tx.execute(sql(afterwards)).await?;
                }
                return Ok(rows);
            }
        }
    }
}

fn insert(table: &Table, overriding: &str) -> Arc<str> {
    let mut text = format!("INSERT INTO {} (", table.name);
    for (index, (name, _)) in table.columns.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{}{name}", if index == 0 { "" } else { ", " });
    }
    let _ = write!(text, ") {overriding} VALUES (");
    for index in 1..=table.columns.len() {
        let _ = write!(text, "{}${index}", if index == 1 { "" } else { ", " });
    }
    text.push(')');
    text.into()
}

fn owned(text: String) -> Statement {
    Statement { sql: Text::Made(text.into()), values: Vec::new(), lock: None }
}
