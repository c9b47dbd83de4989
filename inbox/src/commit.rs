//! The end of an event's transaction.

use tokio_postgres::Transaction;
use tokio_postgres::error::SqlState;

use crate::error::Failure;

/// In a transaction in which a statement has failed, PostgreSQL answers COMMIT with ROLLBACK, and that is no error. The SELECT is one there,
/// and COMMIT is not reached; both are one round trip. What drops the [`Transaction`] rolls back the empty one that is chained.
/// <https://www.postgresql.org/docs/current/sql-commit.html>
const COMMIT: &str = "SELECT; COMMIT AND CHAIN";

pub(crate) async fn commit(tx: Transaction<'_>) -> Result<(), Failure> {
    match tx.batch_execute(COMMIT).await {
        Err(error) if error.code() == Some(&SqlState::IN_FAILED_SQL_TRANSACTION) => Err(Failure::retry(
            "the handler went on after a statement of its transaction had failed, so nothing of it can be committed: return the error, or \
             put what may fail behind a SAVEPOINT and ROLLBACK TO it",
        )),
        done => Ok(done?),
    }
}
