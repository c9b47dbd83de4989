//! What a hand-over is about: tables that are new, and what of the target is somebody else's.

use std::time::Duration;

use super::cutover::rolled_back_small;
use super::{DB, Scene};
use crate::support::oracle;
use crate::support::{Postgres, Walferry};

const SOON: Duration = Duration::from_secs(60);

/// A table that is made while both sides are compared is in no comparison.
#[tokio::test]
async fn a_table_that_is_made_during_the_comparison_is_not_left_behind() {
    let scene = Scene::small().await;
    let mut running = scene.run().failpoint("cutover-compared", "1*sleep(3000)->off").spawn();
    running.wait_for_step("live").await;
    let asker = scene.run().command("cutover").spawn();
    running.wait_for_stderr("full comparison").await;
    scene.source.sql(DB, "CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh VALUES (1)").await;
    let output = asker.wait_exit_within(SOON).await.expect_code(1);
    assert!(output.said().contains("NEW_TABLES") && output.said().contains("fresh"), "{}", output.said());
    scene.source.sql(DB, "INSERT INTO fresh VALUES (2)").await;
    rolled_back_small(&scene).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
}

/// Somebody else's publication has got a table more: neither a comparison nor the hand-over passes over it.
#[tokio::test]
async fn a_table_that_is_published_and_not_in_the_run_is_neither_equal_nor_left_behind() {
    let scene = Scene::small().await;
    let made = "CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
        CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (100); INSERT INTO p VALUES (1, 'a'); CREATE PUBLICATION theirs FOR TABLE t, p";
    scene.source.sql(DB, made).await;
    let run = scene.run().args(&["--publication", "theirs"]);
    let mut running = run.spawn();
    running.wait_for_step("live").await;
    run.command("verify").run().await.expect_code(0);
    scene
        .source
        .sql(
            DB,
            "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200); INSERT INTO p VALUES (101, 'b')",
        )
        .await;
    let output = run.command("verify").run().await.expect_code(3);
    for part in ["p2", "not in the run", "walferry refresh"] {
        assert!(output.said().contains(part), "{part} is not in {}", output.said());
    }
    let output = run.command("cutover").args(&["--verify", "none"]).run().await.expect_code(1);
    assert!(output.said().contains("NEW_TABLES") && output.said().contains("p2"), "{}", output.said());
    scene.target.sql(DB, "CREATE TABLE p2 PARTITION OF p FOR VALUES FROM (100) TO (200)").await;
    run.command("refresh").run().await.expect_code(0);
    running.wait_for("the new partition", |status| status.count("tables_ready") == 3).await;
    run.command("cutover").run().await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
}

/// The numbers of temporary slots are nobody's process id: in containers those are all the same.
#[tokio::test]
async fn a_temporary_slot_of_another_container_is_in_nobody_s_way() {
    let scene = Scene::small().await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let slot = format!("walferry_tmp_{}", running.id());
    scene.source.sql(DB, &format!("SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")).await;
    scene.run().command("cutover").run().await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
}

/// In tables that were there before, those that are left out keep their sequences.
#[tokio::test]
async fn a_sequence_of_a_table_that_is_left_out_is_not_set_by_the_hand_over() {
    let scene = Scene::small().await;
    scene.source.sql(DB, "CREATE TABLE logs (id serial PRIMARY KEY); INSERT INTO logs DEFAULT VALUES; CREATE SEQUENCE free; SELECT setval('free', 5)").await;
    let there = "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v text); CREATE SEQUENCE free;
        CREATE TABLE logs (id serial PRIMARY KEY); SELECT setval('logs_id_seq', 1000)";
    scene.target.sql(DB, there).await;
    let run = scene.run().args(&["--existing-schema", "--exclude-table", "logs"]);
    let mut running = run.spawn();
    running.wait_for_step("live").await;
    run.command("cutover").run().await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
    for (sequence, stands) in [("logs_id_seq", 1000), ("free", 5)] {
        let sql = format!("SELECT last_value FROM {sequence}");
        assert_eq!(scene.target.value::<i64>(DB, &sql).await, stands, "{sequence}");
    }
}

/// Sequences and materialized views of schemas that are left out are somebody else's on the target.
#[tokio::test]
async fn what_is_left_out_is_not_touched_by_the_hand_over() {
    let scene = Scene::small().await;
    let source = "CREATE SCHEMA other; CREATE TABLE other.t (id serial PRIMARY KEY); INSERT INTO other.t DEFAULT VALUES;
        CREATE MATERIALIZED VIEW other.seen AS SELECT 1 AS n; CREATE SEQUENCE free; SELECT nextval('free')";
    scene.source.sql(DB, source).await;
    let theirs = "CREATE SCHEMA other; CREATE TABLE other.t (id serial PRIMARY KEY); SELECT setval('other.t_id_seq', 1000);
        CREATE MATERIALIZED VIEW other.seen AS SELECT 1 / (SELECT count(*) FROM other.t) AS n WITH NO DATA";
    scene.target.sql(DB, theirs).await;
    let run = scene.run().args(&["--exclude-schema", "other"]);
    let mut running = run.spawn();
    running.wait_for_step("live").await;
    scene.source.sql(DB, "SELECT nextval('free')").await;
    run.command("cutover").run().await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
    for (sequence, stands) in [("other.t_id_seq", 1000), ("free", 2)] {
        let sql = format!("SELECT last_value FROM {sequence}");
        assert_eq!(scene.target.value::<i64>(DB, &sql).await, stands, "{sequence}");
    }
}

/// A fence of one run is not taken for the fence of another.
#[tokio::test]
async fn two_runs_hand_their_tables_over_one_after_the_other() {
    let scene = Scene::small().await;
    scene.source.sql(DB, "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)").await;
    let target = Postgres::builder(15).database(DB).start().await;
    let first = scene.run().name("first").args(&["--table", "t"]);
    let second = Walferry::new(&scene.source.uri(DB), &target.uri(DB))
        .name("second")
        .command("migrate")
        .args(&["--table", "other"]);
    let (mut a, mut b) = (first.spawn(), second.clone().failpoint("cutover-fencing", "panic").spawn());
    a.wait_for_step("live").await;
    b.wait_for_step("live").await;
    let none = ["--verify", "none"];
    first.command("cutover").args(&none).run().await.expect_code(0);
    a.wait_exit_within(SOON).await.expect_code(0);
    let asker = second.command("cutover").args(&none).spawn();
    assert!(b.wait_exit_within(SOON).await.code > 128);
    let second = second.command("migrate").args(&["--table", "other"]);
    let mut b = second.spawn();
    b.wait_for_step("live").await;
    asker.wait_exit_within(SOON).await.expect_code(1);
    scene.source.sql(DB, "INSERT INTO other VALUES (2)").await;
    second.command("cutover").args(&none).run().await.expect_code(0);
    b.wait_exit_within(SOON).await.expect_code(0);
    assert_eq!(target.value::<i64>(DB, "SELECT count(*) FROM other").await, 2);
}
