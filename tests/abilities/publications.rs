//! What is published changes: at a restart, and by `refresh` on a live run.

use super::{DB, pair, replicate};
use crate::support::oracle::{self, Scope};
use crate::support::walferry::Running;
use crate::support::{Postgres, Walferry};

const TABLES: &str =
    "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text);
    CREATE TABLE c (id int PRIMARY KEY, v text)";

async fn fill(source: &Postgres) {
    for table in ["a", "b", "c"] {
        source
            .sql(DB, &format!("INSERT INTO {table} SELECT i, '{table}' FROM generate_series(1, 100) i"))
            .await;
    }
}

async fn drained(source: &Postgres, running: &mut Running) {
    let marker = oracle::marker(source, DB).await;
    running.wait_applied(marker).await;
}

#[tokio::test]
async fn a_table_that_joins_is_copied_by_refresh_and_the_others_go_on() {
    let (source, target) = pair(TABLES, "CREATE PUBLICATION p FOR TABLE a").await;
    fill(&source).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "ALTER PUBLICATION p ADD TABLE b; UPDATE b SET v = 'before the look' WHERE id < 10").await;
    source.sql(DB, "INSERT INTO a VALUES (1000, 'meanwhile')").await;
    drained(&source, &mut running).await;
    let none: i64 = target.value(DB, "SELECT count(*) FROM b").await;
    assert_eq!(none, 0, "a table is none of the run's before it has looked");
    let refresh =
        Walferry::new(&source.uri(DB), &target.uri(DB)).command("refresh").run().await.expect_code(0);
    assert!(refresh.stdout.contains('b'), "{}", refresh.said());
    source.sql(DB, "UPDATE b SET v = 'after the look' WHERE id > 90; DELETE FROM a WHERE id = 1").await;
    drained(&source, &mut running).await;
    let differences =
        oracle::differences(&source.uri(DB), &target.uri(DB), &Scope::only(&["public.a", "public.b"])).await;
    assert!(differences.is_empty(), "{differences:?}");
    let again: i64 = target.value(DB, "SELECT count(*) FROM a").await;
    assert_eq!(again, 100, "no second copy");
}

#[tokio::test]
async fn a_start_looks_too() {
    let (source, target) = pair(TABLES, "CREATE PUBLICATION p FOR TABLE a").await;
    fill(&source).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    source.sql(DB, "ALTER PUBLICATION p ADD TABLE b; INSERT INTO b VALUES (500, 'x'); INSERT INTO a VALUES (500, 'x')").await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    drained(&source, &mut running).await;
    let differences =
        oracle::differences(&source.uri(DB), &target.uri(DB), &Scope::only(&["public.a", "public.b"])).await;
    assert!(differences.is_empty(), "{differences:?}");
}

#[tokio::test]
async fn a_table_leaves_in_wal_order_and_is_new_when_it_comes_back() {
    let (source, target) = pair(TABLES, "CREATE PUBLICATION p FOR TABLE a, b").await;
    fill(&source).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    source.sql(DB, "INSERT INTO b VALUES (200, 'still ours')").await;
    source.sql(DB, "ALTER PUBLICATION p DROP TABLE b").await;
    source.sql(DB, "INSERT INTO b VALUES (300, 'no longer')").await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p").spawn();
    running.wait_for_step("live").await;
    drained(&source, &mut running).await;
    let rows = target.text(DB, "SELECT id::text FROM b WHERE id > 100 ORDER BY 1").await;
    assert_eq!(rows, [[Some("200".to_owned())]]);
    // Back again: copied anew, so the target's rows have to go first.
    target.sql(DB, "TRUNCATE b").await;
    source.sql(DB, "ALTER PUBLICATION p ADD TABLE b").await;
    Walferry::new(&source.uri(DB), &target.uri(DB)).command("refresh").run().await.expect_code(0);
    drained(&source, &mut running).await;
    let differences =
        oracle::differences(&source.uri(DB), &target.uri(DB), &Scope::only(&["public.a", "public.b"])).await;
    assert!(differences.is_empty(), "{differences:?}");
}

#[tokio::test]
async fn another_list_of_publications_on_the_same_slot() {
    let (source, target) =
        pair(TABLES, "CREATE PUBLICATION p FOR TABLE a; CREATE PUBLICATION q FOR TABLE b; CREATE PUBLICATION r FOR TABLE c").await;
    fill(&source).await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p,q").spawn();
    running.wait_for_step("live").await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "r,p").spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "UPDATE a SET v = 'x'; UPDATE b SET v = 'x'; UPDATE c SET v = 'x'").await;
    drained(&source, &mut running).await;
    let differences =
        oracle::differences(&source.uri(DB), &target.uri(DB), &Scope::only(&["public.a", "public.c"])).await;
    assert!(differences.is_empty(), "{differences:?}");
    let stays: i64 = target.value(DB, "SELECT count(*) FROM b WHERE v = 'b'").await;
    assert_eq!(stays, 100);
}

#[tokio::test]
async fn filters_are_ored_and_column_lists_hold_for_copy_and_stream() {
    let (source, target) = pair(
        "CREATE TABLE a (id int PRIMARY KEY, v text, secret text DEFAULT 'local')",
        "CREATE PUBLICATION p FOR TABLE a (id, v) WHERE (id < 10); CREATE PUBLICATION q FOR TABLE a (id, v) WHERE (id > 90)",
    )
    .await;
    source.sql(DB, "INSERT INTO a SELECT i, 'v' || i, 'hidden' FROM generate_series(1, 100) i").await;
    let mut running = replicate(&source.uri(DB), &target.uri(DB), "p,q").spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "INSERT INTO a SELECT i, 'new', 'hidden' FROM generate_series(101, 105) i; UPDATE a SET v = 'u' WHERE id IN (5, 50)").await;
    drained(&source, &mut running).await;
    let summary = target
        .text(DB, "SELECT count(*)::text, count(*) FILTER (WHERE secret = 'local')::text, count(*) FILTER (WHERE v = 'u')::text FROM a")
        .await;
    assert_eq!(summary, [[Some("24".to_owned()), Some("24".to_owned()), Some("1".to_owned())]]);
}
