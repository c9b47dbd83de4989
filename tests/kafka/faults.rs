//! Kafka goes away, loses what was not read, or the process ends between two of its messages (rows 26 to 35 of the fault table).

use std::time::Duration;

use rdkafka::admin::{
    AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::feed;
use crate::support::feed::Builder;
use crate::support::kafka::{Record, end_past};
use crate::support::{Feed, Kafka, Way};

pub(super) const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text)";

/// One lane, through a broker of the test's own.
fn alone(kafka: &Kafka) -> Builder {
    Feed::of(TABLE).via(kafka, "f").ways(&[Way::Default])
}

/// Three times in the middle of a transaction's events.
#[tokio::test(flavor = "multi_thread")]
async fn row_26_a_broker_killed_while_it_is_written_to() {
    const ROWS: i64 = 20_000;
    let mut kafka = Kafka::start().await;
    let mut feed = alone(&kafka).start().await;
    let topic = "f_default.public.t";
    let (mut round, mut met) = (0, 0);
    while met < 3 {
        assert!(round < 12, "all of it was written before, again and again");
        let consumer = kafka.consumer();
        let before = end_past(&consumer, topic, -1);
        let (first, last) = (round * 100_000, round * 100_000 + ROWS - 1);
        let rows =
            format!("INSERT INTO t SELECT g, repeat('x', 300) FROM generate_series({first}, {last}) g");
        feed.source(&rows).await;
        let there = end_past(&consumer, topic, before) - before;
        kafka.kill9();
        met += i64::from(there < ROWS);
        feed.source(&format!("UPDATE t SET body = 'round {round}' WHERE id % 3 = {}", round % 3)).await;
        kafka.restart().await;
        round += 1;
    }
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_while_all_brokers_are_down_the_slot_waits() {
    let mut kafka = Kafka::start().await;
    let mut feed = alone(&kafka).start().await;
    feed.source("INSERT INTO t VALUES (1, 'before')").await;
    feed.expect_same_content().await;
    kafka.stop();
    // From here on there is something to wait for; until then the slot may follow what is idle.
    feed.source("INSERT INTO t VALUES (0, 'down')").await;
    let waits = format!(
        "SELECT confirmed_flush_lsn < '{}' FROM pg_replication_slots WHERE slot_name = '{}'",
        feed.source.wal_position().await,
        feed.lanes[0].walferry.run_name()
    );
    feed.source("INSERT INTO t SELECT g, 'down' FROM generate_series(2, 2000) g").await;
    feed.source("DELETE FROM t WHERE id % 2 = 0").await;
    // Longer than any of the run's own retries; in full, longer than librdkafka gives a message by default.
    let outage = Duration::from_secs(if super::full() { 11 * 60 } else { 12 });
    let over = std::time::Instant::now() + outage;
    while std::time::Instant::now() < over {
        assert!(
            feed.source.value::<bool>(&feed.database, &waits).await,
            "nothing may be confirmed that Kafka has not acknowledged"
        );
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    kafka.restart().await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_29_a_crash_at_any_message_changes_nothing_in_the_target() {
    for (failpoint, action) in [
        ("kafka-event-sent", "7*off->panic"),
        ("kafka-before-end", "1*off->panic"),
        ("kafka-end-acknowledged", "1*off->panic"),
        ("apply-before-commit", "1*off->panic"),
        ("apply-after-commit", "1*off->panic"),
    ] {
        // Several pieces, so that more is read than is applied.
        let mut feed = feed(TABLE).await.set("apply.batch_bytes=64kB").start().await;
        feed.kill().await;
        for round in 0..8 {
            feed.source(&format!(
                "INSERT INTO t SELECT g, repeat('x', 3000) FROM generate_series({0}, {0} + 9) g",
                round * 10
            ))
            .await;
            feed.source(&format!("UPDATE t SET body = 'y' WHERE id % 4 = {round}")).await;
        }
        feed.restart_with(failpoint, action).await;
        feed.wait_ended(Duration::from_secs(60)).await;
        feed.restart().await;
        feed.expect_exact().await;
        feed.end().await;
    }
}

/// Events wait in the topics while the writer can't apply them; then the run is killed.
pub(super) async fn unread(feed: &mut Feed) {
    feed.source("INSERT INTO t VALUES (1, 'read')").await;
    feed.expect_same_content().await;
    let lock = feed.target.connect(&feed.lanes[0].database).await;
    lock.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    // With an update among them, because inserts alone have their COMMIT on the way with them.
    feed.source(
        "INSERT INTO t SELECT g, 'unread' FROM generate_series(2, 50) g; UPDATE t SET body = 'unread' WHERE id = 1",
    )
    .await;
    super::brought(feed).await;
    feed.kill().await;
    lock.batch_execute("ROLLBACK").await.unwrap();
}

async fn refuses(mut feed: Feed, code: &str) {
    feed.restart().await;
    let running = feed.lanes[0].running.take().unwrap();
    let output = running.wait_exit_within(Duration::from_secs(120)).await;
    assert_eq!(output.code, 4, "{output:#?}");
    assert!(output.stderr.contains(code), "{output:#?}");
    // Nothing was skipped: the row that was there is all there is.
    feed.expect_on_targets("SELECT count(*) FROM t", &["1"]).await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_a_topic_that_was_deleted_unread_is_refused() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).start().await;
    unread(&mut feed).await;
    kafka.delete_topic(&format!("{prefix}_default.public.t")).await;
    refuses(feed, "KAFKA_DATA_LOST").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_31_a_topic_made_anew_under_the_same_name_is_refused() {
    let kafka = Kafka::shared().await;
    let foreign =
        Record { partition: 0, key: None, value: Some(b"{}".to_vec()), headers: Vec::new(), timestamp: None };
    // Shorter than it was, and with records of somebody else's at the position that is to be read.
    for records in [0, 3] {
        let prefix = Kafka::prefix();
        let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).start().await;
        unread(&mut feed).await;
        let topic = format!("{prefix}_default.public.t");
        kafka.delete_topic(&topic).await;
        let new = NewTopic::new(&topic, 1, TopicReplication::Fixed(1));
        kafka.admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        for _ in 0..records {
            kafka.produce(&topic, &foreign).await;
        }
        if records == 0 {
            refuses(feed, "KAFKA_DATA_LOST").await;
        } else {
            feed.restart().await;
            assert_eq!(feed.errors().await, ["EVENT_MALFORMED"]);
            feed.expect_on_targets("SELECT count(*) FROM t", &["1"]).await;
            feed.end().await;
        }
    }
}

/// A broker that makes topics for whoever asks: what it would make has one partition, a week, and the broker's own limits.
#[tokio::test(flavor = "multi_thread")]
async fn row_33_nothing_rests_on_topics_that_make_themselves() {
    let kafka = Kafka::start_with(&["auto.create.topics.enable=true", "num.partitions=7"]).await;
    let mut feed = alone(&kafka).set("kafka.partitions=3").set("kafka.retention=3h").start().await;
    feed.source("INSERT INTO t VALUES (1, 'x')").await;
    feed.expect_exact().await;
    let topic = "f_default.public.t";
    let made = async |feed: &Feed, topic: &str, partitions: usize| {
        assert_eq!(kafka.topics(topic), [(topic.to_owned(), partitions)]);
        let settings = ["retention.ms", "cleanup.policy", "message.timestamp.type"];
        let mut found = Vec::new();
        for setting in settings {
            found.push(kafka.topic_setting(topic, setting).await);
        }
        assert_eq!(found, ["10800000", "delete", "LogAppendTime"], "{}", feed.database);
    };
    made(&feed, topic, 3).await;
    // Made again by the run that starts, and not by the brokers, after somebody has deleted it; what was in it is gone.
    feed.kill().await;
    kafka.delete_topic(topic).await;
    feed.restart().await;
    // Nothing was lost until an event comes whose place in the topic is not what the target knows: 3 goes where 1 went, to partition 0,
    // of which the target has one record. (2 goes to another one, of which it has none.)
    feed.source("INSERT INTO t VALUES (3, 'y')").await;
    let output = feed.lanes[0].running.take().unwrap().wait_exit_within(Duration::from_secs(120)).await;
    assert!(output.code == 4 && output.stderr.contains("KAFKA_DATA_LOST"), "{output:#?}");
    made(&feed, topic, 3).await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_32_records_that_retention_removed_unread_are_refused() {
    let kafka = Kafka::shared().await;
    for (topic, code) in [("public.t", "KAFKA_DATA_LOST"), ("transaction", "KAFKA_DATA_LOST")] {
        let prefix = Kafka::prefix();
        let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).start().await;
        unread(&mut feed).await;
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&format!("{prefix}_default.{topic}"), 0, Offset::End).unwrap();
        kafka.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
        refuses(feed, code).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_32_what_was_read_before_retention_removed_it_is_no_loss() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).start().await;
    // The last record of the topic is a tombstone, and a reader that dies leaves events that nobody needs.
    feed.source("INSERT INTO t VALUES (1, 'x'); DELETE FROM t").await;
    feed.expect_exact().await;
    feed.kill().await;
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&format!("{prefix}_default.public.t"), 0, Offset::End).unwrap();
    kafka.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    feed.restart().await;
    feed.source("INSERT INTO t VALUES (2, 'y')").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_33_a_compacted_topic_is_refused() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).start().await;
    unread(&mut feed).await;
    let topic = format!("{prefix}_default.public.t");
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic)).set("cleanup.policy", "compact");
    kafka.admin().alter_configs([&change], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    refuses(feed, "KAFKA_TOPIC_COMPACTED").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_34_an_event_above_the_limit_stops_the_run_until_the_limit_is_raised() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLE)
        .via(kafka, &prefix)
        .ways(&[Way::Default])
        .set("kafka.message_bytes=20kB")
        .start()
        .await;
    feed.source("INSERT INTO t VALUES (1, 'small')").await;
    feed.source(
        "INSERT INTO t VALUES (2, (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 3000) g))",
    )
    .await;
    feed.source("INSERT INTO t VALUES (3, 'behind it')").await;
    assert_eq!(feed.errors().await, ["KAFKA_MESSAGE_TOO_LARGE"]);
    // What was committed before it comes with one of the tries; nothing behind it does.
    let before = "SELECT coalesce(max(id) = 1, false) FROM t";
    feed.target.wait_until(&feed.lanes[0].database, before, Duration::from_secs(60)).await;
    feed.expect_on_targets("SELECT max(id) FROM t", &["1"]).await;
    let topic = format!("{prefix}_default.public.t");
    let change = AlterConfig::new(ResourceSpecifier::Topic(&topic))
        .set("cleanup.policy", "delete")
        .set("max.message.bytes", "1000000");
    kafka.admin().alter_configs([&change], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    feed.reconfigure(&["--set", "kafka.message_bytes=1MB"]).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_34_large_rows_pass_in_the_copy_and_in_the_stream() {
    let kafka = Kafka::shared().await;
    // The brokers' limits are those of what is compressed.
    let schema = "CREATE TABLE t (id int PRIMARY KEY, body text, data bytea);
         ALTER TABLE t ALTER data SET STORAGE EXTERNAL; ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
         INSERT INTO t SELECT 1, string_agg(left(md5(g::text), 3), ''), string_agg(decode(md5(g::text), 'hex'), '') FROM generate_series(1, 750000) g";
    let mut feed = Feed::of(schema).via(kafka, &Kafka::prefix()).ways(&[Way::Default]).start().await;
    feed.source("INSERT INTO t SELECT 2, body, NULL FROM t").await;
    feed.source("INSERT INTO t SELECT 3, NULL, data FROM t WHERE id = 1").await;
    // Neither value is sent again.
    feed.source("UPDATE t SET id = id + 10").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_41_children_before_parents_and_cascades_that_are_undone() {
    let kafka = Kafka::shared().await;
    let schema = "CREATE TABLE parent (id int PRIMARY KEY, n int);
         CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent ON DELETE CASCADE);
         CREATE TABLE grandchild (id int PRIMARY KEY, child int REFERENCES child ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED)";
    let mut feed = Feed::of(schema)
        .via(kafka, &Kafka::prefix())
        .ways(&[Way::Default, Way::Rows, Way::Origin])
        .arg("--partitions")
        .arg("3")
        .start()
        .await;
    let fill = "INSERT INTO parent SELECT g, 0 FROM generate_series(1, 60) g; INSERT INTO child SELECT g, g FROM generate_series(1, 60) g;
                INSERT INTO grandchild SELECT g, g FROM generate_series(1, 60) g";
    feed.together(&[
        // The child of a child comes first: the constraint is looked at when all are there.
        "INSERT INTO grandchild VALUES (100, 100); INSERT INTO parent VALUES (100, 0); INSERT INTO child VALUES (100, 100)",
        fill,
        // The rows that the cascade takes along are there again at the end, in the same transaction and in the next one.
        &format!("DELETE FROM parent WHERE id <= 60; {fill}; UPDATE parent SET n = 1"),
        "DELETE FROM parent WHERE id <= 30",
        "INSERT INTO parent SELECT g, 2 FROM generate_series(1, 30) g; INSERT INTO child SELECT g, g FROM generate_series(1, 15) g",
    ])
    .await;
    feed.expect_same().await;
    feed.expect_on_targets(
        "SELECT (SELECT count(*) FROM parent), (SELECT count(*) FROM child), (SELECT count(*) FROM grandchild)",
        &["61|46|31"],
    )
    .await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn row_35_partitions_added_while_it_streams_are_read() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).services().start().await;
    feed.source("INSERT INTO t SELECT g, 'one' FROM generate_series(1, 100) g").await;
    let topic = format!("{prefix}_default.public.t");
    let more = NewPartitions::new(&topic, 5);
    kafka.admin().create_partitions([&more], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    feed.source("UPDATE t SET body = 'one of five'").await;
    feed.expect_exact().await;
    // A reader that starts writes to all of them, and the writer does not start.
    feed.lanes[0].kill_reader().await;
    feed.lanes[0].start_reader();
    feed.source("UPDATE t SET body = 'five'").await;
    feed.expect_exact().await;
    feed.restart().await;
    feed.source("UPDATE t SET id = id + 1000, body = 'moved' WHERE id > 50").await;
    feed.source("DELETE FROM t WHERE id % 5 = 0").await;
    feed.expect_exact().await;
    let mut partitions: Vec<i32> = kafka.records(&topic).iter().map(|record| record.partition).collect();
    partitions.dedup();
    assert_eq!(partitions, [0, 1, 2, 3, 4], "keys are spread over all partitions");
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_another_run_are_refused() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let first = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).start().await;
    first.source("INSERT INTO t VALUES (1, 'mine')").await;
    let mut second = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).spawn().await;
    let running = second.lanes[0].running.take().unwrap();
    let output = running.wait_exit_within(Duration::from_secs(120)).await;
    assert_eq!(output.code, 4, "{output:#?}");
    assert!(output.stderr.contains("KAFKA_OTHER_RUN"), "{output:#?}");
    first.end().await;
    second.end().await;
}
