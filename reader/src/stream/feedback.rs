//! What the server is told, and when.

use std::time::Duration;

use pg::{Error, Lsn, Result};
use pipeline::Durable;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::replication::{ReplicationConnection, ReplicationStream, StandbyStatus};

/// At the latest after this; sooner if the server is impatient.
const INTERVAL: Duration = Duration::from_secs(10);
/// A server that is silent for this long is asked for a sign of life.
const QUIET: Duration = Duration::from_secs(30);
/// … and given up after this. Long, because old servers answer nothing while they decode a huge transaction of no interest.
const SILENT: Duration = Duration::from_secs(300);
/// … or after ten times the server's own patience, where that is shorter: on a network where servers are told to be quick to give up.
const PATIENCES: u32 = 10;

pub(super) struct Feedback {
    durable: watch::Receiver<Durable>,
    received: Lsn,
    /// What was told last.
    told: StandbyStatus,
    interval: Duration,
    quiet: Duration,
    silent: Duration,
    next: Instant,
    heard: Instant,
}

impl Feedback {
    pub(super) fn new(durable: watch::Receiver<Durable>, start: Lsn, server_timeout: Duration) -> Feedback {
        let interval = if server_timeout.is_zero() { INTERVAL } else { INTERVAL.min(server_timeout / 3) };
        let now = Instant::now();
        // The first status goes out at once.
        let patience =
            if server_timeout.is_zero() { SILENT } else { server_timeout.saturating_mul(PATIENCES) };
        Feedback {
            durable,
            received: start,
            told: StandbyStatus::default(),
            interval,
            quiet: QUIET.min(patience / 2),
            silent: SILENT.min(patience),
            next: now,
            heard: now,
        }
    }

    /// Between two statuses while nothing becomes durable.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// `wal_sender_timeout`; zero: none.
    pub(super) async fn server_timeout(connection: &mut ReplicationConnection) -> Result<Duration> {
        let sql = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'";
        let rows = connection.simple(sql).await?;
        let setting = rows.first().and_then(|row| row.first()?.as_deref()?.parse().ok());
        Ok(Duration::from_millis(setting.unwrap_or(60_000)))
    }

    pub(super) fn durable(&self) -> Durable {
        *self.durable.borrow()
    }

    pub(super) fn receive(&mut self, lsn: Lsn) {
        self.received = self.received.max(lsn);
    }

    /// The server has said something.
    pub(super) fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Time for a status, without waiting.
    pub(super) fn is_due(&self) -> bool {
        Instant::now() >= self.next || self.durable.has_changed().unwrap_or(false)
    }

    /// Waits until something became durable or the interval is over. Cancel-safe.
    ///
    /// # Errors
    /// The far end of the carrier is gone.
    pub(super) async fn due(&mut self) -> Result<()> {
        tokio::select! {
            biased;
            changed = self.durable.changed() => {
                self.next = Instant::now();
                changed.map_err(|_| Error::failed("WRITER_GONE", "the writer has ended"))
            }
            () = sleep_until(self.next) => Ok(()),
        }
    }

    /// Sends the status now.
    pub(super) async fn tell(&mut self, stream: &mut ReplicationStream) -> Result<()> {
        let durable = *self.durable.borrow_and_update();
        self.received = self.received.max(durable.flushed).max(durable.applied);
        self.told =
            StandbyStatus { written: self.received, flushed: durable.flushed, applied: durable.applied };
        self.next = Instant::now() + self.interval;
        let quiet = self.heard.elapsed();
        if quiet > self.silent {
            return Err(Error::connection(format!(
                "the source has not answered for {} s on the replication connection",
                quiet.as_secs()
            )));
        }
        stream.standby_status_update(self.told, quiet > self.quiet).await
    }

    /// Waits until `end` is durable, the far end is gone, or `limit` is over.
    pub(super) async fn settle(&mut self, end: Lsn, limit: Duration) {
        let settled = self.durable.wait_for(|durable| durable.flushed >= end);
        let _ = tokio::time::timeout(limit, settled).await;
    }
}
