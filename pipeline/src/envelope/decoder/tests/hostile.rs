//! Messages that nobody's encoder wrote.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::change::{Column, Relation, RelationColumn, RelationId, ReplicaIdentity};

fn insert() -> Vec<Sent> {
    insert_with(Values::Postgres, 25)
}

/// A row with a key and a column of this type.
fn insert_with(values: Values, type_id: u32) -> Vec<Sent> {
    let column = |name: &str, key| RelationColumn {
        name: name.to_owned(),
        type_id: if key { 25 } else { type_id },
        type_modifier: -1,
        key,
    };
    let relation = Arc::new(Relation {
        id: RelationId(1),
        name: QualifiedName::new("s", "t"),
        identity: ReplicaIdentity::Default,
        columns: vec![column("id", true), column("secret", false)],
    });
    let secret: &[u8] = if type_id == BYTEA_ARRAY { b"{\\x68,NULL}" } else { b"hunter2" };
    let new = Tuple::from_columns(&[Column::Text(b"1"), Column::Text(secret)]);
    encode(&Options::new("p", "d", values), None, &[Change::Insert { relation, new }])
}

const BYTEA_ARRAY: u32 = 1001;

fn decoder() -> Decoder {
    Decoder::new(Options::new("p", "d", Values::Postgres), Dialect::Walferry)
}

/// The error of an insert whose value was changed so.
fn refused(sent: &Sent) -> String {
    let error = sent.decode(&mut decoder()).unwrap_err();
    assert_eq!((error.class(), error.code()), (pg::Class::Stop, "EVENT_MALFORMED"));
    let text = error.to_string();
    assert!(!text.contains("hunter2"), "a row's value in {text}");
    assert!(text.contains(&format!("topic \"{}\", partition 3, offset 42", sent.topic)), "{text}");
    text
}

fn edited(from: &str, to: &str) -> Sent {
    let mut sent = insert().swap_remove(1);
    let value = String::from_utf8(sent.value.unwrap()).unwrap();
    assert!(value.contains(from), "{value}");
    sent.value = Some(value.replacen(from, to, 1).into_bytes());
    sent
}

#[test]
fn a_broken_event_is_refused_with_its_place() {
    for (from, to, says) in [
        ("{\"before\"", "[", "malformed JSON"),
        ("\"after\":{\"id\"", "\"after\":{\"id\":[[1]],\"x\"", "column \"id\""),
        ("\"secret\":\"hunter2\"", "\"id\":\"hunter2\"", "twice"),
        ("\"hunter2\"", "\"hunter2\\u0000\"", "zero byte"),
        ("\"op\":\"c\"", "\"op\":\"x\"", "\"op\""),
        ("\"op\":\"c\"", "\"op\":\"d\"", "no \"before\""),
        ("\"name\":\"p\"", "\"name\":\"q\"", "another prefix"),
        ("\"table\":\"t\"", "\"table\":\"u\"", "not the topic's"),
        ("\"table\":\"t\"", "\"table\":7", "\"table\" is not a string"),
        ("\"total_order\":1", "\"total_order\":-1", "\"total_order\""),
        ("\"source\"", "\"sauce\"", "no \"source\""),
    ] {
        let text = refused(&edited(from, to));
        assert!(text.contains(says), "{text}");
    }
    let mut sent = insert().swap_remove(1);
    sent.headers.retain(|(name, _)| name != header::POSITION);
    assert!(refused(&sent).contains("walferry.position"));
    sent.headers.push((header::POSITION.to_owned(), b"0/0".to_vec()));
    assert!(refused(&sent).contains("walferry.position"));
}

/// How the columns were written is said by the header alone: without understanding it nothing is read.
#[test]
fn a_header_of_types_that_is_not_understood_is_refused() {
    for (header, says) in [
        ("", "not a JSON object"),
        ("[]", "not a JSON object"),
        ("{\"secret\":", "not a JSON object"),
        ("{\"secret\":\"decimal(2)\"}x", "not a JSON object"),
        ("{\"secret\":7}", "the encoding of column \"secret\" is not known"),
        ("{\"secret\":\"roman\"}", "the encoding of column \"secret\" is not known"),
        ("{\"secret\":\"bits(4294967295)\"}", "the encoding of column \"secret\" is not known"),
        ("{\"secret\":\"bit\",\"secret\":\"bit\"}", "column \"secret\" twice"),
        ("{\"secret\":\"bytea(hex)\"}", "column \"secret\": a bytea in another encoding"),
    ] {
        let mut sent = insert().swap_remove(1);
        sent.headers.push((header::TYPES.to_owned(), header.as_bytes().to_vec()));
        let text = refused(&sent);
        assert!(text.contains(says), "{text}");
    }
    let mut sent = insert().swap_remove(1);
    sent.headers.push((header::TYPES.to_owned(), b"\xff".to_vec()));
    assert!(refused(&sent).contains("walferry.types is not UTF-8"));
    let many: Vec<String> = (0..2000).map(|at| format!("\"c{at}\":\"bit\"")).collect();
    let mut sent = insert().swap_remove(1);
    sent.headers.push((header::TYPES.to_owned(), format!("{{{}}}", many.join(",")).into_bytes()));
    assert!(refused(&sent).contains("more than 1664 columns"));
}

#[test]
fn a_broken_marker_is_refused() {
    let end = insert().swap_remove(2);
    for (from, to) in [
        ("\"END\"", "\"MIDDLE\""),
        ("\"event_count\":1,", "\"event_count\":2,"),
        ("5:4294967328\",\"event", "x\",\"event"),
        ("[{", "{\"a\":{"),
    ] {
        let mut sent = end.clone();
        sent.value = Some(String::from_utf8(sent.value.unwrap()).unwrap().replacen(from, to, 1).into_bytes());
        assert_ne!(sent.value, end.value);
        refused(&sent);
    }
    let mut sent = end;
    sent.headers.retain(|(name, _)| name != header::END);
    assert!(refused(&sent).contains("walferry.end"));
}

#[test]
fn other_topics_are_foreign() {
    for topic in ["q.s.t", "p", "pp.s.t", ""] {
        let sent = Sent { topic: topic.to_owned(), ..insert().swap_remove(1) };
        assert!(matches!(sent.decode(&mut decoder()), Ok(Decoded::Foreign)), "{topic}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Cut, overwritten or extended anywhere: an error or a change, never a panic.
    #[test]
    fn damaged_bytes_never_panic(which in 0..3_usize, part in 0..3_usize, at in 0..600_usize, byte in any::<u8>(), cut in any::<bool>()) {
        for dialect in [Dialect::Walferry, Dialect::Debezium] {
            let mut sent = insert().swap_remove(which);
            let damage = |bytes: &mut Vec<u8>| {
                let at = at % (bytes.len() + 1);
                if cut {
                    bytes.truncate(at);
                } else if let Some(place) = bytes.get_mut(at) {
                    *place = byte;
                }
            };
            match part {
                0 => sent.key.as_mut().map_or((), damage),
                1 => sent.value.as_mut().map_or((), damage),
                _ => sent.headers.iter_mut().for_each(|(_, value)| damage(value)),
            }
            let _ = sent.decode(&mut Decoder::new(Options::new("p", "d", Values::Postgres), dialect));
        }
    }

    #[test]
    fn a_damaged_header_of_types_never_panics(at in 0..40_usize, byte in any::<u8>(), cut in any::<bool>()) {
        let mut sent = insert_with(Values::Debezium, BYTEA_ARRAY).swap_remove(1);
        let (_, types) = sent.headers.iter_mut().find(|(name, _)| name == header::TYPES).unwrap();
        let at = at % (types.len() + 1);
        if cut {
            types.truncate(at);
        } else if let Some(place) = types.get_mut(at) {
            *place = byte;
        }
        let _ = sent.decode(&mut Decoder::new(Options::new("p", "d", Values::Debezium), Dialect::Walferry));
    }
}
