//! What a message says.

use bytes::Bytes;
use pg::Lsn;

use super::message::Position;
use crate::change::{Change, PgTimestamp};

/// A record as the consumer got it.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    pub headers: &'a [(&'a str, &'a [u8])],
}

/// A record, understood.
#[derive(Clone, Debug)]
pub enum Decoded {
    Change(Box<RowEvent>),
    /// A transaction begins (its marker; events may come earlier, from other topics).
    Begin(Marker),
    /// A transaction has ended.
    End(End),
    Message(LogicalMessage),
    Heartbeat {
        /// Everything up to here is in the topics; Debezium's heartbeats don't say.
        lsn: Option<Lsn>,
        of: Origin,
    },
    /// The null that follows a delete.
    Tombstone,
    /// A topic that is none of this prefix.
    Foreign,
}

/// Which source and run wrote a marker or heartbeat; empty in Debezium's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Origin {
    pub system_identifier: String,
    pub run_id: String,
    pub epoch: Option<u64>,
}

/// A row event, or one table's share of a TRUNCATE.
#[derive(Clone, Debug)]
pub struct RowEvent {
    pub change: Change,
    /// A snapshot's row (`op: "r"`); `change` is an insert.
    pub snapshot: bool,
    /// From Debezium: the row's LSN, index 0.
    pub position: Position,
    /// From Debezium: the LSN of the commit before its transaction, and its own; none where it says only one of them.
    pub sequence: Option<(Lsn, Lsn)>,
    pub epoch: Option<u64>,
    pub xid: Option<u32>,
    pub committed_at: PgTimestamp,
    /// None without transaction metadata, and for a snapshot's rows.
    pub transaction: Option<Place>,
    pub moved: Moved,
    /// A TRUNCATE's number of tables; the events of one follow each other, and are one command. 0: no TRUNCATE. From Debezium: 1.
    pub truncated_together: u32,
}

/// Where an event stands in its transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub id: String,
    /// From 1, over all topics.
    pub total_order: u64,
    pub data_collection_order: u64,
}

/// Half of a key change, or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Moved {
    No,
    /// The delete under the old key. Its other half is the next event of the transaction, in the same topic, maybe in another partition.
    Away,
    /// The row under its new key: `change` is an UPDATE with the old key, which is the whole key change; unchanged TOAST stays.
    Here,
}

/// BEGIN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    pub id: String,
    pub xid: Option<u32>,
    /// From Debezium: the position in the id.
    pub commit_lsn: Lsn,
    pub committed_at: PgTimestamp,
    pub of: Origin,
}

/// END.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    pub marker: Marker,
    /// What progress stores; Debezium's END does not say.
    pub end_lsn: Option<Lsn>,
    pub events: u64,
    /// `schema.table` (or `message`) and its number of events.
    pub collections: Vec<(String, u64)>,
}

/// A logical message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogicalMessage {
    pub position: Position,
    pub transactional: bool,
    /// Where the message stands.
    pub lsn: Lsn,
    pub prefix: String,
    pub content: Bytes,
    pub transaction: Option<Place>,
}
