//! The events of rows and of truncated tables.

use std::sync::Arc;

use pg::{Lsn, Result};

use super::headers::Headers;
use super::state::Buffers;
use super::{Encoder, out_of_order};
use crate::change::{Change, OldTuple, PgTimestamp, Relation, Tuple};
use crate::envelope::message::{Message, Position};
use crate::envelope::schema::CLOSE;
use crate::envelope::source::Origin;
use crate::envelope::table::{Part, Table};
use crate::envelope::{header, json};

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
            Change::Update { relation, old, new } => self.update(relation, old.as_deref(), new, out),
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
        if row.before.is_some() || row.after.is_some() {
            headers.push(header::VERSION, &table.version);
            headers.push_some(header::TYPES, table.types_header.as_deref());
        }
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
}

fn image(old: &OldTuple) -> (&Tuple, Part) {
    match old {
        OldTuple::Key(tuple) => (tuple, Part::Identity),
        OldTuple::Full(tuple) => (tuple, Part::All),
    }
}
