//! C6: nothing of the program is left behind.

use std::time::{Duration, Instant};

use super::side::Side;
use crate::support::Postgres;

/// Sessions end a moment after their process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Fails unless, with no process running, there is no session, temporary slot, advisory lock or prepared
/// transaction on the server.
pub async fn expect_idle(server: &Postgres) {
    expect_none(server, "postgres",
        "SELECT 'session of ' || coalesce(nullif(application_name, ''), '(no name)') || ': ' || left(query, 60)
         FROM pg_stat_activity
         WHERE backend_type IN ('client backend', 'walsender') AND pid <> pg_backend_pid()
           AND application_name NOT IN ('fixture', 'load', 'walreceiver', 'pg_basebackup')
         UNION ALL SELECT 'temporary slot ' || slot_name FROM pg_replication_slots WHERE temporary
         UNION ALL SELECT 'advisory lock of pid ' || pid FROM pg_locks WHERE locktype = 'advisory'
         UNION ALL SELECT 'prepared transaction ' || gid FROM pg_prepared_xacts"

    )
    .await;
}

/// Fails unless, after `clean`, neither slot, publication, schema nor trigger of the program is in the database.
/// `publications` are the test's own.
pub async fn expect_no_trace(server: &Postgres, database: &str, publications: &[&str]) {
    expect_idle(server).await;
    expect_none(server, database, &traces(publications)).await;
}

/// What `expect_no_trace` would fail on.
pub async fn find_traces(server: &Postgres, database: &str, publications: &[&str]) -> Vec<String> {
    Side::open(&server.uri(database)).await.lines(&traces(publications)).await
}

fn traces(publications: &[&str]) -> String {
    let own: Vec<String> =
        publications.iter().map(|name| format!("'{}'", name.replace('\'', "''"))).collect();
    format!(
        "SELECT 'slot ' || slot_name FROM pg_replication_slots
         WHERE slot_type = 'logical' AND slot_name NOT LIKE 'oracle\\_%' AND database = current_database()
         UNION ALL SELECT 'publication ' || pubname FROM pg_publication WHERE pubname <> ALL (ARRAY[{}]::name[])
         UNION ALL SELECT 'schema ' || nspname FROM pg_namespace WHERE nspname LIKE 'walferry%'
         UNION ALL SELECT 'trigger ' || t.tgname || ' on ' || t.tgrelid::regclass FROM pg_trigger t
         WHERE t.tgname LIKE '%walferry%'",
        own.join(", ")
    )
}

async fn expect_none(server: &Postgres, database: &str, statement: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = Side::open(&server.uri(database)).await.lines(statement).await;
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind on PostgreSQL {}: {left:#?}", server.major());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
