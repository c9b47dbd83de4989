//! Who would hold a run up, and whether its locks fit.

use super::{check, fix};
use crate::support::{Postgres, Walferry, oracle};

#[tokio::test]
async fn a_long_transaction_is_named_with_its_age() {
    let (source, target) = (Postgres::start(15).await, Postgres::start(15).await);
    source.sql("postgres", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let writer = source.connect("postgres").await;
    writer.batch_execute("BEGIN; INSERT INTO t VALUES (1); SELECT pg_sleep(5.2)").await.unwrap();
    let pid: i32 = writer.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    let found = check(&Walferry::new(&source.uri("postgres"), &target.uri("postgres")), &[]).await;
    let long = found.get("warning", "source", "LONG_TRANSACTIONS");
    assert!(long["detail"].as_str().unwrap().contains(&format!("pid {pid}")), "{long}");
    assert!(fix(long).contains(&format!("pg_terminate_backend({pid})")));
    assert_eq!(found.code, 0);
}

#[tokio::test]
async fn a_table_that_is_locked_is_named_with_its_holder_and_waited_for() {
    for major in [10, 18] {
        let (source, target) = tokio::join!(Postgres::start(major), Postgres::start(15));
        source.sql("postgres", "CREATE TABLE free (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)").await;
        let holder = source.connect("postgres").await;
        holder.batch_execute("BEGIN; LOCK TABLE t").await.unwrap();
        let pid: i32 = holder.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let walferry = Walferry::new(&source.uri("postgres"), &target.uri("postgres"));
        let found = check(&walferry, &[]).await;
        let locked = found.get("warning", "source", "TABLES_LOCKED");
        let detail = locked["detail"].as_str().unwrap();
        assert!(detail.contains("public.t") && detail.contains(&format!("pid {pid}")), "{locked}");
        assert!(!detail.contains("free"), "{locked}");
        assert!(fix(locked).contains(&format!("pg_terminate_backend({pid})")));
        assert_eq!(found.code, 0);
        // A run says who is in the way, and goes on when the way is free.
        let mut running = walferry.command("migrate").spawn();
        running.wait_for_stderr("1 table(s) are locked").await;
        let who = format!("pid {pid}");
        running.wait_for("who is in the way", |status| status.0["waiting"].to_string().contains(&who)).await;
        running.wait_for_stderr(&format!("the publication waits for locks on the source: {who}")).await;
        holder.batch_execute("COMMIT").await.unwrap();
        running.wait_for_step("live").await;
        running.sigterm();
        running.wait_exit().await.expect_code(143);
        oracle::expect_same(&source.uri("postgres"), &target.uri("postgres")).await;
    }
}

#[tokio::test]
async fn lock_tables_that_are_too_small_are_named() {
    let small = |major| {
        let builder = Postgres::builder(major).setting("max_locks_per_transaction", 10);
        builder.setting("max_connections", 20).setting("max_prepared_transactions", 0)
    };
    let (source, target) = (small(15).start().await, small(15).start().await);
    let tables: String = (0..60).map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY);")).collect();
    source.sql("postgres", &tables).await;
    let found = check(&Walferry::new(&source.uri("postgres"), &target.uri("postgres")), &[]).await;
    for side in ["source", "target"] {
        assert!(fix(found.get("refuse", side, "LOCK_TABLE")).contains("max_locks_per_transaction"));
    }
}
