//! A role on the target with no more than it needs.

use crate::support::{Feed, Way};

/// Schema `walferry` made beforehand, as an administrator does it for a role that may not create schemas.
fn role(name: &str, more: &str) -> String {
    format!("CREATE ROLE {name} LOGIN; CREATE SCHEMA walferry AUTHORIZATION {name}; {more}")
}

#[tokio::test]
async fn inserts_with_insert_alone() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE keyless (v text); CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY);";
    let mut feed = Feed::of(table)
        .into(&format!("{table} {} GRANT INSERT ON t, keyless TO traps_insert; GRANT USAGE ON SCHEMA s TO traps_insert; GRANT INSERT ON s.t TO traps_insert", role("traps_insert", "GRANT SET ON PARAMETER session_replication_role TO traps_insert;")))
        .target_role("traps_insert")
        .arg("--keyless")
        .arg("inserts")
        .ways(&[Way::Default])
        .start()
        .await;
    feed.source("INSERT INTO t SELECT i, 'x' FROM generate_series(1, 100) i; INSERT INTO keyless VALUES ('a'); INSERT INTO s.t VALUES (1)").await;
    feed.expect_exact().await;
    // What is missing loses nothing: applied once after the GRANT.
    feed.source("UPDATE t SET v = 'y' WHERE id = 1; INSERT INTO t VALUES (101, 'z')").await;
    assert_eq!(feed.errors().await, ["42501"]);
    feed.target("GRANT SELECT, UPDATE ON t TO traps_insert").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn without_the_right_to_be_a_replica() {
    let table = "CREATE TABLE p (id int PRIMARY KEY, v text); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p ON DELETE CASCADE, u int UNIQUE DEFERRABLE);";
    let mut feed = Feed::of(table)
        .into(&format!("{table} {} GRANT ALL ON p, c TO traps_plain", role("traps_plain", "")))
        .target_role("traps_plain")
        .ways(&[Way::Sets])
        .start()
        .await;
    feed.together(&[
        "INSERT INTO p SELECT i, 'x' FROM generate_series(1, 20) i; INSERT INTO c SELECT i, i, i FROM generate_series(1, 20) i",
        "UPDATE c SET u = u + 1; UPDATE p SET v = 'y' WHERE id < 10",
        "DELETE FROM c WHERE p = 5; DELETE FROM p WHERE id = 5; INSERT INTO p VALUES (5, 'again'); INSERT INTO c VALUES (5, 5, 100)",
        "TRUNCATE p, c; INSERT INTO p VALUES (1, 'z'); INSERT INTO c VALUES (1, 1, 1)",
    ])
    .await;
    feed.expect_exact().await;
    // The cascade is carried out by both sides: the child is gone when its delete arrives.
    feed.source("DELETE FROM p").await;
    feed.expect_same().await;
    feed.end().await;
}

/// Who is no replica puts deferrable checks off to the end of a transaction, and TRUNCATE refuses a table for which some are pending.
#[tokio::test]
async fn a_truncate_behind_checks_that_were_put_off() {
    let table = "CREATE TABLE p (id int PRIMARY KEY, v text); CREATE TABLE c (id int PRIMARY KEY, p int REFERENCES p, u int UNIQUE DEFERRABLE);
        CREATE TABLE later (id int PRIMARY KEY, of int REFERENCES later DEFERRABLE INITIALLY DEFERRED);";
    let mut feed = Feed::of(table)
        .into(&format!("{table} {} GRANT ALL ON p, c, later TO traps_late", role("traps_late", "")))
        .target_role("traps_late")
        .ways(&[Way::Default])
        .start()
        .await;
    feed.source("INSERT INTO p SELECT i, 'x' FROM generate_series(1, 20) i; INSERT INTO c SELECT i, i, i FROM generate_series(1, 20) i")
        .await;
    feed.source(
        "BEGIN; INSERT INTO later VALUES (1, 2); UPDATE c SET u = u + 1; TRUNCATE c, p; INSERT INTO later VALUES (2, 2); INSERT INTO p VALUES (1, 'z'); INSERT INTO c VALUES (1, 1, 1), (2, 1, 2);
         UPDATE c SET u = 3 - u; COMMIT",
    )
    .await;
    feed.expect_same().await;
    feed.end().await;
}

#[tokio::test]
async fn row_security_fails_instead_of_touching_no_row() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a');";
    let mut feed = Feed::of(table)
        .into(&format!(
            "{table} {} GRANT ALL ON t TO traps_rls",
            role("traps_rls", "GRANT SET ON PARAMETER session_replication_role TO traps_rls;")
        ))
        .target_role("traps_rls")
        .arg("--no-copy")
        .ways(&[Way::Default])
        .without_events()
        .start()
        .await;
    feed.target("ALTER TABLE t ENABLE ROW LEVEL SECURITY").await;
    feed.source("UPDATE t SET v = 'b'").await;
    assert_eq!(feed.errors().await, ["42501"]);
    feed.target("ALTER ROLE traps_rls BYPASSRLS").await;
    feed.expect_exact().await;
    feed.end().await;
}
