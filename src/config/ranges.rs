//! The bounds of single keys that their kind does not have.

use std::time::Duration;

use super::Settings;

/// What is outside of its range, by key.
pub fn problems(settings: &Settings) -> Vec<String> {
    let (kafka, retry) = (&settings.kafka, &settings.retry);
    // An attempt costs the server a process: a pause there has to be.
    let shortest = Duration::from_millis(100);
    [
        ((1..=10_000).contains(&kafka.partitions), "kafka.partitions: from 1 to 10000"),
        (
            (1_000..=1_000_000_000).contains(&kafka.message_bytes.bytes()),
            "kafka.message_bytes: from 1000 bytes to 1000000000, which is librdkafka's largest",
        ),
        ((1..=100).contains(&kafka.retention_warning), "kafka.retention_warning: from 1 to 100"),
        (
            kafka.linger <= Duration::from_secs(15 * 60),
            "kafka.linger: up to 15min, which is librdkafka's largest",
        ),
        (kafka.retention >= Duration::from_millis(1), "kafka.retention: from 1ms"),
        (
            kafka.replication_factor.is_none_or(|copies| (1..=32_767).contains(&copies)),
            "kafka.replication_factor: from 1 to 32767",
        ),
        (retry.connection_max >= shortest, "retry.connection_max: from 100ms"),
        (retry.blocked_max >= shortest, "retry.blocked_max: from 100ms"),
        (settings.log.verbosity <= 3, "log.verbosity: from 0 to 3"),
    ]
    .into_iter()
    .filter(|(within, _)| !within)
    .map(|(_, problem)| problem.to_owned())
    .collect()
}
