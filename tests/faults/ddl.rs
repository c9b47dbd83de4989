//! DDL on the source while the run runs: what the target has already is picked up, anything else stops before the first row that would be
//! lost, names the statement, and goes on once it was run.

use super::{DB, Scene};
use crate::support::oracle::{self, Events, Scope};
use crate::support::walferry::Running;

struct Live<'a> {
    scene: &'a Scene,
    running: Running,
    events: Events<'a>,
}

impl<'a> Live<'a> {
    async fn new(scene: &'a Scene) -> Live<'a> {
        let events = Events::record(&scene.source, DB).await;
        let mut running = scene.run().spawn();
        running.wait_for_step("live").await;
        Live { scene, running, events }
    }

    async fn source(&self, statements: &str) {
        self.scene.source.sql(DB, statements).await;
    }

    async fn target(&self, statements: &str) {
        self.scene.target.sql(DB, statements).await;
    }

    /// Everything is applied.
    async fn drained(&mut self) {
        let marker = oracle::marker(&self.scene.source, DB).await;
        let status = self.running.wait_applied(marker).await;
        self.events.expect_applied(&status).await;
    }

    async fn equal(&mut self) {
        self.drained().await;
        let (source, target) = (self.scene.source.uri(DB), self.scene.target.uri(DB));
        let found = oracle::differences(&source, &target, &Scope::default().extra_columns()).await;
        assert!(found.is_empty(), "{}", found.join("\n"));
    }

    /// The run waits, with this code; its hint.
    async fn stops(&mut self, code: &str) -> String {
        let status = self.running.wait_for(code, |status| status.error_code() == Some(code)).await;
        status.0["error"]["hint"].as_str().unwrap_or_default().to_owned()
    }
}

/// The statement that a hint tells to run on the target.
fn statement(hint: &str) -> String {
    let rest = hint.split("run on the target: ").nth(1).unwrap_or_else(|| panic!("no statement in {hint:?}"));
    rest.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn row_48_a_column_that_the_target_has_already_is_picked_up() {
    let scene = Scene::small().await;
    let mut live = Live::new(&scene).await;
    live.target("ALTER TABLE t ADD COLUMN w int").await;
    live.source("INSERT INTO t VALUES (10, 1, 'before'); ALTER TABLE t ADD COLUMN w int").await;
    live.source("INSERT INTO t VALUES (11, 2, 'after', 5); UPDATE t SET w = 7 WHERE id = 1").await;
    live.equal().await;
    assert!(!live.running.stderr().contains("COLUMN_MISSING"), "{}", live.running.stderr());
}

#[tokio::test]
async fn row_48_a_column_that_the_target_lacks_stops_and_names_the_statement() {
    let scene = Scene::small().await;
    let mut live = Live::new(&scene).await;
    live.source("INSERT INTO t VALUES (10, 1, 'before')").await;
    live.source("ALTER TABLE t ADD COLUMN \"new one\" numeric(10,2) DEFAULT 1.5").await;
    live.source("INSERT INTO t VALUES (11, 2, 'after', 5)").await;
    let hint = live.stops("COLUMN_MISSING").await;
    let there: Vec<i32> =
        scene.target.query(DB, "SELECT id FROM t WHERE id > 9").await.iter().map(|row| row.get(0)).collect();
    assert_eq!(there, [10], "it stops before the first row that it would lose, and not earlier");
    live.target(&format!("{} DEFAULT 1.5", statement(&hint))).await;
    live.equal().await;
}

#[tokio::test]
async fn row_49_columns_dropped_and_renamed() {
    let scene = Scene::small().await;
    let mut live = Live::new(&scene).await;
    live.source("ALTER TABLE t DROP COLUMN v; INSERT INTO t VALUES (10, 1)").await;
    live.equal().await;
    live.source("ALTER TABLE t RENAME COLUMN u TO unique_number; INSERT INTO t VALUES (11, 2)").await;
    let hint = live.stops("COLUMN_MISSING").await;
    assert!(hint.contains("unique_number"), "{hint}");
    live.target("ALTER TABLE t RENAME COLUMN u TO unique_number").await;
    live.equal().await;
}

#[tokio::test]
async fn row_49_a_table_that_is_renamed_waits_for_its_new_name() {
    let scene = Scene::small().await;
    let mut live = Live::new(&scene).await;
    live.source("ALTER TABLE t RENAME TO \"T 2\"; INSERT INTO \"T 2\" VALUES (10, 1, 'after')").await;
    let hint = live.stops("TABLE_RENAMED").await;
    live.target(&statement(&hint)).await;
    let marker = oracle::marker(&scene.source, DB).await;
    live.running.wait_applied(marker).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    // The next start knows it by its new name, and copies nothing again.
    live.running.sigterm();
    live.running.wait_exit().await.expect_code(143);
    let mut running = scene.run().spawn();
    running.wait_for("the start", |status| status.count("epoch") == 2 && status.reached("live")).await;
    scene.source.sql(DB, "UPDATE \"T 2\" SET v = 'changed'").await;
    let marker = oracle::marker(&scene.source, DB).await;
    running.wait_applied(marker).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
}

#[tokio::test]
async fn row_49_types_that_become_wider() {
    let scene = Scene::small().await;
    scene
        .source
        .sql(
            DB,
            "CREATE TYPE mood AS ENUM ('ok'); CREATE TABLE w (id int PRIMARY KEY, n int, s varchar(5), m mood);
             INSERT INTO w VALUES (1, 1, 'a', 'ok')",
        )
        .await;
    let mut live = Live::new(&scene).await;
    // Narrower on the target is no reason to stop as long as the values fit.
    live.source(
        "ALTER TABLE w ALTER n TYPE bigint; UPDATE w SET n = 5; INSERT INTO w VALUES (2, 2, 'b', 'ok')",
    )
    .await;
    live.equal().await;
    live.source("INSERT INTO w VALUES (3, 5000000000, 'c', 'ok')").await;
    live.stops("22003").await;
    live.target("ALTER TABLE w ALTER n TYPE bigint").await;
    live.equal().await;
    live.source(
        "ALTER TABLE w ALTER s TYPE varchar(50); INSERT INTO w VALUES (4, 4, 'longer than five', 'ok')",
    )
    .await;
    live.stops("22001").await;
    live.target("ALTER TABLE w ALTER s TYPE varchar(50)").await;
    live.equal().await;
    live.source("ALTER TYPE mood ADD VALUE 'better'").await;
    live.source("INSERT INTO w VALUES (5, 5, 'd', 'better')").await;
    live.stops("22P02").await;
    live.target("ALTER TYPE mood ADD VALUE 'better'").await;
    live.equal().await;
}

#[tokio::test]
async fn row_50_a_table_is_rewritten_between_slot_and_lock() {
    // The first can be told by the columns; the others leave nothing but other files, which the snapshot reads as empty.
    for ddl in [
        "ALTER TABLE t ALTER id TYPE bigint",
        "ALTER TABLE t ALTER id TYPE int USING id + 0",
        "VACUUM FULL t",
    ] {
        let scene = Scene::small().await;
        let events = Events::record(&scene.source, DB).await;
        let session = scene.source.connect(DB).await;
        let mut running = scene.run().failpoint("slot-created", "1*sleep(4000)->off").spawn();
        scene
            .source
            .wait_until(
                DB,
                "SELECT count(*) > 0 FROM pg_replication_slots WHERE slot_name = 'walferry' AND confirmed_flush_lsn IS NOT NULL",
                std::time::Duration::from_secs(20),
            )
            .await;
        session.batch_execute(ddl).await.unwrap();
        running.wait_for_step("live").await;
        assert!(running.stderr().contains("rewritten"), "{ddl}: {}", running.stderr());
        let marker = oracle::marker(&scene.source, DB).await;
        let status = running.wait_applied(marker).await;
        oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
        events.expect_applied(&status).await;
    }
}

#[tokio::test]
async fn row_51_ddl_and_dml_in_one_transaction_with_savepoints_rolled_back() {
    let scene = Scene::small().await;
    let mut live = Live::new(&scene).await;
    live.target("ALTER TABLE t ADD COLUMN b int").await;
    live.source(
        "BEGIN; INSERT INTO t VALUES (10, 1, 'a');
         SAVEPOINT s; ALTER TABLE t ADD COLUMN a text; INSERT INTO t VALUES (11, 2, 'rolled back', 'x'); ROLLBACK TO s;
         INSERT INTO t VALUES (12, 3, 'c');
         ALTER TABLE t ADD COLUMN b int; UPDATE t SET b = id; INSERT INTO t VALUES (13, 4, 'd', 5);
         SAVEPOINT s; ALTER TABLE t DROP COLUMN v; DELETE FROM t; ROLLBACK TO s;
         UPDATE t SET v = 'e' WHERE id = 10; COMMIT",
    )
    .await;
    live.equal().await;
}

#[tokio::test]
async fn row_52_truncate_of_one_of_many_with_cascade_and_identity() {
    let scene = Scene::small().await;
    scene
        .source
        .sql(
            DB,
            "CREATE TABLE parent (id serial PRIMARY KEY); CREATE TABLE child (id serial PRIMARY KEY, p int REFERENCES parent);
             INSERT INTO parent SELECT FROM generate_series(1, 5); INSERT INTO child (p) SELECT id FROM parent",
        )
        .await;
    let mut live = Live::new(&scene).await;
    live.source("TRUNCATE t").await;
    live.target("SELECT setval('parent_id_seq', 500)").await;
    live.source("INSERT INTO t VALUES (1, 1, 'again'); TRUNCATE parent RESTART IDENTITY CASCADE; INSERT INTO parent DEFAULT VALUES").await;
    live.source("TRUNCATE parent, child, t; INSERT INTO t VALUES (2, 2, 'last')").await;
    live.equal().await;
    let restarted: i64 = scene.target.value(DB, "SELECT last_value FROM parent_id_seq").await;
    assert_eq!(restarted, 1);
}

#[tokio::test]
async fn row_53_the_replica_identity_changes_on_the_way() {
    let scene = Scene::small().await;
    scene.source.sql(DB, "ALTER TABLE t ALTER u SET NOT NULL").await;
    let mut live = Live::new(&scene).await;
    live.source("UPDATE t SET v = 'default'").await;
    live.source("ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET v = 'full', id = id + 10; DELETE FROM t WHERE id = 11").await;
    live.equal().await;
    live.source("ALTER TABLE t REPLICA IDENTITY USING INDEX t_u_key; UPDATE t SET v = 'index', u = u + 1; DELETE FROM t WHERE id = 12").await;
    live.equal().await;
    // Now the source itself refuses updates; inserts go on.
    live.source("ALTER TABLE t REPLICA IDENTITY NOTHING; INSERT INTO t VALUES (50, 50, 'nothing')").await;
    assert!(scene.source.try_sql(DB, "UPDATE t SET v = 'x'").await.is_err());
    live.equal().await;
    live.source("ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET v = 'default again'").await;
    live.equal().await;
}

/// The rewrite gave every row a value of its own, and no change of it is in the WAL.
#[tokio::test]
async fn row_48_values_that_a_rewrite_made_up_are_reported_and_found() {
    let scene = Scene::small().await;
    let mut live = Live::new(&scene).await;
    live.target("ALTER TABLE t ADD w float8, ADD fixed int DEFAULT 5").await;
    // Neither a constant default nor a table that is merely written anew is worth a word.
    live.source("ALTER TABLE t ADD fixed int DEFAULT 5").await;
    let looked = "SELECT (spec->>'attributes')::int = 4 FROM walferry.tables";
    scene.target.wait_until(DB, looked, std::time::Duration::from_secs(60)).await;
    live.source("VACUUM FULL t").await;
    live.source("ALTER TABLE t ADD w float8 DEFAULT random()").await;
    let seen = |status: &crate::support::walferry::Status| {
        status.0["gap"].as_array().is_some_and(|gap| !gap.is_empty())
    };
    let status = live.running.wait_for("the rewrite", seen).await;
    let gap = status.0["gap"].as_array().unwrap();
    assert_eq!(gap.len(), 1, "{:#}", status.0);
    let reason = gap[0]["reason"].as_str().unwrap();
    assert!(reason.contains("w") && reason.contains("\"t\"") && !reason.contains("fixed"), "{reason}");
    live.running.wait_for_stderr("the target may hold other values").await;
    live.drained().await;
    live.scene.walferry().command("verify").args(&["-q"]).run().await.expect_code(1);
    // Said once, also after a restart; and while the run was stopped it is seen as well.
    live.running.sigterm();
    let Live { running, .. } = live;
    running.wait_exit().await.expect_code(143);
    scene.source.sql(DB, "ALTER TABLE t ALTER v TYPE bigint USING length(v)").await;
    let mut running = scene.run().spawn();
    let status = running
        .wait_for("live again", |status| {
            status.step() == "live" && status.0["gap"].as_array().unwrap().len() == 2
        })
        .await;
    assert!(status.0["gap"][1]["reason"].as_str().unwrap().contains("column(s) v"), "{:#}", status.0);
}

#[tokio::test]
async fn row_53_a_lost_identity_is_reported_until_it_is_back() {
    let scene = Scene::small().await;
    let mut live = Live::new(&scene).await;
    for (lose, mend) in [
        ("ALTER TABLE t REPLICA IDENTITY NOTHING", "ALTER TABLE t REPLICA IDENTITY FULL"),
        (
            "ALTER TABLE t REPLICA IDENTITY DEFAULT; ALTER TABLE t DROP CONSTRAINT t_pkey",
            "ALTER TABLE t ADD PRIMARY KEY (id)",
        ),
    ] {
        live.source(lose).await;
        let status = live
            .running
            .wait_for("the warning", |status| status.0["warnings"].to_string().contains("identity"))
            .await;
        let warning = status.0["warnings"][0].as_str().unwrap();
        assert!(warning.contains("\"public\".\"t\"") && warning.contains("ALTER TABLE"), "{warning}");
        assert!(scene.source.try_sql(DB, "UPDATE t SET v = 'x'").await.is_err());
        live.source(mend).await;
        live.running
            .wait_for("no warning", |status| status.0["warnings"].as_array().is_some_and(Vec::is_empty))
            .await;
        live.source("UPDATE t SET v = v || 'mended'").await;
        live.equal().await;
    }
}

/// Rows that came with a partition were never changes; those that are changed afterwards are.
#[tokio::test]
async fn partitions_that_are_attached_with_rows_are_reported_and_detached_ones_keep_theirs() {
    let scene = Scene::small().await;
    let tree = "CREATE TABLE root (id int PRIMARY KEY, v text) PARTITION BY RANGE (id);
         CREATE TABLE low PARTITION OF root FOR VALUES FROM (0) TO (100)";
    scene.source.sql(DB, &format!("{tree}; INSERT INTO root VALUES (1, 'a'); CREATE PUBLICATION p FOR TABLE root WITH (publish_via_partition_root)")).await;
    scene.target.sql(DB, "CREATE TABLE root (id int PRIMARY KEY, v text)").await;
    let run = || scene.walferry().command("replicate").args(&["--publication", "p", "--existing-schema"]);
    let mut running = run().spawn();
    running.wait_for_step("live").await;
    // Made as a partition: whatever it holds came through the stream.
    scene.source.sql(DB, "CREATE TABLE mid PARTITION OF root FOR VALUES FROM (100) TO (200); INSERT INTO root VALUES (150, 'streamed')").await;
    scene
        .source
        .sql(DB, "CREATE TABLE high (id int PRIMARY KEY, v text); INSERT INTO high VALUES (250, 'before'), (251, 'changed')")
        .await;
    scene.source.sql(DB, "ALTER TABLE root ATTACH PARTITION high FOR VALUES FROM (200) TO (300)").await;
    let status =
        running.wait_for("the attached rows", |status| status.0["gap"].to_string().contains("high")).await;
    assert_eq!(status.0["gap"].as_array().unwrap().len(), 1, "{:#}", status.0);
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    assert_eq!(scene.target.text(DB, "SELECT id::text FROM root ORDER BY id").await.len(), 2, "1 and 150");
    run_verify(&scene, 1).await;
    // What is detached is no longer the table's: the target keeps its rows, and verify says so.
    scene.target.sql(DB, "INSERT INTO root VALUES (250, 'before'), (251, 'changed')").await;
    run_verify(&scene, 0).await;
    scene.source.sql(DB, "ALTER TABLE root DETACH PARTITION high; UPDATE high SET v = 'alone'").await;
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    assert_eq!(
        scene.target.value::<i64>(DB, "SELECT count(*) FROM root WHERE v IN ('before', 'changed')").await,
        2
    );
    run_verify(&scene, 1).await;
}

async fn run_verify(scene: &Scene, code: i32) {
    scene.walferry().command("verify").args(&["-q"]).run().await.expect_code(code);
}
