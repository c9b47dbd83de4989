//! One run of `migrate` or `replicate`: the fixed sequence, from the two databases alone.
//!
//! ```text
//! preflight ─► slot ─► schema ─► copy ─► indexes ─► catchup ─► live ─► cutover ─► done
//! prepare.rs   slot.rs schema.rs load.rs load.rs    live/      live/  cutover.rs
//! ```
//!
//! Each step's completion is a row in the target. Whatever goes wrong, there is one way to go on: read where the run stands, and do
//! what is missing. The same code path serves a lost connection, a restart of either server and a new process on another host.

mod announce;
mod attach;
pub mod context;
mod cutover;
pub mod forward;
pub mod hold;
mod index;
mod lag;
pub mod limit;
mod live;
mod load;
pub mod modes;
pub mod monitor;
mod once;
mod owner;
pub mod prepare;
pub mod publication;
mod refresh;
mod resync;
pub mod retry;
mod schema;
pub mod shard;
mod slot;
pub mod topics;
mod watch;

pub use context::{Context, Half};
pub use live::apply_options;
pub use monitor::live as live_of;
pub use once::copy;
pub use owner::{Former, Owner};
pub use publication::selection;

use std::sync::atomic::Ordering;

use pg::{Error, Result};
use writer::control::{CutoverState, Run, StatusError, Step};

use retry::Backoff;

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// Cut over: the target is the primary now.
    CutOver,
    /// The token was cancelled; the same command resumes.
    Interrupted,
}

/// Runs until cut over, interrupted, or refused. Errors that pass, or that somebody has to cure, are tried again meanwhile and stand in
/// `status`.
///
/// # Errors
/// Of class `Refuse`, `Usage` or `Failed`: trying again would not help.
pub async fn run(context: &Context) -> Result<Outcome> {
    let mut owner: Option<Owner> = None;
    let mut former = None;
    let mut backoff = Backoff::new(context.settings.retry.connection_max, context.settings.retry.blocked_max);
    let mut started = false;
    loop {
        let result = Box::pin(attempt(context, &mut owner, &mut former, &mut started, &mut backoff)).await;
        let error = match result {
            _ if context.cancel.is_cancelled() => return Ok(Outcome::Interrupted),
            Ok(outcome) => return Ok(outcome),
            Err(error) => error,
        };
        if let Some(owner) = &owner {
            owner.note_error(Some(&StatusError::from(&error))).await;
        }
        if !backoff.wait(error, started, &context.health, &context.reporter, &context.cancel).await? {
            return Ok(Outcome::Interrupted);
        }
    }
}

async fn attempt(
    context: &Context,
    slot: &mut Option<Owner>,
    former: &mut Option<Former>,
    started: &mut bool,
    backoff: &mut Backoff,
) -> Result<Outcome> {
    if slot.as_ref().is_none_or(|owner| owner.is_closed()) {
        *former = slot.take().map(|owner| owner.former()).or(*former);
        *slot = Some(Owner::take(context, *former).await?);
    }
    let Some(owner) = slot.as_mut() else { return Err(Error::failed("RUN_LOST", "the run has no owner")) };
    let mut snapshot = None;
    let mut checked = false;
    let mut announcing = None;
    loop {
        let run = match Run::read(owner.session(), &context.name).await? {
            Some(mut run) => {
                if !checked {
                    prepare::check(context, owner, &mut run).await?;
                }
                run
            }
            None => prepare::create(context, owner).await?,
        };
        *started = true;
        checked = true;
        if !context.resync_marked.load(Ordering::Relaxed) {
            resync::mark(context, owner, &run).await?;
            context.resync_marked.store(true, Ordering::Relaxed);
        }
        if context.half == Half::Writer && run.step > Step::Slot && announcing.is_none() {
            announcing = Some(announce::Announcing::begin(context, owner, &run).await?);
        }
        if run.cutover.is_some() {
            return cutover::resume(context, owner, &run).await;
        }
        context.health.step(run.step.as_str());
        match run.step {
            Step::Preflight | Step::Slot => slot::make(context, owner, &run, &mut snapshot).await?,
            Step::Schema => schema::restore(context, owner, &run, &mut snapshot).await?,
            Step::Copy => load::copy(context, owner, &run, &mut snapshot).await?,
            Step::Indexes => load::indexes(context, owner).await?,
            Step::Catchup | Step::Live | Step::Cutover => {
                snapshot = None;
                match Box::pin(live::stream(context, owner, &run, backoff)).await? {
                    live::End::CutOver => return Ok(Outcome::CutOver),
                    live::End::Cancelled => return Ok(Outcome::Interrupted),
                    live::End::Refresh => {}
                }
            }
            Step::Done => return Ok(Outcome::CutOver),
        }
        if context.cancel.is_cancelled() {
            return Ok(Outcome::Interrupted);
        }
        if run.cutover == Some(CutoverState::Open) {
            return Ok(Outcome::CutOver);
        }
    }
}
