//! Somebody else has the slot: our own walsender of before that is dying, or another reader that lives.
//!
//! A reader that lives answers its walsender (`reply_time`); one that is gone does not, and its walsender gives up after
//! `wal_sender_timeout`. So a slot whose holder answers again is another process's, and ours is the one too many.

use std::time::{Duration, Instant};

use pg::{Error, Result};

use super::Reading;

/// Longer than any sensible `wal_sender_timeout`.
const PATIENCE: Duration = Duration::from_secs(180);

#[derive(Default)]
pub struct Rival {
    seen: Option<Seen>,
}

struct Seen {
    pid: i32,
    reply: Option<String>,
    since: Instant,
}

impl Rival {
    /// The slot is ours.
    pub fn gone(&mut self) {
        self.seen = None;
    }

    /// What 55006 means: try again, or give way.
    pub async fn judge(&mut self, reading: &Reading, slot: &str, error: Error) -> Error {
        match self.look(reading, slot).await {
            Ok(Some(holder)) => Error::refuse("OWNED_BY", format!("another reader streams slot \"{slot}\""))
                .detail(holder)
                .hint(
                    "stop that process, or this one: one reader serves any number of writers and consumers",
                ),
            _ => error,
        }
    }

    /// Who has it, once that is certain.
    async fn look(&mut self, reading: &Reading, slot: &str) -> Result<Option<String>> {
        let session = reading.session().await?;
        // The column is there from 12 on.
        let row = session
            .query_opt(
                "SELECT r.pid, to_jsonb(r)->>'reply_time', coalesce(pg_catalog.host(r.client_addr), 'local'), r.backend_start::text
                 FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_stat_replication r ON r.pid = s.active_pid
                 WHERE s.slot_name = $1",
                &[&slot],
            )
            .await?;
        let Some(row) = row else {
            self.seen = None;
            return Ok(None);
        };
        let (pid, reply): (i32, Option<String>) = (row.get(0), row.get(1));
        let holder = format!(
            "backend {pid} on the source, connected from {} since {}",
            row.get::<_, String>(2),
            row.get::<_, String>(3)
        );
        match &self.seen {
            Some(seen) if seen.pid == pid => {
                let answers = seen.reply.is_some() && reply.is_some() && reply != seen.reply;
                Ok((answers || seen.since.elapsed() > PATIENCE).then_some(holder))
            }
            _ => {
                self.seen = Some(Seen { pid, reply, since: Instant::now() });
                Ok(None)
            }
        }
    }
}
