//! The partitions of the tables' topics: the event in hand of each, and what is done when one does not come.

use std::time::{Duration, Instant};

use pg::{Lsn, Result};
use pipeline::envelope::{Decoded, RowEvent};
use rdkafka::consumer::Consumer;

use super::Merge;
use super::assign::{again, assign};
use super::transaction::Open;
use crate::failure::{classify, incomplete, lost};
use crate::options::REQUEST;
use crate::partition::{Partition, Polled};

/// Events waited for this long are looked for: are they still there?
const PATIENCE: Duration = Duration::from_secs(1);

/// The event in hand of a partition.
pub(super) struct Front {
    pub offset: i64,
    commit_lsn: Lsn,
    /// In its transaction.
    pub index: u64,
    /// Among the transaction's events of its table.
    order: u64,
    epoch: u64,
    /// None: a logical message.
    pub event: Option<Box<RowEvent>>,
}

pub(super) struct Lane {
    pub partition: Partition,
    pub front: Option<Front>,
    /// Its position was not there: to be looked at when an event of it is due.
    gone: bool,
}

impl Lane {
    pub(super) fn new(partition: Partition) -> Lane {
        Lane { partition, front: None, gone: false }
    }

    /// Offset of the first record that is not handed on.
    pub(super) fn next(&self) -> i64 {
        self.front.as_ref().map_or(self.partition.next, |front| front.offset)
    }
}

impl Merge {
    /// Takes the lane's next event into hand, past what other readers left, and notes it if it is this transaction's.
    pub(super) fn advance(&mut self, lane: usize, share: usize, open: &mut Open) -> Result<()> {
        let Merge { lanes, decoder, .. } = self;
        let Some(Lane { partition, front, gone }) = lanes.get_mut(lane) else { return Ok(()) };
        let (commit_lsn, epoch) = (open.commit_lsn, open.epoch);
        loop {
            if let Some(here) = front {
                if here.commit_lsn == commit_lsn && here.epoch == epoch {
                    open.note(lane, share, here.index, here.order);
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
                    let (position, place, event) = match decoded {
                        Decoded::Change(event) if !event.snapshot => {
                            (event.position, event.transaction.clone(), Some(event))
                        }
                        Decoded::Message(message) if message.transactional => {
                            (message.position, message.transaction, None)
                        }
                        _ => continue,
                    };
                    let order = place.map_or(0, |place| place.data_collection_order);
                    let (commit_lsn, index) = (position.commit_lsn, position.index);
                    *front = Some(Front { offset, commit_lsn, index, order, epoch, event });
                }
            }
        }
    }

    /// Waits for an event that has not been fetched yet: the one at `key` of these shares.
    pub(super) async fn find(&mut self, open: &mut Open, key: (usize, u64)) -> Result<usize> {
        let mut since = Instant::now();
        loop {
            let mut gone = false;
            for share in open.shares_of(key) {
                for at in 0..open.shares[share].lanes.len() {
                    let lane = open.shares[share].lanes[at];
                    if self.lanes[lane].front.is_none() {
                        self.advance(lane, share, open)?;
                    }
                    gone |= self.lanes[lane].gone;
                }
            }
            if let Some(lane) = open.take(key) {
                return Ok(lane);
            }
            if gone || since.elapsed() > PATIENCE {
                since = Instant::now();
                self.still_there(open, key).await?;
            }
            self.wait().await;
        }
    }

    /// An event is late: is it still to come?
    async fn still_there(&mut self, open: &mut Open, key: (usize, u64)) -> Result<()> {
        let mut exhausted = true;
        for share in open.shares_of(key) {
            let table = &open.shares[share].table;
            for &lane in &open.shares[share].lanes {
                let Lane { partition, front, gone } = &self.lanes[lane];
                let (topic, id, next, gone) = (partition.topic.clone(), partition.id, partition.next, *gone);
                let blocked = front.is_some();
                let (low, high) = match self.watermarks(&topic, id) {
                    Ok(watermarks) => watermarks,
                    Err(error) if error.code() == "KAFKA_TOPIC_MISSING" => {
                        // A partition that was just added is unknown to its own leader for a moment.
                        let Ok(topics) = self.admin.all().await else { return Ok(()) };
                        if topics.get(&*topic).is_some_and(|count| (id as usize) < *count) {
                            return Ok(());
                        }
                        return Err(lost(&topic, id, next, None, Some(table)));
                    }
                    // Nobody to ask: wait.
                    Err(_) => return Ok(()),
                };
                if next > high {
                    // Made anew: what was behind that offset is gone.
                    return Err(lost(&topic, id, next, Some(low), Some(table)));
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
        }
        if !exhausted {
            return Ok(());
        }
        let mut joined = false;
        let shares: Vec<usize> = open.shares_of(key).collect();
        for &share in &shares {
            let topic = open.shares[share].topic.clone();
            if self.join(&topic).await? {
                joined = true;
                open.shares[share].lanes.clone_from(self.by_topic.get(&topic).unwrap_or(&Vec::new()));
            }
        }
        if joined {
            return Ok(());
        }
        let tables: Vec<(String, String)> = shares
            .iter()
            .map(|&share| (open.shares[share].topic.clone(), open.shares[share].table.clone()))
            .collect();
        Err(incomplete(open.commit_lsn, key.1, open.events(key.0), &tables))
    }

    /// Assigns the partitions of a topic that are not yet; true: there were some.
    pub(super) async fn join(&mut self, topic: &str) -> Result<bool> {
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

    pub(super) fn watermarks(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        tokio::task::block_in_place(|| self.consumer.fetch_watermarks(topic, partition, REQUEST))
            .map_err(|error| classify(&error, &format!("looking at topic \"{topic}\"")))
    }
}
