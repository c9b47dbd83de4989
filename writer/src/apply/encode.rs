//! Values from the network buffer into the target's: parameters, arrays of texts, COPY lines. No value is interpreted.

use bytes::{BufMut, BytesMut};
use pg::{Error, Result};
use pipeline::Column;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use super::row::Row;
use super::target::RowType;

pub const TEXT_OID: u32 = 25;

fn too_large(error: std::io::Error) -> Error {
    Error::stop("VALUE_TOO_LARGE", format!("a message to the target would be too large: {error}"))
}

/// Bind of one row's values to a prepared statement, and Execute.
pub fn bind_row(out: &mut BytesMut, statement: &str, values: &[Column<'_>]) -> Result<()> {
    // One format code per parameter only where binary values are among them.
    let binary = values.iter().any(|value| matches!(value, Column::Binary(_)));
    let formats = values
        .iter()
        .take(if binary { values.len() } else { 0 })
        .map(|value| i16::from(matches!(value, Column::Binary(_))));
    frontend::bind(
        "",
        statement,
        formats,
        values,
        |value, buffer| match value {
            Column::Text(bytes) | Column::Binary(bytes) => {
                buffer.put_slice(bytes);
                Ok(IsNull::No)
            }
            Column::Null | Column::Unchanged => Ok(IsNull::Yes),
        },
        std::iter::empty(),
        out,
    )
    .map_err(|_| too_large(std::io::Error::other("over 1 GB")))?;
    frontend::execute("", 0, out).map_err(too_large)
}

fn array_of(
    buffer: &mut BytesMut,
    element: u32,
    nulls: bool,
    count: usize,
) -> std::result::Result<(), Unfit> {
    buffer.put_i32(1);
    buffer.put_i32(i32::from(nulls));
    buffer.put_u32(element);
    buffer.put_i32(i32::try_from(count)?);
    buffer.put_i32(1);
    Ok(())
}

type Unfit = Box<dyn std::error::Error + Sync + Send>;

fn put_value(buffer: &mut BytesMut, value: Column<'_>) -> std::result::Result<(), Unfit> {
    match value {
        Column::Text(bytes) | Column::Binary(bytes) => {
            buffer.put_i32(i32::try_from(bytes.len())?);
            buffer.put_slice(bytes);
        }
        Column::Null | Column::Unchanged => buffer.put_i32(-1),
    }
    Ok(())
}

/// Bind of rows as one array of the table's row type, and Execute. Columns without a value are NULL.
pub fn bind_rows(out: &mut BytesMut, statement: &str, rows: &[Row], row_type: &RowType) -> Result<()> {
    frontend::bind(
        "",
        statement,
        std::iter::once(1i16),
        [()],
        |(), buffer| {
            array_of(buffer, row_type.type_id, false, rows.len())?;
            let mut values = Vec::with_capacity(row_type.columns.len());
            for row in rows {
                values.clear();
                values.extend(row.columns());
                let at = buffer.len();
                buffer.put_i32(0);
                buffer.put_i32(i32::try_from(row_type.columns.len())?);
                for (type_id, position) in &row_type.columns {
                    buffer.put_u32(*type_id);
                    let value = position.and_then(|position| values.get(position).copied());
                    put_value(buffer, value.unwrap_or(Column::Null))?;
                }
                let length = i32::try_from(buffer.len() - at - 4)?;
                buffer[at..at + 4].copy_from_slice(&length.to_be_bytes());
            }
            Ok(IsNull::No)
        },
        std::iter::empty(),
        out,
    )
    .map_err(|_| too_large(std::io::Error::other("over 1 GB")))?;
    frontend::execute("", 0, out).map_err(too_large)
}

/// Bind of whole columns, each as an array in binary form (which needs no quoting), and Execute. `rows` holds row after row, `width`
/// values each, of which `columns` are sent; `element`: a column's type in its array.
pub fn bind_columns(
    out: &mut BytesMut,
    statement: &str,
    rows: &[Column<'_>],
    width: usize,
    columns: &[usize],
    element: impl Fn(usize) -> u32,
) -> Result<()> {
    let count = rows.len() / width.max(1);
    frontend::bind(
        "",
        statement,
        std::iter::once(1i16),
        columns,
        |&column, buffer| {
            let values = rows.iter().skip(column).step_by(width);
            let nulls = values.clone().any(|value| matches!(value, Column::Null | Column::Unchanged));
            array_of(buffer, element(column), nulls, count)?;
            for value in values {
                put_value(buffer, *value)?;
            }
            Ok(IsNull::No)
        },
        std::iter::empty(),
        out,
    )
    .map_err(|_| too_large(std::io::Error::other("over 1 GB")))?;
    frontend::execute("", 0, out).map_err(too_large)
}

/// Opens a CopyData message; [`end_copy_data`] sets its length.
pub fn begin_copy_data(out: &mut BytesMut) -> usize {
    out.put_u8(b'd');
    let at = out.len();
    out.put_i32(0);
    at
}

pub fn end_copy_data(out: &mut BytesMut, at: usize) -> Result<()> {
    let length = i32::try_from(out.len() - at).map_err(|error| too_large(std::io::Error::other(error)))?;
    out[at..at + 4].copy_from_slice(&length.to_be_bytes());
    Ok(())
}

/// One line of COPY's text format (<https://www.postgresql.org/docs/current/sql-copy.html>, "Text Format").
pub fn copy_line<'a>(out: &mut BytesMut, values: impl Iterator<Item = Column<'a>>) {
    let mut first = true;
    for value in values {
        if !first {
            out.put_u8(b'\t');
        }
        first = false;
        match value {
            Column::Text(bytes) | Column::Binary(bytes) => copy_text(out, bytes),
            Column::Null | Column::Unchanged => out.put_slice(b"\\N"),
        }
    }
    out.put_u8(b'\n');
}

/// What COPY's binary format begins with: signature, flags, an empty extension.
pub const COPY_BINARY: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// … and ends with.
pub const COPY_BINARY_END: &[u8] = b"\xff\xff";

/// One row of COPY's binary format. False: a value is text, which this format can't hold.
#[must_use]
pub fn copy_tuple<'a>(out: &mut BytesMut, width: u16, values: impl Iterator<Item = Column<'a>>) -> bool {
    out.put_u16(width);
    let mut binary = true;
    for value in values {
        match value {
            Column::Binary(bytes) => {
                out.put_u32(bytes.len() as u32);
                out.put_slice(bytes);
            }
            Column::Text(_) => binary = false,
            Column::Null | Column::Unchanged => out.put_i32(-1),
        }
    }
    binary
}

fn copy_text(out: &mut BytesMut, mut value: &[u8]) {
    let special = |byte: &u8| matches!(byte, b'\\' | b'\n' | b'\r' | b'\t' | 8 | 11 | 12);
    while let Some(at) = value.iter().position(special) {
        out.put_slice(&value[..at]);
        out.put_u8(b'\\');
        out.put_u8(match value[at] {
            b'\n' => b'n',
            b'\r' => b'r',
            b'\t' => b't',
            8 => b'b',
            11 => b'v',
            12 => b'f',
            other => other,
        });
        value = &value[at + 1..];
    }
    out.put_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_travel_as_one_array_of_records() {
        let tuple = pipeline::Tuple::from_columns(&[Column::Binary(b"ab"), Column::Unchanged]);
        let row_type = RowType { type_id: 99, columns: vec![(7, Some(1)), (8, None), (9, Some(0))] };
        let mut out = BytesMut::new();
        bind_rows(&mut out, "w1", &[Row::new(tuple)], &row_type).unwrap();
        let record = [
            &[0, 0, 0, 3][..],
            &[0, 0, 0, 7, 255, 255, 255, 255],
            &[0, 0, 0, 8, 255, 255, 255, 255],
            &[0, 0, 0, 9, 0, 0, 0, 2, b'a', b'b'],
        ]
        .concat();
        let array = [
            &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 99, 0, 0, 0, 1, 0, 0, 0, 1][..],
            &(record.len() as u32).to_be_bytes(),
            &record,
        ]
        .concat();
        assert!(out.windows(array.len()).any(|window| window == array));
    }

    #[test]
    fn binary_rows_hold_no_text() {
        let mut out = BytesMut::new();
        assert!(copy_tuple(&mut out, 2, [Column::Binary(b"x"), Column::Null].into_iter()));
        assert_eq!(&out[..], b"\0\x02\0\0\0\x01x\xff\xff\xff\xff");
        assert!(!copy_tuple(&mut out, 1, [Column::Text(b"x")].into_iter()));
    }

    #[test]
    fn copy_lines_escape_what_the_format_needs() {
        let mut out = BytesMut::new();
        let at = begin_copy_data(&mut out);
        let values = [Column::Text(b"a\tb\\N\n"), Column::Null, Column::Text(b""), Column::Text(b"\\N")];
        copy_line(&mut out, values.into_iter());
        end_copy_data(&mut out, at).unwrap();
        assert_eq!(&out[5..], b"a\\tb\\\\N\\n\t\\N\t\t\\\\N\n");
        assert_eq!(u32::from_be_bytes(out[1..5].try_into().unwrap()) as usize, out.len() - 1);
    }
}
