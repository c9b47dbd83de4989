//! Outbox events in a stream that brings tables to their topics as well: one producer and one set of books for both, so that a transaction
//! counts when Kafka has its changes and its events.

use std::borrow::Cow;

use pg::Lsn;
use pipeline::Change;

use super::dispatch::{Dispatch, OutboxOptions};

/// What is routed beside the tables.
pub struct Beside {
    pub options: OutboxOptions,
    /// Rows of outbox tables are changes of a table as well, for its own topic.
    pub rows: bool,
    /// Kafka has all events of transactions that ended up to here. Never behind what it has of the tables, which may have been brought
    /// to their target in another way meanwhile.
    pub from: Lsn,
}

/// What of a change is the table topics'; none: nothing.
pub(crate) fn of_tables<'a>(dispatch: &Dispatch, rows: bool, change: &'a Change) -> Option<Cow<'a, Change>> {
    if rows {
        return Some(Cow::Borrowed(change));
    }
    match change {
        Change::Insert { relation, .. }
        | Change::Update { relation, .. }
        | Change::Delete { relation, .. } => {
            (!dispatch.routes(&relation.name)).then_some(Cow::Borrowed(change))
        }
        Change::Truncate { relations, cascade, restart_identity } => {
            let left: Vec<_> =
                relations.iter().filter(|relation| !dispatch.routes(&relation.name)).cloned().collect();
            match left.len() {
                0 => None,
                all if all == relations.len() => Some(Cow::Borrowed(change)),
                _ => Some(Cow::Owned(Change::Truncate {
                    relations: left,
                    cascade: *cascade,
                    restart_identity: *restart_identity,
                })),
            }
        }
    }
}
