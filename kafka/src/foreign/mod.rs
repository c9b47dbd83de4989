//! Topics that Debezium's source connector fills, as transactions for the writer.
//!
//! ```text
//! <prefix>.<schema>.<table> …   events ──────────────────────────┬─► without transaction metadata: in the order of each partition
//! <prefix>.transaction          BEGIN, END: xid, tables, counts ─┴─► with it: whole transactions, in the order of their ENDs
//! ```
//!
//! Debezium's id of a transaction is `<xid>:<lsn>` with another LSN in BEGIN, in END and in every event, so they are joined by the xid and
//! by `total_order`, which counts the events of a transaction over all topics. END's LSN is the end of the commit record: what progress
//! stores.
//!
//! # Invariants
//!
//! 1. The offsets behind what is applied stand in the target, in the transaction that applied it: a writer that is killed goes on exactly
//!    there.
//! 2. A connector that is killed sends again what it had sent. With metadata a transaction whose END was applied is known by END's LSN, and
//!    its events by the xid; without, by `sequence`, which names the commit before an event, as far as it is there. What is not recognised
//!    is applied once more, row by row in its old order, and comes to the same.
//! 3. What can't be understood, or belongs to no table of the target, ends the stream before anything behind it is applied.

mod lane;
mod sequence;
mod whole;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pg::{Error, Lsn, Result};
use pipeline::direct::{DirectSink, direct};
use pipeline::envelope::{Decoder, End, Topics};
use pipeline::{ChangeSink, Chunk, Durable, Event, PgTimestamp};
use rdkafka::consumer::{BaseConsumer, Consumer};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::failure::{DATA_LOST, classify};
use crate::merge::assign::assign;
use crate::options::{Options, Quiet, REQUEST, made};
use crate::partition::{Partition, Polled};
use crate::position::{Position, Positions, Step};
use crate::source::KafkaSource;
use crate::topics::Admin;

use lane::Lane;
use sequence::Over;

/// The consumer's own events are served at least this often.
const SERVE: Duration = Duration::from_millis(100);
/// How often it is looked whether there are topics that were not there.
const LOOK: Duration = Duration::from_secs(5);
/// A chunk is handed on when it holds this much, or when nothing more has arrived.
const CHUNK: usize = 256 * 1024;
/// Events of one partition that are applied together at most.
const BATCH: usize = 1000;

/// Where a position keeps the LSN of the last END: no topic has this name.
const ENDED: &str = "";

/// Code of the error that says that there are other topics than at the start: begin again.
pub const TOPICS_CHANGED: &str = "KAFKA_TOPICS_CHANGED";

/// Where the target stands.
pub struct ForeignOptions {
    /// End LSN of the last transaction that the target has.
    pub progress: Lsn,
    pub position: Position,
    /// Bytes of changes that may wait for the writer.
    pub queue_bytes: usize,
}

/// Reads the topics and puts transactions into the queue of the [`KafkaSource`] that comes with it.
pub struct Foreign {
    topics: Topics,
    decoder: Decoder,
    admin: Admin,
    consumer: Arc<BaseConsumer<Quiet>>,
    arrived: Arc<Notify>,
    /// The transaction topic; none: the connector sends no transaction metadata.
    markers: Option<Partition>,
    lanes: Vec<Lane>,
    known: HashMap<String, usize>,
    /// As far as the writer's progress has come. Single events have no commit's LSN: it is counted on by one a batch.
    last: Lsn,
    /// LSN of the last END.
    ended: Lsn,
    over: Over,
    positions: Arc<Mutex<Positions>>,
    out: DirectSink,
    chunk: Chunk,
    looked: Instant,
}

impl Foreign {
    /// Assigns every partition from the target's offsets on, and those that it has none of from their first record on. `tables`: the
    /// topics, with their partitions, the transaction topic among them if there is one.
    pub fn start(
        options: &Options,
        decoder: Decoder,
        admin: Admin,
        tables: HashMap<String, usize>,
        of: ForeignOptions,
    ) -> Result<(Foreign, KafkaSource)> {
        let topics = Topics::new(&options.prefix);
        let partitions: usize = tables.values().sum::<usize>().max(1);
        let consumer: BaseConsumer<Quiet> = made(options.consumer(partitions).create_with_context(Quiet))?;
        let (consumer, arrived) = (Arc::new(consumer), Arc::new(Notify::new()));
        let mut names: Vec<(&String, &usize)> = tables.iter().collect();
        names.sort();
        let (mut wanted, mut position) = (Vec::new(), of.position);
        for (name, count) in names {
            for id in 0..i32::try_from(*count).unwrap_or(i32::MAX) {
                if !position.knows(name, id) {
                    let (low, _) = consumer
                        .fetch_watermarks(name, id, REQUEST)
                        .map_err(|error| classify(&error, &format!("looking at topic \"{name}\"")))?;
                    position.set(name, id, low);
                }
                wanted.push((name.clone(), id));
            }
        }
        let ended = Lsn::new(u64::try_from(position.offset(ENDED, 0)).unwrap_or(0));
        let made = assign(&consumer, &arrived, &position, &wanted, false)?;
        let (out, queue) = direct(of.queue_bytes, Durable { applied: of.progress, flushed: of.progress });
        let positions = Arc::new(Mutex::new(Positions::new(position)));
        let source = KafkaSource { queue, positions: positions.clone() };
        let mut foreign = Foreign {
            decoder,
            admin,
            consumer,
            arrived,
            markers: None,
            lanes: Vec::new(),
            known: tables,
            last: of.progress,
            ended,
            over: Over::default(),
            positions,
            out,
            chunk: Chunk::default(),
            looked: Instant::now(),
            topics,
        };
        for partition in made {
            if *partition.topic == *foreign.topics.transaction {
                foreign.markers = Some(partition);
            } else {
                let alone = foreign.known.get(&*partition.topic) == Some(&1);
                foreign.lanes.push(Lane::new(partition, alone));
            }
        }
        Ok((foreign, source))
    }

    /// Reads until `cancel`.
    ///
    /// # Errors
    /// `Refuse`, code `KAFKA_DATA_LOST`: the topics no longer hold what is to come. `Stop`: a record that can't be understood. Code
    /// [`TOPICS_CHANGED`]: there are other topics now.
    pub async fn run(mut self, cancel: CancellationToken) -> Result<()> {
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            result = self.work() => result,
        }
    }

    async fn work(&mut self) -> Result<()> {
        loop {
            let mut moved = self.single().await?;
            moved |= self.transaction().await?;
            if moved {
                continue;
            }
            if !self.chunk.is_empty() {
                self.flush().await?;
            }
            self.look().await?;
            self.wait().await;
        }
    }

    /// Events without a transaction, snapshot rows among them: what has arrived of a partition, in its order.
    async fn single(&mut self) -> Result<bool> {
        let mut moved = false;
        for at in 0..self.lanes.len() {
            let mut open = None;
            let mut when = PgTimestamp(0);
            for _ in 0..BATCH {
                if !self.lanes[at].fill(&mut self.decoder)? {
                    break;
                }
                let Some(event) = self.lanes[at].take_single() else { break };
                moved = true;
                let Some(event) = event else { continue };
                let (lsn, xid) = (event.position.commit_lsn, event.xid.unwrap_or(0));
                when = event.committed_at;
                let Some(change) = self.lanes[at].change(*event)? else { continue };
                if open.is_none() {
                    let end = Lsn::new(self.last.as_u64() + 1).max(lsn);
                    self.push(Event::Begin { commit_lsn: end, committed_at: when, xid }).await?;
                    open = Some(end);
                }
                self.push(Event::Change(change)).await?;
            }
            if let Some(end) = open {
                let step = self.lanes[at].step();
                self.commit(end, when, vec![step]).await?;
            }
        }
        Ok(moved)
    }

    /// The position goes before the commit: that can be applied at once.
    async fn commit(&mut self, end: Lsn, committed_at: PgTimestamp, steps: Vec<Step>) -> Result<()> {
        self.last = end;
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).read(end, steps);
        self.push(Event::Commit { commit_lsn: end, end_lsn: end, committed_at }).await
    }

    async fn push(&mut self, event: Event) -> Result<()> {
        self.chunk.push(event);
        if self.chunk.bytes >= CHUNK { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<()> {
        if self.chunk.is_empty() { Ok(()) } else { self.out.send(std::mem::take(&mut self.chunk)).await }
    }

    /// Until something has arrived, or the consumer wants to be served.
    async fn wait(&self) {
        let _ = tokio::time::timeout(SERVE, self.arrived.notified()).await;
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            tracing::debug!(target: "kafka", "{error}");
        }
    }

    /// Are there topics, or partitions, that were not there?
    async fn look(&mut self) -> Result<()> {
        if self.looked.elapsed() < LOOK {
            return Ok(());
        }
        self.looked = Instant::now();
        let now = table_topics(&self.admin, &self.topics).await?;
        if now == self.known {
            return Ok(());
        }
        Err(Error::connection("there are other topics than before: the stream begins again")
            .with_code(TOPICS_CHANGED))
    }
}

/// The topics of a prefix that hold events of tables or of transactions, with their partitions.
pub async fn table_topics(admin: &Admin, topics: &Topics) -> Result<HashMap<String, usize>> {
    let mut all = admin.all().await?;
    all.retain(|name, _| topics.is_own(name));
    Ok(all)
}

/// The brokers hold no more what the writer has not read.
fn gone(partition: &Partition) -> Error {
    Error::refuse(
        DATA_LOST,
        format!("topic \"{}\" no longer holds what the target has not applied yet", partition.topic),
    )
    .detail(format!("partition {} was to be read from offset {}", partition.id, partition.next))
    .hint(AGAIN)
}

/// A transaction was announced and its events are not there.
fn incomplete(end: &End, index: u64, topics: &[&str]) -> Error {
    Error::refuse(
        DATA_LOST,
        format!("event {index} of {} of transaction {} is in none of its topics", end.events, end.marker.id),
    )
    .detail(format!("looked in {}", topics.join(", ")))
    .hint(AGAIN)
}

const AGAIN: &str = "retention has removed events, or a topic was deleted or made anew: start over with walferry clean, let the connector take a \
                     snapshot again, then the same command";

fn polled(
    partition: &mut Partition,
    decoder: &mut Decoder,
) -> Result<Option<(i64, pipeline::envelope::Decoded)>> {
    match partition.poll(decoder)? {
        Polled::Nothing => Ok(None),
        Polled::Gone => Err(gone(partition)),
        Polled::Record { offset, decoded, .. } => Ok(Some((offset, decoded))),
    }
}
