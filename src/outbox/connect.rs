//! The session that owns a run: its advisory lock on the source.

use std::time::Duration;

use pg::{Error, Params, Purpose, Result, Session};
use tokio::time::{Instant, sleep};

/// How long to wait for the lock of a process that has just died.
const PATIENCE: Duration = Duration::from_secs(5);
/// First half of the lock's key; the second is the slot's name.
const LOCK: i32 = 0x6f75_7462;

/// A session on the source.
pub async fn connect(params: &Params, name: &str, what: &str) -> Result<Session> {
    Session::connect(params, Purpose::Query, &format!("{name} ({what})"))
        .await
        .map_err(|error| error.context("source"))
}

/// Takes the run: one process routes from a slot. Nothing is written by this.
///
/// # Errors
/// `OWNED_BY`: another process has it.
pub async fn lock(session: &Session, slot: &str) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let taken: bool = session
            .query_one("SELECT pg_catalog.pg_try_advisory_lock($1, pg_catalog.hashtext($2))", &[&LOCK, &slot])
            .await?
            .get(0);
        if taken {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Error::refuse("OWNED_BY", format!("another process routes from slot \"{slot}\""))
                .hint("stop that process (SIGTERM), or give another --name"));
        }
        sleep(Duration::from_millis(100)).await;
    }
}
