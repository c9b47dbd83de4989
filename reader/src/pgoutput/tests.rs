//! Golden messages, and anything else that may arrive.

use bytes::{BufMut, Bytes, BytesMut};
use pg::{Class, Lsn};
use pipeline::{Change, Column, Event, OldTuple, PgTimestamp, ReplicaIdentity};
use proptest::prelude::*;

use super::Decoder;

fn begin() -> Bytes {
    message(b'B', |out| {
        out.put_u64(0x10);
        out.put_i64(7);
        out.put_u32(9);
    })
}

fn message(kind: u8, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    out.put_u8(kind);
    body(&mut out);
    out.freeze()
}

/// Table 5, columns `a` (key) and `b`.
fn relation(identity: u8, name: &str) -> Bytes {
    message(b'R', |out| {
        out.put_u32(5);
        out.put_slice(b"s\0");
        out.put_slice(name.as_bytes());
        out.put_u8(0);
        out.put_u8(identity);
        out.put_u16(2);
        for (flags, column) in [(1, &b"a\0"[..]), (0, b"b\0")] {
            out.put_u8(flags);
            out.put_slice(column);
            out.put_u32(23);
            out.put_i32(-1);
        }
    })
}

fn tuple(out: &mut BytesMut, kind: u8, values: &[Column<'_>]) {
    out.put_u8(kind);
    out.put_u16(values.len() as u16);
    for value in values {
        match value {
            Column::Null => out.put_u8(b'n'),
            Column::Unchanged => out.put_u8(b'u'),
            Column::Text(bytes) | Column::Binary(bytes) => {
                out.put_u8(if matches!(value, Column::Text(_)) { b't' } else { b'b' });
                out.put_u32(bytes.len() as u32);
                out.put_slice(bytes);
            }
        }
    }
}

/// A decoder inside a transaction that knows table 5.
fn decoder() -> Decoder {
    let mut decoder = Decoder::new();
    decoder.decode(begin()).unwrap();
    decoder.decode(relation(b'd', "t")).unwrap();
    decoder
}

fn change(decoder: &mut Decoder, message: Bytes) -> Change {
    match decoder.decode(message).unwrap() {
        Some(Event::Change(change)) => change,
        other => panic!("{other:?}"),
    }
}

#[test]
fn begin_and_commit() {
    let mut decoder = Decoder::new();
    assert!(matches!(
        decoder.decode(begin()).unwrap(),
        Some(Event::Begin { commit_lsn, committed_at: PgTimestamp(7), xid: 9 }) if commit_lsn == Lsn::new(0x10)
    ));
    assert!(decoder.in_transaction());
    let commit = message(b'C', |out| {
        out.put_u8(0);
        out.put_u64(0x10);
        out.put_u64(0x20);
        out.put_i64(7);
    });
    assert!(matches!(
        decoder.decode(commit.clone()).unwrap(),
        Some(Event::Commit { end_lsn, .. }) if end_lsn == Lsn::new(0x20)
    ));
    assert!(!decoder.in_transaction());
    assert_eq!(decoder.decode(commit).unwrap_err().class(), Class::Failed);
}

#[test]
fn rows_keep_their_values() {
    let mut decoder = decoder();
    let insert = message(b'I', |out| {
        out.put_u32(5);
        tuple(out, b'N', &[Column::Text(b"1"), Column::Null]);
    });
    let Change::Insert { relation, new } = change(&mut decoder, insert) else { panic!() };
    assert_eq!(relation.name.to_string(), r#""s"."t""#);
    assert!(relation.columns[0].key && !relation.columns[1].key);
    assert_eq!(new.columns().collect::<Vec<_>>(), [Column::Text(b"1"), Column::Null]);

    let update = message(b'U', |out| {
        out.put_u32(5);
        tuple(out, b'K', &[Column::Text(b"1"), Column::Null]);
        tuple(out, b'N', &[Column::Binary(b"\0\0\0\x02"), Column::Unchanged]);
    });
    let Change::Update { old: Some(old), new, .. } = change(&mut decoder, update) else { panic!() };
    let OldTuple::Key(old) = *old else { panic!() };
    assert_eq!(old.columns().next(), Some(Column::Text(b"1")));
    assert_eq!(new.columns().collect::<Vec<_>>(), [Column::Binary(b"\0\0\0\x02"), Column::Unchanged]);

    let plain = message(b'U', |out| {
        out.put_u32(5);
        tuple(out, b'N', &[Column::Text(b"2"), Column::Text(b"")]);
    });
    assert!(matches!(change(&mut decoder, plain), Change::Update { old: None, .. }));

    let delete = message(b'D', |out| {
        out.put_u32(5);
        tuple(out, b'O', &[Column::Text(b"2"), Column::Text(b"x")]);
    });
    assert!(matches!(change(&mut decoder, delete), Change::Delete { old: OldTuple::Full(_), .. }));
}

#[test]
fn truncate_lists_its_tables() {
    let truncate = message(b'T', |out| {
        out.put_u32(2);
        out.put_u8(2);
        out.put_u32(5);
        out.put_u32(5);
    });
    let Change::Truncate { relations, cascade, restart_identity } = change(&mut decoder(), truncate) else {
        panic!()
    };
    assert_eq!((relations.len(), cascade, restart_identity), (2, false, true));
}

#[test]
fn logical_messages_may_stand_outside_of_transactions() {
    let logical = |flags: u8| {
        message(b'M', |out| {
            out.put_u8(flags);
            out.put_u64(0x30);
            out.put_slice(b"walferry\0");
            out.put_u32(3);
            out.put_slice(b"\0ab");
        })
    };
    let mut decoder = Decoder::new();
    assert!(matches!(
        decoder.decode(logical(0)).unwrap(),
        Some(Event::Message { transactional: false, prefix, content, .. })
            if &*prefix == "walferry" && &content[..] == b"\0ab"
    ));
    assert!(decoder.decode(logical(1)).is_err());
    decoder.decode(begin()).unwrap();
    assert!(decoder.decode(logical(1)).is_ok());
}

#[test]
fn a_relation_is_new_only_if_it_differs() {
    let mut decoder = decoder();
    let insert = message(b'I', |out| {
        out.put_u32(5);
        tuple(out, b'N', &[Column::Text(b"1"), Column::Null]);
    });
    let mut seen = |message: Option<Bytes>| {
        if let Some(message) = message {
            decoder.decode(message).unwrap();
        }
        match change(&mut decoder, insert.clone()) {
            Change::Insert { relation, .. } => relation,
            other => panic!("{other:?}"),
        }
    };
    let first = seen(None);
    assert!(std::sync::Arc::ptr_eq(&first, &seen(Some(relation(b'd', "t")))));
    let full = seen(Some(relation(b'f', "t")));
    assert!(full.identity == ReplicaIdentity::Full && full.columns.iter().all(|column| column.key));
    assert_eq!(seen(Some(relation(b'f', "moved"))).name.name, "moved");
}

#[test]
fn what_makes_no_sense_is_refused() {
    let insert = |id: u32, width: usize| {
        message(b'I', |out| {
            out.put_u32(id);
            tuple(out, b'N', &vec![Column::Null; width]);
        })
    };
    let longer = [&begin()[..], b"x"].concat();
    for (what, message) in [
        ("begin in a transaction", begin()),
        ("unknown relation", insert(6, 2)),
        ("too few values", insert(5, 1)),
        ("too many values", insert(5, 3)),
        ("nothing", Bytes::new()),
        ("unknown kind", Bytes::from_static(b"?")),
        ("stream start was not asked for", Bytes::from_static(b"S\0\0\0\x01\x01")),
        ("rest", Bytes::from(longer)),
        ("truncate of four billion", Bytes::from_static(b"T\xff\xff\xff\xff\0\0\0\0\x05")),
    ] {
        assert_eq!(decoder().decode(message).unwrap_err().class(), Class::Failed, "{what}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever the bytes, an answer.
    #[test]
    fn arbitrary_bytes_never_panic(messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 1..16)) {
        let mut decoder = decoder();
        for message in messages {
            let _ = decoder.decode(Bytes::from(message));
        }
    }

    /// Good messages with a byte changed or their end cut off.
    #[test]
    fn damaged_messages_never_panic(kind in 0_usize..6, at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let row = |kind: u8, tuples: &[u8]| message(kind, |out| {
            out.put_u32(5);
            for tuple_kind in tuples {
                tuple(out, *tuple_kind, &[Column::Text(b"abc"), Column::Unchanged]);
            }
        });
        let whole = [begin(), relation(b'd', "t"), row(b'I', b"N"), row(b'U', b"ON"), row(b'D', b"K"),
            Bytes::from_static(b"T\0\0\0\x01\0\0\0\0\x05")][kind].clone();
        let at = at.index(whole.len());
        let mut damaged = whole.to_vec();
        if cut { damaged.truncate(at) } else { damaged[at] = byte }
        let _ = decoder().decode(Bytes::from(damaged));
    }
}
