//! Replication slots as the replication protocol makes and drops them.
//!
//! Only CREATE_REPLICATION_SLOT with an exported snapshot gives an LSN and a snapshot of the same instant; the SQL functions do not.

use pg::{Error, Lsn, Result, ServerVersion, quote_ident};

use super::ReplicationConnection;

/// What happens with the snapshot that a new slot starts at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlotSnapshot {
    /// Exported: other sessions can import it until the next command on this connection.
    Export,
    /// None is kept.
    Nothing,
}

/// A slot that has just been made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CreatedSlot {
    /// Transactions whose commit record is here or later are in the stream; all others are in the snapshot.
    pub consistent_point: Lsn,
    /// Name for SET TRANSACTION SNAPSHOT.
    pub snapshot: Option<String>,
}

impl ReplicationConnection {
    /// Makes a logical slot for pgoutput. Waits for every transaction that has an xid, bounded by
    /// [`ReplicationConnection::set_lock_timeout`] (55P03). `failover` needs a server of 17 or later and is left out before.
    pub async fn create_slot(
        &mut self,
        name: &str,
        temporary: bool,
        snapshot: SlotSnapshot,
        failover: bool,
    ) -> Result<CreatedSlot> {
        let sql = create_command(self.version(), name, temporary, snapshot, failover);
        let rows = self.wire.simple(&sql).await?;
        let row: [Option<String>; 4] = rows
            .into_iter()
            .next()
            .and_then(|row| row.try_into().ok())
            .ok_or_else(|| Error::connection("unexpected answer to CREATE_REPLICATION_SLOT"))?;
        let [_, consistent_point, snapshot, _] = row;
        let consistent_point = consistent_point.unwrap_or_default();
        let consistent_point = consistent_point
            .parse()
            .map_err(|_| Error::connection("unreadable answer to CREATE_REPLICATION_SLOT"))?;
        Ok(CreatedSlot { consistent_point, snapshot: snapshot.filter(|name| !name.is_empty()) })
    }

    /// Drops a slot; 42704 if there is none, 55006 while somebody uses it.
    pub async fn drop_slot(&mut self, name: &str) -> Result<()> {
        self.wire.simple(&format!("DROP_REPLICATION_SLOT {}", quote_ident(name))).await.map(drop)
    }
}

fn create_command(
    version: ServerVersion,
    name: &str,
    temporary: bool,
    snapshot: SlotSnapshot,
    failover: bool,
) -> String {
    let name = quote_ident(name);
    let temporary = if temporary { " TEMPORARY" } else { "" };
    let options = if version.major() >= 15 {
        let snapshot = match snapshot {
            SlotSnapshot::Export => "export",
            SlotSnapshot::Nothing => "nothing",
        };
        let failover = if failover && version.major() >= 17 { ", FAILOVER true" } else { "" };
        format!("(SNAPSHOT '{snapshot}'{failover})")
    } else {
        match snapshot {
            SlotSnapshot::Export => "EXPORT_SNAPSHOT",
            SlotSnapshot::Nothing => "NOEXPORT_SNAPSHOT",
        }
        .to_owned()
    };
    format!("CREATE_REPLICATION_SLOT {name}{temporary} LOGICAL pgoutput {options}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax_follows_the_version() {
        let command = |version, temporary, snapshot, failover| {
            create_command(ServerVersion(version), "s", temporary, snapshot, failover)
        };
        for (version, temporary, snapshot, failover, sql) in [
            (100_000, false, SlotSnapshot::Export, true, r#""s" LOGICAL pgoutput EXPORT_SNAPSHOT"#),
            (
                140_000,
                true,
                SlotSnapshot::Nothing,
                false,
                r#""s" TEMPORARY LOGICAL pgoutput NOEXPORT_SNAPSHOT"#,
            ),
            (150_000, false, SlotSnapshot::Export, true, r#""s" LOGICAL pgoutput (SNAPSHOT 'export')"#),
            (
                170_000,
                true,
                SlotSnapshot::Nothing,
                false,
                r#""s" TEMPORARY LOGICAL pgoutput (SNAPSHOT 'nothing')"#,
            ),
            (
                180_000,
                false,
                SlotSnapshot::Export,
                true,
                r#""s" LOGICAL pgoutput (SNAPSHOT 'export', FAILOVER true)"#,
            ),
        ] {
            let expected = format!("CREATE_REPLICATION_SLOT {sql}");
            assert_eq!(command(version, temporary, snapshot, failover), expected);
        }
    }
}
