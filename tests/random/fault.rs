//! The faults that the driver draws from, and how each is done.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::rig::Rig;
use crate::support::load::Rng;
use crate::support::postgres::Stop;
use crate::support::{Direction, Postgres, Proxy};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Source,
    Target,
}

/// What may happen. Times are milliseconds.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// kill -9 of the process, which is started again.
    Kill,
    /// Started again with this failpoint, which ends it when it is passed for the n-th time.
    Failpoint(&'static str, u64),
    Terminate,
    /// SIGSTOP, and SIGCONT after so long.
    Pause(u64),
    /// pg_terminate_backend of one of its sessions.
    EndSession(Side),
    /// kill -9 of one of its backends: the server restarts all of them.
    KillBackend(Side),
    Restart(Side, Stop),
    /// kill -9 of the postmaster and all backends.
    KillServer(Side),
    /// Every connection is reset.
    Cut(Side),
    /// Nobody is let in for so long, and who is in is reset.
    Refuse(Side, u64),
    Stall(Side, Direction, u64),
    /// Bytes get lost for so long, unnoticed; then the connections are reset.
    HalfOpen(Side, Direction, u64),
    Latency(Side, u64),
    Throttle(Side, u64),
    /// The answer to the next COMMIT on the target is lost.
    LoseCommit,
    /// Somebody else locks a table of the target.
    Lock(u64),
    /// Settings of the database change, and the sessions that have the old ones end.
    Settings(Side),
}

/// Each ends the process when it is passed; the number is the most passes that are let through before.
const FAILPOINTS: [(&str, u64); 9] = [
    ("apply-before-commit", 40),
    ("apply-after-commit", 40),
    ("apply-inside-transaction", 3),
    ("copy-before-commit", 8),
    ("copy-after-commit", 8),
    ("slot-intended", 1),
    ("slot-created", 1),
    ("slot-recorded", 1),
    ("schema-restored", 1),
];

impl Fault {
    pub fn draw(rng: &mut Rng) -> Fault {
        let side = if rng.percent(50) { Side::Source } else { Side::Target };
        let way = if rng.percent(50) { Direction::Up } else { Direction::Down };
        match rng.below(26) {
            0..=3 => Fault::Kill,
            4 | 5 => {
                let &(name, most) = rng.pick(&FAILPOINTS);
                Fault::Failpoint(name, rng.below(most))
            }
            6 => Fault::Terminate,
            7 | 8 => Fault::Pause(100 + rng.below(1500)),
            9..=11 => Fault::EndSession(side),
            12 => Fault::KillBackend(side),
            13 => Fault::Restart(side, if rng.percent(50) { Stop::Fast } else { Stop::Immediate }),
            14 | 15 => Fault::KillServer(side),
            16 => Fault::Cut(side),
            17 => Fault::Refuse(side, 100 + rng.below(1500)),
            18 => Fault::Stall(side, way, 100 + rng.below(1500)),
            19 => Fault::HalfOpen(side, way, 100 + rng.below(1500)),
            20 => Fault::Latency(side, 20 + rng.below(150)),
            21 => Fault::Throttle(side, 50_000 + rng.below(500_000)),
            22 | 23 => Fault::LoseCommit,
            24 => Fault::Lock(200 + rng.below(1500)),
            _ => Fault::Settings(side),
        }
    }

    /// Does it. What lasts for a while is over when this returns, but for what the rest of the second is given to.
    pub async fn strike(self, rig: &mut Rig, rng: &mut Rng) {
        match self {
            Fault::Kill => rig.kill().await,
            Fault::Failpoint(name, before) => rig.restart_with(name, before).await,
            Fault::Terminate => rig.terminate().await,
            Fault::Pause(time) => {
                rig.signal_stop();
                pause(time).await;
                rig.signal_cont();
            }
            Fault::EndSession(side) => {
                let pick = rng.next() >> 33;
                let sql = format!(
                    "SELECT pg_terminate_backend(pid) FROM ({OURS}) AS s OFFSET {pick} % greatest((SELECT count(*) FROM ({OURS}) c), 1) LIMIT 1"
                );
                // A server that is coming up, or nobody to be ended, is no mistake.
                let _ = rig.server(side).try_sql("postgres", &sql).await;
            }
            Fault::KillBackend(side) => kill_backend(rig.server(side)).await,
            Fault::Restart(side, how) => rig.server(side).restart(how).await,
            Fault::KillServer(side) => {
                rig.server(side).kill9();
                rig.server(side).start_again().await;
            }
            Fault::Cut(side) => rig.proxy(side).cut(),
            Fault::Refuse(side, time) => {
                rig.proxy(side).refuse(true).await;
                rig.proxy(side).cut();
                pause(time).await;
                rig.proxy(side).refuse(false).await;
            }
            Fault::Stall(side, way, time) => {
                rig.proxy(side).stall(way, true);
                pause(time).await;
                rig.proxy(side).stall(way, false);
            }
            Fault::HalfOpen(side, way, time) => {
                rig.proxy(side).drop_bytes(way, true);
                pause(time).await;
                mend(rig.proxy(side), way);
            }
            Fault::Latency(side, time) => {
                for way in [Direction::Up, Direction::Down] {
                    rig.proxy(side).latency(way, Duration::from_millis(time));
                }
                pause(900).await;
                for way in [Direction::Up, Direction::Down] {
                    rig.proxy(side).latency(way, Duration::ZERO);
                }
            }
            Fault::Throttle(side, bytes) => {
                rig.proxy(side).throttle(Direction::Down, Some(bytes));
                pause(900).await;
                rig.proxy(side).throttle(Direction::Down, None);
            }
            Fault::LoseCommit => rig.proxy(Side::Target).lose_reply(b"COMMIT"),
            Fault::Lock(time) => lock(rig, time).await,
            Fault::Settings(side) => settings(rig.server(side), rng).await,
        }
    }
}

const OURS: &str = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'walferry%' ORDER BY pid";

async fn pause(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

/// A connection that lost bytes is broken for good.
fn mend(proxy: &Proxy, way: Direction) {
    proxy.cut();
    proxy.drop_bytes(way, false);
    proxy.cut();
}

async fn kill_backend(server: &Postgres) {
    let sql = format!("SELECT pid FROM ({OURS}) AS s ORDER BY random() LIMIT 1");
    let client = server.connect("postgres").await;
    if let Ok(Some(row)) = client.query_opt(&sql, &[]).await
        && let Some(pid) = Pid::from_raw(row.get::<_, i32>(0))
    {
        let _ = kill_process(pid, Signal::KILL);
        drop(client);
        // The postmaster ends everybody and recovers; until it has noticed it still lets sessions in.
        while server.try_sql("postgres", "SELECT").await.is_ok_and(|()| exists(pid)) {
            pause(5).await;
        }
        while server.try_sql("postgres", "SELECT").await.is_err() {
            pause(20).await;
        }
    }
}

fn exists(pid: Pid) -> bool {
    rustix::process::test_kill_process(pid).is_ok()
}

async fn lock(rig: &Rig, time: u64) {
    let client = rig.target.connect(super::rig::DB).await;
    // The schema may not be there yet; a lock that isn't had at once would stand in somebody's way for nothing.
    let sql = "BEGIN; SET LOCAL lock_timeout = 300; LOCK TABLE bank.item, bank.account";
    if client.batch_execute(sql).await.is_ok() {
        pause(time).await;
    }
    let _ = client.batch_execute("ROLLBACK").await;
}

async fn settings(server: &Postgres, rng: &mut Rng) {
    let setting = rng.pick(&[
        "datestyle = 'SQL, DMY'",
        "timezone = 'Asia/Kathmandu'",
        "extra_float_digits = 0",
        "bytea_output = 'escape'",
        "intervalstyle = 'sql_standard'",
        "statement_timeout = '50ms'",
        "idle_in_transaction_session_timeout = '100ms'",
        "lock_timeout = '20ms'",
        "search_path = 'nowhere'",
    ]);
    server.sql("postgres", &format!("ALTER DATABASE {} SET {setting}", super::rig::DB)).await;
    let _ = server.try_sql("postgres", &format!("SELECT pg_terminate_backend(pid) FROM ({OURS}) AS s")).await;
}
