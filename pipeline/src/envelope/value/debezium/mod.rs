//! `values = "debezium"`: the encodings of Debezium's PostgreSQL connector, under the names of its options.
//!
//! Types and their encodings: `docs/wire.md`. Where Debezium loses a value we write it in a form of its own (a string): numeric NaN and
//! infinities, infinite dates, BC, 24:00 as ISO string, arrays of several dimensions.

mod array;
pub(in crate::envelope) mod binary;
mod calendar;
mod decimal;
mod float;
mod hstore;
mod interval;
mod named;
mod point;
mod time;

use std::borrow::Cow;

use crate::change::{RelationColumn, element_type};
use crate::envelope::json;
use crate::envelope::json::read::Value;
use crate::envelope::options::{Binary, Decimal, Hstore, Interval, Options};
use crate::envelope::types::ColumnType;

pub(in crate::envelope) use time::Unit;

use super::base64;

/// What is wrong with a value, without the value.
pub(in crate::envelope) type Wrong = &'static str;

/// One column's encoding.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::envelope) struct Encoding {
    pub(in crate::envelope) scalar: Scalar,
    pub(in crate::envelope) array: bool,
    /// Between an array's elements.
    delimiter: u8,
}

/// The encoding of a value that is no array.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in crate::envelope) enum Scalar {
    Bool,
    /// Bytes of the integer.
    Integer(u8),
    Float4,
    Float8,
    /// numeric(p,s) and money: the unscaled value's bytes.
    Decimal {
        precision: Option<u32>,
        scale: i32,
        money: bool,
    },
    /// numeric: with its scale.
    VariableDecimal,
    /// numeric or money as a double; `money`: with a currency sign.
    DecimalDouble {
        money: bool,
    },
    DecimalString {
        money: bool,
    },
    Date(Unit),
    Time(Unit),
    Timestamp(Unit),
    /// Digits of the fraction.
    TimestampTz(usize),
    TimeTz,
    IntervalMicros,
    IntervalString,
    Bytes(Binary),
    /// bit(1).
    Bit,
    /// Length, if the type has one; `varying`: bit varying.
    Bits {
        length: Option<u32>,
        varying: bool,
    },
    HstoreJson,
    HstoreMap,
    Point,
    Text,
}

impl Encoding {
    /// Of a column as the stream has it now. DDL may have made the description stale: it counts while it is of the same type, and its
    /// modifier only where the stream can't tell it, because a domain sets it.
    pub(super) fn of(options: &Options, column: &RelationColumn, described: Option<&ColumnType>) -> Encoding {
        match described.filter(|described| described.type_oid == column.type_id) {
            Some(described) if of_domain(described) => {
                Encoding::described(options, described, described.type_modifier)
            }
            Some(described) => Encoding::described(options, described, column.type_modifier),
            None => Encoding::of_relation(options, column),
        }
    }

    fn described(options: &Options, column: &ColumnType, modifier: i32) -> Encoding {
        let scalar = Scalar::new(options, column.base_oid, &column.base_name, modifier);
        Encoding { scalar, array: column.array, delimiter: delimiter(column.base_oid, &column.base_name) }
    }

    /// Where the catalogue has said nothing: by the type's OID alone.
    fn of_relation(options: &Options, column: &RelationColumn) -> Encoding {
        let element = element(column.type_id);
        let scalar = element.unwrap_or(column.type_id);
        Encoding {
            scalar: Scalar::new(options, scalar, "", column.type_modifier),
            array: element.is_some(),
            delimiter: delimiter(scalar, ""),
        }
    }

    /// Appends the JSON of `text`.
    pub(super) fn write(&self, out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
        if self.array {
            array::write(out, text, self.delimiter, &mut |out, element| self.scalar.write(out, element))
        } else {
            self.scalar.write(out, text)
        }
    }

    pub(super) fn read<'v>(&self, value: &'v Value<'_>) -> Result<Option<Cow<'v, [u8]>>, Wrong> {
        match value {
            Value::Null => Ok(None),
            // An array in a form of its own: its text.
            Value::Array(elements) if self.array => {
                let mut out = Vec::new();
                array::read(&mut out, elements, self.delimiter, &|value| self.scalar.read(value))?;
                Ok(Some(Cow::Owned(out)))
            }
            value => self.scalar.read(value).map(Some),
        }
    }

    /// Appends what stands for a value that was not sent.
    pub(super) fn placeholder(&self, out: &mut Vec<u8>, unavailable: &str) {
        if !self.array {
            return self.scalar.placeholder(out, unavailable);
        }
        out.push(b'[');
        match &self.scalar {
            // The schema's elements are numbers: the placeholder's bytes.
            Scalar::Integer(_) | Scalar::Date(_) | Scalar::Time(_) | Scalar::Timestamp(_) => {
                for (at, byte) in unavailable.bytes().enumerate() {
                    json::display(out, format_args!("{}{byte}", if at > 0 { "," } else { "" }));
                }
            }
            Scalar::Bool | Scalar::Bit | Scalar::Float4 | Scalar::Float8 | Scalar::IntervalMicros => {}
            scalar => scalar.placeholder(out, unavailable),
        }
        out.push(b']');
    }
}

/// The type of the elements, of PostgreSQL's own arrays.
fn element(array: u32) -> Option<u32> {
    match array {
        143 => Some(142),
        791 => Some(790),
        1187 => Some(1186),
        array => element_type(array),
    }
}

/// There is a domain between the column and its base type; or the array is of a type that is not PostgreSQL's own, and has no modifier that an
/// encoding would depend on.
fn of_domain(described: &ColumnType) -> bool {
    let own = if described.array { element(described.type_oid) } else { Some(described.type_oid) };
    own != Some(described.base_oid)
}

/// `pg_type.typdelim` of an element's type: of PostgreSQL's own, box has another one than the comma; of the extensions', PostGIS's do.
fn delimiter(oid: u32, name: &str) -> u8 {
    match (oid, name) {
        (603, _) => b';',
        (_, "geometry" | "geography") => b':',
        _ => b',',
    }
}

impl Scalar {
    fn new(options: &Options, oid: u32, name: &str, modifier: i32) -> Scalar {
        let digits = if (0..=6).contains(&modifier) { modifier as usize } else { 6 };
        match oid {
            16 => Scalar::Bool,
            21 => Scalar::Integer(2),
            23 => Scalar::Integer(4),
            20 | 26 => Scalar::Integer(8),
            700 => Scalar::Float4,
            701 => Scalar::Float8,
            1700 | 790 => {
                let money = oid == 790;
                match options.decimal {
                    Decimal::Double => Scalar::DecimalDouble { money },
                    Decimal::String => Scalar::DecimalString { money },
                    Decimal::Precise if money => Scalar::Decimal { precision: None, scale: 2, money },
                    Decimal::Precise if modifier < 4 => Scalar::VariableDecimal,
                    Decimal::Precise => {
                        // (precision << 16 | 11-bit scale, signed) + 4
                        let packed = modifier - 4;
                        let scale = ((packed & 0x7ff) ^ 0x400) - 0x400;
                        Scalar::Decimal { precision: Some((packed >> 16) as u32 & 0xffff), scale, money }
                    }
                }
            }
            1082 => Scalar::Date(Unit::of_date(options.time)),
            1083 => Scalar::Time(Unit::of_time(options.time, digits)),
            1114 => Scalar::Timestamp(Unit::of_timestamp(options.time, digits)),
            1184 => Scalar::TimestampTz(digits),
            1266 => Scalar::TimeTz,
            1186 => match options.interval {
                Interval::Numeric => Scalar::IntervalMicros,
                Interval::String => Scalar::IntervalString,
            },
            17 => Scalar::Bytes(options.binary),
            1560 if modifier == 1 => Scalar::Bit,
            1560 | 1562 => {
                Scalar::Bits { length: u32::try_from(modifier).ok().filter(|n| *n > 0), varying: oid == 1562 }
            }
            600 => Scalar::Point,
            _ if name == "hstore" => match options.hstore {
                Hstore::Json => Scalar::HstoreJson,
                Hstore::Map => Scalar::HstoreMap,
            },
            _ => Scalar::Text,
        }
    }

    fn write(&self, out: &mut Vec<u8>, text: &[u8]) -> Result<(), Wrong> {
        match self {
            Scalar::Bool => out.extend_from_slice(if text == b"t" { b"true" } else { b"false" }),
            Scalar::Integer(_) if json::is_number(text) => out.extend_from_slice(text),
            Scalar::Float4 => float::write4(out, text)?,
            Scalar::Float8 => float::write8(out, text)?,
            Scalar::Decimal { scale, money, .. } => decimal::write(out, text, *scale, *money)?,
            Scalar::VariableDecimal => decimal::write_variable(out, text)?,
            Scalar::DecimalDouble { money } => {
                let text = if *money { decimal::plain_money(text) } else { Cow::Borrowed(text) };
                float::write8(out, &text)?;
            }
            Scalar::DecimalString { money: true } => json::string(out, &decimal::plain_money(text)),
            Scalar::Date(unit) => time::write_date(out, text, *unit)?,
            Scalar::Time(unit) => time::write_time(out, text, *unit)?,
            Scalar::Timestamp(unit) => time::write_timestamp(out, text, *unit)?,
            Scalar::TimestampTz(digits) => time::write_timestamptz(out, text, *digits)?,
            Scalar::TimeTz => time::write_timetz(out, text)?,
            Scalar::IntervalMicros => interval::write_micros(out, text)?,
            Scalar::IntervalString => interval::write_iso(out, text)?,
            Scalar::Bytes(mode) => binary::write_bytea(out, text, *mode)?,
            Scalar::Bit if matches!(text, b"0" | b"1") => {
                out.extend_from_slice(if text == b"1" { b"true" } else { b"false" });
            }
            Scalar::Bits { .. } => binary::write_bits(out, text)?,
            Scalar::HstoreJson => {
                let mut object = Vec::new();
                hstore::write(&mut object, text)?;
                json::string(out, &object);
            }
            Scalar::HstoreMap => hstore::write(out, text)?,
            Scalar::Point => point::write(out, text)?,
            Scalar::DecimalString { .. } | Scalar::Integer(_) | Scalar::Bit | Scalar::Text => {
                json::string(out, text);
            }
        }
        Ok(())
    }

    /// The text of a value that is not null.
    fn read<'v>(&self, value: &'v Value<'_>) -> Result<Cow<'v, [u8]>, Wrong> {
        let owned = |text: String| Ok(Cow::Owned(text.into_bytes()));
        match (self, value) {
            (Scalar::Decimal { scale, .. }, Value::String(text)) => decimal::read(text, *scale).map(into_cow),
            (Scalar::VariableDecimal, Value::Object(_)) => decimal::read_variable(value).map(into_cow),
            (Scalar::Date(unit), value) => time::read_date(value, *unit).map(into_cow),
            (Scalar::Time(unit), value) => time::read_time(value, *unit).map(into_cow),
            (Scalar::Timestamp(unit), value) => time::read_timestamp(value, *unit).map(into_cow),
            (Scalar::TimestampTz(_), Value::String(text)) => time::read_iso(text, "+00").map(into_cow),
            (Scalar::IntervalMicros, Value::Number(micros)) => owned(format!("{micros} microseconds")),
            (Scalar::Bytes(mode), Value::String(text)) => binary::read_bytea(text, *mode).map(Cow::Owned),
            (Scalar::Bit, Value::Bool(bit)) => Ok(Cow::Borrowed(if *bit { b"1" } else { b"0" })),
            (Scalar::Bits { length, varying }, Value::String(text)) => {
                binary::read_bits(text, length.filter(|_| !varying)).map(into_cow)
            }
            (Scalar::HstoreJson, Value::String(text)) => {
                let object = Value::read(text.as_bytes()).map_err(|_| "an hstore that is no JSON")?;
                hstore::read(&object).map(into_cow)
            }
            (Scalar::HstoreMap, object @ Value::Object(_)) => hstore::read(object).map(into_cow),
            (Scalar::Point, object @ Value::Object(_)) => point::read(object).map(into_cow),
            (_, Value::Bool(value)) => Ok(Cow::Borrowed(if *value { b"t" } else { b"f" })),
            (_, Value::Number(text)) => Ok(Cow::Borrowed(text.as_bytes())),
            (_, Value::String(text)) => Ok(Cow::Borrowed(text.as_bytes())),
            (_, Value::Null | Value::Array(_) | Value::Object(_)) => Err("of a kind that its type has not"),
        }
    }

    fn placeholder(&self, out: &mut Vec<u8>, unavailable: &str) {
        let quoted = |out: &mut Vec<u8>| {
            out.push(b'"');
            base64::write(out, unavailable.as_bytes());
            out.push(b'"');
        };
        match self {
            Scalar::Bytes(Binary::Bytes | Binary::Base64 | Binary::Base64UrlSafe)
            | Scalar::Bits { .. }
            | Scalar::Decimal { .. } => quoted(out),
            Scalar::VariableDecimal => {
                out.extend_from_slice(b"{\"scale\":0,\"value\":");
                quoted(out);
                out.push(b'}');
            }
            Scalar::HstoreMap => {
                out.push(b'{');
                json::string(out, unavailable.as_bytes());
                out.push(b':');
                json::string(out, unavailable.as_bytes());
                out.push(b'}');
            }
            _ => json::string(out, unavailable.as_bytes()),
        }
    }
}

fn into_cow<'v>(text: String) -> Cow<'v, [u8]> {
    Cow::Owned(text.into_bytes())
}

#[cfg(test)]
mod tests;
