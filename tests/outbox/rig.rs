//! A source, a broker, and `walferry outbox run` between them.

use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use crate::support::kafka::Record;
use crate::support::walferry::{Output, Running};
use crate::support::{Kafka, Postgres, Walferry};

pub const PATIENCE: Duration = Duration::from_secs(90);

/// Debezium's layout.
pub const DEBEZIUM: &str = "CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, \
                            aggregateid text NOT NULL, type text NOT NULL, payload jsonb)";

/// One database with an outbox, and the run that routes it.
pub struct Rig {
    pub source: &'static Postgres,
    pub kafka: &'static Kafka,
    pub database: String,
    /// Of the topics, the run, the slot and the publication.
    pub prefix: String,
    pub walferry: Walferry,
    arguments: Vec<String>,
    pub running: Option<Running>,
}

impl Rig {
    /// On the server and the broker that all tests share; `schema` is run in a database of its own. Topics begin with the prefix.
    pub async fn new(schema: &str) -> Rig {
        let (source, kafka) = tokio::join!(Rig::server(), Kafka::shared());
        Rig::on(source, kafka, schema).await
    }

    async fn server() -> &'static Postgres {
        static SOURCE: OnceCell<Postgres> = OnceCell::const_new();
        SOURCE.get_or_init(|| Postgres::start(15)).await
    }

    /// Of the same source, through brokers of the test's own.
    pub async fn through(kafka: &'static Kafka, brokers: &str, schema: &str) -> Rig {
        let mut rig = Rig::on(Rig::server().await, kafka, schema).await;
        brokers.clone_into(&mut rig.arguments[1]);
        rig
    }

    pub async fn on(source: &'static Postgres, kafka: &'static Kafka, schema: &str) -> Rig {
        let prefix = Kafka::prefix();
        let database = format!("ob_{prefix}");
        source.create_database(&database).await;
        if !schema.is_empty() {
            source.sql(&database, schema).await;
        }
        let walferry = Walferry::new(&source.uri(&database), "").name(&format!("ob_{prefix}"));
        let replacement = format!("route.topic.replacement={prefix}.${{routedByValue}}");
        let arguments = ["--brokers", &kafka.brokers(), "--prefix", &prefix, "--set", &replacement];
        let arguments = arguments.map(str::to_owned).to_vec();
        Rig { source, kafka, database, prefix, walferry, arguments, running: None }
    }

    pub fn arg(mut self, argument: &str) -> Rig {
        self.arguments.push(argument.to_owned());
        self
    }

    pub fn set(self, assignment: &str) -> Rig {
        self.arg("--set").arg(assignment)
    }

    /// `outbox WHAT` with the rig's arguments.
    pub fn command(&self, what: &[&str]) -> Walferry {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.walferry.command("outbox").args(what).args(&arguments)
    }

    /// Another command with the rig's arguments.
    pub fn run_command(&self, command: &str) -> Walferry {
        let arguments: Vec<&str> = self.arguments.iter().map(String::as_str).collect();
        self.walferry.command(command).args(&arguments)
    }

    /// Starts the run and waits until it streams.
    pub async fn start(mut self) -> Rig {
        self.restart().await;
        self
    }

    pub async fn restart(&mut self) {
        self.restart_with(&[]).await;
    }

    /// With a variable of the environment.
    pub async fn restart_with(&mut self, environment: &[(&str, &str)]) {
        let run = self.command(&["run"]);
        let mut running = environment.iter().fold(run, |run, (name, value)| run.env(name, value)).spawn();
        running.wait_for_stderr("live").await;
        self.running = Some(running);
    }

    pub async fn sql(&self, statements: &str) {
        self.source.sql(&self.database, statements).await;
    }

    pub fn topic(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// What is in a topic, once it has this many records.
    pub async fn records(&self, topic: &str, count: usize) -> Vec<Record> {
        let topic = self.topic(topic);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let there = self.kafka.topics(&topic).iter().any(|(name, _)| *name == topic);
            let records = if there { self.kafka.records(&topic) } else { Vec::new() };
            if records.len() >= count {
                return records;
            }
            let said = || self.running.as_ref().map(Running::stderr).unwrap_or_default();
            assert!(
                Instant::now() < deadline,
                "{topic}: {} records, {count} expected\n{}",
                records.len(),
                said()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// With a connector's file, which has the connection and the names.
    pub async fn file(mut self, file: &std::path::Path) -> Rig {
        let running = self.command(&["run", "--connector", file.to_str().expect("a path of ours")]);
        let mut running = running.env("WALFERRY_SOURCE", "").spawn();
        running.wait_for_stderr("live").await;
        self.running = Some(running);
        self
    }

    /// Waits until Kafka has everything that is committed now.
    pub async fn delivered(&self) {
        self.delivered_of(self.walferry.run_name()).await;
    }

    pub async fn delivered_of(&self, slot: &str) {
        let now: String = self.source.value(&self.database, "SELECT pg_current_wal_insert_lsn()::text").await;
        let confirmed = format!(
            "SELECT confirmed_flush_lsn >= '{now}' FROM pg_replication_slots WHERE slot_name = '{slot}'"
        );
        self.source.wait_until(&self.database, &confirmed, PATIENCE).await;
    }

    pub async fn stop(&mut self) -> Output {
        let running = self.running.take().expect("it runs");
        running.sigterm();
        running.wait_exit().await.expect_code(143)
    }

    /// Ends the run and gives its slot back.
    pub async fn end(mut self) {
        if self.running.is_some() {
            self.stop().await;
        }
        let slots = format!(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{}' AND NOT active",
            self.database
        );
        self.source.query("postgres", &slots).await;
    }
}

/// A value that must be text.
pub fn text(bytes: &Option<Vec<u8>>) -> &str {
    bytes.as_deref().map_or("(none)", |bytes| std::str::from_utf8(bytes).expect("it is text"))
}
