//! The blocks `source` and `transaction`, made once a transaction as far as they are the same for all of its events.

use pg::Lsn;

use super::json::{display, quoted, string};
use super::options::Options;
use crate::change::PgTimestamp;

/// Microseconds from 1970 to 2000.
const POSTGRES_EPOCH: i64 = 946_684_800_000_000;

/// Microseconds since 1970.
pub(super) fn unix_micros(time: PgTimestamp) -> i64 {
    time.0.saturating_add(POSTGRES_EPOCH)
}

pub(super) fn from_unix_micros(micros: i64) -> PgTimestamp {
    PgTimestamp(micros.saturating_sub(POSTGRES_EPOCH))
}

/// The parts of `source` around the table's.
#[derive(Default)]
pub(super) struct Source {
    /// Up to the table's part.
    head: Vec<u8>,
    /// After `"txId":`.
    tail: Vec<u8>,
}

/// What `source` says of a position.
pub(super) struct Origin<'a> {
    pub(super) time: PgTimestamp,
    pub(super) snapshot: &'a str,
    /// Commit LSN of the transaction before.
    pub(super) last: Option<Lsn>,
    pub(super) lsn: Lsn,
    pub(super) xid: Option<u32>,
}

impl Source {
    /// Appends the member `source` of an event; `table` is the table's part.
    pub(super) fn write(&self, out: &mut Vec<u8>, table: &[u8]) {
        out.extend_from_slice(b",\"source\":");
        out.extend_from_slice(&self.head);
        out.extend_from_slice(table);
        out.extend_from_slice(&self.tail);
    }

    pub(super) fn set(&mut self, options: &Options, origin: &Origin<'_>) {
        let micros = unix_micros(origin.time);
        let out = &mut self.head;
        out.clear();
        out.extend_from_slice(b"{\"version\":");
        string(out, options.version.as_bytes());
        out.extend_from_slice(b",\"connector\":\"postgresql\",\"name\":");
        string(out, options.prefix.as_bytes());
        out.extend_from_slice(b",\"ts_ms\":");
        display(out, micros.div_euclid(1000));
        out.extend_from_slice(b",\"snapshot\":");
        string(out, origin.snapshot.as_bytes());
        out.extend_from_slice(b",\"db\":");
        string(out, options.database.as_bytes());
        out.extend_from_slice(b",\"sequence\":\"[");
        match origin.last {
            Some(last) => display(out, format_args!("\\\"{}\\\"", last.as_u64())),
            None => out.extend_from_slice(b"null"),
        }
        display(out, format_args!(",\\\"{}\\\"]\",\"ts_us\":{micros},\"ts_ns\":", origin.lsn.as_u64()));
        display(out, i128::from(micros) * 1000);
        out.push(b',');
        let out = &mut self.tail;
        out.clear();
        match origin.xid {
            Some(xid) => display(out, xid),
            None => out.extend_from_slice(b"null"),
        }
        out.extend_from_slice(b",\"lsn\":");
        display(out, origin.lsn.as_u64());
        out.extend_from_slice(b",\"xmin\":null,\"origin\":null,\"origin_lsn\":null}");
    }
}

/// Appends `{"id":"…","total_order":…,"data_collection_order":…}`.
pub(super) fn transaction(out: &mut Vec<u8>, id: &str, total: u64, of_collection: u64) {
    out.extend_from_slice(b"{\"id\":");
    quoted(out, id);
    display(out, format_args!(",\"total_order\":{total},\"data_collection_order\":{of_collection}}}"));
}
