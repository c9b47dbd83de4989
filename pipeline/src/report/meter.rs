//! Counts the rows of one table, from as many workers as there are, and reports a few times a second.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pg::QualifiedName;

use super::Reporter;

const EVERY: Duration = Duration::from_millis(200);

/// Clones count into the same table.
#[derive(Clone, Debug)]
pub struct TableMeter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reporter: Reporter,
    table: QualifiedName,
    /// Of the whole table.
    total: Option<u64>,
    made: Instant,
    started: OnceLock<Instant>,
    rows: AtomicU64,
    bytes: AtomicU64,
    /// Milliseconds after `made` at which the next report is due.
    due: AtomicU64,
}

impl TableMeter {
    pub(super) fn new(reporter: Reporter, table: QualifiedName, total: Option<u64>) -> TableMeter {
        TableMeter(Arc::new(Inner {
            reporter,
            table,
            total,
            made: Instant::now(),
            started: OnceLock::new(),
            rows: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            due: AtomicU64::new(EVERY.as_millis() as u64),
        }))
    }

    /// Reports the start; only the first call does.
    pub fn begin(&self) {
        self.begin_with(None);
    }

    pub(super) fn begin_with(&self, rows_estimate: Option<u64>) {
        let inner = &*self.0;
        if inner.started.set(Instant::now()).is_ok() {
            inner.reporter.table_started(&inner.table, rows_estimate, inner.total);
        }
    }

    /// Rows that were counted and did not stay: they come again.
    pub fn take_back(&self, rows: u64, bytes: u64) {
        self.0.rows.fetch_sub(rows, Ordering::Relaxed);
        self.0.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Adds to the totals. Cheap enough to be called for every network buffer.
    pub fn add(&self, rows: u64, bytes: u64) {
        let inner = &*self.0;
        let rows = inner.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let bytes = inner.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let now = inner.made.elapsed().as_millis() as u64;
        let due = inner.due.load(Ordering::Relaxed);
        let next = now + EVERY.as_millis() as u64;
        if now >= due && inner.due.compare_exchange(due, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            inner.reporter.table_progress(&inner.table, rows, bytes);
        }
    }

    #[must_use]
    pub fn rows(&self) -> u64 {
        self.0.rows.load(Ordering::Relaxed)
    }

    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.bytes.load(Ordering::Relaxed)
    }

    /// All rows are there.
    pub fn done(&self) {
        self.done_with(self.rows(), self.bytes());
    }

    /// All rows are there; the totals are known better than they were counted.
    pub fn done_with(&self, rows: u64, bytes: u64) {
        let inner = &*self.0;
        let took = inner.started.get().map_or(Duration::ZERO, Instant::elapsed);
        inner.reporter.table_done(&inner.table, rows, bytes, took);
    }
}
