//! The one writer. It takes what is waiting, does it in one transaction, commits once for all of it, and only then
//! tells who waits. Under load this makes many writes of one `fsync`; an idle writer waits for nobody.
//!
//! It runs on a thread and runtime of its own: a busy data plane does not delay a commit, nor the other way round.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use base::Clock;
use sqlx::Connection as _;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::dir::Lock;
use crate::engine::{Connection, Job, Ran, sql};
use crate::records::{self, Inserts};
use crate::sink::BATCH;
use crate::usage;
use crate::{RecordSink, StoreError};

/// The most jobs of one commit.
const MAX_JOBS: usize = 64;
/// No job is added to a transaction that has been open this long, so that the first need not wait for the last.
const MAX_OPEN: Duration = Duration::from_millis(2);
/// How long request records gather before they are written.
const LINGER: Duration = Duration::from_millis(100);
/// How long to wait when they could not be.
const RETRY: Duration = Duration::from_secs(1);
/// Records per statement, largest first: each statement is a way to SQLite's thread and back, which costs more than
/// the insert; a few fixed sizes, because each is prepared once and kept. What is left of a batch takes one of each at most.
const RECORDS_PER_INSERT: [usize; 8] = [128, 64, 32, 16, 8, 4, 2, 1];

pub(crate) enum Message {
    Job(Box<dyn Job>),
    Flush(oneshot::Sender<Result<(), StoreError>>),
    Close(oneshot::Sender<()>),
}

pub(crate) struct Writer {
    connection: SqliteConnection,
    inbox: mpsc::Receiver<Message>,
    clock: Arc<dyn Clock>,
    sink: RecordSink,
    inserts: Inserts,
    /// When the records that have gathered are to be written.
    records_due: Option<Instant>,
    /// The last attempt to write records failed: the next waits for its time, however many gather.
    failing: bool,
}

impl Writer {
    pub(crate) fn new(
        connection: SqliteConnection,
        inbox: mpsc::Receiver<Message>,
        clock: Arc<dyn Clock>,
        sink: RecordSink,
    ) -> Self {
        let inserts = Inserts::new(&RECORDS_PER_INSERT, placeholder);
        Self { connection, inbox, clock, sink, inserts, records_due: None, failing: false }
    }

    /// Run on a thread of its own until the store is closed or its last handle dropped; then let go of `locks`.
    pub(crate) fn start(self, locks: Vec<Lock>) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let thread = std::thread::Builder::new().name("store-writer".to_owned());
        thread.spawn(move || runtime.block_on(self.run(locks))).map(drop)
    }

    async fn run(mut self, locks: Vec<Lock>) {
        let mut closing = None;
        loop {
            let due = self.records_due;
            tokio::select! {
                biased;
                message = self.inbox.recv() => match message {
                    None => break,
                    Some(message) => if let ControlFlow::Break(done) = self.serve(message).await {
                        closing = Some(done);
                        // Refuses what comes now; what is queued is still served.
                        self.inbox.close();
                    },
                },
                () = self.sink.ready() => {
                    self.records_due.get_or_insert_with(|| Instant::now() + LINGER);
                }
                () = sleep_until(due) => self.write_records().await,
            }
            // A steady flow of jobs keeps the other branches from being reached.
            let full = self.sink.waiting() >= BATCH && !self.failing;
            if full || self.records_due.is_some_and(|due| due <= Instant::now()) {
                self.write_records().await;
            }
        }
        if let Err(error) = self.flush().await {
            let lost = self.sink.waiting();
            tracing::error!(reason = error.reason(), lost, "request records could not be written before the end");
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the database did not close cleanly; its log is read at the next start");
        }
        drop(locks);
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }

    async fn serve(&mut self, message: Message) -> ControlFlow<oneshot::Sender<()>> {
        let mut next = Some(message);
        // A batch may end by taking a message that is not a job.
        while let Some(message) = next.take() {
            match message {
                Message::Job(job) => next = self.batch(job).await,
                Message::Flush(done) => {
                    let _ = done.send(self.flush().await);
                }
                Message::Close(done) => return ControlFlow::Break(done),
            }
        }
        ControlFlow::Continue(())
    }

    /// Do `job` and those waiting behind it in one transaction. Returns the message that ended the batch, if one did.
    async fn batch(&mut self, job: Box<dyn Job>) -> Option<Message> {
        let begun = self.clock.monotonic();
        if let Err(error) = self.connection.execute(sql("BEGIN IMMEDIATE")).await {
            job.finish(Err(error));
            return None;
        }
        let (mut done, mut next, mut other) = (Vec::new(), Some(job), None);
        let mut broken = Ok(());
        while let Some(mut job) = next.take() {
            broken = self.one(&mut *job).await;
            done.push(job);
            if broken.is_err() || done.len() >= MAX_JOBS || self.clock.monotonic() - begun >= MAX_OPEN {
                break;
            }
            match self.inbox.try_recv() {
                Ok(Message::Job(job)) => next = Some(job),
                Ok(message) => other = Some(message),
                Err(_) => {}
            }
        }
        let committed = match broken {
            Ok(()) => self.connection.execute(sql("COMMIT")).await.map(drop),
            Err(error) => Err(error),
        };
        if committed.is_err() {
            // SQLite has undone the transaction by itself after some errors (disk full, input or output).
            let _ = self.connection.execute(sql("ROLLBACK")).await;
        }
        for job in done {
            job.finish(committed.clone());
        }
        other
    }

    /// Do one job so that undoing it leaves the others' work alone. An error means the whole transaction is broken.
    async fn one(&mut self, job: &mut dyn Job) -> Result<(), StoreError> {
        self.connection.execute(sql("SAVEPOINT job")).await?;
        if job.run(&mut self.connection).await != Ran::Keep {
            self.connection.execute(sql("ROLLBACK TO job")).await?;
        }
        self.connection.execute(sql("RELEASE job")).await.map(drop)
    }

    /// Write one batch of records, and see to it that the rest follows.
    async fn write_records(&mut self) {
        self.records_due = None;
        let wait = match self.one_batch_of_records().await {
            Ok(_) => LINGER,
            Err(error) => {
                let waiting = self.sink.waiting();
                tracing::warn!(reason = error.reason(), waiting, "request records could not be written");
                RETRY
            }
        };
        if self.sink.waiting() > 0 {
            self.records_due = Some(Instant::now() + wait);
        }
    }

    /// Write all records that are waiting.
    async fn flush(&mut self) -> Result<(), StoreError> {
        while self.one_batch_of_records().await? > 0 {}
        Ok(())
    }

    async fn one_batch_of_records(&mut self) -> Result<usize, StoreError> {
        let mut batch = self.sink.take();
        if batch.is_empty() {
            return Ok(0);
        }
        let count = batch.len();
        let inserted = self.insert(batch.make_contiguous()).await;
        self.failing = inserted.is_err();
        if let Err(error) = inserted {
            let _ = self.connection.execute(sql("ROLLBACK")).await;
            if matches!(error, StoreError::Full | StoreError::ReadOnly | StoreError::Disk(_) | StoreError::Busy) {
                self.sink.put_back(batch);
            } else {
                self.sink.lost();
            }
            return Err(error);
        }
        self.sink.written(batch);
        Ok(count)
    }

    async fn insert(&mut self, batch: &[records::Entry]) -> Result<(), StoreError> {
        self.connection.execute(sql("BEGIN IMMEDIATE")).await?;
        let mut rest = batch;
        while let Some((statement, more)) = self.inserts.next(rest) {
            self.connection.execute(statement).await?;
            rest = more;
        }
        for statement in usage::upserts(batch, placeholder) {
            self.connection.execute(statement).await?;
        }
        for statement in records::last_used(batch) {
            self.connection.execute(statement).await?;
        }
        self.connection.execute(sql("COMMIT")).await.map(drop)
    }
}

/// SQLite looks each `$n` up by a walk over all of them, which for hundreds costs more than the insert; a bare `?` has no name to
/// look up.
fn placeholder(text: &mut String, _: usize) {
    text.push('?');
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
