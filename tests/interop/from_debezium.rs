//! `write --from debezium`: the writer alone, behind a Debezium that is there already.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{PATIENCE, records};
use crate::support::walferry::Running;
use crate::support::{Connect, Kafka, Postgres, Walferry};

const SCHEMA: &str = "CREATE TABLE a (id int PRIMARY KEY, n numeric(12,3), d date, ts timestamp, tz timestamptz, b bytea, j jsonb, u uuid, tx text,
        big text, l int[], f float8, c char(5), flag bool);
    ALTER TABLE a ALTER big SET STORAGE EXTERNAL;
    CREATE TABLE b (k text, id int, v numeric(10,2), PRIMARY KEY (k, id));
    CREATE TABLE \"C d\" (id int PRIMARY KEY, v text)";

/// Everything that tables hold.
const CONTENT: &str = "SELECT coalesce(string_agg(r, E'\\n' ORDER BY r), '') FROM (SELECT a::text FROM a UNION ALL SELECT b::text FROM b
        UNION ALL SELECT c::text FROM \"C d\" AS c) AS rows(r)";

struct Rig {
    server: Postgres,
    prefix: String,
    config: Value,
    walferry: Walferry,
}

impl Rig {
    /// A connector whose snapshot has rows, and a target with the tables.
    async fn new(settings: &Value) -> Rig {
        let rig = Rig::without_connector(settings).await;
        Connect::shared().await.run(&rig.prefix, &rig.config).await;
        rig
    }

    async fn without_connector(settings: &Value) -> Rig {
        let server = Postgres::builder(15).database("app").database("copy").start().await;
        for database in ["app", "copy"] {
            server.sql(database, SCHEMA).await;
        }
        server.sql("app", "INSERT INTO a (id, n, big) SELECT i, i / 7.0, repeat('x' || i, 2000) FROM generate_series(1, 200) i").await;
        server.sql("app", "INSERT INTO b SELECT 'k' || i, i, i * 1.5 FROM generate_series(1, 50) i").await;
        let prefix = Kafka::prefix();
        let mut config = Connect::source(&server, "app", &prefix);
        for (name, value) in settings.as_object().unwrap() {
            config[name] = value.clone();
        }
        let walferry = Walferry::new("", &server.uri("copy")).name("behind");
        Rig { server, prefix, config, walferry }
    }

    async fn write(&self) -> Running {
        self.walferry
            .command("write")
            .args(&[
                "--from",
                "debezium",
                "--brokers",
                &Kafka::shared().await.brokers(),
                "--prefix",
                &self.prefix,
            ])
            .spawn()
    }

    /// Both sides, once they are the same.
    async fn equal(&self, running: &mut Running) {
        let expected: String = self.server.value("app", CONTENT).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found: String = self.server.value("copy", CONTENT).await;
            if found == expected {
                return;
            }
            let only = |here: &str, there: &str| -> Vec<String> {
                let there: std::collections::HashSet<&str> = there.lines().collect();
                here.lines()
                    .filter(|row| !there.contains(row))
                    .map(|row| row.chars().take(80).collect())
                    .collect()
            };
            assert!(
                running.is_running() && Instant::now() < deadline,
                "only on the target: {:#?}\nonly on the source: {:#?}\n{}",
                only(&found, &expected),
                only(&expected, &found),
                running.stderr()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn change(&self, round: u32) {
        for statement in [
            format!(
                "INSERT INTO a SELECT {round} * 1000 + i, -i / 3.0, date '1969-01-01' + i, timestamp '2020-01-01 00:00:00.123456' + i * interval '1 h',
                     timestamptz '2020-01-01 00:00:00.000001Z' + i * interval '1 d', decode('00ff', 'hex'), jsonb_build_object('i', i, 'x', null),
                     gen_random_uuid(), 'ä' || i, NULL, ARRAY[i, NULL], i / 9.0, 'c', i % 2 = 0 FROM generate_series(1, 100) i"
            ),
            // What is stored apart and did not change is not sent.
            format!("UPDATE a SET tx = 'round {round}' WHERE id <= 100"),
            format!("UPDATE a SET id = -id WHERE id BETWEEN {round} * 10 AND {round} * 10 + 3"),
            format!("DELETE FROM a WHERE id = 100 + {round}"),
            format!("BEGIN; INSERT INTO b SELECT 'r{round}', i, NULL FROM generate_series(1, 20) i; UPDATE b SET v = {round} WHERE id < 10;
                     INSERT INTO \"C d\" VALUES ({round}, 'both'); DELETE FROM b WHERE k = 'k' || {round}; COMMIT"),
        ] {
            self.server.sql("app", &statement).await;
        }
    }

    async fn end(self, running: Running) {
        let prefix = self.prefix.clone();
        self.end_writer(running).await;
        Connect::shared().await.remove(&prefix).await;
    }

    async fn end_writer(self, running: Running) {
        running.sigterm();
        running.wait_exit().await.expect_code(143);
        let clean = self.walferry.command("clean").run().await.expect_code(0);
        assert!(clean.stdout.contains("schema walferry removed"), "{clean:?}");
    }
}

async fn killed_and_gone_on(settings: Value) -> (Rig, Running) {
    let rig = Rig::new(&settings).await;
    let mut running = rig.write().await;
    rig.equal(&mut running).await;
    rig.change(1).await;
    rig.equal(&mut running).await;
    // What happens while it is dead, and while it dies.
    rig.change(2).await;
    running.kill9().await;
    rig.change(3).await;
    let mut running = rig.write().await;
    rig.equal(&mut running).await;
    rig.change(4).await;
    rig.equal(&mut running).await;
    (rig, running)
}

/// What makes whole transactions of a connector's events.
fn with_transactions() -> Value {
    json!({
        "provide.transaction.metadata": "true",
        "value.converter": "org.apache.kafka.connect.json.JsonConverter",
        "value.converter.schemas.enable": "false",
        "key.converter": "org.apache.kafka.connect.json.JsonConverter",
        "key.converter.schemas.enable": "false",
        "topic.creation.default.partitions": "3",
        "topic.creation.groups": "markers",
        "topic.creation.markers.include": ".*\\.transaction",
        "topic.creation.markers.partitions": "1",
        "topic.creation.markers.replication.factor": "1",
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_follows_a_connector_with_default_settings() {
    let (rig, running) = killed_and_gone_on(json!({})).await;
    let status = rig.walferry.status().await;
    assert_eq!(status.step(), "live");
    let output = rig
        .walferry
        .command("verify")
        .args(&["--source", &rig.server.uri("app"), "--table", "a"])
        .run()
        .await
        .expect_code(0);
    assert!(output.stdout.contains("equal"), "{output:?}");
    rig.end(running).await;
}

/// A large value that an update leaves alone is not sent: what stands for it in an array of numbers are the placeholder's bytes.
#[tokio::test(flavor = "multi_thread")]
async fn large_values_that_an_update_leaves_alone_stay_as_they_are() {
    let rig = Rig::new(&json!({})).await;
    let mut running = rig.write().await;
    rig.equal(&mut running).await;
    rig.server
        .sql(
            "app",
            "ALTER TABLE a ALTER l SET STORAGE EXTERNAL;
             UPDATE a SET l = (SELECT array_agg((random() * 1e9)::int) FROM generate_series(1, 5000)) WHERE id < 10",
        )
        .await;
    rig.server.sql("app", "UPDATE a SET n = n + 1 WHERE id < 5").await;
    rig.equal(&mut running).await;
    rig.end(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_transaction_metadata_whole_transactions_are_applied() {
    let (rig, running) = killed_and_gone_on(with_transactions()).await;
    // A transaction over several tables is there as a whole or not at all.
    let whole: bool = rig
        .server
        .value("copy", "SELECT bool_and(EXISTS (SELECT FROM b WHERE b.k = 'r' || c.id)) FROM \"C d\" c")
        .await;
    assert!(whole);
    rig.end(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncate_comes_through_the_topics() {
    for mut settings in [json!({}), with_transactions()] {
        settings["skipped.operations"] = json!("none");
        let rig = Rig::new(&settings).await;
        let mut running = rig.write().await;
        rig.equal(&mut running).await;
        rig.change(1).await;
        rig.server
            .sql("app", "BEGIN; INSERT INTO b VALUES ('gone', 1, 1); TRUNCATE b, \"C d\"; INSERT INTO b VALUES ('stays', 1, 1); COMMIT")
            .await;
        rig.equal(&mut running).await;
        rig.server.sql("app", "TRUNCATE a; INSERT INTO a (id, tx) VALUES (1, 'after')").await;
        rig.change(2).await;
        rig.equal(&mut running).await;
        let status = rig.walferry.status().await;
        assert_eq!(status.count("truncated"), 3, "{status:?}");
        rig.end(running).await;
    }
}

/// Events of a topic that are there more than once: same transaction, operation and row.
fn sent_again(kafka: &Kafka, topic: &str) -> usize {
    let mut seen = std::collections::HashSet::new();
    let records = kafka.records(topic);
    let events = records.iter().filter(|record| record.value.is_some()).map(|record| record.json());
    events
        .map(|event| if event["payload"].is_null() { event } else { event["payload"].clone() })
        .filter(|event| {
            let place = (&event["source"]["txId"], &event["source"]["lsn"], &event["op"]);
            !seen.insert(format!("{place:?} {} {}", event["before"], event["after"]))
        })
        .count()
}

/// How many records a topic has had.
fn length(kafka: &Kafka, topic: &str) -> i64 {
    use rdkafka::consumer::Consumer;
    tokio::task::block_in_place(|| {
        let consumer = kafka.consumer();
        let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).unwrap();
        let partitions = metadata.topics()[0].partitions().iter();
        partitions
            .map(|partition| crate::support::kafka::watermarks(&consumer, topic, partition.id()).1)
            .sum()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_connector_sends_again_after_kill_9_changes_nothing() {
    let kafka = Kafka::shared().await;
    let mut connect = Connect::own(kafka, Duration::from_secs(3)).await;
    let rigs = [Rig::without_connector(&json!({})).await, Rig::without_connector(&with_transactions()).await];
    let mut running = Vec::new();
    for rig in &rigs {
        connect.run(&rig.prefix, &rig.config).await;
    }
    for rig in &rigs {
        records(kafka, &format!("{}.public.a", rig.prefix), 200).await;
        running.push(rig.write().await);
    }
    // A connector without a stored position takes its snapshot again, and sends nothing of what was deleted before that.
    for rig in &rigs {
        rig.change(1).await;
        let now = rig.server.wal_position().await;
        rig.change(2).await;
        let stored = format!("SELECT bool_or(confirmed_flush_lsn >= '{now}') FROM pg_replication_slots");
        rig.server.wait_until("app", &stored, PATIENCE).await;
    }
    let (mut round, mut again, mut kills) = (2, [0, 0], 0);
    while again.contains(&0) {
        assert!(kills < 5, "the connectors sent nothing twice: {again:?}");
        kills += 1;
        // In the middle of a load, wherever it is.
        let killed = AtomicBool::new(false);
        let load = async {
            while !killed.load(Ordering::Relaxed) {
                round += 1;
                for rig in &rigs {
                    rig.change(round).await;
                }
            }
        };
        let kill = async {
            let topics = rigs.each_ref().map(|rig| format!("{}.public.b", rig.prefix));
            let before = topics.each_ref().map(|topic| length(kafka, topic));
            let deadline = Instant::now() + PATIENCE;
            while topics.iter().zip(before).any(|(topic, before)| length(kafka, topic) < before + 60) {
                assert!(Instant::now() < deadline, "the connectors send nothing");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            connect.kill9();
            killed.store(true, Ordering::Relaxed);
        };
        tokio::join!(load, kill);
        connect.start_again().await;
        for (at, rig) in rigs.iter().enumerate() {
            connect.run(&rig.prefix, &rig.config).await;
            rig.change(10_000 + round).await;
            rig.equal(&mut running[at]).await;
            again[at] = sent_again(kafka, &format!("{}.public.a", rig.prefix));
        }
    }
    for (rig, running) in rigs.into_iter().zip(running) {
        connect.remove(&rig.prefix).await;
        rig.end_writer(running).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_understood_stops_the_writer_and_nothing_of_it_is_applied() {
    let rig = Rig::new(&json!({})).await;
    let mut running = rig.write().await;
    rig.equal(&mut running).await;
    // A record that is none of the connector's, and behind it one that is.
    let kafka = Kafka::shared().await;
    produce(
        kafka,
        &format!("{}.public.a", rig.prefix),
        "{\"before\": null, \"after\": {\"id\": 5000}, \"op\":",
    )
    .await;
    rig.server.sql("app", "DELETE FROM a WHERE id = 1").await;
    let status = running.wait_for_error().await;
    assert_eq!(status.0["error"]["code"], "EVENT_MALFORMED", "{status:?}");
    let there: i64 = rig.server.value("copy", "SELECT count(*) FROM a WHERE id IN (1, 5000)").await;
    assert_eq!(there, 1, "what is behind the record waits, and the record was not applied");
    // What needs a source is refused, at once.
    for command in ["cutover", "refresh"] {
        let output = rig.walferry.command(command).run().await.expect_code(4);
        assert!(output.stderr.contains("there is no source to"), "{command}: {output:?}");
    }
    running.kill9().await;
    for flag in [&["--resync", "a"][..], &["--shard"]] {
        let write = rig.walferry.command("write").args(&["--from", "debezium", "--prefix", &rig.prefix]);
        let output = write.args(&["--brokers", &kafka.brokers()]).args(flag).run().await.expect_code(2);
        assert!(output.stderr.contains(flag[0]), "{output:?}");
    }
    // Topics of a table that the target has not got, and topics that are not there.
    rig.server.sql("copy", "ALTER TABLE a RENAME TO elsewhere").await;
    let output = rig.write().await.wait_exit().await.expect_code(4);
    assert!(output.stderr.contains("is of no table on the target"), "{output:?}");
    let other = rig.walferry.command("write").args(&["--from", "debezium", "--prefix", "nobody"]);
    let output = other.args(&["--brokers", &kafka.brokers()]).run().await.expect_code(4);
    assert!(output.stderr.contains("reads topics of another prefix"), "{output:?}");
    Connect::shared().await.remove(&rig.prefix).await;
}

async fn produce(kafka: &Kafka, topic: &str, value: &str) {
    use rdkafka::producer::{FutureProducer, FutureRecord};
    let producer: FutureProducer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", kafka.brokers()).create().unwrap();
    let record = FutureRecord::to(topic).key("{\"id\":5000}").payload(value);
    producer.send(record, PATIENCE).await.unwrap();
}
