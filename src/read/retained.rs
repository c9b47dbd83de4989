//! What the slot retains, against `limits.max_retained_wal`: looked at for as long as the reader lives, not only while it streams. It is while
//! brokers are away, and nothing streams, that a slot fills the source's disk.

use std::time::Duration;

use pg::{Class, Error, Result, Session};
use tokio::sync::watch;

use super::Reading;
use crate::run::limit::Limit;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A source that needs longer for an answer is as good as away.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at the slot that was told last. Ends when there is a reason to end the run: the slot was dropped.
pub async fn watch(reading: &Reading, mut slot: watch::Receiver<Option<String>>) -> Error {
    if reading.settings.limits.max_retained_wal.is_none() {
        return std::future::pending().await;
    }
    loop {
        let known = slot.borrow_and_update().clone();
        let Some(name) = known else {
            if slot.changed().await.is_err() {
                return std::future::pending().await;
            }
            continue;
        };
        tokio::select! {
            error = of(reading, &name) => return error,
            Ok(()) = slot.changed() => {}
        }
    }
}

async fn of(reading: &Reading, slot: &str) -> Error {
    let again = format!("start over: walferry clean --name {}, then walferry write again", reading.name);
    let mut limit = Limit::new(&reading.settings.limits, &reading.source, slot, again);
    let mut session = None;
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match tokio::time::timeout(PATIENCE, look(reading, &mut session, &mut limit)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) if error.class() == Class::Refuse => return error,
            Ok(Err(error)) => {
                tracing::debug!("could not look at the slot: {error}");
                session = None;
            }
            Err(_) => session = None,
        }
    }
}

async fn look(reading: &Reading, session: &mut Option<Session>, limit: &mut Limit<'_>) -> Result<()> {
    let session = match session {
        Some(session) => session,
        None => session.insert(reading.session().await?),
    };
    limit.look(session, &reading.reporter).await
}
