//! Reads fields off the front of a message.

use bytes::{Buf, Bytes};
use pg::{Error, Lsn, Result};
use pipeline::{PgTimestamp, RelationId, Tuple};

/// What is left of a message.
pub(super) struct Cursor(pub(super) Bytes);

impl Cursor {
    pub(super) fn u8(&mut self) -> Result<u8> {
        self.0.try_get_u8().map_err(|_| truncated())
    }

    pub(super) fn u16(&mut self) -> Result<u16> {
        self.0.try_get_u16().map_err(|_| truncated())
    }

    pub(super) fn u32(&mut self) -> Result<u32> {
        self.0.try_get_u32().map_err(|_| truncated())
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        self.0.try_get_i32().map_err(|_| truncated())
    }

    pub(super) fn lsn(&mut self) -> Result<Lsn> {
        self.0.try_get_u64().map(Lsn::new).map_err(|_| truncated())
    }

    pub(super) fn timestamp(&mut self) -> Result<PgTimestamp> {
        self.0.try_get_i64().map(PgTimestamp).map_err(|_| truncated())
    }

    pub(super) fn relation_id(&mut self) -> Result<RelationId> {
        self.u32().map(RelationId)
    }

    /// A zero-terminated name.
    pub(super) fn string(&mut self) -> Result<String> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or_else(truncated)?;
        let bytes = self.0.split_to(end);
        self.0.advance(1);
        match std::str::from_utf8(&bytes) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(malformed("name that is not UTF-8")),
        }
    }

    /// Int32 length and as many bytes.
    pub(super) fn counted_bytes(&mut self) -> Result<Bytes> {
        let length = usize::try_from(self.i32()?).map_err(|_| malformed("negative length"))?;
        if length > self.0.len() {
            return Err(truncated());
        }
        Ok(self.0.split_to(length))
    }

    pub(super) fn tuple(&mut self) -> Result<Tuple> {
        Tuple::split_from(&mut self.0).map_err(malformed)
    }

    /// Nothing may be left.
    pub(super) fn end(&self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(malformed("bytes after the end of a message")) }
    }
}

fn truncated() -> Error {
    malformed("message ends too early")
}

/// The stream can't be trusted any more: going on would guess.
pub(super) fn malformed(what: impl std::fmt::Display) -> Error {
    Error::failed("PGOUTPUT", format!("malformed logical replication message: {what}"))
        .hint("check that nothing but PostgreSQL answers at the source's address; the same command resumes")
}
