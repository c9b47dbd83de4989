//! A dead letter routed again, with the options of now.

use std::sync::Arc;

use pg::Result;

use crate::change::{Column, PgTimestamp, Relation, RelationColumn, RelationId, Tuple};
use crate::envelope::{Position, TableTypes};

use super::event::{DeadLetter, Event};
use super::json;
use super::row::Router;

/// Milliseconds since 1970 as a commit's time.
fn committed_at(millis: i64) -> PgTimestamp {
    const EPOCH_2000: i64 = 946_684_800_000;
    PgTimestamp((millis - EPOCH_2000) * 1000)
}

impl Router {
    /// The row that a letter was made of: `row` are its columns but the payload, `payload` is the letter's value. A column that the table
    /// has got since is NULL.
    ///
    /// # Errors
    /// As [`Router::row`].
    pub fn replay_row(
        &mut self,
        table: &TableTypes,
        row: &[u8],
        payload: Option<&[u8]>,
        position: Position,
        timestamp: i64,
    ) -> Result<std::result::Result<Event, Box<DeadLetter>>> {
        let members = json::members(row)
            .map_err(|error| pg::Error::failed("OUTBOX_LETTER", format!("the letter's row: {error}")))?;
        let texts: Vec<(Vec<u8>, Option<Vec<u8>>)> = members
            .iter()
            .map(|(name, value)| {
                (json::text(&[b"\"", *name, b"\""].concat()).unwrap_or_default(), json::text(value))
            })
            .collect();
        let missing = |name: &str| !texts.iter().any(|(found, _)| found == name.as_bytes());
        // The payload's column is the one that was left out, under the name that it had then or has now.
        let payload_column = self.options().payload.clone();
        let columns: Vec<Column<'_>> = table
            .columns
            .iter()
            .map(|column| {
                if missing(&column.name) {
                    return match payload {
                        Some(text) if column.name == payload_column => Column::Text(text),
                        _ => Column::Null,
                    };
                }
                let found = texts.iter().find(|(name, _)| name == column.name.as_bytes());
                found.and_then(|(_, text)| text.as_deref()).map_or(Column::Null, Column::Text)
            })
            .collect();
        let relation = Relation {
            id: RelationId(0),
            name: table.name.clone(),
            identity: table.identity,
            columns: table
                .columns
                .iter()
                .map(|column| RelationColumn {
                    name: column.name.clone(),
                    type_id: column.type_oid,
                    type_modifier: column.type_modifier,
                    key: false,
                })
                .collect(),
        };
        self.row(&Arc::new(relation), &Tuple::from_columns(&columns), position, committed_at(timestamp))
    }

    /// The logical message that a letter was made of.
    pub fn replay_message(
        &mut self,
        prefix: &str,
        content: &[u8],
        position: Position,
        timestamp: i64,
    ) -> std::result::Result<Event, Box<DeadLetter>> {
        self.message(prefix, content, position, committed_at(timestamp))
    }
}
