//! What applying costs the target, counted: how tables are found, how many statements a batch takes, which plans they use.

use std::time::{Duration, Instant};

use crate::support::{Feed, Way};

const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_small_batch_never_scans_a_large_table() {
    let schema = "CREATE TABLE large (id int PRIMARY KEY, n int NOT NULL, tags text[], note text);
        INSERT INTO large SELECT i, i, ARRAY['a'], md5(i::text) FROM generate_series(1, 20000) i;
        CREATE TABLE pair (a int, b text, n int, PRIMARY KEY (a, b));
        INSERT INTO pair SELECT i / 100, i % 100, i FROM generate_series(1, 20000) i";
    let ways = [Way::Default, Way::Sets, Way::Rows, Way::Text];
    let mut feed = Feed::of(schema).ways(&ways).start().await;
    // No statistics: nothing tells the planner that the tables are large.
    let scans =
        "SELECT seq_scan::text FROM pg_stat_user_tables WHERE relname IN ('large', 'pair') ORDER BY relname";
    let before = feed.on_targets(scans).await;
    for _ in 0..3 {
        feed.together(&[
            "UPDATE large SET n = n + 1 WHERE id % 1000 = 7",
            "UPDATE pair SET n = n + 1 WHERE n % 1000 = 7",
            "UPDATE large SET note = NULL, tags = '{x,y}' WHERE id % 2000 = 9",
            "DELETE FROM large WHERE id IN (SELECT min(id) + i FROM large, generate_series(0, 11) i GROUP BY i)",
            "DELETE FROM pair WHERE (a, b) IN (SELECT a, b FROM pair ORDER BY a, b LIMIT 12)",
        ])
        .await;
        feed.applied().await;
    }
    for (lane, before) in feed.lanes.iter().zip(before) {
        // A backend tells its counts when it is idle; all of them at once.
        let told =
            "SELECT bool_and(idx_scan >= 50) FROM pg_stat_user_tables WHERE relname IN ('large', 'pair')";
        feed.target.wait_until(&lane.database, told, SOON).await;
        let after: Vec<String> =
            feed.target.text(&lane.database, scans).await.into_iter().flatten().flatten().collect();
        assert_eq!(after, before, "{:?}: sequential scans of large and pair", lane.way);
    }
    feed.expect_exact().await;
    feed.end().await;
}

/// The target's log has every statement from now on.
async fn log_statements(feed: &mut Feed) {
    feed.target.sql("postgres", "ALTER SYSTEM SET log_statement = 'all'").await;
    feed.target.reload().await;
    let setting = "SELECT current_setting('log_statement') = 'all'";
    feed.target.wait_until("postgres", setting, SOON).await;
    feed.applied().await;
}

#[tokio::test]
async fn many_tables_and_many_rows_take_few_statements() {
    let schema: String =
        (0..300).map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY, v text);\n")).collect();
    let mut feed = Feed::of(&schema).ways(&[Way::Default]).own_servers().start().await;
    log_statements(&mut feed).await;
    let count = |what: &str| feed.target.log().matches(what).count();
    let (looks, updates) = ("SELECT g.n, c.oid, c.relkind", "UPDATE ONLY ");
    assert_eq!((count(looks), count(updates)), (0, 0));
    feed.source(
        "DO $$ BEGIN FOR n IN 0 .. 299 LOOP EXECUTE format('INSERT INTO t%s VALUES (1, %L)', n, n); END LOOP; END $$",
    )
    .await;
    feed.applied().await;
    let looked = feed.target.log().matches(looks).count();
    assert!((1..=3).contains(&looked), "300 tables were looked up with {looked} queries");
    // Nothing is prepared for a table that may be written to once.
    let (copy, insert) = ("COPY \"public\".\"t", "INSERT INTO \"public\".\"t");
    let written = |log: String| (log.matches(copy).count(), log.matches(insert).count());
    assert_eq!(written(feed.target.log()), (300, 0));
    feed.source("INSERT INTO t9 VALUES (2, '')").await;
    feed.applied().await;
    assert_eq!(written(feed.target.log()), (300, 1));
    // What is done for each transaction is parsed and planned once.
    let log = feed.target.log();
    let mut progress = log.lines().filter(|line| line.contains("INSERT INTO walferry.progress")).peekable();
    assert!(progress.peek().is_some() && progress.all(|line| line.contains("execute w")), "{log}");
    feed.source("INSERT INTO t7 SELECT i, '' FROM generate_series(2, 3000) i").await;
    let updates_of_rows: Vec<String> =
        (0..100).map(|n| format!("UPDATE t7 SET v = v || 'x' WHERE id % 100 = {n}")).collect();
    feed.together(&updates_of_rows.iter().map(String::as_str).collect::<Vec<_>>()).await;
    feed.applied().await;
    let updated = feed.target.log().matches(updates).count();
    assert!((1..300).contains(&updated), "3000 updates took {updated} statements");
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn tables_of_what_waits_are_looked_up_while_the_target_works() {
    let schema: String =
        (0..200).map(|n| format!("CREATE TABLE t{n} (id int PRIMARY KEY, v text);\n")).collect();
    let schema = format!("{schema} INSERT INTO t0 VALUES (1, '')");
    let mut feed = Feed::of(&schema).ways(&[Way::Pieces]).own_servers().start().await;
    log_statements(&mut feed).await;
    feed.kill().await;
    // Several pieces wait, and the first can't end.
    feed.source("UPDATE t0 SET v = 'x' WHERE id = 1").await;
    feed.source(
        "DO $$ BEGIN FOR n IN 1 .. 199 LOOP EXECUTE format('INSERT INTO t%s VALUES (1, repeat(%L, 2000))', n, 'x'); COMMIT; END LOOP; END $$",
    )
    .await;
    let holder = feed.target.connect(&feed.lanes[0].database).await;
    holder.batch_execute("BEGIN; SELECT FROM t0 WHERE id = 1 FOR UPDATE").await.unwrap();
    feed.lanes[0].running = Some(feed.lanes[0].command.spawn());
    let deadline = Instant::now() + SOON;
    while feed.target.log().matches("SELECT g.n, c.oid, c.relkind").count() < 2 {
        assert!(Instant::now() < deadline, "nothing was looked up for what waits");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(feed.on_targets("SELECT count(*) FROM t199").await[0], ["0"]);
    holder.batch_execute("COMMIT").await.unwrap();
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn pending_lists_of_gin_indexes_are_merged_by_another_session() {
    // Nobody merges them for their length, and no vacuum comes by.
    let with = "WITH (gin_pending_list_limit = 1000000)";
    let unvacuumed = "WITH (autovacuum_enabled = off)";
    let schema = format!(
        "CREATE TABLE plain (id int PRIMARY KEY, d jsonb) {unvacuumed};
         CREATE INDEX plain_d ON plain USING gin (d) {with};
         CREATE TABLE parts (id int PRIMARY KEY, d jsonb) PARTITION BY RANGE (id);
         CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (2000) {unvacuumed};
         CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (2000) TO (10000) {unvacuumed};
         CREATE INDEX parts_1_d ON parts_1 USING gin (d) {with};
         CREATE INDEX parts_2_d ON parts_2 USING gin (d) {with}"
    );
    let mut feed = Feed::of(&schema).ways(&[Way::Default, Way::Rows]).start().await;
    feed.target("CREATE EXTENSION pgstattuple SCHEMA pg_catalog").await;
    for table in ["plain", "parts"] {
        feed.source(&format!(
            "INSERT INTO {table} SELECT i, jsonb_build_object('n', i, 'h', md5(i::text)) FROM generate_series(1, 5000) i"
        ))
        .await;
    }
    feed.source("UPDATE plain SET d = d || '{\"more\": 1}'").await;
    feed.applied().await;
    let left = "SELECT bool_or(pending_pages > 0), bool_and(pending_pages > 0) FROM
        (SELECT (pg_catalog.pgstatginindex(x)).pending_pages FROM unnest('{plain_d, parts_1_d, parts_2_d}'::regclass[]) x) i";
    for lane in &feed.lanes {
        if lane.way == Way::Default {
            let none = format!("SELECT NOT any_left FROM ({left}) s (any_left, all_left)");
            feed.target.wait_until(&lane.database, &none, SOON).await;
        } else {
            let all = feed.target.text(&lane.database, left).await;
            assert_eq!(all, [[Some("t".to_owned()), Some("t".to_owned())]], "without the other session");
        }
    }
    feed.expect_exact().await;
    feed.end().await;
}
