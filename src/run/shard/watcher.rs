//! When the leader has to hand the tables out anew.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use pg::Result;
use tokio_postgres::Client;
use writer::control::{Request, RequestKind, Shard};

use crate::run::context::Context;

const LOOK: Duration = Duration::from_millis(500);

/// Knows how the last hand-over was made.
pub struct Watcher {
    /// The leader has everything.
    pub solo: bool,
    pub members: BTreeSet<String>,
    looked: Instant,
    /// Seen at the look before: who starts or ends does so in more than one step.
    before: Option<BTreeSet<String>>,
}

impl Watcher {
    pub fn new(solo: bool, members: BTreeSet<String>) -> Watcher {
        Watcher { solo, members, looked: Instant::now(), before: None }
    }

    /// Is somebody new, or gone, or is one writer asked for, or no longer?
    pub async fn changed(&mut self, context: &Context, client: &Client, run: &str) -> Result<bool> {
        if !context.share {
            return Ok(false);
        }
        let asked = one_writer(client, run).await?;
        if asked {
            return Ok(!self.solo && !self.members.is_empty());
        }
        if self.looked.elapsed() < LOOK {
            return Ok(false);
        }
        self.looked = Instant::now();
        let now = living(client, run).await?;
        let of_old = if self.solo { BTreeSet::new() } else { self.members.clone() };
        let settled = self.before.replace(now.clone()).is_some_and(|before| before == now);
        Ok(settled && now != of_old)
    }
}

/// Who takes part.
pub async fn living(client: &Client, run: &str) -> Result<BTreeSet<String>> {
    let mut living = BTreeSet::new();
    for shard in Shard::all(client, run).await? {
        if Shard::lives(client, run, &shard.id).await? {
            living.insert(shard.id);
        }
    }
    Ok(living)
}

/// Does somebody wait for a comparison or a cutover?
pub async fn one_writer(client: &Client, run: &str) -> Result<bool> {
    Ok(Request::open(client, run).await?.iter().any(|request| {
        !request.expired && matches!(request.kind, RequestKind::Verify | RequestKind::Cutover)
    }))
}

/// What processes that help are stopped by, for `status`.
pub async fn stopped(client: &Client, run: &str) -> Result<Vec<String>> {
    let stopped = Shard::all(client, run).await?.into_iter().filter_map(|shard| {
        let error = shard.error?;
        Some(format!("process {} is stopped: {} [{}]", shard.id, error.message, error.code))
    });
    Ok(stopped.collect())
}
