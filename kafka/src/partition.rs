//! One partition as the merge reads it: a queue of its own, fetched ahead up to its share of the bytes, and at most one event in hand.

use std::sync::Arc;

use pg::{Error, Result};
use pipeline::envelope::{Decoded, Decoder, Record};
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::Offset;

use crate::failure::classify;
use crate::options::{Quiet, REQUEST};

pub struct Partition {
    pub topic: Arc<str>,
    pub id: i32,
    queue: PartitionQueue<Quiet>,
    consumer: Arc<BaseConsumer<Quiet>>,
    /// Offset behind the last record that was taken.
    pub next: i64,
    /// Where it was sought because of a gap.
    sought: Option<i64>,
}

/// What a look into the queue brought.
pub enum Polled {
    Nothing,
    Record {
        offset: i64,
        decoded: Decoded,
        epoch: u64,
        after: Option<String>,
    },
    /// The offset is not there (any more), or the topic is not.
    Gone,
}

impl Partition {
    pub fn new(
        topic: Arc<str>,
        id: i32,
        consumer: Arc<BaseConsumer<Quiet>>,
        queue: PartitionQueue<Quiet>,
        next: i64,
    ) -> Partition {
        Partition { topic, id, queue, consumer, next, sought: None }
    }

    /// Goes on at another offset.
    pub fn seek(&mut self, offset: i64) -> Result<()> {
        self.consumer
            .seek(&self.topic, self.id, Offset::Offset(offset), REQUEST)
            .map_err(|error| classify(&error, &format!("reading topic \"{}\"", self.topic)))?;
        self.next = offset;
        Ok(())
    }

    /// The next record, if it has been fetched.
    pub fn poll(&mut self, decoder: &mut Decoder) -> Result<Polled> {
        let (message, offset) = loop {
            let message = match self.queue.poll(std::time::Duration::ZERO) {
                None => return Ok(Polled::Nothing),
                Some(Ok(message)) => message,
                Some(Err(error)) => return self.failed(&error),
            };
            let offset = message.offset();
            if offset < self.next {
                // Fetched before a seek took effect.
                continue;
            }
            if offset > self.next && self.sought != Some(self.next) {
                // What was fetched before the partition had a queue of its own went elsewhere: once more from there.
                let next = self.next;
                drop(message);
                self.seek(next)?;
                self.sought = Some(next);
                return Ok(Polled::Nothing);
            }
            break (message, offset);
        };
        self.next = offset + 1;
        let mut headers: Vec<(&str, &[u8])> = Vec::with_capacity(4);
        if let Some(found) = message.headers() {
            headers.extend(found.iter().map(|header| (header.key, header.value.unwrap_or_default())));
        }
        let text = |name: &str| {
            let value = headers.iter().find(|(key, _)| *key == name)?.1;
            std::str::from_utf8(value).ok()
        };
        let record = Record {
            topic: &self.topic,
            partition: self.id,
            offset,
            key: message.key(),
            value: message.payload(),
            headers: &headers,
        };
        let decoded = decoder.decode(&record)?;
        let epoch = text(pipeline::envelope::header::EPOCH).and_then(|text| text.parse().ok()).unwrap_or(0);
        Ok(Polled::Record { offset, decoded, epoch, after: text(crate::sink::AFTER).map(str::to_owned) })
    }

    fn failed(&self, error: &KafkaError) -> Result<Polled> {
        match error.rdkafka_error_code() {
            Some(
                RDKafkaErrorCode::AutoOffsetReset
                | RDKafkaErrorCode::OffsetOutOfRange
                | RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownPartition,
            ) => Ok(Polled::Gone),
            Some(
                RDKafkaErrorCode::TopicAuthorizationFailed
                | RDKafkaErrorCode::BadMessage
                | RDKafkaErrorCode::BadCompression
                | RDKafkaErrorCode::MessageSizeTooLarge,
            ) => Err(self.about(classify(error, "reading"))),
            // librdkafka goes on by itself.
            _ => {
                tracing::debug!(target: "kafka", "topic {} partition {}: {error}", self.topic, self.id);
                Ok(Polled::Nothing)
            }
        }
    }

    fn about(&self, error: Error) -> Error {
        error.context(format_args!("topic \"{}\", partition {}", self.topic, self.id))
    }
}
