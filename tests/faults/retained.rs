//! What the slot retains, against `--max-retained-wal`, in every state of a run: while rows are copied, while indexes wait, live, and while the
//! target is away.

use std::time::Duration;

use tokio_postgres::Client;

use super::{DB, Scene};
use crate::support::oracle;
use crate::support::postgres::Stop;
use crate::support::walferry::{Output, Running, Status};
use crate::support::{Postgres, Walferry};

const SOON: Duration = Duration::from_secs(60);
/// Two segments of WAL and more, with nothing in them for the run.
const FILL: &str =
    "SELECT pg_logical_emit_message(false, 'x', repeat('x', 20000000)); SELECT pg_switch_wal();
     SELECT pg_logical_emit_message(false, 'x', repeat('x', 20000000)); SELECT pg_switch_wal()";
const WARNING: &str = "more than limits.max_retained_wal";
const SLOTS: &str = "SELECT count(*) FROM pg_replication_slots";

fn replica(scene: &Scene, on_limit: &str) -> Walferry {
    scene.walferry().command("replicate").args(&["--max-retained-wal", "20MB", "--on-limit", on_limit])
}

/// A copy into tables that are there, which waits for a lock on the target.
async fn copy_held_up(run: &Walferry, target: &Postgres) -> (Running, Client) {
    target.sql(DB, "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v text)").await;
    let lock = target.connect(DB).await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE").await.unwrap();
    let running = run.clone().arg("--existing-schema").spawn();
    let waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 't'::regclass)";
    target.wait_until(DB, waits, SOON).await;
    (running, lock)
}

fn warnings(status: &Status) -> Vec<String> {
    let all = status.0["warnings"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|warning| warning.as_str()).map(str::to_owned).collect()
}

/// It stands in `status` and is looked at again there; on the way it was said once.
async fn warned_once(running: &mut Running, source: &Postgres) {
    running.wait_for_stderr(WARNING).await;
    let said = running
        .wait_for("a warning", |status| warnings(status).iter().any(|warning| warning.contains(WARNING)))
        .await;
    source.sql(DB, FILL).await;
    let before = warnings(&said);
    let later = running
        .wait_for("a later look", |status| {
            warnings(status) != before && warnings(status).iter().any(|warning| warning.contains(WARNING))
        })
        .await;
    assert_eq!(warnings(&later).len(), 1, "{:#}", later.0);
    assert_eq!(running.stderr().matches(WARNING).count(), 1, "{}", running.stderr());
}

/// The WAL is let go, and with it the warning.
async fn lets_go(mut running: Running, scene: &Scene) {
    running.wait_for_step("live").await;
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    let small = "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn) < 20 * 1024 * 1024 FROM pg_replication_slots";
    scene.source.sql("postgres", "CHECKPOINT").await;
    scene.source.wait_until("postgres", small, SOON).await;
    running.wait_for("no warning", |status| warnings(status).is_empty()).await;
    assert_eq!(running.stderr().matches(WARNING).count(), 1, "{}", running.stderr());
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
}

/// The slot is gone, the run is over and says which limit it was.
async fn dropped(running: Running, source: &Postgres) -> Output {
    let ended = running.wait_exit_within(SOON).await.expect_code(4);
    assert!(
        ended.stderr.contains("SLOT_DROPPED") && ended.stderr.contains("walferry clean"),
        "{}",
        ended.said()
    );
    assert_eq!(source.value::<i64>("postgres", SLOTS).await, 0, "the slot still keeps the WAL");
    ended
}

#[tokio::test]
async fn row_57_the_slot_is_dropped_at_the_limit_while_the_copy_is_held_up() {
    let scene = Scene::small().await;
    let run = replica(&scene, "drop");
    let (running, lock) = copy_held_up(&run, &scene.target).await;
    scene.source.sql(DB, FILL).await;
    dropped(running, &scene.source).await;
    let status = run.status().await;
    assert_eq!(
        (status.0["step"].as_str(), status.0["error"]["code"].as_str()),
        (Some("copy"), Some("SLOT_DROPPED")),
        "{:#}",
        status.0
    );
    // Nothing is copied that could not be gone on from: the lock is still held.
    let again = run.arg("--existing-schema").run().await.expect_code(4);
    assert!(again.stderr.contains("SLOT_MISSING"), "{}", again.said());
    lock.batch_execute("COMMIT").await.unwrap();
    scene.nothing_open().await;
}

#[tokio::test]
async fn row_57_a_copy_past_the_limit_is_warned_of_once_and_comes_to_its_end() {
    let scene = Scene::small().await;
    let (mut running, lock) = copy_held_up(&replica(&scene, "warn"), &scene.target).await;
    scene.source.sql(DB, FILL).await;
    warned_once(&mut running, &scene.source).await;
    assert_eq!(running.status().await.0["step"], "copy");
    lock.batch_execute("COMMIT").await.unwrap();
    lets_go(running, &scene).await;
}

#[tokio::test]
async fn row_57_a_stream_past_the_limit_is_warned_of_once_and_shown_while_it_is() {
    let scene = Scene::small().await;
    let mut running = replica(&scene, "warn").spawn();
    running.wait_for_step("live").await;
    let lock = scene.target.connect(DB).await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    scene.source.sql(DB, "UPDATE t SET v = 'held up'").await;
    scene.source.sql(DB, FILL).await;
    warned_once(&mut running, &scene.source).await;
    lock.batch_execute("COMMIT").await.unwrap();
    lets_go(running, &scene).await;
}

#[tokio::test]
async fn row_57_the_slot_is_dropped_at_the_limit_while_the_target_is_away() {
    let scene = Scene::small().await;
    let run = replica(&scene, "drop");
    let mut running = run.spawn();
    running.wait_for_step("live").await;
    scene.target.stop(Stop::Immediate).await;
    running.wait_for_stderr("target: ").await;
    // The connection that looks is opened again.
    let looks = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'walferry (control)'";
    assert!(scene.source.value::<i64>("postgres", looks).await > 0);
    scene.source.sql(DB, FILL).await;
    dropped(running, &scene.source).await;
    scene.target.start_again().await;
    let again = run.run().await.expect_code(4);
    assert!(again.stderr.contains("SLOT_MISSING"), "{}", again.said());
}

#[tokio::test]
async fn row_57_a_slot_that_can_not_be_dropped_is_told_of_and_tried_again() {
    let scene = Scene::small().await;
    scene.source.create_role("mover", "REPLICATION").await;
    scene.target.create_role("mover", "").await;
    scene.source.sql(DB, "GRANT SELECT ON t TO mover").await;
    let run = Walferry::new(&scene.source.uri_as("mover", DB), &scene.target.uri(DB)).command("replicate");
    let limit = ["--max-retained-wal", "20MB", "--on-limit", "drop", "--source-admin", &scene.source.uri(DB)];
    let mut running = run.args(&limit).spawn();
    running.wait_for_step("live").await;
    let lock = scene.target.connect(DB).await;
    lock.batch_execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE").await.unwrap();
    scene.source.sql(DB, "UPDATE t SET v = 'held up'; ALTER ROLE mover NOREPLICATION").await;
    scene.source.sql(DB, FILL).await;
    running.wait_for_stderr("could not drop replication slot").await;
    scene.source.sql(DB, "ALTER ROLE mover REPLICATION").await;
    dropped(running, &scene.source).await;
    lock.batch_execute("COMMIT").await.unwrap();
}

#[tokio::test]
async fn row_57_a_drop_whose_reply_is_lost_ends_the_copy_as_well() {
    let scene = Scene::small().await;
    let run = replica(&scene, "drop").failpoint("limit-dropped", "1*return");
    let (running, lock) = copy_held_up(&run, &scene.target).await;
    scene.source.sql(DB, FILL).await;
    dropped(running, &scene.source).await;
    lock.batch_execute("COMMIT").await.unwrap();
}
