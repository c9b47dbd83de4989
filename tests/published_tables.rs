//! Copy and stream of existing publications: filters, lists, roots and leaves, inheritance, odd tables.

use crate::support::walferry::Running;
use crate::support::{Postgres, Walferry, oracle};

const DB: &str = "app";

async fn servers(from: u32, to: u32) -> (Postgres, Postgres) {
    tokio::join!(Postgres::builder(from).database(DB).start(), Postgres::builder(to).database(DB).start())
}

fn replicate(source: &Postgres, target: &Postgres, publications: &str) -> Walferry {
    Walferry::new(&source.uri(DB), &target.uri(DB)).command("replicate").args(&[
        "--existing-schema",
        "--publication",
        publications,
    ])
}

async fn live(walferry: &Walferry) -> Running {
    let mut running = walferry.spawn();
    running.wait_for_step("live").await;
    running
}

async fn drained(source: &Postgres, running: &mut Running) {
    let marker = oracle::marker(source, DB).await;
    running.wait_applied(marker).await;
}

/// One line a row, in order.
async fn rows(server: &Postgres, query: &str) -> Vec<String> {
    let rows = server.text(DB, query).await;
    rows.iter()
        .map(|row| row.iter().map(|v| v.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join("|"))
        .collect()
}

#[tokio::test]
async fn filters_of_all_publications_are_ored_and_lists_limit_the_columns() {
    for (from, to) in [(15, 15), (18, 15)] {
        let (source, target) = servers(from, to).await;
        source
            .sql(
                DB,
                "CREATE TABLE t (id int PRIMARY KEY, kind text, secret text); ALTER TABLE t REPLICA IDENTITY FULL;
                 CREATE TABLE l (secret text, b int, id int PRIMARY KEY);
                 INSERT INTO t SELECT i, CASE i % 3 WHEN 0 THEN 'x' WHEN 1 THEN 'y' ELSE 'z' END, 's' FROM generate_series(1, 9) i;
                 INSERT INTO l VALUES ('hidden', 2, 1);
                 CREATE PUBLICATION px FOR TABLE t WHERE (kind = 'x'), l (id, b);
                 CREATE PUBLICATION py FOR TABLE t WHERE (kind = 'y'), l (b, id)",
            )
            .await;
        target.sql(DB, "CREATE TABLE t (secret text, kind text, id int PRIMARY KEY); CREATE TABLE l (id int PRIMARY KEY, b int)").await;
        let mut running = live(&replicate(&source, &target, "px,py")).await;
        source
            .sql(DB, "INSERT INTO t VALUES (30, 'x', ''), (31, 'y', ''), (32, 'z', ''); UPDATE t SET kind = 'z' WHERE id = 3;
                      UPDATE l SET b = 5, secret = 'more'; INSERT INTO l VALUES ('h', 3, 2)")
            .await;
        drained(&source, &mut running).await;
        let published = rows(&source, "SELECT id, kind FROM t WHERE kind IN ('x', 'y') ORDER BY 1").await;
        assert_eq!(rows(&target, "SELECT id, kind FROM t ORDER BY 1").await, published);
        assert_eq!(rows(&target, "SELECT * FROM l ORDER BY 1").await, ["1|5", "2|3"]);
    }
}

#[tokio::test]
async fn all_tables_and_schemas_mean_no_filter() {
    let (source, target) = servers(16, 15).await;
    let tables = "CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v int); CREATE TABLE t (id int PRIMARY KEY, v int);
                  CREATE TABLE other (id int PRIMARY KEY)";
    source.sql(DB, tables).await;
    target.sql(DB, tables).await;
    source
        .sql(
            DB,
            "INSERT INTO s.t SELECT i, i FROM generate_series(1, 4) i; INSERT INTO t SELECT i, i FROM generate_series(1, 4) i;
             CREATE PUBLICATION p FOR TABLE s.t WHERE (v > 2), t WHERE (v > 2); CREATE PUBLICATION q FOR TABLES IN SCHEMA s",
        )
        .await;
    let mut running = live(&replicate(&source, &target, "p,q")).await;
    source.sql(DB, "INSERT INTO s.t VALUES (10, 0); INSERT INTO t VALUES (10, 0), (11, 9); INSERT INTO other VALUES (1)").await;
    drained(&source, &mut running).await;
    assert_eq!(rows(&target, "SELECT count(*) FROM s.t").await, ["5"]);
    assert_eq!(rows(&target, "SELECT id FROM t ORDER BY 1").await, ["3", "4", "11"]);
    assert_eq!(rows(&target, "SELECT count(*) FROM other").await, ["0"]);
}

const TREE: &str = "CREATE TABLE root (id int NOT NULL, v text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
    CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (100);
    CREATE TABLE high PARTITION OF root FOR VALUES FROM (100) TO (1000)";

#[tokio::test]
async fn a_root_goes_into_a_table_of_any_shape() {
    for (from, to, shape) in [
        (13, 15, "CREATE TABLE root (v text, id int PRIMARY KEY)"),
        (
            15,
            15,
            "CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY HASH (id);
                  CREATE TABLE h0 PARTITION OF root FOR VALUES WITH (MODULUS 2, REMAINDER 0);
                  CREATE TABLE h1 PARTITION OF root FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
        ),
        (18, 15, TREE),
    ] {
        let (source, target) = servers(from, to).await;
        source.sql(DB, TREE).await;
        target.sql(DB, shape).await;
        source
            .sql(
                DB,
                "INSERT INTO root SELECT i, 'copied' FROM generate_series(90, 110) i;
                 CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root)",
            )
            .await;
        let mut running = live(&replicate(&source, &target, "p")).await;
        // One row moves to the other partition.
        source.sql(DB, "UPDATE root SET id = id + 100 WHERE id = 95; DELETE FROM root WHERE id = 101; INSERT INTO low VALUES (1, 'x')").await;
        drained(&source, &mut running).await;
        let query = "SELECT id, v FROM root ORDER BY 1";
        assert_eq!(rows(&target, query).await, rows(&source, query).await, "{from}");
        source.sql(DB, "TRUNCATE root").await;
        drained(&source, &mut running).await;
        assert!(rows(&target, query).await.is_empty());
    }
}

#[tokio::test]
async fn leaves_go_into_tables_of_their_names() {
    for from in [10, 13, 17] {
        let (source, target) = servers(from, 15).await;
        let tree = if from == 10 {
            "CREATE TABLE root (id int NOT NULL, v text) PARTITION BY RANGE (id);
             CREATE TABLE low PARTITION OF root (PRIMARY KEY (id)) FOR VALUES FROM (0) TO (100);
             CREATE TABLE high PARTITION OF root (PRIMARY KEY (id)) FOR VALUES FROM (100) TO (1000)"
        } else {
            TREE
        };
        source.sql(DB, tree).await;
        // A published leaf may be partitioned further there.
        target
            .sql(
                DB,
                "CREATE TABLE low (v text, id int PRIMARY KEY); CREATE TABLE high (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
                 CREATE TABLE high_1 PARTITION OF high FOR VALUES FROM (100) TO (105); CREATE TABLE high_2 PARTITION OF high DEFAULT",
            )
            .await;
        source
            .sql(DB, "INSERT INTO root SELECT i, 'copied' FROM generate_series(90, 110) i; CREATE PUBLICATION p FOR ALL TABLES")
            .await;
        let mut running = live(&replicate(&source, &target, "p")).await;
        source
            .sql(DB, "UPDATE root SET v = 'x' WHERE id IN (95, 107); DELETE FROM root WHERE id = 101")
            .await;
        drained(&source, &mut running).await;
        for table in ["low", "high"] {
            let query = format!("SELECT id, v FROM {table} ORDER BY 1");
            assert_eq!(rows(&target, &query).await, rows(&source, &query).await, "{from}");
        }
    }
}

#[tokio::test]
async fn children_and_tables_without_columns_are_tables_of_their_own() {
    let (source, target) = servers(15, 15).await;
    let tables = "CREATE TABLE parent (id int PRIMARY KEY); CREATE TABLE child (extra text, PRIMARY KEY (id)) INHERITS (parent);
                  CREATE TABLE nothing (); CREATE TABLE grown (id int PRIMARY KEY)";
    source.sql(DB, tables).await;
    target.sql(DB, tables).await;
    source
        .sql(
            DB,
            "INSERT INTO parent VALUES (1); INSERT INTO child VALUES (2, 'x'); INSERT INTO nothing DEFAULT VALUES;
             INSERT INTO grown VALUES (1); ALTER TABLE grown ADD late int NOT NULL DEFAULT 7; INSERT INTO grown VALUES (2, 8);
             CREATE PUBLICATION p FOR TABLE ONLY parent, child, nothing, grown",
        )
        .await;
    // The target has columns of its own.
    target.sql(DB, "ALTER TABLE grown ADD own serial, ADD late bigint; INSERT INTO grown (id, late) VALUES (100, 100)").await;
    let mut running = live(&replicate(&source, &target, "p")).await;
    source
        .sql(DB, "INSERT INTO nothing DEFAULT VALUES; UPDATE child SET extra = 'y'; INSERT INTO grown VALUES (3); DELETE FROM ONLY parent")
        .await;
    drained(&source, &mut running).await;
    assert_eq!(rows(&target, "SELECT count(*) FROM nothing").await, ["2"]);
    assert_eq!(rows(&target, "SELECT * FROM child").await, ["2|y"]);
    assert_eq!(rows(&target, "SELECT count(*) FROM ONLY parent").await, ["0"]);
    assert_eq!(
        rows(&target, "SELECT id, late FROM grown ORDER BY 1").await,
        ["1|7", "2|8", "3|7", "100|100"]
    );
    assert_eq!(rows(&target, "SELECT count(DISTINCT own) FROM grown").await, ["4"]);
}

#[tokio::test]
async fn generated_columns_are_the_target_s_own_or_published() {
    let (source, target) = servers(18, 18).await;
    source
        .sql(
            DB,
            "CREATE TABLE a (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED);
             CREATE TABLE b (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED);
             INSERT INTO a VALUES (1); INSERT INTO b VALUES (1);
             CREATE PUBLICATION p FOR TABLE a, b WITH (publish_generated_columns = stored)",
        )
        .await;
    target
        .sql(DB, "CREATE TABLE a (id int PRIMARY KEY, g int); CREATE TABLE b (id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 3) STORED)")
        .await;
    let mut running = live(&replicate(&source, &target, "p")).await;
    source
        .sql(DB, "INSERT INTO a VALUES (2); INSERT INTO b VALUES (2); UPDATE a SET id = 3 WHERE id = 2")
        .await;
    drained(&source, &mut running).await;
    assert_eq!(rows(&target, "SELECT * FROM a ORDER BY 1").await, ["1|2", "3|6"]);
    assert_eq!(rows(&target, "SELECT * FROM b ORDER BY 1").await, ["1|3", "2|6"]);
}

#[tokio::test]
async fn the_name_under_which_rows_come_may_change() {
    let (source, target) = servers(15, 15).await;
    source.sql(DB, TREE).await;
    target.sql(DB, TREE).await;
    source
        .sql(DB, "INSERT INTO root SELECT i, 'copied' FROM generate_series(90, 110) i; CREATE PUBLICATION p FOR TABLE root")
        .await;
    let query = "SELECT id, v FROM root ORDER BY 1";
    let mut running = live(&replicate(&source, &target, "p")).await;
    for (n, value) in [(1, "true"), (2, "false")] {
        running.sigterm();
        running.wait_exit().await.expect_code(143);
        source.sql(DB, &format!("INSERT INTO root VALUES ({n}, 'before')")).await;
        source.sql(DB, &format!("ALTER PUBLICATION p SET (publish_via_partition_root = {value})")).await;
        source
            .sql(
                DB,
                &format!(
                    "INSERT INTO root VALUES (50{n}, 'between'); UPDATE root SET v = '{n}' WHERE id = 100"
                ),
            )
            .await;
        running = live(&replicate(&source, &target, "p")).await;
        source.sql(DB, &format!("INSERT INTO root VALUES (60{n}, 'after')")).await;
        drained(&source, &mut running).await;
        // Nothing is copied a second time, nothing is lost.
        assert_eq!(rows(&target, query).await, rows(&source, query).await);
    }
}

/// The schema comes whole; what nobody publishes stays empty, is named, and holds nothing up.
#[tokio::test]
async fn tables_beside_the_publication_are_made_and_stay_empty() {
    let (source, target) = servers(15, 17).await;
    source
        .sql(
            DB,
            "CREATE TABLE unfed (id int PRIMARY KEY); CREATE TABLE fed (id int PRIMARY KEY, u int REFERENCES unfed);
             CREATE TABLE child (id int PRIMARY KEY, f int REFERENCES fed); ALTER TABLE unfed ADD f int REFERENCES fed;
             CREATE TABLE root (id int PRIMARY KEY, f int REFERENCES fed) PARTITION BY RANGE (id);
             CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (100);
             INSERT INTO unfed VALUES (1); INSERT INTO fed VALUES (1, 1); INSERT INTO child VALUES (1, 1); INSERT INTO root VALUES (1, 1);
             CREATE PUBLICATION p FOR TABLE fed, child, leaf",
        )
        .await;
    let walferry = Walferry::new(&source.uri(DB), &target.uri(DB));
    let check = walferry.command("check").args(&["--publication", "p"]).run().await.expect_code(0);
    assert!(check.stdout.contains("NOT_PUBLISHED") && check.stdout.contains("unfed"), "{}", check.said());
    assert!(
        !check.stdout.contains("leaf") || !check.stdout.contains("2 table(s) are in none"),
        "{}",
        check.said()
    );
    let mut running = walferry.command("migrate").args(&["--publication", "p"]).spawn();
    running.wait_for_step("live").await;
    source.sql(DB, "INSERT INTO fed VALUES (2, 1); INSERT INTO child VALUES (2, 2); TRUNCATE fed CASCADE; INSERT INTO fed VALUES (3, NULL)").await;
    drained(&source, &mut running).await;
    assert_eq!(rows(&target, "SELECT count(*) FROM unfed").await, ["0"]);
    assert_eq!(rows(&target, "SELECT id FROM fed").await, ["3"]);
    // Those between tables that are fed are there, and proven.
    let keys = "SELECT conrelid::regclass::text || convalidated::text FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1";
    let proven = format!(
        "SELECT array_agg(k ORDER BY k) = '{{childtrue,roottrue}}' FROM ({}) x (k)",
        keys.trim_end_matches(" ORDER BY 1")
    );
    target.wait_until(DB, &proven, std::time::Duration::from_secs(60)).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
}

/// A TRUNCATE of two tables that commits before one of them was copied is only the other one's, whose rows that one refers to.
#[tokio::test]
async fn a_truncate_of_a_list_of_which_a_part_was_copied_later() {
    let (source, target) = servers(15, 15).await;
    let one = "CREATE TABLE a (id int PRIMARY KEY)";
    let both = "CREATE TABLE j (id int PRIMARY KEY, a int REFERENCES a)";
    source.sql(DB, &format!("{one}; INSERT INTO a VALUES (1), (2); CREATE PUBLICATION p FOR TABLE a")).await;
    target.sql(DB, one).await;
    let mut running = live(&replicate(&source, &target, "p")).await;
    drained(&source, &mut running).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    source.sql(DB, &format!("{both}; ALTER PUBLICATION p ADD TABLE j")).await;
    source.sql(DB, "INSERT INTO j VALUES (1, 1)").await;
    source.sql(DB, "TRUNCATE a, j; INSERT INTO a VALUES (7); INSERT INTO j VALUES (8, 7)").await;
    target.sql(DB, both).await;
    let mut running = live(&replicate(&source, &target, "p")).await;
    drained(&source, &mut running).await;
    assert_eq!(rows(&target, "SELECT id FROM a").await, ["7"]);
    assert_eq!(rows(&target, "SELECT id, a FROM j").await, ["8|7"]);
    source.sql(DB, "TRUNCATE a, j; INSERT INTO a VALUES (9)").await;
    drained(&source, &mut running).await;
    assert_eq!(rows(&target, "SELECT id FROM a").await, ["9"]);
    assert_eq!(rows(&target, "SELECT count(*) FROM j").await, ["0"]);
}
