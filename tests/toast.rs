//! Values stored out of line that an UPDATE did not change are not in the stream: "no value", which is not NULL.

use crate::support::{Feed, Way};

/// About 8 kB that don't compress.
const LARGE: &str = "CREATE FUNCTION large(seed int) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT string_agg(md5(seed || '-' || i), '') FROM generate_series(1, 250) i $$;
    CREATE TABLE t (id int PRIMARY KEY, n int, a text, b text);
    INSERT INTO t SELECT i, i, large(i), large(i + 100) FROM generate_series(1, 20) i;";

/// Every combination of a value that came and one that did not, in one batch with other changes of the same key.
const CHANGES: [&str; 10] = [
    "UPDATE t SET n = n + 1",
    "UPDATE t SET n = n + 1 WHERE id <= 10; UPDATE t SET a = large(1000 + id) WHERE id BETWEEN 5 AND 15; UPDATE t SET n = n * 2",
    "INSERT INTO t VALUES (21, 0, large(21), large(22)); UPDATE t SET n = 5 WHERE id = 21; UPDATE t SET b = NULL WHERE id = 21;
     UPDATE t SET n = 6 WHERE id = 21",
    "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 1, large(31), large(32)); UPDATE t SET n = 7 WHERE id = 1",
    "UPDATE t SET a = NULL WHERE id = 2; UPDATE t SET n = 1 WHERE id = 2; UPDATE t SET a = large(33) WHERE id = 2; UPDATE t SET n = 8 WHERE id = 2",
    "UPDATE t SET id = 102 WHERE id = 2",
    "UPDATE t SET id = id + 200 WHERE id BETWEEN 3 AND 6; UPDATE t SET id = id - 200 WHERE id > 200",
    "UPDATE t SET id = -1 WHERE id = 7; UPDATE t SET id = 7 WHERE id = 8; UPDATE t SET id = 8 WHERE id = -1",
    "UPDATE t SET n = 9 WHERE id = 9; DELETE FROM t WHERE id = 9",
    "UPDATE t SET b = large(41) WHERE id = 10; UPDATE t SET a = large(42), n = 0 WHERE id = 10; UPDATE t SET id = 110 WHERE id = 10;
     UPDATE t SET n = 1 WHERE id = 110",
];

async fn changes(feed: &mut Feed) {
    for change in CHANGES {
        feed.source(change).await;
    }
    feed.expect_exact().await;
    // Once more, and all of it in one piece.
    feed.source(
        "TRUNCATE t; INSERT INTO t SELECT i, i, large(i), large(i + 100) FROM generate_series(1, 20) i",
    )
    .await;
    feed.together(&CHANGES).await;
    feed.expect_exact().await;
    feed.source(
        "TRUNCATE t; INSERT INTO t SELECT i, i, large(i), large(i + 100) FROM generate_series(1, 20) i",
    )
    .await;
    feed.source(&CHANGES.join(";")).await;
    feed.expect_exact().await;
}

#[tokio::test]
async fn an_unchanged_large_value_keeps_its_value() {
    let mut feed =
        Feed::of(LARGE).ways(&[Way::Default, Way::Sets, Way::Text, Way::Rows, Way::Pieces]).start().await;
    changes(&mut feed).await;
    feed.end().await;
}

#[tokio::test]
async fn an_unchanged_large_value_keeps_its_value_under_identity_full() {
    let mut feed = Feed::of(&format!("{LARGE} ALTER TABLE t REPLICA IDENTITY FULL")).start().await;
    changes(&mut feed).await;
    feed.end().await;
}

#[tokio::test]
async fn a_large_key_is_sent_although_it_did_not_change() {
    let schema = format!(
        "{LARGE} CREATE TABLE k (id text PRIMARY KEY, other text, n int);
        ALTER TABLE k ALTER id SET STORAGE EXTERNAL; ALTER TABLE k ALTER other SET STORAGE EXTERNAL;
        INSERT INTO k SELECT repeat('x', 2300) || i, large(i), i FROM generate_series(1, 5) i"
    );
    let mut feed = Feed::of(&schema).start().await;
    feed.source("UPDATE k SET n = n + 1").await;
    feed.together(&[
        "UPDATE k SET n = n + 1",
        "UPDATE k SET n = 0 WHERE n = 4; UPDATE k SET id = id || 'y', n = 9 WHERE n = 5",
        "UPDATE k SET other = 'short' WHERE n = 9",
        "DELETE FROM k WHERE n = 9",
        "UPDATE k SET n = 7 WHERE n = 0",
    ])
    .await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn an_unchanged_large_value_between_other_majors() {
    for (source, target) in [(10, 18), (13, 17), (18, 15)] {
        let mut feed = Feed::of(LARGE).majors(source, target).ways(&[Way::Sets]).start().await;
        feed.together(&CHANGES).await;
        feed.expect_exact().await;
        feed.end().await;
    }
}
