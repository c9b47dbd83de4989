use pg::{Lsn, QualifiedName};

use super::*;
use crate::change::{RelationColumn, RelationId, ReplicaIdentity};
use crate::envelope::{self, Values};
use crate::outbox::{Format, Nulls, Placement, Route};

const COLUMNS: [(&str, u32); 6] =
    [("id", 23), ("aggregatetype", 25), ("aggregateid", 25), ("payload", 3802), ("at", 1114), ("p", 23)];

fn routed(
    change: impl Fn(&mut Options),
    values: [Option<&str>; 6],
) -> std::result::Result<Event, Box<DeadLetter>> {
    let mut options = Options::new(envelope::Options::new("p", "d", Values::Postgres));
    change(&mut options);
    let column = |(name, type_id): &(&str, u32)| RelationColumn {
        name: (*name).to_owned(),
        type_id: *type_id,
        type_modifier: -1,
        key: false,
    };
    let relation = Arc::new(Relation {
        id: RelationId(1),
        name: QualifiedName::new("public", "outbox"),
        identity: ReplicaIdentity::Default,
        columns: COLUMNS.iter().map(column).collect(),
    });
    let text = |value: Option<&'static str>| value.map_or(Column::Null, |text| Column::Text(text.as_bytes()));
    let values = values.map(|value| value.map(|text| &*Box::leak(text.to_owned().into_boxed_str())));
    let tuple = Tuple::from_columns(&values.map(text));
    let position = Position { commit_lsn: Lsn::new(32), index: 1 };
    Router::new(options, None).row(&relation, &tuple, position, PgTimestamp(0)).unwrap()
}

fn value(change: impl Fn(&mut Options), payload: Option<&str>) -> Option<String> {
    let event = routed(change, [Some("1"), Some("Order"), Some("k"), payload, None, None]).unwrap();
    event.value.map(|value| String::from_utf8(value).unwrap())
}

#[test]
fn the_value_s_forms() {
    let json = Some("{\"a\": [1, null], \"n\": null}");
    assert_eq!(value(|_| {}, json).as_deref(), Some(r#""{\"a\": [1, null], \"n\": null}""#));
    assert_eq!(value(|o| o.value_format = Format::String, json).as_deref(), json);
    assert_eq!(value(|o| o.expand = true, json).as_deref(), Some("{\"a\":[1,null]}"));
    let keep = |o: &mut Options| (o.expand, o.nulls) = (true, Nulls::OptionalBytes);
    assert_eq!(value(keep, json).as_deref(), Some("{\"a\":[1,null],\"n\":null}"));
    let envelope = |o: &mut Options| {
        o.expand = true;
        o.placements =
            vec![Placement::parse("id:envelope:n").unwrap(), Placement::parse("at:envelope").unwrap()];
    };
    assert_eq!(value(envelope, json).as_deref(), Some("{\"payload\":{\"a\":[1,null]},\"n\":1,\"at\":null}"));
    assert_eq!(value(|_| {}, None).as_deref(), Some("null"));
    assert_eq!(value(|o| o.value_format = Format::String, None), None);
    assert_eq!(value(|o| o.tombstone = true, None), None);
    assert_eq!(value(|o| o.tombstone = true, Some(" ")), None);
}

#[test]
fn key_time_partition_and_headers() {
    let row = [Some("7"), Some("Order"), Some("k"), Some("{}"), Some("2000-01-01 00:00:01"), Some("3")];
    let event = routed(
        |o| {
            o.timestamp = Some("at".to_owned());
            o.placements =
                vec![Placement::parse("p:partition").unwrap(), Placement::parse("at:header:when").unwrap()];
            o.route = Route::new(Route::REGEX, "${routedByValue}").unwrap();
        },
        row,
    )
    .unwrap();
    assert_eq!((&event.topic[..], event.key.as_deref()), ("Order", Some(&b"k"[..])));
    assert_eq!((event.timestamp, event.partition), (946_684_801_000, Some(3)));
    let headers: Vec<_> = event.headers.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(headers, ["id", "when", "walferry.position"]);
    let event = routed(|o| o.key_format = Format::Json, row).unwrap();
    assert_eq!((event.key.as_deref(), event.timestamp), (Some(&b"\"k\""[..]), 946_684_800_000));
}

#[test]
fn with_schemas_key_and_value_say_what_they_are() {
    let row = |payload| [Some("7"), Some("Order"), Some("k"), payload, None, Some("3")];
    let both = |o: &mut Options| {
        o.envelope.values = Values::Debezium;
        (o.key_format, o.key_schemas, o.value_schemas) = (Format::Json, true, true);
    };
    let text = |bytes: Option<Vec<u8>>| String::from_utf8(bytes.unwrap()).unwrap();
    let event = routed(both, row(Some(r#"{"a": [1, "x"]}"#))).unwrap();
    assert_eq!(text(event.key), r#"{"schema":{"type":"string","optional":true},"payload":"k"}"#);
    // Nothing is known of the table but the types' numbers.
    let plain = r#"{"schema":{"type":"string","optional":true},"payload":"{\"a\": [1, \"x\"]}"}"#;
    assert_eq!(text(event.value), plain);
    // What has no schema of its own stays what it was.
    let expand = |o: &mut Options| {
        both(o);
        o.expand = true;
    };
    let expanded = |payload| text(routed(expand, row(payload)).unwrap().value);
    assert_eq!(expanded(Some(r#"{"a": [1, "x"]}"#)), plain);
    assert_eq!(
        expanded(Some(r#"{"a": 1}"#)),
        r#"{"schema":{"type":"struct","fields":[{"type":"int32","optional":true,"field":"a"}],"optional":true,"name":"payload"},"payload":{"a":1}}"#
    );
    assert_eq!(expanded(None), r#"{"schema":{"type":"string","optional":true},"payload":null}"#);
    // Debezium's has no schema.
    assert_eq!(expanded(Some("[]")), r#"{"schema":null,"payload":"[]"}"#);
    let envelope = |o: &mut Options| {
        expand(o);
        o.schema_version = Some("p".to_owned());
        o.placements = vec![Placement::parse("id:envelope:n").unwrap()];
    };
    let event = routed(envelope, row(Some("{}"))).unwrap();
    assert_eq!(
        text(event.value),
        concat!(
            r#"{"schema":{"type":"struct","fields":[{"type":"struct","fields":[],"optional":true,"name":"payload","field":"payload"},"#,
            r#"{"type":"int32","optional":true,"field":"n"}],"optional":false,"name":"p.public.outbox.Order.Value","version":3},"#,
            r#""payload":{"payload":{},"n":7}}"#
        )
    );
    // Each has its own switch, and text is text.
    let value_alone = |o: &mut Options| {
        both(o);
        o.key_schemas = false;
    };
    let event = routed(value_alone, row(None)).unwrap();
    assert_eq!(event.key.as_deref(), Some(&b"\"k\""[..]));
    let strings = |o: &mut Options| {
        both(o);
        (o.key_format, o.value_format) = (Format::String, Format::String);
    };
    let event = routed(strings, row(Some("{}"))).unwrap();
    assert_eq!((event.key.as_deref(), event.value.as_deref()), (Some(&b"k"[..]), Some(&b"{}"[..])));
    let tombstone = |o: &mut Options| {
        both(o);
        o.tombstone = true;
    };
    assert_eq!(routed(tombstone, row(None)).unwrap().value, None);
}

#[test]
fn a_dead_letter_has_the_row_but_its_payload() {
    let row = [Some("7"), None, Some("k"), Some("x\"y"), None, None];
    let letter = routed(|_| {}, row).unwrap_err();
    assert_eq!((letter.stage, letter.id.as_deref()), (Stage::Route, Some("7")));
    assert_eq!((letter.key.as_deref(), letter.value.as_deref()), (Some(&b"k"[..]), Some(&b"x\"y"[..])));
    let columns = r#"{"id":"7","aggregatetype":null,"aggregateid":"k","at":null,"p":null}"#;
    assert_eq!(letter.row.as_deref(), Some(columns.as_bytes()));
    let partition = |o: &mut Options| o.placements = vec![Placement::parse("p:partition").unwrap()];
    for p in [None, Some("-1"), Some("9999999999")] {
        let letter = routed(partition, [Some("7"), Some("A"), Some("k"), None, None, p]).unwrap_err();
        assert_eq!(letter.stage, Stage::Placement);
    }
    let expand = |o: &mut Options| o.expand = true;
    let letter = routed(expand, [Some("7"), Some("A"), Some("k"), Some("secret{"), None, None]).unwrap_err();
    assert!(letter.stage == Stage::Payload && !letter.reason.contains("secret"));
}
