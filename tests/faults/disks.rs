//! Disks that are full: the target's, the source's WAL, and whatever our own output goes to.

use std::time::Duration;

use super::{DB, Scene, live_through};
use crate::support::oracle::{self, Events};
use crate::support::{Postgres, Walferry};

const SOON: Duration = Duration::from_secs(60);

async fn on_a_small_disk() -> Scene {
    Scene::with(Postgres::builder(15).database(DB), Postgres::builder(15).database(DB).disk("base", "200m"))
        .await
}

#[tokio::test]
async fn row_36_the_target_s_disk_is_full_while_copying() {
    let scene = on_a_small_disk().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let ballast = scene.target.fill_disk("base", 3 << 20);
    let mut running = scene.run().spawn();
    let status = running.wait_for("53100", |status| status.error_code() == Some("53100")).await;
    let done: Vec<_> =
        status.tables().into_iter().filter(|(_, table, at)| table == "big" && at.is_some()).collect();
    assert!(done.is_empty(), "a table that does not fit is marked done: {done:?}");
    drop(ballast);
    running.wait_for_step("live").await;
    running.wait_for("no error", |status| status.0["error"].is_null()).await;
    scene.close(running, load, &events).await;
}

#[tokio::test]
async fn row_36_the_target_s_disk_is_full_while_applying() {
    let scene = on_a_small_disk().await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let before = running.status().await.applied();
    let ballast = scene.target.fill_disk("base", 1 << 20);
    scene.source.sql(DB, "UPDATE big SET v = v || 'more'").await;
    let status = running.wait_for("53100", |status| status.error_code() == Some("53100")).await;
    let confirmed = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'walferry'";
    let confirmed = crate::support::walferry::lsn(&scene.source.value::<String>("postgres", confirmed).await);
    assert!(confirmed <= status.applied() && status.applied() >= before, "{confirmed} {:#}", status.0);
    drop(ballast);
    let load = scene.load();
    load.wait_committed(load.committed() + 30).await;
    scene.close(running, load, &events).await;
}

/// The server panics, and does not come up again until there is room.
#[tokio::test]
async fn row_37_the_source_s_wal_fills_its_disk() {
    let source =
        Postgres::builder(15).database(DB).fsync().disk("pg_wal", "160m").setting("max_wal_size", "64MB");
    let scene = Scene::with(source, Postgres::builder(15).database(DB)).await;
    // The preflight has said what a slot does to a disk.
    let check = scene.run().command("check").arg("--json").run().await;
    assert!(check.said().contains("max_slot_wal_keep_size"), "{}", check.said());
    live_through(&scene, async |_| {
        let ballast = scene.source.fill_disk("pg_wal", 1 << 20);
        // The load beside it runs into it as well.
        let fill =
            "SELECT pg_logical_emit_message(false, 'fill', repeat('x', 1000000)) FROM generate_series(1, 60)";
        let full = scene.source.try_sql(DB, fill).await;
        assert!(full.is_err(), "the disk did not fill");
        assert!(scene.source.log().contains("No space left on device"), "{}", scene.source.log());
        scene.source.kill9();
        drop(ballast);
        scene.source.start_again().await;
    })
    .await;
}

/// There is no spool: a transaction passes in parts. What is written besides the target is said, not kept.
#[tokio::test]
async fn row_38_our_own_log_goes_to_a_full_disk() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let full = std::path::Path::new("/dev/full");
    for format in ["text", "json"] {
        let mut running = scene.run().args(&["-v", "--log-format", format]).log_to(full).spawn();
        running.wait_for_step("live").await;
        scene.source.sql(DB, "UPDATE big SET v = v || 'x'").await;
        running.wait_applied(oracle::marker(&scene.source, DB).await).await;
        running.sigterm();
        running.wait_exit_within(SOON).await.expect_code(143);
    }
    // A result that could not be written is no success.
    let output = tokio::process::Command::new("sh")
        .args(["-c", &format!("{} status --json >/dev/full", env!("CARGO_BIN_EXE_walferry"))])
        .env("WALFERRY_SOURCE", scene.source.uri(DB))
        .env("WALFERRY_TARGET", scene.target.uri(DB))
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !said.contains("panicked"), "{:?}: {said}", output.status);
    // And without anywhere to write at all.
    let closed = Walferry::new(&scene.source.uri(DB), &scene.target.uri(DB)).under(&[
        "sh",
        "-c",
        "exec \"$0\" \"$@\" >&- 2>&-",
    ]);
    let mut running = closed.command("migrate").spawn();
    scene.source.sql(DB, "UPDATE big SET v = v || 'y' WHERE id < 100").await;
    let marker = oracle::marker(&scene.source, DB).await;
    let applied = format!("SELECT max(end_lsn) >= '{marker}' FROM walferry.progress");
    scene.target.wait_until(DB, &applied, SOON).await;
    assert!(running.is_running());
    running.sigterm();
    running.wait_exit_within(SOON).await.expect_code(143);
    scene.goes_on(load, &events).await;
}
