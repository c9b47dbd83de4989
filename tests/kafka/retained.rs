//! What the slot retains is watched by both services, whoever is away.

use super::services::{TABLE, services};
use crate::support::postgres::Stop;
use crate::support::{Kafka, Postgres, Walferry};

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_waits_for_its_brokers_watches_what_its_slot_retains() {
    let (source, mut kafka) = tokio::join!(Postgres::builder(15).database("app").start(), Kafka::start());
    source.sql("app", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let limit = ["--max-retained-wal", "20MB", "--on-limit", "drop"];
    let read = Walferry::new(&source.uri("app"), "").name("held").command("read").args(&limit);
    let read = read.args(&["--create-slot", "--brokers", &kafka.brokers(), "--prefix", "held"]);
    let mut running = read.spawn();
    running.wait_for_stderr("streams slot").await;
    kafka.kill9();
    // The stream ends, and without brokers there is no other one.
    source.restart(Stop::Immediate).await;
    running.wait_for_stderr("brokers").await;
    let fill = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 20000000)); SELECT pg_switch_wal()";
    source.sql("app", &format!("{fill}; {fill}")).await;
    let output = running.wait_exit().await.expect_code(4);
    assert!(
        output.stderr.contains("SLOT_DROPPED") && output.stderr.contains("walferry clean"),
        "{output:#?}"
    );
    assert_eq!(source.value::<i64>("app", "SELECT count(*) FROM pg_replication_slots").await, 0);
}

/// The writer makes the slot, and copies, before there is a reader: it watches as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_without_a_reader_watches_what_its_slot_retains() {
    let mut feed = services(TABLE).await.own_servers().arg("--max-retained-wal").arg("20MB").prepare().await;
    let lane = &mut feed.lanes[0];
    lane.running = Some(lane.command.clone().args(&["--on-limit", "drop"]).spawn());
    let mut writer = lane.running.take().unwrap();
    writer.wait_for_step("catchup").await;
    let fill = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 20000000)); SELECT pg_switch_wal()";
    feed.source(&format!("{fill}; {fill}")).await;
    let output = writer.wait_exit().await.expect_code(4);
    assert!(
        output.stderr.contains("SLOT_DROPPED") && output.stderr.contains("walferry clean"),
        "{output:#?}"
    );
    let slot = format!(
        "SELECT count(*) FROM pg_replication_slots WHERE slot_name = '{}'",
        feed.lanes[0].walferry.run_name()
    );
    assert_eq!(feed.source.value::<i64>(&feed.database, &slot).await, 0);
    feed.end().await;
}

/// Both are told to drop it, and one of them is the first.
#[tokio::test(flavor = "multi_thread")]
async fn reader_and_writer_may_both_drop_the_slot() {
    let mut feed = services(TABLE).await.own_servers().prepare().await;
    let limit = ["--max-retained-wal", "20MB", "--on-limit", "drop"];
    let lane = &mut feed.lanes[0];
    lane.command = lane.command.clone().args(&limit);
    lane.reader_command = lane.reader_command.take().map(|read| read.args(&limit));
    lane.start_writer();
    lane.start_reader();
    feed.wait_live().await;
    // Nothing of ours keeps it: a transaction that is open does.
    let open = feed.source.connect(&feed.database).await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (1000, 'open')").await.unwrap();
    let fill = "SELECT pg_logical_emit_message(false, 'x', repeat('x', 20000000)); SELECT pg_switch_wal()";
    feed.source(&format!("{fill}; {fill}")).await;
    let reader = feed.lanes[0].reader.take().unwrap().wait_exit().await.expect_code(4);
    assert!(reader.stderr.contains("SLOT_DROPPED") || reader.stderr.contains("SLOT_MISSING"), "{reader:#?}");
    let mut writer = feed.lanes[0].running.take().unwrap();
    if writer.is_running() {
        // It had nothing to drop any more, or is about to end.
        writer.sigterm();
    }
    let writer = writer.wait_exit().await;
    assert!(writer.code == 143 || writer.code == 4 && writer.stderr.contains("SLOT_DROPPED"), "{writer:#?}");
    open.batch_execute("COMMIT").await.unwrap();
    feed.lanes[0].start_writer();
    let again = feed.lanes[0].running.take().unwrap().wait_exit().await.expect_code(4);
    assert!(again.stderr.contains("SLOT_MISSING"), "{again:#?}");
    feed.end().await;
}
