//! Transactions of the source: savepoints, DDL among them, prepared ones, ones larger than a piece or than the server's own memory for decoding.

use crate::support::{Feed, Way};

#[tokio::test]
async fn rolled_back_savepoints_with_ddl() {
    let mut feed = Feed::of(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT i, i FROM generate_series(1, 10) i",
    )
    .start()
    .await;
    let changes = [
        "BEGIN; INSERT INTO t VALUES (11, 1); SAVEPOINT a; UPDATE t SET v = 0; ALTER TABLE t ADD x int; INSERT INTO t VALUES (12, 1, 1); ROLLBACK TO a;
         UPDATE t SET v = v + 1; SAVEPOINT b; ALTER TABLE t ALTER v TYPE text; UPDATE t SET v = 'text'; ROLLBACK TO b; DELETE FROM t WHERE id = 1; COMMIT",
        "BEGIN; SAVEPOINT a; DELETE FROM t; SAVEPOINT b; INSERT INTO t VALUES (99, 9); RELEASE b; ROLLBACK TO a; INSERT INTO t VALUES (13, 13); RELEASE a; COMMIT",
        "BEGIN; UPDATE t SET v = 1; ROLLBACK",
        "BEGIN; ALTER TABLE t REPLICA IDENTITY FULL; UPDATE t SET v = 5 WHERE id = 2; SAVEPOINT a; ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET v = 6 WHERE id = 2; ROLLBACK TO a;
         UPDATE t SET v = v + 1 WHERE id < 5; ALTER TABLE t REPLICA IDENTITY DEFAULT; UPDATE t SET v = v + 1; COMMIT",
        "BEGIN; CREATE TABLE scratch AS SELECT * FROM t; INSERT INTO scratch SELECT * FROM t; DROP TABLE scratch; UPDATE t SET v = -v; COMMIT",
        "ALTER TABLE t RENAME TO old_t; CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO old_t VALUES (1000, 0); DROP TABLE t; ALTER TABLE old_t RENAME TO t",
    ];
    for change in &changes[..5] {
        feed.source(change).await;
    }
    feed.expect_exact().await;
    feed.source("DELETE FROM t; INSERT INTO t SELECT i, i FROM generate_series(1, 10) i").await;
    feed.together(&changes[..5]).await;
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn a_transaction_larger_than_a_piece() {
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v text); CREATE TABLE o (id int PRIMARY KEY, n int); INSERT INTO o SELECT i, 0 FROM generate_series(1, 50) i")
        .ways(&[Way::Pieces, Way::Default])
        .start()
        .await;
    feed.source(
        "INSERT INTO t SELECT i, i, repeat('x', 200) FROM generate_series(1, 3000) i; UPDATE o SET n = n + 1; UPDATE t SET v = 'y' WHERE id % 2 = 0;
         UPDATE t SET u = -u WHERE id <= 100; UPDATE t SET u = 101 + u WHERE id <= 100; UPDATE t SET id = id + 10000 WHERE id > 2900; DELETE FROM t WHERE id % 3 = 0; UPDATE o SET n = n + 1",
    )
    .await;
    feed.together(&["UPDATE o SET n = n + 1", "DELETE FROM t WHERE id % 5 = 0; INSERT INTO t SELECT i, i, repeat('z', 300) FROM generate_series(20001, 22000) i", "UPDATE o SET n = n + 1", "TRUNCATE t; INSERT INTO t VALUES (1, 1, 'a')"])
        .await;
    for status in feed.expect_exact().await {
        assert_eq!(status.count("transactions"), 5, "{:#}", status.0);
    }
    feed.end().await;
}

#[tokio::test]
async fn a_large_transaction_in_which_every_piece_fails_once() {
    // Each piece meets rows that are in the way, so each is undone and applied again inside the one open transaction.
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, v text)").ways(&[Way::Pieces]).start().await;
    feed.target("INSERT INTO t SELECT i, 'in the way' FROM generate_series(1, 3000, 100) i").await;
    feed.source("INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 3000) i").await;
    for status in feed.expect_same().await {
        assert_eq!(status.count("overwritten"), 30);
    }
    feed.end().await;
}

/// What is put off to the end of the transaction refuses a row of its first part when the last one is in.
#[tokio::test]
async fn a_large_transaction_that_the_target_refuses_at_its_commit_is_not_there_in_part() {
    let table = "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE o (id int PRIMARY KEY);";
    let refusing = "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.id = 1 THEN RAISE EXCEPTION 'not this one' USING ERRCODE = 'check_violation'; END IF; RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse();
        ALTER TABLE t ENABLE ALWAYS TRIGGER late";
    // The last part has changes of ours, or none.
    for last in ["INSERT INTO t VALUES (9999, 'last')", "INSERT INTO o VALUES (9999)"] {
        let mut feed = Feed::of(table).into(&format!("{table}{refusing}")).ways(&[Way::Pieces]).start().await;
        feed.source(&format!(
            "INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 3000) i; {last}"
        ))
        .await;
        assert!(feed.errors().await.iter().all(|code| code == "23514"));
        feed.source("INSERT INTO t VALUES (10000, 'after')").await;
        assert!(feed.errors().await.iter().all(|code| code == "23514"));
        feed.expect_on_targets("SELECT count(*) FROM t", &["0"]).await;
        feed.target("DROP TRIGGER late ON t").await;
        feed.expect_exact().await;
        feed.end().await;
    }
}

#[tokio::test]
async fn transactions_side_by_side_and_beyond_decoding_memory() {
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 10) i")
        .own_servers()
        .ways(&[Way::Default, Way::Pieces])
        .start()
        .await;
    feed.source.sql("postgres", "ALTER SYSTEM SET logical_decoding_work_mem = '64kB'").await;
    feed.source.reload().await;
    let one = feed.source.connect(&feed.database).await;
    let two = feed.source.connect(&feed.database).await;
    one.batch_execute("BEGIN; INSERT INTO t SELECT i, repeat('a', 100) FROM generate_series(1000, 2000) i")
        .await
        .unwrap();
    two.batch_execute("BEGIN; INSERT INTO t SELECT i, repeat('b', 100) FROM generate_series(3000, 4000) i; UPDATE t SET v = 'two' WHERE id = 1").await.unwrap();
    feed.source("UPDATE t SET v = 'three' WHERE id = 2").await;
    one.batch_execute(
        "SAVEPOINT s; UPDATE t SET v = 'one' WHERE id > 1000; ROLLBACK TO s; DELETE FROM t WHERE id > 1900",
    )
    .await
    .unwrap();
    two.batch_execute("COMMIT").await.unwrap();
    one.batch_execute("UPDATE t SET v = 'one' WHERE id IN (1, 1500); COMMIT").await.unwrap();
    feed.expect_exact().await;
    feed.end().await;
}

#[tokio::test]
async fn prepared_transactions_arrive_when_they_commit() {
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, v text)")
        .own_servers()
        .ways(&[Way::Default])
        .start()
        .await;
    feed.source("BEGIN; INSERT INTO t VALUES (1, 'prepared'); PREPARE TRANSACTION 'one'").await;
    feed.source("BEGIN; INSERT INTO t VALUES (2, 'never'); PREPARE TRANSACTION 'two'").await;
    feed.source("INSERT INTO t VALUES (3, 'plain')").await;
    feed.applied().await;
    feed.expect_on_targets("SELECT id FROM t", &["3"]).await;
    feed.source("COMMIT PREPARED 'one'").await;
    feed.source("ROLLBACK PREPARED 'two'").await;
    feed.expect_exact().await;
    feed.source("BEGIN; INSERT INTO t VALUES (4, 'prepared'); PREPARE TRANSACTION 'three'").await;
    feed.source.restart(crate::support::postgres::Stop::Immediate).await;
    feed.source.sql(&feed.database, "COMMIT PREPARED 'three'").await;
    feed.expect_same_content().await;
    feed.end().await;
}

#[tokio::test]
async fn ddl_that_waits_for_the_snapshot_and_holds_up_the_run_goes_on() {
    // Behind the TRUNCATE, which waits for the snapshot's locks, the run's own sessions would wait for ever.
    let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 10); CREATE TABLE u (id int PRIMARY KEY)")
        .ways(&[Way::Default])
        .prepare()
        .await;
    feed.restart_with("slot-recorded", "sleep(2000)").await;
    let held = "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 't'::regclass AND mode = 'AccessShareLock' AND granted)";
    feed.source.wait_until(&feed.database, held, std::time::Duration::from_secs(30)).await;
    tokio::time::timeout(
        std::time::Duration::from_secs(15),
        feed.source("TRUNCATE t; INSERT INTO t VALUES (100)"),
    )
    .await
    .expect("the TRUNCATE goes on");
    feed.wait_live().await;
    feed.source("UPDATE t SET id = id + 1; INSERT INTO u VALUES (1)").await;
    feed.expect_exact().await;
    feed.end().await;
}
