//! One value as JSON.

mod postgres;

use pg::{Error, Result};

use super::json;
use super::options::{Options, Values};
use super::types::ColumnType;
use crate::change::{Column, RelationColumn};

pub(super) use postgres::Plain;

/// OID of bytea.
const BYTEA: u32 = 17;

/// How the values of one column are written. Chosen once per version of a table.
#[derive(Clone, Debug)]
pub(super) enum Codec {
    Plain(Plain),
}

impl Codec {
    pub(super) fn new(options: &Options, column: &RelationColumn, described: Option<&ColumnType>) -> Codec {
        let _ = (described, options.values == Values::Debezium);
        Codec::Plain(Plain::of(column.type_id))
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

    /// The JSON that stands for a value that was not sent.
    pub(super) fn placeholder(&self, column: &RelationColumn, unavailable: &str) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Codec::Plain(_) if column.type_id == BYTEA => {
                out.push(b'"');
                base64(&mut out, unavailable.as_bytes());
                out.push(b'"');
            }
            Codec::Plain(_) => json::string(&mut out, unavailable.as_bytes()),
        }
        out
    }
}

/// Appends standard base64 with padding.
pub(super) fn base64(out: &mut Vec<u8>, bytes: &[u8]) {
    base64_with(out, bytes, *b"+/");
}

/// Appends base64; `last` are the digits 62 and 63.
pub(super) fn base64_with(out: &mut Vec<u8>, bytes: &[u8], last: [u8; 2]) {
    let digit = |value: u32| match (value & 63) as u8 {
        value @ 0..26 => b'A' + value,
        value @ 26..52 => b'a' + value - 26,
        value @ 52..62 => b'0' + value - 52,
        62 => last[0],
        _ => last[1],
    };
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for place in 0..4 {
            out.push(if place <= chunk.len() { digit(group >> (18 - 6 * place)) } else { b'=' });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (bytes, expected) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("hello", "aGVsbG8=")]
        {
            let mut out = Vec::new();
            base64(&mut out, bytes.as_bytes());
            assert_eq!(out, expected.as_bytes());
        }
        let mut out = Vec::new();
        base64_with(&mut out, &[0xfb, 0xff], *b"-_");
        assert_eq!(out, b"-_8=");
    }
}
