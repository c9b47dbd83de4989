//! Who holds up the creation of a slot: every transaction with an xid that was running when it began, in any database.
//!
//! <https://www.postgresql.org/docs/current/logicaldecoding-explanation.html>

use std::fmt;

use pg::Result;
use tokio_postgres::Client;

/// A transaction that has written and has not ended.
#[derive(Clone, Debug, PartialEq)]
pub struct Blocker {
    /// `None`: a prepared transaction.
    pub pid: Option<i32>,
    /// Of a prepared transaction.
    pub gid: Option<String>,
    pub user: Option<String>,
    pub database: Option<String>,
    pub application: Option<String>,
    /// Since when it runs; `None` where the role may not see that.
    pub seconds: Option<f64>,
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.gid, self.pid) {
            (Some(gid), _) => write!(f, "prepared transaction {gid:?}")?,
            (None, Some(pid)) => write!(f, "transaction of pid {pid}")?,
            (None, None) => write!(f, "transaction")?,
        }
        if let Some(user) = &self.user {
            write!(f, " of user {user:?}")?;
        }
        if let Some(application) = self.application.as_deref().filter(|name| !name.is_empty()) {
            write!(f, ", application {application:?}")?;
        }
        if let Some(database) = &self.database {
            write!(f, ", database {database:?}")?;
        }
        if let Some(seconds) = self.seconds {
            write!(f, ", since {seconds:.0} s")?;
        }
        Ok(())
    }
}

impl Blocker {
    /// The statement that ends it.
    #[must_use]
    pub fn remedy(&self) -> String {
        match (&self.gid, self.pid) {
            (Some(gid), _) => {
                let literal = pg::quote_literal(gid);
                format!("COMMIT PREPARED {literal}; or ROLLBACK PREPARED {literal};")
            }
            (None, Some(pid)) => format!("SELECT pg_terminate_backend({pid});"),
            (None, None) => String::new(),
        }
    }
}

/// Transactions that hold an xid, the oldest first. Without pg_read_all_stats their ages are missing, not they themselves.
pub async fn blockers(client: &Client) -> Result<Vec<Blocker>> {
    let rows = client
        .query(
            "SELECT * FROM (
               SELECT a.pid, NULL::text AS gid, a.usename::text AS username, a.datname::text AS datname, a.application_name,
                      extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS seconds,
                      pg_catalog.age(a.backend_xid) AS age
                 FROM pg_catalog.pg_stat_activity a
                WHERE a.backend_xid IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()
               UNION ALL
               SELECT NULL, p.gid, p.owner::text, p.database::text, NULL,
                      extract(epoch FROM pg_catalog.clock_timestamp() - p.prepared)::float8, pg_catalog.age(p.transaction)
                 FROM pg_catalog.pg_prepared_xacts p
             ) t ORDER BY age DESC, pid",
            &[],
        )
        .await?;
    rows.iter()
        .map(|row| {
            Ok(Blocker {
                pid: row.try_get(0)?,
                gid: row.try_get(1)?,
                user: row.try_get(2)?,
                database: row.try_get(3)?,
                application: row.try_get(4)?,
                seconds: row.try_get(5)?,
            })
        })
        .collect()
}
