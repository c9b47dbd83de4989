//! Key and value of an event, out of columns of its row.

use crate::change::{Relation, Tuple};

use super::columns::{Columns, Field};
use super::event::Stage;
use super::json;
use super::options::{Format, Nulls, Options};
use super::row::Wrong;
use super::schema::{self, Inferred};

/// OID of bytea.
const BYTEA: u32 = 17;

type Result<T> = std::result::Result<T, Wrong>;

pub(super) fn key(options: &Options, columns: &Columns, tuple: &Tuple) -> Result<Option<Vec<u8>>> {
    match options.key_format {
        Format::String => plain(&columns.key, tuple, Stage::Payload),
        Format::Bytes => Ok(columns.key.raw(tuple).map(<[u8]>::to_vec)),
        // NULL is JSON's null, which is a key.
        Format::Json => {
            let mut out = columns.schemas.key.clone().unwrap_or_default();
            written(&columns.key, &mut out, tuple, Stage::Payload)?;
            if columns.schemas.key.is_some() {
                schema::close(&mut out);
            }
            Ok(Some(out))
        }
    }
}

/// `envelope`: the members behind the payload, each with a comma before it.
pub(super) fn payload(
    options: &Options,
    columns: &Columns,
    relation: &Relation,
    tuple: &Tuple,
    envelope: &[u8],
) -> Result<Option<Vec<u8>>> {
    let field = &columns.payload;
    let raw = field.raw(tuple);
    if options.tombstone && raw.is_none_or(|text| text.trim_ascii().is_empty()) {
        return Ok(None);
    }
    if let Some(schemas) = &columns.schemas.value {
        return with_schema(options, columns, schemas, tuple, envelope).map(Some);
    }
    if !options.has_envelope() {
        return match (raw, options.value_format) {
            (None, Format::Json) => Ok(Some(b"null".to_vec())),
            (None, _) => Ok(None),
            (Some(text), _) if options.expand => expanded(options, text).map(Some),
            (Some(_), Format::String) => plain(field, tuple, Stage::Payload),
            (Some(text), Format::Bytes)
                if relation.columns.get(field.at).is_some_and(|c| c.type_id == BYTEA) =>
            {
                unhex(text).map(Some)
            }
            (Some(text), Format::Bytes) => Ok(Some(text.to_vec())),
            (Some(_), Format::Json) => {
                let mut out = Vec::new();
                written(field, &mut out, tuple, Stage::Payload)?;
                Ok(Some(out))
            }
        };
    }
    let mut out = b"{\"payload\":".to_vec();
    match raw {
        Some(text) if options.expand => out.extend_from_slice(&expanded(options, text)?),
        _ => written(field, &mut out, tuple, Stage::Payload)?,
    }
    out.extend_from_slice(envelope);
    out.push(b'}');
    Ok(Some(out))
}

/// The same as `{"schema":…,"payload":…}`.
fn with_schema(
    options: &Options,
    columns: &Columns,
    schemas: &schema::Value,
    tuple: &Tuple,
    envelope: &[u8],
) -> Result<Vec<u8>> {
    let field = &columns.payload;
    let inferred = match field.raw(tuple) {
        Some(text) if options.expand => schema::infer(text, &options.payload, options.nulls, false)
            .map_err(|error| (Stage::Payload, format!("table.expand.json.payload: {error}")))?,
        _ => Inferred::Text,
    };
    let envelope = options.has_envelope().then_some(envelope);
    let mut out = Vec::new();
    let payload = match &inferred {
        Inferred::Value { schema, .. } => Some(schema),
        Inferred::Empty if envelope.is_none() => None,
        Inferred::Text | Inferred::Empty => Some(&schemas.payload),
    };
    match (payload, envelope) {
        (None, _) => schema::open_without(&mut out),
        (Some(payload), None) => schema::open(&mut out, payload),
        (Some(payload), Some(_)) => {
            let routed_by = columns.route_by.raw(tuple).unwrap_or_default();
            let version = columns.schema_version.as_ref().and_then(|field| field.raw(tuple));
            schema::open(&mut out, &schemas.envelope(payload, routed_by, version));
            out.extend_from_slice(b"{\"payload\":");
        }
    }
    match inferred {
        Inferred::Value { value, .. } => out.extend_from_slice(&value),
        Inferred::Text | Inferred::Empty => written(field, &mut out, tuple, Stage::Payload)?,
    }
    if let Some(members) = envelope {
        out.extend_from_slice(members);
        out.push(b'}');
    }
    schema::close(&mut out);
    Ok(out)
}

fn expanded(options: &Options, text: &[u8]) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    json::compact(&mut out, text, options.nulls == Nulls::Ignore)
        .map_err(|error| (Stage::Payload, format!("table.expand.json.payload: {error}")))?;
    Ok(out)
}

fn unhex(text: &[u8]) -> Result<Vec<u8>> {
    let wrong = || (Stage::Payload, "table.field.event.payload: not a bytea".to_owned());
    let digits = text.strip_prefix(b"\\x").ok_or_else(wrong)?;
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    digits
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Ok(nibble(*high).ok_or_else(wrong)? << 4 | nibble(*low).ok_or_else(wrong)?),
            _ => Err(wrong()),
        })
        .collect()
}

/// Appends the JSON of a column's value.
pub(super) fn written(field: &Field, out: &mut Vec<u8>, tuple: &Tuple, stage: Stage) -> Result<()> {
    field.writer.json(out, field.value(tuple)).map_err(|error| (stage, error.primary().to_owned()))
}

/// The value as text without quotes: Kafka Connect's StringConverter, and its header converter.
pub(super) fn plain(field: &Field, tuple: &Tuple, stage: Stage) -> Result<Option<Vec<u8>>> {
    if field.raw(tuple).is_none() {
        return Ok(None);
    }
    let mut out = Vec::new();
    written(field, &mut out, tuple, stage)?;
    Ok(match out.first() {
        Some(b'"') => json::text(&out),
        _ => Some(out),
    })
}
