//! `read --connector`: a connector is stopped, and walferry goes on where it stood, with its file.

use std::time::Duration;

use serde_json::json;

use super::records;
use crate::support::{Connect, Kafka, Postgres, Walferry, scratch};

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_takes_over_from_a_connector_with_its_file() {
    let server = Postgres::builder(15).database("app").start().await;
    server
        .sql(
            "app",
            "CREATE TABLE t (id int PRIMARY KEY, v numeric(6,2)); CREATE TABLE u (id int PRIMARY KEY)",
        )
        .await;
    server.sql("app", "INSERT INTO t SELECT g, g / 4.0 FROM generate_series(1, 5) g").await;
    let (kafka, connect, prefix) = (Kafka::shared().await, Connect::shared().await, Kafka::prefix());
    let mut config = Connect::source(&server, "app", &prefix);
    // Names know no case.
    config["table.include.list"] = json!("PUBLIC.T");
    connect.run(&prefix, &config).await;
    let topic = format!("{prefix}.public.t");
    records(kafka, &topic, 5).await;
    server
        .sql("app", "INSERT INTO t SELECT g, g / 4.0 FROM generate_series(6, 10) g; INSERT INTO u VALUES (1)")
        .await;
    records(kafka, &topic, 10).await;
    let folder = scratch::folder("takeover");
    let file = folder.join("connector.json");
    std::fs::write(&file, json!({"name": prefix, "config": config, "tasks": []}).to_string()).unwrap();
    let command = Walferry::new("", "").name("taken_over").command("read").args(&[
        "--connector",
        &file.display().to_string(),
        "--brokers",
        &kafka.brokers(),
    ]);
    let output = command.run().await.expect_code(4);
    assert!(
        output.stderr.contains("OWNED_BY") && output.stderr.contains("stop the connector"),
        "{output:#?}"
    );
    connect.remove(&prefix).await;
    server
        .wait_until("app", "SELECT bool_and(NOT active) FROM pg_replication_slots", Duration::from_secs(60))
        .await;
    server
        .sql(
            "app",
            "INSERT INTO t SELECT g, g / 4.0 FROM generate_series(11, 15) g; INSERT INTO u VALUES (2)",
        )
        .await;
    let mut running = command.spawn();
    running.wait_for_stderr("takes up slot").await;
    server.sql("app", "UPDATE t SET v = 0 WHERE id = 15").await;
    let deadline = std::time::Instant::now() + super::PATIENCE;
    let found = loop {
        let found = kafka.records(&topic);
        if found.last().is_some_and(|record| record.json()["payload"]["op"] == "u") {
            break found;
        }
        assert!(running.is_running() && std::time::Instant::now() < deadline, "{}", running.stderr());
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let id = |at: usize| found[at].json()["payload"]["after"]["id"].as_i64().unwrap();
    let mut ids: Vec<i64> = (0..found.len() - 1).map(id).collect();
    // What the connector had not confirmed comes once more.
    ids.dedup();
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted, (1..=15).collect::<Vec<_>>(), "{ids:?}");
    // No rows of a snapshot but the connector's.
    let rows = found.iter().filter(|record| record.json()["payload"]["op"] == "r").count();
    assert_eq!(rows, 5);
    // One form of keys and rows before and after.
    let form = |at: usize| {
        let (key, value) = (String::from_utf8(found[at].key.clone().unwrap()).unwrap(), found[at].json());
        (key.replace(&format!("{}}}}}", id(at)), ""), value["schema"]["fields"][1].clone())
    };
    assert_eq!(form(9), form(found.len() - 2));
    let topics: Vec<String> = kafka.topics(&format!("{prefix}.")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(topics, [topic]);
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    scratch::remove(&folder);
}

/// Topic, key and schemas of a routed row, from the connector and then from walferry with the same file.
#[tokio::test(flavor = "multi_thread")]
async fn tables_are_routed_into_one_topic_as_a_connector_routes_them() {
    let server = Postgres::builder(15).database("app").start().await;
    server
        .sql(
            "app",
            "CREATE TABLE s_1 (id int PRIMARY KEY, v text); CREATE TABLE s_2 (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY)",
        )
        .await;
    let (kafka, connect, prefix) = (Kafka::shared().await, Connect::shared().await, Kafka::prefix());
    let mut config = Connect::source(&server, "app", &prefix);
    config["transforms"] = json!("shards");
    config["transforms.shards.type"] = json!("io.debezium.transforms.ByLogicalTableRouter");
    config["transforms.shards.topic.regex"] = json!("(.*)\\.s_\\d+");
    config["transforms.shards.topic.replacement"] = json!("$1.s");
    connect.run(&prefix, &config).await;
    let changes = |id: i32| {
        format!(
            "INSERT INTO s_1 VALUES ({id}, 'a'); INSERT INTO s_2 VALUES ({id}, 'b'); INSERT INTO other VALUES ({id});
             UPDATE s_2 SET v = 'c' WHERE id = {id}; DELETE FROM s_1 WHERE id = {id}"
        )
    };
    server
        .wait_until(
            "app",
            "SELECT count(*) = 1 FROM pg_replication_slots WHERE active",
            Duration::from_secs(60),
        )
        .await;
    let topic = format!("{prefix}.public.s");
    // Two inserts, an update, a delete and its tombstone.
    server.sql("app", &changes(1)).await;
    records(kafka, &topic, 5).await;
    connect.remove(&prefix).await;
    server
        .wait_until("app", "SELECT bool_and(NOT active) FROM pg_replication_slots", Duration::from_secs(60))
        .await;
    let folder = scratch::folder("routed");
    let file = folder.join("connector.json");
    std::fs::write(&file, json!({"name": prefix, "config": config, "tasks": []}).to_string()).unwrap();
    let (file, brokers) = (file.display().to_string(), kafka.brokers());
    let walferry = Walferry::new("", "").name("routed");
    let reader = walferry.command("read").args(&["--connector", &file, "--brokers", &brokers]);
    let mut running = reader.spawn();
    running.wait_for_stderr("takes up slot").await;
    server.sql("app", &changes(2)).await;
    let of = |id: i64| {
        let mut found = Vec::new();
        for record in kafka.records(&topic) {
            let key: serde_json::Value = serde_json::from_slice(record.key.as_deref().unwrap()).unwrap();
            if key["payload"]["id"] == json!(id) {
                let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
                let value = record.json();
                let op = value["payload"]["op"].clone();
                let schema = &value["schema"];
                // What the block source has depends on the connector's version.
                let row = json!([schema["name"], schema["fields"][0], schema["fields"][1]]);
                found.push((key.replace(&format!("\"id\":{id}"), "\"id\":N"), op, row));
            }
        }
        found
    };
    let deadline = std::time::Instant::now() + super::PATIENCE;
    while of(2).len() < 5 {
        assert!(running.is_running() && std::time::Instant::now() < deadline, "{}", running.stderr());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let (connectors, mut once) = (of(1), of(1));
    // What the connector had not confirmed has come once more.
    once.truncate(5);
    assert_eq!(once, of(2));
    assert!(connectors.iter().all(|found| once.contains(found)), "{connectors:#?}");
    let keys: std::collections::BTreeSet<_> = once.iter().map(|(key, ..)| key.clone()).collect();
    assert_eq!(keys.len(), 2, "rows of two tables have two keys: {keys:?}");
    let topics: Vec<String> = kafka.topics(&format!("{prefix}.")).into_iter().map(|(name, _)| name).collect();
    assert_eq!(topics, [format!("{prefix}.public.other"), topic.clone()]);
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    // The form of the topics is kept to; half of a route is none.
    let other = reader.clone().args(&["--set", "capture.topic_replacement=$1.t"]).run().await.expect_code(4);
    assert!(other.stderr.contains("KAFKA_OTHER_RUN"), "{other:#?}");
    let half = walferry.command("read").args(&["--brokers", &brokers, "--set", "capture.topic_regex=x"]);
    let half = half.run().await.expect_code(2);
    assert!(half.stderr.contains("one needs the other"), "{half:#?}");
    scratch::remove(&folder);
}
