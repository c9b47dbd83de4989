//! Debezium's captured events, decoded: the changes that the source made, in text that PostgreSQL reads as the source's values.

use pg::{Params, Purpose, Session};
use pipeline::envelope::{ColumnType, Decoded, Decoder, Dialect, Moved, Options, Record, TableTypes};
use pipeline::{Change, Column, Relation, Tuple};
use reader::catalog;
use tokio_postgres::{Client, SimpleQueryMessage};

use super::{golden, options};
use crate::support::Postgres;

/// Where a captured value is not the row's: Debezium has lost it.
const LOST: &[(&str, &str)] = &[
    ("t_arr", "da"),
    ("t_arr", "i2d"),
    ("t_arr", "ia"),
    ("t_time", "d_inf"),
    ("t_time", "d_bc"),
    ("t_def", "a"),
    ("t_def", "b"),
    ("t_def", "e"),
    ("t_time", "iv"),
    ("t_time", "iv_neg"),
    ("t_time", "ttz"),
    ("t_time", "ttz3"),
    ("t_bit", "bv"),
];

struct Target {
    client: Client,
    types: Vec<TableTypes>,
}

impl Target {
    /// The tables after the whole of the SQL, of which the columns are described.
    async fn new(server: &Postgres) -> Target {
        let client = server.connect("golden").await;
        let sql = [include_str!("../golden/ddl.sql"), include_str!("../golden/data.sql")].concat();
        client.batch_execute(&sql).await.unwrap();
        let rows = client
            .query("SELECT oid FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace", &[])
            .await
            .unwrap();
        let oids: Vec<u32> = rows.iter().map(|row| row.get(0)).collect();
        let params = Params::parse(&server.uri("golden")).unwrap();
        let session = Session::connect(&params, Purpose::Query, "walferry").await.unwrap();
        let types = catalog::types(&session, &oids).await.unwrap();
        Target { client, types }
    }

    /// How many rows of the table have these values, as their types understand them.
    async fn count(&self, relation: &Relation, row: &Tuple) -> usize {
        let conditions: Vec<String> = relation
            .columns
            .iter()
            .zip(row.columns())
            .filter(|(column, _)| !LOST.contains(&(&relation.name.name, &column.name)))
            .map(|(column, value)| {
                let name = pg::quote_ident(&column.name);
                let types = self.types.iter().find(|types| types.name == relation.name).unwrap();
                let described = types.column(&column.name).unwrap();
                match value {
                    Column::Null => format!("{name} IS NULL"),
                    Column::Text(text) => {
                        let literal = pg::quote_literal(std::str::from_utf8(text).unwrap());
                        // The type's own input reads the text, its output says what it understood.
                        format!("{name}::text = ({literal}::{})::text", cast(described))
                    }
                    other => panic!("{other:?}"),
                }
            })
            .collect();
        let sql = format!("SELECT 1 FROM {} WHERE {}", relation.name, conditions.join(" AND "));
        let rows = self.client.simple_query(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        rows.iter().filter(|row| matches!(row, SimpleQueryMessage::Row(_))).count()
    }
}

fn cast(column: &ColumnType) -> String {
    // char(n) is known to SQL by another name than "char".
    let base = pg::quote_ident(&column.base_name);
    if column.array { format!("{base}[]") } else { base }
}

fn decoded(target: &Target, options: Options, lines: &str) -> Vec<Decoded> {
    let mut decoder = Decoder::new(options, Dialect::Debezium);
    target.types.iter().for_each(|types| decoder.describe(types.clone()));
    let mut all = Vec::new();
    for (offset, line) in lines.lines().enumerate() {
        let captured = golden::line(line);
        let headers: Vec<(&str, &[u8])> =
            captured.headers.iter().map(|(name, value)| (&name[..], value.as_bytes())).collect();
        let record = Record {
            topic: &captured.topic,
            partition: 0,
            offset: offset as i64,
            key: some(&captured.key),
            value: some(&captured.value),
            headers: &headers,
        };
        all.push(decoder.decode(&record).unwrap());
    }
    all
}

/// The bytes, if they are not those of null.
fn some(text: &str) -> Option<&[u8]> {
    Some(text.as_bytes()).filter(|bytes| *bytes != b"null")
}

#[tokio::test]
async fn snapshot_rows_of_debezium_are_the_source_s_rows() {
    let server = Postgres::builder(15).database("golden").start().await;
    let target = Target::new(&server).await;
    let events = decoded(&target, options(), include_str!("../golden/default.jsonl"));
    let mut rows = 0;
    for event in &events {
        let Decoded::Change(event) = event else { continue };
        if !event.snapshot || event.transaction.is_some() {
            continue;
        }
        let Change::Insert { relation, new } = &event.change else { panic!("{:?}", event.change) };
        assert_eq!(target.count(relation, new).await, 1, "{} {:?}", relation.name, new.columns().next());
        rows += 1;
    }
    assert_eq!(rows, 30);
}

#[tokio::test]
async fn changes_of_debezium_are_the_source_s_changes() {
    let server = Postgres::builder(15).database("golden").start().await;
    let target = Target::new(&server).await;
    let events = decoded(&target, options(), include_str!("../golden/default.jsonl"));
    let of = |table: &str| -> Vec<_> {
        events
            .iter()
            .filter_map(|event| match event {
                Decoded::Change(event) if !event.snapshot => Some(&**event),
                _ => None,
            })
            .filter(|event| match &event.change {
                Change::Truncate { relations, .. } => relations[0].name.name == table,
                Change::Insert { relation, .. }
                | Change::Update { relation, .. }
                | Change::Delete { relation, .. } => relation.name.name == table,
            })
            .collect()
    };
    let kinds = |table: &str| -> Vec<(char, Moved)> {
        of(table)
            .iter()
            .map(|event| {
                let kind = match event.change {
                    Change::Insert { .. } => 'c',
                    Change::Update { .. } => 'u',
                    Change::Delete { .. } => 'd',
                    Change::Truncate { .. } => 't',
                };
                (kind, event.moved)
            })
            .collect()
    };
    let no = Moved::No;
    assert_eq!(kinds("t_nn"), [('u', no), ('d', no), ('c', no)]);
    assert_eq!(kinds("t_toast"), [('u', no), ('u', no), ('d', Moved::Away), ('u', Moved::Here), ('d', no)]);
    let toast = of("t_toast");
    let Change::Update { new, .. } = &toast[1].change else { panic!() };
    let values: Vec<Column<'_>> = new.columns().collect();
    assert_eq!(values[..3], [Column::Text(b"1"), Column::Text(b"3"), Column::Null]);
    assert_eq!(values[3..], [Column::Unchanged; 3]);
    let Change::Update { old: Some(old), .. } = &toast[3].change else { panic!() };
    assert_eq!(old.tuple().columns().next(), Some(Column::Text(b"1")));
    let kinds_of_full: String = kinds("t_full").iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds_of_full, "cududtcuc");
    // BEGIN and END match in number, and END counts what came.
    let begins = events.iter().filter(|event| matches!(event, Decoded::Begin(_))).count();
    let ends: u64 =
        events.iter().map(|event| if let Decoded::End(end) = event { end.events } else { 0 }).sum();
    let in_transactions = events
        .iter()
        .filter(|event| match event {
            Decoded::Change(event) => event.transaction.is_some(),
            Decoded::Message(message) => message.transaction.is_some(),
            _ => false,
        })
        .count();
    assert_eq!((begins, ends), (23, in_transactions as u64));
}
