//! What brokers answer when they can't: librdkafka's own mock cluster says it, and both halves of the carrier live with it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use pg::{Lsn, QualifiedName};
use pipeline::envelope::{self, ColumnType, Decoder, Dialect, Encoder, Kind, TableTypes, Topics, Values};
use pipeline::{
    Change, ChangeSink, ChangeSource, Chunk, Column, Durable, Event, PgTimestamp, Relation, RelationColumn,
    RelationId, ReplicaIdentity, Tuple,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{BorrowedMessage, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

use crate::producer::Outgoing;
use crate::{Admin, Announcement, KafkaSink, Merge, MergeOptions, Options, Position, Producer, Tail};

const PARTITIONS: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

type Mock = MockCluster<'static, DefaultProducerContext>;

fn options(mock: &Mock) -> Options {
    Options {
        brokers: mock.bootstrap_servers(),
        prefix: "p".to_owned(),
        client_id: "test".to_owned(),
        partitions: PARTITIONS as i32,
        table_partitions: BTreeMap::new(),
        replication: Some(3),
        retention: Duration::from_secs(3600),
        message_bytes: 1 << 20,
        in_flight_bytes: 1 << 20,
        linger: Duration::from_millis(1),
        fetch_bytes: 1 << 20,
        transactions: true,
        security: crate::Security::default(),
    }
}

fn envelope_options(epoch: u64) -> envelope::Options {
    let mut options = envelope::Options::new("p", "db", Values::Postgres);
    options.run_id = "run".to_owned();
    options.system_identifier = "7".to_owned();
    options.epoch = epoch;
    options
}

fn types() -> TableTypes {
    TableTypes {
        name: QualifiedName::new("public", "t"),
        key: vec!["id".to_owned()],
        identity: ReplicaIdentity::Default,
        columns: vec![ColumnType {
            name: "id".to_owned(),
            type_oid: 23,
            kind: Kind::Base,
            base_name: "int4".to_owned(),
            base_oid: 23,
            type_modifier: -1,
            array: false,
            not_null: true,
            default: None,
            computed_default: false,
            labels: Vec::new(),
        }],
    }
}

fn relation() -> Arc<Relation> {
    Arc::new(Relation {
        id: RelationId(7),
        name: QualifiedName::new("public", "t"),
        identity: ReplicaIdentity::Default,
        columns: vec![RelationColumn { name: "id".to_owned(), type_id: 23, type_modifier: -1, key: true }],
    })
}

fn lsn(transaction: u64) -> Lsn {
    Lsn::new(transaction * 16)
}

/// Three rows.
fn transaction(number: u64, relation: &Arc<Relation>) -> Chunk {
    let (commit_lsn, committed_at) = (Lsn::new(number * 16 - 8), PgTimestamp(number as i64));
    let mut chunk = Chunk::default();
    chunk.push(Event::Begin { commit_lsn, committed_at, xid: number as u32 });
    for row in 0..3 {
        let id = (number * 10 + row).to_string();
        let new = Tuple::from_columns(&[Column::Text(id.as_bytes())]);
        chunk.push(Event::Change(Change::Insert { relation: relation.clone(), new }));
    }
    chunk.push(Event::Commit { commit_lsn, end_lsn: lsn(number), committed_at });
    chunk
}

struct Scene {
    mock: Mock,
    options: Options,
    partitions: HashMap<String, usize>,
    epoch: u64,
}

impl Scene {
    fn new() -> Scene {
        let mock = Mock::new(3).unwrap();
        let topics = Topics::new("p");
        let table = topics.table(&QualifiedName::new("public", "t"));
        let partitions: HashMap<String, usize> =
            [(table, PARTITIONS), (topics.transaction, 1), (topics.heartbeat, 1)].into();
        for (topic, count) in &partitions {
            mock.create_topic(topic, *count as i32, 3).unwrap();
        }
        Scene { options: options(&mock), mock, partitions, epoch: 0 }
    }

    fn errors(&self, errors: &[RDKafkaRespErr]) {
        self.mock.request_errors(RDKafkaApiKey::Produce, errors);
    }

    /// A reader that goes on where the topics end, as after any error of the stream.
    async fn reader(&mut self) -> (KafkaSink, Producer, u64) {
        self.epoch += 1;
        let tail = Tail::read(&self.options).await.unwrap();
        let from = tail.position().unwrap_or_default();
        let mut encoder = Encoder::new(envelope_options(self.epoch));
        encoder.describe(types());
        let announcement = Announcement::new("s", vec!["s".to_owned()]);
        let admin = Admin::new(&self.options).unwrap();
        let (sink, producer) = KafkaSink::start(
            &self.options,
            encoder,
            admin,
            self.partitions.clone(),
            &announcement,
            from,
            None,
        )
        .unwrap();
        (sink, producer, from.as_u64() / 16)
    }

    /// Sends transactions up to this number; a stream that fails begins again. Answers with how often it had to.
    async fn send_all(&mut self, last: u64) -> u64 {
        let relation = relation();
        let mut failures = 0;
        loop {
            let (mut sink, producer, from) = self.reader().await;
            let mut durable = sink.durable();
            let sent = async {
                for number in from + 1..=last {
                    sink.send(transaction(number, &relation)).await?;
                }
                while durable.borrow_and_update().flushed < lsn(last) {
                    if let Some(error) = producer.failure() {
                        return Err(error);
                    }
                    let _ = tokio::time::timeout(Duration::from_millis(50), durable.changed()).await;
                }
                Ok(())
            };
            let sent = tokio::time::timeout(PATIENCE, sent).await.expect("the brokers take it in the end");
            producer.close().await;
            match sent {
                Ok(()) => return failures,
                Err(error) => {
                    assert!(error.class() == pg::Class::Connection, "{error}");
                    failures += 1;
                    assert!(failures < 20, "{error}");
                }
            }
        }
    }

    /// The ids that the writer is given, in its order.
    async fn merged(&self, last: u64) -> Vec<u64> {
        let mut decoder = Decoder::new(envelope_options(0), Dialect::Walferry);
        decoder.describe(types());
        let of = MergeOptions {
            system_identifier: "7".to_owned(),
            run_id: "run".to_owned(),
            progress: Lsn::default(),
            position: Position::default(),
            queue_bytes: 1 << 20,
            needs: crate::Needs::new([], true),
        };
        let admin = Admin::new(&self.options).unwrap();
        let (merge, mut source) = Merge::start(&self.options, decoder, admin, &self.partitions, of).unwrap();
        let stop = CancellationToken::new();
        let merging = tokio::spawn(merge.run(stop.clone()));
        let mut ids = Vec::new();
        let read = async {
            while let Some(chunk) = source.recv().await {
                for event in &chunk.events {
                    match event {
                        Event::Change(Change::Insert { new, .. }) => {
                            let Some(Column::Text(text)) = new.columns().next() else { panic!("{event:?}") };
                            ids.push(std::str::from_utf8(text).unwrap().parse().unwrap());
                        }
                        Event::Commit { end_lsn, .. } if *end_lsn == lsn(last) => return,
                        _ => {}
                    }
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("everything comes");
        stop.cancel();
        merging.await.unwrap().unwrap();
        ids
    }
}

fn all(last: u64) -> Vec<u64> {
    (1..=last).flat_map(|number| (0..3).map(move |row| number * 10 + row)).collect()
}

/// What passes by itself: the producer tries again, and neither order nor number suffers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_errors_that_pass_are_waited_out() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS as REPLICAS,
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION as LEADER,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT as TIMED_OUT,
    };
    let mut scene = Scene::new();
    scene.send_all(3).await;
    scene.errors(&[REPLICAS, REPLICAS, TIMED_OUT, LEADER, REPLICAS, TIMED_OUT]);
    assert_eq!(scene.send_all(40).await, 0, "no stream had to begin again");
    assert_eq!(scene.merged(40).await, all(40));
}

/// A producer that the brokers no longer follow ends with its stream; the next one goes on behind the last END.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_28_a_producer_out_of_sequence_is_replaced_without_a_hole() {
    use RDKafkaRespErr::{
        RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH as EPOCH,
        RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER as ORDER,
        RD_KAFKA_RESP_ERR_UNKNOWN_PRODUCER_ID as UNKNOWN,
    };
    for error in [ORDER, EPOCH, UNKNOWN] {
        let mut scene = Scene::new();
        scene.send_all(5).await;
        scene.errors(&[error]);
        let failures = scene.send_all(30).await;
        println!("{error:?}: {failures} streams had to begin again");
        assert_eq!(scene.merged(30).await, all(30), "{error:?}");
    }
}

/// The default gives a message up after five minutes and sends the ones behind it.
#[test]
fn row_27_no_timeout_of_librdkafka_gives_a_message_up() {
    let scene = Scene::new();
    let native = scene.options.producer().create_native_config().unwrap();
    assert_eq!(native.get("message.timeout.ms").unwrap(), "0", "never");
    assert_eq!(native.get("message.send.max.retries").unwrap(), i32::MAX.to_string());
    assert_eq!(native.get("enable.idempotence").unwrap(), "true");
    assert_eq!(native.get("request.required.acks").unwrap(), "-1", "all");
    assert_eq!(native.get("allow.auto.create.topics").unwrap(), "false");
    let native = scene.options.consumer(4).create_native_config().unwrap();
    assert_eq!(native.get("auto.offset.reset").unwrap(), "error");
    assert_eq!(native.get("enable.auto.commit").unwrap(), "false");
}

/// Sends records to one partition, each while the answer to the one before it is on its way, first `there`, then the others, the first of
/// which is refused. What the partition has in the end, and why the stream ended.
async fn refused_behind(there: &[&str], others: &[&str]) -> (Vec<String>, Option<pg::Error>) {
    let scene = Scene::new();
    let topic = Topics::new("p").table(&QualifiedName::new("public", "t"));
    for partition in [0, 1] {
        scene.mock.partition_leader(&topic, partition, Some(1)).unwrap();
    }
    let (producer, mut durable) = Producer::start(&scene.options, Durable::default()).unwrap();
    let handle = producer.handle().unwrap();
    let send = |partition: i32, value: &str| {
        let entry = handle.shared.ledger().open();
        let (key, value, headers) = (Some(&b"k"[..]), Some(value.as_bytes()), &[][..]);
        let outgoing = Outgoing { topic: &topic, partition, key, value, headers, timestamp: 1 };
        handle.record(entry, &outgoing).unwrap();
        let end = Lsn::new(entry as u64 + 1);
        handle.shared.ledger().finish(entry, end);
        end
    };
    // The producer has its number, and a connection, when it matters.
    let elsewhere = [(1, "elsewhere")];
    for (partition, value) in elsewhere.into_iter().chain(there.iter().map(|value| (0, *value))) {
        let end = send(partition, value);
        durable.wait_for(|durable| durable.flushed >= end).await.unwrap();
    }
    // Many times of what a message waits for others.
    let (round_trip, pause) = (Duration::from_millis(500), Duration::from_millis(50));
    scene.mock.broker_round_trip_time(1, round_trip).unwrap();
    scene.errors(&[RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION]);
    let mut end = Lsn::ZERO;
    for value in others {
        end = send(0, value);
        tokio::time::sleep(pause).await;
    }
    let reached = durable.wait_for(|durable| durable.flushed >= end);
    let _ = tokio::time::timeout(PATIENCE, reached).await.expect("it ends one way or the other");
    let failure = producer.failure();
    drop(handle);
    producer.close().await;
    (records(&scene, &topic), failure)
}

fn records(scene: &Scene, topic: &str) -> Vec<String> {
    let consumer: BaseConsumer = scene.options.consumer(1).create().unwrap();
    let (low, high) = consumer.fetch_watermarks(topic, 0, PATIENCE).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, 0, Offset::Offset(low)).unwrap();
    consumer.assign(&list).unwrap();
    let value =
        |message: BorrowedMessage<'_>| String::from_utf8(message.payload().unwrap().to_vec()).unwrap();
    (low..high).map(|_| value(consumer.poll(PATIENCE).unwrap().unwrap())).collect()
}

/// A broker accepts whatever sequence number a producer begins with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_message_of_a_partition_that_is_refused_is_not_left_out() {
    let (records, failure) = refused_behind(&[], &["1", "2", "3"]).await;
    assert_eq!(records, ["1", "2", "3"]);
    assert!(failure.is_none());
}

/// The mock takes any sequence number, as a broker does that has forgotten the producer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_acknowledged_only_by_what_follows_ends_the_stream() {
    let (records, failure) = refused_behind(&["0"], &["1", "2"]).await;
    assert_eq!(records, ["0", "2"], "this is what would have been taken for everything");
    let failure = failure.expect("nothing behind it counts");
    assert!(
        failure.class() == pg::Class::Connection && failure.to_string().contains("no offset"),
        "{failure}"
    );
}
