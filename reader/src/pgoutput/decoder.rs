//! One message in, at most one event out.

use std::sync::Arc;

use bytes::Bytes;
use pg::{Error, Result};
use pipeline::{Change, Event, OldTuple, Relation, Tuple};

use super::cursor::{Cursor, malformed};
use super::relations::Relations;

/// Decodes the messages of one connection, in order.
#[derive(Default)]
pub struct Decoder {
    relations: Relations,
    in_transaction: bool,
}

impl Decoder {
    #[must_use]
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// Between Begin and Commit.
    #[must_use]
    pub fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Decodes one message (the body of an XLogData). `None`: it only described something.
    ///
    /// # Errors
    /// Class `Failed`: the message is malformed, out of place, or of a kind that was not asked for.
    pub fn decode(&mut self, message: Bytes) -> Result<Option<Event>> {
        let mut message = Cursor(message);
        let event = match message.u8()? {
            b'I' => Some(self.insert(&mut message)?),
            b'U' => Some(self.update(&mut message)?),
            b'D' => Some(self.delete(&mut message)?),
            b'B' => Some(self.begin(&mut message)?),
            b'C' => Some(self.commit(&mut message)?),
            b'T' => Some(self.truncate(&mut message)?),
            b'M' => Some(self.message(&mut message)?),
            b'R' => {
                self.relations.describe(&mut message)?;
                None
            }
            // Type (name of a type that is not built in) and Origin (where a transaction came from): names arrive with each relation's
            // own catalog query, and every origin is applied.
            b'Y' | b'O' => return Ok(None),
            kind @ (b'S' | b'E' | b'c' | b'A' | b'b' | b'P' | b'K' | b'r' | b'p') => {
                return Err(malformed(format!("message {:?} was not asked for", char::from(kind))));
            }
            kind => return Err(malformed(format!("unknown message {kind:#04x}"))),
        };
        message.end()?;
        Ok(event)
    }

    fn begin(&mut self, message: &mut Cursor) -> Result<Event> {
        if self.in_transaction {
            return Err(malformed("begin inside a transaction"));
        }
        self.in_transaction = true;
        Ok(Event::Begin {
            commit_lsn: message.lsn()?,
            committed_at: message.timestamp()?,
            xid: message.u32()?,
        })
    }

    fn commit(&mut self, message: &mut Cursor) -> Result<Event> {
        self.inside()?;
        self.in_transaction = false;
        let _flags = message.u8()?;
        Ok(Event::Commit {
            commit_lsn: message.lsn()?,
            end_lsn: message.lsn()?,
            committed_at: message.timestamp()?,
        })
    }

    fn insert(&mut self, message: &mut Cursor) -> Result<Event> {
        let relation = self.relation(message)?;
        let new = new_tuple(message, &relation)?;
        Ok(Event::Change(Change::Insert { relation, new }))
    }

    fn update(&mut self, message: &mut Cursor) -> Result<Event> {
        let relation = self.relation(message)?;
        let old = match message.0.first() {
            Some(b'K' | b'O') => Some(Box::new(old_tuple(message, &relation)?)),
            _ => None,
        };
        let new = new_tuple(message, &relation)?;
        Ok(Event::Change(Change::Update { relation, old, new }))
    }

    fn delete(&mut self, message: &mut Cursor) -> Result<Event> {
        let relation = self.relation(message)?;
        let old = old_tuple(message, &relation)?;
        Ok(Event::Change(Change::Delete { relation, old }))
    }

    fn truncate(&mut self, message: &mut Cursor) -> Result<Event> {
        self.inside()?;
        let count = message.u32()?;
        let options = message.u8()?;
        let mut relations = Vec::new();
        for _ in 0..count {
            let id = message.relation_id()?;
            relations.push(self.relations.get(id)?);
        }
        Ok(Event::Change(Change::Truncate {
            relations,
            cascade: options & 1 != 0,
            restart_identity: options & 2 != 0,
        }))
    }

    /// A logical message. One that is not transactional may come inside another transaction, or outside of any.
    fn message(&mut self, message: &mut Cursor) -> Result<Event> {
        let transactional = message.u8()? & 1 != 0;
        if transactional {
            self.inside()?;
        }
        Ok(Event::Message {
            transactional,
            lsn: message.lsn()?,
            prefix: message.string()?.into(),
            content: message.counted_bytes()?,
        })
    }

    fn relation(&mut self, message: &mut Cursor) -> Result<Arc<Relation>> {
        self.inside()?;
        let id = message.relation_id()?;
        self.relations.get(id)
    }

    fn inside(&self) -> Result<(), Error> {
        if self.in_transaction { Ok(()) } else { Err(malformed("change outside of a transaction")) }
    }
}

fn new_tuple(message: &mut Cursor, relation: &Relation) -> Result<Tuple> {
    match message.u8()? {
        b'N' => tuple(message, relation),
        other => Err(malformed(format!("tuple of kind {other:#04x} instead of a new one"))),
    }
}

fn old_tuple(message: &mut Cursor, relation: &Relation) -> Result<OldTuple> {
    match message.u8()? {
        b'K' => tuple(message, relation).map(OldTuple::Key),
        b'O' => tuple(message, relation).map(OldTuple::Full),
        other => Err(malformed(format!("tuple of kind {other:#04x} instead of an old one"))),
    }
}

fn tuple(message: &mut Cursor, relation: &Relation) -> Result<Tuple> {
    let tuple = message.tuple()?;
    if tuple.width() != relation.columns.len() {
        let (got, name) = (tuple.width(), &relation.name);
        return Err(malformed(format!("{got} values for the {} columns of {name}", relation.columns.len())));
    }
    Ok(tuple)
}
