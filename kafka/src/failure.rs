//! What an error of Kafka means for the run: librdkafka has tried again by itself for as long as that makes sense.

use pg::{Error, Lsn};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

/// The code of a position that the topics no longer hold.
pub const DATA_LOST: &str = "KAFKA_DATA_LOST";

/// Classifies an error by its code; `doing` says at what.
pub fn classify(error: &KafkaError, doing: &str) -> Error {
    let text = format!("Kafka: {doing}: {error}");
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        error => error.rdkafka_error_code(),
    };
    match code {
        // The last is what the others of the same batch are told.
        Some(Code::InvalidTimestamp | Code::InvalidRecord | Code::InvalidDifferentRecord) => {
            Error::stop("KAFKA_RECORD_REFUSED", text).hint(
                "the topic's settings refuse a record: its time is too far from the broker's clock (message.timestamp.after.max.ms, \
                 message.timestamp.before.max.ms), or it has no key and the topic is compacted (cleanup.policy): kafka-configs.sh --alter; the \
                 run then goes on by itself",
            )
        }
        Some(Code::MessageSizeTooLarge) => Error::stop("KAFKA_MESSAGE_TOO_LARGE", text),
        Some(
            Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed | Code::GroupAuthorizationFailed,
        ) => Error::stop("KAFKA_DENIED", text)
            .hint("grant the client Read, Write, Create, Describe and DescribeConfigs on the topics; the run then goes on by itself"),
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => Error::refuse("KAFKA_AUTHENTICATION", text),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            Error::stop("KAFKA_TOPIC_MISSING", text)
        }
        Some(Code::InvalidReplicationFactor) => Error::stop("KAFKA_REPLICATION", text)
            .hint("start the missing brokers, or give --set kafka.replication_factor=N"),
        _ => Error::connection(text).with_code("KAFKA"),
    }
}

/// The brokers hold no more what the writer has not read. `table`: whose topic it is; none for the transactions.
pub fn lost(topic: &str, partition: i32, offset: i64, low: Option<i64>, table: Option<&str>) -> Error {
    let from = low.map_or_else(String::new, |low| format!("; its log begins at offset {low}"));
    let error = Error::refuse(
        DATA_LOST,
        format!("topic \"{topic}\" no longer holds what the target has not applied yet"),
    )
    .detail(format!("partition {partition} was to be read from offset {offset}{from}"));
    error.hint(match table {
        Some(table) => format!(
            "retention has removed it, or the topic was made anew. {}; give the topics a longer kafka.retention",
            again(&[table])
        ),
        None => format!(
            "retention has removed the transactions, or the topic was made anew. {}; give the topics a longer kafka.retention",
            again(&["*"])
        ),
    })
}

/// A transaction is announced and its events are not there. `tables`: the topics that were looked at, and whose they are.
pub fn incomplete(commit_lsn: Lsn, index: u64, total: u64, tables: &[(String, String)]) -> Error {
    let topics: Vec<&str> = tables.iter().map(|(topic, _)| topic.as_str()).collect();
    let names: Vec<&str> = tables.iter().map(|(_, table)| table.as_str()).collect();
    Error::refuse(
        DATA_LOST,
        format!(
            "event {index} of {total} of the transaction committed at {commit_lsn} is in none of its topics"
        ),
    )
    .detail(format!("looked in {}", topics.join(", ")))
    .hint(format!("a topic was deleted, truncated, or made anew. {}", again(&names)))
}

/// How to go on without what is lost.
pub fn again(tables: &[&str]) -> String {
    let flags: Vec<String> = tables.iter().map(|table| format!("--resync {}", quoted(table))).collect();
    format!(
        "To copy the table{} again and go on: walferry write {} (or replicate --via kafka with the same), once",
        if matches!(tables, [one] if *one != "*") { "" } else { "s" },
        flags.join(" ")
    )
}

/// As a shell takes it, where it has to be told.
fn quoted(table: &str) -> String {
    if table.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_')) {
        table.to_owned()
    } else if table == "*" {
        "'*'".to_owned()
    } else {
        let parts: Vec<String> =
            table.splitn(2, '.').map(|part| format!("\"{}\"", part.replace('"', "\"\""))).collect();
        format!("'{}'", parts.join(".").replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_to_an_administrator_s_request_is_looked_at_as_well() {
        let code = |code| classify(&KafkaError::AdminOp(code), "x").code().to_owned();
        assert_eq!(code(Code::TopicAuthorizationFailed), "KAFKA_DENIED");
        assert_eq!(code(Code::InvalidReplicationFactor), "KAFKA_REPLICATION");
        assert_eq!(code(Code::RequestTimedOut), "KAFKA");
    }

    #[test]
    fn what_a_topic_refuses_whenever_it_is_sent_is_no_lost_connection() {
        for code in [Code::InvalidTimestamp, Code::InvalidRecord, Code::InvalidDifferentRecord] {
            let error = classify(&KafkaError::MessageProduction(code), "x");
            assert_eq!((error.code(), error.class()), ("KAFKA_RECORD_REFUSED", pg::Class::Stop));
        }
    }
}
