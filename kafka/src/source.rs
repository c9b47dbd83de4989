//! The writer's half: what the merge has put together, and the offsets behind it.

use std::sync::{Arc, Mutex, PoisonError};

use pg::Lsn;
use pipeline::direct::DirectSource;
use pipeline::{ChangeSource, Chunk, Durable};

use crate::position::Positions;

/// Hands out the transactions that a [`crate::Merge`] has read.
pub struct KafkaSource {
    pub(crate) queue: DirectSource,
    pub(crate) positions: Arc<Mutex<Positions>>,
}

impl ChangeSource for KafkaSource {
    async fn recv(&mut self) -> Option<Chunk> {
        self.queue.recv().await
    }

    fn try_recv(&mut self) -> Option<Chunk> {
        self.queue.try_recv()
    }

    fn acknowledge(&mut self, durable: Durable) {
        self.queue.acknowledge(durable);
    }

    fn position(&mut self, end_lsn: Lsn) -> Option<String> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).behind(end_lsn)
    }
}
