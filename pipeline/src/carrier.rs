//! How chunks get from the reader to the writer, and how the acknowledgement gets back.
//!
//! A carrier is two halves. The reader's half takes chunks and tells what is durable at the far end; the writer's half hands chunks
//! out and takes the acknowledgement. Only a progress commit completes one, and only that moves the slot.

use std::future::Future;

use pg::{Lsn, Result};
use tokio::sync::watch;

use crate::change::Event;

/// Consecutive events of the stream; bounded in bytes by whoever fills it. A transaction may span many.
#[derive(Debug, Default)]
pub struct Chunk {
    pub events: Vec<Event>,
    /// Sum of [`Event::bytes`].
    pub bytes: usize,
}

impl Chunk {
    pub fn push(&mut self, event: Event) {
        self.bytes += event.bytes();
        self.events.push(event);
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }
}

/// What the far end has done with the stream: `applied >= flushed`. Both are end LSNs of transactions or idle positions.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Durable {
    /// Committed at the target (visible there).
    pub applied: Lsn,
    /// On the target's disk: the only thing that moves the slot.
    pub flushed: Lsn,
}

/// The reader's half.
pub trait ChangeSink: Send {
    /// Waits while the carrier is full. Cancel-safe: a cancelled call has not taken the chunk's events out of order
    /// (callers keep the future alive in a `select!` loop so that feedback goes on meanwhile).
    fn send(&mut self, chunk: Chunk) -> impl Future<Output = Result<()>> + Send;

    /// The far end is at work on what it was given before: nothing that is sent now is taken at once.
    fn is_busy(&self) -> bool {
        false
    }

    /// Follows what the far end has made durable.
    fn durable(&self) -> watch::Receiver<Durable>;
}

/// The writer's half.
pub trait ChangeSource: Send {
    /// The next chunk; `None` when the reader has ended.
    fn recv(&mut self) -> impl Future<Output = Option<Chunk>> + Send;

    /// A chunk that is there already.
    fn try_recv(&mut self) -> Option<Chunk>;

    /// Called after a progress commit.
    fn acknowledge(&mut self, durable: Durable);

    /// Where this carrier would take up behind everything that ends at `end_lsn`, in its own words: kept in the target with the rows it
    /// covers and handed back at the next start. `None`: the LSN says it all.
    fn position(&mut self, end_lsn: Lsn) -> Option<String> {
        let _ = end_lsn;
        None
    }
}
