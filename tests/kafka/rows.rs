//! Rows from a source through topics to the target, exactly.

use super::feed;

#[tokio::test(flavor = "multi_thread")]
async fn one_row_comes_through() {
    let mut feed = feed("CREATE TABLE t (id int PRIMARY KEY, body text); INSERT INTO t VALUES (1, 'copied')")
        .await
        .start()
        .await;
    feed.source("INSERT INTO t VALUES (2, 'carried')").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_over_many_tables_and_partitions_stay_whole() {
    let tables: Vec<String> = (0..13)
        .map(|n| {
            format!(
                "CREATE TABLE t{n} (id int PRIMARY KEY, n int REFERENCES t{} (id), body text);",
                n.max(1) - 1
            )
        })
        .collect();
    let mut feed = feed(&tables.join("\n")).await.arg("--partitions").arg("4").start().await;
    let one: String = (0..13)
        .map(|n| format!("INSERT INTO t{n} SELECT g, NULL, repeat('x', g) FROM generate_series(1, 40) g;"))
        .collect();
    let two: String = (1..13).map(|n| format!("UPDATE t{n} SET n = id WHERE id % 3 = {};", n % 3)).collect();
    let three =
        "DELETE FROM t12 WHERE id % 2 = 0; UPDATE t11 SET body = 'u' || body; DELETE FROM t12 WHERE id = 1;
                 INSERT INTO t12 VALUES (1, 1, 'again')";
    feed.together(&[&one, &two, three, "BEGIN; INSERT INTO t0 VALUES (99); ROLLBACK", "DELETE FROM t12"])
        .await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_every_kind_come_through() {
    let schema = "CREATE TABLE keyed (a int, b text, body text, PRIMARY KEY (a, b));
         ALTER TABLE keyed ALTER body SET STORAGE EXTERNAL;
         CREATE TABLE whole (n numeric, body text); ALTER TABLE whole REPLICA IDENTITY FULL;
         ALTER TABLE whole ALTER body SET STORAGE EXTERNAL;
         CREATE TABLE indexed (id int NOT NULL, code text NOT NULL UNIQUE);
         ALTER TABLE indexed REPLICA IDENTITY USING INDEX indexed_code_key;
         CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY REFERENCES parent (id));
         CREATE TABLE \"odd na.me\" (\"Odd \"\"Column\" int PRIMARY KEY, \"before\" text, \"after\" json);";
    let mut feed = feed(schema).await.start().await;
    feed.together(&[
        "INSERT INTO keyed SELECT g, 'k' || g, repeat('long', 3000) FROM generate_series(1, 5) g;
         INSERT INTO whole VALUES (1.0, 'a'), (1.00, 'a'), (NULL, repeat('long', 3000)), ('NaN', E'q\"\\\\\\n\\t');
         INSERT INTO indexed VALUES (1, 'one'), (2, 'two');
         INSERT INTO parent VALUES (1), (2); INSERT INTO child VALUES (1), (2);
         INSERT INTO \"odd na.me\" VALUES (1, '', '{\"a\": [1, null]}'), (2, NULL, NULL), (3, '__debezium_unavailable_value', 'null')",
        // The value that was not sent stays, also under another key.
        "UPDATE keyed SET b = 'moved' WHERE a = 1; UPDATE keyed SET a = a + 10 WHERE a > 3; DELETE FROM keyed WHERE a = 2",
        "UPDATE whole SET n = 2 WHERE n IS NULL; DELETE FROM whole WHERE ctid = (SELECT min(ctid) FROM whole WHERE n = 1)",
        "UPDATE indexed SET code = 'uno' WHERE id = 1; UPDATE indexed SET id = 22 WHERE code = 'two'",
        "UPDATE \"odd na.me\" SET \"Odd \"\"Column\" = 4 WHERE \"Odd \"\"Column\" = 2",
    ])
    .await;
    feed.expect_exact().await;
    feed.together(&[
        "TRUNCATE parent, child; INSERT INTO parent VALUES (7)",
        "TRUNCATE keyed RESTART IDENTITY; INSERT INTO keyed VALUES (1, 'k1', 'new'); DELETE FROM keyed",
    ])
    .await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_larger_than_everything_that_is_held_passes_through() {
    let mut feed = feed(
        "CREATE TABLE a (id int PRIMARY KEY, body text); CREATE TABLE b (id int PRIMARY KEY, body text)",
    )
    .await
    .arg("--partitions")
    .arg("3")
    .set("apply.batch_bytes=256kB")
    .set("apply.queue_bytes=512kB")
    .set("kafka.in_flight_bytes=512kB")
    .set("kafka.fetch_bytes=512kB")
    .start()
    .await;
    // One topic is ahead of the other by all of its rows.
    feed.source(
        "INSERT INTO a SELECT g, repeat('a', 500) FROM generate_series(1, 20000) g;
         INSERT INTO b SELECT g, repeat('b', 500) FROM generate_series(1, 20000) g;
         UPDATE a SET body = 'short' WHERE id % 10 = 0",
    )
    .await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_killed_goes_on_from_its_offsets() {
    let mut feed = feed("CREATE TABLE t (id int PRIMARY KEY, body text)").await.start().await;
    for round in 0..4 {
        feed.source(&format!(
            "INSERT INTO t SELECT g, 'round' FROM generate_series({0}, {0} + 999) g",
            round * 1000
        ))
        .await;
        // Wherever it is.
        feed.restart().await;
        feed.source(&format!("UPDATE t SET body = 'again {round}' WHERE id % 7 = {round}")).await;
    }
    feed.expect_exact().await;
    feed.end().await;
}
