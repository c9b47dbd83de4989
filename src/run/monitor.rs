//! How far the target is behind, and what the slot costs the source; about once a second.

use std::time::{SystemTime, UNIX_EPOCH};

use pg::{Lsn, Result, Session};
use pipeline::PgTimestamp;
use writer::apply::Applied;
use writer::control::Live;

use super::context::Context;

/// Milliseconds between 1970 and 2000.
const PG_EPOCH_MS: i64 = 946_684_800_000;

/// Asks the source for its positions.
#[derive(Default)]
pub struct Monitor {
    session: Option<Session>,
    previous: Option<Lsn>,
}

/// One look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub source: Lsn,
    pub retained: u64,
    pub lag_bytes: u64,
    pub lag_ms: u64,
    /// Everything that the source had at the look before this one has been applied.
    pub caught_up: bool,
}

pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

fn age_ms(at: PgTimestamp) -> u64 {
    let now = i64::try_from(unix_ms()).unwrap_or(i64::MAX);
    u64::try_from(now - PG_EPOCH_MS - at.0 / 1000).unwrap_or(0)
}

impl Monitor {
    /// The next look opens another connection.
    pub fn forget(&mut self) {
        self.session = None;
    }

    /// Looks at the source. An error drops the connection; the next look opens another one.
    pub async fn look(&mut self, context: &Context, slot: &str, applied: &Applied) -> Result<Look> {
        let result = self.query(context, slot).await;
        if result.is_err() {
            self.session = None;
        }
        let (source, retained) = result?;
        let end = applied.progress.end_lsn;
        let caught_up = self.previous.replace(source).is_some_and(|before| end >= before);
        let lag_bytes = source.bytes_since(end);
        let lag_ms = match applied.committed_at {
            _ if caught_up => 0,
            Some(at) => age_ms(at),
            None => 0,
        };
        Ok(Look { source, retained, lag_bytes, lag_ms, caught_up })
    }

    async fn query(&mut self, context: &Context, slot: &str) -> Result<(Lsn, u64)> {
        let session = match &mut self.session {
            Some(session) => session,
            none => none.insert(context.source_session().await?),
        };
        let row = session
            .query_one(
                "SELECT pg_catalog.pg_current_wal_lsn()::text, coalesce((SELECT pg_catalog.pg_wal_lsn_diff(
                     pg_catalog.pg_current_wal_lsn(), restart_lsn)::int8 FROM pg_catalog.pg_replication_slots
                     WHERE slot_name = $1), 0)",
                &[&slot],
            )
            .await?;
        let text: String = row.get(0);
        let retained: i64 = row.get(1);
        let source = text.parse().map_err(|error| pg::Error::failed("PROTOCOL", format!("{error}")))?;
        Ok((source, u64::try_from(retained).unwrap_or(0)))
    }
}

/// What `status` shows.
pub fn live(look: Option<&Look>, waiting: Vec<String>) -> Live {
    Live {
        source_lsn: look.map(|look| look.source.to_string()),
        lag_bytes: look.map(|look| look.lag_bytes),
        lag_ms: look.map(|look| look.lag_ms),
        retained_wal_bytes: look.map(|look| look.retained),
        waiting,
        host: hostname(),
        pid: std::process::id(),
        at_ms: unix_ms(),
    }
}

/// For people who look for the process.
fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| String::new(), |name| name.trim().to_owned())
}
