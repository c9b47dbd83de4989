//! The stream's far end where outbox events are all that is streamed: the books of what Kafka has of them.

use pg::{Lsn, Result};
use pipeline::{ChangeSink, Chunk, Durable, Event};
use tokio::sync::watch;

use super::dispatch::{Dispatch, Open, OutboxOptions, producer_config};
use crate::producer::{Handle, Producer};

/// Sends the events of one stream.
pub struct OutboxSink {
    dispatch: Dispatch,
    producer: Handle,
    durable: watch::Receiver<Durable>,
    /// The open transaction's entry.
    entry: Option<usize>,
}

impl OutboxSink {
    /// `start`: what Kafka has already.
    ///
    /// # Errors
    /// Class `Usage`: a setting that librdkafka refuses. The brokers are not asked yet.
    pub fn start(options: OutboxOptions, start: Lsn) -> Result<(OutboxSink, Producer)> {
        let (producer, durable) = Producer::start_with(
            &producer_config(&options),
            options.kafka.message_bytes,
            Durable { applied: start, flushed: start },
        )?;
        let dispatch = Dispatch::new(options)?;
        let sink = OutboxSink { dispatch, producer: producer.handle()?, durable, entry: None };
        Ok((sink, producer))
    }

    fn commit(&mut self, end_lsn: Lsn) {
        let mut ledger = self.producer.shared.ledger();
        let entry = match self.entry.take() {
            Some(entry) => entry,
            // An empty transaction is a position like any other.
            None => ledger.open(),
        };
        ledger.finish(entry, end_lsn);
        drop(ledger);
        self.dispatch.committed();
    }
}

impl ChangeSink for OutboxSink {
    /// A call that is cancelled ends the stream: what it has sent of a transaction is not confirmed, and comes again.
    async fn send(&mut self, chunk: Chunk) -> Result<()> {
        for event in &chunk.events {
            let OutboxSink { dispatch, producer, entry, .. } = self;
            let open = Open { producer, entry };
            match event {
                Event::Begin { commit_lsn, committed_at, .. } => dispatch.begin(*commit_lsn, *committed_at),
                Event::Change(change) => dispatch.change(change, open).await?,
                Event::Message { transactional, prefix, content, .. } => {
                    dispatch.message(*transactional, prefix, content, open).await?;
                }
                Event::Commit { end_lsn, .. } => self.commit(*end_lsn),
                Event::Idle { lsn } => self.commit(*lsn),
            }
        }
        Ok(())
    }

    fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }
}
