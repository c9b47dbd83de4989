//! Servers of a test's own, load on them, and the check that every committed event came and no other (C4).

use std::collections::{BTreeMap, BTreeSet};

use pg::Lsn;
use tokio_postgres::Client;

use super::rig::{DEBEZIUM, PATIENCE};
use crate::support::kafka::Record;
use crate::support::postgres::Stop;
use crate::support::walferry::Running;
use crate::support::{Kafka, Postgres, Walferry};

const KEYS: u64 = 7;

/// Servers of the test's own, and what was done to them.
pub struct Scene {
    pub source: Postgres,
    pub kafka: Kafka,
    pub walferry: Walferry,
    pub running: Option<Running>,
    how: How,
    pub next: u64,
    pub committed: BTreeSet<String>,
}

/// What dies in a round, besides walferry.
pub struct Rounds {
    pub count: usize,
    /// Failpoints, one a round in turn.
    pub points: &'static [&'static str],
    /// The first one at which walferry dies is this many events away, and up to ten more.
    pub first: usize,
    /// Does the broker die in this round?
    pub broker: fn(usize) -> bool,
    /// Does the source?
    pub source: fn(usize) -> bool,
    /// Walferry is gone before anything else dies.
    pub waits: bool,
}

/// Who routes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// `outbox run`.
    Alone,
    /// `read`, beside the tables, for other consumers.
    Feed,
    /// `replicate --via kafka`, beside the tables, with a target in database `copy`.
    Replicate,
}

impl Scene {
    pub async fn start(how: How) -> Scene {
        let (source, kafka) = tokio::join!(Postgres::builder(15).database("app").start(), Kafka::start());
        source
            .sql(
                "app",
                &DEBEZIUM.replace("id uuid PRIMARY KEY DEFAULT gen_random_uuid()", "id text PRIMARY KEY"),
            )
            .await;
        source.sql("app", "CREATE TABLE orders (id int PRIMARY KEY, body text)").await;
        source.create_database("copy").await;
        let target = if how == How::Replicate { source.uri("copy") } else { String::new() };
        let walferry = Walferry::new(&source.uri("app"), &target).name("c4");
        let mut scene =
            Scene { source, kafka, walferry, running: None, how, next: 0, committed: BTreeSet::new() };
        scene.run(None);
        let streams = if how == How::Feed { "streams slot" } else { "live" };
        scene.running.as_mut().unwrap().wait_for_stderr(streams).await;
        scene
    }

    pub fn run(&mut self, failpoint: Option<(&str, &str)>) {
        self.run_with(failpoint, &[]);
    }

    pub fn run_with(&mut self, failpoint: Option<(&str, &str)>, more: &[&str]) {
        let shared = ["--set", "outbox.beside=on", "--set", "outbox.share_slot=on"];
        let command = match self.how {
            How::Alone => self.walferry.command("outbox").args(&["run"]),
            How::Feed => self.walferry.command("read").arg("--create-slot").args(&shared),
            How::Replicate => self.walferry.command("replicate").args(&["--via", "kafka"]).args(&shared),
        };
        let mut run = command
            .args(&["--brokers", &self.kafka.brokers(), "--set", "kafka.partitions=3", "--prefix", "c4"])
            .args(&["--set", "outbox.messages=c4", "--set", "route.topic.replacement=c4.${routedByValue}"])
            .args(more);
        if let Some((name, action)) = failpoint {
            run = run.failpoint(name, action);
        }
        self.running = Some(run.spawn());
    }

    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill9().await;
        }
    }

    fn id(&mut self) -> String {
        self.next += 1;
        self.next.to_string()
    }

    /// Transactions by rows and by messages; one in three is rolled back, in whole or to a savepoint, and one in ten is poisonous.
    pub async fn load(&mut self, transactions: u64) {
        let client: Client = self.source.connect("app").await;
        for turn in 0..transactions {
            let mut sql = "BEGIN;".to_owned();
            let mut kept = Vec::new();
            for _ in 0..3 {
                let id = self.id();
                sql += &insert(&id, self.next);
                kept.push(id);
            }
            // One in four has an event and nothing else.
            if turn % 4 != 3 {
                sql += &format!("INSERT INTO orders VALUES ({}, 'x');", self.next);
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

    /// Rounds of load and death: walferry dies at its failpoint, or by kill -9 when the next round begins.
    pub async fn rounds(&mut self, rounds: &Rounds) {
        for round in 0..rounds.count {
            self.kill().await;
            let point = rounds.points[round % rounds.points.len()];
            self.run(Some((point, &format!("{}*off->panic", rounds.first + round % 11))));
            self.load(12).await;
            if rounds.waits {
                self.running.take().unwrap().wait_exit().await;
            }
            if (rounds.broker)(round) {
                self.kafka.kill9();
                self.load(6).await;
                self.kafka.restart().await;
            }
            if (rounds.source)(round) {
                self.source.restart(Stop::Immediate).await;
            }
            self.load(6).await;
        }
        self.kill().await;
    }

    pub async fn settle(&mut self) {
        let now = self.source.wal_position().await;
        let confirmed =
            format!("SELECT confirmed_flush_lsn >= '{now}' FROM pg_replication_slots WHERE slot_name = 'c4'");
        self.source.wait_until("app", &confirmed, PATIENCE).await;
    }

    pub fn check(&self) -> u64 {
        let mut routed: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let mut duplicates = 0;
        let mut letters = BTreeMap::new();
        for (topic, _) in self.kafka.topics("c4.") {
            // What is there of the tables.
            if topic.contains(".public.") || topic.ends_with(".transaction") || topic.starts_with("__") {
                continue;
            }
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
