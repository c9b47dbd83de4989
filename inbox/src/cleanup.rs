//! Ids that are too old to come again.

use std::time::Duration;

use tokio_postgres::Client;

/// Rows of one DELETE: short enough that nobody waits for its locks, and vacuum keeps up.
const BATCH: i64 = 1000;

const DELETE: &str = "
    DELETE FROM inbox.processed p USING (
        SELECT consumer, topic, id FROM inbox.processed
        WHERE consumer = $1 AND processed_at < now() - make_interval(secs => $2)
        ORDER BY processed_at LIMIT $3 FOR UPDATE SKIP LOCKED
    ) old
    WHERE (p.consumer, p.topic, p.id) = (old.consumer, old.topic, old.id)";

/// Removes the ids of `group` that are older than `keep`, in small batches; returns how many. Workers do it by themselves, once an hour.
///
/// # Errors
/// The database's.
pub async fn cleanup(client: &Client, group: &str, keep: Duration) -> Result<u64, tokio_postgres::Error> {
    let mut removed = 0;
    loop {
        let batch = client.execute(DELETE, &[&group, &keep.as_secs_f64(), &BATCH]).await?;
        removed += batch;
        if batch < BATCH as u64 {
            return Ok(removed);
        }
    }
}
