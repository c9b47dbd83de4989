//! Connections that are lost in the middle: a worker costs its piece, the keeper a new snapshot.

use std::time::Duration;

use crate::support::walferry::Running;
use crate::support::{Postgres, Walferry, oracle};

const SOON: Duration = Duration::from_secs(30);

/// Two tables, one of them in pieces.
const SCHEMA: &str = "
    CREATE TABLE big (id int PRIMARY KEY, v text);
    INSERT INTO big SELECT g, repeat(md5(g::text), 10) FROM generate_series(1, 100000) g;
    CREATE TABLE small (id int PRIMARY KEY, v text);
    INSERT INTO small SELECT g, 'small' FROM generate_series(1, 100) g;";

async fn pair() -> (Postgres, Postgres) {
    let pair = tokio::join!(
        Postgres::builder(15).database("app").start(),
        Postgres::builder(15).database("app").start()
    );
    pair.0.sql("app", SCHEMA).await;
    pair
}

/// A replica whose copy waits, with a lock on the target, in the middle of the big table.
async fn held(source: &Postgres, target: &Postgres) -> (Running, tokio_postgres::Client) {
    let schema =
        "CREATE TABLE big (id int PRIMARY KEY, v text); CREATE TABLE small (id int PRIMARY KEY, v text)";
    target.sql("app", schema).await;
    source.sql("app", "CREATE PUBLICATION p FOR TABLE big, small").await;
    let lock = target.connect("app").await;
    lock.batch_execute("BEGIN; LOCK TABLE big IN SHARE MODE").await.unwrap();
    let running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .args(&["--publication", "p", "--existing-schema", "--jobs", "2"])
        .spawn();
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'big'::regclass)";
    target.wait_until("app", waits, SOON).await;
    target.wait_until("app", "SELECT EXISTS (SELECT FROM small)", SOON).await;
    (running, lock)
}

async fn terminate(server: &Postgres, application: &str) -> i64 {
    server
        .value(
            "postgres",
            &format!("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = '{application}'"),
        )
        .await
}

#[tokio::test]
async fn a_lost_worker_does_its_piece_again() {
    let (source, target) = pair().await;
    let (mut running, lock) = held(&source, &target).await;
    assert!(terminate(&source, "walferry (copy)").await > 0);
    assert!(terminate(&target, "walferry (copy)").await > 0);
    lock.batch_execute("ROLLBACK").await.unwrap();
    running.wait_for_step("live").await;
    let marker = oracle::marker(&source, "app").await;
    running.wait_applied(marker).await;
    oracle::expect_same(&source.uri("app"), &target.uri("app")).await;
    let snapshots = source.log().matches("_tmp_").count();
    assert_eq!(snapshots, 0, "the keeper lives, so there is one snapshot");
}

#[tokio::test]
async fn a_lost_keeper_costs_a_new_snapshot_for_what_is_missing() {
    let (source, target) = pair().await;
    let (mut running, lock) = held(&source, &target).await;
    source
        .sql(
            "app",
            "UPDATE small SET v = 'changed' WHERE id < 50; UPDATE big SET v = 'changed' WHERE id < 50",
        )
        .await;
    assert!(terminate(&source, "walferry (keeper)").await > 0);
    lock.batch_execute("ROLLBACK").await.unwrap();
    running.wait_for_step("live").await;
    let marker = oracle::marker(&source, "app").await;
    running.wait_applied(marker).await;
    oracle::expect_same(&source.uri("app"), &target.uri("app")).await;
    let tables = running.status().await.tables();
    let position = |name: &str| tables.iter().find(|(_, table, _)| table == name).map(|(_, _, lsn)| *lsn);
    assert!(position("big") > position("small"), "{tables:?}");
}

#[tokio::test]
async fn a_target_that_restarts_takes_nothing_back() {
    let (source, target) = pair().await;
    let mut running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .args(&["--jobs", "2", "--set", "copy.chunk_bytes_min=1MB"])
        .spawn();
    target.wait_until("app", "SELECT to_regclass('walferry.tables') IS NOT NULL", SOON).await;
    let copying = "SELECT EXISTS (SELECT FROM walferry.tables WHERE state = 'copying')";
    target.wait_until("app", copying, SOON).await;
    target.restart(crate::support::postgres::Stop::Immediate).await;
    running.wait_for_step("live").await;
    let marker = oracle::marker(&source, "app").await;
    running.wait_applied(marker).await;
    oracle::expect_same(&source.uri("app"), &target.uri("app")).await;
}
