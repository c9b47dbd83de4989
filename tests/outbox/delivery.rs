//! Every committed event is in its topic or among the dead letters, whatever dies meanwhile; nothing of what was rolled back is anywhere
//! (check C4).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use pg::Lsn;
use tokio_postgres::Client;

use super::rig::{DEBEZIUM, PATIENCE};
use crate::support::kafka::Record;
use crate::support::postgres::Stop;
use crate::support::walferry::Running;
use crate::support::{Kafka, Postgres, Walferry, options};

const KEYS: u64 = 7;

/// Servers of the test's own, and what was done to them.
struct Scene {
    source: Postgres,
    kafka: Kafka,
    walferry: Walferry,
    running: Option<Running>,
    next: u64,
    committed: BTreeSet<String>,
}

impl Scene {
    async fn start() -> Scene {
        let (source, kafka) = tokio::join!(Postgres::builder(15).database("app").start(), Kafka::start());
        source
            .sql(
                "app",
                &DEBEZIUM.replace("id uuid PRIMARY KEY DEFAULT gen_random_uuid()", "id text PRIMARY KEY"),
            )
            .await;
        let walferry = Walferry::new(&source.uri("app"), "").name("c4");
        let mut scene = Scene { source, kafka, walferry, running: None, next: 0, committed: BTreeSet::new() };
        scene.run(None);
        scene.running.as_mut().unwrap().wait_for_stderr("live").await;
        scene
    }

    fn run(&mut self, failpoint: Option<(&str, &str)>) {
        let mut run = self
            .walferry
            .command("outbox")
            .args(&["run", "--brokers", &self.kafka.brokers(), "--partitions", "3", "--prefix", "c4"])
            .args(&["--set", "outbox.messages=c4", "--set", "route.topic.replacement=c4.${routedByValue}"]);
        if let Some((name, action)) = failpoint {
            run = run.failpoint(name, action);
        }
        self.running = Some(run.spawn());
    }

    async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill9().await;
        }
    }

    fn id(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    /// Transactions by rows and by messages; one in three is rolled back, in whole or to a savepoint, and one in ten is poisonous.
    async fn load(&mut self, transactions: u64) {
        let client: Client = self.source.connect("app").await;
        for turn in 0..transactions {
            let mut sql = "BEGIN;".to_owned();
            let mut kept = Vec::new();
            for _ in 0..3 {
                let id = self.id();
                sql += &insert(&id, self.next);
                kept.push(id);
            }
            if turn % 3 == 1 {
                let id = self.id();
                sql += &format!("SAVEPOINT s; {} ROLLBACK TO s;", insert(&id, self.next));
            }
            sql += if turn % 3 == 2 { "ROLLBACK" } else { "COMMIT" };
            client.batch_execute(&sql).await.unwrap();
            if turn % 3 != 2 {
                self.committed.extend(kept);
            }
        }
    }

    async fn settle(&mut self) {
        let now = self.source.wal_position().await;
        let confirmed =
            format!("SELECT confirmed_flush_lsn >= '{now}' FROM pg_replication_slots WHERE slot_name = 'c4'");
        self.source.wait_until("app", &confirmed, PATIENCE).await;
    }

    fn check(&self) -> u64 {
        let mut routed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut duplicates = 0;
        let mut letters = BTreeMap::new();
        for (topic, _) in self.kafka.topics("c4.") {
            let is_letters = topic == "c4.dlq";
            let mut last = BTreeMap::new();
            for record in self.kafka.records(&topic) {
                let id = record.header(if is_letters { "walferry.outbox.id" } else { "id" }).expect("an id");
                let position = position(&record);
                let seen = if is_letters { &mut letters } else { &mut routed };
                let positions: &mut BTreeSet<String> = seen.entry(id).or_default();
                let first = positions.is_empty();
                positions.insert(record.header("walferry.position").unwrap());
                assert_eq!(positions.len(), 1, "a duplicate has the same position");
                if !first {
                    duplicates += 1;
                    continue;
                }
                // First occurrences of a key, in the order of their commits.
                let before: &mut (Lsn, u64) = last.entry((record.partition, record.key.clone())).or_default();
                assert!(position > *before, "{topic}: {position:?} after {before:?}");
                *before = position;
            }
        }
        let routed: BTreeSet<String> = routed.into_keys().collect();
        let letters: BTreeSet<String> = letters.into_keys().collect();
        assert!(routed.is_disjoint(&letters));
        let everything: BTreeSet<String> = routed.union(&letters).cloned().collect();
        let lost: Vec<_> = self.committed.difference(&everything).collect();
        let invented: Vec<_> = everything.difference(&self.committed).collect();
        assert!(lost.is_empty() && invented.is_empty(), "lost {lost:?}, invented {invented:?}");
        assert!(!letters.is_empty());
        duplicates
    }
}

fn position(record: &Record) -> (Lsn, u64) {
    let text = record.header("walferry.position").expect("a position");
    let (lsn, index) = text.split_once(',').unwrap();
    (lsn.parse().unwrap(), index.parse().unwrap())
}

fn insert(id: &str, number: u64) -> String {
    let (key, kind) = (number % KEYS, if number.is_multiple_of(11) { "no topic" } else { "Order" });
    if number.is_multiple_of(4) {
        return format!(
            "SELECT pg_logical_emit_message(true, 'c4', '{{\"id\": \"{id}\", \"aggregate_type\": \"{kind}\", \"aggregate_id\": \"{key}\", \"payload\": 1}}');"
        );
    }
    format!("INSERT INTO outbox VALUES ('{id}', '{kind}', '{key}', 't', '{{}}');")
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_whatever_is_killed_every_committed_event_is_there_and_no_other() {
    let rounds = if options::full() { 60 } else { 5 };
    let mut scene = Scene::start().await;
    scene.load(10).await;
    for round in 0..rounds {
        // A crash at some message, or by kill -9 at any time.
        scene.kill().await;
        let point = if round % 2 == 0 { "outbox-event-sent" } else { "outbox-letter-sent" };
        scene.run(Some((point, &format!("{}*off->panic", 3 + round % 11))));
        scene.load(12).await;
        if round % 5 == 1 {
            scene.kafka.kill9();
            scene.load(6).await;
            scene.kafka.restart().await;
        }
        if round % 5 == 2 {
            scene.source.restart(Stop::Immediate).await;
        }
        scene.load(6).await;
    }
    scene.kill().await;
    scene.run(None);
    scene.load(10).await;
    scene.settle().await;
    scene.check();
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_while_the_brokers_are_down_the_slot_waits_and_nothing_is_a_dead_letter() {
    let mut scene = Scene::start().await;
    scene.load(5).await;
    scene.settle().await;
    let letters = scene.kafka.records("c4.dlq").len();
    scene.kafka.stop();
    let sql = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'c4'";
    let before: String = scene.source.value("app", sql).await;
    scene.load(20).await;
    // Longer than the client's own patience with a request; the long variant outlasts its default for a message.
    let limit = if options::full() { 360 } else { 12 };
    let over = Instant::now() + Duration::from_secs(limit);
    while Instant::now() < over {
        assert_eq!(scene.source.value::<String>("app", sql).await, before);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    scene.kafka.restart().await;
    scene.settle().await;
    assert_eq!(scene.check(), 0, "nobody crashed, so nothing came twice");
    let poisonous = (1..=scene.next)
        .filter(|number| number.is_multiple_of(11) && scene.committed.contains(&number.to_string()));
    assert_eq!(scene.kafka.records("c4.dlq").len(), poisonous.count());
    assert!(letters > 0);
}
