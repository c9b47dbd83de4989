//! What is no row's: logical messages, heartbeats, and the markers of transactions.

use bytes::Bytes;
use pg::{Lsn, Result};

use super::Encoder;
use super::headers::Headers;
use super::state::{Buffers, Transaction};
use crate::change::PgTimestamp;
use crate::envelope::message::{Message, Position};
use crate::envelope::schema::CLOSE;
use crate::envelope::source::{Origin, Source, unix_micros};
use crate::envelope::{header, json, value};

impl Encoder {
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
    pub(super) fn marker(
        &mut self,
        transaction: &Transaction,
        end: Option<Lsn>,
        out: &mut impl FnMut(Message<'_>),
    ) {
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
}
