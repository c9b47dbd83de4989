//! What the driver of random faults works on: two servers, a proxy before each, two loads, and the run.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::fault::Side;
use super::workload::{Table, Workload};
use super::{majors, settings, shapes, workload};
use crate::support::load::{Load, Rng, bank};
use crate::support::oracle::{Events, Invariant};
use crate::support::postgres::connect;
use crate::support::walferry::Running;
use crate::support::{Postgres, Proxy, Walferry};

pub const DB: &str = "app";

/// How long a process may take to end by itself.
const ENDS: Duration = Duration::from_secs(20);

pub struct Rig {
    pub source: Postgres,
    pub target: Postgres,
    proxies: [Proxy; 2],
    command: Walferry,
    running: Option<Running>,
    /// A failpoint is set in the process that runs: it may end at any time.
    armed: bool,
    pub load: Load,
    pub workload: Workload,
    pub watch: Option<Invariant>,
    pub story: Story,
}

/// What a failure has to tell.
pub struct Story {
    seed: u64,
    drawn: String,
    began: Instant,
    done: Vec<String>,
    /// Where the slot stood when that was last known, and the end of what was compared.
    pub slot: String,
    pub marker: String,
}

impl Story {
    pub fn note(&mut self, what: impl std::fmt::Debug) {
        self.done.push(format!("{:6.1} s  {what:?}", self.began.elapsed().as_secs_f64()));
    }

    pub fn faults(&self) -> usize {
        self.done.len()
    }
}

impl Drop for Story {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = &self.done[self.done.len().saturating_sub(20)..];
            eprintln!(
                "--- seed {}: {}\n--- the last of {} faults:\n{}\n--- slot at {}, marker at {}\n\
                 --- repeat it with: scripts/test random-faults --seed {} --minutes {:.1}",
                self.seed,
                self.drawn,
                self.done.len(),
                last.join("\n"),
                self.slot,
                self.marker,
                self.seed,
                self.began.elapsed().as_secs_f64() / 60.0,
            );
        }
    }
}

impl Rig {
    pub async fn new(seed: u64, rng: &mut Rng) -> Rig {
        let (from, to) = majors(rng);
        let tables = Table::draw(rng, 12);
        let settings = settings(rng);
        let shapes: Vec<String> = tables.iter().map(Table::describe).collect();
        let story = Story {
            seed,
            drawn: format!("{from} to {to}; {}; {}", settings.join(" "), shapes.join(", ")),
            began: Instant::now(),
            done: Vec::new(),
            slot: "?".to_owned(),
            marker: "?".to_owned(),
        };
        // What is committed and not flushed stays so for a while, for a crash to take it.
        let (source, target) = tokio::join!(
            Postgres::builder(from).database(DB).start(),
            Postgres::builder(to).database(DB).setting("wal_writer_delay", "10000").start()
        );
        bank::create(&source, DB, 100).await;
        source.sql(DB, shapes::PRELUDE).await;
        let client = source.connect(DB).await;
        for table in &tables {
            workload::run(&client, &table.ddl()).await;
            for _ in 0..rng.below(40) {
                workload::run(&client, &table.insert(rng)).await;
            }
        }
        // The oracle's slot, which is read at the end.
        Events::record(&source, DB).await;
        let proxies = [Proxy::to(&source).await, Proxy::to(&target).await];
        let mut command = Walferry::new(&proxies[0].uri(DB), &proxies[1].uri(DB))
            .command("migrate")
            .args(&["--keyless", "inserts"]);
        for setting in &settings {
            command = command.args(&["--set", setting]);
        }
        let load = Load::bank(&source.uri(DB)).workers(2).rate(60).seed(seed).start();
        let workload = Workload::start_on(source.uri(DB), Arc::new(tables), seed, true);
        let running = Some(command.spawn());
        Rig { source, target, proxies, command, running, armed: false, load, workload, watch: None, story }
    }

    pub fn server(&self, side: Side) -> &Postgres {
        if side == Side::Source { &self.source } else { &self.target }
    }

    pub fn proxy(&self, side: Side) -> &Proxy {
        &self.proxies[side as usize]
    }

    pub async fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill9().await;
        }
        self.start();
    }

    fn start(&mut self) {
        self.armed = false;
        self.running = Some(self.command.spawn());
    }

    pub async fn restart_with(&mut self, failpoint: &str, before: u64) {
        if let Some(running) = self.running.take() {
            running.kill9().await;
        }
        let action = if before == 0 { "panic".to_owned() } else { format!("{before}*off->panic") };
        let mut running = self.command.clone().failpoint(failpoint, &action).spawn();
        let until = Instant::now() + Duration::from_secs(3);
        while running.is_running() && Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        (self.running, self.armed) = (Some(running), true);
    }

    pub async fn terminate(&mut self) {
        if let Some(running) = self.running.take() {
            running.sigterm();
            let output = running.wait_exit_within(ENDS).await;
            assert!(output.code == 143 || self.armed || gave_way(&output.said()), "SIGTERM: {output:#?}");
        }
        self.start();
    }

    pub fn signal_stop(&self) {
        self.running.iter().for_each(Running::sigstop);
    }

    pub fn signal_cont(&self) {
        self.running.iter().for_each(Running::sigcont);
    }

    /// Between two faults: starts again what has ended, as whoever watches over services does, and looks where things stand.
    pub async fn look_after(&mut self) {
        if let Some(mut running) = self.running.take() {
            if running.is_running() {
                self.running = Some(running);
            } else {
                let output = running.wait_exit_within(ENDS).await;
                assert!(self.armed || gave_way(&output.said()), "it ended by itself: {output:#?}");
            }
        }
        if self.running.is_none() {
            self.start();
        }
        let position =
            "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'walferry'";
        if let Ok(client) = connect(&self.source.uri("postgres")).await
            && let Ok(Some(row)) = client.query_opt(position, &[]).await
        {
            self.story.slot = row.get::<_, Option<String>>(0).unwrap_or_default();
        }
        let live = "SELECT FROM walferry.runs WHERE step = 'live'";
        if self.watch.is_none()
            && let Ok(client) = connect(&self.target.uri(DB)).await
            && client.query(live, &[]).await.is_ok_and(|rows| !rows.is_empty())
        {
            self.watch = Some(Invariant::watch(&self.target.uri(DB)));
        }
    }

    /// No more faults: settings as they were, and a process without failpoints. Returns it.
    pub async fn heal(&mut self) -> Running {
        for server in [&self.source, &self.target] {
            server.sql("postgres", &format!("ALTER DATABASE {DB} RESET ALL")).await;
        }
        if self.armed {
            self.kill().await;
        }
        self.look_after().await;
        self.running.take().expect("it was just started")
    }
}

/// Its predecessor's sessions were not gone yet; or it lost a connection before there was a run, and nothing to go on with.
fn gave_way(said: &str) -> bool {
    let began = ["step slot", "step copy", "step catchup"].iter().any(|step| said.contains(step));
    let cut = ["[CONNECTION]", "[57P01]", "[57P02]", "[57P03]"].iter().any(|code| said.contains(code));
    said.contains("OWNED_BY") || cut && !began
}
