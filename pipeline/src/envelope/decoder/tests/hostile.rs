//! Messages that nobody's encoder wrote.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::change::{Column, Relation, RelationColumn, RelationId, ReplicaIdentity};

fn insert() -> Vec<Sent> {
    let column =
        |name: &str, key| RelationColumn { name: name.to_owned(), type_id: 25, type_modifier: -1, key };
    let relation = Arc::new(Relation {
        id: RelationId(1),
        name: QualifiedName::new("s", "t"),
        identity: ReplicaIdentity::Default,
        columns: vec![column("id", true), column("secret", false)],
    });
    let new = Tuple::from_columns(&[Column::Text(b"1"), Column::Text(b"hunter2")]);
    encode(&Options::new("p", "d", Values::Postgres), None, &[Change::Insert { relation, new }])
}

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
}
