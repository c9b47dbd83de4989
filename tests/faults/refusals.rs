//! What a run refuses, with exit code 4 and nothing changed: a slot that is gone or moved, another server, a second process.

use std::process::Command;
use std::time::Duration;

use super::{DB, Scene, confirmed_within_applied};
use crate::support::oracle::{self, Events};
use crate::support::postgres::Stop;
use crate::support::walferry::Running;
use crate::support::{Postgres, Walferry};

const SOON: Duration = Duration::from_secs(20);

/// The command is refused with this code, and leaves the target's progress as it was.
async fn refused(run: &Walferry, code: &str) -> String {
    let before = run.try_status().await.map(|status| status.applied());
    let output = run.run().await.expect_code(4);
    assert!(output.stderr.contains(code), "{code} expected:\n{}", output.said());
    assert_eq!(before, run.try_status().await.map(|status| status.applied()), "progress has moved");
    output.stderr
}

#[tokio::test]
async fn row_54_the_slot_is_dropped_while_the_run_is_stopped() {
    let scene = Scene::small().await;
    scene.stopped().await;
    scene
        .source
        .sql(DB, "SELECT pg_drop_replication_slot('walferry'); INSERT INTO t VALUES (100, 1, 'x')")
        .await;
    let said = refused(&scene.run(), "SLOT_MISSING").await;
    assert!(said.contains("walferry clean"), "what to do is not said: {said}");
    let slots: i64 = scene.source.value("postgres", "SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(slots, 0, "a slot was made again");
    scene.nothing_open().await;
}

#[tokio::test]
async fn row_54_the_slot_is_dropped_under_a_running_process() {
    let scene = Scene::small().await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    scene
        .source
        .sql(
            DB,
            "DO $$ BEGIN LOOP
                 PERFORM pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active;
                 BEGIN PERFORM pg_drop_replication_slot('walferry'); EXIT;
                 EXCEPTION WHEN object_in_use THEN PERFORM pg_sleep(0.001); END;
             END LOOP; END $$",
        )
        .await;
    let ended = running.wait_exit_within(SOON).await.expect_code(4);
    assert!(ended.stderr.contains("SLOT_MISSING"), "{}", ended.said());
}

#[tokio::test]
async fn row_55_the_slot_is_made_anew() {
    let scene = Scene::small().await;
    scene.stopped().await;
    scene
        .source
        .sql(
            DB,
            "SELECT pg_drop_replication_slot('walferry');
             INSERT INTO t VALUES (100, 1, 'x')",
        )
        .await;
    scene.source.sql(DB, "SELECT pg_create_logical_replication_slot('walferry', 'pgoutput')").await;
    refused(&scene.run(), "GAP").await;
    assert_eq!(scene.target.value::<i64>(DB, "SELECT count(*) FROM t WHERE id = 100").await, 0);
}

#[tokio::test]
async fn row_56_the_slot_is_advanced() {
    let scene = Scene::small().await;
    scene.stopped().await;
    scene.source.sql(DB, "INSERT INTO t VALUES (100, 1, 'x')").await;
    scene.source.sql(DB, "SELECT pg_replication_slot_advance('walferry', pg_current_wal_lsn())").await;
    refused(&scene.run(), "GAP").await;
}

#[tokio::test]
async fn row_57_the_slot_is_invalidated() {
    let scene = Scene::small_with(
        Postgres::builder(15)
            .database(DB)
            .setting("max_slot_wal_keep_size", "1MB")
            .setting("max_wal_size", "32MB"),
        Postgres::builder(15).database(DB),
    )
    .await;
    scene.stopped().await;
    for _ in 0..5 {
        scene.source.sql(DB, "SELECT pg_logical_emit_message(false, 'x', 'x'); SELECT pg_switch_wal()").await;
    }
    scene.source.sql("postgres", "CHECKPOINT").await;
    scene
        .source
        .wait_until(
            "postgres",
            "SELECT wal_status = 'lost' FROM pg_replication_slots WHERE slot_name = 'walferry'",
            SOON,
        )
        .await;
    let said = refused(&scene.run(), "SLOT_LOST").await;
    assert!(said.contains("max_slot_wal_keep_size"), "{said}");
}

/// From 18 on a server gives a slot up that nobody has used for a while.
#[tokio::test]
async fn row_57_the_slot_was_idle_for_too_long() {
    let scene = Scene::small_with(
        Postgres::builder(18).database(DB).setting("idle_replication_slot_timeout", "1s"),
        Postgres::builder(15).database(DB),
    )
    .await;
    scene.stopped().await;
    let idle = "SELECT bool_and(inactive_since < now() - interval '1500 ms') FROM pg_replication_slots";
    scene.source.wait_until("postgres", idle, SOON).await;
    scene.source.sql("postgres", "CHECKPOINT").await;
    let lost =
        "SELECT invalidation_reason = 'idle_timeout' FROM pg_replication_slots WHERE slot_name = 'walferry'";
    scene.source.wait_until("postgres", lost, SOON).await;
    let said = refused(&scene.run(), "SLOT_LOST").await;
    assert!(said.contains("idle_replication_slot_timeout"), "{said}");
}

/// Nobody looks while it streams; the next look says which WAL was not published in full, and verify finds the rows.
#[tokio::test]
async fn row_58_the_publication_is_made_anew_and_a_table_taken_out_while_it_streams() {
    for major in [15, 18] {
        let scene =
            Scene::small_with(Postgres::builder(major).database(DB), Postgres::builder(15).database(DB))
                .await;
        let mut running = scene.run().spawn();
        running.wait_for_step("live").await;
        scene
            .source
            .sql(DB, "DROP PUBLICATION walferry; CREATE PUBLICATION walferry FOR TABLE t WITH (publish = 'insert, update, delete, truncate')")
            .await;
        scene.source.sql(DB, "INSERT INTO t VALUES (100, 1, 'x')").await;
        running.wait_applied(oracle::marker(&scene.source, DB).await).await;
        oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
        scene.source.sql(DB, "ALTER PUBLICATION walferry DROP TABLE t").await;
        scene.source.sql(DB, "INSERT INTO t VALUES (101, 2, 'unpublished')").await;
        scene.source.sql(DB, "ALTER PUBLICATION walferry ADD TABLE t").await;
        scene.source.sql(DB, "INSERT INTO t VALUES (102, 3, 'published')").await;
        running.wait_applied(oracle::marker(&scene.source, DB).await).await;
        assert_eq!(scene.target.value::<i64>(DB, "SELECT count(*) FROM t WHERE id > 100").await, 1);
        scene.walferry().command("refresh").run().await.expect_code(0);
        running.wait_for("the gap", |status| status.0["gap"].to_string().contains("\\\"t\\\"")).await;
        scene.walferry().command("verify").args(&["-q"]).run().await.expect_code(1);
    }
}

#[tokio::test]
async fn row_58_the_publication_is_missing_and_then_there_again() {
    let scene = Scene::small().await;
    let definition =
        "CREATE PUBLICATION walferry FOR TABLE t WITH (publish = 'insert, update, delete, truncate')";
    scene.stopped().await;
    scene.source.sql(DB, "DROP PUBLICATION walferry").await;
    let output = scene.run().run().await.expect_code(4);
    assert!(output.stderr.contains("walferry") && output.stderr.contains("PUBLICATION"), "{}", output.said());
    scene.source.sql(DB, definition).await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    scene.source.sql(DB, "INSERT INTO t VALUES (100, 1, 'x')").await;
    let marker = oracle::marker(&scene.source, DB).await;
    let status = running.wait_applied(marker).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
    assert!(!status.0["gap"].is_null(), "the interval that was not published is not named: {:#}", status.0);
}

#[tokio::test]
async fn row_59_two_processes_start_at_once() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let (a, b) = (scene.run().spawn(), scene.run().spawn());
    let (mut winner, loser) = first_to_end(a, b).await;
    let ended = loser.wait_exit().await.expect_code(4);
    assert!(ended.stderr.contains("OWNED_BY"), "{}", ended.said());
    winner.wait_for_step("live").await;
    // Later on it is the same, and the one that runs goes on.
    let late = scene.run().run().await.expect_code(4);
    assert!(
        late.stderr.contains("OWNED_BY") && late.stderr.contains("pg_terminate_backend"),
        "{}",
        late.said()
    );
    scene.close(winner, load, &events).await;
}

async fn first_to_end(mut a: Running, mut b: Running) -> (Running, Running) {
    loop {
        if !a.is_running() {
            return (b, a);
        }
        if !b.is_running() {
            return (a, b);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn row_62_the_source_comes_from_an_older_backup() {
    let scene = Scene::small().await;
    scene.stopped().await;
    let backup = backup(&scene.source).await;
    scene.goes_on_small().await;
    restore(&scene.source, &backup).await;
    let said = refused(&scene.run(), "SOURCE_BEHIND").await;
    assert!(said.contains("backup"), "{said}");
}

#[tokio::test]
async fn row_64_the_target_comes_from_an_older_backup() {
    let scene = Scene::small().await;
    scene.stopped().await;
    let backup = backup(&scene.target).await;
    scene.goes_on_small().await;
    restore(&scene.target, &backup).await;
    let said = refused(&scene.run(), "GAP").await;
    assert!(said.contains("backup"), "{said}");
}

/// A cold copy of the data folder, beside it.
async fn backup(server: &Postgres) -> std::path::PathBuf {
    server.stop(Stop::Fast).await;
    let copy = server.data_folder().with_extension("backup");
    copied(&server.data_folder(), &copy);
    server.start_again().await;
    copy
}

async fn restore(server: &Postgres, backup: &std::path::Path) {
    server.stop(Stop::Fast).await;
    std::fs::remove_dir_all(server.data_folder()).unwrap();
    copied(backup, &server.data_folder());
    server.start_again().await;
}

fn copied(from: &std::path::Path, to: &std::path::Path) {
    assert!(Command::new("cp").arg("-a").arg(from).arg(to).status().unwrap().success());
}

#[tokio::test]
async fn row_63_another_server_another_database_or_both_swapped() {
    let scene = Scene::small().await;
    scene.stopped().await;
    let table = "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v text)";
    // Servers of one major are copies of one template and have its system identifier.
    let other = Postgres::builder(17).database(DB).start().await;
    other.sql(DB, table).await;
    scene.source.create_database("other").await;
    scene.source.sql("other", table).await;
    for uri in [other.uri(DB), scene.source.uri("other")] {
        let run = Walferry::new(&uri, &scene.target.uri(DB)).command("migrate");
        let said = refused(&run, "OTHER_SOURCE").await;
        assert!(said.contains("--source"), "{said}");
    }
    let swapped = Walferry::new(&scene.target.uri(DB), &scene.source.uri(DB)).command("migrate");
    swapped.run().await.expect_code(4);
    let left: i64 = scene.target.value(DB, "SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(left, 0);
    // Another target knows nothing of the slot: it is somebody else's.
    let elsewhere = Walferry::new(&scene.source.uri(DB), &other.uri("postgres")).command("migrate");
    let output = elsewhere.run().await.expect_code(4);
    assert!(output.stderr.contains("slot \"walferry\""), "{}", output.said());
    confirmed_within_applied(&scene).await;
}

#[tokio::test]
async fn a_slot_of_the_run_s_name_that_no_record_mentions_is_left_alone() {
    let scene = Scene::small().await;
    scene.source.sql(DB, "SELECT pg_create_logical_replication_slot('walferry', 'pgoutput')").await;
    let output = scene.run().run().await.expect_code(4);
    assert!(
        output.stderr.contains("slot \"walferry\"") && output.stderr.contains("--slot"),
        "{}",
        output.said()
    );
    let slots: i64 = scene.source.value("postgres", "SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(slots, 1);
    oracle::expect_no_trace(&scene.target, DB, &[]).await;
}

#[tokio::test]
async fn a_run_is_not_taken_up_in_another_mode() {
    let scene = Scene::small().await;
    scene.stopped().await;
    let other = Walferry::new(&scene.source.uri(DB), &scene.target.uri(DB)).command("replicate");
    let said = refused(&other, "OTHER_MODE").await;
    assert!(said.contains("walferry migrate"), "{said}");
}
