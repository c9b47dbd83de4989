//! Names of encodings: what the header `walferry.types` says of a column (`docs/wire.md`), as much as it takes to read its JSON.

use super::time::Unit;
use super::{Encoding, Scalar};
use crate::envelope::options::Binary;

/// Elements whose JSON says by itself what it is.
const PLAIN: &str = "plain";

/// PostgreSQL has no longer bit strings.
const MOST_BITS: u32 = 83_886_080;

impl Encoding {
    /// None: the JSON says all that there is to know.
    pub(in crate::envelope) fn name(&self) -> Option<String> {
        let scalar = self.scalar.name();
        if !self.array {
            return scalar;
        }
        let mut name = scalar.unwrap_or_else(|| PLAIN.to_owned());
        name.push('[');
        if self.delimiter != b',' {
            name.push(char::from(self.delimiter));
        }
        name.push(']');
        Some(name)
    }

    /// The encoding of that name; None: there is none.
    pub(in crate::envelope) fn named(name: &str) -> Option<Encoding> {
        let (scalar, array, delimiter) = match name.strip_suffix(']').and_then(|name| name.split_once('[')) {
            Some((scalar, "")) => (scalar, true, b','),
            Some((scalar, ";")) => (scalar, true, b';'),
            Some((scalar, ":")) => (scalar, true, b':'),
            Some(_) => return None,
            None => (name, false, b','),
        };
        let scalar = if array && scalar == PLAIN { Scalar::Text } else { Scalar::named(scalar)? };
        Some(Encoding { scalar, array, delimiter })
    }
}

impl Scalar {
    fn name(&self) -> Option<String> {
        let name = match self {
            Scalar::Decimal { scale, .. } => return Some(format!("decimal({scale})")),
            Scalar::Date(unit) => return Some(format!("date({})", unit.name())),
            Scalar::Time(unit) => return Some(format!("time({})", unit.name())),
            Scalar::Timestamp(unit) => return Some(format!("timestamp({})", unit.name())),
            Scalar::Bits { length: Some(length), varying: false } => return Some(format!("bits({length})")),
            Scalar::Bits { .. } => "bits",
            Scalar::VariableDecimal => "decimal",
            Scalar::TimestampTz(_) => "timestamptz",
            Scalar::IntervalMicros => "interval(us)",
            Scalar::Bytes(Binary::Hex) => "bytea(hex)",
            Scalar::Bytes(Binary::Bytes | Binary::Base64 | Binary::Base64UrlSafe) => "bytea(base64)",
            Scalar::Bit => "bit",
            Scalar::HstoreJson => "hstore(json)",
            Scalar::HstoreMap => "hstore(map)",
            Scalar::Point => "point",
            // A boolean, a number, or the text itself.
            Scalar::Bool
            | Scalar::Integer(_)
            | Scalar::Float4
            | Scalar::Float8
            | Scalar::DecimalDouble { .. }
            | Scalar::DecimalString { .. }
            | Scalar::TimeTz
            | Scalar::IntervalString
            | Scalar::Text => return None,
        };
        Some(name.to_owned())
    }

    fn named(name: &str) -> Option<Scalar> {
        let (kind, detail) = match name.strip_suffix(')') {
            Some(name) => name.split_once('(').map(|(kind, detail)| (kind, Some(detail)))?,
            None => (name, None),
        };
        Some(match (kind, detail) {
            ("decimal", None) => Scalar::VariableDecimal,
            ("decimal", Some(scale)) => {
                Scalar::Decimal { precision: None, scale: scale.parse().ok()?, money: false }
            }
            ("date", Some(unit)) => Scalar::Date(Unit::named(unit, true)?),
            ("time", Some(unit)) => Scalar::Time(Unit::named(unit, false)?),
            ("timestamp", Some(unit)) => Scalar::Timestamp(Unit::named(unit, false)?),
            ("timestamptz", None) => Scalar::TimestampTz(6),
            ("interval", Some("us")) => Scalar::IntervalMicros,
            ("bytea", Some("base64")) => Scalar::Bytes(Binary::Base64),
            ("bytea", Some("hex")) => Scalar::Bytes(Binary::Hex),
            ("bit", None) => Scalar::Bit,
            ("bits", None) => Scalar::Bits { length: None, varying: true },
            ("bits", Some(length)) => {
                let length = length.parse().ok().filter(|length| *length <= MOST_BITS)?;
                Scalar::Bits { length: Some(length), varying: false }
            }
            ("hstore", Some("json")) => Scalar::HstoreJson,
            ("hstore", Some("map")) => Scalar::HstoreMap,
            ("point", None) => Scalar::Point,
            _ => return None,
        })
    }
}

impl Unit {
    fn name(self) -> &'static str {
        match self {
            Unit::Days { .. } => "days",
            Unit::Millis { .. } => "ms",
            Unit::Micros => "us",
            Unit::Nanos => "ns",
            Unit::Iso => "iso",
        }
    }

    fn named(name: &str, date: bool) -> Option<Unit> {
        Some(match (name, date) {
            ("days", true) => Unit::Days { connect: false },
            ("ms", false) => Unit::Millis { connect: false },
            ("us", false) => Unit::Micros,
            ("ns", false) => Unit::Nanos,
            ("iso", _) => Unit::Iso,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests;
