//! A live run over two databases of servers that all tests share: what a test of one behaviour needs, at little cost.
//!
//! ```ignore
//! let mut feed = Feed::of("CREATE TABLE t (id int PRIMARY KEY, body text)").start().await;
//! feed.source("INSERT INTO t VALUES (1, 'a')").await;              // one transaction
//! feed.together(&["UPDATE …", "DELETE …"]).await;                  // two, applied as one piece
//! feed.expect_same().await;                                        // C1 and C2 on every target
//! ```
//!
//! Changes can be applied in several ways (sets and COPY, row by row, small pieces), and a trap that one of them avoids another may
//! fall into. So one source feeds several targets, each by a run of its own (`Way`), and all of them must come out the same.

mod builder;
mod servers;

pub use builder::{Builder, Way};

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::oracle::{self, Events, Scope, differences};
use super::postgres::{connect, explain};
use super::walferry::{Running, Status};
use super::{Postgres, Walferry, canary, options};
use pg::Lsn;

/// One run into one target.
pub struct Lane {
    pub way: Way,
    pub database: String,
    pub walferry: Walferry,
    pub running: Option<Running>,
    /// `read`, where that is a process of its own.
    pub reader: Option<Running>,
    pub command: Walferry,
    pub reader_command: Option<Walferry>,
    target: Client,
}

pub struct Feed {
    pub source: &'static Postgres,
    pub target: &'static Postgres,
    pub database: String,
    pub lanes: Vec<Lane>,
    pub scope: Scope,
    events: Option<Events<'static>>,
}

impl Feed {
    /// A source database with this schema (and rows), to be fed into a copy of it.
    pub fn of(schema: &str) -> Builder {
        Builder::new(schema)
    }

    /// Statements in one transaction on the source (unless they say otherwise).
    pub async fn source(&self, statements: &str) {
        self.source.sql(&self.database, statements).await;
    }

    /// Several transactions on the source that reach the writers together.
    pub async fn together(&self, transactions: &[&str]) {
        let processes = || self.lanes.iter().flat_map(|lane| [&lane.running, &lane.reader]).flatten();
        processes().for_each(Running::sigstop);
        for transaction in transactions {
            self.source(transaction).await;
        }
        processes().for_each(Running::sigcont);
    }

    /// Statements on every target.
    pub async fn target(&self, statements: &str) {
        for lane in &self.lanes {
            run(&lane.target, statements).await;
        }
    }

    /// The rows of a query on every target, values as text joined by `|`, NULL as `-`.
    pub async fn on_targets(&self, query: &str) -> Vec<Vec<String>> {
        let mut all = Vec::new();
        for lane in &self.lanes {
            let rows = self.target.text(&lane.database, query).await;
            let line = |row: Vec<Option<String>>| {
                row.into_iter().map(|v| v.unwrap_or_else(|| "-".to_owned())).collect::<Vec<_>>().join("|")
            };
            all.push(rows.into_iter().map(line).collect());
        }
        all
    }

    /// Fails unless the query answers this on every target.
    pub async fn expect_on_targets(&self, query: &str, expected: &[&str]) {
        for (lane, rows) in self.lanes.iter().zip(self.on_targets(query).await) {
            assert_eq!(rows, expected, "{:?}: {query}", lane.way);
        }
    }

    /// Waits until everything committed so far is applied on every target.
    pub async fn applied(&mut self) {
        self.applied_within(options::patience()).await;
    }

    pub async fn applied_within(&mut self, patience: Duration) {
        let marker = oracle::marker(self.source, &self.database).await;
        for lane in &mut self.lanes {
            lane.wait_applied(marker, patience).await;
        }
    }

    /// Everything applied, every table the same (C1), exactly the source's events counted (C2).
    pub async fn expect_same(&mut self) -> Vec<Status> {
        self.expect_same_content().await;
        let mut all = Vec::new();
        for lane in &self.lanes {
            all.push(lane.walferry.status().await);
        }
        if let Some(events) = &self.events {
            events.expect_all_applied(&all).await;
        }
        all
    }

    /// C1 alone.
    pub async fn expect_same_content(&mut self) {
        self.applied().await;
        let source = self.source.uri(&self.database);
        for lane in &self.lanes {
            let found = differences(&source, &self.target.uri(&lane.database), &self.scope).await;
            let said = lane.running.as_ref().map(Running::stderr).unwrap_or_default();
            assert!(
                found.is_empty(),
                "{:?}: source and target differ:\n{}\n--- it said\n{said}",
                lane.way,
                found.join("\n")
            );
        }
    }

    /// As `expect_same`, with no update or delete that missed its row and no insert that met one.
    pub async fn expect_exact(&mut self) -> Vec<Status> {
        let all = self.expect_same().await;
        for (lane, status) in self.lanes.iter().zip(&all) {
            let counts = (status.count("missing"), status.count("overwritten"));
            assert_eq!(counts, (0, 0), "{:?}: missing and overwritten", lane.way);
        }
        all
    }

    /// Waits until every run says that it is stopped, and by which codes.
    pub async fn errors(&mut self) -> Vec<String> {
        let mut codes = Vec::new();
        for lane in &mut self.lanes {
            let running = lane.running.as_mut().expect("it runs");
            let status = running.wait_for_error().await;
            codes.push(status.error_code().unwrap_or_default().to_owned());
        }
        codes
    }

    /// Kills every run (if any is left) and starts it again.
    pub async fn restart(&mut self) {
        self.kill().await;
        for lane in &mut self.lanes {
            lane.start_writer();
            lane.start_reader();
        }
    }

    /// Starts every run again with more arguments, which win over the ones before.
    pub async fn reconfigure(&mut self, arguments: &[&str]) {
        for lane in &mut self.lanes {
            lane.command = lane.command.clone().args(arguments);
        }
        self.restart().await;
    }

    /// As `restart`, with a failpoint.
    pub async fn restart_with(&mut self, failpoint: &str, action: &str) {
        self.kill().await;
        for lane in &mut self.lanes {
            lane.running = Some(lane.command.clone().failpoint(failpoint, action).spawn());
            lane.start_reader();
        }
    }

    /// Waits until every run has ended by itself, or for so long.
    pub async fn wait_ended(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        for running in self.lanes.iter_mut().filter_map(|lane| lane.running.as_mut()) {
            while running.is_running() && Instant::now() < deadline {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    pub async fn kill(&mut self) {
        for lane in &mut self.lanes {
            lane.kill_writer().await;
            lane.kill_reader().await;
        }
    }

    /// Ends the runs and frees what the shared servers keep for them.
    pub async fn end(mut self) {
        self.kill().await;
        for lane in &self.lanes {
            canary::expect_none_recorded(self.target, &lane.database).await;
        }
        let slots = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active";
        let session = self.source.connect(&self.database).await;
        run(&session, slots).await;
        let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
                    WHERE database = current_database() AND NOT active";
        let deadline = Instant::now() + options::patience();
        loop {
            let _ = session.batch_execute(drop).await;
            let left = "SELECT FROM pg_replication_slots WHERE database = current_database()";
            if session.query(left, &[]).await.is_ok_and(|rows| rows.is_empty()) {
                return;
            }
            assert!(Instant::now() < deadline, "the slots of {} stay active", self.database);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Lane {
    /// The run, or its half that writes.
    pub fn start_writer(&mut self) {
        self.running = Some(self.command.spawn());
    }

    /// The half that reads, if it is a process of its own.
    pub fn start_reader(&mut self) {
        self.reader = self.reader_command.as_ref().map(Walferry::spawn);
    }

    pub async fn kill_writer(&mut self) {
        if let Some(running) = self.running.take() {
            running.kill9().await;
        }
    }

    pub async fn kill_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.kill9().await;
        }
    }

    async fn wait_applied(&mut self, position: Lsn, patience: Duration) {
        let sql = format!(
            "SELECT coalesce(max(end_lsn) >= '{position}', false) FROM walferry.progress WHERE run = '{}'",
            self.walferry.run_name()
        );
        self.wait_for("the marker to be applied", &sql, patience).await;
    }

    /// Waits until the run has come to this step; the steps are compared by name.
    async fn wait_live(&mut self) {
        let sql =
            format!("SELECT step = 'live' FROM walferry.runs WHERE name = '{}'", self.walferry.run_name());
        self.wait_for("step live", &sql, options::patience()).await;
    }

    async fn wait_for(&mut self, what: &str, sql: &str, patience: Duration) {
        let deadline = Instant::now() + patience;
        loop {
            // At first there is no such table, then no such row.
            if let Ok(Some(row)) = self.target.query_opt(sql, &[]).await
                && row.get(0)
            {
                return;
            }
            let running = self.running.as_mut().expect("the run was started");
            let over = !running.is_running() || Instant::now() > deadline;
            if over {
                let said = running.stderr();
                let reader = self.reader.as_ref().map(Running::stderr).unwrap_or_default();
                let slot = self.slot().await;
                panic!("{:?}: waited for {what}; it said\n{said}\n{reader}\n{slot}", self.way);
            }
            tokio::time::sleep(Duration::from_millis(15)).await;
        }
    }

    /// What the source knows of those who stream from it: whose turn it is, where nothing moves any more.
    async fn slot(&self) -> String {
        let sql = "SELECT slot_name, database, s.restart_lsn, s.confirmed_flush_lsn, r.state, r.sent_lsn, r.flush_lsn, r.reply_time,
                          a.wait_event, a.query, clock_timestamp() AS now, pg_current_wal_lsn() AS wal
                     FROM pg_replication_slots s LEFT JOIN pg_stat_replication r ON r.pid = s.active_pid
                     LEFT JOIN pg_stat_activity a ON a.pid = s.active_pid";
        let sql = format!("SELECT row_to_json(q)::text FROM ({sql}) q");
        match connect(self.walferry.source()).await {
            Ok(client) => match client.query(&sql, &[]).await {
                Ok(rows) => rows.iter().map(|row| row.get(0)).collect::<Vec<String>>().join("\n"),
                Err(error) => explain(&error),
            },
            Err(error) => explain(&error),
        }
    }
}

async fn run(client: &Client, statements: &str) {
    if let Err(error) = client.batch_execute(statements).await {
        panic!("{}\n  in: {statements}", explain(&error));
    }
}
