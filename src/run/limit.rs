//! More WAL is retained than the user allows (`limits.max_retained_wal`), for streams that end in Kafka: whatever is behind them, it is the
//! slot that fills the source's disk.

use std::time::Duration;

use pg::{Error, Params, Purpose, Result, Session};
use pipeline::Reporter;
use reader::slot;

use crate::config::{LimitSettings, OnLimit};

/// How long our own walsender may take to end.
const DYING: Duration = Duration::from_secs(30);

/// Watches one slot.
pub struct Limit<'a> {
    limits: &'a LimitSettings,
    source: &'a Params,
    slot: String,
    /// What starts over without the slot.
    hint: String,
    warned: bool,
}

impl<'a> Limit<'a> {
    pub fn new(limits: &'a LimitSettings, source: &'a Params, slot: &str, hint: String) -> Limit<'a> {
        Limit { limits, source, slot: slot.to_owned(), hint, warned: false }
    }

    /// Looks; past the limit it warns, once, or drops the slot.
    ///
    /// # Errors
    /// `SLOT_DROPPED`, or what the server says.
    pub async fn look(&mut self, session: &Session, reporter: &Reporter) -> Result<()> {
        let Some(limit) = self.limits.max_retained_wal else { return Ok(()) };
        let row = session
            .query_one(
                "SELECT coalesce((SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::int8
                     FROM pg_catalog.pg_replication_slots WHERE slot_name = $1), 0)",
                &[&self.slot],
            )
            .await?;
        let retained = u64::try_from(row.get::<_, i64>(0)).unwrap_or(0);
        if retained <= limit.bytes() {
            self.warned = false;
            return Ok(());
        }
        if self.limits.on_limit == OnLimit::Warn {
            if !std::mem::replace(&mut self.warned, true) {
                reporter.warning(
                    format!("the slot retains {retained} bytes of WAL on the source, more than limits.max_retained_wal"),
                    None,
                );
            }
            return Ok(());
        }
        self.drop().await?;
        Err(Error::refuse(
            "SLOT_DROPPED",
            "the slot was dropped to save the source: it retained more WAL than allowed",
        )
        .detail(format!("{retained} bytes retained, limits.max_retained_wal = {} bytes", limit.bytes()))
        .hint(self.hint.clone()))
    }

    async fn drop(&self) -> Result<()> {
        let killer = Session::connect(self.source, Purpose::Query, "walferry (limit)").await?;
        // Our own walsender holds it.
        killer
            .execute(
                "SELECT pg_catalog.pg_terminate_backend(active_pid) FROM pg_catalog.pg_replication_slots
                 WHERE slot_name = $1 AND active_pid IS NOT NULL",
                &[&self.slot],
            )
            .await?;
        slot::drop(&killer, &self.slot, DYING).await
    }
}
