//! A row of an outbox table as a message.

use std::sync::Arc;

use pg::Result;

use crate::change::{Column, PgTimestamp, Relation, Tuple};
use crate::envelope::{Position, TableTypes, header};

use super::columns::{Columns, Field};
use super::event::{DeadLetter, Event, Stage};
use super::json;
use super::options::Options;
use super::placement::{ID, Place};
use super::timestamp;
use super::value::{key, payload, plain, written};

/// Header with the value of `table.field.event.schema.version`.
const SCHEMA_VERSION: &str = "walferry.schema.version";

/// Routes the rows of one outbox table.
#[derive(Clone, Debug)]
pub struct Router {
    options: Options,
    types: Option<TableTypes>,
    known: Option<(Arc<Relation>, Columns)>,
}

/// What is wrong with an event, and where.
pub(super) type Wrong = (Stage, String);

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
    headers.push((ID.to_owned(), id.clone()));
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
mod tests;
