//! Verify, cutover and clean work over Kafka as without it.

use super::feed;
use crate::support::{Feed, Kafka, Way};

#[tokio::test(flavor = "multi_thread")]
async fn verify_holds_both_sides_at_one_point_while_events_are_in_the_topics() {
    let mut feed = feed("CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL DEFAULT 0)").await.start().await;
    feed.source("INSERT INTO t SELECT g FROM generate_series(1, 500) g").await;
    for lane in &feed.lanes {
        lane.walferry.command("verify").run().await.expect_code(0);
    }
    feed.target("UPDATE t SET n = 7 WHERE id = 77").await;
    for lane in &feed.lanes {
        lane.walferry.command("verify").run().await.expect_code(1);
    }
    feed.source("UPDATE t SET n = 8 WHERE id = 77").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cutover_waits_for_what_is_in_the_topics() {
    let feed =
        feed("CREATE TABLE t (id serial PRIMARY KEY, body text)").await.ways(&[Way::Rows]).start().await;
    feed.together(&[
        "INSERT INTO t (body) SELECT 'x' FROM generate_series(1, 3000)",
        "UPDATE t SET body = 'y'",
    ])
    .await;
    feed.lanes[0].walferry.command("cutover").run().await.expect_code(0);
    feed.expect_on_targets("SELECT count(*), min(body), max(body) FROM t", &["3000|y|y"]).await;
    feed.expect_on_targets("SELECT nextval('t_id_seq')", &["3001"]).await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_removes_the_run_s_own_topics() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY)")
        .via(kafka, &prefix)
        .ways(&[Way::Default])
        .start()
        .await;
    feed.source("INSERT INTO t VALUES (1)").await;
    feed.expect_same_content().await;
    assert_eq!(kafka.topics(&prefix).len(), 3, "one for the table, transactions, heartbeats");
    stop(&mut feed).await;
    feed.lanes[0].walferry.command("clean").arg("--keep-topics").run().await.expect_code(0);
    feed.target("DROP TABLE t").await;
    // What the run before has left is another run's: refused before anything is made.
    feed.restart().await;
    let output = feed.lanes[0].running.take().unwrap().wait_exit().await;
    assert_eq!(output.code, 4, "{output:#?}");
    assert!(output.stderr.contains("another run's"), "{output:#?}");
    for (topic, _) in kafka.topics(&prefix) {
        kafka.delete_topic(&topic).await;
    }
    feed.restart().await;
    feed.wait_live().await;
    feed.source("INSERT INTO t VALUES (2)").await;
    feed.expect_same_content().await;
    stop(&mut feed).await;
    feed.lanes[0].walferry.command("clean").run().await.expect_code(0);
    kafka.gone(&prefix).await;
    feed.end().await;
}

async fn stop(feed: &mut Feed) {
    let running = feed.lanes[0].running.take().unwrap();
    running.sigterm();
    running.wait_exit().await.expect_code(143);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_sees_every_row_and_the_transaction_that_it_belongs_to() {
    let kafka = Kafka::shared().await;
    let prefix = Kafka::prefix();
    let mut feed =
        Feed::of("CREATE TABLE a (id int PRIMARY KEY, n numeric); CREATE TABLE b (id int PRIMARY KEY)")
            .via(kafka, &prefix)
            .ways(&[Way::Default])
            .start()
            .await;
    feed.source("INSERT INTO a VALUES (1, 1.50); INSERT INTO b VALUES (1); DELETE FROM a").await;
    feed.expect_exact().await;
    let prefix = format!("{prefix}_default");
    let a = kafka.records(&format!("{prefix}.public.a"));
    let values: Vec<_> = a.iter().map(|record| record.json()).collect();
    assert_eq!(a.len(), 3, "a create, a delete, and its tombstone");
    assert_eq!(values[0]["after"], serde_json::json!({"id": 1, "n": "1.50"}));
    assert_eq!((&values[0]["op"], &values[1]["op"]), (&"c".into(), &"d".into()));
    assert_eq!(a[2].value, None);
    assert!(a.iter().all(|record| record.key.as_deref() == Some(br#"{"id":1}"#)));
    let markers = kafka.records(&format!("{prefix}.transaction"));
    let markers: Vec<_> = markers.iter().map(|record| record.json()).collect();
    assert_eq!((&markers[0]["status"], &markers[1]["status"]), (&"BEGIN".into(), &"END".into()));
    assert_eq!(markers[1]["event_count"], 3);
    assert_eq!(markers[1]["id"], values[0]["transaction"]["id"]);
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn debezium_values_come_through_as_well() {
    let schema = "CREATE TABLE v (id int PRIMARY KEY, n numeric(10, 2), d date, t time, ts timestamp, tz timestamptz, b bytea,
             u uuid, j jsonb, a int[], f float8, flag bool, c char(5), v varbit)";
    for arguments in [
        &["--values", "debezium"][..],
        &["--values", "debezium", "--schemas"],
        &["--schemas", "--no-tombstones"],
        &[
            "--values=debezium",
            "--set=decimal.handling.mode=string",
            "--set=time.precision.mode=isostring",
            "--set=binary.handling.mode=hex",
        ],
        &[
            "--values=debezium",
            "--schemas",
            "--set=time.precision.mode=nanoseconds",
            "--set=binary.handling.mode=base64-url-safe",
        ],
    ] {
        let mut builder = feed(schema).await.ways(&[Way::Sets]);
        for argument in arguments {
            builder = builder.arg(argument);
        }
        let mut feed = builder.start().await;
        feed.together(&[
            "INSERT INTO v VALUES (1, -123.45, '2024-02-29', '23:59:59.123456', '1999-12-31 23:59:59.999999',
                 '2024-06-01 12:00:00.000001+02', '\\x00ff', '12345678-1234-1234-1234-123456789abc', '{\"a\": [1, 2.50]}',
                 '{1,NULL,3}', 1e-300, true, 'ab', B'1010'); INSERT INTO v VALUES (2)",
            "UPDATE v SET n = 0, flag = false WHERE id = 1; UPDATE v SET id = 3 WHERE id = 2",
            "DELETE FROM v WHERE id = 3",
        ])
        .await;
        feed.expect_exact().await;
        feed.end().await;
    }
}
