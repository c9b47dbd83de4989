//! `read --connector`: a Debezium connector's file, and the events that the connector makes of the same database.

use std::time::Duration;

use serde_json::{Value, json};

use crate::envelope::golden::{self, Record};
use crate::envelope::{assert_same, differences};
use crate::support::walferry::Running;
use crate::support::{Kafka, Postgres, Walferry, scratch};

const SOON: Duration = Duration::from_secs(60);

struct Rig {
    server: Postgres,
    kafka: &'static Kafka,
    prefix: String,
    folder: std::path::PathBuf,
}

impl Rig {
    async fn new(schema: &str) -> Rig {
        let server = Postgres::builder(15).database("app").start().await;
        statements(&server, schema).await;
        let kafka = Kafka::shared().await;
        Rig { server, kafka, prefix: Kafka::prefix(), folder: scratch::folder("connector") }
    }

    /// What every connector needs to say.
    fn connection(&self) -> Value {
        json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "database.hostname": "127.0.0.1",
            "database.port": self.server.port().to_string(),
            "database.user": "postgres",
            "database.password": "x",
            "database.dbname": "app",
            "topic.prefix": self.prefix,
            "slot.name": "dbz",
            "key.converter.schemas.enable": "false",
            "value.converter.schemas.enable": "false",
        })
    }

    fn file(&self, name: &str, text: &str) -> String {
        let file = self.folder.join(name);
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    }

    /// The command for a configuration as Connect's REST interface gives it.
    fn read(&self, settings: Value) -> Walferry {
        let mut config = self.connection();
        for (name, value) in settings.as_object().unwrap() {
            config[name] = value.clone();
        }
        let file = self.file("connector.json", &json!({"name": "c", "config": config}).to_string());
        self.command().args(&["--connector", &file, "--brokers", &self.kafka.brokers()])
    }

    fn command(&self) -> Walferry {
        Walferry::new("", "").name("feed").command("read")
    }

    /// Until everything that was committed is in the topics.
    async fn caught_up(&self, running: &mut Running) {
        let now: String = self.server.value("app", "SELECT pg_current_wal_lsn()::text").await;
        let confirmed = format!(
            "SELECT coalesce(bool_and(confirmed_flush_lsn >= '{now}'), false) FROM pg_replication_slots WHERE slot_name !~ 'tmp'"
        );
        self.server.wait_until("app", &confirmed, SOON).await;
        assert!(running.is_running(), "{}", running.stderr());
    }

    /// Every record of the prefix but heartbeats, under the prefix that the captures have.
    fn records(&self) -> Vec<Record> {
        let own = format!("{}.", self.prefix);
        let topics = self.kafka.topics(&own).into_iter().map(|(name, _)| name);
        topics.filter(|name| name.starts_with(&own)).flat_map(|topic| self.records_of(&topic)).collect()
    }

    fn records_of(&self, topic: &str) -> Vec<Record> {
        let text = |bytes: &Option<Vec<u8>>| {
            let text = bytes.as_ref().map_or("null", |bytes| std::str::from_utf8(bytes).unwrap());
            text.replace(&format!("\"name\":\"{}\"", self.prefix), "\"name\":\"srv\"")
        };
        let header = |(name, value): &(String, Option<Vec<u8>>)| {
            let text = String::from_utf8(value.clone().unwrap_or_default()).unwrap();
            let text = if text == self.prefix { "srv".to_owned() } else { text };
            let json = if text.starts_with('{') { text } else { serde_json::to_string(&text).unwrap() };
            (name.clone(), json)
        };
        let records = self.kafka.records(topic);
        let one = |record: &crate::support::kafka::Record| Record {
            topic: topic.replacen(&self.prefix, "srv", 1),
            key: text(&record.key),
            value: text(&record.value),
            headers: record.headers.iter().map(header).collect(),
        };
        records.iter().map(one).collect()
    }

    /// `op` and row of each event of a table, in order.
    fn events(&self, table: &str) -> Vec<String> {
        let records = self.kafka.records(&format!("{}.{table}", self.prefix));
        let one = |record: &crate::support::kafka::Record| match record.value {
            None => "tombstone".to_owned(),
            Some(_) => {
                let event = record.json();
                let row = if event["after"].is_null() { &event["before"] } else { &event["after"] };
                format!("{} {row}", event["op"].as_str().unwrap())
            }
        };
        records.iter().map(one).collect()
    }

    async fn end(self, running: Running) {
        running.sigterm();
        running.wait_exit().await.expect_code(143);
        scratch::remove(&self.folder);
    }
}

/// Each a transaction of its own, as psql does it.
async fn statements(server: &Postgres, script: &str) {
    let client = server.connect("app").await;
    for statement in script.split_inclusive(';') {
        client.simple_query(statement).await.unwrap_or_else(|error| panic!("{statement}: {error:?}"));
    }
}

/// The captured connector's own file, on the same SQL.
async fn as_captured(properties: &str) -> Vec<Record> {
    let schema = [include_str!("../golden/ddl.sql"), include_str!("../golden/data.sql")].concat();
    let rig = Rig::new(&schema).await;
    let properties = properties
        .replace("database.port=55997", &format!("database.port={}", rig.server.port()))
        .replace("topic.prefix=srv", &format!("topic.prefix={}", rig.prefix));
    let dbname = properties.lines().find(|line| line.starts_with("database.dbname=")).unwrap();
    let connector = rig.file("connector.properties", &properties.replace(dbname, "database.dbname=app"));
    let worker = rig.file(
        "worker.properties",
        &format!(
            "bootstrap.servers={}\ngroup.id=connect\nplugin.path=/opt/plugins\noffset.flush.interval.ms=500\n",
            rig.kafka.brokers()
        ),
    );
    let command = rig.command().args(&["--connector", &connector, "--connector", &worker]);
    let mut running = command.args(&["--keyless", "inserts"]).spawn();
    running.wait_for_stderr("the snapshot is written").await;
    statements(&rig.server, include_str!("../golden/stream.sql")).await;
    rig.caught_up(&mut running).await;
    let records = rig.records();
    rig.end(running).await;
    records
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_the_default_capture_makes_its_events() {
    let ours = as_captured(include_str!("../golden/default.properties")).await;
    let mut theirs = golden::read(include_str!("../golden/default.jsonl"));
    differences::apply(&mut theirs, differences::DEFAULT, false);
    assert_same(&ours, &theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_the_capture_with_strings_makes_its_events() {
    let ours = as_captured(include_str!("../golden/strings.properties")).await;
    let mut theirs = golden::read(include_str!("../golden/strings.jsonl"));
    differences::apply(&mut theirs, differences::STRINGS, true);
    assert_same(&ours, &theirs);
}

const FILTERED: &str = "CREATE SCHEMA shop; CREATE SCHEMA log; CREATE TABLE shop.orders (id int PRIMARY KEY, secret text, body text);
    CREATE TABLE shop.orders_old (id int PRIMARY KEY); CREATE TABLE shop.\"Items\" (id int PRIMARY KEY, n int);
    CREATE TABLE log.orders (id int PRIMARY KEY); INSERT INTO shop.orders VALUES (0, 'x', 'before')";

#[tokio::test(flavor = "multi_thread")]
async fn filters_mean_what_they_mean_to_debezium_and_a_killed_reader_goes_on() {
    let rig = Rig::new(FILTERED).await;
    let command = rig.read(json!({
        "table.include.list": "shop\\.orders, SHOP.item.",
        "column.exclude.list": "shop\\.ord.*\\.secret",
        "message.prefix.exclude.list": "noise.*",
        "publication.autocreate.mode": "filtered",
        "publication.name": "chosen",
        "snapshot.mode": "no_data",
    }));
    let mut running = command.spawn();
    // A slot is active while it is made, too.
    let streams =
        "SELECT EXISTS (SELECT FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
                   WHERE r.state IN ('catchup', 'streaming'))";
    rig.server.wait_until("app", streams, SOON).await;
    let published: Vec<String> = rig
        .server
        .query("app", "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = 'chosen' ORDER BY 1")
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert_eq!(published, ["shop.Items", "shop.orders"]);
    // Somebody else's change of the publication brings in what is not asked for.
    rig.server.sql("app", "ALTER PUBLICATION chosen ADD TABLE log.orders").await;
    statements(
        &rig.server,
        "INSERT INTO shop.orders VALUES (1, 's', 'one'); UPDATE shop.orders SET secret = 't', body = 'two' WHERE id = 1;
         INSERT INTO shop.\"Items\" VALUES (1, 5); INSERT INTO log.orders VALUES (1); TRUNCATE shop.orders;
         SELECT pg_logical_emit_message(true, 'keep', 'in'), pg_logical_emit_message(true, 'noise1', 'x');
         SELECT pg_logical_emit_message(false, 'keep', 'out'); INSERT INTO shop.orders_old VALUES (1)",
    )
    .await;
    rig.caught_up(&mut running).await;
    assert_eq!(rig.events("shop.orders"), [r#"c {"body":"one","id":1}"#, r#"u {"body":"two","id":1}"#]);
    assert_eq!(rig.events("shop.Items"), [r#"c {"id":1,"n":5}"#]);
    let topics: Vec<String> = rig
        .kafka
        .topics(&rig.prefix)
        .into_iter()
        .map(|(name, _)| name.replacen(&rig.prefix, "P", 1))
        .collect();
    assert_eq!(topics, ["__debezium-heartbeat.P", "P.message", "P.shop.Items", "P.shop.orders"]);
    let messages = rig.kafka.records(&format!("{}.message", rig.prefix));
    let contents: Vec<Value> =
        messages.iter().map(|record| record.json()["message"]["content"].clone()).collect();
    assert_eq!(contents, ["aW4=", "b3V0"]);
    running.kill9().await;
    rig.server.sql("app", "INSERT INTO shop.orders SELECT g, 's', NULL FROM generate_series(2, 100) g").await;
    let mut running = command.spawn();
    rig.server.sql("app", "DELETE FROM shop.orders WHERE id = 2").await;
    rig.caught_up(&mut running).await;
    let events = rig.events("shop.orders");
    let missing: Vec<i32> =
        (2..=100).filter(|id| !events.contains(&format!("c {{\"body\":null,\"id\":{id}}}"))).collect();
    assert_eq!(missing, Vec::<i32>::new());
    assert_eq!(events[events.len() - 2..], [r#"d {"id":2}"#, "tombstone"]);
    rig.end(running).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_hurt_the_source_or_lose_something_is_refused_and_leaves_nothing() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE TABLE keyless (v int)").await;
    for (settings, code) in [
        (json!({}), "NO_IDENTITY"),
        (
            json!({"table.include.list": "public.keyless", "publication.autocreate.mode": "filtered"}),
            "NO_IDENTITY",
        ),
        (json!({"publication.autocreate.mode": "disabled"}), "PUBLICATION_MISSING"),
        (json!({"table.include.list": "public.x", "publication.autocreate.mode": "filtered"}), "NO_TABLES"),
    ] {
        let output = rig.read(settings).run().await.expect_code(4);
        assert!(output.stderr.contains(code), "{code}: {output:#?}");
    }
    let made: i64 = rig
        .server
        .value(
            "app",
            "SELECT (SELECT count(*) FROM pg_publication) + (SELECT count(*) FROM pg_replication_slots)",
        )
        .await;
    assert_eq!(made, 0);
    rig.server.sql("app", "CREATE PUBLICATION dbz_publication FOR TABLE t").await;
    let output = rig.read(json!({"column.include.list": "public.t.v"})).run().await.expect_code(4);
    assert!(output.stderr.contains("KEY_COLUMN") && output.stderr.contains("\"id\""), "{output:#?}");
    let slots: i64 = rig.server.value("app", "SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(slots, 0);
    scratch::remove(&rig.folder);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_come_first_where_the_topics_are_empty_or_at_every_start() {
    let rig = Rig::new("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1), (2)").await;
    // Made by hand, for a role that may not.
    rig.server.sql("app", "CREATE PUBLICATION dbz_publication FOR TABLE t").await;
    rig.server.sql("app", "SELECT pg_create_logical_replication_slot('dbz', 'pgoutput')").await;
    let mut rows = Vec::new();
    for mode in ["initial", "initial", "always", "initial", "no_data"] {
        let mut running = rig.read(json!({"snapshot.mode": mode})).spawn();
        rig.server.sql("app", "UPDATE t SET id = id").await;
        rig.caught_up(&mut running).await;
        rows.push(rig.events("public.t").iter().filter(|event| event.starts_with("r ")).count());
        running.sigterm();
        running.wait_exit().await.expect_code(143);
    }
    assert_eq!(rows, [2, 2, 4, 4, 4]);
    scratch::remove(&rig.folder);
}
