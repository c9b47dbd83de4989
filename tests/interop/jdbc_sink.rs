//! Debezium's JDBC sink connector on walferry's topics.

use std::time::Instant;

use serde_json::json;

use super::PATIENCE;
use crate::support::{Connect, Kafka, Postgres, Walferry};

const SCHEMA: &str = "CREATE TABLE t (id int, k text, flag bool, i2 int2, i8 int8, f8 float8, n numeric(12,3), d date, ts timestamp(6), tz timestamptz, b bytea,
        u uuid, j jsonb, tx text, c varchar(10), PRIMARY KEY (id, k))";

/// The rows as text, each type as itself wherever the sink has made another column of it.
const ROWS: &str = "SELECT id::int || '|' || k || '|' || coalesce(flag::text, '-') || '|' || coalesce(i2::text, '-') || '|' || coalesce(i8::text, '-')
        || '|' || coalesce(f8::text, '-') || '|' || coalesce(n::text, '-') || '|' || coalesce(d::text, '-') || '|' || coalesce(ts::text, '-')
        || '|' || coalesce(tz::timestamptz::text, '-') || '|' || coalesce(encode(b, 'hex'), '-') || '|' || coalesce(u::text, '-')
        || '|' || coalesce(j::jsonb::text, '-') || '|' || coalesce(tx, '-') || '|' || coalesce(c, '-') FROM ";

#[tokio::test(flavor = "multi_thread")]
async fn debeziums_sink_builds_an_equal_table_of_our_topics() {
    let server = Postgres::builder(15).database("app").database("copy").database("sunk").start().await;
    server.sql("app", SCHEMA).await;
    let (kafka, connect) = (Kafka::shared().await, Connect::shared().await);
    let prefix = Kafka::prefix();
    let walferry = Walferry::new(&server.uri("app"), &server.uri("copy")).name("sink");
    let mut run = walferry
        .command("replicate")
        .args(&["--via", "kafka", "--brokers", &kafka.brokers(), "--prefix", &prefix])
        .args(&["--values", "debezium", "--schemas"])
        .spawn();
    run.wait_for_step("live").await;
    let config = json!({
        "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
        "tasks.max": "1",
        "topics": format!("{prefix}.public.t"),
        "connection.url": format!("jdbc:postgresql://127.0.0.1:{}/sunk", server.port()),
        "connection.username": "postgres",
        "connection.password": "x",
        "insert.mode": "upsert",
        "delete.enabled": "true",
        "primary.key.mode": "record_key",
        "schema.evolution": "basic",
        "collection.name.format": "sunk",
        "consumer.override.auto.offset.reset": "earliest",
        // Connect's own guesses types, and has none for an object of a number and a text (the header of a changed key).
        "header.converter": "org.apache.kafka.connect.storage.StringConverter",
    });
    connect.run(&format!("{prefix}_sink"), &config).await;
    server
        .sql(
            "app",
            "INSERT INTO t SELECT i, 'k' || i, i % 2 = 0, i, i * 10000000000, i / 3.0, i / 8.0, date '1969-12-01' + i,
                 timestamp '1999-12-31 23:59:59.999999' + i * interval '1 hour', timestamptz '2024-06-01 12:00:00.000001+02' + i * interval '1 day',
                 decode('00ff', 'hex') || i::text::bytea, gen_random_uuid(), jsonb_build_object('i', i, 'list', '[1, 2.50, null]'::jsonb), repeat('ä', i), 'c' || i
             FROM generate_series(1, 50) i",
        )
        .await;
    server.sql("app", "INSERT INTO t (id, k) VALUES (100, 'nulls')").await;
    server.sql("app", "UPDATE t SET n = -1.5, tx = NULL, flag = NULL WHERE id % 3 = 0").await;
    server.sql("app", "UPDATE t SET k = 'moved' WHERE id = 5").await;
    server.sql("app", "DELETE FROM t WHERE id % 7 = 0").await;
    server.sql("app", "UPDATE t SET tx = 'last' WHERE id = 1").await;
    let expected = rows(&server, "app", "t").await;
    assert_eq!(expected.len(), 44);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let there: bool = server.value("sunk", "SELECT to_regclass('sunk') IS NOT NULL").await;
        let found = if there { rows(&server, "sunk", "sunk").await } else { Vec::new() };
        if found == expected {
            break;
        }
        let state = connect.state(&format!("{prefix}_sink")).await;
        assert!(
            state != "FAILED" && Instant::now() < deadline,
            "{state}\n{found:#?}\n{expected:#?}\n{}",
            connect.log()
        );
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    }
    connect.remove(&format!("{prefix}_sink")).await;
    run.sigterm();
    run.wait_exit().await.expect_code(143);
}

async fn rows(server: &Postgres, database: &str, table: &str) -> Vec<String> {
    let rows = server.query(database, &format!("{ROWS}{table} ORDER BY 1")).await;
    rows.iter().map(|row| row.get(0)).collect()
}
