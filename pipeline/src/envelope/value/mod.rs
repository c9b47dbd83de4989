//! One value as JSON.

mod base64;
pub(super) mod debezium;
mod postgres;

use std::borrow::Cow;

use pg::{Error, Result};

use super::json;
use super::json::read::Value;
use super::options::{Options, Values};
use super::types::ColumnType;
use crate::change::{Column, RelationColumn};

use debezium::{Encoding, Scalar, Wrong};
pub(super) use postgres::Plain;

pub(super) use debezium::binary::{read_bytes, write_bytes};

/// OID of bytea.
const BYTEA: u32 = 17;

/// How the values of one column are written. Chosen once per version of a table.
#[derive(Clone, Debug)]
pub(super) enum Codec {
    Plain(Plain),
    Debezium(Encoding),
}

impl Codec {
    pub(super) fn new(options: &Options, column: &RelationColumn, described: Option<&ColumnType>) -> Codec {
        match options.values {
            Values::Postgres => Codec::Plain(Plain::of(column.type_id)),
            Values::Debezium => Codec::Debezium(Encoding::of(options, column, described)),
        }
    }

    /// Reads what a codec of that [`Codec::name`] writes.
    pub(super) fn named(name: &str) -> Option<Codec> {
        Encoding::named(name).map(Codec::Debezium)
    }

    /// Reads what a codec without a name writes.
    pub(super) fn unnamed() -> Codec {
        Codec::Plain(Plain::Text)
    }

    /// What a decoder has to know to read what this writes; None: the JSON says all of it.
    pub(super) fn name(&self) -> Option<String> {
        match self {
            Codec::Plain(_) => None,
            Codec::Debezium(encoding) => encoding.name(),
        }
    }

    /// Appends `value`, `placeholder` where it was not sent.
    ///
    /// # Errors
    /// A value in binary, or one that its type does not write.
    pub(super) fn write(&self, out: &mut Vec<u8>, value: Column<'_>, placeholder: &[u8]) -> Result<()> {
        match value {
            Column::Null => out.extend_from_slice(b"null"),
            Column::Unchanged => out.extend_from_slice(placeholder),
            Column::Text(text) => match self {
                Codec::Plain(plain) => plain.write(out, text),
                Codec::Debezium(encoding) => encoding.write(out, text).map_err(unwritable)?,
            },
            Column::Binary(_) => {
                return Err(Error::failed(
                    "BINARY_VALUE",
                    "a value arrived in binary, but events are made of text",
                ));
            }
        }
        Ok(())
    }

    /// Its JSON is a whole number.
    pub(super) fn is_integer(&self) -> bool {
        match self {
            Codec::Plain(plain) => *plain == Plain::Integer,
            Codec::Debezium(encoding) => !encoding.array && matches!(encoding.scalar, Scalar::Integer(_)),
        }
    }

    /// The text that was written as `value`; None: NULL.
    ///
    /// # Errors
    /// What is wrong with it, without the value.
    pub(super) fn read<'v>(&self, value: &'v Value<'_>) -> Result<Option<Cow<'v, [u8]>>, Wrong> {
        match self {
            Codec::Plain(_) => Plain::read(value),
            Codec::Debezium(encoding) => encoding.read(value),
        }
    }

    /// The JSON that stands for a value that was not sent.
    pub(super) fn placeholder(&self, column: &RelationColumn, unavailable: &str) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Codec::Plain(_) if column.type_id == BYTEA => {
                out.push(b'"');
                base64::write(&mut out, unavailable.as_bytes());
                out.push(b'"');
            }
            Codec::Plain(_) => json::string(&mut out, unavailable.as_bytes()),
            Codec::Debezium(encoding) => encoding.placeholder(&mut out, unavailable),
        }
        out
    }
}

fn unwritable(what: Wrong) -> Error {
    Error::failed("VALUE", format!("{what}, which has no form with values = \"debezium\""))
        .hint("set values = \"postgres\", which carries every value as PostgreSQL writes it")
}

/// `value` is what stands for a value that was not sent, in any of its forms.
pub(super) fn is_unavailable(value: &Value<'_>, unavailable: &str) -> bool {
    match value {
        Value::String(text) => {
            let mut encoded = Vec::new();
            base64::write(&mut encoded, unavailable.as_bytes());
            text == unavailable || text.as_bytes() == encoded
        }
        // Of an array of numbers: the bytes.
        Value::Array(elements) if elements.len() == unavailable.len() && elements.len() > 1 => elements
            .iter()
            .zip(unavailable.bytes())
            .all(|(element, byte)| matches!(element, Value::Number(text) if *text == byte.to_string())),
        Value::Array(elements) => matches!(&elements[..], [element] if is_unavailable(element, unavailable)),
        Value::Object(members) => {
            matches!(&members[..], [(name, value)] if name == unavailable && is_unavailable(value, unavailable))
        }
        _ => false,
    }
}
