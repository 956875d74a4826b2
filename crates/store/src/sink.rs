//! Request records on their way to the database, off the hot path.
//!
//! A push takes a short lock and never waits. The writer takes what has gathered, many at a time. Records that
//! are not yet written when the process is killed are lost, and so are those pushed while the queue is full: both
//! are for analysis, nothing is decided by them. Losses are counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base::Tenant;
use tokio::sync::Notify;

use crate::RequestRecord;
use crate::records::Entry;

/// How many records wait at most.
const CAPACITY: usize = 16_384;
/// How many are written together: what a busy server makes while the first of them waits for the writer. More would
/// keep those waiting who need their write done.
pub(crate) const BATCH: usize = 1024;

/// Where request records go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RecordSink {
    queue: Arc<Queue>,
    tenant: Tenant,
}

#[derive(Debug)]
struct Queue {
    waiting: Mutex<Waiting>,
    ready: Notify,
    dropped: AtomicU64,
    capacity: usize,
}

#[derive(Debug, Default)]
struct Waiting {
    entries: VecDeque<Entry>,
    /// Taken by the writer but not written yet; they keep their room until they are.
    taken: usize,
    /// What the last batch was held in, for the next.
    spare: VecDeque<Entry>,
}

impl Waiting {
    fn len(&self) -> usize {
        self.entries.len() + self.taken
    }
}

impl RecordSink {
    pub(crate) fn new() -> Self {
        Self::with_capacity(CAPACITY)
    }

    pub(crate) fn with_capacity(capacity: usize) -> Self {
        let (waiting, ready, dropped) = (Mutex::default(), Notify::new(), AtomicU64::new(0));
        Self { queue: Arc::new(Queue { waiting, ready, dropped, capacity }), tenant: Tenant::default() }
    }

    pub(crate) fn for_tenant(&self, tenant: Tenant) -> Self {
        Self { queue: Arc::clone(&self.queue), tenant }
    }

    /// Hand over a record. Never waits; when the queue is full the record is dropped and counted.
    pub fn push(&self, record: RequestRecord) {
        let entry = (self.tenant.clone(), record);
        let waiting = {
            let mut queue = self.lock();
            if queue.len() < self.queue.capacity {
                queue.entries.push_back(entry);
                Some(queue.entries.len())
            } else {
                None
            }
        };
        match waiting {
            None => self.count_dropped(1),
            // The first starts the writer's patience, a full batch ends it; those between wake nobody.
            Some(1 | BATCH) => self.queue.ready.notify_one(),
            Some(_) => {}
        }
    }

    /// How many records were lost since the start: the queue was full, or the database refused them.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped.load(Ordering::Relaxed)
    }

    /// How many records are not written yet.
    pub fn waiting(&self) -> usize {
        self.lock().len()
    }

    /// Wakes when records have begun to gather or a batch is full.
    pub(crate) async fn ready(&self) {
        self.queue.ready.notified().await;
    }

    /// Take the oldest records, a batch at most. Each batch is ended by [`RecordSink::put_back`],
    /// [`RecordSink::written`] or [`RecordSink::lost`].
    pub(crate) fn take(&self) -> VecDeque<Entry> {
        let mut queue = self.lock();
        let count = queue.entries.len().min(BATCH);
        queue.taken = count;
        if count == queue.entries.len() {
            // All of it, without moving one: requests wait for this lock.
            let spare = std::mem::take(&mut queue.spare);
            return std::mem::replace(&mut queue.entries, spare);
        }
        queue.entries.drain(..count).collect()
    }

    /// The batch is in the database.
    pub(crate) fn written(&self, mut batch: VecDeque<Entry>) {
        batch.clear();
        let mut queue = self.lock();
        queue.taken = 0;
        queue.spare = batch;
    }

    /// The batch can never be written.
    pub(crate) fn lost(&self) {
        let count = std::mem::take(&mut self.lock().taken);
        self.count_dropped(count as u64);
    }

    /// The batch could not be written now: its records are the oldest again.
    pub(crate) fn put_back(&self, mut batch: VecDeque<Entry>) {
        let mut queue = self.lock();
        queue.taken = 0;
        batch.append(&mut queue.entries);
        queue.entries = batch;
    }

    fn count_dropped(&self, count: u64) {
        self.queue.dropped.fetch_add(count, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.queue.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
