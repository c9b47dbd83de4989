//! The golden SQL on a real server, as our events.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pg::{Lsn, Params, Purpose, Session};
use pipeline::direct::direct;
use pipeline::envelope::{Encoder, Message, Options, Snapshot, SnapshotMark, TableTypes};
use pipeline::{
    ChangeSource, Column, Durable, Event, PgTimestamp, Relation, RelationColumn, RelationId, Tuple,
};
use reader::catalog;
use reader::replication::{ReplicationConnection, SlotSnapshot};
use reader::stream;
use tokio_postgres::{Client, SimpleQueryMessage};
use tokio_util::sync::CancellationToken;

use super::golden::{Record, mask};
use crate::support::Postgres;

/// As every session of ours.
const SETTINGS: &str =
    "SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET timezone = 'UTC';
    SET bytea_output = hex; SET lc_monetary = 'C'";
/// Ends the stream that is read.
const LAST: &str = "last";

pub struct Capture {
    pub options: Options,
    pub via_root: bool,
}

impl Capture {
    /// Snapshot and stream, masked.
    pub async fn run(self) -> Vec<Record> {
        let server = Postgres::builder(15).database("golden").start().await;
        let client = server.connect("golden").await;
        client.batch_execute(SETTINGS).await.unwrap();
        for script in [include_str!("../golden/ddl.sql"), include_str!("../golden/data.sql")] {
            execute(&client, script).await;
        }
        let via_root = self.via_root;
        execute(
            &client,
            &format!("CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root = {via_root})"),
        )
        .await;
        let params = Params::parse(&server.uri("golden")).unwrap();
        let mut slots = ReplicationConnection::connect(&params, "setup").await.unwrap();
        let slot = slots.create_slot("s", false, SlotSnapshot::Nothing, false).await.unwrap();
        slots.close().await;
        let tables = self.tables(&server).await;
        let mut records = Vec::new();
        let mut encoder = Encoder::new(self.options);
        tables.iter().for_each(|table| encoder.describe(table.clone()));
        snapshot(&client, &mut encoder, &tables, slot.consistent_point, &mut records).await;
        execute(&client, include_str!("../golden/stream.sql")).await;
        execute(&client, &format!("SELECT pg_logical_emit_message(true, '{LAST}', '')")).await;
        let mut options =
            stream::Options::new(params, "walferry", "s", vec!["p".into()], slot.consistent_point);
        options.message_prefixes = vec!["pfx".into(), "pfx2".into(), LAST.into()];
        for event in events(options).await {
            encoder.event(&event, &mut |message| records.push(record(message))).unwrap();
        }
        for record in records.iter_mut().filter(|record| record.topic == "srv.public.t_def") {
            record.value = mask(&record.value, "\"e\":");
        }
        records
    }

    /// The tables that the publication streams under their own name, in the order of their names.
    async fn tables(&self, server: &Postgres) -> Vec<TableTypes> {
        let not = if self.via_root { "c.relispartition" } else { "c.relkind = 'p'" };
        let rows = server
            .query(
                "golden",
                &format!(
                    "SELECT c.oid FROM pg_class c WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT {not}"
                ),
            )
            .await;
        let oids: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
        let params = Params::parse(&server.uri("golden")).unwrap();
        let session = Session::connect(&params, Purpose::Query, "walferry").await.unwrap();
        catalog::types(&session, &oids).await.unwrap()
    }
}

/// Statement by statement, as psql does it: each is a transaction of its own.
async fn execute(client: &Client, script: &str) {
    for statement in script.split_inclusive(';') {
        client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// Every row as an `r` event. Values as the output functions write them: a cast to text would cut the padding of char(n).
async fn snapshot(
    client: &Client,
    encoder: &mut Encoder,
    tables: &[TableTypes],
    lsn: Lsn,
    records: &mut Vec<Record>,
) {
    let mut rows = Vec::new();
    for table in tables {
        let relation = Arc::new(relation(table, rows.len() as u32));
        let answer = client.simple_query(&format!("SELECT * FROM {}", table.name)).await.unwrap();
        let found: Vec<Tuple> =
            answer.iter().filter_map(|message| tuple(message, table.columns.len())).collect();
        let count = found.len();
        rows.extend(
            found.into_iter().enumerate().map(|(at, row)| (relation.clone(), row, at == 0, at + 1 == count)),
        );
    }
    let of = Snapshot { lsn, taken_at: PgTimestamp(0), xid: Some(1) };
    let count = rows.len();
    for (at, (relation, row, first, last)) in rows.into_iter().enumerate() {
        let mark = match (at, first, last) {
            (0, ..) => SnapshotMark::First,
            (at, ..) if at + 1 == count => SnapshotMark::Last,
            (.., true) => SnapshotMark::LastInDataCollection,
            (_, true, _) => SnapshotMark::FirstInDataCollection,
            _ => SnapshotMark::Row,
        };
        encoder
            .snapshot_row(&of, mark, &relation, &row, &mut |message| records.push(record(message)))
            .unwrap();
    }
}

fn relation(table: &TableTypes, id: u32) -> Relation {
    let column = |column: &pipeline::envelope::ColumnType| RelationColumn {
        name: column.name.clone(),
        type_id: column.type_oid,
        type_modifier: column.type_modifier,
        key: table.key.contains(&column.name),
    };
    Relation {
        id: RelationId(u32::MAX - id),
        name: table.name.clone(),
        identity: table.identity,
        columns: table.columns.iter().map(column).collect(),
    }
}

fn tuple(message: &SimpleQueryMessage, width: usize) -> Option<Tuple> {
    let SimpleQueryMessage::Row(row) = message else { return None };
    let value = |at| row.get(at).map_or(Column::Null, |text: &str| Column::Text(text.as_bytes()));
    Some(Tuple::from_columns(&(0..width).map(value).collect::<Vec<_>>()))
}

/// What our reader's stream brings, up to the transaction with the last message.
async fn events(options: stream::Options) -> Vec<Event> {
    let start = Durable { applied: options.start, flushed: options.start };
    let (sink, mut source) = direct(1 << 20, start);
    let cancel = CancellationToken::new();
    let reader = tokio::spawn(stream::run(options, sink, cancel.clone()));
    let mut events = Vec::new();
    let all = async {
        while let Some(chunk) = source.recv().await {
            for event in chunk.events {
                if matches!(&event, Event::Message { prefix, .. } if prefix == LAST) {
                    // Its BEGIN is the event before.
                    events.pop();
                    return;
                }
                events.push(event);
            }
        }
        panic!("the stream has ended");
    };
    tokio::time::timeout(Duration::from_secs(60), all).await.expect("the stream's end within a minute");
    cancel.cancel();
    drop(source);
    let _ = reader.await.unwrap();
    events
}

fn record(message: Message<'_>) -> Record {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let json = |bytes: Option<&[u8]>| bytes.map_or_else(|| "null".to_owned(), text);
    let header = |(name, value): &(&str, &[u8])| {
        // Keys are JSON, everything else is text.
        let value = text(value);
        let value = if value.starts_with('{') { value } else { serde_json::to_string(&value).unwrap() };
        ((*name).to_owned(), value)
    };
    Record {
        topic: message.topic.to_owned(),
        key: json(message.key),
        value: json(message.value),
        headers: message.headers.iter().map(header).collect::<BTreeMap<_, _>>(),
    }
    .masked()
}
