//! What stands in the way of a run: too much retained WAL, a slot that is gone or another process's, rights that are missing.

use super::rig::{DEBEZIUM, PATIENCE, Rig, text};
use crate::support::kafka::Secured;
use crate::support::kafka::secured::PASSWORD;

const INSERT: &str =
    "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('Order', '1', 't', '{}')";
/// More than two segments of WAL.
const FILL: &str = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 20000000)); SELECT pg_switch_wal(); \
                    SELECT pg_logical_emit_message(false, 'x', repeat('x', 20000000))";

/// Events that can't be delivered hold the slot where it is.
async fn held() -> Rig {
    Rig::new(DEBEZIUM).await.set("outbox.create_topics=off")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_retains_too_much_is_told_of_or_dropped() {
    let mut rig = held().await.arg("--max-retained-wal").arg("20MB").start().await;
    rig.sql(INSERT).await;
    rig.running.as_mut().unwrap().wait_for_stderr("KAFKA_TOPIC_MISSING").await;
    rig.sql(FILL).await;
    rig.running.as_mut().unwrap().wait_for_stderr("more than limits.max_retained_wal").await;
    rig.stop().await;
    let running = rig.command(&["run", "--on-limit", "drop"]).spawn();
    let output = running.wait_exit().await.expect_code(4);
    assert!(output.stderr.contains("SLOT_DROPPED") && output.stderr.contains("outbox remove"), "{output:#?}");
    let slot =
        format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'", rig.walferry.run_name());
    assert_eq!(rig.source.value::<i64>(&rig.database, &slot).await, 0);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_dropped_past_the_limit_while_it_streams() {
    let mut rig = held().await.arg("--max-retained-wal").arg("20MB").arg("--on-limit").arg("drop");
    rig = rig.start().await;
    // Nothing of the stream's own keeps it: a transaction that is open does.
    let open = rig.source.connect(&rig.database).await;
    open.batch_execute(&format!("BEGIN; {INSERT}")).await.unwrap();
    rig.sql(FILL).await;
    let output = rig.running.take().unwrap().wait_exit_within(PATIENCE).await.expect_code(4);
    assert!(output.stderr.contains("SLOT_DROPPED"), "{output:#?}");
    open.batch_execute("COMMIT").await.unwrap();
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_is_lost_is_not_made_anew_in_silence() {
    let mut rig = Rig::new(DEBEZIUM).await.start().await;
    rig.sql(INSERT).await;
    rig.records("Order", 1).await;
    rig.stop().await;
    let slot = rig.walferry.run_name().to_owned();
    rig.sql(&format!("SELECT pg_drop_replication_slot('{slot}')")).await;
    rig.sql(INSERT).await;
    let output = rig.command(&["run"]).run().await.expect_code(4);
    assert!(output.stderr.contains("SLOT_MISSING") && output.stderr.contains("outbox remove"), "{output:#?}");
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{slot}'");
    assert_eq!(rig.source.value::<i64>(&rig.database, &slots).await, 0, "nothing was made");
    // The hint is the way out: with --snapshot what the table has comes, the first event once more.
    rig.walferry.command("outbox").arg("remove").run().await.expect_code(0);
    let rig = rig.arg("--snapshot").start().await;
    assert_eq!(rig.records("Order", 3).await.len(), 3);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_another_process_has_is_left_to_it() {
    let rig = Rig::new(DEBEZIUM).await.start().await;
    let output = rig.command(&["run"]).run().await.expect_code(4);
    assert!(output.stderr.contains("OWNED_BY"), "{output:#?}");
    let output = rig.walferry.command("outbox").arg("remove").run().await.expect_code(4);
    assert!(output.stderr.contains("OWNED_BY"), "{output:#?}");
    // The first one has noticed nothing.
    rig.sql(INSERT).await;
    rig.records("Order", 1).await;
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_of_another_database_or_another_plugin_is_refused_and_left() {
    let mut rig = Rig::new(DEBEZIUM).await;
    let slot = rig.walferry.run_name().to_owned();
    for (database, plugin) in [("postgres", "pgoutput"), (rig.database.as_str(), "test_decoding")] {
        let make = format!("SELECT pg_create_logical_replication_slot('{slot}', '{plugin}')");
        rig.source.query(database, &make).await;
        let publication = format!("CREATE PUBLICATION {slot} FOR TABLE outbox");
        rig.sql(&publication).await;
        let output = rig.command(&["run"]).run().await.expect_code(4);
        assert!(output.stderr.contains("SLOT_UNUSABLE"), "{output:#?}");
        rig.source.query(database, &format!("SELECT pg_drop_replication_slot('{slot}')")).await;
        rig.sql(&format!("DROP PUBLICATION {slot}")).await;
    }
    rig.restart().await;
    rig.end().await;
}

/// Row 46: rights on one topic are missing. It looks like a fault of that topic's events, and somebody can cure it.
#[tokio::test(flavor = "multi_thread")]
async fn row_46_rights_that_are_missing_on_one_topic_stop_the_stream_until_they_are_granted() {
    let secured = Secured::shared().await;
    let mut rig = Rig::through(&secured.kafka, &secured.sasl(), DEBEZIUM)
        .await
        .set("kafka.security_protocol=SASL_PLAINTEXT")
        .set("kafka.sasl_mechanism=PLAIN")
        .set("kafka.sasl_username=walferry")
        .set("outbox.create_topics=off");
    for topic in ["Allowed", "Denied", "dlq"] {
        let topic = rig.topic(topic);
        let new = rdkafka::admin::NewTopic::new(&topic, 1, rdkafka::admin::TopicReplication::Fixed(1));
        rig.kafka.admin().create_topics([&new], &rdkafka::admin::AdminOptions::new()).await.unwrap();
    }
    // A dead letter could be written: if there is none, it is not for want of rights.
    for topic in ["Allowed", "dlq"] {
        secured.grant(&rig.topic(topic), &["Write", "Describe", "DescribeConfigs"]);
    }
    secured.grant(&rig.topic("Denied"), &["Describe", "DescribeConfigs"]);
    rig.restart_with(&[("WALFERRY_KAFKA_SASL_PASSWORD", PASSWORD)]).await;
    let insert = |kind: &str, key: u32| {
        format!(
            "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('{kind}', '{key}', 't', '{{}}')"
        )
    };
    rig.sql(&insert("Allowed", 1)).await;
    rig.records("Allowed", 1).await;
    rig.delivered().await;
    rig.sql(&insert("Denied", 2)).await;
    // The slot may have moved until then: others write to this server.
    let behind: String = rig.source.value(&rig.database, "SELECT pg_current_wal_lsn()::text").await;
    rig.sql(&insert("Allowed", 3)).await;
    let running = rig.running.as_mut().unwrap();
    running.wait_for_stderr("KAFKA_DENIED").await;
    assert!(running.stderr().contains(&format!("{}.Denied", rig.prefix)), "{}", running.stderr());
    let slot = rig.walferry.run_name();
    let waits = format!(
        "SELECT confirmed_flush_lsn < '{behind}' FROM pg_replication_slots WHERE slot_name = '{slot}'"
    );
    assert!(rig.source.value::<bool>(&rig.database, &waits).await, "the slot waits");
    secured.grant(&rig.topic("Denied"), &["Write"]);
    rig.records("Denied", 1).await;
    rig.delivered().await;
    let keys: Vec<String> =
        rig.records("Allowed", 2).await.iter().map(|record| text(&record.key).to_owned()).collect();
    assert_eq!((keys.first().unwrap().as_str(), keys.last().unwrap().as_str()), ("1", "3"));
    assert!(rig.kafka.records(&rig.topic("dlq")).is_empty(), "nothing was wrong with the event");
    rig.end().await;
}
