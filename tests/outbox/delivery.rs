//! Every committed event is in its topic or among the dead letters, whatever dies meanwhile; nothing of what was rolled back is anywhere
//! (check C4).

use std::time::{Duration, Instant};

use rdkafka::admin::{AdminOptions, NewTopic, TopicReplication};

use super::rig::{DEBEZIUM, PATIENCE, Rig};
use super::scene::{How, Rounds, Scene};
use crate::support::{Direction, Kafka, Proxy, options};

#[tokio::test(flavor = "multi_thread")]
async fn c4_whatever_is_killed_every_committed_event_is_there_and_no_other() {
    let mut scene = Scene::start(How::Alone).await;
    scene.load(10).await;
    // A crash at some message, or by kill -9 at any time.
    let rounds = Rounds {
        count: if options::full() { 60 } else { 5 },
        points: &["outbox-event-sent", "outbox-letter-sent"],
        first: 3,
        broker: |round| round % 5 == 1,
        source: |round| round % 5 == 2,
        waits: false,
    };
    scene.rounds(&rounds).await;
    scene.run(None);
    scene.load(10).await;
    scene.settle().await;
    scene.check();
}

/// Two events of partition 1, the second on its way before the answer to the first has come: the topic is gone when that arrives at the
/// broker, and made anew when the second does. Before that there was one in partition `before`. The ids in the new topic.
async fn refused_for_a_moment(kafka: &'static Kafka, proxy: &Proxy, before: u32) -> (Vec<String>, String) {
    /// What an event has at least. It gets no shorter by compression.
    const BYTES: u64 = 16_000;
    let table = "CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload text, part int)";
    let mut rig = Rig::through(kafka, &proxy.address(), table)
        .await
        .set("table.fields.additional.placement=part:partition")
        .set("kafka.partitions=2");
    rig.restart().await;
    let event = |id: u32, partition: u32| {
        format!(
            "INSERT INTO outbox SELECT {id}, 'Order', 'a', 't', string_agg(md5({id}::text || g), ''), {partition} \
             FROM generate_series(1, 1000) g"
        )
    };
    let topic = rig.topic("Order");
    // The client has a number, a connection, and knows the topic.
    rig.sql(&event(1, before)).await;
    rig.delivered().await;

    let sent = |since: u64| move |proxy: &Proxy| proxy.bytes(Direction::Up) >= since + BYTES;
    kafka.delete_topic(&topic).await;
    kafka.served(&topic, false).await;
    proxy.stall(Direction::Down, true);
    let so_far = proxy.bytes(Direction::Up);
    rig.sql(&event(2, 1)).await;
    proxy.wait_until("the first one", PATIENCE, sent(so_far)).await;
    let anew = NewTopic::new(&topic, 2, TopicReplication::Fixed(1));
    kafka.admin().create_topics([&anew], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
    kafka.served(&topic, true).await;
    let so_far = proxy.bytes(Direction::Up);
    rig.sql(&event(3, 1)).await;
    // Long enough for what must not happen.
    let over = Instant::now() + Duration::from_secs(1);
    while !sent(so_far)(proxy) && Instant::now() < over {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    proxy.stall(Direction::Down, false);
    rig.delivered().await;
    let ids = kafka.records(&topic).iter().map(|record| record.header("id").unwrap()).collect();
    let said = rig.running.as_ref().unwrap().stderr();
    rig.end().await;
    (ids, said)
}

/// A broker that knows nothing of a producer in a partition takes whatever sequence number comes first, and the client takes the answer to
/// a message for one to those before it.
#[tokio::test(flavor = "multi_thread")]
async fn row_28_an_event_that_is_refused_for_a_moment_is_not_lost_to_the_one_behind_it() {
    let (kafka, proxy) = Kafka::behind_proxy().await;
    // A rig's broker is there until the program ends.
    let kafka: &'static Kafka = Box::leak(Box::new(kafka));
    let (ids, _) = refused_for_a_moment(kafka, &proxy, 0).await;
    assert_eq!(ids, ["2", "3"], "the first one of its partition");
    let (ids, said) = refused_for_a_moment(kafka, &proxy, 1).await;
    assert_eq!(ids, ["3", "2", "3"], "its partition had one before");
    assert!(said.contains("has no offset"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_a_table_that_is_rewritten_behind_the_slot_are_published_from_a_new_snapshot() {
    let mut rig = Rig::new(DEBEZIUM).await;
    rig.sql("INSERT INTO outbox (aggregatetype, aggregateid, type) SELECT 'Order', g::text, 't' FROM generate_series(1, 20) g").await;
    let run = rig.command(&["run", "--snapshot"]).failpoint("outbox-snapshot-table", "1*sleep(4000)->off");
    rig.running = Some(run.spawn());
    let made = format!(
        "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name LIKE '{}%' AND confirmed_flush_lsn IS NOT NULL)",
        rig.walferry.run_name()
    );
    rig.source.wait_until(&rig.database, &made, PATIENCE).await;
    // Nobody holds the table yet. What this writes anew, the snapshot shows as empty.
    rig.sql("ALTER TABLE outbox ALTER aggregateid TYPE varchar(40), ALTER payload TYPE json").await;
    let running = rig.running.as_mut().unwrap();
    running.wait_for_stderr("was rewritten, dropped or replaced").await;
    running.wait_for_stderr("published 20 rows").await;
    running.wait_for_stderr("live").await;
    rig.sql("INSERT INTO outbox (aggregatetype, aggregateid, type) VALUES ('Order', '21', 't')").await;
    assert_eq!(rig.records("Order", 21).await.len(), 21, "each once");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_while_the_brokers_are_down_the_slot_waits_and_nothing_is_a_dead_letter() {
    let mut scene = Scene::start(How::Alone).await;
    scene.load(5).await;
    scene.settle().await;
    let letters = scene.kafka.records("c4.dlq").len();
    scene.kafka.stop();
    // From here on there is something to wait for; until then the slot may follow what is idle.
    scene.load(1).await;
    let waits = format!(
        "SELECT confirmed_flush_lsn < '{}' FROM pg_replication_slots WHERE slot_name = 'c4'",
        scene.source.wal_position().await
    );
    scene.load(19).await;
    // Longer than the client's own patience with a request; the long variant outlasts its default for a message.
    let limit = if options::full() { 360 } else { 12 };
    let over = Instant::now() + Duration::from_secs(limit);
    while Instant::now() < over {
        assert!(
            scene.source.value::<bool>("app", &waits).await,
            "nothing may be confirmed that Kafka has not acknowledged"
        );
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
