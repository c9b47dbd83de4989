//! `write --from debezium`: the writer alone, behind a Debezium that is there already.

use std::time::Instant;

use serde_json::{Value, json};

use super::PATIENCE;
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
    walferry: Walferry,
}

impl Rig {
    /// A connector whose snapshot has rows, and a target with the tables.
    async fn new(settings: &Value) -> Rig {
        let server = Postgres::builder(15).database("app").database("copy").start().await;
        for database in ["app", "copy"] {
            server.sql(database, SCHEMA).await;
        }
        server.sql("app", "INSERT INTO a (id, n, big) SELECT i, i / 7.0, repeat('x' || i, 2000) FROM generate_series(1, 200) i").await;
        server.sql("app", "INSERT INTO b SELECT 'k' || i, i, i * 1.5 FROM generate_series(1, 50) i").await;
        let (prefix, connect) = (Kafka::prefix(), Connect::shared().await);
        let mut config = Connect::source(&server, "app", &prefix);
        for (name, value) in settings.as_object().unwrap() {
            config[name] = value.clone();
        }
        connect.run(&prefix, &config).await;
        let walferry = Walferry::new("", &server.uri("copy")).name("behind");
        Rig { server, prefix, walferry }
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
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
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
        running.sigterm();
        running.wait_exit().await.expect_code(143);
        let clean = self.walferry.command("clean").run().await.expect_code(0);
        assert!(clean.stdout.contains("schema walferry removed"), "{clean:?}");
        Connect::shared().await.remove(&self.prefix).await;
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

#[tokio::test(flavor = "multi_thread")]
async fn with_transaction_metadata_whole_transactions_are_applied() {
    let settings = json!({
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
    });
    let (rig, running) = killed_and_gone_on(settings).await;
    // A transaction over several tables is there as a whole or not at all.
    let whole: bool = rig
        .server
        .value("copy", "SELECT bool_and(EXISTS (SELECT FROM b WHERE b.k = 'r' || c.id)) FROM \"C d\" c")
        .await;
    assert!(whole);
    rig.end(running).await;
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
    running.kill9().await;
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
