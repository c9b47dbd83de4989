//! The rows that are there when the slot is made, published once (`outbox run --snapshot`).
//!
//! ```text
//! temporary slot, its snapshot ─► rows ─► Kafka has them all ─► the run's slot, copied from the temporary one: it begins at the same point
//! ```
//!
//! Cut short anywhere, the temporary slot is gone and the next start begins anew: the run's own slot says that all rows were published. So it
//! is where a table was rewritten after the slot was made, which would read as empty.

use std::sync::Arc;

use pg::{Error, Result, Session};
use pipeline::{
    Change, ChangeSink, Chunk, Column, Event, PgTimestamp, Relation, RelationColumn, RelationId, Tuple,
};
use reader::slot::ExportedSlot;
use reader::snapshot::expect_same_table;
use tokio_postgres::SimpleQueryMessage;

use super::Context;
use super::plan::{Plan, Table};
use super::stream;

/// Rows fetched at a time.
const FETCH: usize = 1000;

/// Sends every row that the slot's snapshot shows; returns when Kafka has them.
///
/// # Errors
/// Of the source, or of Kafka.
pub async fn publish(context: &Context, plan: &Plan, session: &Session, made: &ExportedSlot) -> Result<u64> {
    let (mut sink, producer) = stream::open(context, plan, pg::Lsn::ZERO)?;
    let at: i64 = session
        .query_one(
            "SELECT (extract(epoch FROM pg_catalog.transaction_timestamp()) * 1000000)::int8 - 946684800000000",
            &[],
        )
        .await?
        .get(0);
    let committed_at = PgTimestamp(at);
    let mut chunk = Chunk::default();
    chunk.push(Event::Begin { commit_lsn: made.consistent_point, committed_at, xid: 0 });
    sink.send(std::mem::take(&mut chunk)).await?;
    let mut count = 0;
    for table in &plan.tables {
        let relation = Arc::new(relation(table));
        let columns: Vec<String> =
            relation.columns.iter().map(|column| pg::quote_ident(&column.name)).collect();
        let order = table
            .options
            .timestamp
            .as_deref()
            .map_or_else(String::new, |column| format!(" ORDER BY {}", pg::quote_ident(column)));
        let declare = format!(
            "DECLARE rows NO SCROLL CURSOR FOR SELECT {} FROM {}{order}",
            columns.join(", "),
            table.name
        );
        fail::fail_point!("outbox-snapshot-table");
        session.batch_execute(&declare).await?;
        // Nobody has held its lock until now, and a row that was sent can't be taken back.
        expect_same_table(session, &table.name, table.partitioned)
            .await
            .map_err(|error| error.context("source"))?;
        loop {
            let answer = session.simple_query(&format!("FETCH {FETCH} FROM rows")).await?;
            let rows: Vec<Tuple> =
                answer.iter().filter_map(|message| tuple(message, columns.len())).collect();
            if rows.is_empty() {
                break;
            }
            count += rows.len() as u64;
            for new in rows {
                chunk.push(Event::Change(Change::Insert { relation: relation.clone(), new }));
            }
            if let Some(error) = producer.failure() {
                return Err(error);
            }
            tokio::select! {
                sent = sink.send(std::mem::take(&mut chunk)) => sent?,
                () = context.cancel.cancelled() => return Err(Error::failed("INTERRUPTED", "interrupted")),
            }
        }
        session.batch_execute("CLOSE rows").await?;
    }
    let end_lsn = made.consistent_point;
    chunk.push(Event::Commit { commit_lsn: end_lsn, end_lsn, committed_at });
    sink.send(chunk).await?;
    let mut durable = sink.durable();
    let delivered = tokio::select! {
        delivered = durable.wait_for(|durable| durable.flushed >= end_lsn) => delivered.is_ok(),
        () = context.cancel.cancelled() => return Err(Error::failed("INTERRUPTED", "interrupted")),
    };
    let failure = producer.failure();
    producer.close().await;
    match failure {
        Some(error) => Err(error),
        None if delivered => Ok(count),
        None => Err(Error::connection("Kafka: the producer has ended")),
    }
}

fn relation(table: &Table) -> Relation {
    let column = |column: &pipeline::envelope::ColumnType| RelationColumn {
        name: column.name.clone(),
        type_id: column.type_oid,
        type_modifier: column.type_modifier,
        key: table.types.key.contains(&column.name),
    };
    Relation {
        id: RelationId(table.oid),
        name: table.name.clone(),
        identity: table.types.identity,
        columns: table.types.columns.iter().map(column).collect(),
    }
}

fn tuple(message: &SimpleQueryMessage, width: usize) -> Option<Tuple> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let value = |at| row.get(at).map_or(Column::Null, |text: &str| Column::Text(text.as_bytes()));
    Some(Tuple::from_columns(&(0..width).map(value).collect::<Vec<_>>()))
}
