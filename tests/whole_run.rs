//! The main job on every pair of majors: migrate under load, verify beside it and when stopped, cut over, go on on the new primary.

use crate::support::load::bank;
use crate::support::oracle::{self, Events};
use crate::support::postgres::PAIRS;
use crate::support::{Load, Postgres, Walferry};

const DB: &str = "app";

async fn moves(source_major: u32, target_major: u32) {
    let (source, target) = tokio::join!(
        Postgres::builder(source_major).database(DB).start(),
        Postgres::builder(target_major).database(DB).start()
    );
    bank::create(&source, DB, 200).await;
    let events = Events::record(&source, DB).await;
    let load = Load::bank(&source.uri(DB)).workers(2).rate(200).start();
    let run = Walferry::new(&source.uri(DB), &target.uri(DB));

    let mut running = run.command("migrate").spawn();
    running.wait_for_step("live").await;
    let verified = run.command("verify").run().await.expect_code(0);
    assert!(verified.stdout.contains("equal"), "{}", verified.said());

    // A row that the source doesn't have is found, by its key and without its values, and keeps the cutover from happening.
    let stray =
        "SET session_replication_role = replica; INSERT INTO bank.entry VALUES (-1, 1, 2, 730173017301)";
    target.sql(DB, stray).await;
    let different = run.command("verify").run().await.expect_code(1);
    assert!(
        different.stdout.contains("entry") && !different.said().contains("730173017301"),
        "{}",
        different.said()
    );
    let refused = run.command("cutover").run().await.expect_code(1);
    assert!(refused.said().contains("differ"), "{}", refused.said());
    target.sql(DB, "SET session_replication_role = replica; DELETE FROM bank.entry WHERE number = -1").await;

    // Stopped, and verified all the same: it is brought forward to one point.
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    load.wait_committed(load.committed() + 20).await;
    run.command("verify").run().await.expect_code(0);

    let mut running = run.command("migrate").spawn();
    running.wait_for_step("live").await;
    load.wait_committed(load.committed() + 20).await;
    let cutover = run.command("cutover").run().await.expect_code(0);
    assert!(cutover.said().contains("ms"), "{}", cutover.said());
    let ended = running.wait_exit().await.expect_code(0);
    assert!(ended.stderr.contains("downtime"), "{}", ended.stderr);
    let refused = source.try_sql(DB, "UPDATE bank.account SET balance = balance").await.unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"));
    oracle::expect_same(&source.uri(DB), &target.uri(DB)).await;
    oracle::expect_same_sequences(&source.uri(DB), &target.uri(DB)).await;
    events.expect_applied(&run.status().await).await;

    load.move_to(&target.uri(DB));
    load.wait_committed(load.committed() + 30).await;
    load.stop().await;
    run.command("clean").run().await.expect_code(0);
}

#[tokio::test]
async fn from_10_to_18() {
    moves(PAIRS[0].0, PAIRS[0].1).await;
}

#[tokio::test]
async fn from_13_to_17() {
    moves(PAIRS[1].0, PAIRS[1].1).await;
}

#[tokio::test]
async fn from_15_to_15() {
    moves(PAIRS[2].0, PAIRS[2].1).await;
}

#[tokio::test]
async fn from_18_to_15() {
    moves(PAIRS[3].0, PAIRS[3].1).await;
}
