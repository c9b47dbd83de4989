//! How to reach the brokers, and the client settings that a replicator needs: librdkafka's own defaults lose data.

use std::collections::BTreeMap;
use std::time::Duration;

use pg::{Error, QualifiedName, Result};
use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::security::Security;

/// Where the topics are and how they are made.
#[derive(Clone, Debug)]
pub struct Options {
    /// `bootstrap.servers`.
    pub brokers: String,
    /// First part of every topic's name.
    pub prefix: String,
    /// Names the client to the brokers.
    pub client_id: String,
    /// Partitions of a table's topic, when it is made.
    pub partitions: i32,
    /// … of single tables'.
    pub table_partitions: BTreeMap<QualifiedName, i32>,
    /// Copies of each topic, when it is made; none: three, or as many as there are brokers.
    pub replication: Option<i32>,
    /// How long records stay, when a topic is made.
    pub retention: Duration,
    /// Largest message.
    pub message_bytes: usize,
    /// Bytes that may be on their way to Kafka.
    pub in_flight_bytes: usize,
    /// How long a message waits for others to go with it.
    pub linger: Duration,
    /// Bytes that may be fetched ahead, over all partitions.
    pub fetch_bytes: usize,
    /// The transactions' topic is made along.
    pub transactions: bool,
    /// TLS and SASL.
    pub security: Security,
}

/// A single request.
pub(crate) const REQUEST: Duration = Duration::from_secs(10);

impl Options {
    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.brokers)
            .set("client.id", &self.client_id)
            // A fetch response holds at least one message, however large.
            .set("receive.message.max.bytes", (self.message_bytes.max(64 << 20) + (1 << 20)).to_string())
            .set("message.max.bytes", self.message_bytes.to_string())
            .set("reconnect.backoff.ms", "100")
            .set("reconnect.backoff.max.ms", "2000")
            .set("topic.metadata.refresh.interval.ms", "30000")
            .set("allow.auto.create.topics", "false")
            // Nagle's algorithm holds the end of a request back until the beginning is acknowledged, and the broker's kernel acknowledges
            // what has no answer yet after 40 ms.
            .set("socket.nagle.disable", "true")
            .set_log_level(RDKafkaLogLevel::Warning);
        self.security.apply(&mut config);
        config
    }

    pub(crate) fn admin(&self) -> ClientConfig {
        self.client()
    }

    /// Every message arrives once and in order for as long as the producer lives, or the stream ends.
    pub(crate) fn producer(&self) -> ClientConfig {
        let mut config = self.client();
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Zero: never. The default gives a message up after five minutes and sends the ones behind it.
            .set("message.timeout.ms", "0")
            .set("compression.type", "lz4")
            .set("linger.ms", format!("{:.3}", self.linger.as_secs_f64() * 1000.0))
            // What is in flight is bounded by us, in bytes.
            .set("queue.buffering.max.messages", "0")
            .set("queue.buffering.max.kbytes", "2147483647")
            .set("batch.size", "1000000");
        config
    }

    /// `partitions`: how many share the bytes that may be fetched ahead.
    pub(crate) fn consumer(&self, partitions: usize) -> ClientConfig {
        let share = (self.fetch_bytes / partitions.max(1)).clamp(64 << 10, 16 << 20);
        let mut config = self.client();
        config
            // Asked for by `assign`; the group is never joined and nothing is committed to it.
            .set("group.id", &self.client_id)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // A position that is gone is an error and never a jump.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "false")
            .set("fetch.wait.max.ms", "100")
            .set("fetch.error.backoff.ms", "100")
            // A queue that was full is asked for again at once: the default, a second, empties it several times over.
            .set("fetch.queue.backoff.ms", "5")
            .set("queued.max.messages.kbytes", (share >> 10).to_string())
            // A partition is asked for more while it has less than its share, and what comes is compressed: rows that are alike become ten
            // times as much and more. Little at a time, so that what comes on top of the share is no multiple of it.
            .set("fetch.message.max.bytes", (share / 16).clamp(32 << 10, 1 << 20).to_string())
            .set("fetch.max.bytes", self.fetch_bytes.clamp(self.message_bytes, 1 << 30).to_string());
        config
    }
}

/// librdkafka's messages go where ours go; what it retries by itself is no news.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, _level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: "kafka", "{facility}: {message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(target: "kafka", "{error}: {reason}");
    }
}

impl rdkafka::consumer::ConsumerContext for Quiet {}

/// A configuration that librdkafka refuses.
pub(crate) fn made<T>(result: std::result::Result<T, KafkaError>) -> Result<T> {
    result.map_err(|error| Error::usage(format!("Kafka client: {error}")))
}
