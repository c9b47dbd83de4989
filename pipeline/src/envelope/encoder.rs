//! Events of the stream in, messages out.

mod headers;
mod others;
mod rows;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use pg::{Error, Lsn, QualifiedName, Result};

use super::message::{Message, Position};
use super::options::Options;
use super::schema::Openings;
use super::source::{Origin, Source};
use super::table::Table;
use super::topic::Topics;
use super::types::TableTypes;
use crate::change::{Event, PgTimestamp, Relation};

pub use rows::{Snapshot, SnapshotMark};
use state::{Buffers, Tables, Transaction};

/// Name that logical messages have among `data_collections`: no table's, those have a dot.
const MESSAGES: &str = "message";

/// Turns the events of one stream, in order, into messages. Buffers are used again: a message is valid until its callback returns.
pub struct Encoder {
    options: Options,
    topics: Topics,
    types: HashMap<QualifiedName, TableTypes>,
    tables: Tables,
    transaction: Option<Transaction>,
    /// Commit LSN of the last transaction that ended.
    last_commit: Option<Lsn>,
    /// Now, nanoseconds since 1970: `ts_ms`, `ts_us`, `ts_ns` of the events.
    now: i64,
    source: Source,
    buffers: Buffers,
    /// Decimal, for the header.
    epoch: String,
    openings: Openings,
}

impl Encoder {
    #[must_use]
    pub fn new(options: Options) -> Encoder {
        Encoder {
            topics: Topics::new(&options.prefix).routed(options.route.clone()),
            epoch: options.epoch.to_string(),
            openings: Openings::new(&options),
            options,
            types: HashMap::new(),
            tables: Tables::default(),
            transaction: None,
            last_commit: None,
            now: 0,
            source: Source::default(),
            buffers: Buffers::default(),
        }
    }

    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// What the catalogue says about a table. Without it the key is the replica identity and every type is its OID's; rows that come
    /// after a new description use it.
    pub fn describe(&mut self, types: TableTypes) {
        self.types.insert(types.name.clone(), types);
        self.tables.forget();
    }

    /// Sets the time that the next events say they were made at. The caller reads the clock, once a chunk.
    pub fn set_now(&mut self, unix_nanos: i64) {
        self.now = unix_nanos;
    }

    /// Encodes any event. [`Event::Idle`] makes nothing: when to send a heartbeat is the caller's to say.
    ///
    /// # Errors
    /// Class `Failed`: an event out of order, or a value that its type does not write. The stream ends there.
    pub fn event(&mut self, event: &Event, out: &mut impl FnMut(Message<'_>)) -> Result<()> {
        match event {
            Event::Begin { commit_lsn, committed_at, xid } => self.begin(*commit_lsn, *committed_at, *xid),
            Event::Change(change) => self.change(change, out)?,
            Event::Message { transactional, lsn, prefix, content } => {
                self.message(*transactional, *lsn, prefix, content, out)?;
            }
            Event::Commit { end_lsn, .. } => {
                self.commit(*end_lsn, out);
            }
            Event::Idle { .. } => {}
        }
        Ok(())
    }

    /// A transaction begins. Its BEGIN is sent with its first event: an empty one leaves no trace in the topics.
    pub fn begin(&mut self, commit_lsn: Lsn, committed_at: PgTimestamp, xid: u32) {
        self.transaction = Some(Transaction::new(commit_lsn, committed_at, xid));
        self.tables.begin();
        let origin = Origin {
            time: committed_at,
            snapshot: "false",
            last: self.last_commit,
            lsn: commit_lsn,
            xid: Some(xid),
        };
        self.source.set(&self.options, &origin);
    }

    /// The transaction ends; true: it had events, and END was sent (or would have been, with `transactions`).
    pub fn commit(&mut self, end_lsn: Lsn, out: &mut impl FnMut(Message<'_>)) -> bool {
        let Some(transaction) = self.transaction.take() else { return false };
        self.last_commit = Some(transaction.commit_lsn);
        if transaction.events == 0 {
            return false;
        }
        if self.options.transactions {
            self.marker(&transaction, Some(end_lsn), out);
        }
        true
    }

    /// The version of a table, prepared.
    fn table(&mut self, relation: &Arc<Relation>) -> Arc<Table> {
        let Encoder { options, topics, types, .. } = self;
        self.tables.get(relation, || Table::new(options, topics, relation, types.get(&relation.name)))
    }

    fn next(&mut self, table: &Table, out: &mut impl FnMut(Message<'_>)) -> Result<(Position, u64)> {
        self.next_of(Some(table), out)
    }

    /// Names the next event of the transaction: its position, and its number among those of its table (or of messages).
    fn next_of(
        &mut self,
        table: Option<&Table>,
        out: &mut impl FnMut(Message<'_>),
    ) -> Result<(Position, u64)> {
        let Some(mut transaction) = self.transaction.take() else {
            return Err(out_of_order("a change outside of a transaction"));
        };
        if transaction.events == 0 && self.options.transactions {
            self.marker(&transaction, None, out);
        }
        transaction.events += 1;
        let of_collection = match table {
            Some(table) => self.tables.count(table),
            None => {
                transaction.messages += 1;
                transaction.messages
            }
        };
        let position = Position { commit_lsn: transaction.commit_lsn, index: transaction.events };
        self.transaction = Some(transaction);
        Ok((position, of_collection))
    }
}

fn out_of_order(what: &str) -> Error {
    Error::failed("EVENT_ORDER", what)
}

#[cfg(test)]
mod tests;
