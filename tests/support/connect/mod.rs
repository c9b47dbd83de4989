//! A real Kafka Connect with Debezium's connectors: one standalone worker, a process of the test's own.
//!
//! ```ignore
//! let connect = Connect::shared().await;          // on the shared broker
//! connect.run("name", json!({"connector.class": …})).await;
//! connect.remove("name").await;
//! ```
//!
//! The worker's JVM takes ten seconds and more to start on a busy machine, so all tests share one and tell connectors apart by name.

mod rest;

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::kafka::Kafka;
use super::postgres::{Postgres, free_port};
use super::{programs, scratch};

const PATIENCE: Duration = Duration::from_secs(180);

pub struct Connect {
    port: u16,
    folder: std::path::PathBuf,
    child: Child,
}

impl Connect {
    /// The worker that all tests of the process share, on the broker that they share.
    pub async fn shared() -> &'static Connect {
        static SHARED: OnceCell<Connect> = OnceCell::const_new();
        SHARED
            .get_or_init(async || Connect::start(Kafka::shared().await, Duration::from_millis(500)).await)
            .await
    }

    /// A worker that may be killed, which writes its connectors' offsets down so often.
    pub async fn own(kafka: &Kafka, flush: Duration) -> Connect {
        Connect::start(kafka, flush).await
    }

    async fn start(kafka: &Kafka, flush: Duration) -> Connect {
        let folder = scratch::folder("connect");
        let port = free_port();
        let worker = format!(
            "bootstrap.servers={}\nlisteners=http://127.0.0.1:{port}\noffset.storage.file.filename={}\n\
             offset.flush.interval.ms={}\nplugin.discovery=only_scan\n\
             key.converter=org.apache.kafka.connect.json.JsonConverter\n\
             value.converter=org.apache.kafka.connect.json.JsonConverter\n",
            kafka.brokers(),
            folder.join("offsets").display(),
            flush.as_millis()
        );
        std::fs::write(folder.join("worker.properties"), worker).expect("the folder is ours");
        let logging = "log4j.rootLogger=WARN, out\nlog4j.appender.out=org.apache.log4j.ConsoleAppender\n\
            log4j.appender.out.layout=org.apache.log4j.PatternLayout\nlog4j.appender.out.layout.ConversionPattern=%d %p %c %m%n\n";
        std::fs::write(folder.join("log4j.properties"), logging).expect("the folder is ours");
        let child = spawn(&folder);
        let mut connect = Connect { port, folder, child };
        connect.answers().await;
        connect
    }

    async fn answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.ask("GET", "/connectors", None).await.is_none_or(|(status, _)| status != 200) {
            let ended = !matches!(self.child.try_wait(), Ok(None));
            assert!(!ended && Instant::now() < deadline, "Kafka Connect did not start:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The process ends where it is; its connectors' offsets are what was flushed last.
    pub fn kill9(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        scratch::unwatch(self.child.id());
    }

    /// Another process in its place; it has the offsets, and no connector until it is given one.
    pub async fn start_again(&mut self) {
        self.child = spawn(&self.folder);
        self.answers().await;
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Status and body; none: nobody answers.
    async fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Option<(u16, Value)> {
        rest::ask(self.port, method, path, body).await
    }

    /// Makes a connector, or gives it another configuration; returns when its task runs.
    pub async fn run(&self, name: &str, config: &Value) {
        let (status, body) = self
            .ask("PUT", &format!("/connectors/{name}/config"), Some(config))
            .await
            .expect("Kafka Connect answers");
        assert!((200..300).contains(&status), "{name}: {status} {body}\n{}", self.log());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let state = self.state(name).await;
            if state == "RUNNING" {
                return;
            }
            assert!(state != "FAILED" && Instant::now() < deadline, "{name}: {state}\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// State of its task; empty: it has none yet.
    pub async fn state(&self, name: &str) -> String {
        let answer = self.ask("GET", &format!("/connectors/{name}/status"), None).await;
        let (_, body) = answer.unwrap_or_default();
        body["tasks"][0]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// Ends a connector and forgets it.
    pub async fn remove(&self, name: &str) {
        self.ask("DELETE", &format!("/connectors/{name}"), None).await;
    }

    /// A source connector's configuration: Debezium's defaults, on topics that are made as they are written.
    pub fn source(server: &Postgres, database: &str, prefix: &str) -> Value {
        json!({
            "connector.class": "io.debezium.connector.postgresql.PostgresConnector",
            "tasks.max": "1",
            "database.hostname": "127.0.0.1",
            "database.port": server.port().to_string(),
            "database.user": "postgres",
            "database.password": "x",
            "database.dbname": database,
            "topic.prefix": prefix,
            "plugin.name": "pgoutput",
            "slot.name": format!("dbz_{prefix}"),
            "publication.name": format!("dbz_{prefix}"),
            "poll.interval.ms": "50",
            "topic.creation.default.partitions": "1",
            "topic.creation.default.replication.factor": "1",
        })
    }
}

/// The worker's JVM, with what the folder says.
fn spawn(folder: &std::path::Path) -> Child {
    let out = File::options().create(true).append(true).open(folder.join("log")).expect("the folder is ours");
    let child = Command::new("java")
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"])
        .arg(format!("-Dlog4j.configuration=file:{}", folder.join("log4j.properties").display()))
        .arg("-cp")
        .arg(programs::debezium().join("libs").join("*"))
        .arg("org.apache.kafka.connect.cli.ConnectStandalone")
        .arg(folder.join("worker.properties"))
        .stdin(Stdio::null())
        .stdout(out.try_clone().expect("a file handle"))
        .stderr(out)
        .current_dir(folder)
        .spawn()
        .expect("java runs: scripts/setup --debezium installs it");
    scratch::watch(child.id());
    child
}

impl Drop for Connect {
    fn drop(&mut self) {
        self.kill9();
    }
}
