//! The per-table topics merged back into whole transactions, in commit order.
//!
//! ```text
//! <prefix>.transaction    END of T: epoch, number of events, tables
//! <prefix>.<table> …      T's events, each with its index from 1 …     ──► Begin, changes by index, Commit ──► the writer's queue
//! heartbeats              idle positions
//! ```
//!
//! The loop's invariants:
//!
//! 1. A transaction begins only when its END has been read: all of it is in the topics (crate docs, 1), so it comes to its end.
//! 2. The next event is the one with the next index; it is at the front of one of the partitions of the transaction's tables, behind
//!    nothing but what other readers left (crate docs, 3). Where only some of its tables are needed (`needs`), each table's next event is
//!    the one with the next number within the table, and the one of them with the lowest index comes first (`transaction`).
//! 3. A partition is read only when one of its events is due, and one event ahead; what is fetched beyond waits in its own queue, which
//!    is bounded. So a topic far behind, or far ahead, costs its share of the bytes. A topic that is not needed is not read.
//! 4. What can't be found although its topics have been read to their end is lost, and said so; there is no waiting for ever.
//!
//! `assign` begins to read, `lane` takes events into hand, `truncate` puts the parts of a TRUNCATE together again.

pub(crate) mod assign;
mod idle;
mod lane;
mod needs;
mod transaction;
mod truncate;

pub use needs::{Need, Needs};

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pg::{Error, Lsn, Result};
use pipeline::direct::{DirectSink, direct};
use pipeline::envelope::{Decoded, Decoder, End, Origin, Topics};
use pipeline::{ChangeSink, Chunk, Durable, Event};
use rdkafka::consumer::BaseConsumer;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::failure::lost;
use crate::options::{Options, Quiet, made};
use crate::partition::{Partition, Polled};
use crate::position::{Position, Positions, Step};
use crate::source::KafkaSource;
use crate::topics::Admin;
use assign::{again, assign};
use idle::Idle;
use lane::Lane;

/// The consumer's own events are served at least this often.
const SERVE: Duration = Duration::from_millis(100);
/// A chunk is handed on when it holds this much, or at the end of the last transaction that is there.
const CHUNK: usize = 256 * 1024;

/// Whose topics, and where the target stands.
pub struct MergeOptions {
    pub system_identifier: String,
    pub run_id: String,
    /// End LSN of the last transaction that the target has.
    pub progress: Lsn,
    pub position: Position,
    /// Bytes of changes that may wait for the writer.
    pub queue_bytes: usize,
    /// Which tables' events are applied, and from where on.
    pub needs: Needs,
}

/// Reads the topics and puts transactions into the queue of the [`KafkaSource`] that comes with it.
pub struct Merge {
    options: Options,
    of: MergeOptions,
    topics: Topics,
    decoder: Decoder,
    admin: Admin,
    consumer: Arc<BaseConsumer<Quiet>>,
    arrived: Arc<Notify>,
    transactions: Partition,
    heartbeats: Partition,
    lanes: Vec<Lane>,
    /// Lanes of each table's topic.
    by_topic: HashMap<String, Vec<usize>>,
    /// Largest epoch that a marker had: the ones before it are over.
    epoch: u64,
    /// End of what was handed on.
    last: Lsn,
    idle: Idle,
    positions: Arc<Mutex<Positions>>,
    out: DirectSink,
    chunk: Chunk,
}

impl Merge {
    /// Assigns every partition from the target's offsets on. `tables`: topics that exist, with their partitions; those that come later
    /// are found by their first event.
    pub fn start(
        options: &Options,
        decoder: Decoder,
        admin: Admin,
        tables: &HashMap<String, usize>,
        of: MergeOptions,
    ) -> Result<(Merge, KafkaSource)> {
        let topics = Topics::new(&options.prefix);
        let partitions: usize = tables.values().sum::<usize>() + 2;
        let consumer: BaseConsumer<Quiet> = made(options.consumer(partitions).create_with_context(Quiet))?;
        let consumer = Arc::new(consumer);
        let arrived = Arc::new(Notify::new());
        let mut wanted = vec![(topics.transaction.clone(), 0), (topics.heartbeat.clone(), 0)];
        let mut names: Vec<(&String, &usize)> = tables
            .iter()
            .filter(|(name, _)| **name != topics.transaction && **name != topics.heartbeat)
            .collect();
        names.sort();
        for (name, count) in names {
            wanted.extend((0..*count).map(|id| (name.clone(), id as i32)));
        }
        let mut made = assign(&consumer, &arrived, &of.position, &wanted, false)?.into_iter();
        let (Some(transactions), Some(heartbeats)) = (made.next(), made.next()) else {
            return Err(Error::failed("KAFKA", "no partition could be assigned"));
        };
        let start = Durable { applied: of.progress, flushed: of.progress };
        let (out, queue) = direct(of.queue_bytes, start);
        let positions = Arc::new(Mutex::new(Positions::new(of.position.clone())));
        let source = KafkaSource { queue, positions: positions.clone() };
        let mut merge = Merge {
            options: options.clone(),
            topics,
            decoder,
            admin,
            consumer,
            arrived,
            transactions,
            heartbeats,
            lanes: Vec::new(),
            by_topic: HashMap::new(),
            epoch: 0,
            last: of.progress,
            idle: Idle::default(),
            positions,
            out,
            chunk: Chunk::default(),
            of,
        };
        made.for_each(|partition| merge.add(partition));
        Ok((merge, source))
    }

    fn add(&mut self, partition: Partition) {
        self.by_topic.entry(partition.topic.to_string()).or_default().push(self.lanes.len());
        self.lanes.push(Lane::new(partition));
    }

    /// Merges until `cancel`, or until the topics don't hold what is to come.
    ///
    /// # Errors
    /// `Refuse`, code `KAFKA_DATA_LOST`: the topics have been truncated or made anew. `Stop`: a record that can't be understood.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<()> {
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            result = self.work() => result,
        }
    }

    async fn work(&mut self) -> Result<()> {
        loop {
            self.look_at_heartbeats()?;
            if let Some(end) = self.next_end()? {
                self.transaction(&end).await?;
                continue;
            }
            self.offer_idle();
            if self.chunk.is_empty() {
                self.wait().await;
            } else {
                self.flush().await?;
            }
        }
    }

    /// Until something has arrived, or the consumer wants to be served.
    async fn wait(&self) {
        let _ = tokio::time::timeout(SERVE, self.arrived.notified()).await;
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            tracing::debug!(target: "kafka", "{error}");
        }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.chunk.is_empty() { Ok(()) } else { self.out.send(std::mem::take(&mut self.chunk)).await }
    }

    async fn push(&mut self, event: Event) -> Result<()> {
        self.chunk.push(event);
        if self.chunk.bytes >= CHUNK { self.flush().await } else { Ok(()) }
    }

    /// The next END that counts, if it is there.
    fn next_end(&mut self) -> Result<Option<End>> {
        loop {
            match self.transactions.poll(&mut self.decoder)? {
                Polled::Nothing => return Ok(None),
                Polled::Gone => {
                    let Partition { topic, id, next, .. } = &self.transactions;
                    return Err(lost(topic, *id, *next, None, None));
                }
                Polled::Record { decoded: Decoded::End(end), epoch, .. } => {
                    self.ours(&end.marker.of)?;
                    let over = epoch < self.epoch;
                    self.epoch = self.epoch.max(epoch);
                    if over || end.end_lsn.is_none_or(|lsn| lsn <= self.last) {
                        continue;
                    }
                    return Ok(Some(end));
                }
                Polled::Record { decoded: Decoded::Begin(marker), epoch, .. } => {
                    self.ours(&marker.of)?;
                    self.epoch = self.epoch.max(epoch);
                }
                Polled::Record { .. } => {}
            }
        }
    }

    fn ours(&self, of: &Origin) -> Result<()> {
        if of.system_identifier == self.of.system_identifier && of.run_id == self.of.run_id {
            return Ok(());
        }
        Err(Error::refuse(
            "KAFKA_OTHER_RUN",
            format!("topic \"{}\" holds transactions of another run", self.topics.transaction),
        )
        .detail(format!(
            "written by run {} from system {}; this is run {} from system {}",
            of.run_id, of.system_identifier, self.of.run_id, self.of.system_identifier
        ))
        .hint("give another --prefix; nothing of them was applied"))
    }

    fn look_at_heartbeats(&mut self) -> Result<()> {
        loop {
            match self.heartbeats.poll(&mut self.decoder)? {
                Polled::Nothing => return Ok(()),
                Polled::Gone => {
                    // Positions only: what they said, transactions say as well.
                    let partition = &self.heartbeats;
                    let (low, _) = self.watermarks(&partition.topic, partition.id)?;
                    again(&self.consumer, &self.arrived, &mut self.heartbeats, low)?;
                    return Ok(());
                }
                Polled::Record {
                    decoded: Decoded::Heartbeat { lsn: Some(lsn), of }, after, offset, ..
                } => {
                    self.ours(&of)?;
                    let Some(after) = after.and_then(|text| text.parse::<Lsn>().ok()) else { continue };
                    self.idle.heard(after, lsn, offset);
                }
                Polled::Record { .. } => {}
            }
        }
    }

    fn offer_idle(&mut self) {
        let Some(lsn) = self.idle.due(self.last) else { return };
        self.last = lsn;
        self.read(lsn, Vec::new());
        self.chunk.push(Event::Idle { lsn });
    }

    /// Everything up to `end_lsn` is in the queue: the offsets behind it.
    fn read(&self, end_lsn: Lsn, mut steps: Vec<Step>) {
        let heartbeats = self.idle.unread(self.heartbeats.next);
        for (partition, next) in
            [(&self.transactions, self.transactions.next), (&self.heartbeats, heartbeats)]
        {
            steps.push((partition.topic.clone(), partition.id, next));
        }
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).read(end_lsn, steps);
    }
}
