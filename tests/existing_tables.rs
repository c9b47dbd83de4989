//! Tables that are there already: columns by name in any order, other types where the text fits, columns of the target's own.

use crate::support::oracle::Scope;
use crate::support::{Feed, Way};

#[tokio::test]
async fn other_order_other_types_and_columns_of_the_targets_own() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, a smallint, b varchar(10), c timestamp, d json, e text, f float4, g bool);
         INSERT INTO t SELECT i, i, 'b' || i, '2020-01-01 00:00:01.5', '{\"a\":1}', i, 1.5, true FROM generate_series(1, 20) i;",
    )
    .into(
        "CREATE TABLE t (own serial, note text DEFAULT 'mine', g text, f float8, e numeric, d json, c timestamp(6), b text, a bigint, id bigint PRIMARY KEY,
             twice bigint GENERATED ALWAYS AS (a * 2) STORED, born timestamptz DEFAULT now(), ident int GENERATED ALWAYS AS IDENTITY)",
    )
    .scope(Scope::only(&["public.none"]))
    .start()
    .await;
    feed.target("UPDATE t SET note = 'kept' WHERE id <= 5").await;
    let changes = [
        "UPDATE t SET a = a + 1, b = 'x', g = false WHERE id < 10",
        "INSERT INTO t VALUES (21, 1, 'n', 'infinity', 'null', '12.50', 'NaN', NULL); UPDATE t SET e = '7' WHERE id = 21",
        "DELETE FROM t WHERE id = 20; UPDATE t SET id = 30 WHERE id = 19",
    ];
    feed.together(&changes).await;
    feed.applied().await;
    let common = "SELECT id, a, b, c, d, e, f, CASE g::text WHEN 't' THEN 'true' WHEN 'f' THEN 'false' ELSE g::text END FROM t ORDER BY id";
    let source: Vec<String> = feed
        .source
        .text(&feed.database, common)
        .await
        .into_iter()
        .map(|row| row.into_iter().map(|v| v.unwrap_or_else(|| "-".into())).collect::<Vec<_>>().join("|"))
        .collect();
    for rows in feed.on_targets(common).await {
        assert_eq!(rows, source);
    }
    feed.expect_on_targets("SELECT count(*), count(DISTINCT own), count(DISTINCT ident), count(*) FILTER (WHERE note = 'kept'), count(*) FILTER (WHERE twice <> a * 2) FROM t",
        &["20|20|20|5|0"]).await;
    feed.end().await;
}

#[tokio::test]
async fn a_missing_column_stops_with_its_name_and_goes_on() {
    let mut feed =
        Feed::of("CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1)").start().await;
    feed.source("ALTER TABLE t ADD more numeric(8,2); INSERT INTO t VALUES (2, 2, 2.5)").await;
    assert_eq!(feed.errors().await, ["COLUMN_MISSING", "COLUMN_MISSING"]);
    for lane in &feed.lanes {
        let status = lane.walferry.status().await;
        let hint = status.0["error"]["hint"].as_str().unwrap_or_default();
        assert!(hint.contains("ADD COLUMN \"more\" numeric(8,2)"), "{hint}");
    }
    feed.target("ALTER TABLE t ADD more numeric(8,2)").await;
    feed.source("UPDATE t SET more = 1 WHERE id = 1").await;
    feed.expect_exact().await;
    // A column that the target has before the source does.
    feed.target("ALTER TABLE t ADD later text").await;
    feed.source("ALTER TABLE t ADD later text; UPDATE t SET later = 'x'").await;
    // The target may lose a column once no change that carries it is on its way.
    feed.expect_exact().await;
    feed.source("ALTER TABLE t DROP v").await;
    feed.target("ALTER TABLE t DROP v").await;
    feed.source("INSERT INTO t VALUES (3, 1, 'y'); ALTER TABLE t RENAME later TO last; ALTER TABLE t RENAME last TO later; UPDATE t SET later = 'z' WHERE id = 3").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn identity_always_and_generated_columns() {
    let table = "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int, twice int GENERATED ALWAYS AS (v * 2) STORED);
         CREATE TABLE u (k int PRIMARY KEY, n int GENERATED ALWAYS AS IDENTITY, v int);";
    let rows = "INSERT INTO t (v) SELECT i FROM generate_series(1, 20) i; INSERT INTO u (k, v) SELECT i, i FROM generate_series(1, 20) i;";
    let changes = [
        "UPDATE t SET v = v + 1 WHERE id < 10; DELETE FROM t WHERE id = 11; INSERT INTO t (v) VALUES (5), (6); UPDATE u SET v = 0; UPDATE u SET k = k + 100 WHERE k > 15",
        "INSERT INTO t (id, v) OVERRIDING SYSTEM VALUE VALUES (500, 1); INSERT INTO u (k, n, v) OVERRIDING SYSTEM VALUE VALUES (500, 77, 1)",
    ];
    let mut made = Feed::of(&format!("{table}{rows}")).start().await;
    let mut existing = Feed::of(&format!("{table}{rows}")).into(table).start().await;
    for feed in [&mut made, &mut existing] {
        feed.together(&changes).await;
        feed.expect_exact().await;
    }
    // Where the columns can be set, the stream's values count.
    made.source("UPDATE t SET id = DEFAULT WHERE id = 1; UPDATE u SET n = DEFAULT WHERE k < 5").await;
    made.expect_exact().await;
    made.end().await;
    existing.end().await;
}

/// Where the server would round, cut or leave out without a word. What fits goes on, whatever the types say.
#[tokio::test]
async fn a_value_that_a_narrower_column_would_not_keep_whole_stops_the_run() {
    let narrow = "CREATE TABLE t (id int PRIMARY KEY, n numeric(10,2), f real, at timestamp(3), d date, s varchar(3), a numeric(6,1)[])";
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, n numeric(10,4), f float8, at timestamp, d timestamp, s text, a numeric[]);
         INSERT INTO t SELECT g, g + 0.25, 0.75, '2024-02-29 12:00:00.123', '2024-02-29', 'abc', '{1.5,NULL}' FROM generate_series(1, 20) g",
    )
    .into(narrow)
    .start()
    .await;
    feed.source("UPDATE t SET n = n + 1, f = 0.5, at = 'infinity', d = '2024-03-01', s = 'x ', a = '{0.5}' WHERE id < 10").await;
    feed.applied().await;
    for (column, value, cure) in [
        ("n", "n + 0.0001", "numeric(10,4)"),
        ("f", "0.1234567890123", "double precision"),
        ("at", "'2024-02-29 12:00:00.1234'", "timestamp without time zone"),
        ("d", "'2024-02-29 00:00:01'", "timestamp without time zone"),
        ("s", "'abc '", "text"),
        ("a", "'{0.25}'", "numeric[]"),
    ] {
        feed.source(&format!("UPDATE t SET {column} = {value} WHERE id = 1")).await;
        assert!(feed.errors().await.iter().all(|code| code == "COLUMN_NARROWER"), "{column}");
        let alter = format!("ALTER TABLE \"public\".\"t\" ALTER COLUMN \"{column}\" TYPE {cure}");
        for lane in &feed.lanes {
            let status = lane.walferry.status().await;
            let hint = status.0["error"]["hint"].as_str().unwrap_or_default();
            assert!(hint.contains(&alter), "{column}: {hint}");
        }
        feed.target(&alter).await;
        feed.applied().await;
    }
    feed.expect_exact().await;
    feed.end().await;
}

/// The statements that the target's column was narrower for are prepared, and what they cast to is remembered.
#[tokio::test]
async fn a_column_that_becomes_wider_on_the_source_first_keeps_every_digit() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, f real, v int); INSERT INTO t VALUES (1, 0.5, 0), (2, 0.5, 0)",
    )
    .start()
    .await;
    feed.source("ALTER TABLE t ALTER f TYPE float8").await;
    for change in ["UPDATE t SET f = 0.25 WHERE id = 1", "UPDATE t SET f = 0.75 WHERE id = 2"] {
        feed.source(change).await;
        feed.applied().await;
    }
    feed.target("ALTER TABLE t ALTER f TYPE float8").await;
    feed.source("UPDATE t SET f = 0.1234567890123 WHERE id = 1; INSERT INTO t VALUES (3, 0.3000000001, 0)")
        .await;
    feed.source("UPDATE t SET f = f * 0.6").await;
    feed.expect_exact().await;
    feed.end().await;
}

/// An UPDATE can't set them: it stops before the value would be lost, says what to do, and goes on.
#[tokio::test]
async fn identity_always_that_changes_stops_until_it_may_be_set() {
    let full =
        "CREATE TABLE f (id int GENERATED ALWAYS AS IDENTITY, v int); ALTER TABLE f REPLICA IDENTITY FULL;";
    for (table, rows, change, column) in [
        (
            "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY);",
            "t SELECT",
            "UPDATE t SET id = DEFAULT WHERE id = 1",
            "t ALTER id",
        ),
        (
            "CREATE TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v int);",
            "t (v) SELECT 1",
            "UPDATE t SET id = DEFAULT, v = 2 WHERE id = 1",
            "t ALTER id",
        ),
        (
            "CREATE TABLE t (k int PRIMARY KEY DEFAULT 1, n int GENERATED ALWAYS AS IDENTITY, v int);",
            "t (v) SELECT 1",
            "UPDATE t SET n = DEFAULT WHERE k = 1",
            "t ALTER n",
        ),
        (full, "f (v) SELECT 1", "UPDATE f SET id = DEFAULT", "f ALTER id"),
    ] {
        let insert = if rows == "t SELECT" {
            "INSERT INTO t DEFAULT VALUES;".to_owned()
        } else {
            format!("INSERT INTO {rows};")
        };
        let mut feed = Feed::of(&format!("{table}{insert}")).into(table).start().await;
        feed.source(change).await;
        assert!(feed.errors().await.iter().all(|code| code == "IDENTITY_ALWAYS"));
        feed.target(&format!("ALTER TABLE {column} SET GENERATED BY DEFAULT")).await;
        feed.expect_exact().await;
        feed.end().await;
    }
}

/// What was sent before the change that can't be applied is not there twice when the transactions are tried one by one.
#[tokio::test]
async fn what_comes_before_a_change_that_is_refused_is_applied_once() {
    let log = "CREATE TABLE log (n int); ALTER TABLE log REPLICA IDENTITY FULL;";
    let table = format!(
        "CREATE TABLE f (id int GENERATED ALWAYS AS IDENTITY, v int); ALTER TABLE f REPLICA IDENTITY FULL; {log}"
    );
    let mut feed = Feed::of(&format!("{table} INSERT INTO f (v) SELECT 1")).into(&table).start().await;
    feed.together(&["INSERT INTO log VALUES (1)", "UPDATE f SET id = DEFAULT", "INSERT INTO log VALUES (2)"])
        .await;
    assert!(feed.errors().await.iter().all(|code| code == "IDENTITY_ALWAYS"));
    feed.expect_on_targets("SELECT n FROM log", &["1"]).await;
    feed.target("ALTER TABLE f ALTER id SET GENERATED BY DEFAULT").await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn a_domain_whose_check_reads_its_own_table() {
    let schema = "CREATE TABLE t (id int PRIMARY KEY, n int);
        CREATE FUNCTION largest(n int) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN RETURN n > coalesce((SELECT max(t.n) FROM public.t), 0); END $$;
        CREATE DOMAIN growing AS int CHECK (largest(VALUE)); ALTER TABLE t ALTER n TYPE growing;";
    let mut feed = Feed::of(schema).into_same().ways(&[Way::Default, Way::Sets, Way::Rows]).start().await;
    for i in 1..=5 {
        feed.source(&format!("INSERT INTO t VALUES ({i}, {i})")).await;
    }
    feed.source("INSERT INTO t VALUES (6, 6); INSERT INTO t VALUES (7, 7)").await;
    feed.together(&[
        "INSERT INTO t VALUES (8, 8)",
        "INSERT INTO t VALUES (9, 9)",
        "DELETE FROM t WHERE id = 9",
        "INSERT INTO t VALUES (9, 10)",
    ])
    .await;
    feed.restart().await;
    feed.source("INSERT INTO t VALUES (10, 11)").await;
    feed.expect_exact().await;
    feed.end().await;
}

/// What travels in binary does not fit a wider type: a process that begins finds that out and goes on with text.
#[tokio::test]
async fn a_stopped_run_into_wider_types_is_verified() {
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t VALUES (1, 1)")
        .into("CREATE TABLE t (id int PRIMARY KEY, n bigint)")
        .start()
        .await;
    feed.source("INSERT INTO t VALUES (2, 2)").await;
    feed.applied().await;
    feed.kill().await;
    feed.source("UPDATE t SET n = 3 WHERE id = 1").await;
    for lane in &feed.lanes {
        lane.walferry.command("verify").run().await.expect_code(0);
    }
    feed.restart().await;
    feed.expect_exact().await;
    feed.end().await;
}
