//! What the topics are made with, what of existing ones is a finding, and that a key is where Java's clients look for it.

use std::io::Write;
use std::process::{Command, Stdio};

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use crate::support::walferry::Status;
use crate::support::{Feed, Kafka, Way, programs};

#[tokio::test(flavor = "multi_thread")]
async fn every_setting_of_a_topic_is_explicit() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY)")
        .via(kafka, &prefix)
        .ways(&[Way::Default])
        .set("kafka.partitions=5")
        .set("kafka.replication_factor=1")
        .set("kafka.retention=9h")
        .set("kafka.message_bytes=3MB")
        .start()
        .await;
    let prefix = format!("{prefix}_default");
    let names = [
        format!("{prefix}.public.t"),
        format!("{prefix}.transaction"),
        format!("__debezium-heartbeat.{prefix}"),
    ];
    for (name, partitions) in names.iter().zip([5, 1, 1]) {
        assert_eq!(kafka.topics(name), [(name.clone(), partitions)]);
        for (setting, expected) in [
            ("cleanup.policy", "delete"),
            ("retention.ms", "32400000"),
            ("max.message.bytes", "3145728"),
            ("min.insync.replicas", "1"),
            ("message.timestamp.type", "LogAppendTime"),
        ] {
            assert_eq!(kafka.topic_setting(name, setting).await, expected, "{name}: {setting}");
        }
    }
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_less_than_was_asked_for_is_a_finding() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let topic = format!("{prefix}_default.public.t");
    let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1))
        .set("retention.ms", "60000")
        .set("retention.bytes", "1000000")
        .set("max.message.bytes", "1000");
    kafka.admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY)")
        .via(kafka, &prefix)
        .ways(&[Way::Default])
        .start()
        .await;
    let walferry = &feed.lanes[0].walferry;
    let prefix = format!("{prefix}_default");
    let arguments = ["--via", "kafka", "--brokers", &kafka.brokers(), "--prefix", &prefix];
    let check = walferry.command("check").args(&arguments).run().await;
    for said in [
        "retention.ms=60000",
        "retention.bytes=1000000",
        "max.message.bytes=1000",
        "kafka-configs.sh",
        "KAFKA_TOPIC_WEAK",
    ] {
        assert!(check.said().contains(said), "{said}: {check:#?}");
    }
    // A run with it is possible.
    feed.source("INSERT INTO t VALUES (1)").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn single_tables_have_topics_with_other_numbers_of_partitions() {
    let (kafka, prefix) = (Kafka::shared().await, Kafka::prefix());
    let mut feed =
        Feed::of("CREATE TABLE small (id int PRIMARY KEY); CREATE TABLE large (id int PRIMARY KEY)")
            .via(kafka, &prefix)
            .set("kafka.partitions=2")
            .set("kafka.table_partitions=public.large=5")
            .ways(&[Way::Default])
            .start()
            .await;
    feed.source(
        "INSERT INTO small SELECT generate_series(1, 100); INSERT INTO large SELECT generate_series(1, 100)",
    )
    .await;
    feed.source("DELETE FROM small WHERE id % 3 = 0; UPDATE large SET id = id + 1000 WHERE id % 3 = 0").await;
    feed.expect_exact().await;
    let topics = kafka.topics(&format!("{prefix}_default.public."));
    let numbers: Vec<usize> = topics.iter().map(|(_, partitions)| *partitions).collect();
    assert_eq!(numbers, [5, 2], "{topics:?}");
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_every_topic_that_would_stop_the_run() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let compacted = ["transaction", "public.t"].map(|name| format!("{prefix}.{name}"));
    for topic in &compacted {
        let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1)).set("cleanup.policy", "compact");
        kafka.admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    }
    let tables = r#"CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE "a b" (id int PRIMARY KEY); CREATE TABLE a_b (id int PRIMARY KEY);
        CREATE SCHEMA "x.y"; CREATE TABLE "x.y".z (id int PRIMARY KEY); CREATE SCHEMA x; CREATE TABLE x."y.z" (id int PRIMARY KEY);"#;
    let feed = Feed::of(tables).ways(&[Way::Default]).prepare().await;
    let arguments = ["--via", "kafka", "--brokers", &kafka.brokers(), "--prefix", &prefix];
    let check = feed.lanes[0].walferry.command("check").args(&arguments).run().await.expect_code(4);
    let shared = [format!("share topic \"{prefix}.public.a_b\""), format!("share topic \"{prefix}.x.y.z\"")];
    for said in
        compacted.iter().map(|topic| format!("topic \"{topic}\" has cleanup.policy=compact")).chain(shared)
    {
        assert!(check.said().contains(&said), "{said}: {check:#?}");
    }
    feed.end().await;
}

/// The records come from the Java producer that Kafka's own tool uses; its partitioner is the one that every Java client has by default.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_in_the_partition_where_java_puts_it() {
    const PARTITIONS: usize = 23;
    let kafka = Kafka::shared().await;
    let topic = format!("{}.java", Kafka::prefix());
    let new = NewTopic::new(&topic, PARTITIONS as i32, TopicReplication::Fixed(1));
    kafka.admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    let mut keys: Vec<String> = (1..=300).map(|id| format!("{{\"id\":{id}}}")).collect();
    keys.extend(
        (0..100).map(|length| "é".repeat(length % 7) + &"k".repeat(length)).filter(|key| !key.is_empty()),
    );
    let lines: String = keys.iter().map(|key| format!("{key}\tv\n")).collect();
    let mut java = Command::new("java")
        .args(["-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "-cp"])
        .arg(programs::kafka().join("libs").join("*"))
        .args([
            "org.apache.kafka.tools.ConsoleProducer",
            "--bootstrap-server",
            &kafka.brokers(),
            "--topic",
            &topic,
        ])
        .args(["--property", "parse.key=true"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java runs");
    java.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
    let output = java.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let records = kafka.records(&topic);
    assert_eq!(records.len(), keys.len());
    for record in records {
        let key = record.key.as_deref();
        let text = String::from_utf8_lossy(key.unwrap_or_default()).into_owned();
        assert_eq!(::kafka::partition(key, PARTITIONS), record.partition, "{text}");
    }
}

/// Each topic has the events of what it is named after, and END counts them so: the writer finds all of them, and those of the new name are
/// not the table's that it feeds.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_renamed_between_two_changes_of_a_transaction_does_not_end_the_run_and_is_said() {
    let (kafka, prefix) = (Kafka::shared().await, Kafka::prefix());
    let schema = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)";
    let mut feed = Feed::of(schema).via(kafka, &prefix).ways(&[Way::Default]).start().await;
    feed.source(
        "INSERT INTO a VALUES (1); INSERT INTO other VALUES (1); ALTER TABLE a RENAME TO b; INSERT INTO b VALUES (2)",
    )
    .await;
    feed.source("INSERT INTO other VALUES (2)").await;
    feed.applied().await;
    feed.expect_on_targets("SELECT id FROM a", &["1"]).await;
    feed.expect_on_targets("SELECT count(*) FROM other", &["2"]).await;
    for (table, events) in [("a", 1), ("b", 1), ("other", 2)] {
        assert_eq!(kafka.records(&format!("{prefix}_default.public.{table}")).len(), events, "{table}");
    }
    let lane = &mut feed.lanes[0];
    let running = lane.running.as_mut().unwrap();
    running.wait_for_stderr("was renamed to").await;
    let warned = |status: &Status| status.0["warnings"].to_string().contains("was renamed to");
    running.wait_for("the warning", warned).await;
    // What was not applied is nothing that anybody would call equal.
    let output = lane.walferry.command("verify").run().await;
    assert!([1, 3].contains(&output.code) && output.stdout.contains("public.a"), "{output:#?}");
    lane.walferry.command("cutover").run().await.expect_code(1);
    feed.end().await;
}
