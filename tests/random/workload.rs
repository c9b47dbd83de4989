//! Random transactions over the drawn shapes, in one session, until told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::shapes::{SHAPES, Shape};
use crate::support::canary;
use crate::support::load::Rng;
use crate::support::postgres::{connect_as, explain};

pub struct Table {
    shape: &'static Shape,
    name: String,
}

impl Table {
    /// Every shape once, or `count` of them.
    pub fn draw(rng: &mut Rng, count: usize) -> Vec<Table> {
        let mut left: Vec<usize> = (0..SHAPES.len()).collect();
        (0..count.min(left.len()))
            .map(|number| {
                let at = left.swap_remove(rng.below(left.len() as u64) as usize);
                Table { shape: &SHAPES[at], name: format!("t{number}") }
            })
            .collect()
    }

    pub fn ddl(&self) -> String {
        self.shape
            .ddl
            .replace("{t}", &self.name)
            .replace("{u}", &self.name)
            .replace("{c}", &format!("{}_collation", self.name))
    }

    pub fn describe(&self) -> String {
        format!("{} {}", self.name, self.shape.name)
    }

    fn fill(&self, template: &str, rng: &mut Rng) -> String {
        let mut text = template.replace("{t}", &self.name).replace("{u}", &self.name);
        for (mark, value) in [
            ("{i}", rng.below(30).to_string()),
            ("{j}", rng.below(30).to_string()),
            ("{n}", rng.below(1_000_000).to_string()),
            ("{l}", format!("large({})", rng.below(1000))),
        ] {
            text = text.replace(mark, &value);
        }
        while text.contains("{s}") {
            let number = rng.below(40);
            let value = match rng.below(6) {
                0 => format!("E'a\\tb\\\\N{number}\\n'"),
                1 => format!("'Größe \"{number}\" ''€'''"),
                _ => format!("'{}-{number}'", canary::ROW),
            };
            text = text.replacen("{s}", &value, 1);
        }
        text
    }

    pub fn insert(&self, rng: &mut Rng) -> String {
        self.fill(self.shape.insert, rng)
    }

    fn change(&self, rng: &mut Rng) -> String {
        const BY_ID: [&str; 6] = [
            "DELETE FROM {t} WHERE id = {i}",
            "UPDATE {t} SET id = {j} WHERE id = {i}",
            "UPDATE {t} SET id = -1 WHERE id = {i}; UPDATE {t} SET id = {i} WHERE id = {j}; UPDATE {t} SET id = {j} WHERE id = -1",
            "UPDATE {t} SET id = 100 WHERE id = {i}; UPDATE {t} SET id = 101 WHERE id = 100; UPDATE {t} SET id = {j} WHERE id = 101",
            "DELETE FROM {t} WHERE id BETWEEN {i} AND {j}",
            "UPDATE {t} SET id = id WHERE id > {i}",
        ];
        let template = match rng.below(100) {
            0..40 => self.shape.insert,
            40..70 if self.shape.by_id => rng.pick::<&str>(&BY_ID),
            _ => rng.pick::<&str>(self.shape.changes),
        };
        self.fill(template, rng)
    }
}

pub struct Workload {
    stop: CancellationToken,
    committed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

/// Whose session the transactions run in.
enum Sessions {
    Given(Client),
    /// A new one whenever the last one is lost.
    Of(String),
}

/// What the server's database may have set otherwise meanwhile.
const PINNED: &str = "SET search_path = public; SET statement_timeout = 0; SET lock_timeout = 0; SET idle_in_transaction_session_timeout = 0";

impl Workload {
    pub fn start(client: Client, tables: Arc<Vec<Table>>, seed: u64, truncates: bool) -> Self {
        Self::begin(Sessions::Given(client), tables, seed, truncates)
    }

    /// Through sessions of its own, which may get lost.
    pub fn start_on(uri: String, tables: Arc<Vec<Table>>, seed: u64, truncates: bool) -> Self {
        Self::begin(Sessions::Of(uri), tables, seed, truncates)
    }

    fn begin(sessions: Sessions, tables: Arc<Vec<Table>>, seed: u64, truncates: bool) -> Self {
        let stop = CancellationToken::new();
        let committed = Arc::new(AtomicU64::new(0));
        let mut work = Work {
            tables,
            rng: Rng::new(seed.wrapping_mul(0x2545_F491_4F6C_DD1D)),
            truncates,
            stop: stop.clone(),
            committed: Arc::clone(&committed),
        };
        let task = tokio::spawn(async move {
            match sessions {
                Sessions::Given(client) => work.through(&client).await,
                Sessions::Of(uri) => {
                    while !work.stop.is_cancelled() {
                        match connect_as(&uri, "load").await {
                            Ok(client) if client.batch_execute(PINNED).await.is_ok() => {
                                work.through(&client).await;
                            }
                            _ => tokio::time::sleep(Duration::from_millis(30)).await,
                        }
                    }
                }
            }
        });
        Self { stop, committed, task }
    }

    /// Waits for so many more transactions.
    pub async fn wait_for(&self, more: u64) {
        let until = self.committed.load(Ordering::SeqCst) + more;
        let deadline = Instant::now() + Duration::from_secs(60);
        while self.committed.load(Ordering::SeqCst) < until {
            assert!(!self.task.is_finished(), "the workload has failed");
            assert!(Instant::now() < deadline, "the workload stands still");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.task.await.expect("the workload does not fail");
    }
}

struct Work {
    tables: Arc<Vec<Table>>,
    rng: Rng,
    truncates: bool,
    stop: CancellationToken,
    committed: Arc<AtomicU64>,
}

impl Work {
    /// Until it is stopped, or the session is lost.
    async fn through(&mut self, client: &Client) {
        while !self.stop.is_cancelled() && !client.is_closed() {
            transaction(client, &self.tables, &mut self.rng, self.truncates).await;
            self.committed.fetch_add(1, Ordering::SeqCst);
            // Slow enough for what reads beside it on a small machine.
            tokio::time::sleep(Duration::from_millis(self.rng.below(8))).await;
        }
    }
}

/// A violated key costs the statement its savepoint, or the transaction its life.
async fn transaction(client: &Client, tables: &[Table], rng: &mut Rng, truncates: bool) {
    let rolled_back = rng.percent(8);
    let statements = match rng.below(100) {
        0..70 => 1 + rng.below(4),
        70..98 => 1 + rng.below(15),
        _ => 150,
    };
    run(client, "BEGIN").await;
    for _ in 0..statements {
        let table = rng.pick(tables);
        let statement = match rng.below(1000) {
            0..6 if truncates => format!("TRUNCATE {} CASCADE", quote(table)),
            6..9 if truncates => {
                let all: Vec<String> = (0..3).map(|_| quote(rng.pick(tables))).collect();
                format!("TRUNCATE {} RESTART IDENTITY CASCADE", all.join(", "))
            }
            _ => table.change(rng),
        };
        let protected = rng.percent(80);
        if protected {
            run(client, "SAVEPOINT s").await;
        }
        let worked = run(client, &statement).await;
        if protected {
            let undone = !worked || rng.percent(8);
            run(client, if undone { "ROLLBACK TO s" } else { "RELEASE s" }).await;
        } else if !worked {
            break;
        }
    }
    run(client, if rolled_back { "ROLLBACK" } else { "COMMIT" }).await;
}

fn quote(table: &Table) -> String {
    match table.shape.name {
        "odd names" => format!("\"{}.\"\"$1\"", table.name),
        _ => table.name.clone(),
    }
}

/// False: the data did not allow it, or the session is lost. A statement that PostgreSQL does not understand is a mistake of the test.
pub async fn run(client: &Client, statement: &str) -> bool {
    match client.batch_execute(statement).await {
        Ok(()) => true,
        Err(error) => {
            let code = error.code().map_or("57P", |code| code.code());
            assert!(
                ["23", "22", "21", "40", "57P"].iter().any(|class| code.starts_with(class)),
                "{}\n  in: {statement}",
                explain(&error)
            );
            false
        }
    }
}
