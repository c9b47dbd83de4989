//! The process and its slot, as scripts and operators rest on them.

use std::time::Duration;

use super::{DB, pair, replicate};
use crate::support::oracle;
use crate::support::postgres::Stop;
use crate::support::{Postgres, Walferry};

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text)";
const PUBLICATION: &str = "CREATE PUBLICATION p FOR TABLE t";
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn exactly_one_walsender_carries_the_name_of_the_run() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").name("feed").spawn();
    running.wait_for_step("live").await;
    let names = source
        .text("postgres", "SELECT state FROM pg_stat_replication WHERE application_name = 'feed'")
        .await;
    assert_eq!(names, [[Some("streaming".to_owned())]]);
    let others: i64 = source
        .value("postgres", "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'feed' AND backend_type <> 'walsender'")
        .await;
    assert_eq!(others, 0);
    let strangers: i64 = source
        .value(
            "postgres",
            "SELECT count(*) FROM pg_stat_activity WHERE application_name NOT LIKE 'feed%' AND application_name NOT IN ('fixture', 'load')
             AND backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()",
        )
        .await;
    assert_eq!(strangers, 0);
}

#[tokio::test]
async fn a_name_in_the_connection_string_wins() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    let uri = format!("{}?application_name=mine", source.uri(DB));
    let mut running = replicate(&uri, &target.uri(DB), "p").name("feed").spawn();
    running.wait_for_step("live").await;
    source
        .wait_until(
            "postgres",
            "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = 'mine'",
            SOON,
        )
        .await;
}

#[tokio::test]
async fn synchronous_replication_can_name_the_run() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").name("feed").spawn();
    running.wait_for_step("live").await;
    source.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'feed'").await;
    source.reload().await;
    source
        .wait_until(
            "postgres",
            "SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = 'feed'",
            SOON,
        )
        .await;
    for mode in ["on", "remote_apply", "remote_write"] {
        source.sql(DB, &format!("SET synchronous_commit = {mode}; INSERT INTO t SELECT coalesce(max(id), 0) + 1, '{mode}' FROM t")).await;
        if mode == "remote_apply" {
            let there: i64 = target.value(DB, "SELECT count(*) FROM t WHERE v = 'remote_apply'").await;
            assert_eq!(there, 1, "COMMIT returned before the row was visible");
        }
    }
}

#[tokio::test]
async fn an_idle_slot_advances_with_what_is_not_published() {
    let (source, target) =
        pair("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int)", PUBLICATION).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "INSERT INTO other SELECT generate_series(1, 1000)").await;
    let position = source.wal_position().await;
    source
        .wait_until(
            "postgres",
            &format!("SELECT confirmed_flush_lsn >= '{position}' FROM pg_replication_slots WHERE slot_name = 'walferry'"),
            SOON,
        )
        .await;
}

#[tokio::test]
async fn a_publisher_that_stops_in_mode_fast_is_not_held_up() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5000) i").await;
    tokio::time::timeout(Duration::from_secs(15), source.stop(Stop::Fast)).await.expect("the source stops");
    source.start_again().await;
    let marker = oracle::marker(&source, DB).await;
    running.wait_applied(marker).await;
    oracle::expect_same(&source.uri(DB), &target.uri(DB)).await;
}

#[tokio::test]
async fn two_runs_feed_one_table_each_row_once_per_run() {
    let schema = "CREATE TABLE t (id int, v text)";
    let (source, target) = pair(schema, PUBLICATION).await;
    let mut first = replicate(&source.uri(DB), &target.uri(DB), "p").name("one").spawn();
    first.wait_for_step("live").await;
    let mut second = replicate(&source.uri(DB), &target.uri(DB), "p").name("two").spawn();
    second.wait_for_step("live").await;
    source.sql(DB, "INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i").await;
    target.wait_until(DB, "SELECT count(*) = 200 FROM t", SOON).await;
    for _ in 0..5 {
        source.sql(DB, "TRUNCATE t; INSERT INTO t VALUES (1, 'after')").await;
    }
    let marker = oracle::marker(&source, DB).await;
    first.wait_applied(marker).await;
    second.wait_applied(marker).await;
    assert!(first.status().await.error_code().is_none() && second.status().await.error_code().is_none());
}

#[tokio::test]
async fn a_slot_made_by_somebody_else_is_taken_over_and_never_dropped() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    source.sql(DB, "SELECT pg_create_logical_replication_slot('theirs', 'pgoutput')").await;
    source.sql(DB, "INSERT INTO t SELECT i, 'before' FROM generate_series(1, 100) i").await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").args(&["--slot", "theirs"]).spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "UPDATE t SET v = 'after' WHERE id < 50").await;
    let marker = oracle::marker(&source, DB).await;
    running.wait_applied(marker).await;
    oracle::expect_same(&source.uri(DB), &target.uri(DB)).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    let clean = Walferry::new(&source.uri(DB), &target.uri(DB)).command("clean").run().await;
    clean.expect_code(0);
    let there: i64 = source
        .value("postgres", "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'theirs'")
        .await;
    assert_eq!(there, 1);
}

#[tokio::test]
async fn source_and_target_are_two_databases_of_one_server() {
    let server = Postgres::builder(15).database("a").start().await;
    server.create_database("b").await;
    server.sql("a", "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 1000) i").await;
    let mut running = Walferry::new(&server.uri("a"), &server.uri("b")).command("replicate").spawn();
    running.wait_for_step("live").await;
    server.sql("a", "UPDATE t SET v = 'y' WHERE id < 500; DELETE FROM t WHERE id > 900").await;
    let marker = oracle::marker(&server, "a").await;
    running.wait_applied(marker).await;
    oracle::expect_same(&server.uri("a"), &server.uri("b")).await;
}

#[tokio::test]
async fn a_socket_directory_and_options_reach_the_server() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    let uri = format!(
        "host={} port={} dbname={DB} user=postgres options='-c wal_sender_timeout=12345'",
        source.socket_folder().display(),
        source.port()
    );
    let mut running = replicate(&uri, &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "INSERT INTO t VALUES (1, 'through the socket')").await;
    let marker = oracle::marker(&source, DB).await;
    running.wait_applied(marker).await;
    oracle::expect_same(&source.uri(DB), &target.uri(DB)).await;
}

#[tokio::test]
async fn nothing_is_written_to_the_source_s_wal_while_it_merely_runs() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    source.sql("postgres", "CHECKPOINT").await;
    let before = source.wal_position().await;
    let looks = running.status().await;
    let at = looks.0["source_lsn"].clone();
    // Several looks at the source have passed.
    for _ in 0..3 {
        running.wait_for("another look", |status| !status.0["source_lsn"].is_null()).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    let written: i64 = source
        .value("postgres", &format!("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '{before}')::int8"))
        .await;
    // A running-xacts record of the background writer may come; nothing of ours.
    assert!(written < 400, "{written} bytes of WAL since {before} ({at})");
}

#[tokio::test]
async fn without_a_copy_what_is_there_stays() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    source.sql(DB, "INSERT INTO t VALUES (1, 'source')").await;
    target.sql(DB, "INSERT INTO t VALUES (1, 'target')").await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").arg("--no-copy").spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "INSERT INTO t VALUES (2, 'new')").await;
    let marker = oracle::marker(&source, DB).await;
    running.wait_applied(marker).await;
    let rows = target.text(DB, "SELECT v FROM t ORDER BY id").await;
    assert_eq!(rows, [[Some("target".to_owned())], [Some("new".to_owned())]]);
}

#[tokio::test]
async fn rows_are_appended_and_a_violation_is_cured_by_removing_the_row_in_the_way() {
    let (source, target) = pair(TABLE, PUBLICATION).await;
    source.sql(DB, "INSERT INTO t SELECT i, 'source' FROM generate_series(1, 10) i").await;
    target.sql(DB, "INSERT INTO t VALUES (5, 'in the way'), (100, 'stays')").await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    let status = running.wait_for_error().await;
    assert_eq!(status.error_code(), Some("23505"), "{status:?}");
    let message = status.0["error"].to_string();
    assert!(message.contains('t') && !message.contains("(5)"), "{message}");
    let count: i64 = target.value(DB, "SELECT count(*) FROM t").await;
    assert_eq!(count, 2, "nothing of the failed copy stays");
    target.sql(DB, "DELETE FROM t WHERE id = 5").await;
    running.wait_for_step("live").await;
    let count: i64 = target.value(DB, "SELECT count(*) FROM t").await;
    assert_eq!(count, 11);
    assert!(running.status().await.error_code().is_none());
}
