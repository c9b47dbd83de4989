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
