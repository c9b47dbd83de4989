//! Live writers: seeded, concurrent, stoppable.
//!
//! ```ignore
//! bank::create(&source, "app", 1000).await;
//! let load = Load::bank(&source.uri("app")).workers(4).seed(7).start();
//! load.wait_committed(500).await;
//! let report = load.stop().await;
//! ```
//!
//! The seed fixes what each worker does; how the workers interleave is the server's business, and the oracle
//! does not need to know. A lost connection, a deadlock, a violated constraint are part of a worker's life; a
//! statement that PostgreSQL does not understand fails the test at `stop`.

pub mod bank;
mod random;
pub mod tables;
mod values;
mod worker;

pub use random::Rng;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// One transaction: statements in their order, and how it ends.
pub struct Plan {
    pub statements: Vec<String>,
    pub commit: bool,
}

/// What the workers do, decided transaction by transaction.
#[derive(Clone)]
enum Kind {
    Bank(bank::Mix),
    Tables(Arc<Vec<tables::Table>>),
}

/// A load to be started.
pub struct Builder {
    uri: String,
    kind: Kind,
    workers: u64,
    seed: u64,
    per_second: Option<u64>,
}

#[derive(Default)]
struct Counters {
    committed: AtomicU64,
    rolled_back: AtomicU64,
    refused: AtomicU64,
}

/// What a load has done.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub committed: u64,
    /// By intention or by an error such as a deadlock.
    pub rolled_back: u64,
    /// Transactions that the fence of a cutover refused (25006).
    pub refused: u64,
}

/// A load that is running; it stops when dropped.
pub struct Load {
    counters: Arc<Counters>,
    uri: watch::Sender<String>,
    stop: CancellationToken,
    workers: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    /// Transfers with a gapless ledger, and rows that come, change, change keys and go; see `bank`.
    pub fn bank(uri: &str) -> Builder {
        Builder::new(uri, Kind::Bank(bank::Mix::default()))
    }

    /// As `bank`, with a TRUNCATE now and then (the source has to be 11 or newer).
    pub fn bank_with_truncate(uri: &str) -> Builder {
        Builder::new(uri, Kind::Bank(bank::Mix { truncate: true }))
    }

    /// Random changes to tables of any shape, given as `schema.table`; all tables of the database if none is.
    pub async fn tables(uri: &str, names: &[&str]) -> Builder {
        Builder::new(uri, Kind::Tables(Arc::new(tables::look(uri, names).await)))
    }

    pub fn committed(&self) -> u64 {
        self.counters.committed.load(Ordering::SeqCst)
    }

    /// Waits until this many transactions have been committed since the start.
    pub async fn wait_committed(&self, count: u64) {
        let deadline = Instant::now() + Duration::from_secs(120);
        while self.committed() < count {
            assert!(Instant::now() < deadline, "only {} of {count} transactions", self.committed());
            assert!(!self.workers.iter().any(JoinHandle::is_finished), "a worker has given up");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The next transactions go to another server: the application after a cutover.
    pub fn move_to(&self, uri: &str) {
        self.uri.send_replace(uri.to_owned());
    }

    pub fn report(&self) -> Report {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Report {
            committed: read(&self.counters.committed),
            rolled_back: read(&self.counters.rolled_back),
            refused: read(&self.counters.refused),
        }
    }

    /// Lets every worker finish its transaction.
    pub async fn stop(mut self) -> Report {
        self.stop.cancel();
        for worker in self.workers.drain(..) {
            worker.await.expect("a worker does not panic").unwrap_or_else(|e| panic!("{e}"));
        }
        self.report()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.cancel();
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

impl Builder {
    fn new(uri: &str, kind: Kind) -> Self {
        Self { uri: uri.to_owned(), kind, workers: 2, seed: 1, per_second: None }
    }

    pub fn workers(mut self, workers: u64) -> Self {
        self.workers = workers;
        self
    }

    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// At most this many transactions per second, over all workers.
    pub fn rate(mut self, per_second: u64) -> Self {
        self.per_second = Some(per_second);
        self
    }

    pub fn start(self) -> Load {
        let counters = Arc::new(Counters::default());
        let stop = CancellationToken::new();
        let uri = watch::Sender::new(self.uri);
        let pause = self.per_second.map(|rate| Duration::from_secs_f64(self.workers as f64 / rate as f64));
        let workers = (0..self.workers)
            .map(|number| {
                let worker = worker::Worker {
                    kind: self.kind.clone(),
                    rng: Rng::new(self.seed.wrapping_mul(1_000_003).wrapping_add(number)),
                    uri: uri.subscribe(),
                    counters: Arc::clone(&counters),
                    stop: stop.clone(),
                    pause,
                };
                tokio::spawn(worker.run())
            })
            .collect();
        Load { counters, uri, stop, workers }
    }
}

impl Kind {
    fn plan(&self, rng: &mut Rng) -> Plan {
        match self {
            Kind::Bank(mix) => bank::plan(*mix, rng),
            Kind::Tables(tables) => tables::plan(tables, rng),
        }
    }
}
