//! The dead-letter topic, read and marked.
//!
//! A letter that was routed again is marked by a record behind it: without key and value, with the header [`REPLAYED`]. So whoever reads
//! the topic knows, and a second replay passes it over.

use std::collections::HashSet;

use pg::{Error, Lsn, Result};
use pipeline::Durable;
use pipeline::outbox::Event;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::topics::{self, TopicSettings, Unusable};
use crate::failure::classify;
use crate::murmur2::partition;
use crate::options::{Options, Quiet, REQUEST, made};
use crate::producer::{Outgoing, Producer};

/// Header of a mark: `<partition>:<offset>` of the letter that was routed again.
pub const REPLAYED: &str = "walferry.outbox.replayed";

/// One letter.
#[derive(Clone, Debug)]
pub struct Letter {
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub timestamp: i64,
    pub replayed: bool,
}

impl Letter {
    /// `<partition>:<offset>`.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.partition, self.offset)
    }

    /// A header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        value.as_deref().map(|value| String::from_utf8_lossy(value).into_owned())
    }
}

/// Every letter of the topic, in order; none when there is no such topic.
///
/// # Errors
/// The brokers don't answer, or don't let us read.
pub async fn read(options: &Options, topic: &str) -> Result<Vec<Letter>> {
    let (options, topic) = (options.clone(), topic.to_owned());
    tokio::task::spawn_blocking(move || read_now(&options, &topic))
        .await
        .map_err(|error| Error::failed("KAFKA", error.to_string()))?
}

fn read_now(options: &Options, topic: &str) -> Result<Vec<Letter>> {
    let largest = Options { message_bytes: super::dispatch::LARGEST_LETTER, ..options.clone() };
    let consumer: BaseConsumer<Quiet> = made(largest.consumer(1).create_with_context(Quiet))?;
    let doing = format!("reading topic \"{topic}\"");
    let wrong = |error: rdkafka::error::KafkaError| classify(&error, &doing);
    let metadata = consumer.fetch_metadata(None, REQUEST).map_err(wrong)?;
    let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else {
        return Ok(Vec::new());
    };
    let (mut letters, mut marks) = (Vec::new(), HashSet::new());
    for id in found.partitions().iter().map(rdkafka::metadata::MetadataPartition::id) {
        let (low, high) = consumer.fetch_watermarks(topic, id, REQUEST).map_err(wrong)?;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, id, Offset::Offset(low)).map_err(wrong)?;
        consumer.assign(&list).map_err(wrong)?;
        let mut next = low;
        while next < high {
            let Some(message) = consumer.poll(REQUEST) else {
                return Err(Error::connection(format!("Kafka: {doing}: no answer")).with_code("KAFKA"));
            };
            let letter = letter(&message.map_err(wrong)?);
            next = letter.offset + 1;
            match letter.header(REPLAYED) {
                Some(place) => {
                    marks.insert(place);
                }
                None => letters.push(letter),
            }
        }
    }
    for letter in &mut letters {
        letter.replayed = marks.contains(&letter.place());
    }
    Ok(letters)
}

fn letter(message: &BorrowedMessage<'_>) -> Letter {
    let headers = message.headers().map_or_else(Vec::new, |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
    });
    Letter {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers,
        timestamp: message.timestamp().to_millis().unwrap_or(0),
        replayed: false,
    }
}

/// Sends an event to its topic and marks the letter that it was; returns when Kafka has both. The event is there before the mark is sent:
/// cut short, it is replayed twice rather than never.
///
/// # Errors
/// Kafka's; or `KAFKA_TOPIC_NAME`, `KAFKA_RECORD_REFUSED`: it would be a dead letter again.
pub async fn replay(
    options: &Options,
    settings: &TopicSettings,
    dlq: &str,
    letter: &Letter,
    event: &Event,
) -> Result<()> {
    let mut topics = topics::open(options)?;
    let facts = topics.facts(&event.topic, settings).await.map_err(|unusable| match unusable {
        Unusable::Error(error) => error,
        Unusable::Name(reason) => Error::refuse("KAFKA_TOPIC_NAME", reason),
    })?;
    if let Some(reason) = super::dispatch::undeliverable(event, facts, options.message_bytes) {
        return Err(Error::refuse("KAFKA_RECORD_REFUSED", format!("topic \"{}\": {reason}", event.topic)));
    }
    let start = Durable { applied: Lsn::ZERO, flushed: Lsn::ZERO };
    let (producer, mut durable) = Producer::start(options, start)?;
    let mark = [(REPLAYED.to_owned(), Some(letter.place().into_bytes()))];
    let records = [
        Outgoing {
            topic: &event.topic,
            partition: event.partition.unwrap_or_else(|| partition(event.key.as_deref(), facts.partitions)),
            key: event.key.as_deref(),
            value: event.value.as_deref(),
            headers: &event.headers,
            timestamp: event.timestamp,
        },
        Outgoing {
            topic: dlq,
            partition: letter.partition,
            key: None,
            value: None,
            headers: &mark,
            timestamp: letter.timestamp,
        },
    ];
    for (at, record) in records.iter().enumerate() {
        let handle = producer.handle()?;
        let entry = handle.shared.ledger().open();
        handle.record(entry, record)?;
        let end = Lsn::new(at as u64 + 1);
        handle.shared.ledger().finish(entry, end);
        let there = durable.wait_for(|durable| durable.flushed >= end).await.is_ok();
        if !there {
            let failure = producer.failure();
            producer.close().await;
            return Err(failure.unwrap_or_else(|| Error::connection("Kafka: the producer has ended")));
        }
    }
    producer.close().await;
    Ok(())
}
