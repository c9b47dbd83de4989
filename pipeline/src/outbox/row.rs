//! A row of an outbox table as a message.

use std::sync::Arc;

use pg::Result;

use crate::change::{Column, PgTimestamp, Relation, Tuple};
use crate::envelope::{Position, TableTypes, header};

use super::columns::{Columns, Field};
use super::event::{DeadLetter, Event, Stage};
use super::json;
use super::options::{Format, Nulls, Options};
use super::placement::Place;
use super::timestamp;

/// Header with the value of `table.field.event.schema.version`.
const SCHEMA_VERSION: &str = "walferry.schema.version";

/// OID of bytea.
const BYTEA: u32 = 17;

/// Routes the rows of one outbox table.
#[derive(Clone, Debug)]
pub struct Router {
    options: Options,
    types: Option<TableTypes>,
    known: Option<(Arc<Relation>, Columns)>,
}

/// What is wrong with an event, and where.
type Wrong = (Stage, String);

impl Router {
    /// `types`: the table as the catalogue describes it.
    #[must_use]
    pub fn new(options: Options, types: Option<TableTypes>) -> Router {
        Router { options, types, known: None }
    }

    #[must_use]
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// A logical message; see [`super::route_message`].
    pub fn message(
        &mut self,
        prefix: &str,
        content: &[u8],
        position: Position,
        committed_at: PgTimestamp,
    ) -> std::result::Result<Event, Box<DeadLetter>> {
        super::message::route_message(&mut self.options, prefix, content, position, committed_at)
    }

    /// The message of an inserted row.
    ///
    /// # Errors
    /// `Stop`: the table lacks a column that the options name.
    pub fn row(
        &mut self,
        relation: &Arc<Relation>,
        tuple: &Tuple,
        position: Position,
        committed_at: PgTimestamp,
    ) -> Result<std::result::Result<Event, Box<DeadLetter>>> {
        let known = self.known.as_ref().is_some_and(|(known, _)| Arc::ptr_eq(known, relation));
        if !known {
            let columns = Columns::of(&self.options, relation, self.types.as_ref())?;
            self.known = Some((relation.clone(), columns));
        }
        let Router { options, known: Some((_, columns)), .. } = self else {
            return Err(pg::Error::failed("OUTBOX", "the table's columns are not known"));
        };
        let routed = route(options, columns, relation, tuple, position, committed_at);
        Ok(routed.map_err(|(stage, reason)| {
            Box::new(self.letter(stage, reason, relation, tuple, position, committed_at))
        }))
    }

    /// What a row that can't be delivered leaves.
    #[must_use]
    pub fn letter(
        &self,
        stage: Stage,
        reason: String,
        relation: &Relation,
        tuple: &Tuple,
        position: Position,
        committed_at: PgTimestamp,
    ) -> DeadLetter {
        let columns = self.known.as_ref().map(|(_, columns)| columns);
        let text = |field: Option<&Field>| field.and_then(|field| field.raw(tuple)).map(<[u8]>::to_vec);
        let payload = columns.map(|columns| columns.payload.at);
        DeadLetter {
            stage,
            reason,
            position,
            id: text(columns.map(|columns| &columns.id)).map(|id| String::from_utf8_lossy(&id).into_owned()),
            key: text(columns.map(|columns| &columns.key)),
            value: text(columns.map(|columns| &columns.payload)),
            row: Some(but(relation, tuple, payload)),
            prefix: None,
            timestamp: millis(committed_at),
        }
    }
}

/// Milliseconds since 1970 of a commit.
pub(super) fn millis(at: PgTimestamp) -> i64 {
    const EPOCH_2000: i64 = 946_684_800_000;
    (at.0.div_euclid(1000) + EPOCH_2000).max(0)
}

/// All columns but one, as PostgreSQL writes them.
fn but(relation: &Relation, tuple: &Tuple, left_out: Option<usize>) -> Vec<u8> {
    let mut out = vec![b'{'];
    for (at, (column, value)) in relation.columns.iter().zip(tuple.columns()).enumerate() {
        if left_out == Some(at) {
            continue;
        }
        if out.len() > 1 {
            out.push(b',');
        }
        json::string(&mut out, column.name.as_bytes());
        out.push(b':');
        match value {
            Column::Text(text) | Column::Binary(text) => json::string(&mut out, text),
            Column::Null | Column::Unchanged => out.extend_from_slice(b"null"),
        }
    }
    out.push(b'}');
    out
}

fn route(
    options: &mut Options,
    columns: &Columns,
    relation: &Relation,
    tuple: &Tuple,
    position: Position,
    committed_at: PgTimestamp,
) -> std::result::Result<Event, Wrong> {
    let value = columns
        .route_by
        .raw(tuple)
        .ok_or_else(|| (Stage::Route, format!("route.by.field: column \"{}\" is NULL", options.route_by)))?;
    let topic = options.route.topic(&String::from_utf8_lossy(value)).map_err(|why| (Stage::Route, why))?;
    let mut headers = Vec::with_capacity(6 + columns.additional.len());
    if options.envelope.context_headers {
        let context = [
            (header::CONTEXT_CONNECTOR_LOGICAL_NAME, options.envelope.prefix.as_bytes()),
            (header::CONTEXT_TASK_ID, b"0".as_slice()),
            (header::CONTEXT_CONNECTOR_NAME, b"postgresql".as_slice()),
            (header::CONTEXT_RUN_ID, options.envelope.run_id.as_bytes()),
        ];
        headers.extend(context.map(|(name, value)| (name.to_owned(), Some(value.to_vec()))));
    }
    let id = plain(&columns.id, tuple, Stage::Placement)?;
    headers.push(("id".to_owned(), id.clone()));
    let mut partition = None;
    let mut envelope = Vec::new();
    for (place, alias, field) in &columns.additional {
        match place {
            Place::Header => headers.push((alias.clone(), plain(field, tuple, Stage::Placement)?)),
            Place::Envelope => {
                envelope.push(b',');
                json::string(&mut envelope, alias.as_bytes());
                envelope.push(b':');
                written(field, &mut envelope, tuple, Stage::Placement)?;
            }
            Place::Partition => partition = Some(number(field, tuple)?),
        }
    }
    if let Some(field) = &columns.schema_version {
        headers.push((SCHEMA_VERSION.to_owned(), plain(field, tuple, Stage::Placement)?));
    }
    headers.push((header::POSITION.to_owned(), Some(position.to_string().into_bytes())));
    let timestamp = match columns.timestamp.as_ref().and_then(|field| field.raw(tuple)) {
        None => millis(committed_at),
        Some(text) => timestamp::millis(&String::from_utf8_lossy(text)).ok_or_else(|| {
            (
                Stage::Timestamp,
                "table.field.event.timestamp: not a time that Kafka has a number for (from 1970 on, finite)"
                    .to_owned(),
            )
        })?,
    };
    Ok(Event {
        key: key(options, columns, tuple)?,
        value: payload(options, columns, relation, tuple, &envelope)?,
        topic,
        headers,
        timestamp,
        partition,
        position,
        id: id.map(|id| String::from_utf8_lossy(&id).into_owned()),
    })
}

fn key(options: &Options, columns: &Columns, tuple: &Tuple) -> std::result::Result<Option<Vec<u8>>, Wrong> {
    if columns.key.raw(tuple).is_none() {
        return Ok(None);
    }
    match options.key_format {
        Format::String => plain(&columns.key, tuple, Stage::Payload),
        Format::Bytes => Ok(columns.key.raw(tuple).map(<[u8]>::to_vec)),
        Format::Json => {
            let mut out = Vec::new();
            written(&columns.key, &mut out, tuple, Stage::Payload)?;
            Ok(Some(out))
        }
    }
}

/// `envelope`: the members behind the payload, each with a comma before it.
fn payload(
    options: &Options,
    columns: &Columns,
    relation: &Relation,
    tuple: &Tuple,
    envelope: &[u8],
) -> std::result::Result<Option<Vec<u8>>, Wrong> {
    let field = &columns.payload;
    let raw = field.raw(tuple);
    if options.tombstone && raw.is_none_or(|text| text.trim_ascii().is_empty()) {
        return Ok(None);
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

fn expanded(options: &Options, text: &[u8]) -> std::result::Result<Vec<u8>, Wrong> {
    let mut out = Vec::with_capacity(text.len());
    json::compact(&mut out, text, options.nulls == Nulls::Ignore)
        .map_err(|error| (Stage::Payload, format!("table.expand.json.payload: {error}")))?;
    Ok(out)
}

fn unhex(text: &[u8]) -> std::result::Result<Vec<u8>, Wrong> {
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
fn written(field: &Field, out: &mut Vec<u8>, tuple: &Tuple, stage: Stage) -> std::result::Result<(), Wrong> {
    field.writer.json(out, field.value(tuple)).map_err(|error| (stage, error.primary().to_owned()))
}

/// The value as text without quotes: Kafka Connect's StringConverter, and its header converter.
fn plain(field: &Field, tuple: &Tuple, stage: Stage) -> std::result::Result<Option<Vec<u8>>, Wrong> {
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

fn number(field: &Field, tuple: &Tuple) -> std::result::Result<i32, Wrong> {
    let text = field.raw(tuple).map(String::from_utf8_lossy);
    text.and_then(|text| text.parse().ok()).filter(|number: &i32| *number >= 0).ok_or_else(|| {
        (
            Stage::Placement,
            "table.fields.additional.placement: the partition is NULL, negative, or too large".to_owned(),
        )
    })
}

#[cfg(test)]
mod tests {
    use pg::{Lsn, QualifiedName};

    use super::*;
    use crate::change::{RelationColumn, RelationId, ReplicaIdentity};
    use crate::envelope::{self, Values};
    use crate::outbox::{Placement, Route};

    const COLUMNS: [(&str, u32); 6] =
        [("id", 23), ("aggregatetype", 25), ("aggregateid", 25), ("payload", 3802), ("at", 1114), ("p", 23)];

    fn routed(
        change: impl Fn(&mut Options),
        values: [Option<&str>; 6],
    ) -> std::result::Result<Event, Box<DeadLetter>> {
        let mut options = Options::new(envelope::Options::new("p", "d", Values::Postgres));
        change(&mut options);
        let column = |(name, type_id): &(&str, u32)| RelationColumn {
            name: (*name).to_owned(),
            type_id: *type_id,
            type_modifier: -1,
            key: false,
        };
        let relation = Arc::new(Relation {
            id: RelationId(1),
            name: QualifiedName::new("public", "outbox"),
            identity: ReplicaIdentity::Default,
            columns: COLUMNS.iter().map(column).collect(),
        });
        let text =
            |value: Option<&'static str>| value.map_or(Column::Null, |text| Column::Text(text.as_bytes()));
        let values = values.map(|value| value.map(|text| &*Box::leak(text.to_owned().into_boxed_str())));
        let tuple = Tuple::from_columns(&values.map(text));
        let position = Position { commit_lsn: Lsn::new(32), index: 1 };
        Router::new(options, None).row(&relation, &tuple, position, PgTimestamp(0)).unwrap()
    }

    fn value(change: impl Fn(&mut Options), payload: Option<&str>) -> Option<String> {
        let event = routed(change, [Some("1"), Some("Order"), Some("k"), payload, None, None]).unwrap();
        event.value.map(|value| String::from_utf8(value).unwrap())
    }

    #[test]
    fn the_value_s_forms() {
        let json = Some("{\"a\": [1, null], \"n\": null}");
        assert_eq!(value(|_| {}, json).as_deref(), Some(r#""{\"a\": [1, null], \"n\": null}""#));
        assert_eq!(value(|o| o.value_format = Format::String, json).as_deref(), json);
        assert_eq!(value(|o| o.expand = true, json).as_deref(), Some("{\"a\":[1,null]}"));
        let keep = |o: &mut Options| (o.expand, o.nulls) = (true, Nulls::OptionalBytes);
        assert_eq!(value(keep, json).as_deref(), Some("{\"a\":[1,null],\"n\":null}"));
        let envelope = |o: &mut Options| {
            o.expand = true;
            o.placements =
                vec![Placement::parse("id:envelope:n").unwrap(), Placement::parse("at:envelope").unwrap()];
        };
        assert_eq!(
            value(envelope, json).as_deref(),
            Some("{\"payload\":{\"a\":[1,null]},\"n\":1,\"at\":null}")
        );
        assert_eq!(value(|_| {}, None).as_deref(), Some("null"));
        assert_eq!(value(|o| o.value_format = Format::String, None), None);
        assert_eq!(value(|o| o.tombstone = true, None), None);
        assert_eq!(value(|o| o.tombstone = true, Some(" ")), None);
    }

    #[test]
    fn key_time_partition_and_headers() {
        let row = [Some("7"), Some("Order"), Some("k"), Some("{}"), Some("2000-01-01 00:00:01"), Some("3")];
        let event = routed(
            |o| {
                o.timestamp = Some("at".to_owned());
                o.placements = vec![
                    Placement::parse("p:partition").unwrap(),
                    Placement::parse("at:header:when").unwrap(),
                ];
                o.route = Route::new(Route::REGEX, "${routedByValue}").unwrap();
            },
            row,
        )
        .unwrap();
        assert_eq!((&event.topic[..], event.key.as_deref()), ("Order", Some(&b"k"[..])));
        assert_eq!((event.timestamp, event.partition), (946_684_801_000, Some(3)));
        let headers: Vec<_> = event.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(headers, ["id", "when", "walferry.position"]);
        let event = routed(|o| o.key_format = Format::Json, row).unwrap();
        assert_eq!((event.key.as_deref(), event.timestamp), (Some(&b"\"k\""[..]), 946_684_800_000));
    }

    #[test]
    fn a_dead_letter_has_the_row_but_its_payload() {
        let row = [Some("7"), None, Some("k"), Some("x\"y"), None, None];
        let letter = routed(|_| {}, row).unwrap_err();
        assert_eq!((letter.stage, letter.id.as_deref()), (Stage::Route, Some("7")));
        assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(&b"k"[..]), Some(&b"x\"y"[..])));
        let columns = r#"{"id":"7","aggregatetype":null,"aggregateid":"k","at":null,"p":null}"#;
        assert_eq!(letter.row.as_deref(), Some(columns.as_bytes()));
        let partition = |o: &mut Options| o.placements = vec![Placement::parse("p:partition").unwrap()];
        for p in [None, Some("-1"), Some("9999999999")] {
            let letter = routed(partition, [Some("7"), Some("A"), Some("k"), None, None, p]).unwrap_err();
            assert_eq!(letter.stage, Stage::Placement);
        }
        let expand = |o: &mut Options| o.expand = true;
        let letter =
            routed(expand, [Some("7"), Some("A"), Some("k"), Some("secret{"), None, None]).unwrap_err();
        assert!(letter.stage == Stage::Payload && !letter.reason.contains("secret"));
    }
}
