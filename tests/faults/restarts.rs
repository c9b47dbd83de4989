//! Servers that restart, sessions that are ended, signals, stalls.

use std::time::Duration;

use super::{DB, Scene, live_through};
use crate::support::oracle::{self, Events};
use crate::support::postgres::Stop;
use crate::support::{Direction, Load, Postgres, Proxy, Walferry, options};

#[tokio::test]
async fn row_15_source_restarts_in_mode_fast_while_copying() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().failpoint("copy-before-commit", "1*off->1*sleep(2000)").spawn();
    running.wait_for_step("copy").await;
    scene.source.restart(Stop::Fast).await;
    let load = scene.load();
    running.wait_for_step("live").await;
    scene.close(running, load, &events).await;
}

#[tokio::test]
async fn row_16_source_crashes_while_streaming() {
    let scene =
        Scene::with(Postgres::builder(15).database(DB).fsync(), Postgres::builder(15).database(DB)).await;
    live_through(&scene, async |_| {
        for _ in 0..2 {
            scene.source.restart(Stop::Immediate).await;
        }
    })
    .await;
}

#[tokio::test]
async fn row_17_the_walsender_is_ended_again_and_again() {
    let scene = Scene::new().await;
    live_through(&scene, async |running| {
        for _ in 0..3 {
            scene
                .source
                .wait_until(
                    "postgres",
                    "SELECT count(pg_terminate_backend(pid)) > 0 FROM pg_stat_replication WHERE state = 'streaming'",
                    Duration::from_secs(20),
                )
                .await;
            running.wait_for("an attempt after the loss", |_| true).await;
        }
    })
    .await;
}

#[tokio::test]
async fn row_21_target_crashes_while_applying() {
    let scene =
        Scene::with(Postgres::builder(15).database(DB), Postgres::builder(15).database(DB).fsync()).await;
    live_through(&scene, async |_| {
        scene.target.restart(Stop::Immediate).await;
        scene.target.restart(Stop::Fast).await;
    })
    .await;
}

#[tokio::test]
async fn row_21_the_slot_is_never_ahead_of_what_the_target_has_on_disk() {
    let scene = Scene::with(
        Postgres::builder(15).database(DB),
        Postgres::builder(15).database(DB).fsync().setting("wal_writer_delay", "10000"),
    )
    .await;
    live_through(&scene, async |running| {
        for _ in 0..3 {
            scene.target.kill9();
            let confirmed: String = scene
                .source
                .value(
                    "postgres",
                    "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'walferry'",
                )
                .await;
            scene.target.start_again().await;
            let progress: bool = scene
                .target
                .value(DB, &format!("SELECT max(end_lsn) >= '{confirmed}' FROM walferry.progress"))
                .await;
            assert!(progress, "the source was told of {confirmed}, which the target has lost");
            running.wait_for_step("live").await;
            let marker = oracle::marker(&scene.source, DB).await;
            running.wait_applied(marker).await;
        }
    })
    .await;
}

#[tokio::test]
async fn row_9_the_reply_to_commit_is_lost() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    // Row by row through a proxy of ours is slow.
    let load = Load::bank(&scene.source.uri(DB)).rate(20).start();
    let proxy = Proxy::to(&scene.target).await;
    let through = Walferry::new(&scene.source.uri(DB), &proxy.uri(DB)).command("migrate");
    let mut running = through.spawn();
    running.wait_for_step("live").await;
    for lost in 1..=3 {
        // As the changes are committed: a statement without a name.
        proxy.lose_reply(b"\0COMMIT\0");
        proxy
            .wait_until("a reply to be lost", Duration::from_secs(20), |proxy| proxy.lost_replies() >= lost)
            .await;
        let marker = oracle::marker(&scene.source, DB).await;
        running.wait_applied(marker).await;
    }
    scene.close(running, load, &events).await;
}

/// To its end the copy would take twenty seconds.
#[tokio::test]
async fn row_11_sigterm_while_copying() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let slow = scene.run().args(&["--jobs", "1"]).failpoint("copy-before-commit", "1*off->sleep(4000)");
    let mut running = slow.spawn();
    running.wait_for_step("copy").await;
    running.sigterm();
    running.wait_exit_within(Duration::from_secs(10)).await.expect_code(143);
    oracle::expect_idle(&scene.source).await;
    scene.goes_on(load, &events).await;
}

/// To its end the transaction would take half a minute.
#[tokio::test]
async fn row_12_sigterm_in_the_middle_of_a_large_transaction() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running = scene
        .run()
        .args(&["--set", "apply.batch_bytes=256kB"])
        .failpoint("apply-inside-transaction", "5*off->sleep(1000)")
        .spawn();
    running.wait_for_step("live").await;
    scene.source.sql(DB, "UPDATE big SET v = v || 'y'").await;
    let inside = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'walferry' AND xact_start < now() - interval '1 s'";
    scene.target.wait_until(DB, inside, Duration::from_secs(20)).await;
    running.sigterm();
    running.wait_exit_within(Duration::from_secs(10)).await.expect_code(143);
    oracle::expect_idle(&scene.source).await;
    scene.goes_on(load, &events).await;
}

/// In order it would take seconds: a transaction waits on the target for somebody's lock.
#[tokio::test]
async fn row_13_a_second_signal_ends_at_once() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let locker = scene.target.connect(DB).await;
    locker.batch_execute("BEGIN; LOCK TABLE big").await.unwrap();
    scene.source.sql(DB, "UPDATE big SET v = v || 'z' WHERE id = 1").await;
    let waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = 'walferry' AND wait_event_type = 'Lock'";
    scene.target.wait_until(DB, waits, Duration::from_secs(20)).await;
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'walferry (control)'";
    let before: i64 = scene.target.value(DB, sessions).await;
    running.sigint();
    // The first one has been heard.
    let ending = format!("SELECT ({sessions}) < {before}");
    scene.target.wait_until(DB, &ending, Duration::from_secs(20)).await;
    assert!(running.is_running(), "it ended in order, and at once: {}", running.stderr());
    running.sigint();
    let ended = running.wait_exit_within(Duration::from_secs(2)).await;
    assert_eq!(ended.code, 130, "{}", ended.said());
    locker.batch_execute("ROLLBACK").await.unwrap();
    scene.goes_on(load, &events).await;
}

#[tokio::test]
async fn row_14_stopped_for_longer_than_wal_sender_timeout() {
    let scene = Scene::with(
        Postgres::builder(15).database(DB).setting("wal_sender_timeout", "2000"),
        Postgres::builder(15).database(DB),
    )
    .await;
    live_through(&scene, async |running| {
        running.sigstop();
        scene
            .source
            .wait_until("postgres", "SELECT count(*) = 0 FROM pg_stat_replication", Duration::from_secs(20))
            .await;
        running.sigcont();
    })
    .await;
}

#[tokio::test]
async fn row_25_half_open_to_the_source() {
    // Our statuses still arrive, so the server is content; we hear nothing and give the connection up.
    let scene = Scene::with(
        Postgres::builder(15).database(DB).setting("wal_sender_timeout", "1000"),
        Postgres::builder(15).database(DB),
    )
    .await;
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let proxy = Proxy::to(&scene.source).await;
    let mut running = Walferry::new(&proxy.uri(DB), &scene.target.uri(DB)).command("migrate").spawn();
    running.wait_for_step("live").await;
    proxy.stall(Direction::Down, true);
    running.wait_for_stderr("has not answered").await;
    proxy.stall(Direction::Down, false);
    scene.close(running, load, &events).await;
}

#[tokio::test]
async fn row_70_a_locked_target_table_does_not_cost_the_connection_to_the_source() {
    let scene = Scene::with(
        Postgres::builder(15).database(DB).setting("wal_sender_timeout", "2000"),
        Postgres::builder(15).database(DB),
    )
    .await;
    live_through(&scene, async |running| {
        let walsender = "SELECT pid FROM pg_stat_replication WHERE application_name = 'walferry'";
        let before: i32 = scene.source.value("postgres", walsender).await;
        let locker = scene.target.connect(DB).await;
        let seconds = if options::full() { 300 } else { 6 };
        locker
            .batch_execute(&format!(
                "BEGIN; LOCK TABLE bank.entry IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep({seconds}); COMMIT"
            ))
            .await
            .unwrap();
        let after: i32 = scene.source.value("postgres", walsender).await;
        assert_eq!(before, after, "another connection after the target was locked: {}", running.stderr());
    })
    .await;
}

/// The queue between reader and apply is full meanwhile, and nobody takes what the server sends. It comes little by little: a socket that is
/// filled so takes in no acknowledgement any more.
#[tokio::test]
async fn row_70_a_full_queue_does_not_cost_the_connection_to_the_source() {
    let scene = Scene::with(
        Postgres::builder(15).database(DB).setting("wal_sender_timeout", "2000"),
        Postgres::builder(15).database(DB),
    )
    .await;
    let events = Events::record(&scene.source, DB).await;
    let load = Load::bank(&scene.source.uri(DB)).rate(100).start();
    let small = ["--set", "apply.batch_bytes=64kB", "--set", "apply.queue_bytes=256kB"];
    let source = format!("{}?tcp_user_timeout=8000", scene.source.uri(DB));
    let run = Walferry::new(&source, &scene.target.uri(DB)).command("migrate");
    let mut running = run.args(&small).spawn();
    running.wait_for_step("live").await;
    let walsender = "SELECT pid FROM pg_stat_replication WHERE application_name = 'walferry'";
    let before: i32 = scene.source.value("postgres", walsender).await;
    let locker = scene.target.connect(DB).await;
    // Longer than a source may be silent, ten times its timeout, and than what it was sent may go without an acknowledgement.
    let held = "BEGIN; LOCK TABLE bank.entry IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(24); COMMIT";
    locker.batch_execute(held).await.unwrap();
    let after: i32 = scene.source.value("postgres", walsender).await;
    assert_eq!(before, after, "the connection was given up while the queue was full: {}", running.stderr());
    scene.close(running, load, &events).await;
}

/// … which does not come to be: a little of what the server sends is taken in all the time.
#[tokio::test]
async fn row_70_while_the_queue_is_full_a_little_is_taken_out_of_the_socket() {
    let scene = Scene::with(
        Postgres::builder(15).database(DB).setting("wal_sender_timeout", "2000"),
        Postgres::builder(15).database(DB),
    )
    .await;
    let events = Events::record(&scene.source, DB).await;
    let proxy = Proxy::to(&scene.source).await;
    let run = Walferry::new(&proxy.uri(DB), &scene.target.uri(DB)).command("migrate");
    let mut running = run.args(&["--set", "apply.queue_bytes=256kB"]).spawn();
    running.wait_for_step("live").await;
    let locker = scene.target.connect(DB).await;
    locker.batch_execute("BEGIN; LOCK TABLE big IN ACCESS EXCLUSIVE MODE").await.unwrap();
    // More than fits into all buffers on the way.
    let burst =
        "INSERT INTO big SELECT 100000 + i, repeat(md5(i::text), 100) FROM generate_series(1, 20000) i";
    scene.source.sql(DB, burst).await;
    let down = || proxy.bytes(Direction::Down);
    let mut before = u64::MAX;
    while down().saturating_sub(before) > 1 << 20 || before == u64::MAX {
        before = down();
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let full = down();
    let more = |proxy: &Proxy| proxy.bytes(Direction::Down) >= full + (256 << 10);
    proxy.wait_until("what is taken in while the queue is full", Duration::from_secs(60), more).await;
    locker.batch_execute("COMMIT").await.unwrap();
    let status = running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    events.expect_applied(&status).await;
}

/// Prepared before everything crashes, decided afterwards: once where it commits, nothing where it is rolled back.
#[tokio::test]
async fn prepared_transactions_are_decided_after_a_crash_of_both() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    for (id, gid) in [(-1, "kept"), (-2, "gone"), (-3, "kept later")] {
        scene
            .source
            .sql(DB, &format!("BEGIN; INSERT INTO big VALUES ({id}, 'x'); UPDATE big SET v = '{gid}' WHERE id = {}; PREPARE TRANSACTION '{gid}'", -id))
            .await;
    }
    running.kill9().await;
    scene.source.stop(Stop::Immediate).await;
    scene.source.start_again().await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    assert_eq!(scene.target.value::<i64>(DB, "SELECT count(*) FROM big WHERE id < 0").await, 0);
    scene.source.sql(DB, "COMMIT PREPARED 'kept'").await;
    scene.source.sql(DB, "ROLLBACK PREPARED 'gone'").await;
    running.kill9().await;
    scene.source.stop(Stop::Immediate).await;
    scene.source.start_again().await;
    let mut running = scene.run().spawn();
    scene.source.sql(DB, "COMMIT PREPARED 'kept later'").await;
    running.wait_for_step("live").await;
    let status = running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    assert_eq!(scene.target.value::<i64>(DB, "SELECT count(*) FROM big WHERE id IN (-1, -3)").await, 2);
    events.expect_applied(&status).await;
}
