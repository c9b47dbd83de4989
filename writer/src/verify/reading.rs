//! A session that reads one side's snapshot, one transaction per piece of work.
//!
//! Each piece imports the snapshot again, so that a table's lock is given back as soon as it has been read: an ALTER TABLE on the
//! source waits for one piece, not for the whole comparison. The price is that a table can be rewritten in between, and then reads as
//! empty through an older snapshot: [`Reading::still_the_same`] looks for that while the lock is held.
//! <https://www.postgresql.org/docs/current/mvcc-caveats.html>

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use pg::{Class, Error, Result, Session};

use super::relation::Relation;
use super::side::{Side, Which};

/// Settings of a reading session, on top of its purpose's.
const SETTINGS: &str = "SET max_parallel_workers_per_gather = 0; SET work_mem = '64MB'; SET statement_timeout = 0;
    SET idle_in_transaction_session_timeout = 0; SET row_security = off; SET enable_tidscan = on; SET enable_seqscan = on";

/// The sessions that may have a statement running, so that it can be cancelled on the server.
#[derive(Default)]
pub struct Running(Mutex<Vec<pg::wire::Canceller>>);

impl Running {
    fn add(&self, session: &Session) {
        self.list().push(session.canceller());
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<pg::wire::Canceller>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks every server to end what it does for us; waits no longer than two seconds.
    pub async fn cancel(&self) {
        let all = std::mem::take(&mut *self.list());
        let requests = futures_util::future::join_all(all.iter().map(pg::wire::Canceller::cancel));
        // Whoever could not be reached ends with its connection.
        let _ = tokio::time::timeout(Duration::from_secs(2), requests).await;
    }
}

pub struct Reading<'a> {
    which: Which,
    side: &'a Side,
    session: Session,
}

impl<'a> Reading<'a> {
    pub async fn open(
        which: Which,
        side: &'a Side,
        lock_timeout: Duration,
        running: &Running,
    ) -> Result<Reading<'a>> {
        let session = side.connect().await.map_err(|e| which.blame(e))?;
        running.add(&session);
        session.batch_execute(SETTINGS).await?;
        session.batch_execute(&format!("SET lock_timeout = {}", lock_timeout.as_millis())).await?;
        if session.version().major() >= 14 {
            // A server that can't watch its socket refuses; it then finishes a statement that nobody waits for.
            let _ = session.batch_execute("SET client_connection_check_interval = '2s'").await;
        }
        Ok(Reading { which, side, session })
    }

    /// Ends whatever the server still does for this session.
    pub async fn cancel(&self) {
        // Whoever can't be reached ends with its connection.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.session.canceller().cancel()).await;
    }

    pub fn session(&self) -> &Session {
        &self.session
    }

    pub async fn begin(&self) -> Result<()> {
        self.session.batch_execute(&self.side.begin_sql()).await.map_err(|error| {
            if self.side.is_lost() {
                return Error::new(
                    Class::Unverifiable,
                    "SNAPSHOT_LOST",
                    "the session that held the snapshot is gone",
                )
                .hint("compare again");
            }
            self.which.blame(error.into())
        })
    }

    pub async fn end(&self) -> Result<()> {
        Ok(self.session.batch_execute("ROLLBACK").await?)
    }

    /// Whether `relation`, which this transaction has read, is the one that the snapshot shows, with the storage it had then.
    pub async fn still_the_same(&self, relation: &Relation) -> Result<()> {
        let row = self
            .session
            .query_one(
                "SELECT to_regclass($1)::oid = $2::oid,
                        NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = ANY ($3)
                                    AND c.relfilenode <> coalesce(pg_relation_filenode(c.oid), 0))",
                &[&relation.name.to_string(), &relation.oid, &relation.storage],
            )
            .await?;
        if row.try_get::<_, Option<bool>>(0)? == Some(true) && row.try_get(1)? {
            return Ok(());
        }
        let message = format!(
            "table {} on the {} was rewritten, truncated or replaced after the snapshot",
            relation.name,
            self.which.name()
        );
        Err(Error::new(Class::Unverifiable, "TABLE_REWRITTEN", message).hint("compare it again"))
    }
}
