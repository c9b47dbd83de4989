//! Looks, beside the stream, at what the stream rests on.

use std::time::Duration;

use kafka::{Admin, Options};
use pg::{Params, Purpose, Session};
use tokio_util::sync::CancellationToken;

use super::health::Health;
use super::numbers;
use crate::run::monitor::Behind;

const EVERY: Duration = Duration::from_secs(1);
/// A broker or a server that needs longer is as good as away.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks the brokers for `topic`, again and again, until `cancel`. librdkafka tries lost brokers by itself for as long as it takes, so the
/// stream itself does not stop with them.
pub fn kafka(health: &Health, options: &Options, topic: &str, cancel: CancellationToken) {
    if !health.is_asked() {
        return;
    }
    health.rests_on("kafka");
    let (health, options, topic) = (health.clone(), options.clone(), topic.to_owned());
    tokio::spawn(cancel.run_until_cancelled_owned(async move {
        let admin = match Admin::new(&options) {
            Ok(admin) => admin,
            Err(error) => return health.looked_at("kafka", Err(error.primary().to_owned())),
        };
        loop {
            let found = admin.answers(&topic, PATIENCE).await;
            health.looked_at("kafka", found.map_err(|_| "no broker answers".to_owned()));
            tokio::time::sleep(EVERY).await;
        }
    }));
}

/// Ends a look when it is dropped: what nobody looks at any more says nothing.
pub struct Looking(Health, &'static str, CancellationToken);

impl Drop for Looking {
    fn drop(&mut self) {
        self.2.cancel();
        self.0.forget(self.1);
    }
}

/// Asks the source for the slot, again and again, as long as the answer lives: what it retains, and how far behind it is. For a stream that ends in Kafka,
/// where the slot's confirmed position is what has been delivered.
pub fn slot(health: &Health, source: &Params, slot: &str) -> Looking {
    let cancel = CancellationToken::new();
    let looking = Looking(health.clone(), "source", cancel.clone());
    if !health.is_asked() {
        return looking;
    }
    health.rests_on("source");
    let (health, source, slot) = (health.clone(), source.clone(), slot.to_owned());
    let cancelled = cancel.clone();
    tokio::spawn(cancel.run_until_cancelled_owned(async move {
        let mut session: Option<Session> = None;
        let mut behind = Behind::default();
        loop {
            let looked =
                tokio::time::timeout(PATIENCE, look(&mut session, &source, &slot, &mut behind)).await;
            let found = looked.unwrap_or_else(|_| Err("does not answer".to_owned()));
            if found.is_err() {
                session = None;
            }
            if !cancelled.is_cancelled() {
                health.looked_at("source", found);
            }
            tokio::time::sleep(EVERY).await;
        }
    }));
    looking
}

const LOOK: &str = "
    SELECT pg_catalog.pg_current_wal_lsn()::text, confirmed_flush_lsn::text,
           pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_lsn(), restart_lsn)::int8, active
    FROM pg_catalog.pg_replication_slots WHERE slot_name = $1";

async fn look(
    session: &mut Option<Session>,
    source: &Params,
    slot: &str,
    behind: &mut Behind,
) -> Result<(), String> {
    // The stream's own errors are in the log; here one word is enough.
    let away = |error: pg::Error| match error.sqlstate() {
        Some(sqlstate) => format!("refuses ({sqlstate})"),
        None => "can't be reached".to_owned(),
    };
    let session = match session {
        Some(session) => session,
        none => {
            none.insert(Session::connect(source, Purpose::Query, "walferry (health)").await.map_err(away)?)
        }
    };
    let row = session.query_opt(LOOK, &[&slot]).await.map_err(|error| away(error.into()))?;
    let Some(row) = row else { return Err(format!("slot \"{slot}\" is not there")) };
    let position = |column: usize| row.get::<_, Option<String>>(column).and_then(|text| text.parse().ok());
    let (Some(end), Some(confirmed)) = (position(0), position(1)) else {
        return Err(format!("slot \"{slot}\" has lost its position"));
    };
    numbers::retained(row.get::<_, Option<i64>>(2).and_then(|n| u64::try_from(n).ok()).unwrap_or(0));
    let lag = behind.look(end, confirmed);
    // After a start with brokers away nothing has been reached: what waits is as old as the process at least.
    numbers::lag(end.bytes_since(confirmed), lag, lag.or_else(|| Some(behind.waiting_ms())));
    if row.get(3) { Ok(()) } else { Err(format!("nobody reads slot \"{slot}\"")) }
}
