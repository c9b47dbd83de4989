//! Single sessions that are ended while the others live: of the copy, of the stream, of somebody else's deadlock.

use std::time::Duration;

use super::{DB, Scene, nothing_twice};
use crate::support::oracle::{self, Events};
use crate::support::walferry::Running;
use crate::support::{Load, Postgres, Proxy, Walferry};

const SOON: Duration = Duration::from_secs(60);

/// Tables of which one is read in several ranges, and a target that takes them slowly enough to be met in the middle.
async fn large() -> Scene {
    let scene = Scene::new().await;
    scene
        .source
        .sql(
            DB,
            "CREATE TABLE wide (id int PRIMARY KEY, v text);
             INSERT INTO wide SELECT i, repeat(md5(i::text), 40) FROM generate_series(1, 6000) i; ANALYZE wide",
        )
        .await;
    scene
}

const SMALL_PIECES: [&str; 6] =
    ["--set", "copy.chunk_bytes_min=1MB", "--set", "copy.chunk_bytes_max=1MB", "--jobs", "2"];

/// Ends the source's sessions of that name, and waits until there was one.
async fn end(server: &Postgres, what: &str) {
    let end = format!("SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE {what}");
    server.wait_until("postgres", &end, SOON).await;
}

async fn through(scene: &Scene, running: Running, load: Load, events: &Events<'_>) {
    let mut running = running;
    running.wait_for_step("live").await;
    load.wait_committed(load.committed() + 30).await;
    scene.close(running, load, events).await;
}

/// How often a snapshot was taken: the slot's own, and each temporary one's.
fn snapshots(server: &Postgres) -> usize {
    server.log().matches("CREATE_REPLICATION_SLOT").count()
        // The statement stands in the line of its own log_replication_commands and in those of its context.
        - server.log().matches("STATEMENT:  CREATE_REPLICATION_SLOT").count()
}

/// The first look at a side is cut short: nothing is refused for it, it is made again.
#[tokio::test]
async fn a_session_that_ends_during_the_first_look_refuses_nothing() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut run = scene.run();
    for side in ["source", "target"] {
        run = run.failpoint(&format!("preflight-{side}"), "1*sleep(4000)->off");
    }
    let mut running = run.spawn();
    // At once: both looks are held for as long, whichever began first.
    let check = "application_name LIKE '%(check)'";
    tokio::join!(end(&scene.source, check), end(&scene.target, check));
    running.wait_for_stderr("was cut short").await;
    through(&scene, running, load, &events).await;
}

/// The connection that made the slot is gone; the keeper, which exported the snapshot again, is not: nothing starts over.
#[tokio::test]
async fn row_18_the_replication_connection_ends_while_the_keeper_lives() {
    let scene = large().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running =
        scene.run().args(&SMALL_PIECES).failpoint("copy-piece-before-commit", "3*sleep(700)").spawn();
    running.wait_for_step("copy").await;
    let walsenders =
        "SELECT count(pg_terminate_backend(pid)) >= 0 FROM pg_stat_activity WHERE backend_type = 'walsender'";
    scene.source.wait_until("postgres", walsenders, SOON).await;
    let status = running.wait_for_step("live").await;
    let copied: Vec<_> = status.tables().into_iter().map(|(_, _, at)| at).collect();
    assert!(
        copied.iter().all(|at| *at == status.lsn("slot_lsn")),
        "another snapshot was taken: {:#}",
        status.0
    );
    assert_eq!(snapshots(&scene.source), 1, "{}", scene.source.log());
    through(&scene, running, load, &events).await;
}

#[tokio::test]
async fn row_19_the_keeper_ends_and_only_unfinished_tables_start_over() {
    let scene = large().await;
    // Largest first: `wide` is the first, and whole when the keeper ends.
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running =
        scene.run().args(&["--jobs", "1"]).failpoint("copy-after-commit", "1*sleep(5000)").spawn();
    running.wait_for("a table", |status| status.tables().iter().any(|(_, _, at)| at.is_some())).await;
    end(&scene.source, "application_name = 'walferry (keeper)' AND state = 'idle in transaction'").await;
    let status = running.wait_for_step("live").await;
    let slot = status.lsn("slot_lsn");
    let (first, again): (Vec<_>, Vec<_>) = status.tables().into_iter().partition(|(_, _, at)| *at == slot);
    assert_eq!(first.len(), 1, "what was copied stays: {first:?}, {again:?}");
    assert!(again.iter().all(|(_, _, at)| *at > slot), "{again:?}");
    assert_eq!(snapshots(&scene.source), 2);
    through(&scene, running, load, &events).await;
}

#[tokio::test]
async fn row_20_a_copy_worker_ends_and_only_its_piece_is_done_again() {
    let scene = large().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running = scene.run().args(&SMALL_PIECES).failpoint("copy-piece-midway", "sleep(40)").spawn();
    running.wait_for_step("copy").await;
    // Another piece is on its way when half of it is there: it goes with the session that writes it.
    let piece =
        "application_name = 'walferry (copy)' AND state = 'active' AND query ILIKE 'COPY%wide%FROM STDIN%'";
    let ended = format!(
        "SELECT CASE WHEN (SELECT count(*) FROM wide) >= 3000
             THEN (SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_activity WHERE {piece}) ELSE false END"
    );
    scene.target.wait_until(DB, &ended, SOON).await;
    let status = running.wait_for_step("live").await;
    let slot = status.lsn("slot_lsn");
    assert!(
        status.tables().iter().all(|(_, _, at)| *at == slot),
        "another snapshot was taken: {:#}",
        status.0
    );
    assert_eq!(
        status.count("copied_rows"),
        scene_rows(&status),
        "rows that are counted twice: {:#}",
        status.0
    );
    assert_eq!(snapshots(&scene.source), 1);
    let written = "SELECT n_tup_ins FROM pg_stat_user_tables WHERE relname = 'wide'";
    through(&scene, running, load, &events).await;
    let written: i64 = scene.target.value(DB, written).await;
    assert!(
        (6000..8000).contains(&written),
        "{written} rows written for 6000: more than a piece was done again"
    );
}

/// The target has the rows and nobody hears of it: they don't come a second time into a table that is not emptied, as it is not ours.
#[tokio::test]
async fn row_5_the_reply_to_the_commit_of_a_table_s_rows_is_lost() {
    let scene = Scene::small().await;
    let table = "CREATE TABLE plain (v text); ALTER TABLE plain REPLICA IDENTITY FULL";
    scene
        .source
        .sql(DB, &format!("DROP TABLE t; {table}; INSERT INTO plain VALUES ('a'), ('b'), ('c')"))
        .await;
    scene.target.sql(DB, table).await;
    let events = Events::record(&scene.source, DB).await;
    let proxy = Proxy::to(&scene.target).await;
    let run = Walferry::new(&scene.source.uri(DB), &proxy.uri(DB)).command("migrate");
    let run =
        run.args(&["--existing-schema", "--jobs", "1"]).failpoint("copy-before-commit", "1*sleep(2000)");
    let mut running = run.spawn();
    let about_to = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'walferry (copy)'
                    AND state = 'idle in transaction' AND query LIKE 'UPDATE walferry.tables%'";
    scene.target.wait_until(DB, about_to, SOON).await;
    proxy.lose_reply(b"COMMIT");
    proxy.wait_until("a reply to be lost", SOON, |proxy| proxy.lost_replies() == 1).await;
    running.wait_for_step("live").await;
    scene.source.sql(DB, "UPDATE plain SET v = 'z' WHERE v = 'b'; INSERT INTO plain VALUES ('d')").await;
    let status = running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
    nothing_twice(&status);
}

fn scene_rows(status: &crate::support::walferry::Status) -> u64 {
    let tables = status.0["tables"].as_array().map(Vec::as_slice).unwrap_or_default();
    tables.iter().filter_map(|table| table["rows"].as_u64()).sum()
}

/// Somebody on the target locks two rows in the order that the source's transaction does not.
#[tokio::test]
async fn row_71_a_deadlock_on_the_target_costs_nothing_but_time() {
    let scene = Scene::small_with(
        Postgres::builder(15).database(DB),
        Postgres::builder(15).database(DB).setting("deadlock_timeout", "300ms"),
    )
    .await;
    let events = Events::record(&scene.source, DB).await;
    let mut running =
        scene.run().args(&["--set", "apply.set_threshold=0", "--set", "apply.coalesce=off"]).spawn();
    running.wait_for_step("live").await;
    for round in 0..2 {
        let (holder, user) = (scene.target.connect(DB).await, scene.target.connect(DB).await);
        holder.batch_execute("BEGIN; SELECT FROM t WHERE id = 2 FOR UPDATE").await.unwrap();
        // As replica: the triggers that keep ordinary writers off are not what this is about. It never gives way itself.
        user.batch_execute(
            "SET session_replication_role = replica; SET deadlock_timeout = '1h'; BEGIN; SELECT FROM t WHERE id = 3 FOR UPDATE",
        )
        .await
        .unwrap();
        let pid: i32 = user.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
        let update = |id: i32| format!("UPDATE t SET v = 'round {round}' WHERE id = {id};");
        scene.source.sql(DB, &[1, 2, 3].map(update).concat()).await;
        // It has the first row, and waits for the holder's.
        let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'walferry' AND wait_event_type = 'Lock'";
        scene.target.wait_until(DB, waits, SOON).await;
        let wants =
            tokio::spawn(
                async move { user.batch_execute("SELECT FROM t WHERE id = 1 FOR UPDATE; COMMIT").await },
            );
        let waits = format!("SELECT wait_event_type = 'Lock' FROM pg_stat_activity WHERE pid = {pid}");
        scene.target.wait_until(DB, &waits, SOON).await;
        // Only now does it come to the third row, and looks for a deadlock while there is one.
        holder.batch_execute("COMMIT").await.unwrap();
        // Granted as soon as apply has been rolled back.
        wants.await.unwrap().unwrap();
        running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    }
    assert!(scene.target.log().contains("deadlock detected"), "the test made no deadlock");
    let status = running.wait_for("no error", |status| status.0["error"].is_null()).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
    assert_eq!((status.count("missing"), status.count("overwritten"), status.count("skipped")), (0, 0, 0));
}

/// A trigger that always fires finds what PostgreSQL calls a serialization failure, twice.
#[tokio::test]
async fn row_71_a_serialization_failure_on_the_target_is_tried_again() {
    let scene = Scene::small().await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    scene
        .target
        .sql(
            DB,
            "CREATE SEQUENCE tries; CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 IF nextval('public.tries') <= 2 THEN RAISE 'could not serialize access' USING ERRCODE = '40001'; END IF;
                 RETURN NEW; END $$;
             CREATE TRIGGER fail BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION fail();
             ALTER TABLE t ENABLE ALWAYS TRIGGER fail",
        )
        .await;
    scene
        .source
        .sql(DB, "INSERT INTO t VALUES (100, 1, 'x'), (101, 2, 'y'); UPDATE t SET v = 'z' WHERE id = 1")
        .await;
    let status = running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
    let tries: i64 = scene.target.value(DB, "SELECT last_value FROM tries").await;
    assert!(tries >= 4, "the whole transaction was to be tried again, {tries} inserts");
}

/// Its own session is gone, and with it the run, but not those that copy: what they bring goes into a table that is copied anew.
#[tokio::test]
async fn row_20_a_process_that_has_lost_the_run_commits_no_more_pieces() {
    let scene = large().await;
    // Without a key nothing but the comparison would notice rows that came twice.
    scene
        .source
        .sql(DB, "ALTER TABLE wide DROP CONSTRAINT wide_pkey; ALTER TABLE wide REPLICA IDENTITY FULL")
        .await;
    let run = scene.run().args(&SMALL_PIECES);
    let first = run.failpoint("copy-piece-before-commit", "sleep(1000)").spawn();
    let pieces = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name LIKE '%(copy)' AND state = 'idle in transaction' AND query LIKE 'COPY%wide%'";
    scene.target.wait_until(DB, pieces, SOON).await;
    let owner = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_locks
                 WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    scene.target.wait_until(DB, owner, SOON).await;
    let mut second = scene.run().args(&SMALL_PIECES).spawn();
    second.wait_for_step("live").await;
    let output = first.wait_exit_within(SOON).await.expect_code(4);
    assert!(output.said().contains("OWNED_BY"), "{}", output.said());
    let marker = oracle::marker(&scene.source, DB).await;
    second.wait_applied(marker).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    second.sigterm();
    second.wait_exit().await.expect_code(143);
}
