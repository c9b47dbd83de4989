//! The dead letters: listed, shown, and routed again.

use super::rig::{Rig, text};

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_shown_and_replayed_once() {
    let rig = Rig::new("CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload text)")
        .await;
    let messages = format!("outbox.messages={}", rig.prefix);
    let mut rig = rig.set(&messages).start().await;
    rig.sql("INSERT INTO outbox VALUES (1, 'a b', 'k1', 't', '{\"n\": 1}'), (2, NULL, 'k2', 't', '{}')")
        .await;
    let emit = format!(
        "SELECT pg_logical_emit_message(true, '{}', '{{\"id\": \"m\", \"aggregate_type\": \"x y\", \"payload\": 1}}')",
        rig.prefix
    );
    rig.sql(&emit).await;
    rig.records("dlq", 3).await;
    let list = rig.command(&["dlq", "list", "--json"]).run().await.expect_code(0).json();
    let of =
        |name: &str| list.as_array().unwrap().iter().map(|letter| letter[name].clone()).collect::<Vec<_>>();
    assert_eq!(of("letter"), ["0:0", "0:1", "0:2"]);
    assert_eq!((of("id"), of("stage")), (vec!["1".into(), "2".into(), "m".into()], vec!["route".into(); 3]));
    let list = rig.command(&["dlq", "list"]).run().await.expect_code(0);
    assert!(!list.stdout.contains("a b"), "no value: {list:#?}");
    let shown = rig.command(&["dlq", "show", "0"]).run().await.expect_code(0);
    assert!(
        shown.stdout.contains("value: {\"n\": 1}") && shown.stdout.contains("\"aggregatetype\":\"a b\""),
        "{shown:#?}"
    );
    rig.command(&["dlq", "show", "77"]).run().await.expect_code(4);
    // As it is, it would be a dead letter again.
    let output = rig.command(&["dlq", "replay", "0"]).run().await.expect_code(1);
    assert!(output.stdout.contains("stays"), "{output:#?}");
    // With a route that fits, it is delivered, once.
    let fixed = ["--set", "route.topic.regex=(?<routedByValue>.).*"];
    let output = rig.command(&["dlq", "replay", "--all"]).args(&fixed).run().await.expect_code(1);
    assert!(output.stdout.contains("1 delivered, 2 stay"), "{output:#?}");
    let output = rig.command(&["dlq", "replay", "0"]).args(&fixed).run().await.expect_code(0);
    assert!(output.stdout.contains("1 were replayed before"), "{output:#?}");
    let records = rig.records("a", 1).await;
    assert_eq!(records.len(), 1);
    assert_eq!((text(&records[0].key), records[0].header("id").as_deref()), ("k1", Some("1")));
    assert_eq!(records[0].json(), serde_json::json!("{\"n\": 1}"));
    let list = rig.command(&["dlq", "list", "--json"]).run().await.expect_code(0).json();
    assert_eq!(list[0]["replayed"], true);
    assert_eq!(list.as_array().unwrap().len(), 3, "a mark is no letter");
    rig.stop().await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_can_cure_is_no_dead_letter_and_nothing_is_confirmed_meanwhile() {
    let rig = Rig::new("CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload text)")
        .await
        .set("outbox.create_topics=off")
        .start()
        .await;
    let slot = rig.walferry.run_name().to_owned();
    rig.delivered().await;
    let mut rig = rig;
    // The dead-letter topic is such a topic too.
    rig.sql("INSERT INTO outbox VALUES (1, NULL, 'k', 't', '{}')").await;
    let missing = |topic: &str| format!("there is no topic \"{}\"", rig.topic(topic));
    let (letters, events) = (missing("dlq"), missing("Missing"));
    rig.running.as_mut().unwrap().wait_for_stderr(&letters).await;
    make(&rig, "dlq").await;
    rig.records("dlq", 1).await;
    rig.delivered().await;
    // It is there now, and not for what a topic would cure.
    rig.sql("INSERT INTO outbox VALUES (2, 'Missing', 'k', 't', '{}')").await;
    // The slot may have moved until then: others write to this server.
    let behind: String = rig.source.value(&rig.database, "SELECT pg_current_wal_lsn()::text").await;
    rig.sql("INSERT INTO outbox VALUES (3, 'Missing', 'l', 't', '{}')").await;
    rig.running.as_mut().unwrap().wait_for_stderr(&events).await;
    assert!(rig.running.as_ref().unwrap().stderr().contains("KAFKA_TOPIC_MISSING"));
    let confirmed = format!(
        "SELECT confirmed_flush_lsn < '{behind}' FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    assert!(rig.source.value::<bool>(&rig.database, &confirmed).await, "the event is confirmed");
    make(&rig, "Missing").await;
    rig.records("Missing", 2).await;
    rig.delivered().await;
    assert_eq!(rig.records("dlq", 1).await.len(), 1);
    rig.end().await;
}

/// Made by hand, with what brokers do by default: a time more than an hour ahead is refused, and so is a record without a key where the topic
/// is compacted.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_settings_of_a_topic_refuse_is_a_dead_letter_and_the_next_event_is_published() {
    let rig = Rig::new(
        "CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload text, at timestamptz)",
    )
    .await
    .set("table.field.event.timestamp=at");
    make(&rig, "Order").await;
    make_with(&rig, "Compacted", &[("cleanup.policy", "compact")]).await;
    make_with(&rig, "Stamped", &[("message.timestamp.type", "LogAppendTime")]).await;
    let rig = rig.start().await;
    rig.sql(
        "INSERT INTO outbox VALUES (1, 'Order', 'a', 't', '{}', now() + interval '2 hours'); INSERT INTO outbox VALUES (2, 'Order', 'a', 't', '{}', now());
         INSERT INTO outbox VALUES (3, 'Compacted', NULL, 't', '{}', now()); INSERT INTO outbox VALUES (4, 'Compacted', 'c', 't', '{}', now());
         INSERT INTO outbox VALUES (5, 'Stamped', 'd', 't', '{}', now() + interval '2 hours')",
    )
    .await;
    let letters = rig.records("dlq", 2).await;
    let header = |at: usize, name: &str| letters[at].header(name).unwrap_or_default();
    let seen = [0, 1].map(|at| (header(at, "walferry.outbox.id"), header(at, "walferry.error.stage")));
    assert_eq!(seen, ["1", "3"].map(|id| (id.to_owned(), "produce".to_owned())));
    assert!(header(0, "walferry.error").contains("message.timestamp.after.max.ms"), "{letters:?}");
    assert!(header(1, "walferry.error").contains("compacted"), "{letters:?}");
    for (topic, id) in [("Order", "2"), ("Compacted", "4"), ("Stamped", "5")] {
        let records = rig.records(topic, 1).await;
        assert_eq!(records.len(), 1);
        assert_eq!(records[0].header("id").as_deref(), Some(id));
    }
    rig.delivered().await;
    rig.end().await;
}

/// The settings change after the run has asked for them.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_topic_refuses_of_late_is_said_and_goes_on_once_the_topic_is_asked_again() {
    let rig = Rig::new(
        "CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload text, at timestamptz)",
    )
    .await
    .set("table.field.event.timestamp=at");
    make_with(&rig, "Order", &[("message.timestamp.after.max.ms", "9223372036854775807")]).await;
    let mut rig = rig.start().await;
    let insert = |id: u32| {
        format!("INSERT INTO outbox VALUES ({id}, 'Order', 'a', 't', '{{}}', now() + interval '2 hours')")
    };
    rig.sql(&insert(1)).await;
    rig.records("Order", 1).await;
    let topic = rig.topic("Order");
    let change = rdkafka::admin::AlterConfig::new(rdkafka::admin::ResourceSpecifier::Topic(&topic))
        .set("message.timestamp.after.max.ms", "3600000");
    rig.kafka.admin().alter_configs([&change], &rdkafka::admin::AdminOptions::new()).await.unwrap();
    rig.sql(&insert(2)).await;
    rig.running.as_mut().unwrap().wait_for_stderr("KAFKA_RECORD_REFUSED").await;
    let letters = rig.records("dlq", 1).await;
    assert_eq!(letters[0].header("walferry.outbox.id").as_deref(), Some("2"));
    rig.delivered().await;
    rig.end().await;
}

async fn make(rig: &Rig, topic: &str) {
    make_with(rig, topic, &[]).await;
}

async fn make_with(rig: &Rig, topic: &str, settings: &[(&str, &str)]) {
    let topic = rig.topic(topic);
    let new = rdkafka::admin::NewTopic::new(&topic, 1, rdkafka::admin::TopicReplication::Fixed(1));
    let new = settings.iter().fold(new, |new, (name, value)| new.set(name, value));
    rig.kafka.admin().create_topics([&new], &rdkafka::admin::AdminOptions::new()).await.unwrap();
}
