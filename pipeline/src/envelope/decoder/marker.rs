//! BEGIN, END and logical messages.

use bytes::Bytes;
use pg::{Lsn, Result};

use super::fields::{self, Fields};
use super::{Dialect, malformed, missing, origin};
use crate::change::PgTimestamp;
use crate::envelope::decoded::{Decoded, End, LogicalMessage, Marker, Record};
use crate::envelope::header;
use crate::envelope::json::read::Value;
use crate::envelope::message::Position;
use crate::envelope::options::Options;
use crate::envelope::source::from_unix_micros;
use crate::envelope::value::read_bytes;

pub(super) fn decode(dialect: Dialect, record: &Record<'_>, value: &Value<'_>) -> Result<Decoded> {
    let id = value.text("id")?;
    let (xid, lsn) = id
        .split_once(':')
        .and_then(|(xid, lsn)| Some((xid.parse::<u32>().ok()?, lsn.parse::<u64>().ok()?)))
        .ok_or_else(|| malformed("\"id\" is not <xid>:<lsn>"))?;
    let committed_at = match fields::micros(record, header::COMMITTED_AT)? {
        Some(micros) => from_unix_micros(micros),
        None => from_unix_micros(value.whole::<i64>("ts_ms")?.saturating_mul(1000)),
    };
    let marker = Marker {
        id: id.to_owned(),
        xid: Some(xid),
        commit_lsn: Lsn::new(lsn),
        committed_at,
        of: origin(record)?,
    };
    match value.text("status")? {
        "BEGIN" => Ok(Decoded::Begin(marker)),
        "END" => {
            let Value::Array(counts) = value.member("data_collections")? else {
                return Err(malformed("\"data_collections\" is not an array"));
            };
            let collections = counts
                .iter()
                .map(|count| Ok((count.text("data_collection")?.to_owned(), count.whole("event_count")?)))
                .collect::<Result<Vec<(String, u64)>>>()?;
            let events = value.whole("event_count")?;
            if collections.iter().try_fold(0_u64, |sum, (_, count)| sum.checked_add(*count)) != Some(events) {
                return Err(malformed("\"event_count\" is not the sum of its tables'"));
            }
            let end_lsn = fields::lsn(record, header::END)?;
            if end_lsn.is_none() && dialect == Dialect::Walferry {
                return Err(missing(header::END));
            }
            if end_lsn.is_some_and(|end| end < marker.commit_lsn) {
                return Err(malformed("its end LSN is before its commit LSN"));
            }
            Ok(Decoded::End(End { marker, end_lsn, events, collections }))
        }
        _ => Err(malformed("\"status\" is neither BEGIN nor END")),
    }
}

pub(super) fn message(options: &Options, record: &Record<'_>, value: &Value<'_>) -> Result<Decoded> {
    if value.text("op")? != "m" {
        return Err(malformed("\"op\" is not \"m\""));
    }
    let source = value.member("source")?;
    let lsn = Lsn::new(source.whole("lsn")?);
    let message = value.member("message")?;
    let content = read_bytes(message.text("content")?, options.message_encoding())
        .ok_or_else(|| malformed("\"content\" is in another encoding"))?;
    Ok(Decoded::Message(LogicalMessage {
        position: fields::position(record)?.unwrap_or(Position { commit_lsn: lsn, index: 0 }),
        transactional: source.optional("txId").is_some(),
        lsn,
        prefix: message.text("prefix")?.to_owned(),
        content: Bytes::from(content),
        transaction: fields::place(value)?,
    }))
}

/// Commit time of an event: `source.ts_us`, in older connectors only `ts_ms`.
pub(super) fn committed_at(source: &Value<'_>) -> Result<PgTimestamp> {
    match source.optional("ts_us") {
        Some(_) => Ok(from_unix_micros(source.whole("ts_us")?)),
        None => Ok(from_unix_micros(source.whole::<i64>("ts_ms")?.saturating_mul(1000))),
    }
}
