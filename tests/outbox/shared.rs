//! Tables and outbox events in one stream, from one slot: what is promised of each holds whatever dies.

use std::collections::BTreeSet;

use super::rig::{DEBEZIUM, PATIENCE, Rig, text};
use super::scene::{How, Rounds, Scene};
use crate::support::options;

fn rounds(source: fn(usize) -> bool) -> Rounds {
    Rounds {
        count: if options::full() { 30 } else { 3 },
        // A crash after an event, after all of a transaction but before its END, and after an END.
        points: &["outbox-event-sent", "kafka-before-end", "kafka-end-acknowledged"],
        first: 2,
        broker: |round| round % 3 == 1,
        source,
        waits: true,
    }
}

async fn orders(scene: &Scene, database: &str) -> BTreeSet<String> {
    let ids: Vec<String> =
        scene.source.value(database, "SELECT coalesce(array_agg(id::text), '{}') FROM orders").await;
    ids.into_iter().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_feed_brings_every_event_and_every_row_once_whatever_is_killed() {
    let mut scene = Scene::start(How::Feed).await;
    scene.load(10).await;
    scene.rounds(&rounds(|round| round % 3 == 2)).await;
    scene.run(None);
    scene.load(10).await;
    scene.settle().await;
    scene.check();
    let topics: Vec<String> = scene.kafka.topics("c4.public").into_iter().map(|(name, _)| name).collect();
    assert_eq!(topics, ["c4.public.orders"], "the outbox has no topic of its table");
    let records = scene.kafka.records("c4.public.orders");
    let ids = records.iter().map(|record| record.json()["after"]["id"].to_string()).collect();
    assert_eq!(orders(&scene, "app").await, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn c4_a_replica_is_exact_and_no_event_is_lost_also_when_tables_are_copied_again() {
    let mut scene = Scene::start(How::Replicate).await;
    scene.load(10).await;
    scene.rounds(&rounds(|_| false)).await;
    // The tables begin anew at a later position; what was committed before it has events all the same.
    scene.load(8).await;
    scene.run_with(None, &["--resync", "*"]);
    scene.load(6).await;
    scene.settle().await;
    scene.check();
    let expected = orders(&scene, "app").await;
    let now = scene.source.wal_position().await;
    let wait = ["--wait", &now.to_string(), "--timeout", "90s", "--json"];
    let output = scene.walferry.command("status").args(&wait).run().await.expect_code(0);
    let status: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert!(status["outbox"].is_object(), "{status}");
    // Counted once a second.
    let deadline = std::time::Instant::now() + PATIENCE;
    while scene.walferry.status().await.0["outbox"]["events"].as_u64().unwrap_or(0) == 0 {
        assert!(std::time::Instant::now() < deadline, "no event was counted: {status}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(orders(&scene, "copy").await, expected);
    let count = "SELECT count(*) FROM outbox";
    assert_eq!(
        scene.source.value::<i64>("copy", count).await,
        scene.source.value::<i64>("app", count).await,
        "the target's outbox is the source's"
    );
    scene.walferry.command("verify").run().await.expect_code(0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_waits_for_both_while_the_brokers_are_down() {
    let mut scene = Scene::start(How::Feed).await;
    scene.load(5).await;
    scene.settle().await;
    scene.kafka.stop();
    // From here on there is something to wait for; until then the slot may follow what is idle.
    scene.load(1).await;
    let waits = format!(
        "SELECT confirmed_flush_lsn < '{}' FROM pg_replication_slots WHERE slot_name = 'c4'",
        scene.source.wal_position().await
    );
    scene.load(19).await;
    let received = "SELECT coalesce(bool_or(sent_lsn >= pg_current_wal_lsn()), false) FROM pg_stat_replication WHERE application_name = 'c4'";
    scene.source.wait_until("app", received, PATIENCE).await;
    assert!(
        scene.source.value::<bool>("app", &waits).await,
        "nothing may be confirmed that Kafka has not acknowledged"
    );
    scene.kafka.restart().await;
    scene.settle().await;
    assert_eq!(scene.check(), 0, "nobody crashed, so nothing came twice");
}

const SHARED: [&str; 2] = ["outbox.beside=on", "outbox.share_slot=on"];

async fn rig(schema: &str) -> Rig {
    Rig::new(schema).await.set(SHARED[0]).set(SHARED[1])
}

fn read(rig: &Rig, more: &[&str]) -> crate::support::Walferry {
    rig.run_command("read").args(more)
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_cleaned_up_by_the_position_of_the_shared_slot() {
    let table = "CREATE TABLE outbox (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, aggregatetype text NOT NULL, \
                 aggregateid text NOT NULL, type text NOT NULL, payload jsonb, created_at timestamptz NOT NULL DEFAULT now())";
    let insert = "INSERT INTO outbox (aggregatetype, aggregateid, type, created_at) VALUES ('Order', '1', 't', now() - interval '8 days')";
    let mut rig = rig(&format!("{table}; {insert}")).await;
    let mut running = read(&rig, &["--create-slot"]).spawn();
    running.wait_for_stderr("streams slot").await;
    rig.running = Some(running);
    rig.sql(insert).await;
    let clean = rig.walferry.command("outbox").args(&["clean", "--retention", "7d"]);
    let output = clean.clone().args(&["--wait", "60s"]).run().await.expect_code(0);
    assert!(output.stdout.contains("1 rows deleted, 1 rows from before the slot kept"), "{output:#?}");
    assert_eq!(rig.records("Order", 1).await.len(), 1);
    rig.stop().await;
    rig.sql(insert).await;
    let output = clean.clone().args(&["--wait", "1s"]).run().await.expect_code(1);
    assert!(output.stdout.contains("not delivered yet"), "{output:#?}");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_routed_does_not_go_on_without_routing() {
    let mut rig = rig(&format!("{DEBEZIUM}; CREATE TABLE orders (id int PRIMARY KEY)")).await;
    let mut running = read(&rig, &["--create-slot", "--set", "outbox.table_events=on"]).spawn();
    running.wait_for_stderr("streams slot").await;
    rig.running = Some(running);
    rig.sql(
        "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('Order', '1', 't', '{}')",
    )
    .await;
    assert_eq!(text(&rig.records("Order", 1).await[0].key), "1");
    // Asked for, the row is a change of its table as well.
    let table = rig.records("public.outbox", 1).await;
    assert_eq!(table[0].json()["after"]["aggregateid"], "1");
    rig.stop().await;
    let off = ["--set", "outbox.share_slot=off", "--set", "outbox.beside=off"];
    let output = read(&rig, &off).run().await.expect_code(4);
    assert!(output.stderr.contains("OUTBOX_LEFT") && output.stderr.contains("outbox remove"), "{output:#?}");
    let output = rig.walferry.command("outbox").arg("remove").run().await.expect_code(0);
    assert!(output.stdout.contains("stays"), "{output:#?}");
    let mut running = read(&rig, &off).spawn();
    running.wait_for_stderr("streams slot").await;
    rig.running = Some(running);
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_go_together_is_refused_before_anything_is_made() {
    let rig = rig(&format!("{DEBEZIUM}; CREATE TABLE orders (id int PRIMARY KEY)")).await;
    let target = rig.source.uri("postgres");
    let replicate = |more: &[&str]| rig.run_command("replicate").args(&["--target", &target]).args(more);
    let migrate = rig.run_command("migrate").args(&["--target", &target]);
    for (output, code, says) in [
        (migrate.clone().run().await, 2, "not with migrate"),
        (migrate.args(&["--set", "outbox.share_slot=off"]).run().await, 2, "not with migrate"),
        (replicate(&[]).run().await, 2, "outbox.share_slot needs --via kafka"),
        (read(&rig, &["--set", "outbox.beside=off"]).run().await, 2, "outbox.beside"),
        (read(&rig, &["--set", "outbox.snapshot=on"]).run().await, 2, "outbox.snapshot"),
        (replicate(&["--via", "kafka", "--exclude-table", "outbox"]).run().await, 4, "OUTBOX_NOT_PUBLISHED"),
        (
            replicate(&["--via", "kafka", "--set", "outbox.table=public.no"]).run().await,
            4,
            "there is no table public.no",
        ),
    ] {
        assert_eq!(output.code, code, "{output:#?}");
        assert!(output.stderr.contains(says), "{says}: {output:#?}");
    }
    let slots = format!("SELECT count(*) FROM pg_replication_slots WHERE database = '{}'", rig.database);
    assert_eq!(rig.source.value::<i64>("postgres", &slots).await, 0);
    rig.end().await;
}
