//! A crash in each window of the sequence: at a failpoint the process ends as by `kill -9`, and the same command goes on.

use super::{DB, Scene, nothing_twice};
use crate::support::oracle::{self, Events, Invariant};
use crate::support::{Postgres, Walferry};

/// Crashes at the failpoint (at its `nth` pass), starts again, and checks everything.
async fn survives_a_crash_at(failpoint: &str, nth: u32) {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let action = if nth > 1 { format!("{}*off->panic", nth - 1) } else { "panic".to_owned() };
    let crashed = scene.run().failpoint(failpoint, &action).run().await;
    assert!(crashed.code > 128, "expected a crash at {failpoint}, got {}:\n{}", crashed.code, crashed.said());
    scene.goes_on(load, &events).await;
}

#[tokio::test]
async fn row_1_before_the_slot() {
    survives_a_crash_at("publication-made", 1).await;
}

#[tokio::test]
async fn row_1_after_the_intention_is_recorded() {
    survives_a_crash_at("slot-intended", 1).await;
}

#[tokio::test]
async fn row_2_after_the_slot_before_its_position_is_recorded() {
    survives_a_crash_at("slot-created", 1).await;
}

#[tokio::test]
async fn row_3_snapshot_exported_and_nothing_copied() {
    survives_a_crash_at("slot-recorded", 1).await;
}

#[tokio::test]
async fn row_3_schema_restored_and_not_committed() {
    survives_a_crash_at("schema-restored", 1).await;
}

#[tokio::test]
async fn row_5_before_a_table_s_rows_and_record_commit() {
    survives_a_crash_at("copy-before-commit", 2).await;
}

#[tokio::test]
async fn row_5_after_a_table_s_rows_and_record_commit() {
    survives_a_crash_at("copy-after-commit", 2).await;
}

#[tokio::test]
async fn row_6_in_the_middle_of_an_index() {
    survives_a_crash_at("index-before-commit", 2).await;
}

#[tokio::test]
async fn row_6_between_two_indexes() {
    survives_a_crash_at("index-after-commit", 1).await;
}

#[tokio::test]
async fn row_8_before_a_commit_on_the_target() {
    survives_a_crash_at("apply-before-commit", 5).await;
}

#[tokio::test]
async fn row_8_between_commit_on_the_target_and_acknowledgement() {
    survives_a_crash_at("apply-after-commit", 5).await;
}

/// A transaction much larger than a batch is open on the target when the process dies.
#[tokio::test]
async fn row_7_in_the_middle_of_a_large_transaction() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let small = |run: crate::support::Walferry| run.args(&["--set", "apply.batch_bytes=256kB"]);
    let mut running = small(scene.run()).failpoint("apply-inside-transaction", "10*off->panic").spawn();
    running.wait_for_step("live").await;
    let watch = Invariant::watch(&scene.target.uri(DB));
    scene.source.sql(DB, "UPDATE big SET v = v || 'x'").await;
    let crashed = running.wait_exit().await;
    assert!(crashed.code > 128, "expected a crash:\n{}", crashed.said());
    let mut running = small(scene.run()).spawn();
    running.wait_for_step("live").await;
    watch.expect_held().await;
    scene.close(running, load, &events).await;
}

/// The process is killed at times that no failpoint names.
#[tokio::test]
async fn row_4_killed_again_and_again_from_the_start() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    for milliseconds in [30, 80, 130, 180, 250, 330, 420, 600, 900] {
        let running = scene.run().spawn();
        // How far it comes is the point: no condition is awaited.
        tokio::time::sleep(std::time::Duration::from_millis(milliseconds)).await;
        running.kill9().await;
    }
    scene.goes_on(load, &events).await;
}

/// What is done stays done: the tables that were finished before the crash could not even be read again.
#[tokio::test]
async fn row_4_finished_tables_are_not_copied_again() {
    let (source, target) =
        tokio::join!(Postgres::builder(15).database(DB).start(), Postgres::builder(17).database(DB).start());
    source
        .sql(
            DB,
            "CREATE TABLE first (id int PRIMARY KEY, v text); CREATE TABLE second (id int PRIMARY KEY, v text);
             CREATE TABLE third (id int PRIMARY KEY, v text); INSERT INTO first SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g;
             INSERT INTO second SELECT g, 'y' FROM generate_series(1, 2000) g; INSERT INTO third SELECT g, 'z' FROM generate_series(1, 1000) g",
        )
        .await;
    source.create_role("mover", "REPLICATION").await;
    // It is among the grantees that are restored.
    target.create_role("mover", "").await;
    source.sql(DB, "GRANT SELECT ON first, second, third TO mover").await;
    let events = Events::record(&source, DB).await;
    let run = || {
        Walferry::new(&source.uri_as("mover", DB), &target.uri(DB)).command("migrate").args(&[
            "--source-admin",
            &source.uri(DB),
            "--jobs",
            "1",
        ])
    };
    let crashed = run().failpoint("copy-after-commit", "1*off->panic").run().await;
    assert!(crashed.code > 128, "{}", crashed.said());
    let done = "SELECT string_agg(name, ',' ORDER BY name) FROM walferry.tables WHERE state <> 'pending' AND state <> 'copying'";
    assert_eq!(target.value::<String>(DB, done).await, "first,second", "the two largest, in one order");
    source.sql(DB, "REVOKE SELECT ON first, second FROM mover; UPDATE first SET v = 'changed' WHERE id < 10; DELETE FROM third WHERE id = 7").await;
    let mut running = run().spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "UPDATE second SET id = -id WHERE id < 10; INSERT INTO third VALUES (0, 'new')").await;
    let status = running.wait_applied(oracle::marker(&source, DB).await).await;
    oracle::expect_same(&source.uri(DB), &target.uri(DB)).await;
    events.expect_applied(&status).await;
    nothing_twice(&status);
}
