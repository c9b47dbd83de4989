//! What the encoder writes, the decoder reads back.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::change::{Column, OldTuple, Relation, RelationColumn, RelationId, ReplicaIdentity};
use crate::envelope::{Moved, Position};

/// One value of a row, owned.
#[derive(Clone, Debug)]
enum Cell {
    Null,
    Unchanged,
    Text(String),
}

impl Cell {
    fn column(&self) -> Column<'_> {
        match self {
            Cell::Null => Column::Null,
            Cell::Unchanged => Column::Unchanged,
            Cell::Text(text) => Column::Text(text.as_bytes()),
        }
    }
}

fn tuple(cells: &[Cell]) -> Tuple {
    Tuple::from_columns(&cells.iter().map(Cell::column).collect::<Vec<_>>())
}

/// OID and a text that such a type writes.
fn value(type_id: u32) -> BoxedStrategy<String> {
    match type_id {
        16 => prop_oneof![Just("t".to_owned()), Just("f".to_owned())].boxed(),
        20 => any::<i64>().prop_map(|value| value.to_string()).boxed(),
        23 => any::<i32>().prop_map(|value| value.to_string()).boxed(),
        701 => prop_oneof![
            any::<f64>().prop_map(|value| if value.is_finite() {
                format!("{value:e}")
            } else {
                "0".to_owned()
            }),
            prop::sample::select(vec!["NaN", "Infinity", "-Infinity", "-0", "1e+300", "1e-10", "0.1"])
                .prop_map(str::to_owned),
        ]
        .boxed(),
        _ => prop_oneof![
            "[^\\x00]{0,12}".boxed(),
            prop::sample::select(vec![
                "__debezium_unavailable_value",
                "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==",
                "\\xdeadbeef",
                "{\"a,b\",NULL,\"NULL\"}",
                "[0:1]={1,2}",
                "0044-03-15 BC",
                "24:00:00",
                "null",
                "\"",
                "\u{2028}\u{1}\u{7f}",
            ])
            .prop_map(str::to_owned),
        ]
        .boxed(),
    }
}

#[derive(Clone, Debug)]
struct Case {
    relation: Arc<Relation>,
    old: Vec<Cell>,
    new: Vec<Cell>,
}

fn case() -> impl Strategy<Value = Case> {
    let columns = prop::collection::vec(
        (prop::sample::select(vec![16, 20, 23, 25, 17, 701, 1700]), "[^\\x00]{0,6}"),
        1..6,
    );
    (columns, 0..3_usize).prop_flat_map(|(columns, identity)| {
        let identity = [ReplicaIdentity::Default, ReplicaIdentity::Full, ReplicaIdentity::Index][identity];
        let relation = Arc::new(Relation {
            id: RelationId(9),
            name: QualifiedName::new("s", "t"),
            identity,
            columns: columns
                .iter()
                .enumerate()
                .map(|(at, (type_id, name))| RelationColumn {
                    name: format!("{at}{name}"),
                    type_id: *type_id,
                    type_modifier: -1,
                    key: at == 0 || identity == ReplicaIdentity::Full,
                })
                .collect(),
        });
        let cell = |type_id: u32, at: usize, unchanged: bool| {
            let text = value(type_id).prop_map(Cell::Text);
            match (at, unchanged) {
                (0, _) => text.boxed(),
                (_, false) => prop_oneof![4 => text, 1 => Just(Cell::Null)].boxed(),
                (_, true) => {
                    prop_oneof![4 => text, 1 => Just(Cell::Null), 1 => Just(Cell::Unchanged)].boxed()
                }
            }
        };
        let row = |unchanged: bool| {
            columns
                .iter()
                .enumerate()
                .map(|(at, (type_id, _))| cell(*type_id, at, unchanged))
                .collect::<Vec<_>>()
        };
        (Just(relation), row(false), row(identity != ReplicaIdentity::Full))
            .prop_map(|(relation, old, new)| Case { relation, old, new })
    })
}

/// The row events of a transaction, decoded; checks the markers.
fn events(options: &Options, changes: &[Change]) -> Vec<crate::envelope::RowEvent> {
    let mut decoder = Decoder::new(options.clone(), Dialect::Walferry);
    let sent = encode(options, None, changes);
    let decoded: Vec<Decoded> = sent.iter().map(|sent| sent.decode(&mut decoder).unwrap()).collect();
    let (Decoded::Begin(begin), Decoded::End(end)) = (decoded[0].clone(), decoded[decoded.len() - 1].clone())
    else {
        panic!("no markers: {decoded:?}");
    };
    assert_eq!(begin, end.marker);
    assert_eq!(
        (begin.xid, begin.commit_lsn, begin.committed_at),
        (Some(5), Lsn::new(0x1_0000_0020), PgTimestamp(1_234_567))
    );
    assert_eq!(end.end_lsn, Some(Lsn::new(0x1_0000_0030)));
    let events: Vec<_> = decoded
        .into_iter()
        .filter_map(|decoded| match decoded {
            Decoded::Change(event) => Some(*event),
            _ => None,
        })
        .collect();
    assert_eq!(end.events, events.len() as u64);
    assert_eq!(end.collections, [("s.t".to_owned(), end.events)]);
    for (at, event) in events.iter().enumerate() {
        let index = at as u64 + 1;
        assert_eq!(event.position, Position { commit_lsn: Lsn::new(0x1_0000_0020), index });
        let place = event.transaction.as_ref().unwrap();
        assert_eq!(
            (&place.id[..], place.total_order, place.data_collection_order),
            ("5:4294967328", index, index)
        );
        assert_eq!((event.xid, event.epoch, event.committed_at), (Some(5), Some(0), PgTimestamp(1_234_567)));
    }
    events
}

fn same_columns(a: &Relation, b: &Relation) -> bool {
    let names =
        |relation: &Relation| relation.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
    names(a) == names(b) && a.name == b.name
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_change_comes_back(case in case(), schemas in any::<bool>()) {
        let Case { relation, old, new } = case;
        let full = relation.identity == ReplicaIdentity::Full;
        let mut options = Options::new("p", "d", Values::Postgres);
        options.schemas = schemas;
        let key_only: Vec<Cell> = old
            .iter()
            .zip(&relation.columns)
            .map(|(cell, column)| if column.key { cell.clone() } else { Cell::Null })
            .collect();
        let image = if full { OldTuple::Full(tuple(&old)) } else { OldTuple::Key(tuple(&key_only)) };
        let insert = Change::Insert { relation: relation.clone(), new: tuple(&old) };
        let plain = Change::Update { relation: relation.clone(), old: None, new: tuple(&new) };
        let earlier = Some(Box::new(image.clone()));
        let moved = Change::Update { relation: relation.clone(), old: earlier, new: tuple(&new) };
        let delete = Change::Delete { relation: relation.clone(), old: image.clone() };
        let back = events(&options, &[insert, plain, moved, delete]);
        let changed = !full && format!("{:?}", old[0]) != format!("{:?}", new[0]);
        prop_assert_eq!(back.len(), if changed { 5 } else { 4 });
        let mut at = back.into_iter();
        let mut next = || at.next().unwrap();
        let Change::Insert { relation: described, new: row } = next().change else { panic!("no insert") };
        prop_assert!(same_columns(&described, &relation));
        prop_assert_eq!(values(&row), values(&tuple(&old)));
        let Change::Update { old: None, new: row, .. } = next().change else { panic!("no update") };
        prop_assert_eq!(values(&row), values(&tuple(&new)));
        let event = next();
        let event = if changed {
            prop_assert_eq!(event.moved, Moved::Away);
            let Change::Delete { old: gone, .. } = event.change else { panic!("no delete") };
            prop_assert_eq!(values(gone.tuple()), values(image.tuple()));
            let event = next();
            prop_assert_eq!(event.moved, Moved::Here);
            event
        } else {
            event
        };
        let Change::Update { old: before, new: row, .. } = event.change else { panic!("no update") };
        prop_assert_eq!(values(&row), values(&tuple(&new)));
        if changed || full {
            prop_assert_eq!(values(before.unwrap().tuple()), values(image.tuple()));
        }
        let Change::Delete { old: before, .. } = next().change else { panic!("no delete") };
        prop_assert_eq!(values(before.tuple()), values(image.tuple()));
        prop_assert_eq!(matches!(before, OldTuple::Full(_)), full);
    }
}
