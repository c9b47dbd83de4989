//! A row of values, borrowed from the message that carried it.
//!
//! Wire form (TupleData, <https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>): Int16 number of columns, then per
//! column Byte1 `n` NULL, `u` unchanged TOAST value, `t` text or `b` binary, the last two with Int32 length and bytes.

use bytes::Bytes;

/// One value of a [`Tuple`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Column<'a> {
    Null,
    /// "No value", not NULL: the stored value did not change and was not sent.
    Unchanged,
    Text(&'a [u8]),
    Binary(&'a [u8]),
}

/// A validated TupleData; cloning counts a reference.
#[derive(Clone)]
pub struct Tuple(Bytes);

/// The message does not hold the tuple that its lengths promise.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TupleError {
    #[error("tuple ends in the middle of a value")]
    Truncated,
    #[error("unknown kind of value {0:#04x} in a tuple")]
    Kind(u8),
    #[error("negative length in a tuple")]
    Length,
}

impl Tuple {
    /// Splits the tuple that `message` starts with off its front.
    pub fn split_from(message: &mut Bytes) -> Result<Tuple, TupleError> {
        let buffer: &[u8] = message;
        let count = read_u16(buffer).ok_or(TupleError::Truncated)?;
        let mut at = 2;
        for _ in 0..count {
            let kind = *buffer.get(at).ok_or(TupleError::Truncated)?;
            at += 1;
            match kind {
                b'n' | b'u' => {}
                b't' | b'b' => {
                    let length = buffer.get(at..).and_then(read_i32).ok_or(TupleError::Truncated)?;
                    let length = usize::try_from(length).map_err(|_| TupleError::Length)?;
                    at = at.checked_add(4 + length).ok_or(TupleError::Length)?;
                    if at > buffer.len() {
                        return Err(TupleError::Truncated);
                    }
                }
                other => return Err(TupleError::Kind(other)),
            }
        }
        Ok(Tuple(message.split_to(at)))
    }

    /// Builds a tuple from values; for tests and for carriers that decode another form.
    #[must_use]
    pub fn from_columns(columns: &[Column<'_>]) -> Tuple {
        let mut out = Vec::with_capacity(2 + columns.len() * 8);
        out.extend_from_slice(&(columns.len() as u16).to_be_bytes());
        for column in columns {
            let (kind, value) = match column {
                Column::Null => (b'n', None),
                Column::Unchanged => (b'u', None),
                Column::Text(value) => (b't', Some(value)),
                Column::Binary(value) => (b'b', Some(value)),
            };
            out.push(kind);
            if let Some(value) = value {
                out.extend_from_slice(&(value.len() as u32).to_be_bytes());
                out.extend_from_slice(value);
            }
        }
        Tuple(Bytes::from(out))
    }

    /// Bytes on the wire.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Number of columns.
    #[must_use]
    pub fn width(&self) -> usize {
        read_u16(&self.0).map_or(0, usize::from)
    }

    /// The values in column order; no allocation.
    #[must_use]
    pub fn columns(&self) -> Columns<'_> {
        Columns { rest: self.0.get(2..).unwrap_or_default(), left: self.width() }
    }
}

impl std::fmt::Debug for Tuple {
    /// Never the values: a row's values stay out of every log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tuple({} columns, {} bytes)", self.width(), self.len())
    }
}

/// Iterator over a tuple's values.
pub struct Columns<'a> {
    rest: &'a [u8],
    left: usize,
}

impl<'a> Iterator for Columns<'a> {
    type Item = Column<'a>;

    fn next(&mut self) -> Option<Column<'a>> {
        if self.left == 0 {
            return None;
        }
        let (&kind, rest) = self.rest.split_first()?;
        self.left -= 1;
        let binary = match kind {
            b'n' | b'u' => {
                self.rest = rest;
                return Some(if kind == b'n' { Column::Null } else { Column::Unchanged });
            }
            kind => kind == b'b',
        };
        let (length, rest) = rest.split_at_checked(4)?;
        let (value, rest) = rest.split_at_checked(read_i32(length)? as usize)?;
        self.rest = rest;
        Some(if binary { Column::Binary(value) } else { Column::Text(value) })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Columns<'_> {}

fn read_u16(buffer: &[u8]) -> Option<u16> {
    buffer.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn read_i32(buffer: &[u8]) -> Option<i32> {
    buffer.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_in_order() {
        let columns = [Column::Null, Column::Unchanged, Column::Text(b"a\0b"), Column::Binary(b"")];
        let tuple = Tuple::from_columns(&columns);
        let mut message = Bytes::from([&tuple.0[..], b"rest"].concat());
        let split = Tuple::split_from(&mut message).unwrap();
        assert_eq!(split.columns().collect::<Vec<_>>(), columns);
        assert_eq!(&message[..], b"rest");
    }

    #[test]
    fn lying_lengths_are_refused() {
        let cases: [(&[u8], TupleError); 5] = [
            (b"", TupleError::Truncated),
            (b"\0\x01", TupleError::Truncated),
            (b"\0\x01t\0\0\0\x05abc", TupleError::Truncated),
            (b"\0\x01t\xff\xff\xff\xff", TupleError::Length),
            (b"\0\x01x", TupleError::Kind(b'x')),
        ];
        for (bytes, error) in cases {
            assert_eq!(Tuple::split_from(&mut Bytes::copy_from_slice(bytes)).unwrap_err(), error);
        }
    }
}
