//! With `values = "debezium"` a row is read by its header `walferry.types`, whatever reader and writer know of the table.

use std::sync::Arc;

use super::*;
use crate::change::{Column, OldTuple, Relation, RelationColumn, RelationId, ReplicaIdentity};
use crate::envelope::{ColumnType, Kind, RowEvent};

const NUMERIC_10_2: i32 = (10 << 16 | 2) + 4;
const NUMERIC_10_4: i32 = (10 << 16 | 4) + 4;

/// Name, OID and modifier of a column; `id` and `at` are the key.
type Columns<'a> = &'a [(&'a str, u32, i32)];

const BEFORE: Columns<'static> =
    &[("id", 23, -1), ("at", 1114, 3), ("n", 1700, NUMERIC_10_2), ("d", 1082, -1), ("t", 25, -1)];
/// Two modifiers and a type are others, and there are new columns.
const AFTER: Columns<'static> = &[
    ("id", 23, -1),
    ("at", 1114, 6),
    ("n", 1700, NUMERIC_10_4),
    ("d", 1114, -1),
    ("t", 25, -1),
    ("b", 17, -1),
    ("a", 1231, NUMERIC_10_2),
];
const OLD_ROW: &[&str] = &["1", "2024-02-29 12:00:00.123", "19.90", "2024-02-29", "x"];
const NEW_ROW: &[&str] = &[
    "1",
    "2024-02-29 12:00:00.123456",
    "19.9012",
    "2024-02-29 23:59:59.999999",
    "AQI=",
    "\\x0102",
    "{\"1.50\",NULL}",
];

fn relation(columns: Columns<'_>, full: bool) -> Arc<Relation> {
    let column = |(name, type_id, type_modifier): &(&str, u32, i32)| RelationColumn {
        name: (*name).to_owned(),
        type_id: *type_id,
        type_modifier: *type_modifier,
        key: full || matches!(*name, "id" | "at"),
    };
    Arc::new(Relation {
        id: RelationId(1),
        name: QualifiedName::new("s", "t"),
        identity: if full { ReplicaIdentity::Full } else { ReplicaIdentity::Default },
        columns: columns.iter().map(column).collect(),
    })
}

fn insert(columns: Columns<'_>, texts: &[&str]) -> Change {
    Change::Insert { relation: relation(columns, false), new: row(texts) }
}

/// What a catalogue says of them.
fn described(columns: Columns<'_>) -> TableTypes {
    let column = |(name, type_oid, type_modifier): &(&str, u32, i32)| ColumnType {
        name: (*name).to_owned(),
        type_oid: *type_oid,
        kind: Kind::Base,
        base_name: String::new(),
        base_oid: if *type_oid == 1231 { 1700 } else { *type_oid },
        type_modifier: *type_modifier,
        array: *type_oid == 1231,
        not_null: false,
        default: None,
        computed_default: false,
        labels: Vec::new(),
    };
    TableTypes {
        name: QualifiedName::new("s", "t"),
        key: vec!["id".to_owned(), "at".to_owned()],
        identity: ReplicaIdentity::Default,
        columns: columns.iter().map(column).collect(),
    }
}

fn row(texts: &[&str]) -> Tuple {
    Tuple::from_columns(&texts.iter().map(|text| Column::Text(text.as_bytes())).collect::<Vec<_>>())
}

fn debezium() -> Options {
    Options::new("p", "d", Values::Debezium)
}

fn decoder(types: Option<TableTypes>) -> Decoder {
    let mut decoder = Decoder::new(debezium(), Dialect::Walferry);
    types.into_iter().for_each(|types| decoder.describe(types));
    decoder
}

/// The rows of a transaction as they are sent, without markers and tombstones.
fn rows(types: Option<&TableTypes>, changes: &[Change]) -> Vec<Sent> {
    let mut sent = encode(&debezium(), types, changes);
    sent.retain(|sent| sent.topic == "p.s.t" && sent.value.is_some());
    sent
}

fn event(sent: &Sent, decoder: &mut Decoder) -> RowEvent {
    match sent.decode(decoder).unwrap() {
        Decoded::Change(event) => *event,
        other => panic!("{other:?}"),
    }
}

fn types_header(sent: &Sent) -> Option<&str> {
    let (_, value) = sent.headers.iter().find(|(name, _)| name == header::TYPES)?;
    Some(std::str::from_utf8(value).unwrap())
}

/// Inserts, updates and deletes before and after DDL, keys that change included.
fn changes(full: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for (columns, texts) in [(BEFORE, OLD_ROW), (AFTER, NEW_ROW)] {
        let relation = relation(columns, full);
        let image = |texts: &[&str]| match full {
            true => OldTuple::Full(row(texts)),
            false => {
                let keys = texts.iter().enumerate().map(|(at, text)| match at {
                    0 | 1 => Column::Text(text.as_bytes()),
                    _ => Column::Null,
                });
                OldTuple::Key(Tuple::from_columns(&keys.collect::<Vec<_>>()))
            }
        };
        let mut moved = texts.to_vec();
        moved[1] = "2025-01-01 00:00:00.001";
        let old = full.then(|| Box::new(image(texts)));
        changes.extend([
            Change::Insert { relation: relation.clone(), new: row(texts) },
            Change::Update { relation: relation.clone(), old, new: row(texts) },
            Change::Update {
                relation: relation.clone(),
                old: Some(Box::new(image(texts))),
                new: row(&moved),
            },
            Change::Delete { relation, old: image(&moved) },
        ]);
    }
    changes
}

fn texts_of(tuple: &Tuple) -> Vec<String> {
    let text = |column| match column {
        Column::Text(text) => String::from_utf8(text.to_vec()).unwrap(),
        other => format!("{other:?}"),
    };
    tuple.columns().map(text).collect()
}

/// Every tuple of the events, those of an old row as far as they say something.
fn tuples(events: &[RowEvent]) -> Vec<Vec<String>> {
    let sparse = |old: &OldTuple| -> Vec<String> { texts_of(old.tuple()).into_iter().take(2).collect() };
    let tuples = events.iter().flat_map(|event| match &event.change {
        Change::Insert { new, .. } => vec![texts_of(new)],
        Change::Update { old, new, .. } => old.iter().map(|old| sparse(old)).chain([texts_of(new)]).collect(),
        Change::Delete { old, .. } => vec![sparse(old)],
        other => panic!("{other:?}"),
    });
    tuples.collect()
}

#[test]
fn rows_before_and_behind_ddl_come_back_whoever_has_looked_when() {
    for full in [false, true] {
        let mut expected = None;
        for (read_at, written_at) in [
            (Some(BEFORE), Some(BEFORE)),
            (Some(BEFORE), Some(AFTER)),
            (Some(AFTER), Some(BEFORE)),
            (Some(AFTER), Some(AFTER)),
            (Some(BEFORE), None),
            (Some(AFTER), None),
        ] {
            let sent = rows(read_at.map(described).as_ref(), &changes(full));
            let mut decoder = decoder(written_at.map(described));
            let events: Vec<RowEvent> = sent.iter().map(|sent| event(sent, &mut decoder)).collect();
            let found = tuples(&events);
            for texts in [OLD_ROW, NEW_ROW] {
                assert!(found.contains(&texts_of(&row(texts))), "{found:?}");
            }
            assert_eq!(found, *expected.get_or_insert_with(|| found.clone()));
        }
    }
}

#[test]
fn an_event_of_an_earlier_version_is_read_by_the_description() {
    let mut sent = rows(Some(&described(BEFORE)), &[insert(BEFORE, OLD_ROW)]).remove(0);
    let mut decoder = decoder(Some(described(BEFORE)));
    let with = event(&sent, &mut decoder);
    sent.headers.retain(|(name, _)| name != header::TYPES);
    let without = event(&sent, &mut decoder);
    for event in [with, without] {
        let Change::Insert { new, .. } = event.change else { panic!("no insert") };
        assert_eq!(texts_of(&new), texts_of(&row(OLD_ROW)));
    }
}

#[test]
fn the_header_names_what_json_alone_does_not_say() {
    let header = |columns: Columns<'_>, texts: &[&str]| {
        types_header(&rows(None, &[insert(columns, texts)])[0]).map(str::to_owned)
    };
    assert_eq!(
        header(AFTER, NEW_ROW).as_deref(),
        Some(
            r#"{"at":"timestamp(us)","n":"decimal(4)","d":"timestamp(us)","b":"bytea(base64)","a":"decimal(2)[]"}"#
        )
    );
    assert_eq!(
        header(&[("id", 23, -1), ("a \"b\"", 17, -1)], &["1", "\\x"]).as_deref(),
        Some(r#"{"a \"b\"":"bytea(base64)"}"#)
    );
    assert_eq!(header(&[("id", 23, -1), ("t", 25, -1)], &["1", "x"]).as_deref(), Some("{}"));
    // Without rows there is nothing to read, and PostgreSQL's own text needs no header.
    let truncate =
        Change::Truncate { relations: vec![relation(AFTER, false)], cascade: false, restart_identity: false };
    assert_eq!(types_header(&rows(None, &[truncate])[0]), None);
    let postgres = encode(&Options::new("p", "d", Values::Postgres), None, &[insert(AFTER, NEW_ROW)]);
    assert!(postgres.iter().all(|sent| types_header(sent).is_none()));
}

#[test]
fn a_version_is_made_once_for_each_header() {
    let mut altered = BEFORE.to_vec();
    altered[2].2 = NUMERIC_10_4;
    let mut texts = OLD_ROW.to_vec();
    texts[2] = "19.9012";
    let mut decoder = decoder(None);
    let sent = rows(
        None,
        &[
            insert(BEFORE, OLD_ROW),
            insert(BEFORE, OLD_ROW),
            insert(&altered, &texts),
            insert(&altered, &texts),
        ],
    );
    let relations: Vec<Arc<Relation>> = sent
        .iter()
        .map(|sent| match event(sent, &mut decoder).change {
            Change::Insert { relation, new } => {
                let altered = types_header(sent).unwrap().contains("decimal(4)");
                assert_eq!(texts_of(&new)[2], if altered { "19.9012" } else { "19.90" });
                relation
            }
            other => panic!("{other:?}"),
        })
        .collect();
    let same = |a: usize, b: usize| Arc::ptr_eq(&relations[a], &relations[b]);
    assert!(same(0, 1) && !same(1, 2) && same(2, 3));
}

/// Debezium's own connector writes no such header; what stands there is not ours.
#[test]
fn events_of_debezium_are_read_by_the_description_alone() {
    let mut sent = rows(Some(&described(BEFORE)), &[insert(BEFORE, OLD_ROW)]).remove(0);
    sent.headers.retain(|(name, _)| name != header::TYPES);
    sent.headers.push((header::TYPES.to_owned(), b"{}".to_vec()));
    let mut decoder = Decoder::new(debezium(), Dialect::Debezium);
    decoder.describe(described(BEFORE));
    let Change::Insert { new, .. } = event(&sent, &mut decoder).change else { panic!("no insert") };
    assert_eq!(texts_of(&new), texts_of(&row(OLD_ROW)));
}
