//! How far the writer is behind the ends of the topics, and how far ahead of what retention removes.
//!
//! ```text
//!   low ─────── next ──────────────── high            of each partition
//!    └ removed by retention   └ not applied yet: lag, in events, and in ms by the age of the record at `next`
//! ```
//!
//! Nothing here decides anything: it is for `status`, by a client of its own, and a look that fails says so and is tried again.
//!
//! Records count that belong to transactions which are whole. What a reader left that died has no END; once every marker has been applied,
//! nothing that is left in the tables' topics is to come, and no event that is to come is older than the first marker that is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pg::Result;
use pipeline::envelope::Topics;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;

use crate::failure::classify;
use crate::options::{Options, Quiet, made};
use crate::position::Position;
use crate::topics::Admin;

/// One topic, as the writer stands to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicLag {
    pub topic: String,
    pub partitions: usize,
    /// Records behind what the target has applied.
    pub lag_events: u64,
    /// Age of the first of them; 0: there is none.
    pub lag_ms: u64,
    /// `retention.ms`; none: for ever.
    pub retention_ms: Option<u64>,
    /// Records that retention removed before they were applied.
    pub lost_events: u64,
}

impl TopicLag {
    /// Until retention removes what is not applied, if nothing is applied meanwhile.
    #[must_use]
    pub fn retention_left_ms(&self) -> Option<u64> {
        self.retention_ms.map(|retention| retention.saturating_sub(self.lag_ms))
    }
}

/// Ages of single records are looked up for at most so long a look; older answers, and the transactions' own age, do for the rest.
const AGES: Duration = Duration::from_millis(300);
/// What is not answered by then is asked again.
const ANSWER: Duration = Duration::from_secs(5);
/// How often the topics' settings, and what topics there are, are looked at again.
const SETTINGS: Duration = Duration::from_secs(60);

type Partition = (String, i32);

/// Looks at the run's topics, again and again.
pub struct Lag {
    consumer: BaseConsumer<Quiet>,
    admin: Admin,
    topics: Topics,
    /// Partitions and `retention.ms` of each topic.
    known: BTreeMap<String, (usize, Option<u64>)>,
    looked: Option<Instant>,
    /// Time (ms since 1970) of the record at an offset.
    times: BTreeMap<Partition, (i64, u64)>,
}

impl Lag {
    /// # Errors
    /// Class `Usage`: a setting that librdkafka refuses.
    pub fn new(options: &Options) -> Result<Lag> {
        let mut config = options.consumer(1);
        config.set("queued.min.messages", "1").set("fetch.message.max.bytes", "32768");
        Ok(Lag {
            consumer: made(config.create_with_context(Quiet))?,
            admin: Admin::new(options)?,
            topics: Topics::new(&options.prefix),
            known: BTreeMap::new(),
            looked: None,
            times: BTreeMap::new(),
        })
    }

    /// The transactions' topic first, then those of `tables` by name, as far as they exist. `applied`: the writer's position.
    ///
    /// # Errors
    /// The brokers can't be asked.
    pub async fn look(&mut self, tables: &[String], applied: &Position) -> Result<Vec<TopicLag>> {
        let mut wanted: Vec<&str> = tables.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        wanted.insert(0, &self.topics.transaction);
        let fresh = self.looked.is_some_and(|at| at.elapsed() < SETTINGS);
        if !fresh || wanted.iter().any(|topic| !self.known.contains_key(*topic)) {
            self.known = self.admin.settings(&wanted).await?;
            self.looked = Some(Instant::now());
        }
        let wanted: Vec<String> =
            wanted.into_iter().filter(|topic| self.known.contains_key(*topic)).map(str::to_owned).collect();
        let found = tokio::task::block_in_place(|| self.measure(&wanted, applied));
        if found.is_err() {
            // One of the topics may be gone.
            self.looked = None;
        }
        found
    }

    fn measure(&mut self, wanted: &[String], applied: &Position) -> Result<Vec<TopicLag>> {
        // What was said since the last look; nobody else listens.
        while self.consumer.poll(Duration::ZERO).is_some() {}
        let low = self.ends(wanted, Offset::Beginning)?;
        let high = self.ends(wanted, Offset::End)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let until = Instant::now() + AGES;
        let mut oldest: Option<u64> = None;
        let mut found = Vec::with_capacity(wanted.len());
        for (number, topic) in wanted.iter().enumerate() {
            let Some(&(partitions, retention_ms)) = self.known.get(topic) else { continue };
            let mut lag = TopicLag {
                topic: topic.clone(),
                partitions,
                lag_events: 0,
                lag_ms: 0,
                retention_ms,
                lost_events: 0,
            };
            // Every marker has been applied: what is left is nobody's.
            let idle = number > 0 && oldest.is_none();
            for id in (0..partitions as i32).filter(|_| !idle) {
                let at = (topic.clone(), id);
                let (Some(&low), Some(&high)) = (low.get(&at), high.get(&at)) else { continue };
                let applied = applied.offset(topic, id);
                let next = applied.max(low);
                if next >= high {
                    continue;
                }
                // A partition that was never read begins where its log does.
                if applied > 0 {
                    lag.lost_events += u64::try_from(low - applied).unwrap_or(0);
                }
                lag.lag_events += u64::try_from(high - next).unwrap_or(0);
                let written = match self.time_of(&at, next, until) {
                    Some(time) => oldest.filter(|_| number > 0).map_or(time, |bound| time.max(bound)),
                    None => oldest.unwrap_or(now),
                };
                lag.lag_ms = lag.lag_ms.max(now.saturating_sub(written));
                if number == 0 {
                    oldest = Some(written);
                }
            }
            found.push(lag);
        }
        Ok(found)
    }

    /// The first or the last offset of every partition, one request a broker.
    fn ends(&self, wanted: &[String], which: Offset) -> Result<BTreeMap<Partition, i64>> {
        let failed = |error| classify(&error, "asking for the ends of the topics");
        let mut list = TopicPartitionList::new();
        for topic in wanted {
            let partitions = self.known.get(topic).map_or(0, |(partitions, _)| *partitions);
            for id in 0..partitions as i32 {
                list.add_partition_offset(topic, id, which).map_err(failed)?;
            }
        }
        let answer = self.consumer.offsets_for_times(list, ANSWER).map_err(failed)?;
        let mut ends = BTreeMap::new();
        for element in answer.elements() {
            element.error().map_err(failed)?;
            if let Offset::Offset(offset) = element.offset() {
                ends.insert((element.topic().to_owned(), element.partition()), offset);
            }
        }
        Ok(ends)
    }

    /// When the record at this offset was written; none: not known in time.
    fn time_of(&mut self, at: &Partition, offset: i64, until: Instant) -> Option<u64> {
        match self.times.get(at) {
            Some((known, time)) if *known == offset => return Some(*time),
            _ => {}
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return None;
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&at.0, at.1, Offset::Offset(offset)).ok()?;
        self.consumer.assign(&list).ok()?;
        let mut time = None;
        while time.is_none() && Instant::now() < until {
            match self.consumer.poll(until.saturating_duration_since(Instant::now())) {
                // What was fetched for another partition before.
                Some(Ok(message)) if message.topic() != at.0 || message.partition() != at.1 => {}
                Some(Ok(message)) => {
                    time = message.timestamp().to_millis().and_then(|ms| u64::try_from(ms).ok());
                    break;
                }
                Some(Err(error)) => tracing::debug!(target: "kafka", "{error}"),
                None => break,
            }
        }
        let _ = self.consumer.assign(&TopicPartitionList::new());
        self.times.insert(at.clone(), (offset, time?));
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_retention() {
        let mut lag = TopicLag {
            topic: "t".to_owned(),
            partitions: 1,
            lag_events: 1,
            lag_ms: 40,
            retention_ms: Some(100),
            lost_events: 0,
        };
        assert_eq!(lag.retention_left_ms(), Some(60));
        lag.lag_ms = 500;
        assert_eq!(lag.retention_left_ms(), Some(0));
        lag.retention_ms = None;
        assert_eq!(lag.retention_left_ms(), None);
    }
}
