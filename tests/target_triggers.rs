//! Triggers and schema changes of the target: what fires on a replica fires once a row, and what is changed while the run runs is noticed.

use crate::support::{Feed, Way};

const LOGGED: &str = "CREATE TABLE t (id int PRIMARY KEY, a int, b text);
    CREATE TABLE log (n serial, line text);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO public.log (line) VALUES (concat_ws(' ', TG_ARGV[0], TG_OP, CASE WHEN TG_OP <> 'INSERT' THEN OLD::text END, CASE WHEN TG_OP <> 'DELETE' THEN NEW::text END));
        RETURN NULL; END $$;";

#[tokio::test]
async fn always_and_replica_triggers_fire_once_for_each_row() {
    let triggers = "
        CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note('always'); ALTER TABLE t ENABLE ALWAYS TRIGGER always;
        CREATE TRIGGER of_b AFTER UPDATE OF b ON t FOR EACH ROW EXECUTE FUNCTION note('of b'); ALTER TABLE t ENABLE REPLICA TRIGGER of_b;
        CREATE TRIGGER ordinary AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note('ordinary');
        CREATE TRIGGER off AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note('off'); ALTER TABLE t DISABLE TRIGGER off";
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
        .into(&format!("{LOGGED}{triggers}"))
        .ways(&[Way::Default, Way::Sets, Way::Rows])
        .scope(crate::support::oracle::Scope::only(&["public.t"]))
        .start()
        .await;
    feed.together(&[
        "INSERT INTO t VALUES (1, 1, 'x'), (2, 2, 'y')",
        "UPDATE t SET a = 5 WHERE id = 1",
        "UPDATE t SET b = 'z' WHERE id = 1",
        "UPDATE t SET id = 3 WHERE id = 2",
        "DELETE FROM t WHERE id = 1; INSERT INTO t VALUES (1, 9, 'n'); DELETE FROM t WHERE id = 1",
    ])
    .await;
    feed.expect_exact().await;
    feed.expect_on_targets(
        "SELECT line FROM log ORDER BY n",
        &[
            "always INSERT (1,1,x)",
            "always INSERT (2,2,y)",
            "always UPDATE (1,1,x) (1,5,x)",
            "of b UPDATE (1,1,x) (1,5,x)",
            "always UPDATE (1,5,x) (1,5,z)",
            "of b UPDATE (1,5,x) (1,5,z)",
            "always UPDATE (2,2,y) (3,2,y)",
            "of b UPDATE (2,2,y) (3,2,y)",
            "always DELETE (1,5,z)",
            "always INSERT (1,9,n)",
            "always DELETE (1,9,n)",
        ],
    )
    .await;
    feed.end().await;
}

#[tokio::test]
async fn a_before_trigger_that_returns_null_or_changes_the_row() {
    let trigger = "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF TG_OP = 'DELETE' THEN IF OLD.id = 1 THEN RETURN NULL; END IF; RETURN OLD; END IF;
            IF NEW.b = 'no' THEN RETURN NULL; END IF; NEW.b = NEW.b || '!'; RETURN NEW; END $$;
        CREATE TRIGGER guard BEFORE INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION guard(); ALTER TABLE t ENABLE ALWAYS TRIGGER guard";
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
        .into(&format!("CREATE TABLE t (id int PRIMARY KEY, a int, b text); {trigger}"))
        .ways(&[Way::Default, Way::Sets, Way::Rows])
        .start()
        .await;
    feed.source("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'no')").await;
    feed.source("UPDATE t SET b = 'no' WHERE id = 1; UPDATE t SET a = 9 WHERE id = 2").await;
    feed.source("DELETE FROM t WHERE id = 1").await;
    feed.applied().await;
    feed.expect_on_targets("SELECT * FROM t ORDER BY id", &["1|1|a!", "2|9|b!"]).await;
    for lane in &feed.lanes {
        let status = lane.walferry.status().await;
        assert_eq!((status.count("missing"), status.count("overwritten")), (0, 0), "{:?}", lane.way);
    }
    // This one really is not there.
    feed.source("UPDATE t SET a = 1 WHERE id = 3").await;
    feed.applied().await;
    for lane in &feed.lanes {
        assert_eq!(lane.walferry.status().await.count("missing"), 1, "{:?}", lane.way);
    }
    feed.end().await;
}

#[tokio::test]
async fn a_trigger_made_while_the_run_runs_sees_the_next_change() {
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
        .into(LOGGED)
        .ways(&[Way::Sets])
        .scope(crate::support::oracle::Scope::only(&["public.t"]))
        .start()
        .await;
    feed.source("INSERT INTO t VALUES (1, 1, 'x')").await;
    feed.applied().await;
    feed.target("CREATE TRIGGER always AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note('always'); ALTER TABLE t ENABLE ALWAYS TRIGGER always").await;
    // The schema is looked at once a second, at least.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    feed.together(&[
        "INSERT INTO t VALUES (2, 1, 'y'); UPDATE t SET a = 2 WHERE id = 2",
        "UPDATE t SET a = 3 WHERE id = 2",
    ])
    .await;
    feed.expect_exact().await;
    feed.expect_on_targets(
        "SELECT line FROM log ORDER BY n",
        &["always INSERT (2,1,y)", "always UPDATE (2,1,y) (2,2,y)", "always UPDATE (2,2,y) (2,3,y)"],
    )
    .await;
    feed.end().await;
}

#[tokio::test]
async fn schema_changes_on_the_target_while_the_run_runs() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text); CREATE TABLE l (id int PRIMARY KEY, v text)",
    )
    .into(
        "CREATE TABLE t (id int PRIMARY KEY, a int, own text, b text, own2 int NOT NULL DEFAULT 1);
            CREATE TABLE l (id int PRIMARY KEY, v text)",
    )
    .scope(crate::support::oracle::Scope::only(&["public.t", "public.l"]).extra_columns())
    .start()
    .await;
    let mut next = 0;
    for ddl in [
        "SELECT 1",
        "ALTER TABLE t DROP own",
        "ALTER TABLE t ADD other int NOT NULL DEFAULT 5",
        "ALTER TABLE t ALTER own2 DROP NOT NULL, ALTER own2 DROP DEFAULT",
        "ALTER TABLE t ALTER a TYPE bigint",
        "ALTER TABLE t DROP CONSTRAINT t_pkey; CREATE UNIQUE INDEX ON t (b, id)",
        "ALTER TABLE t ADD PRIMARY KEY (id)",
        "ALTER TABLE t ALTER id TYPE numeric",
        "ALTER TABLE t ALTER b TYPE varchar(50)",
        "ALTER TABLE l RENAME TO l0; CREATE TABLE l (v text, id int PRIMARY KEY) PARTITION BY RANGE (id); 
         ALTER TABLE l ATTACH PARTITION l0 FOR VALUES FROM (0) TO (1000); CREATE TABLE l1 PARTITION OF l DEFAULT",
        "ALTER TABLE l DETACH PARTITION l0; ALTER TABLE l0 DROP v; ALTER TABLE l0 ADD z int, ADD v text; ALTER TABLE l0 DROP z; UPDATE l0 SET v = 'new' || id;
         ALTER TABLE l ATTACH PARTITION l0 FOR VALUES FROM (0) TO (1000)",
    ] {
        next += 1;
        feed.target(ddl).await;
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
        feed.together(&[
            &format!("INSERT INTO t SELECT i, i, 'x' FROM generate_series({}, {}) i; UPDATE t SET a = a + 1", next * 10, next * 10 + 5),
            &format!("UPDATE t SET b = b || 'y' WHERE id % 4 = 0; DELETE FROM t WHERE id = {}", next * 10 + 1),
            &format!("INSERT INTO l VALUES ({next}, 'v'), ({}, 'v'); UPDATE l SET v = 'new' || id", next + if next < 10 { 100 } else { 2000 }),
        ])
        .await;
        feed.applied().await;
    }
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn a_constraint_of_the_targets_own_stops_and_a_cure_goes_on() {
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, a int, b text)")
        .ways(&[Way::Default, Way::Sets])
        .start()
        .await;
    feed.target("ALTER TABLE t ADD CONSTRAINT small CHECK (a < 10)").await;
    feed.together(&[
        "INSERT INTO t VALUES (1, 1, 'x')",
        "INSERT INTO t VALUES (2, 100, 'secret canary')",
        "INSERT INTO t VALUES (3, 3, 'x')",
    ])
    .await;
    assert_eq!(feed.errors().await, ["23514", "23514"]);
    // What stands before it is in, nothing after it is.
    feed.expect_on_targets("SELECT id FROM t ORDER BY id", &["1"]).await;
    for lane in &feed.lanes {
        let said = lane.running.as_ref().unwrap().stderr();
        assert!(said.contains("small") && !said.contains("canary"), "{said}");
    }
    feed.target("ALTER TABLE t DROP CONSTRAINT small").await;
    feed.expect_exact().await;
    feed.end().await;
}

/// The same for a table that is found by its whole row: no key tells whether it was there.
#[tokio::test]
async fn a_before_trigger_that_returns_null_on_a_table_with_identity_full() {
    let table = "CREATE TABLE t (id int, b text); ALTER TABLE t REPLICA IDENTITY FULL";
    let trigger = "CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF OLD.id = 1 THEN RETURN NULL; END IF; IF TG_OP = 'DELETE' THEN RETURN OLD; END IF; RETURN NEW; END $$;
        CREATE TRIGGER guard BEFORE UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION guard(); ALTER TABLE t ENABLE ALWAYS TRIGGER guard";
    let mut feed = Feed::of(table)
        .into(&format!("{table}; {trigger}"))
        .ways(&[Way::Default, Way::Sets, Way::Rows])
        .start()
        .await;
    feed.source("INSERT INTO t VALUES (1, 'a'), (1, 'a'), (2, NULL), (3, 'c'), (3, 'c')").await;
    feed.source("UPDATE t SET b = 'x' WHERE id = 2; DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE id = 3)").await;
    feed.source("DELETE FROM t WHERE ctid = (SELECT min(ctid) FROM t WHERE id = 1)").await;
    feed.source("UPDATE t SET b = 'b' WHERE id = 1").await;
    feed.applied().await;
    feed.expect_on_targets("SELECT * FROM t ORDER BY 1, 2", &["1|a", "1|a", "2|x", "3|c"]).await;
    for lane in &feed.lanes {
        assert_eq!(lane.walferry.status().await.count("missing"), 0, "{:?}", lane.way);
    }
    // On the target it is ('a'), so that this one really is not there.
    feed.source("UPDATE t SET b = 'c' WHERE id = 1 AND b = 'b'").await;
    feed.applied().await;
    for lane in &feed.lanes {
        assert_eq!(lane.walferry.status().await.count("missing"), 1, "{:?}", lane.way);
    }
    feed.end().await;
}

/// Each look before a commit finds the schema changed: by others, which is no reason to undo the piece.
#[tokio::test]
async fn tables_of_others_that_come_and_go_on_the_target_hold_nothing_up() {
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, v text)")
        .scope(crate::support::oracle::Scope::only(&["public.t"]))
        .start()
        .await;
    feed.source("INSERT INTO t VALUES (1, 'a')").await;
    feed.applied().await;
    // Longer than the longest pause between two looks.
    feed.restart_with("apply-before-commit", "sleep(1200)").await;
    let target = feed.target.connect(&feed.lanes[0].database).await;
    let others = async {
        for n in 1.. {
            let sql = format!("CREATE TABLE other_{n} (id int); DROP TABLE IF EXISTS other_{}", n - 1);
            target.batch_execute(&sql).await.unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    feed.source("INSERT INTO t VALUES (2, 'b'); UPDATE t SET v = 'c' WHERE id = 1").await;
    let applied = feed.applied_within(std::time::Duration::from_secs(30));
    tokio::select! {
        () = others => unreachable!(),
        () = applied => {}
    }
    feed.expect_same_content().await;
    feed.end().await;
}

/// The source gave its column up as a generated one first; the target followed while the run ran.
#[tokio::test]
async fn a_column_that_is_no_longer_generated_is_written() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, a int, c int GENERATED ALWAYS AS (a * 2) STORED); INSERT INTO t VALUES (1, 1)",
    )
    .start()
    .await;
    feed.source("ALTER TABLE t ALTER c DROP EXPRESSION; UPDATE t SET a = 2, c = 4 WHERE id = 1").await;
    feed.applied().await;
    feed.target("ALTER TABLE t ALTER c DROP EXPRESSION").await;
    // The schema is looked at once a second, at least.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    feed.source("UPDATE t SET c = 77 WHERE id = 1; INSERT INTO t VALUES (2, 2, 88)").await;
    feed.expect_same_content().await;
    feed.expect_on_targets("SELECT id, c FROM t ORDER BY id", &["1|77", "2|88"]).await;
    feed.end().await;
}
