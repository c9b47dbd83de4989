//! What Kafka has acknowledged, and what it has not, when somebody dies or an answer is lost.

use std::time::Duration;

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use super::faults::TABLE;
use crate::support::kafka::{Cluster, end_past};
use crate::support::{Feed, Kafka, Way};

/// The broker has the event, and its answer is lost: the event is sent again, and stands in the topic once.
#[tokio::test(flavor = "multi_thread")]
async fn row_28_an_acknowledgement_that_is_lost_leaves_no_event_twice_in_the_topic() {
    let (kafka, proxy) = Kafka::behind_proxy().await;
    let mut feed = Feed::of(TABLE).via_brokers(&proxy.address(), "f").ways(&[Way::Default]).start().await;
    let bodies: Vec<String> = (0..5).map(|round| format!("row of round {round}")).collect();
    for (round, body) in bodies.iter().enumerate() {
        proxy.lose_reply(body.as_bytes());
        feed.source(&format!("INSERT INTO t VALUES ({round}, '{body}')")).await;
        let lost = round as u64 + 1;
        proxy.wait_until("the event", Duration::from_secs(30), |proxy| proxy.lost_replies() == lost).await;
        feed.expect_same_content().await;
    }
    let records = kafka.records("f_default.public.t");
    let values: Vec<_> = records.iter().filter_map(|record| record.value.as_deref()).collect();
    for body in &bodies {
        let times = values.iter().filter(|value| String::from_utf8_lossy(value).contains(body)).count();
        assert_eq!(times, 1, "{body}");
    }
    feed.expect_exact().await;
    feed.end().await;
}

/// The topic of the transactions takes nothing, because one of its nodes is away; the other ones do. A source up to 14 brings every transaction,
/// also one that has nothing of ours.
#[tokio::test(flavor = "multi_thread")]
async fn row_29_no_position_overtakes_an_end_that_is_not_acknowledged() {
    let mut cluster = Cluster::start().await;
    let topic = |name: &str| format!("f_default.{name}");
    let (transactions, heartbeats, table) = (topic("transaction"), topic("heartbeat"), topic("public.t"));
    let nodes: [(&str, &[i32]); 3] = [(&transactions, &[1, 3]), (&heartbeats, &[1]), (&table, &[1])];
    for (topic, nodes) in nodes {
        let assigned = [nodes];
        let new = NewTopic::new(topic, 1, TopicReplication::Variable(&assigned))
            .set("min.insync.replicas", if nodes.len() > 1 { "2" } else { "1" });
        let made =
            cluster.nodes[0].admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0);
        made.unwrap();
    }
    let feed = Feed::of(TABLE).majors(14, 15).via_brokers(&cluster.brokers(), "f").ways(&[Way::Default]);
    let mut feed = feed.start().await;
    feed.source("INSERT INTO t VALUES (1, 'before')").await;
    feed.expect_exact().await;
    cluster.nodes[2].kill9();
    cluster.in_sync(&transactions, 0, 1).await;
    let consumer = cluster.nodes[0].consumer();
    let before = end_past(&consumer, &table, -1);
    feed.source("INSERT INTO t VALUES (2, 'END is missing')").await;
    end_past(&consumer, &table, before);
    let end: pg::Lsn = feed.source.wal_position().await.parse().unwrap();
    let overtaken = || {
        let positions = cluster.nodes[0].records(&heartbeats);
        let last = positions.iter().filter_map(|record| record.header("walferry.position")).next_back();
        last.is_some_and(|last| last.split(',').next().unwrap().parse::<pg::Lsn>().unwrap() >= end)
    };
    // Long enough for what must not happen.
    let over = std::time::Instant::now() + Duration::from_secs(5);
    while !overtaken() && std::time::Instant::now() < over {
        feed.source("SELECT pg_logical_emit_message(true, 'nobody', '')").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let overtaken = overtaken();
    feed.kill().await;
    cluster.nodes[2].restart().await;
    cluster.in_sync(&transactions, 0, 2).await;
    feed.restart().await;
    feed.expect_exact().await;
    assert!(!overtaken, "a position is in the topics before all that it stands for");
    feed.end().await;
}
