//! One writer: a session that runs plan after plan, and comes back when the server does.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_postgres::Client;
use tokio_util::sync::CancellationToken;

use super::{Counters, Kind, Plan, Rng};
use crate::support::postgres::{connect_as, explain};

pub(super) struct Worker {
    pub kind: Kind,
    pub rng: Rng,
    pub uri: watch::Receiver<String>,
    pub counters: Arc<Counters>,
    pub stop: CancellationToken,
    /// Between two transactions.
    pub pause: Option<Duration>,
}

enum Ended {
    Committed,
    RolledBack,
    /// The session is over, with COMMIT sent or not.
    Lost,
    Refused,
}

impl Worker {
    pub async fn run(self) -> Result<(), String> {
        let ended = self.work().await;
        if let Err(e) = &ended {
            eprintln!("the load stops: {e}");
        }
        ended
    }

    async fn work(mut self) -> Result<(), String> {
        while !self.stop.is_cancelled() {
            let uri = self.uri.borrow_and_update().clone();
            let Ok(client) = connect_as(&uri, "load").await else {
                self.rest(Duration::from_millis(50)).await;
                continue;
            };
            while !self.stop.is_cancelled() && !self.uri.has_changed().unwrap_or(false) {
                let plan = self.kind.plan(&mut self.rng);
                match execute(&client, &plan).await? {
                    Ended::Committed => count(&self.counters.committed),
                    Ended::RolledBack => count(&self.counters.rolled_back),
                    Ended::Refused => {
                        count(&self.counters.refused);
                        self.rest(Duration::from_millis(20)).await;
                    }
                    Ended::Lost => break,
                }
                if let Some(pause) = self.pause {
                    self.rest(pause).await;
                }
            }
        }
        Ok(())
    }

    async fn rest(&self, time: Duration) {
        let _ = tokio::time::timeout(time, self.stop.cancelled()).await;
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::SeqCst);
}

async fn execute(client: &Client, plan: &Plan) -> Result<Ended, String> {
    let begin = ["BEGIN".to_owned()];
    for statement in begin.iter().chain(&plan.statements) {
        if let Err(e) = client.batch_execute(statement).await {
            let ended = after_error(&e).ok_or_else(|| format!("{}\n  in: {statement}", explain(&e)))?;
            let _ = client.batch_execute("ROLLBACK").await;
            return Ok(ended);
        }
    }
    if !plan.commit {
        let lost = client.batch_execute("ROLLBACK").await.is_err();
        return Ok(if lost { Ended::Lost } else { Ended::RolledBack });
    }
    match client.batch_execute("COMMIT").await {
        Ok(()) => Ok(Ended::Committed),
        // A deferred constraint.
        Err(e) => after_error(&e).ok_or_else(|| format!("{}\n  in: COMMIT", explain(&e))),
    }
}

/// What an error means to the application; nothing if it means a mistake in the load itself.
fn after_error(error: &tokio_postgres::Error) -> Option<Ended> {
    let Some(code) = error.code().map(|code| code.code()) else {
        return Some(Ended::Lost);
    };
    match code {
        "25006" => Some(Ended::Refused),
        // Shut down, crashed, starting up, too many clients, terminated.
        code if code.starts_with("57P") || code.starts_with("53") || code.starts_with("08") => {
            Some(Ended::Lost)
        }
        // Deadlock, constraint, value, too large for an index, lock timeout, cancelled, refused by a trigger.
        code if ["40", "23", "22", "54", "55", "57", "P0"].contains(&&code[..2]) => Some(Ended::RolledBack),
        _ => None,
    }
}
