//! What comes out of the router.

use std::fmt;

use crate::change::PgTimestamp;
use crate::envelope::Position;

use super::row::millis;

/// One message, ready to be sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Event {
    pub topic: String,
    pub key: Option<Vec<u8>>,
    /// None: a tombstone.
    pub value: Option<Vec<u8>>,
    /// In order; a header without a value stands for NULL.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// None: by the key.
    pub partition: Option<i32>,
    pub position: Position,
    /// The event's own id, as text.
    pub id: Option<String>,
}

/// Where an event failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stage {
    /// No topic could be made of it.
    Route,
    /// The payload is not what the options ask for.
    Payload,
    /// An additional column can't be placed.
    Placement,
    /// The time can't be a Kafka timestamp.
    Timestamp,
    /// The content of a logical message is no event.
    Message,
    /// Kafka would never take it: too large, no such partition.
    Produce,
}

impl Stage {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Route => "route",
            Stage::Payload => "payload",
            Stage::Placement => "placement",
            Stage::Timestamp => "timestamp",
            Stage::Message => "message",
            Stage::Produce => "produce",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An event that no attempt would deliver, with the bytes that it came with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    pub stage: Stage,
    /// What is wrong, without the value.
    pub reason: String,
    pub position: Position,
    pub id: Option<String>,
    /// The event's key column, as it came.
    pub key: Option<Vec<u8>>,
    /// The payload column, or the content of the message, as it came.
    pub value: Option<Vec<u8>>,
    /// JSON object of the row's columns but the payload as PostgreSQL writes them, so that the event can be routed again; None for a logical message.
    pub row: Option<Vec<u8>>,
    /// Of a logical message.
    pub prefix: Option<String>,
    pub timestamp: i64,
}

impl DeadLetter {
    /// Of a logical message that was routed and can't be sent.
    #[must_use]
    pub fn of_message(
        stage: Stage,
        reason: String,
        position: Position,
        id: Option<String>,
        prefix: &str,
        content: &[u8],
        committed_at: PgTimestamp,
    ) -> DeadLetter {
        DeadLetter {
            stage,
            reason,
            position,
            id,
            key: None,
            value: Some(content.to_vec()),
            row: None,
            prefix: Some(prefix.to_owned()),
            timestamp: millis(committed_at),
        }
    }
}
