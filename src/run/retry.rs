//! After an attempt that failed: whether there is a next one, and when.

use std::time::Duration;

use pg::{Class, Error, Result};
use pipeline::Reporter;
use tokio_util::sync::CancellationToken;

use crate::http::Health;

/// Pauses that grow while nothing succeeds, within the bounds of docs/operations.md: a lost connection 1 to 5 s, a cause that
/// somebody has to remove 1 to 30 s.
pub struct Backoff {
    connection_max: Duration,
    blocked_max: Duration,
    failures: u32,
}

const FIRST: Duration = Duration::from_secs(1);
/// How often a connection is tried again before the run has started.
const BEFORE: u32 = 3;

impl Backoff {
    pub fn new(connection_max: Duration, blocked_max: Duration) -> Self {
        Backoff { connection_max, blocked_max, failures: 0 }
    }

    /// Something worked: start from the shortest pause again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// After an error: tells of it, and waits until it is time for the next attempt. False: cancelled meanwhile.
    ///
    /// # Errors
    /// The error itself, where trying again would not help.
    pub async fn wait(
        &mut self,
        error: Error,
        started: bool,
        health: &Health,
        reporter: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<bool> {
        let Some(pause) = self.next(&error, started) else { return Err(error) };
        health.stopped(&error);
        reporter.blocked_for(&error, self.attempts(started));
        tokio::select! {
            () = cancel.cancelled() => Ok(false),
            () = tokio::time::sleep(pause) => Ok(true),
        }
    }

    /// How many attempts there will be at most, after a failure that is counted; None: no end.
    fn attempts(&self, started: bool) -> Option<u32> {
        (!started).then(|| (BEFORE + 1).saturating_sub(self.failures))
    }

    /// The pause after `error`; None when trying again would not help. Before the run has `started` nothing is retried but a
    /// connection, a few times: a person waits in front of it.
    fn next(&mut self, error: &Error, started: bool) -> Option<Duration> {
        let limit = match error.class() {
            Class::Connection if started || self.failures < BEFORE => self.connection_max,
            Class::Stop if started => self.blocked_max,
            _ => return None,
        };
        let pause = FIRST.saturating_mul(1 << self.failures.min(6)).min(limit);
        self.failures += 1;
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_refusals_end_it() {
        let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(30));
        let lost = Error::connection("gone");
        let pauses: Vec<u64> =
            (0..5).filter_map(|_| backoff.next(&lost, true)).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 5, 5]);
        backoff.reset();
        let blocked = Error::stop("X", "locked");
        let pauses: Vec<u64> =
            (0..7).filter_map(|_| backoff.next(&blocked, true)).map(|pause| pause.as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(backoff.next(&Error::refuse("X", "no"), true), None);
        assert_eq!(backoff.next(&blocked, false), None);
    }

    #[test]
    fn what_is_said_before_the_start_is_how_often_it_is_tried() {
        let mut backoff = Backoff::new(Duration::from_secs(5), Duration::from_secs(30));
        let lost = Error::connection("gone");
        let mut said = Vec::new();
        while backoff.next(&lost, false).is_some() {
            said.push(backoff.attempts(false));
        }
        assert_eq!(said, [Some(3), Some(2), Some(1)]);
        assert_eq!(backoff.attempts(true), None, "a run that has begun goes on by itself");
    }
}
