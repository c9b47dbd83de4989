//! Messages in, changes out.
//!
//! Whatever is wrong with a message (another source's topic, a malformed value, a missing member) is an error that names topic, partition
//! and offset, never a row's value, and never a panic: the writer stops before it would skip.

mod change;
mod columns;
mod encodings;
mod fields;
mod marker;

use std::collections::HashMap;

use pg::{Error, QualifiedName, Result};

use super::decoded::{Decoded, Origin, Record};
use super::header;
use super::json::read::Value;
use super::options::Options;
use super::topic::Topics;
use super::types::TableTypes;

use columns::Tables;
use fields::Fields;

/// Longer values and keys are refused: no broker would have taken them for a row that PostgreSQL can hold.
const LONGEST: usize = 1 << 30;

/// More columns no table has.
const COLUMNS: usize = 1664;

/// Who wrote the topics.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Our reader, in either mode of values.
    Walferry,
    /// Debezium's PostgreSQL connector.
    Debezium,
}

/// Understands the messages of one prefix.
pub struct Decoder {
    options: Options,
    dialect: Dialect,
    topics: Topics,
    types: HashMap<QualifiedName, TableTypes>,
    tables: Tables,
}

impl Decoder {
    /// `options` as the encoder's; of another's topics: the connector's settings.
    #[must_use]
    pub fn new(options: Options, dialect: Dialect) -> Decoder {
        Decoder {
            topics: Topics::new(&options.prefix),
            options,
            dialect,
            types: HashMap::new(),
            tables: Tables::default(),
        }
    }

    /// What a catalogue says about a table: the source's or the target's. `values = "debezium"` needs it of events that don't say by
    /// themselves how they were written (header `walferry.types`), wherever JSON alone does not tell the type; without it the columns
    /// have no type.
    pub fn describe(&mut self, types: TableTypes) {
        self.types.insert(types.name.clone(), types);
        self.tables.forget();
    }

    /// Understands one record.
    ///
    /// # Errors
    /// Class `Stop`, code `EVENT_MALFORMED`: it is none of these events, or says something that can't be.
    pub fn decode(&mut self, record: &Record<'_>) -> Result<Decoded> {
        self.understand(record).map_err(|error| {
            let error = error.context(format_args!(
                "topic \"{}\", partition {}, offset {}",
                record.topic, record.partition, record.offset
            ));
            if error.code() == MALFORMED { error.hint(self.way_out(record.topic)) } else { error }
        })
    }

    /// What to do about a record that is no event.
    fn way_out(&self, topic: &str) -> String {
        let anew = match self.dialect {
            Dialect::Walferry if topic == self.topics.transaction => {
                "to take everything anew: walferry write --resync '*'"
            }
            Dialect::Walferry => "to take the table anew: walferry write --resync TABLE",
            Dialect::Debezium => {
                "nothing behind it is applied; to start over: walferry clean, then topics of the connector (another topic.prefix) that \
                 nothing else writes to, with a snapshot"
            }
        };
        format!(
            "something else writes to this topic, or the settings (dialect, values, schemas) are not those that it was written with; {anew}"
        )
    }

    fn understand(&mut self, record: &Record<'_>) -> Result<Decoded> {
        let lengths = [record.key, record.value].map(|bytes| bytes.map_or(0, <[u8]>::len));
        if lengths.iter().any(|length| *length > LONGEST) {
            return Err(malformed(format!("longer than {LONGEST} bytes")));
        }
        let ours = record.topic.strip_prefix(&self.options.prefix).is_some_and(|rest| rest.starts_with('.'));
        if record.topic == self.topics.heartbeat {
            return self.heartbeat(record);
        }
        if !ours {
            return Ok(Decoded::Foreign);
        }
        let Some(value) = record.value else { return Ok(Decoded::Tombstone) };
        let value = payload(value)?;
        if record.topic == self.topics.transaction {
            marker::decode(self.dialect, record, &value)
        } else if record.topic == self.topics.message {
            marker::message(&self.options, record, &value)
        } else {
            let Decoder { options, dialect, types, tables, topics } = self;
            change::decode(
                &change::Context { options, topics, dialect: *dialect, types },
                tables,
                record,
                &value,
            )
        }
    }

    fn heartbeat(&self, record: &Record<'_>) -> Result<Decoded> {
        let Some(value) = record.value else { return Ok(Decoded::Tombstone) };
        payload(value)?.member("ts_ms")?;
        let lsn = fields::position(record)?.map(|position| position.commit_lsn);
        if lsn.is_none() && self.dialect == Dialect::Walferry {
            return Err(missing(header::POSITION));
        }
        Ok(Decoded::Heartbeat { lsn, of: origin(record)? })
    }
}

/// The message's JSON, without the schema if there is one.
fn payload(bytes: &[u8]) -> Result<Value<'_>> {
    match payload_or_null(bytes)? {
        value @ Value::Object(_) => Ok(value),
        _ => Err(malformed("not a JSON object")),
    }
}

/// JsonConverter writes a missing key as null, or with schemas as a null payload. No column's value is an object where a schema is, so
/// a key of columns named `schema` and `payload` is not mistaken.
fn payload_or_null(bytes: &[u8]) -> Result<Value<'_>> {
    let value = Value::read(bytes).map_err(|error| malformed(error.to_string()))?;
    match value {
        Value::Object(mut members)
            if matches!(
                &members[..],
                [(schema, Value::Object(_) | Value::Null), (payload, Value::Object(_) | Value::Null)]
                    if schema == "schema" && payload == "payload"
            ) =>
        {
            Ok(members.swap_remove(1).1)
        }
        value => Ok(value),
    }
}

fn origin(record: &Record<'_>) -> Result<Origin> {
    let text = |name| {
        let value = fields::header(record, name)?;
        Ok::<_, Error>(value.unwrap_or_default().to_owned())
    };
    Ok(Origin {
        system_identifier: text(header::SYSTEM)?,
        run_id: text(header::RUN)?,
        epoch: fields::epoch(record)?,
    })
}

const MALFORMED: &str = "EVENT_MALFORMED";

fn malformed(what: impl Into<String>) -> Error {
    Error::stop(MALFORMED, format!("malformed event: {}", what.into()))
}

fn missing(name: &str) -> Error {
    malformed(format!("no \"{name}\""))
}

#[cfg(test)]
mod tests;
