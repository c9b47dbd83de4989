//! `--resync`: what the topics have lost is copied again, and the stream goes on.

use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::support::{Feed, Kafka, Way};

const TABLES: &str = "CREATE TABLE t (id int PRIMARY KEY, body text); CREATE TABLE other (id int PRIMARY KEY, t int REFERENCES t (id))";

/// Events of both tables are in the topics, confirmed to the source, and the writer is dead before it could apply them.
async fn unread(feed: &mut Feed) {
    feed.source(
        "INSERT INTO t SELECT g, 'read' FROM generate_series(1, 10) g; INSERT INTO other VALUES (1, 1)",
    )
    .await;
    feed.expect_same_content().await;
    let lock = feed.target.connect(&feed.lanes[0].database).await;
    lock.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
    // With an update among them, because inserts alone have their COMMIT on the way with them.
    feed.source(
        "INSERT INTO t SELECT g, 'unread' FROM generate_series(11, 50) g; INSERT INTO other VALUES (2, 20);
         UPDATE t SET body = 'unread' WHERE id = 1",
    )
    .await;
    feed.source("UPDATE t SET body = 'changed' WHERE id % 2 = 0; DELETE FROM t WHERE id = 7").await;
    feed.source("INSERT INTO other VALUES (3, 30)").await;
    super::brought(feed).await;
    feed.lanes[0].kill_writer().await;
    lock.batch_execute("ROLLBACK").await.unwrap();
}

async fn truncate_topic(kafka: &Kafka, topic: &str) {
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::End).unwrap();
    let left = kafka.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    for partition in left.elements() {
        partition.error().unwrap();
    }
}

/// The writer refuses, and says by which option it goes on.
async fn refused(feed: &mut Feed, option: &str) {
    feed.lanes[0].start_writer();
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await;
    assert_eq!(output.code, 4, "{output:#?}");
    assert!(output.stderr.contains("KAFKA_DATA_LOST"), "{output:#?}");
    assert!(output.stderr.contains(&format!("walferry write {option}")), "{output:#?}");
}

fn resync(feed: &mut Feed, pattern: &str) {
    let lane = &mut feed.lanes[0];
    lane.running = Some(lane.command.clone().args(&["--resync", pattern]).spawn());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_whose_topic_was_deleted_is_copied_again_and_the_others_are_not() {
    let kafka = Kafka::shared().await;
    for services in [true, false] {
        let prefix = Kafka::prefix();
        let mut builder = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]);
        if services {
            builder = builder.services();
        }
        let mut feed = builder.start().await;
        unread(&mut feed).await;
        kafka.delete_topic(&format!("{prefix}_default.public.t")).await;
        refused(&mut feed, "--resync public.t").await;
        // Only what is copied again loses what was put there by hand.
        feed.target("SET session_replication_role = replica; INSERT INTO t VALUES (-1, 'by hand'); INSERT INTO other VALUES (-1, 1)").await;
        resync(&mut feed, "public.t");
        feed.source("INSERT INTO t VALUES (100, 'later'); INSERT INTO other VALUES (4, 100)").await;
        feed.applied().await;
        feed.expect_on_targets("SELECT count(*) FROM t WHERE id = -1", &["0"]).await;
        feed.target("DELETE FROM other WHERE id = -1").await;
        feed.expect_same_content().await;
        // Started once more without the option, it copies nothing.
        feed.target("SET session_replication_role = replica; INSERT INTO t VALUES (-2, 'by hand')").await;
        feed.restart().await;
        feed.source("UPDATE t SET body = 'last' WHERE id = 100").await;
        feed.applied().await;
        feed.target("DELETE FROM t WHERE id = -2").await;
        feed.expect_same_content().await;
        feed.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_of_which_retention_has_removed_events_is_copied_again() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]).services().start().await;
    unread(&mut feed).await;
    truncate_topic(kafka, &format!("{prefix}_default.public.t")).await;
    refused(&mut feed, "--resync public.t").await;
    // Killed before and after the new copy is there.
    for failpoint in ["resync-marked", "copy-before-commit"] {
        let command = feed.lanes[0].command.clone().args(&["--resync", "T"]).failpoint(failpoint, "panic");
        feed.lanes[0].running = Some(command.spawn());
        feed.wait_ended(Duration::from_secs(60)).await;
        feed.source("UPDATE t SET body = body || '!' WHERE id < 5").await;
    }
    feed.lanes[0].start_writer();
    feed.expect_same_content().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_copied_again_after_transactions_were_lost() {
    let kafka = Kafka::shared().await;
    for services in [true, false] {
        let prefix = Kafka::prefix();
        let mut builder = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]);
        if services {
            builder = builder.services();
        }
        let mut feed = builder.start().await;
        unread(&mut feed).await;
        let topic = format!("{prefix}_default.transaction");
        truncate_topic(kafka, &topic).await;
        refused(&mut feed, "--resync '*'").await;
        if !services {
            // And if it is gone altogether, with all that says how far the slot was.
            kafka.delete_topic(&topic).await;
            kafka.delete_topic(&format!("__debezium-heartbeat.{prefix}_default")).await;
            refused(&mut feed, "--resync '*'").await;
        }
        resync(&mut feed, "*");
        feed.source("INSERT INTO t VALUES (100, 'later'); INSERT INTO other VALUES (4, 100)").await;
        feed.expect_same_content().await;
        feed.restart().await;
        feed.source("DELETE FROM other; DELETE FROM t WHERE id > 20").await;
        feed.expect_same_content().await;
        feed.end().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pattern_that_matches_nothing_is_refused() {
    let kafka = Kafka::shared().await;
    let mut feed = Feed::of(TABLES).via(kafka, &Kafka::prefix()).ways(&[Way::Default]).start().await;
    feed.kill().await;
    resync(&mut feed, "nothing_*");
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await.expect_code(4);
    assert!(output.stderr.contains("matches no table"), "{output:#?}");
    feed.end().await;
}
