//! C3: the target is the source at one commit, all the time.
//!
//! Every transfer of the bank load moves money and appends one ledger entry, numbered without gaps in commit
//! order. So in any single snapshot the balances sum up to the same, the entries have no gap, and their number
//! is the counter's. Half a transaction, or a later one without an earlier one, breaks one of the three.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::load::bank;
use crate::support::postgres::{connect, explain};

pub struct Invariant {
    looks: Arc<AtomicU64>,
    stop: CancellationToken,
    task: JoinHandle<Vec<String>>,
}

impl Invariant {
    /// Looks at the bank of a target again and again. Start it when the target is consistent (catch-up is over);
    /// a server that is down in between is not a violation.
    pub fn watch(uri: &str) -> Self {
        let looks = Arc::new(AtomicU64::new(0));
        let stop = CancellationToken::new();
        let task = tokio::spawn(look_again(uri.to_owned(), Arc::clone(&looks), stop.clone()));
        Self { looks, stop, task }
    }

    /// Ends the watch; fails if one look saw a violation, or if there was none at all.
    pub async fn expect_held(self) {
        let looks = Arc::clone(&self.looks);
        while looks.load(Ordering::SeqCst) == 0 && !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.stop.cancel();
        let violations = self.task.await.expect("the watch does not fail");
        assert!(violations.is_empty(), "the target was not the source at one commit: {violations:#?}");
        assert!(looks.load(Ordering::SeqCst) > 0, "the target never answered");
    }
}

async fn look_again(uri: String, looks: Arc<AtomicU64>, stop: CancellationToken) -> Vec<String> {
    let mut violations = Vec::new();
    while !stop.is_cancelled() {
        if let Ok(client) = connect(&uri).await {
            while !stop.is_cancelled() {
                match client.query_one(bank::VIOLATION, &[]).await {
                    Ok(row) => {
                        looks.fetch_add(1, Ordering::SeqCst);
                        if let Some(violation) = row.get::<_, Option<String>>(0) {
                            violations.push(violation);
                        }
                    }
                    // The table is missing or the privilege: that is no outage.
                    Err(e) if e.code().is_some_and(|code| code.code().starts_with("42")) => {
                        violations.push(explain(&e));
                        return violations;
                    }
                    Err(_) => break,
                }
                if violations.len() > 10 {
                    return violations;
                }
                pause(&stop, 20).await;
            }
        }
        pause(&stop, 50).await;
    }
    violations
}

async fn pause(stop: &CancellationToken, milliseconds: u64) {
    let _ = tokio::time::timeout(Duration::from_millis(milliseconds), stop.cancelled()).await;
}
