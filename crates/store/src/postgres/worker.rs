//! The thread that talks to the server. It has a runtime of its own, so that a busy data plane does not delay a commit nor
//! the other way round, and runs several transactions at once, each on a connection of its own.
//!
//! A transaction that gave way to another, or whose connection was lost before its commit, is run again: nothing of it has
//! happened. One whose connection was lost while it was committing is reported as unknown.

use std::cell::Cell;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use super::link::{Link, Links};
use super::listen;
use super::sink::Records;
use crate::dir::Lock;
use crate::engine::{Connection, Job, Ran, Row, Statement};
use crate::{RecordSink, StoreError};

/// How many transactions run at once.
const WRITERS: usize = 8;
/// How many reads run at once.
const READERS: usize = 4;
/// How often a transaction is begun anew.
const ATTEMPTS: u32 = 8;
/// How long an attempt may take. The server has given up before: see `link::SETUP`.
const ATTEMPT: Duration = Duration::from_secs(10);
/// What has waited for longer is not begun any more: while the server stalls, nobody waits for all who were before.
const WAIT: Duration = ATTEMPT;
/// How long the last request records may take to be written.
const LAST: Duration = Duration::from_secs(5);

/// What is asked of the thread.
pub(super) enum Message {
    Job(Box<dyn Job>, Instant),
    Flush(oneshot::Sender<Result<(), StoreError>>),
    /// Tell [`super::PgEngine::hint`] from now on.
    Listen,
    Close(oneshot::Sender<()>),
}

/// A read, who waits for it, and since when.
pub(super) type Read = (Statement, oneshot::Sender<Result<Vec<Row>, StoreError>>, Instant);

pub(super) struct Worker {
    pub(super) links: Links,
    pub(super) options: sqlx::postgres::PgConnectOptions,
    pub(super) jobs: mpsc::Receiver<Message>,
    pub(super) reads: mpsc::Receiver<Read>,
    pub(super) sink: RecordSink,
    pub(super) hints: watch::Sender<u64>,
}

impl Worker {
    /// Serve until the store is closed or its last handle dropped; then let go of `locks`.
    pub(super) async fn run(self, locks: Vec<Lock>) {
        let Self { links, options, jobs, reads, sink, hints } = self;
        let records = Records::new(&links, &sink);
        let mut closing = None;
        {
            let serving = serve_jobs(&links, &records, (jobs, options, hints), &mut closing);
            let reading = async {
                serve_reads(&links, reads).await;
                // Nobody can ask any more; the jobs say when all is done.
                std::future::pending::<()>().await;
            };
            let work = async {
                tokio::select! {
                    () = serving => {}
                    () = reading => {}
                }
                timeout(LAST, records.flush()).await.unwrap_or(Err(StoreError::Unreachable))
            };
            let written = tokio::select! {
                written = work => written,
                // Goes on to the end: a batch that is under way is finished before the last is written.
                () = records.write_as_they_come() => Ok(()),
            };
            if let Err(error) = written {
                let lost = sink.waiting();
                tracing::error!(reason = error.reason(), lost, "request records could not be written before the end");
            }
        }
        links.close().await;
        drop(locks);
        if let Some(done) = closing {
            let _ = done.send(());
        }
    }
}

/// Do what is asked, at most [`WRITERS`] at once; end once the store is closed and all that was queued is done.
async fn serve_jobs(
    links: &Links,
    records: &Records<'_>,
    (mut jobs, options, hints): (mpsc::Receiver<Message>, sqlx::postgres::PgConnectOptions, watch::Sender<u64>),
    closing: &mut Option<oneshot::Sender<()>>,
) {
    let mut running: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut listening: Option<LocalBoxFuture<'_, ()>> = None;
    let mut open = true;
    while open || !running.is_empty() {
        tokio::select! {
            message = jobs.recv(), if open && running.len() < WRITERS => match message {
                None => open = false,
                Some(Message::Job(job, since)) if since.elapsed() > WAIT => job.finish(Err(StoreError::Busy)),
                Some(Message::Job(job, _)) => running.push(Box::pin(transact(links, job))),
                Some(Message::Flush(done)) => running.push(Box::pin(async move {
                    let _ = done.send(records.flush().await);
                })),
                Some(Message::Listen) if listening.is_none() => {
                    listening = Some(Box::pin(listen::forward(options.clone(), &hints)));
                }
                Some(Message::Listen) => {}
                Some(Message::Close(done)) => {
                    *closing = Some(done);
                    // Refuses what comes now; what is queued is still served.
                    jobs.close();
                }
            },
            Some(()) = running.next() => {}
            () = async {
                match &mut listening {
                    Some(listening) => listening.await,
                    None => std::future::pending().await,
                }
            } => listening = None,
        }
    }
}

async fn serve_reads(links: &Links, mut reads: mpsc::Receiver<Read>) {
    let mut running: FuturesUnordered<LocalBoxFuture<'_, ()>> = FuturesUnordered::new();
    let mut open = true;
    while open || !running.is_empty() {
        tokio::select! {
            read = reads.recv(), if open && running.len() < READERS => match read {
                None => open = false,
                // Whoever asked may have gone while it waited.
                Some((_, answer, _)) if answer.is_closed() => {}
                Some((_, answer, since)) if since.elapsed() > WAIT => drop(answer.send(Err(StoreError::Busy))),
                Some((statement, answer, _)) => running.push(Box::pin(async move {
                    let _ = answer.send(fetch(links, statement).await);
                })),
            },
            Some(()) = running.next() => {}
        }
    }
}

/// Read what has been committed: a statement by itself, which may be run again.
async fn fetch(links: &Links, statement: Statement) -> Result<Vec<Row>, StoreError> {
    let mut last = StoreError::Unreachable;
    for attempt in 0..2 {
        let mut link = links.take().await?;
        let outcome = timeout(ATTEMPT, link.fetch(statement.clone())).await;
        match outcome.unwrap_or(Err(StoreError::Unreachable)) {
            Err(error @ StoreError::Unreachable) => {
                links.forget();
                tracing::debug!(attempt, "the connection to the database was lost while reading");
                last = error;
            }
            other => {
                links.give(link);
                return other;
            }
        }
    }
    Err(last)
}

/// What came of one attempt.
enum Attempt {
    /// It is over, and the job knows how.
    Over(Result<(), StoreError>),
    /// Nothing of it has happened; it may be tried again.
    Again(StoreError),
}

async fn transact(links: &Links, mut job: Box<dyn Job>) {
    let mut outcome = Err(StoreError::Collided);
    for attempt in 0..ATTEMPTS {
        let mut link = match links.take().await {
            Ok(link) => link,
            Err(error) => {
                outcome = Err(error);
                break;
            }
        };
        let committing = Cell::new(false);
        let tried = timeout(ATTEMPT, once(&mut link, &mut *job, &committing)).await.unwrap_or_else(|_| {
            Attempt::Over(Err(if committing.get() { StoreError::Unknown } else { StoreError::Unreachable }))
        });
        match tried {
            Attempt::Over(Ok(())) => {
                links.give(link);
                outcome = Ok(());
                break;
            }
            Attempt::Over(Err(error)) => {
                if matches!(error, StoreError::Unknown | StoreError::Unreachable) {
                    links.forget();
                }
                // The connection goes with it: the server undoes what was open there.
                outcome = Err(error);
                break;
            }
            Attempt::Again(StoreError::Unreachable) => {
                links.forget();
                outcome = Err(StoreError::Unreachable);
            }
            Attempt::Again(error) => {
                links.give(link);
                outcome = Err(error);
                // Those that got in each other's way come back at different times.
                sleep(Duration::from_millis(1 << attempt)).await;
            }
        }
    }
    job.finish(outcome);
}

async fn once(link: &mut Link, job: &mut dyn Job, committing: &Cell<bool>) -> Attempt {
    match link.begin().await {
        Ok(()) => {}
        Err(error @ StoreError::Unreachable) => return Attempt::Again(error),
        Err(error) => return Attempt::Over(Err(error)),
    }
    let ran = job.run(link).await;
    let spoiled = link.spoiled();
    match (ran, spoiled) {
        (Ran::Keep, None) => {
            committing.set(true);
            match link.commit(job.notifies()).await {
                Err(error @ StoreError::Collided) => match link.rollback().await {
                    Ok(()) => Attempt::Again(error),
                    Err(_) => Attempt::Again(StoreError::Unreachable),
                },
                other => Attempt::Over(other),
            }
        }
        // It went on after a statement that failed: the server would undo all and say nothing.
        (Ran::Keep, Some(error)) => Attempt::Over(Err(error)),
        (Ran::Undo, _) => Attempt::Over(link.rollback().await.or(Ok(()))),
        (Ran::Again, Some(StoreError::Unreachable) | None) => Attempt::Again(StoreError::Unreachable),
        (Ran::Again, Some(error)) => match link.rollback().await {
            Ok(()) => Attempt::Again(error),
            Err(_) => Attempt::Again(StoreError::Unreachable),
        },
    }
}
