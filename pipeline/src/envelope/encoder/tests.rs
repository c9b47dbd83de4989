use std::sync::Arc;

use bytes::Bytes;
use pg::{Lsn, QualifiedName};

use super::*;
use crate::change::{Change, Column, OldTuple, RelationColumn, RelationId, ReplicaIdentity, Tuple};
use crate::envelope::{Values, header};

/// What the callback saw, owned.
#[derive(Debug, PartialEq)]
struct Sent {
    topic: String,
    key: Option<String>,
    value: Option<String>,
    headers: Vec<(String, String)>,
}

impl Sent {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| &value[..])
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn collect(sent: &mut Vec<Sent>) -> impl FnMut(Message<'_>) + '_ {
    |message| {
        sent.push(Sent {
            topic: message.topic.to_owned(),
            key: message.key.map(text),
            value: message.value.map(text),
            headers: message.headers.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect(),
        });
    }
}

fn relation(identity: ReplicaIdentity) -> Arc<Relation> {
    let column = |name: &str, type_id, key| RelationColumn {
        name: name.to_owned(),
        type_id,
        type_modifier: -1,
        key: key || identity == ReplicaIdentity::Full,
    };
    Arc::new(Relation {
        id: RelationId(7),
        name: QualifiedName::new("public", "t"),
        identity,
        columns: vec![column("id", 23, true), column("a \"b\"", 25, false), column("f", 701, false)],
    })
}

fn row(id: &str, a: Column<'_>, f: &str) -> Tuple {
    Tuple::from_columns(&[Column::Text(id.as_bytes()), a, Column::Text(f.as_bytes())])
}

fn encoder(transactions: bool) -> Encoder {
    let mut options = Options::new("srv", "db", Values::Postgres);
    options.transactions = transactions;
    options.version = "1".to_owned();
    options.epoch = 9;
    let mut encoder = Encoder::new(options);
    encoder.set_now(1_700_000_000_123_456_789);
    encoder
}

fn transaction(encoder: &mut Encoder, changes: &[Change]) -> Vec<Sent> {
    let mut sent = Vec::new();
    encoder.begin(Lsn::new(0x20), PgTimestamp(1_234_567), 5);
    for change in changes {
        encoder.change(change, &mut collect(&mut sent)).unwrap();
    }
    encoder.commit(Lsn::new(0x30), &mut collect(&mut sent));
    sent
}

#[test]
fn an_insert_stands_between_begin_and_end() {
    let relation = relation(ReplicaIdentity::Default);
    let new = row("1", Column::Text(b"x\ny"), "1e-10");
    let sent = transaction(&mut encoder(true), &[Change::Insert { relation, new }]);
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0].topic, "srv.transaction");
    assert_eq!(sent[0].key.as_deref(), Some(r#"{"id":"5:32"}"#));
    assert_eq!(
        sent[0].value.as_deref(),
        Some(
            r#"{"status":"BEGIN","id":"5:32","event_count":null,"data_collections":null,"ts_ms":946684801234}"#
        )
    );
    assert_eq!(sent[1].topic, "srv.public.t");
    assert_eq!(sent[1].key.as_deref(), Some(r#"{"id":1}"#));
    assert_eq!(
        sent[1].value.as_deref(),
        Some(concat!(
            r#"{"before":null,"after":{"id":1,"a \"b\"":"x\ny","f":1e-10},"#,
            r#""source":{"version":"1","connector":"postgresql","name":"srv","ts_ms":946684801234,"snapshot":"false","db":"db","#,
            r#""sequence":"[null,\"32\"]","ts_us":946684801234567,"ts_ns":946684801234567000,"schema":"public","table":"t","#,
            r#""txId":5,"lsn":32,"xmin":null,"origin":null,"origin_lsn":null},"#,
            r#""transaction":{"id":"5:32","total_order":1,"data_collection_order":1},"#,
            r#""op":"c","ts_ms":1700000000123,"ts_us":1700000000123456,"ts_ns":1700000000123456789}"#
        ))
    );
    assert_eq!(sent[1].header(header::POSITION), Some("0/20,1"));
    assert_eq!(sent[1].header(header::EPOCH), Some("9"));
    assert_eq!(sent[1].header(header::VERSION).map(str::len), Some(8));
    assert_eq!(sent[1].headers.len(), 3);
    assert_eq!(
        sent[2].value.as_deref(),
        Some(concat!(
            r#"{"status":"END","id":"5:32","event_count":1,"#,
            r#""data_collections":[{"data_collection":"public.t","event_count":1}],"ts_ms":946684801234}"#
        ))
    );
    assert_eq!(sent[2].header(header::END), Some("0/30"));
    assert_eq!(sent[2].header(header::COMMITTED_AT), Some("946684801234567"));
}

#[test]
fn an_empty_transaction_leaves_no_trace() {
    assert_eq!(transaction(&mut encoder(true), &[]), []);
}

#[test]
fn a_delete_has_its_key_and_a_tombstone() {
    let relation = relation(ReplicaIdentity::Default);
    let old = OldTuple::Key(Tuple::from_columns(&[Column::Text(b"1"), Column::Null, Column::Null]));
    let sent = transaction(&mut encoder(false), &[Change::Delete { relation, old }]);
    assert!(sent[0].value.as_ref().unwrap().starts_with(r#"{"before":{"id":1},"after":null,"#));
    assert_eq!((sent[1].key.as_deref(), &sent[1].value), (Some(r#"{"id":1}"#), &None));
    assert_eq!(sent[1].headers, sent[0].headers);
}

#[test]
fn a_key_change_is_a_delete_and_a_create() {
    let relation = relation(ReplicaIdentity::Default);
    let old = OldTuple::Key(Tuple::from_columns(&[Column::Text(b"1"), Column::Null, Column::Null]));
    let new = row("2", Column::Unchanged, "NaN");
    let sent =
        transaction(&mut encoder(false), &[Change::Update { relation, old: Some(Box::new(old)), new }]);
    assert_eq!(sent.len(), 3);
    assert_eq!(sent[0].header(header::NEW_KEY), Some(r#"{"id":2}"#));
    assert_eq!(sent[1].header(header::NEW_KEY), Some(r#"{"id":2}"#));
    assert_eq!(sent[2].header(header::OLD_KEY), Some(r#"{"id":1}"#));
    assert_eq!(sent[2].header(header::UNCHANGED), Some(r#"["a \"b\""]"#));
    assert_eq!(sent[2].header(header::POSITION), Some("0/20,2"));
    let value = sent[2].value.as_ref().unwrap();
    let after = r#"{"before":null,"after":{"id":2,"a \"b\"":"__debezium_unavailable_value","f":"NaN"},"#;
    assert!(value.starts_with(after), "{value}");
}

#[test]
fn identity_full_gives_values_that_were_not_sent() {
    let relation = relation(ReplicaIdentity::Full);
    let old = Some(Box::new(OldTuple::Full(row("1", Column::Text(b"big"), "0"))));
    let new = row("1", Column::Unchanged, "-0");
    let sent = transaction(&mut encoder(false), &[Change::Update { relation, old, new }]);
    let value = sent[0].value.as_ref().unwrap();
    let images = r#"{"before":{"id":1,"a \"b\"":"big","f":0},"after":{"id":1,"a \"b\"":"big","f":-0},"#;
    assert!(value.starts_with(images), "{value}");
    assert_eq!((sent[0].key.as_deref(), sent[0].header(header::UNCHANGED)), (None, None));
}

#[test]
fn a_truncate_is_one_event_a_table() {
    let first = relation(ReplicaIdentity::Default);
    let second =
        Arc::new(Relation { id: RelationId(8), name: QualifiedName::new("public", "u"), ..(*first).clone() });
    let change = Change::Truncate { relations: vec![first, second], cascade: false, restart_identity: true };
    let sent = transaction(&mut encoder(false), &[change]);
    assert_eq!((&sent[0].topic[..], &sent[1].topic[..]), ("srv.public.t", "srv.public.u"));
    for (event, position) in sent.iter().zip(["0/20,1", "0/20,2"]) {
        assert!(event.value.as_ref().unwrap().starts_with(r#"{"before":null,"after":null,"source":"#));
        assert_eq!(event.key, None);
        assert_eq!(event.header(header::TRUNCATE), Some("2,restart_identity"));
        assert_eq!(event.header(header::POSITION), Some(position));
    }
}

#[test]
fn a_logical_message_has_a_topic_of_its_own() {
    let mut sent = Vec::new();
    let content = Bytes::from_static(b"hello");
    encoder(true).message(false, Lsn::new(0x40), "pfx", &content, &mut collect(&mut sent)).unwrap();
    assert_eq!((&sent[0].topic[..], sent[0].key.as_deref()), ("srv.message", Some(r#"{"prefix":"pfx"}"#)));
    let value = sent[0].value.as_ref().unwrap();
    assert!(value.starts_with(r#"{"op":"m","ts_ms":1700000000123,"source":{"#), "{value}");
    assert!(
        value.ends_with(r#","transaction":null,"message":{"prefix":"pfx","content":"aGVsbG8="}}"#),
        "{value}"
    );
    let error = encoder(true).message(true, Lsn::new(0x40), "pfx", &content, &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), "EVENT_ORDER");
}

#[test]
fn a_heartbeat_says_how_far_the_topics_are() {
    let mut sent = Vec::new();
    encoder(true).heartbeat(Lsn::new(0x40), &mut collect(&mut sent));
    assert_eq!(
        (&sent[0].topic[..], sent[0].value.as_deref()),
        ("__debezium-heartbeat.srv", Some(r#"{"ts_ms":1700000000123}"#))
    );
    assert_eq!(sent[0].header(header::POSITION), Some("0/40,0"));
}

/// Renamed on the way, back again, and a second table of the same name.
#[test]
fn events_are_counted_by_the_name_that_their_topic_has() {
    let table = |id: u32, name: &str| {
        let mut relation = Relation::clone(&relation(ReplicaIdentity::Default));
        (relation.id, relation.name) = (RelationId(id), QualifiedName::new("public", name));
        Arc::new(relation)
    };
    let relations = [table(7, "a"), table(7, "b"), table(7, "a"), table(8, "a")];
    let changes =
        relations.map(|relation| Change::Insert { relation, new: row("1", Column::Text(b"x"), "1") });
    let mut encoder = encoder(true);
    for _ in 0..2 {
        let sent = transaction(&mut encoder, &changes);
        let places: Vec<_> = sent[1..5]
            .iter()
            .map(|event| {
                let value = event.value.as_deref().unwrap();
                let at = value.find("\"total_order\"").unwrap();
                (&event.topic[..], &value[at..at + value[at..].find('}').unwrap()])
            })
            .collect();
        assert_eq!(
            places,
            [
                ("srv.public.a", "\"total_order\":1,\"data_collection_order\":1"),
                ("srv.public.b", "\"total_order\":2,\"data_collection_order\":1"),
                ("srv.public.a", "\"total_order\":3,\"data_collection_order\":2"),
                ("srv.public.a", "\"total_order\":4,\"data_collection_order\":3"),
            ]
        );
        let counts = r#"[{"data_collection":"public.a","event_count":3},{"data_collection":"public.b","event_count":1}]"#;
        assert!(sent[5].value.as_deref().unwrap().contains(counts), "{sent:?}");
    }
}
