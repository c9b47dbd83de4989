//! The consumers' library against a real broker and a real database: every event has its effect once, whatever happens.

mod dead_letters;
mod errors;
mod once;
pub mod process;
mod rebalance;

use std::sync::Arc;
use std::time::{Duration, Instant};

use inbox::{Failure, Handler, Message, Options, Stats, Transaction, Worker};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use serde::Deserialize;
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::{Kafka, Postgres};

const PATIENCE: Duration = Duration::from_secs(90);

/// One server for all tests here.
async fn server() -> &'static Postgres {
    static SERVER: OnceCell<Postgres> = OnceCell::const_new();
    SERVER.get_or_init(|| Postgres::start(15)).await
}

/// A topic, a database and a group that nobody else has.
struct Rig<'k> {
    kafka: &'k Kafka,
    server: &'static Postgres,
    name: String,
    producer: FutureProducer,
}

/// A record to be sent.
struct Sent<'a> {
    key: &'a str,
    value: &'a str,
    headers: Vec<(&'a str, String)>,
}

impl<'k> Rig<'k> {
    async fn new(partitions: i32, schema: &str) -> Rig<'static> {
        Rig::on(Kafka::shared().await, partitions, schema).await
    }

    async fn on(kafka: &'k Kafka, partitions: i32, schema: &str) -> Rig<'k> {
        let server = server().await;
        let name = format!("inbox_{}", Kafka::prefix());
        let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(1));
        kafka.admin().create_topics([&new], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        server.create_database(&name).await;
        server.sql(&name, schema).await;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", kafka.brokers()).set("enable.idempotence", "true");
        Rig { kafka, server, name, producer: config.create().unwrap() }
    }

    fn options(&self) -> Options {
        let mut options = Options::new(self.kafka.brokers(), &self.name, [&self.name]);
        options.pause_min = Duration::from_millis(5);
        options.pause_max = Duration::from_millis(50);
        options
    }

    async fn send(&self, sent: Sent<'_>) {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &sent.headers {
            headers = headers.insert(Header { key, value: Some(value) });
        }
        let record = FutureRecord::to(&self.name).key(sent.key).payload(sent.value).headers(headers);
        self.producer.send(record, PATIENCE).await.map_err(|(error, _)| error).unwrap();
    }

    /// As walferry publishes a logical message: expanded payload, header id and eventType.
    async fn event(&self, id: &str, key: &str, event_type: &str, payload: &serde_json::Value) {
        let headers = vec![("id", id.to_owned()), ("eventType", event_type.to_owned())];
        self.send(Sent { key, value: &payload.to_string(), headers }).await;
    }

    fn worker<H: Handler + Send + 'static>(&self, options: Options, handler: H) -> Running {
        let worker = Worker::new(options, inbox::plain(self.server.uri(&self.name).parse().unwrap()));
        let (stats, stop) = (worker.stats(), CancellationToken::new());
        let stopped = stop.clone();
        let task = tokio::spawn(async move { worker.run(&handler, stopped).await });
        Running { stats, stop, task }
    }

    async fn count(&self, query: &str) -> i64 {
        self.server.value(&self.name, query).await
    }

    /// Waits until a query answers this.
    async fn wait_count(&self, query: &str, expected: i64) {
        self.server.wait_until(&self.name, &format!("SELECT ({query}) = {expected}"), PATIENCE).await;
    }
}

/// A worker of this process.
struct Running {
    stats: Arc<Stats>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), inbox::Error>>,
}

impl Running {
    async fn stop(self) -> Arc<Stats> {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
        self.stats
    }

    async fn wait(&self, what: &str, reached: impl Fn(&Stats) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !reached(&self.stats) {
            assert!(!self.task.is_finished(), "the worker has ended before {what}");
            assert!(Instant::now() < deadline, "not {what}: {:?}", self.stats);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Notes what it gets, one row for each time it gets it.
const NOTES: &str =
    "CREATE TABLE notes (n bigint GENERATED ALWAYS AS IDENTITY, key text, seq int CHECK (seq >= 0))";

#[derive(Deserialize)]
enum Event {
    Noted {
        seq: i32,
    },
    #[serde(rename = "note.refused")]
    Refused,
}

struct Notes;

impl Handler for Notes {
    type Event = Event;

    async fn handle(&self, tx: &Transaction<'_>, event: Event, message: &Message) -> Result<(), Failure> {
        match event {
            Event::Noted { seq } => {
                let sql = "INSERT INTO notes (key, seq) VALUES ($1, $2)";
                tx.execute(sql, &[&message.key, &seq]).await?;
                Ok(())
            }
            Event::Refused => Err(Failure::poison("refused")),
        }
    }
}
