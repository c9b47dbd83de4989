//! One client of the application: a connection, a stream of transactions, and what a well-behaved
//! application does when its database goes away or refuses to be written.
//!
//! SQLSTATE 25006 (read_only_sql_transaction) means "this is not the primary": the other one is asked, to and
//! fro until one takes writes. A lost connection is opened again where it was.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Config, Error, NoTls};

use crate::Orders;
use crate::counts::Counts;
use crate::transactions::{self, Outcome, Work};

/// Between two attempts on a database that takes no writes or no connections.
const RETRY: Duration = Duration::from_millis(5);

pub struct Client {
    number: u32,
    primaries: [Config; 2],
    /// 0 on the old primary, 1 on the new one.
    at: usize,
    interval: Duration,
    counts: Arc<Counts>,
    orders: watch::Receiver<Orders>,
}

enum Attempt {
    /// Committed, or rolled back for a reason of the application's own.
    Done,
    /// This is not the primary.
    Refused,
    Disconnected,
}

impl Client {
    pub fn new(
        number: u32,
        primaries: [Config; 2],
        interval: Duration,
        counts: Arc<Counts>,
        orders: watch::Receiver<Orders>,
    ) -> Self {
        Self { number, primaries, at: 0, interval, counts, orders }
    }

    /// Works until told to stop. An error that no application expects, such as a duplicate key from a sequence
    /// that was left behind, ends the whole load.
    pub async fn run(mut self) -> Result<(), Error> {
        let Some(mut connection) = self.connect().await? else { return Ok(()) };
        let mut work = Work::new(self.number, transactions::highest_device(&connection).await?);
        let mut pace = tokio::time::interval(self.interval);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while !self.stopping() {
            pace.tick().await;
            work.choose();
            let mut began = Instant::now();
            loop {
                match self.attempt(&mut connection, &mut work).await? {
                    Attempt::Done => break,
                    Attempt::Refused => {
                        let Some(found) = self.find_primary(began).await? else { return Ok(()) };
                        connection = found;
                        if self.held().await {
                            began = Instant::now();
                        }
                    }
                    Attempt::Disconnected => {
                        let Some(again) = self.connect().await? else { return Ok(()) };
                        connection = again;
                    }
                }
            }
            Counts::longest(&self.counts.longest_pause_ms, began.elapsed());
        }
        Ok(())
    }

    async fn attempt(
        &self,
        connection: &mut tokio_postgres::Client,
        work: &mut Work,
    ) -> Result<Attempt, Error> {
        let mut committing = false;
        let result = async {
            let mut transaction = connection.transaction().await?;
            if work.perform(&mut transaction).await? == Outcome::Rollback {
                self.counts.rolled_back.fetch_add(1, Relaxed);
                return transaction.rollback().await;
            }
            committing = true;
            transaction.commit().await?;
            work.committed();
            self.counts.committed.fetch_add(1, Relaxed);
            self.counts.committed_on_new.fetch_add(self.at as u64, Relaxed);
            Ok(())
        }
        .await;
        match result {
            Err(error) if conflict(&error) => {
                self.counts.conflicts.fetch_add(1, Relaxed);
                Ok(Attempt::Done)
            }
            Err(error) if committing && disconnected(&error) => {
                work.committed();
                self.counts.unknown.fetch_add(1, Relaxed);
                Ok(Attempt::Disconnected)
            }
            other => classify(other),
        }
    }

    /// Asks both in turn, starting with the other one, until one takes a write. `None` when told to stop.
    async fn find_primary(&mut self, began: Instant) -> Result<Option<tokio_postgres::Client>, Error> {
        loop {
            self.at = 1 - self.at;
            let Some(mut connection) = self.connect().await? else { return Ok(None) };
            if let Attempt::Done = classify(transactions::probe(&mut connection).await)? {
                self.counts.switched.fetch_add(1, Relaxed);
                Counts::longest(&self.counts.outage_ms, began.elapsed());
                return Ok(Some(connection));
            }
            if self.stopping() {
                return Ok(None);
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Waits for the release, if this load holds on the new primary; says whether it had to wait.
    async fn held(&mut self) -> bool {
        let hold = self.at == 1 && self.orders.borrow().hold;
        if hold {
            // An error means that nobody is left to release us; `stopping` says so as well.
            let _ = self.orders.wait_for(|orders| !orders.hold).await;
        }
        hold
    }

    fn stopping(&self) -> bool {
        self.orders.borrow().stop || self.orders.has_changed().is_err()
    }

    /// `None` when told to stop while the server takes no connections.
    async fn connect(&self) -> Result<Option<tokio_postgres::Client>, Error> {
        loop {
            match self.primaries[self.at].connect(NoTls).await {
                Ok((client, connection)) => {
                    // How it ends is what the client's next statement says.
                    tokio::spawn(connection);
                    return Ok(Some(client));
                }
                Err(_) if self.stopping() => return Ok(None),
                Err(error) => match classify(Err(error))? {
                    Attempt::Disconnected => tokio::time::sleep(RETRY).await,
                    Attempt::Done | Attempt::Refused => {}
                },
            }
        }
    }
}

/// Which errors an application lives with; any other is returned.
fn classify(result: Result<(), Error>) -> Result<Attempt, Error> {
    match result {
        Ok(()) => Ok(Attempt::Done),
        Err(error) if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) => Ok(Attempt::Refused),
        Err(error) if disconnected(&error) => Ok(Attempt::Disconnected),
        Err(error) => Err(error),
    }
}

fn conflict(error: &Error) -> bool {
    matches!(error.code(), Some(code) if [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(code))
}

/// Lost, or ended by a server that goes down or comes up (class 57P).
fn disconnected(error: &Error) -> bool {
    error.is_closed() || error.code().is_none_or(|code| code.code().starts_with("57P"))
}
