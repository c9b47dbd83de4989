//! From the table, and from logical messages, to the topic.

use super::rig::{DEBEZIUM, Rig, text};

#[tokio::test(flavor = "multi_thread")]
async fn a_committed_row_comes_to_its_topic_and_the_slot_is_confirmed_after_that() {
    let mut rig = Rig::new(DEBEZIUM).await.start().await;
    rig.sql("INSERT INTO outbox VALUES ('406c07f3-26f0-4eea-a50c-109940064b8f', 'Order', '1', 'OrderCreated', '{\"id\": 1}')").await;
    let records = rig.records("Order", 1).await;
    assert_eq!(text(&records[0].key), "1");
    assert_eq!(records[0].json(), serde_json::json!("{\"id\": 1}"));
    assert_eq!(records[0].header("id").as_deref(), Some("406c07f3-26f0-4eea-a50c-109940064b8f"));
    assert!(records[0].header("walferry.position").is_some());
    rig.delivered().await;
    rig.stop().await;
    // What was confirmed does not come again.
    rig.restart().await;
    rig.sql("INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('Order', '2', 'x')").await;
    rig.records("Order", 2).await;
    rig.delivered().await;
    assert_eq!(rig.records("Order", 2).await.len(), 2);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_logical_message_comes_to_the_topic_of_its_prefix() {
    let rig = Rig::new("").await;
    let messages = format!("outbox.messages={}", rig.prefix);
    let rig = rig.set(&messages).start().await;
    let emit = |transactional: bool, id: u32| {
        format!(
            "SELECT pg_logical_emit_message({transactional}, '{}', '{{\"id\": \"{id}\", \"aggregate_type\": \"Order\", \
             \"aggregate_id\": \"k{id}\", \"event_type\": \"Placed\", \"payload\": {{\"n\": null}}, \"headers\": {{\"trace\": \"t\"}}}}')",
            rig.prefix
        )
    };
    rig.sql(&emit(true, 1)).await;
    rig.sql(&format!("BEGIN; {}; ROLLBACK", emit(true, 2))).await;
    rig.sql(&emit(false, 3)).await;
    rig.sql("SELECT pg_logical_emit_message(true, 'somebody else', 'not JSON')").await;
    rig.sql(&emit(true, 4)).await;
    rig.delivered().await;
    let records = rig.records("Order", 2).await;
    let keys: Vec<&str> = records.iter().map(|record| text(&record.key)).collect();
    assert_eq!(keys, ["k1", "k4"], "what was rolled back, not transactional, or another's is nowhere");
    assert_eq!(text(&records[0].value), "{\"n\":null}");
    let header = |name: &str| records[0].header(name).unwrap_or_default();
    assert_eq!(
        (header("id"), header("eventType"), header("trace")),
        ("1".into(), "Placed".into(), "t".into())
    );
    assert!(rig.running.as_ref().unwrap().stderr().contains("was not transactional"));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_schemas_rows_and_messages_say_what_they_are_and_each_half_can_be_turned_off() {
    let rig = Rig::new(DEBEZIUM).await;
    let messages = format!("outbox.messages={}", rig.prefix);
    let rig = rig.set(&messages).arg("--schemas").set("outbox.key_converter=json");
    let mut rig = rig.set("table.expand.json.payload=on").start().await;
    let prefix = rig.prefix.clone();
    let emit = |id: u32| {
        format!(
            "BEGIN; INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('Row', 'k{id}', 't', '{{\"a\": {id}}}');
             SELECT pg_logical_emit_message(true, '{prefix}', '{{\"id\": {id}, \"aggregate_type\": \"Message\", \"aggregate_id\": {id}, \
             \"payload\": {{\"a\": {id}}}}}'); COMMIT"
        )
    };
    let schema = r#"{"type":"struct","fields":[{"type":"int32","optional":true,"field":"a"}],"optional":true,"name":"payload"}"#;
    let value = |id: u32| format!(r#"{{"schema":{schema},"payload":{{"a":{id}}}}}"#);
    rig.sql(&emit(1)).await;
    for (topic, key) in [
        ("Row", r#"{"schema":{"type":"string","optional":false},"payload":"k1"}"#),
        ("Message", r#"{"schema":{"type":"int32","optional":true},"payload":1}"#),
    ] {
        let records = rig.records(topic, 1).await;
        assert_eq!((text(&records[0].key), text(&records[0].value)), (key, &*value(1)), "{topic}");
    }
    rig.delivered().await;
    rig.stop().await;
    let rig = rig.set("outbox.key_schemas=off").start().await;
    rig.sql(&emit(2)).await;
    for (topic, key) in [("Row", "\"k2\""), ("Message", "2")] {
        let records = rig.records(topic, 2).await;
        assert_eq!((text(&records[1].key), text(&records[1].value)), (key, &*value(2)), "{topic}");
    }
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_under_its_name() {
    let rig = Rig::new(
        "CREATE TABLE events (event_id int PRIMARY KEY, k text, kind text, body text, route text, at timestamptz, version int, tenant text, p int)",
    )
    .await
    .set("outbox.table=public.events")
    .set("kafka.retention=3600d")
    .set("table.field.event.id=event_id")
    .set("table.field.event.key=k")
    .set("table.field.event.type=kind")
    .set("table.field.event.payload=body")
    .set("table.field.event.timestamp=at")
    .set("table.field.event.schema.version=version")
    .set("table.fields.additional.placement=kind:header:eventType,tenant:envelope:who,p:partition,nothere:header")
    .set("table.field.additional.missing=ignore")
    .set("table.expand.json.payload=true")
    .set("table.json.payload.null.behavior=optional_bytes")
    .set("route.by.field=route")
    .set("route.topic.regex=(?<group>[a-z]+)-(?<routedByValue>.*)")
    .set("route.tombstone.on.empty.payload=true")
    .arg("--partitions")
    .arg("3")
    .start()
    .await;
    rig.sql(
        "INSERT INTO events VALUES
           (1, 'a', 'Placed', '[1, {\"x\": null}, \"s\"]', 'shop-Order', '2024-01-02 03:04:05.678+00', 7, 'acme', 2),
           (2, 'a', NULL, NULL, 'shop-Order', NULL, NULL, NULL, 0),
           (3, NULL, 'K', ' ', 'shop-Order', '2024-01-02', 7, 'acme', 1)",
    )
    .await;
    let records = rig.records("Order", 3).await;
    let by = |id: &str| records.iter().find(|record| record.header("id").as_deref() == Some(id)).unwrap();
    let one = by("1");
    assert_eq!((one.partition, one.timestamp, text(&one.key)), (2, Some(1_704_164_645_678), "a"));
    assert_eq!(text(&one.value), "{\"payload\":[1,{\"x\":null},\"s\"],\"who\":\"acme\"}");
    assert_eq!(one.header("eventType").as_deref(), Some("Placed"));
    assert_eq!(one.header("walferry.schema.version").as_deref(), Some("7"));
    assert_eq!(one.header("nothere"), None);
    let two = by("2");
    assert_eq!((two.partition, &two.value), (0, &None));
    let header = two.headers.iter().find(|(name, _)| name == "eventType");
    assert_eq!(header, Some(&("eventType".to_owned(), None)), "NULL is a header without a value");
    assert_eq!((&by("3").key, &by("3").value, by("3").partition), (&None, &None, 1));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_at_the_start_with_the_option_s_name() {
    let rig = Rig::new("CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, payload jsonb, at text)").await;
    for (assignment, code, expected) in [
        ("outbox.table=public.nowhere", 4, "outbox.table: there is no table public.nowhere"),
        (
            "table.field.event.key=nope",
            4,
            "table.field.event.key: table \"public\".\"outbox\" has no column \"nope\"",
        ),
        (
            "table.field.event.timestamp=at",
            4,
            "table.field.event.timestamp: expected timestamp or timestamptz",
        ),
        (
            "table.fields.additional.placement=at:partition",
            4,
            "table.fields.additional.placement: expected an integer",
        ),
        ("table.fields.additional.placement=at:nowhere", 2, "expected column:header[:alias]"),
        ("table.fields.additional.placement=at:header:id", 2, "header \"id\" is the event's own"),
        (
            "table.fields.additional.placement=at:header:walferry.position",
            2,
            "header \"walferry.position\" is the event's own",
        ),
        ("route.topic.regex=(", 2, "route.topic.regex: expected a regular expression"),
        ("route.topic.regex=(?<other>.*)", 2, "has no (?<routedByValue>"),
        ("route.topic.replacement=bad topic!", 2, "route.topic.replacement: expected the name of a topic"),
        ("route.topic.replacement=shop/${routedByValue}", 2, "of the characters A-Z a-z 0-9 . _ -"),
        (
            "outbox.message_topic=${prefix}/${routedByValue}",
            2,
            "outbox.message_topic: expected the name of a topic",
        ),
        (
            "outbox.retention=7d",
            4,
            "outbox.retention_column: table \"public\".\"outbox\" has no timestamp or timestamptz column \"created_at\" or \"timestamp\"",
        ),
        ("table.op.invalid.behavior=maybe", 2, "expected one of warn, error, fatal"),
        ("table.feild.event.key=x", 2, "unknown key \"table.feild.event.key\""),
    ] {
        let output = rig.command(&["run"]).arg("--set").arg(assignment).run().await;
        assert_eq!(output.code, code, "{assignment}: {output:#?}");
        assert!(output.stderr.contains(expected), "{assignment}: {output:#?}");
    }
    let slots = "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'ob_%' AND database = current_database()";
    assert_eq!(rig.source.value::<i64>(&rig.database, slots).await, 0, "nothing was made");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_one_event_is_a_dead_letter_and_the_stream_goes_on() {
    let rig = Rig::new(
        "CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload text)",
    )
    .await
    .set("table.expand.json.payload=true")
    .set("kafka.message_bytes=20kB")
    .start()
    .await;
    rig.sql(
        "INSERT INTO outbox VALUES (1, NULL, 'a', 't', '{}'); INSERT INTO outbox VALUES (2, 'no topic!', 'b', 't', '{}');
         INSERT INTO outbox VALUES (3, 'Order', 'c', 't', '{not json'); INSERT INTO outbox VALUES (4, 'Order', 'd', 't', '\"' || repeat('x', 30000) || '\"');
         INSERT INTO outbox VALUES (5, 'Order', 'e', 't', '{\"fine\": true}')",
    )
    .await;
    let letters = rig.records("dlq", 4).await;
    let seen: Vec<_> = letters
        .iter()
        .map(|letter| {
            let header = |name: &str| letter.header(name).unwrap_or_default();
            (header("walferry.outbox.id"), header("walferry.error.stage"), text(&letter.key).to_owned())
        })
        .collect();
    let expected = [("1", "route", "a"), ("2", "route", "b"), ("3", "payload", "c"), ("4", "produce", "d")];
    assert_eq!(seen, expected.map(|(id, stage, key)| (id.to_owned(), stage.to_owned(), key.to_owned())));
    assert_eq!(text(&letters[2].value), "{not json", "the bytes as they came");
    assert_eq!(text(&letters[3].value).len(), 30_002);
    assert!(letters.iter().all(|letter| letter.header("walferry.position").is_some()));
    assert!(letters[1].header("walferry.error").unwrap().contains("Kafka does not allow"));
    let records = rig.records("Order", 1).await;
    assert_eq!((records.len(), text(&records[0].key)), (1, "e"));
    rig.delivered().await;
    rig.end().await;
}
