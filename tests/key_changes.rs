//! Updates of the key itself, values of a second unique key that move between rows, and many changes of one row.

use crate::support::{Feed, Way};

const ALL: [Way; 4] = [Way::Default, Way::Sets, Way::Rows, Way::Pieces];

#[tokio::test]
async fn chains_and_swaps_of_keys() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i;
         CREATE TABLE c (a int, b text, v int, PRIMARY KEY (a, b)); INSERT INTO c SELECT i / 2, i, i FROM generate_series(1, 20) i",
    )
    .ways(&ALL)
    .start()
    .await;
    let changes = [
        // Chains, in one transaction and over several.
        "UPDATE t SET id = 101 WHERE id = 1; UPDATE t SET id = 102 WHERE id = 101; UPDATE t SET id = 103, v = 'w' WHERE id = 102; UPDATE t SET v = 'x' WHERE id = 103",
        "UPDATE t SET id = 104 WHERE id = 103",
        "UPDATE t SET id = 1 WHERE id = 104",
        // A swap through a third value.
        "UPDATE t SET id = 0 WHERE id = 2; UPDATE t SET id = 2 WHERE id = 3; UPDATE t SET id = 3 WHERE id = 0",
        // Each row moves up by one, from the last.
        "UPDATE t SET id = -id WHERE id > 10; UPDATE t SET id = 1 - id WHERE id < 0",
        // The place of a key that left is taken anew.
        "UPDATE t SET id = 201 WHERE id = 5; INSERT INTO t VALUES (5, 'new'); UPDATE t SET v = 'newer' WHERE id = 5; UPDATE t SET id = 202 WHERE id = 5;
         DELETE FROM t WHERE id = 201; INSERT INTO t VALUES (5, 'third')",
        "DELETE FROM t WHERE id = 6; UPDATE t SET id = 6 WHERE id = 7; DELETE FROM t WHERE id = 6; INSERT INTO t VALUES (6, 'again')",
        "UPDATE c SET a = -1 WHERE v = 4; UPDATE c SET a = 2, b = '5x' WHERE v = 5; UPDATE c SET a = a + 100, b = b || 'y' WHERE v > 15; UPDATE c SET v = -v",
        "INSERT INTO c VALUES (7, 'n', 0); UPDATE c SET b = 'm' WHERE b = 'n'; DELETE FROM c WHERE b = 'm'",
    ];
    for change in changes {
        feed.source(change).await;
    }
    feed.expect_exact().await;
    feed.together(&changes).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn two_rows_swap_the_value_of_a_second_unique_key() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v text); INSERT INTO t SELECT i, i, 'v' FROM generate_series(1, 30) i;
         CREATE TABLE other (id int PRIMARY KEY, v int); INSERT INTO other SELECT i, i FROM generate_series(1, 30) i",
    )
    .ways(&ALL)
    .start()
    .await;
    let changes = [
        "UPDATE t SET u = NULL WHERE id = 1; UPDATE t SET u = 1 WHERE id = 2; UPDATE t SET u = 2 WHERE id = 1; UPDATE other SET v = v + 1",
        "DELETE FROM t WHERE id = 3; UPDATE t SET u = 3 WHERE id = 4; INSERT INTO t VALUES (3, 4, 'n'); UPDATE other SET v = v + 1",
        "UPDATE t SET u = 1000 WHERE id = 5; INSERT INTO t VALUES (31, 5, 'n'); DELETE FROM t WHERE id = 31; UPDATE t SET u = 5 WHERE id = 5",
        "UPDATE t SET u = -u; UPDATE t SET u = 31 + u WHERE id > 6",
        "INSERT INTO other VALUES (31, 0); DELETE FROM other WHERE id = 1",
    ];
    for change in changes {
        feed.source(change).await;
    }
    feed.expect_exact().await;
    feed.source("DELETE FROM t; INSERT INTO t SELECT i, i, 'v' FROM generate_series(1, 30) i; INSERT INTO other VALUES (1, 1); DELETE FROM other WHERE id = 31").await;
    feed.together(&changes).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn a_deferrable_unique_key_may_be_violated_in_between() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE DEFERRABLE INITIALLY IMMEDIATE, w int UNIQUE DEFERRABLE INITIALLY DEFERRED);
         INSERT INTO t SELECT i, i, i FROM generate_series(1, 20) i;
         CREATE TABLE k (id int PRIMARY KEY DEFERRABLE, pos int NOT NULL, v int); CREATE UNIQUE INDEX k_pos ON k (pos); ALTER TABLE k REPLICA IDENTITY USING INDEX k_pos;
         INSERT INTO k SELECT i, i, i FROM generate_series(1, 20) i",
    )
    .ways(&[Way::Default, Way::Sets, Way::Rows, Way::Origin])
    .start()
    .await;
    // Each row takes the place of the next, in one statement.
    feed.source("UPDATE t SET u = u + 1").await;
    feed.source("UPDATE t SET w = 5 WHERE id = 4; UPDATE t SET w = 4 WHERE id = 5; UPDATE t SET u = 30 - u")
        .await;
    feed.source(
        "INSERT INTO t VALUES (21, 100, 7); UPDATE t SET w = 107 WHERE id = 7; DELETE FROM t WHERE id = 8",
    )
    .await;
    feed.source("UPDATE k SET id = id + 1; UPDATE k SET id = 22 - id, v = 0").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn an_exclusion_constraint_lets_places_change_hands() {
    let mut feed = Feed::of(
        "CREATE EXTENSION btree_gist; CREATE TABLE t (id int PRIMARY KEY, room int, during int4range, EXCLUDE USING gist (room WITH =, during WITH &&));
         INSERT INTO t SELECT i, i % 3, int4range(i * 10, i * 10 + 10) FROM generate_series(1, 20) i",
    )
    .start()
    .await;
    feed.source(
        "UPDATE t SET room = 99 WHERE id = 3; UPDATE t SET during = int4range(30, 40) WHERE id = 6; UPDATE t SET during = int4range(60, 70), room = 0 WHERE id = 3;
         INSERT INTO t VALUES (21, 5, '[1,5)'); DELETE FROM t WHERE id = 21; INSERT INTO t VALUES (22, 5, '[2,5)')",
    )
    .await;
    feed.source("DELETE FROM t WHERE id = 10; INSERT INTO t VALUES (30, 1, int4range(100, 105)), (31, 1, int4range(105, 110)); UPDATE t SET room = room + 10")
        .await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn a_hot_row_and_rows_that_come_and_go() {
    let mut feed =
        Feed::of("CREATE TABLE t (id int PRIMARY KEY, n int, v text); INSERT INTO t VALUES (1, 0, 'a')")
            .ways(&ALL)
            .start()
            .await;
    let hot: Vec<String> =
        (0..100).map(|i| format!("UPDATE t SET n = n + 1, v = v || '{}' WHERE id = 1", i % 10)).collect();
    let hot: Vec<&str> = hot.iter().map(String::as_str).collect();
    feed.together(&hot).await;
    let come_and_go = [
        "INSERT INTO t VALUES (2, 0, 'x'); DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 1, 'y')",
        "INSERT INTO t VALUES (3, 0, 'x'); UPDATE t SET n = 2 WHERE id = 3; DELETE FROM t WHERE id = 3",
        "DELETE FROM t WHERE id = 2",
        "INSERT INTO t VALUES (2, 2, 'z')",
        "UPDATE t SET n = 3 WHERE id = 2; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 4, 'z'); DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 5, 'z'); UPDATE t SET v = 'end' WHERE id = 2",
        "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 0, 'b'); DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 0, 'c')",
    ];
    feed.together(&come_and_go).await;
    feed.expect_exact().await;
    feed.source("DELETE FROM t WHERE id > 1").await;
    for change in come_and_go {
        feed.source(change).await;
    }
    feed.source(&hot.join(";")).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn rows_missing_and_rows_in_the_way_are_counted() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 30) i",
    )
    .ways(&ALL)
    .start()
    .await;
    feed.target("DELETE FROM t WHERE id IN (1, 2, 3); INSERT INTO t VALUES (41, 0), (42, 0)").await;
    feed.source("UPDATE t SET v = 100 WHERE id IN (1, 5, 6, 7); DELETE FROM t WHERE id IN (2, 8); UPDATE t SET v = 7 WHERE id = 3; DELETE FROM t WHERE id = 3; DELETE FROM t WHERE id = 1")
        .await;
    feed.source("INSERT INTO t SELECT i, 1 FROM generate_series(40, 50) i").await;
    for (lane, status) in
        feed.lanes.iter().map(|lane| lane.way).collect::<Vec<_>>().into_iter().zip(feed.expect_same().await)
    {
        assert_eq!(status.count("overwritten"), 2, "{lane:?}");
        // Coalescing sees fewer of them: an update and the delete of the same key are one.
        assert!((3..=5).contains(&status.count("missing")), "{lane:?}: {}", status.count("missing"));
    }
    feed.end().await;
}
