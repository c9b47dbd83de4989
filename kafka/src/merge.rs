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
//!    nothing but what other readers left (crate docs, 3).
//! 3. A partition is read only when one of its events is due, and one event ahead; what is fetched beyond waits in its own queue, which
//!    is bounded. So a topic far behind, or far ahead, costs its share of the bytes.
//! 4. What can't be found although its topics have been read to their end is lost, and said so; there is no waiting for ever.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pg::{Error, Lsn, Result};
use pipeline::direct::{DirectSink, direct};
use pipeline::envelope::{Decoded, Decoder, End, Moved, Origin, RowEvent, Topics, mangle};
use pipeline::{Change, ChangeSink, Chunk, Durable, Event};
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::Offset;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::failure::{classify, incomplete, lost};
use crate::options::{Options, Quiet, REQUEST, made};
use crate::partition::{Partition, Polled};
use crate::position::{Position, Positions, Step};
use crate::source::KafkaSource;
use crate::topics::Admin;

/// Events waited for this long are looked for: are they still there?
const PATIENCE: Duration = Duration::from_secs(1);
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
}

/// The event in hand of a partition.
struct Front {
    offset: i64,
    commit_lsn: Lsn,
    index: u64,
    epoch: u64,
    /// None: a logical message.
    event: Option<Box<RowEvent>>,
}

struct Lane {
    partition: Partition,
    front: Option<Front>,
    /// Its position was not there: to be looked at when an event of it is due.
    gone: bool,
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
    /// An idle position, once what is before it (the first) was handed on.
    idle: Option<(Lsn, Lsn)>,
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
            idle: None,
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
        self.lanes.push(Lane { partition, front: None, gone: false });
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
                    return Err(lost(topic, *id, *next, None, false));
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
                Polled::Record { decoded: Decoded::Heartbeat { lsn: Some(lsn), of }, after, .. } => {
                    self.ours(&of)?;
                    let Some(after) = after.and_then(|text| text.parse::<Lsn>().ok()) else { continue };
                    self.idle = Some(match self.idle {
                        // Nothing between the one that still waits and this one either.
                        Some((earlier, there)) if after <= there => (earlier, there.max(lsn)),
                        _ => (after, lsn),
                    });
                }
                Polled::Record { .. } => {}
            }
        }
    }

    fn offer_idle(&mut self) {
        let Some((after, lsn)) = self.idle else { return };
        if after > self.last {
            return;
        }
        self.idle = None;
        if lsn > self.last {
            self.last = lsn;
            self.read(lsn, Vec::new());
            self.chunk.push(Event::Idle { lsn });
        }
    }

    /// Everything up to `end_lsn` is in the queue: the offsets behind it.
    fn read(&self, end_lsn: Lsn, mut steps: Vec<Step>) {
        for partition in [&self.transactions, &self.heartbeats] {
            steps.push((partition.topic.clone(), partition.id, partition.next));
        }
        self.positions.lock().unwrap_or_else(PoisonError::into_inner).read(end_lsn, steps);
    }

    /// Hands on one transaction.
    async fn transaction(&mut self, end: &End) -> Result<()> {
        let commit_lsn = end.marker.commit_lsn;
        let end_lsn = end.end_lsn.unwrap_or(commit_lsn);
        let committed_at = end.marker.committed_at;
        let epoch = end.marker.of.epoch.unwrap_or(0);
        let lanes = self.lanes_of(end).await?;
        self.push(Event::Begin { commit_lsn, committed_at, xid: end.marker.xid.unwrap_or(0) }).await?;
        // Indexes that are at the front of a lane.
        let mut fronts: HashMap<u64, usize> = HashMap::new();
        for &lane in &lanes {
            self.advance(lane, commit_lsn, epoch, &mut fronts)?;
        }
        let mut lanes = lanes;
        let mut truncated = Truncated::default();
        for index in 1..=end.events {
            let lane = match fronts.remove(&index) {
                Some(lane) => lane,
                None => self.find(end, index, epoch, &mut lanes, &mut fronts).await?,
            };
            let front = self.lanes[lane].front.take();
            self.advance(lane, commit_lsn, epoch, &mut fronts)?;
            let Some(event) = front.and_then(|front| front.event) else { continue };
            let RowEvent { change, moved, truncated_together, .. } = *event;
            if moved == Moved::Away {
                // Its other half is the whole change.
                continue;
            }
            if let Some(change) = truncated.take(change, truncated_together) {
                self.push(Event::Change(change)).await?;
            }
        }
        self.last = end_lsn;
        let steps = lanes.iter().map(|&lane| {
            let Lane { partition, front, .. } = &self.lanes[lane];
            let next = front.as_ref().map_or(partition.next, |front| front.offset);
            (partition.topic.clone(), partition.id, next)
        });
        let steps = steps.collect();
        // Before the commit can be applied.
        self.read(end_lsn, steps);
        self.push(Event::Commit { commit_lsn, end_lsn, committed_at }).await
    }

    /// The lanes of the transaction's tables; topics that are new are assigned.
    async fn lanes_of(&mut self, end: &End) -> Result<Vec<usize>> {
        let mut lanes = Vec::new();
        for (collection, _) in &end.collections {
            let topic = mangle(&format!("{}.{collection}", self.options.prefix));
            if !self.by_topic.contains_key(&topic) {
                self.join(&topic).await?;
            }
            lanes.extend(self.by_topic.get(&topic).into_iter().flatten());
        }
        Ok(lanes)
    }

    /// Assigns the partitions of a topic that are not yet; true: there were some.
    async fn join(&mut self, topic: &str) -> Result<bool> {
        let count = self.admin.all().await?.get(topic).copied().unwrap_or(0);
        let known = self.by_topic.get(topic).map_or(0, Vec::len);
        let wanted: Vec<(String, i32)> = (known..count).map(|id| (topic.to_owned(), id as i32)).collect();
        if wanted.is_empty() {
            return Ok(false);
        }
        for partition in assign(&self.consumer, &self.arrived, &self.of.position, &wanted, true)? {
            self.add(partition);
        }
        Ok(true)
    }

    /// Takes the lane's next event into hand, past what other readers left, and notes it if it is this transaction's.
    fn advance(
        &mut self,
        lane: usize,
        commit_lsn: Lsn,
        epoch: u64,
        fronts: &mut HashMap<u64, usize>,
    ) -> Result<()> {
        let Merge { lanes, decoder, .. } = self;
        let Some(Lane { partition, front, gone }) = lanes.get_mut(lane) else { return Ok(()) };
        loop {
            if let Some(here) = front {
                if here.commit_lsn == commit_lsn && here.epoch == epoch {
                    fronts.insert(here.index, lane);
                    return Ok(());
                }
                // Of a later transaction, by a reader that is not over.
                if here.commit_lsn > commit_lsn && here.epoch >= epoch {
                    return Ok(());
                }
                *front = None;
            }
            match partition.poll(decoder)? {
                Polled::Nothing => return Ok(()),
                Polled::Gone => {
                    *gone = true;
                    return Ok(());
                }
                Polled::Record { offset, decoded, epoch, .. } => {
                    let (position, event) = match decoded {
                        Decoded::Change(event) if !event.snapshot => (event.position, Some(event)),
                        Decoded::Message(message) if message.transactional => (message.position, None),
                        _ => continue,
                    };
                    let (commit_lsn, index) = (position.commit_lsn, position.index);
                    *front = Some(Front { offset, commit_lsn, index, epoch, event });
                }
            }
        }
    }

    /// Waits for an event that has not been fetched yet.
    async fn find(
        &mut self,
        end: &End,
        index: u64,
        epoch: u64,
        lanes: &mut Vec<usize>,
        fronts: &mut HashMap<u64, usize>,
    ) -> Result<usize> {
        let mut since = Instant::now();
        loop {
            for &lane in lanes.iter() {
                if self.lanes[lane].front.is_none() {
                    self.advance(lane, end.marker.commit_lsn, epoch, fronts)?;
                }
            }
            if let Some(lane) = fronts.remove(&index) {
                return Ok(lane);
            }
            let gone = lanes.iter().any(|&lane| self.lanes[lane].gone);
            if gone || since.elapsed() > PATIENCE {
                since = Instant::now();
                self.still_there(end, index, lanes).await?;
            }
            self.wait().await;
        }
    }

    /// An event is late: is it still to come?
    async fn still_there(&mut self, end: &End, index: u64, lanes: &mut Vec<usize>) -> Result<()> {
        let mut exhausted = true;
        for &lane in lanes.iter() {
            let Lane { partition, front, gone } = &self.lanes[lane];
            let (topic, id, next, gone) = (partition.topic.clone(), partition.id, partition.next, *gone);
            let blocked = front.is_some();
            let (low, high) = match self.watermarks(&topic, id) {
                Ok(watermarks) => watermarks,
                Err(error) if error.code() == "KAFKA_TOPIC_MISSING" => {
                    return Err(lost(&topic, id, next, None, true));
                }
                // Nobody to ask: wait.
                Err(_) => return Ok(()),
            };
            if next > high {
                // Made anew: what was behind that offset is gone.
                return Err(lost(&topic, id, next, Some(low), true));
            }
            if gone || next < low {
                // What is missing there shows: END has counted it.
                tracing::debug!(target: "kafka", "topic {topic} partition {id}: offset {next} is not in {low}..{high}");
                let lane = &mut self.lanes[lane];
                again(&self.consumer, &self.arrived, &mut lane.partition, low.max(next))?;
                lane.gone = false;
                exhausted &= low.max(next) >= high;
            } else {
                exhausted &= blocked || next >= high;
            }
        }
        if !exhausted {
            return Ok(());
        }
        let names: Vec<String> = end
            .collections
            .iter()
            .map(|(name, _)| mangle(&format!("{}.{name}", self.options.prefix)))
            .collect();
        let mut joined = false;
        for name in &names {
            joined |= self.join(name).await?;
        }
        if joined {
            *lanes = self.lanes_of(end).await?;
            return Ok(());
        }
        Err(incomplete(end.marker.commit_lsn, index, end.events, &names.join(", ")))
    }

    fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        tokio::task::block_in_place(|| self.consumer.fetch_watermarks(topic, partition, REQUEST))
            .map_err(|error| classify(&error, &format!("looking at topic \"{topic}\"")))
    }
}

/// Begins to read these partitions, each through a queue of its own. `more`: besides what is assigned.
fn assign(
    consumer: &Arc<BaseConsumer<Quiet>>,
    arrived: &Arc<Notify>,
    position: &Position,
    wanted: &[(String, i32)],
    more: bool,
) -> Result<Vec<Partition>> {
    let failed = |error| classify(&error, "assigning partitions");
    let mut list = TopicPartitionList::new();
    for (topic, id) in wanted {
        list.add_partition_offset(topic, *id, Offset::Offset(position.offset(topic, *id))).map_err(failed)?;
    }
    if more {
        consumer.incremental_assign(&list).map_err(failed)?;
    } else {
        consumer.assign(&list).map_err(failed)?;
    }
    let mut partitions = Vec::with_capacity(wanted.len());
    for (topic, id) in wanted {
        let Some(mut queue) = consumer.split_partition_queue(topic, *id) else {
            return Err(Error::failed("KAFKA", format!("topic \"{topic}\" has no partition {id}")));
        };
        let wake = arrived.clone();
        queue.set_nonempty_callback(move || wake.notify_one());
        partitions.push(Partition::new(
            topic.as_str().into(),
            *id,
            consumer.clone(),
            queue,
            position.offset(topic, *id),
        ));
    }
    Ok(partitions)
}

/// Begins anew with a partition whose position was not there: librdkafka has given it up.
fn again(
    consumer: &Arc<BaseConsumer<Quiet>>,
    arrived: &Arc<Notify>,
    partition: &mut Partition,
    offset: i64,
) -> Result<()> {
    let failed = |error| classify(&error, "assigning partitions");
    let mut list = TopicPartitionList::new();
    list.add_partition(&partition.topic, partition.id);
    consumer.incremental_unassign(&list).map_err(failed)?;
    let mut position = Position::default();
    position.set(&partition.topic, partition.id, offset);
    let wanted = [(partition.topic.to_string(), partition.id)];
    if let Some(made) = assign(consumer, arrived, &position, &wanted, true)?.pop() {
        *partition = made;
    }
    Ok(())
}

/// The events of one TRUNCATE follow each other and are one command.
#[derive(Default)]
struct Truncated {
    together: Option<Change>,
    left: u32,
}

impl Truncated {
    fn take(&mut self, change: Change, together: u32) -> Option<Change> {
        let Change::Truncate { relations, .. } = &change else { return Some(change) };
        if together <= 1 {
            return Some(change);
        }
        match &mut self.together {
            Some(Change::Truncate { relations: all, .. }) => {
                all.extend(relations.iter().cloned());
                self.left -= 1;
            }
            _ => {
                self.left = together - 1;
                self.together = Some(change);
            }
        }
        if self.left == 0 { self.together.take() } else { None }
    }
}
