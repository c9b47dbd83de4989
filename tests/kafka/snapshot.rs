//! `read --snapshot`: the rows of the tables as events, and `read --create-slot`: a feed without a writer.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Feed, Kafka, Way};

const TABLES: &str = "CREATE TABLE a (id int PRIMARY KEY, n numeric); INSERT INTO a SELECT g, g + 0.50 FROM generate_series(1, 4) g;
     CREATE TABLE b (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, a int[]); INSERT INTO c VALUES (1, '{1,NULL}'), (2, NULL)";

/// Events of a table: (op, source.snapshot, after).
fn events(kafka: &Kafka, topic: &str) -> Vec<(String, String, Value)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let records = kafka.records(topic);
    let values = records.iter().filter(|record| record.value.is_some()).map(|record| record.json());
    values
        .map(|value| (text(&value["op"]), text(&value["source"]["snapshot"]), value["after"].clone()))
        .collect()
}

fn marks(kafka: &Kafka, topic: &str) -> Vec<String> {
    events(kafka, topic).into_iter().map(|(op, snapshot, _)| format!("{op} {snapshot}")).collect()
}

async fn wait_for_events(kafka: &Kafka, topic: &str, count: usize) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while events(kafka, topic).len() < count {
        assert!(Instant::now() < deadline, "{topic} has {:?}", events(kafka, topic));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_first_and_the_stream_goes_on_from_exactly_there() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]).services().prepare().await;
    let prefix = format!("{prefix}_default");
    let [a, b, c] = ["a", "b", "c"].map(|table| format!("{prefix}.public.{table}"));
    let command = feed.lanes[0].reader_command.clone().unwrap().args(&["--create-slot", "--snapshot"]);
    // Ended after a few rows, it begins again.
    feed.lanes[0].reader = Some(command.clone().failpoint("snapshot-row", "3*off->panic").spawn());
    feed.lanes[0].reader.take().unwrap().wait_exit().await;
    feed.source("INSERT INTO b VALUES (1); UPDATE a SET n = 0 WHERE id = 4").await;
    feed.lanes[0].reader = Some(command.spawn());
    feed.lanes[0].reader.as_mut().unwrap().wait_for_stderr("an earlier snapshot was interrupted").await;
    feed.lanes[0].reader.as_mut().unwrap().wait_for_stderr("the snapshot is written").await;
    feed.source("DELETE FROM c WHERE id = 2").await;
    wait_for_events(kafka, &c, 3).await;
    // The transaction before it is in other partitions: there is no order between those.
    for (topic, mark) in [(&a, "u false"), (&b, "c false")] {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !marks(kafka, topic).contains(&mark.to_owned()) {
            assert!(Instant::now() < deadline, "{topic}: {:?}", marks(kafka, topic));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let last: Vec<_> = marks(kafka, &c).into_iter().rev().take(3).rev().collect();
    assert_eq!(last, ["r first_in_data_collection", "r last", "d false"]);
    let all = events(kafka, &a);
    let rows: Vec<_> = all.iter().filter(|(op, ..)| op == "r").collect();
    let whole = &rows[rows.len() - 4..];
    let marked: Vec<&str> = whole.iter().map(|(_, mark, _)| mark.as_str()).collect();
    assert_eq!(marked, ["first", "true", "true", "last_in_data_collection"]);
    assert_eq!(whole[0].2, serde_json::json!({"id": 1, "n": "1.50"}));
    // Once is enough.
    feed.lanes[0].kill_reader().await;
    feed.lanes[0].reader =
        Some(feed.lanes[0].reader_command.clone().unwrap().args(&["--create-slot", "--snapshot"]).spawn());
    feed.source("INSERT INTO c VALUES (3, '{}')").await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while marks(kafka, &c).last().is_none_or(|last| last != "c false") {
        assert!(Instant::now() < deadline, "{:?}", marks(kafka, &c));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(events(kafka, &a), all);
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn walferry_write_does_not_apply_the_rows_of_a_snapshot() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]).services().prepare().await;
    let reader = feed.lanes[0].reader_command.clone().unwrap().arg("--snapshot");
    feed.lanes[0].reader_command = Some(reader);
    feed.restart().await;
    feed.source("UPDATE a SET n = n + 1; INSERT INTO b SELECT g FROM generate_series(1, 50) g").await;
    feed.wait_live().await;
    feed.lanes[0].reader.as_mut().unwrap().wait_for_stderr("the snapshot is written").await;
    feed.source("DELETE FROM a WHERE id = 2").await;
    feed.expect_exact().await;
    let topic = format!("{prefix}_default.public.a");
    let rows = events(kafka, &topic).iter().filter(|(op, ..)| op == "r").count();
    assert!(rows >= 4, "{:?}", marks(kafka, &topic));
    feed.end().await;
}

/// DDL waits for the snapshot's locks, and the snapshot's own reader for the DDL: what it gets to read in the end is an empty table.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_rewritten_before_its_turn_is_written_from_a_new_snapshot() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of(TABLES).via(kafka, &prefix).ways(&[Way::Default]).services().prepare().await;
    let command = feed.lanes[0].reader_command.clone().unwrap().args(&["--create-slot", "--snapshot"]);
    feed.lanes[0].reader = Some(command.failpoint("snapshot-row", "1*sleep(4000)->off").spawn());
    feed.lanes[0].reader.as_mut().unwrap().wait_for_stderr("writes the snapshot").await;
    let ddl = feed.source.connect(&feed.database).await;
    let alter = tokio::spawn(async move { ddl.batch_execute("ALTER TABLE c ALTER id TYPE bigint").await });
    let reader = feed.lanes[0].reader.as_mut().unwrap();
    reader.wait_for_stderr("the snapshot is given up").await;
    alter.await.unwrap().unwrap();
    reader.wait_for_stderr("the snapshot is written").await;
    let c = format!("{prefix}_default.public.c");
    assert_eq!(marks(kafka, &c), ["r first_in_data_collection", "r last"]);
    feed.end().await;
}
