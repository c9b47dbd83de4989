//! What a run survives: crashes in every window, servers that restart, slots that are gone, a second process.
//!
//! Each test is a row of the fault matrix (docs/guarantees.md maps rows to tests) and ends with source equal to target by content, and
//! with exactly the events applied that an independent slot has counted.

mod crash_windows;
mod credentials;
mod cutover;
mod cutover_requests;
mod cutover_scope;
mod ddl;
mod disks;
mod failover;
mod former;
mod hostile;
mod long;
mod network;
mod process;
mod refusals;
mod restarts;
mod retained;
mod sessions;
mod settings;
mod stops;

use crate::support::load::bank;
use crate::support::oracle::{self, Events, Invariant};
use crate::support::walferry::{Running, Status};
use crate::support::{Load, Postgres, Walferry, canary};

/// A source with the bank and a larger table, and an empty target.
pub struct Scene {
    pub source: Postgres,
    pub target: Postgres,
}

pub const DB: &str = "app";

impl Scene {
    /// 15 to 15.
    pub async fn new() -> Scene {
        Scene::with(
            Postgres::builder(15).database(DB).setting("max_prepared_transactions", 10),
            Postgres::builder(15).database(DB),
        )
        .await
    }

    pub async fn with(
        source: crate::support::postgres::Builder,
        target: crate::support::postgres::Builder,
    ) -> Scene {
        let (source, target) = tokio::join!(source.start(), target.start());
        bank::create(&source, DB, 200).await;
        source
            .sql(
                DB,
                "CREATE TABLE big (id int PRIMARY KEY, v text);
                 INSERT INTO big SELECT i, repeat(i::text, 20) FROM generate_series(1, 40000) i",
            )
            .await;
        Scene { source, target }
    }

    /// One table of three rows, and nobody who writes.
    pub async fn small() -> Scene {
        Scene::small_with(Postgres::builder(15).database(DB), Postgres::builder(15).database(DB)).await
    }

    pub async fn small_with(
        source: crate::support::postgres::Builder,
        target: crate::support::postgres::Builder,
    ) -> Scene {
        let (source, target) = tokio::join!(source.start(), target.start());
        source
            .sql(
                DB,
                "CREATE TABLE t (id int PRIMARY KEY, u int UNIQUE, v text);
                 INSERT INTO t SELECT i, i * 1000, 'v' FROM generate_series(1, 3) i",
            )
            .await;
        Scene { source, target }
    }

    /// A run that came to live, was stopped in order, and has confirmed no more than it applied.
    pub async fn stopped(&self) {
        let mut running = self.run().spawn();
        running.wait_for_step("live").await;
        running.sigterm();
        running.wait_exit().await.expect_code(143);
        confirmed_within_applied(self).await;
    }

    /// The same command goes on, takes a change along, and is stopped again.
    pub async fn goes_on_small(&self) {
        let mut running = self.run().spawn();
        running.wait_for_step("live").await;
        self.source.sql(DB, "INSERT INTO t (id, v) SELECT 10000 + count(*), 'later' FROM t").await;
        let marker = oracle::marker(&self.source, DB).await;
        running.wait_applied(marker).await;
        oracle::expect_same(&self.source.uri(DB), &self.target.uri(DB)).await;
        running.sigterm();
        running.wait_exit().await.expect_code(143);
    }

    /// No session, temporary slot, lock or prepared transaction of ours on either side.
    pub async fn nothing_open(&self) {
        oracle::expect_idle(&self.source).await;
        oracle::expect_idle(&self.target).await;
    }

    pub fn load(&self) -> Load {
        Load::bank(&self.source.uri(DB)).workers(2).rate(80).start()
    }

    pub fn run(&self) -> Walferry {
        self.walferry().command("migrate")
    }

    pub fn walferry(&self) -> Walferry {
        Walferry::new(&self.source.uri(DB), &self.target.uri(DB))
    }

    /// The same command again, without failpoints: to live, then everything is checked.
    pub async fn goes_on(&self, load: Load, events: &Events<'_>) {
        let mut running = self.run().spawn();
        running.wait_for_step("live").await;
        load.wait_committed(load.committed() + 30).await;
        self.close(running, load, events).await;
    }

    /// Stops the load, drains, checks content and counts, ends the process, checks that it left nothing open.
    pub async fn close(&self, mut running: Running, load: Load, events: &Events<'_>) {
        load.stop().await;
        let marker = oracle::marker(&self.source, DB).await;
        let status = running.wait_applied(marker).await;
        oracle::expect_same(&self.source.uri(DB), &self.target.uri(DB)).await;
        events.expect_applied(&status).await;
        nothing_twice(&status);
        running.sigterm();
        running.wait_exit().await.expect_code(143);
        confirmed_within_applied(self).await;
        self.nothing_open().await;
        canary::expect_none_recorded(&self.target, DB).await;
    }
}

/// Brings a run to live, does something to it, and checks everything.
pub async fn live_through(scene: &Scene, what: impl AsyncFnOnce(&mut Running)) {
    let events = Events::record(&scene.source, DB).await;
    let load = scene.load();
    let mut running = scene.run().spawn();
    running.wait_for_step("live").await;
    let watch = Invariant::watch(&scene.target.uri(DB));
    what(&mut running).await;
    load.wait_committed(load.committed() + 50).await;
    let marker = oracle::marker(&scene.source, DB).await;
    running.wait_applied(marker).await;
    watch.expect_held().await;
    scene.close(running, load, &events).await;
}

/// What is in a snapshot and comes through the stream as well meets its own rows, although the rows are the same in the end and the
/// events are counted from the copied-at LSN that the run has recorded.
pub fn nothing_twice(status: &Status) {
    let odd = (status.count("missing"), status.count("overwritten"));
    assert_eq!(odd, (0, 0), "missing and overwritten: {:#}", status.0);
}

/// The source was never told of more than the target holds.
pub async fn confirmed_within_applied(scene: &Scene) {
    let applied = scene.run().status().await.applied();
    let within = format!(
        "SELECT bool_and(confirmed_flush_lsn <= '{applied}') FROM pg_replication_slots WHERE slot_name = 'walferry'"
    );
    assert!(scene.source.value::<bool>("postgres", &within).await, "the slot is ahead of what is applied");
}
