//! One side of a comparison: where to connect and which snapshot to read.

use pg::{Error, Lsn, Params, Purpose, Result, Session};

/// A database as it was at one snapshot.
pub struct Side {
    params: Params,
    application_name: String,
    snapshot: String,
    lsn: Option<Lsn>,
    /// The session that keeps a snapshot of our own alive.
    holder: Option<Session>,
}

impl Side {
    /// Reads the snapshot that somebody else has exported and keeps alive; `lsn` is the WAL position it stands for.
    #[must_use]
    pub fn at(
        params: Params,
        application_name: impl Into<String>,
        snapshot: impl Into<String>,
        lsn: Option<Lsn>,
    ) -> Side {
        Side {
            params,
            application_name: application_name.into(),
            snapshot: snapshot.into(),
            lsn,
            holder: None,
        }
    }

    /// Takes a snapshot now and keeps it until this value is dropped.
    pub async fn plain(params: Params, application_name: impl Into<String>) -> Result<Side> {
        let application_name = application_name.into();
        let holder = Session::connect(&params, Purpose::SourceSnapshot, &application_name).await?;
        holder.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
        // The position is read first: everything before it is in the snapshot, something after it may be, too.
        let row = holder
            .query_one(
                "SELECT CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text,
                        pg_export_snapshot()",
                &[],
            )
            .await?;
        let lsn: Option<String> = row.try_get(0)?;
        let snapshot = row.try_get(1)?;
        let lsn = lsn.and_then(|text| text.parse().ok());
        Ok(Side { params, application_name, snapshot, lsn, holder: Some(holder) })
    }

    #[must_use]
    pub fn lsn(&self) -> Option<Lsn> {
        self.lsn
    }

    /// The exported snapshot, for whoever wants to read the same.
    #[must_use]
    pub fn snapshot(&self) -> &str {
        &self.snapshot
    }

    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// A session with a read-only transaction over the snapshot.
    pub async fn open(&self) -> Result<Session> {
        let session = self.connect().await?;
        session.batch_execute("SET lock_timeout = '60s'").await?;
        session.batch_execute(&self.begin_sql()).await?;
        Ok(session)
    }

    /// Ends the transaction that keeps a snapshot of our own, so that the server has no lost connection to report.
    pub(super) async fn release(&self) {
        if let Some(holder) = &self.holder {
            // It is read-only: whatever goes wrong, nothing is left.
            let _ = holder.batch_execute("ROLLBACK").await;
        }
    }

    /// Whether the snapshot's own session is gone. Always false for a snapshot of somebody else.
    pub(super) fn is_lost(&self) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.is_closed())
    }

    pub(super) async fn connect(&self) -> Result<Session> {
        // The purpose is the source's on both sides: no timeouts, and a row that row security would hide is an error.
        Session::connect(&self.params, Purpose::SourceSnapshot, &self.application_name).await
    }

    pub(super) fn begin_sql(&self) -> String {
        format!(
            "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET TRANSACTION SNAPSHOT {}",
            pg::quote_literal(&self.snapshot)
        )
    }
}

/// Which of the two.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Which {
    Source,
    Target,
}

impl Which {
    pub(super) fn index(self) -> usize {
        self as usize
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Which::Source => "source",
            Which::Target => "target",
        }
    }

    /// Says on which side it went wrong.
    pub(super) fn blame(self, error: Error) -> Error {
        error.context(self.name())
    }
}
