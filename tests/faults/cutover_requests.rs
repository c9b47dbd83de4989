//! Asking for a cutover: one that nobody has to ask for, and one that nobody answers.

use std::time::Duration;

use super::{DB, Scene};
use crate::support::Walferry;
use crate::support::oracle;

const SOON: Duration = Duration::from_secs(60);

/// Writers hold this lock; without a transaction id, so that the slot does not wait for it.
const WRITER: &str = "BEGIN; LOCK TABLE t IN ROW EXCLUSIVE MODE";

const TAKEN: &str = "SELECT EXISTS (SELECT FROM walferry.requests WHERE state = 'running')";

fn cutover(scene: &Scene, timeout: &str) -> Walferry {
    scene.run().command("cutover").args(&["--verify", "none", "--timeout", timeout])
}

/// The source takes writes and the target does not.
async fn not_handed_over(scene: &Scene) {
    scene.source.sql(DB, "UPDATE t SET v = v || '.' WHERE id = 1").await;
    let closed = scene.target.try_sql(DB, "UPDATE t SET v = 'x'").await;
    assert_eq!(closed.unwrap_err().code().unwrap().code(), "25006", "the target is open");
}

#[tokio::test]
async fn an_automatic_hand_over_is_tried_again_until_the_way_is_free() {
    let scene = Scene::small().await;
    let writer = scene.source.connect(DB).await;
    writer.batch_execute(WRITER).await.unwrap();
    let mut running = scene
        .run()
        .args(&["--cutover", "auto", "--set", "cutover.verify=none", "--set", "cutover.timeout=1s"])
        .args(&["--set", "cutover.retry_max=1s"])
        .spawn();
    running.wait_for_stderr("cutover: attempt 2").await;
    let said = running.stderr();
    for part in ["the cutover was rolled back", "tried again in 1"] {
        assert!(said.contains(part), "{part} is not in {said}");
    }
    not_handed_over(&scene).await;
    // A process that comes later, to a run that was live already, goes on trying.
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    let mut running = scene
        .run()
        .args(&["--cutover", "auto", "--set", "cutover.verify=none", "--set", "cutover.timeout=1s"])
        .args(&["--set", "cutover.retry_max=1s"])
        .spawn();
    running.wait_for_stderr("cutover: attempt 2").await;
    writer.batch_execute("COMMIT").await.unwrap();
    running.wait_exit_within(SOON).await.expect_code(0);
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    scene.target.sql(DB, "UPDATE t SET v = 'open'").await;
}

#[tokio::test]
async fn a_request_that_a_silent_process_does_not_take_is_withdrawn() {
    let scene = Scene::small().await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    running.sigstop();
    let output = cutover(&scene, "1s").run().await.expect_code(1);
    for part in ["REQUEST_TIMEOUT", "sign of life", "withdrawn"] {
        assert!(output.said().contains(part), "{part} is not in {}", output.said());
    }
    running.sigcont();
    scene.source.sql(DB, "UPDATE t SET v = 'afterwards'").await;
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    not_handed_over(&scene).await;
    cutover(&scene, "30s").run().await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
}

#[tokio::test]
async fn a_process_that_falls_silent_or_dies_after_it_took_the_request() {
    let scene = Scene::small().await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let writer = scene.source.connect(DB).await;
    writer.batch_execute(WRITER).await.unwrap();
    let asker = cutover(&scene, "6s").spawn();
    scene.target.wait_until(DB, TAKEN, SOON).await;
    running.sigstop();
    let output = asker.wait_exit_within(SOON).await.expect_code(1);
    assert!(output.said().contains("REQUEST_TIMEOUT"), "{}", output.said());
    writer.batch_execute("COMMIT").await.unwrap();
    running.sigcont();
    scene.source.sql(DB, "UPDATE t SET v = 'afterwards'").await;
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    let open = "SELECT NOT EXISTS (SELECT FROM walferry.requests WHERE state IN ('requested', 'running'))";
    scene.target.wait_until(DB, open, SOON).await;
    not_handed_over(&scene).await;

    writer.batch_execute(WRITER).await.unwrap();
    let asker = cutover(&scene, "60s").spawn();
    scene.target.wait_until(DB, TAKEN, SOON).await;
    running.kill9().await;
    let output = asker.wait_exit_within(SOON).await.expect_code(1);
    assert!(output.said().contains("RUN_ENDED"), "{}", output.said());
    writer.batch_execute("COMMIT").await.unwrap();
    // The next start does not hand over by surprise.
    let mut running = scene.run().spawn();
    running.wait_for("the second start", |status| status.count("epoch") == 2 && status.reached("live")).await;
    scene.target.wait_until(DB, open, SOON).await;
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    not_handed_over(&scene).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
}

/// Two at once would switch each other's last check off.
#[tokio::test]
async fn a_second_request_while_one_is_carried_out_is_refused() {
    let scene = Scene::small().await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let writer = scene.source.connect(DB).await;
    writer.batch_execute(WRITER).await.unwrap();
    let changed = |timeout| scene.run().command("cutover").args(&["--timeout", timeout]);
    let first = changed("60s").spawn();
    scene.target.wait_until(DB, TAKEN, SOON).await;
    let output = changed("5s").run().await.expect_code(1);
    for part in ["CUTOVER_RUNNING", "walferry status"] {
        assert!(output.said().contains(part), "{part} is not in {}", output.said());
    }
    writer.batch_execute("COMMIT").await.unwrap();
    first.wait_exit_within(SOON).await.expect_code(0);
    running.wait_exit_within(SOON).await.expect_code(0);
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
}
