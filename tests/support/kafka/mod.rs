//! A real broker: Apache Kafka, one KRaft node, a process of the test's own.
//!
//! ```ignore
//! let kafka = Kafka::shared().await;                 // one for all tests of the process: tell them apart by prefix
//! let mut kafka = Kafka::start().await;              // a broker of the test's own, to be stopped and killed
//! kafka.kill9().await; kafka.restart().await;
//! ```
//!
//! A node takes about 400 MB, so a test has one of its own only where the broker itself is what fails.

mod cluster;
mod process;
pub mod secured;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use tokio::sync::OnceCell;

use super::postgres::free_port;
use super::{Proxy, programs, scratch};
pub use cluster::Cluster;
use process::Process;
pub use secured::Secured;

const PATIENCE: Duration = Duration::from_secs(180);

/// A broker and its data folder; both are gone when it is dropped.
pub struct Kafka {
    port: u16,
    folder: PathBuf,
    process: Option<Process>,
}

/// One record, as a consumer sees it.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970.
    pub timestamp: Option<i64>,
}

impl Record {
    fn of(message: &BorrowedMessage<'_>) -> Record {
        Record {
            partition: message.partition(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map_or_else(Vec::new, |headers| {
                let header =
                    |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
                headers.iter().map(header).collect()
            }),
            timestamp: message.timestamp().to_millis(),
        }
    }

    /// A header as text; None: there is none, or it has no value.
    pub fn header(&self, name: &str) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        value.as_ref().map(|value| String::from_utf8(value.clone()).expect("the header is text"))
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(self.value.as_deref().unwrap_or(b"null")).expect("the value is JSON")
    }
}

impl Kafka {
    /// The broker that all tests of the process share.
    pub async fn shared() -> &'static Kafka {
        static SHARED: OnceCell<Kafka> = OnceCell::const_new();
        SHARED.get_or_init(Kafka::start).await
    }

    /// A broker of the test's own, ready to answer.
    pub async fn start() -> Kafka {
        Kafka::start_with(&[]).await
    }

    /// With more lines in server.properties, which win; `{port}` and `{controller}` stand for the node's own.
    pub async fn start_with(properties: &[&str]) -> Kafka {
        let mut kafka = Kafka::prepare(properties, 1, |_| false);
        kafka.restart().await;
        kafka
    }

    /// A broker that is reached through a proxy, at [`Proxy::address`], and directly, at [`Kafka::brokers`].
    pub async fn behind_proxy() -> (Kafka, Proxy) {
        let inner = free_port();
        let proxy = Proxy::start("127.0.0.1", inner).await;
        let kafka = Kafka::start_with(&[
            &format!(
                "listeners=PLAINTEXT://127.0.0.1:{{port}},PROXIED://127.0.0.1:{inner},CONTROLLER://127.0.0.1:{{controller}}"
            ),
            &format!("advertised.listeners=PLAINTEXT://127.0.0.1:{{port}},PROXIED://{}", proxy.address()),
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name=PLAINTEXT",
        ])
        .await;
        (kafka, proxy)
    }

    /// A node that is not started. `format` may fill the data folder, given the file of properties; `false`: the template is good enough.
    fn prepare(properties: &[&str], node: usize, format: impl FnOnce(&Path) -> bool) -> Kafka {
        let folder = scratch::folder("kafka");
        let (port, controller) = (free_port(), free_port());
        let data = folder.join("data");
        std::fs::create_dir(&data).expect("the folder is ours");
        let mut lines = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\noffsets.topic.num.partitions=1\nauto.create.topics.enable=false\n\
             group.initial.rebalance.delay.ms=0\nlog.retention.check.interval.ms=500\n\
             broker.session.timeout.ms=2000\nbroker.heartbeat.interval.ms=300\n",
            data.display()
        );
        for property in properties {
            lines += &property
                .replace("{port}", &port.to_string())
                .replace("{controller}", &controller.to_string());
            lines.push('\n');
        }
        let file = folder.join("server.properties");
        std::fs::write(&file, lines).expect("the folder is ours");
        if !format(&file) {
            for file in ["meta.properties", "bootstrap.checkpoint"] {
                std::fs::copy(programs::kafka().join("formatted").join(file), data.join(file))
                    .expect("scripts/setup --kafka has made the template");
            }
            // Nodes of one cluster differ in their own number and their folder's name.
            let properties = data.join("meta.properties");
            let text = std::fs::read_to_string(&properties).expect("it was just copied");
            let text = text.replace("node.id=1", &format!("node.id={node}"));
            let line =
                text.lines().find(|line| line.starts_with("directory.id=")).expect("a folder has a name");
            let own = format!("directory.id={node}{}", &line["directory.id=".len() + 1..]);
            std::fs::write(&properties, text.replace(line, &own)).expect("the folder is ours");
        }
        Kafka { port, folder, process: None }
    }

    pub fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// A prefix that nobody else has, and that is no part of another one.
    pub fn prefix() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        format!("t{:03}", NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts the node again on its port and data; returns when it answers.
    pub async fn restart(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop();
        }
        self.process = Some(Process::start(&self.folder));
        self.answers().await;
    }

    /// In order: what is in memory is written.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.stop();
        }
    }

    pub fn kill9(&mut self) {
        if let Some(process) = self.process.take() {
            process.kill9();
        }
    }

    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        ClientConfig::new().set("bootstrap.servers", self.brokers()).create().expect("an admin client")
    }

    pub fn consumer(&self) -> BaseConsumer {
        ClientConfig::new()
            .set("bootstrap.servers", self.brokers())
            .set("group.id", "walferry-test")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            // The next request waits behind a fetch that waits for more.
            .set("fetch.wait.max.ms", "10")
            .create()
            .expect("a consumer")
    }

    async fn answers(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        let admin = self.admin();
        loop {
            let metadata = tokio::task::block_in_place(|| {
                admin.inner().fetch_metadata(None, Duration::from_millis(500))
            });
            if metadata.is_ok_and(|metadata| !metadata.brokers().is_empty()) {
                return;
            }
            let ended = self.process.as_mut().is_none_or(|process| process.has_ended());
            let log = || std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(!ended, "the broker ended:\n{}", log());
            assert!(Instant::now() < deadline, "the broker did not start in time:\n{}", log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Names of the topics that begin with this, with their numbers of partitions.
    pub fn topics(&self, prefix: &str) -> Vec<(String, usize)> {
        let admin = self.admin();
        let metadata = tokio::task::block_in_place(|| admin.inner().fetch_metadata(None, PATIENCE))
            .expect("the broker answers");
        let mut topics: Vec<(String, usize)> = metadata
            .topics()
            .iter()
            .filter(|topic| topic.name().contains(prefix))
            .map(|topic| (topic.name().to_owned(), topic.partitions().len()))
            .collect();
        topics.sort();
        topics
    }

    /// Waits until no topic has the prefix: a broker hears of the controller's deletion a moment later.
    pub async fn gone(&self, prefix: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = self.topics(prefix);
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < deadline, "{left:?} are still there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Every record that is in a topic now, partition by partition.
    pub fn records(&self, topic: &str) -> Vec<Record> {
        tokio::task::block_in_place(|| {
            let consumer = self.consumer();
            let metadata = consumer.fetch_metadata(Some(topic), PATIENCE).expect("the broker answers");
            let partitions = metadata.topics()[0].partitions().len();
            let mut ends: Vec<(i64, i64)> =
                (0..partitions).map(|id| watermarks(&consumer, topic, id as i32)).collect();
            let mut list = rdkafka::TopicPartitionList::new();
            for (id, (low, _)) in ends.iter().enumerate().filter(|(_, (low, high))| low < high) {
                list.add_partition_offset(topic, id as i32, rdkafka::Offset::Offset(*low))
                    .expect("an offset");
            }
            consumer.assign(&list).expect("assign");
            let mut records = vec![Vec::new(); ends.len()];
            while ends.iter().any(|(next, high)| next < high) {
                let message = consumer.poll(PATIENCE).expect("a record in time").expect("a record");
                let partition = message.partition() as usize;
                let (next, high) = &mut ends[partition];
                if message.offset() < *high {
                    *next = message.offset() + 1;
                    records[partition].push(Record::of(&message));
                }
            }
            records.concat()
        })
    }

    /// Writes a record as somebody else would.
    pub async fn produce(&self, topic: &str, record: &Record) {
        let producer: FutureProducer =
            ClientConfig::new().set("bootstrap.servers", self.brokers()).create().expect("a producer");
        let headers = record.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: value.as_deref() })
        });
        let mut message: FutureRecord<'_, [u8], [u8]> =
            FutureRecord::to(topic).partition(record.partition).headers(headers);
        message.key = record.key.as_deref();
        message.payload = record.value.as_deref();
        producer.send(message, PATIENCE).await.expect("the record is written");
    }

    /// Waits until the broker takes messages for a topic, or no longer does: it hears from the controller which topics there are.
    pub async fn served(&self, topic: &str, wanted: bool) {
        let deadline = Instant::now() + PATIENCE;
        let consumer = self.consumer();
        let served = || tokio::task::block_in_place(|| consumer.fetch_watermarks(topic, 1, PATIENCE).is_ok());
        while served() != wanted {
            assert!(Instant::now() < deadline, "topic {topic}: served is {}", !wanted);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A setting of a topic, as the broker has it.
    pub async fn topic_setting(&self, topic: &str, key: &str) -> String {
        let resource = rdkafka::admin::ResourceSpecifier::Topic(topic);
        let answer = self.admin().describe_configs([&resource], &AdminOptions::new()).await;
        let config = answer.expect("it answers").remove(0).expect("the topic is there");
        config.get(key).and_then(|entry| entry.value.clone()).unwrap_or_default()
    }

    pub async fn delete_topic(&self, topic: &str) {
        let results = self.admin().delete_topics(&[topic], &AdminOptions::new()).await.expect("it answers");
        results.into_iter().for_each(|result| {
            result.expect("the topic is deleted");
        });
        // A broker hears of the controller's deletion a moment later, and serves what was in the topic until then.
        let deadline = Instant::now() + PATIENCE;
        while self.topics(topic).iter().any(|(name, _)| name == topic) {
            assert!(Instant::now() < deadline, "{topic} is still there");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.kill9();
        scratch::remove(&self.folder);
    }
}

/// First offset and end of a partition. A broker is named as its leader a moment before it leads, after the topic was made and after the
/// broker has started; librdkafka does not ask again by itself then.
pub fn watermarks(consumer: &BaseConsumer, topic: &str, partition: i32) -> (i64, i64) {
    use rdkafka::error::RDKafkaErrorCode as Code;
    let deadline = Instant::now() + PATIENCE;
    loop {
        let error = match consumer.fetch_watermarks(topic, partition, PATIENCE) {
            Ok(found) => return found,
            Err(error) => error,
        };
        let passes = matches!(
            error.rdkafka_error_code(),
            Some(
                Code::NotLeaderForPartition
                    | Code::LeaderNotAvailable
                    | Code::ReplicaNotAvailable
                    | Code::UnknownTopicOrPartition
            )
        );
        assert!(passes && Instant::now() < deadline, "topic {topic}, partition {partition}: {error}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Offset behind the last record of a topic's first partition, as soon as that is past `before`.
pub fn end_past(consumer: &BaseConsumer, topic: &str, before: i64) -> i64 {
    tokio::task::block_in_place(|| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (_, end) = watermarks(consumer, topic, 0);
            if end > before {
                return end;
            }
            assert!(Instant::now() < deadline, "topic {topic} stays at {end}");
        }
    })
}
