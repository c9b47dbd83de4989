//! Events that come again.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::json;

use super::{NOTES, Notes, Rig, Sent};

const ROWS: &str = "SELECT count(*) FROM notes";
const DISTINCT: &str = "SELECT count(DISTINCT (key, seq)) FROM notes";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_twice_or_read_twice_has_its_effect_once() {
    let rig = Rig::new(2, NOTES).await;
    for seq in 0..30 {
        for _ in 0..1 + seq % 3 {
            rig.event(&format!("e{seq}"), &format!("k{}", seq % 4), "Noted", &json!({"seq": seq})).await;
        }
    }
    let worker = rig.worker(rig.options(), Notes);
    worker.wait("all of them", |stats| stats.handled() + stats.duplicates() == 60).await;
    let stats = worker.stop().await;
    assert_eq!((stats.handled(), stats.duplicates()), (30, 30));
    // Its offsets are lost: all of it comes again.
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", rig.kafka.brokers())
        .set("group.id", &rig.name)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..2 {
        list.add_partition_offset(&rig.name, partition, Offset::Offset(0)).unwrap();
    }
    tokio::task::block_in_place(|| consumer.commit(&list, CommitMode::Sync)).unwrap();
    let worker = rig.worker(rig.options(), Notes);
    worker.wait("all of them again", |stats| stats.duplicates() == 60).await;
    assert_eq!(worker.stop().await.handled(), 0);
    assert_eq!((rig.count(ROWS).await, rig.count(DISTINCT).await), (30, 30));
    // Where the offsets were committed at its end, nothing comes again.
    let worker = rig.worker(rig.options(), Notes);
    rig.event("last", "k0", "Noted", &json!({"seq": 30})).await;
    worker.wait("the last one", |stats| stats.handled() == 1).await;
    assert_eq!(worker.stop().await.duplicates(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_connections_cost_time_and_nothing_else() {
    let rig = Rig::new(1, NOTES).await;
    let worker = rig.worker(rig.options(), Notes);
    let kill = format!(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE datname = '{}' AND application_name <> 'fixture' AND pid <> pg_backend_pid()",
        rig.name
    );
    // A session that waits in the middle of a transaction, and is ended there.
    let locker = rig.server.connect(&rig.name).await;
    let waits = "SELECT count(*) > 0 FROM pg_locks WHERE relation = 'notes'::regclass AND NOT granted";
    for seq in 0..100 {
        if seq % 10 == 5 {
            locker.batch_execute("BEGIN; LOCK TABLE notes").await.unwrap();
        }
        rig.event(&format!("e{seq}"), "k", "Noted", &json!({"seq": seq})).await;
        if seq % 10 == 5 {
            rig.server.wait_until(&rig.name, waits, super::PATIENCE).await;
            rig.server.sql("postgres", &kill).await;
            locker.batch_execute("ROLLBACK").await.unwrap();
        }
    }
    rig.wait_count(DISTINCT, 100).await;
    let stats = worker.stop().await;
    assert_eq!(rig.count(ROWS).await, 100);
    assert_eq!(stats.dead_letters(), 0, "{stats:?}");
    assert!(stats.retries() > 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_form_in_which_events_are_published() {
    let rig = Rig::new(1, NOTES).await;
    let id = |id: &str| vec![("id", id.to_owned())];
    let typed = |id: &str| vec![("id", id.to_owned()), ("eventType", "Noted".to_owned())];
    for (key, value, headers) in [
        ("expanded", r#"{"seq":1}"#, typed("1")),
        ("text", r#""{\"seq\": 2}""#, typed("2")),
        ("envelope", r#"{"payload":{"seq":3},"eventType":"Noted"}"#, id("3")),
        ("envelope of text", r#"{"payload":"{\"seq\":4}","type":"Noted"}"#, id("4")),
        ("schemas", r#"{"schema":{"type":"string"},"payload":"{\"seq\":5}"}"#, typed("5")),
        ("\"quoted\"", r#"{"seq":6}"#, typed("\"6\"")),
        ("position", r#"{"seq":7}"#, vec![("walferry.position", "0/10,7".into()), ("type", "Noted".into())]),
        // Somebody else's.
        ("other", r#"{"seq":8}"#, vec![("id", "8".to_owned()), ("eventType", "Shipped".to_owned())]),
    ] {
        rig.send(Sent { key, value, headers }).await;
    }
    let worker = rig.worker(rig.options(), Notes);
    worker.wait("all of them", |stats| stats.handled() + stats.passed_over() == 8).await;
    let stats = worker.stop().await;
    assert_eq!((stats.passed_over(), stats.dead_letters()), (1, 0));
    let rows = rig.server.text(&rig.name, "SELECT string_agg(key || seq, ' ' ORDER BY n) FROM notes").await;
    let expected = "expanded1 text2 envelope3 envelope of text4 schemas5 quoted6 position7";
    assert_eq!(rows[0][0].as_deref(), Some(expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_ids_are_removed_in_batches_and_young_ones_stay() {
    let rig = Rig::new(1, NOTES).await;
    let mut client = rig.server.connect(&rig.name).await;
    inbox::install(&mut client).await.unwrap();
    // Again, by two at a time.
    let mut other = rig.server.connect(&rig.name).await;
    let (first, second) = tokio::join!(inbox::install(&mut client), inbox::install(&mut other));
    first.and(second).unwrap();
    let fill = "INSERT INTO inbox.processed SELECT consumer, 't', g::text, now() - age
        FROM generate_series(1, 2500) g, (VALUES ('us', interval '2 days'), ('them', '2 days')) c (consumer, age)
        UNION ALL SELECT 'us', 't', 'young ' || g, now() FROM generate_series(1, 10) g";
    rig.server.sql(&rig.name, fill).await;
    let removed = inbox::cleanup(&client, "us", Duration::from_secs(86_400)).await.unwrap();
    assert_eq!(removed, 2500);
    let left = "SELECT count(*) FROM inbox.processed WHERE consumer = ";
    assert_eq!(rig.count(&format!("{left}'us'")).await, 10);
    assert_eq!(rig.count(&format!("{left}'them'")).await, 2500);
}
