//! Replication and outbox routing in one process, each from a slot of its own.

use super::rig::{DEBEZIUM, PATIENCE, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn one_process_replicates_and_routes() {
    let rig = Rig::new(&format!("{DEBEZIUM}; CREATE TABLE orders (id int PRIMARY KEY)")).await;
    let target = format!("{}_target", rig.database);
    rig.source.create_database(&target).await;
    let brokers = format!("kafka.brokers={}", rig.kafka.brokers());
    let replacement = format!("route.topic.replacement={}.${{routedByValue}}", rig.prefix);
    let sets = ["--set", "outbox.beside=on", "--set", &brokers, "--set", &replacement];
    let replicate =
        rig.walferry.command("replicate").args(&sets).args(&["--target", &rig.source.uri(&target)]);
    let mut running = replicate.spawn();
    running.wait_for_stderr("step live").await;
    let place = |id: u32| {
        format!(
            "BEGIN; INSERT INTO orders VALUES ({id}); INSERT INTO outbox (aggregatetype, aggregateid, type, payload) \
             VALUES ('Order', '{id}', 'Placed', '{{}}'); COMMIT"
        )
    };
    // Each slot brings what is committed after it was made: both are there.
    let slots = format!(
        "SELECT count(*) = 2 FROM pg_replication_slots WHERE slot_name LIKE 'ob_{}%' AND active",
        rig.prefix
    );
    rig.source.wait_until(&rig.database, &slots, PATIENCE).await;
    rig.sql(&place(1)).await;
    rig.records("Order", 1).await;
    // The step that was said may be the router's: the table may not be there yet.
    rig.source.wait_until(&target, "SELECT to_regclass('public.orders') IS NOT NULL", PATIENCE).await;
    rig.source.wait_until(&target, "SELECT count(*) = 1 FROM orders", PATIENCE).await;
    running.kill9().await;
    rig.sql(&place(2)).await;
    let running = replicate.spawn();
    rig.records("Order", 2).await;
    rig.source.wait_until(&target, "SELECT count(*) = 2 FROM orders", PATIENCE).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    rig.end().await;
}
