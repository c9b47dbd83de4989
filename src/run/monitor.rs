//! How far the target is behind, and what the slot costs the source; about once a second.

use std::collections::VecDeque;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use pg::{Lsn, Result, Session};
use pipeline::PgTimestamp;
use writer::apply::Applied;
use writer::control::Live;

use super::context::Context;
use super::lag::Found;

/// Milliseconds between 1970 and 2000.
const PG_EPOCH_MS: i64 = 946_684_800_000;

/// Asks the source for its positions.
#[derive(Default)]
pub struct Monitor {
    session: Option<Session>,
    previous: Option<Lsn>,
    behind: Behind,
}

/// One look.
#[derive(Clone, Copy, Debug)]
pub struct Look {
    pub source: Lsn,
    pub retained: u64,
    pub lag_bytes: u64,
    /// None while unknown.
    pub lag_ms: Option<u64>,
    /// Somebody reads the slot.
    pub slot_active: bool,
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

/// What a busy source writes between two looks, and what an idle one writes without a change of ours, is no lag.
const NOTHING_LEFT: u64 = 1 << 20;

/// How long ago the target was what the source is now.
///
/// Commit times alone don't tell: a transaction that was applied an hour ago, with nothing after it, is no lag of an hour. So the
/// positions of earlier looks are kept: what is not applied is younger than the last of them that was reached.
#[derive(Default)]
pub struct Behind {
    /// Positions of the source that are not reached, and when they were seen.
    seen: VecDeque<(Lsn, Instant)>,
    reached: Option<Instant>,
    /// Of the look before.
    last: Option<Lsn>,
}

/// An hour of looks; what does not fit makes the bound wider, not wrong.
const KEPT: usize = 3600;

impl Behind {
    /// How long ago the oldest position that is not reached was seen first: what is not delivered is at least as old.
    pub fn waiting_ms(&self) -> u64 {
        self.seen.front().map_or(0, |(_, at)| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// `end`: of the source's WAL; `delivered`: what the far end has. Milliseconds; None while unknown.
    pub fn look(&mut self, end: Lsn, delivered: Lsn) -> Option<u64> {
        let now = Instant::now();
        self.saw(end, delivered, now);
        let caught_up = self.last.replace(end).is_some_and(|before| delivered >= before);
        if caught_up && end.bytes_since(delivered) < NOTHING_LEFT { Some(0) } else { self.lag_ms(None, now) }
    }

    fn saw(&mut self, source: Lsn, applied: Lsn, now: Instant) {
        if self.seen.len() < KEPT {
            self.seen.push_back((source, now));
        }
        while let Some(&(position, at)) = self.seen.front()
            && position <= applied
        {
            self.reached = Some(at);
            self.seen.pop_front();
        }
    }

    /// `age`: of the transaction that was applied last.
    fn lag_ms(&self, age: Option<u64>, now: Instant) -> Option<u64> {
        let bound = self.reached.map(|at| u64::try_from((now - at).as_millis()).unwrap_or(u64::MAX));
        age.into_iter().chain(bound).min()
    }
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
        let (source, retained, slot_active) = result?;
        let end = applied.progress.end_lsn;
        let caught_up = self.previous.replace(source).is_some_and(|before| end >= before);
        let lag_bytes = source.bytes_since(end);
        self.behind.saw(source, end, Instant::now());
        let lag_ms = if caught_up && lag_bytes < NOTHING_LEFT {
            Some(0)
        } else {
            self.behind.lag_ms(applied.committed_at.map(age_ms), Instant::now())
        };
        Ok(Look { source, retained, lag_bytes, lag_ms, slot_active, caught_up })
    }

    /// The session that looks; opened where there is none.
    pub async fn session(&mut self, context: &Context) -> Result<&mut Session> {
        match &mut self.session {
            Some(session) => Ok(session),
            none => Ok(none.insert(context.source_session().await?)),
        }
    }

    async fn query(&mut self, context: &Context, slot: &str) -> Result<(Lsn, u64, bool)> {
        let row = self
            .session(context)
            .await?
            .query_one(
                "SELECT pg_catalog.pg_current_wal_lsn()::text, coalesce((SELECT pg_catalog.pg_wal_lsn_diff(
                     pg_catalog.pg_current_wal_lsn(), restart_lsn)::int8 FROM pg_catalog.pg_replication_slots
                     WHERE slot_name = $1), 0), coalesce((SELECT active FROM pg_catalog.pg_replication_slots
                     WHERE slot_name = $1), false)",
                &[&slot],
            )
            .await?;
        let text: String = row.get(0);
        let retained: i64 = row.get(1);
        let source = text.parse().map_err(|error| pg::Error::failed("PROTOCOL", format!("{error}")))?;
        Ok((source, u64::try_from(retained).unwrap_or(0), row.get(2)))
    }
}

/// What `status` shows.
pub fn live(look: Option<&Look>, waiting: Vec<String>, mut warnings: Vec<String>, kafka: Found) -> Live {
    warnings.extend(kafka.warnings);
    Live {
        source_lsn: look.map(|look| look.source.to_string()),
        lag_bytes: look.map(|look| look.lag_bytes),
        lag_ms: look.and_then(|look| look.lag_ms),
        retained_wal_bytes: look.map(|look| look.retained),
        waiting,
        warnings,
        topics: kafka.topics,
        outbox: None,
        host: hostname(),
        pid: std::process::id(),
        at_ms: unix_ms(),
    }
}

/// For people who look for the process.
pub fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| String::new(), |name| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn lag_is_unknown_until_something_was_reached() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let lsn = Lsn::new;
        let mut behind = Behind::default();
        behind.saw(lsn(1000), lsn(10), at(0));
        assert_eq!(behind.lag_ms(None, at(0)), None, "nothing applied yet");
        assert_eq!(behind.lag_ms(Some(90_000), at(0)), Some(90_000), "the age of what was applied last");
        behind.saw(lsn(2000), lsn(1500), at(5));
        assert_eq!(
            behind.lag_ms(Some(90_000), at(6)),
            Some(6_000),
            "what is left is younger than the look that was reached"
        );
        assert_eq!(behind.lag_ms(None, at(6)), Some(6_000));
        behind.saw(lsn(2500), lsn(1600), at(7));
        assert_eq!(behind.lag_ms(Some(2_500), at(7)), Some(2_500));
        behind.saw(lsn(2500), lsn(2500), at(8));
        assert_eq!(behind.lag_ms(None, at(8)), Some(0));
    }

    #[test]
    fn looks_are_bounded() {
        let mut behind = Behind::default();
        for position in 0..2 * KEPT as u64 {
            behind.saw(Lsn::new(100 + position), Lsn::new(1), Instant::now());
        }
        assert_eq!(behind.seen.len(), KEPT);
    }
}
