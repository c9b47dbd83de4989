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

use super::golden::Record;
use crate::support::Postgres;

/// As every session of ours.
const SETTINGS: &str =
    "SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET timezone = 'UTC';
    SET bytea_output = hex; SET lc_monetary = 'C'";
/// Ends the stream that is read.
const LAST: &str = "last";

/// What the source has and what its stream brings, to be encoded in any way.
pub struct Capture {
    tables: Vec<TableTypes>,
    rows: Vec<Row>,
    lsn: Lsn,
    events: Vec<Event>,
}

struct Row {
    relation: Arc<Relation>,
    tuple: Tuple,
    first: bool,
    last: bool,
}

impl Capture {
    /// Runs the SQL on a server of its own.
    pub async fn take(via_root: bool) -> Capture {
        let server = Postgres::builder(15).database("golden").start().await;
        let client = server.connect("golden").await;
        for script in [include_str!("../golden/ddl.sql"), include_str!("../golden/data.sql")] {
            execute(&client, script).await;
        }
        Capture::of(&server, "golden", via_root, include_str!("../golden/stream.sql")).await
    }

    /// What a database has now, and what this SQL makes of it.
    pub async fn of(server: &Postgres, database: &str, via_root: bool, stream: &str) -> Capture {
        let client = server.connect(database).await;
        client.batch_execute(SETTINGS).await.unwrap();
        let publication =
            format!("CREATE PUBLICATION p FOR ALL TABLES WITH (publish_via_partition_root = {via_root})");
        execute(&client, &publication).await;
        let params = Params::parse(&server.uri(database)).unwrap();
        let mut slots = ReplicationConnection::connect(&params, "setup").await.unwrap();
        let slot = slots.create_slot("s", false, SlotSnapshot::Nothing, false).await.unwrap();
        slots.close().await;
        let tables = tables(server, database, via_root).await;
        let rows = rows(&client, &tables).await;
        execute(&client, stream).await;
        execute(&client, &format!("SELECT pg_logical_emit_message(true, '{LAST}', '')")).await;
        let mut options =
            stream::Options::new(params, "walferry", "s", vec!["p".into()], slot.consistent_point);
        options.message_prefixes = vec!["pfx".into(), "pfx2".into(), LAST.into()];
        Capture { tables, rows, lsn: slot.consistent_point, events: events(options).await }
    }

    /// Snapshot, stream, and a heartbeat.
    pub fn encode(&self, options: Options) -> Vec<Record> {
        let mut records = Vec::new();
        let mut encoder = Encoder::new(options);
        self.tables.iter().for_each(|table| encoder.describe(table.clone()));
        let of = Snapshot { lsn: self.lsn, taken_at: PgTimestamp(0), xid: Some(1) };
        for (at, row) in self.rows.iter().enumerate() {
            let mark = match row {
                _ if at == 0 => SnapshotMark::First,
                _ if at + 1 == self.rows.len() => SnapshotMark::Last,
                Row { last: true, .. } => SnapshotMark::LastInDataCollection,
                Row { first: true, .. } => SnapshotMark::FirstInDataCollection,
                _ => SnapshotMark::Row,
            };
            let mut out = |message: Message<'_>| records.push(record(message));
            encoder.snapshot_row(&of, mark, &row.relation, &row.tuple, &mut out).unwrap();
        }
        for event in &self.events {
            encoder.event(event, &mut |message| records.push(record(message))).unwrap();
        }
        encoder.heartbeat(self.lsn, &mut |message| records.push(record(message)));
        records
    }
}

/// The tables that the publication streams under their own name, in the order of their names.
async fn tables(server: &Postgres, database: &str, via_root: bool) -> Vec<TableTypes> {
    let not = if via_root { "c.relispartition" } else { "c.relkind = 'p'" };
    let tables = format!(
        "SELECT c.oid FROM pg_class c
         WHERE c.relkind IN ('r', 'p') AND c.relnamespace = 'public'::regnamespace AND NOT {not}"
    );
    let oids: Vec<u32> = server.query(database, &tables).await.iter().map(|row| row.get(0)).collect();
    let params = Params::parse(&server.uri(database)).unwrap();
    let session = Session::connect(&params, Purpose::Query, "walferry").await.unwrap();
    catalog::types(&session, &oids).await.unwrap()
}

/// Statement by statement, as psql does it: each is a transaction of its own.
async fn execute(client: &Client, script: &str) {
    for statement in script.split_inclusive(';') {
        client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// Every row. Values as the output functions write them: a cast to text would cut the padding of char(n).
async fn rows(client: &Client, tables: &[TableTypes]) -> Vec<Row> {
    let mut rows = Vec::new();
    for (at, table) in tables.iter().enumerate() {
        let relation = Arc::new(relation(table, at as u32));
        let answer = client.simple_query(&format!("SELECT * FROM {}", table.name)).await.unwrap();
        let found: Vec<Tuple> =
            answer.iter().filter_map(|message| tuple(message, table.columns.len())).collect();
        let count = found.len();
        rows.extend(found.into_iter().enumerate().map(|(at, tuple)| Row {
            relation: relation.clone(),
            tuple,
            first: at == 0,
            last: at + 1 == count,
        }));
    }
    rows
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
                if matches!(&event, Event::Message { prefix, .. } if **prefix == *LAST) {
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
}
