//! What the server says about a slot, and whether a run may go on from it.

use std::time::Duration;

use pg::{Error, Lsn, Result, quote_literal, sqlstate};
use serde::Deserialize;
use tokio_postgres::Client;

/// A row of `pg_replication_slots`. What a version does not know is `None`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct SlotState {
    pub slot_name: String,
    pub plugin: Option<String>,
    pub database: Option<String>,
    #[serde(default)]
    pub temporary: bool,
    pub active_pid: Option<i32>,
    pub restart_lsn: Option<String>,
    pub confirmed_flush_lsn: Option<String>,
    /// From 13 on: `reserved`, `extended`, `unreserved`, `lost`.
    pub wal_status: Option<String>,
    /// From 16 on: rows that it needs were removed while it was on a standby.
    pub conflicting: Option<bool>,
    /// From 17 on.
    pub invalidation_reason: Option<String>,
    /// From 17 on: it follows the primary role to a standby.
    pub failover: Option<bool>,
}

/// The slot of that name; `None` when there is none.
pub async fn look(client: &Client, name: &str) -> Result<Option<SlotState>> {
    // to_jsonb, because the columns differ from version to version.
    let row = client
        .query_opt(
            "SELECT to_jsonb(s) FROM pg_catalog.pg_replication_slots s WHERE s.slot_name = $1",
            &[&name],
        )
        .await?;
    row.map(|row| {
        serde_json::from_value(row.try_get(0)?)
            .map_err(|error| Error::failed("SLOT_UNREADABLE", format!("pg_replication_slots: {error}")))
    })
    .transpose()
}

/// Drops a slot. One that is gone is no error; one that a dying walsender still holds is waited for up to `patience`.
pub async fn drop(client: &Client, name: &str, patience: Duration) -> Result<()> {
    let deadline = tokio::time::Instant::now() + patience;
    loop {
        let error = match client.execute("SELECT pg_catalog.pg_drop_replication_slot($1)", &[&name]).await {
            Ok(_) => return Ok(()),
            Err(error) => Error::from(error),
        };
        if error.is(sqlstate::UNDEFINED_OBJECT) {
            return Ok(());
        }
        if !error.is(sqlstate::OBJECT_IN_USE) || tokio::time::Instant::now() >= deadline {
            return Err(error.context(format!("could not drop replication slot \"{name}\"")));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

impl SlotState {
    #[must_use]
    pub fn confirmed_flush(&self) -> Option<Lsn> {
        self.confirmed_flush_lsn.as_deref().and_then(|text| text.parse().ok())
    }

    /// May a run stream from it? `state` is what [`look`] found, `progress` the end LSN up to which everything is durable in the
    /// target (`None` before the first transaction, and over Kafka, whose topics keep what the slot has let go).
    pub fn check(state: Option<&SlotState>, name: &str, database: &str, progress: Option<Lsn>) -> Result<()> {
        let Some(state) = state else {
            return Err(Error::refuse("SLOT_MISSING", format!("replication slot \"{name}\" does not exist"))
                .detail("changes since the last applied one are lost to this run")
                .hint(format!("start over: walferry clean --name {name}, then the same command again")));
        };
        state.check_usable(database)?;
        if let (Some(confirmed), Some(progress)) = (state.confirmed_flush(), progress)
            && confirmed > progress
        {
            return Err(Error::refuse("GAP", format!("replication slot \"{name}\" has been moved past what was applied"))
                .detail(format!("it starts at {confirmed}, the target holds everything up to {progress}"))
                .hint("it was advanced or made anew, or the target comes from a backup: start over with walferry clean, \
                       then the same command again"));
        }
        Ok(())
    }

    /// Is it a slot that this database's changes can be read from? Also the question for a slot made by somebody else.
    pub fn check_usable(&self, database: &str) -> Result<()> {
        let name = &self.slot_name;
        if self.plugin.as_deref() != Some("pgoutput") {
            let what =
                self.plugin.as_deref().map_or("physical".into(), |plugin| format!("for plugin \"{plugin}\""));
            return Err(Error::refuse(
                "SLOT_UNUSABLE",
                format!("replication slot \"{name}\" is {what}, not for pgoutput"),
            )
            .hint("name another one with --slot"));
        }
        if self.database.as_deref() != Some(database) {
            let other = self.database.as_deref().unwrap_or_default();
            return Err(Error::refuse(
                "SLOT_UNUSABLE",
                format!("replication slot \"{name}\" belongs to database \"{other}\""),
            )
            .hint("name another one with --slot"));
        }
        let reason = if let Some(reason) = &self.invalidation_reason {
            reason.clone()
        } else if self.conflicting == Some(true) {
            "conflict with recovery".to_owned()
        } else if self.wal_status.as_deref() == Some("lost") || self.restart_lsn.is_none() {
            "its WAL was removed".to_owned()
        } else {
            return Ok(());
        };
        Err(Error::refuse("SLOT_LOST", format!("replication slot \"{name}\" was invalidated: {reason}"))
            .detail("see max_slot_wal_keep_size and idle_replication_slot_timeout on the source")
            .hint(format!(
                "SELECT pg_drop_replication_slot({}); then walferry clean and the same command again",
                quote_literal(name)
            )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot() -> SlotState {
        SlotState {
            slot_name: "w".into(),
            plugin: Some("pgoutput".into()),
            database: Some("app".into()),
            temporary: false,
            active_pid: None,
            restart_lsn: Some("0/10".into()),
            confirmed_flush_lsn: Some("0/20".into()),
            wal_status: None,
            conflicting: None,
            invalidation_reason: None,
            failover: None,
        }
    }

    fn code(state: Option<&SlotState>, progress: u64) -> Option<String> {
        SlotState::check(state, "w", "app", Some(Lsn::new(progress)))
            .err()
            .map(|error| error.code().to_owned())
    }

    #[test]
    fn only_a_slot_that_holds_what_is_missing_is_good() {
        assert_eq!(code(Some(&slot()), 0x20), None);
        assert_eq!(code(Some(&slot()), 0x21), None);
        assert_eq!(code(Some(&slot()), 0x1f).as_deref(), Some("GAP"));
        assert_eq!(code(None, 0x20).as_deref(), Some("SLOT_MISSING"));
        for lost in [
            SlotState { wal_status: Some("lost".into()), ..slot() },
            SlotState { restart_lsn: None, ..slot() },
            SlotState { conflicting: Some(true), ..slot() },
            SlotState { invalidation_reason: Some("wal_removed".into()), ..slot() },
        ] {
            assert_eq!(code(Some(&lost), 0x20).as_deref(), Some("SLOT_LOST"));
        }
        for other in [
            SlotState { plugin: Some("test_decoding".into()), ..slot() },
            SlotState { plugin: None, ..slot() },
            SlotState { database: Some("b".into()), ..slot() },
        ] {
            assert_eq!(code(Some(&other), 0x20).as_deref(), Some("SLOT_UNUSABLE"));
        }
    }
}
