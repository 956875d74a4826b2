//! Request records on their way to the server, many at a time.

use std::fmt::Write;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::link::{Link, Links};
use crate::engine::Connection;
use crate::records::{self, Inserts};
use crate::sink::BATCH;
use crate::usage;
use crate::{RecordSink, StoreError};

/// How long records gather before they are written.
const LINGER: Duration = Duration::from_millis(100);
/// How long to wait when they could not be.
const RETRY: Duration = Duration::from_secs(1);
/// How long a batch may take.
const WRITE: Duration = Duration::from_secs(10);
/// Records per statement, largest first: a few fixed sizes, because each is prepared once and kept.
const RECORDS_PER_INSERT: [usize; 4] = [128, 32, 8, 1];

pub(super) struct Records<'a> {
    links: &'a Links,
    sink: &'a RecordSink,
    /// One batch at a time: the sink keeps the room of one.
    turn: Mutex<Inserts>,
}

impl<'a> Records<'a> {
    pub(super) fn new(links: &'a Links, sink: &'a RecordSink) -> Self {
        Self { links, sink, turn: Mutex::new(Inserts::new(&RECORDS_PER_INSERT, placeholder)) }
    }

    /// Never ends.
    pub(super) async fn write_as_they_come(&self) {
        loop {
            self.sink.ready().await;
            // A full batch ends the patience the first record began.
            let _ = timeout(LINGER, self.sink.ready()).await;
            while self.sink.waiting() > 0 {
                let wait = match self.one_batch().await {
                    Ok(_) if self.sink.waiting() >= BATCH => continue,
                    Ok(_) => LINGER,
                    Err(error) => {
                        let waiting = self.sink.waiting();
                        tracing::warn!(reason = error.reason(), waiting, "request records could not be written");
                        RETRY
                    }
                };
                if self.sink.waiting() > 0 {
                    sleep(wait).await;
                }
            }
        }
    }

    /// Write all that are waiting.
    pub(super) async fn flush(&self) -> Result<(), StoreError> {
        while self.one_batch().await? > 0 {}
        Ok(())
    }

    async fn one_batch(&self) -> Result<usize, StoreError> {
        let mut inserts = self.turn.lock().await;
        // First of all, so that records keep their places in the queue while there is no server.
        let mut link = self.links.take().await?;
        let mut batch = self.sink.take();
        if batch.is_empty() {
            self.links.give(link);
            return Ok(0);
        }
        let count = batch.len();
        let written = timeout(WRITE, insert(&mut link, &mut inserts, batch.make_contiguous())).await;
        match written.unwrap_or(Err(StoreError::Unknown)) {
            Ok(()) => {
                self.links.give(link);
                self.sink.written(batch);
                Ok(count)
            }
            Err(error) => {
                // The connection goes with the error, and what was open there with it.
                if matches!(error, StoreError::Unreachable | StoreError::Unknown) {
                    self.links.forget();
                }
                // Of a commit that is unknown none is written twice.
                if error.retryable() && !matches!(error, StoreError::Database(_)) {
                    self.sink.put_back(batch);
                } else {
                    self.sink.lost();
                }
                Err(error)
            }
        }
    }
}

async fn insert(link: &mut Link, inserts: &mut Inserts, batch: &[records::Entry]) -> Result<(), StoreError> {
    link.begin().await?;
    let mut rest = batch;
    while let Some((statement, more)) = inserts.next(rest) {
        link.execute(statement).await?;
        rest = more;
    }
    for statement in usage::upserts(batch, placeholder) {
        link.execute(statement).await?;
    }
    for statement in records::last_used(batch) {
        link.execute(statement).await?;
    }
    link.commit(false).await
}

fn placeholder(text: &mut String, number: usize) {
    // Writing to a String cannot fail.
    let _ = write!(text, "${number}");
}
