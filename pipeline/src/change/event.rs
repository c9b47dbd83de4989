//! What a logical stream is made of, in commit order.

use std::sync::Arc;

use bytes::Bytes;
use pg::Lsn;

use super::{Relation, Tuple};

/// One element of the stream. Transactions never interleave: every `Change` belongs to the last `Begin`.
#[derive(Clone, Debug)]
pub enum Event {
    /// `commit_lsn` is the start of the commit record: with the change's index it names a change, and it is what
    /// copied-at positions are compared with.
    Begin {
        commit_lsn: Lsn,
        committed_at: PgTimestamp,
        xid: u32,
    },
    Change(Change),
    /// A logical message of a prefix that is ours or asked for; a transactional one stands inside its transaction.
    Message {
        transactional: bool,
        lsn: Lsn,
        prefix: Box<str>,
        content: Bytes,
    },
    /// `end_lsn` is what progress stores and what is acknowledged.
    Commit {
        commit_lsn: Lsn,
        end_lsn: Lsn,
        committed_at: PgTimestamp,
    },
    /// Everything the server had up to here has been sent and nothing is pending (a keepalive's WAL end).
    Idle {
        lsn: Lsn,
    },
}

/// Microseconds since 2000-01-01 UTC, as on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct PgTimestamp(pub i64);

/// One row change, or one TRUNCATE of a list of tables.
#[derive(Clone, Debug)]
pub enum Change {
    Insert {
        relation: Arc<Relation>,
        new: Tuple,
    },
    /// `old` is there when the key changed (`Key`) or the identity is FULL (`Full`); apart, because the room of every event that waits is
    /// that of the largest kind.
    Update {
        relation: Arc<Relation>,
        old: Option<Box<OldTuple>>,
        new: Tuple,
    },
    Delete {
        relation: Arc<Relation>,
        old: OldTuple,
    },
    Truncate {
        relations: Vec<Arc<Relation>>,
        cascade: bool,
        restart_identity: bool,
    },
}

/// The old row of an UPDATE or DELETE.
#[derive(Clone, Debug)]
pub enum OldTuple {
    /// Only the key columns mean anything; the others arrive as NULL.
    Key(Tuple),
    Full(Tuple),
}

impl OldTuple {
    #[must_use]
    pub fn tuple(&self) -> &Tuple {
        match self {
            OldTuple::Key(tuple) | OldTuple::Full(tuple) => tuple,
        }
    }
}

impl Change {
    /// Bytes of values this change holds alive.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Change::Insert { new, .. } => new.len(),
            Change::Update { old, new, .. } => new.len() + old.as_ref().map_or(0, |old| old.tuple().len()),
            Change::Delete { old, .. } => old.tuple().len(),
            Change::Truncate { .. } => 0,
        }
    }
}

/// What lies around the values of a change in the network buffer that they are slices of: the headers of CopyData (5), XLogData (25) and
/// of the change itself (6).
const FRAMING: usize = 36;

/// Millions of events may wait: a new field is to be worth its room.
const _: () = assert!(size_of::<Change>() <= 56 && size_of::<Event>() <= 64);

impl Event {
    /// What the event weighs in a queue bounded by bytes: its values, the buffer around them, and itself.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of::<Event>()
            + FRAMING
            + match self {
                Event::Change(change) => change.bytes(),
                Event::Message { content, .. } => content.len(),
                Event::Begin { .. } | Event::Commit { .. } | Event::Idle { .. } => 0,
            }
    }
}
