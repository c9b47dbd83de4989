//! The key is what the Relation message says, whatever else is unique on either side, and it may change between two writes.

use crate::support::{Feed, Way};

#[tokio::test]
async fn the_identity_index_is_the_key_and_may_change_mid_stream() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, code text NOT NULL, other int NOT NULL, v int);
         CREATE UNIQUE INDEX t_code ON t (code); CREATE UNIQUE INDEX t_both ON t (other, code);
         ALTER TABLE t REPLICA IDENTITY USING INDEX t_code;
         INSERT INTO t SELECT i, 'c' || i, i, i FROM generate_series(1, 20) i",
    )
    .start()
    .await;
    let step = "UPDATE t SET v = v + 1 WHERE id < 15; UPDATE t SET code = code || 'x' || id WHERE id % 3 = 0; UPDATE t SET id = id + 100 WHERE id % 5 = 0;
        UPDATE t SET other = other + 100 WHERE id % 7 = 0; DELETE FROM t WHERE id % 11 = 0; UPDATE t SET v = 0 WHERE id % 2 = 0";
    let kinds = ["USING INDEX t_both", "DEFAULT", "FULL", "USING INDEX t_code"];
    feed.source(step).await;
    for kind in kinds {
        feed.source(&format!("ALTER TABLE t REPLICA IDENTITY {kind}")).await;
        feed.source(step).await;
    }
    feed.expect_exact().await;
    // In one piece, and within one transaction.
    let mut all = vec![step.to_owned()];
    for kind in kinds {
        all.push(format!("ALTER TABLE t REPLICA IDENTITY {kind}"));
        all.push(step.to_string());
    }
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    feed.together(&all).await;
    feed.source("DELETE FROM t; INSERT INTO t SELECT i, 'n' || i, i, i FROM generate_series(1, 20) i").await;
    feed.source(&all.join(";")).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn a_table_without_identity_takes_inserts() {
    let mut feed = Feed::of(
        "CREATE TABLE nothing (id int PRIMARY KEY, v text); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
         CREATE TABLE keyless (v text); CREATE TABLE keyed (id int PRIMARY KEY, v text);
         INSERT INTO nothing VALUES (1, 'a'); INSERT INTO keyless VALUES ('a'), ('a')",
    )
    .arg("--keyless")
    .arg("inserts")
    .start()
    .await;
    feed.source("INSERT INTO nothing SELECT i, 'b' FROM generate_series(2, 100) i; INSERT INTO keyless SELECT 'a' FROM generate_series(1, 100)")
        .await;
    feed.source("INSERT INTO keyed VALUES (1, 'a'); UPDATE keyed SET v = 'b'; INSERT INTO nothing VALUES (0, NULL); INSERT INTO keyless VALUES (NULL)")
        .await;
    feed.expect_exact().await;
    // The application's own update of them still works.
    feed.source("UPDATE keyless SET v = 'c'; DELETE FROM nothing WHERE id = 1").await;
    feed.end().await;
}

#[tokio::test]
async fn keyless_full_is_set_and_every_change_arrives() {
    let mut feed = Feed::of(
        "CREATE TABLE keyless (a int, v text); INSERT INTO keyless SELECT 1, 'a' FROM generate_series(1, 10)",
    )
    .arg("--keyless")
    .arg("full")
    .ways(&[Way::Default])
    .start()
    .await;
    feed.source("UPDATE keyless SET a = 2 WHERE ctid IN (SELECT ctid FROM keyless LIMIT 4); DELETE FROM keyless WHERE ctid IN (SELECT ctid FROM keyless LIMIT 3)")
        .await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn the_targets_own_identity_does_not_matter() {
    let mut feed = Feed::of(
        "CREATE TABLE a (id int PRIMARY KEY, v int NOT NULL, w int); INSERT INTO a SELECT i, i, i FROM generate_series(1, 10) i;
         CREATE TABLE b (id int PRIMARY KEY, v int); INSERT INTO b SELECT i, i FROM generate_series(1, 10) i;
         CREATE TABLE c (id int PRIMARY KEY, v int); INSERT INTO c SELECT i, i FROM generate_series(1, 10) i",
    )
    .into(
        "CREATE TABLE a (id int, v int NOT NULL UNIQUE, w int); ALTER TABLE a REPLICA IDENTITY USING INDEX a_v_key;
         CREATE TABLE b (id int, v int); CREATE TABLE c (id int, v int PRIMARY KEY); ALTER TABLE c REPLICA IDENTITY NOTHING",
    )
    .start()
    .await;
    feed.source("UPDATE a SET v = v + 100; UPDATE a SET id = id + 1000 WHERE id > 5; DELETE FROM a WHERE id = 3; UPDATE a SET w = NULL").await;
    feed.source(
        "UPDATE b SET v = v + 100; UPDATE b SET id = id + 1000 WHERE id > 5; DELETE FROM b WHERE id = 3",
    )
    .await;
    feed.source(
        "UPDATE c SET v = v + 100; UPDATE c SET id = id + 1000 WHERE id > 5; DELETE FROM c WHERE id = 3",
    )
    .await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn tables_of_nothing_but_a_key() {
    let mut feed = Feed::of(
        "CREATE TABLE one (id int PRIMARY KEY); CREATE TABLE two (a int, b text, PRIMARY KEY (b, a));
         INSERT INTO one SELECT generate_series(1, 10); INSERT INTO two SELECT i, 'x' FROM generate_series(1, 10) i",
    )
    .start()
    .await;
    feed.source("UPDATE one SET id = id; UPDATE one SET id = id + 100 WHERE id > 5; DELETE FROM one WHERE id = 1; INSERT INTO one VALUES (1), (2000)")
        .await;
    feed.source("UPDATE two SET b = b; UPDATE two SET a = a + 100 WHERE a > 5; DELETE FROM two WHERE a = 1; INSERT INTO two VALUES (1, 'x'), (1, 'y')")
        .await;
    feed.expect_exact().await;
    // An insert that meets its key on the target has nothing to set.
    feed.target("INSERT INTO one VALUES (3000)").await;
    feed.source("INSERT INTO one VALUES (3000), (3001); UPDATE one SET id = id WHERE id = 3000").await;
    for status in feed.expect_same().await {
        assert_eq!((status.count("overwritten"), status.count("missing")), (1, 0));
    }
    feed.end().await;
}
