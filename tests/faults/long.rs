//! What takes long, or is large: scaled down here, at full size under `scripts/test --all`.

use std::time::{Duration, Instant};

use super::{DB, Scene};
use crate::support::oracle::{self, Events};
use crate::support::walferry::Running;
use crate::support::{Postgres, Walferry, options};

fn size<T>(scaled: T, full: T) -> T {
    if options::full() { full } else { scaled }
}

fn patience() -> Duration {
    Duration::from_secs(size(120, 3600))
}

async fn applied(scene: &Scene, position: pg::Lsn) {
    let applied = format!("SELECT max(end_lsn) >= '{position}' FROM walferry.progress");
    scene.target.wait_until(DB, &applied, patience()).await;
}

/// A walsender that has heard nothing for two seconds goes; it must be the same one at the end.
async fn impatient() -> Scene {
    Scene::small_with(
        Postgres::builder(15)
            .database(DB)
            .setting("wal_sender_timeout", "2000")
            .setting("max_locks_per_transaction", "512"),
        Postgres::builder(15).database(DB).setting("max_locks_per_transaction", "512"),
    )
    .await
}

/// Scaled down with the rows: a piece or a queue without bounds would hold more than the limit.
fn small(scene: &Scene) -> Walferry {
    let sizes = ["--set", "apply.batch_bytes=1MB", "--set", "apply.queue_bytes=4MB"];
    scene.run().args(size(&sizes[..], &[]))
}

async fn walsender(scene: &Scene) -> i32 {
    scene
        .source
        .value("postgres", "SELECT pid FROM pg_stat_replication WHERE application_name = 'walferry'")
        .await
}

/// Memory at rest, and what it grew by during `work`; the connection to the source has lived through it.
async fn in_little_memory(scene: &Scene, running: &Running, what: &str, work: impl AsyncFnOnce()) {
    let (before, pid, began) = (running.peak_memory(), walsender(scene).await, Instant::now());
    work().await;
    applied(scene, oracle::marker(&scene.source, DB).await).await;
    let grown = running.peak_memory().saturating_sub(before) >> 20;
    eprintln!("{what}: {:.1} s, {grown} MB more than before", began.elapsed().as_secs_f64());
    assert!(grown < size(48, 200), "{what}: {grown} MB more");
    assert_eq!(pid, walsender(scene).await, "{what}: the walsender has given up");
}

#[tokio::test]
async fn row_67_one_transaction_of_many_rows_and_one_of_many_subtransactions() {
    let scene = impatient().await;
    let events = Events::record(&scene.source, DB).await;
    scene.source.sql(DB, "CREATE TABLE many (id int PRIMARY KEY, v text)").await;
    let (rows, subtransactions) = (size(300_000, 10_000_000), size(3_000, 100_000));
    let mut running = small(&scene).spawn();
    running.wait_for_step("live").await;
    in_little_memory(&scene, &running, &format!("{rows} rows in one transaction"), async || {
        let insert = format!("INSERT INTO many SELECT i, 'row ' || i FROM generate_series(1, {rows}) i");
        scene.source.sql(DB, &insert).await;
    })
    .await;
    // Every other one is rolled back, with the descriptions of its tables that it brought along.
    let statements = format!(
        "DO $$ BEGIN FOR i IN 1..{subtransactions} LOOP
             BEGIN UPDATE many SET v = 'sub ' || i WHERE id = i; INSERT INTO many VALUES (-i, 'sub');
                   IF i % 2 = 0 THEN RAISE division_by_zero; END IF;
             EXCEPTION WHEN division_by_zero THEN NULL; END;
         END LOOP; END $$"
    );
    in_little_memory(&scene, &running, &format!("{subtransactions} subtransactions"), async || {
        scene.source.sql(DB, &statements).await;
    })
    .await;
    let status = running.status().await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    let expected = rows + subtransactions / 2 + subtransactions % 2;
    assert_eq!(status.count("inserted"), expected as u64, "{:#}", status.0);
    if !options::full() {
        events.expect_applied(&status).await;
    }
}

#[tokio::test]
async fn row_67_many_tables() {
    let scene = impatient().await;
    let tables = size(200, 5_000);
    // In several transactions: a lock each.
    for first in (1..=tables).step_by(500) {
        let last = (first + 499).min(tables);
        let statement = format!(
            "DO $$ BEGIN FOR i IN {first}..{last} LOOP
                 EXECUTE format('CREATE TABLE many_%s (id int PRIMARY KEY, v text); INSERT INTO many_%s VALUES (1, ''a''), (2, ''b'')', i, i);
             END LOOP; END $$"
        );
        scene.source.sql(DB, &statement).await;
    }
    let events = Events::record(&scene.source, DB).await;
    let began = Instant::now();
    let running = small(&scene).spawn();
    let live = "SELECT count(*) = 1 FROM pg_stat_replication WHERE application_name = 'walferry' AND state = 'streaming'";
    scene.source.wait_until("postgres", live, patience()).await;
    applied(&scene, oracle::marker(&scene.source, DB).await).await;
    eprintln!("{tables} tables: streaming after {:.1} s", began.elapsed().as_secs_f64());
    in_little_memory(&scene, &running, &format!("a change of each of {tables} tables"), async || {
        for first in (1..=tables).step_by(500) {
            let last = (first + 499).min(tables);
            let statement = format!(
                "DO $$ BEGIN FOR i IN {first}..{last} LOOP EXECUTE format('UPDATE many_%s SET v = ''c'' WHERE id = 1; DELETE FROM many_%s WHERE id = 2', i, i); END LOOP; END $$"
            );
            scene.source.sql(DB, &statement).await;
        }
    })
    .await;
    let status = running.status().await;
    events.expect_applied(&status).await;
    assert_eq!((status.count("updated"), status.count("deleted")), (tables as u64, tables as u64));
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
}

/// Nothing of ours happens, and the server's WAL grows by what somebody else does: the slot follows, and the WAL is let go.
#[tokio::test]
async fn row_76_an_idle_source_beside_a_busy_database_lets_its_wal_go() {
    let scene = Scene::small_with(
        Postgres::builder(15).database(DB).setting("max_wal_size", "64MB").setting("wal_keep_size", "0"),
        Postgres::builder(15).database(DB),
    )
    .await;
    scene.source.create_database("busy").await;
    scene.source.sql("busy", "CREATE TABLE b (id serial, v text)").await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let end = Instant::now() + Duration::from_secs(size(0, 1800));
    let mut rounds = 0;
    while rounds < 4 || Instant::now() < end {
        rounds += 1;
        let busy = "INSERT INTO b (v) SELECT repeat('x', 1000) FROM generate_series(1, 30000); TRUNCATE b";
        scene.source.sql("busy", busy).await;
        let position = scene.source.wal_position().await;
        // No transaction of this database in between, not even a marker.
        let follows = format!(
            "SELECT confirmed_flush_lsn >= '{position}' FROM pg_replication_slots WHERE slot_name = 'walferry'"
        );
        scene.source.wait_until("postgres", &follows, Duration::from_secs(90)).await;
        if options::full() {
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
    scene.source.sql("postgres", "CHECKPOINT").await;
    let retained = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < 48 * 1024 * 1024 FROM pg_replication_slots WHERE slot_name = 'walferry'";
    scene.source.wait_until("postgres", retained, Duration::from_secs(60)).await;
    let status = running.wait_for("no lag", |status| status.0["lag_ms"].as_u64() == Some(0)).await;
    assert_eq!(status.count("transactions"), 0, "{:#}", status.0);
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    scene.goes_on_small().await;
}

/// Somebody on the target looks at one snapshot for a long time: what they could see can't be cleaned up, and the progress row is not
/// found any slower for it. Counted in blocks, which a busy machine does not change.
#[tokio::test]
async fn progress_does_not_slow_down_while_a_snapshot_is_held_on_the_target() {
    let scene = Scene::small().await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let holder = scene.target.connect(DB).await;
    holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM t").await.unwrap();
    let client = scene.source.connect(DB).await;
    let end = Instant::now() + Duration::from_secs(size(0, 600));
    let mut commits = 0;
    while commits < 1500 || Instant::now() < end {
        client.batch_execute(&format!("UPDATE t SET v = '{commits}' WHERE id = 1")).await.unwrap();
        commits += 1;
        if commits % 50 == 0 {
            // One transaction of the target for each of these at the least: there is no end to the batching otherwise.
            running.wait_applied(oracle::marker(&scene.source, DB).await).await;
        }
    }
    let status = running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    let rows: i64 = scene.target.value(DB, "SELECT max(seq) FROM walferry.progress").await;
    let touched = |plan: &str| -> u64 {
        let of = |what: &str| {
            let found = plan.split(what).nth(1).unwrap_or("0");
            found.chars().take_while(char::is_ascii_digit).collect::<String>().parse::<u64>().unwrap_or(0)
        };
        of("shared hit=") + of("read=")
    };
    let explain = "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) SELECT seq, end_lsn FROM walferry.progress WHERE run = 'walferry' ORDER BY seq DESC LIMIT 1";
    let plan: Vec<String> = scene.target.text(DB, explain).await.into_iter().flatten().flatten().collect();
    let blocks = touched(&plan.join("\n"));
    let held: i64 = scene.target.value(DB, "SELECT pg_relation_size('walferry.progress') / 8192").await;
    eprintln!(
        "{commits} commits and {rows} progress rows under a held snapshot: {held} blocks of table, {blocks} touched to find the newest"
    );
    assert!(rows >= 30, "{rows} target transactions are too few to tell");
    assert!(blocks <= 8, "{blocks} blocks to find the newest row:\n{}", plan.join("\n"));
    holder.batch_execute("COMMIT").await.unwrap();
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
}

/// The run is stopped, WAL piles up nearly to `max_slot_wal_keep_size`, and the next start takes it all along in time.
#[tokio::test]
async fn row_57_retained_wal_comes_close_to_its_limit() {
    let scene = Scene::small_with(
        Postgres::builder(15)
            .database(DB)
            .setting("max_slot_wal_keep_size", size("192MB", "2GB"))
            .setting("max_wal_size", "64MB"),
        Postgres::builder(15).database(DB),
    )
    .await;
    scene.source.sql(DB, "CREATE TABLE w (id serial PRIMARY KEY, v text)").await;
    scene.stopped().await;
    let events = Events::record(&scene.source, DB).await;
    let used = format!(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::int8 > {} FROM pg_replication_slots WHERE slot_name = 'walferry'",
        size(150_i64 << 20, 1900 << 20)
    );
    while !scene.source.value::<bool>("postgres", &used).await {
        scene
            .source
            .sql(DB, "INSERT INTO w (v) SELECT repeat('x', 1000) FROM generate_series(1, 8000)")
            .await;
    }
    scene.source.sql("postgres", "CHECKPOINT").await;
    let running = scene.run().args(&["--max-retained-wal", "16MB"]).spawn();
    applied(&scene, oracle::marker(&scene.source, DB).await).await;
    assert!(running.stderr().contains("limits.max_retained_wal"), "{}", running.stderr());
    scene.source.sql("postgres", "CHECKPOINT").await;
    let status = running.status().await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
}

/// Told to, it gives the slot up before the source's disk is full; the run is over, and says so at every start.
#[tokio::test]
async fn row_57_the_slot_is_dropped_at_the_limit_that_was_given() {
    let scene = Scene::small().await;
    let run = || scene.run().args(&["--max-retained-wal", "32MB", "--on-limit", "drop"]);
    let mut running = run().spawn();
    running.wait_for_step("live").await;
    // The target is held up: nothing can be acknowledged.
    let locker = scene.target.connect(DB).await;
    locker.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    scene.source.sql(DB, "UPDATE t SET v = 'held up'; CREATE TABLE w AS SELECT repeat('x', 1000) FROM generate_series(1, 50000)").await;
    let ended = running.wait_exit_within(Duration::from_secs(60)).await.expect_code(4);
    assert!(
        ended.stderr.contains("SLOT_DROPPED") && ended.stderr.contains("walferry clean"),
        "{}",
        ended.said()
    );
    let slots: i64 = scene.source.value("postgres", "SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(slots, 0, "the slot still keeps the WAL");
    locker.batch_execute("COMMIT").await.unwrap();
    let again = run().run().await.expect_code(4);
    assert!(again.stderr.contains("SLOT_MISSING"), "{}", again.said());
}
