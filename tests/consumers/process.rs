//! A worker as a process of its own, so that it can be killed.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use inbox::{Options, Worker};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Rig;
use crate::orders::inventory::Inventory;
use crate::support::scratch;

const DATABASE: &str = "INBOX_TEST_DATABASE";
const BROKERS: &str = "INBOX_TEST_BROKERS";
const GROUP: &str = "INBOX_TEST_GROUP";
const TOPICS: &str = "INBOX_TEST_TOPICS";

/// The inventory service of examples/orders.
pub struct Inventories {
    child: Child,
    log: PathBuf,
}

impl Inventories {
    pub fn start(database: &str, brokers: &str, group: &str, topics: &str, failpoints: &str) -> Inventories {
        let log = scratch::folder("inventories").join("log");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["consumers::process::inventory_process", "--exact", "--ignored", "--nocapture"])
            .envs([(DATABASE, database), (BROKERS, brokers), (GROUP, group), (TOPICS, topics)])
            .env("FAILPOINTS", failpoints)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        scratch::watch(child.id());
        Inventories { child, log }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    pub fn wait(&mut self) {
        tokio::task::block_in_place(|| self.child.wait()).unwrap();
    }
}

/// As kill -9 does.
impl Drop for Inventories {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        scratch::unwatch(self.child.id());
    }
}

#[test]
#[ignore = "the process that other tests start"]
fn inventory_process() {
    let Ok(database) = std::env::var(DATABASE) else { return };
    let variable = |name: &str| std::env::var(name).unwrap();
    std::panic::set_hook(Box::new(|_| std::process::abort()));
    let _failpoints = fail::FailScenario::setup();
    let topics = variable(TOPICS);
    let mut options = Options::new(variable(BROKERS), variable(GROUP), topics.split(','));
    // A member that was killed is missed soon.
    options.kafka = vec![("session.timeout.ms".into(), "6000".into())];
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_max_level(tracing::Level::DEBUG).init();
    let worker = Worker::new(options, inbox::plain(database.parse().unwrap()));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(worker.run(&Inventory, CancellationToken::new())).unwrap();
}

const SCHEMA: &str = include_str!("../../examples/orders/inventory.sql");

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_between_the_databases_commit_and_kafkas_reserves_nothing_twice() {
    let rig = Rig::new(1, SCHEMA).await;
    rig.server.sql(&rig.name, "INSERT INTO stock VALUES ('chair', 1000)").await;
    for order in 1..=20 {
        let payload = json!({"order_id": order, "product": "chair", "quantity": 2, "customer": "c"});
        rig.event(&format!("order {order}"), &order.to_string(), "OrderPlaced", &payload).await;
    }
    let reserved = "SELECT count(*) FROM reservations";
    for crash in 1..=3 {
        // Each process commits a few reservations and dies before it has told Kafka of the last one.
        let failpoint = format!("inbox-committed={}*off->panic", crash);
        let brokers = rig.kafka.brokers();
        let mut process =
            Inventories::start(&rig.server.uri(&rig.name), &brokers, &rig.name, &rig.name, &failpoint);
        process.wait();
        assert!(rig.count(reserved).await >= 1);
    }
    let mut options = rig.options();
    options.kafka = vec![("session.timeout.ms".into(), "6000".into())];
    let worker = rig.worker(options, Inventory);
    rig.wait_count(reserved, 20).await;
    assert!(worker.stop().await.duplicates() >= 1, "the last process had committed more than Kafka knew of");
    assert_eq!(rig.count(reserved).await, 20);
    assert_eq!(rig.count("SELECT count(DISTINCT order_id) FROM reservations").await, 20);
    assert_eq!(rig.count("SELECT free::bigint FROM stock").await, 1000 - 40);
}
