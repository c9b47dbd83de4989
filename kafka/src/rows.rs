//! The rows of a snapshot into the topics, and the announcement that they are there, sent when Kafka has acknowledged all of them.

use std::collections::HashMap;
use std::sync::Arc;

use pg::{Error, Lsn, Result};
use pipeline::envelope::{Encoder, Message, Snapshot, SnapshotMark};
use pipeline::{Durable, Relation, Tuple};
use tokio::sync::watch;

use crate::announcement::{Announcement, now};
use crate::ledger::Waiting;
use crate::options::Options;
use crate::producer::{Handle, Producer};

/// Rows between two looks at the clock.
const CLOCK: u32 = 1000;

/// Sends rows outside of any transaction.
pub struct Rows {
    producer: Producer,
    handle: Handle,
    encoder: Encoder,
    partitions: HashMap<String, usize>,
    durable: watch::Receiver<Durable>,
    capacity: usize,
    entry: usize,
    sent: u32,
}

impl Rows {
    /// `partitions`: of the topics, which are there.
    pub fn start(
        options: &Options,
        mut encoder: Encoder,
        partitions: HashMap<String, usize>,
    ) -> Result<Rows> {
        let (producer, durable) = Producer::start(options, Durable::default())?;
        let handle = producer.handle()?;
        let entry = handle.shared.ledger().open();
        encoder.set_now(now());
        Ok(Rows {
            producer,
            handle,
            encoder,
            partitions,
            durable,
            capacity: options.in_flight_bytes,
            entry,
            sent: 0,
        })
    }

    /// Sends one row; waits while too much is on its way.
    pub async fn send(
        &mut self,
        snapshot: &Snapshot,
        mark: SnapshotMark,
        relation: &Arc<Relation>,
        row: &Tuple,
    ) -> Result<()> {
        self.handle.room(self.capacity).await?;
        self.sent = (self.sent + 1) % CLOCK;
        if self.sent == 0 {
            self.encoder.set_now(now());
        }
        let Rows { handle, encoder, partitions, entry, .. } = self;
        let mut result = Ok(());
        encoder.snapshot_row(snapshot, mark, relation, row, &mut |message: Message<'_>| {
            if result.is_ok() {
                let count = partitions.get(message.topic).copied().unwrap_or(1);
                result = handle.event(*entry, &message, count);
            }
        })?;
        result
    }

    /// Waits until Kafka has all of them, and says so in a heartbeat at `position`.
    pub async fn finish(self, announcement: &Announcement, position: Lsn) -> Result<()> {
        let Rows { producer, handle, mut encoder, mut durable, entry, .. } = self;
        let mut heartbeat = None;
        encoder.heartbeat(position, &mut |message| heartbeat = Some(Waiting::of(&message)));
        let Some(mut heartbeat) = heartbeat else { return Ok(()) };
        heartbeat.headers.extend(announcement.headers());
        handle.shared.ledger().close(entry, position, heartbeat, true);
        handle.mark();
        drop(handle);
        let sent = durable.wait_for(|durable| durable.flushed >= position).await.is_ok();
        let failure = producer.failure();
        producer.close().await;
        match failure {
            Some(error) => Err(error),
            None if sent => Ok(()),
            None => Err(Error::connection("Kafka: the producer has ended").with_code("KAFKA")),
        }
    }
}
