//! A connection whose server end is a walsender, before it streams.

use std::time::Duration;

use pg::{Error, Lsn, Params, Purpose, Result, ServerVersion, Wire};

/// Which server this is (IDENTIFY_SYSTEM).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SystemIdentity {
    pub system_id: String,
    pub timeline: u32,
    /// Flushed WAL at the time of asking.
    pub wal_position: Lsn,
    pub database: String,
}

/// Takes replication commands and simple queries.
pub struct ReplicationConnection {
    pub(super) wire: Wire,
}

impl ReplicationConnection {
    /// Connects as a walsender of the database in `params`. `application_name`: see [`Params::application_name_for`].
    pub async fn connect(params: &Params, application_name: &str) -> Result<ReplicationConnection> {
        let wire = Wire::connect(params, Purpose::SourceSnapshot, application_name, true).await?;
        Ok(ReplicationConnection { wire })
    }

    #[must_use]
    pub fn version(&self) -> ServerVersion {
        self.wire.version()
    }

    #[must_use]
    pub fn backend_pid(&self) -> i32 {
        self.wire.backend_pid()
    }

    #[must_use]
    pub fn canceller(&self) -> pg::wire::Canceller {
        self.wire.canceller()
    }

    pub async fn identify_system(&mut self) -> Result<SystemIdentity> {
        let rows = self.wire.simple("IDENTIFY_SYSTEM").await?;
        let row: [Option<String>; 4] = rows
            .into_iter()
            .next()
            .and_then(|row| row.try_into().ok())
            .ok_or_else(|| Error::connection("unexpected answer to IDENTIFY_SYSTEM"))?;
        let [system_id, timeline, position, database] = row.map(Option::unwrap_or_default);
        let unreadable = || Error::connection("unreadable answer to IDENTIFY_SYSTEM");
        Ok(SystemIdentity {
            system_id,
            timeline: timeline.parse().map_err(|_| unreadable())?,
            wal_position: position.parse().map_err(|_| unreadable())?,
            database,
        })
    }

    /// A setting's value in this session.
    pub async fn show(&mut self, setting: &str) -> Result<String> {
        let value = self.wire.simple_value(&format!("SHOW {setting}")).await?;
        value.ok_or_else(|| Error::connection(format!("the server has no value for {setting}")))
    }

    /// Bounds the waits for locks of the commands that follow: creating a slot waits for every transaction that holds an xid.
    pub async fn set_lock_timeout(&mut self, limit: Duration) -> Result<()> {
        self.wire.simple(&format!("SET lock_timeout = {}", limit.as_millis())).await.map(drop)
    }

    /// Any other SQL, text in and text out. Ends the life of an exported snapshot.
    pub async fn simple(&mut self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        self.wire.simple(sql).await
    }

    /// Closes the connection; resolves when the server's process is gone, so that a temporary slot is too.
    pub async fn close(self) {
        self.wire.shutdown().await;
    }
}
