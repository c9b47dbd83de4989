//! Debezium's own connectors in a real Kafka Connect, beside walferry on the same broker.

mod from_debezium;
mod jdbc_sink;
mod outbox;
mod read_connector;
mod types;

use std::time::{Duration, Instant};

use crate::support::Kafka;
use crate::support::kafka::Record;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// The records of a topic, once there are as many.
async fn records(kafka: &Kafka, topic: &str, count: usize) -> Vec<Record> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let found = match kafka.topics(topic).iter().any(|(name, _)| name == topic) {
            true => kafka.records(topic),
            false => Vec::new(),
        };
        if found.len() >= count {
            return found;
        }
        assert!(Instant::now() < deadline, "topic {topic} has {} records of {count}", found.len());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
