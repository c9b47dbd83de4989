//! The inbox's own tables.

use tokio_postgres::Client;

/// Schema `inbox`. The worker makes it when it is not there; a role that may not create schemas needs it beforehand, and then
/// `USAGE` on the schema and `SELECT, INSERT, DELETE` on both tables.
pub const SQL: &str = "
CREATE SCHEMA IF NOT EXISTS inbox;
CREATE TABLE IF NOT EXISTS inbox.processed (
    consumer text NOT NULL,
    topic text NOT NULL,
    id text NOT NULL,
    processed_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, id)
);
CREATE INDEX IF NOT EXISTS processed_at ON inbox.processed (consumer, processed_at);
CREATE TABLE IF NOT EXISTS inbox.dead_letters (
    consumer text NOT NULL,
    topic text NOT NULL,
    id text NOT NULL,
    key bytea,
    value bytea,
    headers jsonb NOT NULL,
    stage text NOT NULL,
    error text NOT NULL,
    attempts int NOT NULL,
    partition int NOT NULL,
    position bigint NOT NULL,
    dead_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer, topic, id)
);
";

const THERE: &str = "
    SELECT to_regclass('inbox.processed') IS NOT NULL AND to_regclass('inbox.dead_letters') IS NOT NULL";

/// Two workers that make it at the same time would meet in the catalogs; the number is this statement's own.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(7308337520427)";

/// Makes the tables that are not there.
///
/// # Errors
/// The role may not.
pub async fn install(client: &mut Client) -> Result<(), tokio_postgres::Error> {
    let there: bool = client.query_one(THERE, &[]).await?.get(0);
    if there {
        return Ok(());
    }
    let tx = client.transaction().await?;
    tx.execute(LOCK, &[]).await?;
    tx.batch_execute(SQL).await?;
    tx.commit().await
}
