//! Kafka goes away, loses what was not read, or the process ends between two of its messages (rows 26 to 35 of the fault table).

use std::time::Duration;

use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::feed;
use crate::support::feed::Builder;
use crate::support::{Feed, Kafka, Way};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, body text)";

/// One lane, through a broker of the test's own.
fn alone(kafka: &Kafka) -> Builder {
    Feed::of(TABLE).via(kafka, "f").ways(&[Way::Default])
}

async fn confirmed(feed: &Feed) -> String {
    let sql = format!(
        "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{}'",
        feed.lanes[0].walferry.run_name()
    );
    feed.source.text(&feed.database, &sql).await.remove(0).remove(0).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn row_26_a_broker_killed_while_it_is_written_to() {
    let mut kafka = Kafka::start().await;
    let mut feed = alone(&kafka).start().await;
    for round in 0..3 {
        let rows = "INSERT INTO t SELECT g, repeat('x', 300) FROM generate_series(%, % + 4999) g";
        feed.source(&rows.replace('%', &(round * 10_000).to_string())).await;
        kafka.kill9();
        feed.source(&format!("UPDATE t SET body = 'round {round}' WHERE id % 3 = {round}")).await;
        kafka.restart().await;
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
    let before = confirmed(&feed).await;
    feed.source("INSERT INTO t SELECT g, 'down' FROM generate_series(2, 2000) g").await;
    feed.source("DELETE FROM t WHERE id % 2 = 0").await;
    // Longer than any of the run's own retries.
    let over = std::time::Instant::now() + Duration::from_secs(12);
    while std::time::Instant::now() < over {
        assert_eq!(
            confirmed(&feed).await,
            before,
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
        let mut feed = feed(TABLE).await.start().await;
        feed.kill().await;
        for round in 0..4 {
            feed.source(&format!(
                "INSERT INTO t SELECT g, 'x' FROM generate_series({0}, {0} + 9) g",
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
async fn unread(feed: &mut Feed) {
    feed.source("INSERT INTO t VALUES (1, 'read')").await;
    feed.expect_same_content().await;
    let before = confirmed(feed).await;
    let lock = feed.target.connect(&feed.lanes[0].database).await;
    lock.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    feed.source("INSERT INTO t SELECT g, 'unread' FROM generate_series(2, 50) g").await;
    // Confirmed: the topics have it.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while confirmed(feed).await == before {
        assert!(std::time::Instant::now() < deadline, "the topics never had the events");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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
async fn row_35_partitions_added_while_it_streams_are_read() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLE).via(kafka, &prefix).ways(&[Way::Default]).start().await;
    feed.source("INSERT INTO t SELECT g, 'one' FROM generate_series(1, 100) g").await;
    let topic = format!("{prefix}_default.public.t");
    let more = NewPartitions::new(&topic, 5);
    kafka.admin().create_partitions([&more], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
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
