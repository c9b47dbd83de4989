//! Taking and keeping the snapshot: who is in the way is named, DDL that waits is named, and a table that was rewritten is noticed.

use std::time::Duration;

use crate::support::{Postgres, Walferry, oracle};

const SOON: Duration = Duration::from_secs(30);

async fn pair(schema: &str) -> (Postgres, Postgres) {
    let pair = tokio::join!(
        Postgres::builder(15).database("app").start(),
        Postgres::builder(15).database("app").start()
    );
    pair.0.sql("app", schema).await;
    pair
}

#[tokio::test]
async fn open_and_prepared_transactions_are_waited_for_and_named() {
    let (source, target) =
        pair("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)").await;
    source.sql("app", "BEGIN; INSERT INTO other VALUES (1); PREPARE TRANSACTION 'gid ''1'").await;
    let open = source.connect("app").await;
    open.batch_execute("SET application_name = 'batch'; BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let mut running = Walferry::new(&source.uri("app"), &target.uri("app")).command("replicate").spawn();
    running.wait_for_stderr("prepared transaction \"gid '1\"").await;
    running.wait_for_stderr("application \"batch\"").await;
    let waiting =
        running.wait_for("whom it waits for", |status| status.0.to_string().contains("gid '1")).await;
    assert_eq!(waiting.step(), "slot");
    open.batch_execute("COMMIT").await.unwrap();
    source.sql("app", "COMMIT PREPARED 'gid ''1'").await;
    running.wait_for_step("live").await;
    oracle::expect_same(&source.uri("app"), &target.uri("app")).await;
}

#[tokio::test]
async fn past_the_limit_the_error_names_them() {
    for major in [10, 15, 18] {
        past_the_limit(major).await;
    }
}

async fn past_the_limit(major: u32) {
    let (source, target) = tokio::join!(
        Postgres::builder(major).database("app").start(),
        Postgres::builder(15).database("app").start()
    );
    source.sql("app", "CREATE TABLE t (id int PRIMARY KEY)").await;
    let open = source.connect("app").await;
    open.batch_execute("BEGIN; INSERT INTO t VALUES (1)").await.unwrap();
    let mut running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .args(&["--set", "slot.wait=1s"])
        .spawn();
    let status = running.wait_for_error().await;
    assert_eq!(status.error_code(), Some("SLOT_BLOCKED"), "{status:?}");
    assert!(status.0["error"]["hint"].as_str().unwrap().contains("pg_terminate_backend("), "{status:?}");
    open.batch_execute("COMMIT").await.unwrap();
    running.wait_for_step("live").await;
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM t").await, 1);
}

/// Holds the copy up on the target, so that the snapshot is kept for as long as the test wants.
async fn kept(
    source: &Postgres,
    target: &Postgres,
    more: &[&str],
) -> (crate::support::walferry::Running, tokio_postgres::Client) {
    target.sql("app", "CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    source.sql("app", "CREATE PUBLICATION p FOR TABLE t").await;
    let lock = target.connect("app").await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").await.unwrap();
    let running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .args(&["--publication", "p", "--existing-schema"])
        .args(more)
        .spawn();
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass)";
    target.wait_until("app", waits, SOON).await;
    (running, lock)
}

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT g, 'v' FROM generate_series(1, 1000) g";

#[tokio::test]
async fn ddl_that_waits_for_the_copy_is_named() {
    let (source, target) = pair(TABLE).await;
    let (mut running, lock) = kept(&source, &target, &[]).await;
    let (ddl, reader) = (source.connect("app").await, source.connect("app").await);
    let alter = tokio::spawn(async move {
        ddl.batch_execute("ALTER TABLE t ALTER v SET STATISTICS 10; ALTER TABLE t ADD COLUMN w int").await
    });
    running.wait_for_stderr("waits for AccessExclusiveLock on table").await;
    // Somebody queues up behind it.
    let read = tokio::spawn(async move { reader.batch_execute("SELECT count(*) FROM t").await });
    let status =
        running.wait_for("who waits", |status| status.0.to_string().contains("holds up 1 more")).await;
    assert_eq!(status.step(), "copy");
    lock.batch_execute("ROLLBACK").await.unwrap();
    tokio::time::timeout(SOON, alter).await.expect("DDL goes on").unwrap().unwrap();
    read.await.unwrap().unwrap();
    target.wait_until("app", "SELECT count(*) = 1000 FROM t", SOON).await;
}

#[tokio::test]
async fn told_to_yield_it_gives_the_copy_up_and_takes_it_up_again() {
    let (source, target) = pair(TABLE).await;
    let (mut running, lock) = kept(&source, &target, &["--yield-to-ddl"]).await;
    let ddl = source.connect("app").await;
    let alter = ddl.batch_execute("ALTER TABLE t ALTER v TYPE varchar(10)");
    tokio::time::timeout(SOON, alter).await.expect("the copy yields").unwrap();
    lock.batch_execute("ROLLBACK").await.unwrap();
    running.wait_for_step("live").await;
    let same = oracle::Scope::only(&["public.t"]);
    let marker = oracle::marker(&source, "app").await;
    running.wait_applied(marker).await;
    let sum = "SELECT count(*)::text || sum(id) || max(v) FROM t";
    assert_eq!(source.value::<String>("app", sum).await, target.value::<String>("app", sum).await);
    drop(same);
}

#[cfg(feature = "failpoints")]
#[tokio::test]
async fn whoever_holds_a_table_that_is_to_be_read_is_named() {
    let (source, target) = pair(TABLE).await;
    let holder = source.connect("app").await;
    let mut running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .failpoint("slot-created", "1*sleep(3000)->off")
        .spawn();
    source.wait_until("app", SLOT_THERE, SOON).await;
    holder
        .batch_execute("SET application_name = 'holder'; BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    running.wait_for_stderr("application \"holder\"").await;
    holder.batch_execute("ROLLBACK").await.unwrap();
    running.wait_for_step("live").await;
    oracle::expect_same(&source.uri("app"), &target.uri("app")).await;
}

/// Who holds one table and wants another one is in a deadlock with a keeper that holds that one and waits for the first. It is the keeper
/// that lets go.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn tables_locked_in_another_order_cost_nobody_a_transaction() {
    let (source, target) = pair(
        "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (1)",
    )
    .await;
    let holder = source.connect("app").await;
    let mut running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .failpoint("slot-created", "1*sleep(3000)->off")
        .spawn();
    source.wait_until("app", SLOT_THERE, SOON).await;
    holder
        .batch_execute("SET application_name = 'holder'; BEGIN; LOCK TABLE b IN ACCESS EXCLUSIVE MODE; INSERT INTO b VALUES (2)")
        .await
        .unwrap();
    // The keeper has waited for longer than deadlock_timeout: from here on it would be the holder that finds the deadlock, and loses.
    running.wait_for("whom it waits for", |status| status.0["waiting"].to_string().contains("holder")).await;
    holder.batch_execute("LOCK TABLE a IN ACCESS EXCLUSIVE MODE; INSERT INTO a VALUES (1)").await.unwrap();
    holder.batch_execute("COMMIT").await.unwrap();
    running.wait_for_step("live").await;
    assert_eq!(source.value::<i64>("app", "SELECT sum(deadlocks)::int8 FROM pg_stat_database").await, 0);
    running.wait_applied(oracle::marker(&source, "app").await).await;
    oracle::expect_same(&source.uri("app"), &target.uri("app")).await;
}

#[cfg(feature = "failpoints")]
const SLOT_THERE: &str =
    "SELECT EXISTS (SELECT FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL)";

/// TRUNCATE and rewrites between the slot and the lock make a table read as empty through the snapshot.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_table_rewritten_between_slot_and_lock_is_noticed() {
    let (source, target) = pair(TABLE).await;
    let mut running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .failpoint("slot-created", "1*sleep(3000)->off")
        .spawn();
    source.wait_until("app", SLOT_THERE, SOON).await;
    source.sql("app", "ALTER TABLE t ADD COLUMN w float DEFAULT random()").await;
    running.wait_for_stderr("starting over with a new one").await;
    running.wait_for_step("live").await;
    assert_eq!(target.value::<i64>("app", "SELECT count(*) FROM t WHERE w IS NOT NULL").await, 1000);
    oracle::expect_same(&source.uri("app"), &target.uri("app")).await;
}

/// DDL waits for the snapshot's locks, and the copy for the DDL: the snapshot is given up, and the DDL is carried out before the copy gets its
/// own lock. What it reads then is an empty table.
#[cfg(feature = "failpoints")]
#[tokio::test]
async fn a_table_rewritten_while_its_copy_waits_is_copied_from_a_new_snapshot() {
    let (source, target) =
        pair(&format!("{TABLE}; CREATE TABLE first (id int PRIMARY KEY, v text); INSERT INTO first SELECT g, repeat('v', 500) FROM generate_series(1, 1000) g"))
            .await;
    for table in ["first", "t"] {
        target.sql("app", &format!("CREATE TABLE {table} (id int PRIMARY KEY, v text)")).await;
    }
    let lock = target.connect("app").await;
    lock.batch_execute("BEGIN; LOCK TABLE first IN SHARE MODE").await.unwrap();
    let mut running = Walferry::new(&source.uri("app"), &target.uri("app"))
        .command("replicate")
        .args(&["--existing-schema", "--jobs", "1"])
        // The copy has time to end before anybody hears of the snapshot.
        .failpoint("copy-snapshot-ended", "1*sleep(3000)->off")
        .spawn();
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'first'::regclass)";
    target.wait_until("app", waits, SOON).await;
    let ddl = source.connect("app").await;
    let alter =
        tokio::spawn(async move { ddl.batch_execute("ALTER TABLE t ALTER v TYPE varchar(10)").await });
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass)";
    source.wait_until("app", waits, SOON).await;
    lock.batch_execute("ROLLBACK").await.unwrap();
    tokio::time::timeout(SOON, alter).await.expect("the snapshot is given up").unwrap().unwrap();
    running.wait_for_stderr("the snapshot is given up").await;
    running.wait_for_step("live").await;
    running.wait_applied(oracle::marker(&source, "app").await).await;
    let sum = "SELECT count(*)::text || sum(id) || max(v) FROM t";
    assert_eq!(source.value::<String>("app", sum).await, target.value::<String>("app", sum).await);
}
