//! How far the writer is behind each topic, and how near to what retention removes.

use std::time::Duration;

use crate::support::walferry::Status;
use crate::support::{Feed, Kafka, Way};

fn topic<'a>(status: &'a Status, name: &str) -> &'a serde_json::Value {
    let topics = status.0["topics"].as_array().expect("a list");
    topics
        .iter()
        .find(|topic| topic["topic"].as_str().is_some_and(|topic| topic.ends_with(name)))
        .unwrap_or_else(|| panic!("no topic {name} in {topics:#?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_the_lag_of_each_topic_and_what_retention_leaves() {
    let kafka = Kafka::shared().await;
    let schema = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)";
    let mut feed = Feed::of(schema)
        .via(kafka, &Kafka::prefix())
        .ways(&[Way::Default])
        .set("kafka.partitions=2")
        // An hour, and a warning from 36 ms on: the segments of a broker are not removed that soon.
        .set("kafka.retention=1h")
        .set("kafka.retention_warning=1")
        .start()
        .await;
    feed.source("INSERT INTO a SELECT generate_series(1, 10); INSERT INTO b VALUES (1)").await;
    feed.expect_exact().await;
    let running = feed.lanes[0].running.as_mut().unwrap();
    let idle = |status: &Status| {
        status.0["topics"].as_array().is_some_and(|topics| {
            topics.len() == 3 && topics.iter().all(|topic| topic["lag_events"] == 0 && topic["lag_ms"] == 0)
        })
    };
    let status = running.wait_for("no lag", idle).await;
    let a = topic(&status, ".public.a");
    assert_eq!((&a["partitions"], &a["retention_ms"]), (&2.into(), &3_600_000.into()));
    assert_eq!(a["retention_left_ms"], 3_600_000);
    // Nobody can apply what is in the topic of a.
    let lock = feed.target.connect(&feed.lanes[0].database).await;
    lock.batch_execute("BEGIN; LOCK TABLE a").await.unwrap();
    feed.source("INSERT INTO a SELECT generate_series(11, 30)").await;
    let running = feed.lanes[0].running.as_mut().unwrap();
    // END follows when the brokers have the events.
    let lags = |status: &Status| {
        let a = topic(status, ".public.a");
        a["lag_ms"].as_u64() > Some(1000)
            && a["lag_events"] == 20
            && topic(status, ".transaction")["lag_events"] == 2
    };
    let status = running.wait_for("lag of one topic, and BEGIN and END", lags).await;
    let a = topic(&status, ".public.a");
    let left = a["retention_left_ms"].as_u64().unwrap();
    assert_eq!(left, 3_600_000 - a["lag_ms"].as_u64().unwrap());
    assert_eq!(topic(&status, ".public.b")["lag_events"], 0);
    let text = running.command("status").run().await.expect_code(0).stdout;
    assert!(text.contains("until removed") && text.contains(".public.a"), "{text}");
    lock.batch_execute("ROLLBACK").await.unwrap();
    feed.expect_exact().await;
    feed.lanes[0].running.as_mut().unwrap().wait_for("no lag again", idle).await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_near_retention_and_brokers_that_are_away_are_warnings() {
    let mut kafka = Kafka::start().await;
    let mut feed = Feed::of("CREATE TABLE a (id int PRIMARY KEY)")
        .via(&kafka, "near")
        .ways(&[Way::Default])
        // A hundredth of two minutes.
        .set("kafka.retention=2min")
        .set("kafka.retention_warning=1")
        .start()
        .await;
    let lock = feed.target.connect(&feed.lanes[0].database).await;
    lock.batch_execute("BEGIN; LOCK TABLE a").await.unwrap();
    feed.source("INSERT INTO a VALUES (1)").await;
    let running = feed.lanes[0].running.as_mut().unwrap();
    let warns = |text: &'static str| {
        move |status: &Status| {
            let warnings = status.0["warnings"].as_array().map(Vec::as_slice).unwrap_or_default();
            warnings.iter().any(|warning| warning.as_str().is_some_and(|warning| warning.contains(text)))
        }
    };
    running.wait_for("a warning", warns("raise its retention.ms")).await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    running.wait_for("none any more", |status| !warns("raise its retention.ms")(status)).await;
    kafka.kill9();
    running.wait_for("what the brokers do", warns("Kafka:")).await;
    kafka.restart().await;
    running.wait_for("they are back", |status| !warns("Kafka:")(status)).await;
    feed.source("INSERT INTO a VALUES (2)").await;
    feed.expect_exact().await;
    let clock = std::time::Instant::now();
    let running = feed.lanes[0].running.take().unwrap();
    running.sigterm();
    running.wait_exit_within(Duration::from_secs(60)).await.expect_code(143);
    eprintln!("ended within {:?}", clock.elapsed());
    feed.end().await;
}
