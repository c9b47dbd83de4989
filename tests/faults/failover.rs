//! Failover: a standby takes over from the source, or from the target.

use std::time::{Duration, Instant};

use super::{DB, Scene};
use crate::support::load::bank;
use crate::support::oracle::{self, Events};
use crate::support::postgres::Stop;
use crate::support::walferry::Running;
use crate::support::{Kafka, Load, Postgres, Walferry};

const SOON: Duration = Duration::from_secs(60);

/// A source of 17 with a standby that keeps its failover slots, and a target.
struct Pair {
    primary: Postgres,
    standby: Postgres,
    target: Postgres,
}

impl Pair {
    /// `held_back`: logical slots wait for the standby (`synchronized_standby_slots`).
    async fn new(held_back: bool) -> Pair {
        let mut builder = Postgres::builder(17).database(DB);
        if held_back {
            builder = builder.setting("synchronized_standby_slots", "standby");
        }
        let (primary, target) = tokio::join!(builder.start(), Postgres::builder(15).database(DB).start());
        primary.sql("postgres", "SELECT pg_create_physical_replication_slot('standby', true)").await;
        bank::create(&primary, DB, 100).await;
        let settings = [
            ("sync_replication_slots", "on"),
            ("hot_standby_feedback", "on"),
            ("primary_slot_name", "standby"),
            // Its own subscribers would have to wait for a standby that it does not have.
            ("synchronized_standby_slots", ""),
        ];
        let standby = Postgres::standby_of(&primary, &settings).await;
        Pair { primary, standby, target }
    }

    /// Whichever of the two is the primary.
    fn run(&self) -> Walferry {
        let either = format!(
            "postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/{DB}?target_session_attrs=primary",
            self.primary.port(),
            self.standby.port()
        );
        Walferry::new(&either, &self.target.uri(DB)).command("migrate").args(&["--set", "slot.failover=on"])
    }

    /// Until the standby has both slots, ready to be used after a promotion.
    async fn slots_are_synced(&self, count: i64) {
        let synced = format!(
            "SELECT count(*) = {count} FROM pg_replication_slots WHERE synced AND NOT temporary AND invalidation_reason IS NULL"
        );
        self.standby.wait_until("postgres", &synced, Duration::from_secs(120)).await;
    }

    async fn standby_has(&self, position: pg::Lsn) {
        let replayed = format!("SELECT pg_last_wal_replay_lsn() >= '{position}'");
        self.standby.wait_until("postgres", &replayed, SOON).await;
    }
}

#[tokio::test]
async fn row_61_a_standby_with_the_slot_takes_over_and_nothing_is_lost() {
    let pair = Pair::new(true).await;
    // The oracle's slot goes over too: what it counts is what the new primary has.
    let make = "SELECT pg_create_logical_replication_slot('oracle_' || oid, 'test_decoding', false, false, true) FROM pg_database WHERE datname = current_database()";
    pair.primary.query(DB, make).await;
    // A standby takes a slot over once it has moved past what the standby itself still has.
    let synced = "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'oracle%' AND synced AND NOT temporary";
    while pair.standby.value::<i64>("postgres", synced).await == 0 {
        let advance =
            "SELECT pg_log_standby_snapshot(), pg_replication_slot_advance(slot_name, pg_current_wal_lsn())
                       FROM pg_replication_slots WHERE slot_name LIKE 'oracle%'";
        pair.primary.query(DB, advance).await;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let load = Load::bank(&pair.primary.uri(DB)).rate(40).start();
    let mut running = pair.run().spawn();
    running.wait_for_step("live").await;
    load.wait_committed(load.committed() + 50).await;
    pair.slots_are_synced(2).await;
    // Whatever is on the standby's side of the crash is the truth from now on.
    pair.primary.kill9();
    pair.standby.promote().await;
    load.move_to(&pair.standby.uri(DB));
    load.wait_committed(load.committed() + 100).await;
    load.stop().await;
    let status = running.wait_applied(oracle::marker(&pair.standby, DB).await).await;
    oracle::expect_same(&pair.standby.uri(DB), &pair.target.uri(DB)).await;
    Events::of_slot(&pair.standby, DB).await.expect_applied(&status).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    // And the next start finds its source on a timeline that it knows.
    let mut running = pair.run().spawn();
    running.wait_for("a second start", |status| status.count("epoch") == 2).await;
    pair.standby.sql(DB, "UPDATE bank.account SET balance = balance").await;
    running.wait_applied(oracle::marker(&pair.standby, DB).await).await;
    oracle::expect_same(&pair.standby.uri(DB), &pair.target.uri(DB)).await;
}

#[tokio::test]
async fn row_61_a_standby_without_the_slot_is_refused() {
    let pair = Pair::new(false).await;
    let run = pair.run().args(&["--set", "slot.failover=off"]);
    let mut running = run.spawn();
    running.wait_for_step("live").await;
    pair.standby_has(oracle::marker(&pair.primary, DB).await).await;
    pair.primary.kill9();
    pair.standby.promote().await;
    let ended = running.wait_exit().await.expect_code(4);
    assert!(
        ended.stderr.contains("SLOT_MISSING") && ended.stderr.contains("walferry clean"),
        "{}",
        ended.said()
    );
    let again = run.run().await.expect_code(4);
    assert!(again.stderr.contains("SLOT_MISSING"), "{}", again.said());
    let slots: i64 = pair.standby.value("postgres", "SELECT count(*) FROM pg_replication_slots").await;
    assert_eq!(slots, 0, "a slot was made again");
}

/// A feed without a writer, of the pair.
async fn feed(pair: &Pair) -> (Walferry, String) {
    let (kafka, prefix) = (Kafka::shared().await, Kafka::prefix());
    let run = pair.run().name("feed").command("read");
    let run = run.args(&["--brokers", &kafka.brokers(), "--prefix", &prefix, "--create-slot"]);
    (run.args(&["--table", "bank.visit", "--set", "slot.failover=on"]), format!("{prefix}.bank.visit"))
}

/// How many events of the topic insert a row of this account.
async fn visits(topic: &str, account: u32) -> usize {
    let records = Kafka::shared().await.records(topic);
    records.iter().filter(|record| record.json()["after"]["account"] == account).count()
}

async fn wait_for_visits(running: &mut Running, topic: &str, account: u32, count: usize) {
    let deadline = Instant::now() + SOON;
    while visits(topic, account).await < count {
        assert!(running.is_running() && Instant::now() < deadline, "{}", running.stderr());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_61_a_reader_follows_a_standby_that_has_everything() {
    let pair = Pair::new(true).await;
    let (run, topic) = feed(&pair).await;
    let mut running = run.spawn();
    let made = "SELECT count(*) = 1 FROM pg_replication_slots WHERE slot_name = 'feed' AND active";
    pair.primary.wait_until("postgres", made, SOON).await;
    pair.primary.sql(DB, "INSERT INTO bank.visit (account) SELECT 1 FROM generate_series(1, 50)").await;
    wait_for_visits(&mut running, &topic, 1, 50).await;
    pair.slots_are_synced(1).await;
    pair.primary.kill9();
    pair.standby.promote().await;
    pair.standby.sql(DB, "INSERT INTO bank.visit (account) SELECT 2 FROM generate_series(1, 50)").await;
    wait_for_visits(&mut running, &topic, 2, 50).await;
    assert!(
        running.stderr().contains("the source was promoted: it is on timeline 2 now"),
        "{}",
        running.stderr()
    );
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    // Known from then on.
    let mut running = run.spawn();
    pair.standby.sql(DB, "INSERT INTO bank.visit (account) VALUES (3)").await;
    wait_for_visits(&mut running, &topic, 3, 1).await;
    assert!(!running.stderr().contains("was promoted"), "{}", running.stderr());
    running.sigterm();
    running.wait_exit().await.expect_code(143);
}

/// The reader follows first, and what it brings from the new timeline is no reason for the writer not to.
#[tokio::test(flavor = "multi_thread")]
async fn row_61_a_reader_and_a_writer_follow_one_after_the_other() {
    let pair = Pair::new(true).await;
    let (kafka, prefix) = (Kafka::shared().await, Kafka::prefix());
    let of = |command: &str| {
        let run = pair.run().name("halves").command(command);
        run.args(&["--brokers", &kafka.brokers(), "--prefix", &prefix, "--set", "slot.failover=on"])
    };
    let (mut writer, mut reader) = (of("write").spawn(), of("read").spawn());
    writer.wait_for_step("live").await;
    pair.primary.sql(DB, "INSERT INTO bank.visit (account) SELECT 1 FROM generate_series(1, 50)").await;
    writer.wait_applied(oracle::marker(&pair.primary, DB).await).await;
    pair.slots_are_synced(1).await;
    pair.primary.kill9();
    pair.standby.promote().await;
    pair.standby.sql(DB, "INSERT INTO bank.visit (account) SELECT 2 FROM generate_series(1, 50)").await;
    reader.wait_for_stderr("the source was promoted").await;
    writer.wait_applied(oracle::marker(&pair.standby, DB).await).await;
    writer.kill9().await;
    pair.standby.sql(DB, "UPDATE bank.account SET balance = balance").await;
    let mut writer = of("write").spawn();
    writer.wait_for_stderr("the source was promoted").await;
    writer.wait_applied(oracle::marker(&pair.standby, DB).await).await;
    oracle::expect_same(&pair.standby.uri(DB), &pair.target.uri(DB)).await;
    for process in [writer, reader] {
        process.sigterm();
        process.wait_exit().await.expect_code(143);
    }
}

/// The topics have what the new primary never had, and its WAL has grown past that since.
#[tokio::test(flavor = "multi_thread")]
async fn row_61_a_reader_refuses_a_standby_that_lacked_what_is_in_the_topics() {
    let pair = Pair::new(false).await;
    let (run, topic) = feed(&pair).await;
    let mut running = run.spawn();
    pair.slots_are_synced(1).await;
    pair.standby_has(oracle::marker(&pair.primary, DB).await).await;
    pair.standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''").await;
    pair.standby.reload().await;
    let alone = "SELECT count(*) = 0 FROM pg_stat_wal_receiver";
    pair.standby.wait_until("postgres", alone, SOON).await;
    pair.primary.sql(DB, "INSERT INTO bank.visit (account) SELECT 1 FROM generate_series(1, 500)").await;
    wait_for_visits(&mut running, &topic, 1, 500).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    let written: String = pair.primary.value(DB, "SELECT pg_current_wal_lsn()::text").await;
    pair.primary.kill9();
    pair.standby.promote().await;
    let behind = format!("SELECT pg_current_wal_lsn() <= '{written}'");
    while pair.standby.value::<bool>("postgres", &behind).await {
        pair.standby.sql(DB, "INSERT INTO bank.visit (account) SELECT 2 FROM generate_series(1, 500)").await;
    }
    let refused = run.run().await.expect_code(4);
    assert!(refused.stderr.contains("SOURCE_BEHIND"), "{}", refused.said());
    assert!(refused.stderr.contains("synchronized_standby_slots"), "{}", refused.said());
    assert_eq!(visits(&topic, 2).await, 0);
}

/// The target has what the new primary never had, and the new primary's WAL has grown past it since: only the history of its timelines
/// tells. Going on would skip what was written in between.
#[tokio::test]
async fn row_61_a_standby_that_lacked_what_was_applied_is_refused() {
    let pair = Pair::new(false).await;
    let mut running = pair.run().spawn();
    running.wait_for_step("live").await;
    pair.slots_are_synced(1).await;
    // The slot's own positions go over at a restart point; the rest of the WAL does not.
    pair.standby_has(oracle::marker(&pair.primary, DB).await).await;
    pair.standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''").await;
    pair.standby.reload().await;
    let alone = "SELECT count(*) = 0 FROM pg_stat_wal_receiver";
    pair.standby.wait_until("postgres", alone, SOON).await;
    pair.primary.sql(DB, "INSERT INTO bank.visit (account) SELECT 1 FROM generate_series(1, 500)").await;
    running.wait_applied(oracle::marker(&pair.primary, DB).await).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    let applied = pair.run().status().await.applied();
    pair.primary.kill9();
    pair.standby.promote().await;
    // Other rows, until the WAL is longer than what was applied.
    let behind = format!("SELECT pg_current_wal_lsn() <= '{applied}'");
    while pair.standby.value::<bool>("postgres", &behind).await {
        pair.standby.sql(DB, "INSERT INTO bank.visit (account) SELECT 2 FROM generate_series(1, 500)").await;
    }
    pair.standby.sql(DB, "INSERT INTO bank.visit (account) VALUES (3)").await;
    let refused = pair.run().run().await.expect_code(4);
    assert!(refused.stderr.contains("SOURCE_BEHIND"), "{}", refused.said());
    assert!(refused.stderr.contains("synchronized_standby_slots"), "{}", refused.said());
}

/// A synchronous standby of the target takes over: it holds all that was acknowledged, and the run goes on from its progress.
#[tokio::test]
async fn row_61_the_target_fails_over_and_the_run_goes_on_from_its_progress() {
    let scene = Scene::new().await;
    let standby = Postgres::standby_of(&scene.target, &[]).await;
    scene.target.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = '*'").await;
    scene.target.reload().await;
    let synchronous = "SELECT count(*) = 1 FROM pg_stat_replication WHERE sync_state = 'sync'";
    scene.target.wait_until("postgres", synchronous, SOON).await;
    let either = format!(
        "postgresql://postgres@127.0.0.1:{},127.0.0.1:{}/{DB}?target_session_attrs=primary",
        scene.target.port(),
        standby.port()
    );
    let events = Events::record(&scene.source, DB).await;
    let run = Walferry::new(&scene.source.uri(DB), &either).command("migrate");
    let mut running = run.spawn();
    running.wait_for_step("live").await;
    // Without a pause, so that nothing is ever put on disk because there is nothing else to do.
    let load = Load::bank(&scene.source.uri(DB)).workers(3).start();
    load.wait_committed(load.committed() + 50).await;
    // What never comes to the standby before the primary dies must not have been acknowledged, although the primary's own disk has it.
    standby.sql("postgres", "ALTER SYSTEM SET primary_conninfo = ''").await;
    standby.reload().await;
    standby.wait_until("postgres", "SELECT count(*) = 0 FROM pg_stat_wal_receiver", SOON).await;
    load.wait_committed(load.committed() + 400).await;
    let written: String = scene.target.value("postgres", "SELECT pg_current_wal_insert_lsn()::text").await;
    let flushed = format!("SELECT pg_current_wal_flush_lsn() >= '{written}'");
    scene.target.wait_until("postgres", &flushed, SOON).await;
    load.wait_committed(load.committed() + 100).await;
    scene.target.kill9();
    let confirmed: String = scene
        .source
        .value(
            "postgres",
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'walferry'",
        )
        .await;
    standby.promote().await;
    let holds = format!("SELECT max(end_lsn) >= '{confirmed}' FROM walferry.progress");
    assert!(
        standby.value::<bool>(DB, &holds).await,
        "the source was told of {confirmed}, which the standby lacks"
    );
    load.wait_committed(load.committed() + 50).await;
    load.stop().await;
    let status = running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    oracle::expect_same(&scene.source.uri(DB), &standby.uri(DB)).await;
    events.expect_applied(&status).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    oracle::expect_idle(&scene.source).await;
}

/// An asynchronous standby of the target that lacks what was acknowledged: refused, as any backup is.
#[tokio::test]
async fn row_64_an_asynchronous_standby_of_the_target_that_lacks_rows_is_refused() {
    let scene = Scene::small().await;
    let standby = Postgres::standby_of(&scene.target, &[]).await;
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let caught_up = format!("SELECT pg_last_wal_replay_lsn() >= '{}'", scene.target.wal_position().await);
    standby.wait_until("postgres", &caught_up, SOON).await;
    standby.stop(Stop::Fast).await;
    scene.source.sql(DB, "INSERT INTO t VALUES (100, 1, 'lost')").await;
    running.wait_applied(oracle::marker(&scene.source, DB).await).await;
    running.sigterm();
    running.wait_exit().await.expect_code(143);
    scene.target.stop(Stop::Immediate).await;
    standby.start_again().await;
    standby.promote().await;
    let run = Walferry::new(&scene.source.uri(DB), &standby.uri(DB)).command("migrate");
    let refused = run.run().await.expect_code(4);
    assert!(refused.stderr.contains("GAP"), "{}", refused.said());
}
