//! More WAL is retained than the user allows (`limits.max_retained_wal`): whatever is behind a slot, it is the slot that fills the source's disk.
//!
//! ```text
//! Limit: one look, what is said, the drop ◄── watch.rs: for as long as a run or a reader lives ──► status.rs: what the target says of it
//!                                         ◄── outbox run, at each attempt and beside its stream
//! ```

mod status;
mod watch;

use std::time::Duration;

use pg::{Error, Params, Purpose, Result, Session};
use pipeline::Reporter;
use reader::slot;

use crate::config::{LimitSettings, OnLimit};

pub use status::tell;
pub use watch::{Retained, Watch};

/// Code of the error that ends a run.
pub const SLOT_DROPPED: &str = "SLOT_DROPPED";
/// In every warning of a limit that was passed.
const KEY: &str = "limits.max_retained_wal";

/// How long a walsender may take to end.
const DYING: Duration = Duration::from_secs(8);

/// Watches one slot.
pub struct Limit<'a> {
    limits: &'a LimitSettings,
    source: &'a Params,
    slot: String,
    /// What starts over without the slot.
    hint: String,
    warned: bool,
    /// What it retained when it was being dropped.
    dropping: Option<u64>,
}

impl<'a> Limit<'a> {
    pub fn new(limits: &'a LimitSettings, source: &'a Params, slot: &str, hint: String) -> Limit<'a> {
        Limit { limits, source, slot: slot.to_owned(), hint, warned: false, dropping: None }
    }

    /// Looks; past the limit it warns, once, or drops the slot. Returns what is to be said as long as it is so.
    ///
    /// # Errors
    /// `SLOT_DROPPED`, or what the server says.
    pub async fn look(&mut self, session: &Session, reporter: &Reporter) -> Result<Option<String>> {
        let Some(limit) = self.limits.max_retained_wal else { return Ok(None) };
        let row = session
            .query_opt(
                "SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::int8
                 FROM pg_catalog.pg_replication_slots WHERE slot_name = $1",
                &[&self.slot],
            )
            .await?;
        let retained = match (row, self.dropping) {
            // The answer to the drop was lost on its way.
            (None, Some(retained)) => return Err(self.dropped(retained)),
            (None, None) => 0,
            (Some(row), _) => row.get::<_, Option<i64>>(0).and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
        };
        if retained <= limit.bytes() {
            self.warned = false;
            return Ok(None);
        }
        if self.limits.on_limit == OnLimit::Drop {
            self.dropping = Some(retained);
            self.drop().await?;
            return Err(self.dropped(retained));
        }
        let warning = format!("the slot retains {retained} bytes of WAL on the source, more than {KEY}");
        if !std::mem::replace(&mut self.warned, true) {
            reporter.warning(warning.clone(), None);
        }
        Ok(Some(warning))
    }

    fn dropped(&self, retained: u64) -> Error {
        let limit = self.limits.max_retained_wal.map_or(0, |limit| limit.bytes());
        Error::refuse(
            SLOT_DROPPED,
            "the slot was dropped to save the source: it retained more WAL than allowed",
        )
        .detail(format!("{retained} bytes retained, {KEY} = {limit} bytes"))
        .hint(self.hint.clone())
    }

    /// One that somebody else has dropped meanwhile is no error.
    async fn drop(&self) -> Result<()> {
        let killer = Session::connect(self.source, Purpose::Query, "walferry (limit)").await?;
        // Our own walsender holds it.
        killer
            .execute(
                "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots
                 WHERE slot_name = $1 AND active_pid IS NOT NULL",
                &[&self.slot],
            )
            .await
            .map_err(|error| Error::from(error).context("could not end the session that reads the slot"))?;
        slot::drop(&killer, &self.slot, DYING).await?;
        fail::fail_point!("limit-dropped", |_| Err(Error::connection("the reply was lost")));
        Ok(())
    }
}
