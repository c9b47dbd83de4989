//! Into tables that are there: other column order, more columns, other types that take the text; all of a table or nothing.

use crate::support::{Postgres, Walferry};

async fn pair() -> (Postgres, Postgres) {
    tokio::join!(Postgres::builder(15).database("app").start(), Postgres::builder(17).database("app").start())
}

#[tokio::test]
async fn columns_by_name_and_types_that_take_the_text() {
    let (source, target) = pair().await;
    source
        .sql(
            "app",
            "CREATE TABLE t (a int2, b int, c varchar(10), d timestamp, e text, f bytea, g int[]);
             INSERT INTO t SELECT g, g, 'c' || g, '2020-01-01'::timestamp + g * interval '1 s', '{\"k\": ' || g || '}', decode('00ff', 'hex'), ARRAY[g, NULL]
               FROM generate_series(1, 100) g;
             CREATE TABLE nothing (); INSERT INTO nothing SELECT FROM generate_series(1, 3)",
        )
        .await;
    target
        .sql(
            "app",
            "CREATE TABLE t (own serial PRIMARY KEY, g bigint[], e jsonb, d timestamptz, c text, b numeric, a int4, f bytea,
                more text DEFAULT 'local', twice numeric GENERATED ALWAYS AS (b * 2) STORED, ident int GENERATED ALWAYS AS IDENTITY);
             INSERT INTO t (a) VALUES (-1);
             CREATE TABLE nothing (d text DEFAULT 'd', n serial)",
        )
        .await;
    Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("copy")
        .arg("--existing-schema")
        .run()
        .await
        .expect_code(0);
    let sums = "SELECT count(*)::text, sum(a)::text, sum(b)::text, count(DISTINCT own)::text, sum((e->>'k')::int)::text, min(more), sum(twice)::text, \
                count(DISTINCT ident)::text, sum(g[1])::text, max(d)::text FROM t WHERE a > 0";
    let row: Vec<String> = target.text("app", sums).await.remove(0).into_iter().flatten().collect();
    assert_eq!(
        row[..9],
        ["100", "5050", "5050", "100", "5050", "local", "10100", "100", "5050"].map(str::to_owned)
    );
    assert!(row[9].starts_with("2020-01-01 00:01:40"), "{row:?}");
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM t").await, 101, "rows are appended");
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM nothing WHERE d = 'd' AND n > 0").await, 3);
}

#[tokio::test]
async fn a_missing_column_is_named() {
    let (source, target) = pair().await;
    source.sql("app", "CREATE TABLE t (a int, \"b c\" numeric(5, 2)); INSERT INTO t VALUES (1, 2)").await;
    target.sql("app", "CREATE TABLE t (a int)").await;
    let copy = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("copy")
        .arg("--existing-schema")
        .run()
        .await;
    assert_ne!(copy.code, 0);
    assert!(copy.said().contains("ADD COLUMN \"b c\" numeric(5,2)"), "{}", copy.said());
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM t").await, 0);
}

#[tokio::test]
async fn a_violation_leaves_nothing_of_the_table_and_names_the_constraint() {
    let (source, target) = pair().await;
    source
        .sql(
            "app",
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'canary' || g FROM generate_series(1, 20000) g;
             CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)",
        )
        .await;
    target
        .sql(
            "app",
            "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (19999, 'theirs');
             CREATE TABLE other (id int PRIMARY KEY)",
        )
        .await;
    let walferry = Walferry::new(&source.uri("app"), &target.uri("app"));
    let copy = walferry.command("copy").arg("--existing-schema").run().await.expect_code(1);
    let said = copy.said();
    assert!(said.contains("\"t_pkey\"") && said.contains("\"public\".\"t\""), "{said}");
    assert!(!said.contains("canary") && !said.contains("19999"), "no values: {said}");
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM t").await, 1);
}

/// A root that is published as such arrives in whatever the target has of that name; filters and column lists hold for the copy.
#[tokio::test]
async fn roots_filters_and_column_lists() {
    for major in [13, 15, 18] {
        root(major).await;
    }
}

async fn root(major: u32) {
    let (source, target) = tokio::join!(
        Postgres::builder(major).database("app").start(),
        Postgres::builder(15).database("app").start()
    );
    source
        .sql(
            "app",
            "CREATE TABLE r (id int PRIMARY KEY, v text, secret text DEFAULT 's') PARTITION BY RANGE (id);
             CREATE TABLE r1 PARTITION OF r FOR VALUES FROM (0) TO (100);
             CREATE TABLE r2 PARTITION OF r FOR VALUES FROM (100) TO (1000) PARTITION BY RANGE (id);
             CREATE TABLE r2a PARTITION OF r2 FOR VALUES FROM (100) TO (500);
             CREATE TABLE r2b PARTITION OF r2 FOR VALUES FROM (500) TO (1000);
             CREATE TABLE empty_root (id int PRIMARY KEY) PARTITION BY RANGE (id);
             CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (PRIMARY KEY (id)) INHERITS (parent);
             INSERT INTO r SELECT g, 'v' || g FROM generate_series(1, 999) g;
             INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2);",
        )
        .await;
    target
        .sql(
            "app",
            "CREATE TABLE r (v text, id int PRIMARY KEY, secret text DEFAULT 'local') PARTITION BY HASH (id);
             CREATE TABLE ra PARTITION OF r FOR VALUES WITH (MODULUS 2, REMAINDER 0);
             CREATE TABLE rb PARTITION OF r FOR VALUES WITH (MODULUS 2, REMAINDER 1);
             CREATE TABLE empty_root (id int PRIMARY KEY); CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (id int PRIMARY KEY)",
        )
        .await;
    let lists = major >= 15;
    let list = if lists { "r (id, v) WHERE (id % 2 = 0)" } else { "r" };
    let publication = format!(
        "CREATE PUBLICATION p FOR TABLE {list}, empty_root, parent, child WITH (publish_via_partition_root = true)"
    );
    source.sql("app", &publication).await;
    let mut running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .args(&["--publication", "p", "--existing-schema"])
        .spawn();
    running.wait_for_step("live").await;
    let sums = "SELECT count(*)::text, sum(id)::text, min(secret), max(secret), (SELECT count(*) FROM parent)::text, \
                (SELECT count(*) FROM child)::text FROM r";
    let row: Vec<String> = target.text("app", sums).await.remove(0).into_iter().flatten().collect();
    let expected = if lists {
        ["499", "249500", "local", "local", "1", "1"]
    } else {
        ["999", "499500", "s", "s", "1", "1"]
    };
    assert_eq!(row, expected.map(str::to_owned), "{major}");
}
