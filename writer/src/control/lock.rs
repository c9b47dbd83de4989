//! One process per run: a session-level advisory lock in the target database.
//!
//! The lock is how a second process learns early that it is the second one. What makes applying safe is the progress row's unique
//! key (see `progress`): a process that lost its lock without noticing can't commit.

use pg::Result;
use tokio_postgres::Client;

const KEY: &str = "pg_catalog.hashtextextended('walferry run ' || $1::text, 0)";

/// Takes the run's lock for as long as this session lives; false when another session has it.
pub async fn try_lock(client: &Client, run: &str) -> Result<bool> {
    let row = client.query_one(&format!("SELECT pg_catalog.pg_try_advisory_lock({KEY})"), &[&run]).await?;
    Ok(row.get(0))
}

/// Who holds a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: i32,
    pub application_name: String,
    pub client: String,
    pub since: String,
}

/// The session that holds the run's lock, if one does. Without the right to see other roles' sessions only its pid is known.
pub async fn holder(client: &Client, run: &str) -> Result<Option<Holder>> {
    let row = client
        .query_opt(
            &format!(
                "SELECT l.pid, coalesce(a.application_name, ''), \
                        coalesce(a.client_hostname, pg_catalog.host(a.client_addr), 'local'), \
                        coalesce(a.backend_start::text, '') \
                 FROM pg_catalog.pg_locks l LEFT JOIN pg_catalog.pg_stat_activity a USING (pid) \
                 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 \
                   AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()) \
                   AND l.classid::bigint = (({KEY} >> 32) & 4294967295) \
                   AND l.objid::bigint = ({KEY} & 4294967295)"
            ),
            &[&run],
        )
        .await?;
    Ok(row.map(|row| Holder {
        pid: row.get(0),
        application_name: row.get(1),
        client: row.get(2),
        since: row.get(3),
    }))
}
