//! What the slot retains, looked at for as long as the process lives, not only while it streams. It is while rows are copied, or while target or
//! brokers are away, and nothing streams, that a slot fills the source's disk.

use std::time::Duration;

use pg::{Class, Error, Params, Purpose, Result, Session};
use pipeline::Reporter;
use tokio::sync::watch;

use super::{Limit, SLOT_DROPPED};
use crate::config::LimitSettings;
use crate::run::context::on_source;

/// How often it is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// A source that needs longer for an answer is as good as away.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the watch and the work beside it tell each other. Clones share it.
#[derive(Clone, Default)]
pub struct Retained {
    slot: watch::Sender<Option<String>>,
    warning: watch::Sender<Option<String>>,
}

impl Retained {
    /// From now on this slot is watched; none: nothing comes from a slot any more.
    pub fn of(&self, slot: Option<&str>) {
        self.slot.send_if_modified(|known| {
            let other = known.as_deref() != slot;
            if other {
                *known = slot.map(str::to_owned);
            }
            other
        });
    }

    /// What is to be said while the slot retains more than allowed.
    pub fn warning(&self) -> Option<String> {
        self.warning.borrow().clone()
    }

    /// Told at each look, changed or not.
    pub(super) fn looks(&self) -> watch::Receiver<Option<String>> {
        self.warning.subscribe()
    }
}

/// Looks at a slot, through a connection of its own that is opened again when it was lost.
pub struct Watch<'a> {
    pub limits: &'a LimitSettings,
    pub source: &'a Params,
    /// The run, which names the connection.
    pub run: &'a str,
    pub reporter: &'a Reporter,
    /// What starts over without the slot.
    pub again: String,
}

impl Watch<'_> {
    /// Looks at the slot that was told last. Ends when there is a reason to end the run: the slot was dropped.
    pub async fn run(&self, retained: &Retained) -> Error {
        if self.limits.max_retained_wal.is_none() {
            return std::future::pending().await;
        }
        let mut slot = retained.slot.subscribe();
        loop {
            let known = slot.borrow_and_update().clone();
            let looking = async {
                match &known {
                    Some(slot) => self.look_at(slot, &retained.warning).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                dropped = looking => return dropped,
                _ = slot.changed() => { retained.warning.send_replace(None); }
            }
        }
    }

    async fn look_at(&self, slot: &str, warning: &watch::Sender<Option<String>>) -> Error {
        let mut limit = Limit::new(self.limits, self.source, slot, self.again.clone());
        let (mut session, mut said) = (None, None);
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match tokio::time::timeout(PATIENCE, self.look(&mut session, &mut limit)).await {
                Ok(Ok(found)) => {
                    said = None;
                    warning.send_replace(found);
                }
                Ok(Err(error)) if error.code() == SLOT_DROPPED => return error,
                Ok(Err(error)) => {
                    tracing::debug!("could not look at the slot: {error}");
                    // A source that is away is told of by whatever else needs it.
                    if error.class() != Class::Connection && said.as_deref() != Some(error.code()) {
                        self.reporter.blocked(&error);
                        said = Some(error.code().to_owned());
                    }
                    session = None;
                }
                Err(_) => session = None,
            }
        }
    }

    async fn look(&self, session: &mut Option<Session>, limit: &mut Limit<'_>) -> Result<Option<String>> {
        let session = match session {
            Some(session) => session,
            none => {
                let name = format!("{} (control)", self.run);
                none.insert(Session::connect(self.source, Purpose::Query, &name).await.map_err(on_source)?)
            }
        };
        limit.look(session, self.reporter).await
    }
}
