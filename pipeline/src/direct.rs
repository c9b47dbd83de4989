//! The in-process carrier: a queue bounded in bytes.

use std::sync::Arc;

use pg::{Error, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use crate::carrier::{ChangeSink, ChangeSource, Chunk, Durable};

/// Permits are of this many bytes, so that a queue of 4 GiB still counts in a `u32`.
const GRAIN: usize = 1024;

type Queued = (Chunk, OwnedSemaphorePermit);

/// The reader's half of a direct carrier.
pub struct DirectSink {
    queue: mpsc::UnboundedSender<Queued>,
    room: Arc<Semaphore>,
    grains: usize,
    durable: watch::Receiver<Durable>,
}

/// The writer's half of a direct carrier.
pub struct DirectSource {
    queue: mpsc::UnboundedReceiver<Queued>,
    durable: watch::Sender<Durable>,
    room: Arc<Semaphore>,
    /// Room is given back when the next chunk is asked for: the one in hand still counts.
    held: Option<OwnedSemaphorePermit>,
}

/// A carrier that holds at most `capacity` bytes; a chunk larger than that passes alone. `start` is what is durable already.
#[must_use]
pub fn direct(capacity: usize, start: Durable) -> (DirectSink, DirectSource) {
    let grains = (capacity / GRAIN).clamp(1, u32::MAX as usize >> 1);
    let (sender, receiver) = mpsc::unbounded_channel();
    let (durable_sender, durable) = watch::channel(start);
    let room = Arc::new(Semaphore::new(grains));
    (
        DirectSink { queue: sender, room: room.clone(), grains, durable },
        DirectSource { queue: receiver, durable: durable_sender, room, held: None },
    )
}

impl ChangeSink for DirectSink {
    async fn send(&mut self, chunk: Chunk) -> Result<()> {
        let grains = (chunk.bytes / GRAIN + 1).min(self.grains) as u32;
        let closed = || Error::failed("WRITER_GONE", "the writer has ended");
        let permit = self.room.clone().acquire_many_owned(grains).await.map_err(|_| closed())?;
        self.queue.send((chunk, permit)).map_err(|_| closed())
    }

    fn is_busy(&self) -> bool {
        self.room.available_permits() < self.grains
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }
}

impl ChangeSource for DirectSource {
    async fn recv(&mut self) -> Option<Chunk> {
        self.held = None;
        let (chunk, permit) = self.queue.recv().await?;
        self.held = Some(permit);
        Some(chunk)
    }

    fn try_recv(&mut self) -> Option<Chunk> {
        let (chunk, permit) = self.queue.try_recv().ok()?;
        // What came before is the writer's to bound now.
        self.held = Some(permit);
        Some(chunk)
    }

    fn acknowledge(&mut self, durable: Durable) {
        debug_assert!(durable.applied >= durable.flushed);
        self.durable.send_if_modified(|now| {
            let next = Durable {
                applied: now.applied.max(durable.applied),
                flushed: now.flushed.max(durable.flushed),
            };
            let moved = *now != next;
            *now = next;
            moved
        });
    }
}

impl Drop for DirectSource {
    /// Wakes a reader that waits for room.
    fn drop(&mut self) {
        self.room.close();
    }
}
