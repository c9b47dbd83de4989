//! An old process comes back, and a new one has the run: it gives way, with exit code 4, and applies nothing any more.

use std::time::Duration;

use tokio_postgres::Client;

use super::{DB, Scene};
use crate::support::oracle::Events;
use crate::support::walferry::Running;

const SOON: Duration = Duration::from_secs(20);

/// A process that stands still, with a transaction under way perhaps, and whose sessions are ended.
async fn stopped_without_sessions(scene: &Scene) -> Running {
    let mut old = scene.run().spawn();
    old.wait_for_step("live").await;
    old.sigstop();
    let end = "SELECT count(pg_terminate_backend(pid)) >= 0 FROM pg_stat_activity WHERE application_name LIKE 'walferry%'";
    for server in [&scene.source, &scene.target] {
        server.wait_until(DB, end, SOON).await;
    }
    old
}

async fn successor(scene: &Scene) -> Running {
    let mut new = scene.run().spawn();
    new.wait_for("the new process live", |status| status.count("epoch") == 2 && status.reached("live")).await;
    new
}

async fn wakes_and_gives_way(old: Running) {
    old.sigcont();
    let ended = old.wait_exit_within(SOON).await.expect_code(4);
    assert!(ended.stderr.contains("OWNED_BY"), "{}", ended.said());
}

#[tokio::test]
async fn row_60_an_old_process_comes_back_after_a_new_one_took_over() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let old = stopped_without_sessions(&scene).await;
    let new = successor(&scene).await;
    load.wait_committed(load.committed() + 20).await;
    wakes_and_gives_way(old).await;
    scene.close(new, load, &events).await;
}

/// The new process has come and gone again: nobody has the run's lock, and the old one is told apart by its epoch alone.
#[tokio::test]
async fn row_60_an_old_process_comes_back_after_a_new_one_came_and_went() {
    let scene = Scene::small().await;
    let old = stopped_without_sessions(&scene).await;
    let new = successor(&scene).await;
    new.sigterm();
    new.wait_exit().await.expect_code(143);
    wakes_and_gives_way(old).await;
    scene.goes_on_small().await;
}

/// How many sessions wait to write to `notes`.
const WAITING: &str = "FROM pg_locks l JOIN pg_stat_activity USING (pid)
    WHERE NOT granted AND relation = 'notes'::regclass AND application_name = 'walferry'";

/// A process that is stopped while the target holds up what it applies; who holds it up, and the process id of the session that waits.
async fn stopped_while_it_waits(scene: &Scene, changes: &str) -> (Running, Client, i32) {
    let mut old = scene.run().spawn();
    old.wait_for_step("live").await;
    let locker = scene.target.connect(DB).await;
    locker.batch_execute("BEGIN; LOCK TABLE notes IN SHARE MODE").await.unwrap();
    scene.source.sql(DB, changes).await;
    scene.target.wait_until(DB, &format!("SELECT count(*) = 1 {WAITING}"), SOON).await;
    let applies: i32 = scene.target.value(DB, &format!("SELECT pid {WAITING}")).await;
    old.sigstop();
    (old, locker, applies)
}

/// Ends the session that owns the run, and the stream.
async fn loses_the_run(scene: &Scene) {
    let owner = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_locks WHERE locktype = 'advisory'";
    scene.target.wait_until(DB, owner, SOON).await;
    let sender = "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_replication WHERE application_name = 'walferry'";
    scene.source.wait_until(DB, sender, SOON).await;
}

/// A process that was stopped when it was about to commit a row, keeps its session for applying, and has neither the one that owns the run
/// nor a stream any more. Answers with the newest progress row.
async fn about_to_commit(scene: &Scene) -> (Running, i64) {
    // What becomes of an update has to be looked at before the commit is sent.
    let note = "BEGIN; INSERT INTO notes VALUES ('on'); UPDATE notes SET v = 'once' WHERE v = 'on'; COMMIT";
    let (old, locker, applies) = stopped_while_it_waits(scene, note).await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    // Another of its sessions may have been stopped in a transaction, too.
    let hears_nothing = format!(
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {applies} AND xact_start IS NOT NULL AND wait_event = 'ClientRead'"
    );
    scene.target.wait_until(DB, &hears_nothing, SOON).await;
    let stood: i64 = scene.target.value(DB, "SELECT max(seq) FROM walferry.progress").await;
    loses_the_run(scene).await;
    (old, stood)
}

/// Rows that conflict with nothing: the new process is not held up by the old one's open transaction.
const NOTES: &str = "CREATE TABLE notes (v text); ALTER TABLE notes REPLICA IDENTITY FULL";

/// The old process keeps its session for applying, but not the one that owns the run: its commit is refused by the progress row.
#[tokio::test]
async fn row_60_an_old_process_that_still_has_its_sessions_can_not_commit() {
    let scene = Scene::new().await;
    scene.source.sql(DB, NOTES).await;
    let events = Events::record(&scene.source, DB).await;
    let (old, _) = about_to_commit(&scene).await;
    let new = successor(&scene).await;
    let load = scene.load();
    load.wait_committed(load.committed() + 20).await;
    wakes_and_gives_way(old).await;
    scene.close(new, load, &events).await;
}

/// Of inserts alone the commit is on its way with them: the server comes to it when a new process has the run.
#[tokio::test]
async fn row_60_a_commit_that_is_on_its_way_when_a_new_process_takes_over_is_refused() {
    let scene = Scene::new().await;
    scene.source.sql(DB, NOTES).await;
    let events = Events::record(&scene.source, DB).await;
    let (old, locker, _) = stopped_while_it_waits(&scene, "INSERT INTO notes VALUES ('once')").await;
    loses_the_run(&scene).await;
    let new = scene.run().spawn();
    scene.target.wait_until(DB, &format!("SELECT count(*) = 2 {WAITING}"), SOON).await;
    locker.batch_execute("ROLLBACK").await.unwrap();
    wakes_and_gives_way(old).await;
    let load = scene.load();
    load.wait_committed(load.committed() + 20).await;
    scene.close(new, load, &events).await;
}

/// It was about to commit when it was stopped, and by now the row that it would have met is pruned.
#[tokio::test]
async fn row_60_an_old_process_that_wakes_after_its_progress_was_pruned_can_not_commit() {
    let scene = Scene::new().await;
    scene.source.sql(DB, NOTES).await;
    let events = Events::record(&scene.source, DB).await;
    let (old, stood) = about_to_commit(&scene).await;
    let new = successor(&scene).await;
    let load = scene.load();
    let pruned = format!("SELECT min(seq) > {} FROM walferry.progress", stood + 1);
    // Some hundred commits of the target, however busy the machine is.
    scene.target.wait_until(DB, &pruned, 6 * SOON).await;
    wakes_and_gives_way(old).await;
    scene.close(new, load, &events).await;
}
