//! The hand-over: nobody writes on both sides, nobody is left without a side to write on, and whatever fails before the target is open
//! leaves the source as it was.

use std::time::Duration;

use super::{DB, Scene};
use crate::support::load::bank;
use crate::support::oracle::{self, Events};
use crate::support::postgres::Stop;
use crate::support::walferry::{Output, Running};
use crate::support::{Load, Walferry};

const SOON: Duration = Duration::from_secs(30);

/// What real schemas have beside tables.
const EXTRAS: &str = "
    CREATE TABLE always (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, v text, noted text);
    CREATE SEQUENCE odd INCREMENT 7 START 100;
    SELECT nextval('odd'), nextval('odd');
    INSERT INTO always (v) SELECT 'v' FROM generate_series(1, 20);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.noted := 'by trigger'; RETURN NEW; END $$;
    CREATE TRIGGER note BEFORE INSERT ON always FOR EACH ROW EXECUTE FUNCTION note();
    CREATE MATERIALIZED VIEW totals AS SELECT count(*) AS n, max(id) AS last FROM always";

async fn scene() -> Scene {
    let scene = Scene::new().await;
    scene.source.sql(DB, EXTRAS).await;
    scene
}

fn cutover(scene: &Scene) -> Walferry {
    scene.run().command("cutover").args(&["--verify", "none", "--json"])
}

/// The target is the primary: writers are refused on the source, whoever they are, and pass on the target.
async fn handed_over(scene: &Scene) {
    for statement in [
        "INSERT INTO always (v) VALUES ('late')",
        "UPDATE big SET v = 'late' WHERE false",
        "DELETE FROM bank.item",
        "TRUNCATE bank.visit",
        "SET session_replication_role = replica; INSERT INTO big VALUES (-1, 'late')",
    ] {
        let error = scene.source.try_sql(DB, statement).await.expect_err(statement);
        let error = error.as_db_error().unwrap();
        assert_eq!(error.code().code(), "25006", "{statement}");
        let place = format!("127.0.0.1:{}", scene.target.port());
        assert!(error.hint().unwrap_or_default().contains(&place), "{error:?}");
    }
    let reads: i64 = scene.source.value(DB, "SELECT count(*) FROM big").await;
    assert!(reads > 0);
    let (source, target) = (scene.source.uri(DB), scene.target.uri(DB));
    oracle::expect_same(&source, &target).await;
    oracle::expect_same_sequences(&source, &target).await;
    scene
        .target
        .sql(DB, "INSERT INTO big VALUES (-1, 'new'); DELETE FROM big WHERE id = -1; UPDATE bank.counter SET last = last; TRUNCATE bank.visit")
        .await;
    let invalid = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND NOT convalidated";
    assert_eq!(scene.target.value::<i64>(DB, invalid).await, 0, "foreign keys are not validated");
    let orphan =
        scene.target.try_sql(DB, "INSERT INTO bank.item (rank, owner, price) VALUES (-1, -1, 0)").await;
    assert_eq!(orphan.unwrap_err().code().unwrap().code(), "23503", "foreign keys are not in force");
}

/// The source takes writes, the target does not, and nothing of the fence is left.
async fn rolled_back(scene: &Scene) {
    let left: i64 = scene
        .source
        .value(
            DB,
            "SELECT (SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'walferry%')
                  + (SELECT count(*) FROM pg_namespace WHERE nspname = 'walferry_fence')
                  + (SELECT count(*) FROM pg_locks WHERE mode = 'ExclusiveLock' AND locktype = 'relation' AND granted)",
        )
        .await;
    assert_eq!(left, 0, "something of the fence is left on the source");
    scene.source.sql(DB, "UPDATE big SET v = v || '.' WHERE id = 1").await;
    let closed = scene.target.try_sql(DB, "UPDATE big SET v = 'x' WHERE id = 1").await;
    assert_eq!(closed.unwrap_err().code().unwrap().code(), "25006", "the target is open");
}

/// Hands over at last, with the load stopped before, and checks content and counts.
async fn at_last(scene: &Scene, mut running: Running, load: Load, events: &Events<'_>) {
    load.wait_committed(load.committed() + 20).await;
    load.stop().await;
    let marker = oracle::marker(&scene.source, DB).await;
    let status = running.wait_applied(marker).await;
    events.expect_applied(&status).await;
    cutover(scene).run().await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
    handed_over(scene).await;
}

#[tokio::test]
async fn a_hand_over_under_load() {
    let scene = scene().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    scene.source.sql(DB, "INSERT INTO always (v) VALUES ('after the copy'); SELECT nextval('odd')").await;
    rolled_back(&scene).await;
    load.wait_committed(load.committed() + 50).await;
    let output = cutover(&scene).run().await.expect_code(0);
    let told = output.json();
    assert_eq!(told["ok"], true);
    assert!(told["downtime_ms"].as_f64().unwrap() > 0.0, "{told}");
    let ended = running.wait_exit_within(SOON).await.expect_code(0);
    assert!(ended.stderr.contains("downtime"), "{}", ended.said());
    let status = scene.run().status().await;
    assert_eq!(status.step(), "done");
    events.expect_applied(&status).await;
    // The application moves; nothing of it got through on the source.
    load.move_to(&scene.target.uri(DB));
    handed_over_with_load(&scene).await;
    let before = load.committed();
    load.wait_committed(before + 50).await;
    let report = load.stop().await;
    assert!(report.refused > 0, "no writer met the fence: {report:?}");
    let violation: Option<String> = scene.target.value(DB, bank::VIOLATION).await;
    assert_eq!(violation, None);
    // Again is no error, and the run is over.
    cutover(&scene).run().await.expect_code(0);
    scene.run().run().await.expect_code(0);
    scene.nothing_open().await;
}

/// As `handed_over`, but for the content, which the load is changing already.
async fn handed_over_with_load(scene: &Scene) {
    let target = &scene.target;
    let always = target.try_sql(DB, "INSERT INTO always (id, v) VALUES (1000, 'x')").await;
    assert_eq!(always.unwrap_err().code().unwrap().code(), "428C9", "identity is not ALWAYS again");
    let row = &target.query(DB, "INSERT INTO always (v) VALUES ('new') RETURNING id, noted").await[0];
    assert_eq!(row.get::<_, i64>(0), 22, "the identity's sequence is not set");
    assert_eq!(row.get::<_, Option<String>>(1).as_deref(), Some("by trigger"));
    assert_eq!(target.value::<i64>(DB, "SELECT nextval('odd')").await, 121);
    assert_eq!(
        target.value::<i64>(DB, "SELECT n FROM totals").await,
        20 + 1,
        "the materialized view was not refreshed"
    );
    let behind: Vec<String> = target
        .query(DB, "SELECT 'item' FROM bank.item HAVING max(id) > (SELECT last_value FROM bank.item_id_seq)")
        .await
        .iter()
        .map(|row| row.get(0))
        .collect();
    assert!(behind.is_empty(), "sequences are behind their columns: {behind:?}");
}

#[tokio::test]
async fn row_77_an_open_and_a_prepared_transaction_are_waited_for_and_named() {
    let scene = scene().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let open = scene.source.connect(DB).await;
    open.batch_execute("BEGIN; INSERT INTO big VALUES (-7, 'open')").await.unwrap();
    let pid: i32 = open.query_one("SELECT pg_backend_pid()", &[]).await.unwrap().get(0);
    scene
        .source
        .sql(DB, "BEGIN; UPDATE always SET v = 'prepared' WHERE id = 1; PREPARE TRANSACTION 'gid 77'")
        .await;
    let output = cutover(&scene).args(&["--timeout", "3s"]).run().await.expect_code(1);
    for part in [format!("pid {pid}"), "gid 77".to_owned(), "CUTOVER_BLOCKED".to_owned()] {
        assert!(output.said().contains(&part), "{part} is not in {}", output.said());
    }
    rolled_back_with_open(&scene).await;
    let refused = load.report().refused;
    assert_eq!(refused, 0, "writers were refused by a cutover that was rolled back");
    load.wait_committed(load.committed() + 20).await;
    // Now they end while the next attempt waits.
    let waiting = cutover(&scene).spawn();
    running.wait_for_stderr("cutover: waiting for").await;
    open.batch_execute("COMMIT").await.unwrap();
    scene.source.sql(DB, "COMMIT PREPARED 'gid 77'").await;
    let told = waiting.wait_exit_within(SOON).await.expect_code(0).json();
    assert!(told["downtime_ms"].as_f64().unwrap() > 0.0);
    running.wait_exit_within(SOON).await.expect_code(0);
    load.stop().await;
    events.expect_applied(&scene.run().status().await).await;
    let there: bool = scene
        .target
        .value(DB, "SELECT EXISTS (SELECT FROM big WHERE id = -7) AND (SELECT v = 'prepared' FROM always WHERE id = 1)")
        .await;
    assert!(there, "a transaction that was waited for is missing");
    handed_over(&scene).await;
}

async fn rolled_back_with_open(scene: &Scene) {
    scene
        .source
        .wait_until(
            DB,
            "SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'walferry (fence)')",
            SOON,
        )
        .await;
    rolled_back(scene).await;
}

/// The process dies at the failpoint while it hands over; what the asker hears.
async fn crash_at(scene: &Scene, failpoint: &str) -> (Load, Running) {
    let load = scene.load();
    let mut running = scene.run().failpoint(failpoint, "panic").spawn();
    running.wait_for_step("live").await;
    load.wait_committed(load.committed() + 20).await;
    let asker = cutover(scene).spawn();
    let crashed = running.wait_exit_within(SOON).await;
    assert!(crashed.code > 128, "expected a crash at {failpoint}:\n{}", crashed.said());
    (load, asker)
}

fn told_of_the_rollback(output: &Output) {
    let said = output.said();
    assert!(said.contains("as it was") || said.contains("nothing of it is left"), "{said}");
}

#[tokio::test]
async fn a_crash_before_the_fence_is_committed_rolls_back() {
    let scene = scene().await;
    let events = Events::record(&scene.source, DB).await;
    let (load, asker) = crash_at(&scene, "cutover-marker").await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    told_of_the_rollback(&asker.wait_exit_within(SOON).await.expect_code(1));
    rolled_back_with_open(&scene).await;
    at_last(&scene, running, load, &events).await;
}

#[tokio::test]
async fn a_crash_after_fencing_is_recorded_and_before_the_fence_is_committed_rolls_back() {
    let scene = scene().await;
    let events = Events::record(&scene.source, DB).await;
    let (load, asker) = crash_at(&scene, "cutover-fencing").await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    told_of_the_rollback(&asker.wait_exit_within(SOON).await.expect_code(1));
    rolled_back_with_open(&scene).await;
    at_last(&scene, running, load, &events).await;
}

/// Both are closed at that moment: the same command opens the target.
async fn finishes_after(failpoint: &str) {
    let scene = scene().await;
    let events = Events::record(&scene.source, DB).await;
    let (load, asker) = crash_at(&scene, failpoint).await;
    load.stop().await;
    let refused = scene.source.try_sql(DB, "UPDATE big SET v = 'x' WHERE id = 1").await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "25006", "the source is open after {failpoint}");
    scene.run().run().await.expect_code(0);
    let told = asker.wait_exit_within(SOON).await.expect_code(0).json();
    assert!(told["downtime_ms"].as_f64().unwrap() > 0.0, "{told}");
    let status = scene.run().status().await;
    assert_eq!(status.step(), "done");
    events.expect_applied(&status).await;
    handed_over(&scene).await;
    scene.nothing_open().await;
}

#[tokio::test]
async fn a_crash_after_the_fence_is_committed_is_finished() {
    finishes_after("cutover-fenced").await;
}

#[tokio::test]
async fn a_crash_after_the_target_is_opened_is_finished() {
    finishes_after("cutover-opened").await;
}

#[tokio::test]
async fn the_source_restarts_under_the_fence() {
    let scene = scene().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running = scene.run().failpoint("cutover-marker", "1*sleep(4000)->off").spawn();
    running.wait_for_step("live").await;
    let asker = cutover(&scene).spawn();
    scene
        .source
        .wait_until(DB, "SELECT count(*) > 0 FROM pg_locks WHERE mode = 'ExclusiveLock' AND locktype = 'relation' AND granted", SOON)
        .await;
    scene.source.restart(Stop::Immediate).await;
    told_of_the_rollback(&asker.wait_exit_within(SOON).await.expect_code(1));
    running.wait_for("no error", |status| status.0["error"].is_null()).await;
    rolled_back_with_open(&scene).await;
    at_last(&scene, running, load, &events).await;
}

/// The reply to the fence's COMMIT is lost: only the source knows, and is asked.
#[tokio::test]
async fn the_reply_to_the_commit_of_the_fence_is_lost() {
    let scene = scene().await;
    let events = Events::record(&scene.source, DB).await;
    let proxy = crate::support::Proxy::to(&scene.source).await;
    let run = Walferry::new(&proxy.uri(DB), &scene.target.uri(DB)).command("migrate");
    let mut running = run.failpoint("cutover-fencing", "1*sleep(3000)->off").spawn();
    running.wait_for_step("live").await;
    let asker = cutover(&scene).spawn();
    scene.target.wait_until(DB, "SELECT cutover IS NOT NULL FROM walferry.runs", SOON).await;
    proxy.lose_reply(b"COMMIT");
    asker.wait_exit_within(SOON).await.expect_code(0);
    assert_eq!(proxy.lost_replies(), 1);
    running.wait_exit_within(SOON).await.expect_code(0);
    events.expect_applied(&scene.run().status().await).await;
    handed_over(&scene).await;
}

/// The fence's COMMIT waits for a standby when the connection is lost, and would be visible later: its session is found, under whatever
/// name, before anybody says what has become of the fence.
#[tokio::test]
async fn a_commit_of_the_fence_that_is_still_under_way_is_not_taken_for_a_rollback() {
    let scene = Scene::small().await;
    let proxy = crate::support::Proxy::to(&scene.source).await;
    let source = format!("{}?application_name=mine", proxy.uri(DB));
    let run = Walferry::new(&source, &scene.target.uri(DB)).command("migrate");
    let mut running = run.failpoint("cutover-fencing", "1*sleep(3000)->off").spawn();
    running.wait_for_step("live").await;
    let asker = cutover(&scene).spawn();
    scene.target.wait_until(DB, "SELECT cutover IS NOT NULL FROM walferry.runs", SOON).await;
    scene.source.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await;
    scene.source.reload().await;
    let waits = "SELECT count(*) = 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query = 'COMMIT'";
    scene.source.wait_until(DB, waits, SOON).await;
    proxy.cut();
    asker.wait_exit_within(SOON).await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
    scene.source.sql("postgres", "ALTER SYSTEM RESET synchronous_standby_names").await;
    scene.source.reload().await;
    let refused = scene.source.try_sql(DB, "UPDATE t SET v = 'late'").await;
    assert_eq!(refused.unwrap_err().code().unwrap().code(), "25006");
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    scene.target.sql(DB, "UPDATE t SET v = 'open'").await;
}

#[tokio::test]
async fn a_table_that_is_new_on_the_source_is_a_decision_for_somebody() {
    let scene = Scene::small().await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    scene.source.sql(DB, "CREATE TABLE fresh (id int PRIMARY KEY); INSERT INTO fresh VALUES (1)").await;
    let output = cutover(&scene).run().await.expect_code(1);
    for part in ["NEW_TABLES", "fresh", "walferry refresh"] {
        assert!(output.said().contains(part), "{part} is not in {}", output.said());
    }
    scene.source.sql(DB, "UPDATE t SET v = 'still open'").await;
    // As the hint says.
    scene.target.sql(DB, "CREATE TABLE fresh (id int PRIMARY KEY)").await;
    scene.source.sql(DB, "ALTER PUBLICATION walferry ADD TABLE fresh").await;
    scene.run().command("refresh").run().await.expect_code(0);
    running.wait_for("the new table", |status| status.count("tables_ready") == 2).await;
    cutover(&scene).run().await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
}

#[tokio::test]
async fn automatic_hand_over_as_soon_as_the_target_has_caught_up() {
    let scene = scene().await;
    let load = scene.load();
    let run = scene.run().args(&["--cutover", "auto", "--set", "cutover.verify=none"]);
    let ended = run.run().await.expect_code(0);
    assert!(ended.stderr.contains("downtime"), "{}", ended.said());
    load.stop().await;
    handed_over(&scene).await;
}

/// With a comparison before and under the fence; a difference refuses the hand-over.
#[tokio::test]
async fn a_difference_refuses_the_hand_over() {
    let scene = Scene::small().await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    scene
        .target
        .sql(DB, "SET session_replication_role = replica; UPDATE t SET v = 'other' WHERE id = 2")
        .await;
    for what in ["changed", "full"] {
        let output = scene.run().command("cutover").args(&["--verify", what]).run().await;
        assert_ne!(output.code, 0, "{}", output.said());
        rolled_back_small(&scene).await;
    }
    scene.target.sql(DB, "SET session_replication_role = replica; UPDATE t SET v = 'v' WHERE id = 2").await;
    scene.run().command("cutover").args(&["--verify", "full"]).run().await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
}

pub async fn rolled_back_small(scene: &Scene) {
    scene.source.sql(DB, "UPDATE t SET v = v WHERE id = 1").await;
    let closed = scene.target.try_sql(DB, "UPDATE t SET v = 'x'").await;
    assert_eq!(closed.unwrap_err().code().unwrap().code(), "25006");
}
