//! Which running server a connection is with.
//!
//! A snapshot id means something on one server instance only. Behind a pooler or a reader endpoint two connections may end at two
//! servers, and a stale snapshot id can even exist on the wrong one, so every connection is asked before it reads.

use pg::{Error, Result};

/// One running server and one database of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerInstance {
    pub system_id: String,
    /// When the postmaster started, as text.
    pub started: String,
    pub database_oid: String,
    pub in_recovery: bool,
}

/// Answers with one row that [`ServerInstance::from_row`] reads.
pub(crate) const INSTANCE_SQL: &str = "SELECT (SELECT system_identifier FROM pg_catalog.pg_control_system())::text, \
     pg_catalog.pg_postmaster_start_time()::text, \
     (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())::text, \
     pg_catalog.pg_is_in_recovery()::text";

impl ServerInstance {
    pub async fn of(client: &tokio_postgres::Client) -> Result<ServerInstance> {
        let row = client.query_one(INSTANCE_SQL, &[]).await?;
        let text = |n: usize| row.try_get::<_, Option<String>>(n).map(Option::unwrap_or_default);
        Ok(Self::from_row([text(0)?, text(1)?, text(2)?, text(3)?]))
    }

    pub(crate) fn from_row([system_id, started, database_oid, in_recovery]: [String; 4]) -> ServerInstance {
        ServerInstance {
            system_id,
            started,
            database_oid,
            in_recovery: in_recovery == "true" || in_recovery == "t",
        }
    }

    /// Refuses a standby. Snapshots of one can be exported too, but no logical slot goes with them before 16, and never its copy.
    pub fn check_primary(&self) -> Result<()> {
        if self.in_recovery {
            return Err(Error::refuse("SOURCE_IN_RECOVERY", "the source is a standby in recovery")
                .hint("give the primary's address in --source"));
        }
        Ok(())
    }

    /// Another connection must be with this instance.
    pub fn check_same(&self, other: &ServerInstance) -> Result<()> {
        if self.system_id != other.system_id || self.database_oid != other.database_oid {
            return Err(Error::refuse(
                "SOURCE_CHANGED",
                "two connections to the source ended at different servers or databases",
            )
            .detail("a pooler or a load balancer stands in between")
            .hint("give the server's own address in --source"));
        }
        if self.started != other.started {
            // The snapshot died with the instance that had exported it.
            return Err(Error::connection("the source was restarted").with_code(super::keeper::LOST));
        }
        other.check_primary()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pg::Class;

    fn instance(system: &str, started: &str, recovery: &str) -> ServerInstance {
        ServerInstance::from_row([system.into(), started.into(), "5".into(), recovery.into()])
    }

    #[test]
    fn another_server_is_refused_and_a_restart_is_a_lost_snapshot() {
        let ours = instance("1", "now", "false");
        assert!(ours.check_same(&ours).is_ok());
        assert_eq!(ours.check_same(&instance("2", "now", "false")).unwrap_err().class(), Class::Refuse);
        assert_eq!(ours.check_same(&instance("1", "now", "true")).unwrap_err().code(), "SOURCE_IN_RECOVERY");
        assert_eq!(
            ours.check_same(&instance("1", "later", "false")).unwrap_err().code(),
            super::super::keeper::LOST
        );
    }
}
