//! `read --snapshot`: the rows that the tables hold, as `r` events, before the stream.
//!
//! ```text
//! slot (its own, just made, or a temporary one): snapshot at S ─► SELECT, table by table ─► r events at S ─► heartbeat: written at S
//! ```
//!
//! With the slot's own snapshot the stream goes on from exactly there. With a temporary slot's, events with a commit LSN before S repeat what
//! the rows have already: the header `walferry.position` tells them apart. Cut short, it begins again: some rows are then there twice.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::TryStreamExt;
use kafka::{Announcement, Rows, Written};
use pg::{Error, Lsn, Purpose, Result, Session, quote_ident, quote_literal};
use pipeline::envelope::{Encoder, Snapshot, SnapshotMark, TableTypes};
use pipeline::{
    Column, ColumnSpec, PgTimestamp, Relation, RelationColumn, RelationId, ReplicaIdentity, TableSpec, Tuple,
};
use reader::catalog::PublicationState;
use reader::slot::{self, CreateOptions, ExportedSlot};
use reader::snapshot::{Keeper, KeeperOptions, REWRITTEN, expect_same_table};
use tokio::sync::watch;
use tokio_postgres::SimpleQueryMessage;

use super::Reading;

/// How often a table may be rewritten while the snapshot is taken.
const REWRITES: u32 = 5;

/// What the rows are written with.
pub struct Carrier<'a> {
    pub options: &'a kafka::Options,
    /// Knows the tables.
    pub encoder: Encoder,
    /// For the announcement that it begins.
    pub plain: Encoder,
    pub partitions: HashMap<String, usize>,
    /// Where the stream goes on afterwards.
    pub from: Lsn,
}

/// The tables with their generated columns, which Debezium's rows of a snapshot have, and its stream (before 18) has not.
pub fn with_generated(
    reading: &Reading,
    mut tables: Vec<TableSpec>,
    types: &[TableTypes],
    publications: &PublicationState,
) -> Vec<TableSpec> {
    for table in &mut tables {
        let listed = publications.table(&table.name).is_some_and(|published| published.columns.is_some());
        let Some(types) = types.iter().find(|types| types.name == table.name).filter(|_| !listed) else {
            continue;
        };
        for (place, column) in types.columns.iter().enumerate() {
            let there = table.columns.iter().any(|known| known.name == column.name);
            if !there && reading.capture.column(&table.name, &column.name) {
                let before = &types.columns[..place];
                let at =
                    table.columns.iter().filter(|known| before.iter().any(|c| c.name == known.name)).count();
                table.columns.insert(
                    at,
                    ColumnSpec {
                        name: column.name.clone(),
                        type_schema: String::new(),
                        type_name: column.base_name.clone(),
                        formatted: String::new(),
                        type_oid: column.type_oid,
                        type_modifier: column.type_modifier,
                        not_null: column.not_null,
                    },
                );
            }
        }
    }
    tables
}

/// Writes all rows; afterwards `announcement` says so, here and in the topics.
pub async fn write(
    reading: &Reading,
    tables: &[TableSpec],
    announcement: &mut Announcement,
    exported: Option<ExportedSlot>,
    carrier: Carrier<'_>,
) -> Result<()> {
    let Carrier { options, encoder, plain, partitions, from } = carrier;
    if announcement.snapshot == Some(Written::Begun) {
        reading.reporter.note(
            "an earlier snapshot was interrupted: it is written anew from its beginning, so some rows come twice",
        );
    }
    announcement.snapshot = Some(Written::Begun);
    announcement.send(options, plain, from).await?;
    let streamed: Vec<TableSpec> = tables.iter().filter(|table| table.streamed).cloned().collect();
    let (keeper, lsn) = keep(reading, &streamed, exported).await?;
    reading.reporter.note(format!("writes the snapshot at {lsn} of {} table(s) as events", streamed.len()));
    let mut snapshot = Snapshot { lsn, taken_at: PgTimestamp(0), xid: None };
    let session = join(reading, &keeper, &mut snapshot).await?;
    let rows = Rows::start(options, encoder, partitions)?;
    let mut sending = Sending { rows, snapshot, held: None, sent: 0 };
    for table in &streamed {
        one(&session, table, &mut sending).await?;
    }
    sending.end().await?;
    announcement.snapshot = Some(Written::At(lsn));
    let Sending { rows, sent, .. } = sending;
    rows.finish(announcement, from).await?;
    reading.reporter.note(format!("the snapshot is written: {sent} row(s)"));
    Ok(())
}

/// A snapshot under which no table reads as empty that was rewritten meanwhile.
async fn keep(
    reading: &Reading,
    tables: &[TableSpec],
    mut exported: Option<ExportedSlot>,
) -> Result<(Keeper, Lsn)> {
    let (blockers, _told) = watch::channel(Vec::new());
    let keeping = KeeperOptions {
        application_name: format!("{} (keeper)", reading.name),
        yield_to_ddl: false,
        blockers,
    };
    let mut last = Error::stop(REWRITTEN, "no snapshot could be taken");
    for _ in 0..REWRITES {
        let made = match exported.take() {
            Some(made) => made,
            None => {
                let create = CreateOptions {
                    application_name: reading.name.clone(),
                    wait: reading.settings.slot.wait,
                    failover: false,
                };
                // Not by the writer's name, which may have the same process id on its host.
                let name = format!("{}_read", reading.name);
                slot::create_temporary(&reading.source, &name, &create, |_| {}).await?
            }
        };
        match Keeper::open(&reading.source, &made.snapshot, tables, &keeping).await {
            Ok(keeper) => return Ok((keeper, made.consistent_point)),
            Err(error) if error.code() == REWRITTEN => last = error,
            Err(error) => return Err(error.context("source")),
        }
    }
    Err(last)
}

/// A session that sees it.
async fn join(reading: &Reading, keeper: &Keeper, snapshot: &mut Snapshot) -> Result<Session> {
    let name = format!("{} (snapshot)", reading.name);
    let session = Session::connect(&reading.source, Purpose::SourceSnapshot, &name).await?;
    session
        .batch_execute(&format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            quote_literal(keeper.snapshot())
        ))
        .await?;
    let row = session
        .query_one(
            "SELECT (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::int8 - 946684800000000,
                    pg_catalog.txid_snapshot_xmin(pg_catalog.txid_current_snapshot()) % 4294967296",
            &[],
        )
        .await?;
    snapshot.taken_at = PgTimestamp(row.get(0));
    snapshot.xid = u32::try_from(row.get::<_, i64>(1)).ok();
    Ok(session)
}

/// Reads one table, as the server sends it: nothing but a row is held.
async fn one(session: &Session, table: &TableSpec, sending: &mut Sending) -> Result<()> {
    let full = table.identity == ReplicaIdentity::Full;
    let columns = table.columns.iter().map(|column| RelationColumn {
        name: column.name.clone(),
        type_id: column.type_oid,
        type_modifier: column.type_modifier,
        key: full || table.key.contains(&column.name),
    });
    let relation = Arc::new(Relation {
        id: RelationId(table.oid),
        name: table.name.clone(),
        identity: table.identity,
        columns: columns.collect(),
    });
    let columns: Vec<String> = table.columns.iter().map(|column| quote_ident(&column.name)).collect();
    let filter = table.filter.as_ref().map_or_else(String::new, |filter| format!(" WHERE ({filter})"));
    let sql = format!("SELECT {} FROM {}{filter}", columns.join(", "), table.from_clause());
    let rows = session.simple_query_raw(&sql).await?;
    let mut rows = std::pin::pin!(rows);
    let mut first = true;
    while let Some(message) = rows.try_next().await? {
        let SimpleQueryMessage::Row(row) = message else { continue };
        let values: Vec<Column<'_>> = (0..row.len())
            .map(|at| row.get(at).map_or(Column::Null, |text| Column::Text(text.as_bytes())))
            .collect();
        sending.row(&relation, Tuple::from_columns(&values), std::mem::take(&mut first)).await?;
    }
    expect_same_table(session, &table.name, table.partitioned).await.map_err(|error| error.context("source"))
}

/// Holds one row back, which may be the last one.
struct Sending {
    rows: Rows,
    snapshot: Snapshot,
    held: Option<Held>,
    sent: u64,
}

struct Held {
    relation: Arc<Relation>,
    row: Tuple,
    /// Of its table.
    first: bool,
}

impl Sending {
    async fn row(&mut self, relation: &Arc<Relation>, row: Tuple, first: bool) -> Result<()> {
        let held = self.held.replace(Held { relation: relation.clone(), row, first });
        let Some(before) = held else { return Ok(()) };
        let mark = match (self.sent == 0, first, before.first) {
            (true, ..) => SnapshotMark::First,
            (_, true, _) => SnapshotMark::LastInDataCollection,
            (_, _, true) => SnapshotMark::FirstInDataCollection,
            _ => SnapshotMark::Row,
        };
        self.send(before, mark).await
    }

    async fn end(&mut self) -> Result<()> {
        match self.held.take() {
            Some(last) => self.send(last, SnapshotMark::Last).await,
            None => Ok(()),
        }
    }

    async fn send(&mut self, held: Held, mark: SnapshotMark) -> Result<()> {
        fail::fail_point!("snapshot-row");
        self.sent += 1;
        self.rows.send(&self.snapshot, mark, &held.relation, &held.row).await
    }
}
