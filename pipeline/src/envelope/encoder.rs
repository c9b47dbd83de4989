//! Events of the stream in, messages out.

mod headers;
mod state;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use pg::{Error, Lsn, QualifiedName, Result};

use super::header;
use super::json;
use super::message::{Message, Position};
use super::options::Options;
use super::schema::{CLOSE, Openings};
use super::source::{Origin, Source, unix_micros};
use super::table::{Part, Table};
use super::topic::Topics;
use super::types::TableTypes;
use super::value;
use crate::change::{Change, Event, OldTuple, PgTimestamp, Relation, Tuple};

use headers::Headers;
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

/// Where a snapshot's rows are from.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot {
    /// The consistent point.
    pub lsn: Lsn,
    pub taken_at: PgTimestamp,
    pub xid: Option<u32>,
}

/// `source.snapshot` of a snapshot's row.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotMark {
    First,
    FirstInDataCollection,
    Row,
    LastInDataCollection,
    Last,
}

impl SnapshotMark {
    fn text(self) -> &'static str {
        match self {
            SnapshotMark::First => "first",
            SnapshotMark::FirstInDataCollection => "first_in_data_collection",
            SnapshotMark::Row => "true",
            SnapshotMark::LastInDataCollection => "last_in_data_collection",
            SnapshotMark::Last => "last",
        }
    }
}

/// A row event about to be written.
struct Row<'a> {
    operation: u8,
    before: Option<(&'a Tuple, Part)>,
    after: Option<&'a Tuple>,
    /// The old row, for values of `after` that were not sent. Of a key tuple only the key columns mean anything.
    old: Option<(&'a Tuple, Part)>,
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

    /// The events of one change.
    ///
    /// # Errors
    /// See [`Encoder::event`].
    pub fn change(&mut self, change: &Change, out: &mut impl FnMut(Message<'_>)) -> Result<()> {
        match change {
            Change::Insert { relation, new } => {
                let row = Row { operation: b'c', before: None, after: Some(new), old: None };
                self.row(relation, &row, [None, None], out)
            }
            Change::Update { relation, old, new } => self.update(relation, old.as_ref(), new, out),
            Change::Delete { relation, old } => {
                let row = Row { operation: b'd', before: Some(image(old)), after: None, old: None };
                self.row(relation, &row, [None, None], out)
            }
            Change::Truncate { relations, cascade, restart_identity } => {
                let mut flags = relations.len().to_string();
                flags.push_str(if *cascade { ",cascade" } else { "" });
                flags.push_str(if *restart_identity { ",restart_identity" } else { "" });
                for relation in relations {
                    self.truncate(relation, &flags, out)?;
                }
                Ok(())
            }
        }
    }

    fn update(
        &mut self,
        relation: &Arc<Relation>,
        old: Option<&OldTuple>,
        new: &Tuple,
        out: &mut impl FnMut(Message<'_>),
    ) -> Result<()> {
        let Some(old) = old else {
            let row = Row { operation: b'u', before: None, after: Some(new), old: None };
            return self.row(relation, &row, [None, None], out);
        };
        let table = self.table(relation);
        let earlier = old.tuple();
        if !table.key_changed(earlier, new) {
            let told = matches!(old, OldTuple::Full(_)) || table.identity_changed(earlier, new);
            let before = told.then(|| image(old));
            let row = Row { operation: b'u', before, after: Some(new), old: Some(image(old)) };
            return self.row(relation, &row, [None, None], out);
        }
        // The key decides the partition: what was under the old key is deleted there, what is under the new one created here.
        let mut old_key = std::mem::take(&mut self.buffers.old_key);
        let mut new_key = std::mem::take(&mut self.buffers.new_key);
        old_key.clear();
        new_key.clear();
        table.write_own_key(&mut old_key, earlier, None)?;
        table.write_own_key(&mut new_key, new, Some(earlier))?;
        let gone = Row { operation: b'd', before: Some(image(old)), after: None, old: None };
        self.row(relation, &gone, [Some(&new_key), None], out)?;
        let here = Row { operation: b'c', before: None, after: Some(new), old: Some(image(old)) };
        self.row(relation, &here, [None, Some(&old_key)], out)?;
        (self.buffers.old_key, self.buffers.new_key) = (old_key, new_key);
        Ok(())
    }

    /// A row of a snapshot (`op: "r"`).
    ///
    /// # Errors
    /// See [`Encoder::event`]; also inside a transaction.
    pub fn snapshot_row(
        &mut self,
        snapshot: &Snapshot,
        mark: SnapshotMark,
        relation: &Arc<Relation>,
        row: &Tuple,
        out: &mut impl FnMut(Message<'_>),
    ) -> Result<()> {
        if self.transaction.is_some() {
            return Err(out_of_order("a snapshot's row inside a transaction"));
        }
        let origin = Origin {
            time: snapshot.taken_at,
            snapshot: mark.text(),
            last: None,
            lsn: snapshot.lsn,
            xid: snapshot.xid,
        };
        self.source.set(&self.options, &origin);
        let table = self.table(relation);
        let row = Row { operation: b'r', before: None, after: Some(row), old: None };
        self.write(&table, &row, Position { commit_lsn: snapshot.lsn, index: 0 }, 0, [None, None], out)
    }

    /// A row event of the transaction at hand. `keys`: new key and old key of a key change.
    fn row(
        &mut self,
        relation: &Arc<Relation>,
        row: &Row<'_>,
        keys: [Option<&[u8]>; 2],
        out: &mut impl FnMut(Message<'_>),
    ) -> Result<()> {
        let table = self.table(relation);
        let (position, of_table) = self.next(&table, out)?;
        self.write(&table, row, position, of_table, keys, out)
    }

    fn write(
        &mut self,
        table: &Table,
        row: &Row<'_>,
        position: Position,
        of_table: u64,
        [new_key, old_key]: [Option<&[u8]>; 2],
        out: &mut impl FnMut(Message<'_>),
    ) -> Result<()> {
        self.buffers.clear();
        let Buffers { key, value, position: place, unchanged, names, .. } = &mut self.buffers;
        key.extend_from_slice(&table.key_opening);
        let keyed = match (row.after, row.before) {
            (Some(after), _) => table.write_key(key, after, row.old.map(|(old, _)| old))?,
            (None, Some((before, _))) => table.write_key(key, before, None)?,
            (None, None) => false,
        };
        value.extend_from_slice(&table.value_opening);
        value.extend_from_slice(b"{\"before\":");
        match row.before {
            Some((before, part)) => table.write_row(value, before, part, None, unchanged)?,
            None => value.extend_from_slice(b"null"),
        }
        value.extend_from_slice(b",\"after\":");
        match row.after {
            Some(after) => table.write_row(value, after, Part::All, row.old, unchanged)?,
            None => value.extend_from_slice(b"null"),
        }
        self.source.write(value, &table.source);
        match &self.transaction {
            Some(transaction) if self.options.transactions => {
                transaction.write(value, position.index, of_table);
            }
            _ => value.extend_from_slice(b",\"transaction\":null"),
        }
        let (ms, us, ns) = (self.now.div_euclid(1_000_000), self.now.div_euclid(1000), self.now);
        value.extend_from_slice(b",\"op\":\"");
        value.push(row.operation);
        json::display(value, format_args!("\",\"ts_ms\":{ms},\"ts_us\":{us},\"ts_ns\":{ns}}}"));
        if self.options.schemas {
            key.extend_from_slice(CLOSE);
            value.extend_from_slice(CLOSE);
        }
        json::display(place, position);
        if !unchanged.is_empty() {
            table.write_names(names, unchanged);
        }
        let mut headers = Headers::row(&self.options, place, &self.epoch);
        headers.push_some(header::NEW_KEY, new_key);
        headers.push_some(header::OLD_KEY, old_key);
        headers.push_some(header::UNCHANGED, (!unchanged.is_empty()).then_some(names));
        let key = keyed.then_some(&key[..]);
        let message = Message {
            topic: &table.topic,
            table: Some(table.name()),
            key,
            value: Some(value),
            headers: headers.as_slice(),
        };
        out(message);
        if row.operation == b'd' && self.options.tombstones && keyed {
            out(Message { value: None, ..message });
        }
        Ok(())
    }

    fn truncate(
        &mut self,
        relation: &Arc<Relation>,
        flags: &str,
        out: &mut impl FnMut(Message<'_>),
    ) -> Result<()> {
        let table = self.table(relation);
        let (position, of_table) = self.next(&table, out)?;
        // The same event as a row's, without a row and a key.
        let row = Row { operation: b't', before: None, after: None, old: None };
        let mut out = |message: Message<'_>| {
            let mut headers = Headers::default();
            message.headers.iter().for_each(|(name, value)| headers.push(name, value));
            headers.push(header::TRUNCATE, flags.as_bytes());
            out(Message { headers: headers.as_slice(), ..message });
        };
        self.write(&table, &row, position, of_table, [None, None], &mut out)
    }

    /// A logical message.
    ///
    /// # Errors
    /// Class `Failed`: a transactional one outside of a transaction.
    pub fn message(
        &mut self,
        transactional: bool,
        lsn: Lsn,
        prefix: &str,
        content: &Bytes,
        out: &mut impl FnMut(Message<'_>),
    ) -> Result<()> {
        let (position, of_messages) = if transactional {
            self.next_of(None, out)?
        } else {
            (Position { commit_lsn: lsn, index: 0 }, 0)
        };
        let xid = self.transaction.as_ref().filter(|_| transactional).map(|transaction| transaction.xid);
        let time = self.transaction.as_ref().map_or(PgTimestamp::default(), |of| of.committed_at);
        let last = if transactional { self.last_commit } else { Some(lsn) };
        // Not the transaction's own: its LSN is the message's.
        let mut source = Source::default();
        source.set(&self.options, &Origin { time, snapshot: "false", last, lsn, xid });
        self.buffers.clear();
        let Buffers { key, value, position: place, .. } = &mut self.buffers;
        key.extend_from_slice(&self.openings.message_key);
        value.extend_from_slice(&self.openings.message);
        key.extend_from_slice(b"{\"prefix\":");
        json::string(key, prefix.as_bytes());
        key.push(b'}');
        json::display(value, format_args!("{{\"op\":\"m\",\"ts_ms\":{}", self.now.div_euclid(1_000_000)));
        source.write(value, b"\"schema\":\"\",\"table\":\"\",\"txId\":");
        match &self.transaction {
            Some(transaction) if transactional && self.options.transactions => {
                transaction.write(value, position.index, of_messages);
            }
            _ => value.extend_from_slice(b",\"transaction\":null"),
        }
        value.extend_from_slice(b",\"message\":{\"prefix\":");
        json::string(value, prefix.as_bytes());
        value.extend_from_slice(b",\"content\":\"");
        value::write_bytes(value, content, self.options.message_encoding());
        value.extend_from_slice(b"\"}}");
        if self.options.schemas {
            key.extend_from_slice(CLOSE);
            value.extend_from_slice(CLOSE);
        }
        json::display(place, position);
        let headers = Headers::plain(place, &self.epoch);
        out(Message {
            topic: &self.topics.message,
            table: None,
            key: Some(key),
            value: Some(value),
            headers: headers.as_slice(),
        });
        Ok(())
    }

    /// A heartbeat: everything that the source had up to `lsn` is in the topics.
    pub fn heartbeat(&mut self, lsn: Lsn, out: &mut impl FnMut(Message<'_>)) {
        self.buffers.clear();
        let Buffers { key, value, position, .. } = &mut self.buffers;
        key.extend_from_slice(&self.openings.heartbeat_key);
        value.extend_from_slice(&self.openings.heartbeat);
        key.extend_from_slice(b"{\"serverName\":");
        json::string(key, self.options.prefix.as_bytes());
        key.push(b'}');
        json::display(value, format_args!("{{\"ts_ms\":{}}}", self.now.div_euclid(1_000_000)));
        if self.options.schemas {
            key.extend_from_slice(CLOSE);
            value.extend_from_slice(CLOSE);
        }
        json::display(position, Position { commit_lsn: lsn, index: 0 });
        let mut headers = Headers::plain(position, &self.epoch);
        headers.run(&self.options);
        out(Message {
            topic: &self.topics.heartbeat,
            table: None,
            key: Some(key),
            value: Some(value),
            headers: headers.as_slice(),
        });
    }

    /// BEGIN, or END with its end LSN.
    fn marker(&mut self, transaction: &Transaction, end: Option<Lsn>, out: &mut impl FnMut(Message<'_>)) {
        self.buffers.clear();
        let Buffers { key, value, position, names, time, .. } = &mut self.buffers;
        key.extend_from_slice(&self.openings.transaction_key);
        value.extend_from_slice(&self.openings.transaction);
        key.extend_from_slice(b"{\"id\":");
        json::quoted(key, &transaction.id);
        key.push(b'}');
        value.extend_from_slice(if end.is_some() {
            b"{\"status\":\"END\""
        } else {
            b"{\"status\":\"BEGIN\""
        });
        json::display(value, format_args!(",\"id\":\"{}\",\"event_count\":", transaction.id));
        if end.is_some() {
            json::display(value, format_args!("{},\"data_collections\":[", transaction.events));
            self.tables.write_counts(value, transaction.messages);
            value.push(b']');
        } else {
            value.extend_from_slice(b"null,\"data_collections\":null");
        }
        let micros = unix_micros(transaction.committed_at);
        json::display(value, format_args!(",\"ts_ms\":{}}}", micros.div_euclid(1000)));
        if self.options.schemas {
            key.extend_from_slice(CLOSE);
            value.extend_from_slice(CLOSE);
        }
        let index = if end.is_some() { transaction.events } else { 0 };
        json::display(position, Position { commit_lsn: transaction.commit_lsn, index });
        json::display(time, micros);
        let mut headers = Headers::plain(position, &self.epoch);
        if let Some(end) = end {
            json::display(names, end);
            headers.push(header::END, names);
        }
        headers.push(header::COMMITTED_AT, time);
        headers.run(&self.options);
        out(Message {
            topic: &self.topics.transaction,
            table: None,
            key: Some(key),
            value: Some(value),
            headers: headers.as_slice(),
        });
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

fn image(old: &OldTuple) -> (&Tuple, Part) {
    match old {
        OldTuple::Key(tuple) => (tuple, Part::Identity),
        OldTuple::Full(tuple) => (tuple, Part::All),
    }
}

fn out_of_order(what: &str) -> Error {
    Error::failed("EVENT_ORDER", what)
}

#[cfg(test)]
mod tests;
