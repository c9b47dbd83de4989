//! examples/orders: two services, and what lies between them.

#[path = "../../examples/orders/inventory.rs"]
pub mod inventory;
#[path = "../../examples/orders/order_service.rs"]
mod order_service;

use std::time::{Duration, Instant};

use order_service::{Emit, NewOrder, insert, place};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::consumers::process::Inventories;
use crate::support::{Kafka, Postgres, Walferry};

/// Makes the outbox table and `walferry.emit`.
pub async fn init(walferry: &Walferry) {
    walferry.command("outbox").args(&["init", "--layout", "debezium"]).run().await.expect_code(0);
}

const ORDERS: i64 = 240;
const PATIENCE: Duration = Duration::from_secs(120);

/// Places orders in both ways, and rolls some back; returns how many chairs were ordered.
async fn shop(server: &Postgres, database: &str) -> i64 {
    let mut client = server.connect(database).await;
    let mut ordered = 0;
    for number in 0..ORDERS {
        let emit = if number % 2 == 0 { Emit::Table } else { Emit::Message };
        let order = NewOrder { customer: "somebody", product: "chair", quantity: 1 + (number % 3) as i32 };
        if number % 7 == 3 {
            let tx = client.transaction().await.unwrap();
            insert(&tx, &order, emit).await.unwrap();
            tx.rollback().await.unwrap();
        }
        place(&mut client, &order, emit).await.unwrap();
        ordered += i64::from(order.quantity);
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    ordered
}

/// Waits until a group has committed the ends of these topics.
async fn taken(kafka: &Kafka, group: &str, topics: [&str; 2]) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.brokers())
        .set("group.id", group)
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    topics.iter().for_each(|topic| {
        list.add_partition(topic, 0);
    });
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = tokio::task::block_in_place(|| {
            let committed = consumer.committed_offsets(list.clone(), PATIENCE).unwrap();
            let left = |topic: &&str| {
                let (_, end) = crate::support::kafka::watermarks(&consumer, topic, 0);
                committed.find_partition(topic, 0).unwrap().offset() != Offset::Offset(end)
            };
            topics.iter().filter(|topic| left(topic)).count()
        });
        if left == 0 {
            return;
        }
        assert!(Instant::now() < deadline, "{left} topics were not taken to their ends");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Why events were put aside.
fn letters(kafka: &Kafka) -> Vec<String> {
    let topic = "inventory.dlq";
    if kafka.topics(topic).is_empty() {
        return Vec::new();
    }
    kafka.records(topic).iter().map(|letter| letter.header("walferry.error").unwrap_or_default()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_is_reserved_once_whoever_is_killed() {
    let (mut kafka, server) = tokio::join!(Kafka::start(), Postgres::start(15));
    for database in ["orders", "inventory"] {
        server.create_database(database).await;
    }
    server.sql("orders", include_str!("../../examples/orders/orders.sql")).await;
    server.sql("inventory", include_str!("../../examples/orders/inventory.sql")).await;
    server.sql("inventory", "INSERT INTO stock VALUES ('chair', 10000)").await;
    let walferry = Walferry::new(&server.uri("orders"), "").name("orders");
    init(&walferry).await;
    let walferry = walferry
        .command("outbox")
        .args(&["run", "--brokers", &kafka.brokers()])
        .args(&["--set", "table.fields.additional.placement=type:header:eventType"]);
    let mut running = Some(walferry.spawn());
    running.as_mut().unwrap().wait_for_stderr("live").await;
    let brokers = kafka.brokers();
    let (database, topics) = (server.uri("inventory"), "outbox.event.Order,outbox.Order");
    let start = || Inventories::start(&database, &brokers, "inventory", topics, "");
    let mut inventory = start();
    let faults = async {
        for round in 1..=2 {
            // Each in turn, with orders on their way.
            let reserved = format!("SELECT count(*) >= {} FROM reservations", round * 20);
            server.wait_until("inventory", &reserved, PATIENCE).await;
            running.take().unwrap().kill9().await;
            running = Some(walferry.spawn());
            tokio::time::sleep(Duration::from_millis(500)).await;
            kafka.kill9();
            kafka.restart().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
            drop(std::mem::replace(&mut inventory, start()));
        }
    };
    let (ordered, ()) = tokio::join!(shop(&server, "orders"), faults);
    let reserved = "SELECT count(DISTINCT order_id) FROM reservations";
    let deadline = Instant::now() + PATIENCE;
    loop {
        let reserved: i64 = server.value("inventory", reserved).await;
        if reserved >= ORDERS {
            break;
        }
        let in_time = Instant::now() < deadline && !inventory.has_ended();
        assert!(
            in_time,
            "{reserved} orders of {ORDERS} are reserved; the service said:\n{}",
            inventory.said()
        );
        assert_eq!(letters(&kafka), [""; 0], "an event was given up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // What comes again has to have come: everything that is in the topics was taken.
    let running = running.unwrap();
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    taken(&kafka, "inventory", ["outbox.event.Order", "outbox.Order"]).await;
    drop(inventory);
    let left = "SELECT free::bigint FROM stock";
    assert_eq!(server.value::<i64>("inventory", left).await, 10_000 - ordered, "each chair is reserved once");
    assert_eq!(server.value::<i64>("inventory", "SELECT count(*) FROM reservations").await, ORDERS);
    let orders: i64 = server.value("orders", "SELECT count(*) FROM orders").await;
    assert_eq!(orders, ORDERS);
}
