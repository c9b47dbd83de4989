//! What happens to the process itself: clocks that jump, memory that is not there.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{DB, Scene};
use crate::support::memory::MemoryGroup;
use crate::support::oracle::{self, Events};
use crate::support::walferry::Status;
use crate::support::{Load, Postgres, Walferry, options, scratch};

const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

/// A wall clock that can be set while the program runs; the monotonic one stays what it is.
struct Clock(PathBuf);

impl Clock {
    fn new() -> Clock {
        assert!(
            std::path::Path::new(FAKETIME).exists(),
            "this test sets the program's clock with libfaketime (Debian's package faketime): run scripts/setup"
        );
        let clock = Clock(scratch::folder("clock").join("offset"));
        clock.set("+0");
        clock
    }

    /// In faketime's words: `+1h`, `-10y`.
    fn set(&self, offset: &str) {
        // Whole or not at all: it is read at any time.
        let beside = self.0.with_extension("new");
        std::fs::write(&beside, format!("{offset}\n")).unwrap();
        std::fs::rename(&beside, &self.0).unwrap();
    }

    fn given_to(&self, run: Walferry) -> Walferry {
        run.env("LD_PRELOAD", FAKETIME)
            .env("FAKETIME_TIMESTAMP_FILE", &self.0.display().to_string())
            .env("FAKETIME_NO_CACHE", "1")
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
    }
}

#[tokio::test]
async fn row_65_the_clock_jumps_by_an_hour_and_by_ten_years() {
    let scene = Scene::with(
        Postgres::builder(15).database(DB).setting("wal_sender_timeout", "2000"),
        Postgres::builder(15).database(DB),
    )
    .await;
    let events = Events::record(&scene.source, DB).await;
    let mut load = scene.load();
    let clock = Clock::new();
    let mut running = clock.given_to(scene.walferry()).command("migrate").spawn();
    running.wait_for_step("live").await;
    let walsender = "SELECT pid FROM pg_stat_replication WHERE application_name = 'walferry'";
    let pid: i32 = scene.source.value("postgres", walsender).await;
    for jump in ["+1h", "-1h", "+10y", "-10y", "+0"] {
        // While nothing comes, whose clock is wrong sends no sign of life for so long, or thinks that it has heard none.
        load.stop().await;
        clock.set(jump);
        tokio::time::sleep(Duration::from_secs(3)).await;
        load = scene.load();
        load.wait_committed(20).await;
        let status = running.wait_applied(oracle::marker(&scene.source, DB).await).await;
        assert!(status.0["error"].is_null(), "after {jump}: {:#}", status.0);
        // The clock has really jumped for the program.
        let away = |status: &Status| status.count("seen_at_ms").abs_diff(now_ms());
        let year = 365 * 86_400_000;
        let (least, most) = match jump {
            "+0" => (0, 600_000),
            "+1h" | "-1h" => (3_000_000, 4_200_000),
            _ => (9 * year, 11 * year),
        };
        running.wait_for(jump, |status| (least..most).contains(&away(status))).await;
    }
    assert_eq!(pid, scene.source.value::<i32>("postgres", walsender).await, "the connection was given up");
    scene.close(running, load, &events).await;
}

fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from(now.as_millis()).unwrap()
}

/// Rows: in the run of everything five million; narrow ones, then as many bytes in few wide ones.
#[tokio::test]
async fn row_66_memory_is_bounded_by_bytes_not_by_rows() {
    let scene = Scene::small().await;
    let events = Events::record(&scene.source, DB).await;
    let (narrow, wide) = if options::full() { (5_000_000, 10_000) } else { (150_000, 150) };
    scene
        .source
        .sql(DB, "CREATE TABLE narrow (id int PRIMARY KEY, v text); CREATE TABLE wide (id int PRIMARY KEY, v text); ALTER TABLE wide ALTER v SET STORAGE EXTERNAL")
        .await;
    // Scaled down with the rows: a piece or a queue without bounds would hold more than the limit.
    let small = ["--set", "apply.batch_bytes=1MB", "--set", "apply.queue_bytes=4MB"];
    let (arguments, limit) = if options::full() { (&[][..], 220) } else { (&small[..], 48) };
    let mut running = scene.run().args(arguments).spawn();
    running.wait_for_step("live").await;
    let before = running.peak_memory();
    for statements in [
        format!("INSERT INTO narrow SELECT i, 'v' FROM generate_series(1, {narrow}) i"),
        format!("INSERT INTO wide SELECT i, repeat('x', 500000) FROM generate_series(1, {wide}) i"),
        "UPDATE narrow SET v = 'w'; UPDATE wide SET id = -id".to_owned(),
        "DELETE FROM narrow; DELETE FROM wide WHERE id % 2 = 0".to_owned(),
    ] {
        scene.source.sql(DB, &statements).await;
        let marker = oracle::marker(&scene.source, DB).await;
        wait_long(&scene, marker).await;
    }
    let grown = running.peak_memory().saturating_sub(before);
    eprintln!(
        "{narrow} narrow rows and {wide} of 500 kB, in one transaction each: {} MB more than at rest",
        grown >> 20
    );
    assert!(grown < limit << 20, "{} MB more than at rest", grown >> 20);
    let status = running.status().await;
    oracle::expect_same(&scene.source.uri(DB), &scene.target.uri(DB)).await;
    if !options::full() {
        events.expect_applied(&status).await;
    }
}

async fn wait_long(scene: &Scene, position: pg::Lsn) {
    let limit = Duration::from_secs(if options::full() { 3600 } else { 120 });
    let applied = format!("SELECT max(end_lsn) >= '{position}' FROM walferry.progress");
    scene.target.wait_until(DB, &applied, limit).await;
}

/// No more memory is given to it in the middle of a large transaction: it ends, as by `kill -9`, and the next start goes on.
#[tokio::test]
async fn row_66_out_of_memory_is_a_crash_like_any_other() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = Load::bank(&scene.source.uri(DB)).rate(20).start();
    let mut running =
        scene.run().args(&["--set", "apply.batch_bytes=64MB", "--set", "apply.queue_bytes=256MB"]).spawn();
    running.wait_for_step("live").await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let size =
        status.lines().find_map(|line| line.strip_prefix("VmSize:")).unwrap().trim().trim_end_matches(" kB");
    let limit = (size.parse::<u64>().unwrap() << 10) + (6 << 20);
    let pid = running.id().to_string();
    let limited =
        std::process::Command::new("prlimit").args(["--pid", &pid, &format!("--as={limit}")]).status();
    assert!(limited.unwrap().success());
    let began = Instant::now();
    scene.source.sql(DB, "UPDATE big SET v = v || repeat('x', 2000)").await;
    let ended = running.wait_exit().await;
    assert!(ended.code > 128, "it was to be out of memory after {:?}: {}", began.elapsed(), ended.said());
    assert!(ended.stderr.contains("memory allocation"), "{}", ended.said());
    scene.goes_on(load, &events).await;
}

/// The kernel kills it in the middle of a large transaction, for the memory that its control group may have.
#[tokio::test]
async fn row_66_killed_for_the_memory_of_its_group() {
    let scene = Scene::new().await;
    let events = Events::record(&scene.source, DB).await;
    let load = Load::bank(&scene.source.uri(DB)).rate(20).start();
    let mut running =
        scene.run().args(&["--set", "apply.batch_bytes=64MB", "--set", "apply.queue_bytes=256MB"]).spawn();
    running.wait_for_step("live").await;
    let group = MemoryGroup::new(16 << 20);
    group.take(running.id());
    scene.source.sql(DB, "UPDATE big SET v = v || repeat('x', 2000)").await;
    let ended = running.wait_exit().await;
    assert_eq!(ended.code, 128 + 9, "it was to be killed: {}", ended.said());
    drop(group);
    scene.goes_on(load, &events).await;
}
